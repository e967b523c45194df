"""The token bucket (S45)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtm_sansio._pacing import TokenBucket, paced_burst


def test_burst_then_rate():
    """S45: a burst at once, then the rate."""
    bucket = TokenBucket(rate_per_second=10, burst=3, now=0.0)
    assert [bucket.try_take(0.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.try_take(0.05)
    assert TokenBucket(rate_per_second=1, burst=1, now=7.0).ready_at() == 7.0
    assert bucket.try_take(bucket.ready_at())
    assert not bucket.try_take(bucket.ready_at() - 0.05)


def test_never_above_the_burst():
    """S45: what is not used for long is not saved up beyond the burst."""
    bucket = TokenBucket(rate_per_second=10, burst=3, now=0.0)
    assert [bucket.try_take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_time_backwards():
    """Promise 7: time going backwards gives nothing and takes nothing."""
    bucket = TokenBucket(rate_per_second=1, burst=1, now=10.0)
    assert bucket.try_take(5.0)
    assert not bucket.try_take(5.0)
    assert not bucket.try_take(10.5)
    assert bucket.try_take(11.0)


def test_units():
    """S55: a request may cost several units."""
    bucket = TokenBucket(rate_per_second=10, burst=10, now=0.0)
    assert bucket.try_take(0.0, 8.0)
    assert not bucket.try_take(0.0, 3.0)
    assert bucket.ready_at(3.0) >= 0.1
    assert bucket.try_take(bucket.ready_at(3.0), 3.0)


def test_what_is_owed():
    """S45, S55: what costs more than enough can be had when enough is there, and is owed; nothing is always there."""
    bucket = TokenBucket(rate_per_second=10, burst=10, now=0.0, enough=5)
    assert bucket.try_take(0.0, 6.0)
    assert not bucket.has(0.0, 5.0)
    assert bucket.ready_at(64.0) == pytest.approx(0.1, abs=0.01)
    assert bucket.try_take(0.11, 64.0)
    assert not bucket.try_take(5.0, 1.0)
    assert bucket.try_take(5.0, 0.0)
    assert bucket.ready_at() == pytest.approx(6.1, abs=0.02)
    assert bucket.try_take(bucket.ready_at())


@pytest.mark.parametrize(("burst", "paced"), [(1, 1), (2, 1), (3, 2), (511, 256), (512, 256), (2000, 1744)])
def test_what_a_client_keeps_back(burst: int, paced: int):
    """S45: as much as may be under way, and never more than half."""
    assert paced_burst(burst, 256) == paced


@settings(max_examples=60)
@given(
    st.integers(1, 200),
    st.lists(st.tuples(st.floats(0, 1.0), st.sampled_from([1, 2, 16, 32, 64])), max_size=60),
)
def test_client_and_server_agree(burst: int, asked: list[tuple[float, int]]):
    """S45: what a client's bucket gives, the server's has, whatever the burst and whatever it costs."""
    paced = paced_burst(burst, 256)
    client = TokenBucket(rate_per_second=10, burst=paced, now=0.0)
    server = TokenBucket(rate_per_second=10, burst=burst, now=0.0, enough=paced)
    flood = TokenBucket(rate_per_second=20, burst=2 * burst, now=0.0, enough=burst)
    now = 0.0
    for wait, units in asked:
        now = max(now + wait, client.ready_at(units))
        assert client.try_take(now, units)
        assert server.try_take(now, units)
        assert flood.try_take(now, units)


@settings(max_examples=40)
@given(
    st.integers(1, 1_000_000),
    st.integers(1, 5000),
    st.floats(0, 1e9),
    st.lists(st.floats(0, 2.0), max_size=30),
)
def test_ready_means_ready(rate: int, burst: int, start: float, waits: list[float]):
    """Promise 5: at ``ready_at`` a unit is there, whatever the rounding; else a timer would fire for ever."""
    bucket = TokenBucket(rate_per_second=rate, burst=burst, now=start)
    now = start
    for wait in waits:
        now += wait
        while bucket.try_take(now) and burst < 50:
            pass
        if not bucket.try_take(now):
            ready = bucket.ready_at()
            assert ready > now
            assert bucket.try_take(ready)
            now = ready


@settings(max_examples=30)
@given(st.lists(st.floats(0, 0.01), max_size=200))
def test_never_more_than_the_contract(waits: list[float]):
    """S45: in any time no more than the burst and the rate allow."""
    bucket = TokenBucket(rate_per_second=100, burst=5, now=0.0)
    now, taken = 0.0, 0
    for wait in waits:
        now += wait
        taken += bucket.try_take(now)
        assert taken <= 5 + now * 100 + 1e-3
