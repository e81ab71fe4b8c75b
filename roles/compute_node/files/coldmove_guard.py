#!/usr/bin/python3 -I
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""coldmove-guard: a server that moved away from this node must not start here, whoever asks for it.

    coldmove-guard               at boot, before libvirt: ask the records host; ends when it is safe to start libvirtd
    coldmove-guard --ask         ask once more, now
    coldmove-guard --retry       ask if nobody has answered since boot; then undefine what was evacuated, have the records host see to the rest of it,
                                 and start what should have been autostarted
    coldmove-guard --may-start   libvirt's hook: may the domain on stdin start? Exit code 1, and why on stderr, if not
    coldmove-guard --comes       libvirt's hook: the domain on stdin is coming here by a migration of libvirt's own

A server that no record knows always starts. Of the others this node knows what it was last told, and it starts them only if it
was told since its boot. Standard library only, Python 3.9.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path
from xml.etree import ElementTree

#: Whom to ask, as prepare has written it: {node, records: {name, address, port}, wait_seconds}.
SETTINGS = Path("/etc/coldmove/guard.json")
IDENTITY = Path("/etc/coldmove/id_ed25519")
KNOWN_HOSTS = Path("/etc/coldmove/records_known_hosts")
ACCOUNT = "coldmove-guard"
#: The one word that the records host hears: this node is back, and has undefined what was evacuated.
RETURNED = "returned"
HOOK = Path("/etc/libvirt/hooks/qemu.d/coldmove")
#: The last answer, for the boots at which nobody answers.
LAST_ANSWER = Path("/var/lib/coldmove/managed.json")
#: One empty file for each server that was noted before a record knew it here (module_utils/_node/known.py).
KNOWN = Path("/var/lib/coldmove/known")
#: What is known since boot. Everything under /run is gone after a power loss, like the reasons for it.
RUN = Path("/run/coldmove")
STATE = RUN / "guard.json"
#: One empty file for each server that a step of a migration is starting just now (module virt_power).
STARTS = RUN / "starts"
#: One for each server that a migration of libvirt's own has announced, and one for each that was refused for want of an answer.
COMES = RUN / "comes"
REFUSED = RUN / "refused"
#: The definitions of servers that were evacuated and undefined here. Their files are `recover`'s, which can prove that nobody else sees them.
UNDEFINED = Path("/var/lib/coldmove/undefined")

VERSION = 1
CONNECT_SECONDS = 5
ANSWER_SECONDS = 15
PAUSE_SECONDS = 2.0
#: What was asked so recently is not asked again by the hook: libvirt autostarts one server after the other.
FRESH_SECONDS = 10.0
#: libvirt starts a server that it has announced within this time.
COMES_SECONDS = 60.0

Facts = dict[str, t.Any]


class NoAnswer(Exception):
    """The records host did not say anything that can be relied on; the message says why."""


# --- what is decided, from what is known


def refusal(server: Facts, node: str, state: Facts | None, last: Facts | None) -> str | None:
    """Why ``server`` ({uuid, name, known}) must not start on ``node``; None if it may.

    ``state``: what is known since boot, None for nothing. ``last``: the last answer ever, empty if there was none, None if it is damaged.
    """
    if state and state["answered"]:
        away = _entry(state["away"], server["uuid"])
        return _moved(away, node) if away else None
    if last is None:
        return f"{LAST_ANSWER} is damaged, and the records host has not answered since boot ({_why(state)}): nothing is guessed. {_next()}"
    away = _entry(last.get("away", []), server["uuid"])
    if away:
        return _moved(away, node)
    if server["known"] or server["uuid"] in last.get("managed", []):
        return f"the records host has not answered since boot ({_why(state)}), so server {server['name']} may be on another node by now. {_next()}"
    return None


def _entry(entries: list[Facts], uuid: str) -> Facts | None:
    return next((entry for entry in entries if entry["server_uuid"] == uuid), None)


