# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extra specs: what is understood, what is refused, how a server is cut into sockets and NUMA cells; sets of CPUs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import cpusets, extra_specs


def test_everything_that_is_known_is_understood() -> None:
    specs, problems = extra_specs.parse(
        {
            "hw:cpu_sockets": "1", "hw:cpu_cores": 2, "hw:cpu_threads": " 2 ", "hw:cpu_policy": "Dedicated", "hw:mem_page_size": "1GB", "hw:numa_nodes": "2",
            "hw:numa_cpus.0": "0-2", "hw:numa_cpus.1": "3", "hw:numa_mem.0": "1024", "hw:numa_mem.1": "3072",
            "trait:CUSTOM_FAST": "required", "trait:CUSTOM_OLD": "forbidden", "quota:cpu_shares": "10", "mine": "x",
        }
    )  # fmt: skip
    assert problems == []
    assert (specs.sockets, specs.cores, specs.threads, specs.dedicated, specs.page) == (1, 2, 2, True, 1048576)
    assert (specs.required_traits, specs.forbidden_traits) == ({"CUSTOM_FAST"}, {"CUSTOM_OLD"})
    assert extra_specs.cells(specs, 4, 4096) == [((0, 1, 2), 1024), ((3,), 3072)]


@pytest.mark.parametrize(
    ("specs", "reason"),
    [
        ({"hw:cpu_polcy": "dedicated"}, "did you mean 'hw:cpu_policy'"),
        ({"hw:zzz": "1"}, "would be ignored in silence; known are"),
        ({"hw:cpu_cores": "two"}, "whole number"),
        ({"hw:cpu_cores": "0"}, "whole number"),
        ({"hw:cpu_cores": "1e3"}, "whole number"),
        ({"hw:cpu_policy": "mixed"}, "must be shared or dedicated, not 'mixed'"),
        ({"hw:mem_page_size": "2 TB"}, "small, large, any"),
        ({"hw:mem_page_size": "3"}, "small, large, any"),
        ({"hw:mem_page_size": "0"}, "small, large, any"),
        ({"hw:numa_cpus.0": "0"}, "need 'hw:numa_nodes'"),
        ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "x"}, "vCPU numbers"),
        ({"hw:numa_nodes": "3"}, "4 vCPUs cannot be split over 3 NUMA cells evenly"),
        ({"hw:numa_nodes": "2", "hw:numa_cpus.0": "0-3"}, "for each N from 0 to 1"),
        ({"hw:numa_nodes": "2", "hw:numa_cpus.0": "0-2", "hw:numa_cpus.1": "2-3"}, "exactly once"),
        ({"hw:numa_nodes": "2", "hw:numa_mem.0": "1", "hw:numa_mem.1": "2"}, "3 MiB together"),
        ({"hw:cpu_sockets": "3"}, "4 vCPUs cannot be cut into 3 sockets"),
        ({"hw:cpu_sockets": "8"}, "cannot be cut into 8 sockets"),
        ({"trait:X": "maybe"}, "required or forbidden"),
        ({"trait: ": "required"}, "names no trait"),
        ({"HW:cpu_policy": "dedicated"}, "did you mean 'hw:cpu_policy'"),
        ({" hw:cpu_policy": "dedicated"}, "did you mean 'hw:cpu_policy'"),
        ({"hw:mem_page_size": "1GB", "hw:numa_nodes": "2"}, "512 MiB of memory are no whole number of pages of 1048576 KiB"),
        ({"hw:numa_nodes": "8"}, "4 vCPUs cannot be split over 8 NUMA cells"),
        ({"hw:numa_nodes": "900000000", "hw:numa_cpus.0": "0-3"}, "4 vCPUs cannot be split over 900000000 NUMA cells"),
        ({"hw:numa_nodes": "9" * 5000}, "whole number"),
        ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-99999999999"}, "vCPU numbers"),
    ],
)
def test_what_does_not_come_out_is_one_sentence(specs: dict[str, str], reason: str) -> None:
    problems = extra_specs.problems(specs, 4, 1024)
    assert len(problems) == 1
    assert reason in problems[0]


@pytest.mark.parametrize(
    ("value", "page", "huge"),
    [("small", "small", False), ("4", 4, False), ("LARGE", "large", True), ("any", "any", True), ("2048", 2048, True), ("2MiB", 2048, True)],
)
def test_sizes_of_pages(value: str, page: object, huge: bool) -> None:
    specs, problems = extra_specs.parse({"hw:mem_page_size": value})
    assert (specs.page, specs.huge_pages, specs.bound, problems) == (page, huge, huge, [])


def test_what_has_no_effect_is_known() -> None:
    assert extra_specs.ignored({"quota:x": "1", "hw:cpu_cores": "1", "trait:X": "required", "mine": "x", "hw": "x"}) == ["quota:x", "mine", "hw"]


@given(st.dictionaries(st.text(max_size=20) | st.sampled_from(extra_specs.KNOWN), st.text(max_size=20)))
def test_no_input_breaks_it_and_what_is_taken_comes_out(written: dict[str, str]) -> None:
    if not extra_specs.problems(written, 4, 4096):
        specs, found = extra_specs.parse(written)
        assert found == []
        extra_specs.topology(specs, 4)
        extra_specs.cells(specs, 4, 4096)


def test_nothing_asked_for_needs_no_place() -> None:
    assert not extra_specs.parse({"trait:X": "required", "hw:cpu_cores": "1", "hw:cpu_policy": "shared"})[0].placed
    assert extra_specs.cells(extra_specs.Specs(), 4, 1024) == []


@given(vcpus=st.integers(1, 256), parts=st.tuples(*[st.none() | st.integers(1, 8)] * 3))
def test_a_topology_has_all_vcpus_and_what_was_asked_for(vcpus: int, parts: tuple[int | None, int | None, int | None]) -> None:
    specs = extra_specs.Specs(*parts)
    try:
        found = extra_specs.topology(specs, vcpus)
    except ValueError:
        assert specs.topology
        return
    assert found[0] * found[1] * found[2] == vcpus
    assert all(asked in (None, given) for asked, given in zip(parts, found, strict=True))


@given(number=st.integers(1, 8), share=st.integers(1, 8), size=st.integers(1, 4096))
def test_equal_cells_hold_everything_once(number: int, share: int, size: int) -> None:
    cells = extra_specs.cells(extra_specs.Specs(numa_nodes=number), number * share, number * size)
    assert sorted(vcpu for cell in cells for vcpu in cell.vcpus) == list(range(number * share))
    assert [cell.memory_mb for cell in cells] == [size] * number


@given(st.sets(st.integers(0, 300)))
def test_sets_of_cpus_go_there_and_back(numbers: set[int]) -> None:
    assert cpusets.parse(cpusets.written(numbers)) == numbers


@pytest.mark.parametrize(("text", "expected"), [("0-3,^2", {0, 1, 3}), (" 1 , 3-3", {1, 3}), ("", set()), (None, set())])
def test_sets_of_cpus_as_libvirt_takes_them(text: str | None, expected: set[int]) -> None:
    assert cpusets.parse(text) == expected


@pytest.mark.parametrize("text", ["x", "3-1", "1-", "-1", "1--2"])
def test_what_is_no_set_of_cpus(text: str) -> None:
    with pytest.raises(ValueError, match="range|int"):
        cpusets.parse(text)
