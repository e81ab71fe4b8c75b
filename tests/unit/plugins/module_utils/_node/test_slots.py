# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""So many at a time, in the order in which they came, and nothing is held by the dead. Each holder is a process of its own."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths, slots
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

FORK = multiprocessing.get_context("fork")
PATIENCE = 30


def until(true: t.Callable[[], t.Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


class Holder:
    """A process that wants a slot and keeps it until it is told to let go."""

    def __init__(self, limit: int) -> None:
        self.held, self._over, self._told = FORK.Event(), FORK.Event(), FORK.SimpleQueue()
        self.process = FORK.Process(target=self._run, args=(limit,), daemon=True)
        self.process.start()

    def _run(self, limit: int) -> None:
        with slots.taken(limit, lambda progress: self._told.put(progress["waiting"])):
            self.held.set()
            self._over.wait()

    def waits(self) -> str:
        """What it is told while it waits."""
        until(lambda: not self._told.empty())
        return str(self._told.get())

    def end(self) -> None:
        self._over.set()
        self.process.join(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.join(PATIENCE)


@pytest.fixture
def holder(root: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[t.Callable[[int], Holder]]:
    monkeypatch.setattr(slots, "_POLL_SECONDS", 0.02)
    made: list[Holder] = []

    def make(limit: int) -> Holder:
        made.append(Holder(limit))
        return made[-1]

    yield make
    for one in made:
        one.kill()


def test_so_many_at_a_time_and_the_others_in_their_order(holder: t.Callable[[int], Holder]) -> None:
    first, second = holder(2), holder(2)
    until(lambda: first.held.is_set() and second.held.is_set())
    third = holder(2)
    assert third.waits() == "2 of 2 taken"
    fourth = holder(2)
    assert fourth.waits() == "2 of 2 taken, 1 before it"
    second.end()
    until(third.held.is_set)
    assert fourth.waits() == "2 of 2 taken"
    assert not fourth.held.is_set()
    first.end()
    until(fourth.held.is_set)
    third.end()
    fourth.end()
    assert list((paths.SLOTS_DIR / "queue").iterdir()) == []


def test_the_dead_hold_nothing_and_are_before_nobody(holder: t.Callable[[int], Holder]) -> None:
    running = holder(1)
    until(running.held.is_set)
    waiting = holder(1)
    waiting.waits()
    last = holder(1)
    assert last.waits() == "1 of 1 taken, 1 before it"
    waiting.kill()
    assert last.waits() == "1 of 1 taken"
    running.kill()
    until(last.held.is_set)


def test_no_limit_is_no_queue(holder: t.Callable[[int], Holder], root: Path) -> None:
    many = [holder(0) for _number in range(4)]
    until(lambda: all(one.held.is_set() for one in many))
    assert not paths.SLOTS_DIR.exists()


def test_what_nobody_wants_any_more_leaves_the_queue(holder: t.Callable[[int], Holder]) -> None:
    running = holder(1)
    until(running.held.is_set)
    with pytest.raises(ColdmoveError, match="nobody waits"), slots.taken(1, lambda _progress: None, lambda: False):
        pass
    assert list((paths.SLOTS_DIR / "queue").iterdir()) == []


# --- held for a copy, from before the guest is off


@pytest.fixture
def reserved(journal: Journal, holder: t.Callable[[int], Holder]) -> t.Iterator[Journal]:
    """A migration that has a slot."""
    until(lambda: slots.reserve(journal, 1, 0.1) is None)
    yield journal
    for name in ("slot", "send"):
        Job(journal, name).cancel()


def test_a_guest_waits_for_its_slot_while_it_runs(journal: Journal, holder: t.Callable[[int], Holder]) -> None:
    other = holder(1)
    until(other.held.is_set)
    waiting = slots.reserve(journal, 1, 0.5)
    assert waiting and waiting["state"] == "running"
    assert waiting["progress"]["waiting"] == "1 of 1 taken"
    assert not slots.is_held(journal)
    other.end()
    until(lambda: slots.reserve(journal, 1, 0.1) is None)
    assert slots.is_held(journal)
    Job(journal, "slot").cancel()


def test_it_is_held_until_the_copy_has_ended(reserved: Journal, holder: t.Callable[[int], Holder], monkeypatch: pytest.MonkeyPatch) -> None:
    other = holder(1)
    assert other.waits() == "1 of 1 taken"
    over = FORK.Event()
    Job(reserved, "send").ensure_started(lambda _report: {"waited": over.wait(PATIENCE)})
    os.utime(reserved.directory / "contact", (0, 0))  # the controller is gone; the copy is not
    time.sleep(0.3)
    assert slots.is_held(reserved) and not other.held.is_set()
    over.set()
    until(other.held.is_set)
    assert not slots.is_held(reserved)


def test_a_run_that_was_killed_before_its_copy_gives_it_back(reserved: Journal, holder: t.Callable[[int], Holder]) -> None:
    other = holder(1)
    assert other.waits() == "1 of 1 taken"
    with open(reserved.directory / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a long shutdown
        os.utime(reserved.directory / "contact", (0, 0))
        time.sleep(0.3)
        assert slots.is_held(reserved) and not other.held.is_set()
    until(other.held.is_set)


def test_a_closed_migration_holds_none(reserved: Journal) -> None:
    reserved.note(closed=True)
    until(lambda: not slots.is_held(reserved))


def test_a_node_that_cannot_give_slots_says_so(journal: Journal, root: Path) -> None:
    (root / "slots").write_text("no directory", encoding="ascii")
    with pytest.raises(ColdmoveError, match="slots/queue"):
        slots.reserve(journal, 1, PATIENCE)


def test_the_copy_of_an_earlier_run_says_nothing_of_this_one(journal: Journal, holder: t.Callable[[int], Holder]) -> None:
    Job(journal, "send").ensure_started(lambda _report: {})
    until(lambda: Job(journal, "send").status()["state"] == "done")
    until(lambda: slots.reserve(journal, 1, 0.1) is None)
    time.sleep(0.3)
    assert slots.is_held(journal)
    Job(journal, "slot").cancel()


# --- held by a precopy


@pytest.mark.parametrize("ending", ["in step", "failed"])
def test_a_precopy_that_is_in_step_or_has_failed_gives_it_back(journal: Journal, holder: t.Callable[[int], Holder], ending: str) -> None:
    """What its guest writes from then on keeps nobody waiting."""
    goes_on = FORK.Event()

    def precopy(report: slots.Report) -> dict[str, t.Any]:
        with slots.taken_until_in_step(1, report) as told:
            told({"in_step": False})
            goes_on.wait(PATIENCE)
            if ending == "failed":
                raise ColdmoveError("the link is gone")
            told({"in_step": True})
            time.sleep(PATIENCE)
        return {}

    job = Job(journal, "mirror")
    job.ensure_started(precopy)
    until(lambda: job.status()["progress"].get("in_step") is False)
    other = holder(1)
    assert other.waits() == "1 of 1 taken"
    goes_on.set()
    until(other.held.is_set)
    if ending == "in step":
        assert job.status()["progress"]["in_step"] is True
    job.cancel()
