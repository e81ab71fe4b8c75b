# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Medians, ratios, budgets: from samples to what is printed."""

from __future__ import annotations

import statistics
import typing as t
from dataclasses import asdict, dataclass, field

if t.TYPE_CHECKING:
    from bench.stage import Image
    from bench.ways import Sample

MIB = 1024 * 1024
#: How the ways are called in tables.
OURS, COLD = "coldmove", "coldmove, cold"
SCP, RSYNC, PLAYBOOK, LIVE = "Nova, scp", "Nova, rsync", "playbook by hand", "virsh migrate --live"
LIMIT, TCP = "raw limit", "raw, plain TCP"
Row = dict[str, t.Any]


@dataclass
class Cell:
    """Every sample of one way, image and link."""

    link: str
    image: Image
    way: str
    samples: list[Sample] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Median of a figure."""
        return float(statistics.median(getattr(sample, name) for sample in self.samples))

    def part(self, name: str) -> float:
        """Median of a part."""
        return float(statistics.median(sample.parts.get(name, 0.0) for sample in self.samples))

    @property
    def same(self) -> bool:
        """Whether every copy was a true one."""
        return all(sample.same for sample in self.samples)


@dataclass
class Results:
    """All that was measured."""

    cells: dict[tuple[str, Image, str], Cell] = field(default_factory=dict)
    idle_seconds: float | None = None
    select_seconds: float | None = None
    one_seconds: float | None = None
    many_seconds: float | None = None
    many: int = 10
    many_runs: int = 1
    one_peak_bytes: int = 0
    many_peak_bytes: int = 0
    """Memory of the controller."""

    def add(self, link: str, image: Image, sample: Sample) -> None:
        """Keep a sample."""
        self.cells.setdefault((link, image, sample.way), Cell(link, image, sample.way)).samples.append(sample)

    def cell(self, link: str, image: Image, way: str) -> Cell | None:
        """The samples of one way."""
        return self.cells.get((link, image, way))

    def ours(self) -> list[Cell]:
        """The cells of the collection."""
        return [cell for cell in self.cells.values() if cell.way in (OURS, COLD)]

    def as_json(self) -> dict[str, t.Any]:
        """Everything, for a file."""
        rest = {name: value for name, value in vars(self).items() if name != "cells"}
        return {"cells": [asdict(cell) for cell in self.cells.values()], **rest}


def short(image: Image) -> str:
    """An image in few words, its content in MiB."""
    return f"{image.format} {image.content_mib}" + ("" if image.mute else f", {image.rate} MB/s")


def table(rows: list[Row]) -> str:
    """Rows as text."""
    if not rows:
        return ""
    heads = list(rows[0])
    texts = [[str(row[head]) for head in heads] for row in rows]
    widths = [max(len(head), *(len(text[index]) for text in texts)) for index, head in enumerate(heads)]
    lines = [heads, ["-" * width for width in widths], *texts]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def comparison(results: Results) -> list[Row]:
    """The main table: every way side by side."""
    rows = []
    for cell in results.cells.values():
        best = results.cell(cell.link, cell.image, LIMIT)
        allocated = cell.median("source_bytes")
        rows.append(
            {
                "link": cell.link,
                "image": f"{cell.image.format} {cell.image.content_mib}/{cell.image.virtual_mib} MiB",
                "way": cell.way,
                "runs": len(cell.samples),
                "downtime s": f"{cell.median('downtime'):.1f}",
                "x limit": f"{cell.median('downtime') / best.median('downtime'):.2f}" if best else "-",
                "copy s": f"{cell.part('copy_copy_seconds' if cell.way == COLD else 'copy'):.1f}",
                "wall s": f"{cell.median('wall'):.1f}",
                "wire MiB": f"{cell.median('wire_bytes') / MIB:.0f}",
                "x allocated": f"{cell.median('wire_bytes') / allocated:.2f}",
                "peak MiB": f"{cell.median('peak_bytes') / MIB:.0f}",
                "sparse": f"{cell.median('dest_bytes') / allocated:.2f}",
                "content": "same" if cell.same else "DIFFERS",
            }
        )
    return rows


PARTS = ("hold", "copy", "verify", "record", "start", "between")


def added(cell: Cell) -> float:
    """What Ansible and the collection add to the downtime: all of it but the copy and the proof, which are jobs of the nodes."""
    return cell.median("downtime") - cell.part("copy_job_seconds") - cell.part("verify_job_seconds")


def downtime_parts(results: Results) -> list[Row]:
    """Where the downtime of the playbook goes."""
    rows = []
    for cell in results.ours():
        limit = results.cell(cell.link, cell.image, LIMIT)
        rows.append(
            {
                "link": cell.link,
                "image": short(cell.image),
                "way": cell.way,
                "downtime": f"{cell.median('downtime'):.2f}",
                **{part: f"{cell.part(part):.2f}" for part in PARTS},
                "copy job": f"{cell.part('copy_job_seconds'):.2f}",
                "verify job": f"{cell.part('verify_job_seconds'):.2f}",
                "added": f"{added(cell):.2f}",
                "virsh define+start": f"{limit.part('define_start'):.2f}" if limit else "-",
                "controller CPU": f"{cell.part('controller_cpu'):.1f}",
                "wall - jobs": f"{cell.median('wall') - cell.part('copy_job_seconds') - cell.part('verify_job_seconds'):.1f}",
            }
        )
    return rows


@dataclass
class Budget:
    """A budget, and what was measured: None if this run has not measured it."""

    what: str
    budget: str
    measured: str
    reached: bool | None


def budgets(results: Results) -> list[Budget]:
    """Each budget of DESIGN.md that bench.py can judge."""
    found = [*copy_budgets(results)]
    ours = [cell for cell in results.ours() if cell.link == "full"]
    if ours:
        middle, worst = statistics.median(added(cell) for cell in ours), max(added(cell) for cell in ours)
        own = min((cell.part("define_start") for cell in results.cells.values() if cell.way == LIMIT), default=0.0)
        what = "added to the downtime (all but copy and proof)"
        found.append(Budget(what, "<= 3 s", f"{middle:.1f} s, at worst {worst:.1f} s (define and start by hand: {own:.1f} s)", middle <= 3.0))
    if results.idle_seconds is not None:
        found.append(Budget("whole cold_migrate of a small idle guest", "<= 25 s", f"{results.idle_seconds:.1f} s", results.idle_seconds <= 25.0))
    found += many_budget(results)
    if results.select_seconds is not None:
        what = "hosts for 1,000 servers over 500 nodes (CPU)"
        found.append(Budget(what, "< 2 s", f"{results.select_seconds:.2f} s", results.select_seconds < 2.0))
    return found


def many_budget(results: Results) -> t.Iterator[Budget]:
    """Many servers by one run, to one."""
    if results.many_seconds is None or not results.one_seconds:
        return
    ratio = results.many_seconds / results.one_seconds
    measured = f"{ratio:.1f} x ({results.many_seconds:.0f} s to {results.one_seconds:.0f} s)"
    yield Budget(f"{results.many} servers at once, to one", "< 4 x", measured, ratio < 4.0)


def copy_budgets(results: Results) -> t.Iterator[Budget]:
    """What is asked of a cold copy."""
    ours = [cell for cell in results.ours() if cell.way == COLD]
    if not ours:
        return
    largest = [cell for cell in ours if cell.image.content_mib == max(c.image.content_mib for c in ours)]
    wire = max(cell.median("wire_bytes") / cell.median("source_bytes") for cell in largest)
    yield Budget("bytes on the wire to allocated bytes, largest images, Ansible's own included", "<= 1.05 x", f"{wire:.3f} x", wire <= 1.05)
    sparse = max(cell.median("dest_bytes") / cell.median("source_bytes") for cell in ours)
    yield Budget("allocated bytes, dest to source", "<= 1.05 x", f"{sparse:.3f} x", sparse <= 1.05)
    yield from raw_tool_budgets(results, largest)


def raw_tool_budgets(results: Results, cells: t.Iterable[Cell]) -> t.Iterator[Budget]:
    """Cold copies beside the raw tool over the same channel, both until all is on the dest's storage."""
    for cell in cells:
        limit = results.cell(cell.link, cell.image, LIMIT)
        if limit and cell.part("copy_copy_seconds") and limit.part("copy"):
            flush = cell.part("verify_job_seconds") - cell.part("verify_verify_seconds")
            ratio, proven = ((cell.part(name) + flush) / limit.part("copy") for name in ("copy_copy_seconds", "copy_job_seconds"))
            what = f"cold copy to raw tool, {short(cell.image)}, link {cell.link}"
            yield Budget(what, "<= 1.15 x", f"{ratio:.2f} x (with the source's digest {proven:.2f} x)", ratio <= 1.15)


_VERDICTS = {True: "reached", False: "NOT reached", None: "not measured"}


def judged(found: t.Iterable[Budget]) -> str:
    """Budgets as a table."""
    return table([{"budget": b.what, "wanted": b.budget, "measured": b.measured, "": _VERDICTS[b.reached]} for b in found])


def report(results: Results) -> str:
    """All tables of bench.py."""
    return "\n\n".join(
        [
            "Every way side by side (medians)\n\n" + table(comparison(results)),
            "Where the downtime of the playbook goes (seconds)\n\n" + table(downtime_parts(results)),
            "Budgets\n\n" + judged(budgets(results)),
        ]
    )
