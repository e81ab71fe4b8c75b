#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_domain_info
short_description: Facts of one server, and everything that forbids moving it
version_added: 0.1.0
description:
  - Reads one domain of this node, its disks with formats taken from the XML, and lists every reason why it cannot be moved as it is now.
  - Changes nothing, also not on a running guest.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.info_module
  - coldmove.libvirt._attributes.idempotent_not_modify_state
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
options:
  server:
    description: UUID or name of the domain.
    type: str
    required: true
notes:
  - RV(server.xml) holds the domain's secrets (such as a VNC password), because it is what the domain is defined from on another node.
"""

EXAMPLES = r"""
- name: Look at a server
  coldmove.libvirt.virt_domain_info:
    server: web1
  register: answer

- name: Say what is in the way of a move
  ansible.builtin.debug:
    msg: "{{ answer.server.blockers }}"
"""

RETURN = r"""
server:
  description: The server's facts.
  type: dict
  returned: success
  contains:
    uuid:
      description: UUID of the domain.
      type: str
    name:
      description: Name of the domain.
      type: str
    state:
      description: V(running), V(paused), V(shutoff), V(crashed), V(pmsuspended), V(blocked), V(shutdown) or V(nostate).
      type: str
    persistent:
      description: Whether libvirt keeps a definition of it.
      type: bool
    autostart:
      description: Whether libvirt starts it at boot.
      type: bool
    xml:
      description: The inactive definition, secrets included.
      type: str
    vcpus:
      description: Maximum number of vCPUs. C(vcpus_current) is how many are on at boot.
      type: int
    memory_mb:
      description: Maximum memory in MiB. C(memory_current_mb) is the balloon's size at boot.
      type: int
    domain_type:
      description: V(kvm) or V(qemu).
      type: str
    emulator:
      description: Path of the emulator.
      type: str
    arch:
      description: Architecture of the guest.
      type: str
    machine_type:
      description: Machine type.
      type: str
    cpu_mode:
      description: V(custom), V(host-model), V(host-passthrough), V(maximum), or none.
      type: str
    cpu_model:
      description: CPU model of V(custom).
      type: str
    loader:
      description: Path of the firmware.
      type: str
    firmware:
      description: V(efi) or V(bios) if libvirt selects the firmware by itself.
      type: str
    nvram:
      description:
        - C(path), C(template), C(exists), C(size_bytes), C(allocated_bytes) and, of a symbolic link, C(link_to) of the firmware's variables, or none.
        - Also found if the definition leaves firmware and path to libvirt.
      type: dict
    tpm:
      description: Whether it has a TPM.
      type: bool
    disks:
      description:
        - Each with C(target), C(device), C(type), C(path), C(format), C(virtual_bytes), C(allocated_bytes), C(size_bytes) (length of the file),
          C(internal_snapshots), C(greatest_bytes) (how large the disk can be on its block device), C(readonly), C(shareable),
          C(transient), C(encrypted), C(startup_policy), C(role), C(chain) (backing files with C(path), C(format) and, of a symbolic
          link, C(link_to)), C(pool) and C(volume).
        - C(moves) says whether a move has to carry the file.
      type: list
      elements: dict
    nics:
      description: Each with C(mac), C(type) and C(source).
      type: list
      elements: dict
    hostdevs:
      description: Devices of this node that the guest uses.
      type: list
      elements: str
    snapshots:
      description: Names of libvirt snapshots.
      type: list
      elements: str
    checkpoints:
      description: Names of libvirt checkpoints.
      type: list
      elements: str
    managed_save:
      description: Whether there is a managed-save image.
      type: bool
    agent:
      description: Whether the definition has the channel of a guest agent.
      type: bool
    block_jobs:
      description: Disks with an active block job.
      type: list
      elements: str
    locked:
      description: C(by) and C(reason) of the lock in the domain's metadata, or none. It is no blocker here; each verb decides.
      type: dict
    project:
      description: Project from the domain's metadata.
      type: str
    group:
      description: Server group from the domain's metadata.
      type: str
    flavor:
      description: Flavor from the domain's metadata, or none.
      type: dict
    origin:
      description: UUID of the migration that defined the domain, from its metadata, or none.
      type: str
    topology:
      description: C(sockets), C(dies), C(cores) and C(threads) as far as the definition gives them, or none.
      type: dict
    pins:
      description: CPUs of the node that each pinned vCPU may use, such as V(0-3,8), by the vCPU's number.
      type: dict
    numa_cells:
      description: Number of the guest's NUMA cells.
      type: int
    page_size_kib:
      description: Size in KiB of the huge pages that back the guest's memory, or none.
      type: int
    image:
      description: The least that the server's image asks for, C(min_ram_mb) (MiB) and C(min_disk_gb) (GiB), from the domain's metadata, or none.
      type: dict
    external_files:
      description: Files that are not the server's own but that it needs (kernel, firmware, read-only media). They must exist on dest.
      type: list
      elements: str
    blockers:
      description: Everything about this domain that forbids any move, each a phrase that goes on from the server's name.
      type: list
      elements: str
    node_ties:
      description: What forbids to leave the node, as it would stay behind. A resize on the same node minds none of it.
      type: list
      elements: str
"""

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.domain_xml import LXML_IMPORT_ERROR
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import server_facts


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**libvirt_host.URI_ARGS, "server": {"type": "str", "required": True}}, supports_check_mode=True)
    if LXML_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("lxml"), exception=LXML_IMPORT_ERROR)
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    try:
        with libvirt_host.connected(module.params["uri"]) as host:
            server = server_facts.collect(host, module.params["server"])
        module.exit_json(changed=False, server=server)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
