# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What a guest would read from an image, known by its digest: the same whatever the image's layout."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import hashlib
import os
import queue
import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import exports, qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

#: The unit of the content digest.
BLOCK = 4 * 1024 * 1024
#: Blocks that are read and hashed at a time, each over a connection of its own.
_THREADS = 2
#: What content is known by. CPUs have instructions for it: 1.4 GiB/s of one core, where Python's blake2b, which uses none, made 0.45.
new_hash = hashlib.sha256
#: What one request of a digest reads: it stays in the CPU's cache until it is hashed. Requests of 4 MiB took twice the CPU time at both ends.
_PIECE = 256 * 1024
_ZEROES = bytes(_PIECE)
#: Is told how far a digest is: bytes that are done, bytes in all, and bytes that were read (holes are not). The digest waits for it.
Report = t.Callable[[int, int, int], None]
_STATE_ZERO = 2  # NBD_STATE_ZERO of the base:allocation context: reads as zeroes


def of_image(path: str, image_format: str, report: Report, size_bytes: int | None = None) -> dict[str, t.Any]:
    """A digest of what a guest would read from ``path``: ``{algorithm, digest, virtual_bytes, read_bytes, seconds}``.

    SHA-256 over the SHA-256 of each 4 MiB block; a block of zeroes counts the same whether it is a hole, a zero cluster
    or written zeroes, so that two images of one content have one digest whatever their layout. Holes are not read.
    ``report`` is called after each block. ``size_bytes``: see exports.image_options(). Raises ColdmoveError.
    """
    begun = time.monotonic()
    with exports.served(path, image_format, "content", size_bytes) as socket, contextlib.ExitStack() as stack:
        plain = stack.enter_context(_plain(path, image_format)) if size_bytes is None and not qemu_img.is_device(path) else None
        found = of_export(socket, "content", report, plain=plain)
    return {**found, "seconds": round(time.monotonic() - begun, 3)}


def of_export(socket: str, name: str, report: Report, length: int | None = None, plain: _Plain | None = None) -> dict[str, t.Any]:
    """The same of an export that somebody serves on the unix ``socket``; with ``length`` of its first so many bytes, as if there were no more.

    ``plain``: what can be read without the server.
    """
    begun = time.monotonic()
    with exports.connected(socket, name, extents=True) as handle, contextlib.ExitStack() as stack:
        size = int(handle.get_size())
        if length is not None and size < length:
            raise ColdmoveError(f"NBD export '{name}' on {socket} has {size} bytes, {length} are to be read")
        readers = [stack.enter_context(exports.connected(socket, name)) for _number in range(_THREADS)]
        digest, read = _digest(_ZeroRuns(handle, size), plain, readers, size if length is None else length, report)
    return {
        "algorithm": "sha256-4MiB",
        "digest": digest,
        "virtual_bytes": size if length is None else length,
        "read_bytes": read,
        "seconds": round(time.monotonic() - begun, 3),
    }


def _digest(zero_runs: _ZeroRuns, plain: _Plain | None, readers: t.Iterable[t.Any], size: int, report: Report) -> tuple[str, int]:
    read = done = 0
    whole = new_hash()
    idle: queue.SimpleQueue[t.Any] = queue.SimpleQueue()
    for reader in readers:
        idle.put(reader)
    # Reading and hashing leave Python's lock. Few blocks are under way at a time, so that the report is of now.
    under_way: collections.deque[tuple[int, t.Any]] = collections.deque()

    def take() -> int:
        length, future = under_way.popleft()
        whole.update(future.result() if future else b"zero")
        return int(length)

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for offset in range(0, size, BLOCK):
            length = min(BLOCK, size - offset)
            future = None
            if not zero_runs.cover(offset, length):
                future = pool.submit(_block_digest, idle, plain.within(offset, length) if plain else None, offset, length)
                read += length
            under_way.append((length, future))
            if len(under_way) > _THREADS:
                done += take()
                report(done, size, read)
        while under_way:
            done += take()
        report(done, size, read)
    whole.update(size.to_bytes(8, "big"))
    return whole.hexdigest(), read


def _block_digest(idle: queue.SimpleQueue[t.Any], plain: _Runs | None, offset: int, length: int) -> bytes:
    """Of one block, read by one of the connections that are idle where it is not ``plain``."""
    handle, found, zero = idle.get(), new_hash(), True
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
