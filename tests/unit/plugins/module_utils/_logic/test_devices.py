# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import devices, plan, prechecks, recovery

GIB = 1024**3
MOVE = "0f0f0f0f-0000-4000-8000-000000000000"
IMAGES = "/var/lib/libvirt/images"
SERVER_UUID = "11111111-2222-4333-8444-555555555555"


def a_disk(target="vda", **more):
    found = {"target": target, "device": "disk", "type": "block", "path": f"/dev/{target}x", "format": "raw", "role": "root", "moves": False, "chain": []}
    return {**found, "virtual_bytes": 10 * GIB, "allocated_bytes": 0, "size_bytes": 10 * GIB, "readonly": False, "shareable": False, **more}


def volume(target="vda", **more):
    return a_disk(target, path="/dev/vg0/web-root", logical_volume="vg0/web-root", identity=["dm:LVM-abc"], **more)


def planned(*disks, named=None, sizes=None, in_place=False):
    server = {"name": "web1", "uuid": SERVER_UUID, "disks": list(disks)}
    return plan.plan_files(server, IMAGES, "/srv/vm", MOVE, sizes=sizes, in_place=in_place, named=named)


# --- what operators write


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"vda": "/dev/sdb"}, {"vda": "/dev/sdb"}),
        ({"web1": {"vda": "/dev/sdb"}, "web2": {"vda": "/dev/sdc"}}, {"vda": "/dev/sdb"}),
        ({SERVER_UUID: {"vda": "/dev/sdb"}}, {"vda": "/dev/sdb"}),
        ({"vda": "/dev/any", "vdb": "/dev/other", "web1": {"vda": "/dev/own"}}, {"vda": "/dev/own", "vdb": "/dev/other"}),
        ("vda=/dev/sdb, web1/vdb=/dev/disk/by-id/x=1,web2/vdb=/dev/sdq", {"vda": "/dev/sdb", "vdb": "/dev/disk/by-id/x=1"}),
        ('{"web1": {"vda": "/dev/sdb"}}', {"vda": "/dev/sdb"}),
        ("", {}),
        (None, {}),
    ],
)
def test_the_device_of_each_disk(value, expected):
    assert devices.named_for({"name": "web1", "uuid": SERVER_UUID}, value) == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"vda": "sdb"}, "no device's path"),
        ({"vda": "/srv/sdb"}, "no device's path"),
        ({"vda": "/dev/../etc/passwd"}, "no device's path"),
        ({"vda": "/dev/sd\nb"}, "no device's path"),
        ({"web1": {"vda": ["/dev/sdb"]}}, "no device's path"),
        ({"../x": "/dev/sdb"}, "no disk's target"),
        ("vda", "no device's path"),
        ("=/dev/sdb", "no disk's target"),
        ("{vda", "it must be a mapping"),
        (["vda"], "it must be a mapping"),
        ("vda=/dev/sdb,vda=/dev/sdc", "disk vda has two devices"),
    ],
)
def test_what_is_no_device(value, words):
    with pytest.raises(ValueError, match=words):
        devices.parse(value)


@given(st.one_of(st.text(), st.dictionaries(st.text(), st.one_of(st.text(), st.dictionaries(st.text(), st.text())))))
def test_whatever_is_written_only_a_device_below_dev_comes_out(value):
    try:
        found = devices.parse(value)
    except ValueError:
        return
    for named in found.values():
        assert all(target.isalnum() and path.startswith("/dev/") and "/../" not in path for target, path in named.items())


# --- the plan


def test_a_volume_is_made_under_its_own_names():
    found = planned(volume())
    (file,) = found["files"]
    assert (found["errors"], found["directories"]) == ([], [])
    assert {key: file[key] for key in ("device", "volume", "thin_pool", "identity")} == {
        "device": "volume",
        "volume": "vg0/web-root",
        "thin_pool": "",
        "identity": ["dm:LVM-abc"],
    }
    # A device has one name: nothing is renamed, neither here nor there.
    assert file["source_path"] == file["held_path"] == file["dest_path"] == file["temp_path"] == "/dev/vg0/web-root"
    assert found["edits"] == {"disks": {"vda": "/dev/vg0/web-root"}, "devices": ["vda"], "formats": {}, "without": [], "nvram": None}
    assert found["bytes_total"] == 10 * GIB


@pytest.mark.parametrize(
    ("path", "dest"),
    [("/dev/mapper/vg0-web--root", "/dev/mapper/vg0-web--root"), ("/dev/dm-3", "/dev/vg0/web-root"), ("/dev/disk/by-id/x", "/dev/vg0/web-root")],
)
def test_a_name_that_means_another_device_elsewhere_is_not_used_there(path, dest):
    (file,) = planned({**volume(), "path": path})["files"]
    assert (file["source_path"], file["dest_path"]) == (path, dest)


def test_what_the_operator_names_comes_first():
    (file,) = planned(volume(), named={"vda": "/dev/sdb"})["files"]
    assert (file["device"], file["dest_path"], file["volume"], file["held_path"]) == ("named", "/dev/sdb", "", "/dev/vg0/web-root")


