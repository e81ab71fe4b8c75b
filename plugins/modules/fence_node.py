#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fence_node
short_description: Switch a node off by a fence agent, and prove it
version_added: 0.1.0
description:
  - Switches a node off or on, or reads its power, by a program of the fence-agents project.
  - Runs on any host that reaches the node's power supply or BMC, never on the node itself.
  - What an agent says of its success proves nothing. The power counts as off if several readings in a row say so.
  - If the power cannot be read, nothing is switched.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
attributes:
  check_mode:
    support: full
    details:
      - Only reads the power, once.
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - A node whose power reads as wanted is not switched.
options:
  agent:
    description:
      - Name of the agent, like V(fence_ipmilan) or V(fence_redfish). It must be in C(/usr/sbin) of the host that the task runs on.
    type: str
    required: true
  options:
    description:
      - The agent's options by its own names, see C(fence_ipmilan -o metadata).
      - They are given to the agent on its standard input.
      - Values are taken out of everything that the module returns, those of options that surely hold no secret (addresses, names, time-outs) apart.
    type: dict
    default: {}
  action:
    description:
      - V(status) reads the power once.
      - V(off) and V(on) switch it, unless it reads so already.
    type: str
    choices: [status, "off", "on"]
    required: true
  attempts:
    description: How often the power is asked for until it is known, and how often it is switched until it reads as wanted.
    type: int
    default: 3
  readings:
    description: How many readings in a row must say V(off) (or V(on)) before it is believed.
    type: int
    default: 3
  interval:
    description: Seconds between two readings.
    type: float
    default: 1
  timeout:
    description:
      - Seconds for one call of the agent. One that takes longer is ended.
      - It must be longer than the agent's own time-outs, like C(power_timeout), which is 20 for most.
    type: float
    default: 60
requirements:
  - fence-agents, and what the agent needs (ipmitool for fence_ipmilan)
notes:
  - Some agents put the password on the command line of the tool that they run, where the accounts of that host can see it.
seealso:
  - module: coldmove.libvirt.node_look
"""

EXAMPLES = r"""
- name: Power of a node
  coldmove.libvirt.fence_node:
    agent: fence_ipmilan
    options: {ip: 192.0.2.111, username: operator, password: "{{ bmc_password }}", lanplus: true}
    action: status
  delegate_to: records1

- name: Switch it off, and be sure
  coldmove.libvirt.fence_node:
    agent: "{{ hostvars['node1'].fence.agent }}"
    options: "{{ hostvars['node1'].fence.options }}"
    action: "off"
    readings: 5
    interval: 2
  delegate_to: records1
"""

RETURN = r"""
power:
  description: V(on), V(off) or V(unknown), by the last reading.
  type: str
  returned: if there was a reading
readings:
  description: Everything that was read, the oldest first.
  type: list
  elements: dict
  returned: if there was a reading, also on failure
  contains:
    at:
      description: When, in UTC.
      type: str
    power:
      description: V(on), V(off) or V(unknown).
      type: str
    detail:
      description: The agent's own words.
      type: str
"""

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.fence_agent import FenceAgent
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import fencing as rules
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.fencing import Patience, Power

ARGUMENT_SPEC: dict[str, t.Any] = {
    "agent": {"type": "str", "required": True},
    # Not no_log: a password is hidden, and 1 and true would be as well, in every number and date that is returned.
    "options": {"type": "dict", "default": {}, "no_log": False},
    "action": {"type": "str", "choices": ["status", "off", "on"], "required": True},
    "attempts": {"type": "int", "default": 3},
    "readings": {"type": "int", "default": rules.READINGS},
    "interval": {"type": "float", "default": 1},
    "timeout": {"type": "float", "default": 60},
}


def fence_of(module: AnsibleModule) -> rules.Fence:
    """Agent and options of the task. What may be secret among them is hidden from here on, in whatever the module says."""
    for name, value in module.params["options"].items():
        module.no_log_values.update(rules.secrets({str(name): str(value)}))
    try:
        fence = rules.agent_of(module.params["agent"], module.params["options"])
    except ValueError as exc:
        raise ColdmoveError(f"the fence agent and its options are malformed: {exc}") from exc
    for name in ("attempts", "readings", "timeout"):
        if module.params[name] <= 0:
            raise ColdmoveError(f"{name} is {module.params[name]}: it must be more than 0")
    return fence


def act(module: AnsibleModule) -> dict[str, t.Any]:
    """Read or switch."""
    params = module.params
    power = Power(FenceAgent(fence_of(module), params["timeout"]), Patience(params["attempts"], params["readings"], params["interval"]))
    wanted = params["action"]
    if wanted == "status" or module.check_mode:
        before = power.read() if wanted == "status" else power.known()
        changed = wanted not in ("status", before)
    else:
        changed = power.ensure(wanted)
        before = power.readings[0]["power"]
    after = wanted if changed else before
    result = {"changed": changed, "power": rules.power_of(power.readings), "readings": power.readings}
    return {**result, "diff": {"before": {"power": before}, "after": {"power": after}}} if module._diff else result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        result = act(module)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
