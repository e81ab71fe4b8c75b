# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contract of the libvirt adapter and of what stands on it, over libvirt's own test driver: real libvirt, no daemon, no guests."""

from __future__ import annotations

import collections.abc as c
import concurrent.futures
import subprocess
import threading
import time
import typing as t
import uuid
from pathlib import Path

import pytest

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import libvirt_host
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import domain_edits, domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError, Superseded
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import definition, dest_facts, journal, node_facts, paths, placing, power, server_facts

pytestmark = pytest.mark.skipif(libvirt_host.LIBVIRT_IMPORT_ERROR is not None, reason="python3-libvirt is not installed")

URI = "test:///default"
UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
Host = libvirt_host.LibvirtHost
NAMES = ["plain", "with space", 'it\'s "quoted"', "ünïcödé 服务器", "<b>&amp;", "{{ x }}", "$(id)", "-rf", "a,b:c"]


@pytest.fixture
def host() -> c.Iterator[Host]:
    with libvirt_host.connected(URI) as connection:
        yield connection
        for name in ("web", "other"):  # the test driver keeps its domains as long as one connection lives
            domain = connection.find_name(name)
            if domain is not None:
                connection.power_off(domain)


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "STATE_DIR", tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def xml(tmp_path: Path) -> str:
    (tmp_path / "a.raw").write_bytes(b"\0" * 1024 * 1024)
    return definition_of("web", str(tmp_path / "a.raw"))


def definition_of(name: str, path: str, server_uuid: str = UUID, mac: str = "52:54:00:00:00:01") -> str:
    root = domain_xml.parse(
        f"<domain type='test'><name>x</name><uuid>{server_uuid}</uuid><memory unit='MiB'>256</memory><vcpu>1</vcpu>"
        "<os><type arch='i686'>hvm</type></os><devices><disk type='file' device='disk'><driver name='qemu' type='raw'/>"
        "<source file='/x'/><target dev='vda' bus='virtio'/></disk>"
        f"<interface type='network'><mac address='{mac}'/><source network='default'/></interface></devices></domain>"
    )
    root.find("name").text = name
    return domain_edits.edit(domain_xml.to_string(root), disks={"vda": path})


def wanted(xml: str, **more: t.Any) -> dict[str, t.Any]:
    nothing = {
        "uuid": None,
        "name": None,
        "disks": {},
        "networks": {},
        "nvram": None,
        "flavor": None,
        "autostart": None,
        "formats": {},
        "without": [],
        "placement": None,
        "origin": None,
    }
    return {**nothing, "xml": xml, "keep_nvram": True, "keep_tpm": True, **more}


# --- the connection


def test_no_libvirt_at_that_address_is_one_clear_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ColdmoveError, match="cannot connect to libvirt at qemu.*virsh -c"), libvirt_host.connected("qemu+unix:///system?socket=/nonexistent"):
        pass
    assert capfd.readouterr() == ("", "")  # libvirt would print it itself


def test_a_server_is_found_by_uuid_and_by_name(host: Host, xml: str) -> None:
    host.define(xml)
    for server in (UUID, UUID.upper(), UUID.replace("-", ""), "web"):
        assert host.identity(host.domain(server)) == (UUID, "web")
    for server in (str(uuid.uuid4()), "nobody", ""):
        assert host.find(server) is None
        assert host.state(server) is None
        with pytest.raises(libvirt_host.NoSuchServer, match="virsh list"):
            host.domain(server)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_server(host: Host, tmp_path: Path, name: str) -> None:
    disk = tmp_path / name.replace("/", "_")
    disk.write_bytes(b"\0" * 512)
    server = str(uuid.uuid4())
    result = definition.present(host, wanted(definition_of(name, str(disk), server)))
    assert (result["changed"], result["name"], result["uuid"]) == (True, name, server)
    assert not definition.present(host, wanted(result["xml"]))["changed"]
    facts = server_facts.collect(host, name)
    assert (facts["uuid"], facts["name"], facts["blockers"]) == (server, name, [])
    assert facts["disks"][0]["path"] == str(disk)
    assert power.start(host, name, 5, 0, None)["state"] == "running"
    assert power.stop(host, name, power.Stop(5, 1, "auto", True))["state"] == "shutoff"
    assert definition.absent(host, {**wanted(""), "name": name})["changed"]


# --- definition


