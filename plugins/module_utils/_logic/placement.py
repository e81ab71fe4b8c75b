# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Which CPUs and NUMA cells of a node a flavor gets, or every reason why it gets none.

- A dedicated vCPU has a CPU of the node for itself, among all that are pinned; unpinned servers may still run there.
  Without NUMA cells of its own, a server's CPUs come from as few cells of the node as possible.
- Each NUMA cell of a guest is bound to another cell of the node. Its vCPUs stay there: each on its own CPU if they are dedicated, else on any
  CPU that is nobody's own. Huge pages alone ask for one such cell, as in Nova.
- All that is defined on the node counts, whether it runs or not, and so does what unfinished migrations keep: held copies, and places
  that were chosen and are not used yet. Of one server only one copy ever runs, so its own are not in its way, and others count the larger.
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import cpusets, extra_specs, text

Facts = t.Mapping[str, t.Any]

#: A sentence names so many holders of CPUs.
_HOLDERS_SHOWN = 5


class GuestCell(t.TypedDict):
    """A NUMA cell of the guest: its vCPUs as libvirt writes them, its memory in MiB, and the cell of the node it is bound to."""

    vcpus: str
    memory_mb: int
    host_cell: int


class Placement(t.TypedDict):
    """CPUs of the node by vCPU number, those of the emulator, NUMA cells, and the size of huge pages in KiB if there are any."""

    vcpu_pins: dict[str, str]
    emulator_pins: str | None
    cells: list[GuestCell]
    page_size_kib: int | None


class HostCell(t.NamedTuple):
    """What is left of a NUMA cell of the node: its free CPUs (of so many), MiB that are not bound, and free huge pages by their size in KiB."""

    number: int
    cpus: frozenset[int]
    all_cpus: int
    memory_mb: int
    pages: t.Mapping[int, int]
    holders: tuple[str, ...] = ()


class Kept(t.NamedTuple):
    """What one server keeps of a node. ``memory``: KiB by (cell, page size); size 0 is ordinary memory, cell None one that nothing says."""

    name: str
    cpus: frozenset[int]
    memory: t.Mapping[tuple[int | None, int], int]
    in_use: t.Mapping[tuple[int | None, int], int]


class Wish(t.NamedTuple):
    """What the choice of a place depends on; equal for flavors that are alike in this."""

    vcpus: int
    memory_mb: int
    extra_specs: tuple[tuple[str, str], ...]


Want = list[extra_specs.Cell]
#: A place and no reasons, or no place and all reasons.
Choice = tuple[t.Optional[Placement], list[str]]


def wish_of(flavor: Facts | None) -> Wish | None:
    """What the flavor wants of a node's CPUs and cells; None if it asks for nothing, so that nothing has to be chosen."""
    if not flavor:
        return None
    given = flavor.get("extra_specs") or {}
    wish = Wish(int(flavor.get("vcpus") or 0), int(flavor.get("memory_mb") or 0), tuple(sorted((str(key), str(value)) for key, value in given.items())))
    specs, problems = _specs(wish)
    return wish if specs.placed or problems else None


@functools.lru_cache(maxsize=64)
def _specs(wish: Wish) -> tuple[extra_specs.Specs, list[str]]:
    return extra_specs.parse(dict(wish.extra_specs))


def decide(flavor: Facts, node: Facts, server_uuid: str = "") -> Choice:
    """A place for ``flavor`` on the node with these facts (``virt_node_info``). ``(None, [])`` if the flavor asks for nothing."""
    wish = wish_of(flavor)
    return choose(wish, free_cells(node, server_uuid)) if wish else (None, [])


# --- what is left of a node


def free_cells(node: Facts, server_uuid: str = "") -> list[HostCell]:
    """What is left of each NUMA cell of the node for the server ``server_uuid``."""
    kept = _kept(node)
    own = kept.pop(server_uuid, None)
    holders = list(kept.values())
    cells = [_free_cell(cell, holders, own) for cell in node.get("numa_cells") or []]
    for size in {size for holder in holders for _cell, size in holder.memory if size}:
        cells = _take_anywhere(cells, size, sum(_pages(holder, None, size) for holder in holders))
    return cells


