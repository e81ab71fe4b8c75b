# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record store on real SQLite files, and what only SQLite has: a file, its modes, its absence."""

from __future__ import annotations

import os
import sqlite3
import typing as t
import uuid
from pathlib import Path

import pytest
from contracts.record_store import Place, RecordStoreContract, RecordStoreWalk, opening

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.records import Records
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return {"path": str(tmp_path / "new" / "records.sqlite")}


class TestSQLite(RecordStoreContract):
    """Everything that a store must do."""


@pytest.mark.slow
def test_a_walk_never_double_books(tmp_path: Path) -> None:
    RecordStoreWalk.check(lambda: {"path": str(tmp_path / f"{uuid.uuid4()}.sqlite")}, examples=15)


def test_file_and_directory_are_their_owners_alone(place: Place) -> None:
    old = os.umask(0)
    try:
        Records(**place).open(**opening())
    finally:
        os.umask(old)
    path = Path(place["path"])
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    path.chmod(0o644)
    Records(**place).open(**opening())
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_survives_a_power_loss(place: Place) -> None:
    store = Records(**place)
    store.open(**opening())
    with store.database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL: every commit is on the disk
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 30000


@pytest.mark.parametrize("dry_run", [True, False])
def test_looking_at_a_store_that_does_not_exist_does_not_create_it(place: Place, dry_run: bool) -> None:
    assert Records(**place, dry_run=True).find(active=True) == (0, [])
    assert Records(**place, dry_run=True).open(**opening()).after["dest_host"] == "B"
    with pytest.raises(ColdmoveError, match=r"has no migration|there is no record store"):
        Records(**place, dry_run=dry_run).heartbeat("6695eb01-f6a4-4304-79aa-97f2502e193f", 1)
    assert not Path(place["path"]).parent.exists()


def test_an_empty_file_is_an_empty_store(place: Place) -> None:
    path = Path(place["path"])
    path.parent.mkdir()
    path.touch()
    assert Records(**place, dry_run=True).find() == (0, [])
    assert Records(**place).open(**opening()).after["id"] == 1


def _garbage(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 1000)


def _directory(path: Path) -> None:
    path.mkdir(parents=True)


@pytest.mark.parametrize("spoil", [_garbage, _directory])
def test_what_is_no_store_is_named(place: Place, spoil: t.Callable[[Path], None]) -> None:
    path = Path(place["path"])
    spoil(path)
    for verb in (lambda: Records(**place).open(**opening()), Records(**place, dry_run=True).find):
        with pytest.raises(ColdmoveError, match=rf"the record store {path} cannot be"):
            verb()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://root:s3cret@db/x", "begins with mysql://, but only postgresql"),
        ("records.sqlite s3cret", "is not a database URL"),
        ("postgresql+psycopg://u:s3cret@127.0.0.1:1/x", "cannot be used|has neither psycopg"),
    ],
)
def test_urls_are_checked_and_never_shown_with_their_password(url: str, message: str) -> None:
    with pytest.raises(ColdmoveError, match=message) as refusal:
        Records(url=url).open(**opening())
    assert "s3cret" not in str(refusal.value)


def test_a_store_that_somebody_keeps_locked_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Records(**place)
    store.open(**opening())
    monkeypatch.setattr("ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.record_database.LOCK_TIMEOUT_SECONDS", 0.2)
    hog = sqlite3.connect(place["path"], isolation_level=None)
    hog.execute("BEGIN IMMEDIATE")
    with pytest.raises(ColdmoveError, match="database is locked"):
        Records(**place).open(**opening())
    # Readers go on.
    assert len(Records(**place, dry_run=True).find()[1]) == 1
    hog.close()
