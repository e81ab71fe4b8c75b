# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What qemu-img says of an image, and the one thing it changes: the size.

The format always comes from the caller: a guest can write any header into its raw disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import struct
import subprocess
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

#: The formats that a move knows. Nothing else is ever opened.
FORMATS = ("raw", "qcow2")
TIMEOUT_SECONDS = 120
_MAX_CHAIN = 64
_LOCKED = re.compile(r'Failed to get (shared )?"\w+" lock')
_DONE = {"info": "read", "map": "read", "check": "checked", "resize": "grown", "measure": "read"}
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
    #: qcow2 only: ``0.10`` (version 2) or ``1.1`` (version 3).
    compat: str | None = None
    #: qcow2 only: QEMU found damage and has marked the image; it is opened for reading only.
    corrupt: bool = False


def info(path: str, image_format: str, in_use: bool = False, devices: bool = False) -> Image:
    """``in_use``: a running guest has it open, so no lock can be taken. ``devices``: a block device is as good as a file."""
    length = length_of(path) if devices else regular_file(path)
    answer = json.loads(_run("info", path, image_format, _reading(in_use)))
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
        compat=specific.get("compat"),
        corrupt=bool(specific.get("corrupt")),
    )


def extents(path: str, image_format: str, in_use: bool = False) -> list[dict[str, t.Any]]:
    """``qemu-img map``: start, length, data, zero … of every run of the guest-visible content."""
    regular_file(path)
    return list(json.loads(_run("map", path, image_format, _reading(in_use))))


@contextlib.contextmanager
def mapped(path: str, image_format: str) -> t.Iterator[t.Iterator[dict[str, t.Any]]]:
    """The same one after the other, as they are found: a large image has millions. It ends with an error as with the last one: what is missing was not told."""
    command = ["setpriv", "--pdeathsig", "KILL", "qemu-img", "map", "--output=json", "-f", image_format, "--", path]
    # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"}) as process:
        try:
            # One of them is one line.
            yield (json.loads(line.strip(b"[],\n")) for line in process.stdout or () if line.endswith((b"},\n", b"}]\n", b"}\n")))
        finally:
            process.kill()


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


