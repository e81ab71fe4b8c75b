# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Disks on block devices, on both ends of a move. A device has one name only, so what a file's names say of a file is in the journal here.

Journal keys: ``devices`` (dest; by file id: what this migration has taken or made here), ``held_devices`` (source; by file id: which device was set aside).
Only a logical volume is ever removed: on the dest one that carries this migration's tag, on the source the one whose LVM UUID was noted when it was held.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters import block_device, lvm, qemu_img
from ansible_collections.coldmove.libvirt.plugins.module_utils._adapters.libvirt_host import LibvirtHost
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import devices as rules
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.text import human_bytes
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import files as nodefiles
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import node_facts, paths
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import Journal, locked, read_json

MoveFile = dict[str, t.Any]
Facts = dict[str, t.Any]
is_device = rules.is_device


def facts_of(path: str) -> Facts:
    """What the plan asks of a server's device: ``identity``, and of a logical volume ``logical_volume`` (GROUP/NAME) and ``thin_pool``."""
    mapper = lvm.mapper_path(path)
    volume = lvm.volume(mapper) if mapper else None
    named = {"logical_volume": f"{volume.group}/{volume.name}", "thin_pool": volume.pool} if volume else {}
    return {"identity": block_device.identity(path), **named}


# --- the dest, before anything is touched


def problems(host: LibvirtHost, files: t.Sequence[MoveFile]) -> list[str]:
    """Everything on this node that speaks against taking these devices; nothing is changed."""
    chosen = [file for file in files if is_device(file) and file["way"] != "drop"]
    users = users_of(host) if chosen else {}
    found: list[str] = []
    for file in chosen:
        name = f"disk {file['id']}: "
        known = block_device.number(file["dest_path"])
        if known in users:
            found.append(f"{name}{file['dest_path']} belongs to the domain {users[known]} here")
        found += [name + reason for reason in (_named_problems(file) if file["device"] == rules.NAMED else _volume_problems(file))]
    return found + _no_room(chosen)


def users_of(host: LibvirtHost) -> dict[str, str]:
    """Device numbers to the domains that use them. Not by path: a device has many."""
    found = {}
    for domain in node_facts.domains(host):
        for path in domain["disk_paths"]:
            number = block_device.number(path)
            if number:
                found[number] = str(domain["name"])
    return found


def _named_problems(file: MoveFile, own: str = "") -> list[str]:
    """``own``: the migration that asks."""
    path = file["dest_path"]
    number = block_device.number(path)
    if number is None:
        return [f"{path} is no block device of this node"]
    found = []
    same = set(block_device.identity(path)) & set(file["identity"])
    if same:
        found.append(f"{path} is the very device that the server is on now ({', '.join(sorted(same))}), seen by both nodes: what is shared is not moved")
    other = _claimed(own).get(number)
    if other:
        found.append(f"{path} is kept for the migration {other}, which has not ended")
    length, needed = qemu_img.length_of(path), rules.device_bytes(file, qemu_img.measured)
    if length < needed:
        found.append(f"{path} has {length} bytes ({human_bytes(length)}), and {needed} ({human_bytes(needed)}) are needed")
    busy = block_device.in_use(path)
    if busy:
        return [*found, f"{path} {busy}"]
    held = block_device.signatures(path)
    if held:
        found.append(
            f"{path} is not empty, it holds {', '.join(held)}: look at it, and if nobody needs that, empty it with wipefs --all. Nothing is overwritten"
        )
    return found


def _volume_problems(file: MoveFile) -> list[str]:
    group_name, name = _split(file)
    try:
        group = lvm.group_of_name(group_name)
        if group is None:
            return [
                f"{file['source_path']} is a logical volume, and this node has no volume group {group_name} to make it in: make one, or name a device of this "
                f"node (-e dest_devices={file['id']}=/dev/…)"
            ]
        if f"dm:LVM-{group.uuid.replace('-', '')}" in {word[: len("dm:LVM-") + 32] for word in file["identity"]}:
            return [f"volume group {group_name} is the same one on both nodes: what is shared is not moved"]
        if lvm.find(group_name, name) is not None:
            return [f"logical volume {group_name}/{name} exists already: look at it, and remove or rename it. Nothing is overwritten"]
    except ColdmoveError as exc:
        return [str(exc)]
    return [f"{file['dest_path']} exists already and is no logical volume"] if os.path.lexists(file["dest_path"]) else []


