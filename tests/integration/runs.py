# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the collection's playbooks, as an operator runs them: by name, in a process of their own. They can be followed, and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.processes import Process, pids
from lab.shell import ENVIRONMENT

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / ".build"


def collections_path() -> str:
    """Where ansible-playbook finds this very checkout by its name (tests/conftest.py has seen to it), and what it depends on."""
    tree = next(path for path in sys.path if Path(path, "ansible_collections", "coldmove", "libvirt").exists())
    return f"{tree}:{BUILD / 'collections'}"


def environment(events: int) -> dict[str, str]:
    """Nothing of the caller's: no version manager's shims, no settings of Ansible."""
    home = BUILD / "home" / "integration"
    home.mkdir(parents=True, exist_ok=True)
    return {
        **ENVIRONMENT,
        "PATH": f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",  # what it says is read while it runs
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_COLLECTIONS_PATH": collections_path(),
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_FORKS": "20",
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "steps",
        "COLDMOVE_TEST_EVENTS": str(events),
    }


@dataclass(frozen=True)
class Event:
    """A task began (`start`) or ended (`end`, `failed`) for a host."""

    kind: str
    task: str
    host: str


@dataclass
class Outcome:
    """How a run ended."""

    code: int
    output: str
    migrations: list[dict[str, Any]] = field(default_factory=list)

    def check(self) -> Outcome:
        """The run must have succeeded."""
        assert self.code == 0, self.output
        return self

    def changed(self) -> int:
        """How many changes PLAY RECAP counts, over all hosts."""
        recap = self.output.rpartition("PLAY RECAP")[2]
        return sum(int(word.removeprefix("changed=")) for word in recap.split() if word.startswith("changed="))

    def well(self, server: str) -> bool:
        """Whether PLAY RECAP has the server without a failure; all of the output counts if it does not have it at all."""
        line = next((line for line in self.output.rpartition("PLAY RECAP")[2].splitlines() if line.split(" ")[0] == server), "")
        return " failed=0 " in line and " unreachable=0 " in line

    def words_of(self, server: str) -> str:
        """What went wrong with one of many servers: its failures and its line of the recap; everything if there is no such line."""
        lines = [line for line in self.output.splitlines() if line.startswith((f"fatal: [{server}", f"failed: [{server}", f"{server} "))]
        return "\n".join(lines) or self.output

    def refused(self, *words: str) -> Outcome:
        """The run must have failed and said all these words."""
        assert self.code != 0, self.output
        for word in words:
            assert word in self.output, f"{word!r} is not in:\n{self.output}"
        return self


class Run:
    """One ansible-playbook: one of the collection's by its name, or a file of the tests' own (NAME.yml)."""

    def __init__(self, inventory: Path, playbook: str, *options: str, **variables: Any) -> None:
        read, write = os.pipe()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the run)
        what = str(HERE / playbook) if playbook.endswith(".yml") else f"coldmove.libvirt.{playbook}"
        argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), what]
        argv += [*options, "-e", json.dumps(variables)]
        self.process = subprocess.Popen(
            argv,
            cwd="/",
            env=environment(write),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            pass_fds=[write],
            start_new_session=True,
        )
        os.close(write)
        self._news = threading.Condition()
        self._events: list[Event] = []
        self._stats: dict[str, Any] = {}
        threading.Thread(target=self._listen, args=(read,), daemon=True).start()

    def _listen(self, read: int) -> None:
        with os.fdopen(read, encoding="utf-8") as lines:
            for line in lines:
                told = json.loads(line)
                with self._news:
                    if told["kind"] == "stats":
                        self._stats = told["data"]
                    else:
                        self._events.append(Event(**told))
                    self._news.notify_all()

    def wait_for(self, kind: str, task: str, timeout: float = 180) -> None:
        """Wait for the begin or the end of a task (the end of its name is enough)."""
        deadline = time.monotonic() + timeout
        with self._news:
            while not any(event.kind == kind and event.task.endswith(task) for event in self._events):
                over = self.process.poll() is not None
                self._news.wait(0.2)
                if over or time.monotonic() > deadline:
                    raise AssertionError(f"the run never came to the {kind} of {task!r}:\n{self.output()}")

    def has(self, kind: str, task: str) -> bool:
        """Whether a task has begun or ended by now."""
        with self._news:
            return any(event.kind == kind and event.task.endswith(task) for event in self._events)

    def output(self) -> str:
        """What it has printed so far."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")

    def kill(self, workers: bool = True) -> None:
        """SIGKILL, as a controller dies: the playbook and (unless told) its workers. ssh's shared connections and the nodes are left alone."""
        victims = [process for process in [Process.of(self.process.pid)] if process]
        if workers and victims:
            os.kill(self.process.pid, signal.SIGSTOP)  # no new children while they are counted
            victims += descendants(self.process.pid)
        for victim in victims:
            victim.kill() if victim.pid != self.process.pid else os.kill(victim.pid, signal.SIGKILL)
        self.process.wait(10)

    def finish(self, timeout: float = 300) -> Outcome:
        """Wait for its end."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end after {timeout:g} s:\n{self.output()}") from None
        with self._news:
            self._news.wait_for(lambda: bool(self._stats) or self.process.returncode != 0, 5)
            return Outcome(self.process.returncode, self.output(), self._stats.get("coldmove_migrations", []))


def descendants(pid: int) -> list[Process]:
    """Every process below this one."""
    parents: dict[int, list[int]] = {}
    for other in pids():
        try:
            fields = Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(other)
    found, queue = [], [pid]
    while queue:
        for child in parents.get(queue.pop(), []):
            queue.append(child)
            process = Process.of(child)
            if process:
                found.append(process)
    return found
