# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this document fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Document fragments for the modules that handle the files of a move."""

from __future__ import annotations


class ModuleDocFragment:
    """Options files, wait_seconds and attach."""

    DOCUMENTATION = r"""
options:
  files:
    description:
      - The files that belong to the move, as the filter P(coldmove.libvirt.plan_files#filter) made them and the record keeps them.
      - These are the only names that are ever created, renamed or deleted.
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description: The disk's target device, or V(nvram).
        type: str
        required: true
      kind:
        description: What the file is.
        type: str
        choices: [disk, nvram]
        default: disk
      format:
        description: The image's format by the domain's definition, never probed.
        type: str
        choices: [qcow2, raw]
        required: true
      source_path:
        description: The file's path on the source.
        type: str
        required: true
      held_path:
        description: The path on the source under which the held copy stands aside.
        type: str
        required: true
      dest_path:
        description: The file's final path on the dest.
        type: str
        required: true
      temp_path:
        description: The path on the dest while the content is not yet proven.
        type: str
        required: true
      size_bytes:
        description: Length of the file in bytes.
        type: int
        default: 0
      virtual_bytes:
        description: Size in bytes that the guest sees.
        type: int
        default: 0
      allocated_bytes:
        description: Bytes that the file occupies on the source.
        type: int
        default: 0
      way:
        description:
          - How the file comes to be on the dest.
          - V(copy) carries its content over.
          - V(blank) makes it anew, empty, as a swap disk is.
          - V(drop) means that the dest has none, as for the swap disk of a flavor without swap.
          - V(overlay), on the same node, puts a new image on top of it. The old image is the held copy and keeps its name.
          - V(replace), on the same node, makes it anew, empty, under the same name.
          - V(image), of a disk that is lost with its node, makes it anew from O(files[].image_path).
          - V(restore) makes it from what the record store has kept of its content.
        type: str
        choices: [copy, blank, drop, overlay, replace, image, restore]
        default: copy
      grow_to_bytes:
        description: Size in bytes that the guest is to see on the dest. V(0) if it stays as it is.
        type: int
        default: 0
      device:
        description:
          - Empty for a file. Otherwise it is a block device on both ends, which keeps its name.
          - V(named) means that the operator has named the dest's device, which is there and is never removed.
          - V(volume) means that the dest makes O(files[].volume) for it.
        type: str
        choices: ["", named, volume]
        default: ""
      volume:
        description: The logical volume that the dest makes, C(GROUP/NAME).
        type: str
        default: ""
      thin_pool:
        description: The thin pool that it is made in, if its group has that on the dest.
        type: str
        default: ""
      identity:
        description: What is the same wherever the source's device is seen from.
        type: list
        elements: str
        default: []
      image_path:
        description: The image on the dest that a lost disk is made from.
        type: str
      image_format:
        description: Its format, never probed.
        type: str
        choices: [qcow2, raw]
"""

    JOB = r"""
options:
  wait_seconds:
    description:
      - How many seconds one call waits for the job before it returns its progress.
      - The action plugin of the collection calls again until the job has ended, and shows the progress meanwhile.
    type: int
    default: 5
  attach:
    description:
      - Only report on a job that was started before, do not start one.
      - Used by the action plugin of the collection.
    type: bool
    default: false
"""
