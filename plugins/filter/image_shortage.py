# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/evacuation.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import evacuation
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded

DOCUMENTATION = r"""
name: image_shortage
short_description: Why what is made from images does not fit on the nodes
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Holds what is to be written at once for an evacuation against what is free where the nodes keep their servers' disks.
positional: _input, nodes
options:
  _input:
    description:
      - Results of M(coldmove.libvirt.virt_resize_disk) in check mode, one for each of C(images) of P(coldmove.libvirt.evacuees#filter), which is their C(item).
    type: list
    elements: dict
    required: true
  nodes:
    description: The nodes, as the filter P(coldmove.libvirt.nodes#filter) gives them.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Does it fit?
  ansible.builtin.debug:
    msg: "{{ looked_at.results | coldmove.libvirt.image_shortage(nodes) }}"
"""

RETURN = r"""
_value:
  description: Sentences, one for each node that has too little room; empty if all is well.
  type: list
  elements: str
"""


def image_shortage(results: t.Any, nodes: t.Any) -> list[str]:
    """By the looks at the images."""
    looks: t.Any = [(each["item"], int(each["content_bytes"])) for each in dicts(results, "the results") if "content_bytes" in each]
    return evacuation.no_room(looks, t.cast("t.Any", a_dict(nodes, "nodes")))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"image_shortage": guarded(image_shortage)}
