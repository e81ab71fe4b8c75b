# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is pinned of a peer."""

from __future__ import annotations

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import trust

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
