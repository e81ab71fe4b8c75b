# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of a step: a silent node is a failure, a job is followed to its end, a heartbeat is never in the way."""

from __future__ import annotations

import datetime
import itertools
import types
import typing as t
from unittest import mock

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.coldmove.libvirt.plugins.action import node_step
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._run_identity import run_identity
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import MOVE

STEP = {"migration_uuid": MOVE, "migration_epoch": 1, "state": "sent"}
SILENCE = AnsibleConnectionFailure("No route to host")
DONE = {"changed": True, "job": {"state": "done", "result": {}}}
Answer = dict[str, t.Any] | Exception


def running(percent: float | None = 40.0) -> dict[str, t.Any]:
    progress = {"step": "copy", "percent": percent, "bytes_total": 2 * 1024**3, "rate": 1024**2, "eta_seconds": 75}
    return {"changed": True, "job": {"state": "running", "progress": progress if percent is not None else {}}}


class Clock:
    """Time passes only when somebody sleeps, or when a call says that it took long."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def told(answer: Answer) -> dict[str, t.Any]:
    """What a module answers, or the exception that is met instead."""
    if isinstance(answer, Exception):
        raise answer
    return answer


class Step:
    """One task on node a; ``answers`` are what its module gives, one for each call, the last one for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.display = Clock(), mock.Mock()
        monkeypatch.setattr(node_step, "time", self.clock)
        monkeypatch.setattr(node_step, "display", self.display)
        self.calls: list[dict[str, t.Any]] = []
        self.beats: list[dict[str, t.Any]] = []
        self.beaten_at: list[float] = []
        self.seconds_per_call = 1.0
        self.heartbeat: Answer = {"changed": False}
        self.variables: dict[str, t.Any] = {"inventory_hostname": "web1", "coldmove_records_host": "rec", "coldmove_server": {"name": "web one"}}

    def run(self, *answers: Answer, module: str = "coldmove.libvirt.virt_disk_send", **args: t.Any) -> dict[str, t.Any]:
        task = types.SimpleNamespace(action=module, args=args, delegate_to="a", async_val=0, check_mode=False, diff=False, environment=[])
        plugin = node_step.ActionModule(task, mock.MagicMock(), mock.MagicMock(), None, None, None)
        left = list(answers)

        def execute(module_name: str, module_args: dict[str, t.Any], task_vars: t.Any) -> dict[str, t.Any]:
            assert module_name == module
            self.calls.append(module_args)
            self.clock.now += self.seconds_per_call
            return told(left.pop(0) if len(left) > 1 else left[0])

        def on(host: str, name: str, heartbeat: dict[str, t.Any]) -> dict[str, t.Any]:
            assert (host, name) == ("rec", "coldmove.libvirt.migration_record")
            self.beats.append(heartbeat)
            self.beaten_at.append(self.clock.now)
            return told(self.heartbeat)

        packed: list[str] = []
        with (
            mock.patch.object(plugin, "_execute_module", execute),
            mock.patch.object(plugin, "_on", on),
            mock.patch.object(plugin, "_configure_module", lambda module_name, **_more: packed.append(module_name)),
        ):
            result = plugin.run(task_vars=self.variables)
        self.packed = packed
        return dict(result)

    def lines(self) -> list[str]:
        return [call.args[0] for call in self.display.display.call_args_list]

    def warnings(self) -> list[str]:
        return [call.args[0] for call in self.display.warning.call_args_list]


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Step:
    return Step(monkeypatch)


# --- one call


def test_an_answer_is_passed_on_with_the_time_it_took(step: Step) -> None:
    step.seconds_per_call = 2.5
    result = step.run({"changed": True, "move": {"domain": "running"}}, **STEP)
    assert (result["changed"], result["move"]) == (True, {"domain": "running"})
    assert result["took"]["seconds"] == 2.5
    assert datetime.datetime.fromisoformat(result["took"]["started_at"]).tzinfo
    assert result["ended_monotonic"] == step.clock.now
    assert step.calls == [STEP]


def test_a_failure_of_the_module_is_passed_on_at_once_with_its_time(step: Step) -> None:
    result = step.run({"failed": True, "msg": "no"}, **STEP)
    assert (result["failed"], result["msg"], len(step.calls)) == (True, "no", 1)
    assert result["took"]
    assert "node_silent" not in result


# --- silence


