"""The queue of one home (S52)."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtm_sansio.errors import ChannelUnavailable, InvalidArgument, InvalidState, SessionEnded
from rtm_sansio.events import (
    ChannelLost,
    ChannelMessageReceived,
    ConnectionStateChanged,
    EventsDropped,
    LeaveCause,
    MemberJoined,
    MemberLeft,
    MessageReceived,
    MessagesLost,
    ReconnectProblem,
    TokenExpired,
)
from rtm_sansio.queues import Ending, HomeQueue, MessageFilter, check_handler, ending_of, event_bytes
from rtm_sansio.states import TRANSITIONS, ConnectionState


def message(text: str | bytes) -> ChannelMessageReceived:
    return ChannelMessageReceived(channel="c", uid="u", message=text, offset=1, sent_at=0.0)


def drain(queue: HomeQueue) -> list[Any]:
    events = []
    while (event := queue.pop()) is not None:
        events.append(event)
    return events


def test_bytes_of_events():
    """S52: what a peer can make large counts, and never as less than it takes: text beyond ASCII as four bytes a
    character."""
    assert event_bytes(message("abc")) == 4
    assert event_bytes(message(b"ab")) == 3
    assert event_bytes(message(b"\xff\xfe")) == 3
    wide = "x" * 1000 + "\N{GRINNING FACE}"
    assert sys.getsizeof(wide) - 100 < event_bytes(message(wide)) == 4005
    assert event_bytes(MemberJoined(channel="c", uid="u" * 50, offset=1)) == 50
    assert event_bytes(MemberLeft(channel="c", uid="u" * 50, cause=LeaveCause.LEFT, offset=1)) == 50
    assert event_bytes(MessagesLost(channel="c", count=None)) == 0
    assert event_bytes(TokenExpired()) == 0
    for text, size in (("why", 3), ("\xe9", 4)):
        assert event_bytes(ReconnectProblem(code="bad_token", message=text)) == size
        assert event_bytes(ChannelLost(channel="c", code="invalid_channel", message=text)) == size
    switch = TRANSITIONS[next(iter(TRANSITIONS))]
    change = ConnectionStateChanged(state=switch[0], reason=switch[1], previous=ConnectionState.DISCONNECTED)
    assert event_bytes(change) == 0
    assert event_bytes(msgspec.structs.replace(change, message="why")) == 3


def test_uniterated_keeps_the_newest():
    """S52: a queue that nobody iterates keeps the newest, and says in their place how many it dropped."""
    queue = HomeQueue("c", max_uniterated_events=3, max_queued_events=8)
    for number in range(10):
        queue.put(message(str(number)))
    assert len(queue) == 4
    assert queue.backlog == (3, 6)
    first, *rest = drain(queue)
    assert first == EventsDropped(home="c", count=7)
    assert [event.message for event in rest] == ["7", "8", "9"]
    assert queue.backlog == (0, 0)
    assert len(queue) == 0


def test_uniterated_keeps_only_so_many_bytes():
    """S52: the oldest go when the rest is too large for the bound, and it is said how many; the newest stays."""
    queue = HomeQueue("c", max_uniterated_events=1000, max_queued_events=1000, max_queued_bytes=100)
    for number in range(10):
        queue.put(message(f"{number:029}"))
    assert queue.backlog == (3, 90)
    first, *rest = drain(queue)
    assert first == EventsDropped(home="c", count=7)
    assert [int(event.message) for event in rest] == [7, 8, 9]
    queue.put(message("small"))
    queue.put(message("x" * 1000))
    assert queue.backlog == (1, 1001)
    assert queue.pop() == EventsDropped(home="c", count=1)


def test_an_iterated_channel_is_held_and_nothing_dropped_for_its_bytes():
    """S52: the core holds its log; the bound holds again when the iterator is gone, and always for the client's own."""
    queue = HomeQueue("c", max_uniterated_events=1000, max_queued_events=1000, max_queued_bytes=100)
    own = HomeQueue("", max_uniterated_events=1000, max_queued_events=1000, max_queued_bytes=100)
    for one in (queue, own):
        one.start_iterating()
        for number in range(10):
            one.put(message(f"{number:029}"))
    assert queue.backlog == (10, 300)
    assert (len(own), own.backlog) == (4, (0, 0))  # three, and how many were dropped; none stands in a log
    queue.stop_iterating()
    assert queue.backlog == (3, 90)


