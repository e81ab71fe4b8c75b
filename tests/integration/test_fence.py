# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof that a node is off: fence_ipmilan against the nodes' own BMCs, also against bad ones. Cases 72, F, G."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from integration.runs import environment

from lab import bmc
from lab.network import bmc_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import World
    from integration.runs import Outcome

pytestmark = pytest.mark.lab

VICTIM = "node3"
OPTIONS = {"ip": bmc_address(3), **bmc.OPTIONS}
#: The same, for agents that are to be seen failing: they give up sooner.
HASTY = {"agent": "fence_ipmilan", "options": {**OPTIONS, "power_timeout": 2, "power_wait": 0}}
STATEMENT = "ann: pulled its plug, rack 7"


class Fencing:
    """The role fence on one node, and what it leaves."""

    def __init__(self, world: World, tmp_path: Path) -> None:
        self.world, self.lab, self.file = world, world.lab, tmp_path / "proof.json"

    def play(self, *options: str, node: str = VICTIM, **variables: Any) -> Outcome:
        """Try to prove that a node is off. Whatever comes of it, no secret is shown."""
        self.file.unlink(missing_ok=True)
        outcome = self.world.play("fence.yml", *options, "-vvv", failed_host=node, proof_file=str(self.file), **variables)
        assert bmc.PASSWORD not in outcome.output
        return outcome

    def proof(self) -> dict[str, Any]:
        """What the role found."""
        return dict(json.loads(self.file.read_text()))

    def refused(self, outcome: Outcome, *words: str) -> None:
        """Refused with these words; no proof, no flag, and the node has power."""
        outcome.refused(*words)
        assert not self.file.exists()
        assert self.flags()["fenced"] is None
        assert self.lab.is_running(VICTIM)

    def flags(self, node: str = VICTIM) -> dict[str, Any]:
        """The node's flags in the record store."""
        return dict(self.ask("compute_service_info")["services"].get(node) or {"fenced": None})

    def ask(self, module: str, **arguments: Any) -> dict[str, Any]:
        """Run a module on the records host."""
        argv = [str(Path(sys.executable).with_name("ansible")), "records1", "-i", str(self.lab.inventory_path)]
        argv += ["-m", f"coldmove.libvirt.{module}", *(["-a", json.dumps(arguments)] if arguments else [])]
        done = subprocess.run(argv, cwd="/", env=environment(2), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.JSONDecoder().raw_decode(done.stdout.partition("=> ")[2])[0])


@pytest.fixture
def fencing(world: World, tmp_path: Path) -> Iterator[Fencing]:
    """Afterwards all nodes are up, in service, and obeyed by their BMCs."""
    made = Fencing(world, tmp_path)
    yield made
    for node in ("node1", "node2", VICTIM):
        world.lab.bmc(node, "obeys")
        world.lab.mend(node)
        world.lab.start(node)
    made.ask("compute_service", host=VICTIM, state="enabled")


def test_a_silent_node_is_switched_off_by_its_bmc(fencing: Fencing) -> None:
    """It runs, and its server too, cut off from everybody: only its power supply can end it. A second run switches nothing."""
    guest = fencing.world.guest("cut-off", node=VICTIM)
    fencing.lab.cut(VICTIM)
    fencing.play("--check").check()
    assert fencing.lab.is_running(VICTIM)
    assert fencing.proof()["proven"] is False
    assert [reading["power"] for reading in fencing.proof()["readings"]] == ["on"]
    assert fencing.flags()["fenced"] is None

    fencing.play().check()
    proof = fencing.proof()
    assert not fencing.lab.is_running(VICTIM)
    assert fencing.lab.running_on(guest) == []
    assert (proof["host"], proof["how"], proof["agent"], proof["proven"]) == (VICTIM, "agent", "fence_ipmilan", True)
    assert [reading["power"] for reading in proof["readings"]] == ["on", "off", "off", "off"]
    assert {look["by"] for look in proof["looks"]} == {"records1", "node1", "node2"}
    assert fencing.flags()["fenced"]["how"] == "fence_ipmilan"
    since = fencing.flags()["fenced"]["at"]

    fencing.play().check()
    assert [reading["power"] for reading in fencing.proof()["readings"]] == ["off"] * 3
    assert fencing.flags()["fenced"]["at"] == since
    fencing.lab.mend(VICTIM)
    fencing.lab.start(VICTIM)
    fencing.world.remove(guest)


def test_a_node_that_answers_is_refused(fencing: Fencing) -> None:
    """Case 72: also if somebody says that it is off; its power is not even read. Also one whose libvirt and sshd are down, by its echo."""
    for statement in ("", STATEMENT):
        fencing.refused(fencing.play(fenced_by=statement), f"{VICTIM} is up: it answers to the controller")
    fencing.lab.exec(VICTIM, "pkill", "-x", "sshd")
    try:
        outcome = fencing.play(fenced_by=STATEMENT)
        fencing.refused(outcome, f"{VICTIM} is up: it answers to records1 (", ", node1 (", "ssh Connection refused, ping answers", "power it off first")
    finally:
        fencing.lab.exec(VICTIM, "/usr/sbin/sshd", "-E", "/var/log/sshd.log")


