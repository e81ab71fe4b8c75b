# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Who holds which capacity, and which candidate still has room. The record store calls this inside its transaction."""

from __future__ import annotations

import typing as t

RESOURCES: t.Final = ("vcpus", "memory_mb", "disk_bytes")
_UNITS: t.Final = {"vcpus": "vCPUs", "memory_mb": "MiB of memory", "disk_bytes": "bytes of disk"}

Amounts = dict[str, float]


class Claim(t.NamedTuple):
    """What one migration holds on one node."""

    host: str
    server_uuid: str
    migration_id: int
    server_name: str
    # What it takes when the node's facts do not count the server's domain, and what it takes although they do.
    uncounted: Amounts
    counted: Amounts


def amounts(values: t.Mapping[str, t.Any] | None) -> Amounts:
    """All resources as numbers; what is not given is 0."""
    return {name: (values or {}).get(name) or 0 for name in RESOURCES}


def _growth(new: Amounts, old: Amounts) -> Amounts:
    return {name: max(0, new[name] - old[name]) for name in RESOURCES}


def _difference(new: Amounts, old: Amounts) -> Amounts:
    return {name: abs(new[name] - old[name]) for name in RESOURCES}


def _larger(new: Amounts, old: Amounts) -> Amounts:
    return {name: max(new[name], old[name]) for name in RESOURCES}


def of_migration(migration: t.Mapping[str, t.Any]) -> list[Claim]:
    """The claims of one migration: its new size on dest, its old size on source (for the way back)."""
    need, source_need = amounts(migration["need"]), amounts(migration["source_need"])
    source, dest = migration["source_host"], migration["dest_host"]

    def claim(host: str, uncounted: Amounts, counted: Amounts) -> Claim:
        return Claim(host, migration["server_uuid"], migration["id"], migration["server_name"], uncounted, counted)

    if not dest:
        return []
    if dest == source:
        # The facts may count the old or the new size, and both must be possible: adding the difference is right for one and too much for the other.
        return [claim(dest, _larger(need, source_need), _difference(need, source_need))]
    claims = [claim(dest, need, amounts(None))]
    if any(source_need.values()):
        claims.append(claim(source, source_need, amounts(None)))
    return claims


def wanted(migration: t.Mapping[str, t.Any]) -> Claim:
    """What a migration that has not begun asks of its dest. On its own node the facts count its old size, so that is the growth alone."""
    claim = of_migration(migration)[0]
    if migration["dest_host"] != migration["source_host"]:
        return claim
    return claim._replace(counted=_growth(amounts(migration["need"]), amounts(migration["source_need"])))


def shortages(candidate: t.Mapping[str, t.Any], asked: Claim, claims: t.Iterable[Claim]) -> list[str]:
    """Why ``asked`` does not fit on ``candidate`` (empty: it fits)."""
    counted = set(candidate["counted"])
    held_by = [claim for claim in claims if claim.host == candidate["host"]]
    capacity, used = amounts(candidate["capacity"]), amounts(candidate["used"])

    def take(claim: Claim, name: str) -> float:
        return (claim.counted if claim.server_uuid in counted else claim.uncounted)[name]

    reasons = []
    for name in RESOURCES:
        need, held = take(asked, name), sum(take(claim, name) for claim in held_by)
        free = capacity[name] - used[name] - held
        if need > 0 and need > free:
            holders = _listed([f"migration {claim.migration_id} of {claim.server_name}" for claim in held_by if take(claim, name)])
            reasons.append(
                f"{need:g} {_UNITS[name]} needed, {max(free, 0):g} free"
                f" (capacity {capacity[name]:g}, domains {used[name]:g}, unfinished migrations {held:g}{': ' + holders if holders else ''})"
            )
    return reasons


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def choose(
    migration: t.Mapping[str, t.Any], candidates: t.Iterable[t.Mapping[str, t.Any]], claims: t.Collection[Claim]
) -> tuple[str | None, list[dict[str, t.Any]]]:
    """The first candidate that ``migration`` fits on, and those before it with their reasons."""
    rejected: list[dict[str, t.Any]] = []
    for candidate in candidates:
        reasons = shortages(candidate, wanted({**migration, "dest_host": candidate["host"]}), claims)
        if not reasons:
            return candidate["host"], rejected
        rejected.append({"host": candidate["host"], "reasons": reasons})
    return None, rejected
