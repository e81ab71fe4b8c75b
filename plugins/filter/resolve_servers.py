# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers the operator means, and where they are."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import servers
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded, plain

DOCUMENTATION = r"""
name: resolve_servers
short_description: Find the servers that an operator named
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Finds every server by name or UUID on the nodes that answer, and those that are between two nodes by their migration.
  - A string is split at commas and newlines unless the whole string is the name of a server; an element of a list is never split.
  - Unknown and ambiguous servers are returned as errors, all at once, with close matches and with the nodes that do not answer.
positional: _input, nodes, migrations
options:
  _input:
    description: Name, UUID, comma list, or list of names and UUIDs. Empty means not given.
    type: raw
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
"""

EXAMPLES = r"""
- name: Which servers are meant
  ansible.builtin.set_fact:
    coldmove_resolved: "{{ server | default('') | coldmove.libvirt.resolve_servers(coldmove_nodes, coldmove_migrations) }}"

- name: Refuse before anything is touched
  ansible.builtin.fail:
    msg: "{{ coldmove_resolved.errors | join('. ') }}"
  when: coldmove_resolved.errors | length > 0
"""

RETURN = r"""
_value:
  description:
    - C(given) is false if no server was named.
    - C(servers) is a list of C(uuid), C(name), C(host), C(state) and C(migration) (UUID of its active migration or none).
      C(state) is the domain's, C(absent) if the node has no domain of it (it is held there), C(unknown) if the node does not answer.
    - C(errors) is a list of sentences. With any of them nothing may be done to any server.
  type: dict
"""


def resolve_servers(server: t.Any, nodes: t.Any, migrations: t.Any = None) -> t.Any:
    """Find the servers."""
    return servers.resolve_servers(plain(server), t.cast("t.Any", a_dict(nodes, "nodes")), t.cast("t.Any", dicts(migrations, "migrations")))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"resolve_servers": guarded(resolve_servers)}
