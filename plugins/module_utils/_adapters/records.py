# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The record store: what every migration is, has done and holds. One method per verb of migration_record."""

from __future__ import annotations

import datetime
import json
import typing as t
import uuid as uuids

from .._logic import claims, transitions
from .._logic.errors import ColdmoveError, Superseded
from .record_database import DEFAULT_PATH, HAS_SQLALCHEMY, Database
from .record_rows import Row, decode, encode, iso

_TIMES: t.Final = {"created_at", "updated_at", "owner_since", "heartbeat_at", "at"}
_MIGRATION: t.Final = (
    *("id", "uuid", "server_uuid", "server_name", "migration_type", "status", "source_host", "dest_host", "old_flavor", "new_flavor"),
    *("need", "source_need", "old_power_state", "autostart", "domain_xml", "candidates", "rejected", "as_of", "files", "pending_hosts"),
    *("reason", "started_by", "error", "owner", "owner_since", "epoch", "heartbeat_at", "progress", "bytes_total", "bytes_sent"),
    *("held_bytes", "downtime_seconds", "created_at", "updated_at", "closed_event", "hold"),
)
_EVENT: t.Final = ("id", "migration_uuid", "epoch", "at", "kind", "name", "started_at", "seconds", "detail")

if HAS_SQLALCHEMY:
    import sqlalchemy as sa

    MIGRATIONS: t.Final = sa.table("coldmove_migrations", *(sa.column(name) for name in _MIGRATION))
    EVENTS: t.Final = sa.table("coldmove_events", *(sa.column(name) for name in _EVENT))
    _FENCED: t.Final = sa.table("coldmove_nodes", sa.column("host"), sa.column("fenced"))

# What a transition may set beside the status; everything else was decided when the record was opened.
SETTABLE: t.Final = ("files", "error", "downtime_seconds", "bytes_total", "bytes_sent", "held_bytes", "pending_hosts", "hold")

# The only status in which a precopy can be held for its cutover: whatever follows has begun it, or ended the move.
_HOLDABLE: t.Final = "pre-migrating"

# Ended records whose server is now on another node than facts from before their end say.
_PLACED: t.Final = ("confirmed", "reverted", "done", "completed")


class Change(t.NamedTuple):
    """The record before and after one verb; ``before`` is None for a new one."""

    before: Row | None
    after: Row

    @property
    def changed(self) -> bool:
        """Whether anything but the clock moved."""
        return any(self.differences())

    def differences(self) -> tuple[Row, Row]:
        """The fields that differ, as they were and as they are (for ``--diff``)."""
        before = self.before or {}
        keys = [key for key in self.after if key not in _VOLATILE and before.get(key) != self.after[key]]
        return {key: before[key] for key in keys if key in before}, {key: self.after[key] for key in keys}


_VOLATILE: t.Final = {"updated_at", "last_event", "heartbeat_at", "heartbeat_age_seconds", "progress", "domain_xml"}


