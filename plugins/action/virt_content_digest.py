# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of the module virt_content_digest: the one of every module that works on a node."""

from __future__ import annotations

from ansible_collections.coldmove.libvirt.plugins.action.node_step import ActionModule

__all__ = ["ActionModule"]
