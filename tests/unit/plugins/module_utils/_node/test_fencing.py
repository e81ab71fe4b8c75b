# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switching by an agent that is made up: what is read decides, never what is said."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.fencing import Patience, Power


class Agent:
    """Says the given powers, one after the other, the last one for ever; those of a command after it was given."""

    name = "fence_made"

    def __init__(self, *powers: str, then: t.Sequence[str] = (), success: str = "Success: Powered OFF") -> None:
        self.powers, self.then, self.success = list(powers), list(then), success
        self.commands: list[str] = []

    def power(self) -> tuple[str, str]:
        power = self.powers.pop(0) if len(self.powers) > 1 else self.powers[0]
        return power, f"Status: {power}"

    def switch(self, wanted: str) -> str:
        self.commands.append(wanted)
        self.powers = self.then or self.powers
        return self.success


def power(agent: Agent, attempts: int = 2) -> Power:
    return Power(t.cast("t.Any", agent), Patience(attempts, 3, 0))


def test_a_node_that_is_off_is_not_switched() -> None:
    agent = Agent("off")
    found = power(agent)
    assert not found.ensure("off")
    assert (agent.commands, [reading["power"] for reading in found.readings]) == ([], ["off"] * 3)


def test_one_reading_is_not_believed() -> None:
    """It read off once, and is on."""
    agent = Agent("off", "on", then=["off"])
    assert power(agent).ensure("off")
    assert agent.commands == ["off"]


def test_switched_and_read_back() -> None:
    agent = Agent("on", then=["on", "unknown", "off", "unknown", "off"])
    found = power(agent, attempts=5)
    assert found.ensure("off")
    assert [reading["power"] for reading in found.readings[-3:]] == ["off"] * 3


def test_success_without_effect_is_a_failure() -> None:
    agent = Agent("on")
    with pytest.raises(ColdmoveError, match=r"not proven off: .* 2 times and says 'Success: Powered OFF', .* is on \(Status: on\)") as caught:
        power(agent).ensure("off")
    assert agent.commands == ["off"] * 2
    assert caught.value.result["power"] == "on"
    assert len(caught.value.result["readings"]) > 3


def test_failure_with_effect_is_a_success() -> None:
    assert power(Agent("on", then=["off"], success="Connection timed out")).ensure("off")


def test_nothing_is_switched_blindly() -> None:
    agent = Agent("unknown")
    with pytest.raises(ColdmoveError, match="cannot be read by fence_made: Status: unknown. Nothing was switched"):
        power(agent).ensure("off")
    assert agent.commands == []


def test_a_slow_answer_is_waited_for() -> None:
    agent = Agent("unknown", "off")
    assert not power(agent).ensure("off")


def test_on_too() -> None:
    agent = Agent("off", then=["on"])
    assert power(agent).ensure("on")
    assert not power(agent).ensure("on")
