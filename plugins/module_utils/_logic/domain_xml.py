# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What a domain's XML says (domain_edits.py changes it), when two definitions are the same, and other XML that libvirt hands out."""

from __future__ import annotations

import json
import os.path
import re
import shlex
import traceback
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import cpusets
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.domain_diff import UNITS, find_differences, prune_live_only
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

LXML_IMPORT_ERROR: str | None = None
try:
    from lxml import etree
except ImportError:
    LXML_IMPORT_ERROR = traceback.format_exc()

Element = t.Any  # an lxml element; lxml ships no types
Facts = dict[str, t.Any]

NAMESPACE = "https://coldmove.github.io/libvirt/1"
NS = "{" + NAMESPACE + "}"
QEMU_NS = "{http://libvirt.org/schemas/domain/qemu/1.0}"
#: The name of the channel by which libvirt reaches a guest agent.
AGENT_CHANNEL = "org.qemu.guest_agent.0"
ROLES = ("root", "ephemeral", "swap", "config_drive", "data")
MIB = 1024 * 1024
#: <hugepages/> without a size means the node's default, which is this nearly everywhere.
DEFAULT_HUGE_PAGE_KIB = 2048

_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_COMMAND_LINE_FILE = re.compile(r"(?:^|,)(?:file|path|filename)=(/[^,]+)")
_NOVA_ROLES = ((re.compile(r"disk\.swap$"), "swap"), (re.compile(r"disk\.(eph\d+|local)$"), "ephemeral"), (re.compile(r"disk\.config$"), "config_drive"))
_SECRET_ATTRIBUTES = ("passwd", "password")


# --- reading


