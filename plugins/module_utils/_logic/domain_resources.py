# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What a flavor and its placement make of a domain's XML: vCPUs, topology, memory, pins, NUMA cells, huge pages.

What the flavor before it asked for (the metadata say which that was) and the new one does not ask for is taken out again.
What no flavor made, such as pins that an operator set by hand, stays.
"""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import cpusets, domain_tree, extra_specs
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.domain_xml import (
    MIB,
    Element,
    bytes_of,
    flavor_of,
    number,
    pinned_one_to_one,
)
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

Placement = t.Mapping[str, t.Any]


def follow(root: Element, flavor: t.Mapping[str, t.Any], placement: Placement | None) -> None:
    """Make the domain follow ``flavor`` (whole, or only vcpus and memory_mb) and ``placement``."""
    old, new = _specs_before(root, flavor), extra_specs.parse(flavor.get("extra_specs") or {})[0]
    decided: Placement = placement or {}
    other_vcpus = _set_vcpus(root, flavor.get("vcpus"))
    other_memory = _set_memory(root, flavor.get("memory_mb"))
    _set_cells(root, decided.get("cells") or [], made=old.bound)
    if not decided.get("cells"):
        _stretch_cell(root, flavor.get("vcpus") if other_vcpus else None, flavor.get("memory_mb") if other_memory else None)
    _set_pins(root, decided.get("vcpu_pins") or {}, decided.get("emulator_pins"), made=old.placed)
    _set_pages(root, decided.get("page_size_kib"), made=old.huge_pages or new.page in ("small", extra_specs.SMALL_PAGE_KIB))
    _set_topology(root, new, flavor.get("vcpus"), made=old.topology)


def _specs_before(root: Element, flavor: t.Mapping[str, t.Any]) -> extra_specs.Specs:
    """What the flavor that is being replaced asked for. A flavor without a name replaces none."""
    if not flavor.get("name"):
        return extra_specs.Specs()
    before = flavor_of(root)
    if before is None:  # never seen before: its flavor is derived, and says so of such pins
        return extra_specs.Specs(dedicated=pinned_one_to_one(root))
    return extra_specs.parse(before["extra_specs"])[0]


# --- vCPUs and topology


def _set_vcpus(root: Element, vcpus: int | None) -> bool:
    """True if that changed something."""
    if vcpus is None:
        return False
    if vcpus < 1:
        raise ColdmoveError(f"A server cannot have {vcpus} vCPUs. Nothing was changed.")
    element = domain_tree.child(root, "vcpu")
    if (element.text or "").strip() == str(vcpus) and element.get("current") in (None, str(vcpus)):
        return False
    element.text = str(vcpus)
    element.attrib.pop("current", None)
    for listed in root.findall("vcpus"):  # names single vCPUs, on or off: only true for the old number
        root.remove(listed)
    _adapt_topology(root.find("cpu/topology"), vcpus)
    return True


def _set_topology(root: Element, specs: extra_specs.Specs, vcpus: int | None, made: bool) -> None:
    if specs.topology and vcpus is not None:
        try:
            parts = extra_specs.topology(specs, vcpus)
        except ValueError as exc:
            raise ColdmoveError(f"The flavor's topology does not come out: {exc}. Nothing was changed.") from exc
        topology = domain_tree.child(domain_tree.child(root, "cpu"), "topology")
        for name in ("dies", "clusters"):
            topology.attrib.pop(name, None)
        for name, value in zip(("sockets", "cores", "threads"), parts):
            topology.set(name, str(value))
    elif made:
        domain_tree.drop(root.find("cpu"), "topology")


def _adapt_topology(topology: Element | None, vcpus: int) -> None:
    """A topology that no flavor asked for keeps its kind of socket if the new number of vCPUs fills such sockets."""
    if topology is None:
        return
    per_socket = 1
    for key in ("dies", "clusters", "cores", "threads"):
        per_socket *= number(topology.get(key, "1")) or 1
    if vcpus % per_socket == 0:
        topology.set("sockets", str(vcpus // per_socket))
        return
    for key in ("dies", "clusters", "cores", "threads"):
        if topology.get(key) is not None:
            topology.set(key, "1")
    topology.set("sockets", str(vcpus))


# --- pins


def _set_pins(root: Element, vcpu_pins: t.Mapping[str, t.Any], emulator_pins: str | None, made: bool) -> None:
    """``made``: whether the pins that are there are the old flavor's. Others only lose those of vCPUs that are gone."""
    tune = root.find("cputune")
    if vcpu_pins:
        tune = domain_tree.child(root, "cputune")
        for pin in tune.findall("vcpupin") + tune.findall("emulatorpin"):
            tune.remove(pin)
        for vcpu in sorted(vcpu_pins, key=int):
            domain_tree.add(tune, "vcpupin", vcpu=str(vcpu), cpuset=str(vcpu_pins[vcpu]))
        if emulator_pins:
            domain_tree.add(tune, "emulatorpin", cpuset=str(emulator_pins))
        _release_process(root.find("vcpu"))
    elif made:
        domain_tree.drop(tune, "vcpupin", "emulatorpin")
    elif tune is not None:
        vcpus = number((root.findtext("vcpu") or "1").strip()) or 1
        for pin in [pin for pin in tune.findall("vcpupin") if (number(pin.get("vcpu")) or 0) >= vcpus]:
            tune.remove(pin)


