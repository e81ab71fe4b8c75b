# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators write into variables: taken as meant, or one sentence that says what is wrong."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import inputs

GOOD: dict[str, list[t.Any]] = {
    "server": ["web", "web,db", ["web", "db"], 7, "3f1e"],
    "target_host": ["node2"],
    "older_than": [0, "86400", 1.5, " 60 "],
    "accept_lost_writes": [True, False, "true", "False", "yes", "NO", "on", "0", 1],
    "verify": ["no"],
    "grow_filesystem": ["yes", ""],
    "shutdown_timeout": [0, "0", "60", 60.0],
    "shutdown_retry_interval": ["1"],
    "stall_timeout": [1],
    "bandwidth_limit": ["50M", "1.5 GiB", "100kb", 1000000, "1"],
    "precopy": ["auto", "always", "Never"],
    "precopy_timeout": [1, "21600", 60.0],
    "ciphers": ["aes128-gcm@openssh.com", "aes256-ctr, chacha20-poly1305@openssh.com", ["aes128-ctr"], ""],
    "transfer_slots": [1, "2", "10"],
    "compression": ["none", "zstd", " auto "],
    "admin_password": ["s3cret", "with: colon, and 'quotes'", 1234, " x "],
    "admin_user": ["root", "Administrator", "DOMAIN\\ann"],
    "admin_password_timeout": ["30", 0],
}
BAD: dict[str, list[t.Any]] = {
    "server": [True, {"name": "web"}, ["web", None], [["web"]], " , ", [""]],
    "target_host": [["node2"], {"a": 1}, True],
    "older_than": ["1 day", "-1", "nan", "inf", True, "1e999"],
    "accept_lost_writes": ["maybe", "sure", 2, ["yes"], "tru"],
    "verify": ["nope"],
    "grow_filesystem": ["ext4", 2],
    "shutdown_timeout": ["soon", "1.5", -1],
    "shutdown_retry_interval": [0],
    "stall_timeout": ["0", False],
    "bandwidth_limit": ["fast", "50X", "-1", "M", True, 0, "0", "0M", "0.2", "0.0"],
    "precopy": ["maybe", True, 1, ["auto"]],
    "precopy_timeout": [0, "0", "1.5", "soon", -1, True],
    "ciphers": ["+aes128-ctr", "^aes128-ctr", "-oProxyCommand=reboot", "aes*", ",", "aes128-ctr\nProxyCommand x", ["a b"], ["a\n"], {"a": 1}, True, 7],
    "compression": ["gzip", "ZSTD", True, ["zstd"], 1],
    "transfer_slots": ["0", 0, "two", -1, 1.5],
    "admin_user": ["a:b", "a\nb", ["root"], True],
    "admin_password_timeout": ["soon"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_good_values(name: str, value: t.Any) -> None:
    """Strings are as good as what they stand for."""
    assert inputs.malformed({name: value}, inputs.OF_VERBS) == []


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_values(name: str, value: t.Any) -> None:
    """The sentence names the variable and the value."""
    (sentence,) = inputs.malformed({name: value}, inputs.OF_VERBS)
    assert sentence.startswith(f"{name} is {value!r}: ")


@pytest.mark.parametrize("value", ["s3cret\nmore", ["s3cret"], {"s3cret": 1}, "s3cret\0"])
def test_what_is_said_of_a_password_does_not_repeat_it(value: t.Any) -> None:
    """Not even of one that is malformed."""
    (sentence,) = inputs.malformed({"admin_password": value}, inputs.OF_VERBS)
    assert sentence.startswith("admin_password is malformed: ")
    assert "s3cret" not in sentence


@pytest.mark.parametrize("value", ["", "  ", None])
@pytest.mark.parametrize("name", [*inputs.OF_VERBS, *inputs.OF_NODES])
def test_empty_is_not_given(name: str, value: t.Any) -> None:
    """As surveys send it."""
    kinds = {**inputs.OF_VERBS, **inputs.OF_NODES}
    assert inputs.malformed({name: value}, kinds) == inputs.malformed({}, kinds) == []


def test_all_sentences_at_once_and_where() -> None:
    """For nodes: whose variable it is; control characters do not reach the terminal."""
    found = inputs.malformed({"maintenance": "perhaps\x1b", "migration_port": "70000", "traits": 3}, inputs.OF_NODES, "node1")
    assert [sentence.split(" is ")[0] for sentence in found] == ["node1: maintenance", "node1: traits", "node1: migration_port"]
    assert not any("\x1b" in sentence for sentence in found)
