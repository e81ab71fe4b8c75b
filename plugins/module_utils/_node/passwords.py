# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""A new password for an account in a running guest, by its agent. What is set cannot be read back: the agent's word is all that there is."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.guest_agent import GuestAgent
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

#: Between two looks for the agent: a guest that boots takes seconds.
POLL_SECONDS = 1.0
#: For the agent that has just answered; setting a password takes it a moment.
SET_SECONDS = 30.0
_ENDED = ("shutoff", "crashed", "absent")


class Account(t.NamedTuple):
    """Whose password it is, and the new one."""

    user: str
    password: str


def set_password(host: LibvirtHost, server: str, account: Account, timeout: float, dry_run: bool = False) -> dict[str, t.Any]:
    """Wait up to ``timeout`` seconds for the guest's agent and have it set the password. Raises ColdmoveError with what to do."""
    domain, began = host.domain(server), time.monotonic()
    uuid, name = host.identity(domain)
    _refuse_stopped(host, domain, name)
    if not domain_xml.has_agent_channel(host.xml_of(domain, live=True, secrets=False)):
        raise ColdmoveError(
            f"server {name} has no channel for a guest agent, so no password can be set from outside. Nothing was changed; add the channel "
            f"{domain_xml.AGENT_CHANNEL} to its definition (virsh edit), install qemu-guest-agent in it, stop and start it"
        )
    if not dry_run:
        _wait_for_agent(host, domain, name, timeout)
        host.set_user_password(domain, account.user, account.password, SET_SECONDS)
    return {"changed": True, "uuid": uuid, "name": name, "user": account.user, "seconds": round(time.monotonic() - began, 3)}


def _wait_for_agent(host: LibvirtHost, domain: t.Any, name: str, timeout: float) -> None:
    deadline, agent = time.monotonic() + timeout, GuestAgent(domain)
    while not agent.answers():
        _refuse_stopped(host, domain, name)
        if time.monotonic() + POLL_SECONDS > deadline:
            raise ColdmoveError(
                f"no guest agent has answered in server {name} for {timeout:g} s. Its passwords are as they were; see in the guest: "
                "systemctl status qemu-guest-agent"
            )
        time.sleep(POLL_SECONDS)


def _refuse_stopped(host: LibvirtHost, domain: t.Any, name: str) -> None:
    state = host.state_of(domain)
    if state in _ENDED:
        raise ColdmoveError(f"server {name} is {state}: a password is set in a running guest only. Nothing was changed; next: virsh start {name}")
