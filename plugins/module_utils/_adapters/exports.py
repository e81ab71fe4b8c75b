# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""qemu-nbd servers (exports) and what is read through them. The only place that starts qemu-nbd or speaks NBD."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import hashlib
import os
import queue
import signal
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

try:
    import nbd

    HAS_NBD = True
except ImportError:
    HAS_NBD = False

#: Parallel requests and connections of one copy; more brought nothing on the links that were measured.
CONNECTIONS = 16
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 60.0
CONNECT_TIMEOUT_SECONDS = 20.0
#: The unit of the content digest.
DIGEST_BLOCK = 4 * 1024 * 1024
#: Blocks that are read and hashed at a time, each over a connection of its own.
DIGEST_THREADS = 2
#: What content is known by. CPUs have instructions for it: 1.4 GiB/s of one core, where Python's blake2b, which uses none, made 0.45.
content_hash = hashlib.sha256
#: What one request of a digest reads: it stays in the CPU's cache until it is hashed. Requests of 4 MiB took twice the CPU time at both ends.
_PIECE = 256 * 1024
_ZEROES = bytes(_PIECE)
_STATE_ZERO = 2  # NBD_STATE_ZERO of the base:allocation context: reads as zeroes


def image_options(path: str, image_format: str, size_bytes: int | None = None) -> str:
    """``--image-opts`` for a local file or block device: the format is stated, never probed, and no character of the name is special (a comma is doubled).

    ``size_bytes``: only so much of it, from its beginning; of a raw one.
    """
    size = "" if size_bytes is None else f",size={size_bytes}"
    return f"driver={image_format}{size},file.driver={'host_device' if qemu_img.is_device(path) else 'file'},file.filename={path.replace(',', ',,')}"


def create_blank(path: str, image_format: str, virtual_bytes: int) -> None:
    """Create an empty image. Raises ColdmoveError if ``path`` exists or qemu-img refuses."""
    if os.path.lexists(path):
        raise ColdmoveError(f"{path} exists already")
    # The ./ or / in front keeps a name with a colon from being taken for a protocol.
    command = ["qemu-img", "create", "-q", "-f", image_format, "--", os.path.abspath(path), str(virtual_bytes)]
    # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=_environment())
    if done.returncode != 0:
        raise ColdmoveError(f"qemu-img cannot create {path}: {done.stderr.strip()}")


def start_export(path: str, image_format: str, name: str, socket: Path, pid_file: Path, size_bytes: int | None = None) -> int:
    """Serve ``path`` as export ``name`` on the unix ``socket``; returns the server's pid once it listens. ``size_bytes``: see image_options().

    Raises ColdmoveError with qemu-nbd's own words.
    """
    command = _server(path, image_format, name, socket, pid_file, "--fork", "--discard=unmap", "--detect-zeroes=unmap", size_bytes=size_bytes)
    socket.unlink(missing_ok=True)
    try:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=START_TIMEOUT_SECONDS, env=_environment())
    except subprocess.TimeoutExpired as exc:
        raise ColdmoveError(f"qemu-nbd did not begin to serve {path} within {START_TIMEOUT_SECONDS:.0f} s") from exc
    if done.returncode != 0:
        raise ColdmoveError(f"qemu-nbd cannot serve {path} as {image_format}: {done.stderr.strip()}")
    return int(pid_file.read_text(encoding="ascii"))


def _server(path: str, image_format: str, name: str, socket: Path, pid_file: Path, *options: str, size_bytes: int | None = None) -> list[str]:
    fixed = ["qemu-nbd", "-t", "-e", str(CONNECTIONS), "--pid-file", str(pid_file), "-x", name, "-k", str(socket)]
    return [*fixed, *options, "--image-opts", image_options(path, image_format, size_bytes)]


@contextlib.contextmanager
def _served(path: str, image_format: str, name: str, size_bytes: int | None) -> t.Iterator[str]:
    """The socket of a read-only export that ends with this process, however it ends: a server left behind would keep the guest from starting."""
    with tempfile.TemporaryDirectory(prefix="coldmove-digest-") as folder:
        socket, ready = Path(folder) / "nbd", Path(folder) / "pid"
        command = ["setpriv", "--pdeathsig", "KILL", *_server(path, image_format, name, socket, ready, "-r", size_bytes=size_bytes)]
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=_environment()) as server:
            try:
                deadline = time.monotonic() + START_TIMEOUT_SECONDS
                while not ready.exists():  # it is written when the server listens
                    if server.poll() is not None:
                        words = server.stderr.read().strip() if server.stderr else ""
                        raise ColdmoveError(f"qemu-nbd cannot serve {path} as {image_format}: {words}")
                    if time.monotonic() > deadline:
                        raise ColdmoveError(f"qemu-nbd did not begin to serve {path} within {START_TIMEOUT_SECONDS:.0f} s")
                    time.sleep(0.005)
                yield str(socket)
            finally:
                server.kill()  # nothing is lost, it only reads