class Records:
    """The verbs on one store. Every verb is one transaction."""

    def __init__(self, url: str = "", path: str = DEFAULT_PATH, dry_run: bool = False) -> None:
        self.database = Database(url, path, dry_run)

    # -- verbs ---------------------------------------------------------------------------------------------------------

    def open(self, blockers: t.Sequence[str] | None = None, source_fenced: bool = False, **given: t.Any) -> Change:
        """A new record with its claims, on the first candidate that has room; with no room anywhere it ends at once.

        ``blockers``: what speaks against the move besides, to be told with the reasons of the hosts. ``source_fenced``: only if the source is noted as
        fenced. It cannot be put back into service while the record is open, so its guard starts nothing from before this word until it is cleaned.
        """
        with self.database.write(create=True) as connection:
            now = self.database.now(connection)
            row = _new_row(given, now)
            told_before = self._refuse_second(connection, row)
            if told_before:
                return Change(told_before, told_before)
            if source_fenced:
                self._refuse_unfenced(connection, row)
            held = self._claims(connection, row["as_of"], row["server_uuid"])
            row["dest_host"], without_room = claims.choose({**row, "id": 0}, row["candidates"], held)
            row["rejected"] = [*row["rejected"], *without_room]
            if row["dest_host"] is None:
                # As in Nova: of an evacuation that no node could take nothing is left to be seen to.
                status = "failed" if row["migration_type"] == "evacuation" else "error"
                row.update(status=status, error=_no_valid_host(row, blockers or ()))
            connection.execute(sa.insert(MIGRATIONS).values(encode(row)))
            event = self._event(connection, row, "open", row["status"], now, {"dest_host": row["dest_host"], "owner": row["owner"]})
            if row["status"] in transitions.TERMINAL:
                self._update(connection, row, {"closed_event": event}, now)
            after = self._shown(connection, row["uuid"])
        if self.database.dry_run:
            after.update(id=None, uuid=None)
        if after["error"]:
            raise ColdmoveError(after["error"], migration=after, changed=True)
        return Change(None, after)

    def adopt(self, uuid: str, expected_epoch: int, owner: Row) -> Change:
        """This run takes the record over; the run that had it can write nothing any more."""
        with self.database.write() as connection:
            row, before = self._row(connection, uuid), self._shown(connection, uuid)
            if (row["epoch"], row["owner"]) == (expected_epoch + 1, owner):
                return Change(before, before)  # told before, the answer was lost on its way
            _check_epoch(row, expected_epoch)
            now = self.database.now(connection)
            self._update(connection, row, {"epoch": expected_epoch + 1, "owner": owner, "owner_since": now, "heartbeat_at": now}, None)
            self._event(connection, {**row, "epoch": expected_epoch + 1}, "adopt", row["status"], now, {"from": row["owner"], "to": owner})
            return Change(before, self._shown(connection, uuid))

    def transition(
        self,
        uuid: str,
        epoch: int,
        status: str,
        dest_host: str | None = None,
        phases: t.Sequence[Row] | None = None,
        **given: t.Any,
    ) -> Change:
        """Into ``status`` (compare-and-set) with what is known by then; again with the same is no change."""
        new: Row = {key: value for key, value in given.items() if value is not None and key in SETTABLE}
        if "error" in new:
            new["error"] = new["error"] or None  # an empty one takes back that of an earlier try
        with self.database.write() as connection:
            row, before = self._owned(connection, uuid, epoch)
            now = self.database.now(connection)
            if status != row["status"]:
                transitions.check(row["migration_type"], row["status"], status)
                new["status"] = status
                pending = {**row, **new}["pending_hosts"]
                new["pending_hosts"] = transitions.pending_after(status, row["source_host"], pending)
            if "hold" in new or row["hold"]:
                new["hold"] = _hold(row, status, new.get("hold"), epoch, now)
            if dest_host and dest_host != row["dest_host"]:
                new["dest_host"] = self._other_dest(connection, row, dest_host)
            new = {key: value for key, value in new.items() if value != row[key]}
            if new:
                kind = "transition" if "status" in new else "update"
                event = self._event(connection, row, kind, status, now, {key: value for key, value in new.items() if key != "status"})
                if status in transitions.TERMINAL and row["closed_event"] is None:
                    new["closed_event"] = event
            self._update(connection, row, {**new, "heartbeat_at": now}, now if new else None)
            for phase in phases or ():
                self._phase(connection, row, phase, now)
            return Change(before, self._shown(connection, uuid))

    def close(self, uuid: str, epoch: int, status: str, error: str | None = None, pending_hosts: t.Sequence[str] | None = None) -> Change:
        """Into a terminal status: the claims are gone with it."""
        if status not in transitions.TERMINAL:
            raise ColdmoveError(f"a migration is not closed by status {status}; what closes it is {', '.join(sorted(transitions.TERMINAL))}")
        return self.transition(uuid, epoch, status, error=error, pending_hosts=pending_hosts)

    def phase(self, uuid: str, epoch: int, name: str, started_at: str, seconds: float | None = None, detail: Row | None = None) -> Change:
        """A phase that has begun (no ``seconds``) or ended; the same one again is no change."""
        with self.database.write() as connection:
            row, before = self._owned(connection, uuid, epoch)
            now = self.database.now(connection)
            self._phase(connection, row, {"name": name, "started_at": started_at, "seconds": seconds, "detail": detail}, now)
            self._update(connection, row, {"heartbeat_at": now}, None)
            return Change(before, self._shown(connection, uuid))

    def heartbeat(self, uuid: str, epoch: int, progress: Row | None = None) -> Change:
        """The run that has this record is alive, and this far."""
        with self.database.write() as connection:
            row, before = self._owned(connection, uuid, epoch)
            values = {"heartbeat_at": self.database.now(connection), **({"progress": progress} if progress else {})}
            self._update(connection, row, values, None)
            return Change(before, self._shown(connection, uuid))

    def find(
        self,
        uuid: str = "",
        server: str = "",
        host: str = "",
        status: t.Collection[str] = (),
        active: bool = False,
        latest: bool = False,
        with_definition: bool = False,
        with_events: bool = False,
    ) -> tuple[int, list[Row]]:
        """(as_of, the records that match all filters, oldest first)."""
        conditions = []
        if uuid:
            conditions.append(MIGRATIONS.c.uuid == uuid.lower())
        if server:
            conditions.append(sa.or_(MIGRATIONS.c.server_uuid == server.lower(), MIGRATIONS.c.server_name == server))
        if host:
            pending = MIGRATIONS.c.pending_hosts.contains(json.dumps(host), autoescape=True)
            conditions.append(sa.or_(MIGRATIONS.c.source_host == host, MIGRATIONS.c.dest_host == host, pending))
        if status or active:
            wanted = set(status or transitions.STATUSES) & set(transitions.ACTIVE if active else transitions.STATUSES)
            conditions.append(MIGRATIONS.c.status.in_(sorted(wanted)))
        if latest:
            youngest = sa.select(sa.func.max(MIGRATIONS.c.id)).group_by(MIGRATIONS.c.server_uuid)
            open_or_unclean = sa.or_(MIGRATIONS.c.status.in_(sorted(transitions.ACTIVE)), MIGRATIONS.c.pending_hosts != "[]")
            conditions.append(sa.or_(MIGRATIONS.c.id.in_(youngest), open_or_unclean))
        with self.database.read() as connection:
            # First of all: a record that closes between two statements must be newer than as_of, never older.
            as_of = self._last_event(connection)
            return as_of, self._select(connection, conditions, with_definition, with_events)

    # -- inside a transaction ------------------------------------------------------------------------------------------

    def _refuse_second(self, connection: sa.engine.Connection, row: Row) -> Row | None:
        """Refuse a second migration of the server. What this very run opened just now is returned instead: the answer was lost on its way."""
        for other in self._select(connection, [MIGRATIONS.c.server_uuid == row["server_uuid"]]):
            if other["status"] in transitions.ACTIVE:
                if other["status"] == "accepted" and other["owner"] and (other["owner"], other["epoch"]) == (row["owner"], row["epoch"]):
                    return other
                raise ColdmoveError(
                    f"server {row['server_name']} already has migration {other['id']} ({other['uuid']}), a {other['migration_type']} from"
                    f" {other['source_host']} to {other['dest_host']}: status {other['status']}, started by {other['started_by'] or 'unknown'} on"
                    f" {other['created_at']}, run {_run(other['owner'])}, last heartbeat {other['heartbeat_age_seconds']:.0f} s ago. Nothing was changed."
                    f" What is legal now: ansible-playbook coldmove.libvirt.status -e server={other['server_uuid']}",
                    migration=other,
                )
            if other["status"] in _PLACED and other["closed_event"] > row["as_of"]:
                raise ColdmoveError(
                    f"the facts are older than migration {other['id']} of server {row['server_name']}, which became {other['status']} on"
                    f" {other['updated_at']}: the server may be on another node by now. Nothing was changed; run the playbook again",
                    migration=other,
                )
        return None

    def _refuse_unfenced(self, connection: sa.engine.Connection, row: Row) -> None:
        found = connection.execute(sa.select(_FENCED).where(_FENCED.c.host == row["source_host"])).first()
        if found is None or not found.fenced:
            raise ColdmoveError(
                f"{row['source_host']} is not noted as fenced any more, so it may start server {row['server_name']} itself: somebody has put it back into"
                " service. Nothing was changed; run the same command again if the node is lost all the same"
            )

    def _claims(self, connection: sa.engine.Connection, as_of: int, server_uuid: str) -> list[claims.Claim]:
        """What other servers hold: by active records, and by those that closed after the facts were gathered, which do not know how they ended.

        What this server held by an earlier record, which a killed run left and the next one has just taken back, is not in its own way.
        """
        holding = sa.or_(MIGRATIONS.c.status.in_(sorted(transitions.ACTIVE)), MIGRATIONS.c.closed_event > as_of)
        columns = (MIGRATIONS.c[name] for name in ("id", "server_uuid", "server_name", "source_host", "dest_host", "need", "source_need"))
        rows = connection.execute(sa.select(*columns).where(holding, MIGRATIONS.c.server_uuid != server_uuid).order_by(MIGRATIONS.c.id))
        return [claim for row in rows for claim in claims.of_migration(decode(row))]

    def _other_dest(self, connection: sa.engine.Connection, row: Row, dest_host: str) -> str:
        """Move the claim to an alternate that the record knows since it was opened."""
        if row["status"] not in transitions.DEST_MAY_CHANGE:
            raise ColdmoveError(f"migration {row['id']} is {row['status']}: its dest {row['dest_host']} cannot become {dest_host} any more")
        alternates = [candidate for candidate in row["candidates"] if candidate["host"] == dest_host]
        if not alternates:
            known = ", ".join(candidate["host"] for candidate in row["candidates"]) or "none"
            raise ColdmoveError(f"{dest_host} is no candidate of migration {row['id']}: its candidates are {known}")
        chosen, rejected = claims.choose(row, alternates, self._claims(connection, row["as_of"], row["server_uuid"]))
        if chosen is None:
            reasons = "; ".join(rejected[0]["reasons"])
            raise ColdmoveError(f"{dest_host} has no room for migration {row['id']} any more: {reasons}", rejected=rejected)
        return chosen

    def _row(self, connection: sa.engine.Connection, uuid: str) -> Row:
        found = connection.execute(sa.select(MIGRATIONS).where(MIGRATIONS.c.uuid == uuid.lower())).first()
        if found is None:
            raise ColdmoveError(f"the record store {self.database.name} has no migration {uuid}")
        return decode(found)

    def _owned(self, connection: sa.engine.Connection, uuid: str, epoch: int) -> tuple[Row, Row]:
        """The record, raw and as shown, for the run that owns it; for any other it is out of reach."""
        row = self._row(connection, uuid)
        _check_epoch(row, epoch)
        return row, self._shown(connection, uuid)

    def _update(self, connection: sa.engine.Connection, row: Row, values: Row, now: float | None) -> None:
        same = (MIGRATIONS.c.uuid == row["uuid"], MIGRATIONS.c.status == row["status"], MIGRATIONS.c.epoch == row["epoch"])
        times = {} if now is None else {"updated_at": now}
        if connection.execute(sa.update(MIGRATIONS).where(*same).values(encode({**values, **times}))).rowcount != 1:
            raise Superseded(f"migration {row['id']} is no longer {row['status']} with epoch {row['epoch']}; nothing was changed", superseded=True)

    def _event(self, connection: sa.engine.Connection, row: Row, kind: str, name: str, now: float, detail: Row) -> int:
        event = {"migration_uuid": row["uuid"], "epoch": row["epoch"], "at": now, "kind": kind, "name": name, "detail": detail}
        connection.execute(sa.insert(EVENTS).values(encode(event)))
        return self._last_event(connection)

    def _last_event(self, connection: sa.engine.Connection) -> int:
        return connection.execute(sa.select(sa.func.max(EVENTS.c.id))).scalar() or 0

    def _phase(self, connection: sa.engine.Connection, row: Row, phase: Row, now: float) -> None:
        event = {"started_at": normal_time(phase["started_at"]), "seconds": phase.get("seconds"), "detail": phase.get("detail") or {}}
        same = (
            EVENTS.c.migration_uuid == row["uuid"],
            EVENTS.c.kind == "phase",
            EVENTS.c.name == phase["name"],
            EVENTS.c.started_at == event["started_at"],
        )
        known = connection.execute(sa.select(EVENTS).where(*same)).first()
        if known is None:
            values = {"migration_uuid": row["uuid"], "epoch": row["epoch"], "at": now, "kind": "phase", "name": phase["name"], **event}
            connection.execute(sa.insert(EVENTS).values(encode(values)))
        elif event["seconds"] is not None:
            # What has ended stays ended: a killed step that is told again does not open its phase anew.
            connection.execute(sa.update(EVENTS).where(*same).values(encode({"seconds": event["seconds"], "detail": event["detail"]})))

    def _shown(self, connection: sa.engine.Connection, uuid: str) -> Row:
        return self._select(connection, [MIGRATIONS.c.uuid == uuid.lower()])[0]

    def _select(self, connection: sa.engine.Connection, conditions: t.Sequence[t.Any], with_definition: bool = False, with_events: bool = False) -> list[Row]:
        now = self.database.now(connection)
        columns = (column for column in MIGRATIONS.c if with_definition or column.name != "domain_xml")
        rows = [decode(row) for row in connection.execute(sa.select(*columns).where(*conditions).order_by(MIGRATIONS.c.id))]
        of_rows = sa.select(EVENTS).where(EVENTS.c.migration_uuid.in_(sa.select(MIGRATIONS.c.uuid).where(*conditions)))
        by_migration: dict[str, list[Row]] = {row["uuid"]: [] for row in rows}
        for event in connection.execute(of_rows.order_by(EVENTS.c.id)):
            if event.migration_uuid in by_migration:
                by_migration[event.migration_uuid].append(decode(event))
        return [_show(row, by_migration[row["uuid"]], now, with_definition, with_events) for row in rows]


