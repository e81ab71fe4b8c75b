# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was kept of a server, and could not bring it up."""

from __future__ import annotations

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import blobs, kept_definition
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import uuid_of


def kept(**more):
    """What was kept of a server that could be brought up by it."""
    return {"server_uuid": uuid_of(1), "xml": f"<domain><uuid>{uuid_of(1)}</uuid></domain>", "nvram": blobs.pack(b"vars"), "config_drives": None, **more}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({}, ""),
        ({"nvram": None, "config_drives": {"sda": blobs.pack(b"drive")}}, ""),
        ({"xml": None}, "cannot be read"),
        ({"xml": f"<domain><uuid>{uuid_of(1)}</uuid>"}, "cannot be read"),
        ({"xml": f"<domain><uuid>{uuid_of(2)}</uuid></domain>"}, f"is that of '{uuid_of(2)}'"),
        ({"xml": "<domain/>"}, "its definition is that of"),
        ({"nvram": "not packed"}, "its NVRAM is damaged"),
        ({"nvram": blobs.pack(b"vars")[:-9]}, "its NVRAM is damaged"),
        ({"config_drives": {"sda": "eJw="}}, "its config drive sda is damaged"),
    ],
)
def test_a_record_by_which_nothing_could_be_brought_up_is_told_apart(damage, words):
    problem = kept_definition.definition_problem(kept(**damage))
    assert words in problem if words else problem == ""
