# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Which nodes see the same storage. Never inferred from a path: a node proves it by reading what another one wrote there at the same sync.

Each node writes a word that nobody can guess into a file of its own in each directory that its servers use. The word is new at
every sync, so a copy of the directory, or one that is no longer mounted, does not have it.
"""

from __future__ import annotations

import os.path
import typing as t
import urllib.parse

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import text

#: Words by directory, or the words that were read there: the newest first, then the one that the record store knew before.
Written = t.Mapping[str, str]
Read = t.Mapping[str, t.Sequence[str]]
#: Of a disk whose path alone does not say where its content is: the words of the server facts for it.
_ELSEWHERE = ("keeps its data in another file", "in the running guest but")


class Identity(t.TypedDict):
    """One directory of a node: its word, and the other nodes that read it there."""

    identity: str
    seen_by: list[str]


def file_of(host: str, directory: str) -> str:
    """The file in ``directory`` that is the node's own."""
    return os.path.join(directory, f".coldmove-storage-{urllib.parse.quote(host, safe='')}")


def directories(facts: t.Mapping[str, t.Any]) -> list[str]:
    """Where a server has files that another node would need: its own disks with what is below them, and its firmware variables."""
    paths = [(facts.get("nvram") or {}).get("path")]
    for disk in _own(facts):
        if not _is_device(disk):
            paths += [disk["path"], *(link["path"] for link in disk.get("chain") or [])]
    return sorted({os.path.dirname(path) for path in paths if path})


def devices(facts: t.Mapping[str, t.Any]) -> list[str]:
    """Disks of a server that are devices of its node. That another node has the same one is never proven."""
    return [str(disk.get("target")) for disk in _own(facts) if _is_device(disk)]


def _own(facts: t.Mapping[str, t.Any]) -> list[t.Mapping[str, t.Any]]:
    return [disk for disk in facts.get("disks") or [] if disk.get("path") and disk.get("type") in ("file", "block", "volume") and disk.get("moves", True)]


def _is_device(disk: t.Mapping[str, t.Any]) -> bool:
    return disk["type"] == "block" or str(disk["path"]).startswith("/dev/")


def identities(written: t.Mapping[str, Written], read: t.Mapping[str, t.Mapping[str, Read]]) -> dict[str, dict[str, Identity]]:
    """What each node wrote, and who else read it: ``read`` is, by the node that read, what it found of each other one."""
    return {
        host: {
            directory: {
                "identity": word,
                "seen_by": sorted(other for other, found in read.items() if other != host and newest(found.get(host, {}).get(directory)) == word),
            }
            for directory, word in words.items()
            if word
        }
        for host, words in written.items()
    }


def newest(words: t.Sequence[str] | None) -> str:
    """The word of the last sync; empty if there is none."""
    return words[0] if words else ""


def is_same(known: Identity | None, words: t.Sequence[str] | None, node: str) -> bool:
    """Whether ``node``, which has just read ``words``, has the storage that the record store knows as ``known``. On any doubt it has not."""
    return bool(known and known["identity"] and node in known["seen_by"] and known["identity"] in (words or ()))


def doubt(disk: t.Mapping[str, t.Any], blockers: t.Sequence[str]) -> str:
    """Why the content of a disk may not be all where its path leads; empty if it is. ``blockers``: of its server's facts."""
    target, link = disk["target"], disk.get("link_to")
    if link:
        return f"its path is a symbolic link, to {text.shown(link)}"
    below = next((each for each in disk.get("chain") or [] if each.get("link_to")), None)
    if below:
        return f"{text.shown(below['path'])} below it is a symbolic link, to {text.shown(below['link_to'])}"
    told = [text.shown(each) for each in blockers if each.startswith((f"disk {target} ", f"disk {target}:"))]
    return next((each for each in told if each.startswith(f"disk {target}:") or any(words in each for words in _ELSEWHERE)), "")


def left_in_place(
    facts: t.Mapping[str, t.Any], known: t.Mapping[str, Identity], words: t.Mapping[str, Read], dest: str, changed: t.Collection[str]
) -> dict[str, t.Any]:
    """``facts`` of a server for its move to ``dest``: disks on storage that both nodes see do not move, and must be there under their own names.

    ``known``: what the record store knows of the source's directories. ``words``: by node, source and dest, what it has just read of the source's words:
    the source must still see what it wrote. ``changed``: disks that get another size, which must not happen to the one copy that there is.
    """

    def stays(disk: t.Mapping[str, t.Any]) -> bool:
        whole = disk.get("type") == "file" and disk.get("moves", True) and disk.get("path") and disk["target"] not in changed and not disk.get("chain")
        if not whole or doubt(disk, facts.get("blockers") or []):
            return False
        directory = os.path.dirname(disk["path"])
        found = known.get(directory)
        if found is None or not all(found["identity"] in read.get(directory, ()) for read in words.values()):
            return False
        return is_same(found, words.get(dest, {}).get(directory), dest)

    disks = [{**disk, "moves": False} if stays(disk) else disk for disk in facts.get("disks") or []]
    left = [disk["path"] for disk, before in zip(disks, facts.get("disks") or []) if disk is not before]
    return {**facts, "disks": disks, "external_files": [*(facts.get("external_files") or []), *left]}


def sharing(facts: t.Mapping[str, t.Any], storage: t.Mapping[str, Identity]) -> tuple[list[str], list[str]]:
    """(nodes that see all of a server's own storage, directories of which nothing is known)."""
    mine = directories(facts)
    unknown = [directory for directory in mine if directory not in storage]
    if unknown or not mine or devices(facts):
        return [], unknown
    return sorted(set.intersection(*(set(storage[directory]["seen_by"]) for directory in mine))), []
