# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What a node has, what its domains use, what is left: the one place for this arithmetic on the side of selection.

As in Nova's Placement: capacity = total x allocation ratio - reserved; every defined domain uses what it is defined with,
running or not. Who holds what by an unfinished migration is decided in ``claims.py``, which the record store uses too.
"""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import claims
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import ACTIVE
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Amount, Disk, Migration, Node, Server

#: Nova's defaults: initial_cpu_allocation_ratio, initial_ram_allocation_ratio, initial_disk_allocation_ratio, reserved_host_memory_mb.
DEFAULT_CPU_RATIO = 4.0
DEFAULT_RAM_RATIO = 1.0
DEFAULT_DISK_RATIO = 1.0
DEFAULT_RESERVED_MEMORY_MB = 512
DEFAULT_RESERVED_DISK_GB = 0.0

GIB = 1024**3

Resource = t.Literal["vcpus", "memory_mb", "disk_bytes"]

_NO_CLAIM: t.Mapping[str, t.Any] = {"id": 0, "server_uuid": "", "server_name": "", "source_host": "", "dest_host": "", "need": None, "source_need": None}


def moves(disk: Disk) -> bool:
    """Whether a disk's file goes with the server, as the domain facts say; media, and what comes over the network, do not."""
    return bool(disk.get("moves", disk.get("device", "disk") == "disk" and disk.get("type") in ("file", "volume")))


def need_of(server: Server) -> Amount:
    """What a server needs on its next node: its vCPUs, its memory, and the virtual size of the disks that move with it."""
    return {
        "vcpus": int(server.get("vcpus") or 0),
        "memory_mb": int(server.get("memory_mb") or 0),
        "disk_bytes": sum(int(disk.get("virtual_bytes") or 0) for disk in server.get("disks", []) if moves(disk)),
    }


def capacity_of(node: Node) -> Amount:
    """total x allocation ratio - reserved."""
    facts = node.get("facts") or {}
    space = facts.get("instances_fs") or {}
    return {
        "vcpus": int(int(facts.get("cpus") or 0) * node.get("cpu_allocation_ratio", DEFAULT_CPU_RATIO)),
        "memory_mb": int(int(facts.get("memory_mb") or 0) * node.get("ram_allocation_ratio", DEFAULT_RAM_RATIO))
        - int(node.get("reserved_memory_mb", DEFAULT_RESERVED_MEMORY_MB)),
        "disk_bytes": int(int(space.get("total_bytes") or 0) * node.get("disk_allocation_ratio", DEFAULT_DISK_RATIO))
        - int(node.get("reserved_disk_gb", DEFAULT_RESERVED_DISK_GB) * GIB),
    }


def used_on(node: Node) -> tuple[Amount, list[str]]:
    """What the defined domains use, and their UUIDs (a claim for one of these servers is not counted a second time)."""
    domains = (node.get("facts") or {}).get("domains", [])
    used: Amount = {
        "vcpus": sum(int(domain.get("vcpus") or 0) for domain in domains),
        "memory_mb": sum(int(domain.get("memory_mb") or 0) for domain in domains),
        "disk_bytes": sum(int(domain.get("disk_bytes") or 0) for domain in domains),
    }
    return used, [domain["uuid"] for domain in domains]


def claims_by_host(migrations: t.Iterable[Migration]) -> dict[str, list[claims.Claim]]:
    """What active migrations hold, by node."""
    result: dict[str, list[claims.Claim]] = {}
    for migration in migrations:
        if migration.get("status") in ACTIVE:
            for claim in claims.of_migration({**_NO_CLAIM, **migration}):
                result.setdefault(claim.host, []).append(claim)
    return result


class Room:
    """The room on one node: what it can take, what its domains use, what unfinished migrations hold."""

    def __init__(self, node: Node, host_claims: t.Iterable[claims.Claim] = ()) -> None:
        self.capacity = capacity_of(node)
        self.used, self.counted = used_on(node)
        known = set(self.counted)
        self.held: Amount = {"vcpus": 0, "memory_mb": 0, "disk_bytes": 0}
        self.holders: list[str] = []
        for claim in host_claims:
            takes = claim.counted if claim.server_uuid in known else claim.uncounted
            if any(takes.values()):
                self.holders.append(f"migration {claim.migration_id} of {claim.server_name}")
            self._hold(takes)
        self.vcpus = self.memory_mb = self.disk_bytes = 0
        self._refresh()

    def _hold(self, takes: t.Mapping[str, t.Any]) -> None:
        self.held = {
            "vcpus": self.held["vcpus"] + int(takes["vcpus"]),
            "memory_mb": self.held["memory_mb"] + int(takes["memory_mb"]),
            "disk_bytes": self.held["disk_bytes"] + int(takes["disk_bytes"]),
        }

    def _refresh(self) -> None:
        self._accounts: dict[str, str] = {}
        self.vcpus = self.capacity["vcpus"] - self.used["vcpus"] - self.held["vcpus"]
        self.memory_mb = self.capacity["memory_mb"] - self.used["memory_mb"] - self.held["memory_mb"]
        self.disk_bytes = self.capacity["disk_bytes"] - self.used["disk_bytes"] - self.held["disk_bytes"]

    def take(self, need: Amount, holder: str) -> None:
        """Count one more server, chosen earlier in the same plan."""
        self._hold(t.cast("t.Mapping[str, t.Any]", need))
        self.holders.append(holder)
        self._refresh()

    def shortages(self, need: Amount) -> list[str]:
        """Why ``need`` does not fit: one reason for each resource that is short. What is not needed cannot be short."""
        reasons = []
        if 0 < need["memory_mb"] > self.memory_mb:
            reasons.append(self._short("memory_mb", "MiB of memory", need["memory_mb"], self.memory_mb, 1))
        if 0 < need["vcpus"] > self.vcpus:
            reasons.append(self._short("vcpus", "vCPUs", need["vcpus"], self.vcpus, 1))
        if 0 < need["disk_bytes"] > self.disk_bytes:
            reasons.append(self._short("disk_bytes", "GiB of disk", need["disk_bytes"], self.disk_bytes, GIB))
        return reasons

    def _short(self, name: Resource, unit: str, need: int, free: int, scale: int) -> str:
        return f"{_figure(need, scale)} {unit} needed, {_figure(max(0, free), scale)} free ({self._account(name, scale)})"

    def _account(self, name: Resource, scale: int) -> str:
        """Where the room went. The same for every server that asks, so written once."""
        if name not in self._accounts:
            capacity, used, held = (_figure(amount[name], scale) for amount in (self.capacity, self.used, self.held))
            holders = f": {', '.join(self.holders)}" if self.held[name] and self.holders else ""
            self._accounts[name] = f"capacity {capacity}, domains {used}, unfinished migrations {held}{holders}"
        return self._accounts[name]


def _figure(value: int, scale: int) -> str:
    """Whole numbers as they are, others with one decimal."""
    return str(value // scale) if value % scale == 0 else f"{value / scale:.1f}"
