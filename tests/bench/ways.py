# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways of moving that are compared. Each takes the guest from running on the source to running on the dest.

All but the collection's own bring it back to the source afterwards; Stage.revert() does that for those.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from bench.figures import COLD, LIMIT, LIVE, OURS, PLAYBOOK, RSYNC, SCP, TCP
from bench.meter import Meter, allocated_bytes, same_content
from bench.stage import DEST, IMAGES, ROOMY, SOURCE, Image, Stage
from lab.shell import wait_for

KEY = "/root/.ssh/bench"
NOVA_SSH = f"ssh -i {KEY} -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
#: What the collection's channel and copy use (module_utils/_adapters/channel.py, exports.py, _node/sending.py).
CHANNEL_SSH = "-F none -N -T -l coldmove -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityFile=/etc/coldmove/id_ed25519 -o StrictHostKeyChecking=yes"
CHANNEL_SSH += " -o UserKnownHostsFile=/etc/coldmove/known_hosts -o ExitOnForwardFailure=yes -o Ciphers=aes128-gcm@openssh.com -o Compression=no"
CONNECTIONS = "16"
_TCP_PORT = "10809"
_SHUTDOWN_SECONDS = 60


@dataclass
class Sample:
    """One measured move."""

    way: str
    downtime: float
    wall: float
    wire_bytes: int
    source_bytes: int
    """Allocated on the source before the move."""
    dirtied_bytes: int
    """Written by the guest during the move, before it was off."""
    dest_bytes: int
    source_cpu: float
    dest_cpu: float
    source_peak_bytes: int
    dest_peak_bytes: int
    same: bool
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def peak_bytes(self) -> int:
        """The larger of both nodes' peaks."""
        return max(self.source_peak_bytes, self.dest_peak_bytes)


Way = t.Callable[[Stage, Image], Sample]
Act = t.Callable[[Meter], dict[str, float]]


def measured(stage: Stage, way: str, image: Image, act: Act) -> Sample:
    """What is seen while ``act`` moves the guest (it returns the parts of the time), and whether the copy is a true one."""
    allocated = allocated_bytes(stage.held(image))
    with Meter(stage.lab, image.guest, SOURCE, DEST, writes=not image.mute) as meter:
        parts = act(meter)
    source, dest = stage.held(image), stage.path(DEST, image.file)
    return Sample(
        way,
        meter.power.downtime,
        meter.wall,
        meter.wire_bytes,
        allocated,
        meter.dirtied_bytes,
        allocated_bytes(dest),
        meter.cpu.seconds[SOURCE],
        meter.cpu.seconds[DEST],
        meter.memory.peak[SOURCE],
        meter.memory.peak[DEST],
        same_content(source, dest, image.format) if image.mute else stage.has_all(image, stage.lab.acked(SOURCE, image.guest)),
        parts,
    )


# ----- ours


def ours(stage: Stage, way: str, image: Image, precopy: str) -> Sample:
    """The playbook. The guest stays on the dest; Stage.revert() brings it back."""

    def act(meter: Meter) -> dict[str, float]:
        # What has no system cannot shut itself down: it is not waited for.
        off = ("shutdown_timeout=0",) if image.mute else ()
        played = stage.play("cold_migrate", f"server={image.guest}", f"target_host={DEST}", f"precopy={precopy}", ROOMY, *off)
        return {"controller_cpu": played.cpu_seconds, **window(played.tasks, meter.power.off_at or 0.0, meter.power.on_at or 0.0)}

    return measured(stage, way, image, act)


def precopied(stage: Stage, image: Image) -> Sample:
    """Mirrored while the guest runs."""
    return ours(stage, OURS, image, "always")


def cold(stage: Stage, image: Image) -> Sample:
    """Copied while the guest is off."""
    return ours(stage, COLD, image, "never")


#: Tasks of the downtime, by how their names end.
WINDOW = {
    "Shut the guest down and hold the source copy": "hold",
    "Copy": "copy",
    "Verify the copy and give it its name": "verify",
    "Record that the copy is complete": "record",
    "Define the server on the dest": "start",
}


