# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The few edits that a move makes to a domain's XML. Everything else in it stays as it is."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_resources, domain_tree
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.domain_xml import NAMESPACE, NS, Element, parse, to_string
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

_FLAVOR_NUMBERS = ("vcpus", "memory_mb", "root_gb", "ephemeral_gb", "swap_mb")
_FORMATS = ("raw", "qcow2")


def edit(
    xml: str,
    *,
    disks: t.Mapping[str, str] | None = None,
    devices: t.Collection[str] = (),
    formats: t.Mapping[str, str] | None = None,
    without: t.Collection[str] = (),
    networks: t.Mapping[str, str] | None = None,
    nvram: str | None = None,
    flavor: t.Mapping[str, t.Any] | None = None,
    placement: t.Mapping[str, t.Any] | None = None,
    origin: str | None = None,
) -> str:
    """The same domain with these edits. Doing it twice changes nothing more.

    ``disks``: new path by target. ``devices``: targets whose new path is a block device, not a file. ``formats``: format of the disk's file by
    target, where it is another one now. ``without``: targets of disks that are gone. ``networks``: new name by old name. ``nvram``: new path.
    ``origin``: UUID of the migration that defines the domain. ``flavor``: with a name a whole flavor, which is written into the metadata too;
    without one, values to set (vcpus, memory_mb). ``placement``: where on the node the flavor's vCPUs and memory go, see placement.py.
    """
    root = parse(xml)
    gone = set(without)
    try:
        _remove_disks(root, gone)
        _map_disks(root, {target: path for target, path in (disks or {}).items() if target not in gone}, devices)
        _set_formats(root, {target: name for target, name in (formats or {}).items() if target not in gone})
        _map_networks(root, networks or {})
        if nvram:
            _set_nvram(root, nvram)
        if flavor or placement:
            domain_resources.follow(root, flavor or {}, placement)
        if flavor and flavor.get("name"):
            _write_flavor(root, flavor)
        if origin:
            domain_tree.child(_server_metadata(root), f"{NS}origin").text = origin
    except ValueError as exc:  # lxml: a character that no XML document can hold
        raise ColdmoveError(f"A value cannot be written into the domain XML: {exc}. Nothing was changed.") from exc
    return to_string(root)


def with_uuid(xml: str, uuid: str) -> str:
    """The same domain, which was written without a UUID, under this one."""
    root = parse(xml)
    domain_tree.child(root, "uuid").text = uuid
    return to_string(root)


def _absolute(path: str, what: str) -> str:
    if not path.startswith("/"):
        raise ColdmoveError(f"The path for {what} is not absolute: {path!r}. Nothing was changed.")
    return path


def _disks(root: Element, wanted: t.Collection[str]) -> dict[str, Element]:
    """The ``wanted`` disks by target; all of them must be there."""
    found = {element.find("target").get("dev"): element for element in root.iterfind("devices/disk") if element.find("target") is not None}
    unknown = sorted(set(wanted) - set(found))
    if unknown:
        raise ColdmoveError(f"The domain has no disk {', '.join(unknown)}; it has {', '.join(sorted(found)) or 'none'}. Nothing was changed.")
    return {target: found[target] for target in wanted}


def _remove_disks(root: Element, targets: t.Collection[str]) -> None:
    """Also from the metadata: whatever takes the target's name later has not its role."""
    for path, attribute_of in (("devices/disk", "target"), (f"metadata/{NS}server/{NS}disk", None)):
        for element in root.findall(path):
            named = element.find(attribute_of) if attribute_of else element
            if named is not None and named.get("dev" if attribute_of else "target") in targets:
                element.getparent().remove(element)


def _map_disks(root: Element, paths: t.Mapping[str, str], devices: t.Collection[str]) -> None:
    for target, element in _disks(root, paths).items():
        if element.get("type") not in ("file", "block", "volume", None):
            raise ColdmoveError(f"Disk {target} is of type {element.get('type')}: it has no file whose path could be changed. Nothing was changed.")
        source = domain_tree.child(element, "source")
        for attribute in ("pool", "volume", "mode", "index", "file", "dev"):
            source.attrib.pop(attribute, None)
        is_device = target in devices
        element.set("type", "block" if is_device else "file")
        source.set("dev" if is_device else "file", _absolute(paths[target], f"disk {target}"))


def _set_formats(root: Element, formats: t.Mapping[str, str]) -> None:
    for target, element in _disks(root, formats).items():
        if formats[target] not in _FORMATS:
            raise ColdmoveError(f"Disk {target} cannot have the format {formats[target]!r}, only {' or '.join(_FORMATS)}. Nothing was changed.")
        driver = domain_tree.child(element, "driver")
        if driver.get("name") is None:
            driver.set("name", "qemu")
        driver.set("type", formats[target])
        # It describes the file that was there before. An empty one would even make QEMU ignore the backing file of the new one.
        domain_tree.drop(element, "backingStore")


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
    element = domain_tree.child(os_element, "nvram")
    source = element.find("source")
    if source is not None:
        source.set("file", path)
    else:
        element.text = path


def _server_metadata(root: Element) -> Element:
    metadata = domain_tree.child(root, "metadata")
    server = metadata.find(f"{NS}server")
    if server is None:
        server = metadata.makeelement(f"{NS}server", nsmap={None: NAMESPACE})
        metadata.append(server)
    return server


def _write_flavor(root: Element, flavor: t.Mapping[str, t.Any]) -> None:
    element = domain_tree.child(_server_metadata(root), f"{NS}flavor")
    element.set("name", str(flavor["name"]))
    for key in _FLAVOR_NUMBERS:
        if flavor.get(key) is None:
            element.attrib.pop(key, None)
        else:
            element.set(key, str(flavor[key]))
    domain_tree.drop(element, f"{NS}extra_spec")
    for name, value in (flavor.get("extra_specs") or {}).items():
        domain_tree.add(element, f"{NS}extra_spec", name=str(name)).text = str(value)
