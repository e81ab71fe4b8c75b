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
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import scheduler, storage, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.capacity import moves
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.recovery import IN_FLIGHT
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import ACTIVE, needs_cleaning
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Amount, Disk, Migration, MoveFile, Node, Nodes, Rejection
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.whereabouts import ON_DEST, ON_SOURCE

Record = t.Mapping[str, t.Any]
NOTHING: Amount = {"vcpus": 0, "memory_mb": 0, "disk_bytes": 0}
#: Names of files that are only looked at hold this instead of a migration's UUID.
NO_MIGRATION = "00000000-0000-0000-0000-000000000000"
#: What a node has just read of the lost node's words, newest first, by directory.
Words = t.Mapping[str, t.Sequence[str]]
#: Disks that a file, a pool or the network holds. Of any other kind (nvme, vhostuser, …) the dest may have one of its own under the same name.
_KNOWN_TYPES = ("file", "volume", "network")
#: How many servers that failed are named to those that are not begun.
_NAMED = 5
#: Of a disk whose path alone does not say where its content is: the words of the server facts for it.
_ELSEWHERE = ("keeps its data in another file", "in the running guest but")


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
            doubt = self._doubt(disk)
            if doubt:
                why = f"disk {name} is on storage that {self.dest} sees too, but it was never proven that all of it is: {doubt}"
                return _Outcome({"id": name, "fate": "lost", "how": "unknown"}, errors=(why,))
            return _Outcome({"id": name, "fate": "survives", "how": f"on storage that {self.dest} sees too ({text.shown(path)})"}, external=tuple(paths))
        return self._made_anew(disk, role or "data")

    def _doubt(self, disk: Disk) -> str:
        """Why the content of a disk may not be all where its path leads; empty if it is."""
        target, link = disk["target"], disk.get("link_to")
        if link:
            return f"its path is a symbolic link, to {text.shown(link)}"
        below = next((each for each in disk.get("chain") or [] if each.get("link_to")), None)
        if below:
            return f"{text.shown(below['path'])} below it is a symbolic link, to {text.shown(below['link_to'])}"
        told = [text.shown(each) for each in self.record["facts"].get("blockers") or [] if each.startswith((f"disk {target} ", f"disk {target}:"))]
        return next((each for each in told if each.startswith(f"disk {target}:") or any(words in each for words in _ELSEWHERE)), "")

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


# --- who, and where to


class Evacuee(t.TypedDict):
    """One server of the lost node: where it can go (``candidates``, all with the same losses), what its move comes to, and why it cannot be done.

    ``way``: how it comes up elsewhere. By its last-known record (``evacuate``), or by that of a move that has not ended: ``revert`` to the copy that is
    held on the node it came from, ``recover`` to what the node that it was on its way to has of it, and where that is nothing, an evacuation after all.
    ``gone``: the migration by which it is on another node already, also if its last-known record does not say so yet. ``seen_at``: of that record.
    """

    uuid: str
    name: str
    way: t.Literal["evacuate", "revert", "recover"]
    seen_at: str
    gone: Migration | None
    candidates: list[scheduler.Candidate]
    rejected: list[Rejection]
    plans: dict[str, Plan]
    fates: list[Fate]
    need: Amount
    errors: list[str]


class Selection(t.NamedTuple):
    """The servers to evacuate, and sentences about those that were named and cannot be meant."""

    records: list[Record]
    errors: list[str]


def choose(records: t.Sequence[Record], wanted: t.Sequence[str], failed_host: str, migrations: t.Sequence[Migration] = ()) -> Selection:
    """The last-known records of ``failed_host`` that ``wanted`` (names or UUIDs; empty is all) means, with those that were evacuated from it already."""
    done = [migration for migration in migrations if _is_evacuated_from(failed_host, migration)]
    there = {(migration["server_uuid"], migration["dest_host"]) for migration in done}
    mine = [record for record in records if record["host"] == failed_host or (record["server_uuid"], record["host"]) in there]
    # A run that was killed before it had written down what it brought to the node: what is known is not what is there.
    came = {record["server_uuid"]: words for record in records if (words := _came_since(record, failed_host, migrations))}
    if not wanted:
        none = f"no server is known to be on {failed_host}: {text.command('sync')} was never run while it was up, or it has none"
        return Selection(mine, list(came.values()) if mine or came or done else [none])
    found: dict[str, Record] = {}
    errors = []
    for word in wanted:
        matches = [record for record in mine if word in (record["name"], record["server_uuid"])]
        if len(matches) == 1:
            found[matches[0]["server_uuid"]] = matches[0]
        elif matches:
            errors.append(f"server {text.quoted(word)} is ambiguous, {failed_host} had {len(matches)} of this name: name it by its UUID")
        else:
            told = [came[record["server_uuid"]] for record in records if record["server_uuid"] in came and word in (record["name"], record["server_uuid"])]
            errors += told or [_unknown(word, records, mine, failed_host)]
    return Selection(list(found.values()), errors)


