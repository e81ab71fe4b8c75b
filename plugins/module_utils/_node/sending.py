# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The source's share of a transfer: copy the files of a server that is off through the data channel, and digest them meanwhile."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import aids, compressed, exports
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import devices, digesting, paths, resuming
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import files as nodefiles
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.progress import Report, progress

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
    #: ids of those whose export is an image of their format, into which what the guest sees is to be written
    images: t.Collection[str]
    #: file id -> local socket of the data channel behind which its export is
    sockets: dict[str, str]
    verify: bool
    #: bytes per second, 0 is no limit
    bandwidth_limit: int
    #: give up when nothing has moved for so long
    stall_timeout: int
    #: the exports have never been written to: all is sent, and zeroes need not be. Else only what the dest has not yet.
    fresh: bool
    compression: compressed.Choice = "none"

    @property
    def allocated_bytes(self) -> int:
        """What there is to be read."""
        return sum(int(file["allocated_bytes"]) for file in self.files)


def probe(order: Order) -> None:
    """Prove, while the guest still runs, that every file can be set aside, and every export be reached through the channel. Raises ColdmoveError."""
    with _ways(order, compressed.Chooser("none" if order.compression == "none" else "zstd")) as sockets:
        for file in order.files:
            if devices.is_device(file):
                devices.check_source(file)
            else:
                nodefiles.prove_names(file["held_path"])
            size = exports.probe(sockets[file["id"]], file["id"])
            needed = file["virtual_bytes"] if file["id"] in order.images else file["size_bytes"]
            if size < needed:
                raise ColdmoveError(f"the dest offers {size} bytes for {file['id']}, which needs {needed}")


@contextlib.contextmanager
def _ways(order: Order, chooser: compressed.Chooser) -> t.Iterator[t.Mapping[str, str]]:
    """The sockets that lead to the exports: those of the channel, or relays that compress."""
    if order.compression == "none":
        yield order.sockets
        return
    wanted = {file["id"]: aids.beside(order.sockets[file["id"]]) for file in order.files}
    with compressed.ways(wanted, chooser) as here:
        yield here


def forget(migration_uuid: str) -> None:
    """Remove the sockets that a dest has offered for a migration: sshd leaves them behind."""
    for socket in paths.OFFERS_DIR.glob(f"{migration_uuid}.*"):
        socket.unlink(missing_ok=True)


def send(order: Order, report: Report) -> dict[str, t.Any]:
    """Copy every file as opaque bytes, sparse; returns ``{bytes_total, bytes_read, already_there, compression, copy_seconds,
    digest_seconds, retries, lengths, digests}``.

    A channel that breaks is opened again by dest, and what has crossed is not sent again; only ``stall_timeout`` seconds without a byte moved end the attempt.
    Raises ColdmoveError; the files are only read.
    """
    images = [digesting.of_file(file, file["held_path"]) for file in order.files]
    digests = digesting.Digests(images, "digest", order.allocated_bytes) if order.verify else None
    try:
        chooser = compressed.Chooser(order.compression)
        with _ways(order, chooser) as sockets:
            copy = _Copy(order, sockets, chooser, report, digests.copied if digests else lambda done: None)
            copy.run()
        waited = time.monotonic()
        found = digests.wait(report, order.stall_timeout) if digests else {}
        return {
            "bytes_total": copy.total,
            "bytes_read": copy.done,
            "already_there": copy.already_there,
            "compression": chooser.words or "compression none",
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

    def __init__(self, order: Order, sockets: t.Mapping[str, str], chooser: compressed.Chooser, report: Report, copied: t.Callable[[int], None]) -> None:
        self._order, self._sockets, self._chooser, self._report, self._copied = order, sockets, chooser, report, copied
        self.total = order.allocated_bytes
        self.done = self.retries = self.already_there = self._furthest = self._in_vain = 0
        self._begun = self._moved_at = time.monotonic()
        self._reported_at = 0.0
        self.seconds = 0.0

    def run(self) -> None:
        """Copy every file; a broken attempt is repeated while there was progress lately."""
        for file in self._order.files:
            # An image of its own on the dest has other bytes than the file: it is written as a whole, whatever it holds.
            before, image = self.done, file["id"] in self._order.images
            whole = self._order.fresh or image
            while not self._brought(file, before, whole):
                self.retries += 1
                self.done, whole = before, image
        self.seconds = time.monotonic() - self._begun

    def _brought(self, file: dict[str, t.Any], before: int, whole: bool) -> bool:
        try:
            if whole:
                self._convert(file, before)
            else:
                self._resume(file, before)
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
                exports.probe(self._sockets[file["id"]], file["id"])
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

    def _resume(self, file: dict[str, t.Any], before: int) -> None:
        aid = aids.beside(self._order.sockets[file["id"]])
        work = resuming.Work(file["held_path"], self._sockets[file["id"]], aid, file["id"], self._order.bandwidth_limit)
        earlier, moves = self.already_there, 0
        with resuming.Attempt(work) as attempt:
            ended = False
            while not ended:
                ended = attempt.ended(_POLL_SECONDS)
                self.already_there = earlier + attempt.already_there
                self._follow(before + attempt.done, moved=attempt.moves != moves)
                moves = attempt.moves

    def _command(self, file: dict[str, t.Any]) -> list[str]:
        # A file crosses as opaque bytes: snapshots, bitmaps and layout stay, and dest needs no knowledge of the format. Only what a precopy that
        # broke at the last moment has left is an image of its own there, with content that zeroes must be written over.
        image = file["id"] in self._order.images
        command = ["setpriv", "--pdeathsig", "KILL", "qemu-img", "convert", "-n", "-W", "-m", str(exports.CONNECTIONS)]
        if not image:
            command.append("--target-is-zero")
        if self._order.bandwidth_limit:
            command += ["-r", str(self._order.bandwidth_limit)]
        target = f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={self._sockets[file['id']]},file.export={file['id']}"
        return [*command, "--image-opts", "--target-image-opts", exports.image_options(file["held_path"], file["format"] if image else "raw"), target]

    def _watch(self, process: subprocess.Popen[str], before: int) -> None:
        wakes = 0
        while process.poll() is None:
            # What qemu-img has read and not yet sent is bounded by its few buffers, so reading is the measure of progress. While
            # those buffers drain over a slow link nothing is read, but its event loop wakes for each piece that goes out.
            done, wakes_before = before + max(0, _read_bytes(process.pid) - _START_UP_BYTES), wakes
            wakes = _wakes(process.pid)
            self._follow(done, moved=wakes != wakes_before)
            # Not a plain sleep: the end of the copy is noticed at once, the guest is off.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)

    def _follow(self, done: int, moved: bool) -> None:
        """Take note of how far the copy is. Raises ColdmoveError if nothing has moved for too long."""
        if done > self.done or moved:
            self.done, self._moved_at = max(done, self.done), time.monotonic()
            self._copied(self.done)
        elif time.monotonic() - self._moved_at > self._order.stall_timeout:
            raise ColdmoveError(f"nothing moved through the channel for {self._order.stall_timeout} s")
        if time.monotonic() - self._reported_at >= 1.0:
            self._reported_at = time.monotonic()
            self._report(self._told(self._reported_at - self._begun))

    def _told(self, seconds: float) -> dict[str, t.Any]:
        # What was there already is done, and says nothing of the rate.
        told = progress("copy", min(self.done, self.total), self.total, seconds, at_first=self.already_there)
        notes = [f"resumed: {text.human_bytes(self.already_there)} already there" if self.already_there else "", self._chooser.words]
        return {**told, "note": "; ".join(filter(None, notes))}


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


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}