def test_iterated_is_lossless():
    """S52: while someone iterates, nothing is dropped; afterwards the bound holds again."""
    queue = HomeQueue("c", max_uniterated_events=2, max_queued_events=8)
    queue.start_iterating()
    assert queue.iterated
    for number in range(50):
        queue.put(message(str(number)))
    assert queue.backlog[0] == 50
    queue.stop_iterating()
    assert not queue.iterated
    assert [type(event) for event in drain(queue)] == [EventsDropped] + [ChannelMessageReceived] * 2


def test_the_clients_own_events_have_a_bound_while_they_are_iterated():
    """S52, promise 10: they stand in no log that could be held, so the oldest go, and it is said how many."""
    queue = HomeQueue("", max_uniterated_events=2, max_queued_events=8)
    queue.start_iterating()
    for number in range(50):
        queue.put(message(str(number)))
    assert (len(queue), queue.backlog) == (9, (0, 0))
    dropped, *rest = drain(queue)
    assert dropped == EventsDropped(home="", count=42)
    assert [event.message for event in rest] == [str(number) for number in range(42, 50)]


def peer_message(text: str) -> MessageReceived:
    return MessageReceived(uid="b", message=text, description="", offset=1, sent_at=0.0, kept=False)


def test_an_iterated_client_keeps_all_of_its_inbox():
    """S52: messages and gaps stand in a log that is held; of the others the oldest go, for their number and bytes."""
    queue = HomeQueue("", max_uniterated_events=2, max_queued_events=3, max_queued_bytes=100)
    queue.start_iterating()
    for number in range(20):
        queue.put(peer_message(f"{number:09}"))
        queue.put(ReconnectProblem(code="c", message=f"{number:09}"))
        queue.put(MessagesLost(channel="", count=number))
    assert queue.backlog == (40, 200)
    dropped, *rest = drain(queue)
    assert dropped == EventsDropped(home="", count=17)
    assert len([event for event in rest if isinstance(event, MessageReceived)]) == 20
    assert [event.message for event in rest if isinstance(event, ReconnectProblem)] == [
        f"{number:09}" for number in (17, 18, 19)
    ]
    assert queue.backlog == (0, 0)
    for size in (10, 95, 1000):
        queue.put(ReconnectProblem(code="c", message="x" * size))
    assert drain(queue) == [EventsDropped(home="", count=2), ReconnectProblem(code="c", message="x" * 1000)]
    queue.put_back([peer_message("x"), ReconnectProblem(code="c", message="y")])
    assert queue.backlog == (1, 2)


def test_what_the_core_is_told_of():
    """S52: what stands in a log; of a channel all but what the queue says itself."""
    own, channel = (HomeQueue(home, max_uniterated_events=2, max_queued_events=3) for home in ("", "c"))
    problem, lost = ReconnectProblem(code="c", message=""), MessagesLost(channel="", count=1)
    assert [own.counts(event) for event in (peer_message("x"), lost, problem)] == [True, True, False]
    assert [one.counts(EventsDropped(home="", count=1)) for one in (own, channel)] == [False, False]
    assert channel.counts(message("x"))


def test_bytes_of_a_peer_message():
    """S52: its uid, its body and its description."""
    event = MessageReceived(
        uid="bob", message=b"\x00" * 10, description="\u00e9" * 5, offset=1, sent_at=0.0, kept=False
    )
    assert event_bytes(event) == 3 + 10 + 20


def test_one_iterator_at_a_time():
    """S52: a second iterator on one home is refused, and the text says where."""
    for home, where in (("lobby", "lobby"), ("", "this client")):
        queue = HomeQueue(home, max_uniterated_events=1, max_queued_events=8)
        queue.start_iterating()
        with pytest.raises(InvalidState, match=where):
            queue.start_iterating()
        queue.stop_iterating()
        queue.start_iterating()


def test_end():
    """S52: what waits is still delivered, then the iteration ends, with its error if it has one; once."""
    queue = HomeQueue("c", max_uniterated_events=5, max_queued_events=8)
    assert not queue.check_end()
    queue.put(message("a"))
    queue.end(SessionEnded("over", code="kicked"))
    queue.end()
    queue.put(message("b"))
    assert queue.ended
    assert [event.message for event in drain(queue)] == ["a"]
    with pytest.raises(SessionEnded, match="over"):
        queue.check_end()
    quiet = HomeQueue("c", max_uniterated_events=5, max_queued_events=8)
    quiet.end()
    assert quiet.check_end()


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["put", "pop", "start", "stop"]), max_size=60))
def test_against_a_model(steps: list[str]):
    """S52: what comes out, and what was dropped, add up to what went in, in order."""
    queue = HomeQueue("", max_uniterated_events=3, max_queued_events=8)
    put = popped = 0
    inside: deque[int] = deque()
    for step in steps:
        if step == "put":
            put += 1
            queue.put(message("x" * put))
            inside.append(put)
        elif step == "pop":
            event = queue.pop()
            if isinstance(event, EventsDropped):
                for _ in range(event.count):
                    inside.popleft()
                popped += event.count
            elif event is not None:
                assert len(event.message) == inside.popleft()
                popped += 1
        elif step == "start" and not queue.iterated:
            queue.start_iterating()
        elif step == "stop":
            queue.stop_iterating()
        if not queue.iterated:
            assert queue.backlog[0] <= 3
        waiting = queue.backlog[0]
        assert queue.backlog[1] == sum(list(inside)[len(inside) - waiting :]) + waiting
    assert popped + len(inside) == put


