# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on nodes, disks and networks while a server moves: where the guest is afterwards, and what is left.

Cases 63, 67, 68, 70, D, E.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

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

COPY = "Cutover | Copy"


@contextlib.contextmanager
def guest_of(world: World, name: str, content_mib: int = 0, size_mib: int = 64) -> Iterator[GuestState]:
    """A running guest on node1 that is taken away at the end."""
    guest = world.guest(name, DiskSpec(size_mib * MIB, content_mib=content_mib))
    try:
        yield guest
    finally:
        world.remove(guest)


def copying(world: World, guest: GuestState, limit: str, **variables: Any) -> Run:
    """A cold_migrate to node2 that is in the middle of its copy, which takes some seconds."""
    run = world.run("cold_migrate", server=guest.name, target_host="node2", bandwidth_limit=limit, **variables)
    try:
        run.wait_for("start", COPY)
        wait_for(f"the copy of {guest.name}", lambda: copied(world, guest) > 8 * MIB or run.process.poll() is not None, 60)
    except BaseException:
        run.kill()
        raise
    assert run.process.poll() is None, run.output()
    return run


def copied(world: World, guest: GuestState) -> int:
    """Bytes of the temporary file on node2."""
    return sum(path.stat().st_blocks * 512 for path in world.lab.images("node2").glob(f"{guest.name}-vda.qcow2.coldmove-*"))


def end(world: World, guest: GuestState) -> None:
    """Confirm a move that is finished, so that nothing of it is left."""
    world.play("confirm", server=guest.name).check()
    laws.check_confirmed(world.lab, guest, [guest.name])


# --- refused while the guest runs


def test_channel_refused(world: World) -> None:
    """Case 63: the source lets no peer in: refused before the stop."""
    with guest_of(world, "refused") as guest:
        begun, keys = time.monotonic(), world.lab.exec("node1", "cat", "/etc/coldmove/authorized_keys").stdout
        world.lab.exec("node1", "truncate", "-s", "0", "/etc/coldmove/authorized_keys")
        try:
            world.play("cold_migrate", server=guest.name, target_host="node2").refused("data channel", "Permission denied", "ssh_trust")
        finally:
            world.lab.exec("node1", "tee", "/etc/coldmove/authorized_keys", stdin=keys)
        assert world.watch.stops_since(guest, begun) == 0
        laws.check_back(world.lab, guest, "node1", [guest.name])
        assert "data channel" in laws.record(world.lab, guest)["error"]
        laws.check_quiet(world.lab, "node1", "node2")


def test_no_space(world: World) -> None:
    """Case 68, first half: the pre-check counts the space: refused before the stop, and no record is left open."""
    world.lab.limit("node3", 48 * MIB)
    try:
        with guest_of(world, "big", content_mib=40) as guest:
            begun = time.monotonic()
            world.play("cold_migrate", server=guest.name, target_host="node3", disk_allocation_ratio="100").refused("free")
            assert world.watch.stops_since(guest, begun) == 0
            laws.check_back(world.lab, guest, "node1", [guest.name])
    finally:
        world.lab.unlimit("node3")


# --- back to the source by itself


def test_disk_fills(world: World) -> None:
    """Case 68, second half: the dest's disk fills during the copy: the server runs on the source again by itself."""
    world.lab.limit("node3", 160 * MIB)
    try:
        with guest_of(world, "filled", content_mib=50) as guest:
            run = world.run("cold_migrate", server=guest.name, target_host="node3", bandwidth_limit="6M", stall_timeout="10")
            run.wait_for("start", COPY)
            world.lab.fill("node3", 12 * MIB)
            run.finish().refused("filled", "back on node1")
            laws.check_back(world.lab, guest, "node1", [guest.name])
            laws.check_quiet(world.lab, "node1", "node3")
    finally:
        world.lab.unfill("node3")
        world.lab.unlimit("node3")


EMULATOR = "/usr/bin/qemu-system-x86_64"


@contextlib.contextmanager
def broken_emulator(world: World, node: str) -> Iterator[None]:
    """A QEMU that answers libvirt's questions but starts no guest."""
    script = f'#!/bin/sh\ncase "$*" in *guest=*) echo "no guest starts today" >&2; exit 1;; esac\nexec {EMULATOR}.real "$@"\n'
    world.lab.exec(node, "mv", EMULATOR, f"{EMULATOR}.real")
    world.lab.exec(node, "sh", "-c", f"cat > {EMULATOR}; chmod 755 {EMULATOR}", stdin=script)
    try:
        yield
    finally:
        world.lab.exec(node, "mv", f"{EMULATOR}.real", EMULATOR)


def test_dest_cannot_start(world: World) -> None:
    """Case 67: the server runs again on the source by itself, record error, dest clean."""
    with guest_of(world, "unstarted", content_mib=1) as guest, broken_emulator(world, "node2"):
        world.play("cold_migrate", server=guest.name, target_host="node2").refused("no guest starts today", "back on node1")
        laws.check_back(world.lab, guest, "node1", [guest.name])
        laws.check_quiet(world.lab, "node1", "node2")


