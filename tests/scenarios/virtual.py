"""The bare cores in virtual time: what every other world is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rtm_sansio import (
    ClientConfig,
    HomeQueue,
    LoginRequested,
    OnlineStatus,
    RenewalRequested,
    RtmError,
    ServerConfig,
    TransportFailure,
    event_bytes,
    home_of,
)
from rtm_sansio import testing as rtm_testing
from rtm_sansio.queues import ending_of
from scenarios.adapter import CLIENT_HOME, CORE_ATTRIBUTES, Actor, IterationEnded, Link, Pending, World, judge_token
from scenarios.proxy import Direction


class Reading:
    """What a frontend's iterators do with the events of a core: a queue for each home, read or not."""

    def __init__(
        self,
        core: Any,
        *,
        config: ClientConfig,
        record: Callable[[str, Any], None],
        hear: Callable[[str, Any], None],
        now: Callable[[], float],
    ) -> None:
        self._core = core
        self._config = config
        self._record = record
        self._hear = hear
        self._now = now
        self._queues: dict[str, HomeQueue] = {}
        self._active: set[str] = set()

    def put(self, event: Any) -> None:
        """An event came out of the core."""
        home = home_of(event)
        if home == CLIENT_HOME:
            self._record(home, event)
        self._queue(home).put(event)
        self._take(home)
        ending = ending_of(event)
        if ending is not None:
            for channel in list(self._queues) if ending.home is None else [ending.home]:
                self.end(channel, ending.error())

    def iterate(self, home: str) -> None:
        """Somebody iterates from now on."""
        queue = self._queue(home)
        events, size = queue.backlog
        queue.start_iterating()
        self._core.iterating(home, True, backlog_events=events, backlog_bytes=size, now=self._now())
        self.resume(home)

    def pause(self, home: str) -> None:
        """Whoever iterates takes nothing for a while."""
        self._active.discard(home)

    def resume(self, home: str) -> None:
        """It goes on."""
        self._active.add(home)
        self._take(home)

    def end(self, home: str, error: RtmError | None = None) -> None:
        """The channel was left or lost, or the session has ended."""
        queue = self._queues.pop(home, None)
        if queue is not None and queue.iterated:
            while (event := queue.pop()) is not None:
                self._hear(home, event)
            self._hear(home, IterationEnded(error))
        self._active.discard(home)

    def _queue(self, home: str) -> HomeQueue:
        if home not in self._queues:
            self._queues[home] = HomeQueue(
                home,
                max_uniterated_events=self._config.max_uniterated_events,
                max_queued_events=self._config.max_queued_events,
                max_queued_bytes=self._config.max_queued_bytes,
            )
        return self._queues[home]

    def _take(self, home: str) -> None:
        queue = self._queues[home]
        while home in self._active and (event := queue.pop()) is not None:
            self._hear(home, event)
            if queue.counts(event):
                self._core.consumed(home, 1, event_bytes(event), now=self._now())


class _Tap(list[Any]):
    """In place of the list of events of a VirtualClient: hands each on at the moment at which it comes."""

    def __init__(self, take: Callable[[Any], None]) -> None:
        super().__init__()
        self._take = take

    def append(self, event: Any) -> None:
        super().append(event)
        self._take(event)


class VirtualLink(Link):
    def __init__(self, client: rtm_testing.VirtualClient) -> None:
        self._client = client

    def cut(self, seconds: float | None = None) -> None:
        self._client.network.cut(seconds)

    def stall(self, *directions: Direction, seconds: float | None = None) -> None:
        self._client.network.stall(*directions, seconds=seconds)

    def restore(self) -> None:
        self._client.network.restore()

    @property
    def connections(self) -> int:
        return len(self._client.attempts)


class _VirtualPending:
    def __init__(self, world: rtm_testing.World, client: rtm_testing.VirtualClient, request_id: int) -> None:
        self._world = world
        self._client = client
        self._request_id = request_id

    @property
    def done(self) -> bool:
        return self._request_id in self._client.ends

    def result(self) -> Any:
        self._world.run_until(lambda: self.done)
        error = self._client.error_of(self._request_id)
        if error is not None:
            raise error
        return self._client.ends[self._request_id].result  # type: ignore[union-attr]


