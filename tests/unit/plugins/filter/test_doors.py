# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every filter is a plain door: documented, one clear line for what is wrong, plain values out."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.filter import (
    definition_edits,
    move_blockers,
    move_table,
    plan_files,
    proof_verdict,
    provable_disks,
    recovery_decision,
    select_hosts,
)
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import plain
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import MOVE, a_domain, a_migration, a_node, a_server

MODULES = [definition_edits, move_blockers, move_table, plan_files, proof_verdict, provable_disks, recovery_decision, select_hosts]
NODES = {"a": a_node("a", [a_domain(1)]), "b": a_node("b")}


class Odd(str):
    """As Ansible's tagged strings are."""


def door(module):
    """The filter of a plugin file, as Jinja gets it."""
    ((name, function),) = module.FilterModule().filters().items()
    assert name == module.__name__.rpartition(".")[2]
    return function


def is_plain(value) -> bool:
    """Only what Ansible takes from a filter, and no subclasses of it."""
    if isinstance(value, dict):
        return value.__class__ is dict and all(key.__class__ is str and is_plain(element) for key, element in value.items())
    if isinstance(value, list):
        return value.__class__ is list and all(is_plain(element) for element in value)
    return value is None or value.__class__ in (str, int, float, bool)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_documentation_is_whole(module):
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert documentation["name"] == module.__name__.rpartition(".")[2]
    assert set(documentation.get("positional", "_input").split(", ")) <= set(documentation["options"])
    assert yaml.safe_load(module.EXAMPLES)
    assert yaml.safe_load(module.RETURN)["_value"]["type"]


def test_the_verdict_of_a_proof_from_the_disks_to_a_sentence():
    files = [{"id": Odd("vda"), "kind": "disk", "way": "copy", "virtual_bytes": 5}, {"id": "vdb", "kind": "disk", "way": "copy", "virtual_bytes": 6}]
    disks = door(provable_disks)(files, [Odd("vdb")])
    assert disks == {"vda": 5}
    started, held = {"digests": {"vda": {"digest": Odd("1")}}, "impossible": None}, {"digests": {"vda": {"digest": "2"}}}
    record = a_migration(1, "post-migrating")
    verdict = door(proof_verdict)(record, started, held)
    assert verdict["state"] == "failed"
    assert is_plain(verdict)
    assert door(proof_verdict)(record, started, None, None)["state"] == "impossible"
    with pytest.raises(AnsibleFilterError, match="started must be a dictionary"):
        door(proof_verdict)(record, None, held)


def test_a_whole_plan_from_facts_to_blockers():
    server = a_server()
    selection = door(select_hosts)(server, NODES, [], source_host="a", target_host=None)
    assert [entry["host"] for entry in selection["candidates"]] == ["b"]
    assert selection["need"] == {"vcpus": 1, "memory_mb": 1024, "disk_bytes": 10 * 1024**3}
    path = NODES["b"]["facts"]["instances_path"]
    plan = door(plan_files)(server, path, path, MOVE)
    answers = {"free_bytes": {path: 0}, "same_filesystem": {}, "collisions": [], "unmet": []}
    reasons = door(move_blockers)(server, NODES["a"], NODES["b"], answers, plan["files"], [], own_migration=MOVE, channel_error="")
    assert len(reasons) == 1
    assert "free space" in reasons[0]
    assert is_plain(selection)
    assert is_plain(plan)
    assert is_plain(reasons)


