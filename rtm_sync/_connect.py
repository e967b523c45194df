"""Opening a TCP connection: look its name up, race the addresses (RFC 8305), in one helper thread."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Any

STAGGER_SECONDS = 0.25
"""How long an address has before the next one is tried beside it (RFC 8305, section 5)."""

Address = tuple[Any, ...]
"""As in ``socket.getaddrinfo``: family, type, protocol, canonical name, socket address."""
Resolver = Callable[[str, int], Sequence[Address]]


def resolve(host: str, port: int) -> Sequence[Address]:
    """All addresses of a name, as the operating system gives and orders them."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """The addresses with their families alternating, beginning with the family of the first (RFC 8305, section 4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]


class Cancelled(Exception):
    """The connection is no longer wanted."""


class Connecting:
    """One attempt. ``run`` belongs to the helper thread; ``cancel`` may come from any other."""

    def __init__(self, host: str, port: int, *, resolver: Resolver) -> None:
        """Raises OSError if there are no file descriptors left."""
        self._host = host
        self._port = port
        self._resolver = resolver
        # What wakes the helper out of its select: the other end's being closed.
        self._cancelled, self._cancel = socket.socketpair()

    def cancel(self) -> None:
        """Let go of everything: ``run`` raises Cancelled, but only after the name look-up, which nothing interrupts."""
        self._cancel.close()

    def abandon(self) -> None:
        """There will be no ``run``."""
        self._cancel.close()
        self._cancelled.close()

    def run(self) -> socket.socket:
        """The connected, non-blocking socket. Raises OSError (UnicodeError for an impossible name), or Cancelled."""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._cancelled, selectors.EVENT_READ)
                addresses = interleave(self._resolver(self._host, self._port))
                if not addresses:
                    raise socket.gaierror(socket.EAI_NONAME, f"the name {self._host} has no address")
                return self._race(deque(addresses), selector)
        finally:
            self._cancelled.close()

    def _race(self, addresses: deque[Address], selector: selectors.BaseSelector) -> socket.socket:
        open_sockets: set[socket.socket] = set()
        faults: list[OSError] = []
        next_start = time.monotonic()
        try:
            while True:
                # A failed address makes room for the next one at once (RFC 8305, section 5).
                if addresses and (not open_sockets or time.monotonic() >= next_start):
                    next_start = time.monotonic() + STAGGER_SECONDS
                    try:
                        self._start(addresses.popleft(), open_sockets, selector)
                    except OSError as fault:
                        faults.append(fault)
                    continue
                if not open_sockets:
                    raise _most_telling(faults)
                for key, _ in selector.select(max(0.0, next_start - time.monotonic()) if addresses else None):
                    if key.data is None:
                        raise Cancelled
                    connected: socket.socket = key.data
                    selector.unregister(connected)
                    if code := connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                        faults.append(OSError(code, os.strerror(code)))
                        open_sockets.discard(connected)
                        connected.close()
                        next_start = 0.0
                    else:
                        open_sockets.discard(connected)
                        return connected
        finally:
            for loser in open_sockets:
                loser.close()

    def _start(self, address: Address, open_sockets: set[socket.socket], selector: selectors.BaseSelector) -> None:
        family, kind, protocol, _, target = address
        sock = socket.socket(family, kind, protocol)
        open_sockets.add(sock)
        try:
            sock.setblocking(False)
            code = sock.connect_ex(target)
            if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
                raise OSError(code, os.strerror(code))
            selector.register(sock, selectors.EVENT_WRITE, sock)
        except OSError:
            open_sockets.discard(sock)
            sock.close()
            raise


def _most_telling(faults: list[OSError]) -> OSError:
    """Of the faults of several addresses the one that says most: "refused" means that the host is there."""
    chosen = next((fault for fault in faults if isinstance(fault, ConnectionRefusedError)), faults[0])
    for fault in faults:
        if fault is not chosen:
            chosen.add_note(f"another address: {fault}")
    return chosen
