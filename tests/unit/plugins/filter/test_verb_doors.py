# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doors that the verbs and the trust of the nodes use: one clear line for what is wrong, plain values out."""

from __future__ import annotations

import datetime
import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.filter import (
    confirmable,
    cutover_plan,
    gone_servers,
    host_name,
    known_hosts_lines,
    lost_nodes,
    next_step,
    outcome_stats,
    own_servers,
    peers,
    recoverable,
    recovery_decision,
    server_host,
    status_report,
    storage_identities,
)
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._run_identity import run_identity
from ansible_collections.coldmove.libvirt.tests.unit.plugins.filter.test_doors import Odd, door, is_plain
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import a_domain, a_migration, a_node, a_silent_node, uuid_of

MODULES = [
    *(confirmable, gone_servers, host_name, known_hosts_lines, lost_nodes, next_step, outcome_stats, own_servers, peers, recoverable, server_host),
    *(cutover_plan, status_report, storage_identities),
]
NODES = {"a": a_node("a"), "b": a_node("b", [a_domain(1)])}
KEYS = {"ssh_host_key_ed25519_public": Odd("AAAA"), "ssh_host_key_ed25519_public_keytype": "ssh-ed25519"}
HOSTVARS = {"n1": {"ansible_host": Odd("192.0.2.1")}, "n2": {"migration_port": "x"}}
BY_NAME = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])


