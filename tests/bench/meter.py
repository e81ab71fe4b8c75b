# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measuring a move from outside: the same instruments for every way of moving, none of them inside what is measured."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import threading
import time
import typing as t
from pathlib import Path

if t.TYPE_CHECKING:
    from lab import Lab

_PAGE, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
_POWER_POLL, _PROCESS_POLL, _TREE_POLL = 0.01, 0.1, 0.5


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


class Processes:
    """The processes of each node. Guests are told from the rest."""

    def __init__(self, lab: Lab) -> None:
        self._places = lab.pid_namespaces()
        self._nodes: dict[str, str | None] = {}

    @property
    def nodes(self) -> list[str]:
        """All nodes."""
        return list(self._places.values())

    def now(self) -> t.Iterator[tuple[str, str, bool]]:
        """Each that there is: its pid, its node, and whether it is a guest."""
        for pid in os.listdir("/proc"):
            node = self._node_of(pid) if pid.isdigit() else None
            if node:
                yield pid, node, _read(f"/proc/{pid}/comm").startswith("qemu-system")

    def _node_of(self, pid: str) -> str | None:
        if pid not in self._nodes:
            try:
                self._nodes[pid] = self._places.get(os.readlink(f"/proc/{pid}/ns/pid"))
            except OSError:
                return None
        return self._nodes[pid]


class MemoryWatch:
    """Most memory (sum of resident sets) that each node had at one time for what began since.

    That is its new processes, and what guests that ran already have grown by. New guests are left out: all ways start the same one.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._before = {pid: _resident_bytes(pid) if guest else None for pid, _node, guest in processes.now()}
        self.peak: dict[str, int] = dict.fromkeys(processes.nodes, 0)

    def look(self) -> None:
        """Take one sample."""
        now = dict.fromkeys(self.peak, 0)
        for pid, node, guest in self._processes.now():
            if guest != (pid in self._before):
                continue
            now[node] += max(0, _resident_bytes(pid) - (self._before.get(pid) or 0))
        self.peak = {node: max(self.peak[node], now[node]) for node in now}


class CpuWatch:
    """CPU seconds of each node since the begin: what /proc says of its processes and their ended children. Emulating a guest's CPU is left out.

    What is run on a node by hand is nobody's child there: add() counts that.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._begin = self._sums()
        self._guests: dict[str, tuple[str, float, float]] = {}
        for pid, node, guest in processes.now():
            if guest:
                emulated = _emulation_seconds(pid)
                self._guests[pid] = (node, emulated, emulated)
        self.seconds: dict[str, float] = dict.fromkeys(processes.nodes, 0.0)
        self._by_hand = dict(self.seconds)

    def _sums(self) -> dict[str, float]:
        sums = dict.fromkeys(self._processes.nodes, 0.0)
        for pid, node, _guest in self._processes.now():
            sums[node] += sum(_stat_seconds(f"/proc/{pid}/stat", 4))
        return sums

    def look(self) -> None:
        """Note what guests have taken to emulate their CPUs: once they are gone, nobody can tell any more."""
        for pid, node, guest in self._processes.now():
            if guest:
                _node, begin, last = self._guests.get(pid, (node, 0.0, 0.0))
                self._guests[pid] = (node, begin, max(last, _emulation_seconds(pid)))

    def add(self, node: str, seconds: float) -> None:
        """Count what was run by hand."""
        self._by_hand[node] += seconds

    def end(self) -> None:
        """The last look; ``seconds`` is right from now on."""
        self.look()
        end = self._sums()
        for node in self.seconds:
            emulated = sum(last - begin for place, begin, last in self._guests.values() if place == node)
            self.seconds[node] = max(0.0, end[node] - self._begin[node] - emulated) + self._by_hand[node]


