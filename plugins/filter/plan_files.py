# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files cross, and under which names."""

from __future__ import annotations

import typing as t
import uuid as uuidlib

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import devices, plan
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, guarded

DOCUMENTATION = r"""
name: plan_files
short_description: Plan the files of a move
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Decides once which files of a server cross to its next node and under which names.
  - The record keeps them, nothing else is ever created, renamed or deleted.
  - A disk under the source's O(source_instances_path) goes to the same place under the dest's O(dest_instances_path), any other file to the same absolute path.
  - The content of a swap disk does not cross (C(way) is V(blank)), it is made anew.
  - On the same node (O(in_place)) nothing is copied. Overlays stand on top of the disks, which are the held copy under their own names.
positional: _input, source_instances_path, dest_instances_path, migration_uuid
options:
  _input:
    description: The server as M(coldmove.libvirt.virt_domain_info) returns it.
    type: dict
    required: true
  source_instances_path:
    description: C(instances_path) of the node that the server is on.
    type: str
    required: true
  dest_instances_path:
    description: C(instances_path) of the node that it goes to.
    type: str
    required: true
  migration_uuid:
    description: UUID of the migration, part of the names.
    type: str
    required: true
  sizes:
    description: New virtual size in bytes of each disk that gets another one, by target, as P(coldmove.libvirt.resize_plan#filter) returns it.
    type: dict
    default: {}
  in_place:
    description: The server stays on its node.
    type: bool
    default: false
  dest_devices:
    description:
      - Block devices of the dest for disks that are on block devices, as the operator names them (variable C(dest_devices)).
      - A disk on a logical volume needs none. The dest makes a volume of the same names.
    type: raw
    default: {}
  bytes_per_second:
    description: Rate for the estimate. By default a link of 1 Gbit/s.
    type: float
    default: 110000000
"""

EXAMPLES = r"""
- name: Which files cross
  ansible.builtin.set_fact:
    coldmove_plan: >-
      {{ coldmove_server | coldmove.libvirt.plan_files(
           coldmove_nodes['node1'].facts.instances_path, coldmove_nodes['node2'].facts.instances_path, migration.uuid) }}
"""

RETURN = r"""
_value:
  description:
    - C(files) is the list of move files, with C(id), C(kind), C(format), C(way), C(grow_to_bytes), C(source_path), C(held_path), C(dest_path),
      C(temp_path), C(size_bytes), C(virtual_bytes) and C(allocated_bytes). One on a block device also has C(device), C(volume), C(thin_pool), C(identity).
    - C(edits) is what changes in the definition with these files, C(disks), C(devices), C(formats),
      C(without) and C(nvram) of M(coldmove.libvirt.virt_define_domain).
    - C(directories) is a list of the directories outside O(dest_instances_path) that the dest must have, for M(coldmove.libvirt.virt_dest_info).
    - C(errors) is a list of reasons for which the server cannot be moved. P(coldmove.libvirt.move_blockers#filter) reports them with all others.
    - C(bytes_total) is what will cross, C(estimated_seconds) how long that may take.
  type: dict
"""


def plan_files(
    server: t.Any,
    source_instances_path: t.Any,
    dest_instances_path: t.Any,
    migration_uuid: t.Any,
    bytes_per_second: t.Any = plan.BYTES_PER_SECOND,
    *,
    sizes: t.Any = None,
    in_place: t.Any = False,
    dest_devices: t.Any = None,
) -> t.Any:
    """Plan the files."""
    try:
        # The UUID becomes part of file names: nothing but a UUID gets there.
        uuid = str(uuidlib.UUID(str(migration_uuid)))
    except ValueError:
        raise AnsibleFilterError(f"migration_uuid {str(migration_uuid)!r} is not a UUID") from None
    for name, path in (("source_instances_path", source_instances_path), ("dest_instances_path", dest_instances_path)):
        if not str(path or "").startswith("/"):
            raise AnsibleFilterError(f"{name} must be an absolute path, not {str(path)!r}")
    facts = t.cast("t.Any", a_dict(server, "server"))
    wanted = {str(target): int(size) for target, size in a_dict(sizes or {}, "sizes").items()}
    try:
        named = devices.named_for(facts, dest_devices)
    except ValueError as exc:
        raise AnsibleFilterError(f"dest_devices: {exc}") from None
    paths = str(source_instances_path), str(dest_instances_path)
    return plan.plan_files(facts, *paths, uuid, float(bytes_per_second), wanted, bool(in_place), named)


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"plan_files": guarded(plan_files)}