def parse(xml: str) -> Element:
    """The root element. No DTD at all is accepted: libvirt never writes one, and without it there are no entities to expand."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True)
    try:
        root: Element = etree.fromstring(_DECLARATION.sub("", xml, count=1).encode("utf-8"), parser)
    except (etree.XMLSyntaxError, UnicodeEncodeError) as exc:
        raise ColdmoveError(f"The domain XML cannot be read: {exc}. Nothing was changed.") from exc
    if root.getroottree().docinfo.doctype:
        raise ColdmoveError("The domain XML has a DOCTYPE, which libvirt never writes; refused. Nothing was changed.")
    if root.tag != "domain":
        raise ColdmoveError(f"The domain XML begins with <{root.tag}> instead of <domain>. Nothing was changed.")
    return root


def to_string(root: Element) -> str:
    return str(etree.tostring(root, encoding="unicode"))


def describe(xml: str) -> Facts:
    """Everything the XML alone says of a server.

    ``blockers``: what forbids any move. ``node_ties``: what forbids to leave the node, as it would stay behind. ``external_files``: see there.
    """
    root = parse(xml)
    meta = root.find(f"metadata/{NS}server")
    disks = read_disks(root, meta)
    facts: Facts = {
        "uuid": _text(root, "uuid"),
        "name": root.findtext("name") or "",
        "domain_type": root.get("type"),
        "emulator": _text(root, "devices/emulator"),
    }
    facts.update(_capacity(root))
    facts.update(_machine(root))
    facts.update(_metadata(meta))
    facts.update(_layout(root))
    facts.update({"disks": disks, "nics": read_nics(root), "hostdevs": read_hostdevs(root)})
    facts["agent"] = _has_agent_channel(root)
    facts["external_files"] = _external_files(root, disks)
    facts["blockers"] = [blocker for disk in disks for blocker in _disk_blockers(disk)]
    facts["node_ties"] = _node_ties(root, facts)
    return facts


def summary(xml: str) -> Facts:
    """The little that node facts say of each of many domains."""
    root = parse(xml)
    facts: Facts = {"uuid": _text(root, "uuid"), "name": root.findtext("name") or ""}
    facts.update(_capacity(root))
    facts["macs"] = [nic["mac"] for nic in read_nics(root) if nic["mac"]]
    facts["disks"] = read_disks(root, None)
    facts.update(_kept(root))
    metadata = _metadata(root.find(f"metadata/{NS}server"))
    facts.update({key: metadata[key] for key in ("locked", "project")})
    return facts


def has_agent_channel(xml: str) -> bool:
    """Whether the definition has the channel by which a guest agent is reached; without it there is none, whatever is installed in the guest."""
    return _has_agent_channel(parse(xml))


def _has_agent_channel(root: Element) -> bool:
    return any(target.get("name") == AGENT_CHANNEL for target in root.findall("devices/channel/target"))


def kept(xml: str) -> Facts:
    """What a definition keeps of a node for itself: pinned_cpus, memory_mb, page_size_kib, memory_cells (``[{host_cell, memory_mb}]``)."""
    root = parse(xml)
    return {"memory_mb": _capacity(root)["memory_mb"], **_kept(root)}


def lock(xml: str) -> Facts | None:
    """Who has locked the server, and why. ``virsh metadata`` on a running server changes the live definition only: both count."""
    return t.cast("Facts | None", _metadata(parse(xml).find(f"metadata/{NS}server"))["locked"])


def _text(root: Element, path: str) -> str | None:
    value = root.findtext(path)
    return (value.strip() or None) if value else None


def bytes_of(element: Element) -> int:
    """The size that an element such as <memory> holds. Raises ColdmoveError for anything else."""
    try:
        return int((element.text or "").strip()) * UNITS[element.get("unit", "").strip().lower()]
    except (ValueError, KeyError) as exc:
        raise ColdmoveError(f"<{element.tag}> in the domain XML is not a size: {element.text!r} {element.get('unit')!r}. Nothing was changed.") from exc


def number(text: str | None) -> int | None:
    """A whole number, or None."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _capacity(root: Element) -> Facts:
    """Maximum values count: that is what the guest may use after its next start."""
    memory, current = root.find("memory"), root.find("currentMemory")
    vcpu = root.find("vcpu")
    memory_mb = -(-bytes_of(memory) // MIB) if memory is not None else 0
    vcpus = (number((vcpu.text or "").strip()) or 1) if vcpu is not None else 1
    return {
        "vcpus": vcpus,
        "vcpus_current": (number(vcpu.get("current")) or vcpus) if vcpu is not None else vcpus,
        "memory_mb": memory_mb,
        "memory_current_mb": -(-bytes_of(current) // MIB) if current is not None else memory_mb,
    }


def _machine(root: Element) -> Facts:
    os_type, cpu, nvram = root.find("os/type"), root.find("cpu"), root.find("os/nvram")
    return {
        "arch": os_type.get("arch") if os_type is not None else None,
        "machine_type": os_type.get("machine") if os_type is not None else None,
        "cpu_mode": (cpu.get("mode") or ("custom" if cpu.find("model") is not None else None)) if cpu is not None else None,
        "cpu_model": _text(cpu, "model") if cpu is not None else None,
        "loader": _text(root, "os/loader"),
        "firmware": root.find("os").get("firmware") if root.find("os") is not None else None,
        "nvram": {"path": _nvram_path(nvram), "template": nvram.get("template")} if nvram is not None and _nvram_path(nvram) else None,
        "tpm": root.find("devices/tpm") is not None,
    }


def _layout(root: Element) -> Facts:
    """How the guest's CPUs and memory are cut and where on the node they are bound."""
    topology = root.find("cpu/topology")
    return {
        "topology": {key: number(value) for key, value in topology.attrib.items()} if topology is not None else None,
        "pins": _pins(root),
        "numa_cells": len(root.findall("cpu/numa/cell")),
        "page_size_kib": _page_size(root),
    }


def _pins(root: Element) -> dict[str, str]:
    return {pin.get("vcpu", ""): pin.get("cpuset", "") for pin in root.iterfind("cputune/vcpupin")}


def _page_size(root: Element) -> int | None:
    """Size in KiB of the huge pages that back the guest's memory (the largest, should there be several); None without."""
    pages = root.find("memoryBacking/hugepages")
    if pages is None:
        return None
    sizes = [size * UNITS.get(page.get("unit", "").lower(), 1024) // 1024 for page in pages.iterfind("page") if (size := number(page.get("size")))]
    return max(sizes, default=DEFAULT_HUGE_PAGE_KIB)


def _kept(root: Element) -> Facts:
    return {"pinned_cpus": _pinned_cpus(root), "page_size_kib": _page_size(root), "memory_cells": _memory_cells(root)}


def _pinned_cpus(root: Element) -> list[int]:
    """CPUs that a vCPU, the emulator or an IO thread is pinned to alone. A wider pin claims nothing for itself."""
    pins = [_cpus(pin.get("cpuset", "")) for tag in ("vcpupin", "emulatorpin", "iothreadpin") for pin in root.iterfind(f"cputune/{tag}")]
    return sorted(frozenset().union(*(pin for pin in pins if len(pin) == 1)))


def _memory_cells(root: Element) -> list[Facts]:
    """The guest's NUMA cells that are bound to one cell of the node."""
    sizes = {cell.get("id", str(index)): _cell_bytes(cell) for index, cell in enumerate(root.iterfind("cpu/numa/cell"))}
    bound = [(node.get("cellid"), _cpus(node.get("nodeset", ""))) for node in root.iterfind("numatune/memnode")]
    return [{"host_cell": min(cells), "memory_mb": -(-sizes[cell] // MIB)} for cell, cells in bound if len(cells) == 1 and cell in sizes]


def _cell_bytes(cell: Element) -> int:
    return (number(cell.get("memory")) or 0) * UNITS.get(cell.get("unit", "").lower(), 1024)


def pinned_one_to_one(root: Element) -> bool:
    """Whether every vCPU has exactly one CPU of the node, which no other vCPU of the domain has."""
    pins = [_cpus(cpuset) for cpuset in _pins(root).values()]
    return len(pins) == _capacity(root)["vcpus"] == len(frozenset().union(*pins)) and all(len(pin) == 1 for pin in pins)


def _cpus(cpuset: str) -> frozenset[int]:
    try:
        return cpusets.parse(cpuset)
    except ValueError:  # not from libvirt
        return frozenset()


def _nvram_path(nvram: Element) -> str | None:
    source = nvram.find("source")
    if source is not None:
        return t.cast("str | None", source.get("file"))
    return (nvram.text or "").strip() or None


def implied_nvram(command_line: str) -> str | None:
    """Where the NVRAM of a domain lies whose definition leaves it to libvirt (firmware='efi'): libvirt names it to QEMU only."""
    try:
        words = shlex.split(command_line)
    except ValueError:
        return None
    for option, value in zip(words, words[1:]):
        if option == "-blockdev" and '"libvirt-pflash1-storage"' in value:
            try:
                filename = json.loads(value).get("filename")
            except ValueError:
                return None
            return filename if isinstance(filename, str) else None
    return None


def _metadata(meta: Element) -> Facts:
    if meta is None:
        return {"locked": None, "project": None, "group": None, "flavor": None, "image": None, "origin": None}
    locked = meta.find(f"{NS}locked")
    return {
        "locked": {"by": locked.get("by", ""), "reason": locked.get("reason", "")} if locked is not None else None,
        "project": _text(meta, f"{NS}project"),
        "group": _text(meta, f"{NS}group"),
        "flavor": _flavor(meta.find(f"{NS}flavor")),
        "image": _image(meta.find(f"{NS}image")),
        "origin": _text(meta, f"{NS}origin"),
    }


def flavor_of(root: Element) -> Facts | None:
    """The flavor in the metadata; None if there is none."""
    return _flavor(root.find(f"metadata/{NS}server/{NS}flavor"))


def _flavor(element: Element) -> Facts | None:
    if element is None:
        return None
    flavor: Facts = {"name": element.get("name")}
    flavor.update({key: number(element.get(key)) for key in ("vcpus", "memory_mb", "root_gb", "ephemeral_gb", "swap_mb")})
    flavor["extra_specs"] = {spec.get("name"): (spec.text or "").strip() for spec in element.iterfind(f"{NS}extra_spec") if spec.get("name")}
    return flavor


def _image(element: Element) -> Facts | None:
    """The least that the image which the server was made from asks of a flavor."""
    return None if element is None else {key: number(element.get(key)) for key in ("min_ram_mb", "min_disk_gb")}


def read_disks(root: Element, meta: Element) -> list[Facts]:
    disks = [_read_disk(element) for element in root.iterfind("devices/disk")]
    told = {} if meta is None else {disk.get("target"): disk.get("role") for disk in meta.iterfind(f"{NS}disk")}
    _give_roles(disks, told)
    for disk in disks:
        disk["moves"] = _moves(disk)
    return disks


def _read_disk(element: Element) -> Facts:
    source, driver, target = element.find("source"), element.find("driver"), element.find("target")
    kind = element.get("type", "file")
    return {
        "target": target.get("dev") if target is not None else None,
        "device": element.get("device", "disk"),
        "type": kind,
        "path": _disk_path(kind, source),
        # libvirt's own rule: a disk without a format is raw
        "format": (driver.get("type") if driver is not None else None) or "raw",
        "virtual_bytes": None,
        "allocated_bytes": None,
        "size_bytes": None,
        "internal_snapshots": 0,
        "readonly": element.find("readonly") is not None or element.get("device") == "cdrom",
        "shareable": element.find("shareable") is not None,
        "transient": element.find("transient") is not None,
        "encrypted": element.find("encryption") is not None or (source is not None and source.find("encryption") is not None),
        "startup_policy": source.get("startupPolicy") if source is not None else None,
        "chain": [],
        "pool": source.get("pool") if kind == "volume" and source is not None else None,
        "volume": source.get("volume") if kind == "volume" and source is not None else None,
    }


def _disk_path(kind: str, source: Element) -> str | None:
    if source is None:
        return None
    if kind == "network":
        return f"{source.get('protocol')}:{source.get('name')}"
    attribute = {"file": "file", "block": "dev", "dir": "dir"}.get(kind)
    return source.get(attribute) if attribute else None


def _give_roles(disks: list[Facts], told: t.Mapping[str, str]) -> None:
    """The operator's word first, then Nova's file names, then: the first disk is the root disk, the others hold data."""
    for disk in disks:
        name = os.path.basename(disk["path"] or "")
        by_name = next((role for pattern, role in _NOVA_ROLES if pattern.match(name)), None)
        role = told.get(disk["target"])
        disk["role"] = role if role in ROLES else by_name
    if not any(disk["role"] == "root" for disk in disks):
        first = next((disk for disk in disks if disk["role"] is None and disk["device"] in ("disk", "lun")), None)
        if first is not None:
            first["role"] = "root"
    for disk in disks:
        disk["role"] = disk["role"] or "data"


def _moves(disk: Facts) -> bool:
    """Whether a move has to carry this file. Read-only media is expected on dest, unless it is the server's own config drive."""
    if disk["type"] not in ("file", "volume") or not (disk["path"] or disk["volume"]):
        return False
    return disk["device"] == "disk" or disk["role"] == "config_drive" or not disk["readonly"]


def read_nics(root: Element) -> list[Facts]:
    nics = []
    for element in root.iterfind("devices/interface"):
        mac, source = element.find("mac"), element.find("source")
        kind = element.get("type")
        attribute = {"network": "network", "bridge": "bridge"}.get(kind, "dev")
        nics.append(
            {
                "mac": mac.get("address", "").lower() or None if mac is not None else None,
                "type": kind,
                "source": source.get(attribute) if source is not None else None,
            }
        )
    return nics


def read_hostdevs(root: Element) -> list[str]:
    found = []
    for element in root.iterfind("devices/hostdev"):
        address = element.find("source/address")
        where = " ".join(f"{key}={value}" for key, value in address.attrib.items()) if address is not None else ""
        found.append(f"{element.get('type', element.get('mode', 'device'))} {where}".strip())
    found += [f"interface {nic['type']} {nic['source'] or nic['mac'] or ''}".strip() for nic in read_nics(root) if nic["type"] in ("hostdev", "vdpa")]
    found += [
        f"{element.tag} {element.find('source').get('path')}"
        for tag in ("serial", "parallel", "console")
        for element in root.iterfind(f"devices/{tag}[@type='dev']")
        if element.find("source") is not None
    ]
    return list(dict.fromkeys(found))


def live_disk_paths(xml: str) -> dict[str, str | None]:
    """Target to path of every writable local disk: used to see whether a running guest writes elsewhere than its definition says."""
    return {disk["target"]: disk["path"] for disk in read_disks(parse(xml), None) if disk["device"] == "disk" and disk["type"] in ("file", "block")}


def disk_paths(xml: str) -> dict[str, str]:
    """Target to where it lies, of every disk and medium there is; empty for an empty drive."""
    return {str(disk["target"]): disk["path"] or disk["volume"] or "" for disk in read_disks(parse(xml), None)}


def origin(xml: str) -> str | None:
    """UUID of the migration that made this definition, if one did and said so."""
    return t.cast("str | None", _metadata(parse(xml).find(f"metadata/{NS}server"))["origin"])


def mirrors(xml: str) -> list[str]:
    """Targets of disks that a block job copies somewhere (live XML)."""
    return [disk.find("target").get("dev") for disk in parse(xml).iterfind("devices/disk") if disk.find("mirror") is not None]


def mirror_sockets(xml: str) -> dict[str, str]:
    """By target, the unix socket of the NBD export that a disk is mirrored to (live XML)."""
    found = {}
    for disk in parse(xml).iterfind("devices/disk"):
        host = disk.find("mirror/source/host")
        if host is not None and host.get("socket"):
            found[disk.find("target").get("dev")] = host.get("socket")
    return found


def nbd_disk(socket: str, export: str) -> str:
    """The XML of a disk that is an NBD export behind a unix socket, as libvirt takes it for the target of a copy."""
    disk = etree.Element("disk", type="network", device="disk")
    etree.SubElement(disk, "driver", name="qemu", type="raw")
    source = etree.SubElement(disk, "source", protocol="nbd", name=export)
    etree.SubElement(source, "host", transport="unix", socket=socket)
    text: str = etree.tostring(disk, encoding="unicode")
    return text


def used_paths(xml: str) -> list[str]:
    """Every local path that a domain's disks use, backing files included when the XML lists them (it does for a running guest)."""
    found = []
    for source in parse(xml).iterfind("devices/disk//source"):
        found += [source.get(key) for key in ("file", "dev") if source.get(key)]
    return found


def node_needs(xml: str) -> Facts:
    """What the domain needs of a node beside files."""
    root = parse(xml)
    return {
        "nics": read_nics(root),
        "filters": sorted({element.get("filter") for element in root.iterfind("devices/interface/filterref") if element.get("filter")}),
        "secrets": [{"uuid": s.get("uuid"), "usage": s.get("usage"), "type": s.get("type")} for s in root.iterfind("devices/disk//secret")],
    }


def cpu_xml(xml: str) -> str | None:
    cpu = parse(xml).find("cpu")
    return to_string(cpu) if cpu is not None else None


def cpu_check(xml: str) -> str | None:
    cpu = parse(xml).find("cpu")
    return cpu.get("check") if cpu is not None else None


# --- files outside, blockers


def _external_files(root: Element, disks: list[Facts]) -> list[str]:
    """Files of the node that the server uses but that are not its own: they do not travel and must exist on dest."""
    found = [_text(root, f"os/{tag}") for tag in ("kernel", "initrd", "dtb", "loader", "acpi/table")]
    found += [disk["path"] for disk in disks if disk["type"] == "file" and not disk["moves"] and disk["startup_policy"] != "optional"]
    found += [entry.get("file") for entry in root.iterfind("sysinfo/entry")] + [rom.get("file") for rom in root.iterfind("devices/*/rom")]
    for argument in root.iterfind(f"{QEMU_NS}commandline/{QEMU_NS}arg"):
        found += _COMMAND_LINE_FILE.findall(argument.get("value", ""))
    return list(dict.fromkeys(path for path in found if path and path.startswith("/")))


def _node_ties(root: Element, facts: Facts) -> list[str]:
    found = [f"uses a device of this node: {device}" for device in facts["hostdevs"]]
    if facts["tpm"]:
        found.append("has a TPM, whose state is not yet moved by this version")
    if root.find("os/nvram[@type]") is not None and root.find("os/nvram").get("type") != "file":
        found.append("keeps its NVRAM in something other than a local file")
    for element in root.iterfind("devices/filesystem"):
        source = element.find("source")
        where = next(iter(source.attrib.values()), "?") if source is not None and len(source.attrib) else "?"
        found.append(f"shares the folder {where} of this node with the guest (<filesystem>)")
    for element in root.iterfind("devices/memory/source/path"):
        found.append(f"keeps guest memory in the file {element.text} of this node")
    for disk in facts["disks"]:
        name = f"disk {disk['target']}"
        if disk["type"] == "block" and (disk["device"] != "disk" or disk["readonly"]):
            what = "read-only" if disk["device"] == "disk" else f"a {disk['device']}"
            found.append(f"{name} is {what} on the block device {disk['path']} of this node: only writable disks on block devices are moved")
        elif disk["type"] not in ("file", "block", "network", "volume"):
            found.append(f"{name} is of type {disk['type']}, which only this node has")
        if disk["moves"] and disk["startup_policy"] == "optional":
            found.append(f"{name} has startupPolicy='optional': libvirt would drop it without a word if its file were missing")
    return found


def _disk_blockers(disk: Facts) -> list[str]:
    name, found = f"disk {disk['target']}", []
    if disk["encrypted"]:
        found.append(f"{name} is encrypted with a secret that libvirt keeps on this node")
    if disk["transient"]:
        found.append(f"{name} is transient: what the guest wrote is thrown away at its next stop")
    if not disk["moves"]:
        return found
    if disk["format"] not in ("raw", "qcow2"):
        found.append(f"{name} has the format {disk['format']}; only raw and qcow2 are moved")
    if disk["path"] and not disk["path"].startswith("/"):
        found.append(f"{name} has the relative path {disk['path']!r}")
    return found


# --- comparing


def differences(wanted: str, existing: str) -> list[str]:
    """Where defining ``wanted`` would change ``existing`` (inactive XML as libvirt shows it). Empty: nothing to do."""
    return find_differences(prune_live_only(parse(wanted)), prune_live_only(parse(existing)))


def canonical(xml: str) -> str:
    """For people and for before/after comparison: live-only parts dropped, secrets masked, one element a line."""
    root = prune_live_only(parse(xml))
    _mask(root)
    for element in root.iter():
        if len(element) and not (element.text or "").strip():
            element.text = None
        if not (element.tail or "").strip():
            element.tail = None
    etree.indent(root, space="  ")
    return to_string(root) + "\n"


def mask_secrets(xml: str) -> str:
    """The XML fit for a log. What cannot be parsed is not shown at all."""
    try:
        root = parse(xml)
    except ColdmoveError:
        return "(unreadable XML)"
    _mask(root)
    return to_string(root)


def _mask(root: Element) -> None:
    for element in root.iter():
        for attribute in _SECRET_ATTRIBUTES:
            if element.get(attribute):
                element.set(attribute, "********")


def identity(xml: str) -> tuple[str | None, str]:
    root = parse(xml)
    return _text(root, "uuid"), root.findtext("name") or ""


# --- other XML that libvirt hands out


def _plain_root(xml: str) -> Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    return etree.fromstring(_DECLARATION.sub("", xml, count=1).encode("utf-8"), parser)


def read_capabilities(xml: str) -> Facts:
    """CPU model of the node, every machine type (aliases too) that one of its emulators knows, and its NUMA cells."""
    root = _plain_root(xml)
    machines = {machine.text for machine in root.iterfind("guest/arch//machine") if machine.text}
    cells = [_host_cell(cell) for cell in root.iterfind("host/topology/cells/cell")]
    return {"cpu_model": _text(root, "host/cpu/model") or "", "machine_types": sorted(machines), "numa_cells": cells}


def _host_cell(cell: Element) -> Facts:
    memory = cell.find("memory")
    pages = sorted((number(page.get("size")) or 0, number(page.text) or 0) for page in cell.iterfind("pages"))
    return {
        "id": number(cell.get("id")) or 0,
        # A CPU that is off has no siblings.
        "cpus": sorted(number(cpu.get("id")) or 0 for cpu in cell.iterfind("cpus/cpu") if cpu.get("siblings") is not None),
        "memory_mb": bytes_of(memory) // MIB if memory is not None else 0,
        # The smallest size is that of ordinary memory. How many are free is to be asked for.
        "pages": [{"size_kib": size, "total": total, "free": 0} for size, total in pages[1:]],
    }


def pool_path(xml: str) -> str | None:
    """Where a storage pool of files keeps them; None for other kinds."""
    root = _plain_root(xml)
    return _text(root, "target/path") if root.get("type") in ("dir", "fs", "netfs") else None
