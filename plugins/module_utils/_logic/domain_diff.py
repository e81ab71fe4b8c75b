# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Would defining this XML change that domain?

libvirt reorders what it is given and fills in what is missing, so equal text is never reached. The rule here: everything
that is wanted must be there, and what is there beyond it must be something libvirt fills in by itself (the tables below).
A part that is in neither table and that the wanted XML no longer has, is a difference.
"""

from __future__ import annotations

import typing as t

Element = t.Any


def _table(words: str) -> frozenset[str]:
    return frozenset(words.split())


# What libvirt adds when an element is absent, by "parent/element" or for every parent ("*/element").
_FILLED_ELEMENTS = _table("""
*/address */alias */seclabel
domain/uuid domain/currentMemory domain/vcpu domain/resource domain/clock domain/cpu domain/features domain/pm domain/devices
domain/on_poweroff domain/on_reboot domain/on_crash domain/on_lockfailure
os/type os/boot os/nvram os/loader os/firmware features/acpi cpu/model memballoon/stats tpm/backend rng/backend hostdev/driver
devices/emulator devices/controller devices/input devices/memballoon devices/audio devices/console devices/watchdog devices/panic
disk/driver disk/target disk/source disk/readonly disk/backingStore source/backingStore
interface/mac interface/model interface/target
controller/model controller/target controller/master controller/driver
serial/target console/target channel/target channel/source target/model
graphics/listen graphics/audio sound/audio video/model model/acceleration
""")
# Attributes likewise, by "element@attribute".
_FILLED_ATTRIBUTES = _table("""
domain@id vcpu@placement os@firmware type@arch type@machine clock@offset timer@present
memory@unit currentMemory@unit maxMemory@unit cell@unit cell@id
loader@type loader@readonly loader@secure loader@format loader@stateless nvram@template nvram@type nvram@format nvram@templateFormat
cpu@mode cpu@match cpu@check cpu@migratable model@fallback topology@dies topology@clusters
disk@type disk@device driver@name driver@type source@mode source@path source@startupPolicy
target@bus target@tray target@chassis target@port target@type target@busNr target@hotplug
interface@type model@type model@name model@ram model@vram model@vram64 model@vgamem model@heads model@primary
controller@model controller@index controller@ports controller@vectors input@bus
graphics@port graphics@tlsPort graphics@autoport graphics@listen listen@type listen@address audio@id audio@type
memballoon@model backend@version backend@model tpm@model watchdog@action hostdev@managed rom@bar panic@model rng@model sound@model video@type
seclabel@type seclabel@model seclabel@relabel
address@type address@domain address@bus address@slot address@function address@multifunction address@controller address@unit address@target address@port
""")
_SIZES = frozenset(("memory", "currentMemory", "maxMemory"))
_EXACT_TEXT = frozenset(("name", "title", "description"))
_ORDERED = frozenset(("boot",))
#: libvirt's names of units, in bytes; without one it means KiB.
UNITS: dict[str, int] = {"": 1024, "b": 1, "bytes": 1, **{f"{letter}b": 1000**power for power, letter in enumerate("kmgtpe", 1)}}
UNITS.update({f"{letter}{end}": 1024**power for power, letter in enumerate("kmgtpe", 1) for end in ("", "ib")})


def prune_live_only(root: Element) -> Element:
    """Drop what only a running domain has, in place: ids, generated aliases, ports, labels, expanded backing chains."""
    root.attrib.pop("id", None)
    for element in list(root.iter()):
        parent = element.getparent()
        if parent is None or _in_metadata(element):
            continue
        if _is_live_only(element):
            parent.remove(element)
            continue
        for attribute in _live_attributes(element):
            element.attrib.pop(attribute, None)
    return root


def _in_metadata(element: Element) -> bool:
    return any(ancestor.tag == "metadata" for ancestor in element.iterancestors())


def _is_live_only(element: Element) -> bool:
    if element.tag == "alias":
        return not (element.get("name") or "").startswith("ua-")  # only these are the user's own
    if element.tag == "backingStore":
        return element.find("source") is None or element.get("index") is not None
    if element.tag == "seclabel":
        return element.get("type") == "dynamic" and element.find("imagelabel") is not None
    return element.tag in ("actual", "mirror") or (element.tag == "target" and element.getparent().tag == "interface" and _is_generated_name(element))


def _is_generated_name(target: Element) -> bool:
    return (target.get("dev") or "").startswith(("vnet", "macvtap", "macvlan"))


def _live_attributes(element: Element) -> tuple[str, ...]:
    parent = element.getparent()
    if element.tag == "source":
        in_network = parent.tag == "interface" and parent.get("type") == "network"
        return ("index", "portid", "bridge") if in_network else ("index", "portid")
    if element.tag == "graphics" and element.get("autoport") == "yes":
        return ("port", "tlsPort", "websocket") if element.get("websocket") in (None, "-1") else ("port", "tlsPort")
    if element.tag in ("console", "serial") and parent.tag == "devices":
        return ("tty",)
    if element.tag == "target" and parent.tag == "channel":
        return ("state",)
    return ()


def find_differences(wanted: Element, existing: Element, path: str = "") -> list[str]:
    path = f"{path}/{_local(wanted)}"
    found = _text_differences(wanted, existing, path) + _attribute_differences(wanted, existing, path)
    names = dict.fromkeys(child.tag for child in list(wanted) + list(existing))
    for name in names:
        found += _child_differences(_children(wanted, name), _children(existing, name), f"{_local(existing)}/{_local_name(name)}", path)
    return found


def _local_name(tag: str) -> str:
    return tag.rsplit("}", 1)[-1]


def _local(element: Element) -> str:
    return _local_name(element.tag)


def _children(element: Element, name: str) -> list[Element]:
    return [child for child in element if child.tag == name]


def _size(element: Element) -> int | None:
    try:
        return int((element.text or "").strip()) * UNITS[element.get("unit", "").lower()]
    except (ValueError, KeyError):
        return None


def _text_differences(wanted: Element, existing: Element, path: str) -> list[str]:
    left, right = wanted.text or "", existing.text or ""
    if _local(wanted) not in _EXACT_TEXT:
        left, right = left.strip(), right.strip()
    if left == right and _local(wanted) not in _SIZES:
        return []
    if _local(wanted) in _SIZES and _size(wanted) == _size(existing) and _size(wanted) is not None:
        return []
    return [] if left == right and wanted.get("unit") == existing.get("unit") else [path]


def _attribute_differences(wanted: Element, existing: Element, path: str) -> list[str]:
    found = []
    for name in dict.fromkeys(list(wanted.attrib) + list(existing.attrib)):
        left, right = wanted.get(name), existing.get(name)
        if left == right or (name == "unit" and _local(wanted) in _SIZES):
            continue
        filled = left is None and f"{_local(wanted)}@{name}" in _FILLED_ATTRIBUTES
        if not filled and not _same_machine(wanted, name, left, right) and not _same_number(left, right):
            found.append(f"{path}@{_local_name(name)}")
    return found


def _same_machine(element: Element, name: str, left: str | None, right: str | None) -> bool:
    """``pc`` becomes ``pc-i440fx-7.2`` and ``q35`` becomes ``pc-q35-7.2`` when libvirt stores them."""
    if name != "machine" or not left or not right or element.tag != "type":
        return False
    return right.startswith((f"{left}-", f"pc-{left}-"))


def _same_number(left: str | None, right: str | None) -> bool:
    """0x0 and 0x0000, or upper and lower case of a hexadecimal address."""
    try:
        return left is not None and right is not None and int(left, 0) == int(right, 0)
    except ValueError:
        return False


def _child_differences(wanted: list[Element], existing: list[Element], kind: str, path: str) -> list[str]:
    name = kind.rsplit("/", 1)[-1]
    if name in _ORDERED and wanted:
        if len(wanted) != len(existing):
            return [f"{path}/{name}"]
        return [difference for pair in zip(wanted, existing) for difference in find_differences(pair[0], pair[1], path)]
    free = list(existing)
    found: list[str] = []
    unmatched = []
    for element in wanted:
        match = next((other for other in free if not find_differences(element, other, path)), None)
        if match is None:
            unmatched.append(element)
        else:
            free.remove(match)
    for element in unmatched:  # tell where, against the one that is left in the same place
        found += find_differences(element, free.pop(0), path) if free else [f"{path}/{name}"]
    filled = kind in _FILLED_ELEMENTS or f"*/{name}" in _FILLED_ELEMENTS
    if free and (not filled or any(_is_layout(element) for element in free)):
        found.append(f"{path}/{name}")
    return found


def _is_layout(element: Element) -> bool:
    """A CPU with sockets or NUMA cells: libvirt fills in a model, but never these."""
    return element.tag == "cpu" and (element.find("topology") is not None or element.find("numa") is not None)
