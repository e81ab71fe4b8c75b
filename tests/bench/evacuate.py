# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evacuate small servers from one node to two others on storage that all three share: from the proof that the node is off to each server running.

- Time begins when the role ``fence`` has its proof, its last look included. *to the proof* is what the playbook did before that: records, facts of the
  nodes, plan, looks at the node, three readings of its power. The node has lost its power already, so its BMC has nothing to switch.
- A server runs when the status file of a dest's libvirtd says so, looked at every 20 ms from outside. The guests have no system: no boot is in it.
- *by hand*: the same servers on the same nodes, with nothing but ``ssh NODE "virsh define; virsh start"``, all at once; no record, no claim, no proof.
- All numbers of servers are evacuated from the same node, one after the other, each by a playbook of its own and then by hand. Each run has a new lab.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import threading
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from bench.bench import say  # noqa: E402 - the path comes first
from bench.figures import table  # noqa: E402
from bench.meter import is_running  # noqa: E402
from bench.stage import BUILD, MIB, Played, Stage  # noqa: E402
from lab import DiskSpec, GuestSpec, Lab  # noqa: E402

LOST, DESTS = "node1", ("node2", "node3")
PROOF = "Keep the last look"
_POLL = 0.02

#: Tasks between the proof and a running server, by how their names end.
PARTS = {
    "Read the definition, and what was kept of its files": "records",
    "Open the record and claim the capacity": "records",
    "Write down every name that will be used": "records",
    "See whether the dest still has the lost node's storage": "storage",
    "Ask the dest": "ask dest",
    "Define the server on the dest": "define",
    "Start the server on the dest": "start",
}
COLUMNS = ("its turn", *dict.fromkeys(PARTS.values()), "between")


