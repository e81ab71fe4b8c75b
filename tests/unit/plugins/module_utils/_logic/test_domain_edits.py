# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of the domain XML: what they change, what they must leave alone, and that a second time changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import cpusets, domain_edits, domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.definitions import disk, domain, names, nic, paths, texts


@given(name=names, path=paths, network=names)
def test_hostile_values_come_through_unharmed(name: str, path: str, network: str) -> None:
    xml = domain(name=name, devices=disk("/old") + nic("default"))
    edited = domain_edits.edit(xml, disks={"vda": path}, networks={"default": network})
    facts = domain_xml.describe(edited)
    assert facts["name"] == name
    assert [one["path"] for one in facts["disks"]] == [path]
    assert [one["source"] for one in facts["nics"]] == [network]
    assert len(domain_xml.parse(edited).findall(".//*")) == len(domain_xml.parse(xml).findall(".//*"))


@given(st.sampled_from(["/a\0b", "/a\x0bb", "/a\ud800", "/\x1f"]))
def test_values_that_no_xml_can_hold_are_refused(path: str) -> None:
    with pytest.raises(ColdmoveError, match="Nothing was changed"):
        domain_edits.edit(domain(devices=disk("/old")), disks={"vda": path})


# --- editing


@given(path=paths, network=names, vcpus=st.integers(1, 64), memory_mb=st.integers(1, 1 << 20))
def test_an_edit_done_twice_changes_nothing_more(path: str, network: str, vcpus: int, memory_mb: int) -> None:
    more = "<cputune><vcpupin vcpu='1' cpuset='0'/></cputune><cpu><topology sockets='1' cores='2' threads='1'/></cpu>"
    xml = domain(more=more, devices=disk("/old") + nic())
    edits = {"disks": {"vda": path}, "networks": {"default": network}, "flavor": {"vcpus": vcpus, "memory_mb": memory_mb}}
    once = domain_edits.edit(xml, **edits)  # type: ignore[arg-type]
    twice = domain_edits.edit(once, disks=edits["disks"], flavor=edits["flavor"])
    assert twice == once
    assert domain_xml.differences(twice, once) == []
    facts = domain_xml.describe(once)
    assert (facts["vcpus"], facts["vcpus_current"], facts["memory_mb"], facts["memory_current_mb"]) == (vcpus, vcpus, memory_mb, memory_mb)


def test_an_edit_of_nothing_keeps_every_element_and_attribute() -> None:
    xml = domain(server="<project>p</project>", more="<unknown xmlns='urn:x' a='b'>text</unknown>", devices=disk("/i/a") + nic())
    assert domain_xml.differences(xml, domain_edits.edit(xml)) == domain_xml.differences(domain_edits.edit(xml), xml) == []


def test_networks_can_be_swapped() -> None:
    xml = domain(devices=nic("a", "52:54:00:00:00:01") + nic("b", "52:54:00:00:00:02") + nic("c", "52:54:00:00:00:03"))
    edited = domain_edits.edit(xml, networks={"a": "b", "b": "a"})
    assert [one["source"] for one in domain_xml.read_nics(domain_xml.parse(edited))] == ["b", "a", "c"]


def test_a_disk_on_a_volume_becomes_a_disk_on_the_file() -> None:
    xml = domain(devices="<disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='p' volume='v'/><target dev='vda'/></disk>")
    (after,) = domain_xml.describe(domain_edits.edit(xml, disks={"vda": "/i/v"}))["disks"]
    assert (after["type"], after["path"], after["pool"], after["format"]) == ("file", "/i/v", None, "raw")


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ({"disks": {"vdz": "/x"}}, "no disk vdz; it has vda"),
        ({"disks": {"vda": "x"}}, "not absolute"),
        ({"formats": {"vdz": "raw"}}, "no disk vdz; it has vda"),
        ({"formats": {"vda": "vmdk"}}, "only raw or qcow2"),
        ({"nvram": "x"}, "not absolute"),
        ({"flavor": {"vcpus": 0}}, "0 vCPUs"),
        ({"flavor": {"memory_mb": -1}}, "-1 MiB"),
        ({"flavor": {"vcpus": 3, "extra_specs": {"hw:cpu_cores": "2"}}}, "3 vCPUs cannot be cut into 2 cores"),
        ({"origin": "\x00"}, "cannot be written"),
    ],
)
def test_an_edit_that_cannot_be_made_is_refused(edits: dict[str, object], reason: str) -> None:
    with pytest.raises(ColdmoveError, match=reason):
        domain_edits.edit(domain(devices=disk("/i/a")), **edits)  # type: ignore[arg-type]


