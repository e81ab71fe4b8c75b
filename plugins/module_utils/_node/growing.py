# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Grow a server's disk or an image file, and if wanted what the guest keeps in it. Nothing here makes anything smaller."""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import appliance, lvm, qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.guest_agent import GuestAgent
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml, growth, layout
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.text import human_bytes
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import filesystems, node_facts

Result = dict[str, t.Any]

#: A larger qcow2 image needs some clusters at once: for its tables. All else is taken when the guest writes.
ROOM_FOR_TABLES_BYTES = 4 * 1024 * 1024
#: A file system that grows writes its own tables: this, and one part in so many of what it grows by. Without that room it would be torn.
ROOM_FOR_FILESYSTEM_BYTES, ROOM_FOR_FILESYSTEM_PART = 64 * 1024 * 1024, 50
#: A thin volume may be as large as anybody wants: it takes space of its pool as it is written.
NO_LIMIT_BYTES = 2**62
_RUNNING = ("running", "blocked", "paused")


class Disk(t.NamedTuple):
    """What is to grow."""

    #: For messages.
    name: str
    path: str
    image_format: str
    target: str | None = None
    marks: layout.Marks = layout.Marks()
    #: The domain that runs on it; None if nobody has it open.
    domain: t.Any = None


class Storage(t.NamedTuple):
    """What a disk of the wanted size stands on."""

    #: The size that it will really have: a volume has whole extents, and raw on a device is all of it.
    virtual_bytes: int
    #: The logical volume that must grow first, and to what; None if none must.
    volume: lvm.Volume | None = None
    volume_bytes: int = 0


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
    _check_room(path, image_format, 0)
    qemu_img.resize(path, image_format, new_bytes)
    found = qemu_img.info(path, image_format, devices=True).virtual_bytes
    if found != new_bytes:
        raise ColdmoveError(f"qemu-img reported success, but {path} has {found} bytes and not {new_bytes}")
    return True


def grow_device(path: str, image_format: str, virtual_bytes: int) -> None:
    """Make room on the block device at ``path`` for an image of ``virtual_bytes``; a file needs none. Raises ColdmoveError if it cannot have that room."""
    storage = _storage(Disk(path, path, image_format), virtual_bytes) if qemu_img.is_device(path) else None
    if storage and storage.volume:
        lvm.extend(storage.volume.path, storage.volume_bytes)


def greatest_bytes(path: str, image_format: str) -> int:
    """The virtual size in bytes that an image on the block device at ``path`` can have at most, with all that its volume group has free."""
    length, mapper = qemu_img.length_of(path), lvm.mapper_path(path)
    volume = lvm.volume(mapper) if mapper else None
    if volume and volume.free_bytes is None:
        return NO_LIMIT_BYTES
    length += (volume.free_bytes or 0) if volume else 0
    # A qcow2 image keeps tables beside what the guest sees.
    return length if image_format == "raw" else max(0, length - (qemu_img.measured(length) - length))


# --- finding


def disk_of_server(host: LibvirtHost, server: str, target: str) -> Disk:
    """The disk of a domain; its format is what the definition says. Raises ColdmoveError if it is none that can be grown here and now."""
    domain = host.domain(server)
    name, state = host.identity(domain)[1], host.state_of(domain)
    if state not in (*_RUNNING, "shutoff"):
        raise ColdmoveError(f"server {name} is {state}: only the disks of a server that runs or is off are grown. Nothing was changed")
    root = domain_xml.parse(host.xml_of(domain, live=state in _RUNNING, secrets=False))
    found = {disk["target"]: disk for disk in domain_xml.read_disks(root, None)}
    if target not in found:
        raise ColdmoveError(f"server {name} has no disk {target}; it has {', '.join(sorted(found)) or 'none'}. Nothing was changed")
    facts, path = found[target], node_facts.local_path(host, found[target])
    problem = _not_ours(facts, path)
    if not problem and state == "shutoff" and host.flags(domain)["managed_save"]:
        problem = f"belongs to a managed-save image, whose guest knows the old size (next: virsh start {name}, or virsh managedsave-remove {name})"
    if problem:
        raise ColdmoveError(f"disk {target} of server {name} {problem}. Nothing was changed")
    running = domain if state in _RUNNING else None
    disk = Disk(f"disk {target} of server {name}", path or "", facts["format"], target, _marks(root, target), running)
    if disk.domain is None:
        _refuse_in_use(host, disk)
    return disk


