# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What qemu-img says of an image. The format always comes from the caller: a guest can write any header into its raw disk."""

from __future__ import annotations

import json
import os
import stat
import struct
import subprocess
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

#: The formats that a move knows. Nothing else is ever opened.
FORMATS = ("raw", "qcow2")
TIMEOUT_SECONDS = 120
_MAX_CHAIN = 64
_QCOW2_HEADER = struct.Struct(">4sIQIIQ")  # magic, version, backing file offset and size, cluster bits, virtual size


class Image(t.NamedTuple):
    """One file, not what backs it."""

    virtual_bytes: int
    allocated_bytes: int
    size_bytes: int
    backing_file: str | None
    backing_format: str | None
    data_file: str | None
    encrypted: bool
    internal_snapshots: int


def info(path: str, image_format: str, in_use: bool = False) -> Image:
    """``in_use``: a running guest has it open, so no lock can be taken."""
    length = regular_file(path)
    answer = json.loads(_run("info", path, image_format, in_use))
    specific = answer.get("format-specific", {}).get("data", {})
    return Image(
        virtual_bytes=int(answer["virtual-size"]),
        allocated_bytes=int(answer["actual-size"]),
        size_bytes=length,
        backing_file=answer.get("backing-filename"),
        backing_format=answer.get("backing-filename-format"),
        data_file=specific.get("data-file"),
        encrypted=bool(answer.get("encrypted")),
        internal_snapshots=len(answer.get("snapshots", [])),
    )


def extents(path: str, image_format: str, in_use: bool = False) -> list[dict[str, t.Any]]:
    """``qemu-img map``: start, length, data, zero … of every run of the guest-visible content."""
    regular_file(path)
    return list(json.loads(_run("map", path, image_format, in_use)))


def chain(path: str, image: Image) -> tuple[list[dict[str, str]], str | None]:
    """The backing files behind an image, nearest first, and why the chain could not be followed to its end (or None).

    Each format is the one recorded in the header above it. Where none is recorded it stays unknown: it is never probed.
    """
    found: list[dict[str, str]] = []
    while image.backing_file:
        if image.backing_format is None:
            return found, _no_format(path, image.backing_file)
        backing = _beside(path, image.backing_file)
        if backing is None:
            return found, f"{path} is backed by {image.backing_file}, which is not a local file"
        if image.backing_format not in FORMATS:
            return found, f"{backing}, behind {path}, has the format {image.backing_format}"
        if len(found) >= _MAX_CHAIN or any(link["path"] == backing for link in found):
            return found, f"the backing chain of {path} does not end"
        found.append({"path": backing, "format": image.backing_format})
        try:
            image = info(backing, image.backing_format, in_use=True)
        except ColdmoveError as exc:
            return found, str(exc)
        path = backing
    return found, None


def _no_format(path: str, backing: str) -> str:
    return f"{path} records no format for its backing file {backing}; record it with: qemu-img rebase -u -F FORMAT -b {backing} -f qcow2 {path}"


def regular_file(path: str) -> int:
    """The file's length. Raises ColdmoveError for all but an absolute path of a regular file: opening a pipe would hang."""
    if not path.startswith("/") or "\0" in path:
        raise ColdmoveError(f"{path!r} is not an absolute path")
    try:
        status = os.stat(path)
    except OSError as exc:
        raise ColdmoveError(f"{path}: {exc.strerror}") from exc
    if not stat.S_ISREG(status.st_mode):
        raise ColdmoveError(f"{path} is not a regular file")
    return status.st_size


def virtual_size(path: str, image_format: str) -> int:
    """The size that the guest sees, without starting a program: for overviews of many images. Not a check of the image."""
    length = regular_file(path)
    if image_format != "qcow2":
        return length
    try:
        with open(path, "rb") as stream:
            magic, _version, _offset, _size, _bits, virtual = _QCOW2_HEADER.unpack(stream.read(_QCOW2_HEADER.size))
    except (OSError, struct.error) as exc:
        raise ColdmoveError(f"{path} cannot be read: {exc}") from exc
    if magic != b"QFI\xfb":
        raise ColdmoveError(f"{path} is no qcow2 image, although the domain XML says so")
    return int(virtual)


def _beside(path: str, name: str) -> str | None:
    """What a recorded backing name means: relative to the image above it; None if it is a protocol (json:, nbd:…)."""
    if ":" in name.split("/", 1)[0]:
        return None
    return os.path.join(os.path.dirname(path), name)


def _run(command: str, path: str, image_format: str, in_use: bool) -> str:
    if image_format not in FORMATS:
        raise ColdmoveError(f"{path} has the format {image_format}; only {' and '.join(FORMATS)} are known")
    # An absolute path is never taken for an option or a protocol, and without --image-opts no character in it is special.
    arguments = ["qemu-img", command, "--output=json", *(["-U"] if in_use else []), "-f", image_format, "--", path]
    try:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_SECONDS, check=False, env={**os.environ, "LC_ALL": "C"})
    except FileNotFoundError as exc:
        raise ColdmoveError("qemu-img is missing on this node: run the playbook coldmove.libvirt.prepare") from exc
    except subprocess.TimeoutExpired as exc:
        raise ColdmoveError(f"qemu-img {command} gave no answer for {path} in {TIMEOUT_SECONDS} s; is its storage stuck?") from exc
    if done.returncode != 0:
        raise ColdmoveError(f"{path} cannot be read as {image_format}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="surrogateescape")
