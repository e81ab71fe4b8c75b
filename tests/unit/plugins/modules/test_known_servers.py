# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""server_record, compute_service and their _info modules as Ansible runs them: JSON in, JSON out."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from contracts.known_servers import A_UUID, SHARED, snapshot

from ansible_collections.coldmove.libvirt.plugins.modules import compute_service, compute_service_info, server_record, server_record_info, virt_storage

Run = t.Callable[..., dict[str, t.Any]]
MODULES = (compute_service, compute_service_info, server_record, server_record_info)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module on the test's own store; ``_check`` and ``_diff`` are Ansible's modes."""

    def _run(module: t.Any, _check: bool = False, _diff: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        place = {"path": str(tmp_path / "new" / "records.sqlite")} if module in MODULES else {}
        with patch_module_args({**place, "_ansible_check_mode": _check, "_ansible_diff": _diff, **arguments}), pytest.raises(SystemExit):
            module.main()
        return dict(json.loads(capsys.readouterr().out))

    return _run


def test_a_server_from_its_first_record_to_its_last(run: Run) -> None:
    given = {"host": "A", "servers": [snapshot()], "storage": SHARED, "as_of": "0"}
    assert run(server_record, **given)["changed"]
    assert run(server_record, **given) | {"invocation": None} == {"changed": False, "left": {}, "invocation": None}
    found = run(server_record_info, server="web01")
    assert (found["changed"], found["servers"][0]["host"], found["storage"]["A"]["/srv/b"]["seen_by"]) == (False, "A", [])
    assert run(server_record, state="absent", uuids=[A_UUID])["changed"]
    assert not run(server_record, state="absent", uuids=[A_UUID])["changed"]
    assert run(server_record_info)["servers"] == []


def test_check_mode_says_what_it_would_do_and_creates_nothing(run: Run, tmp_path: Path) -> None:
    assert run(server_record, _check=True, host="A", servers=[snapshot()])["changed"]
    assert run(compute_service, _check=True, host="A", state="disabled")["changed"]
    assert run(server_record_info)["servers"] == [] and run(compute_service_info)["services"] == {}
    assert list(tmp_path.iterdir()) == []


def test_the_definition_stays_out_of_sight(run: Run) -> None:
    saved = run(server_record, _diff=True, host="A", servers=[snapshot()])
    assert saved["diff"]["before"] == {A_UUID: {}} and saved["diff"]["after"][A_UUID]["host"] == "A"
    assert "s3cret" not in json.dumps(saved) + json.dumps(run(server_record_info))
    changed = run(server_record, _diff=True, host="A", servers=[snapshot(xml="<graphics passwd='0ther'/>")])["diff"]
    assert changed["before"][A_UUID]["xml"] != changed["after"][A_UUID]["xml"] and "0ther" not in json.dumps(changed)
    assert "0ther" in run(server_record_info, with_definition=True)["servers"][0]["xml"]


def test_out_of_service_and_back(run: Run) -> None:
    disabled = run(compute_service, _diff=True, host="A", state="disabled", by="alice", reason="a fan")
    assert disabled["changed"] and disabled["diff"]["after"]["disabled"]["reason"] == "a fan"
    assert disabled["reasons"] == [f"disabled by alice on {disabled['service']['disabled']['at']}: a fan"]
    assert not run(compute_service, host="A", state="disabled", by="alice", reason="a fan")["changed"]
    assert run(compute_service, host="A", fenced={"how": "agent"}, forced_down=True, by="bob")["changed"]
    flags = run(compute_service_info)["services"]["A"]
    assert (flags["fenced"]["how"], flags["fenced"]["by"], flags["forced_down"]["by"], flags["drained"]) == ("agent", "bob", "bob", None)
    assert run(compute_service, host="A", forced_down=False)["service"]["forced_down"] is None
    enabled = run(compute_service, host="A", state="enabled")
    assert enabled["changed"] and enabled["reasons"] == []
    assert not run(compute_service, host="A", state="enabled")["changed"]


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (server_record, {}, "missing: host, servers"),
        (server_record, {"state": "absent"}, "missing: uuids"),
        (server_record, {"host": "A", "servers": [{"name": "x"}]}, "missing required arguments: autostart, facts, server_uuid, state, xml"),
        (compute_service, {"host": "A"}, "one of the following is required: state, forced_down, fenced, drained"),
        (compute_service, {"host": "A", "state": "enabled", "fenced": {"how": "x"}}, "cannot be given with fenced"),
        (compute_service_info, {"url": "mysql://u:s3cret@db/x"}, "only postgresql"),
        (virt_storage, {"state": "written"}, "missing: host, directories"),
        (virt_storage, {"state": "read"}, "missing: of"),
    ],
)
def test_bad_input_gets_one_clear_error(run: Run, module: t.Any, arguments: dict[str, t.Any], message: str) -> None:
    failed = run(module, **arguments)
    assert failed["failed"] and message in failed["msg"] and "s3cret" not in failed["msg"]


@pytest.mark.parametrize("module", MODULES)
def test_without_sqlalchemy_it_says_what_to_install(run: Run, module: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAS_SQLALCHEMY", False)
    monkeypatch.setattr(module, "SQLALCHEMY_IMPORT_ERROR", "no module")
    arguments = {compute_service: {"host": "A", "state": "enabled"}, server_record: {"state": "absent", "uuids": []}}
    assert "SQLAlchemy" in run(module, **arguments.get(module, {}))["msg"]


def test_words_by_the_module(run: Run, tmp_path: Path) -> None:
    here = str(tmp_path)
    assert run(virt_storage, _check=True, state="written", host="a", directories=[here])["written"] == {here: ""}
    written = run(virt_storage, state="written", host="a", directories=[here])
    assert written["changed"] and written["failed"] == {}
    assert run(virt_storage, state="read", of={"a": [here]})["read"] == {"a": {here: [written["written"][here]]}}
    assert run(virt_storage, state="read", of={"a": written["written"]})["changed"] is False
    assert run(virt_storage, _check=True, state="absent", host="a", directories=[here])["removed"] == [here]
    assert run(virt_storage, state="absent", host="a", directories=[here])["changed"]
    assert not run(virt_storage, state="absent", host="a", directories=[here])["changed"]
