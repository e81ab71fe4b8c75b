# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The only door to the guest agent (qemu-ga) of a running server, through libvirt."""

from __future__ import annotations

import base64
import binascii
import json
import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

try:
    import libvirt
    import libvirt_qemu
except ImportError:  # told by libvirt_host.connected()
    pass

PING_SECONDS = 5
POLL_SECONDS = 0.2
#: Where tools that grow things are; an agent may have been started with little in its PATH.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Done(t.NamedTuple):
    """How a program in the guest ended."""

    code: int
    output: str
    errors: str


class GuestAgent:
    """The agent of one running domain. What it says comes from the guest: it is data, never a command."""

    def __init__(self, domain: t.Any) -> None:
        self._domain = domain

    def answers(self) -> bool:
        """Whether an agent is there and well."""
        try:
            self.ask("guest-ping", {}, PING_SECONDS)
        except ColdmoveError:
            return False
        return True

    def run(self, *command: str, timeout: float = 60) -> Done:
        """Run a program in the guest as its root and wait for its end (``timeout``: seconds). Raises ColdmoveError if the agent refuses to."""
        told: dict[str, t.Any] = {"path": command[0], "arg": list(command[1:]), "env": [f"PATH={_PATH}", "LC_ALL=C"], "capture-output": True}
        number = _whole(self.ask("guest-exec", told), "pid")
        deadline = time.monotonic() + timeout
        while True:
            status = self.ask("guest-exec-status", {"pid": number})
            if isinstance(status, dict) and status.get("exited"):
                return Done(int(status.get("exitcode", -1)), _text(status.get("out-data")), _text(status.get("err-data")))
            if time.monotonic() >= deadline:
                raise ColdmoveError(f"{command[0]} has not ended in the guest within {timeout:g} s; it may still be at work there")
            time.sleep(POLL_SECONDS)

    def ask(self, what: str, arguments: t.Mapping[str, t.Any], timeout: int = 30) -> t.Any:
        """One command of the agent's protocol (``timeout``: seconds)."""
        line = json.dumps({"execute": what, "arguments": arguments})
        try:
            return json.loads(libvirt_qemu.qemuAgentCommand(self._domain, line, timeout, 0)).get("return")
        except libvirt.libvirtError as exc:
            raise ColdmoveError(f"the guest agent does not do {what}: {exc.get_error_message() or exc}") from exc
        except (ValueError, AttributeError) as exc:
            raise ColdmoveError(f"the guest agent's answer to {what} is not understood") from exc


def _whole(answer: t.Any, key: str) -> int:
    if not isinstance(answer, dict) or not isinstance(answer.get(key), int):
        raise ColdmoveError("the guest agent's answer to guest-exec is not understood")
    return int(answer[key])


def _text(data: t.Any) -> str:
    try:
        return base64.b64decode(data or "").decode("utf-8", errors="replace")
    except (TypeError, ValueError, binascii.Error):
        return ""
