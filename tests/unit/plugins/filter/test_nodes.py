# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the inventory to the dictionary of nodes."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.filter.nodes import FilterModule

FACTS = {"node": {"name": "a", "domains": [], "journals": []}, "changed": False}
nodes = FilterModule().filters()["nodes"]


def test_defaults_are_novas():
    assert nodes(["a"], {"a": {"coldmove_node_facts": FACTS}}) == {
        "a": {
            "name": "a",
            "reachable": True,
            "error": "",
            "facts": FACTS["node"],
            "maintenance": False,
            "forced_down": False,
            "availability_zone": "",
            "traits": [],
            "cpu_allocation_ratio": 4.0,
            "ram_allocation_ratio": 1.0,
            "disk_allocation_ratio": 1.0,
            "reserved_memory_mb": 512,
            "reserved_disk_gb": 0.0,
            "migration_address": "a",
            "service": {},
        }
    }


def test_the_flags_of_the_record_store_come_with_the_node():
    flags = {"a": {"disabled": {"by": "alice"}}, "gone": {"fenced": {"by": "bob"}}}
    known = nodes(["a", "b"], {"a": {}, "b": {}}, services=flags)
    assert {name: node["service"] for name, node in known.items()} == {"a": flags["a"], "b": {}}


def test_strings_from_surveys_are_numbers_and_booleans():
    variables = {
        "maintenance": "yes",
        "forced_down": "False",
        "cpu_allocation_ratio": "16",
        "reserved_memory_mb": "2048",
        "reserved_disk_gb": "",
        "traits": "ssd, gpu",
    }
    node = nodes(["a"], {"a": variables})["a"]
    assert (node["maintenance"], node["forced_down"], node["cpu_allocation_ratio"], node["reserved_memory_mb"]) == (True, False, 16.0, 2048)
    assert (node["reserved_disk_gb"], node["traits"]) == (0.0, ["ssd", "gpu"])


def test_the_address_falls_back_to_ansibles():
    assert nodes(["a"], {"a": {"ansible_host": "192.0.2.1"}})["a"]["migration_address"] == "192.0.2.1"
    assert nodes(["a"], {"a": {"ansible_host": "192.0.2.1", "migration_address": "fe80::1"}})["a"]["migration_address"] == "fe80::1"


def test_everything_malformed_is_one_error_naming_host_and_variable():
    variables = {
        "a": {"maintenance": "perhaps", "cpu_allocation_ratio": 0, "reserved_memory_mb": "1.5"},
        "b": {"reserved_disk_gb": -1, "traits": {"x": 1}, "ram_allocation_ratio": "nan", "disk_allocation_ratio": True},
    }
    with pytest.raises(AnsibleFilterError) as caught:
        nodes(["a", "b"], variables)
    for word in ("a: maintenance", "a: cpu_allocation_ratio", "a: reserved_memory_mb", "b: reserved_disk_gb", "b: traits", "b: ram_alloc", "b: disk_alloc"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (None, "no facts of it were gathered in this run"),
        ({"failed": True, "msg": "node a does not answer"}, "node a does not answer"),
        ({"unreachable": True, "msg": "timed out"}, "timed out"),
        ({"skipped": True}, "holds no node facts"),
        ("text", "no facts"),
    ],
)
def test_a_node_that_gave_no_facts_does_not_answer(result, error):
    node = nodes(["a"], {"a": {"x": result}}, "x")["a"]
    assert (node["reachable"], node["facts"]) == (False, None)
    assert error in node["error"]


def test_the_list_of_hosts_must_be_one():
    with pytest.raises(AnsibleFilterError, match="must be a list"):
        nodes("abc", {})
