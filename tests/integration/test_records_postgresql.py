# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record store on PostgreSQL: a private server in a directory of its own, reached by a socket only."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
from contracts.known_servers import KnownServersContract
from contracts.record_store import Place, RecordStoreContract, RecordStoreWalk, opening

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.record_database import _postgresql_driver
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.records import Records
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError


def _programs() -> Path | None:
    """Distributions keep initdb off the PATH."""
    found = shutil.which("initdb")
    return Path(found).parent if found else max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


def _account() -> dict[str, t.Any]:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    names = [name for name in ("postgres", "nobody") if any(entry.pw_name == name for entry in pwd.getpwall())]
    entry = pwd.getpwnam(names[0])
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def server() -> t.Iterator[str]:
    """The socket directory of a server that lives as long as the tests."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed here")
    account = _account()
    # Under /tmp: the account must be able to go there, and the path of a socket is short.
    directory = Path(tempfile.mkdtemp(prefix="coldmove-pg-", dir="/tmp"))
    if account:
        os.chown(directory, account["user"], account["group"])
    data = directory / "data"
    initdb = [programs / "initdb", "--pgdata", data, "--username", "coldmove", "--auth", "trust", "--encoding", "UTF8", "--locale", "C"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=directory, **account)
    # It must not outlive the tests, however they end.
    command = ["setpriv", "--pdeathsig", "INT", programs / "postgres", "-D", data, "-k", directory, "-c", "listen_addresses=", "-c", "max_connections=100"]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, **account)
    try:
        _wait(process, directory)
        yield str(directory)
    finally:
        process.send_signal(signal.SIGINT)  # "fast shutdown": clients are not waited for
        process.wait(timeout=60)
        shutil.rmtree(directory)


def _wait(process: subprocess.Popen[bytes], directory: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with _engine(str(directory), "postgres").connect():
                return
        except sa.exc.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((directory / "log").read_text()) from None
            time.sleep(0.1)


def _engine(directory: str, database: str) -> sa.engine.Engine:
    return sa.create_engine(_url(directory, database, _postgresql_driver()), poolclass=sa.pool.NullPool, isolation_level="AUTOCOMMIT")


def _url(directory: str, database: str, driver: str = "postgresql+psycopg") -> str:
    return f"{driver}://coldmove@/{database}?host={directory}"


_numbers = itertools.count()


def _new_place(server: str) -> Place:
    name = f"store{next(_numbers)}"
    with _engine(server, "postgres").connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    return {"url": _url(server, name)}


def _database(place: Place) -> str:
    return str(sa.engine.make_url(place["url"]).database)


@pytest.fixture
def place(server: str) -> Place:
    return _new_place(server)


class TestPostgreSQL(RecordStoreContract):
    """Everything that a store must do."""


class TestKnownServersOnPostgreSQL(KnownServersContract):
    """And what it must do with servers and nodes."""


@pytest.mark.slow
def test_a_walk_never_double_books(server: str) -> None:
    RecordStoreWalk.check(lambda: _new_place(server), examples=8)


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_any_installed_driver_serves_the_url(server: str, place: Place, driver: str) -> None:
    assert Records(url=_url(server, _database(place), driver)).open(**opening()).after["dest_host"] == "B"


def test_a_database_default_does_not_weaken_the_claims(server: str, place: Place) -> None:
    """Under REPEATABLE READ a writer would see the store as it was before it got the lock."""
    with _engine(server, "postgres").connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {_database(place)} SET default_transaction_isolation = 'repeatable read'")
    store = Records(**place)
    with store.database.write(create=True) as connection:
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar_one() == "read committed"


def test_looking_at_an_empty_database_creates_nothing(server: str, place: Place) -> None:
    assert Records(**place, dry_run=True).find() == (0, [])
    assert Records(**place, dry_run=True).open(**opening()).after["dest_host"] == "B"
    with Records(**place).database._engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []


def test_a_store_that_somebody_keeps_locked_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Records(**place)
    monkeypatch.setattr("ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.record_database.LOCK_TIMEOUT_SECONDS", 1)
    with store.database.write(create=True), pytest.raises(ColdmoveError, match="lock timeout"):
        Records(**place).open(**opening())
