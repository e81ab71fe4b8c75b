# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/servers.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import servers
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded, names

DOCUMENTATION = r"""
name: host_name
short_description: The name under which a server is a host of a play
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Gives the server's own name. If another host or server has it, or Ansible would take it for something else, the UUID stands for it.
  - Of several migrations of one server each is named by the UUID and its own number.
positional: among, taken
options:
  _input:
    description: A server with C(uuid) and C(name), or a migration with C(server_uuid), C(server_name) and C(id).
    type: dict
    required: true
  among:
    description: All that become hosts of the play, with the same keys.
    type: list
    elements: dict
    required: true
  taken:
    description: The names of the hosts that there are.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Make each server a host
  ansible.builtin.add_host:
    name: "{{ item | coldmove.libvirt.host_name(found, groups['all']) }}"
  loop: "{{ found }}"
"""

RETURN = r"""
_value:
  description: The name.
  type: str
"""


def host_name(server: t.Any, among: t.Any, taken: t.Any) -> t.Any:
    """Name it."""
    return servers.host_name(a_dict(server, "the server"), dicts(among, "the servers"), names(taken))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"host_name": guarded(host_name)}
