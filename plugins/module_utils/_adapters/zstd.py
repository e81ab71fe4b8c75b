# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""libzstd by its oldest and simplest functions. It is on every node, as qemu-img stands on it; the program ``zstd`` cannot be told to let a piece go
at once, and the Python package is not in the distributions of all nodes."""

from __future__ import annotations

import ctypes
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

_LEVEL = 1  # the fastest but one; higher ones gain little on disks and are slower than a link of 1 Gbit/s
_NAME = "libzstd.so.1"


def _library() -> t.Any:
    try:
        library = ctypes.CDLL(_NAME)
    except OSError as exc:
        raise ColdmoveError(f"compression needs {_NAME}, which cannot be loaded on this node: {exc}") from exc
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    for name, result, arguments in (
        ("ZSTD_compressBound", size, [size]),
        ("ZSTD_isError", ctypes.c_uint, [size]),
        ("ZSTD_getErrorName", ctypes.c_char_p, [size]),
        ("ZSTD_createCCtx", pointer, []),
        ("ZSTD_freeCCtx", size, [pointer]),
        ("ZSTD_compressCCtx", size, [pointer, pointer, size, ctypes.c_char_p, size, ctypes.c_int]),
        ("ZSTD_createDCtx", pointer, []),
        ("ZSTD_freeDCtx", size, [pointer]),
        ("ZSTD_decompressDCtx", size, [pointer, pointer, size, ctypes.c_char_p, size]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Compressor:
    """Makes pieces of at most ``most`` bytes smaller, each on its own. For one thread."""

    def __init__(self, most: int) -> None:
        self._library = _library()
        self._context = self._library.ZSTD_createCCtx()
        self._room = ctypes.create_string_buffer(self._library.ZSTD_compressBound(most))

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._library.ZSTD_freeCCtx(self._context)

    def compress(self, piece: bytes) -> bytes:
        """The piece, compressed."""
        length = self._library.ZSTD_compressCCtx(self._context, self._room, len(self._room), piece, len(piece), _LEVEL)
        return _content(self._library, self._room, length)


class Decompressor:
    """Makes of what a Compressor made the piece that it was, of at most ``most`` bytes. For one thread."""

    def __init__(self, most: int) -> None:
        self._library = _library()
        self._context = self._library.ZSTD_createDCtx()
        self._room = ctypes.create_string_buffer(most)

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._library.ZSTD_freeDCtx(self._context)

    def decompress(self, packed: bytes) -> bytes:
        """The piece. Raises ColdmoveError if it is none, or larger."""
        length = self._library.ZSTD_decompressDCtx(self._context, self._room, len(self._room), packed, len(packed))
        return _content(self._library, self._room, length)


def _content(library: t.Any, room: t.Any, length: int) -> bytes:
    if library.ZSTD_isError(length):
        raise ColdmoveError(f"zstd: {library.ZSTD_getErrorName(length).decode()}")
    return bytes(memoryview(room)[:length])
