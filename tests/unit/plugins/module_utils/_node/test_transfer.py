# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of a transfer with real qemu-nbd and qemu-img on one machine. Instead of ssh, each offered socket is a link to the export's own."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import socket as sockets
import subprocess
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import aids, channel, content_digest, exports
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import qemu_img as qemu_images
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import blobs
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import digesting, mirroring, paths, progress, receiving, sending, slots
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import files as nodefiles
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal
from ansible_collections.coldmove.libvirt.plugins.modules.virt_disk_receive import receive
from ansible_collections.coldmove.libvirt.plugins.modules.virt_disk_send import send
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import MOVE
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._node.kills import killed_everywhere
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._node.open_files import users_of

pytestmark = [
    pytest.mark.skipif(not all(map(shutil.which, ("qemu-nbd", "qemu-img", "setpriv"))), reason="qemu-nbd, qemu-img and setpriv are needed"),
    pytest.mark.skipif(not exports.HAS_NBD, reason="the Python library nbd (libnbd) is needed"),
]

MIB = 1024 * 1024
PATIENCE = 60  # what a loaded machine may take


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def qemu_io(image: Path, words: str) -> None:
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", words, str(image)], check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def sparse(path: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    with open(path, "wb") as stream:
        stream.truncate(size)
        for offset, piece in pieces:
            stream.seek(offset)
            stream.write(piece)
    return path


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def allocated(path: Path | str) -> int:
    return os.stat(path).st_blocks * 512


def until(true: t.Callable[[], t.Any]) -> t.Any:
    deadline = time.monotonic() + PATIENCE
    while not (value := true()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return value


class Move:
    """Both ends of one migration. Files are made on the source under their held names."""

    def __init__(self, root: Path, journal: Journal) -> None:
        self.root, self.journal = root, journal
        self.source, self.dest = root / "source", root / "dest"
        self.source.mkdir()
        self.dest.mkdir()
        self.files: list[dict[str, t.Any]] = []

    def add(self, name: str, image_format: str = "raw", **more: t.Any) -> Path:
        """The path under which the content of a new file is to be put."""
        own, final = str(self.source / name), str(self.dest / more.pop("folder", "") / name)
        held, temporary = f"{own}.coldmove-held-{MOVE}", f"{final}.coldmove-{MOVE}"
        entry = {
            "id": name,
            "kind": "disk",
            "format": image_format,
            "source_path": own,
            "held_path": held,
            "dest_path": final,
            "temp_path": temporary,
            "way": "copy",
            "grow_to_bytes": 0,
        }
        self.files.append({**entry, **more})
        return Path(held)

    def measure(self) -> None:
        for file in self.files:
            if file["way"] == "copy":
                sizes = {"size_bytes": os.path.getsize(file["held_path"]), "allocated_bytes": allocated(file["held_path"])}
                file.update({**sizes, "virtual_bytes": sizes["size_bytes"], **file})

    def offer(self, precopy: bool | None = None) -> dict[str, t.Any]:
        self.measure()
        where = {"address": "node1", "port": 22, "ciphers": [], "instances_path": str(self.dest)}
        return receive(self.journal, {"state": "offered", "files": self.files, **where, "contents": {}, "precopy": precopy})

    def send(self, tokens: dict[str, str], **more: t.Any) -> dict[str, t.Any]:
        common = {"state": "sent", "files": self.files, "exports": tokens, "verify": True, "bandwidth_limit": 0, "stall_timeout": PATIENCE}
        return send(self.journal, {**common, "wait_seconds": PATIENCE, "attach": False, **more})

    def commit(self, digests: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
        lengths = {file["id"]: os.path.getsize(file["held_path"]) for file in self.files if file["way"] == "copy"}  # as send() tells them
        common = {"state": "committed", "files": self.files, "digests": digests, "lengths": lengths, "verify": True, "owners": {}, "mirrored": {}}
        return receive(self.journal, {**common, "wait_seconds": PATIENCE, "attach": False, **more})

    def discard(self) -> dict[str, t.Any]:
        return receive(self.journal, {"state": "absent", "files": self.files})

    def carry(self, **more: t.Any) -> dict[str, t.Any]:
        """The whole way; what the source told."""
        sent = self.send(self.offer()["exports"], **more)
        result = dict(sent["job"]["result"])
        self.commit(result["digests"])
        return result

    def export_pid(self, file_id: str) -> int:
        token = self.journal.data["tokens"][file_id]
        pid = exports.export_pid(paths.EXPORTS_DIR / token, paths.EXPORTS_DIR / f"{token}.pid")
        assert pid
        return pid

    def same(self, name: str) -> bool:
        (file,) = [file for file in self.files if file["id"] == name]
        return Path(file["held_path"]).read_bytes() == Path(file["dest_path"]).read_bytes()


@pytest.fixture
def move(root: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Move]:
    def keep_connected(_peer: t.Any, offers: dict[str, str], report: t.Any) -> None:
        for there, here in offers.items():
            link = paths.OFFERS_DIR / Path(there).name
            link.unlink(missing_ok=True)
            link.symlink_to(here)
        report({"connected": True, "error": "", "received_before": 7, "ssh_pid": 0})
        time.sleep(PATIENCE)

    monkeypatch.setattr(channel, "keep_connected", keep_connected)
    monkeypatch.setattr(sending, "_RETRY_SECONDS", 0.1)
    made = Move(root, journal)
    yield made
    for name in ("send", "slot"):
        Job(journal, name).cancel()
    for file in made.files:
        file["size_bytes"] = 0
    made.discard()


# --- the content arrives


def test_every_kind_of_file_arrives_whole_and_sparse_and_the_source_is_only_read(move: Move) -> None:
    pieces = [(0, noise(70_000)), (9 * MIB + 512, noise(MIB, 2)), (24 * MIB - 5, b"tail!")]
    raw = sparse(move.add("vda"), 24 * MIB, *pieces)
    qcow2 = move.add("vdb", "qcow2", virtual_bytes=24 * MIB)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, qcow2)
    fresh = move.add("vdc", "qcow2", virtual_bytes=64 * MIB)
    qemu_img("create", "-f", "qcow2", fresh, str(64 * MIB))
    assert fresh.stat().st_size % 512  # as qemu-img makes it
    move.add("nvram", kind="nvram").write_bytes(noise(131_072, 3))
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in move.source.iterdir()}
    result = move.carry()
    assert all(move.same(file["id"]) for file in move.files)
    assert {path.name for path in move.dest.iterdir()} == {"vda", "vdb", "vdc", "nvram"}
    assert allocated(move.dest / "vda") <= allocated(raw) + 256 * 1024
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in move.source.iterdir()} == before
    assert result["retries"] == 0
    assert result["digests"]["vda"]["digest"] == result["digests"]["vdb"]["digest"]
    assert receiving.running_exports(move.journal) == 0
    assert not any(paths.EXPORTS_DIR.iterdir())
    assert not any(paths.OFFERS_DIR.iterdir())


