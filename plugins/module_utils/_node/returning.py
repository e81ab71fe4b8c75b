# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""A node that was given up is back: what it still has of a server that went on elsewhere is removed, by the record's exact names."""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import server_facts

MoveFile = dict[str, t.Any]


def clean(host: LibvirtHost, server_uuid: str, files: t.Sequence[MoveFile], own_directories: t.Collection[str], dry_run: bool = False) -> dict[str, t.Any]:
    """Undefine the server and delete its old files; ``{changed, undefined, deleted, kept: [path with the reason]}``.

    ``own_directories``: those that no other node sees, as has just been proven. What lies elsewhere is kept. Raises ColdmoveError if the server is not off.
    """
    state = host.state(server_uuid)
    if state not in (None, "shutoff"):
        raise ColdmoveError(
            f"server {server_uuid} is {state} on this node, which it was evacuated from: nothing was touched. Find out which copy is to be kept"
        )
    if state is not None and not dry_run:
        host.set_autostart(server_uuid, False)
        host.undefine(server_uuid)
    used = {os.path.realpath(path) for domain in host.domains() if host.identity(domain)[0] != server_uuid for path in server_facts.paths_of(host, domain)}
    deleted, kept = [], []
    for file in files:
        path = file["source_path"]
        reason = _why_kept(path, own_directories, used)
        if reason:
            kept.append(f"{path}: {reason}")
        elif os.path.lexists(path):
            deleted.append(path)
            if not dry_run:
                os.unlink(path)
    return {"changed": state is not None or bool(deleted), "undefined": state is not None, "deleted": deleted, "kept": kept}


def _why_kept(path: str, own_directories: t.Collection[str], used: t.Container[str]) -> str | None:
    if not os.path.lexists(path):
        return None
    if os.path.dirname(path) not in own_directories:
        return "it is not proven that no other node sees it"
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return "it is not a regular file"
    return "another domain of this node uses it" if os.path.realpath(path) in used else None
