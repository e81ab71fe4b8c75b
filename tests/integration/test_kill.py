# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is killed (SIGKILL, no rescue, no always) at points spread over the whole of cold_migrate, confirm and revert.

Each point has a guest of its own, and a controller of its own that is killed there. Then one run of the same playbook, or one of
`recover`, takes up all that were killed, many servers at once. Laws 1, 2, 4 and 5 are looked at from outside (laws.py), law 1 all
the time. Cases 22 (in part), 65.
"""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from integration import laws
from integration.kills import AT_ONCE, Killed, Point, chosen_points, sampled, strike_all, take_up

from lab import MIB, DiskSpec
from lab.processes import Process, pids
from lab.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import World

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow]

#: With this disk the copy is made to take some seconds.
BIG = DiskSpec(96 * MIB, content_mib=60)


# --- what is waited for on the nodes


def temporary(world: World, guest: GuestState) -> bool:
    """The dest has made the file."""
    return bool(list(world.lab.images("node2").glob(f"{guest.name}-vda.qcow2.coldmove-*")))


def half_copied(world: World, guest: GuestState) -> bool:
    """A good part of the content has crossed."""
    return any(path.stat().st_blocks * 512 > 20 * MIB for path in world.lab.images("node2").glob(f"{guest.name}-vda.qcow2.coldmove-*"))


def off(world: World, guest: GuestState) -> bool:
    """No QEMU of the guest is left."""
    return not world.lab.running_on(guest)


def set_aside(world: World, guest: GuestState) -> bool:
    """The disk has its held name."""
    return bool(list(world.lab.images("node1").glob(f"{guest.name}-vda.qcow2.coldmove-held-*")))


def verifying(world: World, guest: GuestState) -> bool:
    """The dest's job is at work, or has been."""
    job = f"{laws.MOVES}/{laws.record(world.lab, guest)['uuid']}/verify.json"
    return world.lab.exec("node2", "test", "-e", job, check=False).returncode == 0


def on_dest(world: World, guest: GuestState) -> bool:
    """A QEMU of the guest is seen on the dest."""
    return "node2" in world.lab.running_on(guest)


def deleted(world: World, guest: GuestState) -> bool:
    """The held copy is gone."""
    return not set_aside(world, guest)


# --- the points


MOVE_POINTS = sampled(
    [
        Point("facts", "Look at the server", "end", "recover", "back"),
        Point("opening", "Open the record and claim the capacity", 0.5, "again"),
        Point("accepted", "Open the record and claim the capacity", "end", "recover", "back"),
        Point("named", "Write down every name that will be used", "end", "again"),
        Point("making", "Make the files and offer them", temporary, "recover", "back"),
        Point("offered", "Make the files and offer them", "end", "again"),
        Point("proven", "Prove that the data channel reaches them", "end", "recover", "back"),
        Point("migrating", "Record that the copy begins", "end", "again"),
        Point("shutting", "hold the source copy", 1.5, "recover", "back", shutdown="ignore", variables=(("shutdown_timeout", "4"),)),
        Point("off", "hold the source copy", off, "again"),
        Point("holding", "hold the source copy", set_aside, "recover", "back"),
        Point("held", "hold the source copy", "end", "again"),
        Point("copying", "Cutover | Copy", half_copied, "again", disk=BIG),
        Point("copying-back", "Cutover | Copy", half_copied, "recover", "back", disk=BIG),
        Point("orphans", "Cutover | Copy", half_copied, "recover", "back", disk=BIG, workers=False),
        Point("copied", "Cutover | Copy", "end", "recover", "back"),
        Point("verifying", "Verify the copy and give it its name", verifying, "again", disk=BIG),
        Point("committed", "Verify the copy and give it its name", "end", "recover", "back"),
        Point("complete", "Record that the copy is complete", "end", "again"),
        Point("starting", "Define_dest | Define the server on the dest", on_dest, "recover"),
        Point("starting-more", "Define_dest | Define the server on the dest", on_dest, "again"),
        Point("started", "Define_dest | Define the server on the dest", "end", "recover"),
        Point("written", "Write the outcome into the record", "end", "again"),
    ]
)


