# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import report
from ansible_collections.coldmove.libvirt.tests.unit.plugins.module_utils._logic.shapes import GIB, a_migration

NOW = "2026-01-02T00:00:00Z"


def test_the_table_of_a_move():
    done = a_migration(1, bytes_sent=GIB, downtime_seconds=0.94)
    failed = a_migration(2, "error", dest=None, error="no valid host")
    assert report.move_table([done, failed]) == [
        "server  from  to  status      bytes  downtime",
        "------  ----  --  --------  -------  --------",
        "web1    a     b   finished  1.0 GiB     0.9 s",
        "web2    a     -   error           -         -",
        "web2: no valid host",
    ]


def test_an_outcome_may_know_little():
    assert report.move_table([{"server_name": "web1"}])[2].startswith("web1")
    assert report.move_table([]) == ["no servers"]


def test_status_lists_open_ones_first_oldest_first_with_what_they_hold():
    records = [a_migration(3, "confirmed"), a_migration(2, "finished", held_bytes=GIB), a_migration(1, "finished", held_bytes=2 * GIB)]
    lines = report.status_table(records, NOW)
    assert [line.split()[1] for line in lines[2:5]] == ["web1", "web2", "web3"]
    assert "2.0 GiB" in lines[2]
    assert "23 h 59 min" in lines[2]
    assert "web1: ansible-playbook coldmove.libvirt.confirm -e server=web1" in lines
    assert lines[-1] == "2 unconfirmed move(s) hold 3.0 GiB of disk and 2048 MiB of memory on their old nodes, the oldest since 23 h 59 min"


def test_status_shows_who_is_at_work_and_how_far():
    going = a_migration(1, "migrating", progress={"step": "copy", "percent": 41.6}, pending_hosts=["c"], error="slow")
    lines = report.status_table([going], NOW, {going["uuid"]: {"state": "alive", "text": "process 7 on ctl is running"}})
    assert "copy 42%" in lines[2]
    assert "web1: process 7 on ctl is running" in lines
    assert "web1: still to be cleaned on c" in lines
    assert lines[-1] == "web1: ansible-playbook coldmove.libvirt.status -e server=web1"


def test_status_without_a_clock_or_with_a_malformed_date():
    assert report.status_table([a_migration(1, created_at="yesterday")])
    assert report.status_table([]) == ["no migrations"]
    assert report.age_seconds("2026-01-01T00:00:00", NOW) == 86400


def test_what_is_known_of_servers_with_its_age_and_who_sees_the_storage():
    def row(name, directories, age, **more):
        disks = [{"target": "vda", "type": "file", "path": f"{directory}/{name}"} for directory in directories]
        return {"name": name, "host": "a", "state": "running", "age_seconds": age, "facts": {"disks": disks}, "storage": {}, **more}

    known = [
        row("web4", ["/new"], 1.0),
        row("web3", [], 7200.0),
        row("web2", ["/local"], 90.0, storage={"/local": {"identity": "x", "seen_by": []}}),
        row("web1", ["/srv"], 90.0, storage={"/srv": {"identity": "x", "seen_by": ["b", "c"]}}),
    ]
    lines = report.server_table(known)
    assert [line.split() for line in lines[2:]] == [
        ["web1", "a", "running", "1", "min", "30", "s", "shared", "with", "b,", "c"],
        ["web2", "a", "running", "1", "min", "30", "s", "local"],
        ["web3", "a", "running", "2", "h", "00", "min", "none", "on", "its", "node"],
        ["web4", "a", "running", "1.0", "s", "not", "looked", "at:", "/new"],
    ]
    assert "coldmove.libvirt.sync" in report.server_table([])[0]
    assert "cannot be evacuated: its NVRAM is damaged" in report.server_table([row("web5", [], 1.0, unreadable="its NVRAM is damaged")])[-1]


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_no_name_breaks_a_table(names):
    records = [a_migration(number, "finished", server_name=name, started_by=name, error=name) for number, name in enumerate(names, 1)]
    for line in [*report.move_table(records), *report.status_table(records, NOW)]:
        assert "\n" not in line
        assert "\x1b" not in line


def test_a_held_precopy_says_what_it_costs_and_what_can_be_run():
    held = a_migration(1, "pre-migrating", hold={"cutover": "hold", "since": "2026-01-01T00:00:00Z", "epoch": 1, "options": {}})
    sign = {held["uuid"]: {"state": "dead", "text": "process 7 on ctl is gone"}}
    for lines in (report.move_table([held]), report.status_table([held], NOW, sign)):
        assert any("precopy in step, held since 2026-01-01T00:00:00Z: costs: every write of the guest waits for b" in line for line in lines)
        assert [line.split(" ")[2] for line in lines if line.startswith("web1: ansible-playbook")] == ["coldmove.libvirt.cutover", "coldmove.libvirt.cancel"]
        assert not any("gone" in line for line in lines)
    # Somebody cuts it over.
    lines = report.status_table([{**held, "epoch": 2}], NOW, {held["uuid"]: {"state": "alive", "text": "process 7 on ctl is running"}})
    assert [line.split(" ")[2] for line in lines if line.startswith("web1: ansible-playbook")] == ["coldmove.libvirt.status"]
    assert any("running" in line for line in lines)
    assert any("its precopy was held, and a has lost it" in line for line in report.status_table([held], NOW, sign, {held["uuid"]: "a has lost it"}))
