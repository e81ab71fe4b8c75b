#!/usr/bin/python
# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: virt_define_domain
short_description: Define or undefine a domain from XML with mapped disk paths, networks and flavor values
version_added: 0.1.0
description:
  - Defines a domain from another node's XML after mapping disk paths, networks, the NVRAM path and flavor values. All else in the XML is kept.
  - The wanted and the existing definition are compared canonically, so that defining an already defined domain changes nothing.
  - With O(start) the same call starts it.
  - Undefining keeps NVRAM and TPM state unless told otherwise, and refuses a domain that runs or that has a managed-save image or snapshots.
author: coldmove contributors (@coldmove)
extends_documentation_fragment:
  - coldmove.libvirt._attributes
  - coldmove.libvirt._attributes.actiongroup_coldmove
  - coldmove.libvirt._libvirt
  - coldmove.libvirt._migration
  - coldmove.libvirt._domain_edits
  - coldmove.libvirt._power.proof
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description: Whether the domain is defined on this node.
    type: str
    choices: [present, absent]
    default: present
  start:
    description:
      - Start the domain once it is defined, as M(coldmove.libvirt.virt_power) does with its defaults. In a step of a migration this is its commit point.
      - With the guest off every call of a module is downtime, so this is not one of its own.
    type: bool
    default: false
  xml:
    description:
      - The domain XML, as C(virsh dumpxml --inactive --security-info) gives it.
      - Required if O(state=present).
    type: str
  uuid:
    description:
      - UUID of the domain.
      - One of O(uuid) and O(name) is required if O(state=absent).
      - With O(state=present) a safeguard, XML of another UUID is refused.
    type: str
  name:
    description:
      - Name of the domain.
      - With O(state=present) a safeguard, XML of another name is refused.
    type: str
  autostart:
    description: Whether libvirt starts the domain at boot. Left as it is if not given.
    type: bool
  keep_nvram:
    description: Whether the NVRAM file stays when the domain is undefined.
    type: bool
    default: true
  keep_tpm:
    description: Whether the TPM state stays when the domain is undefined.
    type: bool
    default: true
notes:
  - Passwords in the XML are masked in the diff and in the module's recorded arguments, and are in RV(xml).
seealso:
  - module: coldmove.libvirt.virt_domain_info
"""

EXAMPLES = r"""
- name: Define a server that was read on another node, with its disk at another place
  coldmove.libvirt.virt_define_domain:
    xml: "{{ answer.server.xml }}"
    disks:
      vda: /srv/instances/web1.qcow2
    networks:
      default: guests
    autostart: true

- name: Give a server that is off another flavor, and show what that changes
  coldmove.libvirt.virt_define_domain:
    xml: "{{ answer.server.xml }}"
    flavor: "{{ flavors['m1.large'] | combine({'name': 'm1.large'}) }}"
  diff: true

- name: Undefine it, and keep its NVRAM and TPM state
  coldmove.libvirt.virt_define_domain:
    uuid: "{{ answer.server.uuid }}"
    state: absent
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
xml:
  description:
    - The inactive definition with its secrets as libvirt has it now, or the wanted one in check mode.
    - With O(state=absent) the definition that was there, or none.
  type: str
  returned: success
state_before:
  description: Power state before.
  type: str
  returned: with O(start)
state:
  description: Power state now.
  type: str
  returned: with O(start)
seconds:
  description: How long it took until the guest was running.
  type: float
  returned: with O(start)
since_reached_seconds:
  description: How long the module went on afterwards. Who measures downtime by when the tasks ended, subtracts it.
  type: float
  returned: with O(start)
reached_at:
  description: When the guest was running, by the node's clock.
  type: str
  returned: with O(start)
proof:
  description: V(begun) if O(proof_disks) are held fast and read, V(impossible) if not. None if nothing is to be proven.
  type: str
  returned: with O(start) in a step of a migration
proof_error:
  description: Why it is impossible.
  type: str
  returned: with O(start) in a step of a migration
paused_seconds:
  description: How long the guest was kept waiting for it, which is downtime.
  type: float
  returned: with O(start) in a step of a migration
"""

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.ansible_module import AnsibleModule, missing_required_lib

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import definition, known, power, proving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import MIGRATION_ARGS, Journal, step


def reach(host: libvirt_host.LibvirtHost, params: dict[str, t.Any], journal: Journal | None, check_mode: bool) -> dict[str, t.Any]:
    """Reach ``params['state']``, and start what is to be started; the module's result."""
    if params["state"] == "absent":
        result = definition.absent(host, params, check_mode)
        if journal:
            # Taken back: for whoever recovers this migration later, it has not been started here.
            journal.note(starting=False, started=False, defined_disks=None)
        return result
    if journal:
        params["placement"] = params["placement"] or journal.data.get("placement")
        known.note(filter(None, [domain_xml.identity(params["xml"])[0]]))
    result = definition.present(host, params, check_mode)
    if journal:
        journal.note(defined_disks=sorted(domain_xml.disk_paths(result["xml"])))
    if not params["start"] or check_mode:
        return result
    started = power.start(host, result["uuid"], journal=journal, proof=proving.order_of(params))
    return {**result, **started, "changed": result["changed"] or started["changed"]}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **libvirt_host.URI_ARGS,
            **MIGRATION_ARGS,
            **definition.EDIT_ARGS,
            **proving.ORDER_ARGS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "start": {"type": "bool", "default": False},
            "xml": {"type": "str"},
            "uuid": {"type": "str"},
            "name": {"type": "str"},
            "autostart": {"type": "bool"},
            "keep_nvram": {"type": "bool", "default": True},
            "keep_tpm": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
        no_log=True,  # the XML may hold passwords: the arguments stay out of the node's system log
        required_if=[("state", "present", ["xml"]), ("state", "absent", ["uuid", "name"], True)],
        required_by={"migration_uuid": "migration_epoch"},
    )
    if domain_xml.LXML_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("lxml"), exception=domain_xml.LXML_IMPORT_ERROR)
    if libvirt_host.LIBVIRT_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("libvirt"), exception=libvirt_host.LIBVIRT_IMPORT_ERROR)
    shown = definition.shown(module.params)
    try:
        with step(module.params, module.check_mode) as journal, libvirt_host.connected(module.params["uri"]) as host:
            result = reach(host, module.params, journal, module.check_mode)
        module.exit_json(invocation=shown, **result)
    except ColdmoveError as exc:
        module.fail_json(msg=str(exc), invocation=shown, **exc.result)


if __name__ == "__main__":
    main()
