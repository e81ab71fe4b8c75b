# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside a node (Lab.look): what of servers is there, by libvirt, by the processes and by the files, as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

PLACES = ("/var/lib/libvirt/images", "/var/lib/libvirt/qemu/nvram", "/var/lib/coldmove/channel/offers")


def virsh(*words: str) -> str:
    """One virsh command."""
    return subprocess.run(["virsh", "-q", "-c", "qemu:///system", *words], capture_output=True, text=True, check=True).stdout.strip()


def domains() -> list[dict[str, str | bool]]:
    """Every domain, with a digest of its definition."""
    autostart = virsh("list", "--all", "--autostart", "--uuid").split()
    return [
        {
            "uuid": uuid,
            "name": virsh("domname", uuid),
            "state": virsh("domstate", uuid),
            "autostart": uuid in autostart,
            "definition": hashlib.sha256(virsh("dumpxml", "--inactive", "--security-info", uuid).encode()).hexdigest(),
        }
        for uuid in sorted(virsh("list", "--all", "--uuid").split())
    ]


def processes() -> tuple[dict[str, int], list[str]]:
    """The guests that run, whatever libvirt says, UUID to process (another one: it was restarted); and what moves data."""
    guests: dict[str, int] = {}
    others: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue
        program = os.path.basename(words[0])
        if program.startswith("qemu-system") and "-uuid" in words:
            guests[words[words.index("-uuid") + 1]] = int(folder.name)
        elif program.startswith(("qemu-nbd", "qemu-storage-daemon", "qemu-img", "nbd")):
            others.append(program)
    return guests, sorted(others)


def files() -> dict[str, int]:
    """Every file of servers with its inode: a file that was replaced is seen, one that the guest writes to is the same."""
    found = [path for place in PLACES for path in sorted(Path(place).rglob("*")) if not path.is_dir()]
    # What nodes prove their trust and their storage to each other with is no server's.
    return {str(path): path.stat().st_ino for path in found if path.name != "proof" and not path.name.startswith(".coldmove-storage-")}


guests, others = processes()
print(json.dumps({"domains": domains(), "running": guests, "helpers": others, "files": files()}))
