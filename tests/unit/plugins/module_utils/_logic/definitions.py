# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small makers of domain definitions, and the strings that a definition must hold unharmed."""

from __future__ import annotations

from xml.sax.saxutils import escape

from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml

UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"

# What a document may hold: no control characters, no surrogates. Everything that is special in XML, shells or qemu options is in.
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), min_size=1, max_size=20)
nasty = st.sampled_from(["&amp;", "<!--", "]]>", "'\"", "a,b=c", "x:y", "-rf", "{{ x }}", "$(id)", "%s", "ünïcode", "&lt;domain&gt;"])
names = st.one_of(texts, nasty).filter(lambda value: value.strip() == value and value)
paths = names.map(lambda name: "/" + name)


def quoted(value: str) -> str:
    """An attribute's value the way libvirt writes it."""
    return "'" + escape(value, {"'": "&apos;"}) + "'"


def domain(*, name: str = "web", devices: str = "", more: str = "", server: str = "", os: str = "<type arch='x86_64' machine='pc-q35-7.2'>hvm</type>") -> str:
    """A definition as libvirt would show it, with room for more."""
    metadata = f"<metadata><server xmlns='{domain_xml.NAMESPACE}'>{server}</server></metadata>" if server else ""
    return (
        f"<domain type='qemu'><name>{escape(name)}</name><uuid>{UUID}</uuid>{metadata}<memory unit='KiB'>524288</memory>"
        f"<currentMemory unit='KiB'>524288</currentMemory><vcpu placement='static'>2</vcpu><os>{os}</os>{more}<devices>{devices}</devices></domain>"
    )


def disk(path: str, target: str = "vda", *, image_format: str = "qcow2", device: str = "disk", kind: str = "file", inside: str = "") -> str:
    attribute = {"file": "file", "block": "dev"}[kind]
    return (
        f"<disk type='{kind}' device='{device}'><driver name='qemu' type='{image_format}'/><source {attribute}={quoted(path)}/>"
        f"<target dev='{target}' bus='virtio'/>{inside}</disk>"
    )


def nic(network: str = "default", mac: str = "52:54:00:00:00:01") -> str:
    return f"<interface type='network'><mac address='{mac}'/><source network={quoted(network)}/><model type='virtio'/></interface>"
