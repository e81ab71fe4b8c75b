# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way is safe: the whole decision table against the laws, and the cases by name."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import recovery
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import ACTIVE, STATUSES
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import a_migration

FILES = [
    {"id": "vda", "kind": "disk", "source_path": "/i/x", "dest_path": "/i/x"},
    {"id": "vdb", "kind": "disk", "source_path": "/i/y", "dest_path": "/j/y"},
]
NAMES = ["missing", "source", "held", "temp", "final", "held+source", "final+temp"]


def record(status: str = "migrating", **more) -> dict:
    """A record with two files."""
    return a_migration(1, status, **{"files": FILES, **more})


def state(
    domain: str = "absent", files: str | dict = "missing", held: bool = False, started: bool = False, waiting: bool = False, proof: str | None = None
) -> dict:
    """What a node says. ``waiting``: the server was started paused, and nobody has let it go on."""
    names = files if isinstance(files, dict) else {file["id"]: files for file in FILES}
    said = {"domain": domain, "held": held, "started": started, "starting": started or waiting, "files": names, "job": None, "exports": 0}
    return {**said, "waiting": waiting and domain == "running", "proof": proof}


SOURCE_OFF = state("defined", "source")
SOURCE_ON = state("running", "source")
HELD = state("absent", "held", held=True)
GONE = state()
TEMP = state("absent", "temp")
DEST_OFF = state("defined", "final")
DEST_ON = state("running", "final", started=True)

node_states = st.one_of(
    st.none(),
    st.builds(
        state,
        domain=st.sampled_from(["absent", "defined", "running"]),
        files=st.fixed_dictionaries({"vda": st.sampled_from(NAMES), "vdb": st.sampled_from(NAMES)}),
        held=st.booleans(),
        started=st.booleans(),
        waiting=st.booleans(),
        proof=st.sampled_from([None, "begun", "done", "failed", "impossible"]),
    ),
)
records = st.builds(
    lambda status, power, pending: record(status, old_power_state=power, pending_hosts=pending),
    st.sampled_from(STATUSES),
    st.sampled_from(["running", "shutoff", None]),
    st.lists(st.sampled_from(["a", "b"]), unique=True),
)


def source_has_all(seen: dict) -> bool:
    """The source's copy is complete, by what was seen."""
    return seen["domain"] == "running" or all({"source", "held"} & set(seen["files"][file["id"]].split("+")) for file in FILES)


def dest_has_all(seen: dict) -> bool:
    """The dest's copy is complete: the first file has one path on both nodes, so dest calls it the source's."""
    names = {file["id"]: set(seen["files"][file["id"]].split("+")) for file in FILES}
    return seen["domain"] == "running" or (bool({"final", "source"} & names["vda"]) and "final" in names["vdb"])


def check_laws(migration: dict, source: dict | None, dest: dict | None, decision: dict, off: tuple[str, ...] = ()) -> None:
    """What no decision may ever do. A node that is ``off`` is a (the source) or b."""
    steps = decision["steps"]
    source_is_off, dest_is_off = source is None and "a" in off, dest is None and "b" in off
    # Law 1: a guest is started on one node only if the other one was seen not to run it, or provably never could.
    if "start_source" in steps:
        assert source is not None
        assert dest is not None or migration["status"] in recovery.BEFORE_START or (dest_is_off and migration["status"] == "reverting")
        if dest is not None and dest["domain"] != "absent":
            assert "withdraw_dest" in steps[: steps.index("start_source")]
            assert dest["domain"] != "running" or migration["status"] == "reverting"
    if "start_dest" in steps or "define_dest" in steps:
        assert dest is not None
        assert source["domain"] == "absent" if source is not None else source_is_off and dest_has_all(dest)
    if source and dest and source["domain"] == dest["domain"] == "running" and migration["status"] in ACTIVE:
        assert decision["decision"] == "blocked"
    # Law 2: a copy is deleted only if the other one was seen to be complete, or nobody's any more.
    if "clean_dest" in steps:
        assert dest is not None
        if decision["decision"] == "clean_gone":
            assert source is not None
            assert source["domain"] == dest["domain"] == "absent"
            assert migration["status"] in recovery.BEFORE_HOLD or all(name == "missing" for name in dest["files"].values())
        elif decision["decision"] == "clean_pending":
            assert dest["domain"] == "absent" or ("withdraw_dest" in steps and dest["domain"] == "defined" and migration["status"] == "reverted")
            assert source is not None
            assert source["domain"] != "absent"
        elif source_is_off:
            assert migration["status"] in recovery.BEFORE_HOLD
            assert dest["domain"] == "absent"
        else:
            assert source is not None
            assert source_has_all(source)
            # Before the files go, the source is back in service.
            assert source["domain"] == "running" or steps.index("restore_source") < steps.index("clean_dest")
    if "delete_held" in steps:
        assert source is not None
        assert source["domain"] == "absent"
        assert dest is not None
        if decision["decision"] == "resume_confirm":
            assert dest["domain"] != "absent"
            assert dest_has_all(dest)
        elif decision["decision"] == "clean_gone":
            assert dest["domain"] == "absent"
            assert dest_has_all(dest) or all(name == "missing" for name in dest["files"].values())
        else:
            assert decision["decision"] == "clean_pending"
            assert dest["domain"] != "absent"
    # A silent node is never given a step.
    if dest is None:
        assert not {"clean_dest", "withdraw_dest", "define_dest", "start_dest"} & set(steps)
    if source is None:
        assert not {"restore_source", "start_source", "delete_held"} & set(steps)
    # A decision that does nothing has no steps; any other closes the record last.
    assert bool(steps) == (decision["decision"] not in ("nothing", "blocked"))
    assert not steps or (steps[-1] == "close" and steps.count("close") == 1)
    assert decision["reason"]


@given(records, node_states, node_states)
@settings(max_examples=1000)
def test_no_decision_breaks_a_law(migration, source, dest):
    check_laws(migration, source, dest, recovery.decide(migration, source, dest))


