# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small makers of the shapes of docs/architecture.md for the tests of the pure logic."""

from __future__ import annotations

import typing as t

GIB = 1024**3
MOVE = "0b0d3d4e-0000-4000-8000-00000000000a"


def uuid_of(number: int) -> str:
    """A UUID that is easy to read in a failure."""
    return f"00000000-0000-4000-8000-{number:012d}"


def a_domain(number: int = 1, name: str = "", **more: t.Any) -> dict[str, t.Any]:
    """One domain of node facts."""
    return {
        "uuid": uuid_of(number),
        "name": name or f"web{number}",
        "state": "running",
        "autostart": False,
        "vcpus": 1,
        "memory_mb": 1024,
        "disk_bytes": GIB,
        "macs": [f"52:54:00:00:00:{number:02x}"],
        "disk_paths": [],
        **more,
    }


def a_node(name: str, domains: t.Sequence[dict[str, t.Any]] = (), facts: dict[str, t.Any] | None = None, **more: t.Any) -> dict[str, t.Any]:
    """A node that answers and is prepared."""
    return {
        "name": name,
        "reachable": True,
        "error": "",
        "facts": {
            "name": name,
            "hostname": f"{name}.example",
            "machine_id": f"machine-{name}",
            "libvirt_version": 9000000,
            "qemu_version": 7002000,
            "arch": "x86_64",
            "cpus": 8,
            "memory_mb": 16896,
            "machine_types": ["q35", "pc-q35-7.2"],
            "networks": ["default"],
            "bridges": ["br0"],
            "pools": [{"name": "default", "path": "/var/lib/libvirt/images", "active": True}],
            "instances_path": "/var/lib/libvirt/images",
            "instances_fs": {"total_bytes": 100 * GIB, "free_bytes": 50 * GIB},
            "prepared": True,
            "not_prepared": [],
            "domains": list(domains),
            "journals": [],
            **(facts or {}),
        },
        "maintenance": False,
        "forced_down": False,
        "cpu_allocation_ratio": 4.0,
        "ram_allocation_ratio": 1.0,
        "disk_allocation_ratio": 1.0,
        "reserved_memory_mb": 512,
        "reserved_disk_gb": 0.0,
        **more,
    }


def a_silent_node(name: str, error: str = "No route to host") -> dict[str, t.Any]:
    """A node that does not answer."""
    return {**a_node(name), "reachable": False, "error": error, "facts": None}


def a_disk(target: str = "vda", path: str = "/var/lib/libvirt/images/web1.qcow2", **more: t.Any) -> dict[str, t.Any]:
    """One disk of server facts."""
    return {
        "target": target,
        "device": "disk",
        "type": "file",
        "path": path,
        "format": "qcow2",
        "virtual_bytes": 10 * GIB,
        "allocated_bytes": GIB,
        "size_bytes": GIB + 4096,
        "readonly": False,
        "shareable": False,
        "role": "root",
        "chain": [],
        "pool": None,
        "moves": True,
        **more,
    }


def a_server(number: int = 1, **more: t.Any) -> dict[str, t.Any]:
    """The facts of one running server with one disk."""
    return {
        "uuid": uuid_of(number),
        "name": f"web{number}",
        "state": "running",
        "persistent": True,
        "vcpus": 1,
        "memory_mb": 1024,
        "arch": "x86_64",
        "machine_type": "pc-q35-7.2",
        "nvram": None,
        "disks": [a_disk()],
        "nics": [{"mac": f"52:54:00:00:00:{number:02x}", "type": "network", "source": "default"}],
        "locked": None,
        "blockers": [],
        "external_files": [],
        **more,
    }


def a_migration(number: int = 1, status: str = "finished", source: str = "a", dest: str | None = "b", **more: t.Any) -> dict[str, t.Any]:
    """One record."""
    need = {"vcpus": 1, "memory_mb": 1024, "disk_bytes": GIB}
    return {
        "id": number,
        "uuid": MOVE[:-2] + f"{number:02x}",
        "server_uuid": uuid_of(number),
        "server_name": f"web{number}",
        "migration_type": "migration",
        "status": status,
        "source_host": source,
        "dest_host": dest,
        "old_power_state": "running",
        "created_at": f"2026-01-01T00:00:{number:02d}+00:00",
        "started_by": "root",
        "epoch": 1,
        "need": need,
        "source_need": need,
        "files": [],
        "pending_hosts": [],
        **more,
    }
