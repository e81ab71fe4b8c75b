# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that comes back starts nothing that moved away, whoever asks for it; and what its key may do at the records host."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from integration import laws, runs
from integration.test_channel import BANNER, THROUGH

from lab import DiskSpec
from lab.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import World

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow]

GUARD = "/usr/local/sbin/coldmove-guard"
RECORDS = "10.88.0.10"
SSH = [
    *("ssh", "-F", "none", "-i", "/etc/coldmove/id_ed25519", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"),
    *("-o", "UserKnownHostsFile=/etc/coldmove/records_known_hosts", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes"),
]
#: The statuses of a move that is over.
MOVED = ("pre-migrating", "migrating", "post-migrating", "finished", "confirming", "confirmed")
ROOM = {"vcpus": 99, "memory_mb": 99999, "disk_bytes": 10**12}


def module(world: World, name: str, **arguments: Any) -> dict[str, Any]:
    """One write to the record store, by the module itself."""
    ansible = Path(sys.executable).with_name("ansible")
    argv = [ansible, "records1", "-i", world.lab.inventory_path, "-m", f"coldmove.libvirt.{name}", "-a", json.dumps(arguments)]
    done = subprocess.run(argv, cwd="/", env=runs.environment(1), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.partition("=>")[2]))


def write(world: World, **arguments: Any) -> dict[str, Any]:
    """One write to a migration's record."""
    return dict(module(world, "migration_record", **arguments)["migration"])


def record(world: World, guest: GuestState, migration_type: str, source: str, dest: str, *statuses: str) -> dict[str, Any]:
    """The record of a migration that has come so far."""
    need = {"vcpus": 1, "memory_mb": 1, "disk_bytes": 1}
    told = {"server_uuid": guest.uuid, "server_name": guest.name, "migration_type": migration_type, "source_host": source, "need": need, "as_of": 2**40}
    made = write(world, action="open", candidates=[{"host": dest, "capacity": ROOM, "used": {}, "counted": []}], **told)
    for status in statuses:
        write(world, action="transition", uuid=made["uuid"], epoch=made["epoch"], status=status)
    return made


def end(world: World, migration: dict[str, Any], *statuses: str) -> None:
    """Carry a record on."""
    for status in statuses:
        write(world, action="transition", uuid=migration["uuid"], epoch=migration["epoch"], status=status)


def reboot(world: World, *nodes: str) -> None:
    """Power loss and return."""
    for node in nodes:
        world.lab.kill(node)
    for node in nodes:
        world.lab.start(node)


def refused(world: World, node: str, guest: GuestState, *words: str) -> None:
    """A human in a hurry is told why not."""
    for way in (("start", guest.name), ("start", guest.uuid, "--paused"), ("create", f"/etc/libvirt/qemu/{guest.name}.xml")):
        done = world.lab.exec(node, "virsh", "-q", *way, check=False)
        assert done.returncode != 0, way
        for word in words:
            assert word in done.stderr, (way, done.stderr)
    assert world.lab.running_on(guest) == []


def state(world: World, node: str) -> dict[str, Any]:
    """What a node's guard knows since boot."""
    return dict(json.loads(world.lab.exec(node, "cat", "/run/coldmove/guard.json").stdout))


@contextlib.contextmanager
def silence(world: World, node: str) -> Iterator[None]:
    """The records host is off the network, and the node does not wait long for it when it boots."""
    settings = world.lab.exec(node, "cat", "/etc/coldmove/guard.json").stdout
    world.lab.exec(node, "tee", "/etc/coldmove/guard.json", stdin=json.dumps({**json.loads(settings), "wait_seconds": 1}))
    world.lab.cut("records1")
    try:
        yield
    finally:
        world.lab.mend("records1")
        world.lab.exec(node, "tee", "/etc/coldmove/guard.json", stdin=settings)


@pytest.fixture(scope="module")
def guests(prepared: World) -> Iterator[dict[str, GuestState]]:
    """Three guests on node1, all to be autostarted: one that the records know there, one that is evacuated, one that nobody knows."""
    made = {name: prepared.guest(name, start=False, autostart=True) for name in ("home", "left", "own")}
    record(prepared, made["home"], "migration", "node3", "node1", *MOVED)
    left = record(prepared, made["left"], "evacuation", "node1", "node2")
    try:
        yield made
    finally:
        end(prepared, left, "failed")
        for guest in made.values():
            prepared.remove(guest)


def test_a_node_that_returns_starts_nothing_that_was_evacuated(world: World, guests: dict[str, GuestState]) -> None:
    """Autostart, and every way to start by hand, are refused with the words; what is the node's own starts."""
    reboot(world, "node1")
    for name in ("home", "own"):
        wait_for(f"autostart of {name}", lambda name=name: world.lab.running_on(guests[name]) == ["node1"], 30)  # type: ignore[misc]
    refused(world, "node1", guests["left"], "left was evacuated to node2", "coldmove.libvirt.recover -e host=node1")
    assert state(world, "node1")["answered"]


def test_what_went_on_elsewhere_is_undefined(world: World) -> None:
    """Its files stay, they are `recover`'s; and so does its definition, in a file that libvirt does not read."""
    guest = world.guest("went", start=False, autostart=True)
    made = record(world, guest, "evacuation", "node1", "node2", "pre-migrating")
    reboot(world, "node1")
    world.lab.exec("node1", GUARD, "--retry")
    assert world.lab.defined_on(guest) == ["node1"]
    write(world, action="transition", uuid=made["uuid"], epoch=made["epoch"], status="done", pending_hosts=["node1"])
    reboot(world, "node1")
    assert f"undefined {guest.uuid}, it was evacuated" in world.lab.exec("node1", GUARD, "--retry").stderr
    assert world.lab.defined_on(guest) == []
    assert world.lab.exec("node1", "test", "-s", guest.files[0], check=False).returncode == 0
    assert guest.uuid in world.lab.exec("node1", "cat", f"/var/lib/coldmove/undefined/{guest.uuid}.json").stdout
    end(world, made, "completed")


def test_nobody_answers(world: World, guests: dict[str, GuestState]) -> None:
    """What the records know stays down and says why, over any number of boots; then one command starts what is at home."""
    reboot(world, "node1")
    with silence(world, "node1"):
        for _boot in range(2):
            reboot(world, "node1")
            wait_for("autostart of own", lambda: world.lab.running_on(guests["own"]) == ["node1"], 30)
            refused(world, "node1", guests["home"], "has not answered since boot", "records1", "coldmove-guard --retry")
            refused(world, "node1", guests["left"], "left was evacuated to node2")
        assert world.lab.exec("node1", GUARD, "--retry", check=False, timeout=60).returncode == 1
        assert world.lab.running_on(guests["home"]) == []
    done = world.lab.exec("node1", GUARD, "--retry")
    assert f"started {guests['home'].uuid}" in done.stderr
    assert world.lab.running_on(guests["home"]) == ["node1"]
    refused(world, "node1", guests["left"], "left was evacuated to node2")
    assert world.lab.exec("node1", GUARD, "--retry").stderr == ""


def test_whoever_is_asked_for_later_is_asked_for_anew(world: World, guests: dict[str, GuestState]) -> None:
    """Nobody answered at boot, but does when a human wants the server."""
    with silence(world, "node1"):
        reboot(world, "node1")
        wait_for("autostart of own", lambda: world.lab.running_on(guests["own"]) == ["node1"], 30)
    wait_for("start of home", lambda: world.lab.exec("node1", "virsh", "-q", "start", "home", check=False).returncode == 0, 30, pause=1)
    assert state(world, "node1")["answered"]


@pytest.mark.nightly
def test_verbs_are_not_in_their_own_way(world: World) -> None:
    """Both nodes were told at boot that the server is elsewhere, or at home: moves there and back work, and a human may start it where it is."""
    guest = world.guest("roamer", start=False)
    record(world, guest, "migration", "node3", "node1", *MOVED)
    reboot(world, "node1", "node2")
    assert guest.uuid in [away["server_uuid"] for away in state(world, "node2")["away"]]
    world.lab.start_guest("node1", guest)
    world.lab.write_marker(guest, guest.name)
    try:
        world.play("cold_migrate", server=guest.name, target_host="node2").check()
        laws.check_moved(world.lab, guest, [guest.name])
        world.lab.shutdown_guest("node2", guest)
        world.lab.exec("node2", "sleep", "10")  # what was asked just now is not asked again
        world.lab.start_guest("node2", guest)
        world.play("revert", server=guest.name, accept_lost_writes="true").check()
        laws.check_runs_on(world.lab, guest, "node1", [guest.name])
        assert world.lab.exec("node2", "ls", "/run/coldmove/starts").stdout == ""
    finally:
        world.remove(guest)


def test_a_migration_of_libvirts_own(world: World) -> None:
    """Live, by virsh, to a node that was told that the server is elsewhere."""
    guest = world.guest("nomad", start=False)
    record(world, guest, "migration", "node3", "node1", *MOVED)
    reboot(world, "node1", "node2")
    world.lab.start_guest("node1", guest)
    world.lab.exec("node1", "install", "-m", "600", "/dev/stdin", "/run/key", stdin=world.lab.paths.key.read_text())
    to = "qemu+ssh://root@10.88.0.12/system?keyfile=/run/key&no_verify=1&sshauth=privkey&known_hosts=/dev/null"
    try:
        disk = Path(guest.files[0])
        world.lab.exec("node2", "qemu-img", "create", "-f", disk.suffix[1:], str(disk), "64M")
        with world.watch.one_is_paused(guest):
            world.lab.exec("node1", "virsh", "migrate", "--live", "--copy-storage-all", "--persistent", guest.name, to, timeout=120)
        assert world.lab.running_on(guest) == ["node2"]
    finally:
        world.remove(guest)


def test_what_a_verb_brought_stays_down_unanswered(world: World) -> None:
    """The node was never told of the server, but a verb brought it: the records know it there, and may have it elsewhere by now."""
    guest = world.guest("brought", start=False, autostart=True)
    try:
        world.play("cold_migrate", server=guest.uuid, target_host="node2").check()
        assert guest.uuid not in world.lab.exec("node2", "cat", "/var/lib/coldmove/managed.json").stdout
        with silence(world, "node2"):
            reboot(world, "node2")
            refused(world, "node2", guest, "has not answered since boot", "coldmove-guard --retry")
        assert f"started {guest.uuid}" in world.lab.exec("node2", GUARD, "--retry").stderr
        assert world.lab.running_on(guest) == ["node2"]
    finally:
        world.remove(guest)


def test_what_a_sync_saw_stays_down_unanswered(world: World) -> None:
    """The guard's way to the records host was shut when the sync wrote the record: what can be evacuated is known as such all the same."""
    guest = world.guest("synced", start=False, autostart=True)
    settings = world.lab.exec("node1", "cat", "/etc/coldmove/guard.json").stdout
    told = json.loads(settings)
    shut = {**told, "wait_seconds": 1, "records": {**told["records"], "port": 9}}
    world.lab.exec("node1", "tee", "/etc/coldmove/guard.json", stdin=json.dumps(shut))
    try:
        world.play("sync").check()
        assert guest.uuid not in world.lab.exec("node1", "cat", "/var/lib/coldmove/managed.json").stdout
        reboot(world, "node1")
        refused(world, "node1", guest, "has not answered since boot", "coldmove-guard --retry")
    finally:
        world.lab.exec("node1", "tee", "/etc/coldmove/guard.json", stdin=settings)
        world.remove(guest)


def test_a_fenced_node_starts_nothing_until_it_is_in_service(world: World) -> None:
    """Whoever had it fenced may just be bringing its servers up elsewhere: no record says so of each of them yet."""
    guest = world.guest("given-up", node="node2", start=False, autostart=True)
    record(world, guest, "migration", "node3", "node2", *MOVED)
    words = ("given-up stays down", "node2 was fenced by alice", "coldmove.libvirt.compute_service -e host=node2 -e state=enabled")
    module(world, "compute_service", host="node2", fenced={"how": "fence_ipmilan", "by": "alice", "reason": "it does not answer"})
    try:
        reboot(world, "node2")
        refused(world, "node2", guest, *words)
        with silence(world, "node2"):
            reboot(world, "node2")
            refused(world, "node2", guest, *words)
        assert world.lab.exec("node2", GUARD, "--retry", check=False).returncode == 1
        assert world.lab.running_on(guest) == []
        world.play("compute_service", host="node2", state="enabled").check()
        assert f"started {guest.uuid}" in world.lab.exec("node2", GUARD, "--retry").stderr
        assert world.lab.running_on(guest) == ["node2"]
    finally:
        module(world, "compute_service", host="node2", state="enabled")
        world.remove(guest)


# --- what the key may do


def ssh(world: World, *words: str, account: str = "coldmove-guard", node: str = "node1") -> subprocess.CompletedProcess[str]:
    """Ssh from a node to the records host with the node's key."""
    return world.lab.exec(node, *SSH, *words[:-1], "-l", account, RECORDS, *([words[-1]] if words[-1] else []), check=False, timeout=20)


@pytest.mark.parametrize(
    "words",
    [("",), ("id",), ("sudo id",), ("coldmove-answer node2",), ("returned",), ("-tt", ""), ("-tt", "id"), ("-s", "sftp"), ("-A", "id"), ("-X", "id")],
    ids=["shell", "command", "sudo", "other-node", "returned", "pty", "pty-command", "sftp", "agent", "x11"],
)
def test_one_answer_and_nothing_else(world: World, words: tuple[str, ...]) -> None:
    """Whatever is asked for, the answer is the one to this node; a terminal is refused."""
    for node in ("node1", "node2"):
        done = ssh(world, *words, node=node)
        if "-tt" in words:
            assert done.stdout == "" and "PTY allocation request failed" in done.stderr, done.stderr
        else:
            assert json.loads(done.stdout)["host"] == node, done.stderr


def test_no_file(world: World) -> None:
    """Scp, both ways, old protocol and new."""
    for protocol in ("-O", "-s"):
        for pair in ((f"coldmove-guard@{RECORDS}:/etc/hostname", "/tmp/got"), ("/etc/hostname", f"coldmove-guard@{RECORDS}:/tmp/put")):
            assert world.lab.exec("node1", "scp", protocol, *SSH[1:], *pair, check=False, timeout=20).returncode != 0
    assert world.lab.exec("node1", "test", "-e", "/tmp/got", check=False).returncode != 0
    assert world.lab.exec("records1", "test", "-e", "/tmp/put", check=False).returncode != 0


@pytest.mark.parametrize(
    ("near", "option"),
    [("9901", ("-L", "9901:127.0.0.1:22")), ("/run/near.sock", ("-L", "/run/near.sock:127.0.0.1:22")), ("1080", ("-D", "1080"))],
    ids=["tcp", "socket", "dynamic"],
)
def test_no_way_in(world: World, near: str, option: tuple[str, ...]) -> None:
    """No port of the records host can be connected to."""
    done = world.lab.exec("node1", "sh", "-c", THROUGH, "sh", near, *SSH, "-N", *option, "-l", "coldmove-guard", RECORDS, check=False, timeout=30)
    assert BANNER not in done.stdout and done.stdout == "", done.stdout
    assert "prohibited" in done.stderr or "open failed" in done.stderr, done.stderr


@pytest.mark.parametrize("listen", ["127.0.0.1:9903:127.0.0.1:22", "9903:127.0.0.1:22", "1081", "/tmp/out:127.0.0.1:22"])
def test_no_listening(world: World, listen: str) -> None:
    """The records host listens on nothing for a node."""
    done = ssh(world, "-N", "-R", listen, "")
    assert done.returncode == 255 and "remote port forwarding failed" in done.stderr, done.stderr


def test_no_other_account(world: World) -> None:
    """The key opens no other account of the records host."""
    for account in ("root", "nobody", "coldmove"):
        done = ssh(world, "id", account=account)
        assert done.returncode == 255 and "Permission denied" in done.stderr, done.stderr


def test_the_account_has_nothing_of_the_store(world: World) -> None:
    """Whoever got into the account, past sshd, would have the same program's answers, and no definition."""
    as_account = ["setpriv", "--reuid=coldmove-guard", "--regid=coldmove-guard", "--init-groups"]
    for path in ("/var/lib/coldmove/records.sqlite", "/etc/coldmove/record_store.json", "/etc/shadow"):
        assert world.lab.exec("records1", *as_account, "cat", path, check=False).returncode != 0
    for command in (["id"], ["sh"], ["cat", "/etc/shadow"], ["/usr/bin/python3"]):
        assert world.lab.exec("records1", *as_account, "sudo", "-n", *command, check=False).returncode != 0
    answer = world.lab.exec("records1", *as_account, "sudo", "-n", "/usr/local/sbin/coldmove-answer", "node2").stdout
    assert json.loads(answer)["host"] == "node2" and "<domain" not in answer


@pytest.mark.nightly
def test_prepare_again_changes_nothing(world: World) -> None:
    """And a node that is silent meanwhile keeps its line."""
    lines = world.lab.exec("records1", "cat", "/etc/coldmove/guard_keys").stdout
    assert world.play("prepare").check().changed() == 0
    world.lab.cut("node3")
    try:
        assert world.play("prepare").well("node1")
        assert world.lab.exec("records1", "cat", "/etc/coldmove/guard_keys").stdout == lines
    finally:
        world.lab.mend("node3")


# --- leases


@pytest.mark.nightly
def test_two_nodes_cannot_open_one_disk(world: World) -> None:
    """With lockd and a shared store, libvirt itself refuses the second start, even of a server that no record knows.

    A file that two QEMUs of one kernel open is locked by themselves, before any lease is asked for. So that the lease alone is what refuses,
    the second guest's disk is another file on each node, of the same path; like a device, whose locks end at its node.
    """
    store = world.lab.share("leased", ["node2", "node3"])
    before = {node: world.lab.exec(node, "cat", "/etc/libvirt/qemu.conf").stdout for node in ("node2", "node3")}
    shared = world.guest("leased", DiskSpec(directory=store), node="node2", start=False)
    device = world.guest("device", node="node2", start=False)
    copy = world.lab.images("node2") / Path(device.files[0]).name
    (world.lab.images("node3") / copy.name).write_bytes(copy.read_bytes())
    try:
        world.play("prepare", coldmove_disk_lease="lockd").refused("coldmove_disk_lease_directory")
        assert before == {node: world.lab.exec(node, "cat", "/etc/libvirt/qemu.conf").stdout for node in before}
        settings = {"coldmove_disk_lease": "lockd", "coldmove_disk_lease_directory": f"{store}/leases"}
        world.play("prepare", "--limit", "localhost,records,node2,node3", **settings).check()
        assert world.play("prepare", "--limit", "localhost,records,node2,node3", **settings).check().changed() == 0
        reboot(world, "node2", "node3")
        for guest, word in ((shared, "lock"), (device, "Lockspace resource")):
            world.lab.exec("node3", "virsh", "define", "/dev/stdin", stdin=world.lab.virsh("node2", "dumpxml", guest.name))
            world.lab.start_guest("node2", guest)
            with world.watch.one_is_paused(guest):
                second = world.lab.exec("node3", "virsh", "-q", "start", guest.name, check=False)
            assert second.returncode != 0 and word in second.stderr, second.stderr
            assert world.lab.running_on(guest) == ["node2"]
        world.lab.shutdown_guest("node2", shared)
        world.lab.start_guest("node3", shared)
        moves_with_its_leases(world)
        world.lab.kill("node2")  # its leases end with it: nothing has to be broken by force for an evacuation
        world.lab.start_guest("node3", device)
    finally:
        world.lab.start("node2")
        for node, content in before.items():
            world.lab.exec(node, "tee", "/etc/libvirt/qemu.conf", stdin=content)
            world.lab.exec(node, "rm", "-f", "/etc/libvirt/qemu-lockd.conf")
        world.remove(shared)
        world.remove(device)
        reboot(world, "node2", "node3")
        world.lab.unshare("leased", ["node2", "node3"])


def moves_with_its_leases(world: World) -> None:
    """A disk that is not shared goes from one node with leases to another, and back, with the guest running meanwhile."""
    guest = world.guest("lessee", node="node2")
    try:
        world.play("cold_migrate", server=guest.name, target_host="node3").check()
        laws.check_moved(world.lab, guest, [guest.name])
        world.play("revert", server=guest.name, accept_lost_writes="true").check()
        laws.check_runs_on(world.lab, guest, "node2", [guest.name])
    finally:
        world.remove(guest)
