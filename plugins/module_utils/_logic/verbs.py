# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What a verb may do with a server, by the records: begin, continue, act, do nothing, or refuse and say why."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import cutover, flavors, recovery, servers, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.report import age_seconds
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import ACTIVE, UNDER_WAY, needs_cleaning
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Locked, Migration, Node

Migrations = t.Sequence[Migration]
Nodes = t.Mapping[str, Node]
Liveness = t.Callable[[Migration], recovery.Liveness]

#: The verbs that move a server, and the type of migration that each of them opens.
_MOVES = {"cold_migrate": "migration", "resize": "resize"}
#: What confirm and revert set while they work, and when they are done.
_ENDS = {"confirm": ("confirming", "confirmed"), "revert": ("reverting", "reverted")}
#: How the error of a record begins that somebody has ended by the verb cancel.
CANCELLED = "cancelled by "


class Next(t.TypedDict):
    """``next``: plan (begin anew), adopt (continue a run that was killed), act, nothing, refuse; of recover also wait."""

    next: str
    reason: str
    migration: Migration | None


def next_step(
    verb: str,
    migrations: Migrations,
    server_uuid: str,
    liveness: Liveness,
    target_host: str = "",
    locked: Locked | None = None,
    flavor: t.Any = None,
    kind: str = "now",
) -> Next:
    """What ``verb`` (cold_migrate, resize, cutover, cancel, confirm, revert, evacuate) is to do about a server, which its owner may have ``locked``.

    ``flavor``: what it is to be resized to, a name or a mapping. ``kind``: of the cutover that is asked for.
    """
    latest = latest_of(migrations, server_uuid)
    if verb == "evacuate":
        return _evacuate(latest, liveness)
    if verb in _MOVES:
        return _move(_MOVES[verb], latest, liveness, target_host, flavor, kind)
    if verb == "cutover":
        return _cutover(latest, liveness, kind)
    if verb == "cancel":
        return _cancel(latest, liveness)
    if verb not in _ENDS:
        raise ColdmoveError(f"no such verb: {verb}")
    return _end(verb, latest, liveness, locked)


def latest_of(migrations: Migrations, server_uuid: str) -> Migration | None:
    """The youngest record of a server; None if it was never moved."""
    mine = [migration for migration in migrations if migration.get("server_uuid") == server_uuid]
    return max(mine, key=lambda migration: int(migration.get("id") or 0)) if mine else None


def _move(migration_type: str, latest: Migration | None, liveness: Liveness, target_host: str, flavor: t.Any, kind: str) -> Next:
    if latest is None or latest.get("status") not in ACTIVE:
        return {"next": "plan", "reason": "", "migration": latest}
    if latest.get("migration_type") == "evacuation":
        return _refuse(latest, f"its evacuation from {latest.get('source_host')} has not ended")
    elsewhere = target_host not in ("", latest.get("dest_host"))
    another = latest.get("migration_type") != migration_type or (migration_type == "resize" and not _is_flavor(flavor, latest.get("new_flavor") or {}))
    if latest.get("status") == "finished":
        if elsewhere or another:
            return _refuse(latest, f"{_done(latest)} and waits for confirm or revert: do one of them first")
        return {"next": "nothing", "reason": f"{_done(latest)} already", "migration": latest}
    if latest.get("status") not in recovery.IN_FLIGHT:
        return _refuse(latest, "a confirm or a revert is not done")
    refusal = _in_the_way(latest, liveness)
    if refusal:
        return refusal
    if cutover.is_held(latest):
        if elsewhere or another:
            return _refuse(latest, f"its precopy to {_became(latest)} is held: cancel that first")
        return _still_held(latest, kind) or {"next": "adopt", "reason": "", "migration": latest}
    if kind != "now" and latest.get("status") not in recovery.BEFORE_HOLD:
        return _too_late(latest)
    if elsewhere and latest.get("status") not in recovery.BEFORE_HOLD:
        return _refuse(latest, f"a run that was killed had begun to copy it to {latest.get('dest_host')}: recover first, or name no other target")
    if another and latest.get("status") not in recovery.BEFORE_HOLD:
        return _refuse(latest, f"a run that was killed had begun a {latest.get('migration_type')} to {_became(latest)}: recover first")
    return {"next": "adopt", "reason": "", "migration": latest}


