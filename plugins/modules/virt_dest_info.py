#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_dest_info
short_description: What a node says of a server before it comes
version_added: 0.1.0
description:
  - Looks at everything on the dest that would stop a move, all at once and while the guest still runs on its source.
  - Leftovers, missing files, free space, networks, CPU, machine type, emulator, collisions with other domains, and libvirt's own opinion of the definition.
  - Changes nothing.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.info_module
  - coldmove.libvirt._attributes.idempotent_not_modify_state
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
  - coldmove.libvirt._move_files
  - coldmove.libvirt._domain_edits
options:
  xml:
    description: The domain XML as the source gave it. The edits below are made to it first.
    type: str
    required: true
  external_files:
    description: Files that are not the server's own but that it needs, see M(coldmove.libvirt.virt_domain_info).
    type: list
    elements: path
    default: []
  directories:
    description: Folders that must exist and be writable. The folders of O(files) need not exist yet.
    type: list
    elements: path
    default: []
  in_place:
    description: The server is on this node and stays on it, so that it is not in its own way.
    type: bool
    default: false
notes:
  - Libvirt's opinion is asked with C(virConnectDomainXMLToNative), which writes out QEMU's command line.
    It opens no file and keeps nothing, and it refuses what libvirt's define refuses.
"""

EXAMPLES = r"""
- name: Ask the dest
  coldmove.libvirt.virt_dest_info:
    xml: "{{ answer.server.xml }}"
    files: "{{ migration.files }}"
    external_files: "{{ answer.server.external_files }}"
    networks:
      default: guests
  register: there
  delegate_to: node2
"""

RETURN = r"""
dest:
  description: What the node said.
  type: dict
  returned: success
  contains:
    leftovers:
      description: Paths that exist and must not, C(dest_path) and C(temp_path) of each file.
      type: list
      elements: str
    device_problems:
      description: What speaks against the block devices of O(files), which must be large enough, empty and nobody else's, or be volumes that can be made.
      type: list
      elements: str
    missing:
      description: Files and folders that must exist and do not, or folders that cannot be written.
      type: list
      elements: str
    unmet:
      description: Other things that the server needs and this node does not have, such as a network, a network filter or a secret.
      type: list
      elements: str
    collisions:
      description: UUID, name, MAC address or disk path that a domain of this node has already. Also this server itself, if it is defined here.
      type: list
      elements: str
    free_bytes:
      description: Free space by folder, for O(directories) and the folders of O(files).
      type: dict
    same_filesystem:
      description: An identification of the file system by folder. Folders with the same one share their free space.
      type: dict
    image_bytes:
      description: By file that is to be made from an image, what a copy of that image's content takes, in bytes.
      type: dict
    cpu:
      description: V(compatible), or V(incompatible) or V(unknown) followed by a colon and the reason.
      type: str
    emulator_ok:
      description: Whether the emulator is there and knows architecture and machine type.
      type: bool
    define_error:
      description: What libvirt has against the definition, or none.
      type: str
"""

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.domain_xml import LXML_IMPORT_ERROR
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import definition, dest_facts
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import FILES_ARG


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **libvirt_host.URI_ARGS,
            **definition.EDIT_ARGS,
            "xml": {"type": "str", "required": True},
            "files": FILES_ARG,
            "external_files": {"type": "list", "elements": "path", "default": []},
            "directories": {"type": "list", "elements": "path", "default": []},
            "in_place": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
        no_log=True,  # the XML may hold passwords: the arguments stay out of the node's system log
    )
    if LXML_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("lxml"), exception=LXML_IMPORT_ERROR)
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    params = module.params
    shown = definition.shown(params)
    try:
        wanted = definition.edited(params)
        with libvirt_host.connected(params["uri"]) as host:
            dest = dest_facts.collect(host, wanted, params["files"], params["external_files"], params["directories"], params["in_place"])
        module.exit_json(changed=False, dest=dest, invocation=shown)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), invocation=shown, **exc.result)


if __name__ == "__main__":
    main()
