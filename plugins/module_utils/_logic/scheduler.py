# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Which nodes may take a server, and which of them first: one list of filters, one list of weighers, as in Nova's scheduler.

Every host gets all reasons that speak against it, not only the first. To stay fast over many servers and many nodes, what
depends only on the node, or on the node and the server's make (machine type, networks, ...), is asked once.
"""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import capacity, extra_specs, placement, services, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Amount, Domain, Migration, Node, NodeFacts, Nodes, Rejection, Server

#: One sentence for people has room for so many hosts; the table has them all.
HOSTS_IN_MESSAGE = 20


class Make(t.NamedTuple):
    """What a server asks of a node apart from room; equal for servers of one make."""

    arch: str
    machine_type: str
    networks: frozenset[str]
    bridges: frozenset[str]
    pools: frozenset[str]
    required_traits: frozenset[str] = frozenset()
    forbidden_traits: frozenset[str] = frozenset()


class Request(t.NamedTuple):
    """One server looking for a node."""

    server: Server
    need: Amount
    source_host: str
    target_host: str
    make: Make
    #: It may stay on its node (a resize of it alone), which then has to give only what it grows by.
    in_place: bool = False
    #: Only there if CPUs or NUMA cells have to be found for it.
    place: placement.Wish | None = None


class Candidate(t.TypedDict):
    """A node that passed, in the shape that the record store's claim takes."""

    host: str
    capacity: Amount
    used: Amount
    counted: list[str]


class Selection(t.TypedDict):
    """``message`` is empty if there is a candidate, else the sentence that says why there is none.

    ``error`` is the same sentence if the request itself is wrong (a target that does not exist, or where the server is already).
    """

    candidates: list[Candidate]
    weights: dict[str, float]
    rejected: list[Rejection]
    message: str
    error: str


def make_of(server: Server, flavor: t.Mapping[str, t.Any] | None = None) -> Make:
    """What the server's definition and its flavor ask of any node."""
    specs = extra_specs.parse((flavor or {}).get("extra_specs") or {})[0]
    nics, disks = server.get("nics", []), server.get("disks", [])
    return Make(
        arch=server.get("arch") or "",
        machine_type=server.get("machine_type") or "",
        networks=frozenset(str(nic["source"]) for nic in nics if nic.get("type") == "network" and nic.get("source")),
        bridges=frozenset(str(nic["source"]) for nic in nics if nic.get("type") == "bridge" and nic.get("source")),
        # A volume that moves becomes a file on the dest; one that stays where it is (a network volume) is reached by its pool.
        pools=frozenset(str(disk["pool"]) for disk in disks if disk.get("type") == "volume" and disk.get("pool") and not capacity.moves(disk)),
        required_traits=specs.required_traits,
        forbidden_traits=specs.forbidden_traits,
    )


def request_for(
    server: Server,
    source_host: str = "",
    target_host: str = "",
    need: Amount | None = None,
    in_place: bool = False,
    flavor: t.Mapping[str, t.Any] | None = None,
) -> Request:
    """The request of one server; ``need`` and ``flavor`` are what it is to have on the next node (need by default: what it has today)."""
    need = need or capacity.need_of(server)
    return Request(server, need, source_host, target_host, make_of(server, flavor), in_place, placement.wish_of(flavor))


