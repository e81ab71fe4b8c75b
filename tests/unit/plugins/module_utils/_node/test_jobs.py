# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs with real processes: they belong to the node, and the kernel says whether they are alive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import follow
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

LONG = 60.0  # what a test never waits for
PATIENCE = 20.0  # what a loaded machine may take


def until(true: t.Callable[[], t.Any]) -> t.Any:
    deadline = time.monotonic() + PATIENCE
    while not (value := true()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return value


def gone(pid: int) -> bool:
    """No such process, or a dead one whose parent has not looked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def job(journal: Journal) -> t.Iterator[Job]:
    made = Job(journal, "send")
    yield made
    made.cancel()


def quick(_report: t.Any) -> dict[str, t.Any]:
    return {"answer": 42}


def long(_report: t.Any) -> dict[str, t.Any]:
    time.sleep(LONG)
    return {}


def params(**more: t.Any) -> dict[str, t.Any]:
    return {"wait_seconds": PATIENCE, "attach": False, **more}


# --- the life of a job


def test_a_job_that_was_never_started_is_absent(job: Job) -> None:
    assert job.status() == {"name": "send", "state": "absent"}
    assert job.cancel() is False


def test_a_job_runs_to_its_end_and_its_result_stays(job: Job, journal: Journal) -> None:
    job.ensure_started(quick)
    assert job.wait(PATIENCE)["state"] == "done"
    again = Job(journal, "send").status()
    assert (again["state"], again["result"]) == ("done", {"answer": 42})
    assert again["pid"] != os.getpid()


def test_waiting_has_an_end_and_progress_is_seen_meanwhile(job: Job) -> None:
    def work(report: t.Callable[[dict[str, t.Any]], None]) -> dict[str, t.Any]:
        report({"step": "copy", "percent": 12.5})
        time.sleep(LONG)
        return {}

    job.ensure_started(work)
    begun = time.monotonic()
    assert job.wait(0.1)["state"] == "running"
    assert time.monotonic() - begun < PATIENCE
    assert until(lambda: job.status()["progress"]) == {"step": "copy", "percent": 12.5}


def test_what_went_wrong_is_told_in_its_own_words(job: Job) -> None:
    def work(_report: t.Any) -> dict[str, t.Any]:
        raise ColdmoveError("the disk is full")

    job.ensure_started(work)
    status = job.wait(PATIENCE)
    assert (status["state"], status["error"]) == ("failed", "the disk is full")


def test_an_unforeseen_error_names_itself_and_the_log(job: Job, journal: Journal) -> None:
    def work(_report: t.Any) -> dict[str, t.Any]:
        raise KeyError("vda")

    job.ensure_started(work)
    status = job.wait(PATIENCE)
    assert status["state"] == "failed"
    assert "KeyError: 'vda'" in status["error"]
    assert "Traceback" in (journal.directory / "send.log").read_text(encoding="utf-8")
    assert str(journal.directory / "send.log") in status["error"]


def test_two_starts_run_once(job: Job, root: Path) -> None:
    def work(_report: t.Any) -> dict[str, t.Any]:
        with open(root / "runs", "a", encoding="utf-8") as runs:
            runs.write("x")
        time.sleep(0.3)
        return {}

    for _time in range(3):
        job.ensure_started(work)
    assert job.wait(PATIENCE)["state"] == "done"
    job.ensure_started(work)  # done is done
    assert (root / "runs").read_text(encoding="utf-8") == "x"


def test_a_failed_job_is_started_anew(job: Job, root: Path) -> None:
    def work(_report: t.Any) -> dict[str, t.Any]:
        if not (root / "second").exists():
            (root / "second").touch()
            raise ColdmoveError("not yet")
        return {}

    for state in ("failed", "done"):
        job.ensure_started(work)
        assert job.wait(PATIENCE)["state"] == state


# --- what a module sees of it


def test_attaching_starts_nothing(job: Job) -> None:
    with pytest.raises(ColdmoveError, match="send absent"):
        follow(job, quick, params(attach=True))
    assert job.status()["state"] == "absent"


def test_attaching_finds_the_job_of_an_earlier_call(job: Job, journal: Journal) -> None:
    assert follow(job, long, params(wait_seconds=0))["state"] == "running"
    assert follow(Job(journal, "send"), quick, params(attach=True, wait_seconds=0))["state"] == "running"
    assert follow(job, quick, params(wait_seconds=0))["state"] == "running"


def test_a_failed_job_is_a_failed_step_with_its_words(job: Job) -> None:
    def work(_report: t.Any) -> dict[str, t.Any]:
        raise ColdmoveError("the disk is full")

    with pytest.raises(ColdmoveError, match="the disk is full") as caught:
        follow(job, work, params())
    assert caught.value.result["job"]["state"] == "failed"


# --- dead


def test_a_killed_job_is_seen_to_be_dead_and_started_anew(job: Job) -> None:
    job.ensure_started(long)
    os.kill(job.status()["pid"], signal.SIGKILL)
    assert until(lambda: job.status()["state"] == "died")
    with pytest.raises(ColdmoveError, match="its process is gone"):
        follow(job, quick, params(attach=True))
    assert follow(job, quick, params())["state"] == "done"


def test_a_pid_that_was_given_to_somebody_else_is_not_the_job(job: Job, journal: Journal) -> None:
    """After a reboot the state file says running, and the pid in it may be anybody's."""
    with subprocess.Popen(["sleep", "60"]) as bystander:
        (journal.directory / "send.json").write_text(json.dumps({"name": "send", "state": "running", "pid": bystander.pid, "progress": {}}), encoding="utf-8")
        assert job.status()["state"] == "died"
        assert job.cancel() is False
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("content", ["", "{", "[]x"])
def test_a_state_file_that_a_power_loss_left_behind_is_a_dead_job(job: Job, journal: Journal, content: str) -> None:
    """Progress is written without waiting for the storage."""
    (journal.directory / "send.json").write_text(content, encoding="utf-8")
    assert job.status()["state"] == "died"
    assert follow(job, quick, params())["state"] == "done"


def test_a_look_never_disturbs_the_start_of_a_job(job: Job, journal: Journal) -> None:
    """Who looks takes the lock for an instant; the job that starts meanwhile waits for it and is not lost."""
    job.ensure_started(quick)
    job.wait(PATIENCE)
    for _time in range(5):
        job.cancel()
        job.ensure_started(quick)
        for _time in range(20):
            assert Job(journal, "send").status()["state"] in ("running", "done")
        assert job.wait(PATIENCE)["state"] == "done"


# --- cancelled


def test_cancel_ends_the_job_and_all_that_it_started(job: Job, root: Path) -> None:
    def work(_report: t.Any) -> dict[str, t.Any]:
        # One that does not hear, and one that belongs to a shell in between.
        deaf = subprocess.Popen(
            [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE
        )
        assert deaf.stdout
        deaf.stdout.readline()
        shell = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
        assert shell.stdout
        (root / "pids.new").write_text(f"{deaf.pid} {shell.pid} {shell.stdout.readline()}", encoding="utf-8")
        (root / "pids.new").rename(root / "pids")
        time.sleep(LONG)
        return {}

    job.ensure_started(work)
    until((root / "pids").exists)
    pids = [int(word) for word in (root / "pids").read_text(encoding="utf-8").split()]
    assert not any(map(gone, pids))
    worker = job.status()["pid"]
    assert job.cancel() is True
    until(lambda: all(map(gone, [worker, *pids])))
    assert job.status()["state"] == "absent"


def test_a_cancelled_job_cleans_up_behind_itself(job: Job, root: Path) -> None:
    def work(_report: t.Any) -> dict[str, t.Any]:
        try:
            (root / "begun").touch()
            time.sleep(LONG)
        finally:
            (root / "cleaned").touch()
        return {}

    job.ensure_started(work)
    until((root / "begun").exists)
    job.cancel()
    assert (root / "cleaned").exists()
    assert job.status()["state"] == "absent"


def test_a_job_that_does_not_listen_is_killed(job: Job, root: Path) -> None:
    def work(_report: t.Any) -> dict[str, t.Any]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (root / "begun").touch()
        time.sleep(LONG)
        return {}

    job.ensure_started(work)
    until((root / "begun").exists)
    begun = time.monotonic()
    assert job.cancel() is True
    assert time.monotonic() - begun < PATIENCE
    assert job.status()["state"] == "absent"


def test_cancel_of_an_ended_job_forgets_it(job: Job) -> None:
    job.ensure_started(quick)
    job.wait(PATIENCE)
    assert job.cancel() is False
    assert job.status()["state"] == "absent"


# --- it belongs to the node

STARTER = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths
paths.STATE_DIR = Path({state!r})
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import step

def work(report):
    print("a word of the job", flush=True)
    go = Path({state!r}) / "go"
    while not go.exists():
        time.sleep(0.02)
    return {{"answer": 42}}

with step({{"migration_uuid": {uuid!r}, "migration_epoch": 1}}) as journal:
    Job(journal, "send").ensure_started(work)
print("started")
"""


def test_a_job_outlives_who_started_it_and_keeps_neither_its_pipes_nor_its_lock(job: Job, journal: Journal) -> None:
    """An ssh session ends when the module ends: nobody may hold its standard output open. And the next step gets in."""
    code = STARTER.format(path=[path for path in sys.path if path], state=str(journal.directory.parents[1]), uuid=journal.uuid)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True) as starter:
        said, _errors = starter.communicate(timeout=PATIENCE)  # waits for the end of the pipe, not only for that of the process
        with pytest.raises(ProcessLookupError):
            os.killpg(starter.pid, signal.SIGKILL)  # the session is empty: its hang-up reaches no job
    assert said == "started\n"
    assert job.status()["state"] == "running"
    from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import step

    with step({"migration_uuid": journal.uuid, "migration_epoch": 2}) as entered:
        assert entered
    (journal.directory.parents[1] / "go").touch()
    assert job.wait(PATIENCE)["result"] == {"answer": 42}
    assert (journal.directory / "send.log").read_text(encoding="utf-8") == "a word of the job\n"
