# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a server is off: cold_migrate with and without precopy, Nova's ways, a playbook by hand, live migration and the raw tools, side by side in one run.

Every way moves the same guest between the same two lab nodes, against the content of its disk (1, 4 and 16 GiB) and against what it writes meanwhile
(0, 1, 5 and 20 MB/s).

- *downtime*: from off on the source to running on the dest, as the status files of both libvirtds say, looked at every 10 ms from outside. Guests of the first
  kind have no system, so nothing shuts down or boots; those that write shut down by ACPI, and it begins when their system has powered off.
- *total*: the whole playbook (plan, precopy, proof and records included), or all commands by hand.
- *wire*: what the lab's switch sent to the dest, with everything that Ansible sends there, beside what was allocated before the move and what the guest's QEMU
  wrote to its disk during it.
- *CPU*: of all processes of a node, and of what was run there by hand; the emulation of the guests' CPUs is left out. *controller*: ansible-playbook.
- *peak*: resident memory of what began on a node meanwhile, and what the guest's QEMU has grown by; the new guest is left out, every way starts it.
- *content*: the whole images of guests without a system are compared byte by byte after each move. A guest that writes must find on the dest every line that it
  was told on the source to be on its disk, and its files undamaged.
- *mirrored*: nothing was left to be copied when the guest was off.
- *many*: small servers by one run beside one; memory of the controller is that of ansible-playbook and all its children, what they share counted once.

Content is random, in pieces with holes between them. One image is there at a time; what would not leave --keep-free on the machine is left out, and so is what
would take longer than --patience by what the same way took for the image before; both are said. No figure makes it fail; a copy that differs does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from bench.bench import LINKS, say, stopped  # noqa: E402 - the path comes first
from bench.downtime_figures import must_reach, name_of, panels, report  # noqa: E402
from bench.figures import COLD, OURS, Results  # noqa: E402
from bench.picture import draw  # noqa: E402
from bench.stage import BUILD, DEST, MIB, Image, Played, Stage  # noqa: E402
from bench.ways import WAYS, root_keys  # noqa: E402
from lab import Lab  # noqa: E402

#: What is of interest while the guest writes: the others differ by nothing but the time that it is off.
WRITING_WAYS = ("precopy", "cold", "rsync", "live")
WRITING_MIB = 128
GIB = 1024 * MIB
#: What a round of moves takes whatever the size of the disks, as MiB of content (measured: 1, 4 and 16 GiB took 1 : 1.9 : 6).
FIXED_MIB = 2048


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests/bench/downtime.py", description="Measure downtime and total time of every way of moving a server.")
    parser.add_argument("--size", type=float, action="append", metavar="GIB", help="content of a disk (default: 1, 4 and 16; 0: leave that out)")
    parser.add_argument("--rate", type=int, action="append", metavar="MB", help="what a guest writes each second (default: 0, 1, 5 and 20; -1: leave that out)")
    parser.add_argument("--format", choices=["qcow2", "raw"], action="append", help="format of the disks (default: qcow2)")
    parser.add_argument("--link", choices=list(LINKS), action="append", help="full: as fast as the machine is; 1gbit: shaped (default: both)")
    parser.add_argument("--way", choices=list(WAYS), action="append", help="ways of moving (default: all)")
    parser.add_argument("--runs", type=int, default=3, help="runs of everything, of which medians are told (default: 3)")
    parser.add_argument("--minutes", type=float, default=90.0, help="after that nothing is run once more (default: 90); everything is run once in any case")
    parser.add_argument("--servers", type=int, default=10, help="small servers to be moved at once (default: 10; 0: leave that out)")
    parser.add_argument("--patience", type=float, default=600.0, metavar="SECONDS", help="for one move (default: 600)")
    parser.add_argument("--keep-free", type=float, default=40.0, metavar="GIB", help="what must stay free on the machine's disk (default: 40)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there as well")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw downtime and total time there, as SVG")
    parser.add_argument("--lab", default="bench-downtime", help="name of the lab")
    parser.add_argument("--collections", default=f"{BUILD / 'installed'}:{BUILD / 'collections'}", help="where Ansible finds the collection")
    found = parser.parse_args()
    found.size = [size for size in found.size or [1, 4, 16] if size > 0]
    found.rate = [rate for rate in ([0, 1, 5, 20] if found.rate is None else found.rate) if rate >= 0]
    found.format, found.link, found.way = found.format or ["qcow2"], found.link or list(LINKS), found.way or list(WAYS)
    return found


