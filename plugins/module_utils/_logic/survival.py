# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What survives of a server whose node is gone, what is lost, and which files have to be made on the node that takes it over.

Nothing is guessed: a disk survives only if it is on the network, or if the dest has just read the word that the lost node wrote beside
it while it was up (storage.py). Whatever is lost must be named by the operator before anything begins.
"""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import plan as plans
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import storage, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.capacity import moves
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Amount, Disk, Migration, MoveFile

Record = t.Mapping[str, t.Any]
#: Names of files that are only looked at hold this instead of a migration's UUID.
NO_MIGRATION = "00000000-0000-0000-0000-000000000000"
#: What a node has just read of the lost node's words, newest first, by directory.
Words = t.Mapping[str, t.Sequence[str]]
#: Disks that a file, a pool or the network holds. Of any other kind (nvme, vhostuser, …) the dest may have one of its own under the same name.
_KNOWN_TYPES = ("file", "volume", "network")


class Image(t.TypedDict):
    """What a lost disk is made from: a file on the dest."""

    path: str
    format: str


class Fate(t.TypedDict):
    """What becomes of one disk, or of the firmware variables: ``fate`` survives, made anew, or lost; ``how`` says it to people."""

    id: str
    fate: t.Literal["survives", "restored", "blank", "lost"]
    how: str


class Plan(t.TypedDict):
    """``files``: those to be made on the dest. ``lost``: targets whose content is gone. ``errors``: why it cannot be done there.

    ``proofs``: the words, by directory, that the dest must still read when the server is defined there.
    """

    files: list[MoveFile]
    edits: plans.Edits
    proofs: dict[str, str]
    directories: list[str]
    external_files: list[str]
    fates: list[Fate]
    lost: list[str]
    errors: list[str]
    need: Amount


def plan(
    record: Record,
    dest: str,
    words: Words,
    instances_paths: tuple[str, str],
    migration_uuid: str,
    image: Image | None = None,
    replicas: t.Mapping[str, Image] | None = None,
) -> Plan:
    """What evacuating a server to ``dest`` comes to. ``instances_paths``: of the lost node and of the dest.

    ``image``: what a lost root disk is made from. ``replicas``: what a lost disk of any role is made from, by ``SERVER/DISK``.
    """
    facts = record["facts"]
    mine = {target: found for target in (disk["target"] for disk in _disks(facts)) if (found := _replica(record, target, replicas or {}))}
    case = _Case(record, dest, words, instances_paths, migration_uuid, mine, image)
    outcomes = [case.of_disk(disk) for disk in _disks(facts)]
    outcomes += case.of_nvram()
    files = [outcome.file for outcome in outcomes if outcome.file]
    edits = plans.edits_of(files)
    return {
        "files": files,
        "edits": edits,
        "proofs": {
            path: record["storage"][path]["identity"] for path in sorted({posixpath.dirname(each) for outcome in outcomes for each in outcome.external})
        },
        "directories": sorted({posixpath.dirname(file["dest_path"]) for file in files if not _is_below(file["dest_path"], instances_paths[1])}),
        # What survives must be seen by the dest under its own name.
        "external_files": [*(facts.get("external_files") or []), *(path for outcome in outcomes for path in outcome.external)],
        "fates": [outcome.fate for outcome in outcomes],
        "lost": [outcome.fate["id"] for outcome in outcomes if outcome.fate["fate"] == "lost"],
        "errors": [error for outcome in outcomes for error in outcome.errors] + _ties(facts),
        "need": {
            "vcpus": int(facts.get("vcpus") or 0),
            "memory_mb": int(facts.get("memory_mb") or 0),
            "disk_bytes": sum(int(file["virtual_bytes"]) for file in files if file["kind"] == "disk"),
        },
    }


def _disks(facts: Record) -> list[Disk]:
    return [disk for disk in facts.get("disks") or [] if moves(disk) or _is_foreign(disk)]


def _replica(record: Record, target: str, replicas: t.Mapping[str, Image]) -> Image | None:
    named = (f"{who}/{target}" for who in (record["name"], record["server_uuid"]))
    return next((replicas[name] for name in named if name in replicas), None)


def _is_foreign(disk: Disk) -> bool:
    """Whether a disk lies on something else than a file system: then a move would not carry it. An empty drive is nothing."""
    return disk.get("type") not in ("file", "volume") and bool(disk.get("path") or disk.get("device", "disk") == "disk")


def not_accepted(name: str, uuid: str, lost: t.Sequence[str], accepted: t.Collection[str]) -> list[str]:
    """The losses of a server that the operator has not named, as ``SERVER/DISK`` each."""
    return [f"{name}/{target}" for target in lost if not {f"{name}/{target}", f"{uuid}/{target}"} & set(accepted)]


class _Outcome(t.NamedTuple):
    fate: Fate
    file: MoveFile | None = None
    external: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


class _Case:
    """One server on its way to one dest."""

    def __init__(
        self,
        record: Record,
        dest: str,
        words: Words,
        instances_paths: tuple[str, str],
        migration_uuid: str,
        replicas: t.Mapping[str, Image],
        image: Image | None = None,
    ) -> None:
        self.record, self.dest, self.words, self.image, self.replicas = record, dest, words, image, replicas
        self.instances_paths, self.migration_uuid = instances_paths, migration_uuid

    def made_from(self, target: str, role: str) -> Image | None:
        """The file on the dest that a lost disk is made from, if any."""
        return self.replicas.get(target) or (self.image if role == "root" else None)

    def of_disk(self, disk: Disk) -> _Outcome:
        """What becomes of a disk."""
        name, path, role = disk["target"], disk.get("path") or "", disk.get("role")
        if disk.get("type") == "network" or (disk.get("type") == "volume" and not moves(disk)):
            return _Outcome({"id": name, "fate": "survives", "how": f"on the network ({text.shown(path)})"})
        if disk.get("type") == "block" or path.startswith("/dev/"):
            why = f"disk {name} is the block device {text.shown(path)}: that {self.dest} has the same one is never proven"
            return _Outcome({"id": name, "fate": "lost", "how": "a block device of the lost node"}, errors=(why,))
        if disk.get("type") not in _KNOWN_TYPES:
            why = f"disk {name} is of type {disk.get('type')}, which only {self.record.get('host')} had"
            return _Outcome({"id": name, "fate": "lost", "how": "a device of the lost node"}, errors=(why,))
        paths = [path, *(link["path"] for link in disk.get("chain") or [])]
        if all(self.is_shared(each) for each in paths):
            doubt = storage.doubt(disk, self.record["facts"].get("blockers") or [])
            if doubt:
                why = f"disk {name} is on storage that {self.dest} sees too, but it was never proven that all of it is: {doubt}"
                return _Outcome({"id": name, "fate": "lost", "how": "unknown"}, errors=(why,))
            return _Outcome({"id": name, "fate": "survives", "how": f"on storage that {self.dest} sees too ({text.shown(path)})"}, external=tuple(paths))
        return self._made_anew(disk, role or "data")

    def _made_anew(self, disk: Disk, role: str) -> _Outcome:
        name, size = disk["target"], text.human_bytes(int(disk.get("virtual_bytes") or 0))
        if disk.get("virtual_bytes") is None or disk.get("format") not in plans.FORMATS:
            why = f"disk {name}: its size or format is not known, so it cannot be made anew"
            return _Outcome({"id": name, "fate": "lost", "how": "unknown"}, errors=(why,))
        if role == "swap":
            return _Outcome({"id": name, "fate": "blank", "how": f"swap, {size}, made anew"}, self._file(disk, "blank"))
        if role == "config_drive" and name in (self.record.get("config_drives") or {}):
            return _Outcome({"id": name, "fate": "restored", "how": "config drive, from the record"}, self._file(disk, "restore"))
        image = self.made_from(name, role)
        if image:
            return _Outcome({"id": name, "fate": "lost", "how": f"{role}, {size}: made anew from {text.shown(image['path'])}"}, self._file(disk, image=image))
        if role == "root":
            why = f"disk {name} (root, {size}) was on {self.record.get('host')} alone: name an image on {self.dest} to make it from (-e evacuate_image=PATH)"
            return _Outcome({"id": name, "fate": "lost", "how": f"root, {size}"}, errors=(why,))
        return _Outcome({"id": name, "fate": "lost", "how": f"{role}, {size}: made anew, blank"}, self._file(disk, "blank"))

    def of_nvram(self) -> list[_Outcome]:
        """What becomes of the firmware variables; a server that never ran has none."""
        nvram = self.record["facts"].get("nvram") or {}
        path = nvram.get("path")
        if not path or nvram.get("size_bytes", -1) == 0:
            return []
        if self.is_shared(path):
            if nvram.get("link_to"):
                why = f"the firmware variables are on storage that {self.dest} sees too, but their path is a symbolic link, to {text.shown(nvram['link_to'])}"
                return [_Outcome({"id": "nvram", "fate": "lost", "how": "unknown"}, errors=(why,))]
            return [_Outcome({"id": "nvram", "fate": "survives", "how": f"on storage that {self.dest} sees too"}, external=(path,))]
        if not self.record.get("nvram"):
            return [_Outcome({"id": "nvram", "fate": "lost", "how": "firmware variables: made anew from the firmware's own"})]
        size = int(nvram.get("size_bytes") or 0)
        file = self._named({"id": "nvram", "kind": "nvram", "format": "raw", "way": "restore", "size_bytes": size, "virtual_bytes": size}, path, path)
        return [_Outcome({"id": "nvram", "fate": "restored", "how": "firmware variables, from the record"}, file)]

    def is_shared(self, path: str) -> bool:
        """Whether the dest has just proven that it sees the directory of a file of the lost node."""
        directory = posixpath.dirname(path)
        return storage.is_same((self.record.get("storage") or {}).get(directory), self.words.get(directory), self.dest)

    def _file(self, disk: Disk, way: str = "image", image: Image | None = None) -> MoveFile:
        path, virtual = disk["path"] or "", int(disk["virtual_bytes"] or 0)
        entry: MoveFile = {"id": disk["target"], "kind": "disk", "format": disk["format"] or "raw", "way": way, "size_bytes": 0, "virtual_bytes": virtual}
        if image:
            entry.update({"image_path": image["path"], "image_format": image["format"]})
        return self._named(entry, path, plans.mapped_path(path, *self.instances_paths))

    def _named(self, entry: MoveFile, source: str, dest: str) -> MoveFile:
        # Nothing is ever held under the held name: nobody can set a file of the lost node aside.
        held = f"{source}.coldmove-held-{self.migration_uuid}"
        names: MoveFile = {"source_path": source, "held_path": held, "dest_path": dest, "temp_path": f"{dest}.coldmove-{self.migration_uuid}"}
        return {**entry, **names, "allocated_bytes": 0, "grow_to_bytes": entry["virtual_bytes"] if entry["way"] == "image" else 0}


def _ties(facts: Record) -> list[str]:
    """What only the lost node had; disks and their chains are judged one by one."""
    return [f"the server {tie}" for tie in facts.get("node_ties") or [] if not tie.startswith("disk ")]


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(posixpath.normpath(directory).rstrip("/") + "/")


def held_by(host: str, record: Record, move: Migration, words: Words) -> list[Fate]:
    """What becomes of the disks of a server that goes back to the copy that ``host`` holds of it."""
    held = {file["id"] for file in move.get("files") or []}
    case = _Case(record, host, words, ("", ""), NO_MIGRATION, {})

    def fate(disk: Disk) -> Fate:
        name = disk["target"]
        if disk.get("role") == "swap" and name in held:
            return {"id": name, "fate": "blank", "how": f"swap, as {host} holds it"}
        if name in held:
            return {"id": name, "fate": "lost", "how": f"what was written on {record['host']} since; {host} holds it as of {move.get('created_at')}"}
        found = case.of_disk(disk).fate
        return found if found["fate"] == "survives" else {"id": name, "fate": "lost", "how": f"not part of the copy that {host} holds"}

    return [fate(disk) for disk in _disks(record["facts"])]
