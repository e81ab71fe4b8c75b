# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench``: the cold copy of cold_migrate (``precopy=never``), Nova's way and the raw limit, side by side in one run between the same two lab nodes.

What the precopy makes of it, which is the default for a server that runs, is in downtime.py.

- *downtime*: from the guest off on the source to running on the dest, as the status files of both libvirtds say, looked at every
  10 ms from outside. The measured guests have no system, so neither their shutdown nor their boot is in it.
- *copy*: the copy alone. *wall*: the whole playbook, or all commands by hand. *wire*: what the lab's switch sent to the dest
  (interface counter), with everything that Ansible sends there. *peak*: the larger of both nodes' peaks of memory (sum of the resident
  sets of all processes that began meanwhile in the node's PID namespace, the guest left out). *sparse*: allocated bytes on the dest to
  those on the source. *content*: both images compared byte by byte (``qemu-img compare``) after each move.
- *raw limit*: the collection's channel, qemu-nbd and qemu-img by hand, without Ansible and without proof of the content.

No figure makes it fail; a copy that differs does. The lab is taken down at the end, also when the bench is interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import typing as t
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from bench.figures import SCP, Results, budgets, report  # noqa: E402 - the path comes first
from bench.selection import select_seconds  # noqa: E402
from bench.stage import BUILD, DEST, Image, Stage  # noqa: E402
from bench.ways import Way, cold, limit, root_keys, rsync, scp  # noqa: E402
from lab import Lab  # noqa: E402

LINKS = {"full": None, "1gbit": "1gbit"}
#: scp copies the holes of raw files too: after one such run nothing more is learnt from it.
SLOW_SECONDS = 15.0
WAYS: tuple[Way, ...] = (scp, rsync, limit, cold)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests/bench/bench.py", description="Measure the cold copy side by side with Nova's way and raw tools.")
    parser.add_argument("--size", type=int, action="append", metavar="MIB", help="content of a measured disk (default: 64 and 512); the disk is 4 x as large")
    parser.add_argument("--format", choices=["qcow2", "raw"], action="append", help="format of a measured disk (default: both)")
    parser.add_argument("--link", choices=list(LINKS), action="append", help="full: as fast as the machine is; 1gbit: shaped (default: both)")
    parser.add_argument("--runs", type=int, help="runs of everything (default: as many as fit into --minutes, at least 1, at most 5)")
    parser.add_argument("--minutes", type=float, default=10.0, help="what the bench may take when --runs is not given")
    parser.add_argument("--quick", action="store_true", help="64 MiB, full speed, one run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there as well")
    parser.add_argument("--lab", default="bench", help="name of the lab")
    parser.add_argument("--collections", default=f"{BUILD / 'installed'}:{BUILD / 'collections'}", help="where Ansible finds the collection")
    found = parser.parse_args()
    if found.quick:
        found.size, found.link, found.runs = found.size or [64], found.link or ["full"], found.runs or 1
    found.size, found.format, found.link = found.size or [64, 512], found.format or ["qcow2", "raw"], found.link or list(LINKS)
    return found


def say(text: str) -> None:
    """A line about what is going on."""
    load = " ".join(f"{number:.1f}" for number in os.getloadavg()[:1])
    print(f"[{time.strftime('%H:%M:%S')}, load {load}] {text}", flush=True)


class Bench:
    """One run of the bench."""

    def __init__(self, lab: Lab, wanted: argparse.Namespace, began: float) -> None:
        self.stage, self.wanted, self.results, self.began = Stage(lab, wanted.collections, say), wanted, Results(), began
        self.lasted: dict[str, float] = {}
        self.images = [Image(image_format, size) for size in wanted.size for image_format in wanted.format]

    def run(self) -> None:
        """Everything."""
        say("select hosts for 1,000 servers over 500 nodes")
        self.results.select_seconds = select_seconds()
        say("prepare the nodes, make the guests")
        self.stage.play("prepare")
        for image in self.images:
            self.stage.make(image)
        with root_keys(self.stage):
            self.small()
            for _run in range(self.wanted.runs or 5):
                for link in self.wanted.link:
                    if self.too_late(link):
                        return
                    self.round(link)

    def too_late(self, link: str) -> bool:
        """Whether a round of this link would last longer than what is left of the time."""
        expected = self.lasted.get(link, max(self.lasted.values(), default=0.0))
        left = 60 * self.wanted.minutes - (time.monotonic() - self.began)
        if self.wanted.runs or not self.lasted or expected <= left:
            return False
        say(f"no further round: one takes {expected:.0f} s, {left:.0f} s are left (--minutes or --runs for more)")
        return True

    def round(self, link: str) -> None:
        """Every image by every way over one link, once."""
        begun, rate = time.monotonic(), LINKS[link]
        for image in self.images:
            if rate:
                self.stage.lab.shape(DEST, rate)
            for way in WAYS:
                self.once(link, image, way)
            self.stage.lab.unshape(DEST)
        self.stage.revert([image.guest for image in self.images])
        self.lasted[link] = time.monotonic() - begun

    def once(self, link: str, image: Image, way: Way) -> None:
        """One move."""
        if way is scp and self.slow(link, image):
            return
        sample = way(self.stage, image)
        self.results.add(link, image, sample)
        verdict = "" if sample.same else ", THE CONTENT DIFFERS"
        say(f"{link}, {image.guest}, {sample.way}: {sample.downtime:.2f} s down, {sample.wall:.1f} s in all{verdict}")

    def slow(self, link: str, image: Image) -> bool:
        """Whether this way has shown to be slow."""
        cell = self.results.cell(link, image, SCP)
        return cell is not None and not self.wanted.runs and cell.median("wall") > SLOW_SECONDS

    def small(self) -> None:
        """A small server with a system."""
        self.stage.make_idle("idle")
        idle = self.stage.play("cold_migrate", "server=idle", f"target_host={DEST}")
        self.results.idle_seconds = idle.seconds
        say(f"a small idle guest: {idle.seconds:.1f} s, of it {idle.cpu_seconds:.1f} s of CPU on the controller")
        self.stage.lab.remove_guest(DEST, "idle")


def stopped(number: int, _frame: t.Any) -> None:
    """A signal ends the bench in order: the lab is taken down."""
    raise SystemExit(128 + number)


def main() -> int:
    """Run it all."""
    began, wanted = time.monotonic(), arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stopped)
    with Lab(wanted.lab, nodes=2) as lab:
        bench = Bench(lab, wanted, began)
        bench.run()
    print(f"\n{report(bench.results)}\n\n{time.monotonic() - began:.0f} s in all, {os.cpu_count()} CPUs for both nodes, controller and guests", flush=True)
    if wanted.json:
        measured = {**bench.results.as_json(), "budgets": [asdict(budget) for budget in budgets(bench.results)]}
        wanted.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    differ = [cell for cell in bench.results.cells.values() if not cell.same]
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
