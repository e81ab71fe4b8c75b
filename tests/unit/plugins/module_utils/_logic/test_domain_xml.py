# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The domain XML: what is read, and when a definition is the same."""

from __future__ import annotations

import json
import shlex
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_edits, domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.definitions import UUID, disk, domain, names, nic, paths

# --- reading


def test_capacity_is_what_the_guest_may_use_after_its_next_start() -> None:
    xml = domain().replace("<vcpu placement='static'>", "<vcpu placement='static' current='1'>").replace("524288</cur", "262144</cur")
    facts = domain_xml.describe(xml)
    assert (facts["vcpus"], facts["vcpus_current"]) == (2, 1)
    assert (facts["memory_mb"], facts["memory_current_mb"]) == (512, 256)


@pytest.mark.parametrize(("unit", "value", "expected"), [("GiB", 2, 2048), ("KiB", 1025, 2), ("b", 1048576, 1), ("MB", 1000, 954), ("", 2048, 2)])
def test_sizes_in_every_unit_are_rounded_up_to_mib(unit: str, value: int, expected: int) -> None:
    attribute = f" unit='{unit}'" if unit else ""
    xml = domain().replace("<memory unit='KiB'>524288", f"<memory{attribute}>{value}")
    assert domain_xml.describe(xml)["memory_mb"] == expected


@pytest.mark.parametrize("size", ["<memory unit='furlong'>1</memory>", "<memory>much</memory>"])
def test_a_size_that_is_none_is_an_error_that_says_so(size: str) -> None:
    with pytest.raises(ColdmoveError, match="is not a size"):
        domain_xml.describe(domain().replace("<memory unit='KiB'>524288</memory>", size))


def test_metadata_is_read() -> None:
    server = (
        "<flavor name='m1.small' vcpus='1' memory_mb='512' root_gb='10' swap_mb='x'><extra_spec name='hw:a'>b</extra_spec></flavor>"
        "<disk target='vdb' role='swap'/><project>web</project> <group>anti</group> <locked by='ann' reason='audit'/>"
        "<image min_ram_mb='256' min_disk_gb='x'/>"
    )
    xml = domain(server=server, devices=disk("/i/a") + disk("/i/b", "vdb"))
    facts, summary = domain_xml.describe(xml), domain_xml.summary(xml)
    assert (summary["locked"], summary["project"]) == (facts["locked"], "web")
    assert facts["image"] == {"min_ram_mb": 256, "min_disk_gb": None}
    assert facts["locked"] == {"by": "ann", "reason": "audit"}
    assert (facts["project"], facts["group"]) == ("web", "anti")
    assert facts["flavor"] == {
        "name": "m1.small", "vcpus": 1, "memory_mb": 512, "root_gb": 10, "ephemeral_gb": None, "swap_mb": None, "extra_specs": {"hw:a": "b"},
    }  # fmt: skip
    assert [one["role"] for one in facts["disks"]] == ["root", "swap"]
    assert facts["blockers"] == []


def test_no_metadata_is_no_lock() -> None:
    facts = domain_xml.describe(domain())
    assert [facts[key] for key in ("locked", "project", "group", "flavor", "image", "origin")] == [None] * 6
    assert domain_xml.summary(domain())["project"] is None


def test_the_layout_of_cpus_and_memory_is_read() -> None:
    more = (
        "<memoryBacking><hugepages><page size='2' unit='M'/></hugepages></memoryBacking><cputune><vcpupin vcpu='0' cpuset='4-5'/></cputune>"
        "<cpu><topology sockets='1' dies='1' cores='2' threads='1'/><numa><cell cpus='0'/><cell cpus='1'/></numa></cpu>"
    )
    facts = domain_xml.describe(domain(more=more, server="<origin>abc</origin>"))
    assert facts["topology"] == {"sockets": 1, "dies": 1, "cores": 2, "threads": 1}
    assert (facts["pins"], facts["numa_cells"], facts["page_size_kib"], facts["origin"]) == ({"0": "4-5"}, 2, 2048, "abc")


def test_without_a_layout_there_is_none() -> None:
    facts = domain_xml.describe(domain())
    assert (facts["topology"], facts["pins"], facts["numa_cells"], facts["page_size_kib"]) == (None, {}, 0, None)


