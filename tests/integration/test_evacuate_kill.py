# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is killed at points spread over evacuate. What it left is taken up; then the lost node comes back, and starts nothing."""

from __future__ import annotations

import concurrent.futures
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from integration import laws
from integration.kills import AT_ONCE, Killed, Point, chosen_points, strike, strike_all, take_up

from lab import DiskSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import World

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.nightly]

LOST, LIVING = "node1", ("node2", "node3")
IMAGE = f"{laws.IMAGES}/golden.qcow2"
DEFINE, START = "Define_dest | Define the server on the dest", "Start_dest | Start the server on the dest"


@dataclass(frozen=True)
class Evacuated(Point):
    """A point of an evacuation. A disk that does not survive is made anew from an image; the others are on storage that all nodes share."""

    #: Whether the guest runs when its node is lost.
    runs: bool = True


def on(world: World, guest: GuestState) -> bool:
    """A QEMU of the guest is seen."""
    return bool(world.lab.running_on(guest))


#: While the node has power, and is silent because its network is cut.
FENCING = Evacuated("power", "Switch the node off, or read its power if somebody says that it is off", "start", "again")
POINTS = [
    Evacuated("accepted", "Open the record and claim the capacity", "end", "again"),
    Evacuated("accepted-back", "Open the record and claim the capacity", "end", "recover", "back"),
    Evacuated("named", "Write down every name that will be used", "end", "recover", "back"),
    Evacuated("made", "Make the files that did not survive", "end", "again", survives=False),
    Evacuated("filling", "Fill them and give them their names", "start", "recover", "back", survives=False),
    Evacuated("filled", "Fill them and give them their names", "end", "recover", "back", survives=False),
    Evacuated("defined", DEFINE, "end", "again"),
    Evacuated("defined-back", DEFINE, "end", "recover", "back"),
    Evacuated("starting", START, on, "again"),
    Evacuated("started", START, "end", "recover"),
    Evacuated("written", "Close | Write the outcome into the record", "end", "again"),
    Evacuated("off", DEFINE, "end", "recover", runs=False),
]


@pytest.fixture(scope="module")
def evacuations(prepared: World, request: pytest.FixtureRequest) -> Iterator[dict[str, Killed[Evacuated]]]:
    """Every point (of those whose tests were chosen): killed there, then taken up. The lost node stays off."""
    world, points = prepared, chosen_points(request, [FENCING, *POINTS])
    lab, store = world.lab, world.lab.share("kills", [LOST, *LIVING])

    def guest_of(point: Evacuated) -> GuestState:
        made = world.guest(point.name, DiskSpec(directory=store) if point.survives else DiskSpec(), node=LOST, autostart=True)
        if not point.runs:
            lab.shutdown_guest(LOST, made)
        return made

    for node in LIVING:
        lab.exec(node, "qemu-img", "create", "-q", "-f", "qcow2", IMAGE, "32M")
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        guests = list(pool.map(guest_of, points))
    world.play("sync").check()
    lab.cut(LOST)
    lost = ",".join(f"{guest.name}/vda" for point, guest in zip(points, guests, strict=True) if not point.survives)
    asked = {"failed_host": LOST, "evacuate_image": IMAGE, "accept_lost_disks": lost, "coldmove_witnesses": 1, "coldmove_fence_interval": 0.3}
    killed = [strike(world, "evacuate", points[0], guests[0], **asked)] if FENCING in points else []
    killed += strike_all(world, [("evacuate", point, guest, asked) for point, guest in zip(points, guests, strict=True) if point is not FENCING])
    take_up(world, "evacuate", [one for one in killed if one.point.then == "again"], **asked)
    take_up(world, "recover", [one for one in killed if one.point.then == "recover"])
    yield {one.point.name: one for one in killed}
    lab.mend(LOST)
    lab.start(LOST)
    for guest in guests:
        world.remove(guest)
    lab.unshare("kills", [LOST, *LIVING])
    for node in LIVING:
        lab.exec(node, "rm", "-f", IMAGE)
    world.play("compute_service", host=LOST, state="enabled")


def living(world: World, guest: GuestState) -> list[str]:
    """The nodes that answer and know the server."""
    return [node for node in LIVING if world.lab.guest_state(node, guest) is not None]


@pytest.mark.parametrize("name", [point.name for point in (FENCING, *POINTS)])
def test_killed_evacuation(world: World, evacuations: dict[str, Killed[Evacuated]], name: str) -> None:
    """Killed there and taken up: the server is on one node with all that it wrote, or on none and nothing is left of the attempt."""
    one = evacuations[name]
    one.check()
    row = laws.record(world.lab, one.guest)
    if one.point.outcome == "back":
        assert (row["status"], row["pending_hosts"]) == ("failed", []), row
        assert laws.claims(world.lab, one.guest) == []
        laws.check_clean(world.lab, row["dest_host"], one.guest, {**row, "files": [] if one.point.survives else row["files"]})
        assert living(world, one.guest) == []
        return
    assert (row["status"], row["pending_hosts"]) == ("done", [LOST]), row
    assert living(world, one.guest) == [row["dest_host"]]
    assert world.lab.running_on(one.guest) == ([row["dest_host"]] if one.point.runs else [])
    if one.point.runs and one.point.survives:
        laws.check_runs_on(world.lab, one.guest, row["dest_host"], one.markers)


def test_what_came_to_nothing_is_evacuated_by_another_run(world: World, evacuations: dict[str, Killed[Evacuated]]) -> None:
    """The whole node, in one run: those that are elsewhere already stay as they are."""
    lost = [f"{one.guest.name}/vda" for one in evacuations.values() if not one.point.survives]
    world.play("evacuate", failed_host=LOST, evacuate_image=IMAGE, accept_lost_disks=",".join(lost)).check()
    for one in evacuations.values():
        if not one.problem:
            assert laws.record(world.lab, one.guest)["status"] == "done", one.point.name
            assert len(living(world, one.guest)) == 1
            assert bool(world.lab.running_on(one.guest)) == one.point.runs


def test_the_lost_node_comes_back_and_starts_nothing(world: World, evacuations: dict[str, Killed[Evacuated]]) -> None:
    """All of its servers are set to start at boot. The watch of every test looks for a second copy all the time; in the end it has none of them."""
    world.lab.mend(LOST)
    world.lab.start(LOST)
    mine = [one for one in evacuations.values() if not one.problem]
    assert [one.point.name for one in mine if LOST in world.lab.running_on(one.guest)] == []
    world.play("recover", host=LOST).check()
    assert world.play("recover", host=LOST).check().changed() == 0
    world.play("compute_service", host=LOST, state="enabled").check()
    for one in mine:
        row = laws.record(world.lab, one.guest)
        assert (row["status"], row["pending_hosts"]) == ("completed", []), one.point.name
        assert world.lab.defined_on(one.guest) == [row["dest_host"]]
        if one.point.survives and one.point.runs:
            laws.check_runs_on(world.lab, one.guest, row["dest_host"], one.markers)
        assert laws.names_on(world.lab, LOST, row["uuid"]) == []
    laws.check_quiet(world.lab, LOST, *LIVING)
