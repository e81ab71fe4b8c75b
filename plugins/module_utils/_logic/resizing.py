# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""From one flavor to another: what speaks against it, how large each disk becomes, what it takes.

Whether the new flavor fits on a node (room, NUMA, traits) is the scheduler's question, what speaks against a move at all that of the pre-checks.
"""

from __future__ import annotations

import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import capacity, extra_specs, flavors, quotas, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.capacity import GIB
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.flavors import MIB
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Amount, Disk, Flavor, Migration, Nodes, Server

#: What qemu-img and libvirt can grow.
FORMATS = ("qcow2", "raw")


class Part(t.NamedTuple):
    """The disks of one role, and the figure of the flavor that gives their size: ``scale`` is the bytes of one ``unit``."""

    role: str
    key: t.Literal["root_gb", "ephemeral_gb", "swap_mb"]
    unit: str
    scale: int


PARTS = (Part("root", "root_gb", "GiB", GIB), Part("ephemeral", "ephemeral_gb", "GiB", GIB), Part("swap", "swap_mb", "MiB", MIB))


class ResizePlan(t.TypedDict):
    """``sizes``: new virtual bytes by target, of the disks whose size changes (0: removed). ``notes``: what the operator should know, and need not act on."""

    old_flavor: Flavor
    new_flavor: Flavor | None
    errors: list[str]
    notes: list[str]
    sizes: dict[str, int]
    need: Amount | None
    source_need: Amount


def plan(
    server: Server,
    asked: t.Any,
    known_flavors: t.Any,
    all_quotas: t.Any = None,
    nodes: Nodes | None = None,
    migrations: t.Iterable[Migration] = (),
    *,
    in_place: bool = False,
) -> ResizePlan:
    """All that is decided before a host is looked for. With any ``errors`` nothing may be touched. ``in_place``: the server stays on its node."""
    old, (new, errors) = flavors.current_of(server), flavors.parse(asked, known_flavors)
    result: ResizePlan = {
        "old_flavor": old,
        "new_flavor": new,
        "errors": errors,
        "notes": [],
        "sizes": {},
        "need": None,
        "source_need": source_need(server),
    }
    if new is None:
        return result
    wanted = need(server, new, in_place=in_place)
    quota = quotas.check(server, wanted, all_quotas, nodes or {}, migrations, in_place=in_place)
    result["errors"] = [*refusals(server if in_place else _elsewhere(server), old, new), *quota.refusals]
    result["notes"] = [*notes(server, new), *quota.notes]
    result["sizes"], result["need"] = sizes(server, new), wanted
    return result


# --- what speaks against it


def refusals(server: Server, old: Flavor, new: Flavor) -> list[str]:
    """All reasons that lie in the server and its two flavors; empty if there are none."""
    return [reason for rule in RULES for reason in rule(server, old, new)]


def _elsewhere(server: Server) -> Server:
    """What a device of this node could grow to says nothing of the dest's."""
    disks: t.Any = [{key: value for key, value in disk.items() if key != "greatest_bytes"} for disk in server.get("disks", [])]
    return {**server, "disks": disks}


def not_the_same(server: Server, old: Flavor, new: Flavor) -> t.Iterator[str]:
    """Something changes. As in Nova, a flavor of another name is another flavor even if its values are equal; one without a name is known by its values."""
    values_differ = any(old[key] != new[key] for key in (*flavors.FIGURES, "extra_specs"))  # type: ignore[literal-required]
    unnamed = flavors.is_unnamed(old) or flavors.is_unnamed(new)
    if values_differ or (old["name"] != new["name"] and not unnamed):
        return
    # The values of a derived flavor are rounded up: the disk may still have to grow to them.
    if not (old["name"] == flavors.DERIVED and sizes(server, new)):
        yield f"the server has this flavor already: {shown(new)}"


def root_is_not_zero(server: Server, _old: Flavor, new: Flavor) -> t.Iterator[str]:
    """A flavor without a root disk is for servers whose root disk is on the network."""
    disks = flavors.disks_of(server, "root")
    if disks and not new["root_gb"]:
        least = max(1, _units(_total(disks), PARTS[0]))
        yield f"root_gb is 0, and the server has a local root {_disks(disks)} of {text.human_bytes(_total(disks))}: choose a flavor with at least {least} GiB"


