# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The held copy: the source's complete copy, which nobody can start until this migration is confirmed or reverted.

The domain is undefined (NVRAM and TPM state kept) and every file stands aside under its held name; a block device
has one name only, and which one it is is noted. What is needed to come
back (definition, autostart) lies in the journal of the node as well as in the record, for the day the record is lost.

When a server is resized on its own node, its disks keep their names: overlays stand on top of them, and the node's one
definition of the server names the overlays.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import devices, known
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import files as nodefiles
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

MoveFile = dict[str, t.Any]


class Domains(t.Protocol):
    """What is needed of libvirt here (``_adapters/libvirt_host.py`` has it)."""

    def state(self, server: str) -> str | None:
        """``running``, ``shutoff``, …; None if not defined."""

    def xml(self, server: str) -> str:
        """The inactive definition with its secrets."""

    def autostart(self, server: str) -> bool:
        """Whether libvirt starts the domain at boot."""

    def set_autostart(self, server: str, wanted: bool) -> bool:
        """True if that changed something."""

    def bytes_written(self, server: str, targets: t.Iterable[str]) -> dict[str, int]:
        """Bytes that the running server has written to each disk since it was started."""

    def define(self, xml: str) -> None:
        """Define or redefine."""

    def undefine(self, server: str) -> None:
        """Undefine, keeping NVRAM and TPM state."""


def hold(journal: Journal, domains: Domains, server_uuid: str, files: list[MoveFile]) -> bool:
    """Set the server's files aside and make it unstartable; True if that changed something. Raises ColdmoveError if it runs."""
    state = domains.state(server_uuid)
    if state not in (None, "shutoff"):
        raise ColdmoveError(f"server {server_uuid} is {state}: only a server that is off can be held")
    if state is not None and not journal.data.get("definition"):
        journal.note(definition=domains.xml(server_uuid), autostart=domains.autostart(server_uuid), server_uuid=server_uuid)
    if not journal.data.get("definition"):
        raise ColdmoveError(f"server {server_uuid} is not defined on this node and was not held here before")
    for file in files:
        _check_way_aside(journal, file)
    for file in filter(devices.is_device, files):
        devices.note_held(journal, file)
    changed = False
    if state is not None:
        domains.set_autostart(server_uuid, False)
        domains.undefine(server_uuid)
        changed = True
    for file in files:
        changed |= _set_aside(journal, file)
    journal.note(held=True)
    return changed


def restore(journal: Journal, domains: Domains, server_uuid: str, files: list[MoveFile], definition: str | None, autostart: bool) -> bool:
    """Bring the held copy back into service, defined and off; True if that changed something.

    ``definition`` and ``autostart`` (the record's) are used only if the journal has none.
    """
    _check_return(journal, files)
    changed = False
    for file in files:
        if file["way"] == "replace" and os.path.lexists(file["held_path"]) and nodefiles.is_ours(journal, file["source_path"]):
            os.unlink(file["source_path"])  # blank when this migration made it: it gives way
        if os.path.lexists(file["held_path"]) and file["held_path"] != file["source_path"]:
            nodefiles.take_name(file["held_path"], file["source_path"])
            changed = True
    if domains.state(server_uuid) is None:
        xml = journal.data.get("definition") or definition
        if not xml:
            raise ColdmoveError(f"no definition of server {server_uuid} in the journal nor in the record: define it by hand, its files are back in place")
        known.note([server_uuid])
        domains.define(xml)
        changed = True
    kept = journal.data.get("autostart")
    changed |= domains.set_autostart(server_uuid, bool(autostart if kept is None else kept))
    # From here on libvirt has the definition, and its owner may change it: the journal's is not to be used again.
    journal.note(held=False, definition=None, autostart=None, held_devices={})
    return changed


def _check_return(journal: Journal, files: list[MoveFile]) -> None:
    """Raise ColdmoveError, before anything is renamed, unless every file can have its own name back."""
    for file in files:
        held, own = file["held_path"], file["source_path"]
        if devices.is_device(file):
            devices.check_held(journal, file)
        elif not os.path.lexists(held):
            if not os.path.lexists(own):
                raise ColdmoveError(f"neither {held} nor {own} is on this node: the source copy of {file['id']} is not there. Nothing was changed")
        elif file["way"] == "replace" and nodefiles.is_ours(journal, own):
            continue
        elif os.path.lexists(own) and not os.path.samestat(os.lstat(held), os.lstat(own)):
            raise ColdmoveError(f"{own} exists and is another file than {held}: both are kept. Compare them and move one away. Nothing was changed")


def release(journal: Journal, files: list[MoveFile], users: t.Mapping[str, str] | None = None) -> tuple[list[str], list[str]]:
    """Delete the held copy: ``(deleted paths, kept paths with the reason)``. Only the exact files that were set aside.

    ``users``: the domains that use block devices of this node, see devices.users_of().
    """
    deleted: list[str] = []
    kept: list[str] = []
    for file in files:
        path = file["held_path"]
        if devices.is_device(file):
            for told, found in zip((deleted, kept), devices.release(journal, file, users or {})):
                told.extend(found)
            continue
        if not os.path.lexists(path) or file["way"] == "overlay":
            continue
        if nodefiles.is_ours(journal, path):
            os.unlink(path)
            deleted.append(path)
        else:
            kept.append(f"{path}: not the file that migration {journal.uuid} set aside, left alone")
    journal.note(held=False)
    return deleted, kept


def _check_way_aside(journal: Journal, file: MoveFile) -> None:
    """Raise ColdmoveError, before the server is undefined, unless the file can be set aside or has been."""
    own, held = file["source_path"], file["held_path"]
    if devices.is_device(file):
        devices.check_held(journal, file)
        devices.check_source(file)
        return
    if _is_replaced(journal, file):
        return
    if not os.path.lexists(own):
        if not nodefiles.is_ours(journal, held):
            raise ColdmoveError(f"{own} is not there and {held} is not the file this migration set aside. Nothing was changed")
    elif os.path.lexists(held) and not os.path.samestat(os.lstat(own), os.lstat(held)):
        raise ColdmoveError(f"{own} exists beside {held} and is another file: both are kept. Compare them and move one away. Nothing was changed")


def _is_replaced(journal: Journal, file: MoveFile) -> bool:
    """Whether the file stands aside, and its own name belongs to the blank one of this migration by now."""
    own, held = file["source_path"], file["held_path"]
    if file["way"] != "replace" or not nodefiles.is_ours(journal, held):
        return False
    return not os.path.lexists(own) or not os.path.samestat(os.lstat(own), os.lstat(held))


def _set_aside(journal: Journal, file: MoveFile) -> bool:
    if not os.path.lexists(file["source_path"]) or file["source_path"] == file["held_path"] or _is_replaced(journal, file):
        return False
    # Under its own name it stays the server's: on the same node the dest's copy may be about to get that name, and is deleted by it.
    nodefiles.foresee(journal, file["source_path"], [file["held_path"]])
    nodefiles.take_name(file["source_path"], file["held_path"])
    return True
