# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""Which servers of this node the records know: whoever knows a server may have it elsewhere by the time this node is up again.

One empty file per server, for the guard. It is there before the server is defined here by a migration, and before the record store is told
that the server is here; so a boot at which the records host does not answer needs no answer from before to be safe.
"""

from __future__ import annotations

import typing as t
import uuid as uuidlib
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._node import paths
from ansible_collections.coldmove.libvirt.plugins.module_utils._node.journal import sync_directory


def folder() -> Path:
    """Where the files are; the guard has the same path."""
    return paths.STATE_DIR / "known"


def note(server_uuids: t.Iterable[str], dry_run: bool = False) -> bool:
    """Note these servers durably; True if one of them is new. Raises ColdmoveError if it cannot be written: then nobody may rely on it."""
    # The UUID becomes a file's name: nothing but a UUID gets there.
    wanted = [folder() / str(uuidlib.UUID(server_uuid)) for server_uuid in server_uuids]
    missing = [path for path in wanted if not path.exists()]
    if missing and not dry_run:
        try:
            _make(missing)
        except OSError as exc:
            raise ColdmoveError(f"cannot write {folder()}: {exc.strerror}. Make room or mend the file system, then run the same command again") from exc
    return bool(missing)


def _make(files: t.Sequence[Path]) -> None:
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in files:
        path.touch(mode=0o600)
    sync_directory(folder())
    sync_directory(folder().parent)
