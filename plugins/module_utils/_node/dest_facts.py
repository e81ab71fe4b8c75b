# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What the dest says of one server before it comes: everything that would stop the move, found while the guest still runs."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import devices, node_facts

Facts = dict[str, t.Any]


def collect(host: LibvirtHost, xml: str, files: list[Facts], external_files: list[str], directories: list[str], in_place: bool = False) -> Facts:
    """``xml`` is the definition as it will be defined here. ``in_place``: the server is here already, and is not in its own way."""
    facts = domain_xml.describe(xml)
    regular = [file for file in files if not devices.is_device(file)]
    folders = list(dict.fromkeys([*directories, *(os.path.dirname(file["dest_path"]) for file in regular)]))
    return {
        "leftovers": [path for file in regular for path in _new_names(file) if os.path.lexists(path)],
        "device_problems": devices.problems(host, files),
        "missing": _missing(external_files, directories, folders),
        "unmet": _unmet(host, xml),
        "collisions": _collisions(host, facts, [file["dest_path"] for file in regular], in_place),
        "free_bytes": {folder: node_facts.file_system(folder)["free_bytes"] for folder in folders},
        "same_filesystem": {folder: str(os.stat(node_facts.nearest(folder)).st_dev) for folder in folders},
        "image_bytes": {file["id"]: _content(file) for file in files if file["way"] == "image"},
        "cpu": _compare_cpu(host, xml, facts),
        "emulator_ok": _emulator_ok(host, facts),
        "define_error": host.try_definition(xml),
    }


def _new_names(file: Facts) -> list[str]:
    """The names that a file will have here and must not have yet."""
    return {"drop": [], "replace": [file["temp_path"]]}.get(file["way"], [file["dest_path"], file["temp_path"]])


def _content(file: Facts) -> int:
    try:
        return qemu_img.content_bytes(file["image_path"], file["image_format"])
    except ColdmoveError:
        return 0  # whoever makes the file from it says what is wrong


def _missing(external_files: list[str], directories: list[str], folders: list[str]) -> list[str]:
    found = [path for path in external_files if not os.path.exists(path)]
    found += [path for path in directories if not (os.path.isdir(path) and os.access(path, os.W_OK))]
    # A folder that is still to be made needs a place to be made in.
    found += [path for path in folders if not os.path.isdir(node_facts.nearest(path))]
    return list(dict.fromkeys(found))


def _unmet(host: LibvirtHost, xml: str) -> list[str]:
    needs = domain_xml.node_needs(xml)
    networks, interfaces = host.networks(), node_facts.interfaces()
    found = []
    for nic in needs["nics"]:
        source = nic["source"]
        if nic["type"] == "network" and source not in networks:
            found.append(f"network {source} is not active (next: virsh net-start {source})")
        elif nic["type"] in ("bridge", "direct") and source and source not in interfaces:
            found.append(f"{'bridge' if nic['type'] == 'bridge' else 'interface'} {source} does not exist")
    found += [f"network filter {name} is not defined" for name in needs["filters"] if not host.has_filter(name)]
    found += [f"secret {secret['uuid'] or secret['usage']} is not defined" for secret in needs["secrets"] if not host.has_secret(secret)]
    return list(dict.fromkeys(found))


def _collisions(host: LibvirtHost, facts: Facts, paths: list[str], in_place: bool) -> list[str]:
    macs, found = {nic["mac"] for nic in facts["nics"] if nic["mac"]}, []
    targets = {os.path.realpath(path) for path in paths}
    for other in node_facts.domains(host):
        if other["uuid"] == facts["uuid"] and in_place:
            continue
        if other["uuid"] == facts["uuid"]:
            found.append(f"UUID {other['uuid']} is defined here already, as {other['name']} ({other['state']})")
            continue
        if other["name"] == facts["name"]:
            found.append(f"name {other['name']} belongs to another domain here, {other['uuid']}")
        found += [f"MAC address {mac} belongs to the domain {other['name']} here" for mac in other["macs"] if mac in macs]
        found += [f"path {path} belongs to the domain {other['name']} here" for path in other["disk_paths"] if os.path.realpath(path) in targets]
    return found


def _compare_cpu(host: LibvirtHost, xml: str, facts: Facts) -> str:
    cpu = domain_xml.cpu_xml(xml)
    if cpu is None or facts["cpu_mode"] in (None, "host-model", "maximum"):
        return "compatible"  # decided anew by each node at each start
    if facts["cpu_mode"] == "host-passthrough":
        return "unknown: host-passthrough, the guest will see this node's CPU"
    try:
        problem = host.compare_cpu(cpu, facts["emulator"], facts["arch"], facts["machine_type"], facts["domain_type"])
    except ColdmoveError as exc:
        return f"unknown: {exc}"
    if problem is None:
        return "compatible"
    if domain_xml.cpu_check(xml) == "none":
        return f"unknown: check='none', so libvirt would start the guest without what is missing: {problem}"
    return f"incompatible: {problem}"


def _emulator_ok(host: LibvirtHost, facts: Facts) -> bool:
    try:
        host.domain_capabilities(facts["emulator"], facts["arch"], facts["machine_type"], facts["domain_type"])
    except ColdmoveError:
        return False  # define_error says why
    return True
