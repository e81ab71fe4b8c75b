# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Everything that speaks against a move, from both ends, found while the guest still runs.

One list: each check is a small function that gives its reasons; ``CHECKS`` holds them all, and nothing else refuses a move.
A reason says what, where, and what to do.
"""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import devices, plan, recovery, scheduler, servers, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.transitions import ACTIVE
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Amount, DestAnswers, Migration, MoveFile, Node, Server

#: A server can be moved from these states. The others hold memory that a stop would lose, or are on their way somewhere.
MOVABLE_STATES = ("running", "shutoff")

MIB = 1024**2

#: Reasons of the domain facts that begin so have the server as their subject.
_VERBS = ("is", "has", "uses", "shares", "keeps")


class Options(t.TypedDict, total=False):
    """``own_migration``: UUID of the record that this very move has opened already. ``channel_error``: why the data channel did not open.

    ``in_place``: the server stays on its node. ``evacuation``: the source is lost. ``refusals``: reasons that the verb itself has found (those of a
    resize), told with the rest. ``again``: asked once more before the cutover. The move's own files are on the dest by now, its disks are mirrored to them.
    ``named_devices``: the dest's device by disk, by the operator's word.
    """

    own_migration: str
    channel_error: str
    need: Amount | None
    in_place: bool
    flavor: t.Mapping[str, t.Any] | None
    refusals: t.Sequence[str]
    evacuation: bool
    named_devices: t.Mapping[str, str]
    again: bool


class Move(t.NamedTuple):
    """What the checks look at."""

    server: Server
    source: Node
    dest: Node
    answers: DestAnswers
    files: t.Sequence[MoveFile]
    migrations: t.Sequence[Migration]
    options: Options

    @property
    def at_source(self) -> str:
        """The source's name."""
        return self.source.get("name", "the source")

    @property
    def at_dest(self) -> str:
        """The dest's name."""
        return self.dest.get("name", "the dest")


def move_blockers(
    server: Server,
    source: Node,
    dest: Node,
    answers: DestAnswers,
    files: t.Sequence[MoveFile],
    *,
    migrations: t.Sequence[Migration] = (),
    options: Options | None = None,
) -> list[str]:
    """All reasons of both ends, each once; empty if the move may go on."""
    move = Move(server, source, dest, answers, files, migrations, options or {})
    return _reasons(move, DEST_CHECKS if move.options.get("evacuation") else CHECKS)


def source_blockers(
    server: Server, source: Node, files: t.Sequence[MoveFile], migrations: t.Sequence[Migration] = (), options: Options | None = None
) -> list[str]:
    """The reasons of the server and its source alone, for a move that has found no dest: all are told at once all the same."""
    return _reasons(Move(server, source, {}, {}, files, migrations, options or {}), SOURCE_CHECKS)


def _reasons(move: Move, checks: t.Sequence[t.Callable[[Move], t.Iterator[str]]]) -> list[str]:
    reasons: dict[str, None] = {}
    for check in checks:
        reasons.update(dict.fromkeys(check(move)))
    return list(reasons)


def verb_refuses(move: Move) -> t.Iterator[str]:
    """What the verb itself has against it."""
    yield from move.options.get("refusals") or ()


def source_answers(move: Move) -> t.Iterator[str]:
    """The source is there to be moved from."""
    if not move.source.get("reachable"):
        why = text.shown(move.source.get("error") or "")
        lost = text.command("evacuate", failed_host=move.at_source)
        yield f"source {move.at_source} does not answer{' (' + why + ')' if why else ''}. If the node is lost: {lost}"


def source_prepared(move: Move) -> t.Iterator[str]:
    """``prepare`` has been run on the source."""
    facts = move.source.get("facts") or {}
    if move.source.get("reachable") and not facts.get("prepared", False):
        missing = "; ".join(text.shown(reason) for reason in facts.get("not_prepared", [])) or "no reason given"
        yield f"source {move.at_source} is not prepared ({missing}): run {text.command('prepare')}"


def different_machines(move: Move) -> t.Iterator[str]:
    """Source and dest are not one machine under two names."""
    ours, theirs = move.source.get("facts") or {}, move.dest.get("facts") or {}
    machine = ours.get("machine_id")
    if move.options.get("in_place"):
        return
    if move.at_source == move.at_dest:
        yield f"the server is on {move.at_dest} already"
    elif machine and machine == theirs.get("machine_id"):
        yield (
            f"{move.at_source} and {move.at_dest} are the same machine under two names (machine-id {machine}): "
            "remove one from the inventory, or give a cloned machine its own /etc/machine-id"
        )


