# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How ssh is asked for the channel, and what is said when it refuses; with the real ssh and no peer (those are in tests/integration/test_channel.py)."""

from __future__ import annotations

import shutil
import typing as t

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import channel
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import inputs
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import peer_at

pytestmark = pytest.mark.skipif(not all(map(shutil.which, ("ssh", "setpriv"))), reason="ssh and setpriv are needed")


def refusal(**more: t.Any) -> str:
    """What is said of a peer where nobody listens (port 1)."""
    peer = channel.Peer("127.0.0.1", 1, "nobody", "/nonexistent", "/nonexistent", **more)
    with (
        pytest.raises(ColdmoveError, match="data channel to nobody@127.0.0.1 port 1 refused") as caught,
        channel.connected(peer, {"/offers/x": "/nonexistent"}),
    ):
        pass
    return str(caught.value)


def test_a_cipher_that_this_node_does_not_have_is_told_in_the_words_of_ssh() -> None:
    said = refusal(ciphers=("aes128-ctr", "rot13"))
    assert "Bad SSH2 cipher spec 'aes128-ctr,rot13'" in said
    assert "ciphers is aes128-ctr,rot13: name one that both nodes have" in said
    assert "ssh_trust" not in said


def test_ssh_knows_the_ciphers_that_are_taken_when_none_are_given() -> None:
    said = refusal()
    assert "Connection refused" in said
    assert "ssh_trust" in said
    assert inputs.ciphers(",".join(channel.CIPHERS)) == list(channel.CIPHERS)


def test_names_that_are_given_are_the_ones_that_ssh_is_asked_for() -> None:
    assert peer_at("node1", 22, ["aes256-ctr", "aes128-ctr"]).ciphers == ("aes256-ctr", "aes128-ctr")
    assert peer_at("node1", 22).ciphers == peer_at("node1", 22, []).ciphers == channel.CIPHERS


@pytest.mark.parametrize("word", ["-oProxyCommand=id", "+aes128-ctr", "aes128-ctr\nProxyCommand id", "aes*", ""])
def test_what_is_no_name_never_reaches_ssh(word: str) -> None:
    with pytest.raises(ColdmoveError, match="^ciphers is '.*: it must be names of ssh's ciphers"):
        peer_at("node1", 22, [word])
