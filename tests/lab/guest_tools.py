# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only some guests need: the real guest agent, the tools that grow partitions and file systems, xfs.

They are beside the plain image, in `tools/`: an initramfs of their own for guests, the programs with their libraries for nodes (which
make disks with them). Made when the first such guest is defined. As with the kernel, nothing is installed on the machine: what it has
is copied, the packages of the rest are only unpacked.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import tempfile
from pathlib import Path

from lab.errors import LabError
from lab.guest_image import CACHE, MODULES, Archive, Kernel, find_kernel, publish
from lab.shell import ENVIRONMENT, output, run
from lab.state import GUEST_IMAGE_PATH

PACKAGES = ("cloud-guest-utils", "fdisk", "qemu-guest-agent", "xfsprogs")
"""Debian's and Ubuntu's names; the other programs are on every machine that the lab runs on."""
PROGRAMS = ("blkid", "findmnt", "flock", "growpart", "lsblk", "mkfs.xfs", "partx", "qemu-ga", "resize2fs", "sfdisk", "xfs_growfs")
TOOL_MODULES = ("virtio_console", "xfs")
SHUTDOWN = b"#!/bin/sh\nexec /bin/command shutdown\n"
"""What the agent calls when it is told to shut the guest down."""
CHPASSWD = b"#!/bin/sh\ncat >/run/chpasswd\n"
"""What it calls for a new password: there are no accounts, so it is only kept, as ACCOUNT:PASSWORD."""
LOADER = "lib64/ld-linux-x86-64.so.2"


def add_to(image: Path) -> None:
    """Make `tools/` beside a plain image, unless it is there."""
    target = image / "tools"
    if target.is_dir():
        return
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="new-") as directory:
        new = Path(directory) / "tools"
        for name in ("", "bin", "lib", "lib64"):
            (new / name).mkdir(mode=0o755)
        copy_programs(new)
        (new / "initrd").write_bytes((image / "initrd").read_bytes() + second_archive(find_kernel(), new))
        publish(new, target)


def command(program: str) -> list[str]:
    """Command prefix that runs one of the programs on a node, by its own loader: the machine's may be of another version."""
    tools = f"{GUEST_IMAGE_PATH}/tools"
    return [f"{tools}/{LOADER}", "--library-path", f"{tools}/lib", f"{tools}/bin/{program}"]


def unpacked_packages() -> Path:
    """The packages that the machine does not have, unpacked in the cache; downloaded with apt first if they are not there."""
    home = CACHE / f"packages-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:16]}"
    if not home.is_dir():
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="new-") as directory:
            archives, base = Path(directory) / "archives", Path(directory) / "base"
            for path in (archives / "partial", base):
                path.mkdir(parents=True)
            options = [f"Dir::Cache::archives={archives}", "APT::Sandbox::User=root", "Debug::NoLocking=true"]
            apt = ["apt-get", "-q", "--yes", "--no-install-recommends", "--download-only", *(word for option in options for word in ("-o", option))]
            run(*apt, "install", *PACKAGES, timeout=600)
            for package in archives.glob("*.deb"):
                run("dpkg-deb", "-x", str(package), str(base))
            publish(base, home)
    return home


def copy_programs(new: Path) -> None:
    """Copy the programs into `bin`, the libraries that they need into `lib`, their loader to where programs look for it."""
    for name, (program, places) in find_programs().items():
        shutil.copy(program, new / "bin" / name)
        for library in libraries(program, places):
            shutil.copy(library, new / (LOADER if library.match(LOADER) else f"lib/{library.name}"))


def find_programs() -> dict[str, tuple[Path, set[Path]]]:
    """Each program, and where its libraries are beside the machine's own places: the machine's, otherwise that of an unpacked package."""
    found: dict[str, tuple[Path, set[Path]]] = {}
    for name in PROGRAMS:
        here = shutil.which(name, path=ENVIRONMENT["PATH"])
        found[name] = (Path(here), set()) if here else find_unpacked(name, unpacked_packages())
    return found


def find_unpacked(name: str, base: Path) -> tuple[Path, set[Path]]:
    """A program of an unpacked package, and where the libraries of all packages are."""
    candidates = [base / directory / name for directory in ("usr/sbin", "usr/bin", "sbin", "bin")]
    program = next((path for path in candidates if path.is_file()), None)
    if program is None:
        raise LabError(f"neither this machine nor {base} has the program {name}: install it, or run python3 tests/lab clean-cache to have it downloaded")
    return program, {path.parent for path in base.glob("**/lib*.so.*")}


def libraries(program: Path, places: set[Path]) -> list[Path]:
    """The shared libraries of a program, its loader among them; none for a script."""
    if program.read_bytes()[:4] != b"\x7fELF":
        return []
    found = output("env", f"LD_LIBRARY_PATH={':'.join(map(str, sorted(places)))}", "ldd", str(program))
    if missing := re.findall(r"(\S+) => not found", found):
        raise LabError(f"{program} needs {', '.join(missing)}; run: python3 tests/lab clean-cache")
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", found)]


def second_archive(kernel: Kernel, tools: Path) -> bytes:
    """What the kernel unpacks over the plain initramfs."""
    archive = Archive()
    for directory in ("bin", "lib", "lib64", "tmp", "usr"):
        archive.add(directory, stat.S_IFDIR | 0o755)
    for link in ("sbin", "usr/bin", "usr/sbin"):
        archive.add(link, stat.S_IFLNK | 0o777, b"/bin")
    for path in sorted(path for path in tools.rglob("*") if path.is_file()):
        archive.add(str(path.relative_to(tools)), stat.S_IFREG | 0o755, path.read_bytes())
    archive.add("bin/shutdown", stat.S_IFREG | 0o755, SHUTDOWN)
    archive.add("bin/chpasswd", stat.S_IFREG | 0o755, CHPASSWD)
    archive.add_modules(kernel, (*MODULES, *TOOL_MODULES))
    return archive.finish()
