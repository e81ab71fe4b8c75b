# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table that a verb ends with."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import report
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import dicts, guarded

DOCUMENTATION = r"""
name: move_table
short_description: Tell in a table what became of each server
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - One line for each server, with where it was, where it is, the status, the bytes that crossed and the downtime. Errors follow below.
positional: _input
options:
  _input:
    description: Migrations as M(coldmove.libvirt.migration_record_info) returns them, or outcomes with the same keys.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Outcome
  ansible.builtin.debug:
    msg: "{{ coldmove_migrations | coldmove.libvirt.move_table }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""


def move_table(migrations: t.Any) -> list[str]:
    """Lines of text."""
    return report.move_table(t.cast("t.Any", dicts(migrations, "migrations")))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"move_table": guarded(move_table)}
