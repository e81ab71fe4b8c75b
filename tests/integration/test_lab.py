# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: does it do to nodes and guests what its commands say, and does nothing of it stay?"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab import MIB, DiskSpec, GuestSpec, Lab, LabError, bmc, server_metadata
from lab.network import bmc_address
from lab.processes import pids
from lab.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.state import GuestState

pytestmark = pytest.mark.lab

COMMAND = [sys.executable, str(Path(__file__).resolve().parents[1] / "lab")]
INSTANCES = "/var/lib/libvirt/images"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes and a records host; tests undo what they do to them."""
    with Lab(f"t{os.getpid()}", nodes=2) as made:
        yield made


def traces(name: str) -> list[str]:
    """Everything on the machine that belongs to a lab of this name: processes, mounts, loop devices, files, ssh connections."""
    found = [str(path) for path in (Path("/run/coldmove-lab", name), Path("/var/tmp/coldmove-lab", name)) if path.exists()]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if f"coldmove-lab/{name}" in line]
    found += [line for line in subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout.splitlines() if f"/{name}/" in line]
    for pid in pids():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"coldmove-lab/{name}" in line and "pytest" not in line:
            found.append(f"{pid}: {line}")
    return found


def reaches(lab: Lab, source: str, address: str) -> bool:
    """Whether one ping from a node is answered."""
    return lab.exec(source, "ping", "-c1", "-W1", address, check=False).returncode == 0


def test_nodes_are_machines_of_their_own(lab: Lab) -> None:
    """Own names, identities, keys, accounts, libvirt; the machine's state is not seen."""
    for command in (["hostname"], ["cat", "/etc/machine-id"], ["cat", "/etc/ssh/ssh_host_ed25519_key.pub"], ["cat", "/proc/sys/kernel/random/boot_id"]):
        assert lab.ssh("node1", *command).stdout != lab.ssh("node2", *command).stdout
    assert lab.virsh("node1", "net-list", "--name", "--autostart") == "lab"
    assert "uuid" in lab.virsh("node1", "capabilities")
    assert lab.exec("node1", "id", "coldmove", check=False).returncode != 0
    assert lab.exec("node1", "ls", "/home", "/srv", "/opt", "/var/lib/coldmove", check=False).stdout.split() == ["/home:", "/opt:", "/srv:"]
    assert lab.exec("node1", "ls", "-A", "/root").stdout.split() == [".profile", ".ssh"]


def test_names_and_both_families_reach(lab: Lab) -> None:
    """Nodes reach each other by name, IPv4 and IPv6."""
    for address in ("node2", "10.88.0.12", "fd88::12", "records1"):
        assert reaches(lab, "node1", address)


def test_inventory_kinds(lab: Lab, tmp_path: Path) -> None:
    """migration_address as name, IPv4 and IPv6."""
    for kind, address in (("name", "node2"), ("ipv4", "10.88.0.12"), ("ipv6", "fd88::12")):
        text = lab.write_inventory(tmp_path / kind, kind).read_text()  # type: ignore[arg-type]
        assert f'migration_address: "{address}"' in text


