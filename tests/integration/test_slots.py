# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""So many servers are copied away from a node at a time; the guests of the others run meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from integration import laws

from lab.shell import wait_for

if TYPE_CHECKING:
    from integration.conftest import World

pytestmark = [pytest.mark.lab, pytest.mark.nightly]

WAITING = "waiting for a transfer slot of node1: 1 of 1 taken"
#: Takes the only slot, as another server's copy does, until it is killed.
TAKE = """
mkdir -p /run/coldmove/slots
sh -c 'exec 9>/run/coldmove/slots/0; flock 9; echo $$ >/run/slot.pid; exec sleep 900' >/dev/null 2>&1 </dev/null &
until [ -s /run/slot.pid ]; do sleep 0.1; done
"""


@pytest.mark.parametrize("precopy", ["always", "never"])
def test_the_guest_of_one_that_waits_is_not_off(world: World, precopy: str) -> None:
    """It is shut down only once there is a slot for its copy, and with a precopy once that has had one."""
    guest = world.guest("second")
    begun = time.monotonic()
    world.lab.exec("node1", "sh", "-c", TAKE)
    run = world.run("cold_migrate", server="second", target_host="node2", transfer_slots=1, precopy=precopy)
    try:
        wait_for("the run to wait", lambda: WAITING in run.output() or run.process.poll() is not None, 180)
        assert run.process.poll() is None, run.output()
        assert world.watch.stops_since(guest, begun) == 0
        assert world.lab.running_on(guest) == ["node1"]
        world.lab.exec("node1", "sh", "-c", "kill $(cat /run/slot.pid) && rm /run/slot.pid")
        run.finish().check()
        laws.check_moved(world.lab, guest, ["second"])
    finally:
        run.kill()
        world.lab.exec("node1", "sh", "-c", "kill $(cat /run/slot.pid)", check=False)
    world.play("confirm", server="second").check()
    laws.check_quiet(world.lab, "node1", "node2")
    world.remove(guest)