def test_a_second_definition_changes_nothing(host: Host, xml: str) -> None:
    first = definition.present(host, wanted(xml, autostart=True))
    again = definition.present(host, wanted(xml, autostart=True))
    from_libvirt = definition.present(host, wanted(first["xml"]))
    assert [result["changed"] for result in (first, again, from_libvirt)] == [True, False, False]
    assert again["diff"]["before"] == again["diff"]["after"]
    assert host.autostart("web") is True


def test_check_mode_says_the_same_and_does_nothing(host: Host, xml: str) -> None:
    assert definition.present(host, wanted(xml), check_mode=True)["changed"]
    assert host.find("web") is None
    definition.present(host, wanted(xml))
    assert not definition.present(host, wanted(xml), check_mode=True)["changed"]
    bigger = wanted(xml, flavor={"vcpus": 2, "memory_mb": 512}, autostart=True)
    predicted = definition.present(host, bigger, check_mode=True)
    assert predicted["changed"]
    assert host.brief(host.domain("web"))["vcpus"] == 1  # type: ignore[index]
    done = definition.present(host, bigger)
    assert done["changed"]
    assert domain_xml.describe(done["xml"])["memory_mb"] == 512
    assert not definition.present(host, bigger)["changed"]
    assert definition.absent(host, wanted("", uuid=UUID), check_mode=True)["changed"]
    assert host.find(UUID) is not None


def test_a_flavor_with_a_place_and_back(host: Host, xml: str) -> None:
    small = {"name": "m1.small", "vcpus": 1, "memory_mb": 256, "root_gb": 1, "ephemeral_gb": 0, "swap_mb": 0, "extra_specs": {}}
    specs = {"hw:numa_nodes": "2", "hw:cpu_policy": "dedicated", "hw:mem_page_size": "2MB", "hw:cpu_cores": "2"}
    large = {**small, "name": "m1.large", "vcpus": 2, "memory_mb": 512, "extra_specs": specs}
    cells = [{"vcpus": str(cell), "memory_mb": 256, "host_cell": cell} for cell in (0, 1)]
    placement = {"vcpu_pins": {"0": "1", "1": "9"}, "emulator_pins": "1,9", "cells": cells, "page_size_kib": 2048}
    first = definition.present(host, wanted(xml, flavor=small))
    bigger = wanted(first["xml"], flavor=large, placement=placement, origin=UUID)
    predicted = definition.present(host, bigger, check_mode=True)
    done = definition.present(host, bigger)
    assert (predicted["changed"], done["changed"], definition.present(host, bigger)["changed"]) == (True, True, False)
    unlike = set(predicted["diff"]["after"].splitlines()) ^ set(done["diff"]["after"].splitlines())
    assert all("<topology " in line for line in unlike)  # libvirt adds dies='1'
    for line in ('<vcpupin vcpu="1" cpuset="9"/>', '<memnode cellid="1" mode="strict" nodeset="1"/>', '<page size="2048" unit="KiB"/>'):
        assert line in done["diff"]["after"]
        assert line not in done["diff"]["before"]
    facts = server_facts.collect(host, "web")
    assert (facts["flavor"], facts["origin"], facts["numa_cells"], facts["topology"]["cores"]) == (large, UUID, 2, 2)
    back = definition.present(host, wanted(done["xml"], flavor=small))
    assert back["changed"]
    assert not definition.present(host, wanted(back["xml"], flavor=small))["changed"]
    assert domain_xml.differences(first["xml"], back["xml"].replace(f"<origin>{UUID}</origin>", "")) == []


def test_xml_without_a_uuid_is_about_the_domain_of_that_name(host: Host, xml: str) -> None:
    host.define(xml)
    bare = xml.replace(f"<uuid>{UUID}</uuid>", "")
    assert not definition.present(host, wanted(bare))["changed"]
    result = definition.present(host, wanted(bare, flavor={"memory_mb": 512, "vcpus": None}))
    assert (result["changed"], result["uuid"]) == (True, UUID)


def test_another_server_of_that_name_or_uuid_is_never_overwritten(host: Host, xml: str) -> None:
    host.define(xml)
    before = host.xml("web")
    with pytest.raises(ColdmoveError, match=f"name web belongs to another server here, {UUID}"):
        definition.present(host, wanted(xml.replace(UUID, str(uuid.uuid4()))))
    with pytest.raises(ColdmoveError, match="belongs to another server here, web"):
        definition.present(host, wanted(xml.replace("<name>web", "<name>other")))
    with pytest.raises(ColdmoveError, match="not other"):
        definition.present(host, wanted(xml, name="other"))
    with pytest.raises(ColdmoveError, match="is called web here"):
        definition.absent(host, wanted("", uuid=UUID, name="other"))
    assert host.xml("web") == before


