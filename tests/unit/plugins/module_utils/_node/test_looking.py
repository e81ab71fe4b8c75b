# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at hosts that are made of real sockets."""

from __future__ import annotations

import socket
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._node import looking
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.looking import Place


@pytest.fixture(autouse=True)
def no_ping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Echoes are not answered, unless a test says so."""
    program = tmp_path / "ping"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return program


@pytest.fixture
def server() -> t.Iterator[t.Callable[[bytes], int]]:
    """Start a server that greets so; its port."""
    opened = []

    def start(greeting: bytes) -> int:
        listening = socket.create_server(("127.0.0.1", 0))
        opened.append(listening)

        def greet() -> None:
            try:
                connection, _peer = listening.accept()
            except OSError:
                return
            connection.sendall(greeting)
            opened.append(connection)

        threading.Thread(target=greet, daemon=True).start()
        return int(listening.getsockname()[1])

    yield start
    for each in opened:
        each.close()


def look(*places: tuple[str, int]) -> t.Any:
    return looking.look("b", [Place(*place) for place in places], 1)


def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_ssh(server: t.Callable[[bytes], int]) -> None:
    """At one of its addresses."""
    seen = look(("nosuch.invalid", 22), ("127.0.0.1", server(b"SSH-2.0-x\r\n")))
    assert (seen["by"], seen["ssh"], seen["ping"]) == ("b", True, False)
    assert seen["detail"].endswith("ssh answers, ping no answer")


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1"], ids=["mute", "other"])
def test_a_host_whose_sshd_hangs_is_there(server: t.Callable[[bytes], int], greeting: bytes) -> None:
    seen = look(("127.0.0.1", server(greeting)))
    assert (seen["ssh"], seen["host"]) == (False, True)


def test_a_refusal_is_an_answer() -> None:
    seen = look(("127.0.0.1", closed()))
    assert (seen["ssh"], seen["host"]) == (False, True)
    assert "refused" in seen["detail"]


def test_silence() -> None:
    seen = look(("nosuch.invalid", 22), ("nosuch.invalid", 22))
    assert (seen["ssh"], seen["host"], seen["ping"]) == (False, False, False)
    assert not any(looking.look("b", [], 1)[way] for way in ("ssh", "host", "ping"))
    assert seen["detail"].count("nosuch.invalid") == 1


def test_ping(no_ping: Path) -> None:
    no_ping.write_text("#!/bin/sh\nexit 0\n")
    assert look(("nosuch.invalid", 22))["ping"] is True


def test_ping_that_is_missing_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert look(("nosuch.invalid", 22))["ping"] is None
