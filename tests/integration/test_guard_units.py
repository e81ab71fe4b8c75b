# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard's units under a real systemd, with a real libvirtd, in a machine of its own: the lab's nodes have no systemd."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from integration import machine

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.nightly]

ROLE = machine.ROOT / "roles" / "compute_node" / "files"
PACKAGES = (
    *("bash", "coreutils", "dbus", "iproute2", "kmod", "libvirt-clients", "libvirt-daemon-driver-qemu", "libvirt-daemon-system", "login"),
    *("libvirt-daemon-system-systemd", "mount", "openssh-client", "openssh-server", "passwd", "python3", "qemu-system-x86", "systemd", "systemd-sysv"),
    *("libpam-runtime", "libpam-modules", "util-linux", "procps", "sysvinit-utils"),
)
UNITS = ("coldmove-guard.service", "coldmove-guard-retry.service")
GUESTS = {"own": 1, "known": 2, "left": 3}
"""Domains that are to be autostarted: one that no record knows, one that the records have here, one that was evacuated."""

INIT = """\
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_OFFLINE=1
mount -t proc proc /proc; mount -t tmpfs tmp /tmp
[ -e /bin/sh ] || ln -s bash /bin/sh
mkdir -p /etc/libvirt/qemu/autostart
for guest in {guests}; do ln -s ../$guest.xml /etc/libvirt/qemu/autostart/$guest.xml; done
mkdir -p /var/lib/coldmove/known; for known in {known}; do touch /var/lib/coldmove/known/$known; done
chown -R root:root /etc/coldmove /opt; chmod 600 /etc/coldmove/id_ed25519 /opt/host_key
systemd-machine-id-setup >/dev/null
systemctl -q enable {units} libvirtd.service libvirtd.socket libvirt-guests.service early.service script.service
systemctl -q mask serial-getty@ttyS0.service
systemctl -q set-default multi-user.target
umount /tmp /proc
exec /lib/systemd/systemd
"""
DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>16</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>
</domain>
"""
EARLY = """\
[Unit]
DefaultDependencies=no
After=libvirtd.socket dbus.socket local-fs.target systemd-tmpfiles-setup.service
Requires=libvirtd.socket
[Service]
Type=exec
ExecStart=/usr/bin/virsh -q -c qemu:///system list
StandardOutput=null
[Install]
WantedBy=multi-user.target
"""
SCRIPT = """\
[Unit]
After=libvirtd.socket
[Service]
Environment=LIBVIRT_DEFAULT_URI=qemu:///system LC_ALL=C.UTF-8
ExecStart=/usr/bin/python3 -B /opt/script.py
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
"""
ACCOUNTS = ("libvirt-qemu", "nobody")
"""Accounts of packages that have a number like that of a human."""


def uuid(number: int) -> str:
    """One of the domains' UUIDs."""
    return f"00000000-0000-4000-8000-{number:012}"


def accounts(path: str) -> str:
    """What this system has in /etc/passwd or /etc/group, without the humans; the packages' files belong to such accounts."""
    lines = [line.split(":") for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return "".join(":".join(line) + "\n" for line in lines if int(line[2]) < 1000 or line[0] in ACCOUNTS)


@pytest.mark.skipif(shutil.which("supermin") is None or not Path("/lib/systemd/systemd").exists(), reason="supermin or systemd is not installed")
def test_the_order_at_boot_and_the_answer_that_comes_late(tmp_path: Path) -> None:
    for name in ("id_ed25519", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(tmp_path / name)], check=True)
    key, host_key = ((tmp_path / f"{name}.pub").read_text(encoding="ascii") for name in ("id_ed25519", "host_key"))
    settings = {"node": "node1", "records": {"name": "records1", "address": "127.0.0.1", "port": 2222}, "wait_seconds": 5}
    left = {"server_uuid": uuid(GUESTS["left"]), "name": "left", "to": "node2", "evacuated": True, "migration": 1, "status": "done"}
    answer = {"version": 1, "host": "node1", "managed": [uuid(GUESTS["known"])], "away": [left]}
    answers = (
        "Port 2222\nListenAddress 127.0.0.1\nHostKey /opt/host_key\nPidFile none\nUsePAM no\n"
        "AuthorizedKeysFile /opt/authorized_keys\nForceCommand cat /opt/answer.json\n"
    )
    files = {
        "init": INIT.format(guests=" ".join(GUESTS), known=" ".join(uuid(GUESTS[name]) for name in ("known", "left")), units=" ".join(UNITS)),
        "etc/passwd": accounts("/etc/passwd") + "coldmove-guard:x:990:990::/nonexistent:/bin/sh\n",
        "etc/group": accounts("/etc/group") + "coldmove-guard:x:990:\n",
        "etc/shadow": "root:*:19000::::::\ncoldmove-guard:*:19000::::::\n",
        "etc/hostname": "node1\n",
        "etc/hosts": "127.0.0.1 localhost node1\n",
        "usr/local/sbin/coldmove-guard": (ROLE / "coldmove_guard.py").read_text(encoding="utf-8"),
        "etc/libvirt/hooks/qemu.d/coldmove": (ROLE / "libvirt_hook.sh").read_text(encoding="utf-8"),
        **{f"etc/systemd/system/{name}": (ROLE / name).read_text(encoding="utf-8") for name in UNITS},
        "etc/coldmove/guard.json": json.dumps(settings),
        "etc/coldmove/id_ed25519": (tmp_path / "id_ed25519").read_text(encoding="ascii"),
        "etc/coldmove/records_known_hosts": f"[127.0.0.1]:2222 {host_key}",
        "opt/host_key": (tmp_path / "host_key").read_text(encoding="ascii"),
        "opt/authorized_keys": key,
        "opt/answer.json": json.dumps(answer),
        "opt/answers.conf": answers,
        "opt/script.py": Path(__file__).with_name("guard_units.py").read_text(encoding="utf-8"),
        "etc/systemd/system/early.service": EARLY,
        "etc/systemd/system/script.service": SCRIPT,
        **{f"etc/libvirt/qemu/{name}.xml": DOMAIN.format(name=name, uuid=uuid(number)) for name, number in GUESTS.items()},
    }
    programs = ("init", "usr/local/sbin/coldmove-guard", "etc/libvirt/hooks/qemu.d/coldmove")
    content = {name: (text, 0o755 if name in programs else 0o644) for name, text in files.items()}
    machine.boot(tmp_path, PACKAGES, content, memory_mb=1536, timeout_seconds=900)
