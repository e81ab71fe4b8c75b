# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay between a real qemu-nbd and real clients (qemu-io, libnbd): what passes, what it counts, and whom it holds responsible for the end."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import exports
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.nbd_relay import Relay
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.nbd_stream import NO_SPACE, Replies, Requests

needs_nbd = pytest.mark.skipif(not (shutil.which("qemu-nbd") and exports.HAS_NBD), reason="qemu-nbd and the Python library nbd (libnbd) are needed")

MIB = 1024 * 1024
PATIENCE = 30


def until(true: t.Callable[[], t.Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture
def folder() -> t.Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cm-") as name:
        yield Path(name)


@pytest.fixture
def image(folder: Path) -> t.Iterator[Path]:
    """A disk of 16 MiB that qemu-nbd serves on the socket `export`."""
    path, pid_file = folder / "disk", folder / "pid"
    with open(path, "wb") as stream:
        stream.truncate(16 * MIB)
    exports.start_export(str(path), "raw", "vda", folder / "export", pid_file)
    yield path
    exports.stop_export(folder / "export", pid_file)


@pytest.fixture
def relay(folder: Path) -> t.Iterator[Relay]:
    made = Relay(folder / "mine", str(folder / "export"), os.getuid())
    yield made
    made.close()


def client(folder: Path) -> t.Any:
    handle = exports.nbd.NBD()
    handle.set_export_name("vda")
    handle.connect_unix(str(folder / "mine"))
    return handle


@needs_nbd
def test_what_is_written_arrives_and_is_counted(image: Path, relay: Relay, folder: Path) -> None:
    handle = client(folder)
    for number in range(40):
        handle.pwrite(bytes([number]) * 100_000, number * 100_000)
    handle.flush()
    assert handle.pread(100_000, 3_900_000) == bytes([39]) * 100_000
    assert (relay.unanswered, relay.error, relay.ended) == (0, 0, "")
    handle.shutdown()
    until(lambda: relay.ended)
    assert (relay.ended, relay.unanswered, relay.error) == ("client", 0, 0)
    assert relay.sent_bytes > 4_000_000
    assert image.read_bytes()[500_000:600_000] == bytes([5]) * 100_000


@needs_nbd
def test_qemu_speaks_through_it(image: Path, relay: Relay, folder: Path) -> None:
    """QEMU's own client, which asks for structured replies and for the extents."""
    target = f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={folder / 'mine'},file.export=vda"
    words = ["qemu-io", "--image-opts", target, "-c", "write -P 7 0 3M", "-c", "write -z 4M 1M", "-c", "flush", "-c", "read -P 7 1M 1M", "-c", "map"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "failed" not in done.stdout, done.stdout
    until(lambda: relay.ended)
    assert (relay.ended, relay.unanswered, relay.error, relay.problem) == ("client", 0, 0, "")
    assert image.read_bytes()[: 3 * MIB] == bytes([7]) * 3 * MIB


@needs_nbd
def test_the_server_goes_away(image: Path, relay: Relay, folder: Path) -> None:
    handle = client(folder)
    handle.pwrite(b"x" * 4096, 0)
    exports.stop_export(folder / "export", folder / "pid")
    until(lambda: relay.ended)
    assert relay.ended == "server"
    with pytest.raises(exports.nbd.Error):
        handle.pwrite(b"x" * 4096, 0)


@needs_nbd
def test_an_error_is_remembered(folder: Path) -> None:
    """A disk that is full answers with ENOSPC."""
    if not Path("/dev/full").exists():
        pytest.fail("a Linux system has /dev/full")
    words = ["qemu-nbd", "-t", "-x", "vda", "-k", str(folder / "export"), "--fork", "--pid-file", str(folder / "pid")]
    options = "driver=blkdebug,image.driver=null-co,image.size=1048576,inject-error.0.event=none,inject-error.0.errno=28,inject-error.0.iotype=write"
    subprocess.run([*words, "--image-opts", options], check=True, timeout=PATIENCE)
    relay = Relay(folder / "mine", str(folder / "export"), os.getuid())
    try:
        handle = client(folder)
        with pytest.raises(exports.nbd.Error):
            handle.pwrite(b"x" * 4096, 0)
        assert relay.error == NO_SPACE
        assert relay.unanswered == 0
    finally:
        relay.close()
        exports.stop_export(folder / "export", folder / "pid")


def test_nobody_is_there(folder: Path) -> None:
    relay = Relay(folder / "mine", str(folder / "nothing"), os.getuid())
    with socket.socket(socket.AF_UNIX) as client_socket:
        client_socket.connect(str(folder / "mine"))
        assert client_socket.recv(1) == b""
    assert (relay.ended, bool(relay.problem)) == ("server", True)
    relay.close()
    assert not (folder / "mine").exists()


def test_its_socket_is_for_one_account(folder: Path) -> None:
    relay = Relay(folder / "mine", str(folder / "nothing"), os.getuid())
    assert os.stat(folder / "mine").st_mode & 0o777 == 0o600
    relay.close()


def test_silence_is_seen_and_ended(folder: Path) -> None:
    """The other end takes a request and does not answer: the time is counted, and break_off() lets the client fail."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "export"))
        listener.listen(1)
        relay = Relay(folder / "mine", str(folder / "export"), os.getuid())
        with socket.socket(socket.AF_UNIX) as mine:
            mine.connect(str(folder / "mine"))
            server, _address = listener.accept()
            threading.Thread(target=lambda: server.recv(65536), daemon=True).start()
            mine.sendall(CLIENT_HELLO + write_request(1, b"x" * 512))
            until(lambda: relay.unanswered == 1)
            until(lambda: relay.waits() > 0.2)
            relay.break_off()
            assert mine.recv(1) == b""
        assert (relay.ended, relay.waits()) == ("broken", 0.0)
        relay.close()
        server.close()


# --- the framing

CLIENT_HELLO = struct.pack(">I", 3) + struct.pack(">QII", 0x49484156454F5054, 8, 0) + struct.pack(">QII", 0x49484156454F5054, 7, 6) + b"123456"
SERVER_HELLO = (
    b"NBDMAGICIHAVEOPT\0\3"
    + struct.pack(">QIII", 0x3E889045565A9, 8, 1, 0)
    + struct.pack(">QIII", 0x3E889045565A9, 7, 3, 12)
    + b"x" * 12
    + struct.pack(">QIII", 0x3E889045565A9, 7, 1, 0)
)


def write_request(handle: int, data: bytes) -> bytes:
    return struct.pack(">IHHQQI", 0x25609513, 0, 1, handle, 0, len(data)) + data


def in_pieces(stream: Requests | Replies, data: bytes, cuts: list[int]) -> None:
    at = 0
    for cut in cuts:
        stream.feed(data[at : at + cut])
        at += cut
    stream.feed(data[at:])


@given(st.lists(st.integers(0, 300), max_size=8), st.lists(st.integers(1, 40), max_size=40))
def test_requests_are_counted_however_they_are_cut(lengths: list[int], cuts: list[int]) -> None:
    flush = struct.pack(">IHHQQI", 0x25609513, 0, 3, 99, 0, 0)
    zeroes = struct.pack(">IHHQQI", 0x25609513, 0, 6, 98, 0, 1 << 20)  # without content
    data = CLIENT_HELLO + b"".join(write_request(number, b"y" * length) for number, length in enumerate(lengths)) + flush + zeroes
    stream = Requests()
    in_pieces(stream, data, cuts)
    assert (stream.count, stream.parted) == (len(lengths) + 2, False)
    stream.feed(struct.pack(">IHHQQI", 0x25609513, 0, 2, 97, 0, 0))
    assert (stream.count, stream.parted) == (len(lengths) + 2, True)


@given(st.lists(st.sampled_from(["simple", "chunks", "error"]), max_size=12), st.lists(st.integers(1, 40), max_size=40))
def test_replies_are_counted_however_they_are_cut(kinds: list[str], cuts: list[int]) -> None:
    made = {
        "simple": struct.pack(">IIQ", 0x67446698, 0, 1),
        "chunks": struct.pack(">IHHQI", 0x668E33EF, 0, 1, 2, 10) + b"0123456789" + struct.pack(">IHHQI", 0x668E33EF, 1, 0, 2, 0),
        "error": struct.pack(">IHHQI", 0x668E33EF, 1, (1 << 15) + 1, 3, 9) + struct.pack(">IH", 5, 3) + b"bad",
    }
    stream = Replies()
    in_pieces(stream, SERVER_HELLO + b"".join(made[kind] for kind in kinds), cuts)
    assert (stream.count, stream.error) == (len(kinds), 5 if "error" in kinds else 0)


@pytest.mark.parametrize(("stream", "hello"), [(Requests, CLIENT_HELLO), (Replies, SERVER_HELLO)])
def test_what_is_not_nbd_is_told(stream: type[Requests | Replies], hello: bytes) -> None:
    with pytest.raises(ColdmoveError, match="not NBD"):
        stream().feed(hello + b"GET / HTTP/1.1\r\n\r\n" + b" " * 64)