def _moved(away: Facts, node: str) -> str:
    if away.get("withheld"):
        back = f"ansible-playbook coldmove.libvirt.compute_service -e host={node} -e state=enabled"
        return f"server {away['name']} stays down, {away['withheld']} and is not back in service; next: {back}"
    where = away["to"] or "another node"
    if away["evacuated"]:
        how = f"was evacuated to {where} (migration {away['migration']})"
        return f"server {away['name']} {how}: it must not start here; next: ansible-playbook coldmove.libvirt.recover -e host={node}"
    how = f"is on {where} (migration {away['migration']})" if away["migration"] else f"was last seen on {where}"
    return (
        f"server {away['name']} {how}: it must not start here; next: ansible-playbook coldmove.libvirt.status -e server={away['server_uuid']}"
        ", and coldmove.libvirt.sync if it is here by right"
    )


def _is_settled(state: Facts | None) -> bool:
    """Whether what is refused now stays refused: the records host has answered, and the node is in service."""
    return bool(state and state["answered"] and not any(entry.get("withheld") for entry in state["away"]))


def _why(state: Facts | None) -> str:
    return str(state["reason"]) if state else "it was not asked"


def _next() -> str:
    return "Next: coldmove-guard --retry on this node"


def checked(answer: t.Any, node: str) -> Facts:
    """The records host's answer, if it is one to this node. Raises NoAnswer."""
    if not isinstance(answer, dict):
        raise NoAnswer("it said something else than an answer")
    if answer.get("error"):
        raise NoAnswer(str(answer["error"]))
    if answer.get("version") != VERSION or answer.get("host") != node:
        raise NoAnswer(f"it answered node {answer.get('host')} in form {answer.get('version')}: this is {node}, which knows form {VERSION}; run prepare")
    keys = {"server_uuid", "name", "to", "evacuated", "migration"}
    if not all(isinstance(answer.get(key), list) for key in ("away", "managed")) or not all(keys <= entry.keys() for entry in answer["away"]):
        raise NoAnswer("its answer is not whole")
    return answer


def after_asking(before: Facts | None, outcome: Facts | NoAnswer, now: float) -> Facts:
    """What is known since boot once more was asked: who has answered once stays answered, with what was said then."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if not isinstance(outcome, NoAnswer):
        return {"answered": True, "at": at, "asked": now, "away": outcome["away"], "reason": ""}
    if before and before["answered"]:
        return {**before, "asked": now, "reason": str(outcome)}
    return {"answered": False, "at": at, "asked": now, "away": [], "reason": str(outcome)}


def worth_asking(state: Facts | None, now: float) -> bool:
    """Whether a server that would be refused is a reason to ask once more: what is known may be from before it came here."""
    return state is None or now - float(state["asked"]) >= FRESH_SECONDS


# --- what is known


def settings() -> Facts:
    """Whom to ask. Raises NoAnswer."""
    found = read(SETTINGS)
    if not found:
        raise NoAnswer(f"{SETTINGS} is {'damaged' if found is None else 'missing'}; run ansible-playbook coldmove.libvirt.prepare")
    return found


def this_node() -> str:
    """The name that this node has in the inventory."""
    return str((read(SETTINGS) or {}).get("node") or os.uname().nodename)


def read(path: Path) -> Facts | None:
    """A file of JSON; empty if there is none, None if it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return None


def write(path: Path, content: Facts) -> None:
    """Replace a file: readers see the old or the new content, after a power loss too."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with open(new, "w", encoding="utf-8") as stream:
        json.dump(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(new, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


def since_boot() -> Facts | None:
    """What is known since boot; a damaged file is none."""
    return read(STATE) or None


def last_answer() -> Facts | None:
    """The last answer ever; empty if there was none, None if it is damaged."""
    found = read(LAST_ANSWER)
    whole = found is not None and all(isinstance(found.get(key, []), list) for key in ("away", "managed"))
    return found if whole else None


def mark(folder: Path, uuid: str) -> Path:
    """The file that stands for a server in one of the folders under /run."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / uuid


# --- asking


