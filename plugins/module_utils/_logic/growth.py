# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Sizes as people write them, and which images can grow."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.text import human_bytes, quoted

#: What a disk is counted in: a guest cannot see half a sector.
SECTOR_BYTES = 512
#: qemu and the kernel count bytes in 64 bits with a sign.
MOST_BYTES = (1 << 63) - SECTOR_BYTES
EXAMPLES = "write whole bytes, or a whole number with K, M, G, T (or KiB, MiB, GiB, TiB) right behind it, like 10G; +5G adds to what there is"

_UNITS = {"": 0, "B": 0, "K": 1, "KiB": 1, "M": 2, "MiB": 2, "G": 3, "GiB": 3, "T": 4, "TiB": 4}
_SIZE = re.compile(r"(?P<plus>\+?)(?P<count>0|[1-9][0-9]{0,18})(?P<unit>[A-Za-z]*)")
_DECIMAL = re.compile(r"\+?[0-9.]+ *[kmgtKMGT][bB]")


class Size(t.NamedTuple):
    """A size as it was asked for."""

    count_bytes: int
    #: To be added to the size that there is.
    added: bool

    def above(self, before_bytes: int) -> int:
        """The new size of a disk that has ``before_bytes``. Raises ColdmoveError if no disk can have it."""
        wanted = before_bytes + self.count_bytes if self.added else self.count_bytes
        if wanted % SECTOR_BYTES:
            raise ColdmoveError(f"the new size would be {wanted} bytes, which is no multiple of {SECTOR_BYTES}: give one that is. Nothing was changed")
        if wanted > MOST_BYTES:
            raise ColdmoveError(f"the new size would be {human_bytes(wanted)}, more than any disk can have. Nothing was changed")
        return wanted


def parse_size(text: t.Any) -> Size:
    """``10737418240``, ``10G``, ``512MiB``, ``+5G``: units are powers of 1024. Raises ColdmoveError for all that could mean something else."""
    written = str(text)
    match = _SIZE.fullmatch(written)
    if isinstance(text, (bool, float)) or match is None or match["unit"] not in _UNITS:
        raise ColdmoveError(f"the size {quoted(written)} is not understood{_why(written)}: {EXAMPLES}. Nothing was changed")
    count = int(match["count"]) * 1024 ** _UNITS[match["unit"]]
    if not count:
        raise ColdmoveError(f"the size {quoted(written)} is nothing: {EXAMPLES}. Nothing was changed")
    return Size(count, added=bool(match["plus"]))


def _why(written: str) -> str:
    """What may have been meant, where that is likely."""
    if _DECIMAL.fullmatch(written):
        return " (KB, MB, GB, TB are powers of 1000 to some and of 1024 to others)"
    if written.startswith("-"):
        return " (a disk never shrinks)"
    return ""


def cannot_grow(name: str, image_format: str, image: t.Mapping[str, t.Any]) -> str | None:
    """Why an image cannot get another size, as a sentence; None if it can.

    ``image``: what is known of ``compat``, ``internal_snapshots``, ``data_file``, ``encrypted``, ``corrupt`` (see ``qemu_img.Image``).
    """
    if image_format not in ("raw", "qcow2"):
        return f"{name} has the format {image_format}: only raw and qcow2 are grown"
    if image.get("corrupt"):
        return f"{name} is marked as corrupt; look with: qemu-img check -f qcow2 FILE"
    if image.get("encrypted"):
        return f"{name} is encrypted: it can be grown only while the server runs"
    if image.get("data_file"):
        return f"{name} keeps its data in another file, {image['data_file']}: convert it into one file first (qemu-img convert)"
    if image.get("internal_snapshots") and image.get("compat") == "0.10":
        return f"{name} is qcow2 version 2 with snapshots inside, which cannot grow: delete them, or convert it first (qemu-img amend -o compat=1.1)"
    return None


def shrinks(name: str, before_bytes: int, wanted_bytes: int) -> str | None:
    """The sentence that refuses to make a disk smaller; None if it would not be."""
    if wanted_bytes >= before_bytes:
        return None
    now, then = f"{before_bytes} bytes ({human_bytes(before_bytes)})", f"{wanted_bytes} bytes ({human_bytes(wanted_bytes)})"
    return f"{name} has {now}: {then} would cut its end off, and no disk is ever shrunk"
