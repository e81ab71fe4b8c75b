# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can follow a disk's growth, which disk of a guest is ours, and what a guest says of its disks."""

from __future__ import annotations

import subprocess
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import layout
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.layout import Layout, Marks, Part

MIB, GIB = 1024**2, 1024**3


def part(number: int | None, start: int, size: int, content: str = "ext4", **more: t.Any) -> Part:
    return Part(f"/dev/vda{number or ''}", number, start * MIB, size * MIB, content, **more)


def disk(*parts: Part, table: str = "gpt", size_bytes: int = 10 * GIB, **more: t.Any) -> Layout:
    return Layout("/dev/vda", size_bytes, table, parts, **more)


# --- which part grows


@pytest.mark.parametrize("content", ["ext2", "ext3", "ext4", "xfs"])
@pytest.mark.parametrize("table", ["gpt", "msdos", "unknown"])
def test_the_last_partition_on_the_disk_grows_whatever_its_number(content: str, table: str) -> None:
    """Debian's cloud images: 14 and 15 lie in front of 1."""
    root = part(1, 128, 1000, content)
    assert layout.growable(disk(root, part(14, 1, 3, ""), part(15, 4, 124, "vfat"), table=table)) == (root, None)


def test_a_file_system_without_a_partition_grows() -> None:
    whole = part(None, 0, 1024, "xfs")
    assert layout.growable(disk(whole, table="")) == (whole, None)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (disk(), "neither a partition nor a file system"),
        (disk(part(1, 1, 100), part(2, 101, 100, "swap")), "partition 2, the last one, is left as it is: it is swap space"),
        (disk(part(1, 1, 100, "LVM2_member")), "growpart, pvresize and lvextend"),
        (disk(part(None, 0, 100, "LVM2_member"), table=""), "the disk is left as it is: it holds an LVM physical volume"),
        (disk(part(1, 1, 100, "crypto_LUKS")), "encrypted"),
        (disk(part(1, 1, 100, "btrfs")), "btrfs filesystem resize max"),
        (disk(part(1, 1, 100, "ntfs")), "NTFS"),
        (disk(part(1, 1, 100, "")), "no file system that is known"),
        (disk(part(1, 1, 100, "zfs_member")), "it holds zfs_member: only ext2"),
        (disk(part(1, 1, 10), part(5, 12, 100, "ext4", extended=True), table="msdos"), "extended or logical"),
        (disk(part(1, 1, 100), table="msdos", size_bytes=3 * 1024 * GIB), "convert it to GPT"),
    ],
)
def test_what_is_left_is_said_with_what_to_do(found: Layout, words: str) -> None:
    grows, reason = layout.growable(found)
    assert grows is None
    assert words in (reason or "")


