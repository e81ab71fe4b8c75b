# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""How far long work is, as jobs of a node report it."""

from __future__ import annotations

import typing as t

Report = t.Callable[[dict[str, t.Any]], None]


def progress(step: str, done: int, total: int, seconds: float, at_first: int = 0) -> dict[str, t.Any]:
    """``{step, percent, bytes_done, bytes_total, rate (bytes/s), eta_seconds}`` of work that has taken ``seconds`` so far; ``at_first`` bytes took no time."""
    rate = max(0, done - at_first) / seconds if seconds > 0 else 0.0
    return {
        "step": step,
        "percent": round(min(100.0, 100.0 * done / total), 1) if total else 100.0,
        "bytes_done": done,
        "bytes_total": total,
        "rate": round(rate),
        "eta_seconds": round(max(0, total - done) / rate) if rate else None,
    }
