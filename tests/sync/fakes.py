"""A core that records what a driver reports and does what the test says, and peers on real sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from rtm_sansio.effects import CloseTransport, OpenTransport, PauseReading, ResumeReading, Transmit
from rtm_sansio.endpoints import parse_endpoint
from rtm_sync._driver import Driver

PATIENCE_SECONDS = 20.0
"""What a test waits for something that has to come; reached only by a failing test."""


class FakeCore:
    """Both roles' inputs, recorded; outputs as ordered by ``put``."""

    def __init__(self) -> None:
        self.inputs: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self.outputs: list[Any] = []
        self.deadline: float | None = None
        self.on_data: Callable[[int, bytes], None] | None = None
        self.data: dict[int, bytes] = {}
        self.unsent_reports: list[int] = []

    def next_deadline(self) -> float | None:
        return self.deadline

    def handle_timeout(self, *, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
        self.inputs.put(("timeout", now))

    def receive_data(self, transport_id: int, data: bytes, *, now: float) -> None:
        assert data
        if self.on_data is not None:
            self.on_data(transport_id, data)
        self.data[transport_id] = self.data.get(transport_id, b"") + data
        self.inputs.put(("data", transport_id, data))

    def transport_lost(self, transport_id: int, cause: Any, *, now: float) -> None:
        self.inputs.put(("lost", transport_id, cause))

    def unsent(self, transport_id: int, byte_count: int, *, now: float) -> None:
        self.unsent_reports.append(byte_count)
        self.inputs.put(("unsent", transport_id, byte_count))

    def take_outputs(self) -> list[Any]:
        outputs, self.outputs = self.outputs, []
        return outputs

    def transport_opened(self, transport_id: int, *, now: float) -> None:
        self.inputs.put(("opened", transport_id))

    def transport_failed(self, transport_id: int, cause: Any, *, now: float) -> None:
        self.inputs.put(("failed", transport_id, cause))

    # --- the test's side

    def expect(self, kind: str) -> tuple[Any, ...]:
        """The next input of this kind; others before it are passed over, but never an end of a transport."""
        while True:
            try:
                found = self.inputs.get(timeout=PATIENCE_SECONDS)
            except Empty:
                raise AssertionError(f"no {kind!r} came") from None
            if found[0] == kind:
                return found
            assert found[0] not in ("lost", "failed"), f"{found} while waiting for {kind!r}"

    def expect_end(self) -> tuple[Any, ...]:
        """The next end of a transport, ``lost`` or ``failed``; whatever comes before it is passed over."""
        while True:
            try:
                found = self.inputs.get(timeout=PATIENCE_SECONDS)
            except Empty:
                raise AssertionError("no end came") from None
            if found[0] in ("lost", "failed"):
                return found

    def expect_data(self, transport_id: int, size: int) -> bytes:
        """All data of a transport, once it is so much."""
        while len(self.data.get(transport_id, b"")) < size:
            self.expect("data")
        return self.data[transport_id]


class FakeAcceptingCore(FakeCore):
    """The role of a server."""

    def __init__(self) -> None:
        super().__init__()
        self.last_id = 0
        self.flush_wanted = False
        self.flushes = 0
        self.wall_clocks: list[float] = []

    def transport_accepted(self, *, peer: str, now: float) -> int:
        self.last_id += 1
        self.inputs.put(("accepted", self.last_id, peer))
        return self.last_id

    def flush(self, *, now: float) -> None:
        self.flush_wanted = False
        self.flushes += 1
        self.inputs.put(("flush",))

    def set_wall_clock(self, unix_seconds: float, *, now: float) -> None:
        self.wall_clocks.append(unix_seconds)


class Run:
    """A driver with a fake core, and verbs to order outputs."""

    def __init__(self, core: FakeCore, **options: Any) -> None:
        self.core = core
        self.events: SimpleQueue[Any] = SimpleQueue()
        self.driver = Driver(core, self.events.put, **options)  # type: ignore[arg-type]

    def put(self, *outputs: Any) -> None:
        """Have the core give these outputs; returns when they are carried out, but for the writing."""
        self.driver.call(lambda now: self.core.outputs.extend(outputs))
        self.driver.call(lambda now: None)

    def open(self, url: str, transport_id: int = 1) -> None:
        self.put(OpenTransport(transport_id=transport_id, endpoint=parse_endpoint(url), attempt=1))

    def transmit(self, data: bytes, transport_id: int = 1) -> None:
        self.put(Transmit(transport_id=transport_id, data=data))

    def close(self, how: Any, transport_id: int = 1) -> None:
        self.put(CloseTransport(transport_id=transport_id, how=how))

    def pause(self, transport_id: int = 1) -> None:
        self.put(PauseReading(transport_id=transport_id))

    def resume(self, transport_id: int = 1) -> None:
        self.put(ResumeReading(transport_id=transport_id))


@contextlib.contextmanager
def running(core: FakeCore, **options: Any) -> Iterator[Run]:
    """A driver that is stopped at the end, whose thread must then be gone."""
    run = Run(core, **options)
    try:
        yield run
    finally:
        run.driver.stop(within=1.0)
        assert run.driver.join(PATIENCE_SECONDS)


@contextlib.contextmanager
def listening(**options: Any) -> Iterator[socket.socket]:
    """A listening socket on loopback."""
    with socket.create_server(("127.0.0.1", 0), **options) as listener:
        listener.settimeout(PATIENCE_SECONDS)
        yield listener


def url_of(listener: socket.socket, scheme: str = "ws", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{host}:{listener.getsockname()[1]}/"


def accept(listener: socket.socket) -> socket.socket:
    sock, _ = listener.accept()
    sock.settimeout(PATIENCE_SECONDS)
    return sock


def receive_all(sock: Any) -> bytes:
    """Everything up to the end of the stream."""
    pieces: list[bytes] = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def receive_exactly(sock: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"the stream ended after {len(data)} of {size} bytes"
        data += piece
    return data


def reset(sock: socket.socket) -> None:
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.contextmanager
def unresponsive() -> Iterator[int]:
    """A port of loopback that answers no connection attempt: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def resolving(*addresses: tuple[str, int]) -> Callable[[str, int], list[Any]]:
    """A resolver for which every name has these addresses."""

    def resolve(host: str, port: int) -> list[Any]:
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 0, "", (ip, number))
            for ip, number in addresses
        ]

    return resolve


def in_thread(function: Callable[[], Any]) -> Callable[[], Any]:
    """Run ``function`` in a thread; returns what waits for its result, or raises what it raised."""
    outcomes: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcomes.put((function(), None))
        except BaseException as error:
            outcomes.put((None, error))

    threading.Thread(target=run, daemon=True).start()

    def result() -> Any:
        value, error = outcomes.get(timeout=PATIENCE_SECONDS)
        if error is not None:
            raise error
        return value

    return result


def until(client: Any, condition: Callable[[], Any]) -> None:
    """Wait until ``condition`` holds, looked at in the I/O thread of a client."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not client._runtime.driver.call(lambda now: condition()):
        assert time.monotonic() < deadline, "the condition never held"


def until_waiting(client: Any) -> None:
    """Wait until a call of the client waits for the server."""
    until(client, lambda: client._runtime._waiting or client._runtime._full)


def cut(client: Any) -> None:
    """Break the client's connection."""

    def cut_now(now: float) -> None:
        for transport in client._runtime.driver._sockets._transports.values():
            transport.sock.shutdown(socket.SHUT_RDWR)

    client._runtime.driver.call(cut_now)