def test_guest_writes_survive_power_loss_and_autostart(lab: Lab) -> None:
    """What a guest was told is on its disk is there after its node lost power, came back and started the guest by itself."""
    spec = GuestSpec('we\'ird "näme" $x', [DiskSpec(content_mib=1), DiskSpec(32 * MIB, "raw", "swap")], vcpus=2, autostart=True)
    guest = lab.define_guest("node1", spec)
    try:
        lab.start_guest("node1", guest)
        assert lab.pings(guest)
        assert lab.running_on(guest) == lab.defined_on(guest) == ["node1"]
        info = lab.guest_info(guest)
        assert (info["uuid"], info["vcpus"], info["mac"], info["vda_bytes"]) == (guest.uuid, "2", guest.mac, str(64 * MIB))
        assert (info["vda_filesystem"], info["vdb_bytes"]) == ("ext4", str(32 * MIB))
        assert 50 * MIB < int(info["vda_filesystem_bytes"]) < 64 * MIB
        assert 100 * 1024 < int(info["memory_kib"]) < 160 * 1024
        assert int(info["swap_kib"]) > 32000
        assert lab.guest_command(guest, "verify") == "ok 1"
        assert lab.write_marker(guest, "first 'one' ü") == 1
        lab.guest_command(guest, "load start 0.01")
        time.sleep(1)
        boot_id = lab.exec("node1", "cat", "/proc/sys/kernel/random/boot_id").stdout
        lab.exec("node1", "touch", "/run/gone", "/etc/kept")
        lab.kill("node1")
        assert lab.running_on(guest) == []
        assert not lab.is_running("node1")
        lab.start("node1")
        lab.wait_ready(guest)
        words = lab.guest_command(guest, "acks").split()
        assert words[-1] == "complete"
        assert int(words[3]) >= lab.acked("node1", guest) > 0
        assert lab.read_markers(guest) == ["first 'one' ü"]
        assert lab.exec("node1", "cat", "/proc/sys/kernel/random/boot_id").stdout != boot_id
        assert lab.exec("node1", "sh", "-c", "ls /run/gone /etc/kept", check=False).stdout.split() == ["/etc/kept"]
        lab.shutdown_guest("node1", guest)
        assert lab.read_disk("node1", guest.files[0], "markers") == "first 'one' ü\n"
    finally:
        lab.remove_guest("node1", guest)
    assert lab.exec("node1", "ls", "-A", INSTANCES).stdout == ""


def test_guests_that_do_not_shut_down(lab: Lab) -> None:
    """One runs on, one has no system at all."""
    stubborn, mute = (lab.define_guest("node1", GuestSpec(name, shutdown=name)) for name in ("ignore", "mute"))
    try:
        lab.start_guest("node1", stubborn)
        lab.start_guest("node1", mute, wait=False)
        for guest in (stubborn, mute):
            lab.virsh("node1", "shutdown", guest.uuid)
        time.sleep(2)
        assert lab.guest_command(stubborn, "ping") == "pong"
        assert lab.guest_state("node1", mute) == "running"
        assert not lab.pings(mute)
    finally:
        for guest in (stubborn, mute):
            lab.remove_guest("node1", guest)


def test_agent_partitions_and_xfs(lab: Lab) -> None:
    """A guest with the real agent: its disks grow while it runs, and the agent's commands make partitions and file systems follow."""
    disks = [DiskSpec(table="gpt"), DiskSpec(320 * MIB, table="mbr", filesystem="xfs", content_mib=1), DiskSpec(32 * MIB, "raw", "swap", table="gpt")]
    guest = lab.define_guest("node1", GuestSpec("rich", disks, memory_mib=256, vcpus=2, agent=True))
    try:
        lab.start_guest("node1", guest)
        before = lab.guest_info(guest)
        assert [before[f"{name}_bytes"] for name in ("vda", "vda1", "vdb1", "vdc1")] == [str(size * MIB) for size in (64, 62, 318, 30)]
        assert (before["vda_filesystem"], before["vdb_filesystem"], before["vcpus"]) == ("ext4", "xfs", "2")
        assert 200 * 1024 < int(before["memory_kib"]) < 256 * 1024
        assert int(before["swap_kib"]) > 30000
        assert lab.guest_command(guest, "sh cd /disks/vdb && sha256sum -c SHA256SUMS") == "blob-1: OK"
        wait_for("the guest's agent", lambda: "state='connected'" in lab.virsh("node1", "dumpxml", guest.uuid), 20)
        for target in ("vda", "vdb"):
            lab.virsh("node1", "blockresize", guest.uuid, target, "512M")
        grow(lab, guest, "growpart /dev/vda 1 && resize2fs /dev/vda1 && growpart /dev/vdb 1 && xfs_growfs /disks/vdb")
        after = lab.guest_info(guest)
        for target in ("vda", "vdb"):
            assert after[f"{target}_bytes"] == str(512 * MIB)
            assert int(after[f"{target}1_bytes"]) >= 510 * MIB
            assert int(after[f"{target}_filesystem_bytes"]) > 440 * MIB
        lab.virsh("node1", "shutdown", guest.uuid, "--mode", "agent")
        wait_for("the guest's end", lambda: lab.guest_state("node1", guest) == "shut off", 20)
        assert lab.read_disk("node1", guest.files[0], "boots").count("boot ") == 1
    finally:
        lab.remove_guest("node1", guest)
    assert lab.exec("node1", "ls", "-A", INSTANCES).stdout == ""


