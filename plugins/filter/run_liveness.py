# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dead or slow."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._run_identity import liveness_of

DOCUMENTATION = r"""
name: run_liveness
short_description: Tell whether the run that owns a migration is alive
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - If the run was started on this same controller, its process is looked at.
  - From elsewhere the youngest sign of life counts, the record's heartbeat or the last contact with a node.
positional: _input, journals
options:
  _input:
    description: One migration as M(coldmove.libvirt.migration_record_info) returns it.
    type: dict
    required: true
  journals:
    description: The nodes as P(coldmove.libvirt.nodes#filter) returns them, or a list of their C(journals).
    type: raw
    default: []
  lease_seconds:
    description: Without a sign of life for so long, a run counts as dead.
    type: float
    default: 60
"""

EXAMPLES = r"""
- name: Is another run at work on it?
  ansible.builtin.set_fact:
    coldmove_liveness: "{{ migration | coldmove.libvirt.run_liveness(coldmove_nodes, lease_seconds=60) }}"
"""

RETURN = r"""
_value:
  description:
    - C(state) is V(alive), V(dead) or V(unknown).
    - C(mine) is true if the migration belongs to this very run.
    - C(text) is a sentence for people.
  type: dict
"""


def run_liveness(record: t.Any, journals: t.Any = None, lease_seconds: t.Any = 60) -> t.Any:
    """Look at the process, or at the signs of life."""
    migration = t.cast("t.Any", a_dict(record, "the migration"))
    try:
        lease = float(lease_seconds)
    except (TypeError, ValueError):
        raise AnsibleFilterError(f"lease_seconds must be a number, not {lease_seconds!r}") from None
    return liveness_of(migration, a_dict(journals, "nodes") if isinstance(journals, Mapping) else dicts(journals, "journals"), lease)


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"run_liveness": guarded(run_liveness)}
