# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback: writes the statistics key coldmove_migrations, what a workflow would get, to the file $COLDMOVE_STATS."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: keep_stats
type: aggregate
short_description: Keep what a workflow would get
description: Writes the statistics key coldmove_migrations to a file.
"""


class CallbackModule(CallbackBase):
    """One hook."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "keep_stats"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        """The play is over."""
        found = stats.custom.get("_run", {}).get("coldmove_migrations")
        if found is not None and os.environ.get("COLDMOVE_STATS"):
            Path(os.environ["COLDMOVE_STATS"]).write_text(json.dumps(found), encoding="utf-8")
