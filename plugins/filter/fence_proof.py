# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/fencing.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import fencing
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded, plain, text_or_empty

DOCUMENTATION = r"""
name: fence_proof
short_description: The proof that a node is off
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Puts together why a node counts as off, or fails if it does not.
  - With O(fenced_by) it is an operator's statement, which a power that reads on contradicts. Otherwise it is the readings of a fence agent.
positional: _input
options:
  _input:
    description: Inventory name of the node.
    type: str
    required: true
  fence:
    description: The node's variable C(fence).
    type: dict
  fenced_by:
    description: An operator's statement that the node is off, as C(NAME) and C(REASON) with a colon between them.
    type: str
    default: ""
  started_by:
    description: Who had it fenced, without O(fenced_by).
    type: str
    default: ""
  at:
    description: When, ISO 8601 in UTC.
    type: str
    required: true
  looks:
    description: What witnesses saw.
    type: list
    elements: dict
  power:
    description: What M(coldmove.libvirt.fence_node) returned.
    type: dict
  check:
    description: Whether this is check mode, in which nothing was switched off, and nothing is proven.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Keep the proof
  ansible.builtin.set_fact:
    coldmove_fence_proof: "{{ 'node1' | coldmove.libvirt.fence_proof(fence=hostvars['node1'].fence, at=now, looks=seen, power=fenced) }}"
"""

RETURN = r"""
_value:
  description:
    - A dictionary with C(host), C(by), C(how) (V(agent) or V(statement)), C(agent), C(reason), C(readings), C(at), C(looks) and C(proven).
  type: dict
"""


def fence_proof(
    host: t.Any,
    *,
    fence: t.Any = None,
    fenced_by: t.Any = "",
    started_by: t.Any = "",
    at: t.Any = "",
    looks: t.Any = None,
    power: t.Any = None,
    check: bool = False,
) -> t.Any:
    """The proof."""
    seen: t.Any = dicts(looks, "looks")
    read = a_dict(power, "power") if power else {}
    return fencing.proof(str(host), plain(fence), text_or_empty(fenced_by), text_or_empty(started_by), str(at), seen, read, bool(check))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"fence_proof": guarded(fence_proof)}
