# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Last-known records and flags of nodes on real SQLite files."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from contracts import known_servers
from contracts.known_servers import A_UUID, B_UUID, KnownServersContract, snapshot
from contracts.record_store import Place

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.compute_services import ComputeServices
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.records import Records
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.server_records import ServerRecords


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return {"path": str(tmp_path / "new" / "records.sqlite")}


class TestSQLite(KnownServersContract):
    """Everything that a store must do."""


def test_a_store_that_a_former_release_wrote_keeps_all_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript((Path(known_servers.__file__).parent / "version_1.sql").read_text(encoding="utf-8"))
    before = [(row["server_name"], row["status"], row["updated_at"]) for row in Records(path=str(path), dry_run=True).find()[1]]
    assert [row[:2] for row in before] == [("web01", "finished"), ("web02", "error")]
    assert ServerRecords(path=str(path)).save("node2", [snapshot(A_UUID), snapshot(B_UUID, "web02")], as_of=7).left == {}
    assert ComputeServices(path=str(path)).set("node1", disabled={"by": "alice"}).changed
    assert [(row["server_name"], row["status"], row["updated_at"]) for row in Records(path=str(path)).find()[1]] == before


def test_looking_at_a_store_that_does_not_exist_does_not_create_it(place: Place) -> None:
    assert ServerRecords(**place, dry_run=True).find() == [] == list(ComputeServices(**place, dry_run=True).get())
    ServerRecords(**place, dry_run=True).save("A", [snapshot()])
    assert not Path(place["path"]).parent.exists()


def test_a_damaged_definition_is_told_to_those_who_ask(place: Place) -> None:
    kept = {"name": "web1", "state": "running", "autostart": True, "flavor": {}, "facts": {"disks": []}, "nvram": None, "config_drives": {}}
    ServerRecords(**place).save(
        "a", [{**kept, "server_uuid": uuid, "xml": f"<domain><uuid>{uuid}</uuid>{end}"} for uuid, end in (("u1", "</domain>"), ("u2", ""))]
    )
    looked = ServerRecords(**place, dry_run=True)
    assert [bool(row["unreadable"]) for row in looked.find(check_definition=True)] == [False, True]
    assert all("xml" not in row for row in looked.find(check_definition=True))
    assert all("unreadable" not in row for row in looked.find())
