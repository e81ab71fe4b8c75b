# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What qemu-img says, asked of the real one: formats are told and never probed, and no character of a file name is special."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")

MIB = 1024 * 1024
NAMES = [
    "plain",
    "with space",
    "-rf",
    "a:b",
    "json:{}",
    "nbd:unix",
    "a,b=c,,",
    'it\'s "quoted"',
    "ünïcödé 服务器",
    "$(id);`id`|&",
    "new\nline",
    "%s{{ x }}\\",
    "*?[a]",
]


def create(path: Path, size: int, image_format: str = "qcow2", *options: str) -> str:
    subprocess.run(["qemu-img", "create", "-q", "-f", image_format, *options, "--", str(path), str(size)], check=True, timeout=60)
    return str(path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_any_file_name(tmp_path: Path, name: str, image_format: str) -> None:
    path = create(tmp_path / name, 3 * MIB, image_format)
    image = qemu_img.info(path, image_format)
    assert image.virtual_bytes == 3 * MIB == qemu_img.virtual_size(path, image_format)
    assert image.size_bytes == os.path.getsize(path)
    assert (image.backing_file, image.data_file, image.encrypted, image.internal_snapshots) == (None, None, False, 0)
    assert sum(extent["length"] for extent in qemu_img.extents(path, image_format)) == 3 * MIB


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_backing_file(tmp_path: Path, name: str) -> None:
    base = create(tmp_path / name, MIB, "raw")
    top = create(tmp_path / "top.qcow2", MIB, "qcow2", "-F", "raw", "-b", base)
    assert qemu_img.chain(top, qemu_img.info(top, "qcow2")) == ([{"path": base, "format": "raw"}], None)


def test_a_raw_disk_in_which_the_guest_wrote_a_qcow2_header_is_raw(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * MIB)
    evil = create(tmp_path / "evil.qcow2", 8 * MIB, "qcow2", "-F", "raw", "-b", str(secret))
    disk = tmp_path / "disk"
    disk.write_bytes(Path(evil).read_bytes())
    os.truncate(disk, 2 * MIB)
    image = qemu_img.info(str(disk), "raw")
    assert image.virtual_bytes == 2 * MIB == qemu_img.virtual_size(str(disk), "raw")
    assert image.backing_file is None
    assert qemu_img.chain(str(disk), image) == ([], None)


def test_a_qcow2_disk_that_is_none_is_an_error(tmp_path: Path) -> None:
    path = create(tmp_path / "disk", MIB, "raw")
    for ask in (qemu_img.info, qemu_img.virtual_size, qemu_img.extents):
        with pytest.raises(ColdmoveError, match=r"disk"):
            ask(path, "qcow2")


def test_the_whole_chain_with_each_recorded_format(tmp_path: Path) -> None:
    base = create(tmp_path / "base.raw", MIB, "raw")
    middle = create(tmp_path / "middle", MIB, "qcow2", "-F", "raw", "-b", "base.raw")  # relative, as Nova and others write it
    top = create(tmp_path / "top", MIB, "qcow2", "-F", "qcow2", "-b", middle)
    links, problem = qemu_img.chain(top, qemu_img.info(top, "qcow2"))
    assert links == [{"path": middle, "format": "qcow2"}, {"path": base, "format": "raw"}]
    assert problem is None


def test_a_backing_file_without_a_recorded_format_is_never_probed(tmp_path: Path) -> None:
    base = create(tmp_path / "base", MIB)
    top = create(tmp_path / "top", MIB, "qcow2", "-F", "qcow2", "-b", base)
    subprocess.run(["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", "", "-b", base, top], check=False, capture_output=True, timeout=60)
    if qemu_img.info(top, "qcow2").backing_format:  # newer qemu-img writes none without a format: take the extension out by hand
        data = Path(top).read_bytes()
        Path(top).write_bytes(data.replace(b"\xe2\x79\x2a\xca", b"\x12\x34\x56\x78", 1))
    image = qemu_img.info(top, "qcow2")
    assert image.backing_format is None
    links, problem = qemu_img.chain(top, image)
    assert links == []
    assert problem is not None
    assert "records no format" in problem
    assert "qemu-img rebase -u" in problem


@pytest.mark.parametrize(
    "backing", ["nbd:unix:/x:exportname=y", 'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/hostname"}}', "nbd://192.0.2.1/x"]
)
def test_a_backing_file_behind_a_protocol_is_not_followed(tmp_path: Path, backing: str) -> None:
    top = create(tmp_path / "top", MIB, "qcow2", "-u", "-F", "raw", "-b", backing)
    links, problem = qemu_img.chain(top, qemu_img.info(top, "qcow2"))
    assert links == []
    assert problem is not None


def test_a_missing_backing_file_is_named(tmp_path: Path) -> None:
    top = create(tmp_path / "top", MIB, "qcow2", "-u", "-F", "raw", "-b", str(tmp_path / "gone"))
    links, problem = qemu_img.chain(top, qemu_img.info(top, "qcow2"))
    assert links == [{"path": str(tmp_path / "gone"), "format": "raw"}]
    assert problem == f"{tmp_path / 'gone'}: No such file or directory"


def test_a_chain_that_bites_its_tail_ends(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    create(Path(one), MIB, "qcow2", "-u", "-F", "qcow2", "-b", two)
    create(Path(two), MIB, "qcow2", "-u", "-F", "qcow2", "-b", one)
    links, problem = qemu_img.chain(one, qemu_img.info(one, "qcow2"))
    assert len(links) <= 2
    assert problem == f"the backing chain of {one} does not end"


def test_an_external_data_file_is_seen(tmp_path: Path) -> None:
    path = create(tmp_path / "top", MIB, "qcow2", "-o", f"data_file={tmp_path / 'data'}")
    assert qemu_img.info(path, "qcow2").data_file == str(tmp_path / "data")


def test_internal_snapshots_and_encryption_are_seen(tmp_path: Path) -> None:
    path = create(tmp_path / "a", MIB)
    subprocess.run(["qemu-img", "snapshot", "-c", "before", path], check=True, timeout=60)
    assert qemu_img.info(path, "qcow2").internal_snapshots == 1
    locked = tmp_path / "b"
    # Not luks: for its key QEMU measures how fast the CPU is, and gives up on a machine that is busy.
    options = ["--object", "secret,id=s,data=x", "-o", "encrypt.format=aes,encrypt.key-secret=s"]
    create(locked, MIB, "qcow2", *options)
    assert qemu_img.info(str(locked), "qcow2").encrypted


def test_sizes_of_a_sparse_file(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with open(path, "wb") as stream:
        stream.truncate(64 * MIB)
        stream.write(os.urandom(MIB))
        os.fsync(stream.fileno())
    image = qemu_img.info(str(path), "raw")
    assert image.virtual_bytes == image.size_bytes == 64 * MIB
    assert MIB <= image.allocated_bytes < 2 * MIB
    data = [extent for extent in qemu_img.extents(str(path), "raw") if extent["data"]]
    assert sum(extent["length"] for extent in data) < 2 * MIB


@pytest.fixture
def other_files(tmp_path: Path) -> dict[str, str]:
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling")
    return {
        "a pipe": str(tmp_path / "pipe"),
        "a folder": str(tmp_path),
        "a dangling link": str(tmp_path / "dangling"),
        "nothing": str(tmp_path / "x"),
        "a device": "/dev/zero",
    }


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a dangling link", "nothing", "a device"])
@pytest.mark.parametrize("ask", [qemu_img.info, qemu_img.virtual_size, qemu_img.extents])
def test_what_is_no_regular_file_is_not_opened(other_files: dict[str, str], kind: str, ask: t.Callable[[str, str], object]) -> None:
    with pytest.raises(ColdmoveError):
        ask(other_files[kind], "raw")


@pytest.mark.parametrize("path", ["disk", "", "nbd:unix:/x", "/a\0b"])
def test_only_absolute_paths(path: str) -> None:
    with pytest.raises(ColdmoveError, match="not an absolute path"):
        qemu_img.info(path, "raw")


@pytest.mark.parametrize("image_format", ["vmdk", "", "luks", "raw,x=y"])
def test_no_other_format_is_ever_opened(tmp_path: Path, image_format: str) -> None:
    with pytest.raises(ColdmoveError, match="only raw and qcow2"):
        qemu_img.info(create(tmp_path / "a", MIB, "raw"), image_format)


def test_every_call_states_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def record(arguments: list[str], **_options: t.Any) -> subprocess.CompletedProcess[bytes]:
        calls.append(arguments)
        return subprocess.CompletedProcess(arguments, 0, json.dumps({"virtual-size": 1, "actual-size": 1}).encode(), b"")

    monkeypatch.setattr(qemu_img.subprocess, "run", record)
    path = str(tmp_path / "a")
    Path(path).touch()
    qemu_img.info(path, "raw", in_use=True)
    qemu_img.extents(path, "qcow2")
    assert calls == [
        ["qemu-img", "info", "--output=json", "-U", "-f", "raw", "--", path],
        ["qemu-img", "map", "--output=json", "-f", "qcow2", "--", path],
    ]


def test_a_missing_or_stuck_program_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = create(tmp_path / "a", MIB, "raw")
    monkeypatch.setattr(qemu_img, "TIMEOUT_SECONDS", 0.5)
    program = tmp_path / "bin" / "qemu-img"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 5\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent) + ":/usr/bin:/bin")
    with pytest.raises(ColdmoveError, match="no answer"):
        qemu_img.info(path, "raw")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ColdmoveError, match="missing on this node"):
        qemu_img.info(path, "raw")


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_what_a_copy_of_an_image_takes_is_what_is_in_it(tmp_path: Path, image_format: str) -> None:
    path = tmp_path / "image"
    create(path, 256 * MIB, image_format)
    assert qemu_img.content_bytes(str(path), image_format) < MIB
    subprocess.run(["qemu-io", "-c", "write -P 7 0 32M", "-f", image_format, path], check=True, timeout=60, capture_output=True)
    assert 32 * MIB <= qemu_img.content_bytes(str(path), image_format) < 34 * MIB
    with pytest.raises(ColdmoveError, match="cannot be read as qcow2"):
        qemu_img.content_bytes(str(tmp_path / "nothing"), "qcow2")
