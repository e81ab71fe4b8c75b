# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Which servers an operator means by ``server``, and on which node each of them is."""

from __future__ import annotations

import re
import typing as t
import uuid as uuidlib

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import ACTIVE
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Locked, Migration, Node, Nodes

#: Statuses in which the record says that the server is on its dest.
_AT_DEST = frozenset({"finished", "confirming", "confirmed", "done", "completed"})


#: Names that mean nothing else to Ansible, neither a pattern nor a path.
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")


class Found(t.TypedDict):
    """One server: ``state`` is the domain's, or ``absent`` (its node has no domain: held or lost) or ``unknown`` (its node does not answer)."""

    uuid: str
    name: str
    host: str
    state: str
    migration: str | None


class Resolution(t.TypedDict):
    """``given`` is false if ``server`` was empty; with any ``errors`` nothing may be done to any server."""

    given: bool
    servers: list[Found]
    errors: list[str]


def resolve_servers(server: t.Any, nodes: Nodes, migrations: t.Iterable[Migration] = ()) -> Resolution:
    """Find every server that ``server`` (name, UUID, comma list or list of these) means."""
    directory = _Directory(nodes, migrations)
    try:
        wanted = _split(server, directory)
    except ValueError as exc:
        return {"given": True, "servers": [], "errors": [str(exc)]}
    found: dict[str, Found] = {}
    errors: list[str] = []
    for word in wanted:
        answer = directory.find(word)
        if isinstance(answer, str):
            if answer not in errors:
                errors.append(answer)
        else:
            found.setdefault(answer["uuid"], answer)
    return {"given": bool(wanted), "servers": list(found.values()), "errors": errors}


def location(migration: Migration) -> str:
    """The node on which the record says that the server is."""
    if migration.get("status") in _AT_DEST:
        return migration.get("dest_host") or migration.get("source_host", "")
    return migration.get("source_host", "")


def host_name(server: t.Mapping[str, t.Any], among: t.Sequence[t.Mapping[str, t.Any]], taken: t.Collection[str]) -> str:
    """The name under which a server, or a migration of one, is a host of a play: its own, if nothing else has it and Ansible takes it, else its UUID.

    ``among``: all that become hosts, of one shape. ``taken``: the hosts that there are. Of two that were to share a name Ansible would drop one without a word.
    """
    uuid, name = _identity(server)
    others = [_identity(other) for other in among]
    if sum(uuid == other for other, _name in others) > 1:
        return f"{uuid}_{server['id']}"  # two migrations of one server
    unique = sum(name == other for _uuid, other in others) <= 1
    return name if unique and name not in taken and _PLAIN.fullmatch(name) else uuid


def _identity(server: t.Mapping[str, t.Any]) -> tuple[str, str]:
    return (server["server_uuid"], server["server_name"]) if "server_uuid" in server else (server["uuid"], server["name"])


def locked_by(locked: Locked) -> str:
    """The words for a lock."""
    by, why = text.shown(locked.get("by") or "somebody"), text.shown(locked.get("reason") or "no reason given")
    return f"locked by {by} ({why}): remove <locked> from its metadata (virsh metadata) first"


def lock_of(server_uuid: str, nodes: Nodes) -> Locked | None:
    """The lock of a server, on whatever node it is."""
    domains = (domain for node in nodes.values() for domain in (node.get("facts") or {}).get("domains", []))
    return next((domain["locked"] for domain in domains if domain.get("uuid") == server_uuid and domain.get("locked")), None)


def seen_elsewhere(migration: Migration, nodes: Nodes) -> str:
    """A node that has the server of an ended migration by now, and is none of its two; empty if there is none."""
    ends = (migration.get("source_host"), migration.get("dest_host"))
    return next((name for name, node in nodes.items() if name not in ends and _has(node, migration.get("server_uuid"))), "")


def _has(node: Node, server_uuid: t.Any) -> bool:
    return any(domain.get("uuid") == server_uuid for domain in (node.get("facts") or {}).get("domains", []))


def _split(server: t.Any, directory: _Directory) -> list[str]:
    if server is None:
        return []
    if isinstance(server, int) and not isinstance(server, bool):
        return [str(server)]
    if isinstance(server, str):
        if not server.strip():
            return []
        # A name with commas is one name if there is such a server.
        for whole in (server, server.strip()):
            if directory.knows(whole):
                return [whole]
        # No domain's name holds a newline: one name a line, as survey answers come, is a list too.
        return [word.strip() for word in re.split(r"[,\n]", server) if word.strip()]
    if not isinstance(server, (list, tuple)):
        raise ValueError(f"server must be a name, a UUID, a comma list or a list, not {type(server).__name__}")
    words = []
    for element in server:
        if isinstance(element, bool) or not isinstance(element, (str, int)):
            raise ValueError(f"server: every element of the list must be a name or a UUID, not {text.quoted(element)}")
        # An element is never split: this is how a name with commas is given.
        words.append(str(element))
    return [word for word in words if word.strip()]


def _as_uuid(word: str) -> str:
    try:
        return str(uuidlib.UUID(word)) if re.fullmatch(r"[0-9a-fA-F-]{32,36}", word) else ""
    except ValueError:
        return ""


