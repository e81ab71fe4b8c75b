# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What to do about a migration whose run was killed: is it dead, and which way is safe from here.

On the same node (a resize in place) source and dest are two views of one node: its one definition of the server is the dest's if the
migration made it, else the source's. The held copy is what the overlays stand on.

Two laws rule every decision. Never two running: a guest is started on one node only if the other one has been asked and does
not run it, or if the record proves that it never could. Never zero good copies: a copy is deleted only if the other one has
been seen to be complete. On doubt the decision is ``blocked``, and everything stays.
"""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import cutover, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import ACTIVE
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import JournalSummary, Migration, MoveState, Owner

#: Statuses on the way to the dest. The guest is started there in the last one only.
IN_FLIGHT = ("accepted", "pre-migrating", "migrating", "post-migrating")
#: In these the record itself proves that a start on the dest was never attempted.
BEFORE_START = ("accepted", "pre-migrating", "migrating")
#: In these the source copy has not been set aside yet.
BEFORE_HOLD = ("accepted", "pre-migrating")

Name = t.Literal["roll_back", "finish", "resume_confirm", "resume_revert", "clean_gone", "clean_pending", "clean_returned", "nothing", "blocked"]

#: ``end_precopy`` ends the mirror of a running guest's disks, which goes on alone.
#: ``withdraw_dest`` stops the guest on dest and undefines it there, its files stay; ``clean_dest`` deletes the files that the record names there.
#: ``prove`` compares what the server was started with on dest with the held copy, if the start was one that is proven afterwards.
#: ``restore_source`` brings the held copy back, defined and off; ``delete_held`` deletes it; ``merge_held`` makes it one with the overlays on top of it.
#: ``clean_source`` removes what a node that has returned has of a server that was evacuated from it.
#: ``close`` writes the outcome into the record and closes the journals.
Step = t.Literal[
    "end_precopy",
    "withdraw_dest",
    "define_dest",
    "start_dest",
    "prove",
    "restore_source",
    "start_source",
    "clean_dest",
    "delete_held",
    "merge_held",
    "clean_source",
    "close",
]
#: The order in which every decision has its steps, and roles/recover/tasks/act.yml takes them.
ORDER: tuple[Step, ...] = t.get_args(Step)


class Decision(t.TypedDict):
    """``steps`` in their order; ``pending_hosts``: nodes that cannot be cleaned now and are to be noted in the record."""

    decision: Name
    reason: str
    steps: list[Step]
    pending_hosts: list[str]


class Liveness(t.TypedDict):
    """``mine``: the record belongs to this very run."""

    state: t.Literal["alive", "dead", "unknown"]
    mine: bool
    text: str


class LocalRun(t.TypedDict, total=False):
    """The run that asks, and what it sees of the process that the record names (None: no such process here)."""

    controller: str
    boot_id: str
    pid_ns: str
    pid: int
    pid_start: int
    owner_start: int | None


# --- dead or slow ----------------------------------------------------------------------------------------------------------


def run_liveness(record: Migration, journals: t.Iterable[JournalSummary], lease_seconds: float, local_run: LocalRun) -> Liveness:
    """Whether the run that owns ``record`` is alive.

    On the same controller its process is looked at. From elsewhere the youngest sign of life counts: the record's heartbeat
    or its last contact with a node; older than ``lease_seconds`` is dead.
    """
    owner: Owner = record.get("owner") or {}
    who = f"process {owner.get('pid')} on {text.shown(owner.get('controller') or 'an unknown controller')}"
    if owner.get("awx_job_id"):
        who = f"AWX job {text.shown(owner.get('awx_job_id'))}, {who}"
    if _same_controller(owner, local_run):
        if _mine(owner, local_run):
            return {"state": "alive", "mine": True, "text": "this very run"}
        if owner.get("pid_start") and local_run.get("owner_start") == owner.get("pid_start"):
            return {"state": "alive", "mine": False, "text": f"{who} is running on this controller"}
        return _dead(f"{who} is gone (looked at on this same controller)")
    age = _youngest_sign(record, journals)
    if age is None:
        return {"state": "unknown", "mine": False, "text": f"{who}: neither the record nor any node that answers knows a sign of life"}
    if age < lease_seconds:
        left = text.human_seconds(lease_seconds - age)
        return {
            "state": "alive",
            "mine": False,
            "text": f"{who} is slow or working: its last sign of life was {text.human_seconds(age)} ago. Without another it counts as dead in {left}",
        }
    return _dead(f"{who} gave its last sign of life {text.human_seconds(age)} ago, the limit is {text.human_seconds(lease_seconds)}")


def _dead(reason: str) -> Liveness:
    return {"state": "dead", "mine": False, "text": reason}


def _same_controller(owner: Owner, local: LocalRun) -> bool:
    keys: tuple[t.Literal["controller", "boot_id", "pid_ns"], ...] = ("controller", "boot_id", "pid_ns")
    return bool(owner.get("pid")) and all(owner.get(key) and owner.get(key) == local.get(key) for key in keys)


def _mine(owner: Owner, local: LocalRun) -> bool:
    return owner.get("pid") == local.get("pid") and bool(owner.get("pid_start")) and owner.get("pid_start") == local.get("pid_start")


def _youngest_sign(record: Migration, journals: t.Iterable[JournalSummary]) -> float | None:
    ages = [record.get("heartbeat_age_seconds")]
    # A contact under an older epoch is a sign of a run that has been replaced, not of the owner.
    ages += [
        journal.get("contact_age_seconds")
        for journal in journals
        if journal.get("migration_uuid") == record.get("uuid") and journal.get("epoch") == record.get("epoch")
    ]
    known = [float(age) for age in ages if age is not None]
    return min(known) if known else None


# --- which way ---------------------------------------------------------------------------------------------------------------


class _Case:
    """One migration with what both nodes say of it, and the questions that the rules ask."""

    def __init__(self, record: Migration, source: MoveState | None, dest: MoveState | None, off: t.Collection[str] = ()) -> None:
        self.record = record
        self.source = source
        self.dest = dest
        self.status = record.get("status", "")
        self.at_source = record.get("source_host") or "the source"
        self.at_dest = record.get("dest_host") or "the dest"
        self.in_place = bool(record.get("dest_host")) and record.get("source_host") == record.get("dest_host")
        # Silence alone says nothing of what runs there. A node that was fenced runs nothing, and starts nothing of ours if it comes back.
        self.source_is_off = source is None and record.get("source_host") in off
        self.dest_is_off = dest is None and record.get("dest_host") in off

    @property
    def source_domain(self) -> str:
        return "silent" if self.source is None else self.source.get("domain", "absent")

    @property
    def dest_domain(self) -> str:
        # Before a dest is chosen there is nothing on it.
        if not self.record.get("dest_host"):
            return "absent"
        return "silent" if self.dest is None else self.dest.get("domain", "absent")

    @property
    def started(self) -> bool:
        return bool(self.dest and self.dest.get("started"))

    @property
    def was_begun(self) -> bool:
        """Whether a start on dest was begun; whoever was killed right after it has not told of its success."""
        return self.started or bool(self.dest and self.dest.get("starting"))

    @property
    def dest_waits(self) -> bool:
        """Whether a step that was killed has left the guest paused on dest, before its first instruction."""
        return bool(self.dest and self.dest.get("waiting"))

    @property
    def proof(self) -> str | None:
        return (self.dest or {}).get("proof")

    @property
    def was_running(self) -> bool:
        return (self.record.get("old_power_state") or "running") == "running"

    def precopies(self) -> bool:
        """Whether the source has begun to mirror the disks of the running guest."""
        return bool(self.source and self.source.get("precopy"))

    def was_shut_down(self) -> bool:
        """Whether somebody else has stopped the guest while its disks were kept in step, and may not want it back. Nothing has been set aside yet."""
        ended = bool(self.source and self.source.get("precopy") == "over")
        return self.status in BEFORE_HOLD and (ended or cutover.is_held(self.record))

    def source_complete(self) -> bool:
        """Every file is on the source, under its own or its held name; a guest that runs there needs no further proof."""
        if self.source is None:
            return False
        return self.source_domain == "running" or self._all_files(self.source, lambda file, names: bool(names & {"source", "held"}))

    def dest_complete(self) -> bool:
        """Every file is on the dest under its final name, which it gets only when its content has been proven."""
        if self.dest is None:
            return False

        def final(file: t.Mapping[str, t.Any], names: set[str]) -> bool:
            # With one path for both ends, the node reports the final name as the source's.
            # (A device of that name says nothing: it was there before.)
            same = "source" in names and file.get("source_path") == file.get("dest_path") and not file.get("device")
            return bool(names & {"final", "merged"}) or same or file.get("way") == "drop"

        return self.dest_domain == "running" or self._all_files(self.dest, final)

    def is_back(self) -> bool:
        """The server is on the source, in the state that it was in when it left."""
        return self.source_domain == ("running" if self.was_running else "defined")

    def dest_disks_gone(self) -> bool:
        """No disk of the server is left on the dest (firmware variables may be)."""
        seen = (self.dest or {}).get("files") or {}
        disks = [file for file in self.record.get("files") or [] if file.get("kind") != "nvram" and file.get("way") != "drop"]
        return self.dest is not None and all(seen.get(file["id"], "missing") == "missing" for file in disks)

    def files_of_source(self) -> list[str]:
        """Paths of the source's own files that are still there."""
        seen = (self.source or {}).get("files") or {}
        files = self.record.get("files") or []
        return [file["source_path"] for file in files if "source" in seen.get(file["id"], "missing").split("+")]

    def _all_files(self, state: MoveState, good: t.Callable[[t.Mapping[str, t.Any], set[str]], bool]) -> bool:
        seen = state.get("files") or {}
        files = t.cast("list[dict[str, t.Any]]", self.record.get("files") or [])
        return all(good(file, set(seen.get(file["id"], "missing").split("+"))) for file in files)


