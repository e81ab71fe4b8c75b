# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers an operator means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.servers import resolve_servers
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import a_domain, a_migration, a_node, a_silent_node, uuid_of

HOSTILE = ["a, b", "it's", 'say "hi"', "a/b", "naïve-ü-日本", "$(reboot)", "{{ 7 * 7 }}", "-e", "a  b", "\u202egnp"]


def cluster(*names: str) -> dict:
    """Node a with servers of these names, node b with none."""
    return {"a": a_node("a", [a_domain(number, name) for number, name in enumerate(names, 1)]), "b": a_node("b")}


@pytest.mark.parametrize("nothing", ["", "  ", None, [], [""], ",", " , "])
def test_empty_is_not_given(nothing):
    assert resolve_servers(nothing, cluster("web1")) == {"given": False, "servers": [], "errors": []}


def test_a_name_and_a_uuid_are_found_once():
    answer = resolve_servers(f"web1, {uuid_of(1).upper()},web2", cluster("web1", "web2"))
    assert [(found["name"], found["host"], found["state"]) for found in answer["servers"]] == [("web1", "a", "running"), ("web2", "a", "running")]
    assert not answer["errors"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("as_list", [False, True])
def test_any_name_is_taken_as_it_is(name, as_list):
    answer = resolve_servers([name] if as_list else name, cluster("web1", name))
    assert [found["uuid"] for found in answer["servers"]] == [uuid_of(2)]


@given(st.lists(st.text(min_size=1).filter(lambda name: name.strip() and "\n" not in name), min_size=1, max_size=5, unique=True))
def test_a_list_of_names_is_never_split(names):
    answer = resolve_servers(list(names), cluster(*names))
    # A name may look like a UUID; none of these does.
    assert [found["name"] for found in answer["servers"]] == names


def test_one_name_a_line_as_surveys_give_it():
    assert len(resolve_servers("web1\nweb2\n", cluster("web1", "web2"))["servers"]) == 2


@pytest.mark.parametrize("wrong", [{"name": "web1"}, 3.5, [True], [["web1"]], [None]])
def test_malformed_is_one_error(wrong):
    answer = resolve_servers(wrong, cluster("web1"))
    assert answer["servers"] == []
    assert len(answer["errors"]) == 1


def test_a_slip_is_corrected_with_its_place():
    (error,) = resolve_servers("wbe1", cluster("web1"))["errors"]
    assert "'wbe1'" in error
    assert "'web1' (on a)" in error


def test_all_errors_at_once():
    assert len(resolve_servers("x1,x2,x1", cluster("web1"))["errors"]) == 2


def test_an_unknown_server_may_be_on_a_silent_node():
    (error,) = resolve_servers("db", {**cluster("web1"), "c": a_silent_node("c")})["errors"]
    assert "c (No route to host)" in error
    assert "ansible-playbook coldmove.libvirt.evacuate -e failed_host=c" in error


def test_case_14_a_server_last_seen_on_a_silent_node_points_to_evacuate():
    nodes = {"a": a_silent_node("a"), "b": a_node("b")}
    (error,) = resolve_servers("web1", nodes, [a_migration(1, "reverted", "a", "b")])["errors"]
    assert "was last on a" in error
    assert "coldmove.libvirt.evacuate -e failed_host=a" in error


def test_a_confirmed_server_was_last_on_its_dest():
    nodes = {"a": a_node("a"), "b": a_silent_node("b")}
    (error,) = resolve_servers("web1", nodes, [a_migration(1, "confirmed", "a", "b")])["errors"]
    assert "was last on b" in error


def test_the_newest_record_counts():
    nodes = {"a": a_silent_node("a"), "b": a_silent_node("b")}
    records = [a_migration(2, "confirmed", "b", "a", server_uuid=uuid_of(1), server_name="web1"), a_migration(1, "confirmed", "a", "b")]
    (error,) = resolve_servers("web1", nodes, records)["errors"]
    assert "was last on a" in error


def test_case_23_a_node_that_left_the_inventory_is_named():
    (error,) = resolve_servers("web1", {"a": a_node("a")}, [a_migration(1, "confirmed", "a", "gone")])["errors"]
    assert "was last on gone" in error
    assert "not in the inventory" in error


def test_one_name_on_two_nodes_is_ambiguous():
    nodes = {"a": a_node("a", [a_domain(1, "db")]), "b": a_node("b", [a_domain(2, "db")])}
    (error,) = resolve_servers("db", nodes)["errors"]
    assert f"{uuid_of(1)} on a" in error
    assert f"{uuid_of(2)} on b" in error
    assert resolve_servers(uuid_of(2), nodes)["servers"][0]["host"] == "b"


def test_one_uuid_on_two_nodes_is_refused_and_both_are_listed():
    nodes = {"a": a_node("a", [a_domain(1)]), "b": a_node("b", [a_domain(1, state="shutoff")])}
    (error,) = resolve_servers("web1", nodes)["errors"]
    assert "a (running)" in error
    assert "b (shutoff)" in error


def test_an_open_migration_explains_two_definitions():
    nodes = {"a": a_node("a", [a_domain(1, state="shutoff")]), "b": a_node("b", [a_domain(1)])}
    record = a_migration(1, "post-migrating")
    (found,) = resolve_servers("web1", nodes, [record])["servers"]
    assert (found["host"], found["migration"]) == ("a", record["uuid"])
    (found,) = resolve_servers("web1", nodes, [a_migration(1, "finished")])["servers"]
    assert found["host"] == "b"


def test_a_held_server_is_found_by_its_record():
    nodes = {"a": a_node("a"), "b": a_node("b")}
    (found,) = resolve_servers("web1", nodes, [a_migration(1, "migrating")])["servers"]
    assert (found["host"], found["state"]) == ("a", "absent")
    nodes["a"] = a_silent_node("a")
    (found,) = resolve_servers(uuid_of(1), nodes, [a_migration(1, "migrating")])["servers"]
    assert (found["host"], found["state"]) == ("a", "unknown")


def test_an_old_record_does_not_make_a_live_name_ambiguous():
    nodes = {"a": a_node("a", [a_domain(2, "web1")])}
    (found,) = resolve_servers("web1", nodes, [a_migration(1, "confirmed", "a", "b")])["servers"]
    assert found["uuid"] == uuid_of(2)


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\u202eb"])
def test_control_characters_do_not_reach_the_terminal(name):
    (error,) = resolve_servers([name], cluster("web1"))["errors"]
    assert "\x1b" not in error
    assert "\u202e" not in error