def test_the_soft_step(fencing: Fencing) -> None:
    """A node that takes commands is up: its libvirt is started anew, or that is left to the operator. It is never switched off."""
    fencing.lab.exec(VICTIM, "pkill", "-x", "libvirtd")
    fencing.refused(fencing.play(), f"{VICTIM} is up: it answers to the controller")
    fencing.refused(fencing.play("--check", soft_fence="libvirtd -d"), "Its libvirt does not answer; without --check this would be run there: libvirtd -d")
    fencing.refused(fencing.play(soft_fence="sh -c 'echo no way >&2; exit 1'"), "either (no way). Mend that; or power it off, and run the same command again")
    fencing.refused(fencing.play(soft_fence="libvirtd -d"), "Its libvirt answers again after 'libvirtd -d': nothing has to be evacuated")


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("lies", ("the power is not proven off", "Timed out waiting to power OFF", "is on (Status: ON)")),
        pytest.param("fails", ("the power is not proven off", "is on (Status: ON)"), marks=pytest.mark.nightly),
        pytest.param("off", ("the power cannot be read by fence_ipmilan", "Nothing was switched"), marks=pytest.mark.nightly),
    ],
)
def test_a_bmc_that_does_not_obey(fencing: Fencing, behaviour: str, words: tuple[str, ...]) -> None:
    """Case F: one that says that it has switched, one that refuses, one that is off."""
    fencing.lab.cut(VICTIM)
    fencing.lab.bmc(VICTIM, behaviour)
    fencing.refused(fencing.play(fence=HASTY), *words, "Nothing was started anywhere")


def test_a_node_that_answers_after_its_power_read_off(fencing: Fencing) -> None:
    """Its BMC's address is that of another machine, which is off. The node is silent at first, and is heard of again."""
    fencing.lab.bmc(VICTIM, "elsewhere")
    fencing.lab.cut(VICTIM)
    run = fencing.world.run("fence.yml", failed_host=VICTIM, proof_file=str(fencing.file))
    run.wait_for("start", "Switch the node off, or read its power if somebody says that it is off")
    fencing.lab.mend(VICTIM)
    fencing.refused(run.finish(), f"{VICTIM} is not proven off", f"{VICTIM} is up: it answers to records1")


@pytest.mark.nightly
def test_a_statement(fencing: Fencing) -> None:
    """Instead of an agent; an agent that reads the power as on contradicts it."""
    fencing.lab.cut(VICTIM)
    fencing.refused(fencing.play(fence={}), f"nothing proves that {VICTIM} is off")
    fencing.refused(fencing.play(fenced_by="ann"), "fenced_by is malformed: it must say who made sure")
    fencing.refused(fencing.play(fenced_by=STATEMENT), f"ann says that {VICTIM} is off, and its fence agent reads its power as on")
    fencing.lab.kill(VICTIM)
    fencing.lab.bmc(VICTIM, "off")
    fencing.play(fence=HASTY, fenced_by=STATEMENT).check()
    proof = fencing.proof()
    assert (proof["by"], proof["reason"], proof["how"], proof["proven"]) == ("ann", "pulled its plug, rack 7", "statement", True)
    assert (fencing.flags()["fenced"]["by"], fencing.flags()["fenced"]["how"]) == ("ann", "statement")


@pytest.mark.nightly
def test_more_than_half_of_the_nodes_silent(fencing: Fencing) -> None:
    """Case G."""
    for node in ("node2", VICTIM):
        fencing.lab.cut(node)
    fencing.refused(fencing.play(), f"2 of 3 compute nodes do not answer (node2, {VICTIM})", "-e accept_mass_failure=true")
    fencing.play(accept_mass_failure="true").check()
    assert fencing.proof()["proven"]
    assert not fencing.lab.is_running(VICTIM)


@pytest.mark.nightly
def test_bad_input(fencing: Fencing) -> None:
    """One clear line before anything is powered."""
    fencing.lab.cut(VICTIM)
    fencing.play(node="node33").refused("'node33' is not a compute node of the inventory; there are node3")
    fencing.refused(fencing.play(fence={"agent": "fence_ipmlan"}), "fence_ipmlan is not installed on this host; there are fence_ipmilan")
    fencing.refused(fencing.play(fence={"agent": "/bin/sh"}), "it must be the name of a program of the fence-agents project")
    fencing.refused(fencing.play(fence={"agent": "fence_ipmilan"}), "You have to enter fence address", "Nothing was switched")
    wrong = {**OPTIONS, "password": "n0t-this-one"}
    fencing.refused(fencing.play(fence={"agent": "fence_ipmilan", "options": wrong}), "the power cannot be read by fence_ipmilan", "Nothing was switched")
    unknown = {**OPTIONS, "plgu": "7"}
    fencing.refused(fencing.play(fence={"agent": "fence_ipmilan", "options": unknown}), "fence_ipmilan knows no option plgu")
