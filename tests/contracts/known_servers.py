# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the store must do with last-known records of servers and with the flags of nodes, whichever database is under it."""

from __future__ import annotations

import typing as t

import pytest
import sqlalchemy as sa

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import compute_services, record_database, server_records
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.compute_services import ComputeServices
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.record_rows import encode
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.records import MIGRATIONS, Records, _new_row
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.server_records import ServerRecords
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import services
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import UNDER_WAY
from contracts.record_store import Place, connection, opening, walk

A_UUID = "6695eb01-f6a4-4304-79aa-97f2502e193f"
B_UUID = "0a2d0e25-8a3c-4b2f-9c0b-0a8b8c1a4b11"
SHARED = {"/srv/a": {"identity": "ab" * 16, "seen_by": ["C", "B"]}, "/srv/b": {"identity": "cd" * 16, "seen_by": []}}


def snapshot(server_uuid: str = A_UUID, name: str = "web01", directory: str = "/srv/a", **more: t.Any) -> dict[str, t.Any]:
    """One server as a node tells of it."""
    disk = {"target": "vda", "type": "file", "path": f"{directory}/{name}.qcow2", "moves": True}
    return {
        "server_uuid": server_uuid,
        "name": name,
        "state": "running",
        "autostart": True,
        "flavor": {"name": "m1.small", "vcpus": 1},
        "facts": {"uuid": server_uuid, "name": name, "disks": [disk]},
        "xml": "<graphics passwd='s3cret'/>",
        "nvram": None,
        "config_drives": {"vdb": "eJw="},
        **more,
    }


