# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files cross, and under which names."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.plan import mapped_path, plan_files, refusals
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import GIB, MOVE, a_disk, a_server

IMAGES = "/var/lib/libvirt/images"


def planned(server: dict, source: str = IMAGES, dest: str = IMAGES) -> dict:
    """The plan of one server."""
    return plan_files(server, source, dest, MOVE)


def test_the_names_of_one_disk():
    plan = planned(a_server(), IMAGES, "/srv/vm")
    assert plan["errors"] == []
    assert plan["files"] == [
        {
            "id": "vda",
            "kind": "disk",
            "format": "qcow2",
            "way": "copy",
            "grow_to_bytes": 0,
            "source_path": f"{IMAGES}/web1.qcow2",
            "held_path": f"{IMAGES}/web1.qcow2.coldmove-held-{MOVE}",
            "dest_path": "/srv/vm/web1.qcow2",
            "temp_path": f"/srv/vm/web1.qcow2.coldmove-{MOVE}",
            "size_bytes": GIB + 4096,
            "virtual_bytes": 10 * GIB,
            "allocated_bytes": GIB,
        }
    ]
    assert plan["bytes_total"] == GIB
    assert plan["directories"] == []


@pytest.mark.parametrize(
    ("path", "source", "dest", "expected"),
    [
        ("/i/x/disk", "/i", "/j", "/j/x/disk"),
        ("/i/x/disk", "/i/", "/j/", "/j/x/disk"),
        ("/i/../i/x", "/i", "/j", "/j/x"),
        ("/instances/x", "/i", "/j", "/instances/x"),
        ("/i/../etc/x", "/i", "/j", "/etc/x"),
        ("/else/x", "/i", "/j", "/else/x"),
        ("/x", "/", "/j", "/j/x"),
    ],
)
def test_paths_are_mapped_by_instances_path_only(path, source, dest, expected):
    assert mapped_path(path, source, dest) == expected


@given(st.lists(st.sampled_from(["..", ".", "a", "b c", "ü", "-x"]), min_size=1, max_size=6))
def test_no_path_escapes_from_where_it_was(parts):
    path = posixpath.normpath("/i/" + "/".join(parts))
    mapped = mapped_path(path, "/i", "/j")
    assert mapped == path or (path.startswith("/i/") and mapped.startswith("/j/") and mapped[3:] == path[3:])


def test_a_disk_elsewhere_keeps_its_path_and_dest_must_have_the_directory():
    plan = planned(a_server(disks=[a_disk(path="/data/web1.raw", format="raw")]), IMAGES, "/srv/vm")
    assert plan["files"][0]["dest_path"] == "/data/web1.raw"
    assert plan["directories"] == ["/data"]


def test_case_4_swap_does_not_cross():
    swap = a_disk("vdb", f"{IMAGES}/disk.swap", role="swap", format="raw", virtual_bytes=GIB, allocated_bytes=GIB)
    plan = planned(a_server(disks=[a_disk(), swap]))
    assert [file["way"] for file in plan["files"]] == ["copy", "blank"]
    assert plan["files"][1]["virtual_bytes"] == GIB
    assert plan["bytes_total"] == GIB


def test_media_and_network_disks_stay():
    media = a_disk("sda", "/iso/x.iso", device="cdrom", format="raw", moves=False)
    remote = a_disk("vdb", "rbd:pool/x", type="network", moves=False)
    assert [file["id"] for file in planned(a_server(disks=[a_disk(), media, remote]))["files"]] == ["vda"]


def test_nvram_goes_to_the_same_path():
    nvram = {"path": "/var/lib/libvirt/qemu/nvram/web1_VARS.fd", "template": "/t", "size_bytes": 540672, "allocated_bytes": 540672}
    file = planned(a_server(nvram=nvram), IMAGES, "/srv/vm")["files"][1]
    assert (file["id"], file["kind"], file["format"], file["size_bytes"]) == ("nvram", "nvram", "raw", 540672)
    assert file["source_path"] == file["dest_path"] == nvram["path"]


def test_an_nvram_that_does_not_exist_yet_is_not_planned():
    assert len(planned(a_server(nvram={"path": "/n", "template": "/t", "size_bytes": 0}))["files"]) == 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"format": "vmdk"}, "vmdk"),
        ({"format": None}, "not named"),
        ({"path": None}, "no absolute path"),
        ({"path": "web1.raw"}, "no absolute path"),
        ({"type": "block"}, "block device"),
        ({"shareable": True}, "shareable"),
        ({"chain": [{"path": "/base.qcow2", "format": "qcow2"}]}, "/base.qcow2"),
        ({"size_bytes": None}, "could not be read"),
    ],
)
def test_a_disk_that_cannot_be_carried_is_refused_and_not_planned(change, word):
    plan = planned(a_server(disks=[a_disk(**change)]))
    assert plan["files"] == []
    assert len(plan["errors"]) == 1
    assert word in plan["errors"][0]


def test_what_the_domain_facts_refuse_is_not_said_twice():
    server = a_server(disks=[a_disk(format="vmdk"), a_disk("vdb", "/b", format="vmdk")], blockers=["disk vda has the format vmdk"])
    (error,) = planned(server)["errors"]
    assert error.startswith("disk vdb")


def test_a_disk_that_is_not_in_the_plan_is_a_reason():
    (error,) = refusals(a_server(), [])
    assert "not among the files" in error


@pytest.mark.parametrize("letter", ["x", "ü", "日"])
def test_a_name_that_gets_too_long_is_refused_by_its_bytes(letter):
    suffix = len(f".coldmove-held-{MOVE}")
    longest = "x" * ((255 - suffix) % len(letter.encode())) + letter * ((255 - suffix) // len(letter.encode()))
    assert planned(a_server(disks=[a_disk(path=f"{IMAGES}/{longest}")]))["errors"] == []
    (error,) = planned(a_server(disks=[a_disk(path=f"{IMAGES}/{longest}x")]))["errors"]
    assert "256 bytes of at most 255" in error


def test_two_disks_with_one_destination_are_refused():
    plan = planned(a_server(disks=[a_disk("vda", "/i/x"), a_disk("vdb", "/j/x")]), "/i", "/j")
    assert plan["errors"] == ["vda and vdb would become the same file on the dest: /j/x"]


def test_two_disks_with_one_file_are_refused():
    assert any("same file on the source" in error for error in planned(a_server(disks=[a_disk(), a_disk("vdb")]))["errors"])


names = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=40).filter(lambda name: name not in (".", ".."))


@given(st.lists(names, min_size=1, max_size=6, unique=True))
def test_every_name_of_a_move_is_its_own(parts):
    plan = planned(a_server(disks=[a_disk(f"vd{index}", f"/i/{part}") for index, part in enumerate(parts)]), "/i", "/j")
    paths = [file[key] for file in plan["files"] for key in ("source_path", "held_path", "dest_path", "temp_path")]
    assert not plan["errors"]
    assert len(set(paths)) == len(paths)
    for file in plan["files"]:
        # A rename within one directory is atomic; across two it is not.
        assert posixpath.dirname(file["held_path"]) == posixpath.dirname(file["source_path"])
        assert posixpath.dirname(file["temp_path"]) == posixpath.dirname(file["dest_path"])
        assert MOVE in file["held_path"]
        assert MOVE in file["temp_path"]
