#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_record
version_added: 0.1.0
short_description: Write the record of a migration
author:
  - coldmove contributors (@coldmove)
description:
  - Opens the record of one move of one server and books the capacity for it, in one transaction. Then carries the record
    from status to status, each change as compare-and-set over the collection's transition table.
  - Run it on the records host, or on any host that reaches the database of O(url).
  - A server has at most one active migration; the database itself enforces this.
  - The record belongs to one run at a time. The run that takes a record over (O(action=adopt)) raises its epoch, and whoever
    comes with an older O(epoch) is refused with RV(ignore:superseded) set.
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._records
attributes:
  check_mode:
    support: full
    details:
      - O(action=open) tells which host it would choose. A record store that does not exist is taken as empty and not created.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - O(action=open) fails while the server has an active migration, O(action=adopt) fails once the epoch has grown.
      - O(action=heartbeat) never reports a change.
options:
  action:
    description:
      - V(open) writes a new record in status V(accepted), with the first of O(candidates) that has room as its dest. If none
        has, the record is written and ended in status V(error), and the module fails with all reasons.
      - V(adopt) takes the record over from the run that had it.
      - V(transition) moves the record to O(status) and sets what is given beside it. If the record has that status already,
        only what is given beside it is set.
      - V(heartbeat) tells that the run is alive, and how far it is.
      - V(phase) notes a phase that has begun or ended.
      - V(close) is V(transition) to a terminal status.
    type: str
    required: true
    choices: [open, adopt, transition, heartbeat, phase, close]
  uuid:
    description: The migration. Needed for all but O(action=open).
    type: str
  epoch:
    description: The epoch of the record that this run holds. Needed for V(transition), V(heartbeat), V(phase) and V(close).
    type: int
  expected_epoch:
    description: The epoch that the record had when it was decided to take it over. Needed for O(action=adopt).
    type: int
  owner:
    description: The run that has the record, as a mapping of C(controller), C(boot_id), C(pid), C(pid_start), C(pid_ns) and C(awx_job_id).
    type: dict
  status:
    description: The new status, for V(transition) and V(close).
    type: str
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
  server_uuid:
    description: UUID of the server, for O(action=open).
    type: str
  server_name:
    description: Name of the server, for O(action=open).
    type: str
  migration_type:
    description: The kind of move, for O(action=open).
    type: str
    choices: [migration, resize, evacuation]
  source_host:
    description: Inventory name of the node that the server is on, for O(action=open).
    type: str
  candidates:
    description: The hosts to choose from, the most wanted first, for O(action=open). They stay in the record as its alternates.
    type: list
    elements: dict
    suboptions:
      host:
        description: Inventory name of the node.
        type: str
        required: true
      capacity:
        description: What the node has to give, after its ratios and reservations.
        type: dict
        required: true
        suboptions: &amounts_float
          vcpus:
            description: Virtual CPUs.
            type: float
            default: 0
          memory_mb:
            description: Memory in MiB.
            type: float
            default: 0
          disk_bytes:
            description: Disk space in bytes.
            type: float
            default: 0
      used:
        description: What the domains in the node's facts take.
        type: dict
        required: true
        suboptions: *amounts_float
      counted:
        description: UUIDs of the domains that O(candidates[].used) counts. Claims of these servers are not counted again.
        type: list
        elements: str
        required: true
  as_of:
    description:
      - RV(coldmove.libvirt.migration_record_info#module:as_of), asked for before the facts behind O(candidates) were gathered. For O(action=open).
      - Migrations that ended since then still count, because the facts may not show how they ended.
    type: int
  need:
    description: What the server takes on its dest, for O(action=open).
    type: dict
    suboptions: &amounts_int
      vcpus:
        description: Virtual CPUs.
        type: int
        default: 0
      memory_mb:
        description: Memory in MiB.
        type: int
        default: 0
      disk_bytes:
        description: Disk space in bytes.
        type: int
        default: 0
  source_need:
    description:
      - What the server takes on its source, held there until it is confirmed. For O(action=open).
      - Without it, O(need) with C(vcpus) and C(memory_mb) of O(old_flavor). An evacuation holds nothing on its source.
    type: dict
    suboptions: *amounts_int
  old_flavor:
    description: The flavor before the move, for O(action=open).
    type: dict
  new_flavor:
    description: The flavor after the move, for O(action=open).
    type: dict
  old_power_state:
    description: The power state before the move, for O(action=open).
    type: str
  autostart:
    description: Whether the server started with its node before the move, for O(action=open).
    type: bool
    default: false
  domain_xml:
    description: The definition before the move, for O(action=open). It may hold secrets, so no module returns it unasked.
    type: str
  rejected:
    description: Hosts that were ruled out before, for O(action=open).
    type: list
    elements: dict
    suboptions:
      host:
        description: Inventory name of the node.
        type: str
        required: true
      reasons:
        description: Why it was ruled out.
        type: list
        elements: str
        required: true
  blockers:
    description: What speaks against the move besides; told with the reasons of the hosts if none of O(candidates) is chosen. For O(action=open).
    type: list
    elements: str
  source_fenced:
    description:
      - Whether the record is opened only if O(source_host) has the flag C(fenced) in the record store. For O(action=open).
      - Such a node is not put back into service while the record is open, and its guard starts nothing that the records know.
    type: bool
    default: false
  reason:
    description: Why the server is moved, for O(action=open).
    type: str
  started_by:
    description: Who moves it, for O(action=open).
    type: str
  dest_host:
    description:
      - Another one of O(candidates) that the record was opened with, for O(action=transition) while nothing has been copied.
      - The claim moves with it, or the module fails and the record stays as it was.
    type: str
  files:
    description: The files that cross, with the only names that are ever created, renamed or deleted. For O(action=transition).
    type: list
    elements: dict
  pending_hosts:
    description: Nodes that are still to be cleaned, for V(transition) and V(close). An evacuation that is V(done) gets its source by itself.
    type: list
    elements: str
  error:
    description: What went wrong, for V(transition) and V(close). An empty one takes back that of an earlier try.
    type: str
  downtime_seconds:
    description: How long the server was down, for O(action=transition).
    type: float
  bytes_total:
    description: Bytes to copy, for O(action=transition).
    type: int
  bytes_sent:
    description: Bytes copied, for O(action=transition).
    type: int
  held_bytes:
    description: Bytes that the held copy takes on the source, for O(action=transition).
    type: int
  hold:
    description:
      - Holds the precopy of a migration that is V(pre-migrating), with what its later cutover needs of this run. For O(action=transition).
      - The record keeps it with the time and the epoch, until it gets another status.
    type: dict
    suboptions:
      cutover:
        description: What the operator said of the cutover.
        type: str
        default: hold
      options:
        description: Variables of the verb that the later cutover goes by, as long as it is not told otherwise.
        type: dict
        default: {}
  phases:
    description: Phases that ended since the last write, for O(action=transition).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the phase.
        type: str
        required: true
      started_at:
        description: When it began, in ISO 8601.
        type: str
        required: true
      seconds:
        description: How long it took, by a monotonic clock.
        type: float
  progress:
    description:
      - How far the run is, as a mapping of C(step), C(percent), C(bytes_done), C(bytes_total), C(rate), C(eta_seconds), and perhaps C(note) or C(waiting).
      - For O(action=heartbeat).
    type: dict
  name:
    description: Name of the phase, for O(action=phase).
    type: str
  started_at:
    description: When the phase began, in ISO 8601, for O(action=phase).
    type: str
  seconds:
    description: How long the phase took, by a monotonic clock, for O(action=phase). Without it the phase has begun and not ended.
    type: float
  detail:
    description: Anything worth keeping about the phase, for O(action=phase).
    type: dict
seealso:
  - module: coldmove.libvirt.migration_record_info
"""

EXAMPLES = r"""
- name: Open a record and book the capacity
  coldmove.libvirt.migration_record:
    action: open
    server_uuid: 6695eb01-f6a4-4304-79aa-97f2502e193f
    server_name: web01
    migration_type: migration
    source_host: node-a
    candidates:
      - host: node-b
        capacity: {vcpus: 32, memory_mb: 64000, disk_bytes: 900000000000}
        used: {vcpus: 4, memory_mb: 8192, disk_bytes: 40000000000}
        counted: [0a2d0e25-8a3c-4b2f-9c0b-0a8b8c1a4b11]
    need: {vcpus: 1, memory_mb: 512, disk_bytes: 10737418240}
    as_of: "{{ records.as_of }}"
    started_by: alice
    owner: {controller: ops1, pid: 4711}
  register: opened

- name: Say that the copy begins
  coldmove.libvirt.migration_record:
    action: transition
    uuid: "{{ opened.migration.uuid }}"
    epoch: "{{ opened.migration.epoch }}"
    status: migrating
    bytes_total: 1073741824
    phases:
      - {name: check, started_at: "2026-01-31T12:00:00Z", seconds: 1.4}

- name: Take a record over from a run that is dead
  coldmove.libvirt.migration_record:
    action: adopt
    uuid: "{{ opened.migration.uuid }}"
    expected_epoch: 1
    owner: {controller: ops2, pid: 815}

- name: End a record whose dest could not be cleaned
  coldmove.libvirt.migration_record:
    action: close
    uuid: "{{ opened.migration.uuid }}"
    epoch: 2
    status: error
    error: node-b did not start the guest
    pending_hosts: [node-b]
"""

RETURN = r"""
migration:
  description:
    - The record after the change (in check mode as it would be), with the keys that RV(coldmove.libvirt.migration_record_info#module:migrations) describes.
    - On a failed V(open), the record that stands in the way, or the one that was written with "no valid host".
  returned: success, and when O(action=open) fails
  type: dict
superseded:
  description: Another run has taken the record over. This one must stop and touch nothing.
  returned: when that is why the module failed
  type: bool
  sample: true
"""

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ..module_utils._adapters.record_database import ARGUMENT_SPEC, HAS_SQLALCHEMY, SQLALCHEMY_IMPORT_ERROR
from ..module_utils._adapters.records import SETTABLE, Records
from ..module_utils._logic import claims, transitions
from ..module_utils._logic.errors import ColdmoveError

STR = {"type": "str"}
INT = {"type": "int"}
FLOAT = {"type": "float"}
DICT = {"type": "dict"}
REQUIRED_STR = {"type": "str", "required": True}
REQUIRED_STRS = {"type": "list", "elements": "str", "required": True}
NEED = {"type": "dict", "options": {name: {"type": "int", "default": 0} for name in claims.RESOURCES}}
ROOM = {"type": "dict", "required": True, "options": {name: {"type": "float", "default": 0} for name in claims.RESOURCES}}
CANDIDATE = {"host": REQUIRED_STR, "capacity": ROOM, "used": ROOM, "counted": REQUIRED_STRS}
REJECTED = {"host": REQUIRED_STR, "reasons": REQUIRED_STRS}
PHASE = {"name": REQUIRED_STR, "started_at": REQUIRED_STR, "seconds": FLOAT}
HOLD = {"type": "dict", "options": {"cutover": {"type": "str", "default": "hold"}, "options": {"type": "dict", "default": {}}}}

OPEN = {
    **{name: STR for name in ("server_uuid", "server_name", "source_host", "old_power_state", "reason", "started_by")},
    "migration_type": {"type": "str", "choices": list(transitions.MIGRATION_TYPES)},
    "candidates": {"type": "list", "elements": "dict", "options": CANDIDATE},
    "rejected": {"type": "list", "elements": "dict", "options": REJECTED},
    "blockers": {"type": "list", "elements": "str"},
    **{"as_of": INT, "need": NEED, "source_need": NEED, "old_flavor": DICT, "new_flavor": DICT, "owner": DICT},
    "autostart": {"type": "bool", "default": False},
    "source_fenced": {"type": "bool", "default": False},
    "domain_xml": {"type": "str", "no_log": True},
}
TRANSITION = {
    "status": {"type": "str", "choices": list(transitions.STATUSES)},
    **{"dest_host": STR, "error": STR, "downtime_seconds": FLOAT, "bytes_total": INT, "bytes_sent": INT, "held_bytes": INT},
    "files": {"type": "list", "elements": "dict"},
    "hold": HOLD,
    "pending_hosts": {"type": "list", "elements": "str"},
    "phases": {"type": "list", "elements": "dict", "options": PHASE},
}
PHASE_ENDED = {**{name: STR for name in ("name", "started_at")}, "seconds": FLOAT, "detail": DICT}

# What each action passes on, and what it cannot do without.
PASSED = {
    "open": tuple(OPEN),
    "adopt": ("uuid", "expected_epoch", "owner"),
    "transition": ("uuid", "epoch", "status", "dest_host", "phases", *SETTABLE),
    "heartbeat": ("uuid", "epoch", "progress"),
    "phase": ("uuid", "epoch", *PHASE_ENDED),
    "close": ("uuid", "epoch", "status", "error", "pending_hosts"),
}
NEEDED = {
    "open": ("server_uuid", "server_name", "migration_type", "source_host", "candidates", "need", "as_of"),
    "adopt": ("uuid", "expected_epoch", "owner"),
    "transition": ("uuid", "epoch", "status"),
    "heartbeat": ("uuid", "epoch"),
    "phase": ("uuid", "epoch", "name", "started_at"),
    "close": ("uuid", "epoch", "status"),
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "action": {"type": "str", "required": True, "choices": list(PASSED)},
            **{"uuid": STR, "epoch": INT, "expected_epoch": INT, "progress": DICT},
            **ARGUMENT_SPEC,
            **OPEN,
            **TRANSITION,
            **PHASE_ENDED,
        },
        required_if=[("action", action, names) for action, names in NEEDED.items()],
        supports_check_mode=True,
    )
    if not HAS_SQLALCHEMY:
        module.fail_json(msg=missing_required_lib("SQLAlchemy"), exception=SQLALCHEMY_IMPORT_ERROR)
    action = module.params["action"]
    try:
        records = Records(module.params["url"], module.params["path"], dry_run=module.check_mode)
        change = getattr(records, action)(**{name: module.params[name] for name in PASSED[action]})
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    before, after = change.differences()
    module.exit_json(changed=change.changed, migration=change.after, **({"diff": {"before": before, "after": after}} if module._diff else {}))


if __name__ == "__main__":
    main()
