# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""The only door to libvirt. A ``server`` is a domain's UUID or name everywhere. Every error is a ColdmoveError in libvirt's own words."""

from __future__ import annotations

import contextlib
import glob
import os
import threading
import time
import traceback
import typing as t
import uuid as uuidlib
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import backup_xml, domain_xml
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.backup_xml import Backup
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.domain_xml import AGENT_CHANNEL
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

LIBVIRT_IMPORT_ERROR: str | None = None
try:
    import libvirt
except ImportError:
    LIBVIRT_IMPORT_ERROR = traceback.format_exc()

DEFAULT_URI = "qemu:///system"
#: Part of the argument spec of every module that talks to libvirt; documented in plugins/doc_fragments/_libvirt.py.
URI_ARGS: dict[str, t.Any] = {"uri": {"type": "str", "default": DEFAULT_URI}}

STATES = ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended")
#: Where libvirt keeps the pid of each QEMU.
_QEMU_PID_DIR = Path("/run/libvirt/qemu")
#: Where libvirt's system driver keeps what belongs to one run of one server.
_RUN_FOLDERS = "/var/lib/libvirt/qemu"
#: KEEP_TPM and TPM are known to libvirt from this version on.
_TPM_FLAGS_SINCE = 8009000

Domain = t.Any  # libvirt.virDomain; libvirt-python ships no types
Method = t.Literal["acpi", "agent"]


class NoSuchServer(ColdmoveError):
    """No domain of that UUID or name is defined here."""


@contextlib.contextmanager
def connected(uri: str = DEFAULT_URI) -> t.Iterator[LibvirtHost]:
    """A connection that is closed at the end."""
    if LIBVIRT_IMPORT_ERROR:
        raise ColdmoveError("The Python library libvirt (python3-libvirt) is missing on this node: run the playbook coldmove.libvirt.prepare.")
    # libvirt prints every error on stderr by itself, where it would spoil the module's output.
    libvirt.registerErrorHandler(lambda context, error: None, None)
    with _explained(f"cannot connect to libvirt at {uri} (is libvirtd running? try: virsh -c {uri} version)"):
        connection = libvirt.open(uri)
    try:
        yield LibvirtHost(connection)
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            connection.close()


@contextlib.contextmanager
def _explained(what: str) -> t.Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as exc:
        kind = NoSuchServer if _is_gone(exc) else ColdmoveError
        raise kind(f"{what}: {exc.get_error_message() or exc}", libvirt_code=exc.get_error_code()) from exc


def _is_gone(exc: t.Any) -> bool:
    return bool(exc.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)


def _is_unsupported(exc: t.Any) -> bool:
    return exc.get_error_code() in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_UNSUPPORTED)


class BlockJob(t.NamedTuple):
    """How far the block job of a disk is, in bytes. ``ready``: both images are in step, and stay so; it waits for the pivot."""

    done: int
    total: int
    ready: bool