@pytest.mark.parametrize("compression", ["zstd", "auto"])
def test_what_crosses_compressed_is_the_same_and_as_sparse(move: Move, compression: str) -> None:
    raw = sparse(move.add("vda"), 64 * MIB, (0, noise(70_000)), (9 * MIB + 512, b"text " * MIB), (64 * MIB - 5, b"tail!"))
    move.add("nvram", kind="nvram").write_bytes(noise(131_072, 3))
    tokens = move.offer()["exports"]
    assert move.send(tokens, state="reachable", compression=compression) == {"changed": False}
    result = move.send(tokens, compression=compression)["job"]["result"]
    assert result["compression"].startswith(f"compression {compression}")
    assert result["retries"] == 0
    move.commit(result["digests"])
    assert move.same("vda") and move.same("nvram")
    assert allocated(move.dest / "vda") <= allocated(raw) + 256 * 1024


def test_a_raw_disk_in_which_the_guest_wrote_a_qcow2_header_stays_raw(move: Move) -> None:
    secret = sparse(move.root / "secret", MIB, (0, b"secret" * 1000))
    evil = move.root / "evil"
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", secret, evil)
    disk = sparse(move.add("vda"), 4 * MIB, (0, evil.read_bytes()))
    assert disk.read_bytes()[:4] == b"QFI\xfb"
    result = move.carry()
    assert move.same("vda")
    assert result["digests"]["vda"]["virtual_bytes"] == 4 * MIB


def test_a_swap_disk_is_blank_on_dest(move: Move) -> None:
    sparse(move.add("swap", "qcow2", way="blank", virtual_bytes=8 * MIB, size_bytes=0, allocated_bytes=0), MIB, (0, noise(1000)))
    assert move.offer()["exports"] == {}
    move.commit({})
    digest = content_digest.of_image(str(move.dest / "swap"), "qcow2", lambda *_: None)
    assert (digest["virtual_bytes"], digest["read_bytes"]) == (8 * MIB, 0)


# --- mirrored while the guest ran: the dest has images of the disks' own formats


def mirror(move: Move, offered: dict[str, str], content: Path) -> None:
    """What QEMU's mirror does: what the guest sees is written into each export."""
    for name, token in offered.items():
        target = f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={paths.OFFERS_DIR / token},file.export={name}"
        qemu_img("convert", "-n", "-f", "raw", "--target-image-opts", content, target)


def a_disk(move: Move, image_format: str) -> Path:
    """A disk on the source, and what its guest sees."""
    content = sparse(move.root / "content", 8 * MIB, (0, noise(70_000)), (5 * MIB, noise(MIB, 2)))
    qemu_img("convert", "-f", "raw", "-O", image_format, content, move.add("vda", image_format, virtual_bytes=8 * MIB))
    return content


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_a_mirrored_disk_gets_its_name_without_being_read_again(move: Move, image_format: str) -> None:
    content = a_disk(move, image_format)
    offered = move.offer(precopy=True)["exports"]
    mirror(move, offered, content)
    move.commit({}, mirrored=offered)
    final = Path(move.files[0]["dest_path"])
    assert qemu_images.info(str(final), image_format).virtual_bytes == 8 * MIB
    qemu_img("compare", "-f", image_format, "-F", "raw", final, content)
    assert move.offer() == {"changed": False, "exports": {}}


def test_what_was_mirrored_into_other_files_is_no_copy(move: Move) -> None:
    """A dest that was started anew has made its files anew: what the source says of the old ones does not count."""
    a_disk(move, "qcow2")
    before = move.offer(precopy=True)["exports"]
    paths.BOOT_MARK.write_text("another boot")
    after = move.offer()["exports"]
    assert set(before.values()) & set(after.values()) == set()
    with pytest.raises(ColdmoveError, match="went to other files"):
        receiving.commit(Journal(MOVE), move.files, receiving.Told({}, {}, None, before), lambda _progress: None)
    assert not Path(move.files[0]["dest_path"]).exists()


def test_a_dest_that_was_started_anew_takes_the_bytes_of_the_file(move: Move) -> None:
    """The precopy is lost with it: the cold copy crosses as it always does."""
    a_disk(move, "qcow2")
    move.offer(precopy=True)
    paths.BOOT_MARK.write_text("another boot")
    move.carry()
    assert move.same("vda")


def test_there_is_no_precopy_after_all(move: Move) -> None:
    """What was made for it gives way to a file for the bytes."""
    a_disk(move, "qcow2")
    before = move.offer(precopy=True)["exports"]
    after = move.offer(precopy=False)["exports"]
    assert before != after
    assert move.offer(precopy=False) == {"changed": False, "exports": after}
    sent = move.send(after)
    move.commit(sent["job"]["result"]["digests"])
    assert move.same("vda")


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_a_precopy_that_broke_at_the_last_moment_is_made_whole_while_the_guest_is_off(move: Move, image_format: str) -> None:
    """Old content of the mirror is written over, zeroes too, and both ends are compared before anything gets its name."""
    content = a_disk(move, image_format)
    offered = move.offer(precopy=True)["exports"]
    mirror(move, offered, sparse(move.root / "older", 8 * MIB, (0, noise(8 * MIB, 9))))
    move.journal.note(precopied=offered, written_to=sorted(offered.values()))  # as the precopy does
    sent = move.send(offered)["job"]["result"]
    move.commit(sent["digests"])
    qemu_img("compare", "-f", image_format, "-F", "raw", move.files[0]["dest_path"], content)


# --- evacuated: what the lost node had alone is made anew


def an_image(move: Move, image_format: str = "qcow2", size: int = MIB) -> Path:
    content = sparse(move.root / "content", size, (0, noise(100_000)), (size - 5, b"tail!"))
    image = move.root / f"golden.{image_format}"
    qemu_img("convert", "-f", "raw", "-O", image_format, content, image)
    return image


