# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab knows of itself: where its files are and one JSON file, read by every command and by each node's init."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import LabError
from lab.processes import replace_text

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE_BASE = Path("/run/coldmove-lab")
DATA_BASE = Path("/var/tmp/coldmove-lab")
INSTANCES_PATH = "/var/lib/libvirt/images"
GUEST_IMAGE_PATH = "/usr/local/share/coldmove-lab"
"""Where every node sees the kernel and the initramfs of the guests."""


@dataclass
class Mount:
    """A directory of the machine (or of the lab's own mount namespace) that a node sees."""

    source: str
    target: str
    readonly: bool = False


@dataclass
class NodeState:
    """One node: what it is, and the faults that are on it now (they outlive its reboots)."""

    name: str
    index: int
    kind: str
    """`compute` or `records`."""
    ipv4: str
    ipv6: str
    machine_id: str
    host_uuid: str
    cut: bool = False
    rate: str | None = None
    limit_bytes: int | None = None
    bmc: str = "obeys"
    """What its BMC does when it is told to switch (bmc.BEHAVIOURS)."""
    mounts: list[Mount] = field(default_factory=list)


@dataclass
class GuestState:
    """What the lab chose for a guest, so that it can be reached on whatever node it is."""

    name: str
    uuid: str
    index: int
    mac: str
    ipv4: str
    ipv6: str
    files: list[str] = field(default_factory=list)


@dataclass
class State:
    """The whole lab."""

    name: str
    nodes: dict[str, NodeState] = field(default_factory=dict)
    guests: dict[str, GuestState] = field(default_factory=dict)
    ready: bool = False
    #: What has brought it up, by $COLDMOVE_RUN: whoever cleans up after that takes along its labs and no others.
    run: str = ""

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> State:
        """Rebuild from what asdict() made."""
        nodes = {name: NodeState(**{**node, "mounts": [Mount(**mount) for mount in node["mounts"]]}) for name, node in raw["nodes"].items()}
        guests = {name: GuestState(**guest) for name, guest in raw["guests"].items()}
        return cls(raw["name"], nodes, guests, raw["ready"], raw.get("run", ""))

    def node(self, name: str) -> NodeState:
        """The node of this name, or an error that lists the names."""
        if name not in self.nodes:
            raise LabError(f"lab {self.name} has no node {name!r}; it has {', '.join(self.nodes) or 'none'}")
        return self.nodes[name]


@dataclass(frozen=True)
class Paths:
    """Where one lab's things are on the machine."""

    name: str

    def __post_init__(self) -> None:
        """Names become parts of paths and of command lines."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,15}", self.name):
            raise LabError(f"lab name {self.name!r}: use 1 to 16 of a-z, 0-9 and -")

    @property
    def state(self) -> Path:
        """Small files: state, keys, inventory, ssh control sockets (short path)."""
        return STATE_BASE / self.name

    @property
    def data(self) -> Path:
        """Disk images, on a real file system."""
        return DATA_BASE / self.name

    @property
    def store(self) -> Path:
        """The tmpfs (in the lab's own mount namespace) that holds what nodes changed in their root file systems."""
        return self.state / "store"

    @property
    def holder(self) -> Path:
        """Identity of the process that holds the lab's namespaces."""
        return self.state / "holder.json"

    @property
    def inventory(self) -> Path:
        """The inventory for Ansible."""
        return self.state / "inventory.yml"

    @property
    def key(self) -> Path:
        """The private key that opens every node as root."""
        return self.state / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """Host keys of all nodes."""
        return self.state / "known_hosts"

    def images(self, node: str) -> Path:
        """The machine's directory behind a node's instances path."""
        return self.data / node / "images"

    def node(self, node: str) -> Path:
        """Small files of one node."""
        return self.state / node

    def load(self) -> State:
        """Read the lab's state."""
        try:
            return State.from_dict(json.loads((self.state / "state.json").read_text()))
        except FileNotFoundError as error:
            raise LabError(f"no lab named {self.name}; bring it up with: python3 tests/lab up --name {self.name} --nodes 3") from error

    def save(self, state: State) -> None:
        """Write the lab's state."""
        replace_text(self.state / "state.json", json.dumps(asdict(state), indent=1))

    @contextlib.contextmanager
    def update(self) -> Iterator[State]:
        """Change the lab's state under a lock; nothing is written if the block fails."""
        if not self.state.is_dir():
            self.load()
        with (self.state / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self.load()
            yield state
            self.save(state)


@contextlib.contextmanager
def exclusive(name: str, timeout: float = 120) -> Iterator[None]:
    """One `up` or `down` of a lab at a time. The lock is an abstract socket: no file to leave behind, and it dies with its owner."""
    with socket.socket(socket.AF_UNIX) as lock:
        end = time.monotonic() + timeout
        while True:
            try:
                lock.bind(f"\0coldmove-lab-{os.getuid()}-{name}")
                break
            except OSError as error:
                if time.monotonic() > end:
                    raise LabError(f"another up or down of lab {name} is still at work after {timeout:g} s") from error
                time.sleep(0.05)
        yield


def names() -> list[str]:
    """All labs that have left a trace on this machine."""
    found = {path.name for base in (STATE_BASE, DATA_BASE) if base.is_dir() for path in base.iterdir() if path.is_dir()}
    return sorted(found)