def test_the_whole_table_against_the_laws():
    """Every status with every pair of states in which both files share one fate: no luck needed."""
    ends = [None, *(state(*parts) for parts in itertools.product(["absent", "defined", "running"], NAMES, [False, True], [False, True]))]
    for status, power, pending in itertools.product(STATUSES, ["running", "shutoff"], [[], ["a"], ["b"], ["a", "b"]]):
        if pending and status in ACTIVE:
            continue
        migration = record(status, old_power_state=power, pending_hosts=pending)
        for source, dest in itertools.product(ends, ends):
            check_laws(migration, source, dest, recovery.decide(migration, source, dest))
        for off, end in itertools.product([("a",), ("b",), ("a", "b")], ends):
            for source, dest in ((None, end), (end, None)):
                check_laws(migration, source, dest, recovery.decide(migration, source, dest, off=off), off)


IN_FLIGHT = recovery.IN_FLIGHT
BEFORE = recovery.BEFORE_START


@pytest.mark.parametrize(
    ("statuses", "power", "source", "dest", "expected", "steps"),
    [
        # The guest has never stopped: dest is cleaned.
        (IN_FLIGHT, "running", SOURCE_ON, GONE, "roll_back", ["clean_dest", "close"]),
        (IN_FLIGHT, "running", SOURCE_ON, TEMP, "roll_back", ["clean_dest", "close"]),
        # Stopped, not held; held; held with dest defined.
        (IN_FLIGHT, "running", SOURCE_OFF, TEMP, "roll_back", ["restore_source", "start_source", "clean_dest", "close"]),
        (["migrating", "post-migrating"], "running", HELD, TEMP, "roll_back", ["restore_source", "start_source", "clean_dest", "close"]),
        (["migrating", "post-migrating"], "running", HELD, DEST_OFF, "roll_back", ["withdraw_dest", "restore_source", "start_source", "clean_dest", "close"]),
        (["migrating"], "shutoff", HELD, TEMP, "roll_back", ["restore_source", "clean_dest", "close"]),
        (IN_FLIGHT, "shutoff", SOURCE_OFF, TEMP, "roll_back", ["restore_source", "clean_dest", "close"]),
        # An interrupted hold: the domain is undefined, one file has its held name.
        (["migrating", "post-migrating"], "running", state("absent", {"vda": "held", "vdb": "source"}), TEMP, "roll_back", None),
        # The commit point is the first start on dest.
        (["post-migrating"], "running", HELD, DEST_ON, "finish", ["close"]),
        (["post-migrating"], "running", None, DEST_ON, "finish", ["close"]),
        # Started, but its node lost power before the journal said so.
        (["post-migrating"], "running", HELD, state("running", "final"), "finish", ["close"]),
        (["post-migrating"], "running", HELD, state("defined", "final", started=True), "finish", ["start_dest", "close"]),
        (["post-migrating"], "running", HELD, state("absent", "final", started=True), "finish", ["define_dest", "start_dest", "close"]),
        (["post-migrating"], "running", None, state("defined", "final", started=True), "blocked", []),
        (["post-migrating"], "running", HELD, state("absent", "missing", started=True), "roll_back", None),
        # A stopped server is done when it is defined on dest.
        (["post-migrating"], "shutoff", HELD, DEST_OFF, "finish", ["close"]),
        (["post-migrating"], "shutoff", HELD, TEMP, "roll_back", ["restore_source", "clean_dest", "close"]),
        (["post-migrating"], "shutoff", SOURCE_ON, DEST_OFF, "blocked", []),
        # The way back was taken and interrupted.
        (["post-migrating"], "running", SOURCE_ON, state("absent", "final", started=True), "roll_back", ["clean_dest", "close"]),
        (
            ["post-migrating"],
            "running",
            SOURCE_OFF,
            state("absent", "final", started=True),
            "roll_back",
            ["restore_source", "start_source", "clean_dest", "close"],
        ),
        # Somebody else's doing.
        (BEFORE, "running", HELD, state("running", "final"), "blocked", []),
        (IN_FLIGHT, "running", SOURCE_ON, DEST_ON, "blocked", []),
        (IN_FLIGHT, "running", SOURCE_OFF, DEST_ON, "blocked", []),
        (["post-migrating"], "running", SOURCE_ON, state("defined", "final", started=True), "blocked", []),
        # Silence. Case D: the source lost its power.
        (IN_FLIGHT, "running", None, TEMP, "blocked", []),
        (BEFORE, "running", SOURCE_ON, None, "roll_back", ["close"]),
        (BEFORE, "running", SOURCE_OFF, None, "roll_back", ["restore_source", "start_source", "close"]),
        (["post-migrating"], "running", HELD, None, "blocked", []),
        (["post-migrating"], "running", SOURCE_ON, None, "blocked", []),
        (IN_FLIGHT, "running", None, None, "blocked", []),
        # Nothing good on the source: keep what dest has.
        (["migrating", "post-migrating"], "running", GONE, TEMP, "blocked", []),
        (["migrating", "post-migrating"], "running", state("defined", "missing"), TEMP, "blocked", []),
        # Undefined by its owner before it was ever held.
        (["accepted", "pre-migrating"], "running", state("absent", "source"), TEMP, "clean_gone", ["clean_dest", "close"]),
        # Finished.
        (["finished"], "running", HELD, DEST_ON, "nothing", []),
        (["finished"], "running", HELD, DEST_OFF, "nothing", []),
        (["finished"], "running", None, DEST_ON, "nothing", []),
        (["finished"], "running", HELD, None, "nothing", []),
        (["finished"], "running", SOURCE_OFF, DEST_ON, "blocked", []),
        (["finished"], "running", SOURCE_ON, DEST_ON, "blocked", []),
        # Case 22: undefined by its owner. With its disks, or without.
        (["finished", "confirming"], "running", HELD, GONE, "clean_gone", ["clean_dest", "delete_held", "close"]),
        (["finished", "confirming"], "running", HELD, state("absent", "final"), "clean_gone", ["delete_held", "close"]),
        (["finished"], "running", HELD, state("absent", {"vda": "final", "vdb": "missing"}), "blocked", []),
        # Confirm.
        (["confirming"], "running", HELD, DEST_ON, "resume_confirm", ["delete_held", "close"]),
        (["confirming"], "running", GONE, DEST_OFF, "resume_confirm", ["delete_held", "close"]),
        (["confirming"], "running", HELD, state("defined", {"vda": "final", "vdb": "missing"}), "blocked", []),
        (["confirming"], "running", SOURCE_OFF, DEST_ON, "blocked", []),
        (["confirming"], "running", None, DEST_ON, "blocked", []),
        (["confirming"], "running", HELD, None, "blocked", []),
        # Revert.
        (["reverting"], "running", HELD, DEST_ON, "resume_revert", ["withdraw_dest", "restore_source", "start_source", "clean_dest", "close"]),
        (["reverting"], "running", HELD, DEST_OFF, "resume_revert", ["withdraw_dest", "restore_source", "start_source", "clean_dest", "close"]),
        (["reverting"], "shutoff", HELD, GONE, "resume_revert", ["restore_source", "clean_dest", "close"]),
        (["reverting"], "running", SOURCE_ON, GONE, "resume_revert", ["clean_dest", "close"]),
        (["reverting"], "running", GONE, DEST_ON, "blocked", []),
        (["reverting"], "running", HELD, None, "blocked", []),
        (["reverting"], "running", SOURCE_ON, DEST_ON, "blocked", []),
        # Ended.
        (["confirmed", "reverted", "error", "failed"], "running", SOURCE_ON, DEST_ON, "nothing", []),
    ],
)
def test_the_table_by_name(statuses, power, source, dest, expected, steps):
    for status in statuses:
        decision = recovery.decide(record(status, old_power_state=power), source, dest)
        assert decision["decision"] == expected, (status, decision)
        assert steps is None or decision["steps"] == steps, status


