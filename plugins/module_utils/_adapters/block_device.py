# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Block devices as the kernel knows them, and the programs of util-linux that look at one and write zeroes to it."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

TIMEOUT_SECONDS = 120
_BLOCK_DEVICES = Path("/sys/dev/block")
#: Words that a device keeps wherever it is seen from: of a logical disk of a SAN, of NVMe, of device-mapper (LVM, multipath), of md. Serial numbers are
#: not among them: people give two virtual disks one.
_IDENTITIES = {"wwid": ("wwid", "device/wwid"), "dm": ("dm/uuid",), "md": ("md/uuid",)}
_QCOW2_MAGIC = b"QFI\xfb"


def number(path: str) -> str | None:
    """``major:minor`` of the block device at ``path``, by which the kernel knows it whatever its name is; None if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" if stat.S_ISBLK(status.st_mode) else None


def identity(path: str) -> list[str]:
    """What is the same wherever this very device is seen from; empty if nothing is known, as of a loop device."""
    known = number(path)
    if known is None:
        return []
    folder = Path(os.path.realpath(_BLOCK_DEVICES / known))
    partition = _line(folder / "partition")
    if partition:  # its words are those of the disk that it is on
        folder = folder.parent
    found = []
    for kind, names in _IDENTITIES.items():
        words = next(filter(None, (_line(folder / name) for name in names)), "")
        if words:
            found.append(f"{kind}:{words}" + (f"#{partition}" if partition else ""))
    return found


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def in_use(path: str) -> str | None:
    """Why nobody else may write to a device now, in words, or None: the kernel is asked for it alone, as it is by a mount, by LVM, md and swap."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_EXCL | os.O_NONBLOCK))
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            return "is in use on this node (mounted, swap, or part of something: see lsblk)"
        return f"cannot be opened for writing: {exc.strerror}"
    return None


def signatures(path: str) -> list[str]:
    """What a device holds, as far as anybody knows it: file systems, partition tables, volumes, arrays, qcow2 images. Nothing is changed."""
    answer = _run("wipefs", "--json", "--no-act", "--", path)
    found = [str(signature["type"]) for signature in json.loads(answer)["signatures"]] if answer.strip() else []
    with open(path, "rb") as stream:
        if stream.read(len(_QCOW2_MAGIC)) == _QCOW2_MAGIC:
            found.append("qcow2")
    return list(dict.fromkeys(found))


def wipe_signatures(path: str) -> None:
    """Take from a device what signatures() finds; its other content stays. Refused by the kernel if it is in use."""
    _run("wipefs", "--quiet", "--all", "--", path)
    zero(path, 0, 4096)


def zero(path: str, offset: int, length: int) -> None:
    """Have a range of a device read as zeroes; it may take as long as writing them. Refused by the kernel if it is in use."""
    if length > 0:
        _run("blkdiscard", "--zeroout", "--offset", str(offset), "--length", str(length), "--", path, timeout=None)


def make_durable(path: str) -> None:
    """Wait until every byte of a device is on its storage."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise ColdmoveError(f"{path} does not take what was written to it: {exc.strerror}") from exc


def _run(*arguments: str, timeout: float | None = TIMEOUT_SECONDS) -> str:
    try:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as exc:
        raise ColdmoveError(f"{arguments[0]} is missing on this node, where a disk is a block device: install the package util-linux") from exc
    except subprocess.TimeoutExpired as exc:
        raise ColdmoveError(f"{arguments[0]} gave no answer for {arguments[-1]} in {TIMEOUT_SECONDS} s; is its storage stuck?") from exc
    if done.returncode:
        raise ColdmoveError(f"{arguments[0]} {arguments[-1]}: {' '.join(done.stderr.split()) or f'it ended with code {done.returncode}'}")
    return done.stdout
