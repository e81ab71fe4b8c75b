# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The data channel: dest's ssh connection to the restricted account of the source, over which dest offers its exports.

OpenSSH does the work. Dest connects and asks the source's sshd to listen on a unix socket for each export
(``ssh -R SOCKET:EXPORT``); what the source writes into that socket arrives at dest's export. On the source, sshd confines
the account (roles/ssh_trust): chroot, no session, no TCP, no connecting to anything, only such sockets, in one folder.
So a key opens nothing on its peers: it can offer, and root on the source decides to use what is offered.
(The other direction, ``ssh -L``, was tried: OpenSSH cannot permit unix sockets there without also permitting TCP.)
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

#: AES-GCM is the fastest where the CPU has AES; the last one is OpenSSH's own default for those that have not.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")
CONNECT_TIMEOUT_SECONDS = 20
#: A connection that is silent for so long is given up and made anew; the copy goes on over the new one.
KEEPALIVE_SECONDS = 30
RETRY_SECONDS = 1.0
#: ssh's words when it does not know a cipher, and when the peer has none of those that were asked for.
_OF_CIPHERS = re.compile(r"no matching cipher|SSH2 cipher spec")


class Peer(t.NamedTuple):
    """The source's end of the channel. ``address`` is a name, an IPv4 or an IPv6 address."""

    address: str
    port: int
    account: str
    identity: str
    known_hosts: str
    #: Names only (inputs.ciphers), the preferred one first; both ends must have one of them.
    ciphers: tuple[str, ...] = CIPHERS


class Connection(t.NamedTuple):
    """A connection that stands."""

    process: subprocess.Popen[str]

    def alive(self) -> bool:
        """Whether ssh still runs."""
        return self.process.poll() is None


@contextlib.contextmanager
def connected(peer: Peer, offers: t.Mapping[str, str]) -> t.Iterator[Connection]:
    """Connect to ``peer`` and offer local sockets there: ``offers`` maps each path in the peer's chroot to a local socket.

    Raises ColdmoveError with ssh's own words if the peer does not let us in or does not take the offers.
    """
    with tempfile.TemporaryDirectory(prefix="coldmove-channel-") as folder:
        ready, errors = Path(folder) / "ready", Path(folder) / "ssh.log"
        with open(errors, "w", encoding="utf-8") as stderr:
            # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
            process = subprocess.Popen(_command(peer, offers, ready), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, text=True)
        try:
            _await_ready(process, peer, ready, errors)
            yield Connection(process)
        finally:
            _end(process)


def keep_connected(peer: Peer, offers: t.Mapping[str, str], report: t.Callable[[dict[str, t.Any]], None]) -> t.NoReturn:
    """Keep the channel open until this process is ended: a connection that breaks is made anew.

    Reports ``{connected, error, received_before, ssh_pid}``; see received_bytes().
    """
    received = 0
    while True:
        try:
            with connected(peer, offers) as connection:
                report({"connected": True, "error": "", "received_before": received, "ssh_pid": connection.process.pid})
                before = received
                while connection.alive():
                    received = before + _read_bytes(connection.process.pid)
                    time.sleep(0.2)
            problem = "the connection broke"
        except ColdmoveError as exc:
            problem = str(exc)
        report({"connected": False, "error": problem, "received_before": received, "ssh_pid": 0})
        time.sleep(RETRY_SECONDS)


def received_bytes(progress: t.Mapping[str, t.Any]) -> int:
    """Bytes that came over the wire through a channel whose keep_connected() last reported ``progress``, with encryption."""
    pid = int(progress.get("ssh_pid") or 0)
    return int(progress.get("received_before") or 0) + (_read_bytes(pid) if pid else 0)


def _read_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("rchar:")), 0)


def _command(peer: Peer, offers: t.Mapping[str, str], ready: Path) -> list[str]:
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": peer.identity,
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": peer.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "ControlMaster": "yes",
        "ControlPath": str(ready),
        "ControlPersist": "no",
        "ConnectTimeout": str(CONNECT_TIMEOUT_SECONDS),
        "ExitOnForwardFailure": "yes",
        "ServerAliveInterval": str(KEEPALIVE_SECONDS // 6),
        "ServerAliveCountMax": "6",
        "Ciphers": ",".join(peer.ciphers),
        "Compression": "no",
        "LogLevel": "INFO",  # that is where ssh says what the two ends have not in common
    }
    command = ["setpriv", "--pdeathsig", "KILL", "ssh", "-F", "none", "-N", "-T", "-p", str(peer.port), "-l", peer.account]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    for there, here in offers.items():
        command += ["-R", f"{there}:{here}"]
    return [*command, "--", peer.address]


def _await_ready(process: subprocess.Popen[str], peer: Peer, ready: Path, errors: Path) -> None:
    """ssh answers on its control socket once it is let in; ``-O check`` then waits for nothing, so the offers are asked for by their effect."""
    deadline = time.monotonic() + CONNECT_TIMEOUT_SECONDS + 10
    while not ready.is_socket():
        if process.poll() is not None or time.monotonic() > deadline:
            raise _refused(peer, errors)
        time.sleep(0.02)
    # The peer's answers to the offers follow at once; a refused one ends ssh (ExitOnForwardFailure).
    try:
        process.wait(0.3)
    except subprocess.TimeoutExpired:
        return
    raise _refused(peer, errors)


def _refused(peer: Peer, errors: Path) -> ColdmoveError:
    words = errors.read_text(encoding="utf-8", errors="replace").strip() or "no answer"
    advice = "Run 'ansible-playbook coldmove.libvirt.ssh_trust' and see which pair it names"
    if _OF_CIPHERS.search(words):
        advice = f"ciphers is {','.join(peer.ciphers)}: name one that both nodes have ('ssh -Q cipher', and Ciphers in the peer's sshd_config)"
    return ColdmoveError(f"data channel to {peer.account}@{peer.address} port {peer.port} refused: {words}. {advice}")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
