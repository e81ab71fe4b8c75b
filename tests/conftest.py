# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes ``ansible_collections.coldmove.libvirt`` importable from a flat checkout.

Python finds a collection by the path ansible_collections/NAMESPACE/NAME. A symlink under .build/ (ignored by git and by the
collection's build) gives the checkout that path, so tests import the very files that are edited.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = Path("ansible_collections", "coldmove", "libvirt")


def _importable_root() -> Path:
    if ROOT.parts[-3:] == COLLECTION.parts:
        return ROOT.parents[2]
    tree = ROOT / ".build" / "tree"
    link = tree / COLLECTION
    if not (link.is_symlink() and link.resolve() == ROOT):
        link.parent.mkdir(parents=True, exist_ok=True)
        # Parallel workers do this at the same time: make it under a name of our own, then put it in place at once.
        scratch = link.with_name(f".{link.name}.{os.getpid()}")
        scratch.symlink_to(os.path.relpath(ROOT, link.parent), target_is_directory=True)
        scratch.replace(link)
    return tree


def pytest_configure() -> None:
    """Put the checkout on the import path, unless something else (ansible-test) already has."""
    if "ansible_collections" in sys.modules and importlib.util.find_spec("ansible_collections.coldmove.libvirt"):
        return
    sys.path.insert(0, str(_importable_root()))