def test_a_running_domain_is_not_undefined(host: Host, xml: str) -> None:
    host.define(xml)
    power.start(host, "web", 5, 0, None)
    for undefine in (lambda: host.undefine("web"), lambda: definition.absent(host, wanted("", name="web"), check_mode=True)):
        with pytest.raises(ColdmoveError, match="is running: only a server that is off"):
            undefine()
    assert host.state("web") == "running"


def test_undefining_what_is_not_there_changes_nothing(host: Host) -> None:
    assert not definition.absent(host, wanted("", uuid=UUID))["changed"]


def test_a_managed_save_image_and_snapshots_are_never_dropped(host: Host, xml: str) -> None:
    host.define(xml)
    domain = host.domain("web")
    domain.snapshotCreateXML("<domainsnapshot><name>before</name></domainsnapshot>")
    with pytest.raises(ColdmoveError, match="has a snapshot"):
        host.undefine("web")
    assert "has snapshots: before" in server_facts.collect(host, "web")["blockers"][0]
    domain.snapshotLookupByName("before").delete()
    host.start(domain)
    domain.managedSave()
    with pytest.raises(ColdmoveError, match="has a managed-save"):
        host.undefine("web")
    facts = server_facts.collect(host, "web")
    assert facts["managed_save"]
    assert [reason for reason in facts["blockers"] if "managed-save image" in reason]
    domain.managedSaveRemove()
    host.undefine("web")
    assert host.state("web") is None


# --- facts


def test_facts_of_a_server(host: Host, xml: str, tmp_path: Path) -> None:
    host.define(xml)
    facts = server_facts.collect(host, "web")
    assert (facts["state"], facts["persistent"], facts["autostart"], facts["vcpus"], facts["memory_mb"]) == ("shutoff", True, False, 1, 256)
    assert facts["nics"] == [{"mac": "52:54:00:00:00:01", "type": "network", "source": "default"}]
    (disk,) = facts["disks"]
    assert (disk["path"], disk["format"], disk["virtual_bytes"], disk["size_bytes"], disk["role"]) == (str(tmp_path / "a.raw"), "raw", 1 << 20, 1 << 20, "root")
    assert facts["blockers"] == []


def test_a_missing_disk_and_a_shared_disk_are_blockers(host: Host, xml: str, tmp_path: Path) -> None:
    host.define(xml)
    (tmp_path / "link.raw").symlink_to(tmp_path / "a.raw")
    host.define(definition_of("other", str(tmp_path / "link.raw"), str(uuid.uuid4()), "52:54:00:00:00:02"))
    assert server_facts.collect(host, "web")["blockers"] == [f"disk vda ({tmp_path / 'a.raw'}) is also used by the domain other"]
    host.undefine("other")
    (tmp_path / "a.raw").unlink()
    assert server_facts.collect(host, "web")["blockers"] == [f"disk vda: {tmp_path / 'a.raw'}: No such file or directory"]


def test_a_backing_chain_ties_a_server_to_its_node_and_has_a_way_out(host: Host, tmp_path: Path) -> None:
    for arguments in (["-f", "raw", tmp_path / "base", "1M"], ["-f", "qcow2", "-F", "raw", "-b", tmp_path / "base", tmp_path / "top"]):
        subprocess.run(["qemu-img", "create", "-q", *arguments], check=True, timeout=60)
    host.define(definition_of("web", str(tmp_path / "top")).replace('type="raw"', 'type="qcow2"'))
    facts = server_facts.collect(host, "web")
    assert facts["disks"][0]["chain"] == [{"path": str(tmp_path / "base"), "format": "raw"}]
    assert facts["agent"] is False
    assert ["virsh blockpull" in reason for reason in facts["node_ties"]] == [True]
    assert facts["blockers"] == []