@given(vcpus=st.integers(1, 200), cores=st.integers(1, 8), threads=st.integers(1, 2))
def test_the_topology_always_gives_the_new_number_of_vcpus(vcpus: int, cores: int, threads: int) -> None:
    more = f"<cpu><topology sockets='1' dies='1' cores='{cores}' threads='{threads}'/></cpu>"
    xml = domain(more=more).replace("<vcpu placement='static'>2", f"<vcpu placement='static'>{cores * threads}")
    topology = domain_xml.parse(domain_edits.edit(xml, flavor={"vcpus": vcpus})).find("cpu/topology")
    product = 1
    for value in topology.attrib.values():
        product *= int(value)
    assert product == vcpus


def test_fewer_vcpus_lose_their_pins_and_their_list() -> None:
    more = (
        "<cputune><vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='1' cpuset='2'/></cputune><vcpus><vcpu id='0' enabled='yes'/><vcpu id='1' enabled='no'/></vcpus>"
    )
    root = domain_xml.parse(domain_edits.edit(domain(more=more), flavor={"vcpus": 1}))
    assert [pin.get("vcpu") for pin in root.findall("cputune/vcpupin")] == ["0"]
    assert root.find("vcpus") is None


def test_one_numa_cell_follows_the_flavor_and_several_are_refused() -> None:
    one = domain(more="<cpu><numa><cell id='0' cpus='0-1' memory='524288' unit='KiB'/></numa></cpu>")
    cell = domain_xml.parse(domain_edits.edit(one, flavor={"vcpus": 4, "memory_mb": 1024})).find("cpu/numa/cell")
    assert dict(cell.attrib) == {"id": "0", "cpus": "0-3", "memory": "1048576", "unit": "KiB"}
    two = domain(more="<cpu><numa><cell id='0' cpus='0' memory='262144'/><cell id='1' cpus='1' memory='262144'/></numa></cpu>")
    with pytest.raises(ColdmoveError, match="2 NUMA cells"):
        domain_edits.edit(two, flavor={"vcpus": 4})
    assert domain_edits.edit(two, flavor={"vcpus": 2, "memory_mb": 512}) == domain_edits.edit(two)  # its own flavor: nothing to spread


def test_memory_modules_are_not_guessed_at() -> None:
    xml = domain(devices="<memory model='dimm'><target><size>1</size></target></memory>", more="<maxMemory slots='2' unit='KiB'>600000</maxMemory>")
    with pytest.raises(ColdmoveError, match="memory modules"):
        domain_edits.edit(xml, flavor={"memory_mb": 1024})


def test_the_ceiling_of_memory_grows_with_the_flavor() -> None:
    xml = domain(more="<maxMemory slots='2' unit='KiB'>600000</maxMemory>")
    assert domain_xml.parse(domain_edits.edit(xml, flavor={"memory_mb": 1024})).findtext("maxMemory") == "1048576"


# --- disks that change their format, disks that go


def test_another_format_is_written_and_what_was_known_of_the_chain_is_dropped() -> None:
    xml = domain(devices=disk("/i/a", image_format="raw", inside="<backingStore/><serial>s</serial>"))
    edited = domain_edits.edit(xml, disks={"vda": "/i/b"}, formats={"vda": "qcow2"})
    element = domain_xml.parse(edited).find("devices/disk")
    assert dict(element.find("driver").attrib) == {"name": "qemu", "type": "qcow2"}
    assert (element.find("backingStore"), element.findtext("serial")) == (None, "s")
    assert domain_edits.edit(edited, disks={"vda": "/i/b"}, formats={"vda": "qcow2"}) == edited


def test_a_disk_without_a_driver_gets_one() -> None:
    xml = domain(devices="<disk type='file' device='disk'><source file='/i/a'/><target dev='vda'/></disk>")
    element = domain_xml.parse(domain_edits.edit(xml, formats={"vda": "qcow2"})).find("devices/disk")
    assert [child.tag for child in element] == ["driver", "source", "target"]
    assert domain_xml.read_disks(domain_xml.parse(domain_edits.edit(xml, formats={"vda": "qcow2"})), None)[0]["format"] == "qcow2"


def test_a_disk_that_goes_leaves_no_role_to_the_next_one_of_that_name() -> None:
    server = "<disk target='vdb' role='swap'/><disk target='vdc' role='data'/>"
    xml = domain(server=server, devices=disk("/i/a") + disk("/i/s", "vdb") + disk("/i/c", "vdc"))
    edits = {"without": ["vdb"], "disks": {"vdb": "/i/s2", "vda": "/i/a2"}, "formats": {"vdb": "raw"}}
    edited = domain_edits.edit(xml, **edits)  # type: ignore[arg-type]
    assert [one["path"] for one in domain_xml.describe(edited)["disks"]] == ["/i/a2", "/i/c"]
    assert "vdb" not in edited
    assert domain_edits.edit(edited, **edits) == edited  # type: ignore[arg-type]


