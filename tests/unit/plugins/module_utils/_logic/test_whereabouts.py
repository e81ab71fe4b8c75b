# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node is told when it asks which servers it must not start."""

from __future__ import annotations

import itertools
import typing as t

import hypothesis
import pytest
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import transitions, whereabouts

NODES = ("a", "b", "c")
Row = dict[str, t.Any]


def a_move(status: str, source: str = "a", dest: str | None = "b", kind: str = "migration", at: float = 10, server: str = "s", **more: t.Any) -> Row:
    """A row of the record store."""
    pending = transitions.pending_after(status, source, [])
    row = {"uuid": f"m{at}", "server_uuid": server, "server_name": f"web-{server}", "migration_type": kind, "status": status}
    return {**row, "source_host": source, "dest_host": dest, "pending_hosts": pending if kind == "evacuation" else [], "updated_at": at, **more}


def seen(host: str, at: float = 1, server: str = "s") -> Row:
    """A last-known record."""
    return {"server_uuid": server, "name": f"web-{server}", "host": host, "seen_at": at}


def told(host: str, migrations: t.Sequence[Row] = (), servers: t.Sequence[Row] = ()) -> str:
    """ "here", where the server is otherwise ("?": nobody knows), or "unknown"."""
    answer = whereabouts.answer(host, migrations, servers)
    assert answer["host"] == host and answer["version"] == 1
    if answer["managed"]:
        assert (answer["managed"], answer["away"]) == (["s"], [])
        return "here"
    return (answer["away"][0]["to"] or "?") if answer["away"] else "unknown"


def everywhere(migrations: t.Sequence[Row] = (), servers: t.Sequence[Row] = ()) -> tuple[str, ...]:
    """What nodes a, b and c are told."""
    return tuple(told(node, migrations, servers) for node in NODES)


def test_nothing_is_known_of_a_server_without_a_record() -> None:
    assert everywhere() == ("unknown", "unknown", "unknown")


def test_a_server_that_was_only_seen_belongs_there() -> None:
    assert everywhere(servers=[seen("a")]) == ("here", "a", "a")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("accepted", ("here", "a", "a")),
        ("pre-migrating", ("here", "a", "a")),
        ("migrating", ("here", "a", "a")),
        ("post-migrating", ("here", "a", "a")),
        ("finished", ("b", "here", "b")),
        ("confirming", ("b", "here", "b")),
        ("confirmed", ("b", "here", "b")),
        ("reverted", ("here", "a", "a")),
        ("error", ("here", "a", "a")),
        ("failed", ("here", "a", "a")),
    ],
)
def test_a_move_of_a_server_that_was_seen_before(status: str, expected: tuple[str, ...]) -> None:
    assert everywhere([a_move(status)], [seen("a")]) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("accepted", ("b", "a", "a")),
        ("pre-migrating", ("b", "a", "a")),
        ("done", ("b", "here", "b")),
        ("completed", ("b", "here", "b")),
        ("error", ("here", "a", "a")),
        ("failed", ("here", "a", "a")),
    ],
)
def test_an_evacuation(status: str, expected: tuple[str, ...]) -> None:
    """The source is told from the first word of the record on."""
    assert everywhere([a_move(status, kind="evacuation")], [seen("a")]) == expected


def test_an_evacuation_without_a_last_known_record() -> None:
    assert everywhere([a_move("accepted", kind="evacuation")]) == ("b", "unknown", "unknown")
    assert everywhere([a_move("accepted", kind="evacuation", dest=None)]) == ("?", "unknown", "unknown")


def test_an_evacuated_copy_is_away_whatever_a_sync_saw_later() -> None:
    """Until the source was cleaned; where the server is by now is told all the same."""
    done = a_move("done", kind="evacuation")
    assert everywhere([done], [seen("a", 99)]) == ("b", "a", "a")
    assert everywhere([done, a_move("confirmed", "b", "c", at=20)], [seen("c", 99)]) == ("c", "c", "here")


