# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verb may do: by examples, and for every record that there can be."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import recovery, verbs
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import ACTIVE, STATUSES
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import a_domain, a_migration, a_node, a_silent_node, uuid_of

SERVER = uuid_of(1)
NOW = "2026-01-02T00:00:00+00:00"
UNDER_WAY = sorted(ACTIVE - {"finished"})


def alive(_record: t.Any) -> t.Any:
    return {"state": "alive", "mine": False, "text": "process 7 on ctl is running"}


def unknown(_record: t.Any) -> t.Any:
    return {"state": "unknown", "mine": False, "text": "no sign of life is known"}


def dead(_record: t.Any) -> t.Any:
    return {"state": "dead", "mine": False, "text": "gone"}


def mine(_record: t.Any) -> t.Any:
    return {"state": "alive", "mine": True, "text": "this very run"}


def record(status: str, **more: t.Any) -> t.Any:
    return a_migration(1, status, **more)


def nodes(at_source: t.Any = (), at_dest: t.Any = (), **more: t.Any) -> t.Any:
    return {"a": a_node("a", at_source), "b": a_node("b", at_dest), **more}


def step(verb: str, records: t.Any, liveness: t.Any = dead, target_host: str = "", **more: t.Any) -> tuple[str, str]:
    answer = verbs.next_step(verb, records, SERVER, liveness, target_host, **more)
    assert bool(answer["reason"]) == (answer["next"] in ("nothing", "refuse"))
    return answer["next"], answer["reason"]


# --- cold_migrate


def test_a_server_that_was_never_moved_is_planned() -> None:
    assert step("cold_migrate", [])[0] == "plan"
    assert step("cold_migrate", [a_migration(2, "migrating")])[0] == "plan"  # somebody else's


@pytest.mark.parametrize("status", sorted(set(STATUSES) - ACTIVE))
def test_an_ended_migration_is_in_nobodys_way(status: str) -> None:
    assert step("cold_migrate", [record(status)], alive)[0] == "plan"


def test_a_finished_move_is_done_unless_another_target_is_asked_for() -> None:
    for target in ("", "b"):
        assert step("cold_migrate", [record("finished")], target_host=target) == ("nothing", "it has moved to b already")
    for target in ("a", "c"):
        answer, reason = step("cold_migrate", [record("finished")], target_host=target)
        assert answer == "refuse"
        assert "coldmove.libvirt.confirm -e server=web1" in reason


@pytest.mark.parametrize("status", recovery.IN_FLIGHT)
def test_a_killed_run_is_continued(status: str) -> None:
    for liveness in (dead, mine):
        assert step("cold_migrate", [record(status)], liveness)[0] == "adopt"
        assert step("cold_migrate", [record(status)], liveness, target_host="b")[0] == "adopt"


def test_a_killed_run_that_has_copied_is_not_sent_elsewhere() -> None:
    assert step("cold_migrate", [record("pre-migrating")], target_host="c")[0] == "adopt"
    for status in ("migrating", "post-migrating"):
        answer, reason = step("cold_migrate", [record(status)], target_host="c")
        assert answer == "refuse"
        assert "recover" in reason


@pytest.mark.parametrize("status", ["confirming", "reverting"])
def test_no_move_while_a_confirm_or_a_revert_is_not_done(status: str) -> None:
    assert step("cold_migrate", [record(status)])[0] == "refuse"


def test_the_youngest_record_counts_whatever_the_order() -> None:
    old, new = record("confirmed"), {**record("finished"), "id": 12}
    for records in ([old, new], [new, old]):
        assert step("cold_migrate", records)[0] == "nothing"
    assert verbs.latest_of([], SERVER) is None


# --- evacuate


@pytest.mark.parametrize("status", sorted(set(STATUSES) - ACTIVE))
@pytest.mark.parametrize("kind", ["evacuation", "migration", "resize"])
def test_what_has_ended_is_not_in_the_way_of_an_evacuation(status: str, kind: str) -> None:
    for liveness in (dead, alive):
        assert step("evacuate", [record(status, migration_type=kind)], liveness) == ("plan", "")
    assert step("evacuate", []) == ("plan", "")


