# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door of an evacuation's plan: whatever comes from a survey, plain values out, all reasons at once."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.filter import evacuees, halt_reason, image_shortage
from ansible_collections.coldmove.libvirt.tests.unit.plugins.filter.test_doors import Odd, door, is_plain
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import a_disk, a_domain, a_migration, a_node, a_silent_node, uuid_of
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.test_evacuation import IMAGES, SHARED, a_record

NODES = {"a": a_silent_node("a"), "b": a_node("b"), "c": a_node("c")}
WORDS = {"b": {IMAGES: ["w0rd"]}, "c": {}}
IMAGE = "/images/golden.qcow2"


def found(records: t.Any, nodes: t.Any = None, migrations: t.Any = (), words: t.Any = None, failed_host: t.Any = "a", **more: t.Any) -> dict[str, t.Any]:
    answer = door(evacuees)(records, nodes or NODES, list(migrations), WORDS if words is None else words, failed_host=failed_host, **more)
    assert is_plain(answer)
    assert set(answer) == {"servers", "images", "mute", "errors"}
    return t.cast("dict[str, t.Any]", answer)


def local(number: int, **more: t.Any) -> dict[str, t.Any]:
    """A server with one disk that only the lost node had."""
    return a_record(number, facts={"disks": [a_disk(path=f"/local/web{number}.qcow2")]}, **more)


