#!/usr/bin/python3 -I
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""coldmove-answer NODE: tells the guard of a compute node which servers it must not start, as one line of JSON.

sshd runs it for a node's key, which can do nothing else here. Which node asks is said by the key's own line, never by the caller,
and what the caller sends is not read but for one word: "returned", of a node that is back after an evacuation. It has the operator's own
command begin, if one is set (variable return_command), which runs `recover` for that node. What cannot be answered is told as
{"error": …}, and the guard takes it for no answer.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

LIBRARY = "/usr/local/lib/coldmove"
STORE = Path("/etc/coldmove/record_store.json")
#: The words of the command for a node that is back; {host} stands for its name. An empty list: that is left to a human.
RETURN_COMMAND = Path("/etc/coldmove/return_command.json")
#: One log for each node, of the last run. Who runs holds its lock.
LOGS = Path("/var/log/coldmove")
RETURNED = "returned"
#: A node says it every minute, for as long as something of an evacuation is left there. For the same, the command begins again this long after its last word.
PAUSE_SECONDS = 600


def main(host: str) -> int:
    """Print the answer."""
    sys.path.insert(0, LIBRARY)
    from coldmove_store._adapters import whereabouts  # type: ignore[import-not-found]
    from coldmove_store._logic.errors import ColdmoveError  # type: ignore[import-not-found]

    try:
        told = whereabouts.answer(host=host, **json.loads(STORE.read_text(encoding="utf-8")))
    except (ColdmoveError, OSError, ValueError) as error:
        told = {"version": 1, "host": host, "error": str(error)}
    else:
        if os.environ.get("SSH_ORIGINAL_COMMAND") == RETURNED:
            told["return"] = on_return(host, told["away"])
    print(json.dumps(told))
    return 0


def on_return(host: str, away: list[dict[str, object]]) -> str:
    """Have a node that is back cleaned, if something of an evacuation is left there. Returns what was done about it."""
    left = sorted(str(entry["migration"]) for entry in away if entry["evacuated"] and entry["status"] == "done")
    if not left:
        return f"nothing of an evacuation is left on {host}"
    try:
        command = json.loads(RETURN_COMMAND.read_text(encoding="utf-8"))
        return begin(host, left, [word.replace("{host}", host) for word in command]) if command else _by_hand(host, "no return_command is set")
    except (OSError, ValueError) as error:
        return _by_hand(host, f"return_command: {error}")


def _by_hand(host: str, why: str) -> str:
    return f"{why}; next: ansible-playbook coldmove.libvirt.recover -e host={host}"


def begin(host: str, left: list[str], command: list[str]) -> str:
    """Begin the command, unless it is at work, or has just been for all that is left (UUIDs of migrations). It outlives this program. Raises OSError."""
    LOGS.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = LOGS / f"return-{quote(host, safe='')}.log"
    with open(path, "a+", encoding="utf-8") as log:
        before = os.fstat(log.fileno())
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return f"it is being cleaned, see {path}"
        log.seek(0)
        if set(left).issubset(log.readline().split()) and 0 <= time.time() - before.st_mtime < PAUSE_SECONDS:
            return f"its cleaning has ended and has left something, see {path}; it begins again in {PAUSE_SECONDS // 60} minutes"
        log.truncate(0)
        print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), *left, file=log, flush=True)
        # The lock is the log's, and whoever writes to the log has it.
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd="/", start_new_session=True)
    return f"its cleaning has begun, see {path}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("coldmove-answer NODE: needs the name of the node that asks")
    sys.exit(main(sys.argv[1]))