def disks_do_not_shrink(server: Server, old: Flavor, new: Flavor) -> t.Iterator[str]:
    """Neither below the old flavor's figure nor below what a disk really has. A root or ephemeral disk on the network has no rule."""
    for part in PARTS[:2]:
        disks, wanted = flavors.disks_of(server, part.role), new[part.key]
        if not disks or (part.role == "root" and not wanted):
            continue
        has = _total(disks)
        if wanted * part.scale < has:
            yield (
                f"{part.key} is {wanted}, smaller than the {part.role} {_disks(disks)} of {text.human_bytes(has)}: disks do not shrink, "
                f"choose a flavor with at least {_units(has, part)} {part.unit}"
            )
        elif wanted < old[part.key]:
            yield f"{part.key} is {wanted}, smaller than {old[part.key]} of the flavor that the server has ({text.shown(old['name'])}): disks do not shrink"


def sizes_are_known(server: Server, _old: Flavor, _new: Flavor) -> t.Iterator[str]:
    """The files could be read."""
    for part in PARTS:
        for disk in flavors.disks_of(server, part.role):
            if disk.get("virtual_bytes") is None:
                yield f"{_name(disk)}: its virtual size is not known, so whether it must grow is not known either"


def parts_are_there(server: Server, _old: Flavor, new: Flavor) -> t.Iterator[str]:
    """A disk that the flavor gives a size is there to get it: a resize adds no device to a server."""
    for part in PARTS[1:]:
        if new[part.key] and not any(disk.get("role") == part.role for disk in server.get("disks", [])):
            yield (
                f"{part.key} is {new[part.key]}, but the server has no {part.role} disk: choose a flavor with {part.key} 0, or attach a disk first and give "
                f'it the role in the metadata of the domain (<disk target="…" role="{part.role}"/>)'
            )


def one_disk_takes_the_change(server: Server, _old: Flavor, new: Flavor) -> t.Iterator[str]:
    """Of several disks of a role, nobody has said which one is to change."""
    for part in PARTS:
        disks, wanted = flavors.disks_of(server, part.role), new[part.key]
        grows = wanted > _units(_total(disks), part)
        if len(disks) > 1 and (grows or (part.role == "swap" and wanted not in (0, _units(_total(disks), part)))):
            yield (
                f"{part.key} is {wanted} and the server has {len(disks)} {part.role} disks ({_listed(disks)}), together {text.human_bytes(_total(disks))}: "
                "which one is to change is not known. Change one with virt_resize_disk first, until they make what the flavor says"
            )


def disks_can_grow(server: Server, _old: Flavor, new: Flavor) -> t.Iterator[str]:
    """Their format allows it, and nothing in them keeps the old size. A swap disk is made anew, so it always can, but on a block device."""
    changed = sizes(server, new)
    for disk in server.get("disks", []):
        if disk.get("role") == "swap" and disk.get("target") in changed and is_device(disk):
            yield (
                f"{_name(disk)} is swap on the block device {text.shown(disk.get('path'))}, which cannot be made anew beside the old one: choose a flavor "
                f"with swap_mb {_units(_total([disk]), PARTS[2])}"
            )
        if disk.get("role") == "swap" or disk.get("target") not in changed:
            continue
        grow = f"{_name(disk)} would grow to {text.human_bytes(changed[disk['target']])}"
        if disk.get("format") not in FORMATS:
            yield f"{grow}, but disks of the format {text.quoted(disk.get('format'))} cannot: only {' and '.join(FORMATS)} can"
        if disk.get("readonly"):
            yield f"{grow}, but it is read-only"
        if "greatest_bytes" in disk and changed[disk["target"]] > disk["greatest_bytes"]:
            most = f"which has room for {text.human_bytes(disk['greatest_bytes'])} at most"
            yield f"{grow}, but it is on the block device {text.shown(disk.get('path'))}, {most}: extend the device, or its volume group, first"
        snapshots = int(disk.get("internal_snapshots") or 0)
        if snapshots:
            yield (
                f"{grow}, but there {'is 1 snapshot' if snapshots == 1 else f'are {snapshots} snapshots'} inside its file, which would bring the old size "
                f"back: delete with virsh snapshot-delete, or with the server off qemu-img snapshot -f {disk.get('format')} -d"
            )


def image_is_satisfied(server: Server, _old: Flavor, new: Flavor) -> t.Iterator[str]:
    """The least that the image asks for, if the metadata says it; its disk only if the root disk is a local one, as in Nova."""
    image = server.get("image") or {}
    memory, disk = int(image.get("min_ram_mb") or 0), int(image.get("min_disk_gb") or 0)
    if new["memory_mb"] < memory:
        yield f"memory_mb is {new['memory_mb']}, and the server's image needs at least {memory} MiB"
    if new["root_gb"] < disk and flavors.disks_of(server, "root"):
        yield f"root_gb is {new['root_gb']}, and the server's image needs at least {disk} GiB"


