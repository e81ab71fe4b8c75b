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
    with O(coldmove.libvirt.virt_power#module:proof_disks).
  - Both digests of one content are equal, whatever the layout of the images. The filter P(coldmove.libvirt.proof_verdict#filter) compares them.
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
    support: full
options:
  migration_uuid:
    required: true
  migration_epoch:
    required: true
  state:
    description:
      - V(present) digests, or gives the digests that are there already.
      - V(absent) ends the job. With O(of=started) it also ends the backup that held the disks fast, and deletes its scratch files. The server runs on.
    type: str
    choices: [present, absent]
    default: present
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
  follow:
    description: Whether to return the job until it is done. With V(false) it is returned if it is done at once; otherwise another call follows it.
    type: bool
    default: true
  outcome:
    description: With O(of=started) and O(state=absent), what came of the proof. The node remembers it.
    type: str
    choices: [done, failed, impossible]
  stall_timeout:
    description: Give up when nothing has been read for so many seconds. There is no total limit.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Begin to read the held copy
  coldmove.libvirt.virt_content_digest:
    migration_uuid: "{{ migration.uuid }}"
    migration_epoch: "{{ migration.epoch }}"
    server_uuid: "{{ migration.server_uuid }}"
    of: held
    files: "{{ migration.files }}"
    ids: [vda]
    follow: false
  delegate_to: node1

- name: Read what the server was started with
  coldmove.libvirt.virt_content_digest:
    migration_uuid: "{{ migration.uuid }}"
    migration_epoch: "{{ migration.epoch }}"
    server_uuid: "{{ migration.server_uuid }}"
    of: started
    files: "{{ migration.files }}"
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
  returned: O(state=present), with O(follow=false) only once it is done
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import proving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import FILES_ARG, JOB_ARGS, follow
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job, Work
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, step

#: How long who does not follow a job waits for a small one.
MOMENT_SECONDS = 0.5


def reach(journal: Journal, params: dict[str, t.Any]) -> dict[str, t.Any]:
    """Reach ``params['state']``; the module's result."""
    job = Job(journal, proving.STARTED if params["of"] == "started" else proving.HELD)
    if params["state"] == "absent":
        return {"changed": end(journal, job, params)}
    impossible = proving.known_impossible(journal) if params["of"] == "started" else None
    if impossible:
        result = {"changed": False, "job": {"name": job.name, "state": "done", "result": {"digests": {}, "impossible": impossible}}}
        return result if params["follow"] else {"changed": False}
    before = job.status()["state"]
    status = follow(job, work_of(journal, params), params if params["follow"] else {**params, "wait_seconds": MOMENT_SECONDS})
    if status["state"] == "running" and not params["follow"]:
        return {"changed": before != "running"}
    return {"job": status, "changed": before != "done"}


def work_of(journal: Journal, params: dict[str, t.Any]) -> Work:
    """The job."""
    stall_timeout = params["stall_timeout"]
    if params["of"] == "started":
        return lambda report: proving.read(journal, params["uri"], params["server_uuid"], stall_timeout, report)
    files = [file for file in params["files"] if file["id"] in params["ids"]]
    return lambda report: proving.read_held(files, stall_timeout, report)


def end(journal: Journal, job: Job, params: dict[str, t.Any]) -> bool:
    """End the job and what belongs to it; True if there was something."""
    if params["of"] == "held":
        return job.cancel()
    with libvirt_host.connected(params["uri"]) as host:
        return proving.settle(journal, host, params["server_uuid"], params["outcome"])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **libvirt_host.URI_ARGS,
            "migration_uuid": {"type": "str", "required": True},
            "migration_epoch": {"type": "int", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "of": {"type": "str", "choices": ["held", "started"], "required": True},
            "server_uuid": {"type": "str", "required": True},
            "files": FILES_ARG,
            "ids": {"type": "list", "elements": "str", "default": []},
            "follow": {"type": "bool", "default": True},
            "outcome": {"type": "str", "choices": ["done", "failed", "impossible"]},
            "stall_timeout": {"type": "int", "default": 120},
            **JOB_ARGS,
        },
        supports_check_mode=True,
    )
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    try:
        with step(module.params, module.check_mode) as journal:
            result = reach(journal, module.params) if journal else {"changed": True}
        module.exit_json(**result)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
