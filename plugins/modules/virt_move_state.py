#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_move_state
short_description: What a node holds of a move, after every older run has been stopped
version_added: 0.1.0
description:
  - Presents the number of this run to the node. From then on the node refuses the steps of older runs, and a step that was under way has ended.
  - Then reports what there is of the server and of the move's files on this node. Recovery decides from these reports of both nodes.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
  - coldmove.libvirt._migration
  - coldmove.libvirt._move_files
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
  server_uuid:
    description: UUID of the server.
    type: str
    required: true
  side:
    description:
      - For a node that is source and dest, as which of them it is asked.
      - The node has one definition of the server then. It is the dest's if this migration made it.
    type: str
    choices: [source, dest]
  close:
    description:
      - The migration has ended on this node. The journal is kept as a tombstone that refuses every later step.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Take the node over from the run that was killed, and look
  coldmove.libvirt.virt_move_state:
    migration_uuid: "{{ migration.uuid }}"
    migration_epoch: "{{ migration.epoch }}"
    server_uuid: "{{ migration.server_uuid }}"
    files: "{{ migration.files }}"
  delegate_to: node1
  register: source
"""

RETURN = r"""
move:
  description: State of the domain, of the files, of the job and of the exports on this node.
  type: dict
  returned: success
  contains:
    domain:
      description: V(absent), V(defined) or V(running).
      type: str
    held:
      description: Whether the source copy is set aside here.
      type: bool
    starting:
      description: Whether this migration was about to start the server here.
      type: bool
    started:
      description: Whether this migration has started the server here.
      type: bool
    waiting:
      description: Whether the server is paused here by a step of this migration that was killed. The next start lets it go on.
      type: bool
    proof:
      description: V(begun), V(done), V(failed) or V(impossible), for a start whose disks are proven afterwards. None for others.
      type: str
    written_bytes:
      description: What the server has written to the move's disks since it was started here. None if it does not run here.
      type: int
    attached:
      description: Disks that the server has got since this migration defined it here, with their paths. The record knows nothing of them.
      type: list
      elements: str
    files:
      description: Which of its names each file has, by file id.
      type: dict
    job:
      description: The copy or the verification, if there is one.
      type: dict
    exports:
      description: How many exports are being served.
      type: int
    precopy:
      description:
        - How the precopy stands that this migration has begun here, V(running), V(in_step), V(over) (its guest is off) or V(lost). None if there was none.
      type: str
"""

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import moves, proving, sending
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import FILES_ARG
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import step


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "uri": {"type": "str", "default": "qemu:///system"},
            "migration_uuid": {"type": "str", "required": True},
            "migration_epoch": {"type": "int", "required": True},
            "server_uuid": {"type": "str", "required": True},
            "files": FILES_ARG,
            "side": {"type": "str", "choices": ["source", "dest"]},
            "close": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        with libvirt_host.connected(params["uri"]) as host, step(params, module.check_mode, closed_too=True) as journal:
            state = moves.look(params["migration_uuid"], host, params["server_uuid"], params["files"], params["side"])
            if journal and params["close"]:
                journal.note(closed=True, server_uuid=params["server_uuid"])
                proving.settle(journal, host, params["server_uuid"])
                sending.forget(journal.uuid)
        module.exit_json(changed=False, move=state)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
