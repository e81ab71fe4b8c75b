# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How hypothesis goes about the unit tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The machine may be busy with anything: no example is judged by the time that it takes.
settings.register_profile("coldmove", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("coldmove")
