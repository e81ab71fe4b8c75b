# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes may take a server, best first."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import scheduler
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded, text_or_empty

DOCUMENTATION = r"""
name: select_hosts
short_description: Select the nodes that may take a server
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Filters and weighs the nodes like Nova's scheduler does, and gives every reason for each node that is refused.
  - >-
    A node must answer, be in service (not C(maintenance), not C(forced_down), no flag in the record store), be prepared, have the architecture,
    the machine type, the networks, the bridges and the storage pools, not be the source, have room for memory, vCPUs and disk with what unfinished
    migrations hold, have the CPUs and NUMA cells that the flavor pins or binds and the traits that it requires, none that it forbids,
    and have no domain with the server's UUID, name or a MAC of it.
  - Candidates are weighed by free memory and by the version of QEMU (newer is better), both with multiplier 1.0; equal ones are ordered by name.
  - A named target that is refused is never replaced by another node.
positional: _input, nodes, migrations
options:
  _input:
    description: The server as M(coldmove.libvirt.virt_domain_info) returns it.
    type: dict
    required: true
  nodes:
    description: Nodes as P(coldmove.libvirt.nodes#filter) returns them.
    type: dict
    required: true
  migrations:
    description: Migrations as M(coldmove.libvirt.migration_record_info) returns them.
    type: list
    elements: dict
    default: []
  source_host:
    description: The node that the server is on.
    type: str
    default: ""
  target_host:
    description: The only node that may be selected. Empty means not given.
    type: str
    default: ""
  need:
    description:
      - What the server needs on its next node (C(vcpus), C(memory_mb), C(disk_bytes)).
      - By default what it is defined with today, and the virtual size of its local disks.
    type: dict
  flavor:
    description:
      - The flavor that the server is to have on its next node, of which the extra specs count here, see M(coldmove.libvirt.virt_placement).
      - Give O(need) too, this does not follow from it.
    type: dict
  in_place:
    description: The server may stay on its node, which is then asked for what it grows by. Give O(target_host) with it.
    type: bool
    default: false
  limit:
    description: How many candidates to return at most. The others are left out in silence, they are not refused.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Where to
  ansible.builtin.set_fact:
    coldmove_selection: >-
      {{ coldmove_server | coldmove.libvirt.select_hosts(
           coldmove_nodes, coldmove_migrations, source_host='node1', target_host=target_host | default('')) }}

- name: Nowhere
  ansible.builtin.fail:
    msg: "{{ coldmove_selection.message }}"
  when: coldmove_selection.candidates | length == 0
"""

RETURN = r"""
_value:
  description:
    - C(candidates) is a list, best first, of C(host), C(capacity), C(used) and C(counted),
      as O(coldmove.libvirt.migration_record#module:candidates) takes it.
    - C(weights) is the weight of each candidate by its name.
    - C(rejected) is a list of C(host) and C(reasons).
    - C(message) is empty, or the sentence that says why there is no candidate.
    - C(error) is the same sentence if the request itself is wrong, because the named target is no compute node or the server is there already.
    - C(need) is what was asked for.
  type: dict
"""


def select_hosts(
    server: t.Any,
    nodes: t.Any,
    migrations: t.Any = None,
    *,
    source_host: t.Any = "",
    target_host: t.Any = "",
    need: t.Any = None,
    flavor: t.Any = None,
    in_place: t.Any = False,
    limit: t.Any = 10,
) -> dict[str, t.Any]:
    """Filter and weigh."""
    known = a_dict(nodes, "nodes")
    wanted = None if not need else t.cast("t.Any", {"vcpus": 0, "memory_mb": 0, "disk_bytes": 0, **a_dict(need, "need")})
    request = scheduler.request_for(
        t.cast("t.Any", a_dict(server, "server")),
        text_or_empty(source_host),
        text_or_empty(target_host),
        wanted,
        bool(in_place),
        a_dict(flavor, "flavor") if flavor else None,
    )
    selection = scheduler.select_hosts(request, known, t.cast("t.Any", dicts(migrations, "migrations")), int(limit))
    return {**selection, "need": request.need}


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"select_hosts": guarded(select_hosts)}
