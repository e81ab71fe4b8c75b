# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words for people, and command lines for shells, with hostile names."""

from __future__ import annotations

import json
import shlex
import unicodedata

import pytest
from ansible.parsing.splitter import parse_kv
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import text

UUID = "00000000-0000-4000-8000-000000000001"


def as_ansible_reads(line: str) -> str:
    """The server that a shell and then ansible-playbook make of a command line."""
    program, playbook, option, value = shlex.split(line)
    assert (program, playbook, option) == ("ansible-playbook", "coldmove.libvirt.confirm", "-e")
    if value.startswith("{"):
        (server,) = json.loads(value)["server"]
        return server
    return parse_kv(value)["server"]


@given(st.text(min_size=1))
def test_a_command_names_exactly_this_server_whatever_its_name(name):
    assert as_ansible_reads(text.command("confirm", name, UUID)) in (name, UUID)


@pytest.mark.parametrize("name", ["web1", "web-1.example.org", "web 1", "it's", "a,b", "ü", "a/b", "$(reboot)", "-x", "a=b"])
def test_ordinary_and_odd_names_stay_names(name):
    assert as_ansible_reads(text.command("confirm", name, UUID)) == name


@pytest.mark.parametrize("name", ["{{ lookup('pipe', 'id') }}", "{% x %}", "a\x1bb", "a\nb", "\u202eab", ""])
def test_templates_and_control_characters_are_named_by_uuid(name):
    assert as_ansible_reads(text.command("confirm", name, UUID)) == UUID


@given(st.text())
def test_nothing_shown_controls_a_terminal(value):
    assert not [character for character in text.shown(value) if unicodedata.category(character)[0] == "C" or character in "\u2028\u2029"]


def test_ordinary_unicode_is_shown_as_it_is():
    assert text.shown("naïve 日本 🐧") == "naïve 日本 🐧"
    assert text.shown("a\x1b[2J") == r"a\x1b[2J"


@pytest.mark.parametrize(
    ("count", "expected"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (10 * 1024**3, "10.0 GiB"), (2**60, "1024.0 PiB")],
)
def test_sizes(count, expected):
    assert text.human_bytes(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "-"), (0.74, "0.7 s"), (-1, "0.0 s"), (59, "59 s"), (61, "1 min 01 s"), (3599.6, "1 h 00 min"), (7260, "2 h 01 min"), (90000, "1 d 01 h")],
)
def test_times(seconds, expected):
    assert text.human_seconds(seconds) == expected


def test_close_words_ignore_case():
    assert text.close_to("WEB1", ["web1", "db"]) == ["web1"]
    assert text.close_to("zzz", ["web1"]) == []