class _Directory:
    """All domains and records, by UUID and by name."""

    def __init__(self, nodes: Nodes, migrations: t.Iterable[Migration]) -> None:
        self.nodes = nodes
        self.domains: dict[str, list[Found]] = {}
        self.uuids_by_name: dict[str, set[str]] = {}
        self.records: dict[str, Migration] = {}
        self.silent: list[Node] = []
        for host, node in nodes.items():
            if not node.get("reachable") or not node.get("facts"):
                self.silent.append(node)
                continue
            for domain in (node.get("facts") or {}).get("domains", []):
                self._add(domain["uuid"], domain["name"], host, domain.get("state", "unknown"))
        for migration in migrations:
            self._record(migration)

    def _add(self, uuid: str, name: str, host: str, state: str) -> None:
        found: Found = {"uuid": uuid, "name": name, "host": host, "state": state, "migration": None}
        self.domains.setdefault(uuid, []).append(found)
        self.uuids_by_name.setdefault(name, set()).add(uuid)

    def _record(self, migration: Migration) -> None:
        uuid = migration.get("server_uuid")
        if not uuid:
            return
        known = self.records.get(uuid)
        if known is None or _newness(migration) > _newness(known):
            self.records[uuid] = migration
        if uuid not in self.domains or migration.get("status") in ACTIVE:
            self.uuids_by_name.setdefault(migration.get("server_name") or uuid, set()).add(uuid)

    def knows(self, word: str) -> bool:
        return word in self.uuids_by_name or _as_uuid(word) in self.domains

    def find(self, word: str) -> Found | str:
        """The server, or the sentence that says why not."""
        matches = set(self.uuids_by_name.get(word, ()))
        by_uuid = _as_uuid(word)
        if by_uuid and (by_uuid in self.domains or by_uuid in self.records):
            matches.add(by_uuid)
        # Records of servers that are gone must not make a live name ambiguous.
        alive = {uuid for uuid in matches if uuid in self.domains or self._active(uuid)}
        matches = alive or matches
        if len(matches) > 1:
            return self._ambiguous(word, matches)
        return self._place(word, next(iter(matches))) if matches else self._unknown(word)

    def _active(self, uuid: str) -> Migration | None:
        record = self.records.get(uuid)
        return record if record is not None and record.get("status") in ACTIVE else None

    def _place(self, word: str, uuid: str) -> Found | str:
        places, record = self.domains.get(uuid, []), self._active(uuid)
        if len(places) == 1:
            return {**places[0], "migration": record.get("uuid") if record else None}
        if not places:
            return self._by_record(word, uuid)
        hosts = {place["host"] for place in places}
        if record is not None and hosts <= {record.get("source_host"), record.get("dest_host")}:
            # Between two steps of a move both ends may have a definition: the record says which one counts.
            at = next(place for place in places if place["host"] == location(record)) if location(record) in hosts else places[0]
            return {**at, "migration": record.get("uuid")}
        listed = ", ".join(f"{place['host']} ({place['state']})" for place in places)
        return (
            f"server {text.quoted(word)} ({uuid}) is defined on more than one node: {listed}. "
            "Find out which copy is the good one and undefine the other before anything is moved (virsh undefine --keep-nvram --keep-tpm)"
        )

    def _by_record(self, word: str, uuid: str) -> Found | str:
        record = self.records[uuid]
        host = location(record)
        node = self.nodes.get(host)
        answers = bool(node and node.get("reachable") and node.get("facts"))
        if self._active(uuid):
            name = record.get("server_name") or uuid
            return {"uuid": uuid, "name": name, "host": host, "state": "absent" if answers else "unknown", "migration": record.get("uuid")}
        if answers:
            return self._unknown(word)
        if node is None:
            return (
                f"server {text.quoted(word)} was last on {host} (migration {record.get('id')}, {record.get('status')}), "
                "which is not in the inventory: put the node back into it"
            )
        return (
            f"server {text.quoted(word)} was last on {host} (migration {record.get('id')}, {record.get('status')}), which does not answer"
            f"{_because(node)}. {_evacuate(host)}"
        )

    def _ambiguous(self, word: str, uuids: t.Iterable[str]) -> str:
        places = sorted(
            f"{uuid} on {' and '.join(place['host'] for place in self.domains[uuid])}" if uuid in self.domains else f"{uuid} (in a migration)" for uuid in uuids
        )
        return f"server {text.quoted(word)} is ambiguous, {len(places)} servers have this name: {', '.join(places)}. Name it by its UUID"

    def _unknown(self, word: str) -> str:
        sentence = f"server {text.quoted(word)} is on none of the nodes that answer"
        known = {name: uuid for name, uuids in self.uuids_by_name.items() for uuid in uuids if uuid in self.domains}
        similar = text.close_to(word, known)
        if similar:
            listed = ", ".join(f"{text.quoted(name)} (on {self.domains[known[name]][0]['host']})" for name in similar)
            sentence += f". Did you mean {listed}?"
        if self.silent:
            listed = "; ".join(f"{node.get('name')}{_because(node)}" for node in self.silent)
            separator = " " if similar else ". "
            sentence += f"{separator}It may be on a node that does not answer: {listed}. {_evacuate(self.silent[0].get('name', ''))}"
        return sentence


def _newness(migration: Migration) -> tuple[str, int]:
    return str(migration.get("created_at") or ""), int(migration.get("id") or 0)


def _because(node: Node) -> str:
    return f" ({text.shown(node['error'])})" if node.get("error") else ""


def _evacuate(host: str) -> str:
    return f"Mend the node, or if it is lost: {text.command('evacuate', failed_host=host)}"
