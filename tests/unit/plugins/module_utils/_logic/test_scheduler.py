# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Selection: golden plans on text dumps, laws by hypothesis, the time budget."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import capacity, claims, scheduler
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import ACTIVE
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import (
    GIB,
    a_disk,
    a_domain,
    a_migration,
    a_node,
    a_server,
    a_silent_node,
)

CLUSTERS = sorted(pathlib.Path(__file__).with_name("clusters").glob("*.txt"))


class Dump:
    """A cluster in text, see clusters/README.md."""

    def __init__(self, text: str) -> None:
        self.nodes: dict = {}
        self.migrations: list = []
        self.requests: list = []
        self.expected: list = []
        for line in text.splitlines():
            words = line.split()
            if words and not line.startswith("#"):
                self._read(words)

    def _read(self, words: list) -> None:
        plain = [word for word in words if "=" not in word or word == "="]
        values = dict(word.split("=", 1) for word in words if "=" in word and word != "=")
        amount = {"vcpus": int(values.get("vcpus", 1)), "memory_mb": int(values.get("memory", 1024)), "disk_bytes": int(values.get("disk", 1)) * GIB}
        if plain[0] == "node":
            self._node(plain, values)
        elif plain[0] == "domain":
            domain = a_domain(int(plain[2]), plain[3] if len(plain) > 3 else "", **amount)
            domain["macs"] = [f"52:54:00:00:00:{int(plain[2]) % 256:02x}"] if int(plain[2]) < 256 else []
            self.nodes[plain[1]]["facts"]["domains"].append(domain)
        elif plain[0] == "migration":
            self.migrations.append(a_migration(int(plain[1]), plain[2], plain[3], plain[4], need=amount, source_need=amount))
        elif plain[0] == "request":
            target = plain[plain.index("to") + 1] if "to" in plain else ""
            self.requests.append(scheduler.request_for(a_server(int(plain[1])), plain[3], target, amount))
            self.expected.append(([], []))
        elif plain[0] == "=":
            self.expected[-1][0].extend(plain[1:])
        else:
            self.expected[-1][1].append((plain[1], " ".join(words[2:])))

    def _node(self, plain: list, values: dict) -> None:
        name, flags = plain[1], plain[2:]
        facts = {
            "cpus": int(values.get("cpus", 8)),
            "memory_mb": int(values.get("memory", 16896)),
            "qemu_version": int(values.get("qemu", 7002000)),
            "machine_types": values.get("machines", "q35,pc-q35-7.2").split(","),
            "networks": values.get("networks", "default").split(","),
            "instances_fs": {"total_bytes": int(values.get("disk", 100)) * GIB, "free_bytes": GIB},
            "prepared": "unprepared" not in flags,
            "not_prepared": ["program qemu-nbd is missing"] if "unprepared" in flags else [],
        }
        node = a_node(name, [], facts, maintenance="maintenance" in flags, forced_down="forced_down" in flags)
        self.nodes[name] = a_silent_node(name) if "silent" in flags else node


@pytest.mark.parametrize("file", CLUSTERS, ids=lambda file: file.stem)
def test_golden_plans(file):
    dump = Dump(file.read_text(encoding="utf-8"))
    selections = scheduler.select_many(dump.requests, dump.nodes, dump.migrations)
    assert len(selections) == len(dump.expected) > 0
    for selection, (candidates, refused) in zip(selections, dump.expected, strict=True):
        assert [entry["host"] for entry in selection["candidates"]] == candidates
        reasons = {entry["host"]: entry["reasons"] for entry in selection["rejected"]}
        for host, words in refused:
            assert any(words in reason for reason in reasons[host]), (host, words, reasons[host])
        assert bool(selection["message"]) == (not candidates)
        assert len(selection["candidates"]) + len(selection["rejected"]) == len(dump.nodes)


def select(server=None, nodes=None, migrations=(), source="a", target="", **options):
    """One selection over a, b and c."""
    known = nodes or {name: a_node(name) for name in "abc"}
    return scheduler.select_hosts(scheduler.request_for(server or a_server(), source, target), known, migrations, **options)


def test_every_reason_of_a_host_not_only_the_first():
    bad = a_node("b", [a_domain(2, "web1")], {"arch": "aarch64", "machine_types": [], "networks": [], "memory_mb": 100}, maintenance=True, forced_down=True)
    (entry,) = [entry for entry in select(nodes={"a": a_node("a"), "b": bad})["rejected"] if entry["host"] == "b"]
    assert len(entry["reasons"]) == 7


def test_case_10_unknown_target_is_an_error_with_a_hint():
    selection = select(target="bb")
    assert "unknown target_host 'bb'" in selection["error"]
    assert selection["candidates"] == selection["rejected"] == []
    assert "Did you mean 'b'" in select(target="b.example")["error"]


