# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The dest's share of a transfer: files under temporary names, their exports, the proof of their content, their final names."""

from __future__ import annotations

import grp
import os
import secrets
import time
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import exports
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import files as nodefiles
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.sending import Report, progress

MoveFile = dict[str, t.Any]


def offer(journal: Journal, files: list[MoveFile], instances_path: str) -> tuple[dict[str, str], bool]:
    """Create every file empty under its temporary name and export it; ``({file id: socket name}, changed)``.

    Raises ColdmoveError if a final name is taken by a file that is not this migration's.
    """
    _channel_directory()
    tokens = dict(journal.data.get("tokens", {}))
    # A socket's name is a secret of this transfer: the channel's account may open sockets but not list them.
    tokens.update({file["id"]: secrets.token_hex(16) for file in files if file["id"] not in tokens})
    journal.note(tokens=tokens)
    changed = False
    for file in files:
        if nodefiles.is_ours(journal, file["dest_path"]):
            continue  # committed by an earlier run
        changed |= _create(journal, file, instances_path)
        changed |= _serve(file, tokens[file["id"]])
    return {file["id"]: f"/{tokens[file['id']]}" for file in files}, changed


def commit(journal: Journal, files: list[MoveFile], digests: dict[str, t.Any] | None, report: Report) -> dict[str, t.Any]:
    """Close the exports, make everything durable, compare contents, give the final names. ``{verify_seconds, digests}``.

    ``digests``: what the source read, by file id; None if the operator asked for no verification.
    Raises ColdmoveError, with nothing under a final name that did not pass.
    """
    waiting = [file for file in files if not nodefiles.is_ours(journal, file["dest_path"])]
    for file in waiting:
        _withdraw(journal, file["id"])
        nodefiles.make_durable(file["temp_path"])
    begun = time.monotonic()
    found = _verify(waiting, digests, report) if digests is not None else {}
    seconds = round(time.monotonic() - begun, 3)
    for file in waiting:
        nodefiles.take_name(file["temp_path"], file["dest_path"])
    return {"verify_seconds": seconds, "digests": found}


def discard(journal: Journal, files: list[MoveFile]) -> tuple[list[str], list[str]]:
    """Close the exports and delete what this migration made here: ``(deleted paths, kept paths with the reason)``."""
    deleted, kept = [], []
    for file in files:
        _withdraw(journal, file["id"])
        for path in (file["temp_path"], file["dest_path"]):
            if not os.path.lexists(path):
                continue
            # The temporary name carries the migration's UUID; the final one is ours only if the journal knows the inode.
            if path == file["temp_path"] or nodefiles.is_ours(journal, path):
                os.unlink(path)
                deleted.append(path)
            else:
                kept.append(f"{path}: not the file that migration {journal.uuid} made, left alone")
    for directory in reversed(journal.data.get("directories", [])):
        nodefiles.remove_if_empty(directory)
    return deleted, kept


def _create(journal: Journal, file: MoveFile, instances_path: str) -> bool:
    temporary = file["temp_path"]
    if os.path.lexists(file["dest_path"]):
        raise ColdmoveError(f"{file['dest_path']} exists on this node and is not this migration's: move it away, then run the same command again")
    if nodefiles.is_ours(journal, temporary):
        return False
    made = nodefiles.make_directories(os.path.dirname(temporary), instances_path)
    if made:
        journal.note(directories=[*journal.data.get("directories", []), *made])
    Path(temporary).unlink(missing_ok=True)  # made by a run that was killed before it wrote so; its name says whose it is
    if file.get("copy", True):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(descriptor, file["size_bytes"])
        finally:
            os.close(descriptor)
    else:
        exports.create_blank(temporary, file["format"], file["virtual_bytes"])
    nodefiles.remember(journal, temporary, file["dest_path"])
    return True


def _serve(file: MoveFile, token: str) -> bool:
    socket, pid_file = _endpoint(token)
    if not file.get("copy", True) or exports.export_pid(socket, pid_file) is not None:
        return False
    exports.start_export(file["temp_path"], "raw", file["id"], socket, pid_file)
    os.chown(socket, 0, grp.getgrnam(paths.ACCOUNT).gr_gid)
    os.chmod(socket, 0o660)
    return True


def _withdraw(journal: Journal, file_id: str) -> None:
    token = journal.data.get("tokens", {}).get(file_id)
    if token:
        exports.stop_export(*_endpoint(token))


def running_exports(journal: Journal) -> int:
    """How many exports of this migration are being served on this node."""
    return sum(exports.export_pid(*_endpoint(token)) is not None for token in journal.data.get("tokens", {}).values())


def _endpoint(token: str) -> tuple[Path, Path]:
    return paths.CHANNEL_DIR / token, paths.RUN_DIR / f"{token}.pid"


def _channel_directory() -> None:
    """sshd confines the account to this folder: owned by root, entered but not listed by the account, closed to all others."""
    paths.RUN_DIR.mkdir(mode=0o711, exist_ok=True)
    paths.CHANNEL_DIR.mkdir(mode=0o710, exist_ok=True)
    os.chown(paths.CHANNEL_DIR, 0, grp.getgrnam(paths.ACCOUNT).gr_gid)
    os.chmod(paths.CHANNEL_DIR, 0o710)


def _verify(files: list[MoveFile], expected: dict[str, t.Any], report: Report) -> dict[str, t.Any]:
    found, begun = {}, time.monotonic()
    total, base = sum(int(file["virtual_bytes"]) for file in files), 0
    last = 0.0

    def tell(done: int, _total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= 1.0:
            last = time.monotonic()
            report(progress("verify", base + done, total, last - begun))

    for file in files:
        if not file.get("copy", True):
            continue
        found[file["id"]] = exports.content_digest(file["temp_path"], file["format"], tell)
        base += int(file["virtual_bytes"])
        here, there = found[file["id"]]["digest"], expected.get(file["id"], {}).get("digest")
        if here != there:
            raise ColdmoveError(
                f"content of {file['id']} differs: source {there}, this node {here} ({file['temp_path']}). "
                "The copy is not used; the source copy is complete"
            )
    return found
