# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Which run of Ansible this is, so that a later run on the same controller can tell whether it is still there."""

from __future__ import annotations

import multiprocessing
import os
import socket
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import recovery


def run_identity() -> dict[str, t.Any]:
    """The ``owner`` of a migration record: controller, boot_id, pid, pid_start, pid_ns, awx_job_id."""
    pid = main_pid()
    return {
        "controller": socket.gethostname(),
        "boot_id": _first_line("/proc/sys/kernel/random/boot_id"),
        "pid": pid,
        "pid_start": process_start(pid) or 0,
        "pid_ns": _link("/proc/self/ns/pid"),
        # AWX sets both in the environment of every job; JOB_ID alone may be anybody's.
        "awx_job_id": os.environ.get("JOB_ID", "") if "AWX_HOST" in os.environ else "",
    }


def main_pid() -> int:
    """The process of ``ansible-playbook`` itself.

    Tasks, and the filters in them, run in workers that Ansible forks by multiprocessing. A worker is in a session of its own
    and is adopted by init when the main process is killed, so neither its group nor getppid names the main process: the
    parent that multiprocessing remembers does.
    """
    parent = multiprocessing.parent_process()
    return os.getpid() if parent is None or parent.pid is None else parent.pid


def process_start(pid: int) -> int | None:
    """When a process began, in clock ticks since boot: with the pid it names one process and no later one. None if it is gone."""
    stat = _first_line(f"/proc/{int(pid)}/stat")
    # The second field, in parentheses, may hold anything; what follows the last parenthesis starts with the third field.
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return int(fields[19])


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def liveness_of(record: t.Any, nodes_or_journals: t.Any, lease_seconds: float) -> t.Any:
    """``recovery.run_liveness`` with the local process looked at. ``nodes_or_journals``: the nodes by name, or a list of journals."""
    journals = nodes_or_journals
    if isinstance(nodes_or_journals, dict):
        journals = [journal for node in nodes_or_journals.values() for journal in (node.get("facts") or {}).get("journals", [])]
    local: t.Any = run_identity()
    pid = (record.get("owner") or {}).get("pid")
    local["owner_start"] = process_start(pid) if isinstance(pid, int) else None
    return recovery.run_liveness(record, journals, lease_seconds, local)
