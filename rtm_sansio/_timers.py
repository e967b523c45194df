"""A fixed table of named timers: the next deadline is a minimum, expiry is "deadline <= now"."""

from __future__ import annotations

import enum
from typing import Generic, TypeVar

_Name = TypeVar("_Name", bound=enum.Enum)


class Timers(Generic[_Name]):
    """Deadlines by name, in the caller's monotonic seconds."""

    __slots__ = ("_deadlines",)

    def __init__(self) -> None:
        self._deadlines: dict[_Name, float] = {}

    def set(self, name: _Name, deadline: float) -> None:
        """Arm the timer, whatever it was set to before."""
        self._deadlines[name] = deadline

    def clear(self, *names: _Name) -> None:
        """Disarm timers; those not armed are passed over."""
        for name in names:
            self._deadlines.pop(name, None)

    def clear_all(self) -> None:
        """Disarm all."""
        self._deadlines.clear()

    def get(self, name: _Name) -> float | None:
        """The deadline of a timer, or None if it is not armed."""
        return self._deadlines.get(name)

    def next(self) -> tuple[float, _Name] | None:
        """The earliest deadline and its name, or None."""
        if not self._deadlines:
            return None
        name = min(self._deadlines, key=self._deadlines.__getitem__)
        return self._deadlines[name], name

    def pop_due(self, now: float) -> _Name | None:
        """Disarm and return the earliest timer that is due, or None."""
        upcoming = self.next()
        if upcoming is None or upcoming[0] > now:
            return None
        del self._deadlines[upcoming[1]]
        return upcoming[1]
