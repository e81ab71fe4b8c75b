# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this document fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Document fragment for the modules that talk to libvirt."""

from __future__ import annotations


class ModuleDocFragment:
    """Option uri and what libvirt needs."""

    DOCUMENTATION = r"""
options:
  uri:
    description: The libvirt connection to use. The modules are made for the node's own QEMU system instance.
    type: str
    default: qemu:///system
requirements:
  - python3-libvirt
  - python3-lxml
"""