def from_image(move: Move, image: Path, disk_format: str, grow_to: int) -> None:
    move.add("vda", disk_format, way="image", size_bytes=0, allocated_bytes=0, grow_to_bytes=grow_to, virtual_bytes=grow_to)
    move.files[0].update(image_path=str(image), image_format=image.suffix[1:])


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_a_disk_is_made_from_an_image_in_its_own_format_and_size(move: Move, image_format: str, disk_format: str) -> None:
    image = an_image(move, image_format)
    before = image.read_bytes()
    from_image(move, image, disk_format, 3 * MIB)
    assert move.offer()["exports"] == {}
    temporary, final = Path(move.files[0]["temp_path"]), Path(move.files[0]["dest_path"])
    assert temporary.stat().st_size == 0 and not final.exists()
    assert move.offer() == {"changed": False, "exports": {}}
    move.commit({})
    assert not temporary.exists()
    assert qemu_images.info(str(final), disk_format).virtual_bytes == 3 * MIB
    whole = move.root / "whole"
    qemu_img("convert", "-f", disk_format, "-O", "raw", final, whole)
    assert whole.read_bytes() == (move.root / "content").read_bytes() + bytes(2 * MIB)
    assert allocated(final) < MIB
    assert image.read_bytes() == before


def test_a_raw_image_in_which_somebody_wrote_a_qcow2_header_is_raw(move: Move) -> None:
    secret = sparse(move.root / "secret", MIB, (0, b"secret" * 1000))
    evil = move.root / "evil.raw"
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", secret, evil)
    os.truncate(evil, MIB)
    from_image(move, evil, "raw", MIB)
    move.offer()
    move.commit({})
    assert Path(move.files[0]["dest_path"]).read_bytes() == evil.read_bytes()


def test_an_image_that_stands_on_another_file_is_refused_by_name(move: Move) -> None:
    """Whoever made it could have this node's own files read into a guest."""
    secret = sparse(move.root / "secret", MIB, (0, b"secret" * 1000))
    evil = move.root / "evil.qcow2"
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", secret, evil)
    from_image(move, evil, "raw", MIB)
    move.offer()
    with pytest.raises(ColdmoveError, match=r"evil\.qcow2 stands on another file, .*secret: make it whole first"):
        move.commit({})
    assert not Path(move.files[0]["dest_path"]).exists()
    assert len(move.discard()["deleted"]) == 1


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"no image at all" * 100, "cannot be read as qcow2")])
def test_an_image_that_is_missing_or_of_another_format_gives_nothing_its_name(move: Move, content: bytes | None, words: str) -> None:
    image = move.root / "golden.qcow2"
    if content is not None:
        image.write_bytes(content)
    from_image(move, image, "qcow2", MIB)
    move.offer()
    with pytest.raises(ColdmoveError, match=words):
        move.commit({})
    assert not Path(move.files[0]["dest_path"]).exists()
    assert move.discard()["deleted"] == [move.files[0]["temp_path"]]
    assert not any(move.dest.iterdir())


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_a_disk_from_an_image_may_be_killed_at_any_point(move: Move, disk_format: str) -> None:
    from_image(move, an_image(move), disk_format, 2 * MIB)
    move.offer()
    final, temporary = Path(move.files[0]["dest_path"]), Path(move.files[0]["temp_path"])
    noted = (move.journal.directory / "journal.json").read_bytes()

    def commit() -> None:
        receiving.commit(Journal(MOVE), move.files, receiving.Told({}, {}, None, {}), lambda _progress: None)

    def check(_point: int) -> None:
        if final.exists() and not temporary.exists():
            # What has its name has its content, if perhaps not its size yet.
            assert digest_of_start(final, disk_format) == digest_of_start(move.root / "content", "raw")
        commit()
        assert not temporary.exists()
        assert qemu_images.info(str(final), disk_format).virtual_bytes == 2 * MIB
        assert digest_of_start(final, disk_format) == digest_of_start(move.root / "content", "raw")
        final.rename(temporary)  # the same inode, which the journal knows
        os.truncate(temporary, 0)
        (move.journal.directory / "journal.json").write_bytes(noted)

    def digest_of_start(path: Path, image_format: str) -> bytes:
        whole = move.root / "whole"
        qemu_img("convert", "-f", image_format, "-O", "raw", path, whole)
        return whole.read_bytes()[:MIB]

    assert killed_everywhere(move.dest, commit, check) >= 2


def test_a_dest_that_started_anew_does_not_use_what_it_had_made_from_an_image(move: Move) -> None:
    from_image(move, an_image(move), "raw", MIB)
    move.offer()
    paths.BOOT_MARK.unlink()
    with pytest.raises(ColdmoveError, match="this node was started anew"):
        move.commit({})
    assert move.offer()["changed"] is True
    move.commit({})
    assert Path(move.files[0]["dest_path"]).read_bytes() == (move.root / "content").read_bytes()


def restored(move: Move, contents: dict[str, str]) -> dict[str, t.Any]:
    where = {"address": "", "port": 22, "ciphers": [], "instances_path": str(move.dest)}
    return receive(move.journal, {"state": "offered", "files": move.files, **where, "contents": contents, "precopy": None})


def test_what_the_record_kept_is_restored_byte_by_byte(move: Move) -> None:
    drive, variables = noise(40_000), noise(131_072, 2)
    move.add("sda", way="restore", size_bytes=40_000, virtual_bytes=40_000, allocated_bytes=0)
    move.add("nvram", kind="nvram", way="restore", size_bytes=131_072, virtual_bytes=131_072, allocated_bytes=0)
    contents = {"sda": blobs.pack(drive), "nvram": blobs.pack(variables), "vdx": blobs.pack(b"nobody asked for it")}
    assert restored(move, contents) == {"changed": True, "exports": {}}
    assert restored(move, contents) == {"changed": False, "exports": {}}
    assert {Path(file["temp_path"]).stat().st_mode & 0o777 for file in move.files} == {0o600}
    assert not any(Path(file["dest_path"]).exists() for file in move.files)
    move.commit({})
    assert [Path(file["dest_path"]).read_bytes() for file in move.files] == [drive, variables]
    assert {path.name for path in move.dest.iterdir()} == {"sda", "nvram"}
    # Its name says that it is whole: what is offered again is left as it is.
    assert restored(move, {}) == {"changed": False, "exports": {}}


def test_what_the_record_has_not_kept_is_said_and_leaves_nothing(move: Move) -> None:
    move.add("nvram", kind="nvram", way="restore", size_bytes=9, virtual_bytes=9, allocated_bytes=0)
    with pytest.raises(ColdmoveError, match="the record store has nothing of nvram"):
        restored(move, {"sda": blobs.pack(b"x")})
    assert not any(move.dest.iterdir())


