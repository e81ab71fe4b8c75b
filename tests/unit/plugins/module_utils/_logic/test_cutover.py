# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a cutover comes: by examples, and for every window that there can be, also where clocks are set."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import cutover
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import a_migration

HOUR = 3600.0
DAY = 24 * HOUR
UTC = datetime.UTC


class Set(datetime.tzinfo):
    """A zone whose clocks are set one hour forward on 29 March 2026 at 02:00, and back on 25 October 2026 at 03:00 (as in central Europe)."""

    def utcoffset(self, dt: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(hours=1) + self.dst(dt)

    def dst(self, dt: datetime.datetime | None) -> datetime.timedelta:
        assert dt
        local = dt.replace(tzinfo=None)
        begin, end = datetime.datetime(2026, 3, 29, 2), datetime.datetime(2026, 10, 25, 3)
        if begin <= local < begin + datetime.timedelta(hours=1):
            return datetime.timedelta(hours=1 if dt.fold else 0)  # these do not exist
        if end - datetime.timedelta(hours=1) <= local < end:
            return datetime.timedelta(hours=0 if dt.fold else 1)  # these are there twice
        return datetime.timedelta(hours=1 if begin <= local < end else 0)

    def tzname(self, dt: datetime.datetime | None) -> str:
        return "set"

    def fromutc(self, dt: datetime.datetime) -> datetime.datetime:
        naive = dt.replace(tzinfo=None)
        summer = datetime.datetime(2026, 3, 29, 1) <= naive < datetime.datetime(2026, 10, 25, 1)
        local = naive + datetime.timedelta(hours=2 if summer else 1)
        twice = datetime.datetime(2026, 10, 25, 1) <= naive < datetime.datetime(2026, 10, 25, 2)
        return local.replace(tzinfo=self, fold=int(twice))


def at(written: str, zone: datetime.tzinfo = UTC) -> float:
    return datetime.datetime.fromisoformat(written).replace(tzinfo=zone).timestamp()


NOW = at("2026-11-22T21:30")


def parse(value: t.Any, now: float = NOW, zone: datetime.tzinfo = UTC) -> cutover.Cutover:
    return cutover.parse(value, now, zone)


def times(value: str, now: float = NOW, zone: datetime.tzinfo = UTC) -> tuple[float | None, float | None]:
    plan = parse(value, now, zone)
    return plan["not_before"], plan["not_after"]


@pytest.mark.parametrize("word", ["now", "hold", " Now ", "HOLD"])
def test_words_without_a_time(word: str) -> None:
    plan = parse(word)
    assert (plan["kind"], plan["not_before"], plan["not_after"], plan["daily"]) == (word.strip().lower(), None, None, False)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("at=2026-11-23T02:00", "2026-11-23T02:00"),
        ("at=2026-11-23 02:00:30", "2026-11-23T02:00:30"),
        ("at=2026-11-23T02:00Z", "2026-11-23T02:00"),
        ("at=2026-11-23T02:00+01:00", "2026-11-23T01:00"),
        ("at=2026-11-23T02:00-0130", "2026-11-23T03:30"),
        (" AT = 2026-11-22T21:31 ", "2026-11-22T21:31"),
    ],
)
def test_a_time(written: str, expected: str) -> None:
    assert times(written) == (at(expected), None)


def test_a_time_without_an_offset_is_local() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=5))
    assert times("at=2026-11-23T05:00", zone=zone) == (at("2026-11-23T00:00"), None)
    assert times("window=02:00-03:00", zone=zone)[0] == at("2026-11-22T21:00")
    assert "+05:00" in parse("at=2026-11-23T05:00", zone=zone)["words"]


