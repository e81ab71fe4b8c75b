# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From one flavor to another: every reason against it, the sizes of disks, what it takes."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import flavors, resizing
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import GIB, a_disk, a_domain, a_node, a_server, uuid_of

MIB = 1024**2


def a_flavor(name: str = "m1.new", **more: t.Any) -> t.Any:
    """A flavor that a_server() can be resized to: more of everything."""
    return {"name": name, "vcpus": 2, "memory_mb": 2048, "root_gb": 20, "ephemeral_gb": 0, "swap_mb": 0, "extra_specs": {}, **more}


def ephemeral(target: str = "vdb", size: int = 5 * GIB, **more: t.Any) -> dict[str, t.Any]:
    return a_disk(target, f"/i/{target}", role="ephemeral", virtual_bytes=size, **more)


def swap(target: str = "vdc", size: int = 512 * MIB, **more: t.Any) -> dict[str, t.Any]:
    return a_disk(target, f"/i/{target}", role="swap", virtual_bytes=size, **more)


def with_disks(*disks: dict[str, t.Any], **more: t.Any) -> t.Any:
    return a_server(disks=list(disks), **more)


def reasons(server: t.Any, new: t.Any) -> list[str]:
    return resizing.refusals(server, flavors.current_of(server), new)


# --- the rules


def test_what_a_device_has_room_for_counts_only_on_its_own_node():
    server = a_server(disks=[a_disk(path="/dev/vg/w", type="block", moves=False, greatest_bytes=11 * GIB)])
    larger = {"vcpus": 1, "memory_mb": 1024, "root_gb": 20}
    refused = [any("has room for" in reason for reason in resizing.plan(server, larger, {}, in_place=in_place)["errors"]) for in_place in (True, False)]
    assert refused == [True, False]


def test_more_of_everything_is_allowed_and_less_of_what_can_shrink() -> None:
    assert reasons(a_server(), a_flavor()) == []
    assert reasons(a_server(vcpus=8, memory_mb=8192), a_flavor(vcpus=1, memory_mb=128)) == []


def test_the_same_flavor_is_refused() -> None:
    stated = a_flavor("m1.small", root_gb=10)
    server: t.Any = a_server(flavor=stated)
    assert reasons(server, stated) == ["the server has this flavor already: m1.small (2 vCPUs, 2048 MiB, root 10 GiB)"]
    assert reasons(server, {**stated, "name": flavors.INLINE}) != []
    # As in Nova, another name is another flavor; and what was changed under the same name is a change.
    assert reasons(server, {**stated, "name": "m2.small"}) == []
    assert reasons(server, {**stated, "vcpus": 3}) == []
    assert reasons(server, {**stated, "extra_specs": {"hw:cpu_policy": "dedicated"}}) == []


def test_a_server_without_a_flavor_has_the_one_that_it_is_defined_with() -> None:
    equal = a_flavor(vcpus=1, memory_mb=1024, root_gb=10)
    assert len(reasons(a_server(), equal)) == 1
    # Its disk is not quite so large as the rounded figure: it would grow.
    server = with_disks(a_disk(virtual_bytes=10 * GIB - 512))
    assert reasons(server, equal) == []
    assert resizing.sizes(server, equal) == {"vda": 10 * GIB}


