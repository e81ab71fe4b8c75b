# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The laws of the design, seen from outside: processes, files, libvirt on each node, the guest's own disk, the rows of the record store."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import Lab, LabError
from lab.processes import pids
from lab.shell import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.state import GuestState

Row = dict[str, Any]
IMAGES = "/var/lib/libvirt/images"
MOVES = "/var/lib/coldmove/moves"
ACTIVE = ("accepted", "pre-migrating", "migrating", "post-migrating", "finished", "confirming", "reverting")
_QUERY = """
import json, sqlite3, sys
store = sqlite3.connect("file:/var/lib/coldmove/records.sqlite?mode=ro", uri=True)
store.row_factory = sqlite3.Row
rows = store.execute("SELECT * FROM coldmove_migrations WHERE server_uuid = ? ORDER BY id", sys.argv[1:2])
print(json.dumps([dict(row) for row in rows]))
"""
_LOOK = r"""
import json, os
def listed(path):
    return sorted(name for name in os.listdir(path)) if os.path.isdir(path) else []
words = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        argv = open(f"/proc/{pid}/cmdline", "rb").read().decode(errors="replace").split("\0")
    except OSError:
        continue
    line = " ".join(argv).strip()
    if int(pid) != os.getpid() and ("/run/coldmove/" in line or argv[0] in ("qemu-nbd", "qemu-img", "ssh") or
                                    argv[0].endswith("python3") and "/lab" not in argv[1]):
        words.append(line)
print(json.dumps({"processes": words, "exports": listed("/run/coldmove/exports"),
                  "offers": [name for name in listed("/var/lib/coldmove/channel/offers") if name != "proof"]}))
"""


class Watch(threading.Thread):
    """Law 1: looks all the time at which nodes run which guests, and notes every instant at which one runs on two."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(daemon=True)
        self._lab, self._end = lab, threading.Event()
        self.breaches: list[str] = []
        self.looks = 0
        #: For each guest (by UUID): when it was first seen on which nodes.
        self.history: dict[str, list[tuple[float, list[str]]]] = {}
        self._half: set[str] = set()

    def run(self) -> None:
        """Look until stop()."""
        while not self._end.wait(0.05):
            try:
                self._look()
            except LabError:
                continue  # the lab is being changed

    def stop(self) -> None:
        """End."""
        self._end.set()
        self.join(10)

    def _look(self) -> None:
        now = time.monotonic()
        found = running(self._lab)
        self.looks += 1
        for uuid in found.keys() | self.history.keys():
            nodes, history = sorted(found.get(uuid, [])), self.history.setdefault(uuid, [])
            if not history or history[-1][1] != nodes:
                history.append((now, nodes))
                if len(nodes) > 1 and uuid not in self._half:
                    self.breaches.append(f"guest {uuid} runs on {' and '.join(nodes)}")

    @contextlib.contextmanager
    def one_is_paused(self, guest: GuestState) -> Iterator[None]:
        """libvirt makes a second process of the guest, and lets it run no instruction: its own migration, and a start that waits for a lease."""
        self._half.add(guest.uuid)
        try:
            yield
        finally:
            looks, deadline = self.looks, time.monotonic() + 10
            while self.looks < looks + 2 and time.monotonic() < deadline:
                time.sleep(0.05)  # a look that began before the end may still see both
            self._half.discard(guest.uuid)

    def stops_since(self, guest: GuestState, when: float) -> int:
        """How often a guest was seen to stop since then."""
        return sum(1 for seen, nodes in self.history.get(guest.uuid, []) if seen >= when and not nodes)

    def off_seconds(self, guest: GuestState, since: float) -> float:
        """How long a guest was off, all in all, since then."""
        history = [*self.history.get(guest.uuid, []), (time.monotonic(), [])]
        return sum(max(0.0, after - max(seen, since)) for (seen, nodes), (after, _later) in zip(history, history[1:], strict=False) if not nodes)


def running(lab: Lab) -> dict[str, list[str]]:
    """Guests (UUID) to the nodes on which a QEMU process of them runs."""
    places = lab.pid_namespaces()
    found: dict[str, list[str]] = {}
    for pid in pids():
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"-uuid" not in arguments or b"-S" not in arguments:
                continue
            node = places.get(os.readlink(f"/proc/{pid}/ns/pid"))
        except OSError:
            continue
        if node:
            found.setdefault(arguments[arguments.index(b"-uuid") + 1].decode(), []).append(node)
    return found


# --- the record


def records(lab: Lab, guest: GuestState) -> list[Row]:
    """The rows of a server, oldest first, read on the records host."""
    if lab.exec("records1", "test", "-s", "/var/lib/coldmove/records.sqlite", check=False).returncode:
        return []
    rows: list[Row] = json.loads(lab.exec("records1", "python3", "-c", _QUERY, guest.uuid).stdout)
    for row in rows:
        for column in ("files", "pending_hosts", "owner", "need"):
            row[column] = json.loads(row[column])
    return rows


def record(lab: Lab, guest: GuestState) -> Row:
    """The youngest row of a server."""
    rows = records(lab, guest)
    assert rows, f"there is no record of {guest.name}"
    return rows[-1]


def phases(lab: Lab, guest: GuestState) -> list[str]:
    """The phases of a server's youngest migration."""
    script = (
        "import sqlite3, sys; store = sqlite3.connect('file:/var/lib/coldmove/records.sqlite?mode=ro', uri=True);"
        "[print(row[0]) for row in store.execute(\"SELECT name FROM coldmove_events WHERE kind = 'phase' AND migration_uuid = ?\", sys.argv[1:])]"
    )
    return lab.exec("records1", "python3", "-c", script, record(lab, guest)["uuid"]).stdout.split()


