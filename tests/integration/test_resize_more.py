# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resize on the lab, of servers that are special.

A root disk on the network or on a block device, CPUs of their own, file systems that are to grow (cases 42, 53, 56).
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest
from integration import laws

from lab import MIB, DiskSpec, GuestSpec
from lab.guest_spec import server_metadata
from lab.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import World

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.nightly]

GIB = 1024 * MIB
LOSE = {"accept_lost_writes": "yes"}
PLAIN = {"vcpus": 1, "memory_mb": 160, "root_gb": 1}
DEDICATED = {"hw:cpu_policy": "dedicated"}


def resize(world: World, guest: GuestState, flavor: str | dict[str, Any], target: str, **variables: Any) -> Any:
    """Run the verb."""
    return world.play("resize", server=guest.name, flavor=flavor, target_host=target, **variables)


def definition(world: World, node: str, guest: GuestState) -> str:
    """As libvirt starts it the next time."""
    return str(world.lab.virsh(node, "dumpxml", "--inactive", guest.uuid))


# --- a root disk on the network


def on_the_network(text: str) -> str:
    """The definition with its first disk taken from the volume."""
    domain = ET.fromstring(text)
    disk = next(domain.iter("disk"))
    disk.set("type", "network")
    for tag in ("driver", "source"):
        disk.remove(next(disk.iter(tag)))
    ET.SubElement(disk, "driver", name="qemu", type="raw")
    ET.SubElement(ET.SubElement(disk, "source", protocol="nbd", name="volume"), "host", name="10.88.0.13", port="10809")
    return ET.tostring(domain, encoding="unicode")


@pytest.fixture
def volume(world: World) -> Iterator[GuestState]:
    """A server of node1 whose root disk is an NBD volume that node3 serves, with a flavor of 10 GiB."""
    words = server_metadata({"name": "m1.volume", "vcpus": 1, "memory_mb": 160, "root_gb": 10})
    guest = world.lab.define_guest("node3", GuestSpec("volume", [DiskSpec(GIB, content_mib=1)], metadata=words))
    text = on_the_network(definition(world, "node3", guest))
    world.lab.virsh("node3", "undefine", guest.uuid)
    # Persistent: it serves one client after the other. One at a time: a second one would wait, and the server would not be ready.
    serve = ["qemu-nbd", "--fork", "--persistent", "--pid-file", "/run/volume.pid", "-f", "qcow2", "-x", "volume", "-b", "10.88.0.13", guest.files[0]]
    world.lab.exec("node3", *serve)
    world.lab.exec("node1", "virsh", "-q", "define", "/dev/stdin", stdin=text)
    world.lab.start_guest("node1", guest)
    world.lab.write_marker(guest, "volume")
    yield guest
    world.remove(guest)
    world.lab.exec("node3", "sh", "-c", 'kill "$(cat /run/volume.pid)"; rm -f -- "$1"', "sh", guest.files[0])


def test_root_on_the_network(world: World, volume: GuestState) -> None:
    """Case 42: a smaller root_gb, or none, is no reason against it, and the volume stays as it is: no file of it crosses, nothing of it is deleted."""
    source = re.compile(r"<source protocol='nbd' name='volume'[^>]*>")
    before = definition(world, "node1", volume)
    resize(world, volume, {"vcpus": 2, "memory_mb": 192, "root_gb": 1}, "node2").check()
    row = laws.check_moved(world.lab, volume, ["volume"])
    assert (row["files"], row["bytes_total"]) == ([], 0)
    assert world.lab.guest_info(volume)["vcpus"] == "2"
    assert source.search(definition(world, "node2", volume))
    world.play("revert", server="volume", **LOSE).check()
    laws.check_back(world.lab, volume, "node1", ["volume"], status="reverted")
    assert definition(world, "node1", volume) == before
    resize(world, volume, {"vcpus": 2, "memory_mb": 192, "root_gb": 0}, "node1").check()
    assert world.lab.guest_info(volume)["vcpus"] == "2"
    world.play("confirm", server="volume").check()
    laws.check_runs_on(world.lab, volume, "node1", ["volume"])
    assert source.search(definition(world, "node1", volume))
    assert world.lab.guest_info(volume)["vda_bytes"] == str(GIB)
    assert laws.claims(world.lab, volume) == []


