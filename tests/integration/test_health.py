# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""virt_health_check as a task runs it, against real guests: one with an agent, one without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.runs import environment

from lab import GuestSpec, Lab
from lab.shell import wait_for

pytestmark = pytest.mark.lab

Check = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One node with two guests that run."""
    with Lab(f"h{os.getpid()}", nodes=1) as made:
        for spec in (GuestSpec("plain"), GuestSpec("talks", agent=True)):
            made.start_guest("node1", made.define_guest("node1", spec))
        wait_for("the agent", lambda: "state='connected'" in made.virsh("node1", "dumpxml", "talks"), 30)
        yield made


@pytest.fixture
def check(lab: Lab) -> Check:
    """Run the module on the node; what it returned, and whether it `failed`."""

    def run(server: str, *checks: dict[str, Any], options: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
        argv = [str(Path(sys.executable).with_name("ansible")), "node1", "-i", str(lab.inventory_path), *options]
        argv += ["-m", "coldmove.libvirt.virt_health_check", "-a", json.dumps({"server": server, "checks": checks, **more})]
        done = subprocess.run(argv, cwd="/", env=environment(2), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        answer = done.stdout.partition("=> ")[2]
        assert answer, done.stdout + done.stderr
        return {**json.JSONDecoder().raw_decode(answer)[0], "failed": done.returncode != 0}

    return run


def as_migration(number: int = 1) -> dict[str, Any]:
    """What makes it a step of a migration: a job of the node, polled by the action plugin."""
    return {"migration_uuid": str(uuid.uuid4()), "migration_epoch": number, "wait_seconds": 1}


@pytest.mark.parametrize("migration", [{}, as_migration()], ids=["on its own", "in a migration"])
def test_a_healthy_guest_passes(lab: Lab, check: Check, migration: dict[str, Any]) -> None:
    """Every type; the agent tells the addresses. In a migration the job outlasts one call of the module."""
    guest = lab.guest("talks")
    tcp = {"type": "tcp", "port": 4711}
    command = {"type": "command", "command": ["sh", "-c", "sleep 2; echo $COLDMOVE_SERVER"]}
    result = check("talks", {"type": "running"}, {"type": "agent"}, tcp, {**tcp, "address": guest.ipv6}, {"type": "ping"}, command, **migration)
    assert not result["failed"], result
    assert (result["changed"], result["uuid"], result["name"], result["state"]) == (False, guest.uuid, "talks", "running")
    assert [found["ok"] for found in result["checks"]] == [True] * 6
    assert [found["address"] for found in result["checks"]] == [None, None, guest.ipv4, guest.ipv6, guest.ipv4, None]
    assert result["checks"][5]["detail"] == "talks"
    assert result.get("job", {"state": "done"})["state"] == "done"


def test_all_that_fails_is_told_at_once(lab: Lab, check: Check) -> None:
    """With what was found, and what passed beside it; the step can be repeated, and looks anew."""
    address, migration = lab.guest("plain").ipv4, as_migration()
    bad = [
        {"type": "tcp", "port": 4712, "address": address, "timeout": "2"},
        {"type": "agent", "timeout": 1},
        {"type": "command", "command": ["false"], "timeout": 0},
    ]
    result = check("plain", *bad, {"type": "running"}, **migration)
    assert result["failed"]
    assert result["msg"].startswith("server plain did not pass 3 of 4 health checks: ")
    for words in (f"TCP port 4712 of {address}: Connection refused", "guest agent: ", "command false: exit code 1 (tried for 0.0 s, once)"):
        assert words in result["msg"]
    assert [found["ok"] for found in result["checks"]] == [False, False, False, True]
    assert not check("plain", {"type": "running"}, **migration)["failed"]


def test_neighbour_table_tells_the_address(lab: Lab, check: Check) -> None:
    """Without agent and DHCP server: once the node has spoken with the guest."""
    guest = lab.guest("plain")

    def is_unknown() -> bool:
        lab.exec("node1", "ip", "neighbour", "flush", "all")
        return "no address of the guest is known" in check("plain", {"type": "tcp", "port": 4711, "timeout": 0}).get("msg", "")

    # The guest may ask for the node at any moment, which makes it known again.
    wait_for("a moment of silence", is_unknown, 60)
    lab.exec("node1", "ping", "-c1", guest.ipv4)
    assert check("plain", {"type": "tcp", "port": 4711})["checks"][0]["address"] == guest.ipv4


def test_check_mode_looks_once(lab: Lab, check: Check) -> None:
    begun = time.monotonic()
    result = check("talks", {"type": "agent"}, {"type": "command", "command": ["touch", "/run/never"]}, {"type": "tcp", "port": 1}, options=("--check",))
    assert [found["ok"] for found in result["checks"]] == [True, None, False]
    assert time.monotonic() - begun < 30
    assert lab.exec("node1", "test", "-e", "/run/never", check=False).returncode != 0


def test_malformed_checks_and_unknown_servers_are_refused(lab: Lab, check: Check) -> None:
    assert "checks are malformed: check 1 (tcp): port is missing" in check("plain", {"type": "tcp"})["msg"]
    assert "value of type must be one of" in check("plain", {"type": "http"})["msg"]
    assert "server nobody is not defined" in check("nobody", {"type": "running"})["msg"]
    assert "migration_epoch" in check("plain", {"type": "running"}, migration_uuid=str(uuid.uuid4()))["msg"]


def test_a_guest_that_is_off_fails_at_once(lab: Lab, check: Check) -> None:
    """Whatever time it was given."""
    lab.shutdown_guest("node1", "plain")
    begun = time.monotonic()
    result = check("plain", {"type": "running", "timeout": 300}, {"type": "ping", "timeout": 300})
    assert [found["detail"] for found in result["checks"]] == ["the server is shutoff"] * 2
    assert time.monotonic() - begun < 60
