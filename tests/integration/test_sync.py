# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the record store knows of servers: who sees their storage, what a silent node or a move does to it, and what is forgotten."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from integration import laws

from lab import DiskSpec, GuestSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import World

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow]

#: Asked of the store itself, as the modules would be in the way of a test of theirs.
QUERY = """
import json, sqlite3
store = sqlite3.connect("/var/lib/coldmove/records.sqlite")
store.row_factory = sqlite3.Row
there = {name for name, in store.execute("SELECT name FROM sqlite_master")}
read = lambda table: [dict(row) for row in store.execute(f"SELECT * FROM coldmove_{table}")] if f"coldmove_{table}" in there else []
print(json.dumps({table: read(table) for table in ("servers", "storage", "nodes")}))
"""


def tables(world: World) -> dict[str, list[dict[str, Any]]]:
    """What the store has."""
    found: dict[str, list[dict[str, Any]]] = json.loads(world.lab.exec("records1", "python3", "-c", QUERY).stdout)
    return found


def known(world: World, guest: GuestState) -> dict[str, Any] | None:
    """The last-known record of a server."""
    return next((row for row in tables(world)["servers"] if row["server_uuid"] == guest.uuid), None)


def seen_by(world: World, host: str, directory: str) -> list[str] | None:
    """Who sees a directory of a node; None if nothing is known of it."""
    return next((json.loads(row["seen_by"]) for row in tables(world)["storage"] if (row["host"], row["directory"]) == (host, directory)), None)


def line_of(world: World, guest: GuestState) -> str:
    """What `status` says of a server's record."""
    output = world.play("status", server=guest.name).check().output
    return next(line for line in output.splitlines() if guest.name in line and ("shared with" in line or "local" in line or "not looked at" in line))


@contextlib.contextmanager
def guest_of(world: World, name: str, disk: DiskSpec | None = None, **more: Any) -> Iterator[GuestState]:
    """A guest that is taken away at the end."""
    guest = world.guest(name, disk, **more)
    try:
        yield guest
    finally:
        world.remove(guest)


@pytest.fixture
def store(world: World) -> Iterator[str]:
    """A directory that node1 and node2 share, and node3 has too, at the same path, on a disk of its own."""
    path = world.lab.share("sync", ["node1", "node2"])
    world.lab.share("other", ["node3"], path)
    yield path
    world.lab.unshare("sync", ["node1", "node2"])
    world.lab.unshare("other", ["node3"])


@pytest.mark.nightly
def test_who_sees_what_is_proven_by_those_who_answer(world: World, store: str) -> None:
    """Shared, local at the same path, and a node that is cut off meanwhile."""
    images = "/var/lib/libvirt/images"
    with guest_of(world, "shared", DiskSpec(directory=store)) as shared, guest_of(world, "local") as local:
        before = world.lab.look()
        world.play("sync", "--check").check()
        assert world.lab.look() == before
        assert known(world, shared) is None
        world.play("sync").check()
        assert (seen_by(world, "node1", store), seen_by(world, "node1", images)) == (["node2"], [])
        assert "shared with node2" in line_of(world, shared) and " local" in line_of(world, local)
        row = known(world, shared)
        assert row and (row["host"], row["state"], row["name"]) == ("node1", "running", "shared")
        assert shared.uuid in row["xml"] and json.loads(row["facts"])["disks"][0]["path"].startswith(store)

        world.lab.cut("node2")
        try:
            world.play("sync").refused("node2 does not answer")
            assert seen_by(world, "node1", store) == []
            world.play("compute_service", host="node2", state="disabled", reason="repair").check()
            assert "WARNING: node2 does not answer" in world.play("sync").check().output
            world.play("sync", host="node2").refused("node2 does not answer")
        finally:
            world.lab.mend("node2")
            world.play("compute_service", host="node2", state="enabled").check()
        # One node alone is synced; the others say what they see of it.
        world.play("sync", host="node1").check()
        assert seen_by(world, "node1", store) == ["node2"]
        assert world.lab.running_on(shared) == world.lab.running_on(local) == ["node1"]

    # Gone from its node and from all others: forgotten, but not while a node is silent. Its word goes with it.
    world.lab.cut("node3")
    try:
        world.play("sync").refused("node3 does not answer")
        assert known(world, shared)
    finally:
        world.lab.mend("node3")
    world.play("sync").check()
    assert known(world, shared) is None and known(world, local) is None
    assert seen_by(world, "node1", store) is None
    assert world.lab.exec("node1", "ls", "-A", store).stdout == ""