def test_case_9_target_is_the_current_host():
    assert "already on target_host a" in select(target="a")["error"]


def test_no_valid_host_is_no_error_of_the_request_and_names_every_host():
    selection = select(nodes={"a": a_node("a"), "b": a_silent_node("b", "timed out")})
    assert selection["error"] == ""
    assert "a: the server is already there" in selection["message"]
    assert "b: does not answer: timed out" in selection["message"]


def test_a_message_about_many_hosts_stays_readable():
    message = select(nodes={f"n{number:03d}": a_silent_node(f"n{number:03d}") for number in range(100)})["message"]
    assert "And 80 more hosts" in message


def test_limit_is_not_a_refusal():
    selection = select(limit=1)
    assert [entry["host"] for entry in selection["candidates"]] == ["b"]
    assert [entry["host"] for entry in selection["rejected"]] == ["a"]


def test_a_candidate_has_the_shape_that_the_claim_takes():
    first = select()["candidates"][0]
    assert set(first) == {"host", "capacity", "used", "counted"}
    assert first["capacity"] == {"vcpus": 32, "memory_mb": 16384, "disk_bytes": 100 * GIB}


def test_network_volume_needs_its_pool_a_volume_that_moves_does_not():
    moving = a_server(disks=[a_disk(type="volume", pool="fast")])
    staying = a_server(disks=[a_disk(type="volume", pool="fast", moves=False)])
    assert select(moving)["candidates"]
    assert "no active storage pool 'fast'" in select(staying)["message"]


def test_weights_are_normalised_and_all_alike_weigh_nothing():
    hosts = [scheduler.Host(a_node(name), capacity.Room(a_node(name))) for name in "ab"]
    assert scheduler.weights(hosts) == [0.0, 0.0]


def test_the_filters_again_without_some():
    request = scheduler.request_for(a_server(), "a")
    node = a_node("b", facts={"networks": []})
    assert scheduler.reject_reasons(request, node)
    assert scheduler.reject_reasons(request, node, without=[scheduler.has_networks]) == []


# --- flavors


def with_specs(vcpus: int = 2, **specs: str) -> dict:
    """A flavor whose extra specs are given with underscores for colons."""
    return {"name": "f", "vcpus": vcpus, "memory_mb": 512, "extra_specs": {key.replace("__", ":"): value for key, value in specs.items()}}


def cells_of(*sizes: int) -> dict:
    """Facts of NUMA cells with so many CPUs each."""
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return {"numa_cells": [{"id": n, "cpus": list(range(at, at + sizes[n])), "memory_mb": 8192, "pages": []} for n, at in enumerate(starts)]}


def test_traits_are_required_and_forbidden():
    known = {"b": a_node("b", traits=["ssd"]), "c": a_node("c", traits=["ssd", "old"]), "d": a_node("d")}
    flavor = with_specs(trait__ssd="required", trait__old="forbidden")
    selection = scheduler.select_hosts(scheduler.request_for(a_server(), "a", flavor=flavor), known)
    assert [entry["host"] for entry in selection["candidates"]] == ["b"]
    assert {entry["host"]: entry["reasons"] for entry in selection["rejected"]} == {
        "c": ["has the trait 'old', which the flavor forbids"],
        "d": ["has not the trait 'ssd', which the flavor requires"],
    }


def test_a_place_for_a_flavor_that_pins():
    pinned = a_domain(9, pinned_cpus=[0, 1, 2])
    known = {"b": a_node("b", [pinned], cells_of(4)), "c": a_node("c", facts=cells_of(2, 2)), "d": a_node("d")}
    flavor = with_specs(hw__cpu_policy="dedicated")
    selection = scheduler.select_hosts(scheduler.request_for(a_server(), "a", flavor=flavor), known)
    assert [entry["host"] for entry in selection["candidates"]] == ["c"]
    reasons = {entry["host"]: entry["reasons"] for entry in selection["rejected"]}
    assert reasons["b"] == ["2 dedicated CPUs needed, 1 free of 4 (pinned to web9)"]
    assert "no NUMA cells" in reasons["d"][0]
    assert scheduler.select_hosts(scheduler.request_for(a_server(9), "", "", flavor=flavor), {"b": known["b"]})["rejected"] == [
        {"host": "b", "reasons": [f"a domain with the UUID {pinned['uuid']} is defined there ('web9', running)"]}  # its own CPUs are not in its way
    ]


def test_a_plan_gives_each_cpu_away_once():
    known = {name: a_node(name, facts=cells_of(2, 2)) for name in "bc"}
    requests = [scheduler.request_for(a_server(number), "a", flavor=with_specs(hw__cpu_policy="dedicated")) for number in range(1, 6)]
    hosts = [[entry["host"] for entry in selection["candidates"]] for selection in scheduler.select_many(requests, known)]
    assert sorted(found[0] for found in hosts[:4]) == ["b", "b", "c", "c"]
    assert hosts[4] == []
    message = scheduler.select_many(requests, known)[4]["message"]
    assert "2 dedicated CPUs needed, 0 free of 4 (pinned to web" in message
    assert "of this plan" in message


