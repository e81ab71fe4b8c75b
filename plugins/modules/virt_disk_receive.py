#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_disk_receive
short_description: Take the disks of a server in on the dest of a move
version_added: 0.1.0
description:
  - Creates the files of a move under temporary names, serves each over NBD on a unix socket that only root reaches,
    and opens the data channel over which the source reaches them.
  - Afterwards it closes the exports, makes the content durable, compares it with what the source has read, and only then gives the final names.
  - Runs on the dest node. A file that exists already is never overwritten.
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
      - V(offered) creates the files and serves them.
      - V(committed) closes the exports, verifies and renames.
      - V(absent) closes the exports and deletes what this migration made here, by exact name and inode.
    type: str
    choices: [offered, committed, absent]
    required: true
  contents:
    description: What the record store has kept of files that are restored, by O(files[].id), as M(coldmove.libvirt.server_record_info) returns it.
    type: dict
    default: {}
  address:
    description: Name, IPv4 or IPv6 address of the source on the migration network. Required if O(state=offered) and a file is to be copied.
    type: str
  port:
    description: Port of the source's sshd.
    type: int
    default: 22
  ciphers:
    description: Names of ssh's ciphers for the channel, the preferred one first. Both ends must have one of them. Default are the fastest that are safe.
    type: list
    elements: str
    default: []
  instances_path:
    description: Directory under which missing directories of the files may be created.
    type: path
    default: /var/lib/libvirt/images
  digests:
    description: What the source has read, by file id, as M(coldmove.libvirt.virt_disk_send) returned it.
    type: dict
    default: {}
  lengths:
    description: Length in bytes of each file at the source, by file id, as M(coldmove.libvirt.virt_disk_send) returned it.
    type: dict
    default: {}
  owners:
    description: Owner, group and mode that the files get, by file id, as M(coldmove.libvirt.virt_held_copy) returned them. Without it they are root's.
    type: dict
    default: {}
  verify:
    description: Compare the content that a guest would see on both ends before a file gets its final name.
    type: bool
    default: true
  precopy:
    description:
      - Of O(state=offered). Disks are made as blank images of their own format, and exported as what a guest sees, for the source's QEMU to mirror into.
      - With V(false) files cross as opaque bytes. What was made the other way is made anew.
      - Not given, what is there stays as it is, and new files cross as opaque bytes.
    type: bool
  mirrored:
    description:
      - Of O(state=committed). The tokens of the exports that the source has mirrored disks to, by file id, as M(coldmove.libvirt.virt_held_copy) returned them.
      - These disks are not compared now. Their files must be the ones that were served then.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Offer the disks of a server that is about to come
  coldmove.libvirt.virt_disk_receive:
    migration_uuid: "{{ migration.uuid }}"
    migration_epoch: "{{ migration.epoch }}"
    state: offered
    files: "{{ migration.files }}"
    address: node1.example.net
  delegate_to: node2
  register: offered
"""

RETURN = r"""
exports:
  description: Name of the socket on both ends of the channel, by file id.
  type: dict
  returned: O(state=offered)
job:
  description: State, progress and result of the verification.
  type: dict
  returned: O(state=committed)
deleted:
  description: Paths that were deleted.
  type: list
  elements: str
  returned: O(state=absent)
kept:
  description: Paths that were left alone, each with the reason.
  type: list
  elements: str
  returned: O(state=absent)
"""

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import receiving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import FILES_ARG, JOB_ARGS, follow, peer_at
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, step


def receive(journal: Journal, params: dict[str, t.Any]) -> dict[str, t.Any]:
    """Reach ``params['state']``; the module's result."""
    files = params["files"]
    if params["state"] == "offered":
        source = peer_at(params["address"] or "", params["port"], params["ciphers"])
        offered, changed = receiving.offer(journal, files, params["instances_path"], source, params["contents"], params["precopy"])
        return {"changed": changed, "exports": offered}
    job = Job(journal, "verify")
    if params["state"] == "committed":
        told = receiving.Told(params["owners"], params["lengths"], params["digests"] if params["verify"] else None, params["mirrored"])
        before = job.status()["state"]
        return {"job": follow(job, lambda report: receiving.commit(journal, files, told, report), params), "changed": before != "done"}
    cancelled = job.cancel()
    deleted, kept = receiving.discard(journal, files)
    return {"changed": cancelled or bool(deleted), "deleted": deleted, "kept": kept}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "migration_uuid": {"type": "str", "required": True},
            "migration_epoch": {"type": "int", "required": True},
            "state": {"type": "str", "choices": ["offered", "committed", "absent"], "required": True},
            "files": FILES_ARG,
            "address": {"type": "str"},
            "port": {"type": "int", "default": 22},
            "ciphers": {"type": "list", "elements": "str", "default": []},
            "instances_path": {"type": "path", "default": "/var/lib/libvirt/images"},
            "contents": {"type": "dict", "default": {}, "no_log": True},
            "digests": {"type": "dict", "default": {}},
            "lengths": {"type": "dict", "default": {}},
            "owners": {"type": "dict", "default": {}},
            "verify": {"type": "bool", "default": True},
            "precopy": {"type": "bool"},
            "mirrored": {"type": "dict", "default": {}},
            **JOB_ARGS,
        },
        supports_check_mode=True,
    )
    given = module.params
    if given["state"] == "offered" and not given["address"] and any(file["way"] == "copy" for file in given["files"]):
        module.fail_json(msg="address is needed: files are to be copied from the source")
    try:
        with step(module.params, module.check_mode) as journal:
            result = receive(journal, module.params) if journal else {"changed": True, "exports": {}, "deleted": [], "kept": []}
        module.exit_json(**result)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
