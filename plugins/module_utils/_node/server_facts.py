# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The server facts of docs/architecture.md, and every reason why this server cannot be moved as it is now."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import devices, growing, node_facts

Facts = dict[str, t.Any]

_NEXT_BY_STATE = {
    "paused": "virsh resume {name}, or virsh destroy {name}",
    "crashed": "virsh destroy {name}",
    "pmsuspended": "virsh dompmwakeup {name}",
    "shutdown": "wait until it is off",
}


def collect(host: LibvirtHost, server: str, paths: dict[str, list[str]] | None = None) -> Facts:
    """Facts of one server of this node. Raises NoSuchServer.

    ``paths``: what the domains use, by UUID, filled here: whoever looks at many servers looks at each domain only once for it.
    """
    domain = host.domain(server)
    xml = host.xml_of(domain)
    facts = domain_xml.describe(xml)
    facts.update(host.flags(domain))
    facts.update({"xml": xml, "state": host.state_of(domain), "block_jobs": []})
    running = facts["state"] not in ("shutoff", "absent")
    pools = node_facts.pools(host) if facts["disks"] else []
    for disk in facts["disks"]:
        facts["blockers"] += _read_disk(host, facts, disk, pools, running)
    facts["blockers"] += _state_blockers(facts)
    if running:
        facts["blockers"] += _running_blockers(host, domain, facts)
    facts["blockers"] += _shared_paths(host, facts, {} if paths is None else paths)
    facts["blockers"] += _complete_nvram(host, facts)
    for key in ("blockers", "node_ties"):
        facts[key] = list(dict.fromkeys(facts[key]))
    return facts


def _state_blockers(facts: Facts) -> list[str]:
    found, name = [], facts["name"]
    if facts["state"] not in ("running", "shutoff"):
        command = _NEXT_BY_STATE.get(facts["state"], "virsh domstate --reason {name}").format(name=name)
        found.append(f"is {facts['state']}; only a running or a shut-off server is moved (next: {command})")
    if not facts["persistent"]:
        found.append("is transient: libvirt has no definition of it that would survive its stop (next: virsh dumpxml, then virsh define)")
    if facts["managed_save"]:
        found.append(f"has a managed-save image (next: virsh start {name}, or virsh managedsave-remove {name})")
    if facts["snapshots"]:
        found.append(f"has snapshots: {', '.join(facts['snapshots'])} (next: virsh snapshot-delete {name} SNAPSHOT)")
    if facts["checkpoints"]:
        found.append(f"has checkpoints: {', '.join(facts['checkpoints'])} (next: virsh checkpoint-delete {name} CHECKPOINT)")
    return found


def _running_blockers(host: LibvirtHost, domain: t.Any, facts: Facts) -> list[str]:
    live = host.xml_of(domain, live=True, secrets=False)
    facts["locked"] = facts["locked"] or domain_xml.lock(live)
    jobs = host.block_jobs(domain, [disk["target"] for disk in facts["disks"] if disk["path"] and disk["device"] == "disk"])
    facts["block_jobs"] = sorted(set(jobs) | set(domain_xml.mirrors(live)))
    found = [f"disk {target} has an active block job (next: virsh blockjob {facts['name']} {target})" for target in facts["block_jobs"]]
    defined, now = domain_xml.live_disk_paths(facts["xml"]), domain_xml.live_disk_paths(live)
    for target, path in now.items():
        if target not in defined:
            found.append(
                f"disk {target} ({path}) is attached to the running guest only (next: virsh detach-disk {facts['name']} {target}, or attach it --config)"
            )
        elif path != defined[target]:
            found.append(f"disk {target} is {path} in the running guest but {defined[target]} in its definition")
    if facts["persistent"]:
        macs = {nic["mac"] for nic in facts["nics"]}
        added = [nic["mac"] for nic in domain_xml.read_nics(domain_xml.parse(live)) if nic["mac"] and nic["mac"] not in macs]
        found += [f"interface {mac} is attached to the running guest only (next: virsh detach-interface, or attach it --config)" for mac in added]
        known = domain_xml.describe(live)["hostdevs"]
        facts["node_ties"] += [f"uses a device of this node: {device}" for device in known if device not in facts["hostdevs"]]
    return found


def _read_disk(host: LibvirtHost, facts: Facts, disk: Facts, pools: list[Facts], running: bool) -> list[str]:
    """Fill in what the file itself says, and what of it ties the server to this node; the reasons against any move."""
    name = f"disk {disk['target']}"
    if disk["type"] == "volume":
        problem = _resolve_volume(host, disk)
        if problem:
            return [f"{name}: {problem}"]
    device = disk["type"] == "block" and disk["device"] == "disk"
    if not (device or disk["type"] in ("file", "volume")) or not disk["path"]:
        return []
    disk["pool"] = disk["pool"] or next((pool["name"] for pool in pools if pool["path"] and os.path.dirname(disk["path"]) == pool["path"].rstrip("/")), None)
    if not disk["moves"] and not device:
        present = os.path.exists(disk["path"]) or disk["startup_policy"] is not None
        return [] if present else [f"{name}: its medium {disk['path']} is missing (next: virsh change-media --eject)"]
    disk.update(_link_to(disk["path"]))
    if disk["format"] not in qemu_img.FORMATS:
        return []  # has its own blocker
    try:
        image = qemu_img.info(disk["path"], disk["format"], in_use=running, devices=device)
        if device:
            disk.update(devices.facts_of(disk["path"]))
            disk["greatest_bytes"] = growing.greatest_bytes(disk["path"], disk["format"])
    except ColdmoveError as exc:
        return [f"{name}: {exc}"]
    disk.update({key: getattr(image, key) for key in ("virtual_bytes", "allocated_bytes", "size_bytes", "internal_snapshots")})
    return _image_blockers(facts, disk, image)


