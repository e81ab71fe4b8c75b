# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/evacuation.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import evacuation
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import dicts, guarded

DOCUMENTATION = r"""
name: halt_reason
short_description: Why an evacuation begins no further server
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Gives a sentence if more than half of the servers of the batches before have failed.
options:
  _input:
    description: The outcomes of the servers of the batches before. Those with C(not_begun) do not count.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Is it worth going on?
  ansible.builtin.debug:
    msg: "{{ [{'server_name': 'web1', 'ok': false}] | coldmove.libvirt.halt_reason }}"
"""

RETURN = r"""
_value:
  description: The sentence; empty if the next server may be begun.
  type: str
"""


def halt_reason(outcomes: t.Any) -> str:
    """By the outcomes."""
    return evacuation.halt_reason(dicts(outcomes, "the outcomes"))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"halt_reason": guarded(halt_reason)}
