# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this document fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Document fragment for the modules that change a domain's XML before they use it."""

from __future__ import annotations


class ModuleDocFragment:
    """Options disks, networks, nvram and flavor."""

    DOCUMENTATION = r"""
options:
  disks:
    description: New path for each disk that gets one, by target device. A disk on a storage volume becomes a disk on that file.
    type: dict
    default: {}
  networks:
    description: New network, bridge or host interface for each old one, by name.
    type: dict
    default: {}
  nvram:
    description: New path of the NVRAM file.
    type: path
  flavor:
    description: Flavor values to set. Current and maximum value are both set.
    type: dict
    suboptions:
      vcpus:
        description: Number of vCPUs.
        type: int
      memory_mb:
        description: Memory in MiB.
        type: int
"""
