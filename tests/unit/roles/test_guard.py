# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""coldmove-guard: which server may start, and how the guard comes to know it."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import whereabouts
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import known, paths

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "roles" / "compute_node" / "files"
HERE, GONE, FOREIGN = (f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2, 3))
AWAY = {"server_uuid": GONE, "name": "gone", "to": "node2", "evacuated": True, "migration": "m1", "status": "done"}
ANSWER = {"version": 1, "host": "node1", "away": [AWAY], "managed": [HERE]}
NO_ANSWER = "records1: ssh: connect to host: No route"


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """The guard of a node of its own, whose records host says what ``guard.answers`` holds, one after the other."""
    spec = importlib.util.spec_from_file_location("coldmove_guard", FILES / "coldmove_guard.py")
    assert spec and spec.loader
    module: t.Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("SETTINGS", "HOOK", "LAST_ANSWER", "KNOWN", "STATE", "STARTS", "COMES", "REFUSED", "UNDEFINED"):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
    module.SETTINGS.write_text(json.dumps({"node": "node1", "records": {"name": "records1", "address": "192.0.2.1", "port": 22}, "wait_seconds": 0}))
    module.answers = []
    module.asked = 0
    module.returns = []

    def ask(word: str = "") -> t.Any:
        if word:
            module.returns.append(word)
            return {"return": "its cleaning has begun"}
        module.asked += 1
        found = module.answers.pop(0) if module.answers else None
        if found is None:
            raise module.NoAnswer(NO_ANSWER)
        return module.checked(found, "node1")

    monkeypatch.setattr(module, "ask", ask)
    return module


def reboot(guard: t.Any) -> None:
    """What is under /run is gone."""
    for path in (guard.STATE, *(path for folder in (guard.STARTS, guard.COMES, guard.REFUSED) for path in folder.glob("*"))):
        path.unlink(missing_ok=True)


def let_time_pass(guard: t.Any) -> None:
    """What was asked is not fresh any more."""
    state = guard.read(guard.STATE)
    guard.write(guard.STATE, {**state, "asked": state["asked"] - 60})


def start(guard: t.Any, uuid: str, command: str = "--may-start") -> int:
    """What the hook says of a domain."""
    xml = f"<domain><name>web</name><uuid>{uuid}</uuid></domain>".encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(xml)))
        return int(guard.COMMANDS[command]())


def a_server(uuid: str, name: str, known: bool = False) -> dict[str, t.Any]:
    """A server, as the hook sees it."""
    return {"uuid": uuid, "name": name, "known": known}


def allowed(guard: t.Any) -> list[str]:
    """Which of the three servers may start."""
    return [name for name, uuid in (("here", HERE), ("gone", GONE), ("foreign", FOREIGN)) if start(guard, uuid) == 0]


# --- the decision, over all that can be known


@pytest.mark.parametrize(
    ("state", "last", "expected"),
    [
        ("answered", "any", ["here", "foreign"]),
        ("nothing", "known", ["foreign"]),
        ("silent", "known", ["foreign"]),
        ("nothing", "damaged", []),
        ("silent", "damaged", []),
        ("nothing", "none", ["here", "gone", "foreign"]),
        ("silent", "none", ["here", "gone", "foreign"]),
    ],
)
def test_who_may_start(guard: t.Any, state: str, last: str, expected: list[str]) -> None:
    lasts = {"known": ANSWER, "damaged": None, "none": {}}
    states = {"answered": guard.after_asking(None, ANSWER, 0), "silent": guard.after_asking(None, guard.NoAnswer(NO_ANSWER), 0), "nothing": None}
    for each in lasts.values() if last == "any" else [lasts[last]]:
        servers = {"here": HERE, "gone": GONE, "foreign": FOREIGN}
        found = [name for name, uuid in servers.items() if not guard.refusal(a_server(uuid, name), "node1", states[state], each)]
        assert found == expected


def test_words(guard: t.Any) -> None:
    """What, where, and the next command."""
    server = a_server(GONE, "gone")
    words = guard.refusal(server, "node1", guard.after_asking(None, ANSWER, 0), {})
    assert words == ("server gone was evacuated to node2 (migration m1): it must not start here; next: ansible-playbook coldmove.libvirt.recover -e host=node1")
    moved = {**ANSWER, "away": [{**AWAY, "evacuated": False}]}
    assert "is on node2 (migration m1)" in guard.refusal(server, "node1", guard.after_asking(None, moved, 0), {})
    seen = {**ANSWER, "away": [{**AWAY, "evacuated": False, "migration": None}]}
    assert "was last seen on node2" in guard.refusal(server, "node1", guard.after_asking(None, seen, 0), {})
    silent = guard.refusal(a_server(HERE, "web"), "node1", guard.after_asking(None, guard.NoAnswer(NO_ANSWER), 0), ANSWER)
    assert "server web" in silent and NO_ANSWER in silent and "coldmove-guard --retry" in silent


