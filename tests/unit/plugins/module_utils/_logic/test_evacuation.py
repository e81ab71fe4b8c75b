# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What survives, what is lost, who goes where: pure functions over last-known records."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import evacuation, survival
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import (
    GIB,
    MOVE,
    a_disk,
    a_domain,
    a_migration,
    a_node,
    a_server,
    a_silent_node,
    uuid_of,
)

IMAGES = "/var/lib/libvirt/images"
PATHS = (IMAGES, IMAGES)
SHARED = {IMAGES: {"identity": "w0rd", "seen_by": ["b"]}}
IMAGE: survival.Image = {"path": "/images/golden.qcow2", "format": "qcow2"}


def a_record(number: int = 1, storage: dict[str, t.Any] | None = None, **more: t.Any) -> dict[str, t.Any]:
    """The last-known record of a server of a."""
    server = a_server(number)
    facts = {**server, "node_ties": [], **more.pop("facts", {})}
    return {
        "server_uuid": uuid_of(number),
        "name": f"web{number}",
        "host": "a",
        "state": "running",
        "autostart": True,
        "seen_at": "2026-01-01T12:00:00.000Z",
        "flavor": None,
        "facts": facts,
        "storage": storage or {},
        "nvram": None,
        "config_drives": {},
        **more,
    }


def planned(record: dict[str, t.Any], words: dict[str, list[str]] | None = None, image: survival.Image | None = None) -> survival.Plan:
    """The plan on b."""
    return survival.plan(record, "b", words or {}, PATHS, MOVE, image)


def fates(plan: survival.Plan) -> dict[str, str]:
    return {fate["id"]: fate["fate"] for fate in plan["fates"]}


@pytest.mark.parametrize(
    ("storage", "words", "fate"),
    [
        (SHARED, {IMAGES: ["w0rd"]}, "survives"),
        (SHARED, {IMAGES: ["newer", "w0rd"]}, "survives"),
        (SHARED, {IMAGES: ["another"]}, "lost"),
        (SHARED, {}, "lost"),
        ({}, {IMAGES: ["w0rd"]}, "lost"),
        ({IMAGES: {"identity": "w0rd", "seen_by": ["c"]}}, {IMAGES: ["w0rd"]}, "lost"),
    ],
)
def test_a_disk_survives_only_if_the_dest_has_proven_to_see_it_then_and_now(storage: dict[str, t.Any], words: dict[str, list[str]], fate: str) -> None:
    plan = planned(a_record(storage=storage), words, IMAGE)
    assert fates(plan) == {"vda": fate}
    assert plan["lost"] == ([] if fate == "survives" else ["vda"])
    assert [file["way"] for file in plan["files"]] == ([] if fate == "survives" else ["image"])


def test_what_is_made_anew_and_what_comes_from_the_record() -> None:
    disks = [
        a_disk(),
        a_disk("vdb", f"{IMAGES}/swap.qcow2", role="swap", virtual_bytes=GIB),
        a_disk("vdc", f"{IMAGES}/eph.qcow2", role="ephemeral", virtual_bytes=GIB),
        a_disk("sda", f"{IMAGES}/disk.config", role="config_drive", format="raw", virtual_bytes=4096),
        a_disk("vdd", "rbd:pool/x", type="network", moves=False, role="data"),
    ]
    record = a_record(facts={"disks": disks, "nvram": {"path": "/nvram/web1", "size_bytes": 540672}}, nvram="packed", config_drives={"sda": "packed"})
    plan = planned(record, image=IMAGE)
    assert fates(plan) == {"vda": "lost", "vdb": "blank", "vdc": "lost", "sda": "restored", "vdd": "survives", "nvram": "restored"}
    assert {file["id"]: file["way"] for file in plan["files"]} == {"vda": "image", "vdb": "blank", "vdc": "blank", "sda": "restore", "nvram": "restore"}
    assert plan["lost"] == ["vda", "vdc"]
    root = plan["files"][0]
    assert (root["image_path"], root["grow_to_bytes"], root["temp_path"]) == (IMAGE["path"], 10 * GIB, f"{IMAGES}/web1.qcow2.coldmove-{MOVE}")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "name an image on b"),
        ({"disks": [a_disk(type="block", path="/dev/vg/x", moves=False)]}, "never proven"),
        ({"disks": [a_disk("vdb", role="data", virtual_bytes=None)]}, "is not known"),
        ({"disks": [], "node_ties": ["has a TPM, whose state is not yet moved by this version"]}, "the server has a TPM"),
    ],
)
def test_what_cannot_be_made_anew_is_said(facts: dict[str, t.Any], words: str) -> None:
    (error,) = planned(a_record(facts=facts))["errors"]
    assert words in error


