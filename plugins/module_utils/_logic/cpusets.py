# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Sets of CPUs as libvirt writes them: ``0-3,^2,8``."""

from __future__ import annotations

import typing as t


def parse(text: str | None) -> frozenset[int]:
    """The numbers in ``text``; what comes later in it counts more. Raises ValueError if it is no such set."""
    found: set[int] = set()
    for word in filter(None, (part.strip() for part in (text or "").split(","))):
        low, dash, high = word.lstrip("^").partition("-")
        numbers = set(range(int(low), int(high if dash else low) + 1))
        if not numbers or min(numbers) < 0:
            raise ValueError(f"{word!r} is no range of CPUs")
        found = found - numbers if word.startswith("^") else found | numbers
    return frozenset(found)


def written(numbers: t.Iterable[int]) -> str:
    """The shortest text for ``numbers``, the one that libvirt would write."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
