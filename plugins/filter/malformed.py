# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/inputs.py, _logic/health.py and _logic/cutover.py."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import cutover, health, inputs
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, a_list, guarded, plain

DOCUMENTATION = r"""
name: malformed
short_description: What is malformed among the variables of a verb and of the nodes
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Finds every variable that is given and is not what it must be, before anything is looked at or touched.
  - Numbers and booleans may be strings. An empty string is not given.
positional: _input, hosts, hostvars
options:
  _input:
    description: The variables of the verb, by name.
    type: dict
    required: true
  hosts:
    description: Inventory names of the compute nodes.
    type: list
    elements: str
    required: true
  hostvars:
    description: The magic variable C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse what is malformed
  ansible.builtin.fail:
    msg: "{{ wrong | join('. ') }}"
  when: wrong | length > 0
  vars:
    wrong: "{{ {'verify': verify | default('')} | coldmove.libvirt.malformed(groups['compute'], hostvars) }}"
"""

RETURN = r"""
_value:
  description: Sentences; empty if all is well.
  type: list
  elements: str
"""


def malformed(variables: t.Any, hosts: t.Any, hostvars: t.Any) -> list[str]:
    """The verb's first, then each node's."""
    asked = a_dict(variables, "the variables")
    found = inputs.malformed(asked, {**inputs.OF_VERBS, **health.OF_VERBS, **cutover.of_verb(time.time())}) + cutover.contradictions(asked)
    for host in a_list(hosts, "the list of compute nodes"):
        mine = {name: plain(hostvars[host].get(name)) for name in inputs.OF_NODES}
        found += inputs.malformed(mine, inputs.OF_NODES, str(host))
    return found


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"malformed": guarded(malformed)}
