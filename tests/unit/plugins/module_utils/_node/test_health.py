# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks of a guest that is made up, with real sockets and real commands."""

from __future__ import annotations

import os
import socket
import threading
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import health as rules
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import health

MAC = "52:54:00:00:00:01"
XML = f"<domain><name>web1</name><uuid>u</uuid><devices><interface type='network'><mac address='{MAC}'/></interface></devices></domain>"
LONG = 60.0  # what a test never waits for


class Host:
    """The libvirt of a node with one server."""

    def __init__(self, *states: str) -> None:
        self.states = list(states or ("running",))
        self.leased: list[tuple[str, str]] = []
        self.agent: t.Any = None

    def domain(self, server: str) -> Host:
        return self

    def identity(self, domain: Host) -> tuple[str, str]:
        return "u", "web1"

    def state_of(self, domain: Host) -> str:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def xml_of(self, domain: Host, live: bool = False, secrets: bool = True) -> str:
        return XML

    def has_agent(self, domain: Host) -> bool:
        return self.agent is not None

    def leases(self, domain: Host) -> list[tuple[str, str]]:
        return self.leased


class Agent:
    """An agent that says what the host was told to have it say."""

    def __init__(self, domain: Host) -> None:
        self.domain = domain

    def ask(self, what: str, arguments: t.Any, timeout: int = 30) -> t.Any:
        if self.domain.agent is None:
            raise ColdmoveError("Guest agent is not responding")
        return self.domain.agent.get(what)


@pytest.fixture(autouse=True)
def agent_and_no_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "GuestAgent", Agent)
    monkeypatch.setattr(health, "_neighbours", list)


@pytest.fixture
def listening() -> t.Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def look(host: Host, *checks: dict[str, t.Any], once: bool = False) -> list[rules.Result]:
    whole = rules.parsed([{"interval": 0.05, "timeout": LONG, **check} for check in checks])
    return t.cast("list[rules.Result]", health.examine(host, "web1", whole, once)["checks"])  # type: ignore[arg-type]


def one(host: Host, once: bool = False, **check: t.Any) -> rules.Result:
    (result,) = look(host, check, once=once)
    return result


# --- patience


def test_a_check_passes_at_its_first_success() -> None:
    result = one(Host("paused", "paused", "running"), type="running")
    assert (result["ok"], result["attempts"], result["detail"]) == (True, 3, "the server is running")


def test_a_check_is_given_up_when_its_time_is_up() -> None:
    result = one(Host("paused"), type="running", timeout=0.2)
    assert (result["ok"], result["detail"]) == (False, "the server is paused")
    assert 2 <= result["attempts"] <= 5
    assert result["seconds"] < 1


def test_no_time_is_one_look() -> None:
    assert one(Host("paused", "running"), type="running", timeout=0)["attempts"] == 1


@pytest.mark.parametrize("state", ["shutoff", "crashed", "absent"])
def test_a_server_that_is_off_is_not_waited_for(state: str) -> None:
    begun = time.monotonic()
    results = look(Host(state), {"type": "running"}, {"type": "agent"}, {"type": "tcp", "port": 9}, {"type": "command", "command": ["true"]})
    assert [(result["ok"], result["detail"]) for result in results] == [(False, f"the server is {state}")] * 4
    assert time.monotonic() - begun < LONG / 2


def test_all_are_made_at_the_same_time(listening: int) -> None:
    begun = time.monotonic()
    slow = {"type": "command", "command": ["sleep", "0.5"]}
    assert all(result["ok"] for result in look(Host(), slow, slow, slow, {"type": "tcp", "port": listening, "address": "127.0.0.1"}))
    assert time.monotonic() - begun < 1.4


def test_running_holds_until_the_others_have_ended() -> None:
    """One look each by both checks at the start, then the last one."""
    results = look(Host("running", "running", "crashed"), {"type": "running"}, {"type": "command", "command": ["sleep", "0.2"]})
    assert results[0]["ok"] is False
    assert results[0]["detail"] == "it is crashed now that the other checks have ended"
    assert results[1]["ok"] is True


def test_no_checks_at_all() -> None:
    assert look(Host()) == []


def test_check_mode_looks_once_and_runs_nothing(tmp_path: Path) -> None:
    results = look(Host("paused"), {"type": "running"}, {"type": "command", "command": ["touch", str(tmp_path / "x")]}, once=True)
    assert [(result["ok"], result["attempts"]) for result in results] == [(False, 1), (None, 0)]
    assert not list(tmp_path.iterdir())


# --- TCP, ping, agent


def test_tcp(listening: int) -> None:
    result = one(Host(), type="tcp", port=listening, address="127.0.0.1")
    assert (result["ok"], result["detail"], result["address"]) == (True, "it accepts connections", "127.0.0.1")


def test_tcp_waits_until_somebody_listens() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        threading.Timer(0.3, server.listen).start()
        assert one(Host(), type="tcp", port=server.getsockname()[1], address="127.0.0.1")["attempts"] > 1


