# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quotas: what a project uses, unfinished moves on both ends included, and what is over its limit."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import quotas
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import (
    GIB,
    a_domain,
    a_migration,
    a_node,
    a_server,
    a_silent_node,
    uuid_of,
)

NEED: t.Any = {"vcpus": 4, "memory_mb": 4096, "disk_bytes": 20 * GIB}


def server(**more: t.Any) -> t.Any:
    """web1 of project web: 1 vCPU, 1024 MiB, 10 GiB."""
    return a_server(1, project="web", **more)


def mine(number: int, **more: t.Any) -> dict[str, t.Any]:
    return a_domain(number, project="web", **more)


def nodes(*on_a: dict[str, t.Any], on_b: t.Sequence[dict[str, t.Any]] = ()) -> t.Any:
    return {"a": a_node("a", [mine(1, disk_bytes=10 * GIB), *on_a]), "b": a_node("b", on_b)}


def reasons(limits: t.Any, around: t.Any = None, migrations: t.Any = (), in_place: bool = False, **more: t.Any) -> list[str]:
    return quotas.check(server(**more), NEED, {"web": limits}, around or nodes(), migrations, in_place=in_place).refusals


def test_up_to_the_limit_and_not_beyond() -> None:
    assert reasons({"servers": 1, "vcpus": 5, "memory_mb": 5120, "disk_gb": 30}) == []
    for name, limit, words in (
        ("vcpus", "4", "a quota of 4 vCPUs: 1 are used, and the resize wants 4 more"),
        ("memory_mb", 5119, "a quota of 5119 MiB of memory: 1024 are used, and the resize wants 4096 more"),
        ("disk_gb", 29, "a quota of 29 GiB of disk: 10 are used, and the resize wants 20 more"),
    ):
        (reason,) = reasons({name: limit})
        assert reason.startswith("project 'web' has ")
        assert words in reason
    assert len(reasons({"vcpus": 1, "memory_mb": 1, "disk_gb": 1})) == 3


def test_on_its_own_node_only_the_growth_counts() -> None:
    assert reasons({"vcpus": 4, "memory_mb": 4096, "disk_gb": 20}, in_place=True) == []
    assert len(reasons({"vcpus": 3, "memory_mb": 4095, "disk_gb": 19}, in_place=True)) == 3
    smaller = quotas.check(server(vcpus=8, memory_mb=8192), NEED, {"web": {"vcpus": 1, "memory_mb": 1}}, nodes(), [], in_place=True)
    assert smaller == ([], [])


def test_a_resize_is_not_one_server_more() -> None:
    assert reasons({"servers": 0}) == []