def _check_epoch(row: Row, epoch: int) -> None:
    if row["epoch"] != epoch:
        raise Superseded(
            f"migration {row['id']} of server {row['server_name']}: superseded by run {_run(row['owner'])}, taken over at {iso(row['owner_since'])}"
            f" (epoch {row['epoch']}, this run has {epoch}). This run must not touch anything any more."
            f" See ansible-playbook coldmove.libvirt.status -e server={row['server_uuid']}",
            superseded=True,
            epoch=row["epoch"],
            owner=row["owner"],
        )


# -- shapes ----------------------------------------------------------------------------------------------------------------


def _new_row(given: t.Mapping[str, t.Any], now: float) -> Row:
    return {
        "uuid": str(uuids.uuid4()),
        "server_uuid": _normal_uuid(given["server_uuid"]),
        "server_name": given["server_name"],
        "migration_type": given["migration_type"],
        "status": "accepted",
        "source_host": given["source_host"],
        "dest_host": None,
        "old_flavor": given.get("old_flavor") or {},
        "new_flavor": given.get("new_flavor") or {},
        "need": claims.amounts(given.get("need")),
        "source_need": _source_need(given),
        "old_power_state": given.get("old_power_state"),
        "autostart": bool(given.get("autostart")),
        "domain_xml": given.get("domain_xml"),
        "candidates": [_normal_candidate(candidate) for candidate in given["candidates"]],
        "rejected": given.get("rejected") or [],
        "as_of": given["as_of"],
        "files": [],
        "pending_hosts": [],
        "reason": given.get("reason"),
        "started_by": given.get("started_by"),
        "error": None,
        "owner": given.get("owner") or {},
        "owner_since": now,
        "epoch": 1,
        "heartbeat_at": now,
        "progress": {},
        "created_at": now,
        "updated_at": now,
        "hold": None,
    }


