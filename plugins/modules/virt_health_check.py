#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_health_check
short_description: Prove that a server is well after its start
version_added: 0.1.0
description:
  - Makes health checks of a running server from the node that it runs on, all at the same time, each again and again until it passes or its time is up.
  - Fails with everything that did not pass in one message.
  - A server that is off or has crashed fails at once; nothing is waited for then.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
  - coldmove.libvirt._migration
  - coldmove.libvirt._move_files.job
attributes:
  check_mode:
    support: partial
    details:
      - Every check looks once and nothing is waited for.
      - Checks of the type V(command) are not run, because a command may change things.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state, unless a command of the caller does.
  idempotent:
    support: full
    details:
      - This action does not modify state, unless a command of the caller does.
options:
  server:
    description: UUID or name of the domain.
    type: str
    required: true
  checks:
    description:
      - The checks. All must pass; an empty list passes.
      - The filter P(coldmove.libvirt.health_checks#filter) makes such a list of what an operator wrote, and refuses what is malformed.
    type: list
    elements: dict
    required: true
    suboptions:
      type:
        description:
          - V(running) passes if libvirt calls the domain running, and still does so when the other checks have ended.
          - V(agent) passes if the guest agent answers.
          - V(tcp) passes if a TCP connection can be made from this node.
          - V(ping) passes if an ICMP echo is answered. It needs the program C(ping) on this node.
          - V(command) passes if a command on this node ends with exit code 0.
        type: str
        required: true
        choices: [running, agent, tcp, ping, command]
      address:
        description:
          - Name or address of the guest, for the types V(tcp) and V(ping).
          - Without it, every address that is known for the guest's interfaces is tried until one answers. Known are those that the guest agent tells,
            that libvirt's DHCP server leased, and that are in the node's neighbour table.
            Link-local addresses are left out.
        type: str
      port:
        description: TCP port, required for the type V(tcp).
        type: int
      command:
        description:
          - Program and arguments, required for the type V(command). No shell is involved.
          - It runs as the user of the task, with the name and the UUID of the server in E(COLDMOVE_SERVER) and E(COLDMOVE_SERVER_UUID).
          - It is ended, with its children, when the check's time is up.
        type: list
        elements: str
      timeout:
        description: Seconds that the check has to pass, from the start of the module. With V(0) it looks once, for a second at most.
        type: float
        default: 60
      interval:
        description: Seconds between the end of one attempt and the next.
        type: float
        default: 1
  wait_seconds:
    description:
      - How many seconds one call waits for the checks before it returns, as part of a migration (O(migration_uuid)). Otherwise it waits for their end.
      - The action plugin of the collection calls again until they have ended, and renews the heartbeat of the record meanwhile.
  attach:
    description:
      - Only report on checks that were started before by the same run of a migration, do not start any.
      - Used by the action plugin of the collection.
notes:
  - An address that a guest tells about itself is the guest's word. A guest that lies about it deceives only its own checks.
    Give O(checks[].address) where that matters.
"""

EXAMPLES = r"""
- name: The guest runs, its agent answers, and so does its web server
  coldmove.libvirt.virt_health_check:
    server: web1
    checks:
      - type: running
      - type: agent
      - type: tcp
        port: 443
        timeout: 120
      - type: command
        command: [curl, --fail, --silent, "https://web1.example.com/health"]
        interval: 5
"""

RETURN = r"""
uuid:
  description: UUID of the domain.
  type: str
  returned: when the checks have ended
name:
  description: Name of the domain.
  type: str
  returned: when the checks have ended
state:
  description: State of the domain after the checks, as libvirt says it.
  type: str
  returned: when the checks have ended
checks:
  description: What each check found, in the order of O(checks).
  type: list
  elements: dict
  returned: when the checks have ended, also if some failed
  contains:
    type:
      description: The check's type.
      type: str
    address:
      description: The address that answered, otherwise the last that was tried. None for types that have none.
      type: str
    port:
      description: TCP port, for V(tcp).
      type: int
    command:
      description: The command, for V(command).
      type: list
      elements: str
    ok:
      description: Whether it passed. None if it was not made, in check mode.
      type: bool
    attempts:
      description: How often it was tried.
      type: int
    seconds:
      description: Seconds until it passed or was given up.
      type: float
    detail:
      description: What the last attempt found. For a command, the last line of its output.
      type: str
job:
  description: State of the checks, if they are part of a migration.
  type: dict
  returned: O(migration_uuid) is given
"""

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import health as rules
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.domain_xml import LXML_IMPORT_ERROR
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import health
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.arguments import JOB_ARGS, follow
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.jobs import Job
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import MIGRATION_ARGS, Journal, step

CHECKS_ARG: dict[str, t.Any] = {
    "type": "list",
    "elements": "dict",
    "required": True,
    "options": {
        "type": {"type": "str", "required": True, "choices": list(rules.TYPES)},
        "address": {"type": "str"},
        "port": {"type": "int"},
        "command": {"type": "list", "elements": "str"},
        "timeout": {"type": "float", "default": rules.DEFAULT_TIMEOUT_SECONDS},
        "interval": {"type": "float", "default": rules.DEFAULT_INTERVAL_SECONDS},
    },
}


def checks_of(params: dict[str, t.Any]) -> list[rules.Check]:
    """The checks of the task; refused if they are malformed."""
    try:
        return rules.parsed(params["checks"])
    except ValueError as exc:
        raise ColdmoveError(f"checks are malformed: {exc}. Nothing was looked at.") from exc


def examine(params: dict[str, t.Any], checks: list[rules.Check], once: bool = False) -> dict[str, t.Any]:
    """What the checks find."""
    with libvirt_host.connected(params["uri"]) as host:
        return health.examine(host, params["server"], checks, once)


def as_job(journal: Journal, params: dict[str, t.Any], checks: list[rules.Check]) -> dict[str, t.Any]:
    """The same as a job of the migration, so that a run that waits for long keeps its heartbeat. What was found earlier does not count."""
    job = Job(journal, "health")
    if not params["attach"]:
        job.cancel()
    status = follow(job, lambda report: examine(params, checks), params)
    return {"job": status, **(status.get("result") or {})}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **libvirt_host.URI_ARGS,
            **MIGRATION_ARGS,
            **JOB_ARGS,
            "server": {"type": "str", "required": True},
            "checks": CHECKS_ARG,
        },
        supports_check_mode=True,
        required_by={"migration_uuid": "migration_epoch"},
    )
    if LXML_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("lxml"), exception=LXML_IMPORT_ERROR)
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    params = module.params
    try:
        checks = checks_of(params)
        with step(params, module.check_mode) as journal:
            result = as_job(journal, params, checks) if journal else examine(params, checks, once=module.check_mode)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    refusal = rules.refusal(result["name"], result["checks"]) if "checks" in result else None
    if refusal:
        module.fail_json(msg=refusal, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