def grow(lab: Lab, guest: GuestState, script: str) -> None:
    """Run a shell command in a guest by its agent, to its end."""
    pid = lab.agent("node1", guest, "guest-exec", path="sh", arg=["-c", script], **{"capture-output": True})["pid"]
    status = wait_for("the end of the command", lambda: _ended(lab.agent("node1", guest, "guest-exec-status", pid=pid)), 60, pause=0.2)
    said = "".join(base64.b64decode(status.get(name, "")).decode() for name in ("out-data", "err-data"))
    assert status["exitcode"] == 0, said


def _ended(status: dict[str, Any]) -> dict[str, Any] | None:
    return status if status["exited"] else None


def test_metadata_of_the_collection(lab: Lab) -> None:
    """Flavor, roles of disks and texts, as libvirt keeps them."""
    flavor = {"name": "m1.small", "vcpus": 1, "memory_mb": 160, "extra_specs": {"hw:cpu_policy": "shared"}}
    guest = lab.define_guest("node1", GuestSpec("known", metadata=server_metadata(flavor, {"vda": "root"}, project="web")))
    try:
        kept = lab.virsh("node1", "metadata", guest.uuid, "https://coldmove.github.io/libvirt/1")
        assert '<flavor name="m1.small" vcpus="1" memory_mb="160">' in kept
        for element in ('<extra_spec name="hw:cpu_policy">shared</extra_spec>', '<disk target="vda" role="root"/>', "<project>web</project>"):
            assert element in kept
    finally:
        lab.remove_guest("node1", guest)


def test_backing_chain(lab: Lab) -> None:
    """A disk of three layers, the content in the lowest."""
    guest = lab.define_guest("node2", GuestSpec("chain", [DiskSpec(layers=3)]))
    try:
        assert len(guest.files) == 3
        assert "made by the lab" in lab.read_disk("node2", guest.files[-1], "lab-disk")
    finally:
        lab.remove_guest("node2", guest)


def test_failed_define_leaves_nothing(lab: Lab) -> None:
    """A guest that libvirt refuses leaves no disk; one whose disk exists already leaves the other's disk alone."""
    with pytest.raises(LabError, match="Failed to define"):
        lab.define_guest("node2", GuestSpec("bad", machine="no-such-machine"))
    assert lab.exec("node2", "ls", "-A", INSTANCES).stdout == ""
    guest = lab.define_guest("node2", GuestSpec("once"))
    with pytest.raises(LabError, match="exists already"):
        lab.define_guest("node2", GuestSpec("twice", [DiskSpec(file="new.qcow2"), DiskSpec(file="once-vda.qcow2")]))
    assert lab.exec("node2", "ls", "-A", INSTANCES).stdout == "once-vda.qcow2\n"
    lab.remove_guest("node2", guest)


def test_guard_holds_libvirtd_back(lab: Lab) -> None:
    """libvirtd starts only when the guard has ended well."""
    guard = "/usr/local/sbin/coldmove-guard"
    lab.exec("node2", "sh", "-c", f"printf '#!/bin/sh\\nuntil [ -e /run/go ]; do sleep 0.1; done\\n' >{guard}; chmod +x {guard}")
    try:
        lab.kill("node2")
        lab.start("node2", wait="ssh")
        time.sleep(0.5)
        assert lab.exec("node2", "test", "-S", "/run/libvirt/libvirt-sock", check=False).returncode != 0
        lab.ssh("node2", "touch", "/run/go")
        lab.wait_booted("node2")
        assert lab.virsh("node2", "net-list", "--name") == "lab"
    finally:
        lab.exec("node2", "rm", guard)


