# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The held copy: nobody can start it, nothing is lost, and a kill between any two steps is mended by running the step again."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import holding, moves
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, step, write_atomically
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import MOVE, uuid_of
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._node.kills import killed_everywhere

SERVER = uuid_of(1)
XML = "<domain><name>web1</name></domain>"


class Domains:
    """A libvirt that outlives the process that asks it: its one domain lies in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def _read(self) -> dict[str, t.Any]:
        return dict(json.loads(self._file.read_text(encoding="utf-8")))

    def _write(self, **changes: t.Any) -> None:
        write_atomically(self._file, {**self._read(), **changes}, durable=False)

    def set(self, state: str | None, xml: str = XML, autostart: bool = False) -> None:
        write_atomically(self._file, {"state": state, "xml": xml, "autostart": autostart, "written": {"vda": 5, "vdb": 7}}, durable=False)

    def state(self, server: str) -> str | None:
        assert server == SERVER
        return t.cast("str | None", self._read()["state"])

    def xml(self, server: str) -> str:
        assert self.state(server)
        return str(self._read()["xml"])

    def autostart(self, server: str) -> bool:
        assert self.state(server)
        return bool(self._read()["autostart"])

    def set_autostart(self, server: str, wanted: bool) -> bool:
        changed = self.autostart(server) != wanted
        if changed:
            self._write(autostart=wanted)
        return changed

    def bytes_written(self, server: str, targets: t.Iterable[str]) -> dict[str, int]:
        assert self.state(server)
        return {target: self._read()["written"][target] for target in targets}

    def define(self, xml: str) -> None:
        self._write(state="shutoff", xml=xml, autostart=False)

    def undefine(self, server: str) -> None:
        assert self.state(server) == "shutoff"
        self._write(state=None, xml=None, autostart=False)


class World:
    """One node with a server of two disks and its firmware variables."""

    def __init__(self, root: Path) -> None:
        self.root, self.images = root, root / "images"
        self.images.mkdir()
        self.domains = Domains(root / "libvirt.json")
        self.files = [self.file("vda"), self.file("vdb"), self.file("nvram", kind="nvram")]
        self.reset()

    def file(self, name: str, **more: t.Any) -> dict[str, t.Any]:
        own = str(self.images / name)
        held, temporary = f"{own}.coldmove-held-{MOVE}", f"{own}.coldmove-{MOVE}"
        return {"id": name, "kind": "disk", "way": "copy", "source_path": own, "held_path": held, "dest_path": own, "temp_path": temporary, **more}

    def reset(self, autostart: bool = True) -> None:
        for path in self.images.iterdir():
            path.unlink()
        for file in self.files:
            Path(file["source_path"]).write_text(file["id"], encoding="utf-8")
        self.domains.set("shutoff", XML, autostart)
        for path in (self.root / "lib" / "moves").glob("*/*"):
            path.unlink()

    def journal(self) -> Journal:
        with step({"migration_uuid": MOVE, "migration_epoch": 1}) as entered:
            assert entered
            return entered

    def hold(self) -> bool:
        return holding.hold(self.journal(), self.domains, SERVER, self.files)

    def restore(self, definition: str | None = None, autostart: bool = False) -> bool:
        return holding.restore(self.journal(), self.domains, SERVER, self.files, definition, autostart)

    def release(self) -> tuple[list[str], list[str]]:
        return holding.release(self.journal(), self.files)

    def content(self, key: str) -> dict[str, str]:
        return {file["id"]: Path(file[key]).read_text(encoding="utf-8") for file in self.files if Path(file[key]).exists()}

    def whole(self) -> dict[str, str]:
        return {file["id"]: file["id"] for file in self.files}

    def look(self) -> dict[str, t.Any]:
        return moves.look(MOVE, self.domains, SERVER, self.files)


@pytest.fixture
def world(root: Path) -> World:
    return World(root)


# --- the way there and back


def test_held_is_undefined_and_aside(world: World) -> None:
    assert world.hold() is True
    assert world.domains.state(SERVER) is None
    assert world.content("held_path") == world.whole()
    assert world.content("source_path") == {}
    assert world.look()["held"] is True
    assert world.hold() is False


def test_restored_is_defined_and_off_as_it_was(world: World) -> None:
    world.hold()
    assert world.restore() is True
    assert (world.domains.state(SERVER), world.domains.xml(SERVER), world.domains.autostart(SERVER)) == ("shutoff", XML, True)
    assert world.content("source_path") == world.whole()
    assert world.content("held_path") == {}
    assert world.look()["held"] is False
    assert world.restore(autostart=True) is False


def test_the_journal_knows_better_than_the_record(world: World) -> None:
    world.hold()
    world.restore("<domain>of the record</domain>", autostart=False)
    assert (world.domains.xml(SERVER), world.domains.autostart(SERVER)) == (XML, True)


def test_a_node_without_a_journal_uses_the_record(world: World) -> None:
    world.hold()
    for path in (world.root / "lib" / "moves").glob("*/journal.json"):
        path.unlink()
    with pytest.raises(ColdmoveError, match=r"no definition .* its files are back in place"):
        world.restore()
    world.restore("<domain>of the record</domain>", autostart=True)
    assert (world.domains.xml(SERVER), world.domains.autostart(SERVER)) == ("<domain>of the record</domain>", True)


def test_what_its_owner_changed_in_between_is_held_the_second_time(world: World) -> None:
    world.hold()
    world.restore()
    world.domains.set("shutoff", "<domain>changed</domain>", autostart=False)
    world.hold()
    world.restore(autostart=True)
    assert (world.domains.xml(SERVER), world.domains.autostart(SERVER)) == ("<domain>changed</domain>", False)


# --- killed


@pytest.mark.parametrize("rest", [0, 1])
def test_hold_again_or_restore_after_a_hold_that_was_killed_between_any_two_steps(world: World, rest: int) -> None:
    """What the run that goes on does, and what the roll-back does; the record knows the definition and the autostart flag too."""

    def check(point: int) -> None:
        assert {**world.content("source_path"), **world.content("held_path")} == world.whole(), point
        if point % 2 == rest:
            world.hold()
            assert world.domains.state(SERVER) is None
            assert (world.content("source_path"), world.content("held_path")) == ({}, world.whole()), point
        world.restore(XML, autostart=True)
        assert (world.domains.state(SERVER), world.domains.xml(SERVER), world.domains.autostart(SERVER)) == ("shutoff", XML, True), point
        assert (world.content("source_path"), world.content("held_path")) == (world.whole(), {}), point
        world.reset()

    del world.files[1]
    world.reset()
    assert killed_everywhere(world.root, world.hold, check) > 15


def test_restore_again_after_a_kill_between_any_two_steps(world: World) -> None:
    del world.files[1]
    world.reset()
    world.hold()

    def check(point: int) -> None:
        world.restore(XML, autostart=True)
        assert (world.domains.state(SERVER), world.domains.xml(SERVER), world.domains.autostart(SERVER)) == ("shutoff", XML, True), point
        assert (world.content("source_path"), world.content("held_path")) == (world.whole(), {}), point
        world.reset()
        world.hold()

    assert killed_everywhere(world.root, world.restore, check) > 10


def test_release_again_after_a_kill_between_any_two_steps(world: World) -> None:
    del world.files[1]
    world.reset()
    world.hold()

    def check(_point: int) -> None:
        assert world.release()[1] == []
        assert world.content("held_path") == {}
        world.reset()
        world.hold()

    assert killed_everywhere(world.root, world.release, check) > 3


# --- refusals change nothing


@pytest.mark.parametrize("state", ["running", "paused", "pmsuspended", "crashed", "shutdown"])
def test_only_a_server_that_is_off_is_held(world: World, state: str) -> None:
    world.domains.set(state)
    with pytest.raises(ColdmoveError, match=f"is {state}"):
        world.hold()
    assert world.content("source_path") == world.whole()


def test_a_server_that_was_never_here_is_not_held(world: World) -> None:
    world.domains.set(None)
    with pytest.raises(ColdmoveError, match="was not held here before"):
        world.hold()
    assert world.content("source_path") == world.whole()


def test_a_missing_file_is_noticed_before_the_server_is_undefined(world: World) -> None:
    Path(world.files[1]["source_path"]).unlink()
    with pytest.raises(ColdmoveError, match="vdb is not there"):
        world.hold()
    assert (world.domains.state(SERVER), world.domains.autostart(SERVER)) == ("shutoff", True)
    assert Path(world.files[0]["source_path"]).exists()


def test_a_held_name_that_is_taken_is_not_overwritten(world: World) -> None:
    Path(world.files[1]["held_path"]).write_text("theirs", encoding="utf-8")
    with pytest.raises(ColdmoveError, match="both are kept"):
        world.hold()
    assert world.domains.state(SERVER) == "shutoff"
    assert world.content("source_path") == world.whole()
    assert world.content("held_path") == {"vdb": "theirs"}


def test_a_file_that_came_to_the_old_place_meanwhile_is_neither_overwritten_nor_held(world: World) -> None:
    world.hold()
    newcomer = Path(world.files[1]["source_path"])
    newcomer.write_text("theirs", encoding="utf-8")
    for refused in (world.hold, world.restore):
        with pytest.raises(ColdmoveError, match="both are kept"):
            refused()
        assert newcomer.read_text(encoding="utf-8") == "theirs"
        assert world.content("held_path") == world.whole()
    newcomer.unlink()
    assert world.hold() is False
    world.restore()
    assert world.content("source_path") == world.whole()


def test_a_restore_that_cannot_be_whole_renames_nothing(world: World) -> None:
    world.hold()
    Path(world.files[2]["held_path"]).unlink()
    with pytest.raises(ColdmoveError, match="the source copy of nvram is not there"):
        world.restore()
    assert world.domains.state(SERVER) is None
    assert set(world.content("held_path")) == {"vda", "vdb"}


# --- release


def test_release_deletes_what_was_set_aside_and_nothing_else(world: World) -> None:
    world.hold()
    bystander = world.images / "vda.coldmove-held-of-another"
    bystander.write_text("theirs", encoding="utf-8")
    deleted, kept = world.release()
    assert (sorted(deleted), kept) == (sorted(file["held_path"] for file in world.files), [])
    assert [path.name for path in world.images.iterdir()] == [bystander.name]
    assert world.release() == ([], [])
    assert world.look()["held"] is False


def test_a_file_that_only_has_the_held_name_is_left_alone(world: World) -> None:
    world.hold()
    path = Path(world.files[0]["held_path"])
    newcomer = path.with_name("newcomer")
    newcomer.write_text("theirs", encoding="utf-8")
    newcomer.replace(path)
    deleted, (reason,) = world.release()
    assert path.read_text(encoding="utf-8") == "theirs"
    assert len(deleted) == 2
    assert f"{path}: not the file" in reason


def test_release_of_what_was_never_held_deletes_nothing(world: World) -> None:
    assert world.release() == ([], [])
    assert world.content("source_path") == world.whole()


# --- the look


def test_a_look_changes_nothing_and_tells_what_is_there(world: World) -> None:
    world.domains.set("running")
    state = world.look()
    assert not (world.root / "lib").exists()
    assert (state["domain"], state["held"], state["starting"], state["started"], state["exports"], state["job"]) == ("running", False, False, False, 0, None)
    assert state["written_bytes"] == 12
    # One path for both ends: which one it is the caller knows.
    assert state["files"] == {"vda": "source", "vdb": "source", "nvram": "source"}


@pytest.mark.parametrize(("state", "seen"), [(None, "absent"), ("shutoff", "defined"), ("paused", "running"), ("shutdown", "running")])
def test_a_domain_counts_as_running_unless_it_is_off(world: World, state: str | None, seen: str) -> None:
    world.domains.set(state)
    look = world.look()
    assert look["domain"] == seen
    assert (look["written_bytes"] is None) == (seen != "running")


def test_every_name_of_a_file_is_told(world: World) -> None:
    file = world.file("vdc", dest_path=str(world.images / "moved"), temp_path=str(world.images / "moved.tmp"))
    world.files.append(file)
    for key, seen in [
        (None, "missing"),
        ("held_path", "held"),
        ("temp_path", "held+temp"),
        ("dest_path", "final+held+temp"),
        ("source_path", "final+held+source+temp"),
    ]:
        if key:
            Path(file[key]).symlink_to("/nonexistent")  # a name counts, whatever is behind it
        assert world.look()["files"]["vdc"] == seen


def test_a_look_tells_what_the_journal_holds(world: World) -> None:
    world.journal().note(held=True, starting=True, started=True)
    write_atomically(world.journal().directory / "send.json", {"name": "send", "state": "done"})
    state = world.look()
    assert (state["held"], state["starting"], state["started"], state["job"]["name"]) == (True, True, True, "send")