def lost_node(words: dict[str, t.Any] | None = None, **more: t.Any) -> evacuation.Lost:
    return evacuation.Lost("a", IMAGES, words or {}, **more)


NODES = {"a": a_silent_node("a"), "b": a_node("b"), "c": a_node("c")}


def test_a_shared_disk_leads_to_the_node_that_shares_it_and_needs_no_room() -> None:
    (server,) = evacuation.evacuees([a_record(storage=SHARED)], lost_node({"b": {IMAGES: ["w0rd"]}}), t.cast("t.Any", NODES), [])
    assert ([each["host"] for each in server["candidates"]], server["errors"], server["need"]["disk_bytes"]) == (["b"], [], 0)
    (reason,) = [each["reasons"] for each in server["rejected"] if each["host"] == "c"]
    assert "vda" in reason[0]


def test_a_loss_has_to_be_named() -> None:
    record = a_record()
    (refused,) = evacuation.evacuees([record], lost_node(image=IMAGE), t.cast("t.Any", NODES), [])
    assert "-e accept_lost_disks=web1/vda" in refused["errors"][0]
    for name in ("web1/vda", f"{uuid_of(1)}/vda"):
        (fine,) = evacuation.evacuees([record], lost_node(image=IMAGE, accepted=[name]), t.cast("t.Any", NODES), [])
        assert (fine["errors"], [each["host"] for each in fine["candidates"]]) == ([], ["b", "c"])


def test_an_unreadable_definition_is_found_before_anything_is_powered_off() -> None:
    record = a_record(unreadable="its definition cannot be read: no element found")
    (refused,) = evacuation.evacuees([record], lost_node(image=IMAGE, accepted=["web1/vda"]), t.cast("t.Any", NODES), [])
    assert "web1: its definition cannot be read: no element found. Mend the record store" in refused["errors"][0]


def test_each_server_counts_before_the_next_one_is_looked_at() -> None:
    records = [a_record(number, facts={"memory_mb": 10000, "disks": []}) for number in (1, 2, 3)]
    found = evacuation.evacuees(records, lost_node(), t.cast("t.Any", NODES), [])
    assert sorted(server["candidates"][0]["host"] for server in found[:2]) == ["b", "c"]
    assert "no valid host" in found[2]["errors"][0]


def test_a_move_that_has_not_ended_is_in_the_way_and_an_evacuation_is_not() -> None:
    record = a_record(storage=SHARED)
    words = {"b": {IMAGES: ["w0rd"]}}
    (server,) = evacuation.evacuees([record], lost_node(words), t.cast("t.Any", NODES), t.cast("t.Any", [a_migration(1, "finished")]))
    assert "is finished, its other node decides" in server["errors"][0]
    begun = a_migration(1, "pre-migrating", migration_type="evacuation")
    assert evacuation.evacuees([record], lost_node(words), t.cast("t.Any", NODES), t.cast("t.Any", [begun]))[0]["errors"] == []


# --- where the server is by now, whatever its last-known record says

BEFORE, AFTER = "2026-01-01T11:59:59.999Z", "2026-01-01T12:00:00.001Z"