@BY_NAME
def test_documentation_is_whole(module: t.Any) -> None:
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert documentation["name"] == module.__name__.rpartition(".")[2]
    assert set(filter(None, documentation.get("positional", "").split(", "))) <= set(documentation["options"])
    assert yaml.safe_load(module.EXAMPLES)
    assert yaml.safe_load(module.RETURN)["_value"]["type"]


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        (next_step, ("x", "confirm", uuid_of(1), NODES), "migrations must be a list, not str"),
        (next_step, ([], "confirm", uuid_of(1), []), "nodes must be a dictionary, not list"),
        (next_step, ([], "fly", uuid_of(1), NODES), "no such verb: fly"),
        (next_step, ([], "confirm", uuid_of(1), NODES, "soon"), "lease_seconds is 'soon'"),
        (recoverable, ([1], NODES), "migrations must be a list of dictionaries"),
        (recoverable, ([], None), "nodes must be a dictionary"),
        (recoverable, ([], NODES, {"web1": 1}), "the list of names must be a list"),
        (recoverable, ([], NODES, [], "", -1), "lease_seconds is -1"),
        (confirmable, ([], NODES, "a day"), "older_than is 'a day': a number of seconds is needed"),
        (confirmable, ([], NODES, None), "older_than is None"),
        (confirmable, ([], NODES, "-1"), "0 or more"),
        (confirmable, ([], NODES, "nan"), "0 or more"),
        (confirmable, ({}, NODES, 1), "migrations must be a list"),
        (lost_nodes, ([], "a"), "nodes must be a dictionary"),
        (status_report, ([], NODES, None, None, "x"), "lease_seconds is 'x'"),
        (outcome_stats, ("x",), "outcomes must be a list"),
        (peers, ("n1", HOSTVARS), "the list of nodes must be a list, not str"),
        (peers, (["n1"], None), "hostvars must be a dictionary"),
        (peers, (["n9"], HOSTVARS), "node 'n9' is not in the inventory"),
        (peers, (["n1", "n2"], HOSTVARS), "migration_port of n2 is 'x'"),
        (known_hosts_lines, ("n1", 22, KEYS), "the list of names must be a list, not str"),
        (known_hosts_lines, (["n1"], "ssh", KEYS), "port is 'ssh'"),
        (known_hosts_lines, (["n1"], 0, KEYS), "port is 0"),
        (known_hosts_lines, (["n1"], 22, []), "facts must be a dictionary"),
        (known_hosts_lines, ([], 22, KEYS), "set migration_address"),
    ],
)
def test_what_is_wrong_is_one_clear_line(module: t.Any, arguments: tuple[t.Any, ...], words: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        door(module)(*arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# --- next_step and recoverable look at the run of the record themselves


def a_run(**owner: t.Any) -> dict[str, t.Any]:
    return {"owner": {"controller": "elsewhere", "boot_id": "b", "pid": 7, "pid_start": 1, "pid_ns": "n", **owner}}


def test_a_run_elsewhere_is_dead_when_its_lease_is_over() -> None:
    for age, lease, found in [(30, 60, "refuse"), (30, "20", "adopt"), (30, "", "refuse"), (90, None, "adopt")]:
        record = a_migration(1, "migrating", heartbeat_age_seconds=age, **a_run())
        answer = door(next_step)([record], "cold_migrate", uuid_of(1), NODES, lease, None)
        assert answer["next"] == found, (age, lease)
        assert is_plain(answer)
        (entry,) = door(recoverable)([record], NODES, lease_seconds=lease)
        assert entry["next"] == {"adopt": "act"}.get(found, found)
        assert is_plain(entry)


def test_a_contact_with_a_node_is_a_sign_of_life() -> None:
    record = a_migration(1, "migrating", heartbeat_age_seconds=900, **a_run())
    contact = {"migration_uuid": record["uuid"], "epoch": record["epoch"], "contact_age_seconds": 3}
    known = {**NODES, "a": a_node("a", facts={"journals": [contact]})}
    assert door(next_step)([record], "cold_migrate", uuid_of(1), known)["next"] == "refuse"


def test_this_very_run_is_not_in_its_own_way() -> None:
    record = a_migration(1, "migrating", heartbeat_age_seconds=1, owner=run_identity())
    assert door(next_step)([record], "cold_migrate", uuid_of(1), NODES)["next"] == "adopt"


def test_servers_may_be_a_list_or_separated_by_commas() -> None:
    records = [a_migration(number, "migrating", heartbeat_age_seconds=900) for number in (1, 2, 3)]
    for wanted in (["web1", uuid_of(3)], f"web1, {uuid_of(3)}", Odd(f"web1,{uuid_of(3)}")):
        assert [entry["migration"]["id"] for entry in door(recoverable)(records, NODES, wanted)] == [1, 3]
    for everything in ([], "", None):
        assert len(door(recoverable)(records, NODES, everything)) == 3


# --- the others


def test_a_sweep_goes_by_the_clock_of_the_controller() -> None:
    def ago(**more: int) -> str:
        return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(**more)).isoformat()

    records = [a_migration(1, updated_at=ago(hours=2)), a_migration(2, updated_at=ago(hours=2)), a_migration(3, updated_at=ago(minutes=1))]
    found = door(confirmable)(records, NODES, "3600")
    assert found["ready"] == [uuid_of(1)]
    assert len(found["left"]) == 1
    assert is_plain(found)
    assert door(confirmable)(records, NODES, "86400") == {"ready": [], "left": []}


def test_a_lost_node_is_told() -> None:
    assert is_plain(door(lost_nodes)([a_migration(1, dest="gone")], NODES))
    assert len(door(lost_nodes)([a_migration(1, dest="gone")], NODES)) == 1
    assert door(lost_nodes)(None, {}) == []


def test_status_shows_the_chosen_migrations_and_all_nodes() -> None:
    records = [a_migration(1, "migrating", heartbeat_age_seconds=1, **a_run()), a_migration(2, "finished", server_name="x\ny")]
    lines = door(status_report)(records, NODES)
    assert is_plain(lines)
    assert not any("\n" in line for line in lines)
    text = "\n".join(lines)
    assert "process 7 on elsewhere" in text
    assert "web1" in text
    assert "x\\ny" in text
    only = "\n".join(door(status_report)(records, NODES, "web1"))
    assert "web1" in only
    assert "x\\ny" not in only
    assert door(status_report)([], {})[-1] == "no migrations"


def test_stats_hold_the_public_keys_and_nothing_of_the_definition() -> None:
    (stats,) = door(outcome_stats)([a_migration(1, downtime_seconds=0.9, domain_xml="<secret/>", ok=True)])
    assert set(stats) == {"id", "server", "status", "source_host", "dest_host", "bytes_sent", "downtime_seconds", "held_since"}
    assert (stats["server"], stats["downtime_seconds"]) == ("web1", 0.9)
    assert stats["held_since"] is None
    assert door(outcome_stats)([{"hold": {"since": "2026-01-01T00:00:00Z"}}])[0]["held_since"] == "2026-01-01T00:00:00Z"
    assert is_plain(stats)
    assert door(outcome_stats)([{}])[0]["server"] is None
    assert door(outcome_stats)(None) == []


def test_peers_and_their_keys_are_plain() -> None:
    found = door(peers)(["n1"], HOSTVARS)
    assert found == [{"name": "n1", "address": "192.0.2.1", "port": 22}]
    assert is_plain(found)
    lines = door(known_hosts_lines)([Odd("n1"), "*"], "22", KEYS)
    assert lines == ["n1 ssh-ed25519 AAAA"]
    assert is_plain(lines)


def test_a_flavor_may_come_as_a_name_a_mapping_or_its_text() -> None:
    kept = {"name": "m2", "vcpus": 2, "memory_mb": 2048, "root_gb": 0, "ephemeral_gb": 0, "swap_mb": 0, "extra_specs": {}}
    records = [a_migration(1, "finished", migration_type="resize", new_flavor=kept)]

    def found(flavor: t.Any) -> str:
        answer = door(next_step)(records, "resize", uuid_of(1), NODES, flavor=flavor)
        assert is_plain(answer)
        return str(answer["next"])

    for same in ("m2", Odd("m2"), {Odd("vcpus"): 2, "memory_mb": Odd("2048")}, "{vcpus: 2, memory_mb: 2048}", '{"vcpus": 2, "memory_mb": 2048}'):
        assert found(same) == "nothing", same
    for other in ("m1", {"vcpus": 4, "memory_mb": 2048}, "{vcpus: 4, memory_mb: 2048}", None, ""):
        assert found(other) == "refuse", other


def test_doors_of_sync_give_plain_values() -> None:
    seen = [{"server_uuid": uuid_of(1), "name": Odd("web1"), "state": "running"}]
    own = door(own_servers)(seen, "b", NODES, [])
    assert is_plain(own) and own == {"servers": seen, "problems": []}
    assert door(gone_servers)([{"server_uuid": Odd(uuid_of(7)), "host": "a"}], NODES) == [uuid_of(7)]
    assert door(server_host)(a_migration(1, "finished")) == "b"
    found = door(storage_identities)({"a": {"/x": Odd("w")}}, {"b": {"a": {"/x": ["w"]}}})
    assert is_plain(found) and found == {"a": {"/x": {"identity": "w", "seen_by": ["b"]}}}


def test_a_node_counts_as_off_if_it_is_silent_and_was_fenced_since_the_migration_began() -> None:
    files = [{"id": "vda", "kind": "disk", "way": "copy", "source_path": "/i/x", "dest_path": "/i/x"}]
    record = a_migration(1, "post-migrating", files=files, created_at="2026-01-01T12:00:00.000Z")
    dest = {"domain": "absent", "files": {"vda": "source"}}
    held = {"domain": "absent", "held": True, "files": {"vda": "held"}}

    def decided(at: str, source: t.Any, silent: bool = True) -> str:
        node = {**(a_silent_node("a") if silent else a_node("a")), "service": {"fenced": {"by": Odd("ann"), "at": Odd(at)}}}
        answer = door(recovery_decision)(record, source, dest, nodes={"a": node, "b": a_node("b")})
        assert is_plain(answer)
        return str(answer["decision"])

    assert decided("2026-01-01T12:00:01.000Z", None) == "finish"
    assert decided("2026-01-01T11:00:00.000Z", None) == "blocked"
    assert decided("2026-01-01T12:00:01.000Z", None, silent=False) == "blocked"  # it has just answered
    assert decided("2026-01-01T12:00:01.000Z", held, silent=False) == "blocked"  # it would be started on a node that is not in service
    assert decided("2026-01-01T11:00:00.000Z", held, silent=False) == "roll_back"


def test_status_shows_what_is_known_of_the_chosen_servers() -> None:
    known = [
        {"server_uuid": uuid_of(number), "name": f"web{number}", "host": host, "state": "running", "age_seconds": 90.0, "facts": {}, "storage": {}}
        for number, host in ((1, "a"), (2, "b"))
    ]
    status = door(status_report)
    assert [line.split()[:2] for line in status([], NODES, known=known) if line.startswith("web")] == [["web1", "a"], ["web2", "b"]]
    assert [line.split()[0] for line in status([], NODES, host="b", known=known) if line.startswith("web")] == ["web2"]
    assert [line.split()[0] for line in status([], NODES, ["web1"], known=known) if line.startswith("web")] == ["web1"]
    assert any("coldmove.libvirt.sync" in line for line in status([], NODES))


@pytest.mark.parametrize(
    ("name", "others", "expected"),
    [
        ("web", ["db"], "web"),
        ("web", ["web"], uuid_of(1)),  # two servers of one name, on two nodes
        ("node1", [], uuid_of(1)),  # a node's name
        ("all:!web", [], uuid_of(1)),
        ("../x", [], uuid_of(1)),
        ("web\n", [], uuid_of(1)),
    ],
)
def test_no_two_servers_are_one_host_of_a_play(name: str, others: list[str], expected: str) -> None:
    servers: list[t.Any] = [{"uuid": uuid_of(number), "name": Odd(each)} for number, each in enumerate([name, *others], 1)]
    found = [door(host_name)(server, servers, ["node1", Odd("node2")]) for server in servers]
    assert found[0] == expected
    assert is_plain(found)
    assert len(set(found)) == len(servers)


def test_each_migration_of_one_server_is_a_host_of_its_own() -> None:
    twice = [a_migration(1), {**a_migration(1), "id": 7}, a_migration(2)]
    assert [door(host_name)(each, twice, []) for each in twice] == [f"{uuid_of(1)}_1", f"{uuid_of(1)}_7", "web2"]


def test_a_cutover_is_read_as_it_was_meant_when_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(written: str) -> float:
        return datetime.datetime.fromisoformat(written).timestamp()  # local time, as the operator's

    clock = [at("2026-11-22T23:00")]
    monkeypatch.setattr(cutover_plan.time, "time", lambda: clock[0])
    plan = door(cutover_plan)
    for empty in (None, "", " "):
        assert plan(empty)["kind"] == "now"
    asked = clock[0]
    daily, dates, late = Odd("window=22:00-23:30"), "window=2026-11-22T22:00/2026-11-22T23:30", "at=2026-11-22T23:15"
    assert is_plain(plan(daily, asked))
    for written in (daily, dates):
        assert (plan(written, asked)["not_after"], plan(written, asked)["over"]) == (at("2026-11-22T23:30"), False)
    # An hour later: a time that has come has come, a window has closed, and one of clock times comes again.
    clock[0] += 3600
    assert plan(late, asked)["not_before"] == at("2026-11-22T23:15")
    assert (plan(dates, asked)["not_after"], plan(dates, asked)["over"]) == (at("2026-11-22T23:30"), True)
    assert (plan(daily, asked)["not_before"], plan(daily, asked)["over"]) == (at("2026-11-23T22:00"), False)
    with pytest.raises(AnsibleFilterError, match=r"cutover is 'at=2026-11-22T23:15': that time is past"):
        plan(late)
    assert plan("hold", unable=["the server is off"])["refusals"] == [
        "cutover=hold was asked for, and cannot be, as only a precopy waits for its cutover: the server is off"
    ]
