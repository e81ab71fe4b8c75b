# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Fencing: what an operator may write for it, what witnesses saw, and when a node counts as off.

Nothing here trusts one word: neither a silence, nor a fence agent's success, nor a single reading of the power.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

#: So many readings in a row must say the same before the power is believed.
READINGS = 3
#: The name of a program of the fence-agents project. No path: it is looked up in one folder only.
AGENT = re.compile(r"fence_[a-z0-9_]+")
_OPTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
#: Options by which an agent is told what to do. That is never the inventory's to say.
_ORDERS = ("action", "option", "o")
#: Options that may be shown; the value of any other one may be a secret.
_HARMLESS = re.compile(
    r"ip|ipaddr|ipport|port|plug|username|login|ssh|ssl.*|telnet.*|inet[46]_only|lanplus|cipher|auth|privlvl|method|systems?_uri|redfish_uri|target"
    r"|delay|.*_(timeout|wait|sleep|attempts|path)|retry_on|verbose.*|quiet",
    re.IGNORECASE,
)
_SAYS_SECRET = re.compile(r"pass|secret|token|key|kg|community|credential", re.IGNORECASE)
#: To hide such a value would tear every text and every date that has it.
_FLAG = re.compile(r"|true|false|yes|no|on|off|[0-9]{1,4}", re.IGNORECASE)
#: ssh's own words when it was answered, and not let in.
_NOT_LET_IN = ("Permission denied", "Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED")


class Fence(t.NamedTuple):
    """The variable ``fence`` of a node: a fence agent, and its options by the agent's own names."""

    agent: str
    options: dict[str, str]


class Statement(t.NamedTuple):
    """An operator's word that the node is off."""

    by: str
    reason: str


class Look(t.TypedDict, total=False):
    """What one witness (``by``) saw of a node. ``host``: something answers for it, though not its ssh server; ``ping`` is None if it could not be tried."""

    by: str
    ssh: bool
    host: bool
    ping: bool | None
    detail: str


class Reading(t.TypedDict):
    """What a fence agent said of the power: on, off, or unknown."""

    at: str
    power: str
    detail: str


# --- what is written


def fence_of(value: t.Any) -> Fence | None:
    """The variable ``fence``; None if it is not given. Raises ValueError, without any value of an option in its words."""
    if not value:
        return None
    if not isinstance(value, t.Mapping):
        raise ValueError("it must be a dictionary like {agent: fence_ipmilan, options: {ip: …, username: …, password: …}}")
    unknown = sorted(text.shown(key) for key in value if key not in ("agent", "options"))
    if unknown:
        raise ValueError(f"it has the unknown key {', '.join(unknown)}; there are agent and options, and in options what the agent takes")
    return agent_of(value.get("agent"), value.get("options") or {})


def agent_of(agent: t.Any, options: t.Any) -> Fence:
    """An agent and its options. Raises ValueError, without any value of an option in its words."""
    if not isinstance(agent, str) or not AGENT.fullmatch(agent):
        raise ValueError(f"agent is {text.quoted(agent)}: it must be the name of a program of the fence-agents project, like fence_ipmilan")
    if not isinstance(options, t.Mapping):
        raise ValueError(f"options must be a dictionary of what {agent} takes")
    return Fence(agent, {str(name): _option(str(name), written) for name, written in options.items()})


def _option(name: str, value: t.Any) -> str:
    if not _OPTION.fullmatch(name):
        raise ValueError(f"{text.quoted(name)} is not the name of an option")
    if name.lower() in _ORDERS:
        raise ValueError(f"the option {name} is not for the inventory: what the agent is to do is told by the playbook")
    if value is None or isinstance(value, bool):
        return "1" if value else "0" if value is False else ""
    written = str(value)
    if not isinstance(value, (str, int, float)) or re.search(r"[\0\r\n]", written):
        raise ValueError(f"the option {name} must be one line of text, a number or a boolean")
    return written


def secrets(options: t.Mapping[str, str]) -> set[str]:
    """Values that may be secrets."""
    return {value for name, value in options.items() if value and (_SAYS_SECRET.search(name) or not (_HARMLESS.fullmatch(name) or _FLAG.fullmatch(value)))}


def statement_of(value: t.Any) -> Statement | None:
    """The variable ``fenced_by``; None if it is not given. Raises ValueError unless it says who and why."""
    written = "" if value is None else str(value).strip()
    if not written:
        return None
    by, _colon, reason = (part.strip() for part in written.partition(":"))
    if not by or not reason:
        raise ValueError('it must say who made sure that the node is off, and how: fenced_by="NAME: REASON"')
    return Statement(by, reason)


# --- what was seen


