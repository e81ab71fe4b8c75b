# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flavors: what operators write, whole or refused with every reason, and the flavor that a server has."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import flavors, text
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import GIB, a_disk, a_server

MIB = 1024**2
KNOWN: dict[str, t.Any] = {
    "m1.small": {"vcpus": 1, "memory_mb": 512, "root_gb": 10},
    "m1.large": {"vcpus": "4", "memory_mb": "4096", "root_gb": "40", "ephemeral_gb": "5", "swap_mb": "1024", "extra_specs": {"hw:cpu_policy": "dedicated"}},
    "old": {"vcpus": 1, "memory_mb": 512, "disabled": True},
    "broken": {"vcpus": "many", "ram": 512},
    "list": ["vcpus"],
    "7": {"vcpus": 7, "memory_mb": 7168},
}


def errors_of(asked: t.Any, known: t.Any = None) -> list[str]:
    """What is wrong, without the list of what there is."""
    parsed = flavors.parse(asked, KNOWN if known is None else known)
    assert parsed.flavor is None
    return [error for error in parsed.errors if not error.startswith("the flavors are ")]


# --- what an operator writes


def test_a_named_flavor_is_whole() -> None:
    small = flavors.parse("m1.small", KNOWN)
    assert small == ({"name": "m1.small", "vcpus": 1, "memory_mb": 512, "root_gb": 10, "ephemeral_gb": 0, "swap_mb": 0, "extra_specs": {}}, [])
    large = flavors.parse(" m1.large ", KNOWN).flavor
    assert large is not None
    assert (large["vcpus"], large["root_gb"], large["swap_mb"], large["extra_specs"]) == (4, 40, 1024, {"hw:cpu_policy": "dedicated"})


def test_a_name_may_look_like_a_number() -> None:
    for asked in ("7", 7):
        parsed = flavors.parse(asked, KNOWN)
        assert parsed.flavor is not None
        assert parsed.flavor["vcpus"] == 7
    assert flavors.parse("8", {8: {"vcpus": 1, "memory_mb": 1}}).flavor is not None


def test_an_inline_flavor_has_no_name_of_its_own() -> None:
    parsed = flavors.parse({"vcpus": "2", "memory_mb": 1024.0, "root_gb": "", "swap_mb": None, "extra_specs": ""}, KNOWN)
    assert parsed == ({"name": "custom", "vcpus": 2, "memory_mb": 1024, "root_gb": 0, "ephemeral_gb": 0, "swap_mb": 0, "extra_specs": {}}, [])
    named = flavors.parse({"name": "mine", "vcpus": 2, "memory_mb": 1024}, KNOWN).flavor
    assert named is not None
    assert named["name"] == "mine"


def test_the_longest_name() -> None:
    assert flavors.parse({"name": "x" * 255, "vcpus": 2, "memory_mb": 1024}, KNOWN).flavor is not None


def test_text_that_looks_like_a_mapping_is_not_looked_up() -> None:
    (error,) = errors_of("{vcpus:")
    assert "cannot be read as a mapping" in error
    assert flavors.parse("{x", {"{x": KNOWN["m1.small"]}).flavor is not None


def test_an_inline_flavor_does_not_take_the_name_of_another() -> None:
    assert flavors.parse({"name": "m1.small", **KNOWN["m1.small"]}, KNOWN).flavor is not None
    (error,) = errors_of({"name": "m1.small", **KNOWN["m1.small"], "vcpus": 2})
    assert "the flavor of that name in flavors is another one" in error


def test_an_unknown_name_gets_what_it_may_be_a_slip_for_first() -> None:
    for known, asked in ((KNOWN, "m1.larg"), (KNOWN, "M1.LARGE")):
        error, listed = flavors.parse(asked, known).errors
        assert error == f"flavor '{asked}' is not known (did you mean m1.large?)"
        assert listed.startswith("the flavors are m1.large")
    assert "old" not in listed.split()  # disabled
    assert errors_of("x\x1b") == ["flavor 'x\\x1b' is not known"]
    assert flavors.parse("x", {}).errors == ["flavor 'x' is not known", "there is no flavor in flavors that can be used"]
    many = flavors.parse("x", {f"f{number:02}": {} for number in range(40)}).errors[1]
    assert many.endswith("f29 and 10 more")


@pytest.mark.parametrize("asked", ["m1.huge", "broken", {"vcpus": 1}, ["m1.small"], True])
def test_whatever_is_wrong_what_there_is_is_listed(asked: t.Any) -> None:
    assert "m1.small" in flavors.parse(asked, KNOWN).errors[-1]


@pytest.mark.parametrize("asked", [None, "", "  ", {}])
def test_not_given(asked: t.Any) -> None:
    assert errors_of(asked)[0].startswith("flavor is not given")