@given(size=st.integers(4 * MIB, 2**62), table=st.sampled_from(["gpt", "msdos"]), sector=st.sampled_from([512, 4096]))
def test_the_new_end_lies_on_the_disk(size: int, table: str, sector: int) -> None:
    found = disk(table=table, size_bytes=size // sector * sector)
    end = (layout.last_sector(found, sector) + 1) * sector
    assert end % MIB == 0
    assert 0 <= found.size_bytes - end <= layout.SLACK_BYTES
    if table == "gpt":
        assert found.size_bytes - end >= 16384 + sector


def test_room() -> None:
    full = disk(part(1, 1, 10 * 1024 - 2))
    assert not full.has_room(full.parts[0], full.parts[0].size_bytes)
    assert full.has_room(full.parts[0], full.parts[0].size_bytes - 100 * MIB)  # the partition has grown, its file system has not
    assert full._replace(size_bytes=11 * GIB).has_room(full.parts[0], full.parts[0].size_bytes)


# --- which disk is ours


def named(name: str, size: int, serial: str = "", address: str = "") -> Layout:
    return Layout(f"/dev/{name}", size, "", (), serial, address)


SERIAL = "a-very-long-serial-number"


@pytest.mark.parametrize(
    ("disks", "marks", "ours"),
    [
        ([named("vda", 5), named("vdb", 7)], Marks(), "/dev/vdb"),
        ([named("vda", 7, SERIAL[:20]), named("vdb", 7)], Marks(SERIAL), "/dev/vda"),
        ([named("sda", 7, SERIAL), named("sdb", 7)], Marks(SERIAL), "/dev/sda"),
        ([named("vda", 5, "s"), named("vdb", 7)], Marks("s"), "/dev/vda"),
        ([named("vda", 7, "", "0000:00:05.0"), named("vdb", 7, "", "0000:00:06.0")], Marks("", "0000:00:06.0"), "/dev/vdb"),
        ([named("vda", 5, "", "0000:00:05.0"), named("vdb", 7, "", "0000:01:00.0")], Marks("", "0000:00:05.0"), "/dev/vdb"),
        ([named("vda", 7), named("vdb", 7)], Marks(), None),
        ([named("vda", 7), named("vdb", 7)], Marks("other", "0000:00:05.0"), None),
        ([named("vda", 7, "s"), named("vdb", 7, "s")], Marks("s"), None),
        ([named("vda", 5)], Marks(), None),
        ([], Marks(SERIAL), None),
    ],
)
def test_a_disk_is_known_for_sure_or_not_touched(disks: list[Layout], marks: Marks, ours: str | None) -> None:
    found, reason = layout.choose(disks, marks, 7)
    assert (found.device if found else None) == ours
    assert (reason is None) == (ours is not None)
    assert "give the disk a <serial>" in (reason or "give the disk a <serial>")


# --- what a guest says

BUS = "/sys/devices/pci0000:00"
SAID = f"""\
block|{BUS}/0000:00:05.0/virtio2/block/vda|252:0|524288||root-disk|
block|{BUS}/0000:00:05.0/virtio2/block/vda/vda1|252:1|261120|262144 1 ||
block|{BUS}/0000:00:05.0/virtio2/block/vda/vda15|252:15|253952|8192 15 ||
block|{BUS}/0000:00:02.1/0000:02:00.0/virtio3/block/vdb|252:16|1048576||  |
block|{BUS}/0000:00:07.0/virtio4/block/vdc|252:32|65536|||
block|{BUS}/0000:00:08.0/virtio5/block/vdd|252:48|65536|||LVM-abc
block|/sys/devices/virtual/block/loop0|7:0|0|||
block|/sys/devices/virtual/block/dm-0|253:0|65000|||
mount|22 1 252:1 / / rw,relatime shared:1 - ext4 /dev/root rw
mount|23 22 252:15 / /boot/efi rw - vfat /dev/vda15 rw
mount|30 22 252:16 / /srv/with\\040blank\\134 rw - xfs /dev/vdb rw
mount|24 22 0:22 / /proc rw - proc proc rw
mount|garbage
swap|Filename Type Size Used Priority
swap|/dev/vdc partition 32764 0 -2
something else
"""


def test_a_guests_answer() -> None:
    vda, vdb, vdc, vdd, _dm = layout.read_guest(SAID)
    root = Part("/dev/vda1", 1, 262144 * 512, 261120 * 512, "ext4", "/")
    assert vda == Layout("/dev/vda", 524288 * 512, "unknown", (root, vda.parts[1]), "root-disk", "0000:00:05.0")
    assert (vda.parts[1].number, vda.parts[1].content, vda.parts[1].mountpoint) == (15, "vfat", "/boot/efi")
    assert layout.growable(vda) == (root, None)
    assert vdb == Layout("/dev/vdb", 1 << 29, "", (Part("/dev/vdb", None, 0, 1 << 29, "xfs", "/srv/with blank\\"),), "", "0000:02:00.0")
    assert (vdc.parts[0].content, vdd.parts[0].content) == ("swap", "LVM2_member")


@given(said=st.text(st.characters(codec="utf-8"), max_size=200))
def test_whatever_a_guest_says_is_data(said: str) -> None:
    for text in (said, f"block|{said}", f"mount|{said}", f"swap|{said}", f"block|{said}|1:1|2|3 4|5|6"):
        try:
            layout.read_guest(text)
        except ColdmoveError as exc:
            assert len(str(exc)) < 1000


def test_the_question_is_understood_by_a_shell() -> None:
    """Asked of this machine: whatever disks it has, the answer can be read."""
    script = layout.LOOK.replace("echo 1 >", ": ")
    done = subprocess.run(["/bin/sh", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60)
    for found in layout.read_guest(done.stdout):
        assert found.device.startswith("/dev/")
        assert found.size_bytes > 0
