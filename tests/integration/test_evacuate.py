# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evacuation on the lab: a node is fenced by IPMI, its servers come up elsewhere, and it comes back. Cases 72-74, 76-78, 82, 83, 85, 87, F, G."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from integration import job_template, laws, runs
from integration.test_guard import GUARD

from lab import MIB, DiskSpec, GuestSpec, bmc
from lab.network import CONTROL_IPV4, bmc_address, inside
from lab.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import World
    from integration.runs import Outcome

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow]

LOST, OTHER, THIRD = "node1", "node2", "node3"
#: Silence takes its time; test_fence.py waits for all of it.
HURRIED = {"coldmove_witnesses": 1, "coldmove_fence_interval": 0.3}
#: An agent that gives up soon.
HASTY = {"agent": "fence_ipmilan", "options": {"ip": bmc_address(1), **bmc.OPTIONS, "power_timeout": 2, "power_wait": 0}}


class Site:
    """Three nodes with a store that the first two share."""

    def __init__(self, world: World) -> None:
        self.world, self.lab = world, world.lab
        self.store = world.lab.share("evacuate", [LOST, OTHER])
        self.guests: list[GuestState] = []
        self.fenced = False

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
        outcome = self.world.play("evacuate", *options, **{"failed_host": LOST, **HURRIED, **variables})
        self.fenced = self.fenced or not self.lab.is_running(LOST)
        return outcome

    def come_back(self) -> None:
        """Power on: the guard runs before libvirtd."""
        self.lab.start(LOST)

    def end(self) -> None:
        """All nodes are up and in service, nothing of the guests is left."""
        for node in (LOST, OTHER, THIRD):
            self.lab.bmc(node, "obeys")
            self.lab.mend(node)
            self.lab.start(node)
        if self.fenced:
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


@pytest.mark.nightly
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

    # It is up again behind a network that is still cut: nobody has told its guard anything. Then it hears of all.
    site.come_back()
    assert lab.running_on(first) == [OTHER]
    assert "the records host has not answered" in lab.exec(LOST, "virsh", "start", first.uuid, check=False).stderr
    lab.mend(LOST)
    lab.exec(LOST, GUARD, "--ask")
    assert "evacuated to node2" in lab.exec(LOST, "virsh", "start", first.uuid, check=False).stderr
    lab.exec(LOST, GUARD, "--retry", check=False)
    assert lab.running_on(first) == [OTHER]
    assert lab.guest_state(LOST, first) is None and lab.guest_state(LOST, off) is None
    world.play("recover", host=LOST).check()
    for guest in (first, off):
        row = laws.record(lab, guest)
        assert (row["status"], row["pending_hosts"]) == ("completed", [])
        assert lab.exec(OTHER, "test", "-f", guest.files[0]).returncode == 0
    assert lab.running_on(first) == [OTHER]
    world.play("compute_service", host=LOST, state="enabled").check()
    site.sync()
    world.play("cold_migrate", server=first.name, target_host=LOST).check()
    laws.check_moved(lab, first, [first.name])
    world.play("confirm", server=first.name).check()
    laws.check_runs_on(lab, first, LOST, [first.name])


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


def test_the_guard_has_what_is_left_cleaned(site: Site) -> None:
    """A node that is back tells the records host, which has a controller elsewhere run `recover`: nobody types anything."""
    lab = site.lab
    local, shared, image = site.guest("left", DiskSpec(64 * MIB)), site.guest("survives"), "/var/lib/libvirt/images/golden.qcow2"
    site.sync()
    url = f"http://{CONTROL_IPV4}:8052{job_template.PATH}"
    headers = ["-H", "Authorization: Bearer s3cret", "-H", "Content-Type: application/json"]
    launch = ["curl", "-fsS", *headers, "-d", '{"extra_vars": {"host": "{host}"}}', url]
    site.world.play("prepare", "--limit", "localhost,records", return_command=launch).check()
    lab.kill(LOST)
    lab.exec(OTHER, "qemu-img", "create", "-q", "-f", "qcow2", image, "32M")
    site.evacuate(evacuate_image=image, accept_lost_disks="left/vda", target_host=OTHER).check()
    lab.exec(OTHER, "rm", "-f", image)
    try:
        with jobs(site, "recover") as ended:
            site.come_back()
            assert laws.names_on(lab, LOST, "left")
            assert "its cleaning has begun" in lab.exec(LOST, GUARD, "--retry", check=False).stderr
            assert ended.readline() == "0\n"
        for guest in (local, shared):
            row = laws.record(lab, guest)
            assert (row["status"], row["pending_hosts"]) == ("completed", [])
            assert lab.running_on(guest) == [OTHER] and lab.guest_state(LOST, guest) is None
        assert laws.names_on(lab, LOST, "left") == []
        assert lab.exec(OTHER, "test", "-f", shared.files[0]).returncode == 0
        assert "cleaning" not in lab.exec(LOST, GUARD, "--retry", check=False).stderr
    finally:
        site.world.play("prepare", "--limit", "localhost,records").check()


