# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What a project may use, and what it uses.

As with Nova's unified limits, an unfinished migration counts on both of its nodes: the old size, which is held for the way back, and the new one. On one
node the larger of both counts. A quota is looked at, not claimed: two runs that resize servers of one project at the same time can both pass.
"""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import capacity, claims, inputs, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Amount, Migration, Nodes, Server

UNITS: t.Mapping[str, str] = {"servers": "servers", "vcpus": "vCPUs", "memory_mb": "MiB of memory", "disk_gb": "GiB of disk"}
#: Nova's word for no limit.
UNLIMITED = -1

MOST = 10**12

Used = dict[str, float]


class Usage(t.NamedTuple):
    """What a project uses in the units of a quota, ``held`` by unfinished migrations included; and the nodes that could not be asked."""

    total: Used
    held: Used
    silent: list[str]


class Answer(t.NamedTuple):
    """Reasons against a resize, and what the operator should know of the count."""

    refusals: list[str]
    notes: list[str]


def check(server: Server, need: Amount, quotas: t.Any, nodes: Nodes, migrations: t.Iterable[Migration], *, in_place: bool = False) -> Answer:
    """Whether the server's project may use ``need`` on the next node beside what it uses already. Without a project or a quota of it, it may."""
    project = server.get("project")
    limits, errors = limits_of(project, quotas)
    if errors or not limits or not project:
        return Answer(errors, [])
    # Its own migration, if a killed run has left one, is what this run goes on with.
    used = usage(project, nodes, [migration for migration in migrations if migration.get("server_uuid") != server.get("uuid")])
    more = _more(server, need, in_place)
    refusals = [_refusal(project, name, limit, used, more[name]) for name, limit in limits.items() if more[name] and used.total[name] + more[name] > limit]
    silent = f"quota of project {text.quoted(project)}: what its servers use on {', '.join(used.silent)} is not known and not counted"
    return Answer(refusals, [silent] if used.silent else [])


def limits_of(project: str | None, quotas: t.Any) -> tuple[dict[str, int], list[str]]:
    """The limits of one project, and what is wrong with the way they are written."""
    if not inputs.given(quotas):
        return {}, []
    if not isinstance(quotas, t.Mapping):
        return {}, [f"quotas is {text.shown(repr(quotas))}: it must be a mapping of projects to quotas"]
    given = quotas.get(project) if project else None
    if not inputs.given(given):
        return {}, []
    where = f"quota of project {text.quoted(project)}"
    if not isinstance(given, t.Mapping):
        return {}, [f"{where} is {text.shown(repr(given))}: it must be a mapping"]
    errors = [_unknown(where, str(key)) for key in given if key not in UNITS]
    limits = {}
    for name in UNITS:
        value = given.get(name)
        if not inputs.given(value):
            continue
        try:
            limit = inputs.figure(value, UNITS[name], UNLIMITED, MOST)
        except ValueError as exc:
            errors.append(f"{where}: {name} is {text.shown(repr(value)[:80])}: {exc} ({UNLIMITED} is no limit)")
            continue
        if limit != UNLIMITED:
            limits[name] = limit
    return limits, errors


def usage(project: str, nodes: Nodes, migrations: t.Iterable[Migration]) -> Usage:
    """All domains of the project on all nodes, and what is held by unfinished migrations of its servers."""
    facts = {name: node.get("facts") or {} for name, node in nodes.items()}
    mine = {name: [domain for domain in told.get("domains", []) if domain.get("project") == project] for name, told in facts.items()}
    uuids = {domain["uuid"] for domains in mine.values() for domain in domains}
    total = _used(uuids, (domain for domains in mine.values() for domain in domains))
    held = _used((), ())
    for host, there in capacity.claims_by_host(migrations).items():
        counted = {domain["uuid"] for domain in mine.get(host, [])}
        taken = [claim.counted if claim.server_uuid in counted else claim.uncounted for claim in there if claim.server_uuid in uuids]
        held = {name: held[name] + amount for name, amount in _used((), taken).items()}
    return Usage({name: total[name] + held[name] for name in UNITS}, held, sorted(name for name, told in facts.items() if not told))


def _used(uuids: t.Collection[str], amounts: t.Iterable[t.Mapping[str, t.Any]]) -> Used:
    everything = [claims.amounts(amount) for amount in amounts]
    return {
        "servers": len(uuids),
        "vcpus": sum(amount["vcpus"] for amount in everything),
        "memory_mb": sum(amount["memory_mb"] for amount in everything),
        "disk_gb": sum(amount["disk_bytes"] for amount in everything) / capacity.GIB,
    }


def _more(server: Server, need: Amount, in_place: bool) -> Used:
    """What this resize takes on top of what the server's domain uses now. It stays one server."""
    ends = {"source_host": "source", "dest_host": "source" if in_place else "dest"}
    migration = {"id": 0, "server_uuid": "", "server_name": "", "need": need, "source_need": capacity.need_of(server), **ends}
    claim = claims.wanted(migration)
    return _used((), [claim.counted if in_place else claim.uncounted])


def _refusal(project: str, name: str, limit: int, used: Usage, more: float) -> str:
    unfinished = f" ({_shown(used.held[name])} of them by unfinished migrations: confirm or revert them)" if used.held[name] else ""
    return (
        f"project {text.quoted(project)} has a quota of {limit} {UNITS[name]}: {_shown(used.total[name])} are used{unfinished}, and the resize wants "
        f"{_shown(more)} more until it is confirmed"
    )


def _unknown(where: str, key: str) -> str:
    close = text.close_to(key, UNITS)
    return f"{where}: unknown key {text.quoted(key)}{' (did you mean ' + close[0] + '?)' if close else ''}: the keys are {', '.join(UNITS)}"


def _shown(figure: float) -> str:
    return f"{round(figure, 1):.15g}"
