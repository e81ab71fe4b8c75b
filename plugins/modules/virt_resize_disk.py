#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_resize_disk
short_description: Grow a disk of a server, or an image file, and if wanted the file system in it
version_added: 0.1.0
description:
  - Grows a disk of a domain (O(server) and O(target)) while it runs or is off, or an image file or block device on its own (O(path) and O(format)).
  - A running guest is told by libvirt at once, with nothing stopped. An image that nobody has open is grown by C(qemu-img), with its format stated and
    never probed, so that a raw disk in which the guest has written a qcow2 header grows as the raw disk that it is.
  - Files and block devices can be grown, raw or qcow2. A logical volume of LVM is extended first, as far as the disk needs it. Any other block device
    must have grown already, where it comes from.
  - Nothing is ever made smaller.
  - With O(grow_filesystem), the last partition and its file system follow the disk.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
  - coldmove.libvirt._migration
attributes:
  check_mode:
    support: full
    details:
      - The sizes in the result are those that the disk would have; of the file system only whether it would grow.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - Each run with a O(size) that is to be added (V(+5G)) grows the disk again.
options:
  server:
    description:
      - UUID or name of the domain.
      - One of O(server) and O(path) is required.
    type: str
  target:
    description:
      - The disk, by the name in its C(<target dev=...>), like V(vda).
      - Required if O(server) is given.
    type: str
  path:
    description:
      - An image file or block device, by its absolute path.
      - Refused if a running domain uses it, and if it belongs to a migration (unless O(migration_uuid) is given).
    type: str
  format:
    description:
      - What O(path) is. It is not probed, and a wrong format does harm to a raw disk that carries a header of another one.
      - Required if O(path) is given.
    type: str
    choices: [qcow2, raw]
  size:
    description:
      - The new size that the guest sees, in whole bytes, or with V(K), V(M), V(G), V(T) or V(KiB), V(MiB), V(GiB), V(TiB) right behind it, like V(10G). All of
        these are powers of 1024.
      - With a plus in front, like V(+5G), it is added to the size that the disk has.
      - It must be a multiple of 512 bytes. Anything that could mean something else, like V(10 GB), is refused.
      - A raw disk on a logical volume gets the size of the volume, which is O(size) in whole extents.
    type: raw
    required: true
  grow_filesystem:
    description:
      - Whether the partition that ends last on the disk grows to the disk's new end, and its file system with it.
      - ext2, ext3, ext4 and xfs can be grown, in a partition (GPT, or a primary one of an MBR) or on the whole disk.
      - While the server runs, its guest agent does it, with the guest's own C(growpart), C(resize2fs) and C(xfs_growfs). The agent must be allowed to run
        programs (C(guest-exec)). Without an agent nothing in the guest is touched, and RV(filesystem.not_done) says so.
      - While it is off, libguestfs does it, which runs in a small virtual machine. The node's own kernel never mounts a guest's file system. This takes some
        seconds, and much longer on a node without KVM.
      - What else lies there (LVM, encryption, btrfs, NTFS, swap, logical partitions) is left as it is, and RV(filesystem.not_done) says what to do.
      - A damaged file system is an error, and is left as it was. The disk has grown then.
    type: bool
    default: false
requirements:
  - qemu-img
  - lvm2 if a disk is a logical volume
  - python3-guestfs for O(grow_filesystem) of a server that is off, or of O(path) (C(prepare) installs it with C(coldmove_guestfs=true))
notes:
  - A file grows without taking space. A warning says so if its file system could not hold all of it; a server is paused when that is full.
  - A snapshot inside a qcow2 image keeps the old size, and going back to it brings the old size back.
  - Libguestfs builds its virtual machine once and keeps it in C(/var/tmp/.guestfs-0) of the node, with the node's own kernel.
  - In an unconfirmed move the held copy keeps its old size too. C(revert) goes back to that.
seealso:
  - module: coldmove.libvirt.virt_domain_info
