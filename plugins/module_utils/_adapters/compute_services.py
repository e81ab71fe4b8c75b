# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Whether compute nodes are in service, and why not: their flags in the record store."""

from __future__ import annotations

import typing as t

from .._logic import services
from .._logic.errors import ColdmoveError
from .record_database import DEFAULT_PATH, HAS_SQLALCHEMY, Database
from .record_rows import Row, decode, encode, iso
from .records import Change

if HAS_SQLALCHEMY:
    import sqlalchemy as sa

    from .records import MIGRATIONS

    NODES: t.Final = sa.table("coldmove_nodes", *(sa.column(name) for name in ("host", *services.FLAGS)))


class ComputeServices:
    """The flags of the nodes, in one store. Every verb is one transaction."""

    def __init__(self, url: str = "", path: str = DEFAULT_PATH, dry_run: bool = False) -> None:
        self.database = Database(url, path, dry_run)
        # Looks never create a store, nor bring it up to date.
        self._looked_at = Database(url, path, dry_run=True)

    def get(self, host: str = "") -> dict[str, Row]:
        """The flags of each node of which the store knows any, by its name; or of ``host`` alone."""
        with self._looked_at.read() as connection:
            found = {row.host: self._flags(row) for row in connection.execute(sa.select(NODES).order_by(NODES.c.host))}
        return {host: found.get(host, self._flags(None))} if host else found

    def set(self, host: str, **flags: Row | None) -> Change:
        """Set the flags that are given, or take them back (None). The same word again keeps its date."""
        if not any(flags.values()) and not any(self.get(host)[host].values()):
            return self._change(host, {}, {})  # a store that does not exist is not made for that
        with self.database.write(create=True) as connection:
            return self._write(connection, host, flags)

    def enable(self, host: str) -> Change:
        """Take all flags back; refused while the node may still have copies of servers that were evacuated."""
        if not any(self.get(host)[host].values()):
            return self._change(host, {}, {})
        with self.database.write() as connection:
            held = services.still_holds(host, [decode(row) for row in connection.execute(sa.select(MIGRATIONS).order_by(MIGRATIONS.c.id))])
            if held:
                raise ColdmoveError(services.refusal(host, held), service={"host": host, **self._known(connection, host)})
            return self._write(connection, host, dict.fromkeys(services.FLAGS))

    # -- inside a transaction ------------------------------------------------------------------------------------------

    def _write(self, connection: sa.engine.Connection, host: str, flags: t.Mapping[str, Row | None]) -> Change:
        now = iso(self.database.now(connection))
        before = self._known(connection, host)
        after = {**before, **{name: _dated(flag, before[name], now) for name, flag in flags.items()}}
        if after != before:
            connection.execute(sa.delete(NODES).where(NODES.c.host == host))
            connection.execute(sa.insert(NODES).values(encode({"host": host, **after})))
        return self._change(host, before, after)

    def _known(self, connection: sa.engine.Connection, host: str) -> Row:
        return self._flags(connection.execute(sa.select(NODES).where(NODES.c.host == host)).first())

    @staticmethod
    def _flags(row: t.Any) -> Row:
        known = decode(row) if row else {}
        return {name: known.get(name) for name in services.FLAGS}

    @staticmethod
    def _change(host: str, before: Row, after: Row) -> Change:
        none: Row = dict.fromkeys(services.FLAGS)
        return Change({"host": host, **none, **before}, {"host": host, **none, **after})


def _dated(flag: Row | None, known: Row | None, now: str) -> Row | None:
    """A flag with its date; one that is set already in the same words is the known one."""
    if flag is None:
        return None
    same = known is not None and {**known, "at": None} == {**flag, "at": None}
    return known if same else {**flag, "at": flag.get("at") or now}
