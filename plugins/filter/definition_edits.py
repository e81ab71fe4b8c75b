# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the definition names the files of a move."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import plan
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import dicts, guarded

DOCUMENTATION = r"""
name: definition_edits
short_description: What the files of a move change in the definition
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Says under which paths and formats the definition names the files of a move on its dest, and which disks are gone.
options:
  _input:
    description: C(files) of a migration, as the record keeps them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Define the server on its dest
  coldmove.libvirt.virt_define_domain:
    xml: "{{ definition }}"
    disks: "{{ edits.disks }}"
    devices: "{{ edits.devices }}"
    formats: "{{ edits.formats }}"
    without: "{{ edits.without }}"
  vars:
    edits: "{{ migration.files | coldmove.libvirt.definition_edits }}"
"""

RETURN = r"""
_value:
  description: C(disks), C(devices), C(formats), C(without) and C(nvram) (none if it stays as it is), as M(coldmove.libvirt.virt_define_domain) takes them.
  type: dict
"""


def definition_edits(files: t.Any) -> t.Any:
    """The edits."""
    moved: t.Any = dicts(files, "files")
    return plan.edits_of(moved)


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"definition_edits": guarded(definition_edits)}
