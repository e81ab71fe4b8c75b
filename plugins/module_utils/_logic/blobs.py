# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Small files kept in a record: compressed (a config drive is mostly holes), as text."""

from __future__ import annotations

import base64
import zlib


def pack(content: bytes) -> str:
    """The content as text for a record."""
    return base64.b64encode(zlib.compress(content, 6)).decode("ascii")


def unpack(packed: str) -> bytes:
    """The content again."""
    return zlib.decompress(base64.b64decode(packed, validate=True))


def is_whole(packed: str) -> bool:
    """Whether the content can be had again."""
    try:
        unpack(packed)
    except (ValueError, zlib.error):
        return False
    return True