class VirtualActor(Actor):
    def __init__(
        self, world: rtm_testing.World, name: str, uid: str, config: ClientConfig, *, nodes: int | list[int] = 0
    ) -> None:
        self._world = world
        self._client = world.client(config=config, node=nodes)
        super().__init__(name, uid, VirtualLink(self._client))
        self._core = self._client.core
        self._reading = Reading(
            self._core,
            config=config,
            record=self.record,
            hear=self.hear,
            now=lambda: world.now,
        )
        self._client.events = _Tap(self._reading.put)

    def begin_login(self, token: str = "good") -> Pending:
        return self._pending(self._client.login(self.uid, token, wait=False))

    def begin_logout(self) -> Pending:
        return self._pending(self._client.logout(wait=False))

    def join(self, channel: str, *, iterate: bool = True) -> None:
        self._client.join(channel)
        if iterate:
            self.iterate(channel)

    def iterate(self, channel: str) -> None:
        self._reading.iterate(channel)
        self._world.pump_client(self._client)

    def pause(self, channel: str) -> None:
        self._reading.pause(channel)

    def resume(self, channel: str) -> None:
        self._reading.resume(channel)
        self._world.pump_client(self._client)

    def leave(self, channel: str) -> None:
        self._client.leave(channel)
        self._reading.end(channel)

    def record(self, home: str, event: Any, at: float | None = None) -> None:
        super().record(home, event, self._world.elapsed if at is None else at)

    def begin_send_to_peer(
        self, uid: str, message: str | bytes, *, offline: bool = False, description: str = ""
    ) -> Pending:
        return self._pending(
            self._client.call(
                lambda: self._core.send_to_peer(
                    uid, message, offline=offline, description=description, now=self._world.now
                )
            )
        )

    def begin_send(self, channel: str, message: str | bytes) -> Pending:
        return self._pending(self._client.post(channel, message))

    def members(self, channel: str, *, after: str = "") -> Any:
        return self._ask(lambda: self._core.list_members(channel, after=after, now=self._world.now)).result()

    def member_counts(self, *channels: str) -> dict[str, int]:
        found = self._ask(lambda: self._core.count_members(channels, now=self._world.now)).result()
        counts: dict[str, int] = found.counts
        return counts

    def begin_history(self, channel: str, **options: Any) -> Pending:
        return self._ask(lambda: self._core.read_history(channel, now=self._world.now, **options))

    def _ask(self, command: Callable[[], int]) -> Pending:
        return self._pending(self._client.call(command))

    def begin_attributes(self, call: str, *arguments: Any, **options: Any) -> Pending:
        request = CORE_ATTRIBUTES[call](self._core, *arguments, now=self._world.now, **options)
        return self._pending(self._client.call(lambda: request))

    def renew(self, token: str) -> None:
        self._client.call(lambda: self._core.renew_token(token, now=self._world.now), wait=True)

    def online_status(self, *uids: str) -> dict[str, OnlineStatus]:
        return self._ended(self._core.read_status(uids, now=self._world.now)).statuses

    def watch(self, *uids: str) -> dict[str, OnlineStatus]:
        return self._ended(self._core.watch_status(uids, now=self._world.now)).statuses

    def unwatch(self, *uids: str) -> None:
        self._ended(self._core.unwatch_status(uids, now=self._world.now))

    def _ended(self, request_id: int) -> Any:
        self._world.pump_client(self._client)
        return self._pending(request_id).result()

    def freeze(self, seconds: float) -> None:
        transports = list(self._client.transports.values())
        for transport in transports:
            transport.reading["down"] = False
        self._world.clients.remove(self._client)
        self._world.run(seconds)
        for transport in transports:
            transport.reading["down"] = True
        self._world.clients.append(self._client)

    @property
    def state(self) -> str:
        return self._client.state.value

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            self._world.run_until(condition)
        except TimeoutError:
            raise AssertionError(f"in vain: {what}; heard: {self.heard}") from None

    def _pending(self, request_id: int) -> Pending:
        return _VirtualPending(self._world, self._client, request_id)


