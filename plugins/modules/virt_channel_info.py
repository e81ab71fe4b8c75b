#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_channel_info
short_description: Which peers a node can open the data channel to
version_added: 0.1.0
description:
  - Opens the data channel from this node to each peer, with the node's key and the pinned host keys, and closes it again.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  peers:
    description: The peers to try.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The peer's name in the inventory.
        type: str
        required: true
      address:
        description: Name, IPv4 or IPv6 address of the peer on the migration network.
        type: str
        required: true
      port:
        description: Port of the peer's sshd.
        type: int
        default: 22
  ciphers:
    description: Names of ssh's ciphers, the preferred one first. Both ends must have one of them. Default are the fastest that are safe.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Prove the channel to two peers
  coldmove.libvirt.virt_channel_info:
    peers:
      - name: node2
        address: node2.example.net
      - name: node3
        address: 2001:db8::3
"""

RETURN = r"""
refused:
  description: What went wrong, by the peer's name. Empty when every channel opened.
  type: dict
  returned: success
"""

from concurrent.futures import ThreadPoolExecutor

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import channel
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import peer_at

_AT_ONCE = 8


def attempt(peer: dict[str, object], ciphers: list[str]) -> str:
    """Why the channel to ``peer`` does not open; empty if it does."""
    try:
        end = peer_at(str(peer["address"]), int(str(peer["port"])), ciphers)
        with channel.connected(end, {f"/{paths.OFFERS_DIR.name}/proof": "/nonexistent"}):
            return ""
    except ColdmoveError as exc:
        return str(exc)


def main() -> None:
    """Run the module."""
    peer_spec = {
        "name": {"type": "str", "required": True},
        "address": {"type": "str", "required": True},
        "port": {"type": "int", "default": 22},
    }
    module = AnsibleModule(
        argument_spec={
            "peers": {"type": "list", "elements": "dict", "required": True, "options": peer_spec},
            "ciphers": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    peers = module.params["peers"]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = dict(zip((peer["name"] for peer in peers), pool.map(lambda peer: attempt(peer, module.params["ciphers"]), peers)))
    module.exit_json(changed=False, refused={name: words for name, words in answers.items() if words})


if __name__ == "__main__":
    main()