class Host:
    """A node with everything that the filters ask for, looked up once."""

    def __init__(self, node: Node, room: capacity.Room) -> None:
        self.node = node
        self.name = node.get("name", "")
        self.facts: NodeFacts = node.get("facts") or {}
        self.room = room
        self.machine_types = frozenset(self.facts.get("machine_types", []))
        self.networks = frozenset(self.facts.get("networks", []))
        self.bridges = frozenset(self.facts.get("bridges", []))
        self.pools = frozenset(pool["name"] for pool in self.facts.get("pools", []) if pool.get("active", True))
        self.traits = frozenset(node.get("traits") or ())
        self._planned: list[tuple[placement.Placement, str]] = []
        self._places: dict[tuple[str, placement.Wish], placement.Choice] = {}
        self._residents: set[str] | None = None

    def place(self, server: Server, wish: placement.Wish) -> placement.Choice:
        """CPUs and cells for the server: the same for all that wish the same, but for those that keep something here themselves."""
        if self._residents is None:
            self._residents = {domain["uuid"] for domain in self.facts.get("domains", [])}
            self._residents |= {journal.get("server_uuid") or "" for journal in self.facts.get("journals", [])}
        uuid = server.get("uuid", "")
        resident = uuid if uuid in self._residents else ""
        if (resident, wish) not in self._places:
            cells = placement.free_cells(self.facts, resident)
            for planned, holder in self._planned:
                cells = placement.after(cells, planned, holder)
            self._places[(resident, wish)] = placement.choose(wish, cells)
        return self._places[(resident, wish)]

    def take_place(self, server: Server, wish: placement.Wish) -> None:
        """Count the place that a server of the same plan gets here."""
        planned = self.place(server, wish)[0]
        if planned:
            self._planned.append((planned, _of_this_plan(server)))
            self._places.clear()


# --- filters -------------------------------------------------------------------------------------------------------------
# Asked once per node: answers() and the like take (host). Asked once per make: (host, make). The rest: (host, request).


def answers(host: Host) -> list[str]:
    """The node answered and its facts are there."""
    if host.node.get("reachable") and host.node.get("facts"):
        return []
    why = text.shown(host.node.get("error") or "")
    return [f"does not answer{': ' + why if why else ''}"]


def in_service(host: Host) -> list[str]:
    """Not in maintenance, not forced down. A node in maintenance may still be moved away from."""
    reasons = []
    if host.node.get("forced_down"):
        reasons.append("forced_down is set in the inventory")
    if host.node.get("maintenance"):
        reasons.append("maintenance is set in the inventory")
    return reasons + services.reasons(host.node.get("service"))


def prepared(host: Host) -> list[str]:
    """``prepare`` has been run there."""
    if not host.facts or host.facts.get("prepared", False):
        return []
    missing = "; ".join(text.shown(reason) for reason in host.facts.get("not_prepared", [])) or "no reason given"
    return [f"not prepared ({missing}): run {text.command('prepare')}"]


def same_arch(host: Host, make: Make) -> list[str]:
    """The processor architecture is the server's."""
    arch = host.facts.get("arch")
    return [f"architecture is {arch}, the server's is {make.arch}"] if arch and make.arch and arch != make.arch else []


def has_machine_type(host: Host, make: Make) -> list[str]:
    """QEMU there knows the machine type. An older QEMU that knows it will do."""
    if not host.facts or not make.machine_type or make.machine_type in host.machine_types:
        return []
    return [f"QEMU {version(host.facts.get('qemu_version'))} there has no machine type {text.quoted(make.machine_type)}"]


def has_networks(host: Host, make: Make) -> list[str]:
    """Every libvirt network and host bridge of the server is there and active."""
    if not host.facts or (make.networks <= host.networks and make.bridges <= host.bridges):
        return []
    reasons = [f"no active network {text.quoted(name)}" for name in sorted(make.networks - host.networks)]
    return reasons + [f"no bridge {text.quoted(name)}" for name in sorted(make.bridges - host.bridges)]


def has_pools(host: Host, make: Make) -> list[str]:
    """Every storage pool through which the server reaches a disk that does not move is there and active."""
    if not host.facts or make.pools <= host.pools:
        return []
    return [f"no active storage pool {text.quoted(name)}" for name in sorted(make.pools - host.pools)]


def has_traits(host: Host, make: Make) -> list[str]:
    """The node has every trait that the flavor requires, and none that it forbids."""
    if make.required_traits <= host.traits and not make.forbidden_traits & host.traits:
        return []
    reasons = [f"has not the trait {text.quoted(name)}, which the flavor requires" for name in sorted(make.required_traits - host.traits)]
    return reasons + [f"has the trait {text.quoted(name)}, which the flavor forbids" for name in sorted(make.forbidden_traits & host.traits)]


