"""Accepting connections, and resting when the process is out of descriptors."""

from __future__ import annotations

import errno
import logging
import selectors
import socket
from collections.abc import Callable, Sequence

from rtm_sansio.auth import FailureNotes

PAUSE_SECONDS = 1.0
"""How long accepting rests then (F-66)."""
BATCH = 64
"""Connections accepted in one go, so that a rush does not starve those that are there."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger("rtm")


class Listening:
    """The listening sockets of one I/O thread."""

    def __init__(self, listeners: Sequence[socket.socket], accepted: Callable[[socket.socket, str], None]) -> None:
        """``accepted(sock, peer)`` is called with each non-blocking connection and its address."""
        self._listeners = list(listeners)
        self._accepted = accepted
        self._selector: selectors.BaseSelector | None = None
        self._faults = FailureNotes()
        self.again_at: float | None = None
        """When a pause ends."""

    def begin(self, selector: selectors.BaseSelector) -> None:
        """Start to accept, or go on after a pause."""
        self._selector = selector
        self.again_at = None
        for listener in self._listeners:
            selector.register(listener, selectors.EVENT_READ, listener)

    def on_ready(self, listener: socket.socket, now: float) -> None:
        """Accept what waits at one of the sockets."""
        for _ in range(BATCH):
            if self._selector is None or self.again_at is not None:
                return  # closed or paused meanwhile
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as fault:
                if fault.errno in _EXHAUSTED:
                    self._pause(fault, now)
                    return
                log.debug("! a connection ended before it was accepted: %s", fault)
                continue
            sock.setblocking(False)
            peer = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address or "local")
            self._accepted(sock, peer)

    def close(self) -> None:
        """Accept nothing more."""
        self._forget()
        self._selector = None
        self.again_at = None
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def _pause(self, fault: OSError, now: float) -> None:
        passed_over = self._faults.take(fault, now)
        if passed_over is not None:
            before = f" (and {passed_over} times before)" if passed_over else ""
            log.warning("! accepting pauses for %g s%s: %s", PAUSE_SECONDS, before, fault)
        self._forget()
        self.again_at = now + PAUSE_SECONDS

    def _forget(self) -> None:
        if self._selector is not None and self.again_at is None:
            for listener in self._listeners:
                self._selector.unregister(listener)
