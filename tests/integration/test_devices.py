# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers whose disks are block devices move to devices that the operator names: raw and qcow2, there and back, confirmed, killed in between, refused."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from integration import laws
from integration.machine import run_in_machine

from lab import MIB, DiskSpec, GuestSpec
from lab.shell import run as command

if TYPE_CHECKING:
    from integration.conftest import World

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.nightly]

FORMATS = {"vda": "raw", "vdb": "qcow2"}
SIZE = 64 * MIB
#: A device for qcow2 has room for its tables, too.
ROOM = {"vda": SIZE, "vdb": 2 * SIZE}
LOSE = {"accept_lost_writes": "yes"}


def definition(world: World, node: str, guest: GuestState) -> str:
    """As libvirt starts it the next time."""
    return str(world.lab.virsh(node, "dumpxml", "--inactive", guest.uuid))


def devices_of(world: World, node: str, guest: GuestState) -> dict[str, tuple[str | None, ...]]:
    """Kind, format and path of each disk in the definition."""
    found: dict[str, tuple[str | None, ...]] = {}
    for disk in ET.fromstring(definition(world, node, guest)).iter("disk"):
        driver, source = next(disk.iter("driver")), next(disk.iter("source"))
        found[str(next(disk.iter("target")).get("dev"))] = (disk.get("type"), driver.get("type"), source.get("dev"))
    return found


def on_devices(world: World, name: str) -> tuple[GuestState, dict[str, str]]:
    """A running server of node1 with a raw and a qcow2 disk, each on a block device of its own."""
    disks = [DiskSpec(SIZE, "raw", content_mib=1), DiskSpec(SIZE, "qcow2", content_mib=1)]
    guest = world.lab.define_guest("node1", GuestSpec(name, disks))
    paths = {target: world.lab.block_device("node1", f"{name}-{target}", ROOM[target]) for target in FORMATS}
    domain = ET.fromstring(definition(world, "node1", guest))
    for disk, file in zip(list(domain.iter("disk")), guest.files, strict=True):
        target = str(next(disk.iter("target")).get("dev"))
        options = ["-n"] if FORMATS[target] == "raw" else []
        world.lab.exec("node1", "qemu-img", "convert", *options, "-f", FORMATS[target], "-O", FORMATS[target], file, paths[target])
        world.lab.exec("node1", "rm", "--", file)
        disk.set("type", "block")
        disk.remove(next(disk.iter("source")))
        ET.SubElement(disk, "source", dev=paths[target])
    world.lab.exec("node1", "virsh", "-q", "define", "/dev/stdin", stdin=ET.tostring(domain, encoding="unicode"))
    world.lab.start_guest("node1", guest)
    world.lab.write_marker(guest, name)
    return guest, paths


