# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every pre-check alone, and all of them at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import prechecks
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.plan import plan_files
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import ACTIVE, STATUSES
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import (
    GIB,
    MOVE,
    a_disk,
    a_domain,
    a_migration,
    a_node,
    a_server,
    a_silent_node,
)

IMAGES = "/var/lib/libvirt/images"
FINE = {
    "leftovers": [],
    "missing": [],
    "unmet": [],
    "collisions": [],
    "free_bytes": {IMAGES: 50 * GIB},
    "same_filesystem": {IMAGES: "1"},
    "cpu": "compatible",
    "emulator_ok": True,
    "define_error": None,
}


def blockers(server=None, source=None, dest=None, answers=None, migrations=(), **options) -> list[str]:
    """All reasons of one move from a to b."""
    server = server or a_server()
    files = plan_files(server, IMAGES, IMAGES, MOVE)["files"]
    return prechecks.move_blockers(
        server, source or a_node("a", [a_domain(1)]), dest or a_node("b"), {**FINE, **(answers or {})}, files, migrations=migrations, options=options
    )


def test_nothing_speaks_against_a_sound_move():
    assert blockers() == []
    assert blockers(a_server(state="shutoff")) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source": a_silent_node("a")}, ["source a does not answer (No route to host)", "coldmove.libvirt.evacuate -e failed_host=a"]),
        (
            {"source": a_node("a", facts={"prepared": False, "not_prepared": ["x is missing"]})},
            ["source a is not prepared (x is missing)", "coldmove.libvirt.prepare"],
        ),
        ({"dest": a_node("b", facts={"machine_id": "machine-a"})}, ["same machine under two names"]),
        ({"dest": a_node("a")}, ["the server is on a already"]),
        ({"server": a_server(locked={"by": "ann", "reason": "audit"})}, ["locked by ann (audit)"]),
        ({"server": a_server(state="paused")}, ["the server is paused on a"]),
        ({"server": a_server(state="paused", blockers=["is paused; only a running or a shut-off server is moved"])}, ["on a the server is paused;"]),
        ({"server": a_server(blockers=["disk vdb is a block device"])}, ["a: disk vdb is a block device"]),
        ({"server": a_server(disks=[a_disk(shareable=True)])}, ["shareable"]),
        ({"dest": a_node("b", maintenance=True)}, ["b: maintenance"]),
        ({"dest": a_node("b", facts={"memory_mb": 1024})}, ["b: 1024 MiB of memory needed, 512 free"]),
        ({"dest": a_silent_node("b")}, ["b: does not answer: No route to host"]),
        ({"answers": {"leftovers": [f"{IMAGES}/web1.qcow2"]}}, [f"{IMAGES}/web1.qcow2 exists on b already", "nothing is overwritten"]),
        ({"answers": {"collisions": ["name web1 belongs to another domain here"]}}, ["b: name web1 belongs"]),
        ({"answers": {"missing": ["/iso/x.iso"]}}, ["/iso/x.iso is missing on b"]),
        ({"answers": {"unmet": ["network lan is not active"]}}, ["b: network lan is not active"]),
        ({"answers": {"free_bytes": {IMAGES: GIB}}}, ["not enough free space on b", "1.0 GiB needed, 1.0 GiB free"]),
        ({"answers": {"cpu": "incompatible: no avx2"}}, ["CPU of b is not compatible with the server's: no avx2"]),
        ({"answers": {"emulator_ok": False}}, ["emulator"]),
        ({"answers": {"emulator_ok": False, "define_error": "unsupported machine"}}, ["does not take the definition: unsupported machine"]),
        ({"channel_error": "Permission denied"}, ["data channel from a to b does not open: Permission denied", "coldmove.libvirt.ssh_trust"]),
    ],
)
def test_one_thing_wrong_is_one_reason(arguments, words):
    reasons = blockers(**arguments)
    assert len(reasons) == 1, reasons
    for word in words:
        assert word in reasons[0]


def test_cold_boot_does_not_need_a_known_cpu():
    assert blockers(answers={"cpu": "unknown: host-passthrough"}) == []


def test_all_reasons_of_both_ends_at_once():
    reasons = blockers(
        server=a_server(locked={"by": None, "reason": None}, blockers=["has a managed-save image"]),
        dest=a_node("b", maintenance=True),
        answers={"leftovers": ["/x"], "missing": ["/y"], "cpu": "incompatible"},
        channel_error="refused",
    )
    assert len(reasons) == 7


def test_what_the_dest_was_asked_is_not_asked_of_older_facts():
    dest = a_node("b", [a_domain(2, "web1")], {"networks": []})
    assert blockers(dest=dest) == []
    without = {key: value for key, value in FINE.items() if key not in ("unmet", "collisions")}
    files = plan_files(a_server(), IMAGES, IMAGES, MOVE)["files"]
    assert len(prechecks.move_blockers(a_server(), a_node("a"), dest, without, files)) == 2