def test_links_below_a_disk_are_told(host: Host, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(bytes(1 << 20))
    (tmp_path / "base").symlink_to(tmp_path / "real")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", tmp_path / "base", tmp_path / "top"], check=True, timeout=60)
    host.define(definition_of("web", str(tmp_path / "top")).replace('type="raw"', 'type="qcow2"'))
    (disk,) = server_facts.collect(host, "web")["disks"]
    assert disk["chain"] == [{"path": str(tmp_path / "base"), "format": "raw", "link_to": str(tmp_path / "real")}]


def test_a_paused_server_is_a_blocker_that_says_what_to_do(host: Host, xml: str) -> None:
    host.define(xml)
    host.start(host.domain("web"))
    host.domain("web").suspend()
    facts = server_facts.collect(host, "web")
    assert facts["state"] == "paused"
    assert "next: virsh resume web" in facts["blockers"][0]


def test_facts_of_a_node(host: Host, xml: str, tmp_path: Path, state_dir: Path) -> None:
    host.define(xml)
    node = node_facts.collect(host, "node1", str(tmp_path / "not" / "yet"))
    (mine,) = [domain for domain in node["domains"] if domain["name"] == "web"]
    assert mine == {
        "uuid": UUID, "name": "web", "state": "shutoff", "autostart": False, "vcpus": 1, "memory_mb": 256,
        "disk_bytes": 1 << 20, "macs": ["52:54:00:00:00:01"], "disk_paths": [str(tmp_path / "a.raw")], "locked": None, "project": None,
        "pinned_cpus": [], "page_size_kib": None, "memory_cells": [],
    }  # fmt: skip
    assert [(cell["id"], len(cell["cpus"]), cell["memory_mb"]) for cell in node["numa_cells"]] == [(0, 8, 2048), (1, 8, 4096)]
    assert {page["free"] for cell in node["numa_cells"] for page in cell["pages"]} == {0}
    assert node["networks"] == ["default"]
    assert [pool["name"] for pool in node["pools"]] == ["default-pool"]
    assert 0 < node["instances_fs"]["free_bytes"] <= node["instances_fs"]["total_bytes"]
    assert node["prepared"] is (node["not_prepared"] == [])
    assert node["journals"] == []
    assert not state_dir.exists()  # looking leaves no trace


# --- places


def dedicated(vcpus: int, **more: t.Any) -> dict[str, t.Any]:
    return {"name": "f", "vcpus": vcpus, "memory_mb": 256, "extra_specs": {"hw:cpu_policy": "dedicated"}, **more}


def placed(flavor: dict[str, t.Any], server: str, migration: str) -> dict[str, t.Any]:
    with libvirt_host.connected(URI) as host, journal.step({"migration_uuid": migration, "migration_epoch": 1}) as book:
        assert book is not None
        return placing.place(book, host, server, flavor)


def test_a_place_is_chosen_once_and_kept_until_the_migration_is_closed(host: Host, xml: str, state_dir: Path) -> None:
    pins = {"vcpu_pins": {"0": "0"}, "emulator_pins": "0", "cells": [], "page_size_kib": None}
    host.define(domain_edits.edit(xml, placement=pins))
    other, migration = str(uuid.uuid4()), str(uuid.uuid4())
    first, again = placed(dedicated(8), other, migration), placed(dedicated(8, name="g", root_gb=7), other, migration)
    assert (first["changed"], again["changed"], first["placement"] == again["placement"]) == (True, False, True)
    assert first["placement"]["emulator_pins"] == "8-15"
    with pytest.raises(ColdmoveError, match="'f' does not fit on this node: 8 dedicated CPUs needed, 7 free of 16 .pinned to migration .*, web.") as refusal:
        placed(dedicated(8), str(uuid.uuid4()), str(uuid.uuid4()))
    assert len(refusal.value.result["reasons"]) == 1
    assert placed(dedicated(8), UUID, str(uuid.uuid4()))["placement"]["emulator_pins"] == "0-7"  # its own pin is not in its way
    assert placed(dedicated(2), other, migration)["changed"]  # another flavor: chosen anew
    with journal.step({"migration_uuid": migration, "migration_epoch": 1}) as book:
        assert book is not None
        book.note(closed=True)
    assert placed(dedicated(8), str(uuid.uuid4()), str(uuid.uuid4()))["placement"]["emulator_pins"] == "8-15"
    assert state_dir.exists()


def test_a_flavor_without_wishes_has_no_place_and_takes_an_earlier_one_back(host: Host, state_dir: Path) -> None:
    plain, migration = dedicated(2, extra_specs={}), str(uuid.uuid4())
    assert placed(plain, UUID, migration) == {"changed": False, "placement": None}
    assert placed(dedicated(2), UUID, migration)["changed"]
    assert placed(plain, UUID, migration) == {"changed": True, "placement": None}
    assert [summary["reserved"] for summary in journal.summaries()] == [[]]
    assert placing.look(host, UUID, plain) is None
    assert state_dir.exists()


def test_two_migrations_at_once_get_no_cpu_twice(host: Host, state_dir: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _number: placed(dedicated(2), str(uuid.uuid4()), str(uuid.uuid4())), range(8)))
    cpus = [cpu for result in results for cpu in result["placement"]["vcpu_pins"].values()]
    assert sorted(map(int, cpus)) == list(range(16))
    assert state_dir.exists()


