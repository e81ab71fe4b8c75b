# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words in real directories."""

from __future__ import annotations

import errno
import os
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import storage as rules
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import storage


def write(*directories: Path, host: str = "a", known: dict[str, str] | None = None, dry_run: bool = False) -> dict[str, str]:
    written, failed = storage.write(host, [str(directory) for directory in directories], known or {}, dry_run)
    assert not failed
    return written


def read(directory: Path, host: str = "a") -> list[str]:
    found, unread = storage.read({host: [str(directory)]})
    assert unread == {}
    return found[host][str(directory)]


def test_what_one_wrote_the_other_reads_and_nothing_else(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    word = write(here)[str(here)]
    assert read(here) == [word]
    assert read(there) == read(tmp_path / "nowhere") == read(here, "b") == []
    assert (here / ".coldmove-storage-a").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in here.iterdir()] == [".coldmove-storage-a"]


def test_each_word_is_new_and_the_known_one_stays_however_often_a_run_is_killed(tmp_path: Path) -> None:
    known = write(tmp_path)
    for _run in range(3):
        newer = write(tmp_path, known=known)
        assert newer != known
        assert read(tmp_path) == [newer[str(tmp_path)], known[str(tmp_path)]]


def test_a_dry_run_tells_the_word_that_is_there(tmp_path: Path) -> None:
    assert write(tmp_path, dry_run=True) == {str(tmp_path): ""}
    assert list(tmp_path.iterdir()) == []
    assert write(tmp_path) == write(tmp_path, dry_run=True)


def test_a_node_with_a_strange_name(tmp_path: Path) -> None:
    write(tmp_path, host="../x/ü n")
    assert len(read(tmp_path, "../x/ü n")) == 1
    assert [path.parent for path in tmp_path.iterdir()] == [tmp_path]


def test_what_cannot_be_written_is_told_and_the_others_are_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    missing, file = str(tmp_path / "missing"), str(tmp_path / "file")
    written, failed = storage.write("a", [missing, file, str(tmp_path)], {})
    assert list(written) == [str(tmp_path)]
    assert failed == {missing: "Not a directory", file: "Not a directory"}


def test_a_directory_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PATIENCE_SECONDS", 0.2)
    word, gate, replace = write(tmp_path)[str(tmp_path)], threading.Event(), storage._words
    monkeypatch.setattr(storage, "_words", lambda path: [gate.wait(20)] and replace(path) if "dead" in path else replace(path))
    try:
        found, unread = storage.read({"a": ["/dead", str(tmp_path)]})
        assert found == {"a": {"/dead": [], str(tmp_path): [word]}}
        assert "no answer" in unread["/dead"]
    finally:
        gate.set()


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "garbage", "large"])
def test_a_hostile_file_has_no_word_and_is_replaced(tmp_path: Path, kind: str) -> None:
    """The directory may belong to somebody else than root."""
    path, victim = tmp_path / ".coldmove-storage-a", tmp_path / "victim"
    victim.write_text("0" * 32)
    make: dict[str, t.Callable[[], object]] = {
        "link": lambda: path.symlink_to(victim),
        "fifo": lambda: os.mkfifo(path),
        "directory": path.mkdir,
        "garbage": lambda: path.write_bytes(b"\xff\0root:x:0:0\n"),
        "large": lambda: path.write_text("x" * 10_000),
    }
    make[kind]()
    assert read(tmp_path) == []
    written, failed = storage.write("a", [str(tmp_path)], {})
    assert victim.read_text() == "0" * 32
    assert bool(failed) == (kind == "directory")
    assert read(tmp_path) == list(written.values())


def test_a_temporary_file_of_a_killed_run_or_of_somebody_else_is_no_way_out(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".coldmove-storage-a.new").symlink_to(victim)
    write(tmp_path)
    assert victim.read_text() == "mine"
    assert len(read(tmp_path)) == 1


def test_remove_takes_its_own_and_no_others(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, host="b")
    assert storage.remove("a", [str(tmp_path), "/nowhere"], dry_run=True) == [str(tmp_path)]
    assert storage.remove("a", [str(tmp_path), "/nowhere"]) == [str(tmp_path)]
    assert storage.remove("a", [str(tmp_path)]) == []
    assert [path.name for path in tmp_path.iterdir()] == [".coldmove-storage-b"]


def test_two_nodes_on_one_store_and_one_beside_it(tmp_path: Path) -> None:
    """The whole way, from writing to the proof."""
    shared = str(tmp_path)
    written = {host: storage.write(host, [shared], {})[0] for host in ("a", "b")}
    looks = {"a": storage.read(written)[0], "b": storage.read(written)[0], "c": {"a": {shared: []}, "b": {shared: []}}}
    found = rules.identities(written, looks)
    assert found["a"][shared]["seen_by"] == ["b"]
    assert found["b"][shared]["seen_by"] == ["a"]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_what_cannot_be_read_is_not_said_to_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Whoever deletes what no other node sees must not go by the silence of a file server."""
    write(tmp_path)
    opened = os.open

    def refuses(path: t.Any, *more: t.Any, **named: t.Any) -> int:
        if os.fspath(path).startswith(str(tmp_path)):
            raise OSError(number, os.strerror(number))
        return opened(path, *more, **named)

    monkeypatch.setattr(os, "open", refuses)
    assert storage.read({"a": [str(tmp_path)]}) == ({"a": {str(tmp_path): []}}, {str(tmp_path): os.strerror(number)})


def test_what_is_not_there_is_known_not_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / ".coldmove-storage-a").symlink_to("somewhere")
    for directory in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        assert storage.read({"a": [str(directory)]}) == ({"a": {str(directory): []}}, {})
