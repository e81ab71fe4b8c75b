# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose record a server is, and when it is forgotten."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import last_known
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import STATUSES, UNDER_WAY
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import a_domain, a_migration, a_node, a_silent_node, uuid_of


def seen(state: str = "running"):
    return {"server_uuid": uuid_of(1), "name": "web1", "state": state}


def kept_by(states: dict[str, str], migrations=()) -> list[str]:
    """Which nodes keep the server, if each sees it in this state."""
    nodes = {name: a_node(name, [a_domain(1, state=state)]) for name, state in states.items()}
    return [name for name, state in states.items() if last_known.own_servers([seen(state)], name, nodes, migrations)["servers"]]


def test_alone_it_is_the_nodes_own():
    nodes = {"a": a_node("a", [a_domain(1)]), "b": a_node("b", [a_domain(2)]), "c": a_silent_node("c")}
    assert last_known.own_servers([seen()], "a", nodes, []) == {"servers": [seen()], "problems": []}


@pytest.mark.parametrize(
    ("states", "keeps"),
    [
        ({"a": "running", "b": "shutoff"}, ["a"]),
        ({"a": "shutoff", "b": "paused"}, ["b"]),
        ({"a": "shutoff", "b": "shutoff"}, []),
        ({"a": "running", "b": "running"}, []),
        ({"a": "shutoff", "b": "crashed", "c": "running"}, ["c"]),
    ],
)
def test_on_two_nodes_the_running_one_counts_and_in_doubt_none(states, keeps):
    assert kept_by(states) == keeps


def test_never_two_nodes_keep_one_server():
    for first, second in itertools.product(("running", "paused", "shutoff", "crashed", "pmsuspended"), repeat=2):
        assert len(kept_by({"a": first, "b": second})) <= 1


@pytest.mark.parametrize("state", ["running", "shutoff"])
def test_what_is_left_over_never_counts(state):
    """An evacuated node is back: its copy, whatever its state is, is not the server. Nor does it put the true one into doubt."""
    evacuated = a_migration(1, "done", migration_type="evacuation", pending_hosts=["a"])
    assert kept_by({"a": state, "b": "shutoff"}, [evacuated]) == ["b"]
    assert kept_by({"a": state}, [evacuated]) == []
    nodes = {"a": a_node("a", [a_domain(1)])}
    assert "recover -e host=a" in last_known.own_servers([seen()], "a", nodes, [evacuated])["problems"][0]


def test_gone_is_only_what_no_node_has_and_only_if_all_were_asked():
    known = [{"server_uuid": uuid_of(number), "host": host} for number, host in ((1, "a"), (2, "a"), (3, "b"), (4, "lost"))]
    nodes = {"a": a_node("a", [a_domain(1)]), "b": a_node("b", [a_domain(2)])}
    assert last_known.gone_servers(known, nodes) == [uuid_of(3)]
    assert last_known.gone_servers(known, {**nodes, "c": a_silent_node("c")}) == []


def test_where_to_look_when_a_verb_has_ended():
    expected = {"finished": "b", "confirmed": "b", "reverted": "a", "error": "a", "failed": "a", "done": "b", "completed": "b"}
    for status in STATUSES:
        assert last_known.host_of(a_migration(1, status)) == ("" if status in UNDER_WAY else expected[status])
    assert last_known.host_of({}) == ""
    assert last_known.host_of({"server_name": "web1", "status": "refused", "source_host": "a"}) == ""