@pytest.mark.parametrize("limits", [{}, None, "", {"vcpus": -1}, {"vcpus": "-1"}, {"vcpus": ""}, {"vcpus": None}])
def test_without_a_limit_nothing_is_refused(limits: t.Any) -> None:
    assert reasons(limits) == []
    for project, everything in ((None, {"web": {"vcpus": 0}}), ("db", {"web": {"vcpus": 0}}), ("web", None), ("web", ""), ("web", {})):
        assert quotas.check(a_server(1, project=project), NEED, everything, nodes(), []) == ([], [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_quotas", "words"),
    [
        (["web"], "quotas is ['web']: it must be a mapping of projects to quotas"),
        ({"web": 4}, "quota of project 'web' is 4: it must be a mapping"),
        ({"web": {"vcpu": 4}}, "unknown key 'vcpu' (did you mean vcpus?): the keys are servers, vcpus, memory_mb, disk_gb"),
        ({"web": {"disk_gb": "10 GB"}}, "disk_gb is '10 GB': it must be a whole number of GiB of disk, without a unit, -1 or more (-1 is no limit)"),
        ({"web": {"vcpus": True}}, "vcpus is True"),
        ({"web": {"vcpus": -2}}, "vcpus is -2"),
        ({"web": {"vcpus": "9" * 5000}}, "it must be at most"),
    ],
)
def test_malformed_quotas_are_refused(given_quotas: t.Any, words: str) -> None:
    (reason,) = quotas.check(server(), NEED, given_quotas, nodes(), []).refusals
    assert words in reason


def test_a_quota_of_another_project_may_be_malformed() -> None:
    assert quotas.check(server(), NEED, {"db": 3}, nodes(), []).refusals == []


def test_other_projects_do_not_count_and_all_nodes_do() -> None:
    used = quotas.usage("web", nodes(a_domain(2, project="db"), a_domain(3), on_b=[mine(4, vcpus=3)]), [])
    assert used == ({"servers": 2, "vcpus": 4, "memory_mb": 2048, "disk_gb": 11}, {"servers": 0, "vcpus": 0, "memory_mb": 0, "disk_gb": 0}, [])


def test_an_unfinished_move_counts_on_both_ends() -> None:
    """Server 2 has moved from a to b and grown from 1 to 3 vCPUs: the old size is held on a."""
    old, new = {"vcpus": 1, "memory_mb": 1024, "disk_bytes": GIB}, {"vcpus": 3, "memory_mb": 2048, "disk_bytes": 2 * GIB}
    moved = a_migration(2, need=new, source_need=old)
    after = nodes(on_b=[mine(2, vcpus=3, memory_mb=2048, disk_bytes=2 * GIB)])
    before = nodes(mine(2))
    for around in (after, before):
        assert quotas.usage("web", around, [moved]).total == {"servers": 2, "vcpus": 5, "memory_mb": 4096, "disk_gb": 13}
    assert quotas.usage("web", after, [{**moved, "status": "confirmed"}]).total["vcpus"] == 4
    (reason,) = reasons({"vcpus": 8}, after, [moved])
    assert "5 are used (1 of them by unfinished migrations: confirm or revert them), and the resize wants 4 more" in reason
    assert reasons({"vcpus": 8}, after) == []


def test_an_unfinished_resize_on_one_node_counts_once() -> None:
    grown = a_migration(
        2, source="a", dest="a", need={"vcpus": 3, "memory_mb": 1024, "disk_bytes": GIB}, source_need={"vcpus": 1, "memory_mb": 1024, "disk_bytes": 0}
    )
    assert quotas.usage("web", nodes(mine(2)), [grown]).total["vcpus"] == 4


def test_a_move_of_another_project_does_not_count() -> None:
    assert quotas.usage("web", nodes(a_domain(2, project="db")), [a_migration(2)]).total["vcpus"] == 1


def test_a_migration_that_a_killed_run_left_is_not_in_the_way_of_its_own_server() -> None:
    left: t.Any = a_migration(1, "migrating", need=NEED)
    assert reasons({"vcpus": 5}, migrations=[left]) == []


def test_a_node_that_does_not_answer_is_told() -> None:
    around = {**nodes(), "c": a_silent_node("c")}
    assert quotas.check(server(), NEED, {"web": {"vcpus": 5}}, around, []) == (
        [],
        ["quota of project 'web': what its servers use on c is not known and not counted"],
    )
    assert quotas.check(server(), NEED, {}, around, []).notes == []


SIZE = st.fixed_dictionaries({"vcpus": st.integers(0, 4), "memory_mb": st.integers(0, 4), "disk_bytes": st.just(0)})
MOVES = st.lists(st.tuples(st.integers(2, 5), SIZE, SIZE, st.sampled_from("ab"), st.sampled_from("ab")), max_size=4, unique_by=lambda move: move[0])


@given(MOVES, st.sets(st.integers(2, 5)), st.integers(0, 20))
def test_what_passes_is_within_the_limit_at_both_ends(moves: list[t.Any], there: set[int], limit: int) -> None:
    """Seen from outside: old and new of each unfinished move of the project, one each of the others, and this resize."""
    migrations: t.Any = [a_migration(number, source=source, dest=dest, need=new, source_need=old) for number, new, old, source, dest in moves]
    by_number = {number: (new, old, source, dest) for number, new, old, source, dest in moves}
    on: dict[str, list[dict[str, t.Any]]] = {"a": [], "b": []}
    used = 1
    for number in there:
        new, old, source, dest = by_number.get(number, ({"vcpus": 2}, {"vcpus": 2}, "a", "a"))
        on[dest].append(mine(number, vcpus=new["vcpus"]))
        if dest != source:
            used += new["vcpus"] + old["vcpus"]
        else:
            used += new["vcpus"] + abs(new["vcpus"] - old["vcpus"])
    around = nodes(*on["a"], on_b=on["b"])
    assert quotas.usage("web", around, migrations).total["vcpus"] == used
    assert bool(reasons({"vcpus": limit}, around, migrations)) == (used + NEED["vcpus"] > limit)
    assert uuid_of(1) == around["a"]["facts"]["domains"][0]["uuid"]
