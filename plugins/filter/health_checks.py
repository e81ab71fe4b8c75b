# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/health.py."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import health
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import guarded, plain

DOCUMENTATION = r"""
name: health_checks
short_description: The health checks that an operator wrote, made whole
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Takes the variable C(health_checks) as it comes from an inventory, from C(-e) or from a survey, and makes of it what
    M(coldmove.libvirt.virt_health_check) takes.
  - Fails with everything that is malformed. The filter P(coldmove.libvirt.malformed#filter) says the same in its own list.
options:
  _input:
    description:
      - A list of checks, or JSON of one. None and an empty string are no checks.
      - The keys of a check are those of O(coldmove.libvirt.virt_health_check#module:checks). Numbers may be strings.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Check what the operator asked for
  coldmove.libvirt.virt_health_check:
    server: web1
    checks: "{{ health_checks | default([]) | coldmove.libvirt.health_checks }}"
"""

RETURN = r"""
_value:
  description: The checks, with defaults filled in.
  type: list
  elements: dict
"""


def health_checks(value: t.Any) -> list[health.Check]:
    """Parse."""
    try:
        return health.parsed(plain(value))
    except ValueError as exc:
        raise AnsibleFilterError(f"health_checks: {exc}") from None


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"health_checks": guarded(health_checks)}
