# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the bench of the downtime says of what it has measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from bench.downtime_figures import must_reach, panels, report
from bench.figures import COLD, LIMIT, OURS, RSYNC, Results
from bench.picture import Line, Panel, bounds, draw, ticks
from bench.stage import MIB, Image
from bench.ways import Sample
from hypothesis import given
from hypothesis import strategies as st

SMALL, MIDDLE, LARGE = (Image("qcow2", gib * 1024) for gib in (1, 4, 16))
WRITING = Image("qcow2", 128, 20)


def sample(way: str, image: Image, downtime: float = 2.0, *, wire: float = 1.0, dirtied_mib: int = 0, same: bool = True, **parts: float) -> Sample:
    """A move that sent so many times what was allocated and dirtied."""
    allocated, dirtied = image.content_mib * MIB, dirtied_mib * MIB
    return Sample(way, downtime, 9.0, round(wire * (allocated + dirtied)), allocated, dirtied, allocated, 1.0, 1.0, MIB, MIB, same, parts)


def results(*samples: tuple[Image, Sample], link: str = "1gbit") -> Results:
    """Results of one link."""
    found = Results()
    for image, one in samples:
        found.add(link, image, one)
    return found


def good() -> Results:
    """All that is asked for."""
    found = results(
        *((image, sample(OURS, image, 2.0 + image.content_mib / 1e5)) for image in (SMALL, MIDDLE, LARGE)),
        *((image, sample(COLD, image, 30, copy_copy_seconds=11.0, copy_job_seconds=12.0)) for image in (SMALL, MIDDLE, LARGE)),
        *((image, sample(LIMIT, image, 30, copy=10.0, define_start=0.3)) for image in (SMALL, MIDDLE, LARGE)),
        *((image, sample(RSYNC, image, 38, copy=37.0, define_start=0.4)) for image in (SMALL, MIDDLE, LARGE)),
        (WRITING, sample(OURS, WRITING, 2.2, dirtied_mib=200)),
    )
    found.one_seconds, found.many_seconds = 10.0, 39.0
    return found


def verdicts(found: Results) -> dict[str, bool | None]:
    """Each budget by its first words."""
    return {" ".join(budget.what.split()[:3]): budget.reached for budget in must_reach(found)}


def test_all_is_reached() -> None:
    """Nothing is left out, nothing is refused."""
    assert set(verdicts(good()).values()) == {True}


def test_nothing_is_measured() -> None:
    """That is said of everything, and is no success."""
    found = verdicts(Results())
    assert set(found.values()) == {None}
    assert len(found) == len(verdicts(good()))


@pytest.mark.parametrize(
    ("spoiled", "worse"),
    [
        ("downtime with precopy,", (SMALL, sample(OURS, SMALL, 5.1))),
        ("downtime of 16", (LARGE, sample(OURS, LARGE, 2.5))),
        ("bytes on the", (WRITING, sample(OURS, WRITING, dirtied_mib=200, wire=1.06))),
        ("bytes on the", (SMALL, sample(COLD, SMALL, wire=1.06, copy_copy_seconds=11.0))),
        ("cold copy to", (LARGE, sample(COLD, LARGE, copy_copy_seconds=11.6))),
        ("cold copy to", (LARGE, sample(COLD, LARGE, copy_copy_seconds=11.0, verify_job_seconds=3.0, verify_verify_seconds=2.0))),
        ("downtime of Nova's", (MIDDLE, sample(RSYNC, MIDDLE, 6.0))),
        ("Ansible's share of", (SMALL, sample(OURS, SMALL, 3.4))),
    ],
)
def test_what_is_not_reached_is_told(spoiled: str, worse: tuple[Image, Sample]) -> None:
    """One median that is too large is enough."""
    found = good()
    image, one = worse
    for cell in found.cells.values():
        if (cell.image, cell.way) == (image, one.way):
            cell.samples = [one]
    assert verdicts(found)[spoiled] is False


def test_what_has_no_figure_is_not_reached() -> None:
    """A copy whose job told no time was not measured."""
    found = results((SMALL, sample(COLD, SMALL)), (SMALL, sample(LIMIT, SMALL, copy=9.0)))
    assert verdicts(found)["cold copy to"] is None


def test_jobs_of_the_nodes_are_not_ansibles_share() -> None:
    """A copy after all makes the downtime long, not Ansible's share of it."""
    found = results(
        (SMALL, sample(OURS, SMALL, 12.0, copy_job_seconds=10.0, verify_job_seconds=1.0)), (SMALL, sample(LIMIT, SMALL, copy=9.0, define_start=0.5))
    )
    told = verdicts(found)
    assert (told["downtime with precopy,"], told["Ansible's share of"]) == (False, True)


def test_report() -> None:
    """What differs, and what was copied after all, is seen."""
    found = good()
    found.add("full", SMALL, sample(OURS, SMALL, same=False, copy_job_seconds=3.0))
    (line,) = [line for line in report(found).splitlines() if "DIFFERS" in line]
    assert line.startswith("full") and " no " in line
    assert "NOT reached" not in report(good())


def test_panels() -> None:
    """Both kinds of images have a pair; places are in the order of their numbers."""
    drawn = panels(good())
    assert [panel.title for panel in drawn] == [f"{what} (qcow2, link 1gbit)" for what in ("Downtime", "Total time")] * 2
    assert (drawn[0].places, drawn[2].places) == (["1", "4", "16"], ["20"])
    assert drawn[0].lines[0] == Line(OURS, {"1": 2.01024, "4": 2.04096, "16": 2.16384})


@given(st.lists(st.floats(0.002, 90000), min_size=1))
def test_bounds_hold_all(values: list[float]) -> None:
    """Every value is between the marks, which differ; there are marks to read it by, and not too many."""
    low, high = bounds(values)
    assert low <= min(values) and max(values) <= high and low < high
    assert 2 <= len(ticks(low, high)) <= 10


def test_picture() -> None:
    """It is well-formed whatever things are called, names every line once, and what took longer is higher."""
    lines = [Line("<a> & b", {"1": 0.5, "4": 50.0}), Line("c", {"4": 5.0})]
    root = ET.fromstring(draw([Panel("D & T", "GiB", ["1", "4"], lines), Panel("T", "GiB", ["1", "4"], lines)], "a <caption>"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("<a> & b") == texts.count("c") == texts.count("a <caption>") == 1
    heights = [float(circle.attrib["cy"]) for circle in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(heights) == 6 and heights[1] < heights[2] < heights[0]
