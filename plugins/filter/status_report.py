# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/report.py: what the playbook status shows."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import report, verbs
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, a_number, dicts, guarded, names, text_or_empty
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._run_identity import liveness_of

DOCUMENTATION = r"""
name: status_report
short_description: What is where, since when, by whom, and what can be run now
version_added: 0.1.0
description:
  - >-
    Gives the lines of three tables, the nodes with what they have left, the servers with the age of what is known of them, and the migrations with the
    commands that are legal now.
author: coldmove contributors (@coldmove)
options:
  _input:
    description: Migrations, as M(coldmove.libvirt.migration_record_info) returns them.
    type: list
    elements: dict
    required: true
  nodes:
    description: The nodes, as the filter P(coldmove.libvirt.nodes#filter) gives them.
    type: dict
    required: true
  known:
    description: What is known of servers, as M(coldmove.libvirt.server_record_info) returns it.
    type: list
    elements: dict
    default: []
  servers:
    description: Names or UUIDs of servers, as a list or separated by commas; empty for all.
    type: list
    elements: str
    default: []
  host:
    description: Only servers on this node and migrations from or to it; empty for all.
    type: str
    default: ""
  lease_seconds:
    description: A run on another controller that gave no sign of life for so long is dead.
    type: float
    default: 60
positional: nodes, servers, host, lease_seconds
"""

EXAMPLES = r"""
- name: Show the status
  ansible.builtin.debug:
    msg: "{{ migrations | coldmove.libvirt.status_report(nodes, known=known.servers) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


def status_report(migrations: t.Any, nodes: t.Any, servers: t.Any = None, host: t.Any = "", lease_seconds: t.Any = 60, known: t.Any = None) -> list[str]:
    """Lines of text."""
    all_nodes = a_dict(nodes, "nodes")
    lease = a_number(lease_seconds, "lease_seconds", 60)
    records: t.Any = dicts(migrations, "migrations")
    wanted, only_host = names(servers), text_or_empty(host)
    shown = verbs.chosen(records, wanted, only_host)
    last_known = [
        row
        for row in dicts(known, "the known servers")
        if (not wanted or {row.get("server_uuid"), row.get("name")} & set(wanted)) and only_host in ("", row.get("host"))
    ]
    liveness = {str(record.get("uuid")): liveness_of(record, all_nodes, lease) for record in shown}
    now = datetime.datetime.now(datetime.UTC).isoformat()
    lost = {str(record.get("uuid")): verbs.lost_precopy(record, all_nodes) for record in shown}
    return [*report.node_table(all_nodes, records), "", *report.server_table(last_known), "", *report.status_table(shown, now, liveness, lost)]


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"status_report": guarded(status_report)}
