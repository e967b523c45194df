"""TLS as a filter of bytes: two memory BIOs with an ``ssl.SSLObject`` between them, no socket, no waiting.

Only the I/O thread uses a filter: two threads on one SSL object is a known disaster.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

READ_SIZE = 64 * 1024


class TlsFilter:
    """One side of one TLS connection."""

    __slots__ = ("_held", "_incoming", "_object", "_outgoing", "_unwrapped", "ended", "established")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        """A client begins the handshake: ``take`` gives what is to be sent.

        Raises ValueError or ``ssl.SSLError`` for a host name or a context that cannot be used.
        """
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._held = b""
        self._unwrapped = False
        self.established = False
        """Whether the handshake is over."""
        self.ended = False
        """Whether the peer has ended the stream, politely or not."""
        if not server_side:
            self._handshake()

    def receive(self, data: bytes) -> bytes:
        """The plain text that ``data`` completes; ``b""`` as ``data`` is the end of the stream.

        Raises ``ssl.SSLError`` (``SSLCertVerificationError`` for a certificate that is not trusted), or
        ConnectionResetError if the stream ends within the handshake. After an exception ``take`` may still
        give an alert for the peer.
        """
        if data:
            self._incoming.write(data)
        else:
            self.ended = True
        if not self.established:
            self._handshake()
            if not self.established:
                if self.ended:
                    raise ConnectionResetError("the peer ended the connection during the TLS handshake")
                return b""
        pieces: list[bytes] = []
        try:
            while (piece := self._retry(lambda: self._object.read(READ_SIZE))) is not None:
                if not piece:  # the peer's close_notify
                    self.ended = True
                    break
                pieces.append(piece)
        except ssl.SSLZeroReturnError:  # the same, if we have said goodbye before
            self.ended = True
        self._push()  # what waited for the peer's part of a renegotiation
        return b"".join(pieces)

    def send(self, data: bytes | memoryview) -> None:
        """Encrypt ``data`` for ``take``, once the handshake is over (``established``). Raises ``ssl.SSLError``."""
        self._held = bytes(data) if not self._held else self._held + data
        self._push()

    def close(self) -> None:
        """Say goodbye (close_notify), without waiting for the peer's."""
        if self.established and not self._unwrapped:
            self._unwrapped = True
            try:
                self._retry(self._object.unwrap)
            except ssl.SSLError:
                pass  # the stream is broken already; whoever closes need not know how

    def take(self) -> bytes:
        """What is to be written to the peer now."""
        return self._outgoing.read()

    def _handshake(self) -> None:
        def step() -> bool:
            self._object.do_handshake()
            return True

        if self._retry(step):
            self.established = True

    def _push(self) -> None:
        while self._held:
            count = self._retry(lambda: self._object.write(self._held))
            if count is None:
                return
            self._held = self._held[count:]

    def _retry(self, step: Callable[[], T]) -> T | None:
        """What ``step`` returns, or None if it needs more of the peer's bytes first."""
        try:
            return step()
        except ssl.SSLWantReadError:
            return None
