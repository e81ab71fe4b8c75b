# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/last_known.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import last_known
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded

DOCUMENTATION = r"""
name: own_servers
short_description: The servers that are truly a node's own, among those that were seen there
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - >-
    Leaves out copies that an ended migration has still to clean there, servers that are off there and run on another node, and those of which
    nobody can say which one is the server.
positional: node, nodes, migrations
options:
  _input:
    description: What M(coldmove.libvirt.virt_server_snapshot) returned of the node.
    type: list
    elements: dict
    required: true
  node:
    description: Inventory name of the node.
    type: str
    required: true
  nodes:
    description: The nodes, as the filter P(coldmove.libvirt.nodes#filter) gives them.
    type: dict
    required: true
  migrations:
    description: Migrations, as M(coldmove.libvirt.migration_record_info) returns them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Keep what is the node's own
  coldmove.libvirt.server_record:
    host: node1
    servers: "{{ (seen.servers | coldmove.libvirt.own_servers('node1', nodes, migrations)).servers }}"
  delegate_to: records1
  no_log: true
"""

RETURN = r"""
_value:
  description: C(servers), those of the list that are its own, and C(problems), sentences about the others.
  type: dict
"""


def own_servers(snapshots: t.Any, node: t.Any, nodes: t.Any, migrations: t.Any) -> t.Any:
    """Compare."""
    known: t.Any = dicts(migrations, "migrations")
    return last_known.own_servers(dicts(snapshots, "the servers"), str(node), t.cast("t.Any", a_dict(nodes, "nodes")), known)


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"own_servers": guarded(own_servers)}