@pytest.mark.parametrize("status", STATUSES)
def test_case_70_another_migration_of_the_server(status):
    other = a_migration(1, status, started_by="ann")
    reasons = blockers(migrations=[other, a_migration(2, "migrating")])
    assert len(reasons) == (1 if status in ACTIVE else 0)
    if reasons:
        assert "migration 1 of this server (a to b)" in reasons[0]
        assert f"status {status}, started by ann, since 2026-01-01T00:00:01+00:00" in reasons[0]
        assert "ansible-playbook coldmove.libvirt." in reasons[0]


def test_the_move_itself_is_not_in_its_own_way():
    own = a_migration(1, "accepted", need={"vcpus": 1, "memory_mb": 16384, "disk_bytes": GIB}, source_need=None)
    assert blockers(migrations=[own], own_migration=own["uuid"], need=own["need"]) == []
    assert len(blockers(migrations=[{**own, "server_uuid": "another"}])) == 1


def test_a_resize_asks_for_its_new_size():
    assert "30000 MiB of memory needed" in blockers(need={"vcpus": 1, "memory_mb": 30000, "disk_bytes": 0})[0]


def two_disks(first: str, second: str) -> dict:
    """A server with a disk of 1 GiB in each directory."""
    return a_server(disks=[a_disk("vda", f"{first}/a"), a_disk("vdb", f"{second}/b")])


def test_space_is_summed_by_file_system():
    enough_for_one = {"free_bytes": {"/x": 1536 * 1024**2, "/y": 1536 * 1024**2}}
    assert blockers(two_disks("/x", "/y"), answers={**enough_for_one, "same_filesystem": {"/x": "1", "/y": "2"}}) == []
    (reason,) = blockers(two_disks("/x", "/y"), answers={**enough_for_one, "same_filesystem": {"/x": "1", "/y": "1"}})
    assert "/x, /y" in reason
    # Not told which is which, the same free space is taken for the same file system.
    assert len(blockers(two_disks("/x", "/y"), answers={**enough_for_one, "same_filesystem": None})) == 1


def test_space_counts_what_is_really_written():
    swap = a_disk("vdb", f"{IMAGES}/disk.swap", role="swap", allocated_bytes=40 * GIB)
    sparse = a_disk(virtual_bytes=1000 * GIB, allocated_bytes=GIB)
    node = a_node("b", disk_allocation_ratio=100.0)
    assert blockers(a_server(disks=[sparse, swap]), dest=node, answers={"free_bytes": {IMAGES: 2 * GIB}}) == []


@given(st.text())
def test_hostile_text_from_nodes_is_shown_safely(text):
    for reason in blockers(answers={"leftovers": [text], "missing": [text], "define_error": text}, channel_error=text):
        assert "\x1b" not in reason
        assert "\n" not in reason


def test_without_a_dest_the_reasons_of_server_and_source_are_told():
    server = a_server(locked={"by": "ann", "reason": None}, blockers=["has a managed-save image"])
    reasons = prechecks.source_blockers(server, a_node("a", [], {"prepared": False}), [], [a_migration(1, "finished")])
    assert [word for word in ("locked", "managed-save", "not prepared", "migration 1") if not any(word in reason for reason in reasons)] == []
    assert prechecks.source_blockers(a_server(), a_node("a"), plan_files(a_server(), IMAGES, IMAGES, MOVE)["files"]) == []


def test_every_check_is_in_the_one_list():
    named = {check.__name__ for check in prechecks.CHECKS}
    generators = {name for name, value in vars(prechecks).items() if callable(value) and getattr(value, "__annotations__", {}).get("move") == "Move"}
    assert {name for name in generators if not name.startswith("_")} == named


# --- on the same node


def stays(server=None, answers=None, node=None, sizes=None, **options) -> list[str]:
    """All reasons against a resize on a."""
    server = server or a_server()
    files = plan_files(server, IMAGES, IMAGES, MOVE, sizes=sizes, in_place=True)["files"]
    node = node or a_node("a", [a_domain(1)])
    return prechecks.move_blockers(server, node, node, {**FINE, **(answers or {})}, files, options={"in_place": True, **options})


def test_nothing_speaks_against_a_sound_resize_on_the_same_node():
    need = {"vcpus": 2, "memory_mb": 2048, "disk_bytes": 20 * GIB}
    assert stays(sizes={"vda": 20 * GIB}, need=need) == []


def test_what_ties_a_server_to_its_node_forbids_only_to_leave_it():
    tied = a_server(node_ties=["has a TPM, whose state is not yet moved by this version", "uses a device of this node: pci 0000:01:00.0"])
    assert stays(tied) == []
    reasons = blockers(tied)
    assert [reason.startswith("on a the server") for reason in reasons] == [True, True]
    assert prechecks.source_blockers(tied, a_node("a"), [], options={"in_place": True}) != prechecks.source_blockers(tied, a_node("a"), [])


