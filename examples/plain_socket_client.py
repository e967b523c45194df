"""A client on a plain socket and ``select``, in one thread. The numbers are those of docs/sans-io.md."""

import argparse
import contextlib
import os
import random
import select
import socket
import time
from collections.abc import Callable
from typing import Any

import rtm_sansio as rtm

READ_BYTES, LINGER_SECONDS = 64 * 1024, 2.0


class Link:
    """One transport, from the attempt to connect to its end."""

    def __init__(self, transport_id: int, connection: socket.socket) -> None:
        self.transport_id, self.connection = transport_id, connection
        self.connecting, self.outbound = True, bytearray()


class PlainClient:
    """Runs a ``ClientCore``: things happen while ``run`` or ``call`` is called, and events wait in ``events``."""

    def __init__(self, url: str) -> None:
        endpoints = rtm.parse_endpoints(url)
        if any(endpoint.secure for endpoint in endpoints):
            raise rtm.ConfigError("this example has no TLS; use a ws:// URL")
        self.core = rtm.ClientCore(rtm.ClientConfig(), endpoints=endpoints, rng=random.Random(), entropy=os.urandom)
        self.events: list[Any] = []
        self._ends: dict[int, rtm.Completion] = {}
        self._links: dict[int, Link] = {}

    def call(self, command: Callable[[float], int]) -> Any:
        """1. Give the core a command, with the time, and wait for the end of the request."""
        request_id = command(time.monotonic())
        self.run(lambda: request_id in self._ends)
        if isinstance(end := self._ends.pop(request_id), rtm.RequestErred):
            raise end.error
        return end.result

    def run(self, until: Callable[[], bool]) -> None:
        """Let things happen until a condition holds."""
        self._pump()
        while not until():
            self._wait()
            for link in list(self._links.values()):
                self.core.unsent(link.transport_id, len(link.outbound), now=time.monotonic())
            self.core.handle_timeout(now=time.monotonic())  # 4. behind the reading of all that was readable
            self._pump()

    def _pump(self) -> None:
        """2. Take the outputs until there are none; 3. and do what each asks for."""
        while outputs := self.core.take_outputs():
            for output in outputs:
                match output:
                    case rtm.OpenTransport():
                        self._open(output)
                    case rtm.Transmit():
                        if link := self._links.get(output.transport_id):
                            link.outbound += output.data
                            self._write(link)
                    case rtm.CloseTransport():
                        if link := self._links.pop(output.transport_id, None):
                            self._close(link, flush=output.how == "flush")
                    case rtm.RequestCompleted() | rtm.RequestErred():
                        self._ends[output.request_id] = output
                    case _:
                        self.events.append(output)

    def _open(self, effect: rtm.OpenTransport) -> None:  # standing still, and with the first address only
        try:
            found = socket.getaddrinfo(effect.endpoint.host, effect.endpoint.port, type=socket.SOCK_STREAM)
            connection = socket.socket(found[0][0], socket.SOCK_STREAM)
        except OSError as error:
            self.core.transport_failed(effect.transport_id, rtm.failure_from(error), now=time.monotonic())
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect_ex(found[0][4])
        self._links[effect.transport_id] = Link(effect.transport_id, connection)

    def _close(self, link: Link, *, flush: bool) -> None:
        with link.connection, contextlib.suppress(OSError):
            if flush and not link.connecting:  # it stands still until the last bytes are taken
                link.connection.settimeout(LINGER_SECONDS)
                link.connection.sendall(link.outbound)
                link.connection.shutdown(socket.SHUT_WR)

    def _wait(self) -> None:
        links = {link.connection: link for link in self._links.values()}
        writing = [each for each, link in links.items() if link.connecting or link.outbound]
        deadline = self.core.next_deadline()
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        readable, writable, _ = select.select(links, writing, [], timeout)
        for connection in writable:
            (self._connected if links[connection].connecting else self._write)(links[connection])
        for connection in readable:
            if links[connection].transport_id in self._links and not links[connection].connecting:
                self._read(links[connection])

    def _connected(self, link: Link) -> None:
        if fault := link.connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._links.pop(link.transport_id).connection.close()
            failure = rtm.failure_from(OSError(fault, os.strerror(fault)))
            self.core.transport_failed(link.transport_id, failure, now=time.monotonic())
        else:
            link.connecting = False
            self.core.transport_opened(link.transport_id, now=time.monotonic())
        self._pump()

    def _read(self, link: Link) -> None:
        data, cause = b"", None
        try:
            data = link.connection.recv(READ_BYTES)
        except OSError as error:
            cause = rtm.failure_from(error, while_open=True)
        if data:
            self.core.receive_data(link.transport_id, data, now=time.monotonic())
        else:
            self._links.pop(link.transport_id).connection.close()
            self.core.transport_lost(link.transport_id, cause, now=time.monotonic())
        self._pump()

    def _write(self, link: Link) -> None:
        with contextlib.suppress(OSError):  # full, or broken: then the next read says so
            del link.outbound[: link.connection.send(link.outbound)]
        self.core.unsent(link.transport_id, len(link.outbound), now=time.monotonic())


def main(url: str, uid: str, channel: str, message: str) -> None:
    client = PlainClient(url)
    client.call(lambda now: client.core.login(uid, None, now=now))
    client.call(lambda now: client.core.join(channel, echo=True, now=now))
    print("sent, at offset", client.call(lambda now: client.core.publish(channel, message, now=now)).offset)
    client.run(lambda: any(isinstance(event, rtm.ChannelMessageReceived) for event in client.events))
    print(*client.events, sep="\n")
    client.call(lambda now: client.core.logout(now=now))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(epilog='as in: plain_socket_client.py ws://127.0.0.1:8765 alice lobby "hello"')
    for name in ("url", "uid", "channel", "message"):
        parser.add_argument(name)
    main(**vars(parser.parse_args()))