# --- a root disk on a block device


def on_the_device(text: str, device: str) -> str:
    """The definition with its first disk on a block device."""
    domain = ET.fromstring(text)
    disk = next(domain.iter("disk"))
    disk.set("type", "block")
    disk.remove(next(disk.iter("source")))
    ET.SubElement(disk, "source", dev=device)
    return ET.tostring(domain, encoding="unicode")


def with_device(world: World, image_format: str, size_bytes: int) -> tuple[GuestState, str]:
    """A running server whose root disk of 1 GiB is on a block device of its node."""
    words = server_metadata({"name": "m1.old", **PLAIN})
    guest = world.lab.define_guest("node1", GuestSpec(f"device-{image_format}", [DiskSpec(GIB, image_format, content_mib=1)], metadata=words))
    device = world.lab.block_device("node1", image_format, size_bytes)
    world.lab.exec("node1", "qemu-img", "convert", "-n" if image_format == "raw" else "-q", "-f", image_format, "-O", image_format, guest.files[0], device)
    world.lab.exec("node1", "virsh", "-q", "define", "/dev/stdin", stdin=on_the_device(definition(world, "node1", guest), device))
    world.lab.start_guest("node1", guest)
    world.lab.write_marker(guest, guest.name)
    return guest, device


@pytest.mark.parametrize(("image_format", "device_bytes", "root_gb"), [("raw", GIB, 1), ("qcow2", 2 * GIB + 64 * MIB, 2)])
def test_root_on_a_block_device(world: World, image_format: str, device_bytes: int, root_gb: int) -> None:
    """On its own node: an overlay in the instances path, merged into the device by confirm and dropped by revert. Elsewhere, or beyond the device: refused."""
    guest, device = with_device(world, image_format, device_bytes)
    before, larger = definition(world, "node1", guest), {"vcpus": 2, "memory_mb": 192, "root_gb": root_gb}
    resize(world, guest, larger, "node2").refused("node1", "block device")
    resize(world, guest, {**larger, "root_gb": 3}, "node1").refused("node1", f"it is on the block device {device}, which has room for")
    for ending, more in (("revert", LOSE), ("confirm", {})):
        resize(world, guest, larger, "node1").check()
        world.lab.wait_ready(guest)
        info = world.lab.guest_info(guest)
        assert (info["vcpus"], info["vda_bytes"]) == ("2", str(root_gb * GIB))
        (overlay,) = laws.names_on(world.lab, "node1", laws.record(world.lab, guest)["uuid"])
        assert f"file='{overlay}'" in definition(world, "node1", guest)
        world.lab.write_marker(guest, ending)
        world.play(ending, server=guest.name, **more).check()
        laws.check_runs_on(world.lab, guest, "node1", [guest.name] if ending == "revert" else [guest.name, ending])
        assert laws.names_on(world.lab, "node1", "coldmove") == []
        if ending == "revert":
            assert definition(world, "node1", guest) == before
    (disk,) = ET.fromstring(definition(world, "node1", guest)).iter("disk")
    assert (disk.get("type"), next(disk.iter("driver")).get("type"), next(disk.iter("source")).get("dev")) == ("block", image_format, device)
    assert world.lab.guest_info(guest)["vda_bytes"] == str(root_gb * GIB)
    world.remove(guest)


# --- CPUs of their own


def pins(world: World, node: str, guest: GuestState) -> dict[str, str]:
    """CPUs by vCPU, in the definition."""
    return dict(re.findall(r"<vcpupin vcpu='(\d+)' cpuset='([^']+)'/>", definition(world, node, guest)))