# --- a whole flavor

SMALL = {"name": "m1.small", "vcpus": 2, "memory_mb": 512, "root_gb": 10, "ephemeral_gb": 0, "swap_mb": 64, "extra_specs": {}}
PINS = {"vcpu_pins": {"0": "4", "1": "5"}, "emulator_pins": "4-5", "cells": [], "page_size_kib": None}
CELLS = {
    "vcpu_pins": {"0": "0-3", "1": "4-7"},
    "emulator_pins": "0-7",
    "cells": [{"vcpus": "0", "memory_mb": 256, "host_cell": 0}, {"vcpus": "1", "memory_mb": 256, "host_cell": 1}],
    "page_size_kib": 2048,
}
PINNED = {**SMALL, "name": "pinned", "extra_specs": {"hw:cpu_policy": "dedicated"}}
SPREAD = {**SMALL, "name": "spread", "extra_specs": {"hw:numa_nodes": "2", "hw:mem_page_size": "2MB"}}


def facts_of(xml: str) -> dict[str, object]:
    facts = domain_xml.describe(xml)
    return {key: facts[key] for key in ("pins", "numa_cells", "page_size_kib", "topology")}


NO_LAYOUT = {"pins": {}, "numa_cells": 0, "page_size_kib": None, "topology": None}


@given(
    name=texts,
    keys=st.dictionaries(names, texts, max_size=3),
    numbers=st.tuples(*[st.integers(0, 1 << 20)] * 3),
    server=st.sampled_from(["", "<project>p</project>"]),
)
def test_the_flavor_in_the_metadata_is_the_one_given(name: str, keys: dict[str, str], numbers: tuple[int, int, int], server: str) -> None:
    specs = {f"x:{key}": value.strip() for key, value in keys.items()}
    flavor = {**SMALL, "name": name, "root_gb": numbers[0], "ephemeral_gb": numbers[1], "swap_mb": numbers[2], "extra_specs": specs}
    edited = domain_edits.edit(domain(server=server), flavor=flavor)
    facts = domain_xml.describe(edited)
    assert facts["flavor"] == flavor
    assert facts["project"] == ("p" if server else None)
    assert domain_edits.edit(edited, flavor=flavor) == edited


def test_what_the_design_says_the_metadata_look_like() -> None:
    edited = domain_edits.edit(domain(), flavor={**SMALL, "extra_specs": {"a": "b"}}, origin="0b0d")
    assert (
        f'<metadata><server xmlns="{domain_xml.NAMESPACE}"><flavor name="m1.small" vcpus="2" memory_mb="512" root_gb="10" ephemeral_gb="0" swap_mb="64">'
        '<extra_spec name="a">b</extra_spec></flavor><origin>0b0d</origin></server></metadata><memory'
    ) in edited


def test_the_prefix_of_another_tool_and_the_metadata_of_others_stay() -> None:
    theirs = "<x:app xmlns:x='urn:x'>1</x:app>"
    xml = domain().replace("<memory", f"<metadata>{theirs}<cm:server xmlns:cm='{domain_xml.NAMESPACE}'><cm:group>g</cm:group></cm:server></metadata><memory", 1)
    edited = domain_edits.edit(xml, flavor=SMALL)
    assert edited.count("<metadata>") == edited.count(":server ") == 1
    assert "x:app" in edited
    assert (domain_xml.describe(edited)["group"], domain_xml.describe(edited)["flavor"]) == ("g", SMALL)


def test_values_without_a_name_leave_the_metadata_alone() -> None:
    xml = domain(server="<flavor name='m1.small' vcpus='2' memory_mb='512'/>")
    edited = domain_edits.edit(xml, flavor={"name": None, "vcpus": 4, "memory_mb": 1024, "extra_specs": {}})
    assert domain_xml.describe(edited)["flavor"] == domain_xml.describe(xml)["flavor"]
    assert "metadata" not in domain_edits.edit(domain(), flavor={"vcpus": 4})


