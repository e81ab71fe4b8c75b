# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/verbs.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import verbs
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded

DOCUMENTATION = r"""
name: lost_nodes
short_description: Warnings of migrations whose node has left the inventory
version_added: 0.1.0
description:
  - Gives a sentence for each open migration whose source or dest is not among the nodes.
author: coldmove contributors (@coldmove)
options:
  _input:
    description: Migrations, as M(coldmove.libvirt.migration_record_info) returns them.
    type: list
    elements: dict
    required: true
  nodes:
    description: The nodes, as the filter P(coldmove.libvirt.nodes#filter) gives them.
    type: dict
    required: true
positional: nodes
"""

EXAMPLES = r"""
- name: Is a node missing that a migration needs?
  ansible.builtin.debug:
    msg: "{{ migrations | coldmove.libvirt.lost_nodes(nodes) }}"
"""

RETURN = r"""
_value:
  description: The sentences.
  type: list
  elements: str
"""


def lost_nodes(migrations: t.Any, nodes: t.Any) -> t.Any:
    """Compare."""
    return verbs.lost_nodes(t.cast("t.Any", dicts(migrations, "migrations")), t.cast("t.Any", a_dict(nodes, "nodes")))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"lost_nodes": guarded(lost_nodes)}
