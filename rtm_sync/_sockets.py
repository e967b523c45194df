"""The transports of one I/O thread: reading, writing, closing. Reports what happens; decides nothing."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from typing import Protocol

from ._tls import TlsFilter
from ._transport import Transport

READ_SIZE = 64 * 1024
CLOSE_SECONDS = 2.0
"""What a flush close may take."""
CATCH_UP_ROUNDS = 16
"""How often a socket that refuses writes is read for what its peer said last."""


class Observer(Protocol):
    """Who is told."""

    def opened(self, transport_id: int) -> None:
        """A transport that was added as ``opening`` is up, TLS included."""

    def failed(self, transport_id: int, error: Exception) -> None:
        """It will not be."""

    def received(self, transport_id: int, data: bytes) -> None:
        """Bytes arrived."""

    def lost(self, transport_id: int, error: Exception | None) -> None:
        """The transport is gone, without an error by the orderly end of its stream."""

    def unsent(self, transport_id: int, byte_count: int) -> None:
        """What the socket has not taken has passed a mark."""


class Sockets:
    """All transports, by id. What is closed is forgotten at once, and nothing of it reported any more."""

    def __init__(self, selector: selectors.BaseSelector, observer: Observer, clock: Callable[[], float]) -> None:
        self._selector = selector
        self._observer = observer
        self._clock = clock
        self._transports: dict[int, Transport] = {}
        self._closing: set[Transport] = set()
        self._dirty: dict[Transport, None] = {}

    @property
    def dirty(self) -> bool:
        """Whether something is to be written."""
        return bool(self._dirty)

    @property
    def closing(self) -> bool:
        """Whether a flush close is under way."""
        return bool(self._closing)

    def next_deadline(self) -> float | None:
        """When the next flush close is over."""
        return min((transport.close_at or 0.0 for transport in self._closing), default=None)

    # --- what the core wants

    def add(self, transport_id: int, sock: socket.socket, tls: TlsFilter | None = None, *, opening: bool) -> None:
        """Take over a connected, non-blocking socket. ``opening``: ``opened`` or ``failed`` is to be reported."""
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                pass  # the connection is gone already; reading will tell
        transport = Transport(transport_id, sock, tls, opening=opening)
        self._transports[transport_id] = transport
        self._await_events(transport)
        self._dirty[transport] = None  # a TLS handshake begins with a write
        if opening and tls is None:
            self._opened(transport)

    def put(self, transport_id: int, data: bytes) -> None:
        """Write ``data`` when the pass ends."""
        transport = self._transports.get(transport_id)
        if transport is not None:
            transport.put(data)
            self._dirty[transport] = None

    def pause(self, transport_id: int, paused: bool) -> None:
        """Do not read, or read again."""
        transport = self._transports.get(transport_id)
        if transport is not None:
            transport.paused = paused
            self._await_events(transport)

    def close(self, transport_id: int, *, flush: bool) -> None:
        """Close, with ``flush`` after what is written."""
        transport = self._transports.pop(transport_id, None)
        if transport is None:
            return
        if not flush or transport.opening:
            self._discard(transport)
            return
        transport.close_at = self._clock() + CLOSE_SECONDS
        # The rest of the peer's stream is read, and nothing of it reported: to close over unread bytes would
        # be a reset, which may overtake what was written last.
        transport.paused = False
        self._closing.add(transport)
        self._await_events(transport)
        self._dirty[transport] = None

    def end_overdue(self, now: float) -> None:
        """Abort the flush closes whose time is over."""
        for transport in [one for one in self._closing if (one.close_at or 0.0) <= now]:
            self._discard(transport)

    def abort_open(self) -> None:
        """Close all that are not being closed."""
        for transport in list(self._transports.values()):
            self._discard(transport)

    def abort_all(self) -> None:
        """Close all at once."""
        for transport in [*self._transports.values(), *self._closing]:
            self._discard(transport)

    # --- what the sockets want

    def on_ready(self, transport: Transport, events: int) -> None:
        """The selector says so."""
        if events & selectors.EVENT_WRITE and not transport.closed:
            transport.blocked = False
            self._dirty[transport] = None
        if events & selectors.EVENT_READ and not transport.closed:
            self._read(transport)

    def write_dirty(self) -> None:
        """Write what was put since the last time, one write for each transport.

        One round: what a report brings about belongs to the next pass, so that no transport starves the
        others.
        """
        dirty, self._dirty = self._dirty, {}
        for transport in dirty:
            if not transport.closed:
                self._write(transport)

    def report_unsent(self) -> None:
        """Report for each transport with bytes that wait, whatever was reported last."""
        for transport in list(self._transports.values()):
            if not transport.closed and not transport.opening and transport.unsent:
                self._report_unsent(transport)

    # --- inside

    def _await_events(self, transport: Transport) -> None:
        events = 0 if transport.paused else selectors.EVENT_READ
        if transport.blocked:
            events |= selectors.EVENT_WRITE
        if events == transport.events or transport.closed:
            return
        if not transport.events:
            self._selector.register(transport.sock, events, transport)
        elif not events:
            self._selector.unregister(transport.sock)
        else:
            self._selector.modify(transport.sock, events, transport)
        transport.events = events

    def _discard(self, transport: Transport) -> None:
        self._transports.pop(transport.transport_id, None)
        self._closing.discard(transport)
        self._dirty.pop(transport, None)
        if transport.events:
            self._selector.unregister(transport.sock)
        transport.close()

    def _lost(self, transport: Transport, error: Exception | None) -> None:
        """The transport ended by itself; that is reported, unless it was closed already."""
        self._discard(transport)
        if transport.close_at is not None:
            return
        if transport.opening:
            self._observer.failed(
                transport.transport_id, error or ConnectionResetError("the peer ended the connection")
            )
        else:
            self._observer.lost(transport.transport_id, error)

    def _opened(self, transport: Transport) -> None:
        transport.opening = False
        self._observer.opened(transport.transport_id)

    def _read(self, transport: Transport) -> bool:
        """Read once; whether there may be more."""
        try:
            data = transport.sock.recv(READ_SIZE)
        except BlockingIOError:
            return False
        except OSError as fault:
            self._lost(transport, fault)
            return False
        if transport.close_at is not None:
            if not data:
                self._discard(transport)
            return bool(data)
        ended = not data
        if (tls := transport.tls) is not None:
            self._dirty[transport] = None  # the handshake's answers, and what had to wait for it
            try:
                data = tls.receive(data)
            except OSError as fault:  # ssl.SSLError is one
                self._send_alert(transport, tls)
                self._lost(transport, fault)
                return False
            ended = tls.ended
            if transport.opening and tls.established:
                self._opened(transport)
        if data and transport.close_at is None and not transport.closed:
            self._observer.received(transport.transport_id, data)
        if ended and transport.close_at is None and not transport.closed:
            self._lost(transport, None)
        return not ended

    def _write(self, transport: Transport) -> None:
        try:
            transport.write()
        except OSError as fault:
            transport.drop_unsent()
            # What the peer said before it went says more than the error of a write: a kick, for instance.
            for _ in range(CATCH_UP_ROUNDS):
                if transport.closed or transport.paused or not self._read(transport):
                    break
            if not transport.closed:
                self._lost(transport, fault)
            return
        if transport.close_at is not None:
            if not transport.unsent and not transport.shut:
                transport.end_stream()
        elif transport.unsent_level != transport.level and not transport.opening:
            self._report_unsent(transport)
        self._await_events(transport)

    def _report_unsent(self, transport: Transport) -> None:
        transport.level = transport.unsent_level
        self._observer.unsent(transport.transport_id, transport.unsent)

    def _send_alert(self, transport: Transport, tls: TlsFilter) -> None:
        """What TLS says of a failure goes to the peer, if the socket takes it at once."""
        if alert := tls.take():
            try:
                transport.sock.send(alert)
            except OSError:
                pass  # the peer is gone, or does not listen; there is a better error to report
