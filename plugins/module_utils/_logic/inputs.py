# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What operators write: variables of verbs and of nodes. From surveys and ``-e`` all of it comes as strings; an empty string is not given."""

from __future__ import annotations

import math
import re
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import devices, text

Convert = t.Callable[[t.Any], t.Any]

#: Whether disks are copied while the guest runs: where that can be, or not at all, or else nothing is moved.
PRECOPY = ("auto", "always", "never")
#: Whether a cold copy is compressed on the wire.
COMPRESSIONS = ("none", "zstd", "auto")

_TRUE = ("true", "yes", "on", "y", "t", "1")
_FALSE = ("false", "no", "off", "n", "f", "0")
_CIPHER = re.compile(r"[a-z0-9][a-z0-9.-]*(@[a-z0-9][a-z0-9.-]*)?")
# A leading zero would be octal in some of the places where a number can be written.
_FIGURE = re.compile(r"-?(?:0|[1-9][0-9]*)")


def given(value: t.Any) -> bool:
    """Whether there is a value at all."""
    return not (value is None or (isinstance(value, str) and not value.strip()))


def boolean(value: t.Any) -> bool:
    """True or false, in any of Ansible's words for them."""
    word = str(value).strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError("it must be a boolean (true or false)")
    return word in _TRUE


def number(value: t.Any) -> float:
    """A number, 0 or more."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found) or found < 0:
        raise ValueError("it must be a number, 0 or more")
    return found


def seconds(value: t.Any) -> float:
    """A time."""
    try:
        return number(value)
    except ValueError:
        raise ValueError("it must be a number of seconds, 0 or more") from None


def whole(value: t.Any) -> int:
    """A whole number, 0 or more."""
    found = number(value)
    if found != int(found):
        raise ValueError("it must be a whole number")
    return int(found)


def positive(value: t.Any) -> int:
    """A whole number, 1 or more."""
    found = whole(value)
    if not found:
        raise ValueError("it must be more than 0")
    return found


def figure(value: t.Any, unit: str, least: int, most: int) -> int:
    """A whole number of a unit that is not written. Nothing is guessed: no ``10 GB``, no ``1e3``. Of 4 / 2, Jinja makes 2.0, which is right."""
    written = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    of_unit = f" of {unit}, without a unit" if unit else ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not _FIGURE.fullmatch(written):
        raise ValueError(f"it must be a whole number{of_unit}, {least} or more")
    # Not converted before its length is known: Python refuses to convert thousands of digits.
    if len(written) > len(str(most)) + 1 or int(written) > most:
        raise ValueError(f"it must be at most {most}{f' {unit} (is the unit right?)' if unit else ''}")
    if int(written) < least:
        raise ValueError(f"it must be a whole number{of_unit}, {least} or more")
    return int(written)


def ratio(value: t.Any) -> float:
    """A number that can be divided by."""
    found = number(value)
    if not found:
        raise ValueError("it must be more than 0")
    return found


def port(value: t.Any) -> int:
    """A port of TCP."""
    if not str(value).strip().isdecimal() or not 0 < int(value) < 65536:
        raise ValueError("a number from 1 to 65535 is needed")
    return int(value)


def rate(value: t.Any) -> str:
    """Bytes, perhaps with a unit, as Ansible's human_to_bytes takes them; at least one."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *(?:([KMGT])i?)?B?", str(value).strip(), re.IGNORECASE)
    if isinstance(value, bool) or not found:
        raise ValueError("it must be a number of bytes a second, like 50M")
    if round(float(found[1]) * 1024 ** "BKMGT".index((found[2] or "B").upper())) < 1:
        raise ValueError("nothing would ever arrive with that limit; leave it out for no limit")
    return str(value)


def precopy(value: t.Any) -> str:
    """Whether disks are copied while the guest runs."""
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in PRECOPY:
        raise ValueError(f"it must be one of {', '.join(PRECOPY)}")
    return word