def _release_process(vcpu: Element | None) -> None:
    """The limits of the whole process would contradict the pins: ``cpuset`` names CPUs of the node that the guest comes from."""
    if vcpu is not None:
        vcpu.attrib.pop("cpuset", None)
        if vcpu.get("placement") == "auto":
            vcpu.set("placement", "static")


# --- memory, NUMA cells, huge pages


def _set_memory(root: Element, memory_mb: int | None) -> bool:
    """True if that changed something."""
    if memory_mb is None:
        return False
    if memory_mb < 1:
        raise ColdmoveError(f"A server cannot have {memory_mb} MiB of memory. Nothing was changed.")
    memory, current = root.find("memory"), root.find("currentMemory")
    wanted = memory_mb * MIB
    if memory is not None and bytes_of(memory) == wanted and (current is None or bytes_of(current) == wanted):
        return False
    if root.find("devices/memory") is not None:
        raise ColdmoveError("The domain has memory modules (<memory> devices): its memory cannot be set by a flavor. Nothing was changed.")
    _set_size(domain_tree.child(root, "memory"), wanted)
    if current is not None:
        _set_size(current, wanted)
    maximum = root.find("maxMemory")
    if maximum is not None and bytes_of(maximum) < wanted:
        _set_size(maximum, wanted)
    return True


def _set_size(element: Element, size: int) -> None:
    element.text = str(size // 1024)
    element.set("unit", "KiB")


def _stretch_cell(root: Element, vcpus: int | None, memory_mb: int | None) -> None:
    """The one NUMA cell of a guest follows its new size. How several would share it is not known here."""
    cells = root.findall("cpu/numa/cell")
    if not cells or (vcpus is None and memory_mb is None):
        return
    if len(cells) > 1:
        raise ColdmoveError(
            f"The guest has {len(cells)} NUMA cells: how a new flavor is spread over them is not known (the flavor's extra spec hw:numa_nodes says it). "
            "Nothing was changed."
        )
    if vcpus is not None:
        cells[0].set("cpus", cpusets.written(range(vcpus)))
    if memory_mb is not None:
        cells[0].set("memory", str(memory_mb * 1024))
        cells[0].set("unit", "KiB")


def _set_cells(root: Element, cells: t.Sequence[t.Mapping[str, t.Any]], made: bool) -> None:
    if cells:
        _write_cells(root, cells)
        _bind_cells(root, cells)
    elif made:
        domain_tree.drop(root.find("cpu"), "numa")
        domain_tree.drop(root, "numatune")


def _write_cells(root: Element, cells: t.Sequence[t.Mapping[str, t.Any]]) -> None:
    """What an operator said of a cell (``memAccess``, ``discard``) stays; distances only while there are as many cells."""
    numa = domain_tree.child(domain_tree.child(root, "cpu"), "numa")
    found = numa.findall("cell")
    for surplus in found[len(cells) :]:
        numa.remove(surplus)
    for index, cell in enumerate(cells):
        element = found[index] if index < len(found) else domain_tree.add(numa, "cell")
        for name, value in (("id", index), ("cpus", cell["vcpus"]), ("memory", int(cell["memory_mb"]) * 1024), ("unit", "KiB")):
            element.set(name, str(value))
        if len(found) != len(cells):
            for distances in element.findall("distances"):
                element.remove(distances)


def _bind_cells(root: Element, cells: t.Sequence[t.Mapping[str, t.Any]]) -> None:
    tune = domain_tree.child(root, "numatune")
    for element in list(tune):
        tune.remove(element)
    domain_tree.add(tune, "memory", mode="strict", nodeset=cpusets.written(int(cell["host_cell"]) for cell in cells))
    for index, cell in enumerate(cells):
        domain_tree.add(tune, "memnode", cellid=str(index), mode="strict", nodeset=str(cell["host_cell"]))


def _set_pages(root: Element, page_size_kib: int | None, made: bool) -> None:
    if page_size_kib:
        pages = domain_tree.child(domain_tree.child(root, "memoryBacking"), "hugepages")
        for page in list(pages):
            pages.remove(page)
        domain_tree.add(pages, "page", size=str(page_size_kib), unit="KiB")
    elif made:
        domain_tree.drop(root.find("memoryBacking"), "hugepages")