def domain_movable(move: Move) -> t.Iterator[str]:
    """What the source says of the domain itself: snapshots, managed save, host devices and the like."""
    ties = [] if move.options.get("in_place") else move.server.get("node_ties", [])
    ours = tuple(f"disk {file['id']} has an active block job" for file in move.files if file["way"] == "copy") if move.options.get("again") else ()
    for blocker in [*move.server.get("blockers", []), *ties]:
        if ours and blocker.startswith(ours):
            continue
        yield f"on {move.at_source} the server {text.shown(blocker)}" if blocker.split(" ")[0] in _VERBS else f"{move.at_source}: {text.shown(blocker)}"


def state_movable(move: Move) -> t.Iterator[str]:
    """Running or off; never paused, crashed, suspended."""
    state = move.server.get("state", "unknown")
    # The domain's own facts may have said so in their words.
    if state not in MOVABLE_STATES and not any(state in blocker for blocker in move.server.get("blockers", [])):
        yield f"the server is {state} on {move.at_source}: only a server that is {' or '.join(MOVABLE_STATES)} can be moved"


def not_locked(move: Move) -> t.Iterator[str]:
    """Nobody has locked the server."""
    locked = move.server.get("locked")
    if locked and not any("locked" in blocker for blocker in move.server.get("blockers", [])):
        yield f"the server is {servers.locked_by(locked)}"


def no_other_migration(move: Move) -> t.Iterator[str]:
    """No other migration of this server is under way or waits to be confirmed."""
    for migration in move.migrations:
        if migration.get("server_uuid") != move.server.get("uuid") or migration.get("status") not in ACTIVE:
            continue
        if migration.get("uuid") == move.options.get("own_migration"):
            continue
        what = "is waiting to be confirmed or reverted" if migration.get("status") == "finished" else "is under way"
        commands = " or ".join(recovery.legal_commands(migration))
        yield (
            f"migration {migration.get('id')} of this server ({migration.get('source_host')} to {migration.get('dest_host')}) {what}: status "
            f"{migration.get('status')}, started by {text.shown(migration.get('started_by') or 'an unknown run')}, since {migration.get('created_at')}. "
            f"Now possible: {commands}"
        )


def files_movable(move: Move) -> t.Iterator[str]:
    """Every disk can be carried, under a name of its own."""
    # A disk of an unchanged definition that has no file by now was found to stay where it is.
    planned = {file["id"] for file in move.files}
    disks = [disk for disk in move.server.get("disks", []) if disk.get("target") in planned or not move.options.get("again")]
    yield from plan.refusals({**move.server, "disks": disks}, move.files, bool(move.options.get("in_place")))


def devices_named(move: Move) -> t.Iterator[str]:
    """What the operator says of devices is about block devices of this server. On its own node the server needs none."""
    if not move.options.get("in_place"):
        yield from devices.refusals(move.server, move.options.get("named_devices") or {})


def dest_fits(move: Move) -> t.Iterator[str]:
    """The filters of selection once more, on facts of now; the room that this move has claimed itself does not count against it."""
    others = [migration for migration in move.migrations if migration.get("uuid") != move.options.get("own_migration")]
    in_place = bool(move.options.get("in_place"))
    request = scheduler.request_for(move.server, move.at_source, need=move.options.get("need"), in_place=in_place, flavor=move.options.get("flavor"))
    # The dest itself has been asked about these, for the definition as it will be there.
    asked = [check for key, check in (("unmet", scheduler.has_networks), ("collisions", scheduler.no_collision)) if key in move.answers]
    if in_place or move.at_source != move.at_dest:
        for reason in scheduler.reject_reasons(request, move.dest, others, asked):
            yield f"{move.at_dest}: {reason}"


def no_leftovers(move: Move) -> t.Iterator[str]:
    """Nothing lies where the server's files will lie."""
    own = {file["temp_path"] for file in move.files} if move.options.get("again") else set()
    for path in move.answers.get("leftovers", []):
        if path in own:
            continue
        shared = "" if move.at_source == move.at_dest else f". If both nodes have this storage: {text.command('sync')}"
        yield f"{text.shown(path)} exists on {move.at_dest} already: look at it and move it away, nothing is overwritten{shared}"


def devices_fit(move: Move) -> t.Iterator[str]:
    """Each device on the dest is large enough, holds nothing, and is nobody else's; or its group has room for a new volume."""
    # Before the cutover they are this move's own, and no longer empty.
    for problem in [] if move.options.get("again") else move.answers.get("device_problems", []):
        yield f"{move.at_dest}: {text.shown(problem)}"


def no_collision(move: Move) -> t.Iterator[str]:
    """No domain on the dest has the server's UUID, name, a MAC or a path of it."""
    for collision in move.answers.get("collisions", []):
        yield f"{move.at_dest}: {text.shown(collision)}"


def nothing_unmet(move: Move) -> t.Iterator[str]:
    """Networks, network filters and secrets of the server are on the dest."""
    for need in move.answers.get("unmet", []):
        yield f"{move.at_dest}: {text.shown(need)}"


