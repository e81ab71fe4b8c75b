# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes by identity (PID and start time), so that a recycled PID is never taken for one of the lab's."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.errors import LabError
from lab.shell import wait_for


@dataclass(frozen=True)
class Process:
    """One process, as the machine's /proc counts it."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this PID now; None if there is none or it is a zombie."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @classmethod
    def load(cls, path: Path) -> Process | None:
        """The process that save() wrote down, if it still lives."""
        try:
            saved = cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return saved if saved.alive() else None

    def save(self, path: Path) -> None:
        """Write the identity down in one step."""
        replace_text(path, json.dumps(asdict(self)))

    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return Process.of(self.pid) == self

    def _pid_here(self) -> int:
        """The PID by which this very process may call it: a BMC, inside the lab's PID namespace, sees the machine's /proc all the same."""
        depth = len(namespace_pids("self")) - 1
        found = namespace_pids(str(self.pid))
        if depth >= len(found):
            raise ProcessLookupError(f"process {self.pid} is outside of this PID namespace, or gone")
        return found[depth]

    def kill(self, timeout: float = 10) -> None:
        """SIGKILL and wait until it is gone."""
        if self.alive():
            try:
                os.kill(self._pid_here(), signal.SIGKILL)
            except ProcessLookupError:
                return
        wait_for(f"end of process {self.pid}", lambda: not self.alive(), timeout, pause=0.005)


def myself() -> Process:
    """This process as the procfs at /proc sees it: inside a new PID namespace that still has the machine's /proc, the machine's PID."""
    process = Process.of(int(os.readlink("/proc/self")))
    if process is None:
        raise LabError("/proc does not show this process")
    return process


def namespace_pids(pid: str) -> list[int]:
    """The PIDs of a process, from that in /proc's own namespace to that in its innermost one; none if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []
    return next(([int(word) for word in line.split()[1:]] for line in lines if line.startswith("NSpid:")), [])


def pids() -> list[int]:
    """All PIDs of /proc."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def in_network(namespace: str) -> list[Process]:
    """All processes whose network namespace is this one (`net:[…]`)."""
    found = []
    for pid in pids():
        try:
            inside = os.readlink(f"/proc/{pid}/ns/net") == namespace
        except OSError:
            continue
        process = Process.of(pid) if inside else None
        if process:
            found.append(process)
    return found


def with_arguments(*tail: str) -> list[Process]:
    """All processes whose command line ends in these arguments."""
    found = []
    for pid in pids():
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            continue
        process = Process.of(pid) if arguments[-len(tail) :] == [os.fsencode(word) for word in tail] else None
        if process:
            found.append(process)
    return found


def replace_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old text or the new one, never half."""
    temporary = path.with_name(f"{path.name}.new-{os.getpid()}")
    temporary.write_text(text)
    temporary.chmod(mode)
    temporary.replace(path)