@contextlib.contextmanager
def jobs(site: Site, playbook: str) -> Iterator[IO[str]]:
    """A controller at the lab's switch that launches a playbook for whoever has its token; yields what it prints of each job's end."""
    controller = [sys.executable, job_template.__file__, CONTROL_IPV4, "8052", "s3cret"]
    ansible = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(site.lab.inventory_path), f"coldmove.libvirt.{playbook}"]
    argv = [*inside(site.lab.holder.pid), *controller, *ansible]
    with subprocess.Popen(argv, cwd="/", env=runs.environment(1), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as server:
        assert server.stdout
        try:
            assert server.stdout.readline() == "ready\n"
            yield server.stdout
        finally:
            server.kill()


@pytest.mark.nightly
def test_no_proof_no_evacuation(site: Site) -> None:
    """Case F: nothing is started anywhere without a proof (test_fence.py has the other BMCs that do not obey)."""
    guest = site.guest("unproven")
    site.sync()
    site.lab.bmc(LOST, "lies")
    site.lab.cut(LOST)
    site.evacuate(fence=HASTY).refused(LOST, "Nothing was started anywhere")
    assert site.lab.running_on(guest) == [LOST]
    assert laws.records(site.lab, guest) == []


@pytest.mark.nightly
def test_start_fails_on_the_dest(site: Site) -> None:
    """Case 78: the shared disk is kept untouched, the dest is clean, and a retry works."""
    lab = site.lab
    guest = site.guest("retry")
    site.sync()
    lab.kill(LOST)
    with site.world.broken_emulator(OTHER):
        site.evacuate().refused("no guest starts today", f"Nothing of it is left on {OTHER}")
    assert laws.record(lab, guest)["status"] == "failed"
    assert lab.guest_state(OTHER, guest) is None
    assert lab.exec(OTHER, "test", "-f", guest.files[0]).returncode == 0
    site.evacuate().check()
    lab.wait_ready(guest)
    assert lab.running_on(guest) == [OTHER]
    assert "retry" in lab.read_markers(guest)


@pytest.mark.nightly
def test_a_network_that_is_cut_never_yields_two(site: Site) -> None:
    """The node is alive and its server runs: whatever the operator says short of an untruth that nothing contradicts, nothing is started elsewhere."""
    lab, guest = site.lab, site.guest("cut-off")
    site.sync()
    statement = "ann: I have not looked"

    # Only the controller is cut off from it.
    lab.exec(LOST, "ip", "route", "add", "blackhole", CONTROL_IPV4)
    try:
        for said in ("", statement):
            site.evacuate(fenced_by=said).refused(f"{LOST} is up: it answers to")
    finally:
        lab.exec(LOST, "ip", "route", "del", "blackhole", CONTROL_IPV4)

    # Everybody is, and its power cannot be read; then it reads as on; then most of the nodes are silent.
    lab.cut(LOST)
    lab.bmc(LOST, "off")
    site.evacuate(fence={"agent": "fence_ipmilan", "options": {"ip": "192.0.2.1", "power_timeout": 1}}).refused("the power cannot be read")
    site.evacuate(fence={}).refused(f"nothing proves that {LOST} is off")
    lab.bmc(LOST, "obeys")
    site.evacuate(fenced_by=statement).refused("its fence agent reads its power as on")
    lab.cut(THIRD)
    site.evacuate().refused("2 of 3 compute nodes do not answer", "accept_mass_failure=true")
    lab.mend(THIRD)
    site.world.play("recover", server=guest.name).refused(f"It may be on a node that does not answer: {LOST}")
    assert lab.running_on(guest) == [LOST]
    assert laws.records(lab, guest) == []

    # The network is mended: it never noticed.
    lab.mend(LOST)
    assert lab.running_on(guest) == [LOST]
    assert lab.guest_state(OTHER, guest) is None
    site.world.play("cold_migrate", server=guest.name, target_host=OTHER).check()
    laws.check_moved(lab, guest, [guest.name])
    site.world.play("confirm", server=guest.name).check()


@pytest.mark.nightly
def test_no_room_at_the_last_moment(site: Site) -> None:
    """Case 77: another server took the room between the plan and the claim. The record says failed, nothing is left, and a retry works."""
    lab, guest, rival = site.lab, site.guest("late"), site.world.guest("rival", node=THIRD)
    site.guests.append(rival)
    site.sync()
    lab.kill(LOST)
    # Memory for one of them.
    memory_mb = int(lab.virsh(OTHER, "nodeinfo").partition("Memory size:")[2].split()[0]) // 1024
    ratio = 1.5 * GuestSpec.memory_mib / memory_mb
    run = site.world.run("evacuate", failed_host=LOST, **HURRIED, target_host=OTHER, ram_allocation_ratio=ratio, reserved_memory_mb=0)
    run.wait_for("start", "Look at the node from the controller")
    site.world.play("cold_migrate", server=rival.name, target_host=OTHER).check()
    run.finish().refused("no valid host for server late")
    row = laws.record(lab, guest)
    assert (row["status"], row["dest_host"]) == ("failed", None)
    assert lab.guest_state(OTHER, guest) is None
    site.evacuate(target_host=OTHER).check()
    laws.check_runs_on(lab, guest, OTHER, [guest.name])


@pytest.mark.nightly
def test_deleted_meanwhile(site: Site) -> None:
    """Case 85: its owner removed the server from the node that it was evacuated to. The lost node comes back, is cleaned, and is in service again."""
    lab, guest = site.lab, site.guest("gone", autostart=True)
    site.sync()
    lab.kill(LOST)
    site.evacuate().check()
    lab.remove_guest(OTHER, guest)
    site.come_back()
    assert lab.running_on(guest) == []
    site.world.play("recover", host=LOST).check()
    assert lab.defined_on(guest) == []
    assert laws.record(lab, guest)["status"] == "completed"
    site.world.play("compute_service", host=LOST, state="enabled").check()


@pytest.mark.nightly
def test_moves_that_have_not_ended(site: Site) -> None:
    """Servers that wait for confirm on the lost node go back to the copies that another node holds; what was begun there and not set aside is evacuated."""
    world, lab = site.world, site.lab
    waits, begun = world.guest("waits", node=OTHER), site.guest("begun")
    site.guests.append(waits)
    world.play("cold_migrate", server=waits.name, target_host=LOST).check()
    site.sync()
    run = world.run("cold_migrate", server=begun.name, target_host=OTHER)
    run.wait_for("end", "Open the record and claim the capacity")
    run.kill()
    lab.kill(LOST)
    world.play("revert", server=waits.name, accept_lost_writes="true").refused(f"{LOST} does not answer")
    site.evacuate().refused("waits/vda", f"{OTHER} holds it as of", "accept_lost_disks=waits/vda")
    site.evacuate(accept_lost_disks="waits/vda").check()
    assert laws.record(lab, waits)["status"] == "reverted"
    assert [row["status"] for row in laws.records(lab, begun)] == ["error", "done"]
    for guest in (waits, begun):
        lab.wait_ready(guest)
        assert lab.running_on(guest) == [OTHER]
        assert lab.read_markers(guest) == [guest.name]
    assert site.evacuate(accept_lost_disks="waits/vda").check().changed() == 0
    site.come_back()
    assert lab.running_on(waits) == lab.running_on(begun) == [OTHER]
    world.play("recover", host=LOST).check()
    for guest in (waits, begun):
        assert lab.defined_on(guest) == [OTHER]
        laws.check_clean(lab, LOST, waits, laws.record(lab, waits))


@pytest.mark.nightly
def test_admin_password(site: Site) -> None:
    """As `nova evacuate --password`: set by the agent after the start, a WARNING where there is none, and never to be read anywhere."""
    lab, password = site.lab, "n3w-s3cret"
    talks, mute, off = site.guest("talks", agent=True), site.guest("mute"), site.guest("off", start=False, agent=True)
    site.sync()
    lab.kill(LOST)
    done = site.evacuate("-vvv", fenced_by="ann: its plug is in my hand", admin_password=password, admin_password_timeout="60").check()
    assert "the definition of mute has no channel of a guest agent" in done.output
    assert "mute is up on node2, but has no new password" in done.output
    assert not any(f"{name} is up on" in done.output for name in ("talks", "off"))
    assert sorted((lab.running_on(talks), lab.running_on(mute), lab.running_on(off))) == [[], [OTHER], [OTHER]]
    # The command line of this very run is the test's; nothing else repeats it.
    assert password not in done.output
    kept = lab.agent(OTHER, talks, "guest-exec", path="cat", arg=["/run/chpasswd"], **{"capture-output": True})["pid"]
    said = wait_for("what the guest kept", lambda: lab.agent(OTHER, talks, "guest-exec-status", pid=kept).get("out-data"), 20)
    assert base64.b64decode(said).decode().strip() == f"root:{password}"
    assert lab.exec("records1", "grep", "-rlF", password, "/var/lib/coldmove", check=False).stdout == ""
    assert lab.exec(OTHER, "grep", "-rlF", password, "/var/lib/coldmove", "/run/coldmove", "/var/log", check=False).stdout == ""


@pytest.mark.nightly
def test_halt_after_a_batch_that_failed(site: Site) -> None:
    """What goes wrong with most of the first servers is not done to the others."""
    lab = site.lab
    guests = [site.guest(f"halt{number}") for number in range(3)]
    site.sync()
    lab.kill(LOST)
    stated = {"fenced_by": "ann: its plug is in my hand", "evacuate_batch": "1"}
    with site.world.broken_emulator(OTHER):
        site.evacuate(**stated).refused("no guest starts today", "not begun: 1 of 1 server before it failed")
    assert [len(laws.records(lab, guest)) for guest in guests] == [1, 0, 0]
    site.evacuate(**stated).check()
    assert [lab.running_on(guest) for guest in guests] == [[OTHER]] * 3
