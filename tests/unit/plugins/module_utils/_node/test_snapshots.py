# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots, with the facts of a server as given and its files as real ones."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import blobs
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import snapshots
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import a_disk, a_server


class Domains:
    """A libvirt that has some domains, of which one vanishes while it is looked at."""

    def domains(self) -> list[str]:
        return ["web1", "transient", "vanished", "broken"]

    def identity(self, domain: str) -> tuple[str, str]:
        return f"uuid-{domain}", domain

    def flags(self, domain: str) -> dict[str, bool]:
        if domain == "vanished":
            raise ColdmoveError("cannot read the domain")
        return {"persistent": domain != "transient"}


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, t.Any]:
    """Of the one server that can be looked at."""
    drive, variables = tmp_path / "disk.config", tmp_path / "nvram.fd"
    drive.write_bytes(b"user-data" * 1000)
    variables.write_bytes(b"\0" * 5000 + b"boot")
    found = a_server(
        xml="<domain/>",
        autostart=True,
        disks=[a_disk(), a_disk("vdb", str(drive), role="config_drive")],
        nvram={"path": str(variables), "template": None, "exists": True},
    )

    def collect(_host: object, server: str, _paths: object) -> dict[str, t.Any]:
        if server == "uuid-broken":
            raise ColdmoveError("disk vda is gone")
        return found

    monkeypatch.setattr(snapshots.server_facts, "collect", collect)
    return found


def collect(*servers: str) -> tuple[list[dict[str, t.Any]], list[str]]:
    return snapshots.collect(t.cast("t.Any", Domains()), list(servers) or None)


def test_all_that_is_needed_elsewhere(facts: dict[str, t.Any]) -> None:
    (snapshot,), problems = collect()
    assert blobs.unpack(snapshot["config_drives"]["vdb"]) == b"user-data" * 1000
    assert blobs.unpack(snapshot["nvram"]) == b"\0" * 5000 + b"boot"
    assert len(snapshot["nvram"]) < 200
    assert "xml" not in snapshot["facts"] and snapshot["xml"] == "<domain/>"
    assert snapshot["flavor"]["vcpus"] == facts["vcpus"]
    assert problems == ["server uuid-broken could not be looked at, what is known of it stays as it was: disk vda is gone"]


def test_without_variables_or_with_too_large_a_drive(facts: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MAX_BYTES", 100)
    facts["nvram"] = None
    (snapshot,), problems = collect("web1")
    assert (snapshot["nvram"], snapshot["config_drives"]) == (None, {})
    assert problems == ["config drive vdb of web1 is larger than 100 B: it is not kept"]


def test_a_file_that_cannot_be_read_is_a_problem_of_that_server(facts: dict[str, t.Any]) -> None:
    facts["disks"][1]["path"] = "/nowhere/disk.config"
    found, problems = collect("web1")
    assert found == []
    assert "No such file" in problems[0]
