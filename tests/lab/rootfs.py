# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's root file system: an overlay over the machine's own root, in which everything that belongs to the machine alone is hidden."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.shell import ENVIRONMENT
from lab.state import GUEST_IMAGE_PATH, INSTANCES_PATH, NodeState, Paths, State

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN = {"bin", "boot", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr", "var"}
"""Top-level directories of the machine that nodes see; all others are empty or absent."""

FRESH = {
    **dict.fromkeys(("home", "media", "mnt", "opt", "srv", "run", "dev", "proc", "sys", "var/log", "etc/ssh", "etc/libvirt"), 0o755),
    **dict.fromkeys(("var/lib/libvirt", "var/cache/libvirt", "var/lib/dhcp", "var/spool/cron/crontabs"), 0o755),
    **dict.fromkeys(("tmp", "var/tmp"), 0o1777),
    "root": 0o700,
}
"""Directories that start empty in each node, with their modes."""

FOREIGN = ("coldmove",)
"""Accounts and files whose names start so are the collection's: nodes start without them even if the machine has them."""
FOREIGN_PLACES = ("etc", "var/lib", "var/log", "var/cache", "usr/local/sbin", "usr/local/bin", "usr/local/lib", "usr/local/libexec", "usr/local/share")

TOOLS = {
    **dict.fromkeys(("nsenter", "unshare", "setsid", "mount", "losetup", "mkswap", "fallocate"), "util-linux"),
    **dict.fromkeys(("ip", "tc"), "iproute2"),
    **dict.fromkeys(("sshd",), "openssh-server"),
    **dict.fromkeys(("ssh", "ssh-keygen"), "openssh-client"),
    **dict.fromkeys(("libvirtd", "virtlockd", "virtlogd"), "libvirt-daemon-system"),
    **dict.fromkeys(("mke2fs", "mkfs.ext4", "e2fsck", "debugfs"), "e2fsprogs"),
    **dict.fromkeys(("modprobe", "depmod"), "kmod"),
    **dict.fromkeys(("fence_ipmilan",), "fence-agents"),
    "busybox": "busybox-static",
    "ipmi_sim": "openipmi",
    "ipmitool": "ipmitool",
    "nc": "netcat-openbsd",
    "ping": "iputils-ping",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "virsh": "libvirt-clients",
}
"""Commands that the lab runs, and the packages they come in."""

LIBVIRTD_CONF = """\
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "{host_uuid}"
"""
QEMU_CONF = """\
# A namespace of the lab has no cgroups and no udev.
user = "root"
group = "root"
namespaces = []
cgroup_controllers = []
security_driver = "none"
swtpm_user = "root"
swtpm_group = "root"
"""
NETWORK_XML = """\
<network>
  <name>lab</name>
  <uuid>6f9a7a5e-1a4b-4a53-9d5e-0c0ffee1ab00</uuid>
  <forward mode='bridge'/>
  <bridge name='br0'/>
</network>
"""
SSHD_CONFIG = """\
Include /etc/ssh/sshd_config.d/*.conf
KbdInteractiveAuthentication no
UsePAM yes
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 200
MaxSessions 100
Subsystem sftp internal-sftp
"""


class Upper:
    """The writable layer of one node's overlay, while nothing has it mounted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)

    def directory(self, name: str, mode: int = 0o755) -> Path:
        """A directory that shows what the machine has in it, too."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        return path

    def fresh(self, name: str, mode: int = 0o755) -> None:
        """A directory that hides what the machine has in it."""
        os.setxattr(self.directory(name, mode), "trusted.overlay.opaque", b"y")

    def hidden(self, name: str) -> None:
        """Nothing at all where the machine has something."""
        self.directory(str(Path(name).parent))
        os.mknod(self.path / name, stat.S_IFCHR | 0o600, os.makedev(0, 0))

    def text(self, name: str, content: str, mode: int = 0o644) -> None:
        """A file."""
        path = self.path / name
        if not path.parent.is_dir():
            self.directory(str(Path(name).parent))
        path.write_text(content)
        path.chmod(mode)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self.directory(str(Path(name).parent))
        (self.path / name).symlink_to(target)


def check_machine() -> None:
    """Refuse, with all reasons at once, before anything is made."""
    missing = {name: package for name, package in TOOLS.items() if not shutil.which(name, path=ENVIRONMENT["PATH"])}
    reasons = []
    if missing:
        reasons.append(f"commands {', '.join(missing)} are missing; install the packages {' '.join(sorted(set(missing.values())))} (Debian's names)")
    apart = [name for name in ("/usr", "/etc", "/var", "/var/lib") if os.stat(name).st_dev != os.stat("/").st_dev]
    if apart:
        # An overlay shows one file system only.
        reasons.append(f"{', '.join(apart)} are on other file systems than /: the lab's nodes would not see them")
    if reasons:
        raise LabError("this machine cannot carry a lab: " + "; ".join(reasons))


def build(paths: Paths, state: State, node: NodeState) -> None:
    """Write a node's upper layer. Run in the lab's mount namespace."""
    base = paths.store / node.name
    upper = Upper(base / "upper")
    (base / "work").mkdir()
    (base / "root").mkdir()
    hide_machine(upper)
    identity(upper, state, node)
    ssh_server(upper, paths, node)
    libvirt(upper, node)
    for target in [mount.target for mount in node.mounts]:
        upper.directory(target.lstrip("/"))


def hide_machine(upper: Upper) -> None:
    """Hide what is the machine's own business."""
    for name in os.listdir("/"):
        if name not in SHOWN and name not in FRESH:
            upper.hidden(name)
    for name, mode in FRESH.items():
        upper.fresh(name, mode)
    for place in FOREIGN_PLACES:
        for name in children(Path("/", place)):
            if name.startswith(FOREIGN) and name != Path(GUEST_IMAGE_PATH).name and place not in FRESH:
                upper.hidden(f"{place}/{name}")
    for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid"):
        source = Path("/etc", name)
        if source.exists():
            upper.text(f"etc/{name}", without_foreign(source.read_text().splitlines()), stat.S_IMODE(source.stat().st_mode))
            os.chown(upper.path / "etc" / name, source.stat().st_uid, source.stat().st_gid)


def children(path: Path) -> list[str]:
    """Names in a directory, none if it is absent."""
    return os.listdir(path) if path.is_dir() else []


def without_foreign(lines: Iterable[str]) -> str:
    """Account lines without the collection's own accounts."""
    return "".join(f"{line}\n" for line in lines if not line.startswith(FOREIGN))


def identity(upper: Upper, state: State, node: NodeState) -> None:
    """Who the node is and whom it knows."""
    upper.text("etc/hostname", f"{node.name}\n")
    upper.text("etc/machine-id", f"{node.machine_id}\n", 0o444)
    hosts = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    hosts += [f"{address} {each.name}" for each in state.nodes.values() for address in (each.ipv4, each.ipv6)]
    upper.text("etc/hosts", "\n".join(hosts) + "\n")
    upper.text("etc/resolv.conf", "# The lab has no name server; see /etc/hosts.\n")
    upper.text("etc/environment", 'PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"\n')
    upper.text("root/.profile", "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")


def ssh_server(upper: Upper, paths: Paths, node: NodeState) -> None:
    """The node's own ssh server, which root's key of the lab opens."""
    upper.text("etc/ssh/sshd_config", SSHD_CONFIG)
    upper.text("etc/ssh/ssh_config", "Include /etc/ssh/ssh_config.d/*.conf\n")
    upper.directory("etc/ssh/sshd_config.d")
    upper.directory("etc/ssh/ssh_config.d")
    host_key = paths.node(node.name) / "ssh_host_ed25519_key"
    upper.text("etc/ssh/ssh_host_ed25519_key", host_key.read_text(), 0o600)
    upper.text("etc/ssh/ssh_host_ed25519_key.pub", host_key.with_suffix(".pub").read_text())
    upper.directory("root/.ssh", 0o700)
    upper.text("root/.ssh/authorized_keys", paths.key.with_suffix(".pub").read_text(), 0o600)


def libvirt(upper: Upper, node: NodeState) -> None:
    """A fresh libvirt with the network `lab`; the records host has its directories only."""
    upper.directory(INSTANCES_PATH.lstrip("/"), 0o711)
    upper.directory("var/log/libvirt/qemu")
    upper.directory("var/log/coldmove-lab")
    for name in ("libvirt.conf", "virtlogd.conf", "virtlockd.conf"):
        upper.text(f"etc/libvirt/{name}", "")
    upper.text("etc/libvirt/libvirtd.conf", LIBVIRTD_CONF.format(host_uuid=node.host_uuid))
    upper.text("etc/libvirt/qemu.conf", QEMU_CONF)
    upper.text("etc/libvirt/qemu/networks/lab.xml", NETWORK_XML, 0o600)
    upper.link("etc/libvirt/qemu/networks/autostart/lab.xml", "/etc/libvirt/qemu/networks/lab.xml")
