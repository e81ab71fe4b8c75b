# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPUs and NUMA cells of a node: no two servers get the same, everything that is kept counts, and a refusal names all reasons."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import cpusets, domain_edits, domain_xml, placement
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.definitions import domain
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import uuid_of

Facts = dict[str, t.Any]
DEDICATED = {"hw:cpu_policy": "dedicated"}
HUGE = 2048


def a_cell(number: int, cpus: int = 4, memory_mb: int = 4096, pages: int = 0, free: int | None = None) -> Facts:
    """One NUMA cell with so many huge pages of 2 MiB."""
    own = range(number * cpus, (number + 1) * cpus)
    return {"id": number, "cpus": list(own), "memory_mb": memory_mb, "pages": [{"size_kib": HUGE, "total": pages, "free": pages if free is None else free}]}


def a_node(*cells: Facts, domains: t.Sequence[Facts] = (), journals: t.Sequence[Facts] = ()) -> Facts:
    return {"numa_cells": list(cells), "domains": list(domains), "journals": list(journals)}


def a_holder(number: int = 1, state: str = "running", **more: t.Any) -> Facts:
    """A domain and what it keeps."""
    kept = {"memory_mb": 512, "pinned_cpus": [], "page_size_kib": None, "memory_cells": []}
    return {"uuid": uuid_of(number), "name": f"web{number}", "state": state, **kept, **more}


def a_journal(number: int = 1, *reserved: Facts) -> Facts:
    return {"migration_uuid": f"m{number}", "server_uuid": uuid_of(number), "reserved": list(reserved)}


def flavor(vcpus: int = 2, memory_mb: int = 512, **specs: t.Any) -> Facts:
    """Keywords stand for extra specs: numa_nodes=2."""
    return {"name": "f", "vcpus": vcpus, "memory_mb": memory_mb, "extra_specs": {f"hw:{key}": value for key, value in specs.items()}}


def place(wanted: Facts, node: Facts, server: str = "") -> placement.Placement:
    chosen, reasons = placement.decide(wanted, node, server)
    assert reasons == []
    assert chosen is not None
    return chosen


def reasons_of(wanted: Facts, node: Facts, server: str = "") -> list[str]:
    chosen, reasons = placement.decide(wanted, node, server)
    assert chosen is None
    return reasons


# --- dedicated CPUs


def test_a_flavor_that_asks_for_nothing_gets_nothing() -> None:
    assert placement.decide(flavor(cpu_policy="shared", cpu_cores=2, mem_page_size="small"), a_node()) == (None, [])
    assert placement.wish_of(None) is None


def test_each_vcpu_gets_a_cpu_of_its_own() -> None:
    assert place(flavor(cpu_policy="dedicated"), a_node(a_cell(0))) == {
        "vcpu_pins": {"0": "0", "1": "1"},
        "emulator_pins": "0-1",
        "cells": [],
        "page_size_kib": None,
    }


@pytest.mark.parametrize(
    ("vcpus", "expected"), [(1, "5"), (2, "6-7"), (4, "0-3"), (5, "0-3,5"), (7, "0-3,5-7")], ids=["tightest", "next", "whole cell", "two", "all"]
)
def test_from_as_few_cells_as_possible(vcpus: int, expected: str) -> None:
    node = a_node(a_cell(0), a_cell(1), domains=[a_holder(pinned_cpus=[4])])
    if vcpus == 2:
        node["domains"].append(a_holder(2, pinned_cpus=[5]))
    assert place(flavor(vcpus, cpu_policy="dedicated"), node)["emulator_pins"] == expected


def test_who_has_the_cpus_is_named() -> None:
    node = a_node(a_cell(0), domains=[a_holder(1, pinned_cpus=[0]), a_holder(2, "shutoff", pinned_cpus=[1, 2]), a_holder(3)])
    assert reasons_of(flavor(cpu_policy="dedicated"), node) == ["2 dedicated CPUs needed, 1 free of 4 (pinned to web1, web2)"]
    many = a_node(a_cell(0, cpus=8), domains=[a_holder(number, pinned_cpus=[number]) for number in range(8)])
    assert "web4 and 3 more" in reasons_of(flavor(cpu_policy="dedicated"), many)[0]


