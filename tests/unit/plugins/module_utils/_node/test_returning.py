# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a returned node has of an evacuated server: gone by its exact names, unless it may be anybody else's; killed anywhere, the same again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import returning
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import write_atomically
from ansible_collections.coldmove.libvirt.plugins.modules import virt_returned_copy
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import MOVE, uuid_of
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._node.kills import killed_everywhere

SERVER, OTHER = uuid_of(1), uuid_of(2)
LONG_AGO = time.time() - 3600
#: In between: the node was given up.
SINCE = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 1800))
NEEDS_QEMU_IMG = pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is needed")


class Host:
    """A libvirt that outlives the process that asks it: its domains lie in a file, by UUID."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set({})

    def read(self) -> dict[str, t.Any]:
        return dict(json.loads(self._file.read_text(encoding="utf-8")))

    def set(self, domains: dict[str, t.Any]) -> None:
        write_atomically(self._file, domains, durable=False)

    def define(self, uuid: str, name: str, *paths: str | Path, state: str = "shutoff", image_format: str = "raw") -> None:
        disks = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type='{image_format}'/><source file='{path}'/><target dev='vd{letter}'/></disk>"
            for letter, path in zip("abc", paths, strict=False)
        )
        xml = f"<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><devices>{disks}</devices></domain>"
        self.set({**self.read(), uuid: {"name": name, "state": state, "autostart": True, "xml": xml}})

    def state(self, server: str) -> str | None:
        return t.cast("str | None", self.read().get(server, {}).get("state"))

    def set_autostart(self, server: str, wanted: bool) -> bool:
        domains = self.read()
        domains[server]["autostart"] = wanted
        self.set(domains)
        return True

    def undefine(self, server: str) -> None:
        domains = self.read()
        # libvirt does not start what is just being undefined, but might in between: nobody shall have it started.
        assert domains[server]["state"] == "shutoff" and not domains[server]["autostart"]
        del domains[server]
        self.set(domains)

    def domains(self) -> list[str]:
        return list(self.read())

    def identity(self, domain: str) -> tuple[str, str]:
        return domain, self.read()[domain]["name"]

    def xml_of(self, domain: str, live: bool = False, secrets: bool = True) -> str:
        assert not secrets
        return str(self.read()[domain]["xml"])


class World:
    """A node that is back, with a server of two disks and its firmware variables."""

    def __init__(self, root: Path) -> None:
        self.root, self.images, self.nvram = root, root / "images", root / "nvram"
        self.host: t.Any = Host(root / "libvirt.json")
        for folder in (self.images, self.nvram):
            folder.mkdir()
        self.own = [str(self.images), str(self.nvram)]
        self.paths = [self.images / "vda", self.images / "vdb", self.nvram / "vars"]
        self.files = [self.file(path) for path in self.paths]
        self.reset()

    def file(self, path: Path) -> dict[str, t.Any]:
        """As an evacuation records it: the dest has other names, which are never this node's business."""
        own, dest = str(path), f"{self.root}/dest/{path.name}"
        names = {"source_path": own, "held_path": f"{own}.coldmove-held-{MOVE}", "dest_path": dest, "temp_path": f"{dest}.coldmove-{MOVE}"}
        return {"id": path.name, "kind": "disk", "format": "raw", "way": "blank", **names}

    def reset(self, state: str = "shutoff") -> None:
        for path in [*self.paths, self.images / "vda.old", self.images / "other", self.images / f"vda.coldmove-held-{MOVE}"]:
            path.write_text(path.name, encoding="utf-8")
            os.utime(path, (LONG_AGO, LONG_AGO))
        self.host.set({})
        self.host.define(SERVER, "web1", *self.paths[:2], state=state)
        self.host.define(OTHER, "web2", self.images / "other")

    def left(self) -> set[str]:
        return {path.name for folder in (self.images, self.nvram) for path in folder.iterdir()}

    def clean(self, dry_run: bool = False, **more: t.Any) -> dict[str, t.Any]:
        given = {"server_uuid": SERVER, "files": self.files, "own_directories": self.own, "since": SINCE, **more}
        return returning.clean(self.host, returning.GivenUp(**given), dry_run)

    def kept(self, **more: t.Any) -> dict[str, str]:
        """By name, why a file was left alone."""
        result = self.clean(**more)
        for line in result["kept"]:
            assert Path(line.partition(": ")[0]).exists()
        return {Path(line.partition(": ")[0]).name: line.partition(": ")[2] for line in result["kept"]}


#: Those that no record names, and that nobody ever touches.
STRANGERS = {"vda.old", "other", f"vda.coldmove-held-{MOVE}"}
ALL = {"vda", "vdb", "vars"}


