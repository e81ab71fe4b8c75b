# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controllers that are killed (SIGKILL, no rescue, no always) at a point of a playbook, and the run that takes up what they left."""

from __future__ import annotations

import concurrent.futures
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import pytest
from integration import laws

from lab import DiskSpec
from lab.shell import wait_for

if TYPE_CHECKING:
    from integration.conftest import World
    from integration.runs import Run

    from lab.state import GuestState

AT_ONCE = 2
Sight = Callable[["World", "GuestState"], bool]


@dataclass(frozen=True)
class Point:
    """Where the controller is killed, and what is done then."""

    name: str
    task: str
    #: `start` or `end` of the task, so many seconds after its start, or what is seen on the nodes after its start.
    when: Literal["start", "end"] | float | Sight
    then: Literal["again", "recover"]
    #: Where the guest must be after that.
    outcome: Literal["moved", "back"] = "moved"
    disk: DiskSpec = field(default_factory=DiskSpec)
    shutdown: Literal["acpi", "ignore"] = "acpi"
    variables: tuple[tuple[str, Any], ...] = ()
    workers: bool = True
    #: Whether a copy with all that the guest wrote must be there at every instant; else its disk was lost before.
    survives: bool = True


P = TypeVar("P", bound=Point)


@dataclass
class Killed(Generic[P]):
    """A guest whose controller was killed."""

    point: P
    guest: GuestState
    since: float = 0.0
    status: str = "none"
    problem: str = field(default="", repr=False)
    #: All that it has written, and must have in the end.
    markers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.markers = self.markers or [self.guest.name]

    def check(self) -> None:
        """It was killed as planned, and the run that took it up had nothing against it."""
        if self.problem:
            pytest.fail(self.problem)


def kill_at(world: World, point: Point, guest: GuestState, run: Run) -> None:
    """Let the run come to the point, and kill its controller there."""
    if point.when in ("start", "end"):
        run.wait_for(str(point.when), point.task)
    else:
        run.wait_for("start", point.task)
        if isinstance(point.when, float):
            time.sleep(point.when)
        elif callable(point.when):
            sight = point.when
            wait_for(f"{point.name} of {guest.name}", lambda: sight(world, guest) or run.process.poll() is not None, 120)
    assert run.process.poll() is None, f"the run was over before it could be killed:\n{run.output()}"
    run.kill(point.workers)


def strike(world: World, playbook: str, point: P, guest: GuestState, markers: list[str] | None = None, **variables: Any) -> Killed[P]:
    """Run a playbook for one guest and kill its controller at the point; then look whether a good copy is there."""
    killed = Killed(point, guest, time.monotonic(), markers=markers or [])
    try:
        run = world.run(playbook, server=guest.name, **variables, **dict(point.variables))
        try:
            kill_at(world, point, guest, run)
        finally:
            run.kill()
        rows = laws.records(world.lab, guest)
        killed.status = rows[-1]["status"] if rows else "none"
        if point.survives:
            laws.check_good_copy(world.lab, guest, killed.markers)
    except Exception as exc:  # is told by the test of this point
        killed.problem = f"{type(exc).__name__}: {exc}"
    return killed


def strike_all(world: World, jobs: list[tuple[Any, ...]]) -> list[Killed[Any]]:
    """Some at a time."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda job: strike(world, *job[:3], **job[3]), jobs))


def take_up(world: World, playbook: str, killed: Sequence[Killed[Any]], **variables: Any) -> None:
    """One run for all that were killed; what it said goes to each of them that it failed."""
    chosen = [one for one in killed if not one.problem]
    if not chosen:
        return
    outcome = world.play(playbook, server=",".join(one.guest.name for one in chosen), **variables)
    for one in chosen:
        if outcome.code != 0 and not outcome.well(one.guest.name):
            one.problem = f"{playbook} failed after a kill in status {one.status}:\n{outcome.words_of(one.guest.name)}"


def sampled(points: list[P], every: int = 6) -> list[P]:
    """Some points: all of them take longer than each change has time for. COLDMOVE_NIGHTLY=1 asks for all (`make nightly`)."""
    return points if os.environ.get("COLDMOVE_NIGHTLY") else points[::every]


def chosen_points(request: pytest.FixtureRequest, points: list[P]) -> list[P]:
    """With `pytest -k` only what it chose is made."""
    names = {item.callspec.params.get("name") for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")}
    return [point for point in points if point.name in names]
