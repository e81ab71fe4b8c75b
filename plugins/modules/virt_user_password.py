#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_user_password
short_description: Set a password in a running server by its guest agent
version_added: 0.1.0
description:
  - Waits until the guest agent answers, and has it set the password of an account that there is in the guest.
  - The password goes to libvirt through its own API, never on a command line of the node. It is kept nowhere.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
attributes:
  check_mode:
    support: full
    details:
      - The agent is not asked, and not waited for.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - A password cannot be read back, so it is set each time.
options:
  server:
    description: UUID or name of the domain. It must run, and its definition must have the channel C(org.qemu.guest_agent.0).
    type: str
    required: true
  user:
    description: The account in the guest. It must exist there. On Windows it is usually V(Administrator).
    type: str
    default: root
  password:
    description: The new password, in plain text, on one line.
    type: str
    required: true
  timeout:
    description: Seconds that the agent is waited for. With V(0) it is asked once.
    type: float
    default: 60
notes:
  - Some distributions forbid their agent this command (C(guest-set-user-password)). The module then fails in the agent's words.
seealso:
  - module: coldmove.libvirt.virt_power
"""

EXAMPLES = r"""
- name: Give a server that has just been started a new password
  coldmove.libvirt.virt_user_password:
    server: web1
    password: "{{ vault_web1_root_password }}"
    timeout: 120
  no_log: true
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
user:
  description: The account.
  type: str
  returned: success
seconds:
  description: How long it took, with the time until the agent answered.
  type: float
  returned: success
"""

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import inputs
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.domain_xml import LXML_IMPORT_ERROR
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import passwords


def account(params: dict[str, t.Any]) -> passwords.Account:
    """What was asked. The password is not repeated in what is said of it."""
    try:
        return passwords.Account(inputs.account(params["user"]), inputs.password(params["password"]))
    except ValueError as exc:
        raise ColdmoveError(f"user or password is malformed: {exc}. Nothing was changed") from exc


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **libvirt_host.URI_ARGS,
            "server": {"type": "str", "required": True},
            "user": {"type": "str", "default": "root"},
            "password": {"type": "str", "required": True, "no_log": True},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    if LXML_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("lxml"), exception=LXML_IMPORT_ERROR)
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    given = module.params
    try:
        wanted = account(given)
        with libvirt_host.connected(given["uri"]) as host:
            result = passwords.set_password(host, given["server"], wanted, given["timeout"], module.check_mode)
        module.exit_json(**result)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