def _cutover(latest: Migration | None, liveness: Liveness, kind: str) -> Next:
    """A held precopy is completed, and so is any other run that was killed; ``hold`` changes nothing on what is held."""
    if latest is not None and latest.get("migration_type") != "evacuation":
        if latest.get("status") == "finished":
            return {"next": "nothing", "reason": f"{_done(latest)} already", "migration": latest}
        if latest.get("status") in recovery.IN_FLIGHT:
            refusal = _in_the_way(latest, liveness)
            if refusal is None and kind != "now" and latest.get("status") not in recovery.BEFORE_HOLD:
                refusal = _too_late(latest)
            return refusal or _still_held(latest, kind) or {"next": "adopt", "reason": "", "migration": latest}
    return _refuse(latest, "there is no precopy that could be cut over")


def _too_late(latest: Migration) -> Next:
    return _refuse(latest, "a run that was killed had begun to stop the guest, so its cutover does not wait any more: recover first, or say cutover=now")


def _still_held(latest: Migration, kind: str) -> Next | None:
    """``nothing`` if a held precopy is to be held."""
    if kind != "hold" or not cutover.is_held(latest):
        return None
    since = (latest.get("hold") or {}).get("since")
    return {"next": "nothing", "reason": f"its precopy to {_became(latest)} is held since {since} already", "migration": latest}


def _cancel(latest: Migration | None, liveness: Liveness) -> Next:
    """Taken back while nothing has been stopped. What has been cancelled stays so."""
    if latest is not None and is_cancelled(latest):
        return {"next": "nothing", "reason": f"it is {text.shown(latest.get('error') or '')} already", "migration": latest}
    if latest is None or latest.get("status") not in ACTIVE or latest.get("migration_type") == "evacuation":
        return _refuse(latest, "there is no move that could be cancelled")
    refusal = _in_the_way(latest, liveness) if latest.get("status") in UNDER_WAY else None
    if refusal:
        return refusal
    if latest.get("status") not in recovery.BEFORE_HOLD:
        return _refuse(latest, f"{_done(latest)}, which only revert takes back" if latest.get("status") == "finished" else "the guest has been stopped for it")
    return {"next": "act", "reason": "", "migration": latest}


def is_cancelled(migration: Migration) -> bool:
    """Whether somebody has ended it by the verb cancel."""
    return migration.get("status") in ("error", "failed") and str(migration.get("error") or "").startswith(CANCELLED)


def _done(latest: Migration) -> str:
    return f"it {'was resized' if latest.get('migration_type') == 'resize' else 'has moved'} to {_became(latest)}"


def _evacuate(latest: Migration | None, liveness: Liveness) -> Next:
    """Locked servers, and those in any stuck state, are evacuated too; only another run that is at work is in the way."""
    if latest is None or latest.get("status") not in ACTIVE:
        return {"next": "plan", "reason": "", "migration": latest}
    done = latest.get("status") == "finished"
    return (None if done else _in_the_way(latest, liveness)) or {"next": "adopt", "reason": "", "migration": latest}


def _is_flavor(asked: t.Any, kept: t.Mapping[str, t.Any]) -> bool:
    """Whether the flavor that is asked for, a name or a mapping, is the one that the record keeps: it counts, whatever the inventory says by now."""
    if not isinstance(asked, t.Mapping):
        return str(asked).strip() == kept.get("name")
    flavor = flavors.parse(asked, None).flavor
    return flavor is not None and all(kept.get(key) == value for key, value in flavor.items() if key != "name")


def _became(migration: Migration) -> str:
    """Where a move leads: the node, and the flavor of a resize."""
    flavor = text.shown((migration.get("new_flavor") or {}).get("name") or "")
    dest = str(migration.get("dest_host"))
    return f"{flavor} on {dest}" if migration.get("migration_type") == "resize" and flavor else dest


def _end(verb: str, latest: Migration | None, liveness: Liveness, locked: Locked | None) -> Next:
    under_way, done = _ENDS[verb]
    status = latest.get("status") if latest else None
    if latest is None or status not in ("finished", under_way, done):
        return _refuse(latest, f"there is no finished move to {verb}")
    if status == done:
        return {"next": "nothing", "reason": f"it is {done} already", "migration": latest}
    if status == "finished" and locked:
        return _refuse(latest, f"the server is {servers.locked_by(locked)}")
    refusal = _in_the_way(latest, liveness) if status == under_way else None
    return refusal or {"next": "act", "reason": "", "migration": latest}