@pytest.fixture
def world(root: Path) -> World:
    return World(root)


def test_what_the_record_names_is_gone_and_nothing_else(world: World) -> None:
    result = world.clean()
    assert result == {"changed": True, "undefined": True, "deleted": [str(path) for path in world.paths], "kept": [], "unproven": []}
    assert world.left() == STRANGERS
    assert world.host.domains() == [OTHER]


def test_again_changes_nothing(world: World) -> None:
    world.clean()
    assert world.clean() == {"changed": False, "undefined": False, "deleted": [], "kept": [], "unproven": []}


def test_what_is_left_of_a_server_that_somebody_undefined_by_hand(world: World) -> None:
    world.host.set_autostart(SERVER, False)
    world.host.undefine(SERVER)
    result = world.clean()
    assert (result["undefined"], len(result["deleted"])) == (False, 3)
    assert result["changed"] is True


def test_a_dry_run_says_the_same_and_does_nothing(world: World) -> None:
    world.own.pop()
    before = world.host.read()
    told = world.clean(dry_run=True)
    assert (world.left(), world.host.read()) == (STRANGERS | ALL, before)
    assert world.clean() == told


@pytest.mark.parametrize("state", ["running", "paused", "blocked", "shutdown", "crashed", "pmsuspended"])
def test_a_server_that_is_not_off_is_not_touched(world: World, state: str) -> None:
    world.reset(state)
    before = world.host.read()
    with pytest.raises(ColdmoveError, match=f"is {state} on this node, which it was evacuated from: nothing was touched"):
        world.clean()
    assert (world.left(), world.host.read()) == (STRANGERS | ALL, before)


def test_without_files_there_is_only_a_definition(world: World) -> None:
    """All survived: not one name on shared storage is in the record."""
    assert world.clean(files=[])["undefined"] is True
    assert world.left() == STRANGERS | ALL


# --- what may be anybody else's


def test_what_others_may_see_is_kept_and_said(world: World) -> None:
    assert world.kept(own_directories=[str(world.nvram)]) == dict.fromkeys(("vda", "vdb"), "it is not proven that no other node sees it")
    assert world.left() == STRANGERS | {"vda", "vdb"}
    assert world.host.domains() == [OTHER]
    world.reset()
    assert set(world.kept(own_directories=[])) == ALL


def test_what_is_kept_for_want_of_proof_alone_is_told_apart(world: World) -> None:
    """Of the other files no answer of any node will change anything."""
    os.utime(world.paths[0])
    assert world.clean(own_directories=[])["unproven"] == [str(path) for path in world.paths[1:]]
    world.reset()
    assert world.clean()["unproven"] == []


def test_a_directory_above_or_below_proves_nothing(world: World) -> None:
    assert set(world.kept(own_directories=[str(world.root), f"{world.images}/sub", f"{world.images}/"])) == ALL


def test_a_link_or_a_directory_is_kept(world: World) -> None:
    target = world.root / "elsewhere"
    target.write_text("on a store that others see")
    world.paths[0].unlink()
    world.paths[0].symlink_to(target)
    world.paths[1].unlink()
    world.paths[1].mkdir()
    world.paths[2].unlink()
    world.paths[2].symlink_to(world.root / "dangling")
    result = world.clean()
    assert [line.partition(": ")[2] for line in result["kept"]] == ["it is not a regular file"] * 3
    assert target.exists() and world.paths[0].is_symlink() and world.paths[2].is_symlink()


def test_what_was_written_since_is_somebody_elses(world: World) -> None:
    """The dest sees the same storage under another path, and has made its file where the old one was."""
    os.utime(world.paths[0])
    assert world.kept() == {"vda": "it has been written to since the server was evacuated"}
    assert "vda" in world.left() and "vdb" not in world.left()


@pytest.mark.parametrize("since", ["2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678+00:00"])
def test_the_moment_itself_counts_as_since(world: World, since: str) -> None:
    moment = 1767323045.678
    for path, written in zip(world.paths, (moment - 0.01, moment + 0.0005, moment + 1), strict=True):
        os.utime(path, (written, written))
    assert set(world.kept(since=since)) == {"vdb", "vars"}


def test_what_another_domain_uses_is_kept(world: World) -> None:
    world.host.define(OTHER, "web2", world.paths[1])
    assert world.kept() == {"vdb": "the domain web2 uses it"}
    assert world.left() == STRANGERS | {"vdb"}


def test_what_another_domain_uses_by_another_name_is_kept(world: World) -> None:
    link = world.images / "link"
    link.symlink_to(world.paths[1])
    world.host.define(OTHER, "web2", link)
    assert world.kept() == {"vdb": "the domain web2 uses it"}