@pytest.mark.parametrize(
    ("written", "start", "end"),
    [
        ("window=22:00-04:00", "2026-11-22T22:00", "2026-11-23T04:00"),
        ("window=21:00-04:00", "2026-11-22T21:00", "2026-11-23T04:00"),  # we are in it
        ("window=21:00/21:30", "2026-11-23T21:00", "2026-11-23T21:30"),  # it closes now
        ("window=22:00-21:45", "2026-11-21T22:00", "2026-11-22T21:45"),  # we are in yesterday's
        ("window=2:00-4:00", "2026-11-23T02:00", "2026-11-23T04:00"),
        ("window=2026-11-23T02:00-2026-11-23T04:00", "2026-11-23T02:00", "2026-11-23T04:00"),
        ("window=2026-11-22T02:00/2026-11-23T04:00", "2026-11-22T02:00", "2026-11-23T04:00"),
        ("window=2026-11-23T02:00-01:00-2026-11-23T04:00-01:00", "2026-11-23T03:00", "2026-11-23T05:00"),
        ("window=2026-11-23T02:00Z - 2026-11-23T04:00Z", "2026-11-23T02:00", "2026-11-23T04:00"),
    ],
)
def test_a_window(written: str, start: str, end: str) -> None:
    assert times(written) == (at(start), at(end))
    assert parse(written)["daily"] is ("T" not in written)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("tomorrow", "one of now, hold, at="),
        ("now=1", "one of now"),
        ("hold=", "one of now"),
        ("at=", "one of now"),
        ("at", "one of now"),
        (True, "one of now"),
        (None, "one of now"),
        (["now"], "one of now"),
        ("at=soon", "'soon' is no date with a time"),
        ("at=2026-11-23", "no date with a time"),
        ("at=02:00", "no date with a time"),
        ("at=2026-13-23T02:00", "no date with a time"),
        ("at=2026-11-23T25:00", "no date with a time"),
        ("at=2026-11-23T02:00+99:00", "no date with a time"),
        ("at=2026-11-22T21:30", "that time is past, it is 2026-11-22 21:30:00+00:00 now"),
        ("at=2020-01-01T00:00", "that time is past"),
        ("window=22:00", "a window is two clock times"),
        ("window=22:00-later", "a window is two clock times"),
        ("window=24:00-04:00", "24:00 is no time of a day"),
        ("window=22:60-04:00", "22:60 is no time of a day"),
        ("window=22:00-22:00", "it begins and ends at the same time"),
        ("window=02:00-2:00", "it begins and ends at the same time"),
        ("window=2026-11-23T04:00/2026-11-23T02:00", "it ends before it begins"),
        ("window=2026-11-23T04:00/2026-11-23T04:00", "it ends before it begins"),
        ("window=2026-11-21T04:00/2026-11-22T02:00", "that window is past"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(value: t.Any, words: str) -> None:
    with pytest.raises(ValueError, match=".") as told:
        parse(value)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_a_short_window_that_the_clocks_leave_out_is_the_next_day() -> None:
    """From 02:30 to 03:15 there is no time on the day on which 02:00 is 03:00."""
    start, end = times("window=02:30-03:15", at("2026-03-29T01:00", Set()), Set())
    assert (start, end) == (at("2026-03-30T02:30", Set()), at("2026-03-30T03:15", Set()))


clocks = st.tuples(st.integers(0, 23), st.integers(0, 59))
instants = st.one_of(
    st.floats(at("2026-03-27T00:00"), at("2026-04-01T00:00")),
    st.floats(at("2026-10-23T00:00"), at("2026-10-28T00:00")),
    st.floats(at("2026-01-01T00:00"), at("2026-12-31T00:00")),
)


@given(clocks, clocks, instants, st.sampled_from([UTC, Set(), datetime.timezone(datetime.timedelta(hours=-9, minutes=-30))]))
def test_a_daily_window_is_the_first_that_has_not_closed(first: tuple[int, int], last: tuple[int, int], now: float, zone: datetime.tzinfo) -> None:
    written = f"window={first[0]:02}:{first[1]:02}-{last[0]:02}:{last[1]:02}"
    if first == last:
        with pytest.raises(ValueError, match="never comes"):
            parse(written, now, zone)
        return
    plan = parse(written, now, zone)
    start, end = plan["not_before"], plan["not_after"]
    assert start is not None
    assert end is not None
    assert start < end
    assert end > now  # not past
    assert start - now <= 2 * DAY + HOUR  # a day that the clocks leave out is passed over
    assert end - start <= DAY + HOUR
    shown = datetime.datetime.fromtimestamp(end, UTC).astimezone(zone)
    # Where the clock time does not exist, it is an hour later.
    assert (shown.hour, shown.minute) in (last, ((last[0] + 1) % 24, last[1]))
    assert not cutover.is_over(plan, now)
    assert cutover.is_over(plan, end)
    # Asked anew once it has closed, it is another one.
    assert times(written, end, zone)[1] != end


@given(st.text(max_size=40))
def test_no_text_is_taken_for_what_it_is_not(written: str) -> None:
    try:
        plan = parse(written)
    except ValueError as exc:
        assert str(exc)
    else:
        assert plan["kind"] in ("now", "hold", "at", "window")


@pytest.mark.parametrize("word", ["hold", "at=2026-11-23T02:00", "window=22:00-04:00"])
def test_only_a_precopy_waits(word: str) -> None:
    (sentence,) = cutover.contradictions({"precopy": " Never", "cutover": word})
    assert "exclude each other" in sentence
    for precopy in ("auto", "always", "", None):
        assert cutover.contradictions({"precopy": precopy, "cutover": word}) == []
    kind = parse(word)["kind"]
    (sentence,) = cutover.refusals(kind, ["the server is off"])
    assert sentence.startswith(f"cutover={kind} was asked for, and cannot be")
    assert sentence.endswith("the server is off")
    assert cutover.refusals(kind, []) == []


def test_now_goes_with_everything() -> None:
    for word in ("now", " NOW ", "", None):
        assert cutover.contradictions({"precopy": "never", "cutover": word}) == []
    assert cutover.refusals("now", ["the server is off"]) == []


def test_held_and_idle() -> None:
    hold = {"cutover": "hold", "since": "2026-01-01T00:00:00Z", "epoch": 1, "options": {}}
    held: t.Any = a_migration(1, "pre-migrating", hold=hold)
    assert cutover.is_held(held)
    assert cutover.is_idle(held)
    taken_up: t.Any = {**held, "epoch": 2}
    assert cutover.is_held(taken_up)
    assert not cutover.is_idle(taken_up)
    assert not cutover.is_held(t.cast("t.Any", a_migration(1, "pre-migrating", hold=None)))
    assert not cutover.is_held(t.cast("t.Any", a_migration(1, "migrating", hold=hold)))
    words = cutover.held_words(held)
    assert words == (
        "precopy in step, held since 2026-01-01T00:00:00Z: costs: every write of the guest waits for b; 1.0 GiB of disk and 1024 MiB of memory are kept "
        "free for it on b"
    )
