# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of lines, as SVG: pure text, nothing is drawn by anybody else."""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass
from xml.sax.saxutils import escape

#: Okabe and Ito's colours, told apart by everybody; the first is for what the picture is about.
COLOURS = ("#d55e00", "#e69f00", "#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#555555", "#aaaaaa")
_WIDTH, _HEIGHT = 460, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 34, 44
_ROW = 20
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Line:
    """One way: seconds by place on the axis."""

    name: str
    points: dict[str, float]


@dataclass(frozen=True)
class Panel:
    """One diagram: equal steps from left to right, seconds upwards, each tenfold the same way."""

    title: str
    axis: str
    places: list[str]
    lines: list[Line]


def draw(panels: list[Panel], caption: str) -> str:
    """Two panels beside each other in each row, one legend and a caption below."""
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    rows, legend_rows = math.ceil(len(panels) / 2), math.ceil(len(names) / 4)
    width, below = 2 * _WIDTH, rows * _HEIGHT
    height = below + legend_rows * _ROW + _ROW + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for index, panel in enumerate(panels):
        parts += [f'<g transform="translate({index % 2 * _WIDTH},{index // 2 * _HEIGHT})">', *_panel(panel, colours), "</g>"]
    for index, name in enumerate(names):
        x, y = _LEFT + index % 4 * (width - _LEFT) // 4, below + index // 4 * _ROW + 12
        parts += [f'<path d="M{x},{y} h24" stroke="{colours[name]}" stroke-width="{_stroke(index)}"/>', _text(x + 30, y + 4, name)]
    parts += [_text(_LEFT, height - 10, caption, fill="#555555"), "</svg>"]
    return "\n".join(parts) + "\n"


def _panel(panel: Panel, colours: dict[str, str]) -> t.Iterator[str]:
    values = [value for line in panel.lines for value in line.points.values() if value > 0]
    low, high = bounds(values)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def across(place: str) -> float:
        return _LEFT + (right - _LEFT) * (panel.places.index(place) + 0.5) / max(1, len(panel.places))

    def upward(value: float) -> float:
        share = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return bottom - (bottom - _TOP) * share

    yield _text(_LEFT, 20, panel.title, weight="bold")
    for value in ticks(low, high):
        y = upward(value)
        yield f'<path d="M{_LEFT},{y:.1f} H{right}" stroke="#dddddd"/>'
        yield _text(_LEFT - 6, y + 4, f"{value:g} s", anchor="end")
    for place in panel.places:
        yield _text(across(place), bottom + 18, place, anchor="middle")
    yield _text((_LEFT + right) / 2, bottom + 36, panel.axis, anchor="middle", fill="#555555")
    yield f'<path d="M{_LEFT},{bottom} H{right}" stroke="#000000"/>'
    for line in panel.lines:
        points = [(across(place), upward(line.points[place])) for place in panel.places if line.points.get(place, 0) > 0]
        stroke = _stroke(list(colours).index(line.name))
        way = " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
        if len(points) > 1:
            yield f'<path d="M{way}" fill="none" stroke="{colours[line.name]}" stroke-width="{stroke}"/>'
        for x, y in points:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2 + stroke / 2:g}" fill="{colours[line.name]}"/>'


def _stroke(index: int) -> int:
    """The first line is what the picture is about."""
    return 4 if index == 0 else 2


def bounds(values: list[float]) -> tuple[float, float]:
    """The marks (1, 2 or 5 times a power of ten) below and above all values."""
    if not values:
        return 1.0, 10.0
    marks = [step * 10.0**power for power in range(-3, 6) for step in _STEPS]
    low = max((mark for mark in marks if mark <= min(values)), default=marks[0])
    high = min((mark for mark in marks if mark >= max(values) and mark > low), default=marks[-1])
    return low, high


def ticks(low: float, high: float) -> list[float]:
    """The marks from ``low`` to ``high``; powers of ten only if there would be too many."""
    marks = [step * 10.0**power for power in range(-3, 6) for step in _STEPS]
    found = [mark for mark in marks if low * 0.999 <= mark <= high * 1.001]
    return found if len(found) <= 10 else [mark for mark in found if math.isclose(math.log10(mark) % 1, 0, abs_tol=1e-9)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", fill: str = "#000000") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{fill}">{escape(text)}</text>'
