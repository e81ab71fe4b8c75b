# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The only door to LVM: host volumes that are disks of servers."""

from __future__ import annotations

import json
import os
import subprocess
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

TIMEOUT_SECONDS = 120
_FIELDS = "lv_size,vg_name,vg_extent_size,vg_free,segtype,lv_active"


class Volume(t.NamedTuple):
    """A logical volume."""

    path: str
    group: str
    size_bytes: int
    extent_bytes: int
    #: Free in its group; None for a thin volume, which takes space of its pool only as it is written.
    free_bytes: int | None

    def rounded(self, size_bytes: int) -> int:
        """``size_bytes`` in whole extents: no volume has another size."""
        return -(-size_bytes // self.extent_bytes) * self.extent_bytes


def mapper_path(path: str) -> str | None:
    """The name under which LVM knows the block device at ``path``; None if it is no logical volume. The kernel is asked, not the content."""
    status = os.stat(path)
    mapping = Path(f"/sys/dev/block/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}/dm")
    try:
        if not (mapping / "uuid").read_text(encoding="utf-8").startswith("LVM-"):
            return None
        return "/dev/mapper/" + (mapping / "name").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def volume(path: str) -> Volume:
    """Facts of the logical volume with this name (``/dev/mapper/NAME``, ``/dev/GROUP/NAME`` or ``GROUP/NAME``)."""
    answer = json.loads(_run("lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", _FIELDS, "--", path))
    # A volume of several segments is told once for each.
    found = answer["report"][0]["lv"][0]
    thin = found["segtype"] == "thin"
    return Volume(path, found["vg_name"], int(found["lv_size"]), int(found["vg_extent_size"]), None if thin else int(found["vg_free"]))


def extend(path: str, size_bytes: int) -> None:
    """Make a logical volume larger; LVM refuses to make it smaller by this. No file system in it is touched."""
    _run("lvextend", "--quiet", "--size", f"{size_bytes}b", "--", path)


def _run(*arguments: str) -> str:
    try:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"},
        )
    except FileNotFoundError as exc:
        raise ColdmoveError(f"{arguments[0]} is missing on this node, where a disk is a logical volume: install the package lvm2") from exc
    except subprocess.TimeoutExpired as exc:
        raise ColdmoveError(f"{arguments[0]} gave no answer for {arguments[-1]} in {TIMEOUT_SECONDS} s; is its storage stuck?") from exc
    if done.returncode:
        said = " ".join(line.strip() for line in done.stderr.splitlines() if not line.strip().startswith("WARNING:"))
        raise ColdmoveError(f"{arguments[0]} {arguments[-1]}: {said or f'it ended with code {done.returncode}'}")
    return done.stdout
