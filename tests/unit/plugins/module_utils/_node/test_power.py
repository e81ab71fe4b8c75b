# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A step of a migration passes the guard of its node, for the moment of its start; nobody else does."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths, power
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

SERVER = "00000000-0000-4000-8000-000000000001"


class Host:
    """A libvirt with one server, which notes what the guard lets pass when it is started."""

    def __init__(self, refuses: bool = False) -> None:
        self.state, self.refuses, self.passed = "shutoff", refuses, list[str]()

    def domain(self, server: str) -> str:
        """The domain is its UUID."""
        return server

    def identity(self, domain: str) -> tuple[str, str]:
        """UUID and name."""
        return domain, "web"

    def state_of(self, _domain: str) -> str:
        """As libvirt says."""
        return self.state

    def start(self, _domain: str) -> None:
        """As the hook sees it."""
        self.passed = sorted(path.name for path in paths.STARTS_DIR.glob("*"))
        if self.refuses:
            raise ColdmoveError("the hook refused")
        self.state = "running"


@pytest.fixture(autouse=True)
def starts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "STARTS_DIR", root / "run" / "starts")


def started(host: Host, journal: Journal | None, commit_point: bool = True) -> list[str]:
    """What the guard let pass during the start."""
    power.start(t.cast("t.Any", host), SERVER, 1, 0, journal, commit_point)
    return host.passed


@pytest.mark.parametrize("commit_point", [True, False])
def test_a_step_of_a_migration_passes_for_one_start(journal: Journal, commit_point: bool) -> None:
    """Also a roll-back or a revert, which is no commit point and says nothing of one."""
    assert started(Host(), journal, commit_point) == [SERVER]
    assert list(paths.STARTS_DIR.glob("*")) == []
    assert bool(journal.data.get("started")) is commit_point
    assert bool(journal.data.get("starting")) is commit_point


def test_a_start_that_failed_leaves_no_pass(journal: Journal) -> None:
    host = Host(refuses=True)
    with pytest.raises(ColdmoveError, match="refused"):
        started(host, journal)
    assert host.passed == [SERVER]
    assert list(paths.STARTS_DIR.glob("*")) == []


def test_who_is_no_step_of_a_migration_has_no_pass(root: Path) -> None:
    assert started(Host(), None) == []