class LibvirtHost:
    """The libvirt of one node."""

    def __init__(self, connection: t.Any) -> None:
        self.connection = connection

    def alive(self) -> bool:
        """Whether libvirt still answers on this connection."""
        try:
            return bool(self.connection.isAlive())
        except libvirt.libvirtError:
            return False

    # --- the node

    def versions(self) -> dict[str, int]:
        with _explained("cannot read libvirt's version"):
            return {"libvirt_version": self.connection.getLibVersion(), "qemu_version": self.connection.getVersion()}

    def hardware(self) -> dict[str, t.Any]:
        with _explained("cannot read the node's hardware"):
            info = self.connection.getInfo()
        return {"arch": info[0], "memory_mb": info[1], "cpus": info[2]}

    def capabilities(self) -> str:
        with _explained("cannot read libvirt's capabilities"):
            return t.cast(str, self.connection.getCapabilities())

    def free_pages(self, cell: int, sizes_kib: t.Sequence[int]) -> dict[int, int]:
        """How many pages of each size are free in a NUMA cell of the node. A size that libvirt says nothing of is left out."""
        try:
            answer = self.connection.getFreePages(list(sizes_kib), cell, 1) if sizes_kib else {}
        except libvirt.libvirtError as exc:
            if _is_unsupported(exc):
                return {}
            raise ColdmoveError(f"cannot read the free pages of NUMA cell {cell}: {exc.get_error_message()}") from exc
        return dict(answer.get(cell, {}))

    def networks(self) -> list[str]:
        """Active networks; none where this kind of connection has no networks."""
        try:
            return sorted(self.connection.listNetworks())
        except libvirt.libvirtError:
            return []

    def pools(self) -> list[tuple[str, bool, str]]:
        """(name, active, XML) of every storage pool."""
        try:
            pools = self.connection.listAllStoragePools()
        except libvirt.libvirtError:
            return []
        found = []
        for pool in pools:
            with contextlib.suppress(libvirt.libvirtError):  # removed meanwhile
                found.append((pool.name(), bool(pool.isActive()), pool.XMLDesc()))
        return sorted(found)

    def volume(self, pool: str, volume: str) -> tuple[str, str | None]:
        """(kind, path) of a storage volume: kind is file, block, network … as in a disk's type."""
        with _explained(f"cannot find volume {volume} in storage pool {pool}"):
            found = self.connection.storagePoolLookupByName(pool).storageVolLookupByName(volume)
            kind, path = found.info()[0], found.path()
        kinds = {libvirt.VIR_STORAGE_VOL_FILE: "file", libvirt.VIR_STORAGE_VOL_BLOCK: "block", libvirt.VIR_STORAGE_VOL_PLOOP: "ploop"}
        return kinds.get(kind, "network" if kind in (libvirt.VIR_STORAGE_VOL_NETWORK, libvirt.VIR_STORAGE_VOL_NETDIR) else "dir"), path

    def has_filter(self, name: str) -> bool:
        try:
            return self.connection.nwfilterLookupByName(name) is not None
        except libvirt.libvirtError:
            return False

    def has_secret(self, secret: t.Mapping[str, str | None]) -> bool:
        """By UUID, or by usage for disks of ceph or iscsi."""
        usages = {"ceph": libvirt.VIR_SECRET_USAGE_TYPE_CEPH, "iscsi": libvirt.VIR_SECRET_USAGE_TYPE_ISCSI}
        try:
            if secret.get("uuid"):
                return self.connection.secretLookupByUUIDString(secret["uuid"]) is not None
            usage = usages.get(secret.get("type") or "", libvirt.VIR_SECRET_USAGE_TYPE_VOLUME)
            return self.connection.secretLookupByUsage(usage, secret.get("usage")) is not None
        except libvirt.libvirtError:
            return False

    def compare_cpu(self, cpu_xml: str, emulator: str | None, arch: str | None, machine: str | None, domain_type: str | None) -> str | None:
        """None if the hypervisor can give that CPU, otherwise why not. Raises ColdmoveError if libvirt cannot tell."""
        try:
            answer = self.connection.compareHypervisorCPU(emulator, arch, machine, domain_type, cpu_xml, libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE)
        except libvirt.libvirtError as exc:
            if exc.get_error_code() == libvirt.VIR_ERR_CPU_INCOMPATIBLE:
                return str(exc.get_error_message())
            raise ColdmoveError(f"libvirt cannot compare the CPU: {exc.get_error_message()}") from exc
        return None if answer > 0 else "libvirt calls it incompatible"

    def domain_capabilities(self, emulator: str | None, arch: str | None, machine: str | None, domain_type: str | None) -> str:
        with _explained("libvirt cannot run such a machine"):
            return t.cast(str, self.connection.getDomainCapabilities(emulator, arch, machine, domain_type, 0))

    def try_definition(self, xml: str) -> str | None:
        """What libvirt has against this definition, without defining it; None if nothing, or if it cannot be asked.

        Libvirt only writes out QEMU's command line: it parses, fills in addresses, and checks emulator, machine type, CPU model and
        features, but opens no file, starts nothing and keeps nothing. Networks are not looked at.
        """
        try:
            self.connection.domainXMLToNative("qemu-argv", xml, 0)
        except libvirt.libvirtError as exc:
            return None if _is_unsupported(exc) else str(exc.get_error_message())
        return None

    def command_line(self, xml: str) -> str | None:
        """The emulator's command line for this definition, in a shell's words; None if libvirt does not say."""
        try:
            return t.cast(str, self.connection.domainXMLToNative("qemu-argv", xml, 0))
        except libvirt.libvirtError:
            return None

    # --- finding domains

    def find(self, server: str) -> Domain | None:
        """By UUID if it is one, then by name."""
        try:
            server_uuid = str(uuidlib.UUID(server))
        except ValueError:
            return self.find_name(server)
        found = _found(lambda: self.connection.lookupByUUIDString(server_uuid))
        return found if found is not None else self.find_name(server)

    def find_name(self, name: str) -> Domain | None:
        return _found(lambda: self.connection.lookupByName(name))

    def domain(self, server: str) -> Domain:
        """Like ``find``, but NoSuchServer if there is none."""
        found = self.find(server)
        if found is None:
            raise NoSuchServer(f"server {server} is not defined on this node; see: virsh list --all")
        return found

    def domains(self) -> list[Domain]:
        with _explained("cannot list the domains"):
            return list(self.connection.listAllDomains())

    # --- reading domains

    def identity(self, domain: Domain) -> tuple[str, str]:
        """(UUID, name)."""
        return domain.UUIDString(), domain.name()

    def state_of(self, domain: Domain) -> str:
        """The state's name; ``absent`` if the domain is gone."""
        try:
            return STATES[domain.state()[0]]
        except libvirt.libvirtError as exc:
            if _is_gone(exc):
                return "absent"
            raise ColdmoveError(f"cannot read the state of a domain: {exc.get_error_message()}") from exc

    def state(self, server: str) -> str | None:
        """``running``, ``shutoff``, …; None if not defined."""
        found = self.find(server)
        state = self.state_of(found) if found is not None else "absent"
        return None if state == "absent" else state

    def xml(self, server: str) -> str:
        """The inactive definition with its secrets."""
        return self.xml_of(self.domain(server))

    def xml_of(self, domain: Domain, live: bool = False, secrets: bool = True) -> str:
        flags = (0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE) | (libvirt.VIR_DOMAIN_XML_SECURE if secrets else 0)
        with _explained("cannot read the domain's XML"):
            return t.cast(str, domain.XMLDesc(flags))

    def brief(self, domain: Domain) -> dict[str, t.Any] | None:
        """State, autostart, live sizes, inactive and live XML of one of many domains; None if it vanished meanwhile."""
        try:
            state, max_memory_kib, _memory, vcpus, _time = domain.info()
            return {
                "state": STATES[state],
                "memory_mb": -(-max_memory_kib // 1024),
                "vcpus": vcpus,
                "autostart": bool(domain.autostart()) if domain.isPersistent() else False,
                "xml": domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE),
                "live_xml": domain.XMLDesc(0) if domain.isActive() else None,
            }
        except libvirt.libvirtError as exc:
            if _is_gone(exc):
                return None
            raise ColdmoveError(f"cannot read a domain: {exc.get_error_message()}") from exc

    def flags(self, domain: Domain) -> dict[str, t.Any]:
        """What libvirt keeps of a domain beside its XML."""
        with _explained("cannot read the domain"):
            persistent = bool(domain.isPersistent())
            return {
                "persistent": persistent,
                "autostart": bool(domain.autostart()) if persistent else False,
                "managed_save": bool(_optional(domain.hasManagedSaveImage, 0)) if persistent else False,
                "snapshots": sorted(_optional(domain.snapshotListNames, [])),
                "checkpoints": sorted(checkpoint.getName() for checkpoint in _optional(domain.listAllCheckpoints, [])),
            }

    def block_jobs(self, domain: Domain, targets: t.Iterable[str]) -> list[str]:
        """Which of a running domain's disks have a block job."""
        found = []
        for target in targets:
            try:
                if domain.blockJobInfo(target):
                    found.append(target)
            except libvirt.libvirtError as exc:
                if not _is_unsupported(exc) and domain.isActive():
                    raise ColdmoveError(f"cannot ask for block jobs of disk {target}: {exc.get_error_message()}") from exc
        return found

    def block_job(self, domain: Domain, target: str) -> BlockJob | None:
        """The block job of one disk of a running domain; None if there is none, or if it does not run."""
        try:
            info = domain.blockJobInfo(target)
            if not info:
                return None
            mirror = domain.XMLDesc(0).partition(f"<target dev='{target}'")[0].rpartition("<disk ")[2]
        except libvirt.libvirtError as exc:
            if self.state_of(domain) not in ("shutoff", "absent"):
                raise ColdmoveError(f"cannot ask for the block job of disk {target}: {exc.get_error_message()}") from exc
            return None
        return BlockJob(int(info["cur"]), int(info["end"]), "<mirror " in mirror and "ready='yes'" in mirror)

    def mirror_socket(self, domain: Domain, target: str) -> str | None:
        """The unix socket that a disk of a running domain is mirrored to; None if it is not, or to something else."""
        with _explained("cannot read the domain's XML"):
            return domain_xml.mirror_sockets(domain.XMLDesc(0)).get(target)

    def begin_mirror(self, domain: Domain, target: str, socket: str, export: str, bytes_per_second: int = 0) -> None:
        """Begin to mirror a disk of a running guest to an NBD export; ``bytes_per_second`` (0: no limit) bounds what is copied beside the guest's own writes.

        The writes of the guest go to both ends before they are acknowledged (a mirror in the background loses those of the last instant). The export is
        there already, and the mirror is not part of the definition. Ends with the guest, or by cancel_block_job().
        """
        flags = libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB | libvirt.VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES
        options = {libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: bytes_per_second} if bytes_per_second else {}
        with _explained(f"disk {target} cannot be mirrored"):
            domain.blockCopy(target, domain_xml.nbd_disk(socket, export), options, flags)

    def account_of(self, domain: Domain) -> int:
        """The user id that the QEMU of a running domain has."""
        name = self.identity(domain)[1]
        try:
            pid = int((_QEMU_PID_DIR / f"{name}.pid").read_text(encoding="ascii"))
            return os.stat(f"/proc/{pid}").st_uid
        except (OSError, ValueError) as exc:
            raise ColdmoveError(f"the QEMU process of server {name} is not to be found in {_QEMU_PID_DIR}: {exc}") from exc

    def begin_commit(self, domain: Domain, target: str) -> None:
        """Begin to write a running guest's overlay into the image that it stands on; the job is then ready for the pivot, and stays so."""
        flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE | libvirt.VIR_DOMAIN_BLOCK_COMMIT_SHALLOW
        with _explained(f"cannot merge the overlay of disk {target} into what it stands on"):
            domain.blockCommit(target, None, None, 0, flags)

    def pivot(self, domain: Domain, target: str) -> None:
        """End a commit that is ready: the guest goes on with the image that the overlay stood on."""
        with _explained(f"disk {target} cannot go on without its overlay"):
            domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)

    def cancel_block_job(self, domain: Domain, target: str) -> None:
        with _explained(f"cannot end the block job of disk {target}"):
            domain.blockJobAbort(target, 0)

    def begin_backup(self, domain: Domain, wanted: Backup) -> None:
        """Hold fast what these disks read as now, and serve each under its target.

        QEMU copies what its guest is about to overwrite into the scratch file first. Libvirt makes these files, and deletes them with the end of the backup.
        """
        with _explained("libvirt cannot begin a backup"):
            domain.backupBegin(backup_xml.request(wanted), None, 0)

    def backup(self, domain: Domain) -> Backup | None:
        """The backup that is under way, whoever began it; None if there is none, or if the server is off."""
        try:
            xml = domain.backupGetXMLDesc(0)
        except libvirt.libvirtError as exc:
            if exc.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_BACKUP, libvirt.VIR_ERR_OPERATION_INVALID) or _is_gone(exc) or _is_unsupported(exc):
                return None
            raise ColdmoveError(f"cannot ask for the backup of a server: {exc.get_error_message()}") from exc
        return backup_xml.read(xml)

    def end_backup(self, domain: Domain, seconds: float = 30.0) -> None:
        """End the backup that is under way, and wait until libvirt has cleaned up behind it. The guest goes on."""
        deadline = time.monotonic() + seconds
        asked = False
        while self.backup(domain) is not None:
            if not asked:
                try:
                    domain.abortJob()
                except libvirt.libvirtError as exc:
                    if self.backup(domain) is None:
                        return
                    raise ColdmoveError(f"libvirt cannot end the backup: {exc.get_error_message()}") from exc
                asked = True
            if time.monotonic() > deadline:
                raise ColdmoveError(f"libvirt has not ended the backup within {seconds:g} s")
            time.sleep(0.02)

    def own_folder(self, domain: Domain) -> str:
        """The folder that libvirt made for this run of the server: QEMU may write to it whatever confines it, and of other accounts only root may read it."""
        found = glob.glob(f"{_RUN_FOLDERS}/domain-{domain.ID()}-*")
        if len(found) != 1:
            raise ColdmoveError(f"libvirt has no folder for the running server under {_RUN_FOLDERS}")
        return found[0]

    def answers(self, domain: Domain) -> bool:
        """Whether the QEMU of a domain does what it is told (libvirt asks it for these figures each time): one that is ending does not."""
        try:
            domain.blockStats("")
        except libvirt.libvirtError:
            return False
        return True

    def is_stuck(self, domain: Domain) -> bool:
        """Whether QEMU has stopped the guest because a write of it failed, most often for want of room."""
        try:
            state, reason = domain.state()
        except libvirt.libvirtError as exc:
            if _is_gone(exc):
                return False
            raise ColdmoveError(f"cannot read the state of a domain: {exc.get_error_message()}") from exc
        return bool(state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR)

    def bytes_written(self, server: str, targets: t.Iterable[str]) -> dict[str, int]:
        """Bytes that the running guest wrote to each disk since its start."""
        domain = self.domain(server)
        with _explained(f"cannot read the disk statistics of server {server}"):
            return {target: domain.blockStats(target)[3] for target in targets}

    def leases(self, domain: Domain) -> list[tuple[str, str]]:
        """(MAC, address) of all that libvirt's own DHCP servers have leased to the domain; none on networks without one."""
        try:
            interfaces = domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE)
        except libvirt.libvirtError:
            return []
        return [(interface["hwaddr"], found["addr"]) for interface in interfaces.values() for found in interface["addrs"] or []]

    def guest_bytes(self, domain: Domain, target: str) -> int:
        """The size of a running domain's disk as its guest sees it; a block device underneath may have grown already."""
        with _explained(f"cannot read the size of disk {target}"):
            ((_domain, facts),) = self.connection.domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_BLOCK)
        for number in range(facts.get("block.count", 0)):
            if facts.get(f"block.{number}.name") == target and f"block.{number}.capacity" in facts:
                return int(facts[f"block.{number}.capacity"])
        raise ColdmoveError(f"libvirt does not tell the size of disk {target}")

    def autostart(self, server: str) -> bool:
        with _explained(f"cannot read autostart of server {server}"):
            return bool(self.domain(server).autostart())

    # --- changing domains

    def set_autostart(self, server: str, wanted: bool) -> bool:
        """True if that changed something."""
        domain = self.domain(server)
        with _explained(f"cannot set autostart of server {server} to {wanted}"):
            if bool(domain.autostart()) == wanted:
                return False
            domain.setAutostart(int(wanted))
            return True

    def define(self, xml: str) -> None:
        """Define or redefine."""
        with _explained("libvirt refuses the definition"):
            self.connection.defineXML(xml)

    def undefine(self, server: str, keep_nvram: bool = True, keep_tpm: bool = True) -> None:
        """Undefine a domain that is off; NVRAM and TPM state stay unless told otherwise. A managed-save image is never dropped with it."""
        domain = self.domain(server)
        state = self.state_of(domain)
        if state != "shutoff":
            raise ColdmoveError(f"server {server} is {state}: only a server that is off is undefined. Nothing was changed; next: virsh shutdown {server}")
        kept = self.flags(domain)
        for what, command in (("managed_save", "managedsave-remove"), ("snapshots", "snapshot-list"), ("checkpoints", "checkpoint-list")):
            if kept[what]:
                has = what.rstrip("s").replace("_", "-")
                raise ColdmoveError(f"server {server} has a {has}, which undefining would lose. Nothing was changed; see: virsh {command} {server}")
        with _explained(f"cannot undefine server {server}"):
            domain.undefineFlags(self._undefine_flags(domain, keep_nvram, keep_tpm))
        if self.find(server) is not None:
            raise ColdmoveError(f"libvirt reported success, but server {server} is still defined")

    def _undefine_flags(self, domain: Domain, keep_nvram: bool, keep_tpm: bool) -> int:
        if self.connection.getType() != "QEMU":
            return 0  # other drivers know neither flag nor firmware
        flags = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM if keep_nvram else libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
        if self.connection.getLibVersion() >= _TPM_FLAGS_SINCE and hasattr(libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM"):
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM if keep_tpm else libvirt.VIR_DOMAIN_UNDEFINE_TPM
        elif keep_tpm and "<tpm" in self.xml_of(domain, secrets=False):
            raise ColdmoveError("this libvirt (older than 8.9) deletes the TPM state of a domain that is undefined, and it is to be kept. Nothing was changed")
        return t.cast(int, flags)

    def resize_disk(self, domain: Domain, target: str, size_bytes: int) -> None:
        """Give a running domain's disk another size; its guest is told."""
        with _explained(f"libvirt cannot grow disk {target}"):
            domain.blockResize(target, size_bytes, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    # --- power

    def start(self, domain: Domain, paused: bool = False) -> None:
        """With ``paused`` its QEMU is there, but the guest runs no instruction before resume()."""
        with _explained("libvirt cannot start the server"):
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)

    def has_agent(self, domain: Domain) -> bool:
        """Whether a guest agent answers, as far as libvirt knows."""
        try:
            xml = domain.XMLDesc(0)
        except libvirt.libvirtError:
            return False
        channel = next((part for part in xml.split("<channel")[1:] if AGENT_CHANNEL in part.split("</channel>")[0]), "")
        return "state='connected'" in channel.split("</channel>")[0]

    def set_user_password(self, domain: Domain, user: str, password: str, seconds: float) -> None:
        """Have the guest agent set a password. libvirt itself waits without end for an agent that hangs; we do so for ``seconds``."""
        answers: list[t.Any] = []

        def ask() -> None:
            try:
                domain.setUserPassword(user, password, 0)
                answers.append(None)
            except libvirt.libvirtError as exc:
                answers.append(exc)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(seconds)
        if not answers:
            raise ColdmoveError(f"the guest agent has not answered within {seconds:g} s: whether the password of {user} is set is not known")
        if answers[0] is not None:
            # In libvirt's and the agent's words, which never repeat the password.
            raise ColdmoveError(f"the password of {user} is not set: {answers[0].get_error_message()}", libvirt_code=answers[0].get_error_code())

    def request_shutdown(self, domain: Domain, method: Method) -> str | None:
        """Ask the guest to shut down; what libvirt answered if it could not even ask."""
        flag = libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT if method == "agent" else libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
        try:
            # Other drivers than QEMU know no methods.
            domain.shutdownFlags(flag) if self.connection.getType() == "QEMU" else domain.shutdown()
        except libvirt.libvirtError as exc:
            return str(exc.get_error_message())
        return None

    def pause(self, domain: Domain) -> None:
        """Let a running guest stand still."""
        with _explained("cannot pause the server"):
            domain.suspend()

    def resume(self, domain: Domain) -> None:
        """Let a paused guest go on."""
        with _explained("cannot resume the server"):
            domain.resume()

    def power_off(self, domain: Domain) -> None:
        """Off at once, as if the plug were pulled. No error if it was off already."""
        try:
            domain.destroyFlags(0)
        except libvirt.libvirtError as exc:
            if exc.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID and not _is_gone(exc):
                raise ColdmoveError(f"libvirt cannot power the server off: {exc.get_error_message()}") from exc


def _found(lookup: t.Callable[[], Domain]) -> Domain | None:
    try:
        return lookup()
    except libvirt.libvirtError as exc:
        if _is_gone(exc):
            return None
        raise ColdmoveError(f"cannot look up a server: {exc.get_error_message()}") from exc


def _optional(call: t.Callable[[], t.Any], otherwise: t.Any) -> t.Any:
    """What a driver that does not know such things would say."""
    try:
        return call()
    except libvirt.libvirtError as exc:
        if _is_unsupported(exc):
            return otherwise
        raise
