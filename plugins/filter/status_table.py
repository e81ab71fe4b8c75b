# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is where, and what may be done."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import report
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded, text_or_empty

DOCUMENTATION = r"""
name: status_table
short_description: Tell in a table what is where, since when, by whom, and what may be done now
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Open migrations come first, oldest first, with what they hold. Below the table follow problems and the commands that are legal now.
positional: _input
options:
  _input:
    description: Migrations as M(coldmove.libvirt.migration_record_info) returns them.
    type: list
    elements: dict
    required: true
  liveness:
    description: What P(coldmove.libvirt.run_liveness#filter) said, by UUID of the migration.
    type: dict
    default: {}
  now:
    description: Date from which ages are counted (ISO 8601). By default the controller's clock.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Status
  ansible.builtin.debug:
    msg: "{{ coldmove_migrations | coldmove.libvirt.status_table }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""


def status_table(migrations: t.Any, liveness: t.Any = None, now: t.Any = "") -> list[str]:
    """Lines of text."""
    date = text_or_empty(now) or datetime.datetime.now(datetime.UTC).isoformat()
    return report.status_table(t.cast("t.Any", dicts(migrations, "migrations")), date, a_dict(liveness or {}, "liveness"))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"status_table": guarded(status_table)}
