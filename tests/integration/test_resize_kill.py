# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller, or the node, is killed at points spread over resize, and over confirm and revert of a resize on the same node.

As test_kill.py does for cold_migrate. On the same node there is one domain, and overlays instead of a copy: all the time the
disk below them must have its name, and what a merge has half done must never be seen.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest
from integration import laws
from integration.kills import AT_ONCE, Killed, Point, chosen_points, strike, take_up
from integration.sized import FLAVORS, LARGE, LOSE, SMALL, check_alone, check_seen, check_unconfirmed, server

from lab import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import World

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.nightly]

#: What is merged, and how fast while it is to be killed.
WRITTEN_MIB = 40
NODES = ("node1", "node2", "node3")
OFFER, COMMIT = "Make the files and offer them", "Verify the copy and give it its name"
MERGE = "Merge_held | Merge each overlay into the disk that it stands on"


@dataclass(frozen=True)
class Sized(Point):
    """A point of a resize, or of its end."""

    #: The node on which it is, and the one on which it will be.
    node: str = "node1"
    target: str = "node1"
    flavor: str = "m1.large"
    #: Whether the guest runs when the verb begins.
    runs: bool = True
    format: Literal["qcow2", "raw"] = "qcow2"
    #: The server is held and not defined again: nobody can start it.
    unstartable: bool = False


# --- what is waited for on the nodes


def named(world: World, guest: GuestState, what: str, node: str = "node1") -> bool:
    """Whether a file of the guest with such an ending is there."""
    return bool(list(world.lab.images(node).glob(f"{guest.name}-{what}")))


def overlaid(world: World, guest: GuestState) -> bool:
    """The first file is being made."""
    return named(world, guest, "vda.*.coldmove-*")


def swap_aside(world: World, guest: GuestState) -> bool:
    """The swap disk has its held name."""
    return named(world, guest, "vdb.*.coldmove-held-*")


def swap_anew(world: World, guest: GuestState) -> bool:
    """The new swap disk has the name of the old one."""
    return named(world, guest, "vdb.qcow2")


def committed(world: World, guest: GuestState) -> bool:
    """The disk has its name on the other node."""
    return named(world, guest, "vda.qcow2", "node2")


def off(world: World, guest: GuestState) -> bool:
    """No QEMU of the guest is left."""
    return not world.lab.running_on(guest)


def on(world: World, guest: GuestState) -> bool:
    """A QEMU of the guest is seen."""
    return bool(world.lab.running_on(guest))


def merging(world: World, guest: GuestState) -> bool:
    """The node's job is at work on the merge."""
    row = laws.record(world.lab, guest)
    found = world.lab.exec(row["dest_host"], "cat", f"{laws.MOVES}/{row['uuid']}/merge.json", check=False).stdout
    return bool(found) and json.loads(found)["state"] == "running"


# --- the points

AWAY_POINTS = [
    Sized("away-named", "Write down every name that will be used", "end", "again", target="node2"),
    Sized("away-offered", OFFER, "end", "recover", "back", target="node2"),
    Sized("away-held", "hold the source copy", "end", "again", target="node2"),
    Sized("away-committing", COMMIT, committed, "again", target="node2"),
    Sized("away-committed", COMMIT, "end", "recover", "back", target="node2", format="raw"),
    Sized("away-complete", "Record that the copy is complete", "end", "again", target="node2", flavor="m1.noswap"),
    Sized("away-started", "Define_dest | Define the server on the dest", "end", "recover", target="node2"),
]
SAME_POINTS = [
    Sized("accepted", "Open the record and claim the capacity", "end", "recover", "back"),
    Sized("named", "Write down every name that will be used", "end", "again"),
    Sized("making", OFFER, overlaid, "recover", "back"),
    Sized("offered", OFFER, "end", "again"),
    Sized("migrating", "Record that the copy begins", "end", "again"),
    Sized("off", "hold the source copy", off, "again"),
    Sized("holding", "hold the source copy", swap_aside, "again", unstartable=True),
    Sized("holding-back", "hold the source copy", swap_aside, "recover", "back", flavor="m1.noswap", unstartable=True),
    Sized("held", "hold the source copy", "end", "again", format="raw", unstartable=True),
    Sized("swapping", COMMIT, swap_anew, "recover", "back", unstartable=True),
    Sized("committed", COMMIT, "end", "recover", "back", format="raw", unstartable=True),
    Sized("committed-more", COMMIT, "end", "again", unstartable=True),
    Sized("complete", "Record that the copy is complete", "end", "again", flavor="m1.noswap", unstartable=True),
    Sized("starting", "Define_dest | Define the server on the dest", on, "again"),
    Sized("started", "Define_dest | Define the server on the dest", "end", "recover"),
    Sized("written", "Write the outcome into the record", "end", "again"),
    Sized("off-held", "hold the source copy", "end", "again", runs=False, unstartable=True),
    Sized("off-complete", "Record that the copy is complete", "end", "recover", "back", runs=False, unstartable=True),
    Sized("off-defined", "Define_dest | Define the server on the dest", "end", "recover", runs=False),
]
MOVE_POINTS = AWAY_POINTS + SAME_POINTS


