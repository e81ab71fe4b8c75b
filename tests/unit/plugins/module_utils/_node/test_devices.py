# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of a transfer between real block devices (loop devices). What LVM has to do with it: tests/integration/move_devices.py."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import block_device, content_digest
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import qemu_img as qemu_images
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import devices
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import files as nodefiles
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._node import test_transfer as transfer

move = transfer.move
pytestmark = [
    *transfer.pytestmark,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has loop devices"),
    pytest.mark.skipif(not all(map(shutil.which, ("losetup", "wipefs", "blkdiscard"))), reason="losetup, wipefs and blkdiscard (util-linux) are needed"),
]

MIB = 1024 * 1024
SIZE = 8 * MIB


def run(*words: str | Path) -> str:
    return subprocess.run([*map(str, words)], check=True, timeout=transfer.PATIENCE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout.strip()


class Loops:
    """Block devices, each with the file that it shows; they go when the test ends."""

    def __init__(self, root: Path, stack: contextlib.ExitStack) -> None:
        self._root, self._stack = root, stack

    def make(self, name: str, size: int, content: bytes = b"") -> str:
        """Full of somebody's old data, unless something else is told."""
        file = self._root / f"{name}.img"
        file.write_bytes(content.ljust(size, b"x"))
        device = run("losetup", "--find", "--show", file)
        self._stack.callback(run, "losetup", "--detach", device)
        return device


@pytest.fixture
def loops(root: Path) -> t.Iterator[Loops]:
    with contextlib.ExitStack() as stack:
        yield Loops(root, stack)


def a_guests_disk(seed: int = 1) -> bytes:
    return transfer.noise(100_000, seed) + bytes(SIZE - 200_000) + transfer.noise(100_000, seed + 1)


def add(move: transfer.Move, source: str, dest: str, image_format: str = "raw", **more: t.Any) -> dict[str, t.Any]:
    move.add(source, image_format, **more)
    file = move.files[-1]
    file.update(id=f"vd{chr(ord('a') + len(move.files) - 1)}", device="named", volume="", thin_pool="", identity=[])
    file.update(source_path=source, held_path=source, dest_path=dest, temp_path=dest)
    length = qemu_images.length_of(source)
    file.update(size_bytes=length, allocated_bytes=length, virtual_bytes=more.get("virtual_bytes", length))
    return file


def named(move: transfer.Move, file: dict[str, t.Any]) -> str:
    """As the next step finds it: a commit is the work of another process."""
    move.journal.data = Journal(move.journal.uuid).data
    return devices.names_of(move.journal, file)


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def test_the_content_arrives_on_used_devices_and_nothing_old_shows(loops: Loops, move: transfer.Move) -> None:
    """A raw device that is larger, and a qcow2 image whose device on the source has more behind it."""
    raw = add(move, loops.make("raw", SIZE, a_guests_disk()), loops.make("raw-there", SIZE + MIB))
    image = loops.make("qcow2", 3 * SIZE)
    file = move.root / "content"
    file.write_bytes(a_guests_disk(3))
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", file, image)
    qcow2 = add(move, image, loops.make("qcow2-there", 2 * SIZE), "qcow2", virtual_bytes=SIZE)
    before = {path: content(path) for path in (raw["source_path"], image)}
    assert named(move, raw) == "source"
    offered = move.offer()["exports"]
    assert named(move, raw) == "temp"
    assert not move.offer()["changed"]
    assert move.send(offered, state="reachable") == {"changed": False}
    sent = move.send(offered)["job"]["result"]
    move.commit(sent["digests"])
    assert named(move, raw) == named(move, qcow2) == "final"
    assert content(raw["dest_path"]) == before[raw["source_path"]] + bytes(MIB)
    run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", file, qcow2["dest_path"])
    assert {path: content(path) for path in before} == before
    assert move.offer()["exports"] == {}


def test_other_content_gets_no_further(loops: Loops, move: transfer.Move) -> None:
    file = add(move, loops.make("raw", SIZE, a_guests_disk()), loops.make("there", SIZE))
    sent = move.send(move.offer()["exports"])["job"]["result"]
    with open(file["dest_path"], "r+b") as stream:
        stream.write(b"changed")
    with pytest.raises(ColdmoveError, match="content of vda differs"):
        move.commit(sent["digests"])
    assert named(move, file) == "temp"


def test_swap_has_nobodys_old_data_and_a_qcow2_image_grows_after_its_proof(loops: Loops, move: transfer.Move) -> None:
    swap = add(move, loops.make("swap", MIB), loops.make("swap-there", SIZE), way="blank")
    image = loops.make("qcow2", 2 * SIZE)
    run("qemu-img", "create", "-q", "-f", "qcow2", image, str(MIB))
    grown = add(move, image, loops.make("qcow2-there", 4 * SIZE), "qcow2", virtual_bytes=MIB, grow_to_bytes=2 * SIZE)
    move.commit(move.send(move.offer()["exports"])["job"]["result"]["digests"])
    assert content(swap["dest_path"]) == bytes(SIZE)
    assert qemu_images.info(grown["dest_path"], "qcow2", devices=True).virtual_bytes == 2 * SIZE


def test_what_came_to_nothing_leaves_an_empty_device_that_can_be_taken_again(loops: Loops, move: transfer.Move) -> None:
    """Also after a start of the node anew what it had taken in is not used."""
    source = loops.make("raw", SIZE)
    run("mkswap", "-q", source)
    file = add(move, source, loops.make("there", SIZE))
    first = move.offer()["exports"]
    move.send(first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodefiles, "boot_mark", lambda: "another boot")
        again = move.offer()["exports"]
        assert again != first
    assert block_device.signatures(file["dest_path"]) == ["swap"]
    move.journal.note(devices={"vda": {**move.journal.data["devices"]["vda"], "boot": nodefiles.boot_mark()}})
    given_up = move.discard()
    assert given_up["deleted"] == [] and "have been wiped" in given_up["kept"][0]
    assert block_device.signatures(file["dest_path"]) == [] and named(move, file) == "missing"
    assert move.discard()["kept"] == []
    move.send(move.offer()["exports"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda loops: "/dev/null", "is no block device"),
        (lambda loops: loops.make("there", SIZE - MIB), "are needed"),
        (lambda loops: loops.make("there", SIZE, b"QFI\xfb"), "is not empty, it holds qcow2"),
    ],
)
def test_a_device_that_will_not_do_is_not_touched(loops: Loops, move: transfer.Move, make: t.Any, words: str) -> None:
    dest = make(loops)
    before = content(dest) if dest != "/dev/null" else b""
    add(move, loops.make("raw", SIZE), dest)
    with pytest.raises(ColdmoveError, match=words):
        move.offer()
    assert move.discard() == {"changed": False, "deleted": [], "kept": []}
    assert (content(dest) if dest != "/dev/null" else b"") == before


def test_what_was_added_to_the_source_since_the_plan_would_not_cross(loops: Loops) -> None:
    path = loops.make("raw", SIZE)
    devices.check_source({"source_path": path, "size_bytes": SIZE})
    with pytest.raises(ColdmoveError, match="begin the move anew"):
        devices.check_source({"source_path": path, "size_bytes": SIZE - MIB})


def test_only_so_much_of_a_raw_device_is_served(loops: Loops) -> None:
    path = loops.make("raw", SIZE, a_guests_disk())
    whole, part = (content_digest.of_image(path, "raw", lambda *_: None, size) for size in (SIZE, MIB))
    assert (whole["virtual_bytes"], part["virtual_bytes"]) == (SIZE, MIB)
    assert whole["digest"] == content_digest.of_image(path, "raw", lambda *_: None)["digest"] != part["digest"]