def test_a_topology_that_the_flavor_asks_for_comes_and_goes_with_it() -> None:
    asked = {**SMALL, "name": "cores", "vcpus": 4, "extra_specs": {"hw:cpu_cores": "2"}}
    with_topology = domain_edits.edit(domain(), flavor=asked)
    assert domain_xml.describe(with_topology)["topology"] == {"sockets": 2, "cores": 2, "threads": 1}
    without = domain_edits.edit(with_topology, flavor=SMALL)
    assert facts_of(without) == NO_LAYOUT
    # A definition without any <cpu> is no wish to keep the one with sockets.
    assert "/domain/cpu" in domain_xml.differences(without, with_topology)


def test_a_topology_of_the_operator_stays() -> None:
    own = domain(server="<flavor name='m1.tiny'/>", more="<cpu><topology sockets='1' dies='1' cores='2' threads='1'/></cpu>")
    assert domain_xml.describe(domain_edits.edit(own, flavor={**SMALL, "vcpus": 4}))["topology"] == {"sockets": 2, "dies": 1, "cores": 2, "threads": 1}


@pytest.mark.parametrize(("flavor", "placement"), [(PINNED, PINS), (SPREAD, CELLS)], ids=["pinned", "spread"])
def test_what_a_placement_makes_goes_with_its_flavor(flavor: dict[str, object], placement: dict[str, object]) -> None:
    plain = domain_edits.edit(domain(), flavor=SMALL)
    placed = domain_edits.edit(plain, flavor=flavor, placement=placement)
    facts = facts_of(placed)
    assert facts["pins"] == placement["vcpu_pins"]
    assert (facts["numa_cells"], facts["page_size_kib"]) == (len(placement["cells"]), placement["page_size_kib"])  # type: ignore[arg-type]
    again = domain_edits.edit(placed, flavor=SMALL)
    assert facts_of(again) == NO_LAYOUT
    assert domain_xml.differences(again, placed)  # libvirt's definition would change, and the diff says so
    assert [tag for tag in ("cputune", "numatune", "memoryBacking") if f"<{tag}" in again] == []


def test_the_memory_of_each_cell_is_bound() -> None:
    root = domain_xml.parse(domain_edits.edit(domain(), flavor=SPREAD, placement=CELLS))
    assert [dict(cell.attrib) for cell in root.iterfind("cpu/numa/cell")] == [
        {"id": "0", "cpus": "0", "memory": "262144", "unit": "KiB"},
        {"id": "1", "cpus": "1", "memory": "262144", "unit": "KiB"},
    ]
    assert [(one.tag, *one.attrib.values()) for one in root.find("numatune")] == [
        ("memory", "strict", "0-1"),
        ("memnode", "0", "strict", "0"),
        ("memnode", "1", "strict", "1"),
    ]


def test_what_an_operator_says_of_a_cell_stays_and_old_distances_go() -> None:
    distances = "<distances><sibling id='0' value='10'/></distances>"
    more = f"<cpu><numa><cell id='0' cpus='0-1' memory='524288' unit='KiB' memAccess='shared'>{distances}</cell></numa></cpu>"
    cell = domain_xml.parse(domain_edits.edit(domain(more=more), flavor=SPREAD, placement=CELLS)).find("cpu/numa/cell")
    assert (cell.get("memAccess"), len(cell)) == ("shared", 0)


def test_pins_of_an_operator_stay_unless_they_are_what_the_flavor_is_about() -> None:
    wide = "<cputune><shares>5</shares><vcpupin vcpu='0' cpuset='0-3'/><vcpupin vcpu='1' cpuset='0-3'/></cputune>"
    single = wide.replace("vcpu='0' cpuset='0-3'", "vcpu='0' cpuset='3'").replace("vcpu='1' cpuset='0-3'", "vcpu='1' cpuset='2'")
    assert len(domain_xml.describe(domain_edits.edit(domain(more=wide), flavor=SMALL))["pins"]) == 2
    # A CPU for each vCPU is what the derived flavor of a server never seen before calls dedicated.
    edited = domain_edits.edit(domain(more=single), flavor=SMALL)
    assert domain_xml.describe(edited)["pins"] == {}
    assert "<shares>5</shares>" in edited
    # With a flavor in the metadata that asked for nothing they are the operator's own.
    own = domain(more=single, server="<flavor name='x'/>")
    assert len(domain_xml.describe(domain_edits.edit(own, flavor=SMALL))["pins"]) == 2
    assert len(domain_xml.describe(domain_edits.edit(domain(more=single), flavor={"vcpus": 2}))["pins"]) == 2


