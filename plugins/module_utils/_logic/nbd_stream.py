# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What passes by in an NBD connection: how many requests the client has made, how many the server has answered, and the first error that it told.

Only the framing is read (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md), content is skipped. Fixed newstyle negotiation.
"""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError

_OPTION = struct.Struct(">QII")  # magic, option, length
_OPTION_MAGIC = 0x49484156454F5054
_OPTIONS_THAT_END = (1, 7)  # NBD_OPT_EXPORT_NAME, NBD_OPT_GO
_REQUEST = struct.Struct(">IHHQQI")  # magic, flags, type, handle, offset, length
_REQUEST_MAGIC = 0x25609513
_WRITE, _DISCONNECT = 1, 2

_GREETING_BYTES = 18
_OPTION_REPLY = struct.Struct(">QIII")  # magic, option, type, length
_OPTION_REPLY_MAGIC = 0x0003E889045565A9
_GO, _ACK = 7, 1
_REPLY = struct.Struct(">IIQ")  # magic, error, handle
_REPLY_MAGIC = 0x67446698
_CHUNK = struct.Struct(">IHHQI")  # magic, flags, type, handle, length
_CHUNK_MAGIC = 0x668E33EF
_CHUNK_IS_LAST, _CHUNK_IS_ERROR = 1, 1 << 15

#: NBD's error numbers are these of Linux.
NO_SPACE = 28

Data = t.Union[bytes, memoryview]


class _Stream:
    """Takes pieces of any length; hands each header to the state that waits for it, and skips what no state wants to see."""

    def __init__(self, first: t.Callable[[bytes], None], length: int) -> None:
        self._buffer = bytearray()
        self._skip = 0
        self._expect(first, length)

    def _expect(self, state: t.Callable[[bytes], None], length: int) -> None:
        self._state, self._needed = state, length

    def feed(self, data: Data) -> None:
        """Take what has passed by. Raises ColdmoveError for what is not NBD."""
        view, at = memoryview(data), 0
        while at < len(view):
            if self._skip:
                step = min(self._skip, len(view) - at)
                self._skip -= step
            else:
                step = min(self._needed - len(self._buffer), len(view) - at)
                self._buffer += view[at : at + step]
                if len(self._buffer) == self._needed:
                    header = bytes(self._buffer)
                    self._buffer.clear()
                    self._state(header)
            at += step


def _check(magic: int, known: int) -> None:
    if magic != known:
        raise ColdmoveError(f"not NBD: {magic:#x} where {known:#x} was expected")


class Requests(_Stream):
    """The client's side. ``count``: requests that are to be answered. ``parted``: it has said that it will close the connection."""

    def __init__(self) -> None:
        self.count = 0
        self.parted = False
        super().__init__(self._flags, 4)

    def _flags(self, _header: bytes) -> None:
        self._expect(self._option, _OPTION.size)

    def _option(self, header: bytes) -> None:
        magic, option, length = _OPTION.unpack(header)
        _check(magic, _OPTION_MAGIC)
        self._skip = length
        if option in _OPTIONS_THAT_END:
            self._expect(self._request, _REQUEST.size)

    def _request(self, header: bytes) -> None:
        magic, _flags, kind, _handle, _offset, length = _REQUEST.unpack(header)
        _check(magic, _REQUEST_MAGIC)
        self._skip = length if kind == _WRITE else 0
        self.count += kind != _DISCONNECT
        self.parted = self.parted or kind == _DISCONNECT


class Replies(_Stream):
    """The server's side. ``count``: requests that are answered. ``error``: the first error number, 0 as long as there was none."""

    def __init__(self) -> None:
        self.count = 0
        self.error = 0
        super().__init__(self._greeting, _GREETING_BYTES)

    def _greeting(self, _header: bytes) -> None:
        self._expect(self._option, _OPTION_REPLY.size)

    def _option(self, header: bytes) -> None:
        magic, option, kind, length = _OPTION_REPLY.unpack(header)
        _check(magic, _OPTION_REPLY_MAGIC)
        self._skip = length
        if option == _GO and kind == _ACK:
            self._expect(self._magic, 4)

    def _magic(self, header: bytes) -> None:
        """Simple replies and chunks of structured ones differ in length."""
        simple = int.from_bytes(header, "big") == _REPLY_MAGIC
        if not simple:
            _check(int.from_bytes(header, "big"), _CHUNK_MAGIC)
        self._buffer += header
        self._expect(self._reply if simple else self._chunk, _REPLY.size if simple else _CHUNK.size)

    def _reply(self, header: bytes) -> None:
        self._note(_REPLY.unpack(header)[1])
        self.count += 1
        self._expect(self._magic, 4)

    def _chunk(self, header: bytes) -> None:
        _magic, flags, kind, _handle, length = _CHUNK.unpack(header)
        self.count += bool(flags & _CHUNK_IS_LAST)
        if kind & _CHUNK_IS_ERROR and length >= 4:
            self._rest = length - 4
            self._expect(self._error, 4)
        else:
            self._skip = length
            self._expect(self._magic, 4)

    def _error(self, header: bytes) -> None:
        self._note(int.from_bytes(header, "big"))
        self._skip = self._rest
        self._expect(self._magic, 4)

    def _note(self, error: int) -> None:
        self.error = self.error or error
