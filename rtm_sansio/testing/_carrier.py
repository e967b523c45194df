"""What moves in a virtual world: time, and the bytes of its transports."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from ..errors import TransportFailure
from ._clients import VirtualClient
from ._network import Direction, VirtualClock, VirtualNetwork, VirtualTransport
from ._nodes import VirtualNode

_REPORT_BYTES = 64 * 1024


class Carrier:
    """Keeps the time, and carries bytes between clients and nodes; the world is built on it."""

    latency_seconds: float

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.clock = VirtualClock()
        self.clients: list[VirtualClient] = []
        self.nodes: list[VirtualNode] = []
        self._start = self.clock.now
        self._sequence = 0
        self._scheduled: list[tuple[float, int, Callable[[], None]]] = []

    def pump_client(self, client: VirtualClient) -> None:
        """Carry out a client's outputs."""
        ...

    def pump_node(self, node: VirtualNode) -> None:
        """Carry out a node's outputs."""
        ...

    # -- time

    @property
    def now(self) -> float:
        """The virtual monotonic clock."""
        return self.clock.now

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the start."""
        return self.clock.now - self._start

    def call_later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something at a later virtual time."""
        self._sequence += 1
        heapq.heappush(self._scheduled, (self.now + seconds, self._sequence, action))

    # -- bytes

    def _transports(self) -> list[VirtualTransport]:
        found: dict[int, VirtualTransport] = {}
        for client in self.clients:
            for transport in client.transports.values():
                found[id(transport)] = transport
        for node in self.nodes:
            for transport in node.transports.values():
                found[id(transport)] = transport
        return list(found.values())

    def transports_of(self, network: VirtualNetwork) -> list[VirtualTransport]:
        """The open transports of one client's network."""
        return [transport for transport in self._transports() if transport.client.network is network]

    def break_transport(self, transport: VirtualTransport) -> None:
        """Both sides notice a reset; what was under way is gone."""
        failure = TransportFailure("connection reset", code="connection_lost")
        for pipe in transport.pipes.values():
            pipe.in_flight.clear()
            pipe.unsent.clear()
        transport.broken = True
        self._tell_node_lost(transport, failure)
        self._tell_client_lost(transport, failure)

    def _tell_client_lost(self, transport: VirtualTransport, cause: TransportFailure | None) -> None:
        if transport.client.transports.pop(transport.client_id, None) is not None:
            transport.client.core.transport_lost(transport.client_id, cause, now=self.now)
            self.pump_client(transport.client)

    def _tell_node_lost(self, transport: VirtualTransport, cause: TransportFailure | None) -> None:
        node, node_id = transport.node, transport.node_id
        if node_id is None or node.transports.pop(node_id, None) is None or not node.running:
            return

        def tell() -> None:
            node.hub.transport_lost(node_id, cause, now=self.now)
            self.pump_node(node)

        node.do(tell)

    def _write(self, transport: VirtualTransport, direction: Direction, data: bytes) -> None:
        pipe = transport.pipes[direction]
        data, broken = transport.client.network.clip(direction, data)
        pipe.unsent.append(data)
        self._fill_pipe(transport, direction)
        self._report(transport, direction, force=False)
        if broken:
            self.call_later(transport.client.network.latency_seconds, lambda: self._break_behind(transport, direction))

    def _break_behind(self, transport: VirtualTransport, direction: Direction) -> None:
        """The bytes before the break arrive, then both sides notice."""
        self._deliver(transport, "up", ignore_time=direction == "up")
        self._deliver(transport, "down", ignore_time=direction == "down")
        self.break_transport(transport)

    def _fill_pipe(self, transport: VirtualTransport, direction: Direction) -> None:
        network, pipe = transport.client.network, transport.pipes[direction]
        while pipe.unsent and pipe.accepted < network.socket_buffer_bytes:
            data = pipe.unsent.popleft()
            room = network.socket_buffer_bytes - pipe.accepted
            if len(data) > room:
                pipe.unsent.appendleft(data[room:])
                data = data[:room]
            pipe.accepted += len(data)
            arrival = self.now + network.latency_seconds + self.rng.uniform(0.0, network.jitter_seconds)
            pipe.last_arrival = max(pipe.last_arrival, arrival)
            pipe.in_flight.append((pipe.last_arrival, data))

    def _close_end(self, transport: VirtualTransport, direction: Direction) -> None:
        """One side closed: the end of the stream travels behind its data."""
        pipe = transport.pipes[direction]
        while pipe.unsent:
            data = pipe.unsent.popleft()
            pipe.in_flight.append((pipe.last_arrival, data))
        pipe.last_arrival = max(pipe.last_arrival, self.now + transport.client.network.latency_seconds)
        pipe.in_flight.append((pipe.last_arrival, None))

    def _deliver(self, transport: VirtualTransport, direction: Direction, *, ignore_time: bool = False) -> None:
        network, pipe = transport.client.network, transport.pipes[direction]
        while pipe.in_flight and (ignore_time or pipe.in_flight[0][0] <= self.now):
            if self._is_held_back(transport, direction):
                return
            _, data = pipe.in_flight.popleft()
            if data is None:
                if direction == "up":
                    self._tell_node_lost(transport, None)
                else:
                    self._tell_client_lost(transport, None)
                return
            pipe.accepted -= len(data)
            for chunk in self._chunks(network, data):
                self._receive(transport, direction, chunk)
            self._fill_pipe(transport, direction)
            self._report(transport, direction, force=False)

    def _is_held_back(self, transport: VirtualTransport, direction: Direction) -> bool:
        """Whether nothing goes this way at present: bytes wait."""
        if direction == "up" and (transport.node.paused or transport.node.unreachable):
            return True
        return direction in transport.client.network.stalled or not transport.reading[direction]

    def _next_arrival(self, transport: VirtualTransport) -> float | None:
        arrivals = [
            pipe.in_flight[0][0]
            for direction, pipe in transport.pipes.items()
            if pipe.in_flight and not self._is_held_back(transport, direction)
        ]
        return min(arrivals, default=None)

    def _chunks(self, network: VirtualNetwork, data: bytes) -> list[bytes]:
        if network.max_chunk_bytes is None:
            return [data]
        chunks: list[bytes] = []
        while data:
            size = self.rng.randint(1, network.max_chunk_bytes)
            chunks.append(data[:size])
            data = data[size:]
        return chunks

    def _receive(self, transport: VirtualTransport, direction: Direction, data: bytes) -> None:
        if direction == "up":
            node, node_id = transport.node, transport.node_id
            if node_id is not None and node_id in node.transports and node.running:
                node.hub.receive_data(node_id, data, now=self.now)
                self.pump_node(node)
        elif transport.client_id in transport.client.transports:
            transport.client.core.receive_data(transport.client_id, data, now=self.now)
            self.pump_client(transport.client)

    def _report(self, transport: VirtualTransport, direction: Direction, *, force: bool) -> None:
        """``unsent`` as the driver contract asks: at the first byte, at 64 KiB and its doublings, at zero, and before
        ticks."""
        pipe = transport.pipes[direction]
        unsent = sum(map(len, pipe.unsent))
        node, node_id = transport.node, transport.node_id
        if (not force and _level(unsent) == _level(pipe.reported)) or (direction == "down" and node.paused):
            return
        pipe.reported = unsent
        if direction == "down":
            if node_id is not None and node_id in node.transports and node.running:
                node.hub.unsent(node_id, unsent, now=self.now)
                self.pump_node(node)
        else:
            transport.client.core.unsent(transport.client_id, unsent, now=self.now)
            self.pump_client(transport.client)

    def _report_waiting(self) -> None:
        for transport in self._transports():
            for direction in ("up", "down"):
                if transport.pipes[direction].unsent:
                    self._report(transport, direction, force=True)


def _level(byte_count: int) -> int:
    if byte_count == 0:
        return -1
    return max(0, (byte_count // _REPORT_BYTES).bit_length())
