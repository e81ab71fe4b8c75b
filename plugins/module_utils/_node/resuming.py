# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""A copy that goes on where an earlier attempt broke: only the blocks of a file are sent that the dest has not already.

Both ends digest the blocks (aids.py), each reads its own file. The work is done in a process of its own, by threads that wait for the
wire in libnbd: what hangs in a channel that is silent can be killed. Each thread has one connection and one request in flight, and
reuses no buffer of libnbd's (those of release 1.14 are never freed).
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import aids, exports
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

_FORK = multiprocessing.get_context("fork")
#: Connections, each with a request in flight.
SENDERS = 8
#: The most that one request carries.
PIECE = 512 * 1024
_LOOK_SECONDS = 0.5


class Work(t.NamedTuple):
    """One file, the socket and the name of its export, the aid of that, and bytes per second (0: no limit)."""

    path: str
    socket: str
    aid: str
    name: str
    bandwidth_limit: int


class Attempt:
    """A process that makes the dest's file equal to the source's. Left as a context it is gone."""

    def __init__(self, work: Work) -> None:
        self._there, self._sent, self._moved = (_FORK.Value("Q", 0) for _counter in range(3))
        self._answer, answer = _FORK.Pipe(duplex=False)
        self._process = _FORK.Process(target=_work, args=(work, _Tally(self._there, self._sent, self._moved), answer), daemon=True)
        self._process.start()
        answer.close()

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()  # it may hang in a channel that is silent
        self._process.join(10)

    @property
    def already_there(self) -> int:
        """Bytes (holes not counted) that the dest had and were not sent."""
        return int(self._there.value)

    @property
    def done(self) -> int:
        """Bytes (holes not counted) that the dest has by now."""
        return int(self._there.value + self._sent.value)

    @property
    def moves(self) -> int:
        """Grows as long as anything moves, also where there is nothing to send."""
        return int(self._moved.value)

    def ended(self, seconds: float) -> bool:
        """Wait so long for the end; whether it has come. Raises ColdmoveError if it was not a good one."""
        if not self._answer.poll(seconds):
            return False
        try:
            words = str(self._answer.recv())
        except EOFError:
            words = "the process that sends ended without a word"
        if words:
            raise ColdmoveError(words)
        return True


class _Tally(t.NamedTuple):
    there: t.Any
    sent: t.Any
    moved: t.Any

    def add(self, counter: t.Any, count: int) -> None:
        with counter.get_lock():
            counter.value += count
        with self.moved.get_lock():
            self.moved.value += 1


def _work(work: Work, tally: _Tally, answer: t.Any) -> None:
    try:
        _Senders(work, tally).send_what_differs()
        answer.send("")
    except (ColdmoveError, OSError) as exc:
        answer.send(f"could not send what the dest has not yet of {work.path}: {exc}")


class _Senders:
    """The threads that compare and send, and what they are to do next."""

    def __init__(self, work: Work, tally: _Tally) -> None:
        self._work, self._tally = work, tally
        self._job = multiprocessing.parent_process()
        self._waiting: queue.Queue[tuple[int, int, str] | None] = queue.Queue(SENDERS)
        self._ended: queue.Queue[Exception | None] = queue.Queue()
        self._left = SENDERS
        self._pace = _Pace(work.bandwidth_limit)

    def send_what_differs(self) -> None:
        descriptor = os.open(self._work.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            length = os.fstat(descriptor).st_size
            for _number in range(SENDERS):
                threading.Thread(target=self._run, args=(descriptor,), daemon=True).start()
            for number, theirs in enumerate(aids.digests(self._work.aid, length)):
                offset = number * aids.BLOCK
                self._give((offset, min(aids.BLOCK, length - offset), theirs))
            for _number in range(SENDERS):
                self._give(None)
            while self._left:
                self._look(_LOOK_SECONDS)
        finally:
            # Threads that still read end with this process, which ends now.
            if not self._left:
                os.close(descriptor)

    def _give(self, task: tuple[int, int, str] | None) -> None:
        while True:
            self._look(0)
            try:
                self._waiting.put(task, timeout=_LOOK_SECONDS)
                return
            except queue.Full:
                continue

    def _look(self, seconds: float) -> None:
        """Notice a sender that has ended, and raise what it ended by. A job that is gone needs no copy: this process ends."""
        if self._job and os.getppid() != self._job.pid:
            os._exit(1)  # at once: it holds the job's lock, as if that were alive
        try:
            problem = self._ended.get(timeout=seconds) if seconds else self._ended.get_nowait()
        except queue.Empty:
            return
        if problem:
            raise problem
        self._left -= 1

    def _run(self, descriptor: int) -> None:
        try:
            with exports.connected(self._work.socket, self._work.name) as handle:
                while (task := self._waiting.get()) is not None:
                    self._bring(handle, descriptor, *task)
            self._ended.put(None)
        except Exception as exc:  # raised again by the main thread
            self._ended.put(exc)

    def _bring(self, handle: t.Any, descriptor: int, offset: int, length: int, theirs: str) -> None:
        """See that the dest has one block."""
        runs = aids.data_runs(descriptor, offset, length)
        mine = aids.block_digest(os.pread(descriptor, length, offset)) if runs else aids.ZERO
        if mine == theirs:
            self._tally.add(self._tally.there, sum(size for _start, size in runs))
            return
        at = offset
        for start, size in runs:
            self._clear(handle, at, start - at, theirs)
            for place in range(start, start + size, PIECE):
                self._send(handle, place, os.pread(descriptor, min(PIECE, start + size - place), place), theirs)
            at = start + size
        self._clear(handle, at, offset + length - at, theirs)

    def _send(self, handle: t.Any, offset: int, content: bytes, theirs: str) -> None:
        if content == bytes(len(content)):
            self._clear(handle, offset, len(content), theirs)
        else:
            self._pace.wait(len(content))
            handle.pwrite(content, offset)
        self._tally.add(self._tally.sent, len(content))

    def _clear(self, handle: t.Any, offset: int, length: int, theirs: str) -> None:
        if length and theirs != aids.ZERO:
            handle.zero(length, offset)
            self._tally.add(self._tally.sent, 0)


class _Pace:
    """All threads together send no more than so many bytes a second."""

    def __init__(self, limit: int) -> None:
        self._limit, self._lock, self._next = limit, threading.Lock(), time.monotonic()

    def wait(self, length: int) -> None:
        if not self._limit:
            return
        with self._lock:
            now = time.monotonic()
            mine = max(self._next, now)
            self._next = mine + length / self._limit
        time.sleep(mine - now)