def test_cut_and_mend(lab: Lab) -> None:
    """A cut node is silent, also after a reboot, until it is mended."""
    lab.cut("node2")
    try:
        assert not reaches(lab, "node1", "node2")
        lab.kill("node2")
        lab.start("node2")
        assert not reaches(lab, "node2", "fd88::11")
    finally:
        lab.mend("node2")
    # Its neighbours may hold on for a while to what they last knew of it.
    wait_for("node2's answer", lambda: reaches(lab, "node1", "fd88::12"), 60)
    wait_for("node2's name", lambda: lab.ssh("node2", "hostname", check=False).stdout == "node2\n", 60)


def test_bmcs_switch_the_power(lab: Lab) -> None:
    """By IPMI over LAN, as good and as bad as they are told to be."""

    def ipmi(*words: str, node: int = 2, check: bool = True) -> str:
        login = ("-I", "lanplus", "-H", bmc_address(node), "-C", "3", "-U", bmc.USER, "-P", bmc.PASSWORD, "-N", "1", "-R", "1")
        return lab.control("ipmitool", *login, "chassis", "power", *words, check=check).stdout.strip()

    try:
        assert (ipmi("status", node=1), ipmi("status")) == ("Chassis Power is on",) * 2
        for behaviour, power in (("lies", "on"), ("elsewhere", "off"), ("fails", "on")):
            lab.bmc("node2", behaviour)
            ipmi("off", check=behaviour != "fails")
            assert ipmi("status") == f"Chassis Power is {power}"
            assert lab.is_running("node2")
        lab.bmc("node2", "off")
        assert ipmi("status", check=False) == ""
        lab.bmc("node2", "off")
        lab.bmc("node2", "obeys")
        lab.cut("node2")
        ipmi("off")
        assert (lab.is_running("node2"), lab.is_running("node1"), ipmi("status")) == (False, True, "Chassis Power is off")
        ipmi("on")
        lab.wait_booted("node2")
        assert ipmi("status") == "Chassis Power is on"
    finally:
        lab.bmc("node2", "obeys")
        lab.mend("node2")
        lab.start("node2")
    with pytest.raises(LabError, match="BMC behaviour 'odd': give obeys, lies"):
        lab.bmc("node2", "odd")


def test_shape(lab: Lab) -> None:
    """4 MB through a link of 16 Mbit/s take two seconds; without the limit they take none."""
    script = "head -c 4000000 /dev/zero"

    def seconds() -> float:
        begin = time.monotonic()
        lab.ssh("node1", script)
        return time.monotonic() - begin

    lab.ssh("node1", "true")
    lab.shape("node1", "16mbit")
    try:
        shaped = seconds()
    finally:
        lab.unshape("node1")
    assert shaped > 1.5
    assert min(seconds() for _attempt in range(3)) < shaped / 2


def test_limit_and_fill(lab: Lab) -> None:
    """The instances path is small, full, and survives a reboot with what was in it."""
    lab.exec("node1", "sh", "-c", f"echo here >{INSTANCES}/file")
    try:
        assert 50 * MIB < lab.limit("node1", 64 * MIB) <= 64 * MIB
        assert lab.fill("node1", MIB) <= MIB
        assert "No space left" in lab.exec("node1", "dd", "if=/dev/zero", f"of={INSTANCES}/big", "bs=1M", "count=2", check=False).stderr
        lab.kill("node1")
        lab.start("node1")
        assert lab.free_bytes("node1") <= MIB
        lab.unfill("node1")
        assert lab.exec("node1", "cat", f"{INSTANCES}/file").stdout == "here\n"
    finally:
        lab.unlimit("node1")
    assert lab.exec("node1", "cat", f"{INSTANCES}/file").stdout == "here\n"
    assert lab.free_bytes("node1") > 100 * MIB
    lab.exec("node1", "sh", "-c", f"rm {INSTANCES}/*")
    with pytest.raises(LabError, match="limit its disk before"):
        lab.fill("node1", MIB)