def test_all_that_has_no_device_there_is_told():
    disks = [a_disk(), a_disk("vdb", role="data"), a_disk("vdc", device="lun"), a_disk("vdd", internal_snapshots=1)]
    errors = planned(*disks, named={"vdd": "/dev/sdd"})["errors"]
    assert len(errors) == 4
    assert "disk vda is a block device" in errors[0] and "dest_devices=vda=" in errors[0]
    assert "disk vdb is a block device" in errors[1]
    assert "disk vdc is a whole SCSI device" in errors[2]
    assert "disk vdd (/dev/vddx) has snapshots inside its image" in errors[3]


def test_two_disks_do_not_get_one_device():
    assert planned(a_disk(), a_disk("vdb"), named={"vda": "/dev/sdb", "vdb": "/dev/sdb"})["errors"] == [
        "vda and vdb would become the same file on the dest: /dev/sdb"
    ]


def test_swap_is_made_anew_or_left_out():
    blank, dropped = volume(role="swap"), volume("vdb", role="swap")
    blank["path"] = "/dev/vg0/swap"
    found = planned(blank, dropped, sizes={"vda": GIB, "vdb": 0})
    assert [(file["way"], file["virtual_bytes"]) for file in found["files"]] == [("blank", GIB), ("drop", 10 * GIB)]
    assert (found["edits"]["devices"], found["edits"]["without"]) == (["vda"], ["vdb"])


def test_on_its_own_node_a_device_gets_no_device():
    (file,) = planned(volume(), in_place=True, sizes={"vda": 20 * GIB}, named={"vda": "/dev/sdb"})["files"]
    assert file["way"] == "overlay" and "device" not in file


def full(size):
    return size + size // 64


@pytest.mark.parametrize(
    ("image_format", "device", "size", "grow", "way", "expected"),
    [
        ("raw", "named", 10, 0, "copy", 10),
        ("raw", "named", 10, 20, "copy", 20),
        ("raw", "volume", 12, 0, "copy", 12),
        ("raw", "volume", 12, 20, "copy", 20),
        ("raw", "volume", 12, 0, "blank", 10),
        ("qcow2", "named", 6, 0, "copy", 6),
        ("qcow2", "named", 40, 0, "copy", full(10 * GIB) / GIB),
        ("qcow2", "volume", 40, 0, "copy", 40),
        ("qcow2", "volume", 6, 0, "copy", 6),
        ("qcow2", "volume", 6, 20, "copy", full(20 * GIB) / GIB),
        ("qcow2", "volume", 40, 20, "copy", 40),
        ("qcow2", "volume", 40, 0, "blank", full(10 * GIB) / GIB),
    ],
)
def test_what_a_device_must_have(image_format, device, size, grow, way, expected):
    file = {"format": image_format, "device": device, "way": way, "virtual_bytes": 10 * GIB, "size_bytes": size * GIB, "grow_to_bytes": grow * GIB}
    assert devices.device_bytes(file, full) == int(expected * GIB)


# --- the checks


def test_a_device_that_is_named_for_something_else_is_refused():
    server = {"name": "web1", "disks": [a_disk(), {**a_disk("vdb"), "type": "file"}, a_disk("hdc", device="cdrom", readonly=True)]}
    found = list(devices.refusals(server, {"vda": "/dev/a", "vdb": "/dev/b", "hdc": "/dev/c", "vdz": "/dev/z"}))
    assert len(found) == 3
    assert "for disk vdb, which is no writable block device (a file)" in found[0]
    assert "for disk hdc, which is no writable block device (read-only)" in found[1]
    assert "for disk vdz, which the server has not" in found[2]
    assert prechecks.devices_named in prechecks.SOURCE_CHECKS and prechecks.devices_fit in prechecks.DEST_CHECKS


def test_what_the_dest_says_of_devices_is_told_and_devices_take_no_room_of_its_file_systems():
    files = planned(volume())["files"]
    answers = {"device_problems": ["disk vda: too small"], "free_bytes": {"/dev/vg0": 1}}
    move = prechecks.Move({}, {"name": "kvm1"}, {"name": "kvm2"}, answers, files, (), {})
    assert list(prechecks.devices_fit(move)) == ["kvm2: disk vda: too small"]
    assert list(prechecks.enough_space(move)) == []


# --- recovery


def decided(there):
    files = planned(volume())["files"]
    record = {"uuid": MOVE, "status": "confirming", "source_host": "kvm1", "dest_host": "kvm2", "files": files, "old_power_state": "shutoff"}
    held = {"domain": "absent", "held": True, "files": {"vda": "held"}}
    return recovery.decide(record, held, {"domain": "defined", "started": True, "files": {"vda": there}})["decision"]


@pytest.mark.parametrize(("there", "decision"), [("final", "resume_confirm"), ("temp", "blocked"), ("source", "blocked"), ("missing", "blocked")])
def test_a_device_of_the_same_name_is_no_copy(there, decision):
    """The held one is deleted only if the dest's is known to be complete: of a file its name would say so."""
    assert decided(there) == decision