class _Stranger:
    """Takes the place of a client: it only keeps what it is sent. It is its own core."""

    def __init__(self, world: rtm_testing.World) -> None:
        self.core = self
        self._world = world
        self.network = rtm_testing.VirtualNetwork(world)
        self.transports: dict[int, rtm_testing.VirtualTransport] = {}
        self.opening: set[int] = set()
        self.received = b""
        self.pumping = False
        self.done = False

    def receive_data(self, transport_id: int, data: bytes, *, now: float) -> None:
        self.received += data

    def transport_lost(self, transport_id: int, cause: TransportFailure | None, *, now: float) -> None:
        self.done = True

    def unsent(self, transport_id: int, byte_count: int, *, now: float) -> None:
        pass

    def result(self) -> bytes:
        self._world.run_until(lambda: self.done)
        return self.received

    def next_deadline(self) -> None:
        return None

    def take_outputs(self) -> list[Any]:
        return []


class VirtualWorld(World):
    scale = 1.0
    tolerance = 0.05

    def __init__(self, *, server: dict[str, Any], seed: int = 0, nodes: int = 1) -> None:
        super().__init__()
        self._world = rtm_testing.World(
            seed=seed, server_config=ServerConfig(**server), authenticate=self._authenticate, nodes=nodes
        )

    def _authenticate(self, request: LoginRequested | RenewalRequested) -> Any:
        code = judge_token(request.token)
        return None if code is None else (code, "the token is bad")

    def actor(self, name: str, *, uid: str | None = None, **config: Any) -> Actor:
        actor = VirtualActor(self._world, name, uid or name, self.config(config), nodes=self._path())
        self.actors.append(actor)
        return actor

    def _path(self) -> list[int]:
        """The nodes that an actor's attempts go to, by turns."""
        return [0]

    def kick(self, uid: str) -> None:
        self._on_hub(lambda hub: hub.kick(uid, now=self._world.now))

    def ban(self, uid: str, seconds: float) -> None:
        self._on_hub(lambda hub: hub.ban(uid, seconds, now=self._world.now))

    def _on_hub(self, command: Callable[[Any], None]) -> None:
        command(self._world.nodes[0].hub)
        self._world.run(0.0)

    def restart_server(self) -> None:
        self._world.restart_server()

    def begin_intrusion(self, data: bytes) -> Pending:
        world, node = self._world, self._world.nodes[0]
        stranger = _Stranger(world)
        world.clients.append(stranger)  # type: ignore[arg-type]
        node_id = node.hub.transport_accepted(peer="stranger", now=world.now)
        transport = rtm_testing.VirtualTransport(stranger, 1, node, node_id)  # type: ignore[arg-type]
        stranger.transports[1] = node.transports[node_id] = transport
        world._write(transport, "up", data)
        return stranger

    @property
    def elapsed(self) -> float:
        return self._world.elapsed

    def close(self) -> None:
        pass


class SeveralNodesWorld(VirtualWorld):
    """Two nodes on one engine: the next attempt of an actor goes to the other one, and whoever is second begins there.

    All scenarios apply. The operator speaks to the first node, a stranger comes to the first node, and where "the
    server" starts anew, without any memory, that is both nodes and the engine.
    """

    def __init__(self, *, server: dict[str, Any], seed: int = 0) -> None:
        super().__init__(server=server, seed=seed, nodes=2)
        self._world.run(0.1)  # both have their leases

    def _path(self) -> list[int]:
        return [0, 1] if len(self.actors) % 2 else [1, 0]

    def restart_server(self) -> None:
        for index in range(2):
            self._world.stop_server(index)
        for index in range(2):
            self._world.start_server(index, forget_engine=not index)