def make(world: World, point: Sized) -> GuestState:
    """The guest of a point. One that is off has run before, and written."""
    guest = server(world, point.name, image_format=point.format, node=point.node)
    if not point.runs:
        world.lab.shutdown_guest(point.node, guest)
    return guest


def wanted(flavor: str) -> dict[str, Any]:
    """What resize is told of the flavor."""
    return {"flavor": flavor, "flavors": FLAVORS}


class Below(threading.Thread):
    """Law 2 on the same node: looks all the time whether the disks that overlays stand on have their names."""

    def __init__(self, world: World) -> None:
        super().__init__(daemon=True)
        self._world, self._end = world, threading.Event()
        self._paths: dict[str, str] = {}
        self.breaches: set[str] = set()

    def add(self, guest: GuestState, node: str) -> None:
        """Look at this guest's disk too."""
        self._paths = {**self._paths, guest.name: str(self._world.lab.images(node) / os.path.basename(guest.files[0]))}

    def run(self) -> None:
        """Look until stop()."""
        while not self._end.wait(0.02):
            self.breaches |= {name for name, path in self._paths.items() if not os.path.exists(path)}

    def stop(self) -> None:
        """End."""
        self._end.set()
        self.join(10)


@pytest.fixture(scope="module")
def below(prepared: World) -> Iterator[Below]:
    """The look at the disks below overlays, over all tests of this file."""
    found = Below(prepared)
    found.start()
    yield found
    found.stop()


def strike_resize(world: World, point: Sized, guest: GuestState) -> Killed[Sized]:
    """Kill resize at a point; while the server is held, see that nobody can start it by hand."""
    killed = strike(world, "resize", point, guest, target_host=point.target, **wanted(point.flavor))
    if point.unstartable and not killed.problem:
        for word in (guest.uuid, guest.name):
            if "error" not in world.lab.exec(point.node, "virsh", "-q", "start", word, check=False).stderr:
                killed.problem = f"{guest.name} was started by hand while it was held"
    return killed


@pytest.fixture(scope="module")
def moves(prepared: World, below: Below, request: pytest.FixtureRequest) -> Iterator[dict[str, Killed[Sized]]]:
    """Every point of MOVE_POINTS (of those whose tests were chosen): killed there, then taken up."""
    world, points = prepared, chosen_points(request, MOVE_POINTS)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        guests = list(pool.map(lambda point: make(world, point), points))
    for point, guest in zip(points, guests, strict=True):
        if point.target == point.node:
            below.add(guest, point.node)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        killed = list(pool.map(lambda point, guest: strike_resize(world, point, guest), points, guests))
    groups: dict[tuple[str, str], list[Killed[Sized]]] = {}
    for one in killed:
        if one.point.then == "again":
            groups.setdefault((one.point.target, one.point.flavor), []).append(one)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(take_up, world, "recover", [one for one in killed if one.point.then == "recover"])]
        runs += [pool.submit(take_up, world, "resize", ones, target_host=target, **wanted(flavor)) for (target, flavor), ones in groups.items()]
    for run in runs:
        run.result()
    yield {one.point.name: one for one in killed}
    for guest in guests:
        world.remove(guest)


