# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Flavors: what an operator writes, as one whole flavor or as all that is wrong with it; and the flavor that a server has now.

A flavor is whole, as in Nova: what it leaves out of ``root_gb``, ``ephemeral_gb`` and ``swap_mb`` is 0, and without ``extra_specs`` it has none.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import extra_specs, inputs, text
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.capacity import GIB, moves
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.types import Disk, Flavor, Server

MIB = 1024**2

#: The name of a flavor that was given as a mapping, and of one that was read from a definition. Both may also be names in ``flavors``.
INLINE = "custom"
DERIVED = "as-defined"

#: So many names fit into one sentence.
NAMES_IN_MESSAGE = 30
NAME_CHARACTERS = 255


class Figure(t.NamedTuple):
    """One number of a flavor. ``most`` is beyond any machine: more than that is a slip in the unit."""

    unit: str
    least: int
    most: int


FIGURES: t.Mapping[str, Figure] = {
    "vcpus": Figure("", 1, 4096),
    "memory_mb": Figure("MiB", 1, 2**26),
    "root_gb": Figure("GiB", 0, 2**20),
    "ephemeral_gb": Figure("GiB", 0, 2**20),
    "swap_mb": Figure("MiB", 0, 2**26),
}
REQUIRED = ("vcpus", "memory_mb")
KEYS = ("name", *FIGURES, "extra_specs", "disabled")

#: What people write who know Nova's command line. The units are the same.
_NOVA_WORDS = {"ram": "memory_mb", "memory": "memory_mb", "disk": "root_gb", "root": "root_gb", "ephemeral": "ephemeral_gb", "swap": "swap_mb"}
_NOVA_WORDS.update({"cpus": "vcpus", "cpu": "vcpus", "properties": "extra_specs", "property": "extra_specs"})


class Parsed(t.NamedTuple):
    """The flavor, or (None) all that is wrong with what was given."""

    flavor: Flavor | None
    errors: list[str]


# --- what an operator writes


def parse(asked: t.Any, flavors: t.Any) -> Parsed:
    """The flavor that ``asked`` stands for: a name in ``flavors`` (mapping of name to flavor), or a flavor itself, as a mapping."""
    if not inputs.given(asked) or asked == {}:
        return Parsed(None, ["flavor is not given: it must be the name of a flavor, or a flavor as a mapping"])
    if inputs.given(flavors) and not isinstance(flavors, t.Mapping):
        return Parsed(None, [f"flavors is {_kind(flavors)}: it must be a mapping of names to flavors"])
    known = _keys_as_text(flavors) if isinstance(flavors, t.Mapping) else {}
    parsed = _parse_inline(asked, known) if isinstance(asked, t.Mapping) else _parse_named(asked, known)
    return parsed if parsed.flavor else Parsed(None, [*parsed.errors, _names(known, asked)])


def _parse_named(asked: t.Any, known: t.Mapping[str, t.Any]) -> Parsed:
    if isinstance(asked, bool) or not isinstance(asked, (str, int)):
        return Parsed(None, [f"flavor is {_kind(asked)}: it must be the name of a flavor, or a flavor as a mapping"])
    name = str(asked).strip()
    what = f"flavor {text.quoted(name)}"
    if name not in known and name.startswith("{"):
        return Parsed(None, [f"""{what} cannot be read as a mapping. On the command line write it as JSON: -e '{{"flavor": {{"vcpus": 2, …}}}}'"""])
    if name not in known:
        close = text.close_to(name, _usable(known))
        return Parsed(None, [f"{what} is not known{' (did you mean ' + text.shown(close[0]) + '?)' if close else ''}"])
    if not isinstance(known[name], t.Mapping):
        return Parsed(None, [f"{what} is {_kind(known[name])}: it must be a mapping"])
    return _parse_mapping({"name": name, **_keys_as_text(known[name])}, what, name)


