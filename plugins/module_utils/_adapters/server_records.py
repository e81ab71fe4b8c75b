# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The last-known record of each server: what is needed to bring it up elsewhere when its node is gone.

What was seen on a node is older than the moment in which it is written here. So a server that a verb is at work on, or that was
moved since, is left as it is: the verb itself writes what became of it at its end.
"""

from __future__ import annotations

import hashlib
import json
import typing as t

from .._logic import storage as storage_rules
from .._logic import transitions
from .._logic.kept_definition import definition_problem
from .record_database import DEFAULT_PATH, HAS_SQLALCHEMY, Database
from .record_rows import Row, decode, encode, iso

#: What a node tells of a server (module virt_server_snapshot). The last three can hold secrets, or are large.
OPEN_TO_ALL: t.Final = ("server_uuid", "name", "state", "autostart", "flavor", "facts")
DEFINITION: t.Final = ("xml", "nvram", "config_drives")

if HAS_SQLALCHEMY:
    import sqlalchemy as sa

    from .records import EVENTS, MIGRATIONS

    SERVERS: t.Final = sa.table("coldmove_servers", *(sa.column(name) for name in (*OPEN_TO_ALL, *DEFINITION, "host", "seen_at")))
    STORAGE: t.Final = sa.table("coldmove_storage", *(sa.column(name) for name in ("host", "directory", "identity", "seen_by", "seen_at")))


class Saved(t.NamedTuple):
    """The records that were written, before and after; and why others were left alone, by UUID."""

    before: Row
    after: Row
    left: dict[str, str]

    @property
    def changed(self) -> bool:
        """Whether more than the date is new."""
        return self.before != self.after


class ServerRecords:
    """What is known of servers, in one store. Every verb is one transaction."""

    def __init__(self, url: str = "", path: str = DEFAULT_PATH, dry_run: bool = False) -> None:
        self.database = Database(url, path, dry_run)
        # Looks never create a store, nor bring it up to date.
        self._looked_at = Database(url, path, dry_run=True)

    def save(self, host: str, servers: t.Sequence[Row], storage: t.Mapping[str, Row] | None = None, as_of: int | None = None) -> Saved:
        """``servers`` are on ``host`` now. ``storage``: all directories of the node, with their identity; None leaves them as they are.

        ``as_of``: the last event of the store before they were looked at.
        """
        with self.database.write(create=True) as connection:
            now = self.database.now(connection)
            busy = self._busy(connection, as_of)
            left = {server["server_uuid"]: busy[server["server_uuid"]] for server in servers if server["server_uuid"] in busy}
            before, after = {}, {}
            for server in servers:
                uuid = server["server_uuid"]
                if uuid in left:
                    continue
                row = {**{name: server.get(name) for name in (*OPEN_TO_ALL, *DEFINITION)}, "host": host}
                known = connection.execute(sa.select(SERVERS).where(SERVERS.c.server_uuid == uuid)).first()
                before[uuid], after[uuid] = (_told(decode(known)) if known else {}), _told(row)
                if known:
                    connection.execute(sa.update(SERVERS).where(SERVERS.c.server_uuid == uuid).values(encode({**row, "seen_at": now})))
                else:
                    connection.execute(sa.insert(SERVERS).values(encode({**row, "seen_at": now})))
            if storage is not None:
                before["storage"] = self._storage(connection).get(host, {})
                self._replace_storage(connection, host, storage, now)
                after["storage"] = self._storage(connection).get(host, {})
        return Saved(before, after, left)

    def forget(self, uuids: t.Collection[str], as_of: int | None = None) -> Saved:
        """Servers that are nowhere any more; unless a verb is at work on them, or moved them since."""
        if not any(server["server_uuid"] in uuids for server in self.find()):
            return Saved({}, {}, {})
        with self.database.write() as connection:
            busy = self._busy(connection, as_of)
            rows = [decode(row) for row in connection.execute(sa.select(SERVERS)) if row.server_uuid in uuids]
            gone = [row for row in rows if row["server_uuid"] not in busy]
            for row in gone:
                connection.execute(sa.delete(SERVERS).where(SERVERS.c.server_uuid == row["server_uuid"]))
        left = {row["server_uuid"]: busy[row["server_uuid"]] for row in rows if row["server_uuid"] in busy}
        return Saved({row["server_uuid"]: _told(row) for row in gone}, {}, left)

    def find(self, server: str = "", host: str = "", with_definition: bool = False, check_definition: bool = False) -> list[Row]:
        """The records that match all filters, by name; their ``storage`` is what is known of the directories that they use.

        ``check_definition``: ``unreadable`` says why a server could not be brought up by what was kept of it. That takes reading all of it.
        """
        conditions = []
        if server:
            conditions.append(sa.or_(SERVERS.c.server_uuid == server.lower(), SERVERS.c.name == server))
        if host:
            conditions.append(SERVERS.c.host == host)
        columns = [column for column in SERVERS.c if with_definition or check_definition or column.name not in DEFINITION]
        with self._looked_at.read() as connection:
            now, storage = self._looked_at.now(connection), self._storage(connection)
            found = connection.execute(sa.select(*columns).where(*conditions).order_by(SERVERS.c.name, SERVERS.c.server_uuid))
            rows = [_show(decode(row), storage, now) for row in found]
        if check_definition:
            rows = [{**row, "unreadable": definition_problem(row)} for row in rows]
        return rows if with_definition else [{name: value for name, value in row.items() if name not in DEFINITION} for row in rows]

    def storage(self) -> dict[str, dict[str, Row]]:
        """What is known of the nodes' directories: by node, then by directory, ``identity`` and ``seen_by``."""
        with self._looked_at.read() as connection:
            return self._storage(connection)

    # -- inside a transaction ------------------------------------------------------------------------------------------

    def _busy(self, connection: sa.engine.Connection, as_of: int | None) -> dict[str, str]:
        """Servers whose record is their verb's to write, by UUID, with the reason."""
        newer = sa.select(EVENTS.c.migration_uuid).where(EVENTS.c.id > as_of, EVENTS.c.kind.in_(("open", "transition"))) if as_of is not None else None
        at_work = MIGRATIONS.c.status.in_(sorted(transitions.UNDER_WAY))
        columns = (MIGRATIONS.c[name] for name in ("id", "server_uuid", "status"))
        moved = sa.or_(at_work, MIGRATIONS.c.uuid.in_(newer)) if newer is not None else at_work
        found = connection.execute(sa.select(*columns).where(moved).order_by(MIGRATIONS.c.id))
        return {row.server_uuid: f"migration {row.id} {'is' if row.status in transitions.UNDER_WAY else 'became'} {row.status}" for row in found}

    def _storage(self, connection: sa.engine.Connection) -> dict[str, dict[str, Row]]:
        found: dict[str, dict[str, Row]] = {}
        for row in map(decode, connection.execute(sa.select(STORAGE).order_by(STORAGE.c.directory))):
            found.setdefault(row["host"], {})[row["directory"]] = {"identity": row["identity"], "seen_by": row["seen_by"]}
        return found

    def _replace_storage(self, connection: sa.engine.Connection, host: str, storage: t.Mapping[str, Row], now: float) -> None:
        connection.execute(sa.delete(STORAGE).where(STORAGE.c.host == host))
        for directory, known in storage.items():
            row = {"host": host, "directory": directory, "identity": known["identity"], "seen_by": sorted(known["seen_by"]), "seen_at": now}
            connection.execute(sa.insert(STORAGE).values(encode(row)))


def _show(row: Row, storage: t.Mapping[str, t.Mapping[str, Row]], now: float) -> Row:
    known = storage.get(row["host"], {})
    return {
        **row,
        "autostart": bool(row["autostart"]),
        "storage": {directory: known[directory] for directory in storage_rules.directories(row["facts"]) if directory in known},
        "seen_at": iso(row["seen_at"]),
        "age_seconds": round(max(0.0, now - row["seen_at"]), 1),
    }


def _told(row: Row) -> Row:
    """A record for ``--diff``: what may hold secrets, and what is long, as a digest."""
    short = {name: row[name] for name in ("name", "host", "state")}
    return {**short, "autostart": bool(row["autostart"]), **{name: _digest(row[name]) for name in ("flavor", "facts", *DEFINITION)}}


def _digest(value: t.Any) -> str | None:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16] if value else None
