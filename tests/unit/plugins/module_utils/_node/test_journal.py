# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node remembers, who may step, and what a kill leaves."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError, Superseded
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import journal as journals
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, step, summaries
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import MOVE, uuid_of
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._node.kills import killed_everywhere

FORK = multiprocessing.get_context("fork")


def run(epoch: int, move: str = MOVE, **more: t.Any) -> t.ContextManager[Journal | None]:
    return step({"migration_uuid": move, "migration_epoch": epoch}, **more)


# --- who may step


def test_a_newer_run_is_let_in_and_the_older_one_is_refused_from_then_on(root: Path) -> None:
    with run(1), run(2, uuid_of(7)):
        pass
    with run(3):
        pass
    with pytest.raises(Superseded, match="run 2 .* was taken over by run 3"), run(2):
        pytest.fail("an older run was let in")
    with run(3) as again:
        assert again


def test_a_refused_run_changes_nothing(root: Path) -> None:
    with run(3) as entered:
        assert entered
        before = (entered.directory / "journal.json").read_bytes(), (entered.directory / "contact").stat().st_mtime_ns
    with pytest.raises(Superseded), run(2):
        pass
    assert ((entered.directory / "journal.json").read_bytes(), (entered.directory / "contact").stat().st_mtime_ns) == before


def test_a_closed_migration_lets_nobody_step_and_everybody_newer_look(journal: Journal) -> None:
    """Recover looks at both nodes of an ended migration that left something on one of them: the other one is closed."""
    journal.note(closed=True)
    for epoch in (1, 2):
        with pytest.raises(Superseded, match="closed"), run(epoch):
            pytest.fail("a closed migration was stepped on")
    with run(2, closed_too=True) as looking:
        assert looking
    with pytest.raises(Superseded, match="taken over"), run(1, closed_too=True):
        pass


def test_a_module_on_its_own_and_check_mode_leave_no_trace(root: Path) -> None:
    with step({}) as alone, step({"migration_uuid": None, "migration_epoch": 1}) as empty, run(1, check_mode=True) as checked:
        assert (alone, empty, checked) == (None, None, None)
    assert not (root / "lib").exists()


def test_a_migration_without_the_number_of_its_run_is_refused(root: Path) -> None:
    with pytest.raises(ColdmoveError, match="migration_epoch"), step({"migration_uuid": MOVE, "migration_epoch": None}):
        pass


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", f"{MOVE}/../x", f"{MOVE}\n", "", "x" * 300, "a\0b", "\x1b[2J"])
def test_a_hostile_uuid_gets_no_folder(root: Path, name: str) -> None:
    with pytest.raises(ColdmoveError, match="is not a UUID") as caught:
        Journal(name)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("spelling", [MOVE.upper(), f"{{{MOVE}}}", f"urn:uuid:{MOVE}", MOVE.replace("-", "")])
def test_one_migration_has_one_folder_however_its_uuid_is_written(journal: Journal, spelling: str) -> None:
    assert Journal(spelling).directory == journal.directory


# --- the lock


def hold_lock(seconds: float, held: t.Any, move: str = MOVE) -> None:
    with run(1, move):
        held.set()
        time.sleep(seconds)


def held_elsewhere(seconds: float, move: str = MOVE) -> t.Any:
    held = FORK.Event()
    process = FORK.Process(target=hold_lock, args=(seconds, held, move))
    process.start()
    assert held.wait(20)
    return process


def test_a_step_waits_for_the_step_of_another_process(root: Path) -> None:
    other = held_elsewhere(0.4)
    begun = time.monotonic()
    with run(2):
        assert time.monotonic() - begun > 0.2
    other.join(5)
    assert other.exitcode == 0


def test_a_lock_that_is_never_given_back_is_a_clear_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "LOCK_TIMEOUT_SECONDS", 0.2)
    other = held_elsewhere(30)
    try:
        with pytest.raises(ColdmoveError, match="another step of this migration has held .*lock.*run the same command again"), run(2):
            pass
        with run(1, uuid_of(3)):
            pass  # another migration is not in the way
    finally:
        other.kill()
        other.join(5)
    with run(2):
        pass  # a killed step gives its lock back


