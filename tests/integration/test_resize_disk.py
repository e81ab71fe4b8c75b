# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""virt_resize_disk with real servers: what libvirt, the guest and its agent say afterwards, and that refusals touch nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from integration.runs import environment

from lab import DiskSpec, GuestSpec, Lab
from lab.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.state import GuestState

pytestmark = pytest.mark.lab
MIB = 1024 * 1024
NODE = "node1"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One node is enough."""
    with Lab(f"g{os.getpid()}", nodes=1) as made:
        yield made


@pytest.fixture(scope="module")
def rich(lab: Lab) -> GuestState:
    """A running guest with an agent: ext4 in a GPT, xfs in an MBR, xfs on a whole disk, and an LVM physical volume."""
    xfs = DiskSpec(320 * MIB, "raw", table="mbr", filesystem="xfs")
    disks = [DiskSpec(table="gpt", content_mib=1), xfs, DiskSpec(330 * MIB, filesystem="xfs"), DiskSpec(role="blank")]
    made = lab.define_guest(NODE, GuestSpec("rich", disks, memory_mib=256, agent=True))
    lab.start_guest(NODE, made)
    wait_for("the guest's agent", lambda: "state='connected'" in lab.virsh(NODE, "dumpxml", made.uuid), 30)
    return made


@pytest.fixture(scope="module")
def plain(lab: Lab) -> GuestState:
    """A running guest without an agent."""
    made = lab.define_guest(NODE, GuestSpec("plain", [DiskSpec()]))
    lab.start_guest(NODE, made)
    return made


def resize(lab: Lab, *options: str, **arguments: Any) -> dict[str, Any]:
    """Run the module on the node; what it returned, and whether it `failed`, and of what it `warned`."""
    argv = [str(Path(sys.executable).with_name("ansible")), NODE, "-i", str(lab.inventory_path), "-m", "coldmove.libvirt.virt_resize_disk"]
    done = subprocess.run(
        [*argv, *options, "-a", json.dumps(arguments)],
        env={name: value for name, value in environment(2).items() if not name.startswith("ANSIBLE_CALLBACK")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    head, _arrow, result = done.stdout.partition(" => ")
    return {"failed": "FAILED" in head, "warned": done.stderr, **json.loads(result.partition("\n}")[0] + "\n}")}


def virtual_bytes(lab: Lab, path: str, image_format: str) -> int:
    return int(json.loads(lab.exec(NODE, "qemu-img", "info", "-U", "-f", image_format, "--output=json", path).stdout)["virtual-size"])


def test_running_server_with_an_agent(lab: Lab, rich: GuestState) -> None:
    """Case 56: the disk grows, the partition and the file system in it with it, and the guest sees all of it without a stop."""
    arguments = {"server": "rich", "target": "vda", "size": "256M", "grow_filesystem": True}
    predicted = resize(lab, "--check", **arguments)
    assert (predicted["changed"], predicted["after_bytes"], predicted["filesystem"]["grown"]) == (True, 256 * MIB, True)
    assert lab.guest_info(rich)["vda_bytes"] == str(64 * MIB)
    boots = lab.guest_info(rich)["boots"]
    first, again = resize(lab, **arguments), resize(lab, **arguments)
    assert (first["changed"], first["before_bytes"], first["after_bytes"]) == (True, 64 * MIB, 256 * MIB), first
    filesystem = first["filesystem"]
    assert (filesystem["grown"], filesystem["device"], filesystem["type"], filesystem["how"], filesystem["not_done"]) == (
        True,
        "/dev/vda1",
        "ext4",
        "agent",
        [],
    )
    assert filesystem["before_bytes"] < 64 * MIB < 200 * MIB < filesystem["after_bytes"]
    assert (again["failed"], again["changed"], again["filesystem"]["grown"]) == (False, False, False), again
    info = lab.guest_info(rich)
    assert (info["vda_bytes"], info["boots"]) == (str(256 * MIB), boots)
    assert int(info["vda1_bytes"]) >= 254 * MIB
    assert int(info["vda_filesystem_bytes"]) > 200 * MIB
    assert lab.guest_command(rich, "sh cd /data && sha256sum -c SHA256SUMS") == "blob-1: OK"


@pytest.mark.parametrize(("target", "device", "size"), [("vdb", "/dev/vdb1", 512), ("vdc", "/dev/vdc", 640)])
def test_xfs_in_a_running_server(lab: Lab, rich: GuestState, target: str, device: str, size: int) -> None:
    """In an MBR, and without any partition."""
    done = resize(lab, server=rich.uuid, target=target, size=f"{size}MiB", grow_filesystem=True)
    assert (done["changed"], done["filesystem"]["grown"], done["filesystem"]["device"], done["filesystem"]["type"]) == (True, True, device, "xfs"), done
    assert int(lab.guest_info(rich)[f"{target}_filesystem_bytes"]) > (size - 100) * MIB


def test_only_the_disk_unless_asked(lab: Lab, rich: GuestState) -> None:
    """Case 56: not asked, only the disk grows. Asked later, the rest follows."""
    before = lab.guest_info(rich)
    done = resize(lab, server="rich", target="vda", size="+64M")
    assert (done["changed"], "filesystem" in done) == (True, False)
    now = lab.guest_info(rich)
    assert int(now["vda_bytes"]) == int(before["vda_bytes"]) + 64 * MIB
    assert (now["vda1_bytes"], now["vda_filesystem_bytes"]) == (before["vda1_bytes"], before["vda_filesystem_bytes"])
    done = resize(lab, server="rich", target="vda", size=now["vda_bytes"], grow_filesystem=True)
    assert (done["before_bytes"], done["after_bytes"], done["changed"], done["filesystem"]["grown"]) == (
        int(now["vda_bytes"]),
        int(now["vda_bytes"]),
        True,
        True,
    )
    assert int(lab.guest_info(rich)["vda_filesystem_bytes"]) > int(now["vda_filesystem_bytes"])


def test_what_is_not_done_is_said(lab: Lab, rich: GuestState, plain: GuestState) -> None:
    """A disk without a file system, and a guest without an agent: the disk grows, and a warning says what did not."""
    blank = resize(lab, server="rich", target="vdd", size="96M", grow_filesystem=True)
    assert (blank["changed"], blank["filesystem"]["grown"]) == (True, False)
    assert "neither a partition nor a file system" in blank["filesystem"]["not_done"][0]
    mute = resize(lab, server="plain", target="vda", size="96M", grow_filesystem=True)
    assert (mute["changed"], mute["filesystem"]["grown"], mute["filesystem"]["how"]) == (True, False, None)
    assert "no guest agent answers" in mute["filesystem"]["not_done"][0]
    assert mute["filesystem"]["not_done"][0] in mute["warned"]
    assert lab.guest_info(plain)["vda_bytes"] == str(96 * MIB)


def test_a_tool_that_the_guest_does_not_have(lab: Lab, rich: GuestState) -> None:
    """The disk has grown and stays so, the failure says what is missing, and the next run goes on from there."""
    before = int(lab.guest_info(rich)["vda_bytes"])
    arguments = {"server": "rich", "target": "vda", "size": before + 64 * MIB, "grow_filesystem": True}
    lab.guest_command(rich, "sh mv /bin/growpart /bin/growpart.away && echo ok")
    try:
        failed = resize(lab, **arguments)
    finally:
        lab.guest_command(rich, "sh mv /bin/growpart.away /bin/growpart && echo ok")
    assert failed["failed"], failed
    assert "the guest has no growpart: install it there" in failed["msg"]
    assert (failed["changed"], failed["before_bytes"], failed["after_bytes"]) == (True, before, before + 64 * MIB)
    done = resize(lab, **arguments)
    assert (done["failed"], done["changed"], done["filesystem"]["grown"]) == (False, True, True), done
    assert done["before_bytes"] == done["after_bytes"] == before + 64 * MIB


REFUSED = {
    "ambiguous unit": ({"target": "vda", "size": "10 GB"}, "powers of 1000"),
    "negative": ({"target": "vda", "size": "-1"}, "never shrinks"),
    "exponent": ({"target": "vda", "size": "1e3"}, "not understood"),
    "float": ({"target": "vda", "size": 1000.0}, "not understood"),
    "no whole sector": ({"target": "vda", "size": 1000000001}, "no multiple of 512"),
    "smaller": ({"target": "vda", "size": "1M"}, "no disk is ever shrunk"),
    "no such disk": ({"target": "vdz", "size": "1G"}, "has no disk vdz; it has vda"),
    "no such server": ({"server": "nobody", "target": "vda", "size": "1G"}, "nobody is not defined"),
    "the file of a running server": ({"server": None, "path": "FILE", "format": "qcow2", "size": "1G"}, "in use by server plain"),
    "no such file": ({"server": None, "path": "/nonexistent", "format": "raw", "size": "1G"}, "No such file"),
    "a file of a migration": ({"server": None, "path": "/x.coldmove-held-1", "format": "raw", "size": "1G"}, "belongs to a migration"),
    "a path without a format": ({"server": None, "path": "FILE", "size": "1G"}, "format"),
    "two things at once": ({"path": "FILE", "target": "vda", "format": "raw", "size": "1G"}, "mutually exclusive"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_clear_error(lab: Lab, plain: GuestState, case: str) -> None:
    arguments, reason = REFUSED[case]
    arguments = {name: plain.files[0] if value == "FILE" else value for name, value in {"server": "plain", **arguments}.items() if value is not None}
    before = lab.guest_info(plain)["vda_bytes"]
    for options in ([], ["--check"]):
        done = resize(lab, *options, **arguments)
        assert done["failed"], done
        assert reason in done["msg"]
        assert "\n" not in done["msg"]
    assert lab.guest_info(plain)["vda_bytes"] == before


def test_server_that_is_off(lab: Lab) -> None:
    """By its definition's format: a raw disk in which the guest has written a qcow2 header grows as raw (CVE-2026-24708)."""
    guest = lab.define_guest(NODE, GuestSpec("off", [DiskSpec(), DiskSpec(role="blank", format="raw")]))
    raw = guest.files[1]
    lab.exec(NODE, "sh", "-c", 'qemu-img create -q -f qcow2 "$1.q" 1G && dd if="$1.q" of="$1" conv=notrunc status=none && rm "$1.q"', "sh", raw)
    for target, image_format in (("vda", "qcow2"), ("vdb", "raw")):
        first, again = (resize(lab, "--diff", server="off", target=target, size="128M") for _time in range(2))
        assert (first["changed"], first["format"], first["before_bytes"], first["after_bytes"]) == (True, image_format, 64 * MIB, 128 * MIB), first
        assert (again["failed"], again["changed"]) == (False, False)
        assert virtual_bytes(lab, first["path"], image_format) == 128 * MIB
    assert int(lab.exec(NODE, "stat", "-c", "%s", raw).stdout) == 128 * MIB
    lab.start_guest(NODE, guest)
    info = lab.guest_info(guest)
    assert [info[name] for name in ("vda_bytes", "vdb_bytes")] == [str(128 * MIB)] * 2


