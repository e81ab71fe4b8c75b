# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Words for people: names that may be hostile, sizes, times, commands that can be pasted into a shell."""

from __future__ import annotations

import difflib
import json
import re
import shlex
import typing as t
import unicodedata

_SIMPLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@:-]*")


def shown(value: t.Any) -> str:
    """A name as it may be printed: control, format and separator characters (newlines, escapes, text direction) as escapes."""
    return "".join(_shown_character(character) for character in str(value))


def _shown_character(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] == "C" or category in ("Zl", "Zp"):
        return character.encode("unicode_escape", "backslashreplace").decode("ascii")
    return character


def quoted(value: t.Any) -> str:
    """A name within a sentence."""
    return f"'{shown(value)}'"


def close_to(word: str, known: t.Iterable[str]) -> list[str]:
    """Known words that ``word`` may be a slip for, best first."""
    by_folded: dict[str, str] = {}
    for name in known:
        by_folded.setdefault(name.casefold(), name)
    return [by_folded[match] for match in difflib.get_close_matches(word.casefold(), list(by_folded), n=3, cutoff=0.6)]


def extra_var(name: str, value: str) -> str:
    """``-e`` and its argument, safe for the shell and for Ansible's own splitting of ``key=value``."""
    if _SIMPLE.fullmatch(value):
        return f"-e {name}={value}"
    # As YAML or JSON, Ansible neither splits the value at blanks nor (a list element) at commas.
    return f"-e {shlex.quote(json.dumps({name: [value] if name == 'server' else value}, ensure_ascii=False))}"


def command(playbook: str, server_name: str = "", server_uuid: str = "", **variables: str) -> str:
    """The command line of a verb. A server whose name Ansible would read as a template, or that has control characters, is named by its UUID."""
    words = [f"ansible-playbook coldmove.libvirt.{playbook}"]
    if server_name or server_uuid:
        hostile = not server_name or "{" in server_name or shown(server_name) != server_name
        words.append(extra_var("server", server_uuid if hostile and server_uuid else server_name))
    words += [extra_var(name, value) for name, value in variables.items()]
    return " ".join(words)


def human_bytes(count: float | None) -> str:
    """Bytes as people read them."""
    if count is None:
        return "-"
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while abs(value) >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def human_seconds(seconds: float | None) -> str:
    """Seconds as people read them."""
    if seconds is None:
        return "-"
    value = max(0.0, float(seconds))
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"
