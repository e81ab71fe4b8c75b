# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes: what is understood means one thing only, and everything else is refused."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import growth
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

UNITS = {"": 0, "B": 0, "K": 1, "KiB": 1, "M": 2, "MiB": 2, "G": 3, "GiB": 3, "T": 4, "TiB": 4}
GIB = 1024**3
#: Written by people and programs who meant something that cannot be known, or that no disk can have.
REFUSED = [
    "10 GB", "10GB", "10 G", "10gb", "10g", "10k", "10Gb", "10P", "10Gi", "10 GiB", "10GIB", "10K iB", "10G ", " 10G", "10G\n",
    "-1", "-1G", "+-1G", "--1", "++5G", "+ 5G", "5G+", "+", "1e3", "1E3", "1.5G", "1,5G", "1_000", "0x10", "0b1", "010", "010G",
    "1G512M", "10G+5G", "G", "", " ", "ten", "None", "null", "True", "0", "0G", "+0", "+0G", "10%", "inf", "nan", "١٠G", "１０G", "10Ｇ",
    "1" * 30, 1.0, 10.5, float("inf"), True, None, [], {},
]  # fmt: skip


@given(count=st.integers(1, 10**9), unit=st.sampled_from(sorted(UNITS)), plus=st.booleans())
def test_what_is_written_is_what_is_meant(count: int, unit: str, plus: bool) -> None:
    assert growth.parse_size(f"{'+' if plus else ''}{count}{unit}") == growth.Size(count * 1024 ** UNITS[unit], plus)


@given(count=st.integers(1, 10**18))
def test_a_number_is_bytes(count: int) -> None:
    assert growth.parse_size(count) == growth.parse_size(str(count)) == growth.Size(count, False)


@given(text=st.text(max_size=12))
def test_any_text_is_a_size_or_one_clear_error(text: str) -> None:
    try:
        size = growth.parse_size(text)
    except ColdmoveError as exc:
        assert "\n" not in str(exc)
        assert "Nothing was changed" in str(exc)
    else:
        assert size.count_bytes > 0
        assert text.isascii()


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: t.Any) -> None:
    with pytest.raises(ColdmoveError, match=r"^the size .*like 10G.*Nothing was changed$"):
        growth.parse_size(text)


@pytest.mark.parametrize(("text", "word"), [("10 GB", "powers of 1000"), ("10gb", "powers of 1000"), ("-1", "never shrinks"), ("-5G", "never shrinks")])
def test_a_likely_slip_is_named(text: str, word: str) -> None:
    with pytest.raises(ColdmoveError, match=word):
        growth.parse_size(text)


@given(before=st.integers(0, 2**40).map(lambda sectors: sectors * 512), more=st.integers(1, 2**40).map(lambda sectors: sectors * 512))
def test_added_to_what_there_is(before: int, more: int) -> None:
    assert growth.Size(more, True).above(before) == before + more
    assert growth.Size(more, False).above(before) == more


@pytest.mark.parametrize(("size", "before"), [("1000", 0), ("+1", 512), ("+512", 1000), ("8388608T", 0), ("+4194304T", 2**62)])
def test_sizes_that_no_disk_can_have(size: str, before: int) -> None:
    with pytest.raises(ColdmoveError, match="no multiple of 512|more than any disk"):
        growth.parse_size(size).above(before)


@pytest.mark.parametrize(
    ("image_format", "image", "reason"),
    [
        ("raw", {}, None),
        ("raw", {"compat": None, "internal_snapshots": 0, "data_file": None, "encrypted": False, "corrupt": False}, None),
        ("qcow2", {"compat": "1.1", "internal_snapshots": 2}, None),
        ("qcow2", {"compat": "0.10", "internal_snapshots": 0}, None),
        ("qcow2", {"compat": "0.10", "internal_snapshots": 1}, "version 2 with snapshots"),
        ("qcow2", {"corrupt": True}, "marked as corrupt"),
        ("qcow2", {"encrypted": True}, "encrypted"),
        ("qcow2", {"data_file": "/x"}, "in another file, /x"),
        ("vmdk", {}, "only raw and qcow2"),
        ("", {}, "only raw and qcow2"),
    ],
)
def test_which_images_grow(image_format: str, image: dict[str, t.Any], reason: str | None) -> None:
    said = growth.cannot_grow("disk vda", image_format, image)
    assert (said is None) == (reason is None)
    assert (reason or "") in (said or "")


@given(before=st.integers(0, 2**60), wanted=st.integers(0, 2**60))
def test_only_smaller_is_shrinking(before: int, wanted: int) -> None:
    said = growth.shrinks("disk vda", before, wanted)
    assert (said is not None) == (wanted < before)
    assert said is None or (str(before) in said and str(wanted) in said)