@pytest.mark.parametrize(("host", "status", "evacuated"), [("a", "done", True), ("c", "done", False), ("a", "completed", False), ("c", "completed", False)])
def test_only_the_node_that_was_lost_has_a_copy_that_an_evacuation_left(host: str, status: str, evacuated: bool) -> None:
    """What another node has of the server is not the guard's to undefine."""
    (entry,) = whereabouts.answer(host, [a_move(status, kind="evacuation")], [])["away"]
    assert (entry["to"], entry["evacuated"]) == ("b", evacuated)


def test_what_was_known_later_decides() -> None:
    assert everywhere([a_move("confirmed")], [seen("a", 9)]) == ("b", "here", "b")
    assert everywhere([a_move("confirmed")], [seen("c", 11)]) == ("c", "c", "here")
    assert everywhere([a_move("confirmed"), a_move("reverted", "b", "c", at=5)]) == ("b", "here", "b")


def test_a_node_that_was_not_cleaned_is_told() -> None:
    """A revert while dest was silent; the way back of a move while dest was silent."""
    assert told("b", [a_move("reverted", pending_hosts=["b"])]) == "a"
    assert told("b", [a_move("error", pending_hosts=["b"])]) == "a"
    assert told("b", [a_move("error", pending_hosts=["b"])], [seen("b", 99)]) == "here"


def test_a_resize_on_the_same_node_takes_nothing_away() -> None:
    for status in ("accepted", "migrating", "finished", "confirmed", "reverted"):
        assert told("a", [a_move(status, dest="a", pending_hosts=["a"])], [seen("a")]) == "here"


def test_words() -> None:
    """All that the guard tells an operator."""
    row = a_move("done", kind="evacuation")
    expected = {"server_uuid": "s", "name": "web-s", "to": "b", "evacuated": True, "migration": "m10", "status": "done"}
    assert whereabouts.answer("a", [row], [])["away"] == [expected]
    nameless = {"server_uuid": "s", "name": "web-s", "to": "b", "evacuated": False, "migration": None, "status": None}
    assert whereabouts.answer("a", [], [seen("b")])["away"] == [nameless]


def test_a_fenced_node_has_no_server_of_its_own() -> None:
    """Until it is back in service: who gave it up may be bringing up elsewhere what it still has by the records."""
    rows, servers = [a_move("done", kind="evacuation")], [seen("a", server="t"), seen("b", server="u")]
    told_to_a = whereabouts.answer("a", rows, servers, "a was fenced by ann")
    assert told_to_a["managed"] == []
    assert {entry["server_uuid"]: entry.get("withheld") for entry in told_to_a["away"]} == {"s": None, "t": "a was fenced by ann", "u": None}
    assert whereabouts.answer("a", rows, servers)["managed"] == ["t"]


HISTORY = st.lists(
    st.tuples(
        st.sampled_from(transitions.STATUSES),
        st.sampled_from(list(itertools.permutations(NODES, 2))),
        st.sampled_from(("migration", "evacuation")),
        st.lists(st.sampled_from(NODES), unique=True),
    ),
    max_size=5,
)


@hypothesis.given(HISTORY, st.none() | st.tuples(st.sampled_from(NODES), st.floats(0, 60)))
def test_a_server_is_never_at_home_on_two_nodes(history: list[t.Any], where: tuple[str, float] | None) -> None:
    """Law 1, whatever the records say; and an open evacuation always speaks against its source."""
    rows = [a_move(status, *ends, kind=kind, at=10 * number, pending_hosts=pending) for number, (status, ends, kind, pending) in enumerate(history)]
    servers = [seen(*where)] if where else []
    answers = dict(zip(NODES, everywhere(rows, servers), strict=True))
    assert list(answers.values()).count("here") <= 1
    for row in rows:
        if row["migration_type"] == "evacuation" and row["status"] in ("accepted", "pre-migrating", "done"):
            assert answers[row["source_host"]] not in ("here", "unknown")
