# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems, volumes and devices that nobody has open: libguestfs, LVM and loop devices of this machine. No lab is needed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from integration.machine import run_in_machine

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import appliance, libvirt_host, lvm, qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.growth import parse_size
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import filesystems, growing
from lab import guest_image

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
#: An xfs is not made smaller than 300 MiB.
SMALL, LARGE = 400 * MIB, 1024 * MIB
CONTENT = b"what must survive\n" * 5000

needs_guestfs = pytest.mark.skipif(not appliance.HAS_GUESTFS, reason="the Python library guestfs (python3-guestfs) is needed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has loop devices")
needs_lvm = pytest.mark.skipif(shutil.which("lvextend") is None, reason="lvm2 is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session", autouse=True)
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The lab's kernel for the appliance where the machine has none, and its cache in a place that goes away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIBGUESTFS_CACHEDIR", str(tmp_path_factory.mktemp("appliance")))
        if not list(Path("/boot").glob("vmlinuz-*")):
            found = guest_image.find_kernel()
            patch.setenv("SUPERMIN_KERNEL", str(found.image))
            patch.setenv("SUPERMIN_MODULES", str(found.base / "lib" / "modules" / found.version))
        yield


@pytest.fixture
def lvm_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LVM sees loop devices only, writes nothing about them into the machine's /etc, and only keeps its books: the kernel may have no device-mapper."""
    (tmp_path / "lvm").mkdir()
    (tmp_path / "lvm" / "lvm.conf").write_text(
        f'global {{ activation = 0 locking_dir = "{tmp_path}/lvm/lock" }}\n'
        'devices { filter = ["a|^/dev/loop|", "r|.*|"] use_devicesfile = 0 hints = "none" }\nbackup { backup = 0 archive = 0 }\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("LVM_SYSTEM_DIR", str(tmp_path / "lvm"))
    monkeypatch.setenv("LVM_SUPPRESS_FD_WARNINGS", "1")


def run(*command: str | Path, stdin: str = "") -> str:
    return subprocess.run([str(word) for word in command], input=stdin, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout


def make_disk(path: Path, table: str, kind: str, image_format: str = "raw") -> str:
    """A disk of SMALL bytes with one file system that holds CONTENT, in a partition if there is a table."""
    start, size = (1, SMALL // MIB - 2) if table else (0, SMALL // MIB)
    inner, seed = path.with_suffix(".inner"), path.with_suffix(".seed")
    seed.mkdir()
    (seed / "kept").write_bytes(CONTENT)
    for file, length in ((path, SMALL), (inner, size * MIB)):
        with open(file, "wb") as stream:
            stream.truncate(length)
    if table:
        run("sfdisk", "-q", path, stdin=f"label: {table}\nstart={start}MiB, size={size}MiB\n")
    if kind == "ext4":
        run("mkfs.ext4", "-q", "-d", seed, inner)
    else:
        (prototype := path.with_suffix(".proto")).write_text(f"/ignored\n0 0\nd--755 0 0\nkept ---644 0 0 {seed / 'kept'}\n$\n", encoding="utf-8")
        run("mkfs.xfs", "-q", "-p", prototype, inner)
    run("dd", f"if={inner}", f"of={path}", "bs=1M", f"seek={start}", "conv=notrunc,sparse", "status=none")
    if image_format == "qcow2":
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", path, inner)
        inner.replace(path)
    return str(path)


def check_disk(path: str, image_format: str, table: str, kind: str) -> None:
    """By other tools than those that grew it: the partition goes to the end, its file system fills it, is sound, and holds CONTENT."""
    raw, inner = Path(f"{path}.check"), Path(f"{path}.check-inner")
    run("qemu-img", "convert", "-f", image_format, "-O", "raw", path, raw)
    start, size = 0, LARGE
    if table:
        (partition,) = json.loads(run("sfdisk", "--json", raw))["partitiontable"]["partitions"]
        start, size = partition["start"] * 512, partition["size"] * 512
        assert (start, size) >= (MIB, LARGE - 3 * MIB)
    run("dd", f"if={raw}", f"of={inner}", "bs=1M", f"skip={start // MIB}", "conv=sparse", "status=none")
    os.truncate(inner, size)
    if kind == "ext4":
        run("e2fsck", "-fn", inner)
        facts = dict(line.split(":", 1) for line in run("dumpe2fs", "-h", inner).splitlines() if ":" in line)
        assert int(facts["Block count"]) * int(facts["Block size"]) > size - MIB
        assert run("debugfs", "-R", "cat /kept", inner).encode() == CONTENT
    else:
        run("xfs_repair", "-n", inner)
        facts = dict(line.split(" = ") for line in run("xfs_db", "-r", "-c", "sb 0", "-c", "p dblocks blocksize", inner).splitlines())
        assert int(facts["dblocks"]) * int(facts["blocksize"]) > size - MIB


@needs_guestfs
@pytest.mark.parametrize(
    ("name", "table", "kind", "image_format"),
    [("a:b,c d'ü", "gpt", "ext4", "qcow2"), ("b", "dos", "xfs", "raw"), ("c", "", "ext4", "raw"), ("d", "gpt", "xfs", "raw")],
)
def test_grows_with_its_disk(tmp_path: Path, name: str, table: str, kind: str, image_format: str) -> None:
    """Case 56 for a server that is off."""
    path = make_disk(tmp_path / name, table, kind, image_format)
    growing.grow_image(path, image_format, LARGE)
    done = filesystems.grow_in_image(path, image_format)
    assert (done["grown"], done["type"], done["how"], done["not_done"]) == (True, kind, "libguestfs", [])
    assert done["before_bytes"] <= SMALL < LARGE - 4 * MIB < done["after_bytes"] <= LARGE
    check_disk(path, image_format, table, kind)


@needs_guestfs
@pytest.mark.nightly
def test_prediction_and_second_run(tmp_path: Path, host: libvirt_host.LibvirtHost) -> None:
    """Check mode says the same and writes nothing; what has grown is not touched again."""
    path = make_disk(tmp_path / "disk", "gpt", "ext4")
    disk = growing.image_at(host, path, "raw")
    results, digests = [], [digest(path)]
    for check_mode in (True, False, False):
        results.append(growing.grow(host, disk, parse_size("1G"), with_filesystem=True, check_mode=check_mode)[0])
        digests.append(digest(path))
    assert [(result["changed"], result["after_bytes"], result["filesystem"]["grown"]) for result in results] == [
        (True, LARGE, True),
        (True, LARGE, True),
        (False, LARGE, False),
    ]
    assert digests[0] == digests[1] != digests[2] == digests[3]


def digest(path: str) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()


@needs_guestfs
def test_a_damaged_file_system_is_left_as_it_was(tmp_path: Path) -> None:
    path = make_disk(tmp_path / "disk", "gpt", "ext4")
    growing.grow_image(path, "raw", LARGE)
    with open(path, "r+b") as stream:  # the inode tables of the first group
        stream.seek(MIB + 200 * 1024)
        stream.write(os.urandom(2 * MIB))
    table = run("sfdisk", "--json", path)
    with pytest.raises(ColdmoveError, match="libguestfs: .*e2fsck"):
        filesystems.grow_in_image(path, "raw")
    assert run("sfdisk", "--json", path) == table


@needs_guestfs
@needs_root
@needs_lvm
def test_what_is_left_is_said(tmp_path: Path, lvm_conf: None) -> None:
    """LVM in a guest: nothing is written."""
    path = make_disk(tmp_path / "disk", "gpt", "ext4")
    with loop(path, "--offset", str(MIB), "--sizelimit", str(SMALL - 2 * MIB)) as device:
        run("wipefs", "-qa", device)
        run("pvcreate", "-qq", device)
    growing.grow_image(path, "raw", LARGE)
    before = digest(path)
    done = filesystems.grow_in_image(path, "raw")
    assert (done["grown"], done["device"]) == (False, None)
    assert "LVM physical volume" in done["not_done"][0]
    assert digest(path) == before


# --- room


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    run("mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", tmp_path)
    try:
        yield tmp_path
    finally:
        run("umount", tmp_path)


@needs_root
def test_more_than_its_file_system_holds(small: Path, host: libvirt_host.LibvirtHost) -> None:
    """Allowed for a sparse disk, and said; refused where a file system would be torn in the middle."""
    run("qemu-img", "create", "-q", "-f", "qcow2", small / "disk", "4M")
    disk = growing.image_at(host, str(small / "disk"), "qcow2")
    result, warnings = growing.grow(host, disk, parse_size("1G"), with_filesystem=False, check_mode=False)
    assert (result["changed"], result["after_bytes"]) == (True, LARGE)
    assert "when it is full, the server is paused" in warnings[0]
    if appliance.HAS_GUESTFS:
        with pytest.raises(ColdmoveError, match="is full: .* are needed at once"):
            growing.grow(host, disk, parse_size("2G"), with_filesystem=True, check_mode=False)
    assert qemu_img.info(disk.path, "qcow2").virtual_bytes == LARGE


def test_a_damaged_image_is_not_grown(tmp_path: Path, host: libvirt_host.LibvirtHost) -> None:
    path = tmp_path / "disk"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "4M")
    with open(path, "r+b") as stream:  # the refcount table
        stream.seek(65536)
        stream.write(b"x")
    before = digest(str(path))
    with pytest.raises(ColdmoveError, match=r"is damaged \(\d+ errors\): see qemu-img check"):
        growing.grow(host, growing.image_at(host, str(path), "qcow2"), parse_size("8M"), with_filesystem=False, check_mode=False)
    assert digest(str(path)) == before


# --- devices of the node


@contextlib.contextmanager
def loop(path: str | Path, *options: str) -> Iterator[str]:
    """A block device over a file."""
    device = run("losetup", "--find", "--show", *options, path).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@pytest.fixture
def host() -> Iterator[libvirt_host.LibvirtHost]:
    with libvirt_host.connected("test:///default") as connection:
        yield connection


@needs_root
def test_a_raw_disk_is_all_of_its_device(tmp_path: Path, host: libvirt_host.LibvirtHost) -> None:
    """A device that is no logical volume has grown elsewhere, or nothing is done."""
    with open(tmp_path / "lun", "wb") as stream:
        stream.truncate(8 * MIB)
    with loop(tmp_path / "lun") as device:
        disk = growing.image_at(host, device, "raw")
        for size, words in (("16M", "must have 16777216 bytes and is no logical volume"), ("4M", "no disk is ever shrunk")):
            with pytest.raises(ColdmoveError, match=words):
                growing.grow(host, disk, parse_size(size), with_filesystem=False, check_mode=False)
        assert not growing.grow(host, disk, parse_size("8M"), with_filesystem=False, check_mode=False)[0]["changed"]
        os.truncate(tmp_path / "lun", 16 * MIB)
        run("losetup", "--set-capacity", device)
        assert growing.grow(host, disk, parse_size("16M"), with_filesystem=False, check_mode=False)[0]["after_bytes"] == 16 * MIB


@needs_root
def test_qcow2_on_a_device_needs_room_for_its_tables(tmp_path: Path, host: libvirt_host.LibvirtHost) -> None:
    with open(tmp_path / "lun", "wb") as stream:
        stream.truncate(64 * MIB)
    with loop(tmp_path / "lun") as device:
        run("qemu-img", "create", "-q", "-f", "qcow2", device, "16M")
        disk = growing.image_at(host, device, "qcow2")
        result, warnings = growing.grow(host, disk, parse_size("32M"), with_filesystem=False, check_mode=False)
        assert (result["changed"], result["before_bytes"], result["after_bytes"], warnings) == (True, 16 * MIB, 32 * MIB, [])
        with pytest.raises(ColdmoveError, match="is no logical volume: grow it where it comes from"):
            growing.grow(host, disk, parse_size("64M"), with_filesystem=False, check_mode=False)
        assert qemu_img.info(device, "qcow2", devices=True).virtual_bytes == 32 * MIB


@pytest.fixture
def volume(tmp_path: Path, lvm_conf: None) -> Iterator[str]:
    """A logical volume of 20 MiB in a group of some 190 MiB."""
    with open(tmp_path / "pv", "wb") as stream:
        stream.truncate(200 * MIB)
    group = f"coldmove-test-{os.getpid()}"
    with loop(tmp_path / "pv") as device:
        run("vgcreate", "-qq", "--physicalextentsize", "4M", group, device)
        run("lvcreate", "-qq", "-an", "-Zn", "-Wn", "-L", "20M", "-n", "disk", group)
        yield f"{group}/disk"
        run("vgremove", "-qq", "-ff", "-y", group)


@needs_root
@needs_lvm
def test_lvm_keeps_its_books(volume: str) -> None:
    """What LVM says and does, without a device."""
    found = lvm.volume(volume)
    assert (found.size_bytes, found.extent_bytes, found.rounded(33 * MIB), found.rounded(36 * MIB)) == (20 * MIB, 4 * MIB, 36 * MIB, 36 * MIB)
    lvm.extend(volume, 36 * MIB)
    assert (lvm.volume(volume).size_bytes, lvm.volume(volume).free_bytes) == (36 * MIB, (found.free_bytes or 0) - 16 * MIB)
    for size_bytes, words in ((1024**4, "Insufficient free space"), (20 * MIB, "not larger|matches existing|New size given")):
        with pytest.raises(ColdmoveError, match=words) as caught:
            lvm.extend(volume, size_bytes)
        assert "\n" not in str(caught.value)
    assert lvm.volume(volume).size_bytes == 36 * MIB
    with pytest.raises(ColdmoveError, match="lvs .*nothing"):
        lvm.volume(f"{volume.split('/', maxsplit=1)[0]}/nothing")


@needs_lvm
@pytest.mark.nightly
@pytest.mark.skipif(shutil.which("supermin") is None, reason="supermin is not installed")
def test_disks_on_volumes(tmp_path: Path) -> None:
    """A disk on a logical volume grows after its volume: real ones, in a machine whose kernel has device-mapper."""
    run_in_machine(tmp_path, Path(__file__).with_name("grow_volumes.py"), ["dm-mod", "dm-thin-pool", "loop"])