def test_a_restore_may_be_killed_at_any_point(move: Move) -> None:
    content = noise(5000)
    move.add("nvram", kind="nvram", way="restore", size_bytes=5000, virtual_bytes=5000, allocated_bytes=0)
    file, contents = move.files[0], {"nvram": blobs.pack(content)}
    noted = (move.journal.directory / "journal.json").read_bytes()

    def make() -> None:
        journal = Journal(MOVE)
        receiving.offer(journal, move.files, str(move.dest), channel.Peer("", 22, "", "", ""), contents)
        receiving.commit(journal, move.files, receiving.Told({}, {}, None, {}), lambda _progress: None)

    def check(_point: int) -> None:
        if Path(file["dest_path"]).exists():
            assert Path(file["dest_path"]).read_bytes() == content
        make()
        assert Path(file["dest_path"]).read_bytes() == content
        assert [path.name for path in move.dest.iterdir()] == ["nvram"]
        Path(file["dest_path"]).unlink()
        (move.journal.directory / "journal.json").write_bytes(noted)

    assert killed_everywhere(move.dest, make, check) >= 4


@pytest.mark.parametrize("way", ["image", "restore"])
def test_a_file_of_somebody_else_is_not_replaced_by_one_made_anew(move: Move, way: str) -> None:
    move.add("vda", way=way, size_bytes=0, virtual_bytes=MIB, allocated_bytes=0)
    Path(move.files[0]["dest_path"]).write_text("somebody else's")
    with pytest.raises(ColdmoveError, match="exists on this node and is not this migration's"):
        restored(move, {"vda": blobs.pack(b"x")})
    assert Path(move.files[0]["dest_path"]).read_text() == "somebody else's"
    deleted = move.discard()
    assert (deleted["deleted"], len(deleted["kept"])) == ([], 1)


# --- what is being sent may grow


def test_an_image_may_grow_until_the_guest_is_off(move: Move) -> None:
    """It is offered while the guest still writes, and has its true length in the end."""
    empty = move.add("vda", "qcow2", virtual_bytes=4 * MIB)
    qemu_img("create", "-f", "qcow2", empty, str(4 * MIB))
    tokens = move.offer()["exports"]
    written = sparse(move.root / "content", 4 * MIB, (0, noise(3 * MIB)))
    qemu_img("convert", "-n", "-f", "raw", "-O", "qcow2", written, empty)
    assert empty.stat().st_size > move.files[0]["size_bytes"] + 2 * MIB
    told = move.send(tokens)["job"]["result"]
    assert told["lengths"] == {"vda": empty.stat().st_size}
    move.commit(told["digests"])
    assert move.same("vda")


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
@pytest.mark.parametrize("verify", [True, False])
def test_a_disk_that_is_to_be_larger_is_grown_on_dest_and_not_before_it_is_proven(move: Move, image_format: str, verify: bool) -> None:
    sent = sparse(move.root / "content", 2 * MIB, (0, noise(MIB)))
    held = move.add("vda", image_format, virtual_bytes=2 * MIB, grow_to_bytes=3 * MIB)
    qemu_img("convert", "-f", "raw", "-O", image_format, sent, held)
    before = held.read_bytes()
    job = move.send(move.offer()["exports"], verify=verify)["job"]["result"]
    move.commit(job["digests"], verify=verify)
    grown = move.root / "grown"
    qemu_img("convert", "-f", image_format, "-O", "raw", move.dest / "vda", grown)
    assert grown.read_bytes() == sent.read_bytes() + bytes(MIB)
    assert held.read_bytes() == before
    assert allocated(move.dest / "vda") < 2 * MIB


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_a_commit_of_a_disk_that_grows_may_be_killed_at_any_point(move: Move, image_format: str) -> None:
    """Once grown, its content is no longer what the source has: it is not compared again."""
    sent = sparse(move.root / "content", MIB, (0, noise(1000)))
    qemu_img("convert", "-f", "raw", "-O", image_format, sent, move.add("vda", image_format, virtual_bytes=MIB, grow_to_bytes=2 * MIB))
    told = move.send(move.offer()["exports"])["job"]["result"]
    Job(move.journal, "channel").cancel()
    final, temporary = Path(move.files[0]["dest_path"]), Path(move.files[0]["temp_path"])
    copy, noted = temporary.read_bytes(), (move.journal.directory / "journal.json").read_bytes()

    def commit() -> None:
        receiving.commit(Journal(MOVE), move.files, receiving.Told({}, told["lengths"], told["digests"], {}), lambda _progress: None)

    def check(_point: int) -> None:
        commit()
        assert not temporary.exists()
        assert qemu_images.info(str(final), image_format).virtual_bytes == 2 * MIB
        final.rename(temporary)  # the same inode, which the journal knows
        temporary.write_bytes(copy)
        (move.journal.directory / "journal.json").write_bytes(noted)

    assert killed_everywhere(move.dest, commit, check) >= 2


def test_files_get_the_owner_and_mode_of_the_source(move: Move) -> None:
    sparse(move.add("vda"), 64 * 1024)
    sent = move.send(move.offer()["exports"])
    assert (Path(move.files[0]["temp_path"]).stat().st_mode & 0o777) == 0o600
    move.commit(sent["job"]["result"]["digests"], owners={"vda": {"owner": "root", "group": "root", "mode": "0640"}})
    assert ((move.dest / "vda").stat().st_mode & 0o777) == 0o640


# --- the proof of the content


def digest(path: Path, image_format: str = "raw") -> str:
    return str(content_digest.of_image(str(path), image_format, lambda *_: None)["digest"])


def test_a_digest_is_of_what_the_guest_sees_and_not_of_the_layout(root: Path) -> None:
    size = 20 * MIB + 512
    holes = sparse(root / "holes", size, (5 * MIB, noise(100_000)))
    zeroes = root / "zeroes"
    zeroes.write_bytes(holes.read_bytes())
    assert allocated(zeroes) > 2 * allocated(holes)
    qcow2, small = root / "qcow2", root / "small"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-S", "0", zeroes, qcow2)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", holes, small)
    digests = {digest(holes), digest(zeroes), digest(qcow2, "qcow2"), digest(small, "qcow2")}
    assert len(digests) == 1
    read = content_digest.of_image(str(holes), "raw", lambda *_: None)["read_bytes"]
    assert 0 < read <= 2 * content_digest.BLOCK