def decide(
    record: Migration,
    source_state: MoveState | None,
    dest_state: MoveState | None,
    seen_on: str = "",
    *,
    off: t.Collection[str] = (),
    fenced: t.Collection[str] = (),
) -> Decision:
    """What is to be done about ``record``, given what its nodes say of it (None: the node does not answer).

    ``seen_on``: a node on which the server is defined now, for an ended migration whose server has been moved on since.
    ``fenced``: nodes that were fenced since the migration began, and have not been put back into service. ``off``: those of them that do not answer.
    """
    decision = _decide(record, source_state, dest_state, seen_on, off)
    # Else their silence, the next time, would not mean that nothing runs there.
    for step, end in (("start_source", "source_host"), ("start_dest", "dest_host")):
        host = str(record.get(end))
        if step in decision["steps"] and host in fenced:
            back = text.command("compute_service", host=host, state="enabled")
            return _blocked(_Case(record, source_state, dest_state), f"{host} was fenced and is not back in service: nothing is started there. Next: {back}")
    return decision


def _decide(record: Migration, source_state: MoveState | None, dest_state: MoveState | None, seen_on: str, off: t.Collection[str]) -> Decision:
    case = _Case(record, source_state, dest_state, off)
    ended = case.status not in ACTIVE
    if ended and not record.get("pending_hosts"):
        return _nothing(f"the migration has ended ({case.status})")
    if case.source_domain == "running" and case.dest_domain == "running":
        return _blocked(
            case,
            f"DANGER, THE SERVER RUNS ON BOTH {case.at_source} AND {case.at_dest}: find out which one has the data to keep and stop the other one "
            f"now (virsh destroy {record.get('server_uuid')}); both copies stay as they are",
        )
    if record.get("migration_type") == "evacuation":
        return _returned(case, seen_on) if case.status == "done" else _evacuation(case)
    if ended:
        return _clean_pending(case, seen_on)
    return {"finished": _finished, "confirming": _confirming, "reverting": _reverting}.get(case.status, _in_flight)(case)