def _marks(root: t.Any, target: str) -> layout.Marks:
    element = next(disk for disk in root.iterfind("devices/disk") if disk.find("target") is not None and disk.find("target").get("dev") == target)
    address = element.find("address[@type='pci']")
    if address is None:
        return layout.Marks(element.findtext("serial") or "")
    numbers = {key: int(address.get(key, "0"), 0) for key in ("domain", "bus", "slot", "function")}
    return layout.Marks(element.findtext("serial") or "", "{domain:04x}:{bus:02x}:{slot:02x}.{function}".format(**numbers))


def _not_ours(facts: t.Mapping[str, t.Any], path: str | None) -> str | None:
    if facts["type"] == "network":
        return f"is the network volume {facts['path']}: it is grown in its own storage"
    if facts["device"] != "disk":
        return f"is a {facts['device']}"
    if facts["readonly"] or facts["shareable"]:
        return "is read-only" if facts["readonly"] else "is shared with other servers: they would not be told"
    return None if path else f"has no local file or block device ({facts['type']})"


def image_at(host: LibvirtHost, path: str, image_format: str) -> Disk:
    """An image file or block device on its own. Raises ColdmoveError if a server runs on it."""
    disk = Disk(path, path, image_format)
    qemu_img.length_of(path)
    _refuse_in_use(host, disk)
    return disk


def _refuse_in_use(host: LibvirtHost, disk: Disk) -> None:
    """QEMU's own lock says the same, but not on every storage, and it does not say who."""
    wanted = os.path.realpath(disk.path)
    for domain in host.domains():
        if host.state_of(domain) not in ("shutoff", "absent"):
            used = domain_xml.used_paths(host.xml_of(domain, live=True, secrets=False))
            if wanted in map(os.path.realpath, used):
                name = host.identity(domain)[1]
                raise ColdmoveError(f"{disk.name} ({disk.path}) is in use by server {name}, which runs: name that server and the target. Nothing was changed")


# --- growing


def grow(host: LibvirtHost, disk: Disk, size: growth.Size, with_filesystem: bool, check_mode: bool) -> tuple[Result, list[str]]:
    """Grow ``disk`` and, if wanted, its last partition with its file system; the module's result, and warnings."""
    before = _virtual_bytes(host, disk)
    storage = _storage(disk, size.above(before))
    problem = growth.shrinks(disk.name, before, storage.virtual_bytes)
    if problem:
        raise ColdmoveError(f"{problem}. Nothing was changed")
    agent, left = _way_to_filesystem(disk) if with_filesystem else (None, None)
    growing = storage.virtual_bytes > before
    if growing:
        _check_room(disk.path, disk.image_format, storage.virtual_bytes - before if with_filesystem and not left else 0)
        _check_health(disk)
    if growing and not check_mode:
        _grow_disk(host, disk, storage)
    after = storage.virtual_bytes if check_mode else _virtual_bytes(host, disk)
    result: Result = {"path": disk.path, "format": disk.image_format, "before_bytes": before, "after_bytes": after, "changed": after != before}
    if check_mode and disk.domain is None and not qemu_img.is_device(disk.path):
        result["content_bytes"] = qemu_img.content_bytes(disk.path, disk.image_format)
    warnings = _warnings(disk, after - before)
    if with_filesystem:
        result["filesystem"] = _filesystem(disk, agent, left, result, check_mode)
        result["changed"] |= result["filesystem"]["grown"]
        warnings += [f"{disk.name}: {sentence}" for sentence in result["filesystem"]["not_done"]]
    return {**result, "diff": _diff(disk, result)}, warnings


def _virtual_bytes(host: LibvirtHost, disk: Disk) -> int:
    """What the guest sees, or would see. Raises ColdmoveError if the image cannot get another size."""
    running = disk.domain is not None
    image = qemu_img.info(disk.path, disk.image_format, in_use=running, devices=True)
    known = image._asdict()
    if running:
        known["encrypted"] = False  # QEMU has the key
    problem = growth.cannot_grow(disk.name, disk.image_format, known)
    if problem:
        raise ColdmoveError(f"{problem}. Nothing was changed")
    return host.guest_bytes(disk.domain, disk.target or "") if running else image.virtual_bytes


def _storage(disk: Disk, wanted: int) -> Storage:
    """What must be there for a disk of ``wanted`` bytes. Raises ColdmoveError if it is not and cannot be made."""
    if not qemu_img.is_device(disk.path):
        return Storage(wanted)
    raw = disk.image_format == "raw"
    needed, found, mapper = wanted if raw else qemu_img.measured(wanted), qemu_img.length_of(disk.path), lvm.mapper_path(disk.path)
    if mapper is None:
        if found < needed or (raw and found != needed):
            raise ColdmoveError(_device_refusal(disk, found, needed))
        return Storage(wanted)
    volume = lvm.volume(mapper)
    needed = volume.rounded(needed)
    if volume.free_bytes is not None and needed - found > volume.free_bytes:
        free, more = human_bytes(volume.free_bytes), human_bytes(needed - found)
        raise ColdmoveError(f"volume group {volume.group} has {free} free, and {disk.name} needs {more} more. Nothing was changed")
    return Storage(needed if raw else wanted, volume if needed > found else None, needed)


