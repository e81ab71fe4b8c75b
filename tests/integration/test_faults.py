# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on nodes, disks and networks while a server moves: where the guest is afterwards, and what is left.

Cases 63, 67, 68, 70, D, E.
"""

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

COPY = "Cutover | Copy"


@contextlib.contextmanager
def guest_of(world: World, name: str, content_mib: int = 60, node: str = "node1") -> Iterator[GuestState]:
    """A running guest that is taken away at the end; with so much content its copy can be made to take some seconds."""
    guest = world.guest(name, DiskSpec(max(64, content_mib + 36) * MIB, content_mib=content_mib), node=node)
    try:
        yield guest
    finally:
        world.remove(guest)


def copying(world: World, *wanted: tuple[GuestState, str], limit: str = "3M", stall: str = "60") -> list[Run]:
    """A cold_migrate for each guest to its dest, all in the middle of their copies, which take twenty seconds unless told."""
    variables = {"bandwidth_limit": limit, "stall_timeout": stall}
    runs = [world.run("cold_migrate", server=guest.name, target_host=dest, **variables) for guest, dest in wanted]
    try:
        for run, (guest, _dest) in zip(runs, wanted, strict=True):
            run.wait_for("start", COPY)
            further(world, guest, run)
    except BaseException:
        for run in runs:
            run.kill()
        raise
    return runs


def further(world: World, guest: GuestState, run: Run) -> None:
    """Wait until the copy has got further than it is now."""
    goal = copied(world, guest) + 6 * MIB
    wait_for(f"the copy of {guest.name}", lambda: copied(world, guest) > goal or run.process.poll() is not None, 120)
    assert run.process.poll() is None, run.output()


def copied(world: World, guest: GuestState) -> int:
    """Bytes of the temporary file, on whatever node it is."""
    nodes = ("node1", "node2", "node3")
    paths = [path for node in nodes for path in world.lab.images(node).glob(f"{guest.name}-vda.qcow2.coldmove-*") if "-held-" not in path.name]
    return sum(path.stat().st_blocks * 512 for path in paths)


def end(world: World, guest: GuestState) -> None:
    """Confirm a move that is finished, so that nothing of it is left."""
    world.play("confirm", server=guest.name).check()
    laws.check_confirmed(world.lab, guest, [guest.name])


# --- refused while the guest runs


def test_channel_refused(world: World) -> None:
    """Case 63: the source lets no peer in: refused before the stop."""
    with guest_of(world, "refused", 0) as guest:
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
        with guest_of(world, "big", 40) as guest:
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
        with guest_of(world, "filled", 50) as guest:
            run = world.run("cold_migrate", server=guest.name, target_host="node3", bandwidth_limit="6M", stall_timeout="10")
            run.wait_for("start", COPY)
            world.lab.fill("node3", 12 * MIB)
            run.finish().refused("filled", "back on node1")
            laws.check_back(world.lab, guest, "node1", [guest.name])
            laws.check_quiet(world.lab, "node1", "node3")
    finally:
        world.lab.unfill("node3")
        world.lab.unlimit("node3")


def test_dest_cannot_start(world: World) -> None:
    """Case 67: the server runs again on the source by itself, record error, dest clean."""
    with guest_of(world, "unstarted", 1) as guest, world.broken_emulator("node2"):
        world.play("cold_migrate", server=guest.name, target_host="node2").refused("no guest starts today", "back on node1")
        laws.check_back(world.lab, guest, "node1", [guest.name])
        laws.check_quiet(world.lab, "node1", "node2")


def test_flipped_byte(world: World) -> None:
    """A byte that changes on the dest before the verification is found: the copy is not used, the server is back."""
    with guest_of(world, "flipped", 30) as guest:
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


@pytest.mark.nightly
def test_nodes_lose_power(world: World) -> None:
    """Case D, and its mirror image, at once: `lost` loses its source, `dark` its dest, both during the copy.

    `dark` is back on its source by itself; `lost` is started by nobody, not even by the autostart of its node, until `recover`.
    """
    with guest_of(world, "lost") as lost, guest_of(world, "dark", node="node2") as dark:
        world.lab.virsh("node1", "autostart", lost.uuid)
        away, back = copying(world, (lost, "node2"), (dark, "node3"), limit="1M", stall="15")
        world.lab.kill("node1")
        world.lab.kill("node3")
        try:
            away.finish().refused("lost", "Everything is kept", "recover")
            back.finish().refused("dark", "back on node2", "node3 is silent", "recover")
            assert laws.record(world.lab, lost)["status"] == "migrating"
            assert world.lab.running_on(dark) == ["node2"]
            row = laws.record(world.lab, dark)
            assert (row["status"], row["pending_hosts"]) == ("error", ["node3"])
        finally:
            world.lab.start("node1")
            world.lab.start("node3")
        assert world.lab.running_on(lost) == []
        assert laws.names_on(world.lab, "node3", row["uuid"])
        laws.check_good_copy(world.lab, lost, ["lost"])
        world.play("recover", server="lost,dark").check()
        laws.check_back(world.lab, lost, "node1", ["lost"])
        laws.check_back(world.lab, dark, "node2", ["dark"])
        assert lost.uuid in world.lab.virsh("node1", "list", "--autostart", "--uuid")
        assert laws.record(world.lab, dark)["pending_hosts"] == []
        laws.check_quiet(world.lab, "node1", "node2", "node3")
        # After its boot a node is as ready as before: nobody has to prepare it again.
        world.play("cold_migrate", server="lost", target_host="node3").check()
        laws.check_moved(world.lab, lost, ["lost"])
        end(world, lost)


# --- goes on


@pytest.mark.nightly
def test_outages(world: World) -> None:
    """Case E: 30 s of silence of the source, then of the dest, and a reboot of the records host, all in one copy: it goes on, nothing is lost."""
    with guest_of(world, "cut") as guest:
        (run,) = copying(world, (guest, "node2"))
        for node in ("node1", "node2"):
            world.lab.cut(node)
            try:
                time.sleep(30)  # the fault itself
            finally:
                world.lab.mend(node)
            further(world, guest, run)
        world.lab.kill("records1")
        run.wait_for("end", COPY)
        world.lab.start("records1", wait="ssh")
        run.finish().check()
        row = laws.record(world.lab, guest)
        assert row["bytes_sent"] < 1.5 * row["bytes_total"]  # each outage broke the channel, and what had crossed was not sent again
        laws.check_moved(world.lab, guest, ["cut"])
        end(world, guest)
        laws.check_quiet(world.lab, "node1", "node2")


# --- two at once


def test_second_controller(world: World) -> None:
    """Case 70: a second controller is refused, with who and since when; the first is unharmed."""
    with guest_of(world, "wanted") as guest:
        (run,) = copying(world, (guest, "node2"), limit="1M")
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