#: The one list of rules, in the order in which their reasons are listed.
RULES: tuple[t.Callable[[Server, Flavor, Flavor], t.Iterator[str]], ...] = (
    not_the_same,
    sizes_are_known,
    root_is_not_zero,
    disks_do_not_shrink,
    parts_are_there,
    one_disk_takes_the_change,
    disks_can_grow,
    image_is_satisfied,
)


def notes(server: Server, new: Flavor) -> list[str]:
    """What happens, or does not, that is easy to overlook."""
    found = [f"extra spec {text.quoted(key)} is kept with the flavor and has no effect here" for key in extra_specs.ignored(new["extra_specs"])]
    removed = [disk for disk in flavors.disks_of(server, "swap") if not new["swap_mb"]]
    return found + [f"{_name(disk)} is swap and will be removed, as the flavor has none: the guest must not wait for it at boot" for disk in removed]


# --- how large, how much


def sizes(server: Server, new: Flavor) -> dict[str, int]:
    """New virtual bytes by target, of the local disks whose size changes; 0 is a swap disk that is removed. What ``refusals`` refuses is left out."""
    found: dict[str, int] = {}
    for part in PARTS:
        disks, wanted = flavors.disks_of(server, part.role), new[part.key] * part.scale
        if part.role == "swap" and not wanted:
            found.update({disk["target"]: 0 for disk in disks})
        elif len(disks) == 1 and disks[0].get("virtual_bytes") is not None:
            now = _total(disks)
            if wanted > now or (part.role == "swap" and wanted < now):
                found[disks[0]["target"]] = wanted
    return found


def need(server: Server, new: Flavor, *, in_place: bool = False) -> Amount:
    """What the server takes on its next node with the new flavor.

    ``in_place``: that node is its own. A disk that gets another file then takes both: the new one can grow to its whole size, and the old one, which is
    kept, has the bytes that it has.
    """
    changed = sizes(server, new)
    # On its own node the overlay of a block device is a file like those of the others.
    disks = [disk for disk in server.get("disks", []) if capacity.moves(disk) or (in_place and is_device(disk) and gets_another_file(disk, changed))]
    disk_bytes = sum(changed.get(disk.get("target", ""), int(disk.get("virtual_bytes") or 0)) for disk in disks)
    if in_place:
        disk_bytes += sum(_allocated(disk) for disk in disks if gets_another_file(disk, changed))
    return {"vcpus": new["vcpus"], "memory_mb": new["memory_mb"], "disk_bytes": disk_bytes}


def gets_another_file(disk: Disk, changed: t.Container[str]) -> bool:
    """Whether the old file of a disk is kept beside a new one in a resize on the same node: all that the guest can write, of swap what changes."""
    return disk.get("target", "") in changed if disk.get("role") == "swap" else not disk.get("readonly")


def is_device(disk: Disk) -> bool:
    """Whether a disk is a block device of its node: it stays there, and can be resized there."""
    return disk.get("type") == "block" and disk.get("device", "disk") == "disk"


def source_need(server: Server) -> Amount:
    """What it takes where it is now, held there for the way back: what it is defined with, which need not be what its flavor says."""
    return capacity.need_of(server)


def shown(flavor: Flavor) -> str:
    """A flavor as people read it."""
    figures = [f"{flavor['vcpus']} vCPUs", f"{flavor['memory_mb']} MiB", f"root {flavor['root_gb']} GiB"]
    figures += [f"{role} {flavor[key]} {unit}" for role, key, unit, _scale in PARTS[1:] if flavor[key]]
    figures += [f"{key}={value}" for key, value in sorted(flavor["extra_specs"].items())]
    return text.shown(f"{flavor['name']} ({', '.join(figures)})")


def _allocated(disk: Disk) -> int:
    allocated, virtual = disk.get("allocated_bytes"), disk.get("virtual_bytes")
    return int((virtual or 0) if allocated is None else allocated)


def _total(disks: t.Iterable[Disk]) -> int:
    return sum(int(disk.get("virtual_bytes") or 0) for disk in disks)


def _units(size: int, part: Part) -> int:
    return -(-size // part.scale)


def _name(disk: Disk) -> str:
    return f"disk {text.shown(disk.get('target', '?'))}"


def _listed(disks: t.Iterable[Disk]) -> str:
    return ", ".join(text.shown(disk.get("target", "?")) for disk in disks)


def _disks(disks: t.Sequence[Disk]) -> str:
    return f"{'disk' if len(disks) == 1 else 'disks'} {_listed(disks)}"
