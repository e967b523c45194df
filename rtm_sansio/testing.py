"""A virtual world for tests: a clock, a network that carries bytes between real cores, one or several hubs; all from
one seed.

Nothing in it sleeps, and no time passes but in ``run``. Between the cores run the real wire bytes, so what is proved
here is proved
for the protocol that goes over real sockets. Three lines of an app's own test::

    world = World(seed=1)
    alice = world.login("alice")
    alice.network.cut(5.0)
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from .client import ClientCore
from .config import ClientConfig, ServerConfig
from .effects import AskToken, CloseTransport, OpenTransport, PauseReading, ResumeReading, Transmit
from .endpoints import parse_endpoint
from .engine import MemoryEngine
from .errors import InvalidArgument, RtmError, TransportFailure
from .events import (
    ChannelMessageReceived,
    ConnectionStateChanged,
    JoinReceipt,
    LoginRequested,
    LoginWithdrawn,
    MessageReceived,
    PeerDelivery,
    RenewalRequested,
    RequestCompleted,
    RequestErred,
    SendReceipt,
)
from .hub import Hub
from .operations import EngineCall
from .states import ConnectionState

Direction = Literal["up", "down"]
"""``up`` is from the client to the server."""

_MAX_PASSES = 2_000_000
_REPORT_BYTES = 64 * 1024


class VirtualClock:
    """The monotonic seconds of a world, and its wall clock, which a test may shift (F-21)."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall_offset = 1_700_000_000.0

    @property
    def wall(self) -> float:
        """Unix seconds."""
        return self.now + self.wall_offset


class _Pipe:
    """One direction of a transport: what is on its way, in order."""

    __slots__ = ("accepted", "in_flight", "last_arrival", "reported", "unsent")

    def __init__(self) -> None:
        self.in_flight: deque[tuple[float, bytes | None]] = deque()  # arrival; None is the end of the stream
        self.unsent: deque[bytes] = deque()  # what the sender's socket buffer has no room for
        self.accepted = 0  # bytes in flight
        self.last_arrival = 0.0
        self.reported = 0


class VirtualTransport:
    """One TCP connection between a client's core and a hub's."""

    def __init__(self, client: VirtualClient, client_id: int, node: VirtualNode, node_id: int) -> None:
        self.client = client
        self.client_id = client_id
        self.node = node
        self.node_id = node_id
        self.pipes: dict[Direction, _Pipe] = {"up": _Pipe(), "down": _Pipe()}
        self.reading: dict[Direction, bool] = {"up": True, "down": True}


