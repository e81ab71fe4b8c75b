# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A BMC for each compute node: OpenIPMI's own simulator, which speaks IPMI over LAN, wired to the node's power.

It lives at the lab's switch and outlives its node. For the power it runs this package (`lab-bmc`), which does what the lab's state says of it.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from lab import holder, network
from lab.errors import LabError
from lab.shell import PYTHON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.nodes import Nodes
    from lab.processes import Process
    from lab.state import NodeState, Paths

BEHAVIOURS = {
    "obeys": "switches the node's power, and reads it",
    "lies": "says that it has switched; the power stays, and reads, as it was",
    "elsewhere": "is wired to another machine, which is off and stays so",
    "fails": "refuses to switch; reads the power",
    "off": "does not answer",
}
MARK = "lab-bmc"
USER, PASSWORD = "operator", "l4b-only-s3cret"
OPTIONS: dict[str, str | int] = {"username": USER, "password": PASSWORD, "lanplus": True, "cipher": 3}
"""For fence_ipmilan. Without the cipher suite ipmitool asks for those that there are, which this simulator leaves unanswered for 14 seconds."""

CONFIG = """\
name "{name}"
set_working_mc 0x20
startlan 1
  addr {address} 623
  priv_limit admin
  allowed_auths_callback md5
  allowed_auths_user md5
  allowed_auths_operator md5
  allowed_auths_admin md5
  guid {guid}
endlan
chassis_control "{control}"
user 2 true "{user}" "{password}" admin 10 md5
"""
COMMANDS = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
mc_enable 0x20
"""


def launch(paths: Paths, node: NodeState, main: Process) -> None:
    """Start a node's BMC below the lab's holder."""
    home = paths.node(node.name) / "bmc"
    home.mkdir()
    control = shlex.join([PYTHON, holder.PACKAGE, MARK, str(paths.state), node.name])
    names = {"name": node.name, "guid": node.machine_id, "address": network.bmc_address(node.index), "control": control}
    (home / "lan.conf").write_text(CONFIG.format(**names, user=USER, password=PASSWORD))
    (home / "commands").write_text(COMMANDS)
    plug(node, main)
    enter = ["nsenter", f"--target={main.pid}", "--mount", "--net", "--pid", "--ipc", "setsid", "--fork"]
    holder.detached(home / "log", *enter, "ipmi_sim", "-n", "-c", str(home / "lan.conf"), "-f", str(home / "commands"), "-s", str(home))


def plug(node: NodeState, main: Process) -> None:
    """Give the BMC its address, or take it away from one that is off."""
    command = "del" if node.bmc == "off" else "replace"
    network.ip(f"addr {command} {network.bmc_address(node.index)}/{network.IPV4_PREFIX} dev {network.SWITCH}", at=main.pid, check=command != "del")


def check_behaviour(behaviour: str) -> str:
    """One of those that there are."""
    if behaviour not in BEHAVIOURS:
        raise LabError(f"BMC behaviour {behaviour!r}: give {', '.join(BEHAVIOURS)}")
    return behaviour


def control(lab: Nodes, node: str, words: Sequence[str]) -> int:
    """What the simulator asks for: `get NAME…` or `set NAME VALUE …`; returns the exit code, which it hands on as an error."""
    behaviour = lab.paths.load().node(node).bmc
    if words[0] == "get":
        power = behaviour != "elsewhere" and lab.is_running(node)
        print("".join(f"{name}:{int(power and name == 'power')}\n" for name in words[1:]), end="")
        return 0
    if behaviour == "fails":
        return 1
    wanted = dict(zip(words[1::2], words[2::2], strict=False)).get("power")
    if words[0] == "set" and behaviour == "obeys" and wanted is not None:
        lab.start(node, wait="") if wanted == "1" else lab.kill(node)
    return 0