@pytest.mark.parametrize("status", ["accepted", "pre-migrating"])
def test_a_killed_evacuation_is_continued_and_one_that_may_be_alive_is_not(status: str) -> None:
    begun = record(status, migration_type="evacuation")
    for liveness in (dead, mine):
        assert step("evacuate", [begun], liveness) == ("adopt", "")
    for liveness in (alive, unknown):
        answer, reason = step("evacuate", [begun], liveness)
        assert answer == "refuse"
        assert "another run is at work" in reason
        assert "coldmove.libvirt.evacuate -e failed_host=a" in reason


@pytest.mark.parametrize("status", sorted(ACTIVE))
@pytest.mark.parametrize("kind", ["migration", "resize"])
def test_a_move_that_has_not_ended_is_resolved_unless_somebody_is_at_work_on_it(status: str, kind: str) -> None:
    for liveness in (dead, mine):
        assert step("evacuate", [record(status, migration_type=kind)], liveness) == ("adopt", "")
    for liveness in (alive, unknown):
        # One that is finished waits for its operator, and nobody is at work on it.
        assert step("evacuate", [record(status, migration_type=kind)], liveness)[0] == ("adopt" if status == "finished" else "refuse")


def test_the_youngest_record_decides_of_an_evacuation_and_locks_do_not() -> None:
    old, new = record("done", migration_type="evacuation"), {**record("pre-migrating", migration_type="evacuation"), "id": 12}
    for records in ([old, new], [new, old]):
        assert step("evacuate", records)[0] == "adopt"
    locked: t.Any = {"by": "ann", "reason": "audit"}
    assert step("evacuate", [old], locked=locked)[0] == "plan"


@pytest.mark.parametrize("verb", ["cold_migrate", "resize", "confirm", "revert"])
@pytest.mark.parametrize("status", ["accepted", "pre-migrating"])
def test_an_open_evacuation_is_no_other_verbs_business(verb: str, status: str) -> None:
    for liveness in (dead, alive):
        answer, reason = step(verb, [record(status, migration_type="evacuation")], liveness, flavor="m1")
        assert answer == "refuse"
        assert "coldmove.libvirt.evacuate -e failed_host=a" in reason


# --- confirm and revert


@pytest.mark.parametrize(("verb", "under_way", "done"), [("confirm", "confirming", "confirmed"), ("revert", "reverting", "reverted")])
def test_an_end_is_made_taken_up_again_or_done(verb: str, under_way: str, done: str) -> None:
    for status in ("finished", under_way):
        assert step(verb, [record(status)])[0] == "act"
    assert step(verb, [record(done)], alive) == ("nothing", f"it is {done} already")
    for status in set(STATUSES) - {"finished", under_way, done}:
        assert step(verb, [record(status)])[0] == "refuse"
    answer, reason = step(verb, [])
    assert answer == "refuse"
    assert "was never moved" in reason


def test_no_such_verb() -> None:
    with pytest.raises(ColdmoveError, match="no such verb: fly"):
        verbs.next_step("fly", [], SERVER, dead)


def test_a_locked_server_is_left_alone() -> None:
    locked: t.Any = {"by": "ann", "reason": "audit"}
    for verb in ("confirm", "revert"):
        answer, reason = step(verb, [record("finished")], locked=locked)
        assert answer == "refuse"
        assert "ann" in reason


@pytest.mark.parametrize("verb", ["cold_migrate", "confirm", "revert"])
@pytest.mark.parametrize("status", UNDER_WAY)
@pytest.mark.parametrize("liveness", [alive, unknown])
def test_nothing_is_begun_while_another_run_may_be_at_work(verb: str, status: str, liveness: t.Any) -> None:
    answer, reason = step(verb, [record(status)], liveness)
    assert answer == "refuse"
    assert "Nothing was changed" in reason
    assert "\n" not in reason


any_status = st.sampled_from(STATUSES)
any_liveness = st.sampled_from([alive, unknown, dead, mine])
any_records = st.lists(
    st.builds(
        lambda number, server, status, pending: a_migration(number, status, server_uuid=uuid_of(server), pending_hosts=pending),
        st.integers(1, 9),
        st.integers(1, 3),
        any_status,
        st.sampled_from([[], ["a"], ["b"], ["a", "b"]]),
    ),
    max_size=4,
    unique_by=lambda entry: entry["id"],
)