def _in_the_way(latest: Migration, liveness: Liveness) -> Next | None:
    """The refusal while another run may be at work; on a precopy that is held none is."""
    if cutover.is_idle(latest):
        return None
    sign = liveness(latest)
    if sign["state"] == "dead" or sign["mine"]:
        return None
    return _refuse(latest, f"another run is at work on it since {latest.get('created_at')}, started by {latest.get('started_by') or 'unknown'}: {sign['text']}")


def _refuse(latest: Migration | None, why: str) -> Next:
    if latest is None:
        return {"next": "refuse", "reason": f"{why}, its server was never moved. Nothing was changed", "migration": None}
    commands = " or ".join(recovery.legal_commands(latest))
    hint = f". What can be run now: {commands}" if commands else ""
    reason = f"migration {latest.get('id')} is {latest.get('status')}: {why}. Nothing was changed{hint}"
    return {"next": "refuse", "reason": reason, "migration": latest}


def recoverable(migrations: Migrations, nodes: Nodes, liveness: Liveness, wanted: t.Collection[str] = (), host: str = "") -> list[Next]:
    """The migrations that recover has to look at, with ``next`` act, or refuse for those that another run is at work on.

    Wait: a precopy that is held, as nothing was interrupted (it is acted on if its server was named and its node has lost it); an ended one whose server
    is on its way by another migration, which comes first; and one that has only nodes to clean which are silent, if nobody has asked for it or for one of
    them. Then that is no failure.

    ``wanted`` (names or UUIDs) and ``host`` narrow the choice; empty is all.
    """
    found: list[Next] = []
    for migration in chosen(migrations, wanted, host):
        if migration.get("status") == "finished":
            if _is_gone(migration, nodes):
                found.append({"next": "act", "reason": "", "migration": migration})
        elif cutover.is_held(migration) and _in_the_way(migration, liveness) is None:
            lost = lost_precopy(migration, nodes) if wanted else ""
            found.append({"next": "act" if lost else "wait", "reason": "" if lost else _is_held(migration, nodes), "migration": migration})
        elif migration.get("status") in ACTIVE:
            found.append(_in_the_way(migration, liveness) or {"next": "act", "reason": "", "migration": migration})
        elif needs_cleaning(migration):
            awaited = _behind(migration, migrations)
            if not (awaited or wanted or host in needs_cleaning(migration)):
                awaited = _awaited(migration, nodes)
            found.append({"next": "wait" if awaited else "act", "reason": awaited, "migration": migration})
    return found


def lost_precopy(migration: Migration, nodes: Nodes) -> str:
    """Why a held precopy cannot be cut over any more, as a clause; empty if it can, if its source does not say, and for what is not held."""
    if not cutover.is_held(migration):
        return ""
    source = nodes.get(str(migration.get("source_host"))) or {}
    if not source.get("reachable"):
        return ""
    journals = (source.get("facts") or {}).get("journals") or []
    mine = [journal.get("precopy") for journal in journals if journal.get("migration_uuid") == migration.get("uuid")]
    if any(state in ("running", "in_step") for state in mine):
        return ""
    name = text.shown(migration.get("source_host"))
    return "the guest is off" if "over" in mine else f"{name} has lost it" if "lost" in mine else f"{name} knows nothing of it"


def _is_held(migration: Migration, nodes: Nodes) -> str:
    """The words for a held precopy, which recover leaves alone."""
    lost = lost_precopy(migration, nodes)
    commands = " or ".join(recovery.legal_commands(migration, "dead"))
    name = text.shown(migration.get("server_name"))
    if lost:
        again = text.command("recover", migration.get("server_name") or "", migration.get("server_uuid") or "")
        return f"{name} (migration {migration.get('id')}): its precopy was held, and {lost}. To end it: {again}"
    return f"{name} (migration {migration.get('id')}): {cutover.held_words(migration)}. It is left alone, nothing was interrupted. Next: {commands}"


