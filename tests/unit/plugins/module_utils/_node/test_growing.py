# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Growing images with the real qemu-img: larger or untouched, never anything else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import growing

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")

MIB = 1024 * 1024
NAMES = ["plain", "with space", "-rf", "a:b", "json:{}", "nbd:unix", "a,b=c,,", 'it\'s "quoted"', "ünïcödé 服务器", "$(id);`id`|&", "new\nline", "*?[a]"]


def create(path: Path, size: int, image_format: str = "qcow2", *options: str) -> str:
    subprocess.run(["qemu-img", "create", "-q", "-f", image_format, *options, "--", str(path), str(size)], check=True, timeout=60)
    return str(path)


def digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def size_of(path: str, image_format: str) -> int:
    return qemu_img.info(path, image_format).virtual_bytes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_grows_and_says_so_once(tmp_path: Path, name: str, image_format: str) -> None:
    path = create(tmp_path / name, 3 * MIB, image_format)
    assert growing.grow_image(path, image_format, 8 * MIB) is True
    assert size_of(path, image_format) == 8 * MIB
    before = digest(path)
    assert growing.grow_image(path, image_format, 8 * MIB) is False
    assert digest(path) == before
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_never_shrinks(tmp_path: Path, image_format: str) -> None:
    path = create(tmp_path / "disk", 3 * MIB, image_format)
    before = digest(path)
    with pytest.raises(ColdmoveError, match="3145728 bytes.*no disk is ever shrunk.*Nothing was changed"):
        growing.grow_image(path, image_format, 3 * MIB - 512)
    assert digest(path) == before


def test_a_raw_disk_in_which_the_guest_wrote_a_qcow2_header_grows_as_raw(tmp_path: Path) -> None:
    """CVE-2026-24708: probed, the header would send writes to a file of the host."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * MIB)
    header = Path(create(tmp_path / "evil", 64 * MIB, "qcow2", "-o", f"data_file={tmp_path / 'target'}", "-F", "raw", "-b", str(secret))).read_bytes()
    disk = tmp_path / "disk"
    disk.write_bytes(header.ljust(2 * MIB, b"\0"))
    assert growing.grow_image(str(disk), "raw", 4 * MIB) is True
    assert disk.read_bytes() == header.ljust(4 * MIB, b"\0")
    assert os.path.getsize(tmp_path / "target") == 64 * MIB


def test_the_layers_below_an_overlay_stay_as_they_are(tmp_path: Path) -> None:
    base = create(tmp_path / "base", MIB)
    top = create(tmp_path / "top", MIB, "qcow2", "-F", "qcow2", "-b", base)
    before = digest(base)
    assert growing.grow_image(top, "qcow2", 2 * MIB) is True
    assert (size_of(top, "qcow2"), digest(base)) == (2 * MIB, before)


def test_a_raw_disk_keeps_its_holes(tmp_path: Path) -> None:
    path = create(tmp_path / "disk", MIB, "raw")
    growing.grow_image(path, "raw", 1024**4)
    assert os.stat(path).st_blocks * 512 < MIB


def version_two_with_a_snapshot(tmp_path: Path) -> str:
    path = create(tmp_path / "disk", MIB, "qcow2", "-o", "compat=0.10")
    subprocess.run(["qemu-img", "snapshot", "-c", "before", path], check=True, timeout=60)
    return path


def marked_as_corrupt(tmp_path: Path) -> str:
    path = create(tmp_path / "disk", MIB)
    with open(path, "r+b") as stream:
        stream.seek(72 + 7)
        stream.write(b"\x02")
    return path


def with_another_data_file(tmp_path: Path) -> str:
    return create(tmp_path / "disk", MIB, "qcow2", "-o", f"data_file={tmp_path / 'data'}")


def cut_short(tmp_path: Path) -> str:
    path = create(tmp_path / "disk", MIB)
    os.truncate(path, 30)
    return path


def no_image(tmp_path: Path) -> str:
    (tmp_path / "disk").write_bytes(os.urandom(MIB))
    return str(tmp_path / "disk")


def damaged_tables(tmp_path: Path) -> str:
    path = create(tmp_path / "disk", MIB)
    with open(path, "r+b") as stream:
        stream.seek(65536)
        stream.write(b"x")
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (version_two_with_a_snapshot, "version 2 with snapshots"),
        (marked_as_corrupt, "marked as corrupt"),
        (with_another_data_file, "data in another file"),
        (cut_short, "cannot be read as qcow2"),
        (no_image, "cannot be read as qcow2"),
    ],
)
def test_what_cannot_grow_is_one_clear_error(tmp_path: Path, make: t.Callable[[Path], str], reason: str) -> None:
    path = make(tmp_path)
    before = digest(path)
    with pytest.raises(ColdmoveError, match=reason) as caught:
        growing.grow_image(path, "qcow2", 4 * MIB)
    assert "\n" not in str(caught.value)
    assert digest(path) == before


def test_damaged_tables_are_found(tmp_path: Path) -> None:
    path = damaged_tables(tmp_path)
    assert qemu_img.corruptions(path) > 0
    assert qemu_img.corruptions(create(tmp_path / "well", MIB)) == 0


@contextlib.contextmanager
def opened(path: str, image_format: str) -> t.Iterator[None]:
    """A program that has the image open for writing, as a running guest would."""
    socket = Path(f"{path}.socket")
    command = ["qemu-nbd", "-t", "-f", image_format, "-k", str(socket), "--", path]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as program:
        deadline = time.monotonic() + 60
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        yield
        program.terminate()


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_an_image_in_use_is_not_touched(tmp_path: Path, image_format: str) -> None:
    path = create(tmp_path / "disk", MIB, image_format)
    with opened(path, image_format), pytest.raises(ColdmoveError, match="another process has it open"):
        growing.grow_image(path, image_format, 2 * MIB)
    assert size_of(path, image_format) == MIB


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_full_file_system(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", str(tmp_path)], check=True, timeout=60)
    try:
        path = create(tmp_path / "disk", MIB)
        before = digest(path)
        with pytest.raises(ColdmoveError, match="is full.*Make room first"):
            growing.grow_image(path, "qcow2", 1024**4)
        assert digest(path) == before
        # A hole needs no room, and so a raw file of any size fits.
        assert growing.grow_image(create(tmp_path / "raw", MIB, "raw"), "raw", 1024**3)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True, timeout=60)


@pytest.mark.parametrize("path", ["/nonexistent/disk", "disk", "", "nbd:unix:/x"])
def test_no_such_image(path: str) -> None:
    with pytest.raises(ColdmoveError, match="No such file|not an absolute path"):
        growing.grow_image(path, "raw", MIB)