@pytest.mark.parametrize(
    ("disks", "stated", "new", "words"),
    [
        ([a_disk()], {}, {"root_gb": 9}, "root_gb is 9, smaller than the root disk vda of 10.0 GiB: disks do not shrink, choose a flavor with at least 10 GiB"),
        ([a_disk(virtual_bytes=12 * GIB + 1)], {"root_gb": 10}, {"root_gb": 12}, "choose a flavor with at least 13 GiB"),
        ([a_disk(virtual_bytes=GIB)], {"root_gb": 10}, {"root_gb": 9}, "smaller than 10 of the flavor that the server has (m1.old)"),
        ([a_disk()], {"root_gb": 10}, {"root_gb": 0}, "local root disk vda of 10.0 GiB: choose a flavor with at least 10 GiB"),
        ([a_disk(virtual_bytes=0)], {}, {"root_gb": 0}, "root_gb is 0, and the server has a local root disk"),
        ([a_disk(type="block", moves=False)], {}, {"root_gb": 0}, "root_gb is 0"),
        ([a_disk(), ephemeral()], {}, {"ephemeral_gb": 4}, "ephemeral_gb is 4, smaller than the ephemeral disk vdb of 5.0 GiB"),
        ([a_disk(), ephemeral()], {}, {"ephemeral_gb": 0}, "ephemeral_gb is 0, smaller"),
        ([a_disk(), ephemeral(size=GIB)], {"ephemeral_gb": 5}, {"ephemeral_gb": 4}, "ephemeral_gb is 4, smaller than 5 of the flavor"),
        ([a_disk(), ephemeral(), ephemeral("vdc")], {}, {"ephemeral_gb": 9}, "smaller than the ephemeral disks vdb, vdc of 10.0 GiB"),
        ([a_disk(), ephemeral(), ephemeral("vdc")], {}, {"ephemeral_gb": 11}, "2 ephemeral disks (vdb, vdc), together 10.0 GiB: which one is to change"),
        ([a_disk(), swap(), swap("vdd")], {}, {"swap_mb": 512}, "has 2 swap disks"),
        ([a_disk(), swap(), swap("vdd")], {}, {"swap_mb": 2048}, "has 2 swap disks"),
        ([a_disk(), a_disk("vdb", "/i/b")], {}, {"root_gb": 30}, "has 2 root disks"),
        ([a_disk()], {}, {"ephemeral_gb": 1}, "ephemeral_gb is 1, but the server has no ephemeral disk"),
        ([a_disk()], {}, {"swap_mb": 512}, 'attach a disk first and give it the role in the metadata of the domain (<disk target="…" role="swap"/>)'),
        ([a_disk(format="vmdk")], {}, {}, "disk vda would grow to 20.0 GiB, but disks of the format 'vmdk' cannot: only qcow2 and raw can"),
        ([a_disk(readonly=True)], {}, {}, "but it is read-only"),
        ([a_disk(internal_snapshots=1)], {}, {}, "there is 1 snapshot inside its file, which would bring the old size back"),
        ([a_disk(), ephemeral(internal_snapshots=2)], {}, {"root_gb": 10, "ephemeral_gb": 6}, "there are 2 snapshots inside its file"),
        ([a_disk(virtual_bytes=None)], {}, {}, "disk vda: its virtual size is not known"),
        ([a_disk(path="/dev/vg/w", type="block", moves=False, greatest_bytes=11 * GIB)], {}, {}, "on the block device /dev/vg/w, which has room for 11.0 GiB"),
        ([a_disk(), {**swap(), "type": "block", "moves": False}], {}, {"root_gb": 10, "swap_mb": 2048}, "choose a flavor with swap_mb 512"),
    ],
)  # fmt: skip
def test_what_is_refused(disks: list[dict[str, t.Any]], stated: dict[str, t.Any], new: dict[str, t.Any], words: str) -> None:
    server = with_disks(*disks, flavor={"name": "m1.old", **stated} if stated else None)
    (reason,) = reasons(server, a_flavor(**new))
    assert words in reason


def test_all_reasons_at_once() -> None:
    server = with_disks(a_disk(), ephemeral(), image={"min_ram_mb": 4096, "min_disk_gb": 8})
    assert len(reasons(server, a_flavor(root_gb=5, ephemeral_gb=1, swap_mb=1))) == 5


@pytest.mark.parametrize("disk", [a_disk(type="network", moves=False, virtual_bytes=None), a_disk(type="volume", moves=False, virtual_bytes=50 * GIB)])
def test_a_root_disk_on_the_network_has_no_rule_and_is_not_touched(disk: dict[str, t.Any]) -> None:
    server = with_disks(disk, flavor={"name": "m1.old", "root_gb": 40}, image={"min_ram_mb": None, "min_disk_gb": 30})
    for root_gb in (0, 1, 80):
        new = a_flavor(root_gb=root_gb)
        assert reasons(server, new) == []
        assert resizing.sizes(server, new) == {}
        assert resizing.need(server, new)["disk_bytes"] == 0


def test_a_format_is_no_matter_for_a_disk_that_does_not_grow() -> None:
    server = with_disks(a_disk(format="vmdk", internal_snapshots=3, readonly=True))
    assert reasons(server, a_flavor(root_gb=10)) == []


