"""A lab of real libvirt nodes on one machine: see docs/lab.md."""

from __future__ import annotations

from lab.errors import LabError
from lab.lab import Lab, labs

__all__ = ["Lab", "LabError", "labs"]