"""

EXAMPLES = r"""
- name: Give a running server a larger disk, and let its file system follow
  coldmove.libvirt.virt_resize_disk:
    server: web1
    target: vda
    size: 20G
    grow_filesystem: true

- name: Five more GiB for a data disk
  coldmove.libvirt.virt_resize_disk:
    server: web1
    target: vdb
    size: +5G

- name: Grow an image that no server uses yet
  coldmove.libvirt.virt_resize_disk:
    path: /var/lib/libvirt/images/golden.qcow2
    format: qcow2
    size: 10GiB
  register: grown

- name: Say what was left to do in the guest
  ansible.builtin.debug:
    msg: "{{ grown.filesystem.not_done }}"
  when: grown.filesystem is defined
"""

RETURN = r"""
path:
  description: The file or block device.
  type: str
  returned: success
format:
  description: Its format, as the definition or O(format) says.
  type: str
  returned: success
before_bytes:
  description: The size that the guest saw before, in bytes.
  type: int
  returned: success
after_bytes:
  description: The size that it sees now, in bytes. Read back, except in check mode.
  type: int
  returned: success
content_bytes:
  description: What a copy of all that is in the image takes, in bytes. Holes take none.
  type: int
  returned: check mode, for a file that no running server uses
filesystem:
  description: What became of the partition and the file system.
  type: dict
  returned: O(grow_filesystem=true)
  contains:
    grown:
      description: Whether the file system is larger than before.
      type: bool
    device:
      description: Where it lies, as the guest (RV(filesystem.how=agent)) or libguestfs calls it. None if there is none that can grow.
      type: str
    type:
      description: Its type.
      type: str
    before_bytes:
      description: Its size before, in bytes, by its superblock (libguestfs), or as C(df) in the guest says it (agent).
      type: int
    after_bytes:
      description: Its size now, in bytes. In check mode the same as RV(filesystem.before_bytes).
      type: int
    how:
      description: Who did it, V(agent) or V(libguestfs). None if nobody could.
      type: str
    not_done:
      description: Sentences, each saying what was left as it is, why, and what to do. They are warnings, too.
      type: list
      elements: str
"""

import os
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.domain_xml import LXML_IMPORT_ERROR
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.growth import Size, parse_size
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import growing
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import MIGRATION_ARGS, step


def work(host: libvirt_host.LibvirtHost, size: Size, params: dict[str, t.Any], check_mode: bool) -> tuple[dict[str, t.Any], list[str]]:
    """The module's result, and warnings."""
    if params["path"]:
        if ".coldmove-" in os.path.basename(params["path"]) and not params["migration_uuid"]:
            raise ColdmoveError(f"{params['path']} belongs to a migration (see the playbook coldmove.libvirt.status). Nothing was changed")
        disk = growing.image_at(host, params["path"], params["format"])
    else:
        disk = growing.disk_of_server(host, params["server"], params["target"])
    return growing.grow(host, disk, size, params["grow_filesystem"], check_mode)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **libvirt_host.URI_ARGS,
            **MIGRATION_ARGS,
            "server": {"type": "str"},
            "target": {"type": "str"},
            # Not of the type path: Ansible would put a variable's value where a name has a dollar in it. This is an exact name.
            "path": {"type": "str"},
            "format": {"type": "str", "choices": ["qcow2", "raw"]},
            "size": {"type": "raw", "required": True},
            "grow_filesystem": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
        mutually_exclusive=[("server", "path"), ("target", "path"), ("server", "format")],
        required_one_of=[("server", "path")],
        required_together=[("server", "target"), ("path", "format")],
        required_by={"migration_uuid": "migration_epoch"},
    )
    if LXML_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("lxml"), exception=LXML_IMPORT_ERROR)
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    try:
        size = parse_size(module.params["size"])
        with step(module.params, module.check_mode), libvirt_host.connected(module.params["uri"]) as host:
            result, warnings = work(host, size, module.params, module.check_mode)
        for sentence in warnings:
            module.warn(sentence)
        module.exit_json(**result)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
