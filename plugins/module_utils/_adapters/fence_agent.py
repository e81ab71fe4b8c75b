# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The only door to the fence-agents project's programs (FenceAgentAPI): options on standard input, one answer for each call."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import fencing, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

#: Where packages put them. No other place is looked at: they are run as root, with the secrets of the power supply.
FOLDER = Path("/usr/sbin")
#: What ``status`` says with each exit code. Some agents end with 2 for bad arguments too, so the words must agree.
_POWER = {(0, "ON"): "on", (2, "OFF"): "off"}
_STATUS = re.compile(r"^Status: *(\w+)", re.MULTILINE)
#: A line of the log as agents write it, twice, on standard error.
_LOG = re.compile(r"^(?:[0-9-]+ [0-9:,]+ )?(?:ERROR|WARNING|INFO|CRITICAL):(?:root:)? *")
_UNKNOWN_OPTION = re.compile(r"Ignoring unknown option '([^=']*)")
_NOISE = ("Please use '-h' for usage",)


class Answer(t.NamedTuple):
    """How a call ended. ``code`` is None if it did not end in time."""

    code: int | None
    said: str
    words: str


def installed() -> list[str]:
    """Names of the agents that are installed here."""
    return sorted(path.name for path in FOLDER.glob("fence_*") if fencing.AGENT.fullmatch(path.name) and os.access(path, os.X_OK))


class FenceAgent:
    """One agent with the options of one node."""

    def __init__(self, fence: fencing.Fence, timeout: float) -> None:
        """Raises ColdmoveError if it is not installed here. ``timeout``: seconds for each call."""
        self._fence, self._timeout = fence, timeout
        known = installed()
        if fence.agent not in known:
            there = ", ".join(text.close_to(fence.agent, known) or known)
            raise ColdmoveError(
                f"the fence agent {fence.agent} is not installed on this host; {f'there are {there}' if there else 'there is none'} in {FOLDER}. "
                "Correct the node's variable fence, or install the package (fence-agents)"
            )

    @property
    def name(self) -> str:
        """The program's name."""
        return self._fence.agent

    def power(self) -> tuple[str, str]:
        """``on``, ``off`` or ``unknown``, and the agent's own words. Raises ColdmoveError if it does not know an option: nothing is guessed."""
        answer = self._call("status")
        unknown = _UNKNOWN_OPTION.findall(answer.words)
        if unknown:
            raise ColdmoveError(f"{self.name} knows no option {', '.join(sorted(set(unknown)))}; see: {self.name} -o metadata")
        status = _STATUS.search(answer.said)
        power = _POWER.get((answer.code, status[1].upper() if status else ""), "unknown") if answer.code is not None else "unknown"
        return power, status[0] if status and power != "unknown" else self._problem(answer)

    def switch(self, wanted: str) -> str:
        """Switch ``on`` or ``off``; the agent's words. Its success proves nothing: read the power."""
        answer = self._call(wanted)
        return answer.said.strip() if answer.code == 0 else self._problem(answer)

    def _problem(self, answer: Answer) -> str:
        if answer.code is None:
            return f"{self.name} gave no answer in {self._timeout:g} s"
        return answer.words or f"{self.name} ended with code {answer.code}"

    def _call(self, action: str) -> Answer:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: ended with all that it has started
        process = subprocess.Popen(
            [str(FOLDER / self.name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "LANG": "C"},
            start_new_session=True,
        )
        try:
            said, errors = process.communicate(_told(self._fence.options, action), self._timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            return Answer(None, "", "")
        return Answer(process.returncode, said, _words(errors))


def _told(options: t.Mapping[str, str], action: str) -> str:
    """Standard input: the action last, so that it is the one that counts."""
    return "".join(f"{name}={_quoted(value)}\n" for name, value in [*options.items(), ("action", action)])


def _quoted(value: str) -> str:
    """Agents strip blanks around a value, then one pair of quotes."""
    return f'"{value}"' if value != value.strip() or value[:1] == '"' else value


def _words(errors: str) -> str:
    """What an agent says of its failure, in one line and once: its libraries add warnings, and its log comes twice."""
    lines = [_LOG.sub("", line).strip() for line in errors.splitlines() if _LOG.match(line)] or [line.strip() for line in errors.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line and line not in _NOISE))[:500]


def _end(process: subprocess.Popen[str]) -> None:
    """With its children: an agent that waits for its tool would leave it behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.communicate()
