# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a node counts as off, and what forbids to ask."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import fencing
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

FENCE = {"agent": "fence_ipmilan", "options": {"ip": "192.0.2.1", "password": "s3cret"}}
SILENT: fencing.Look = {"by": "b", "ssh": False, "host": False, "ping": False, "detail": "192.0.2.1: no answer"}


def nodes(*names: str, silent: t.Collection[str] = ("a",)) -> dict[str, dict[str, t.Any]]:
    return {name: {"name": name, "reachable": name not in silent} for name in names}


def readings(*powers: str) -> list[fencing.Reading]:
    return [{"at": str(number), "power": power, "detail": ""} for number, power in enumerate(powers)]


# --- what is written


def test_options_become_what_an_agent_reads() -> None:
    found = fencing.fence_of({"agent": "fence_redfish", "options": {"ip": "::1", "ipport": 623, "ssl": True, "ssl_insecure": False, "plug": None}})
    assert found == ("fence_redfish", {"ip": "::1", "ipport": "623", "ssl": "1", "ssl_insecure": "0", "plug": ""})
    assert fencing.fence_of({"agent": "fence_dummy"}) == ("fence_dummy", {})


@pytest.mark.parametrize("nothing", [None, "", {}])
def test_no_fence_is_none(nothing: t.Any) -> None:
    assert fencing.fence_of(nothing) is None


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("fence_ipmilan", "it must be a dictionary"),
        ({"agent": "fence_ipmilan", "ip": "::1"}, "unknown key ip"),
        ({"options": {}}, "name of a program"),
        ({"agent": "../fence_x"}, "name of a program"),
        ({"agent": "fence_x; id"}, "name of a program"),
        ({"agent": "reboot"}, "name of a program"),
        ({"agent": "fence_x", "options": ["s3cret"]}, "options must be a dictionary"),
        ({"agent": "fence_x", "options": {"action": "on"}}, "the option action is not for the inventory"),
        ({"agent": "fence_x", "options": {"ACTION": "on"}}, "the option ACTION is not for the inventory"),
        ({"agent": "fence_x", "options": {"a=b": "s3cret"}}, "is not the name of an option"),
        ({"agent": "fence_x", "options": {"password": "s3cret\naction=on"}}, "the option password must be one line"),
        ({"agent": "fence_x", "options": {"password": ["s3cret"]}}, "the option password must be one line"),
    ],
)
def test_malformed_fence_is_told_without_its_secrets(written: t.Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        fencing.fence_of(written)
    assert "s3cret" not in str(caught.value)


def test_what_may_be_a_secret() -> None:
    """Unknown options too; a flag is none, as hiding it would tear every number and date."""
    options = {"ip": "192.0.2.1", "username": "ops", "lanplus": "1", "odd": "true", "other": "1", "empty": "", "password": "12", "unknown": "hidden"}
    assert fencing.secrets(options) == {"12", "hidden"}


@pytest.mark.parametrize("written", ["alice", "alice:", ": went there", " : "])
def test_a_statement_says_who_and_why(written: str) -> None:
    with pytest.raises(ValueError, match="NAME: REASON"):
        fencing.statement_of(written)


def test_a_reason_may_have_a_colon() -> None:
    assert fencing.statement_of(" alice : pulled the plug: rack 7 ") == ("alice", "pulled the plug: rack 7")
    assert fencing.statement_of("") is None is fencing.statement_of(None)


# --- what was seen


@pytest.mark.parametrize(
    ("result", "ssh"),
    [
        ({"ping": "pong"}, True),
        ({"failed": True, "msg": "no python there"}, True),
        ({"node_silent": True, "msg": "Connection timed out"}, False),
        ({"node_silent": True, "msg": "root@a: Permission denied (publickey)."}, True),
        ({"node_silent": True, "msg": "Host key verification failed."}, True),
    ],
)
def test_what_the_controllers_own_connection_says(result: dict[str, t.Any], ssh: bool) -> None:
    assert fencing.controller_look(result)["ssh"] is ssh


@pytest.mark.parametrize("way", ["ssh", "host", "ping"])
def test_any_answer_to_anybody_is_one(way: str) -> None:
    look: t.Any = {**SILENT, way: True}
    (reason,) = fencing.blockers("a", nodes("a", "b", "c"), FENCE, "", looks=[SILENT, look])
    assert "a is up: it answers to b" in reason
    assert "power it off first" in reason
    assert fencing.blockers("a", nodes("a", "b", "c"), None, "ann: sure", looks=[look]) == [reason]


def test_an_echo_that_could_not_be_tried_is_none() -> None:
    assert fencing.blockers("a", nodes("a", "b", "c"), FENCE, "", looks=[{**SILENT, "ping": None}]) == []


def test_all_reasons_at_once() -> None:
    reasons = fencing.blockers("a", nodes("a", "b", silent=()), {"agent": "rm"}, "ann")
    assert [reason.partition(":")[0] for reason in reasons] == ["the variable fence of a is malformed", "fenced_by is malformed", "a is up"]
    reasons = fencing.blockers("a", nodes("a", "b", "c", silent=("a", "b")), None, "")
    assert "nothing proves that a is off" in reasons[0]
    assert "2 of 3 compute nodes do not answer (a, b)" in reasons[1]


def test_unknown_node() -> None:
    assert fencing.blockers("nod1", nodes("node1", "x"), FENCE, "") == ["'nod1' is not a compute node of the inventory; there are node1"]


@given(st.integers(1, 30), st.data())
def test_more_than_half_is_a_mass_failure(count: int, data: st.DataObject) -> None:
    names = [f"n{number}" for number in range(count)]
    silent = {"n0", *data.draw(st.sets(st.sampled_from(names)))}
    reasons = fencing.blockers("n0", nodes(*names, silent=silent), FENCE, "")
    assert bool(reasons) == (len(silent) > count / 2)
    assert fencing.blockers("n0", nodes(*names, silent=silent), FENCE, "", accept_mass_failure=True) == []


# --- what was read


@given(st.lists(st.sampled_from(["on", "off", "unknown"])), st.integers(1, 5))
def test_only_an_unbroken_end_counts(powers: list[str], needed: int) -> None:
    expected = len(powers) >= needed and set(powers[-needed:]) == {"off"}
    assert fencing.is_settled(readings(*powers), "off", needed) is expected


def prove(fenced_by: str = "", *powers: str, check: bool = False, agent: bool = True) -> fencing.Proof:
    return fencing.proof("a", FENCE if agent else None, fenced_by, "ops", "now", [SILENT], {"readings": readings(*powers)} if powers else {}, check)


def test_proof_by_an_agent() -> None:
    found = prove("", "on", "off", "off", "off")
    assert (found["by"], found["how"], found["agent"], found["proven"], len(found["readings"])) == ("ops", "agent", "fence_ipmilan", True, 4)
    for powers in [(), ("off", "off"), ("off", "off", "unknown"), ("off", "off", "off", "on")]:
        with pytest.raises(ColdmoveError, match="Nothing was started"):
            prove("", *powers)


def test_proof_by_a_statement() -> None:
    found = prove("ann: plug pulled", agent=False)
    assert (found["by"], found["reason"], found["how"], found["agent"], found["proven"]) == ("ann", "plug pulled", "statement", None, True)
    assert prove("ann: plug pulled", "unknown")["proven"]
    with pytest.raises(ColdmoveError, match="a is not proven off"):
        prove("ann: plug pulled", "on")


@pytest.mark.parametrize(("power", "count"), [("on", 1), ("off", 0), ("unknown", 0)])
def test_a_reading_that_contradicts_a_statement(power: str, count: int) -> None:
    assert len(fencing.blockers("a", nodes("a", "b", "c"), FENCE, "ann: plug pulled", looks=[SILENT], readings=readings(power))) == count
    assert fencing.blockers("a", nodes("a", "b", "c"), FENCE, "", looks=[SILENT], readings=readings(power)) == []


def test_check_mode_proves_nothing() -> None:
    assert prove("", "on", check=True)["proven"] is False
    assert prove("ann: plug pulled", check=True)["proven"] is False
