# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What lies on a disk, and which of it can follow the disk's growth. Read by libguestfs while the server is off, by the guest agent while it runs."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.text import human_bytes, shown

EXT = ("ext2", "ext3", "ext4")
FILE_SYSTEMS = (*EXT, "xfs")
#: What partition tools leave free at the end of a disk: alignment, and GPT's second copy. A partition that ends so near fills its disk.
SLACK_BYTES = 2 * 1024 * 1024
#: An MBR counts sectors of 512 bytes in 32 bits.
MBR_BYTES = (1 << 32) * 512
#: A virtio disk tells so many characters of its serial number.
VIRTIO_SERIAL = 20

_BY_HAND = {
    "LVM2_member": "it holds an LVM physical volume: in the guest, growpart, pvresize and lvextend --resizefs grow it",
    "crypto_LUKS": "it is encrypted: in the guest, growpart, cryptsetup resize and the file system's own tool grow it",
    "btrfs": "it holds btrfs: in the guest, growpart and btrfs filesystem resize max grow it",
    "ntfs": "it holds NTFS: the guest's own disk management grows it",
    "swap": "it is swap space",
    "linux_raid_member": "it is part of an md array: in the guest, growpart and mdadm --grow grow it",
    "": "it holds no file system that is known, or none that the running guest has mounted",
}
_STACKED = {"LVM-": "LVM2_member", "CRYPT-": "crypto_LUKS"}


class Part(t.NamedTuple):
    """A partition, or the whole disk if it has none. As the guest names it."""

    device: str
    #: None: the whole disk.
    number: int | None
    start_bytes: int
    size_bytes: int
    #: Kind of content as blkid calls it; empty if nothing is known.
    content: str
    #: Where the running guest has it mounted.
    mountpoint: str | None = None
    #: MBR: a box of logical partitions, or one of them.
    extended: bool = False

    @property
    def end_bytes(self) -> int:
        """The first byte behind it."""
        return self.start_bytes + self.size_bytes


class Layout(t.NamedTuple):
    """One disk."""

    device: str
    size_bytes: int
    #: ``gpt``, ``msdos``, ``unknown`` (there are partitions; the running guest does not say of which kind) or empty (no table).
    table: str
    parts: tuple[Part, ...]
    serial: str = ""
    #: On the guest's PCI bus, like ``0000:00:05.0``.
    address: str = ""

    def has_room(self, part: Part, filesystem_bytes: int) -> bool:
        """Whether ``part`` or its file system can grow by more than is always left over."""
        return max(self.slack_bytes(part), part.size_bytes - filesystem_bytes) > SLACK_BYTES

    def slack_bytes(self, part: Part) -> int:
        """How far ``part`` can be moved out."""
        return self.size_bytes - part.end_bytes


def growable(layout: Layout) -> tuple[Part | None, str | None]:
    """What is to grow with the disk, or why nothing is: only what ends last on the disk has room behind it."""
    if not layout.parts:
        return None, f"{layout.device} has neither a partition nor a file system that is known"
    last = max(layout.parts, key=lambda part: part.end_bytes)
    name = f"partition {last.number}" if last.number is not None else "the disk"
    if last.extended:
        return None, f"{name}, the last one, is an extended or logical partition of an MBR: none of those is moved"
    if last.content not in FILE_SYSTEMS:
        reason = _BY_HAND.get(last.content, f"it holds {last.content}: only ext2, ext3, ext4 and xfs are grown")
        return None, f"{name}{', the last one,' if last.number is not None else ''} is left as it is: {reason}"
    if layout.table == "msdos" and layout.size_bytes > MBR_BYTES:
        return (
            None,
            f"{layout.device} has {human_bytes(layout.size_bytes)} and an MBR, which cannot describe more than {human_bytes(MBR_BYTES)}: convert it to GPT",
        )
    return last, None