def words(value: t.Any) -> list[str]:
    """A list, or one with commas."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    if isinstance(value, t.Mapping) or not hasattr(value, "__iter__"):
        raise ValueError("it must be a list or a comma list")
    return [str(word) for word in value]


def ciphers(value: t.Any) -> list[str]:
    """Names of ssh's ciphers, the preferred one first. Nothing that ssh would take for more than a name: no ``+``, ``^`` or ``-`` in front, no pattern."""
    names = words(value)
    if not names or not all(_CIPHER.fullmatch(name) for name in names):
        raise ValueError("it must be names of ssh's ciphers, like aes128-gcm@openssh.com; 'ssh -Q cipher' lists those of a node")
    return names


def compression(value: t.Any) -> str:
    """Whether what crosses the wire is compressed."""
    word = str(value).strip()
    if word not in COMPRESSIONS:
        raise ValueError(f"it must be one of {', '.join(COMPRESSIONS)}")
    return word


def one_word(value: t.Any) -> str:
    """One name."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("it must be one name")
    return str(value)


def account(value: t.Any) -> str:
    """An account in a guest: the agent hands user and password on in one line, with a colon between them."""
    name = one_word(value).strip()
    if not name or re.search(r"[:\x00-\x1f\x7f]", name):
        raise ValueError("it must be the name of an account, without a colon")
    return name


def password(value: t.Any) -> str:
    """A password; what is said of a wrong one does not repeat it."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("it must be one password, in quotes")
    if not str(value) or re.search(r"[\x00\r\n]", str(value)):
        raise ValueError("it must be one line that is not empty")
    return str(value)


def names_of_servers(value: t.Any) -> t.Any:
    """``server`` has a shape that can be looked up; whom it names is not known here."""
    elements = value if isinstance(value, (list, tuple)) else [value]
    for element in elements:
        if isinstance(element, bool) or not isinstance(element, (str, int)):
            raise ValueError("it must be a name, a UUID, a comma list or a list of these")
    if not any(re.sub(r"[\s,]", "", str(element)) for element in elements):
        raise ValueError("it names nobody")
    return value


#: Every variable of a verb that has a shape.
OF_VERBS: t.Mapping[str, Convert] = {
    "server": names_of_servers,
    "target_host": one_word,
    "failed_host": one_word,
    "accept_mass_failure": boolean,
    "accept_lost_disks": words,
    "evacuate_batch": positive,
    "admin_password": password,
    "admin_user": account,
    "admin_password_timeout": seconds,
    "host": one_word,
    "older_than": seconds,
    "accept_lost_writes": boolean,
    "verify": boolean,
    "grow_filesystem": boolean,
    "shutdown_timeout": whole,
    "shutdown_retry_interval": positive,
    "stall_timeout": positive,
    "bandwidth_limit": rate,
    "dest_devices": devices.parse,
    "precopy": precopy,
    "precopy_timeout": positive,
    "ciphers": ciphers,
    "transfer_slots": positive,
    "compression": compression,
}

#: Of these the value is never shown.
SECRETS = ("admin_password",)

#: Every variable of a node that has a shape.
OF_NODES: t.Mapping[str, Convert] = {
    "maintenance": boolean,
    "forced_down": boolean,
    "availability_zone": one_word,
    "traits": words,
    "cpu_allocation_ratio": ratio,
    "ram_allocation_ratio": ratio,
    "disk_allocation_ratio": ratio,
    "reserved_memory_mb": whole,
    "reserved_disk_gb": number,
    "migration_address": one_word,
    "migration_port": port,
    "ciphers": ciphers,
    "transfer_slots": positive,
}


def malformed(variables: t.Mapping[str, t.Any], kinds: t.Mapping[str, Convert], where: str = "") -> list[str]:
    """One sentence for each variable that is given and is not what it must be."""
    found = []
    for name, convert in kinds.items():
        value = variables.get(name)
        if not given(value):
            continue
        try:
            convert(value)
        except (TypeError, ValueError) as exc:
            told = "malformed" if name in SECRETS else text.shown(repr(value))
            found.append(f"{where + ': ' if where else ''}{name} is {told}: {exc}")
    return found
