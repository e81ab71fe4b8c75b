# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/cases.md names as proof is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = [line.split("|")[1:-1] for line in (ROOT / "docs" / "cases.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]


def test_every_case_has_a_proof() -> None:
    """One row for each case, each with at least one scenario or test."""
    cases = [row[0].strip() for row in ROWS]
    assert len(cases) == len(set(cases))
    assert all(re.search(r"`[\w/.:]+`", row[2]) for row in ROWS)


def test_every_proof_exists() -> None:
    """Scenarios are folders, test functions are in the file that is named before them."""
    scenarios = {path.parent.name for path in (ROOT / "extensions" / "molecule").glob("*/molecule.yml")}
    for _case, _what, proof in ROWS:
        content = ""
        for name in re.findall(r"`([\w/.:]+)`", proof):
            path, _colons, function = name.rpartition("::")
            if name.endswith(".py") or path:
                content = (ROOT / (path or name)).read_text(encoding="utf-8")
            if name.startswith("test_") or path:
                assert f"def {function or name}(" in content, name
            elif not name.endswith(".py"):
                assert name in scenarios | {"error", "recover"}, name
