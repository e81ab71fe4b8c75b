# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resize on the same node: the downtime of the collection's way (an overlay) beside Nova's (a full local copy), against the size of the disk.

The measured guests have no system: neither their shutdown nor their boot is in the downtime. Their disks are raw and full, as Nova's copy takes what is
allocated. Nova's way is by hand and without a controller (nova.md 2.1): power off, rename, ``cp -r``, grow, define, start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import typing as t
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from bench.figures import table  # noqa: E402 - the path comes first
from bench.meter import Meter  # noqa: E402
from bench.stage import BUILD, IMAGES, SOURCE, Stage  # noqa: E402
from lab import DiskSpec, GuestSpec, Lab  # noqa: E402

GIB = 1024**3
BUDGET_RATIO = 1.2


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests/bench/resize.py", description="Measure a resize on the same node beside Nova's way.")
    parser.add_argument("--size", type=int, action="append", metavar="GIB", help="size of a disk (default: 1 and 8)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each way and size (default: 3)")
    parser.add_argument("--lab", default="bench-resize", help="name of the lab")
    parser.add_argument("--collections", default=f"{BUILD / 'installed'}:{BUILD / 'collections'}", help="where Ansible finds the collection")
    found = parser.parse_args()
    found.size = found.size or [1, 8]
    return found


def make(stage: Stage, size: int) -> str:
    """A guest with a full raw disk of so many GiB."""
    name = f"full{size}"
    stage.lab.define_guest(SOURCE, GuestSpec(name, [DiskSpec(size * GIB, "raw")], memory_mib=64, shutdown="mute"))
    stage.lab.exec(SOURCE, "dd", "if=/dev/zero", f"of={disk(name)}", "bs=1M", f"count={size * 1024}", "conv=notrunc,fsync", "status=none", timeout=600)
    stage.lab.start_guest(SOURCE, name, wait=False)
    return name


def disk(name: str) -> str:
    """The path of its disk."""
    return f"{IMAGES}/{name}-vda.raw"


def ours(stage: Stage, name: str, size: int) -> float:
    """The playbook; the downtime in seconds. The guest is put back."""
    flavor = json.dumps({"flavor": {"vcpus": 2, "memory_mb": 128, "root_gb": size + 1}})
    with Meter(stage.lab, name, SOURCE, SOURCE) as meter:
        stage.play("resize", f"server={name}", f"target_host={SOURCE}", "shutdown_timeout=0", "cpu_allocation_ratio=100", flavor)
    stage.revert([name])
    return meter.power.downtime


def nova(stage: Stage, name: str, size: int) -> float:
    """Nova's way by hand; the downtime in seconds. The guest is put back."""
    lab, uuid = stage.lab, stage.lab.guest(name).uuid
    definition = lab.virsh(SOURCE, "dumpxml", "--inactive", name)
    with Meter(lab, name, SOURCE, SOURCE) as meter:
        lab.virsh(SOURCE, "destroy", uuid)
        lab.exec(SOURCE, "mv", disk(name), f"{disk(name)}_resize")
        lab.exec(SOURCE, "cp", "-r", f"{disk(name)}_resize", disk(name), timeout=600)
        lab.exec(SOURCE, "qemu-img", "resize", "-q", "-f", "raw", disk(name), f"{size + 1}G")
        lab.exec(SOURCE, "virsh", "-q", "define", "/dev/stdin", stdin=definition)
        lab.virsh(SOURCE, "start", uuid)
    lab.virsh(SOURCE, "destroy", uuid)
    lab.exec(SOURCE, "mv", f"{disk(name)}_resize", disk(name))
    lab.virsh(SOURCE, "start", uuid)
    return meter.power.downtime


WAYS: dict[str, t.Callable[[Stage, str, int], float]] = {"coldmove": ours, "Nova, cp -r": nova}


def measure(stage: Stage, wanted: argparse.Namespace) -> dict[tuple[int, str], float]:
    """Medians of the downtime by size and way."""
    stage.play("prepare")
    guests = {size: make(stage, size) for size in wanted.size}
    seconds: dict[tuple[int, str], list[float]] = {}
    for run in range(wanted.runs):
        for size, name in guests.items():
            for way, act in WAYS.items():
                seconds.setdefault((size, way), []).append(act(stage, name, size))
                stage.say(f"run {run + 1}, {size} GiB, {way}: {seconds[size, way][-1]:.2f} s down")
    return {key: statistics.median(values) for key, values in seconds.items()}


def report(medians: dict[tuple[int, str], float], sizes: list[int]) -> str:
    """The table, and whether the downtime grows with the disk."""
    rows = [
        {
            "disk GiB": size,
            **{f"{way} s": f"{medians[size, way]:.2f}" for way in WAYS},
            "Nova to ours": f"{medians[size, 'Nova, cp -r'] / medians[size, 'coldmove']:.1f} x",
        }
        for size in sizes
    ]
    growth = medians[max(sizes), "coldmove"] / medians[min(sizes), "coldmove"]
    verdict = "reached" if growth <= BUDGET_RATIO else "NOT reached"
    return f"{table(rows)}\n\ndowntime at {max(sizes)} GiB to {min(sizes)} GiB: {growth:.2f} x (wanted: <= {BUDGET_RATIO} x): {verdict}"


def say(text: str) -> None:
    """A line about what is going on."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def main() -> int:
    """Run it all; the lab is taken down at the end."""
    wanted = arguments()
    with Lab(wanted.lab, nodes=1) as lab:
        medians = measure(Stage(lab, wanted.collections, say), wanted)
    print(f"\nResize on the same node: downtime (medians of {wanted.runs})\n\n{report(medians, wanted.size)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
