# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Whether a server could be brought up by what the record store has kept of it."""

from __future__ import annotations

import typing as t
from xml.etree import ElementTree

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import blobs, text

Row = dict[str, t.Any]


def definition_problem(row: Row) -> str:
    """Why the server could not be brought up by what was kept of it (``xml``, ``nvram``, ``config_drives``); empty if it could.

    A store that was damaged, or written by hand, must not be found out about once the server's node has been switched off.
    Runs on the records host, which has no lxml: that the parts can be read at all is the question here.
    """
    try:
        uuid = ElementTree.fromstring(row["xml"] or "").findtext("uuid")
    except ElementTree.ParseError as exc:
        return f"its definition cannot be read: {exc}"
    if uuid != row["server_uuid"]:
        return f"its definition is that of {text.quoted(uuid)}"
    kept = {"its NVRAM": row["nvram"], **{f"its config drive {name}": packed for name, packed in (row["config_drives"] or {}).items()}}
    damaged = [text.shown(what) for what, packed in kept.items() if packed and not blobs.is_whole(packed)]
    return f"what was kept of {', '.join(damaged)} is damaged" if damaged else ""