@pytest.mark.parametrize(("previous", "switch"), [(key[0], value) for key, value in TRANSITIONS.items()], ids=str)
def test_which_switches_end_the_iterators(previous: ConnectionState, switch: Any):
    """S8, S52: ABORTED ends all of them with an error, a logout without one; nothing else ends any, above all no
    interruption."""
    state, reason = switch
    ending = ending_of(ConnectionStateChanged(state=state, reason=reason, previous=previous, code=None))
    if state is ConnectionState.ABORTED:
        assert ending is not None
        assert ending.home is None
        error = ending.error()
        assert isinstance(error, SessionEnded)
        assert error.code == reason.value.lower()
        assert ending.error() is not error, "each iterator raises its own"
    elif reason.value == "LOGOUT":
        assert ending == Ending(home=None)
        assert ending.error() is None
    else:
        assert ending is None


def test_a_lost_channel_ends_its_own_iterator():
    """S44: with the server's code; other events end nothing."""
    ending = ending_of(ChannelLost(channel="c", code="too_many_channels", message="no"))
    assert ending is not None
    assert ending.home == "c"
    error = ending.error()
    assert isinstance(error, ChannelUnavailable)
    assert error.code == "too_many_channels"
    assert "no" in str(error)
    assert ending_of(message("x")) is None


def test_messages_alone():
    """S33, S52: what a queue dropped is added to the gap that the next message shows, once; an unknown number stays
    unknown."""
    messages = MessageFilter()
    plain, known, unknown = (
        ChannelMessageReceived(channel="c", uid="u", message="m", offset=9, sent_at=0.0, lost_before=lost)
        for lost in (0, 3, None)
    )
    dropped = EventsDropped(home="c", count=7)
    assert messages.take(plain) is plain
    assert messages.take(MemberJoined(channel="c", uid="u", offset=1)) is None
    assert messages.take(dropped) is None
    assert messages.dropped == 7
    assert messages.take(MemberJoined(channel="c", uid="u", offset=1)) is None
    shown = messages.take(plain)
    assert shown is not None
    assert (shown.lost_before, shown.offset, shown.message) == (7, 9, "m")
    assert messages.dropped == 0
    assert messages.take(plain) is plain
    for _ in range(2):
        messages.take(dropped)
    shown = messages.take(known)
    assert shown is not None
    assert shown.lost_before == 17
    messages.take(dropped)
    assert messages.take(unknown) is unknown
    assert messages.dropped == 0


def test_what_was_not_used_is_put_back():
    """S52: in front of all, with the counts of what was dropped; also when nothing more will come."""
    queue = HomeQueue("c", max_uniterated_events=2, max_queued_events=8)
    queue.start_iterating()
    for text in "abc":
        queue.put(message(text))
    taken = [queue.pop() for _ in range(2)]
    queue.put_back([EventsDropped(home="c", count=4), *taken], dropped=1)
    assert queue.backlog == (3, 6)
    queue.end()
    queue.put_back(())
    assert [getattr(event, "message", event) for event in drain(queue)] == [
        EventsDropped(home="c", count=5),
        "a",
        "b",
        "c",
    ]
    queue.put_back(taken, dropped=0)
    queue.put_back([message("first")])
    queue.stop_iterating()
    assert [getattr(event, "message", event) for event in drain(queue)] == [EventsDropped(home="c", count=1), "a", "b"]


def test_what_on_can_be_given():
    """S37."""
    check_handler(MemberJoined, print)
    for event_type in (str, [MemberJoined], "MemberJoined", None):
        with pytest.raises(InvalidArgument, match="not a class of events"):
            check_handler(event_type, print)
    with pytest.raises(InvalidArgument, match="callable, which str is not"):
        check_handler(MemberJoined, "print")
