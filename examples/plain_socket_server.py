"""A server on plain sockets and ``select``, in one thread. The numbers are those of docs/sans-io.md.

python examples/plain_socket_server.py 8765"""

import contextlib
import os
import random
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import rtm_sansio as rtm

READ_BYTES, LINGER_SECONDS = 64 * 1024, 2.0


class Link:
    """One accepted transport."""

    def __init__(self, connection: socket.socket, transport_id: int) -> None:
        self.connection, self.transport_id = connection, transport_id
        self.outbound, self.paused = bytearray(), False
        self.close_at: float | None = None  # set when the hub has closed it: what is written may take a moment


class PlainServer:
    """Runs a ``Hub`` on a port of loopback and lets everybody in: put your own judgement into ``_judge``."""

    def __init__(self, port: int = 0) -> None:
        self.hub = rtm.Hub(rtm.ServerConfig(), entropy=os.urandom, rng=random.Random())
        self.hub.set_wall_clock(time.time(), now=time.monotonic())
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._links: dict[int, Link] = {}  # those that the hub knows
        self._lingering: set[Link] = set()  # those that it has closed

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Serve until a condition holds, which is looked at whenever something happens, and once a second."""
        while not until():
            self._wait()
            now = time.monotonic()
            for link in [link for link in self._links.values() if link.outbound]:
                self.hub.unsent(link.transport_id, len(link.outbound), now=now)
            self.hub.set_wall_clock(time.time(), now=now)
            self.hub.handle_timeout(now=now)  # 4. behind the reading of all that was readable
            self.hub.flush(now=now)  # 5. once, at the end of a pass
            self._pump()
            for link in [link for link in self._lingering if link.close_at and link.close_at <= now]:
                self._end(link)

    def close(self) -> None:
        """Say goodbye to all, and stop."""
        self._listener.close()
        self.hub.close(now=time.monotonic())
        self._pump()
        for link in list(self._lingering):
            self._end(link)

    def _wait(self) -> None:
        links = {link.connection: link for link in (*self._links.values(), *self._lingering)}
        reading = [self._listener, *(each for each, link in links.items() if not link.paused)]
        writing = [each for each, link in links.items() if link.outbound]
        deadline = self.hub.next_deadline()
        timeout = 1.0 if deadline is None else min(1.0, max(0.0, deadline - time.monotonic()))
        readable, writable, _ = select.select(reading, writing, [], 0.0 if self.hub.flush_wanted else timeout)
        for connection in writable:
            self._write(links[connection])
            self._pump()
        for connection in readable:
            if connection is self._listener:
                self._accept()
            elif connection.fileno() >= 0:  # not ended by one before it
                self._read(links[connection])
            self._pump()

    def _pump(self) -> None:
        """2. Take the outputs until there are none; 3. and do what each asks for."""
        while outputs := self.hub.take_outputs():
            for output in outputs:
                if isinstance(output, rtm.LoginRequested | rtm.RenewalRequested):
                    self._judge(output)
                elif link := self._links.get(output.transport_id):
                    self._carry_out(output, link)

    def _judge(self, request: rtm.LoginRequested | rtm.RenewalRequested) -> None:
        if isinstance(request, rtm.LoginRequested):
            self.hub.accept_login(request.transport_id, now=time.monotonic())
        else:
            self.hub.accept_renewal(request.transport_id, request.number, now=time.monotonic())

    def _carry_out(self, effect: Any, link: Link) -> None:
        match effect:
            case rtm.Transmit():
                link.outbound += effect.data
                self._write(link)
            case rtm.PauseReading() | rtm.ResumeReading():
                link.paused = isinstance(effect, rtm.PauseReading)
            case rtm.CloseTransport():
                del self._links[link.transport_id]
                self._lingering.add(link)
                link.close_at, link.paused = time.monotonic() + LINGER_SECONDS, False
                if effect.how == "abort":
                    self._end(link)
                else:
                    self._write(link)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # nobody there any more, or no room for one more
            connection, address = self._listener.accept()
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(connection, self.hub.transport_accepted(peer=str(address), now=time.monotonic()))
            self._links[link.transport_id] = link

    def _read(self, link: Link) -> None:
        data, cause = b"", None
        try:
            data = link.connection.recv(READ_BYTES)
        except OSError as error:
            cause = rtm.failure_from(error, while_open=True)
        if data and link.transport_id in self._links:
            self.hub.receive_data(link.transport_id, data, now=time.monotonic())
        elif not data and link.transport_id in self._links:
            self.hub.transport_lost(link.transport_id, cause, now=time.monotonic())
        if not data:
            self._end(link)

    def _write(self, link: Link) -> None:
        with contextlib.suppress(OSError):  # full, or broken: then the next read says so
            del link.outbound[: link.connection.send(link.outbound)]
            if link.close_at is not None and not link.outbound:
                link.connection.shutdown(socket.SHUT_WR)
        if link.transport_id in self._links:
            self.hub.unsent(link.transport_id, len(link.outbound), now=time.monotonic())

    def _end(self, link: Link) -> None:
        self._links.pop(link.transport_id, None)
        self._lingering.discard(link)
        link.connection.close()


if __name__ == "__main__":
    server = PlainServer(int(sys.argv[1]) if len(sys.argv) > 1 else 8765)
    print(f"serving on ws://127.0.0.1:{server.port}", flush=True)
    server.run()
