# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The tables that verbs end with, as lines of text. Any name may be hostile: it is shown with its control characters escaped."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import capacity, cutover, recovery, services, storage
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.text import human_bytes, human_seconds, shown
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import ACTIVE
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Migration, Node

__all__ = ["human_bytes", "human_seconds", "move_table", "node_table", "server_table", "shown", "status_table", "table"]


def table(headings: t.Sequence[str], rows: t.Sequence[t.Sequence[t.Any]], right: t.Collection[int] = ()) -> list[str]:
    """Rows in columns; the columns in ``right`` end flush."""
    cells = [list(headings), *([shown(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]

    def line(row: t.Sequence[str]) -> str:
        return "  ".join(cell.rjust(width) if column in right else cell.ljust(width) for column, (cell, width) in enumerate(zip(row, widths))).rstrip()

    return [line(cells[0]), "  ".join("-" * width for width in widths), *(line(row) for row in cells[1:])]


def move_table(migrations: t.Iterable[Migration]) -> list[str]:
    """What became of every server of a run: server, from, to, status, bytes, downtime; errors below."""
    rows, notes = [], []
    for migration in migrations:
        name = migration.get("server_name") or migration.get("server_uuid") or "?"
        sent = migration.get("bytes_sent")
        rows.append(
            [
                name,
                migration.get("source_host") or "-",
                migration.get("dest_host") or "-",
                migration.get("status") or "-",
                human_bytes(sent),
                human_seconds(migration.get("downtime_seconds")),
            ]
        )
        if migration.get("error"):
            notes.append(f"{shown(name)}: {shown(migration['error'])}")
        if cutover.is_idle(migration):
            notes += [f"{shown(name)}: {words}" for words in (cutover.held_words(migration), *recovery.legal_commands(migration))]
    if not rows:
        return ["no servers"]
    return table(["server", "from", "to", "status", "bytes", "downtime"], rows, right=(4, 5)) + notes


def status_table(
    migrations: t.Iterable[Migration], now: str = "", liveness: t.Mapping[str, t.Any] | None = None, lost: t.Mapping[str, str] | None = None
) -> list[str]:
    """What is where, since when, by whom, what it holds, and which commands are legal now. Open migrations first, oldest first.

    ``now``: ISO 8601, for ages. ``liveness``: what run_liveness said, by migration UUID. ``lost``: what became of held precopies that are lost.
    """
    records = sorted(migrations, key=_oldest_open_first)
    if not records:
        return ["no migrations"]
    lines = table(
        ["id", "server", "from", "to", "status", "since", "age", "by", "held", "progress"],
        [_status_row(migration, now) for migration in records],
        right=(0, 6, 8),
    )
    for migration in records:
        lines += _status_notes(migration, (liveness or {}).get(migration.get("uuid", "")), (lost or {}).get(migration.get("uuid", ""), ""))
    return lines + _held_summary(records, now)


def _oldest_open_first(migration: Migration) -> tuple[bool, str, int]:
    return migration.get("status") not in ACTIVE, str(migration.get("created_at") or ""), migration.get("id") or 0


def node_table(nodes: t.Mapping[str, Node], migrations: t.Iterable[Migration]) -> list[str]:
    """Every node: whether it answers and takes servers, what it has, what its domains use, what unfinished migrations hold. Below: why it takes none."""
    claims = capacity.claims_by_host(migrations)
    rows, notes = [], []
    for name, node in sorted(nodes.items()):
        room = capacity.Room(node, claims.get(name, []))
        facts = node.get("facts") or {}
        rows.append(
            [
                name,
                _node_state(node),
                str(len(facts.get("domains", []))) if facts else "-",
                *(f"{room.used[key]} + {room.held[key]} of {room.capacity[key]}" if facts else "-" for key in _NODE_AMOUNTS),
                human_bytes((facts.get("instances_fs") or {}).get("free_bytes")),
            ]
        )
        notes += [f"{shown(name)}: {reason}" for reason in services.reasons(node.get("service"))]
    return table(["node", "state", "servers", "memory MiB", "vCPUs", "disk free"], rows, right=(2, 5)) + notes


_NODE_AMOUNTS: tuple[t.Literal["memory_mb", "vcpus"], ...] = ("memory_mb", "vcpus")


def _node_state(node: Node) -> str:
    told = {mark for mark in ("forced_down", "maintenance") if node.get(mark)} | set(services.marks(node.get("service")))
    marks = sorted(told)
    if not node.get("reachable"):
        marks.insert(0, "silent")
    elif not (node.get("facts") or {}).get("prepared"):
        marks.append("not prepared")
    return ", ".join(marks) or "up"


def server_table(known: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """What is known of each server if its node is gone: how old that is, and who sees its storage."""
    rows = [
        [row.get("name"), row.get("host"), row.get("state"), human_seconds(row.get("age_seconds")), _storage_words(row)]
        for row in sorted(known, key=lambda row: (str(row.get("host")), str(row.get("name"))))
    ]
    return (
        table(["server", "last seen on", "state", "age", "storage"], rows, right=(3,))
        if rows
        else ["no servers are known: run ansible-playbook coldmove.libvirt.sync"]
    )


def _storage_words(row: t.Mapping[str, t.Any]) -> str:
    facts = row.get("facts") or {}
    if row.get("unreadable"):
        return f"cannot be evacuated: {shown(row['unreadable'])}"
    if not storage.directories(facts) and not storage.devices(facts):
        return "none on its node"
    shared, unknown = storage.sharing(facts, row.get("storage") or {})
    if unknown:
        return f"not looked at: {', '.join(unknown)}"
    return f"shared with {', '.join(shared)}" if shared else "local"


def age_seconds(since: str | None, now: str) -> float | None:
    """Seconds between two ISO 8601 dates; None if one is missing or malformed."""
    begin, end = _date(since), _date(now)
    return (end - begin).total_seconds() if begin and end else None


def _date(value: str | None) -> datetime.datetime | None:
    try:
        # Python 3.9 and 3.10 do not know the suffix Z.
        date = datetime.datetime.fromisoformat(str(value or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=datetime.timezone.utc)


def _status_row(migration: Migration, now: str) -> list[t.Any]:
    progress = migration.get("progress") or {}
    going = f"{progress.get('step', '')} {progress.get('percent') or 0:.0f}%" if progress and migration.get("status") in recovery.IN_FLIGHT else "-"
    return [
        migration.get("id") or "-",
        migration.get("server_name") or migration.get("server_uuid") or "?",
        migration.get("source_host") or "-",
        migration.get("dest_host") or "-",
        migration.get("status") or "-",
        migration.get("created_at") or "-",
        human_seconds(age_seconds(migration.get("created_at"), now)),
        migration.get("started_by") or "-",
        human_bytes(migration.get("held_bytes")) if migration.get("held_bytes") else "-",
        going,
    ]


def _status_notes(migration: Migration, liveness: t.Any, lost: str) -> list[str]:
    name = shown(migration.get("server_name") or migration.get("server_uuid") or "?")
    lines = []
    if cutover.is_held(migration):
        lines.append(f"{name}: its precopy was held, and {lost}" if lost else f"{name}: {cutover.held_words(migration)}")
    if isinstance(liveness, dict) and not cutover.is_idle(migration) and migration.get("status") in ACTIVE and migration.get("status") != "finished":
        lines.append(f"{name}: {shown(liveness.get('text', ''))}")
    if migration.get("error"):
        lines.append(f"{name}: {shown(migration['error'])}")
    if migration.get("pending_hosts"):
        lines.append(f"{name}: still to be cleaned on {', '.join(shown(host) for host in migration['pending_hosts'])}")
    state = liveness.get("state") if isinstance(liveness, dict) else None
    return lines + [f"{name}: {command}" for command in recovery.legal_commands(migration, state)]


def _held_summary(records: t.Sequence[Migration], now: str) -> list[str]:
    held = [migration for migration in records if migration.get("status") in ACTIVE and migration.get("held_bytes")]
    if not held:
        return []
    total = sum(migration.get("held_bytes") or 0 for migration in held)
    oldest = age_seconds(held[0].get("created_at"), now)
    memory = sum(need["memory_mb"] for need in (migration.get("need") for migration in held) if need)
    age = f", the oldest since {human_seconds(oldest)}" if oldest is not None else ""
    return [f"{len(held)} unconfirmed move(s) hold {human_bytes(total)} of disk and {memory} MiB of memory on their old nodes{age}"]