@given(st.sampled_from(["cold_migrate", "confirm", "revert"]), any_records, any_liveness, st.sampled_from(["", "a", "b", "c"]))
def test_every_answer_is_one_of_five_and_live_runs_are_left_alone(verb: str, records: t.Any, liveness: t.Any, target: str) -> None:
    answer = verbs.next_step(verb, records, SERVER, liveness, target)
    latest = verbs.latest_of(records, SERVER)
    assert answer["migration"] == latest
    assert answer["next"] in ("plan", "adopt", "act", "nothing", "refuse")
    if latest and latest["status"] in UNDER_WAY and liveness in (alive, unknown):
        assert answer["next"] == "refuse"
    if answer["next"] == "plan":
        assert latest is None or latest["status"] not in ACTIVE
    if answer["next"] == "adopt":
        assert latest is not None
        assert latest["status"] in recovery.IN_FLIGHT


# --- recover


@given(any_records, any_liveness, st.sampled_from([nodes(), nodes([a_domain(1)]), nodes((), [a_domain(1), a_domain(2)]), {"a": a_silent_node("a")}]))
def test_recover_never_acts_for_a_live_run_and_only_on_what_is_open_or_unclean(records: t.Any, liveness: t.Any, known: t.Any) -> None:
    """What an ended or finished migration needs is another matter: its run has had its last word, and a take-over is compare-and-set."""
    for entry in verbs.recoverable(records, known, liveness):
        migration: t.Any = entry["migration"]
        assert entry["next"] in ("act", "refuse", "wait")
        if migration["status"] in UNDER_WAY:
            assert (entry["next"] == "act") == (liveness in (dead, mine))
        elif migration["status"] != "finished":
            assert migration["pending_hosts"]
            silent = not any(known.get(host, {}).get("reachable") for host in migration["pending_hosts"])
            behind = any(other["server_uuid"] == migration["server_uuid"] and other["status"] in UNDER_WAY for other in records)
            assert entry["next"] == ("wait" if silent or behind else "act")
        assert bool(entry["reason"]) == (entry["next"] in ("refuse", "wait"))
    seen = [entry["migration"]["id"] for entry in verbs.recoverable(records, known, liveness)]
    assert seen == [entry["id"] for entry in records if entry["id"] in seen]
    assert {entry["id"] for entry in records if entry["status"] in UNDER_WAY} <= set(seen)


def ids(found: t.Any) -> list[int]:
    return [entry["migration"]["id"] for entry in found]


def test_a_finished_move_is_recovered_only_if_its_owner_undefined_the_server() -> None:
    finished = [record("finished")]
    assert ids(verbs.recoverable(finished, nodes(), dead)) == [1]
    assert verbs.recoverable(finished, nodes((), [a_domain(1)]), dead) == []
    assert verbs.recoverable(finished, nodes(c=a_node("c", [a_domain(1)])), dead) == []  # moved on by hand
    for silent in ({"a": a_silent_node("a"), "b": a_node("b")}, {"a": a_node("a"), "b": a_silent_node("b")}, {"a": a_node("a")}):
        assert verbs.recoverable(finished, t.cast("t.Any", silent), dead) == []


def test_what_can_only_wait_for_a_silent_node_is_no_failure_unless_it_was_asked_for() -> None:
    known: t.Any = {"a": a_silent_node("a"), "b": a_node("b"), "c": a_silent_node("c")}
    left = a_migration(1, "done", source="a", dest="b", pending_hosts=["a"])

    def found(migration: t.Any, *wanted: str, host: str = "") -> str:
        (entry,) = verbs.recoverable([migration], known, dead, wanted, host)
        return entry["next"]

    (entry,) = verbs.recoverable([left], known, dead)
    assert (entry["next"], entry["reason"]) == ("wait", "web1 (migration 1, done) waits: it is still to be cleaned on a, which does not answer")
    assert (found(left, host="b"), found(left, host="a"), found(left, "web1")) == ("wait", "act", "act")
    assert found({**left, "pending_hosts": ["a", "c"]}) == "wait"
    assert found({**left, "pending_hosts": ["a", "gone"]}) == "wait"
    assert found({**left, "pending_hosts": ["a", "b"]}) == "act"
    assert found(a_migration(1, "migrating", source="a", dest="b")) == "act"  # what is in flight is never a matter of waiting in silence


