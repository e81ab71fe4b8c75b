# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The source's share of a transfer: copy the files of a server that is off through the data channel, and digest them meanwhile."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import time
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import exports
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import devices, paths
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import files as nodefiles

Report = t.Callable[[dict[str, t.Any]], None]
_FORK = multiprocessing.get_context("fork")
_POLL_SECONDS = 0.2
_RETRY_SECONDS = 1.0
#: A full disk or a refused write looks like a broken link at first; so many attempts that get no further are enough.
_ATTEMPTS_IN_VAIN = 2
#: What qemu-img says (in the language C) when dest's disk, or its quota, is full: no second attempt is needed to know.
_FULL = "No space left on device"
#: What qemu-img reads to get going (libraries and the like).
_START_UP_BYTES = 256 * 1024


class Order(t.NamedTuple):
    """What to send: ``files`` (move files, read from their held_path), where to, and how."""

    files: list[dict[str, t.Any]]
    #: file id -> local socket of the data channel behind which its export is
    sockets: dict[str, str]
    verify: bool
    #: bytes per second, 0 is no limit
    bandwidth_limit: int
    #: give up when nothing has moved for so long
    stall_timeout: int
    #: the exports have never been written to, so that zeroes need not be sent
    fresh: bool


def probe(order: Order) -> None:
    """Prove, while the guest still runs, that every file can be set aside, and every export be reached through the channel. Raises ColdmoveError."""
    for file in order.files:
        needed = int(file["size_bytes"])
        if devices.is_device(file):
            devices.check_source(file)
            needed = int(file["virtual_bytes"])
        else:
            nodefiles.prove_names(file["held_path"])
        size = exports.probe(order.sockets[file["id"]], file["id"])
        if size < needed:
            raise ColdmoveError(f"the dest offers {size} bytes for {file['id']}, which needs {needed}")


def forget(migration_uuid: str) -> None:
    """Remove the sockets that a dest has offered for a migration: sshd leaves them behind."""
    for socket in paths.OFFERS_DIR.glob(f"{migration_uuid}.*"):
        socket.unlink(missing_ok=True)


def send(order: Order, report: Report) -> dict[str, t.Any]:
    """Copy every file as opaque bytes, sparse; returns ``{bytes_total, bytes_read, copy_seconds, digest_seconds, retries, lengths, digests}``.

    A channel that breaks is opened again by dest; only ``stall_timeout`` seconds without a byte moved end the attempt.
    Raises ColdmoveError; the files are only read.
    """
    digests = _Digests(order.files) if order.verify else None
    try:
        copy = _Copy(order, report)
        copy.run()
        waited = time.monotonic()
        found = digests.wait(report, order.stall_timeout) if digests else {}
        return {
            "bytes_total": copy.total,
            "bytes_read": copy.done,
            "copy_seconds": round(copy.seconds, 3),
            "digest_seconds": round(time.monotonic() - waited, 3),
            "retries": copy.retries,
            "lengths": {file["id"]: os.stat(file["held_path"]).st_size for file in order.files},
            "digests": found,
        }
    finally:
        if digests:
            digests.end()


