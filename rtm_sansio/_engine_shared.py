"""What the homes of a ``MemoryEngine`` share: settings, time, numbers, announcements; and the list of what is idle."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .config import ServerConfig
from .operations import Announcement


class EngineContext:
    """One engine's settings, its clock (E6), and what it has to announce."""

    __slots__ = (
        "_last_number",
        "announcements",
        "config",
        "entropy",
        "leases",
        "memory_start",
        "nodes",
        "now",
        "wall_offset",
    )

    def __init__(self, config: ServerConfig, entropy: Callable[[int], bytes]) -> None:
        self.config = config
        self.entropy = entropy
        self.now = float("-inf")
        self.wall_offset: float | None = None
        self.memory_start = 0
        """The first login epoch of this memory, in µs (S31)."""
        self.announcements: list[tuple[str, Announcement]] = []
        self.nodes: dict[str, None] = {}
        """Whoever holds a lease, or has served a session without one: they are asked to do overdue things (E2)."""
        self.leases: dict[str, bytes] = {}
        """The lease of each node that holds one (E7)."""
        self._last_number = 0

    def advance(self, now: float) -> None:
        """Time passes, and never goes back."""
        if now > self.now:
            self.now = now

    def set_wall_clock(self, unix_seconds: float, now: float) -> None:
        """The first call is the start of the engine's memory."""
        self.advance(now)
        if self.wall_offset is None:
            self.memory_start = int((unix_seconds + self.config.memory_margin_seconds) * 1_000_000)
        self.wall_offset = unix_seconds - self.now

    def unix_milliseconds(self, at: float) -> int:
        """A moment of the engine's clock, to be shown."""
        return int((at + (self.wall_offset or 0.0)) * 1000)

    def unix_microseconds(self) -> int:
        """The engine's time for login epochs."""
        return int((self.now + (self.wall_offset or 0.0)) * 1_000_000)

    def next_number(self) -> int:
        """For orders and things to do: rising, also over a start without memory, so that a node's old cursor hides
        nothing new."""
        self._last_number = max(self._last_number + 1, self.memory_start)
        return self._last_number

    def announce(self, nodes: Iterable[str], announcement: Announcement) -> None:
        """Tell these nodes."""
        for node in nodes:
            self.announcements.append((node, announcement))


NEXT_PART_SECONDS = 0.001
"""What is due at one instant is done in parts, so that nobody else waits for long: the next part comes after this."""
_EXPIRED_AT_ONCE = 1024
"""So many names are forgotten at a time, that nobody else waits for long; the rest goes at the next occasion."""
SWEEP_SECONDS = 1.0
"""A home is swept at most this often: trimming may be late (S33)."""


class IdleList:
    """Names that nobody uses, the longest idle first; bounded in number and in time."""

    __slots__ = ("_max_count", "_max_seconds", "_since")

    def __init__(self, max_count: int, max_seconds: float) -> None:
        self._max_count = max_count
        self._max_seconds = max_seconds
        self._since: dict[str, float] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._since

    def since(self, name: str) -> float | None:
        """Since when it is idle; None if it is not."""
        return self._since.get(name)

    def add(self, name: str, now: float) -> None:
        """It is idle from now on."""
        self._since.pop(name, None)
        self._since[name] = now

    def discard(self, name: str) -> None:
        """It is used, or gone."""
        self._since.pop(name, None)

    def take_expired(self, now: float) -> list[str]:
        """Take out what has been idle for too long, or is too much."""
        expired: list[str] = []
        for name, since in self._since.items():
            if len(expired) == _EXPIRED_AT_ONCE or (
                len(self._since) - len(expired) <= self._max_count and since + self._max_seconds > now
            ):
                break
            expired.append(name)
        for name in expired:
            del self._since[name]
        return expired
