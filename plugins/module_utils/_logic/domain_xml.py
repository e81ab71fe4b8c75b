# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What a domain's XML says, and the few edits that a move makes to it. Everything it does not know, it keeps."""

from __future__ import annotations

import json
import os.path
import re
import shlex
import traceback
import typing as t

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
ROLES = ("root", "ephemeral", "swap", "config_drive", "data")
MIB = 1024 * 1024

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
    """Everything the XML alone says of a server, ``blockers`` and ``external_files`` included."""
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
    facts.update({"disks": disks, "nics": read_nics(root), "hostdevs": read_hostdevs(root)})
    facts["external_files"] = _external_files(root, disks)
    facts["blockers"] = _blockers(root, facts)
    return facts


def summary(xml: str) -> Facts:
    """The little that node facts say of each of many domains."""
    root = parse(xml)
    facts: Facts = {"uuid": _text(root, "uuid"), "name": root.findtext("name") or ""}
    facts.update(_capacity(root))
    facts["macs"] = [nic["mac"] for nic in read_nics(root) if nic["mac"]]
    facts["disks"] = read_disks(root, None)
    facts["locked"] = _metadata(root.find(f"metadata/{NS}server"))["locked"]
    return facts


def lock(xml: str) -> Facts | None:
    """Who has locked the server, and why. ``virsh metadata`` on a running server changes the live definition only: both count."""
    return t.cast("Facts | None", _metadata(parse(xml).find(f"metadata/{NS}server"))["locked"])


def _text(root: Element, path: str) -> str | None:
    value = root.findtext(path)
    return (value.strip() or None) if value else None


