# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/trust.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import trust

DOCUMENTATION = r"""
name: known_hosts_lines
short_description: The known_hosts lines that pin a node under all of its names
version_added: 0.1.0
description:
  - Takes every name and address of a node and gives one line for each of its host keys.
author: coldmove contributors (@coldmove)
options:
  _input:
    description: Names and addresses of the node. Double ones are taken once.
    type: list
    elements: str
    required: true
  port:
    description: Port of the node's sshd.
    type: int
    required: true
  facts:
    description: Host keys as M(ansible.builtin.setup) gives them, C(ssh_host_key_*_public) and C(ssh_host_key_*_public_keytype).
    type: dict
    required: true
positional: port, facts
"""

EXAMPLES = r"""
- name: Show the lines of one node
  ansible.builtin.debug:
    msg: "{{ ['node1', '192.0.2.1'] | coldmove.libvirt.known_hosts_lines(22, host_keys) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


def known_hosts_lines(names: t.Iterable[str], port: int, facts: t.Mapping[str, t.Any]) -> list[str]:
    """The lines as plain strings."""
    return trust.known_hosts_lines(names, int(port), facts)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"known_hosts_lines": known_hosts_lines}
