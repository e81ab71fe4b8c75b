# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/precopy.py."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import precopy
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded, text_or_empty

DOCUMENTATION = r"""
name: precopy_choice
short_description: Whether the disks of a server are mirrored while it runs
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Holds a server and the files of its move against what a precopy needs.
positional: files, source
options:
  _input:
    description: The server as M(coldmove.libvirt.virt_domain_info) returns it.
    type: dict
    required: true
  files:
    description: The files of the move, as P(coldmove.libvirt.plan_files#filter) returns them.
    type: list
    elements: dict
    required: true
  source:
    description: The node that the server is on, as the filter P(coldmove.libvirt.nodes#filter) gives it.
    type: dict
    required: true
  word:
    description: Whether to mirror the disks if that is possible, always or never. Empty for V(auto).
    type: str
    choices: [auto, always, never, ""]
    default: auto
  in_place:
    description: The server stays on its node.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Is it copied while it runs?
  ansible.builtin.debug:
    msg: "{{ server | coldmove.libvirt.precopy_choice(plan.files, nodes['node1'], word='auto') }}"
"""

RETURN = r"""
_value:
  description:
    - C(precopy) says whether they are mirrored, C(reasons) is a list of what speaks against it.
    - C(error) is the refusal if V(always) was asked for and cannot be. Else it is empty.
    - C(window_seconds) is what a cutover is estimated to take, without the guest's own shutdown and boot.
  type: dict
"""


def precopy_choice(server: t.Any, files: t.Any, source: t.Any, *, word: t.Any = "auto", in_place: t.Any = False) -> t.Any:
    """Choose."""
    asked = text_or_empty(word) or "auto"
    if asked not in precopy.WORDS:
        raise AnsibleFilterError(f"precopy is {asked!r}: it is one of {', '.join(precopy.WORDS)}")
    facts: t.Any = a_dict(server, "server")
    node: t.Any = a_dict(source, "source")
    planned: t.Any = dicts(files, "files")
    return precopy.choose(asked, facts, planned, node, bool(in_place))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"precopy_choice": guarded(precopy_choice)}
