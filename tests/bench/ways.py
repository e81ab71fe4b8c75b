# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways of moving that are compared. Each takes the guest from running on the source to running on the dest."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from bench.meter import Meter, allocated_bytes, same_content
from bench.stage import DEST, IMAGES, SOURCE, Image, Stage
from lab.shell import wait_for

KEY = "/root/.ssh/bench"
NOVA_SSH = f"ssh -i {KEY} -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
#: What the collection's channel and copy use (module_utils/_adapters/channel.py, exports.py, _node/sending.py).
CHANNEL_SSH = "-F none -N -T -l coldmove -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityFile=/etc/coldmove/id_ed25519 -o StrictHostKeyChecking=yes"
CHANNEL_SSH += " -o UserKnownHostsFile=/etc/coldmove/known_hosts -o ExitOnForwardFailure=yes -o Ciphers=aes128-gcm@openssh.com -o Compression=no"
CONNECTIONS = "16"


@dataclass
class Sample:
    """One measured move."""

    way: str
    downtime: float
    wall: float
    wire_bytes: int
    peak_bytes: int
    dest_bytes: int
    source_bytes: int
    same: bool
    parts: dict[str, float] = field(default_factory=dict)


Way = t.Callable[[Stage, Image], Sample]


def sample(stage: Stage, way: str, image: Image, meter: Meter, parts: dict[str, float]) -> Sample:
    """What the meter has seen, and whether the copy is a true one."""
    source, dest = stage.held(image), stage.path(DEST, image.file)
    return Sample(
        way,
        meter.power.downtime,
        meter.wall,
        meter.wire_bytes,
        meter.peak_bytes,
        allocated_bytes(dest),
        allocated_bytes(source),
        same_content(source, dest, image.format),
        parts,
    )


# ----- ours


def coldmove(stage: Stage, image: Image) -> Sample:
    """The playbook. The guest stays on the dest; Stage.revert() brings it back."""
    with Meter(stage.lab, image.guest, SOURCE, DEST) as meter:
        played = stage.play("cold_migrate", f"server={image.guest}", f"target_host={DEST}", "shutdown_timeout=0", "cpu_allocation_ratio=100")
    parts = {"controller_cpu": played.cpu_seconds, **window(played.tasks, meter.power.off_at or 0.0, meter.power.on_at or 0.0)}
    return sample(stage, "coldmove", image, meter, parts)


#: Tasks of the downtime, by how their names end.
WINDOW = {
    "Shut the guest down": "shutdown",
    "Hold the source copy": "hold",
    "Copy": "copy",
    "Verify the copy and give it its name": "verify",
    "Record that the copy is complete": "record",
    "Define the server on the dest": "define",
    "Start the server on the dest": "start",
}


def window(tasks: list[dict[str, t.Any]], off_at: float, on_at: float) -> dict[str, float]:
    """The parts of the downtime: each task's share of it, the node's own work in it (jobs), and what is between tasks."""
    parts: dict[str, float] = {}
    for task in tasks:
        name = WINDOW.get(task["task"].rpartition(" | ")[2])
        if not name or task["began"] is None or task["action"].endswith("include_role"):
            continue
        parts[name] = parts.get(name, 0.0) + max(0.0, min(task["ended"], on_at) - max(task["began"], off_at))
        for key in ("job_seconds", "copy_seconds"):
            if task[key] is not None:
                parts[f"{name}_{key}"] = float(task[key])
    parts["between"] = on_at - off_at - sum(seconds for name, seconds in parts.items() if name in WINDOW.values())
    return parts


# ----- Nova's way and the limit, by hand


@contextlib.contextmanager
def root_keys(stage: Stage) -> t.Iterator[None]:
    """Root of the source may log in as root on the dest, as Nova's set-up has it, for as long as this is needed."""
    stage.lab.exec(SOURCE, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY)
    public = stage.lab.exec(SOURCE, "cat", f"{KEY}.pub").stdout
    before = stage.lab.exec(DEST, "cat", "/root/.ssh/authorized_keys").stdout
    stage.lab.exec(DEST, "tee", "/root/.ssh/authorized_keys", stdin=before + public)
    try:
        yield
    finally:
        stage.lab.exec(DEST, "tee", "/root/.ssh/authorized_keys", stdin=before)
        stage.lab.exec(SOURCE, "rm", "-f", KEY, f"{KEY}.pub")


def by_hand(stage: Stage, way: str, image: Image, copy: t.Callable[[], None]) -> Sample:
    """Shut down, copy, define, start: what Nova does on two nodes, without a controller."""
    definition, uuid = stage.lab.virsh(SOURCE, "dumpxml", "--inactive", image.guest), stage.lab.guest(image.guest).uuid
    with Meter(stage.lab, image.guest, SOURCE, DEST) as meter:
        stage.lab.virsh(SOURCE, "destroy", uuid)
        stage.lab.exec(SOURCE, "mv", f"{IMAGES}/{image.file}", f"{IMAGES}/{image.file}_resize")
        begun = time.monotonic()
        copy()
        copied = time.monotonic()
        stage.lab.exec(DEST, "virsh", "-q", "define", "/dev/stdin", stdin=definition)
        stage.lab.virsh(DEST, "start", uuid)
        started = time.monotonic()
    try:
        return sample(stage, way, image, meter, {"copy": copied - begun, "define_start": started - copied})
    finally:
        take_back(stage, image, uuid)


