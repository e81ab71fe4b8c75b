# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that speaks against a move."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import devices, prechecks
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded, text_or_empty

DOCUMENTATION = r"""
name: move_blockers
short_description: List everything that speaks against a move
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Runs every pre-check of both ends while the guest is still running, and lists all reasons at once. An empty list means that the move may go on.
positional: _input, source, dest, dest_answers, files, migrations
options:
  _input:
    description: The server as M(coldmove.libvirt.virt_domain_info) returns it.
    type: dict
    required: true
  source:
    description: The node that the server is on, of those that P(coldmove.libvirt.nodes#filter) returns.
    type: dict
    required: true
  dest:
    description: The node that it goes to. Empty if there is none; then only the server and its source are looked at.
    type: dict
    required: true
  dest_answers:
    description: C(dest) as M(coldmove.libvirt.virt_dest_info) returns it. Empty if there is no dest.
    type: dict
    required: true
  files:
    description: C(files) of what P(coldmove.libvirt.plan_files#filter) returns.
    type: list
    elements: dict
    required: true
  migrations:
    description: Migrations as M(coldmove.libvirt.migration_record_info) returns them.
    type: list
    elements: dict
    default: []
  own_migration:
    description: UUID of the record that this very move has opened. It does not speak against the move.
    type: str
    default: ""
  channel_error:
    description: Why the data channel from source to dest did not open. Empty if it did.
    type: str
    default: ""
  evacuation:
    description: The source is lost. Only the dest is asked.
    type: bool
    default: false
  again:
    description: Asked once more before the cutover. The move's own files are on the dest by now, and its disks are mirrored to them.
    type: bool
    default: false
  in_place:
    description: The server stays on its node, source and dest are one.
    type: bool
    default: false
  refusals:
    description: Reasons that the verb itself has found, C(errors) of P(coldmove.libvirt.resize_plan#filter). They come first.
    type: list
    elements: str
    default: []
  dest_devices:
    description: Block devices of the dest, as for P(coldmove.libvirt.plan_files#filter).
    type: raw
    default: {}
  flavor:
    description: The flavor that the server is to have on the dest, as for P(coldmove.libvirt.select_hosts#filter).
    type: dict
  need:
    description: What the server needs on the dest, as for P(coldmove.libvirt.select_hosts#filter).
    type: dict
"""

EXAMPLES = r"""
- name: All reasons of both ends
  ansible.builtin.set_fact:
    coldmove_blockers: >-
      {{ coldmove_server | coldmove.libvirt.move_blockers(
           coldmove_nodes['node1'], coldmove_nodes['node2'], coldmove_dest.dest, coldmove_plan.files, coldmove_migrations,
           own_migration=migration.uuid, channel_error=coldmove_channel.msg | default('')) }}
"""

RETURN = r"""
_value:
  description: Sentences that say what, where, and what to do.
  type: list
  elements: str
"""


def move_blockers(
    server: t.Any,
    source: t.Any,
    dest: t.Any,
    dest_answers: t.Any,
    files: t.Any,
    migrations: t.Any = None,
    *,
    own_migration: t.Any = "",
    channel_error: t.Any = "",
    need: t.Any = None,
    in_place: t.Any = False,
    refusals: t.Any = None,
    flavor: t.Any = None,
    evacuation: t.Any = False,
    dest_devices: t.Any = None,
    again: t.Any = False,
) -> list[str]:
    """All reasons."""
    options: t.Any = {"own_migration": text_or_empty(own_migration), "channel_error": text_or_empty(channel_error)}
    options["evacuation"], options["again"] = bool(evacuation), bool(again)
    options["in_place"], options["refusals"] = bool(in_place), [str(reason) for reason in refusals or []]
    options["flavor"] = a_dict(flavor, "flavor") if flavor else None
    if need:
        options["need"] = {"vcpus": 0, "memory_mb": 0, "disk_bytes": 0, **a_dict(need, "need")}
    facts: t.Any = a_dict(server, "server")
    try:
        options["named_devices"] = devices.named_for(facts, dest_devices)
    except ValueError as exc:
        raise AnsibleFilterError(f"dest_devices: {exc}") from None
    ends: list[t.Any] = [a_dict(source, "source"), a_dict(dest, "dest")]
    answers: t.Any = a_dict(dest_answers, "dest_answers")
    planned: t.Any = dicts(files, "files")
    found: t.Any = dicts(migrations, "migrations")
    if not ends[1]:
        return prechecks.source_blockers(facts, ends[0], planned, found, options)
    return prechecks.move_blockers(facts, ends[0], ends[1], answers, planned, migrations=found, options=options)


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"move_blockers": guarded(move_blockers)}
