# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that are mirrored while their guest runs and writes: nothing that it was told to be on its disk is missing on the dest, and no failure stops it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest
from integration import laws

from lab import MIB, DiskSpec
from lab.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import World
    from integration.runs import Run

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow]

STEP = "In step | Wait until source and dest are in step"


@contextlib.contextmanager
def writing(world: World, name: str, content_mib: int = 20, **disk: object) -> Iterator[GuestState]:
    """A running guest that writes all the time: numbered lines, each on the disk before it is told, and random blocks beside."""
    spec = DiskSpec(max(64, content_mib + 44) * MIB, content_mib=content_mib, **disk)  # type: ignore[arg-type]
    guest = world.guest(name, spec)
    try:
        world.lab.guest_command(guest, "load start 0.1")
        world.lab.guest_command(guest, "dirty start 8 0.3")
        yield guest
    finally:
        world.remove(guest)


def check_writes(world: World, guest: GuestState, told: int) -> None:
    """All that was told before the stop is there, in order, and nothing of the rest is damaged."""
    found = world.lab.guest_command(guest, "acks").split()
    assert found[-1] == "complete", found
    assert int(found[3]) >= told > 0, (found, told)


def check_no_mirror(world: World, guest: GuestState, node: str = "node1") -> None:
    """The guest runs on its source as if nothing had been: no block job, no socket."""
    assert "No current block job" in world.lab.exec(node, "virsh", "blockjob", guest.uuid, "vda", check=False).stdout
    assert not world.lab.exec(node, "sh", "-c", "ls /run/coldmove-mirrors 2>/dev/null", check=False).stdout.split()


def end(world: World, guest: GuestState) -> None:
    """Confirm a move that is finished, so that nothing of it is left."""
    world.play("confirm", server=guest.name).check()
    laws.check_confirmed(world.lab, guest, [guest.name])


def mirroring(world: World, guest: GuestState, limit: str = "2M", **variables: object) -> Run:
    """A cold_migrate in the middle of its precopy, which takes ten seconds and more."""
    run = world.run("cold_migrate", server=guest.name, target_host="node2", bandwidth_limit=limit, precopy="always", **variables)
    run.wait_for("start", STEP)
    wait_for(f"the mirror of {guest.name}", lambda: mirrored(world, guest) > 4 * MIB or run.process.poll() is not None, 60)
    assert run.process.poll() is None, run.output()
    return run


def mirrored(world: World, guest: GuestState) -> int:
    """Bytes of the temporary file on the dest."""
    return sum(path.stat().st_blocks * 512 for path in world.lab.images("node2").glob(f"{guest.name}-vda.*.coldmove-*"))


@pytest.mark.parametrize(
    ("image_format", "shutdown_timeout"),
    [("qcow2", "60"), pytest.param("raw", "60", marks=pytest.mark.nightly), pytest.param("qcow2", "0", marks=pytest.mark.nightly)],
)
def test_all_that_was_acknowledged_arrives(world: World, image_format: str, shutdown_timeout: str) -> None:
    """The guest writes until its shutdown, or until its power is cut; on the dest every line is there that it was told to be on its disk."""
    with writing(world, f"writes-{image_format}", format=image_format) as guest:
        world.play("cold_migrate", server=guest.name, target_host="node2", precopy="always", shutdown_timeout=shutdown_timeout).check()
        told = world.lab.acked("node1", guest)
        row = laws.check_moved(world.lab, guest, [guest.name])
        check_writes(world, guest, told)
        assert "copy" not in laws.phases(world.lab, guest)
        assert not world.lab.exec("node1", "sh", "-c", "ls /run/coldmove-mirrors").stdout.split()
        laws.check_quiet(world.lab, "node1", "node2")
        assert row["bytes_sent"] > 20 * MIB
        end(world, guest)


@pytest.mark.nightly
def test_a_disk_that_is_allocated_as_a_whole(world: World) -> None:
    """Its file is longer than what its guest sees of it, which is all that the dest has to have room for."""
    guest = world.guest("allocated", start=False)
    disk = f"{laws.IMAGES}/allocated-vda.qcow2"
    world.lab.exec("node1", "qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", "-o", "preallocation=full", disk, f"{disk}.whole")
    world.lab.exec("node1", "mv", f"{disk}.whole", disk)
    assert (world.lab.images("node1") / "allocated-vda.qcow2").stat().st_size > 64 * MIB
    world.lab.start_guest("node1", guest)
    world.lab.write_marker(guest, "allocated")
    world.play("cold_migrate", server=guest.name, target_host="node2", precopy="always").check()
    laws.check_moved(world.lab, guest, ["allocated"])
    end(world, guest)
    world.remove(guest)


