# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve tests/requirements*.in in scratch environments and write the exact pins beside them (``make pins``)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from gates import NEWER_PYTHONS, find_python  # noqa: E402 (not a package: found by the line above)


def pin(name: str, python: Path) -> None:
    """Write NAME.txt from NAME.in."""
    source = TESTS / f"{name}.in"
    with tempfile.TemporaryDirectory() as scratch:
        pip: list[str | Path] = [Path(scratch, "venv", "bin", "python"), "-m", "pip", "--disable-pip-version-check", "-q", "-q"]
        subprocess.run([python, "-m", "venv", Path(scratch, "venv")], check=True)
        subprocess.run([*pip, "install", "-r", source], check=True)
        frozen = subprocess.run([*pip, "freeze"], stdout=subprocess.PIPE, text=True, check=True).stdout
    (TESTS / f"{name}.txt").write_text(f"# Made by `make pins` from tests/{source.name}: do not edit.\n{frozen}", encoding="utf-8")
    print(f"tests/{name}.txt: {len(frozen.splitlines())} packages")


def main() -> None:
    """Pin both lists, each with the Python that it is for."""
    pin("requirements", Path(sys.executable))
    newer = next((found for version in NEWER_PYTHONS if (found := find_python(version))), None)
    if newer:
        pin("requirements-newest", newer)
    else:
        print(f"tests/requirements-newest.txt stays as it is: none of Python {', '.join(NEWER_PYTHONS)} is here")


if __name__ == "__main__":
    main()
