# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/cutover.py."""

from __future__ import annotations

import time
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import cutover, text
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_list, a_number, guarded

DOCUMENTATION = r"""
name: cutover_plan
short_description: When a precopied server is to be cut over
version_added: 0.1.0
description:
  - Reads what an operator says of the cutover. Times without an offset are in the time zone of the controller.
  - Fails with one sentence for what is malformed, for a time that was over when it was asked for, and for a window that never comes.
author: coldmove contributors (@coldmove)
options:
  _input:
    description: >-
      V(now), V(hold), V(at=2026-11-23T02:00), V(window=22:00-04:00) or V(window=START/END) with two dates. Empty is V(now).
    type: str
    required: true
  asked_at:
    description: When it was asked for, in seconds since 1970. A clock window that has closed since then is the next one. Without it, now.
    type: float
  unable:
    description: Why the server is not precopied, C(reasons) of what P(coldmove.libvirt.precopy_choice#filter) gives.
    type: list
    elements: str
    default: []
positional: asked_at
"""

EXAMPLES = r"""
- name: When is it cut over?
  ansible.builtin.debug:
    msg: "{{ ('window=22:00-04:00' | coldmove.libvirt.cutover_plan).words }}"
"""

RETURN = r"""
_value:
  description: >-
    A dictionary with C(kind) (V(now), V(hold), V(at) or V(window)), C(not_before) and C(not_after) in seconds since 1970 or null, C(daily) for a window
    of clock times, C(over) if its window has closed, C(words) for people, and C(refusals), what speaks against it for this very server.
  type: dict
"""


def cutover_plan(written: t.Any, asked_at: t.Any = None, *, unable: t.Any = None) -> dict[str, t.Any]:
    """Read it as it was meant when it was asked for; of a clock window, what is next."""
    now = time.time()
    value = "now" if written is None or not str(written).strip() else written
    try:
        plan = cutover.parse(value, a_number(asked_at, "asked_at", now))
        if plan["daily"] and cutover.is_over(plan, now):
            plan = cutover.parse(value, now)
    except ValueError as exc:
        raise AnsibleFilterError(f"cutover is {text.shown(repr(written))}: {exc}") from None
    refusals = cutover.refusals(plan["kind"], [str(reason) for reason in a_list(unable, "unable")])
    return {**plan, "over": cutover.is_over(plan, now), "refusals": refusals}


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"cutover_plan": guarded(cutover_plan)}