def test_a_node_that_stays_silent_is_a_failure_and_not_unreachable(step: Step) -> None:
    """``rescue`` sees failures only."""
    result = step.run(SILENCE, **STEP)
    assert (result["failed"], result["node_silent"]) == (True, True)
    assert "unreachable" not in result
    assert "node a does not answer: No route to host" in result["msg"]
    assert result["took"]["seconds"] >= node_step.PATIENCE_SECONDS
    assert len(step.calls) > 3
    assert any("trying again" in line for line in step.lines())


def test_a_node_that_answers_again_within_patience_is_no_failure(step: Step) -> None:
    result = step.run(SILENCE, SILENCE, {"changed": True}, **STEP)
    assert result["changed"] is True
    assert not result.get("failed")
    assert step.calls == [STEP] * 3


def test_what_is_asked_before_anything_is_under_way_is_not_waited_for(step: Step) -> None:
    result = step.run(SILENCE, server="web1")
    assert result["node_silent"] is True
    assert len(step.calls) == 1


def test_other_errors_are_not_swallowed(step: Step) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        step.run(RuntimeError("a bug"), **STEP)
    assert len(step.calls) == 1


# --- jobs


def test_a_job_is_polled_to_its_end_by_attaching_to_it(step: Step) -> None:
    result = step.run(running(), running(70.0), DONE, **STEP)
    assert result["job"]["state"] == "done"
    assert step.calls == [STEP, *[{**STEP, "attach": True, "wait_seconds": node_step.REPORT_SECONDS}] * 2]
    assert result["took"]["seconds"] == 3.0


def test_a_job_that_lasts_is_asked_less_often(step: Step) -> None:
    step.seconds_per_call = 4.0
    step.run(*[running()] * 5, DONE, **STEP)
    assert [call["wait_seconds"] for call in step.calls[1:]] == [5, 8, 12, 15, 15]


@pytest.mark.parametrize("seconds_per_call", [1.0, 5.0, 14.0, node_step.LONGEST_REPORT_SECONDS])
def test_the_heartbeat_of_a_job_that_lasts_is_never_old(step: Step, seconds_per_call: float) -> None:
    """A run without one for a minute is dead to others; half of that is left for a node or a records host that is slow."""
    step.seconds_per_call = seconds_per_call
    step.run(*[running()] * 100, DONE, **STEP)
    times = [1000.0, *step.beaten_at, step.clock.now]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= 30


def test_a_wait_that_the_task_asks_for_is_kept(step: Step) -> None:
    step.run(running(), DONE, **STEP, wait_seconds=2)
    assert [call["wait_seconds"] for call in step.calls] == [2, 2]


def test_a_job_that_fails_is_a_failure(step: Step) -> None:
    result = step.run(running(), {"failed": True, "msg": "the disk is full", "job": {"state": "failed"}}, **STEP)
    assert result["msg"] == "the disk is full"
    assert len(step.calls) == 2


def test_a_job_that_was_done_already_is_not_polled(step: Step) -> None:
    assert step.run(DONE, **STEP)["job"]["state"] == "done"
    assert len(step.calls) == 1


def test_progress_is_shown_with_per_cent_rate_and_what_is_left(step: Step) -> None:
    step.run(running(), DONE, **STEP)
    assert step.lines() == ["web one: copy on a 40% of 2.0 GiB, 1.0 MiB/s, 1 min 15 s left"]


def test_what_is_worth_knowing_besides_is_shown_too(step: Step) -> None:
    copying = running()
    copying["job"]["progress"]["note"] = "resumed: 1.0 GiB already there"
    step.run(copying, DONE, **STEP)
    assert step.lines() == ["web one: copy on a 40% of 2.0 GiB, 1.0 MiB/s, 1 min 15 s left; resumed: 1.0 GiB already there"]


def test_who_waits_is_told_for_what_instead_of_per_cent(step: Step) -> None:
    waiting = {"step": "waiting for a transfer slot", "percent": 0.0, "bytes_total": 0, "rate": 0, "eta_seconds": None, "waiting": "2 of 2 taken"}
    result = step.run({"changed": False, "job": {"state": "running", "progress": waiting}}, {"changed": False}, **{**STEP, "state": "reachable"})
    assert step.lines() == ["web one: waiting for a transfer slot of a: 2 of 2 taken"]
    assert result["changed"] is False


