# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The dest's share of a transfer: files under temporary names, their exports, the proof of their content, their final names."""

from __future__ import annotations

import os
import secrets
import time
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import aids, block_device, channel, content_digest, exports, qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import blobs
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import devices, growing, paths, proving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import files as nodefiles
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.progress import Report, progress

MoveFile = dict[str, t.Any]


def offer(
    journal: Journal,
    files: list[MoveFile],
    instances_path: str,
    source: channel.Peer,
    contents: t.Mapping[str, str] | None = None,
    precopy: bool | None = None,
) -> tuple[dict[str, str], bool]:
    """Create every file empty under its temporary name, export it, and offer the exports to ``source``; ``({file id: token}, changed)``.

    ``contents``: by file id, what the record store has kept of those that are restored (see blobs.py). ``precopy``: disks are made as images of their own
    format, and what is exported is what a guest sees; else a file crosses as opaque bytes. None: what is there stays as it is.

    What does not cross is only created; an overlay has no content to be proven and gets its final name at once.

    Files that have their final name already (committed by an earlier run) are not offered again. A token is the name of the
    export's socket on both ends. Raises ColdmoveError if a final name is taken by a file that is not this migration's, or if
    the source does not let the channel in.
    """
    paths.EXPORTS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    changed = False
    waiting = _waiting(journal, files)
    if not _all_taken_in_since_boot(journal):
        for file in waiting:
            if devices.is_device(file):
                devices.begin_anew(journal, file)
            elif file["way"] != "overlay":  # that is on the storage as soon as it is there
                Path(file["temp_path"]).unlink(missing_ok=True)
        journal.note(images=[])  # a precopy that went into them is lost with them
    journal.note(booted=nodefiles.boot_mark(), instances_path=instances_path)
    if precopy is not None:
        _choose_images(journal, waiting, precopy)
    for file in waiting:
        if _create(journal, file, instances_path, contents or {}):
            changed = True
            Job(journal, "verify").cancel()  # whatever it proved, it was not of this file
        changed |= _serve(file, journal.data["tokens"][file["id"]], _is_image(journal, file))
    # Not only those that are waiting: a run that was killed in between has left an overlay both names.
    for file in files:
        if file["way"] == "overlay" and os.path.lexists(file["temp_path"]):
            nodefiles.take_name(file["temp_path"], file["dest_path"])
            changed = True
    crossing = [file for file in waiting if file["way"] == "copy"]
    if crossing:
        changed |= _open_channel(journal, crossing, source)
    return {file["id"]: journal.data["tokens"][file["id"]] for file in crossing}, changed


def _choose_images(journal: Journal, files: list[MoveFile], precopy: bool) -> None:
    """Note which files are images of their own format here; one that was made the other way is made anew."""
    regular = [file for file in files if not devices.is_device(file)]
    images = [file["id"] for file in regular if precopy and file["way"] == "copy" and file["kind"] == "disk"]
    for file in regular:
        if file["way"] == "copy" and (file["id"] in images) != _is_image(journal, file):
            _withdraw(journal, file["id"])
            Path(file["temp_path"]).unlink(missing_ok=True)
    journal.note(images=images)


def _is_image(journal: Journal, file: MoveFile) -> bool:
    """Whether what is exported of a file is what its guest sees, not the bytes of the file. Behind the image on a device there may be anything."""
    return devices.is_device(file) or file["id"] in journal.data.get("images", [])


def _waiting(journal: Journal, files: list[MoveFile]) -> list[MoveFile]:
    """The files that do not have their final name yet."""
    return [file for file in files if file["way"] != "drop" and not _is_committed(journal, file)]


def _is_committed(journal: Journal, file: MoveFile) -> bool:
    return devices.is_complete(journal, file) if devices.is_device(file) else nodefiles.is_ours(journal, file["dest_path"])


def _all_taken_in_since_boot(journal: Journal) -> bool:
    """Whether this node has run all the time since it began to take content in: else what was not on its storage yet is gone, and reads as zeroes."""
    mark = nodefiles.boot_mark()
    return bool(journal.data.get("booted", mark) == mark)


