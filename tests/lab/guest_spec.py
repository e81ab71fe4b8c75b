# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest is made of, and its domain XML."""

from __future__ import annotations

import platform
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lab.state import GUEST_IMAGE_PATH, INSTANCES_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.state import GuestState

MIB = 1024 * 1024
METADATA_NAMESPACE = "https://coldmove.github.io/libvirt/1"
CONSOLE_DIRECTORY = "/var/log/coldmove-lab"
UEFI_CODE, UEFI_VARS = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
BOOT_OPTIONS = "console=ttyS0 quiet panic=0 mitigations=off no_timer_check audit=0 lsm= rcupdate.rcu_expedited=1 cryptomgr.notests"


@dataclass
class DiskSpec:
    """One disk of a guest."""

    size_bytes: int = 64 * MIB
    format: Literal["qcow2", "raw"] = "qcow2"
    role: Literal["data", "swap", "blank"] = "data"
    """`data`: a file system that the guest mounts and uses (the first disk must be one); `swap`: swap space; `blank`: nothing."""
    table: Literal["gpt", "mbr"] | None = None
    """Partition table: the content is then on the one partition, which ends 1 MiB before the disk does."""
    filesystem: Literal["ext4", "xfs"] = "ext4"
    """Of `data`. An xfs must have 300 MiB."""
    content_mib: int = 0
    """Random data put into the file system before the first boot, known to the guest's `verify`."""
    layers: int = 1
    """Files of the backing chain (qcow2 only): 1 is none, 2 is an overlay on a base, …"""
    directory: str = INSTANCES_PATH
    bus: Literal["virtio", "scsi", "sata"] = "virtio"
    cache: str | None = None
    file: str | None = None
    """Name of the file; default: from the guest's name and the target."""


@dataclass
class GuestSpec:
    """One guest. What is None the lab chooses."""

    name: str
    disks: Sequence[DiskSpec] = field(default_factory=lambda: [DiskSpec()])
    memory_mib: int = 160
    vcpus: int = 1
    uuid: str | None = None
    mac: str | None = None
    ipv4: str | None = None
    ipv6: str | None = None
    autostart: bool = False
    shutdown: Literal["acpi", "ignore", "mute"] = "acpi"
    """`acpi`: obeys the power button; `ignore`: runs on; `mute`: has no system at all, reacts to nothing, never ready."""
    machine: str = "pc"
    firmware: Literal["bios", "uefi"] = "bios"
    tpm: bool = False
    agent: bool = False
    """The real qemu-ga, with the tools that grow partitions and file systems at its hand (guest_tools.py)."""
    network: str = "lab"
    """A libvirt network, or `bridge:NAME`."""
    metadata: str = ""
    """XML to be put into <metadata>; see server_metadata()."""
    devices: str = ""
    """XML to be put into <devices>."""

    @property
    def tools(self) -> bool:
        """Whether the guest, or making its disks, needs more than busybox and ext4."""
        return self.agent or any(disk.table or disk.filesystem != "ext4" for disk in self.disks)


@dataclass(frozen=True)
class DiskFile:
    """Where a disk of a guest is."""

    target: str
    path: str
    spec: DiskSpec


def disk_files(spec: GuestSpec) -> list[DiskFile]:
    """The active file of each disk. Guests may have any name that libvirt takes; file names follow it."""
    found = []
    for letter, disk in zip("abcdefghijklmnop", spec.disks, strict=False):
        target = ("vd" if disk.bus == "virtio" else "sd") + letter
        name = disk.file or f"{spec.name.replace('/', '_')}-{target}.{disk.format}"
        found.append(DiskFile(target, f"{disk.directory}/{name}", disk))
    return found


def console_path(uuid: str) -> str:
    """A guest's console log, on every node."""
    return f"{CONSOLE_DIRECTORY}/{uuid}.log"


def domain_xml(spec: GuestSpec, guest: GuestState) -> str:
    """The domain as virsh takes it."""
    domain = ET.Element("domain", type="qemu")
    text(domain, "name", spec.name)
    text(domain, "uuid", guest.uuid)
    if spec.metadata:
        domain.append(ET.fromstring(f"<metadata>{spec.metadata}</metadata>"))
    text(domain, "memory", str(spec.memory_mib), unit="MiB")
    text(domain, "vcpu", str(spec.vcpus))
    domain.append(operating_system(spec, guest))
    features = ET.SubElement(domain, "features")
    for name in ("acpi", "apic"):
        ET.SubElement(features, name)
    ET.SubElement(domain, "clock", offset="utc")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        text(domain, event, action)
    domain.append(devices(spec, guest))
    return ET.tostring(domain, encoding="unicode")


