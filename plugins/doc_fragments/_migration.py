# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this document fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Document fragment for the modules that take part in a migration."""

from __future__ import annotations


class ModuleDocFragment:
    """Options migration_uuid and migration_epoch."""

    DOCUMENTATION = r"""
options:
  migration_uuid:
    description:
      - UUID of the migration that this step belongs to, as M(coldmove.libvirt.migration_record) returned it.
      - The step then holds the migration's lock on this node and writes the node's journal of it.
      - Without it the module works on its own and keeps no journal.
    type: str
  migration_epoch:
    description:
      - Number of the run that takes this step, as M(coldmove.libvirt.migration_record) returned it.
      - A step of a run that a newer run has taken over is refused.
      - Required if O(migration_uuid) is given.
    type: int
"""
