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
_FIELDS = "lv_size,vg_name,vg_extent_size,vg_free,segtype,lv_active,lv_name,lv_uuid,pool_lv,lv_tags,lv_role"
_JSON = ("--reportformat", "json", "--units", "b", "--nosuffix")


class Volume(t.NamedTuple):
    """A logical volume."""

    path: str
    group: str
    size_bytes: int
    extent_bytes: int
    #: Free in its group; None for a thin volume, which takes space of its pool only as it is written.
    free_bytes: int | None
    name: str = ""
    uuid: str = ""
    #: The thin pool of its group that it is in, if it is thin.
    pool: str = ""
    tags: tuple[str, ...] = ()
    #: Snapshots that need it: LVM deletes them with it.
    has_snapshots: bool = False
    is_pool: bool = False

    def rounded(self, size_bytes: int) -> int:
        """``size_bytes`` in whole extents: no volume has another size."""
        return -(-size_bytes // self.extent_bytes) * self.extent_bytes


class Group(t.NamedTuple):
    """A volume group."""

    name: str
    uuid: str
    extent_bytes: int
    free_bytes: int


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
    # A volume of several segments is told once for each.
    return _volume(path, _report("lvs", "-o", _FIELDS, "--", path)[0])


def _volume(path: str, told: dict[str, str]) -> Volume:
    return Volume(
        path=path,
        group=told["vg_name"],
        size_bytes=int(told["lv_size"]),
        extent_bytes=int(told["vg_extent_size"]),
        free_bytes=None if told["segtype"] == "thin" else int(told["vg_free"]),
        name=told["lv_name"],
        uuid=told["lv_uuid"],
        pool=told["pool_lv"],
        tags=tuple(filter(None, told["lv_tags"].split(","))),
        has_snapshots="thickorigin" in told["lv_role"].split(","),
        is_pool=told["segtype"] == "thin-pool",
    )


def find(group: str, name: str) -> Volume | None:
    """The volume of that name, active or not; None if there is none, or no such group. Names are compared, not looked for by a pattern."""
    for told in _report("lvs", "-o", _FIELDS):
        if (told["vg_name"], told["lv_name"]) == (group, name):
            return _volume(f"{group}/{name}", told)
    return None


def group_of_name(name: str) -> Group | None:
    """Facts of a volume group; None if this node has none of that name."""
    found = next((told for told in _report("vgs", "-o", "vg_name,vg_uuid,vg_extent_size,vg_free") if told["vg_name"] == name), None)
    return None if found is None else Group(name, found["vg_uuid"], int(found["vg_extent_size"]), int(found["vg_free"]))


def create(group: str, name: str, size_bytes: int, tag: str, pool: str = "") -> None:
    """Make a volume with a tag, in a thin pool of its group if one is named. What the group's free space held may show in it, but for its beginning."""
    if pool:
        _run("lvcreate", "--quiet", "--yes", "--addtag", tag, "--thinpool", pool, "--virtualsize", f"{size_bytes}b", "--name", name, "--", group)
    else:
        _run("lvcreate", "--quiet", "--yes", "--wipesignatures", "y", "--addtag", tag, "--size", f"{size_bytes}b", "--name", name, "--", group)


def remove(group: str, name: str) -> None:
    """Remove a volume; LVM refuses one that is open. Whoever calls has seen that it is the right one."""
    _run("lvremove", "--quiet", "--yes", "--", f"{group}/{name}")


def extend(path: str, size_bytes: int) -> None:
    """Make a logical volume larger; LVM refuses to make it smaller by this. No file system in it is touched."""
    _run("lvextend", "--quiet", "--size", f"{size_bytes}b", "--", path)


def _report(command: str, *arguments: str) -> list[dict[str, str]]:
    report = json.loads(_run(command, *_JSON, *arguments))["report"][0]
    return list(report["lv" if command == "lvs" else "vg"])


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
