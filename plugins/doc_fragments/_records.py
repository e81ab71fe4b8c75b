# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description:
      - The record store as a database URL, like V(postgresql+psycopg://coldmove@db.example.com/coldmove).
      - Both C(psycopg) and C(psycopg2) serve such a URL, whichever is installed.
      - Empty means the SQLite file O(path).
    type: str
    default: ""
  path:
    description:
      - The SQLite file that is the record store when O(url) is empty. It must lie on a local file system.
      - The file is created with mode V(0600), its directory with mode V(0700).
    type: path
    default: /var/lib/coldmove/records.sqlite
requirements:
  - SQLAlchemy 1.4 or newer
  - psycopg (with SQLAlchemy 2.0 or newer) or psycopg2, for a PostgreSQL O(url)
"""
