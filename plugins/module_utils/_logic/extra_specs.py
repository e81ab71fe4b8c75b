# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The extra specs of a flavor: which ones are known, what they ask for, and how they cut a server into sockets and NUMA cells.

The names are Nova's. A key that begins with ``hw:`` and is not known here is a problem, because it would be ignored in silence;
keys of other families (``quota:``, an operator's own) are kept with the flavor and ask for nothing.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import cpusets, text

TOPOLOGY = ("hw:cpu_sockets", "hw:cpu_cores", "hw:cpu_threads")
FAMILIES = ("hw", "trait")
KNOWN = (*TOPOLOGY, "hw:cpu_policy", "hw:mem_page_size", "hw:numa_nodes", "hw:numa_cpus.N", "hw:numa_mem.N")
#: Pages of the host that need no reservation: ``hw:mem_page_size=4`` says the same as ``small``.
SMALL_PAGE_KIB = 4

_PAGE_SIZE = re.compile(r"(\d+)\s*(kb|kib|mb|mib|gb|gib)?", re.IGNORECASE)
_PAGE_UNITS = {"k": 1, "m": 1024, "g": 1024 * 1024}
_PER_CELL = re.compile(r"hw:numa_(cpus|mem)\.(\d+)")

Page = t.Union[t.Literal["small", "large", "any"], int, None]


class Cell(t.NamedTuple):
    """One NUMA cell of a guest: the numbers of its vCPUs, its memory in MiB."""

    vcpus: tuple[int, ...]
    memory_mb: int


class Specs(t.NamedTuple):
    """What extra specs ask for; the defaults ask for nothing. ``page`` is a word of Nova's or a size in KiB."""

    sockets: int | None = None
    cores: int | None = None
    threads: int | None = None
    dedicated: bool = False
    page: Page = None
    numa_nodes: int = 0
    numa_cpus: t.Mapping[int, frozenset[int]] = {}
    numa_memory_mb: t.Mapping[int, int] = {}
    required_traits: frozenset[str] = frozenset()
    forbidden_traits: frozenset[str] = frozenset()

    @property
    def topology(self) -> bool:
        """Whether sockets, cores or threads are asked for."""
        return any(part is not None for part in (self.sockets, self.cores, self.threads))

    @property
    def huge_pages(self) -> bool:
        """Whether memory may have to come from huge pages."""
        return self.page is not None and self.page not in ("small", SMALL_PAGE_KIB)

    @property
    def bound(self) -> bool:
        """Whether the guest gets NUMA cells that are bound to cells of the node: as in Nova, huge pages alone ask for one."""
        return bool(self.numa_nodes) or self.huge_pages

    @property
    def placed(self) -> bool:
        """Whether CPUs or cells of the node have to be chosen at all."""
        return self.dedicated or self.bound


def parse(extra_specs: t.Mapping[str, t.Any]) -> tuple[Specs, list[str]]:
    """What ``extra_specs`` ask for, and every problem with them. What has a problem asks for nothing."""
    found: dict[str, t.Any] = {"numa_cpus": {}, "numa_memory_mb": {}}
    traits: dict[str, set[str]] = {"required": set(), "forbidden": set()}
    problems: list[str] = []
    for key, raw in extra_specs.items():
        try:
            _read(str(key), str(raw).strip(), found, traits)
        except ValueError as exc:
            problems.append(f"extra spec {text.quoted(key)}: {exc}")
    if (found["numa_cpus"] or found["numa_memory_mb"]) and not found.get("numa_nodes"):
        problems.append("extra specs 'hw:numa_cpus.N' and 'hw:numa_mem.N' need 'hw:numa_nodes'")
    return Specs(**found, required_traits=frozenset(traits["required"]), forbidden_traits=frozenset(traits["forbidden"])), problems


def _read(key: str, value: str, found: dict[str, t.Any], traits: dict[str, set[str]]) -> None:
    per_cell = _PER_CELL.fullmatch(key)
    if key in TOPOLOGY:
        found[key[len("hw:cpu_") :]] = _count(value)
    elif key == "hw:numa_nodes":
        found["numa_nodes"] = _count(value)
    elif key == "hw:cpu_policy":
        found["dedicated"] = _one_of(value, ("shared", "dedicated")) == "dedicated"
    elif key == "hw:mem_page_size":
        found["page"] = _page(value)
    elif per_cell and per_cell[1] == "cpus":
        found["numa_cpus"][int(per_cell[2])] = _cpus(value)
    elif per_cell:
        found["numa_memory_mb"][int(per_cell[2])] = _count(value)
    elif key.startswith("trait:"):
        traits[_one_of(value, ("required", "forbidden"))].add(_trait(key[len("trait:") :]))
    elif _family(key) in FAMILIES:  # also a slip like "HW:" or " hw:", which would be kept and ask for nothing
        close = text.close_to(key, KNOWN)
        hint = f"did you mean {text.quoted(close[0])}?" if close else f"known are {', '.join(KNOWN)}"
        raise ValueError(f"is not known and would be ignored in silence; {hint}")


def ignored(extra_specs: t.Iterable[str]) -> list[str]:
    """Keys of other families: kept with the flavor, without effect."""
    return [key for key in extra_specs if _family(key) not in FAMILIES]


def _family(key: str) -> str:
    return key.partition(":")[0].strip().lower() if ":" in key else ""


def _trait(name: str) -> str:
    if not name.strip():
        raise ValueError("names no trait")
    return name


def _count(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < 1:
        raise ValueError(f"must be a whole number, 1 or more, not {text.quoted(value)}")
    return int(value)


def _one_of(value: str, words: tuple[str, ...]) -> str:
    if value.lower() not in words:
        raise ValueError(f"must be {' or '.join(words)}, not {text.quoted(value)}")
    return value.lower()


def _page(value: str) -> Page:
    if value.lower() in ("small", "large", "any"):
        return t.cast("Page", value.lower())
    match = _PAGE_SIZE.fullmatch(value)
    size = int(match[1]) * _PAGE_UNITS[(match[2] or "k")[0].lower()] if match else 0
    if size < 1 or size & (size - 1):
        raise ValueError(f"must be small, large, any, or the size of a page such as 2MB, 1GB or a number of KiB, not {text.quoted(value)}")
    return size


def _cpus(value: str) -> frozenset[int]:
    try:
        numbers = frozenset() if re.search(r"\d{6}", value) else cpusets.parse(value)
    except ValueError:
        numbers = frozenset()
    if not numbers:
        raise ValueError(f"must be vCPU numbers such as 0-1,4, not {text.quoted(value)}")
    return numbers


def topology(specs: Specs, vcpus: int) -> tuple[int, int, int]:
    """(sockets, cores, threads) of so many vCPUs. What is not asked for follows: first one thread, then as many sockets as it takes.

    Raises ValueError if that does not come out.
    """
    threads = specs.threads or 1
    if specs.sockets is None:
        cores = specs.cores or 1
        sockets = vcpus // (cores * threads)
    else:
        sockets = specs.sockets
        cores = specs.cores or vcpus // (sockets * threads)
    if sockets * cores * threads != vcpus:
        asked = " and ".join(f"{n} {what}" for n, what in ((specs.sockets, "sockets"), (specs.cores, "cores"), (specs.threads, "threads")) if n is not None)
        raise ValueError(f"{vcpus} vCPUs cannot be cut into {asked}")
    return sockets, cores, threads


def cells(specs: Specs, vcpus: int, memory_mb: int) -> list[Cell]:
    """The NUMA cells of a guest of that size; none if it is not to have any. Raises ValueError if they do not come out."""
    if not specs.bound:
        return []
    number = specs.numa_nodes or 1
    if number > vcpus:
        raise ValueError(f"{vcpus} vCPUs cannot be split over {number} NUMA cells")
    cpus = _split_vcpus(specs, number, vcpus)
    memory = _split_memory(specs, number, memory_mb)
    return [Cell(tuple(sorted(part)), size) for part, size in zip(cpus, memory)]


def _split_vcpus(specs: Specs, number: int, vcpus: int) -> list[t.Collection[int]]:
    if not specs.numa_cpus:
        if vcpus % number:
            raise ValueError(f"{vcpus} vCPUs cannot be split over {number} NUMA cells evenly (say how by hw:numa_cpus.N)")
        share = vcpus // number
        return [range(cell * share, (cell + 1) * share) for cell in range(number)]
    if set(specs.numa_cpus) != set(range(number)):
        raise ValueError(f"hw:numa_cpus.N must be given for each N from 0 to {number - 1}, or for none")
    parts = [specs.numa_cpus[cell] for cell in range(number)]
    if sorted(cpu for part in parts for cpu in part) != list(range(vcpus)):
        raise ValueError(f"hw:numa_cpus.N must name each vCPU from 0 to {vcpus - 1} exactly once")
    return list(parts)


def _split_memory(specs: Specs, number: int, memory_mb: int) -> list[int]:
    if not specs.numa_memory_mb:
        if memory_mb % number:
            raise ValueError(f"{memory_mb} MiB of memory cannot be split over {number} NUMA cells evenly (say how by hw:numa_mem.N)")
        return [memory_mb // number] * number
    if set(specs.numa_memory_mb) != set(range(number)):
        raise ValueError(f"hw:numa_mem.N must be given for each N from 0 to {number - 1}, or for none")
    parts = [specs.numa_memory_mb[cell] for cell in range(number)]
    if sum(parts) != memory_mb:
        raise ValueError(f"hw:numa_mem.N are {sum(parts)} MiB together, but the flavor has {memory_mb} MiB")
    return parts


def _whole_pages(specs: Specs, vcpus: int, memory_mb: int) -> None:
    """Raises ValueError if the memory of a cell cannot be made of them."""
    for part in sorted({cell.memory_mb for cell in cells(specs, vcpus, memory_mb)} or {memory_mb}):
        if isinstance(specs.page, int) and part * 1024 % specs.page:
            raise ValueError(f"{part} MiB of memory are no whole number of pages of {specs.page} KiB")


def problems(extra_specs: t.Mapping[str, t.Any], vcpus: int, memory_mb: int) -> list[str]:
    """Everything that is wrong with the extra specs of a flavor of that size, one sentence each."""
    specs, found = parse(extra_specs)
    checks: list[t.Callable[[], object]] = [lambda: _whole_pages(specs, vcpus, memory_mb)]
    if specs.topology:
        checks.insert(0, lambda: topology(specs, vcpus))
    for check in checks:
        try:
            check()
        except ValueError as exc:
            found.append(f"extra specs: {exc}")
    return found
