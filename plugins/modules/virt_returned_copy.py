#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_returned_copy
short_description: Remove what a returned node has of an evacuated server
version_added: 0.1.0
description:
  - Undefines the server, which must be off, and deletes the files that the record of its evacuation names.
  - A file is deleted only if it lies in one of O(own_directories), was not written to since O(given_up_at), and no other domain of the node uses it,
    or stands on it.
  - Runs on the node that was given up.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
  - coldmove.libvirt._migration
  - coldmove.libvirt._move_files
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  migration_uuid:
    required: true
  migration_epoch:
    required: true
  server_uuid:
    description: UUID of the server.
    type: str
    required: true
  own_directories:
    description: Directories that no other node sees, as M(coldmove.libvirt.virt_storage) has just proven.
    type: list
    elements: str
    default: []
  given_up_at:
    description: When the node was given up, ISO 8601; the C(created_at) of the migration.
    type: str
    required: true
seealso:
  - module: coldmove.libvirt.virt_storage
"""

EXAMPLES = r"""
- name: Remove the old copy
  coldmove.libvirt.virt_returned_copy:
    migration_uuid: "{{ migration.uuid }}"
    migration_epoch: "{{ migration.epoch }}"
    server_uuid: "{{ migration.server_uuid }}"
    files: "{{ migration.files }}"
    own_directories: [/var/lib/libvirt/images]
    given_up_at: "{{ migration.created_at }}"
  delegate_to: node1
"""

RETURN = r"""
undefined:
  description: Whether the server was defined there.
  type: bool
  returned: success
deleted:
  description: Paths that were deleted.
  type: list
  elements: str
  returned: success
kept:
  description: Paths that were left alone, each with the reason.
  type: list
  elements: str
  returned: success
unproven:
  description: Those of the paths in RV(kept) that were kept only because they lie in none of O(own_directories).
  type: list
  elements: str
  returned: success
"""

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import returning
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import FILES_ARG
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import step


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **libvirt_host.URI_ARGS,
            "migration_uuid": {"type": "str", "required": True},
            "migration_epoch": {"type": "int", "required": True},
            "server_uuid": {"type": "str", "required": True},
            "files": FILES_ARG,
            "own_directories": {"type": "list", "elements": "str", "default": []},
            "given_up_at": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    given = module.params
    try:
        with step(given, module.check_mode, closed_too=True), libvirt_host.connected(given["uri"]) as host:
            server = returning.GivenUp(given["server_uuid"], given["files"], given["own_directories"], given["given_up_at"])
            result = returning.clean(host, server, module.check_mode)
        module.exit_json(**result)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
