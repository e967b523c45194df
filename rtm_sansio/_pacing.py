"""A token bucket: the client paces itself by it, the hub checks with it (S45)."""

from __future__ import annotations

_TOLERANCE = 1e-6
"""Units: what rounding may take from a level."""
_SHORTEST_WAIT_SECONDS = 0.001
"""A shorter wait would cost a wake-up for each unit, and might round to none at all: a timer that fires for ever."""


class TokenBucket:
    """``rate_per_second`` units flow in, up to ``burst``; each request takes one."""

    __slots__ = ("_burst", "_filled_at", "_level", "_rate")

    def __init__(self, *, rate_per_second: float, burst: float, now: float) -> None:
        self._rate = rate_per_second
        self._burst = burst
        self._level = burst
        self._filled_at = now

    def try_take(self, now: float, units: float = 1.0) -> bool:
        """Take ``units`` if they are there."""
        if now > self._filled_at:
            self._level = min(self._burst, self._level + (now - self._filled_at) * self._rate)
            self._filled_at = now
        if self._level < units - _TOLERANCE:
            return False
        self._level = max(0.0, self._level - units)
        return True

    def has(self, now: float, units: float) -> bool:
        """Whether ``units`` are there."""
        return self.try_take(now, 0.0) and self._level >= units - _TOLERANCE

    def try_owe(self, now: float, units: float) -> bool:
        """The same for what may be more than the burst: it can be had from a full bucket, and is owed then."""
        if not self.try_take(now, min(units, self._burst)):
            return False
        self._level -= max(0.0, units - self._burst)
        return True

    def ready_at(self, units: float = 1.0) -> float:
        """When ``units`` will be there if nothing is taken meanwhile."""
        missing = min(units, self._burst) - self._level
        if missing <= _TOLERANCE:
            return self._filled_at
        return self._filled_at + max(missing / self._rate + _TOLERANCE, _SHORTEST_WAIT_SECONDS)
