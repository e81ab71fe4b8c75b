# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Law 6: a node's key opens nothing on its peers but the data channel, and no other local account reaches an export. Case 33."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from integration import laws

from lab import MIB, DiskSpec
from lab.shell import wait_for

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from integration.conftest import World

    from lab.inventory import AddressKind

pytestmark = [pytest.mark.lab]

ADDRESS = "10.88.0.12"
KEY = "/etc/coldmove/id_ed25519"
#: A TCP port (sshd's own), and a unix socket, that answer whoever reaches them.
BANNER = "SSH-2.0"
SSH = [
    *("ssh", "-F", "none", "-i", KEY, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"),
    *("-o", "UserKnownHostsFile=/etc/coldmove/known_hosts", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes"),
]
#: Open a forward, connect to its near end, print what comes out of it, then what ssh says.
THROUGH = """
errors=$(mktemp) && near=$1 && shift
"$@" </dev/null 2>"$errors" & ssh=$!
for _ in $(seq 100); do
    case $near in /*) [ -S "$near" ] && break ;; *) ss -Hltn "sport = :$near" | grep -q . && break ;; esac
    kill -0 $ssh 2>/dev/null || break
    sleep 0.05
done
case $near in
    /*) echo | timeout 5 nc -U -N "$near" ;;
    1080) timeout 5 nc -X 5 -x 127.0.0.1:1080 127.0.0.1 22 </dev/null ;;
    *) timeout 5 nc 127.0.0.1 "$near" </dev/null ;;
esac
kill $ssh 2>/dev/null; wait $ssh 2>/dev/null
cat "$errors" >&2; rm -f "$errors" "$near"; exit 0
"""


def ssh(world: World, *words: str, account: str = "coldmove", node: str = "node1") -> subprocess.CompletedProcess[str]:
    """Ssh from node1 to node2 with the key of the data channel."""
    return world.lab.exec(node, *SSH, *words[:-1], "-l", account, ADDRESS, *([words[-1]] if words[-1] else []), check=False, timeout=20)


def through(world: World, near: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What comes through a forward whose near end is on node1."""
    return world.lab.exec("node1", "sh", "-c", THROUGH, "sh", near, *SSH, "-N", *options, "-l", "coldmove", ADDRESS, check=False, timeout=30)


@pytest.mark.parametrize(
    "words",
    [("id",), ("",), ("-tt", ""), ("-tt", "id"), ("-s", "sftp"), ("-A", "id"), ("-X", "id"), ("-o", "Tunnel=point-to-point", "id")],
    ids=["command", "shell", "pty", "pty-command", "sftp", "agent", "x11", "tunnel"],
)
def test_no_session(world: World, words: tuple[str, ...]) -> None:
    """Neither shell nor command, subsystem, terminal."""
    done = ssh(world, *words)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "open failed" in done.stderr or "prohibited" in done.stderr, done.stderr


def test_no_file(world: World) -> None:
    """Scp, both ways, old protocol and new."""
    for protocol in ("-O", "-s"):
        for pair in ((f"coldmove@{ADDRESS}:/etc/hostname", "/tmp/got"), ("/etc/hostname", f"coldmove@{ADDRESS}:/offers/put")):
            assert world.lab.exec("node1", "scp", protocol, *SSH[1:], *pair, check=False, timeout=20).returncode != 0
    assert world.lab.exec("node1", "test", "-e", "/tmp/got", check=False).returncode != 0
    assert world.lab.exec("node2", "find", "/var/lib/coldmove/channel", "-name", "put", check=False).stdout == ""


@pytest.mark.parametrize(
    ("near", "option"),
    [
        ("9901", ("-L", "9901:127.0.0.1:22")),
        ("9902", ("-L", "9902:/run/libvirt/libvirt-sock-ro")),
        ("/run/near.sock", ("-L", "/run/near.sock:127.0.0.1:22")),
        ("/run/near.sock", ("-L", "/run/near.sock:/run/libvirt/libvirt-sock-ro")),
        ("/run/near.sock", ("-L", "/run/near.sock:/offers/proof")),
        ("1080", ("-D", "1080")),
    ],
    ids=["tcp", "tcp-to-socket", "socket-to-tcp", "libvirt", "offers", "dynamic"],
)
def test_no_way_in(world: World, near: str, option: tuple[str, ...]) -> None:
    """No port and no socket of the peer can be connected to."""
    done = through(world, near, *option)
    assert done.stdout == "", done.stdout
    assert "prohibited" in done.stderr or "open failed" in done.stderr, done.stderr


def test_the_ways_in_would_show(world: World) -> None:
    """The tests above would see an open way: the same through the lab's own account, which may do everything."""
    options = world.lab.ssh_command("node2")[1:-1]
    assert options
    world.lab.exec("node1", "install", "-m", "600", "/dev/stdin", "/run/key", stdin=world.lab.paths.key.read_text())
    root = ["ssh", "-F", "none", "-i", "/run/key", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-N"]
    for near, option in (("9901", ("-L", "9901:127.0.0.1:22")), ("1080", ("-D", "1080"))):
        done = world.lab.exec("node1", "sh", "-c", THROUGH, "sh", near, *root, *option, "-l", "root", ADDRESS, check=False, timeout=30)
        assert BANNER in done.stdout, (done.stdout, done.stderr)


@pytest.mark.parametrize(
    "listen",
    ["127.0.0.1:9903:127.0.0.1:22", "9903:127.0.0.1:22", "1081", "/tmp/out:127.0.0.1:22", "/out:127.0.0.1:22", "/offers/../out:127.0.0.1:22"],
    ids=["tcp", "tcp-any", "dynamic", "elsewhere", "chroot", "dots"],
)
def test_no_listening_elsewhere(world: World, listen: str) -> None:
    """The peer listens on no port for us, and makes no socket outside of the one folder."""
    done = ssh(world, "-N", "-R", listen, "")
    assert done.returncode == 255
    assert "remote port forwarding failed" in done.stderr, done.stderr
    assert world.lab.exec("node2", "find", "/tmp", "/var/lib/coldmove/channel", "/run/coldmove", "-name", "out", check=False).stdout == ""


def test_sshd_says_so(world: World) -> None:
    """What cannot be asked for without a session is off in the account's own settings."""
    lines = world.lab.exec("node2", "/usr/sbin/sshd", "-T", "-C", "user=coldmove,host=node1,addr=10.88.0.11").stdout.splitlines()
    for line in ("permittunnel no", "allowagentforwarding no", "x11forwarding no", "permittty no", "maxsessions 0", "forcecommand /bin/false"):
        assert line in lines
    for line in ("permitlisten none", "permitopen none", "gatewayports no", "authenticationmethods publickey"):
        assert line in lines


def test_no_other_account(world: World) -> None:
    """The key opens no other account, and no other key opens this one."""
    for account in ("root", "nobody", "libvirt-qemu"):
        done = ssh(world, "id", account=account)
        assert done.returncode == 255 and "Permission denied" in done.stderr, done.stderr
    world.lab.exec("node1", "sh", "-c", "rm -f /run/other*; ssh-keygen -q -t ed25519 -N '' -f /run/other")
    other = [word if word != KEY else "/run/other" for word in SSH]
    done = world.lab.exec("node1", *other, "-N", "-R", "/offers/x:127.0.0.1:22", "-l", "coldmove", ADDRESS, check=False, timeout=20)
    assert done.returncode == 255 and "Permission denied" in done.stderr, done.stderr


def test_changed_host_key(world: World) -> None:
    """A peer with another host key than the pinned one is refused before the stop."""
    guest = world.guest("pinned")
    begun, pins = time.monotonic(), world.lab.exec("node2", "cat", "/etc/coldmove/known_hosts").stdout
    keys = {line.split()[-1]: line.split()[2] for line in pins.splitlines() if not line.startswith("#")}
    world.lab.exec("node2", "tee", "/etc/coldmove/known_hosts", stdin=pins.replace(keys["coldmove:node1"], keys["coldmove:node3"]))
    try:
        world.play("cold_migrate", server="pinned", target_host="node2").refused("data channel", "Host key verification failed")
        assert world.watch.stops_since(guest, begun) == 0
        laws.check_back(world.lab, guest, "node1", ["pinned"])
    finally:
        world.lab.exec("node2", "tee", "/etc/coldmove/known_hosts", stdin=pins)
        world.remove(guest)


def test_ciphers(world: World) -> None:
    """Names that both ends have are used; if there is none, or one is none at all, that is told before the stop, in one sentence."""
    guest = world.guest("ciphered")
    begun = time.monotonic()
    try:
        # sshd has it, and takes it from nobody unless its own settings say so.
        said = world.play("cold_migrate", server="ciphered", target_host="node2", ciphers="aes128-cbc")
        said.refused("no matching cipher found", "ciphers is aes128-cbc: name one that both nodes have")
        world.play("cold_migrate", server="ciphered", ciphers="aes128-ctr, -oProxyCommand=id").refused("ciphers is", "it must be names of ssh's ciphers")
        assert world.watch.stops_since(guest, begun) == 0
        laws.check_back(world.lab, guest, "node1", ["ciphered"])
        laws.check_quiet(world.lab, "node1", "node2")
        world.play("cold_migrate", server="ciphered", target_host="node2", ciphers=["aes128-cbc", "aes256-ctr"]).check()
        laws.check_moved(world.lab, guest, ["ciphered"])
        world.play("confirm", server="ciphered").check()
    finally:
        world.remove(guest)


# --- while a transfer is in flight

#: Try to connect to every socket of the channel, as another account. Prints one line for each that let us in.
REACH = """
import os, socket
for folder in ("/run/coldmove/exports", "/var/lib/coldmove/channel/offers"):
    for name in NAMES:
        with socket.socket(socket.AF_UNIX) as near:
            near.settimeout(3)
            try:
                near.connect(f"{folder}/{name}")
                print(folder, name)
            except OSError:
                pass
"""


@pytest.mark.slow
def test_no_local_account_reaches_a_transfer(world: World) -> None:
    """While a copy is in flight, an ordinary account reaches neither end, though it is told the sockets' names; root does."""
    guest = world.guest("watched", DiskSpec(96 * MIB, content_mib=60))
    run = world.run("cold_migrate", server="watched", target_host="node2", bandwidth_limit="6M")
    try:
        run.wait_for("start", "Cutover | Copy")
        offers = "/var/lib/coldmove/channel/offers"
        wait_for("offers", lambda: [name for name in world.lab.exec("node1", "ls", offers).stdout.split() if name != "proof"], 30)
        names = [name for name in world.lab.exec("node1", "ls", offers).stdout.split() if name != "proof"]
        script = REACH.replace("NAMES", repr(names))
        for node, folder in (("node1", offers), ("node2", "/run/coldmove/exports")):
            assert world.lab.exec(node, "python3", "-c", script).stdout.splitlines() == [f"{folder} {name}" for name in names]
            for account in ("nobody", "coldmove"):
                as_other = ["setpriv", f"--reuid={account}", f"--regid={'nogroup' if account == 'nobody' else account}", "--clear-groups"]
                assert world.lab.exec(node, *as_other, "python3", "-c", script).stdout == ""
                assert world.lab.exec(node, *as_other, "ls", folder, check=False).returncode != 0
        run.finish().check()
        laws.check_moved(world.lab, guest, ["watched"])
    finally:
        run.kill()
    world.play("confirm", server="watched").check()
    world.remove(guest)


# --- addresses


@pytest.mark.slow
def test_addresses(world: World, tmp_path: Path) -> None:
    """Case 33: migration_address as a name and as an IPv6 literal (IPv4 is what all other tests use), at once."""
    kinds: tuple[AddressKind, ...] = ("name", "ipv6")
    guests = {kind: world.guest(f"by-{kind}") for kind in kinds}
    runs = [world.run("cold_migrate", inventory=world.lab.write_inventory(tmp_path / kind, kind), server=guest.name) for kind, guest in guests.items()]
    for run, guest in zip(runs, guests.values(), strict=True):
        run.finish().check()
        laws.check_moved(world.lab, guest, [guest.name])
    world.play("confirm", server="by-name,by-ipv6").check()
    for guest in guests.values():
        laws.check_confirmed(world.lab, guest, [guest.name])
        world.remove(guest)