def test_running_twice_is_loud():
    reason = recovery.decide(record("migrating"), SOURCE_ON, DEST_ON)["reason"]
    assert "BOTH a AND b" in reason


def test_a_silent_dest_is_noted_for_later():
    assert recovery.decide(record("migrating"), SOURCE_ON, None)["pending_hosts"] == ["b"]


def test_a_move_without_a_dest_touches_none():
    decision = recovery.decide(record("accepted", dest=None, files=[]), SOURCE_ON, None)
    assert (decision["decision"], decision["steps"], decision["pending_hosts"]) == ("roll_back", ["close"], [])


@pytest.mark.parametrize(
    ("source", "dest", "seen_on", "expected"),
    [
        (SOURCE_ON, TEMP, "", "clean_pending"),
        (SOURCE_ON, None, "", "blocked"),
        (SOURCE_ON, DEST_OFF, "", "blocked"),
        (None, TEMP, "", "blocked"),
        (None, TEMP, "c", "clean_pending"),
        (GONE, TEMP, "", "blocked"),
        (GONE, TEMP, "c", "clean_pending"),
        (GONE, TEMP, "b", "blocked"),
    ],
)
def test_what_an_ended_migration_left_on_dest(source, dest, seen_on, expected):
    decision = recovery.decide(record("error", pending_hosts=["b"]), source, dest, seen_on)
    assert decision["decision"] == expected
    assert decision["pending_hosts"] == ([] if expected == "clean_pending" else ["b"])


def test_what_cannot_be_cleaned_yet_stays_noted():
    decision = recovery.decide(record("error", pending_hosts=["a", "b"]), SOURCE_ON, TEMP)
    assert (decision["steps"], decision["pending_hosts"]) == (["clean_dest", "close"], ["a"])


def test_evacuations_and_same_host_moves_are_not_guessed_at():
    assert recovery.decide(record("accepted", migration_type="evacuation"), SOURCE_ON, TEMP)["decision"] == "blocked"
    assert recovery.decide(record("migrating", dest="a"), SOURCE_ON, SOURCE_ON)["decision"] == "blocked"


# --- evacuations: the source is proven off, or comes back


def evacuation(status: str = "pre-migrating", **more) -> dict:
    """An evacuation from a to b of two files that are made on b."""
    return record(status, migration_type="evacuation", **more)


ACCEPTED = ["accepted"]
PREPARED = ["pre-migrating"]
OPEN = ["accepted", "pre-migrating"]
#: Its start was begun, and whoever began it was killed before it could say how it went.
BEGUN = {**state("running", "final"), "starting": True}


@pytest.mark.parametrize(
    ("statuses", "power", "source", "dest", "expected", "steps"),
    [
        # The source is silent as a rule: it is off.
        (OPEN, "running", None, GONE, "roll_back", ["clean_dest", "close"]),
        (OPEN, "shutoff", None, TEMP, "roll_back", ["clean_dest", "close"]),
        (PREPARED, "running", None, DEST_OFF, "roll_back", ["withdraw_dest", "clean_dest", "close"]),
        (PREPARED, "shutoff", None, state("defined", {"vda": "final", "vdb": "temp"}), "roll_back", ["withdraw_dest", "clean_dest", "close"]),
        # The commit point is the first start on the dest; of a server that was off, its definition there.
        (PREPARED, "running", None, DEST_ON, "finish", ["start_dest", "close"]),
        (PREPARED, "running", None, BEGUN, "finish", ["start_dest", "close"]),
        (PREPARED, "running", None, state("defined", "final", started=True), "finish", ["start_dest", "close"]),
        (PREPARED, "running", None, state("absent", "final", started=True), "finish", ["define_dest", "start_dest", "close"]),
        (PREPARED, "shutoff", None, DEST_OFF, "finish", ["close"]),
        (PREPARED, "shutoff", None, state("running", "final", started=True), "finish", ["close"]),
        # A start that was begun, and a guest that is off: it has not come to run.
        (PREPARED, "running", None, {**DEST_OFF, "starting": True}, "roll_back", ["withdraw_dest", "clean_dest", "close"]),
        # It has run there, so what is left of it there is the newest.
        (PREPARED, "running", None, state("defined", {"vda": "final", "vdb": "missing"}, started=True), "blocked", []),
        (PREPARED, "running", None, state("absent", "missing", started=True), "blocked", []),
        # Somebody else's doing.
        (PREPARED, "running", None, state("running", "final"), "blocked", []),
        (ACCEPTED, "running", None, state("running", "final"), "blocked", []),
        (ACCEPTED, "shutoff", None, state("defined", "missing"), "blocked", []),
        # Silence of the dest.
        (OPEN, "running", None, None, "blocked", []),
        (OPEN, "running", SOURCE_OFF, None, "blocked", []),
        # The source is back in the middle. Nothing of it is touched, its guard starts nothing.
        (OPEN, "running", SOURCE_OFF, TEMP, "roll_back", ["clean_dest", "close"]),
        (PREPARED, "running", SOURCE_OFF, DEST_ON, "finish", ["start_dest", "close"]),
        (PREPARED, "running", SOURCE_OFF, DEST_OFF, "roll_back", ["withdraw_dest", "clean_dest", "close"]),
        # It is up, and runs the server: it was not off.
        (OPEN, "running", SOURCE_ON, TEMP, "blocked", []),
        (PREPARED, "running", SOURCE_ON, state("defined", "final", started=True), "blocked", []),
        (PREPARED, "shutoff", SOURCE_ON, DEST_OFF, "blocked", []),
        (PREPARED, "running", SOURCE_ON, DEST_ON, "blocked", []),
        # Ended, and nothing to clean.
        (["failed", "completed", "error", "done"], "running", SOURCE_OFF, DEST_ON, "nothing", []),
    ],
)
def test_the_table_of_an_evacuation_by_name(statuses, power, source, dest, expected, steps):
    for status in statuses:
        decision = recovery.decide(evacuation(status, old_power_state=power), source, dest)
        assert (decision["decision"], decision["steps"]) == (expected, steps), (status, decision)


