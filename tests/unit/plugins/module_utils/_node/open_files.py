# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has a file open."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def users_of(path: Path | str) -> list[int]:
    """The processes that have a file open. Those that end while they are looked at, and what they close, are passed over."""
    found, status = [], os.stat(path)
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found += [int(process) for entry in os.scandir(f"/proc/{process}/fd") if _is(entry, status)]
    return found


def _is(entry: os.DirEntry[str], status: os.stat_result) -> bool:
    try:
        return os.path.samestat(entry.stat(), status)
    except OSError:
        return False
