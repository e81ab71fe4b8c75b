# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves of guests that write all the time, killed in each phase of their precopy and cutover; and nodes that lose their power in each."""

from __future__ import annotations

import concurrent.futures
import time
from typing import TYPE_CHECKING

import pytest
from integration import laws
from integration.kills import AT_ONCE, Killed, Point, chosen_points, sampled, strike_all, take_up
from integration.test_kill import BIG, off, set_aside
from integration.test_precopy import STEP, check_no_mirror, check_writes, mirroring, writing

from lab import MIB
from lab.shell import wait_for

if TYPE_CHECKING:
    from integration.conftest import World

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow]

HOLD, COMMIT = "hold the source copy", "Verify the copy and give it its name"
START = "Define_dest | Define the server on the dest"


def half(world: World, guest: GuestState) -> bool:
    """A good part of the content has crossed."""
    return any(path.stat().st_blocks * 512 > 20 * MIB for path in world.lab.images("node2").glob(f"{guest.name}-vda.qcow2.coldmove-*"))


def committed(world: World, guest: GuestState) -> bool:
    """The disk has its name on the dest."""
    return bool(list(world.lab.images("node2").glob(f"{guest.name}-vda.qcow2")))


def on_dest(world: World, guest: GuestState) -> bool:
    """A QEMU of the guest is seen on the dest."""
    return "node2" in world.lab.running_on(guest)


POINTS = sampled(
    [
        Point("pc-half", STEP, half, "again", disk=BIG),
        Point("pc-half-back", STEP, half, "recover", "back", disk=BIG),
        Point("pc-orphans", STEP, half, "recover", "back", disk=BIG, workers=False),
        Point("pc-step", STEP, "end", "again"),
        Point("pc-step-back", STEP, "end", "recover", "back"),
        Point("pc-recorded", "Record that the copy begins", "end", "again"),
        Point("pc-held", HOLD, "end", "again"),
        Point("pc-off", HOLD, off, "again"),
        Point("pc-off-back", HOLD, off, "recover", "back"),
        Point("pc-aside", HOLD, set_aside, "again"),
        Point("pc-aside-back", HOLD, set_aside, "recover", "back"),
        Point("pc-committing", COMMIT, committed, "again"),
        Point("pc-committed", COMMIT, "end", "recover", "back"),
        Point("pc-complete", "Record that the copy is complete", "end", "again"),
        Point("pc-starting", START, on_dest, "recover"),
        Point("pc-starting-more", START, on_dest, "again"),
        Point("pc-started", START, "end", "recover"),
    ]
)


#: So many guests write at a time: with all of them there would be little left for anything else.
GUESTS = 4


@pytest.fixture(scope="module")
def moves(prepared: World, request: pytest.FixtureRequest) -> dict[str, Killed[Point]]:
    """Every point (of those whose tests were chosen): killed there while its guest writes, taken up, looked at. Then the guest makes room for others."""
    points, found = chosen_points(request, POINTS), {}
    for index in range(0, len(points), GUESTS):
        for one in some(prepared, points[index : index + GUESTS]):
            found[one.point.name] = one
            prepared.remove(one.guest)
    return found


def some(world: World, points: list[Point]) -> list[Killed[Point]]:
    """As many guests as write at a time."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        guests = list(pool.map(lambda point: world.guest(point.name, point.disk), points))
    jobs = []
    for point, guest in zip(points, guests, strict=True):
        world.lab.guest_command(guest, "load start 0.1")
        jobs.append(("cold_migrate", point, guest, {"target_host": "node2", "precopy": "always", "bandwidth_limit": "12M" if point.disk is BIG else ""}))
    killed = strike_all(world, jobs)
    take_up(world, "cold_migrate", [one for one in killed if one.point.then == "again"], target_host="node2")
    take_up(world, "recover", [one for one in killed if one.point.then == "recover"])
    for one in killed:
        try:
            if not one.problem:
                check(world, one)
        except AssertionError as exc:  # is told by the test of this point
            one.problem = str(exc)
    return killed


def check(world: World, one: Killed[Point]) -> None:
    """The guest is where it must be, with every write that it was told to be on its disk."""
    told = world.lab.acked("node1", one.guest)
    if one.point.outcome == "moved":
        laws.check_moved(world.lab, one.guest, one.markers)
    else:
        laws.check_back(world.lab, one.guest, "node1", one.markers)
        check_no_mirror(world, one.guest)
    check_writes(world, one.guest, told)


@pytest.mark.parametrize("name", [point.name for point in POINTS])
def test_killed_move(moves: dict[str, Killed[Point]], name: str) -> None:
    """Killed there and taken up: nothing is lost."""
    moves[name].check()


def test_nothing_is_at_work_any_more(world: World, moves: dict[str, Killed[Point]]) -> None:
    """No process, no export, no offer is left on any node."""
    assert moves
    laws.check_quiet(world.lab, "node1", "node2", "node3")


@pytest.mark.nightly
@pytest.mark.parametrize("phase", ["precopy", "stop", "commit"])
def test_dest_loses_its_power(world: World, phase: str) -> None:
    """The guest runs on its source, or is back there by itself, with every write; what the dest has is deleted once it is back."""
    with writing(world, f"dest-dies-{phase}", 40) as guest:
        begun = time.monotonic()
        run = mirroring(world, guest, limit="2M" if phase == "precopy" else "40M", stall_timeout="10")
        if phase != "precopy":
            run.wait_for("start", {"stop": HOLD, "commit": COMMIT}[phase])
        world.lab.kill("node2")
        try:
            run.finish().refused("node1")
            if phase == "precopy":
                assert world.watch.stops_since(guest, begun) == 0
            assert world.lab.running_on(guest) == ["node1"] or phase != "precopy"
        finally:
            world.lab.start("node2")
        world.play("recover", server=guest.name).check()
        laws.check_back(world.lab, guest, "node1", [guest.name])
        check_writes(world, guest, world.lab.acked("node1", guest))
        check_no_mirror(world, guest)
        laws.check_quiet(world.lab, "node1", "node2")


@pytest.mark.nightly
def test_source_loses_its_power_in_the_precopy(world: World) -> None:
    """The guest is as dead as its node; its disk is where it was, and recover has it run again once the node is back."""
    with writing(world, "source-dies", 40) as guest:
        run = mirroring(world, guest, stall_timeout="10")
        told = world.lab.acked("node1", guest)
        world.lab.kill("node1")
        try:
            run.finish().refused("recover")
        finally:
            world.lab.start("node1")
        world.play("recover", server=guest.name).check()
        laws.check_back(world.lab, guest, "node1", [guest.name])
        found = world.lab.guest_command(guest, "acks").split()
        assert int(found[3]) >= told, (found, told)
        laws.check_quiet(world.lab, "node1", "node2")


@pytest.mark.nightly
def test_source_loses_its_power_after_the_hold(world: World) -> None:
    """The dest has everything by then: the move goes on, or is taken up when the source is back; never do two copies run."""
    with writing(world, "source-late", 40) as guest:
        run = mirroring(world, guest, limit="40M", stall_timeout="10")
        run.wait_for("end", HOLD)
        told = world.lab.acked("node1", guest)
        world.lab.kill("node1")
        try:
            outcome = run.finish()
        finally:
            world.lab.start("node1")
        if outcome.code:
            world.play("cold_migrate", server=guest.name, target_host="node2").check()
        row = laws.check_moved(world.lab, guest, [guest.name])
        check_writes(world, guest, told)
        wait_for("the record", lambda: row["status"] == "finished", 5)
