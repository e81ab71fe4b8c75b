# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""A node that was given up is back: what it still has of a server that went on elsewhere is removed, by the record's exact names."""

from __future__ import annotations

import contextlib
import datetime
import os
import stat
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost, NoSuchServer
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import node_facts, server_facts

MoveFile = dict[str, t.Any]


class GivenUp(t.NamedTuple):
    """What is known of the server that went on elsewhere.

    ``own_directories``: those that no other node sees, as has just been proven. ``since``: when the node was given up; it has not written since.
    """

    server_uuid: str
    files: t.Sequence[MoveFile]
    own_directories: t.Collection[str]
    since: str


def clean(host: LibvirtHost, server: GivenUp, dry_run: bool = False) -> dict[str, t.Any]:
    """Undefine the server and delete its old files; ``{changed, undefined, deleted, kept: [path with the reason], unproven: [path]}``.

    ``unproven``: what was kept for no other reason than that another node may see it.
    What may be anybody else's is kept. Raises ColdmoveError if the server is not off.
    """
    since = datetime.datetime.fromisoformat(server.since.replace("Z", "+00:00")).timestamp()
    state = host.state(server.server_uuid)
    if state not in (None, "shutoff"):
        raise ColdmoveError(
            f"server {server.server_uuid} is {state} on this node, which it was evacuated from: nothing was touched. Find out which copy is to be kept"
        )
    if state is not None and not dry_run:
        host.set_autostart(server.server_uuid, False)
        host.undefine(server.server_uuid)
    used = _used_by_others(host, server.server_uuid)
    deleted, kept, unproven = [], [], []
    for file in server.files:
        path = file["source_path"]
        if not os.path.lexists(path):
            continue
        reason = _why_kept(path, since, used)
        if os.path.dirname(path) not in server.own_directories:
            unproven += [] if reason else [path]
            reason = "it is not proven that no other node sees it"
        reason = reason or (None if dry_run else _delete(path))
        if reason:
            kept.append(f"{path}: {reason}")
        else:
            deleted.append(path)
    return {"changed": state is not None or bool(deleted), "undefined": state is not None, "deleted": deleted, "kept": kept, "unproven": unproven}


def _why_kept(path: str, since: float, used: t.Mapping[str, str]) -> str | None:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    # The node was off, and has started nothing since: whoever wrote was somebody else, by a way to this storage that nobody has looked at.
    if status.st_mtime >= since:
        return "it has been written to since the server was evacuated"
    return used.get(os.path.realpath(path)) or used.get("")


def _delete(path: str) -> str | None:
    try:
        os.unlink(path)
    except OSError as exc:
        return f"it cannot be deleted: {exc.strerror}"
    return None


def _used_by_others(host: LibvirtHost, server_uuid: str) -> dict[str, str]:
    """What other domains of this node use, also below an image of theirs, with the words for it; under "" if that of one cannot be told."""
    used: dict[str, str] = {}
    for domain in host.domains():
        if host.identity(domain)[0] != server_uuid:
            # What was undefined since the list was made uses nothing: servers of one node are cleaned side by side.
            with contextlib.suppress(NoSuchServer):
                used.update(_used_by(host, domain))
    return used


def _used_by(host: LibvirtHost, domain: t.Any) -> dict[str, str]:
    used, name = {}, host.identity(domain)[1]
    for path in server_facts.paths_of(host, domain):
        used[os.path.realpath(path)] = f"the domain {name} uses it"
    for disk in domain_xml.read_disks(domain_xml.parse(host.xml_of(domain, secrets=False)), None):
        image = node_facts.local_path(host, disk) if disk["format"] == "qcow2" else None
        links, problem = _below(image) if image else ([], None)
        used.update({os.path.realpath(link): f"a disk of the domain {name} stands on it" for link in links})
        if problem:
            used[""] = f"what the domain {name} stands on cannot be told: {problem}"
    return used


def _below(path: str) -> tuple[list[str], str | None]:
    if not os.path.exists(path):
        return [], None
    try:
        links, problem = qemu_img.chain(path, qemu_img.info(path, "qcow2", in_use=True, devices=True))
    except ColdmoveError as exc:
        return [], str(exc)
    return [link["path"] for link in links], problem
