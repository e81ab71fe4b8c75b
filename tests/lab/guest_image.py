# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests' kernel and initramfs: Debian's cloud kernel, a static busybox, a few modules and two shell scripts.

Built once into CACHE and kept there over labs (`python3 tests/lab clean-cache` removes it). Nothing is installed on the machine:
the kernel's package is only unpacked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.shell import output, run

if TYPE_CHECKING:
    from collections.abc import Sequence

CACHE = Path("/var/cache/coldmove-lab")
SCRIPTS = Path(__file__).resolve().parent / "guest"
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "button", "evdev", "ext4", "af_packet")
KERNEL_PACKAGES = ("linux-image-cloud-amd64", "linux-image-virtual")
"""Debian's name, Ubuntu's name."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: base/boot/vmlinuz-VERSION and base/lib/modules/VERSION."""

    base: Path
    version: str

    @property
    def image(self) -> Path:
        """The kernel itself."""
        return self.base / "boot" / f"vmlinuz-{self.version}"


def ensure() -> Path:
    """The directory that holds `vmlinuz` and `initrd`, built if it is not there."""
    busybox = find_busybox()
    kernel = find_kernel()
    scripts = {name: (SCRIPTS / name).read_bytes() for name in ("init", "command")}
    makers = [Path(__file__).with_name(name).read_bytes() for name in ("guest_image.py", "guest_tools.py")]
    digest = hashlib.sha256(b"\0".join([kernel.version.encode(), *makers, busybox.read_bytes(), *scripts.values()]))
    target = CACHE / f"image-{digest.hexdigest()[:16]}"
    if target.is_dir():
        return target
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="new-") as directory:
        new = Path(directory) / "image"
        new.mkdir(mode=0o755)
        shutil.copyfile(kernel.image, new / "vmlinuz")
        (new / "initrd").write_bytes(initramfs(kernel, busybox, scripts))
        publish(new, target)
    return target


def clean() -> None:
    """Remove all that ensure() made."""
    shutil.rmtree(CACHE, ignore_errors=True)


def publish(new: Path, target: Path) -> None:
    """Move a finished directory to its place; another lab that was faster is as good."""
    try:
        new.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def find_busybox() -> Path:
    """A statically linked busybox."""
    for name in ("/bin/busybox", "/usr/bin/busybox", "/sbin/busybox"):
        path = Path(name)
        if path.is_file() and run("ldd", name, check=False).returncode:
            return path
    raise LabError("the guests need a static busybox: install the package busybox-static")


def find_kernel() -> Kernel:
    """The unpacked kernel in the cache; downloaded with apt first if it is not there."""
    home = CACHE / "kernel"
    if not home.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="new-") as directory:
            publish(download(Path(directory)), home)
    versions = [path.name.partition("-")[2] for path in (home / "boot").glob("vmlinuz-*")]
    if len(versions) != 1:
        raise LabError(f"{home} should hold one kernel, it holds {len(versions)}; remove it")
    return Kernel(home, versions[0])


def download(directory: Path) -> Path:
    """Unpack the newest cloud kernel of the distribution."""
    packages = kernel_packages()
    run("sh", "-c", 'cd "$1" && shift && apt-get -q -o APT::Sandbox::User=root download "$@"', "sh", str(directory), *packages, timeout=600)
    base = directory / "kernel"
    base.mkdir(mode=0o755)
    for package in directory.glob("*.deb"):
        run("dpkg-deb", "-x", str(package), str(base))
    if not (base / "lib").exists():
        (base / "lib").symlink_to("usr/lib")
    for version in os.listdir(base / "lib/modules"):
        run("depmod", "-b", str(base), version)
    return base


def kernel_packages() -> list[str]:
    """Names of the packages with the newest cloud kernel and its modules."""
    for name in KERNEL_PACKAGES:
        wanted = depends(name)
        for image in list(wanted):
            wanted += [package for package in depends(image) if package.startswith("linux-modules-")]
        if wanted:
            return sorted(set(wanted))
    raise LabError(f"apt knows none of {', '.join(KERNEL_PACKAGES)}: run apt-get update, or unpack a kernel into {CACHE}/kernel (boot/, lib/modules/)")


def depends(package: str) -> list[str]:
    """Kernel packages that a package depends on."""
    lines = run("apt-cache", "depends", "--important", package, check=False).stdout.splitlines()
    names = [line.split()[-1] for line in lines if line.strip().startswith("Depends:")]
    return [name for name in names if name.startswith(("linux-image-", "linux-modules-"))]


def module_files(kernel: Kernel, wanted: Sequence[str]) -> list[Path]:
    """Files of modules, each after those that it needs."""
    found: dict[Path, None] = {}
    for name in wanted:
        lines = output("modprobe", "--show-depends", "-d", str(kernel.base), "-S", kernel.version, name).splitlines()
        for line in lines:
            if line.startswith("insmod "):
                found[Path(line.split()[1])] = None
    return list(found)


def initramfs(kernel: Kernel, busybox: Path, scripts: dict[str, bytes]) -> bytes:
    """The guests' whole user land, as a cpio archive."""
    archive = Archive()
    for directory in ("bin", "data", "dev", "disks", "modules", "proc", "run", "sys"):
        archive.add(directory, stat.S_IFDIR | 0o755)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.add("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    for applet in output(str(busybox), "--list").split():
        if applet not in ("busybox", "shutdown"):
            archive.add(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")
    archive.add("init", stat.S_IFREG | 0o755, scripts["init"])
    archive.add("bin/command", stat.S_IFREG | 0o755, scripts["command"])
    archive.add_modules(kernel, MODULES)
    return archive.finish()


def module_name(path: Path) -> str:
    """Name of a module's file without a suffix of compression."""
    return path.name.partition(".ko")[0] + ".ko"


def unpacked(path: Path) -> bytes:
    """Content of a module, which some distributions compress."""
    tools = {".zst": "zstd", ".xz": "xz", ".gz": "gzip"}
    if path.suffix not in tools:
        return path.read_bytes()
    with tempfile.TemporaryDirectory() as directory:
        plain = Path(directory) / "module.ko"
        run("sh", "-c", '"$1" -dc "$2" > "$3"', "sh", tools[path.suffix], str(path), str(plain))
        return plain.read_bytes()


class Archive:
    """A cpio archive of the kind that the kernel unpacks (newc)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._entries = 0

    def add(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        """Add one file of any kind; a symbolic link's content is its target."""
        self._entries += 1
        path = name.encode() + b"\0"
        numbers = (self._entries, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        header = b"070701" + b"".join(b"%08X" % number for number in numbers) + path
        self._parts += [padded(header), padded(content)]

    def add_modules(self, kernel: Kernel, wanted: Sequence[str]) -> None:
        """Add modules, and the order in which to load them."""
        files = module_files(kernel, wanted)
        for path in files:
            self.add(f"modules/{module_name(path)}", stat.S_IFREG | 0o644, unpacked(path))
        self.add("modules/order", stat.S_IFREG | 0o644, "".join(f"{module_name(path)}\n" for path in files).encode())

    def finish(self) -> bytes:
        """The whole archive."""
        self.add("TRAILER!!!", 0)
        return b"".join(self._parts)


def padded(content: bytes) -> bytes:
    """Content filled up to a multiple of four bytes."""
    return content + b"\0" * (-len(content) % 4)
