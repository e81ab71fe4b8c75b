# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The precopy's judgement: real qemu-nbd, real relay; libvirt and QEMU are played by an NBD client that a test can end in every way."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import exports, libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import BlockJob
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import mirroring, paths
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

pytestmark = pytest.mark.skipif(not (shutil.which("qemu-nbd") and exports.HAS_NBD), reason="qemu-nbd and the Python library nbd (libnbd) are needed")

MIB = 1024 * 1024
PATIENCE = 30
TOKEN = "token-of-vda"


class Guest:
    """QEMU and libvirt of one running guest, as far as the precopy asks them."""

    def __init__(self) -> None:
        self.state = "running"
        self.ready = False
        self.begun = 0
        self.refuses = ""
        self.client: t.Any = None
        self.socket = ""
        self.libvirt = True
        self.ending = False

    # what libvirt is asked

    def domain(self, _server: str) -> Guest:
        return self

    def account_of(self, _domain: t.Any) -> int:
        return os.getuid()

    def alive(self) -> bool:
        return self.libvirt

    def state_of(self, _domain: t.Any) -> str:
        if not self.libvirt:
            raise ColdmoveError("client socket is closed")
        return self.state

    def answers(self, _domain: t.Any) -> bool:
        return self.state != "shutoff" and not self.ending

    def mirror_socket(self, _domain: t.Any, _target: str) -> str | None:
        return self.socket if self.client else None

    def cancel_block_job(self, _domain: t.Any, _target: str) -> None:
        self.client = None

    def begin_mirror(self, _domain: t.Any, target: str, socket: str, export: str, _limit: int) -> None:
        if self.refuses:
            raise ColdmoveError(self.refuses)
        handle = exports.nbd.NBD()
        handle.set_export_name(export)
        handle.connect_unix(socket)
        handle.pwrite(b"bulk" * 1024, 0)
        self.client, self.socket = handle, socket
        self.begun += 1
        assert target == "vda"

    def block_job(self, _domain: t.Any, _target: str) -> BlockJob | None:
        return BlockJob(4096, 4096, self.ready) if self.client else None

    # what happens

    def write(self) -> None:
        self.client.pwrite(b"news" * 1024, 8192)

    def power_off(self, seconds: float = 0.0) -> None:
        """As QEMU ends: it stops the guest, closes its connections, then it is gone."""
        self.ending = True
        self.leave_mirror()
        time.sleep(seconds)
        self.state = "shutoff"

    def leave_mirror(self) -> None:
        client, self.client = self.client, None
        client.shutdown()


class Side:
    """A source with a guest, a dest with an export, and the job between them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(paths, "MIRRORS_DIR", root / "mirrors")
        monkeypatch.setattr(libvirt_host, "connected", self.connected)
        self.root, self.guest = root, Guest()
        self.image = root / "disk"
        with open(self.image, "wb") as stream:
            stream.truncate(4 * MIB)
        self.serve()
        self.progress: dict[str, t.Any] = {}
        self.order = mirroring.Order("uuid", [{"id": "vda"}], {"vda": str(paths.OFFERS_DIR / TOKEN)}, 0, 3, 60)
        self.result: dict[str, t.Any] = {}
        self.error = ""
        self.thread = threading.Thread(target=self.run, daemon=True)

    @contextlib.contextmanager
    def connected(self) -> t.Iterator[Guest]:
        if not self.guest.libvirt:
            raise ColdmoveError("cannot connect to libvirt")
        yield self.guest

    def serve(self) -> None:
        exports.start_export(str(self.image), "raw", "vda", paths.OFFERS_DIR / TOKEN, self.root / "pid")

    def stop_serving(self) -> None:
        exports.stop_export(paths.OFFERS_DIR / TOKEN, self.root / "pid")

    def run(self) -> None:
        try:
            self.result = mirroring.precopy(self.order, self.told)
        except ColdmoveError as exc:
            self.error = str(exc)

    def told(self, progress: dict[str, t.Any]) -> None:
        self.progress = progress

    def begin(self, **order: t.Any) -> None:
        self.order = self.order._replace(**order)
        self.thread.start()

    def in_step(self) -> None:
        until(lambda: self.guest.begun)
        self.guest.ready = True
        until(lambda: self.progress.get("in_step"))

    def end(self) -> None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        assert not list(paths.MIRRORS_DIR.iterdir())


def until(true: t.Callable[[], t.Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture
def side(root: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Side]:
    made = Side(root, monkeypatch)
    yield made
    made.guest.state = "shutoff"
    made.stop_serving()


def test_in_step_until_the_guest_is_off(side: Side) -> None:
    side.begin()
    side.in_step()
    side.guest.write()
    side.guest.power_off()
    side.end()
    assert (side.result["mirrored"], side.result["off"], side.result["reason"]) == (True, True, "")
    side.stop_serving()
    assert side.image.read_bytes()[8192:8196] == b"news"


def test_qemu_takes_its_time_to_end(side: Side) -> None:
    """Where all cores are busy, seconds pass between the end of its connections and its own."""
    side.begin()
    side.in_step()
    side.guest.write()
    side.guest.power_off(seconds=2.5)
    side.end()
    assert (side.result["mirrored"], side.result["reason"]) == (True, "")


def test_libvirt_forgets_the_mirror_before_the_job(side: Side) -> None:
    """QEMU ends, the job is still told of, and its mirror is not any more."""
    side.begin()
    side.in_step()
    side.guest.write()
    side.guest.ready = False
    time.sleep(0.5)
    side.guest.power_off()
    side.end()
    assert (side.result["mirrored"], side.result["reason"]) == (True, "")


def test_off_before_it_was_in_step(side: Side) -> None:
    side.begin()
    until(lambda: side.guest.begun)
    side.guest.power_off()
    side.end()
    assert (side.result["mirrored"], side.result["off"]) == (False, True)
    assert "not in step" in side.result["reason"]


def test_a_connection_that_breaks_as_the_guest_goes_off(side: Side) -> None:
    """What the guest has written last may not have arrived: that is no complete copy."""
    side.begin()
    side.in_step()
    side.guest.state = "shutdown"  # on its way: it counts as running
    side.stop_serving()
    side.guest.state = "shutoff"
    side.end()
    assert (side.result["mirrored"], side.result["off"]) == (False, True)
    assert "last writes" in side.result["reason"]


def test_it_begins_anew_after_a_break(side: Side) -> None:
    side.begin(stall_timeout=PATIENCE)
    side.in_step()
    side.stop_serving()
    until(lambda: "waiting" in side.progress.get("step", ""))
    assert not side.progress.get("in_step")
    side.serve()
    until(lambda: side.guest.begun == 2)
    until(lambda: side.progress.get("in_step"))
    side.guest.power_off()
    side.end()
    assert (side.result["mirrored"], side.result["restarts"]) == (True, 1)


def test_libvirtd_is_started_anew(side: Side) -> None:
    """QEMU goes on mirroring meanwhile, and nothing is begun anew."""
    side.begin()
    side.in_step()
    side.guest.libvirt = False
    time.sleep(0.5)
    side.guest.write()
    side.guest.libvirt = True
    side.guest.power_off()
    side.end()
    assert (side.result["mirrored"], side.result["restarts"]) == (True, 0)


def test_the_other_end_stays_away(side: Side) -> None:
    side.begin(stall_timeout=1)
    side.in_step()
    side.stop_serving()
    side.end()
    assert "not reached again within 1 s" in side.error
    assert "runs on untouched" in side.error


def test_somebody_ends_the_mirror(side: Side) -> None:
    """The guest goes on to write without it: what comes later is nobody's copy."""
    side.begin()
    side.in_step()
    side.guest.leave_mirror()
    time.sleep(0.5)
    side.guest.state = "shutoff"
    side.end()
    assert "ended by somebody else" in side.error