def test_a_domain_that_is_undefined_meanwhile_uses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of one node are cleaned side by side. A domain that is there and cannot be read is another matter."""
    asked = libvirt_host.NoSuchServer("Domain not found")

    def xml_of(domain: str, live: bool = False, secrets: bool = True) -> str:
        raise asked

    monkeypatch.setattr(world.host, "xml_of", xml_of)
    assert world.kept() == {}
    world.reset()
    asked = ColdmoveError("timed out")
    with pytest.raises(ColdmoveError, match="timed out"):
        world.clean()


@NEEDS_QEMU_IMG
def test_what_another_domains_image_stands_on_is_kept(world: World) -> None:
    """A template, and a clone that no record speaks of."""
    middle, top = world.images / "middle", world.images / "top"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", world.paths[0], middle, "1M"], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", middle, top, "1M"], check=True)
    world.host.define(OTHER, "web2", top, image_format="qcow2")
    assert world.kept() == {"vda": "a disk of the domain web2 stands on it"}
    assert world.paths[0].exists()


@NEEDS_QEMU_IMG
def test_as_long_as_it_cannot_be_told_what_another_domain_stands_on_all_is_kept(world: World) -> None:
    (world.images / "other").write_text("no image at all")
    world.host.define(OTHER, "web2", world.images / "other", image_format="qcow2")
    kept = world.kept()
    assert set(kept) == ALL
    assert all("what the domain web2 stands on cannot be told" in reason for reason in kept.values())
    world.host.define(OTHER, "web2", world.images / "is not there", image_format="qcow2")
    assert world.kept() == {}


def test_a_file_that_cannot_be_deleted_is_said_and_the_others_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = os.unlink

    def refuses(path: t.Any, **more: t.Any) -> None:
        if os.fspath(path) == str(world.paths[0]):
            raise PermissionError(1, "Operation not permitted")
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", refuses)
    assert world.kept() == {"vda": "it cannot be deleted: Operation not permitted"}
    assert world.left() == STRANGERS | {"vda"}


# --- killed


def test_it_may_be_killed_at_any_point(world: World) -> None:
    """Before each of its writes: the server is never startable by itself without its disks, and the same step again ends it."""

    def check(point: int) -> None:
        if world.host.state(SERVER) is not None:
            assert world.left() >= ALL, point
        assert world.left() >= STRANGERS
        assert world.host.state(OTHER) == "shutoff"
        result = world.clean()
        assert (world.left(), world.host.domains(), result["kept"]) == (STRANGERS, [OTHER], []), point
        world.reset()

    assert killed_everywhere(world.root, world.clean, check) > 6


# --- as Ansible runs it


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., dict[str, t.Any]]:
    class Connected:
        def __enter__(self) -> t.Any:
            return world.host

        def __exit__(self, *_error: object) -> None:
            pass

    monkeypatch.setattr(libvirt_host, "LIBVIRT_IMPORT_ERROR", None)
    monkeypatch.setattr(libvirt_host, "connected", lambda _uri: Connected())

    def _run(_check: bool = False, **more: t.Any) -> dict[str, t.Any]:
        given = {"server_uuid": SERVER, "files": world.files, "own_directories": world.own, "given_up_at": SINCE, "migration_uuid": MOVE, **more}
        given = {key: value for key, value in given.items() if value is not None}
        with patch_module_args({"migration_epoch": 2, "_ansible_check_mode": _check, **given}), pytest.raises(SystemExit):
            virt_returned_copy.main()
        return dict(json.loads(capsys.readouterr().out))

    return _run


def test_the_module(world: World, run: t.Any) -> None:
    told = run(_check=True)
    assert (told["changed"], told["undefined"], len(told["deleted"])) == (True, True, 3)
    assert world.left() == STRANGERS | ALL and not (world.root / "lib").exists()  # no lock is taken, nothing is noted
    done = run()
    assert {key: done[key] for key in ("changed", "undefined", "deleted", "kept")} == {key: told[key] for key in ("changed", "undefined", "deleted", "kept")}
    assert run()["changed"] is False


def test_nothing_is_own_unless_it_is_said(world: World, run: t.Any) -> None:
    given = run(own_directories=None)
    assert (given["deleted"], len(given["kept"])) == ([], 3)


def test_an_older_run_is_refused_and_what_is_wrong_is_told(world: World, run: t.Any) -> None:
    world.reset("running")
    assert "nothing was touched" in run(migration_epoch=3)["msg"]
    world.reset()
    assert "taken over by run 3" in run(migration_epoch=2)["msg"]
    assert world.left() == STRANGERS | ALL
    assert run(migration_epoch=3)["changed"] is True