def unended(status: str, source: str, dest: str, **more: t.Any) -> dict[str, t.Any]:
    """A move of the server between two nodes, which has two disks that are no swap and one that is."""
    move = a_migration(status=status, migration_type=more.pop("kind", "migration"), source_host=source, dest_host=dest)
    files = [{"id": name, "kind": "disk", "way": "copy"} for name in ("vda", "vdb")]
    return {**move, "id": 9, "files": files, **more}


@pytest.mark.parametrize(
    ("move", "way"),
    [
        (unended("finished", "b", "a"), "revert"),
        (unended("reverting", "b", "a"), "revert"),
        (unended("finished", "a", "a", kind="resize"), None),
        (unended("confirming", "b", "a"), None),
        (unended("accepted", "a", "b"), "recover"),
        (unended("pre-migrating", "a", "b"), "recover"),
        (unended("migrating", "a", "b", files=[]), "recover"),
        (unended("migrating", "a", "b"), None),
        (unended("post-migrating", "a", "b"), "recover"),
        (unended("post-migrating", "b", "a"), None),
    ],
)
def test_a_move_that_has_not_ended_says_how_its_server_comes_up(move: dict[str, t.Any], way: str | None) -> None:
    """By what its other node has; else it is in the way."""
    words = {"b": {IMAGES: ["w0rd"]}}
    (found,) = evacuation.evacuees([a_record(storage=SHARED)], lost_node(words, accepted=["web1/vda"]), NODES, [move])
    if way is None:
        (error,) = found["errors"]
        assert "migration 9" in error
        assert "coldmove.libvirt.recover" in error
    else:
        assert (found["way"], found["errors"], found["candidates"][0]["host"]) == (way, [], "b")


def test_going_back_to_a_held_copy_loses_what_was_written_since_and_that_must_be_named() -> None:
    disks = [a_disk(), a_disk("vdb", f"{IMAGES}/swap.qcow2", role="swap"), a_disk("vdc", f"{IMAGES}/new.qcow2", role="data")]
    record, move = a_record(facts={"disks": disks}), unended("finished", "b", "a")
    (found,) = evacuation.evacuees([record], lost_node(), NODES, [move])
    assert {fate["id"]: fate["fate"] for fate in found["fates"]} == {"vda": "lost", "vdb": "blank", "vdc": "lost"}
    (error,) = found["errors"]
    assert "what was written on a since" in error
    assert "not part of the copy that b holds" in error
    assert "-e accept_lost_disks=web1/vda,web1/vdc" in error
    (found,) = evacuation.evacuees([record], lost_node(accepted=["web1/vda", "web1/vdc"]), NODES, [move])
    assert found["errors"] == []
    (found,) = evacuation.evacuees([record], lost_node(accepted=["web1/vda", "web1/vdc"]), {**NODES, "b": a_silent_node("b")}, [move])
    assert "b does not answer" in found["errors"][0]


B_HAS_IT = {"b": {IMAGES: ["w0rd"]}}


def only(migrations: t.Sequence[dict[str, t.Any]] = (), nodes: dict[str, t.Any] | None = None) -> evacuation.Evacuee:
    """What becomes of one server of a, on storage that b sees too."""
    (server,) = evacuation.evacuees([a_record(storage=SHARED)], lost_node(B_HAS_IT), t.cast("t.Any", {**NODES, **(nodes or {})}), t.cast("t.Any", migrations))
    return server


@pytest.mark.parametrize(
    ("kind", "status", "ends"),
    [
        ("evacuation", "done", ("a", "b")),
        ("evacuation", "completed", ("a", "b")),
        ("migration", "finished", ("a", "b")),
        ("migration", "confirming", ("a", "b")),
        ("resize", "confirmed", ("a", "b")),
        ("migration", "reverted", ("b", "a")),
    ],
)
def test_a_server_that_has_left_the_node_since_it_was_seen_there_is_not_brought_up_a_second_time(kind: str, status: str, ends: tuple[str, str]) -> None:
    """Also if no node that answers has it: where it went may be silent just now."""
    for nodes in ({}, {"b": a_silent_node("b")}):
        server = only([a_migration(1, status, *ends, migration_type=kind, updated_at=AFTER)], nodes)
        assert server["gone"] is not None
        assert (server["candidates"], server["plans"], server["errors"]) == ([], {}, [])
        assert "on b already, by migration 1" in server["fates"][0]["how"]