class _Copy:
    """All files of one order, one after the other over one channel: they share its bandwidth anyway."""

    def __init__(self, order: Order, report: Report) -> None:
        self._order, self._report = order, report
        self.total = sum(int(file["allocated_bytes"]) for file in order.files)
        self.done = self.retries = self._furthest = self._in_vain = 0
        self._begun = self._moved_at = time.monotonic()
        self._reported_at = 0.0
        self.seconds = 0.0

    def run(self) -> None:
        """Copy every file; a broken attempt is repeated while there was progress lately."""
        for file in self._order.files:
            before = self.done
            while not self._converted(file, before):
                self.retries += 1
                self.done = before
        self.seconds = time.monotonic() - self._begun

    def _converted(self, file: dict[str, t.Any], before: int) -> bool:
        try:
            self._convert(file, before)
            return True
        except ColdmoveError as exc:
            if _FULL in str(exc) or self._is_hopeless(file):
                raise
            return False

    def _is_hopeless(self, file: dict[str, t.Any]) -> bool:
        """After a failed attempt: wait for the channel to come back. True if it does not, or if attempts get no further although it did."""
        self._in_vain = 0 if self.done > self._furthest else self._in_vain + 1
        self._furthest = max(self._furthest, self.done)
        while time.monotonic() - self._moved_at <= self._order.stall_timeout:
            time.sleep(_RETRY_SECONDS)
            try:
                exports.probe(self._order.sockets[file["id"]], file["id"])
            except ColdmoveError:
                continue
            return self._in_vain >= _ATTEMPTS_IN_VAIN
        return True

    def _convert(self, file: dict[str, t.Any], before: int) -> None:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        with subprocess.Popen(
            self._command(file), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=_environment()
        ) as process:
            try:
                self._watch(process, before)
            finally:
                if process.poll() is None:
                    process.kill()
            words = process.stderr.read().strip() if process.stderr else ""
        if process.returncode != 0:
            raise ColdmoveError(f"qemu-img could not copy {file['held_path']} to the dest: {words or 'the channel broke'}")

    def _command(self, file: dict[str, t.Any]) -> list[str]:
        # A file crosses as opaque bytes: snapshots, bitmaps and layout stay, and dest needs no knowledge of the format. Of a device its content crosses:
        # behind an image there may be anything.
        read_as, reads_zero = "raw", True
        if devices.is_device(file):
            read_as, reads_zero = file["format"], file["format"] == "qcow2"
        command = ["setpriv", "--pdeathsig", "KILL", "qemu-img", "convert", "-n", "-W", "-m", str(exports.CONNECTIONS)]
        if reads_zero and self._order.fresh and not self.retries:
            command.append("--target-is-zero")  # after a broken attempt the zeroes must be sent too
        if self._order.bandwidth_limit:
            command += ["-r", str(self._order.bandwidth_limit)]
        target = f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={self._order.sockets[file['id']]},file.export={file['id']}"
        return [*command, "--image-opts", "--target-image-opts", exports.image_options(file["held_path"], read_as), target]

    def _watch(self, process: subprocess.Popen[str], before: int) -> None:
        wakes = 0
        while process.poll() is None:
            # What qemu-img has read and not yet sent is bounded by its few buffers, so reading is the measure of progress. While
            # those buffers drain over a slow link nothing is read, but its event loop wakes for each piece that goes out.
            done, wakes_before = before + max(0, _read_bytes(process.pid) - _START_UP_BYTES), wakes
            wakes = _wakes(process.pid)
            if done > self.done or wakes != wakes_before:
                self.done, self._moved_at = max(done, self.done), time.monotonic()
            elif time.monotonic() - self._moved_at > self._order.stall_timeout:
                raise ColdmoveError(f"nothing moved through the channel for {self._order.stall_timeout} s")
            if time.monotonic() - self._reported_at >= 1.0:
                self._reported_at = time.monotonic()
                self._report(progress("copy", min(self.done, self.total), self.total, self._reported_at - self._begun))
            # Not a plain sleep: the end of the copy is noticed at once, the guest is off.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)


def _wakes(pid: int) -> int:
    """How often the main thread of a process has gone to sleep and come back; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:")), 0)


def _read_bytes(pid: int) -> int:
    """Bytes that a process has read so far; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("rchar:")), 0)


class _Digests:
    """The digests of all files, computed in a process of its own while the copy runs: both read, neither waits for the other."""

    def __init__(self, files: list[dict[str, t.Any]]) -> None:
        self._done, self._total = _FORK.Value("Q", 0), sum(int(file["virtual_bytes"]) for file in files)
        self._answer, answer = _FORK.Pipe(duplex=False)
        self._process = _FORK.Process(target=_digest_all, args=(files, answer, self._done), daemon=True)
        self._process.start()
        answer.close()
        self._begun = time.monotonic()

    def wait(self, report: Report, stall_timeout: float) -> dict[str, t.Any]:
        before, moved_at = self._done.value, time.monotonic()
        while not self._answer.poll(1.0):
            if self._done.value != before:
                before, moved_at = self._done.value, time.monotonic()
            elif time.monotonic() - moved_at > stall_timeout:
                raise ColdmoveError(f"the digest of the source got no further for {stall_timeout:g} s; is its storage stuck?")
            report(progress("digest", self._done.value, self._total, time.monotonic() - self._begun))
        try:
            answer = self._answer.recv()
        except EOFError as exc:
            raise ColdmoveError("the digest of the source ended without a word") from exc
        if isinstance(answer, str):
            raise ColdmoveError(answer)
        return dict(answer)

    def end(self) -> None:
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(10)


def _digest_all(files: list[dict[str, t.Any]], answer: t.Any, done: t.Any) -> None:
    base, job = 0, multiprocessing.parent_process()

    def report(read: int, _total: int) -> None:
        if job and os.getppid() != job.pid:
            raise SystemExit(1)  # a job that is gone needs no digest; and this process holds its lock, as if the job were alive
        done.value = base + read

    try:
        digests = {}
        for file in files:
            digests[file["id"]] = exports.content_digest(file["held_path"], file["format"], report)
            base += int(file["virtual_bytes"])
        answer.send(digests)
    except ColdmoveError as exc:
        answer.send(str(exc))


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}


def progress(step: str, done: int, total: int, seconds: float) -> dict[str, t.Any]:
    """``{step, percent, bytes_done, bytes_total, rate (bytes/s), eta_seconds}`` of work that has taken ``seconds`` so far."""
    rate = done / seconds if seconds > 0 else 0.0
    return {
        "step": step,
        "percent": round(min(100.0, 100.0 * done / total), 1) if total else 100.0,
        "bytes_done": done,
        "bytes_total": total,
        "rate": round(rate),
        "eta_seconds": round(max(0, total - done) / rate) if rate else None,
    }
