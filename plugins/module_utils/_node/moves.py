# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""One look at everything a node has of a move."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._node import receiving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.holding import Domains, MoveFile
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

_NAMES = (("held", "held_path"), ("source", "source_path"), ("temp", "temp_path"), ("final", "dest_path"))


def look(migration_uuid: str, domains: Domains, server_uuid: str, files: list[MoveFile]) -> dict[str, t.Any]:
    """The "node state of a move" of docs/architecture.md. Source and dest may have one path: what counts as which is the caller's to know."""
    journal = Journal(migration_uuid)
    state = domains.state(server_uuid)
    domain = "absent" if state is None else "defined" if state == "shutoff" else "running"
    jobs = [job for job in (Job(journal, name).status() for name in ("send", "verify")) if job["state"] != "absent"]
    return {
        "domain": domain,
        "held": bool(journal.data.get("held")),
        "starting": bool(journal.data.get("starting")),
        "started": bool(journal.data.get("started")),
        "written_bytes": sum(domains.bytes_written(server_uuid, _targets(files)).values()) if domain == "running" else None,
        "files": {file["id"]: _names_of(file) for file in files},
        "job": jobs[-1] if jobs else None,
        "exports": receiving.running_exports(journal),
    }


def _targets(files: list[MoveFile]) -> list[str]:
    return [file["id"] for file in files if file["kind"] == "disk"]


def _names_of(file: MoveFile) -> str:
    """``missing``, or the file's names joined by ``+``; on one path for both ends ``source`` wins over ``final``."""
    found: dict[str, str] = {}
    for label, key in _NAMES:
        if os.path.lexists(file[key]) and file[key] not in found:
            found[file[key]] = label
    return "+".join(sorted(found.values())) or "missing"
