# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/trust.py."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import trust
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

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


def peers(names: t.Iterable[str], hostvars: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """``[{name, address, port}]``."""
    try:
        return [trust.peer(str(name), hostvars[name]) for name in names]
    except ColdmoveError as exc:
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"peers": peers}