class KnownServersContract:
    """Subclasses have a fixture ``place``."""

    @pytest.fixture
    def known(self, place: Place) -> ServerRecords:
        return ServerRecords(**place)

    @pytest.fixture
    def nodes(self, place: Place) -> ComputeServices:
        return ComputeServices(**place)

    # -- servers -------------------------------------------------------------------------------------------------------

    def test_what_was_saved_is_found(self, known: ServerRecords) -> None:
        assert known.save("A", [snapshot()], SHARED).changed
        (row,) = known.find(with_definition=True)
        assert {name: row[name] for name in snapshot()} == snapshot()
        assert (row["host"], row["age_seconds"] < 60, row["seen_at"][-1]) == ("A", True, "Z")
        # Of the node's directories only the server's own, and who sees them in order.
        assert row["storage"] == {"/srv/a": {"identity": "ab" * 16, "seen_by": ["B", "C"]}}

    def test_secrets_are_for_those_who_ask(self, known: ServerRecords) -> None:
        saved = known.save("A", [snapshot()], SHARED)
        assert "s3cret" not in repr(known.find()) + repr(saved)
        assert not set(server_records.DEFINITION) & set(known.find()[0])

    def test_the_same_again_is_no_change_but_a_younger_record(self, known: ServerRecords) -> None:
        known.save("A", [snapshot()], SHARED)
        first = known.find()[0]["seen_at"]
        assert not known.save("A", [snapshot()]).changed
        assert known.find()[0]["seen_at"] > first
        assert known.save("A", [snapshot(xml="<domain/>")]).changed

    def test_a_server_moves_with_its_record_and_not_with_its_old_nodes_storage(self, known: ServerRecords) -> None:
        known.save("A", [snapshot()], SHARED)
        known.save("B", [snapshot()])
        (row,) = known.find()
        assert (row["host"], row["storage"]) == ("B", {})
        assert known.storage()["A"]["/srv/a"]["identity"] == "ab" * 16
        # The other node has proven the same directory for servers of its own.
        known.save("B", [], {"/srv/a": {"identity": "ef" * 16, "seen_by": ["A"]}})
        assert known.find()[0]["storage"]["/srv/a"]["seen_by"] == ["A"]

    def test_storage_is_replaced_as_a_whole_or_left(self, known: ServerRecords) -> None:
        known.save("A", [snapshot()], SHARED)
        known.save("A", [snapshot()])
        assert set(known.storage()["A"]) == {"/srv/a", "/srv/b"}
        known.save("A", [snapshot()], {})
        assert known.storage() == {}

    def test_filters(self, known: ServerRecords) -> None:
        known.save("A", [snapshot(), snapshot(B_UUID, "web02")])
        known.save("B", [snapshot(B_UUID, "web02")])
        assert [row["name"] for row in known.find()] == ["web01", "web02"]
        assert [row["name"] for row in known.find(host="B")] == ["web02"]
        assert [row["name"] for row in known.find(server=A_UUID.upper())] == ["web01"]
        assert [row["host"] for row in known.find(server="web02")] == ["B"]
        assert known.find(server="web02", host="A") == []

    def test_a_server_that_a_verb_is_at_work_on_keeps_its_record(self, known: ServerRecords, place: Place) -> None:
        """Whatever the status is: what a node shows of a server in the middle of a move is no record of it."""
        known.save("A", [snapshot()])
        store = Records(**place)
        migration = store.open(**opening(server_uuid=A_UUID)).after
        for status in ("accepted", "pre-migrating", "migrating", "post-migrating"):
            migration = walk(store, migration, *([status] if status != "accepted" else []))
            assert status in UNDER_WAY
            saved = known.save("B", [snapshot(), snapshot(B_UUID, "web02")])
            assert saved.left == {A_UUID: f"migration {migration['id']} is {status}"}
            assert known.forget([A_UUID]).left == saved.left
            assert [row["host"] for row in known.find()] == ["A", "B"]
        migration = walk(store, migration, "finished")
        assert known.save("B", [snapshot()], as_of=migration["last_event"]).left == {}
        assert [row["host"] for row in known.find()] == ["B", "B"]

    def test_what_was_seen_before_a_move_does_not_undo_its_record(self, known: ServerRecords, place: Place) -> None:
        """A sync that looked before a move ended, and writes after it."""
        store = Records(**place)
        as_of = store.find()[0] if known.save("A", [snapshot()]).changed else -1
        migration = walk(store, store.open(**opening(server_uuid=A_UUID)).after, "pre-migrating", "migrating", "post-migrating", "finished")
        known.save("B", [snapshot()], as_of=migration["last_event"])
        late = known.save("A", [snapshot()], as_of=as_of)
        assert (late.left, known.find()[0]["host"]) == ({A_UUID: f"migration {migration['id']} became finished"}, "B")
        assert known.forget([A_UUID], as_of=as_of).left and known.find()
        # Who looks now is right, whatever moved the server.
        assert known.save("A", [snapshot()], as_of=store.find()[0]).left == {}

    def test_phases_and_heartbeats_do_not_make_a_look_old(self, known: ServerRecords, place: Place) -> None:
        store = Records(**place)
        migration = walk(store, store.open(**opening(server_uuid=A_UUID)).after, "pre-migrating", "migrating", "post-migrating", "finished")
        as_of = store.find()[0]
        store.phase(migration["uuid"], 1, "late", "2026-01-31T12:00:00Z", 1.0)
        assert known.save("B", [snapshot()], as_of=as_of).left == {}

    def test_forget(self, known: ServerRecords) -> None:
        assert not known.forget([A_UUID]).changed
        known.save("A", [snapshot(), snapshot(B_UUID, "web02")])
        assert known.forget([A_UUID, "unknown"]).changed
        assert not known.forget([A_UUID]).changed
        assert [row["name"] for row in known.find()] == ["web02"]

    def test_a_dry_run_changes_nothing(self, known: ServerRecords, nodes: ComputeServices, place: Place) -> None:
        dry, dry_nodes = ServerRecords(**place, dry_run=True), ComputeServices(**place, dry_run=True)
        assert dry.save("A", [snapshot()], SHARED).changed and dry_nodes.set("A", disabled={"by": "alice"}).changed
        assert (known.database.dry_run, dry.find(), dry.storage(), dry_nodes.get()) == (False, [], {}, {})
        known.save("A", [snapshot()])
        assert dry.forget([A_UUID]).changed and dry.find()

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def test_each_flag_stands_for_itself(self, nodes: ComputeServices) -> None:
        assert nodes.set("A", disabled={"by": "alice", "reason": "a fan"}).changed
        assert nodes.set("A", fenced={"by": "bob", "how": "agent", "at": "2026-01-01T00:00:00Z"}, forced_down={"by": "bob"}).changed
        flags = nodes.get()["A"]
        assert [name for name in services.FLAGS if flags[name]] == ["disabled", "forced_down", "fenced"]
        assert flags["disabled"]["reason"] == "a fan" and flags["disabled"]["at"].endswith("Z")
        assert flags["fenced"]["at"] == "2026-01-01T00:00:00Z"
        assert nodes.set("A", forced_down=None).changed
        assert [name for name in services.FLAGS if nodes.get("A")["A"][name]] == ["disabled", "fenced"]
        assert nodes.enable("A").changed
        assert nodes.get("A") == {"A": dict.fromkeys(services.FLAGS)}

    def test_the_same_words_keep_their_date(self, nodes: ComputeServices) -> None:
        first = nodes.set("A", disabled={"by": "alice", "reason": "a fan"}).after["disabled"]
        again = nodes.set("A", disabled={"by": "alice", "reason": "a fan"})
        assert (again.changed, again.after["disabled"]) == (False, first)
        assert nodes.set("A", disabled={"by": "alice", "reason": "two fans"}).changed

    def test_nothing_to_take_back_is_no_change_and_makes_no_store(self, nodes: ComputeServices) -> None:
        assert not nodes.enable("A").changed
        assert not nodes.set("A", forced_down=None).changed
        assert nodes.get() == {}

    @pytest.mark.parametrize(
        "walked", [[], ["pre-migrating"], ["pre-migrating", "done"], ["pre-migrating", "done", "completed"], ["error"], ["error", "failed"]], ids="-".join
    )
    def test_a_node_with_evacuated_copies_stays_out(self, nodes: ComputeServices, place: Place, walked: list[str]) -> None:
        """While its servers are being taken, and until it is cleaned."""
        nodes.set("A", fenced={"by": "alice", "how": "agent"})
        store = Records(**place)
        walk(store, store.open(**opening(migration_type="evacuation")).after, *walked)
        status = ["accepted", *walked][-1]
        if status in ("accepted", "pre-migrating", "done"):
            with pytest.raises(ColdmoveError, match=rf"A stays out of service, .* web01 to B \(migration 1, {status}\).*recover -e host=A"):
                nodes.enable("A")
            assert nodes.get()["A"]["fenced"]
            assert nodes.set("B", disabled={"by": "x"}).changed and nodes.enable("B").changed
        else:
            assert nodes.enable("A").changed

    def test_a_server_is_taken_only_from_a_node_that_is_noted_as_fenced(self, nodes: ComputeServices, place: Place) -> None:
        """Whoever puts it back into service meanwhile, either comes first, and nothing is opened, or is refused."""
        store = Records(**place)
        given = opening(migration_type="evacuation", source_fenced=True)
        for flags in ({}, {"disabled": {"by": "x"}}, {"fenced": {"by": "x"}}, {"fenced": None}):
            nodes.set("A", **flags)
            nodes.set("B", fenced={"by": "x"})
            if flags.get("fenced"):
                nodes.enable("A")
            with pytest.raises(ColdmoveError, match="A is not noted as fenced any more.*Nothing was changed"):
                store.open(**given)
        assert store.find()[1] == []
        nodes.set("A", fenced={"by": "alice"})
        assert store.open(**given).after["status"] == "accepted"
        with pytest.raises(ColdmoveError, match="stays out of service"):
            nodes.enable("A")
        assert store.open(**opening(migration_type="evacuation", source_host="C")).after["status"] == "accepted"

    # -- schema --------------------------------------------------------------------------------------------------------

    def test_the_schema_has_the_columns_that_the_code_names(self, known: ServerRecords) -> None:
        known.save("A", [snapshot()])
        with connection(t.cast("t.Any", known)) as bare:
            for table in (server_records.SERVERS, server_records.STORAGE, compute_services.NODES):
                assert {column["name"] for column in sa.inspect(bare).get_columns(table.name)} == {column.name for column in table.c}

    def test_a_store_of_version_1_is_brought_up_to_date(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as before:
            before.setattr(record_database, "UPGRADES", record_database.UPGRADES[:1])
            row = {key: value for key, value in _new_row(opening(server_uuid=A_UUID), 1.0).items() if key != "hold"}
            with Records(**place).database.write(create=True) as bare:
                bare.execute(sa.insert(MIGRATIONS).values(encode({**row, "dest_host": "B"})))
            assert "coldmove_servers" not in self._tables(place)
        # A look sees what will be there, and leaves the store as it is.
        assert ServerRecords(**place, dry_run=True).find() == [] == list(ComputeServices(**place, dry_run=True).get())
        assert "coldmove_servers" not in self._tables(place)
        assert ServerRecords(**place).save("A", [snapshot()]).left == {A_UUID: "migration 1 is accepted"}
        assert ServerRecords(**place).save("A", [snapshot(B_UUID)]).changed
        assert [(each["uuid"], each["hold"]) for each in Records(**place).find()[1]] == [(row["uuid"], None)]

    @staticmethod
    def _tables(place: Place) -> list[str]:
        with connection(Records(**place)) as bare:
            return list(sa.inspect(bare).get_table_names())