def ask(word: str = "") -> Facts:
    """One question to the records host, and a word for it. Raises NoAnswer."""
    told = settings()
    records = told["records"]
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": str(IDENTITY),
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(KNOWN_HOSTS),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "LogLevel": "ERROR",
    }
    command = ["ssh", "-F", "none", "-T", "-p", str(records["port"]), "-l", ACCOUNT, *(f"-o{name}={value}" for name, value in options.items())]
    command += ["--", records["address"], *([word] if word else [])]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{records['name']} did not answer within {ANSWER_SECONDS} s") from None
    except OSError as error:
        raise NoAnswer(f"ssh cannot be run: {error.strerror}") from error
    if done.returncode:
        words = " ".join(done.stderr.decode(errors="replace").split()) or f"ssh ended with code {done.returncode}"
        raise NoAnswer(f"{records['name']}: {words}")
    try:
        return checked(json.loads(done.stdout), told["node"])
    except ValueError:
        raise NoAnswer(f"{records['name']} said something else than an answer") from None
    except NoAnswer as error:
        raise NoAnswer(f"{records['name']}: {error}") from None


def ask_and_note(wait: float = 0) -> Facts:
    """Ask, for so many seconds until there is an answer, and note what is known then. The last answer is kept before anything goes by it."""
    deadline = time.monotonic() + wait
    while True:
        outcome: Facts | NoAnswer
        try:
            outcome = ask()
            write(LAST_ANSWER, {key: outcome[key] for key in ("managed", "away")})
        except NoAnswer as no:
            outcome = no
        if not isinstance(outcome, NoAnswer) or time.monotonic() + PAUSE_SECONDS >= deadline:
            break
        time.sleep(PAUSE_SECONDS)
    state = after_asking(since_boot(), outcome, time.monotonic())
    write(STATE, state)
    return state


# --- the commands


def boot() -> int:
    """Ask, with patience. Whatever comes of it, libvirtd may start, because the hook goes by what is noted."""
    if not os.access(HOOK, os.X_OK):
        return say(f"{HOOK} is missing: nothing would keep a server from starting that moved away; run ansible-playbook coldmove.libvirt.prepare")
    state = ask_and_note(float((read(SETTINGS) or {}).get("wait_seconds", 0)))
    say(_told(state))
    return 0


def once() -> int:
    """Ask once."""
    state = ask_and_note()
    # An earlier answer does not make this one.
    return say(_told(state)) if state["reason"] else 0


def _told(state: Facts) -> str:
    if state["reason"] and state["answered"]:
        return f"the records host does not answer: {state['reason']}. What it said before stands"
    if state["reason"]:
        return f"the records host does not answer: {state['reason']}. Servers that the records know stay down until it does; see coldmove-guard --retry"
    return f"the records host has answered: {len(state['away'])} servers must not start here"


def retry() -> int:
    """Ask if nobody has answered since boot, or the node was not in service; then undefine what went on elsewhere, have its files seen to, and start what
    was refused for want of an answer and is to be autostarted.
    """
    state = since_boot()
    if not state or not _is_settled(state):
        state = ask_and_note()
        say(_told(state))
    if not state["answered"]:
        return 1
    code = undefine_evacuated(state) or report_return(state) or start_refused(state)
    return code if _is_settled(state) else 1


def undefine_evacuated(state: Facts) -> int:
    """Undefine what was evacuated and is up elsewhere; libvirt refuses what has snapshots or a saved state, `recover` tells of that. No file is deleted."""
    gone = _gone(state)
    listed = virsh("list", "--inactive", "--uuid") if gone else None
    if listed and listed.returncode:
        return say(f"libvirt does not answer: {listed.stderr.strip()}")
    for uuid in sorted(gone.intersection(listed.stdout.split() if listed else [])):
        definition = virsh("dumpxml", "--inactive", "--security-info", uuid)
        if definition.returncode:
            say(f"could not read the definition of {uuid}: {definition.stderr.strip()}")
            continue
        write(UNDEFINED / f"{uuid}.json", {"uuid": uuid, "xml": definition.stdout})
        done = virsh("undefine", "--keep-nvram", uuid)
        say(f"undefined {uuid}, it was evacuated" if done.returncode == 0 else f"could not undefine {uuid}: {done.stderr.strip()}")
    return 0


