# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module does with the zip that Ansible sends it in."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import ansible_module

HERE = "ansible_collections/coldmove/libvirt/plugins/module_utils/_adapters"
MODULE = """
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule
import pack.inner
try:
    import pack.not_there
except ImportError as exc:
    assert exc.name == "pack.not_there"
import ansible.module_utils.basic as basic
assert AnsibleModule is basic.AnsibleModule
for module in (pack, pack.inner, basic):
    print(module.__file__)
"""
RUN = """
import sys
compiled = []
sys.addaudithook(lambda event, found: compiled.append(str(found[1])) if event == "compile" and ".zip" in str(found[1]) else None)
sys.path.insert(0, sys.argv[1])
import json  # as Ansible's own beginning does, which looks into the zip before
import runpy
runpy.run_module("module", run_name="__main__", alter_sys=True)
print(*sorted(compiled), sep="\\n", file=sys.stderr)
"""


def test_every_file_of_the_zip_is_compiled_once(tmp_path: Path) -> None:
    archive = tmp_path / "sent.zip"
    with zipfile.ZipFile(archive, "w") as sent:
        for folder in [*reversed(Path(HERE).parents), Path(HERE), Path("ansible"), Path("ansible/module_utils"), Path("pack")]:
            if folder.name:
                sent.writestr(f"{folder}/__init__.py", "")
        sent.write(str(ansible_module.__file__), f"{HERE}/ansible_module.py")
        sent.writestr("ansible/module_utils/basic.py", "class AnsibleModule: ...\n\ndef missing_required_lib(): ...\n")
        sent.writestr("pack/inner.py", "from pack import __file__ as outer\n")
        sent.writestr("module.py", MODULE)
    run = subprocess.run([sys.executable, "-c", RUN, archive], check=False, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [f"{archive}/{name}" for name in ("pack/__init__.py", "pack/inner.py", "ansible/module_utils/basic.py")]
    compiled = run.stderr.split()
    for name in ("pack/__init__.py", "pack/inner.py", "ansible/__init__.py", "ansible/module_utils/__init__.py", "ansible/module_utils/basic.py"):
        assert compiled.count(f"{archive}/{name}") == 1, compiled
