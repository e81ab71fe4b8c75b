# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A resize on the same node with real images: the disk under the overlay is never touched before confirm, and every kill is mended."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import channel, exports, qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_edits, domain_xml, plan
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import holding, merging, moves, receiving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, step, write_atomically
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import MOVE, a_disk, a_server, uuid_of
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._node.kills import killed_everywhere

pytestmark = [
    pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is needed"),
    pytest.mark.skipif(not exports.HAS_NBD, reason="the Python library nbd (libnbd) is needed"),
]

SERVER = uuid_of(1)
MIB = 1024 * 1024
SIZE, LARGER = 2 * MIB, 3 * MIB
PEER = channel.Peer("node1", 22, "coldmove", "", "")


def silent(_progress: t.Any) -> None:
    """Nobody asks for the progress."""


def content(path: Path | str, image_format: str) -> bytes:
    """What the guest would read."""
    copy = Path(f"{path}.read")
    subprocess.run(["qemu-img", "convert", "-U", "-f", image_format, "-O", "raw", "--", path, copy], check=True, timeout=60)
    try:
        return copy.read_bytes()
    finally:
        copy.unlink()


class Host:
    """A libvirt that outlives the process that asks it: its one domain, which is off, lies in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def put(self, xml: str | None) -> None:
        write_atomically(self._file, {"xml": xml}, durable=False)

    def state(self, server: str) -> str | None:
        assert server == SERVER
        return "shutoff" if json.loads(self._file.read_text(encoding="utf-8"))["xml"] else None

    def xml(self, server: str) -> str:
        assert self.state(server)
        return str(json.loads(self._file.read_text(encoding="utf-8"))["xml"])

    def define(self, xml: str) -> None:
        self.put(xml)

    def undefine(self, server: str) -> None:
        assert self.state(server)
        self.put(None)

    def autostart(self, _server: str) -> bool:
        return False

    def set_autostart(self, _server: str, wanted: bool) -> bool:
        return wanted

    def bytes_written(self, _server: str, targets: t.Iterable[str]) -> dict[str, int]:
        return dict.fromkeys(targets, 0)

    # As the adapter has it, where a domain stands for itself.

    kept: t.ClassVar[dict[str, t.Any]] = {"managed_save": False, "snapshots": [], "checkpoints": []}

    def flags(self, _domain: str) -> dict[str, t.Any]:
        return self.kept

    def domain(self, server: str) -> str:
        return server

    def state_of(self, domain: str) -> str | None:
        return self.state(domain)

    def xml_of(self, domain: str, live: bool = False, secrets: bool = True) -> str:
        assert secrets
        assert not live
        return self.xml(domain)


class World:
    """One node with a server that is off: a root disk to be grown, swap to be made anew, swap to go."""

    def __init__(self, root: Path, image_format: str = "raw") -> None:
        self.root, self.images, self.format = root, root / "images", image_format
        self.images.mkdir()
        self.host = Host(root / "libvirt.json")
        self.disk = self.images / "vda"
        source = root / "content"
        source.write_bytes(os.urandom(SIZE // 2) + bytes(SIZE // 2))
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", image_format, source, self.disk], check=True, timeout=60)
        self.old = source.read_bytes()
        for name in ("vdb", "vdc"):
            (self.images / name).write_bytes(name.encode() * 1000)
        self.kept = root / "kept"
        shutil.copytree(self.images, self.kept)
        sizes = {"virtual_bytes": 1024 * 1024, "size_bytes": 4096, "allocated_bytes": 4096, "format": "raw", "role": "swap"}
        server: t.Any = a_server(
            disks=[
                a_disk("vda", str(self.disk), format=image_format, virtual_bytes=SIZE),
                a_disk("vdb", str(self.images / "vdb"), **sizes),
                a_disk("vdc", str(self.images / "vdc"), **sizes),
            ]
        )
        planned = plan.plan_files(server, str(self.images), str(self.images), MOVE, sizes={"vda": LARGER, "vdb": 65536, "vdc": 0}, in_place=True)
        assert planned["errors"] == []
        self.files: t.Any = planned["files"]
        self.edits = planned["edits"]
        disks = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type='{disk['format']}'/>"
            f"<source file='{disk['path']}'/><target dev='{disk['target']}'/></disk>"
            for disk in server["disks"]
        )
        self.definition = f"<domain><name>web1</name><uuid>{SERVER}</uuid><devices>{disks}</devices></domain>"
        self.reset()

    def reset(self) -> None:
        """The server as it was before anything."""
        for path in self.images.iterdir():
            path.unlink()
        for path in self.kept.iterdir():
            shutil.copy(path, self.images / path.name)
        self.host.put(self.definition)
        for path in (self.root / "lib" / "moves").glob("*/*"):
            path.unlink()
        self.inode = self.disk.stat().st_ino

    def journal(self) -> Journal:
        with step({"migration_uuid": MOVE, "migration_epoch": 1}) as entered:
            assert entered
            return entered

    # The steps of the role, in its order.

    def offer(self) -> bool:
        tokens, changed = receiving.offer(self.journal(), self.files, str(self.images), PEER)
        assert tokens == {}  # nothing crosses
        return changed

    def hold(self) -> bool:
        return holding.hold(self.journal(), self.host, SERVER, self.files)

    def commit(self) -> None:
        receiving.commit(self.journal(), self.files, receiving.Told({}, {}, {}, {}), silent)

    def define(self) -> None:
        edits: t.Any = {key: self.edits[key] for key in ("disks", "formats", "without")}  # type: ignore[literal-required]
        self.host.put(domain_edits.edit(self.definition, origin=MOVE, **edits))

    def restore(self) -> bool:
        return holding.restore(self.journal(), self.host, SERVER, self.files, self.definition, autostart=False)

    def discard(self) -> tuple[list[str], list[str]]:
        return receiving.discard(self.journal(), self.files)

    def merge(self) -> dict[str, t.Any]:
        return merging.merge(self.journal(), t.cast("t.Any", self.host), SERVER, self.files, 60, silent)

    def release(self) -> tuple[list[str], list[str]]:
        return holding.release(self.journal(), self.files)

    def resized(self) -> None:
        """Up to the start of the server in its new size."""
        for act in (self.offer, self.hold, self.commit, self.define):
            act()

    def write(self, what: bytes) -> bytes:
        """What the guest writes after its start; its whole disk then."""
        newest = self.root / "newest"
        newest.write_bytes(what + bytes(LARGER - len(what)))
        subprocess.run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", newest, self.overlay], check=True, timeout=60)
        return newest.read_bytes()

    @property
    def overlay(self) -> str:
        return str(self.files[0]["dest_path"])

    def names(self) -> set[str]:
        return {path.name for path in self.images.iterdir()}

    def look(self, side: str) -> dict[str, t.Any]:
        return moves.look(MOVE, self.host, SERVER, self.files, side)

    def disk_is_untouched(self) -> bool:
        return self.disk.stat().st_ino == self.inode and self.disk.read_bytes() == (self.kept / "vda").read_bytes()

    def is_as_before(self) -> bool:
        same = all((self.images / path.name).read_bytes() == path.read_bytes() for path in self.kept.iterdir())
        return same and self.names() == {"vda", "vdb", "vdc"} and self.host.xml(SERVER) == self.definition

    def is_resized(self) -> bool:
        swap = self.images / "vdb"
        held = [f"{name}.coldmove-held-{MOVE}" for name in ("vdb", "vdc")]
        image = qemu_img.info(self.overlay, "qcow2")
        return (
            self.names() == {"vda", Path(self.overlay).name, "vdb", *held}
            and all((self.images / name).read_bytes() == (self.kept / name[:3]).read_bytes() for name in held)
            and swap.read_bytes() == bytes(65536)
            and (image.virtual_bytes, image.backing_file, image.backing_format) == (LARGER, str(self.disk), self.format)
        )


@pytest.fixture(params=["raw", "qcow2"])
def world(root: Path, request: pytest.FixtureRequest) -> World:
    return World(root, request.param)


@pytest.fixture
def raw(root: Path) -> World:
    return World(root)


# --- there, back, and again


def test_the_server_goes_on_with_an_overlay_of_its_new_size(world: World) -> None:
    assert world.offer() is True
    assert world.offer() is False
    assert world.hold() is True
    assert world.hold() is False
    world.commit()
    world.commit()
    assert world.is_resized()
    assert world.disk_is_untouched()
    assert content(world.overlay, "qcow2") == world.old + bytes(LARGER - SIZE)
    status, base = os.stat(world.overlay), world.disk.stat()
    assert (status.st_uid, status.st_gid, status.st_mode) == (base.st_uid, base.st_gid, base.st_mode)


def test_the_way_back_leaves_what_was_there_and_nothing_else(world: World) -> None:
    world.resized()
    world.write(b"newest")
    world.host.undefine(SERVER)
    assert world.restore() is True
    assert world.discard() == ([world.overlay], [])  # the blank swap had to give way to the old one
    assert world.is_as_before()
    assert world.disk_is_untouched()
    assert world.restore() is False
    assert world.discard() == ([], [])


@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_the_way_back_from_every_step(raw: World, done: int) -> None:
    """A swap file that was only set aside comes back: it is not what the migration made."""
    for act in (raw.offer, raw.hold, raw.commit, raw.define)[:done]:
        act()
    if done == 4:
        raw.host.undefine(SERVER)
    raw.restore()
    assert raw.discard()[1] == []
    assert raw.is_as_before()
    raw.resized()  # and once more, the whole way
    assert raw.is_resized()


def test_what_the_node_says_of_both_of_its_sides(raw: World) -> None:
    def seen() -> list[tuple[str, dict[str, str]]]:
        return [(look["domain"], look["files"]) for look in (raw.look("source"), raw.look("dest"))]

    before = {"vda": "held", "vdb": "source", "vdc": "source"}
    assert seen() == [("defined", before), ("absent", before)]
    raw.offer()
    assert seen()[0][1] == {"vda": "final+held", "vdb": "source+temp", "vdc": "source"}
    raw.hold()
    assert seen() == [("absent", {"vda": "final+held", "vdb": "held+temp", "vdc": "held"})] * 2
    raw.commit()
    raw.define()
    after = {"vda": "final+held", "vdb": "held+source", "vdc": "held"}
    assert seen() == [("absent", after), ("defined", after)]


# --- killed


STEPS = ("offer", "hold", "commit")


@pytest.mark.parametrize("way", ["on", "back"])
@pytest.mark.parametrize("killed", STEPS)
def test_a_kill_between_any_two_steps_is_mended_in_both_directions(raw: World, killed: str, way: str) -> None:
    before = STEPS[: STEPS.index(killed)]

    def to_the_step() -> None:
        raw.reset()
        for name in before:
            getattr(raw, name)()

    def check(point: int) -> None:
        assert raw.disk_is_untouched(), point
        if way == "on":
            for name in STEPS:
                getattr(raw, name)()
            assert raw.is_resized(), point
        else:
            raw.restore()
            assert raw.discard()[1] == [], point
            assert raw.is_as_before(), (point, raw.names())
        to_the_step()

    to_the_step()
    assert killed_everywhere(raw.root, getattr(raw, killed), check) > 5


@pytest.mark.parametrize("killed", ["restore", "discard"])
def test_a_way_back_that_was_killed_is_taken_again(raw: World, killed: str) -> None:
    def to_the_step() -> None:
        raw.reset()
        raw.resized()
        raw.host.undefine(SERVER)
        if killed == "discard":
            raw.restore()

    def check(point: int) -> None:
        assert raw.disk_is_untouched(), point
        raw.restore()
        assert raw.discard()[1] == [], point
        assert raw.is_as_before(), (point, raw.names())
        to_the_step()

    to_the_step()
    assert killed_everywhere(raw.root, getattr(raw, killed), check) >= 3


def test_an_offer_alone_names_the_overlay_however_often_it_was_killed(raw: World) -> None:
    """Where no swap is made anew nothing is committed."""
    del raw.files[1:]

    def check(point: int) -> None:
        raw.offer()
        assert raw.names() == {"vda", "vdb", "vdc", Path(raw.overlay).name}, point
        assert raw.offer() is False
        raw.reset()

    assert killed_everywhere(raw.root, raw.offer, check) > 5


# --- what belongs to others


@pytest.mark.parametrize("key", [0, 1])
def test_a_file_of_somebody_else_under_a_new_name_is_never_overwritten(raw: World, key: int) -> None:
    theirs = Path(raw.overlay if key == 0 else raw.files[1]["held_path"])
    theirs.write_text("theirs", encoding="utf-8")
    with pytest.raises(ColdmoveError, match="exists"):
        raw.resized()
    assert theirs.read_text(encoding="utf-8") == "theirs"
    assert raw.host.xml(SERVER) == raw.definition
    raw.discard()
    assert theirs.read_text(encoding="utf-8") == "theirs"
    assert raw.disk_is_untouched()
    assert (raw.images / "vdb").read_bytes() == (raw.kept / "vdb").read_bytes()


def test_a_file_that_took_the_place_of_the_old_swap_is_kept(raw: World) -> None:
    raw.offer()
    raw.hold()
    theirs = raw.images / "vdb"
    theirs.write_text("theirs", encoding="utf-8")
    with pytest.raises(ColdmoveError, match="both are kept"):
        raw.commit()
    with pytest.raises(ColdmoveError, match="both are kept"):
        raw.restore()
    raw.discard()
    assert theirs.read_text(encoding="utf-8") == "theirs"


# --- confirm


def merged_content(world: World) -> bytes:
    return content(world.disk, world.format)


def points_at(world: World) -> tuple[str, str]:
    """Path and format of the root disk in the definition."""
    (disk,) = [disk for disk in domain_xml.read_disks(domain_xml.parse(world.host.xml(SERVER)), None) if disk["target"] == "vda"]
    return disk["path"], disk["format"]


def test_confirm_leaves_one_disk_of_the_new_size_with_the_newest_data(world: World) -> None:
    world.resized()
    newest = world.write(os.urandom(MIB) + b"newest")
    result = world.merge()
    assert result["merged"] == ["vda"]
    assert merged_content(world) == newest
    assert qemu_img.info(str(world.disk), world.format).virtual_bytes == LARGER
    assert qemu_img.info(str(world.disk), world.format).backing_file is None
    assert points_at(world) == (str(world.disk), world.format)
    assert domain_xml.origin(world.host.xml(SERVER)) == MOVE
    assert world.look("dest")["files"]["vda"] == "held+merged"
    deleted, kept = world.release()
    assert (len(deleted), kept) == (2, [])
    assert world.names() == {"vda", "vdb"}
    assert world.merge()["merged"] == ["vda"]
    assert merged_content(world) == newest


def test_a_merge_that_was_killed_is_made_again(raw: World) -> None:
    raw.resized()
    newest = raw.write(b"newest")
    overlay, base, xml = Path(raw.overlay).read_bytes(), raw.disk.read_bytes(), raw.host.xml(SERVER)
    journal = raw.journal().directory / "journal.json"
    noted = json.loads(journal.read_text(encoding="utf-8"))

    def again() -> None:
        """The same files again, which the journal knows by their inodes: a deleted one is made anew and noted."""
        gone = not os.path.exists(raw.overlay)
        Path(raw.overlay).write_bytes(overlay)
        raw.disk.write_bytes(base)
        raw.host.put(xml)
        if gone:
            noted["owned"][raw.overlay] = os.stat(raw.overlay).st_ino
        journal.write_text(json.dumps(noted), encoding="utf-8")

    def check(point: int) -> None:
        path, image_format = points_at(raw)
        assert content(path, image_format) == newest, point  # whatever the server is on now, it has its newest data
        raw.merge()
        assert (merged_content(raw), points_at(raw)) == (newest, (str(raw.disk), "raw")), point
        assert not os.path.exists(raw.overlay)
        again()

    assert killed_everywhere(raw.root, raw.merge, check) >= 4


def test_what_is_half_merged_is_hidden_by_the_overlay(raw: World) -> None:
    """qemu-img was killed in the middle: part of the newest data is in the disk already, which has its new size."""
    raw.resized()
    newest = raw.write(os.urandom(2 * MIB))
    with open(raw.disk, "r+b") as stream:
        stream.truncate(LARGER)
        stream.write(newest[: MIB + 5])
    assert content(raw.overlay, "qcow2") == newest
    raw.merge()
    assert merged_content(raw) == newest


def test_a_disk_that_somebody_changed_is_not_merged(raw: World) -> None:
    raw.resized()
    raw.write(b"newest")
    snapshot = str(raw.images / "snapshot")
    raw.host.put(domain_edits.edit(raw.host.xml(SERVER), disks={"vda": snapshot}))
    before = Path(raw.overlay).read_bytes()
    with pytest.raises(ColdmoveError, match="a snapshot") as caught:
        raw.merge()
    assert snapshot in str(caught.value)
    assert Path(raw.overlay).read_bytes() == before
    assert raw.disk_is_untouched()


def test_a_server_that_is_on_its_disk_already_is_not_merged_again(raw: World) -> None:
    """Killed after the new definition and before the note: whatever the guest wrote to its disk since stays."""
    raw.resized()
    raw.write(b"newest")
    xml = raw.host.xml(SERVER)
    raw.host.put(domain_edits.edit(xml, disks={"vda": str(raw.disk)}, formats={"vda": "raw"}))
    raw.disk.write_bytes(b"later" + bytes(LARGER - 5))
    raw.merge()
    assert raw.disk.read_bytes() == b"later" + bytes(LARGER - 5)
    assert not os.path.exists(raw.overlay)


def test_an_overlay_that_is_not_this_migration_s_is_left_alone(raw: World) -> None:
    raw.resized()
    newest = raw.write(b"newest")
    shutil.copy(raw.overlay, f"{raw.overlay}.copy")
    os.replace(f"{raw.overlay}.copy", raw.overlay)
    raw.merge()
    assert merged_content(raw) == newest
    assert os.path.exists(raw.overlay)


@pytest.mark.parametrize("made", [{"managed_save": True}, {"snapshots": ["before"]}, {"checkpoints": ["backup"]}])
def test_what_the_owner_made_since_is_not_lost_in_silence(raw: World, made: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    raw.resized()
    newest = raw.write(b"newest")
    with monkeypatch.context() as patched:
        patched.setattr(Host, "kept", {**Host.kept, **made})
        with pytest.raises(ColdmoveError, match="would lose. Nothing was merged") as caught:
            raw.merge()
    assert next(iter(made)).replace("_", " ") in str(caught.value)
    assert raw.disk_is_untouched()
    raw.merge()
    assert merged_content(raw) == newest


def test_a_snapshot_that_libvirt_does_not_know_of_is_not_lost_either(raw: World) -> None:
    raw.resized()
    raw.write(b"newest")
    subprocess.run(["qemu-img", "snapshot", "-c", "before", raw.overlay], check=True, timeout=60)
    with pytest.raises(ColdmoveError, match=r"snapshots within .* would lose"):
        raw.merge()
    assert raw.disk_is_untouched()
    assert points_at(raw)[0] == raw.overlay


def no_room(path: str) -> t.Any:
    return os.statvfs_result((4096, 4096, 1000, 0, 0, 10, 10, 10, 0, 255))


def test_a_full_disk_is_told_before_anything_is_written(raw: World, monkeypatch: pytest.MonkeyPatch) -> None:
    raw.resized()
    newest = raw.write(b"newest")
    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", no_room)
        with pytest.raises(ColdmoveError, match="make room, then run the same command again"):
            raw.merge()
    assert raw.disk_is_untouched()
    assert points_at(raw)[0] == raw.overlay
    raw.merge()
    assert merged_content(raw) == newest


def test_a_full_disk_is_in_nobody_s_way_once_all_is_merged(raw: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the note: nothing is to be written any more, and the overlay that goes makes room."""
    raw.resized()
    raw.write(b"newest")
    raw.host.put(domain_edits.edit(raw.host.xml(SERVER), disks={"vda": str(raw.disk)}, formats={"vda": "raw"}))
    monkeypatch.setattr(os, "statvfs", no_room)
    assert raw.merge()["merged"] == ["vda"]
    assert not os.path.exists(raw.overlay)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_that_fills_up_in_the_middle_loses_nothing(raw: World, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = raw.root / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "coldmove-test", str(mount)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode()}")
    try:
        shutil.rmtree(raw.images)
        raw.images.symlink_to(mount)
        raw.kept.joinpath("vda").write_bytes(b"")  # all holes
        os.truncate(raw.kept / "vda", SIZE)
        for name in ("vdb", "vdc"):
            shutil.copy(raw.kept / name, mount / name)
        with open(mount / "vda", "wb") as stream:
            stream.truncate(SIZE)
        raw.inode = raw.disk.stat().st_ino
        raw.resized()
        newest = raw.write(os.urandom(2 * MIB))
        with open(mount / "filler", "wb") as stream:
            stream.write(bytes(3 * MIB))
        monkeypatch.setattr(merging, "_check_room", lambda _file: None)
        with pytest.raises(ColdmoveError, match="cannot merge"):
            raw.merge()
        (mount / "filler").unlink()
        assert points_at(raw) == (raw.overlay, "qcow2")
        assert content(raw.overlay, "qcow2") == newest
        raw.merge()
        assert merged_content(raw) == newest
    finally:
        subprocess.run(["umount", str(mount)], check=True)