def _parse_inline(asked: t.Mapping[t.Any, t.Any], known: t.Mapping[str, t.Any]) -> Parsed:
    """A mapping must not bear the name of another flavor: the server's metadata would say that it has that one."""
    values = _keys_as_text(asked)
    if not inputs.given(values.get("name")):
        return _parse_mapping({**values, "name": INLINE}, "flavor", INLINE)
    parsed = _parse_mapping(values, "flavor", None)
    name = str(values["name"]).strip()
    if parsed.flavor and name in known and parse(name, known).flavor != parsed.flavor:
        return Parsed(None, [f"flavor: its name is {text.quoted(name)}, but the flavor of that name in flavors is another one: leave the name out"])
    return parsed


def _parse_mapping(values: t.Mapping[str, t.Any], what: str, name: str | None) -> Parsed:
    """``name`` is what the name must be, if that is known."""
    errors = [_unknown_key(key) for key in values if key not in KEYS]
    figures: dict[str, int] = {}
    for key in FIGURES:
        try:
            figures[key] = _figure(key, values.get(key))
        except ValueError as exc:
            errors.append(str(exc))
    specs: dict[str, str] = {}
    try:
        specs = _specs(values.get("extra_specs"))
        sized = all(key in figures for key in REQUIRED)
        errors += extra_specs.problems(specs, figures["vcpus"], figures["memory_mb"]) if sized else extra_specs.parse(specs)[1]
    except ValueError as exc:
        errors.append(str(exc))
    errors += _name_problems(values.get("name"), name) + _disabled_problems(values.get("disabled"))
    if errors:
        return Parsed(None, [f"{what}: {error}" for error in errors])
    return Parsed(t.cast("Flavor", {"name": str(values["name"]).strip(), **figures, "extra_specs": specs}), [])


def _figure(key: str, value: t.Any) -> int:
    if not inputs.given(value):
        if key in REQUIRED:
            raise ValueError(f"{key} is missing")
        return 0
    try:
        return inputs.figure(value, *FIGURES[key])
    except ValueError as exc:
        raise ValueError(f"{key} is {text.shown(repr(value)[:80])}: {exc}") from None


def _specs(value: t.Any) -> dict[str, str]:
    """Text to text. What YAML has made a number or a boolean of becomes text again."""
    if not inputs.given(value):
        return {}
    if not isinstance(value, t.Mapping):
        raise ValueError(f"extra_specs is {_kind(value)}: it must be a mapping")
    found = {}
    for key, entry in value.items():
        if not isinstance(entry, (str, int, float)):
            raise ValueError(f"extra spec {text.quoted(key)} is {_kind(entry)}: it must be text")
        found[str(key)] = str(entry).lower() if isinstance(entry, bool) else str(entry)
        if _unprintable(str(key)) or _unprintable(found[str(key)]) or not str(key).strip():
            raise ValueError(f"extra spec {text.quoted(key)}: its name is empty, or there are control characters in it")
    return found


def _name_problems(name: t.Any, expected: str | None) -> list[str]:
    shown = f"its name is {text.shown(repr(name))}"
    if isinstance(name, bool) or not isinstance(name, (str, int)) or _unprintable(str(name)) or len(str(name).strip()) > NAME_CHARACTERS:
        return [f"{shown}: it must be text without control characters, of at most {NAME_CHARACTERS} characters"]
    if expected is not None and str(name).strip() != expected:
        return [f"{shown}: leave it out, or write the one that it has in flavors"]
    return []


def _disabled_problems(value: t.Any) -> list[str]:
    if not inputs.given(value):
        return []
    try:
        return ["it is disabled: servers keep it, but none can be resized to it"] if inputs.boolean(value) else []
    except ValueError as exc:
        return [f"disabled is {text.shown(repr(value))}: {exc}"]


def _unknown_key(key: str) -> str:
    close = [_NOVA_WORDS[key.casefold()]] if key.casefold() in _NOVA_WORDS else text.close_to(key, KEYS)
    return f"unknown key {text.quoted(key)}{' (did you mean ' + close[0] + '?)' if close else ''}: the keys are {', '.join(KEYS)}"


