# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as one object: what molecule, pytest, the bench and the command line all use."""

from __future__ import annotations

import os
import secrets
import shutil
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lab import bmc, guest_image, holder, inventory, network, rootfs
from lab.errors import LabError
from lab.faults import Faults
from lab.guests import Guests
from lab.processes import Process, in_network, replace_text
from lab.shell import run, wait_for
from lab.state import GUEST_IMAGE_PATH, INSTANCES_PATH, Mount, NodeState, State, exclusive, names

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

RECORDS = "records1"


class Lab(Faults, Guests):
    """Compute nodes `node1`…`nodeN` and a records host `records1`, on one machine, as root.

    As a context manager it is brought up and taken down: `with Lab("demo", nodes=3) as lab: …`.
    """

    def __init__(self, name: str = "lab", nodes: int = 3, link_rate: str | None = None) -> None:
        super().__init__(name)
        self.wanted_nodes = nodes
        self.link_rate = link_rate

    def __enter__(self) -> Lab:
        """Bring it up."""
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Take it down."""
        self.down()

    # ----- up, down, status

    @property
    def inventory_path(self) -> Path:
        """The inventory that up() wrote."""
        return self.paths.inventory

    def up(self) -> None:
        """Bring the lab up. One that is up already with as many nodes is left as it is; one that is half up is made anew."""
        if os.geteuid() != 0:
            raise LabError("the lab needs root (namespaces, mounts)")
        if not 1 <= self.wanted_nodes <= 200:
            raise LabError(f"{self.wanted_nodes} nodes: give 1 to 200")
        with exclusive(self.name):
            if self._is_up():
                return
            self._down()
            try:
                self._up()
            except BaseException:
                self._down()
                raise

    def down(self) -> None:
        """End every process of the lab and remove everything of it. Also for a lab that is half up, dead, or not there."""
        with exclusive(self.name):
            self._down()

    def status(self) -> dict[str, Any]:
        """What is up, with which faults."""
        state = self.paths.load()
        return {
            "name": self.name,
            "up": self._holder_or_none() is not None,
            "ready": state.ready,
            "run": state.run,
            "inventory": str(self.paths.inventory),
            "nodes": [self._node_status(node) for node in state.nodes.values()],
            "guests": [vars(guest) for guest in state.guests.values()],
        }

    def _node_status(self, node: NodeState) -> dict[str, Any]:
        """One node's part of status()."""
        process = self._init_or_none(node.name)
        keys = ("name", "kind", "ipv4", "ipv6", "cut", "rate", "limit_bytes", "bmc")
        return {**{key: getattr(node, key) for key in keys}, "up": process is not None, "pid": process.pid if process else None}

    def _is_up(self) -> bool:
        """Whether this lab is up; LabError if it is, but with another number of nodes."""
        try:
            state = self.paths.load()
        except LabError:
            return False
        if not state.ready or self._holder_or_none() is None:
            return False
        compute = sum(node.kind == "compute" for node in state.nodes.values())
        if compute != self.wanted_nodes:
            raise LabError(f"lab {self.name} is up with {compute} nodes; take it down first: python3 tests/lab down --name {self.name}")
        return True

    def _up(self) -> None:
        """Make everything."""
        rootfs.check_machine()
        state = State(self.name, {node.name: node for node in self._plan()}, run=os.environ.get("COLDMOVE_RUN", ""))
        for path in (self.paths.state / "cp", self.paths.data):
            path.mkdir(parents=True, mode=0o755)
        self.paths.save(state)
        self._make_keys(state)
        for node in state.nodes.values():
            self.paths.images(node.name).mkdir(parents=True, mode=0o711)
        main = holder.launch(self.paths)
        for name in state.nodes:
            self._spawn(name, main)
        for node in state.nodes.values():
            if node.kind == "compute":
                bmc.launch(self.paths, node, main)
        self.write_inventory()
        for name in state.nodes:
            self.wait_booted(name)
        with self.paths.update() as current:
            current.ready = True

    def _plan(self) -> list[NodeState]:
        """The nodes to be made."""
        rate = network.check_rate(self.link_rate) if self.link_rate else None
        image = Mount(str(guest_image.ensure()), GUEST_IMAGE_PATH, readonly=True)
        nodes = []
        for index in range(self.wanted_nodes + 1):
            ipv4, ipv6 = network.node_addresses(index)
            name, kind = (f"node{index}", "compute") if index else (RECORDS, "records")
            mounts = [Mount(str(self.paths.images(name)), INSTANCES_PATH), image] if index else []
            nodes.append(NodeState(name, index, kind, ipv4, ipv6, secrets.token_hex(16), str(uuid.uuid4()), rate=rate, mounts=mounts))
        return [*nodes[1:], nodes[0]]

    def _make_keys(self, state: State) -> None:
        """The key of the lab's operator, each node's host key, and the known_hosts that pins them."""
        keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C")
        run(*keygen, f"lab {self.name}", "-f", str(self.paths.key))
        pinned = []
        for node in state.nodes.values():
            path = self.paths.node(node.name) / "ssh_host_ed25519_key"
            path.parent.mkdir()
            run(*keygen, node.name, "-f", str(path))
            kind, key = path.with_suffix(".pub").read_text().split()[:2]
            pinned.append(f"{node.name},{node.ipv4},{node.ipv6} {kind} {key}\n")
        self.paths.known_hosts.write_text("".join(pinned))

    def _down(self) -> None:
        """Kill the holder and what entered the lab's network, then remove the files."""
        main = Process.load(self.paths.holder)
        inside = holder.network_of(main) if main else None
        visitors = in_network(inside) if inside and inside != os.readlink("/proc/self/ns/net") else []
        for process in [*([main] if main else []), *holder.strays(self.paths), *visitors]:
            process.kill()
        for path in (self.paths.state, self.paths.data):
            if path.exists():
                wait_for(f"removal of {path}", lambda path=path: self._remove(path), 10)  # type: ignore[misc]
            with suppress(OSError):
                path.parent.rmdir()

    @staticmethod
    def _remove(path: Path) -> bool:
        """Remove a tree; False if something is still being written there (a process that is just ending)."""
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()

    def write_inventory(self, path: Path | None = None, addresses: inventory.AddressKind = "ipv4") -> Path:
        """Write an inventory; `addresses` says what migration_address is: the node's name, its IPv4 or its IPv6 address."""
        target = path or self.paths.inventory
        replace_text(target, inventory.render(self.paths, self.paths.load(), self.holder.pid, addresses))
        return target


def labs() -> list[str]:
    """Names of all labs that have left a trace."""
    return names()


__all__ = ["Lab", "labs"]