def window(tasks: list[dict[str, t.Any]], off_at: float, on_at: float) -> dict[str, float]:
    """The parts of the downtime: each task's share of it, the node's own work in it (jobs), and what is between tasks."""
    parts: dict[str, float] = {}
    for task in tasks:
        name = WINDOW.get(task["task"].rpartition(" | ")[2])
        if not name or task["began"] is None or task["action"].endswith("include_role"):
            continue
        parts[name] = parts.get(name, 0.0) + max(0.0, min(task["ended"], on_at) - max(task["began"], off_at))
        for key in ("job_seconds", "copy_seconds", "verify_seconds"):
            if task[key] is not None:
                parts[f"{name}_{key}"] = float(task[key])
    parts["between"] = on_at - off_at - sum(seconds for name, seconds in parts.items() if name in WINDOW.values())
    return parts


# ----- Nova's way, and by hand


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


def by_hand(stage: Stage, way: str, image: Image, copy: Act) -> Sample:
    """Shut down, copy, define, start: what Nova does on two nodes, without a controller."""
    definition, uuid = stage.lab.virsh(SOURCE, "dumpxml", "--inactive", image.guest), stage.lab.guest(image.guest).uuid

    def act(meter: Meter) -> dict[str, float]:
        if image.mute:
            meter.exec(SOURCE, "virsh", "-q", "destroy", uuid)
        else:
            stage.lab.shutdown_guest(SOURCE, image.guest, _SHUTDOWN_SECONDS)
        meter.exec(SOURCE, "mv", f"{IMAGES}/{image.file}", f"{IMAGES}/{image.file}_resize")
        begun = time.monotonic()
        copy(meter)
        copied = time.monotonic()
        meter.exec(DEST, "virsh", "-q", "define", "/dev/stdin", stdin=definition)
        meter.exec(DEST, "virsh", "-q", "start", uuid)
        return {"copy": copied - begun, "define_start": time.monotonic() - copied}

    return and_back(stage, way, image, act)


def and_back(stage: Stage, way: str, image: Image, act: Act) -> Sample:
    """Measure a move by hand, and undo it."""
    uuid, path = stage.lab.guest(image.guest).uuid, f"{IMAGES}/{image.file}"
    try:
        return measured(stage, way, image, act)
    finally:
        stage.lab.virsh(DEST, "destroy", uuid)
        stage.lab.virsh(DEST, "undefine", uuid)
        stage.lab.exec(DEST, "rm", "-f", path)
        stage.lab.exec(SOURCE, "sh", "-c", 'if [ -e "$1_resize" ]; then mv "$1_resize" "$1"; fi', "sh", path)
        stage.lab.start_guest(SOURCE, image.guest, wait=not image.mute)


def nova(stage: Stage, image: Image, way: str, program: str) -> Sample:
    """One of Nova's two drivers (nova.md 2.2): no temporary name, no checksum; compression for everything but qcow2."""
    address = stage.lab.paths.load().node(DEST).ipv4

    def copy(meter: Meter) -> dict[str, float]:
        meter.exec(SOURCE, "sh", "-c", f"{NOVA_SSH} root@{address} mkdir -p {IMAGES}")
        meter.exec(SOURCE, "sh", "-c", f"{program} {IMAGES}/{image.file}_resize root@{address}:{IMAGES}/{image.file}")
        return {}

    return by_hand(stage, way, image, copy)


def scp(stage: Stage, image: Image) -> Sample:
    """Nova's driver ssh, its default."""
    compress = "" if image.format == "qcow2" else "-C"
    return nova(stage, image, SCP, f"scp {compress} -r -q{NOVA_SSH.removeprefix('ssh')}")


def rsync(stage: Stage, image: Image) -> Sample:
    """Nova's driver rsync."""
    compress = "" if image.format == "qcow2" else "--compress"
    return nova(stage, image, RSYNC, f"rsync -r --sparse {compress} -e '{NOVA_SSH}'")


def playbook(stage: Stage, image: Image) -> Sample:
    """A playbook as one writes it by hand (by_hand.yml)."""
    values = {
        "server": image.guest,
        "source": SOURCE,
        "dest": DEST,
        "off": "destroy" if image.mute else "shutdown",
        "image": f"{IMAGES}/{image.file}",
        "peer": stage.lab.paths.load().node(DEST).ipv4,
        "ssh": NOVA_SSH,
    }

    def act(_meter: Meter) -> dict[str, float]:
        return {"controller_cpu": stage.play(str(Path(__file__).with_name("by_hand.yml")), json.dumps(values)).cpu_seconds}

    return and_back(stage, PLAYBOOK, image, act)


