# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Argument specs that the node modules share; documented in plugins/doc_fragments/_move_files.py, one for one."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.channel import CIPHERS, Peer
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import inputs
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.text import quoted
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job, Work

FILES_ARG: dict[str, t.Any] = {
    "type": "list",
    "elements": "dict",
    "required": True,
    "options": {
        "id": {"type": "str", "required": True},
        "kind": {"type": "str", "choices": ["disk", "nvram"], "default": "disk"},
        "format": {"type": "str", "choices": ["qcow2", "raw"], "required": True},
        # Not of the type path: Ansible would put a variable's value where a name has a dollar in it. These are exact names.
        "source_path": {"type": "str", "required": True},
        "held_path": {"type": "str", "required": True},
        "dest_path": {"type": "str", "required": True},
        "temp_path": {"type": "str", "required": True},
        "size_bytes": {"type": "int", "default": 0},
        "virtual_bytes": {"type": "int", "default": 0},
        "allocated_bytes": {"type": "int", "default": 0},
        "way": {"type": "str", "choices": ["copy", "blank", "drop", "overlay", "replace", "image", "restore"], "default": "copy"},
        "grow_to_bytes": {"type": "int", "default": 0},
        "device": {"type": "str", "choices": ["", "named", "volume"], "default": ""},
        "volume": {"type": "str", "default": ""},
        "thin_pool": {"type": "str", "default": ""},
        "identity": {"type": "list", "elements": "str", "default": []},
        "image_path": {"type": "str"},
        "image_format": {"type": "str", "choices": ["qcow2", "raw"]},
    },
}
JOB_ARGS: dict[str, t.Any] = {"wait_seconds": {"type": "int", "default": 5}, "attach": {"type": "bool", "default": False}}


def peer_at(address: str, port: int, ciphers: t.Sequence[str] = ()) -> Peer:
    """The other end of a data channel, with this node's key and pins. Raises ColdmoveError for what is no cipher's name."""
    try:
        wanted = tuple(inputs.ciphers(ciphers)) if ciphers else CIPHERS
    except ValueError as exc:
        raise ColdmoveError(f"ciphers is {quoted(','.join(map(str, ciphers)))}: {exc}") from exc
    return Peer(address, port, paths.ACCOUNT, str(paths.IDENTITY), str(paths.KNOWN_HOSTS), wanted)


def follow(job: Job, work: Work, params: t.Mapping[str, t.Any], enough: t.Callable[[], bool] = lambda: False) -> dict[str, t.Any]:
    """Start ``work`` unless it runs or is done (or only look, with ``attach``), wait ``wait_seconds`` or until it is ``enough``; the job's status.

    Raises ColdmoveError if it failed or its process died.
    """
    if not params["attach"]:
        job.ensure_started(work)
    status = job.wait(params["wait_seconds"], enough)
    if status["state"] in ("failed", "died", "absent"):
        raise ColdmoveError(status.get("error") or f"job {job.name} {status['state']}: its process is gone without a result", job=status)
    return status