def test_a_server_is_not_in_its_own_way() -> None:
    held = {"pinned_cpus": [2], "memory_mb": 1, "page_size_kib": None, "memory_cells": []}
    node = a_node(a_cell(0), domains=[a_holder(pinned_cpus=[0, 1])], journals=[a_journal(1, held)])
    assert place(flavor(4, cpu_policy="dedicated"), node, uuid_of(1))["emulator_pins"] == "0-3"
    assert reasons_of(flavor(2, cpu_policy="dedicated"), node, uuid_of(2)) == ["2 dedicated CPUs needed, 1 free of 4 (pinned to web1)"]


def test_held_copies_and_places_not_used_yet_count() -> None:
    held = domain_xml.kept(domain(more="<cputune><vcpupin vcpu='0' cpuset='3'/><vcpupin vcpu='1' cpuset='0-1'/></cputune>"))
    coming = placement.kept(place(flavor(cpu_policy="dedicated"), a_node(a_cell(0))))
    node = a_node(a_cell(0), journals=[a_journal(1, held), a_journal(2, coming)])
    assert place(flavor(1, cpu_policy="dedicated"), node)["vcpu_pins"] == {"0": "2"}
    assert "pinned to migration m1, migration m2" in reasons_of(flavor(2, cpu_policy="dedicated"), node)[0]


def test_a_node_that_shows_no_cells() -> None:
    assert reasons_of(flavor(cpu_policy="dedicated"), {}) == ["libvirt shows no NUMA cells of the node, so nothing can be pinned or bound there"]


def test_a_wrong_extra_spec_is_no_wish_for_nothing() -> None:
    assert "did you mean 'hw:numa_nodes'" in reasons_of(flavor(numa_node=2), a_node(a_cell(0)))[0]
    assert "cannot be split over 3" in reasons_of(flavor(numa_nodes=3), a_node(a_cell(0)))[0]


# --- NUMA cells


def test_cells_that_float_keep_off_dedicated_cpus() -> None:
    node = a_node(a_cell(0), a_cell(1), domains=[a_holder(pinned_cpus=[1])])
    chosen = place(flavor(4, 1024, numa_nodes=2), node)
    assert chosen["vcpu_pins"] == {"0": "0,2-3", "1": "0,2-3", "2": "4-7", "3": "4-7"}
    assert chosen["cells"] == [{"vcpus": "0-1", "memory_mb": 512, "host_cell": 0}, {"vcpus": "2-3", "memory_mb": 512, "host_cell": 1}]
    assert placement.kept(chosen)["pinned_cpus"] == []


def test_uneven_cells_go_where_they_fit() -> None:
    node = a_node(a_cell(0, memory_mb=8192), a_cell(1, memory_mb=1024))
    specs = {"numa_nodes": 2, "numa_cpus.0": "0", "numa_cpus.1": "1-3", "numa_mem.0": "512", "numa_mem.1": "4096", "cpu_policy": "dedicated"}
    chosen = place(flavor(4, 4608, **specs), node)
    assert [(cell["vcpus"], cell["host_cell"]) for cell in chosen["cells"]] == [("0", 1), ("1-3", 0)]
    assert chosen["vcpu_pins"] == {"0": "4", "1": "0", "2": "1", "3": "2"}


def test_more_cells_than_the_node_has() -> None:
    assert reasons_of(flavor(2, numa_nodes=2), a_node(a_cell(0))) == ["2 NUMA cells needed, the node has 1"]


def test_every_cell_says_why_not() -> None:
    node = a_node(a_cell(0, memory_mb=100), a_cell(1), domains=[a_holder(pinned_cpus=[4, 5, 6])])
    assert reasons_of(flavor(4, 1024, numa_nodes=2), node) == [
        f"NUMA cell {cell} of the server (2 vCPUs, 512 MiB) fits into no cell of the node (cell 0: 100 MiB of memory that are not bound; "
        "cell 1: 1 CPUs that are nobody's own of 4 (pinned to web1))"
        for cell in (0, 1)
    ]