def test_all_that_is_wrong_at_once() -> None:
    bad = {
        "vcpus": 0,
        "ram": 512,
        "root_gb": "10 GB",
        "swap_mb": -1,
        "extra_specs": {"hw:cpu_policy": "mine", "hw:x": "1"},
        "name": "\x1b",
        "disabled": "perhaps",
    }
    errors = errors_of(bad)
    assert all(error.startswith("flavor: ") for error in errors)
    for words in (
        "'ram' (did you mean memory_mb?)",
        "vcpus is 0",
        "memory_mb is missing",
        "root_gb is '10 GB'",
        "swap_mb is -1",
        "'mine'",
        "'hw:x'",
        "its name is",
        "disabled is",
    ):
        assert sum(words in error for error in errors) == 1, words
    assert len(errors) == 9
    assert not any("\x1b" in error for error in errors)


def test_a_disabled_flavor_is_refused() -> None:
    assert errors_of("old") == ["flavor 'old': it is disabled: servers keep it, but none can be resized to it"]
    assert flavors.parse({"vcpus": 1, "memory_mb": 1, "disabled": "no"}, {}).flavor is not None


@pytest.mark.parametrize(
    ("key", "close"), [("ram", "memory_mb"), ("disk", "root_gb"), ("root", "root_gb"), ("vcpu", "vcpus"), ("memory", "memory_mb"), ("rootgb", "root_gb")]
)
def test_an_unknown_key_is_named_with_what_was_meant(key: str, close: str) -> None:
    (error,) = errors_of({"vcpus": 1, "memory_mb": 1, key: 1})
    assert f"unknown key '{key}' (did you mean {close}?): the keys are name, vcpus," in error


BAD_SIZES: list[t.Any] = [
    "10 GB",
    "10G",
    "10GiB",
    "1e3",
    "-1",
    "+1",
    "1.5",
    1.5,
    -1,
    "1_000",
    "010",
    "0x10",
    "1:30",
    "ten",
    "٣",
    True,
    [1],
    {"a": 1},
    "nan",
    float("inf"),
]


@pytest.mark.parametrize("value", BAD_SIZES)
@pytest.mark.parametrize(("key", "unit"), [("root_gb", "GiB"), ("swap_mb", "MiB"), ("memory_mb", "MiB"), ("ephemeral_gb", "GiB")])
def test_a_bad_size_is_refused_with_its_unit(key: str, unit: str, value: t.Any) -> None:
    (error,) = errors_of({"vcpus": 1, "memory_mb": 1, key: value})
    assert error.startswith(f"flavor: {key} is {value!r}: it must be a whole number of {unit}, without a unit")


@pytest.mark.parametrize(("key", "value"), [("memory_mb", 1024**3), ("root_gb", "10737418240"), ("vcpus", 5000), ("swap_mb", "9" * 6000)])
def test_a_size_beyond_any_machine_is_refused(key: str, value: t.Any) -> None:
    (error,) = errors_of({"vcpus": 1, "memory_mb": 1, key: value})
    assert f"it must be at most {flavors.FIGURES[key].most}" in error
    assert len(error) < 200


@pytest.mark.parametrize(
    ("known", "asked", "words"),
    [
        (["m1"], "m1", "flavors is a list: it must be a mapping of names to flavors"),
        ("m1", "m1", "flavors is 'm1'"),
        (KNOWN, "list", "flavor 'list' is a list: it must be a mapping"),
        (KNOWN, ["m1.small"], "flavor is a list: it must be the name of a flavor"),
        (KNOWN, True, "flavor is True"),
        ({"a": {"name": "b", "vcpus": 1, "memory_mb": 1}}, "a", "its name is 'b': leave it out"),
        ({}, {"vcpus": 1, "memory_mb": 1, "extra_specs": ["a"]}, "extra_specs is a list: it must be a mapping"),
        ({}, {"vcpus": 1, "memory_mb": 1, "extra_specs": {"a": {"b": 1}}}, "extra spec 'a' is a mapping: it must be text"),
        ({}, {"vcpus": 1, "memory_mb": 1, "extra_specs": {"a": "\x00"}}, "control characters"),
        ({}, {"vcpus": 1, "memory_mb": 1, "name": "x" * 256}, "of at most 255 characters"),
        ({}, {"vcpus": 1, "memory_mb": 1, "name": ["x"]}, "it must be text"),
    ],
)
def test_other_malformed_input(known: t.Any, asked: t.Any, words: str) -> None:
    assert any(words in error for error in flavors.parse(asked, known).errors)


