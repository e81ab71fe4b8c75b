# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Disks on block devices: which device of the dest takes one in. The operator names it, or it is a logical volume that the dest makes."""

from __future__ import annotations

import json
import posixpath
import re
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Disk, MoveFile, Server

#: How the dest comes to the device (``device`` of a move file): it is there and the operator named it, or it is a volume that the migration makes.
NAMED, VOLUME = "named", "volume"

_FORM = "a mapping {TARGET: /dev/…} or {SERVER: {TARGET: /dev/…}}, or as one line [SERVER/]TARGET=/dev/…, with commas between several"


def parse(value: t.Any) -> dict[str, dict[str, str]]:
    """``dest_devices``: device by target, by server (an empty name: whatever server it is). Raises ValueError with what is wrong."""
    found: dict[str, dict[str, str]] = {}
    for server, target, path in _entries(value):
        if found.setdefault(server, {}).setdefault(target, path) != path:
            raise ValueError(f"disk {text.shown(target)} has two devices")
    return found


def _entries(value: t.Any) -> t.Iterator[tuple[str, str, str]]:
    if isinstance(value, str) and value.strip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(f"it must be {_FORM}") from None
    if isinstance(value, str):
        for word in filter(None, (word.strip() for word in value.split(","))):
            key, _equals, path = word.partition("=")
            server, _slash, target = key.rpartition("/")
            yield server, _target(target), _device(path)
        return
    if not isinstance(value, t.Mapping):
        raise ValueError(f"it must be {_FORM}")
    for name, inner in value.items():
        if isinstance(inner, t.Mapping):
            yield from ((str(name), _target(target), _device(path)) for target, path in inner.items())
        else:
            yield "", _target(name), _device(inner)


def _target(value: t.Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9]+", value):
        raise ValueError(f"{text.shown(repr(value))} is no disk's target, like vda; it must be {_FORM}")
    return value


def _device(value: t.Any) -> str:
    if not isinstance(value, str) or not value.startswith("/dev/") or posixpath.normpath(value) != value or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError(f"{text.shown(repr(value))} is no device's path, like /dev/sdb; it must be {_FORM}")
    return value


def named_for(server: Server, value: t.Any) -> dict[str, str]:
    """What ``dest_devices`` says of one server: device by target. Its own name, or its UUID, counts before what is said of any server."""
    entries = parse(value) if value else {}
    found = dict(entries.get("", {}))
    for name in (server.get("name"), server.get("uuid")):
        found.update(entries.get(str(name), {}) if name else {})
    return found


def takes_part(disk: Disk) -> bool:
    """Whether a disk is a block device that goes with its server: neither a medium nor read-only."""
    return disk.get("type") == "block" and disk.get("device", "disk") in ("disk", "lun") and not disk.get("readonly")


def refusals(server: Server, named: t.Mapping[str, str]) -> t.Iterator[str]:
    """What ``dest_devices`` says and cannot mean."""
    disks = {disk.get("target"): disk for disk in server.get("disks", [])}
    for target, path in named.items():
        if target not in disks:
            yield f"dest_devices names {text.shown(path)} for disk {text.shown(target)}, which the server has not"
        elif not takes_part(disks[target]):
            what = f"a {disks[target].get('type')}" if disks[target].get("type") != "block" else "read-only"
            yield f"dest_devices names {text.shown(path)} for disk {text.shown(target)}, which is no writable block device ({what})"


def disk_refusals(disk: Disk) -> t.Iterator[str]:
    """What speaks against moving this block device at all."""
    name, path = f"disk {text.shown(disk.get('target', '?'))}", text.shown(disk.get("path") or "")
    if disk.get("device") == "lun":
        yield f"{name} is a whole SCSI device ({path}), which the guest speaks to itself: only disks on block devices of the kind 'disk' can be moved"
    if disk.get("internal_snapshots"):
        yield (
            f"{name} ({path}) has snapshots inside its image, which would not cross: delete them with virsh snapshot-delete, or "
            "with the server off qemu-img snapshot -d"
        )


def not_named(disk: Disk) -> str:
    """A device that has no place on the dest."""
    target = text.shown(disk.get("target", "?"))
    return (
        f"disk {target} is a block device ({text.shown(disk.get('path') or '')}) and no logical volume, which the dest could make anew: name an empty "
        f"device of the dest for it (-e dest_devices={target}=/dev/…)"
    )


def move_file(disk: Disk, named: t.Mapping[str, str], file: MoveFile) -> MoveFile | None:
    """The move file of a disk on a block device, made of that of a disk on a file; None if the dest has no device for it.

    A device has one name only: that it is held, and that its content is proven, is in the nodes' journals.
    """
    own, volume = file["source_path"], disk.get("logical_volume") or ""
    if disk["target"] in named:
        dest, device, made, pool = named[disk["target"]], NAMED, "", ""
    elif volume:
        dest, device, made, pool = _volume_path(own, volume), VOLUME, volume, disk.get("thin_pool") or ""
    else:
        return None
    # How much of a device holds anything, nobody can tell but who reads it.
    allocated = file["allocated_bytes"] or min(file["size_bytes"], file["virtual_bytes"])
    return {
        **file,
        "held_path": own,
        "dest_path": dest,
        "temp_path": dest,
        "allocated_bytes": allocated,
        "device": device,
        "volume": made,
        "thin_pool": pool,
        "identity": list(disk.get("identity") or []),
    }


def _volume_path(path: str, volume: str) -> str:
    """As the definition names it now, if that name says which volume it is."""
    group, name = volume.split("/", 1)
    mapped = f"/dev/mapper/{group.replace('-', '--')}-{name.replace('-', '--')}"
    return path if path in (f"/dev/{volume}", mapped) else f"/dev/{volume}"


def is_device(file: t.Mapping[str, t.Any]) -> bool:
    """Whether a move file is a block device on both ends."""
    return bool(file.get("device"))


def wanted_bytes(file: t.Mapping[str, t.Any]) -> int:
    """What the guest is to see of it on the dest at least."""
    return max(int(file["virtual_bytes"]), int(file["grow_to_bytes"]))


def device_bytes(file: t.Mapping[str, t.Any], measured: t.Callable[[int], int]) -> int:
    """What the dest's device must have. ``measured``: bytes that a qcow2 image of a size takes on a device once all of it is written.

    An image that does not grow fits where there is as much room as it has now, even if its guest could write more.
    """
    wanted = wanted_bytes(file)
    if file["format"] == "raw":
        return max(wanted, int(file["size_bytes"])) if file["device"] == VOLUME and file["way"] == "copy" else wanted
    full, now = measured(wanted), int(file["size_bytes"])
    least = full if file["grow_to_bytes"] or file["way"] != "copy" else min(full, now)
    return max(least, now) if file["device"] == VOLUME and file["way"] == "copy" else least