# --- over boots


def test_a_node_that_was_told_tells_again_after_a_boot_without_an_answer(guard: t.Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The evacuated server stays down over any number of boots, answered or not."""
    guard.HOOK.touch(mode=0o755)
    for answer in (ANSWER, None, None, ANSWER):
        reboot(guard)
        guard.answers = [answer]
        assert guard.boot() == 0
        assert allowed(guard) == (["here", "foreign"] if answer else ["foreign"])
    assert "evacuated to node2" in capsys.readouterr().err


def test_without_its_hook_a_node_is_not_safe(guard: t.Any) -> None:
    assert guard.boot() == 1


def test_a_node_that_was_never_prepared_starts_what_it_has(guard: t.Any) -> None:
    guard.SETTINGS.unlink()
    guard.HOOK.touch(mode=0o755)
    assert guard.boot() == 0
    assert allowed(guard) == ["here", "gone", "foreign"]


def test_what_the_node_noted_itself_waits_for_an_answer(guard: t.Any, capsys: pytest.CaptureFixture[str]) -> None:
    """No answer has ever named it, but the records may: it is noted before they do."""
    guard.KNOWN.mkdir()
    (guard.KNOWN / FOREIGN).touch()
    guard.write(guard.LAST_ANSWER, ANSWER)
    assert allowed(guard) == []
    assert "has not answered since boot" in capsys.readouterr().err
    reboot(guard)
    guard.answers = [ANSWER]
    assert allowed(guard) == ["here", "foreign"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"away": 1}', "null", '{"managed": {}}'])
def test_a_damaged_memory_is_no_reason_to_start(guard: t.Any, content: str) -> None:
    guard.LAST_ANSWER.write_text(content)
    assert allowed(guard) == []


def test_a_damaged_state_is_no_answer(guard: t.Any) -> None:
    guard.ask_and_note()
    guard.write(guard.LAST_ANSWER, ANSWER)
    guard.STATE.write_text("{")
    assert allowed(guard) == ["foreign"]


def test_an_answer_to_another_node_is_none(guard: t.Any) -> None:
    for wrong in ({**ANSWER, "host": "node2"}, {**ANSWER, "version": 2}, {**ANSWER, "away": None}, {**ANSWER, "away": [{}]}, [], {"error": "no store"}):
        guard.answers = [wrong]
        assert not guard.ask_and_note()["answered"]
        assert not guard.LAST_ANSWER.exists()


def test_the_answer_of_the_records_host_is_understood(guard: t.Any) -> None:
    """Both programs have the same form, though neither has the other's code."""
    row = {"uuid": "m1", "server_uuid": GONE, "server_name": "gone", "migration_type": "evacuation", "status": "done"}
    row = {**row, "source_host": "node1", "dest_host": "node2", "pending_hosts": ["node1"], "updated_at": 1.0}
    assert guard.checked(whereabouts.answer("node1", [row], [{"server_uuid": HERE, "name": "web", "host": "node1", "seen_at": 1.0}]), "node1") == ANSWER


# --- what is known gets old


def test_what_would_be_refused_is_asked_for_once_more(guard: t.Any) -> None:
    """A server that came here after the boot, and is started by hand."""
    guard.answers = [ANSWER, {**ANSWER, "away": [], "managed": [HERE, GONE]}]
    guard.ask_and_note()
    assert start(guard, GONE) == 1  # just asked
    let_time_pass(guard)
    assert start(guard, GONE) == 0
    assert guard.asked == 2


def test_what_may_start_asks_nobody(guard: t.Any) -> None:
    guard.answers = [ANSWER]
    guard.ask_and_note()
    let_time_pass(guard)
    assert (start(guard, HERE), start(guard, FOREIGN), guard.asked) == (0, 0, 1)


def test_who_has_answered_stays_answered(guard: t.Any) -> None:
    guard.answers = [ANSWER, None]
    guard.ask_and_note()
    let_time_pass(guard)
    assert start(guard, GONE) == 1
    assert start(guard, HERE) == 0
    assert guard.since_boot()["answered"]


def test_many_that_are_refused_ask_once(guard: t.Any) -> None:
    """libvirt autostarts one after the other, and each question that is not answered takes seconds."""
    guard.write(guard.LAST_ANSWER, ANSWER)
    for _start in range(20):
        assert start(guard, HERE) == 1
    assert guard.asked == 1


# --- starts that nobody forbids


def test_a_step_of_a_migration_may_start_it(guard: t.Any) -> None:
    guard.answers = [ANSWER]
    guard.ask_and_note()
    guard.mark(guard.STARTS, GONE).touch()
    assert start(guard, GONE) == 0
    (guard.STARTS / GONE).unlink()
    assert start(guard, GONE) == 1


def test_a_migration_of_libvirts_own_may_bring_it_once(guard: t.Any) -> None:
    guard.answers = [ANSWER]
    guard.ask_and_note()
    assert start(guard, GONE, "--comes") == 0
    assert (start(guard, GONE), start(guard, GONE)) == (0, 1)
    start(guard, GONE, "--comes")
    os.utime(guard.COMES / GONE, (1, 1))
    assert start(guard, GONE) == 1


def test_no_definition_no_start(guard: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(SystemExit, match="no definition"):
        guard.may_start()


# --- once more


class Virsh:
    """A libvirt with autostarted servers that are off. ``keeps``: what it refuses to undefine."""

    def __init__(self, *off: str, code: int = 0, keeps: str = "") -> None:
        self.off, self.code, self.keeps, self.started = [*off], code, keeps, list[str]()

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As virsh."""
        if words[0] == "start":
            self.started.append(words[1])
        if words[0] == "dumpxml":
            return subprocess.CompletedProcess(words, 0, f"<domain><uuid>{words[-1]}</uuid></domain>", "")
        if words[0] == "undefine" and words[-1] == self.keeps:
            return subprocess.CompletedProcess(words, 1, "", "it has a saved state")
        if words[0] == "undefine":
            self.off.remove(words[-1])
        return subprocess.CompletedProcess(words, self.code, "\n".join(self.off), "no libvirt")


def test_what_was_refused_is_started_when_there_is_an_answer(guard: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guard.write(guard.LAST_ANSWER, ANSWER)
    virsh = Virsh(HERE, GONE, FOREIGN)
    monkeypatch.setattr(guard, "virsh", virsh)
    assert allowed(guard) == ["foreign"]
    assert guard.retry() == 1 and virsh.started == []
    guard.answers = [ANSWER]
    assert guard.retry() == 0
    assert virsh.started == [HERE]  # not what is away, nor what its owner has stopped since
    assert guard.retry() == 0 and virsh.started == [HERE]


@pytest.mark.parametrize("change", [{"status": "accepted"}, {"status": "pre-migrating"}, {"evacuated": False, "status": "finished"}, {"withheld": "fenced"}])
def test_only_what_is_up_elsewhere_by_an_evacuation_is_undefined(guard: t.Any, monkeypatch: pytest.MonkeyPatch, change: dict[str, t.Any]) -> None:
    monkeypatch.setattr(guard, "virsh", virsh := Virsh(HERE, GONE))
    guard.answers = [{**ANSWER, "away": [{**AWAY, **change}]}]
    guard.retry()
    assert virsh.off == [HERE, GONE] and guard.returns == []
    guard.answers = [ANSWER]
    guard.ask_and_note()
    assert guard.retry() == 0
    assert virsh.off == [HERE] and guard.returns == [guard.RETURNED]
    assert guard.read(guard.UNDEFINED / f"{GONE}.json")["xml"] == f"<domain><uuid>{GONE}</uuid></domain>"


def test_what_libvirt_does_not_undefine_stays_for_recover(guard: t.Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(guard, "virsh", virsh := Virsh(HERE, GONE, keeps=GONE))
    guard.answers = [ANSWER]
    assert guard.retry() == 0
    assert virsh.off == [HERE, GONE]
    assert f"could not undefine {GONE}: it has a saved state" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "words"), [({"return": "its cleaning has begun"}, "its cleaning has begun"), ({}, "run prepare"), (None, NO_ANSWER)])
def test_that_the_node_is_back_is_told(
    guard: t.Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: dict[str, t.Any] | None, words: str
) -> None:
    """What becomes of it is said; servers that wait are started whatever it is."""
    guard.write(guard.LAST_ANSWER, ANSWER)
    monkeypatch.setattr(guard, "virsh", virsh := Virsh(HERE, GONE))
    start(guard, HERE)
    asked = guard.ask

    def ask(word: str = "") -> t.Any:
        if word and answer is None:
            raise guard.NoAnswer(NO_ANSWER)
        return {**ANSWER, **(answer or {})} if word else asked()

    monkeypatch.setattr(guard, "ask", ask)
    guard.answers = [ANSWER]
    assert guard.retry() == 0 and virsh.started == [HERE]
    assert words in capsys.readouterr().err


def test_without_libvirt_nothing_is_told(guard: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cleans needs it."""
    monkeypatch.setattr(guard, "virsh", Virsh(code=1))
    guard.answers = [ANSWER]
    assert guard.retry() == 1 and guard.returns == []


def test_a_server_that_is_not_autostarted_stays_off(guard: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guard.write(guard.LAST_ANSWER, ANSWER)
    virsh = Virsh()
    monkeypatch.setattr(guard, "virsh", virsh)
    start(guard, HERE)
    guard.answers = [ANSWER]
    assert guard.retry() == 0 and virsh.started == []


def test_without_libvirt_it_is_tried_again(guard: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guard.write(guard.LAST_ANSWER, ANSWER)
    start(guard, HERE)
    guard.answers = [ANSWER]
    monkeypatch.setattr(guard, "virsh", Virsh(code=1))
    assert guard.retry() == 1
    monkeypatch.setattr(guard, "virsh", virsh := Virsh(HERE))
    assert guard.retry() == 0 and virsh.started == [HERE]


def test_an_answer_that_comes_while_one_is_refused(guard: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts what was refused has looked for marks already."""
    guard.write(guard.LAST_ANSWER, ANSWER)
    marked = guard.mark

    def mark(folder: Path, uuid: str) -> Path:
        guard.answers = [ANSWER]
        guard.ask_and_note()
        return t.cast("Path", marked(folder, uuid))

    monkeypatch.setattr(guard, "mark", mark)
    assert start(guard, HERE) == 0
    assert list(guard.REFUSED.glob("*")) == []


def test_patience_at_boot_ends(guard: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=1.0)
    monkeypatch.setattr(guard.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(guard.time, "sleep", lambda _seconds: None)
    assert not guard.ask_and_note(30)["answered"]
    assert 5 < guard.asked < 30
    guard.answers = [None, None, ANSWER]
    assert guard.ask_and_note(30)["answered"]


# --- what is said twice


def test_paths_agree(guard: t.Any) -> None:
    """The guard stands alone, so it names its paths itself."""
    text = (FILES / "coldmove_guard.py").read_text(encoding="utf-8")
    assert f'RUN = Path("{paths.RUN_DIR}")' in text and f'STARTS = RUN / "{paths.STARTS_DIR.name}"' in text
    assert f'HOOK = Path("{paths.GUARD_HOOK}")' in text and f'IDENTITY = Path("{paths.IDENTITY}")' in text
    assert str(paths.GUARD) in (FILES / "libvirt_hook.sh").read_text(encoding="utf-8")
    assert paths.STARTS_DIR.parent == paths.RUN_DIR
    assert f'KNOWN = Path("{known.folder()}")' in text
    assert whereabouts.VERSION == guard.VERSION


@pytest.mark.parametrize(("operation", "step"), [("start", "begin"), ("prepare", "end"), ("release", "end"), ("stopped", "end"), ("reconnect", "begin")])
def test_the_hook_has_nothing_to_say_otherwise(operation: str, step: str) -> None:
    done = subprocess.run(["sh", FILES / "libvirt_hook.sh", "web", operation, step, "-"], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# --- a node that was given up, and is not back in service

WITHHELD = {"server_uuid": HERE, "name": "web", "to": None, "evacuated": False, "migration": None, "status": None, "withheld": "node1 was fenced by ann"}
FENCED = {**ANSWER, "away": [AWAY, WITHHELD], "managed": []}


def test_a_fenced_node_starts_nothing_that_the_records_know(guard: t.Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Its servers are perhaps just being brought up elsewhere, one after the other. Answered or not, over boots."""
    for answer in (FENCED, None, FENCED):
        reboot(guard)
        guard.answers = [answer]
        guard.ask_and_note()
        assert allowed(guard) == ["foreign"]
        told = capsys.readouterr().err
        assert "server web stays down, node1 was fenced by ann and is not back in service" in told
        assert "compute_service -e host=node1 -e state=enabled" in told
    let_time_pass(guard)
    guard.answers = [ANSWER]
    assert allowed(guard) == ["here", "foreign"]


def test_what_a_fenced_node_was_not_let_start_is_started_when_it_is_back_in_service(guard: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "virsh", virsh := Virsh(HERE, GONE))
    guard.answers = [FENCED]
    guard.ask_and_note()
    guard.answers = [FENCED]
    assert guard.retry() == 1  # nothing has been refused yet; its unit has to come again all the same
    assert (start(guard, HERE), start(guard, GONE)) == (1, 1)
    guard.answers = [FENCED]
    assert guard.retry() == 1 and virsh.started == []
    guard.answers = [None]
    assert guard.retry() == 1 and virsh.started == []
    guard.answers = [ANSWER]
    assert guard.retry() == 0 and virsh.started == [HERE]
    assert guard.retry() == 0 and virsh.started == [HERE]


def test_the_answer_for_a_fenced_node_is_understood(guard: t.Any) -> None:
    seen = [{"server_uuid": HERE, "name": "web", "host": "node1", "seen_at": 1.0}]
    told = guard.checked(whereabouts.answer("node1", [], seen, "node1 was fenced by ann"), "node1")
    assert (told["away"], told["managed"]) == ([WITHHELD], [])
