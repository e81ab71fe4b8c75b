# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""When a server that has been precopied is cut over: the operator's words for it, what they exclude, and a precopy that is held.

``hold`` of a record: ``{cutover, since, epoch, options}``. As long as the record has the epoch under which it was held, nobody is at work on it, and nobody
needs to be: the nodes keep the disks in step by themselves.
"""

from __future__ import annotations

import datetime
import re
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Migration

Kind = t.Literal["now", "hold", "at", "window"]

_FORMS = "now, hold, at=2026-11-23T02:00, window=22:00-04:00 or window=START/END"
_DATE = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:?\d{2})?"
_CLOCK = r"\d{1,2}:\d{2}"
_TWO_DATES = re.compile(rf"({_DATE})\s*[-/]\s*({_DATE})")
_TWO_CLOCKS = re.compile(rf"({_CLOCK})\s*[-/]\s*({_CLOCK})")
#: Days on which the next occurrence of a window is looked for: where clocks are set forward, a short one may not come on one of them.
_DAYS_AHEAD = 3


class Cutover(t.TypedDict):
    """``not_before``, ``not_after``: seconds since 1970, or None. ``daily``: a window of clock times, which comes again. ``words``: for people."""

    kind: Kind
    not_before: float | None
    not_after: float | None
    daily: bool
    words: str


class Held(t.TypedDict):
    """``hold`` of a record, see above."""

    cutover: str
    since: str
    epoch: int
    options: dict[str, t.Any]


def parse(value: t.Any, now: float, zone: datetime.tzinfo | None = None) -> Cutover:
    """``cutover`` as somebody wrote it. ValueError, with one clear sentence, for what is no such thing, is over, or never comes.

    ``now``: seconds since 1970. ``zone``: of times without an offset; None is the one of this machine.
    """
    word, equals, rest = (value.strip() if isinstance(value, str) else "").partition("=")
    word, rest = word.strip().lower(), rest.strip()
    if word in ("now", "hold") and not equals:
        return {"kind": "now" if word == "now" else "hold", "not_before": None, "not_after": None, "daily": False, "words": word}
    if word == "at" and rest:
        return _at(rest, now, zone)
    if word == "window" and rest:
        clocks = _TWO_CLOCKS.fullmatch(rest)
        return _clock_window(clocks[1], clocks[2], now, zone) if clocks else _window(rest, now, zone)
    raise ValueError(f"it must be one of {_FORMS}")


def _at(written: str, now: float, zone: datetime.tzinfo | None) -> Cutover:
    when = _date(written, zone)
    if when <= now:
        raise ValueError(f"that time is past, it is {shown_time(now, zone)} now")
    return {"kind": "at", "not_before": when, "not_after": None, "daily": False, "words": f"not before {shown_time(when, zone)}"}


def _window(written: str, now: float, zone: datetime.tzinfo | None) -> Cutover:
    dates = _TWO_DATES.fullmatch(written)
    if not dates:
        raise ValueError("a window is two clock times, like 22:00-04:00, or two dates with times, like 2026-11-23T02:00/2026-11-23T04:00")
    start, end = _date(dates[1], zone), _date(dates[2], zone)
    if end <= start:
        raise ValueError("that window never comes: it ends before it begins")
    if end <= now:
        raise ValueError(f"that window is past, it is {shown_time(now, zone)} now")
    return _between(start, end, False, zone)


def _clock_window(begin: str, finish: str, now: float, zone: datetime.tzinfo | None) -> Cutover:
    first, last = _clock(begin), _clock(finish)
    if first == last:
        raise ValueError("that window never comes: it begins and ends at the same time")
    today = datetime.datetime.fromtimestamp(now, zone).date()
    for days in range(-1, _DAYS_AHEAD):
        day = today + datetime.timedelta(days=days)
        start = _instant(datetime.datetime.combine(day, first), zone)
        end = _instant(datetime.datetime.combine(day if last > first else day + datetime.timedelta(days=1), last), zone)
        if end > now and end > start:
            return _between(start, end, True, zone)
    raise ValueError("that window never comes")


def _between(start: float, end: float, daily: bool, zone: datetime.tzinfo | None) -> Cutover:
    words = f"between {shown_time(start, zone)} and {shown_time(end, zone)}{', or the day after' if daily else ''}"
    return {"kind": "window", "not_before": start, "not_after": end, "daily": daily, "words": words}


def _date(written: str, zone: datetime.tzinfo | None) -> float:
    problem = f"{text.quoted(written)} is no date with a time, like 2026-11-23T02:00 or 2026-11-23T02:00+01:00"
    if not re.fullmatch(_DATE, written):
        raise ValueError(problem)
    # What Python 3.9 and 3.10 do not read: Z, and an offset without a colon.
    form = re.sub(r"([+-]\d{2})(\d{2})$", r"\1:\2", written.replace("Z", "+00:00")) if len(written) > len("2026-11-23T02:00") else written
    try:
        return _instant(datetime.datetime.fromisoformat(form), zone)
    except (ValueError, OverflowError, OSError):
        raise ValueError(problem) from None


def _clock(written: str) -> datetime.time:
    hours, _colon, minutes = written.partition(":")
    if int(hours) > 23 or int(minutes) > 59:
        raise ValueError(f"{written} is no time of a day: it is from 00:00 to 23:59")
    return datetime.time(int(hours), int(minutes))


def _instant(when: datetime.datetime, zone: datetime.tzinfo | None) -> float:
    """Seconds since 1970 of a date; one without an offset is in ``zone``."""
    return (when if when.tzinfo or zone is None else when.replace(tzinfo=zone)).timestamp()


def shown_time(when: float, zone: datetime.tzinfo | None = None) -> str:
    """An instant in local time, with its offset."""
    return datetime.datetime.fromtimestamp(when, datetime.timezone.utc).astimezone(zone).isoformat(sep=" ", timespec="seconds")


# --- what it excludes ----------------------------------------------------------------------------------------------------------


def of_verb(now: float, zone: datetime.tzinfo | None = None) -> dict[str, t.Callable[[t.Any], t.Any]]:
    """The variable of the verbs, for ``inputs.malformed``."""
    return {"cutover": lambda value: parse(value, now, zone)}


def contradictions(variables: t.Mapping[str, t.Any]) -> list[str]:
    """What speaks against a verb's variables together, each of which is well by itself."""
    word = str(variables.get("cutover") or "").strip()
    if str(variables.get("precopy") or "").strip().lower() == "never" and word and word.lower() != "now":
        return [f"precopy=never and cutover={text.shown(word)} exclude each other: only a precopy can wait for its cutover. Leave one of them out"]
    return []


