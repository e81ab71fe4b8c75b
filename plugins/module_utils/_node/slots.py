# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""So many transfers leave a node at a time, the others wait in the order in which they came.

A slot is a lock on a file, and so is a place in the queue: whoever is killed has neither any more. A cold copy takes its slot while
the guest still runs: a job of its own, ``slot``, waits for it and holds it until the job ``send`` has ended, so that no guest is off
only to wait for others. A precopy takes it in its own job, as its guest runs anyway, by ``taken_until_in_step()``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

Report = t.Callable[[dict[str, t.Any]], None]
#: A run that has taken a slot and takes no step on this node for so long has been killed, as far as others have to wait for it.
LEASE_SECONDS = 120.0
_POLL_SECONDS = 0.3
STEP = "waiting for a transfer slot"


@contextlib.contextmanager
def taken(limit: int, report: Report, wanted: t.Callable[[], bool] = lambda: True) -> t.Iterator[None]:
    """Hold one of ``limit`` slots of this node; 0 is no limit. ``report`` is told while it has to be waited for.

    Raises ColdmoveError if it is not ``wanted`` any more before there was one.
    """
    if not limit:
        yield
        return
    with _waited_for(limit, report, wanted):
        yield


@contextlib.contextmanager
def taken_until_in_step(limit: int, report: Report) -> t.Iterator[Report]:
    """taken() for a precopy, which says by what this yields how far it is: what its guest writes once both ends are in step keeps nobody waiting."""
    with contextlib.ExitStack() as slot:
        slot.enter_context(taken(limit, report))

        def told(progress: dict[str, t.Any]) -> None:
            report(progress)
            if progress.get("in_step"):
                slot.close()

        yield told


def hold(migration_uuid: str, limit: int, report: Report) -> dict[str, t.Any]:
    """The work of the job ``slot``: wait for one and hold it for the job ``send`` of this migration, for as long as there is a run that wants it."""
    begun = time.time()

    def wanted() -> bool:
        return _is_wanted(Journal(migration_uuid), begun)

    with taken(limit, report, wanted):
        report({"held": True})
        while wanted():
            time.sleep(_POLL_SECONDS)
    return {}


def reserve(journal: Journal, limit: int, seconds: float) -> dict[str, t.Any] | None:
    """Have the job ``slot`` take a slot. None once it is held; after so many ``seconds`` without one the status of the job."""
    job = Job(journal, "slot")
    if job.status()["state"] != "running":
        job.cancel()  # whatever it held, it holds it no more
        job.ensure_started(lambda report: hold(journal.uuid, limit, report))
    deadline = time.monotonic() + seconds
    while True:
        status = job.status()
        if status["state"] != "running":
            raise ColdmoveError(status.get("error") or "the job that waits for a transfer slot is gone without a word")
        if status["progress"].get("held"):
            return None
        if time.monotonic() >= deadline:
            return status
        time.sleep(0.05)


def is_held(journal: Journal) -> bool:
    """Whether the job ``slot`` holds a slot for this migration."""
    status = Job(journal, "slot").status()
    return bool(status["state"] == "running" and status["progress"].get("held"))


def _is_wanted(journal: Journal, since: float) -> bool:
    if journal.data.get("closed"):
        return False
    send = Job(journal, "send").status()
    if send["state"] == "running":
        return True
    if float(send.get("started_at") or 0) > since:
        return False  # it has had it
    return _contact_age(journal.directory) < LEASE_SECONDS or _step_under_way(journal.directory)


def _contact_age(directory: Path) -> float:
    try:
        return time.time() - (directory / "contact").stat().st_mtime
    except FileNotFoundError:
        return LEASE_SECONDS


def _step_under_way(directory: Path) -> bool:
    """Whether a step of the migration holds its lock: a shutdown may take longer than any lease."""
    try:
        with open(directory / "lock", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextlib.contextmanager
def _waited_for(limit: int, report: Report, wanted: t.Callable[[], bool]) -> t.Iterator[None]:
    queue = paths.SLOTS_DIR / "queue"
    queue.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = ""
    with _ticket(queue) as ticket:
        while (slot := _free_slot(limit) if not (before := _before(queue, ticket)) else None) is None:
            if not wanted():
                raise ColdmoveError("nobody waits for this transfer slot any more: the run was killed")
            words = f"{limit} of {limit} taken, {before} before it" if before else f"{limit} of {limit} taken"
            if words != told:
                told = words
                report({"step": STEP, "percent": 0.0, "bytes_done": 0, "bytes_total": 0, "rate": 0, "eta_seconds": None, "waiting": words})
            time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        os.close(slot)


def _free_slot(limit: int) -> int | None:
    """The descriptor of a slot that is ours now, or None."""
    for number in range(limit):
        descriptor = os.open(paths.SLOTS_DIR / str(number), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            os.close(descriptor)
    return None


@contextlib.contextmanager
def _ticket(queue: Path) -> t.Iterator[str]:
    """A place at the end of the queue. Its name says when it was taken, and is not there before its lock is."""
    word = secrets.token_hex(4)
    made = queue / f".{word}"
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        name = f"{time.time_ns():020d}.{word}"
        os.rename(made, queue / name)
        try:
            yield name
        finally:
            (queue / name).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _before(queue: Path, ticket: str) -> int:
    """How many wait that came earlier. The tickets of those that were killed are taken away."""
    found = 0
    for name in sorted(os.listdir(queue)):
        if name.startswith("."):
            continue  # in the making
        if name >= ticket:
            break
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(queue / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                (queue / name).unlink()
            except BlockingIOError:
                found += 1
            finally:
                os.close(descriptor)
    return found