def test_a_finished_evacuation_leaves_its_source_to_be_cleaned_and_one_that_came_to_nothing_does_not():
    assert recovery.decide(evacuation(), None, DEST_ON)["pending_hosts"] == ["a"]
    assert recovery.decide(evacuation(old_power_state="shutoff"), None, DEST_OFF)["pending_hosts"] == ["a"]
    assert recovery.decide(evacuation(), None, TEMP)["pending_hosts"] == []


def test_an_evacuation_without_a_dest_cleans_none():
    assert recovery.decide(evacuation("accepted", dest=None, files=[]), None, None)["steps"] == ["close"]


def returned(status: str = "done", **more) -> dict:
    """An evacuation whose source is still to be cleaned."""
    return evacuation(status, pending_hosts=["a"], **more)


@pytest.mark.parametrize(
    ("source", "dest", "seen_on", "expected"),
    [
        (SOURCE_OFF, DEST_ON, "", "clean_returned"),
        (SOURCE_OFF, DEST_OFF, "", "clean_returned"),
        (GONE, DEST_ON, "", "clean_returned"),  # killed before, or by hand
        (state("absent", "source"), DEST_ON, "", "clean_returned"),
        # It has moved on since.
        (SOURCE_OFF, GONE, "c", "clean_returned"),
        (SOURCE_OFF, None, "c", "clean_returned"),
        # What runs is never touched, and what does not answer cannot be.
        (SOURCE_ON, GONE, "", "blocked"),
        (SOURCE_ON, DEST_OFF, "c", "blocked"),
        (SOURCE_ON, DEST_ON, "", "blocked"),
        (None, DEST_ON, "", "blocked"),
        (None, DEST_ON, "c", "blocked"),
        # Not seen to be well anywhere: what is there may be all that there is.
        (SOURCE_OFF, None, "", "blocked"),
        (SOURCE_OFF, None, "a", "blocked"),
        (SOURCE_OFF, state("defined", {"vda": "final", "vdb": "missing"}), "", "blocked"),
        (SOURCE_OFF, GONE, "", "blocked"),
        (SOURCE_OFF, GONE, "a", "blocked"),
        (state("absent", {"vda": "missing", "vdb": "source"}), GONE, "", "blocked"),
        # Its owner removed it from the dest, and nothing of its content is on the source.
        (state("defined", "missing"), GONE, "", "clean_returned"),
        (GONE, GONE, "", "clean_returned"),
    ],
)
def test_a_node_that_returns(source, dest, seen_on, expected):
    decision = recovery.decide(returned(), source, dest, seen_on)
    assert decision["decision"] == expected, decision
    assert decision["steps"] == (["clean_source", "close"] if expected == "clean_returned" else [])
    assert decision["pending_hosts"] == ([] if expected == "clean_returned" else ["a"])


def test_what_may_be_the_last_copy_is_named():
    reason = recovery.decide(returned(), SOURCE_OFF, GONE)["reason"]
    assert "/i/x, /i/y" in reason
    assert "same command again" in reason


def test_disks_that_all_survived_leave_only_a_definition_behind():
    assert recovery.decide(returned(files=[]), state("defined"), GONE)["decision"] == "clean_returned"
    assert recovery.decide(returned(files=[]), SOURCE_OFF, DEST_OFF)["decision"] == "clean_returned"


def check_evacuation_laws(migration: dict, source: dict | None, dest: dict | None, seen_on: str, decision: dict) -> None:
    """What no decision about an evacuation may ever do."""
    steps = decision["steps"]
    # Nothing is ever started or put back on the node that was given up, and nothing is called a held copy.
    assert not {"restore_source", "start_source", "delete_held", "merge_held"} & set(steps)
    if source and source["domain"] == "running":
        assert decision["decision"] in ("blocked", "nothing")
    if {"start_dest", "define_dest"} & set(steps):
        # Only what this evacuation has started before: recover has no proof that the source is off now.
        assert dest and (dest["started"] or dest["domain"] == "running")
        assert dest_has_all(dest)
        assert migration["status"] == "pre-migrating" or dest["domain"] == "absent"
    if {"withdraw_dest", "clean_dest"} & set(steps):
        assert dest and dest["domain"] != "running"
        assert not dest["started"]
        assert "withdraw_dest" not in steps or migration["status"] == "pre-migrating"
        assert migration["status"] in ACTIVE
    if "clean_source" in steps:
        assert source and source["domain"] in ("absent", "defined")
        assert migration["status"] == "done"
        well = seen_on not in ("", "a") or (dest is not None and dest["domain"] != "absent" and dest_has_all(dest))
        nothing_there = all("source" not in name.split("+") for name in source["files"].values())
        assert well or (nothing_there and dest and dest["domain"] == "absent")
    assert bool(steps) == (decision["decision"] not in ("nothing", "blocked"))
    assert not steps or (steps[-1] == "close" and steps.count("close") == 1)
    assert steps == sorted(steps, key=recovery.ORDER.index)
    assert decision["reason"]


