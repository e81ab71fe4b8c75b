# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks as operators write them: taken as meant, or everything that is wrong in one line."""

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import health

DEFAULTS = {"address": None, "port": None, "command": None, "timeout": 60.0, "interval": 1.0}
RESULT: health.Result = {"type": "tcp", "address": None, "port": 22, "command": None, "ok": True, "attempts": 1, "seconds": 0.1, "detail": "fine"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"type": "running"}, {"type": "running"}),
        ({"type": "agent", "timeout": "90", "interval": "0.5"}, {"type": "agent", "timeout": 90.0, "interval": 0.5}),
        ({"type": "tcp", "port": "22"}, {"type": "tcp", "port": 22}),
        ({"type": "tcp", "port": 22, "address": " fd88::1 ", "timeout": 0}, {"type": "tcp", "port": 22, "address": "fd88::1", "timeout": 0.0}),
        ({"type": "ping", "address": "web1.example.com", "port": None, "command": ""}, {"type": "ping", "address": "web1.example.com"}),
        ({"type": "command", "command": ("sleep", 1)}, {"type": "command", "command": ["sleep", "1"]}),
    ],
)
def test_what_is_meant(written: dict[str, t.Any], meant: dict[str, t.Any]) -> None:
    """Strings for numbers, empty strings for what is not given; also as JSON. What came out can go in again."""
    assert health.parsed([written]) == [{**DEFAULTS, **meant}]
    assert health.parsed(json.dumps([written])) == health.parsed(health.parsed([written]))


@pytest.mark.parametrize("nothing", [None, "", "  ", [], "[]"])
def test_nothing_is_no_checks(nothing: t.Any) -> None:
    assert health.parsed(nothing) == []


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("running", "a list of checks, or JSON of one"),
        ('{"type": "running"}', "it must be a list of checks"),
        ({"type": "running"}, "it must be a list of checks"),
        (True, "it must be a list of checks"),
        (["running"], "check 1: it must be a mapping with a type, one of running, agent, tcp, ping, command"),
        ([{}], "check 1: type is missing"),
        ([{"type": "tpc"}], "check 1: no such type: 'tpc' (did you mean tcp?)"),
        ([{"type": "x\x1b"}], "no such type: 'x\\x1b' (there are running, agent, tcp, ping, command)"),
        ([{"type": ["tcp"]}], "no such type"),
        ([{"type": "tcp"}], "check 1 (tcp): port is missing"),
        ([{"type": "tcp", "port": "ssh"}], "port is 'ssh': a number from 1 to 65535 is needed"),
        ([{"type": "tcp", "port": 0}], "port is 0"),
        ([{"type": "tcp", "port": 22, "adress": "x"}], "no such key: 'adress' (did you mean address?)"),
        ([{"type": "ping", "port": 22}], "check 1 (ping): port is not for this type"),
        ([{"type": "ping", "address": "-f"}], "address is '-f': it must be a name or an address"),
        ([{"type": "ping", "address": "a b"}], "it must be a name or an address"),
        ([{"type": "agent", "address": "10.0.0.1"}], "address is not for this type"),
        ([{"type": "command"}], "command is missing"),
        ([{"type": "command", "command": "curl x"}], "command is 'curl x': it must be a list of words"),
        ([{"type": "command", "command": []}], "it must be a list of words"),
        ([{"type": "command", "command": [["true"]]}], "it must be a list of words"),
        ([{"type": "command", "command": [""]}], "it must be a list of words"),
        ([{"type": "running", "timeout": "1 min"}], "timeout is '1 min': it must be a number of seconds"),
        ([{"type": "running", "timeout": -1}], "timeout is -1"),
        ([{"type": "running", "interval": 0}], "interval is 0: it must be more than 0 seconds"),
    ],
)
def test_what_is_wrong(written: t.Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        health.parsed(written)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_everything_that_is_wrong_at_once() -> None:
    """Each check by its number, each of its faults."""
    with pytest.raises(ValueError, match=r"check 1 \(tcp\): no such key: 'prot'.*, port is missing, timeout is 'x'.*; check 3: no such type"):
        health.parsed([{"type": "tcp", "prot": 22, "timeout": "x"}, {"type": "agent"}, {"type": "http"}])


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner))
)
def test_anything_is_taken_or_refused(written: t.Any) -> None:
    """Never another exception, and what is taken is whole."""
    try:
        checks = health.parsed(written)
    except ValueError:
        return
    assert all(set(check) == {"type", *DEFAULTS} for check in checks)


# --- words


def test_refusal_has_all_that_failed() -> None:
    results: list[health.Result] = [
        {**RESULT, "ok": False, "address": "10.0.0.5", "attempts": 60, "seconds": 60.2, "detail": "Connection refused"},
        RESULT,
        {**RESULT, "type": "command", "command": ["curl", "a b\n"], "ok": False, "seconds": 3.0, "detail": "exit code 7"},
        {**RESULT, "type": "agent", "ok": None},
    ]
    assert health.refusal("web1", results) == (
        "server web1 did not pass 2 of 4 health checks: TCP port 22 of 10.0.0.5: Connection refused (tried for 1 min 00 s, 60 times); "
        "command curl 'a b\\n': exit code 7 (tried for 3.0 s, once)"
    )
    assert health.refusal("web1", [RESULT]) is None
    assert health.refusal("web1", []) is None


def test_label_names_every_type() -> None:
    for kind in health.TYPES:
        assert health.label({**RESULT, "type": kind, "command": ["true"]})