def _bytes(element: Element) -> int:
    try:
        return int((element.text or "").strip()) * UNITS[element.get("unit", "").strip().lower()]
    except (ValueError, KeyError) as exc:
        raise ColdmoveError(f"<{element.tag}> in the domain XML is not a size: {element.text!r} {element.get('unit')!r}. Nothing was changed.") from exc


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _capacity(root: Element) -> Facts:
    """Maximum values count: that is what the guest may use after its next start."""
    memory, current = root.find("memory"), root.find("currentMemory")
    vcpu = root.find("vcpu")
    memory_mb = -(-_bytes(memory) // MIB) if memory is not None else 0
    vcpus = (_number((vcpu.text or "").strip()) or 1) if vcpu is not None else 1
    return {
        "vcpus": vcpus,
        "vcpus_current": (_number(vcpu.get("current")) or vcpus) if vcpu is not None else vcpus,
        "memory_mb": memory_mb,
        "memory_current_mb": -(-_bytes(current) // MIB) if current is not None else memory_mb,
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
        return {"locked": None, "project": None, "group": None, "flavor": None}
    locked = meta.find(f"{NS}locked")
    return {
        "locked": {"by": locked.get("by", ""), "reason": locked.get("reason", "")} if locked is not None else None,
        "project": _text(meta, f"{NS}project"),
        "group": _text(meta, f"{NS}group"),
        "flavor": _flavor(meta.find(f"{NS}flavor")),
    }


def _flavor(element: Element) -> Facts | None:
    if element is None:
        return None
    flavor: Facts = {"name": element.get("name")}
    flavor.update({key: _number(element.get(key)) for key in ("vcpus", "memory_mb", "root_gb", "ephemeral_gb", "swap_mb")})
    flavor["extra_specs"] = {spec.get("name"): (spec.text or "").strip() for spec in element.iterfind(f"{NS}extra_spec") if spec.get("name")}
    return flavor


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


def mirrors(xml: str) -> list[str]:
    """Targets of disks that a block job copies somewhere (live XML)."""
    return [disk.find("target").get("dev") for disk in parse(xml).iterfind("devices/disk") if disk.find("mirror") is not None]


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


def _blockers(root: Element, facts: Facts) -> list[str]:
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
        found += _disk_blockers(disk)
    return found


def _disk_blockers(disk: Facts) -> list[str]:
    name, found = f"disk {disk['target']}", []
    if disk["type"] == "block":
        found.append(f"{name} is the block device {disk['path']}: block devices are not yet moved by this version")
    elif disk["type"] not in ("file", "network", "volume"):
        found.append(f"{name} is of type {disk['type']}, which only this node has")
    if disk["encrypted"]:
        found.append(f"{name} is encrypted with a secret that libvirt keeps on this node")
    if disk["transient"]:
        found.append(f"{name} is transient: what the guest wrote is thrown away at its next stop")
    if not disk["moves"]:
        return found
    if disk["format"] not in ("raw", "qcow2"):
        found.append(f"{name} has the format {disk['format']}; only raw and qcow2 are moved")
    if disk["startup_policy"] == "optional":
        found.append(f"{name} has startupPolicy='optional': libvirt would drop it without a word if its file were missing")
    if disk["path"] and not disk["path"].startswith("/"):
        found.append(f"{name} has the relative path {disk['path']!r}")
    return found


# --- editing


def edit(
    xml: str,
    *,
    disks: t.Mapping[str, str] | None = None,
    networks: t.Mapping[str, str] | None = None,
    nvram: str | None = None,
    flavor: t.Mapping[str, t.Any] | None = None,
) -> str:
    """The same domain with other disk paths (by target), networks (by name), NVRAM path and flavor values. Doing it twice changes nothing more."""
    root = parse(xml)
    try:
        _map_disks(root, disks or {})
        _map_networks(root, networks or {})
        if nvram:
            _set_nvram(root, nvram)
        if flavor:
            _set_vcpus(root, flavor.get("vcpus"))
            _set_memory(root, flavor.get("memory_mb"))
    except ValueError as exc:  # lxml: a character that no XML document can hold
        raise ColdmoveError(f"A value cannot be written into the domain XML: {exc}. Nothing was changed.") from exc
    return to_string(root)


def with_uuid(xml: str, uuid: str) -> str:
    """The same domain, which was written without a UUID, under this one."""
    root = parse(xml)
    element = root.find("uuid")
    if element is None:
        element = etree.SubElement(root, "uuid")
    element.text = uuid
    return to_string(root)


def _absolute(path: str, what: str) -> str:
    if not path.startswith("/"):
        raise ColdmoveError(f"The path for {what} is not absolute: {path!r}. Nothing was changed.")
    return path


def _map_disks(root: Element, paths: t.Mapping[str, str]) -> None:
    elements = {element.find("target").get("dev"): element for element in root.iterfind("devices/disk") if element.find("target") is not None}
    unknown = sorted(set(paths) - set(elements))
    if unknown:
        raise ColdmoveError(f"The domain has no disk {', '.join(unknown)}; it has {', '.join(sorted(elements)) or 'none'}. Nothing was changed.")
    for target, path in paths.items():
        element, source = elements[target], elements[target].find("source")
        if element.get("type") not in ("file", "volume", None):
            raise ColdmoveError(f"Disk {target} is of type {element.get('type')}: it has no file whose path could be changed. Nothing was changed.")
        if source is None:
            source = etree.SubElement(element, "source")
        for attribute in ("pool", "volume", "mode", "index"):
            source.attrib.pop(attribute, None)
        element.set("type", "file")
        source.set("file", _absolute(path, f"disk {target}"))


def _map_networks(root: Element, names: t.Mapping[str, str]) -> None:
    """All names are looked up before any is replaced, so that two networks can be swapped."""
    for element in root.iterfind("devices/interface"):
        source = element.find("source")
        attribute = {"network": "network", "bridge": "bridge", "direct": "dev"}.get(element.get("type"))
        if source is None or attribute is None or source.get(attribute) not in names:
            continue
        new = names[source.get(attribute)]
        if new != source.get(attribute):
            source.set(attribute, new)
            for live in ("portid", "bridge") if attribute == "network" else ("portid",):
                source.attrib.pop(live, None)


def _set_nvram(root: Element, path: str) -> None:
    _absolute(path, "the NVRAM")
    os_element = root.find("os")
    if os_element is None:
        raise ColdmoveError("The domain XML has no <os>, so it cannot have an NVRAM. Nothing was changed.")
    element = os_element.find("nvram")
    if element is None:
        element = etree.SubElement(os_element, "nvram")
    source = element.find("source")
    if source is not None:
        source.set("file", path)
    else:
        element.text = path


def _set_vcpus(root: Element, vcpus: int | None) -> None:
    element = root.find("vcpu")
    if vcpus is None:
        return
    if vcpus < 1:
        raise ColdmoveError(f"A server cannot have {vcpus} vCPUs. Nothing was changed.")
    if element is None:
        element = etree.SubElement(root, "vcpu")
    if (element.text or "").strip() == str(vcpus) and element.get("current") in (None, str(vcpus)):
        return
    _set_numa_cell(root, "cpus", f"0-{vcpus - 1}" if vcpus > 1 else "0")
    element.text = str(vcpus)
    element.attrib.pop("current", None)
    for listed in root.findall("vcpus"):  # names single vCPUs, on or off: only true for the old number
        root.remove(listed)
    _drop_pins(root, vcpus)
    _set_topology(root.find("cpu/topology"), vcpus)


def _set_topology(topology: Element, vcpus: int) -> None:
    if topology is None:
        return
    per_socket = 1
    for key in ("dies", "clusters", "cores", "threads"):
        per_socket *= _number(topology.get(key, "1")) or 1
    if vcpus % per_socket == 0:
        topology.set("sockets", str(vcpus // per_socket))
        return
    for key in ("dies", "clusters", "cores", "threads"):
        if topology.get(key) is not None:
            topology.set(key, "1")
    topology.set("sockets", str(vcpus))


def _drop_pins(root: Element, vcpus: int) -> None:
    tune = root.find("cputune")
    for pin in list(tune) if tune is not None else []:
        if pin.tag == "vcpupin" and (_number(pin.get("vcpu")) or 0) >= vcpus:
            tune.remove(pin)


def _set_memory(root: Element, memory_mb: int | None) -> None:
    if memory_mb is None:
        return
    if memory_mb < 1:
        raise ColdmoveError(f"A server cannot have {memory_mb} MiB of memory. Nothing was changed.")
    element, current = root.find("memory"), root.find("currentMemory")
    wanted = memory_mb * MIB
    if element is not None and _bytes(element) == wanted and (current is None or _bytes(current) == wanted):
        return
    if root.find("devices/memory") is not None:
        raise ColdmoveError("The domain has memory modules (<memory> devices): its memory cannot be set by a flavor. Nothing was changed.")
    _set_numa_cell(root, "memory", str(wanted // 1024))
    for item in (element if element is not None else etree.SubElement(root, "memory"), current):
        if item is not None:
            item.text = str(wanted // 1024)
            item.set("unit", "KiB")
    maximum = root.find("maxMemory")
    if maximum is not None and _bytes(maximum) < wanted:
        maximum.text = str(wanted // 1024)
        maximum.set("unit", "KiB")


def _set_numa_cell(root: Element, attribute: str, value: str) -> None:
    cells = root.findall("cpu/numa/cell")
    if len(cells) > 1:
        raise ColdmoveError(f"The guest has {len(cells)} NUMA cells: how a new flavor is spread over them is not known. Nothing was changed.")
    for cell in cells:
        cell.set(attribute, value)
        if attribute == "memory":
            cell.set("unit", "KiB")


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
    """CPU model of the node, and every machine type (aliases too) that one of its emulators knows."""
    root = _plain_root(xml)
    machines = {machine.text for machine in root.iterfind("guest/arch//machine") if machine.text}
    return {"cpu_model": _text(root, "host/cpu/model") or "", "machine_types": sorted(machines)}


def pool_path(xml: str) -> str | None:
    """Where a storage pool of files keeps them; None for other kinds."""
    root = _plain_root(xml)
    return _text(root, "target/path") if root.get("type") in ("dir", "fs", "netfs") else None
