# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cutover that waits: for a command, for a time, for a window. The guest runs and writes meanwhile, and nobody needs to be there."""

from __future__ import annotations

import datetime
import json
import time
from typing import TYPE_CHECKING

import pytest
from integration import laws
from integration.test_precopy import STEP, check_no_mirror, check_writes, end, writing

from lab.shell import wait_for

if TYPE_CHECKING:
    from integration.conftest import World

    from lab.state import GuestState

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.nightly]

NODES = ("node1", "node2")


def hold(world: World, guest: GuestState, **variables: object) -> None:
    """A cold_migrate to node2 that ends with its precopy in step."""
    outcome = world.play("cold_migrate", server=guest.name, target_host="node2", cutover="hold", **variables).check()
    assert "precopy in step, held since" in outcome.output
    assert f"coldmove.libvirt.cutover -e server={guest.name}" in outcome.output
    assert outcome.migrations[0]["held_since"]
    row = laws.record(world.lab, guest)
    assert (row["status"], json.loads(row["hold"])["cutover"]) == ("pre-migrating", "hold")


def check_writes_on(world: World, guest: GuestState) -> None:
    """The guest gets further with its writes on its source."""
    before = world.lab.acked("node1", guest)
    wait_for("the guest's writes", lambda: world.lab.acked("node1", guest) > before + 5, 15)


def check_untouched(world: World, guest: GuestState, begun: float) -> None:
    """The guest was never stopped, and nothing of the precopy is left anywhere."""
    assert world.watch.stops_since(guest, begun) == 0
    laws.check_back(world.lab, guest, "node1", [guest.name])
    check_no_mirror(world, guest)
    laws.check_quiet(world.lab, *NODES)


def moment(seconds: float) -> str:
    """An instant from now, as an operator writes it."""
    return datetime.datetime.fromtimestamp(time.time() + seconds, datetime.UTC).isoformat(timespec="seconds")


def test_hold_needs_nobody_until_it_is_cut_over(world: World) -> None:
    """Its run has ended, a run that was to cut it over is killed, recover leaves it alone; then it is completed with all that the guest was told."""
    with writing(world, "held") as guest:
        begun = time.monotonic()
        hold(world, guest)
        check_writes_on(world, guest)
        before = laws.record(world.lab, guest)
        again = world.play("cold_migrate", server=guest.name, target_host="node2", cutover="hold").check()
        assert again.changed() == 0
        world.play("recover").check().output.index("left alone")
        world.play("cold_migrate", server=guest.name, target_host="node3").refused("is held: cancel that first")
        assert laws.record(world.lab, guest) == before
        shown = world.play("status", server=guest.name).check().output
        assert "precopy in step, held since" in shown
        assert "every write of the guest waits for node2" in shown
        assert f"coldmove.libvirt.cancel -e server={guest.name}" in shown

        waiting = world.run("cutover", server=guest.name, cutover=f"at={moment(300)}")
        waiting.wait_for("start", STEP)
        waiting.kill()
        assert "left alone" in world.play("recover", server=guest.name).check().output
        check_writes_on(world, guest)
        assert world.watch.stops_since(guest, begun) == 0

        world.play("cutover", server=guest.name).check()
        told = world.lab.acked("node1", guest)
        row = laws.check_moved(world.lab, guest, [guest.name])
        assert row["hold"] is None
        assert len(laws.records(world.lab, guest)) == 1
        check_writes(world, guest, told)
        assert world.play("cutover", server=guest.name).check().changed() == 0
        end(world, guest)


def test_cancel_leaves_nothing_but_the_guest(world: World) -> None:
    """The guest was never stopped; a second cancel changes nothing, and there is nothing to be cut over any more."""
    with writing(world, "cancelled") as guest:
        begun = time.monotonic()
        hold(world, guest)
        world.play("cancel", server=guest.name).check()
        check_untouched(world, guest, begun)
        assert laws.record(world.lab, guest)["error"].startswith("cancelled by ")
        assert world.play("cancel", server=guest.name).check().changed() == 0
        world.play("cutover", server=guest.name).refused("there is no precopy that could be cut over")


def test_cancel_of_a_run(world: World) -> None:
    """One that is at work is left alone; one that was killed is taken back."""
    with writing(world, "called-off", 40) as guest:
        begun = time.monotonic()
        run = world.run("cold_migrate", server=guest.name, target_host="node2", precopy="auto", bandwidth_limit="2M")
        run.wait_for("start", STEP)
        world.play("cancel", server=guest.name).refused("another run is at work on it")
        run.kill()
        world.play("cancel", server=guest.name).check()
        check_untouched(world, guest, begun)


def test_cancel_does_not_start_what_its_owner_has_shut_down(world: World) -> None:
    """Nor does recover, which is asked to take back what is lost."""
    with writing(world, "shut-down") as guest:
        for verb in ("cancel", "recover"):
            hold(world, guest)
            world.lab.virsh("node1", "destroy", guest.name)
            world.play(verb, server=guest.name).check()
            assert world.lab.running_on(guest) == []
            assert world.lab.defined_on(guest) == ["node1"]
            laws.check_quiet(world.lab, *NODES)
            row = laws.record(world.lab, guest)
            assert row["status"] == "error"
            laws.check_clean(world.lab, "node2", guest, row)
            world.lab.start_guest("node1", guest)


def test_cutover_at_a_time(world: World) -> None:
    """Not before it, and not long after."""
    with writing(world, "at-night") as guest:
        due = time.monotonic() + 45
        world.play("cold_migrate", server=guest.name, target_host="node2", cutover=f"at={moment(45)}").check()
        stopped = next(seen for seen, nodes in world.watch.history[guest.uuid] if not nodes and seen > due - 45)
        assert due - 1 < stopped < due + 20
        told = world.lab.acked("node1", guest)
        laws.check_moved(world.lab, guest, [guest.name])
        check_writes(world, guest, told)
        end(world, guest)


def test_window_that_closes_before_the_disks_are_in_step(world: World) -> None:
    """The guest is not stopped outside of it."""
    with writing(world, "too-late") as guest:
        begun = time.monotonic()
        window = f"window={moment(1)}/{moment(18)}"
        world.play("cold_migrate", server=guest.name, target_host="node2", bandwidth_limit="1M", cutover=window).refused("that window has closed")
        check_untouched(world, guest, begun)


def test_what_has_come_in_the_way_is_found_before_the_stop(world: World) -> None:
    """All reasons at once, and the guest goes on where it is."""
    with writing(world, "changed") as guest:
        begun = time.monotonic()
        hold(world, guest)
        world.lab.virsh("node1", "desc", guest.name, "--config", "somebody else wrote this")
        world.play("compute_service", host="node2", state="disabled", reason="broken fan").check()
        try:
            world.play("cutover", server=guest.name).refused("cannot be cut over any more", "broken fan", "its definition has been changed on node1")
        finally:
            world.play("compute_service", host="node2", state="enabled").check()
        check_untouched(world, guest, begun)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"cutover": "tomorrow"}, "cutover is 'tomorrow': it must be one of now, hold"),
        ({"cutover": "at=2020-01-01T00:00"}, "that time is past"),
        ({"cutover": "window=02:00-02:00"}, "that window never comes"),
        ({"cutover": "hold", "precopy": "never"}, "exclude each other"),
    ],
)
def test_words_that_cannot_be_meant(world: World, variables: dict[str, str], words: str) -> None:
    """Refused before anything is looked at."""
    world.play("cold_migrate", server="nobody", **variables).refused(words)
