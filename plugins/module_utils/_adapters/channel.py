# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The data channel: an ssh connection to the restricted account of a peer that forwards unix sockets and can do nothing else.

OpenSSH does the work. On the dest, sshd confines the account (roles/ssh_trust): chroot to the folder of the export
sockets, no session, no TCP, no other forwarding. Here is the source's end.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

#: AES-GCM is the fastest where the CPU has AES; the last one is OpenSSH's own default for those that have not.
CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com"
CONNECT_TIMEOUT_SECONDS = 20


class Peer(t.NamedTuple):
    """The dest's end of the channel. ``address`` is a name, an IPv4 or an IPv6 address."""

    address: str
    port: int
    account: str
    identity: str
    known_hosts: str


class Channel:
    """An open channel. ``sockets`` maps each remote socket name to its local path; ``sent_bytes()`` counts what went out."""

    def __init__(self, process: subprocess.Popen[str], sockets: dict[str, str]) -> None:
        self._process = process
        self.sockets = sockets

    def alive(self) -> bool:
        """Whether the ssh connection still stands."""
        return self._process.poll() is None

    def sent_bytes(self) -> int:
        """Bytes that this ssh process has written so far: what crossed the wire, with encryption, and its few replies."""
        for line in Path(f"/proc/{self._process.pid}/io").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "wchar":
                return int(value)
        return 0


@contextlib.contextmanager
def opened(peer: Peer, remote_sockets: t.Iterable[str], keepalive_seconds: int) -> t.Iterator[Channel]:
    """Open a channel to ``peer`` that forwards each of ``remote_sockets`` (absolute in the peer's channel folder).

    ``keepalive_seconds``: a peer that is silent for this long is given up. Raises ColdmoveError with ssh's own words.
    """
    with tempfile.TemporaryDirectory(prefix="coldmove-channel-") as folder:
        local = {name: f"{folder}/{index}" for index, name in enumerate(remote_sockets)}
        errors = Path(folder) / "ssh.log"
        with open(errors, "w", encoding="utf-8") as stderr:
            process = subprocess.Popen(
                _command(peer, local, keepalive_seconds),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                text=True,
            )
        try:
            _await_sockets(process, peer, list(local.values()), errors)
            yield Channel(process, local)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _command(peer: Peer, local: dict[str, str], keepalive_seconds: int) -> list[str]:
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": peer.identity,
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": peer.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "ControlPath": "none",
        "ConnectTimeout": str(CONNECT_TIMEOUT_SECONDS),
        "ExitOnForwardFailure": "yes",
        "StreamLocalBindUnlink": "yes",
        "StreamLocalBindMask": "0177",
        "ServerAliveInterval": str(max(1, keepalive_seconds // 6)),
        "ServerAliveCountMax": "6",
        "Ciphers": CIPHERS,
        "Compression": "no",
        "LogLevel": "ERROR",
    }
    command = ["setpriv", "--pdeathsig", "KILL", "ssh", "-F", "none", "-N", "-T", "-p", str(peer.port), "-l", peer.account]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    for remote, path in local.items():
        command += ["-L", f"{path}:{remote}"]
    return [*command, "--", peer.address]


def _await_sockets(process: subprocess.Popen[str], peer: Peer, sockets: list[str], errors: Path) -> None:
    """ssh makes the local sockets once it is let in; nothing may use them earlier."""
    deadline = time.monotonic() + CONNECT_TIMEOUT_SECONDS + 10
    while not all(Path(path).is_socket() for path in sockets):
        if process.poll() is not None or time.monotonic() > deadline:
            words = errors.read_text(encoding="utf-8", errors="replace").strip() or "no answer"
            raise ColdmoveError(
                f"data channel to {peer.account}@{peer.address} port {peer.port} refused: {words}. "
                "Run 'ansible-playbook coldmove.libvirt.ssh_trust' and see which pair it names"
            )
        time.sleep(0.02)

