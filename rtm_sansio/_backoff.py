"""The delay before the next attempt: full jitter over a capped exponential (S21)."""

from __future__ import annotations

import random


class Backoff:
    """Counts attempts; the delays come from the generator that is passed in."""

    __slots__ = ("_base", "_cap", "_count", "_grace_cap", "_rng")

    _LARGEST_EXPONENT = 32  # beyond any sensible cap: keeps the power from overflowing

    def __init__(
        self, *, base_seconds: float, cap_seconds: float, grace_cap_seconds: float, rng: random.Random
    ) -> None:
        self._base = base_seconds
        self._cap = cap_seconds
        self._grace_cap = grace_cap_seconds
        self._rng = rng
        self._count = 0

    def next_delay(self, *, in_grace: bool) -> float:
        """Seconds before the next attempt, uniform in [0, min(cap, base * 2**n)]; the cap is lower within the grace
        time."""
        ceiling = min(self._cap, self._base * 2.0 ** min(self._count, self._LARGEST_EXPONENT))
        self._count += 1
        return self._rng.uniform(0.0, min(ceiling, self._grace_cap) if in_grace else ceiling)

    def capped_delay(self) -> float:
        """Seconds before an attempt of which a verdict says that it will hardly succeed: uniform in [0, cap] (S20)."""
        self._count += 1
        return self._rng.uniform(0.0, self._cap)

    def least_delay(self) -> float:
        """Seconds before an attempt that the server wants sooner: uniform in [0, base], so that nobody comes at
        once."""
        return self._rng.uniform(0.0, self._base)

    def reset(self) -> None:
        """A connection lived long enough: the count starts again."""
        self._count = 0
