# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The precopy: a job of the source that keeps the disks of a running guest in step with the dest's exports, until the guest is off or it is ended.

QEMU does the work (a mirror with synchronous writes). The source's disks stay what they are at every instant: if this job, the link or the dest goes away,
the mirror ends and the guest goes on alone. A link that breaks is waited for, and the mirror begun anew.
"""

from __future__ import annotations

import contextlib
import time
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import aids, exports, libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.nbd_relay import Relay
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.nbd_stream import NO_SPACE
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.progress import Report, progress

#: The name of the job.
JOB = "mirror"
#: A guest's writes wait for the dest no longer than this. The other end answers within milliseconds; a link that is slow moves something all the time.
STALLED_SECONDS = 3.5
#: How often the mirror is begun anew after a link that broke and came back.
RESTARTS = 5
#: The other end may go in the moment in which the guest does: so long before a mirror that is lost is begun anew.
_BREAK_SECONDS = 1.0
#: A QEMU that ends is gone by then: libvirt kills it before that.
_ENDING_SECONDS = 60.0
#: How long the last words of connections are waited for whose QEMU is gone; a moment, unless all cores are busy.
_PARTING_SECONDS = 10.0
#: How long a mirror that had to begin anew at the last moment is given to be in step again.
IN_STEP_SECONDS = 60.0
#: How long the verdict of a mirror is waited for once the guest is off.
VERDICT_SECONDS = 20.0
#: How long a libvirt that is away is waited for.
_LIBVIRT_SECONDS = 60.0
_POLL_SECONDS = 0.1
_REPORT_SECONDS = 1.0
_RETRY_SECONDS = 1.0
#: The guest executes, or could go on to.
_ON = ("running", "blocked", "paused", "shutdown", "pmsuspended")

State = t.Literal["running", "in_step", "over", "lost"]


class Order(t.NamedTuple):
    """What to keep in step: ``files`` (move files, disks of the running server), where to, and how."""

    server_uuid: str
    files: list[dict[str, t.Any]]
    #: file id -> local socket of the data channel behind which its export is
    sockets: dict[str, str]
    #: bytes per second of what is copied beside the guest's own writes, 0 is no limit
    bandwidth_limit: int
    #: give up when nothing has moved, or the other end is away, for so long
    stall_timeout: int
    #: give up when the ends are not in step by then; seconds
    timeout: int


class _LinkLost(ColdmoveError):
    """The other end is not reached any more; the guest runs on."""


class _CannotBegin(ColdmoveError):
    """QEMU or libvirt does not mirror a disk here at all."""


def state_of(journal: Journal) -> State | None:
    """How a precopy of this migration stands on this node: ``over`` once the guest is off, ``lost`` if it has ended before; None if there is none."""
    status = Job(journal, JOB).status()
    if status["state"] == "absent":
        return None
    if status["state"] == "running":
        return "in_step" if status["progress"].get("in_step") else "running"
    return "over" if status["state"] == "done" and status["result"]["off"] else "lost"


def mirrored(journal: Journal) -> dict[str, str]:
    """Which disks are complete on the dest, with the tokens of the exports that took them in: those that were in step until the guest was off."""
    status = Job(journal, JOB).status()
    if status["state"] != "done" or not status["result"]["mirrored"]:
        return {}
    return dict(journal.data.get("precopied", {}))


def conclude(journal: Journal) -> tuple[dict[str, str], str]:
    """mirrored(), after the guest is off, and why not if there was a mirror and it is of no use: the last words of the job are waited for.

    The sockets that are needed no more are removed.
    """
    status = Job(journal, JOB).wait(VERDICT_SECONDS)
    complete = mirrored(journal)
    for token in complete.values():
        for socket in (str(paths.OFFERS_DIR / token), aids.beside(str(paths.OFFERS_DIR / token))):
            Path(socket).unlink(missing_ok=True)
    return complete, "" if complete else _why_not(status)


def check_in_step(journal: Journal) -> None:
    """The last look before the guest is shut down. Raises ColdmoveError if it has a mirror that is not in step, nor within IN_STEP_SECONDS."""
    status = Job(journal, JOB).wait(IN_STEP_SECONDS, lambda: state_of(journal) != "running")
    if state_of(journal) in ("running", "lost") and (why := _why_not(status)):
        raise ColdmoveError(f"source and dest are not in step any more ({why}). The server runs on untouched; run the same command again")


def _why_not(status: t.Mapping[str, t.Any]) -> str:
    """Why a mirror is not complete; empty for one that was never begun: nobody waits for that."""
    if status["state"] == "absent":
        return ""
    if status["state"] == "done":
        return str(status["result"]["reason"]) if status["result"]["begun"] else ""
    return str(status.get("error") or f"its job is {status['state']}")


def precopy(order: Order, report: Report) -> dict[str, t.Any]:
    """Mirror until the guest is off: ``{off, mirrored, begun, reason, restarts, seconds}``.

    ``mirrored``: every disk was in step until the guest was off, and all that was sent was taken. ``begun`` is False if QEMU cannot mirror the disks at all
    (``reason`` says why): nothing has happened then. Raises ColdmoveError if it came to nothing otherwise; the guest runs on.
    """
    begun = time.monotonic()
    paths.MIRRORS_DIR.mkdir(mode=0o711, exist_ok=True)
    for restarts in range(RESTARTS + 1):
        try:
            with _Mirrors(order, begun, restarts, report) as mirrors:
                reason = mirrors.follow()
            return {"off": True, "mirrored": not reason, "begun": True, "reason": reason, "restarts": restarts, "seconds": _since(begun)}
        except _CannotBegin as exc:
            return {"off": False, "mirrored": False, "begun": False, "reason": str(exc), "restarts": restarts, "seconds": _since(begun)}
        except _LinkLost as exc:
            lost = exc
            _await_other_end(order, exc, report)
    raise ColdmoveError(f"the link to the dest broke {RESTARTS + 1} times, the last time: {lost}. The server runs on untouched")


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 3)


def _await_other_end(order: Order, lost: _LinkLost, report: Report) -> None:
    """Until every export answers again. Raises ColdmoveError when that takes too long."""
    begun = time.monotonic()
    while True:
        try:
            for name, socket in order.sockets.items():
                exports.probe(socket, name)
            return
        except ColdmoveError as exc:
            if time.monotonic() - begun > order.stall_timeout:
                raise ColdmoveError(f"{lost}, and the dest was not reached again within {order.stall_timeout} s ({exc}). The server runs on untouched") from exc
        report({**progress("precopy: waiting for the dest", 0, 0, 0.0), "percent": 0.0})
        time.sleep(_RETRY_SECONDS)


class _Mirrors:
    """The mirrors of all disks of one server, from their begin to their end."""

    def __init__(self, order: Order, begun: float, restarts: int, report: Report) -> None:
        self._order, self._report = order, report
        self._libvirt = contextlib.ExitStack()
        self._connect()
        self._begun, self._restarts = begun, restarts
        self._relays: dict[str, Relay] = {}
        self._ready: set[str] = set()
        self._was_in_step = False
        self._moved_at = time.monotonic()
        self._done_before = -1
        self._reported_at = 0.0

    def _connect(self) -> None:
        self._libvirt.close()
        self._host = self._libvirt.enter_context(libvirt_host.connected())
        self._domain = self._host.domain(self._order.server_uuid)

    def _connect_again(self) -> None:
        """libvirtd may be started anew at any time, for an update; QEMU and its mirrors go on meanwhile. Raises ColdmoveError if it does not come back."""
        deadline = time.monotonic() + _LIBVIRT_SECONDS
        while True:
            try:
                self._connect()
                return
            except ColdmoveError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_SECONDS)

    def __enter__(self) -> _Mirrors:
        try:
            uid = self._host.account_of(self._domain)
            for file in self._order.files:
                self._begin(file["id"], uid)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._end()

    def _begin(self, target: str, uid: int) -> None:
        channel = self._order.sockets[target]
        exports.probe(channel, target)  # what is wrong with the channel is not taken for QEMU's refusal
        relay = self._relays[target] = Relay(_socket(channel), channel, uid)
        try:
            self._host.begin_mirror(self._domain, target, str(_socket(channel)), target, self._order.bandwidth_limit)
        except ColdmoveError as exc:
            if relay.ended == "server":
                raise _LinkLost(f"disk {target}: the connection to the dest broke ({relay.problem or 'closed by the other end'})") from exc
            raise _CannotBegin(str(exc)) from exc

    def _end(self) -> None:
        """End what is ours. The connections go first: a job whose other end is silent could not be ended."""
        for target, relay in self._relays.items():
            relay.close()
            with contextlib.suppress(ColdmoveError):
                if self._host.mirror_socket(self._domain, target) == str(_socket(self._order.sockets[target])):
                    self._host.cancel_block_job(self._domain, target)
        self._libvirt.close()

    def follow(self) -> str:
        """Until the guest is off; then why the dest's copy is not complete, empty if it is. Raises ColdmoveError if the mirror ends before the guest does."""
        while True:
            try:
                if self._host.state_of(self._domain) not in _ON:
                    return self._judge()
                self._look()
            except ColdmoveError:
                if self._host.alive():
                    raise
                self._connect_again()
            time.sleep(_POLL_SECONDS)

    def _look(self) -> None:
        """See how far it is. Raises ColdmoveError if a mirror has ended and the guest has not."""
        for target, relay in self._relays.items():
            if relay.waits() > STALLED_SECONDS:
                relay.break_off()
            if relay.ended and self._runs_on(relay):
                raise self._lost(target, relay)
        jobs = {target: self._job(target) for target in self._relays}
        if None in jobs.values():
            return  # it has just ended, or the guest has: the next look tells
        found = [job for job in jobs.values() if job]
        # Once in step it stays so: no write is acknowledged that is not on both ends. What libvirt says while QEMU ends takes nothing of that back.
        self._ready.update(target for target, job in jobs.items() if job and job.ready)
        in_step = len(self._ready) == len(jobs)
        done, total = sum(job.done for job in found), sum(job.total for job in found)
        self._check_time(in_step, done)
        if in_step != self._was_in_step or time.monotonic() - self._reported_at >= _REPORT_SECONDS:
            self._was_in_step, self._reported_at = in_step, time.monotonic()
            step = "in step" if in_step else "precopy"
            self._report({**progress(step, done, total, time.monotonic() - self._begun), "in_step": in_step, "restarts": self._restarts})

    def _job(self, target: str) -> libvirt_host.BlockJob | None:
        """The mirror of a disk. A QEMU that is just ending cannot be asked; what that means is told by its connections and its state."""
        try:
            return self._host.block_job(self._domain, target)
        except ColdmoveError:
            if not self._host.alive():
                raise
            return None

    def _runs_on(self, relay: Relay) -> bool:
        """Whether the guest goes on although its connection has ended.

        QEMU closes its connections when it ends, with its guest's CPUs stopped, and answers nobody from then on. One that still answers lets its guest
        write on without the mirror, be it off a moment later.
        """
        if relay.ended != "client":
            return relay.ended_for() > _BREAK_SECONDS
        return self._host.answers(self._domain) or relay.ended_for() > _ENDING_SECONDS

    def _lost(self, target: str, relay: Relay) -> ColdmoveError:
        if relay.error == NO_SPACE:
            return ColdmoveError(f"disk {target}: the dest has no room left. The server runs on untouched; make room there, then run the same command again")
        if relay.error:
            return ColdmoveError(f"disk {target}: the dest could not write (error {relay.error}). The server runs on untouched; see the dest's storage")
        if relay.ended == "client":
            return ColdmoveError(f"disk {target}: the mirror was ended by somebody else (virsh blockjob?). The server runs on untouched")
        return _LinkLost(f"disk {target}: the connection to the dest broke ({relay.problem or 'it was silent' if relay.ended == 'broken' else 'closed'})")

    def _check_time(self, in_step: bool, done: int) -> None:
        now = time.monotonic()
        if in_step or done != self._done_before:
            self._done_before, self._moved_at = done, now
        elif now - self._moved_at > self._order.stall_timeout:
            raise ColdmoveError(f"the precopy got no further for {self._order.stall_timeout} s. The server runs on untouched")
        if not in_step and not self._was_in_step and now - self._begun > self._order.timeout:
            raise ColdmoveError(
                f"source and dest are not in step after {self._order.timeout} s (precopy_timeout): the link is too slow for the disks, or for what the guest "
                "writes. The server runs on untouched. Give it more time, choose a quieter time, or move it with -e precopy=never"
            )

    def _judge(self) -> str:
        deadline = time.monotonic() + _PARTING_SECONDS
        while time.monotonic() < deadline and not all(relay.ended for relay in self._relays.values()):
            time.sleep(0.02)
        for target, relay in self._relays.items():
            if target not in self._ready:
                return f"disk {target} was not in step when the guest went off"
            if relay.error or relay.ended != "client" or relay.unanswered:
                how = f"connection {relay.ended or 'open'}, error {relay.error}, {relay.unanswered} unanswered"
                return f"disk {target}: not all of the last writes were taken by the dest ({how})"
        return ""


def _socket(channel: str) -> Path:
    """QEMU's own socket for an export."""
    return paths.MIRRORS_DIR / Path(channel).name
