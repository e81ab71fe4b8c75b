#!/usr/bin/python3 -I
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""coldmove-answer NODE: tells the guard of a compute node which servers it must not start, as one line of JSON.

sshd runs it for a node's key, which can do nothing else here. Which node asks is said by the key's own line, never by the caller,
and nothing that the caller sends is read. What cannot be answered is told as {"error": …}, and the guard takes it for no answer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

LIBRARY = "/usr/local/lib/coldmove"
STORE = Path("/etc/coldmove/record_store.json")


def main(host: str) -> int:
    """Print the answer."""
    sys.path.insert(0, LIBRARY)
    from coldmove_store._adapters import whereabouts  # type: ignore[import-not-found]
    from coldmove_store._logic.errors import ColdmoveError  # type: ignore[import-not-found]

    try:
        told = whereabouts.answer(host=host, **json.loads(STORE.read_text(encoding="utf-8")))
    except (ColdmoveError, OSError, ValueError) as error:
        told = {"version": 1, "host": host, "error": str(error)}
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("coldmove-answer NODE: needs the name of the node that asks")
    sys.exit(main(sys.argv[1]))
