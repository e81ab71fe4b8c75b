# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A callback plugin: when each task of a server began and ended, and what its module says it took, as JSON lines in $COLDMOVE_TRACE."""

from __future__ import annotations

import json
import os
import time
import typing as t
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: trace_tasks
type: aggregate
short_description: Write down when each task began and ended
description: Times are CLOCK_MONOTONIC, the same clock for every process of the machine.
"""


class CallbackModule(CallbackBase):
    """Begin and end of every task."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "trace_tasks"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._began: dict[tuple[str, str], float] = {}

    def v2_runner_on_start(self, host: t.Any, task: t.Any) -> None:
        """A task begins on a host."""
        self._began[(host.get_name(), task._uuid)] = time.monotonic()

    def v2_runner_on_ok(self, result: t.Any) -> None:
        """It has ended."""
        self._write(result)

    def v2_runner_on_skipped(self, result: t.Any) -> None:
        """It was not needed."""
        self._write(result)

    def _write(self, result: t.Any) -> None:
        answer = result._result
        job = answer.get("job") if isinstance(answer.get("job"), dict) else {}
        found = job.get("result") or {}
        line = {
            "host": result._host.get_name(),
            "task": result._task.get_name().rpartition(" : ")[2],
            "action": result._task.action,
            "began": self._began.get((result._host.get_name(), result._task._uuid)),
            "ended": time.monotonic(),
            "job_seconds": job.get("seconds"),
            "copy_seconds": found.get("copy_seconds"),
            "verify_seconds": found.get("verify_seconds"),
        }
        with Path(os.environ["COLDMOVE_TRACE"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
