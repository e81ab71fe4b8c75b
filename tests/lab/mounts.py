# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounting what one mount namespace has into another one (no command of util-linux does that before 2.39)."""

from __future__ import annotations

import ctypes
import os

from lab.errors import LabError

SYS_OPEN_TREE, SYS_MOVE_MOUNT = 428, 429  # the same on all architectures
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 4
AT_FDCWD = -100


def graft(source_pid: int, source: str, target_pid: int, target: str) -> None:
    """Mount `source`, as one process sees it, at `target`, as the other sees it. Leaves the caller in the other's mount namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    namespaces = [os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC) for pid in (source_pid, target_pid)]
    checked(libc.setns(namespaces[0], 0), f"enter the mount namespace of {source_pid}")
    tree = checked(libc.syscall(SYS_OPEN_TREE, AT_FDCWD, os.fsencode(source), OPEN_TREE_CLONE | os.O_CLOEXEC), f"open_tree {source}")
    checked(libc.setns(namespaces[1], 0), f"enter the mount namespace of {target_pid}")
    os.makedirs(target, exist_ok=True)
    checked(libc.syscall(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH), f"move_mount {target}")


def checked(result: int, what: str) -> int:
    """The result of a call to libc, or its error."""
    if result < 0:
        raise LabError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result