# --- what is written survives


def test_a_note_is_there_for_the_next_step(journal: Journal) -> None:
    journal.note(held=True)
    with run(1) as later:
        assert later
        assert later.data["held"] is True


def test_a_killed_step_leaves_the_old_journal_or_the_new_one(journal: Journal) -> None:
    big = "x" * 100_000
    journal.note(word="old", filler=big)

    def check(_point: int) -> None:
        assert Journal(MOVE).data["word"] in ("old", "new")
        assert Journal(MOVE).data["filler"] == big
        Journal(MOVE).note(word="old")

    assert killed_everywhere(journal.directory, lambda: Journal(MOVE).note(word="new"), check) >= 2


def test_a_kill_at_a_first_step_leaves_a_folder_in_which_the_next_run_steps(root: Path) -> None:
    def act() -> None:
        with run(1) as entered:
            assert entered
            entered.note(word=1)

    def check(_point: int) -> None:
        summaries()
        with run(2) as entered:
            assert entered
            assert entered.data["epoch"] == 2
        for file in entered.directory.iterdir():
            file.unlink()
        entered.directory.rmdir()

    assert killed_everywhere(root, act, check) > 3


def test_a_job_that_notes_late_does_not_take_back_the_epoch_of_a_newer_run(journal: Journal) -> None:
    """A job holds the journal as it was when it was started, and no lock."""
    of_the_job = Journal(MOVE)
    with run(5):
        pass
    of_the_job.note(received_bytes=7)
    assert Journal(MOVE).data["epoch"] == 5
    assert Journal(MOVE).data["received_bytes"] == 7
    with pytest.raises(Superseded), run(4):
        pass


def test_a_damaged_journal_is_not_taken_for_an_empty_one(journal: Journal) -> None:
    for content in ("", '{"epoch": 3', "[1]", "3"):
        (journal.directory / "journal.json").write_text(content, encoding="utf-8")
        with pytest.raises(ColdmoveError, match=r"journal\.json is damaged"), run(9):
            pass


def test_a_full_disk_is_a_clear_error_and_the_old_journal_stays(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(path.name for path in journal.directory.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ColdmoveError, match=r"journal\.json: No space left on device"):
        journal.note(word="new")
    assert "word" not in Journal(MOVE).data
    assert set(path.name for path in journal.directory.iterdir()) <= {*before, "journal.lock"}


def test_secrets_of_a_definition_are_roots_alone(journal: Journal) -> None:
    journal.note(definition="<domain/>")
    assert journal.directory.stat().st_mode & 0o077 == 0


# --- what the node tells of open migrations


def test_summaries_tell_of_open_migrations_and_the_age_of_the_last_contact(root: Path) -> None:
    assert summaries() == []
    with run(4) as mine:
        assert mine
        mine.note(server_uuid=uuid_of(1))
    with run(1, uuid_of(9)) as closed:
        assert closed
        closed.note(closed=True)
    an_hour_ago = time.time() - 3600
    os.utime(mine.directory / "contact", (an_hour_ago, an_hour_ago))
    (summary,) = summaries()
    assert summary["contact_age_seconds"] == pytest.approx(3600, abs=30)
    assert (summary["migration_uuid"], summary["server_uuid"], summary["epoch"]) == (MOVE, uuid_of(1), 4)
    with run(4):
        pass
    assert summaries()[0]["contact_age_seconds"] < 30


def test_one_damaged_journal_does_not_silence_the_node(journal: Journal) -> None:
    with run(3, uuid_of(2)) as other:
        assert other
    (journal.directory / "journal.json").write_text("{", encoding="utf-8")
    assert {entry["migration_uuid"]: entry["epoch"] for entry in summaries()} == {MOVE: 0, uuid_of(2): 3}


def test_a_journal_holds_plain_json(journal: Journal) -> None:
    journal.note(tokens={"vda": "x"})
    assert json.loads((journal.directory / "journal.json").read_text(encoding="utf-8")) == {"epoch": 1, "tokens": {"vda": "x"}}
