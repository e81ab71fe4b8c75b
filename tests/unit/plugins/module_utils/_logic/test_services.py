# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags of nodes: who, when, why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import scheduler, services
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.report import node_table
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import a_migration, a_node, a_server, a_silent_node

FLAG = {"by": "alice", "reason": "a fan", "at": "2026-01-01T00:00:00Z"}


def test_each_flag_says_who_when_and_why():
    service = {"disabled": FLAG, "forced_down": None, "fenced": {"by": "bob: power strip", "how": "statement", "at": "2026-01-02"}, "drained": {}}
    assert services.reasons(service) == [
        "disabled by alice on 2026-01-01T00:00:00Z: a fan",
        "fenced by bob: power strip on 2026-01-02, statement",
    ]
    assert services.marks(service) == ["disabled", "fenced"]
    assert services.reasons(None) == services.reasons({}) == services.marks(None) == []
    assert services.reasons({"drained": {"x": 1}}) == ["drained by unknown on an unknown date"]


@pytest.mark.parametrize("flag", services.FLAGS)
def test_a_node_with_any_flag_is_no_target_and_the_table_says_why(flag):
    nodes = {"a": a_node("a"), "b": a_node("b", service={flag: FLAG}), "c": a_node("c", service={})}
    selection = scheduler.select_hosts(scheduler.request_for(a_server(), "a"), nodes)
    assert [candidate["host"] for candidate in selection["candidates"]] == ["c"]
    words = f"{services.FLAGS[flag]} by alice on 2026-01-01T00:00:00Z: a fan"
    assert words in next(rejected["reasons"] for rejected in selection["rejected"] if rejected["host"] == "b")
    lines = node_table(nodes, [])
    assert lines[3].split()[1] == flag
    assert lines[-1] == f"b: {words}"


def test_a_silent_node_shows_its_flags_too():
    node = {**a_silent_node("b"), "service": {"fenced": FLAG}, "maintenance": True}
    assert "silent, fenced, maintenance" in node_table({"b": node}, [])[2]


def evacuation(status: str, pending: list[str], kind: str = "evacuation"):
    return a_migration(1, status, migration_type=kind, pending_hosts=pending)


@pytest.mark.parametrize(
    ("migration", "held"),
    [
        (evacuation("done", ["a"]), 1),
        (evacuation("done", ["c"]), 0),
        (evacuation("pre-migrating", []), 1),
        (evacuation("completed", []), 0),
        (evacuation("error", ["b"]), 0),
        (evacuation("migrating", [], "migration"), 0),
        (evacuation("error", ["a"], "migration"), 0),
    ],
)
def test_what_keeps_a_node_out(migration, held):
    assert len(services.still_holds("a", [migration])) == held


@given(st.text(), st.text(), st.text())
def test_no_word_breaks_a_line(by, reason, how):
    for line in services.reasons({"fenced": {"by": by, "reason": reason, "how": how}}):
        assert "\n" not in line
        assert "\x1b" not in line


def test_a_flag_is_a_proof_only_of_what_was_before_it():
    def node(at):
        return {"service": {"fenced": {"by": "ann", "at": at}, "disabled": {"by": "ann", "at": "2026-09-01T00:00:00.000Z"}}}

    nodes = {"before": node("2026-01-01T11:59:59.999Z"), "then": node("2026-01-01T12:00:00.000Z"), "after": node("2026-01-01T12:00:00.001Z")}
    nodes.update({"undated": node(None), "disabled": {"service": {"disabled": {"at": "2026-09-01T00:00:00.000Z"}}}, "plain": {}, "none": {"service": None}})
    assert services.fenced(nodes, "2026-01-01T12:00:00.000Z") == {"after"}
