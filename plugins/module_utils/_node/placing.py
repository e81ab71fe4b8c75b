# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Choose the CPUs and NUMA cells of this node that a coming server gets, so that no two migrations are given the same ones."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import placement, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import journal as journals
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import node_facts, paths
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

Flavor = t.Mapping[str, t.Any]
Result = dict[str, t.Any]


def place(journal: Journal, host: LibvirtHost, server_uuid: str, flavor: Flavor) -> Result:
    """The place of this migration's server on this node, chosen at the first call: ``{changed, placement}``.

    It is kept in the journal, where other choices see it, until the migration is closed here. Raises ColdmoveError with all reasons if there is none.
    """
    asked = _asked(flavor)
    if "placement" in journal.data and journal.data.get("placement_for") == asked:
        return {"changed": False, "placement": journal.data["placement"]}
    # Two migrations have two journals with a lock each: the look at the node and the note must be one step for all of them.
    with journals.locked(paths.STATE_DIR / "placement.lock", "the choice of a place for another server"):
        chosen = look(host, server_uuid, flavor)
        changed = chosen != journal.data.get("placement")
        journal.note(server_uuid=server_uuid, placement=chosen, placement_for=asked)
    return {"changed": changed, "placement": chosen}


def look(host: LibvirtHost, server_uuid: str, flavor: Flavor) -> placement.Placement | None:
    """The place that the server would get now; nothing is noted. None if the flavor asks for nothing."""
    if placement.wish_of(flavor) is None:
        return None
    chosen, reasons = placement.decide(flavor, node_facts.layout(host), server_uuid)
    if reasons:
        what = f"flavor {text.quoted(flavor['name'])}" if flavor.get("name") else "the flavor"
        raise ColdmoveError(f"{what} does not fit on this node: {'; '.join(reasons)}. Nothing was changed", reasons=reasons)
    return chosen


def _asked(flavor: Flavor) -> Result:
    """What the choice depends on: another name or disk size is no reason to choose anew."""
    return {"vcpus": flavor["vcpus"], "memory_mb": flavor["memory_mb"], "extra_specs": dict(flavor.get("extra_specs") or {})}