def test_pins_of_a_running_guest_alone_count_too(host: Host, xml: str, state_dir: Path) -> None:
    host.define(domain_edits.edit(xml, placement={"vcpu_pins": {"0": "3"}, "emulator_pins": None, "cells": [], "page_size_kib": None}))
    host.start(host.domain("web"))
    (mine,) = [domain for domain in node_facts.layout(host)["domains"] if domain["name"] == "web"]
    assert (mine["pinned_cpus"], mine["state"]) == ([3], "running")
    assert not state_dir.exists()


def test_a_domain_that_vanishes_while_we_look_is_left_out(host: Host, xml: str) -> None:
    host.define(xml)
    domain = host.domain("web")
    host.undefine("web")
    assert host.brief(domain) is None
    assert host.state_of(domain) == "absent"


def test_what_dest_says(host: Host, xml: str, tmp_path: Path) -> None:
    host.define(xml)
    file = {"way": "copy", "dest_path": str(tmp_path / "a.raw"), "temp_path": str(tmp_path / "b.raw")}
    coming = definition_of("web", str(tmp_path / "a.raw"), str(uuid.uuid4())).replace('network="default"', 'network="gone"')
    dest = dest_facts.collect(host, coming, [file], [str(tmp_path / "no-iso")], [str(tmp_path), str(tmp_path / "no-folder")])
    assert dest["leftovers"] == [file["dest_path"]]
    assert dest["missing"] == [str(tmp_path / "no-iso"), str(tmp_path / "no-folder")]
    assert dest["unmet"] == ["network gone is not active (next: virsh net-start gone)"]
    assert [reason.split()[0] for reason in dest["collisions"]] == ["name", "MAC", "path"]
    assert set(dest["free_bytes"]) == set(dest["same_filesystem"]) == {str(tmp_path), str(tmp_path / "no-folder")}
    assert len(set(dest["same_filesystem"].values())) == 1


def test_what_the_same_node_says_of_a_resize(host: Host, xml: str, tmp_path: Path) -> None:
    """The server itself is in nobody's way, and a file that is replaced or dropped is there of course; what is to be new must not be."""
    host.define(xml)
    (tmp_path / "b.raw").touch()
    files = [{"way": way, "dest_path": str(tmp_path / "a.raw"), "temp_path": str(tmp_path / "t.raw")} for way in ("replace", "drop")]
    files.append({"way": "overlay", "dest_path": str(tmp_path / "b.raw"), "temp_path": str(tmp_path / "b.raw.new")})
    dest = dest_facts.collect(host, xml, files, [], [], in_place=True)
    assert (dest["collisions"], dest["leftovers"]) == ([], [str(tmp_path / "b.raw")])
    host.define(definition_of("other", str(tmp_path / "b.raw"), str(uuid.uuid4()), "52:54:00:00:00:02"))
    (collision,) = dest_facts.collect(host, xml, files, [], [], in_place=True)["collisions"]
    assert "other" in collision


# --- power


def test_power_both_ways_and_again(host: Host, xml: str) -> None:
    host.define(xml)
    how = power.Stop(5, 1, "auto", True)
    results = [power.start(host, UUID, 5, 0.1, None), power.start(host, UUID, 5, 0.1, None), power.stop(host, UUID, how), power.stop(host, UUID, how)]
    assert [result["changed"] for result in results] == [True, False, True, False]
    assert [result["state"] for result in results] == ["running", "running", "shutoff", "shutoff"]
    assert [result["graceful"] for result in results] == [None, None, True, None]


def test_the_time_to_settle_is_told_apart(host: Host, xml: str) -> None:
    host.define(xml)
    result = power.start(host, "web", 5, 1.5, None)
    assert result["seconds"] < 1.5 <= result["since_reached_seconds"]


def test_a_look_touches_nothing(host: Host, xml: str) -> None:
    host.define(xml)
    assert power.look(host, "web") == {"changed": False, "state_before": "shutoff", "state": "shutoff"}
    assert power.look(host, "web", "running") == {"changed": True, "state_before": "shutoff", "state": "running"}
    assert host.state("web") == "shutoff"


class Stubborn(Host):
    """A guest that ignores every request to shut down, until told otherwise."""

    requests: t.ClassVar[list[float]] = []
    hang = 0.0

    def request_shutdown(self, domain: t.Any, method: libvirt_host.Method) -> str | None:
        self.requests.append(time.monotonic())
        time.sleep(self.hang)
        return None


