# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory that `up` writes, and the ssh options in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, Union

from lab import bmc, network
from lab.errors import LabError
from lab.state import INSTANCES_PATH, NodeState, Paths, State

if TYPE_CHECKING:
    from collections.abc import Mapping

AddressKind = Literal["name", "ipv4", "ipv6"]
Tree = Union[str, int, bool, "Mapping[str, Tree]"]


def ssh_options(paths: Paths, holder: int) -> list[str]:
    """Options with which ssh reaches a node by its address, from the machine, through the lab's network namespace."""
    return [
        *("-o", f"ProxyCommand=nsenter --net=/proc/{holder}/ns/net nc -N %h %p"),
        *("-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={paths.known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", f"ControlPath={paths.state}/cp/%C"),
        *("-o", "PreferredAuthentications=publickey", "-o", "IdentitiesOnly=yes", "-o", "GSSAPIAuthentication=no", "-o", "Compression=no"),
        *("-o", "ServerAliveInterval=3", "-o", "ServerAliveCountMax=3", "-o", "ConnectTimeout=5"),
    ]


def render(paths: Paths, state: State, holder: int, addresses: AddressKind = "ipv4") -> str:
    """The inventory as YAML; `addresses` says what migration_address is."""
    common = " ".join(f"'{word}'" if " " in word else word for word in ssh_options(paths, holder))
    variables: dict[str, Tree] = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(paths.key),
        "ansible_ssh_common_args": common,
        "ansible_ssh_args": "",  # instead of Ansible's own ControlMaster and ControlPersist
        "ansible_ssh_pipelining": True,
        "ansible_python_interpreter": "/usr/bin/python3",
    }

    groups: dict[str, dict[str, Tree]] = {"compute": {}, "records": {}}
    for node in state.nodes.values():
        groups[node.kind][node.name] = host(node, addresses)
    children: dict[str, Tree] = {name: {"hosts": hosts} for name, hosts in groups.items()}
    return dump({"all": {"vars": variables, "children": children}})


def host(node: NodeState, addresses: AddressKind) -> dict[str, Tree]:
    """The variables of one host."""
    if addresses not in ("name", "ipv4", "ipv6"):
        raise LabError(f"addresses {addresses!r}: name, ipv4 or ipv6")
    found: dict[str, Tree] = {"ansible_host": node.ipv4}
    if node.kind == "compute":
        found["migration_address"] = {"name": node.name, "ipv4": node.ipv4, "ipv6": node.ipv6}[addresses]
        found["instances_path"] = INSTANCES_PATH
        found["fence"] = {"agent": "fence_ipmilan", "options": {"ip": network.bmc_address(node.index), **bmc.OPTIONS}}
    return found


def dump(tree: Mapping[str, Tree], depth: int = 0) -> str:
    """YAML of nested mappings; scalars in JSON's notation, which YAML reads."""
    lines = []
    for key, value in tree.items():
        pad = "  " * depth
        if isinstance(value, (str, int)):
            lines.append(f"{pad}{key}: {json.dumps(value)}\n")
        elif value:
            lines.append(f"{pad}{key}:\n{dump(value, depth + 1)}")
        else:
            lines.append(f"{pad}{key}: {{}}\n")
    return "".join(lines)
