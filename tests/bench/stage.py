# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage: a lab of two prepared nodes, its guests, and ansible-playbook."""

from __future__ import annotations

import json
import os
import subprocess
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

from bench.meter import TreeMemory, children_seconds
from lab import DiskSpec, GuestSpec, Lab

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
IMAGES = "/var/lib/libvirt/images"
MIB = 1024 * 1024
SOURCE, DEST = "node1", "node2"


#: The guests have more virtual CPUs together than the nodes would give out.
ROOMY = "cpu_allocation_ratio=100"
#: Random content is laid down in pieces of so many MiB with holes between them, as in a disk that is in use.
_PIECE_MIB = 64
#: Size of a disk of a guest that writes, and of the file that it writes to.
_WRITING_MIB, _WRITTEN_MIB = 512, 64

#: On a node: $1 MiB of random content into the image $2 of format $3 and of $4 MiB. Nothing is laid down in between, so that 16 GiB need 16 GiB.
FILL = """
import nbd, os, sys
content, path, image_format, virtual, piece = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
handle = nbd.NBD()
handle.connect_systemd_socket_activation(["qemu-nbd", "-f", image_format, path])
for number in range(content):
    place = number // piece * (piece * virtual // content) + number % piece
    handle.pwrite(os.urandom(1 << 20), place << 20)
handle.flush()
handle.shutdown()
del handle  # waits for the end of qemu-nbd, which would keep the guest from its disk
"""

#: In a guest, one line of its shell: whole MiB to random places of a file, each flushed, so many a second, until /run/dirty is gone.
WRITER = (
    "writer() { dd if=/dev/urandom of=/run/block bs=1M count=1; touch /run/dirty; read -r up rest </proc/uptime; begin=${up%.*}${up#*.}; count=0; "
    "while [ -e /run/dirty ]; do read -r up rest </proc/uptime; now=${up%.*}${up#*.}; "
    "if [ $((count * 100)) -lt $(((now - begin) * RATE)) ]; then "
    "dd if=/run/block of=/data/dirty bs=1M count=1 seek=$((RANDOM % FILE)) conv=notrunc,fsync; count=$((count + 1)); else sleep 0.05; fi; done; }; "
    "(exec </dev/null >/dev/null 2>&1; writer) & echo ok"
)


@dataclass(frozen=True)
class Image:
    """A guest that is measured, by its one disk.

    Without a rate it has no system: it writes nothing, so its disk can be compared at any time. With one it has a system, obeys the power button, and writes
    so many MB each second (0: next to nothing).
    """

    format: t.Literal["qcow2", "raw"]
    content_mib: int
    rate: int | None = None

    @property
    def mute(self) -> bool:
        """Whether it has no system."""
        return self.rate is None

    @property
    def guest(self) -> str:
        """Its name."""
        return f"{self.format}{self.content_mib}" + ("" if self.mute else f"-writes{self.rate}")

    @property
    def virtual_mib(self) -> int:
        """Size of the disk: 4 x its content, if that is not too much for the machine."""
        return max(1024, min(4 * self.content_mib, self.content_mib + 8192)) if self.mute else self.content_mib + _WRITING_MIB

    @property
    def file(self) -> str:
        """Name of the disk's file."""
        return f"{self.guest}-vda.{self.format}"


@dataclass(frozen=True)
class Played:
    """One run of a playbook."""

    seconds: float
    cpu_seconds: float
    tasks: list[dict[str, t.Any]]
    peak_bytes: int = 0
    """Memory of the controller, if it was watched."""


