"""The clock of a virtual world, its transports, and the paths that they take (F-01 to F-20)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal

from ..errors import InvalidArgument, TransportFailure

if TYPE_CHECKING:
    from ._carrier import Carrier
    from ._clients import VirtualClient
    from ._nodes import VirtualNode

Direction = Literal["up", "down"]
"""``up`` is from the client to the server."""


class VirtualClock:
    """The monotonic seconds of a world, and its wall clock, which a test may shift (F-21)."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall_offset = 1_700_000_000.0

    @property
    def wall(self) -> float:
        """Unix seconds."""
        return self.now + self.wall_offset


class Pipe:
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

    def __init__(self, client: VirtualClient, client_id: int, node: VirtualNode, node_id: int | None) -> None:
        self.client = client
        self.client_id = client_id
        self.node = node
        self.node_id = node_id
        """None until the node has accepted it: one whose process stands still accepts nothing."""
        self.pipes: dict[Direction, Pipe] = {"up": Pipe(), "down": Pipe()}
        self.reading: dict[Direction, bool] = {"up": True, "down": True}
        self.broken = False


class VirtualNetwork:
    """The path between one client and the servers, and what can go wrong with it.

    A direction is "up" (to the server) or "down". Besides the methods there are attributes to be set at any time:
    ``latency_seconds``, ``jitter_seconds``, ``max_chunk_bytes``, ``socket_buffer_bytes``, ``refusing``, ``hanging``,
    ``failure``. Durations are virtual seconds; a negative one raises InvalidArgument.
    """

    def __init__(self, world: Carrier) -> None:
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
        check_seconds(seconds)
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
        check_seconds(seconds)
        for direction in directions:
            check_direction(direction)
        self.stalled |= set(directions) or {"up", "down"}
        self.hanging = self.stalled == {"up", "down"}
        self._restore_after(seconds)

    def hold(self, direction: Direction) -> None:
        """Keep back what goes in one direction until ``release``; new connections work."""
        check_direction(direction)
        self.stalled.add(direction)

    def release(self) -> None:
        """Deliver what was held back, in order."""
        self.restore()

    def reset_after(self, byte_count: int, direction: Direction) -> None:
        """Reset the connection on which ``byte_count`` more bytes have gone in this direction, in the middle of
        whatever they are."""
        check_direction(direction)
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


def check_seconds(seconds: object) -> None:
    """Raises InvalidArgument for what is no duration, or None."""
    if seconds is not None and not (isinstance(seconds, (int, float)) and 0 <= seconds < float("inf")):
        raise InvalidArgument(f"a number of virtual seconds is wanted, 0 or more, not {seconds!r}")


def check_direction(direction: object) -> None:
    """Raises InvalidArgument for what is no direction."""
    if direction not in ("up", "down"):
        raise InvalidArgument(f'a direction is "up" (to the server) or "down", not {direction!r}')
