#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_disk_send
short_description: Send the disks of a server to the dest of a move
version_added: 0.1.0
description:
  - Copies the held files of a server to the exports that M(coldmove.libvirt.virt_disk_receive) offers through the data channel,
    sparse and as opaque bytes, and digests what a guest would read from them meanwhile.
  - What the dest has already, of a copy that broke or was killed, is not sent again. Both ends digest the blocks of each file for that.
  - Or keeps the disks of a server that runs in step with these exports (O(state=in_step)), until it is off.
  - Both are jobs of the node. They go on when the controller or the connection to it is lost, and the next call attaches to them.
  - Runs on the source node.
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
      - V(reachable) waits for one of O(transfer_slots) and proves that every export answers through the channel; the guest may run.
      - V(in_step) proves that every export answers through the channel, waits for one of O(transfer_slots), mirrors the disks of a running server,
        and waits until both ends are in step.
        From then on each write of the guest is on both ends. The mirror stays until the guest is off.
        If the link, the dest or this job is lost, it ends and the guest goes on alone.
      - V(sent) copies the files of a server that is off.
      - V(absent) ends what is under way.
    type: str
    choices: [reachable, in_step, sent, absent]
    required: true
  server_uuid:
    description: UUID of the server. Required if O(state=in_step).
    type: str
  precopy_timeout:
    description: With O(state=in_step), give up when the ends are not in step after so many seconds.
    type: int
    default: 21600
  not_before:
    description: With O(state=in_step), go on waiting until then, in seconds since 1970, by the node's clock.
    type: float
    default: 0
  exports:
    description: Names of the export sockets by file id, as M(coldmove.libvirt.virt_disk_receive) returned them.
    type: dict
    default: {}
  verify:
    description: Digest the content, so that the dest can compare.
    type: bool
    default: true
  bandwidth_limit:
    description:
      - Upper limit in bytes per second; V(50M) style is accepted, V(0) is no limit.
      - With O(state=in_step) of what is copied beside the guest's own writes.
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
      - O(state=reachable) takes a slot for a copy while the server is off, and has a job of the node hold it until the copy has ended,
        or its run is known to be gone. Without such a job O(state=sent) waits itself.
      - O(state=in_step) holds one until both ends are in step.
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
  returned: O(state=sent) or O(state=in_step), and O(state=reachable) while it waits for a slot
precopy:
  description:
    - V(in_step) once both ends are.
    - V(impossible) if QEMU or libvirt does not mirror these disks here, for the reason that RV(reason) has. The guest was not touched.
    - V(over) if the guest is off by now.
  type: str
  returned: O(state=in_step), once the job needs no more waiting for
reason:
  description: Why there is no precopy.
  type: str
  returned: O(state=in_step)
