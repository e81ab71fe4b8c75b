# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running commands with an environment that owes nothing to the caller (no pyenv shims, no locale, no proxies)."""

from __future__ import annotations

import shlex
import subprocess
import time
from typing import TYPE_CHECKING, TypeVar

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable

PYTHON = "/usr/bin/python3"
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}

T = TypeVar("T")


def run(*argv: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its output; raise LabError if it fails (unless check is off) or takes too long."""
    try:
        done = subprocess.run(
            argv, input="" if stdin is None else stdin, capture_output=True, text=True, errors="replace", env=ENVIRONMENT, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"no end after {timeout} s: {shlex.join(argv)}") from error
    except OSError as error:
        raise LabError(f"cannot run {shlex.join(argv)}: {error}") from error
    if check and done.returncode:
        raise LabError(f"exit code {done.returncode}: {shlex.join(argv)}\n{(done.stderr or done.stdout).strip()}")
    return done


def output(*argv: str, timeout: float = 60) -> str:
    """Standard output of a command that must succeed, without the last newline."""
    return run(*argv, timeout=timeout).stdout.rstrip("\n")


def wait_for(what: str, probe: Callable[[], T | None], timeout: float, pause: float = 0.02) -> T:
    """Call probe until it returns something true; raise LabError saying what did not come in time."""
    end = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > end:
            raise LabError(f"{what}: not within {timeout:g} s")
        time.sleep(pause)
