# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by systemd, in a machine of its own, beside the guard's units (test_guard_units.py): is their order kept, and do they do their work?"""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWERS = "/opt/answers.conf"


def run(*command: str) -> str:
    """What a command says. Raises CalledProcessError."""
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True).stdout


def wait_for(what: str, holds: Callable[[], bool], seconds: float) -> None:
    """Until it holds. Raises AssertionError with what was waited for."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n{run('journalctl', '--boot', '--no-pager')}"
        time.sleep(1)


def shown(unit: str, value: str) -> str:
    """A property of a unit."""
    return run("systemctl", "show", "--value", f"--property={value}", unit).strip()


def moment(unit: str, value: str) -> int:
    """A property of a unit that is a moment, in microseconds since boot; 0 for never."""
    return int(shown(unit, f"{value}TimestampMonotonic"))


def names(*options: str) -> list[str]:
    """The domains that libvirt lists."""
    return sorted(run("virsh", "-q", "list", "--name", *options).split())


def main() -> None:
    """One boot: nobody answers, what is known stays down; then somebody answers."""
    wait_for("libvirtd", lambda: shown("libvirtd.service", "ActiveState") == "active", 300)
    assert 0 < moment("coldmove-guard.service", "ExecMainExit") <= moment("libvirtd.service", "ExecMainStart"), "libvirtd did not wait for the guard"
    wait_for("who asked libvirt early", lambda: moment("early.service", "ExecMainExit") > 0, 120)
    assert shown("early.service", "ExecMainStatus") == "0"
    assert moment("early.service", "ExecMainStart") < moment("coldmove-guard.service", "ExecMainExit"), "nobody asked early: this shows nothing"
    wait_for("autostart", lambda: names() == ["own"], 120)
    assert names("--inactive") == ["known", "left"]
    wait_for("multi-user.target", lambda: shown("multi-user.target", "ActiveState") == "active", 120)
    assert names() == ["own"], "something that the records know was started although nobody has answered"
    journal = run("journalctl", "--boot", "--no-pager")
    assert "ordering cycle" not in journal, journal
    assert "Servers that the records know stay down" in journal, journal
    assert "server known may be on another node by now" in journal, journal
    assert shown("coldmove-guard-retry.service", "ActiveState") == "activating", "nobody asks again"

    Path("/run/sshd").mkdir(exist_ok=True)
    run("/usr/sbin/sshd", "-f", ANSWERS)
    wait_for("the server that was refused for want of an answer", lambda: names() == ["known", "own"], 600)
    assert names("--all") == ["known", "own"], "what was evacuated is still defined"
    assert Path("/var/lib/coldmove/undefined/00000000-0000-4000-8000-000000000003.json").is_file()
    wait_for("the end of asking", lambda: shown("coldmove-guard-retry.service", "ActiveState") == "inactive", 60)
    assert shown("coldmove-guard-retry.service", "Result") == "success"


try:
    main()
except Exception:  # whatever it is, the test outside is to be told
    traceback.print_exc(file=sys.stdout)
else:
    print("MACHINE: well")
sys.stdout.flush()
subprocess.run(["systemctl", "poweroff", "--force", "--force"], check=False)