def is_target(host: Host, request: Request) -> list[str]:
    """If the operator named a host, only that one, never another in silence."""
    return [f"target_host is {request.target_host}"] if request.target_host and request.target_host != host.name else []


def not_source(host: Host, request: Request) -> list[str]:
    """Not the node that the server is on, unless it may stay there."""
    return ["the server is already there"] if request.source_host == host.name and not request.in_place else []


def has_room(host: Host, request: Request) -> list[str]:
    """Memory, vCPUs and disk, with what unfinished migrations hold; and no more vCPUs or memory than the node has at all."""
    need, room = request.need if host.name != request.source_host else growth(request), host.room
    if not host.facts:
        return []
    if (
        need["memory_mb"] <= room.memory_mb
        and need["vcpus"] <= room.vcpus
        and need["disk_bytes"] <= room.disk_bytes
        and request.need["vcpus"] <= host.facts.get("cpus", 0)
    ):
        return []
    reasons = room.shortages(need)
    if request.need["vcpus"] > int(host.facts.get("cpus") or 0):
        reasons.append(f"has {host.facts.get('cpus', 0)} CPUs, one server may not have more vCPUs than that ({request.need['vcpus']} needed)")
    return reasons


def growth(request: Request) -> Amount:
    """What the server needs beyond what its node counts for it already."""
    now = capacity.need_of(request.server)
    return {
        "vcpus": max(0, request.need["vcpus"] - now["vcpus"]),
        "memory_mb": max(0, request.need["memory_mb"] - now["memory_mb"]),
        "disk_bytes": max(0, request.need["disk_bytes"] - now["disk_bytes"]),
    }


def has_place(host: Host, request: Request) -> list[str]:
    """CPUs and NUMA cells for a flavor that pins or binds. The node itself decides in the end (virt_placement)."""
    return host.place(request.server, request.place)[1] if request.place and host.facts else []


def no_collision(host: Host, request: Request) -> list[str]:
    """No domain there has the server's UUID, name or a MAC of it (on its own node it has them itself)."""
    return [] if request.source_host == host.name else collisions(request.server, host.facts.get("domains", []))


NODE_FILTERS: tuple[t.Callable[[Host], list[str]], ...] = (answers, in_service, prepared)
MAKE_FILTERS: tuple[t.Callable[[Host, Make], list[str]], ...] = (same_arch, has_machine_type, has_networks, has_pools, has_traits)
SERVER_FILTERS: tuple[t.Callable[[Host, Request], list[str]], ...] = (is_target, not_source, has_room, has_place, no_collision)

#: The one list of filters, in the order in which their reasons are listed.
FILTERS: tuple[t.Callable[..., list[str]], ...] = (*NODE_FILTERS, *MAKE_FILTERS, *SERVER_FILTERS)


# --- weighers ------------------------------------------------------------------------------------------------------------


def free_memory(host: Host) -> float:
    """More free memory is better: spreads servers, as Nova does by default."""
    return host.room.memory_mb


def newer_hypervisor(host: Host) -> float:
    """A newer QEMU is better: the way back to an older one is the one that may fail."""
    return host.facts.get("qemu_version") or 0


#: The one list of weighers with their multipliers. Each is normalised to 0..1 over the hosts that passed (0 if all are alike).
WEIGHERS: tuple[tuple[t.Callable[[Host], float], float], ...] = ((free_memory, 1.0), (newer_hypervisor, 1.0))


def weights(hosts: t.Sequence[Host]) -> list[float]:
    """The weight of each of ``hosts``."""
    totals = [0.0] * len(hosts)
    for weigher, multiplier in WEIGHERS:
        raw = [weigher(host) for host in hosts]
        low, high = min(raw), max(raw)
        if high > low:
            factor = multiplier / (high - low)
            totals = [total + factor * (value - low) for total, value in zip(totals, raw)]
    return totals


# --- selection -----------------------------------------------------------------------------------------------------------


def select_hosts(request: Request, nodes: Nodes, migrations: t.Iterable[Migration] = (), limit: int | None = None) -> Selection:
    """The candidates for one server, best first (at most ``limit``), and every node that is refused with all of its reasons."""
    return Scheduler(nodes, migrations).select(request, limit)