def test_a_backing_chain_is_told_once_and_only_of_a_move():
    chained = a_server(disks=[a_disk(chain=[{"path": "/base", "format": "raw"}])], node_ties=["disk vda has a backing chain (/base)"])
    assert stays(chained) == []
    assert len(blockers(chained)) == 1


def test_blockers_locks_and_other_migrations_forbid_it_as_well():
    server = a_server(blockers=["has snapshots: before"], locked={"by": "ann", "reason": "audit"}, state="paused")
    files = plan_files(server, IMAGES, IMAGES, MOVE, in_place=True)["files"]
    node = a_node("a", [a_domain(1)])
    assert len(prechecks.move_blockers(server, node, node, FINE, files, migrations=[a_migration(1, "finished")], options={"in_place": True})) == 4


def test_a_block_device_is_no_reason_on_the_same_node():
    lvm = a_disk("vdb", "/dev/vg/web1", type="block", format="raw", moves=False)
    assert stays(a_server(disks=[a_disk(), lvm], node_ties=["disk vdb is the block device /dev/vg/web1"])) == []


def test_the_node_is_asked_for_what_the_server_grows_by():
    need = {"vcpus": 1, "memory_mb": 16384, "disk_bytes": 10 * GIB}
    assert stays(need=need) == []
    (reason,) = stays(node=a_node("a", [a_domain(1), a_domain(2)]), need=need)
    assert "a: 15360 MiB of memory needed, 14336 free" in reason


def test_an_overlay_must_find_room_for_all_that_the_guest_may_write():
    (reason,) = stays(answers={"free_bytes": {IMAGES: 20 * GIB}}, sizes={"vda": 20 * GIB}, need={"vcpus": 1, "memory_mb": 1024, "disk_bytes": 30 * GIB})
    assert "not enough free space on a" in reason
    swap = a_disk("vdb", f"{IMAGES}/swap", role="swap", format="raw", virtual_bytes=40 * GIB)
    assert stays(a_server(disks=[a_disk(virtual_bytes=GIB), swap]), {"free_bytes": {IMAGES: 2 * GIB}}, sizes={"vdb": 0}) == []
    assert stays(a_server(disks=[a_disk(virtual_bytes=GIB), swap]), {"free_bytes": {IMAGES: 2 * GIB}}, sizes={"vdb": 50 * GIB}) == []


def test_what_the_verb_itself_found_comes_first_and_once():
    assert stays(refusals=["root disk would shrink", "root disk would shrink"]) == ["root disk would shrink"]
    reasons = blockers(a_server(locked={"by": "ann", "reason": "audit"}), refusals=["root disk would shrink"])
    assert (reasons[0], len(reasons)) == ("root disk would shrink", 2)


def test_without_a_dest_all_that_concerns_server_and_source_is_told():
    server = a_server(blockers=["has snapshots: before"], node_ties=["has a TPM"], disks=[a_disk(shareable=True)])
    source = a_node("a", facts={"prepared": False})
    assert len(prechecks.source_blockers(server, source, [], options={"refusals": ["too small"]})) == 5
    assert len(prechecks.source_blockers(server, source, [], options={"refusals": ["too small"], "in_place": True})) == 4


def test_an_image_takes_what_the_dest_says_that_is_in_it() -> None:
    image = {"id": "vda", "way": "image", "dest_path": "/x/vda", "allocated_bytes": 0, "grow_to_bytes": 100 * GIB}
    for content, enough in ((GIB, True), (3 * GIB, False), (None, True)):
        answers = {"free_bytes": {"/x": 2 * GIB}, **({"image_bytes": {"vda": content}} if content else {})}
        move = prechecks.Move(a_server(), a_node("a"), a_node("b"), answers, [image], [], None)  # type: ignore[arg-type,list-item,typeddict-item]
        assert (list(prechecks.enough_space(move)) == []) is enough


def test_a_move_that_is_checked_again_is_not_in_its_own_way():
    server = a_server(
        blockers=["disk vda has an active block job (next: virsh blockjob web1 vda)"], disks=[a_disk(), a_disk("vdb", "/srv/other/b", role="swap")]
    )
    temp = [file["temp_path"] for file in plan_files(server, IMAGES, IMAGES, MOVE)["files"]]
    answers = {"leftovers": temp, "free_bytes": {IMAGES: 1, "/srv/other": GIB}, "same_filesystem": {IMAGES: "1", "/srv/other": "2"}}
    assert len(blockers(server, answers=answers)) == 4
    assert blockers(server, answers=answers, again=True) == []
    found = blockers({**server, "locked": {"by": "ann", "reason": "audit"}}, answers={**answers, "leftovers": [f"{IMAGES}/web1.qcow2"]}, again=True)
    assert [any(word in reason for word in ("ann", "exists on b")) for reason in found] == [True, True]
    assert blockers({**server, "blockers": ["disk vdc has an active block job"]}, answers=answers, again=True) == ["a: disk vdc has an active block job"]
