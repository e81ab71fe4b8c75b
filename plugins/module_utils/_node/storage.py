# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The words by which nodes prove that they see the same storage: this node's files of them, and those of others."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import threading
import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import storage as rules

#: A directory on a file server that is gone hangs: it is not waited for.
PATIENCE_SECONDS = 15.0
_MAX_BYTES = 4096
_WORD = re.compile(r"[0-9a-f]{32}")

T = t.TypeVar("T")


def write(host: str, directories: t.Iterable[str], known: rules.Written, dry_run: bool = False) -> tuple[dict[str, str], dict[str, str]]:
    """(a new word by directory, why there is none in others by directory).

    The word that the record store knows (``known``) stays in the file, as the second: whoever is killed between this and the record leaves
    a record that is still true. ``dry_run``: the words that are there already.
    """

    def one(directory: str) -> str:
        path = rules.file_of(host, directory)
        if dry_run:
            return rules.newest(_words(path))
        word = secrets.token_hex(16)
        _replace(path, [word, known[directory]] if known.get(directory) else [word])
        return word

    return _each(directories, one)


def read(of: t.Mapping[str, t.Iterable[str]]) -> tuple[dict[str, dict[str, list[str]]], dict[str, str]]:
    """(the words that are there now, by the node that wrote them and by directory, the newest first; why others could not be read, by directory).

    What could not be read has no words, which proves nothing to whoever has to know that there are none.
    """
    writers: dict[str, list[str]] = {}
    for host, directories in of.items():
        for directory in directories:
            writers.setdefault(directory, []).append(host)
    found, why = _each(writers, lambda directory: {host: _words(rules.file_of(host, directory)) for host in writers[directory]})
    return {host: {directory: found.get(directory, {}).get(host, []) for directory in directories} for host, directories in of.items()}, why


def remove(host: str, directories: t.Iterable[str], dry_run: bool = False) -> list[str]:
    """Remove this node's files; the directories that had one."""

    def one(directory: str) -> bool:
        path = rules.file_of(host, directory)
        if not os.path.lexists(path):
            return False
        if not dry_run:
            os.unlink(path)
        return True

    return sorted(directory for directory, was_there in _each(directories, one)[0].items() if was_there)


def _each(directories: t.Iterable[str], work: t.Callable[[str], T]) -> tuple[dict[str, T], dict[str, str]]:
    """``work`` on all directories at the same time: (what it gave, why it gave nothing), by directory."""
    found: dict[str, T] = {}
    why: dict[str, str] = {}

    def one(directory: str) -> None:
        try:
            found[directory] = work(directory)
        except OSError as exc:
            why[directory] = exc.strerror or str(exc)

    threads = {directory: threading.Thread(target=one, args=(directory,), daemon=True) for directory in directories}
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for directory, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            why[directory] = f"no answer for {PATIENCE_SECONDS:g} s"
    return {directory: value for directory, value in list(found.items()) if directory not in why}, why


def _words(path: str) -> list[str]:
    """The words of a file: none if it is not there, or is not such a file. The directory may be an unprivileged user's, so nothing is taken for granted."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            raise  # there may be words: a file server that does not answer, or lets nobody in
        return []
    try:
        content = os.read(descriptor, _MAX_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)
    return [line for line in content.decode("ascii", "replace").splitlines() if _WORD.fullmatch(line)]


def _replace(path: str, words: t.Sequence[str]) -> None:
    """Whole or not at all, and on the storage. Readable for all: on NFS the other nodes' root is nobody, and a word is no secret."""
    if not os.path.isdir(os.path.dirname(path)):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a run that was killed here
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(descriptor, 0o644)
        os.write(descriptor, "".join(f"{word}\n" for word in words).encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
