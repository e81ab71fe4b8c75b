# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The proof after the start: what the disks were when the server was started here, read while the guest goes on.

The server is started paused, its disks are held fast by a backup of libvirt in pull mode, and it is let go on. A job of this node
reads what is held fast, and ends the backup. The start is the commit point: nothing of this may keep it from succeeding, nor the guest from
going on. QEMU stops the guest if a scratch file finds no room (seen with QEMU 7.2), so the job looks after that too.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host, qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import backup_xml, domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import digesting
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.progress import Report

#: The node jobs that digest: what was started here, and what is held here.
STARTED, HELD = "proof", "held-digest"
#: Room that the guest's first writes have in any case, beside each disk, unless the disks hold less. With half of it left the proof is given up.
_ROOM_BYTES = 1 << 30
_LOOK_SECONDS = 0.25
_SOCKET = "coldmove-proof"


#: What order_of() reads of a module's parameters; documented in plugins/doc_fragments/_power.py.
ORDER_ARGS: dict[str, t.Any] = {"proof_disks": {"type": "dict", "default": {}}, "stall_timeout": {"type": "int", "default": 120}}


class Order(t.NamedTuple):
    """What is to be proven: targets of disks with the bytes of each that count (a disk may have grown), and how it is read."""

    disks: dict[str, int]
    uri: str
    stall_timeout: float


def order_of(params: t.Mapping[str, t.Any]) -> Order:
    """What a module was told to prove."""
    return Order({target: int(length) for target, length in params["proof_disks"].items()}, params["uri"], params["stall_timeout"])


# --- the start


def start(journal: Journal, host: LibvirtHost, domain: t.Any, disks: t.Mapping[str, int]) -> None:
    """Start the server with its disks held fast, or without if that cannot be. Raises ColdmoveError only if it does not start."""
    Job(journal, STARTED).cancel()  # of an earlier start
    try:
        kept = _plan(journal, host, domain, disks)
    except ColdmoveError as exc:
        host.start(domain)
        journal.note(proof=_impossible(disks, str(exc)))
        return
    # Before the act: whoever comes after a kill lets the guest go on, and knows which files to delete.
    journal.note(pausing=True, proof=kept)
    try:
        host.start(domain, paused=True)
    except ColdmoveError:
        journal.note(pausing=False, proof=None)
        raise
    _hold_fast(journal, host, domain)


def forego(journal: Journal) -> None:
    """A start without: what a killed step announced will not be. The digests of an earlier start, if it came to that, stay what they are."""
    if journal.data.get("pausing"):
        journal.note(pausing=False)


def take_up(journal: Journal, host: LibvirtHost, domain: t.Any) -> bool:
    """Go on with a start that was killed in the middle, if there is one; True if the guest was still paused by it."""
    if not journal.data.get("pausing"):
        return False
    kept = journal.data.get("proof") or {}
    if host.state_of(domain) == "paused":
        _end_backup(kept, host, domain)
        _hold_fast(journal, host, domain)
        return True
    if kept.get("state") == "begun" and not _is_under_way(kept, host, domain):
        kept = {**kept, "state": "impossible", "reason": "the step that started the server was killed before its disks were held fast"}
    journal.note(pausing=False, proof=kept or None)
    return False


def begin_reading(journal: Journal, host: LibvirtHost, domain: t.Any, order: Order) -> None:
    """Have the node read what is held fast, whatever becomes of the controller; never an error: the guest has been started."""
    kept = journal.data.get("proof") or {}
    if kept.get("state") != "begun":
        return
    server_uuid = host.identity(domain)[0]
    try:
        Job(journal, STARTED).ensure_started(lambda report: read(journal, order.uri, server_uuid, order.stall_timeout, report))
    except (ColdmoveError, OSError) as exc:
        with contextlib.suppress(ColdmoveError):
            _end_backup(kept, host, domain)
        journal.note(proof={**kept, "state": "impossible", "reason": str(exc)})


def outcome(journal: Journal) -> dict[str, t.Any]:
    """What the module that starts the server tells of it."""
    kept = journal.data.get("proof") or {}
    return {"proof": kept.get("state"), "proof_error": kept.get("reason") or None, "paused_seconds": kept.get("paused_seconds")}


