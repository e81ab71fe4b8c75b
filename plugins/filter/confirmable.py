# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/verbs.py."""

from __future__ import annotations

import datetime
import math
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import verbs
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded

DOCUMENTATION = r"""
name: confirmable
short_description: What a sweep of confirm is to confirm
version_added: 0.1.0
description:
  - Finds the finished moves that are old enough, and tells those whose server is well from those that are left alone.
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
  older_than:
    description: Seconds that a move must have been finished.
    type: float
    required: true
positional: nodes, older_than
"""

EXAMPLES = r"""
- name: What is older than a day?
  ansible.builtin.debug:
    msg: "{{ migrations | coldmove.libvirt.confirmable(nodes, 86400) }}"
"""

RETURN = r"""
_value:
  description: A dictionary with C(ready) (UUIDs of servers) and C(left) (sentences about those that are left alone).
  type: dict
"""


def confirmable(migrations: t.Any, nodes: t.Any, older_than: t.Any) -> t.Any:
    """Choose."""
    try:
        seconds = float(older_than)
    except (TypeError, ValueError):
        raise AnsibleFilterError(f"older_than is {older_than!r}: a number of seconds is needed") from None
    if math.isnan(seconds) or seconds < 0:
        raise AnsibleFilterError(f"older_than is {older_than!r}: it must be 0 or more seconds")
    now = datetime.datetime.now(datetime.UTC).isoformat()
    return verbs.confirmable(t.cast("t.Any", dicts(migrations, "migrations")), t.cast("t.Any", a_dict(nodes, "nodes")), seconds, now)


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"confirmable": guarded(confirmable)}
