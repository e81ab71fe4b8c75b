# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every record store must do, whichever database is under it. Each database's test file subclasses RecordStoreContract."""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import signal
import time
import typing as t
import uuid as uuids

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import stateful
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import record_database, records, whereabouts
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.records import Records
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import transitions
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError, Superseded

Place = dict[str, str]
GIB = 1024**3
OWNER = {"controller": "ops1", "pid": 4711}
OTHER = {"controller": "ops2", "pid": 815, "awx_job_id": 7}

# The names that other people's playbooks depend on (docs: DESIGN, "Public interface").
PUBLIC = (
    *("id", "uuid", "server_uuid", "server_name", "migration_type", "status", "source_host", "dest_host", "old_flavor", "new_flavor", "old_power_state"),
    *("created_at", "updated_at", "started_by", "reason", "error", "bytes_total", "bytes_sent", "downtime_seconds", "phases", "held_bytes"),
)

WALK = ("pre-migrating", "migrating", "post-migrating", "finished")


def need(memory_mb: int = 1024) -> dict[str, int]:
    return {"vcpus": 1, "memory_mb": memory_mb, "disk_bytes": GIB}


def candidate(host: str, memory_mb: int = 4096, used_mb: int = 0, counted: t.Sequence[str] = ()) -> dict[str, t.Any]:
    capacity = {"vcpus": 64, "memory_mb": memory_mb, "disk_bytes": 1000 * GIB}
    return {"host": host, "capacity": capacity, "used": {"memory_mb": used_mb}, "counted": list(counted)}


def opening(candidates: t.Sequence[dict[str, t.Any]] | None = None, **given: t.Any) -> dict[str, t.Any]:
    """The arguments of an open; each has another server unless told."""
    return {
        "server_uuid": str(uuids.uuid4()),
        "server_name": "web01",
        "migration_type": "migration",
        "source_host": "A",
        "candidates": [candidate("B")] if candidates is None else candidates,
        "need": need(),
        "as_of": 0,
        "owner": {**OWNER, "pid_start": time.monotonic_ns()},
        **given,
    }


def walk(store: Records, migration: dict[str, t.Any], *statuses: str) -> dict[str, t.Any]:
    for status in statuses:
        migration = store.transition(migration["uuid"], migration["epoch"], status).after
    return migration


@contextlib.contextmanager
def connection(store: Records) -> t.Iterator[t.Any]:
    """The bare database, as somebody has it who knows nothing of this collection."""
    with store.database._engine.connect() as bare:
        yield bare
        bare.commit()


