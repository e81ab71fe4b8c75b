# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way is safe for an interrupted migration."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import recovery, servers, services
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, guarded, plain, text_or_empty

DOCUMENTATION = r"""
name: recovery_decision
short_description: Decide what to do about an interrupted migration
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Decides from the record and from what both nodes say. A guest is started on one node only if the other one has been asked and does not run it,
    or if the record proves that it never could. A copy is deleted only if the other one has been seen to be complete.
positional: _input, source_state, dest_state
options:
  _input:
    description: One migration as M(coldmove.libvirt.migration_record_info) returns it.
    type: dict
    required: true
  source_state:
    description:
      - What the source says, C(move) of M(coldmove.libvirt.virt_move_state), or the whole registered result.
      - None, an empty dictionary or a failed result mean that the node does not answer.
    type: dict
  dest_state:
    description: The same of the dest.
    type: dict
  seen_on:
    description: A node on which the server is defined now, if any. Only asked for what an ended migration left behind.
    type: str
    default: ""
  nodes:
    description: The nodes, as the filter P(coldmove.libvirt.nodes#filter) gives them, to find O(seen_on) by, and the nodes that were fenced.
    type: dict
"""

EXAMPLES = r"""
- name: Which way
  ansible.builtin.set_fact:
    coldmove_decision: "{{ migration | coldmove.libvirt.recovery_decision(coldmove_source_state, coldmove_dest_state) }}"
"""

RETURN = r"""
_value:
  description:
    - C(decision) is V(roll_back), V(finish), V(resume_confirm), V(resume_revert), V(clean_gone), V(clean_pending), V(clean_returned), V(nothing) or V(blocked).
    - C(reason) is a sentence for people.
    - >-
      C(steps) is what to do, in this order, of V(withdraw_dest) (stop and undefine on the dest, keep the files), V(define_dest), V(start_dest),
      V(prove) (compare what the server was started with on the dest with the held copy),
      V(restore_source) (defined and off), V(start_source), V(clean_dest) (delete the files that the record names), V(delete_held), V(merge_held),
      V(clean_source) (remove what a node that has returned has of an evacuated server) and V(close).
    - C(pending_hosts) is a list of nodes that cannot be cleaned now.
  type: dict
"""


def recovery_decision(record: t.Any, source_state: t.Any = None, dest_state: t.Any = None, seen_on: t.Any = "", *, nodes: t.Any = None) -> t.Any:
    """Decide."""
    migration = t.cast("t.Any", a_dict(record, "the migration"))
    known: t.Any = a_dict(nodes or {}, "nodes")
    found = text_or_empty(seen_on) or servers.seen_elsewhere(migration, known)
    fenced = services.fenced(known, str(migration.get("created_at") or ""))
    off = {name for name in fenced if not known[name].get("reachable")}
    return recovery.decide(migration, _state(source_state, "source_state"), _state(dest_state, "dest_state"), found, off=off, fenced=fenced)


def _state(value: t.Any, name: str) -> t.Any:
    """The state of a node, None if it did not answer."""
    if not value:
        return None
    if not isinstance(value, Mapping):
        raise AnsibleFilterError(f"{name} must be a dictionary, not {type(value).__name__}")
    if value.get("failed") or value.get("unreachable") or value.get("skipped"):
        return None
    state = plain(value.get("move", value))
    if not isinstance(state, dict) or state.get("domain") not in ("absent", "defined", "running"):
        raise AnsibleFilterError(f"{name} is no state of a move: it has no domain, or one that is neither absent, defined nor running")
    return state


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"recovery_decision": guarded(recovery_decision)}
