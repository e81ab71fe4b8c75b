# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of files reach the modules as they are in the record."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.coldmove.libvirt.plugins.doc_fragments._move_files import ModuleDocFragment
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import FILES_ARG, JOB_ARGS

PATHS = ("source_path", "held_path", "dest_path", "temp_path")


@pytest.mark.parametrize("path", ["/i/$HOME/x", "/i/~/x", "~root/x", "/i/${PATH}", "/i/a b ", "/i/{{ x }}", "/i/ü\nb"])
def test_no_character_of_a_path_means_anything(path: str) -> None:
    found = ArgumentSpecValidator({"files": FILES_ARG}).validate({"files": [{"id": "vda", "format": "raw", **dict.fromkeys(PATHS, path)}]})
    assert found.error_messages == []
    assert [found.validated_parameters["files"][0][key] for key in PATHS] == [path] * 4


def test_the_documentation_says_what_the_specification_says() -> None:
    def told(entry: dict[str, t.Any]) -> tuple[t.Any, ...]:
        return entry["type"], entry.get("required", False), entry.get("default"), entry.get("choices")

    files = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["files"]
    assert {name: told(entry) for name, entry in files["suboptions"].items()} == {name: told(entry) for name, entry in FILES_ARG["options"].items()}
    job = yaml.safe_load(ModuleDocFragment.JOB)["options"]
    assert {name: told(entry) for name, entry in job.items()} == {name: told(entry) for name, entry in JOB_ARGS.items()}