def test_huge_pages_without_a_size_are_the_default_ones() -> None:
    assert domain_xml.describe(domain(more="<memoryBacking><hugepages/></memoryBacking>"))["page_size_kib"] == 2048


def test_roles_follow_nova_s_file_names_and_the_first_other_disk_is_root() -> None:
    names_of_nova = ["disk.swap", "disk", "disk.eph0", "disk.local", "disk.config", "disk.info.qcow2"]
    devices = "".join(disk(f"/i/{name}", f"vd{letter}") for name, letter in zip(names_of_nova, "abcdef", strict=True))
    roles = [one["role"] for one in domain_xml.describe(domain(devices=devices))["disks"]]
    assert roles == ["swap", "root", "ephemeral", "ephemeral", "config_drive", "data"]


def test_the_operator_s_word_on_roles_goes_before_file_names() -> None:
    server = "<disk target='vda' role='data'/><disk target='vdb' role='root'/><disk target='vdc' role='nonsense'/>"
    devices = disk("/i/disk.swap") + disk("/i/b", "vdb") + disk("/i/disk.swap", "vdc")
    assert [one["role"] for one in domain_xml.describe(domain(devices=devices, server=server))["disks"]] == ["data", "root", "swap"]


def test_read_only_media_stay_and_must_exist_on_dest_but_a_config_drive_moves() -> None:
    devices = disk("/iso/install.iso", "sda", device="cdrom") + disk("/i/disk.config", "sdb", device="cdrom") + disk("/i/floppy", "fda", device="floppy")
    facts = domain_xml.describe(domain(devices=devices))
    assert [one["moves"] for one in facts["disks"]] == [False, True, True]
    assert facts["external_files"] == ["/iso/install.iso"]


def test_external_files_are_all_files_that_are_not_the_server_s_own() -> None:
    os = "<type>hvm</type><loader readonly='yes' type='pflash'>/fw/code.fd</loader><kernel>/boot/k</kernel><initrd>/boot/i</initrd><dtb>/boot/d</dtb>"
    more = "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='name=a,file=/etc/ign,x=y'/></qemu:commandline>"
    facts = domain_xml.describe(domain(os=os, more=more))
    assert facts["external_files"] == ["/boot/k", "/boot/i", "/boot/d", "/fw/code.fd", "/etc/ign"]


def test_nvram_is_found_in_both_ways_of_writing_it() -> None:
    old = domain(os="<type>hvm</type><nvram template='/fw/vars.fd'>/nv/web.fd</nvram>")
    new = domain(os="<type>hvm</type><nvram template='/fw/vars.fd' type='file'><source file='/nv/web.fd'/></nvram>")
    for xml in (old, new):
        assert domain_xml.describe(xml)["nvram"] == {"path": "/nv/web.fd", "template": "/fw/vars.fd"}
        assert domain_xml.describe(domain_edits.edit(xml, nvram="/x/new.fd"))["nvram"]["path"] == "/x/new.fd"
    assert domain_xml.describe(domain())["nvram"] is None


@pytest.mark.parametrize("name", ["web", "u 1\"<ü'", "{{ x }}", "a,b\\c"])
def test_nvram_that_only_qemu_is_told_of(name: str) -> None:
    path = f"/nv/{name}_VARS.fd"
    storage = json.dumps({"driver": "file", "filename": path, "node-name": "libvirt-pflash1-storage"}, ensure_ascii=False)
    other = json.dumps({"driver": "file", "filename": "/fw/code.fd", "node-name": "libvirt-pflash0-storage"})
    command_line = f"LC_ALL=C qemu -name {shlex.quote('guest=' + name)} -blockdev {shlex.quote(other)} -blockdev {shlex.quote(storage)} -S"
    assert domain_xml.implied_nvram(command_line) == path


@pytest.mark.parametrize("command_line", ["", "qemu -S", "qemu 'open", '-blockdev "libvirt-pflash1-storage"', "-blockdev '\"libvirt-pflash1-storage\"{'"])
def test_no_nvram_on_the_command_line(command_line: str) -> None:
    assert domain_xml.implied_nvram(command_line) is None


