# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator may do about a migration now."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import recovery
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, guarded, text_or_empty

DOCUMENTATION = r"""
name: legal_commands
short_description: List the commands that are legal for a migration now
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Gives complete command lines that can be pasted into a shell, whatever the name of the server is.
positional: _input
options:
  _input:
    description: One migration as M(coldmove.libvirt.migration_record_info) returns it.
    type: dict
    required: true
  liveness:
    description: C(state) of P(coldmove.libvirt.run_liveness#filter), if it was asked.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: What now
  ansible.builtin.debug:
    msg: "{{ migration | coldmove.libvirt.legal_commands }}"
"""

RETURN = r"""
_value:
  description: Command lines.
  type: list
  elements: str
"""


def legal_commands(record: t.Any, liveness: t.Any = "") -> list[str]:
    """Command lines."""
    return recovery.legal_commands(t.cast("t.Any", a_dict(record, "the migration")), text_or_empty(liveness))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"legal_commands": guarded(legal_commands)}
