# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab of real libvirt nodes on one machine: see docs/lab.md."""

from __future__ import annotations

from lab.errors import LabError
from lab.guest_spec import MIB, DiskSpec, GuestSpec, server_metadata
from lab.lab import Lab, labs

__all__ = ["MIB", "DiskSpec", "GuestSpec", "Lab", "LabError", "labs", "server_metadata"]
