"""Open requests (S9, S35, S46)."""

from __future__ import annotations

from rtm_sansio._requests import OpenRequest, OpenRequests
from rtm_sansio.messages import Join, PublishText


def table(*deadlines: float, limit: int = 8) -> OpenRequests:
    requests = OpenRequests(limit)
    for number, deadline in enumerate(deadlines, start=1):
        requests.add(OpenRequest(PublishText(number, "c", "x"), deadline))
    return requests


def test_in_order_of_numbers():
    """S46: the order of the calls, and the lowest unanswered number."""
    requests = table(9.0, 5.0, 7.0)
    assert [request.number for request in requests] == [1, 2, 3]
    assert requests.lowest(99) == 1
    assert requests.remove(1) is not None
    assert requests.lowest(99) == 2
    requests.remove(2)
    requests.remove(3)
    assert requests.lowest(99) == 99
    assert requests.remove(3) is None
    assert requests.get(3) is None


def test_times_out_in_order_of_deadlines():
    """S35: whose time is over, earliest first; a deadline exactly now is over."""
    requests = table(9.0, 5.0, 7.0)
    assert requests.next_deadline() == 5.0
    assert requests.pop_overdue(4.999) is None
    overdue = requests.pop_overdue(7.0)
    assert overdue is not None
    assert overdue.number == 2
    requests.remove(3)
    assert requests.pop_overdue(8.0) is None
    assert requests.next_deadline() == 9.0


def test_full():
    """S35: at most so many."""
    requests = table(1.0, 2.0, limit=3)
    assert not requests.full
    requests.add(OpenRequest(Join(3, "c"), 1.0))
    assert requests.full
    assert len(requests) == 3


def test_follows_the_servers_limit():
    """S15: a server that allows fewer is followed, and forgotten with the next server."""
    requests = table(1.0, 2.0, limit=8)
    requests.follow_limit(2)
    assert requests.full
    requests.follow_limit(100)
    assert not requests.full
    for number in range(3, 9):
        requests.add(OpenRequest(Join(number, "c"), 1.0))
    assert requests.full


def test_abandoned_has_no_deadline():
    """S44: nobody waits for an abandoned request; it keeps its place in the order."""
    requests = table(1.0, 2.0)
    request = requests.get(1)
    assert request is not None
    request.abandoned = True
    assert requests.next_deadline() == 2.0
    assert requests.lowest(99) == 1
    again = requests.pop_overdue(5.0)
    assert again is not None
    assert again.number == 2
    assert requests.pop_overdue(5.0) is None


def test_deadlines_of_the_answered_are_forgotten():
    """Promise 10: a million quick requests leave nothing behind."""
    requests = OpenRequests(4)
    for number in range(1, 10_000):
        requests.add(OpenRequest(Join(number, "c"), float(number)))
        if number > 2:
            requests.remove(number - 2)
    assert len(requests) == 2
    assert len(requests._deadlines) <= 17
    assert requests.next_deadline() == 9998.0
