# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Let a file system follow its disk: by the guest agent in a server that runs, by libguestfs in an image that nobody has open.

The result is a dict: ``grown`` (bool), ``device`` and ``type`` (as the guest has them; None if nothing could grow), ``before_bytes``
and ``after_bytes`` (of the file system), ``how`` (``agent`` or ``libguestfs``), ``not_done`` (sentences: what was left as it was, and why).
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import appliance
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.guest_agent import GuestAgent
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import layout
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.layout import Layout, Marks, Part
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.text import shown

Result = dict[str, t.Any]

#: A guest needs a moment until it knows that its disk has grown.
SEEN_SECONDS = 10
TOOL_SECONDS = 300


def grow_in_image(path: str, image_format: str, planned_bytes: int | None = None) -> Result:
    """Grow the last partition and its file system in an image that nobody has open.

    ``planned_bytes``: only say whether that would change anything if the disk had this size; nothing is written.
    Raises ColdmoveError if the file system is damaged (it is left as it was) or a tool fails.
    """
    with appliance.opened(path, image_format, readonly=planned_bytes is not None) as machine:
        disk = machine.layout()
        if planned_bytes is not None:
            disk = disk._replace(size_bytes=planned_bytes)
        part, reason = layout.growable(disk)
        if part is None:
            return untouched("libguestfs", reason)
        before = machine.filesystem_bytes(part)
        result = _result("libguestfs", part, before)
        if planned_bytes is not None or not disk.has_room(part, before):
            return {**result, "grown": disk.has_room(part, before)}
        machine.check(part)
        if disk.slack_bytes(part) > layout.SLACK_BYTES and part.number is not None:
            machine.move_end(disk, part)
        machine.fill(part)
        return _grown(result, machine.filesystem_bytes(part))


def grow_in_guest(agent: GuestAgent, marks: Marks, disk_bytes: int, planned_bytes: int | None = None) -> Result:
    """The same in a running guest. ``disk_bytes``: the size by which it knows the disk; ``marks``: from the domain's live XML."""
    disk, reason = _disk_of_guest(agent, marks, disk_bytes)
    if disk is None:
        return untouched("agent", reason)
    if planned_bytes is not None:
        disk = disk._replace(size_bytes=planned_bytes)
    part, reason = layout.growable(disk)
    if part is None or part.mountpoint is None:
        return untouched("agent", reason or f"{part and part.device} is not mounted in the guest")
    before = _bytes_of(agent, part.mountpoint)
    result = _result("agent", part, before)
    room = disk.slack_bytes(part) > layout.SLACK_BYTES
    if planned_bytes is not None:
        return {**result, "grown": room}
    if room and part.number is not None:
        _tool(agent, "growpart", disk.device, str(part.number), fine=(0, 1))  # 1: it fills the disk already
    _tool(agent, *(("resize2fs", part.device) if part.content in layout.EXT else ("xfs_growfs", part.mountpoint)))
    return _grown(result, _bytes_of(agent, part.mountpoint))


def untouched(how: str | None, reason: str | None) -> Result:
    """The result where nothing could be grown."""
    return {"grown": False, "device": None, "type": None, "before_bytes": None, "after_bytes": None, "how": how, "not_done": [reason] if reason else []}


def _result(how: str, part: Part, before: int) -> Result:
    return {"grown": False, "device": part.device, "type": part.content, "before_bytes": before, "after_bytes": before, "how": how, "not_done": []}


def _grown(result: Result, after: int) -> Result:
    return {**result, "grown": after > result["before_bytes"], "after_bytes": after}


def _disk_of_guest(agent: GuestAgent, marks: Marks, disk_bytes: int) -> tuple[Layout | None, str | None]:
    deadline = time.monotonic() + SEEN_SECONDS
    while True:
        disk, reason = layout.choose(layout.read_guest(_tool(agent, "sh", "-c", layout.LOOK)), marks, disk_bytes)
        if (disk is not None and disk.size_bytes == disk_bytes) or time.monotonic() >= deadline:
            return disk, reason
        time.sleep(0.5)


def _bytes_of(agent: GuestAgent, mountpoint: str) -> int:
    """The size of a mounted file system as ``df`` says it."""
    block, _blank, count = _tool(agent, "stat", "-f", "-c", "%S %b", mountpoint).strip().partition(" ")
    if not (block.isdecimal() and count.isdecimal()):
        raise ColdmoveError(f"the guest does not tell the size of {mountpoint!r}")
    return int(block) * int(count)


def _tool(agent: GuestAgent, *command: str, fine: t.Container[int] = (0,)) -> str:
    """What a tool of the guest printed. The shell finds it, and says by its code if it is missing."""
    done = agent.run("/bin/sh", "-c", 'exec "$@"', "sh", *command, timeout=TOOL_SECONDS)
    if done.code == 127:
        raise ColdmoveError(f"the guest has no {command[0]}: install it there (growpart is in cloud-guest-utils or cloud-utils-growpart)")
    if done.code not in fine:
        raise ColdmoveError(f"{command[0]} failed in the guest (code {done.code}): {shown(' '.join((done.errors or done.output).split()))[-500:]}")
    return done.output