class Stage:
    """Where everything happens."""

    def __init__(self, lab: Lab, collections: str, say: t.Callable[[str], None]) -> None:
        self.lab, self.say = lab, say
        self._collections = collections

    def path(self, node: str, name: str) -> Path:
        """The machine's path of a file in a node's instances path."""
        return self.lab.images(node) / name

    def held(self, image: Image) -> Path:
        """The source's copy of an image, under whatever name it has now."""
        (found,) = self.lab.images(SOURCE).glob(f"{image.file}*")
        return found

    # ----- guests

    def make(self, image: Image) -> None:
        """Make a measured guest on the source, and start it."""
        if image.mute:
            disk = DiskSpec(image.virtual_mib * MIB, image.format, role="blank")
            self.lab.define_guest(SOURCE, GuestSpec(image.guest, [disk], memory_mib=64, shutdown="mute"))
            numbers = (str(image.content_mib), f"{IMAGES}/{image.file}", image.format, str(image.virtual_mib), str(_PIECE_MIB))
            self.lab.exec(SOURCE, "/usr/bin/python3", "-", *numbers, stdin=FILL, timeout=1800)
        else:
            self.lab.define_guest(SOURCE, GuestSpec(image.guest, [DiskSpec(image.virtual_mib * MIB, image.format, content_mib=image.content_mib)]))
        self.lab.start_guest(SOURCE, image.guest, wait=not image.mute)

    def remove(self, image: Image) -> None:
        """Undo make()."""
        self.lab.remove_guest(SOURCE, image.guest)

    def write(self, image: Image) -> None:
        """Have a guest with a system write: numbered lines that are told once they are on its disk, and what its rate asks for."""
        self.lab.wait_ready(image.guest)
        self.lab.guest_command(image.guest, "load start 0.1")
        if image.rate:
            self.lab.guest_command(image.guest, "sh " + WRITER.replace("RATE", str(image.rate)).replace("FILE", str(_WRITTEN_MIB)))

    def has_all(self, image: Image, told: int) -> bool:
        """Whether a guest with a system finds all that it was told to be on its disk, and its files undamaged."""
        self.lab.wait_ready(image.guest)
        words = self.lab.guest_command(image.guest, "acks").split()
        verified = self.lab.guest_command(image.guest, "verify", timeout=120)
        return words[-1] == "complete" and int(words[3]) >= told > 0 and verified.startswith("ok")

    def make_small(self, name: str) -> None:
        """Make and start a small guest without a system."""
        self.lab.define_guest(SOURCE, GuestSpec(name, [DiskSpec(64 * MIB)], memory_mib=64, shutdown="mute"))
        self.lab.start_guest(SOURCE, name, wait=False)

    def make_idle(self, name: str) -> None:
        """Make and start a small guest with a real system, that obeys the power button."""
        self.lab.define_guest(SOURCE, GuestSpec(name, [DiskSpec(64 * MIB)]))
        self.lab.start_guest(SOURCE, name)

    # ----- Ansible

    def play(self, playbook: str, *variables: str, forks: int | None = None, memory: bool = False) -> Played:
        """Run a playbook, of the collection or a file, to its end."""
        trace = self.lab.inventory_path.with_name("trace.jsonl")
        trace.unlink(missing_ok=True)
        command = ["ansible-playbook", "-i", str(self.lab.inventory_path), playbook if playbook.startswith("/") else f"coldmove.libvirt.{playbook}"]
        command += [part for value in variables for part in ("-e", value)] + (["--forks", str(forks)] if forks else [])
        before, begun, peak = children_seconds(), time.monotonic(), 0
        with subprocess.Popen(
            command, env=self._environment(trace), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            if memory:
                with TreeMemory(process.pid) as watch:
                    output = process.communicate()[0]
                peak = watch.peak
            else:
                output = process.communicate()[0]
        seconds = time.monotonic() - begun
        if process.returncode:
            raise RuntimeError(f"{' '.join(command[3:])} failed:\n{output[-6000:]}")
        lines = trace.read_text(encoding="utf-8").splitlines() if trace.exists() else []
        return Played(seconds, children_seconds() - before, [json.loads(line) for line in lines], peak)

    def _environment(self, trace: Path) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_CONFIG": str(Path(__file__).with_name("ansible.cfg")),
            "ANSIBLE_COLLECTIONS_PATH": self._collections,
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "trace_tasks",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "COLDMOVE_TRACE": str(trace),
        }

    def revert(self, guests: list[str]) -> None:
        """Bring guests back to the source (not measured)."""
        if guests:
            self.play("revert", f"server={','.join(guests)}", "accept_lost_writes=true", "shutdown_timeout=0")

    # ----- many at once

    def move_many(self, servers: int, group: int = 0) -> tuple[Played, Played]:
        """Move one small server, then so many others by one run; both runs, with the controller's memory. Each ``group`` has names of its own."""
        names = [f"small{group}-{number}" for number in range(servers + 1)]
        for name in names:
            self.make_small(name)
        rest = (f"target_host={DEST}", "shutdown_timeout=0", ROOMY)
        one = self.play("cold_migrate", f"server={names[0]}", *rest, memory=True)
        many = self.play("cold_migrate", f"server={','.join(names[1:])}", *rest, forks=servers, memory=True)
        for name in names:
            self.lab.remove_guest(DEST, name)
        return one, many
