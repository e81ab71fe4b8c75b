# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""A look at a node from another host: does anything at all answer at its addresses?"""

from __future__ import annotations

import concurrent.futures
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import reach
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.fencing import Look


class Place(t.NamedTuple):
    """An address of the node, and the port of its ssh server there."""

    address: str
    port: int


def look(by: str, places: t.Iterable[Place], seconds: float) -> Look:
    """What the witness ``by`` (this host) sees of the node: all addresses and ways at the same time."""
    wanted = list(dict.fromkeys(places))
    with concurrent.futures.ThreadPoolExecutor(max_workers=2 * len(wanted) or 1) as pool:
        greeted = [pool.submit(reach.ssh, place.address, place.port, seconds) for place in wanted]
        echoed = [pool.submit(_echo, place.address, seconds) for place in wanted]
        words = [
            f"{place.address} port {place.port}: ssh {ssh.result() or 'answers'}, ping {echo.result()[1]}" for place, ssh, echo in zip(wanted, greeted, echoed)
        ]
        pings = [echo.result()[0] for echo in echoed]
        met = [ssh.result() for ssh in greeted]
    return {
        "by": by,
        "ssh": None in met,
        "host": reach.REFUSED in met or reach.MUTE in met,
        "ping": True if True in pings else None if None in pings else False,
        "detail": "; ".join(words),
    }


def _echo(address: str, seconds: float) -> tuple[bool | None, str]:
    try:
        problem = reach.ping(address, seconds)
    except ColdmoveError as exc:
        return None, str(exc)
    return problem is None, problem or "answers"
