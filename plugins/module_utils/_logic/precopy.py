# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Whether the disks of a server can be mirrored to the dest while it runs, and what that means for its downtime."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import MoveFile, Node, Server

WORDS = ("auto", "always", "never")
#: Synchronous writes of a copy are known to libvirt from this version on, see virDomainBlockCopy.
LIBVIRT_NEEDED = 8_000_000
#: QEMU's mirror works in sectors.
_SECTOR = 512
#: For the estimate: what a cutover takes beside the guest's own shutdown and boot.
WINDOW_SECONDS = 3.0


class Choice(t.TypedDict):
    """``precopy``: whether to mirror. ``reasons``: what speaks against it. ``error``: the refusal if it was asked for and cannot be; else empty.

    ``window_seconds``: for the estimate, what its cutover takes.
    """

    precopy: bool
    reasons: list[str]
    error: str
    window_seconds: float


def choose(word: str, server: Server, files: t.Sequence[MoveFile], source: Node, in_place: bool = False) -> Choice:
    """What ``precopy: auto | always | never`` comes to for a server and the files of its move."""
    reasons = ["precopy=never was asked for"] if word == "never" else refusals(server, files, source, in_place)
    error = f"precopy=always was asked for, and cannot be: {'; '.join(reasons)}. Nothing was changed" if reasons and word == "always" else ""
    return {"precopy": not reasons, "reasons": reasons, "error": error, "window_seconds": WINDOW_SECONDS}


def refusals(server: Server, files: t.Sequence[MoveFile], source: Node, in_place: bool = False) -> list[str]:
    """Why the disks cannot be mirrored while the server runs; empty if they can."""
    if in_place:
        return ["the server stays on its node, nothing is copied"]
    if server.get("state") != "running":
        return ["the server is off"]
    copied = [file["id"] for file in files if file["way"] == "copy" and file["kind"] == "disk"]
    if not copied:
        return ["no disk is to be copied"]
    reasons = []
    version = (source.get("facts") or {}).get("libvirt_version", 0)
    if version < LIBVIRT_NEEDED:
        reasons.append(f"libvirt of {source.get('name')} is too old for synchronous writes ({version // 1000000}.{version // 1000 % 1000}, 8.0 is needed)")
    for disk in server.get("disks", []):
        if disk.get("target") in copied:
            reasons += [f"disk {text.shown(disk['target'])} {reason}" for reason in _disk_refusals(disk)]
    return reasons


def _disk_refusals(disk: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    if disk.get("internal_snapshots"):
        yield "has snapshots within its image, which only a copy of the file keeps"
    if (disk.get("virtual_bytes") or 0) % _SECTOR:
        yield f"has a size that is no multiple of {_SECTOR} bytes"