def _came_since(record: Record, failed_host: str, migrations: t.Sequence[Migration]) -> str:
    """Why a server that came to the lost node after its last-known record was written cannot be evacuated; empty if none did."""
    place, migration = _place_since(record, migrations)
    if migration is None or place != failed_host or record["host"] == failed_host:
        return ""
    held = migration.get("status") == "finished"
    way = f", then {text.command('revert', record['name'], record['server_uuid'])}" if held else "; bring this one up by hand once the node is off"
    return (
        f"{text.shown(record['name'])} came to {failed_host} by migration {migration.get('id')} ({migration.get('migration_type')}, {migration.get('status')}), "
        f"and what is known of it is older, from {record['host']}: it is not evacuated by that. Evacuate the others by name (-e server=…){way}"
    )


def _is_evacuated_from(lost: str, migration: Migration) -> bool:
    return (migration.get("migration_type"), migration.get("status"), migration.get("source_host")) == ("evacuation", "done", lost)


def _unknown(word: str, records: t.Sequence[Record], mine: t.Sequence[Record], failed_host: str) -> str:
    elsewhere = next((record["host"] for record in records if word in (record["name"], record["server_uuid"])), None)
    if elsewhere:
        return f"server {text.quoted(word)} is known to be on {elsewhere}, not on {failed_host}"
    similar = text.close_to(word, [record["name"] for record in mine])
    hint = f". Did you mean {', '.join(text.quoted(name) for name in similar)}?" if similar else ""
    return f"server {text.quoted(word)} is not known to be on {failed_host}{hint}"


class Lost(t.NamedTuple):
    """A node that is lost, and what the operator has said about its servers."""

    host: str
    instances_path: str
    #: By node, what it has just read of the lost node's words.
    words: t.Mapping[str, Words]
    target_host: str = ""
    image: Image | None = None
    replicas: t.Mapping[str, Image] | None = None
    #: Losses that the operator has named, as ``SERVER/DISK``.
    accepted: t.Collection[str] = ()


def evacuees(records: t.Sequence[Record], lost: Lost, nodes: Nodes, migrations: t.Sequence[Migration]) -> list[Evacuee]:
    """What becomes of each server, in the order of ``records``; each counts on its first candidate before the next one is looked at."""
    room = scheduler.Scheduler(*_taken_back({record["server_uuid"] for record in records}, lost.host, nodes, migrations))
    gone = [gone_by(record, migrations) if record["host"] == lost.host else _evacuated_by(record, lost.host, migrations) for record in records]
    return [_gone(record, found) if found else _evacuee(record, lost, nodes, room, migrations) for record, found in zip(records, gone)]


def _evacuated_by(record: Record, lost: str, migrations: t.Sequence[Migration]) -> Migration | None:
    """The evacuation by which a server of the lost node is where its last-known record says."""
    whole = (record["server_uuid"], record["host"])
    return next((each for each in migrations if _is_evacuated_from(lost, each) and (each.get("server_uuid"), each.get("dest_host")) == whole), None)


def gone_by(record: Record, migrations: t.Sequence[Migration]) -> Migration | None:
    """The migration that took a server from the node of its last-known record since that was written: whoever was killed at its end has not told the record."""
    place, migration = _place_since(record, migrations)
    return migration if place != record["host"] else None


def _place_since(record: Record, migrations: t.Sequence[Migration]) -> tuple[str, Migration | None]:
    """Where a server is by all that has moved it on since its last-known record was written, and the last migration that did.

    One that does not begin where the server was has only been cleaned up after since then, and is older than the record.
    """
    place, last = str(record["host"]), None
    for migration in sorted(migrations, key=lambda each: int(each.get("id") or 0)):
        if migration.get("server_uuid") != record["server_uuid"] or str(migration.get("updated_at") or "") <= str(record.get("seen_at") or ""):
            continue
        ends = (str(migration.get("source_host")), str(migration.get("dest_host")))
        before, after = ends if migration.get("status") in ON_DEST else ends[::-1]
        if migration.get("status") in ON_DEST | ON_SOURCE and place == before != after:
            place, last = after, migration
    return place, last


