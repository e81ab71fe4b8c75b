# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that its owner has locked: neither confirmed nor reverted, but what was begun is finished."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml, servers, verbs

UUID = "0a0a0a0a-0000-4000-8000-000000000001"
LOCK = {"by": "ada", "reason": "audit"}
XML = "<domain><name>web</name><metadata><cm:server xmlns:cm='https://coldmove.github.io/libvirt/1'>{}</cm:server></metadata></domain>"


def record(status: str) -> t.Any:
    """A record of the server."""
    return {"id": 3, "uuid": "m", "server_uuid": UUID, "server_name": "web", "migration_type": "migration", "status": status}


def dead(_record: t.Any) -> t.Any:
    """The run that owned it is gone."""
    return {"state": "dead", "mine": False, "text": ""}


def test_the_lock_is_read_from_a_definition() -> None:
    """As ``virsh metadata --key cm`` writes it."""
    assert domain_xml.lock(XML.format("<cm:locked by='ada' reason='audit'/>")) == LOCK
    assert domain_xml.lock(XML.format("")) is None
    assert domain_xml.lock("<domain><name>web</name></domain>") is None


def test_the_lock_is_found_on_whatever_node_the_server_is() -> None:
    """A node that does not answer has no facts."""
    nodes: t.Any = {"node1": {"facts": None}, "node2": {"facts": {"domains": [{"uuid": "other"}, {"uuid": UUID, "locked": LOCK}]}}}
    assert servers.lock_of(UUID, nodes) == LOCK
    assert servers.lock_of("other", nodes) is None


@pytest.mark.parametrize("verb", ["confirm", "revert"])
def test_a_locked_server_is_neither_confirmed_nor_reverted(verb: str) -> None:
    """The refusal says who has locked it."""
    step = verbs.next_step(verb, [record("finished")], UUID, dead, locked=t.cast("t.Any", LOCK))
    assert step["next"] == "refuse"
    assert "locked by ada (audit)" in step["reason"]
    assert verbs.next_step(verb, [record("finished")], UUID, dead)["next"] == "act"


@pytest.mark.parametrize(("verb", "status"), [("confirm", "confirming"), ("revert", "reverting")])
def test_what_was_begun_is_finished(verb: str, status: str) -> None:
    """Half of it is done: a lock does not make it whole again."""
    assert verbs.next_step(verb, [record(status)], UUID, dead, locked=t.cast("t.Any", LOCK))["next"] == "act"
