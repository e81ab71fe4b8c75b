# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/trust.py."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import trust
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_list, guarded

DOCUMENTATION = r"""
name: peers
short_description: Where nodes are reached on the migration network
version_added: 0.1.0
description:
  - Takes names of nodes and gives name, address and port of each, from C(migration_address), C(ansible_host), the name, and C(migration_port).
author: coldmove contributors (@coldmove)
options:
  _input:
    description: Inventory names of the nodes.
    type: list
    elements: str
    required: true
  hostvars:
    description: Ansible's C(hostvars).
    type: dict
    required: true
positional: hostvars
"""

EXAMPLES = r"""
- name: Show where the nodes are reached
  ansible.builtin.debug:
    msg: "{{ groups['compute'] | coldmove.libvirt.peers(hostvars) }}"
"""

RETURN = r"""
_value:
  description: A list of dictionaries with C(name), C(address) and C(port).
  type: list
  elements: dict
"""


def peers(names: t.Any, hostvars: t.Any) -> list[dict[str, t.Any]]:
    """``[{name, address, port}]``."""
    if not isinstance(hostvars, Mapping):
        raise AnsibleFilterError(f"hostvars must be a dictionary, not {type(hostvars).__name__}")
    found = []
    for name in a_list(names, "the list of nodes"):
        if name not in hostvars:
            raise AnsibleFilterError(f"node {name!r} is not in the inventory")
        found.append(trust.peer(str(name), hostvars[name]))
    return found


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"peers": guarded(peers)}