def _device_refusal(disk: Disk, found: int, needed: int) -> str:
    what = f"{disk.name} is the block device {disk.path}, which has {found} bytes ({human_bytes(found)})"
    if found > needed:
        return f"{what}, and a raw disk is all of its device: no disk is ever shrunk, ask for {found}. Nothing was changed"
    return f"{what}; it must have {needed} bytes and is no logical volume: grow it where it comes from, then run the same again. Nothing was changed"


def _check_room(path: str, image_format: str, filesystem_growth: int) -> None:
    """Refuse what a full file system of the node would tear in the middle."""
    if qemu_img.is_device(path):
        return
    needed = 0 if image_format == "raw" else ROOM_FOR_TABLES_BYTES
    if filesystem_growth:
        needed += ROOM_FOR_FILESYSTEM_BYTES + filesystem_growth // ROOM_FOR_FILESYSTEM_PART
    free = shutil.disk_usage(path).free
    if free < needed:
        room = f"{human_bytes(free)} are free, and {human_bytes(needed)} are needed at once"
        raise ColdmoveError(f"the file system of {path} is full: {room}. Make room first. Nothing was changed")


def _check_health(disk: Disk) -> None:
    if disk.domain is not None or disk.image_format != "qcow2":
        return
    errors = qemu_img.corruptions(disk.path)
    if errors:
        raise ColdmoveError(f"{disk.name} is damaged ({errors} errors): see qemu-img check -f qcow2 {disk.path}. Nothing was changed")


def _grow_disk(host: LibvirtHost, disk: Disk, storage: Storage) -> None:
    if storage.volume is not None:
        lvm.extend(storage.volume.path, storage.volume_bytes)
    if disk.domain is not None:
        host.resize_disk(disk.domain, disk.target or "", storage.virtual_bytes)
    elif not (disk.image_format == "raw" and qemu_img.is_device(disk.path)):  # raw is all of its device
        qemu_img.resize(disk.path, disk.image_format, storage.virtual_bytes)


def _warnings(disk: Disk, more: int) -> list[str]:
    """A sparse disk may grow beyond what its file system has: that is allowed, and said."""
    if more <= 0 or qemu_img.is_device(disk.path):
        return []
    free = shutil.disk_usage(disk.path).free
    if free >= more:
        return []
    return [
        f"{disk.name} grew by {human_bytes(more)}, but the file system of {disk.path} has only {human_bytes(free)} free: when it is full, the server is paused"
    ]


# --- file systems


def _way_to_filesystem(disk: Disk) -> tuple[GuestAgent | None, str | None]:
    """The agent of a running guest, or why its file system must be left. Raises ColdmoveError if an image could not be looked into."""
    if disk.domain is None:
        if not appliance.HAS_GUESTFS:
            raise ColdmoveError(f"{appliance.MISSING}. Nothing was changed")
        return None, None
    agent = GuestAgent(disk.domain)
    if agent.answers():
        return agent, None
    return None, "no guest agent answers, so partition and file system are left as they are: grow them in the guest, or run this again when the server is off"


def _filesystem(disk: Disk, agent: GuestAgent | None, left: str | None, result: Result, check_mode: bool) -> Result:
    if left:
        return filesystems.untouched(None, left)
    planned = result["after_bytes"] if check_mode else None
    try:
        if agent is not None:
            return filesystems.grow_in_guest(agent, disk.marks, result["before_bytes"] if check_mode else result["after_bytes"], planned)
        return filesystems.grow_in_image(disk.path, disk.image_format, planned)
    except ColdmoveError as exc:
        disk_now = f"{disk.name} has {result['after_bytes']} bytes" + (f" (before: {result['before_bytes']})" if result["changed"] and not check_mode else "")
        raise ColdmoveError(f"{disk_now}, but its file system could not be grown: {exc}", **result) from exc


def _diff(disk: Disk, result: Result) -> dict[str, str]:
    header = {f"{when}_header": disk.name for when in ("before", "after")}
    return {**header, **{when: _sizes(result, f"{when}_bytes") for when in ("before", "after")}}


def _sizes(result: Result, key: str) -> str:
    lines = [f"disk: {result[key]} bytes"]
    filesystem = result.get("filesystem", {})
    if filesystem.get(key):
        lines.append(f"{filesystem['type']} on {filesystem['device']}: {filesystem[key]} bytes")
    return "\n".join(lines) + "\n"
