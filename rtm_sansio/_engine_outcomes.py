"""What a home of a ``MemoryEngine`` knows of the sessions whose requests it carried out: their outcomes (S46, E8)."""

from __future__ import annotations

from typing import Any

import msgspec

OUTCOME_BYTES = 160
"""What keeping an outcome costs, for the byte bound of all homes (S55)."""
MARK_BYTES = 320
"""What is kept of a session besides its outcomes."""


class AppendOutcome(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a message."""

    offset: int
    sent_at: int


class SessionPart:
    """What a home knows of a session."""

    __slots__ = ("attach", "by_number", "ended", "last_at", "lowest", "step")

    def __init__(self) -> None:
        self.attach = 0  # of the last join or leave, and its step (E8)
        self.step = 0
        self.ended = False
        self.lowest = 0  # numbers below are never carried out (S46)
        self.last_at = 0.0
        self.by_number: dict[int, Any] = {}

    def forget(self, lowest: int, oldest: float) -> int:
        """Forget the outcomes below ``lowest``, and those made at ``oldest`` or before; returns how many went."""
        forgotten = 0
        if self.by_number and self.last_at <= oldest:
            forgotten = self.forget_all()
        if lowest > self.lowest:
            self.lowest = lowest
            while self.by_number:
                first = next(iter(self.by_number))
                if first >= lowest:
                    break
                del self.by_number[first]
                forgotten += 1
        return forgotten

    def forget_all(self) -> int:
        """Forget all outcomes; returns how many went."""
        forgotten = len(self.by_number)
        self.by_number.clear()
        return forgotten

    def drop_all(self) -> int:
        """The same to make room: what was done is not done again (S46)."""
        if self.by_number:
            self.lowest = max(self.lowest, max(self.by_number) + 1)
        return self.forget_all()

    def keep(self, number: int, outcome: Any, now: float, max_outcomes: int) -> int:
        """Keep a new outcome; returns how many more there are."""
        self.by_number[number] = outcome
        self.last_at = now
        if len(self.by_number) <= max_outcomes:
            return 1
        # So many newer ones can only have been asked for if this one was answered.
        first = next(iter(self.by_number))
        del self.by_number[first]
        self.lowest = max(self.lowest, first + 1)
        return 0
