# Copyright (c) 2026, coldmove contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!
"""What stands between QEMU and the data channel while a disk is mirrored: one NBD connection, handed on in both directions.

It is there for three things. QEMU's account gets a socket of its own, and none of sshd's. A link that is dead is known within seconds, as requests are
counted: QEMU itself would let the guest's writes wait for as long as TCP does. And it is a witness of its own for how the mirror ended: who closed the
connection, whether every request was answered, and whether one was answered with an error.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import typing as t
from pathlib import Path

from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.errors import ColdmoveError
from ansible_collections.coldmove.libvirt.plugins.module_utils._logic.nbd_stream import Replies, Requests

#: How much is handed on at a time: QEMU's mirror writes at most 1 MiB at once.
_PIECE = 1024 * 1024

Ended = t.Literal["", "client", "server", "broken"]


class Relay:
    """One connection from ``here``, a unix socket that is made for the account ``uid`` alone, to ``there``, one that exists.

    ``ended``: empty while it stands or is waited for; ``client`` if QEMU closed it, ``server`` if the other end did, ``broken`` if break_off() did.
    """

    def __init__(self, here: Path, there: str, uid: int) -> None:
        self.ended: Ended = ""
        self._ended_at = 0.0
        self.sent_bytes = 0
        self.problem = ""
        self._here, self._there = here, there
        self._requests, self._replies = Requests(), Replies()
        self._moved_at = time.monotonic()
        self._guard = threading.Lock()
        self._ends: list[socket.socket] = []
        self._listener = self._listen(uid)
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def error(self) -> int:
        """The first error number that the other end has answered with; 0 if none."""
        return self._replies.error

    @property
    def unanswered(self) -> int:
        """Requests that the other end has not answered yet."""
        return self._requests.count - self._replies.count

    def waits(self) -> float:
        """For how many seconds nothing has moved although there is something to be answered; 0 if there is nothing."""
        return time.monotonic() - self._moved_at if self.unanswered and not self.ended else 0.0

    def ended_for(self) -> float:
        """For how many seconds it has been over; 0 while it stands."""
        return time.monotonic() - self._ended_at if self.ended else 0.0

    def break_off(self) -> None:
        """Close it: QEMU's requests fail at once, its guest goes on without the mirror."""
        self._end("broken")

    def close(self) -> None:
        """Close it, if it still stands, and take the socket away."""
        self.break_off()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits there
        self._listener.close()
        self._here.unlink(missing_ok=True)

    def _listen(self, uid: int) -> socket.socket:
        self._here.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listener.bind(str(self._here))
        except OSError as exc:
            raise ColdmoveError(f"cannot listen on {self._here}: {exc.strerror}") from exc
        finally:
            os.umask(before)
        os.chown(self._here, uid, -1)
        listener.listen(1)
        return listener

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # close() came before anybody did
            client, _address = self._listener.accept()
            with client, socket.socket(socket.AF_UNIX) as server:
                self._hand_on(client, server)

    def _hand_on(self, client: socket.socket, server: socket.socket) -> None:
        """In both directions, until both are at their end: no descriptor may be closed that the other thread still reads from."""
        with self._guard:
            self._ends = [client, server]
            if self.ended:
                return
        try:
            server.connect(self._there)
        except OSError as exc:
            self._end("server", str(exc))
            return
        self._moved_at = time.monotonic()
        answers = threading.Thread(target=self._pump, args=(server, client, self._replies, "server"), daemon=True)
        answers.start()
        self._pump(client, server, self._requests, "client")
        answers.join()

    def _pump(self, source: socket.socket, target: socket.socket, stream: Requests | Replies, name: Ended) -> None:
        buffer = memoryview(bytearray(_PIECE))
        try:
            while count := source.recv_into(buffer):
                stream.feed(buffer[:count])
                self._moved_at = time.monotonic()
                self._send(target, buffer[:count], counted=name == "client")
            self._end(name)
        except OSError as exc:
            # Whichever end a send failed at is the one that is gone.
            self._end("server" if name == "client" else "client", str(exc))
        except ColdmoveError as exc:
            self._end("broken", str(exc))

    def _send(self, target: socket.socket, piece: memoryview, counted: bool) -> None:
        at = 0
        while at < len(piece):
            at += target.send(piece[at:])
            self._moved_at = time.monotonic()
        if counted:
            self.sent_bytes += len(piece)

    def _end(self, by: Ended, problem: str = "") -> None:
        """Both directions end; why is what was seen first."""
        with self._guard:
            if not self.ended:
                self._ended_at = time.monotonic()
                # A server closes as soon as it is told; its end may be seen first.
                self.ended = "client" if self._requests.parted else by
                self.problem = problem
            ends = list(self._ends)
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
