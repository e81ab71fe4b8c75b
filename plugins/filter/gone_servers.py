# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/last_known.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import last_known
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded

DOCUMENTATION = r"""
name: gone_servers
short_description: Servers of the record store that are on no node any more
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Gives none while a node does not answer, since a server may be there. Servers whose node is not among the nodes are left alone.
positional: nodes
options:
  _input:
    description: What is known of servers, as M(coldmove.libvirt.server_record_info) returns it.
    type: list
    elements: dict
    required: true
  nodes:
    description: The nodes, as the filter P(coldmove.libvirt.nodes#filter) gives them.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Forget them
  coldmove.libvirt.server_record:
    state: absent
    uuids: "{{ known.servers | coldmove.libvirt.gone_servers(nodes) }}"
  delegate_to: records1
"""

RETURN = r"""
_value:
  description: Their UUIDs.
  type: list
  elements: str
"""


def gone_servers(known: t.Any, nodes: t.Any) -> t.Any:
    """Compare."""
    return last_known.gone_servers(dicts(known, "the known servers"), t.cast("t.Any", a_dict(nodes, "nodes")))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"gone_servers": guarded(gone_servers)}
