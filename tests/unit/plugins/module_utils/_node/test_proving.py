# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof after the start: a real NBD server in QEMU's place, a libvirt that outlives whoever asks it, steps that are killed before each of their writes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import content_digest, exports, libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.backup_xml import Backup
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import moves, paths, power, proving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, write_atomically
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import MOVE
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._node.kills import killed_everywhere

SERVER = "00000000-0000-4000-8000-000000000001"
MIB = 1024 * 1024
Content = bytes

needs_nbd = pytest.mark.skipif(not (shutil.which("qemu-nbd") and exports.HAS_NBD), reason="qemu-nbd and the Python library nbd (libnbd) are needed")


class Host:
    """A libvirt whose one server, with what is known of it, lies in a file. It serves a backup with qemu-nbd, from a copy of the disk."""

    def __init__(self, root: Path) -> None:
        self.root, self._file = root, root / "libvirt.json"
        self.disk = root / "vda.raw"
        self.policy = ""
        #: What libvirt says to a backup that is asked for.
        self.refuses: str | None = None
        self._put(state="shutoff", scratch={}, stuck=False)

    def _put(self, **facts: t.Any) -> None:
        before = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        write_atomically(self._file, {**before, **facts}, durable=False)

    def known(self, key: str) -> t.Any:
        return json.loads(self._file.read_text(encoding="utf-8"))[key]

    def fill_up(self) -> None:
        """QEMU stops the guest, whose write found no room."""
        self._put(state="paused", stuck=True)

    # As the adapter has it, where a domain stands for itself.

    def domain(self, server: str) -> str:
        return server

    find = domain

    def identity(self, domain: str) -> tuple[str, str]:
        return domain, "web"

    def state(self, _server: str) -> str:
        return str(self.known("state"))

    state_of = state

    def is_stuck(self, _domain: str) -> bool:
        return bool(self.known("stuck"))

    def xml_of(self, _domain: str, live: bool = False, secrets: bool = True) -> str:
        assert not live
        assert not secrets
        policy = f"error_policy='{self.policy}'" if self.policy else ""
        disk = f"<disk type='file' device='disk'><driver name='qemu' type='raw' {policy}/><source file='{self.disk}'/><target dev='vda' bus='virtio'/></disk>"
        return f"<domain type='kvm'><name>web</name><uuid>{SERVER}</uuid><devices>{disk}</devices></domain>"

    xml = xml_of

    def start(self, _domain: str, paused: bool = False) -> None:
        assert self.known("state") == "shutoff"
        self._put(state="paused" if paused else "running")

    def resume(self, _domain: str) -> None:
        assert self.known("state") == "paused"
        self._put(state="running", stuck=False)

    def own_folder(self, _domain: str) -> str:
        return str(self.root)

    @property
    def _served(self) -> tuple[Path, Path, Path]:
        return self.root / "point-in-time", self.root / "coldmove-proof", self.root / "nbd.pid"

    def begin_backup(self, _domain: str, wanted: Backup) -> None:
        assert self.known("state") == "paused", "the guest must not have run"
        assert not self.known("scratch"), "there is one already"
        if self.refuses:
            raise ColdmoveError(self.refuses)
        content, socket, pid_file = self._served
        assert wanted.socket == str(socket)
        for path in wanted.scratch.values():
            Path(path).touch(exist_ok=False)
        self._put(scratch=wanted.scratch)
        shutil.copyfile(self.disk, content)
        exports.start_export(str(content), "raw", "vda", socket, pid_file)

    def backup(self, _domain: str) -> Backup | None:
        return Backup(str(self._served[1]), self.known("scratch")) if self.known("scratch") else None

    def end_backup(self, _domain: str, _seconds: float = 0) -> None:
        exports.stop_export(*self._served[1:])
        for path in self.known("scratch").values():
            Path(path).unlink(missing_ok=True)
        self._put(scratch={})

    def stop(self) -> None:
        """Its QEMU ends, and what it served with it."""
        self.end_backup(SERVER)
        self._put(state="shutoff", stuck=False)


@pytest.fixture
def host(root: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Host]:
    made = Host(root)
    made.disk.write_bytes(os.urandom(5 * MIB) + bytes(4 * MIB) + os.urandom(3 * MIB))
    monkeypatch.setattr(paths, "STARTS_DIR", root / "starts")

    @contextlib.contextmanager
    def connected(_uri: str) -> t.Iterator[Host]:
        yield made

    monkeypatch.setattr(libvirt_host, "connected", connected)
    yield made
    Job(Journal(MOVE), proving.STARTED).cancel()
    made.stop()


def start(host: Host, journal: Journal, disks: dict[str, int] | None = None) -> dict[str, t.Any]:
    order = proving.Order({"vda": 12 * MIB} if disks is None else disks, "test", 30)
    return power.start(t.cast("t.Any", host), SERVER, 1, 0, journal, proof=order)