def pinned(world: World, name: str, cpu: str = "") -> GuestState:
    """A running server of node1, its vCPU pinned to a CPU of its own if one is named."""
    words = server_metadata({"name": "m1.old", **PLAIN, "extra_specs": DEDICATED if cpu else {}})
    guest = world.lab.define_guest("node1", GuestSpec(name, [DiskSpec(GIB)], metadata=words))
    if cpu:
        world.lab.virsh("node1", "vcpupin", guest.uuid, "0", cpu, "--config")
    world.lab.start_guest("node1", guest)
    world.lab.write_marker(guest, name)
    return guest


def test_cpus_of_their_own(world: World) -> None:
    """Case 53: pins never overlap another server's, on the dest and on the own node; what the held copy is pinned to stays its own; revert restores it."""
    cpus = int(world.lab.exec("node2", "nproc").stdout)
    if cpus < 2:
        pytest.skip("two servers cannot have a CPU each here")
    own = {**PLAIN, "memory_mb": 192, "extra_specs": DEDICATED}
    all_of_them = {**own, "vcpus": cpus}
    first = pinned(world, "pin-first")
    resize(world, first, own, "node2").check()
    (taken,) = pins(world, "node2", first).values()
    # On node1 it has the very CPU that is the first one's on node2.
    second = pinned(world, "pin-second", taken)
    before = definition(world, "node1", second)
    third = pinned(world, "pin-third")
    resize(world, second, own, "node2").check()
    (given,) = pins(world, "node2", second).values()
    assert given != taken and pins(world, "node2", first) == {"0": taken}
    assert world.lab.virsh("node2", "vcpupin", second.uuid, "0", "--live").split()[-1] == given
    # The one is running there, the other one's held copy has a CPU here: neither node has all of them to give.
    for node in ("node2", "node1"):
        resize(world, third, all_of_them, node).refused(node, "dedicated CPUs needed")
    laws.check_runs_on(world.lab, third, "node1", ["pin-third"])
    assert pins(world, "node1", third) == {} and laws.claims(world.lab, third) == []
    world.play("revert", server="pin-second", **LOSE).check()
    laws.check_back(world.lab, second, "node1", ["pin-second"], status="reverted")
    assert definition(world, "node1", second) == before
    # Its own CPU is not in its way on its own node, another server's is.
    resize(world, second, own, "node1").check()
    resize(world, third, own, "node1").check()
    (again,) = pins(world, "node1", second).values()
    assert pins(world, "node1", third)["0"] not in (again, taken)
    world.play("revert", server="pin-second,pin-third", **LOSE).check()
    assert definition(world, "node1", second) == before and pins(world, "node1", third) == {}
    for guest in (first, second, third):
        world.remove(guest)


# --- file systems


FILE_SYSTEMS = {"vcpus": 1, "memory_mb": 256, "root_gb": 1, "ephemeral_gb": 1}
LARGER = {**FILE_SYSTEMS, "root_gb": 2, "ephemeral_gb": 2}


def with_file_systems(world: World, name: str, start: bool = True) -> GuestState:
    """A server with an ext4 and an xfs, each in a partition, and an agent."""
    words = server_metadata({"name": "m1.old", **FILE_SYSTEMS}, {"vdb": "ephemeral"})
    disks = [DiskSpec(GIB, table="gpt", content_mib=1), DiskSpec(GIB, table="gpt", filesystem="xfs")]
    guest = world.lab.define_guest("node1", GuestSpec(name, disks, metadata=words, memory_mib=256, agent=True))
    if start:
        world.lab.start_guest("node1", guest)
        world.lab.write_marker(guest, name)
        wait_for("the guest's agent", lambda: "state='connected'" in world.lab.virsh("node1", "dumpxml", guest.uuid), 60)
    return guest


