# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Health checks of a server, made from the node that it runs on: all at the same time, each again and again until it passes or its time is up."""

from __future__ import annotations

import concurrent.futures
import ipaddress
import json
import os
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import reach
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.guest_agent import GuestAgent
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import Domain, LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.health import Check, Result

#: One attempt to reach the guest or its agent takes no longer; the next may find another address.
ATTEMPT_SECONDS = 5
#: A guest in such a state does not get well by waiting.
_ENDED = ("shutoff", "crashed", "absent")
_NO_ADDRESS = "no address of the guest is known on this node (guest agent, DHCP lease, neighbour table): set the check's address"


class Finding(t.NamedTuple):
    """What one attempt found (``ok`` is None if it was not made); ``final`` if further ones are in vain."""

    ok: bool | None
    detail: str
    address: str | None = None
    final: bool = False


class Guest(t.NamedTuple):
    """The server that is looked at."""

    host: LibvirtHost
    domain: Domain
    uuid: str
    name: str


def examine(host: LibvirtHost, server: str, checks: t.Sequence[Check], once: bool = False) -> dict[str, t.Any]:
    """Make all checks; ``{uuid, name, state, checks: [Result]}``, whatever they find. With ``once`` nothing is waited for and no command is run."""
    domain = host.domain(server)
    guest = Guest(host, domain, *host.identity(domain))
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(checks))) as pool:
        results = list(pool.map(lambda check: _examine(guest, check, once), checks))
    state = host.state_of(domain)
    for result in results:
        if result["type"] == "running" and result["ok"] and state != "running":
            result["ok"], result["detail"] = False, f"it is {state} now that the other checks have ended"
    return {"uuid": guest.uuid, "name": guest.name, "state": state, "checks": results}


def _examine(guest: Guest, check: Check, once: bool) -> Result:
    """One check, until it passes, or waiting is in vain, or its time is up."""
    if once and check["type"] == "command":
        return _result(check, Finding(None, "not run in check mode"), 0, 0.0)
    begun = time.monotonic()
    deadline = begun + (0 if once else check["timeout"])
    attempts = 0
    while True:
        attempts += 1
        finding = _attempt(guest, check, max(1.0, deadline - time.monotonic()))
        now = time.monotonic()
        if finding.ok or finding.final or now + check["interval"] > deadline:
            return _result(check, finding, attempts, now - begun)
        time.sleep(check["interval"])


def _result(check: Check, finding: Finding, attempts: int, seconds: float) -> Result:
    return {
        "type": check["type"],
        "address": finding.address or check["address"],
        "port": check["port"],
        "command": check["command"],
        "ok": finding.ok,
        "attempts": attempts,
        "seconds": round(seconds, 3),
        "detail": finding.detail,
    }


def _attempt(guest: Guest, check: Check, seconds: float) -> Finding:
    """One attempt of at most ``seconds``."""
    try:
        state = guest.host.state_of(guest.domain)
        if state in _ENDED:
            return Finding(False, f"the server is {state}", final=True)
        if check["type"] == "running":
            return Finding(state == "running", f"the server is {state}")
        if check["type"] == "agent":
            return _ask_agent(guest, seconds)
        if check["type"] == "command":
            return _run(guest, check["command"] or [], seconds)
        return _reach(guest, check, seconds)
    except ColdmoveError as exc:
        return Finding(False, str(exc))


def _ask_agent(guest: Guest, seconds: float) -> Finding:
    GuestAgent(guest.domain).ask("guest-ping", {}, min(int(seconds), ATTEMPT_SECONDS))
    return Finding(True, "it answers")


def _reach(guest: Guest, check: Check, seconds: float) -> Finding:
    """By the address that was given, or by any that is known."""
    tried = [check["address"]] if check["address"] else addresses(guest)
    deadline, finding = time.monotonic() + seconds, Finding(False, _NO_ADDRESS)
    for address in tried:
        left = min(ATTEMPT_SECONDS, max(1.0, deadline - time.monotonic()))
        finding = _connect(address, check["port"] or 0, left) if check["type"] == "tcp" else _ping(address, left)
        if finding.ok:
            break
    return finding


def _connect(address: str, port: int, seconds: float) -> Finding:
    problem = reach.tcp(address, port, seconds)
    return Finding(problem is None, problem or "it accepts connections", address)


def _ping(address: str, seconds: float) -> Finding:
    try:
        problem = reach.ping(address, seconds)
    except ColdmoveError as exc:
        return Finding(False, str(exc), address, final=True)
    return Finding(problem is None, problem or "it answers", address)


def _run(guest: Guest, command: t.Sequence[str], seconds: float) -> Finding:
    """A command of the operator, on this node. It is ended with all its children when its time is up, even if this process is gone by then."""
    bounded = ["timeout", "--kill-after=2", f"{seconds:.3f}", *command]
    code, said = _call(bounded, seconds + 10, COLDMOVE_SERVER=guest.name, COLDMOVE_SERVER_UUID=guest.uuid)
    if code == 0:
        return Finding(True, said or "exit code 0")
    return Finding(False, f"no end after {seconds:.0f} s" if code == 124 else f"exit code {code}{': ' if said else ''}{said}")


def _call(command: t.Sequence[str], seconds: float, **environment: str) -> tuple[int, str]:
    """Exit code and the last line of a command's output. A file takes the output: what the command leaves in the background must not hold us up."""
    with tempfile.TemporaryFile() as output:
        try:
            # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
                env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
            )
        except subprocess.TimeoutExpired:
            return 124, ""
        output.seek(max(0, output.seek(0, os.SEEK_END) - 4096))
        lines = output.read().decode("utf-8", "replace").split("\n")
    return done.returncode, next((line.strip() for line in reversed(lines) if line.strip()), "")[:200]


# --- where the guest is


def addresses(guest: Guest) -> list[str]:
    """The guest's addresses on its own interfaces: by its agent, then by libvirt's DHCP leases, then by what this node has heard from it."""
    own = {mac.lower() for mac in domain_xml.summary(guest.host.xml_of(guest.domain, live=True, secrets=False))["macs"]}
    told = [*_told_by_agent(guest), *guest.host.leases(guest.domain), *_neighbours()]
    return list(dict.fromkeys(address for mac, address in told if mac.lower() in own and _is_usable(address)))


def _told_by_agent(guest: Guest) -> list[tuple[str, str]]:
    """(MAC, address) inside the guest. Not by libvirt's own call, which waits for a hanging agent without end."""
    if not guest.host.has_agent(guest.domain):
        return []
    try:
        interfaces = GuestAgent(guest.domain).ask("guest-network-get-interfaces", {}, ATTEMPT_SECONDS)
        return [
            (str(interface["hardware-address"]), str(address["ip-address"]))
            for interface in interfaces
            if "hardware-address" in interface
            for address in interface.get("ip-addresses", [])
        ]
    except (ColdmoveError, TypeError, KeyError, AttributeError):
        return []


def _neighbours() -> list[tuple[str, str]]:
    """(MAC, address) in the node's neighbour table: a guest is there once it has spoken with the node."""
    try:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        done = subprocess.run(["ip", "-j", "neighbour", "show"], stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=True)
        return [(entry["lladdr"], entry["dst"]) for entry in json.loads(done.stdout or b"[]") if "lladdr" in entry]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def _is_usable(address: str) -> bool:
    """It can be reached without naming an interface, and is not the node itself."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast)
