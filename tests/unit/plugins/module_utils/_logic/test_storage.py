# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who sees the same storage: proven by what was read, never by a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import storage

HOSTS = ("a", "b", "c", "d")
DIRECTORIES = ("/srv/x", "/srv/y", "/var/lib/libvirt/images")

#: A world: which real storage each node has at each path.
worlds = st.dictionaries(st.sampled_from(HOSTS), st.dictionaries(st.sampled_from(DIRECTORIES), st.integers(0, 3), min_size=1), min_size=1)


@given(worlds, st.sets(st.sampled_from(HOSTS)), st.booleans())
def test_seen_by_are_those_with_the_same_storage_at_the_same_path_and_no_others(world, silent, copied):
    words = {host: {directory: f"{host}{directory}" for directory in paths} for host, paths in world.items()}
    stale = "an older word, of a copy" if copied else None

    def reads(reader: str, host: str, directory: str) -> list[str]:
        if world[reader].get(directory) == world[host][directory]:
            return [words[host][directory]] + ([stale] if stale else [])
        return [stale] if stale else []

    read = {
        reader: {host: {directory: reads(reader, host, directory) for directory in words[host]} for host in world} for reader in world if reader not in silent
    }
    found = storage.identities(words, read)
    for host, paths in world.items():
        for directory, real in paths.items():
            expected = [other for other in sorted(world) if other != host and other not in silent and world[other].get(directory) == real]
            assert found[host][directory] == {"identity": words[host][directory], "seen_by": expected}


def test_a_directory_without_a_word_is_not_known():
    assert storage.identities({"a": {"/srv/x": ""}, "b": {}}, {"b": {"a": {"/srv/x": []}}}) == {"a": {}, "b": {}}


KNOWN: storage.Identity = {"identity": "w1", "seen_by": ["b"]}


@pytest.mark.parametrize(
    ("known", "words", "node", "same"),
    [
        (KNOWN, ["w1"], "b", True),
        (KNOWN, ["w2", "w1"], "b", True),  # a sync was killed before it could keep the new word
        (KNOWN, ["w2"], "b", False),
        (KNOWN, [], "b", False),
        (KNOWN, None, "b", False),
        (KNOWN, ["w1"], "c", False),  # a copy, or mounted later: it did not see the word when it was written
        (None, ["w1"], "b", False),
        ({"identity": "", "seen_by": ["b"]}, [""], "b", False),
    ],
)
def test_the_same_storage_at_the_evacuation(known, words, node, same):
    assert storage.is_same(known, words, node) is same


def disk(path: str | None, **more):
    return {"target": "vda", "type": "file", "path": path, "moves": True, **more}


def test_directories_of_a_server():
    facts = {
        "disks": [
            disk("/srv/x/a.qcow2", chain=[{"path": "/srv/base/b.qcow2", "format": "qcow2"}]),
            disk("/dev/vg/a", type="block", target="vdb"),
            disk("/dev/vg/b", type="volume", target="vdc"),
            disk(None, type="network"),
            disk("/iso/medium.iso", moves=False),
        ],
        "nvram": {"path": "/var/lib/libvirt/qemu/nvram/a.fd"},
    }
    assert storage.directories(facts) == ["/srv/base", "/srv/x", "/var/lib/libvirt/qemu/nvram"]
    assert storage.devices(facts) == ["vdb", "vdc"]
    assert storage.directories({}) == []


def test_a_server_is_shared_with_those_who_see_all_of_it():
    facts = {"disks": [disk("/srv/x/a"), disk("/srv/y/b")]}
    known = {"/srv/x": {"identity": "1", "seen_by": ["b", "c"]}, "/srv/y": {"identity": "2", "seen_by": ["c", "d"]}}
    assert storage.sharing(facts, known) == (["c"], [])
    assert storage.sharing(facts, {"/srv/x": known["/srv/x"]}) == ([], ["/srv/y"])
    with_device = {"disks": [*facts["disks"], disk("/dev/sdb", type="block")]}
    assert storage.sharing(with_device, known) == ([], [])


@given(st.text(min_size=1))
def test_no_name_of_a_node_leads_out_of_the_directory(host):
    assert storage.file_of(host, "/srv/x").rpartition("/")[0] == "/srv/x"
