# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Why a compute node is out of service: flags in the record store, each set for a reason of its own, by somebody, at a time."""

from __future__ import annotations

import typing as t

from . import text
from .transitions import UNDER_WAY

Service = t.Mapping[str, t.Any]

#: Each flag, and the words for a node that has it. ``enabled`` takes all of them back.
FLAGS: t.Final = {
    "disabled": "disabled",
    "forced_down": "forced down",
    "fenced": "fenced",
    "drained": "drained",
}


def reasons(service: Service | None) -> list[str]:
    """Why the node takes no server; empty if it is in service."""
    found = []
    for flag, words in FLAGS.items():
        told = (service or {}).get(flag)
        if told:
            how = f", {text.shown(told['how'])}" if told.get("how") else ""
            why = f": {text.shown(told['reason'])}" if told.get("reason") else ""
            found.append(f"{words} by {text.shown(told.get('by') or 'unknown')} on {text.shown(told.get('at') or 'an unknown date')}{how}{why}")
    return found


def marks(service: Service | None) -> list[str]:
    """The flags that are set, in one word each."""
    return [flag for flag in FLAGS if (service or {}).get(flag)]


def fenced(nodes: t.Mapping[str, t.Mapping[str, t.Any]], since: str) -> set[str]:
    """The nodes that were proven to be off after ``since``, and have not been put back into service: nothing of ours has been started there from then on.

    Should one of them be up again, its guard starts no server that the records know (coldmove_guard.py), and no step does (recovery.py). An older
    flag says nothing of what a verb has started there after it.
    """
    flags = {name: (node.get("service") or {}).get("fenced") for name, node in nodes.items()}
    return {name for name, flag in flags.items() if flag and str(flag.get("at") or "") > since}


def still_holds(host: str, migrations: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """The evacuations for which a node must stay out of service: it has copies that went on elsewhere, or its servers are just being taken."""
    found = []
    for migration in migrations:
        if migration["migration_type"] != "evacuation":
            continue
        taken = migration["status"] in UNDER_WAY and migration["source_host"] == host
        if taken or (migration["status"] == "done" and host in migration["pending_hosts"]):
            dest = text.shown(migration["dest_host"] or "?")
            found.append(f"{text.shown(migration['server_name'])} to {dest} (migration {migration['id']}, {migration['status']})")
    return found


def refusal(host: str, held: t.Sequence[str]) -> str:
    """Why a node cannot be enabled."""
    return (
        f"{host} stays out of service, nothing was changed: it may still have copies of servers that were evacuated, {'; '.join(held)}."
        f" Next: {text.command('recover', host=host)}"
    )