def test_qemu_refuses(side: Side) -> None:
    side.guest.refuses = "Permission denied"
    side.begin()
    side.end()
    assert (side.result["begun"], side.result["reason"]) == (False, "Permission denied")


def test_it_takes_too_long(side: Side) -> None:
    side.begin(timeout=1)
    side.end()
    assert "not in step after 1 s" in side.error


def test_what_a_journal_says(side: Side, journal: Journal) -> None:
    """Complete are only those that were in step to the end, under the names of the very exports that took them in."""
    assert mirroring.state_of(journal) is None
    assert mirroring.mirrored(journal) == {}
    journal.note(precopied={"vda": TOKEN})
    offer = paths.OFFERS_DIR / TOKEN
    outcome = {"off": True, "mirrored": True, "begun": True, "reason": ""}
    Job(journal, mirroring.JOB).ensure_started(lambda report: outcome)
    assert mirroring.conclude(journal) == ({"vda": TOKEN}, "")
    assert mirroring.state_of(journal) == "over"
    assert not offer.exists()
    Job(journal, mirroring.JOB).cancel()
    Job(journal, mirroring.JOB).ensure_started(lambda report: {**outcome, "mirrored": False, "reason": "disk vda was late"})
    assert mirroring.conclude(journal) == ({}, "disk vda was late")
    Job(journal, mirroring.JOB).cancel()
    assert mirroring.conclude(journal) == ({}, "")
    Job(journal, mirroring.JOB).ensure_started(lambda report: {**outcome, "begun": False, "mirrored": False, "reason": "no mirror here"})
    assert mirroring.conclude(journal) == ({}, "")
    Job(journal, mirroring.JOB).cancel()
    Job(journal, mirroring.JOB).ensure_started(_fails)
    assert mirroring.conclude(journal) == ({}, "the link broke")


@pytest.mark.parametrize(
    ("outcome", "refusal"),
    [
        ({"off": True, "mirrored": True, "begun": True, "reason": ""}, ""),
        ({"off": False, "mirrored": False, "begun": False, "reason": "no mirror here"}, ""),
        (None, "the link broke"),
    ],
)
def test_the_last_look(journal: Journal, outcome: dict[str, t.Any] | None, refusal: str) -> None:
    """The guest is shut down if its mirror is in step, or if there is none; not if it is lost."""
    mirroring.check_in_step(journal)
    Job(journal, mirroring.JOB).ensure_started(lambda report: outcome if outcome else _fails(report))
    if refusal:
        with pytest.raises(ColdmoveError, match=refusal):
            mirroring.check_in_step(journal)
    else:
        mirroring.check_in_step(journal)


def test_the_last_look_waits(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that had to begin anew is waited for, but not without end."""
    monkeypatch.setattr(mirroring, "IN_STEP_SECONDS", 3.0)

    def begins_anew(report: t.Any) -> dict[str, t.Any]:
        report({"in_step": False})
        time.sleep(1)
        report({"in_step": True})
        time.sleep(PATIENCE)
        return {}

    job = Job(journal, mirroring.JOB)
    job.ensure_started(begins_anew)
    until(lambda: job.status()["progress"])
    mirroring.check_in_step(journal)
    assert mirroring.state_of(journal) == "in_step"
    job.cancel()
    job.ensure_started(lambda report: time.sleep(PATIENCE) or {})
    with pytest.raises(ColdmoveError, match=r"not in step any more \(its job is running\). The server runs on"):
        mirroring.check_in_step(journal)
    job.cancel()


def _fails(_report: t.Any) -> dict[str, t.Any]:
    raise ColdmoveError("the link broke")
