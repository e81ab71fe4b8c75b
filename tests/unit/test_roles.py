# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of the task files that no linter knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import recovery

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/**/*.yml")])


def tasks(found: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a file that is a task, a block or a play."""
    if isinstance(found, list):
        for entry in found:
            yield from tasks(entry)
    elif isinstance(found, dict):
        yield found
        for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
            yield from tasks(found.get(key))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_included_in_a_loop(path: Path) -> None:
    """With the strategy free, several hosts' loops over includes are taken in one common order, which is not that of each of them."""
    for task in tasks(yaml.safe_load(path.read_text(encoding="utf-8"))):
        if any(key.partition("ansible.builtin.")[2] in ("include_tasks", "include_role") for key in task):
            assert "loop" not in task, task["name"]


def test_steps_are_taken_in_the_order_of_the_decisions() -> None:
    """One include for each step, in the one order."""
    found = yaml.safe_load((ROOT / "roles/recover/tasks/act.yml").read_text(encoding="utf-8"))
    assert [task["ansible.builtin.include_tasks"] for task in found] == [f"step_{step}.yml" for step in recovery.ORDER]
    assert [task["when"] for task in found] == [f"'{step}' in coldmove_decision.steps" for step in recovery.ORDER]
