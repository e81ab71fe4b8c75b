# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the node notes of servers that the records know."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import known

ONE, OTHER = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"


def test_note(root: Path) -> None:
    """Once; under the name that the guard looks for; nothing in check mode."""
    assert known.note([ONE], dry_run=True)
    assert not known.folder().exists()
    assert known.note([ONE.upper()])
    assert not known.note([ONE])
    assert known.note(iter([ONE, OTHER]))
    assert sorted(path.name for path in known.folder().iterdir()) == [ONE, OTHER]
    assert not known.note([])


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "web"])
def test_nothing_but_a_uuid_becomes_a_name(root: Path, name: str) -> None:
    with pytest.raises(ValueError, match="badly formed"):
        known.note([name])
    assert not known.folder().exists()


def test_what_cannot_be_noted_is_said(root: Path) -> None:
    known.folder().parent.mkdir()
    known.folder().write_text("in the way")
    with pytest.raises(ColdmoveError, match="Make room"):
        known.note([ONE])
