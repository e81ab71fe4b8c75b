# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/trust.py."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import trust
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, a_list, guarded

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


def known_hosts_lines(names: t.Any, port: t.Any, facts: t.Any) -> list[str]:
    """The lines as plain strings."""
    if not str(port).isdecimal() or not 0 < int(port) < 65536:
        raise AnsibleFilterError(f"port is {port!r}: a number from 1 to 65535 is needed")
    return trust.known_hosts_lines(a_list(names, "the list of names"), int(port), a_dict(facts, "facts"))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"known_hosts_lines": guarded(known_hosts_lines)}