def test_one_server_is_never_cleaned_up_after_while_it_is_on_its_way() -> None:
    left, later = a_migration(1, "done", source="a", dest="b", pending_hosts=["a"]), a_migration(1, "migrating", source="b", dest="c")
    records = [left, {**later, "id": 2, "uuid": uuid_of(902)}, a_migration(3, "done", source="a", dest="b", pending_hosts=["a"])]
    assert [entry["next"] for entry in verbs.recoverable(records, nodes(), dead, (), "a")] == ["wait", "act"]
    assert [entry["next"] for entry in verbs.recoverable(records, nodes(), alive)] == ["wait", "refuse", "act"]
    assert "waits for migration 2 of the same server" in verbs.recoverable(records, nodes(), dead, ["web1"])[0]["reason"]
    twice = [left, {**later, "id": 2, "status": "done", "pending_hosts": ["b"]}]
    assert [entry["next"] for entry in verbs.recoverable(twice, nodes(), dead)] == ["act", "act"]


def test_recover_may_be_narrowed_by_name_uuid_and_node() -> None:
    records = [a_migration(1, "migrating"), a_migration(2, "migrating", dest="c"), a_migration(3, "error", source="d", dest="e", pending_hosts=["f"])]

    def found(*wanted: str, host: str = "") -> list[int]:
        return ids(verbs.recoverable(records, nodes(), dead, wanted, host))

    assert found() == [1, 2, 3]
    assert found("web2") == found(uuid_of(2)) == [2]
    assert found("web1", uuid_of(3)) == [1, 3]
    assert (found(host="a"), found(host="c"), found(host="f"), found("web1", host="c")) == ([1, 2], [2], [3], [])
    assert found("web9") == []


# --- the sweep of confirm


def sweep(known: t.Any, older_than: float = 3600, **more: t.Any) -> tuple[list[str], list[str]]:
    found = verbs.confirmable([record("finished", updated_at="2026-01-01T00:00:00Z", **more)], known, older_than, NOW)
    return found["ready"], found["left"]


WELL = nodes((), [a_domain(1)])


def test_a_sweep_confirms_what_is_finished_old_enough_and_well() -> None:
    assert sweep(WELL) == ([SERVER], [])
    assert sweep(WELL, older_than=86400) == ([SERVER], [])
    assert sweep(WELL, older_than=86401) == ([], [])
    assert sweep(nodes((), [a_domain(1, state="shutoff")]), old_power_state="shutoff") == ([SERVER], [])


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (nodes(), "it is not defined on b"),
        (nodes((), [a_domain(1, state="shutoff")]), "it is shutoff on b, and was running"),
        (nodes((), [a_domain(1, state="paused")]), "it is paused on b"),
        ({"a": a_silent_node("a"), "b": a_node("b", [a_domain(1)])}, "a does not answer"),
        ({"a": a_node("a"), "b": a_silent_node("b")}, "b does not answer"),
        ({"b": a_node("b", [a_domain(1)])}, "a does not answer"),
    ],
)
def test_what_is_not_well_is_left_alone_and_named(known: t.Any, words: str) -> None:
    ready, (left,) = sweep(known)
    assert ready == []
    assert words in left
    assert "web1 (migration 1) is left alone" in left


def test_a_hostile_name_does_not_break_the_sentence() -> None:
    assert "\n" not in sweep(nodes(), server_name="a\nb")[1][0]


