# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files cross, and under which names."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.plan import edits_of, mapped_path, plan_files, refusals
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import GIB, MOVE, a_disk, a_server

IMAGES = "/var/lib/libvirt/images"


def planned(server: dict, source: str = IMAGES, dest: str = IMAGES, **more) -> dict:
    """The plan of one server."""
    return plan_files(server, source, dest, MOVE, **more)


def swap(target: str = "vdb", **more) -> dict:
    """A swap disk of 1 GiB."""
    return a_disk(target, f"{IMAGES}/{target}.swap", **{"role": "swap", "format": "raw", "virtual_bytes": GIB, "allocated_bytes": GIB, **more})


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


# --- other sizes on another node


def test_a_disk_that_grows_crosses_as_it_is_and_is_grown_there():
    plan = planned(a_server(disks=[a_disk(), a_disk("vdb", f"{IMAGES}/b"), swap("vdc")]), sizes={"vda": 20 * GIB, "vdb": 10 * GIB, "vdc": 2 * GIB})
    assert [(file["way"], file["grow_to_bytes"], file["virtual_bytes"]) for file in plan["files"]] == [
        ("copy", 20 * GIB, 10 * GIB),
        ("copy", 0, 10 * GIB),
        ("blank", 0, 2 * GIB),
    ]
    assert plan["bytes_total"] == 2 * GIB


def test_swap_of_size_0_is_dropped_from_the_definition():
    plan = planned(a_server(disks=[a_disk(), swap()]), sizes={"vdb": 0})
    assert plan["files"][1]["way"] == "drop"
    assert plan["edits"] == {"disks": {"vda": f"{IMAGES}/web1.qcow2"}, "devices": [], "formats": {}, "without": ["vdb"], "nvram": None}
    assert plan["errors"] == []


def test_nothing_is_ever_shrunk():
    assert planned(a_server(), sizes={"vda": GIB})["files"][0]["grow_to_bytes"] == 0


# --- on the same node


def in_place(*disks: dict, sizes: dict | None = None, **more) -> dict:
    """The plan of a resize on the same node."""
    return planned(a_server(disks=list(disks) or [a_disk()], **more), sizes=sizes, in_place=True)


def test_a_disk_keeps_its_file_and_gets_an_overlay_on_top_of_it():
    plan = in_place(sizes={"vda": 20 * GIB})
    overlay = f"{IMAGES}/web1.qcow2.coldmove-{MOVE}"
    assert plan["errors"] == []
    assert plan["files"] == [
        {
            "id": "vda",
            "kind": "disk",
            "format": "qcow2",
            "way": "overlay",
            "grow_to_bytes": 20 * GIB,
            "source_path": f"{IMAGES}/web1.qcow2",
            "held_path": f"{IMAGES}/web1.qcow2",
            "dest_path": overlay,
            "temp_path": f"{overlay}.new",
            "size_bytes": GIB + 4096,
            "virtual_bytes": 10 * GIB,
            "allocated_bytes": GIB,
        }
    ]
    assert plan["bytes_total"] == 0
    assert plan["directories"] == []
    assert plan["edits"] == {"disks": {"vda": overlay}, "devices": [], "formats": {"vda": "qcow2"}, "without": [], "nvram": None}


def test_a_raw_disk_gets_an_overlay_too_and_the_definition_says_that_it_is_qcow2():
    plan = in_place(a_disk(format="raw"))
    assert (plan["files"][0]["format"], plan["edits"]["formats"]) == ("raw", {"vda": "qcow2"})


def test_an_overlay_has_at_least_the_size_of_its_disk():
    for sizes in (None, {}, {"vda": 10 * GIB}, {"vda": GIB}):
        assert in_place(sizes=sizes)["files"][0]["grow_to_bytes"] == 10 * GIB


def test_swap_is_replaced_dropped_or_left_alone():
    found = in_place(a_disk(), swap("vdb"), swap("vdc"), swap("vdd"), sizes={"vdb": 2 * GIB, "vdc": 0})
    files = {file["id"]: file for file in found["files"]}
    assert {name: file["way"] for name, file in files.items()} == {"vda": "overlay", "vdb": "replace", "vdc": "drop"}
    blank = files["vdb"]
    assert (blank["virtual_bytes"], blank["grow_to_bytes"], blank["format"]) == (2 * GIB, 0, "raw")
    assert blank["source_path"] == blank["dest_path"] == f"{IMAGES}/vdb.swap"
    assert blank["held_path"] == f"{IMAGES}/vdb.swap.coldmove-held-{MOVE}"
    assert found["edits"]["without"] == ["vdc"]
    assert found["edits"]["disks"] == {"vda": files["vda"]["dest_path"], "vdb": f"{IMAGES}/vdb.swap"}
    assert found["edits"]["formats"] == {"vda": "qcow2"}