def sizes(world: World, guest: GuestState) -> dict[str, int]:
    """Bytes of disks, partitions and file systems as the guest sees them."""
    world.lab.wait_ready(guest)
    return {key: int(value) for key, value in world.lab.guest_info(guest).items() if re.fullmatch(r"vd[ab](1|_filesystem)?_bytes", key)}


def check_grown(seen: dict[str, int], *targets: str) -> None:
    """Disk, partition and file system have their 2 GiB (an xfs that began small keeps a smaller log; df leaves out what is the file system's own)."""
    for target in targets:
        assert seen[f"{target}_bytes"] == 2 * GIB
        assert seen[f"{target}1_bytes"] > 2 * GIB - 4 * MIB
        assert seen[f"{target}_filesystem_bytes"] > 1.8 * GIB


def test_only_the_disks_grow_unless_asked(world: World) -> None:
    """Case 56: not asked, partitions and file systems stay as they are. Asked, they follow, on another node."""
    guest = with_file_systems(world, "fs-other")
    before = sizes(world, guest)
    resize(world, guest, LARGER, "node2").check()
    assert sizes(world, guest) == {**before, "vda_bytes": 2 * GIB, "vdb_bytes": 2 * GIB}
    world.play("revert", server=guest.name, **LOSE).check()
    assert sizes(world, guest) == before
    wait_for("the guest's agent", lambda: "state='connected'" in world.lab.virsh("node1", "dumpxml", guest.uuid), 60)
    done = resize(world, guest, LARGER, "node2", grow_filesystem="yes").check()
    assert "its file system has" in done.output and "has not grown" not in done.output
    check_grown(sizes(world, guest), "vda", "vdb")
    world.play("confirm", server=guest.name).check()
    laws.check_confirmed(world.lab, guest, [guest.name])
    world.remove(guest)


def test_file_systems_grow_on_the_same_node(world: World) -> None:
    """Case 56 on overlays: revert has the old file systems back; after confirm they are in the disks themselves."""
    guest = with_file_systems(world, "fs-same")
    before = sizes(world, guest)
    for ending, more in (("revert", LOSE), ("confirm", {})):
        wait_for("the guest's agent", lambda: "state='connected'" in world.lab.virsh("node1", "dumpxml", guest.uuid), 60)
        done = resize(world, guest, LARGER, "node1", grow_filesystem="yes").check()
        assert "has not grown" not in done.output
        check_grown(sizes(world, guest), "vda", "vdb")
        world.play(ending, server=guest.name, **more).check()
        if ending == "revert":
            assert sizes(world, guest) == before
    check_grown(sizes(world, guest), "vda", "vdb")
    laws.check_runs_on(world.lab, guest, "node1", [guest.name])
    info = json.loads(world.lab.exec("node1", "qemu-img", "info", "-U", "-f", "qcow2", "--output=json", guest.files[0]).stdout)
    assert info["virtual-size"] == 2 * GIB and "backing-filename" not in info
    world.remove(guest)


def test_file_system_of_a_server_that_is_off(world: World) -> None:
    """Case 56: libguestfs does it if the node has it. If it was not done the run says so, and the server has its new disks all the same."""
    guest = with_file_systems(world, "fs-off", start=False)
    done = resize(world, guest, LARGER, "node2", grow_filesystem="yes").check()
    world.play("confirm", server=guest.name).check()
    world.lab.start_guest("node2", guest)
    seen = sizes(world, guest)
    assert (seen["vda_bytes"], seen["vdb_bytes"]) == (2 * GIB, 2 * GIB)
    for target in ("vda", "vdb"):
        told = f"disk {target}: WARNING: its file system has not grown" in " ".join(done.output.split())
        assert (seen[f"{target}_filesystem_bytes"] < 1.1 * GIB) is told, done.output
        if not told:
            check_grown(seen, target)
    assert world.lab.guest_command(guest, "verify").startswith("ok")
    world.remove(guest)
