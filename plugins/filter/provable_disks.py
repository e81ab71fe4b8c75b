# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/proofs.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import proofs
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import dicts, guarded, plain

DOCUMENTATION = r"""
name: provable_disks
short_description: The disks of a move that can be proven after the start
version_added: 0.1.0
description:
  - Those whose content has crossed, and that nothing has written to on the dest before the start.
author: coldmove contributors (@coldmove)
options:
  _input:
    description: The files of the move, as the filter P(coldmove.libvirt.plan_files#filter) made them.
    type: list
    elements: dict
    required: true
  changed_since:
    description: Ids of files that were written to on the dest after they had crossed.
    type: list
    elements: str
    default: []
positional: changed_since
"""

EXAMPLES = r"""
- name: Which disks
  ansible.builtin.debug:
    msg: "{{ migration.files | coldmove.libvirt.provable_disks }}"
"""

RETURN = r"""
_value:
  description: The bytes that count by target, as M(coldmove.libvirt.virt_power) takes them as O(coldmove.libvirt.virt_power#module:proof_disks).
  type: dict
"""


def provable_disks(files: t.Any, changed_since: t.Any = ()) -> t.Any:
    """Choose."""
    return proofs.provable(t.cast("t.Any", dicts(files, "files")), [str(name) for name in plain(list(changed_since))])


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"provable_disks": guarded(provable_disks)}
