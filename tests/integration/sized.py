# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers with a flavor, resized, and what must be seen of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from integration import laws

from lab import MIB, DiskSpec, GuestSpec
from lab.guest_spec import server_metadata

if TYPE_CHECKING:
    from integration.conftest import World
    from integration.laws import Row

    from lab.state import GuestState

GIB = 1024 * MIB
SMALL = {"vcpus": 1, "memory_mb": 160, "root_gb": 1, "swap_mb": 64}
LARGE = {"vcpus": 2, "memory_mb": 256, "root_gb": 2, "swap_mb": 128}
FLAVORS = {"m1.small": SMALL, "m1.large": LARGE, "m1.noswap": {**LARGE, "swap_mb": 0}, "m1.huge": {**LARGE, "memory_mb": 1 << 22}}
LOSE = {"accept_lost_writes": "yes"}


def server(world: World, name: str, start: bool = True, image_format: Any = "qcow2", node: str = "node1", **metadata: Any) -> GuestState:
    """A server of the flavor m1.small: root disk and swap, with a marker that carries its name if it is started."""
    disks = [DiskSpec(GIB, image_format, content_mib=4), DiskSpec(64 * MIB, image_format, role="swap")]
    words = server_metadata({"name": "m1.small", **SMALL, "ephemeral_gb": 0}, {"vdb": "swap"}, **metadata)
    guest = world.lab.define_guest(node, GuestSpec(name, disks, metadata=words))
    if start:
        world.lab.start_guest(node, guest)
        world.lab.write_marker(guest, name)
    return guest


def resize(world: World, guest: GuestState, flavor: str, **variables: Any) -> Any:
    """Run the verb."""
    return world.play("resize", server=guest.name, **{"flavor": flavor, "flavors": FLAVORS, **variables})


def seen_by(world: World, guest: GuestState) -> dict[str, int]:
    """What the guest sees: vCPUs, MiB of memory (what the kernel leaves of it), bytes of its disks (0: there is none)."""
    world.lab.wait_ready(guest)
    info = world.lab.guest_info(guest)
    return {
        "vcpus": int(info["vcpus"]),
        "memory_mb": int(info["memory_kib"]) // 1024,
        "vda": int(info.get("vda_bytes", 0)),
        "vdb": int(info.get("vdb_bytes", 0)),
    }


def check_seen(world: World, guest: GuestState, flavor: dict[str, int]) -> None:
    """The guest sees a flavor."""
    seen = seen_by(world, guest)
    assert (seen["vcpus"], seen["vda"], seen["vdb"]) == (flavor["vcpus"], flavor["root_gb"] * GIB, flavor["swap_mb"] * MIB)
    assert flavor["memory_mb"] * 0.7 < seen["memory_mb"] <= flavor["memory_mb"]


def check_alone(world: World, guest: GuestState, node: str, flavor: dict[str, int], markers: list[str], image_format: str = "qcow2") -> None:
    """It runs there with the flavor, on disks of its own names, and nothing of any move is left on any node."""
    laws.check_runs_on(world.lab, guest, node, markers)
    check_seen(world, guest, flavor)
    row = laws.record(world.lab, guest)
    for each in ("node1", "node2", "node3"):
        assert laws.names_on(world.lab, each, row["uuid"]) == []
    xml = world.lab.virsh(node, "dumpxml", "--inactive", guest.uuid)
    assert f"file='{guest.files[0]}'" in xml and xml.count(f"type='{image_format}'") == (2 if flavor["swap_mb"] else 1)
    assert ".coldmove-" not in xml and "<backingStore type" not in xml
    assert world.lab.virsh(node, "dumpxml", guest.uuid).count("<backingStore type") == 0
    assert laws.claims(world.lab, guest) == []


def files_of(row: Row) -> dict[str, dict[str, Any]]:
    """The files of a record by disk."""
    return {file["id"]: file for file in row["files"]}


def check_unconfirmed(world: World, guest: GuestState, flavor: dict[str, int], markers: list[str], state: str = "running") -> Row:
    """Resized on its own node and not confirmed yet: one domain, on overlays; of the migration only the files that its record names."""
    row = laws.record(world.lab, guest)
    assert row["status"] == "finished", row
    node = row["dest_host"]
    assert (row["source_host"], world.lab.guest_state(node, guest)) == (node, state)
    assert world.lab.virsh(node, "list", "--all", "--uuid").split().count(guest.uuid) == 1
    xml = world.lab.virsh(node, "dumpxml", "--inactive", guest.uuid)
    files = files_of(row)
    assert f"file='{files['vda']['dest_path']}'" in xml and row["uuid"] in xml
    expected = [files["vda"]["dest_path"]] + ([files["vdb"]["held_path"]] if "vdb" in files else [])
    assert laws.names_on(world.lab, node, row["uuid"]) == sorted(expected)
    if state == "running":
        laws.check_runs_on(world.lab, guest, node, markers)
        check_seen(world, guest, flavor)
    return row
