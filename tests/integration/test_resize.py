# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resize on the lab: another flavor on another node or on the same one, confirm and revert, seen by the guest and from outside.

Cases 4, 36 to 38, 40, 43 to 45, 47, 49 to 51, 57; probes; and that the other node's disks really have the new size.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from integration import laws
from integration.sized import FLAVORS, GIB, LARGE, LOSE, SMALL, check_alone, check_seen, files_of, resize, seen_by, server

if TYPE_CHECKING:
    from integration.conftest import World

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow]


# --- to another node


@pytest.mark.nightly
def test_to_another_node_and_confirm(world: World) -> None:
    """Cases 36 and 4: the guest sees the new flavor; swap is made anew and never crosses; a second run changes nothing."""
    guest = server(world, "grow")
    check_seen(world, guest, SMALL)
    done = resize(world, guest, "m1.large", target_host="node2").check()
    row = laws.check_moved(world.lab, guest, ["grow"])
    assert (row["migration_type"], files_of(row)["vdb"]["way"]) == ("resize", "blank")
    assert done.migrations[0]["status"] == "finished"
    check_seen(world, guest, LARGE)
    assert resize(world, guest, "m1.large", target_host="node2").check().changed() == 0
    resize(world, guest, "m1.noswap").refused("waits for confirm or revert")
    world.play("confirm", server="grow").check()
    laws.check_confirmed(world.lab, guest, ["grow"])
    check_alone(world, guest, "node2", LARGE, ["grow"])
    assert 'name="m1.large"' in world.lab.virsh("node2", "dumpxml", guest.uuid).replace("'", '"')
    # Case 44.
    resize(world, guest, "m1.large").refused("the server has this flavor already")
    world.remove(guest)


@pytest.mark.nightly
def test_to_another_node_and_revert_with_another_inventory(world: World) -> None:
    """Cases 37 and 38: revert brings the old size back from the record, whatever the inventory says of the flavors by then."""
    guest = server(world, "back")
    resize(world, guest, "m1.noswap", target_host="node2").check()
    check_seen(world, guest, FLAVORS["m1.noswap"])
    world.lab.write_marker(guest, "lost")
    world.play("revert", server="back", flavors={}).refused("accept_lost_writes=true")
    world.play("revert", server="back", flavors={}, **LOSE).check()
    laws.check_back(world.lab, guest, "node1", ["back"], status="reverted")
    check_alone(world, guest, "node1", SMALL, ["back"])
    world.remove(guest)


def test_stopped_server_stays_stopped(world: World) -> None:
    """Case 5 for resize, on another node and on the same one: it is never started; its disks have the new size all the same."""
    guest = server(world, "off", start=False)
    resize(world, guest, "m1.large", target_host="node2").check()
    world.play("confirm", server="off").check()
    resize(world, guest, "m1.noswap", target_host="node2").check()
    world.play("confirm", server="off").check()
    assert world.watch.history.get(guest.uuid, [(0.0, [])])[-1][1] == []
    assert laws.names_on(world.lab, "node2", "coldmove") == []
    assert world.lab.guest_state("node2", guest) == "shut off"
    world.lab.start_guest("node2", guest)
    assert seen_by(world, guest)["vda"] == 2 * GIB and seen_by(world, guest)["vdb"] == 0
    assert world.lab.guest_command(guest, "verify").startswith("ok")
    world.remove(guest)


# --- on the same node


@pytest.mark.nightly
@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_on_the_same_node_and_confirm(world: World, image_format: str) -> None:
    """Case 47 and 49: one domain, overlays instead of copies; confirm merges them while the guest runs, and the disks have their names again."""
    guest = server(world, f"stay-{image_format}", image_format=image_format, group="anti")
    resize(world, guest, "m1.large", target_host="node1").check()
    row = laws.record(world.lab, guest)
    assert (row["status"], row["source_host"], row["dest_host"], row["bytes_total"]) == ("finished", "node1", "node1", 0)
    laws.check_runs_on(world.lab, guest, "node1", [guest.name])
    check_seen(world, guest, LARGE)
    assert files_of(row)["vda"]["way"] == "overlay" and files_of(row)["vda"]["held_path"] == guest.files[0]
    world.lab.write_marker(guest, "kept")
    world.play("confirm", server=guest.name).check()
    assert laws.record(world.lab, guest)["status"] == "confirmed"
    check_alone(world, guest, "node1", LARGE, [guest.name, "kept"], image_format)
    assert f"type='{image_format}'" in world.lab.virsh("node1", "dumpxml", guest.uuid)
    assert world.watch.stops_since(guest, 0) == 1
    # What is on the disk itself is all that there is: off and on again, and to another node.
    world.lab.shutdown_guest("node1", guest)
    assert world.lab.read_disk("node1", guest.files[0], "markers", image_format).splitlines() == [guest.name, "kept"]
    world.remove(guest)


