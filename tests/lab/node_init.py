# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PID 1 of a node: builds the node's world, starts its services in the order of a real boot, then reaps what dies."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import NoReturn

from lab import network
from lab.errors import LabError
from lab.processes import Process, myself
from lab.shell import ENVIRONMENT, run
from lab.state import NodeState, Paths

DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0), "net/tun": (10, 200), "fuse": (10, 229)}
"""No kvm: guests are emulated, so that they behave the same on every machine. No disks, no loop devices: those are the machine's."""
GUARD = Path("/usr/local/sbin/coldmove-guard")


def main(paths: Paths, name: str) -> NoReturn:
    """Boot this node; never returns. Started in new namespaces that still show the machine's file systems."""
    status = (paths.node(name) / "status").open("w", buffering=1)
    try:
        myself().save(paths.node(name) / "init.json")
        holder = Process.load(paths.holder)
        if holder is None:
            raise LabError(f"lab {paths.name} is not up")
        node = paths.load().node(name)
        plug_in(node, holder.pid)
        enter_root(paths, node)
    except (LabError, OSError) as error:
        status.write(f"failed: {error}\n")
        sys.exit(1)
    if os.fork() == 0:
        boot(node, status.fileno())
    reap()


def plug_in(node: NodeState, holder: int) -> None:
    """Network, with the faults that are on this node."""
    network.connect(node.name, node.index, node.ipv4, node.ipv6, holder)
    network.set_cut(node.name, node.cut, holder)
    if node.rate:
        network.set_rate(network.port(node.name), node.rate, holder)
        network.set_rate(network.UPLINK, node.rate, None)


def enter_root(paths: Paths, node: NodeState) -> None:
    """Mount the node's file systems and leave the machine's."""
    base = paths.store / node.name
    root = base / "root"
    overlay = f"lowerdir=/,upperdir={base}/upper,workdir={base}/work"
    mount_when_free("-t", "overlay", "-o", overlay, "overlay", str(root))
    for kind, options, target in (
        ("proc", "nosuid,nodev,noexec", "proc"),
        ("sysfs", "nosuid,nodev,noexec", "sys"),
        ("tmpfs", "mode=755,size=4m", "dev"),
        ("tmpfs", "mode=755,nosuid", "run"),
        ("tmpfs", "mode=1777,nosuid", "tmp"),
    ):
        run("mount", "-t", kind, "-o", options, kind, str(root / target))
    make_devices(root / "dev")
    new_boot_id(root)
    for mount in node.mounts:
        place = root / mount.target.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", mount.source, str(place))
        if mount.readonly:
            run("mount", "-o", "remount,bind,ro", str(place))
    run("hostname", node.name)
    (root / ".machine").mkdir(exist_ok=True)
    run("pivot_root", str(root), str(root / ".machine"))
    os.chdir("/")
    run("umount", "-l", "/.machine")
    os.rmdir("/.machine")


def mount_when_free(*arguments: str) -> None:
    """Mount; a node that has just lost power may hold its overlay for some milliseconds more."""
    for _attempt in range(50):
        done = run("mount", *arguments, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.05)
    raise LabError(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


def make_devices(dev: Path) -> None:
    """The few devices that libvirt, qemu and ssh need."""
    for name, (major, minor) in DEVICES.items():
        path = dev / name
        path.parent.mkdir(exist_ok=True)
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        path.chmod(0o666)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("ptmx", "pts/ptmx")):
        (dev / name).symlink_to(target)
    for kind, options, name in (("devpts", "newinstance,gid=5,mode=620,ptmxmode=666", "pts"), ("tmpfs", "mode=1777", "shm"), ("mqueue", "nosuid", "mqueue")):
        (dev / name).mkdir()
        run("mount", "-t", kind, "-o", options, kind, str(dev / name))


def new_boot_id(root: Path) -> None:
    """Each boot has its own boot id; and no node reaches the machine through sysrq."""
    boot_id = root / "run/boot-id"
    boot_id.write_text(f"{uuid.uuid4()}\n")
    run("mount", "--bind", str(boot_id), str(root / "proc/sys/kernel/random/boot_id"))
    if (root / "proc/sysrq-trigger").exists():
        run("mount", "--bind", str(root / "dev/null"), str(root / "proc/sysrq-trigger"))


def boot(node: NodeState, status: int) -> NoReturn:
    """Start the services, telling how far the boot is; its output is the node's boot log."""
    try:
        for directory in ("/run/sshd", "/run/lock", "/run/user", "/run/libvirt"):
            Path(directory).mkdir(exist_ok=True)
        service("/usr/sbin/sshd", "-E", "/var/log/sshd.log")
        os.write(status, b"ssh\n")
        if node.kind == "compute":
            guard()
            service("/usr/sbin/virtlogd", "-d", "--pid-file", "/run/virtlogd.pid")
            service("/usr/sbin/virtlockd", "-d", "--pid-file", "/run/virtlockd.pid")
            service("/usr/sbin/libvirtd", "-d", "--pid-file", "/run/libvirtd.pid")
            run("virsh", "-q", "-c", "qemu:///system", "list", timeout=60)
        os.write(status, b"ready\n")
    except BaseException as error:  # nobody else is left to report it
        os.write(status, f"failed: {error}\n".encode())
        os._exit(1)
    os._exit(0)


def service(*argv: str) -> None:
    """Start a daemon; the command returns when the daemon is in the background."""
    with Path("/var/log/boot.log").open("a") as log:
        code = subprocess.run(argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
    if code:
        raise LabError(f"{' '.join(argv)}: exit code {code}; see /var/log/boot.log of the node")


def guard() -> None:
    """The collection's guard says, by ending with success, that it is safe to start libvirtd."""
    if GUARD.exists():
        service(str(GUARD))


def reap() -> NoReturn:
    """Wait for whatever has no other parent."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        signal.sigwait({signal.SIGCHLD})