@pytest.mark.parametrize(
    "migration",
    [
        a_migration(1, "done", migration_type="evacuation", updated_at=BEFORE),  # it was seen on a since: it has come back
        a_migration(2, "done", migration_type="evacuation", updated_at=AFTER),  # another server
        a_migration(1, "failed", migration_type="evacuation", updated_at=AFTER),
        a_migration(1, "error", updated_at=AFTER),
        a_migration(1, "reverted", updated_at=AFTER),
        a_migration(1, "confirmed", "b", "a", updated_at=AFTER),
        a_migration(1, "completed", "c", "b", migration_type="evacuation", updated_at=AFTER),  # another node was cleaned
        a_migration(1, "confirmed", "a", "a", migration_type="resize", updated_at=AFTER),
    ],
)
def test_what_says_nothing_of_its_leaving_the_node_is_not_in_the_way(migration: dict[str, t.Any]) -> None:
    server = only([migration])
    assert (server["gone"], server["errors"], [each["host"] for each in server["candidates"]]) == (None, [], ["b"])


def test_the_last_move_counts() -> None:
    there = a_migration(1, "confirmed", updated_at=AFTER)
    back = {**a_migration(1, "confirmed", "b", "a", updated_at=AFTER), "id": 7}
    assert only([there, back])["gone"] is None
    assert only([back, there])["gone"] is None
    assert only([{**there, "id": 9}, back])["gone"] is not None


@pytest.mark.parametrize(
    ("state", "migrations", "expected"),
    [
        ("running", [], "c has it (running), so it has left a"),  # moved by libvirt's own means
        ("shutoff", [], "c has it (shutoff)"),
        # Left over on c, and off: not the server. But who runs is one.
        ("shutoff", [a_migration(1, "done", "c", "a", migration_type="evacuation", updated_at=BEFORE, pending_hosts=["c"])], ""),
        ("running", [a_migration(1, "done", "c", "a", migration_type="evacuation", updated_at=BEFORE, pending_hosts=["c"])], "c has it (running)"),
        # What a killed evacuation has made is its own.
        ("running", [a_migration(1, "pre-migrating", dest="c", migration_type="evacuation")], ""),
        ("shutoff", [a_migration(1, "pre-migrating", dest="c", migration_type="evacuation")], ""),
        ("running", [a_migration(2, "pre-migrating", dest="c", migration_type="evacuation")], "c has it (running)"),
        ("running", [a_migration(1, "failed", dest="c", migration_type="evacuation")], "c has it (running)"),
    ],
)
def test_a_server_that_a_living_node_has_is_not_brought_up_on_a_third(state: str, migrations: list[dict[str, t.Any]], expected: str) -> None:
    errors = only(migrations, {"c": a_node("c", [a_domain(1, state=state)])})["errors"]
    assert bool(errors) == bool(expected)
    assert not expected or expected in errors[0]


def test_what_a_killed_evacuation_made_is_not_in_its_own_way() -> None:
    """The only node that it can go to has its definition, and holds its claim: it would find no other one, and never be taken up."""
    big = a_record(storage=SHARED, facts={"memory_mb": 16000})
    begun = a_migration(1, "pre-migrating", migration_type="evacuation", need={"vcpus": 1, "memory_mb": 16000, "disk_bytes": 0})
    nodes = {**NODES, "b": a_node("b", [a_domain(1, memory_mb=16000), a_domain(2, memory_mb=16)])}
    (server,) = evacuation.evacuees([big], lost_node(B_HAS_IT), t.cast("t.Any", nodes), t.cast("t.Any", [begun]))
    assert (server["errors"], [each["host"] for each in server["candidates"]]) == ([], ["b"])
    # That of another server is.
    other = {**begun, "server_uuid": uuid_of(9)}
    (server,) = evacuation.evacuees([big], lost_node(B_HAS_IT), t.cast("t.Any", {**NODES}), t.cast("t.Any", [other]))
    assert "no valid host" in server["errors"][0]


