# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that is killed with SIGKILL before each of its writes in turn, whatever they are."""

from __future__ import annotations

import os
import signal
import sys
import typing as t
from pathlib import Path

#: Python tells of these before it does them (audit events); the first argument of each is a path.
WRITES = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.symlink")


def killed_everywhere(folder: Path, act: t.Callable[[], t.Any], check: t.Callable[[int], None], at_most: int = 200) -> int:
    """Run ``act`` in a process that is killed before its n-th write below ``folder``, for n = 0, 1 … until it comes to its end.

    ``check(n)`` is called after each. Returns how many points there were. ``check`` may set everything back to the start.
    """
    for point in range(at_most):
        ended = _run(folder, act, point)
        check(point)
        if ended:
            return point
    raise AssertionError(f"no end after {at_most} writes")


def _run(folder: Path, act: t.Callable[[], t.Any], point: int) -> bool:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _die_before_write(folder, point)
            act()
            status = 0
        finally:
            os._exit(status)
    _pid, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0, "the work failed by itself"
    return True


def _die_before_write(folder: Path, point: int) -> None:
    left, below = point, os.fspath(folder)

    def hook(event: str, arguments: tuple[t.Any, ...]) -> None:
        nonlocal left
        writes = event in WRITES or (event == "open" and _for_writing(arguments))
        if writes and isinstance(arguments[0], (str, bytes, os.PathLike)) and os.fsdecode(arguments[0]).startswith(below):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(hook)


def _for_writing(arguments: tuple[t.Any, ...]) -> bool:
    _path, mode, flags = arguments
    return bool(set(mode or "") & set("wax+")) or bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
