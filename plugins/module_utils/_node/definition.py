# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Bring a domain's definition on this node to what is wanted, and say truly whether that changed anything."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_edits, domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

Result = dict[str, t.Any]


FLAVOR_ARGS: dict[str, t.Any] = {
    "name": {"type": "str"},
    **{key: {"type": "int"} for key in ("vcpus", "memory_mb", "root_gb", "ephemeral_gb", "swap_mb")},
    "extra_specs": {"type": "dict", "default": {}},
}
PLACEMENT_ARGS: dict[str, t.Any] = {
    "vcpu_pins": {"type": "dict", "default": {}},
    "emulator_pins": {"type": "str"},
    "cells": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "vcpus": {"type": "str", "required": True},
            "memory_mb": {"type": "int", "required": True},
            "host_cell": {"type": "int", "required": True},
        },
    },
    "page_size_kib": {"type": "int"},
}
#: What is changed in a domain's XML before it is used on this node; documented in plugins/doc_fragments/_domain_edits.py, one for one.
EDIT_ARGS: dict[str, t.Any] = {
    "disks": {"type": "dict", "default": {}},
    "devices": {"type": "list", "elements": "str", "default": []},
    "formats": {"type": "dict", "default": {}},
    "without": {"type": "list", "elements": "str", "default": []},
    "networks": {"type": "dict", "default": {}},
    "nvram": {"type": "path"},
    "flavor": {"type": "dict", "options": FLAVOR_ARGS, "required_by": {"name": ["vcpus", "memory_mb"]}},
    "placement": {"type": "dict", "options": PLACEMENT_ARGS},
    "origin": {"type": "str"},
}


def edited(params: t.Mapping[str, t.Any]) -> str:
    """``params['xml']`` after the edits that the module was told."""
    return domain_edits.edit(params["xml"], **{key: params[key] for key in EDIT_ARGS})


def shown(params: t.Mapping[str, t.Any]) -> Result:
    """A module's arguments as they may be logged. (``no_log`` for the option would blank the XML in the result as well.)"""
    return {"module_args": {**params, "xml": domain_xml.mask_secrets(params["xml"]) if params["xml"] else None}}


def present(host: LibvirtHost, params: t.Mapping[str, t.Any], check_mode: bool = False) -> Result:
    """Define ``params['xml']`` with its edits unless that would change nothing."""
    wanted = edited(params)
    uuid, name = domain_xml.identity(wanted)
    _check_identity(params, uuid, name)
    existing = _existing(host, uuid, name)
    if existing is not None and uuid is None:
        uuid = host.identity(existing)[0]
        wanted = domain_edits.with_uuid(wanted, uuid)
    before = host.xml_of(existing) if existing is not None else None
    differences = domain_xml.differences(wanted, before) if before is not None else ["/domain"]
    if differences and not check_mode:
        host.define(wanted)
    server = uuid or name
    after = wanted if check_mode and differences else host.xml(server)
    changed = bool(differences) if check_mode else _changed(before, after)
    changed = _autostart(host, server, params["autostart"], check_mode, existing is not None) or changed
    return {
        "changed": changed,
        "uuid": uuid or domain_xml.identity(after)[0],
        "name": name,
        "xml": after,
        "diff": _diff(before, after if differences else before, name),
    }


def absent(host: LibvirtHost, params: t.Mapping[str, t.Any], check_mode: bool = False) -> Result:
    """Undefine; nothing to do if there is no such domain."""
    uuid, name = params["uuid"], params["name"]
    domain = host.find(uuid or name)
    if domain is None:
        return {"changed": False, "uuid": uuid, "name": name, "xml": None, "diff": _diff(None, None, name or uuid)}
    found_uuid, found_name = host.identity(domain)
    if uuid and name and (found_uuid, found_name) != (uuid.lower(), name):
        raise ColdmoveError(f"the domain {found_uuid} is called {found_name} here, not {name}: not undefined. Nothing was changed")
    before = host.xml_of(domain)
    state = host.state_of(domain)
    if state != "shutoff":
        raise ColdmoveError(f"server {found_name} is {state}: only a server that is off is undefined. Nothing was changed; next: virsh shutdown {found_name}")
    if not check_mode:
        host.undefine(found_uuid, keep_nvram=params["keep_nvram"], keep_tpm=params["keep_tpm"])
    return {"changed": True, "uuid": found_uuid, "name": found_name, "xml": before, "diff": _diff(before, None, found_name)}


def _check_identity(params: t.Mapping[str, t.Any], uuid: str | None, name: str) -> None:
    """Given beside the XML, UUID and name are a safeguard against the wrong XML."""
    if not name:
        raise ColdmoveError("The domain XML has no name. Nothing was changed.")
    for what, given, found in (("UUID", params["uuid"], uuid), ("name", params["name"], name)):
        if given and given != found:
            raise ColdmoveError(f"The domain XML is of the {what} {found}, not {given}. Nothing was changed.")


def _existing(host: LibvirtHost, uuid: str | None, name: str) -> t.Any:
    """The domain that the XML is about, if it is defined. A half match is another server."""
    by_name, by_uuid = host.find_name(name), host.find(uuid) if uuid else None
    if by_name is not None and uuid and host.identity(by_name)[0] != uuid:
        raise ColdmoveError(f"the name {name} belongs to another server here, {host.identity(by_name)[0]}: not defined. Nothing was changed")
    if by_uuid is not None and host.identity(by_uuid)[1] != name:
        raise ColdmoveError(f"the UUID {uuid} belongs to another server here, {host.identity(by_uuid)[1]}: not defined. Nothing was changed")
    return by_uuid if by_uuid is not None else by_name


def _changed(before: str | None, after: str) -> bool:
    """Libvirt's own before and after decide: what it threw away or filled in anew is no change."""
    return before is None or domain_xml.canonical(before) != domain_xml.canonical(after)


def _autostart(host: LibvirtHost, server: str, wanted: bool | None, check_mode: bool, defined: bool) -> bool:
    if wanted is None:
        return False
    if check_mode:
        return (host.autostart(server) if defined else False) != wanted
    return host.set_autostart(server, wanted)


def _diff(before: str | None, after: str | None, name: str | None) -> dict[str, str]:
    return {
        "before_header": f"domain {name}",
        "after_header": f"domain {name}",
        "before": domain_xml.canonical(before) if before else "",
        "after": domain_xml.canonical(after) if after else "",
    }
