# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Which files of a server cross to its next node, and under which names. Decided once and kept in the record.

These are the only names that a migration ever creates, renames or deletes.
"""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import text
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


class Plan(t.TypedDict):
    """``requires``: files that the definition refers to and that do not cross: dest must have them under the same path."""

    files: list[MoveFile]
    requires: list[str]
    errors: list[str]
    bytes_total: int
    estimated_seconds: float


def plan_files(server: Server, source_instances_path: str, dest_instances_path: str, migration_uuid: str, bytes_per_second: float = BYTES_PER_SECOND) -> Plan:
    """The move files of ``server``. With any ``errors`` it cannot be moved; they are reasons for people."""
    files: list[MoveFile] = []
    errors: list[str] = []
    for disk in server.get("disks", []):
        if not crosses(disk):
            continue
        refusals = _disk_refusals(disk)
        errors += refusals
        if not refusals:
            files.append(_disk_file(disk, source_instances_path, dest_instances_path, migration_uuid))
    nvram = _nvram_file(server, migration_uuid)
    if nvram:
        files.append(nvram)
    for file in files:
        errors += _name_refusals(file)
    errors += _twice(files, "source_path", "are the same file on the source") + _twice(files, "dest_path", "would become the same file on the dest")
    total = sum(file["allocated_bytes"] for file in files if file["copy"])
    seconds = round(OVERHEAD_SECONDS + total / max(1.0, bytes_per_second), 1)
    return {"files": files, "requires": _requires(server), "errors": errors, "bytes_total": total, "estimated_seconds": seconds}


def crosses(disk: Disk) -> bool:
    """Whether a disk is a file that moves with the server: no CD-ROM or floppy media, nothing that comes over the network."""
    return disk.get("device", "disk") in ("disk", "lun") and disk.get("type") in ("file", "block", "volume")


def mapped_path(path: str, source_instances_path: str, dest_instances_path: str) -> str:
    """Where a file of the source lies on the dest: the same place under instances_path, or the same absolute path."""
    base, full = posixpath.normpath(source_instances_path or "/"), posixpath.normpath(path)
    if source_instances_path and dest_instances_path and full.startswith(base.rstrip("/") + "/"):
        return posixpath.join(posixpath.normpath(dest_instances_path), posixpath.relpath(full, base))
    return full


def _disk_refusals(disk: Disk) -> list[str]:
    name, path = f"disk {text.shown(disk.get('target', '?'))}", disk.get("path")
    if not path or not path.startswith("/"):
        return [f"{name} has no absolute path ({text.quoted(path or '')}): it cannot be moved"]
    reasons = []
    if disk.get("type") == "block":
        reasons.append(f"{name} is a block device ({text.shown(path)}): only disks that are files can be moved")
    if disk.get("format") not in FORMATS:
        named = text.quoted(disk["format"]) if disk.get("format") else "not named in the definition"
        reasons.append(f"{name} ({text.shown(path)}): its format is {named}, only {' and '.join(FORMATS)} can be moved")
    if disk.get("shareable"):
        reasons.append(f"{name} ({text.shown(path)}) is marked shareable: another server may be using it")
    if disk.get("chain"):
        base = text.shown(disk["chain"][0].get("path", "?"))
        reasons.append(
            f"{name} ({text.shown(path)}) stands on a backing file ({base}): make it whole first "
            "(virsh blockpull while the server runs, or qemu-img rebase -b '' while it is off)"
        )
    if disk.get("size_bytes") is None or disk.get("virtual_bytes") is None:
        reasons.append(f"{name}: its file {text.shown(path)} could not be read on the source")
    return reasons


def _disk_file(disk: Disk, source_instances_path: str, dest_instances_path: str, migration_uuid: str) -> MoveFile:
    source = disk["path"] or ""
    dest = mapped_path(source, source_instances_path, dest_instances_path)
    virtual = int(disk.get("virtual_bytes") or 0)
    size = int(disk.get("size_bytes") or 0)
    return {
        "id": disk["target"],
        "kind": "disk",
        "format": disk["format"] or "raw",
        # What a swap disk holds is worthless after a stop: it is made anew, blank.
        "copy": disk.get("role") != "swap",
        "source_path": source,
        "held_path": f"{source}.coldmove-held-{migration_uuid}",
        "dest_path": dest,
        "temp_path": f"{dest}.coldmove-{migration_uuid}",
        "size_bytes": size,
        "virtual_bytes": virtual,
        "allocated_bytes": int(disk["allocated_bytes"] or 0) if "allocated_bytes" in disk else size,
    }


def _nvram_file(server: Server, migration_uuid: str) -> MoveFile | None:
    nvram = server.get("nvram")
    # libvirt makes the file at the first start: a server that never ran has none, and its next node will make it.
    if not nvram or not nvram.get("path") or nvram.get("size_bytes", -1) == 0:
        return None
    path, size = str(nvram["path"]), int(nvram.get("size_bytes") or 0)
    return {
        "id": "nvram",
        "kind": "nvram",
        "format": "raw",
        "copy": True,
        "source_path": path,
        "held_path": f"{path}.coldmove-held-{migration_uuid}",
        "dest_path": path,
        "temp_path": f"{path}.coldmove-{migration_uuid}",
        "size_bytes": size,
        "virtual_bytes": size,
        "allocated_bytes": int(nvram.get("allocated_bytes") or size),
    }


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


def _requires(server: Server) -> list[str]:
    paths = []
    for disk in server.get("disks", []):
        path = disk.get("path")
        if not crosses(disk) and disk.get("type") in ("file", "block") and path:
            paths.append(path)
    nvram: t.Mapping[str, t.Any] = t.cast("t.Mapping[str, t.Any]", server.get("nvram") or {})
    paths += [str(path) for path in (server.get("loader"), nvram.get("template")) if path]
    return sorted(set(paths))