@pytest.fixture
def stubborn(host: Host, xml: str, monkeypatch: pytest.MonkeyPatch) -> Stubborn:
    host.define(xml)
    host.start(host.domain("web"))
    guest = Stubborn(host.connection)
    monkeypatch.setattr(Stubborn, "requests", [])
    return guest


def test_a_deaf_guest_is_asked_again_and_then_powered_off(stubborn: Stubborn) -> None:
    result = power.stop(stubborn, "web", power.Stop(1.0, 0.3, "acpi", True))
    assert (result["graceful"], result["method"], result["state"]) == (False, "power_off", "shutoff")
    assert 2 <= len(stubborn.requests) <= 4
    assert result["seconds"] >= 1.0


def test_a_deaf_guest_runs_on_if_it_may_not_be_powered_off(stubborn: Stubborn) -> None:
    with pytest.raises(ColdmoveError, match="still runs"):
        power.stop(stubborn, "web", power.Stop(0.3, 0.1, "acpi", False))
    assert stubborn.state("web") == "running"


def test_no_time_means_off_at_once(stubborn: Stubborn) -> None:
    assert power.stop(stubborn, "web", power.Stop(0, 10, "auto", True))["seconds"] < 10
    assert stubborn.requests == []


def test_off_is_noticed_at_once_even_while_a_request_hangs(stubborn: Stubborn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stubborn, "hang", 3.0)
    timer = threading.Timer(0.5, lambda: stubborn.domain("web").destroy())
    timer.start()
    result = power.stop(stubborn, "web", power.Stop(10, 10, "agent", True))
    assert (result["graceful"], result["method"]) == (True, "agent")
    assert 0.5 <= result["seconds"] < Stubborn.hang
    timer.join()


def test_a_guest_that_dies_while_it_settles_was_not_started(host: Host, xml: str, state_dir: Path) -> None:
    host.define(xml)
    timer = threading.Timer(0.2, lambda: host.domain("web").destroy())
    timer.start()
    params = {"migration_uuid": str(uuid.uuid4()), "migration_epoch": 1}
    with journal.step(params) as book, pytest.raises(ColdmoveError, match="did not keep running: it is shutoff"):
        power.start(host, "web", 5, 1, book)
    timer.join()
    kept = journal.Journal(params["migration_uuid"]).data
    assert (kept.get("starting"), kept.get("started")) == (True, None)
    assert state_dir.exists()


def test_a_start_for_a_migration_is_in_the_journal(host: Host, xml: str, state_dir: Path) -> None:
    host.define(xml)
    params = {"migration_uuid": str(uuid.uuid4()), "migration_epoch": 2}
    with journal.step(params) as book:
        power.start(host, "web", 5, 0, book)
    assert journal.Journal(params["migration_uuid"]).data["started"] is True
    with pytest.raises(Superseded), journal.step({**params, "migration_epoch": 1}):
        pass
    assert state_dir.exists()


def test_a_paused_server_is_not_started_and_can_be_powered_off(host: Host, xml: str) -> None:
    host.define(xml)
    host.start(host.domain("web"))
    host.domain("web").suspend()
    with pytest.raises(ColdmoveError, match="is paused"):
        power.start(host, "web", 5, 0, None)
    result = power.stop(host, "web", power.Stop(60, 10, "auto", True))
    assert (result["graceful"], result["state"]) == (False, "shutoff")
    assert result["seconds"] < 60  # a guest that does not execute is not waited for


def test_a_password_is_set_in_a_running_guest_only(host: Host, xml: str) -> None:
    definition.present(host, wanted(xml))
    domain = host.domain("web")
    with pytest.raises(ColdmoveError, match="the password of root is not set: .*not running") as caught:
        host.set_user_password(domain, "root", "s3cret", 10)
    assert "s3cret" not in str(caught.value)
    host.start(domain)
    host.set_user_password(domain, "root", "s3cret", 10)


def test_an_agent_that_hangs_is_not_waited_for_without_end(host: Host, xml: str) -> None:
    class Hangs:
        def setUserPassword(self, user: str, password: str, flags: int) -> None:
            time.sleep(5)

    began = time.monotonic()
    with pytest.raises(ColdmoveError, match="has not answered within 0.1 s: whether the password of root is set is not known"):
        host.set_user_password(Hangs(), "root", "s3cret", 0.1)
    assert time.monotonic() - began < 3
