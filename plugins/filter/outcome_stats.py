# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What workflows learn of a verb."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import dicts, guarded

DOCUMENTATION = r"""
name: outcome_stats
short_description: What workflows learn of a verb
version_added: 0.1.0
description:
  - Takes the outcomes of a verb and gives what goes into the statistics key C(coldmove_migrations), small enough to become extra variables.
author: coldmove contributors (@coldmove)
options:
  _input:
    description: Outcomes, one for each server.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Hand the outcome on
  ansible.builtin.set_stats:
    data:
      coldmove_migrations: "{{ outcomes | coldmove.libvirt.outcome_stats }}"
"""

RETURN = r"""
_value:
  description: >-
    Dictionaries with C(id), C(server), C(status), C(source_host), C(dest_host), C(bytes_sent), C(downtime_seconds), and C(held_since), which
    only a precopy has that is held for its cutover.
  type: list
  elements: dict
"""


def outcome_stats(outcomes: t.Any) -> list[dict[str, t.Any]]:
    """The public keys of each outcome."""
    keys = ("id", "status", "source_host", "dest_host", "bytes_sent", "downtime_seconds")
    return [
        {"server": outcome.get("server_name"), **{key: outcome.get(key) for key in keys}, "held_since": (outcome.get("hold") or {}).get("since")}
        for outcome in dicts(outcomes, "outcomes")
    ]


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"outcome_stats": guarded(outcome_stats)}
