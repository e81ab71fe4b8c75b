# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second half of ``make setup``, run with the virtual environment's Python: what is there already costs two seconds.

System packages (tests/setup/system.yml), the distribution's libvirt and NBD bindings inside the virtual environment (PyPI has
no wheels of them), and the collections that tests/requirements.yml asks for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
COLLECTIONS = BUILD / "collections"
SYSTEM_PYTHON = "/usr/bin/python3"
BINDINGS = ("libvirt", "libvirtmod", "libvirt_qemu", "libvirtmod_qemu", "nbd", "libnbdmod", "guestfs", "libguestfsmod")
# Ansible's own bundle on PyPI: where Galaxy is out of reach, its wheel is unpacked in part. 12.x goes with ansible-core 2.19.
BUNDLE = "ansible==12.3.0"


def system_packages() -> None:
    """Install what is missing; show the play only when it fails or installs something."""
    log = BUILD / "log" / "system-packages.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false"}
    print("setup: system packages", flush=True)
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), ROOT / "tests" / "setup" / "system.yml"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    log.write_text(done.stdout, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{done.stdout}\nsetup: the system packages could not be installed (see above; the output is in {log.relative_to(ROOT)})")


def bindings() -> None:
    """Link the distribution's bindings into the virtual environment, if both are the same Python."""
    question = "import sys, sysconfig; print(*sys.version_info[:2]); print(*[p for p in sys.path if p.endswith('-packages')], sep='\\n')"
    answer = subprocess.run([SYSTEM_PYTHON, "-c", question], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    if answer[0].split() != [str(n) for n in sys.version_info[:2]]:
        print("setup: the virtual environment's Python is not the distribution's: tests that need libvirt's bindings will be skipped")
        return
    target = next(Path(p) for p in sys.path if p.endswith("site-packages") and p.startswith(sys.prefix))
    for folder in map(Path, answer[1:]):
        for name in BINDINGS:
            for source in [*folder.glob(f"{name}.py"), *folder.glob(f"{name}.*.so"), *folder.glob(f"{name}.so")]:
                link = target / source.name
                if not link.exists():
                    link.unlink(missing_ok=True)
                    link.symlink_to(source)


def collections() -> None:
    """Unpack the collections that tests/requirements.yml names, unless they are there."""
    wanted = yaml.safe_load((ROOT / "tests" / "requirements.yml").read_text(encoding="utf-8"))["collections"]
    folders = [Path("ansible_collections", *entry["name"].split(".")) for entry in wanted]
    missing = [folder for folder in folders if not (COLLECTIONS / folder / "MANIFEST.json").is_file()]
    if not missing:
        return
    cache = BUILD / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    wheels = list(cache.glob(BUNDLE.replace("==", "-") + "-*.whl"))
    if not wheels:
        print(f"setup: collections, from {BUNDLE}", flush=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", cache, BUNDLE],
            check=True,
        )
        wheels = list(cache.glob(BUNDLE.replace("==", "-") + "-*.whl"))
    with zipfile.ZipFile(wheels[0]) as wheel:
        for folder in missing:
            members = [name for name in wheel.namelist() if name.startswith(f"{folder}/")]
            if not members:
                sys.exit(f"setup: {BUNDLE} does not hold {folder}: install it with ansible-galaxy collection install -r tests/requirements.yml")
            shutil.rmtree(COLLECTIONS / folder, ignore_errors=True)
            wheel.extractall(COLLECTIONS, members)


def main() -> None:
    """Do all three."""
    system_packages()
    bindings()
    collections()


if __name__ == "__main__":
    main()