def _open_channel(journal: Journal, files: list[MoveFile], source: channel.Peer) -> bool:
    """Have the channel kept open by a job of this node, and wait until it stands for the first time."""
    job = Job(journal, "channel")
    status = job.status()
    tokens = journal.data["tokens"]
    served = {_endpoint(tokens[file["id"]])[0]: file["temp_path"] for file in files}
    offers = {f"/{paths.OFFERS_DIR.name}/{place.name}": str(place) for socket in served for place in (socket, Path(aids.beside(str(socket))))}
    wanted = {"offers": offers, "address": source.address, "port": source.port, "ciphers": list(source.ciphers)}
    if status["state"] == "running" and status["progress"].get("connected") and journal.data.get("channel") == wanted:
        return False
    _close_channel(journal)
    journal.note(channel=wanted)
    job.ensure_started(lambda report: _keep_open(source, offers, served, report))
    # A refusal of the first connection is the answer of this very step.
    while not (progress := job.status().get("progress", {})).get("connected"):
        if progress.get("error") or job.status()["state"] != "running":
            job.cancel()
            raise ColdmoveError(progress.get("error") or f"the data channel to {source.address} could not be kept open")
        time.sleep(0.02)
    return True


def _keep_open(source: channel.Peer, offers: t.Mapping[str, str], served: t.Mapping[Path, str], report: Report) -> t.NoReturn:
    with aids.serving(served):
        channel.keep_connected(source, offers, report)


class Told(t.NamedTuple):
    """What the source told of its files when it was off, by file id.

    ``owners``: see files.owner_of(). ``lengths``: bytes. ``digests``: of what it read; None if the operator asked for no verification.
    ``mirrored``: tokens of the exports that took in a disk while its guest ran, and all of it: there is nothing to compare them with before the start.
    """

    owners: t.Mapping[str, t.Any]
    lengths: t.Mapping[str, int]
    digests: dict[str, t.Any] | None
    mirrored: t.Mapping[str, str]


def commit(journal: Journal, files: list[MoveFile], told: Told, report: Report) -> dict[str, t.Any]:
    """Close the exports, make everything durable, compare contents, give the final names. ``{received_bytes, verify_seconds, digests}``.

    Raises ColdmoveError, with nothing under a final name that did not pass.
    """
    received = _close_channel(journal)
    waiting = _waiting(journal, files)
    if waiting and not _all_taken_in_since_boot(journal):
        raise ColdmoveError(
            "this node was started anew during the copy: what it had taken in is not complete. The copy is not used; the source copy is complete"
        )
    strangers = [file["id"] for file in waiting if told.mirrored.get(file["id"], "") not in ("", journal.data.get("tokens", {}).get(file["id"]))]
    if strangers:
        raise ColdmoveError(
            f"what the source has mirrored of {', '.join(strangers)} went to other files than these. They are not used; the source copy is complete"
        )
    for file in waiting:
        _withdraw(journal, file["id"])
        if devices.is_device(file):
            block_device.make_durable(file["temp_path"])
            continue
        if file["way"] == "copy" and file["id"] in told.lengths and not _is_image(journal, file):
            os.truncate(file["temp_path"], told.lengths[file["id"]])
        elif file["way"] == "image":
            qemu_img.make_from(file["image_path"], file["image_format"], file["temp_path"], file["format"])
        nodefiles.make_durable(file["temp_path"])
    begun = time.monotonic()
    compared = [file for file in waiting if file["way"] == "copy" and file["id"] not in told.mirrored]
    found = _verify(compared, told.digests, report) if told.digests is not None else {}
    seconds = round(time.monotonic() - begun, 3)
    for file in files:
        if devices.is_device(file):
            _commit_device(journal, file, file in waiting)
            continue
        if file in waiting and file["id"] in told.owners:
            nodefiles.give(file["temp_path"], told.owners[file["id"]])
        # A run that was killed in between has left the file both names.
        if file in waiting or os.path.lexists(file["temp_path"]):
            nodefiles.take_name(file["temp_path"], file["dest_path"])
        # Not before the name says that the content is proven: a commit that is run again after a kill compares what has no name yet with the source.
        if file["way"] in ("copy", "image") and file["grow_to_bytes"] and growing.grow_image(file["dest_path"], file["format"], file["grow_to_bytes"]):
            nodefiles.make_durable(file["dest_path"])
    return {"received_bytes": received, "verify_seconds": seconds, "digests": found}


