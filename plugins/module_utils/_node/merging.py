# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Confirm of a resize on the same node: each overlay is merged into the disk that it stands on, while the guest runs or off.

At every instant the overlay on top of the disk reads as the guest's newest data: what is half merged is hidden by it. A killed
merge is done again from the beginning.
"""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_edits, domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import files as nodefiles
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import growing
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.holding import MoveFile
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.progress import Report, progress

_POLL_SECONDS = 0.2
#: A guest that is started or stopped meanwhile changes the way; so often is the other one tried.
_ATTEMPTS = 5
#: What libvirt keeps of a server beside its definition, and how to look at it.
_LOST = (("managed_save", "list --managed-save"), ("snapshots", "snapshot-list"), ("checkpoints", "checkpoint-list"))


def merge(journal: Journal, host: LibvirtHost, server_uuid: str, files: list[MoveFile], stall_timeout: float, report: Report) -> dict[str, t.Any]:
    """Merge every overlay and delete it; ``{merged: [disk targets], seconds}``. Raises ColdmoveError, with nothing lost."""
    begun = time.monotonic()
    for file in (file for file in files if file["way"] == "overlay"):
        merged = list(journal.data.get("merged", []))
        if file["id"] not in merged:
            _merge_one(journal, host, server_uuid, file, stall_timeout, report)
            journal.note(merged=[*merged, file["id"]])
        # Only now: until this is written down the overlay is part of the server.
        if nodefiles.is_ours(journal, file["dest_path"]):
            os.unlink(file["dest_path"])
    return {"merged": journal.data.get("merged", []), "seconds": round(time.monotonic() - begun, 3)}


def _check_room(file: MoveFile) -> None:
    """What the overlay holds is written into the disk, before the overlay goes."""
    if not os.path.lexists(file["dest_path"]) or qemu_img.is_device(file["held_path"]):
        return  # a device has its room whatever is in it
    need = os.lstat(file["dest_path"]).st_blocks * 512
    space = os.statvfs(os.path.dirname(file["held_path"]))
    free = space.f_bavail * space.f_frsize
    if need > free:
        raise ColdmoveError(
            f"{file['dest_path']} holds {need} bytes that are to be merged into {file['held_path']}, where only {free} bytes are free: "
            "make room, then run the same command again. The server goes on as it is"
        )


def _merge_one(journal: Journal, host: LibvirtHost, server_uuid: str, file: MoveFile, stall_timeout: float, report: Report) -> None:
    for _attempt in range(_ATTEMPTS):
        _let_go_on(journal, host, server_uuid)
        if _stands_alone(host, server_uuid, file):
            return
        _check_loss(host, server_uuid, file)
        if host.state(server_uuid) in (None, "shutoff"):
            _merge_off(host, server_uuid, file)
        elif _merge_running(host, server_uuid, file, stall_timeout, report):
            _pivot(journal, host, server_uuid, file)
    raise ColdmoveError(f"disk {file['id']} of server {server_uuid} is still on its overlay {file['dest_path']}: run the same command again")


def _stands_alone(host: LibvirtHost, server_uuid: str, file: MoveFile) -> bool:
    """Whether neither the definition nor the running guest names the overlay any more."""
    domain = host.domain(server_uuid)
    documents = [host.xml_of(domain)]
    if host.state_of(domain) != "shutoff":
        documents.append(host.xml_of(domain, live=True, secrets=False))
    found = {domain_xml.live_disk_paths(xml).get(file["id"]) for xml in documents}
    strangers = found - {file["dest_path"], file["held_path"]}
    if strangers:
        raise ColdmoveError(
            f"disk {file['id']} of server {server_uuid} is {strangers.pop()} by now, neither {file['held_path']} nor the overlay on top of it: "
            "somebody has changed it (a snapshot?). Both are kept. Bring it back, then run the same command again"
        )
    return file["dest_path"] not in found


def _check_loss(host: LibvirtHost, server_uuid: str, file: MoveFile) -> None:
    """What the owner has made since the resize must not vanish with the overlay: snapshots lie in it, a memory image names it."""
    kept = host.flags(host.domain(server_uuid))
    found = [f"{what.replace('_', ' ')} (see: virsh {command})" for what, command in _LOST if kept[what]]
    if os.path.lexists(file["dest_path"]) and qemu_img.info(file["dest_path"], "qcow2", in_use=True).internal_snapshots:
        found.append(f"snapshots within {file['dest_path']} (see: qemu-img snapshot -l -U)")
    if found:
        raise ColdmoveError(
            f"server {server_uuid} has got {', '.join(found)} since it was resized, which the merge of disk {file['id']} would lose. Nothing was merged; "
            "delete them, or start the server, then run the same command again"
        )


def _merge_off(host: LibvirtHost, server_uuid: str, file: MoveFile) -> None:
    _check_room(file)
    growing.grow_device(file["held_path"], file["format"], file["grow_to_bytes"])
    qemu_img.commit_overlay(file["dest_path"])
    _define_alone(host, server_uuid, file)


def _define_alone(host: LibvirtHost, server_uuid: str, file: MoveFile) -> None:
    xml = host.xml(server_uuid)
    devices = [file["id"]] if qemu_img.is_device(file["held_path"]) else []
    host.define(domain_edits.edit(xml, disks={file["id"]: file["held_path"]}, devices=devices, formats={file["id"]: file["format"]}))


def _merge_running(host: LibvirtHost, server_uuid: str, file: MoveFile, stall_timeout: float, report: Report) -> bool:
    """Follow the merge until overlay and disk are in step; False if the job went away (with the guest, or by somebody's hand)."""
    domain, target = host.domain(server_uuid), file["id"]
    if host.block_job(domain, target) is None and _live_path(host, domain, target) == file["dest_path"]:
        _check_room(file)
        growing.grow_device(file["held_path"], file["format"], file["grow_to_bytes"])
        host.begin_commit(domain, target)
    begun = moved_at = time.monotonic()
    before = -1
    while (job := host.block_job(domain, target)) is not None:
        if job.ready and job.done == job.total:
            return True
        if job.done != before:
            before, moved_at = job.done, time.monotonic()
        elif time.monotonic() - moved_at > stall_timeout:
            host.cancel_block_job(domain, target)
            raise ColdmoveError(f"the merge of disk {target} into {file['held_path']} got no further for {stall_timeout:g} s; is its storage stuck?")
        report(progress("merge", job.done, job.total, time.monotonic() - begun))
        time.sleep(_POLL_SECONDS)
    return False


def _pivot(journal: Journal, host: LibvirtHost, server_uuid: str, file: MoveFile) -> None:
    """Let the guest go on with the disk itself.

    It stands still meanwhile (some milliseconds): overlay and disk are equal then, so that a power loss between QEMU's change and libvirt's
    new definition cannot lead back to older data.
    """
    domain = host.domain(server_uuid)
    if host.state_of(domain) == "running":
        journal.note(pausing=True)
        host.pause(domain)
    try:
        host.pivot(domain, file["id"])
        if _live_path(host, domain, file["id"]) == file["held_path"] != domain_xml.live_disk_paths(host.xml_of(domain)).get(file["id"]):
            _define_alone(host, server_uuid, file)  # libvirt does this by itself where the definition named the overlay
    finally:
        _let_go_on(journal, host, server_uuid)


def _let_go_on(journal: Journal, host: LibvirtHost, server_uuid: str) -> None:
    """Resume the guest if this migration has paused it, now or in a step that was killed."""
    if journal.data.get("pausing"):
        if host.state(server_uuid) == "paused":
            host.resume(host.domain(server_uuid))
        journal.note(pausing=False)


def _live_path(host: LibvirtHost, domain: t.Any, target: str) -> str | None:
    return domain_xml.live_disk_paths(host.xml_of(domain, live=True, secrets=False)).get(target)