@pytest.mark.parametrize("name", [point.name for point in MOVE_POINTS])
def test_killed_resize(world: World, moves: dict[str, Killed[Sized]], name: str) -> None:
    """Killed there and taken up: the guest sees the flavor that its record speaks of, with all that it wrote, and nothing is left."""
    one = moves[name]
    one.check()
    point = one.point
    if point.outcome == "back":
        check_is_back(world, one)
    elif point.target != point.node:
        laws.check_moved(world.lab, one.guest, one.markers)
        check_seen(world, one.guest, FLAVORS[point.flavor])
    else:
        check_unconfirmed(world, one.guest, FLAVORS[point.flavor], one.markers, "running" if point.runs else "shut off")


def check_is_back(world: World, one: Killed[Sized]) -> None:
    """The server is as it was before its resize began; one that was off is started to be looked at."""
    row, point = laws.record(world.lab, one.guest), one.point
    assert (row["status"], bool(row["error"])) == ("error", True), row
    start(world, one.guest, point.node, point.runs)
    check_alone(world, one.guest, point.node, SMALL, one.markers, point.format)


def start(world: World, guest: GuestState, node: str, runs: bool) -> None:
    """Start a guest that is off and must be."""
    if not runs:
        assert world.lab.guest_state(node, guest) == "shut off"
        world.lab.start_guest(node, guest)


def test_nothing_is_at_work_any_more(world: World, moves: dict[str, Killed[Sized]]) -> None:
    """No process, no export, no offer is left on any node; another recover finds nothing to do."""
    assert moves
    laws.check_quiet(world.lab, *NODES)
    before = [laws.records(world.lab, one.guest) for one in moves.values()]
    assert world.play("recover", server=",".join(one.guest.name for one in moves.values())).check().changed() == 0
    assert [laws.records(world.lab, one.guest) for one in moves.values()] == before


# --- the end of a resize on the same node

CONFIRM_POINTS = [
    Sized("confirming", "End | Record that it is under way", "end", "again"),
    Sized("merging", MERGE, merging, "recover"),
    Sized("merging-orphaned", MERGE, merging, "again", format="raw"),
    Sized("merged", MERGE, "end", "recover"),
    Sized("off-merging", MERGE, merging, "again", runs=False),
    Sized("off-merged", MERGE, "end", "recover", runs=False, format="raw"),
]
REVERT_POINTS = [
    Sized("reverting", "End | Record that it is under way", "end", "recover"),
    Sized("withdrawn", "Withdraw_dest | Undefine it there", "end", "again", unstartable=True),
    Sized("restored", "Restore_source | Bring the held copy back", "end", "recover"),
    Sized("off-restored", "Restore_source | Bring the held copy back", "end", "again", runs=False),
    Sized("back", "Start_source | Start the server on the source", "end", "recover"),
    Sized("cleaned", "Clean_dest | Delete the files that this migration made there", "end", "again"),
]
#: Then their node loses its power, all at once.
LOST_POINTS = [
    Sized("lost-held", "hold the source copy", "end", "recover", "back", node="node3", target="node3", unstartable=True),
    Sized("lost-complete", "Record that the copy is complete", "end", "recover", "back", node="node3", target="node3"),
    Sized("lost-started", "Define_dest | Define the server on the dest", "end", "recover", node="node3", target="node3"),
    Sized("lost-merging", MERGE, merging, "recover", node="node3", target="node3"),
    Sized("lost-off-merging", MERGE, merging, "recover", node="node3", target="node3", runs=False),
    Sized("lost-restored", "Restore_source | Bring the held copy back", "end", "recover", node="node3", target="node3"),
]
LOST_CONFIRMS, LOST_REVERTS = LOST_POINTS[3:5], LOST_POINTS[5:]
VERBS = {point.name: "confirm" for point in CONFIRM_POINTS + LOST_CONFIRMS} | {point.name: "revert" for point in REVERT_POINTS + LOST_REVERTS}


@contextlib.contextmanager
def slow_commits(world: World) -> Iterator[None]:
    """Whatever qemu-img merges takes long, on every node, until the node is told otherwise (or boots anew)."""
    script = '#!/bin/sh\nif [ "$1" = commit ] && [ -e /run/slow-commit ]; then shift; exec qemu-img.real commit -r 1M "$@"; fi\nexec qemu-img.real "$@"\n'
    for node in ("node1", "node3"):
        world.lab.exec(node, "mv", "/usr/bin/qemu-img", "/usr/bin/qemu-img.real")
        world.lab.exec(node, "sh", "-c", "cat >/usr/bin/qemu-img; chmod 755 /usr/bin/qemu-img; touch /run/slow-commit", stdin=script)
    try:
        yield
    finally:
        for node in ("node1", "node3"):
            world.lab.exec(node, "mv", "/usr/bin/qemu-img.real", "/usr/bin/qemu-img")


