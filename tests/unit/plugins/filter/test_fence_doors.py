# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doors to the rules of fencing."""

from __future__ import annotations

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.filter import fence_blockers, fence_proof

NODES = {"a": {"reachable": False}, "b": {"reachable": True}, "c": {"reachable": True}}
FENCE = {"agent": "fence_ipmilan", "options": {"ip": "192.0.2.1"}}
blockers = fence_blockers.FilterModule().filters()["fence_blockers"]
proof = fence_proof.FilterModule().filters()["fence_proof"]


@pytest.mark.parametrize("module", [fence_blockers, fence_proof])
def test_documentation_is_whole(module):
    assert yaml.safe_load(module.DOCUMENTATION)["name"] == module.__name__.rpartition(".")[2]
    assert yaml.safe_load(module.RETURN)["_value"]["type"]


def test_strings_of_a_survey():
    both = {"a": {"reachable": False}, "b": {"reachable": False}}
    assert blockers("a", both, fence=FENCE, accept_mass_failure="") != []
    assert blockers("a", both, fence=FENCE, accept_mass_failure="true") == []
    assert blockers("a", NODES, fence="{agent: fence_ipmilan}") == [
        "the variable fence of a is malformed: it must be a dictionary like {agent: fence_ipmilan, options: {ip: …, username: …, password: …}}"
    ]
    assert blockers("a", NODES, fence="", fenced_by=None)[0].startswith("nothing proves that a is off")


def test_the_controllers_word_is_a_look():
    assert blockers("a", NODES, fence=FENCE, looks=[], controller={"node_silent": True, "msg": "timed out"}) == []
    assert "answers to the controller" in blockers("a", NODES, fence=FENCE, looks=[], controller={"ping": "pong"})[0]


def test_a_proof_or_one_clear_line():
    off = {"readings": [{"at": "t", "power": "off", "detail": ""}] * 3}
    assert proof("a", fence=FENCE, started_by="ops", at="now", power=off)["proven"] is True
    with pytest.raises(AnsibleFilterError, match="was not read as off 3 times"):
        proof("a", fence=FENCE, started_by="ops", at="now", power={})
