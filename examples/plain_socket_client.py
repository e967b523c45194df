"""A client on plain sockets and ``select``, in one thread. The numbers are those of docs/sans-io.md.

python examples/plain_socket_client.py ws://127.0.0.1:8765 alice lobby "hello"
"""

import os
import random
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import rtm_sansio as rtm

READ_BYTES, LINGER_SECONDS = 64 * 1024, 2.0


class Link:
    """One transport, from the attempt to connect to its end."""

    def __init__(self, transport_id: int, connection: socket.socket) -> None:
        self.transport_id, self.connection = transport_id, connection
        self.connecting, self.outbound = True, bytearray()
        self.close_at: float | None = None  # set when the core has closed it and its last bytes are on their way


class PlainClient:
    """Runs a ``ClientCore``: while ``run`` is called things happen, and what comes out stands in ``events``."""

    def __init__(self, url: str, config: rtm.ClientConfig | None = None) -> None:
        endpoints = rtm.parse_endpoints(url)
        if any(endpoint.secure for endpoint in endpoints):
            raise rtm.ConfigError("this example has no TLS; use a ws:// URL")
        self.core = rtm.ClientCore(
            config or rtm.ClientConfig(), endpoints=endpoints, rng=random.Random(), entropy=os.urandom
        )
        self.events: deque[Any] = deque()
        self._ends: dict[int, rtm.RequestCompleted | rtm.RequestErred] = {}
        self._links: dict[int, Link] = {}  # those that the core knows
        self._lingering: set[Link] = set()  # those that it has closed

    def call(self, command: Callable[[float], int]) -> Any:
        """1. Give the core a command, with the time, and wait for the end of the request."""
        request_id = command(time.monotonic())
        self.run(lambda: request_id in self._ends)
        end = self._ends.pop(request_id)
        if isinstance(end, rtm.RequestErred):
            raise end.error
        return end.result

    def run(self, until: Callable[[], bool]) -> None:
        """Let things happen until a condition holds."""
        self._pump()
        while not until():
            self._wait_and_read()
            now, deadline = time.monotonic(), self.core.next_deadline()
            if deadline is not None and deadline <= now:  # 4. after everything readable was read
                for link in list(self._links.values()):
                    if link.outbound:
                        self.core.unsent(link.transport_id, len(link.outbound), now=now)
                self.core.handle_timeout(now=now)
            self._pump()

    def _pump(self) -> None:
        """2. Take the outputs until there are none; 3. and do what each asks for."""
        while outputs := self.core.take_outputs():
            for output in outputs:
                match output:
                    case rtm.OpenTransport():
                        self._open(output)
                    case rtm.Transmit():
                        if output.transport_id in self._links:
                            self._links[output.transport_id].outbound += output.data
                            self._write(self._links[output.transport_id])
                    case rtm.CloseTransport():
                        self._close(self._links.pop(output.transport_id, None), output.how)
                    case rtm.RequestCompleted() | rtm.RequestErred():
                        self._ends[output.request_id] = output
                    case _:
                        self.events.append(output)

    def _open(self, effect: rtm.OpenTransport) -> None:
        try:
            # A program that must not stand still looks names up in a thread, and races their addresses.
            found = socket.getaddrinfo(effect.endpoint.host, effect.endpoint.port, type=socket.SOCK_STREAM)
            connection = socket.socket(found[0][0], socket.SOCK_STREAM)
        except OSError as error:
            self.core.transport_failed(effect.transport_id, rtm.failure_from(error), now=time.monotonic())
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect_ex(found[0][4])
        self._links[effect.transport_id] = Link(effect.transport_id, connection)

    def _close(self, link: Link | None, how: Literal["flush", "abort"]) -> None:
        if link is not None and how == "flush" and not link.connecting:
            link.close_at = time.monotonic() + LINGER_SECONDS
            self._lingering.add(link)
            self._write(link)
        elif link is not None:
            link.connection.close()

    def _wait_and_read(self) -> None:
        links = {link.connection: link for link in (*self._links.values(), *self._lingering)}
        writing = [each for each, link in links.items() if link.connecting or link.outbound]
        deadlines = [self.core.next_deadline(), *(link.close_at for link in self._lingering)]
        earliest = min((deadline for deadline in deadlines if deadline is not None), default=None)
        timeout = None if earliest is None else max(0.0, earliest - time.monotonic())
        readable, writable, _ = select.select(list(links), writing, [], timeout)
        for connection in writable:
            self._write(links[connection])
        for connection in readable:
            self._read(links[connection])
        for link in [link for link in self._lingering if link.close_at and link.close_at <= time.monotonic()]:
            self._lingering.discard(link)
            link.connection.close()

    def _read(self, link: Link) -> None:
        if link.connecting:
            return
        try:
            data, cause = link.connection.recv(READ_BYTES), None
        except BlockingIOError:
            return
        except OSError as error:
            data, cause = b"", rtm.failure_from(error, while_open=True)
        if not data:
            self._lingering.discard(link)
            link.connection.close()
        if link.transport_id in self._links and data:
            self.core.receive_data(link.transport_id, data, now=time.monotonic())
        elif self._links.pop(link.transport_id, None) is not None:
            self.core.transport_lost(link.transport_id, cause, now=time.monotonic())
        self._pump()

    def _write(self, link: Link) -> None:
        if link.connecting:
            fault = link.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if fault:
                link.connection.close()
                del self._links[link.transport_id]
                failure = rtm.failure_from(OSError(fault, os.strerror(fault)))
                self.core.transport_failed(link.transport_id, failure, now=time.monotonic())
            else:
                link.connecting = False
                self.core.transport_opened(link.transport_id, now=time.monotonic())
            self._pump()
            return
        try:
            del link.outbound[: link.connection.send(link.outbound)]
        except OSError:
            return  # full, or broken: then the next read says so
        if link.close_at is not None and not link.outbound:
            link.connection.shutdown(socket.SHUT_WR)
