# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""A compressed way to an export: a relay at each end of the data channel. What goes to the dest crosses in frames, what comes back as it is.

A frame is four bytes and a piece: the length of the piece as it crosses, and in the highest bit whether it is compressed. Each piece
goes at once and stands for itself, so that no request ever waits for the next one. What does not get smaller goes as it is.
"""

from __future__ import annotations

import contextlib
import socket as sockets
import tempfile
import threading
import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import zstd
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

#: What a frame holds at most.
PIECE = 256 * 1024
_COMPRESSED = 1 << 31
_ANSWER_BYTES = 64 * 1024
#: Auto: what the buffers on the way take in says nothing of the link. Then each way is tried for so long.
_WARM_UP_BYTES = 8 * 1024 * 1024
_TRIAL_SECONDS = 1.5
#: Auto: so much faster it has to be to be worth the CPU time of two nodes.
_WORTH = 1.1

Choice = t.Literal["none", "zstd", "auto"]


class Chooser:
    """Whether a piece is to be compressed. With ``auto`` both ways are tried on the first pieces, and the faster one is taken for the others."""

    def __init__(self, choice: Choice) -> None:
        self._lock = threading.Lock()
        self._phase: t.Literal["warm up", "plain", "zstd", "over"] = "warm up" if choice == "auto" else "over"
        self._zstd = choice == "zstd"
        self._since, self._bytes, self._packed, self._rate = time.monotonic(), 0, 0, 0.0
        #: What was decided and why, for the operator.
        self.words = {"auto": "compression auto: not measured yet, none so far", "zstd": "compression zstd"}.get(choice, "")

    def compresses(self) -> bool:
        """Whether the next piece is to be."""
        return self._zstd

    def crossed(self, length: int, packed: int) -> None:
        """A piece of so many bytes was taken by the channel, as so many."""
        if self._phase == "over":
            return
        with self._lock:
            self._bytes, self._packed = self._bytes + length, self._packed + packed
            seconds = time.monotonic() - self._since
            if self._phase == "warm up" and self._bytes >= _WARM_UP_BYTES:
                self._begin("plain")
            elif self._phase == "plain" and seconds >= _TRIAL_SECONDS:
                self._rate = self._bytes / seconds
                self._begin("zstd")
            elif self._phase == "zstd" and seconds >= _TRIAL_SECONDS:
                self._decide(self._bytes / seconds)

    def _begin(self, phase: t.Literal["plain", "zstd"]) -> None:
        self._phase, self._zstd = phase, phase == "zstd"
        self._since, self._bytes, self._packed = time.monotonic(), 0, 0

    def _decide(self, rate: float) -> None:
        self._phase, self._zstd = "over", rate >= _WORTH * self._rate
        measured = f"{text.human_bytes(self._rate)}/s without, {text.human_bytes(rate)}/s with, {100 * self._packed / self._bytes:.0f}% of the bytes"
        self.words = f"compression auto: {'zstd' if self._zstd else 'none'} ({measured})"


@contextlib.contextmanager
def ways(aids: t.Mapping[str, str], chooser: Chooser) -> t.Iterator[dict[str, str]]:
    """Local sockets that lead through the aid of each export, compressed: of ``aids``, sockets by name, the same names."""
    zstd.Compressor(1)  # what is missing is told here, not by a connection that breaks
    with tempfile.TemporaryDirectory(prefix="coldmove-zstd-") as folder:
        listeners: list[sockets.socket] = []
        try:
            here = {}
            for number, (name, aid) in enumerate(aids.items()):
                here[name] = f"{folder}/{number}"
                listener = sockets.socket(sockets.AF_UNIX)
                listeners.append(listener)
                listener.bind(here[name])
                listener.listen()
                threading.Thread(target=_accept, args=(listener, aid, chooser), daemon=True).start()
            yield here
        finally:
            for listener in listeners:
                with contextlib.suppress(OSError):
                    listener.shutdown(sockets.SHUT_RDWR)  # a copy of the descriptor may be in another process
                listener.close()


def _accept(listener: sockets.socket, aid: str, chooser: Chooser) -> None:
    with contextlib.suppress(OSError):  # it was closed
        while True:
            near, _address = listener.accept()
            threading.Thread(target=_relay, args=(near, aid, chooser), daemon=True).start()


def _relay(near: sockets.socket, aid: str, chooser: Chooser) -> None:
    """The source's end of one connection."""
    far = sockets.socket(sockets.AF_UNIX)
    with _both(near, far):
        far.connect(aid)
        far.sendall(b"zstd\n")
        with _answers(far, near):
            compressor = zstd.Compressor(PIECE)
            while piece := near.recv(PIECE):
                packed = compressor.compress(piece) if chooser.compresses() else piece
                smaller = len(packed) < len(piece)
                content, mark = (packed, _COMPRESSED) if smaller else (piece, 0)
                far.sendall((len(content) | mark).to_bytes(4, "big") + content)
                chooser.crossed(len(piece), len(content))
            far.shutdown(sockets.SHUT_WR)


def serve(far: sockets.socket, read: t.Callable[[int], bytes], export: str) -> None:
    """The dest's end of one connection: ``read`` gives so many bytes of what comes over ``far``, fewer only at its end."""
    near = sockets.socket(sockets.AF_UNIX)
    with _both(near, far):
        near.connect(export)
        with _answers(near, far):
            decompressor = zstd.Decompressor(PIECE)
            while len(head := read(4)) == 4:
                word = int.from_bytes(head, "big")
                length = word & ~_COMPRESSED
                if length > PIECE or len(content := read(length)) < length:
                    raise ColdmoveError("a frame that is none, or not all of it")
                near.sendall(decompressor.decompress(content) if word & _COMPRESSED else content)
            near.shutdown(sockets.SHUT_WR)


@contextlib.contextmanager
def _both(one: sockets.socket, other: sockets.socket) -> t.Iterator[None]:
    """Whatever ends one of two connections ends the other one; who speaks NBD on them notices and says so."""
    try:
        with contextlib.suppress(OSError, ColdmoveError):
            yield
    finally:
        for socket in (one, other):
            with contextlib.suppress(OSError):
                socket.shutdown(sockets.SHUT_RDWR)
            socket.close()


@contextlib.contextmanager
def _answers(source: sockets.socket, target: sockets.socket) -> t.Iterator[None]:
    """Pass on what comes back. When no more comes, neither end is of use any more."""

    def pump() -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(_ANSWER_BYTES):
                target.sendall(content)
        for socket in (source, target):
            with contextlib.suppress(OSError):
                socket.shutdown(sockets.SHUT_RDWR)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    try:
        yield
        thread.join()
    except BaseException:
        with contextlib.suppress(OSError):
            source.shutdown(sockets.SHUT_RDWR)
        thread.join()
        raise