def length_of(path: str) -> int:
    """Bytes of a regular file or of a block device. Raises ColdmoveError for anything else."""
    if not is_device(path):
        return regular_file(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise ColdmoveError(f"{path}: {exc.strerror}") from exc


def is_device(path: str) -> bool:
    """Whether there is a block device at this absolute path."""
    try:
        return path.startswith("/") and stat.S_ISBLK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def resize(path: str, image_format: str, virtual_bytes: int) -> None:
    """Set the size that the guest sees of an image that nobody has open. Never smaller: qemu-img is not told ``--shrink``.

    Raises ColdmoveError in qemu-img's own words, with the image as it was.
    """
    length_of(path)
    _run("resize", path, image_format, [], str(virtual_bytes))


def corruptions(path: str) -> int:
    """Errors in the metadata of a qcow2 image that nobody has open. Clusters that are merely lost do no harm and are not counted."""
    length_of(path)
    answer = json.loads(_run("check", path, "qcow2", ["--output=json"], fine=(0, 2, 3)))
    return int(answer.get("corruptions", 0)) + int(answer.get("check-errors", 0))


def measured(virtual_bytes: int) -> int:
    """Bytes that a device must have for a qcow2 image of that size whose guest has written every block."""
    arguments = ["qemu-img", "measure", "--output=json", "-O", "qcow2", "--size", str(virtual_bytes)]
    return int(json.loads(_output(arguments, "a new image"))["fully-allocated"])


def content_bytes(path: str, image_format: str) -> int:
    """Bytes that a copy of all that is in an image takes, with holes where it has some; compressed ones are not compressed again."""
    answer = _run("measure", path, image_format, ["--output=json", "-O", "qcow2"])
    return int(json.loads(answer)["required"])


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


def create_overlay(path: str, base: str, base_format: str, virtual_bytes: int) -> None:
    """Create a qcow2 image of ``virtual_bytes`` at ``path`` on top of ``base``, which a guest may be using: it is not opened."""
    # Absolute, so that nothing in the name is taken for a protocol; with its format, so that nobody ever probes it.
    options = ["-u", "-b", base, "-F", base_format, "-f", "qcow2", "--", path, str(virtual_bytes)]
    _checked(["create", "-q", *options], f"cannot create {path} on top of {base}")


def create_on_device(path: str, virtual_bytes: int) -> None:
    """Write an empty qcow2 image onto the block device at ``path``, whatever it holds."""
    _checked(["create", "-q", "-f", "qcow2", "--", path, str(virtual_bytes)], f"cannot make an image on {path}")


def commit_overlay(path: str) -> None:
    """Write what an overlay holds into the image that it stands on, growing that to the overlay's size. The overlay stays as it is.

    Killed in between, the overlay still hides what is half written: the pair reads as before.
    """
    _checked(["commit", "-q", "-d", "-f", "qcow2", "--", path], f"cannot merge {path} into the image that it stands on", timeout=None)


def make_from(image: str, image_format: str, path: str, path_format: str) -> None:
    """Write the content of ``image`` as a new image into the file ``path``, with holes. Raises ColdmoveError in qemu-img's own words."""
    found = info(image, image_format)
    if found.backing_file or found.data_file:  # whoever made the image could name any file of this node
        raise ColdmoveError(f"{image} stands on another file, {found.backing_file or found.data_file}: make it whole first (qemu-img convert)")
    _checked(["convert", "-q", "-W", "-f", image_format, "-O", path_format, "--", image, path], f"cannot make {path} from {image}", timeout=None)


def _checked(arguments: list[str], what: str, timeout: float | None = TIMEOUT_SECONDS) -> None:
    try:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        done = subprocess.run(
            ["qemu-img", *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except subprocess.TimeoutExpired as exc:
        raise ColdmoveError(f"{what}: qemu-img gave no answer in {timeout} s; is its storage stuck?") from exc
    if done.returncode != 0:
        raise ColdmoveError(f"{what}: {done.stderr.decode(errors='replace').strip()}")


def _beside(path: str, name: str) -> str | None:
    """What a recorded backing name means: relative to the image above it; None if it is a protocol (json:, nbd:…)."""
    if ":" in name.split("/", 1)[0]:
        return None
    return os.path.join(os.path.dirname(path), name)


def _reading(in_use: bool) -> list[str]:
    return ["--output=json", *(["-U"] if in_use else [])]


def _run(command: str, path: str, image_format: str, options: t.Sequence[str], *operands: str, fine: t.Container[int] = (0,)) -> str:
    if image_format not in FORMATS:
        raise ColdmoveError(f"{path} has the format {image_format}; only {' and '.join(FORMATS)} are known")
    # An absolute path is never taken for an option or a protocol, and without --image-opts no character in it is special.
    return _output(["qemu-img", command, *options, "-f", image_format, "--", path, *operands], f"{path} cannot be {_DONE[command]} as {image_format}", fine)


def _output(arguments: list[str], problem: str, fine: t.Container[int] = (0,)) -> str:
    try:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_SECONDS, check=False, env={**os.environ, "LC_ALL": "C"})
    except FileNotFoundError as exc:
        raise ColdmoveError("qemu-img is missing on this node: run the playbook coldmove.libvirt.prepare") from exc
    except subprocess.TimeoutExpired as exc:
        raise ColdmoveError(f"{problem}: qemu-img {arguments[1]} gave no answer in {TIMEOUT_SECONDS} s; is its storage stuck?") from exc
    if done.returncode not in fine:
        raise ColdmoveError(f"{problem}: {_words(done)}")
    return done.stdout.decode(errors="surrogateescape")


def _words(done: subprocess.CompletedProcess[bytes]) -> str:
    """What qemu-img said last: it may say a lot before."""
    said = done.stderr.decode(errors="replace").strip()
    if _LOCKED.search(said):
        return "another process has it open; if a server runs on it, name the server and the disk's target instead of the file"
    return said.splitlines()[-1] if said else f"qemu-img ended with code {done.returncode}"
