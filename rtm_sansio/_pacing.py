"""A token bucket: the client paces itself by it, the hub checks with it (S45)."""

from __future__ import annotations


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
        self._fill(now)
        if self._level < units:
            return False
        self._level -= units
        return True

    def _fill(self, now: float) -> None:
        if now > self._filled_at:
            self._level = min(self._burst, self._level + (now - self._filled_at) * self._rate)
            self._filled_at = now

    def ready_at(self, units: float = 1.0) -> float:
        """When ``units`` will be there if nothing is taken meanwhile."""
        return self._filled_at + max(0.0, units - self._level) / self._rate
