# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Whether anything answers at an address: TCP, the greeting of an ssh server, ICMP echo. Each returns None if it does, else what was met instead."""

from __future__ import annotations

import errno
import os
import socket
import subprocess

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

#: Words of a host that is there: its port is closed, or takes connections and says nothing of ssh.
REFUSED = os.strerror(errno.ECONNREFUSED)
MUTE = "takes connections, and no ssh server greets there"
SILENCE = "no answer"


def tcp(address: str, port: int, seconds: float) -> str | None:
    """Whether the port takes connections."""
    try:
        socket.create_connection((address, port), timeout=seconds).close()
    except (OSError, UnicodeError) as exc:  # a name that is none raises the latter
        return _words(exc)
    return None


def ssh(address: str, port: int, seconds: float) -> str | None:
    """Whether an ssh server greets at the port."""
    try:
        with socket.create_connection((address, port), timeout=seconds) as connection:
            try:
                greeting = connection.recv(4)
            except OSError:
                greeting = b""
    except (OSError, UnicodeError) as exc:
        return _words(exc)
    return None if greeting == b"SSH-" else MUTE


def ping(address: str, seconds: float) -> str | None:
    """Whether an echo is answered. Raises ColdmoveError if this host has no program for that."""
    command = ["ping", "-n", "-q", "-c", "1", "-W", str(int(seconds)), address]
    try:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds + 1, check=False
        )
    except FileNotFoundError as exc:
        raise ColdmoveError("the program ping is missing on this node") from exc
    except subprocess.TimeoutExpired:
        return SILENCE
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    # ping says 1 for silence, and explains anything else.
    return None if done.returncode == 0 else SILENCE if done.returncode == 1 or not lines else lines[-1][:200]


def _words(problem: OSError | UnicodeError) -> str:
    return getattr(problem, "strerror", None) or str(problem)