amounts = st.fixed_dictionaries(
    {"vcpus": st.integers(0, 40), "memory_mb": st.integers(0, 20000), "disk_bytes": st.integers(0, 120).map(lambda size: size * GIB)}
)
statuses = st.sampled_from(["accepted", "migrating", "finished", "confirming", "confirmed", "error", "reverted"])


@st.composite
def clusters(draw):
    """Three nodes with domains, and migrations between them."""
    nodes = {name: a_node(name, [a_domain(number, **draw(amounts)) for number in draw(st.sets(st.integers(20, 30), max_size=3))]) for name in "abc"}
    migrations = []
    for number in range(20, 20 + draw(st.integers(0, 4))):
        need = draw(amounts)
        migrations.append(
            a_migration(
                number, draw(statuses), draw(st.sampled_from("abc")), draw(st.sampled_from(["a", "b", "c", None])), need=need, source_need=draw(amounts)
            )
        )
    return nodes, migrations


@given(clusters(), amounts)
@settings(max_examples=200)
def test_selection_and_the_claim_of_the_record_store_agree(cluster, need):
    """A candidate is one on which the record store's own arithmetic finds room, and the other way round."""
    nodes, migrations = cluster
    selection = scheduler.select_hosts(scheduler.request_for(a_server(1), "", "", need), nodes, migrations)
    chosen = {entry["host"]: entry for entry in selection["candidates"]}
    held = [claim for migration in migrations if migration["status"] in ACTIVE for claim in claims.of_migration(migration)]
    for name, node in nodes.items():
        used, counted = capacity.used_on(node)
        candidate = {"host": name, "capacity": capacity.capacity_of(node), "used": used, "counted": counted}
        wanted = claims.of_migration({**a_migration(1), "need": need, "dest_host": name, "source_host": "", "source_need": None})[0]
        fits = not claims.shortages(candidate, wanted, held)
        assert (name in chosen) == (fits and need["vcpus"] <= 8)
        if name in chosen:
            assert chosen[name] == candidate


@given(clusters(), st.lists(amounts, min_size=1, max_size=8))
def test_a_plan_for_many_never_overbooks(cluster, needs):
    nodes, migrations = cluster
    requests = [scheduler.request_for(a_server(number), "", "", need) for number, need in enumerate(needs, 1)]
    before = {name: capacity.Room(node, capacity.claims_by_host(migrations).get(name, ())) for name, node in nodes.items()}
    for request, selection in zip(requests, scheduler.select_many(requests, nodes, migrations), strict=True):
        if selection["candidates"]:
            room = before[selection["candidates"][0]["host"]]
            assert not room.shortages(request.need)
            room.take(request.need, "x")


@given(clusters(), amounts)
def test_the_order_of_the_inventory_does_not_matter(cluster, need):
    nodes, migrations = cluster
    request = scheduler.request_for(a_server(1), "", "", need)
    turned = dict(reversed(nodes.items()))
    assert scheduler.select_hosts(request, nodes, migrations) == scheduler.select_hosts(request, turned, migrations)


def big_cluster(size: int) -> dict:
    """Nodes with twenty domains each."""
    facts = {"cpus": 64, "memory_mb": 262144, "instances_fs": {"total_bytes": 8192 * GIB, "free_bytes": GIB}}
    return {
        f"n{number:03d}": a_node(
            f"n{number:03d}",
            [a_domain(number * 100 + index, macs=[f"02:00:00:{number // 256:02x}:{number % 256:02x}:{index:02x}"]) for index in range(20)],
            facts,
        )
        for number in range(size)
    }


def test_a_thousand_servers_over_five_hundred_nodes():
    nodes = big_cluster(500)
    requests = [
        scheduler.request_for(
            a_server(
                900000 + number,
                memory_mb=512 + number * 7,
                nics=[{"mac": f"52:54:01:00:{number // 256:02x}:{number % 256:02x}", "type": "network", "source": "default"}],
            )
        )
        for number in range(1000)
    ]
    selections = scheduler.select_many(requests, nodes)
    assert all(selection["candidates"] for selection in selections)


# --- a resize may stay where it is


def stay(need: dict, domains: tuple = (), migrations=(), facts=None, server=None, **more) -> dict:
    """The selection for a server on a that has 1 vCPU, 1024 MiB and 10 GiB, and is to be resized there. 8 CPUs, 16384 MiB, 100 GiB."""
    node = a_node("a", [a_domain(1, disk_bytes=10 * GIB), *domains], facts, cpu_allocation_ratio=1.0, **more)
    request = scheduler.request_for(server or a_server(), "a", "a", need, in_place=True)
    return scheduler.select_hosts(request, {"a": node, "b": a_node("b")}, migrations)


