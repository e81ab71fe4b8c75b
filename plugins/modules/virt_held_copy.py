#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_held_copy
short_description: Hold, restore or delete the source copy of a moved server
version_added: 0.1.0
description:
  - Holding sets the files of a server that is off aside under names that the record keeps and undefines the domain, NVRAM and TPM state kept.
    With O(shutdown) the same call shuts the server down first.
    Neither C(virsh start), nor autostart, nor a human in a hurry can start it then.
  - Restoring brings the files, the definition and the autostart flag back. It does not start the server.
  - Deleting removes exactly the files that were set aside.
  - Merging is the way to end a resize on the same node. Each overlay is written into the disk that it stands on, by a block job while the guest runs,
    and deleted. The old files of other ways are deleted as with V(absent).
  - Runs on the source node.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
  - coldmove.libvirt._migration
  - coldmove.libvirt._move_files
  - coldmove.libvirt._move_files.job
  - coldmove.libvirt._power.shutdown
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
    description: What is wanted of the source copy.
    type: str
    choices: [held, restored, absent, merged]
    required: true
  server_uuid:
    description: UUID of the server.
    type: str
    required: true
  shutdown:
    description:
      - With O(state=held), shut the server down first if it is not off, as M(coldmove.libvirt.virt_power) does with its defaults.
        Otherwise a server that runs is refused. So is one whose disks are mirrored, and not in step.
      - With the guest off every call of a module is downtime, so this is not one of its own.
    type: bool
    default: false
  definition:
    description:
      - The domain XML as the record keeps it.
      - Used only if the node's own journal has none.
    type: str
  stall_timeout:
    description: Give up when a merge has got no further for so many seconds. Everything stays, and can be merged again.
    type: int
    default: 120
  autostart:
    description:
      - The autostart flag as the record keeps it.
      - Used only if the node's own journal has none.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Set the source copy aside
  coldmove.libvirt.virt_held_copy:
    migration_uuid: "{{ migration.uuid }}"
    migration_epoch: "{{ migration.epoch }}"
    state: held
    server_uuid: "{{ migration.server_uuid }}"
    files: "{{ migration.files }}"
  delegate_to: node1
"""

RETURN = r"""
owners:
  description: Owner, group and mode of each file, by file id, for M(coldmove.libvirt.virt_disk_receive).
  type: dict
  returned: O(state=held)
mirrored:
  description:
    - If the disks were in step with the dest until the server was off, the names of the export sockets that took them in, by file id.
    - Empty if there was no precopy, or if one of them was not in step to the end.
  type: dict
  returned: O(state=held)
mirror_error:
  description: If there was a precopy and RV(mirrored) is empty, why. The disks are to be copied while the server is off.
  type: str
  returned: O(state=held)
seconds:
  description: How long it took until the guest was off.
  type: float
  returned: the server was shut down
since_reached_seconds:
  description: How long the module went on afterwards. Who measures downtime by when the tasks ended, subtracts it.
  type: float
  returned: the server was shut down
graceful:
  description: Whether the guest shut down by itself.
  type: bool
  returned: the server was shut down
method:
  description: What stopped it, V(acpi), V(agent) or V(power_off).
  type: str
  returned: the server was shut down
deleted:
  description: Paths that were deleted.
  type: list
  elements: str
  returned: O(state=absent) or O(state=merged)
kept:
  description: Paths that were left alone, each with the reason.
  type: list
  elements: str
  returned: O(state=absent) or O(state=merged)
job:
  description: State, progress and result of the merge.
  type: dict
  returned: O(state=merged)
"""

import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import devices, holding, merging, mirroring, power, proving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import FILES_ARG, JOB_ARGS, follow
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.files import owner_of
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, step
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.progress import Report


def reach(journal: Journal, params: dict[str, t.Any]) -> dict[str, t.Any]:
    """Reach ``params['state']``; the module's result."""
    files, server = params["files"], params["server_uuid"]
    if params["state"] == "merged":
        return merge(journal, params)
    if params["state"] in ("absent", "restored"):
        Job(journal, proving.HELD).cancel()  # what reads the held copy keeps its guest from starting
    if params["state"] == "absent":
        users: dict[str, str] = {}
        if any(map(devices.is_device, files)):
            with libvirt_host.connected(params["uri"]) as host:
                users = devices.users_of(host)
        deleted, kept = holding.release(journal, files, users)
        return {"changed": bool(deleted), "deleted": deleted, "kept": kept}
    with libvirt_host.connected(params["uri"]) as host:
        if params["state"] == "held":
            return hold(journal, host, params)
        return {"changed": holding.restore(journal, host, server, files, params["definition"], params["autostart"])}


def hold(journal: Journal, host: libvirt_host.LibvirtHost, params: dict[str, t.Any]) -> dict[str, t.Any]:
    """Shut the server down if that is wanted, and hold it."""
    files, server, stopped, since = params["files"], params["server_uuid"], {}, time.monotonic()
    if params["shutdown"] and host.state(server) not in (None, "shutoff"):
        mirroring.check_in_step(journal)
        stopped = power.stop(host, server, power.stop_of(params))
        since = time.monotonic() - stopped["since_reached_seconds"]
    changed = holding.hold(journal, host, server, files)
    owners = {file["id"]: owner_of(file["held_path"]) for file in files}
    mirrored, why_not = mirroring.conclude(journal)
    result = {**stopped, "changed": changed or bool(stopped), "owners": owners, "mirrored": mirrored, "mirror_error": why_not}
    return {**result, "since_reached_seconds": round(time.monotonic() - since, 3)} if stopped else result


def merge(journal: Journal, params: dict[str, t.Any]) -> dict[str, t.Any]:
    """Merge the overlays as a job of the node, then delete what else was held."""
    job = Job(journal, "merge")

    def work(report: Report) -> dict[str, t.Any]:
        with libvirt_host.connected(params["uri"]) as host:
            return merging.merge(journal, host, params["server_uuid"], params["files"], params["stall_timeout"], report)

    before = job.status()["state"]
    status = follow(job, work, params)
    deleted, kept = holding.release(journal, params["files"]) if status["state"] == "done" else ([], [])
    return {"changed": before != "done" or bool(deleted), "job": status, "deleted": deleted, "kept": kept}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "uri": {"type": "str", "default": "qemu:///system"},
            "migration_uuid": {"type": "str", "required": True},
            "migration_epoch": {"type": "int", "required": True},
            "state": {"type": "str", "choices": ["held", "restored", "absent", "merged"], "required": True},
            "server_uuid": {"type": "str", "required": True},
            "files": FILES_ARG,
            "shutdown": {"type": "bool", "default": False},
            "definition": {"type": "str", "no_log": True},
            "autostart": {"type": "bool", "default": False},
            "stall_timeout": {"type": "int", "default": 120},
            **power.SHUTDOWN_ARGS,
            **JOB_ARGS,
        },
        supports_check_mode=True,
    )
    try:
        power.check_shutdown(module.params)
        with step(module.params, module.check_mode) as journal:
            result = reach(journal, module.params) if journal else {"changed": True, "deleted": [], "kept": []}
        if result.get("mirror_error"):
            module.warn(f"the copy that was kept in step is of no use, the disks are copied while the server is off: {result['mirror_error']}")
        module.exit_json(**result)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
