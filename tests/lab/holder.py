# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The holder: PID 1 of a lab. It owns the lab's namespaces (network: the switch; mount: the nodes' root layers; PID: every process of every node).

Killing it ends everything, whatever state the lab is in: that is what `down` does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from lab import network, rootfs
from lab.errors import LabError
from lab.node_init import reap
from lab.processes import Process, myself, with_arguments
from lab.shell import ENVIRONMENT, PYTHON, run, wait_for
from lab.state import Paths

PACKAGE = str(Path(__file__).resolve().parent)
MARK = "lab-holder"


def main(paths: Paths) -> NoReturn:
    """Build what all nodes share; never returns. Started in new namespaces that still show the machine's file systems."""
    try:
        myself().save(paths.holder)
        network.make_switch()
        paths.store.mkdir()
        run("mount", "-t", "tmpfs", "-o", "mode=755,size=50%", "coldmove-lab", str(paths.store))
        state = paths.load()
        for node in state.nodes.values():
            rootfs.build(paths, state, node)
        (paths.state / "status").write_text("ready\n")
    except (LabError, OSError) as error:
        (paths.state / "status").write_text(f"failed: {error}\n")
        sys.exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    reap()


def launch(paths: Paths) -> Process:
    """Start the holder and wait until the nodes' root layers are there."""
    detached(paths.state / "holder.log", "unshare", "--mount", "--net", "--pid", "--ipc", "--fork", PYTHON, PACKAGE, MARK, str(paths.state))
    wait_status(f"holder of lab {paths.name}", paths.state / "status", "ready", 20)
    holder = Process.load(paths.holder)
    if holder is None:
        raise LabError(f"the holder of lab {paths.name} died; see {paths.state}/holder.log")
    return holder


def detached(log: Path, *argv: str) -> None:
    """Start a process that is nobody's child (its parent is the init of its PID namespace)."""
    with log.open("a") as out:
        subprocess.run(["setsid", "--fork", *argv], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", check=True)


def wait_status(what: str, path: Path, wanted: str, timeout: float) -> None:
    """Wait for a line in a status file; raise what a `failed:` line says."""

    def probe() -> bool:
        lines = path.read_text().splitlines() if path.exists() else []
        failed = [line for line in lines if line.startswith("failed")]
        if failed:
            raise LabError(f"{what} {failed[0]}")
        return wanted in lines

    wait_for(f"{what}: {wanted}", probe, timeout)


def strays(paths: Paths) -> list[Process]:
    """Holders of this lab, known by their command line: also one whose `up` was killed before it was written down."""
    return with_arguments(MARK, str(paths.state))


def network_of(process: Process) -> str | None:
    """The network namespace of a process (`net:[…]`), if it still lives."""
    try:
        return os.readlink(f"/proc/{process.pid}/ns/net")
    except OSError:
        return None
