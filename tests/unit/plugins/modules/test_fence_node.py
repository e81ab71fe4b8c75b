# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fence_node and node_look as Ansible runs them: JSON in, JSON out, and no secret in it."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import fence_agent
from ansible_collections.coldmove.libvirt.plugins.modules import fence_node, node_look

Run = t.Callable[..., dict[str, t.Any]]
#: An agent whose node has its power in a file. It tells everything that it was told, as a careless one would.
AGENT = """\
#!/bin/sh
told=$(cat); here=$(dirname "$0")
echo "ERROR: I was told $told" | tr '\\n' ' ' >&2
case $told in
    *action=off*) [ -e $here/stuck ] || echo OFF >$here/power; echo "Success: Powered OFF" ;;
    *) read power <$here/power; echo "Status: $power"; [ $power = ON ] || exit 2 ;;
esac
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setattr(fence_agent, "FOLDER", tmp_path)
    (tmp_path / "fence_made").write_text(AGENT)
    (tmp_path / "fence_made").chmod(0o755)
    (tmp_path / "power").write_text("ON\n")

    def _run(action: str, _check: bool = False, **more: t.Any) -> dict[str, t.Any]:
        given = {"agent": "fence_made", "options": {"ip": "192.0.2.1", "password": "s3cret", "lanplus": True, "ipport": 623}, "interval": 0, **more}
        with patch_module_args({"action": action, "_ansible_check_mode": _check, "_ansible_diff": True, **given}), pytest.raises(SystemExit):
            fence_node.main()
        output = capsys.readouterr().out
        assert "s3cret" not in output
        return dict(json.loads(output))

    return _run


def test_documented_options_are_those_of_the_module() -> None:
    for module in (fence_node, node_look):
        documented = yaml.safe_load(module.DOCUMENTATION)["options"]
        assert set(documented) == set(module.ARGUMENT_SPEC)
        for name, spec in module.ARGUMENT_SPEC.items():
            assert (documented[name]["type"], documented[name].get("default"), documented[name].get("choices"), documented[name].get("required", False)) == (
                spec["type"], spec.get("default"), spec.get("choices"), spec.get("required", False)
            )  # fmt: skip


def test_status_off_and_off_again(run: Run) -> None:
    result = run("status")
    assert (result["changed"], result["power"], len(result["readings"])) == (False, "on", 1)
    result = run("off")
    assert (result["changed"], result["power"], result["diff"]) == (True, "off", {"before": {"power": "on"}, "after": {"power": "off"}})
    assert [reading["power"] for reading in result["readings"]] == ["on", "off", "off", "off"]
    result = run("off")
    assert (result["changed"], result["power"], result["diff"]["before"]) == (False, "off", {"power": "off"})


def test_check_mode_only_reads(run: Run, tmp_path: Path) -> None:
    result = run("off", _check=True)
    assert (result["changed"], result["power"], result["diff"]["after"]) == (True, "on", {"power": "off"})
    assert (tmp_path / "power").read_text() == "ON\n"


def test_numbers_and_dates_are_not_torn_by_what_is_hidden(run: Run) -> None:
    result = run("status")
    assert result["readings"][0]["at"].startswith("2")
    assert "*" not in json.dumps(result["readings"])
    # With newer versions of ansible-core a module does not tell its arguments at all.
    if "invocation" in result:
        assert result["invocation"]["module_args"]["options"]["password"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
        assert result["invocation"]["module_args"]["options"]["ip"] == "192.0.2.1"


def test_success_that_is_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "stuck").touch()
    result = run("off", attempts=1)
    assert result["failed"]
    assert "the power is not proven off" in result["msg"]
    assert result["power"] == "on"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"agent": "fence_maed"}, "fence_maed is not installed on this host; there are fence_made in"),
        ({"agent": "rm -rf"}, "must be the name of a program of the fence-agents project"),
        ({"options": {"password": "s3cret\nx"}}, "the option password must be one line"),
        ({"readings": 0}, "readings is 0: it must be more than 0"),
        ({"timeout": -1}, "timeout is -1.0: it must be more than 0"),
    ],
)
def test_what_is_wrong_is_one_clear_line(run: Run, given: dict[str, t.Any], words: str) -> None:
    result = run("off", **given)
    assert result["failed"]
    assert words in result["msg"]


def test_node_look(capsys: pytest.CaptureFixture[str]) -> None:
    with patch_module_args({"by": "b", "addresses": [{"address": "nosuch.invalid"}]}), pytest.raises(SystemExit):
        node_look.main()
    result = json.loads(capsys.readouterr().out)
    assert not result["changed"]
    assert set(result["look"]) == {"by", "ssh", "host", "ping", "detail"}
