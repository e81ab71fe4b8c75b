# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Ansible's part of a module, and how its files are imported. Every module imports this before anything else of its own.

Ansible sends a module and all that it imports as one zip. To tell where a file of a zip lies, Python's zipimport compiles it, and then once more to run it
(``zipimporter.get_filename()`` and ``get_code()``, Python 3.9 to 3.13 at least); of neither it keeps anything. That is a good part of the CPU time of every
call, and of a move some of it is downtime. Here the place is told without compiling.
"""

from __future__ import annotations

import sys
import typing as t
import zipimport


class _Importer(zipimport.zipimporter):
    """The one of Python, for the files of one zip."""

    def get_filename(self, fullname: str) -> str:
        """Where a module lies: ``ARCHIVE/PACKAGE/NAME.py``. Raises zipimport.ZipImportError if it is not there."""
        inner = "/__init__.py" if self.is_package(fullname) else ".py"
        return f"{self.archive}/{self.prefix}{fullname.rpartition('.')[2]}{inner}"


def _compile_once(loader: t.Any) -> None:
    """From now on, for everything that comes from the zip of this loader; what was imported before stays as it is."""
    if not isinstance(loader, zipimport.zipimporter):
        return  # not sent by Ansible: a test, or documentation

    def importer(path: str) -> _Importer:
        if not path.startswith(loader.archive):
            raise ImportError(path)
        return _Importer(path)

    sys.path_hooks.insert(0, importer)
    for path in [path for path in sys.path_importer_cache if path.startswith(loader.archive)]:
        del sys.path_importer_cache[path]


_compile_once(__spec__.loader)

from ansible.module_utils.basic import AnsibleModule, missing_required_lib  # noqa: E402 - comes in the zip as well

__all__ = ["AnsibleModule", "missing_required_lib"]
