"""The delays between attempts (S21)."""

from __future__ import annotations

import random
import statistics

import pytest

from rtm_sansio._backoff import Backoff


class Highest(random.Random):
    """Always the upper end."""

    def uniform(self, a: float, b: float) -> float:
        assert a == 0.0
        return b


def backoff(rng: random.Random) -> Backoff:
    return Backoff(base_seconds=0.5, cap_seconds=5.0, grace_cap_seconds=1.0, rng=rng)


def test_ceilings():
    """S21: min(cap, base * 2**n): 0.5, 1, 2, 4, 5, 5 …, for as long as you like."""
    delays = backoff(Highest())
    assert [delays.next_delay(in_grace=False) for _ in range(7)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    assert {delays.next_delay(in_grace=False) for _ in range(2000)} == {5.0}


def test_ceilings_in_grace():
    """S21: while still CONNECTED the cap is 1 s; the count goes on."""
    delays = backoff(Highest())
    assert [delays.next_delay(in_grace=True) for _ in range(4)] == [0.5, 1.0, 1.0, 1.0]
    assert delays.next_delay(in_grace=False) == 5.0


def test_reset():
    """S21: the count starts again."""
    delays = backoff(Highest())
    for _ in range(5):
        delays.next_delay(in_grace=False)
    delays.reset()
    assert delays.next_delay(in_grace=False) == 0.5


def test_at_the_cap():
    """S20: after a verdict the attempts go on at the cap."""
    delays = backoff(Highest())
    assert delays.capped_delay() == 5.0
    assert delays.next_delay(in_grace=False) == 1.0


@pytest.mark.parametrize(("count", "ceiling"), [(0, 0.5), (1, 1.0), (2, 2.0), (3, 4.0), (9, 5.0)])
def test_full_jitter(count: int, ceiling: float):
    """S21: uniform in the whole range, from zero on."""
    sample = []
    for seed in range(2000):
        delays = backoff(random.Random(seed))
        for _ in range(count):
            delays.next_delay(in_grace=False)
        sample.append(delays.next_delay(in_grace=False))
    assert 0 <= min(sample) < ceiling * 0.01
    assert ceiling * 0.99 < max(sample) <= ceiling
    assert statistics.fmean(sample) == pytest.approx(ceiling / 2, rel=0.05)
    quarters = [sum(quarter <= 4 * one / ceiling < quarter + 1 for one in sample) for quarter in range(4)]
    assert all(400 < quarter < 600 for quarter in quarters)


def test_same_randomness_same_delays():
    """Promise 8: the randomness is passed in."""
    one, two = (backoff(random.Random(7)) for _ in range(2))
    assert [one.next_delay(in_grace=False) for _ in range(9)] == [two.next_delay(in_grace=False) for _ in range(9)]