def test_share(lab: Lab) -> None:
    """One directory on two nodes, also after a reboot; not on the third host."""
    path = lab.share("pool", ["node1", "node2"])
    lab.exec("node1", "sh", "-c", f"echo shared >{path}/file")
    assert lab.exec("node2", "cat", f"{path}/file").stdout == "shared\n"
    assert lab.exec("records1", "test", "-e", path, check=False).returncode != 0
    lab.kill("node2")
    lab.start("node2")
    assert lab.exec("node2", "cat", f"{path}/file").stdout == "shared\n"
    lab.unshare("pool", ["node1", "node2"])
    assert lab.exec("node2", "ls", path).stdout == ""


def test_second_lab_at_the_same_time(lab: Lab) -> None:
    """Same names, same addresses, other nodes; what happens to one does not reach the other."""
    with Lab(f"u{os.getpid()}", nodes=1) as other:
        assert other.ssh("node1", "cat", "/etc/machine-id").stdout != lab.ssh("node1", "cat", "/etc/machine-id").stdout
        other.limit("node1", 32 * MIB)
        other.kill("node1")
        assert lab.ssh("node1", "hostname").stdout == "node1\n"
        assert not reaches(lab, "node1", "fd88::99")
    assert traces(other.name) == []
    assert lab.is_running("node1")


def test_down_after_everything_leaves_nothing() -> None:
    """With guests running, faults on, ssh connections open; a second down is no error."""
    lab = Lab(f"v{os.getpid()}", nodes=2)
    before = subprocess.run(["ip", "link"], capture_output=True, check=True).stdout
    lab.up()
    guest = lab.define_guest("node1", GuestSpec("left"))
    lab.start_guest("node1", guest, wait=False)
    lab.limit("node2", 64 * MIB)
    lab.share("pool", ["node1", "node2"])
    lab.cut("node2")
    lab.ssh("node1", "true")
    assert traces(lab.name)
    lab.down()
    time.sleep(0.2)
    assert traces(lab.name) == []
    lab.down()
    assert subprocess.run(["ip", "link"], capture_output=True, check=True).stdout == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("delay", [0.1, 0.25, 0.45])
def test_interrupted_up_leaves_nothing(number: signal.Signals, delay: float) -> None:
    """`up` cleans up after itself; after SIGKILL the next `down` does."""
    name = f"w{os.getpid()}"
    with subprocess.Popen([*COMMAND, "up", "--name", name, "--nodes", "2"], stdout=subprocess.PIPE) as up:
        time.sleep(delay)
        up.send_signal(number)
        up.wait(20)
    if number == signal.SIGKILL or up.returncode == 0:
        subprocess.run([*COMMAND, "down", "--name", name], check=True)
    time.sleep(0.3)
    assert traces(name) == []


def test_lab_that_died_is_made_anew() -> None:
    """After a crash of the holder `up` begins again, without anything of before."""
    with Lab(f"x{os.getpid()}", nodes=1) as lab:
        lab.exec("node1", "touch", "/etc/before")
        lab.holder.kill()
        assert not lab.is_running("node1")
        lab.up()
        assert lab.exec("node1", "test", "-e", "/etc/before", check=False).returncode != 0
    assert traces(lab.name) == []


def test_mistakes_are_told(lab: Lab) -> None:
    """Errors name what was wrong."""
    with pytest.raises(LabError, match="has no node 'node9'"):
        lab.kill("node9")
    with pytest.raises(LabError, match="no lab named nosuch"):
        Lab("nosuch").cut("node1")
    with pytest.raises(LabError, match="lab name"):
        Lab("No/Such")
    with pytest.raises(LabError, match="rate"):
        lab.shape("node1", "fast")