@pytest.mark.nightly
@pytest.mark.parametrize("flavor", ["m1.large", "m1.noswap"])
def test_on_the_same_node_and_revert(world: World, flavor: str) -> None:
    """Case 47: the overlays are dropped, the server is as it was."""
    guest = server(world, f"stay-{flavor[3:]}")
    before = world.lab.virsh("node1", "dumpxml", "--inactive", guest.uuid)
    resize(world, guest, flavor, target_host="node1").check()
    check_seen(world, guest, FLAVORS[flavor])
    world.lab.write_marker(guest, "lost")
    world.play("revert", server=guest.name).refused("accept_lost_writes=true")
    world.play("revert", server=guest.name, **LOSE).check()
    assert laws.record(world.lab, guest)["status"] == "reverted"
    check_alone(world, guest, "node1", SMALL, [guest.name])
    assert world.lab.virsh("node1", "dumpxml", "--inactive", guest.uuid) == before
    world.remove(guest)


@pytest.mark.nightly
def test_disk_attached_while_unconfirmed(world: World) -> None:
    """Case 57: confirm and revert treat it by what the record says, and tell."""
    for verb, more in (("confirm", {}), ("revert", LOSE)):
        guest = server(world, f"attach-{verb}")
        resize(world, guest, "m1.large", target_host="node2").check()
        path = f"{laws.IMAGES}/{guest.name}-extra.qcow2"
        world.lab.exec("node2", "qemu-img", "create", "-q", "-f", "qcow2", path, "16M")
        world.lab.virsh("node2", "attach-disk", guest.uuid, path, "vdc", "--subdriver", "qcow2", "--persistent")
        outcome = world.play(verb, server=guest.name, **more).check()
        assert f"has got vdc ({path}) on node2" in outcome.output
        assert world.lab.exec("node2", "test", "-s", path, check=False).returncode == 0
        assert (path in world.lab.virsh("node2" if verb == "confirm" else "node1", "dumpxml", guest.uuid)) is (verb == "confirm")
        world.lab.exec("node2", "rm", path)
        world.remove(guest)


@pytest.mark.nightly
def test_failed_probe_leads_back(world: World) -> None:
    """A server that does not answer after its start has its old size again by itself, on another node and on the same one."""
    guest = server(world, "probe")
    bad = [{"type": "tcp", "address": guest.ipv4, "port": 4712, "timeout": 2}]
    for target in ("node2", "node1"):
        resize(world, guest, "m1.large", target_host=target, health_checks=bad).refused("4712")
        assert laws.record(world.lab, guest)["status"] == "error"
        check_alone(world, guest, "node1", SMALL, ["probe"])
    good = [{"type": "running"}, {"type": "ping", "address": guest.ipv4}, {"type": "tcp", "address": guest.ipv4, "port": 4711, "timeout": 30}]
    resize(world, guest, "m1.large", target_host="node1", health_checks=good).check()
    world.play("revert", server="probe", **LOSE).check()
    world.remove(guest)


# --- refused, with the server untouched


def test_refusals(world: World) -> None:
    """Cases 40, 43 to 45, 50, 51 and bad input: refused before the stop with all reasons, and nothing has changed."""
    guest = server(world, "refused", project="web")
    before, begun = world.lab.virsh("node1", "dumpxml", "--inactive", guest.uuid), time.monotonic()
    bad: list[tuple[Any, dict[str, Any], list[str]]] = [
        ("m1.small", {}, ["the server has this flavor already"]),
        ("m1.larg", {}, ["m1.large"]),
        ({**LARGE, "ephemeral_gb": 1}, {}, ["ephemeral"]),
        ({**LARGE, "root_gb": 0}, {}, ["root_gb is 0"]),
        ({**LARGE, "root_gb": "1e3"}, {}, ["root_gb"]),
        ({**LARGE, "memory_mb": "10 GB"}, {}, ["memory_mb"]),
        ({**LARGE, "vcpus": -1, "colour": "red"}, {}, ["vcpus", "colour"]),
        ("m1.huge", {}, ["no valid host", "node2", "node3", "memory"]),
        ("m1.huge", {"target_host": "node1"}, ["node1", "memory"]),
        ("m1.large", {"quotas": {"web": {"memory_mb": 200}}}, ["quota", "web"]),
        ("m1.large", {"health_checks": [{"type": "smell"}]}, ["smell"]),
        ("", {}, ["No flavor was named"]),
    ]
    for flavor, more, words in bad:
        resize(world, guest, flavor, **more).refused(*words)
    assert world.watch.stops_since(guest, begun) == 0
    assert world.lab.virsh("node1", "dumpxml", "--inactive", guest.uuid) == before
    check_alone_or_never_moved(world, guest)
    plan = world.play("resize", "--check", server="refused", flavor="m1.large", flavors=FLAVORS, target_host="node1").check()
    assert "would be resized from m1.small to m1.large on node1" in " ".join(plan.output.split())
    assert world.lab.virsh("node1", "dumpxml", "--inactive", guest.uuid) == before
    world.remove(guest)


def check_alone_or_never_moved(world: World, guest: GuestState) -> None:
    """No claim, no file, and the guest is as it was."""
    laws.check_runs_on(world.lab, guest, "node1", [guest.name])
    check_seen(world, guest, SMALL)
    assert laws.claims(world.lab, guest) == []
    for node in ("node1", "node2", "node3"):
        assert laws.names_on(world.lab, node, f"{guest.name}-vda.qcow2.") == []
