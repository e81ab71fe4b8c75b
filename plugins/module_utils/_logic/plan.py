# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Which files of a server are on its next node, how they come to be there, and under which names. Decided once and kept in the record.

These are the only names that a migration ever creates, renames or deletes.

A resize on the same node copies nothing. Each disk keeps its file and its name as the held copy, and the server goes on with an
overlay (qcow2) on top of it, of the new size; confirm merges the overlay into the disk, revert drops it.
"""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import devices, resizing, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.capacity import moves
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Disk, MoveFile, Server

#: Formats that are copied; anything else is refused rather than treated as raw.
FORMATS = ("qcow2", "raw")
#: What Linux file systems take.
NAME_BYTES = 255
PATH_BYTES = 4095
#: For the estimate only: a 1 Gbit/s link, or a disk of that speed.
BYTES_PER_SECOND = 110_000_000
#: What every move costs besides the bytes: shutdown, checks, definition, start.
OVERHEAD_SECONDS = 5.0


class Edits(t.TypedDict):
    """What the files of a move change in the definition: path and new format by target, which disks are devices, which are gone, path of the NVRAM."""

    disks: dict[str, str]
    devices: list[str]
    formats: dict[str, str]
    without: list[str]
    nvram: str | None


class Plan(t.TypedDict):
    """``directories``: those outside instances_path, where nothing is created: dest must have them."""

    files: list[MoveFile]
    edits: Edits
    directories: list[str]
    errors: list[str]
    bytes_total: int
    estimated_seconds: float


def plan_files(
    server: Server,
    source_instances_path: str,
    dest_instances_path: str,
    migration_uuid: str,
    bytes_per_second: float = BYTES_PER_SECOND,
    sizes: t.Mapping[str, int] | None = None,
    in_place: bool = False,
    named: t.Mapping[str, str] | None = None,
) -> Plan:
    """The move files of ``server``. With any ``errors`` it cannot be moved; they are reasons for people.

    ``sizes``: the virtual size in bytes that a disk is to have on the dest, by target; 0 for a swap disk that goes. ``in_place``: the node stays the same.
    ``named``: the dest's device for a disk on a block device, by target, where the operator has named one.
    """
    wanted = sizes or {}
    disks = [disk for disk in server.get("disks", []) if _takes_part(disk, in_place) and not _disk_refusals(disk, in_place)]
    if in_place:
        files = [_local_file(disk, dest_instances_path, migration_uuid, wanted) for disk in disks if resizing.gets_another_file(disk, wanted)]
    else:
        planned = [_other_file(disk, (source_instances_path, dest_instances_path), migration_uuid, wanted, named or {}) for disk in disks]
        files = [file for file in planned if file is not None]
        files += _nvram_files(server, migration_uuid)
    total = sum(file["allocated_bytes"] for file in files if file["way"] == "copy")
    return {
        "files": files,
        "edits": edits_of(files),
        "directories": _directories(files, dest_instances_path),
        "errors": refusals(server, files, in_place),
        "bytes_total": total,
        "estimated_seconds": round(OVERHEAD_SECONDS + total / max(1.0, bytes_per_second), 1),
    }


def edits_of(files: t.Sequence[MoveFile]) -> Edits:
    """How the definition names the files of a move on the dest."""
    disks = [file for file in files if file["kind"] == "disk"]
    return {
        "disks": {file["id"]: file["dest_path"] for file in disks if file["way"] != "drop"},
        "devices": [file["id"] for file in disks if devices.is_device(file) and file["way"] != "drop"],
        "formats": {file["id"]: "qcow2" for file in disks if file["way"] == "overlay"},
        "without": [file["id"] for file in disks if file["way"] == "drop"],
        "nvram": next((file["dest_path"] for file in files if file["kind"] == "nvram"), None),
    }


def _takes_part(disk: Disk, in_place: bool) -> bool:
    """Whether a move has to do something about a disk. In a resize on the same node swap on a block device stays as it is."""
    return moves(disk) or (devices.takes_part(disk) and not (in_place and disk.get("role") == "swap"))


def refusals(server: Server, files: t.Sequence[MoveFile], in_place: bool = False) -> list[str]:
    """Why ``server`` cannot be moved with these files: every disk must be among them, under a name of its own."""
    planned = {file["id"] for file in files}
    errors: list[str] = []
    for disk in server.get("disks", []):
        # What the domain facts refuse already is not said twice.
        if _takes_part(disk, in_place) and disk.get("target") not in planned and not (_is_blocked(server, disk) and not in_place):
            errors += _disk_refusals(disk, in_place) or _missing(disk, in_place)
    for file in files:
        errors += _name_refusals(file)
    return errors + _twice(files, "source_path", "are the same file on the source") + _twice(files, "dest_path", "would become the same file on the dest")


def mapped_path(path: str, source_instances_path: str, dest_instances_path: str) -> str:
    """Where a file of the source lies on the dest: the same place under instances_path, or the same absolute path."""
    base, full = posixpath.normpath(source_instances_path or "/"), posixpath.normpath(path)
    if source_instances_path and dest_instances_path and full.startswith(base.rstrip("/") + "/"):
        return posixpath.join(posixpath.normpath(dest_instances_path), posixpath.relpath(full, base))
    return full


def _missing(disk: Disk, in_place: bool) -> list[str]:
    if in_place:
        return []
    return [devices.not_named(disk) if disk.get("type") == "block" else f"disk {text.shown(disk.get('target'))} is not among the files of this move"]


def _disk_refusals(disk: Disk, in_place: bool) -> list[str]:
    name, path = f"disk {text.shown(disk.get('target', '?'))}", disk.get("path")
    if not path or not path.startswith("/"):
        return [f"{name} has no absolute path ({text.quoted(path or '')}): it cannot be moved"]
    reasons = []
    if disk.get("type") == "block" and in_place and not resizing.is_device(disk):
        reasons.append(f"{name} is a whole SCSI device ({text.shown(path)}): no overlay can stand on it")
    elif disk.get("type") == "block" and not in_place:
        reasons += devices.disk_refusals(disk)
    if disk.get("format") not in FORMATS:
        named = text.quoted(disk["format"]) if disk.get("format") else "not named in the definition"
        reasons.append(f"{name} ({text.shown(path)}): its format is {named}, only {' and '.join(FORMATS)} can be moved")
    if disk.get("shareable"):
        reasons.append(f"{name} ({text.shown(path)}) is marked shareable: another server may be using it")
    if disk.get("chain") and not in_place:
        base = text.shown(disk["chain"][0].get("path", "?"))
        reasons.append(
            f"{name} ({text.shown(path)}) stands on a backing file ({base}): make it whole first "
            "(virsh blockpull while the server runs, or qemu-img rebase -b '' while it is off)"
        )
    if disk.get("size_bytes") is None or disk.get("virtual_bytes") is None:
        reasons.append(f"{name}: its file {text.shown(path)} could not be read on the source")
    return reasons


def _is_blocked(server: Server, disk: Disk) -> bool:
    told = [*server.get("blockers", []), *server.get("node_ties", [])]
    return any(reason.startswith((f"disk {disk.get('target')} ", f"disk {disk.get('target')}:")) for reason in told)


def _other_file(disk: Disk, instances_paths: tuple[str, str], migration_uuid: str, sizes: t.Mapping[str, int], named: t.Mapping[str, str]) -> MoveFile | None:
    """The move file of a disk that leaves its node; None if no device is known for it on the dest."""
    file = _disk_file(disk, *instances_paths, migration_uuid, sizes)
    return devices.move_file(disk, named, file) if disk.get("type") == "block" else file


def _disk_file(disk: Disk, source_instances_path: str, dest_instances_path: str, migration_uuid: str, sizes: t.Mapping[str, int]) -> MoveFile:
    source = disk["path"] or ""
    dest = mapped_path(source, source_instances_path, dest_instances_path)
    virtual = int(disk.get("virtual_bytes") or 0)
    size = int(disk.get("size_bytes") or 0)
    wanted = sizes.get(disk["target"], virtual)
    # What a swap disk holds is worthless after a stop: it is made anew, blank.
    way = "copy" if disk.get("role") != "swap" else "blank" if wanted else "drop"
    return {
        "id": disk["target"],
        "kind": "disk",
        "format": disk["format"] or "raw",
        "way": way,
        "grow_to_bytes": wanted if way == "copy" and wanted > virtual else 0,
        "source_path": source,
        "held_path": f"{source}.coldmove-held-{migration_uuid}",
        "dest_path": dest,
        "temp_path": f"{dest}.coldmove-{migration_uuid}",
        "size_bytes": size,
        "virtual_bytes": wanted if way == "blank" else virtual,
        "allocated_bytes": int(disk["allocated_bytes"] or 0) if "allocated_bytes" in disk else size,
    }


def _local_file(disk: Disk, instances_path: str, migration_uuid: str, sizes: t.Mapping[str, int]) -> MoveFile:
    file = _disk_file(disk, "", "", migration_uuid, sizes)
    if resizing.is_device(disk):
        # Nothing can lie beside a device.
        file["temp_path"] = posixpath.join(posixpath.normpath(instances_path), f"{disk['target']}.coldmove-{migration_uuid}")
    if file["way"] == "blank":
        file["way"] = "replace"
    if file["way"] == "copy":
        # The overlay has the name of its own, so that the disk has its own name and format again once the overlay is merged into it.
        file["way"], file["held_path"], file["dest_path"] = "overlay", file["source_path"], file["temp_path"]
        file["temp_path"] += ".new"
        file["grow_to_bytes"] = file["grow_to_bytes"] or file["virtual_bytes"]
    return file


def _nvram_files(server: Server, migration_uuid: str) -> list[MoveFile]:
    nvram = server.get("nvram")
    # libvirt makes the file at the first start: a server that never ran has none, and its next node will make it.
    if not nvram or not nvram.get("path") or nvram.get("size_bytes", -1) == 0:
        return []
    path, size = str(nvram["path"]), int(nvram.get("size_bytes") or 0)
    nvram_file: MoveFile = {
        "id": "nvram",
        "kind": "nvram",
        "format": "raw",
        "way": "copy",
        "grow_to_bytes": 0,
        "source_path": path,
        "held_path": f"{path}.coldmove-held-{migration_uuid}",
        "dest_path": path,
        "temp_path": f"{path}.coldmove-{migration_uuid}",
        "size_bytes": size,
        "virtual_bytes": size,
        "allocated_bytes": int(nvram.get("allocated_bytes") or size),
    }
    return [nvram_file]


def _name_refusals(file: MoveFile) -> list[str]:
    reasons = []
    for path, where in ((file["held_path"], "source"), (file["temp_path"], "dest")):
        name = posixpath.basename(path).encode("utf-8", "surrogateescape")
        if len(name) > NAME_BYTES or len(path.encode("utf-8", "surrogateescape")) > PATH_BYTES:
            reasons.append(
                f"{file['id']}: the name of its file is too long for a move, {text.quoted(posixpath.basename(path))} would be used on the {where} and has "
                f"{len(name)} bytes of at most {NAME_BYTES}: rename the file"
            )
    return reasons


def _twice(files: t.Sequence[MoveFile], key: t.Literal["source_path", "dest_path"], what: str) -> list[str]:
    by_path: dict[str, list[str]] = {}
    for file in files:
        by_path.setdefault(posixpath.normpath(file[key]), []).append(file["id"])
    return [f"{' and '.join(ids)} {what}: {text.shown(path)}" for path, ids in by_path.items() if len(ids) > 1]


def _directories(files: t.Sequence[MoveFile], dest_instances_path: str) -> list[str]:
    base = posixpath.normpath(dest_instances_path).rstrip("/") + "/"
    return sorted({posixpath.dirname(file["dest_path"]) for file in files if not devices.is_device(file) and not file["dest_path"].startswith(base)})
