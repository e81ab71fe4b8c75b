# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by test_grow_filesystem.py in a machine of its own: disks on real logical volumes grow with them."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host, lvm, qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.growth import parse_size
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import growing

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024


def run(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout.strip()


@contextlib.contextmanager
def refused(words: str) -> Iterator[None]:
    try:
        yield
    except ColdmoveError as exc:
        assert words in str(exc), exc
    else:
        raise AssertionError(f"not refused: {words}")


def main() -> None:
    with open("/tmp/pv", "wb") as stream:
        stream.truncate(200 * MIB)
    run("vgcreate", "-qq", "-s", "4M", "vg-t", run("losetup", "--find", "--show", "/tmp/pv"))
    run("lvcreate", "-qq", "-L", "20M", "-n", "disk", "vg-t")
    with libvirt_host.connected("test:///default") as host:
        raw_gets_all_of_its_volume(host, "/dev/vg-t/disk")
        qcow2_gets_room_for_its_tables(host, "/dev/vg-t/disk")
        run("lvcreate", "-qq", "-L", "40M", "--thinpool", "pool", "vg-t")
        run("lvcreate", "-qq", "-V", "16M", "--thin", "-n", "thin", "vg-t/pool")
        a_thin_volume_needs_no_room(host, "/dev/mapper/vg--t-thin")
    for image_format in ("raw", "qcow2"):
        an_overlay_is_merged_into_a_volume_that_grows_first(image_format)


def grow(host: libvirt_host.LibvirtHost, disk: growing.Disk, size: str, check_mode: bool = False) -> tuple[bool, int, int]:
    result, warnings = growing.grow(host, disk, parse_size(size), with_filesystem=False, check_mode=check_mode)
    assert not warnings
    return result["changed"], result["before_bytes"], result["after_bytes"]


def raw_gets_all_of_its_volume(host: libvirt_host.LibvirtHost, path: str) -> None:
    """In whole extents; more than the group has is refused before anything is touched."""
    disk = growing.image_at(host, path, "raw")
    assert lvm.mapper_path(path) == "/dev/mapper/vg--t-disk"
    assert grow(host, disk, "33M", check_mode=True) == (True, 20 * MIB, 36 * MIB)
    assert grow(host, disk, "33M") == (True, 20 * MIB, 36 * MIB)
    assert grow(host, disk, "33M") == (False, 36 * MIB, 36 * MIB)
    with refused("volume group vg-t has 160.0 MiB free"):
        grow(host, disk, "1G")
    with refused("no disk is ever shrunk"):
        grow(host, disk, "8M")
    assert qemu_img.length_of(path) == 36 * MIB


def qcow2_gets_room_for_its_tables(host: libvirt_host.LibvirtHost, path: str) -> None:
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "30M")
    disk = growing.image_at(host, path, "qcow2")
    assert grow(host, disk, "64M") == (True, 30 * MIB, 64 * MIB)
    assert grow(host, disk, "64M") == (False, 64 * MIB, 64 * MIB)
    assert qemu_img.measured(64 * MIB) <= qemu_img.length_of(path) < 72 * MIB
    assert grow(host, disk, "+4M") == (True, 64 * MIB, 68 * MIB)


def a_thin_volume_needs_no_room(host: libvirt_host.LibvirtHost, path: str) -> None:
    """It takes space of its pool as it is written."""
    disk = growing.image_at(host, path, "raw")
    assert lvm.volume(path).free_bytes is None
    assert grow(host, disk, "1G") == (True, 16 * MIB, 1024 * MIB)


def an_overlay_is_merged_into_a_volume_that_grows_first(image_format: str) -> None:
    """Confirm of a resize on the same node of a server that is off; the same at a second time, after a kill."""
    path, overlay, content = f"/dev/vg-t/{image_format}", f"/tmp/overlay-{image_format}", "/tmp/content"
    run("lvcreate", "-qq", "-L", "20M", "-n", image_format, "vg-t")
    if image_format == "qcow2":
        run("qemu-img", "create", "-q", "-f", "qcow2", path, "16M")
    assert growing.greatest_bytes(path, image_format) > 40 * MIB
    qemu_img.create_overlay(overlay, path, image_format, 32 * MIB)
    with open(content, "wb") as stream:
        stream.write(b"coldmove" * (30 * MIB // 8) + bytes(2 * MIB))
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", content, overlay)
    for _time in range(2):
        growing.grow_device(path, image_format, 32 * MIB)
        qemu_img.commit_overlay(overlay)
        run("qemu-img", "compare", "-q", "-f", "raw", "-F", image_format, content, path)
    assert qemu_img.info(path, image_format, devices=True).virtual_bytes == 32 * MIB


if __name__ == "__main__":
    main()