evacuations = st.builds(
    lambda status, power, pending: evacuation(status, old_power_state=power, pending_hosts=pending if status not in ACTIVE else []),
    st.sampled_from(["accepted", "pre-migrating", "done", "completed", "error", "failed"]),
    st.sampled_from(["running", "shutoff", None]),
    st.sampled_from([[], ["a"]]),
)


@given(evacuations, node_states, node_states, st.sampled_from(["", "a", "b", "c"]))
@settings(max_examples=2000)
def test_no_decision_about_an_evacuation_breaks_a_law(migration, source, dest, seen_on):
    check_evacuation_laws(migration, source, dest, seen_on, recovery.decide(migration, source, dest, seen_on))


@pytest.mark.parametrize(
    ("status", "command"),
    [
        ("accepted", "evacuate -e failed_host=a"),
        ("pre-migrating", "evacuate -e failed_host=a"),
        ("error", "evacuate -e failed_host=a"),
        ("done", "recover -e host=a"),
        ("failed", "evacuate -e failed_host=a"),
        ("completed", None),
    ],
)
def test_commands_of_an_evacuation(status, command):
    assert recovery.legal_commands(evacuation(status)) == ([f"ansible-playbook coldmove.libvirt.{command}"] if command else [])


# --- nodes that were fenced since the migration began


@pytest.mark.parametrize(
    ("status", "power", "source", "dest", "expected", "steps"),
    [
        ("accepted", "running", None, TEMP, "roll_back", ["clean_dest", "close"]),
        ("pre-migrating", "running", None, DEST_OFF, "blocked", []),
        ("migrating", "running", None, state("absent", "final"), "blocked", []),
        ("post-migrating", "running", None, state("absent", "final"), "finish", ["define_dest", "start_dest", "close"]),
        ("post-migrating", "shutoff", None, DEST_OFF, "finish", ["close"]),
        ("post-migrating", "running", None, DEST_ON, "finish", ["close"]),
        ("post-migrating", "running", None, state("running", "final"), "blocked", []),
        ("post-migrating", "running", None, state("absent", {"vda": "final", "vdb": "temp"}), "blocked", []),
        ("post-migrating", "running", None, None, "blocked", []),
    ],
)
def test_the_source_of_a_move_was_fenced(status, power, source, dest, expected, steps):
    decision = recovery.decide(record(status, old_power_state=power), source, dest, off={"a"}, fenced={"a"})
    assert (decision["decision"], decision["steps"]) == (expected, steps), decision
    # A flag from before, or of another node, is no proof: it may run there.
    if steps and status == "post-migrating" and dest["domain"] != "running" and power == "running":
        for fenced in ((), ("b", "c")):
            assert recovery.decide(record(status, old_power_state=power), source, dest, fenced=fenced)["decision"] == "blocked"


def test_nothing_is_started_on_a_node_that_is_back_and_not_in_service():
    """Else its next silence would pass for being off: a run that is killed here, and a network that is cut, and it runs twice."""
    back = {"off": (), "fenced": {"a"}}
    for migration, source, dest in (
        (record("post-migrating"), HELD, TEMP),
        (record("migrating"), SOURCE_OFF, TEMP),
        (record("reverting"), HELD, DEST_OFF),
        (record("post-migrating", source="c", dest="a"), HELD, state("defined", "final", started=True)),
        (evacuation(source="c", dest="a"), None, state("defined", "final", started=True)),
    ):
        assert {"start_source", "start_dest"} & set(recovery.decide(migration, source, dest)["steps"])
        decision = recovery.decide(migration, source, dest, **back)
        assert (decision["decision"], decision["steps"]) == ("blocked", [])
        assert "ansible-playbook coldmove.libvirt.compute_service -e host=a -e state=enabled" in decision["reason"]
    # What starts nothing goes on.
    assert recovery.decide(record("migrating", old_power_state="shutoff"), SOURCE_OFF, TEMP, **back)["decision"] == "roll_back"
    assert recovery.decide(record("migrating"), SOURCE_ON, TEMP, **back)["decision"] == "roll_back"
    assert recovery.decide(returned(), SOURCE_OFF, DEST_ON, **back)["decision"] == "clean_returned"


def test_a_revert_to_a_source_whose_dest_was_fenced():
    decision = recovery.decide(record("reverting"), HELD, None, off={"b"}, fenced={"b"})
    assert (decision["decision"], decision["pending_hosts"]) == ("resume_revert", ["b"])
    assert "clean_dest" not in decision["steps"]
    assert recovery.decide(record("reverting"), HELD, None, fenced={"b"})["decision"] == "blocked"


# --- on the same node: one definition, seen from two sides

LOCAL = [
    {"id": "vda", "kind": "disk", "way": "overlay", "source_path": "/i/x", "held_path": "/i/x", "dest_path": "/i/x.new"},
    {"id": "vdb", "kind": "disk", "way": "replace", "source_path": "/i/y", "held_path": "/i/y.held", "dest_path": "/i/y"},
    {"id": "vdc", "kind": "disk", "way": "drop", "source_path": "/i/z", "held_path": "/i/z.held", "dest_path": "/i/z"},
]
BEFORE_OFFER = {"vda": "held", "vdb": "source", "vdc": "source"}
ALL_HELD = {"vda": "final+held", "vdb": "held+temp", "vdc": "held"}
RESIZED = {"vda": "final+held", "vdb": "held+source", "vdc": "held"}
MERGED = {"vda": "held+merged", "vdb": "source", "vdc": "missing"}
NO_OVERLAY = {**RESIZED, "vda": "held"}
NO_DISK = {**RESIZED, "vda": "final"}


def resize(status: str = "migrating", **more) -> dict:
    """A record of a resize on the same node."""
    return a_migration(1, status, source="a", dest="a", **{"migration_type": "resize", "files": LOCAL, "new_flavor": {"name": "m2"}, **more})


