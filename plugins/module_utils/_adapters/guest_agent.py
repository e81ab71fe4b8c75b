# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The only door to guest agents (qemu-ga), asked through libvirt. What a guest answers is the guest's word: never trusted, never run."""

from __future__ import annotations

import json
import math
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import Domain
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

try:
    import libvirt
    import libvirt_qemu

    HAS_LIBVIRT_QEMU = True
except ImportError:
    HAS_LIBVIRT_QEMU = False


class AgentSilent(ColdmoveError):
    """No agent answers: there is none, it is not running (yet), or it did not answer in time. It may have done what it was asked."""


class AgentRefused(ColdmoveError):
    """The agent has answered with an error."""


def ask(domain: Domain, command: str, arguments: t.Mapping[str, t.Any] | None = None, timeout_seconds: float = 10.0) -> t.Any:
    """What the agent returns to one command, like ``guest-ping``. Raises AgentSilent and AgentRefused."""
    if not HAS_LIBVIRT_QEMU:
        raise ColdmoveError("The Python library libvirt_qemu (python3-libvirt) is missing on this node: run the playbook coldmove.libvirt.prepare.")
    request = json.dumps({"execute": command, **({"arguments": dict(arguments)} if arguments else {})})
    try:
        # libvirt counts whole seconds; 0 would mean not to wait at all.
        answer = libvirt_qemu.qemuAgentCommand(domain, request, max(1, math.ceil(timeout_seconds)), 0)
    except libvirt.libvirtError as exc:
        # Older libvirt has no code of its own for what the agent itself says.
        refusals = (libvirt.VIR_ERR_INTERNAL_ERROR, getattr(libvirt, "VIR_ERR_AGENT_COMMAND_FAILED", None))
        kind = AgentRefused if exc.get_error_code() in refusals else AgentSilent
        raise kind(f"guest agent, {command}: {exc.get_error_message()}") from exc
    try:
        return json.loads(answer)["return"]
    except (ValueError, TypeError, KeyError) as exc:
        raise AgentRefused(f"guest agent, {command}: its answer cannot be read") from exc
