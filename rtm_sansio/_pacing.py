"""A token bucket: the client paces itself by it, the hub checks with it (S45)."""

from __future__ import annotations

_TOLERANCE = 1e-6
"""Units: what rounding may take from a level."""
_SHORTEST_WAIT_SECONDS = 0.001
"""A shorter wait would cost a wake-up for each unit, and might round to none at all: a timer that fires for ever."""

UNITS_UNDER_WAY = 256
BYTES_UNDER_WAY = 256 * 1024
"""What a client may have sent that the server has not got."""


def paced_burst(burst: int, under_way: int) -> int:
    """The burst of a client's bucket, for a server that allows ``burst`` (S45).

    What was held up on its way arrives together with what was sent after it, and the server's bucket must have room
    for both: as much as may be ``under_way`` is kept back, but never more than half.
    """
    return burst - min(burst // 2, under_way)


class TokenBucket:
    """``rate_per_second`` units flow in, up to ``burst``; each request takes one or more.

    One that costs more than ``enough`` can be had as soon as so many are there; what is missing is owed (S45). Client
    and server must have the same ``enough``, or the one would send what the other refuses.
    """

    __slots__ = ("_burst", "_enough", "_filled_at", "_level", "_rate")

    def __init__(self, *, rate_per_second: float, burst: float, now: float, enough: float | None = None) -> None:
        self._rate = rate_per_second
        self._burst = burst
        self._enough = burst if enough is None else enough
        self._level = burst
        self._filled_at = now

    def try_take(self, now: float, units: float = 1.0) -> bool:
        """Take ``units`` if they, or enough, are there."""
        if not self.has(now, units):
            return False
        left = self._level - units
        self._level = 0.0 if -_TOLERANCE <= left < 0.0 else left
        return True

    def has(self, now: float, units: float) -> bool:
        """Whether ``try_take`` would succeed. Nothing is always there."""
        if now > self._filled_at:
            self._level = min(self._burst, self._level + (now - self._filled_at) * self._rate)
            self._filled_at = now
        return units <= 0 or self._level >= min(units, self._enough) - _TOLERANCE

    def ready_at(self, units: float = 1.0) -> float:
        """When they will be if nothing is taken meanwhile."""
        missing = min(units, self._enough) - self._level
        if missing <= _TOLERANCE:
            return self._filled_at
        return self._filled_at + max(missing / self._rate + _TOLERANCE, _SHORTEST_WAIT_SECONDS)
