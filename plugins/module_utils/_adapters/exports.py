# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""qemu-nbd servers (exports), and connections to them. The only place that starts qemu-nbd, and that connects to one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

try:
    import nbd

    HAS_NBD = True
except ImportError:
    HAS_NBD = False

#: Parallel requests and connections of one copy; more brought nothing on the links that were measured.
CONNECTIONS = 16
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 60.0
CONNECT_TIMEOUT_SECONDS = 20.0


def image_options(path: str, image_format: str, size_bytes: int | None = None) -> str:
    """``--image-opts`` for a local file or block device: the format is stated, never probed, and no character of the name is special (a comma is doubled).

    ``size_bytes``: only so much of it, from its beginning; of a raw one.
    """
    size = "" if size_bytes is None else f",size={size_bytes}"
    return f"driver={image_format}{size},file.driver={'host_device' if qemu_img.is_device(path) else 'file'},file.filename={path.replace(',', ',,')}"


def create_blank(path: str, image_format: str, virtual_bytes: int) -> None:
    """Create an empty image. Raises ColdmoveError if ``path`` exists or qemu-img refuses."""
    if os.path.lexists(path):
        raise ColdmoveError(f"{path} exists already")
    # The ./ or / in front keeps a name with a colon from being taken for a protocol.
    command = ["qemu-img", "create", "-q", "-f", image_format, "--", os.path.abspath(path), str(virtual_bytes)]
    # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=_environment())
    if done.returncode != 0:
        raise ColdmoveError(f"qemu-img cannot create {path}: {done.stderr.strip()}")


def start_export(path: str, image_format: str, name: str, socket: Path, pid_file: Path, size_bytes: int | None = None) -> int:
    """Serve ``path`` as export ``name`` on the unix ``socket``; returns the server's pid once it listens. ``size_bytes``: see image_options().

    Raises ColdmoveError with qemu-nbd's own words.
    """
    command = _server(path, image_format, name, socket, pid_file, "--fork", "--discard=unmap", "--detect-zeroes=unmap", size_bytes=size_bytes)
    socket.unlink(missing_ok=True)
    try:
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=START_TIMEOUT_SECONDS, env=_environment())
    except subprocess.TimeoutExpired as exc:
        raise ColdmoveError(f"qemu-nbd did not begin to serve {path} within {START_TIMEOUT_SECONDS:.0f} s") from exc
    if done.returncode != 0:
        raise ColdmoveError(f"qemu-nbd cannot serve {path} as {image_format}: {done.stderr.strip()}")
    return int(pid_file.read_text(encoding="ascii"))


def _server(path: str, image_format: str, name: str, socket: Path, pid_file: Path, *options: str, size_bytes: int | None = None) -> list[str]:
    fixed = ["qemu-nbd", "-t", "-e", str(CONNECTIONS), "--pid-file", str(pid_file), "-x", name, "-k", str(socket)]
    return [*fixed, *options, "--image-opts", image_options(path, image_format, size_bytes)]


@contextlib.contextmanager
def served(path: str, image_format: str, name: str, size_bytes: int | None) -> t.Iterator[str]:
    """The socket of a read-only export that ends with this process, however it ends: a server left behind would keep the guest from starting."""
    with tempfile.TemporaryDirectory(prefix="coldmove-digest-") as folder:
        socket, ready = Path(folder) / "nbd", Path(folder) / "pid"
        command = ["setpriv", "--pdeathsig", "KILL", *_server(path, image_format, name, socket, ready, "-r", size_bytes=size_bytes)]
        # pylint: disable-next=ansible-bad-function  # no AnsibleModule here: jobs run without one
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=_environment()) as server:
            try:
                deadline = time.monotonic() + START_TIMEOUT_SECONDS
                while not ready.exists():  # it is written when the server listens
                    if server.poll() is not None:
                        words = server.stderr.read().strip() if server.stderr else ""
                        raise ColdmoveError(f"qemu-nbd cannot serve {path} as {image_format}: {words}")
                    if time.monotonic() > deadline:
                        raise ColdmoveError(f"qemu-nbd did not begin to serve {path} within {START_TIMEOUT_SECONDS:.0f} s")
                    time.sleep(0.005)
                yield str(socket)
            finally:
                server.kill()  # nothing is lost, it only reads


def export_pid(socket: Path, pid_file: Path) -> int | None:
    """The pid of the server that listens on ``socket``, or None. A pid that now belongs to another program is not it."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if os.fsencode(socket) in arguments else None


def stop_export(socket: Path, pid_file: Path) -> bool:
    """End the server of ``socket`` and wait until it is gone, so that everything it was sent is written. True if there was one."""
    pid = export_pid(socket, pid_file)
    if pid is not None:
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while export_pid(socket, pid_file) == pid:
            if time.monotonic() > deadline:
                raise ColdmoveError(f"qemu-nbd (pid {pid}) does not end {STOP_TIMEOUT_SECONDS:.0f} s after SIGTERM; something still holds {socket}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)  # again: one that comes between its pid file and its main loop is lost to it
            time.sleep(0.02)
    socket.unlink(missing_ok=True)
    pid_file.unlink(missing_ok=True)
    return pid is not None


def probe(socket: str, name: str) -> int:
    """Shake hands with the export ``name`` on ``socket``; its size in bytes. Raises ColdmoveError."""
    with connected(socket, name) as handle:
        return int(handle.get_size())


@contextlib.contextmanager
def connected(socket: str, name: str, extents: bool = False) -> t.Iterator[t.Any]:
    """A libnbd handle that is connected to an export; ``extents`` if it is to be asked for them. Whatever nbd raises becomes a ColdmoveError."""
    handle = nbd.NBD()
    handle.set_export_name(name)
    if extents:
        handle.add_meta_context("base:allocation")
    try:
        handle.aio_connect_unix(socket)
        # A channel whose other end is gone takes the connection and is silent: no waiting without a limit.
        deadline = time.monotonic() + CONNECT_TIMEOUT_SECONDS
        while not handle.aio_is_ready():
            if time.monotonic() >= deadline:
                raise ColdmoveError(f"NBD export '{name}' on {socket}: no answer within {CONNECT_TIMEOUT_SECONDS:.0f} s")
            handle.poll(100)
        yield handle
        handle.aio_disconnect(0)
        handle.poll(100)
    except nbd.Error as exc:
        raise ColdmoveError(f"NBD export '{name}' on {socket}: {exc.string}") from exc


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}
