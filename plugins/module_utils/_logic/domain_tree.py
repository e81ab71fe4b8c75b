# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Put elements into a domain's XML where libvirt itself would write them, and take them out again."""

from __future__ import annotations

import typing as t

Element = t.Any  # an lxml element; lxml ships no types


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# The order in which libvirt writes the children of an element. It reads any order: this is for people who read a diff.
_ORDER = {
    "domain": _words("""
        name uuid genid title description metadata maxMemory memory currentMemory blkiotune memtune memoryBacking vcpu vcpus iothreads iothreadids
        defaultiothread cputune numatune resource sysinfo bootloader bootloader_args os idmap features cpu clock on_poweroff on_reboot on_crash
        on_lockfailure pm perf devices seclabel
    """),
    "cpu": _words("model vendor topology cache maxphysaddr feature numa"),
    "cputune": _words("shares period quota global_period global_quota emulator_period emulator_quota vcpupin emulatorpin iothreadpin"),
    "disk": _words("driver auth source backingStore geometry blockio mirror target iotune readonly shareable transient serial wwn vendor product"),
}


def child(parent: Element, tag: str) -> Element:
    """The child of that name, made in libvirt's place if there is none."""
    found = parent.find(tag)
    return found if found is not None else add(parent, tag)


def add(parent: Element, tag: str, **attributes: str) -> Element:
    """A new child in libvirt's place, after those of its name."""
    new = parent.makeelement(tag, attributes)
    order = _ORDER.get(parent.tag, ())
    later = set(order[order.index(tag) + 1 :]) if tag in order else set()
    place = next((index for index, element in enumerate(parent) if element.tag in later), len(parent))
    parent.insert(place, new)
    return new


def drop(parent: Element | None, *tags: str) -> None:
    """Take out every child of these names; ``parent`` itself too if that leaves it empty."""
    if parent is None:
        return
    for element in [element for element in parent if element.tag in tags]:
        parent.remove(element)
    if not len(parent) and not parent.attrib and parent.getparent() is not None:
        parent.getparent().remove(parent)
