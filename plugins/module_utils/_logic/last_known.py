# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Whose record a server is: what a node says of its servers counts only if no other node has a better claim to them."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.servers import location
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import UNDER_WAY, needs_cleaning
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Domain, Migration, Nodes

Row = dict[str, t.Any]
_OFF = ("shutoff", "crashed")


class Own(t.TypedDict):
    """``servers``: the snapshots that count; ``problems``: sentences about those that do not."""

    servers: list[Row]
    problems: list[str]


def own_servers(snapshots: t.Iterable[Row], node: str, nodes: Nodes, migrations: t.Iterable[Migration]) -> Own:
    """The servers of ``node`` among those that were seen there."""
    left_over = _left_over(migrations)
    found: Own = {"servers": [], "problems": []}
    for snapshot in snapshots:
        problem = _not_its_own(snapshot, node, nodes, left_over.get(snapshot["server_uuid"], set()))
        if problem is None:
            found["servers"].append(snapshot)
        else:
            found["problems"].append(f"{text.shown(snapshot['name'])} on {node} is not kept: {problem}")
    return found


def _left_over(migrations: t.Iterable[Migration]) -> dict[str, set[str]]:
    """Nodes that an ended migration left a copy on, by server."""
    found: dict[str, set[str]] = {}
    for migration in migrations:
        found.setdefault(str(migration.get("server_uuid")), set()).update(needs_cleaning(migration))
    return found


def _not_its_own(snapshot: Row, node: str, nodes: Nodes, left_over: t.Container[str]) -> str | None:
    if node in left_over:
        return f"it went on elsewhere, this copy is to be cleaned (next: {text.command('recover', host=node)})"
    others = {name: domain for name, domain in _seen_on(snapshot["server_uuid"], nodes).items() if name != node and name not in left_over}
    if not others:
        return None
    running = sorted(name for name, domain in others.items() if domain.get("state") not in _OFF)
    if snapshot["state"] in _OFF and running:
        return f"it runs on {', '.join(running)}"
    if snapshot["state"] not in _OFF and not running:
        return None
    return (
        f"{', '.join(sorted(others))} has it too, in the same state: which is the server? Undefine the other one (virsh undefine, without --remove-all-storage)"
    )


def _seen_on(server_uuid: str, nodes: Nodes) -> dict[str, Domain]:
    return {name: domain for name, node in nodes.items() for domain in (node.get("facts") or {}).get("domains", []) if domain.get("uuid") == server_uuid}


def gone_servers(known: t.Iterable[Row], nodes: Nodes) -> list[str]:
    """UUIDs of known servers that are nowhere any more. While any node is silent that cannot be said of any server."""
    if not all(node.get("reachable") for node in nodes.values()):
        return []
    return [row["server_uuid"] for row in known if row["host"] in nodes and not _seen_on(row["server_uuid"], nodes)]


def host_of(migration: Migration) -> str:
    """The node to look at for what became of a server, once a verb has ended; empty if it has not, or has no record."""
    return "" if not migration.get("uuid") or migration.get("status") in UNDER_WAY else location(migration)
