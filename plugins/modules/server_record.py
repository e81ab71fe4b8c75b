#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: server_record
version_added: 0.1.0
short_description: Write what is known of servers, for the day when their node is gone
author:
  - coldmove contributors (@coldmove)
description:
  - Keeps the last-known record of each server, with its definition, and which other nodes see the storage that it lies on.
  - Run it on the records host, or on any host that reaches the database of O(url).
  - A server that a verb is at work on, or that was moved since O(as_of), is left as it is (RV(left)). The verb writes what became of it at its end.
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._records
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Of what can hold secrets, or is long, only a digest is shown.
  idempotent:
    support: full
    details:
      - The date of a record is renewed without reporting a change.
options:
  state:
    description:
      - V(present) writes the records of O(servers), which are on O(host) now.
      - V(absent) forgets the servers O(uuids).
    type: str
    choices: [present, absent]
    default: present
  host:
    description: Inventory name of the node that has the servers. Needed for O(state=present).
    type: str
  servers:
    description: The servers, as RV(coldmove.libvirt.virt_server_snapshot#module:servers) has them. Needed for O(state=present).
    type: list
    elements: dict
    suboptions:
      server_uuid:
        description: UUID of the server.
        type: str
        required: true
      name:
        description: Its name.
        type: str
        required: true
      state:
        description: Its power state.
        type: str
        required: true
      autostart:
        description: Whether it starts with its node.
        type: bool
        required: true
      flavor:
        description: Its flavor.
        type: dict
      facts:
        description: Its facts, as RV(coldmove.libvirt.virt_domain_info#module:server) has them, without C(xml).
        type: dict
        required: true
      xml:
        description: Its definition, with secrets.
        type: str
        required: true
      nvram:
        description: Its firmware variables, compressed.
        type: str
      config_drives:
        description: Its config drives by target, compressed.
        type: dict
        default: {}
  storage:
    description:
      - What is known of all directories of O(host), by directory, with C(identity) (the word that it wrote there) and C(seen_by) (the nodes that read it).
      - Without it, what is known stays as it is. For O(state=present).
    type: dict
  uuids:
    description: UUIDs of servers. Needed for O(state=absent).
    type: list
    elements: str
  as_of:
    description: RV(coldmove.libvirt.migration_record_info#module:as_of), asked for before the servers were looked at.
    type: int
seealso:
  - module: coldmove.libvirt.server_record_info
  - module: coldmove.libvirt.virt_server_snapshot
"""

EXAMPLES = r"""
- name: Look at the servers of a node
  coldmove.libvirt.virt_server_snapshot:
  register: seen
  no_log: true

- name: Keep what was seen
  coldmove.libvirt.server_record:
    host: "{{ inventory_hostname }}"
    servers: "{{ seen.servers }}"
    as_of: "{{ records.as_of }}"
  delegate_to: records1
  no_log: true

- name: Forget a server
  coldmove.libvirt.server_record:
    state: absent
    uuids: [6695eb01-f6a4-4304-79aa-97f2502e193f]
  delegate_to: records1
"""

RETURN = r"""
left:
  description: Servers whose record was left as it is, by UUID, with the reason.
  returned: success
  type: dict
  sample: {6695eb01-f6a4-4304-79aa-97f2502e193f: migration 7 is migrating}
"""

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.record_database import ARGUMENT_SPEC, HAS_SQLALCHEMY, SQLALCHEMY_IMPORT_ERROR
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.server_records import ServerRecords
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

REQUIRED = {"type": "str", "required": True}
SERVER = {
    **dict.fromkeys(("server_uuid", "name", "state"), REQUIRED),
    "autostart": {"type": "bool", "required": True},
    "flavor": {"type": "dict"},
    "facts": {"type": "dict", "required": True},
    "xml": {"type": "str", "required": True, "no_log": True},
    "nvram": {"type": "str", "no_log": True},
    "config_drives": {"type": "dict", "default": {}, "no_log": True},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENT_SPEC,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "host": {"type": "str"},
            "servers": {"type": "list", "elements": "dict", "options": SERVER},
            "storage": {"type": "dict"},
            "uuids": {"type": "list", "elements": "str"},
            "as_of": {"type": "int"},
        },
        required_if=[("state", "present", ("host", "servers")), ("state", "absent", ("uuids",))],
        supports_check_mode=True,
    )
    if not HAS_SQLALCHEMY:
        module.fail_json(msg=missing_required_lib("SQLAlchemy"), exception=SQLALCHEMY_IMPORT_ERROR)
    given = module.params
    try:
        records = ServerRecords(given["url"], given["path"], dry_run=module.check_mode)
        if given["state"] == "present":
            saved = records.save(given["host"], given["servers"], given["storage"], given["as_of"])
        else:
            saved = records.forget(given["uuids"], given["as_of"])
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    diff = {"diff": {"before": saved.before, "after": saved.after}} if module._diff else {}
    module.exit_json(changed=saved.changed, left=saved.left, **diff)


if __name__ == "__main__":
    main()