class WritesWatch:
    """What a running guest has written since the begin: what its QEMU has written to files. (A mirror's share goes into a socket.)"""

    def __init__(self, processes: Processes, node: str, guest: str) -> None:
        own = [pid for pid, place, is_guest in processes.now() if is_guest and place == node and f"guest={guest}," in _read(f"/proc/{pid}/cmdline")]
        if len(own) != 1:
            raise RuntimeError(f"{len(own)} processes of guest {guest} on {node}")
        self._pid = own[0]
        self._begin = self._last = self._written()

    def look(self) -> None:
        """Take one sample: once the guest is off, nobody can tell any more."""
        self._last = max(self._last, self._written())

    def _written(self) -> int:
        found = re.search(r"^write_bytes: (\d+)$", _read(f"/proc/{self._pid}/io"), re.MULTILINE)
        return int(found.group(1)) if found else 0

    @property
    def bytes(self) -> int:
        """Bytes written meanwhile."""
        return self._last - self._begin


class TreeMemory:
    """Most memory that a process and all that it has started had at one time; pages that they share are counted once (PSS). A context manager."""

    def __init__(self, pid: int) -> None:
        self._pid = str(pid)
        self.peak = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> TreeMemory:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """End."""
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(_TREE_POLL):
            self.peak = max(self.peak, sum(_shared_bytes(pid) for pid in _tree(self._pid)))


def _tree(pid: str) -> t.Iterator[str]:
    yield pid
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it is gone
        return
    for task in tasks:
        for child in _read(f"/proc/{pid}/task/{task}/children").split():
            yield from _tree(child)


def _read(path: str) -> str:
    """A file of a process, which may be gone."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _resident_bytes(pid: str) -> int:
    words = _read(f"/proc/{pid}/statm").split()
    return int(words[1]) * _PAGE if words else 0


def _shared_bytes(pid: str) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB", _read(f"/proc/{pid}/smaps_rollup"), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _stat_seconds(path: str, count: int) -> list[float]:
    """The first ``count`` of user, system, ended children's user, ended children's system time."""
    words = _read(path).rpartition(")")[2].split()
    return [int(word) / _TICKS for word in words[11 : 11 + count]]


def _emulation_seconds(pid: str) -> float:
    """What a guest's process has taken in the threads that are the guest's CPUs."""
    tasks = [str(task) for task in Path(f"/proc/{pid}/task").glob("*")]
    return sum(sum(_stat_seconds(f"{task}/stat", 2)) for task in tasks if _read(f"{task}/comm").startswith("CPU "))


def children_seconds() -> float:
    """CPU seconds of all ended children of this process."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Meter:
    """All instruments over one move, as a context manager. ``writes``: the guest writes meanwhile, which is to be counted."""

    def __init__(self, lab: Lab, guest: str, source: str, dest: str, writes: bool = False) -> None:
        self._lab, self._source, self._dest = lab, source, dest
        processes = Processes(lab)
        self.power, self.memory, self.cpu = PowerWatch(lab, guest, source, dest), MemoryWatch(processes), CpuWatch(processes)
        self.writes = WritesWatch(processes, source, guest) if writes else None
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
        self.cpu.end()

    def exec(self, node: str, *argv: str, stdin: str | None = None, timeout: float = 3600) -> str:
        """Run a command on a node by hand, so that its CPU counts; returns its output."""
        before = children_seconds()
        output = self._lab.exec(node, *argv, stdin=stdin, timeout=timeout).stdout
        self.cpu.add(node, children_seconds() - before)
        return output

    def _watch(self) -> None:
        next_look = 0.0
        while not self._end.wait(_POWER_POLL):
            self.power.look()
            if time.monotonic() >= next_look:
                self.memory.look()
                self.cpu.look()
                if self.writes:
                    self.writes.look()
                next_look = time.monotonic() + _PROCESS_POLL

    @property
    def dirtied_bytes(self) -> int:
        """What the guest wrote while it was still on the source."""
        return self.writes.bytes if self.writes else 0


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
