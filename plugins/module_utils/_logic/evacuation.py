# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Who is evacuated from a lost node, in which order, and where to; and what is in the way of it.

What survives of each server is survival.py's.
"""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import scheduler, survival, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.prechecks import with_margin
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.recovery import IN_FLIGHT
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.survival import Fate, Image, Plan, Record, Words
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import ACTIVE, needs_cleaning
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Amount, Migration, Node, Nodes, Rejection
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.whereabouts import ON_DEST, ON_SOURCE

NOTHING: Amount = {"vcpus": 0, "memory_mb": 0, "disk_bytes": 0}
#: How many servers that failed are named to those that are not begun.
_NAMED = 5


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
    what = f"migration {migration.get('id')} ({migration.get('migration_type')}, {migration.get('status')})"
    return (
        f"{text.shown(record['name'])} came to {failed_host} by {what}, and what is known of it is older, from {record['host']}: it is not evacuated by that. "
        f"Evacuate the others by name (-e server=…){way}"
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
    fates = survival.held_by(host, record, move, lost.words.get(host, {})) if back else [whole]
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
        host: survival.plan(
            record,
            host,
            lost.words.get(host, {}),
            (lost.instances_path, (node.get("facts") or {}).get("instances_path", "")),
            survival.NO_MIGRATION,
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
    if record.get("unreadable"):
        others = f"or evacuate the others by name (-e server=…) and bring this one up from a backup of /etc/libvirt/qemu of {lost.host}"
        errors.append(f"{text.shown(record['name'])}: {text.shown(record['unreadable'])}. Mend the record store, {others}")
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
    missing = survival.not_accepted(record["name"], record["server_uuid"], [fate["id"] for fate in losses], lost.accepted)
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
    """An image that is needed on a candidate, and the size of the smallest disk that is to be made from it there.

    ``disks``: how many are to be made from it below the node's instances_path.
    """

    host: str
    path: str
    format: str
    disk_bytes: int
    disks: int


def images(found: t.Sequence[Evacuee]) -> list[Source]:
    """What must be on the candidates, so that it can be looked at before anything begins."""
    smallest: dict[tuple[str, str, str], int] = {}
    made: dict[tuple[str, str, str], int] = {}
    for server in found:
        for place, candidate in enumerate(server["candidates"]):
            host = candidate["host"]
            if host not in server["plans"]:
                continue
            for file in server["plans"][host]["files"]:
                if file["way"] == "image":
                    key = (host, file["image_path"], file["image_format"])
                    smallest[key] = min(smallest.get(key, file["virtual_bytes"]), file["virtual_bytes"])
                    # What lies elsewhere than below instances_path is on a file system of which nothing is known yet.
                    here = place == 0 and posixpath.dirname(file["dest_path"]) not in server["plans"][host]["directories"]
                    made[key] = made.get(key, 0) + here
    return [{"host": key[0], "path": key[1], "format": key[2], "disk_bytes": size, "disks": made[key]} for key, size in smallest.items()]


def no_room(sources: t.Sequence[tuple[Source, int]], nodes: Nodes) -> list[str]:
    """Why what is made from images (each with the bytes of its content) does not fit on the nodes, one sentence each.

    The scheduler counts what disks can grow to, against all of the node's space with its ratio; this is what is written at once, against what is free.
    """
    needs: dict[str, int] = {}
    for source, content in sources:
        needs[source["host"]] = needs.get(source["host"], 0) + source["disks"] * content
    found = []
    for host, need in needs.items():
        facts = (nodes.get(host) or {}).get("facts") or {}
        free = (facts.get("instances_fs") or {}).get("free_bytes")
        if free is not None and with_margin(need) > free:
            found.append(
                f"{host} has {text.human_bytes(free)} free in {text.shown(facts.get('instances_path') or '?')}, and what is to be made there from images "
                f"takes {text.human_bytes(need)}: make room there, or name another target_host or fewer servers"
            )
    return found


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