# --- moves that are killed


@pytest.fixture(scope="module")
def moves(prepared: World, request: pytest.FixtureRequest) -> Iterator[dict[str, Killed[Point]]]:
    """Every point of MOVE_POINTS (of those whose tests were chosen): killed there, then taken up."""
    world, points = prepared, chosen_points(request, MOVE_POINTS)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        guests = list(pool.map(lambda point: world.guest(point.name, point.disk, shutdown=point.shutdown), points))
    jobs = []
    for point, guest in zip(points, guests, strict=True):
        jobs.append(("cold_migrate", point, guest, {"target_host": "node2", "bandwidth_limit": "12M" if point.disk is BIG else ""}))
    killed = strike_all(world, jobs)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        again = pool.submit(take_up, world, "cold_migrate", [one for one in killed if one.point.then == "again"], target_host="node2")
        take_up(world, "recover", [one for one in killed if one.point.then == "recover"])
        again.result()
    yield {one.point.name: one for one in killed}
    for guest in guests:
        world.remove(guest)


@pytest.mark.parametrize("name", [point.name for point in MOVE_POINTS])
def test_killed_move(world: World, moves: dict[str, Killed[Point]], name: str) -> None:
    """Killed there and taken up: the guest is where it must be with all that it wrote, the record is true, nothing is left."""
    one = moves[name]
    one.check()
    if one.point.outcome == "moved":
        laws.check_moved(world.lab, one.guest, one.markers)
    else:
        laws.check_back(world.lab, one.guest, "node1", one.markers)


def test_nothing_is_at_work_any_more(world: World, moves: dict[str, Killed[Point]]) -> None:
    """No process, no export, no offer is left on any node."""
    assert moves
    laws.check_quiet(world.lab, "node1", "node2", "node3")


def test_second_recover_changes_nothing(world: World, moves: dict[str, Killed[Point]]) -> None:
    """All was recovered: another recover finds nothing to do."""
    before = [laws.records(world.lab, one.guest) for one in moves.values()]
    assert world.play("recover", server=",".join(one.guest.name for one in moves.values())).check().changed() == 0
    assert [laws.records(world.lab, one.guest) for one in moves.values()] == before


# --- confirms and reverts that are killed

CONFIRM_POINTS = sampled(
    [
        Point("confirming", "End | Record that it is under way", "end", "again"),
        Point("deleting", "Delete_held | Delete the held copy, by its exact names", deleted, "recover"),
        Point("deleted", "Delete_held | Delete the held copy, by its exact names", "end", "again"),
    ],
    every=3,
)
REVERT_POINTS = sampled(
    [
        Point("reverting", "End | Record that it is under way", "end", "recover"),
        Point("withdrawn", "Withdraw_dest | Undefine it there", "end", "again"),
        Point("restored", "Restore_source | Bring the held copy back", "end", "recover"),
        Point("back", "Start_source | Start the server on the source", "end", "again"),
    ],
    every=3,
)
LOSE = {"accept_lost_writes": "yes"}


def moved_guests(world: World, moves: dict[str, Killed[Point]], count: int) -> list[GuestState]:
    """So many guests that wait for confirm or revert: those of the tests above, or new ones."""
    found = [one.guest for one in moves.values() if one.point.outcome == "moved" and not one.problem][:count]
    new = [world.guest(f"moved-{number}") for number in range(count - len(found))]
    if new:
        world.play("cold_migrate", server=",".join(guest.name for guest in new), target_host="node2").check()
    return found + new


