# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node of its own for each test: every folder that the code knows lies in a temporary one."""

from __future__ import annotations

import os
import tempfile
import typing as t
from pathlib import Path

import pytest

if t.TYPE_CHECKING:
    from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

#: Every note waits for the storage; here nobody pulls the plug.
MEMORY = "/dev/shm"


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Path]:
    """The node's folders are below this one. Its name is short: a socket's path has a limit of 107 characters."""
    # Not at the top: tests/conftest.py makes the collection importable only after this file has been read.
    from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths

    with tempfile.TemporaryDirectory(prefix="cm-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as name:
        folder = Path(name)
        monkeypatch.setattr(paths, "STATE_DIR", folder / "lib")
        monkeypatch.setattr(paths, "EXPORTS_DIR", folder / "exports")
        monkeypatch.setattr(paths, "BOOT_MARK", folder / "run" / "boot")
        monkeypatch.setattr(paths, "OFFERS_DIR", folder / "offers")
        monkeypatch.setattr(paths, "SLOTS_DIR", folder / "slots")
        paths.OFFERS_DIR.mkdir()
        yield folder


@pytest.fixture
def journal(root: Path) -> Journal:
    """The journal of a migration whose first run has been here."""
    from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import step
    from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import MOVE

    with step({"migration_uuid": MOVE, "migration_epoch": 1}) as entered:
        assert entered
        return entered
