# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a server is copied while it runs."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import precopy
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import GIB, a_disk, a_node, a_server

FILES: t.Any = [{"id": "vda", "kind": "disk", "way": "copy"}]
SOURCE: t.Any = a_node("a")


def choose(word: str = "auto", files: t.Any = None, source: t.Any = None, in_place: bool = False, **server: t.Any) -> precopy.Choice:
    facts: t.Any = a_server(**server)
    return precopy.choose(word, facts, FILES if files is None else files, source or SOURCE, in_place)


def test_a_running_server_is() -> None:
    for word in ("auto", "always"):
        choice = choose(word)
        assert (choice["precopy"], choice["reasons"], choice["error"]) == (True, [], "")


@pytest.mark.parametrize(
    ("case", "word"),
    [
        ({"state": "shutoff"}, "off"),
        ({"in_place": True}, "stays on its node"),
        ({"files": []}, "no disk"),
        ({"files": [{**FILES[0], "way": "blank"}]}, "no disk"),
        ({"source": a_node("a", facts={"libvirt_version": 7009000})}, "too old for synchronous writes (7.9, 8.0 is needed)"),
        ({"disks": [a_disk(internal_snapshots=2)]}, "snapshots within its image"),
        ({"disks": [a_disk(virtual_bytes=GIB + 1)]}, "no multiple of 512"),
    ],
)
def test_why_not(case: dict[str, t.Any], word: str) -> None:
    choice = choose(**case)
    assert not choice["precopy"]
    assert word in choice["reasons"][0]
    assert choice["error"] == ""  # by itself it is no reason to refuse the move
    assert word in choose("always", **case)["error"]


def test_what_does_not_cross_does_not_count() -> None:
    assert choose(disks=[a_disk(), a_disk("vdb", internal_snapshots=1)])["precopy"]


def test_never() -> None:
    choice = choose("never")
    assert (choice["precopy"], choice["error"]) == (False, "")