def _in_flight(case: _Case) -> Decision:
    if case.source_is_off and not case.in_place:
        return _source_lost(case)
    if case.proof == "failed" and case.status not in BEFORE_START:
        return _differs(case)
    if case.dest_domain == "running":
        return _running_on_dest(case)
    if case.dest_domain == "defined" and case.status in BEFORE_HOLD:
        return _blocked(case, f"the server is defined on {case.at_dest}, but not by this migration (status {case.status}): somebody else did it")
    if case.started:
        return _ran_on_dest(case)
    if case.status == "post-migrating" and not case.was_running and case.dest_domain == "defined" and case.dest_complete():
        return _stopped_server_on_dest(case)
    return _roll_back(case)


def _source_lost(case: _Case) -> Decision:
    """The source is proven off. If the dest has all of the server, it goes on there with its data, which an evacuation could not do."""
    if case.dest_domain == "silent":
        return _blocked(case, f"{case.at_source} is off and {case.at_dest} does not answer: nothing is started before it can be asked")
    if case.status in BEFORE_HOLD or (case.status == "migrating" and not case.record.get("files")):
        if case.dest_domain != "absent":
            return _blocked(case, f"the server is {case.dest_domain} on {case.at_dest}, but not by this migration (status {case.status}): somebody else did it")
        clean: list[Step] = ["clean_dest"] if case.record.get("dest_host") else []
        return _decision("roll_back", f"{case.at_source} is off, and nothing of the server was set aside there", [*clean, "close"])
    if case.dest_domain == "running" and not case.was_begun:
        return _blocked(case, f"the server runs on {case.at_dest}, but this migration has not started it there (status {case.status}): somebody else did")
    if case.status == "post-migrating" and case.dest_complete():
        steps = _steps_running(case) if case.dest_domain == "running" else _steps_on(case)
        return _decision("finish", f"{case.at_source} is off, and {case.at_dest} has all files of the server", steps)
    return _blocked(
        case,
        f"{case.at_source} is off, its copy of the server was set aside there, and {case.at_dest} is not known to have all of it (status {case.status}). "
        f"When {case.at_source} is back and in service, recover brings the server back there",
    )