def _resolve_volume(host: LibvirtHost, disk: Facts) -> str | None:
    try:
        kind, path = host.volume(disk["pool"] or "", disk["volume"] or "")
    except ColdmoveError as exc:
        return str(exc)
    if kind == "network":
        disk["moves"] = False
        return None
    disk["path"] = path
    return None if kind == "file" else f"volume {disk['volume']} of pool {disk['pool']} is of the kind {kind}: only files are moved by this version"


def _image_blockers(facts: Facts, disk: Facts, image: qemu_img.Image) -> list[str]:
    name, found = f"disk {disk['target']}", []
    if image.data_file:
        found.append(f"{name} keeps its data in another file, {image.data_file} (next: qemu-img convert it into one file)")
    if image.encrypted:
        found.append(f"{name} is encrypted")
    if image.backing_file:
        chain, problem = qemu_img.chain(disk["path"], image)
        disk["chain"] = [{**link, **_link_to(link["path"])} for link in chain]
        links = " -> ".join(link["path"] for link in disk["chain"]) or image.backing_file
        command = f"virsh blockpull {facts['name']} {disk['target']} while it runs"
        facts["node_ties"].append(f"{name} has a backing chain ({links}), which is not yet moved by this version (next: {command})")
        if problem:
            found.append(f"{name}: {problem}")
    return found


def _link_to(path: str) -> dict[str, str]:
    """``link_to``, where a symbolic link leads: what is known of its directory says nothing of that."""
    return {"link_to": os.path.realpath(path)} if os.path.islink(path) else {}


def _complete_nvram(host: LibvirtHost, facts: Facts) -> list[str]:
    """Its file travels like a disk. Before the first start there is none yet: then dest needs the template."""
    if facts["nvram"] is None and facts["firmware"] == "efi":
        path = domain_xml.implied_nvram(host.command_line(facts["xml"]) or "")
        if path is None:
            return ["has UEFI firmware that libvirt selects, and libvirt does not say where its NVRAM lies (next: name it by <nvram> in the definition)"]
        facts["nvram"] = {"path": path, "template": None}
    nvram = facts["nvram"]
    if nvram is None:
        return []
    nvram.update(_link_to(nvram["path"]))
    try:
        status = os.stat(nvram["path"])
        nvram.update({"size_bytes": status.st_size, "allocated_bytes": status.st_blocks * 512, "exists": True})
    except OSError:
        nvram.update({"size_bytes": 0, "allocated_bytes": 0, "exists": False})
        if nvram["template"]:
            facts["external_files"].append(nvram["template"])
    return []


def _shared_paths(host: LibvirtHost, facts: Facts, paths: dict[str, list[str]]) -> list[str]:
    """No other domain may use a disk that is about to be set aside. Names are compared after following links."""
    own = [disk for disk in facts["disks"] if disk["path"] and (disk["moves"] or disk["type"] == "block")]
    mine = {os.path.realpath(disk["path"]): disk for disk in own}
    found = []
    if len(mine) < len(own):
        found.append("has two disks with the same file")
    for other in host.domains() if mine else []:
        other_uuid, other_name = host.identity(other)
        if other_uuid == facts["uuid"]:
            continue
        if other_uuid not in paths:
            paths[other_uuid] = paths_of(host, other)
        for path in paths[other_uuid]:
            disk = mine.get(os.path.realpath(path))
            if disk is not None:
                found += _shared_with(disk, other_name, facts)
    return found


def paths_of(host: LibvirtHost, domain: t.Any) -> list[str]:
    """The local files that a domain uses, by its definition and as it runs."""
    paths = []
    for live in (False, True):
        try:
            xml = host.xml_of(domain, live=live, secrets=False)
        except ColdmoveError:  # gone meanwhile
            continue
        paths += domain_xml.used_paths(xml)
        if not live:
            paths += [path for path in (node_facts.local_path(host, disk) for disk in domain_xml.read_disks(domain_xml.parse(xml), None)) if path]
    return list(dict.fromkeys(paths))


def _shared_with(disk: Facts, other_name: str, facts: Facts) -> list[str]:
    if disk["readonly"]:  # a medium in all but name: it stays, and dest must have it
        disk["moves"] = False
        if disk["path"] not in facts["external_files"]:
            facts["external_files"].append(disk["path"])
        return []
    return [f"disk {disk['target']} ({disk['path']}) is also used by the domain {other_name}"]
