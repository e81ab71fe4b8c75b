# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: one switch (a bridge) in the lab's own network namespace, one port for each node.

Nothing of it is in the machine's network namespace, so labs use the same addresses without meeting.
"""

from __future__ import annotations

import re

from lab.errors import LabError
from lab.shell import run

SWITCH = "sw0"
UPLINK = "uplink"
BRIDGE = "br0"
CONTROL_IPV4, CONTROL_IPV6 = "10.88.0.1", "fd88::1"
IPV4_PREFIX, IPV6_PREFIX = 16, 64


def node_addresses(index: int) -> tuple[str, str]:
    """IPv4 and IPv6 address of the node with this number (0: the records host)."""
    return (f"10.88.0.{10 + index}", f"fd88::{10 + index}")


def bmc_address(index: int) -> str:
    """Address of the BMC of the node with this number."""
    return f"10.88.254.{10 + index}"


def guest_addresses(index: int) -> tuple[str, str, str]:
    """IPv4 and IPv6 address and MAC of the guest with this number."""
    high, low = divmod(index, 250)
    return (f"10.88.{1 + high}.{1 + low}", f"fd88::1:{index:x}", f"52:54:00:88:{high:02x}:{low:02x}")


def inside(pid: int) -> list[str]:
    """Command prefix that enters the network namespace of a process."""
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def ip(command: str, *, at: int | None = None, check: bool = True) -> None:
    """Run `ip` with blank-separated words, in this network namespace or in that of a process."""
    run(*(inside(at) if at else []), "ip", *command.split(), check=check)


def make_switch() -> None:
    """Build the switch and the control address in this (new) network namespace."""
    ip("link set lo up")
    ip(f"link add {SWITCH} type bridge mcast_snooping 0")
    ip(f"link set {SWITCH} up")
    ip(f"addr add {CONTROL_IPV4}/{IPV4_PREFIX} dev {SWITCH}")
    ip(f"addr add {CONTROL_IPV6}/{IPV6_PREFIX} dev {SWITCH} nodad")


def port(node: str) -> str:
    """Name of a node's port on the switch."""
    return f"p-{node}"


def connect(node: str, index: int, ipv4: str, ipv6: str, holder: int) -> None:
    """Give this (new) network namespace its uplink to the switch and its bridge. Run by a node's init before it leaves the machine's /proc."""
    disconnect(node, holder)
    ip("link set lo up")
    ip(f"link add {UPLINK} type veth peer name {port(node)} netns /proc/{holder}/ns/net")
    ip(f"link set {port(node)} up", at=holder)
    ip(f"link add {BRIDGE} address 52:54:01:88:00:{index:02x} type bridge mcast_snooping 0")
    ip(f"link set {UPLINK} master {BRIDGE} up")
    ip(f"link set {BRIDGE} up")
    ip(f"addr add {ipv4}/{IPV4_PREFIX} dev {BRIDGE}")
    ip(f"addr add {ipv6}/{IPV6_PREFIX} dev {BRIDGE} nodad")


def disconnect(node: str, holder: int) -> None:
    """Take a node's link away; connect() makes another one."""
    ip(f"link del {port(node)}", at=holder, check=False)


def set_cut(node: str, cut: bool, holder: int) -> None:
    """Take a node's port off the switch, or put it back. The node sees no loss of carrier, only silence, as with a fault farther away."""
    ip(f"link set {port(node)} {'nomaster' if cut else f'master {SWITCH}'}", at=holder)


def set_rate(device: str, rate: str | None, at: int | None) -> None:
    """Limit what leaves through a device (`tbf`), or lift the limit."""
    prefix = inside(at) if at else []
    run(*prefix, "tc", "qdisc", "del", "dev", device, "root", check=False)
    if rate:
        run(*prefix, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms")


def check_rate(rate: str) -> str:
    """A rate as `tc` knows it (1gbit, 100mbit, 512kbit)."""
    if not re.fullmatch(r"[1-9][0-9]*(\.[0-9]+)?[kmg]bit", rate):
        raise LabError(f"rate {rate!r}: give a number and kbit, mbit or gbit, like 100mbit")
    return rate