BLOCKED = {
    "host device": "<hostdev type='pci'><source><address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source></hostdev>",
    "mdev": "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev>",
    "vdpa": "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>",
    "serial port": "<serial type='dev'><source path='/dev/ttyS0'/><target port='0'/></serial>",
    "TPM": "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
    "filesystem": "<filesystem type='mount'><source dir='/export'/><target dir='x'/></filesystem>",
    "block device": disk("/dev/vg/lv", kind="block", device="lun"),
    "medium on a block device": disk("/dev/sr0", kind="block", device="cdrom", inside="<readonly/>"),
    "folder as a disk": "<disk type='dir' device='disk'><source dir='/d'/><target dev='vda'/></disk>",
    "nvme": "<disk type='nvme' device='disk'><source type='pci'/><target dev='vda'/></disk>",
    "other format": disk("/i/a.vmdk", image_format="vmdk"),
    "relative path": disk("i/a"),
    "transient disk": disk("/i/a", inside="<transient/>"),
    "encryption": disk("/i/a", inside="<encryption format='luks'><secret type='passphrase' uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></encryption>"),
    "startup policy": disk("/i/a").replace("<source", "<source startupPolicy='optional'"),
    "memory in a file": "<memory model='nvdimm'><source><path>/m</path></source></memory>",
}


@pytest.mark.parametrize("devices", BLOCKED.values(), ids=BLOCKED.keys())
def test_what_a_move_cannot_carry_is_told_once(devices: str) -> None:
    facts = domain_xml.describe(domain(devices=devices))
    assert len(facts["blockers"] + facts["node_ties"]) == 1


def test_what_stays_behind_ties_the_server_to_its_node_and_forbids_no_resize_there() -> None:
    tied = ["host device", "mdev", "vdpa", "serial port", "TPM", "filesystem", "block device", "medium on a block device", "nvme", "memory in a file"]
    facts = domain_xml.describe(domain(devices="".join(BLOCKED[name] for name in tied)))
    assert facts["blockers"] == []
    assert len(facts["node_ties"]) == len(tied)


def test_a_disk_on_a_block_device_is_no_blocker() -> None:
    facts = domain_xml.describe(domain(devices=disk("/dev/vg/lv", kind="block")))
    assert (facts["blockers"], facts["node_ties"]) == ([], [])
    assert domain_xml.describe(domain(devices=disk("/dev/vg/lv", kind="block", inside="<readonly/>")))["node_ties"]


def test_all_blockers_are_reported_at_once() -> None:
    facts = domain_xml.describe(domain(devices="".join(BLOCKED.values())))
    found = facts["blockers"] + facts["node_ties"]
    assert len(found) >= len(BLOCKED)


def test_network_disks_are_not_copied_and_no_blocker() -> None:
    devices = disk("/i/a") + "<disk type='network' device='disk'><source protocol='rbd' name='pool/image'/><target dev='vdb'/></disk>"
    facts = domain_xml.describe(domain(devices=devices))
    assert facts["blockers"] == []
    assert [(one["path"], one["moves"]) for one in facts["disks"]] == [("/i/a", True), ("rbd:pool/image", False)]


# --- hostile input

BOMB = "<!DOCTYPE d [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]>"
HOSTILE = {
    "entities": BOMB + domain(name="X").replace(">X<", ">&b;<"),
    "external entity": "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/hostname'>]>" + domain().replace(">web<", ">&x;<"),
    "external DTD": "<!DOCTYPE domain SYSTEM 'http://192.0.2.1/x.dtd'>" + domain(),
    "not XML": "domain",
    "nothing": "",
    "cut off": domain()[:-3],
    "another root": "<network><name>x</name></network>",
    "surrogate": domain().replace("web", "\ud800"),
    "too deep": "<domain>" + "<a>" * 5000 + "</a>" * 5000 + "</domain>",
}


