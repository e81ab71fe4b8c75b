# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Reads of the record store what a node's guard is told. The role record_store installs this file on the records host.

The store is taken as it is, whatever its version: a release that is newer than what was installed here must not silence the
guards, and the few columns that are read are those of version 1 and of the last-known records.
"""

from __future__ import annotations

import json
import typing as t

from .._logic import whereabouts
from .._logic.errors import ColdmoveError
from .record_database import Database

#: Names the columns, so that a column that is missing is an error and never an empty answer. What placed a server is as old as its end: that a
#: node was cleaned long afterwards says nothing of where the server is.
_MIGRATIONS: t.Final = """
    SELECT uuid, server_uuid, server_name, migration_type, status, source_host, dest_host, pending_hosts,
        COALESCE((SELECT at FROM coldmove_events WHERE coldmove_events.id = coldmove_migrations.closed_event), updated_at) AS updated_at
    FROM coldmove_migrations WHERE status NOT IN ('error', 'failed') OR pending_hosts != '[]' ORDER BY coldmove_migrations.id
"""
_SERVERS: t.Final = "SELECT server_uuid, name, host, seen_at FROM coldmove_servers"
_NODES: t.Final = "SELECT host, fenced FROM coldmove_nodes"


def answer(url: str, host: str, **where: str) -> dict[str, t.Any]:
    """What the guard of ``host`` is told. Raises ColdmoveError if there is no store: an empty answer would let everything start."""
    database = Database(url, dry_run=True, **where)
    with database.look() as connection:
        if not database.has_table(connection, "coldmove_migrations"):
            raise ColdmoveError(f"there is no record store yet: {database.name} holds nothing")
        found = [dict(row) for row in connection.exec_driver_sql(_MIGRATIONS).mappings()]
        # A store that was never used by a release that keeps last-known records has none.
        has_seen = database.has_table(connection, "coldmove_servers")
        seen = [dict(row) for row in connection.exec_driver_sql(_SERVERS).mappings()] if has_seen else []
        flags = connection.exec_driver_sql(_NODES).mappings() if database.has_table(connection, "coldmove_nodes") else ()
        fenced = next((json.loads(row["fenced"]) for row in flags if row["host"] == host and row["fenced"]), None)
    words = f"{host} was fenced by {fenced.get('by') or 'unknown'} on {fenced.get('at')}" if fenced else ""
    return whereabouts.answer(host, [{**row, "pending_hosts": json.loads(row["pending_hosts"])} for row in found], seen, words)
