# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why each host was refused."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import report
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import dicts, guarded

DOCUMENTATION = r"""
name: rejection_table
short_description: Tell in a table why each host was refused
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - One line for each reason of each host.
positional: _input
options:
  _input:
    description: C(rejected) of P(coldmove.libvirt.select_hosts#filter) or of a migration.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Why not there
  ansible.builtin.debug:
    msg: "{{ coldmove_selection.rejected | coldmove.libvirt.rejection_table }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""


def rejection_table(rejected: t.Any) -> list[str]:
    """Lines of text."""
    return report.rejection_table(t.cast("t.Any", dicts(rejected, "the rejected hosts")))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"rejection_table": guarded(rejection_table)}
