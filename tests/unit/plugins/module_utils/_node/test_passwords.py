# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new password by the guest agent: waited for as long as was said, refused with what to do, and repeated by nobody."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import passwords

CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
ROOT = passwords.Account("root", "s3cret")


class Host:
    """The libvirt of a node with one server, whose agent answers after some questions (None: never)."""

    def __init__(self, answers_after: int | None = 0, state: str = "running", channel: str = CHANNEL) -> None:
        self.answers_after, self.state, self.channel = answers_after, state, channel
        self.asked = 0
        self.set: list[tuple[str, str]] = []

    def domain(self, server: str) -> Host:
        return self

    def identity(self, domain: Host) -> tuple[str, str]:
        return "u", "web1"

    def state_of(self, domain: Host) -> str:
        return self.state

    def xml_of(self, domain: Host, live: bool = False, secrets: bool = True) -> str:
        return f"<domain><name>web1</name><devices>{self.channel}</devices></domain>"

    def set_user_password(self, domain: Host, user: str, password: str, seconds: float) -> None:
        self.set.append((user, password))

    def answers(self) -> bool:
        self.asked += 1
        return self.answers_after is not None and self.asked > self.answers_after


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time passes only by sleeping."""
    now = [100.0]
    monkeypatch.setattr(passwords, "GuestAgent", lambda domain: domain)
    monkeypatch.setattr(passwords.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(passwords.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def set_password(host: Host, timeout: float = 10, dry_run: bool = False) -> dict[str, t.Any]:
    return passwords.set_password(host, "web1", ROOT, timeout, dry_run)  # type: ignore[arg-type]


@pytest.mark.parametrize("after", [0, 1, 9])
def test_it_is_set_once_the_agent_answers(after: int) -> None:
    host = Host(after)
    result = set_password(host)
    assert (result["changed"], result["user"], result["seconds"]) == (True, "root", float(after))
    assert host.set == [("root", "s3cret")]
    assert "s3cret" not in str(result)


@pytest.mark.parametrize(("timeout", "questions"), [(0, 1), (10, 11)])
def test_an_agent_that_never_answers_is_waited_for_as_long_as_was_said(clock: list[float], timeout: float, questions: int) -> None:
    host = Host(None)
    with pytest.raises(ColdmoveError, match="no guest agent has answered in server web1") as caught:
        set_password(host, timeout)
    assert (host.asked, clock[0] - 100, host.set) == (questions, timeout, [])
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("channel", ["", CHANNEL.replace("guest_agent", "other")])
def test_without_a_channel_nothing_is_waited_for(channel: str) -> None:
    host = Host(channel=channel)
    with pytest.raises(ColdmoveError, match="has no channel for a guest agent"):
        set_password(host)
    assert host.asked == 0


@pytest.mark.parametrize("state", ["shutoff", "crashed", "absent"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_server_that_is_off_is_refused(state: str, dry_run: bool) -> None:
    with pytest.raises(ColdmoveError, match=f"server web1 is {state}.*next: virsh start web1"):
        set_password(Host(state=state), dry_run=dry_run)


def test_a_server_that_stops_meanwhile_is_not_waited_for(clock: list[float]) -> None:
    class Stops(Host):
        def answers(self) -> bool:
            self.state = "shutoff" if self.asked else "running"
            return super().answers()

    with pytest.raises(ColdmoveError, match="web1 is shutoff"):
        set_password(Stops(None), 600)
    assert clock[0] < 110


def test_check_mode_asks_nobody() -> None:
    host = Host()
    assert set_password(host, dry_run=True)["changed"]
    assert (host.asked, host.set) == (0, [])
