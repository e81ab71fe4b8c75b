# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof after the start of what crossed while the guest ran: what it proves, and what is left of it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from integration import laws

from lab import MIB, DiskSpec, GuestSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import World
    from integration.runs import Run

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow]

#: What crosses while the guest runs is proven after its start.
MIRRORED = {"precopy": "always"}


@contextlib.contextmanager
def guest_of(world: World, name: str, *disks: DiskSpec) -> Iterator[GuestState]:
    """A running guest that is taken away at the end."""
    guest = world.lab.define_guest("node1", GuestSpec(name, list(disks)))
    world.lab.start_guest("node1", guest)
    world.lab.write_marker(guest, name)
    try:
        yield guest
    finally:
        world.remove(guest)


def journal(world: World, node: str, row: dict[str, Any]) -> dict[str, Any]:
    """What a node has written down of a migration."""
    return dict(json.loads(world.lab.exec(node, "cat", f"{laws.MOVES}/{row['uuid']}/journal.json").stdout))


def check_nothing_left(world: World, guest: GuestState, row: dict[str, Any]) -> None:
    """No backup, no scratch file, no socket, no process."""
    node = row["dest_host"]
    assert "domainbackup" not in world.lab.exec(node, "virsh", "backup-dumpxml", guest.name, check=False).stdout
    assert [name for name in laws.names_on(world.lab, node, row["uuid"]) if "proof" in name] == []
    assert world.lab.exec(node, "find", "/var/lib/libvirt/qemu", "-name", "coldmove-proof").stdout == ""
    laws.check_quiet(world.lab, "node1", "node2")


def spoiled(world: World, guest: GuestState) -> Run:
    """A move of which somebody changes the copy on the dest right before QEMU opens it."""
    run = world.run("cold_migrate", server=guest.name, target_host="node2", **MIRRORED)
    run.wait_for("end", "Verify the copy and give it its name")
    with (world.lab.images("node2") / Path(guest.files[0]).name).open("r+b") as disk:
        disk.seek(60 * MIB)
        disk.write(b"spoiled")
    return run


# Both at once: one of three runs with two more labs beside ended without a proof, and did not say why; what it says now is shown below.
@pytest.mark.parametrize("more", [pytest.param([], id="one"), pytest.param([DiskSpec(64 * MIB, format="raw")], id="two", marks=pytest.mark.nightly)])
def test_equal_content_is_proven_while_the_guest_writes(world: World, more: list[DiskSpec]) -> None:
    """qcow2, and raw beside it: the guest has written since its start, and what it was started with is proven all the same."""
    with guest_of(world, f"proven{len(more)}", DiskSpec(96 * MIB, content_mib=40), *more) as guest:
        outcome = world.play("cold_migrate", server=guest.name, target_host="node2", **MIRRORED).check()
        row = laws.check_moved(world.lab, guest, [guest.name])
        mirror = world.lab.exec("node1", "cat", f"{laws.MOVES}/{row['uuid']}/mirror.json", check=False).stdout
        assert "copy" not in laws.phases(world.lab, guest), mirror
        assert [line for line in outcome.output.splitlines() if "WARNING" in line] == [], mirror
        kept = journal(world, "node2", row).get("proof")
        assert kept, outcome.output
        assert kept["state"] == "done" and sorted(kept["disks"]) == ["vda", "vdb"][: 1 + len(more)]
        assert "prove" in laws.phases(world.lab, guest) and not row["error"]
        check_nothing_left(world, guest, row)
        # It has written since: the proof was one of the past, not of the present.
        held, final = row["files"][0]["held_path"], row["files"][0]["dest_path"]
        assert world.lab.disk_digest("node1", held) != world.lab.disk_digest("node2", final)
        world.play("confirm", server=guest.name).check()
        laws.check_confirmed(world.lab, guest, [guest.name])


def test_a_copy_that_differs_leads_back(world: World) -> None:
    """One byte of the dest's raw disk is another one: the server is back on its source, with all that it wrote there."""
    with guest_of(world, "differs", DiskSpec(64 * MIB, format="raw")) as guest:
        spoiled(world, guest).finish().refused(
            "disk vda of differs", "differs from the held copy on node1", "since its start there is lost", "is back on node1"
        )
        laws.check_back(world.lab, guest, "node1", [guest.name])
        laws.check_quiet(world.lab, "node1", "node2")


@pytest.mark.nightly
@pytest.mark.parametrize(("when", "task"), [("end", "Define_dest | Define the server on the dest"), ("start", "Prove | Read what the server was started with")])
def test_killed_during_the_proof(world: World, when: str, task: str) -> None:
    """The node goes on reading without its controller; recover compares, and nothing is left."""
    with guest_of(world, f"orphan{when}", DiskSpec(160 * MIB, content_mib=100)) as guest:
        run = world.run("cold_migrate", server=guest.name, target_host="node2", **MIRRORED)
        run.wait_for(when, task)
        run.kill()
        assert laws.record(world.lab, guest)["status"] == "post-migrating"
        world.play("recover", server=guest.name).check()
        row = laws.check_moved(world.lab, guest, [guest.name])
        assert journal(world, "node2", row)["proof"]["state"] == "done"
        assert "prove" in laws.phases(world.lab, guest)
        check_nothing_left(world, guest, row)


@pytest.mark.nightly
def test_a_copy_that_differs_is_kept_by_recover(world: World) -> None:
    """The controller was killed, nobody knows for how long: recover goes neither way, until the operator stops the server on the dest."""
    with guest_of(world, "undecided", DiskSpec(64 * MIB, format="raw")) as guest:
        run = spoiled(world, guest)
        run.wait_for("end", "Define_dest | Define the server on the dest")
        run.kill()
        world.play("recover", server=guest.name).refused("disk vda of undecided", "differs from the held copy on node1")
        assert world.lab.running_on(guest) == ["node2"]
        world.play("recover", server=guest.name).refused("compare them", "virsh destroy")
        assert world.lab.running_on(guest) == ["node2"]
        laws.check_held(world.lab, guest, laws.record(world.lab, guest))
        world.lab.virsh("node2", "destroy", guest.name)
        world.play("recover", server=guest.name).check()
        laws.check_back(world.lab, guest, "node1", [guest.name])


@pytest.mark.nightly
def test_a_guest_that_was_stopped_meanwhile(world: World) -> None:
    """What it was started with is gone with its QEMU: told, kept in the record, and no failure."""
    with guest_of(world, "stopped", DiskSpec(160 * MIB, content_mib=100)) as guest:
        run = world.run("cold_migrate", server=guest.name, target_host="node2", **MIRRORED)
        run.wait_for("end", "Define_dest | Define the server on the dest")
        run.kill()
        row = laws.record(world.lab, guest)
        # As if the node had lost its power right after the start: neither the job nor QEMU has got to its end.
        world.lab.kill("node2")
        world.lab.start("node2")
        world.lab.exec("node2", "rm", "-f", f"{laws.MOVES}/{row['uuid']}/proof.json")  # it may have been as quick as this test
        assert journal(world, "node2", row)["proof"]["state"] == "begun"
        outcome = world.play("recover", server=guest.name).check()
        assert "WARNING" in outcome.output and "not proven" in outcome.output
        row = laws.check_moved(world.lab, guest, [guest.name])
        assert "not proven" in row["error"]
        check_nothing_left(world, guest, row)
