# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What comes of the proof after the start: the digests of the held copy against those of what the server was started with."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Migration, MoveFile

Digests = t.Mapping[str, t.Mapping[str, t.Any]]


class Verdict(t.TypedDict):
    """``state``: done, failed or impossible. ``text``: a sentence; empty for done."""

    state: t.Literal["done", "failed", "impossible"]
    text: str


def provable(files: t.Iterable[MoveFile], changed_since: t.Collection[str] = ()) -> dict[str, int]:
    """The disks whose start is proven by what crossed, with the bytes that count: a disk that has grown since has more.

    ``changed_since``: ids of those that were written to on the dest before the start (a file system that was grown): they differ rightly.
    """
    return {file["id"]: file["virtual_bytes"] for file in files if file["kind"] == "disk" and file["way"] == "copy" and file["id"] not in changed_since}


def judge(record: Migration, held: Digests | None, started: Digests, impossible: str | None, not_held: str = "") -> Verdict:
    """Compare. ``held``: None if the source could not be read; ``not_held`` is what it said instead. ``impossible``: why some of ``started`` are missing."""
    name, source, dest = (text.shown(record.get(key) or "") for key in ("server_name", "source_host", "dest_host"))
    for disk in sorted(started):
        here = (held or {}).get(disk)
        if here and here["digest"] != started[disk]["digest"]:
            what = (
                f"disk {disk} of {name}: what the server was started with on {dest} differs from the held copy on {source} "
                f"({source} {here['digest'][:16]}, {dest} {started[disk]['digest'][:16]})"
            )
            return {"state": "failed", "text": what}
    why = impossible
    if held is None:
        why = f"{source}: {not_held}" if not_held else f"{source} does not answer"
    elif not started or set(started) - set(held):
        why = why or "not all digests are there"
    if why:
        return {"state": "impossible", "text": f"{name} was started on {dest} and its content there is not proven against the held copy on {source}: {why}"}
    return {"state": "done", "text": ""}