def test_flipped_byte(world: World) -> None:
    """A byte that changes on the dest before the verification is found: the copy is not used, the server is back."""
    with guest_of(world, "flipped", content_mib=30) as guest:
        run = world.run("cold_migrate", server=guest.name, target_host="node2", bandwidth_limit="10M")
        # The job of the copy ends before the next step begins; in between the file is ours.
        run.wait_for("start", COPY)
        temporary = world.lab.images("node2")
        wait_for("the copy", lambda: copied(world, guest) > 20 * MIB or run.process.poll() is not None, 60)
        (path,) = temporary.glob("flipped-vda.qcow2.coldmove-*")
        run.wait_for("end", COPY)
        with path.open("r+b") as file:
            file.seek(15 * MIB + 5)
            byte = file.read(1)
            file.seek(15 * MIB + 5)
            file.write(bytes([byte[0] ^ 0x10]))
        run.finish().refused("content of vda differs", "back on node1")
        laws.check_back(world.lab, guest, "node1", [guest.name])
        laws.check_quiet(world.lab, "node1", "node2")


def test_dest_loses_power(world: World) -> None:
    """The dest goes dark during the copy: the server is back on the source by itself; `recover` cleans the dest when it returns."""
    with guest_of(world, "dark", content_mib=60, size_mib=96) as guest:
        run = copying(world, guest, "5M", stall_timeout="5")
        world.lab.kill("node2")
        try:
            run.finish().refused("dark", "back on node1", "recover")
            assert world.lab.running_on(guest) == ["node1"]
            row = laws.record(world.lab, guest)
            assert (row["status"], row["pending_hosts"]) == ("error", ["node2"])
        finally:
            world.lab.start("node2")
        assert laws.names_on(world.lab, "node2", row["uuid"])
        world.play("recover", server=guest.name).check()
        laws.check_back(world.lab, guest, "node1", [guest.name])
        assert laws.record(world.lab, guest)["pending_hosts"] == []
        laws.check_quiet(world.lab, "node1", "node2")


def test_source_loses_power(world: World) -> None:
    """Case D: the source goes dark during the copy; nothing starts it at boot; after its return `recover` brings the server back there."""
    with guest_of(world, "lost", content_mib=60, size_mib=96) as guest:
        world.lab.virsh("node1", "autostart", guest.uuid)
        run = copying(world, guest, "5M", stall_timeout="5")
        world.lab.kill("node1")
        try:
            run.finish().refused("lost", "recover")
            assert laws.record(world.lab, guest)["status"] == "migrating"
            world.play("recover", server=guest.name).refused("node1 does not answer")
        finally:
            world.lab.start("node1")
        assert world.lab.running_on(guest) == []
        laws.check_good_copy(world.lab, guest, [guest.name])
        world.play("recover", server=guest.name).check()
        laws.check_back(world.lab, guest, "node1", [guest.name])
        assert guest.uuid in world.lab.virsh("node1", "list", "--autostart", "--uuid")
        # After its boot the node is as ready as before: nobody has to prepare it again.
        world.play("cold_migrate", server=guest.name, target_host="node2").check()
        laws.check_moved(world.lab, guest, [guest.name])
        end(world, guest)


# --- goes on


def test_network_cut(world: World) -> None:
    """Case E: 30 s of silence of the source, then of the dest, during one copy: it goes on, nothing is lost."""
    with guest_of(world, "cut", content_mib=60, size_mib=96) as guest:
        run = copying(world, guest, "3M")
        for node, until in (("node1", 30 * MIB), ("node2", 0)):
            world.lab.cut(node)
            try:
                time.sleep(30)  # the fault itself
            finally:
                world.lab.mend(node)
            if until:
                wait_for("the copy to go on", lambda until=until: copied(world, guest) > until or run.process.poll() is not None, 120)  # type: ignore[misc]
                assert run.process.poll() is None, run.output()
        run.finish().check()
        laws.check_moved(world.lab, guest, [guest.name])
        end(world, guest)
        laws.check_quiet(world.lab, "node1", "node2")


def test_records_host_away(world: World) -> None:
    """The records host reboots during the copy: the move waits for it and finishes."""
    with guest_of(world, "unrecorded", content_mib=40) as guest:
        run = copying(world, guest, "6M")
        world.lab.kill("records1")
        run.wait_for("end", COPY)
        world.lab.start("records1", wait="ssh")
        run.finish().check()
        laws.check_moved(world.lab, guest, [guest.name])
        end(world, guest)


# --- two at once


def test_second_controller(world: World) -> None:
    """Case 70: a second controller is refused, with who and since when; the first is unharmed."""
    with guest_of(world, "wanted", content_mib=60, size_mib=96) as guest:
        run = copying(world, guest, "2M")
        rivals = {verb: world.run(verb, server=guest.name) for verb in ("cold_migrate", "confirm", "recover")}
        said = {verb: rival.finish() for verb, rival in rivals.items()}
        assert run.process.poll() is None, "the first run was over too early"
        said["cold_migrate"].refused("another run is at work on it since", "started by", f"process {run.process.pid} ", "Nothing was changed")
        said["confirm"].refused("there is no finished move to confirm")
        assert "another run is at work on it since" in said["recover"].output
        run.finish().check()
        laws.check_moved(world.lab, guest, [guest.name])
        assert len(laws.records(world.lab, guest)) == 1
        end(world, guest)
