# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the scheduler takes for a large site: a pure function, so nothing but this process is measured."""

from __future__ import annotations

import importlib
import statistics
import sys
import time
import typing as t

from bench.stage import BUILD

GIB = 1024**3
SERVERS, NODES, DOMAINS = 1000, 500, 20


def select_seconds(runs: int = 3) -> float:
    """CPU seconds (median) to select hosts for 1,000 servers over 500 nodes with 20 domains each."""
    sys.path.insert(0, str(BUILD / "installed"))
    scheduler: t.Any = importlib.import_module("ansible_collections.coldmove.libvirt.plugins.module_utils._logic.scheduler")

    nodes = {f"n{number:03d}": _node(number) for number in range(NODES)}
    requests = [scheduler.request_for(_server(number)) for number in range(SERVERS)]
    return statistics.median(_once(scheduler, requests, nodes) for _run in range(runs))


def _once(scheduler: t.Any, requests: list[t.Any], nodes: dict[str, t.Any]) -> float:
    begun = time.process_time()
    scheduler.select_many(requests, nodes)
    return time.process_time() - begun


def _node(number: int) -> dict[str, t.Any]:
    domains = [_domain(number * DOMAINS + index) for index in range(DOMAINS)]
    space = {"total_bytes": 8192 * GIB, "free_bytes": 4096 * GIB}
    facts = {"cpus": 64, "memory_mb": 262144, "instances_fs": space, "arch": "x86_64", "machine_types": ["pc"], "networks": ["default"], "prepared": True}
    return {"name": f"n{number:03d}", "reachable": True, "facts": {**facts, "domains": domains}}


def _domain(number: int) -> dict[str, t.Any]:
    uuid, mac = f"00000000-0000-0000-0000-{number:012x}", f"02:00:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return {"uuid": uuid, "name": f"d{number}", "state": "running", "vcpus": 2, "memory_mb": 2048, "disk_bytes": GIB, "macs": [mac], "disk_paths": []}


def _server(number: int) -> dict[str, t.Any]:
    nic = {"mac": f"52:54:01:00:{number >> 8:02x}:{number & 255:02x}", "type": "network", "source": "default"}
    uuid = f"10000000-0000-0000-0000-{number:012x}"
    return {
        "uuid": uuid,
        "name": f"s{number}",
        "state": "running",
        "arch": "x86_64",
        "machine_type": "pc",
        "vcpus": 1,
        "memory_mb": 512 + number,
        "nics": [nic],
        "disks": [],
    }