def claims(lab: Lab, guest: GuestState) -> list[int]:
    """The records of a server that hold capacity (those that are active)."""
    return [row["id"] for row in records(lab, guest) if row["status"] in ACTIVE]


# --- a node


def names_on(lab: Lab, node: str, word: str) -> list[str]:
    """Files of a node's instances path and of libvirt's NVRAM folder whose name holds a word; the word that `sync` writes is no part of any move."""
    among = ("-name", f"*{word}*", "!", "-name", ".coldmove-storage-*")
    found = lab.exec(node, "find", IMAGES, "/var/lib/libvirt/qemu/nvram", *among, check=False).stdout
    return sorted(found.splitlines())


def at_work(lab: Lab, node: str) -> list[str]:
    """What of any transfer is left or at work on a node: processes, export sockets, offers."""
    seen = json.loads(lab.exec(node, "python3", "-c", _LOOK).stdout)
    return [*seen["processes"], *seen["exports"], *seen["offers"]]


def check_quiet(lab: Lab, *nodes: str) -> None:
    """No process and no socket of a transfer is left."""
    for node in nodes:
        wait_for(f"quiet on {node}: {at_work(lab, node)}", lambda node=node: not at_work(lab, node), 15, pause=0.2)  # type: ignore[misc]


def check_clean(lab: Lab, node: str, guest: GuestState, row: Row) -> None:
    """A node holds nothing of a migration and of its server."""
    assert lab.guest_state(node, guest) is None, f"{guest.name} is defined on {node}"
    left = names_on(lab, node, row["uuid"])
    here = "dest_path" if node == row["dest_host"] else "source_path"
    left += [file[here] for file in row["files"] if lab.exec(node, "test", "-e", file[here], check=False).returncode == 0]
    assert not left, f"left on {node}: {left}"


