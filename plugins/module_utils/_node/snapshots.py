# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""All that is needed to bring a server up elsewhere when this node is gone, seen while it is there. Nothing is touched."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import blobs, flavors
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.text import human_bytes, shown
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import server_facts

#: A record has room for so much of one file.
MAX_BYTES = 64 * 1024 * 1024

Snapshot = dict[str, t.Any]


def collect(host: LibvirtHost, servers: t.Sequence[str] | None = None) -> tuple[list[Snapshot], list[str]]:
    """(``servers``, or every domain that has a definition; sentences about what could not be seen)."""
    found, problems = [], []
    paths: dict[str, list[str]] = {}
    for server in _persistent(host) if servers is None else servers:
        try:
            facts = server_facts.collect(host, server, paths)
            snapshot, told = _of(facts)
        except (ColdmoveError, OSError) as exc:
            problems.append(f"server {shown(server)} could not be looked at, what is known of it stays as it was: {exc}")
            continue
        found.append(snapshot)
        problems += told
    return found, problems


def _persistent(host: LibvirtHost) -> list[str]:
    found = []
    for domain in host.domains():
        with contextlib.suppress(ColdmoveError):  # gone meanwhile
            if host.flags(domain)["persistent"]:
                found.append(host.identity(domain)[0])
    return found


def _of(facts: Snapshot) -> tuple[Snapshot, list[str]]:
    drives, problems = {}, []
    for disk in facts["disks"]:
        if disk["role"] != "config_drive" or disk["type"] not in ("file", "volume") or not disk["path"]:
            continue
        content = _content(disk["path"])
        if content is None:
            problems.append(f"config drive {disk['target']} of {shown(facts['name'])} is larger than {human_bytes(MAX_BYTES)}: it is not kept")
        else:
            drives[disk["target"]] = blobs.pack(content)
    nvram = facts["nvram"] or {}
    variables = _content(nvram["path"]) if nvram.get("exists") else None
    return {
        "server_uuid": facts["uuid"],
        "name": facts["name"],
        "state": facts["state"],
        "autostart": facts["autostart"],
        "flavor": flavors.current_of(t.cast("t.Any", facts)),
        "facts": {key: value for key, value in facts.items() if key != "xml"},
        "xml": facts["xml"],
        "nvram": blobs.pack(variables) if variables is not None else None,
        "config_drives": drives,
    }, problems


def _content(path: str) -> bytes | None:
    """The whole file; None if it is too large."""
    with open(path, "rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    return content if len(content) <= MAX_BYTES else None
