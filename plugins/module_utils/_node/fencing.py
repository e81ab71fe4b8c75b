# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Switching a node off or on by its fence agent, and reading its power until it is proven."""

from __future__ import annotations

import datetime
import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.fence_agent import FenceAgent
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import fencing
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError


class Patience(t.NamedTuple):
    """``attempts``: how often the power is asked for, and how often it is switched, before giving up; ``readings`` in a row are believed."""

    attempts: int
    readings: int
    interval: float


class Power:
    """The power of one node, and all that was read of it."""

    def __init__(self, agent: FenceAgent, patience: Patience) -> None:
        self._agent, self._patience = agent, patience
        self.readings: list[fencing.Reading] = []

    def read(self) -> str:
        """One reading, at its interval from the one before."""
        if self.readings:
            time.sleep(self._patience.interval)
        power, words = self._agent.power()
        at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        self.readings.append({"at": at, "power": power, "detail": words})
        return power

    def known(self) -> str:
        """The power now. Raises ColdmoveError, in the agent's words, if it cannot be learned: then nothing is switched."""
        for _attempt in range(self._patience.attempts):
            power = self.read()
            if power != "unknown":
                return power
        raise self._refusal(f"the power cannot be read by {self._agent.name}: {self.readings[-1]['detail']}. Nothing was switched")

    def ensure(self, wanted: str) -> bool:
        """Have the power ``on`` or ``off``, proven by readings; whether it was switched. Raises ColdmoveError if it cannot be proven."""
        if self.known() == wanted and self._settles(wanted):
            return False
        words = ""
        for _attempt in range(self._patience.attempts):
            words = self._agent.switch(wanted)
            if self._settles(wanted):
                return True
        last = self.readings[-1]
        raise self._refusal(
            f"the power is not proven {wanted}: {self._agent.name} was told to switch it {wanted} {self._patience.attempts} times "
            f"and says '{words}', and the last of {len(self.readings)} readings is {last['power']} ({last['detail']})"
        )

    def _settles(self, wanted: str) -> bool:
        """Read until enough readings in a row agree, or as many have not."""
        needed, others = self._patience.readings, 0
        while not fencing.is_settled(self.readings, wanted, needed):
            others += self.read() != wanted
            if others >= needed:
                return False
        return True

    def _refusal(self, words: str) -> ColdmoveError:
        return ColdmoveError(words, power=fencing.power_of(self.readings), readings=self.readings)
