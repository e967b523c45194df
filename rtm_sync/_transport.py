"""One connected socket of a driver: what waits to be written to it, and its TLS filter. Belongs to the I/O thread."""

from __future__ import annotations

import socket
from collections import deque

from ._tls import TlsFilter

BLOCK_SIZE = 256 * 1024
"""Waiting pieces are joined into writes of about this size."""

REPORT_STEP = 64 * 1024
"""The first mark of ``unsent``; the others are its doublings."""


class Transport:
    """A socket and its outbound bytes."""

    __slots__ = (
        "_pieces",
        "_queued",
        "_writing",
        "blocked",
        "close_at",
        "closed",
        "events",
        "level",
        "opening",
        "paused",
        "shut",
        "sock",
        "tls",
        "transport_id",
    )

    def __init__(self, transport_id: int, sock: socket.socket, tls: TlsFilter | None, *, opening: bool) -> None:
        self.transport_id = transport_id
        self.sock = sock
        self.tls = tls
        self.opening = opening
        """Whether the core still waits for its ``transport_opened``."""
        self.paused = False
        self.blocked = False
        """Whether the socket has to become writable first."""
        self.close_at: float | None = None
        """Set by a flush close: when it is over, finished or not."""
        self.shut = False
        """Whether our end of the stream has been ended."""
        self.closed = False
        self.events = 0
        """What the selector waits for."""
        self.level = 0
        """The mark that was last reported by ``unsent``."""
        self._pieces: deque[bytes] = deque()
        self._queued = 0
        self._writing: bytes | memoryview = b""

    @property
    def unsent(self) -> int:
        """The number of bytes that the socket has not taken."""
        return self._queued + len(self._writing)

    @property
    def unsent_level(self) -> int:
        """Which mark ``unsent`` has passed: 0 for nothing, 1 below 64 KiB, 2 below its double, and so on."""
        count = self.unsent
        return (count // REPORT_STEP).bit_length() + 1 if count else 0

    def put(self, data: bytes) -> None:
        """``data`` is to be written behind all that waits."""
        self._pieces.append(data)
        self._queued += len(data)

    def drop_unsent(self) -> None:
        """Forget what waits: the peer is gone (F-07)."""
        self._pieces.clear()
        self._queued = 0
        self._writing = b""

    def write(self) -> None:
        """Write until nothing waits or the socket takes no more (``blocked``). Raises OSError for a broken stream."""
        while not self.blocked:
            if not self._writing and not self._next_block():
                return
            try:
                count = self.sock.send(self._writing)
            except BlockingIOError:
                count = 0
            if count < len(self._writing):
                self.blocked = True
                self._writing = memoryview(self._writing)[count:]
            else:
                self._writing = b""

    def _next_block(self) -> bool:
        """Make the next bytes for the socket; False if there are none."""
        if self.tls is None:
            self._writing = self._join()
        else:
            # Only as much is encrypted as the socket takes: ``unsent`` counts the application's bytes.
            if self.tls.established and self._pieces:
                self.tls.send(self._join())
            if self.close_at is not None and not self._pieces:
                self.tls.close()
            self._writing = self.tls.take()
        return bool(self._writing)

    def _join(self) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while self._pieces and size < BLOCK_SIZE:
            piece = self._pieces.popleft()
            pieces.append(piece)
            size += len(piece)
        self._queued -= size
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end_stream(self) -> None:
        """Nothing more will be written: tell the peer (FIN). Its own end, or ``close_at``, ends the rest."""
        self.shut = True
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer was faster; the next read will say so

    def close(self) -> None:
        """Let go of the socket at once."""
        self.closed = True
        try:
            # A copy of the socket may live on in a forked process: end the connection, not only our hold of
            # it (F-78).
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is disconnected already
        self.sock.close()