class Bench:
    """One run of the bench."""

    def __init__(self, lab: Lab, wanted: argparse.Namespace, began: float) -> None:
        self.stage, self.wanted, self.results, self.began = Stage(lab, wanted.collections, say), wanted, Results(many=wanted.servers), began
        #: Seconds that a MiB of the disk took last, by link, format and way.
        self.pace: dict[tuple[str, str, str], float] = {}
        sizes = [Image(image_format, round(1024 * size)) for image_format in wanted.format for size in sorted(wanted.size)]
        self.images = sizes + [Image(image_format, WRITING_MIB, rate) for image_format in wanted.format for rate in wanted.rate]

    def run(self) -> None:
        """Everything."""
        say("prepare the nodes")
        self.stage.play("prepare")
        if self.wanted.servers:
            self.many()
        with root_keys(self.stage):
            for index, image in enumerate(self.images):
                self.measure(image, self.images[index + 1 :])

    def many(self) -> None:
        """Many small servers by one run beside one, as often as everything else; medians."""
        runs = [self.one_and_many(number) for number in range(self.wanted.runs)]
        results = self.results
        results.many_runs = len(runs)
        results.one_seconds, results.many_seconds = (statistics.median(played.seconds for played in each) for each in zip(*runs, strict=True))
        results.one_peak_bytes, results.many_peak_bytes = (round(statistics.median(played.peak_bytes for played in each)) for each in zip(*runs, strict=True))

    def one_and_many(self, number: int) -> tuple[Played, Played]:
        """One small server, then many; the run of that number."""
        one, many = self.stage.move_many(self.wanted.servers, number)
        cpu = f"controller CPU {one.cpu_seconds:.1f} and {many.cpu_seconds:.1f} s, memory {one.peak_bytes // MIB} and {many.peak_bytes // MIB} MiB"
        say(f"small servers: one {one.seconds:.1f} s, {self.wanted.servers} at once {many.seconds:.1f} s ({cpu})")
        return one, many

    def measure(self, image: Image, later: list[Image]) -> None:
        """One image, every run of it; nothing of it is left."""
        if not self.has_room(image.content_mib * MIB, f"{name_of(image)}: not made"):
            return
        begun = time.monotonic()
        say(f"make {name_of(image)}")
        self.stage.make(image)
        made, lasted = time.monotonic() - begun, 0.0
        for number in range(self.wanted.runs):
            if number and not self.has_time(lasted, [made + lasted * weight(other) / weight(image) for other in later]):
                break
            run_begun = time.monotonic()
            for link in self.wanted.link:
                self.round(link, image)
            lasted = time.monotonic() - run_begun
        self.stage.remove(image)

    def has_time(self, once_more: float, later: list[float]) -> bool:
        """Whether another run leaves time for one run of each image that is still to come."""
        left = 60 * self.wanted.minutes - (time.monotonic() - self.began)
        if once_more + sum(later) <= left:
            return True
        say(f"no further run of this one: {left:.0f} s are left, about {sum(later):.0f} s of them are for what is still to come (--minutes for more)")
        return False

    def round(self, link: str, image: Image) -> None:
        """Every way over one link, once."""
        for way in self.wanted.way:
            if (image.mute or way in WRITING_WAYS) and self.is_bearable(link, image, way):
                self.once(link, image, way)

    def once(self, link: str, image: Image, way: str) -> None:
        """One move, and back."""
        if not image.mute:
            self.stage.write(image)
            time.sleep(3)  # until its rate is what it is to be
        rate = LINKS[link]
        if rate:
            self.stage.lab.shape(DEST, rate)
        try:
            sample = WAYS[way](self.stage, image)
        finally:
            self.stage.lab.unshape(DEST)
        self.results.add(link, image, sample)
        self.pace[link, image.format, way] = sample.wall / image.virtual_mib
        verdict = "" if sample.same else ", THE CONTENT DIFFERS"
        say(f"{link}, {name_of(image)}, {sample.way}: {sample.downtime:.2f} s down, {sample.wall:.1f} s in all{verdict}")
        if sample.way in (OURS, COLD):
            self.stage.revert([image.guest])

    def is_bearable(self, link: str, image: Image, way: str) -> bool:
        """Whether a move has room, and is not expected to take too long."""
        whole = way == "scp" and image.format == "raw"  # it copies the holes too
        if not self.has_room((image.virtual_mib if whole else image.content_mib) * MIB, f"{link}, {name_of(image)}, {way}: left out"):
            return False
        expected = self.pace.get((link, image.format, way), 0.0) * image.virtual_mib if image.mute else 0.0
        if expected > self.wanted.patience:
            say(f"{link}, {name_of(image)}, {way}: left out, it would take about {expected:.0f} s (--patience for more)")
            return False
        return True

    def has_room(self, needed: int, otherwise: str) -> bool:
        """Whether the machine's disk has room for so many bytes more, and says so if not."""
        free = shutil.disk_usage(self.stage.lab.images(DEST)).free
        if free - 1.05 * needed >= self.wanted.keep_free * GIB:
            return True
        say(f"{otherwise}, of {free / GIB:.0f} GiB it would not leave {self.wanted.keep_free:g} GiB free (--keep-free)")
        return False


def weight(image: Image) -> int:
    """What a round of moves of it takes, compared with one of another image."""
    return image.content_mib + FIXED_MIB


def tell(results: Results, wanted: argparse.Namespace) -> None:
    """Print what was measured, and write it where it was asked for."""
    if not results.cells and results.many_seconds is None:
        return
    print(f"\n{report(results)}\n", flush=True)
    if wanted.json:
        measured = {**results.as_json(), "budgets": [asdict(budget) for budget in must_reach(results)]}
        wanted.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if wanted.picture:
        caption = f"tests/bench/downtime.py, medians; both nodes, controller and guests on {os.cpu_count()} CPUs"
        wanted.picture.parent.mkdir(parents=True, exist_ok=True)
        wanted.picture.write_text(draw(panels(results), caption), encoding="utf-8")


def main() -> int:
    """Run it all; the lab is taken down at the end, and what was measured is told, also when the bench is interrupted."""
    began, wanted = time.monotonic(), arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stopped)
    with Lab(wanted.lab, nodes=2) as lab:
        bench = Bench(lab, wanted, began)
        try:
            bench.run()
        finally:
            tell(bench.results, wanted)
    print(f"{time.monotonic() - began:.0f} s in all, {os.cpu_count()} CPUs for both nodes, controller and guests", flush=True)
    return 0 if all(cell.same for cell in bench.results.cells.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