def make_ready(world: World, point: Sized, guest: GuestState) -> list[str]:
    """Bring a server that waits for its end to where the point wants it; returns what it has written."""
    markers = [guest.name]
    if VERBS[point.name] == "confirm":
        world.lab.guest_command(guest, f"write {WRITTEN_MIB} zero", 180)
        world.lab.write_marker(guest, "kept")
        markers.append("kept")
    if not point.runs:
        world.lab.shutdown_guest(point.node, guest)
    elif point.when is merging:
        # The merge of a running guest is as quick as its disk. Begun by hand it can be made slow; ours goes on with what it finds.
        world.lab.virsh(point.node, "blockcommit", guest.uuid, "vda", "--active", "--shallow", "--bandwidth", "1")
    return markers


def strike_end(world: World, point: Sized, guest: GuestState) -> Killed[Sized]:
    """Kill confirm or revert at a point."""
    try:
        markers = make_ready(world, point, guest)
    except LabError as exc:
        return Killed(point, guest, problem=str(exc))
    verb = VERBS[point.name]
    killed = strike(world, verb, point, guest, markers, **(LOSE if verb == "revert" else {}))
    if point.name == "merging-orphaned" and not killed.problem:
        end_job(world, guest)
    return killed


def end_job(world: World, guest: GuestState) -> None:
    """SIGKILL to the node's own process of the merge."""
    row = laws.record(world.lab, guest)
    script = "import json, os, sys; os.killpg(json.load(open(sys.argv[1]))['pid'], 9)"
    world.lab.exec(row["dest_host"], "python3", "-c", script, f"{laws.MOVES}/{row['uuid']}/merge.json")


def let_go(world: World, killed: list[Killed[Sized]]) -> None:
    """What was made slow goes on at full speed."""
    world.lab.exec("node1", "rm", "-f", "/run/slow-commit")
    for one in killed:
        if one.point.when is merging and world.lab.running_on(one.guest):
            world.lab.virsh("node1", "blockjob", one.guest.uuid, "vda", "--bandwidth", "0", check=False)


def waiting(world: World, moves: dict[str, Killed[Sized]], below: Below, points: list[Sized]) -> list[GuestState]:
    """A server for each point; those of an end have been resized on their own node: guests of the tests above, or new ones."""
    found = {(one.point.format, one.guest.name): one.guest for one in moves.values() if is_waiting(one)}
    chosen: dict[str, GuestState] = {}
    for point in points:
        key = next((key for key in found if key[0] == point.format), None) if point.name in VERBS and point.node == "node1" else None
        if key:
            chosen[point.name] = found.pop(key)
    new = [point for point in points if point.name not in chosen]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        made = list(pool.map(lambda point: server(world, point.name, image_format=point.format, node=point.node), new))
        chosen.update({point.name: guest for point, guest in zip(new, made, strict=True)})
        for point, guest in zip(new, made, strict=True):
            below.add(guest, point.node)
        runs = []
        for node in ("node1", "node3"):
            names = [chosen[point.name].name for point in new if point.name in VERBS and point.node == node]
            if names:
                runs.append(pool.submit(world.play, "resize", server=",".join(names), target_host=node, **wanted("m1.large")))
    for run in runs:
        run.result().check()
    return [chosen[point.name] for point in points]


def is_waiting(one: Killed[Sized]) -> bool:
    """A server that has come through the tests above and can be confirmed or reverted on its own node."""
    point = one.point
    return (point.outcome, point.target, point.runs, point.flavor, one.problem) == ("moved", point.node, True, "m1.large", "")