"""

import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import URI_ARGS
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import devices, mirroring, paths, proving, sending, slots
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import FILES_ARG, JOB_ARGS, follow
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, step
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.progress import Report


def sockets_of(params: dict[str, t.Any]) -> dict[str, str]:
    """The sockets of the channel, by file id."""
    return {name: str(paths.OFFERS_DIR / token) for name, token in params["exports"].items()}


def order_of(journal: Journal, params: dict[str, t.Any]) -> sending.Order:
    """The transfer that ``params`` ask for, without what a precopy has brought over."""
    mirrored = mirroring.mirrored(journal)
    images = {name for name, token in params["exports"].items() if journal.data.get("precopied", {}).get(name) == token}
    images |= {file["id"] for file in params["files"] if devices.is_device(file)}
    return sending.Order(
        files=[file for file in params["files"] if params["exports"].get(file["id"], "") not in ("", mirrored.get(file["id"]))],
        images=images,
        sockets=sockets_of(params),
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
        ended = [Job(journal, name).cancel() for name in (mirroring.JOB, "send")]
        Job(journal, proving.HELD).cancel()  # what reads the held copy keeps its guest from starting
        Job(journal, "slot").cancel()
        sending.forget(journal.uuid)
        return {"changed": any(ended)}
    if params["state"] == "in_step":
        return keep_in_step(journal, params)
    order = order_of(journal, params)
    written_to = set(journal.data.get("written_to", []))
    known = set(params["exports"].values()) <= written_to
    limit = _limit(journal, params)
    if params["state"] == "reachable":
        if not (known and job.status()["state"] == "done"):  # what has crossed needs no channel any more, and its sockets are gone
            copies_cold = order.files and mirroring.state_of(journal) in (None, "lost")
            if limit and copies_cold and (waiting := slots.reserve(journal, limit, params["wait_seconds"])):
                return {"job": waiting, "changed": False}
            sending.probe(order)
        return {"changed": False}
    if not params["attach"]:
        if not known:
            job.cancel()  # what it copied went to files that the dest has not any more
        journal.note(written_to=sorted(written_to | set(params["exports"].values())))  # from here on they may hold part of the content
    before = job.status()["state"]
    # What a precopy leaves to be copied is next to nothing, and the guest is off meanwhile.
    limit = 0 if mirroring.mirrored(journal) else limit
    status = follow(job, lambda report: _send(order, limit, report), params)
    if status["state"] == "done":
        sending.forget(journal.uuid)
    return {"job": status, "changed": before != "done"}


def keep_in_step(journal: Journal, params: dict[str, t.Any]) -> dict[str, t.Any]:
    """Mirror the disks, or attach to the mirror that is there; the module's result."""
    job = Job(journal, mirroring.JOB)
    disks = [file for file in params["files"] if file["id"] in params["exports"] and file["kind"] == "disk"]
    tokens = {file["id"]: params["exports"][file["id"]] for file in disks}
    order = mirroring.Order(params["server_uuid"], disks, sockets_of(params), params["bandwidth_limit"], params["stall_timeout"], params["precopy_timeout"])
    before = mirroring.state_of(journal)
    if not params["attach"]:
        if journal.data.get("precopied") != tokens:
            job.cancel()  # what it mirrored went to files that the dest has not any more
        # From here on they may hold part of the content, as what a guest sees.
        journal.note(precopied=tokens, written_to=sorted({*journal.data.get("written_to", []), *tokens.values()}))
        if job.status()["state"] != "running":
            sending.probe(order_of(journal, params))
    limit = _limit(journal, params)
    status = follow(job, lambda report: _precopy(order, limit, report), params, lambda: is_awaited(journal, params))
    if status["state"] == "done":
        result = status["result"]
        return {"job": status, "changed": True, "precopy": "over" if result["begun"] else "impossible", "reason": result["reason"]}
    if is_awaited(journal, params):
        return {"job": {**status, "state": "in_step"}, "changed": before != "in_step", "precopy": "in_step", "reason": ""}
    return {"job": status, "changed": True}


def is_awaited(journal: Journal, params: dict[str, t.Any]) -> bool:
    """Whether both ends are in step, and it is time."""
    return mirroring.state_of(journal) == "in_step" and time.time() >= params["not_before"]


def _limit(journal: Journal, params: dict[str, t.Any]) -> int:
    """Of how many slots one is still to be taken; 0 for none: there is no limit, or one is held already."""
    return 0 if slots.is_held(journal) else params.get("transfer_slots") or 0


def _precopy(order: mirroring.Order, limit: int, report: Report) -> dict[str, t.Any]:
    with slots.taken_until_in_step(limit, report) as told:
        return mirroring.precopy(order, told)


def _send(order: sending.Order, limit: int, report: Report) -> dict[str, t.Any]:
    with slots.taken(limit if order.files else 0, report):
        return sending.send(order, report)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **URI_ARGS,
            "migration_uuid": {"type": "str", "required": True},
            "migration_epoch": {"type": "int", "required": True},
            "state": {"type": "str", "choices": ["reachable", "in_step", "sent", "absent"], "required": True},
            "server_uuid": {"type": "str"},
            "precopy_timeout": {"type": "int", "default": 21600},
            "not_before": {"type": "float", "default": 0},
            "files": FILES_ARG,
            "exports": {"type": "dict", "default": {}},
            "verify": {"type": "bool", "default": True},
            "bandwidth_limit": {"type": "bytes", "default": "0"},
            "compression": {"type": "str", "choices": ["none", "zstd", "auto"], "default": "none"},
            "transfer_slots": {"type": "int"},
            "stall_timeout": {"type": "int", "default": 120},
            **JOB_ARGS,
        },
        required_if=[("state", "in_step", ["server_uuid"])],
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