def test_two_cells_that_need_the_same_one() -> None:
    node = a_node(a_cell(0), a_cell(1, memory_mb=100))
    assert reasons_of(flavor(2, 1024, numa_nodes=2), node) == ["2 NUMA cells need as many cells of the node: only 0 can take one, or several need the same one"]


def test_memory_that_others_bound_counts() -> None:
    bound = [{"host_cell": 0, "memory_mb": 3800}]
    node = a_node(a_cell(0), domains=[a_holder(1, "shutoff", memory_cells=bound)])
    assert "cell 0: 296 MiB of memory that are not bound" in reasons_of(flavor(numa_nodes=1), node)[0]
    assert place(flavor(numa_nodes=1), node, uuid_of(1))["cells"][0]["host_cell"] == 0


# --- huge pages


def test_huge_pages_make_one_cell() -> None:
    chosen = place(flavor(mem_page_size="2MB"), a_node(a_cell(0), a_cell(1, pages=256)))
    assert chosen["cells"] == [{"vcpus": "0-1", "memory_mb": 512, "host_cell": 1}]
    assert (chosen["page_size_kib"], chosen["vcpu_pins"]["0"]) == (HUGE, "4-7")


@pytest.mark.parametrize(
    ("size", "total", "free", "expected"),
    [("large", 256, 256, HUGE), ("any", 256, 256, HUGE), ("any", 256, 255, None), ("any", 0, 0, None)],
)
def test_the_largest_pages_with_which_it_fits(size: str, total: int, free: int, expected: int | None) -> None:
    assert place(flavor(mem_page_size=size), a_node(a_cell(0, pages=total, free=free)))["page_size_kib"] == expected


@pytest.mark.parametrize(
    ("wanted", "total", "reason"),
    [
        (flavor(mem_page_size="large"), 0, "the node has no huge pages"),
        (flavor(mem_page_size="1GB"), 256, "the node has no huge pages of 1.0 GiB"),
        (flavor(mem_page_size="2MB"), 255, "cell 0: 255 free pages of 2.0 MiB, 256 needed"),
        (flavor(memory_mb=3, mem_page_size="2MB"), 255, "3 MiB are no whole number of pages of 2.0 MiB"),
    ],
)
def test_no_pages_for_it(wanted: Facts, total: int, reason: str) -> None:
    assert reason in reasons_of(wanted, a_node(a_cell(0, pages=total)))[0]


PAGED: Facts = {"page_size_kib": HUGE, "memory_cells": [{"host_cell": 0, "memory_mb": 512}]}


@pytest.mark.parametrize(
    ("domains", "journals", "free", "fits"),
    [
        ([a_holder(1, "running", **PAGED)], [], 256, True),  # what it uses is not among the free ones any more
        ([a_holder(1, "shutoff", **PAGED)], [], 511, False),
        ([a_holder(1, "shutoff", **PAGED)], [], 512, True),
        ([a_holder(1, "shutoff", page_size_kib=HUGE)], [], 511, False),  # bound to no cell
        ([], [a_journal(1, {"memory_mb": 512, "pinned_cpus": [], **PAGED})], 511, False),
        # Old and new copy of one server: only one of them ever runs.
        ([a_holder(1, "running", **PAGED)], [a_journal(1, {"memory_mb": 512, "pinned_cpus": [], **PAGED})], 256, True),
    ],
)
def test_pages_that_others_will_take_are_not_free(domains: list[Facts], journals: list[Facts], free: int, fits: bool) -> None:
    node = a_node(a_cell(0, pages=1024, free=free), domains=domains, journals=journals)
    assert bool(placement.decide(flavor(mem_page_size="2MB"), node)[0]) == fits


def test_pages_of_its_own_running_guest_will_be_free() -> None:
    node = a_node(a_cell(0, pages=256, free=0), domains=[a_holder(1, **PAGED)])
    assert place(flavor(mem_page_size="2MB"), node, uuid_of(1))["page_size_kib"] == HUGE
    assert reasons_of(flavor(mem_page_size="2MB"), node, uuid_of(2))