def test_a_digest_knows_what_an_image_does_not_hold_as_it_is(root: Path) -> None:
    size = 20 * MIB
    plain = sparse(root / "plain", size, (5 * MIB, noise(3 * MIB)), (11 * MIB - 100, noise(900_000, 2)))
    packed, over, apart, zeroed = root / "packed", root / "over", root / "apart", root / "zeroed"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-c", plain, packed)
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", plain, over)
    qemu_io(over, f"write -q -P 7 {6 * MIB} 100k")
    qemu_io(over, f"write -q -z {11 * MIB} 128k")
    qemu_img("convert", "-f", "qcow2", "-O", "qcow2", "-o", f"data_file={root / 'content'},data_file_raw=on", over, apart)
    qemu_img("convert", "-f", "qcow2", "-O", "qcow2", over, zeroed)
    qemu_io(zeroed, f"write -q -P 9 {15 * MIB} 64k")
    qemu_io(zeroed, f"write -q -z {15 * MIB} 64k")  # a cluster of zeroes that keeps its place
    assert digest(packed, "qcow2") == digest(plain)
    assert len({digest(image, "qcow2") for image in (over, apart, zeroed)}) == 1
    assert digest(over, "qcow2") != digest(plain)


def test_a_digest_reads_only_what_lies_nowhere_else_through_the_server(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sparse(root / "file", 9 * MIB + 512, (0, noise(9 * MIB + 512)))
    image = root / "image"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", path, image)
    found = {digest(path), digest(image, "qcow2")}
    monkeypatch.setattr(content_digest._Runs, "pread", lambda *_: b"")
    assert {digest(path), digest(image, "qcow2")} == found
    assert len(found) == 1


@pytest.mark.parametrize("offset", [0, 4 * MIB - 1, 4 * MIB, 9 * MIB + 511])
def test_one_flipped_bit_is_another_digest(root: Path, offset: int) -> None:
    size = 9 * MIB + 512
    one = sparse(root / "one", size, (MIB, noise(4000)))
    other = sparse(root / "other", size, (MIB, noise(4000)), (offset, b"\x01"))
    assert digest(one) != digest(other)


def test_blocks_that_changed_places_and_another_size_are_another_digest(root: Path) -> None:
    a, b = noise(4 * MIB), noise(4 * MIB, 2)
    digests = [
        digest(sparse(root / "ab", 12 * MIB, (0, a), (4 * MIB, b))),
        digest(sparse(root / "ba", 12 * MIB, (0, b), (4 * MIB, a))),
        digest(sparse(root / "longer", 16 * MIB, (0, a), (4 * MIB, b))),
        digest(sparse(root / "none", 12 * MIB)),
        digest(sparse(root / "no more", 16 * MIB)),
    ]
    assert len(set(digests)) == len(digests)


def test_what_can_be_read_no_further_has_no_digest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_digest._Runs, "pread", lambda *_: b"")
    path = sparse(root / "file", 40 * MIB, *((block * 4 * MIB, noise(1000)) for block in range(10)))

    def kill_server(_done: int, _total: int, _read: int) -> None:
        for pid in {*users_of(path)} - {os.getpid()}:
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(ColdmoveError, match="NBD export 'content'"):
        content_digest.of_image(str(path), "raw", kill_server)


def rest_of(digests: digesting.Digests, after: int = 0) -> int:
    """How far it is when it goes no further for a while, which it did ``after`` so many bytes as well."""
    before = -1
    while (now := digests.done) != before or now <= after:
        before = now
        time.sleep(0.5)
    return now


