# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Files that belong to a migration: whose they are, names taken without overwriting, durability."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import secrets
import stat
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, sync_directory


def remember(journal: Journal, path: str, *other_names: str) -> None:
    """Note that the file now at ``path`` is this migration's, under this name and ``other_names`` it will get."""
    foresee(journal, path, (path, *other_names))


def foresee(journal: Journal, path: str, names: t.Iterable[str]) -> None:
    """Note that the file now at ``path`` will be this migration's under ``names``. Under its present name it is not: it may have it back."""
    inode = os.lstat(path).st_ino
    journal.note(owned={**journal.data.get("owned", {}), **dict.fromkeys(names, inode)})


def is_ours(journal: Journal, path: str) -> bool:
    """Whether ``path`` is the very file that this migration noted under that name (same inode, not merely the same name)."""
    try:
        return bool(os.lstat(path).st_ino == journal.data.get("owned", {}).get(path))
    except FileNotFoundError:
        return False


def owner_of(path: str) -> dict[str, str]:
    """``{owner, group, mode}`` of a file, by name: numbers may mean somebody else on another node."""
    found = os.lstat(path)
    return {"owner": _name(pwd.getpwuid, found.st_uid), "group": _name(grp.getgrgid, found.st_gid), "mode": f"{stat.S_IMODE(found.st_mode):04o}"}


def _name(look_up: t.Callable[[int], t.Any], number: int) -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return ""


def give(path: str, owner: t.Mapping[str, str]) -> None:
    """Give a file the owner that owner_of() told of its source; names that this node does not know are left out."""
    with contextlib.suppress(KeyError):
        os.chown(path, pwd.getpwnam(owner["owner"]).pw_uid, -1, follow_symlinks=False)
    with contextlib.suppress(KeyError):
        os.chown(path, -1, grp.getgrnam(owner["group"]).gr_gid, follow_symlinks=False)
    os.chmod(path, int(owner["mode"], 8))


def prove_names(path: str) -> None:
    """Prove that a file beside ``path`` can be given a second name, which take_name() needs. Raises ColdmoveError, with nothing left behind."""
    names = _probes(path)
    try:
        _remove(names)  # of a step that was killed here
        os.close(os.open(names[0], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        os.link(names[0], names[1], follow_symlinks=False)
    except OSError as exc:
        raise ColdmoveError(
            f"the file system of {os.path.dirname(path)} does not take a second name for a file (a hard link), which a move needs there: {exc.strerror}"
        ) from exc
    finally:
        _remove(names)


def forget_probes(path: str) -> None:
    """Remove what prove_names() left if it was killed."""
    _remove(_probes(path))


def _probes(path: str) -> list[str]:
    """They begin with a name that is the migration's own."""
    return [f"{path}.probe", f"{path}.probe2"]


def _remove(names: t.Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def make_durable(path: str) -> None:
    """Wait until every byte of ``path`` is on its storage."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def boot_mark() -> str:
    """A word that stays the same until this node starts anew. (Not the kernel's boot_id: a container shares that with its host.)"""
    with contextlib.suppress(FileNotFoundError):
        return paths.BOOT_MARK.read_text(encoding="ascii")
    paths.BOOT_MARK.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=paths.BOOT_MARK.parent, encoding="ascii") as made:
        made.write(secrets.token_hex(16))
        made.flush()
        with contextlib.suppress(FileExistsError):  # of two steps at the same time one is first
            os.link(made.name, paths.BOOT_MARK)
    return paths.BOOT_MARK.read_text(encoding="ascii")


def take_name(old: str, new: str) -> None:
    """Rename ``old`` to ``new`` without ever replacing a file; done already is done. Both lie in one directory."""
    if old == new:
        return
    try:
        os.link(old, new, follow_symlinks=False)
    except FileNotFoundError:
        if not os.path.lexists(new):
            raise ColdmoveError(f"neither {old} nor {new} is there any more") from None
        return
    except OSError as exc:
        if exc.errno != errno.EEXIST:
            raise ColdmoveError(f"cannot rename {old} to {new}: {exc.strerror}") from exc
        if not os.path.samestat(os.lstat(old), os.lstat(new)):
            raise ColdmoveError(f"{new} exists and is another file than {old}: both are kept. Compare them and move one away") from exc
    os.unlink(old)
    sync_directory(Path(new).parent)


def missing_directories(path: str, below: str) -> list[str]:
    """The directories on the way to ``path`` that do not exist, outermost first. Raises ColdmoveError if one of them would not lie below ``below``."""
    missing: list[str] = []
    directory = os.path.normpath(path)
    while not os.path.isdir(directory):
        if os.path.lexists(directory):
            raise ColdmoveError(f"{directory} is on the way to {path} and is not a directory: move it away, then run the same command again")
        missing.insert(0, directory)
        directory = os.path.dirname(directory)
    # Where it really is: neither .. nor a link leads out.
    if missing and not _lies_in(os.path.realpath(directory), os.path.realpath(below)):
        raise ColdmoveError(
            f"directory {missing[-1]} does not exist on this node and is not under instances_path {below}: create it or mount what belongs there"
        )
    return missing


def _lies_in(directory: str, below: str) -> bool:
    return os.path.commonpath([directory, below]) == below


def make_directories(missing: t.Iterable[str]) -> None:
    """Create what missing_directories() told; another migration may have been quicker."""
    for directory in missing:
        try:
            os.mkdir(directory, 0o711)
        except FileExistsError:
            continue
        except OSError as exc:
            raise ColdmoveError(f"cannot create directory {directory}: {exc.strerror}") from exc
        sync_directory(Path(directory).parent)


def remove_if_empty(directory: str) -> None:
    """Remove a directory that this migration made, unless something lies in it."""
    try:
        os.rmdir(directory)
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise ColdmoveError(f"cannot remove directory {directory}: {exc.strerror}") from exc