def told(selection: dict) -> list[str]:
    """Why the node itself is refused."""
    return next((entry["reasons"] for entry in selection["rejected"] if entry["host"] == "a"), [])


def test_the_node_of_the_server_is_a_candidate_only_where_it_may_stay():
    need = {"vcpus": 2, "memory_mb": 2048, "disk_bytes": 20 * GIB}
    selection = stay(need)
    assert ([entry["host"] for entry in selection["candidates"]], selection["message"], selection["error"]) == (["a"], "", "")
    assert "already on target_host a" in scheduler.select_hosts(scheduler.request_for(a_server(), "a", "a", need), {"a": a_node("a")})["error"]


def test_on_its_node_a_server_asks_only_for_what_it_grows_by():
    full = (a_domain(2, vcpus=5, memory_mb=14336, disk_bytes=80 * GIB),)  # leaves 2 vCPUs, 1024 MiB, 10 GiB
    assert stay({"vcpus": 3, "memory_mb": 2048, "disk_bytes": 20 * GIB}, full)["candidates"]
    selection = stay({"vcpus": 4, "memory_mb": 2049, "disk_bytes": 21 * GIB}, full)
    assert sorted(reason.split(" (")[0] for reason in told(selection)) == [
        "1025 MiB of memory needed, 1024 free",
        "11 GiB of disk needed, 10 free",
        "3 vCPUs needed, 2 free",
    ]


def test_a_server_that_shrinks_fits_on_a_node_that_is_too_full():
    assert stay({"vcpus": 1, "memory_mb": 512, "disk_bytes": 10 * GIB}, (a_domain(2, vcpus=90, memory_mb=99999, disk_bytes=900 * GIB),))["candidates"]


def test_one_server_never_has_more_vcpus_than_its_node():
    (reason,) = told(stay({"vcpus": 9, "memory_mb": 1024, "disk_bytes": 0}, facts={"cpus": 8}, server=a_server(vcpus=8)))
    assert "has 8 CPUs" in reason


def test_what_other_migrations_hold_counts_there_too():
    other = a_migration(2, "migrating", source="b", dest="a", need={"vcpus": 7, "memory_mb": 1024, "disk_bytes": GIB})
    (reason,) = told(stay({"vcpus": 2, "memory_mb": 1024, "disk_bytes": 0}, migrations=[other]))
    assert "migration 2 of web2" in reason


def test_the_server_s_own_name_and_mac_are_no_collision_there_but_anybody_else_s_are_elsewhere():
    need = {"vcpus": 1, "memory_mb": 2048, "disk_bytes": 10 * GIB}
    assert told(stay(need)) == []
    twin = {"a": a_node("a", [a_domain(1)]), "b": a_node("b", [a_domain(2, "web1")])}
    assert scheduler.reject_reasons(scheduler.request_for(a_server(), "a", "", need, in_place=True), twin["a"]) == []
    assert "another domain is named" in scheduler.reject_reasons(scheduler.request_for(a_server(), "a", "", need, in_place=True), twin["b"])[0]


@pytest.mark.parametrize("state", [{"maintenance": True}, {"forced_down": True}])
def test_a_node_that_is_out_of_service_is_no_place_to_grow_on(state):
    assert len(told(stay({"vcpus": 2, "memory_mb": 1024, "disk_bytes": 0}, **state))) == 1


def test_a_plan_of_many_counts_what_each_of_them_grows_by():
    servers = [a_domain(number, disk_bytes=10 * GIB) for number in (1, 2, 3)]
    nodes = {"a": a_node("a", servers, {"memory_mb": 512 + 3 * 1024 + 2 * 1024})}
    need = {"vcpus": 1, "memory_mb": 2048, "disk_bytes": 10 * GIB}
    requests = [scheduler.request_for(a_server(number), "a", "a", need, in_place=True) for number in (1, 2, 3)]
    selections = scheduler.select_many(requests, nodes)
    assert [bool(selection["candidates"]) for selection in selections] == [True, True, False]
    assert "1024 MiB of memory needed, 0 free" in selections[2]["message"]


@given(amounts, amounts)
def test_growth_is_never_negative_and_never_more_than_the_whole(now, need):
    server = a_server(vcpus=now["vcpus"], memory_mb=now["memory_mb"], disks=[a_disk(virtual_bytes=now["disk_bytes"])])
    grown = scheduler.growth(scheduler.request_for(server, "a", "a", need, in_place=True))
    for key, value in grown.items():
        assert 0 <= value <= need[key]
        assert now[key] + value >= need[key]
