# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests on the lab's nodes: made, started, spoken to, and looked at from outside."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab import guest_tools, network
from lab.errors import LabError
from lab.guest_spec import MIB, DiskFile, DiskSpec, GuestSpec, console_path, disk_files, domain_xml
from lab.nodes import Nodes
from lab.processes import pids
from lab.shell import run, wait_for
from lab.state import GUEST_IMAGE_PATH, GuestState

GUEST_PORT = "4711"
LOOK = Path(__file__).with_name("look_at_node.py").read_text(encoding="utf-8")
PARTITION_START = MIB
MAKE_FILE_SYSTEM = {
    "ext4": 'mke2fs -q -F -t ext4 -m 0 -J size=4 -E nodiscard -d "$2" "$1"',
    # Its list of files (mkfs.xfs, -p): boot block, two numbers without a meaning, then each file with its mode and owner.
    "xfs": '{ printf "/\\n0 0\\nd--755 0 0\\n" && printf "%s ---644 0 0 %s\\n" $(for name in *; do echo "$name $2/$name"; done) && echo "$"; } >.files && '
    f'{shlex.join(guest_tools.command("mkfs.xfs"))} -q -K -p .files "$1"',
}
"""Shell: a file system in the file $1 with the files of the directory $2, which is the current one."""
SEED_FILES = {"lab-disk": "This disk was made by the lab.\n", "markers": "", "acks": "", "boots": ""}