def _impossible(disks: t.Mapping[str, int], reason: str) -> dict[str, t.Any]:
    return {"state": "impossible", "reason": reason, "disks": dict(disks), "scratch": {}}


def _plan(journal: Journal, host: LibvirtHost, domain: t.Any, disks: t.Mapping[str, int]) -> dict[str, t.Any]:
    """Names and room of the scratch files. Raises ColdmoveError if the disks cannot be held fast without danger to the guest."""
    xml = host.xml_of(domain, secrets=False)
    paths = domain_xml.live_disk_paths(xml)
    scratch: dict[str, str] = {}
    room: dict[str, int] = {}
    told = backup_xml.tells_guest(xml)
    for target in disks:
        path = paths.get(target)
        if not path:
            raise ColdmoveError(f"the server has no disk {target} that lies on this node")
        if target in told:
            raise ColdmoveError(f"disk {target} tells its guest of failed writes (error_policy): a scratch file that finds no room would be one")
        scratch[target], need = _scratch(journal, target, path)
        folder = os.path.dirname(scratch[target])
        room[folder] = room.get(folder, 0) + need
    room = {folder: min(need, _ROOM_BYTES) for folder, need in room.items()}
    for folder, need in room.items():
        if _free(folder) < need:
            raise ColdmoveError(f"{folder} has {_free(folder)} bytes free, and {need} are needed for what the guest overwrites meanwhile")
    _delete(scratch.values())
    return {"state": "begun", "reason": None, "disks": dict(disks), "scratch": scratch, "room": room}


def _scratch(journal: Journal, target: str, path: str) -> tuple[str, int]:
    """Where what the guest overwrites of this disk is kept meanwhile, and bytes that it can come to. Beside a device there is no room."""
    if not qemu_img.is_device(path):
        return f"{path}.coldmove-proof-{journal.uuid}", os.stat(path).st_blocks * 512
    folder = journal.data.get("instances_path")
    if not folder:
        raise ColdmoveError(f"the block device {path} has no room beside it for a scratch file, and this node was told of no other place")
    return f"{folder}/{target}.coldmove-proof-{journal.uuid}", qemu_img.length_of(path)


def _hold_fast(journal: Journal, host: LibvirtHost, domain: t.Any) -> None:
    """Begin the backup of the paused guest, and let it go on, whatever comes of that. Every moment of this is downtime."""
    kept = dict(journal.data.get("proof") or {})
    begun = time.monotonic()
    try:
        if kept.get("state") == "begun":
            kept["socket"] = f"{host.own_folder(domain)}/{_SOCKET}"
            host.begin_backup(domain, backup_xml.Backup(kept["socket"], kept["scratch"]))
    except ColdmoveError as exc:
        kept.update(state="impossible", reason=str(exc))
    finally:
        host.resume(domain)
    if kept:
        kept["paused_seconds"] = round(time.monotonic() - begun, 3)
    journal.note(pausing=False, proof=kept or None)


# --- reading


def read(journal: Journal, uri: str, server_uuid: str, stall_timeout: float, report: Report) -> dict[str, t.Any]:
    """The job: ``{digests: by target, impossible: why the rest of them is not known, or None}``. It ends the backup however it ends."""
    kept = journal.data.get("proof") or {}
    digests: digesting.Digests | None = None
    impossible: str | None = None
    try:
        socket = _socket(kept, uri, server_uuid)
        digests = digesting.Digests([digesting.of_export(target, socket, int(length)) for target, length in kept["disks"].items()], "prove")
        digests.wait(report, stall_timeout, lambda: _look_after(kept, uri, server_uuid), _LOOK_SECONDS)
    except ColdmoveError as exc:
        impossible = _why(kept, uri, server_uuid) or str(exc)
    finally:
        if digests:
            digests.end()
        with contextlib.suppress(ColdmoveError):  # whoever ends the proof tries again, and says so
            _end(kept, uri, server_uuid)
    return {"digests": digests.found if digests else {}, "impossible": impossible}


def read_held(files: t.Sequence[t.Mapping[str, t.Any]], stall_timeout: float, report: Report) -> dict[str, t.Any]:
    """The other end's job: ``{digests: by file id}`` of the held copies. Raises ColdmoveError."""
    digests = digesting.Digests([digesting.of_file(file, file["held_path"]) for file in files], "prove")
    try:
        return {"digests": digests.wait(report, stall_timeout)}
    finally:
        digests.end()


