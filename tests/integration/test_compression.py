# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that cross the wire compressed: fewer bytes, the same content."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from integration import laws

from lab import MIB, DiskSpec, GuestSpec

if TYPE_CHECKING:
    from integration.conftest import World

pytestmark = [pytest.mark.lab, pytest.mark.nightly]


def test_text_crosses_as_a_fraction_of_itself(world: World) -> None:
    """There with zstd, back with auto: the record counts what crossed the wire, and the disk that the guest does not use is what it was."""
    guest = world.lab.define_guest("node1", GuestSpec("texts", [DiskSpec(), DiskSpec(64 * MIB, "raw", role="blank")]))
    (name,) = [path.name for path in world.lab.images("node1").glob("texts-vdb.*")]
    content = b"".join(b"line %d of a log that says the same all day\n" % number for number in range(48 * MIB // 48))
    with (world.lab.images("node1") / name).open("r+b") as disk:
        disk.write(content)
    world.lab.start_guest("node1", guest)
    world.lab.write_marker(guest, "texts")
    try:
        world.play("cold_migrate", server="texts", target_host="node2", compression="zstd").check()
        row = laws.check_moved(world.lab, guest, ["texts"])
        assert row["bytes_sent"] < 0.6 * row["bytes_total"]
        assert (world.lab.images("node2") / name).read_bytes()[: len(content)] == content
        world.play("confirm", server="texts").check()
        world.play("cold_migrate", server="texts", target_host="node1", compression="auto").check()
        laws.check_moved(world.lab, guest, ["texts"])
        assert (world.lab.images("node1") / name).read_bytes()[: len(content)] == content
        world.play("confirm", server="texts").check()
        laws.check_quiet(world.lab, "node1", "node2")
    finally:
        world.remove(guest)