def _hold(row: Row, status: str, asked: t.Mapping[str, t.Any] | None, epoch: int, now: float) -> Row | None:
    """What a record that becomes, or stays, ``status`` keeps of a held precopy. ``asked``: ``{cutover, options}`` of the run that holds it now."""
    if status != _HOLDABLE:
        if asked:
            raise ColdmoveError(f"migration {row['id']} is {status}: only the precopy of one that is {_HOLDABLE} is held")
        return None
    if not asked:
        return t.cast("Row | None", row["hold"])
    since = (row["hold"] or {}).get("since") or iso(now)
    return {"cutover": str(asked.get("cutover") or "hold"), "since": since, "epoch": epoch, "options": dict(asked.get("options") or {})}


def _source_need(given: t.Mapping[str, t.Any]) -> claims.Amounts:
    """What the way back needs on source: nothing of a dead node, else what the server had there."""
    if given["migration_type"] == "evacuation":
        return claims.amounts(None)
    if given.get("source_need"):
        return claims.amounts(given["source_need"])
    return claims.amounts({**(given.get("need") or {}), **{k: v for k, v in (given.get("old_flavor") or {}).items() if k in ("vcpus", "memory_mb")}})


def _normal_candidate(candidate: t.Mapping[str, t.Any]) -> Row:
    return {
        "host": candidate["host"],
        "capacity": claims.amounts(candidate["capacity"]),
        "used": claims.amounts(candidate["used"]),
        "counted": sorted(_normal_uuid(uuid) for uuid in candidate["counted"]),
    }


