# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/resizing.py."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import inputs, resizing
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, as_written, dicts, guarded, plain

DOCUMENTATION = r"""
name: resize_plan
short_description: Decide what a server becomes with another flavor
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Reads the flavor that is asked for and the one that the server has, and finds everything in the two, in the server's disks and in its project's quota
    that speaks against the resize, all reasons at once. With any of C(errors) nothing may be touched.
  - Says how large each disk becomes, and what the server takes on its next node and on the one that it is on.
  - >-
    A flavor is a mapping with C(vcpus), C(memory_mb) (MiB), C(root_gb) (GiB), C(ephemeral_gb) (GiB), C(swap_mb) (MiB) and C(extra_specs).
    The first two must be there; of the others what is left out is 0 or empty, as in Nova. With C(disabled) true nothing can be resized to it.
    Numbers are whole and have no unit; they may be strings.
  - >-
    The C(extra_specs) that have an effect are C(hw:cpu_sockets), C(hw:cpu_cores), C(hw:cpu_threads), C(hw:cpu_policy), C(hw:mem_page_size), C(hw:numa_nodes),
    C(hw:numa_cpus.N), C(hw:numa_mem.N) and C(trait:NAME). Any other of C(hw:) is refused, others are kept and have no effect.
  - >-
    Disks never shrink but for swap, which is made anew. A root or ephemeral disk that comes over the network is not touched and not looked at.
    A resize adds no disk; C(swap_mb) 0 removes the swap disk. Of several disks of one role none grows, as nobody has said which.
  - Whether a node has room for it is decided by P(coldmove.libvirt.select_hosts#filter), whether the server can be moved at all by
    P(coldmove.libvirt.move_blockers#filter).
positional: _input, flavor, flavors, quotas, nodes, migrations, in_place
options:
  _input:
    description: The server as M(coldmove.libvirt.virt_domain_info) returns it.
    type: dict
    required: true
  flavor:
    description: What is asked for. The name of a flavor in O(flavors), or a flavor as a mapping, also written as YAML or JSON text.
    type: raw
    required: true
  flavors:
    description: The flavors by name.
    type: dict
    default: {}
  quotas:
    description:
      - The limits of projects by the name that the domain's metadata has. Each is a mapping that may have C(servers), C(vcpus), C(memory_mb) (MiB)
        and C(disk_gb) (GiB). What is left out, or -1, is not limited.
      - Unfinished migrations count with the old and the new size on two nodes, on one node with the larger of both.
    type: dict
    default: {}
  nodes:
    description: Nodes as P(coldmove.libvirt.nodes#filter) returns them, for what projects use.
    type: dict
    default: {}
  migrations:
    description: Migrations as M(coldmove.libvirt.migration_record_info) returns them. Those of the server itself are not counted.
    type: list
    elements: dict
    default: []
  in_place:
    description: Whether the server stays on its node, where its old disks are kept under its new ones.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: What becomes of it
  ansible.builtin.set_fact:
    coldmove_resize: >-
      {{ coldmove_facts | coldmove.libvirt.resize_plan(flavor, flavors | default({}), quotas | default({}), coldmove_nodes, coldmove_migrations,
                                                       in_place=(target_host | default('') == coldmove_server.host)) }}

- name: Refuse with all reasons
  ansible.builtin.fail:
    msg: "{{ coldmove_resize.errors | join('. ') }}"
  when: coldmove_resize.errors | length > 0

- name: Which nodes have room for it
  ansible.builtin.set_fact:
    coldmove_selection: >-
      {{ coldmove_facts | coldmove.libvirt.select_hosts(coldmove_nodes, coldmove_migrations, source_host='node1', need=coldmove_resize.need) }}
"""

RETURN = r"""
_value:
  description:
    - C(old_flavor) is the flavor that the server has, by its metadata. What that does not say is taken from its definition, sizes rounded up.
      Without a name in the metadata its name is C(as-defined).
    - C(new_flavor) is the flavor that was asked for, whole, or none if it is not right. A mapping without a name gets the name C(custom).
    - C(errors) is a list of all reasons against the resize.
    - C(notes) is a list of what the operator should know, like a swap disk that is removed.
    - C(sizes) is the new virtual size in bytes by target, of the disks whose size changes. 0 means that the disk is removed.
    - C(need) is what the server takes on its next node, C(vcpus), C(memory_mb) (MiB) and C(disk_bytes), or none without a flavor.
    - C(source_need) is what it takes where it is, in the same shape.
  type: dict
"""


def resize_plan(
    server: t.Any, flavor: t.Any, flavors: t.Any = None, quotas: t.Any = None, nodes: t.Any = None, migrations: t.Any = None, in_place: t.Any = False
) -> t.Any:
    """Plan the resize."""
    known = as_written(flavors)
    named = isinstance(known, dict) and str(flavor) in known
    asked = plain(flavor) if named else as_written(flavor)
    try:
        stays = inputs.given(in_place) and inputs.boolean(in_place)
    except ValueError as exc:
        raise AnsibleFilterError(f"in_place is {in_place!r}: {exc}") from None
    facts: t.Any = a_dict(server, "server")
    around: t.Any = a_dict(nodes or {}, "nodes")
    records: t.Any = dicts(migrations, "migrations")
    return resizing.plan(facts, asked, known, as_written(quotas), around, records, in_place=stays)


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"resize_plan": guarded(resize_plan)}
