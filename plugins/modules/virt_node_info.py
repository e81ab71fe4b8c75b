#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_node_info
short_description: Facts of a compute node that host selection and pre-checks need
version_added: 0.1.0
description:
  - Capacity, what is allocated to domains, versions, CPU model, machine types, networks, storage pools, space for images, and the journals of open migrations.
  - Says also whether the node is prepared for moves, and what is missing if it is not.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.info_module
  - coldmove.libvirt._attributes.idempotent_not_modify_state
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
options:
  name:
    description: Name of the node in the inventory. Its own host name if not given.
    type: str
  instances_path:
    description: Folder for the disks of servers that come to this node. Its file system's space is reported, also while the folder does not exist yet.
    type: path
    default: /var/lib/libvirt/images
seealso:
  - module: coldmove.libvirt.virt_domain_info
"""

EXAMPLES = r"""
- name: Ask a node for its facts
  coldmove.libvirt.virt_node_info:
    name: "{{ inventory_hostname }}"
    instances_path: /var/lib/libvirt/images
  register: answer

- name: Show what its domains have been given
  ansible.builtin.debug:
    msg: "{{ answer.node.domains | sum(attribute='memory_mb') }} of {{ answer.node.memory_mb }} MiB"
"""

RETURN = r"""
node:
  description: The node's facts.
  type: dict
  returned: success
  contains:
    name:
      description: O(name), or the host name.
      type: str
    hostname:
      description: The node's own host name.
      type: str
    machine_id:
      description: Content of C(/etc/machine-id). Two inventory names with the same machine ID are one machine.
      type: str
    boot_id:
      description: The kernel's boot ID.
      type: str
    libvirt_version:
      description: In libvirt's encoding, major * 1000000 + minor * 1000 + release.
      type: int
    qemu_version:
      description: In libvirt's encoding.
      type: int
    arch:
      description: Architecture of the node.
      type: str
    cpus:
      description: Logical CPUs.
      type: int
    cpu_model:
      description: CPU model as libvirt names it.
      type: str
    memory_mb:
      description: Memory in MiB.
      type: int
    numa_cells:
      description:
        - The node's NUMA cells, each with C(id), C(cpus) (numbers of its CPUs), C(memory_mb), and C(pages) (huge pages, each with C(size_kib),
          C(total) and C(free)).
      type: list
      elements: dict
    machine_types:
      description: Machine types that the node's emulators know, aliases included.
      type: list
      elements: str
    networks:
      description: Active libvirt networks.
      type: list
      elements: str
    bridges:
      description: Linux and Open vSwitch bridges.
      type: list
      elements: str
    pools:
      description: Storage pools, each with C(name), C(active) and C(path) (of pools of files).
      type: list
      elements: dict
    instances_path:
      description: As given.
      type: str
    instances_fs:
      description: C(total_bytes) and C(free_bytes) of the file system that holds O(instances_path).
      type: dict
    prepared:
      description: Whether the node has all that a move needs.
      type: bool
    not_prepared:
      description: What is missing.
      type: list
      elements: str
    domains:
      description:
        - Every domain, with C(uuid), C(name), C(state), C(autostart), C(vcpus), C(memory_mb), C(disk_bytes) (virtual sizes of its own local disks),
          C(macs), C(disk_paths), C(locked) (C(by) and C(reason), or none) and C(project) (of the domain's metadata, or none).
        - What a domain keeps of the node for itself is in C(pinned_cpus) (CPUs that a vCPU, the emulator or an IO thread is pinned to alone),
          C(page_size_kib) (of its huge pages, or none) and C(memory_cells) (NUMA cells that its memory is bound to, with C(host_cell) and C(memory_mb)).
      type: list
      elements: dict
    journals:
      description:
        - What the node keeps of open migrations, with C(migration_uuid), C(server_uuid), C(epoch), C(contact_age_seconds) and C(job).
        - C(precopy) says how the precopy stands that leaves this node, V(running), V(in_step), V(over) or V(lost). It is None if there is none.
        - C(reserved) is a list of what the held copy, and the place chosen for a server that comes, keep of the node,
          each with C(pinned_cpus), C(memory_mb), C(page_size_kib) and C(memory_cells) as of a domain.
      type: list
      elements: dict
"""

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.domain_xml import LXML_IMPORT_ERROR
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import node_facts


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={**libvirt_host.URI_ARGS, "name": {"type": "str"}, "instances_path": {"type": "path", "default": "/var/lib/libvirt/images"}},
        supports_check_mode=True,
    )
    if LXML_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("lxml"), exception=LXML_IMPORT_ERROR)
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    try:
        with libvirt_host.connected(module.params["uri"]) as host:
            node = node_facts.collect(host, module.params["name"], module.params["instances_path"])
        module.exit_json(changed=False, node=node)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
