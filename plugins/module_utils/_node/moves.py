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

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import devices, mirroring, receiving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.holding import Domains, MoveFile
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

_NAMES = (("held", "held_path"), ("source", "source_path"), ("temp", "temp_path"), ("final", "dest_path"))


def look(migration_uuid: str, domains: Domains, server_uuid: str, files: list[MoveFile], side: str | None = None) -> dict[str, t.Any]:
    """The "node state of a move" of docs/architecture.md. Source and dest may have one path: what counts as which is the caller's to know.

    ``side``: ``source`` or ``dest`` if the node is both. It has one definition of the server then, which counts for the side that it is of.
    """
    journal = Journal(migration_uuid)
    state = domains.state(server_uuid)
    if side and state is not None and side != _side_of(journal, domains.xml(server_uuid)):
        state = None
    domain = "absent" if state is None else "defined" if state == "shutoff" else "running"
    jobs = [job for job in (Job(journal, name).status() for name in (mirroring.JOB, "send", "verify", "merge")) if job["state"] != "absent"]
    return {
        "domain": domain,
        "held": bool(journal.data.get("held")),
        "starting": bool(journal.data.get("starting")),
        "started": bool(journal.data.get("started")),
        "waiting": bool(journal.data.get("pausing")) and state == "paused",
        "proof": (journal.data.get("proof") or {}).get("state"),
        "written_bytes": sum(domains.bytes_written(server_uuid, _targets(files)).values()) if domain == "running" else None,
        "attached": _attached(journal, domains, server_uuid) if state is not None else [],
        "files": {file["id"]: _names_of(journal, file) for file in files},
        "job": jobs[-1] if jobs else None,
        "exports": receiving.running_exports(journal),
        "precopy": mirroring.state_of(journal),
    }


def _side_of(journal: Journal, xml: str) -> str:
    """Whose a definition is on a node that is source and dest: the dest's names the migration that made it."""
    return "dest" if domain_xml.origin(xml) == journal.uuid else "source"


def _attached(journal: Journal, domains: Domains, server_uuid: str) -> list[str]:
    """Disks, as ``target (path)``, that the server has got since this migration defined it here: the record knows nothing of them."""
    defined = journal.data.get("defined_disks")
    if defined is None:
        return []
    now = domain_xml.disk_paths(domains.xml(server_uuid))
    return [f"{target} ({path})" for target, path in now.items() if target not in defined]


def _targets(files: list[MoveFile]) -> list[str]:
    return [file["id"] for file in files if file["kind"] == "disk" and file["way"] != "drop"]


def _names_of(journal: Journal, file: MoveFile) -> str:
    """``missing``, or the file's names joined by ``+``; on one path for both ends ``source`` wins over ``final``.

    ``merged``: its overlay is part of the disk itself by now.
    """
    if devices.is_device(file):
        return devices.names_of(journal, file)
    found: dict[str, str] = {"": "merged"} if file["id"] in journal.data.get("merged", []) else {}
    for label, key in _NAMES:
        if os.path.lexists(file[key]) and file[key] not in found:
            found[file[key]] = label
    return "+".join(sorted(found.values())) or "missing"