def result() -> dict[str, t.Any]:
    """What the node's job has found."""
    status = Job(Journal(MOVE), proving.STARTED).wait(30)
    assert status["state"] == "done", status
    return dict(status["result"])


def digest_of(content: Content, root: Path) -> str:
    file = root / "expected.raw"
    file.write_bytes(content)
    return str(content_digest.of_image(str(file), "raw", lambda *_: None)["digest"])


def check_nothing_left(host: Host) -> None:
    assert host.known("scratch") == {}
    assert list(host.root.glob("*coldmove-proof*")) == []


@needs_nbd
def test_what_the_server_was_started_with_is_read_while_it_writes(host: Host, journal: Journal) -> None:
    before = host.disk.read_bytes()
    told = start(host, journal)
    assert (told["state"], told["proof"], told["proof_error"]) == ("running", "begun", None)
    assert told["paused_seconds"] >= 0
    host.disk.write_bytes(os.urandom(12 * MIB))
    found = result()
    assert found["impossible"] is None
    assert found["digests"]["vda"]["digest"] == digest_of(before, host.root)
    assert host.state(SERVER) == "running"
    check_nothing_left(host)


@needs_nbd
def test_of_a_disk_that_has_grown_what_crossed_counts(host: Host, journal: Journal) -> None:
    crossed = host.disk.read_bytes()
    host.disk.write_bytes(crossed + bytes(8 * MIB))
    start(host, journal)
    assert result()["digests"]["vda"]["digest"] == digest_of(crossed, host.root)


@needs_nbd
def test_a_disk_that_is_smaller_than_what_crossed_is_not_proven(host: Host, journal: Journal) -> None:
    start(host, journal, {"vda": 13 * MIB})
    found = result()
    assert found["digests"] == {}
    assert "has 12582912 bytes, 13631488 are to be read" in found["impossible"]


@pytest.mark.parametrize(
    ("disks", "policy", "refuses", "words"),
    [
        ({"vdb": MIB}, "", None, "no disk vdb"),
        ({"vda": MIB}, "report", None, "tells its guest of failed writes"),
        ({"vda": MIB}, "", "not supported by this QEMU", "not supported by this QEMU"),
    ],
)
def test_the_start_never_fails_for_want_of_a_proof(host: Host, journal: Journal, disks: dict[str, int], policy: str, refuses: str | None, words: str) -> None:
    host.policy, host.refuses = policy, refuses
    told = start(host, journal, disks)
    assert (told["state"], told["proof"]) == ("running", "impossible")
    assert words in told["proof_error"]
    assert journal.data["started"]
    assert words in str(proving.known_impossible(Journal(MOVE)))
    assert moves.look(MOVE, t.cast("t.Any", Written(host)), SERVER, [])["proof"] == "impossible"
    check_nothing_left(host)


class Written(Host):
    """What moves.look() asks beside."""

    def __init__(self, host: Host) -> None:
        self.__dict__.update(host.__dict__)

    def bytes_written(self, _server: str, targets: t.Iterable[str]) -> dict[str, int]:
        return dict.fromkeys(targets, 0)

    def xml(self, server: str) -> str:
        return self.xml_of(server, secrets=False)


def test_without_room_for_what_is_overwritten_nothing_is_held_fast(host: Host, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "_free", lambda folder: 12 * MIB - 1)
    told = start(host, journal)
    assert (told["state"], told["proof"]) == ("running", "impossible")
    assert "bytes free" in told["proof_error"]


@pytest.mark.parametrize("told_of_a_place", [True, False])
def test_beside_a_device_there_is_no_room(host: Host, journal: Journal, monkeypatch: pytest.MonkeyPatch, told_of_a_place: bool) -> None:
    """A scratch file lies where the node keeps its images then, if it was told where that is."""
    monkeypatch.setattr(proving.qemu_img, "is_device", str(host.disk).__eq__)
    place = host.root / "images"
    place.mkdir()
    if told_of_a_place:
        journal.note(instances_path=str(place))
    told = start(host, journal)
    assert told["state"] == "running"
    if told_of_a_place:
        (name,) = host.known("scratch").values()
        assert Path(name).parent == place
        assert (told["proof"], told["proof_error"]) == ("begun", None)
    else:
        assert (told["proof"], "no other place" in told["proof_error"]) == ("impossible", True)


def test_without_disks_to_prove_a_start_is_what_it_was(host: Host, journal: Journal) -> None:
    assert start(host, journal, {})["proof"] is None
    assert "pausing" not in journal.data