def select_many(requests: t.Iterable[Request], nodes: Nodes, migrations: t.Iterable[Migration] = (), limit: int | None = None) -> list[Selection]:
    """A plan for many servers: each is counted on the first of its candidates before the next one is looked at.

    ``limit`` is the greatest number of candidates to return for each server.
    """
    scheduler = Scheduler(nodes, migrations)
    selections = []
    for request in requests:
        selection = scheduler.select(request, limit)
        if selection["candidates"]:
            scheduler.take(selection["candidates"][0]["host"], request)
        selections.append(selection)
    return selections


def reject_reasons(request: Request, node: Node, migrations: t.Iterable[Migration] = (), without: t.Collection[t.Any] = ()) -> list[str]:
    """All reasons of one node alone: the filters again, on facts that are newer, but for those ``without``."""
    name = node.get("name", "")
    host = Host(node, capacity.Room(node, capacity.claims_by_host(migrations).get(name, ())))
    reasons = [reason for check in NODE_FILTERS if check not in without for reason in check(host)]
    reasons += [reason for check in MAKE_FILTERS if check not in without for reason in check(host, request.make)]
    return reasons + [reason for check in SERVER_FILTERS if check not in without for reason in check(host, request)]


class Scheduler:
    """The nodes, indexed once, and the answers that hold for more than one server."""

    def __init__(self, nodes: Nodes, migrations: t.Iterable[Migration] = ()) -> None:
        self.nodes = nodes
        held = capacity.claims_by_host(migrations)
        self.hosts = [Host(node, capacity.Room(node, held.get(name, ()))) for name, node in sorted(nodes.items())]
        self.by_name = {host.name: host for host in self.hosts}
        self._node_reasons = {host.name: [reason for check in NODE_FILTERS for reason in check(host)] for host in self.hosts}
        self._make_reasons: dict[Make, dict[str, list[str]]] = {}
        self._owners: dict[tuple[str, str], set[str]] = {}
        for host in self.hosts:
            for domain in host.facts.get("domains", []):
                for identity in _identities(domain["uuid"], domain["name"], domain.get("macs", [])):
                    self._owners.setdefault(identity, set()).add(host.name)

    def select(self, request: Request, limit: int | None = None) -> Selection:
        """Filter and weigh all nodes for one server."""
        error = self._target_error(request)
        if error:
            return {"candidates": [], "weights": {}, "rejected": [], "message": error, "error": error}
        passed, rejected = self._filter(request)
        order = sorted(zip((-weight for weight in weights(passed)), passed), key=_by_weight_and_name)[:limit] if passed else []
        return {
            "candidates": [
                {"host": host.name, "capacity": host.room.capacity, "used": host.room.used, "counted": host.room.counted} for _weight, host in order
            ],
            "weights": {host.name: round(-weight, 6) for weight, host in order},
            "rejected": rejected,
            "message": "" if order else no_valid_host(request, rejected),
            "error": "",
        }

    def take(self, host: str, request: Request) -> None:
        """Count a server on the node that this plan chose for it."""
        chosen = self.by_name[host]
        chosen.room.take(growth(request) if host == request.source_host else request.need, _of_this_plan(request.server))
        if request.place:
            chosen.take_place(request.server, request.place)
        server = request.server
        for identity in _identities(server.get("uuid", ""), server.get("name", ""), _macs(server)):
            self._owners.setdefault(identity, set()).add(host)

    def _filter(self, request: Request) -> tuple[list[Host], list[Rejection]]:
        static, owners = self._static(request.make), self._colliding(request.server)
        # For most hosts the index has answered all but the room: the other filters are asked only where they can have a reason.
        wholly = {request.source_host, *owners}
        passed: list[Host] = []
        rejected: list[Rejection] = []
        for host in self.hosts:
            reasons = static[host.name]
            if request.target_host or host.name in wholly:
                reasons = reasons + self._all_reasons(host, request, host.name in owners)
            else:
                reasons = reasons + has_room(host, request) + (has_place(host, request) if request.place else [])
            if reasons:
                rejected.append({"host": host.name, "reasons": reasons})
            else:
                passed.append(host)
        return passed, rejected

    def _all_reasons(self, host: Host, request: Request, collides: bool) -> list[str]:
        reasons = [reason for check in SERVER_FILTERS for reason in check(host, request)]
        if collides and host.name != request.source_host and not no_collision(host, request):
            reasons.append("another server of this plan with the same UUID, name or MAC goes there")
        return reasons

    def _static(self, make: Make) -> dict[str, list[str]]:
        if make not in self._make_reasons:
            self._make_reasons[make] = {
                host.name: self._node_reasons[host.name] + [reason for check in MAKE_FILTERS for reason in check(host, make)] for host in self.hosts
            }
        return self._make_reasons[make]

    def _colliding(self, server: Server) -> set[str]:
        hosts: set[str] = set()
        for identity in _identities(server.get("uuid", ""), server.get("name", ""), _macs(server)):
            hosts |= self._owners.get(identity, set())
        return hosts

    def _target_error(self, request: Request) -> str:
        target = request.target_host
        if not target:
            return ""
        if target not in self.nodes:
            similar = [host.name for host in self.hosts if host.facts.get("hostname") == target] or text.close_to(target, self.nodes)
            hint = f" Did you mean {' or '.join(text.quoted(name) for name in similar)}?" if similar else ""
            return f"unknown target_host {text.quoted(target)}: the compute nodes are {', '.join(self.by_name) or 'none'}.{hint} Nothing has been changed"
        if target == request.source_host and not request.in_place:
            return f"server {_name(request)} is already on target_host {target}. Nothing has been changed"
        return ""


