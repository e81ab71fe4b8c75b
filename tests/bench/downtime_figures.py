# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What downtime.py says of what it has measured: tables, what must be reached, and what is drawn."""

from __future__ import annotations

import statistics
import typing as t

from bench.figures import COLD, LIMIT, MIB, OURS, RSYNC, Budget, Cell, Results, Row, added, downtime_parts, judged, many_budget, raw_tool_budgets, table
from bench.picture import Line, Panel

if t.TYPE_CHECKING:
    from bench.stage import Image

#: What issue 6 asks for.
MOST_SECONDS, MOST_GROWTH, MOST_WIRE, MOST_SHARE, LEAST_GAIN = 5.0, 1.2, 1.05, 3.0, 3.0
GAIN_LINK, GAIN_MIB = "1gbit", 4096
_GIB = 1024


def name_of(image: Image) -> str:
    """An image as it is called in tables."""
    gib = f"{image.content_mib / _GIB:.3g}/{image.virtual_mib / _GIB:.3g} GiB"
    return f"{image.format} {gib}" if image.mute else f"{image.format} {gib}, {image.rate} MB/s"


def wire_ratio(cell: Cell) -> float:
    """Bytes on the wire to what was allocated before the move and written during it."""
    return float(statistics.median(sample.wire_bytes / (sample.source_bytes + sample.dirtied_bytes) for sample in cell.samples))


def mirrored(cell: Cell) -> str:
    """Whether nothing was left to be copied when the guest was off; empty for what knows no precopy."""
    if cell.way != OURS:
        return ""
    return "no" if any(sample.parts.get("copy_job_seconds") for sample in cell.samples) else "yes"


def rows_of(cells: t.Iterable[Cell]) -> list[Row]:
    """Every way side by side. The memory of guests with a system moves by itself: it is told of the others only."""
    rows = []
    for cell in cells:
        mute = cell.image.mute
        rows.append(
            {
                "link": cell.link,
                "image": name_of(cell.image),
                "way": cell.way,
                "runs": len(cell.samples),
                "downtime s": f"{cell.median('downtime'):.2f}",
                "total s": f"{cell.median('wall'):.1f}",
                "wire MiB": f"{cell.median('wire_bytes') / MIB:.0f}",
                **({} if mute else {"dirtied MiB": f"{cell.median('dirtied_bytes') / MIB:.0f}"}),
                "x alloc+dirtied": f"{wire_ratio(cell):.3f}",
                "CPU s source": f"{cell.median('source_cpu'):.1f}",
                "dest": f"{cell.median('dest_cpu'):.1f}",
                "controller": f"{cell.part('controller_cpu'):.1f}",
                **(
                    {"peak MiB source": f"{cell.median('source_peak_bytes') / MIB:.0f}", "dest ": f"{cell.median('dest_peak_bytes') / MIB:.0f}"} if mute else {}
                ),
                "mirrored": mirrored(cell),
                "content": "same" if cell.same else "DIFFERS",
            }
        )
    return rows


# ----- what must be reached


def must_reach(results: Results) -> list[Budget]:
    """All that issue 6 asks for, measured or not."""
    precopied = [cell for cell in results.cells.values() if cell.way == OURS]
    found = [_downtime(precopied), *_growth(precopied), _wire(results.ours())]
    cold = [cell for cell in results.cells.values() if cell.way == COLD and cell.image.mute]
    largest = max((cell.image.content_mib for cell in cold), default=0)
    found += list(raw_tool_budgets(results, [cell for cell in cold if cell.image.content_mib == largest])) or [_missing("cold copy to raw tool", "<= 1.15 x")]
    found += [*_gain(results), _share(results, precopied)]
    found += list(many_budget(results)) or [_missing(f"{results.many} servers at once, to one", "< 4 x")]
    return found


def _missing(what: str, budget: str) -> Budget:
    return Budget(what, budget, "-", None)


def _downtime(precopied: list[Cell]) -> Budget:
    what, budget = "downtime with precopy, without the guest's shutdown and boot, worst median", f"<= {MOST_SECONDS:g} s"
    if not precopied:
        return _missing(what, budget)
    worst = max(precopied, key=lambda cell: cell.median("downtime"))
    seconds = worst.median("downtime")
    return Budget(what, budget, f"{seconds:.2f} s ({name_of(worst.image)}, link {worst.link})", seconds <= MOST_SECONDS)


def _growth(precopied: list[Cell]) -> list[Budget]:
    """Of the downtime, from the smallest to the largest content."""
    budget, found = f"<= {MOST_GROWTH:g} x", []
    for link, image_format in dict.fromkeys((cell.link, cell.image.format) for cell in precopied if cell.image.mute):
        sizes = sorted(
            (cell for cell in precopied if cell.image.mute and (cell.link, cell.image.format) == (link, image_format)), key=lambda cell: cell.image.content_mib
        )
        if sizes[0] is not sizes[-1]:
            least, most = sizes[0].median("downtime"), sizes[-1].median("downtime")
            what = f"downtime of {sizes[-1].image.content_mib / _GIB:.3g} GiB to {sizes[0].image.content_mib / _GIB:.3g} GiB, {image_format}, link {link}"
            found.append(Budget(what, budget, f"{most / least:.2f} x ({most:.2f} s to {least:.2f} s)", most <= MOST_GROWTH * least))
    return found or [_missing("downtime of 16 GiB to 1 GiB", budget)]


