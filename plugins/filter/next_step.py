# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/verbs.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import servers, verbs
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, a_number, as_written, dicts, guarded, text_or_empty
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._run_identity import liveness_of

DOCUMENTATION = r"""
name: next_step
short_description: What a verb is to do about a server
version_added: 0.1.0
description:
  - Holds the latest record of a server against the verb, and looks whether the run that owns it is alive.
author: coldmove contributors (@coldmove)
options:
  _input:
    description: Migrations, as M(coldmove.libvirt.migration_record_info) returns them.
    type: list
    elements: dict
    required: true
  verb:
    description: The verb.
    type: str
    choices: [cold_migrate, resize, cutover, cancel, confirm, revert, evacuate]
    required: true
  server_uuid:
    description: UUID of the server.
    type: str
    required: true
  nodes:
    description: The nodes, as the filter P(coldmove.libvirt.nodes#filter) gives them.
    type: dict
    required: true
  lease_seconds:
    description: A run on another controller that gave no sign of life for so long is dead.
    type: float
    default: 60
  target_host:
    description: The host that was named; empty for any.
    type: str
    default: ""
  flavor:
    description: What the server is to be resized to, the name of a flavor or a flavor as a mapping.
    type: raw
  kind:
    description: The kind of cutover that is asked for, C(kind) of what P(coldmove.libvirt.cutover_plan#filter) gives.
    type: str
    choices: [now, hold, at, window]
    default: now
positional: verb, server_uuid, nodes, lease_seconds, target_host
"""

EXAMPLES = r"""
- name: May this server be confirmed?
  ansible.builtin.debug:
    msg: "{{ migrations | coldmove.libvirt.next_step('confirm', server_uuid, nodes) }}"
"""

RETURN = r"""
_value:
  description: A dictionary with C(next) (V(plan), V(adopt), V(act), V(nothing) or V(refuse)), C(reason) and C(migration).
  type: dict
"""


def next_step(
    migrations: t.Any,
    verb: t.Any,
    server_uuid: t.Any,
    nodes: t.Any,
    lease_seconds: t.Any = 60,
    target_host: t.Any = "",
    *,
    flavor: t.Any = None,
    kind: t.Any = "now",
) -> t.Any:
    """Decide."""
    known = a_dict(nodes, "nodes")
    lease = a_number(lease_seconds, "lease_seconds", 60)
    records: t.Any = dicts(migrations, "migrations")
    uuid = str(server_uuid)
    locked = servers.lock_of(uuid, t.cast("t.Any", known))
    return verbs.next_step(
        str(verb),
        records,
        uuid,
        lambda record: liveness_of(record, known, lease),
        text_or_empty(target_host),
        locked,
        as_written(flavor) if flavor else None,
        str(kind),
    )


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"next_step": guarded(next_step)}