def export_pid(socket: Path, pid_file: Path) -> int | None:
    """The pid of the server that listens on ``socket``, or None. A pid that now belongs to another program is not it."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if os.fsencode(socket) in arguments else None


def stop_export(socket: Path, pid_file: Path) -> bool:
    """End the server of ``socket`` and wait until it is gone, so that everything it was sent is written. True if there was one."""
    pid = export_pid(socket, pid_file)
    if pid is not None:
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while export_pid(socket, pid_file) == pid:
            if time.monotonic() > deadline:
                raise ColdmoveError(f"qemu-nbd (pid {pid}) does not end {STOP_TIMEOUT_SECONDS:.0f} s after SIGTERM; something still holds {socket}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)  # again: one that comes between its pid file and its main loop is lost to it
            time.sleep(0.02)
    socket.unlink(missing_ok=True)
    pid_file.unlink(missing_ok=True)
    return pid is not None


def probe(socket: str, name: str) -> int:
    """Shake hands with the export ``name`` on ``socket``; its size in bytes. Raises ColdmoveError."""
    with connected(socket, name) as handle:
        return int(handle.get_size())


def content_digest(path: str, image_format: str, report: t.Callable[[int, int], None], size_bytes: int | None = None) -> dict[str, t.Any]:
    """A digest of what a guest would read from ``path``: ``{algorithm, digest, virtual_bytes, read_bytes, seconds}``.

    SHA-256 over the SHA-256 of each 4 MiB block; a block of zeroes counts the same whether it is a hole, a zero cluster
    or written zeroes, so that two images of one content have one digest whatever their layout. Holes are not read.
    ``report(done, total)`` is called after each block. ``size_bytes``: see image_options(). Raises ColdmoveError.
    """
    begun = time.monotonic()
    with _served(path, image_format, "content", size_bytes) as socket, contextlib.ExitStack() as stack:
        plain = stack.enter_context(_plain(path, image_format)) if size_bytes is None and not qemu_img.is_device(path) else None
        found = served_digest(socket, "content", report, plain=plain)
    return {**found, "seconds": round(time.monotonic() - begun, 3)}


def served_digest(socket: str, name: str, report: t.Callable[[int, int], None], length: int | None = None, plain: _Plain | None = None) -> dict[str, t.Any]:
    """The same of an export that somebody serves on the unix ``socket``; with ``length`` of its first so many bytes, as if there were no more.

    ``plain``: what can be read without the server.
    """
    begun = time.monotonic()
    with connected(socket, name, extents=True) as handle, contextlib.ExitStack() as stack:
        size = int(handle.get_size())
        if length is not None and size < length:
            raise ColdmoveError(f"NBD export '{name}' on {socket} has {size} bytes, {length} are to be read")
        readers = [stack.enter_context(connected(socket, name)) for _number in range(DIGEST_THREADS)]
        digest, read = _digest(_ZeroRuns(handle, size), plain, readers, size if length is None else length, report)
    return {
        "algorithm": "sha256-4MiB",
        "digest": digest,
        "virtual_bytes": size if length is None else length,
        "read_bytes": read,
        "seconds": round(time.monotonic() - begun, 3),
    }


def _digest(zero_runs: _ZeroRuns, plain: _Plain | None, readers: t.Iterable[t.Any], size: int, report: t.Callable[[int, int], None]) -> tuple[str, int]:
    read = done = 0
    whole = content_hash()
    idle: queue.SimpleQueue[t.Any] = queue.SimpleQueue()
    for reader in readers:
        idle.put(reader)
    # Reading and hashing leave Python's lock. Few blocks are under way at a time, so that the report is of now.
    under_way: collections.deque[tuple[int, t.Any]] = collections.deque()

    def take() -> int:
        length, future = under_way.popleft()
        whole.update(future.result() if future else b"zero")
        return int(length)

    with concurrent.futures.ThreadPoolExecutor(DIGEST_THREADS) as pool:
        for offset in range(0, size, DIGEST_BLOCK):
            length = min(DIGEST_BLOCK, size - offset)
            future = None
            if not zero_runs.cover(offset, length):
                future = pool.submit(_block_digest, idle, plain.within(offset, length) if plain else None, offset, length)
                read += length
            under_way.append((length, future))
            if len(under_way) > DIGEST_THREADS:
                done += take()
                report(done, size)
        while under_way:
            done += take()
        report(done, size)
    whole.update(size.to_bytes(8, "big"))
    return whole.hexdigest(), read


def _block_digest(idle: queue.SimpleQueue[t.Any], plain: _Runs | None, offset: int, length: int) -> bytes:
    """Of one block, read by one of the connections that are idle where it is not ``plain``."""
    handle, found, zero = idle.get(), content_hash(), True
    try:
        for start in range(offset, offset + length, _PIECE):
            size = min(_PIECE, offset + length - start)
            piece = (plain and plain.pread(size, start)) or handle.pread(size, start)
            zero = zero and piece == _ZEROES[: len(piece)]
            found.update(piece)
    finally:
        idle.put(handle)
    return b"zero" if zero else found.digest()


class _Runs(t.NamedTuple):
    """Some runs of a file: (start and end in the content, place in the file)."""

    descriptor: int
    runs: list[tuple[int, int, int]]

    def pread(self, length: int, offset: int) -> bytes:
        """The content if one run has it all, else nothing: also where it cannot be read, so that the server says why."""
        for start, end, place in self.runs:
            if start <= offset and offset + length <= end:
                with contextlib.suppress(OSError):
                    content = os.pread(self.descriptor, length, place + offset - start)
                    return content if len(content) == length else b""
        return b""


class _Plain:
    """Where an image's file has what a guest reads as it is, in rising order of offset. Whatever is not told of is to be asked from a server."""

    def __init__(self, descriptor: int, extents: t.Iterator[dict[str, t.Any]]) -> None:
        self._descriptor, self._extents = descriptor, extents
        self._known_to, self._runs = 0, [(0, 0, 0)]

    def within(self, offset: int, length: int) -> _Runs:
        """The runs that reach into a block; blocks are asked for in rising order."""
        while self._known_to < offset + length and (extent := next(self._extents, None)):
            self._known_to = extent["start"] + extent["length"]
            # Not what lies in a backing file (depth), nor zeroes that have a place, nor what is compressed or encrypted: that has no offset.
            if extent["data"] and not extent["zero"] and extent["depth"] == 0 and "offset" in extent:
                self._runs.append((extent["start"], self._known_to, extent["offset"]))
        self._runs = [run for run in self._runs if run[1] > offset]
        return _Runs(self._descriptor, self._runs)


