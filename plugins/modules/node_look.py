#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_look
short_description: Whether anything answers at a node's addresses, seen from another host
version_added: 0.1.0
description:
  - Looks at all addresses of a node at the same time, by its ssh server's greeting and by ICMP echo. Logs in nowhere.
  - An answer proves that the node is up. Silence proves nothing.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._attributes.info_module
  - coldmove.libvirt._attributes.idempotent_not_modify_state
options:
  by:
    description: Name of the host that looks, as RV(look.by) says it.
    type: str
    required: true
  addresses:
    description: Where the node can be reached.
    type: list
    elements: dict
    required: true
    suboptions:
      address:
        description: Name, IPv4 or IPv6 address.
        type: str
        required: true
      port:
        description: Port of its ssh server there.
        type: int
        default: 22
  timeout:
    description: Seconds that an answer may take.
    type: float
    default: 2
notes:
  - Echoes need the program C(ping) on the host that looks.
seealso:
  - module: coldmove.libvirt.fence_node
"""

EXAMPLES = r"""
- name: Does node1 answer to node2?
  coldmove.libvirt.node_look:
    by: node2
    addresses:
      - {address: node1.example.net}
      - {address: "2001:db8::11", port: 2222}
  delegate_to: node2
  register: seen
"""

RETURN = r"""
look:
  description: What was seen.
  type: dict
  returned: success
  contains:
    by:
      description: The host that looked.
      type: str
    ssh:
      description: Whether an ssh server greets at any of the addresses.
      type: bool
    host:
      description: Whether a host answers at any of them, though no ssh server does. It takes or refuses the connection.
      type: bool
    ping:
      description: Whether an echo was answered. None if it could not be tried.
      type: bool
    detail:
      description: What was met at each address.
      type: str
"""

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule

from ansible_collections.coldmove.libvirt.plugins.module_utils._node import looking

ARGUMENT_SPEC: dict[str, t.Any] = {
    "by": {"type": "str", "required": True},
    "addresses": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"address": {"type": "str", "required": True}, "port": {"type": "int", "default": 22}},
    },
    "timeout": {"type": "float", "default": 2},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    places = [looking.Place(place["address"], place["port"]) for place in module.params["addresses"]]
    module.exit_json(changed=False, look=looking.look(module.params["by"], places, max(1.0, module.params["timeout"])))


if __name__ == "__main__":
    main()