def check_held(lab: Lab, guest: GuestState, row: Row) -> None:
    """The held copy is complete and nobody can start it."""
    node = row["source_host"]
    for word in (guest.uuid, guest.name):
        assert "error" in lab.exec(node, "virsh", "-q", "start", word, check=False).stderr, f"{guest.name} was started on {node}"
    assert guest.uuid not in lab.virsh(node, "list", "--all", "--uuid") and guest.uuid not in lab.virsh(node, "list", "--autostart", "--uuid")
    assert guest.name not in lab.exec(node, "ls", "/etc/libvirt/qemu/autostart", check=False).stdout
    for file in row["files"]:
        assert lab.exec(node, "test", "-e", file["source_path"], check=False).returncode != 0, f"{file['source_path']} has its own name"
        assert lab.exec(node, "test", "-s", file["held_path"], check=False).returncode == 0, f"{file['held_path']} is missing"


# --- a server


def check_good_copy(lab: Lab, guest: GuestState, markers: list[str]) -> None:
    """Law 2: the guest runs, or one of its copies is complete and has what the guest has written."""
    if lab.running_on(guest):
        return
    rows = records(lab, guest)
    copies = [(node, guest.files[0], guest.files[0].rpartition(".")[2]) for node in ("node1", "node2", "node3")]
    for file in rows[-1]["files"] if rows else []:
        source, dest = rows[-1]["source_host"], rows[-1]["dest_host"]
        copies += [(source, file["source_path"], file["format"]), (source, file["held_path"], file["format"])]
        copies += [(dest, file["dest_path"], "qcow2" if file["way"] == "overlay" else file["format"])]
    for node, path, image_format in copies:
        if lab.is_running(node) and _markers_in(lab, node, path, image_format) == markers:
            return
    # Between two looks it may have been started.
    assert lab.running_on(guest), f"no good copy of {guest.name}: {copies}"


def _markers_in(lab: Lab, node: str, path: str, image_format: str) -> list[str] | None:
    """What a disk holds of what its guest has written. None if it is not there: what was told to rename it may do so while it is read."""

    def is_there() -> bool:
        return lab.exec(node, "test", "-e", path, check=False).returncode == 0

    if not is_there():
        return None
    try:
        return lab.read_disk(node, path, "markers", image_format).splitlines()
    except LabError:
        if is_there():
            raise
        return None


def check_runs_on(lab: Lab, guest: GuestState, node: str, markers: list[str]) -> None:
    """It runs there and nowhere else, is defined there only, and has all that it ever wrote."""
    assert lab.running_on(guest) == [node]
    assert lab.defined_on(guest) == [node]
    lab.wait_ready(guest)
    assert lab.read_markers(guest) == markers
    assert lab.guest_command(guest, "verify").startswith("ok")


def check_moved(lab: Lab, guest: GuestState, markers: list[str]) -> Row:
    """The record says finished, and that is how things are."""
    row = record(lab, guest)
    assert row["status"] == "finished", row
    check_runs_on(lab, guest, row["dest_host"], markers)
    check_held(lab, guest, row)
    assert names_on(lab, row["dest_host"], row["uuid"]) == []
    return row


def check_back(lab: Lab, guest: GuestState, node: str, markers: list[str], status: str = "error") -> None:
    """It runs on its source; the last record (if there is one) has ended, holds no claim, and dest is clean."""
    check_runs_on(lab, guest, node, markers)
    assert claims(lab, guest) == []
    for row in records(lab, guest)[-1:]:
        assert row["status"] == status, row
        if status == "error":
            assert row["error"], row
        check_clean(lab, row["dest_host"], guest, row)
        assert names_on(lab, node, row["uuid"]) == []


def check_confirmed(lab: Lab, guest: GuestState, markers: list[str]) -> None:
    """The record says confirmed: the server is on dest and the source has nothing of it."""
    row = record(lab, guest)
    assert row["status"] == "confirmed", row
    check_runs_on(lab, guest, row["dest_host"], markers)
    check_clean(lab, row["source_host"], guest, row)
    assert claims(lab, guest) == []