WHERE = st.sampled_from(["a", "b", "c"])
history = st.lists(
    st.builds(
        lambda number, kind, ends, at, pending: {
            **a_migration(1, kind[1], *ends, migration_type=kind[0], updated_at=at, pending_hosts=pending),
            "id": number,
        },
        st.integers(1, 9),
        st.one_of(
            st.tuples(st.just("migration"), st.sampled_from(["accepted", "pre-migrating", "post-migrating", "finished", "confirmed", "reverted", "error"])),
            st.tuples(st.just("evacuation"), st.sampled_from(["accepted", "pre-migrating", "done", "completed", "failed", "error"])),
        ),
        st.tuples(WHERE, WHERE),
        st.sampled_from([BEFORE, AFTER]),
        st.lists(WHERE, unique=True),
    ),
    max_size=4,
)


@given(history, st.dictionaries(st.sampled_from(["b", "c"]), st.sampled_from(["running", "shutoff", "paused"])))
def test_what_runs_on_a_living_node_is_never_planned_for_another_one(migrations: list[dict[str, t.Any]], found: dict[str, str]) -> None:
    server = only(migrations, {name: a_node(name, [a_domain(1, state=state)]) for name, state in found.items()})
    begun = [each for each in migrations if each["migration_type"] == "evacuation" and each["status"] in ("accepted", "pre-migrating")]
    # A move from the lost node that was killed at its end is finished where it led to.
    begun += [each for each in migrations if (each["migration_type"], each["status"], each["source_host"]) == ("migration", "post-migrating", "a")]
    strangers = {name for name, state in found.items() if state != "shutoff"} - {each["dest_host"] for each in begun}
    assert not (strangers and server["candidates"] and not server["errors"])


# --- a path that does not say it all


@pytest.mark.parametrize(
    ("disk", "blockers", "words"),
    [
        ({"link_to": "/local/web1.qcow2"}, [], "a symbolic link, to /local/web1.qcow2"),
        ({"chain": [{"path": f"{IMAGES}/base", "format": "raw", "link_to": "/local/base"}]}, [], "below it is a symbolic link, to /local/base"),
        ({}, ["disk vda: /x records no format for its backing file /local/base"], "records no format"),
        ({}, ["disk vda: qemu-img info gave no answer in 120 s"], "gave no answer"),
        ({}, ["disk vda keeps its data in another file, /local/data (next: qemu-img convert it into one file)"], "/local/data"),
        ({}, ["disk vda is /new in the running guest but /old in its definition"], "in the running guest but"),
    ],
)
def test_a_disk_on_shared_storage_of_which_not_all_is_known_is_no_survivor(disk: dict[str, t.Any], blockers: list[str], words: str) -> None:
    plan = planned(a_record(storage=SHARED, facts={"disks": [a_disk(**disk)], "blockers": blockers}), {IMAGES: ["w0rd"]}, IMAGE)
    assert (fates(plan), plan["files"]) == ({"vda": "lost"}, [])
    assert "was never proven that all of it is" in plan["errors"][0]
    assert words in plan["errors"][0]


@pytest.mark.parametrize(
    "blockers",
    [["disk vdb: whatever"], ["disk vda is encrypted"], ["is locked by ann"], ["has snapshots: s1"], ["disk vda has an active block job (next: …)"]],
)
def test_other_words_about_a_server_do_not_keep_its_disk_from_surviving(blockers: list[str]) -> None:
    plan = planned(a_record(storage=SHARED, facts={"blockers": blockers}), {IMAGES: ["w0rd"]})
    assert (fates(plan), plan["errors"]) == ({"vda": "survives"}, [])


