# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The one exception root of the collection."""

from __future__ import annotations

import typing as t


class ColdmoveError(Exception):
    """Something an operator must know: the message says what, where, the state things are in, and what to do next.

    ``result`` (dict of plain values) is returned beside ``msg`` by the module that fails.
    """

    def __init__(self, message: str, **result: t.Any) -> None:
        super().__init__(message)
        self.result = result


class Superseded(ColdmoveError):
    """A newer run has taken this migration over; this one must not touch anything any more."""