@pytest.mark.parametrize("xml", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_xml_is_one_clear_error(xml: str) -> None:
    for function in (domain_xml.describe, domain_xml.canonical, domain_edits.edit):
        with pytest.raises(ColdmoveError, match="Nothing was changed"):
            function(xml)


def test_xml_that_cannot_be_read_is_not_logged() -> None:
    assert "geheim" not in domain_xml.mask_secrets("<domain passwd='geheim'")


def test_a_declaration_of_another_encoding_does_no_harm() -> None:
    xml = "<?xml version='1.0' encoding='iso-8859-1'?>\n" + domain(name="ü")
    assert domain_xml.identity(xml) == (UUID, "ü")


# --- comparing

FULL = domain(
    server="<project>p</project>",
    devices="<emulator>/usr/bin/qemu-system-x86_64</emulator>"
    + disk("/i/a", inside="<address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>")
    + disk("/i/b", "vdb", image_format="raw")
    + nic()
    + "<controller type='pci' index='0' model='pcie-root'/><graphics type='vnc' port='-1' autoport='yes' passwd='geheim'><listen type='address'/></graphics>"
    "<memballoon model='virtio'/><input type='mouse' bus='ps2'/>",
)
LIVE = (
    FULL.replace("<domain ", "<domain id='7' ")
    .replace("<target dev='vda' bus='virtio'/>", "<backingStore/><target dev='vda' bus='virtio'/><alias name='virtio-disk0'/>")
    .replace("<source file='/i/a'/>", "<source file='/i/a' index='2'/>")
    .replace("<source network='default'/>", "<source network='default' portid='x' bridge='virbr0'/><target dev='vnet3'/>")
    .replace("port='-1'", "port='5900'")
    .replace("</devices>", "</devices><seclabel type='dynamic'><label>+0:+0</label><imagelabel>+0:+0</imagelabel></seclabel>")
)


def test_a_definition_equals_itself() -> None:
    assert domain_xml.differences(FULL, FULL) == []


@given(name=names, path=paths, network=names)
def test_every_definition_equals_itself(name: str, path: str, network: str) -> None:
    xml = domain(name=name, devices=disk(path) + nic(network), server=f"<project>{escape(name)}</project>")
    assert domain_xml.differences(xml, xml) == []
    assert domain_xml.canonical(xml) == domain_xml.canonical(domain_xml.canonical(xml))


def test_what_only_a_running_domain_has_is_no_difference() -> None:
    assert domain_xml.differences(LIVE, FULL) == []
    assert domain_xml.canonical(LIVE) == domain_xml.canonical(FULL.replace(" port='-1'", ""))


def test_what_libvirt_fills_in_is_no_difference() -> None:
    short = (
        f"<domain type='qemu'><name>web</name><metadata><s:server xmlns:s='{domain_xml.NAMESPACE}'><s:project>p</s:project></s:server></metadata>"
        "<memory unit='MiB'>512</memory><vcpu>2</vcpu><os><type machine='q35'>hvm</type></os><devices>"
        "<disk type='file'><driver type='raw'/><source file='/i/b'/><target dev='vdb'/></disk><disk type='file'><driver type='qcow2'/><source file='/i/a'/>"
        "<target dev='vda'/></disk><interface type='network'><source network='default'/></interface><graphics type='vnc' passwd='geheim'/></devices></domain>"
    )
    assert domain_xml.differences(short, FULL) == []


CHANGES = {
    "a disk's path": ("file='/i/a'", "file='/i/c'"),
    "a disk's format": ("type='raw'", "type='qcow2'"),
    "a disk gone": (disk("/i/b", "vdb", image_format="raw"), ""),
    "a disk more": ("<memballoon", disk("/i/c", "vdc") + "<memballoon"),
    "memory": ("524288</memory>", "524289</memory>"),
    "vCPUs": ("'static'>2<", "'static'>3<"),
    "machine type": ("pc-q35-7.2", "pc-q35-7.1"),
    "network": ("network='default'", "network='other'"),
    "MAC address": ("00:01", "00:02"),
    "an address that was given": ("bus='0x04'", "bus='0x05'"),
    "metadata": ("<project>p<", "<project>q<"),
    "a passphrase": ("geheim", "other"),
    "the name": ("<name>web<", "<name>web2<"),
    "the emulator": ("qemu-system-x86_64", "qemu-system-i386"),
    "a new element": ("<os>", "<title>x</title><os>"),
    "a graphics console gone": (FULL[FULL.index("<graphics") : FULL.index("</graphics>") + 11], ""),
}


@pytest.mark.parametrize(("old", "new"), CHANGES.values(), ids=CHANGES.keys())
def test_a_real_change_is_a_difference(old: str, new: str) -> None:
    changed = FULL.replace(old, new, 1)
    assert changed != FULL
    assert domain_xml.differences(changed, FULL)


def test_0x4_and_0x04_are_the_same_address() -> None:
    assert domain_xml.differences(FULL.replace("bus='0x04'", "bus='0x4'"), FULL) == []


def test_a_lower_boot_order_is_a_difference() -> None:
    xml = domain(os="<type>hvm</type><boot dev='hd'/><boot dev='network'/>")
    assert domain_xml.differences(xml.replace("hd", "x").replace("network", "hd").replace("'x'", "'network'"), xml)


@given(st.permutations(range(3)))
def test_the_order_of_devices_is_no_difference(order: list[int]) -> None:
    parts = [disk("/i/a"), disk("/i/b", "vdb"), nic()]
    assert domain_xml.differences(domain(devices="".join(parts[index] for index in order)), domain(devices="".join(parts))) == []


def test_a_user_s_own_alias_counts() -> None:
    plain, named = domain(devices=disk("/i/a")), domain(devices=disk("/i/a", inside="<alias name='ua-root'/>"))
    assert domain_xml.differences(named, plain)


def test_secrets_are_in_no_diff_and_no_log() -> None:
    for shown in (domain_xml.canonical(FULL), domain_xml.mask_secrets(FULL)):
        assert "geheim" not in shown
        assert "********" in shown


def test_what_libvirt_says_of_a_node() -> None:
    cpu = "<cpu id='{}' socket_id='0' die_id='0' core_id='0' siblings='{}'/>"
    capabilities = (
        "<capabilities><host><cpu><model>EPYC</model></cpu><topology><cells num='1'><cell id='8'><memory unit='KiB'>2097152</memory>"
        "<pages unit='KiB' size='1048576'>1</pages><pages unit='KiB' size='4'>262144</pages><pages unit='KiB' size='2048'>7</pages>"
        f"<cpus num='3'>{cpu.format(4, 4)}{cpu.format(0, 0)}<cpu id='5'/></cpus></cell></cells></topology></host>"
        "<guest><os_type>hvm</os_type><arch name='x86_64'>"
        "<machine canonical='pc-q35-7.2'>q35</machine><machine>pc-q35-7.2</machine></arch></guest></capabilities>"
    )
    pages = [{"size_kib": 2048, "total": 7, "free": 0}, {"size_kib": 1048576, "total": 1, "free": 0}]
    assert domain_xml.read_capabilities(capabilities) == {
        "cpu_model": "EPYC",
        "machine_types": ["pc-q35-7.2", "q35"],
        "numa_cells": [{"id": 8, "cpus": [0, 4], "memory_mb": 2048, "pages": pages}],
    }


def test_what_a_definition_keeps_of_a_node() -> None:
    more = (
        "<memoryBacking><hugepages><page size='1' unit='G'/></hugepages></memoryBacking><cputune><vcpupin vcpu='0' cpuset='7'/><vcpupin vcpu='1' cpuset='1-2'/>"
        "<emulatorpin cpuset='0'/><iothreadpin iothread='1' cpuset='3'/></cputune><numatune><memnode cellid='1' mode='strict' nodeset='4'/>"
        "<memnode cellid='0' mode='preferred' nodeset='0-1'/></numatune>"
        "<cpu><numa><cell id='0' cpus='0' memory='1' unit='GiB'/><cell id='1' cpus='1' memory='1048577' unit='KiB'/></numa></cpu>"
    )
    assert domain_xml.kept(domain(more=more)) == {
        "memory_mb": 512,
        "pinned_cpus": [0, 3, 7],
        "page_size_kib": 1048576,
        "memory_cells": [{"host_cell": 4, "memory_mb": 1025}],
    }


@pytest.mark.parametrize(("kind", "path"), [("dir", "/p"), ("netfs", "/p"), ("logical", None), ("rbd", None)])
def test_only_pools_of_files_have_a_folder(kind: str, path: str | None) -> None:
    assert domain_xml.pool_path(f"<pool type='{kind}'><target><path>/p</path></target></pool>") == path


def test_paths_in_use_include_backing_files() -> None:
    inside = "<backingStore type='file' index='2'><format type='qcow2'/><source file='/i/base'/></backingStore>"
    assert domain_xml.used_paths(domain(devices=disk("/i/a", inside=inside))) == ["/i/a", "/i/base"]