def test_what_the_image_asks_for() -> None:
    server: t.Any = a_server(image={"min_ram_mb": 3000, "min_disk_gb": 30})
    assert reasons(server, a_flavor()) == [
        "memory_mb is 2048, and the server's image needs at least 3000 MiB",
        "root_gb is 20, and the server's image needs at least 30 GiB",
    ]
    assert reasons(server, a_flavor(memory_mb=3000, root_gb=30)) == []
    assert reasons(a_server(image={"min_ram_mb": None, "min_disk_gb": None}), a_flavor()) == []  # type: ignore[arg-type]


# --- sizes


def test_sizes_are_of_the_disks_that_change() -> None:
    server = with_disks(a_disk(), ephemeral(), swap(), a_disk("vdd", "/i/data", role="data"), a_disk("hdc", "/i/config", role="config_drive"))
    assert resizing.sizes(server, a_flavor(root_gb=10, ephemeral_gb=5, swap_mb=512)) == {}
    assert resizing.sizes(server, a_flavor(root_gb=11, ephemeral_gb=6, swap_mb=513)) == {"vda": 11 * GIB, "vdb": 6 * GIB, "vdc": 513 * MIB}
    assert resizing.sizes(server, a_flavor(root_gb=11, ephemeral_gb=6, swap_mb=64)) == {"vda": 11 * GIB, "vdb": 6 * GIB, "vdc": 64 * MIB}
    new = a_flavor(root_gb=10, ephemeral_gb=5)
    assert resizing.sizes(server, new) == {"vdc": 0}
    (note,) = resizing.notes(server, new)
    assert "disk vdc is swap and will be removed" in note