def _running_on_dest(case: _Case) -> Decision:
    if case.source_domain == "defined":
        return _blocked(
            case, f"the server runs on {case.at_dest} and is defined on {case.at_source} too: undefine one of them (virsh undefine --keep-nvram --keep-tpm)"
        )
    if case.dest_waits and case.source is None:
        return _blocked(case, f"the server waits on {case.at_dest} for its first instruction, and {case.at_source} does not answer: it may be running there")
    if case.started or (case.status == "post-migrating" and (case.source is None or case.source.get("held"))):
        return _decision("finish", f"the guest runs on {case.at_dest}, started by this migration", _steps_running(case))
    return _blocked(
        case,
        f"the server runs on {case.at_dest}, but this migration has not started it there (status {case.status}): somebody else did. "
        f"Find out which copy is to be kept; nothing has been touched on {case.at_source}",
    )


def _ran_on_dest(case: _Case) -> Decision:
    """The guest was started on dest, so its newest data are there, and it is off now."""
    if case.source_domain == "silent":
        return _blocked(
            case, f"the guest has run on {case.at_dest} and is off there; {case.at_source} does not answer, so it may be running there: nothing is started"
        )
    if case.source_domain == "running" and case.dest_domain != "absent":
        return _blocked(case, f"the guest has run on {case.at_dest}, is off there, and runs on {case.at_source}: both copies have data of their own")
    if case.source_domain in ("running", "defined"):
        # Only the way back defines it on the source again, and it withdraws dest's copy from service first.
        return _roll_back(case)
    if case.dest_complete():
        return _decision("finish", f"the guest has been started on {case.at_dest} by this migration, its newest data are there", _steps_on(case))
    if case.dest_domain == "absent" and case.source_complete():
        return _roll_back(case)
    return _blocked(case, f"the guest has run on {case.at_dest}, but not all of its files are there any more")


def _steps_on(case: _Case) -> list[Step]:
    define: list[Step] = ["define_dest"] if case.dest_domain == "absent" else []
    start: list[Step] = ["start_dest"] if case.was_running else []
    return [*define, *start, *_steps_after_start(case)]


def _steps_running(case: _Case) -> list[Step]:
    go_on: list[Step] = ["start_dest"] if case.dest_waits else []
    return [*go_on, *_steps_after_start(case)]


def _steps_after_start(case: _Case) -> list[Step]:
    return ["prove", "close"] if case.proof in ("begun", "impossible") else ["close"]


def _differs(case: _Case) -> Decision:
    """What the server was started with on dest is not what was held. Only its owner can tell what is worth more: that copy, or what was written since."""
    if case.dest_domain == "running":
        back = text.command("recover", case.record.get("server_name") or "", case.record.get("server_uuid") or "")
        return _blocked(
            case,
            f"what the server was started with on {case.at_dest} differs from the held copy on {case.at_source}: compare them. To go back to the held "
            f"copy, and lose what was written since, stop it on {case.at_dest} (virsh destroy {case.record.get('server_uuid')}), then run {back}",
        )
    return _roll_back(case)


def _stopped_server_on_dest(case: _Case) -> Decision:
    if case.source_domain == "running":
        return _blocked(case, f"the server was off when it was moved and is defined on {case.at_dest}, but runs on {case.at_source}: somebody started it")
    if case.source_domain == "defined":
        return _roll_back(case)
    return _decision("finish", f"the server was off before and is defined on {case.at_dest} with all of its files", ["close"])


