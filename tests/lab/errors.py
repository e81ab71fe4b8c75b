"""The one exception of the lab."""

from __future__ import annotations


class LabError(Exception):
    """Something about the lab is not as asked for; the message says what and where."""