@pytest.fixture(scope="module")
def ends(prepared: World, moves: dict[str, Killed[Point]], request: pytest.FixtureRequest) -> dict[str, Killed[Point]]:
    """Every point of confirm and revert: killed there, then taken up."""
    world, confirms, reverts = prepared, chosen_points(request, CONFIRM_POINTS), chosen_points(request, REVERT_POINTS)
    guests = iter(moved_guests(world, moves, len(confirms) + len(reverts)))
    jobs: list[tuple[Any, ...]] = [("confirm", point, next(guests), {}) for point in confirms]
    jobs += [("revert", point, next(guests), LOSE) for point in reverts]
    killed = strike_all(world, jobs)
    again = [one for one in killed if one.point.then == "again"]
    take_up(world, "confirm", [one for one in again if one.point in confirms])
    take_up(world, "revert", [one for one in again if one.point in reverts], **LOSE)
    take_up(world, "recover", [one for one in killed if one.point.then == "recover"])
    return {one.point.name: one for one in killed}


@pytest.mark.parametrize("name", [point.name for point in CONFIRM_POINTS])
def test_killed_confirm(world: World, ends: dict[str, Killed[Point]], name: str) -> None:
    """Killed there and taken up: confirmed, whatever way."""
    one = ends[name]
    one.check()
    assert one.status == "confirming"
    laws.check_confirmed(world.lab, one.guest, one.markers)


@pytest.mark.parametrize("name", [point.name for point in REVERT_POINTS])
def test_killed_revert(world: World, ends: dict[str, Killed[Point]], name: str) -> None:
    """Killed there and taken up: reverted, whatever way."""
    one = ends[name]
    one.check()
    assert one.status == "reverting"
    laws.check_back(world.lab, one.guest, "node1", one.markers, status="reverted")


def test_confirm_the_rest(world: World, moves: dict[str, Killed[Point]], ends: dict[str, Killed[Point]]) -> None:
    """Whoever still waits is confirmed in one run; then no node has anything of a move."""
    ended = {one.guest.name for one in ends.values()}
    rest = [one for one in moves.values() if one.guest.name not in ended and not one.problem and one.point.outcome == "moved"]
    if rest:
        world.play("confirm", server=",".join(one.guest.name for one in rest)).check()
    for one in rest:
        laws.check_confirmed(world.lab, one.guest, one.markers)
    for node in ("node1", "node2", "node3"):
        assert laws.names_on(world.lab, node, "coldmove") == []
    laws.check_quiet(world.lab, "node1", "node2", "node3")


# --- a step that comes late


def holders(world: World, lock: str) -> list[Process]:
    """Processes of the lab that have this file open (and wait for it, or hold it)."""
    places, found = world.lab.pid_namespaces(), []
    for pid in pids():
        try:
            files = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
            inside = lock in files and os.readlink(f"/proc/{pid}/ns/pid") in places
        except OSError:
            continue
        process = Process.of(pid) if inside else None
        if process:
            found.append(process)
    return found


def test_late_step_is_refused(world: World) -> None:
    """The order to stop the guest is held up on the node; its run is killed and recovered; then it wakes up, and does nothing."""
    guest = world.guest("late")
    run = world.run("cold_migrate", server="late", target_host="node2")
    run.wait_for("start", "hold the source copy")
    lock = f"{laws.MOVES}/{laws.record(world.lab, guest)['uuid']}/lock"
    with subprocess.Popen([*world.lab.enter("node1"), "flock", lock, "sh", "-c", "echo held; exec sleep 600"], stdout=subprocess.PIPE) as blocker:
        assert blocker.stdout
        blocker.stdout.readline()
        ours = holders(world, lock)
        late = wait_for("the step", lambda: [process for process in holders(world, lock) if process not in ours], 30)
        for process in late:
            os.kill(process.pid, signal.SIGSTOP)
        run.kill()
        for process in ours:
            process.kill()
        blocker.kill()
    begun = time.monotonic()
    world.play("recover", server="late").check()
    before = laws.record(world.lab, guest)
    for process in late:
        os.kill(process.pid, signal.SIGCONT)
    wait_for("end of the late step", lambda: not any(process.alive() for process in late), 30)
    assert world.watch.stops_since(guest, begun) == 0
    laws.check_back(world.lab, guest, "node1", ["late"])
    assert laws.record(world.lab, guest) == before
    world.remove(guest)