def garbage(world: World, name: str, size_bytes: int) -> str:
    """A device of node2 that has been used before, and holds nothing that anybody knows: what is not written to it shows."""
    path = world.lab.block_device("node2", name, size_bytes)
    world.lab.exec("node2", "sh", "-c", 'tr "\\0" x </dev/zero | dd of="$1" bs=1M iflag=fullblock status=none count="$2"', "sh", path, str(size_bytes // MIB))
    return path


def check_back(world: World, guest: GuestState, before: str, status: str) -> None:
    """It runs on node1 as it was defined there, and its devices on node2 are nobody's."""
    laws.check_runs_on(world.lab, guest, "node1", [guest.name])
    assert definition(world, "node1", guest) == before
    assert laws.claims(world.lab, guest) == []
    assert laws.record(world.lab, guest)["status"] == status
    laws.check_quiet(world.lab, "node1", "node2")


def test_to_devices_that_are_named(world: World) -> None:
    """There, killed in between; there and back; there while it is off, where every byte is looked at; confirmed. The source's devices stay."""
    guest, here = on_devices(world, "on-devices")
    before = definition(world, "node1", guest)
    there = {"vda": garbage(world, "there-a", SIZE + MIB), "vdb": garbage(world, "there-b", ROOM["vdb"])}
    move: dict[str, Any] = {"server": guest.name, "target_host": "node2", "precopy": "auto", "dest_devices": {guest.name: there}}

    run = world.run("cold_migrate", **move)
    run.wait_for("start", "Cutover | Verify the copy and give it its name")
    run.kill()
    world.play("recover", server=guest.name).check()
    check_back(world, guest, before, "error")

    world.play("cold_migrate", **move).check()
    laws.check_runs_on(world.lab, guest, "node2", [guest.name])
    assert devices_of(world, "node2", guest) == {target: ("block", FORMATS[target], there[target]) for target in FORMATS}
    assert world.lab.exec("node1", "virsh", "-q", "start", guest.uuid, check=False).returncode != 0
    world.lab.write_marker(guest, "lost")
    world.play("revert", server=guest.name, **LOSE).check()
    check_back(world, guest, before, "reverted")

    world.lab.shutdown_guest("node1", guest)
    world.play("cold_migrate", **move).check()
    image = {node: f"{world.lab.paths.data}/{node}/{name}.img" for node, name in (("node1", "on-devices-vda"), ("node2", "there-a"))}
    with open(image["node1"], "rb") as old, open(image["node2"], "rb") as new:
        assert new.read(SIZE) == old.read(SIZE)
        assert new.read() == bytes(MIB)  # nobody's old data behind it
    images = [f"{world.lab.paths.data}/node1/on-devices-vdb.img", f"{world.lab.paths.data}/node2/there-b.img"]
    command("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", *images)
    told = world.play("confirm", server=guest.name).check()
    assert f"{here['vda']}: no logical volume, so it stays as it is" in told.output
    world.lab.start_guest("node2", guest)
    laws.check_runs_on(world.lab, guest, "node2", [guest.name])
    assert laws.claims(world.lab, guest) == []
    assert laws.record(world.lab, guest)["status"] == "confirmed"
    world.remove(guest)


def test_what_speaks_against_a_device(world: World) -> None:
    """All of it is told at once, before anything is touched: no name, a device that is too small, in use, not empty, another server's, or none at all."""
    guest, here = on_devices(world, "no-device")
    before = definition(world, "node1", guest)
    small, used = world.lab.block_device("node2", "small", MIB), garbage(world, "used", ROOM["vdb"])
    world.lab.exec("node2", "mkswap", "-q", used)

    def refused(*words: str, **devices: Any) -> None:
        world.play("cold_migrate", server=guest.name, target_host="node2", dest_devices=devices).refused("no-device cannot be moved", *words)
        laws.check_runs_on(world.lab, guest, "node1", [guest.name])
        assert definition(world, "node1", guest) == before and laws.claims(world.lab, guest) == []

    refused("disk vda is a block device", "disk vdb is a block device", "dest_devices=vdb=")
    refused("/dev/small has 1048576 bytes", "/dev/used is not empty, it holds swap", vda=small, vdb=used)
    refused("/dev/nothing is no block device of this node", "disk vdc, which the server has not", vda="/dev/nothing", vdb=used, vdc="/dev/more")
    refused("vda and vdb would become the same file on the dest", vda=used, vdb=used)
    world.play("cold_migrate", server=guest.name, dest_devices={"vda": "relative"}).refused("dest_devices is", "is no device's path")
    world.remove(guest)
    assert here


@pytest.mark.skipif(shutil.which("lvcreate") is None or shutil.which("supermin") is None, reason="lvm2 and supermin (libguestfs) are not installed")
def test_volumes_and_devices_in_a_machine_of_their_own(tmp_path: Path) -> None:
    """What is made, refused, held and removed on real logical volumes: two lab nodes would share one kernel's."""
    run_in_machine(tmp_path, Path(__file__).with_name("move_devices.py"), ["dm-mod", "dm-thin-pool", "dm-snapshot", "loop"], timeout_seconds=900)
