# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What every filter of the collection does with what comes in and what goes out."""

from __future__ import annotations

import functools
import typing as t
from collections.abc import Callable, Mapping

import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic import inputs
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

P = t.ParamSpec("P")


def guarded(function: Callable[P, t.Any]) -> Callable[P, t.Any]:
    """Refusals become AnsibleFilterError with one clear line; results are plain values only."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> t.Any:
        try:
            return plain(function(*args, **kwargs))
        except ColdmoveError as exc:
            raise AnsibleFilterError(str(exc)) from exc

    return call


def plain(value: t.Any) -> t.Any:
    """A copy made of str, int, float, bool, None, list and dict: without Ansible's tags and lazy templates."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(element) for key, element in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(element) for element in value]
    return str(value)


def a_dict(value: t.Any, name: str) -> dict[str, t.Any]:
    """``value`` as a plain dict, or one clear error that names the argument."""
    if not isinstance(value, Mapping):
        raise AnsibleFilterError(f"{name} must be a dictionary, not {type(value).__name__}")
    return t.cast("dict[str, t.Any]", plain(value))


def as_written(value: t.Any) -> t.Any:
    """``value`` as plain values; a mapping may have come as YAML or JSON text, from a survey or ``-e name=value``.

    Whatever stands in such text stays text: YAML would read 010 as 8 and 1:30 as 90. What cannot be read as a mapping stays one text.
    """
    if not isinstance(value, str) or ":" not in value:
        return plain(value)
    try:
        found = yaml.load(value, Loader=yaml.BaseLoader)  # builds nothing but text, lists and mappings
    except yaml.YAMLError:
        found = None
    return plain(found if isinstance(found, Mapping) else value)


def a_list(value: t.Any, name: str) -> list[t.Any]:
    """``value`` as a plain list (None is an empty one), or one clear error that names the argument."""
    if value is None:
        return []
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise AnsibleFilterError(f"{name} must be a list, not {type(value).__name__}")
    return [plain(element) for element in value]


def dicts(value: t.Any, name: str) -> list[dict[str, t.Any]]:
    """``value`` as a plain list of dicts."""
    elements = a_list(value, name)
    if not all(isinstance(element, dict) for element in elements):
        raise AnsibleFilterError(f"{name} must be a list of dictionaries")
    return elements


def text_or_empty(value: t.Any) -> str:
    """An optional string: None is not given, and neither is an empty one."""
    return "" if value is None else str(value).strip()


def a_number(value: t.Any, name: str, default: float) -> float:
    """A number, 0 or more, that may come as a string (``default`` if it is not given), or one clear error that names the argument."""
    try:
        return inputs.number(value) if inputs.given(value) else default
    except ValueError as exc:
        raise AnsibleFilterError(f"{name} is {value!r}: {exc}") from None


def names(value: t.Any) -> list[str]:
    """Names as a list, or as a string with commas between them; None and an empty string are none."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [str(element) for element in a_list(value, "the list of names")]
