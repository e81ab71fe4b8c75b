# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/storage.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import storage
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, guarded

DOCUMENTATION = r"""
name: storage_identities
short_description: Which nodes see the same storage
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Compares the words that nodes wrote with those that others read at the same sync.
positional: read
options:
  _input:
    description: RV(coldmove.libvirt.virt_storage#module:written), by the node that wrote it.
    type: dict
    required: true
  read:
    description: RV(coldmove.libvirt.virt_storage#module:read), by the node that read it.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Who sees what node1 wrote?
  ansible.builtin.debug:
    msg: "{{ {'node1': mine.written} | coldmove.libvirt.storage_identities({'node2': seen.read}) }}"
"""

RETURN = r"""
_value:
  description: By node, then by directory, C(identity) (the word) and C(seen_by) (the other nodes that read it).
  type: dict
  sample: {node1: {/srv/a: {identity: 0f1e…, seen_by: [node2]}}}
"""


def storage_identities(written: t.Any, read: t.Any) -> t.Any:
    """Compare."""
    return storage.identities(a_dict(written, "what was written"), a_dict(read, "what was read"))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"storage_identities": guarded(storage_identities)}
