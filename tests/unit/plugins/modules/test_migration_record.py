# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""migration_record and migration_record_info as Ansible runs them: JSON in, JSON out."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import record_database
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import transitions
from ansible_collections.coldmove.libvirt.plugins.modules import migration_record, migration_record_info

Run = t.Callable[..., dict[str, t.Any]]
OPEN = {
    "action": "open",
    "server_uuid": "6695eb01-f6a4-4304-79aa-97f2502e193f",
    "server_name": "wéb 'x' \"y\" {{ z }} /",
    "migration_type": "migration",
    "source_host": "A",
    "candidates": [{"host": "B", "capacity": {"vcpus": "8", "memory_mb": 4096, "disk_bytes": 10**12}, "used": {}, "counted": []}],
    "need": {"vcpus": "1", "memory_mb": 512, "disk_bytes": 2**40 // 2},
    "as_of": "0",
    "autostart": "yes",
    "domain_xml": "<graphics passwd='s3cret'/>",
    "started_by": "alice",
    "owner": {"controller": "ops1", "pid": 4711},
}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module on the test's own store; ``_check`` and ``_diff`` are Ansible's modes."""

    def _run(module: t.Any = migration_record, _check: bool = False, _diff: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        arguments = {"path": str(tmp_path / "new" / "records.sqlite"), "_ansible_check_mode": _check, "_ansible_diff": _diff, **arguments}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        return dict(json.loads(capsys.readouterr().out))

    return _run


def info(run: Run, **filters: t.Any) -> list[dict[str, t.Any]]:
    result = run(migration_record_info, **filters)
    assert result["changed"] is False
    return list(result["migrations"])


def test_from_open_to_confirmed(run: Run) -> None:
    opened = run(**OPEN)
    assert opened["changed"] and opened["migration"]["dest_host"] == "B" and opened["migration"]["autostart"] is True
    uuid = opened["migration"]["uuid"]
    for status in ("pre-migrating", "migrating", "post-migrating", "finished", "confirming"):
        assert run(action="transition", uuid=uuid, epoch="1", status=status)["changed"]
    assert not run(action="transition", uuid=uuid, epoch=1, status="confirming")["changed"]
    assert not run(action="heartbeat", uuid=uuid, epoch=1, progress={"percent": 3})["changed"]
    assert run(action="phase", uuid=uuid, epoch=1, name="copy", started_at="2026-01-31T12:00:00Z", seconds=1)["changed"]
    closed = run(action="close", uuid=uuid, epoch=1, status="confirmed", pending_hosts=["A"])
    assert closed["migration"]["status"] == "confirmed"
    assert [each["name"] for each in info(run, host="A")[0]["phases"]] == ["copy"]
    assert info(run, active=True) == []


def test_check_mode_says_what_it_would_do_and_creates_nothing(run: Run, tmp_path: Path) -> None:
    planned = run(_check=True, _diff=True, **OPEN)
    assert planned["changed"] and planned["migration"]["dest_host"] == "B" and planned["migration"]["uuid"] is None
    assert planned["diff"]["after"]["status"] == "accepted" and planned["diff"]["before"] == {}
    assert run(migration_record_info, _check=True)["as_of"] == 0
    assert list(tmp_path.iterdir()) == []


def test_diff_mode_shows_the_status_before_and_after(run: Run) -> None:
    uuid = run(**OPEN)["migration"]["uuid"]
    arguments = {"action": "transition", "uuid": uuid, "epoch": 1, "status": "pre-migrating"}
    expected = {"before": {"status": "accepted"}, "after": {"status": "pre-migrating"}}
    assert run(_check=True, _diff=True, **arguments)["diff"] == expected
    assert run(_diff=True, **arguments)["diff"] == expected
    assert "diff" not in run(**arguments)


def test_no_valid_host_fails_and_returns_the_record(run: Run) -> None:
    failed = run(**{**OPEN, "candidates": []})
    assert failed["failed"] and failed["msg"].startswith("no valid host") and failed["migration"]["status"] == "error"


def test_what_speaks_against_the_move_besides_is_told_with_no_valid_host(run: Run) -> None:
    failed = run(**{**OPEN, "candidates": [], "rejected": [{"host": "b", "reasons": ["is full"]}], "blockers": ["the server is locked"]})
    assert failed["msg"].endswith("  b: is full\n  the server is locked")


def test_a_second_migration_fails_and_names_the_first(run: Run) -> None:
    first = run(**OPEN)["migration"]
    failed = run(**{**OPEN, "owner": {"controller": "ops2"}})
    assert failed["failed"] and "started by alice" in failed["msg"] and failed["migration"]["uuid"] == first["uuid"]


def test_a_superseded_run_is_told_so(run: Run) -> None:
    uuid = run(**OPEN)["migration"]["uuid"]
    assert run(action="adopt", uuid=uuid, expected_epoch=1, owner={"controller": "ops2"})["migration"]["epoch"] == 2
    failed = run(action="heartbeat", uuid=uuid, epoch=1)
    assert failed["failed"] and failed["superseded"] is True and "superseded by run" in failed["msg"]


def test_the_definition_stays_out_of_sight(run: Run) -> None:
    opened = run(_diff=True, **OPEN)
    assert "s3cret" not in json.dumps(opened) and "s3cret" not in json.dumps(info(run, with_events=True))
    assert "s3cret" in info(run, with_definition=True)[0]["domain_xml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"action": "open"}, "missing: server_uuid, server_name, migration_type, source_host, candidates, need, as_of"),
        ({"action": "adopt", "uuid": "x"}, "missing: expected_epoch, owner"),
        ({"action": "phase", "uuid": "x", "epoch": 1}, "missing: name, started_at"),
        ({"action": "transition", "uuid": "x", "epoch": "one", "status": "finished"}, "epoch"),
        ({"action": "transition", "uuid": "x", "epoch": 1, "status": "cancelled"}, "value of status must be one of"),
        ({"action": "close", "uuid": "x", "epoch": 1, "status": "finished"}, "not closed by status finished"),
        ({"action": "heartbeat", "uuid": "x", "epoch": 1}, "there is no record store"),
        ({**OPEN, "server_uuid": "web01"}, "'web01' is not a UUID"),
        ({**OPEN, "url": "mysql://u:s3cret@db/x"}, "only postgresql"),
    ],
)
def test_bad_input_gets_one_clear_error(run: Run, tmp_path: Path, arguments: dict[str, t.Any], message: str) -> None:
    failed = run(**arguments)
    assert failed["failed"] and message in failed["msg"] and "Traceback" not in json.dumps(failed)
    assert "s3cret" not in failed["msg"]


@pytest.mark.parametrize("module", [migration_record, migration_record_info])
def test_without_sqlalchemy_it_says_what_to_install(run: Run, module: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAS_SQLALCHEMY", False)
    monkeypatch.setattr(module, "SQLALCHEMY_IMPORT_ERROR", "no module")
    failed = run(module, **(OPEN if module is migration_record else {}))
    assert failed["failed"] and "SQLAlchemy" in failed["msg"]


def test_the_documentation_knows_the_same_statuses_and_path() -> None:
    for module in (migration_record, migration_record_info):
        options = yaml.safe_load(module.DOCUMENTATION)["options"]
        assert options["status"]["choices"] == list(transitions.STATUSES)
    fragment = Path(record_database.__file__).parents[2] / "doc_fragments" / "_records.py"
    assert f"default: {record_database.DEFAULT_PATH}" in fragment.read_text()
