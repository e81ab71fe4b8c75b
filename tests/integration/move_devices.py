# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by test_devices.py in a machine of its own: both ends of a move of disks on real block devices and logical volumes. Its two ends are two groups."""

from __future__ import annotations

import subprocess
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import block_device, libvirt_host, lvm, qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import devices, holding, moves, paths, receiving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import files as nodefiles
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

MIB = 1024 * 1024
SERVER = "6b0f7c3e-0000-4000-8000-000000000001"
Json = dict[str, Any]


def run(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout.strip()


def loop(name: str, size: int) -> str:
    """A block device that begins with what somebody has left on it."""
    with open(f"/tmp/{name}", "wb") as stream:
        stream.write(b"x" * min(size, 24 * MIB))
        stream.truncate(size)
    return run("losetup", "--find", "--show", f"/tmp/{name}")


def says(words: str, act: Any, *arguments: Any) -> None:
    """It is refused, with such words."""
    try:
        act(*arguments)
    except ColdmoveError as exc:
        assert words in str(exc), exc
    else:
        raise AssertionError(f"not refused: {words}")


class Off:
    """A server that is off, and defined once."""

    def __init__(self) -> None:
        self.defined: str | None = "<domain/>"

    def state(self, _server: str) -> str | None:
        return "shutoff" if self.defined else None

    def xml(self, _server: str) -> str:
        return "<domain/>"

    def autostart(self, _server: str) -> bool:
        return False

    def set_autostart(self, _server: str, _wanted: bool) -> bool:
        return False

    def define(self, xml: str) -> None:
        self.defined = xml

    def undefine(self, _server: str) -> None:
        self.defined = None


def journal() -> Journal:
    made = Journal(str(uuid.uuid4()))
    made.directory.mkdir(parents=True)
    return made


def a_file(source: str, dest: str, device: str, **more: Any) -> Json:
    found: Json = {"id": "vda", "kind": "disk", "format": "raw", "way": "copy", "grow_to_bytes": 0, "volume": "", "thin_pool": ""}
    found.update(source_path=source, held_path=source, dest_path=dest, temp_path=dest, device=device, identity=block_device.identity(source))
    length = qemu_img.length_of(source)
    return {**found, "size_bytes": length, "virtual_bytes": length, "allocated_bytes": length, **more}


def accept(here: Journal, file: Json) -> None:
    """What offer() does with a device, without the channel."""
    devices.take(here, file)
    devices.make_blank(here, file)


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def main() -> None:
    paths.STATE_DIR = Path("/tmp/state")
    (paths.STATE_DIR / "moves").mkdir(parents=True)
    for group in ("vg-a", "vg-b"):
        run("vgcreate", "-qq", "-s", "4M", group, loop(group, 120 * MIB))
    run("lvcreate", "-qq", "-L", "10M", "-n", "web-root", "vg-a")
    with libvirt_host.connected("test:///default") as host:
        wrong = [part.__name__ for part in PARTS if not went_well(part, host)]
    assert not wrong, wrong


def went_well(part: Callable[[libvirt_host.LibvirtHost], None], host: libvirt_host.LibvirtHost) -> bool:
    """Each of them is tried: the machine takes a minute to boot."""
    try:
        part(host)
        return True
    except Exception:
        traceback.print_exc()
        return False


def of_group(group: str, **more: Any) -> Json:
    return a_file("/dev/vg-a/web-root", f"/dev/{group}/web-root", "volume", **{"volume": f"{group}/web-root", **more})


def what_a_volume_is(host: libvirt_host.LibvirtHost) -> None:
    facts = devices.facts_of("/dev/mapper/vg--a-web--root")
    assert (facts["logical_volume"], facts["thin_pool"]) == ("vg-a/web-root", "")
    assert len(facts["identity"]) == 1 and facts["identity"][0].startswith("dm:LVM-")
    assert "no volume group vg-c" in devices.problems(host, [of_group("vg-c")])[0]
    assert devices.problems(host, [of_group("vg-b", size_bytes=150 * MIB)]) == [
        "volume group vg-b has 116.0 MiB free, and 152.0 MiB are needed for the server's disks"
    ]
    assert devices.problems(host, [of_group("vg-b")]) == []
    two = [of_group("vg-b", size_bytes=60 * MIB), {**of_group("vg-b", size_bytes=60 * MIB, volume="vg-b/other", dest_path="/dev/vg-b/other"), "id": "vdb"}]
    assert "120.0 MiB are needed" in devices.problems(host, two)[0]
    assert "is the same one on both nodes" in devices.problems(host, [of_group("vg-a", volume="vg-a/new", dest_path="/dev/vg-a/new")])[0]
    run("lvcreate", "-qq", "-an", "-L", "4M", "-n", "web-root", "vg-b")
    assert "vg-b/web-root exists already" in devices.problems(host, [of_group("vg-b")])[0]  # though it is not active
    here = journal()
    says("exists already", devices.take, here, of_group("vg-b"))
    assert receiving.discard(here, [of_group("vg-b")]) == ([], [])
    run("lvremove", "-qq", "-y", "vg-b/web-root")


def a_volume_is_made_and_removed(host: libvirt_host.LibvirtHost) -> None:
    """Behind the source's size it has nobody's old data. Only this migration removes it, and only if it is the very one."""
    here, file = journal(), of_group("vg-b", size_bytes=10 * MIB, virtual_bytes=10 * MIB)
    assert devices.names_of(here, file) == "source"
    accept(here, file)
    accept(here, file)
    assert qemu_img.length_of(file["dest_path"]) == 12 * MIB and content(file["dest_path"])[10 * MIB :] == bytes(2 * MIB)
    assert devices.names_of(here, file) == "temp" and devices.is_ready(here, file) and not devices.is_complete(here, file)
    other = journal()
    assert devices.problems(host, [file]) and receiving.discard(other, [file]) == ([], [])
    says("exists already", devices.take, other, file)
    devices.complete(here, file)
    assert devices.names_of(here, file) == "final"
    devices.begin_anew(here, file)
    assert devices.names_of(here, file) == "temp"
    assert receiving.discard(here, [file]) == ([file["dest_path"]], [])
    assert receiving.discard(here, [file]) == ([], [])
    assert devices.names_of(here, file) == "missing" and lvm.find("vg-b", "web-root") is None
    accept(here, file)
    run("lvremove", "-qq", "-y", "vg-b/web-root")
    assert devices.names_of(here, file) == "missing"
    run("lvcreate", "-qq", "-L", "4M", "-n", "web-root", "vg-b")
    deleted, kept = receiving.discard(here, [file])
    assert not deleted and "not the volume that migration" in kept[0]
    run("lvremove", "-qq", "-y", "vg-b/web-root")


def an_operators_device(host: libvirt_host.LibvirtHost) -> None:
    """It must be empty, large enough, and free; it is never removed, and is empty again when the move came to nothing."""
    path = loop("named", 16 * MIB)
    file = a_file("/dev/vg-a/web-root", path, "named")
    assert devices.problems(host, [file]) == []
    assert "is the very device" in devices.problems(host, [a_file("/dev/vg-a/web-root", "/dev/vg-a/web-root", "named")])[0]
    assert "and 33554432 (32.0 MiB) are needed" in devices.problems(host, [{**file, "virtual_bytes": 32 * MIB}])[0]
    run("mke2fs", "-q", path) if Path("/sbin/mke2fs").exists() else run("mkswap", "-q", path)
    assert "is not empty, it holds" in devices.problems(host, [file])[0]
    run("wipefs", "-q", "-a", path)
    run("vgcreate", "-qq", "vg-x", path)
    assert "is in use on this node" in devices.problems(host, [file])[0] or "LVM2_member" in devices.problems(host, [file])[0]
    run("vgremove", "-qq", "vg-x")
    run("pvremove", "-qq", path)
    here, other = journal(), journal()
    accept(here, file)
    assert content(path)[12 * MIB :] == bytes(4 * MIB)
    assert f"is kept for the migration {here.uuid}" in devices.problems(host, [file])[0]
    says("is kept for the migration", devices.take, other, file)
    with open(path, "r+b") as stream:
        stream.write(b"QFI\xfb" + b"y" * 4096)
    assert "holds qcow2" in devices.problems(host, [file])[1]
    deleted, kept = receiving.discard(here, [file])
    assert not deleted and "have been wiped" in kept[0]
    assert devices.problems(host, [file]) == [] and receiving.discard(here, [file]) == ([], [])
    accept(other, file)
    run("mkswap", "-q", path)
    boot_mark = nodefiles.boot_mark
    nodefiles.boot_mark = lambda: "another"
    deleted, kept = receiving.discard(other, [file])
    nodefiles.boot_mark = boot_mark
    assert not deleted and "Empty it with wipefs" in kept[0] and block_device.signatures(path) == ["swap"]


def a_qcow2_image_gets_room_for_its_tables(_host: libvirt_host.LibvirtHost) -> None:
    """A volume for an image that grows is as large as that can become; the image on it is new and blank, whatever was there."""
    here, file = journal(), of_group("vg-b", format="qcow2", virtual_bytes=8 * MIB, grow_to_bytes=24 * MIB)
    accept(here, file)
    length = qemu_img.length_of(file["dest_path"])
    assert qemu_img.measured(24 * MIB) <= length < qemu_img.measured(24 * MIB) + 4 * MIB
    assert qemu_img.info(file["dest_path"], "qcow2", devices=True).virtual_bytes == 8 * MIB
    receiving._commit_device(here, file, True)
    receiving._commit_device(here, file, False)
    assert qemu_img.info(file["dest_path"], "qcow2", devices=True).virtual_bytes == 24 * MIB
    receiving.discard(here, [file])


def a_thin_volume_stays_thin(_host: libvirt_host.LibvirtHost) -> None:
    """Where the group has the pool. Elsewhere it is made whole."""
    run("lvcreate", "-qq", "-L", "20M", "--thinpool", "pool", "vg-b")
    here, file = journal(), of_group("vg-b", thin_pool="pool")
    accept(here, file)
    made = lvm.find("vg-b", "web-root")
    assert made is not None and made.pool == "pool" and made.tags == (f"coldmove-{here.uuid}",)
    assert receiving.discard(here, [file])[0] == [file["dest_path"]]
    file = {**file, "thin_pool": "elsewhere"}
    accept(here, file)
    made = lvm.find("vg-b", "web-root")
    assert made is not None and made.pool == ""
    receiving.discard(here, [file])


def the_held_volume(_host: libvirt_host.LibvirtHost) -> None:
    """It is known by its UUID: another one of its name is neither used nor removed. Its snapshots would go with it, so it stays then."""
    here, file, host = journal(), of_group("vg-b"), Off()
    says("when the move was planned", holding.hold, here, host, SERVER, [{**file, "size_bytes": 4 * MIB}])
    assert host.defined
    assert holding.hold(here, host, SERVER, [file]) and not holding.hold(here, host, SERVER, [file])
    assert devices.names_of(here, file) == "held" and not host.defined
    assert moves._names_of(here, file) == "held"
    run("lvcreate", "-qq", "-s", "-L", "4M", "-n", "snap", "vg-a/web-root")
    assert "it has snapshots" in holding.release(here, [file])[1][0]
    run("lvremove", "-qq", "-y", "vg-a/snap")
    users = {block_device.number("/dev/vg-a/web-root") or "": "other"}
    assert "the domain other uses it" in holding.release(here, [file], users)[1][0]
    run("lvrename", "-qq", "vg-a", "web-root", "kept")
    run("lvcreate", "-qq", "-L", "12M", "-n", "web-root", "vg-a")
    assert devices.names_of(here, file) == "missing"
    says("is another device than the one", holding.restore, here, host, SERVER, [file], None, False)
    assert "not the volume that migration" in holding.release(here, [file])[1][0]
    run("lvremove", "-qq", "-y", "vg-a/web-root")
    run("lvrename", "-qq", "vg-a", "kept", "web-root")
    assert holding.restore(here, host, SERVER, [file], None, False) and host.defined
    assert devices.names_of(here, file) == "source"
    again = journal()
    holding.hold(again, host, SERVER, [file])
    assert holding.release(again, [file]) == ([file["source_path"]], [])
    assert holding.release(again, [file]) == ([], []) and devices.names_of(again, file) == "missing"


PARTS = (
    what_a_volume_is,
    a_volume_is_made_and_removed,
    an_operators_device,
    a_qcow2_image_gets_room_for_its_tables,
    a_thin_volume_stays_thin,
    the_held_volume,
)

if __name__ == "__main__":
    main()