def views(side: str | None, domain: str = "running", files: dict | None = None, held: bool = True, started: bool = False) -> tuple:
    """What the node says from its two sides; ``side`` is the one whose definition it has."""
    told = {"files": RESIZED if files is None else files, "held": held, "started": started}
    return state(domain if side == "source" else "absent", **told), state(domain if side == "dest" else "absent", **told)


local_names = {
    "vda": st.sampled_from(["missing", "held", "held+temp", "final+held", "final", "held+merged"]),
    "vdb": st.sampled_from(["missing", "source", "source+temp", "held", "held+temp", "held+source"]),
    "vdc": st.sampled_from(["missing", "source", "held"]),
}
local_views = st.builds(
    views,
    st.sampled_from([None, "source", "dest"]),
    st.sampled_from(["defined", "running"]),
    st.fixed_dictionaries(local_names),
    st.booleans(),
    st.booleans(),
)


def check_local_laws(migration: dict, source: dict | None, dest: dict | None, decision: dict) -> None:
    """What no decision may ever do where the held copy is what the server stands on."""
    steps, status = decision["steps"], migration["status"]
    seen = (source or dest or {}).get("files", {})
    assert "delete_held" not in steps
    if "clean_dest" in steps:
        # The overlays go only when nothing names them any more: there is no definition of theirs, or it is taken away first.
        assert dest is not None
        assert dest["domain"] == "absent" or "withdraw_dest" in steps[: steps.index("clean_dest")]
        assert status not in ("finished", "confirming")
        assert status in recovery.BEFORE_HOLD or decision["decision"] == "clean_pending" or source["domain"] == "running" or "restore_source" in steps
    if {"restore_source", "start_source"} & set(steps):
        assert source is not None
        assert dest is None or dest["domain"] == "absent" or steps[0] == "withdraw_dest"
        assert "held" in seen["vda"].split("+")
        assert status in (*IN_FLIGHT, "reverting")
    if {"define_dest", "start_dest"} & set(steps):
        assert source["domain"] == "absent"
        assert dest["domain"] != "absent" or "final" in seen["vda"].split("+")
        assert dest["started"]
    if "merge_held" in steps:
        assert status == "confirming"
        assert dest["domain"] != "absent"
        assert dest["domain"] == "running" or {"final", "merged"} & set(seen["vda"].split("+"))
    if source is None or dest is None:
        assert "merge_held" not in steps
        assert "withdraw_dest" not in steps or dest is not None
    assert bool(steps) == (decision["decision"] not in ("nothing", "blocked"))
    assert not steps or (steps[-1] == "close" and steps.count("close") == 1)
    assert steps == sorted(steps, key=recovery.ORDER.index)


local_records = st.builds(
    lambda status, power, pending: resize(status, old_power_state=power, pending_hosts=pending),
    st.sampled_from(STATUSES),
    st.sampled_from(["running", "shutoff", None]),
    st.sampled_from([[], ["a"]]),
)


@given(local_records, local_views, st.sampled_from(["both", "source", "dest", "none"]), st.sampled_from(["", "a", "b"]))
@settings(max_examples=2000)
def test_no_decision_about_one_node_breaks_a_law(migration, seen, heard, seen_on):
    # Only a confirm merges, and there is no way back from it.
    assume(migration["status"] in ("confirming", "confirmed") or "merged" not in seen[0]["files"]["vda"])
    source, dest = (seen[0] if heard in ("both", "source") else None), (seen[1] if heard in ("both", "dest") else None)
    check_local_laws(migration, source, dest, recovery.decide(migration, source, dest, seen_on))


@pytest.mark.parametrize(
    ("statuses", "power", "seen", "expected", "steps"),
    [
        (IN_FLIGHT, "running", views("source", files=BEFORE_OFFER, held=False), "roll_back", ["clean_dest", "close"]),
        (IN_FLIGHT, "running", views("source", "defined", held=False), "roll_back", ["restore_source", "start_source", "clean_dest", "close"]),
        (IN_FLIGHT, "shutoff", views("source", "defined", held=False), "roll_back", ["restore_source", "clean_dest", "close"]),
        (["migrating", "post-migrating"], "running", views(None, files=ALL_HELD), "roll_back", ["restore_source", "start_source", "clean_dest", "close"]),
        (["post-migrating"], "running", views("dest", "defined"), "roll_back", ["withdraw_dest", "restore_source", "start_source", "clean_dest", "close"]),
        (["post-migrating"], "shutoff", views("dest", "defined"), "finish", ["close"]),
        (["post-migrating"], "running", views("dest", started=True), "finish", ["close"]),
        (["post-migrating"], "running", views("dest"), "finish", ["close"]),
        (["post-migrating"], "running", views("dest", "defined", started=True), "finish", ["start_dest", "close"]),
        (["post-migrating"], "running", views(None, started=True), "finish", ["define_dest", "start_dest", "close"]),
        (["post-migrating"], "running", views(None, files=NO_OVERLAY, started=True), "roll_back", ["restore_source", "start_source", "clean_dest", "close"]),
        (["post-migrating"], "running", views("source", started=True), "roll_back", ["clean_dest", "close"]),
        (["migrating", "post-migrating"], "running", views(None, files=NO_DISK), "blocked", []),
        (BEFORE, "running", views("dest"), "blocked", []),
        # Undefined by its owner: the overlays are ours until the hold, and empty.
        (["accepted", "pre-migrating"], "running", views(None, files=BEFORE_OFFER, held=False), "clean_gone", ["clean_dest", "close"]),
        (["finished", "confirming"], "running", views(None), "clean_gone", ["close"]),
        (["finished"], "running", views("dest", started=True), "nothing", []),
        (["finished"], "running", views("dest", "defined", started=True), "nothing", []),
        (["finished", "confirming"], "running", views("source"), "blocked", []),
        (["confirming"], "running", views("dest"), "resume_confirm", ["merge_held", "close"]),
        (["confirming"], "running", views("dest", "defined"), "resume_confirm", ["merge_held", "close"]),
        (["confirming"], "running", views("dest", "defined", MERGED), "resume_confirm", ["merge_held", "close"]),
        (["confirming"], "running", views("dest", "defined", NO_OVERLAY), "blocked", []),
        (["reverting"], "running", views("dest"), "resume_revert", ["withdraw_dest", "restore_source", "start_source", "clean_dest", "close"]),
        (["reverting"], "shutoff", views("dest", "defined"), "resume_revert", ["withdraw_dest", "restore_source", "clean_dest", "close"]),
        (["reverting"], "running", views(None), "resume_revert", ["restore_source", "start_source", "clean_dest", "close"]),
        (["reverting"], "running", views("source", files=BEFORE_OFFER, held=False), "resume_revert", ["clean_dest", "close"]),
        (["reverting"], "running", views("dest", "defined", NO_DISK), "blocked", []),
        # One node: its silence is that of both ends.
        ([*IN_FLIGHT, "confirming", "reverting"], "running", (None, None), "blocked", []),
        (["finished"], "running", (None, None), "nothing", []),
        (["confirmed", "reverted", "error"], "running", views("source"), "nothing", []),
    ],
)
def test_the_table_of_one_node_by_name(statuses, power, seen, expected, steps):
    for status in statuses:
        decision = recovery.decide(resize(status, old_power_state=power), *seen)
        assert (decision["decision"], decision["steps"]) == (expected, steps), (status, decision)


