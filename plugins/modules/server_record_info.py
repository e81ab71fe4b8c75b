#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: server_record_info
version_added: 0.1.0
short_description: Read what is known of servers
author:
  - coldmove contributors (@coldmove)
description:
  - Returns the last-known records of servers, by name. A record is returned if it matches all filters that are given.
  - A record store that does not exist is an empty one, and is not created.
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._attributes.info_module
  - coldmove.libvirt._attributes.idempotent_not_modify_state
  - coldmove.libvirt._records
options:
  server:
    description: UUID or name of the server.
    type: str
    default: ""
  host:
    description: Inventory name of the node that the server was last seen on.
    type: str
    default: ""
  with_definition:
    description:
      - Also return RV(servers[].xml), RV(servers[].nvram) and RV(servers[].config_drives).
      - They can hold secrets, like the password of a graphics console. Use C(no_log) on a task that sets this.
    type: bool
    default: false
  check_definition:
    description: Also return RV(servers[].unreadable). All that was kept of each server is read for that.
    type: bool
    default: false
seealso:
  - module: coldmove.libvirt.server_record
"""

EXAMPLES = r"""
- name: What is known of the servers of a node?
  coldmove.libvirt.server_record_info:
    host: node-a
  delegate_to: records1
  register: known
"""

RETURN = r"""
servers:
  description: The records.
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
    host:
      description: The node that it was last seen on.
      type: str
    state:
      description: The power state in which it was last seen.
      type: str
    autostart:
      description: Whether it started with its node.
      type: bool
    flavor:
      description: Its flavor, whole.
      type: dict
    facts:
      description: Its facts, as RV(coldmove.libvirt.virt_domain_info#module:server) has them, without C(xml).
      type: dict
    unreadable:
      description: Why the server could not be brought up by what was kept of it, definition, firmware variables and config drives. Empty if it could.
      returned: O(check_definition=true)
      type: str
    storage:
      description:
        - What is known of the directories that hold its own files, by directory. C(identity) is the word that its node wrote there, C(seen_by) are the
          nodes that read it there at the same sync.
        - A directory that is missing here has not been looked at since the server came to use it.
      type: dict
    seen_at:
      description: When the server was last seen.
      type: str
    age_seconds:
      description: How long ago that was.
      type: float
    xml:
      description: Its definition, with secrets.
      returned: O(with_definition=true)
      type: str
    nvram:
      description: Its firmware variables as they were then, compressed by zlib, in Base64; or none.
      returned: O(with_definition=true)
      type: str
    config_drives:
      description: The content of its config drives by target, compressed by zlib, in Base64.
      returned: O(with_definition=true)
      type: dict
storage:
  description: What is known of all nodes' directories, by node, then by directory, each with C(identity) and C(seen_by).
  returned: success
  type: dict
"""

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.record_database import ARGUMENT_SPEC, HAS_SQLALCHEMY, SQLALCHEMY_IMPORT_ERROR
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.server_records import ServerRecords
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

FILTERS = {
    **{name: {"type": "str", "default": ""} for name in ("server", "host")},
    **{name: {"type": "bool", "default": False} for name in ("with_definition", "check_definition")},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**ARGUMENT_SPEC, **FILTERS}, supports_check_mode=True)
    if not HAS_SQLALCHEMY:
        module.fail_json(msg=missing_required_lib("SQLAlchemy"), exception=SQLALCHEMY_IMPORT_ERROR)
    try:
        # A dry run never creates or upgrades the store.
        records = ServerRecords(module.params["url"], module.params["path"], dry_run=True)
        servers, storage = records.find(**{name: module.params[name] for name in FILTERS}), records.storage()
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(changed=False, servers=servers, storage=storage)


if __name__ == "__main__":
    main()