def _gone(record: Record, migration: Migration) -> Evacuee:
    where = migration["dest_host"] if migration["status"] in ON_DEST else migration["source_host"]
    how = f"on {where} already, by migration {migration.get('id')} ({migration['migration_type']}, {migration['status']})"
    return {
        "uuid": record["server_uuid"],
        "name": record["name"],
        "way": "evacuate",
        "seen_at": str(record.get("seen_at") or ""),
        "gone": migration,
        "candidates": [],
        "rejected": [],
        "plans": {},
        "fates": [{"id": "all of it", "fate": "survives", "how": how}],
        "need": NOTHING,
        "errors": [],
    }


def _open(migrations: t.Sequence[Migration]) -> list[Migration]:
    """Evacuations that have not ended: of those for which nobody is at work any more, what they made is finished or taken back first."""
    return [each for each in migrations if each.get("migration_type") == "evacuation" and each.get("status") in ACTIVE]


def _unended(record: Record, migrations: t.Sequence[Migration]) -> Migration | None:
    """The move of a server that has not ended; an evacuation is none."""
    mine = (each for each in migrations if each.get("server_uuid") == record["server_uuid"] and each.get("migration_type") != "evacuation")
    return next((each for each in mine if each.get("status") in ACTIVE), None)


def _way(move: Migration | None, lost_host: str) -> t.Literal["evacuate", "revert", "recover", ""]:
    """How a server comes up elsewhere; empty if its move is in the way: both its nodes are lost, or the lost one has what the other one lacks."""
    if move is None:
        return "evacuate"
    if move.get("source_host") == move.get("dest_host"):
        return ""
    status = move.get("status", "")
    if status in ("finished", "reverting") and move.get("dest_host") == lost_host:
        return "revert"
    set_aside = status == "migrating" and move.get("files")
    return "recover" if status in IN_FLIGHT and move.get("source_host") == lost_host and not set_aside else ""


def _elsewhere(record: Record, move: Migration, lost: Lost, nodes: Nodes) -> Evacuee:
    """A server that another node has, all of it or as it was when it left that node."""
    back = move.get("dest_host") == lost.host
    host = str(move.get("source_host") if back else move.get("dest_host"))
    named = f"migration {move.get('id')} ({move.get('migration_type')}, {move.get('source_host')} to {move.get('dest_host')})"
    whole: Fate = {"id": "all of it", "fate": "survives", "how": f"as {host} has it: {named} is finished there"}
    fates = _held(record, move, host, lost) if back else [whole]
    doubts = [] if (nodes.get(host) or {}).get("reachable") else [f"{named} is {move.get('status')}, and {host} does not answer"]
    doubts += _seen_on(record["server_uuid"], lost.host, nodes, () if back else {host})
    return {
        "uuid": record["server_uuid"],
        "name": record["name"],
        "way": "revert" if back else "recover",
        "seen_at": str(record.get("seen_at") or ""),
        "gone": None,
        "candidates": [{"host": host, "capacity": NOTHING, "used": NOTHING, "counted": []}],
        "rejected": [],
        "plans": {},
        "fates": fates,
        "need": NOTHING,
        "errors": [*(f"{text.shown(record['name'])}: {doubt}" for doubt in doubts), *_refusals(record, fates, lost)],
    }


def _held(record: Record, move: Migration, host: str, lost: Lost) -> list[Fate]:
    """What becomes of the disks of a server that goes back to the copy that ``host`` holds of it."""
    held = {file["id"] for file in move.get("files") or []}
    case = _Case(record, host, lost.words.get(host, {}), ("", ""), NO_MIGRATION, {})

    def fate(disk: Disk) -> Fate:
        name = disk["target"]
        if disk.get("role") == "swap" and name in held:
            return {"id": name, "fate": "blank", "how": f"swap, as {host} holds it"}
        if name in held:
            return {"id": name, "fate": "lost", "how": f"what was written on {lost.host} since; {host} holds it as of {move.get('created_at')}"}
        found = case.of_disk(disk).fate
        return found if found["fate"] == "survives" else {"id": name, "fate": "lost", "how": f"not part of the copy that {host} holds"}

    return [fate(disk) for disk in _disks(record["facts"])]