def test_small_pages_take_huge_ones_away_whoever_set_them() -> None:
    own = domain(more="<memoryBacking><locked/><hugepages/></memoryBacking>", server="<flavor name='x'/>")
    assert domain_xml.describe(domain_edits.edit(own, flavor=SMALL))["page_size_kib"] == 2048
    edited = domain_edits.edit(own, flavor={**SMALL, "extra_specs": {"hw:mem_page_size": "small"}})
    assert domain_xml.describe(edited)["page_size_kib"] is None
    assert "<locked/>" in edited


def test_limits_of_the_whole_process_give_way_to_pins() -> None:
    xml = domain().replace("<vcpu placement='static'>", "<vcpu placement='auto' cpuset='9'>")
    assert dict(domain_xml.parse(domain_edits.edit(xml, flavor=PINNED, placement=PINS)).find("vcpu").attrib) == {"placement": "static"}


def test_a_placement_without_a_flavor_pins_anew() -> None:
    pinned = domain_edits.edit(domain(), flavor=PINNED, placement=PINS)
    moved = domain_edits.edit(pinned, placement={**PINS, "vcpu_pins": {"0": "6", "1": "7"}, "emulator_pins": "6-7"})
    assert domain_xml.describe(moved)["pins"] == {"0": "6", "1": "7"}
    assert domain_xml.describe(moved)["flavor"] == PINNED


# --- laws over every flavor and placement


@st.composite
def sized(draw: st.DrawFn) -> tuple[dict[str, object], dict[str, object] | None]:
    """A whole flavor and, if it asks for one, a placement as placement.py would make it."""
    number = draw(st.sampled_from([0, 1, 2, 4]))
    share = draw(st.integers(1, 8))
    vcpus, memory_mb = share * max(number, 1), 64 * max(number, 1) * draw(st.integers(1, 64))
    dedicated, page = draw(st.booleans()), draw(st.sampled_from([None, "small", "2MB"])) if number else None
    specs: dict[str, object] = {"hw:cpu_policy": "dedicated"} if dedicated else {}
    specs.update({"hw:numa_nodes": number} if number else {})
    specs.update({"hw:mem_page_size": page} if page else {})
    specs.update({"hw:cpu_threads": 1} if draw(st.booleans()) else {})
    flavor = {**SMALL, "name": draw(names), "vcpus": vcpus, "memory_mb": memory_mb, "extra_specs": specs}
    if not number and not dedicated:
        return flavor, None
    cells = [{"vcpus": cpusets.written(range(at * share, (at + 1) * share)), "memory_mb": memory_mb // number, "host_cell": at} for at in range(number)]
    pins = {str(vcpu): str(vcpu + 8) for vcpu in range(vcpus)}
    return flavor, {"vcpu_pins": pins, "emulator_pins": f"8-{vcpus + 7}", "cells": cells, "page_size_kib": 2048 if page == "2MB" else None}


OWN = (
    "<title>t</title><cputune><shares>7</shares></cputune><cpu mode='host-model'><feature policy='require' name='vmx'/></cpu>"
    "<memoryBacking><locked/></memoryBacking>"
)


def without_layout(xml: str) -> str:
    """All that no flavor and no placement has to do with."""
    root = domain_xml.parse(xml)
    for path in (
        "metadata",
        "memory",
        "currentMemory",
        "vcpu",
        "numatune",
        "cputune/vcpupin",
        "cputune/emulatorpin",
        "cpu/numa",
        "cpu/topology",
        "memoryBacking/hugepages",
    ):
        for element in root.findall(path):
            element.getparent().remove(element)
    return domain_xml.canonical(domain_xml.to_string(root))


@given(first=sized(), second=sized(), path=paths)
def test_any_flavor_after_any_other(
    first: tuple[dict[str, object], dict[str, object] | None], second: tuple[dict[str, object], dict[str, object] | None], path: str
) -> None:
    plain = domain(more=OWN, devices=disk(path) + nic(), server="<project>p</project>")
    one = domain_edits.edit(plain, flavor=first[0], placement=first[1], origin="1")
    two = domain_edits.edit(one, flavor=second[0], placement=second[1], origin="2")
    assert domain_edits.edit(two, flavor=second[0], placement=second[1], origin="2") == two
    # The way there does not matter, and all else stays as it was.
    straight = domain_edits.edit(plain, flavor=second[0], placement=second[1], origin="2")
    assert domain_xml.differences(two, straight) == domain_xml.differences(straight, two) == []
    assert without_layout(two) == without_layout(plain)
    facts = domain_xml.describe(two)
    assert (facts["vcpus"], facts["memory_mb"], facts["project"], facts["origin"]) == (second[0]["vcpus"], second[0]["memory_mb"], "p", "2")
    assert facts["pins"] == (second[1] or {"vcpu_pins": {}})["vcpu_pins"]
