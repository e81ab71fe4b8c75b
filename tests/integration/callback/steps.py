# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells a test, as JSON lines on a pipe, which task begins and ends on which host at this moment, and what set_stats said at the end."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: steps
type: notification
short_description: Task events for the kill tests
description: Writes one JSON object for each begin and end of a task to the file descriptor named by E(COLDMOVE_TEST_EVENTS).
requirements: [enabled by E(ANSIBLE_CALLBACKS_ENABLED)]
author: coldmove contributors (@coldmove)
"""


class CallbackModule(CallbackBase):
    """One line for each event."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "steps"
    CALLBACK_NEEDS_ENABLED = True

    def _tell(self, **event: Any) -> None:
        os.write(int(os.environ["COLDMOVE_TEST_EVENTS"]), json.dumps(event).encode() + b"\n")

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task is about to be run for a host."""
        self._tell(kind="start", task=task.get_name(), host=host.get_name())

    def v2_runner_on_ok(self, result: Any) -> None:
        """It succeeded."""
        self._tell(kind="end", task=result.task.get_name(), host=result.host.get_name())

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """It failed."""
        self._tell(kind="failed", task=result.task.get_name(), host=result.host.get_name())

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run is over."""
        self._tell(kind="stats", data=stats.custom.get("_run", {}))
