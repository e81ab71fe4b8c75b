# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this document fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Document fragments for the modules that stop or start a server."""

from __future__ import annotations


class ModuleDocFragment:
    """One fragment each for power.SHUTDOWN_ARGS and proving.ORDER_ARGS."""

    SHUTDOWN = r"""
options:
  shutdown_timeout:
    description: Seconds that the guest is given to shut down by itself, then it is powered off if that is allowed. With V(0) it is not asked.
    type: float
    default: 60
  shutdown_retry_interval:
    description: Seconds between two requests to shut down.
    type: float
    default: 10
"""

    PROOF = r"""
options:
  proof_disks:
    description:
      - Disks (targets) of which this start is to be proven afterwards, each with the bytes of it that count.
      - The server is started paused, libvirt holds these disks fast by a backup in pull mode, and the guest goes on. A job of the node reads what is held fast,
        for M(coldmove.libvirt.virt_content_digest).
      - If that cannot be, the server is started all the same, and RV(proof_error) says why.
      - Only in a step of a migration.
    type: dict
    default: {}
  stall_timeout:
    description: With O(proof_disks), give up reading when it has got no further for so many seconds.
    type: int
    default: 120
"""