@pytest.mark.nightly
def test_revert_leads_back_to_what_the_source_had(world: World) -> None:
    """The source's disk is complete at the stop: the held copy has all that was acknowledged there."""
    with writing(world, "goes-back") as guest:
        world.play("cold_migrate", server=guest.name, target_host="node2", precopy="auto").check()
        told = world.lab.acked("node1", guest)
        world.play("revert", server=guest.name, accept_lost_writes="true").check()
        laws.check_back(world.lab, guest, "node1", [guest.name], status="reverted")
        check_writes(world, guest, told)


def test_link_that_is_cut_for_good(world: World) -> None:
    """The guest's writes wait for seconds at most, then it goes on alone; the move is refused and the dest cleaned once it is back."""
    with writing(world, "cut-off", 40) as guest:
        begun = time.monotonic()
        run = mirroring(world, guest, stall_timeout="10")
        world.lab.cut("node2")
        try:
            before = world.lab.acked("node1", guest)
            wait_for("the guest's writes", lambda: world.lab.acked("node1", guest) > before + 5, 15)
            run.finish().refused("runs on untouched")
        finally:
            world.lab.mend("node2")
        assert world.watch.stops_since(guest, begun) == 0
        world.play("recover").check()
        laws.check_back(world.lab, guest, "node1", [guest.name])
        check_no_mirror(world, guest)
        laws.check_quiet(world.lab, "node1", "node2")


@pytest.mark.nightly
def test_link_that_comes_back(world: World) -> None:
    """The precopy begins anew by itself."""
    with writing(world, "comes-back", 40) as guest:
        run = mirroring(world, guest)
        world.lab.cut("node2")
        try:
            time.sleep(8)  # the fault itself
        finally:
            world.lab.mend("node2")
        run.finish().check()
        told = world.lab.acked("node1", guest)
        laws.check_moved(world.lab, guest, [guest.name])
        check_writes(world, guest, told)
        end(world, guest)


@pytest.mark.nightly
def test_dest_that_is_full(world: World) -> None:
    """It is told as such at once, and the guest was never stopped."""
    world.lab.limit("node3", 160 * MIB)
    try:
        with writing(world, "no-room", 50) as guest:
            begun = time.monotonic()
            run = world.run("cold_migrate", server=guest.name, target_host="node3", precopy="auto", bandwidth_limit="4M", stall_timeout="10")
            run.wait_for("start", STEP)
            world.lab.fill("node3", 12 * MIB)
            run.finish().refused("no-room", "has no room left", "untouched")
            assert world.watch.stops_since(guest, begun) == 0
            laws.check_back(world.lab, guest, "node1", [guest.name])
            check_no_mirror(world, guest)
            laws.check_quiet(world.lab, "node1", "node3")
    finally:
        world.lab.unfill("node3")
        world.lab.unlimit("node3")


def test_controller_that_is_killed(world: World) -> None:
    """The mirror belongs to the node: the same command again goes on with it."""
    with writing(world, "orphan", 40) as guest:
        run = mirroring(world, guest)
        run.kill()
        before = mirrored(world, guest)
        world.play("cold_migrate", server=guest.name, target_host="node2").check()
        assert len(laws.records(world.lab, guest)) == 1
        assert before > 4 * MIB
        told = world.lab.acked("node1", guest)
        laws.check_moved(world.lab, guest, [guest.name])
        check_writes(world, guest, told)
        end(world, guest)


@pytest.mark.nightly
def test_recover_ends_a_precopy(world: World) -> None:
    """Or recover takes it back; the guest was never stopped."""
    with writing(world, "taken-back", 40) as guest:
        begun = time.monotonic()
        mirroring(world, guest).kill()
        world.play("recover", server=guest.name).check()
        assert world.watch.stops_since(guest, begun) == 0
        laws.check_back(world.lab, guest, "node1", [guest.name])
        check_no_mirror(world, guest)
        laws.check_quiet(world.lab, "node1", "node2")


@pytest.mark.nightly
def test_a_slow_link_is_not_a_dead_one(world: World) -> None:
    """A link that is full all the time with what the guest writes and what is copied: the mirror stays."""
    with writing(world, "patient", 30) as guest:
        world.lab.shape("node2", "20mbit")
        try:
            outcome = world.play("cold_migrate", server=guest.name, target_host="node2", precopy="always").check()
        finally:
            world.lab.unshape("node2")
        assert "waiting for the dest" not in outcome.output
        laws.check_moved(world.lab, guest, [guest.name])
        end(world, guest)