def refusals(kind: str, unable: t.Sequence[str]) -> list[str]:
    """What speaks against steering the cutover of this very server. ``unable``: why it is not precopied."""
    asked = {"hold": "cutover=hold", "at": "cutover=at", "window": "cutover=window"}.get(kind)
    return [f"{asked} was asked for, and cannot be, as only a precopy waits for its cutover: {reason}" for reason in unable] if asked else []


def is_over(cutover: Cutover, now: float) -> bool:
    """Whether the window has closed."""
    return cutover["not_after"] is not None and now >= cutover["not_after"]


# --- a precopy that is held ----------------------------------------------------------------------------------------------------


def is_held(record: Migration) -> bool:
    """Whether its precopy waits for somebody to say ``cutover`` or ``cancel`` (who may have begun to, see ``is_idle``)."""
    return bool(record.get("hold")) and record.get("status") == "pre-migrating"


def is_idle(record: Migration) -> bool:
    """Whether it is held, and no run has taken it up since."""
    return is_held(record) and (record.get("hold") or {}).get("epoch") == record.get("epoch")


def costs(record: Migration) -> str:
    """What a held precopy costs as long as it is held."""
    dest, need = text.shown(record.get("dest_host") or "the dest"), record.get("need") or {"disk_bytes": 0, "memory_mb": 0}
    return (
        f"every write of the guest waits for {dest}; {text.human_bytes(need.get('disk_bytes') or 0)} of disk and {need.get('memory_mb') or 0} MiB of memory "
        f"are kept free for it on {dest}"
    )


def held_words(record: Migration) -> str:
    """The line of a held precopy for people."""
    return f"precopy in step, held since {(record.get('hold') or {}).get('since')}: costs: {costs(record)}"
