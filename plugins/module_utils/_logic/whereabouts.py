# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Where each server belongs, as far as the records say: what a node is told about when it asks which servers it must not start.

The role record_store installs this file on the records host, so it imports nothing but the standard library.
"""

from __future__ import annotations

import typing as t

Row = t.Mapping[str, t.Any]

#: The form of the answer; a guard that does not know it takes it for none.
VERSION: t.Final = 1

#: An evacuation takes the server from its source with the first word of its record, and until the source has been cleaned.
LEAVING: t.Final = frozenset({"accepted", "pre-migrating", "done"})
#: What places a server for sure. While a move is on its way, and when it has come to nothing, the server is where it was seen last.
ON_DEST: t.Final = frozenset({"finished", "confirming", "confirmed", "done", "completed"})
ON_SOURCE: t.Final = frozenset({"reverted"})


class Place(t.NamedTuple):
    """Where a server is, and which migration says so (None: it was seen there)."""

    host: str
    at: float
    migration: Row | None


def answer(host: str, migrations: t.Iterable[Row], servers: t.Iterable[Row], fenced: str = "") -> dict[str, t.Any]:
    """What ``host`` is told: ``{version, host, away: [{server_uuid, name, to, evacuated, migration, status}], managed: [server_uuid]}``.

    ``evacuated``: an evacuation has left a copy of the server on ``host``, or may have; what another node has of it is another matter.

    ``fenced``: the words for a node that was given up and is not back in service. Whoever had it fenced may just be bringing its servers up
    elsewhere, one after the other, so that it starts none of them, whatever the records say of each by now (``withheld``).

    ``migrations``: oldest first, with at least the youngest of each server and all that are open or not cleaned up.
    ``servers``: the last-known records. Whatever was known later decides; an evacuation that is open for ``host`` decides in any case.
    """
    names: dict[str, str] = {}
    places: dict[str, Place] = {}
    evacuated: dict[str, Row] = {}
    uncleaned: dict[str, Row] = {}
    for migration in migrations:
        server = migration["server_uuid"]
        names[server] = migration["server_name"]
        placed = _placed_on(migration)
        if placed:
            places[server] = Place(placed, migration["updated_at"], migration)
        if _is_evacuated(host, migration):
            evacuated[server] = migration
        if host in migration["pending_hosts"] and migration["source_host"] != migration["dest_host"]:
            uncleaned[server] = migration
    for seen in servers:
        server = seen["server_uuid"]
        names[server] = seen["name"]
        if server not in places or seen["seen_at"] > places[server].at:
            places[server] = Place(seen["host"], seen["seen_at"], None)
    away, managed = [], []
    for server in sorted(places.keys() | evacuated.keys() | uncleaned.keys()):
        place, name = places.get(server), names[server]
        if server in evacuated:
            elsewhere = place is not None and place.host != host
            entry = _away(server, name, place.host if place and elsewhere else evacuated[server]["dest_host"], evacuated[server])
            away.append({**entry, "evacuated": True})
        elif place is None:
            away.append(_away(server, name, _other_end(host, uncleaned[server]), uncleaned[server]))
        elif place.host != host:
            away.append(_away(server, name, place.host, place.migration))
        elif fenced:
            away.append({**_away(server, name, None, None), "withheld": fenced})
        else:
            managed.append(server)
    return {"version": VERSION, "host": host, "away": away, "managed": managed}


def _placed_on(migration: Row) -> str | None:
    if migration["status"] in ON_DEST:
        return str(migration["dest_host"])
    return str(migration["source_host"]) if migration["status"] in ON_SOURCE else None


def _is_evacuated(host: str, migration: Row) -> bool:
    """Whether ``host`` has a copy that an evacuation leaves behind."""
    leaving = migration["migration_type"] == "evacuation" and migration["status"] in LEAVING
    return leaving and host != migration["dest_host"] and (host == migration["source_host"] or host in migration["pending_hosts"])


def _other_end(host: str, migration: Row) -> str | None:
    return t.cast("str | None", migration["source_host"] if host == migration["dest_host"] else migration["dest_host"])


def _away(server: str, name: str, to: str | None, migration: Row | None) -> dict[str, t.Any]:
    told = migration or {}
    return {"server_uuid": server, "name": name, "to": to, "evacuated": False, "migration": told.get("uuid"), "status": told.get("status")}