def test_what_the_owner_left_is_named_where_it_lies():
    reason = recovery.decide(resize("finished"), *views(None))["reason"]
    assert reason.endswith("Its files are left alone: /i/x, /i/x.new, /i/y.held, /i/y, /i/z.held")


def test_what_an_ended_resize_left_goes_when_the_server_is_back_on_its_disks():
    decision = recovery.decide(resize("error", pending_hosts=["a"]), *views("source"))
    assert (decision["steps"], decision["pending_hosts"]) == (["clean_dest", "close"], [])
    for seen in (views("dest"), views(None), (None, None)):
        decision = recovery.decide(resize("error", pending_hosts=["a"]), *seen)
        assert (decision["decision"], decision["pending_hosts"]) == ("blocked", ["a"])


def test_a_resize_to_another_node_is_a_move_like_any_other():
    decision = recovery.decide(record("confirming", migration_type="resize"), HELD, DEST_ON)
    assert decision["steps"] == ["delete_held", "close"]


def test_a_dropped_swap_disk_is_missing_on_dest_and_nothing_is_missed():
    gone = {"id": "vdc", "kind": "disk", "way": "drop", "source_path": "/i/z", "held_path": "/i/z.held", "dest_path": "/i/z"}
    migration = record("confirming", files=[*FILES, gone])
    dest = state("running", {"vda": "final", "vdb": "final", "vdc": "missing"}, started=True)
    held = state("absent", {"vda": "held", "vdb": "held", "vdc": "held"}, held=True)
    assert recovery.decide(migration, held, dest)["steps"] == ["delete_held", "close"]
    assert recovery.decide({**migration, "status": "reverting"}, {**held, "files": {**held["files"], "vdc": "missing"}}, dest)["decision"] == "blocked"
    nothing_left = state("absent", {"vda": "missing", "vdb": "missing", "vdc": "missing"})
    assert recovery.decide(migration, held, nothing_left)["decision"] == "clean_gone"


def test_commands_of_a_resize():
    assert recovery.legal_commands(resize("migrating")) == [
        "ansible-playbook coldmove.libvirt.recover -e server=web1",
        "ansible-playbook coldmove.libvirt.resize -e server=web1 -e flavor=m2",
    ]
    assert [line.split()[1] for line in recovery.legal_commands(resize("finished"))] == ["coldmove.libvirt.confirm", "coldmove.libvirt.revert"]


# --- dead or slow

OWNER = {"controller": "ctl", "boot_id": "boot", "pid_ns": "pid:[1]", "pid": 100, "pid_start": 5000, "awx_job_id": ""}
HERE = {"controller": "ctl", "boot_id": "boot", "pid_ns": "pid:[1]", "pid": 7, "pid_start": 9000, "owner_start": None}


def liveness(owner=None, local=None, heartbeat=None, journals=(), epoch=3) -> dict:
    """With a lease of a minute."""
    migration = {"uuid": "m", "epoch": epoch, "owner": {**OWNER, **(owner or {})}, "heartbeat_age_seconds": heartbeat}
    return recovery.run_liveness(migration, list(journals), 60, {**HERE, **(local or {})})


def contact(age: float, epoch: int = 3, migration: str = "m") -> dict:
    """A journal of a node."""
    return {"migration_uuid": migration, "epoch": epoch, "contact_age_seconds": age}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"heartbeat": 1}, "dead"),
        ({"local": {"owner_start": 5000}, "heartbeat": 9999}, "alive"),
        ({"local": {"owner_start": 5001}, "heartbeat": 1}, "dead"),
        ({"owner": {"pid_ns": "pid:[2]"}, "local": {"owner_start": 5000}, "heartbeat": 61}, "dead"),
        ({"owner": {"boot_id": "other"}, "heartbeat": 61}, "dead"),
        ({"owner": {"controller": "other"}, "heartbeat": 59}, "alive"),
        ({"owner": {"controller": "other"}}, "unknown"),
        ({"owner": {"controller": "other"}, "heartbeat": 500, "journals": [contact(3)]}, "alive"),
        ({"owner": {"controller": "other"}, "heartbeat": 500, "journals": [contact(3, epoch=2)]}, "dead"),
        ({"owner": {"controller": "other"}, "heartbeat": 500, "journals": [contact(3, migration="x")]}, "dead"),
        ({"owner": {"controller": "other"}, "journals": [{"migration_uuid": "m", "epoch": 3, "contact_age_seconds": None}]}, "unknown"),
        ({"owner": {"boot_id": ""}, "local": {"boot_id": ""}, "heartbeat": 1}, "alive"),
    ],
)
def test_dead_or_slow(arguments, expected):
    answer = liveness(**arguments)
    assert (answer["state"], answer["mine"]) == (expected, False)
    assert answer["text"]


