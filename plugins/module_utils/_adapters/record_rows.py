# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Rows of the record store, as they are kept: structures as JSON, dates as seconds since 1970."""

from __future__ import annotations

import datetime
import json
import typing as t

Row = dict[str, t.Any]

#: Columns that hold JSON, of every table.
_JSON: t.Final = {
    *("old_flavor", "new_flavor", "need", "source_need", "candidates", "rejected", "files", "pending_hosts", "owner", "progress", "detail"),
    *("facts", "flavor", "config_drives", "seen_by", "disabled", "forced_down", "fenced", "drained", "hold"),
}


def encode(row: Row) -> Row:
    """A row as the database takes it."""
    return {key: json.dumps(value, sort_keys=True) if key in _JSON and value is not None else _storable(value) for key, value in row.items()}


def _storable(value: t.Any) -> t.Any:
    """An error text can hold whatever a tool printed; a record is written all the same."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0") if isinstance(value, str) else value


def decode(row: t.Any) -> Row:
    """A row of the database as it was given."""
    return {key: json.loads(value) if key in _JSON and value is not None else value for key, value in row._mapping.items()}


def iso(seconds: float) -> str:
    """A date of the store for people and for modules: ISO 8601, UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