@dataclass
class Sample:
    """One evacuation of so many servers."""

    played: Played
    proof: float
    """Seconds from the start of the playbook to the proof."""
    running: list[float]
    """Seconds from the proof to each server running, in order."""
    by_hand: list[float]
    parts: list[dict[str, float]] = field(default_factory=list)
    """Of each server."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tests/bench/evacuate.py", description="Measure evacuate beside define and start by hand.")
    parser.add_argument("--servers", type=int, action="append", metavar="N", help="servers to be evacuated at once (default: 1, 5 and 10)")
    parser.add_argument("--runs", type=int, default=3, help="runs of everything (default: 3)")
    parser.add_argument("--lab", default="bench-evacuate", help="name of the lab")
    parser.add_argument("--collections", default=f"{BUILD / 'installed'}:{BUILD / 'collections'}", help="where Ansible finds the collection")
    found = parser.parse_args()
    found.servers = found.servers or [1, 5, 10]
    return found


class Watch:
    """When each guest was first seen to run on one of the nodes, by the status files of their libvirts. A context manager."""

    def __init__(self, lab: Lab, guests: list[str]) -> None:
        self._folders = {node: Path(f"/proc/{lab.init(node).pid}/root/run/libvirt/qemu") for node in DESTS}
        self._wanted = list(guests)
        self.seen: dict[str, tuple[float, str]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """End, with a last look."""
        time.sleep(2 * _POLL)
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(_POLL):
            for guest in [name for name in self._wanted if name not in self.seen]:
                for node, folder in self._folders.items():
                    if is_running(folder / f"{guest}.xml"):
                        self.seen[guest] = (time.monotonic(), node)

    def since(self, begun: float) -> list[float]:
        """Seconds to each guest running, in order; RuntimeError if one was never seen."""
        if missing := [name for name in self._wanted if name not in self.seen]:
            raise RuntimeError(f"never seen to run: {', '.join(missing)}")
        return sorted(at - begun for at, _node in self.seen.values())


def make(stage: Stage, name: str, store: str) -> None:
    """A small running guest without a system, its disk on the shared store."""
    stage.lab.define_guest(LOST, GuestSpec(name, [DiskSpec(64 * MIB, role="blank", directory=store)], memory_mib=64, shutdown="mute"))
    stage.lab.start_guest(LOST, name, wait=False)


def evacuate(stage: Stage, guests: list[str]) -> tuple[Sample, dict[str, str]]:
    """The playbook; what was measured, and where each guest is now."""
    begun = time.monotonic()
    with Watch(stage.lab, guests) as watch:
        played = stage.play("evacuate", f"failed_host={LOST}", f"server={','.join(guests)}", "cpu_allocation_ratio=100", forks=max(5, len(guests)))
    for guest in guests:
        if stage.lab.running_on(guest) != [watch.seen[guest][1]]:
            raise RuntimeError(f"{guest} runs on {stage.lab.running_on(guest)}")
    proof = next(task["ended"] for task in played.tasks if task["task"].endswith(PROOF))
    parts = [split([task for task in played.tasks if task["host"] == guest], proof, watch.seen[guest][0]) for guest in guests]
    return Sample(played, proof - begun, watch.since(proof), [], parts), {guest: node for guest, (_at, node) in watch.seen.items()}


def split(tasks: list[dict[str, t.Any]], proof: float, running: float) -> dict[str, float]:
    """Where the time of one server went: until its first task, its tasks that matter, and all that is between them."""
    mine = [task for task in tasks if task["began"] is not None and proof <= task["began"] < running]
    parts = dict.fromkeys(COLUMNS, 0.0)
    parts["its turn"] = min(task["began"] for task in mine) - proof
    for task in mine:
        if part := PARTS.get(task["task"].rpartition(" | ")[2]):
            parts[part] += min(task["ended"], running) - task["began"]
    parts["between"] = running - proof - sum(parts.values())
    return parts


def by_hand(stage: Stage, places: dict[str, str]) -> list[float]:
    """Define and start the same guests on the same nodes over ssh, all at once; seconds to each running."""
    lab = stage.lab
    definitions = {guest: lab.virsh(node, "dumpxml", "--inactive", "--security-info", guest) for guest, node in places.items()}
    for guest, node in places.items():
        lab.virsh(node, "destroy", guest)
        lab.virsh(node, "undefine", guest)
    with Watch(lab, list(places)) as watch, contextlib.ExitStack() as started:
        begun = time.monotonic()
        for guest, node in places.items():
            command = f"virsh -q define /dev/stdin && virsh -q start {lab.guest(guest).uuid}"
            process = started.enter_context(subprocess.Popen([*lab.ssh_command(node), command], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True))
            assert process.stdin
            process.stdin.write(definitions[guest])
            process.stdin.close()
    return watch.since(begun)


def measure(lab: Lab, wanted: argparse.Namespace) -> dict[int, Sample]:
    """One run: a sample for each number of servers."""
    stage = Stage(lab, wanted.collections, say)
    store = lab.share("bench", [LOST, *DESTS])
    stage.play("prepare")
    groups = {number: [f"of{number}-{index}" for index in range(number)] for number in wanted.servers}
    for guests in groups.values():
        for guest in guests:
            make(stage, guest, store)
    stage.play("sync")
    lab.kill(LOST)
    samples = {}
    for number, guests in groups.items():
        samples[number], places = evacuate(stage, guests)
        samples[number].by_hand = by_hand(stage, places)
        spread = " and ".join(f"{list(places.values()).count(node)} on {node}" for node in DESTS)
        say(f"{number} server(s): all running after {samples[number].running[-1]:.1f} s, {spread}; by hand {samples[number].by_hand[-1]:.1f} s")
    return samples


def report(results: dict[int, list[Sample]]) -> str:
    """Both tables, medians of all runs."""
    rows: list[dict[str, t.Any]] = []
    parts: list[dict[str, t.Any]] = []
    least = min(results)
    alone = statistics.median(sample.running[-1] for sample in results[least])
    for number, samples in results.items():

        def median(figure: t.Callable[[Sample], float], samples: list[Sample] = samples) -> float:
            return statistics.median(figure(sample) for sample in samples)

        last, hand = median(lambda sample: sample.running[-1]), median(lambda sample: sample.by_hand[-1])
        rows.append(
            {
                "servers": number,
                "to the proof s": f"{median(lambda sample: sample.proof):.1f}",
                "first s": f"{median(lambda sample: sample.running[0]):.1f}",
                "middle s": f"{median(lambda sample: statistics.median(sample.running)):.1f}",
                "all s": f"{last:.1f}",
                "per server s": f"{last / number:.2f}",
                f"x {least}": f"{last / alone:.1f}",
                "by hand, all s": f"{hand:.1f}",
                "x by hand": f"{median(lambda sample: sample.running[-1] / sample.by_hand[-1]):.1f}",
                "added s": f"{last - hand:.1f}",
                "added per server s": f"{(last - hand) / number:.2f}",
                "wall s": f"{median(lambda sample: sample.played.seconds):.1f}",
                "controller CPU s": f"{median(lambda sample: sample.played.cpu_seconds):.1f}",
            }
        )
        one = [server for sample in samples for server in sample.parts]
        parts.append({"servers": number, **{name: f"{statistics.median(server[name] for server in one):.2f}" for name in COLUMNS}})
    return f"{table(rows)}\n\nWhere the time of one server goes, from the proof to running (seconds)\n\n{table(parts)}"


def main() -> int:
    """Run it all; each lab is taken down at the end of its run."""
    wanted = arguments()
    results: dict[int, list[Sample]] = {number: [] for number in wanted.servers}
    for run in range(wanted.runs):
        say(f"run {run + 1}: three nodes, {sum(wanted.servers)} servers on {LOST}")
        with Lab(wanted.lab, nodes=1 + len(DESTS)) as lab:
            for number, sample in measure(lab, wanted).items():
                results[number].append(sample)
    print(f"\nEvacuate from one node to {len(DESTS)} others, shared storage (medians of {wanted.runs})\n\n{report(results)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