def _behind(migration: Migration, migrations: Migrations) -> str:
    """The words for an ended migration whose server is on its way by another one: where its good copies are is known once that one has ended."""
    for other in migrations:
        if other.get("server_uuid") == migration.get("server_uuid") and other.get("status") in UNDER_WAY:
            return (
                f"{text.shown(migration.get('server_name'))} (migration {migration.get('id')}, {migration.get('status')}) waits for migration "
                f"{other.get('id')} of the same server, which is {other.get('status')}: run the same command again once that one has ended"
            )
    return ""


def _awaited(migration: Migration, nodes: Nodes) -> str:
    """The words for an ended migration that can only wait; empty if a node that it has left something on answers."""
    pending = needs_cleaning(migration)
    if any((nodes.get(host) or {}).get("reachable") for host in pending):
        return ""
    return (
        f"{text.shown(migration.get('server_name'))} (migration {migration.get('id')}, {migration.get('status')}) waits: it is still to be cleaned on "
        f"{' and '.join(map(text.shown, pending))}, which {'does' if len(pending) == 1 else 'do'} not answer"
    )


def chosen(migrations: Migrations, wanted: t.Collection[str] = (), host: str = "") -> list[Migration]:
    """The migrations of the servers in ``wanted`` (names or UUIDs) and from or to ``host``; empty is all."""
    return [
        migration
        for migration in migrations
        if (not wanted or {migration.get("server_uuid"), migration.get("server_name")} & set(wanted))
        and (not host or host in (migration.get("source_host"), migration.get("dest_host"), *(migration.get("pending_hosts") or [])))
    ]


def _is_gone(migration: Migration, nodes: Nodes) -> bool:
    """Both of its nodes answer, and no node has the server."""
    ends = [nodes.get(str(migration.get(end))) for end in ("source_host", "dest_host")]
    if not all(node and node.get("reachable") for node in ends):
        return False
    return not any(domain.get("uuid") == migration.get("server_uuid") for node in nodes.values() for domain in (node.get("facts") or {}).get("domains", []))


class Sweep(t.TypedDict):
    """``ready``: server UUIDs to confirm; ``left``: sentences about those that are old enough and not well."""

    ready: list[str]
    left: list[str]


def confirmable(migrations: Migrations, nodes: Nodes, older_than: float, now: str) -> Sweep:
    """What a sweep confirms: finished for at least ``older_than`` seconds, both nodes answer, and the server is on its dest in its old power state."""
    sweep: Sweep = {"ready": [], "left": []}
    for migration in migrations:
        age = age_seconds(migration.get("updated_at"), now)
        if migration.get("status") != "finished" or age is None or age < older_than:
            continue
        illness = _illness(migration, nodes)
        if illness:
            sweep["left"].append(f"{text.shown(migration.get('server_name'))} (migration {migration.get('id')}) is left alone: {illness}")
        else:
            sweep["ready"].append(str(migration.get("server_uuid")))
    return sweep


def _illness(migration: Migration, nodes: Nodes) -> str:
    source, dest = str(migration.get("source_host")), str(migration.get("dest_host"))
    for name in (source, dest):
        if not (nodes.get(name) or {}).get("reachable"):
            return f"{name} does not answer"
    domains = (nodes[dest].get("facts") or {}).get("domains", [])
    state = next((domain.get("state") for domain in domains if domain.get("uuid") == migration.get("server_uuid")), None)
    if state is None:
        return f"it is not defined on {dest}"
    if state != migration.get("old_power_state"):
        return f"it is {state} on {dest}, and was {migration.get('old_power_state')} before the move"
    return ""


def lost_nodes(migrations: Migrations, nodes: Nodes) -> list[str]:
    """A warning for each open migration, or one with something left to clean, whose node is no longer in the inventory."""
    warnings = []
    for migration in migrations:
        if migration.get("status") not in ACTIVE and not needs_cleaning(migration):
            continue
        lost = [str(name) for name in (migration.get("source_host"), migration.get("dest_host")) if name and name not in nodes]
        if lost:
            warnings.append(
                f"migration {migration.get('id')} of {text.shown(migration.get('server_name'))} ({migration.get('status')}) needs "
                f"{' and '.join(lost)}, which the inventory does not have any more: put it back until the migration is confirmed, reverted or recovered"
            )
    return warnings