@pytest.fixture(scope="module")
def ends(prepared: World, moves: dict[str, Killed[Sized]], below: Below, request: pytest.FixtureRequest) -> Iterator[dict[str, Killed[Sized]]]:
    """Every point of confirm and revert, and those at which node3 loses its power: killed there, then taken up."""
    world, points = prepared, chosen_points(request, [*LOST_POINTS, *CONFIRM_POINTS, *REVERT_POINTS])
    guests = waiting(world, moves, below, points)

    def hit(point: Sized, guest: GuestState) -> Killed[Sized]:
        return strike_end(world, point, guest) if point.name in VERBS else strike_resize(world, point, guest)

    with slow_commits(world):
        # What is slow comes last, so that it is still under way when its node goes.
        order = sorted(range(len(points)), key=lambda number: (points[number].when is merging, points[number].node == "node3"))
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            killed = list(pool.map(lambda number: hit(points[number], guests[number]), order))
        lost = [one for one in killed if one.point in LOST_POINTS]
        if lost:
            lose_power(world, lost)
        let_go(world, killed)
    again = [one for one in killed if one.point.then == "again"]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(take_up, world, "recover", [one for one in killed if one.point.then == "recover"])]
        runs.append(pool.submit(take_up, world, "confirm", [one for one in again if VERBS[one.point.name] == "confirm"]))
        runs.append(pool.submit(take_up, world, "revert", [one for one in again if VERBS[one.point.name] == "revert"], **LOSE))
    for run in runs:
        run.result()
    yield {one.point.name: one for one in killed}
    for guest in guests:
        world.remove(guest)


def lose_power(world: World, lost: list[Killed[Sized]]) -> None:
    """Node3 goes and comes back, with all that was under way there; then a good copy of each server must be there."""
    for one in lost:
        if one.point.when is merging and not one.problem and not merging(world, one.guest):
            one.problem = "the merge was over before the node lost its power"
    world.lab.kill("node3")
    world.lab.start("node3")
    for one in lost:
        try:
            laws.check_good_copy(world.lab, one.guest, one.markers)
        except AssertionError as exc:
            one.problem = one.problem or str(exc)


@pytest.mark.parametrize("name", [point.name for point in CONFIRM_POINTS + LOST_CONFIRMS])
def test_killed_confirm(world: World, ends: dict[str, Killed[Sized]], name: str) -> None:
    """Killed there and taken up: one disk under its own name, with the new size and all that was written, and nothing else is left."""
    one = ends[name]
    one.check()
    assert one.status == "confirming"
    assert laws.record(world.lab, one.guest)["status"] == "confirmed"
    point = one.point
    start(world, one.guest, point.node, point.runs and point not in LOST_POINTS)
    check_alone(world, one.guest, point.node, LARGE, one.markers, point.format)


@pytest.mark.parametrize("name", [point.name for point in REVERT_POINTS + LOST_REVERTS])
def test_killed_revert(world: World, ends: dict[str, Killed[Sized]], name: str) -> None:
    """Killed there and taken up: the server is as it was before the resize, and runs."""
    one = ends[name]
    one.check()
    assert one.status == "reverting"
    assert laws.record(world.lab, one.guest)["status"] == "reverted"
    point = one.point
    check_alone(world, one.guest, point.node, SMALL, one.markers, point.format)


@pytest.mark.parametrize("name", [point.name for point in LOST_POINTS[:3]])
def test_power_loss_in_cutover(world: World, ends: dict[str, Killed[Sized]], name: str) -> None:
    """The node of a resize on the same node loses its power while the guest is off, or as soon as it runs again."""
    one = ends[name]
    one.check()
    if one.point.outcome == "back":
        check_is_back(world, one)
    else:
        check_unconfirmed(world, one.guest, LARGE, one.markers)


def test_confirm_the_rest(world: World, moves: dict[str, Killed[Sized]], ends: dict[str, Killed[Sized]], below: Below) -> None:
    """Whoever still waits is confirmed in one run; then no node has anything of a move, and no disk was ever without its name."""
    ended = {one.guest.name for one in ends.values() if one.point.name in VERBS}
    rest = [one for one in [*moves.values(), *ends.values()] if one.guest.name not in ended and not one.problem and one.point.outcome == "moved"]
    if rest:
        world.play("confirm", server=",".join(one.guest.name for one in rest)).check()
    for one in rest:
        point = one.point
        assert laws.record(world.lab, one.guest)["status"] == "confirmed"
        start(world, one.guest, point.target, point.runs)
        check_alone(world, one.guest, point.target, FLAVORS[point.flavor], one.markers, point.format)
    for node in NODES:
        assert laws.names_on(world.lab, node, "coldmove") == []
    laws.check_quiet(world.lab, *NODES)
    assert below.breaches == set()
