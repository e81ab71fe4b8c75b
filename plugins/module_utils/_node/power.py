# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Starting and stopping a server, with the times that count as downtime."""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost, Method
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths, proving
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal

Result = dict[str, t.Any]

#: Reading the state takes no lock in libvirt and costs a tenth of a millisecond; every poll that comes late is downtime.
POLL_SECONDS = 0.05
#: How long a guest may take to be running, and must then keep running.
START_TIMEOUT_SECONDS, SETTLE_SECONDS = 60, 1
#: What stop_of() reads of a module's parameters; documented in plugins/doc_fragments/_power.py.
SHUTDOWN_ARGS: dict[str, t.Any] = {"shutdown_timeout": {"type": "float", "default": 60}, "shutdown_retry_interval": {"type": "float", "default": 10}}


class _Reached(t.NamedTuple):
    """The instant at which the wanted state was there; all that the module does afterwards is not downtime."""

    monotonic: float
    at: str

    @classmethod
    def now(cls) -> _Reached:
        return cls(time.monotonic(), datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"))


def _result(before: str, state: str, began: float, reached: _Reached | None = None, **more: t.Any) -> Result:
    reached = reached or _Reached.now()
    return {
        "changed": before != state,
        "state_before": before,
        "state": state,
        "seconds": round(reached.monotonic - began, 3),
        "since_reached_seconds": round(time.monotonic() - reached.monotonic, 3),
        "reached_at": reached.at,
        **more,
    }


def look(host: LibvirtHost, server: str, wanted: str | None = None) -> Result:
    """What is, without touching it; with ``wanted`` what would be."""
    before = host.state_of(host.domain(server))
    return {"changed": wanted is not None and before != wanted, "state_before": before, "state": wanted or before}


def _wait(host: LibvirtHost, domain: t.Any, states: t.Container[str], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while host.state_of(domain) not in states:
        if time.monotonic() >= deadline:
            return False
        time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))
    return True


# --- start


@contextlib.contextmanager
def permitted(server_uuid: str) -> t.Iterator[None]:
    """Let the guard of this node pass the server, whatever it was told: the run that owns the record starts it.

    Only inside a step of a migration: the record's epoch and the node's lock say that no other run may start the server. What is
    left of a step that was killed is gone with the boot, and the server with the clean-up; before it is evacuated, the node is off.
    """
    paths.STARTS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark = paths.STARTS_DIR / server_uuid
    mark.touch()
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def start(
    host: LibvirtHost,
    server: str,
    timeout: float = START_TIMEOUT_SECONDS,
    settle: float = SETTLE_SECONDS,
    journal: Journal | None = None,
    commit_point: bool = True,
    proof: proving.Order | None = None,
) -> Result:
    """Start unless it runs; success only if it is still running after ``settle`` seconds.

    ``journal``: of the migration that this is a step of; with ``commit_point`` it is told. ``proof``: what of it is to be proven afterwards.
    """
    told = journal if commit_point else None
    domain = host.domain(server)
    before, began = host.state_of(domain), time.monotonic()
    # A step that was killed may have left the guest paused: it goes on, in every case.
    went_on = proving.take_up(journal, host, domain) if journal and before in ("running", "paused") else False
    if before == "running":
        _note_started(told)
        return _result(before, before, began, graceful=None, **_proof_goes_on(host, domain, journal, proof))
    if before != "shutoff" and not went_on:
        raise ColdmoveError(f"server {server} is {before}, not shut off: it is not started. Nothing was changed", state=before, state_before=before)
    if told:
        told.note(starting=True)
    if not went_on:
        with permitted(host.identity(domain)[0]) if journal else contextlib.nullcontext():
            if journal and proof and proof.disks:
                proving.start(journal, host, domain, proof.disks)
            else:
                if journal:
                    proving.forego(journal)
                host.start(domain)
    if not _wait(host, domain, ("running",), timeout):
        raise _did_not_run(host, domain, server, before, f"is not running {timeout:g} s after its start")
    reached = _Reached.now()
    proven = _proof_goes_on(host, domain, journal, proof)
    _settle(host, domain, server, before, settle)
    _note_started(told)
    return _result(before, "running", began, reached, graceful=None, **proven)


