#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_service_info
version_added: 0.1.0
short_description: Read which compute nodes are out of service, and why
author:
  - coldmove contributors (@coldmove)
description:
  - Returns the flags that M(coldmove.libvirt.compute_service) keeps.
  - A record store that does not exist is an empty one, and is not created.
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._attributes.info_module
  - coldmove.libvirt._attributes.idempotent_not_modify_state
  - coldmove.libvirt._records
options:
  host:
    description: Inventory name of a node; empty for all of which the store knows any flag.
    type: str
    default: ""
seealso:
  - module: coldmove.libvirt.compute_service
"""

EXAMPLES = r"""
- name: Which nodes are out of service?
  coldmove.libvirt.compute_service_info:
  delegate_to: records1
  register: answer
"""

RETURN = r"""
services:
  description: >-
    By node, its flags C(disabled), C(forced_down), C(fenced) and C(drained), each none or a dict with C(by), C(reason), C(at) and more.
  returned: success
  type: dict
  sample: {node-a: {disabled: {by: alice, reason: a fan is broken, at: "2026-01-31T12:00:00.000Z"}, forced_down: null, fenced: null, drained: null}}
"""

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.compute_services import ComputeServices
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.record_database import ARGUMENT_SPEC, HAS_SQLALCHEMY, SQLALCHEMY_IMPORT_ERROR
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**ARGUMENT_SPEC, "host": {"type": "str", "default": ""}}, supports_check_mode=True)
    if not HAS_SQLALCHEMY:
        module.fail_json(msg=missing_required_lib("SQLAlchemy"), exception=SQLALCHEMY_IMPORT_ERROR)
    try:
        # A dry run never creates or upgrades the store.
        services = ComputeServices(module.params["url"], module.params["path"], dry_run=True).get(module.params["host"])
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(changed=False, services=services)


if __name__ == "__main__":
    main()
