# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The only door to libguestfs: what lies in an image that no server has open, read and grown inside a small virtual machine.

The node's own kernel never sees the guest's partition table or file systems: whoever controls the guest has written them.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import layout
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.layout import Layout, Part

try:
    import guestfs

    HAS_GUESTFS = True
except ImportError:
    HAS_GUESTFS = False

_DISK = "/dev/sda"
_EXTENDED = (0x05, 0x0F, 0x85)


MISSING = (
    "the Python library guestfs (python3-guestfs) is missing on this node, and without it no file system of a server that is off can be grown: "
    "run the playbook coldmove.libvirt.prepare with coldmove_guestfs=true, or leave out grow_filesystem"
)


@contextlib.contextmanager
def opened(path: str, image_format: str, readonly: bool) -> t.Iterator[Appliance]:
    """The appliance with this one disk. ``readonly``: what it would write goes nowhere. Takes seconds with KVM, much longer without."""
    if not HAS_GUESTFS:
        raise ColdmoveError(MISSING)
    with tempfile.TemporaryDirectory(prefix="coldmove-") as directory:
        # Libguestfs takes no file name with a colon.
        link = os.path.join(directory, "disk")
        os.symlink(path, link)
        handle = _launched(path, link, image_format, readonly)
        with contextlib.closing(handle):
            yield Appliance(handle)
            _called(handle.shutdown)  # an error while the last writes go out is one


def _launched(path: str, link: str, image_format: str, readonly: bool) -> t.Any:
    """KVM first. Nested, it may be there and still be unable to run the appliance: then without it."""
    problem = None
    for settings in ([], ["force_tcg"]):
        handle = guestfs.GuestFS(python_return_dict=True, close_on_exit=False)
        try:
            handle.set_backend("direct")
            if settings:
                handle.set_backend_settings(settings)
            handle.add_drive_opts(link, format=image_format, readonly=readonly)
            handle.launch()
            return handle
        except RuntimeError as exc:
            problem = exc
            handle.close()
    why = " ".join(str(problem).split())[:300]
    raise ColdmoveError(f"libguestfs cannot open {path}: {why} (try on this node: LIBGUESTFS_BACKEND=direct libguestfs-test-tool)") from problem


def _called(what: t.Callable[..., t.Any], *arguments: t.Any, **options: t.Any) -> t.Any:
    try:
        return what(*arguments, **options)
    except RuntimeError as exc:
        raise ColdmoveError(f"libguestfs: {' '.join(str(exc).split())}") from exc


class Appliance:
    """One disk in the appliance."""

    def __init__(self, handle: t.Any) -> None:
        self._handle = handle

    def layout(self) -> Layout:
        """What lies on the disk."""
        size = self._size(_DISK)
        table = self._table()
        if not table:
            content = self._content(_DISK)
            return Layout(_DISK, size, "", (Part(_DISK, None, 0, size, content),) if content else ())
        parts = [self._part(found, table) for found in _called(self._handle.part_list, _DISK)]
        return Layout(_DISK, size, table, tuple(parts))

    def check(self, part: Part) -> None:
        """Raises ColdmoveError if the file system is damaged. What can safely be mended without asking is mended (ext)."""
        if part.content in layout.EXT:
            _called(self._handle.e2fsck, part.device, correct=True)
        else:
            # Replays its log; one that cannot be mounted is not grown.
            _called(self._handle.mount, part.device, "/")
            _called(self._handle.umount, "/")

    def move_end(self, disk: Layout, part: Part) -> None:
        """Let a partition go on to the end of the disk."""
        if disk.table == "gpt":
            _called(self._handle.part_expand_gpt, _DISK)
        sector = int(_called(self._handle.blockdev_getss, _DISK))
        _called(self._handle.part_resize, _DISK, part.number, layout.last_sector(disk, sector))

    def fill(self, part: Part) -> None:
        """Let a file system fill its partition."""
        if part.content in layout.EXT:
            _called(self._handle.e2fsck, part.device, correct=True)
            _called(self._handle.resize2fs, part.device)
            return
        _called(self._handle.mount, part.device, "/")
        try:
            _called(self._handle.xfs_growfs, "/")
        finally:
            _called(self._handle.umount, "/")

    def filesystem_bytes(self, part: Part) -> int:
        """The size of a file system, by its own superblock."""
        if part.content in layout.EXT:
            told = _called(self._handle.tune2fs_l, part.device)
            return int(told["Block count"]) * int(told["Block size"])
        if not self._handle.feature_available(["xfs"]):
            raise ColdmoveError("this node's libguestfs knows no xfs: install the package libguestfs-xfs")
        told = _called(self._handle.xfs_info, part.device)
        return int(told["xfs_datablocks"]) * int(told["xfs_blocksize"])

    def _part(self, found: t.Mapping[str, int], table: str) -> Part:
        number = int(found["part_num"])
        device = f"{_DISK}{number}"
        extended = table == "msdos" and (number > 4 or _called(self._handle.part_get_mbr_id, _DISK, number) in _EXTENDED)
        content = "" if extended else self._content(device)
        return Part(device, number, int(found["part_start"]), int(found["part_size"]), content, extended=extended)

    def _size(self, device: str) -> int:
        return int(_called(self._handle.blockdev_getsize64, device))

    def _table(self) -> str:
        """Kind of the partition table, empty if there is none."""
        try:
            kind = str(self._handle.part_get_parttype(_DISK))
        except RuntimeError:
            return ""
        return "" if kind in ("loop", "unknown") else kind

    def _content(self, device: str) -> str:
        return str(_called(self._handle.vfs_type, device))