@contextlib.contextmanager
def _plain(path: str, image_format: str) -> t.Iterator[_Plain | None]:
    """Of a local file that a server holds meanwhile, so that nobody writes to it: reading all through the server costs as much CPU time as hashing it."""
    if qemu_img.info(path, image_format).data_file:
        yield None  # offsets are of that
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with qemu_img.mapped(path, image_format) as extents:
            yield _Plain(descriptor, extents)
    finally:
        os.close(descriptor)


class _ZeroRuns:
    """Which ranges read as zeroes, asked from the server in large pieces, in rising order of offset."""

    _ASK = 1 << 30

    def __init__(self, handle: t.Any, size: int) -> None:
        self._handle, self._size = handle, size
        self._known_to, self._runs = 0, [(0, 0, False)]  # (start, end, zero)

    def cover(self, offset: int, length: int) -> bool:
        end = offset + length
        while self._known_to < end:
            self._ask()
        self._runs = [run for run in self._runs if run[1] > offset]
        return all(zero for start, stop, zero in self._runs if start < end)

    def _ask(self) -> None:
        start = self._known_to
        answered: list[int] = []

        def extents(_context: str, _offset: int, entries: list[int], _error: t.Any) -> int:
            answered.extend(entries)
            return 0

        self._handle.block_status(min(self._ASK, self._size - start), start, extents)
        for length, flags in zip(answered[0::2], answered[1::2]):
            self._runs.append((self._known_to, self._known_to + length, bool(flags & _STATE_ZERO)))
            self._known_to += length
        if self._known_to == start:
            raise ColdmoveError("the NBD server gave no answer about the extents of an image")


@contextlib.contextmanager
def connected(socket: str, name: str, extents: bool = False) -> t.Iterator[t.Any]:
    """A libnbd handle that is connected to an export; ``extents`` if it is to be asked for them. Whatever nbd raises becomes a ColdmoveError."""
    handle = nbd.NBD()
    handle.set_export_name(name)
    if extents:
        handle.add_meta_context("base:allocation")
    try:
        handle.aio_connect_unix(socket)
        # A channel whose other end is gone takes the connection and is silent: no waiting without a limit.
        deadline = time.monotonic() + CONNECT_TIMEOUT_SECONDS
        while not handle.aio_is_ready():
            if time.monotonic() >= deadline:
                raise ColdmoveError(f"NBD export '{name}' on {socket}: no answer within {CONNECT_TIMEOUT_SECONDS:.0f} s")
            handle.poll(100)
        yield handle
        handle.aio_disconnect(0)
        handle.poll(100)
    except nbd.Error as exc:
        raise ColdmoveError(f"NBD export '{name}' on {socket}: {exc.string}") from exc


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}