def test_extra_specs_are_text() -> None:
    parsed = flavors.parse({"vcpus": 2, "memory_mb": 1, "extra_specs": {"hw:cpu_cores": 2, "x": True, "y": 1.5}}, {}).flavor
    assert parsed is not None
    assert parsed["extra_specs"] == {"hw:cpu_cores": "2", "x": "true", "y": "1.5"}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(flavors.KEYS) | st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@given(ANYTHING, ANYTHING)
def test_anything_is_a_flavor_or_one_line_for_each_thing_wrong(asked: t.Any, known: t.Any) -> None:
    parsed = flavors.parse(asked, known)
    assert (parsed.flavor is None) == bool(parsed.errors)
    assert all(error and text.shown(error) == error for error in parsed.errors)
    if parsed.flavor:
        assert set(parsed.flavor) == {"name", *flavors.FIGURES, "extra_specs"}
        assert all(figure.least <= parsed.flavor[key] <= figure.most for key, figure in flavors.FIGURES.items())  # type: ignore[literal-required]
        assert flavors.parse(dict(parsed.flavor), {}).flavor == parsed.flavor


# --- what a server has


def swap(size_bytes: int, target: str = "vdb") -> dict[str, t.Any]:
    return a_disk(target, f"/i/{target}", role="swap", virtual_bytes=size_bytes)


def test_a_server_never_seen_before() -> None:
    disks = [
        a_disk(virtual_bytes=10 * GIB + 1),
        a_disk("vdb", "/i/eph0", role="ephemeral", virtual_bytes=GIB),
        a_disk("vdc", "/i/eph1", role="ephemeral", virtual_bytes=GIB // 2),
        swap(100 * MIB, "vdd"),
        a_disk("vde", "/i/data", role="data"),
    ]
    found = flavors.current_of(a_server(vcpus=2, memory_mb=1024, disks=disks))  # type: ignore[arg-type]
    assert found == {"name": "as-defined", "vcpus": 2, "memory_mb": 1024, "root_gb": 11, "ephemeral_gb": 2, "swap_mb": 100, "extra_specs": {}}


def test_a_root_disk_on_the_network_is_no_part_of_a_flavor() -> None:
    for disk in (a_disk(type="network", moves=False), a_disk(type="volume", moves=False)):
        assert flavors.current_of(a_server(disks=[disk]))["root_gb"] == 0  # type: ignore[arg-type]
    assert flavors.current_of(a_server(disks=[a_disk(type="block", moves=False)]))["root_gb"] == 10  # type: ignore[arg-type]
    assert flavors.current_of(a_server(disks=[a_disk(virtual_bytes=None)]))["root_gb"] == 0  # type: ignore[arg-type]


def test_the_metadata_comes_first_and_the_definition_fills_it_up() -> None:
    stated = {"name": "m1.small", "vcpus": None, "memory_mb": 512, "root_gb": 8, "ephemeral_gb": -3, "swap_mb": None, "extra_specs": {"a": "b"}}
    server: t.Any = a_server(vcpus=3, memory_mb=1024, flavor=stated, disks=[a_disk(), swap(MIB)], topology={"sockets": 3, "cores": 1, "threads": 1})
    found = flavors.current_of(server)
    assert found == {"name": "m1.small", "vcpus": 3, "memory_mb": 512, "root_gb": 8, "ephemeral_gb": 0, "swap_mb": 1, "extra_specs": {"a": "b"}}
    assert not flavors.is_unnamed(found)
    assert flavors.current_of(a_server(flavor={"name": None, "vcpus": 2}))["name"] == "as-defined"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "specs"),
    [
        ({"topology": {"sockets": 1, "cores": 2, "threads": 1}}, {"hw:cpu_sockets": "1", "hw:cpu_cores": "2", "hw:cpu_threads": "1"}),
        ({"topology": {"sockets": 1, "dies": 2, "cores": 1, "threads": 1}}, {}),
        ({"topology": None, "pins": {}, "numa_cells": 0, "page_size_kib": None}, {}),
        ({"pins": {"0": "4", "1": "5"}}, {"hw:cpu_policy": "dedicated"}),
        ({"pins": {0: "4", 1: "5"}}, {"hw:cpu_policy": "dedicated"}),
        ({"pins": {"0": "4", "1": "4"}}, {}),
        ({"pins": {"0": "4"}}, {}),
        ({"pins": {"0": "4-5", "1": "6"}}, {}),
        ({"page_size_kib": 2048, "numa_cells": 2}, {}),
        ({"numa_cells": 1}, {}),
    ],
)
def test_extra_specs_of_a_definition(facts: dict[str, t.Any], specs: dict[str, str]) -> None:
    server: t.Any = a_server(vcpus=2, memory_mb=1024, **facts)
    assert flavors.current_of(server)["extra_specs"] == specs
