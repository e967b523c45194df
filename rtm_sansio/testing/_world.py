"""The virtual world itself: what a driver does, for all cores at once, in virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

from ..config import ClientConfig, ServerConfig
from ..effects import AskToken, CloseTransport, OpenTransport, PauseReading, ResumeReading, Transmit
from ..engine import MemoryEngine
from ..errors import InvalidArgument, TransportFailure
from ..events import LoginRequested, LoginWithdrawn, RenewalRequested, RequestCompleted, RequestErred
from ..hub import Hub
from ..operations import EngineCall
from ._carrier import Carrier
from ._clients import VirtualClient
from ._network import VirtualTransport, check_seconds
from ._nodes import VirtualNode

_MAX_PASSES = 2_000_000


class World(Carrier):
    """A clock, hubs, clients and the networks between them.

    With ``nodes`` above 1 the hubs share one ``MemoryEngine`` behind a virtual connection of
    ``engine_latency_seconds``: ``world.nodes[0].engine``, where it can be cut and delayed. With 1 the engine is
    embedded. ``authenticate`` gets each ``LoginRequested`` and ``RenewalRequested`` and returns None, an ``expires_at``
    in Unix seconds, or a pair of code and message to refuse;
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
        super().__init__(seed)
        self.server_config = server_config or ServerConfig()
        self.client_config = client_config or ClientConfig()
        self.latency_seconds = latency_seconds
        self.engine_latency_seconds = engine_latency_seconds
        self.authenticate: Callable[[Any], Any] = authenticate or _accept
        self._external = nodes > 1 if external_engine is None else external_engine
        self.withdrawn: list[int] = []
        """The transports whose login nobody waits for any more."""
        self.engine: MemoryEngine | None = self._make_engine() if self._external else None
        for index in range(nodes):
            self.nodes.append(VirtualNode(self, index))
            self.pump_node(self.nodes[index])

    # -- time

    def entropy(self, size: int) -> bytes:
        """Reproducible bytes in place of the operating system's."""
        return self.rng.randbytes(size)

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        check_seconds(seconds)
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
        times += [node.hub.next_deadline() for node in self.nodes if node.running and not node.paused]
        if self.engine is not None:
            times.append(self.engine.next_deadline())
        if self._scheduled:
            times.append(self._scheduled[0][0])
        times += [self._next_arrival(transport) for transport in self._transports()]
        return min((time for time in times if time is not None), default=None)

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
                self.announce()

    def _tick(self, node: VirtualNode) -> None:
        if not node.running or node.paused:
            return
        deadline = node.hub.next_deadline()
        if deadline is not None and deadline <= self.now:
            node.hub.set_wall_clock(self.clock.wall, now=self.now)
            node.hub.handle_timeout(now=self.now)
            self.pump_node(node)
        while node.hub.flush_wanted:
            node.hub.flush(now=self.now)
            self.pump_node(node)

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
            self.pump_node(node)
        for transport in list(node.transports.values()):
            self.break_transport(transport)
        node.running = False

    def start_server(self, index: int = 0, *, forget_engine: bool = False) -> None:
        """Start a stopped node, with a new hub; an embedded engine begins without memory, a shared one only with
        ``forget_engine``."""
        node = self.nodes[index]
        if forget_engine and self._external:
            self.engine = self._make_engine()
        for transport in self._transports():
            if transport.node is node:  # of a process that is no more
                self.break_transport(transport)
        node.start(self.make_hub(index))
        self.pump_node(node)

    def kill_node(self, index: int = 0, *, silent: bool = False) -> None:
        """Kill a node without a word: nothing that its hub has to say or to ask comes out any more.

        Its machine resets the connections and refuses new ones, or, with ``silent``, is gone as well: a black hole.
        What was under way to the engine at that moment may still be carried out (``VirtualEngineLink.survival``).
        ``start_server`` puts a new process in its place.
        """
        node = self.nodes[index]
        node.kill(silent=silent)
        transports = list(node.transports.values())
        node.transports.clear()
        if not silent:
            for transport in transports:
                self.break_transport(transport)

    def pause_node(self, index: int = 0, seconds: float | None = None) -> None:
        """A node's process stands still, for ``seconds`` or until ``wake_node``: nothing is read, no timer fires, bytes
        and answers wait. Its machine goes on: connections are made, and not accepted (F-24, F-90)."""
        check_seconds(seconds)
        node = self.nodes[index]
        node.paused = True
        if seconds is not None:
            hub = node.hub
            self.call_later(seconds, lambda: self.wake_node(index) if node.hub is hub else None)

    def wake_node(self, index: int = 0) -> None:
        """It goes on. Whatever has waited arrives in an order that nobody can tell; timers come last, as the driver
        contract wants it. Without effect on a node that does not stand still."""
        node = self.nodes[index]
        if not node.paused:
            return
        node.paused = False
        deliveries = [lambda: self._deliver_to(node), node.catch_up]
        self.rng.shuffle(deliveries)
        for deliver in deliveries:
            deliver()
        for transport in list(node.transports.values()):
            self._report(transport, "down", force=True)

    def _deliver_to(self, node: VirtualNode) -> None:
        for transport in list(node.transports.values()):
            self._deliver(transport, "up")

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
            if output.transport_id not in client.opening or node.unreachable:
                return
            client.opening.discard(output.transport_id)
            if network.failure is not None or network.refusing or not node.running:
                failure = network.failure or TransportFailure("connection refused", code="connection_refused")
                client.core.transport_failed(output.transport_id, failure, now=self.now)
            else:
                transport = VirtualTransport(client, output.transport_id, node, None)
                client.transports[output.transport_id] = transport
                node.do(lambda: self._accept_transport(transport))
                client.core.transport_opened(output.transport_id, now=self.now)
            self.pump_client(client)

        self.call_later(2 * network.latency_seconds, connected)

    def _accept_transport(self, transport: VirtualTransport) -> None:
        node = transport.node
        transport.node_id = node_id = node.hub.transport_accepted(peer="virtual", now=self.now)
        node.transports[node_id] = transport
        self.pump_node(node)
        if transport.broken:
            self._tell_node_lost(transport, None)

    def pump_node(self, node: VirtualNode) -> None:
        """Carry out a node's outputs, unless that is going on."""
        if node.pumping:
            return
        node.pumping = True
        hub = node.hub
        while outputs := hub.take_outputs():
            for output in outputs:
                if node.is_alive(hub):
                    self._do_node_output(node, output)
        node.pumping = False

    def _do_node_output(self, node: VirtualNode, output: Any) -> None:
        if isinstance(output, EngineCall):
            node.engine.call(node.hub, output)
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

    def announce(self) -> None:
        """Pass on what the engine announces."""
        assert self.engine is not None
        for name, announcement in self.engine.take_announcements():
            self.nodes[int(name.removeprefix("node"))].engine.announce(announcement)


def _accept(event: Any) -> None:
    """The authenticator of a world whose test has no other."""