def _commit_device(journal: Journal, file: MoveFile, waiting: bool) -> None:
    """What the names say of a file is noted of a device. A raw one has its new size from the beginning."""
    if waiting:
        devices.complete(journal, file)
    grows = file["way"] == "copy" and file["grow_to_bytes"] and file["format"] == "qcow2"
    if grows and growing.grow_image(file["dest_path"], file["format"], file["grow_to_bytes"]):
        block_device.make_durable(file["dest_path"])


def discard(journal: Journal, files: list[MoveFile]) -> tuple[list[str], list[str]]:
    """Close the exports and delete what this migration made here: ``(deleted paths, kept paths with the reason)``."""
    deleted: list[str] = []
    kept: list[str] = []
    proving.forget(journal)
    _close_channel(journal)
    for file in files:
        _withdraw(journal, file["id"])
        if devices.is_device(file):
            for told, found in zip((deleted, kept), devices.discard(journal, file)):
                told.extend(found)
            continue
        nodefiles.forget_probes(file["temp_path"])
        for path in (file["temp_path"], file["dest_path"]):
            if not os.path.lexists(path) or file["way"] == "drop":
                continue
            # The temporary name carries the migration's UUID; the final one is ours only if the journal knows the inode.
            if path == file["temp_path"] or nodefiles.is_ours(journal, path):
                os.unlink(path)
                deleted.append(path)
            elif file["way"] != "replace":  # that would be the old file, back under this name
                kept.append(f"{path}: not the file that migration {journal.uuid} made, left alone")
    for directory in reversed(journal.data.get("directories", [])):
        nodefiles.remove_if_empty(directory)
    return deleted, kept


def _create(journal: Journal, file: MoveFile, instances_path: str, contents: t.Mapping[str, str]) -> bool:
    temporary = file["temp_path"]
    if devices.is_device(file):
        return _create_device(journal, file)
    if os.path.lexists(file["dest_path"]) and file["way"] != "replace":
        raise ColdmoveError(f"{file['dest_path']} exists on this node and is not this migration's: move it away, then run the same command again")
    if nodefiles.is_ours(journal, temporary):
        return False
    missing = nodefiles.missing_directories(os.path.dirname(temporary), instances_path)
    if missing:
        # Noted first: a run that is killed in between leaves no directory that nobody knows. Only an empty one is ever removed.
        journal.note(directories=[*journal.data.get("directories", []), *missing])
        nodefiles.make_directories(missing)
    _give_token(journal, file)
    Path(temporary).unlink(missing_ok=True)  # made by a run that was killed before it wrote so; its name says whose it is
    if file["way"] == "copy" and not _is_image(journal, file):
        _create_empty(temporary, _greatest_length(file))
    elif file["way"] == "overlay":
        qemu_img.create_overlay(temporary, file["source_path"], file["format"], file["grow_to_bytes"])
        nodefiles.give(temporary, nodefiles.owner_of(os.path.realpath(file["source_path"])))
        nodefiles.make_durable(temporary)
    elif file["way"] == "restore":
        _restore(temporary, file["id"], contents)
    elif file["way"] == "image":
        _create_empty(temporary, 0)  # its content comes in commit(), which may take as long as it likes
    else:
        exports.create_blank(temporary, file["format"], file["virtual_bytes"])
    nodefiles.prove_names(temporary)
    nodefiles.remember(journal, temporary, file["dest_path"])
    return True