def test_the_heartbeat_tells_the_record_how_far_it_is_every_few_seconds(step: Step) -> None:
    step.seconds_per_call = 5.0
    step.run(*[running()] * 9, DONE, **STEP)
    assert step.beats == [{"action": "heartbeat", "uuid": MOVE, "epoch": 1, "progress": running()["job"]["progress"]}] * 3
    assert len(step.lines()) == 9


def test_a_job_that_cannot_tell_its_progress_keeps_the_record_alive_all_the_same(step: Step) -> None:
    """Making gigabytes durable takes a while and says nothing."""
    step.seconds_per_call = 5.0
    step.run(*[running(None)] * 11, DONE, **STEP)
    assert step.lines() == []
    assert len(step.beats) >= 2


def test_a_node_that_is_silent_while_its_job_goes_on_is_borne_for_the_stall_time_out(step: Step) -> None:
    """And the record is kept alive meanwhile: the run is not dead, so nobody may take it over."""
    result = step.run(running(), *[SILENCE] * 25, DONE, **STEP, stall_timeout=120)
    assert result["job"]["state"] == "done"
    assert result["took"]["seconds"] > 2 * node_step.PATIENCE_SECONDS
    beats_needed = result["took"]["seconds"] / 60 + 1
    assert len(step.beats) > beats_needed
    assert step.beats[-1]["progress"]["percent"] == 40.0


def test_a_node_that_stays_silent_about_its_job_is_a_failure_in_the_end(step: Step) -> None:
    result = step.run(running(), SILENCE, **STEP, stall_timeout="90")
    assert result["node_silent"] is True
    assert 90 <= result["took"]["seconds"] < 120


# --- the heartbeat


@pytest.mark.parametrize(
    "heartbeat", [SILENCE, {"failed": True, "msg": "taken over"}, {"unreachable": True, "failed": True, "msg": "gone"}, KeyError("rec"), RuntimeError("odd")]
)
def test_a_heartbeat_that_fails_is_a_warning_and_the_job_is_followed_on(step: Step, heartbeat: Answer) -> None:
    step.heartbeat, step.seconds_per_call = heartbeat, node_step.HEARTBEAT_SECONDS
    result = step.run(running(), DONE, **STEP)
    assert result["job"]["state"] == "done"
    assert not result.get("failed")
    (warning,) = step.warnings()
    assert "web one: the record's heartbeat could not be renewed" in warning


def test_the_heartbeat_goes_to_the_store_of_the_play(step: Step) -> None:
    step.variables["coldmove_record_store_url"], step.seconds_per_call = "postgresql+psycopg://db/x", node_step.HEARTBEAT_SECONDS
    step.run(running(), DONE, **STEP)
    assert step.beats[0]["url"] == "postgresql+psycopg://db/x"


def test_without_a_records_host_there_is_no_heartbeat(step: Step) -> None:
    del step.variables["coldmove_records_host"]
    step.seconds_per_call = node_step.HEARTBEAT_SECONDS
    assert step.run(running(), DONE, **STEP)["job"]["state"] == "done"
    assert (step.beats, step.warnings()) == ([], [])


# --- the record's owner


@pytest.mark.parametrize(("verb", "told"), [("open", True), ("adopt", True), ("transition", False)])
def test_the_record_learns_which_run_owns_it(step: Step, verb: str, told: bool) -> None:
    step.run({"changed": True}, module="coldmove.libvirt.migration_record", uuid=MOVE, action=verb)
    assert step.calls[0].get("owner") == (run_identity() if told else None)


def test_an_owner_that_is_given_is_kept(step: Step) -> None:
    step.run({"changed": True}, module="coldmove.libvirt.migration_record", uuid=MOVE, action="adopt", owner={"pid": 7})
    assert step.calls[0]["owner"] == {"pid": 7}


# --- what is used while the guest is off


@pytest.mark.parametrize("state", ["reachable", "in_step"])
def test_modules_for_the_time_without_the_guest_are_packed_before_it(step: Step, state: str) -> None:
    step.run(running(), DONE, **{**STEP, "state": state})
    assert set(step.packed) == {f"coldmove.libvirt.{name}" for name in node_step.WHILE_OFF}
    for answer in ({"failed": True, "msg": "no"}, SILENCE):
        step.run(answer, **{**STEP, "state": state})
        assert step.packed == []


def test_no_module_is_packed_with_the_guest_off(step: Step) -> None:
    step.run(DONE, **STEP)
    assert step.packed == []
