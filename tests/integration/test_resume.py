# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy whose controller and whose job are killed: the same command again sends only what has not crossed yet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from integration import laws

from lab import MIB, DiskSpec
from lab.shell import wait_for

if TYPE_CHECKING:
    from integration.conftest import World

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.nightly]

CONTENT_MIB = 60


def come(world: World, guest: GuestState) -> int:
    """Bytes of the temporary file on the dest."""
    return sum(path.stat().st_blocks * 512 for path in world.lab.images("node2").glob(f"{guest.name}-vda.qcow2.coldmove-*"))


def test_a_killed_copy_goes_on_where_it_was(world: World) -> None:
    """Over a link of 40 Mbit/s, half way: nothing that is on the dest crosses it a second time."""
    guest = world.guest("resumed", DiskSpec(96 * MIB, content_mib=CONTENT_MIB))
    world.lab.shape("node1", "40mbit")
    try:
        run = world.run("cold_migrate", server="resumed", target_host="node2")
        try:
            run.wait_for("start", "Cutover | Copy")
            wait_for("half of the copy", lambda: come(world, guest) > CONTENT_MIB * MIB // 2 or run.process.poll() is not None, 120)
        finally:
            run.kill()
        move = laws.record(world.lab, guest)["uuid"]
        state = f"/var/lib/coldmove/moves/{move}/send.json"
        job = json.loads(world.lab.exec("node1", "cat", state).stdout)
        assert job["state"] == "running"
        world.lab.exec("node1", "kill", "-KILL", "--", f"-{job['pid']}")
        again = world.play("cold_migrate", server="resumed", target_host="node2").check()
        assert "already there" in again.output
        row = laws.record(world.lab, guest)
        assert row["uuid"] == move
        assert 0.9 * row["bytes_total"] < row["bytes_sent"] < 1.3 * row["bytes_total"]
        laws.check_moved(world.lab, guest, ["resumed"])
    finally:
        world.lab.unshape("node1")
    world.play("confirm", server="resumed").check()
    laws.check_confirmed(world.lab, guest, ["resumed"])
    laws.check_quiet(world.lab, "node1", "node2")
    world.remove(guest)