class VirtualNetwork:
    """The path between one client and the servers, and what can go wrong with it.

    A direction is "up" (to the server) or "down". Besides the methods there are attributes to be set at any time:
    ``latency_seconds``, ``jitter_seconds``, ``max_chunk_bytes``, ``socket_buffer_bytes``, ``refusing``, ``hanging``,
    ``failure``. Durations are virtual seconds; a negative one raises InvalidArgument.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.latency_seconds = world.latency_seconds
        self.jitter_seconds = 0.0
        self.max_chunk_bytes: int | None = None
        """If set, data arrives in random pieces of at most this many bytes."""
        self.socket_buffer_bytes = 256 * 1024
        """What a sender's socket takes before bytes count as unsent."""
        self.refusing = False
        """New connections are refused."""
        self.hanging = False
        """New connections get no answer at all."""
        self.failure: TransportFailure | None = None
        """If set, new connections fail with it."""
        self.stalled: set[Direction] = set()
        self._reset_after: dict[Direction, int] = {}
        self._generation = 0

    def cut(self, seconds: float | None = None) -> None:
        """Reset all connections now and refuse new ones, for ``seconds`` or until ``restore`` (loud)."""
        _check_seconds(seconds)
        self.refusing = True
        self.reset()
        self._restore_after(seconds)

    def reset(self) -> None:
        """Reset all connections; both sides notice at once."""
        for transport in self._world.transports_of(self):
            self._world.break_transport(transport)

    def stall(self, *directions: Direction, seconds: float | None = None) -> None:
        """Deliver nothing any more, and say nothing (silent): a black hole, both ways unless directions are named.

        New connections hang as well. What was under way is delivered after ``restore``, as TCP would.
        """
        _check_seconds(seconds)
        for direction in directions:
            _check_direction(direction)
        self.stalled |= set(directions) or {"up", "down"}
        self.hanging = self.stalled == {"up", "down"}
        self._restore_after(seconds)

    def hold(self, direction: Direction) -> None:
        """Keep back what goes in one direction until ``release``; new connections work."""
        _check_direction(direction)
        self.stalled.add(direction)

    def release(self) -> None:
        """Deliver what was held back, in order."""
        self.restore()

    def reset_after(self, byte_count: int, direction: Direction) -> None:
        """Reset the connection on which ``byte_count`` more bytes have gone in this direction, in the middle of
        whatever they are."""
        _check_direction(direction)
        self._reset_after[direction] = byte_count

    def restore(self) -> None:
        """Everything works again."""
        self._generation += 1
        self.refusing = self.hanging = False
        self.failure = None
        self.stalled.clear()

    def _restore_after(self, seconds: float | None) -> None:
        self._generation += 1
        if seconds is not None:
            generation = self._generation

            def restore() -> None:
                if generation == self._generation:
                    self.restore()

            self._world.call_later(seconds, restore)

    def clip(self, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        """What of ``data`` still passes, and whether the connection breaks behind it."""
        left = self._reset_after.get(direction)
        if left is None:
            return data, False
        if len(data) < left:
            self._reset_after[direction] = left - len(data)
            return data, False
        del self._reset_after[direction]
        return data[:left], True


class VirtualClient:
    """A real ``ClientCore`` in a world, with calls that let virtual time pass until they are answered.

    ``network`` is its path to the servers, ``core`` the core itself. ``events`` holds all that came out of it but the
    ends of requests, ``timeline`` the same with the virtual time of each, ``ends`` the end of each request by its id,
    ``attempts`` when a transport was asked for, ``asked`` the ids of its ``AskToken``.
    """

    def __init__(self, world: World, config: ClientConfig, *, nodes: list[int]) -> None:
        self._world = world
        self.network = VirtualNetwork(world)
        self.nodes = nodes
        endpoints = [parse_endpoint(f"ws://node{index}.test:80/") for index in nodes]
        self.core = ClientCore(
            config, endpoints=endpoints, rng=random.Random(world.rng.random()), entropy=world.entropy
        )
        self.events: list[Any] = []
        """Everything but the ends of requests, in order."""
        self.timeline: list[tuple[float, Any]] = []
        """The same, each with its virtual time since the start of the world."""
        self.attempts: list[float] = []
        """When each transport was asked for."""
        self.ends: dict[int, RequestCompleted | RequestErred] = {}
        self.end_count: dict[int, int] = {}
        self.transports: dict[int, VirtualTransport] = {}
        self.opening: set[int] = set()
        self.pumping = False
        self.asked: list[int] = []
        """Ids of ``AskToken`` effects."""

    # -- what an app does

    def login(self, uid: str, token: str | None = None, *, wait: bool = True, **options: Any) -> int:
        """Log in; with ``wait`` until it is done, raising what it fails with."""
        return self._do(self.core.login(uid, token, now=self._world.now, **options), wait)[0]

    def logout(self, *, wait: bool = True) -> int:
        """Log out."""
        return self._do(self.core.logout(now=self._world.now), wait)[0]

    def join(self, channel: str, *, echo: bool = False) -> JoinReceipt:
        """Join a channel and wait for it."""
        receipt: JoinReceipt = self._do(self.core.join(channel, echo=echo, now=self._world.now), True)[1]
        return receipt

    def leave(self, channel: str) -> None:
        """Leave a channel and wait for it."""
        self._do(self.core.leave(channel, now=self._world.now), True)

    def send(self, channel: str, message: str | bytes) -> SendReceipt:
        """Send a message and wait for its receipt."""
        receipt: SendReceipt = self._do(self.core.publish(channel, message, now=self._world.now), True)[1]
        return receipt

    def post(self, channel: str, message: str | bytes, **options: Any) -> int:
        """Send a message without waiting; returns the request id, under which ``ends`` will have its end."""
        return self._do(self.core.publish(channel, message, now=self._world.now, **options), False)[0]

    def send_to_peer(
        self, uid: str, message: str | bytes, *, offline: bool = False, description: str = ""
    ) -> PeerDelivery:
        """Send a message to a user and wait for where it went."""
        number = self.core.send_to_peer(uid, message, offline=offline, description=description, now=self._world.now)
        delivery: PeerDelivery = self._do(number, True)[1]
        return delivery

    def call(self, command: Callable[[], int], *, wait: bool = False) -> int:
        """Any other command of the core, whose outputs are then carried out::

        client.call(lambda: client.core.renew_token("new", now=world.now), wait=True)
        """
        return self._do(command(), wait)[0]

    def _do(self, request_id: int, wait: bool) -> tuple[int, Any]:
        self._world.pump_client(self)
        if not wait:
            return request_id, None
        self._world.run_until(lambda: request_id in self.ends, limit_seconds=60.0)
        end = self.ends[request_id]
        if isinstance(end, RequestErred):
            raise end.error
        return request_id, end.result

    # -- what a test asks

    @property
    def state(self) -> ConnectionState:
        """The public state."""
        return self.core.state

    @property
    def changes(self) -> list[tuple[str, str]]:
        """Every switch of state so far: pairs of state and reason."""
        return [(e.state.value, e.reason.value) for e in self.events if isinstance(e, ConnectionStateChanged)]

    def messages(self, channel: str) -> list[str | bytes]:
        """The messages received in a channel so far."""
        return [e.message for e in self.events if isinstance(e, ChannelMessageReceived) and e.channel == channel]

    @property
    def peer_messages(self) -> list[str | bytes]:
        """The messages received from users so far."""
        return [event.message for event in self.events if isinstance(event, MessageReceived)]

    def of_type(self, event_type: type[Any]) -> list[Any]:
        """The events of one type so far."""
        return [event for event in self.events if isinstance(event, event_type)]

    def error_of(self, request_id: int) -> RtmError | None:
        """What a request failed with, or None if it has not failed."""
        end = self.ends.get(request_id)
        return end.error if isinstance(end, RequestErred) else None


class VirtualNode:
    """A real ``Hub`` in a world."""

    def __init__(self, world: World, index: int) -> None:
        self.index = index
        self.hub = world.make_hub(index)
        self.transports: dict[int, VirtualTransport] = {}
        self.pumping = False
        self.running = True


class World:
    """A clock, hubs, clients and the networks between them.

    With ``nodes`` above 1 the hubs share one ``MemoryEngine`` behind a virtual connection of
    ``engine_latency_seconds``; with 1 the engine is embedded. ``authenticate`` gets each ``LoginRequested`` and
    ``RenewalRequested`` and returns None, an ``expires_at`` in Unix seconds, or a pair of code and message to refuse;
    if it returns ``...`` the verdict is left to the test.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        server_config: ServerConfig | None = None,
        client_config: ClientConfig | None = None,
        nodes: int = 1,
        latency_seconds: float = 0.001,
        engine_latency_seconds: float = 0.0005,
        external_engine: bool | None = None,
        authenticate: Callable[[Any], Any] | None = None,
    ) -> None:
        if nodes < 1:
            raise InvalidArgument(f"a world has at least one node, not {nodes}")
        self.rng = random.Random(seed)
        self.clock = VirtualClock()
        self.server_config = server_config or ServerConfig()
        self.client_config = client_config or ClientConfig()
        self.latency_seconds = latency_seconds
        self.engine_latency_seconds = engine_latency_seconds
        self.authenticate: Callable[[Any], Any] = authenticate or _accept
        self._start = self.clock.now
        self._sequence = 0
        self._scheduled: list[tuple[float, int, Callable[[], None]]] = []
        self._external = nodes > 1 if external_engine is None else external_engine
        self.clients: list[VirtualClient] = []
        self.withdrawn: list[int] = []
        """The transports whose login nobody waits for any more."""
        self.engine: MemoryEngine | None = self._make_engine() if self._external else None
        self.nodes = [VirtualNode(self, index) for index in range(nodes)]

    # -- time

    @property
    def now(self) -> float:
        """The virtual monotonic clock."""
        return self.clock.now

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the start."""
        return self.clock.now - self._start

    def entropy(self, size: int) -> bytes:
        """Reproducible bytes in place of the operating system's."""
        return self.rng.randbytes(size)

    def call_later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something at a later virtual time."""
        self._sequence += 1
        heapq.heappush(self._scheduled, (self.now + seconds, self._sequence, action))

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        _check_seconds(seconds)
        self._run(self.now + seconds, lambda: False)

    def run_until(self, condition: Callable[[], bool], *, limit_seconds: float = 120.0) -> None:
        """Let virtual time pass until ``condition`` holds. Raises TimeoutError after ``limit_seconds``."""
        self._run(self.now + limit_seconds, condition)
        if not condition():
            raise TimeoutError(f"the condition did not hold within {limit_seconds} virtual seconds")

    def _run(self, end: float, condition: Callable[[], bool]) -> None:
        for _ in range(_MAX_PASSES):
            if condition():
                return
            self._pass()
            upcoming = self._next_time()
            if condition():
                return
            if upcoming is None or upcoming > end:
                self.clock.now = max(self.clock.now, end)
                self._pass()
                return
            self.clock.now = max(self.clock.now, upcoming)
        raise RuntimeError(f"no end after {_MAX_PASSES} passes: something reports a deadline that never advances")

    def _next_time(self) -> float | None:
        times = [client.core.next_deadline() for client in self.clients]
        times += [node.hub.next_deadline() for node in self.nodes if node.running]
        if self.engine is not None:
            times.append(self.engine.next_deadline())
        if self._scheduled:
            times.append(self._scheduled[0][0])
        times += [self._next_arrival(transport) for transport in self._transports()]
        return min((time for time in times if time is not None), default=None)

    def _next_arrival(self, transport: VirtualTransport) -> float | None:
        stalled = transport.client.network.stalled
        arrivals = [
            pipe.in_flight[0][0]
            for direction, pipe in transport.pipes.items()
            if pipe.in_flight and direction not in stalled and transport.reading[direction]
        ]
        return min(arrivals, default=None)

    def _pass(self) -> None:
        """One loop pass: what is scheduled and what arrives first, ticks afterwards, a flush at the end (the driver
        contract)."""
        while self._scheduled and self._scheduled[0][0] <= self.now:
            heapq.heappop(self._scheduled)[2]()
        for transport in list(self._transports()):
            self._deliver(transport, "up")
            self._deliver(transport, "down")
        self._report_waiting()
        for client in self.clients:
            deadline = client.core.next_deadline()
            if deadline is not None and deadline <= self.now:
                client.core.handle_timeout(now=self.now)
                self.pump_client(client)
        for node in self.nodes:
            self._tick(node)
        if self.engine is not None:
            self.engine.set_wall_clock(self.clock.wall, now=self.now)
            deadline = self.engine.next_deadline()
            if deadline is not None and deadline <= self.now:
                self.engine.handle_timeout(now=self.now)
                self._announce()

    def _tick(self, node: VirtualNode) -> None:
        if not node.running:
            return
        deadline = node.hub.next_deadline()
        if deadline is not None and deadline <= self.now:
            node.hub.set_wall_clock(self.clock.wall, now=self.now)
            node.hub.handle_timeout(now=self.now)
            self._pump_node(node)
        while node.hub.flush_wanted:
            node.hub.flush(now=self.now)
            self._pump_node(node)

    # -- servers

    def _make_engine(self) -> MemoryEngine:
        engine = MemoryEngine(self.server_config, entropy=self.entropy)
        engine.set_wall_clock(self.clock.wall, now=self.now)
        return engine

    def make_hub(self, index: int) -> Hub:
        """A new hub for the node of this index."""
        hub = Hub(
            self.server_config,
            entropy=self.entropy,
            rng=random.Random(self.rng.random()),
            node=f"node{index}",
            external_engine=self._external,
        )
        hub.set_wall_clock(self.clock.wall, now=self.now)
        return hub

    def stop_server(self, index: int = 0, *, orderly: bool = False) -> None:
        """Stop a node: its connections break (or are closed in order), and new ones are refused."""
        node = self.nodes[index]
        if orderly:
            node.hub.close(now=self.now)
            self._pump_node(node)
        for transport in list(node.transports.values()):
            self.break_transport(transport)
        node.running = False

    def start_server(self, index: int = 0, *, forget_engine: bool = False) -> None:
        """Start a stopped node, with a new hub; an embedded engine begins without memory, a shared one only with
        ``forget_engine``."""
        node = self.nodes[index]
        if forget_engine and self._external:
            self.engine = self._make_engine()
        node.hub = self.make_hub(index)
        node.running = True

    def restart_server(self, index: int = 0, *, forget_engine: bool = True) -> None:
        """Stop and start at the same instant."""
        self.stop_server(index)
        self.start_server(index, forget_engine=forget_engine)

    # -- clients

    def client(self, *, config: ClientConfig | None = None, node: int | list[int] = 0) -> VirtualClient:
        """A new client of a node, or of several by turns."""
        client = VirtualClient(self, config or self.client_config, nodes=[node] if isinstance(node, int) else node)
        self.clients.append(client)
        return client

    def login(self, uid: str, *channels: str, node: int | list[int] = 0) -> VirtualClient:
        """A new client that is logged in and has joined ``channels``."""
        client = self.client(node=node)
        client.login(uid)
        for channel in channels:
            client.join(channel)
        return client

    # -- effects

    def pump_client(self, client: VirtualClient) -> None:
        """Carry out a client's outputs. One that asks for more of them leaves that to the loop that it came from."""
        if client.pumping:
            return
        client.pumping = True
        while outputs := client.core.take_outputs():
            for output in outputs:
                self._do_client_output(client, output)
        client.pumping = False

    def _do_client_output(self, client: VirtualClient, output: Any) -> None:
        if isinstance(output, Transmit):
            if output.transport_id in client.transports:  # it may have been reset since the core said this
                self._write(client.transports[output.transport_id], "up", output.data)
        elif isinstance(output, OpenTransport):
            self._open(client, output)
        elif isinstance(output, CloseTransport):
            client.opening.discard(output.transport_id)
            transport = client.transports.pop(output.transport_id, None)
            if transport is not None:
                self._close_end(transport, "up")
        elif isinstance(output, (RequestCompleted, RequestErred)):
            client.ends[output.request_id] = output
            client.end_count[output.request_id] = client.end_count.get(output.request_id, 0) + 1
        elif isinstance(output, AskToken):
            client.asked.append(output.ask_id)
        else:
            client.events.append(output)
            client.timeline.append((self.elapsed, output))

    def _open(self, client: VirtualClient, output: OpenTransport) -> None:
        network = client.network
        client.attempts.append(self.elapsed)
        client.opening.add(output.transport_id)
        if network.hanging:
            return
        node = self.nodes[int(output.endpoint.host.removeprefix("node").removesuffix(".test"))]

        def connected() -> None:
            if output.transport_id not in client.opening:
                return
            client.opening.discard(output.transport_id)
            if network.failure is not None or network.refusing or not node.running:
                failure = network.failure or TransportFailure("connection refused", code="connection_refused")
                client.core.transport_failed(output.transport_id, failure, now=self.now)
            else:
                node_id = node.hub.transport_accepted(peer="virtual", now=self.now)
                transport = VirtualTransport(client, output.transport_id, node, node_id)
                client.transports[output.transport_id] = transport
                node.transports[node_id] = transport
                self._pump_node(node)
                client.core.transport_opened(output.transport_id, now=self.now)
            self.pump_client(client)

        self.call_later(2 * network.latency_seconds, connected)

    def _pump_node(self, node: VirtualNode) -> None:
        if node.pumping:
            return
        node.pumping = True
        while outputs := node.hub.take_outputs():
            for output in outputs:
                self._do_node_output(node, output)
        node.pumping = False

    def _do_node_output(self, node: VirtualNode, output: Any) -> None:
        if isinstance(output, EngineCall):
            self._engine_call(node, node.hub, output)
        elif isinstance(output, (LoginRequested, RenewalRequested)):
            self._judge(node, output)
        elif isinstance(output, LoginWithdrawn):
            self.withdrawn.append(output.transport_id)
        elif output.transport_id in node.transports:  # it may have been reset since the core said this
            transport = node.transports[output.transport_id]
            if isinstance(output, Transmit):
                self._write(transport, "down", output.data)
            elif isinstance(output, CloseTransport):
                del node.transports[output.transport_id]
                self._close_end(transport, "down")
            else:
                assert isinstance(output, (PauseReading, ResumeReading))
                transport.reading["up"] = isinstance(output, ResumeReading)

    def _judge(self, node: VirtualNode, event: LoginRequested | RenewalRequested) -> None:
        verdict: Any = self.authenticate(event)
        if verdict is ...:
            return
        hub = node.hub
        if isinstance(event, LoginRequested):
            if isinstance(verdict, tuple):
                code, message = verdict  # pyright: ignore[reportUnknownVariableType]
                hub.refuse_login(event.transport_id, int(code), str(message), now=self.now)  # pyright: ignore
            else:
                hub.accept_login(event.transport_id, expires_at=verdict, now=self.now)
        elif isinstance(verdict, tuple):
            code, message = verdict  # pyright: ignore[reportUnknownVariableType]
            hub.refuse_renewal(event.transport_id, event.number, int(code), str(message), now=self.now)  # pyright: ignore
        else:
            hub.accept_renewal(event.transport_id, event.number, expires_at=verdict, now=self.now)

    def _engine_call(self, node: VirtualNode, hub: Hub, call: EngineCall) -> None:
        engine = self.engine
        assert engine is not None

        def execute() -> None:
            answer = engine.execute(call.operation, now=self.now)
            self._announce()

            def answered() -> None:
                if node.hub is hub:
                    hub.engine_answered(call.call_id, answer, now=self.now)
                    self._pump_node(node)

            self.call_later(self.engine_latency_seconds, answered)

        self.call_later(self.engine_latency_seconds, execute)

    def _announce(self) -> None:
        assert self.engine is not None
        for name, announcement in self.engine.take_announcements():
            node = self.nodes[int(name.removeprefix("node"))]

            def announce(node: VirtualNode = node, hub: Hub = node.hub, announcement: Any = announcement) -> None:
                if node.running and node.hub is hub:
                    hub.engine_announced(announcement, now=self.now)
                    self._pump_node(node)

            self.call_later(self.engine_latency_seconds, announce)

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
        self._tell_node_lost(transport, failure)
        self._tell_client_lost(transport, failure)

    def _tell_client_lost(self, transport: VirtualTransport, cause: TransportFailure | None) -> None:
        if transport.client.transports.pop(transport.client_id, None) is not None:
            transport.client.core.transport_lost(transport.client_id, cause, now=self.now)
            self.pump_client(transport.client)

    def _tell_node_lost(self, transport: VirtualTransport, cause: TransportFailure | None) -> None:
        if transport.node.transports.pop(transport.node_id, None) is not None and transport.node.running:
            transport.node.hub.transport_lost(transport.node_id, cause, now=self.now)
            self._pump_node(transport.node)

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
        if direction in network.stalled or not transport.reading[direction]:
            return
        while pipe.in_flight and (ignore_time or pipe.in_flight[0][0] <= self.now):
            if direction in network.stalled or not transport.reading[direction]:
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
            if transport.node_id in transport.node.transports and transport.node.running:
                transport.node.hub.receive_data(transport.node_id, data, now=self.now)
                self._pump_node(transport.node)
        elif transport.client_id in transport.client.transports:
            transport.client.core.receive_data(transport.client_id, data, now=self.now)
            self.pump_client(transport.client)

    def _report(self, transport: VirtualTransport, direction: Direction, *, force: bool) -> None:
        """``unsent`` as the driver contract asks: at the first byte, at 64 KiB and its doublings, at zero, and before
        ticks."""
        pipe = transport.pipes[direction]
        unsent = sum(map(len, pipe.unsent))
        if not force and _level(unsent) == _level(pipe.reported):
            return
        pipe.reported = unsent
        if direction == "down" and transport.node_id in transport.node.transports and transport.node.running:
            transport.node.hub.unsent(transport.node_id, unsent, now=self.now)
            self._pump_node(transport.node)
        elif direction == "up" and transport.client_id in transport.client.transports:
            transport.client.core.unsent(transport.client_id, unsent, now=self.now)
            self.pump_client(transport.client)

    def _report_waiting(self) -> None:
        for transport in self._transports():
            for direction in ("up", "down"):
                if transport.pipes[direction].unsent:
                    self._report(transport, direction, force=True)


def _check_seconds(seconds: object) -> None:
    if seconds is not None and not (isinstance(seconds, (int, float)) and 0 <= seconds < float("inf")):
        raise InvalidArgument(f"a number of virtual seconds is wanted, 0 or more, not {seconds!r}")


def _check_direction(direction: object) -> None:
    if direction not in ("up", "down"):
        raise InvalidArgument(f'a direction is "up" (to the server) or "down", not {direction!r}')


def _accept(event: Any) -> None:
    """The authenticator of a world whose test has no other."""


def _level(byte_count: int) -> int:
    if byte_count == 0:
        return -1
    return max(0, (byte_count // _REPORT_BYTES).bit_length())