def last_sector(layout: Layout, sector_bytes: int = 512) -> int:
    """The last sector of a partition that goes as far as its table allows, ending at a whole MiB."""
    total = layout.size_bytes // sector_bytes
    behind = 1 + -(-16384 // sector_bytes) if layout.table == "gpt" else 0  # GPT's second header and its 128 entries
    whole = 1024 * 1024 // sector_bytes
    return (total - behind) // whole * whole - 1


class Marks(t.NamedTuple):
    """By what a disk of a domain can be known in its guest; empty where its XML does not say."""

    serial: str = ""
    address: str = ""


def choose(disks: t.Sequence[Layout], marks: Marks, size_bytes: int) -> tuple[Layout | None, str | None]:
    """The guest's disk that is ours, or why it cannot be told. Serial numbers are the surest, then the only one of its size, then the place on the bus."""
    named = [disk for disk in disks if disk.serial and disk.serial in (marks.serial, marks.serial[:VIRTIO_SERIAL])]
    same = [disk for disk in disks if disk.size_bytes == size_bytes]
    placed = [disk for disk in same if disk.address and disk.address == marks.address]
    for found in (named, same, placed):
        if len(found) == 1:
            return found[0], None
    what = f"the guest has {len(same)} disks of that size" if same else "the guest does not see a disk of that size"
    return None, f"{what}, so it cannot be told which one it is: give the disk a <serial>, or grow its file system in the guest"


# --- the running guest's own view

#: Run in the guest by its shell: prints what read_guest() reads. A shell, cat and readlink are needed; busybox has them. A SCSI disk
#: learns of its new size only when it is looked at anew.
LOOK = r"""
for r in /sys/class/block/sd*/device/rescan; do [ -e "$r" ] && echo 1 >"$r"; done
for b in /sys/class/block/*; do
  h=; for d in "$b"/holders/*/dm/uuid; do [ -e "$d" ] && h=$(cat "$d"); done
  echo "block|$(readlink -f "$b")|$(cat "$b/dev")|$(cat "$b/size")|$(cat "$b/start" "$b/partition" 2>/dev/null | tr '\n' ' ')|$(cat "$b/serial" 2>/dev/null)|$h"
done
while read -r l; do echo "mount|$l"; done </proc/self/mountinfo
while read -r l; do echo "swap|$l"; done </proc/swaps
"""
_PCI = re.compile(r"/([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=/(?:virtio|nvme))")


def read_guest(said: str) -> list[Layout]:
    """The disks of a running guest by what LOOK printed in it."""
    lines = [shown(line).partition("|") for line in said.splitlines()]
    mounted = dict(found for kind, _bar, rest in lines if kind == "mount" for found in [_mount(rest)] if found)
    swaps = {rest.split()[0].rpartition("/")[2] for kind, _bar, rest in lines if kind == "swap" and rest.split()}
    blocks = [_block(rest, mounted, swaps) for kind, _bar, rest in lines if kind == "block"]
    return [_disk(block, blocks) for block in blocks if block.part.number is None and block.part.size_bytes]


class _Block(t.NamedTuple):
    part: Part
    #: Of a partition: its disk.
    parent: str
    serial: str
    address: str


def _mount(line: str) -> tuple[str, tuple[str, str]] | None:
    """(MAJOR:MINOR, (mountpoint, type)) of a line of mountinfo; see proc(5)."""
    before, _dash, behind = line.partition(" - ")
    fields, kind = before.split(" "), behind.split(" ")[0]
    # A bind mount of a folder has another root: its mountpoint is as good.
    return (fields[2], (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4]), kind)) if len(fields) > 4 and kind else None


def _block(line: str, mounted: t.Mapping[str, tuple[str, str]], swaps: t.Container[str]) -> _Block:
    fields = line.split("|")
    if len(fields) < 6:
        raise ColdmoveError(f"the guest's answer about its disks is not understood: {line[:200]!r}")
    path, number, size, place, serial, holder = fields[:6]
    parent, name = path.split("/")[-2:] if path.count("/") > 1 else ("", path)
    start, partition = [*map(_whole, place.split()), None, None][:2]
    mountpoint, content = mounted.get(number, (None, ""))
    content = content or ("swap" if name in swaps else next((kind for prefix, kind in _STACKED.items() if holder.startswith(prefix)), ""))
    part = Part(f"/dev/{name}", partition, (start or 0) * 512, (_whole(size) or 0) * 512, content, mountpoint)
    address = _PCI.findall(path)
    return _Block(part, f"/dev/{parent}", serial.strip(), address[-1] if address else "")


def _disk(block: _Block, blocks: t.Sequence[_Block]) -> Layout:
    whole = block.part
    parts = tuple(other.part for other in blocks if other.part.number is not None and other.parent == whole.device)
    return Layout(whole.device, whole.size_bytes, "unknown" if parts else "", parts or ((whole,) if whole.content else ()), block.serial, block.address)


def _whole(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None
