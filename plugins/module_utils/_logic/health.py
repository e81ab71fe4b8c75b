# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Health checks: what operators may write for them, known to be well formed before anything is stopped, and how they are spoken of."""

from __future__ import annotations

import json
import re
import shlex
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import inputs, text

DEFAULT_TIMEOUT_SECONDS = 60.0
DEFAULT_INTERVAL_SECONDS = 1.0

#: A name or an address, which becomes a word of ping's command line.
_ADDRESS = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")


def _address(value: t.Any) -> str:
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value.strip()):
        raise ValueError("it must be a name or an address")
    return value.strip()


def _command(value: t.Any) -> list[str]:
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(word, (str, int, float)) for word in value) or not str(value[0]).strip():
        raise ValueError("it must be a list of words, like [curl, --fail, http://10.0.0.5/]")
    return [str(word) for word in value]


def _pause(value: t.Any) -> float:
    found = inputs.seconds(value)
    if not found:
        raise ValueError("it must be more than 0 seconds")
    return found


#: What each type takes of its own, and what all of them take.
_OWN: t.Mapping[str, t.Mapping[str, inputs.Convert]] = {
    "running": {},
    "agent": {},
    "tcp": {"address": _address, "port": inputs.port},
    "ping": {"address": _address},
    "command": {"command": _command},
}
_ALL: t.Mapping[str, inputs.Convert] = {"timeout": inputs.seconds, "interval": _pause}
_REQUIRED = {"tcp": "port", "command": "command"}
TYPES = tuple(_OWN)
_KEYS = ("type", "address", "port", "command", "timeout", "interval")


class Check(t.TypedDict):
    """One check, every key given; ``timeout`` and ``interval`` in seconds."""

    type: str
    address: str | None
    port: int | None
    command: list[str] | None
    timeout: float
    interval: float


class Result(t.TypedDict):
    """What one check found."""

    type: str
    address: str | None
    port: int | None
    command: list[str] | None
    ok: bool | None
    attempts: int
    seconds: float
    detail: str


def parsed(value: t.Any) -> list[Check]:
    """A list of checks, or JSON of one, with defaults filled in. Raises ValueError with everything that is wrong, in one line."""
    checks, wrong = [], []
    for number, element in enumerate(_elements(value), 1):
        problems = _problems(element)
        if problems:
            kind = element.get("type") if isinstance(element, t.Mapping) else None
            wrong.append(f"check {number}{f' ({text.shown(kind)})' if kind in TYPES else ''}: {', '.join(problems)}")
        else:
            checks.append(_check(element))
    if wrong:
        raise ValueError("; ".join(wrong))
    return checks


def _elements(value: t.Any) -> t.Sequence[t.Any]:
    if not inputs.given(value):
        return []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("it must be a list of checks, or JSON of one") from None
    if not isinstance(value, (list, tuple)):
        raise ValueError("it must be a list of checks")
    return value


def _problems(check: t.Any) -> list[str]:
    """Everything that is wrong with one check."""
    if not isinstance(check, t.Mapping):
        return [f"it must be a mapping with a type, one of {', '.join(TYPES)}"]
    found = [_unknown(str(key), _KEYS, "key") for key in check if key not in _KEYS]
    kind = check.get("type")
    if not inputs.given(kind):
        return [*found, f"type is missing, one of {', '.join(TYPES)}"]
    if kind not in TYPES:
        return [*found, _unknown(str(kind), TYPES, "type")]
    takes = {**_OWN[kind], **_ALL}
    found += [f"{key} is not for this type" for key in _KEYS[1:] if key not in takes and inputs.given(check.get(key))]
    if kind in _REQUIRED and not inputs.given(check.get(_REQUIRED[kind])):
        found.append(f"{_REQUIRED[kind]} is missing")
    return found + inputs.malformed(check, takes)


def _unknown(word: str, known: t.Sequence[str], what: str) -> str:
    close = text.close_to(word, known)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
    return f"no such {what}: {text.quoted(word)} ({hint})"


def _check(raw: t.Mapping[str, t.Any]) -> Check:
    takes = {**_OWN[raw["type"]], **_ALL}
    given = {key: convert(raw[key]) for key, convert in takes.items() if inputs.given(raw.get(key))}
    return {
        "type": str(raw["type"]),
        "address": given.get("address"),
        "port": given.get("port"),
        "command": given.get("command"),
        "timeout": given.get("timeout", DEFAULT_TIMEOUT_SECONDS),
        "interval": given.get("interval", DEFAULT_INTERVAL_SECONDS),
    }


#: The variable of the verbs; beside inputs.OF_VERBS, which this stands on.
OF_VERBS: t.Mapping[str, inputs.Convert] = {"health_checks": parsed}


def label(check: t.Mapping[str, t.Any]) -> str:
    """A check as a phrase; ``address`` may be the one that was tried."""
    where = f" of {check['address']}" if check.get("address") else ""
    if check["type"] == "tcp":
        return f"TCP port {check['port']}{where}"
    if check["type"] == "ping":
        return f"ping{where}"
    if check["type"] == "command":
        return f"command {text.shown(shlex.join(check['command']))}"
    return {"running": "domain running", "agent": "guest agent"}[check["type"]]


def refusal(server: str, results: t.Sequence[Result]) -> str | None:
    """Everything that failed, in one sentence; None if nothing did."""
    failed = [result for result in results if result["ok"] is False]
    if not failed:
        return None
    told = [f"{label(result)}: {text.shown(result['detail'])} ({_effort(result)})" for result in failed]
    return f"server {text.shown(server)} did not pass {len(failed)} of {len(results)} health checks: {'; '.join(told)}"


def _effort(result: Result) -> str:
    times = "once" if result["attempts"] == 1 else f"{result['attempts']} times"
    return f"tried for {text.human_seconds(result['seconds'])}, {times}"
