#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_placement
short_description: Choose the CPUs and NUMA cells of a node that a server of a flavor gets
version_added: 0.1.0
description:
  - Chooses, on the node that a server is going to, the CPUs for its pins, the NUMA cells for its memory and the size of its huge pages,
    as the extra specs of the flavor ask for.
  - The choice is kept in the node's journal of the migration until the migration ends there, so no other server is given the same CPUs.
    Choices on one node are made one after the other.
  - What every defined domain is pinned and bound to counts, whether it runs or not, and so do held copies. The server's own copies do not.
  - If the flavor does not fit, the module fails with all reasons and changes nothing.
  - Runs on the dest node before the server is stopped.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
  - coldmove.libvirt._migration
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  migration_uuid:
    required: true
  migration_epoch:
    required: true
  server_uuid:
    description: UUID of the server.
    type: str
    required: true
  flavor:
    description:
      - The flavor that the server is going to have.
      - It is as O(coldmove.libvirt.virt_define_domain#module:flavor).
    type: dict
    required: true
    suboptions:
      name:
        description: Name of the flavor.
        type: str
      vcpus:
        description: Number of vCPUs.
        type: int
        required: true
      memory_mb:
        description: Memory in MiB.
        type: int
        required: true
      root_gb:
        description: Size of the root disk in GiB. Does not matter here.
        type: int
      ephemeral_gb:
        description: Size of the ephemeral disks in GiB. Does not matter here.
        type: int
      swap_mb:
        description: Size of the swap disk in MiB. Does not matter here.
        type: int
      extra_specs:
        description:
          - Extra specs by Nova's names, of which C(hw:cpu_policy), C(hw:mem_page_size), C(hw:numa_nodes), C(hw:numa_cpus.N) and C(hw:numa_mem.N)
            are met here.
          - With C(hw:cpu_policy=dedicated) each vCPU gets a CPU for itself among all that are pinned. Servers that are not pinned may still run there.
          - Each NUMA cell of the server gets another cell of the node, its memory is bound to it, and its vCPUs stay there.
          - Huge pages without C(hw:numa_nodes) make one NUMA cell, as in Nova. V(large) is the largest page with which the server fits.
        type: dict
        default: {}
notes:
  - In check mode the place that the server would get now is returned, also if an earlier run has chosen another one.
seealso:
  - module: coldmove.libvirt.virt_define_domain
  - module: coldmove.libvirt.virt_node_info
"""

EXAMPLES = r"""
- name: Choose the CPUs of a server that is resized
  coldmove.libvirt.virt_placement:
    migration_uuid: "{{ migration.uuid }}"
    migration_epoch: "{{ migration.epoch }}"
    server_uuid: "{{ migration.server_uuid }}"
    flavor: "{{ migration.new_flavor }}"
  delegate_to: node2
  register: place

- name: Define it there
  coldmove.libvirt.virt_define_domain:
    migration_uuid: "{{ migration.uuid }}"
    migration_epoch: "{{ migration.epoch }}"
    xml: "{{ answer.server.xml }}"
    flavor: "{{ migration.new_flavor }}"
    placement: "{{ place.placement }}"
  delegate_to: node2
"""

RETURN = r"""
placement:
  description: The place, as O(coldmove.libvirt.virt_define_domain#module:placement) takes it. None if the flavor asks for none.
  type: dict
  returned: success
  contains:
    vcpu_pins:
      description: CPUs of the node by vCPU number.
      type: dict
    emulator_pins:
      description: CPUs of the node for the emulator's own threads.
      type: str
    cells:
      description: The server's NUMA cells, each with C(vcpus), C(memory_mb) and C(host_cell). Empty if it has none.
      type: list
      elements: dict
    page_size_kib:
      description: Size of the huge pages in KiB, or none.
      type: int
reasons:
  description: Why the flavor does not fit on this node, one sentence each.
  type: list
  elements: str
  returned: failure, if it does not fit
"""

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.domain_xml import LXML_IMPORT_ERROR
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import placing
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.definition import FLAVOR_ARGS
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import step


def choose(params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """The module's result."""
    with step(params, check_mode) as journal, libvirt_host.connected(params["uri"]) as host:
        if journal:
            return placing.place(journal, host, params["server_uuid"], params["flavor"])
        chosen = placing.look(host, params["server_uuid"], params["flavor"])
        return {"changed": chosen is not None, "placement": chosen}


def main() -> None:
    """Run the module."""
    required = {key: {**FLAVOR_ARGS[key], "required": True} for key in ("vcpus", "memory_mb")}
    module = AnsibleModule(
        argument_spec={
            **libvirt_host.URI_ARGS,
            "migration_uuid": {"type": "str", "required": True},
            "migration_epoch": {"type": "int", "required": True},
            "server_uuid": {"type": "str", "required": True},
            "flavor": {"type": "dict", "required": True, "options": {**FLAVOR_ARGS, **required}},
        },
        supports_check_mode=True,
    )
    if LXML_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("lxml"), exception=LXML_IMPORT_ERROR)
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    try:
        module.exit_json(**choose(module.params, module.check_mode))
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