def test_several_disks_of_a_role_stay_if_together_they_are_what_the_flavor_says() -> None:
    server = with_disks(a_disk(), ephemeral(size=GIB), ephemeral("vdc", size=GIB // 2), swap("vdd"), swap("vde"))
    new = a_flavor(ephemeral_gb=2, swap_mb=1024)
    assert reasons(server, new) == []
    assert resizing.sizes(server, new) == {"vda": 20 * GIB}
    assert resizing.sizes(server, a_flavor(ephemeral_gb=2)) == {"vda": 20 * GIB, "vdd": 0, "vde": 0}


SIZES = st.integers(1, 64)


@given(SIZES, SIZES, SIZES, SIZES, SIZES, st.integers(0, 64), st.booleans(), st.booleans())
def test_what_is_not_refused_has_the_size_of_the_flavor_and_nothing_shrinks(
    root: int, blank: int, pages: int, new_root: int, new_blank: int, new_pages: int, has_ephemeral: bool, has_swap: bool
) -> None:
    disks = [a_disk(virtual_bytes=root * GIB // 2, allocated_bytes=0)]
    disks += [ephemeral(size=blank * GIB // 2, allocated_bytes=0)] if has_ephemeral else []
    disks += [swap(size=pages * MIB, allocated_bytes=0)] if has_swap else []
    server = with_disks(*disks)
    new = a_flavor(root_gb=new_root, ephemeral_gb=new_blank, swap_mb=new_pages)
    if reasons(server, new):
        return
    sizes = resizing.sizes(server, new)
    after = {disk["role"]: sizes.get(disk["target"], disk["virtual_bytes"]) for disk in disks}
    assert after["root"] == new_root * GIB >= root * GIB // 2
    assert has_ephemeral
    assert after["ephemeral"] == new_blank * GIB >= blank * GIB // 2
    assert after.get("swap", 0) == new_pages * MIB
    assert resizing.need(server, new) == {"vcpus": 2, "memory_mb": 2048, "disk_bytes": sum(after.values())}
    assert all(sizes[disk["target"]] != disk["virtual_bytes"] for disk in disks if disk["target"] in sizes)


# --- what it takes


def test_need_is_the_new_size_of_all_that_moves() -> None:
    server = with_disks(a_disk(), swap(), a_disk("vdd", "/i/data", role="data", virtual_bytes=7 * GIB), a_disk("hdc", "/i/cd", device="cdrom", moves=False))
    assert resizing.need(server, a_flavor(swap_mb=1024)) == {"vcpus": 2, "memory_mb": 2048, "disk_bytes": 28 * GIB}
    assert resizing.need(server, a_flavor())["disk_bytes"] == 27 * GIB
    assert resizing.source_need(server) == {"vcpus": 1, "memory_mb": 1024, "disk_bytes": 17 * GIB + 512 * MIB}


def test_in_place_the_old_files_stay_under_the_new_ones() -> None:
    server = with_disks(a_disk(allocated_bytes=3 * GIB), a_disk("vdb", "/i/data", role="data", virtual_bytes=7 * GIB, allocated_bytes=None))
    assert resizing.need(server, a_flavor(), in_place=True)["disk_bytes"] == 20 * GIB + 3 * GIB + 7 * GIB + 7 * GIB


def test_in_place_what_keeps_its_file_is_counted_once() -> None:
    medium = a_disk("hdc", "/i/config", role="config_drive", readonly=True, virtual_bytes=MIB, allocated_bytes=MIB)
    server = with_disks(a_disk(allocated_bytes=GIB), medium, swap(allocated_bytes=2 * MIB))
    assert resizing.need(server, a_flavor(swap_mb=512), in_place=True)["disk_bytes"] == 20 * GIB + GIB + MIB + 512 * MIB
    assert resizing.need(server, a_flavor(swap_mb=64), in_place=True)["disk_bytes"] == 20 * GIB + GIB + MIB + 64 * MIB + 2 * MIB
    assert resizing.need(server, a_flavor(swap_mb=0), in_place=True)["disk_bytes"] == 20 * GIB + GIB + MIB + 2 * MIB


# --- the whole plan

FLAVORS = {"m1.new": a_flavor(), "m1.tiny": {"vcpus": 1, "memory_mb": 256, "root_gb": 1}}
NODES: t.Any = {"a": a_node("a", [a_domain(1, project="web")]), "b": a_node("b")}


def test_a_whole_plan() -> None:
    found = resizing.plan(with_disks(a_disk(), project="web"), "m1.new", FLAVORS, {"web": {"vcpus": 3}}, NODES)
    assert found == {
        "old_flavor": {"name": "as-defined", "vcpus": 1, "memory_mb": 1024, "root_gb": 10, "ephemeral_gb": 0, "swap_mb": 0, "extra_specs": {}},
        "new_flavor": a_flavor(),
        "errors": [],
        "notes": [],
        "sizes": {"vda": 20 * GIB},
        "need": {"vcpus": 2, "memory_mb": 2048, "disk_bytes": 20 * GIB},
        "source_need": {"vcpus": 1, "memory_mb": 1024, "disk_bytes": 10 * GIB},
    }


def test_reasons_of_rules_and_quota_come_together() -> None:
    found = resizing.plan(with_disks(a_disk(), project="web"), "m1.tiny", FLAVORS, {"web": {"servers": 0, "vcpus": 1, "memory_mb": "1 GB"}}, NODES)
    assert len(found["errors"]) == 2
    found = resizing.plan(with_disks(a_disk(), project="web"), "m1.tiny", FLAVORS, {"web": {"servers": 0, "vcpus": 1}}, NODES)
    assert [reason.split(" ")[0] for reason in found["errors"]] == ["root_gb", "project"]
    # On its own node it takes no vCPU more than it has.
    assert len(resizing.plan(with_disks(a_disk(), project="web"), "m1.tiny", FLAVORS, {"web": {"vcpus": 1}}, NODES, in_place=True)["errors"]) == 1


def test_without_a_flavor_nothing_is_planned() -> None:
    found = resizing.plan(a_server(), "m1.nw", FLAVORS)  # type: ignore[arg-type]
    assert (found["new_flavor"], found["need"], found["sizes"]) == (None, None, {})
    assert found["errors"] == ["flavor 'm1.nw' is not known (did you mean m1.new?)", "the flavors are m1.new, m1.tiny"]


def test_extra_specs_without_effect_are_told() -> None:
    found = resizing.plan(a_server(), {**a_flavor(), "extra_specs": {"quota:x": "1", "hw:cpu_cores": "2"}}, {})  # type: ignore[arg-type]
    assert found["notes"] == ["extra spec 'quota:x' is kept with the flavor and has no effect here"]


def test_names_of_strangers_do_not_reach_the_terminal() -> None:
    server = with_disks(a_disk("v\x1bda"), flavor={"name": "a\nb", "root_gb": 99})
    assert all(reason.isprintable() for reason in [*reasons(server, a_flavor(root_gb=0)), *reasons(server, a_flavor(root_gb=50))])
    assert uuid_of(1) == server["uuid"]
