# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent again of a copy that broke: nothing that the dest has. With real qemu-nbd; the aid of an export is served by this very process."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket as sockets
import threading
import time
import typing as t
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import aids, exports
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import resuming
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._node.open_files import users_of

pytestmark = [
    pytest.mark.skipif(not all(map(shutil.which, ("qemu-nbd", "setpriv"))), reason="qemu-nbd and setpriv are needed"),
    pytest.mark.skipif(not exports.HAS_NBD, reason="the Python library nbd (libnbd) is needed"),
]

MIB = 1024 * 1024
PATIENCE = 60  # what a loaded machine may take


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def sparse(path: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    with open(path, "wb") as stream:
        stream.truncate(size)
        for offset, piece in pieces:
            stream.seek(offset)
            stream.write(piece)
    return path


class Dest:
    """A file of the dest, its export and its aid."""

    def __init__(self, path: Path, socket: Path, pid: int) -> None:
        self.path, self.socket, self.pid = path, socket, pid

    def written(self) -> int:
        """Bytes that were written into the file; zeroes that were made are none."""
        lines = Path(f"/proc/{self.pid}/io").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


@contextlib.contextmanager
def dest_of(path: Path) -> t.Iterator[Dest]:
    socket, pid_file = path.with_suffix(".socket"), path.with_suffix(".pid")
    pid = exports.start_export(str(path), "raw", "vda", socket, pid_file)
    try:
        with aids.serving({socket: str(path)}):
            yield Dest(path, socket, pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        exports.stop_export(socket, pid_file)


def work(source: Path, dest: Dest, limit: int = 0) -> resuming.Work:
    return resuming.Work(str(source), str(dest.socket), aids.beside(str(dest.socket)), "vda", limit)


def resume(source: Path, dest: Dest, limit: int = 0) -> tuple[int, int]:
    """Bytes that were there, and that are there now."""
    with resuming.Attempt(work(source, dest, limit)) as attempt:
        deadline = time.monotonic() + PATIENCE
        while not attempt.ended(0.1):
            assert time.monotonic() < deadline, "it did not end"
        return attempt.already_there, attempt.done


def until(true: t.Callable[[], t.Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


# --- what crosses


def test_only_blocks_that_differ_cross_the_wire(root: Path) -> None:
    content = noise(32 * MIB)
    source = sparse(root / "source", 64 * MIB, (0, content))
    # Half of it has come; one byte of that is wrong, and something lies where the source has a hole.
    with dest_of(sparse(root / "dest", 64 * MIB, (0, content[: 16 * MIB]), (5 * MIB, b"!"), (50 * MIB, b"left"))) as dest:
        before = dest.written()
        assert resume(source, dest) == (12 * MIB, 32 * MIB)
        assert 20 * MIB <= dest.written() - before < 21 * MIB
        assert resume(source, dest) == (32 * MIB, 32 * MIB)
        assert dest.written() - before < 21 * MIB
    assert dest.path.read_bytes() == source.read_bytes()
    assert dest.path.stat().st_blocks * 512 < 33 * MIB  # what was left is a hole again


#: Of some pieces of 4 KiB each: a hole, written zeroes, or one of two contents.
PIECES = st.lists(st.sampled_from([None, 0, 1, 2]), min_size=1, max_size=60)


@pytest.mark.parametrize("tail", [0, 1, 511])
def test_whatever_both_ends_have_the_dest_is_equal_in_the_end(root: Path, monkeypatch: pytest.MonkeyPatch, tail: int) -> None:
    monkeypatch.setattr(aids, "BLOCK", 16 * 1024)
    monkeypatch.setattr(resuming, "PIECE", 6 * 1024)  # pieces do not end where blocks do

    def written(name: str, pieces: list[int | None], size: int) -> Path:
        path = root / name
        path.unlink(missing_ok=True)
        filled = [(number * 4096, bytes([piece]) * 4096) for number, piece in enumerate(pieces) if piece is not None and (number + 1) * 4096 <= size]
        return sparse(path, size, *filled)

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(PIECES, PIECES)
    def check(mine: list[int | None], theirs: list[int | None]) -> None:
        size = len(mine) * 4096 + tail
        source = written("source", mine, size)
        with dest_of(written("dest", theirs, size)) as dest:
            there, now = resume(source, dest)
        assert dest.path.read_bytes()[:size] == source.read_bytes()
        assert 0 <= there <= now

    check()


def test_a_limit_is_kept(root: Path) -> None:
    source = sparse(root / "source", 4 * MIB, (0, noise(4 * MIB)))
    with dest_of(sparse(root / "dest", 4 * MIB)) as dest:
        begun = time.monotonic()
        resume(source, dest, 4 * MIB)
        assert time.monotonic() - begun > 0.5  # without a limit it takes a few hundredths


# --- how it ends


def test_a_channel_that_breaks_ends_it_with_words(root: Path) -> None:
    source = sparse(root / "source", 16 * MIB, (0, noise(16 * MIB)))
    with dest_of(sparse(root / "dest", 16 * MIB)) as dest, resuming.Attempt(work(source, dest, 4 * MIB)) as attempt:
        until(lambda: attempt.done)
        os.kill(dest.pid, signal.SIGKILL)
        with pytest.raises(ColdmoveError, match="could not send what the dest has not yet of .*source: NBD export 'vda'"):
            until(lambda: attempt.ended(0.1))
    until(lambda: not users_of(source))


def test_what_hangs_is_gone_when_it_is_given_up(root: Path) -> None:
    source = sparse(root / "source", 16 * MIB, (0, noise(16 * MIB)))
    with dest_of(sparse(root / "dest", 16 * MIB)) as dest:
        with resuming.Attempt(work(source, dest, 4 * MIB)) as attempt:
            until(lambda: attempt.done)
            os.kill(dest.pid, signal.SIGSTOP)
            before = -1
            while before != attempt.moves:
                before = attempt.moves
                assert not attempt.ended(1)
        assert not users_of(source)


def test_a_dest_without_an_aid_is_told(root: Path) -> None:
    source = sparse(root / "source", MIB)
    with dest_of(sparse(root / "dest", MIB)) as dest:
        Path(aids.beside(str(dest.socket))).unlink()
        with pytest.raises(ColdmoveError, match="could not tell what it has already: No such file"):
            resume(source, dest)


# --- the aid itself


def test_the_holes_of_a_file_are_neither_read_nor_told_one_by_one(root: Path) -> None:
    path = sparse(root / "dest", 1 << 40, (1 << 39, b"x"))
    with aids.serving({root / "socket": str(path)}), sockets.socket(sockets.AF_UNIX) as asking:
        asking.settimeout(PATIENCE)
        asking.connect(aids.beside(str(root / "socket")))
        asking.sendall(f"digests {1 << 40}\n".encode())
        lines = asking.makefile("r").read().splitlines()
    half = (1 << 39) // aids.BLOCK
    assert lines == [f"zero {half}", aids.block_digest(b"x" + bytes(aids.BLOCK - 1)), f"zero {half - 1}", "end"]


def test_written_zeroes_and_holes_are_the_same(root: Path) -> None:
    path = sparse(root / "dest", 3 * aids.BLOCK + 5, (aids.BLOCK, bytes(aids.BLOCK)), (3 * aids.BLOCK, b"tail!"))
    with aids.serving({root / "socket": str(path)}):
        assert list(aids.digests(aids.beside(str(root / "socket")), path.stat().st_size)) == [aids.ZERO] * 3 + [aids.block_digest(b"tail!")]
        assert list(aids.digests(aids.beside(str(root / "socket")), 0)) == []
    assert not Path(aids.beside(str(root / "socket"))).exists()


@pytest.mark.parametrize("said", [b"digests -1\n", b"digests 5 6\n", b"\n", b"x" * 1000, b"digests 99999999999999999999999999\n"])
def test_what_nobody_asks_is_answered_by_an_error(root: Path, said: bytes) -> None:
    with aids.serving({root / "socket": str(sparse(root / "dest", 5))}), sockets.socket(sockets.AF_UNIX) as asking:
        asking.settimeout(PATIENCE)
        asking.connect(aids.beside(str(root / "socket")))
        asking.sendall(said)
        assert asking.recv(100).startswith((b"error ", b"zero "))


@pytest.mark.parametrize("answer", ["zero 3\nend\n", "ab\nend\n", "ab\nab\nab\nend\n", "ab\nab\n", "", "error its disk is broken\n", "zero 0\n", "a b c\n"])
def test_an_answer_of_another_length_is_no_answer(root: Path, answer: str) -> None:
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(aids.beside(str(root / "socket")))
        listener.listen()
        asked = aids.digests(aids.beside(str(root / "socket")), 2 * aids.BLOCK)

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(answer.encode())

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(ColdmoveError, match=r"could not tell what it has already: (the channel broke|its answer|its disk|3|0|b c)"):
            list(asked)
