# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What a node writes down of each migration, the lock around every step, and the guard against older runs.

One folder per migration, ``/var/lib/coldmove/moves/MIGRATION_UUID``: ``journal.json`` (facts that must survive a power
loss), ``lock`` (held for every step), ``contact`` (its mtime is the last sign of life of the run), job states.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import typing as t
import uuid as uuidlib
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml, placement
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError, Superseded
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.text import quoted
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths

#: Part of the argument spec of every module that takes part in a migration.
MIGRATION_ARGS: dict[str, t.Any] = {"migration_uuid": {"type": "str"}, "migration_epoch": {"type": "int"}}

#: A step may have to wait for a step of a killed run that is still at work: a graceful shutdown takes a minute.
LOCK_TIMEOUT_SECONDS = 180.0


def write_atomically(path: Path, data: t.Any, durable: bool = True) -> None:
    """Replace ``path`` by the JSON of ``data``: readers see the old or the new content, after a power loss too when ``durable``."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(data, stream, indent=1)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.rename(temporary, path)
        if durable:
            sync_directory(path.parent)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise ColdmoveError(f"cannot write {path}: {exc.strerror}. Make room or mend the file system, then run the same command again") from exc


def sync_directory(path: Path) -> None:
    """Make names that were just created, renamed or removed in ``path`` survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, t.Any]:
    """The JSON object in ``path``; empty if there is no such file. Raises ColdmoveError for a damaged one: it is never taken for an empty one."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as exc:
        raise ColdmoveError(f"{path} is damaged ({exc}): nothing is guessed about what it said. Restore it, or see what the record says") from exc


class Journal:
    """What this node knows of one migration. ``data`` keys: epoch, server_uuid, and what the steps ``note``."""

    def __init__(self, migration_uuid: str) -> None:
        try:
            # The UUID becomes a folder's name: nothing but a UUID gets there.
            name = str(uuidlib.UUID(migration_uuid))
        except ValueError as exc:
            raise ColdmoveError(f"migration_uuid {quoted(migration_uuid)} is not a UUID") from exc
        self.uuid = name
        self.directory = paths.STATE_DIR / "moves" / name
        self.data = read_json(self.directory / "journal.json")

    def note(self, **facts: t.Any) -> None:
        """Remember ``facts`` durably; only then may the act that they announce or report be relied on.

        What others have noted since is kept: a job notes beside the steps of a newer run, whose epoch it must not take back.
        """
        with open(self.directory / "journal.lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.data = {**read_json(self.directory / "journal.json"), **facts}
            write_atomically(self.directory / "journal.json", self.data)

    def enter(self, epoch: int, closed_too: bool = False) -> None:
        """Accept a step of run ``epoch``; raise Superseded if a newer run has been here, or the migration is closed (unless ``closed_too``)."""
        seen = int(self.data.get("epoch", 0))
        if epoch < seen:
            raise Superseded(f"run {epoch} of migration {self.uuid} was taken over by run {seen}: this run stops here and has touched nothing more")
        if self.data.get("closed") and not closed_too:
            raise Superseded(f"migration {self.uuid} is closed on this node: this run stops here and has touched nothing more")
        if epoch > seen:
            self.note(epoch=epoch)
        contact = self.directory / "contact"
        contact.touch()
        os.utime(contact)


def _make_durably(directory: Path) -> None:
    """Make a folder and those above it; what is written into it must not vanish with its name in a power loss."""
    missing = [path for path in (directory, *directory.parents) if not path.is_dir()]
    try:
        for path in reversed(missing):
            path.mkdir(mode=0o700 if path == directory else 0o755, exist_ok=True)
            sync_directory(path.parent)
    except OSError as exc:
        raise ColdmoveError(f"cannot make {directory}: {exc.strerror}. Make room or mend the file system, then run the same command again") from exc


@contextlib.contextmanager
def _locked(directory: Path) -> t.Iterator[None]:
    _make_durably(directory)
    with locked(directory / "lock", "another step of this migration"):
        yield


@contextlib.contextmanager
def locked(path: Path, holder: str) -> t.Iterator[None]:
    """Hold the lock ``path``; ``holder`` says who may have it otherwise."""
    with open(path, "w", encoding="ascii") as lock:
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as exc:
                if time.monotonic() > deadline:
                    raise ColdmoveError(
                        f"{holder} has held {path} for {LOCK_TIMEOUT_SECONDS:.0f} s; "
                        "see which process holds it (fuser), wait for it, and run the same command again"
                    ) from exc
                time.sleep(0.05)
        yield


@contextlib.contextmanager
def step(params: t.Mapping[str, t.Any], check_mode: bool = False, closed_too: bool = False) -> t.Iterator[Journal | None]:
    """Hold the migration's lock on this node for one step of the run that ``params`` names; ``closed_too`` for a step that only looks.

    Yields the journal, or None if ``params`` names no migration (a module used on its own) or in check mode.
    Raises Superseded if a newer run has taken over.
    """
    if check_mode or not params.get("migration_uuid"):
        yield None
        return
    if params.get("migration_epoch") is None:
        raise ColdmoveError("migration_uuid needs migration_epoch, the number of the run that migration_record returned")
    # The folder only; what it says is read under the lock.
    directory = Journal(params["migration_uuid"]).directory
    with _locked(directory):
        journal = Journal(params["migration_uuid"])
        journal.enter(params["migration_epoch"], closed_too)
        yield journal


def summaries() -> list[dict[str, t.Any]]:
    """What this node keeps of open migrations, for ``virt_node_info``: migration_uuid, server_uuid, epoch, contact_age_seconds, job, reserved."""
    result = []
    for file in sorted((paths.STATE_DIR / "moves").glob("*/journal.json")):
        try:
            data = read_json(file)
            reserved = _reserved(data)
        except ColdmoveError:
            data, reserved = {}, []  # one damaged journal must not silence the whole node; a step of that migration says what is wrong
        if data.get("closed"):
            continue
        contact = file.with_name("contact")
        age = max(0.0, time.time() - contact.stat().st_mtime) if contact.exists() else None
        result.append(
            {
                "migration_uuid": file.parent.name,
                "server_uuid": data.get("server_uuid"),
                "epoch": data.get("epoch", 0),
                "contact_age_seconds": age,
                "job": data.get("job"),
                "reserved": reserved,
            }
        )
    return result


def _reserved(data: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """CPUs and memory of this node that an open migration keeps: those of the held copy, and those chosen for the server that comes."""
    found = []
    if data.get("definition"):
        found.append(domain_xml.kept(data["definition"]))
    if data.get("placement"):
        found.append(placement.kept(data["placement"]))
    return found
