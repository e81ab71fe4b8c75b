# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which run this is, and whether it is still there after ``kill -9``: seen by the process itself, its workers, and another run."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from ansible_collections.coldmove.libvirt.plugins.plugin_utils import _run_identity

PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: In a worker
      ansible.builtin.copy:
        content: "{{ omit | coldmove_test_identity | to_json }}"
        dest: "{{ target }}"
      delegate_to: localhost
    - name: At work
      ansible.builtin.wait_for:
        timeout: 60
"""

FILTER = """
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._run_identity import run_identity

class FilterModule:
    def filters(self):
        return {"coldmove_test_identity": lambda _: run_identity()}
"""


def test_this_process_knows_itself():
    identity = _run_identity.run_identity()
    assert identity["pid"] == os.getpid()
    assert identity["pid_start"] == _run_identity.process_start(os.getpid()) > 0
    assert all(identity[key] for key in ("controller", "boot_id", "pid_ns"))


def test_awx_is_believed_only_if_it_is_awx(monkeypatch):
    monkeypatch.setenv("JOB_ID", "42")
    monkeypatch.delenv("AWX_HOST", raising=False)
    assert _run_identity.run_identity()["awx_job_id"] == ""
    monkeypatch.setenv("AWX_HOST", "https://awx.example")
    assert _run_identity.run_identity()["awx_job_id"] == "42"


def test_a_process_that_is_gone_or_a_zombie_has_no_start():
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 20
    while pathlib.Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _run_identity.process_start(child.pid) is None
    child.wait()
    assert _run_identity.process_start(child.pid) is None


def test_a_process_may_have_any_name(tmp_path):
    program = tmp_path / ") R 1 2 (x"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "30"]) as child:
        try:
            assert (_run_identity.process_start(child.pid) or 0) > 0
        finally:
            child.kill()


@pytest.mark.slow
def test_a_killed_run_is_seen_as_dead(tmp_path):
    """A filter in a task runs in a worker in a session of its own; what it records is the main process, and that is gone after SIGKILL."""
    (tmp_path / "filter_plugins").mkdir()
    (tmp_path / "filter_plugins" / "identity.py").write_text(FILTER)
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    target = tmp_path / "identity.json"
    root = next(path for path in sys.path if (pathlib.Path(path) / "ansible_collections" / "coldmove").is_dir())
    variables = json.dumps({"target": str(target), "ansible_python_interpreter": sys.executable})
    command = [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-c", "local", "-e", variables, str(tmp_path / "play.yml")]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": root,
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
        "ANSIBLE_HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
    }
    run = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not target.exists() and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert target.exists(), run.communicate()[0].decode()
        time.sleep(0.2)
        owner = json.loads(target.read_text())
        assert owner["pid"] == run.pid
        assert liveness(owner) == "alive"
        # Only the main process dies: its worker, in another session, lives on and must not make the run look alive.
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        assert liveness(owner) == "dead"
    finally:
        _end(run)


def liveness(owner: dict) -> str:
    """What a later run on this controller says."""
    return _run_identity.liveness_of({"uuid": "m", "epoch": 1, "owner": owner, "heartbeat_age_seconds": 0.0}, [], 60)["state"]


def _end(run: subprocess.Popen) -> None:
    """End what this test started: the main process, and the workers and modules that it left, known by their working directory's name."""
    if run.poll() is None:
        run.kill()
    run.wait()
    if run.stdout:
        run.stdout.close()
    for entry in pathlib.Path("/proc").iterdir():
        try:
            ours = entry.name.isdigit() and os.readlink(entry / "cwd") == os.path.dirname(os.path.realpath(run.args[-1]))
        except OSError:
            continue
        if ours:
            os.kill(int(entry.name), signal.SIGKILL)