def _wire(ours: list[Cell]) -> Budget:
    what, budget = "bytes on the wire to allocated + dirtied, all of Ansible's included, worst", f"<= {MOST_WIRE:g} x"
    if not ours:
        return _missing(what, budget)
    worst = max(ours, key=wire_ratio)
    return Budget(what, budget, f"{wire_ratio(worst):.3f} x ({worst.way}, {name_of(worst.image)}, link {worst.link})", wire_ratio(worst) <= MOST_WIRE)


def _gain(results: Results) -> list[Budget]:
    """Against Nova's rsync, where the issue asks for it."""
    budget, found = f">= {LEAST_GAIN:g} x", []
    for cell in results.cells.values():
        nova = results.cell(cell.link, cell.image, RSYNC)
        if cell.way == OURS and nova and cell.link == GAIN_LINK and cell.image.content_mib == GAIN_MIB and cell.image.mute:
            theirs, ours = nova.median("downtime"), cell.median("downtime")
            what = f"downtime of Nova's rsync to ours, {name_of(cell.image)}, link {cell.link}"
            found.append(Budget(what, budget, f"{theirs / ours:.1f} x ({theirs:.1f} s to {ours:.2f} s)", theirs >= LEAST_GAIN * ours))
    return found or [_missing(f"downtime of Nova's rsync to ours, {GAIN_MIB // _GIB} GiB, link {GAIN_LINK}", budget)]


def _share(results: Results, precopied: list[Cell]) -> Budget:
    """Ansible's and the collection's: the downtime without the nodes' jobs and without what define and start take by hand."""
    what, budget = "Ansible's share of the downtime (without jobs, define and start), worst median", f"<= {MOST_SHARE:g} s"
    by_hand = [cell.part("define_start") for cell in results.cells.values() if cell.part("define_start")]
    if not precopied or not by_hand:
        return _missing(what, budget)
    least = min(by_hand)
    worst = max(added(cell) - least for cell in precopied)
    return Budget(what, budget, f"{worst:.2f} s (and define and start by hand: {least:.2f} s)", worst <= MOST_SHARE)


# ----- report and picture


def report(results: Results) -> str:
    """All tables."""
    sizes = rows_of(cell for cell in results.cells.values() if cell.image.mute)
    rates = rows_of(cell for cell in results.cells.values() if not cell.image.mute)
    texts = [
        ("Against the content of the disk (medians)", table(sizes)),
        ("Against what the guest writes meanwhile (medians)", table(rates)),
        ("Where the downtime of the playbook goes (seconds)", table(downtime_parts(results))),
        ("Many small servers by one run (medians)", table(many_rows(results))),
        ("Must be reached", judged(must_reach(results))),
    ]
    return "\n\n".join(f"{head}\n\n{text}" for head, text in texts if text)


def many_rows(results: Results) -> list[Row]:
    """What many at once cost the controller."""
    if results.many_seconds is None or results.one_seconds is None:
        return []
    rows: list[Row] = [
        {"servers": number, "runs": results.many_runs, "total s": f"{seconds:.1f}", "controller peak MiB": f"{peak / MIB:.0f}", "per further server MiB": more}
        for number, seconds, peak, more in (
            (1, results.one_seconds, results.one_peak_bytes, ""),
            (results.many, results.many_seconds, results.many_peak_bytes, f"{_per_server(results) / MIB:.1f}"),
        )
    ]
    return rows


def _per_server(results: Results) -> float:
    return (results.many_peak_bytes - results.one_peak_bytes) / max(1, results.many - 1)


def panels(results: Results) -> list[Panel]:
    """Downtime and total time beside each other: for each format and link against the content, then against what is written."""
    cells = list(results.cells.values())
    found = []
    for image_format, link in dict.fromkeys((cell.image.format, cell.link) for cell in cells if cell.image.mute):
        chosen = [cell for cell in cells if cell.image.mute and (cell.image.format, cell.link) == (image_format, link)]
        found += _pair(f"{image_format}, link {link}", "GiB of content", chosen, lambda cell: f"{cell.image.content_mib / _GIB:.3g}")
    for image_format, link in dict.fromkeys((cell.image.format, cell.link) for cell in cells if not cell.image.mute):
        chosen = [cell for cell in cells if not cell.image.mute and (cell.image.format, cell.link) == (image_format, link)]
        found += _pair(f"{image_format}, link {link}", "MB/s written by the guest", chosen, lambda cell: str(cell.image.rate))
    return found


def _pair(where: str, axis: str, cells: list[Cell], place: t.Callable[[Cell], str]) -> list[Panel]:
    places = sorted({place(cell) for cell in cells}, key=float)
    ways = dict.fromkeys(cell.way for cell in cells)
    return [
        Panel(f"{title} ({where})", axis, places, [Line(way, {place(cell): cell.median(figure) for cell in cells if cell.way == way}) for way in ways])
        for title, figure in (("Downtime", "downtime"), ("Total time", "wall"))
    ]


__all__ = ["LIMIT", "must_reach", "panels", "report"]