def nothing_missing(move: Move) -> t.Iterator[str]:
    """Directories, firmware, media and other files that the definition names are on the dest."""
    for path in move.answers.get("missing", []):
        yield f"{text.shown(path)} is missing on {move.at_dest}: create, install or mount it there"


def enough_space(move: Move) -> t.Iterator[str]:
    """Every file system of the dest has room for the bytes that will really be written to it."""
    for directories, need, free in _space(move):
        if need > free:
            yield (
                f"not enough free space on {move.at_dest} in {', '.join(text.shown(directory) for directory in directories)}: "
                f"{text.human_bytes(need)} needed, {text.human_bytes(free)} free"
            )


def cpu_compatible(move: Move) -> t.Iterator[str]:
    """The dest can give the guest its CPU."""
    answer = move.answers.get("cpu", "")
    if answer.startswith("incompatible"):
        yield f"CPU of {move.at_dest} is not compatible with the server's{_after(answer)}"


def emulator_there(move: Move) -> t.Iterator[str]:
    """The emulator that the definition names is on the dest."""
    # Where libvirt could say what is wrong, it does so in define_error.
    if not move.answers.get("emulator_ok", True) and not move.answers.get("define_error"):
        yield f"the emulator that the server's definition names is not on {move.at_dest}, or does not know its machine type"


def definable(move: Move) -> t.Iterator[str]:
    """libvirt on the dest takes the definition."""
    error = move.answers.get("define_error")
    if error:
        yield f"libvirt on {move.at_dest} does not take the definition: {text.shown(error)}"


def channel_opens(move: Move) -> t.Iterator[str]:
    """The source can open the data channel to the dest."""
    error = move.options.get("channel_error")
    if error:
        yield f"the data channel from {move.at_source} to {move.at_dest} does not open: {text.shown(error)}. Run {text.command('ssh_trust')}"


#: These need no dest to be asked.
SOURCE_CHECKS: tuple[t.Callable[[Move], t.Iterator[str]], ...] = (
    verb_refuses,
    source_answers,
    source_prepared,
    not_locked,
    no_other_migration,
    state_movable,
    domain_movable,
    files_movable,
    devices_named,
)

#: The one list of pre-checks, in the order in which their reasons are listed.
#: Those of the dest alone: all that there is to ask when the source is lost.
DEST_CHECKS: tuple[t.Callable[[Move], t.Iterator[str]], ...] = (
    dest_fits,
    no_leftovers,
    devices_fit,
    no_collision,
    nothing_missing,
    nothing_unmet,
    enough_space,
    cpu_compatible,
    emulator_there,
    definable,
)

CHECKS: tuple[t.Callable[[Move], t.Iterator[str]], ...] = (*SOURCE_CHECKS, different_machines, *DEST_CHECKS, channel_opens)


def _after(answer: str) -> str:
    detail = answer.partition(":")[2].strip()
    return f": {text.shown(detail)}" if detail else ""


def file_need(file: MoveFile) -> int:
    """The bytes that one file will take on the dest: what is allocated of it, as holes stay holes; next to nothing if it is made blank.

    What an image holds, only the dest can tell (``image_bytes``).
    An overlay takes whatever the guest writes until it is confirmed: all that it can grow to must find room beside the disk that it stands on.
    """
    return {"copy": file["allocated_bytes"], "overlay": file["grow_to_bytes"], "drop": 0}.get(file["way"], MIB)


def with_margin(need: int) -> int:
    """Room for what the guest writes between the facts and the stop, and for the file system's own blocks."""
    return need + max(16 * MIB, need // 50) if need else 0


def _space(move: Move) -> list[tuple[list[str], int, int]]:
    """For each file system of the dest: its directories, the bytes needed with margin, the bytes free."""
    free = move.answers.get("free_bytes") or {}
    same = move.answers.get("same_filesystem")
    systems: dict[t.Any, tuple[list[str], int, int]] = {}
    for file in move.files:
        directory = posixpath.dirname(file["dest_path"])
        if directory not in free or devices.is_device(file):
            continue
        # Not told which directories share a file system, take those with the same free space for one: too careful at worst.
        key = same.get(directory, free[directory]) if isinstance(same, dict) else free[directory]
        directories, need, available = systems.get(key, ([], 0, free[directory]))
        if directory not in directories:
            directories.append(directory)
        if file["way"] == "copy" and file["kind"] == "disk" and move.options.get("again"):
            continue  # it is there, and what the guest writes goes there at once
        takes = max(file_need(file), (move.answers.get("image_bytes") or {}).get(file["id"], 0))
        systems[key] = (directories, need + takes, min(available, free[directory]))
    return [(directories, with_margin(need), available) for directories, need, available in systems.values()]
