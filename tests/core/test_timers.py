"""The table of named timers."""

from __future__ import annotations

import enum

from rtm_sansio._timers import Timers


class Name(enum.Enum):
    A = "a"
    B = "b"
    C = "c"


def test_next_is_the_earliest():
    """Promise 5: the next deadline is a minimum, and comes with its name."""
    timers: Timers[Name] = Timers()
    assert timers.next() is None
    timers.set(Name.A, 5.0)
    timers.set(Name.B, 3.0)
    assert timers.next() == (3.0, Name.B)
    timers.set(Name.B, 9.0)
    assert timers.next() == (5.0, Name.A)
    assert (timers.get(Name.B), timers.get(Name.C)) == (9.0, None)


def test_due_once_and_in_order():
    """Promise 5: what is due comes once, earliest first; a deadline exactly now is due, a later one is not."""
    timers: Timers[Name] = Timers()
    timers.set(Name.A, 2.0)
    timers.set(Name.B, 1.0)
    timers.set(Name.C, 2.5)
    assert timers.pop_due(0.999) is None
    assert [timers.pop_due(2.0) for _ in range(3)] == [Name.B, Name.A, None]
    assert timers.next() == (2.5, Name.C)


def test_clear():
    """Promise 6: a timer that is cleared never comes."""
    timers: Timers[Name] = Timers()
    timers.set(Name.A, 1.0)
    timers.set(Name.B, 1.0)
    timers.clear(Name.A, Name.C)
    assert timers.pop_due(9.0) is Name.B
    timers.set(Name.A, 1.0)
    timers.clear_all()
    assert timers.pop_due(9.0) is None
