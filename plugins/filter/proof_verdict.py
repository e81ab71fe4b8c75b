# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Door to _logic/proofs.py."""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import proofs
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._filters import a_dict, guarded, text_or_empty

DOCUMENTATION = r"""
name: proof_verdict
short_description: Compare what a server was started with on the dest with its held copy
version_added: 0.1.0
description:
  - Compares the digests of both ends. A disk that differs is a failure, whatever is missing of others.
author: coldmove contributors (@coldmove)
options:
  _input:
    description: The migration, as M(coldmove.libvirt.migration_record) returned it.
    type: dict
    required: true
  started:
    description: The result of the job of M(coldmove.libvirt.virt_content_digest) with O(coldmove.libvirt.virt_content_digest#module:of=started).
    type: dict
    required: true
  held:
    description: The same with O(coldmove.libvirt.virt_content_digest#module:of=held). None if the source could not be read.
    type: dict
  not_held:
    description: What the source said instead. Empty if it does not answer.
    type: str
    default: ""
positional: started, held, not_held
"""

EXAMPLES = r"""
- name: Compare
  ansible.builtin.set_fact:
    verdict: "{{ migration | coldmove.libvirt.proof_verdict(started.job.result, held.job.result) }}"
"""

RETURN = r"""
_value:
  description: A dictionary with C(state), V(done), V(failed) or V(impossible), and C(text), a sentence for people, empty for V(done).
  type: dict
"""


def proof_verdict(record: t.Any, started: t.Any, held: t.Any = None, not_held: t.Any = "") -> t.Any:
    """Compare."""
    migration = t.cast("t.Any", a_dict(record, "the migration"))
    known = a_dict(started, "started")
    digests = a_dict(held, "held")["digests"] if held else None
    return proofs.judge(migration, digests, known["digests"], known.get("impossible"), text_or_empty(not_held))


class FilterModule:
    """The filter for Jinja."""

    def filters(self) -> dict[str, t.Any]:
        """Its name."""
        return {"proof_verdict": guarded(proof_verdict)}
