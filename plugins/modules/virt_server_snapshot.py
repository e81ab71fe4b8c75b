#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_server_snapshot
short_description: See all that is needed to bring servers up elsewhere when their node is gone
version_added: 0.1.0
description:
  - Returns facts, definition, flavor, firmware variables and config drives of the servers of a node, as M(coldmove.libvirt.server_record) keeps them.
  - A server that cannot be looked at is told in RV(problems), and is no failure. Domains without a definition (transient ones) are left out.
  - Firmware variables are read as they are in that moment, also while the guest runs.
  - With O(known=true) the node's guard keeps in mind that the records know these servers. At a boot without an answer of the records host it starts
    only what no record knows, so this comes before the record.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  servers:
    description: UUIDs or names of servers. All of the node if not given.
    type: list
    elements: str
  known:
    description: Have the guard of this node know that the records know these servers. Give it whenever M(coldmove.libvirt.server_record) comes next.
    type: bool
    default: false
notes:
  - Definitions can hold secrets, like the password of a graphics console. Use C(no_log) on the task.
seealso:
  - module: coldmove.libvirt.server_record
  - module: coldmove.libvirt.virt_domain_info
"""

EXAMPLES = r"""
- name: Look at the servers of a node
  coldmove.libvirt.virt_server_snapshot:
    known: true
  register: seen
  no_log: true
"""

RETURN = r"""
servers:
  description: The servers that could be looked at.
  returned: success
  type: list
  elements: dict
  contains:
    server_uuid:
      description: UUID of the server.
      type: str
    name:
      description: Its name.
      type: str
    state:
      description: Its power state.
      type: str
    autostart:
      description: Whether it starts with its node.
      type: bool
    flavor:
      description: Its flavor, whole.
      type: dict
    facts:
      description: Its facts, as RV(coldmove.libvirt.virt_domain_info#module:server) has them, without C(xml).
      type: dict
    xml:
      description: Its definition, with secrets.
      type: str
    nvram:
      description: Its firmware variables, compressed by zlib, in Base64; or none.
      type: str
    config_drives:
      description: The content of its config drives of up to 64 MiB by target, compressed by zlib, in Base64.
      type: dict
directories:
  description: Where these servers have files of their own.
  returned: success
  type: list
  elements: str
problems:
  description: Sentences about what could not be seen.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import storage
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.domain_xml import LXML_IMPORT_ERROR
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import known, snapshots


def main() -> None:
    """Run the module."""
    options = {"servers": {"type": "list", "elements": "str"}, "known": {"type": "bool", "default": False}}
    module = AnsibleModule(argument_spec={**libvirt_host.URI_ARGS, **options}, supports_check_mode=True)
    if LXML_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("lxml"), exception=LXML_IMPORT_ERROR)
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    try:
        with libvirt_host.connected(module.params["uri"]) as host:
            servers, problems = snapshots.collect(host, module.params["servers"])
        changed = module.params["known"] and known.note((server["server_uuid"] for server in servers), module.check_mode)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    directories = sorted({directory for server in servers for directory in storage.directories(server["facts"])})
    module.exit_json(changed=changed, servers=servers, directories=directories, problems=problems)


if __name__ == "__main__":
    main()
