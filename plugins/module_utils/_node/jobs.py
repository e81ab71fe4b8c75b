# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Long work that belongs to the node: a detached process that outlives the ssh session and the controller.

A job is known by its name within its migration. Its state lies in ``NAME.json`` beside the journal; the process holds a
lock on ``NAME.lock`` for as long as it lives, so that "is it alive?" is answered by the kernel and not by a pid that may
have been given to somebody else. (Ansible's own ``async`` was not used: its job is lost with the controller, and its time
limit is a total one.)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
import traceback
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, read_json, write_atomically

#: A job that is cancelled has so long to clean up: the guest may be off meanwhile.
GRACE_SECONDS = 2.0

Work = t.Callable[[t.Callable[[dict[str, t.Any]], None]], dict[str, t.Any]]


class Job:
    """One job of one migration: ``state()`` is absent, running, done, failed or died."""

    def __init__(self, journal: Journal, name: str) -> None:
        self.name = name
        self._file = journal.directory / f"{name}.json"
        self._lock = journal.directory / f"{name}.lock"
        self._log = journal.directory / f"{name}.log"

    def status(self) -> dict[str, t.Any]:
        """``{name, state, progress, result, error, pid}`` as things stand now."""
        data = self._read()
        if not data:
            return {"name": self.name, "state": "absent"}
        if data["state"] == "running" and not self._alive():
            # It may have written its result between the two looks.
            data = self._read() or data
            if data["state"] == "running":
                data["state"] = "died"
        return data

    def _read(self) -> dict[str, t.Any]:
        try:
            return read_json(self._file)
        except ColdmoveError as exc:
            # Progress is not written durably: a power loss may leave an empty file, and no process.
            return {"name": self.name, "state": "died", "error": str(exc), "progress": {}, "pid": 0}

    def ensure_started(self, work: Work) -> None:
        """Start ``work`` unless it is running or done. A failed or dead job is started anew. The caller holds the migration's lock."""
        if self.status()["state"] not in ("running", "done"):
            self._spawn(work)

    def wait(self, seconds: float, enough: t.Callable[[], bool] = lambda: False) -> dict[str, t.Any]:
        """Wait at most ``seconds`` for the end of the job, or until it is ``enough``; its status then."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status()
            if status["state"] != "running" or time.monotonic() >= deadline or enough():
                return status
            time.sleep(0.05)

    def cancel(self, timeout: float = 30.0) -> bool:
        """End the job's process and its children; True if there was something to end. Forgets its state.

        It is asked first, so that it cleans up behind itself and then ends its group; after GRACE_SECONDS the group is killed.
        """
        status = self.status()
        running = bool(status["state"] == "running")
        if running:
            pid = int(status["pid"])
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            begun = time.monotonic()
            while self._alive():
                if time.monotonic() - begun > timeout:
                    raise ColdmoveError(f"process {pid} (job {self.name}) does not end after SIGKILL: it hangs in the kernel, look at its storage")
                if time.monotonic() - begun > GRACE_SECONDS:
                    # The worker leads a session of its own: its whole group goes, and nothing else, for the lock says that it is there.
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
                time.sleep(0.02)
        self._file.unlink(missing_ok=True)
        return running

    def _alive(self) -> bool:
        try:
            with open(self._lock, encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _spawn(self, work: Work) -> None:
        ready, started = os.pipe()
        child = os.fork()
        if child:
            os.close(started)
            os.waitpid(child, 0)
            alive = os.read(ready, 1)
            os.close(ready)
            if not alive:
                raise ColdmoveError(f"job {self.name} did not start; see {self._log}")
            return
        try:
            os.setsid()
            if os.fork() == 0:
                os.setpgid(0, 0)
                self._work(work, started)
        finally:
            os._exit(0)

    def _work(self, work: Work, started: int) -> None:
        """The detached process: owns the lock until it ends, and leaves its last word in the state file."""
        _detach(self._log, keep=started)
        # Held until the process ends, however it ends.
        fcntl.flock(os.open(self._lock, os.O_WRONLY | os.O_CREAT, 0o600), fcntl.LOCK_EX)
        state: dict[str, t.Any] = {"name": self.name, "state": "running", "pid": os.getpid(), "progress": {}, "started_at": time.time()}
        write_atomically(self._file, state)
        os.write(started, b"1")
        os.close(started)
        begun = time.monotonic()

        def report(progress: dict[str, t.Any]) -> None:
            with contextlib.suppress(ColdmoveError):  # a full disk under the journal is no reason to end a copy elsewhere
                write_atomically(self._file, {**state, "progress": progress}, durable=False)

        try:
            state["result"] = work(report)
            state["state"] = "done"
        except ColdmoveError as exc:
            state["state"], state["error"] = "failed", str(exc)
        except Exception as exc:  # the job's last words must reach the operator, whatever they are
            traceback.print_exc()
            state["state"], state["error"] = "failed", f"{type(exc).__name__}: {exc} (details: {self._log})"
        except SystemExit:  # cancelled
            os.killpg(0, signal.SIGKILL)
        state["seconds"] = round(time.monotonic() - begun, 3)
        write_atomically(self._file, state)


def _detach(log: Path, keep: int) -> None:
    """Give up everything of the ssh session: its pipes would keep the session open."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for descriptor in (int(name) for name in os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor != keep:
            try:
                os.close(descriptor)
            except OSError:
                pass  # the directory listing's own descriptor
    # Whatever these were, they wrote to what has just been given up.
    sys.stdout = sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    os.umask(0o077)
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Cancelled: what the work has opened is closed on the way out.
    signal.signal(signal.SIGTERM, _cancelled)


def _cancelled(_number: int, _frame: t.Any) -> t.NoReturn:
    raise SystemExit(1)
