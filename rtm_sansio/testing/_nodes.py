"""The nodes of a virtual world, and the connection of each to the engine that they share (E5, E7; F-83 to F-91)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgument
from ..hub import Hub
from ..operations import EngineCall
from ._network import VirtualTransport, check_seconds

if TYPE_CHECKING:
    from ._world import World


class VirtualNode:
    """A real ``Hub`` in a world; ``engine`` is its connection to the engine."""

    def __init__(self, world: World, index: int) -> None:
        self.index = index
        self.hub = world.make_hub(index)
        self.engine = VirtualEngineLink(world, self)
        self.transports: dict[int, VirtualTransport] = {}
        self.pumping = False
        self.running = True
        """Whether it takes connections."""
        self.paused = False
        """Whether its process stands still."""
        self.unreachable = False
        """Whether its machine is gone as well: nobody answers."""
        self._dead = False
        self._inbox: list[Callable[[], None]] = []

    def is_alive(self, hub: Hub) -> bool:
        """Whether this hub is still the node's, and its process there. One that was stopped in order ends what it has
        begun."""
        return hub is self.hub and not self._dead

    def do(self, action: Callable[[], None]) -> None:
        """Have the process do something: now, or when it goes on."""
        if self.paused:
            self._inbox.append(action)
        elif not self._dead:
            action()

    def catch_up(self) -> None:
        """Do what has waited while the process stood still."""
        inbox, self._inbox = self._inbox, []
        for action in inbox:
            self.do(action)

    def kill(self, *, silent: bool) -> None:
        """The process is no more."""
        self._dead = True
        self.running = self.paused = False
        self.unreachable = silent
        self._inbox.clear()
        self.engine.drop()

    def start(self, hub: Hub) -> None:
        """A new process."""
        self.engine.drop()
        self.hub = hub
        self.transports.clear()
        self._inbox.clear()
        self._dead = self.unreachable = self.paused = self.pumping = False
        self.running = True
        self.engine.connect()


class VirtualEngineLink:
    """The connection between one node and the engine, and what can go wrong with it.

    Attributes to be set at any time: ``latency_seconds`` of each direction, ``jitter_seconds`` above it (calls, answers
    and announcements overtake each other), ``survival``, the chance of a call that was on its way when the connection
    broke to be carried out all the same, and ``straggle_seconds``, how much later that may be. Durations are virtual
    seconds; a negative one raises InvalidArgument. Its methods raise InvalidArgument for an engine inside the node.
    """

    def __init__(self, world: World, node: VirtualNode) -> None:
        self._world = world
        self._node = node
        self.latency_seconds = world.engine_latency_seconds
        self.jitter_seconds = 0.0
        self.survival = 0.5
        self.straggle_seconds = 0.0
        self.is_cut = False
        self.calls = 0
        """How many calls have gone out, so far."""
        self._calls_left: int | None = None
        self._silent_death = False
        self._stalled = False
        self._held: list[Callable[[], None]] = []
        self._connection = 0  # rises with each connection
        self._restoration = 0

    # -- faults

    def cut(self, seconds: float | None = None) -> None:
        """Break the connection, for ``seconds`` or until ``restore``: calls, answers and announcements under way are
        lost, and the node is told."""
        self._check(seconds)
        self.drop()
        self.is_cut = True
        self._node.do(lambda: self._tell(lambda hub, now: hub.engine_lost(now=now)))
        self._restore_after(seconds)

    def stall(self, seconds: float | None = None) -> None:
        """Deliver nothing any more, and say nothing, for ``seconds`` or until ``restore``; then all of it."""
        self._check(seconds)
        self._stalled = True
        self._restore_after(seconds)

    def restore(self) -> None:
        """Everything works again; a node whose connection was cut is told."""
        self._restoration += 1
        self._stalled = False
        held, self._held = self._held, []
        for action in held:
            action()
        if self.is_cut:
            self.is_cut = False
            self._node.do(lambda: self._tell(lambda hub, now: hub.engine_restored(now=now)))

    def die_after(self, calls: int, *, silent: bool = False) -> None:
        """Let so many more calls through, have them carried out, and kill the node at the next one."""
        self._check(None)
        self._calls_left = calls
        self._silent_death = silent

    def _check(self, seconds: float | None) -> None:
        check_seconds(seconds)
        if self._world.engine is None:
            raise InvalidArgument("the engine is inside this node; make the World with external_engine=True")

    def _restore_after(self, seconds: float | None) -> None:
        self._restoration += 1
        if seconds is not None:
            restoration = self._restoration
            self._world.call_later(seconds, lambda: self.restore() if restoration == self._restoration else None)

    def _tell(self, report: Callable[[Hub, float], None]) -> None:
        report(self._node.hub, self._world.now)
        self._world.pump_node(self._node)

    def drop(self) -> None:
        """Whatever is under way has no connection any more."""
        self._connection += 1

    def connect(self) -> None:
        """A new process has a new connection, and none of the orders given for the one before."""
        self._restoration += 1
        self.is_cut = self._stalled = False
        self._held.clear()
        self._calls_left = None

    # -- what goes over it

    def call(self, hub: Hub, call: EngineCall) -> None:
        """The hub asks for an operation."""
        if self._calls_left is not None:
            if not self._calls_left:
                self.survival = 1.0
                self._world.kill_node(self._node.index, silent=self._silent_death)
                return
            self._calls_left -= 1
        self.calls += 1
        if not self.is_cut:  # else the node has not been told yet, and will ask again
            connection = self._connection
            self._later(lambda: self._execute(hub, call, connection))

    def _execute(self, hub: Hub, call: EngineCall, connection: int) -> None:
        world = self._world
        if connection != self._connection:
            if world.rng.random() < self.survival:
                world.call_later(self.straggle_seconds * world.rng.random(), lambda: self._execute_anyway(call))
            return
        assert world.engine is not None
        answer = world.engine.execute(call.operation, now=world.now)
        world.announce()
        self._later(lambda: self._deliver(connection, lambda now: hub.engine_answered(call.call_id, answer, now=now)))

    def _execute_anyway(self, call: EngineCall) -> None:
        assert self._world.engine is not None
        self._world.engine.execute(call.operation, now=self._world.now)
        self._world.announce()

    def announce(self, announcement: Any) -> None:
        """The engine announces something to the node."""
        if self.is_cut:
            return
        hub, connection = self._node.hub, self._connection
        self._later(lambda: self._deliver(connection, lambda now: hub.engine_announced(announcement, now=now)))

    def _later(self, action: Callable[[], None]) -> None:
        seconds = self.latency_seconds
        if self.jitter_seconds:
            seconds += self._world.rng.uniform(0.0, self.jitter_seconds)
        self._world.call_later(seconds, lambda: self._held.append(action) if self._stalled else action())

    def _deliver(self, connection: int, report: Callable[[float], None]) -> None:
        if connection != self._connection:
            return

        def tell() -> None:  # the hub is there: with the one before it went its connection, and all that waited
            report(self._world.now)
            self._world.pump_node(self._node)

        self._node.do(tell)