def _kept(node: Facts) -> dict[str, Kept]:
    """By server: pins of all of its copies together, and the largest copy's memory, as only one of them runs at a time."""
    found: dict[str, Kept] = {}
    for server, name, part, running in _parts(node):
        before = found.get(server, Kept(name, frozenset(), {}, {}))
        memory = _memory(part)
        found[server] = Kept(
            before.name,
            before.cpus | frozenset(part.get("pinned_cpus") or ()),
            {key: max(memory.get(key, 0), before.memory.get(key, 0)) for key in {**memory, **before.memory}},
            memory if running else before.in_use,
        )
    return found


def _parts(node: Facts) -> t.Iterator[tuple[str, str, Facts, bool]]:
    """(server, name, what it keeps, whether it runs): of each domain, and of each open journal."""
    names = {}
    for domain in node.get("domains") or []:
        names[domain["uuid"]] = domain.get("name") or domain["uuid"]
        yield domain["uuid"], names[domain["uuid"]], domain, domain.get("state") not in ("shutoff", "crashed", None)
    for journal in node.get("journals") or []:
        server = journal.get("server_uuid") or journal.get("migration_uuid") or ""
        for part in journal.get("reserved") or []:
            yield server, names.get(server, f"migration {journal.get('migration_uuid')}"), part, False


def _memory(part: Facts) -> dict[tuple[int | None, int], int]:
    """KiB by cell and page size. Huge pages that are bound to no cell may come from any."""
    size = int(part.get("page_size_kib") or 0)
    cells = part.get("memory_cells") or []
    if not cells and size:
        return {(None, size): int(part.get("memory_mb") or 0) * 1024}
    memory: dict[tuple[int | None, int], int] = {}
    for cell in cells:
        key = (cell["host_cell"], size)
        memory[key] = memory.get(key, 0) + int(cell["memory_mb"]) * 1024
    return memory


