# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/flavors.py, for the flavor that a server has."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import flavors
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, guarded

DOCUMENTATION = r"""
name: current_flavor
short_description: The flavor that a server has
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - The flavor in the server's metadata. What that does not say, and all of it for a server that was never resized, is derived from its definition.
options:
  _input:
    description: The server as M(coldmove.libvirt.virt_domain_info) returns it.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Which flavor is it?
  ansible.builtin.debug:
    msg: "{{ coldmove_server | coldmove.libvirt.current_flavor }}"
"""

RETURN = r"""
_value:
  description: C(name), C(vcpus), C(memory_mb) (MiB), C(root_gb) (GiB), C(ephemeral_gb) (GiB), C(swap_mb) (MiB) and C(extra_specs).
  type: dict
"""


def current_flavor(server: t.Any) -> t.Any:
    """The flavor."""
    facts: t.Any = a_dict(server, "server")
    return flavors.current_of(facts)


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"current_flavor": guarded(current_flavor)}