def _begun(servers: t.Collection[str], lost_host: str, migrations: t.Sequence[Migration]) -> list[Migration]:
    """What was begun for ``servers`` and is taken back before they are evacuated."""
    moves_away = [each for each in migrations if each.get("status") in ACTIVE and _way(each, lost_host) == "recover"]
    return [each for each in [*_open(migrations), *moves_away] if each.get("server_uuid") in servers]


def _taken_back(servers: t.Collection[str], lost_host: str, nodes: Nodes, migrations: t.Sequence[Migration]) -> tuple[Nodes, list[Migration]]:
    """Nodes and migrations as they are once what killed runs made for ``servers`` is taken back: a server is not in its own way."""
    begun = _begun(servers, lost_host, migrations)
    made = {(each.get("dest_host"), each.get("server_uuid")) for each in begun if each.get("migration_type") == "evacuation"}

    def without(name: str, node: Node) -> Node:
        facts = node.get("facts")
        if not facts or name not in {host for host, _uuid in made}:
            return node
        return {**node, "facts": {**facts, "domains": [domain for domain in facts.get("domains", []) if (name, domain["uuid"]) not in made]}}

    return {name: without(name, node) for name, node in nodes.items()}, [each for each in migrations if each not in begun]


def _evacuee(record: Record, lost: Lost, nodes: Nodes, room: scheduler.Scheduler, migrations: t.Sequence[Migration]) -> Evacuee:
    move = _unended(record, migrations)
    way = _way(move, lost.host)
    if move and (way == "revert" or (way == "recover" and move.get("status") == "post-migrating")):
        return _elsewhere(record, move, lost, nodes)
    plans_by_host = {
        host: plan(
            record,
            host,
            lost.words.get(host, {}),
            (lost.instances_path, (node.get("facts") or {}).get("instances_path", "")),
            NO_MIGRATION,
            lost.image,
            lost.replicas,
        )
        for host, node in nodes.items()
        if host != lost.host and node.get("reachable")
    }
    # Where least is lost, of what was not ruled out; and room is asked for what has to be made there.
    meant = [found for host, found in plans_by_host.items() if lost.target_host in ("", host)]
    best = min(meant, key=lambda found: (bool(found["errors"]), len(found["lost"])), default=None)
    facts = {**record["facts"], "uuid": record["server_uuid"], "name": record["name"]}
    need = best["need"] if best else NOTHING
    request = scheduler.request_for(t.cast("t.Any", facts), lost.host, lost.target_host, need, flavor=record.get("flavor"))
    selection = room.select(request)
    candidates, rejected = _without_greater_loss(selection, plans_by_host, best)
    if candidates:
        room.take(candidates[0]["host"], request)
    chosen = plans_by_host[candidates[0]["host"]] if candidates else best
    errors = _refusals(record, chosen["fates"] if chosen else [], lost) if candidates else [_no_valid_host(record, selection["error"], rejected)]
    return {
        "uuid": record["server_uuid"],
        "name": record["name"],
        "way": way or "evacuate",
        "seen_at": str(record.get("seen_at") or ""),
        "gone": None,
        "candidates": candidates,
        "rejected": rejected,
        "plans": plans_by_host,
        "fates": chosen["fates"] if chosen else [],
        "need": need,
        "errors": [*errors, *(f"{text.shown(record['name'])}: {reason}" for reason in _in_the_way(record["server_uuid"], lost.host, nodes, migrations))],
    }


def _without_greater_loss(
    selection: scheduler.Selection, plans_by_host: t.Mapping[str, Plan], best: Plan | None
) -> tuple[list[scheduler.Candidate], list[Rejection]]:
    """An alternate takes over in silence, so it must not lose more than what the operator has been told of."""
    candidates, rejected = [], list(selection["rejected"])
    for candidate in selection["candidates"]:
        found = plans_by_host[candidate["host"]]
        more = [] if best is None or found["lost"] == best["lost"] else [f"the content of {', '.join(found['lost'])} would be lost there, elsewhere not"]
        if found["errors"] or more:
            rejected.append({"host": candidate["host"], "reasons": found["errors"] or more})
        else:
            candidates.append(candidate)
    return candidates, rejected


def _refusals(record: Record, fates: t.Sequence[Fate], lost: Lost) -> list[str]:
    losses = [fate for fate in fates if fate["fate"] == "lost"]
    missing = not_accepted(record["name"], record["server_uuid"], [fate["id"] for fate in losses], lost.accepted)
    if not missing:
        return []
    told = "; ".join(f"{fate['id']} ({fate['how']})" for fate in losses)
    return [f"{text.shown(record['name'])}: the content of {told} is lost. To accept that: -e accept_lost_disks={','.join(missing)}"]


