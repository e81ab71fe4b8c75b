# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What is loaded once, before Ansible forks.

Every task of every host is a process of its own, and Ansible keeps no bytecode of a collection: a task that uses one of our filters would compile it, and
all that it imports, anew. That was a third of the controller's work when ten servers were moved at once (docs/performance.md).
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

_FILTERS = "ansible_collections.coldmove.libvirt.plugins.filter"


def load_filters() -> None:
    """Import every filter of the collection into this process, where Ansible's loader finds it in each process that is forked from it."""
    for found in pkgutil.iter_modules([str(Path(__file__).parents[1] / "filter")]):
        importlib.import_module(f"{_FILTERS}.{found.name}")
