# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims: what a migration holds, and that what is chosen fits."""

from __future__ import annotations

import typing as t

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import claims

AMOUNTS = st.fixed_dictionaries({name: st.integers(0, 4) for name in claims.RESOURCES})
MIGRATIONS = st.fixed_dictionaries(
    {
        "id": st.integers(1, 9),
        "server_uuid": st.sampled_from(["s1", "s2", "s3", "s4"]),
        "server_name": st.just("web01"),
        "need": AMOUNTS,
        "source_need": AMOUNTS,
        "source_host": st.sampled_from("AB"),
        "dest_host": st.sampled_from(["A", "B", None]),
    }
)
CANDIDATES = st.lists(
    st.fixed_dictionaries(
        {"host": st.sampled_from("AB"), "capacity": AMOUNTS, "used": AMOUNTS, "counted": st.lists(st.sampled_from(["s1", "s2", "s3"]), unique=True)}
    ),
    max_size=3,
)


@given(MIGRATIONS, CANDIDATES, st.lists(MIGRATIONS, max_size=3))
def test_the_first_that_fits_wins_and_those_before_say_why(migration: t.Any, candidates: list[t.Any], others: list[t.Any]) -> None:
    held = [claim for other in others for claim in claims.of_migration(other)]
    host, rejected = claims.choose(migration, candidates, held)
    assert [each["host"] for each in rejected] == [each["host"] for each in candidates[: len(rejected)]]
    assert all(each["reasons"] for each in rejected)
    if host is None:
        assert len(rejected) == len(candidates)
        return
    chosen = candidates[len(rejected)]
    assert chosen["host"] == host
    same_host = host == migration["source_host"]
    for name in claims.RESOURCES:
        taken = chosen["used"][name] + sum(
            (claim.counted if claim.server_uuid in chosen["counted"] else claim.uncounted)[name] for claim in held if claim.host == host
        )
        if not same_host and migration["server_uuid"] not in chosen["counted"] and migration["need"][name]:
            assert taken + migration["need"][name] <= chosen["capacity"][name]


@given(MIGRATIONS)
def test_a_migration_holds_its_new_size_on_dest_and_its_old_one_on_source(migration: t.Any) -> None:
    held = {claim.host: claim for claim in claims.of_migration(migration)}
    if not migration["dest_host"]:
        assert held == {}
    elif migration["dest_host"] == migration["source_host"]:
        (claim,) = held.values()
        for name in claims.RESOURCES:
            assert claim.uncounted[name] == max(migration["need"][name], migration["source_need"][name])
            assert min(migration["need"][name], migration["source_need"][name]) + claim.counted[name] == claim.uncounted[name]
    else:
        assert held[migration["dest_host"]].uncounted == migration["need"]
        on_source = held.get(migration["source_host"])
        assert (on_source.uncounted if on_source else claims.amounts(None)) == migration["source_need"]


def test_a_server_that_is_made_smaller_on_its_node_may_become_large_again() -> None:
    """The facts count it with its new size by now; what it gave up is still needed for the way back. To be made smaller it needs nothing."""
    size = {"vcpus": 1, "disk_bytes": 0}
    shrink = {"id": 1, "server_uuid": "s1", "server_name": "web01", "source_host": "A", "dest_host": "A"}
    shrink |= {"need": {**size, "memory_mb": 1}, "source_need": {**size, "memory_mb": 3}}
    other = {**shrink, "id": 2, "server_uuid": "s2", "source_host": "B", "dest_host": None, "need": {**size, "memory_mb": 2}}
    full = {"host": "A", "capacity": {"vcpus": 9, "memory_mb": 3, "disk_bytes": 9}, "used": {"vcpus": 1, "memory_mb": 3, "disk_bytes": 0}, "counted": ["s1"]}
    assert claims.choose(shrink, [full], [])[0] == "A"
    smaller = {**full, "used": {**full["used"], "memory_mb": 1}}
    assert claims.choose(other, [smaller], [])[0] == "A"
    assert claims.choose(other, [smaller], claims.of_migration(shrink))[0] is None
