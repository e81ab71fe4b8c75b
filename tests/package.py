# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the collection as a user would get it, checks what is in it, installs it.

``python tests/package.py`` (every run of the gates does it once) leaves the tarball in .build/dist and the
collection, installed from it, in .build/installed: the demo and molecule run that one, by its fully qualified names.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / ".build"
INSTALLED = BUILD / "installed"

# What users need. A file in the tarball that matches none of these is a mistake, and so is a pattern that nothing matches.
ALLOWED = (
    r"MANIFEST\.json",
    r"FILES\.json",
    r"README\.md",
    r"LICENSE",
    r"CHANGELOG\.md",
    r"meta/(runtime|execution-environment)\.yml",
    r"meta/ee-(requirements|bindep)\.txt",
    r"changelogs/changelog\.yaml",
    r"plugins/(modules|action|filter|doc_fragments)/[a-z_]+\.py",
    r"plugins/plugin_utils/[a-z_]+\.py",
    r"plugins/module_utils/_(logic|adapters|node)/[a-z_]+\.py",
    r"roles/[a-z_]+/README\.md",
    r"roles/[a-z_]+/(defaults|vars|tasks|handlers|meta)/[a-z_]+\.yml",
    r"playbooks/[a-z_]+\.yml",
)
# There is nothing of these in some versions.
OPTIONAL = (
    r"docs/[a-z_]+\.md",
    r"docs/images/[a-z_]+\.svg",
    r"roles/[a-z_]+/templates/[a-z_.]+\.j2",
    r"roles/[a-z_]+/files/[a-z_.-]+",
    r"playbooks/(shared|vars|tasks|templates)/[a-z_]+\.(yml|j2)",
    r"plugins/README\.md",
)


def run(*command: str | Path) -> None:
    """Run a tool of the virtual environment; its output is shown only if it fails."""
    tool = Path(sys.executable).with_name(str(command[0]))
    argv = [tool, *command[1:]]
    done = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}\n{' '.join(map(str, command))} failed with {done.returncode}")


def build() -> Path:
    """Build the tarball, alone in its folder."""
    dist = BUILD / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    run("ansible-galaxy", "collection", "build", "--output-path", dist, ".")
    (tarball,) = dist.glob("*.tar.gz")
    return tarball


def strays(tarball: Path) -> list[str]:
    """Say what should not be in the tarball, and what should be and is not."""
    with tarfile.open(tarball) as archive:
        names = [member.name for member in archive.getmembers() if not member.isdir()]
    complaints = [f"not for users, or not expected: {name}" for name in names if not any(re.fullmatch(p, name) for p in ALLOWED + OPTIONAL)]
    complaints += [f"nothing in the tarball is a {pattern}" for pattern in ALLOWED if not any(re.fullmatch(pattern, name) for name in names)]
    return complaints


def install(tarball: Path) -> None:
    """Install it anew under .build/installed, without Galaxy."""
    fresh = BUILD / "installed.new"
    shutil.rmtree(fresh, ignore_errors=True)
    run("ansible-galaxy", "collection", "install", tarball, "-p", fresh, "--offline", "--no-deps", "--force")
    run("ansible-galaxy", "collection", "verify", "--offline", "-p", fresh, "coldmove.libvirt")
    shutil.rmtree(INSTALLED, ignore_errors=True)
    fresh.rename(INSTALLED)


def main() -> None:
    """Build and install; with --check, look into what was built."""
    if "--check" in sys.argv:
        (tarball,) = (BUILD / "dist").glob("*.tar.gz")
        if complaints := strays(tarball):
            sys.exit("\n".join(complaints))
        return
    BUILD.mkdir(exist_ok=True)
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(BUILD / "collections")
    with (BUILD / ".package.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tarball = build()
        install(tarball)
    print(f"{tarball.name}: {tarball.stat().st_size // 1024} KiB, installed in {INSTALLED.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
