# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What answers the guards, as it is installed on the records host: the few files of the library, and a real store."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from contracts.known_servers import A_UUID, snapshot
from contracts.record_store import candidate, opening, walk

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.compute_services import ComputeServices
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.records import Records
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.server_records import ServerRecords

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "record_store"


class Host(t.NamedTuple):
    """A records host: a folder with all that the role installs."""

    folder: Path

    @property
    def store(self) -> str:
        """The SQLite file."""
        return str(self.folder / "store" / "records.sqlite")

    def answer(self, node: str) -> dict[str, t.Any]:
        """What the guard of a node is told."""
        done = subprocess.run([sys.executable, "-I", self.folder / "coldmove-answer", node], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
        return t.cast("dict[str, t.Any]", json.loads(done.stdout))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    for name in yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))["__coldmove_library_files"]:
        target = tmp_path / "coldmove_store" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "plugins" / "module_utils" / name, target)
    program = (ROLE / "files" / "coldmove_answer.py").read_text(encoding="utf-8")
    settings = tmp_path / "record_store.json"
    settings.write_text(json.dumps({"url": "", "path": str(tmp_path / "store" / "records.sqlite")}), encoding="utf-8")
    program = program.replace("/usr/local/lib/coldmove", str(tmp_path)).replace("/etc/coldmove/record_store.json", str(settings))
    (tmp_path / "coldmove-answer").write_text(program, encoding="utf-8")
    return Host(tmp_path)


def test_no_store_is_no_answer(host: Host) -> None:
    """An empty answer would let everything start. Asking does not make a store."""
    assert "there is no record store yet" in host.answer("A")["error"]
    assert not Path(host.store).exists()


def test_what_the_records_say(host: Host) -> None:
    store = Records(path=host.store)
    evacuated = store.open(**opening([candidate("B")], migration_type="evacuation")).after
    walk(store, evacuated, "pre-migrating", "done")
    moved = store.open(**opening([candidate("A")], source_host="B", server_name="web02")).after
    walk(store, moved, "pre-migrating", "migrating", "post-migrating", "finished")
    told = host.answer("A")
    assert (told["host"], told["managed"]) == ("A", [moved["server_uuid"]])
    assert [(entry["server_uuid"], entry["to"], entry["migration"]) for entry in told["away"]] == [(evacuated["server_uuid"], "B", evacuated["uuid"])]
    assert host.answer("B")["managed"] == [evacuated["server_uuid"]]
    assert {entry["server_uuid"] for entry in host.answer("C")["away"]} == {evacuated["server_uuid"], moved["server_uuid"]}


def test_a_node_that_was_fenced_is_told_so_until_it_is_back_in_service(host: Host) -> None:
    ServerRecords(path=host.store).save("A", [snapshot()])
    services = ComputeServices(path=host.store)
    assert host.answer("A")["managed"] == [A_UUID]
    services.set("A", fenced={"by": "ann", "how": "fence_ipmilan", "reason": "", "at": None})
    (entry,) = host.answer("A")["away"]
    assert (entry["server_uuid"], entry["to"], host.answer("A")["managed"]) == (A_UUID, None, [])
    assert entry["withheld"].startswith("A was fenced by ann on 2")
    assert host.answer("B")["away"][0].get("withheld") is None
    services.enable("A")
    assert host.answer("A")["managed"] == [A_UUID]


def test_that_a_node_was_cleaned_long_afterwards_says_nothing_of_where_the_server_is(host: Host) -> None:
    """Evacuated from A to B, moved on to C by libvirt's own means and seen there; then A comes back."""
    store = Records(path=host.store)
    evacuated = store.open(**opening([candidate("B")], migration_type="evacuation")).after
    walk(store, evacuated, "pre-migrating", "done")
    ServerRecords(path=host.store).save("C", [{**snapshot(), "server_uuid": evacuated["server_uuid"]}])
    assert host.answer("C")["managed"] == [evacuated["server_uuid"]]
    walk(store, evacuated, "completed")
    assert host.answer("C")["managed"] == [evacuated["server_uuid"]]
    assert host.answer("B")["away"][0]["to"] == "C"


def test_a_store_of_another_version_answers(host: Host) -> None:
    """The release that wrote it may be newer than what was installed here; the guards must not fall silent."""
    store = Records(path=host.store)
    walk(store, store.open(**opening()).after, "pre-migrating", "migrating", "post-migrating", "finished")
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE coldmove_schema SET version = 99")
    assert len(host.answer("A")["away"]) == 1


def test_a_store_that_cannot_be_read_is_no_answer(host: Host) -> None:
    store = Records(path=host.store)
    store.open(**opening())
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE coldmove_migrations DROP COLUMN updated_at")
    assert "updated_at" in host.answer("A")["error"]
    Path(host.store).write_bytes(b"no database at all" * 100)
    assert "error" in host.answer("A")
