# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evacuation on the lab: a node is fenced by IPMI, its servers come up elsewhere, and it comes back. Cases 72-74, 76-78, 82, 83, 85, 87, F, G."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from integration import laws

from lab import MIB, DiskSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import World
    from integration.runs import Outcome

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow]

LOST, OTHER, THIRD = "node1", "node2", "node3"


class Site:
    """Three nodes with a store that the first two share."""

    def __init__(self, world: World) -> None:
        self.world, self.lab = world, world.lab
        self.store = world.lab.share("evacuate", [LOST, OTHER])
        self.guests: list[GuestState] = []

    def guest(self, name: str, *disks: DiskSpec, **more: Any) -> GuestState:
        """A running server of the node that is to be lost."""
        guest = self.world.guest(name, disks[0] if disks else DiskSpec(directory=self.store), node=LOST, **more)
        self.guests.append(guest)
        return guest

    def sync(self) -> None:
        """Keep what is known of all servers."""
        self.world.play("sync").check()

    def evacuate(self, *options: str, **variables: Any) -> Outcome:
        """Run the verb on the lost node."""
        return self.world.play("evacuate", *options, **{"failed_host": LOST, **variables})

    def come_back(self) -> None:
        """Power on: the guard runs before libvirtd."""
        self.lab.start(LOST)

    def end(self) -> None:
        """All nodes are up and in service, nothing of the guests is left."""
        for node in (LOST, OTHER, THIRD):
            self.lab.bmc(node, "obeys")
            self.lab.mend(node)
            self.lab.start(node)
        self.world.play("recover", host=LOST)
        self.world.play("compute_service", host=LOST, state="enabled")
        for guest in self.guests:
            self.world.remove(guest)
        self.lab.unshare("evacuate", [LOST, OTHER])


@pytest.fixture
def site(world: World) -> Iterator[Site]:
    """A site that is whole again afterwards."""
    made = Site(world)
    yield made
    made.end()


def test_fence_evacuate_return_and_migrate_back(site: Site) -> None:
    """Cases 72, 73, 76, 82, 87: on shared storage, by IPMI, with a server that is off, and one of the operator's own order."""
    world, lab = site.world, site.lab
    site.sync()  # forgets what other tests have left
    first, off = site.guest("first", autostart=True), site.guest("off", start=False)
    site.evacuate().refused("no server is known to be on node1")
    site.sync()
    site.evacuate().refused(LOST, "up")
    assert lab.running_on(first) == [LOST]
    site.evacuate(target_host=LOST).refused("already")
    site.evacuate(target_host="nowhere").refused("nowhere")
    site.evacuate(target_host=THIRD).refused("first: no valid host", "name an image on node3")

    planned = site.evacuate("--check").output
    assert "survives" in planned
    assert lab.running_on(first) == [LOST]

    # The node is there for nobody: its BMC is asked to make sure.
    lab.cut(LOST)
    done = site.evacuate().check()
    assert not lab.is_running(LOST), done.output
    assert lab.running_on(first) == [OTHER]
    assert lab.guest_state(OTHER, off) == "shut off"
    lab.wait_ready(first)
    assert "first" in lab.read_markers(first)
    for guest in (first, off):
        row = laws.record(lab, guest)
        assert (row["migration_type"], row["status"], row["pending_hosts"]) == ("evacuation", "done", [LOST])
    assert site.evacuate().changed() == 0
    world.play("compute_service", host=LOST, state="enabled").refused("evacuated")

    lab.mend(LOST)
    site.come_back()
    assert lab.running_on(first) == [OTHER]
    assert lab.guest_state(LOST, first) == "shut off"
    assert "evacuated to node2" in lab.exec(LOST, "virsh", "start", first.uuid, check=False).stderr
    world.play("recover", host=LOST).check()
    assert lab.guest_state(LOST, first) is None and lab.guest_state(LOST, off) is None
    for guest in (first, off):
        row = laws.record(lab, guest)
        assert (row["status"], row["pending_hosts"]) == ("completed", [])
        assert lab.exec(OTHER, "test", "-f", guest.files[0]).returncode == 0
    assert lab.running_on(first) == [OTHER]
    world.play("compute_service", host=LOST, state="enabled").check()
    world.remove(off)


def test_local_disks(site: Site) -> None:
    """Case 74: refused until the loss is named and an image is there; what returns is cleaned by its exact names."""
    lab = site.lab
    local = site.guest("local", DiskSpec(64 * MIB))
    site.sync()
    image = "/var/lib/libvirt/images/golden.qcow2"
    lab.kill(LOST)
    site.evacuate(fenced_by="ann: its rack burnt").refused("evacuate_image")
    site.evacuate(evacuate_image=image).refused(image)
    for node in (OTHER, THIRD):
        lab.exec(node, "qemu-img", "create", "-q", "-f", "qcow2", image, "32M")
    site.evacuate(evacuate_image=image).refused("local/vda", "accept_lost_disks=local/vda")
    site.evacuate(evacuate_image=image, evacuate_image_format="raw", accept_lost_disks="local/vda", target_host=OTHER, server="local").check()
    row = laws.record(lab, local)
    assert (row["status"], row["dest_host"]) == ("done", OTHER)
    assert lab.running_on(local) == [OTHER]
    site.come_back()
    before = laws.names_on(lab, LOST, "local")
    assert before
    site.world.play("recover", host=LOST).check()
    assert laws.names_on(lab, LOST, "local") == []
    assert lab.running_on(local) == [OTHER]
    for node in (OTHER, THIRD):
        lab.exec(node, "rm", "-f", image)


@pytest.mark.parametrize("behaviour", ["lies", "fails", "off"])
def test_no_proof_no_evacuation(site: Site, behaviour: str) -> None:
    """Case F: nothing is started anywhere without a proof."""
    guest = site.guest("unproven")
    site.sync()
    site.lab.bmc(LOST, behaviour)
    site.lab.cut(LOST)
    site.evacuate().refused(LOST)
    assert site.lab.running_on(guest) == [LOST]
    assert laws.records(site.lab, guest) == []


def test_start_fails_on_the_dest(site: Site) -> None:
    """Case 78: the shared disk is kept untouched, the dest is clean, and a retry works."""
    lab = site.lab
    guest = site.guest("retry")
    site.sync()
    lab.kill(LOST)
    lab.exec(OTHER, "mv", "/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-system-x86_64.gone")
    try:
        site.evacuate().refused("retry")
    finally:
        lab.exec(OTHER, "mv", "/usr/bin/qemu-system-x86_64.gone", "/usr/bin/qemu-system-x86_64")
    assert lab.guest_state(OTHER, guest) is None
    assert lab.exec(OTHER, "test", "-f", guest.files[0]).returncode == 0
    site.evacuate().check()
    lab.wait_ready(guest)
    assert lab.running_on(guest) == [OTHER]
    assert "retry" in lab.read_markers(guest)
