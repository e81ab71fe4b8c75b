#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_power
short_description: Start or stop a server and read back that it did
version_added: 0.1.0
description:
  - Starting waits until libvirt says that the guest is running and that it keeps running for a moment.
  - Stopping asks the guest, asks again at each interval, and powers it off when the time is up, like Nova.
  - A server that is in the wanted state already is not touched.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
  - coldmove.libvirt._migration
  - coldmove.libvirt._power.shutdown
  - coldmove.libvirt._power.proof
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  server:
    description: UUID or name of the domain.
    type: str
    required: true
  state:
    description:
      - The wanted power state.
      - One of O(state) and O(autostart) is required.
    type: str
    choices: [running, shutoff]
  autostart:
    description: Whether libvirt starts the domain at boot. Left as it is if not given.
    type: bool
  method:
    description:
      - How the guest is asked to shut down.
      - V(auto) uses the guest agent if libvirt has one connected, and ACPI in turn with it at the retries; without an agent it uses ACPI.
    type: str
    choices: [auto, acpi, agent]
    default: auto
  power_off:
    description: Whether a guest that does not shut down in time is powered off. Otherwise the module fails and the guest runs on.
    type: bool
    default: true
  start_timeout:
    description: Seconds until the guest must be running.
    type: float
    default: 60
  settle_seconds:
    description: Seconds that it must then keep running to count as started. They are not part of RV(seconds).
    type: float
    default: 1
  commit_point:
    description:
      - Whether this start is the one that the migration is about, on its dest.
      - The node's journal then says that the server is about to be started here, and afterwards that it was.
      - Set to V(false) when a roll-back or a revert starts the server on its source.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Stop a server, politely first
  coldmove.libvirt.virt_power:
    server: web1
    state: shutoff
    shutdown_timeout: 120

- name: Start it where it moved to
  coldmove.libvirt.virt_power:
    server: "{{ migration.server_uuid }}"
    state: running
    migration_uuid: "{{ migration.uuid }}"
    migration_epoch: "{{ migration.epoch }}"
"""

RETURN = r"""
uuid:
  description: UUID of the domain.
  type: str
  returned: success
name:
  description: Name of the domain.
  type: str
  returned: success
state_before:
  description: Power state before.
  type: str
  returned: success
state:
  description: Power state now, as libvirt says it.
  type: str
  returned: always
seconds:
  description: How long it took until the guest was off, or was running.
  type: float
  returned: O(state) is given
since_reached_seconds:
  description:
    - How long the module went on afterwards, O(settle_seconds) included.
    - Who measures downtime by when the tasks ended, subtracts it.
  type: float
  returned: O(state) is given
reached_at:
  description: When the state was reached, by the node's clock.
  type: str
  returned: O(state) is given
graceful:
  description: Whether the guest shut down by itself. None if it was not stopped.
  type: bool
  returned: O(state) is given
autostart:
  description: Whether libvirt starts the domain at boot.
  type: bool
  returned: O(autostart) is given
proof:
  description: V(begun) if O(proof_disks) are held fast and read, V(impossible) if not. None if nothing is to be proven.
  type: str
  returned: O(state=running) in a step of a migration
proof_error:
  description: Why it is impossible.
  type: str
  returned: O(state=running) in a step of a migration
paused_seconds:
  description: How long the guest was kept waiting for it, which is downtime.
  type: float
  returned: O(state=running) in a step of a migration
method:
  description: What stopped it, V(acpi), V(agent) or V(power_off). None if it was off already.
  type: str
  returned: O(state=shutoff)
"""

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import power, proving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import MIGRATION_ARGS, Journal, step


def reach(host: libvirt_host.LibvirtHost, params: dict[str, t.Any], journal: Journal | None) -> dict[str, t.Any]:
    """Reach the power state, if one is wanted."""
    if params["state"] == "running":
        proof = proving.order_of(params)
        return power.start(host, params["server"], params["start_timeout"], params["settle_seconds"], journal, params["commit_point"], proof)
    if params["state"] == "shutoff":
        return power.stop(host, params["server"], power.stop_of(params, params["method"], params["power_off"]))
    return power.look(host, params["server"])


def work(host: libvirt_host.LibvirtHost, params: dict[str, t.Any], journal: Journal | None, check_mode: bool) -> dict[str, t.Any]:
    """The module's result."""
    uuid, name = host.identity(host.domain(params["server"]))
    result = power.look(host, params["server"], params["state"]) if check_mode else reach(host, params, journal)
    if params["autostart"] is not None:
        result["changed"] |= host.autostart(uuid) != params["autostart"] if check_mode else host.set_autostart(uuid, params["autostart"])
        result["autostart"] = params["autostart"]
    return {"uuid": uuid, "name": name, **result}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **libvirt_host.URI_ARGS,
            **MIGRATION_ARGS,
            **power.SHUTDOWN_ARGS,
            **proving.ORDER_ARGS,
            "server": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["running", "shutoff"]},
            "autostart": {"type": "bool"},
            "method": {"type": "str", "choices": ["auto", "acpi", "agent"], "default": "auto"},
            "power_off": {"type": "bool", "default": True},
            "start_timeout": {"type": "float", "default": power.START_TIMEOUT_SECONDS},
            "settle_seconds": {"type": "float", "default": power.SETTLE_SECONDS},
            "commit_point": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
        required_one_of=[("state", "autostart")],
        required_by={"migration_uuid": "migration_epoch"},
    )
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    try:
        power.check_shutdown(module.params)
        with step(module.params, module.check_mode) as journal, libvirt_host.connected(module.params["uri"]) as host:
            result = work(host, module.params, journal, module.check_mode)
        module.exit_json(**result)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
