#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_disk_send
short_description: Send the disks of a server that is off to the dest of a move
version_added: 0.1.0
description:
  - Copies the held files of a server to the exports that M(coldmove.libvirt.virt_disk_receive) offers through the data channel,
    sparse and as opaque bytes, and digests what a guest would read from them meanwhile.
  - What the dest has already, of a copy that broke or was killed, is not sent again. Both ends digest the blocks of each file for that.
  - The copy is a job of the node. It goes on when the controller or the connection to it is lost, and the next call attaches to it.
  - Runs on the source node.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._migration
  - coldmove.libvirt._move_files
  - coldmove.libvirt._move_files.job
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
  state:
    description:
      - V(reachable) waits for one of O(transfer_slots) and proves that every export answers through the channel; the guest may run.
      - V(sent) copies.
      - V(absent) ends a copy that is under way.
    type: str
    choices: [reachable, sent, absent]
    required: true
  exports:
    description: Names of the export sockets by file id, as M(coldmove.libvirt.virt_disk_receive) returned them.
    type: dict
    default: {}
  verify:
    description: Digest the content, so that the dest can compare.
    type: bool
    default: true
  bandwidth_limit:
    description: Upper limit in bytes per second; V(50M) style is accepted, V(0) is no limit.
    type: bytes
    default: "0"
  compression:
    description:
      - Whether what crosses the channel is compressed, with both nodes' libzstd.
      - V(auto) tries both ways in the first seconds and takes the faster one. The job's progress and result say which, and why.
    type: str
    choices: [none, zstd, auto]
    default: none
  transfer_slots:
    description:
      - How many transfers this node sends at a time. Others wait, in the order in which they came.
      - O(state=reachable) takes a slot and has a job of the node hold it until the copy has ended, or its run is known to be gone.
        Without such a job O(state=sent) waits itself.
      - Without it there is no limit.
    type: int
  stall_timeout:
    description: Give up when nothing has moved for so many seconds. There is no total limit.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Copy the disks
  coldmove.libvirt.virt_disk_send:
    migration_uuid: "{{ migration.uuid }}"
    migration_epoch: "{{ migration.epoch }}"
    state: sent
    files: "{{ migration.files }}"
    exports: "{{ offered.exports }}"
  delegate_to: node1
  register: sent
"""

RETURN = r"""
job:
  description:
    - State, progress and result of the copy. The result has bytes_total, bytes_read, already_there (bytes that were not sent again),
      compression (words), copy_seconds, digest_seconds, retries, digests.
  type: dict
  returned: O(state=sent), and O(state=reachable) while it waits for a slot
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths, sending, slots
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import FILES_ARG, JOB_ARGS, follow
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, step


def order_of(journal: Journal, params: dict[str, t.Any]) -> sending.Order:
    """The transfer that ``params`` ask for."""
    return sending.Order(
        files=[file for file in params["files"] if file["id"] in params["exports"]],
        sockets={name: str(paths.OFFERS_DIR / token) for name, token in params["exports"].items()},
        verify=params["verify"],
        bandwidth_limit=params["bandwidth_limit"],
        stall_timeout=params["stall_timeout"],
        fresh=not set(params["exports"].values()) & set(journal.data.get("written_to", [])),
        compression=params.get("compression") or "none",
    )


def send(journal: Journal, params: dict[str, t.Any]) -> dict[str, t.Any]:
    """Reach ``params['state']``; the module's result."""
    job = Job(journal, "send")
    if params["state"] == "absent":
        cancelled = job.cancel()
        Job(journal, "slot").cancel()
        sending.forget(journal.uuid)
        return {"changed": cancelled}
    order = order_of(journal, params)
    written_to = set(journal.data.get("written_to", []))
    known = set(params["exports"].values()) <= written_to
    limit = params.get("transfer_slots") or 0
    if params["state"] == "reachable":
        if not (known and job.status()["state"] == "done"):  # what has crossed needs no channel any more, and its sockets are gone
            if limit and order.files and (waiting := slots.reserve(journal, limit, params["wait_seconds"])):
                return {"job": waiting, "changed": False}
            sending.probe(order)
        return {"changed": False}
    if not params["attach"]:
        if not known:
            job.cancel()  # what it copied went to files that the dest has not any more
        journal.note(written_to=sorted(written_to | set(params["exports"].values())))  # from here on they may hold part of the content
    before = job.status()["state"]
    limit = 0 if slots.is_held(journal) else limit
    status = follow(job, lambda report: _send(order, limit, report), params)
    if status["state"] == "done":
        sending.forget(journal.uuid)
    return {"job": status, "changed": before != "done"}


def _send(order: sending.Order, limit: int, report: sending.Report) -> dict[str, t.Any]:
    with slots.taken(limit if order.files else 0, report):
        return sending.send(order, report)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "migration_uuid": {"type": "str", "required": True},
            "migration_epoch": {"type": "int", "required": True},
            "state": {"type": "str", "choices": ["reachable", "sent", "absent"], "required": True},
            "files": FILES_ARG,
            "exports": {"type": "dict", "default": {}},
            "verify": {"type": "bool", "default": True},
            "bandwidth_limit": {"type": "bytes", "default": "0"},
            "compression": {"type": "str", "choices": ["none", "zstd", "auto"], "default": "none"},
            "transfer_slots": {"type": "int"},
            "stall_timeout": {"type": "int", "default": 120},
            **JOB_ARGS,
        },
        supports_check_mode=True,
    )
    if module.params["transfer_slots"] is not None and module.params["transfer_slots"] < 1:
        module.fail_json(msg=f"transfer_slots is {module.params['transfer_slots']}: it must be more than 0")
    try:
        with step(module.params, module.check_mode) as journal:
            result = send(journal, module.params) if journal else {"changed": module.params["state"] != "reachable"}
        module.exit_json(**result)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
