# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of a lab that is up: their power, and ways to look into them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from lab import holder, inventory, network
from lab.errors import LabError
from lab.processes import Process
from lab.shell import ENVIRONMENT, PYTHON, run
from lab.state import Paths

if TYPE_CHECKING:
    from pathlib import Path


class Nodes:
    """The part of Lab that is about nodes."""

    def __init__(self, name: str) -> None:
        self.paths = Paths(name)

    @property
    def name(self) -> str:
        """Name of the lab."""
        return self.paths.name

    def _holder_or_none(self) -> Process | None:
        """The process that holds the lab, if it lives."""
        return Process.load(self.paths.holder)

    @property
    def holder(self) -> Process:
        """The process that holds the lab."""
        found = self._holder_or_none()
        if found is None:
            raise LabError(f"lab {self.name} is not up")
        return found

    # ----- power

    def kill(self, node: str) -> None:
        """Power loss: every process of the node is gone at once. Its disks keep what was written."""
        self.paths.load().node(node)
        process = self._init_or_none(node)
        if process:
            process.kill()
            # The kernel takes its time to end a network namespace, and answers an echo until then. Nothing without power does.
            network.disconnect(node, self.holder.pid)

    def start(self, node: str, wait: str = "ready", timeout: float = 60) -> None:
        """Power on, with the disks as they are, and wait for `ssh` or `ready` (libvirtd, after the guard), or for nothing (``)."""
        self.paths.load().node(node)
        if self._init_or_none(node):
            return
        self._forget_connections(node)
        self._spawn(node, self.holder)
        if wait:
            self.wait_booted(node, wait, timeout)

    def wait_booted(self, node: str, what: str = "ready", timeout: float = 60) -> None:
        """Wait until a node's boot has come to `ssh` or `ready`."""
        holder.wait_status(f"node {node} of lab {self.name}", self.paths.node(node) / "status", what, timeout)

    def is_running(self, node: str) -> bool:
        """Whether the node has power."""
        self.paths.load().node(node)
        return self._init_or_none(node) is not None

    def _forget_connections(self, node: str) -> None:
        """End a shared ssh connection to what the node was before it lost power; the next ssh would only learn that it is dead."""
        command = self.ssh_command(node)
        run(command[0], "-O", "exit", *command[1:], check=False)

    def _spawn(self, node: str, main: Process) -> None:
        """Start a node's init in its own namespaces, as a grandchild of the holder."""
        directory = self.paths.node(node)
        for name in ("status", "init.json"):
            (directory / name).unlink(missing_ok=True)
        enter = ["nsenter", f"--target={main.pid}", "--mount", "--net", "--pid", "--ipc", "setsid", "--fork"]
        unshare = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork"]
        holder.detached(directory / "init.log", *enter, *unshare, PYTHON, holder.PACKAGE, "lab-node", str(self.paths.state), node)

    def _init_or_none(self, node: str) -> Process | None:
        """PID 1 of a node, if the node has power."""
        return Process.load(self.paths.node(node) / "init.json")

    def init(self, node: str) -> Process:
        """PID 1 of a node."""
        self.paths.load().node(node)
        found = self._init_or_none(node)
        if found is None:
            raise LabError(f"node {node} of lab {self.name} has no power; start it with: python3 tests/lab start --name {self.name} {node}")
        return found

    # ----- looking from outside

    def enter(self, node: str) -> list[str]:
        """Command prefix that runs a command inside a node, without ssh."""
        return ["nsenter", f"--target={self.init(node).pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--"]

    def exec(self, node: str, *argv: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command inside a node and return its output."""
        return run(*self.enter(node), *argv, stdin=stdin, check=check, timeout=timeout)

    def virsh(self, node: str, *argv: str, check: bool = True) -> str:
        """Run virsh on a node and return its output."""
        return self.exec(node, "virsh", "-q", "-c", "qemu:///system", *argv, check=check).stdout.rstrip("\n")

    def exec_here(self, node: str, argv: list[str]) -> int:
        """Run a command inside a node on this terminal; returns its exit code."""
        return subprocess.run([*self.enter(node), *argv], env={**ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")}, check=False).returncode

    def control(self, *argv: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command of the machine at the lab's switch, from where all nodes and guests are reached."""
        return run(*network.inside(self.holder.pid), *argv, check=check, timeout=timeout)

    def images(self, node: str) -> Path:
        """The machine's directory behind a node's instances path (before limit())."""
        self.paths.load().node(node)
        return self.paths.images(node)

    def ssh(self, node: str, *argv: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command on a node over ssh, as Ansible does."""
        return run(*self.ssh_command(node), *argv, check=check, timeout=timeout)

    def ssh_command(self, node: str) -> list[str]:
        """Command prefix of ssh to root on a node."""
        options = inventory.ssh_options(self.paths, self.holder.pid)
        return ["ssh", *options, "-i", str(self.paths.key), f"root@{self.paths.load().node(node).ipv4}"]

    def pid_namespaces(self) -> dict[str, str]:
        """PID namespace (`pid:[…]`) to node, for all nodes that have power."""
        found = {}
        for node in self.paths.load().nodes:
            process = self._init_or_none(node)
            if process:
                found[os.readlink(f"/proc/{process.pid}/ns/pid")] = node
        return found
