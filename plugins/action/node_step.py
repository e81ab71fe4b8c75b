# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of every module that runs on a node or on the records host (each has an action plugin of its name that imports this one).

- A node that does not answer is a failure of the step, not ``unreachable``: ``rescue`` must see it, because the way back
  depends on it. Steps are idempotent, so a short loss of contact is simply tried again.
- A job of the node is polled until it ends: progress lines on the screen, progress and heartbeat in the record.
- ``migration_record`` learns which process of which controller is running, so that a killed run is known as such.
"""

from __future__ import annotations

import datetime
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.text import human_bytes, human_seconds
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._ahead import load_filters
from ansible_collections.coldmove.libvirt.plugins.plugin_utils._run_identity import run_identity

display = Display()
load_filters()  # this file is read by the process that forks all others

RECORD_MODULE = "coldmove.libvirt.migration_record"
#: Patience with a node that is silent for a moment. Jobs go on without us: with them there is more.
PATIENCE_SECONDS = 30.0
RETRY_SECONDS = 2.0
#: A job is asked how far it is as often as it has lasted, within these bounds: each time costs its node half a second of CPU. Its end is told at once.
REPORT_SECONDS, LONGEST_REPORT_SECONDS = 5, 15
#: How often the heartbeat is renewed, which costs the records host as much. A run without one for a minute counts as dead.
HEARTBEAT_SECONDS = 15
#: Modules that are first used while the guest is off. Ansible packs a module for the nodes at its first use in a run: at the end of these states, before it.
WHILE_OFF = ("virt_held_copy", "virt_disk_receive", "virt_define_domain")
LAST_BEFORE_THE_STOP = ("reachable", "in_step")

Result = dict[str, t.Any]


class ActionModule(ActionBase):
    """Run one step on one node."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Result | None = None) -> Result:
        """Run the module of the task, and follow its job if it has one."""
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        self._node = self._task.delegate_to or self._vars.get("inventory_hostname", "?")
        self._progress: Result = {}
        args = dict(self._task.args)
        self._beaten = begun = time.monotonic()
        began_at = datetime.datetime.now(datetime.UTC)
        if self._task.action.endswith("migration_record") and args.get("action") in ("open", "adopt"):
            args.setdefault("owner", run_identity())
        # What is asked before anything is under way is answered at once, also by silence.
        result = self._step(args, PATIENCE_SECONDS if "migration_uuid" in args or "uuid" in args else 0.0)
        while _running(result):
            self._progress = result["job"].get("progress") or {}
            if self._progress:
                display.display(f"{self._server()}: {_told(self._progress, self._node)}")
            self._heartbeat()
            asked = {"wait_seconds": _wait_seconds(time.monotonic() - begun), **args, "attach": True}
            result = self._step(asked, max(PATIENCE_SECONDS, float(args.get("stall_timeout") or 0)))
        if args.get("state") in LAST_BEFORE_THE_STOP and not result.get("failed"):
            self._pack_ahead()
        ended = time.monotonic()
        # For the record's phases and for the downtime: durations by a monotonic clock, the same one for all steps of a run.
        result["took"] = {"started_at": began_at.isoformat(timespec="milliseconds"), "seconds": round(ended - begun, 3)}
        result["ended_monotonic"] = ended
        return result

    def _step(self, args: Result, patience: float) -> Result:
        """One call of the module; silence of the node is borne for ``patience`` seconds."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return dict(self._execute_module(module_name=self._task.action, module_args=args, task_vars=self._vars))
            except AnsibleConnectionFailure as exc:
                if time.monotonic() >= deadline:
                    return {"failed": True, "node_silent": True, "msg": f"node {self._node} does not answer: {exc}"}
                display.display(f"{self._server()}: {self._node} does not answer, trying again for {deadline - time.monotonic():.0f} s")
                if args.get("attach"):
                    self._heartbeat()  # the job goes on without us, and this run is alive: nobody shall take it over
                time.sleep(RETRY_SECONDS)

    def _pack_ahead(self) -> None:
        """What will be needed with the guest off is packed now."""
        for name in WHILE_OFF:
            self._configure_module(module_name=f"coldmove.libvirt.{name}", module_args={}, task_vars=self._vars)

    def _heartbeat(self) -> None:
        """Renew the record's heartbeat on the records host, if it is time. The work does not depend on it: a failure is shown and no more."""
        if time.monotonic() - self._beaten < HEARTBEAT_SECONDS:
            return
        self._beaten = time.monotonic()
        records_host = self._vars.get("coldmove_records_host")
        if not records_host:
            return
        args = {"action": "heartbeat", "uuid": self._task.args["migration_uuid"], "epoch": self._task.args["migration_epoch"], "progress": self._progress}
        if self._vars.get("coldmove_record_store_url"):
            args["url"] = self._vars["coldmove_record_store_url"]
        try:
            result = self._on(records_host, RECORD_MODULE, args)
            problem = result.get("msg") if result.get("failed") else None
        except Exception as exc:  # whatever it is, the job on the node goes on, and its end must not be missed
            problem = str(exc)
        if problem:
            display.warning(f"{self._server()}: the record's heartbeat could not be renewed: {problem}")

    def _on(self, host: str, module: str, args: Result) -> Result:
        """Run a module on another host than the task's: connection and variables of that host, as ``delegate_to`` would do it."""
        variables = dict(self._vars["hostvars"][host])
        context = self._play_context.copy()
        context.remote_addr = variables.get("ansible_host", host)
        connection = self._shared_loader_obj.connection_loader.get(variables.get("ansible_connection", "ssh"), context)
        connection.set_options(var_options=variables)
        if self._connection.become is not None:
            connection.set_become_plugin(self._connection.become)
        task = self._task.copy()
        task.delegate_to, task.args, task.action = None, args, module
        action = self._shared_loader_obj.action_loader.get(
            "ansible.legacy.normal",
            task=task,
            connection=connection,
            play_context=context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        return dict(action.run(task_vars={**variables, "inventory_hostname": host}))

    def _server(self) -> str:
        return str(self._vars.get("coldmove_server", {}).get("name") or self._vars.get("inventory_hostname"))


def _wait_seconds(seconds: float) -> int:
    """How long to wait for the end of a job that has lasted so many seconds, before its progress is shown."""
    return max(REPORT_SECONDS, min(LONGEST_REPORT_SECONDS, int(seconds)))


def _told(progress: Result, node: str) -> str:
    if progress.get("waiting"):
        return f"{progress['step']} of {node}: {progress['waiting']}"
    note = f"; {progress['note']}" if progress.get("note") else ""
    return (
        f"{progress['step']} on {node} {progress['percent']:.0f}% of {human_bytes(progress['bytes_total'])}, "
        f"{human_bytes(progress['rate'])}/s, {human_seconds(progress['eta_seconds'])} left{note}"
    )


def _running(result: Result) -> bool:
    return not result.get("failed") and (result.get("job") or {}).get("state") == "running"