@given(
    any_records,
    st.sampled_from([0.0, 3600.0, 86400.0, 1e9]),
    st.sampled_from([None, "", "soon", "2026-01-01T00:00:00Z", "2026-01-01T23:59:59", "2027-01-01T00:00:00Z"]),
)
def test_only_finished_well_and_old_enough_is_ever_confirmed(records: t.Any, older_than: float, updated_at: str | None) -> None:
    known = nodes([a_domain(2)], [a_domain(1), a_domain(3, state="shutoff")])
    ages = {"2026-01-01T00:00:00Z": 86400.0, "2026-01-01T23:59:59": 1.0}
    dated = [{**entry, "updated_at": updated_at} for entry in records]
    found = verbs.confirmable(t.cast("t.Any", dated), known, older_than, NOW)
    old_enough = ages.get(updated_at or "", -1.0) >= older_than
    for uuid in found["ready"]:
        assert old_enough
        assert uuid == SERVER
        assert any(entry["server_uuid"] == uuid and entry["status"] == "finished" for entry in dated)
    finished = [entry for entry in dated if entry["status"] == "finished"]
    assert len(found["ready"]) + len(found["left"]) == (len(finished) if old_enough else 0)


# --- nodes that the inventory has lost


def test_a_lost_node_of_an_open_migration_is_a_warning() -> None:
    known = nodes()
    assert verbs.lost_nodes([record("finished"), record("confirmed", dest="x")], known) == []
    (warning,) = verbs.lost_nodes([record("finished", source="x", dest="y", server_name="web\n1")], known)
    assert "x and y" in warning
    assert "\n" not in warning
    assert len(verbs.lost_nodes([record("error", dest="x", pending_hosts=["x"])], known)) == 1
    assert verbs.lost_nodes([record("accepted", dest=None)], known) == []


# --- resize

M2 = {"name": "m2", "vcpus": 2, "memory_mb": 2048, "root_gb": 20, "ephemeral_gb": 0, "swap_mb": 0, "extra_specs": {"hw:cpu_policy": "dedicated"}}
INLINE = {"vcpus": "2", "memory_mb": 2048, "root_gb": " 20 ", "extra_specs": {"hw:cpu_policy": "dedicated"}}


def resized(status: str, **more: t.Any) -> t.Any:
    return a_migration(1, status, migration_type="resize", new_flavor=M2, **more)


def resize(records: t.Any, flavor: t.Any = "m2", liveness: t.Any = dead, target_host: str = "") -> tuple[str, str]:
    return step("resize", records, liveness, target_host, flavor=flavor)


def test_a_resize_is_planned_where_no_migration_is_open() -> None:
    assert resize([])[0] == "plan"
    for status in set(STATUSES) - ACTIVE:
        assert resize([resized(status)])[0] == "plan"
        assert resize([record(status)])[0] == "plan"


@pytest.mark.parametrize("flavor", ["m2", " m2 ", INLINE, M2, {**M2, "name": "another"}])
def test_a_finished_resize_to_the_same_flavor_is_done(flavor: t.Any) -> None:
    for target in ("", "b"):
        assert resize([resized("finished")], flavor, target_host=target) == ("nothing", "it was resized to m2 on b already")


@pytest.mark.parametrize(
    "flavor",
    [
        "m3",
        "M2",
        None,
        {},
        {**INLINE, "vcpus": 4},
        {**INLINE, "root_gb": 30},
        {**INLINE, "extra_specs": {}},
        {**INLINE, "extra_specs": {"hw:cpu_policy": "shared"}},
        {"vcpus": 2},
        {**INLINE, "memory_mb": "2 GB"},
    ],
)
def test_a_finished_resize_waits_before_there_is_another(flavor: t.Any) -> None:
    answer, reason = resize([resized("finished")], flavor)
    assert answer == "refuse"
    assert "it was resized to m2 on b and waits for confirm or revert" in reason
    assert "coldmove.libvirt.confirm -e server=web1" in reason


def test_a_resize_and_a_move_wait_for_each_other() -> None:
    answer, reason = resize([record("finished")])
    assert (answer, "it has moved to b and waits" in reason) == ("refuse", True)
    answer, reason = step("cold_migrate", [resized("finished")])
    assert (answer, "it was resized to m2 on b and waits" in reason) == ("refuse", True)
    assert resize([resized("finished", dest="a")], target_host="b")[0] == "refuse"
    assert resize([resized("finished", dest="a")], target_host="a")[0] == "nothing"