@pytest.mark.parametrize("kind", ["nvme", "dir", "vhostuser", "vhostvdpa"])
def test_a_disk_that_is_no_file_is_not_handed_to_whatever_the_dest_has_under_its_name(kind: str) -> None:
    plan = planned(a_record(facts={"disks": [a_disk(type=kind, path=None, moves=False)]}), image=IMAGE)
    assert f"is of type {kind}, which only a had" in plan["errors"][0]


def test_an_empty_drive_is_nothing() -> None:
    drive = a_disk("sda", None, device="cdrom", type="block", moves=False, readonly=True)
    assert planned(a_record(facts={"disks": [drive]}))["fates"] == []
    assert planned(a_record(facts={"disks": [{**drive, "path": "/dev/sr0"}]}))["errors"]


def test_the_words_that_must_still_be_read_when_it_is_defined() -> None:
    store = {**SHARED, "/base": {"identity": "b4se", "seen_by": ["b"]}, "/nvram": {"identity": "nvr4m", "seen_by": ["b"]}}
    disks = [a_disk(chain=[{"path": "/base/x", "format": "qcow2"}]), a_disk("vdb", "/local/y", role="swap")]
    words = {IMAGES: ["w0rd"], "/base": ["b4se"], "/nvram": ["nvr4m"]}
    record = a_record(storage=store, facts={"disks": disks, "nvram": {"path": "/nvram/web1", "size_bytes": 9}})
    plan = planned(record, words)
    assert plan["proofs"] == {IMAGES: "w0rd", "/base": "b4se", "/nvram": "nvr4m"}
    assert plan["external_files"] == [f"{IMAGES}/web1.qcow2", "/base/x", "/nvram/web1"]
    assert planned(record, {**words, "/base": ["other"]}, IMAGE)["proofs"] == {"/nvram": "nvr4m"}


def test_who_is_meant() -> None:
    records = [a_record(1), a_record(2), a_record(3, host="c")]
    assert len(evacuation.choose(records, [], "a", []).records) == 2
    assert [record["name"] for record in evacuation.choose(records, ["web2", uuid_of(1)], "a", []).records] == ["web2", "web1"]
    assert evacuation.choose(records, ["web3"], "a", []).errors == ["server 'web3' is known to be on c, not on a"]
    assert "Did you mean" in evacuation.choose(records, ["web"], "a", []).errors[0]
    assert "was never run" in evacuation.choose([], [], "a", []).errors[0]


def test_in_which_order() -> None:
    records = [a_record(1, state="shutoff"), a_record(2), a_record(3), a_record(4)]
    assert [record["name"] for record in evacuation.in_order(records, ["web4", uuid_of(3)])] == ["web4", "web3", "web2", "web1"]


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ("", ""),
        ("+", ""),
        ("+-", ""),
        ("--++", ""),
        ("-", "not begun: 1 of 1 server before it failed (s0); mend that"),
        ("--+", "not begun: 2 of 3 servers before it failed (s0, s1); "),
        ("------", "6 of 6 servers before it failed (s0, s1, s2, s3, s4, …)"),
        ("-..", "not begun: 1 of 1 server before it failed"),
        ("+-..", ""),
        ("..", ""),
    ],
)
def test_no_further_server_is_begun_once_most_have_failed(outcomes: str, words: str) -> None:
    """``+`` is well, ``-`` failed, ``.`` was not begun itself."""
    told = [{"server_name": f"s{index}", "ok": sign == "+", "not_begun": sign == "."} for index, sign in enumerate(outcomes)]
    found = evacuation.halt_reason(told)
    assert bool(found) == bool(words)
    assert words in found


