# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transition table: what it allows, and what no walk through it may ever do."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import transitions
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

TYPES = st.sampled_from(transitions.MIGRATION_TYPES)
STATUSES = st.sampled_from(transitions.STATUSES)
HOSTS = st.lists(st.sampled_from("ABC"), unique=True)


def reachable(migration_type: str) -> set[str]:
    seen, todo = set(), ["accepted"]
    while todo:
        status = todo.pop()
        if status not in seen:
            seen.add(status)
            todo += transitions.legal(migration_type, status)
    return seen


@pytest.mark.parametrize("migration_type", ["migration", "resize"])
def test_a_move_has_all_statuses_but_those_of_an_evacuation(migration_type: str) -> None:
    assert reachable(migration_type) == set(transitions.STATUSES) - {"done", "completed"}


def test_an_evacuation_has_its_own() -> None:
    assert reachable("evacuation") == {"accepted", "pre-migrating", "done", "completed", "error", "failed"}


@pytest.mark.parametrize(
    "path",
    [
        "accepted pre-migrating migrating post-migrating finished confirming confirmed",
        "accepted pre-migrating migrating post-migrating finished reverting reverted",
        "finished confirming finished reverting finished confirming",  # the ways back
        "accepted error failed",
    ],
)
@pytest.mark.parametrize("migration_type", ["migration", "resize"])
def test_the_ways_of_a_move(migration_type: str, path: str) -> None:
    statuses = path.split()
    for old, new in itertools.pairwise(statuses):
        transitions.check(migration_type, old, new)


@pytest.mark.parametrize("path", ["accepted pre-migrating done completed", "accepted failed", "pre-migrating error failed"])
def test_the_ways_of_an_evacuation(path: str) -> None:
    statuses = path.split()
    for old, new in itertools.pairwise(statuses):
        transitions.check("evacuation", old, new)


@pytest.mark.parametrize(
    ("migration_type", "old", "new"),
    [
        ("migration", "migrating", "finished"),  # the copy is complete before anything is started
        ("migration", "post-migrating", "migrating"),
        ("migration", "confirmed", "finished"),
        ("migration", "confirming", "reverting"),  # a confirm may have deleted something
        ("migration", "reverting", "confirming"),
        ("migration", "error", "finished"),
        ("migration", "accepted", "done"),
        ("evacuation", "accepted", "completed"),  # a source that returns while the evacuation is running
        ("evacuation", "done", "error"),
    ],
)
def test_what_must_not_be(migration_type: str, old: str, new: str) -> None:
    with pytest.raises(ColdmoveError, match=f"a {migration_type} in status {old} cannot become {new}"):
        transitions.check(migration_type, old, new)


def test_every_status_is_active_or_terminal() -> None:
    assert set(transitions.STATUSES) == transitions.ACTIVE | transitions.TERMINAL
    assert not transitions.ACTIVE & transitions.TERMINAL
    assert transitions.DEST_MAY_CHANGE < transitions.ACTIVE


@given(TYPES, STATUSES)
def test_active_ones_can_end_and_ended_ones_never_become_active(migration_type: str, old: str) -> None:
    following = transitions.legal(migration_type, old)
    assert old not in following
    if old in transitions.TERMINAL:
        assert not set(following) & transitions.ACTIVE
    elif old in reachable(migration_type):
        assert "error" in following


@given(TYPES, st.lists(STATUSES, min_size=1, max_size=30))
def test_no_walk_comes_back_from_its_end(migration_type: str, wishes: list[str]) -> None:
    status, ended = "accepted", False
    for wish in wishes:
        try:
            transitions.check(migration_type, status, wish)
        except ColdmoveError as exc:
            following = transitions.legal(migration_type, status)
            assert wish not in following
            assert all(each in str(exc) for each in following)
        else:
            status = wish
        ended = ended or status in transitions.TERMINAL
        assert ended == (status in transitions.TERMINAL)


@pytest.mark.parametrize(("migration_type", "old"), [("live-migration", "accepted"), ("migration", "queued")])
def test_unknown_words_are_named(migration_type: str, old: str) -> None:
    with pytest.raises(ColdmoveError, match=r"unknown .* it is one of"):
        transitions.legal(migration_type, old)


@given(STATUSES, st.sampled_from("AB"), HOSTS)
def test_an_evacuated_source_is_never_forgotten(new: str, source: str, pending: list[str]) -> None:
    after = transitions.pending_after(new, source, pending)
    if new == "completed":
        assert after == []
    else:
        assert set(pending) <= set(after) <= {*pending, source}
        assert len(after) == len(set(after))
        assert new != "done" or source in after


@given(STATUSES, HOSTS)
def test_only_an_ended_migration_needs_cleaning(status: str, pending: list[str]) -> None:
    assert transitions.needs_cleaning({"status": status, "pending_hosts": pending}) == (pending if status in transitions.TERMINAL else [])