def _roll_back(case: _Case) -> Decision:
    if case.source is None:
        return _blocked(
            case, f"{case.at_source} does not answer: nothing is started or deleted anywhere while the source copy cannot be seen. Nothing is lost; wait for it"
        )
    if case.dest_domain == "silent" and case.status not in BEFORE_START:
        return _blocked(
            case,
            f"{case.at_dest} does not answer and the guest may have been started there, and have written: it is not started on {case.at_source} before "
            f"{case.at_dest} answers",
        )
    if case.source_domain == "absent" and case.status in BEFORE_HOLD:
        return _gone(case)
    if not case.source_complete():
        return _blocked(case, f"not all files of the server are on {case.at_source}: everything that is left stays on both nodes")
    return _decision("roll_back", _why_back(case), _steps_back(case), [case.at_dest] if case.dest_domain == "silent" else [])


def _steps_back(case: _Case) -> list[Step]:
    # Out of service on dest first: two definitions that can both be started must never be.
    steps: list[Step] = ["withdraw_dest"] if case.dest_domain in ("defined", "running") else []
    if case.precopies():
        steps.append("end_precopy")
    if case.source_domain != "running":
        # Also for a domain that is defined: an interrupted step may have left files under their held names.
        steps.append("restore_source")
        if case.was_running and not case.was_shut_down():
            steps.append("start_source")
    # Dest's files last: until the source is back in service they are a copy more.
    if case.dest is not None and case.record.get("dest_host"):
        steps.append("clean_dest")
    return [*steps, "close"]


def _why_back(case: _Case) -> str:
    if case.source_domain == "running":
        return f"the guest runs on {case.at_source} and has not been started on {case.at_dest}"
    if case.started:
        return f"the way back to {case.at_source} has been taken before, its copy there is complete"
    return f"the guest is off, its copy on {case.at_source} is complete, and it has not been started on {case.at_dest}"


def _gone(case: _Case) -> Decision:
    """Defined on no node, and both nodes say so: the owner undefined it. What the owner left on dest is the owner's."""
    if case.source is None or case.dest_domain == "silent":
        return _blocked(case, "the server is defined on no node that answers, but not both nodes answer")
    reason = f"the server is defined neither on {case.at_source} nor on {case.at_dest}: its owner undefined it"
    if case.in_place:
        return _gone_in_place(case)
    if case.status in BEFORE_HOLD:
        clean: list[Step] = ["clean_dest"] if case.record.get("dest_host") else []
        return _decision("clean_gone", f"{reason}. Its files on {case.at_source} are left alone", [*clean, "close"])
    if case.dest_disks_gone():
        return _decision("clean_gone", f"{reason} and removed its disks", ["clean_dest", "delete_held", "close"])
    if case.dest_complete():
        paths = ", ".join(text.shown(file["dest_path"]) for file in case.record.get("files") or [])
        return _decision("clean_gone", f"{reason}. Its files on {case.at_dest} are left alone: {paths}", ["delete_held", "close"])
    return _blocked(case, f"{reason}, but only some of its files are left on {case.at_dest}: both copies are kept")


def _gone_in_place(case: _Case) -> Decision:
    """Overlays and what they stand on are one copy: before the hold the overlays are ours and empty, afterwards all of it is the owner's."""
    reason = f"the server is not defined on {case.at_source} any more: its owner undefined it"
    if case.status in BEFORE_HOLD:
        return _decision("clean_gone", reason, ["clean_dest", "close"])
    found = [path for file in case.record.get("files") or [] for path in (file["held_path"], file["dest_path"] if file["way"] != "drop" else "") if path]
    paths = ", ".join(text.shown(path) for path in dict.fromkeys(found))
    return _decision("clean_gone", f"{reason}. Its files are left alone: {paths}", ["close"])


def _finished(case: _Case) -> Decision:
    if case.source_domain in ("running", "defined"):
        return _blocked(
            case,
            f"the source copy should be held, but the server is {case.source_domain} on {case.at_source}: somebody brought it back by hand; "
            "compare both copies",
        )
    if case.dest_domain == "absent":
        return _gone(case)
    silent = [name for name, domain in ((case.at_source, case.source_domain), (case.at_dest, case.dest_domain)) if domain == "silent"]
    if silent:
        return _nothing(f"nothing is in flight; {' and '.join(silent)} does not answer")
    return _nothing(f"the server is on {case.at_dest}; it waits for confirm or revert")


