#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_record_info
version_added: 0.1.0
short_description: Read the records of migrations
author:
  - coldmove contributors (@coldmove)
description:
  - Returns the records of migrations, oldest first. A record is returned if it matches all filters that are given.
  - A record store that does not exist is an empty one, and is not created.
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._attributes.info_module
  - coldmove.libvirt._attributes.idempotent_not_modify_state
  - coldmove.libvirt._records
options:
  uuid:
    description: UUID of the migration.
    type: str
    default: ""
  server:
    description: UUID or name of the server.
    type: str
    default: ""
  host:
    description: Inventory name of a node that is the source, the dest or among the RV(migrations[].pending_hosts).
    type: str
    default: ""
  status:
    description: Any of these statuses.
    type: list
    elements: str
    default: []
    choices:
      - accepted
      - pre-migrating
      - migrating
      - post-migrating
      - finished
      - confirming
      - confirmed
      - reverting
      - reverted
      - error
      - failed
      - done
      - completed
  active:
    description: Only migrations that are still going on or wait for a confirm or a revert.
    type: bool
    default: false
  latest:
    description: Only the last migration of each server, and those that are active or left something to clean.
    type: bool
    default: false
  with_definition:
    description:
      - Also return RV(migrations[].domain_xml).
      - A definition can hold secrets, like the password of a graphics console. Use C(no_log) on a task that sets this.
    type: bool
    default: false
  with_events:
    description: Also return RV(migrations[].events).
    type: bool
    default: false
seealso:
  - module: coldmove.libvirt.migration_record
"""

EXAMPLES = r"""
- name: Ask before the facts of the nodes are gathered
  coldmove.libvirt.migration_record_info:
    active: true
  register: records

- name: What is unconfirmed on a node
  coldmove.libvirt.migration_record_info:
    host: node-a
    status: [finished]

- name: All about one server
  coldmove.libvirt.migration_record_info:
    server: web01
    with_events: true
"""

RETURN = r"""
as_of:
  description: Pass it as O(coldmove.libvirt.migration_record#module:as_of), together with facts that are gathered after this.
  returned: success
  type: int
  sample: 42
migrations:
  description: The records, oldest first. What is not known yet is null.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Number of the migration, for people.
      type: int
    uuid:
      description: UUID of the migration.
      type: str
    server_uuid:
      description: UUID of the server.
      type: str
    server_name:
      description: Name of the server.
      type: str
    migration_type:
      description: V(migration), V(resize) or V(evacuation).
      type: str
    status:
      description: One of the choices of O(status).
      type: str
    source_host:
      description: Node that the server was on.
      type: str
    dest_host:
      description: Node that the server goes to. Null if there was no valid host.
      type: str
    old_flavor:
      description: The flavor before the move. Empty if it has none.
      type: dict
    new_flavor:
      description: The flavor after the move. Empty if it has none.
      type: dict
    need:
      description: What the server takes on its dest (C(vcpus), C(memory_mb), C(disk_bytes)).
      type: dict
    source_need:
      description: What is held on the source for the way back.
      type: dict
    claims:
      description: What the migration holds now, as a list of C(host), C(vcpus), C(memory_mb), C(disk_bytes). Empty once it has ended.
      type: list
      elements: dict
    old_power_state:
      description: The power state before the move.
      type: str
    autostart:
      description: Whether the server started with its node before the move.
      type: bool
    candidates:
      description: The hosts to choose from, the most wanted first.
      type: list
      elements: str
    rejected:
      description: Hosts that were ruled out, as a list of C(host) and C(reasons).
      type: list
      elements: dict
    as_of:
      description: The RV(as_of) that the record was opened with.
      type: int
    files:
      description: The files that cross.
      type: list
      elements: dict
    pending_hosts:
      description: Nodes that are still to be cleaned.
      type: list
      elements: str
    reason:
      description: Why the server is moved.
      type: str
    started_by:
      description: Who moves it.
      type: str
    error:
      description: What went wrong.
      type: str
    owner:
      description: The run that has the record.
      type: dict
    owner_since:
      description: Since when it has the record.
      type: str
    epoch:
      description: Grows by 1 each time another run takes the record over.
      type: int
    heartbeat_at:
      description: When the run was last heard of.
      type: str
    heartbeat_age_seconds:
      description: How long ago that was, by the clock of the record store.
      type: float
    progress:
      description: How far the run was then.
      type: dict
    bytes_total:
      description: Bytes to copy.
      type: int
    bytes_sent:
      description: Bytes copied.
      type: int
    held_bytes:
      description: Bytes that the held copy takes on the source.
      type: int
    downtime_seconds:
      description: How long the server was down.
      type: float
    phases:
      description: The phases so far, as a list of C(name), C(started_at) and C(seconds) (null while it goes on).
      type: list
      elements: dict
    created_at:
      description: When the record was opened.
      type: str
    updated_at:
      description: When the record was last changed, heartbeats and take-overs apart.
      type: str
    hold:
      description:
        - Of a precopy that is held for a later cutover, the dictionary C(cutover), C(since), C(epoch) and C(options). Null for all others.
        - If the record has another RV(migrations[].epoch) by now, a run has taken it up to cut it over.
      type: dict
    closed_event:
      description: The event that ended the migration, comparable with RV(as_of).
      type: int
    last_event:
      description: The event that last changed the record, comparable with RV(as_of).
      type: int
    domain_xml:
      description: The definition before the move.
      returned: O(with_definition=true)
      type: str
    events:
      description:
        - Everything that was written to the record, as a list of C(id), C(migration_uuid), C(epoch), C(at), C(kind) (V(open), V(adopt),
          V(transition), V(update), V(phase)), C(name), C(started_at), C(seconds) and C(detail).
      returned: O(with_events=true)
      type: list
      elements: dict
"""

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ..module_utils._adapters.record_database import ARGUMENT_SPEC, HAS_SQLALCHEMY, SQLALCHEMY_IMPORT_ERROR
from ..module_utils._adapters.records import Records
from ..module_utils._logic.errors import ColdmoveError
from ..module_utils._logic.transitions import STATUSES

FILTERS = {
    **{name: {"type": "str", "default": ""} for name in ("uuid", "server", "host")},
    "status": {"type": "list", "elements": "str", "default": [], "choices": list(STATUSES)},
    **{name: {"type": "bool", "default": False} for name in ("active", "latest", "with_definition", "with_events")},
}


def main() -> None:
    module = AnsibleModule(argument_spec={**ARGUMENT_SPEC, **FILTERS}, supports_check_mode=True)
    if not HAS_SQLALCHEMY:
        module.fail_json(msg=missing_required_lib("SQLAlchemy"), exception=SQLALCHEMY_IMPORT_ERROR)
    try:
        # A dry run never creates or upgrades the store.
        records = Records(module.params["url"], module.params["path"], dry_run=True)
        as_of, migrations = records.find(**{name: module.params[name] for name in FILTERS})
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(changed=False, as_of=as_of, migrations=migrations)


if __name__ == "__main__":
    main()
