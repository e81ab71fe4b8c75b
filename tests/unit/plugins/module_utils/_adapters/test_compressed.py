# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compressed way to an export: what goes in at the source's end comes out at the dest's, and a wire that lies is noticed."""

from __future__ import annotations

import contextlib
import random
import socket as sockets
import tempfile
import threading
import typing as t
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import aids, compressed, zstd
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

MIB = 1024 * 1024
PATIENCE = 30


class Counting(compressed.Chooser):
    """Counts what crosses."""

    def __init__(self, choice: compressed.Choice) -> None:
        super().__init__(choice)
        self.plain = self.packed = 0

    def crossed(self, length: int, packed: int) -> None:
        self.plain, self.packed = self.plain + length, self.packed + packed
        super().crossed(length, packed)


@contextlib.contextmanager
def way(chooser: compressed.Chooser) -> t.Iterator[tuple[sockets.socket, t.Callable[[], sockets.socket]]]:
    """A socket at the source's end, and what gives the one that the export gets then."""
    with tempfile.TemporaryDirectory() as folder, sockets.socket(sockets.AF_UNIX) as export:
        export.bind(f"{folder}/export")
        export.listen()
        export.settimeout(PATIENCE)

        def accepted() -> sockets.socket:
            there = export.accept()[0]
            there.settimeout(PATIENCE)
            return there

        served = aids.serving({Path(folder, "export"): "/nonexistent"})
        with served, compressed.ways({"vda": f"{folder}/export.aid"}, chooser) as here, sockets.socket(sockets.AF_UNIX) as near:
            near.settimeout(PATIENCE)
            near.connect(here["vda"])
            yield near, accepted


def all_of(socket: sockets.socket) -> bytes:
    """Everything until the other end says that there is no more."""
    return b"".join(iter(lambda: socket.recv(65536), b""))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=5000), st.integers(min_value=1, max_value=40))
def test_what_is_compressed_is_the_same_in_the_end(seed: bytes, times: int) -> None:
    piece = (seed * times)[:100_000]
    packed = zstd.Compressor(100_000).compress(piece)
    assert zstd.Decompressor(100_000).decompress(packed) == piece
    if len(piece) > 1000:
        with pytest.raises(ColdmoveError, match="zstd: "):
            zstd.Decompressor(len(piece) - 1).decompress(packed)


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x28\xb5\x2f\xfd", bytes(100)])
def test_what_is_no_zstd_is_told(junk: bytes) -> None:
    if junk:  # nothing is what nothing was
        with pytest.raises(ColdmoveError, match="zstd: "):
            zstd.Decompressor(1000).decompress(junk)


@pytest.mark.parametrize("choice", ["none", "zstd", "auto"])
def test_both_ways_are_passed_on_until_both_ends_are_done(choice: compressed.Choice) -> None:
    sent = random.Random(1).randbytes(3 * MIB) + b"text " * MIB + random.Random(2).randbytes(77)
    chooser = Counting(choice)
    with way(chooser) as (near, accepted):
        sender = threading.Thread(target=lambda: (near.sendall(sent), near.shutdown(sockets.SHUT_WR)), daemon=True)
        sender.start()
        with accepted() as there:
            there.sendall(b"welcome")
            assert near.recv(100) == b"welcome"
            assert all_of(there) == sent
            there.sendall(b"thanks" * 1000)
        assert all_of(near) == b"thanks" * 1000
        sender.join(PATIENCE)
    assert chooser.plain == len(sent)
    if choice == "zstd":
        assert 3 * MIB <= chooser.packed < 3.2 * MIB  # what cannot be compressed has not grown


def test_a_request_that_is_sent_arrives_without_the_next_one() -> None:
    with way(compressed.Chooser("zstd")) as (near, accepted):
        near.sendall(b"a question" * 10)
        with accepted() as there:
            assert there.recv(1000) == b"a question" * 10


def test_an_export_that_ends_ends_the_connection() -> None:
    with way(compressed.Chooser("zstd")) as (near, accepted):
        near.sendall(b"x")
        accepted().close()
        assert near.recv(10) == b""


@pytest.mark.parametrize(
    "frame",
    [(5 | 1 << 31).to_bytes(4, "big") + b"wrong", (compressed.PIECE + 1).to_bytes(4, "big") + bytes(compressed.PIECE + 1), (9).to_bytes(4, "big") + b"short"],
    ids=["no zstd", "too large", "cut"],
)
def test_what_comes_over_the_wire_and_is_no_frame_reaches_nobody(frame: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, sockets.socket(sockets.AF_UNIX) as export, sockets.socket(sockets.AF_UNIX) as wire:
        export.bind(f"{folder}/export")
        export.listen()
        with aids.serving({Path(folder, "export"): "/nonexistent"}):
            wire.settimeout(PATIENCE)
            wire.connect(f"{folder}/export.aid")
            wire.sendall(b"zstd\n" + (4).to_bytes(4, "big") + b"good")
            with export.accept()[0] as there:
                there.settimeout(PATIENCE)
                with contextlib.suppress(BrokenPipeError):  # it does not listen to the end
                    wire.sendall(frame)
                    wire.shutdown(sockets.SHUT_WR)
                assert all_of(there) == b"good"
            with contextlib.suppress(ConnectionResetError):
                assert wire.recv(10) == b""


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("plain", "packed", "ratio", "taken"),
    [
        (10 * MIB, 25 * MIB, 0.4, True),
        (500 * MIB, 300 * MIB, 0.4, False),
        (100 * MIB, 105 * MIB, 0.5, False),  # not worth the CPU time
        (100 * MIB, 99 * MIB, 1.0, False),
    ],
)
def test_auto_takes_what_was_faster_and_says_why(monkeypatch: pytest.MonkeyPatch, plain: int, packed: int, ratio: float, taken: bool) -> None:
    clock = Clock()
    monkeypatch.setattr(compressed, "time", clock)
    chooser = compressed.Chooser("auto")
    assert "not measured yet" in chooser.words
    chooser.crossed(20 * MIB, 20 * MIB)  # the buffers on the way take what comes first at once, whatever the link
    for _piece in range(100):
        clock.now += 0.1
        rate, crosses = (packed, ratio) if chooser.compresses() else (plain, 1)
        chooser.crossed(rate // 10, int(rate // 10 * crosses))
    assert chooser.compresses() is taken
    assert chooser.words.startswith(f"compression auto: {'zstd' if taken else 'none'} (")
    assert f"{100 * ratio:.0f}% of the bytes" in chooser.words


def test_a_choice_that_was_made_is_not_measured() -> None:
    for choice, wanted in (("none", False), ("zstd", True)):
        chooser = compressed.Chooser(t.cast("compressed.Choice", choice))
        chooser.crossed(100 * MIB, 100 * MIB)
        assert chooser.compresses() is wanted


def test_a_node_without_the_library_is_told_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd, "_NAME", "libnosuch.so.1")
    with pytest.raises(ColdmoveError, match=r"compression needs libnosuch\.so\.1"), compressed.ways({}, compressed.Chooser("zstd")):
        pass