def in_parallel(count: int, function: t.Callable[..., t.Any], *arguments: t.Any) -> list[t.Any]:
    """``function(number, *arguments)`` in ``count`` processes that begin at the same moment."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(count), context.Queue()

    def run(number: int) -> None:
        barrier.wait()
        try:
            answers.put(function(number, *arguments))
        except BaseException as exc:  # a dead process must not look like one that is still at work
            answers.put(repr(exc))

    processes = [context.Process(target=run, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    results = [answers.get(timeout=120) for _process in processes]
    for process in processes:
        process.join()
    return results


def _claim(number: int, place: Place, candidates: list[dict[str, t.Any]], server_uuid: str | None) -> tuple[str, str | None]:
    arguments = opening(candidates, server_name=f"web{number}", owner={"controller": "ops", "pid": number})
    if server_uuid:
        arguments["server_uuid"] = server_uuid
    try:
        return "opened", Records(**place).open(**arguments).after["dest_host"]
    except ColdmoveError as exc:
        return ("no valid host" if str(exc).startswith("no valid host") else "refused" if "already has migration" in str(exc) else str(exc)), None


def _adopt(number: int, place: Place, uuid: str) -> str:
    try:
        return f"epoch {Records(**place).adopt(uuid, 1, {'controller': 'ops', 'pid': number}).after['epoch']}"
    except Superseded:
        return "superseded"


def _write_and_hang(place: Place, uuid: str, told: t.Any) -> None:
    store = Records(**place)
    with store.database.write() as bare:
        bare.execute(sa.update(records.MIGRATIONS).where(records.MIGRATIONS.c.uuid == uuid).values(status="pre-migrating", epoch=99))
        told.put("in mid-transaction")
        time.sleep(600)


class RecordStoreContract:
    """Subclasses give the fixture ``place``: the keyword arguments of ``Records`` for a store that does not exist yet."""

    @pytest.fixture
    def store(self, place: Place) -> Records:
        return Records(**place)

    # -- hold ----------------------------------------------------------------------------------------------------------

    def test_a_precopy_is_held_until_something_else_begins(self, store: Records) -> None:
        options = {"verify": True, "health_checks": [{"type": "agent"}], "bandwidth_limit": "50M"}
        migration = store.open(**opening()).after
        assert migration["hold"] is None
        uuid = migration["uuid"]
        with pytest.raises(ColdmoveError, match="is accepted: only the precopy of one that is pre-migrating is held"):
            store.transition(uuid, 1, "accepted", hold={"cutover": "hold"})
        change = store.transition(uuid, 1, "pre-migrating", hold={"cutover": "hold", "options": options})
        held = change.after["hold"]
        assert change.changed and {key: held[key] for key in ("cutover", "epoch", "options")} == {"cutover": "hold", "epoch": 1, "options": options}
        assert held["since"] == change.after["updated_at"]
        # What else is told of it does not end it, and to hold it again keeps since when.
        assert store.transition(uuid, 1, "pre-migrating", bytes_total=7).after["hold"] == held
        assert not store.transition(uuid, 1, "pre-migrating", hold={"cutover": "hold", "options": options}).changed
        # Who takes it over is seen by the epoch.
        adopted = store.adopt(uuid, 1, OTHER).after
        assert (adopted["epoch"], adopted["hold"]["epoch"]) == (2, 1)
        with pytest.raises(Superseded):
            store.transition(uuid, 1, "pre-migrating", hold={"cutover": "hold"})
        assert store.find(uuid=uuid)[1][0]["hold"] == held
        again = store.transition(uuid, 2, "pre-migrating", hold={"cutover": "hold", "options": {}}).after["hold"]
        assert (again["since"], again["epoch"], again["options"]) == (held["since"], 2, {})
        assert store.transition(uuid, 2, "migrating").after["hold"] is None
        with pytest.raises(ColdmoveError, match="is migrating: only the precopy"):
            store.transition(uuid, 2, "migrating", hold={"cutover": "hold"})

    def test_a_held_precopy_that_is_ended_is_held_no_more(self, store: Records) -> None:
        migration = store.open(**opening()).after
        store.transition(migration["uuid"], 1, "pre-migrating", hold={"cutover": "hold"})
        ended = store.close(migration["uuid"], 1, "error", error="cancelled by ann").after
        assert (ended["hold"], ended["claims"]) == (None, [])

    # -- open ----------------------------------------------------------------------------------------------------------

    def test_the_guards_are_told_what_the_records_say(self, place: Place) -> None:
        with pytest.raises(ColdmoveError, match="no record store yet"):
            whereabouts.answer(**{"url": "", **place}, host="A")
        store = Records(**place)
        migration = store.open(**opening(migration_type="evacuation")).after
        told = whereabouts.answer(**{"url": "", **place}, host="A")
        assert [(entry["server_uuid"], entry["to"]) for entry in told["away"]] == [(migration["server_uuid"], "B")]
        walk(store, migration, "pre-migrating", "done")
        assert whereabouts.answer(**{"url": "", **place}, host="B")["managed"] == [migration["server_uuid"]]

    def test_open_has_the_public_shape(self, store: Records) -> None:
        change = store.open(**opening(server_name="wéb 'x' \"y\" /%_", reason="r", started_by="alice", autostart=True, domain_xml="<domain/>"))
        assert change.changed and change.before is None
        migration = change.after
        assert set(PUBLIC) <= set(migration)
        assert (migration["status"], migration["dest_host"], migration["epoch"]) == ("accepted", "B", 1)
        assert migration["autostart"] is True
        assert str(uuids.UUID(migration["uuid"])) == migration["uuid"] and isinstance(migration["id"], int)
        assert store.find(server="wéb 'x' \"y\" /%_")[1][0]["uuid"] == migration["uuid"]

    def test_second_active_migration_is_refused_and_says_why(self, store: Records) -> None:
        arguments = opening(started_by="alice")
        first = store.open(**arguments).after
        with pytest.raises(ColdmoveError) as refusal:
            store.open(**{**arguments, "server_uuid": arguments["server_uuid"].upper(), "owner": OTHER})
        for part in (f"migration {first['id']}", first["uuid"], "status accepted", "started by alice", first["created_at"], "pid 4711 on ops1", "heartbeat"):
            assert part in str(refusal.value)
        assert refusal.value.result["migration"]["uuid"] == first["uuid"]
        assert len(store.find()[1]) == 1

    def test_the_same_run_may_ask_again_when_the_answer_was_lost(self, store: Records) -> None:
        arguments = opening()
        first = store.open(**arguments)
        again = store.open(**arguments)
        assert again.after["uuid"] == first.after["uuid"] and not again.changed
        walk(store, first.after, "pre-migrating")
        with pytest.raises(ColdmoveError, match="already has migration"):
            store.open(**arguments)

    def test_first_candidate_with_room_wins_and_the_others_say_why(self, store: Records) -> None:
        migration = store.open(
            **opening([candidate("B", 4096, used_mb=3500), candidate("C"), candidate("D")], rejected=[{"host": "A", "reasons": ["is the source"]}])
        ).after
        assert migration["dest_host"] == "C"
        assert [each["host"] for each in migration["rejected"]] == ["A", "B"]
        assert migration["rejected"][1]["reasons"] == ["1024 MiB of memory needed, 596 free (capacity 4096, domains 3500, unfinished migrations 0)"]
        assert migration["candidates"] == ["B", "C", "D"]

    @pytest.mark.parametrize(("kind", "status"), [("migration", "error"), ("evacuation", "failed")])
    @pytest.mark.parametrize("candidates", [[], [candidate("B", 100), candidate("C", 200)]])
    def test_no_valid_host_is_written_and_closed(self, store: Records, candidates: list[dict[str, t.Any]], kind: str, status: str) -> None:
        with pytest.raises(ColdmoveError, match="no valid host for server web01") as refusal:
            store.open(**opening(candidates, migration_type=kind))
        written = store.find()[1][0]
        assert refusal.value.result["migration"]["uuid"] == written["uuid"]
        assert (written["status"], written["dest_host"], written["claims"]) == (status, None, [])
        assert written["error"] == str(refusal.value) and written["closed_event"]
        assert [each["host"] for each in written["rejected"]] == [each["host"] for each in candidates]

    def test_dry_run_decides_and_writes_nothing(self, place: Place) -> None:
        dry = Records(**place, dry_run=True)
        assert dry.find() == (0, [])
        planned = dry.open(**opening([candidate("B", 100), candidate("C")])).after
        assert (planned["dest_host"], planned["id"], planned["uuid"]) == ("C", None, None)
        store = Records(**place)
        migration = store.open(**opening()).after
        as_of = dry.find()[0]
        assert dry.transition(migration["uuid"], 1, "pre-migrating").differences() == ({"status": "accepted"}, {"status": "pre-migrating"})
        with pytest.raises(ColdmoveError, match="no valid host"):
            dry.open(**opening([]))
        after, found = dry.find()
        assert after == as_of and [unaged(each) for each in found] == [unaged(migration)]

    # -- claims --------------------------------------------------------------------------------------------------------

    def test_an_active_record_holds_capacity_on_both_nodes(self, store: Records) -> None:
        first = walk(store, store.open(**opening()).after, *WALK)
        assert first["claims"] == [{"host": "B", **need()}, {"host": "A", **need()}]
        for host in ("A", "B"):
            with pytest.raises(ColdmoveError, match=rf"1024 free .* unfinished migrations 1024: migration {first['id']} of web01"):
                store.open(**opening([candidate(host, 2048)], source_host="X", need=need(1025)))

    def test_a_domain_that_the_facts_count_is_not_counted_twice(self, store: Records) -> None:
        first = store.open(**opening()).after
        counted = [candidate("B", 2048, used_mb=1024, counted=[first["server_uuid"].upper()])]
        assert store.open(**opening(counted, source_host="X", need=need(1024))).after["dest_host"] == "B"

    def test_what_ended_after_the_facts_were_gathered_still_counts(self, store: Records, place: Place) -> None:
        reader = Records(**place, dry_run=True)
        first = walk(store, store.open(**opening()).after, *WALK, "confirming")
        before_the_end = reader.find()[0]
        walk(store, first, "confirmed")
        after_the_end = reader.find()[0]
        assert after_the_end > before_the_end
        stale = opening([candidate("B", 1024)], source_host="X", as_of=before_the_end)
        with pytest.raises(ColdmoveError, match="no valid host"):
            store.open(**stale)
        assert store.open(**{**stale, "as_of": after_the_end}).after["dest_host"] == "B"

    def test_facts_from_before_the_end_of_the_servers_own_move_are_refused(self, store: Records, place: Place) -> None:
        arguments = opening()
        walk(store, store.open(**arguments).after, *WALK, "reverting", "reverted")
        with pytest.raises(ColdmoveError, match="the facts are older than migration"):
            store.open(**arguments)
        arguments["as_of"] = Records(**place, dry_run=True).find()[0]
        assert store.open(**arguments).changed

    def test_same_host_resize_holds_the_growth(self, store: Records) -> None:
        server = str(uuids.uuid4())
        home = candidate("A", 4096, used_mb=1024, counted=[server])
        grown = opening([home], server_uuid=server, migration_type="resize", need=need(4097), old_flavor={"vcpus": 1, "memory_mb": 1024})
        with pytest.raises(ColdmoveError, match="3073 MiB of memory needed, 3072 free"):
            store.open(**grown)
        resized = store.open(**{**grown, "need": need(3072)}).after
        assert resized["source_need"]["memory_mb"] == 1024 and [claim["host"] for claim in resized["claims"]] == ["A"]
        with pytest.raises(ColdmoveError, match="1024 free"):
            store.open(**opening([home], source_host="X", need=need(1025)))

    def test_an_evacuation_holds_nothing_on_its_dead_source_and_names_it_for_cleaning(self, store: Records, place: Place) -> None:
        arguments = opening(migration_type="evacuation")
        migration = store.open(**arguments).after
        assert [claim["host"] for claim in migration["claims"]] == ["B"]
        done = walk(store, migration, "pre-migrating", "done")
        assert done["pending_hosts"] == ["A"] and done["claims"] == []
        assert transitions.needs_cleaning(done) == ["A"]
        # The server may move on before its old node is back.
        onward = {**arguments, "migration_type": "migration", "source_host": "B", "candidates": [candidate("C")]}
        assert store.open(**{**onward, "as_of": Records(**place, dry_run=True).find()[0]}).after["dest_host"] == "C"
        assert walk(store, done, "completed")["pending_hosts"] == []

    def test_the_claim_moves_to_an_alternate_or_the_record_stays(self, store: Records) -> None:
        both = [candidate("B"), candidate("C", 1024)]
        first, second = (walk(store, store.open(**opening(both)).after, "pre-migrating") for _number in range(2))
        with pytest.raises(ColdmoveError, match="X is no candidate of migration 1: its candidates are B, C"):
            store.transition(first["uuid"], 1, "pre-migrating", dest_host="X")
        moved = store.transition(first["uuid"], 1, "pre-migrating", dest_host="C").after
        assert moved["dest_host"] == "C" and [claim["host"] for claim in moved["claims"]] == ["C", "A"]
        with pytest.raises(ColdmoveError, match="C has no room for migration 2 any more: 1024 MiB of memory needed, 0 free"):
            store.transition(second["uuid"], 1, "pre-migrating", dest_host="C")
        assert store.find(uuid=second["uuid"])[1][0]["dest_host"] == "B"
        walk(store, moved, "migrating")
        with pytest.raises(ColdmoveError, match="is migrating: its dest C cannot become B"):
            store.transition(first["uuid"], 1, "migrating", dest_host="B")

    # -- transitions and epochs ----------------------------------------------------------------------------------------

    def test_a_transition_is_compare_and_set_and_idempotent(self, store: Records) -> None:
        migration = store.open(**opening()).after
        files = [{"id": "vda", "source_path": "/v/a"}]
        change = store.transition(migration["uuid"], 1, "pre-migrating", files=files, bytes_total=5, downtime_seconds=None)
        assert change.differences() == (
            {"status": "accepted", "files": [], "bytes_total": None},
            {"status": "pre-migrating", "files": files, "bytes_total": 5},
        )
        again = store.transition(migration["uuid"], 1, "pre-migrating", files=files, bytes_total=5)
        assert not again.changed and again.after["updated_at"] == change.after["updated_at"]
        assert store.transition(migration["uuid"], 1, "pre-migrating", bytes_sent=3).differences() == ({"bytes_sent": None}, {"bytes_sent": 3})
        with pytest.raises(ColdmoveError, match="a migration in status pre-migrating cannot become finished: what may follow is migrating, error"):
            store.transition(migration["uuid"], 1, "finished")
        assert store.find()[1][0]["status"] == "pre-migrating"

    def test_an_empty_error_takes_back_the_last_one(self, store: Records) -> None:
        migration = store.open(**opening()).after
        assert store.transition(migration["uuid"], 1, "accepted", error="disk full \udcff\0").after["error"] == "disk full \\udcff\\0"
        assert store.transition(migration["uuid"], 1, "accepted", error="").after["error"] is None

    def test_a_superseded_run_can_write_nothing(self, store: Records) -> None:
        migration = store.open(**opening()).after
        uuid = migration["uuid"]
        adopted = store.adopt(uuid, 1, OTHER).after
        assert (adopted["epoch"], adopted["owner"]) == (2, OTHER)
        for verb in (
            lambda: store.transition(uuid, 1, "pre-migrating"),
            lambda: store.transition(uuid, 1, "accepted"),
            lambda: store.close(uuid, 1, "error"),
            lambda: store.phase(uuid, 1, "copy", "2026-01-01T00:00:00Z"),
            lambda: store.heartbeat(uuid, 1),
            lambda: store.adopt(uuid, 1, OWNER),
        ):
            with pytest.raises(Superseded, match=r"superseded by run pid 815 on ops2 \(AWX job 7\), taken over at 20.* \(epoch 2, this run has 1\)") as stale:
                verb()
            assert stale.value.result["superseded"] is True
        assert unaged(store.find()[1][0]) == unaged(adopted)
        assert not store.adopt(uuid, 1, OTHER).changed, "the same run may ask again when the answer was lost"

    def test_close_frees_the_server_and_the_claims(self, store: Records) -> None:
        arguments = opening([candidate("B", 1024)])
        migration = store.open(**arguments).after
        with pytest.raises(ColdmoveError, match="not closed by status finished"):
            store.close(migration["uuid"], 1, "finished")
        closed = store.close(migration["uuid"], 1, "error", error="B is on fire", pending_hosts=["B"]).after
        assert (closed["status"], closed["error"], closed["pending_hosts"], closed["claims"]) == ("error", "B is on fire", ["B"], [])
        assert not store.close(migration["uuid"], 1, "error", error="B is on fire", pending_hosts=["B"]).changed
        assert store.close(migration["uuid"], 1, "error", pending_hosts=[]).after["closed_event"] == closed["closed_event"]
        assert store.open(**{**arguments, "as_of": closed["closed_event"] + 1}).after["dest_host"] == "B"

    def test_unknown_records_and_uuids_are_named(self, store: Records) -> None:
        store.open(**opening())
        with pytest.raises(ColdmoveError, match="has no migration 123"):
            store.heartbeat("123", 1)
        with pytest.raises(ColdmoveError, match="'web01' is not a UUID"):
            store.open(**opening(server_uuid="web01"))

    # -- phases, heartbeats, queries -----------------------------------------------------------------------------------

    def test_phases_begin_end_and_are_told_twice(self, store: Records) -> None:
        uuid = store.open(**opening()).after["uuid"]
        begun = store.phase(uuid, 1, "copy", "2026-01-31T13:00:00+01:00").after["phases"]
        assert begun == [{"name": "copy", "started_at": "2026-01-31T12:00:00.000Z", "seconds": None}]
        ended = store.phase(uuid, 1, "copy", "2026-01-31T12:00:00Z", 2.5, {"bytes": 7})
        assert ended.changed and ended.after["phases"][0]["seconds"] == 2.5
        assert not store.phase(uuid, 1, "copy", "2026-01-31T12:00:00").changed
        told = [{"name": "copy", "started_at": "2026-01-31T12:00:00Z", "seconds": 2.5}, {"name": "verify", "started_at": "1769860810.25", "seconds": 1}]
        phases = store.transition(uuid, 1, "pre-migrating", phases=told).after["phases"]
        assert [phase["name"] for phase in phases] == ["copy", "verify"] and phases[1]["started_at"] == "2026-01-31T12:00:10.250Z"
        for bad in ("yesterday", "inf", ""):
            with pytest.raises(ColdmoveError, match="is no date"):
                store.phase(uuid, 1, "copy", bad)

    def test_heartbeats_tell_age_and_progress_and_leave_no_event(self, store: Records) -> None:
        migration = store.open(**opening()).after
        events = store.find(with_events=True)[1][0]["events"]
        time.sleep(0.25)
        assert store.find()[1][0]["heartbeat_age_seconds"] >= 0.2
        beat = store.heartbeat(migration["uuid"], 1, {"step": "copy", "percent": 12})
        assert not beat.changed and beat.after["progress"] == {"step": "copy", "percent": 12} and beat.after["heartbeat_age_seconds"] < 0.2
        assert beat.after["updated_at"] == migration["updated_at"]
        assert store.heartbeat(migration["uuid"], 1).after["progress"] == {"step": "copy", "percent": 12}
        assert store.find(with_events=True)[1][0]["events"] == events

    def test_filters(self, store: Records) -> None:
        one = store.open(**opening(server_name="web01")).after
        two = store.open(**opening([candidate('C"%_')], server_name="db01", source_host="D")).after
        store.close(two["uuid"], 1, "error", pending_hosts=['E"%_'])

        def names(**filters: t.Any) -> list[str]:
            return [migration["server_name"] for migration in store.find(**filters)[1]]

        assert names() == ["web01", "db01"]
        assert names(server="web01") == names(server=one["server_uuid"].upper()) == names(uuid=one["uuid"]) == names(active=True) == ["web01"]
        assert names(host="A") == names(host="B") == ["web01"]
        assert names(host='C"%_') == names(host="D") == names(host='E"%_') == names(status=["error", "failed"]) == ["db01"]
        assert names(host='E"%') == names(host="E") == names(active=True, status=["error"]) == names(server="web") == []

    def test_the_definition_is_only_for_those_who_ask(self, store: Records) -> None:
        secret = "<graphics passwd='s3cret'/>"
        opened = store.open(**opening(domain_xml=secret))
        assert "s3cret" not in repr(opened) and "s3cret" not in repr(store.find(with_events=True))
        assert "s3cret" not in repr(opened.differences())
        assert store.find(with_definition=True)[1][0]["domain_xml"] == secret

    # -- many at once, and kills ---------------------------------------------------------------------------------------

    def test_fifty_claimers_never_book_the_same_memory_twice(self, place: Place) -> None:
        hosts = [candidate("B", 20 * 1024), candidate("C", 10 * 1024)]
        results = collections.Counter(in_parallel(50, _claim, place, hosts, None))
        assert results == {("opened", "B"): 20, ("opened", "C"): 10, ("no valid host", None): 20}, results
        held = collections.Counter(claim["host"] for each in Records(**place).find()[1] for claim in each["claims"])
        assert (held["B"], held["C"]) == (20, 10)

    def test_fifty_openers_of_one_server_get_one_record(self, place: Place) -> None:
        server = str(uuids.uuid4())
        results = collections.Counter(answer for answer, _host in in_parallel(50, _claim, place, [candidate("B", 10**6)], server))
        assert results == {"opened": 1, "refused": 49}, results
        assert len(Records(**place).find()[1]) == 1

    def test_twenty_adopters_one_wins(self, store: Records, place: Place) -> None:
        uuid = store.open(**opening()).after["uuid"]
        assert collections.Counter(in_parallel(20, _adopt, place, uuid)) == {"epoch 2": 1, "superseded": 19}

    def test_a_writer_killed_in_mid_transaction_leaves_no_trace_and_no_lock(self, store: Records, place: Place) -> None:
        migration = store.open(**opening()).after
        context = multiprocessing.get_context("fork")
        told = context.Queue()
        writer = context.Process(target=_write_and_hang, args=(place, migration["uuid"], told))
        writer.start()
        assert told.get(timeout=30) == "in mid-transaction"
        os.kill(t.cast("int", writer.pid), signal.SIGKILL)
        writer.join()
        began = time.monotonic()
        assert unaged(store.find()[1][0]) == unaged(migration)
        assert walk(store, migration, "pre-migrating")["epoch"] == 1
        assert time.monotonic() - began < 5

    # -- the database itself -------------------------------------------------------------------------------------------

    def test_the_database_itself_allows_one_active_migration_per_server(self, store: Records) -> None:
        arguments = opening()
        first = store.open(**arguments).after
        with connection(store) as bare:
            row = dict(bare.execute(sa.select(records.MIGRATIONS)).one()._mapping)
        del row["id"]
        for status in (*transitions.STATUSES, "bogus"):
            copy = {**row, "uuid": str(uuids.uuid4()), "status": status}
            outcome = contextlib.nullcontext() if status in transitions.TERMINAL else pytest.raises(sa.exc.IntegrityError)
            with outcome, connection(store) as bare:
                bare.execute(sa.insert(records.MIGRATIONS).values(copy))
        with pytest.raises(sa.exc.IntegrityError), connection(store) as bare:
            bare.execute(sa.update(records.MIGRATIONS).where(records.MIGRATIONS.c.uuid != first["uuid"]).values(status="migrating"))

    def test_the_schema_has_the_columns_that_the_code_names(self, store: Records) -> None:
        store.open(**opening())
        with connection(store) as bare:
            for table in (records.MIGRATIONS, records.EVENTS):
                assert {column["name"] for column in sa.inspect(bare).get_columns(table.name)} == {column.name for column in table.c}

    def test_the_schema_is_upgraded_once_and_keeps_what_is_there(self, store: Records, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        migration = store.open(**opening()).after
        step = ("ALTER TABLE coldmove_migrations ADD COLUMN colour TEXT DEFAULT 'blue'", "CREATE TABLE coldmove_extra (id {serial}, x TEXT)")
        monkeypatch.setattr(record_database, "UPGRADES", (*record_database.UPGRADES, step))
        # Reading looks at the store as it will be, and leaves it as it is.
        assert [unaged(each) for each in Records(**place, dry_run=True).find()[1]] == [unaged(migration)]
        assert self._columns(store) == {column.name for column in records.MIGRATIONS.c}
        results = in_parallel(8, _claim, place, [candidate("B", 10**6)], None)
        assert results == [("opened", "B")] * 8
        assert "colour" in self._columns(store)
        assert len(store.find()[1]) == 9

    def test_a_newer_schema_is_refused(self, store: Records, place: Place) -> None:
        store.open(**opening())
        with connection(store) as bare:
            bare.exec_driver_sql("UPDATE coldmove_schema SET version = 99")
        for verb in (lambda: store.open(**opening()), Records(**place, dry_run=True).find):
            with pytest.raises(ColdmoveError, match=r"has schema version 99, this release of coldmove.libvirt knows 3; nothing was changed. Upgrade"):
                verb()

    @staticmethod
    def _columns(store: Records) -> set[str]:
        with connection(store) as bare:
            return {column["name"] for column in sa.inspect(bare).get_columns("coldmove_migrations")}


def unaged(migration: dict[str, t.Any]) -> dict[str, t.Any]:
    return {key: value for key, value in migration.items() if key not in ("heartbeat_age_seconds", "events", "domain_xml")}


# -- a small world: servers really move, controllers have facts of any age ----------------------------------------------------

HOSTS = ("A", "B", "C")
CAPACITY_MB = 4
NEXT = {"accepted": "pre-migrating", "pre-migrating": "migrating", "migrating": "post-migrating", "post-migrating": "finished"}


class RecordStoreWalk(stateful.RuleBasedStateMachine):
    """Whatever controllers do with facts of whatever age: no node ever gives more memory than it has."""

    new_place: t.Callable[[], Place]

    @classmethod
    def check(cls, new_place: t.Callable[[], Place], examples: int) -> None:
        """Run the machine on stores that ``new_place`` makes, one for each example."""
        machine = type("Walk", (cls,), {"new_place": staticmethod(new_place)})
        settings = hypothesis.settings(
            max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), database=None
        )
        stateful.run_state_machine_as_test(machine, settings=settings)

    def __init__(self) -> None:
        super().__init__()
        place = self.new_place()
        self.store, self.reader = Records(**place), Records(**place, dry_run=True)
        # server -> [host or None while it is held, memory]
        self.servers = {str(uuids.UUID(int=number)): [HOSTS[number], 3 - number] for number in range(3)}
        self.active: dict[str, dict[str, t.Any]] = {}
        self.facts = [self._gather()]

    def _gather(self) -> dict[str, t.Any]:
        as_of = self.reader.find()[0]
        candidates = []
        for host in HOSTS:
            there = [(uuid, memory) for uuid, (at, memory) in self.servers.items() if at == host]
            used = sum(memory for _uuid, memory in there)
            candidates.append(candidate(host, CAPACITY_MB, used, [uuid for uuid, _memory in there]))
        return {"as_of": as_of, "candidates": candidates, "servers": {uuid: list(where) for uuid, where in self.servers.items()}}

    @stateful.rule()
    def gather(self) -> None:
        self.facts.append(self._gather())

    @stateful.rule(data=st.data(), memory_mb=st.none() | st.integers(1, 4))
    def open(self, data: t.Any, memory_mb: int | None) -> None:
        facts = data.draw(st.sampled_from(self.facts[-2:]))
        uuid = data.draw(st.sampled_from(sorted(self.servers)))
        source, memory = facts["servers"][uuid]
        if source is None:
            return
        hosts = [each for each in facts["candidates"] if memory_mb or each["host"] != source]
        flavor = {"migration_type": "resize", "old_flavor": {"vcpus": 1, "memory_mb": memory}} if memory_mb else {}
        try:
            migration = self.store.open(
                **opening(hosts, server_uuid=uuid, source_host=source, need=need(memory_mb or memory), as_of=facts["as_of"], **flavor)
            ).after
        except ColdmoveError:
            return
        assert uuid not in self.active, "two active migrations of one server"
        # A run whose facts of this very server are stale finds that out at the source, before it does anything.
        if self.servers[uuid] != [source, memory]:
            self.store.close(migration["uuid"], 1, "error")
        else:
            self.active[uuid] = migration

    def _move(self, data: t.Any, statuses: t.Collection[str]) -> dict[str, t.Any] | None:
        eligible = sorted(uuid for uuid, migration in self.active.items() if migration["status"] in statuses)
        return self.active[data.draw(st.sampled_from(eligible))] if eligible else None

    def _to(self, migration: dict[str, t.Any], status: str, **given: t.Any) -> None:
        if status not in transitions.legal(migration["migration_type"], migration["status"]):
            with pytest.raises(ColdmoveError):
                self.store.transition(migration["uuid"], migration["epoch"], status)
            return
        after = self.store.transition(migration["uuid"], migration["epoch"], status, **given).after
        self.active[after["server_uuid"]] = after
        if status in transitions.TERMINAL:
            del self.active[after["server_uuid"]]

    @stateful.rule(data=st.data(), steps=st.integers(1, 4))
    def go_on(self, data: t.Any, steps: int) -> None:
        migration = self._move(data, NEXT)
        while migration and steps and migration["status"] in NEXT:
            server, steps = migration["server_uuid"], steps - 1
            if migration["status"] == "pre-migrating":
                self.servers[server][0] = None  # off, and held
            if migration["status"] == "post-migrating":
                self.servers[server] = [migration["dest_host"], migration["need"]["memory_mb"]]
            self._to(migration, NEXT[migration["status"]])
            migration = self.active[server]

    @stateful.rule(data=st.data())
    def fail(self, data: t.Any) -> None:
        migration = self._move(data, NEXT)
        if migration:
            self.servers[migration["server_uuid"]] = [migration["source_host"], migration["source_need"]["memory_mb"]]
            self._to(migration, "error")

    @stateful.rule(data=st.data(), back=st.booleans())
    def end(self, data: t.Any, back: bool) -> None:
        migration = self._move(data, ["finished"])
        if migration:
            self._to(migration, "reverting" if back else "confirming")
            if back:
                self.servers[migration["server_uuid"]] = [migration["source_host"], migration["source_need"]["memory_mb"]]
            self._to(self.active[migration["server_uuid"]], "reverted" if back else "confirmed")

    @stateful.rule(data=st.data(), host=st.sampled_from(HOSTS))
    def take_the_alternate(self, data: t.Any, host: str) -> None:
        migration = self._move(data, transitions.DEST_MAY_CHANGE)
        if migration:
            with contextlib.suppress(ColdmoveError):
                self.active[migration["server_uuid"]] = self.store.transition(migration["uuid"], migration["epoch"], migration["status"], dest_host=host).after

    @stateful.rule(data=st.data())
    def take_over(self, data: t.Any) -> None:
        migration = self._move(data, transitions.ACTIVE)
        if migration:
            self.active[migration["server_uuid"]] = self.store.adopt(migration["uuid"], migration["epoch"], OTHER).after
            with pytest.raises(Superseded):
                self.store.heartbeat(migration["uuid"], migration["epoch"])

    @stateful.rule(data=st.data(), status=st.sampled_from(transitions.STATUSES))
    def jump(self, data: t.Any, status: str) -> None:
        migration = self._move(data, transitions.ACTIVE)
        if migration and status not in (*transitions.legal(migration["migration_type"], migration["status"]), migration["status"]):
            self._to(migration, status)

    @stateful.invariant()
    def no_node_gives_more_than_it_has(self) -> None:
        for host in HOSTS:
            # What is there, what will come, and what may have to come back.
            promised = {uuid: memory for uuid, (at, memory) in self.servers.items() if at == host}
            for uuid, migration in self.active.items():
                for at, size in ((migration["dest_host"], migration["need"]), (migration["source_host"], migration["source_need"])):
                    if at == host:
                        promised[uuid] = max(promised.get(uuid, 0), size["memory_mb"])
            assert sum(promised.values()) <= CAPACITY_MB, (host, promised)

    @stateful.invariant()
    def the_store_says_the_same(self) -> None:
        assert {each["server_uuid"]: each["status"] for each in self.reader.find(active=True)[1]} == {u: m["status"] for u, m in self.active.items()}
