# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with a node's network and disks, on order. Every fault is noted in the lab's state and outlives the node's reboots."""

from __future__ import annotations

import re

from lab import bmc, holder, network
from lab.errors import LabError
from lab.nodes import Nodes
from lab.shell import PYTHON, run
from lab.state import INSTANCES_PATH, Mount

FILL_FILE = f"{INSTANCES_PATH}/.coldmove-lab-fill"


class Faults(Nodes):
    """The part of Lab that is about faults."""

    # ----- network

    def cut(self, node: str) -> None:
        """Cut a node off the network, silently; it stays cut over its reboots until mend()."""
        self._set_cut(node, True)

    def mend(self, node: str) -> None:
        """Put a node back on the network."""
        self._set_cut(node, False)

    def _set_cut(self, node: str, cut: bool) -> None:
        """Note it, and do it if the node has power."""
        with self.paths.update() as state:
            state.node(node).cut = cut
            if self._init_or_none(node):
                network.set_cut(node, cut, self.holder.pid)

    def shape(self, node: str, rate: str) -> None:
        """Limit a node's link, both ways, to a rate like 100mbit."""
        self._set_rate(node, network.check_rate(rate))

    def unshape(self, node: str) -> None:
        """Lift the limit of a node's link."""
        self._set_rate(node, None)

    def _set_rate(self, node: str, rate: str | None) -> None:
        """Note it, and do it if the node has power."""
        with self.paths.update() as state:
            state.node(node).rate = rate
            process = self._init_or_none(node)
            if process:
                network.set_rate(network.port(node), rate, self.holder.pid)
                network.set_rate(network.UPLINK, rate, process.pid)

    # ----- power

    def bmc(self, node: str, behaviour: str) -> None:
        """Have a node's BMC do what it is told, or something else (bmc.BEHAVIOURS), until it is told otherwise."""
        with self.paths.update() as state:
            state.node(node).bmc = bmc.check_behaviour(behaviour)
            bmc.plug(state.node(node), self.holder)

    # ----- disks

    def limit(self, node: str, size_bytes: int) -> int:
        """Put a node's instances path, with what is in it, on a file system of this size; returns how many bytes are free there."""
        self._check_quiet(node)
        if self.paths.load().node(node).limit_bytes:
            self.unlimit(node)
        image, mounted = self.paths.data / node / "limit.img", self.paths.store / node / "limit"
        with image.open("wb") as file:
            file.truncate(size_bytes)
        try:
            run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", "2048", "-O", "^has_journal", str(image))
            self._in_store("mkdir", "-p", str(mounted))
            self._in_store("mount", "-o", "loop", str(image), str(mounted))
            self._in_store("rmdir", f"{mounted}/lost+found")
            self._move_content(str(self.paths.images(node)), str(mounted))
        except LabError:
            self._in_store("umount", "-l", str(mounted), check=False)
            image.unlink()
            raise
        self._set_instances(node, str(mounted), size_bytes)
        return self.free_bytes(node)

    def unlimit(self, node: str) -> None:
        """Put a node's instances path back on the machine's file system, with what is in it."""
        self._check_quiet(node)
        if not self.paths.load().node(node).limit_bytes:
            return
        mounted = self.paths.store / node / "limit"
        self._move_content(str(mounted), str(self.paths.images(node)))
        self._set_instances(node, str(self.paths.images(node)), None)
        self._in_store("umount", "-l", str(mounted))
        (self.paths.data / node / "limit.img").unlink()

    def fill(self, node: str, bytes_left: int) -> int:
        """Fill a node's limited instances path until at most this much is free; returns how many bytes are free."""
        if not self.paths.load().node(node).limit_bytes:
            raise LabError(f"{node}: limit its disk before filling it, this would fill the machine's")
        self.unfill(node)
        taken = 0
        while (excess := self.free_bytes(node) - bytes_left) > 0 and taken < 8:
            self.exec(node, "fallocate", "-l", str(max(excess, 4096)), f"{FILL_FILE}.{taken}")
            taken += 1
        return self.free_bytes(node)

    def unfill(self, node: str) -> None:
        """Give back what fill() took."""
        self.exec(node, "sh", "-c", 'rm -f -- "$1".*', "sh", FILL_FILE)

    def free_bytes(self, node: str, path: str = INSTANCES_PATH) -> int:
        """Free bytes of a node's file system, for root."""
        blocks, size = self.exec(node, "stat", "-f", "-c", "%a %S", path).stdout.split()
        return int(blocks) * int(size)

    def share(self, store: str, nodes: list[str], path: str | None = None) -> str:
        """Make one directory visible at the same path (default: /srv/STORE) on these nodes; returns the path."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", store):
            raise LabError(f"store {store!r}: use letters, digits, ., _ and -")
        target = path or f"/srv/{store}"
        directory = self.paths.data / "shares" / store
        directory.mkdir(parents=True, exist_ok=True)
        for node in nodes:
            with self.paths.update() as state:
                if any(mount.target == target for mount in state.node(node).mounts):
                    continue
                state.node(node).mounts.append(Mount(str(directory), target))
            if self.is_running(node):
                self._graft(str(directory), node, target)
        return target

    def unshare(self, store: str, nodes: list[str]) -> None:
        """Take a shared directory away from these nodes; what is in it stays until the lab goes down."""
        directory = str(self.paths.data / "shares" / store)
        for node in nodes:
            with self.paths.update() as state:
                found = [mount for mount in state.node(node).mounts if mount.source == directory]
                state.node(node).mounts = [mount for mount in state.node(node).mounts if mount not in found]
            for mount in found if self.is_running(node) else []:
                self.exec(node, "umount", "-l", mount.target)

    def _check_quiet(self, node: str) -> None:
        """No guest may have its disks open while they move."""
        if self.is_running(node) and self.virsh(node, "list", "--name").strip():
            raise LabError(f"{node}: shut its guests down first")

    def _set_instances(self, node: str, source: str, size_bytes: int | None) -> None:
        """Note what is behind the instances path, and change it if the node has power."""
        with self.paths.update() as state:
            state.node(node).limit_bytes = size_bytes
            for mount in state.node(node).mounts:
                if mount.target == INSTANCES_PATH:
                    mount.source = source
        if self.is_running(node):
            self.exec(node, "umount", "-l", INSTANCES_PATH)
            self._graft(source, node, INSTANCES_PATH)

    def _move_content(self, source: str, target: str) -> None:
        """Move all files of a directory, holes kept."""
        self._in_store("cp", "-a", "--sparse=always", f"{source}/.", target)
        self._in_store("find", source, "-mindepth", "1", "-delete")

    def _in_store(self, *argv: str, check: bool = True) -> None:
        """Run a command of the machine in the lab's mount namespace."""
        run("nsenter", f"--target={self.holder.pid}", "--mount", *argv, check=check, timeout=600)

    def _graft(self, source: str, node: str, target: str) -> None:
        """Mount a directory of the lab's mount namespace into a node that is running."""
        run(PYTHON, holder.PACKAGE, "lab-graft", str(self.holder.pid), source, str(self.init(node).pid), target)
