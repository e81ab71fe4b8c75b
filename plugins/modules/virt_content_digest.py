#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_content_digest
short_description: Digest the disks of a moved server on either end, while it runs on its dest
version_added: 0.1.0
description:
  - On the source it digests what a guest would read from the held copy.
  - On the dest it digests what the disks were at the instant in which M(coldmove.libvirt.virt_power) started the server there
    with O(coldmove.libvirt.virt_power#module:proof_disks), compares, and ends the backup that held the disks fast. The server runs on.
  - Both digests of one content are equal, whatever the layout of the images. The filter P(coldmove.libvirt.proof_verdict#filter) says what differs.
  - The digest is a job of the node. It goes on when the controller or the connection to it is lost, and the next call attaches to it.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
  - coldmove.libvirt._migration
  - coldmove.libvirt._move_files
  - coldmove.libvirt._move_files.job
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: What was compared once is over. Another call with O(of=started) finds that it cannot be proven any more.
options:
  migration_uuid:
    required: true
  migration_epoch:
    required: true
  of:
    description: V(held) on the source, V(started) on the dest.
    type: str
    choices: [held, started]
    required: true
  server_uuid:
    description: UUID of the server.
    type: str
    required: true
  ids:
    description: Which of O(files) are digested with O(of=held). What is digested with O(of=started) was decided by the start.
    type: list
    elements: str
    default: []
  held:
    description:
      - With O(of=started), the digests of the held copy, by file id. What comes of the comparison is remembered by the node.
      - Empty if the source could not be read.
    type: dict
    default: {}
  stall_timeout:
    description: Give up when nothing has been read for so many seconds. There is no total limit.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Read the held copy
  coldmove.libvirt.virt_content_digest:
    migration_uuid: "{{ migration.uuid }}"
    migration_epoch: "{{ migration.epoch }}"
    server_uuid: "{{ migration.server_uuid }}"
    of: held
    files: "{{ migration.files }}"
    ids: [vda]
  delegate_to: node1
  register: held

- name: Read what the server was started with
  coldmove.libvirt.virt_content_digest:
    migration_uuid: "{{ migration.uuid }}"
    migration_epoch: "{{ migration.epoch }}"
    server_uuid: "{{ migration.server_uuid }}"
    of: started
    files: "{{ migration.files }}"
    held: "{{ held.job.result.digests }}"
  delegate_to: node2
  register: started
"""

RETURN = r"""
job:
  description:
    - State, progress and result of the job.
    - The result has digests, by file id, each with algorithm, digest, virtual_bytes, read_bytes and seconds.
    - With O(of=started) it also has impossible, which says why digests are missing, and is None if none is.
  type: dict
  returned: success
"""

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import proofs
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import proving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import FILES_ARG, JOB_ARGS, follow
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, step


def held(journal: Journal, params: dict[str, t.Any]) -> dict[str, t.Any]:
    """Digest the held copy; the module's result."""
    job = Job(journal, proving.HELD)
    before = job.status()["state"]
    files = [file for file in params["files"] if file["id"] in params["ids"]]
    status = follow(job, lambda report: proving.read_held(files, params["stall_timeout"], report), params)
    return {"job": status, "changed": before != "done"}


def started(journal: Journal, params: dict[str, t.Any]) -> dict[str, t.Any]:
    """Digest what the server was started with, and settle the proof; the module's result."""
    uri, server_uuid = params["uri"], params["server_uuid"]
    found: dict[str, t.Any] = {"digests": {}, "impossible": proving.known_impossible(journal)}
    status: dict[str, t.Any] = {"name": proving.STARTED, "state": "done", "result": found}
    if not found["impossible"]:
        status = follow(Job(journal, proving.STARTED), lambda report: proving.read(journal, uri, server_uuid, params["stall_timeout"], report), params)
        if status["state"] != "done":
            return {"job": status, "changed": True}
        found = status["result"]
    outcome = proofs.judge({}, params["held"], found["digests"], found["impossible"])["state"]
    with libvirt_host.connected(uri) as host:
        changed = proving.settle(journal, host, server_uuid, outcome)
    return {"job": status, "changed": changed}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **libvirt_host.URI_ARGS,
            "migration_uuid": {"type": "str", "required": True},
            "migration_epoch": {"type": "int", "required": True},
            "of": {"type": "str", "choices": ["held", "started"], "required": True},
            "server_uuid": {"type": "str", "required": True},
            "files": FILES_ARG,
            "ids": {"type": "list", "elements": "str", "default": []},
            "held": {"type": "dict", "default": {}},
            "stall_timeout": {"type": "int", "default": 120},
            **JOB_ARGS,
        },
        supports_check_mode=True,
    )
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    try:
        with step(module.params, module.check_mode) as journal:
            digest = held if module.params["of"] == "held" else started
            result = digest(journal, module.params) if journal else {"changed": True}
        module.exit_json(**result)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