def server_metadata(flavor: Mapping[str, Any] | None = None, roles: Mapping[str, str] | None = None, **texts: str) -> str:
    """What the collection keeps of a server in <metadata>: its flavor (extra_specs as a mapping), roles of disks by target, project and group."""
    server = ET.Element("server", xmlns=METADATA_NAMESPACE)
    if flavor:
        values = {key: str(value) for key, value in flavor.items() if key != "extra_specs"}
        element = ET.SubElement(server, "flavor", values)
        for name, value in flavor.get("extra_specs", {}).items():
            text(element, "extra_spec", str(value), name=name)
    for target, role in (roles or {}).items():
        ET.SubElement(server, "disk", target=target, role=role)
    for tag, content in texts.items():
        text(server, tag, content)
    return ET.tostring(server, encoding="unicode")


def operating_system(spec: GuestSpec, guest: GuestState) -> ET.Element:
    """Firmware and direct kernel boot; a mute guest has neither kernel nor boot sector."""
    system = ET.Element("os")
    text(system, "type", "hvm", arch=platform.machine(), machine=spec.machine)
    if spec.firmware == "uefi":
        text(system, "loader", UEFI_CODE, readonly="yes", type="pflash")
        text(system, "nvram", f"/var/lib/libvirt/qemu/nvram/{guest.uuid}_VARS.fd", template=UEFI_VARS)
    if spec.shutdown == "mute":
        ET.SubElement(system, "boot", dev="hd")
        return system
    disks = ",".join(f"{disk.target}:{disk.spec.role}:{disk.spec.filesystem}" for disk in disk_files(spec))
    words = {"uuid": guest.uuid, "ipv4": guest.ipv4, "ipv6": guest.ipv6, "disks": disks, "acpi": "ignore" if spec.shutdown == "ignore" else "obey"}
    if spec.agent:
        words["agent"] = "yes"
    text(system, "kernel", f"{GUEST_IMAGE_PATH}/vmlinuz")
    text(system, "initrd", f"{GUEST_IMAGE_PATH}/{'tools/' if spec.tools else ''}initrd")
    text(system, "cmdline", " ".join([BOOT_OPTIONS, *(f"lab.{key}={value}" for key, value in words.items())]))
    return system


def devices(spec: GuestSpec, guest: GuestState) -> ET.Element:
    """Disks, one interface, console; and what the spec brings."""
    found = ET.Element("devices")
    for disk in disk_files(spec):
        element = ET.SubElement(found, "disk", type="file", device="disk")
        driver = ET.SubElement(element, "driver", name="qemu", type=disk.spec.format)
        if disk.spec.cache:
            driver.set("cache", disk.spec.cache)
        ET.SubElement(element, "source", file=disk.path)
        ET.SubElement(element, "target", dev=disk.target, bus=disk.spec.bus)
    kind, _colon, name = spec.network.rpartition(":")
    interface = ET.SubElement(found, "interface", type=kind or "network")
    ET.SubElement(interface, "mac", address=guest.mac)
    ET.SubElement(interface, "source", {kind or "network": name})
    ET.SubElement(interface, "model", type="virtio")
    serial = ET.SubElement(found, "serial", type="pty")
    ET.SubElement(serial, "log", file=console_path(guest.uuid), append="on")
    if spec.agent:
        channel = ET.SubElement(found, "channel", type="unix")
        ET.SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    if spec.tpm:
        tpm = ET.SubElement(found, "tpm", model="tpm-crb")
        ET.SubElement(tpm, "backend", type="emulator", version="2.0")
    ET.SubElement(found, "memballoon", model="none")
    found.extend(ET.fromstring(f"<devices>{spec.devices}</devices>"))
    return found


def text(parent: ET.Element, tag: str, content: str, **attributes: str) -> None:
    """Add an element with text."""
    ET.SubElement(parent, tag, attributes).text = content