def take_back(stage: Stage, image: Image, uuid: str) -> None:
    """Undo a move by hand."""
    stage.lab.virsh(DEST, "destroy", uuid)
    stage.lab.virsh(DEST, "undefine", uuid)
    stage.lab.exec(DEST, "rm", "-f", f"{IMAGES}/{image.file}")
    stage.lab.exec(SOURCE, "mv", f"{IMAGES}/{image.file}_resize", f"{IMAGES}/{image.file}")
    stage.lab.virsh(SOURCE, "start", uuid)


def nova(stage: Stage, image: Image, way: str, program: str) -> Sample:
    """One of Nova's two drivers (nova.md 2.2): no temporary name, no checksum; compression for everything but qcow2."""
    address = stage.lab.paths.load().node(DEST).ipv4

    def copy() -> None:
        stage.lab.exec(SOURCE, "sh", "-c", f"{NOVA_SSH} root@{address} mkdir -p {IMAGES}")
        stage.lab.exec(SOURCE, "sh", "-c", f"{program} {IMAGES}/{image.file}_resize root@{address}:{IMAGES}/{image.file}", timeout=900)

    return by_hand(stage, way, image, copy)


def scp(stage: Stage, image: Image) -> Sample:
    """Nova's driver ssh, its default."""
    compress = "" if image.format == "qcow2" else "-C"
    return nova(stage, image, "Nova, scp", f"scp {compress} -r -q{NOVA_SSH.removeprefix('ssh')}")


def rsync(stage: Stage, image: Image) -> Sample:
    """Nova's driver rsync."""
    compress = "" if image.format == "qcow2" else "--compress"
    return nova(stage, image, "Nova, rsync", f"rsync -r --sparse {compress} -e '{NOVA_SSH}'")


def limit(stage: Stage, image: Image) -> Sample:
    """The raw tools of the cold path and nothing else: the same channel, the same qemu-nbd, the same qemu-img; no proof of anything."""
    with channel(stage, image) as socket:
        target = f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={socket},file.export=vda"
        source = f"driver=raw,file.driver=file,file.filename={IMAGES}/{image.file}_resize"
        command = ["qemu-img", "convert", "-n", "-W", "-m", CONNECTIONS, "--target-is-zero", "--image-opts", "--target-image-opts", source, target]

        def copy() -> None:
            stage.lab.exec(SOURCE, *command, timeout=900)
            end = f'pid=$(cat {_EXPORT}.pid) && kill $pid && while [ -e /proc/$pid ]; do sleep 0.01; done; mv "$1.bench" "$1"'
            stage.lab.exec(DEST, "sh", "-c", end, "sh", f"{IMAGES}/{image.file}")

        return by_hand(stage, "raw limit", image, copy)


_EXPORT = "/run/coldmove/exports/bench"


@contextlib.contextmanager
def channel(stage: Stage, image: Image) -> t.Iterator[str]:
    """The collection's data channel, by hand; yields the socket that the source writes to."""
    lab, offer = stage.lab, f"offers/{secrets.token_hex(16)}"
    size = stage.path(SOURCE, image.file).stat().st_size
    file = f"{IMAGES}/{image.file}.bench"
    lab.exec(DEST, "sh", "-c", f"mkdir -p -m 700 /run/coldmove/exports && truncate -s {size} {file}")
    export = ["qemu-nbd", "--fork", "-t", "-e", CONNECTIONS, "--pid-file", f"{_EXPORT}.pid", "-x", "vda", "-k", _EXPORT]
    lab.exec(DEST, *export, "--discard=unmap", "--detect-zeroes=unmap", "--image-opts", f"driver=raw,file.driver=file,file.filename={file}")
    ssh = ["setpriv", "--pdeathsig", "KILL", "ssh", *CHANNEL_SSH.split(), "-R", f"/{offer}:{_EXPORT}", lab.paths.load().node(SOURCE).ipv4]
    process = subprocess.Popen([*lab.enter(DEST), *ssh], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    socket = f"/var/lib/coldmove/channel/{offer}"
    try:
        seen = Path(f"/proc/{lab.init(SOURCE).pid}/root{socket}")
        wait_for("the data channel", lambda: os.path.lexists(seen), 20)
        yield socket
    finally:
        process.kill()
        process.wait()
        lab.exec(SOURCE, "rm", "-f", socket)
        lab.exec(DEST, "sh", "-c", f"kill $(cat {_EXPORT}.pid) 2>/dev/null; rm -f {_EXPORT} {_EXPORT}.pid {file}")


WAYS: tuple[Way, ...] = (scp, rsync, limit, coldmove)