def _confirming(case: _Case) -> Decision:
    if case.source_domain in ("running", "defined"):
        return _blocked(case, f"the server is {case.source_domain} on {case.at_source}, so its copy there is not a held one: it is not deleted")
    if case.source_domain == "silent" or case.dest_domain == "silent":
        silent = case.at_source if case.source_domain == "silent" else case.at_dest
        return _blocked(case, f"{silent} does not answer: the held copy is deleted only when both nodes can be asked")
    if case.dest_domain == "absent":
        return _gone(case)
    if not case.dest_complete():
        return _blocked(case, f"not all files of the server are on {case.at_dest}: the held copy on {case.at_source} is kept")
    if case.in_place:
        return _decision("resume_confirm", f"the server is on {case.at_dest} with all of its files; they can be made one", ["merge_held", "close"])
    return _decision("resume_confirm", f"the server is on {case.at_dest} with all of its files; the rest of the held copy can go", ["delete_held", "close"])


def _reverting(case: _Case) -> Decision:
    if case.source_domain == "silent" or (case.dest_domain == "silent" and not case.dest_is_off):
        silent = case.at_source if case.source_domain == "silent" else case.at_dest
        return _blocked(case, f"{silent} does not answer: a revert stops one copy and starts the other, both nodes are needed")
    if not case.source_complete():
        return _blocked(case, f"not all files of the held copy are on {case.at_source}: the copy on {case.at_dest} is kept")
    return _decision("resume_revert", f"the copy on {case.at_source} is complete", _steps_back(case), [case.at_dest] if case.dest_is_off else [])


def _evacuation(case: _Case) -> Decision:
    """An evacuation that was killed. Its source is proven off, or comes back with a guard that starts nothing; all that counts is the dest."""
    if case.status not in ACTIVE:
        return _blocked(case, f"the evacuation has ended ({case.status})")
    if case.dest_domain == "silent":
        return _blocked(case, f"{case.at_dest} does not answer and the guest may have been started there: nothing is started elsewhere before it answers")
    if case.source_domain == "running":
        return _blocked(case, f"the server runs on {case.at_source}, which was given up: it is up. Nothing of it is touched on {case.at_dest}")
    if case.dest_domain != "absent" and case.status == "accepted":
        return _blocked(case, f"the server is {case.dest_domain} on {case.at_dest}, but not by this evacuation (status {case.status}): somebody else did it")
    if case.dest_domain == "running" and not case.was_begun:
        return _blocked(case, f"the server runs on {case.at_dest}, but this evacuation has not started it there: somebody else did")
    if case.started and not case.dest_complete():
        return _blocked(case, f"the guest has run on {case.at_dest}, but not all of its files are there any more")
    if case.started or case.dest_domain == "running":
        return _decision("finish", f"the guest has been started on {case.at_dest} by this evacuation", _steps_on(case), [case.at_source])
    if not case.was_running and case.dest_domain == "defined" and case.dest_complete():
        return _decision("finish", f"the server was off before and is defined on {case.at_dest}", ["close"], [case.at_source])
    withdraw: list[Step] = ["withdraw_dest"] if case.dest_domain == "defined" else []
    clean: list[Step] = ["clean_dest"] if case.record.get("dest_host") else []
    return _decision("roll_back", f"it has not been started on {case.at_dest}: what was made there goes, what survives stays", [*withdraw, *clean, "close"])


def _returned(case: _Case, seen_on: str) -> Decision:
    """The node that was given up is back. Its copy goes when the server is seen to be well elsewhere, or is gone by its owner's hand."""
    if case.source_domain == "silent":
        return _blocked(case, f"{case.at_source} does not answer yet")
    if case.source_domain == "running":
        return _blocked(
            case, f"DANGER, the server runs on {case.at_source}, from which it was evacuated: find out which copy is to be kept. Nothing is touched"
        )
    if seen_on not in ("", case.at_source) or (case.dest_domain in ("defined", "running") and case.dest_complete()):
        return _decision("clean_returned", f"the server is on {seen_on or case.at_dest}: what {case.at_source} has of it can go", ["clean_source", "close"])
    if case.dest_domain == "silent":
        return _blocked(case, f"the server is not seen to be well on {case.at_dest}, which does not answer: what {case.at_source} has of it is kept")
    if case.dest_domain == "defined":
        return _blocked(case, f"not all files of the server are on {case.at_dest}: what {case.at_source} has of it is kept")
    left = case.files_of_source()
    if left:
        return _blocked(
            case,
            f"the server is on no node any more, so what {case.at_source} has of it may be its last copy, and is kept: {', '.join(map(text.shown, left))}. "
            "If its owner removed it, delete these by hand, then run the same command again",
        )
    return _decision("clean_returned", f"the server is on no node any more, its owner removed it from {case.at_dest}", ["clean_source", "close"])


