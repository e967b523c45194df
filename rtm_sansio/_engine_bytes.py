"""The byte bound of all homes of a ``MemoryEngine`` together: what is oldest goes first (S55)."""

from __future__ import annotations

import abc
import heapq
from collections.abc import Callable, Iterable, Iterator

from ._engine_shared import EngineContext

LOG = b""
"""The key of a home's log, of which the oldest block goes; any other key is the id of a session."""


class DroppableHome(abc.ABC):
    """A home some of which can be dropped: the oldest block of its log, or what it knows of a session."""

    __slots__ = ("counted", "counted_fixed", "forgotten")

    def __init__(self) -> None:
        self.counted = self.counted_fixed = 0
        """Its bytes, and those that are fixed, as they are counted among those of all homes."""
        self.forgotten = False

    @property
    @abc.abstractmethod
    def byte_count(self) -> int:
        """What the bound counts: all that can be dropped, now or later."""

    @property
    def fixed_bytes(self) -> int:
        """What of them cannot be dropped for now."""
        return 0

    @abc.abstractmethod
    def ages(self) -> Iterator[tuple[float, bytes]]:
        """Since when each part that can be dropped is there, and its key."""

    @abc.abstractmethod
    def age_of(self, key: bytes) -> float | None:
        """The same for one part; None if there is nothing to drop."""

    @abc.abstractmethod
    def drop(self, key: bytes) -> None:
        """Drop it."""


class ByteBudget:
    """Counts the bytes of all homes, and keeps them within ``max_engine_bytes``. ``sources`` list the homes."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._byte_count = self._fixed_bytes = 0
        self._ages: list[tuple[float, int, DroppableHome, bytes]] = []
        self._ages_taken_at = float("-inf")
        self.sources: list[Callable[[], Iterable[DroppableHome]]] = []

    @property
    def byte_count(self) -> int:
        """The bytes of all homes."""
        return self._byte_count

    @property
    def room(self) -> int:
        """How much may still be added that cannot be dropped: half of all bytes are for the logs."""
        return self._context.config.max_engine_bytes // 2 - self._fixed_bytes

    def count(self, home: DroppableHome) -> None:
        """Count a home's bytes anew."""
        byte_count = home.byte_count
        self._byte_count += byte_count - home.counted
        home.counted = byte_count
        fixed_bytes = home.fixed_bytes
        self._fixed_bytes += fixed_bytes - home.counted_fixed
        home.counted_fixed = fixed_bytes

    def bound(self, home: DroppableHome) -> None:
        """A home may have grown: keep all homes together within their bytes."""
        self.count(home)
        while self._byte_count > self._context.config.max_engine_bytes:
            self._drop_oldest()

    def forget(self, home: DroppableHome) -> None:
        """The home is gone."""
        self._byte_count -= home.counted
        self._fixed_bytes -= home.counted_fixed
        home.counted = home.counted_fixed = 0
        home.forgotten = True

    def _drop_oldest(self) -> None:
        """The oldest block goes, or what is known of the session that did nothing for longest."""
        if not self._ages or self._ages[0][0] >= self._ages_taken_at:
            self._collect_ages()
        assert self._ages  # what cannot be dropped fits: it was added within ``room``, or was there when it could be
        at, sequence, home, key = self._ages[0]
        if not home.forgotten and home.age_of(key) == at:
            home.drop(key)
            self.count(home)
        later = None if home.forgotten or key != LOG else home.age_of(key)
        if later is None:
            heapq.heappop(self._ages)
        else:
            heapq.heapreplace(self._ages, (later, sequence, home, key))

    def _collect_ages(self) -> None:
        """List all that can be dropped. Whatever is younger than this list may be missing in it."""
        self._ages_taken_at = self._context.now
        homes = [home for source in self.sources for home in source()]
        found = ((at, home, key) for home in homes for at, key in home.ages())
        self._ages = [(at, sequence, home, key) for sequence, (at, home, key) in enumerate(found)]
        heapq.heapify(self._ages)
