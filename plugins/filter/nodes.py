# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All compute nodes as one dictionary, from the inventory and from the facts that they gave."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import capacity, inputs
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, a_list, guarded, plain

DOCUMENTATION = r"""
name: nodes
short_description: All compute nodes, with their inventory variables and their facts
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Builds the dictionary of compute nodes that the other filters of this collection take.
  - A node that failed, or that has not been asked, is in it as one that does not answer.
  - >-
    Reads the inventory variables C(maintenance), C(forced_down), C(availability_zone), C(traits), C(cpu_allocation_ratio), C(ram_allocation_ratio),
    C(disk_allocation_ratio), C(reserved_memory_mb), C(reserved_disk_gb) and C(migration_address) of each node.
    Numbers and booleans may be strings, an empty string means not given, anything else is one error that names every host and variable.
  - Without these variables Nova's defaults hold. Allocation ratios are 4.0 for vCPUs, 1.0 for memory and 1.0 for disk.
    512 MiB of memory and no disk are reserved.
positional: _input, hostvars
options:
  _input:
    description: Inventory names of the compute nodes.
    type: list
    elements: str
    required: true
  hostvars:
    description: The magic variable C(hostvars).
    type: dict
    required: true
  services:
    description: The flags of nodes in the record store, as M(coldmove.libvirt.compute_service_info) returns them.
    type: dict
    default: {}
  facts_var:
    description: Name of the variable in which each node's result of M(coldmove.libvirt.virt_node_info) is registered.
    type: str
    default: coldmove_node_facts
"""

EXAMPLES = r"""
- name: Facts of every node
  coldmove.libvirt.virt_node_info:
  register: coldmove_node_facts

- name: All nodes in one dictionary
  ansible.builtin.set_fact:
    coldmove_nodes: "{{ groups['compute'] | coldmove.libvirt.nodes(hostvars) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - Nodes by inventory name.
    - Each has C(name), C(reachable), C(error), C(facts) (or none), C(maintenance), C(forced_down), C(availability_zone), C(traits), the allocation
      ratios, C(reserved_memory_mb), C(reserved_disk_gb), C(migration_address) and C(service) (its flags in the record store).
  type: dict
"""


def nodes(hosts: t.Any, hostvars: t.Any, facts_var: str = "coldmove_node_facts", services: t.Any = None) -> dict[str, t.Any]:
    """The dictionary of nodes; one error for everything that is malformed in the inventory."""
    errors: list[str] = []
    flags = a_dict(services or {}, "services")
    names = [str(host) for host in a_list(hosts, "the list of compute nodes")]
    result = {host: {**_node(host, hostvars[host], facts_var, errors), "service": flags.get(host) or {}} for host in names}
    if errors:
        raise AnsibleFilterError("malformed inventory variables: " + "; ".join(errors))
    return result


def _node(host: str, variables: t.Any, facts_var: str, errors: list[str]) -> dict[str, t.Any]:
    def read(name: str, convert: Callable[[t.Any], t.Any], default: t.Any) -> t.Any:
        value = variables.get(name)
        if not inputs.given(value):
            return default
        try:
            return convert(value)
        except (TypeError, ValueError) as exc:
            errors.append(f"{host}: {name} is {value!r}, {exc}")
            return default

    return {
        "name": host,
        **_facts(variables, facts_var),
        "maintenance": read("maintenance", inputs.boolean, False),
        "forced_down": read("forced_down", inputs.boolean, False),
        "availability_zone": read("availability_zone", str, ""),
        "traits": read("traits", inputs.words, []),
        "cpu_allocation_ratio": read("cpu_allocation_ratio", inputs.ratio, capacity.DEFAULT_CPU_RATIO),
        "ram_allocation_ratio": read("ram_allocation_ratio", inputs.ratio, capacity.DEFAULT_RAM_RATIO),
        "disk_allocation_ratio": read("disk_allocation_ratio", inputs.ratio, capacity.DEFAULT_DISK_RATIO),
        "reserved_memory_mb": read("reserved_memory_mb", inputs.whole, capacity.DEFAULT_RESERVED_MEMORY_MB),
        "reserved_disk_gb": read("reserved_disk_gb", inputs.number, capacity.DEFAULT_RESERVED_DISK_GB),
        "migration_address": read("migration_address", str, read("ansible_host", str, host)),
    }


def _facts(variables: t.Any, facts_var: str) -> dict[str, t.Any]:
    """``reachable``, ``error`` and ``facts`` from the registered result; from bare facts too."""
    result = variables.get(facts_var)
    if not isinstance(result, Mapping):
        return {"reachable": False, "error": "no facts of it were gathered in this run", "facts": None}
    if result.get("failed") or result.get("unreachable"):
        return {"reachable": False, "error": str(result.get("msg") or "its facts could not be gathered"), "facts": None}
    facts = result.get("node", result)
    if not isinstance(facts, Mapping) or "domains" not in facts:
        return {"reachable": False, "error": f"{facts_var} holds no node facts", "facts": None}
    return {"reachable": True, "error": "", "facts": plain(facts)}


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"nodes": guarded(nodes)}