def _clean_pending(case: _Case, seen_on: str) -> Decision:
    """An ended migration that could not clean one of its nodes: what it left there goes when the server is seen to be well elsewhere."""
    steps: list[Step] = []
    left: list[str] = []
    doubts: list[str] = []
    for host in case.record.get("pending_hosts") or []:
        if host == case.record.get("dest_host"):
            step, doubt = _one_pending("clean_dest", case.at_dest, case.dest_domain, case.at_source, case.source_domain, seen_on)
            if doubt and case.status == "reverted" and case.dest_domain == "defined" and case.is_back():
                # The dest was off when the server went back without it, so it still has it as it was.
                steps.append("withdraw_dest")
                doubt = ""
        else:
            step, doubt = _one_pending("delete_held", host, case.source_domain, case.at_dest, case.dest_domain, seen_on)
        if doubt:
            left.append(host)
            doubts.append(doubt)
        else:
            steps.append(step)
    if not steps:
        return _blocked(case, "; ".join(doubts))
    return _decision("clean_pending", "; ".join(["what an ended migration left can be cleaned now", *doubts]), [*steps, "close"], left)


def _one_pending(step: Step, host: str, domain: str, other: str, other_domain: str, seen_on: str) -> tuple[Step, str]:
    """The step that cleans ``host``, and the doubt that forbids it."""
    if domain == "silent":
        return step, f"{host} does not answer"
    if domain != "absent":
        return step, f"the server is {domain} on {host}: nothing of it is deleted there"
    if other_domain in ("defined", "running") or seen_on not in ("", host):
        return step, ""
    return step, f"the server is not seen to be well on {other}, so what is left of it on {host} is kept"


def _decision(name: Name, reason: str, steps: list[Step], pending_hosts: t.Sequence[str] = ()) -> Decision:
    return {"decision": name, "reason": reason, "steps": sorted(steps, key=ORDER.index), "pending_hosts": list(pending_hosts)}


def _nothing(reason: str) -> Decision:
    return _decision("nothing", reason, [])


def _blocked(case: _Case, reason: str) -> Decision:
    return _decision("blocked", reason, [], case.record.get("pending_hosts") or [])


# --- what an operator may do -------------------------------------------------------------------------------------------------


def legal_commands(record: Migration, liveness: str | None = None) -> list[str]:
    """The command lines that are legal now. ``liveness``: the state that run_liveness gave, if it was asked."""
    status, name, uuid = record.get("status", ""), record.get("server_name", ""), record.get("server_uuid", "")

    def line(verb: str) -> str:
        return text.command(verb, name, uuid)

    if record.get("migration_type") == "evacuation":
        failed = text.command("evacuate", failed_host=record.get("source_host") or "")
        returned = text.command("recover", host=record.get("source_host") or "")
        return {"accepted": [failed], "pre-migrating": [failed], "done": [returned], "error": [failed], "failed": [failed]}.get(status, [])
    if status == "finished":
        return [line("confirm"), line("revert")]
    if cutover.is_idle(record):
        return [line("cutover"), line("cancel")]
    if status in ACTIVE and liveness == "alive":
        return [line("status")]
    if cutover.is_held(record):
        return [line("cutover"), line("cancel")]
    if status in IN_FLIGHT:
        back = [line("cancel")] if status in BEFORE_HOLD else []
        if record.get("migration_type") == "resize":
            flavor = str((record.get("new_flavor") or {}).get("name") or "FLAVOR")
            return [line("recover"), text.command("resize", name, uuid, flavor=flavor), *back]
        return [line("recover"), line("cold_migrate"), *back]
    if status == "confirming":
        return [line("confirm"), line("recover")]
    if status == "reverting":
        return [line("revert"), line("recover")]
    return [line("recover")] if record.get("pending_hosts") else []