def _create_device(journal: Journal, file: MoveFile) -> bool:
    if devices.is_ready(journal, file):
        return False
    devices.take(journal, file)
    _give_token(journal, file)
    devices.make_blank(journal, file)
    return True


def _give_token(journal: Journal, file: MoveFile) -> None:
    """What listens for a file that is gone would take the content in and lose it: it ends here.

    A socket's name says whose it is, and holds a secret of this very file: no peer can take another one's place by guessing it, and no earlier copy passes
    for this one's.
    """
    _withdraw(journal, file["id"])
    journal.note(tokens={**journal.data.get("tokens", {}), file["id"]: f"{journal.uuid}.{secrets.token_hex(16)}"})


def _restore(path: str, file_id: str, contents: t.Mapping[str, str]) -> None:
    if file_id not in contents:
        raise ColdmoveError(f"the record store has nothing of {file_id}: it cannot be restored")
    _create_empty(path, 0)
    Path(path).write_bytes(blobs.unpack(contents[file_id]))


def _greatest_length(file: MoveFile) -> int:
    """What the file can have grown to in bytes when the guest is off: a qcow2 image grows with every cluster that is written for the first time.

    It is all a hole until something is written, and gets its true length in commit().
    """
    if file["format"] != "qcow2":
        return int(file["size_bytes"])
    # Tables and refcounts are a sixtieth of the content at most, with the smallest clusters that there are.
    return int(file["size_bytes"] + file["virtual_bytes"] + file["virtual_bytes"] // 32 + 16 * 1024**2)


def _create_empty(path: str, size: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(descriptor, size)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise ColdmoveError(f"cannot create {path} with {size} bytes on this node: {exc.strerror}") from exc


def _serve(file: MoveFile, token: str, image: bool) -> bool:
    socket, pid_file = _endpoint(token)
    if file["way"] != "copy" or exports.export_pid(socket, pid_file) is not None:
        return False
    exports.start_export(file["temp_path"], file["format"] if image else "raw", file["id"], socket, pid_file, devices.served_bytes(file))
    return True


def _close_channel(journal: Journal) -> int:
    """End the channel; the bytes that came through it."""
    job = Job(journal, "channel")
    received = int(journal.data.get("received_bytes", 0)) + channel.received_bytes(job.status().get("progress", {}))
    if job.cancel():
        journal.note(received_bytes=received)
    return received


def _withdraw(journal: Journal, file_id: str) -> None:
    token = journal.data.get("tokens", {}).get(file_id)
    if token:
        socket, pid_file = _endpoint(token)
        exports.stop_export(socket, pid_file)
        Path(aids.beside(str(socket))).unlink(missing_ok=True)  # of a channel that was killed


def running_exports(journal: Journal) -> int:
    """How many exports of this migration are being served on this node."""
    return sum(exports.export_pid(*_endpoint(token)) is not None for token in journal.data.get("tokens", {}).values())


def _endpoint(token: str) -> tuple[Path, Path]:
    return paths.EXPORTS_DIR / token, paths.EXPORTS_DIR / f"{token}.pid"


def _verify(files: list[MoveFile], expected: dict[str, t.Any], report: Report) -> dict[str, t.Any]:
    found, begun = {}, time.monotonic()
    total, base = sum(int(file["virtual_bytes"]) for file in files), 0
    last = 0.0

    def tell(done: int, _total: int, _read: int) -> None:
        nonlocal last
        if time.monotonic() - last >= 1.0:
            last = time.monotonic()
            report(progress("verify", base + done, total, last - begun))

    for file in files:
        found[file["id"]] = content_digest.of_image(file["temp_path"], file["format"], tell, devices.served_bytes(file))
        base += int(file["virtual_bytes"])
        here, there = found[file["id"]]["digest"], expected.get(file["id"], {}).get("digest")
        if here != there:
            raise ColdmoveError(
                f"content of {file['id']} differs: source {there}, this node {here} ({file['temp_path']}). The copy is not used; the source copy is complete"
            )
    return found
