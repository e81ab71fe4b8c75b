# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names are taken without ever replacing a file, and a file is known by more than its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import files
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import MOVE
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._node.kills import killed_everywhere


@pytest.fixture
def pair(root: Path) -> tuple[Path, Path]:
    """A file, and the name that it is to have."""
    folder = root / "images"
    folder.mkdir()
    (folder / "old").write_text("mine", encoding="utf-8")
    return folder / "old", folder / "new"


def take(pair: tuple[Path, Path]) -> None:
    files.take_name(str(pair[0]), str(pair[1]))


# --- take_name


def test_a_name_is_taken_and_done_stays_done(pair: tuple[Path, Path]) -> None:
    for _time in range(2):
        take(pair)
        assert pair[1].read_text(encoding="utf-8") == "mine"
        assert not pair[0].exists()


def test_another_file_is_never_replaced(pair: tuple[Path, Path]) -> None:
    pair[1].write_text("theirs", encoding="utf-8")
    with pytest.raises(ColdmoveError, match="is another file"):
        take(pair)
    assert [path.read_text(encoding="utf-8") for path in pair] == ["mine", "theirs"]


def test_a_link_is_renamed_and_not_what_it_points_to(pair: tuple[Path, Path]) -> None:
    target = pair[0].with_name("elsewhere")
    pair[0].rename(target)
    pair[0].symlink_to(target)
    take(pair)
    assert pair[1].is_symlink()
    assert target.exists()
    assert target.stat().st_nlink == 1


def test_a_dangling_link_in_the_way_is_a_file_in_the_way(pair: tuple[Path, Path]) -> None:
    pair[1].symlink_to("/nonexistent/nowhere")
    with pytest.raises(ColdmoveError, match="is another file"):
        take(pair)
    assert pair[0].exists()


def test_nothing_to_rename_is_an_error(pair: tuple[Path, Path]) -> None:
    pair[0].unlink()
    with pytest.raises(ColdmoveError, match=r"neither .*old nor .*new"):
        take(pair)


def test_a_kill_at_any_point_leaves_the_file_under_one_name_or_both_and_the_next_try_ends_well(pair: tuple[Path, Path]) -> None:
    def check(_point: int) -> None:
        assert any(path.exists() and path.read_text(encoding="utf-8") == "mine" for path in pair)
        take(pair)
        assert [path.exists() for path in pair] == [False, True]
        pair[1].rename(pair[0])

    assert killed_everywhere(pair[0].parent, lambda: take(pair), check) == 2


# --- whose a file is


def test_a_file_is_ours_by_what_it_is_and_not_by_its_name(journal: Journal, pair: tuple[Path, Path]) -> None:
    old, new = map(str, pair)
    assert not files.is_ours(journal, old)
    files.remember(journal, old, new)
    assert files.is_ours(Journal(MOVE), old)
    assert not files.is_ours(journal, new)
    take(pair)
    assert files.is_ours(journal, new)
    # The usual way to replace a file: the other one exists before the first is gone.
    pair[0].write_text("theirs", encoding="utf-8")
    os.replace(pair[0], pair[1])
    assert not files.is_ours(journal, new)


def test_a_link_to_our_file_is_not_our_file(journal: Journal, pair: tuple[Path, Path]) -> None:
    files.remember(journal, str(pair[0]), str(pair[1]))
    pair[1].symlink_to(pair[0])
    assert not files.is_ours(journal, str(pair[1]))


def test_durability_follows_no_link(pair: tuple[Path, Path]) -> None:
    files.make_durable(str(pair[0]))
    pair[1].symlink_to(pair[0])
    with pytest.raises(OSError, match="symbolic"):
        files.make_durable(str(pair[1]))


def test_owner_group_and_mode_cross_by_name(pair: tuple[Path, Path]) -> None:
    pair[0].chmod(0o640)
    owner = files.owner_of(str(pair[0]))
    pair[1].write_text("copy", encoding="utf-8")
    files.give(str(pair[1]), owner)
    assert files.owner_of(str(pair[1])) == owner
    files.give(str(pair[1]), {"owner": "no-such-user-here", "group": "", "mode": "0600"})
    assert pair[1].stat().st_mode & 0o777 == 0o600


# --- directories


def make(path: Path, below: Path) -> list[str]:
    missing = files.missing_directories(str(path), str(below))
    files.make_directories(missing)
    return missing


def test_missing_directories_are_made_outermost_first(root: Path) -> None:
    below = root / "images"
    below.mkdir()
    wanted = below / "a" / "b"
    assert make(wanted, below) == [str(below / "a"), str(wanted)]
    assert wanted.is_dir()
    assert make(wanted, below) == []


@pytest.mark.parametrize("path", ["elsewhere/x", "images/../elsewhere/x", "images-2/x", "images/link/x", "images"])
def test_elsewhere_nothing_is_made(root: Path, path: str) -> None:
    """Not beside it, not by dots, not through a link, and a missing instances_path itself is not made either."""
    below = root / "images"
    if path != "images":
        below.mkdir()
        (root / "elsewhere").mkdir()
        (below / "link").symlink_to(root / "elsewhere")
    before = sorted(root.rglob("*"))
    with pytest.raises(ColdmoveError, match="is not under instances_path"):
        make(Path(f"{root}/{path}"), below)
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("spelling", ["images/", "./images", "images//", "link"])
def test_instances_path_may_be_spelled_in_many_ways(root: Path, spelling: str) -> None:
    (root / "images").mkdir()
    (root / "link").symlink_to("images")
    assert make(root / "images" / "web", Path(f"{root}/{spelling}")) == [str(root / "images" / "web")]
    assert files.missing_directories("/nonexistent-for-this-test", "/") == ["/nonexistent-for-this-test"]


@pytest.mark.parametrize("in_the_way", ["file", "dangling"])
def test_what_is_no_directory_is_in_the_way(root: Path, in_the_way: str) -> None:
    (root / "file").write_text("", encoding="utf-8")
    (root / "dangling").symlink_to("/nonexistent/nowhere")
    with pytest.raises(ColdmoveError, match="is not a directory"):
        make(root / in_the_way / "web", root)


def test_a_directory_that_another_migration_just_made_is_no_error(root: Path) -> None:
    (root / "web").mkdir()
    files.make_directories([str(root / "web"), str(root / "web" / "1")])
    assert (root / "web" / "1").is_dir()


def test_only_an_empty_directory_is_removed(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    files.remove_if_empty(str(root / "a"))
    assert (root / "a" / "b").is_dir()
    files.remove_if_empty(str(root / "a" / "b"))
    files.remove_if_empty(str(root / "a" / "b"))
    assert not (root / "a" / "b").exists()