def test_nvram_and_what_the_guest_cannot_write_stay_as_they_are():
    nvram = {"path": "/var/lib/libvirt/qemu/nvram/web1_VARS.fd", "template": "/t", "size_bytes": 540672, "allocated_bytes": 540672}
    config = a_disk("sda", f"{IMAGES}/disk.config", device="cdrom", format="raw", role="config_drive", readonly=True)
    media = a_disk("sdb", "/iso/x.iso", device="cdrom", format="raw", readonly=True, moves=False)
    remote = a_disk("vdb", "rbd:pool/x", type="network", moves=False)
    found = in_place(a_disk(), config, media, remote, nvram=nvram)
    assert ([file["id"] for file in found["files"]], found["errors"]) == (["vda"], [])
    assert found["edits"]["nvram"] is None


def test_a_backing_chain_is_no_reason_on_the_same_node():
    assert in_place(a_disk(chain=[{"path": "/base.qcow2", "format": "qcow2"}]))["errors"] == []


DEVICE = {"path": "/dev/vg/web1", "type": "block", "format": "raw", "moves": False}


def test_an_overlay_stands_on_a_block_device_too_in_the_instances_path():
    found = in_place(a_disk("vdb", **DEVICE), sizes={"vdb": 20 * GIB})
    (file,) = found["files"]
    overlay = f"{IMAGES}/vdb.coldmove-{MOVE}"
    assert (found["errors"], file["way"], file["format"], file["grow_to_bytes"]) == ([], "overlay", "raw", 20 * GIB)
    assert (file["source_path"], file["held_path"], file["dest_path"]) == ("/dev/vg/web1", "/dev/vg/web1", overlay)
    assert found["edits"] == {"disks": {"vdb": overlay}, "devices": [], "formats": {"vdb": "qcow2"}, "without": [], "nvram": None}


@pytest.mark.parametrize("change", [{"readonly": True}, {"role": "swap"}])
def test_a_block_device_that_stays_as_it_is_gets_none(change):
    found = in_place(a_disk(), a_disk("vdb", **DEVICE, **change))
    assert ([file["id"] for file in found["files"]], found["errors"]) == (["vda"], [])


def test_no_overlay_stands_on_a_whole_scsi_device():
    (error,) = in_place(a_disk(), a_disk("sda", device="lun", **DEVICE))["errors"]
    assert "sda is a whole SCSI device (/dev/vg/web1)" in error


@pytest.mark.parametrize(("change", "word"), [({"format": "vmdk"}, "vmdk"), ({"shareable": True}, "shareable"), ({"size_bytes": None}, "could not be read")])
def test_a_disk_that_can_have_no_overlay_is_refused_and_not_planned(change, word):
    plan = in_place(a_disk(**change))
    assert plan["files"] == []
    (error,) = plan["errors"]
    assert word in error


def test_the_name_of_the_overlay_may_be_too_long_too():
    (error,) = in_place(a_disk(path=f"{IMAGES}/{'x' * 206}"))["errors"]
    assert "too long" in error


def test_edits_of_the_files_that_a_record_keeps():
    server = a_server(disks=[a_disk(), swap()], nvram={"path": "/n", "template": None, "size_bytes": 5})
    plan = planned(server, IMAGES, "/srv/vm")
    assert (
        edits_of(plan["files"])
        == plan["edits"]
        == {"disks": {"vda": "/srv/vm/web1.qcow2", "vdb": "/srv/vm/vdb.swap"}, "devices": [], "formats": {}, "without": [], "nvram": "/n"}
    )
    assert edits_of([]) == {"disks": {}, "devices": [], "formats": {}, "without": [], "nvram": None}


@given(
    st.lists(
        st.tuples(names, st.sampled_from(["root", "data", "swap"]), st.sampled_from([0, GIB, 30 * GIB])), min_size=1, max_size=6, unique_by=lambda one: one[0]
    )
)
def test_on_the_same_node_a_disk_is_never_renamed_and_every_new_name_is_its_own(parts):
    disks = [a_disk(f"vd{index}", f"/i/{name}", role=role) for index, (name, role, _size) in enumerate(parts)]
    sizes = {f"vd{index}": size for index, (_name, role, size) in enumerate(parts) if size or role == "swap"}
    plan = in_place(*disks, sizes=sizes)
    assert not plan["errors"]
    new = [path for file in plan["files"] for path in {file["held_path"], file["dest_path"], file["temp_path"]} - {file["source_path"]}]
    assert len(set(new)) == len(new)
    assert all(MOVE in path and posixpath.dirname(path) == "/i" for path in new)
    for file in plan["files"]:
        assert (file["way"] == "overlay") == (file["held_path"] == file["source_path"])
        assert file["way"] in ("overlay", "replace", "drop")
        assert file["grow_to_bytes"] >= (file["virtual_bytes"] if file["way"] == "overlay" else 0)
        # The definition follows: nothing but an overlay has another path, and what is dropped is named once.
        assert (file["id"] in plan["edits"]["without"]) == (file["way"] == "drop") == (file["id"] not in plan["edits"]["disks"])