def collisions(server: Server, domains: t.Iterable[Domain]) -> list[str]:
    """What of the server a domain in ``domains`` has already: UUID, name, MAC."""
    reasons = []
    for domain in domains:
        name = text.quoted(domain["name"])
        if domain["uuid"] == server.get("uuid"):
            reasons.append(f"a domain with the UUID {domain['uuid']} is defined there ({name}, {domain.get('state', 'unknown')})")
            continue
        if domain["name"] == server.get("name"):
            reasons.append(f"another domain is named {name} there (UUID {domain['uuid']})")
        shared = {mac.lower() for mac in domain.get("macs", [])} & _macs(server)
        reasons += [f"domain {name} there has the MAC {mac}" for mac in sorted(shared)]
    return reasons


def no_valid_host(request: Request, rejected: t.Sequence[Rejection]) -> str:
    """The sentence for people: every host with its reasons; with a named target, that host's only."""
    name = _name(request)
    if request.target_host:
        reasons = next((entry["reasons"] for entry in rejected if entry["host"] == request.target_host), [])
        return f"no valid host for server {name}: target_host {request.target_host} is refused: {'; '.join(reasons)}. The server has not been touched"
    listed = ". ".join(f"{entry['host']}: {'; '.join(entry['reasons'])}" for entry in rejected[:HOSTS_IN_MESSAGE])
    if len(rejected) > HOSTS_IN_MESSAGE:
        listed += f". And {len(rejected) - HOSTS_IN_MESSAGE} more hosts"
    return f"no valid host for server {name}. {listed or 'There are no compute nodes'}. The server has not been touched"


def _by_weight_and_name(pair: tuple[float, Host]) -> tuple[float, str]:
    return pair[0], pair[1].name


def _of_this_plan(server: Server) -> str:
    return f"{text.shown(server.get('name', ''))} of this plan"


def _name(request: Request) -> str:
    return text.quoted(request.server.get("name", request.server.get("uuid", "")))


def version(number: int | None) -> str:
    """libvirt's encoding (major * 1000000 + minor * 1000 + release) as people write it."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}" if number else "(unknown version)"


def _macs(server: Server) -> set[str]:
    return {str(nic["mac"]).lower() for nic in server.get("nics", []) if nic.get("mac")}


def _identities(uuid: str, name: str, macs: t.Iterable[str]) -> list[tuple[str, str]]:
    return [("uuid", uuid), ("name", name), *(("mac", mac.lower()) for mac in macs)]