@pytest.mark.parametrize("status", recovery.IN_FLIGHT)
def test_a_killed_resize_is_continued_to_the_flavor_that_it_had(status: str) -> None:
    for flavor in ("m2", INLINE):
        assert resize([resized(status)], flavor)[0] == "adopt"
    # Nothing has been stopped before the copy begins: the new run begins anew, with whatever it is asked for.
    expected = "adopt" if status in recovery.BEFORE_HOLD else "refuse"
    for found in (
        resize([resized(status)], "m3"),
        resize([record(status)]),
        step("cold_migrate", [resized(status)]),
        resize([resized(status)], target_host="c"),
    ):
        assert found[0] == expected
        assert expected == "adopt" or "recover" in found[1]


@pytest.mark.parametrize("status", UNDER_WAY)
@pytest.mark.parametrize("liveness", [alive, unknown])
def test_no_resize_is_begun_while_another_run_may_be_at_work(status: str, liveness: t.Any) -> None:
    for open_one in (record(status), resized(status), resized(status, dest="a")):
        assert resize([open_one], liveness=liveness)[0] == "refuse"


def test_confirm_and_revert_are_the_same_for_a_resize() -> None:
    for verb in ("confirm", "revert"):
        assert step(verb, [resized("finished", dest="a")])[0] == "act"


def test_a_sweep_confirms_a_resize_on_the_same_node() -> None:
    known = {"a": a_node("a", [a_domain(1)])}
    dated = [resized("finished", dest="a", updated_at="2026-01-01T00:00:00Z")]
    assert verbs.confirmable(t.cast("t.Any", dated), t.cast("t.Any", known), 3600, NOW) == {"ready": [SERVER], "left": []}
    assert verbs.recoverable(t.cast("t.Any", dated), t.cast("t.Any", known), dead) == []


# --- cutover and cancel

HOLD = {"cutover": "hold", "since": "2026-01-01T00:00:00Z", "epoch": 1, "options": {}}
WITH_PRECOPY: t.Any = {"migration_uuid": a_migration(1)["uuid"], "precopy": "in_step"}


def held(**more: t.Any) -> t.Any:
    return record("pre-migrating", **{"hold": HOLD, **more})


def test_nobody_needs_to_be_dead_for_a_held_precopy_to_be_taken_up() -> None:
    for liveness in (dead, alive, unknown, mine):
        for verb in ("cold_migrate", "cutover"):
            assert step(verb, [held()], liveness) == ("adopt", "")
            assert step(verb, [held()], liveness, kind="at") == ("adopt", "")
            assert step(verb, [held()], liveness, kind="hold")[0] == "nothing"
        assert step("cancel", [held()], liveness) == ("act", "")
        assert step("evacuate", [held()], liveness) == ("adopt", "")


def test_a_run_that_cuts_it_over_is_left_alone_and_one_that_was_killed_is_not() -> None:
    taken_up = held(epoch=2)
    for verb in ("cold_migrate", "cutover", "cancel"):
        for liveness in (alive, unknown):
            answer, reason = step(verb, [taken_up], liveness)
            assert answer == "refuse"
            assert "another run is at work" in reason
        assert step(verb, [taken_up], dead)[0] == ("act" if verb == "cancel" else "adopt")
    assert step("cutover", [taken_up], dead, kind="hold")[0] == "nothing"


def test_a_held_precopy_is_not_sent_elsewhere() -> None:
    assert step("cold_migrate", [held()], target_host="b")[0] == "adopt"
    for answer, reason in (step("cold_migrate", [held()], target_host="c"), step("resize", [held()], flavor="m1")):
        assert answer == "refuse"
        assert "cancel that first" in reason
        assert "coldmove.libvirt.cancel -e server=web1" in reason


@pytest.mark.parametrize("status", recovery.IN_FLIGHT)
def test_cutover_completes_what_was_killed_and_waits_only_before_the_stop(status: str) -> None:
    assert step("cutover", [record(status)], dead) == ("adopt", "")
    assert step("cutover", [record(status)], alive)[0] == "refuse"
    for verb in ("cold_migrate", "cutover"):
        for kind in ("hold", "at", "window"):
            answer, reason = step(verb, [record(status)], dead, kind=kind)
            assert answer == ("adopt" if status in recovery.BEFORE_HOLD else "refuse")
            assert status in recovery.BEFORE_HOLD or "does not wait any more" in reason


