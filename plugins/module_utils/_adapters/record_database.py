# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The database under the record store: connection, schema and its versions, and the one kind of transaction.

Every writing transaction takes the one lock of the whole store first. So writers are serial, event ids are in the
order of the commits, and a claim sees every claim before it. Transactions are a few milliseconds long.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sqlite3
import time
import traceback
import typing as t

from .._logic.errors import ColdmoveError

try:
    import sqlalchemy as sa
except ImportError:
    HAS_SQLALCHEMY = False
    SQLALCHEMY_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    HAS_SQLALCHEMY = True
    SQLALCHEMY_IMPORT_ERROR = None

DEFAULT_PATH: t.Final = "/var/lib/coldmove/records.sqlite"
LOCK_TIMEOUT_SECONDS: t.Final = 30
CONNECT_TIMEOUT_SECONDS: t.Final = 10
# An arbitrary constant ("coldmove" as ASCII): the key of the store's lock among a PostgreSQL database's advisory locks.
_ADVISORY_LOCK: t.Final = 0x636F6C646D6F7665

_SERIAL: t.Final = {"sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT", "postgresql": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"}

_VERSION_1: t.Final = (
    """
    CREATE TABLE coldmove_migrations (
        id {serial},
        uuid TEXT NOT NULL UNIQUE,
        server_uuid TEXT NOT NULL,
        server_name TEXT NOT NULL,
        migration_type TEXT NOT NULL CHECK (migration_type IN ('migration', 'resize', 'evacuation')),
        status TEXT NOT NULL CHECK (status IN ('accepted', 'pre-migrating', 'migrating', 'post-migrating', 'finished', 'confirming',
            'confirmed', 'reverting', 'reverted', 'error', 'failed', 'done', 'completed')),
        source_host TEXT NOT NULL,
        dest_host TEXT,
        old_flavor TEXT,
        new_flavor TEXT,
        need TEXT NOT NULL,
        source_need TEXT NOT NULL,
        old_power_state TEXT,
        autostart BOOLEAN NOT NULL,
        domain_xml TEXT,
        candidates TEXT NOT NULL,
        rejected TEXT NOT NULL,
        as_of BIGINT NOT NULL,
        files TEXT NOT NULL,
        pending_hosts TEXT NOT NULL,
        reason TEXT,
        started_by TEXT,
        error TEXT,
        owner TEXT NOT NULL,
        owner_since DOUBLE PRECISION NOT NULL,
        epoch BIGINT NOT NULL,
        heartbeat_at DOUBLE PRECISION NOT NULL,
        progress TEXT NOT NULL,
        bytes_total BIGINT,
        bytes_sent BIGINT,
        held_bytes BIGINT,
        downtime_seconds DOUBLE PRECISION,
        created_at DOUBLE PRECISION NOT NULL,
        updated_at DOUBLE PRECISION NOT NULL,
        closed_event BIGINT
    )
    """,
    """
    CREATE UNIQUE INDEX coldmove_one_active_per_server ON coldmove_migrations (server_uuid)
        WHERE status IN ('accepted', 'pre-migrating', 'migrating', 'post-migrating', 'finished', 'confirming', 'reverting')
    """,
    "CREATE INDEX coldmove_of_server ON coldmove_migrations (server_uuid)",
    "CREATE INDEX coldmove_closed ON coldmove_migrations (closed_event)",
    """
    CREATE TABLE coldmove_events (
        id {serial},
        migration_uuid TEXT NOT NULL REFERENCES coldmove_migrations (uuid),
        epoch BIGINT NOT NULL,
        at DOUBLE PRECISION NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('open', 'adopt', 'transition', 'update', 'phase')),
        name TEXT NOT NULL,
        started_at TEXT,
        seconds DOUBLE PRECISION,
        detail TEXT NOT NULL
    )
    """,
    "CREATE INDEX coldmove_events_of_migration ON coldmove_events (migration_uuid)",
    "CREATE UNIQUE INDEX coldmove_one_event_per_phase ON coldmove_events (migration_uuid, name, started_at) WHERE kind = 'phase'",
)

_VERSION_2: t.Final = (
    """
    CREATE TABLE coldmove_servers (
        server_uuid TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        host TEXT NOT NULL,
        state TEXT NOT NULL,
        autostart BOOLEAN NOT NULL,
        facts TEXT NOT NULL,
        xml TEXT NOT NULL,
        flavor TEXT,
        nvram TEXT,
        config_drives TEXT NOT NULL,
        seen_at DOUBLE PRECISION NOT NULL
    )
    """,
    "CREATE INDEX coldmove_servers_of_host ON coldmove_servers (host)",
    """
    CREATE TABLE coldmove_storage (
        host TEXT NOT NULL,
        directory TEXT NOT NULL,
        identity TEXT NOT NULL,
        seen_by TEXT NOT NULL,
        seen_at DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (host, directory)
    )
    """,
    "CREATE TABLE coldmove_nodes (host TEXT PRIMARY KEY, disabled TEXT, forced_down TEXT, fenced TEXT, drained TEXT)",
)

_VERSION_3: t.Final = ("ALTER TABLE coldmove_migrations ADD COLUMN hold TEXT",)

# Step n brings a store from version n - 1 to n. A published step is never edited: a change of the schema is a new step.
UPGRADES: tuple[tuple[str, ...], ...] = (_VERSION_1, _VERSION_2, _VERSION_3)

#: Part of the argument spec of every module that works on the store; documented in plugins/doc_fragments/_records.py.
ARGUMENT_SPEC: t.Final[dict[str, dict[str, t.Any]]] = {
    # A URL may hold a password.
    "url": {"type": "str", "default": "", "no_log": True},
    "path": {"type": "path", "default": DEFAULT_PATH},
}


def _importable(*names: str) -> bool:
    try:
        for name in names:
            importlib.import_module(name)
    except ImportError:
        return False
    return True


def _postgresql_driver() -> str:
    """psycopg 3 where SQLAlchemy (2.0 and newer) and the machine have it, else psycopg2: they speak the same protocol."""
    if _importable("psycopg", "sqlalchemy.dialects.postgresql.psycopg"):
        return "postgresql+psycopg"
    if _importable("psycopg2"):
        return "postgresql+psycopg2"
    raise ColdmoveError(
        "the record store is a PostgreSQL database, but Python here has neither psycopg (with SQLAlchemy 2.0 or newer) nor psycopg2;"
        " install one of them on the records host (Debian: python3-psycopg2, Fedora/RHEL: python3-psycopg2)"
    )


def _write_ahead(connection: sqlite3.Connection) -> None:
    """WAL: readers never wait. The switch is made once in a store's life, and SQLite does not wait its turn for it."""
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Database:
    """One record store. ``dry_run``: every transaction is rolled back at its end, and nothing is created."""

    def __init__(self, url: str = "", path: str = DEFAULT_PATH, dry_run: bool = False) -> None:
        self.dry_run = dry_run
        self._path = None if url else os.path.abspath(os.path.expanduser(path or DEFAULT_PATH))
        self.name = self._path or ""
        try:
            self._engine = self._sqlite_engine() if self._path else self._postgresql_engine(url)
        except sa.exc.ArgumentError as exc:
            # The message of SQLAlchemy shows the URL, and a URL may hold a password.
            raise ColdmoveError("record_store_url is not a database URL; it looks like postgresql+psycopg://USER@HOST/DATABASE") from exc

    def _postgresql_engine(self, url: str) -> sa.engine.Engine:
        parsed = sa.engine.make_url(url)
        if parsed.drivername not in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
            raise ColdmoveError(f"record_store_url begins with {parsed.drivername}://, but only postgresql+psycopg:// is supported (empty: an SQLite file)")
        parsed = parsed.set(drivername=_postgresql_driver())
        self.name = parsed.render_as_string(hide_password=True)
        return sa.create_engine(
            parsed,
            future=True,
            poolclass=sa.pool.NullPool,
            # Every statement after the lock must see what was committed before it, whatever the database's default is.
            isolation_level="READ COMMITTED",
            connect_args={"connect_timeout": CONNECT_TIMEOUT_SECONDS},
        )

    def _sqlite_engine(self) -> sa.engine.Engine:
        return sa.create_engine("sqlite://", future=True, poolclass=sa.pool.NullPool, creator=self._sqlite_connect)

    def _sqlite_connect(self) -> sqlite3.Connection:
        # A store that does not exist yet is an empty one: a dry run looks at an empty one in memory.
        absent = self.dry_run and not os.path.exists(self.name)
        connection = sqlite3.connect(":memory:" if absent else self.name, timeout=LOCK_TIMEOUT_SECONDS)
        connection.isolation_level = None  # BEGIN is ours, see write() and read()
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        if not self.dry_run:
            _write_ahead(connection)
        return connection

    def _prepare_file(self, create: bool) -> None:
        """Definitions can hold secrets, so file and directory are their owner's alone from the first moment."""
        if self._path is None or self.dry_run:
            return
        if not create and not os.path.exists(self._path):
            raise ColdmoveError(f"there is no record store {self._path}: nothing was ever written to it. Nothing was changed")
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            if os.stat(self._path).st_mode & 0o077:
                os.chmod(self._path, 0o600)
        except OSError as exc:
            raise ColdmoveError(f"the record store {self._path} cannot be created or opened: {exc.strerror}; nothing was changed") from exc

    @property
    def _sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def write(self, create: bool = False) -> t.Iterator[sa.engine.Connection]:
        """A transaction alone in the store, with the schema up to date; committed at its end (a dry run: rolled back).

        ``create``: a store that does not exist is made; only a first record may do that.
        """
        self._prepare_file(create)
        with self._errors(), self._engine.connect() as connection:
            if self._sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
                # A controller that vanished in mid-transaction must not keep the lock.
                connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '60s'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            self._upgrade(connection)
            yield connection
            if self.dry_run:
                connection.rollback()
            else:
                connection.commit()

    def read(self) -> contextlib.AbstractContextManager[sa.engine.Connection]:
        """A transaction that changes nothing; the store must be a dry run's.

        A store that is absent or older than this code is looked at as it would be after the upgrade.
        """
        with self.look() as connection:
            current = self._version(connection) == len(UPGRADES)
        return self.look() if current else self.write()

    @contextlib.contextmanager
    def look(self) -> t.Iterator[sa.engine.Connection]:
        """A transaction that changes nothing, on the store as it is, whatever its version; the store must be a dry run's."""
        with self._errors(), self._engine.connect() as connection:
            if self._sqlite:
                connection.exec_driver_sql("BEGIN")
            yield connection

    def has_table(self, connection: sa.engine.Connection, name: str) -> bool:
        """Whether the store, as it is, has this table."""
        return bool(sa.inspect(connection).has_table(name))

    def _version(self, connection: sa.engine.Connection) -> int:
        if not self.has_table(connection, "coldmove_schema"):
            return 0
        version = int(connection.exec_driver_sql("SELECT version FROM coldmove_schema").scalar_one())
        if version > len(UPGRADES):
            raise ColdmoveError(
                f"the record store {self.name} has schema version {version}, this release of coldmove.libvirt knows {len(UPGRADES)};"
                " nothing was changed. Upgrade the collection on this controller to the newest release that uses this store"
            )
        return version

    def _upgrade(self, connection: sa.engine.Connection) -> None:
        version = self._version(connection)
        if version == len(UPGRADES):
            return
        if version == 0:
            connection.exec_driver_sql("CREATE TABLE coldmove_schema (version INTEGER NOT NULL)")
            connection.exec_driver_sql("INSERT INTO coldmove_schema (version) VALUES (0)")
        for step in UPGRADES[version:]:
            for statement in step:
                connection.exec_driver_sql(statement.format(serial=_SERIAL[self._engine.dialect.name]))
        connection.exec_driver_sql(f"UPDATE coldmove_schema SET version = {len(UPGRADES)}")

    @contextlib.contextmanager
    def _errors(self) -> t.Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as exc:
            cause = str(getattr(exc, "orig", None) or exc).strip()
            raise ColdmoveError(f"the record store {self.name} cannot be used: {cause}. This step may be run again, its transaction is all or nothing") from exc

    def now(self, connection: sa.engine.Connection) -> float:
        """The store's own clock: of PostgreSQL's host, so that controllers need not agree on the time."""
        if self._sqlite:
            return time.time()
        return float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