def _names(known: t.Mapping[str, t.Any], asked: t.Any) -> str:
    """What there is to choose from, what was probably meant first."""
    names = _usable(known)
    if not names:
        return "there is no flavor in flavors that can be used"
    close = text.close_to(asked, names) if isinstance(asked, str) else []
    listed = [text.shown(name) for name in [*close, *(name for name in names if name not in close)]]
    more = f" and {len(listed) - NAMES_IN_MESSAGE} more" if len(listed) > NAMES_IN_MESSAGE else ""
    return f"the flavors are {', '.join(listed[:NAMES_IN_MESSAGE])}{more}"


def _usable(known: t.Mapping[str, t.Any]) -> list[str]:
    return sorted(name for name, value in known.items() if isinstance(value, t.Mapping) and not _disabled_problems(value.get("disabled")))


def _keys_as_text(value: t.Mapping[t.Any, t.Any]) -> dict[str, t.Any]:
    return {str(key): entry for key, entry in value.items()}


def _unprintable(value: str) -> bool:
    return text.shown(value) != value


def _kind(value: t.Any) -> str:
    if isinstance(value, t.Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple, set)):
        return "a list"
    return text.shown(repr(value))


# --- what a server has


def current_of(server: Server) -> Flavor:
    """The flavor in the server's metadata; what that does not say (all of it, for a server never resized before) as the definition has it."""
    stated: t.Mapping[str, t.Any] = server.get("flavor") or {}
    found = derived_of(server)
    for key, figure in FIGURES.items():
        value = stated.get(key)
        if isinstance(value, int) and value >= figure.least:
            found[key] = value  # type: ignore[literal-required]
    if stated.get("name"):
        found["name"] = str(stated["name"])
    if stated:
        found["extra_specs"] = dict(stated.get("extra_specs") or {})
    return found


def derived_of(server: Server) -> Flavor:
    """The smallest flavor that the server as it is defined fits into."""
    return {
        "name": DERIVED,
        "vcpus": int(server.get("vcpus") or 0),
        "memory_mb": int(server.get("memory_mb") or 0),
        "root_gb": _whole_units(server, "root", GIB),
        "ephemeral_gb": _whole_units(server, "ephemeral", GIB),
        "swap_mb": _whole_units(server, "swap", MIB),
        "extra_specs": _derived_specs(server),
    }


def is_unnamed(flavor: Flavor) -> bool:
    """Whether nobody has given it a name that could tell it from another of the same values."""
    return flavor["name"] in (INLINE, DERIVED)


def disks_of(server: Server, role: str) -> list[Disk]:
    """The server's own local disks of this role. What comes over the network has its size from elsewhere and is not a flavor's business."""
    return [disk for disk in server.get("disks", []) if disk.get("role") == role and (moves(disk) or disk.get("type") == "block")]


def _whole_units(server: Server, role: str, unit: int) -> int:
    """The virtual sizes of the disks of this role together, in units of so many bytes, rounded up."""
    return -(-sum(int(disk.get("virtual_bytes") or 0) for disk in disks_of(server, role)) // unit)


def _derived_specs(server: Server) -> dict[str, str]:
    """Only what a flavor without it takes away again. NUMA cells and huge pages of its own a server keeps, see ``domain_resources``."""
    vcpus = int(server.get("vcpus") or 0)
    specs: dict[str, str] = {}
    shape = server.get("topology") or {}
    counts = [int(shape.get(key.rpartition("_")[2]) or 0) for key in extra_specs.TOPOLOGY]
    # Dies and clusters have no extra spec: a topology with several of them is not made of these three.
    if math.prod(counts) == vcpus:
        specs.update({key: str(count) for key, count in zip(extra_specs.TOPOLOGY, counts)})
    if _all_pinned(server.get("pins") or {}, vcpus):
        specs["hw:cpu_policy"] = "dedicated"
    return specs


def _all_pinned(pins: t.Mapping[t.Any, t.Any], vcpus: int) -> bool:
    """Every vCPU on exactly one CPU, and no two on the same."""
    places = [str(pins.get(str(vcpu), pins.get(vcpu, ""))) for vcpu in range(vcpus)]
    return vcpus > 0 and all(place.isdecimal() for place in places) and len(set(places)) == vcpus
