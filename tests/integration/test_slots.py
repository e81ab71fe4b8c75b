# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""So many servers are copied away from a node at a time; the guests of the others run meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from integration import laws

from lab import MIB, DiskSpec
from lab.shell import wait_for

if TYPE_CHECKING:
    from integration.conftest import World

pytestmark = [pytest.mark.lab, pytest.mark.nightly]

WAITING = "waiting for a transfer slot of node1: 1 of 1 taken"


def test_the_guest_of_one_that_waits_is_not_off(world: World) -> None:
    """One slot: the second server is shut down only once the first one's copy has ended, in one run and in another one."""
    first = world.guest("first", DiskSpec(96 * MIB, content_mib=60))
    second = world.guest("second")
    runs = [world.run("cold_migrate", server="first", target_host="node2", transfer_slots=1, bandwidth_limit="3M")]
    try:
        runs[0].wait_for("start", "Cutover | Copy")
        begun = time.monotonic()
        runs.append(world.run("cold_migrate", server="second", target_host="node2", transfer_slots=1))
        wait_for("the second one to wait", lambda: WAITING in runs[1].output() or runs[1].process.poll() is not None, 120)
        assert not runs[0].has("end", "Cutover | Copy"), "the first copy was over too early"
        assert world.watch.stops_since(second, begun) == 0
        assert world.lab.running_on(second) == ["node1"]
        runs[0].wait_for("end", "Cutover | Copy")
        for run in runs:
            run.finish().check()
        laws.check_moved(world.lab, first, ["first"])
        laws.check_moved(world.lab, second, ["second"])
    finally:
        for run in runs:
            run.kill()
    world.play("confirm", server="first,second").check()
    laws.check_quiet(world.lab, "node1", "node2")
    for guest in (first, second):
        world.remove(guest)