def test_my_own_migration():
    assert liveness(local={"pid": 100, "pid_start": 5000, "owner_start": 5000})["mine"]
    assert not liveness(local={"pid": 100, "pid_start": 5001, "owner_start": 5001})["mine"]


# --- commands


@pytest.mark.parametrize(
    ("status", "verbs"),
    [
        ("accepted", ["recover", "cold_migrate", "cancel"]),
        ("post-migrating", ["recover", "cold_migrate"]),
        ("finished", ["confirm", "revert"]),
        ("confirming", ["confirm", "recover"]),
        ("reverting", ["revert", "recover"]),
        ("confirmed", []),
        ("error", []),
    ],
)
def test_commands_by_status(status, verbs):
    assert recovery.legal_commands(record(status)) == [f"ansible-playbook coldmove.libvirt.{verb} -e server=web1" for verb in verbs]


def test_commands_while_another_run_is_alive_and_for_left_overs():
    assert recovery.legal_commands(record("migrating"), "alive") == ["ansible-playbook coldmove.libvirt.status -e server=web1"]
    assert recovery.legal_commands(record("error", pending_hosts=["b"])) == ["ansible-playbook coldmove.libvirt.recover -e server=web1"]


@pytest.mark.parametrize("status", ["pre-migrating", "migrating"])
@pytest.mark.parametrize("precopy", ["running", "in_step", "lost", "over"])
def test_a_precopy_is_ended_before_its_files_are_deleted(status, precopy):
    decision = recovery.decide(record(status), {**SOURCE_ON, "precopy": precopy}, TEMP)
    assert (decision["decision"], decision["steps"]) == ("roll_back", ["end_precopy", "clean_dest", "close"])
    assert "end_precopy" not in recovery.decide(record(status), SOURCE_ON, TEMP)["steps"]


# --- proven after the start

FAILED_ON = state("running", "final", started=True, proof="failed")


@pytest.mark.parametrize(
    ("source", "dest", "steps"),
    [
        (HELD, state("running", "final", started=True, proof="begun"), ["prove", "close"]),
        (HELD, state("running", "final", started=True, proof="impossible"), ["prove", "close"]),
        (HELD, state("running", "final", started=True, proof="done"), ["close"]),
        (None, state("running", "final", started=True, proof="begun"), ["prove", "close"]),
        (HELD, state("running", "final", waiting=True, proof="begun"), ["start_dest", "prove", "close"]),
        (HELD, state("defined", "final", started=True, proof="begun"), ["start_dest", "prove", "close"]),
    ],
)
def test_a_proof_that_was_begun_is_brought_to_its_end(source: dict | None, dest: dict, steps: list[str]) -> None:
    """A silent source is told by the step."""
    decision = recovery.decide(record("post-migrating"), source, dest)
    assert (decision["decision"], decision["steps"]) == ("finish", steps)


def test_a_guest_that_waits_on_dest_is_let_go_only_if_the_source_was_asked() -> None:
    waits = state("running", "final", waiting=True, proof="begun")
    assert recovery.decide(record("post-migrating"), None, waits)["decision"] == "blocked"
    assert recovery.decide(record("post-migrating"), SOURCE_ON, waits)["decision"] == "blocked"
    off = recovery.decide(record("post-migrating"), None, waits, off=["a"])
    assert (off["decision"], off["steps"]) == ("finish", ["start_dest", "prove", "close"])


def test_a_copy_that_differs_is_the_operators_to_decide() -> None:
    decision = recovery.decide(record("post-migrating"), HELD, FAILED_ON)
    assert decision["decision"] == "blocked"
    assert "differs from the held copy on a" in decision["reason"]
    assert "virsh destroy" in decision["reason"]


@pytest.mark.parametrize(("domain", "withdraw"), [("defined", ["withdraw_dest"]), ("absent", [])])
def test_whoever_stops_a_copy_that_differs_wants_the_held_one(domain: str, withdraw: list[str]) -> None:
    decision = recovery.decide(record("post-migrating"), HELD, state(domain, "final", started=True, proof="failed"))
    assert (decision["decision"], decision["steps"]) == ("roll_back", [*withdraw, "restore_source", "start_source", "clean_dest", "close"])


def test_a_copy_that_differs_is_kept_while_the_held_one_cannot_be_seen() -> None:
    assert recovery.decide(record("post-migrating"), None, state("defined", "final", started=True, proof="failed"))["decision"] == "blocked"
    assert recovery.decide(record("post-migrating"), GONE, state("defined", "final", started=True, proof="failed"))["decision"] == "blocked"


# --- a precopy that is held


HOLD = {"cutover": "hold", "since": "2026-01-01T00:00:00Z", "epoch": 1, "options": {}}


def test_a_guest_that_somebody_else_has_shut_down_during_a_precopy_is_not_started():
    for case, seen in ((record("pre-migrating", hold=HOLD), SOURCE_OFF), (record("pre-migrating"), {**SOURCE_OFF, "precopy": "over"})):
        decision = recovery.decide(case, seen, TEMP)
        assert decision["decision"] == "roll_back"
        assert [step for step in decision["steps"] if step != "end_precopy"] == ["clean_dest", "close"]
    # Once the move itself stops it, it is started again.
    assert "start_source" in recovery.decide(record("migrating"), {**SOURCE_OFF, "precopy": "over"}, TEMP)["steps"]
    assert "start_source" in recovery.decide(record("pre-migrating"), SOURCE_OFF, TEMP)["steps"]


def test_a_held_precopy_can_be_cut_over_or_cancelled_until_somebody_is_at_it():
    held = record("pre-migrating", hold=HOLD, epoch=1)
    both = ["ansible-playbook coldmove.libvirt.cutover -e server=web1", "ansible-playbook coldmove.libvirt.cancel -e server=web1"]
    assert recovery.legal_commands(held) == recovery.legal_commands(held, "alive") == recovery.legal_commands(held, "dead") == both
    taken_up = {**held, "epoch": 2}
    assert recovery.legal_commands(taken_up, "dead") == both
    assert recovery.legal_commands(taken_up, "alive") == ["ansible-playbook coldmove.libvirt.status -e server=web1"]
    assert recovery.legal_commands(record("pre-migrating"))[-1] == both[1]