def _gone(state: Facts) -> set[str]:
    """What is up elsewhere by an evacuation that has not been cleaned up here."""
    return {entry["server_uuid"] for entry in state["away"] if entry["evacuated"] and entry.get("status") == "done" and not entry.get("withheld")}


def report_return(state: Facts) -> int:
    """Tell the records host that this node is back. It has `recover` clean what is left of the evacuated servers here, if it was told how."""
    if _gone(state):
        try:
            say(str(ask(RETURNED).get("return", "the records host does not know of returns; run prepare")))
        except NoAnswer as no:
            say(f"the records host was not told that this node is back: {no}")
    return 0


def start_refused(state: Facts) -> int:
    """Start what was refused for want of an answer and is to be autostarted."""
    waiting = sorted(path.name for path in REFUSED.glob("*"))
    if not waiting:
        return 0
    listed = virsh("list", "--inactive", "--autostart", "--uuid")
    if listed.returncode:
        return say(f"libvirt does not answer: {listed.stderr.strip()}")
    code = 0
    for uuid in waiting:
        if (_entry(state["away"], uuid) or {}).get("withheld"):
            continue
        if uuid in listed.stdout.split() and not _entry(state["away"], uuid):
            done = virsh("start", uuid)
            say(f"started {uuid}" if done.returncode == 0 else f"could not start {uuid}: {done.stderr.strip()}")
            code = code or done.returncode
        (REFUSED / uuid).unlink(missing_ok=True)
    return code


def virsh(*words: str) -> subprocess.CompletedProcess[str]:
    """Run virsh on this node's libvirt."""
    return subprocess.run(["virsh", "-q", "-c", "qemu:///system", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def may_start() -> int:
    """Decide for libvirt, which shows what is said here to whoever wanted the start."""
    server, node = on_stdin(), this_node()
    if (STARTS / server["uuid"]).exists() or _announced(server["uuid"]):
        return 0
    words = refusal(server, node, since_boot(), last_answer())
    if words and worth_asking(since_boot(), time.monotonic()):
        words = refusal(server, node, ask_and_note(), last_answer())
    if words and not _is_settled(since_boot()):
        # First the mark, then the look: an answer that comes in between finds the mark, or is found here.
        mark(REFUSED, server["uuid"]).touch()
        words = refusal(server, node, since_boot(), last_answer())
        if not words:
            (REFUSED / server["uuid"]).unlink(missing_ok=True)
    return say(words) if words else 0


def _announced(uuid: str) -> bool:
    """Whether libvirt has just announced the server; an announcement is good for one start."""
    announced = COMES / uuid
    try:
        age = time.time() - announced.stat().st_mtime
        announced.unlink()
    except FileNotFoundError:
        return False
    return 0 <= age <= COMES_SECONDS


def comes() -> int:
    """Note that libvirt itself brings the server here from a node that runs it: it pauses there before it runs here."""
    mark(COMES, on_stdin()["uuid"]).touch()
    return 0


def on_stdin() -> Facts:
    """The server whose definition libvirt gives the hook. Ends with code 1 if it is none: then nothing is known about it."""
    try:
        domain = ElementTree.fromstring(sys.stdin.buffer.read())
        uuid, name = (domain.findtext("uuid") or "").strip().lower(), (domain.findtext("name") or "").strip()
        return {"uuid": uuid, "name": name, "known": (KNOWN / uuid).is_file()}
    except ElementTree.ParseError as error:
        sys.exit(f"coldmove: libvirt gave no definition: {error}")


def say(words: str) -> int:
    """To stderr, which is the journal's, libvirt's, or somebody's terminal. Returns the exit code of a failure."""
    print(f"coldmove: {words}", file=sys.stderr)
    return 1


COMMANDS: dict[str, t.Callable[[], int]] = {"": boot, "--ask": once, "--retry": retry, "--may-start": may_start, "--comes": comes}


if __name__ == "__main__":
    command = COMMANDS.get(" ".join(sys.argv[1:]))
    if command is None:
        sys.exit(__doc__)
    sys.exit(command())
