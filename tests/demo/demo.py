# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make demo``: two real guests on three real nodes, one migrated and confirmed, one migrated and reverted.

The playbooks run by FQCN from the built and installed tarball. What the guests say is read from outside: their consoles,
and the files on their disks. The lab is taken down at the end, also when the demo is interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from lab import DiskSpec, GuestSpec, Lab  # noqa: E402 - the path comes first

BUILD = ROOT / ".build"
WEB, DB = "web01", "db01"
IMAGES = "/var/lib/libvirt/images"


def say(text: str) -> None:
    """A heading."""
    print(f"\n=== {text}", flush=True)


def ansible(lab: Lab, playbook: str, *variables: str) -> list[dict[str, t.Any]]:
    """Run a playbook of the collection; what it hands on to workflows (coldmove_migrations)."""
    stats = lab.inventory_path.with_name("stats.json")
    stats.unlink(missing_ok=True)
    command = ["ansible-playbook", "-i", str(lab.inventory_path), f"coldmove.libvirt.{playbook}", *(part for value in variables for part in ("-e", value))]
    print("$ ansible-playbook -i INVENTORY", *command[3:], flush=True)
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": f"{BUILD / 'installed'}:{BUILD / 'collections'}",
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "demo"),
        "ANSIBLE_CALLBACKS_ENABLED": "keep_stats",
        "COLDMOVE_STATS": str(stats),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false",
        "ANSIBLE_DISPLAY_OK_HOSTS": "true",
    }
    begun = time.monotonic()
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=True)
    print(f"({time.monotonic() - begun:.1f} s)", flush=True)
    return list(json.loads(stats.read_text(encoding="utf-8"))) if stats.exists() else []


def build() -> None:
    """Build the tarball and install it, as a user would."""
    say("Build the collection and install it from its tarball")
    subprocess.run([sys.executable, str(ROOT / "tests" / "package.py")], check=True)


def proof(lab: Lab, name: str, disk: str) -> None:
    """Where the guest runs, what it says on its console, and what is on its disk, seen from outside of it."""
    (node,) = lab.running_on(name)
    print(f"{name} runs on {node} and nowhere else; it answers ping: {lab.pings(name)}")
    console = [line for line in lab.console(node, name).splitlines() if line.startswith("LAB")]
    print(f"  its console on {node} ends with:", *(f"    {line}" for line in console[-4:]), sep="\n")
    print(f"  markers on its disk ({disk}):", *(f"    {line}" for line in lab.read_markers(name)), sep="\n")
    for other in ("node1", "node2", "node3"):
        files = lab.exec(other, "ls", "-A", IMAGES).stdout.split("\n")
        print(f"  {other}: domains {lab.virsh(other, 'list', '--all', '--name').split() or 'none'}, images {[file for file in files if file] or 'none'}")


def table(outcomes: list[dict[str, t.Any]]) -> None:
    """The last word."""
    headings = ("server", "from", "to", "status", "bytes", "downtime")
    rows = [
        (
            outcome["server"],
            outcome["source_host"],
            outcome["dest_host"],
            outcome["status"],
            f"{outcome['bytes_sent'] or 0:,}",
            f"{outcome['downtime_seconds'] or 0:.1f} s",
        )
        for outcome in outcomes
    ]
    widths = [max(len(str(row[column])) for row in [headings, *rows]) for column in range(len(headings))]
    for row in [headings, tuple("-" * width for width in widths), *rows]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def demo(lab: Lab) -> None:
    """The whole story."""
    say("Prepare the nodes: packages, account, directories, SSH trust")
    ansible(lab, "prepare")

    say("Two real guests on node1; each writes a marker to its disk")
    for name, kind in ((WEB, "qcow2"), (DB, "raw")):
        lab.define_guest("node1", GuestSpec(name, disks=[DiskSpec(format="raw" if kind == "raw" else "qcow2", content_mib=16)]))
        lab.start_guest("node1", name)
        lab.write_marker(name, f"{name} was here before the move")
        proof(lab, name, kind)

    say(f"Cold migrate {WEB} to node2")
    ansible(lab, "cold_migrate", f"server={WEB}", "target_host=node2", "reason=demo")
    lab.wait_ready(WEB)
    proof(lab, WEB, "qcow2")

    say("Status: what is where, and what may be run now")
    ansible(lab, "status")

    say(f"Confirm {WEB}: the held copy goes")
    outcomes = ansible(lab, "confirm", f"server={WEB}")
    proof(lab, WEB, "qcow2")

    say(f"Cold migrate {DB}; host selection chooses")
    ansible(lab, "cold_migrate", f"server={DB}", "reason=demo")
    lab.wait_ready(DB)
    lab.write_marker(DB, "written on the new node, to be lost by the revert")
    proof(lab, DB, "raw")

    say(f"Revert {DB}: back to the held copy")
    outcomes += ansible(lab, "revert", f"server={DB}", "accept_lost_writes=true")
    lab.wait_ready(DB)
    proof(lab, DB, "raw")

    say("What was done")
    table(outcomes)


def main() -> int:
    """Run the demo in a lab of its own, and leave nothing behind."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    build()
    say("A lab of three nodes and a records host")
    lab = Lab(f"demo-{os.getpid()}", nodes=3)
    try:
        lab.up()
        demo(lab)
    except KeyboardInterrupt:
        print("\ninterrupted: taking the lab down", flush=True)
        return 130
    except subprocess.CalledProcessError as exc:
        print(f"\n{Path(exc.cmd[0]).name} failed with {exc.returncode}: taking the lab down", flush=True)
        return 1
    finally:
        lab.down()
    say("The lab is down, nothing is left behind")
    return 0


if __name__ == "__main__":
    sys.exit(main())