def _no_valid_host(record: Record, error: str, rejected: t.Sequence[Rejection]) -> str:
    reasons = "; ".join(f"{each['host']}: {', '.join(each['reasons'])}" for each in rejected)
    return f"{text.shown(record['name'])}: {error or 'no valid host: ' + (reasons or 'no other node answers')}"


def _in_the_way(server_uuid: str, lost_host: str, nodes: Nodes, migrations: t.Sequence[Migration]) -> list[str]:
    """A move of the server that has not ended, or a node that has it by now. An evacuation that was killed is continued instead, a move resolved (_way)."""
    mine = [each for each in migrations if each.get("server_uuid") == server_uuid]
    found = [
        f"migration {migration.get('id')} ({migration.get('migration_type')}, {migration.get('source_host')} to {migration.get('dest_host')}) is "
        f"{migration.get('status')}, its other node decides: {text.command('recover', migration.get('server_name') or '', server_uuid)}"
        for migration in mine
        if migration.get("status") in ACTIVE and migration.get("migration_type") != "evacuation" and not _way(migration, lost_host)
    ]
    left_over = {host for each in mine for host in needs_cleaning(each)}
    return found + _seen_on(server_uuid, lost_host, nodes, {str(each.get("dest_host")) for each in _open(mine)}, left_over)


def _seen_on(server_uuid: str, lost_host: str, nodes: Nodes, own: t.Collection[str] = (), left_over: t.Collection[str] = ()) -> list[str]:
    """The nodes that have the server although they should not: ``own`` are those that should, ``left_over`` those that may still have it, off."""
    found = []
    for name, node in nodes.items():
        for domain in (node.get("facts") or {}).get("domains", []):
            state = domain.get("state")
            if domain["uuid"] != server_uuid or name == lost_host or name in own or (name in left_over and state == "shutoff"):
                continue
            found.append(
                f"{name} has it ({state}), so it has left {lost_host} since it was last seen there: {text.command('sync')}; "
                f"if {name} has only a copy of it, undefine that one (virsh undefine, without --remove-all-storage)"
            )
    return found


class Source(t.TypedDict):
    """An image that is needed on a candidate, and the size of the smallest disk that is to be made from it there."""

    host: str
    path: str
    format: str
    disk_bytes: int


def images(found: t.Sequence[Evacuee]) -> list[Source]:
    """What must be on the candidates, so that it can be looked at before anything begins."""
    smallest: dict[tuple[str, str, str], int] = {}
    for server in found:
        for host in (candidate["host"] for candidate in server["candidates"] if candidate["host"] in server["plans"]):
            for file in server["plans"][host]["files"]:
                if file["way"] == "image":
                    key = (host, file["image_path"], file["image_format"])
                    smallest[key] = min(smallest.get(key, file["virtual_bytes"]), file["virtual_bytes"])
    return [{"host": host, "path": path, "format": kind, "disk_bytes": size} for (host, path, kind), size in smallest.items()]


def halt_reason(outcomes: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """Why no further server is begun, by the ``outcomes`` of the batches before; empty if it is. Those that were not begun either do not count."""
    begun = [outcome for outcome in outcomes if not outcome.get("not_begun")]
    failed = [str(outcome.get("server_name") or "?") for outcome in begun if not outcome.get("ok")]
    if 2 * len(failed) <= len(begun):
        return ""
    servers = "server" if len(begun) == 1 else "servers"
    names = ", ".join(text.shown(name) for name in failed[:_NAMED]) + (", …" if len(failed) > _NAMED else "")
    return f"not begun: {len(failed)} of {len(begun)} {servers} before it failed ({names}); mend that, then run the same command again"


def mute(records: t.Sequence[Record]) -> list[str]:
    """Names of the servers that will run and have no channel of a guest agent. Records of a release that did not look for one say nothing."""
    return [text.shown(record["name"]) for record in records if record.get("state") == "running" and record["facts"].get("agent") is False]


def in_order(records: t.Sequence[Record], first: t.Sequence[str]) -> list[Record]:
    """Those that the operator wants first, in that order; then those that ran, then the others, by name."""

    def rank(record: Record) -> tuple[int, bool, str]:
        named = [first.index(word) for word in (record["name"], record["server_uuid"]) if word in first]
        return min(named, default=len(first)), record.get("state") != "running", record["name"]

    return sorted(records, key=rank)
