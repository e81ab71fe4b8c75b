# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes of the proof after the start, and what libvirt is asked for it."""

from __future__ import annotations

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import backup_xml, proofs
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import a_migration

RECORD = a_migration(1, "post-migrating", server_name="web")
A, B = {"digest": "a" * 64}, {"digest": "b" * 64}


@pytest.mark.parametrize(
    ("held", "started", "impossible", "state", "words"),
    [
        ({"vda": A, "vdb": B}, {"vda": A, "vdb": B}, None, "done", ""),
        ({"vda": A, "vdb": B}, {"vda": A}, None, "done", ""),  # vdb was not asked for: its file system had been grown
        ({"vda": A, "vdb": B}, {"vda": A, "vdb": A}, None, "failed", "disk vdb of web"),
        ({"vda": A}, {"vda": B}, "the server was stopped", "failed", "disk vda of web"),  # whatever is missing of others
        ({"vda": A}, {}, "the server was stopped", "impossible", "the server was stopped"),
        ({"vda": A, "vdb": B}, {"vda": A}, "the server was stopped", "impossible", "not proven"),
        (None, {"vda": A}, None, "impossible", "a does not answer"),
        ({"vda": A}, {}, None, "impossible", "not all digests"),
        ({}, {"vda": A}, None, "impossible", "not all digests"),
    ],
)
def test_the_verdict(held: dict | None, started: dict, impossible: str | None, state: str, words: str) -> None:
    verdict = proofs.judge(RECORD, held, started, impossible)
    assert verdict["state"] == state
    assert words in verdict["text"]
    assert bool(verdict["text"]) == (state != "done")


def test_a_held_copy_that_cannot_be_read_is_told_in_its_nodes_words() -> None:
    verdict = proofs.judge(RECORD, None, {"vda": A}, None, "qemu-nbd cannot serve it")
    assert verdict["state"] == "impossible"
    assert "a: qemu-nbd cannot serve it" in verdict["text"]


def test_only_disks_whose_content_crossed_and_stayed_are_provable() -> None:
    files = [
        {"id": "vda", "kind": "disk", "way": "copy", "virtual_bytes": 10},
        {"id": "vdb", "kind": "disk", "way": "blank", "virtual_bytes": 20},
        {"id": "vdc", "kind": "disk", "way": "copy", "virtual_bytes": 30},
        {"id": "nvram", "kind": "nvram", "way": "copy", "virtual_bytes": 40},
    ]
    assert proofs.provable(files) == {"vda": 10, "vdc": 30}
    assert proofs.provable(files, ["vdc"]) == {"vda": 10}


def test_what_libvirt_is_asked_for_is_what_it_says() -> None:
    wanted = backup_xml.Backup("/run/a&b/<s>", {"vda": "/i/a 'b\".scratch", "sdb": "/i/ü"})
    assert backup_xml.read(backup_xml.request(wanted)) == wanted


def test_a_backup_of_somebody_else_is_read_too() -> None:
    disks = "<disk name='vda' backup='yes' type='file'><target file='/b'/></disk><disk name='vdb' backup='no'/>"
    push = f"<domainbackup mode='push'><disks>{disks}</disks></domainbackup>"
    assert backup_xml.read(push) == backup_xml.Backup("", {})
    assert backup_xml.read("<domainbackup mode='pull'><server transport='tcp' name='localhost'/></domainbackup>") == backup_xml.Backup("", {})


def test_guests_that_are_told_of_failed_writes() -> None:
    def disk(target: str, policy: str) -> str:
        return f"<disk type='file' device='disk'><driver name='qemu' type='raw' {policy}/><target dev='{target}'/></disk>"

    disks = [disk("vda", ""), disk("vdb", "error_policy='report'"), disk("vdc", "error_policy='stop'"), disk("vdd", "error_policy='ignore'")]
    assert backup_xml.tells_guest(f"<domain type='kvm'><devices>{''.join(disks)}</devices></domain>") == ["vdb", "vdd"]
