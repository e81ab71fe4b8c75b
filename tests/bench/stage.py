# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage: a lab of two prepared nodes, its guests, and ansible-playbook."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

from lab import DiskSpec, GuestSpec, Lab

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
IMAGES = "/var/lib/libvirt/images"
MIB = 1024 * 1024
SOURCE, DEST = "node1", "node2"


@dataclass(frozen=True)
class Image:
    """A guest that is measured, by its one disk. The guest has no system: it writes nothing, so its disk can be compared at any time."""

    format: t.Literal["qcow2", "raw"]
    content_mib: int

    @property
    def guest(self) -> str:
        """Its name."""
        return f"{self.format}{self.content_mib}"

    @property
    def virtual_mib(self) -> int:
        """Size of the disk."""
        return max(1024, 4 * self.content_mib)

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
        disk = DiskSpec(image.virtual_mib * MIB, image.format, content_mib=image.content_mib)
        self.lab.define_guest(SOURCE, GuestSpec(image.guest, [disk], memory_mib=64, shutdown="mute"))
        self.lab.start_guest(SOURCE, image.guest, wait=False)

    def make_small(self, name: str) -> None:
        """Make and start a small guest without a system."""
        self.lab.define_guest(SOURCE, GuestSpec(name, [DiskSpec(64 * MIB)], memory_mib=64, shutdown="mute"))
        self.lab.start_guest(SOURCE, name, wait=False)

    def make_idle(self, name: str) -> None:
        """Make and start a small guest with a real system, that obeys the power button."""
        self.lab.define_guest(SOURCE, GuestSpec(name, [DiskSpec(64 * MIB)]))
        self.lab.start_guest(SOURCE, name)

    # ----- Ansible

    def play(self, playbook: str, *variables: str, forks: int | None = None) -> Played:
        """Run a playbook of the collection to its end."""
        trace = self.lab.inventory_path.with_name("trace.jsonl")
        trace.unlink(missing_ok=True)
        command = ["ansible-playbook", "-i", str(self.lab.inventory_path), f"coldmove.libvirt.{playbook}"]
        command += [part for value in variables for part in ("-e", value)] + (["--forks", str(forks)] if forks else [])
        before, begun = _children_seconds(), time.monotonic()
        done = subprocess.run(command, env=self._environment(trace), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - begun
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[3:])} failed:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
        lines = trace.read_text(encoding="utf-8").splitlines() if trace.exists() else []
        return Played(seconds, _children_seconds() - before, [json.loads(line) for line in lines])

    def _environment(self, trace: Path) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
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


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
