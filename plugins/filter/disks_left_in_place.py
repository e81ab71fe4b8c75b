# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/storage.py."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import storage
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, guarded, text_or_empty

DOCUMENTATION = r"""
name: disks_left_in_place
short_description: Leave disks where they are that both nodes of a move see
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Takes the disks out of a move that lie on storage of which the last sync has proven that the dest sees it, and that both nodes still see.
positional: storage, read
options:
  _input:
    description: The server as M(coldmove.libvirt.virt_domain_info) returns it.
    type: dict
    required: true
  storage:
    description: What is known of the nodes' directories, C(storage) of M(coldmove.libvirt.server_record_info).
    type: dict
    required: true
  read:
    description: What M(coldmove.libvirt.virt_storage) has just read on the source and on the dest, by the node that read it.
    type: dict
    required: true
  source_host:
    description: The node that the server is on.
    type: str
    required: true
  dest_host:
    description: The node that the server goes to.
    type: str
    required: true
  sizes:
    description: New sizes of disks by target, as for P(coldmove.libvirt.plan_files#filter). A disk that gets another size is no disk to leave in place.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: What has to move at all?
  ansible.builtin.set_fact:
    server: "{{ server | coldmove.libvirt.disks_left_in_place(known.storage, {'node1': a.read, 'node2': b.read}, source_host='node1', dest_host='node2') }}"
"""

RETURN = r"""
_value:
  description: The server. Disks that stay have C(moves=false), and their paths are among its C(external_files), which the dest must have.
  type: dict
"""


def disks_left_in_place(server: t.Any, known: t.Any, read: t.Any, *, source_host: t.Any, dest_host: t.Any, sizes: t.Any = None) -> t.Any:
    """Leave them."""
    source, dest = text_or_empty(source_host), text_or_empty(dest_host)
    words = {str(node): a_dict(found, "what was read").get(source) or {} for node, found in a_dict(read, "what was read").items()}
    missing = {source, dest} - set(words)
    if missing:
        raise AnsibleFilterError(f"nothing was read on {' and '.join(sorted(missing))}")
    mine = a_dict(known, "storage").get(source) or {}
    return storage.left_in_place(a_dict(server, "server"), mine, words, dest, set(a_dict(sizes or {}, "sizes")))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"disks_left_in_place": guarded(disks_left_in_place)}
