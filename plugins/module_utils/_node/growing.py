# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Grow images, host volumes, and what the guest keeps in them."""

from __future__ import annotations

import shutil

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import growth
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.text import human_bytes

#: A larger qcow2 image needs some clusters at once: for its tables. All else is taken when the guest writes.
ROOM_FOR_TABLES_BYTES = 4 * 1024 * 1024


def grow_image(path: str, image_format: str, new_bytes: int) -> bool:
    """Give an image that nobody has open the virtual size ``new_bytes`` (bytes); True if that changed something.

    The format is never probed. A raw file grows as a hole: nothing is written, so nothing is promised about the space.
    Raises ColdmoveError with the image as it was: it would shrink, it cannot grow, somebody has it open, or its file system is full.
    """
    image = qemu_img.info(path, image_format, devices=True)
    problem = growth.cannot_grow(path, image_format, image._asdict()) or growth.shrinks(path, image.virtual_bytes, new_bytes)
    if problem:
        raise ColdmoveError(f"{problem}. Nothing was changed")
    if new_bytes == image.virtual_bytes:
        return False
    _check_room(path, image_format)
    qemu_img.resize(path, image_format, new_bytes)
    found = qemu_img.info(path, image_format, devices=True).virtual_bytes
    if found != new_bytes:
        raise ColdmoveError(f"qemu-img reported success, but {path} has {found} bytes and not {new_bytes}")
    return True


def _check_room(path: str, image_format: str) -> None:
    if image_format == "raw" or qemu_img.is_device(path):
        return
    free = shutil.disk_usage(path).free
    if free < ROOM_FOR_TABLES_BYTES:
        raise ColdmoveError(f"the file system of {path} is full ({human_bytes(free)} are free): make room first. Nothing was changed")
