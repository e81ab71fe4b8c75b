# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""libvirt's words for a backup in pull mode: disks of a running server held fast as they are, and served over NBD."""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml


class Backup(t.NamedTuple):
    """The unix socket on which it is served, and the scratch file of each disk by its target."""

    socket: str
    scratch: dict[str, str]


def request(backup: Backup) -> str:
    """What libvirt is asked for: exactly these disks, each served under its target."""
    root = ET.Element("domainbackup", mode="pull")
    ET.SubElement(root, "server", transport="unix", socket=backup.socket)
    disks = ET.SubElement(root, "disks")
    for target, path in backup.scratch.items():
        disk = ET.SubElement(disks, "disk", name=target, backup="yes", type="file", exportname=target)
        ET.SubElement(disk, "driver", type="qcow2")
        ET.SubElement(disk, "scratch", file=path)
    return ET.tostring(root, encoding="unicode")


def read(xml: str) -> Backup:
    """What libvirt says of a backup that is under way, whoever began it."""
    root = ET.fromstring(xml)  # libvirt's own words
    server = root.find("server")
    files = {disk.get("name", ""): disk.find("scratch") for disk in root.iterfind("disks/disk")}
    return Backup(
        socket=server.get("socket", "") if server is not None else "",
        scratch={target: scratch.get("file", "") for target, scratch in files.items() if scratch is not None},
    )


def tells_guest(xml: str) -> list[str]:
    """Targets of the disks (live XML) whose guest is told of a write that finds no room. By default QEMU stops the guest instead, which loses nothing."""
    found = {disk.find("target").get("dev"): disk.find("driver") for disk in domain_xml.parse(xml).iterfind("devices/disk")}
    return [target for target, driver in found.items() if driver is not None and driver.get("error_policy") in ("report", "ignore")]
