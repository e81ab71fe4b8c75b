# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One prepared lab for all tests of the collection that need one, and a watch over it that never looks away."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from integration.laws import Watch
from integration.runs import Outcome, Run

from lab import DiskSpec, GuestSpec, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.state import GuestState

EMULATOR = "/usr/bin/qemu-system-x86_64"
#: Where there is no time for all, these come first: what an operator would lose data by.
FIRST = ("test_precopy", "test_evacuate", "test_proof", "test_kill", "test_resize", "test_faults", "test_guard", "test_libvirt_adapter", "test_fence")
#: Minutes after which no further test is begun (`make test` sets it: on a machine that is slow CI would end all of it, and so none would count).
MINUTES = float(os.environ.get("COLDMOVE_TEST_MINUTES") or "inf")
BEGUN = time.monotonic()


def pytest_configure() -> None:
    """Told to end, end like after Ctrl-C: fixtures take their labs down."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is for the night is left out of the day's run; a test that is asked for by its name is not."""
    items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))
    if os.environ.get("COLDMOVE_NIGHTLY") or config.option.keyword or any("::" in argument for argument in config.args):
        return
    later = [item for item in items if item.get_closest_marker("nightly")]
    items[:] = [item for item in items if item not in later]
    config.hook.pytest_deselected(items=later)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin nothing that there is no time for; it is told as skipped."""
    if time.monotonic() - BEGUN > 60 * MINUTES:
        pytest.skip(f"the {MINUTES:g} minutes of the day's run are over on this machine; make nightly leaves none out")


class Kept(Lab):
    """A lab that stays up."""

    def __exit__(self, *_: object) -> None:
        """Leave it."""


@dataclass
class World:
    """The lab, and what tests do with it all the time."""

    lab: Lab
    watch: Watch

    def run(self, playbook: str, *options: str, inventory: Path | None = None, **variables: Any) -> Run:
        """Start a playbook. There are many more guests than the machine has CPUs.

        Disks are copied while their guest is off unless the test says otherwise: a third less to wait for, where it is not the precopy that is tested.
        The molecule scenarios say nothing, and so move as an operator does.
        """
        usual = {"cpu_allocation_ratio": "100"}
        if playbook in ("cold_migrate", "resize") and "cutover" not in variables:
            usual["precopy"] = "never"
        return Run(inventory or self.lab.inventory_path, playbook, *options, **{**usual, **variables})

    def play(self, playbook: str, *options: str, inventory: Path | None = None, **variables: Any) -> Outcome:
        """Run a playbook to its end, whatever that is."""
        return self.run(playbook, *options, inventory=inventory, **variables).finish()

    def guest(self, name: str, disk: DiskSpec | None = None, node: str = "node1", start: bool = True, **more: Any) -> GuestState:
        """A guest of one disk (64 MiB unless told) with a marker that carries its name."""
        made = self.lab.define_guest(node, GuestSpec(name, [disk or DiskSpec()], **more))
        if start:
            self.lab.start_guest(node, made)
            self.lab.write_marker(made, name)
        return made

    @contextlib.contextmanager
    def broken_emulator(self, node: str) -> Iterator[None]:
        """A QEMU that answers libvirt's questions but starts no guest."""
        script = f'#!/bin/sh\ncase "$*" in *guest=*) echo "no guest starts today" >&2; exit 1;; esac\nexec {EMULATOR}.real "$@"\n'
        self.lab.exec(node, "mv", EMULATOR, f"{EMULATOR}.real")
        self.lab.exec(node, "sh", "-c", f"cat > {EMULATOR}; chmod 755 {EMULATOR}", stdin=script)
        try:
            yield
        finally:
            self.lab.exec(node, "mv", f"{EMULATOR}.real", EMULATOR)

    def remove(self, guest: GuestState) -> None:
        """Take a guest away from every node that has it, by hand."""
        for node in self.lab.defined_on(guest):
            self.lab.remove_guest(node, guest)


@pytest.fixture(scope="session")
def prepared() -> Iterator[World]:
    """Three nodes and a records host, made ready by `prepare`. COLDMOVE_TEST_LAB names a lab to use and to leave up, for work on tests."""
    kept = os.environ.get("COLDMOVE_TEST_LAB")
    with Kept(kept, nodes=3) if kept else Lab(f"i{os.getpid()}", nodes=3) as lab:
        watch = Watch(lab)
        watch.start()
        try:
            made = World(lab, watch)
            made.play("prepare").check()
            yield made
        finally:
            watch.stop()


@pytest.fixture
def world(prepared: World) -> Iterator[World]:
    """The prepared lab; whatever the test does, no guest may be seen on two nodes meanwhile."""
    yield prepared
    looks, deadline = prepared.watch.looks, time.monotonic() + 10
    while prepared.watch.looks == looks and time.monotonic() < deadline:
        time.sleep(0.05)
    assert prepared.watch.looks > looks, "the watch has stopped"
    assert not prepared.watch.breaches
