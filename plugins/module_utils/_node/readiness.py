# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Whether a node has what a move needs; what the roles compute_node and ssh_trust set up."""

from __future__ import annotations

import grp
import shutil

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.exports import HAS_NBD
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths

_PROGRAMS = ("qemu-img", "qemu-nbd", "ssh", "setpriv")
_FILES = (paths.IDENTITY, paths.KNOWN_HOSTS, paths.AUTHORIZED_KEYS, paths.SSHD_DROP_IN, paths.OFFERS_DIR, paths.GUARD, paths.GUARD_HOOK)


def not_prepared() -> list[str]:
    """Everything that is missing on this node; empty when ``prepare`` has done its work."""
    missing = [f"program {name} is missing" for name in _PROGRAMS if shutil.which(name) is None]
    missing += [f"{path} is missing" for path in _FILES if not path.exists()]
    if not HAS_NBD:
        missing.append("Python library nbd (libnbd) is missing")
    try:
        grp.getgrnam(paths.ACCOUNT)
    except KeyError:
        missing.append(f"account {paths.ACCOUNT} is missing")
    return missing