@pytest.mark.parametrize(
    "content",
    [
        pytest.param([(36 * MIB, noise(4 * MIB)), (50 * MIB, noise(14 * MIB, 2))], id="in few places"),
        pytest.param([(block * 4 * MIB, noise(4096)) for block in range(16)], id="scattered"),
    ],
)
def test_a_digest_keeps_beside_the_copy(root: Path, monkeypatch: pytest.MonkeyPatch, content: list[tuple[int, bytes]]) -> None:
    monkeypatch.setattr(digesting, "_AHEAD_BYTES", 4 * MIB)
    path = sparse(root / "file", 64 * MIB, *content)
    file = {"id": "vda", "format": "raw", "virtual_bytes": 64 * MIB}
    digests = digesting.Digests([digesting.of_file(file, str(path))], "digest", allocated(path))
    try:
        first = rest_of(digests)
        digests.copied(allocated(path) // 2)
        assert rest_of(digests, first) < 64 * MIB
        assert digests.wait(lambda _progress: None, 10)["vda"]["digest"] == digest(path)
    finally:
        digests.end()


def test_a_copy_that_differs_gets_no_name_and_the_message_says_which_and_where(move: Move) -> None:
    sparse(move.add("vda"), MIB, (0, noise(1000)))
    sparse(move.add("vdb"), MIB, (0, noise(1000)))
    sent = move.send(move.offer()["exports"])
    with open(move.files[1]["temp_path"], "r+b") as stream:
        stream.seek(700_000)
        stream.write(b"\x01")
    with pytest.raises(ColdmoveError, match="content of vdb differs") as caught:
        move.commit(sent["job"]["result"]["digests"])
    assert move.files[1]["temp_path"] in str(caught.value)
    assert not Path(move.files[0]["dest_path"]).exists()
    assert not Path(move.files[1]["dest_path"]).exists()
    assert len(move.discard()["deleted"]) == 2


def test_a_content_that_the_source_did_not_tell_of_is_not_proven(move: Move) -> None:
    sparse(move.add("vda"), MIB)
    move.send(move.offer()["exports"], verify=False)
    with pytest.raises(ColdmoveError, match="content of vda differs"):
        move.commit({})
    move.commit({}, verify=False)
    assert move.same("vda")


def test_an_unreadable_image_is_told_by_name(root: Path) -> None:
    path = sparse(root / "disk", MIB)
    with pytest.raises(ColdmoveError, match=r"qemu-nbd cannot serve .*disk as qcow2"):
        digest(path, "qcow2")


# --- interrupted and taken up again


def test_an_offer_is_made_once(move: Move) -> None:
    sparse(move.add("vda"), MIB)
    first = move.offer()
    assert first["changed"] is True
    again = move.offer()
    assert again == {"changed": False, "exports": first["exports"]}
    assert receiving.running_exports(move.journal) == 1


def test_a_copy_over_what_an_earlier_one_left_is_right(move: Move) -> None:
    """Zeroes count too: what was written before is overwritten by them."""
    raw = sparse(move.add("vda"), 8 * MIB, (MIB, noise(MIB)))
    tokens = move.offer()["exports"]
    move.journal.note(written_to=list(tokens.values()))
    Path(move.files[0]["temp_path"]).write_bytes(b"\xff" * raw.stat().st_size)
    move.commit(move.send(tokens)["job"]["result"]["digests"])
    assert move.same("vda")
    assert allocated(move.dest / "vda") <= allocated(raw) + 256 * 1024


def test_a_killed_copy_is_taken_up_where_it_was(move: Move) -> None:
    """What had crossed is not sent again, and that is told."""
    content = noise(32 * MIB)
    sparse(move.add("vda"), 40 * MIB, (0, content))
    tokens = move.offer()["exports"]
    status = move.send(tokens, bandwidth_limit=8 * MIB, wait_seconds=0)["job"]

    def crossed() -> int:
        # qemu-img sends its pieces in no order: only whole blocks count.
        there = Path(move.files[0]["temp_path"]).read_bytes()
        return sum(aids.BLOCK for at in range(0, len(content), aids.BLOCK) if there[at : at + aids.BLOCK] == content[at : at + aids.BLOCK])

    until(lambda: crossed() >= 2 * aids.BLOCK)
    os.killpg(status["pid"], signal.SIGKILL)
    with pytest.raises(ColdmoveError, match="its process is gone"):
        move.send(tokens, attach=True)
    before = crossed()
    again = move.send(tokens)["job"]["result"]
    assert before <= again["already_there"] < 32 * MIB
    assert again["bytes_read"] == again["bytes_total"] == 32 * MIB
    assert again["retries"] == 0
    move.commit(again["digests"])
    assert move.same("vda")


def test_a_resumed_copy_tells_so(move: Move) -> None:
    content = noise(16 * MIB)
    sparse(move.add("vda"), 16 * MIB, (0, content))
    tokens = move.offer()["exports"]
    move.journal.note(written_to=list(tokens.values()))
    with open(move.files[0]["temp_path"], "r+b") as stream:
        stream.write(content[: 8 * MIB])
    move.send(tokens, bandwidth_limit=4 * MIB, wait_seconds=0)
    note = until(lambda: Job(move.journal, "send").status()["progress"].get("note"))
    assert note.startswith("resumed: ")
    assert note.endswith(" already there")
    move.send(tokens, attach=True)


def test_a_file_that_vanished_from_dest_is_copied_again_although_the_copy_was_done(move: Move) -> None:
    """Without this an unverified move would end with an empty disk."""
    sparse(move.add("vda"), MIB, (0, noise(MIB)))
    tokens = move.offer()["exports"]
    move.send(tokens, verify=False)
    assert move.send(tokens, verify=False)["changed"] is False  # done is done
    Path(move.files[0]["temp_path"]).unlink()
    again = move.offer()
    assert again["changed"] is True
    assert again["exports"] != tokens
    assert move.send(again["exports"], verify=False)["changed"] is True
    move.commit({}, verify=False)
    assert move.same("vda")


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_channel_that_breaks_and_comes_back_is_no_failure(move: Move, compression: str) -> None:
    sparse(move.add("vda"), 24 * MIB, (0, noise(24 * MIB)))
    tokens = move.offer()["exports"]
    assert move.send(tokens, bandwidth_limit=8 * MIB, compression=compression, wait_seconds=0)["job"]["state"] == "running"
    until(lambda: allocated(move.files[0]["temp_path"]) >= 10 * MIB)
    os.kill(move.export_pid("vda"), signal.SIGKILL)
    until(lambda: receiving.running_exports(move.journal) == 0)
    assert move.offer() == {"changed": True, "exports": tokens}
    result = move.send(tokens, attach=True)["job"]["result"]
    assert result["retries"] >= 1
    assert 4 * MIB <= result["already_there"] < 24 * MIB
    move.commit(result["digests"])
    assert move.same("vda")


def test_nothing_moves_is_a_failure_after_the_stall_time_out(move: Move) -> None:
    sparse(move.add("vda"), 64 * MIB, (0, noise(64 * MIB)))
    tokens = move.offer()["exports"]
    server = move.export_pid("vda")
    os.kill(server, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with pytest.raises(ColdmoveError, match="nothing moved through the channel for 1 s"):
            move.send(tokens, stall_timeout=1)
        assert time.monotonic() - begun < 20
    finally:
        os.kill(server, signal.SIGCONT)


def test_what_has_crossed_needs_no_channel_any_more(move: Move) -> None:
    """The controller was killed after the copy: whoever goes on finds its sockets gone, and nothing to send."""
    sparse(move.add("vda"), MIB, (0, noise(MIB)))
    tokens = move.offer()["exports"]
    told = move.send(tokens)["job"]["result"]
    (paths.OFFERS_DIR / tokens["vda"]).unlink(missing_ok=True)
    assert move.offer()["exports"] == tokens
    assert move.send(tokens, state="reachable") == {"changed": False}
    assert move.send(tokens)["job"]["result"] == told
    move.commit(told["digests"])
    assert move.same("vda")


@pytest.mark.parametrize("verify", [True, False])
def test_a_dest_that_started_anew_takes_everything_in_again(move: Move, verify: bool) -> None:
    """Power loss after the copy: what its page cache held is gone, so what is there is not used."""
    sparse(move.add("vda"), 2 * MIB, (0, noise(2 * MIB)))
    tokens = move.offer()["exports"]
    told = move.send(tokens)["job"]["result"]
    exports.stop_export(paths.EXPORTS_DIR / tokens["vda"], paths.EXPORTS_DIR / f"{tokens['vda']}.pid")
    (move.dest / Path(move.files[0]["temp_path"]).name).write_bytes(bytes(2 * MIB))
    paths.BOOT_MARK.unlink()
    with pytest.raises(ColdmoveError, match="started anew during the copy"):
        move.commit(told["digests"], verify=verify)
    again = move.offer()["exports"]
    assert again != tokens
    told = move.send(again, verify=verify)["job"]["result"]
    move.commit(told["digests"], verify=verify)
    assert move.same("vda")


def test_a_channel_that_does_not_come_back_is_a_failure_after_the_stall_time_out(move: Move) -> None:
    sparse(move.add("vda"), MIB, (0, noise(MIB)))
    tokens = move.offer()["exports"]
    exports.stop_export(paths.EXPORTS_DIR / tokens["vda"], paths.EXPORTS_DIR / f"{tokens['vda']}.pid")
    begun = time.monotonic()
    with pytest.raises(ColdmoveError, match="could not copy"):
        move.send(tokens, stall_timeout=1)
    assert time.monotonic() - begun < 20


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_on_dest_is_told_at_once(move: Move) -> None:
    sparse(move.add("vda"), 12 * MIB, (0, noise(12 * MIB)))
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "coldmove-test", str(move.dest)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode()}")
    try:
        tokens = move.offer()["exports"]
        begun = time.monotonic()
        with pytest.raises(ColdmoveError, match="No space left on device"):
            move.send(tokens)
        assert time.monotonic() - begun < PATIENCE / 3
        assert move.discard()["kept"] == []
    finally:
        move.discard()
        subprocess.run(["umount", str(move.dest)], check=True)


@pytest.mark.parametrize("way", ["cancel", "kill"])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_copy_that_ends_early_leaves_nobody_on_the_source_file(move: Move, way: str, resumed: bool) -> None:
    """The guest could not start on the source while a digest, or whoever sends, still had its disk open."""
    held = sparse(move.add("vda"), 256 * MIB, (0, noise(32 * MIB)))
    tokens = move.offer()["exports"]
    if resumed:
        move.journal.note(written_to=list(tokens.values()))
    status = move.send(tokens, bandwidth_limit=MIB, wait_seconds=0)["job"]
    until(lambda: users_of(held))
    if way == "cancel":
        assert send(move.journal, {"state": "absent", "files": move.files, "exports": {}}) == {"changed": True}
        assert not any(paths.OFFERS_DIR.iterdir())
    else:
        os.kill(status["pid"], signal.SIGKILL)  # as the kernel does when memory runs out: the one process only
        until(lambda: Job(move.journal, "send").status()["state"] == "died")
    until(lambda: not users_of(held))


# --- the exports


def test_a_pid_that_was_given_to_somebody_else_is_not_the_export(root: Path) -> None:
    socket, pid_file = root / "socket", root / "pid"
    with subprocess.Popen(["sleep", "60"]) as bystander:
        pid_file.write_text(str(bystander.pid), encoding="ascii")
        assert exports.export_pid(socket, pid_file) is None
        assert exports.stop_export(socket, pid_file) is False
        assert bystander.poll() is None
        bystander.kill()
    for content in ("", "x", "999999999"):
        pid_file.write_text(content, encoding="ascii")
        assert exports.stop_export(socket, pid_file) is False
        assert not pid_file.exists()


def test_stopping_an_export_waits_until_the_file_is_let_go(root: Path) -> None:
    disk, socket, pid_file = sparse(root / "disk", 4 * MIB), root / "socket", root / "pid"
    exports.start_export(str(disk), "raw", "vda", socket, pid_file)
    target = f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={socket},file.export=vda"
    content = sparse(root / "content", 4 * MIB, (0, noise(4 * MIB)))
    qemu_img("convert", "-n", "--image-opts", "--target-image-opts", exports.image_options(str(content), "raw"), target)
    assert exports.stop_export(socket, pid_file) is True
    assert users_of(disk) == []
    assert disk.read_bytes() == content.read_bytes()
    assert not socket.exists()


def test_names_that_mean_something_to_qemu_mean_nothing_here(root: Path) -> None:
    for name in ("a,b=c,,", "json:{}", "nbd:unix", "with space", "%s\n"):
        path = sparse(root / name, 64 * 1024, (0, noise(100)))
        assert digest(path) == digest(sparse(root / "plain", 64 * 1024, (0, noise(100))))
        exports.create_blank(str(root / f"{name}.new"), "qcow2", MIB)
        with pytest.raises(ColdmoveError, match="exists already"):
            exports.create_blank(str(root / f"{name}.new"), "qcow2", MIB)


def test_a_server_that_is_silent_is_given_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sshd takes a connection for a dest that has lost its power, and hears nothing from it."""
    monkeypatch.setattr(exports, "CONNECT_TIMEOUT_SECONDS", 0.3)
    with sockets.socket(sockets.AF_UNIX) as silent:
        silent.bind(str(root / "socket"))
        silent.listen()
        with pytest.raises(ColdmoveError, match="no answer within"):
            exports.probe(str(root / "socket"), "vda")


def test_the_probe_before_the_stop_tells_what_does_not_fit(move: Move) -> None:
    sparse(move.add("vda"), MIB)
    tokens = move.offer()["exports"]
    reach = {"state": "reachable", "files": move.files, "exports": tokens, "verify": True, "bandwidth_limit": 0, "stall_timeout": 5}
    assert send(move.journal, reach) == {"changed": False}
    move.files[0]["size_bytes"] += 4096
    with pytest.raises(ColdmoveError, match="offers 1048576 bytes for vda, which needs 1052672"):
        send(move.journal, reach)
    with pytest.raises(ColdmoveError, match="nowhere"):
        send(move.journal, {**reach, "exports": {"vda": "nowhere"}})


def test_a_slot_is_waited_for_before_the_stop_and_given_back_after_the_copy(move: Move) -> None:
    sparse(move.add("vda"), MIB, (0, noise(MIB)))
    tokens = move.offer()["exports"]
    reach = {"state": "reachable", "transfer_slots": 1, "wait_seconds": 0.1}
    with slots.taken(1, lambda _progress: None):
        waiting = move.send(tokens, **reach)
        assert waiting["changed"] is False
        assert waiting["job"]["state"] == "running"
        until(lambda: move.send(tokens, **reach)["job"]["progress"].get("waiting") == "1 of 1 taken")
    until(lambda: "job" not in move.send(tokens, **reach, attach=True))
    assert slots.is_held(move.journal)
    told = move.send(tokens, transfer_slots=1)["job"]["result"]
    with slots.taken(1, lambda _progress: None):
        move.commit(told["digests"])
    assert move.same("vda")


def test_a_copy_without_a_slot_waits_for_one_itself(move: Move) -> None:
    sparse(move.add("vda"), MIB, (0, noise(MIB)))
    tokens = move.offer()["exports"]
    with slots.taken(1, lambda _progress: None):
        assert move.send(tokens, transfer_slots=1, wait_seconds=0)["job"]["state"] == "running"
        until(lambda: Job(move.journal, "send").status()["progress"].get("waiting") == "1 of 1 taken")
    assert move.send(tokens, transfer_slots=1, attach=True)["job"]["state"] == "done"


def test_what_a_precopy_has_left_waits_for_no_slot(move: Move) -> None:
    """It is next to nothing, and the guest is off by then."""
    sparse(move.add("vda"), MIB)
    move.add("nvram", kind="nvram").write_bytes(noise(131_072, 3))
    tokens = move.offer()["exports"]
    move.journal.note(precopied={"vda": tokens["vda"]})
    mirror_job = Job(move.journal, mirroring.JOB)
    mirror_job.ensure_started(lambda _report: {"off": True, "mirrored": True})
    assert mirror_job.wait(PATIENCE)["state"] == "done"
    with slots.taken(1, lambda _progress: None):
        assert move.send(tokens, transfer_slots=1)["job"]["state"] == "done"


#: What a precopy is asked for beside files and exports.
IN_STEP = {"state": "in_step", "server_uuid": MOVE, "precopy_timeout": 60, "not_before": 0}


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A precopy is in step and over at once: there is no QEMU here."""

    def precopy(_order: mirroring.Order, report: slots.Report) -> dict[str, t.Any]:
        report({"in_step": True})
        return {"off": True, "begun": True, "mirrored": True, "reason": ""}

    monkeypatch.setattr(mirroring, "precopy", precopy)


@pytest.mark.usefixtures("mirrors")
def test_a_precopy_takes_its_slot_when_it_begins(move: Move) -> None:
    """And not when its channel is proven."""
    sparse(move.add("vda"), MIB)
    tokens = move.offer()["exports"]
    with slots.taken(1, lambda _progress: None):
        waiting = move.send(tokens, **IN_STEP, transfer_slots=1, wait_seconds=0.5)
        assert waiting["job"]["progress"]["waiting"] == "1 of 1 taken"
        assert "precopy" not in waiting
        assert "job" not in move.send(tokens, state="reachable", transfer_slots=1)
        assert Job(move.journal, "slot").status()["state"] == "absent"
    assert move.send(tokens, **IN_STEP, transfer_slots=1)["precopy"] == "over"


@pytest.mark.usefixtures("mirrors")
def test_a_precopy_proves_its_channel_by_itself(move: Move) -> None:
    """A file may be longer than what its guest sees: it is the dest's image that has to have room for that, not for the file."""
    disk = move.add("vda", "qcow2", virtual_bytes=4 * MIB)
    qemu_img("create", "-f", "qcow2", "-o", "preallocation=full", disk, str(4 * MIB))
    assert disk.stat().st_size > 4 * MIB
    tokens = move.offer(precopy=True)["exports"]
    for token in tokens.values():
        (paths.OFFERS_DIR / token).rename(paths.OFFERS_DIR / f"{token}.away")
    with pytest.raises(ColdmoveError, match="NBD"):
        move.send(tokens, **IN_STEP)
    for token in tokens.values():
        (paths.OFFERS_DIR / f"{token}.away").rename(paths.OFFERS_DIR / token)
    assert move.send(tokens, **IN_STEP)["precopy"] == "over"


def test_what_is_taken_back_waits_no_more(move: Move) -> None:
    sparse(move.add("vda"), MIB)
    tokens = move.offer()["exports"]
    with slots.taken(1, lambda _progress: None):
        move.send(tokens, state="reachable", transfer_slots=1, wait_seconds=0)
        send(move.journal, {"state": "absent", "files": move.files, "exports": {}})
        assert Job(move.journal, "slot").status()["state"] == "absent"


# --- what is on dest already, and what is taken away again


def test_a_file_of_somebody_else_is_never_overwritten(move: Move) -> None:
    sparse(move.add("vda"), MIB)
    (move.dest / "vda").write_text("theirs", encoding="utf-8")
    with pytest.raises(ColdmoveError, match="exists on this node and is not this migration's"):
        move.offer()
    assert move.discard()["deleted"] == []
    assert (move.dest / "vda").read_text(encoding="utf-8") == "theirs"


def test_directories_are_made_below_instances_path_and_removed_when_empty(move: Move) -> None:
    sparse(move.add("vda", folder="a/b"), MIB)
    sparse(move.add("vdb", folder="c"), MIB)
    move.offer()
    (move.dest / "c" / "theirs").touch()
    assert move.discard()["kept"] == []
    assert sorted(str(path.relative_to(move.dest)) for path in move.dest.rglob("*")) == ["c", "c/theirs"]


def test_discard_takes_back_what_was_committed_and_nothing_else(move: Move) -> None:
    for name in ("vda", "vdb"):
        sparse(move.add(name), MIB, (0, noise(100)))
    move.carry()
    newcomer = move.dest / "newcomer"
    newcomer.write_text("theirs", encoding="utf-8")
    newcomer.replace(move.dest / "vdb")
    result = move.discard()
    assert result["deleted"] == [str(move.dest / "vda")]
    assert "left alone" in result["kept"][0]
    assert (move.dest / "vdb").read_text(encoding="utf-8") == "theirs"


def test_dest_may_be_killed_at_any_point(move: Move) -> None:
    """Offer, commit and discard, each run again after a kill. (Blank disks: the exports have their own tests.)"""
    for name in ("swap1", "swap2"):
        move.add(name, way="blank", folder="new", virtual_bytes=64 * 1024, size_bytes=0, allocated_bytes=0)
    move.add("swap3", way="drop", folder="new", virtual_bytes=64 * 1024, size_bytes=0, allocated_bytes=0)
    made = move.files[:2]
    finals = {Path(file["dest_path"]).name for file in made}
    journal = move.journal.directory / "journal.json"
    empty = journal.read_bytes()
    peer = channel.Peer("node1", 22, "coldmove", "", "")
    steps: list[t.Callable[[], t.Any]] = [
        lambda: receiving.offer(Journal(MOVE), move.files, str(move.dest), peer),
        lambda: receiving.commit(Journal(MOVE), move.files, receiving.Told({}, {}, None, {}), lambda _progress: None),
        lambda: receiving.discard(Journal(MOVE), move.files),
    ]

    def to(step: int) -> None:
        shutil.rmtree(move.dest / "new", ignore_errors=True)
        journal.write_bytes(empty)
        for act in steps[:step]:
            act()

    def back(_point: int) -> None:
        """At once, by a run that gives up."""
        assert receiving.discard(Journal(MOVE), move.files)[1] == []
        assert not any(move.dest.iterdir())
        to(0)

    to(0)
    assert killed_everywhere(move.root, steps[0], back) >= 3
    for number in range(len(steps)):

        def check(_point: int, number: int = number) -> None:
            for act in steps[number:-1]:
                act()
            if number < 2:
                assert {path.name for path in (move.dest / "new").iterdir()} == finals
                assert all(nodefiles.is_ours(Journal(MOVE), file["dest_path"]) for file in made)
            assert receiving.discard(Journal(MOVE), move.files)[1] == []
            assert not any(move.dest.iterdir())
            to(number)

        to(number)
        assert killed_everywhere(move.root, steps[number], check) >= 3


# --- progress


@pytest.mark.parametrize(("done", "total"), list(itertools.product([0, 1, 50, 100, 120], [0, 1, 100])))
def test_progress_is_plain_and_within_bounds(done: int, total: int) -> None:
    for seconds in (0, 0.5, 1000):
        told = progress.progress("copy", done, total, seconds)
        assert 0 <= told["percent"] <= 100
        assert told["rate"] >= 0
        assert told["eta_seconds"] is None or told["eta_seconds"] >= 0
