# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The one transition table: which status of a migration may follow which.

The statuses are Nova's; Nova itself has no such table, every service writes what it likes.
"""

from __future__ import annotations

import typing as t

from .errors import ColdmoveError

MIGRATION_TYPES: t.Final = ("migration", "resize", "evacuation")

STATUSES: t.Final = (
    "accepted",
    "pre-migrating",
    "migrating",
    "post-migrating",
    "finished",
    "confirming",
    "confirmed",
    "reverting",
    "reverted",
    "error",
    "failed",
    "done",
    "completed",
)

# An active migration holds its claims and is the only one its server may have.
# `finished` is active: the held copy and the capacity for a revert are still there.
ACTIVE: t.Final = frozenset({"accepted", "pre-migrating", "migrating", "post-migrating", "finished", "confirming", "reverting"})

# A terminal migration holds no claim and blocks no other. Two of them still have one step of book-keeping
# to go: `error` -> `failed` and `done` -> `completed`.
TERMINAL: t.Final = frozenset(STATUSES) - ACTIVE

# A verb is at work on the server, or was killed at it: what is seen of it on a node may be a moment of the move.
UNDER_WAY: t.Final = ACTIVE - {"finished"}

# Until the copy starts, nothing but the claim ties a migration to its dest, so an alternate may take its place.
DEST_MAY_CHANGE: t.Final = frozenset({"accepted", "pre-migrating"})

_MOVE: t.Final[dict[str, tuple[str, ...]]] = {
    "accepted": ("pre-migrating", "error"),
    "pre-migrating": ("migrating", "error"),
    # There is no way back to pre-migrating: once data has crossed, a failure cleans dest and ends in error.
    "migrating": ("post-migrating", "error"),
    "post-migrating": ("finished", "error"),
    # error from here on: the server's owner undefined it, so there is nothing left to confirm or revert.
    "finished": ("confirming", "reverting", "error"),
    # Back to finished only before the first deletion, when the held copy was read back as complete: the operator
    # may then still choose to revert. After the first deletion a confirm only goes forward, by running it again.
    "confirming": ("confirmed", "finished", "error"),
    # Back to finished when the source could not take the guest back and dest has it running again (law 3: a failed
    # stop returns to where it came from). The held copy is held once more.
    "reverting": ("reverted", "finished", "error"),
    # As in Nova: failed = given up for good and everything it left behind is cleaned.
    "error": ("failed",),
}

_EVACUATION: t.Final[dict[str, tuple[str, ...]]] = {
    "accepted": ("pre-migrating", "error", "failed"),
    "pre-migrating": ("done", "error", "failed"),
    # Unlike Nova only a done evacuation becomes completed: while one is in flight, a source that returns starts
    # nothing and deletes nothing.
    "done": ("completed",),
    "error": ("failed",),
}

TABLE: t.Final[dict[str, dict[str, tuple[str, ...]]]] = {"migration": _MOVE, "resize": _MOVE, "evacuation": _EVACUATION}


def legal(migration_type: str, old: str) -> tuple[str, ...]:
    """The statuses that may follow ``old``."""
    if migration_type not in TABLE:
        raise ColdmoveError(f"unknown migration type {migration_type!r}: it is one of {', '.join(MIGRATION_TYPES)}")
    if old not in STATUSES:
        raise ColdmoveError(f"unknown status {old!r}: it is one of {', '.join(STATUSES)}")
    return TABLE[migration_type].get(old, ())


def check(migration_type: str, old: str, new: str) -> None:
    """Raise unless ``new`` may follow ``old``."""
    following = legal(migration_type, old)
    if new not in following:
        allowed = ", ".join(following) if following else "nothing, it has ended"
        raise ColdmoveError(f"a {migration_type} in status {old} cannot become {new}: what may follow is {allowed}")


def pending_after(new: str, source_host: str, pending_hosts: t.Sequence[str]) -> list[str]:
    """The nodes still to be cleaned once a migration is in status ``new``.

    An evacuated source always is, whoever forgot to say so; completed means that it has been.
    """
    if new == "completed":
        return []
    if new == "done" and source_host not in pending_hosts:
        return [*pending_hosts, source_host]
    return list(pending_hosts)


def needs_cleaning(migration: t.Mapping[str, t.Any]) -> list[str]:
    """The nodes that an ended migration left something on (those of an active one are its own run's work)."""
    return list(migration["pending_hosts"]) if migration["status"] in TERMINAL else []
