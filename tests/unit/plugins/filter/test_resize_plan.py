# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door of resize: what is given may be text, what comes out is plain."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.filter import resize_plan
from ansible_collections.coldmove.libvirt.tests.unit.plugins.filter.test_doors import Odd, door, is_plain
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import a_domain, a_node, a_server

FLAVORS = {"m1.new": {"vcpus": 2, "memory_mb": 2048, "root_gb": 20}, "odd: name": {"vcpus": 3, "memory_mb": 2048, "root_gb": 20}}
NODES = {"a": a_node("a", [a_domain(1, project="web")]), "b": a_node("b")}


def plan(flavor: t.Any, *more: t.Any, **named: t.Any) -> dict[str, t.Any]:
    found: dict[str, t.Any] = door(resize_plan)(a_server(project="web"), flavor, *more, **named)
    assert is_plain(found)
    return found


def test_documentation_is_whole() -> None:
    documentation = yaml.safe_load(resize_plan.DOCUMENTATION)
    assert documentation["name"] == "resize_plan"
    assert documentation["positional"].split(", ") == list(documentation["options"])
    assert yaml.safe_load(resize_plan.EXAMPLES)
    assert yaml.safe_load(resize_plan.RETURN)["_value"]["type"]


def test_a_name() -> None:
    found = plan(Odd("m1.new"), FLAVORS, {}, NODES, [])
    assert (found["errors"], found["new_flavor"]["vcpus"], found["sizes"]) == ([], 2, {"vda": 20 * 1024**3})
    assert plan("odd: name", FLAVORS)["new_flavor"]["vcpus"] == 3


@pytest.mark.parametrize(
    "flavor",
    [
        {"vcpus": 2, "memory_mb": 2048, "root_gb": 20},
        '{"vcpus": 2, "memory_mb": 2048, "root_gb": 20}',
        " {vcpus: 2, memory_mb: '2048', root_gb: 20}\n",
        "vcpus: 2\nmemory_mb: 2048\nroot_gb: 20",
    ],
)
def test_a_mapping_may_come_as_text(flavor: t.Any) -> None:
    found = plan(flavor)
    assert found["errors"] == []
    assert found["new_flavor"] == {"name": "custom", "vcpus": 2, "memory_mb": 2048, "root_gb": 20, "ephemeral_gb": 0, "swap_mb": 0, "extra_specs": {}}


def test_flavors_and_quotas_may_come_as_text_too() -> None:
    assert plan("m1", '{"m1": {"vcpus": 2, "memory_mb": 2048, "root_gb": 20}}', "web: {vcpus: 3}", NODES)["errors"] == []
    assert len(plan("m1", '{"m1": {"vcpus": 2, "memory_mb": 2048, "root_gb": 20}}', "web: {vcpus: 2}", NODES)["errors"]) == 1


@pytest.mark.parametrize("written", ["010", "1:30", "0x10", "1_0", "1e1", "~", "on"])
def test_numbers_in_text_are_not_taken_for_others(written: str) -> None:
    errors = plan(f"{{vcpus: 1, memory_mb: 512, root_gb: {written}}}")["errors"]
    assert f"root_gb is '{written}'" in errors[0]


def test_in_place_may_come_as_text() -> None:
    assert plan("m1.new", FLAVORS, in_place="yes")["need"]["disk_bytes"] == 21 * 1024**3
    for value in ("no", "", None, False):
        assert plan("m1.new", FLAVORS, in_place=value)["need"]["disk_bytes"] == 20 * 1024**3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("web1", "m1.new"), "server must be a dictionary, not str"),
        ((a_server(), "m1.new", FLAVORS, {}, ["a"]), "nodes must be a dictionary, not list"),
        ((a_server(), "m1.new", FLAVORS, {}, {}, "x"), "migrations must be a list, not str"),
        ((a_server(), "m1.new", FLAVORS, {}, {}, [], "perhaps"), "in_place is 'perhaps': it must be a boolean"),
    ],
)
def test_what_is_wrong_is_one_clear_line(arguments: tuple[t.Any, ...], words: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        door(resize_plan)(*arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("written", ["{vcpus:", "{vcpus: 2", "{vcpus}", "{'a': [}"])
def test_text_that_is_no_mapping_is_a_reason_like_any_other(written: str) -> None:
    """Of ``-e flavor={vcpus: 2, memory_mb: 1}``, Ansible leaves ``{vcpus:``."""
    assert plan(written, FLAVORS)["errors"] == [
        f"flavor '{written}' cannot be read as a mapping. On the command line write it as JSON: -e '{{\"flavor\": {{\"vcpus\": 2, …}}}}'",
        "the flavors are m1.new, odd: name",
    ]
    assert "flavors is '{a:'" in plan("m1", "{a:")["errors"][0]
    assert "quotas is '{a:'" in plan("m1.new", FLAVORS, "{a:")["errors"][0]