@pytest.mark.parametrize(("address", "words"), [("127.0.0.1", "refused"), ("nosuch.invalid", "")])
def test_tcp_says_what_it_found(address: str, words: str) -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        result = one(Host(), type="tcp", port=taken.getsockname()[1], address=address, timeout=0)
    assert result["ok"] is False
    assert result["detail"]
    assert words in result["detail"]


@pytest.mark.parametrize(("code", "said", "found"), [(0, "", (True, "it answers")), (1, "x", (False, "no answer")), (2, "bad name", (False, "bad name"))])
def test_ping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str, found: tuple[bool, str]) -> None:
    program = tmp_path / "ping"
    program.write_text(f"#!/bin/sh\necho '{said}'\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    result = one(Host(), type="ping", address="10.0.0.5", timeout=0)
    assert (result["ok"], result["detail"]) == found


def test_ping_that_is_not_installed_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = one(Host(), type="ping", address="10.0.0.5")
    assert (result["ok"], result["attempts"], result["detail"]) == (False, 1, "the program ping is missing on this node")


def test_agent() -> None:
    host = Host()
    assert one(host, type="agent", timeout=0)["detail"] == "Guest agent is not responding"
    host.agent = {"guest-ping": {}}
    assert one(host, type="agent")["ok"] is True


# --- addresses


def test_known_addresses_are_tried_until_one_answers(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "addresses", lambda guest: ["127.0.0.2", "127.0.0.1"])
    result = one(Host(), type="tcp", port=listening)
    assert (result["ok"], result["address"]) == (True, "127.0.0.1")


def test_no_address_is_told() -> None:
    result = one(Host(), type="tcp", port=22, timeout=0)
    assert result["ok"] is False
    assert "set the check's address" in result["detail"]


def test_addresses_of_the_guests_own_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """By agent, lease, neighbour table, each address once; not those of loopback, of other interfaces, of one link only."""
    host = Host()
    other = "02:42:00:00:00:01"
    own = [{"ip-address": "10.0.0.5"}, {"ip-address": "fe80::1"}, {"ip-address": "127.0.0.9"}, {"ip-address": "not one"}]
    told = [
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1"}]},
        {"name": "docker0", "hardware-address": other, "ip-addresses": [{"ip-address": "172.17.0.1"}]},
        {"name": "eth0", "hardware-address": MAC.upper(), "ip-addresses": own},
        {"name": "eth1", "hardware-address": MAC},
    ]
    host.agent = {"guest-network-get-interfaces": told}
    host.leased = [(MAC, "10.0.0.5"), (MAC, "10.0.0.6"), (other, "10.0.0.7")]
    monkeypatch.setattr(health, "_neighbours", lambda: [(MAC, "fd00::5"), (other, "fd00::6")])
    guest = health.Guest(host, host, "u", "web1")  # type: ignore[arg-type]
    assert health.addresses(guest) == ["10.0.0.5", "10.0.0.6", "fd00::5"]


@pytest.mark.parametrize("answer", [None, 7, [7], [None], [{"hardware-address": 1, "ip-addresses": 3}], [{"hardware-address": 1, "ip-addresses": [{}]}], {}])
def test_an_agent_that_talks_nonsense_knows_no_address(answer: t.Any) -> None:
    host = Host()
    host.agent = {"guest-network-get-interfaces": answer}
    assert health.addresses(health.Guest(host, host, "u", "web1")) == []  # type: ignore[arg-type]


# --- commands


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["true"], (True, "exit code 0")),
        (["sh", "-c", "echo first; echo last; echo"], (True, "last")),
        (["sh", "-c", "echo why >&2; exit 3"], (False, "exit code 3: why")),
        (["false"], (False, "exit code 1")),
        (["sh", "-c", 'echo "$COLDMOVE_SERVER $COLDMOVE_SERVER_UUID"'], (True, "web1 u")),
        (["echo", "$HOME; `id`"], (True, "$HOME; `id`")),
    ],
)
def test_command(command: list[str], found: tuple[bool, str]) -> None:
    result = one(Host(), type="command", command=command, timeout=0)
    assert (result["ok"], result["detail"]) == found


def test_command_that_does_not_exist() -> None:
    result = one(Host(), type="command", command=["no-such-program"], timeout=0)
    assert result["ok"] is False
    assert "no-such-program" in result["detail"]


def test_command_is_ended_with_its_children_when_its_time_is_up(tmp_path: Path) -> None:
    script = f"sleep {LONG} & echo $! >{tmp_path}/child; wait"
    begun = time.monotonic()
    result = one(Host(), type="command", command=["sh", "-c", script], timeout=1)
    assert (result["ok"], result["attempts"]) == (False, 1)
    assert "no end after 1 s" in result["detail"]
    assert time.monotonic() - begun < LONG / 2
    time.sleep(0.2)
    child = Path("/proc", (tmp_path / "child").read_text().strip(), "stat")
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"


def test_what_a_command_leaves_in_the_background_is_not_waited_for() -> None:
    begun = time.monotonic()
    assert one(Host(), type="command", command=["sh", "-c", "sleep 5 & echo started"])["detail"] == "started"
    assert time.monotonic() - begun < 4