def live(stage: Stage, image: Image) -> Sample:
    """libvirt's live migration with its disk, for reference: the guest is not shut down at all."""
    address = stage.lab.paths.load().node(DEST).ipv4
    options = ["--live", "--persistent", "--copy-storage-all", "--listen-address", address, "--migrateuri", f"tcp://{address}"]

    def act(meter: Meter) -> dict[str, float]:
        meter.exec(DEST, "qemu-img", "create", "-q", "-f", image.format, f"{IMAGES}/{image.file}", f"{image.virtual_mib}M")
        meter.exec(SOURCE, "virsh", "-q", "migrate", *options, image.guest, f"qemu+ssh://root@{address}/system?keyfile={KEY}&no_verify=1")
        return {}

    return and_back(stage, LIVE, image, act)


# ----- the limits


def raw_tool(stage: Stage, way: str, image: Image, server: str) -> Sample:
    """The raw tools of the cold path and nothing else: qemu-nbd, reached by ``server`` (options of the driver nbd), and qemu-img; no proof of anything."""
    target = f"driver=raw,file.driver=nbd,{server},file.export=vda"
    source = f"driver=raw,file.driver=file,file.filename={IMAGES}/{image.file}_resize"
    command = ["qemu-img", "convert", "-n", "-W", "-m", CONNECTIONS, "--target-is-zero", "--image-opts", "--target-image-opts", source, target]

    def copy(meter: Meter) -> dict[str, float]:
        meter.exec(SOURCE, *command)
        end = f'pid=$(cat {_EXPORT}.pid) && kill $pid && while [ -e /proc/$pid ]; do sleep 0.01; done; mv "$1.bench" "$1"'
        meter.exec(DEST, "sh", "-c", end, "sh", f"{IMAGES}/{image.file}")
        return {}

    return by_hand(stage, way, image, copy)


def limit(stage: Stage, image: Image) -> Sample:
    """Over the collection's channel."""
    with exported(stage, image, "-k", _EXPORT), channel(stage) as socket:
        return raw_tool(stage, LIMIT, image, f"file.server.type=unix,file.server.path={socket}")


def tcp(stage: Stage, image: Image) -> Sample:
    """Over plain TCP, which anybody could read and write. It does not leave the lab."""
    address = stage.lab.paths.load().node(DEST).ipv4
    with exported(stage, image, "-b", address, "-p", _TCP_PORT):
        return raw_tool(stage, TCP, image, f"file.server.type=inet,file.server.host={address},file.server.port={_TCP_PORT}")


_EXPORT = "/run/coldmove/exports/bench"


@contextlib.contextmanager
def exported(stage: Stage, image: Image, *listen: str) -> t.Iterator[None]:
    """An empty file on the dest, of the image's length, behind a qemu-nbd."""
    lab, file = stage.lab, f"{IMAGES}/{image.file}.bench"
    size = stage.path(SOURCE, image.file).stat().st_size
    lab.exec(DEST, "sh", "-c", f"mkdir -p -m 700 /run/coldmove/exports && truncate -s {size} {file}")
    export = ["qemu-nbd", "--fork", "-t", "-e", CONNECTIONS, "--pid-file", f"{_EXPORT}.pid", "-x", "vda", *listen]
    try:
        lab.exec(DEST, *export, "--discard=unmap", "--detect-zeroes=unmap", "--image-opts", f"driver=raw,file.driver=file,file.filename={file}")
        yield
    finally:
        lab.exec(DEST, "sh", "-c", f"kill $(cat {_EXPORT}.pid) 2>/dev/null; rm -f {_EXPORT} {_EXPORT}.pid {file}")


@contextlib.contextmanager
def channel(stage: Stage) -> t.Iterator[str]:
    """The collection's data channel, by hand, to exported(); yields the socket that the source writes to."""
    lab, offer = stage.lab, f"offers/{secrets.token_hex(16)}"
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


WAYS: dict[str, Way] = {
    "precopy": precopied,
    "cold": cold,
    "scp": scp,
    "rsync": rsync,
    "playbook": playbook,
    "live": live,
    "limit": limit,
    "tcp": tcp,
}
"""By the words with which they are chosen."""