def test_a_whole_plan_of_a_resize_on_the_same_node():
    server = {**a_server(), "node_ties": ["has a TPM"]}
    need = {"vcpus": 2, "memory_mb": 2048, "disk_bytes": 20 * 1024**3}
    selection = door(select_hosts)(server, NODES, [], source_host="a", target_host="a", need=need, in_place=True)
    assert ([entry["host"] for entry in selection["candidates"]], selection["need"]) == (["a"], need)
    path = NODES["a"]["facts"]["instances_path"]
    plan = door(plan_files)(server, path, path, MOVE, sizes={"vda": str(20 * 1024**3)}, in_place=True)
    assert (plan["files"][0]["way"], plan["files"][0]["grow_to_bytes"], plan["errors"]) == ("overlay", 20 * 1024**3, [])
    assert door(definition_edits)(plan["files"]) == plan["edits"]
    assert plan["edits"]["formats"] == {"vda": "qcow2"}
    answers = {"free_bytes": {path: 50 * 1024**3}, "same_filesystem": {}, "collisions": [], "unmet": []}
    ends = (NODES["a"], NODES["a"], answers, plan["files"], [])
    assert door(move_blockers)(server, *ends, in_place=True, need=need, refusals=None) == []
    reasons = door(move_blockers)(server, *ends, in_place=True, need={"memory_mb": 99999}, refusals=[Odd("too small")])
    assert (reasons[0], len(reasons)) == ("too small", 2)
    for value in (selection, plan, reasons):
        assert is_plain(value)


def test_without_a_dest_the_server_and_its_source_are_looked_at():
    server = a_server(blockers=["has snapshots: before"], locked={"by": "ann", "reason": "audit"})
    reasons = door(move_blockers)(server, NODES["a"], {}, {}, [], [], refusals=["too small"])
    assert [reason for reason in reasons if "snapshots" in reason or "locked" in reason or reason == "too small"] == reasons[:3]
    assert is_plain(reasons)


def test_a_partial_need_is_completed():
    assert door(select_hosts)(a_server(), NODES, need={"memory_mb": 5})["need"] == {"vcpus": 0, "memory_mb": 5, "disk_bytes": 0}


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        (select_hosts, ("web1", NODES), "server must be a dictionary, not str"),
        (select_hosts, (a_server(), NODES, {"a": 1}), "migrations must be a list"),
        (plan_files, (a_server(), "/i", "/j", "../../etc"), "is not a UUID"),
        (plan_files, (a_server(), "i", "/j", MOVE), "must be an absolute path"),
        (definition_edits, ("x",), "files must be a list, not str"),
        (definition_edits, (["x"],), "files must be a list of dictionaries"),
        (move_table, ("x",), "migrations must be a list, not str"),
        (move_table, (["x"],), "must be a list of dictionaries"),
        (recovery_decision, (a_migration(), "x", None), "source_state must be a dictionary"),
        (recovery_decision, (a_migration(), None, {"domain": "odd"}), "dest_state is no state of a move"),
    ],
)
def test_what_is_wrong_is_one_clear_line(module, arguments, words):
    with pytest.raises(AnsibleFilterError) as caught:
        door(module)(*arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("silence", [None, {}, {"failed": True, "msg": "x"}, {"unreachable": True}, {"skipped": True}])
def test_a_failed_look_is_silence(silence):
    running = {"changed": False, "move": {"domain": "running", "files": {}}}
    decision = door(recovery_decision)(a_migration(1, "post-migrating"), running, silence)
    assert decision["decision"] == "blocked"
    assert "b does not answer" in decision["reason"]


def test_no_outcome_is_a_table_too():
    assert door(move_table)(None) == ["no servers"]


def test_what_goes_out_is_plain():
    value = plain({Odd("a"): [Odd("b"), (1, 2.0, True, None), {"c"}], "d": pathlib.Path("/e")})
    assert is_plain(value)
    assert value == {"a": ["b", [1, 2.0, True, None], ["c"]], "d": "/e"}


def test_ansible_tagged_values_become_plain(tmp_path):
    """Under ansible-core every string that comes in is tagged; none may stay so in what is stored."""
    code = (
        "from ansible.parsing.dataloader import DataLoader\n"
        "from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import plain\n"
        "value = DataLoader().load('a: [x, 1, {b: true}]', file_name='/t')\n"
        "out = plain(value)\n"
        "assert type(value['a'][0]) is not str\n"
        "assert [type(e) for e in out['a']] == [str, int, dict], out\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
