# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/evacuation.py."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import evacuation, inputs
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.survival import Image
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, dicts, guarded, names, text_or_empty

DOCUMENTATION = r"""
name: evacuees
short_description: What becomes of the servers of a node that is lost
version_added: 0.1.0
author: coldmove contributors (@coldmove)
description:
  - Says of each server where it can go, what survives and what is lost, and why it cannot be evacuated.
positional: nodes, migrations, words
options:
  _input:
    description: The last-known records of servers, as M(coldmove.libvirt.server_record_info) returns them.
    type: list
    elements: dict
    required: true
  nodes:
    description: The nodes, as the filter P(coldmove.libvirt.nodes#filter) gives them.
    type: dict
    required: true
  migrations:
    description: Migrations, as M(coldmove.libvirt.migration_record_info) returns them.
    type: list
    elements: dict
    required: true
  words:
    description: By node, what M(coldmove.libvirt.virt_storage) has just read there of the lost node's words.
    type: dict
    required: true
  failed_host:
    description: The node that is lost.
    type: str
    required: true
  servers:
    description: Names or UUIDs of the servers that are meant. Empty for all.
    type: raw
  first:
    description: Names or UUIDs of the servers that come first, in this order.
    type: raw
  target_host:
    description: The only node that may be chosen. Empty for the best.
    type: str
    default: ""
  instances_path:
    description: C(instances_path) of the lost node.
    type: str
    default: /var/lib/libvirt/images
  image:
    description: Absolute path of the image, on the dest, that a lost root disk is made from.
    type: str
    default: ""
  image_format:
    description: The format of the image, never probed.
    type: str
    choices: [qcow2, raw]
    default: qcow2
  replicas:
    description:
      - What lost disks are made from by C(SERVER/DISK), whatever their role, each the absolute path of a file on the dest.
      - Their format is O(image_format), unless it is given as C({path, format}).
    type: dict
  accepted:
    description: Losses that are accepted, each as C(SERVER/DISK).
    type: raw
"""

EXAMPLES = r"""
- name: What would become of them?
  ansible.builtin.debug:
    msg: "{{ (known.servers | coldmove.libvirt.evacuees(nodes, migrations, words, failed_host='node1')).servers | map(attribute='fates') }}"
"""

RETURN = r"""
_value:
  description:
    - C(servers), a list of C(uuid), C(name), C(way) (V(evacuate), V(revert) or V(recover)), C(candidates) and
      C(rejected) as P(coldmove.libvirt.select_hosts#filter) has them, C(plans) by node (C(files),
      C(edits), C(directories), C(external_files), C(lost)), C(fates) (C(id), C(fate), C(how)), C(need) and C(errors).
    - C(images), a list of what disks are to be made from, as C(host), C(path), C(format) and C(disk_bytes), the size of the smallest of
      these disks, and C(disks), how many are to be made from it below C(instances_path) there.
    - C(mute), names of the servers that will run and whose definition has no channel of a guest agent.
    - C(errors), all that speaks against the whole, one sentence each.
  type: dict
"""


def evacuees(
    records: t.Any,
    nodes: t.Any,
    migrations: t.Any,
    words: t.Any,
    *,
    failed_host: t.Any,
    servers: t.Any = None,
    first: t.Any = None,
    target_host: t.Any = "",
    instances_path: t.Any = "/var/lib/libvirt/images",
    image: t.Any = "",
    image_format: t.Any = "qcow2",
    replicas: t.Any = None,
    accepted: t.Any = None,
) -> t.Any:
    """Plan for all."""
    lost, path, kind = str(failed_host), text_or_empty(image), text_or_empty(image_format) or "qcow2"
    moves: t.Any = dicts(migrations, "migrations")
    chosen = evacuation.choose(dicts(records, "the records"), names(servers), lost, moves)
    made_from: Image | None = {"path": path, "format": kind} if path else None
    kept = {str(name): _image(what, kind) for name, what in a_dict(replicas or {}, "replicas").items()}
    what = evacuation.Lost(
        lost, text_or_empty(instances_path), a_dict(words, "words"), text_or_empty(target_host), made_from, kept, inputs.words(accepted) if accepted else []
    )
    known: t.Any = a_dict(nodes, "nodes")
    ordered = evacuation.in_order(chosen.records, names(first))
    found = evacuation.evacuees(ordered, what, known, moves)
    told = {"images": evacuation.images(found), "mute": evacuation.mute(ordered)}
    return {"servers": found, **told, "errors": [*chosen.errors, *(error for server in found for error in server["errors"])]}


def _image(what: t.Any, kind: str) -> Image:
    """A replica as it is given: a path, or a path and a format."""
    if not isinstance(what, Mapping):
        return {"path": str(what), "format": kind}
    if set(what) - {"path", "format"} or not what.get("path"):
        raise AnsibleFilterError("a replica is a path, or a dictionary of path and format")
    return {"path": str(what["path"]), "format": text_or_empty(what.get("format")) or kind}


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"evacuees": guarded(evacuees)}