def test_documentation_is_whole() -> None:
    documentation = yaml.safe_load(evacuees.DOCUMENTATION)
    assert documentation["name"] == "evacuees"
    assert yaml.safe_load(evacuees.EXAMPLES) and yaml.safe_load(evacuees.RETURN)["_value"]["type"] == "dict"
    options = set(documentation["options"]) - {"_input", *documentation["positional"].split(", ")}
    given = {
        "failed_host": "a",
        "servers": "",
        "first": "",
        "target_host": "",
        "instances_path": IMAGES,
        "image": "",
        "image_format": "qcow2",
        "replicas": {},
        "accepted": "",
    }
    assert options == set(given)
    found([a_record(storage=SHARED)], **given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x", NODES, [], {}), "the records must be a list, not str"),
        (([], [], [], {}), "nodes must be a dictionary, not list"),
        (([], NODES, "m", {}), "migrations must be a list, not str"),
        (([], NODES, [], []), "words must be a dictionary, not list"),
    ],
)
def test_what_is_wrong_is_one_clear_line(arguments: tuple[t.Any, ...], words: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        door(evacuees)(*arguments, failed_host="a")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_comes_from_a_survey() -> None:
    """Empty means not given; names may be a list, or separated by commas; everything may be a tagged string."""
    records = [a_record(number, storage=SHARED) for number in (1, 2, 3)]
    for everything in (None, "", []):
        assert len(found(records, servers=everything, first=everything, target_host=Odd(""), image="", accepted=everything)["servers"]) == 3
    for wanted in (["web3", uuid_of(1)], f"web3, {uuid_of(1)}", Odd(f"web3,{uuid_of(1)}")):
        assert {server["name"] for server in found(records, servers=wanted)["servers"]} == {"web1", "web3"}
        assert [server["name"] for server in found(records, first=wanted)["servers"]] == ["web3", "web1", "web2"]


def test_a_survivor_goes_where_it_is_seen_and_a_lost_disk_has_to_be_named() -> None:
    (server,) = found([a_record(storage=SHARED)])["servers"]
    assert [each["host"] for each in server["candidates"]] == ["b"]
    assert (server["plans"]["b"]["proofs"], server["seen_at"], server["gone"]) == ({IMAGES: "w0rd"}, "2026-01-01T12:00:00.000Z", None)
    refused = found([local(1), local(2)], image=IMAGE)
    assert [error.partition(":")[0] for error in refused["errors"]] == ["web1", "web2"]
    assert "-e accept_lost_disks=web2/vda" in refused["errors"][1]
    for accepted in ("web1/vda,web2/vda", ["web1/vda", f"{uuid_of(2)}/vda"], Odd("web1/vda, web2/vda")):
        assert found([local(1), local(2)], image=IMAGE, accepted=accepted)["errors"] == []


def test_a_replica_is_what_its_disk_is_made_from_whatever_its_role() -> None:
    given: t.Any = {"web1/vda": Odd("/copies/web1.raw"), "web2/vda": {"path": "/copies/web2.img", "format": "raw"}, "other/vda": "/x"}
    answer = found([local(1), local(2), local(3)], image=IMAGE, replicas=given, accepted="web1/vda,web2/vda,web3/vda")
    files = [server["plans"]["b"]["files"][0] for server in answer["servers"]]
    assert [(file["image_path"], file["image_format"]) for file in files] == [("/copies/web1.raw", "qcow2"), ("/copies/web2.img", "raw"), (IMAGE, "qcow2")]
    assert {(source["path"], source["format"]) for source in answer["images"]} == {("/copies/web1.raw", "qcow2"), ("/copies/web2.img", "raw"), (IMAGE, "qcow2")}
    assert answer["images"][0]["disk_bytes"] == files[0]["virtual_bytes"]
    assert "web1/vda" in found([local(1)], replicas=given)["errors"][0]
    for wrong in ({"format": "raw"}, {"path": "/x", "size": 1}):
        with pytest.raises(AnsibleFilterError, match="a replica is a path"):
            found([local(1)], replicas={"web1/vda": wrong})


def test_the_image_is_of_the_format_that_is_said() -> None:
    for given, expected in (({}, "qcow2"), ({"image_format": "raw"}, "raw"), ({"image_format": ""}, "qcow2")):
        (server,) = found([local(1)], image=Odd(IMAGE), accepted="web1/vda", **given)["servers"]
        (file,) = server["plans"]["b"]["files"]
        assert (file["way"], file["image_path"], file["image_format"]) == ("image", IMAGE, expected)


def test_paths_below_instances_path_follow_the_dest() -> None:
    nodes = {"a": a_silent_node("a"), "b": a_node("b", facts={"instances_path": "/srv/images"})}
    record = a_record(facts={"disks": [a_disk(path="/old/sub/x.qcow2", role="swap")]})
    (server,) = found([record], nodes, instances_path="/old")["servers"]
    assert server["plans"]["b"]["files"][0]["dest_path"] == "/srv/images/sub/x.qcow2"
    (server,) = found([record], nodes, instances_path="")["servers"]
    assert server["plans"]["b"]["files"][0]["dest_path"] == "/old/sub/x.qcow2"


def test_all_reasons_at_once() -> None:
    """Of names that mean nothing, and of servers that cannot go anywhere."""
    nodes = {**NODES, "c": a_node("c", [a_domain(2)])}
    records = [local(1), a_record(2, storage=SHARED), a_record(3, host="c")]
    errors = found(records, nodes, [a_migration(2, "finished")], servers="web1,web2,web3,nobody")["errors"]
    for words in (
        "web3' is known to be on c",
        "nobody' is not known to be on a",
        "web1: no valid host",
        "is finished, its other node decides",
        "c has it (running)",
    ):
        assert any(words in error for error in errors), words
    assert found([], failed_host="a")["errors"][0].startswith("no server is known to be on a")


def test_a_target_is_never_exchanged_for_another_one() -> None:
    (server,) = found([a_record(storage=SHARED)], target_host="b")["servers"]
    assert [each["host"] for each in server["candidates"]] == ["b"]
    for target in ("a", "c", "nowhere"):
        answer = found([a_record(storage=SHARED)], target_host=target)
        assert answer["servers"][0]["candidates"] == []
        assert answer["errors"]
    # Not even for b, where nothing would be lost; but then it has to be said.
    assert "-e accept_lost_disks=web1/vda" in found([a_record(storage=SHARED)], target_host="c", image=IMAGE)["errors"][0]
    answer = found([a_record(storage=SHARED)], target_host="c", image=IMAGE, accepted="web1/vda")
    assert (answer["errors"], [each["host"] for each in answer["servers"][0]["candidates"]]) == ([], ["c"])


def test_a_server_that_is_gone_already_is_no_reason_to_stop() -> None:
    done = a_migration(1, "done", migration_type="evacuation", updated_at="2026-01-01T13:00:00.000Z", pending_hosts=["a"])
    answer = found([local(1), a_record(2, storage=SHARED)], {**NODES, "b": a_node("b", [a_domain(1)])}, [done])
    assert answer["errors"] == []
    assert [(server["name"], (server["gone"] or {}).get("uuid")) for server in answer["servers"]] == [("web1", done["uuid"]), ("web2", None)]


def test_servers_in_which_no_password_can_be_set() -> None:
    """They will run, and their definition has no channel; a record that does not say so is not suspected."""
    records = [a_record(number, storage=SHARED, facts=facts) for number, facts in enumerate(({"agent": False}, {"agent": True}, {}), 1)]
    stopped = a_record(4, storage=SHARED, facts={"agent": False}, state="shutoff")
    assert found([*records, stopped])["mute"] == ["web1"]


@pytest.mark.parametrize("servers", ["", "web1"])
def test_a_second_run_finds_all_of_it_done(servers: str) -> None:
    """The last-known record says by then where the server is. One that has left there since is nobody's here."""
    done = a_migration(1, "done", migration_type="evacuation", source_host="a", dest_host="b", pending_hosts=["a"])
    (server,) = found([a_record(1, host="b")], None, [done], servers=servers)["servers"]
    assert (server["gone"]["uuid"], server["errors"]) == (done["uuid"], [])
    assert found([a_record(1, host="c")], None, [done])["servers"] == found([a_record(1, host="c")], None, [done])["errors"] == []
    assert "is known to be on c, not on a" in found([a_record(1, host="c")], None, [done], servers="web1")["errors"][0]
    assert "is known to be on b, not on a" in found([a_record(1, host="b")], None, [{**done, "status": "completed"}], servers="web1")["errors"][0]
    assert found([a_record(1, host="b")], None, [{**done, "source_host": "c"}])["errors"][0].startswith("no server is known to be on a")


def test_room_for_what_is_made_from_images() -> None:
    results = [{"item": {"host": "b", "disks": 2}, "content_bytes": 1024**3}, {"skipped": True}]
    nodes = {"b": a_node("b", facts={"instances_fs": {"free_bytes": 1024**3}})}
    (sentence,) = door(image_shortage)(results, nodes)
    assert sentence.startswith("b has 1.0 GiB free in ")
    assert door(image_shortage)([], nodes) == door(image_shortage)(None, nodes) == []
    with pytest.raises(AnsibleFilterError, match="the results must be a list"):
        door(image_shortage)("x", nodes)


def test_a_halt() -> None:
    assert door(halt_reason)([]) == door(halt_reason)([{"ok": True}, {"ok": False}]) == ""
    assert door(halt_reason)([{"ok": False, "server_name": Odd("web1")}]).startswith("not begun: 1 of 1 server before it failed (web1)")


@pytest.mark.parametrize("module", [halt_reason, image_shortage], ids=["halt_reason", "image_shortage"])
def test_documentation_of_the_others_is_whole(module: t.Any) -> None:
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert documentation["name"] == module.__name__.rpartition(".")[2]
    assert set(documentation.get("positional", "_input").split(", ")) == set(documentation["options"])
    assert yaml.safe_load(module.EXAMPLES) and yaml.safe_load(module.RETURN)["_value"]["type"]
