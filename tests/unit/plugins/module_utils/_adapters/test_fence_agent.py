# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fence agents as they answer: real programs, made up."""

from __future__ import annotations

import os
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import fence_agent
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.fence_agent import FenceAgent
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.fencing import Fence

Make = t.Callable[..., FenceAgent]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """An agent whose body is a shell script."""
    monkeypatch.setattr(fence_agent, "FOLDER", tmp_path)

    def _make(script: str, timeout: float = 20, **options: str) -> FenceAgent:
        program = tmp_path / "fence_made"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return FenceAgent(Fence("fence_made", options), timeout)

    return _make


@pytest.mark.parametrize(
    ("script", "power"),
    [
        ("echo Status: ON", "on"),
        ("echo Status: OFF; exit 2", "off"),
        ("echo noise; echo Status: OFF; exit 2", "off"),
        ("exit 2", "unknown"),  # bad arguments, for some agents
        ("exit 0", "unknown"),
        ("echo Status: OFF; exit 0", "unknown"),
        ("echo Status: ON; exit 2", "unknown"),
        ("echo Status: UNKNOWN; exit 1", "unknown"),
    ],
)
def test_code_and_words_must_agree(make: Make, script: str, power: str) -> None:
    assert make(script).power()[0] == power


def test_an_agents_own_words(make: Make) -> None:
    log = "2026-11-21 15:57:10,289 ERROR: Failed: You have to enter fence address"
    said = f"echo '/usr/sbin/x:5: DeprecationWarning: y' >&2; echo '{log}' >&2; echo 'ERROR:root:Failed: You have to enter fence address' >&2; echo >&2"
    assert make(f"{said}; echo \"ERROR:root:Please use '-h' for usage\" >&2; exit 1").power() == ("unknown", "Failed: You have to enter fence address")
    assert make("echo odd >&2; exit 1").power() == ("unknown", "odd")
    assert make("exit 7").power() == ("unknown", "fence_made ended with code 7")


def test_an_option_that_it_does_not_know(make: Make) -> None:
    """Agents warn and go on without it."""
    agent = make("echo \"WARNING:root:Parse error: Ignoring unknown option 'plgu=s3cret'\" >&2; echo Status: OFF; exit 2")
    with pytest.raises(ColdmoveError, match="fence_made knows no option plgu; see: fence_made -o metadata"):
        agent.power()


def test_options_are_told_on_standard_input(make: Make, tmp_path: Path) -> None:
    agent = make(f'cat >{tmp_path}/told; echo "$@" >{tmp_path}/arguments; env >{tmp_path}/env', password=" s3cret ", quoted='"x"', plain='a"b=c')
    assert agent.switch("off") == ""
    assert (tmp_path / "told").read_text().splitlines() == ['password=" s3cret "', 'quoted=""x""', 'plain=a"b=c', "action=off"]
    assert (tmp_path / "arguments").read_text() == "\n"
    assert "s3cret" not in (tmp_path / "env").read_text()


def test_an_agent_that_reads_nothing(make: Make) -> None:
    assert make("exec <&-; sleep 0.1; echo Status: ON", long="x" * 200000).power()[0] == "on"


def test_time_out_ends_it_and_its_tool(make: Make, tmp_path: Path) -> None:
    agent = make(f"sleep 60 & echo $! >{tmp_path}/pid; wait", timeout=0.5)
    begun = time.monotonic()
    assert agent.power() == ("unknown", "fence_made gave no answer in 0.5 s")
    assert time.monotonic() - begun < 10
    with pytest.raises(ProcessLookupError):
        for _attempt in range(100):
            os.kill(int((tmp_path / "pid").read_text()), 0)
            time.sleep(0.05)


def test_unknown_agent(make: Make, tmp_path: Path) -> None:
    make("exit 0")
    (tmp_path / "fence_no_program").write_text("")
    assert fence_agent.installed() == ["fence_made"]
    for name in ("fence_mad", "zzz"):
        with pytest.raises(ColdmoveError, match=f"fence agent {name} is not installed on this host; there are fence_made in"):
            FenceAgent(Fence(name, {}), 1)