class Guests(Nodes):
    """The guests of one lab. Every method takes a guest's name or what define() returned."""

    # ----- making and removing

    def define_guest(self, node: str, spec: GuestSpec) -> GuestState:
        """Make a guest's disks on a node and define it there; it is not started."""
        if spec.tools:
            self._need_tools(node)
        guest = self._register(spec)
        files: list[str] = []
        try:
            for disk in disk_files(spec):
                files += self._make_disk(node, disk)
            self.exec(node, "virsh", "-q", "-c", "qemu:///system", "define", "/dev/stdin", stdin=domain_xml(spec, guest))
            if spec.autostart:
                self.virsh(node, "autostart", guest.uuid)
        except LabError:
            self.remove_guest(node, replace(guest, files=files))
            raise
        with self.paths.update() as state:
            state.guests[spec.name].files = files
        return replace(guest, files=files)

    def _register(self, spec: GuestSpec) -> GuestState:
        """Choose addresses and note the guest."""
        with self.paths.update() as state:
            index = max((guest.index for guest in state.guests.values()), default=0) + 1
            ipv4, ipv6, mac = network.guest_addresses(index)
            guest = GuestState(spec.name, spec.uuid or str(uuid.uuid4()), index, spec.mac or mac, spec.ipv4 or ipv4, spec.ipv6 or ipv6)
            state.guests[spec.name] = guest
        return guest

    def _need_tools(self, node: str) -> None:
        """See to it that a node (and with it every node) sees the tools beside the guests' image."""
        mounts = self.paths.load().node(node).mounts
        guest_tools.add_to(Path(next(mount.source for mount in mounts if mount.target == GUEST_IMAGE_PATH)))

    def _make_disk(self, node: str, disk: DiskFile) -> list[str]:
        """Make one disk with its backing chain; returns its files."""
        spec, path = disk.spec, disk.path
        if spec.layers > 1 and spec.format != "qcow2":
            raise LabError(f"{path}: only qcow2 has backing files")
        layers = [f"{path}.base{number}" for number in range(spec.layers - 1)] + [path]
        if self.exec(node, "test", "-e", path, check=False).returncode == 0:
            raise LabError(f"{path} exists already on {node}")
        raw = layers[0] if spec.format == "raw" else f"{layers[0]}.making"
        self.exec(node, "truncate", "-s", str(spec.size_bytes), raw)
        if spec.table:
            self._make_partition(node, raw, spec)
        else:
            self._make_content(node, raw, spec)
        if spec.format == "qcow2":
            self.exec(node, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, layers[0], timeout=600)
            self.exec(node, "rm", raw)
        for base, layer in itertools.pairwise(layers):
            self.exec(node, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, layer)
        return layers

    def _make_partition(self, node: str, raw: str, spec: DiskSpec) -> None:
        """A partition table with one partition, and the content in that."""
        content, length = f"{raw}.partition", spec.size_bytes - 2 * PARTITION_START
        label = {"mbr": "dos"}.get(str(spec.table), spec.table)
        table = f"label: {label}\nstart={PARTITION_START // 512}, size={length // 512}, type={'S' if spec.role == 'swap' else 'L'}\n"
        self.exec(node, *guest_tools.command("sfdisk"), "--quiet", raw, stdin=table)
        self.exec(node, "truncate", "-s", str(length), content)
        self._make_content(node, content, spec)
        self.exec(node, "dd", f"if={content}", f"of={raw}", "bs=1M", f"seek={PARTITION_START // MIB}", "conv=notrunc,sparse", "status=none", timeout=600)
        self.exec(node, "rm", content)

    def _make_content(self, node: str, raw: str, spec: DiskSpec) -> None:
        """What a disk's role asks for."""
        if spec.role == "data":
            self._make_file_system(node, raw, spec)
        elif spec.role == "swap":
            self.exec(node, "mkswap", "-q", raw)

    def _make_file_system(self, node: str, raw: str, spec: DiskSpec) -> None:
        """A file system with the files that the guest expects."""
        script = "".join(f"printf %s '{content}' >\"$2/{name}\" && " for name, content in SEED_FILES.items())
        script += 'cd "$2" && if [ "$3" -gt 0 ]; then head -c "$3M" /dev/urandom >blob-1 && sha256sum blob-1 >SHA256SUMS; fi && '
        script += f'{MAKE_FILE_SYSTEM[spec.filesystem]}; code=$?; rm -rf "$2"; exit $code'
        self.exec(node, "sh", "-c", script, "sh", raw, self._seed_directory(node), str(spec.content_mib), timeout=600)

    def _seed_directory(self, node: str) -> str:
        """An empty directory on a node, on a real file system."""
        return self.exec(node, "mktemp", "-d", "-p", "/var/tmp").stdout.strip()

    def remove_guest(self, node: str, guest: GuestState | str) -> None:
        """Undo define(): end the guest on this node, undefine it, delete the files that define() made there."""
        found = self.guest(guest)
        self.virsh(node, "destroy", found.uuid, check=False)
        self.virsh(node, "undefine", "--nvram", "--managed-save", "--snapshots-metadata", found.uuid, check=False)
        for path in [*found.files, console_path(found.uuid)]:
            self.exec(node, "rm", "-f", "--", path)

    def block_device(self, node: str, name: str, size_bytes: int) -> str:
        """Give a node a block device, until it loses its power; returns its path."""
        image, path = self.paths.data / node / f"{name}.img", f"/dev/{name}"
        with image.open("wb") as file:
            file.truncate(size_bytes)
        loop = run("losetup", "--find", "--show", str(image)).stdout.strip()
        number = os.stat(loop).st_rdev
        self.exec(node, "mknod", path, "b", str(os.major(number)), str(os.minor(number)))
        # A process of the node keeps it open, and it is told to go when nobody does: nothing is left on the machine, however the lab ends.
        self.exec(node, "sh", "-c", 'setsid sleep infinity <"$1" >/dev/null 2>&1 &', "sh", path)
        run("losetup", "--detach", loop)
        return path

    def guest(self, guest: GuestState | str) -> GuestState:
        """What the lab knows of a guest."""
        if isinstance(guest, GuestState):
            return guest
        known = self.paths.load().guests
        if guest not in known:
            raise LabError(f"lab {self.name} has no guest {guest!r}; it has {', '.join(known) or 'none'}")
        return known[guest]

    # ----- running

    def start_guest(self, node: str, guest: GuestState | str, wait: bool = True) -> None:
        """Start a guest on a node and wait until it answers."""
        self.virsh(node, "start", self.guest(guest).uuid)
        if wait:
            self.wait_ready(guest)

    def wait_ready(self, guest: GuestState | str, timeout: float = 60) -> None:
        """Wait until a guest answers on its address, on whatever node it is."""
        found = self.guest(guest)
        wait_for(f"answer of guest {found.name}", lambda: self._ask(found, "ping", 2) == "pong", timeout, pause=0.1)

    def shutdown_guest(self, node: str, guest: GuestState | str, timeout: float = 60) -> None:
        """Press the power button and wait until the guest is off."""
        found = self.guest(guest)
        self.virsh(node, "shutdown", found.uuid)
        wait_for(f"end of guest {found.name}", lambda: self.guest_state(node, found) == "shut off", timeout, pause=0.05)

    def guest_state(self, node: str, guest: GuestState | str) -> str | None:
        """What libvirt on a node says of a guest (`running`, `shut off`, …); None if it is not defined there."""
        return self.virsh(node, "domstate", self.guest(guest).uuid, check=False).strip() or None

    def running_on(self, guest: GuestState | str) -> list[str]:
        """The nodes on which a qemu process of this guest runs, whatever libvirt says of it."""
        wanted = os.fsencode(self.guest(guest).uuid)
        places = self.pid_namespaces()
        found = []
        for pid in pids():
            try:
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                node = places.get(os.readlink(f"/proc/{pid}/ns/pid")) if wanted in arguments else None
            except OSError:
                continue
            if node:
                found.append(node)
        return sorted(found)

    def defined_on(self, guest: GuestState | str) -> list[str]:
        """The nodes (of those with power) where libvirt knows this guest."""
        nodes = [node.name for node in self.paths.load().nodes.values() if node.kind == "compute"]
        return [node for node in nodes if self.is_running(node) and self.guest_state(node, guest)]

    def pings(self, guest: GuestState | str) -> bool:
        """Whether a guest answers ping on both of its addresses."""
        found = self.guest(guest)
        return all(self.control("ping", "-c1", "-W1", address, check=False).returncode == 0 for address in (found.ipv4, found.ipv6))

    # ----- speaking

    def guest_command(self, guest: GuestState | str, line: str, timeout: float = 30) -> str:
        """Have a guest do something (see docs/lab.md) and return its answer; LabError if it does not answer or answers `error`."""
        found = self.guest(guest)
        answer = self._ask(found, line, timeout)
        if answer is None or answer.startswith("error"):
            raise LabError(f"guest {found.name}, {line!r}: {answer or 'no answer'}")
        return answer

    def _ask(self, guest: GuestState, line: str, timeout: float) -> str | None:
        """One line to the guest's port, through the lab's network."""
        argv = (*network.inside(self.holder.pid), "nc", "-N", "-w", str(max(1, int(timeout))), guest.ipv4, GUEST_PORT)
        try:
            done = run(*argv, stdin=f"{line}\n", check=False, timeout=timeout)
        except LabError:
            return None
        return done.stdout.rstrip("\n") or None

    def guest_info(self, guest: GuestState | str) -> dict[str, str]:
        """What a guest says of itself: see `info` in docs/lab.md."""
        return dict(line.split(" ", 1) for line in self.guest_command(guest, "info").splitlines() if " " in line)

    def agent(self, node: str, guest: GuestState | str, execute: str, **arguments: Any) -> Any:
        """Ask a guest's agent, as libvirt does; returns what it returns."""
        request = json.dumps({"execute": execute, "arguments": arguments})
        return json.loads(self.virsh(node, "qemu-agent-command", self.guest(guest).uuid, request, "--timeout", "10"))["return"]

    def write_marker(self, guest: GuestState | str, marker: str) -> int:
        """Have a guest write a line that is on its disk when this returns; returns how many there are."""
        return int(self.guest_command(guest, f"marker {marker}").split()[1])

    def read_markers(self, guest: GuestState | str) -> list[str]:
        """The lines that a running guest finds on its disk."""
        return (self._ask(self.guest(guest), "markers", 10) or "").splitlines()

    def console(self, node: str, guest: GuestState | str) -> str:
        """What a guest has said on its console on this node."""
        return self.exec(node, "cat", console_path(self.guest(guest).uuid), check=False).stdout

    def acked(self, node: str, guest: GuestState | str) -> int:
        """The last number of `load` that the guest has told on this node's console: all up to it must be on its disk for ever."""
        numbers = [int(number) for number in re.findall(r"^LAB ack (\d+)\r?$", self.console(node, guest), re.MULTILINE)]
        return max(numbers, default=0)

    # ----- looking from outside

    def look(self) -> dict[str, dict[str, Any]]:
        """What of servers is on each compute node that has power: definitions, processes, files. The same again if nothing was touched."""
        nodes = [node.name for node in self.paths.load().nodes.values() if node.kind == "compute"]
        return {node: json.loads(self.exec(node, "python3", "-", stdin=LOOK).stdout) for node in nodes if self.is_running(node)}

    def read_disk(self, node: str, path: str, name: str, image_format: str = "qcow2") -> str:
        """A file out of the ext4 in a disk image, read on a copy of it (so also while nobody should write to it)."""
        script = 'qemu-img convert -U -f "$2" -O raw "$1" "$3/disk" && disk=$3/disk && '
        # A partition table ends its sector with 55 aa; where there is none, ext4 leaves that sector empty.
        script += f'if [ "$(od -An -tx1 -j510 -N2 "$disk")" = " 55 aa" ]; then disk="$disk?offset={PARTITION_START}"; fi && '
        script += '{ e2fsck -fy "$disk" >/dev/null 2>&1; debugfs -R "cat $4" "$disk" 2>/dev/null; }'
        directory = self._seed_directory(node)
        try:
            return self.exec(node, "sh", "-c", script, "sh", path, image_format, directory, f"/{name}", timeout=300).stdout
        finally:
            self.exec(node, "rm", "-rf", directory)

    def disk_digest(self, node: str, path: str, image_format: str = "qcow2") -> str:
        """SHA-256 of what a guest would read from an image."""
        script = 'qemu-img convert -U -f "$2" -O raw "$1" "$3/disk" && sha256sum <"$3/disk"'
        directory = self._seed_directory(node)
        try:
            return self.exec(node, "sh", "-c", script, "sh", path, image_format, directory, timeout=600).stdout.split()[0]
        finally:
            self.exec(node, "rm", "-rf", directory)
