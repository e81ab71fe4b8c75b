# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The node facts of docs/architecture.md: capacity, what is defined, and whether the node is ready for moves."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import journal, mirroring, readiness
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

Facts = dict[str, t.Any]


def collect(host: LibvirtHost, name: str | None, instances_path: str) -> Facts:
    """Everything host selection and the pre-checks ask of a node."""
    hostname = socket.gethostname()
    reasons = readiness.not_prepared()
    facts: Facts = {
        "name": name or hostname,
        "hostname": hostname,
        "machine_id": _first_line("/etc/machine-id"),
        "boot_id": _first_line("/proc/sys/kernel/random/boot_id"),
        "networks": host.networks(),
        "bridges": bridges(),
        "pools": pools(host),
        "instances_path": instances_path,
        "instances_fs": file_system(instances_path),
        "prepared": not reasons,
        "not_prepared": reasons,
        "domains": domains(host),
        "journals": [{**summary, "precopy": mirroring.state_of(Journal(summary["migration_uuid"]))} for summary in journal.summaries()],
    }
    facts.update(host.versions())
    facts.update(host.hardware())
    facts.update(domain_xml.read_capabilities(host.capabilities()))
    _count_free_pages(host, facts["numa_cells"])
    return facts


def layout(host: LibvirtHost) -> Facts:
    """Of these facts only what the choice of CPUs and NUMA cells needs: quick, as no disk is looked at."""
    cells = domain_xml.read_capabilities(host.capabilities())["numa_cells"]
    _count_free_pages(host, cells)
    briefs = [brief for brief in (host.brief(domain) for domain in host.domains()) if brief is not None]
    return {"numa_cells": cells, "domains": [_holder(brief, domain_xml.summary(brief["xml"])) for brief in briefs], "journals": journal.summaries()}


def _holder(brief: Facts, told: Facts) -> Facts:
    """What a domain keeps of the node for itself. ``virsh vcpupin`` on a running guest changes the live definition only: both count."""
    live = domain_xml.kept(brief["live_xml"])["pinned_cpus"] if brief["live_xml"] else []
    return {
        "uuid": told["uuid"],
        "name": told["name"],
        "state": brief["state"],
        # A running guest may have got more by hot-plug than its definition says.
        "memory_mb": max(told["memory_mb"], brief["memory_mb"]),
        "pinned_cpus": sorted({*told["pinned_cpus"], *live}),
        "page_size_kib": told["page_size_kib"],
        "memory_cells": told["memory_cells"],
    }


def _count_free_pages(host: LibvirtHost, cells: list[Facts]) -> None:
    for cell in cells:
        free = host.free_pages(cell["id"], [page["size_kib"] for page in cell["pages"]])
        for page in cell["pages"]:
            page["free"] = free.get(page["size_kib"], 0)


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def bridges() -> list[str]:
    """Bridges a guest can be joined to, Linux and Open vSwitch. Asked of the kernel by netlink, because a container may see another network's /sys."""
    try:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        done = subprocess.run(["ip", "-j", "-d", "link", "show"], stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=True)
        links = json.loads(done.stdout or b"[]")
    except (OSError, subprocess.SubprocessError, ValueError):
        return sorted(path.parent.name for path in Path("/sys/class/net").glob("*/bridge"))
    return sorted(link["ifname"] for link in links if link.get("linkinfo", {}).get("info_kind") in ("bridge", "openvswitch"))


def interfaces() -> set[str]:
    """Every network interface of the node. Open vSwitch bridges have one of their own name."""
    return {name for _index, name in socket.if_nameindex()}


def pools(host: LibvirtHost) -> list[Facts]:
    """Storage pools; ``path`` is where a directory pool has its files."""
    return [{"name": name, "active": active, "path": domain_xml.pool_path(xml)} for name, active, xml in host.pools()]


def nearest(path: str) -> str:
    """The path, or the nearest folder above it that exists."""
    while not os.path.exists(path) and path not in ("", "/"):
        path = os.path.dirname(path)
    return path or "/"


def file_system(path: str) -> dict[str, int]:
    """Sizes of the file system that holds (or will hold) ``path``."""
    status = os.statvfs(nearest(path))
    return {"total_bytes": status.f_blocks * status.f_frsize, "free_bytes": status.f_bavail * status.f_frsize}


def domains(host: LibvirtHost) -> list[Facts]:
    """Every domain that is defined or running here; those that vanish while we look are left out."""
    found = []
    for domain in host.domains():
        brief = host.brief(domain)
        if brief is not None:
            found.append(_overview(host, brief))
    return sorted(found, key=lambda entry: str(entry["name"]))


def _overview(host: LibvirtHost, brief: Facts) -> Facts:
    told = domain_xml.summary(brief["xml"])
    paths, virtual_bytes = [], 0
    for disk in told["disks"]:
        path = local_path(host, disk)
        if path:
            paths.append(path)
            virtual_bytes += _virtual_bytes(path, disk)
    return {
        **_holder(brief, told),
        "autostart": brief["autostart"],
        "vcpus": max(told["vcpus"], brief["vcpus"]),
        "disk_bytes": virtual_bytes,
        "macs": told["macs"],
        "disk_paths": paths,
        "locked": told["locked"] or (domain_xml.lock(brief["live_xml"]) if brief["live_xml"] else None),
        "project": told["project"],
    }


def local_path(host: LibvirtHost, disk: Facts) -> str | None:
    """The disk's path on this node; None for network disks and for volumes that cannot be found."""
    if disk["type"] in ("file", "block"):
        return t.cast("str | None", disk["path"])
    if disk["type"] == "volume" and disk["pool"] and disk["volume"]:
        try:
            kind, path = host.volume(disk["pool"], disk["volume"])
        except ColdmoveError:
            return None
        return path if kind in ("file", "block") else None
    return None


def _virtual_bytes(path: str, disk: Facts) -> int:
    if not disk["moves"]:  # media, shared with others or read-only
        return 0
    try:
        return qemu_img.virtual_size(path, disk["format"])
    except ColdmoveError:
        return 0
