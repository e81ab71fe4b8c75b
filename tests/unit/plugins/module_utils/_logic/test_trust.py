# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is pinned of a peer."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import trust
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

KEYS = {"ssh_host_key_ed25519_public": "AAAA", "ssh_host_key_ed25519_public_keytype": "ssh-ed25519"}


def names(*given: str, port: int = 22) -> list[str]:
    """The names in the one line that is made of these."""
    (line,) = trust.known_hosts_lines(given, port, KEYS)
    hosts, rest = line.split(" ", 1)
    assert rest == "ssh-ed25519 AAAA"
    return hosts.split(",")


def test_every_name_and_address_is_pinned_once() -> None:
    """In an order that does not depend on that of the facts."""
    assert names("node1", "192.0.2.1", "2001:db8::1", "node1", "") == names("2001:db8::1", "node1", "192.0.2.1") == ["192.0.2.1", "2001:db8::1", "node1"]


def test_another_port_is_written_as_ssh_looks_it_up() -> None:
    """Also for an IPv6 address."""
    assert names("node1", "2001:db8::1", port=2222) == ["[2001:db8::1]:2222", "[node1]:2222"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "169.254.3.4", "fe80::fc54:ff:fe88:5"])
def test_addresses_that_come_and_go_are_left_out(address: str) -> None:
    """A guest that starts brings a link-local address: prepare must not see a change in that."""
    assert names("node1", address) == ["node1"]


def test_a_link_local_address_with_its_zone_is_the_operators_wish() -> None:
    """It is reached, on one link."""
    assert names("node1", "fe80::1%eth1") == ["fe80::1%eth1", "node1"]


# --- what is written is what ssh reads


@pytest.mark.parametrize(
    "name",
    ["*", "node?", "!node1", "|1|abc|def", "#node", "@revoked", "[node1]:22", "a b", "a,b", "a\nb", "-oProxyCommand=x", "node1\0", "nöde", '"x"', "$(id)"],
)
def test_a_name_that_is_none_is_left_out(name: str) -> None:
    """Facts come from the node itself: with the name ``*`` its key would be valid for every peer."""
    assert names("node1", name) == ["node1"]


@pytest.mark.parametrize("given", [[], [""], ["127.0.0.1", "*"]])
def test_a_node_without_a_name_is_refused(given: list[str]) -> None:
    with pytest.raises(ColdmoveError, match="migration_address"):
        trust.known_hosts_lines(given, 22, KEYS)


@pytest.mark.parametrize(
    "facts",
    [
        {"ssh_host_key_rsa_public": "AAAA\nnode2 ssh-rsa BBBB", "ssh_host_key_rsa_public_keytype": "ssh-rsa"},
        {"ssh_host_key_rsa_public": "AAAA", "ssh_host_key_rsa_public_keytype": "ssh-rsa AAAA\nnode2 ssh-rsa"},
        {"ssh_host_key_rsa_public": "AAAA"},
        {"ssh_host_key_rsa_public": "", "ssh_host_key_rsa_public_keytype": "ssh-rsa"},
    ],
)
def test_a_key_that_is_none_is_refused_and_brings_no_line_of_its_own(facts: dict[str, str]) -> None:
    with pytest.raises(ColdmoveError, match="node1 has a malformed host key") as caught:
        trust.known_hosts_lines(["node1"], 22, {**KEYS, **facts})
    assert "\n" not in str(caught.value)


def test_one_line_for_each_key_and_other_facts_are_no_keys() -> None:
    facts = {**KEYS, "ssh_host_key_rsa_public": "BBBB", "ssh_host_key_rsa_public_keytype": "ssh-rsa", "hostname": "x"}
    assert trust.known_hosts_lines(["node1"], 22, facts) == ["node1 ssh-ed25519 AAAA", "node1 ssh-rsa BBBB"]
    assert trust.known_hosts_lines(["node1"], 22, {}) == []


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
@pytest.mark.parametrize("port", [22, 2222])
def test_ssh_finds_every_name(tmp_path: pathlib.Path, port: int) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(tmp_path / "key")], check=True)
    key_type, key = (tmp_path / "key.pub").read_text(encoding="ascii").split()[:2]
    facts = {"ssh_host_key_ed25519_public": key, "ssh_host_key_ed25519_public_keytype": key_type}
    given = ["Node1", "node1.example.net", "192.0.2.1", "2001:db8::1", "fe80::1%eth1", "a_b-c"]
    (tmp_path / "known_hosts").write_text("\n".join(trust.known_hosts_lines(given, port, facts)) + "\n", encoding="ascii")

    def found(name: str) -> bool:
        looked_up = name if port == 22 else f"[{name}]:{port}"
        done = subprocess.run(["ssh-keygen", "-F", looked_up, "-f", str(tmp_path / "known_hosts")], capture_output=True, text=True, check=False)
        return done.returncode == 0 and key in done.stdout

    assert [name for name in given if not found(name)] == []
    assert not found("node2")


# --- where a node is reached


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "node1"),
        ({"ansible_host": "192.0.2.1"}, "192.0.2.1"),
        ({"ansible_host": "192.0.2.1", "migration_address": "2001:db8::1"}, "2001:db8::1"),
        ({"ansible_host": "192.0.2.1", "migration_address": ""}, "192.0.2.1"),
    ],
)
def test_the_address_for_transfers(variables: dict[str, str], address: str) -> None:
    assert trust.migration_address("node1", variables) == address
    assert trust.peer("node1", variables) == {"name": "node1", "address": address, "port": 22}


@pytest.mark.parametrize("port", [1, "2222", 65535])
def test_a_port_may_be_a_string(port: object) -> None:
    assert trust.peer("node1", {"migration_port": port})["port"] == int(str(port))


@pytest.mark.parametrize("port", ["ssh", "-1", 65536, "22 ", 2.5, True])
def test_a_port_that_is_none_is_refused(port: object) -> None:
    with pytest.raises(ColdmoveError, match="migration_port of node1"):
        trust.peer("node1", {"migration_port": port})
