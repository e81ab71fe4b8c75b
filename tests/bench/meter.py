# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring a move from outside: the same instruments for every way of moving, none of them inside what is measured."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
import typing as t
from pathlib import Path

if t.TYPE_CHECKING:
    from lab import Lab

_PAGE = os.sysconf("SC_PAGE_SIZE")
_POWER_POLL, _MEMORY_POLL = 0.01, 0.1


def is_running(status: Path) -> bool:
    """Whether a guest runs, by the status file that its node's libvirt keeps of it."""
    try:
        with status.open(encoding="utf-8", errors="replace") as file:
            return "<domstatus state='running'" in file.read(1000)
    except OSError:
        return False


class PowerWatch:
    """When the guest went off on one node and when it was running on the other: by the status file that each node's libvirt keeps."""

    def __init__(self, lab: Lab, guest: str, source: str, dest: str) -> None:
        self._files = {node: Path(f"/proc/{lab.init(node).pid}/root/run/libvirt/qemu/{guest}.xml") for node in (source, dest)}
        self._source, self._dest = source, dest
        self.off_at: float | None = None
        self.on_at: float | None = None

    def look(self) -> None:
        """Note what has happened since the last look."""
        if self.off_at is None:
            if not is_running(self._files[self._source]):
                self.off_at = time.monotonic()
        elif self.on_at is None and is_running(self._files[self._dest]):
            self.on_at = time.monotonic()

    @property
    def downtime(self) -> float:
        """Seconds from off to running."""
        if self.off_at is None or self.on_at is None:
            raise RuntimeError(f"the guest was not seen to stop on {self._source} and start on {self._dest}")
        return self.on_at - self.off_at


class MemoryWatch:
    """Most memory (sum of resident sets) that processes begun since now had at one time on each node; guests are left out."""

    def __init__(self, lab: Lab) -> None:
        self._places = lab.pid_namespaces()
        self._ignored = {name for name in os.listdir("/proc") if name.isdigit()}
        self._known: dict[str, str | None] = {}
        self.peak: dict[str, int] = dict.fromkeys(self._places.values(), 0)

    def look(self) -> None:
        """Take one sample."""
        now = dict.fromkeys(self.peak, 0)
        for pid in os.listdir("/proc"):
            node = self._node_of(pid) if pid.isdigit() and pid not in self._ignored else None
            if node:
                now[node] += _resident_bytes(pid)
        self.peak = {node: max(self.peak[node], now[node]) for node in now}

    def _node_of(self, pid: str) -> str | None:
        if pid not in self._known:
            try:
                guest = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").startswith("qemu-system")
                if guest:
                    self._ignored.add(pid)
                self._known[pid] = None if guest else self._places.get(os.readlink(f"/proc/{pid}/ns/pid"))
            except OSError:
                return None
        return self._known[pid]


def _resident_bytes(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


class Meter:
    """All instruments over one move, as a context manager."""

    def __init__(self, lab: Lab, guest: str, source: str, dest: str) -> None:
        self._lab, self._dest = lab, dest
        self.power, self.memory = PowerWatch(lab, guest, source, dest), MemoryWatch(lab)
        self.wall = 0.0
        self.wire_bytes = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Meter:
        """Begin."""
        self.wire_bytes = -received_bytes(self._lab, self._dest)
        self.wall = -time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """End."""
        self.wall += time.monotonic()
        self.wire_bytes += received_bytes(self._lab, self._dest)
        time.sleep(2 * _POWER_POLL)
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        next_memory = 0.0
        while not self._end.wait(_POWER_POLL):
            self.power.look()
            if time.monotonic() >= next_memory:
                self.memory.look()
                next_memory = time.monotonic() + _MEMORY_POLL

    @property
    def peak_bytes(self) -> int:
        """Peak of both ends together with all other nodes' shares left out."""
        return max(self.memory.peak.values())


def received_bytes(lab: Lab, node: str) -> int:
    """What has left the lab's switch towards a node so far, by its port's counter."""
    text = Path(f"/proc/{lab.holder.pid}/net/dev").read_text(encoding="ascii")
    found = re.search(rf"^\s*p-{re.escape(node)}:((?:\s+\d+)+)$", text, re.MULTILINE)
    if not found:
        raise RuntimeError(f"the lab's switch has no port of {node}")
    return int(found.group(1).split()[8])


def allocated_bytes(path: Path) -> int:
    """What a file takes on its storage."""
    return path.stat().st_blocks * 512


def same_content(first: Path, second: Path, image_format: str) -> bool:
    """Whether a guest would read the same bytes from both images, all of them."""
    command = ["qemu-img", "compare", "-U", "-f", image_format, "-F", image_format, str(first), str(second)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
