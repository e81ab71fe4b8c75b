#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_service
version_added: 0.1.0
short_description: Take a compute node out of service, or put it back
author:
  - coldmove contributors (@coldmove)
description:
  - Sets and takes back the flags of a node in the record store. A node with any of them is no target for a server.
  - Run it on the records host, or on any host that reaches the database of O(url).
  - Each flag says who set it, why and when, and stands for itself. A node that was disabled before it was fenced is still disabled after its return.
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._records
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - A flag that is set again in the same words keeps its date.
options:
  host:
    description: Inventory name of the node.
    type: str
    required: true
  state:
    description:
      - V(disabled) sets the flag C(disabled).
      - >-
        V(enabled) takes all flags back. This is refused while the node may still have copies of servers that were evacuated from it, and it
        excludes all other flags.
    type: str
    choices: [enabled, disabled]
  forced_down:
    description: Set the flag C(forced_down), or take it back.
    type: bool
  fenced:
    description:
      - Set the flag C(fenced), with what is known of it, for example C(how) the node was proven to be off.
      - An empty dictionary takes it back.
    type: dict
  drained:
    description: Set the flag C(drained), with what is known of it. An empty dictionary takes it back.
    type: dict
  by:
    description: Who sets the flags; O(fenced) and O(drained) may say it themselves.
    type: str
    default: unknown
  reason:
    description: Why; O(fenced) and O(drained) may say it themselves.
    type: str
    default: ""
seealso:
  - module: coldmove.libvirt.compute_service_info
"""

EXAMPLES = r"""
- name: No more servers for this node
  coldmove.libvirt.compute_service:
    host: node-a
    state: disabled
    by: alice
    reason: a fan is broken
  delegate_to: records1

- name: This node is off, and proven to be
  coldmove.libvirt.compute_service:
    host: node-a
    fenced: {how: fence_ipmilan, by: alice, reason: it does not answer}
  delegate_to: records1
"""

RETURN = r"""
service:
  description: C(host), and its flags C(disabled), C(forced_down), C(fenced) and C(drained), each none or a dict with C(by), C(reason), C(at) and more.
  returned: success, and when O(state=enabled) is refused
  type: dict
reasons:
  description: Sentences that say why the node is out of service by these flags; empty if it is in service.
  returned: success
  type: list
  elements: str
"""

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.compute_services import ComputeServices
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.record_database import ARGUMENT_SPEC, HAS_SQLALCHEMY, SQLALCHEMY_IMPORT_ERROR
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.services import reasons


def flags(given: t.Mapping[str, t.Any]) -> dict[str, dict[str, t.Any] | None]:
    """The flags that the arguments set (a dict) or take back (None)."""
    words = {"by": given["by"], "reason": given["reason"]}
    found: dict[str, dict[str, t.Any] | None] = {"disabled": words} if given["state"] == "disabled" else {}
    if given["forced_down"] is not None:
        found["forced_down"] = words if given["forced_down"] else None
    found.update({name: {**words, **given[name]} if given[name] else None for name in ("fenced", "drained") if given[name] is not None})
    return found


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **ARGUMENT_SPEC,
            "host": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["enabled", "disabled"]},
            "forced_down": {"type": "bool"},
            **{name: {"type": "dict"} for name in ("fenced", "drained")},
            "by": {"type": "str", "default": "unknown"},
            "reason": {"type": "str", "default": ""},
        },
        required_one_of=[("state", "forced_down", "fenced", "drained")],
        supports_check_mode=True,
    )
    if not HAS_SQLALCHEMY:
        module.fail_json(msg=missing_required_lib("SQLAlchemy"), exception=SQLALCHEMY_IMPORT_ERROR)
    host, given = module.params["host"], flags(module.params)
    if module.params["state"] == "enabled" and given:
        module.fail_json(msg=f"state=enabled takes all flags back, it cannot be given with {', '.join(given)}")
    try:
        services = ComputeServices(module.params["url"], module.params["path"], dry_run=module.check_mode)
        change = services.enable(host) if module.params["state"] == "enabled" else services.set(host, **given)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    before, after = change.differences()
    diff = {"diff": {"before": before, "after": after}} if module._diff else {}
    module.exit_json(changed=change.changed, service=change.after, reasons=reasons(change.after), **diff)


if __name__ == "__main__":
    main()