def _pages(kept: Kept, cell: int | None, size: int) -> int:
    """How many huge pages the server will yet take: what it runs with is not among the node's free ones any more."""
    return -(-max(0, kept.memory.get((cell, size), 0) - kept.in_use.get((cell, size), 0)) // size)


def _free_cell(cell: Facts, holders: list[Kept], own: Kept | None) -> HostCell:
    number, cpus = cell["id"], frozenset(cell["cpus"])
    # What its own guest has in use there is free once that is off.
    own_in_use = own.in_use if own else {}
    pages = {
        int(page["size_kib"]): int(page["free"])
        + own_in_use.get((number, page["size_kib"]), 0) // page["size_kib"]
        - sum(_pages(holder, number, page["size_kib"]) for holder in holders)
        for page in cell["pages"]
        if page["total"]
    }
    huge_mb = sum(int(page["size_kib"]) * int(page["total"]) for page in cell["pages"]) // 1024
    bound_mb = sum(holder.memory.get((number, 0), 0) for holder in holders) // 1024
    return HostCell(
        number,
        cpus - frozenset().union(*(holder.cpus for holder in holders)),
        len(cpus),
        int(cell["memory_mb"]) - huge_mb - bound_mb,
        pages,
        tuple(sorted(holder.name for holder in holders if holder.cpus & cpus)),
    )


def _take_anywhere(cells: list[HostCell], size: int, count: int) -> list[HostCell]:
    """Count pages that may come from any cell: those with the most give first, as the kernel would have it."""
    left = []
    for cell in sorted(cells, key=lambda cell: -cell.pages.get(size, 0)):
        taken = min(count, max(0, cell.pages.get(size, 0)))
        count -= taken
        left.append(cell._replace(pages={**cell.pages, size: cell.pages[size] - taken}) if taken else cell)
    return sorted(left, key=lambda cell: cell.number)


def kept(placement: Placement) -> dict[str, t.Any]:
    """What a placement keeps of the node, in the shape of ``domain_xml.kept()``."""
    pins = [cpusets.parse(pin) for pin in placement["vcpu_pins"].values()]
    return {
        "pinned_cpus": sorted(frozenset().union(*(pin for pin in pins if len(pin) == 1))),
        "memory_mb": sum(cell["memory_mb"] for cell in placement["cells"]),
        "page_size_kib": placement["page_size_kib"],
        "memory_cells": [{"host_cell": cell["host_cell"], "memory_mb": cell["memory_mb"]} for cell in placement["cells"]],
    }


def after(cells: list[HostCell], placement: Placement, holder: str) -> list[HostCell]:
    """What is left once ``holder`` has ``placement``: for a plan that puts several servers on one node."""
    part = kept(placement)
    size, memory, pinned = int(part["page_size_kib"] or 0), _memory(part), frozenset(part["pinned_cpus"])
    return [
        cell._replace(
            cpus=cell.cpus - pinned,
            memory_mb=cell.memory_mb - memory.get((cell.number, 0), 0) // 1024,
            pages={**cell.pages, size: cell.pages.get(size, 0) - memory.get((cell.number, size), 0) // size} if size else cell.pages,
            holders=(*cell.holders, holder) if cell.cpus & pinned else cell.holders,
        )
        for cell in cells
    ]


# --- choosing


def choose(wish: Wish, cells: list[HostCell]) -> Choice:
    """A place in what is left of a node."""
    specs, problems = _specs(wish)
    if problems:
        return None, list(problems)
    if not cells:
        return None, ["libvirt shows no NUMA cells of the node, so nothing can be pinned or bound there"]
    if not specs.bound:
        return _spread(wish.vcpus, cells)
    try:
        want = extra_specs.cells(specs, wish.vcpus, wish.memory_mb)
    except ValueError as exc:
        return None, [str(exc)]
    return _bind(want, specs, cells)


def _spread(vcpus: int, cells: list[HostCell]) -> Choice:
    """Dedicated CPUs without NUMA cells: all from the fullest cell that has enough, else from the emptiest ones."""
    free = sum(len(cell.cpus) for cell in cells)
    if free < vcpus:
        holders = sorted({name for cell in cells for name in cell.holders})
        return None, [f"{vcpus} dedicated CPUs needed, {free} free of {sum(cell.all_cpus for cell in cells)}{_pinned_to(holders)}"]
    chosen: list[int] = []
    left = sorted(cells, key=lambda cell: (len(cell.cpus), cell.number))
    while len(chosen) < vcpus:
        missing = vcpus - len(chosen)
        cell = next((cell for cell in left if len(cell.cpus) >= missing), left[-1])
        left.remove(cell)
        chosen += sorted(cell.cpus)[:missing]
    pins = {str(vcpu): str(cpu) for vcpu, cpu in enumerate(sorted(chosen))}
    return {"vcpu_pins": pins, "emulator_pins": cpusets.written(chosen), "cells": [], "page_size_kib": None}, []


def _bind(want: Want, specs: extra_specs.Specs, cells: list[HostCell]) -> Choice:
    """NUMA cells: the largest page size with which all of them fit."""
    sizes = _page_sizes(specs, cells)
    if not sizes:
        asked = "huge pages" if specs.page == "large" else f"huge pages of {_size(t.cast(int, specs.page))}"
        return None, [f"the node has no {asked}"]
    if len(want) > len(cells):
        return None, [f"{len(want)} NUMA cells needed, the node has {len(cells)}"]
    reasons: list[str] = []
    for size in sizes:
        fits = [[cell for cell in _best_first(cells) if not _against(part, cell, size, specs.dedicated)] for part in want]
        chosen = _distinct(fits)
        if chosen is not None:
            return _written(want, chosen, size, specs.dedicated), []
        reasons += _why_not(want, fits, cells, size, specs.dedicated)
    return None, list(dict.fromkeys(reasons))


def _page_sizes(specs: extra_specs.Specs, cells: list[HostCell]) -> list[int]:
    """Sizes of pages to try, in KiB; 0 is ordinary memory."""
    there = sorted({size for cell in cells for size in cell.pages}, reverse=True)
    if not specs.huge_pages:
        return [0]
    if specs.page == "any":
        return [*there, 0]
    return there if specs.page == "large" else [size for size in there if size == specs.page]


def _against(part: extra_specs.Cell, cell: HostCell, size: int, dedicated: bool) -> list[str]:
    """Why a NUMA cell of the guest does not fit into a cell of the node."""
    found = []
    if len(part.vcpus) > len(cell.cpus):
        what = "CPUs free" if dedicated else "CPUs that are nobody's own"
        found.append(f"{len(cell.cpus)} {what} of {cell.all_cpus}{_pinned_to(cell.holders)}")
    if not size and part.memory_mb > cell.memory_mb:
        found.append(f"{max(0, cell.memory_mb)} MiB of memory that are not bound")
    elif size and part.memory_mb * 1024 % size:
        found.append(f"{part.memory_mb} MiB are no whole number of pages of {_size(size)}")
    elif size and part.memory_mb * 1024 // size > cell.pages.get(size, 0):
        found.append(f"{max(0, cell.pages.get(size, 0))} free pages of {_size(size)}, {part.memory_mb * 1024 // size} needed")
    return found


def _best_first(cells: list[HostCell]) -> list[HostCell]:
    """The fullest first, so that room for large guests stays together."""
    return sorted(cells, key=lambda cell: (len(cell.cpus), cell.memory_mb, cell.number))


def _distinct(fits: list[list[HostCell]]) -> list[HostCell] | None:
    """Another cell of the node for each of the guest's, each from its own list (Kuhn's algorithm); None if there is no such choice."""
    owner: dict[int, int] = {}
    chosen: dict[int, HostCell] = {}

    def give(part: int, seen: set[int]) -> bool:
        for cell in fits[part]:
            if cell.number in seen:
                continue
            seen.add(cell.number)
            if cell.number not in owner or give(owner[cell.number], seen):
                owner[cell.number], chosen[part] = part, cell
                return True
        return False

    # The last one first: who comes later has the choice, so the guest's cells and the node's keep one order where they can.
    return [chosen[part] for part in range(len(fits))] if all(give(part, set()) for part in reversed(range(len(fits)))) else None


def _written(want: Want, chosen: list[HostCell], size: int, dedicated: bool) -> Placement:
    pins: dict[int, str] = {}
    for part, cell in zip(want, chosen):
        own = sorted(cell.cpus)
        for index, vcpu in enumerate(part.vcpus):
            pins[vcpu] = str(own[index]) if dedicated else cpusets.written(own)
    return {
        "vcpu_pins": {str(vcpu): pins[vcpu] for vcpu in sorted(pins)},
        "emulator_pins": cpusets.written(cpu for pin in pins.values() for cpu in cpusets.parse(pin)),
        "cells": [{"vcpus": cpusets.written(part.vcpus), "memory_mb": part.memory_mb, "host_cell": cell.number} for part, cell in zip(want, chosen)],
        "page_size_kib": size or None,
    }


def _why_not(want: Want, fits: list[list[HostCell]], cells: list[HostCell], size: int, dedicated: bool) -> list[str]:
    found = []
    for number, part in enumerate(want):
        if not fits[number]:
            each = "; ".join(f"cell {cell.number}: {', '.join(_against(part, cell, size, dedicated))}" for cell in cells)
            found.append(f"NUMA cell {number} of the server ({len(part.vcpus)} vCPUs, {part.memory_mb} MiB) fits into no cell of the node ({each})")
    if not found:
        usable = {cell.number for row in fits for cell in row}
        found.append(f"{len(want)} NUMA cells need as many cells of the node: only {cpusets.written(usable)} can take one, or several need the same one")
    return found


def _pinned_to(holders: t.Sequence[str]) -> str:
    if not holders:
        return ""
    more = f" and {len(holders) - _HOLDERS_SHOWN} more" if len(holders) > _HOLDERS_SHOWN else ""
    return f" (pinned to {', '.join(text.shown(name) for name in holders[:_HOLDERS_SHOWN])}{more})"


def _size(size_kib: int) -> str:
    return text.human_bytes(size_kib * 1024)
