# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small virtual machine for what the machine's own kernel may not have, or must not be bothered with: device-mapper, real volume groups.

Supermin (it comes with libguestfs) makes its root file system out of the packages that are installed here; the kernel is the lab's.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from lab import guest_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bash", "coreutils", "kmod", "lvm2", "mount", "python3", "python3-libvirt", "python3-lxml", "qemu-utils", "util-linux")
INIT = """\
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LVM_SYSTEM_DIR=/opt/lvm PYTHONPATH=/opt
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
for module in {modules}; do modprobe $module; done
python3 -B /opt/script.py && echo MACHINE: well
echo o >/proc/sysrq-trigger; sleep 60
"""
LVM_CONF = """\
global { locking_dir = "/run/lvm-lock" }
devices { filter = ["a|^/dev/loop|", "r|.*|"] use_devicesfile = 0 hints = "none" }
backup { backup = 0 archive = 0 }
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
"""


def run_in_machine(directory: Path, script: Path, modules: Sequence[str], *, timeout_seconds: int = 300) -> None:
    """Run a Python script as root of a machine of its own, with the collection on its path; AssertionError with all it said if it fails."""
    files = {
        "init": (INIT.format(modules=" ".join(modules)), 0o755),
        "opt/lvm/lvm.conf": (LVM_CONF, 0o644),
        "opt/script.py": (script.read_text(encoding="utf-8"), 0o644),
    }
    for path in sorted((ROOT / "plugins" / "module_utils").rglob("*.py")):
        files[f"opt/ansible_collections/coldmove/libvirt/{path.relative_to(ROOT)}"] = (path.read_text(encoding="utf-8"), 0o644)
    boot(directory, PACKAGES, files, timeout_seconds=timeout_seconds)


def boot(directory: Path, packages: Sequence[str], files: Mapping[str, tuple[str, int]], *, memory_mb: int = 512, timeout_seconds: int = 300) -> None:
    """Boot a machine of such packages, with such files (path: content and mode); AssertionError with all it said unless it says that all is well."""
    recipe, image, kernel = directory / "recipe", directory / "image", guest_image.find_kernel()
    recipe.mkdir()
    (recipe / "packages").write_text("".join(f"{name}\n" for name in packages), encoding="ascii")
    with tarfile.open(recipe / "ours.tar.gz", "w:gz") as archive:
        for name, (content, mode) in files.items():
            add(archive, name, content, mode)
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SUPERMIN_KERNEL": str(kernel.image),
        "SUPERMIN_MODULES": str(kernel.base / "lib" / "modules" / kernel.version),
    }
    subprocess.run(["supermin", "--build", "-f", "ext2", str(recipe), "-o", str(image)], env=environment, check=True, timeout=300)
    said = subprocess.run(
        [
            *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max,la57=off", "-m", str(memory_mb), "-nodefaults", "-display", "none", "-no-reboot"),
            *("-serial", "stdio", "-kernel", str(image / "kernel"), "-initrd", str(image / "initrd")),
            *("-append", "console=ttyS0 quiet panic=1 root=/dev/vda mitigations=off"),
            *("-drive", f"file={image}/root,format=raw,if=virtio,snapshot=on"),
        ],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        timeout=timeout_seconds,
        check=False,
    ).stdout
    assert "MACHINE: well" in said, said


def add(archive: tarfile.TarFile, name: str, content: str, mode: int) -> None:
    """Put a text into an archive, with the folders above it."""
    for parent in reversed(Path(name).parents[:-1]):
        if str(parent) not in archive.getnames():
            folder = tarfile.TarInfo(str(parent))
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
    data = content.encode()
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    archive.addfile(member, io.BytesIO(data))
