# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/fencing.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import fencing, inputs
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded, plain, text_or_empty

DOCUMENTATION = r"""
name: fence_blockers
short_description: What forbids to take a node for dead
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Finds everything that speaks against fencing a node, and against believing that it is off. All reasons at once.
  - An unknown node, a malformed O(fence) or O(fenced_by) or none of them, more than half of the nodes silent, and a node that answers to anybody.
positional: _input, nodes
options:
  _input:
    description: Inventory name of the node.
    type: str
    required: true
  nodes:
    description: The nodes, as the filter P(coldmove.libvirt.nodes#filter) gives them.
    type: dict
    required: true
  fence:
    description: The node's variable C(fence), with C(agent) and C(options).
    type: dict
  fenced_by:
    description: An operator's statement that the node is off, as C(NAME) and C(REASON) with a colon between them.
    type: str
    default: ""
  accept_mass_failure:
    description: Whether more than half of the nodes may be silent.
    type: bool
    default: false
  looks:
    description: What witnesses saw, a list of C(look) of M(coldmove.libvirt.node_look).
    type: list
    elements: dict
  controller:
    description: The registered result of a task with M(coldmove.libvirt.node_look) that was delegated to the node itself, whether it failed or not.
    type: dict
  power:
    description: What M(coldmove.libvirt.fence_node) returned.
    type: dict
"""

EXAMPLES = r"""
- name: Refuse what cannot be fenced
  ansible.builtin.fail:
    msg: "{{ reasons | join('\n') }}"
  when: reasons | length > 0
  vars:
    reasons: "{{ 'node1' | coldmove.libvirt.fence_blockers(coldmove_nodes, fence=hostvars['node1'].fence, looks=seen) }}"
"""

RETURN = r"""
_value:
  description: Sentences; empty if the node may be fenced.
  type: list
  elements: str
"""


def fence_blockers(
    host: t.Any,
    nodes: t.Any,
    *,
    fence: t.Any = None,
    fenced_by: t.Any = "",
    accept_mass_failure: t.Any = False,
    looks: t.Any = None,
    controller: t.Any = None,
    power: t.Any = None,
) -> list[str]:
    """All reasons."""
    seen: t.Any = dicts(looks, "looks")
    if controller:
        seen = [fencing.controller_look(a_dict(controller, "controller")), *seen]
    accepted = inputs.boolean(accept_mass_failure) if inputs.given(accept_mass_failure) else False
    read = a_dict(power, "power").get("readings") if power else None
    return fencing.blockers(str(host), a_dict(nodes, "nodes"), plain(fence), text_or_empty(fenced_by), accepted, seen, read or [])


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"fence_blockers": guarded(fence_blockers)}
