# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/verbs.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import verbs
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, a_number, dicts, guarded, names, text_or_empty
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._run_identity import liveness_of

DOCUMENTATION = r"""
name: recoverable
short_description: The migrations that recover has to look at
version_added: 0.1.0
description:
  - Finds the migrations whose run is dead, those that left something to clean, and those whose server its owner undefined.
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
  servers:
    description: Names or UUIDs of servers; empty for all.
    type: list
    elements: str
    default: []
  host:
    description: Only migrations from or to this node; empty for all.
    type: str
    default: ""
  lease_seconds:
    description: A run on another controller that gave no sign of life for so long is dead.
    type: float
    default: 60
positional: nodes, servers, host, lease_seconds
"""

EXAMPLES = r"""
- name: What was interrupted?
  ansible.builtin.debug:
    msg: "{{ migrations | coldmove.libvirt.recoverable(nodes) }}"
"""

RETURN = r"""
_value:
  description:
    - A list of dictionaries with C(next), C(reason) and C(migration).
    - C(next) is V(act), V(refuse) while another run is at work, or V(wait) for nodes that are silent or for another migration of the server.
  type: list
  elements: dict
"""


def recoverable(migrations: t.Any, nodes: t.Any, servers: t.Any = None, host: t.Any = "", lease_seconds: t.Any = 60) -> t.Any:
    """Choose."""
    known = a_dict(nodes, "nodes")
    lease = a_number(lease_seconds, "lease_seconds", 60)
    records: t.Any = dicts(migrations, "migrations")
    return verbs.recoverable(records, known, lambda record: liveness_of(record, known, lease), names(servers), text_or_empty(host))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"recoverable": guarded(recoverable)}