def controller_look(result: t.Mapping[str, t.Any]) -> Look:
    """What Ansible's own connection to the node says, by the ``result`` of any module of ours: but for silence it is an answer, and so is an ssh that was
    not let in.
    """
    if not result.get("node_silent"):
        return {"by": "the controller", "ssh": True, "detail": "it takes commands"}
    words = " ".join(str(result.get("msg") or "no answer").split())
    return {"by": "the controller", "ssh": any(word in words for word in _NOT_LET_IN), "detail": words}


def answers(looks: t.Iterable[Look]) -> list[str]:
    """Each witness that got an answer, of whatever kind, with what it saw."""
    seen = [look for look in looks if look.get("ssh") or look.get("host") or look.get("ping")]
    return [f"{text.shown(look.get('by'))} ({text.shown(look.get('detail'))})" for look in seen]


def mass_failure(silent: t.Sequence[str], count: int) -> str:
    """A sentence if more than half of ``count`` compute nodes are silent, else empty."""
    if 2 * len(silent) <= count:
        return ""
    return (
        f"{len(silent)} of {count} compute nodes do not answer ({', '.join(map(text.shown, sorted(silent)))}): that looks like the network, not like "
        "broken nodes. If they truly are down, say so: -e accept_mass_failure=true"
    )


def blockers(
    host: str,
    nodes: t.Mapping[str, t.Mapping[str, t.Any]],
    fence: t.Any,
    fenced_by: t.Any,
    accept_mass_failure: bool = False,
    looks: t.Sequence[Look] = (),
    readings: t.Sequence[Reading] = (),
) -> list[str]:
    """Everything that forbids to take ``host`` for dead: what was asked, what the nodes and the ``looks`` at it say, and ``readings`` of its power
    that speak against a statement. Empty if nothing does.
    """
    if host not in nodes:
        known = text.close_to(host, nodes) or sorted(nodes)
        return [f"{text.quoted(host)} is not a compute node of the inventory; there are {', '.join(map(text.shown, known))}"]
    found = []
    try:
        how: t.Any = fence_of(fence)
    except ValueError as exc:
        how = exc
        found.append(f"the variable fence of {host} is malformed: {exc}")
    try:
        how = statement_of(fenced_by) or how
    except ValueError as exc:
        how = exc
        found.append(f"fenced_by is malformed: {exc}")
    if not how:
        found.append(
            f"nothing proves that {host} is off: it has no fence agent (set its variable fence), and nobody says so "
            "(power it off, then give -e 'fenced_by=\"NAME: REASON\"')"
        )
    silent = [name for name, node in nodes.items() if not node.get("reachable")]
    if host not in silent and not looks:
        found.append(f"{host} is up: it answers to the controller")
    mass = "" if accept_mass_failure else mass_failure(silent, len(nodes))
    if mass:
        found.append(mass)
    if isinstance(how, Statement) and power_of(readings) == "on":
        found.append(f"{how.by} says that {host} is off, and its fence agent reads its power as on")
    seen = answers(looks)
    return found + ([f"{host} is up: it answers to {', '.join(seen)}; power it off first"] if seen else [])


# --- what was read


def is_settled(readings: t.Sequence[Reading], wanted: str, needed: int = READINGS) -> bool:
    """Whether the last ``needed`` readings all say ``wanted``."""
    return len(readings) >= needed > 0 and all(reading["power"] == wanted for reading in readings[-needed:])


def power_of(readings: t.Sequence[Reading]) -> str:
    """The power by the last reading."""
    return readings[-1]["power"] if readings else "unknown"


class Proof(t.TypedDict):
    """Why a node counts as off. ``proven`` is False in check mode, where nothing is switched off."""

    host: str
    by: str
    how: str
    agent: str | None
    reason: str
    readings: list[Reading]
    at: str
    looks: list[Look]
    proven: bool


def proof(
    host: str,
    fence: t.Any,
    fenced_by: t.Any,
    started_by: str,
    at: str,
    looks: t.Sequence[Look],
    power: t.Mapping[str, t.Any],
    check: bool = False,
) -> Proof:
    """The proof that ``host`` is off: by its agent's readings, or by an operator's statement that no reading speaks against.

    ``power``: what fence_node returned, or nothing. Raises ColdmoveError if it is none (only ``check`` goes on then).
    """
    statement, agent = statement_of(fenced_by), fence_of(fence)
    readings: list[Reading] = list(power.get("readings") or [])
    proven = power_of(readings) != "on" if statement else is_settled(readings, "off")
    if not proven and not check:
        raise ColdmoveError(f"{host} is not proven off: its power was not read as off {READINGS} times in a row. Nothing was started anywhere")
    return {
        "host": host,
        "by": statement.by if statement else started_by,
        "how": "statement" if statement else "agent",
        "agent": agent.agent if agent else None,
        "reason": statement.reason if statement else "",
        "readings": readings,
        "at": at,
        "looks": list(looks),
        "proven": proven and not check,
    }
