# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said twice agrees: metadata, README and the files themselves."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("[a-z]*.py"))
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def load(name: str) -> t.Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_action_group_names_every_module() -> None:
    assert load("meta/runtime.yml")["action_groups"]["coldmove"] == MODULES


def test_every_module_that_works_on_a_node_has_the_controllers_side() -> None:
    """An unreachable node must be a failure that ``rescue`` sees."""
    routed = {path.stem for path in (ROOT / "plugins" / "action").glob("[a-z]*.py")} - {"node_step"}
    assert routed == set(MODULES) - {"virt_channel_info"}


def test_readme_lists_every_playbook() -> None:
    listed = re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "README.md").read_text(encoding="utf-8").split("### Node variables")[0], re.MULTILINE)
    assert sorted(listed) == PLAYBOOKS


@pytest.mark.parametrize("role", ROLES)
def test_role_has_argument_specs_and_readme(role: str) -> None:
    assert (ROOT / "roles" / role / "meta" / "argument_specs.yml").is_file()
    assert (ROOT / "roles" / role / "README.md").is_file()


def test_version_of_documentation_is_the_first_release() -> None:
    for module in MODULES:
        assert "version_added: 0.1.0" in (ROOT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8").replace('"', "")


def test_every_module_has_ansible_by_the_door_that_compiles_once() -> None:
    """Imported before anything else: the order is ruff's to check."""
    for module in MODULES:
        content = (ROOT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8")
        assert "_adapters.ansible_module import AnsibleModule" in content
        assert "from ansible." not in content


def test_dependencies_are_used() -> None:
    content = "".join(path.read_text(encoding="utf-8") for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml"))
    for name in load("galaxy.yml")["dependencies"]:
        assert f"{name}." in content
    for name in set(re.findall(r"^\s+(?:- )?((?:community|ansible|awx)\.(?!builtin\.)[a-z]+)\.[a-z_]+:", content, re.MULTILINE)):
        assert name in load("galaxy.yml")["dependencies"]


def test_no_machine_path_or_shim_is_committed() -> None:
    for path in [*ROOT.glob("*"), *(ROOT / "tests").rglob("*"), *(ROOT / "plugins").rglob("*"), *(ROOT / "roles").rglob("*")]:
        if path.is_file() and path.suffix not in (".pyc", ".gz") and path.name != Path(__file__).name:
            assert "/.pyenv/versions" not in path.read_text(encoding="utf-8", errors="ignore"), path


def test_the_bench_runs_with_the_settings_that_readme_advises() -> None:
    advised = (ROOT / "README.md").read_text(encoding="utf-8").partition("```ini\n[defaults]\n")[2].partition("```")[0]
    bench = (ROOT / "tests" / "bench" / "ansible.cfg").read_text(encoding="utf-8")
    assert advised and bench.partition("[defaults]\n")[2] == advised