def _no_room(files: t.Sequence[MoveFile]) -> list[str]:
    """Groups without room for all volumes that are to be made in them. A thin volume takes space as it is written."""
    needed: dict[str, int] = {}
    groups: dict[str, lvm.Group] = {}
    for file in files:
        if file["device"] != rules.VOLUME:
            continue
        try:
            group = lvm.group_of_name(_split(file)[0])
        except ColdmoveError:
            continue  # told already
        if group and not _pool(file, group):
            groups[group.name] = group
            needed[group.name] = needed.get(group.name, 0) + _rounded(rules.device_bytes(file, qemu_img.measured), group)
    return [
        f"volume group {name} has {human_bytes(groups[name].free_bytes)} free, and {human_bytes(bytes_)} are needed for the server's disks"
        for name, bytes_ in needed.items()
        if bytes_ > groups[name].free_bytes
    ]


def _rounded(size: int, group: lvm.Group) -> int:
    return -(-size // group.extent_bytes) * group.extent_bytes


def _pool(file: MoveFile, group: lvm.Group) -> str:
    pool = lvm.find(group.name, file["thin_pool"]) if file["thin_pool"] else None
    return pool.name if pool and pool.is_pool else ""


def _split(file: MoveFile) -> tuple[str, str]:
    group, _slash, name = file["volume"].partition("/")
    return group, name


def _claimed(own: str) -> dict[str, str]:
    """Device numbers to the open migrations (other than ``own``) that have taken or held them on this node."""
    found = {}
    for path in sorted((paths.STATE_DIR / "moves").glob("*/journal.json")):
        if path.parent.name == own:
            continue
        try:
            data = read_json(path)
        except ColdmoveError:
            continue  # a step of that migration says what is wrong
        for claim in [] if data.get("closed") else [*data.get("devices", {}).values(), *data.get("held_devices", {}).values()]:
            number = block_device.number(claim["path"])
            if number and not claim.get("given_up"):
                found[number] = path.parent.name
    return found


# --- the dest takes one


def _claim(journal: Journal, file: MoveFile) -> Facts | None:
    claim = journal.data.get("devices", {}).get(file["id"])
    return None if claim is None or claim.get("given_up") else dict(claim)


def _note(journal: Journal, file: MoveFile, **facts: t.Any) -> None:
    noted = journal.data.get("devices", {})
    journal.note(devices={**noted, file["id"]: {**noted.get(file["id"], {}), **facts}})


def _begin(journal: Journal, file: MoveFile, **facts: t.Any) -> None:
    """A claim that knows nothing of an earlier one, which was given up."""
    claim = {"path": file["dest_path"], "boot": nodefiles.boot_mark(), **facts}
    journal.note(devices={**journal.data.get("devices", {}), file["id"]: claim})


def _tag(journal: Journal) -> str:
    return f"coldmove-{journal.uuid}"


def _is_there(journal: Journal, file: MoveFile, claim: Facts) -> bool:
    """Whether the device is still the one that this migration has taken or made."""
    if file["device"] == rules.NAMED:
        return block_device.number(file["dest_path"]) is not None and block_device.identity(file["dest_path"]) == claim["identity"]
    volume = _made(journal, file)
    return volume is not None and claim.get("uuid", volume.uuid) == volume.uuid


def _made(journal: Journal, file: MoveFile) -> lvm.Volume | None:
    """The volume that this migration has made, known by its tag."""
    volume = lvm.find(*_split(file))
    return volume if volume and _tag(journal) in volume.tags else None


def is_ready(journal: Journal, file: MoveFile) -> bool:
    """Whether the device waits for the content."""
    claim = _claim(journal, file)
    return bool(claim and claim.get("ready") and _is_there(journal, file, claim))


def is_complete(journal: Journal, file: MoveFile) -> bool:
    """Whether the device has all of the content, proven: what the final name says of a file."""
    claim = _claim(journal, file)
    return bool(claim and claim.get("complete") and _is_there(journal, file, claim))


def take(journal: Journal, file: MoveFile) -> None:
    """Make the device this migration's: under a lock of the node, as two migrations may want one. Raises ColdmoveError with all reasons against it."""
    claim = _claim(journal, file)
    if claim and _is_there(journal, file, claim):
        return
    paths.STATE_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(paths.STATE_DIR / "devices.lock", "another step that takes a device"):
        group_name, name = _split(file)
        against = _named_problems(file, journal.uuid) if file["device"] == rules.NAMED else _volume_problems(file)
        if against:
            raise ColdmoveError(f"disk {file['id']}: {'; '.join(against)}. Nothing was changed")
        if file["device"] == rules.NAMED:
            _begin(journal, file, identity=block_device.identity(file["dest_path"]))
            return
        # Noted first: whoever finds the volume knows by its tag whose it is.
        _begin(journal, file)
        group = lvm.group_of_name(group_name)
        if group is None:
            raise ColdmoveError(f"volume group {group_name} is gone")
        lvm.create(group_name, name, rules.device_bytes(file, qemu_img.measured), _tag(journal), _pool(file, group))
    volume = _made(journal, file)
    if volume is None or block_device.number(file["dest_path"]) is None:
        raise ColdmoveError(f"LVM reported success, but there is no {file['dest_path']} that carries the tag {_tag(journal)}")
    _note(journal, file, uuid=volume.uuid)


def make_blank(journal: Journal, file: MoveFile) -> None:
    """Have the device hold an empty image of the move's format, or what is not written later read as zeroes: it may hold anything."""
    path, virtual = file["temp_path"], int(file["virtual_bytes"])
    if file["format"] == "qcow2":
        qemu_img.create_on_device(path, virtual)
    elif not _is_new_and_thin(journal, file):
        # What crosses is written as a whole, zeroes too; what the guest will see behind it is some other server's old data.
        begin = 0 if file["way"] == "blank" else virtual
        block_device.zero(path, begin, qemu_img.length_of(path) - begin)
    block_device.make_durable(path)
    _note(journal, file, ready=True, boot=nodefiles.boot_mark())


def _is_new_and_thin(journal: Journal, file: MoveFile) -> bool:
    volume = _made(journal, file) if file["device"] == rules.VOLUME else None
    return bool(volume and volume.pool)


def begin_anew(journal: Journal, file: MoveFile) -> None:
    """What the device has taken in is not to be used."""
    if _claim(journal, file):
        _note(journal, file, ready=False, complete=False)


def served_bytes(file: MoveFile) -> int | None:
    """How much of the device is served and compared; None if the image itself says so. Raw is all of its device, which may be larger than the source's."""
    return int(file["virtual_bytes"]) if is_device(file) and file["format"] == "raw" else None


def complete(journal: Journal, file: MoveFile) -> None:
    """Note that the content is proven."""
    _note(journal, file, complete=True)


def discard(journal: Journal, file: MoveFile) -> tuple[list[str], list[str]]:
    """Give the device up: ``(deleted, kept with the reason)``. A volume is removed if it is this migration's; an operator's device stays."""
    claim = _claim(journal, file)
    if claim is None:
        return [], []
    path, deleted, kept = file["dest_path"], [], []
    if file["device"] == rules.NAMED:
        kept.append(_emptied(journal, file, claim))
    elif _is_there(journal, file, claim):
        lvm.remove(*_split(file))
        deleted.append(path)
    elif block_device.number(path) is not None:
        kept.append(f"{path}: not the volume that migration {journal.uuid} made, left alone")
    _note(journal, file, given_up=True)
    return deleted, kept


def _emptied(journal: Journal, file: MoveFile, claim: Facts) -> str:
    """It was empty when it was taken, and is so again, so that the same command can take it once more. In doubt it is left as it is."""
    path, what = file["dest_path"], f"{file['dest_path']}: the device that was named for disk {file['id']} stays"
    if not claim.get("ready") or not _is_there(journal, file, claim):
        return what
    # After another boot the name may be another device's, and months may have passed.
    if claim.get("boot") != nodefiles.boot_mark() or block_device.in_use(path):
        return f"{what}, with what was copied to it: it is worthless. Empty it with wipefs --all before it is used again"
    block_device.wipe_signatures(path)
    block_device.make_durable(path)
    return f"{what}. What was copied to it is worthless, its signatures have been wiped"


# --- the source


def check_source(file: MoveFile) -> None:
    """Raise ColdmoveError unless the source's device is as large as the plan has it: what was added since would not cross."""
    length = qemu_img.length_of(file["source_path"])
    if length != int(file["size_bytes"]):
        raise ColdmoveError(f"{file['source_path']} has {length} bytes now and had {file['size_bytes']} when the move was planned: begin the move anew")


def note_held(journal: Journal, file: MoveFile) -> None:
    """Remember which device is held; before the server is undefined."""
    noted = journal.data.get("held_devices", {})
    if file["id"] not in noted:
        journal.note(held_devices={**noted, file["id"]: _held_facts(file)})


def _held_facts(file: MoveFile) -> Facts:
    path = file["source_path"]
    mapper = lvm.mapper_path(path)
    volume = lvm.volume(mapper) if mapper else None
    known = {"group": volume.group, "name": volume.name, "uuid": volume.uuid} if volume else {}
    return {"path": path, "identity": block_device.identity(path), **known}


def check_held(journal: Journal, file: MoveFile) -> None:
    """Raise ColdmoveError unless the device that was held is there."""
    noted, path = journal.data.get("held_devices", {}).get(file["id"]), file["source_path"]
    if block_device.number(path) is None:
        raise ColdmoveError(f"{path}, the device of disk {file['id']}, is not there (is it active?). Nothing was changed")
    if noted and block_device.identity(path) != noted["identity"]:
        raise ColdmoveError(f"{path} is another device than the one that migration {journal.uuid} held: both are kept. Nothing was changed")


def release(journal: Journal, file: MoveFile, users: t.Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Delete what was held: ``(deleted, kept with the reason)``. ``users``: device numbers to the domains that use them."""
    noted, path = journal.data.get("held_devices", {}).get(file["id"]), file["source_path"]
    if noted is None or noted.get("given_up"):
        return [], []
    volume = lvm.find(noted["group"], noted["name"]) if "group" in noted else None
    if "group" not in noted:
        kept = f"{path}: no logical volume, so it stays as it is, with what the server had on it; empty it with wipefs --all, or blkdiscard, when you like"
    elif volume is None:
        kept = ""  # somebody has removed it
    elif volume.uuid != noted["uuid"]:
        kept = f"{path}: not the volume that migration {journal.uuid} held, left alone"
    elif volume.has_snapshots:
        kept = f"{path}: it has snapshots, which would go with it, left alone"
    elif block_device.number(path) in users:
        kept = f"{path}: the domain {users[block_device.number(path) or '']} uses it, left alone"
    else:
        lvm.remove(noted["group"], noted["name"])
        journal.note(held_devices={**journal.data["held_devices"], file["id"]: {**noted, "given_up": True}})
        return [path], []
    return [], [kept] if kept else []


def names_of(journal: Journal, file: MoveFile) -> str:
    """What a file's names would say, see moves.look()."""
    given = journal.data.get("devices", {}).get(file["id"])
    if given is not None:
        claim = _claim(journal, file)
        return "missing" if not claim or not _is_there(journal, file, claim) else "final" if claim.get("complete") else "temp"
    if file["id"] in journal.data.get("held_devices", {}):
        return "held" if _is_held(journal, file) else "missing"
    return "source" if block_device.number(file["source_path"]) is not None else "missing"


def _is_held(journal: Journal, file: MoveFile) -> bool:
    noted = journal.data["held_devices"][file["id"]]
    if noted.get("given_up"):
        return False
    return block_device.number(file["source_path"]) is not None and block_device.identity(file["source_path"]) == noted["identity"]
