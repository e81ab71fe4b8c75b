# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The aid of an export: a second socket of the dest, offered beside the export's own. Whoever connects says one line.

``digests LENGTH``: the dest tells what it has of the file already, a line for each block of its first LENGTH bytes, in their order: its
digest, or ``zero N`` for N blocks of zeroes; then ``end``, or ``error WORDS``. The file is read here, as opaque bytes, and nothing of
it goes back over the wire: 65 bytes for each 4 MiB.

``zstd``: from here on this is a compressed way to the export itself (compressed.py).
"""

from __future__ import annotations

import contextlib
import os
import socket as sockets
import threading
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import compressed, content_digest
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

#: What is compared as one: small enough that a cut loses little, large enough that the digests are nothing beside the content.
BLOCK = 4 * 1024 * 1024
#: A name that leaves room for it in the 107 characters of a unix socket's path.
SUFFIX = ".aid"
#: What a block of zeroes has for a digest, be it a hole or written.
ZERO = ""
CONNECT_TIMEOUT_SECONDS = 20.0
_LINE = 64
_MOST_BYTES = 1 << 62  # no file is as long
_ZEROES = bytes(BLOCK)


def beside(socket: str) -> str:
    """The aid of the export on ``socket``."""
    return f"{socket}{SUFFIX}"


# --- blocks of a file ----------------------------------------------------------------------------------------------------------


def data_runs(descriptor: int, offset: int, length: int) -> list[tuple[int, int]]:
    """The ranges ``(offset, length)`` of a file that are not holes, within the range that is asked for."""
    runs, end = [], offset + length
    try:
        while offset < end:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
            stop = min(end, os.lseek(descriptor, start, os.SEEK_HOLE))
            if start >= end:
                break
            runs.append((start, stop - start))
            offset = stop
    except OSError:  # ENXIO: nothing but a hole from here on
        pass
    return runs


def block_digest(content: bytes) -> str:
    """The digest of one block."""
    return ZERO if content == _ZEROES[: len(content)] else content_digest.new_hash(content).hexdigest()


def _digests(path: str, length: int) -> t.Iterator[tuple[str, int]]:
    """``(digest, number of blocks)`` of a file up to ``length``; holes are not read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        offset = 0
        while offset < length:
            data = _next_data(descriptor, offset)
            hole = (min(length, data) - offset) // BLOCK if data < length else -((offset - length) // BLOCK)
            if hole:
                yield ZERO, hole
                offset += hole * BLOCK
            if offset < length:
                yield block_digest(os.pread(descriptor, min(BLOCK, length - offset), offset)), 1
                offset += BLOCK
    finally:
        os.close(descriptor)


def _next_data(descriptor: int, offset: int) -> int:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError:  # ENXIO: nothing but a hole from here on
        return _MOST_BYTES


# --- the dest's end ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(files: t.Mapping[Path, str]) -> t.Iterator[None]:
    """Be the aid of exports while the caller is at work: ``files`` maps each export's socket to the file behind it."""
    listeners = []
    try:
        for socket, path in files.items():
            place = beside(str(socket))
            Path(place).unlink(missing_ok=True)
            listener = sockets.socket(sockets.AF_UNIX)
            listeners.append((listener, place))
            listener.bind(place)
            listener.listen()
            threading.Thread(target=_accept, args=(listener, str(socket), path), daemon=True).start()
        yield
    finally:
        for listener, place in listeners:
            listener.close()
            Path(place).unlink(missing_ok=True)


def _accept(listener: sockets.socket, socket: str, path: str) -> None:
    with contextlib.suppress(OSError):  # it was closed
        while True:
            connection, _address = listener.accept()
            threading.Thread(target=_answer, args=(connection, socket, path), daemon=True).start()


def _answer(connection: sockets.socket, socket: str, path: str) -> None:
    # Whoever asked may be gone at any time.
    with contextlib.suppress(OSError), connection, connection.makefile("rwb") as stream:
        words = stream.readline(_LINE).decode("ascii", errors="replace").split()
        if words == ["zstd"]:
            compressed.serve(connection, stream.read, socket)
            return
        if len(words) != 2 or words[0] != "digests" or not words[1].isdecimal() or int(words[1]) >= _MOST_BYTES:
            stream.write(b"error not understood\n")
            return
        try:
            for digest, count in _digests(path, int(words[1])):
                stream.write(f"{digest}\n".encode("ascii") if digest != ZERO else f"zero {count}\n".encode("ascii"))
                stream.flush()  # the other end works along
            stream.write(b"end\n")
        except OSError as exc:
            stream.write(f"error {exc.strerror}\n".encode("utf-8", errors="replace"))


# --- the source's end ----------------------------------------------------------------------------------------------------------


def digests(aid: str, length: int) -> t.Iterator[str]:
    """What the dest has of the file that ``aid`` is for: the digest of each block up to ``length``. Raises ColdmoveError."""
    blocks = -(-length // BLOCK)
    try:
        with sockets.socket(sockets.AF_UNIX) as connection:
            connection.settimeout(CONNECT_TIMEOUT_SECONDS)
            connection.connect(aid)
            connection.sendall(f"digests {length}\n".encode("ascii"))
            connection.settimeout(None)  # a dest whose storage is slow is no failure: who calls knows how long nothing may move
            with connection.makefile("r", encoding="utf-8", errors="replace") as stream:
                for line in stream:
                    words = line.split()
                    if words == ["end"] and not blocks:
                        return
                    count = int(words[1]) if len(words) == 2 and words[0] == "zero" and words[1].isdecimal() else 1 if len(words) == 1 else 0
                    if not 0 < count <= blocks:
                        raise ColdmoveError(f"the dest could not tell what it has already: {' '.join(words[1:]) or 'its answer has another length'}")
                    blocks -= count
                    yield from (ZERO if len(words) == 2 else words[0] for _number in range(count))
    except OSError as exc:
        raise ColdmoveError(f"the dest could not tell what it has already: {exc.strerror or exc}") from exc
    raise ColdmoveError("the dest could not tell what it has already: the channel broke")