def test_a_start_that_fails_leaves_nothing(host: Host, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(domain: str, paused: bool = False) -> None:
        raise ColdmoveError("no QEMU today")

    monkeypatch.setattr(host, "start", fails)
    with pytest.raises(ColdmoveError, match="no QEMU today"):
        start(host, journal)
    assert not Journal(MOVE).data["pausing"]
    assert Journal(MOVE).data["proof"] is None


def test_a_guest_that_found_no_room_goes_on_without_the_proof(host: Host, journal: Journal) -> None:
    """QEMU 7.2 pauses it: seen in the lab."""
    proving.start(journal, t.cast("t.Any", host), SERVER, {"vda": 12 * MIB})
    host.fill_up()
    digests = proving.digesting.Digests
    with pytest.MonkeyPatch.context() as patched:  # a disk that takes longer to read than one look
        patched.setattr(digests, "wait", lambda self, report, stall, watch, interval: watch())
        found = proving.read(journal, "test", SERVER, 30, lambda progress: None)
    assert "found no room" in found["impossible"]
    assert host.state(SERVER) == "running"
    check_nothing_left(host)


def test_before_the_room_is_gone_the_proof_gives_way(host: Host, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    proving.start(journal, t.cast("t.Any", host), SERVER, {"vda": 12 * MIB})
    monkeypatch.setattr(proving, "_free", lambda folder: 6 * MIB - 1)
    monkeypatch.setattr(proving.digesting.Digests, "wait", lambda self, report, stall, watch, interval: watch())
    found = proving.read(journal, "test", SERVER, 30, lambda progress: None)
    assert "running full" in found["impossible"]
    check_nothing_left(host)


def test_a_guest_that_was_stopped_meanwhile_is_said_to_be(host: Host, journal: Journal) -> None:
    proving.start(journal, t.cast("t.Any", host), SERVER, {"vda": 12 * MIB})
    host.stop()
    found = proving.read(journal, "test", SERVER, 30, lambda progress: None)
    assert found == {"digests": {}, "impossible": "the server was stopped here before all of it had been read"}


def test_somebody_elses_backup_is_left_alone(host: Host, journal: Journal) -> None:
    proving.start(journal, t.cast("t.Any", host), SERVER, {"vda": 12 * MIB})
    host.end_backup(SERVER)
    other = {"vda": str(host.root / "other")}
    host._put(scratch=other)
    assert "ended by somebody" in proving.read(journal, "test", SERVER, 30, lambda progress: None)["impossible"]
    assert not proving.settle(journal, t.cast("t.Any", host), SERVER, "impossible")
    assert host.known("scratch") == other


def test_the_outcome_outlives_the_job(host: Host, journal: Journal) -> None:
    start(host, journal)
    result()
    assert proving.settle(journal, t.cast("t.Any", host), SERVER, "failed") is False  # the job had ended, and the backup with it
    assert Journal(MOVE).data["proof"]["state"] == "failed"
    assert Job(journal, proving.STARTED).status()["state"] == "absent"


def test_what_is_under_way_is_ended_with_its_files(host: Host, journal: Journal) -> None:
    proving.start(journal, t.cast("t.Any", host), SERVER, {"vda": 12 * MIB})
    assert proving.settle(journal, t.cast("t.Any", host), SERVER)
    assert host.state(SERVER) == "running"
    check_nothing_left(host)


def test_after_a_power_loss_its_files_go_without_libvirt(host: Host, journal: Journal) -> None:
    proving.start(journal, t.cast("t.Any", host), SERVER, {"vda": 12 * MIB})
    scratch = Path(journal.data["proof"]["scratch"]["vda"])
    host.stop()
    scratch.write_bytes(b"left")
    proving.forget(journal)
    assert not scratch.exists()


@needs_nbd
def test_killed_anywhere_the_guest_goes_on(host: Host, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step is killed before each of its writes; the next one (as recover does it, which names no disks) leaves a guest that runs, whatever was proven."""
    before = host.disk.read_bytes()
    expected = digest_of(before, host.root)
    monkeypatch.setattr(proving, "begin_reading", lambda *_: None)  # a job of a process that is killed is another test
    seen: set[str] = set()

    def check(point: int) -> None:
        fresh = Journal(MOVE)
        if host.state(SERVER) == "paused":
            seen.add("paused")
            assert moves.look(MOVE, t.cast("t.Any", Written(host)), SERVER, [])["waiting"], point
        told = power.start(t.cast("t.Any", host), SERVER, 1, 0, fresh, proof=proving.Order({}, "test", 30))
        assert told["state"] == "running", point
        kept = Journal(MOVE).data.get("proof")
        assert not Journal(MOVE).data.get("pausing"), point
        if kept and kept["state"] == "begun" and host.known("scratch"):
            seen.add("begun")
            assert proving.read(fresh, "test", SERVER, 30, lambda progress: None)["digests"]["vda"]["digest"] == expected, point
        proving.settle(fresh, t.cast("t.Any", host), SERVER)
        host.stop()
        check_nothing_left(host)
        fresh.note(proof=None, pausing=False, starting=False, started=False)

    def act() -> None:
        power.start(t.cast("t.Any", host), SERVER, 1, 0, Journal(MOVE), proof=proving.Order({"vda": 12 * MIB}, "test", 30))

    assert killed_everywhere(host.root, act, check) > 5
    assert seen == {"paused", "begun"}
