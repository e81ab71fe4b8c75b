# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Digests of several images, computed in a process of its own: whoever waits for them can do something else meanwhile, or give up."""

from __future__ import annotations

import multiprocessing
import os
import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import content_digest
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.progress import Report, progress

#: So far a digest may be ahead of the copy that it is computed beside: what it reads is still in memory when the copy comes there.
_AHEAD_BYTES = 256 * 1024 * 1024
_BEHIND_SECONDS = 0.05
_FORK = multiprocessing.get_context("fork")


class Image(t.NamedTuple):
    """One thing to digest: ``read`` is given what is to be told how far it is, and gives the digest as content_digest.of_image() does."""

    file_id: str
    size: int
    read: t.Callable[[content_digest.Report], dict[str, t.Any]]


def of_file(file: t.Mapping[str, t.Any], path: str) -> Image:
    """What a guest would read of a move file that lies at ``path``, while no guest uses it."""
    return Image(file["id"], int(file["virtual_bytes"]), lambda tell: content_digest.of_image(path, file["format"], tell))


def of_export(file_id: str, socket: str, length: int) -> Image:
    """The first ``length`` bytes of what somebody serves as ``file_id``."""
    return Image(file_id, length, lambda tell: content_digest.of_export(socket, file_id, tell, length))


def _nothing() -> None:
    """Nothing else has to be looked at."""


class _CopyBeside:
    """How far the copy is that reads the same files, told by the process that copies to the one that digests."""

    def __init__(self, size: int, digested: int) -> None:
        self._size, self._digested = size, digested  # bytes that it reads, bytes of the images
        self._done = _FORK.Value("Q", 0)

    def reaches(self, done: int) -> None:
        self._done.value = max(done, self._done.value)

    def ends(self) -> None:
        self._done.value = self._size

    def is_far_behind(self, read: int, at: int) -> bool:
        """Whether a digest that has ``read`` so many bytes, and is ``at`` this place of the images, is ahead of it by both.

        What lies in few places of an image is read before much of the image is done; what is scattered has it read more than there is.
        """
        done = int(self._done.value)
        return done < self._size and read > done + _AHEAD_BYTES and at * self._size > done * self._digested


class Digests:
    """The digests of all images, one after the other. ``found`` has what is done so far, by file id.

    ``copied_bytes``: what a copy will read of the same files meanwhile. The digest keeps beside it, so that what does not fit into the node's memory is read
    from its storage once, not twice.
    """

    def __init__(self, images: t.Sequence[Image], step: str, copied_bytes: int = 0) -> None:
        self._step = step  # what progress calls it
        self.found: dict[str, dict[str, t.Any]] = {}
        self._done, self._total = _FORK.Value("Q", 0), sum(image.size for image in images)
        self._copy = _CopyBeside(copied_bytes, self._total)
        self._answer, answer = _FORK.Pipe(duplex=False)
        self._process = _FORK.Process(target=_digest_all, args=(images, answer, self._done, self._copy), daemon=True)
        self._process.start()
        answer.close()
        self._begun = time.monotonic()

    @property
    def done(self) -> int:
        """Bytes of the images that are done with."""
        return int(self._done.value)

    def copied(self, done: int) -> None:
        """The copy of the same files has read so many bytes."""
        self._copy.reaches(done)

    def wait(self, report: Report, stall_timeout: float, watch: t.Callable[[], None] = _nothing, interval: float = 1.0) -> dict[str, t.Any]:
        """Until all are found; ``watch`` is called at every ``interval`` and may raise. The copy is over. Raises ColdmoveError."""
        self._copy.ends()
        before, moved_at = self._done.value, time.monotonic()
        while True:
            if self._answer.poll(interval):
                if self._take():
                    return self.found
                continue
            watch()
            if self._done.value != before:
                before, moved_at = self._done.value, time.monotonic()
            elif time.monotonic() - moved_at > stall_timeout:
                raise ColdmoveError(f"the digest got no further for {stall_timeout:g} s; is the storage stuck?")
            report(progress(self._step, self._done.value, self._total, time.monotonic() - self._begun))

    def _take(self) -> bool:
        """Take one answer in; True if it was the last one."""
        try:
            answer = self._answer.recv()
        except EOFError as exc:
            raise ColdmoveError("the digest ended without a word") from exc
        if isinstance(answer, str):
            raise ColdmoveError(answer)
        self.found.update(answer)
        return not answer

    def end(self) -> None:
        """Whatever is still being read is given up."""
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(10)


def _digest_all(images: t.Sequence[Image], answer: t.Any, done: t.Any, copy: _CopyBeside) -> None:
    base = read_before = 0
    job = multiprocessing.parent_process()

    def check_job() -> None:
        if job and os.getppid() != job.pid:
            raise SystemExit(1)  # a job that is gone needs no digest; and this process holds its lock, as if the job were alive

    def tell(at: int, _size: int, read: int) -> None:
        check_job()
        done.value = base + at
        while copy.is_far_behind(read_before + read, base + at):
            time.sleep(_BEHIND_SECONDS)
            check_job()

    try:
        for image in images:
            found = image.read(tell)
            answer.send({image.file_id: found})
            base, read_before = base + image.size, read_before + found["read_bytes"]
        answer.send({})
    except ColdmoveError as exc:
        answer.send(str(exc))