def _normal_uuid(value: str) -> str:
    try:
        return str(uuids.UUID(value))
    except ValueError as exc:
        raise ColdmoveError(f"{value!r} is not a UUID") from exc


def _no_valid_host(row: Row, blockers: t.Sequence[str]) -> str:
    reasons = "".join(f"\n  {each['host']}: {'; '.join(each['reasons'])}" for each in row["rejected"]) or "\n  no candidate was given"
    besides = "".join(f"\n  {blocker}" for blocker in blockers)
    return f"no valid host for server {row['server_name']} (it stays on {row['source_host']}, nothing was changed):{reasons}{besides}"


def _show(row: Row, events: t.Sequence[Row], now: float, with_definition: bool, with_events: bool) -> Row:
    """The record as the modules return it: dates in ISO 8601, the definition only for those who ask."""
    held = claims.of_migration(row) if row["status"] in transitions.ACTIVE else []
    shown = {key: iso(value) if key in _TIMES else value for key, value in row.items() if key != "domain_xml"}
    shown["autostart"] = bool(row["autostart"])
    shown["candidates"] = [candidate["host"] for candidate in row["candidates"]]
    shown["claims"] = [{"host": claim.host, **claim.uncounted} for claim in held]
    shown["heartbeat_age_seconds"] = round(max(0.0, now - row["heartbeat_at"]), 1)
    shown["last_event"] = events[-1]["id"] if events else 0
    shown["phases"] = [{key: event[key] for key in ("name", "started_at", "seconds")} for event in events if event["kind"] == "phase"]
    if with_definition:
        shown["domain_xml"] = row["domain_xml"]
    if with_events:
        shown["events"] = [{key: iso(value) if key in _TIMES else value for key, value in event.items()} for event in events]
    return shown


def normal_time(value: str) -> str:
    """A date as ISO 8601 or as seconds since 1970, in the one form the store keeps (UTC when it names no zone)."""
    try:
        return iso(float(value))
    except (ValueError, OverflowError):
        pass
    try:
        parsed = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError as exc:
        raise ColdmoveError(f"{value!r} is no date: it looks like 2026-01-31T12:00:00Z") from exc
    return iso((parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.timezone.utc)).timestamp())


def _run(owner: t.Mapping[str, t.Any]) -> str:
    where = f"pid {owner.get('pid', '?')} on {owner.get('controller', '?')}"
    return f"{where} (AWX job {owner['awx_job_id']})" if owner.get("awx_job_id") else where
