# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this document fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Document fragment for the modules that change a domain's XML before they use it."""

from __future__ import annotations


class ModuleDocFragment:
    """Options disks, devices, formats, without, networks, nvram, flavor, placement and origin."""

    DOCUMENTATION = r"""
options:
  disks:
    description: New path for each disk that gets one, by target device. A disk on a storage volume becomes a disk on that file.
    type: dict
    default: {}
  devices:
    description: Target devices of the disks in O(disks) whose new path is a block device, not a file.
    type: list
    elements: str
    default: []
  formats:
    description:
      - Format of the file, V(raw) or V(qcow2), for each disk whose file has another format than before, by target device.
      - Name a disk here too if its new file has a backing file, because what the definition says of the old file's backing chain is dropped then.
    type: dict
    default: {}
  without:
    description:
      - Target devices of disks that are taken out of the definition and of the server's metadata. Their files are left alone.
      - A disk that is not there needs not be taken out.
    type: list
    elements: str
    default: []
  networks:
    description: New network, bridge or host interface for each old one, by name.
    type: dict
    default: {}
  nvram:
    description: New path of the NVRAM file.
    type: path
  flavor:
    description:
      - Flavor values to set. Of vCPUs and memory, current and maximum value are both set.
      - With O(flavor.name) it is a whole flavor, which is also written into the server's metadata.
        What the flavor that the metadata named before asked for (topology, pins, NUMA cells, huge pages) and this one does not, is taken out.
        If they named none, pins that give every vCPU a CPU of its own count as asked for.
      - Without O(flavor.name) the metadata are left alone, and pins are only taken from vCPUs that are gone.
    type: dict
    suboptions:
      name:
        description: Name of the flavor. Requires O(flavor.vcpus) and O(flavor.memory_mb).
        type: str
      vcpus:
        description: Number of vCPUs.
        type: int
      memory_mb:
        description: Memory in MiB.
        type: int
      root_gb:
        description: Size of the root disk in GiB. Only written into the metadata.
        type: int
      ephemeral_gb:
        description: Size of the ephemeral disks in GiB. Only written into the metadata.
        type: int
      swap_mb:
        description: Size of the swap disk in MiB. Only written into the metadata.
        type: int
      extra_specs:
        description:
          - Extra specs by Nova's names.
          - C(hw:cpu_sockets), C(hw:cpu_cores) and C(hw:cpu_threads) become the topology that the guest sees. The others are met by O(placement).
        type: dict
        default: {}
  placement:
    description:
      - Where on this node the flavor's vCPUs and memory go, as M(coldmove.libvirt.virt_placement) chose it.
      - What it holds replaces what the definition says. Without it nothing is pinned or bound anew.
      - Within a migration it is by default the place that M(coldmove.libvirt.virt_placement) has chosen for it on this node.
    type: dict
    suboptions:
      vcpu_pins:
        description: CPUs of the node by vCPU number, such as V({"0":"4", "1":"5"}).
        type: dict
        default: {}
      emulator_pins:
        description: CPUs of the node for the emulator's own threads, such as V(4-5).
        type: str
      cells:
        description: The guest's NUMA cells in their order.
        type: list
        elements: dict
        default: []
        suboptions:
          vcpus:
            description: vCPUs of the cell, such as V(0-1).
            type: str
            required: true
          memory_mb:
            description: Memory of the cell in MiB.
            type: int
            required: true
          host_cell:
            description: NUMA cell of the node that its memory comes from.
            type: int
            required: true
      page_size_kib:
        description: Size in KiB of the huge pages that back the guest's memory.
        type: int
  origin:
    description: UUID of the migration that defines the domain, written into the server's metadata. Left as it is if not given.
    type: str
"""