def test_firmware_variables_by_a_link_are_no_survivors() -> None:
    nvram = {"path": f"{IMAGES}/vars.fd", "size_bytes": 540672}
    for link, errors in (({}, []), ({"link_to": "/local/vars.fd"}, ["their path is a symbolic link, to /local/vars.fd"])):
        plan = planned(a_record(storage=SHARED, facts={"disks": [], "nvram": {**nvram, **link}}, nvram="packed"), {IMAGES: ["w0rd"]})
        assert (fates(plan), plan["files"]) == ({"nvram": "lost" if link else "survives"}, [])
        assert [words in error for words, error in zip(errors, plan["errors"], strict=True)] == [True] * len(errors)


LATER = "2026-01-01T13:00:00.000Z"


def moved(number: int, status: str, source: str, dest: str, **more: t.Any) -> dict[str, t.Any]:
    return {**a_migration(1, status, source=source, dest=dest, updated_at=LATER, **more), "id": number, "uuid": uuid_of(900 + number)}


@pytest.mark.parametrize(
    ("migrations", "gone"),
    [
        ([], None),
        ([moved(1, "confirmed", "a", "b")], 1),
        ([moved(1, "confirmed", "a", "b"), moved(2, "confirmed", "b", "c")], 2),
        ([moved(1, "confirmed", "a", "b"), moved(2, "confirmed", "b", "a")], None),
        ([moved(1, "confirmed", "a", "b"), moved(2, "reverted", "b", "c")], 1),
        ([moved(1, "confirmed", "c", "b")], None),  # cleaned up after since; the server is on a by another way
        ([moved(1, "finished", "a", "b"), moved(2, "failed", "b", "c")], 1),
    ],
)
def test_a_server_is_where_all_of_its_moves_have_led(migrations: list[t.Any], gone: int | None) -> None:
    found = evacuation.gone_by(a_record(), t.cast("t.Any", migrations))
    assert (found or {}).get("id") == gone


def test_a_server_that_came_to_the_lost_node_since_is_not_left_out_in_silence() -> None:
    records = [a_record(1, host="b"), a_record(2)]
    for status, way in (("finished", "coldmove.libvirt.revert -e server=web1"), ("confirmed", "bring this one up by hand")):
        came = t.cast("t.Any", [moved(7, status, "b", "a")])
        everybody = evacuation.choose(records, [], "a", came)
        assert [record["name"] for record in everybody.records] == ["web2"]
        assert "web1 came to a by migration 7" in everybody.errors[0] and way in everybody.errors[0]
        assert evacuation.choose(records, ["web2"], "a", came).errors == []
        assert evacuation.choose(records, ["web1"], "a", came).errors == everybody.errors
        assert evacuation.choose(records[:1], [], "a", came).errors == everybody.errors
        assert evacuation.choose(records, [], "c", came).errors[0].startswith("no server is known to be on c")


@pytest.mark.parametrize(("content", "free", "fits"), [(GIB, 4 * GIB, True), (GIB, 2 * GIB, False), (1, 2 * GIB, True), (0, 0, True), (GIB, None, True)])
def test_what_is_made_from_an_image_must_fit_before_anything_is_powered_off(content: int, free: int | None, fits: bool) -> None:
    """By what the image holds, not by what the disks can grow to; counted where each server goes first."""
    space = {"instances_fs": {"free_bytes": free, "total_bytes": 1000 * GIB}} if free is not None else {"instances_fs": {}}
    nodes = {"a": a_silent_node("a"), "b": a_node("b", facts=space), "c": a_node("c")}
    records = [a_record(number) for number in (1, 2)]
    lost = lost_node(image=IMAGE, accepted=["web1/vda", "web2/vda"], target_host="b")
    known = {**nodes, "b": a_node("b")}
    sources = evacuation.images(evacuation.evacuees(records, lost, t.cast("t.Any", known), []))
    assert [(source["host"], source["disks"], source["disk_bytes"]) for source in sources] == [("b", 2, 10 * GIB)]
    found = evacuation.no_room([(source, content) for source in sources], t.cast("t.Any", nodes))
    assert bool(found) is not fits
    assert all("b has 2.0 GiB free" in words and "takes 2.0 GiB" in words for words in found)
