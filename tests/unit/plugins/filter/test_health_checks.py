# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doors to health checks: the filter of the roles, and the list of what is malformed."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.filter import health_checks, malformed
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.health import TYPES
from ansible_collections.coldmove.libvirt.plugins.modules import virt_health_check
from ansible_collections.coldmove.libvirt.tests.unit.plugins.filter.test_doors import Odd, door, is_plain


def test_documentation_is_whole() -> None:
    documentation = yaml.safe_load(health_checks.DOCUMENTATION)
    assert documentation["name"] == "health_checks"
    assert yaml.safe_load(health_checks.EXAMPLES)
    assert yaml.safe_load(health_checks.RETURN)["_value"]["type"]


def test_documentation_of_the_module_has_the_same_types_and_defaults() -> None:
    told = yaml.safe_load(virt_health_check.DOCUMENTATION)["options"]["checks"]["suboptions"]
    spec = virt_health_check.CHECKS_ARG["options"]
    assert told["type"]["choices"] == list(TYPES)
    assert {name: option.get("default") for name, option in told.items()} == {name: option.get("default") for name, option in spec.items()}


def test_what_comes_out_is_plain_and_what_the_module_takes() -> None:
    checks = door(health_checks)([{"type": Odd("tcp"), "port": Odd("22")}])
    assert is_plain(checks)
    assert set(checks[0]) == set(virt_health_check.CHECKS_ARG["options"])
    for nothing in (None, "", []):
        assert door(health_checks)(nothing) == []


@pytest.mark.parametrize("written", ["fast", [{"type": "tcp"}], [{"type": "http"}], {"type": "agent"}])
def test_both_doors_refuse_the_same(written: t.Any) -> None:
    """The filter fails; the list has one sentence, before anything is stopped."""
    with pytest.raises(AnsibleFilterError, match="health_checks: ") as caught:
        door(health_checks)(written)
    (sentence,) = door(malformed)({"health_checks": written}, [], {})
    assert sentence.startswith("health_checks is ")
    assert sentence.endswith(str(caught.value).removeprefix("health_checks: "))


def test_what_is_well_formed_is_not_in_the_list() -> None:
    for written in ("", None, [], '[{"type": "agent"}]', [{"type": "ping", "timeout": "5"}]):
        assert door(malformed)({"health_checks": written}, [], {}) == []