def _proof_goes_on(host: LibvirtHost, domain: t.Any, journal: Journal | None, proof: proving.Order | None) -> Result:
    if journal is None or proof is None:
        return {}
    proving.begin_reading(journal, host, domain, proof)
    return proving.outcome(journal)


def _settle(host: LibvirtHost, domain: t.Any, server: str, before: str, seconds: float) -> None:
    """A guest whose QEMU dies at once, or that pauses on its first I/O error, was not started."""
    deadline = time.monotonic() + seconds
    while True:
        if host.state_of(domain) != "running":
            raise _did_not_run(host, domain, server, before, "started but did not keep running")
        if time.monotonic() >= deadline:
            return
        time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def _note_started(journal: Journal | None) -> None:
    if journal and not journal.data.get("started"):
        journal.note(started=True)


def _did_not_run(host: LibvirtHost, domain: t.Any, server: str, before: str, what: str) -> ColdmoveError:
    state, name = host.state_of(domain), host.identity(domain)[1]
    return ColdmoveError(f"server {server} {what}: it is {state} now; see /var/log/libvirt/qemu/{name}.log on this node", state=state, state_before=before)


# --- stop


class Stop(t.NamedTuple):
    """How to stop: see the module virt_power."""

    timeout: float
    retry_interval: float
    method: str
    power_off: bool


def check_shutdown(params: t.Mapping[str, t.Any]) -> None:
    """Raises ColdmoveError for what no guest can be asked by, whether or not it comes to that."""
    if params["shutdown_retry_interval"] <= 0:
        raise ColdmoveError("shutdown_retry_interval must be more than 0 seconds. Nothing was changed.")


def stop_of(params: t.Mapping[str, t.Any], method: str = "auto", power_off: bool = True) -> Stop:
    """How a module was told to stop."""
    return Stop(params["shutdown_timeout"], params["shutdown_retry_interval"], method, power_off)


def stop(host: LibvirtHost, server: str, how: Stop) -> Result:
    """Ask the guest, again at each interval, then pull the plug if allowed; reads back that it is off."""
    domain = host.domain(server)
    before, began = host.state_of(domain), time.monotonic()
    if before == "shutoff":
        return _result(before, before, began, graceful=None, method=None)
    if not host.flags(domain)["persistent"]:
        raise ColdmoveError(f"server {server} is transient: it would vanish with its stop. It still runs; next: virsh dumpxml, then virsh define", state=before)
    # A guest that does not execute cannot answer the power button.
    method = _ask_until_off(host, domain, how) if before in ("running", "blocked", "shutdown") else None
    if method:
        return _result(before, "shutoff", began, graceful=True, method=method)
    if not how.power_off:
        what = f"server {server} did not shut down within {how.timeout:g} s and may not be powered off; it still runs"
        raise ColdmoveError(what, state=host.state_of(domain), state_before=before)
    host.power_off(domain)
    if not _wait(host, domain, ("shutoff", "absent"), 30):
        state = host.state_of(domain)
        raise ColdmoveError(f"server {server} was powered off but libvirt still calls it {state}; look at its QEMU process", state=state, state_before=before)
    return _result(before, "shutoff", began, graceful=False, method="power_off")


def _ask_until_off(host: LibvirtHost, domain: t.Any, how: Stop) -> str | None:
    """The method that was in use when the guest went off; None if it did not within the time."""
    deadline = time.monotonic() + how.timeout
    methods = _methods(host, domain, how.method)
    attempt = 0
    while time.monotonic() < deadline:
        method = methods[attempt % len(methods)]
        attempt += 1
        # A guest agent that hangs blocks this call for a minute: the state is watched meanwhile.
        threading.Thread(target=host.request_shutdown, args=(domain, method), daemon=True).start()
        if _wait(host, domain, ("shutoff", "absent"), min(how.retry_interval, deadline - time.monotonic())):
            return method
    return None


def _methods(host: LibvirtHost, domain: t.Any, method: str) -> list[Method]:
    """``auto``: the agent first where one answers, ACPI and agent in turn afterwards."""
    if method == "agent":
        return ["agent"]
    if method == "acpi":
        return ["acpi"]
    return ["agent", "acpi"] if host.has_agent(domain) else ["acpi"]
