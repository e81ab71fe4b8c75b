# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The shapes that cross the folders (docs/architecture.md), as types. All are plain dicts, so every key may be missing."""

from __future__ import annotations

import typing as t


class Amount(t.TypedDict):
    """What a server needs or a node has, in the units of the whole collection."""

    vcpus: int
    memory_mb: int
    disk_bytes: int


class Domain(t.TypedDict, total=False):
    """One domain of a node, as far as selection needs it."""

    uuid: str
    name: str
    state: str
    autostart: bool
    vcpus: int
    memory_mb: int
    disk_bytes: int
    macs: list[str]
    disk_paths: list[str]
    locked: Locked | None
    project: str | None


class Pool(t.TypedDict, total=False):
    name: str
    path: str | None
    active: bool


class FsSpace(t.TypedDict, total=False):
    total_bytes: int
    free_bytes: int


class JournalSummary(t.TypedDict, total=False):
    migration_uuid: str
    server_uuid: str | None
    epoch: int
    contact_age_seconds: float | None
    job: t.Any
    precopy: str | None


class NodeFacts(t.TypedDict, total=False):
    name: str
    hostname: str
    machine_id: str
    boot_id: str
    libvirt_version: int
    qemu_version: int
    arch: str
    cpus: int
    cpu_model: str
    memory_mb: int
    machine_types: list[str]
    networks: list[str]
    bridges: list[str]
    pools: list[Pool]
    instances_path: str
    instances_fs: FsSpace
    prepared: bool
    not_prepared: list[str]
    domains: list[Domain]
    journals: list[JournalSummary]


class Node(t.TypedDict, total=False):
    """A compute node as the controller knows it: its inventory variables, and its facts if it answered."""

    name: str
    reachable: bool
    error: str
    facts: NodeFacts | None
    maintenance: bool
    forced_down: bool
    availability_zone: str
    traits: list[str]
    cpu_allocation_ratio: float
    ram_allocation_ratio: float
    disk_allocation_ratio: float
    reserved_memory_mb: int
    reserved_disk_gb: float
    migration_address: str
    service: dict[str, dict[str, t.Any] | None]


class ChainLink(t.TypedDict, total=False):
    path: str
    format: str
    link_to: str


class Disk(t.TypedDict, total=False):
    target: str
    device: str
    type: str
    path: str | None
    format: str | None
    virtual_bytes: int | None
    allocated_bytes: int | None
    size_bytes: int | None
    #: Of a block device: the virtual size that the disk can have at most; what is the same wherever the device is seen from; ``GROUP/NAME`` and the thin pool
    #: of a logical volume.
    greatest_bytes: int
    identity: list[str]
    logical_volume: str
    thin_pool: str
    internal_snapshots: int
    readonly: bool
    shareable: bool
    role: str
    chain: list[ChainLink]
    #: Only of a path that is itself a symbolic link: where it leads.
    link_to: str
    pool: str | None
    volume: str | None
    moves: bool


class Nic(t.TypedDict, total=False):
    mac: str
    type: str
    source: str | None


class Nvram(t.TypedDict, total=False):
    path: str | None
    template: str | None
    size_bytes: int
    allocated_bytes: int
    link_to: str


class Locked(t.TypedDict, total=False):
    by: str | None
    reason: str | None


class Flavor(t.TypedDict):
    """A whole flavor: GiB and MiB."""

    name: str
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int
    swap_mb: int
    extra_specs: dict[str, str]


class Server(t.TypedDict, total=False):
    """The facts of one server, read on the node it is on."""

    uuid: str
    name: str
    state: str
    persistent: bool
    autostart: bool
    xml: str
    vcpus: int
    memory_mb: int
    arch: str
    machine_type: str
    cpu_mode: str | None
    cpu_model: str | None
    loader: str | None
    nvram: Nvram | None
    tpm: bool
    agent: bool
    disks: list[Disk]
    nics: list[Nic]
    hostdevs: list[t.Any]
    snapshots: list[str]
    checkpoints: list[str]
    managed_save: bool
    block_jobs: list[str]
    locked: Locked | None
    project: str | None
    group: str | None
    flavor: dict[str, t.Any] | None
    image: dict[str, int | None] | None
    topology: dict[str, int] | None
    pins: dict[str, str]
    numa_cells: int
    page_size_kib: int | None
    blockers: list[str]
    node_ties: list[str]
    external_files: list[str]


class DestAnswers(t.TypedDict, total=False):
    leftovers: list[str]
    missing: list[str]
    unmet: list[str]
    collisions: list[str]
    free_bytes: dict[str, int]
    image_bytes: dict[str, int]
    device_problems: list[str]
    same_filesystem: t.Any
    cpu: str
    emulator_ok: t.Any
    define_error: str | None


class MoveFile(t.TypedDict, total=False):
    """One file of a move. ``way``: how it comes to be on the dest.

    ``copy``: its content crosses. ``blank``: it is made anew, empty. ``drop``: the dest has none (swap of a flavor without swap). On the same node:
    ``overlay``: a new image stands on top of the old one, which is the held copy under its own name. ``replace``: made anew, empty, under the same name.
    ``device``: empty for a file. ``named``: a block device on both ends, the dest's by the operator's word. ``volume``: the dest makes the logical volume
    ``volume`` (``GROUP/NAME``), in ``thin_pool`` if it has that. ``identity``: of the source's device.
    Of a server whose node is gone: ``image``: made from an image (``image_path``, ``image_format``). ``restore``: made from what the record store has kept.
    """

    id: str
    kind: str
    format: str
    way: str
    grow_to_bytes: int
    image_path: str
    image_format: str
    source_path: str
    held_path: str
    dest_path: str
    temp_path: str
    size_bytes: int
    virtual_bytes: int
    allocated_bytes: int
    device: str
    volume: str
    thin_pool: str
    identity: list[str]


class Owner(t.TypedDict, total=False):
    """The run that works on a migration: enough to look at its process on the same controller."""

    controller: str
    boot_id: str
    pid: int
    pid_start: int
    pid_ns: str
    awx_job_id: str


class Progress(t.TypedDict, total=False):
    step: str
    percent: float
    bytes_done: int
    bytes_total: int
    rate: float
    eta_seconds: float | None
    note: str
    waiting: str


class Rejection(t.TypedDict):
    host: str
    reasons: list[str]


class Migration(t.TypedDict, total=False):
    id: int
    uuid: str
    server_uuid: str
    server_name: str
    migration_type: str
    status: str
    source_host: str
    dest_host: str | None
    old_flavor: dict[str, t.Any] | None
    new_flavor: dict[str, t.Any] | None
    old_power_state: str | None
    created_at: str
    updated_at: str
    started_by: str | None
    reason: str | None
    error: str | None
    bytes_total: int | None
    bytes_sent: int | None
    downtime_seconds: float | None
    phases: list[dict[str, t.Any]]
    held_bytes: int | None
    epoch: int
    owner: Owner | None
    heartbeat_age_seconds: float | None
    progress: Progress | None
    files: list[MoveFile]
    domain_xml: str | None
    autostart: bool | None
    need: Amount | None
    pending_hosts: list[str]
    rejected: list[Rejection]
    #: Of a precopy that waits for its cutover, see _logic/cutover.py.
    hold: dict[str, t.Any] | None


class MoveState(t.TypedDict, total=False):
    """What one node knows of one move. None stands for a node that does not answer."""

    domain: str
    held: bool
    starting: bool
    started: bool
    waiting: bool
    proof: str | None
    files: dict[str, str]
    job: t.Any
    exports: int
    precopy: str | None


Nodes = t.Mapping[str, Node]
