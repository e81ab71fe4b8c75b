# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What survives, what is lost, who goes where: pure functions over last-known records."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import evacuation
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import (
    GIB,
    MOVE,
    a_disk,
    a_migration,
    a_node,
    a_server,
    a_silent_node,
    uuid_of,
)

IMAGES = "/var/lib/libvirt/images"
PATHS = (IMAGES, IMAGES)
SHARED = {IMAGES: {"identity": "w0rd", "seen_by": ["b"]}}
IMAGE: evacuation.Image = {"path": "/images/golden.qcow2", "format": "qcow2"}


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
        "flavor": None,
        "facts": facts,
        "storage": storage or {},
        "nvram": None,
        "config_drives": {},
        **more,
    }


def planned(record: dict[str, t.Any], words: dict[str, list[str]] | None = None, image: evacuation.Image | None = None) -> evacuation.Plan:
    """The plan on b."""
    return evacuation.plan(record, "b", words or {}, PATHS, MOVE, image)


def fates(plan: evacuation.Plan) -> dict[str, str]:
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


def test_who_is_meant() -> None:
    records = [a_record(1), a_record(2), a_record(3, host="c")]
    assert len(evacuation.choose(records, [], "a").records) == 2
    assert [record["name"] for record in evacuation.choose(records, ["web2", uuid_of(1)], "a").records] == ["web2", "web1"]
    assert evacuation.choose(records, ["web3"], "a").errors == ["server 'web3' is known to be on c, not on a"]
    assert "Did you mean" in evacuation.choose(records, ["web"], "a").errors[0]
    assert "was never run" in evacuation.choose([], [], "a").errors[0]


def test_in_which_order() -> None:
    records = [a_record(1, state="shutoff"), a_record(2), a_record(3), a_record(4)]
    assert [record["name"] for record in evacuation.in_order(records, ["web4", uuid_of(3)])] == ["web4", "web3", "web2", "web1"]