# --- laws

specs = st.fixed_dictionaries(
    {},
    optional={
        "hw:cpu_policy": st.sampled_from(["dedicated", "shared"]),
        "hw:numa_nodes": st.integers(1, 3),
        "hw:mem_page_size": st.sampled_from(["2MB", "large", "any", "small"]),
    },
)
flavors = st.builds(lambda number, size, asked: {"vcpus": number, "memory_mb": 64 * size, "extra_specs": asked}, st.integers(1, 6), st.integers(1, 24), specs)
nodes = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600)), min_size=1, max_size=4).map(
    lambda cells: a_node(*(a_cell(number, pages=max(pair), free=min(pair)) for number, pair in enumerate(cells)))
)


def singles(chosen: placement.Placement) -> list[int]:
    return [min(pin) for pin in map(cpusets.parse, chosen["vcpu_pins"].values()) if len(pin) == 1]


@given(nodes, st.lists(flavors, min_size=1, max_size=6))
def test_places_never_overlap_and_never_exceed_the_node(node: Facts, wanted: list[Facts]) -> None:
    free = {cell["id"]: cell["pages"][0]["free"] for cell in node["numa_cells"]}
    memory = {cell["id"]: cell["memory_mb"] - cell["pages"][0]["total"] * 2 for cell in node["numa_cells"]}
    cells = placement.free_cells(node)
    taken: list[int] = []
    for number, one in enumerate(wanted):
        chosen, reasons = placement.decide(one, node, uuid_of(99))
        wish = placement.wish_of(one)
        # A plan on the controller and the journals of the node come to the same.
        planned, why_not = placement.choose(wish, cells) if wish else (None, [])
        assert (chosen, len(reasons)) == (planned, len(why_not))
        assert not (chosen and reasons)
        if chosen is None:
            continue
        assert set(chosen["vcpu_pins"]) == {str(vcpu) for vcpu in range(one["vcpus"])}
        assert len({cell["host_cell"] for cell in chosen["cells"]}) == len(chosen["cells"]) == (one["extra_specs"].get("hw:numa_nodes") or len(chosen["cells"]))
        if one["extra_specs"].get("hw:cpu_policy") == "dedicated":
            assert len(set(singles(chosen))) == one["vcpus"]
            assert not set(singles(chosen)) & set(taken)
        for pin in chosen["vcpu_pins"].values():
            assert not cpusets.parse(pin) & set(taken)
        for cell in chosen["cells"]:
            own = {cpu for vcpu in cpusets.parse(cell["vcpus"]) for cpu in cpusets.parse(chosen["vcpu_pins"][str(vcpu)])}
            assert own <= set(node["numa_cells"][cell["host_cell"]]["cpus"])
            free[cell["host_cell"]] -= cell["memory_mb"] // 2 if chosen["page_size_kib"] else 0
            memory[cell["host_cell"]] -= 0 if chosen["page_size_kib"] else cell["memory_mb"]
            assert min(free.values()) >= 0
            assert memory[cell["host_cell"]] >= 0
        taken += singles(chosen)
        cells = placement.after(cells, chosen, "one of this plan")
        node["journals"].append(a_journal(number, placement.kept(chosen)))


@given(nodes, flavors)
def test_a_definition_keeps_what_its_place_is(node: Facts, wanted: Facts) -> None:
    """Whoever reads the defined domain sees the same as who reads the journal."""
    chosen = placement.decide(wanted, node)[0]
    if chosen is not None:
        edited = domain_edits.edit(domain(), flavor={"name": "f", **wanted}, placement=chosen)
        kept, expected = domain_xml.kept(edited), placement.kept(chosen)
        assert {key: kept[key] for key in ("page_size_kib", "memory_cells")} == {key: expected[key] for key in ("page_size_kib", "memory_cells")}
        assert set(expected["pinned_cpus"]) == set(kept["pinned_cpus"])