def known_impossible(journal: Journal) -> str | None:
    """Why there is nothing to read, if that is known."""
    kept = journal.data.get("proof")
    if not kept:
        return "this node has begun no proof"
    return str(kept.get("reason") or "the proof was given up") if kept.get("state") == "impossible" else None


def _socket(kept: t.Mapping[str, t.Any], uri: str, server_uuid: str) -> str:
    with libvirt_host.connected(uri) as host:
        domain = host.domain(server_uuid)
        backup = host.backup(domain)
    if backup is None or backup.scratch != kept.get("scratch"):
        raise ColdmoveError("what the server was started with is not held fast any more")
    return backup.socket


def _look_after(kept: t.Mapping[str, t.Any], uri: str, server_uuid: str) -> None:
    """The guest comes first. Raises ColdmoveError if the proof has been given up for it."""
    for folder, need in kept["room"].items():
        if _free(folder) < need // 2:
            raise ColdmoveError(f"{folder} was running full, with {_free(folder)} bytes free: the proof was given up for the guest's sake")
    stuck = False
    with contextlib.suppress(ColdmoveError), libvirt_host.connected(uri) as host:  # a libvirtd that is started anew takes nothing away
        stuck = host.is_stuck(host.domain(server_uuid))
    if stuck:
        raise ColdmoveError("the guest was stopped by a write that found no room: the proof was given up, and the guest let go on")


def _why(kept: t.Mapping[str, t.Any], uri: str, server_uuid: str) -> str | None:
    """The reason behind an error of reading, if the server tells one."""
    try:
        with libvirt_host.connected(uri) as host:
            if host.state(server_uuid) in (None, "shutoff"):
                return "the server was stopped here before all of it had been read"
            if not _is_under_way(kept, host, host.domain(server_uuid)):
                return "the server was stopped and started again here, or the backup was ended by somebody, before all of it had been read"
    except ColdmoveError:
        return None
    return None


# --- the end


def settle(journal: Journal, host: LibvirtHost, server_uuid: str, state: str | None = None) -> bool:
    """End the proof on this node, with ``state`` as its outcome if there is one; True if there was something to end."""
    kept = journal.data.get("proof")
    if not kept:
        return False
    # Noted first: the job's answer goes with the job.
    if state and kept.get("state") != state:
        kept = {**kept, "state": state}
        journal.note(proof=kept)
    changed = Job(journal, STARTED).cancel()
    domain = host.find(server_uuid)
    return (domain is not None and _end_backup(kept, host, domain)) or changed


def forget(journal: Journal) -> None:
    """The server is gone from this node: end the job, and delete the scratch files that libvirt left behind (in a power loss)."""
    Job(journal, STARTED).cancel()
    _delete_files(journal.data.get("proof") or {})


def _end(kept: t.Mapping[str, t.Any], uri: str, server_uuid: str) -> None:
    with libvirt_host.connected(uri) as host:
        domain = host.find(server_uuid)
        if domain is not None:
            _end_backup(kept, host, domain)


def _end_backup(kept: t.Mapping[str, t.Any], host: LibvirtHost, domain: t.Any) -> bool:
    """End our backup, and nobody else's; the guest that our scratch files have stopped goes on, and its failed write is done again."""
    ours = _is_under_way(kept, host, domain)
    if ours:
        stuck = host.is_stuck(domain)
        host.end_backup(domain)
        if stuck or host.is_stuck(domain):
            host.resume(domain)
    _delete_files(kept)
    return ours


def _is_under_way(kept: t.Mapping[str, t.Any], host: LibvirtHost, domain: t.Any) -> bool:
    backup = host.backup(domain)
    return backup is not None and bool(backup.scratch) and backup.scratch == kept.get("scratch")


def _delete_files(kept: t.Mapping[str, t.Any]) -> None:
    """What libvirt deletes with the end of a backup, and leaves behind in a power loss."""
    _delete([*kept.get("scratch", {}).values(), *([kept["socket"]] if kept.get("socket") else [])])


def _delete(paths: t.Iterable[str]) -> None:
    """By their exact names, which carry the migration's UUID."""
    for path in paths:
        Path(path).unlink(missing_ok=True)


def _free(folder: str) -> int:
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize
