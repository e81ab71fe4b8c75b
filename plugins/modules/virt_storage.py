#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_storage
short_description: Prove which nodes see the same storage
version_added: 0.1.0
description:
  - A node writes a word that nobody can guess into a file of its own, C(.coldmove-storage-NAME), in each directory that its servers use.
    Another node that reads the same word at the same path sees the same storage. A path alone proves nothing.
  - A directory that does not answer for 15 seconds (its file server is gone) counts as one that cannot be written or read.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
attributes:
  check_mode:
    support: full
    details:
      - O(state=written) returns the words that are there already.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - O(state=written) writes new words each time. That is what makes them a proof.
options:
  state:
    description:
      - V(written) writes a new word into each of O(directories).
      - V(read) reads the words that the nodes O(of) have written.
      - V(absent) removes this node's files from O(directories).
    type: str
    required: true
    choices: [written, read, absent]
  host:
    description: Inventory name of this node. Needed for V(written) and V(absent).
    type: str
  directories:
    description: Absolute paths. Needed for V(written) and V(absent).
    type: list
    elements: str
  known:
    description:
      - The words that the record store knows, by directory. They stay in the files beside the new ones until these are in the record store.
      - For O(state=written).
    type: dict
    default: {}
  of:
    description: Directories by the inventory name of the node that wrote there, as lists (or as mappings, like RV(written)). Needed for O(state=read).
    type: dict
seealso:
  - module: coldmove.libvirt.server_record
"""

EXAMPLES = r"""
- name: Write this node's word
  coldmove.libvirt.virt_storage:
    state: written
    host: "{{ inventory_hostname }}"
    directories: [/var/lib/libvirt/images]
  register: mine

- name: Read on another node what it wrote
  coldmove.libvirt.virt_storage:
    state: read
    of:
      node1: [/var/lib/libvirt/images]
  register: seen
"""

RETURN = r"""
written:
  description: The new word by directory.
  returned: O(state=written)
  type: dict
failed:
  description: Why there is no word in a directory, by directory.
  returned: O(state=written)
  type: dict
read:
  description: The words that were read, the newest first, by node, then by directory. An empty list if there is no such file, or it cannot be read.
  returned: O(state=read)
  type: dict
unread:
  description: Why a directory could not be read, by directory. That it has no words is not known then.
  returned: O(state=read)
  type: dict
removed:
  description: Directories from which a file was removed.
  returned: O(state=absent)
  type: list
  elements: str
"""

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule

from ansible_collections.coldmove.libvirt.plugins.module_utils._node import storage


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["written", "read", "absent"]},
            "host": {"type": "str"},
            "directories": {"type": "list", "elements": "str"},
            "known": {"type": "dict", "default": {}},
            "of": {"type": "dict"},
        },
        required_if=[("state", "written", ("host", "directories")), ("state", "absent", ("host", "directories")), ("state", "read", ("of",))],
        supports_check_mode=True,
    )
    given = module.params
    if given["state"] == "read":
        found, unread = storage.read(given["of"])
        module.exit_json(changed=False, read=found, unread=unread)
    if given["state"] == "absent":
        removed = storage.remove(given["host"], given["directories"], module.check_mode)
        module.exit_json(changed=bool(removed), removed=removed)
    written, failed = storage.write(given["host"], given["directories"], given["known"], module.check_mode)
    module.exit_json(changed=bool(given["directories"]), written=written, failed=failed)


if __name__ == "__main__":
    main()