@pytest.mark.nightly
def test_every_verb_leaves_a_fresh_record(world: World) -> None:
    """A move, its way back, another one, its confirm; and a refusal that leaves it alone. None of it counts as a change of a second run."""
    with guest_of(world, "fresh") as guest:
        for verb, host, more in (
            ("cold_migrate", "node2", {"target_host": "node2"}),
            ("revert", "node1", {"accept_lost_writes": "true"}),
            ("cold_migrate", "node2", {"target_host": "node2"}),
            ("confirm", "node2", {}),
        ):
            world.play(verb, server=guest.name, **more).check()
            row = known(world, guest)
            assert row and (row["host"], row["state"]) == (host, "running"), verb
            assert json.loads(row["facts"])["disks"][0]["path"] in world.lab.virsh(host, "dumpxml", guest.name)
            assert world.play(verb, server=guest.name, **more).check().changed() == 0, verb
        seen_at = (known(world, guest) or {})["seen_at"]
        world.play("cold_migrate", server=guest.name, target_host="nowhere").refused("nowhere")
        assert (known(world, guest) or {})["seen_at"] == seen_at
        laws.check_confirmed(world.lab, guest, [guest.name])


def test_a_record_that_cannot_be_refreshed_does_not_fail_its_verb(world: World) -> None:
    """The verb is done. What is known is older than it, and the next sync mends that."""
    with guest_of(world, "stale") as guest:
        world.play("sync", host="node1").check()
        # The look after the move, and nothing else, goes to a node that is not there.
        elsewhere = {"__coldmove_host": "nowhere", "__coldmove_outcomes": [{"server_uuid": guest.uuid, "server_name": guest.name}]}
        outcome = world.play("cold_migrate", server=guest.name, target_host="node2", **elsewhere).check()
        assert "WARNING: what is known of stale could not be refreshed" in outcome.output
        assert laws.record(world.lab, guest)["status"] == "finished"
        assert (known(world, guest) or {})["host"] == "node1"
        world.play("sync", host="node2").check()
        assert (known(world, guest) or {})["host"] == "node2"


@pytest.mark.nightly
def test_only_disks_that_are_not_shared_move(world: World, store: str) -> None:
    """Case 28: there, back, there again and confirmed. To a node that does not share it, both would move."""
    lab = world.lab
    guest = lab.define_guest("node1", GuestSpec("half", [DiskSpec(directory=store), DiskSpec()]))
    try:
        lab.start_guest("node1", guest)
        lab.write_marker(guest, guest.name)
        world.play("cold_migrate", server=guest.name, target_host="node2").refused("half-vda.qcow2 exists on node2 already", "coldmove.libvirt.sync")
        world.play("sync").check()
        assert "2 file(s)" in world.play("cold_migrate", "--check", server=guest.name, target_host="node3").check().output
        for verb, node, status, more in (
            ("cold_migrate", "node2", "finished", {"target_host": "node2"}),
            ("revert", "node1", "reverted", {"accept_lost_writes": "true"}),
            ("cold_migrate", "node2", "finished", {"target_host": "node2"}),
            ("confirm", "node2", "confirmed", {}),
        ):
            world.play(verb, server=guest.name, **more).check()
            row = laws.record(lab, guest)
            assert ([file["id"] for file in row["files"]], row["status"]) == (["vdb"], status)
            laws.check_runs_on(lab, guest, node, [guest.name])
        laws.check_clean(lab, "node1", guest, row)
        assert lab.exec("node1", "test", "-s", guest.files[0]).returncode == 0
    finally:
        world.remove(guest)


def test_firmware_variables_are_kept(world: World) -> None:
    """Byte for byte as they are on the node."""
    with guest_of(world, "uefi", firmware="uefi", start=False) as guest:
        world.lab.start_guest("node1", guest)
        world.lab.shutdown_guest("node1", guest)
        world.play("sync", host="node1").check()
        row = known(world, guest)
        assert row and row["state"] == "shutoff" and row["nvram"]
        path = json.loads(row["facts"])["nvram"]["path"]
        digest = world.lab.exec("node1", "sha256sum", path).stdout.split()[0]
        assert hashlib.sha256(zlib.decompress(base64.b64decode(row["nvram"]))).hexdigest() == digest


def test_a_node_out_of_service_takes_no_server(world: World) -> None:
    """And says who took it out, and why, wherever it is refused; back in service it does."""
    with guest_of(world, "served") as guest:
        world.play("compute_service", host="node2", state="disabled", reason="a fan is broken").check()
        assert world.play("compute_service", host="node2", state="disabled", reason="a fan is broken").check().changed() == 0
        assert "a fan is broken" in world.play("status").check().output
        world.play("cold_migrate", server=guest.name, target_host="node2").refused("disabled by", "a fan is broken")
        assert world.lab.running_on(guest) == ["node1"]
        world.play("compute_service", host="node2", state="enabled").check()
        world.play("cold_migrate", "--check", server=guest.name, target_host="node2").check()