def test_cutover_of_what_is_done_or_not_there() -> None:
    assert step("cutover", [record("finished")], alive) == ("nothing", "it has moved to b already")
    for records in ([], [record("error")], [record("confirmed")], [record("confirming")], [record("pre-migrating", migration_type="evacuation")]):
        answer, reason = step("cutover", records)
        assert answer == "refuse"
        assert "there is no precopy that could be cut over" in reason


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_cancel_takes_back_what_has_not_been_stopped(status: str) -> None:
    answer, reason = step("cancel", [record(status)], dead)
    assert answer == ("act" if status in recovery.BEFORE_HOLD else "refuse")
    if status in ("migrating", "post-migrating"):
        assert "the guest has been stopped for it" in reason
        assert "coldmove.libvirt.recover" in reason
    if status == "finished":
        assert "which only revert takes back" in reason
        assert "coldmove.libvirt.revert" in reason
    else:
        answer, reason = step("cancel", [record(status)], alive)
        assert answer == "refuse"
        assert "process 7 on ctl is running" in reason


def test_a_second_cancel_changes_nothing() -> None:
    assert step("cancel", [record("error", error="cancelled by ann: no")], alive) == ("nothing", "it is cancelled by ann: no already")
    for records in ([], [record("error", error="no room")], [record("confirmed")], [record("pre-migrating", migration_type="evacuation")]):
        answer, reason = step("cancel", records)
        assert answer == "refuse"
        assert "there is no move that could be cancelled" in reason


def test_recover_leaves_a_held_precopy_alone() -> None:
    sound = nodes()
    sound["a"]["facts"]["journals"] = [WITH_PRECOPY]
    for wanted in ((), ("web1",)):
        for records in ([held()], [held(epoch=2)]):
            (found,) = verbs.recoverable(records, sound, dead, wanted)
            assert found["next"] == "wait"
            assert "left alone" in found["reason"]
            assert "coldmove.libvirt.cutover -e server=web1 or ansible-playbook coldmove.libvirt.cancel -e server=web1" in found["reason"]
    (found,) = verbs.recoverable([held(epoch=2)], sound, alive, ("web1",))
    assert found["next"] == "refuse"
    # A source that does not answer says nothing of it.
    (found,) = verbs.recoverable([held()], {**sound, "a": a_silent_node("a")}, dead, ("web1",))
    assert found["next"] == "wait"


@pytest.mark.parametrize(
    ("journals", "words"),
    [([], "a knows nothing of it"), ([{**WITH_PRECOPY, "precopy": "lost"}], "a has lost it"), ([{**WITH_PRECOPY, "precopy": "over"}], "off")],
)
def test_recover_takes_back_a_held_precopy_that_is_lost_if_its_server_is_named(journals: t.Any, words: str) -> None:
    seen = nodes()
    seen["a"]["facts"]["journals"] = journals
    assert words in verbs.lost_precopy(held(), seen)
    (found,) = verbs.recoverable([held()], seen, alive)
    assert found["next"] == "wait"
    assert words in found["reason"]
    assert "coldmove.libvirt.recover -e server=web1" in found["reason"]
    (found,) = verbs.recoverable([held()], seen, alive, ("web1",))
    assert found["next"] == "act"
    assert verbs.lost_precopy(record("pre-migrating"), seen) == ""


any_held = st.builds(lambda status, epoch: {**held(epoch=epoch), "status": status}, st.sampled_from(STATUSES), st.integers(1, 3))


@given(st.sampled_from(["cutover", "cancel", "cold_migrate"]), any_held, any_liveness, st.sampled_from(["now", "hold", "at", "window"]))
def test_steering_never_touches_what_another_run_is_at_work_on(verb: str, migration: t.Any, liveness: t.Any, kind: str) -> None:
    answer = verbs.next_step(verb, [migration], SERVER, liveness, kind=kind)
    idle = migration["status"] == "pre-migrating" and migration["epoch"] == 1
    if migration["status"] in UNDER_WAY and not idle and liveness in (alive, unknown):
        assert answer["next"] == "refuse"
    if answer["next"] == "act":
        assert verb == "cancel"
        assert migration["status"] in recovery.BEFORE_HOLD
    if answer["next"] == "adopt":
        assert kind != "hold" or migration["status"] == "accepted"
