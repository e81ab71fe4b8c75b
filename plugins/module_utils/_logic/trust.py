# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Who is who on the migration network: peers, and the known_hosts lines that pin them."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.text import quoted

_KEY_FACT = re.compile(r"ssh_host_key_(\w+)_public$")
#: What a name or an address is made of. Facts come from the node: a name like ``*`` would make its key valid for every peer.
_NAME = re.compile(r"[A-Za-z0-9_.:][A-Za-z0-9_.:%-]*")
_KEY = re.compile(r"[A-Za-z0-9+/]+={0,3}")
_KEY_TYPE = re.compile(r"[A-Za-z0-9@.-]+")


def migration_address(name: str, variables: t.Mapping[str, t.Any]) -> str:
    """Where the node ``name`` is reached for transfers: ``migration_address``, else ``ansible_host``, else its name; empty is not given."""
    return str(variables.get("migration_address") or variables.get("ansible_host") or name)


def peer(name: str, variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """``{name, address, port}`` of a node from its inventory variables. Raises ColdmoveError for a port that is none."""
    port = variables.get("migration_port") or 22
    if not str(port).isdecimal() or not 0 < int(port) < 65536:
        raise ColdmoveError(f"migration_port of {name} is '{port}': a number from 1 to 65535 is needed")
    return {"name": name, "address": migration_address(name, variables), "port": int(port)}


def known_hosts_lines(names: t.Iterable[str], port: int, facts: t.Mapping[str, t.Any]) -> list[str]:
    """One known_hosts line for each host key in ``facts`` (``ssh_host_key_*_public`` and ``…_keytype``), valid for all ``names``.

    A name is written as ssh looks it up: ``[name]:port`` unless the port is 22 (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
    Left out is what is no name, and addresses that mean nothing to a peer: those of the loopback, and link-local ones, which come and
    go with every guest's interface. Raises ColdmoveError if nothing is left, or for a key that is none.
    """
    known = sorted({name for name in map(str, names) if _NAME.fullmatch(name) and not _local(name)})
    keys = [(str(facts.get(f"{fact}_keytype", "")), str(facts[fact])) for fact in sorted(facts) if _KEY_FACT.search(fact)]
    if not known:
        raise ColdmoveError("none of the node's names and addresses means anything to a peer: set migration_address")
    for key_type, key in keys:
        if not _KEY_TYPE.fullmatch(key_type) or not _KEY.fullmatch(key):
            raise ColdmoveError(f"{known[0]} has a malformed host key: {quoted(key_type)} {quoted(key)}")
    hosts = ",".join(name if port == 22 else f"[{name}]:{port}" for name in known)
    return [f"{hosts} {key_type} {key}" for key_type, key in keys]


def _local(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    # A link-local address with its zone (fe80::1%eth0) is one that the operator has written.
    return address.is_loopback or (address.is_link_local and "%" not in name)
