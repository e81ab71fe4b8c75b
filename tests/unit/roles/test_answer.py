# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What answers the guards, as it is installed on the records host: the few files of the library, and a real store."""

from __future__ import annotations

import json
import os
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
from lab.shell import wait_for

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "record_store"


class Host(t.NamedTuple):
    """A records host: a folder with all that the role installs."""

    folder: Path

    @property
    def store(self) -> str:
        """The SQLite file."""
        return str(self.folder / "store" / "records.sqlite")

    def answer(self, node: str, word: str = "") -> dict[str, t.Any]:
        """What the guard of a node is told."""
        command = [sys.executable, "-I", self.folder / "coldmove-answer", node]
        done = subprocess.run(command, env={**os.environ, "SSH_ORIGINAL_COMMAND": word}, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
        return t.cast("dict[str, t.Any]", json.loads(done.stdout))

    def returned(self, node: str) -> str:
        """What the guard of a node is told when it says that it is back."""
        return str(self.answer(node, "returned")["return"])

    def on_return(self, *command: str) -> None:
        """Set the operator's command."""
        (self.folder / "return_command.json").write_text(json.dumps(command), encoding="utf-8")

    @property
    def log(self) -> Path:
        """The log of node A's cleaning."""
        return self.folder / "log" / "return-A.log"

    def grow_old(self) -> None:
        """Ten minutes have passed."""
        os.utime(self.log, (0, 0))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    for name in yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))["__coldmove_library_files"]:
        target = tmp_path / "coldmove_store" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "plugins" / "module_utils" / name, target)
    program = (ROLE / "files" / "coldmove_answer.py").read_text(encoding="utf-8")
    settings = tmp_path / "record_store.json"
    settings.write_text(json.dumps({"url": "", "path": str(tmp_path / "store" / "records.sqlite")}), encoding="utf-8")
    for path, here in (("/usr/local/lib/coldmove", tmp_path), ("/etc/coldmove/record_store.json", settings), ("/var/log/coldmove", tmp_path / "log")):
        program = program.replace(path, str(here))
    program = program.replace("/etc/coldmove/return_command.json", str(tmp_path / "return_command.json"))
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


# --- a node that is back


@pytest.fixture
def back(host: Host) -> Host:
    """A server was evacuated from A to B."""
    store = Records(path=host.store)
    walk(store, store.open(**opening([candidate("B")], migration_type="evacuation")).after, "pre-migrating", "done")
    return host


def logged(host: Host, word: str) -> str:
    """The log, once it holds a word."""
    return wait_for(f"{word} in the log", lambda: (found := host.log.read_text(encoding="utf-8")) and word in found and found, 10) or ""


def test_the_command_begins_for_the_node_that_is_back(back: Host) -> None:
    back.on_return("sh", "-c", "echo cleans $1; sleep 0.1; echo has ended", "sh", "node={host}; rm -rf /nowhere")
    assert "its cleaning has begun" in back.returned("A")
    assert "cleans node=A; rm -rf /nowhere" in logged(back, "has ended"), "a word stays one word"
    assert "return" not in back.answer("A")
    assert "return" not in back.answer("A", "returned; id")


def test_only_a_node_with_something_of_an_evacuation_is_cleaned(back: Host) -> None:
    back.on_return("touch", str(back.folder / "touched"))
    for node in ("B", "C"):
        assert back.returned(node) == f"nothing of an evacuation is left on {node}"
    assert not (back.folder / "touched").exists() and not back.log.exists()


def test_one_at_a_time_and_not_again_at_once(back: Host) -> None:
    """A node says it every minute."""
    back.on_return("sh", "-c", f"echo begins; echo one more >> {back.folder}/runs; read word < {back.folder}/gate; echo ends")
    os.mkfifo(back.folder / "gate")
    assert "has begun" in back.returned("A")
    logged(back, "begins")
    back.grow_old()
    assert "is being cleaned" in back.returned("A")
    (back.folder / "gate").write_text("on\n", encoding="utf-8")
    logged(back, "ends")
    wait_for("the end of the command", lambda: "is being cleaned" not in back.returned("A"), 10)
    assert "has left something" in back.returned("A")
    assert (back.folder / "runs").read_text(encoding="utf-8") == "one more\n"
    back.on_return("sh", "-c", "echo again")
    back.grow_old()
    assert "has begun" in back.returned("A")
    assert "begins" not in logged(back, "again"), "the log is the last run's"


def test_what_is_new_does_not_wait(back: Host) -> None:
    """A node that is lost twice in ten minutes."""
    back.on_return("sh", "-c", "echo ends")
    assert "has begun" in back.returned("A")
    logged(back, "ends")
    assert "has left something" in wait_for("the end", lambda: "is being" not in (told := back.returned("A")) and told, 10)
    store = Records(path=back.store)
    second = {"server_uuid": "00000000-0000-4000-8000-0000000000ff", "server_name": "web03"}
    walk(store, store.open(**{**opening([candidate("B")], migration_type="evacuation"), **second}).after, "pre-migrating", "done")
    assert "has begun" in back.returned("A")


@pytest.mark.parametrize(
    ("command", "why"),
    [(None, "No such file"), ("[]", "no return_command is set"), ('["/no/such/program"]', "No such file"), ("{damaged", "return_command: ")],
    ids=["older-prepare", "unset", "misspelt", "damaged"],
)
def test_without_a_command_a_human_is_told_what_to_type(back: Host, command: str | None, why: str) -> None:
    if command is not None:
        (back.folder / "return_command.json").write_text(command, encoding="utf-8")
    told = back.returned("A")
    assert why in told and told.endswith("next: ansible-playbook coldmove.libvirt.recover -e host=A")
    assert back.answer("A", "returned")["away"][0]["to"] == "B"
