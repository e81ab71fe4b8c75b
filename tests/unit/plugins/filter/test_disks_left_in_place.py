# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which disks do not move because both nodes have them: only on proof of before and of now."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.filter import disks_left_in_place, plan_files
from ansible_collections.coldmove.libvirt.tests.unit.plugins.filter.test_doors import Odd, door, is_plain
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import MOVE, a_disk, a_server

STORE, LOCAL = "/srv/store", "/var/lib/libvirt/images"
KNOWN = {"a": {STORE: {"identity": "w0rd", "seen_by": ["b"]}, LOCAL: {"identity": "0wn", "seen_by": []}}}
SHARED, OTHER = a_disk("vda", f"{STORE}/x.qcow2"), a_disk("vdb", f"{LOCAL}/y.qcow2", role="data")


def read(*, at_a: t.Any = ("w0rd",), at_b: t.Any = ("w0rd",)) -> dict[str, t.Any]:
    return {"a": {"a": {STORE: list(at_a), LOCAL: ["0wn"]}}, "b": {"a": {STORE: list(at_b), LOCAL: []}}}


def left(*disks: t.Any, known: t.Any = None, words: t.Any = None, **more: t.Any) -> dict[str, t.Any]:
    server = {**a_server(1), "disks": list(disks), "external_files": ["/iso"], "blockers": more.pop("blockers", [])}
    answer = door(disks_left_in_place)(server, KNOWN if known is None else known, words or read(), source_host=Odd("a"), dest_host="b", **more)
    assert is_plain(answer)
    return t.cast("dict[str, t.Any]", answer)


def test_what_both_see_stays_and_must_be_there_and_the_rest_moves() -> None:
    server = left(SHARED, OTHER)
    assert [disk.get("moves", True) for disk in server["disks"]] == [False, True]
    assert server["external_files"] == ["/iso", f"{STORE}/x.qcow2"]
    plan = door(plan_files)(server, LOCAL, LOCAL, MOVE)
    assert ([file["id"] for file in plan["files"]], plan["errors"]) == (["vdb"], [])


@pytest.mark.parametrize(
    "more",
    [
        {"known": {}},
        {"known": {"a": {STORE: {"identity": "w0rd", "seen_by": ["c"]}}}},
        {"words": read(at_b=[])},
        {"words": read(at_b=["another"])},
        {"words": read(at_a=[])},  # the source has something else there by now
        {"sizes": {"vda": 1}},
        {"blockers": ["disk vda keeps its data in another file"]},
    ],
)
def test_on_any_doubt_it_moves(more: dict[str, t.Any]) -> None:
    assert left(SHARED, **more)["disks"] == [SHARED]


@pytest.mark.parametrize("odd", [{"link_to": "/elsewhere"}, {"chain": [{"path": f"{STORE}/base"}]}, {"type": "volume"}, {"type": "block"}, {"moves": False}])
def test_what_is_more_than_one_plain_file_is_as_it_was(odd: dict[str, t.Any]) -> None:
    server = left({**SHARED, **odd})
    assert (server["disks"], server["external_files"]) == ([{**SHARED, **odd}], ["/iso"])


def test_both_nodes_must_have_been_asked() -> None:
    for node in ("a", "b"):
        with pytest.raises(AnsibleFilterError, match=f"nothing was read on {node}"):
            left(SHARED, words={other: words for other, words in read().items() if other != node})
