# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""So many servers are copied away from a node at a time; the guests of the others run meanwhile."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest
from integration import laws
from integration.test_precopy import check_no_mirror

from lab.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from integration.conftest import World
    from integration.runs import Run

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.nightly]

WAITING = "waiting for a transfer slot of node1: 1 of 1 taken"
#: Takes the only slot, as another server's copy does, until it is killed.
TAKE = """
mkdir -p /run/coldmove/slots
sh -c 'exec 9>/run/coldmove/slots/0; flock 9; echo $$ >/run/slot.pid; exec sleep 900' >/dev/null 2>&1 </dev/null &
until [ -s /run/slot.pid ]; do sleep 0.1; done
"""


@contextlib.contextmanager
def only_slot_taken(world: World) -> Iterator[Callable[[], None]]:
    """Node1's only slot is another's; what this yields gives it back."""
    world.lab.exec("node1", "sh", "-c", TAKE)

    def give_back() -> None:
        world.lab.exec("node1", "sh", "-c", "kill $(cat /run/slot.pid) && rm /run/slot.pid", check=False)

    try:
        yield give_back
    finally:
        give_back()


@contextlib.contextmanager
def waiting(world: World, guest: GuestState, precopy: str) -> Iterator[Run]:
    """A run that waits for its slot, its guest running."""
    begun = time.monotonic()
    run = world.run("cold_migrate", server=guest.name, target_host="node2", transfer_slots=1, precopy=precopy)
    try:
        wait_for("the run to wait", lambda: WAITING in run.output() or run.process.poll() is not None, 180)
        assert run.process.poll() is None, run.output()
        assert world.watch.stops_since(guest, begun) == 0
        assert world.lab.running_on(guest) == ["node1"]
        yield run
    finally:
        run.kill()


def confirm(world: World, guest: GuestState) -> None:
    """Nothing is left of a move that went well."""
    world.play("confirm", server=guest.name).check()
    laws.check_quiet(world.lab, "node1", "node2")
    world.remove(guest)


@pytest.mark.parametrize("precopy", ["always", "never"])
def test_the_guest_of_one_that_waits_is_not_off(world: World, precopy: str) -> None:
    """It is shut down only once there is a slot for its copy, and with a precopy once that has had one."""
    guest = world.guest("second")
    with only_slot_taken(world) as give_back, waiting(world, guest, precopy) as run:
        give_back()
        run.finish().check()
        laws.check_moved(world.lab, guest, ["second"])
    confirm(world, guest)


def test_a_run_that_is_killed_while_it_waits_is_taken_up(world: World) -> None:
    """Its job keeps its place in the queue meanwhile; the same command goes on with it."""
    guest = world.guest("waited")
    with only_slot_taken(world) as give_back:
        with waiting(world, guest, "always") as run:
            run.kill()
        give_back()
        world.play("cold_migrate", server=guest.name, target_host="node2", transfer_slots=1, precopy="always").check()
        laws.check_moved(world.lab, guest, ["waited"])
        assert len(laws.records(world.lab, guest)) == 1
    confirm(world, guest)


@pytest.mark.parametrize("verb", ["cancel", "recover"])
def test_a_run_that_is_killed_while_it_waits_is_taken_back(world: World, verb: str) -> None:
    """Nobody waits for the slot any more, so nothing is copied once it is free."""
    guest = world.guest(f"waited-{verb}")
    begun = time.monotonic()
    with only_slot_taken(world):
        with waiting(world, guest, "always") as run:
            run.kill()
        world.play(verb, server=guest.name).check()
        assert world.watch.stops_since(guest, begun) == 0
    laws.check_back(world.lab, guest, "node1", [guest.name])
    check_no_mirror(world, guest)
    laws.check_quiet(world.lab, "node1", "node2")
    world.remove(guest)
