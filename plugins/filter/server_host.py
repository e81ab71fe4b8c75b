# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/last_known.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import last_known
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, guarded

DOCUMENTATION = r"""
name: server_host
short_description: The node that a server is on, once a verb has ended
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Gives an empty string while the migration is under way, or if there is none.
options:
  _input:
    description: A migration, as M(coldmove.libvirt.migration_record_info) returns it, or the outcome of a verb.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Where is it now?
  ansible.builtin.debug:
    msg: "{{ coldmove_outcome | coldmove.libvirt.server_host }}"
"""

RETURN = r"""
_value:
  description: Inventory name of the node, or an empty string.
  type: str
"""


def server_host(migration: t.Any) -> str:
    """By the record."""
    return last_known.host_of(t.cast("t.Any", a_dict(migration, "the migration")))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"server_host": guarded(server_host)}