def test_managed_save_is_not_spoilt(lab: Lab) -> None:
    """A saved guest would wake up on a disk of another size than it knows."""
    guest = lab.define_guest(NODE, GuestSpec("saved", [DiskSpec()]))
    lab.start_guest(NODE, guest)
    lab.virsh(NODE, "managedsave", guest.uuid)
    done = resize(lab, server="saved", target="vda", size="128M")
    assert done["failed"]
    assert "managed-save image" in done["msg"]
    assert virtual_bytes(lab, guest.files[0], "qcow2") == 64 * MIB


@pytest.fixture
def lun(lab: Lab) -> Iterator[str]:
    """A block device of the node that others make larger: a loop device, 64 MiB."""
    nodes = "[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237; for n in 0 1 2 3 4 5 6 7; do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done"
    lab.exec(NODE, "sh", "-c", f"{nodes}; truncate -s 64M /var/tmp/lun")
    device = lab.exec(NODE, "losetup", "--find", "--show", "/var/tmp/lun").stdout.strip()
    try:
        yield device
    finally:
        lab.exec(NODE, "losetup", "--detach", device)


def test_block_device_of_a_running_server(lab: Lab, lun: str) -> None:
    """It must have grown where it comes from; then the guest is told."""
    disk = f"<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='{lun}'/><target dev='vdb' bus='virtio'/></disk>"
    guest = lab.define_guest(NODE, GuestSpec("lun", [DiskSpec()], devices=disk))
    lab.start_guest(NODE, guest)
    try:
        early = resize(lab, server="lun", target="vdb", size="128M")
        assert early["failed"]
        assert "is no logical volume: grow it where it comes from" in early["msg"]
        lab.exec(NODE, "sh", "-c", 'truncate -s 128M /var/tmp/lun && losetup --set-capacity "$1"', "sh", lun)
        assert lab.guest_info(guest)["vdb_bytes"] == str(64 * MIB)
        first, again = (resize(lab, server="lun", target="vdb", size="128M") for _time in range(2))
        assert (first["changed"], first["before_bytes"], first["after_bytes"]) == (True, 64 * MIB, 128 * MIB), first
        assert (again["failed"], again["changed"]) == (False, False)
        assert lab.guest_info(guest)["vdb_bytes"] == str(128 * MIB)
    finally:
        lab.remove_guest(NODE, guest)
