"""One reader and its cursor (S33, S42, S43, S48, S52)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtm_sansio._reader import LogReader, Wish
from rtm_sansio.events import (
    ChannelMessageReceived,
    LeaveCause,
    MemberCountChanged,
    MemberJoined,
    MemberLeft,
    MembersResumed,
    MessagesLost,
)
from rtm_sansio.messages import (
    BytesEntry,
    Entries,
    Gap,
    JoinedEntry,
    LeftEntry,
    MembersResumedEntry,
    TextEntry,
    UnknownEntry,
)

E1, E2 = b"epoch--1", b"epoch--2"


def reader(*, cursor: int = 0, echo: bool = False, max_events: int = 100, max_bytes: int = 10_000) -> LogReader:
    return LogReader("c", epoch=E1, cursor=cursor, echo=echo, max_events=max_events, max_bytes=max_bytes)


def texts(first: int, count: int, *, uid: str = "bob", epoch: bytes = E1) -> Entries:
    entries: list[Any] = [TextEntry(uid, str(offset), 1500) for offset in range(first, first + count)]
    return Entries("c", epoch, first, entries)


def take(one: LogReader, block: Entries, own: str = "alice") -> tuple[Wish, list[Any]]:
    outputs: list[Any] = []
    return one.take_entries(block, own, outputs), outputs


def offsets(outputs: list[Any]) -> list[int]:
    return [event.offset for event in outputs]


def test_entries_become_events():
    """S33, S38: each kind of entry is an event with its offset; the cursor moves."""
    one = reader(cursor=4)
    entries: list[Any] = [
        TextEntry("bob", "hi", 1500),
        BytesEntry("bob", b"\x00", 2500),
        JoinedEntry("carol"),
        LeftEntry("carol", 2),
        LeftEntry("dave", 77),
    ]
    wish, outputs = take(one, Entries("c", E1, 5, entries))
    assert wish is Wish.NOTHING
    assert outputs == [
        ChannelMessageReceived(channel="c", uid="bob", message="hi", offset=5, sent_at=1.5),
        ChannelMessageReceived(channel="c", uid="bob", message=b"\x00", offset=6, sent_at=2.5),
        MemberJoined(channel="c", uid="carol", offset=7),
        MemberLeft(channel="c", uid="carol", cause=LeaveCause.TIMED_OUT, offset=8),
        MemberLeft(channel="c", uid="dave", cause=LeaveCause.LEFT, offset=9),
    ]
    assert one.cursor == 9


def test_own_entries_are_passed_over():
    """S43: one's own messages, joins and leaves move the cursor and nothing else, unless asked for."""
    entries: list[Any] = [
        TextEntry("alice", "a", 0),
        JoinedEntry("alice"),
        LeftEntry("alice", 1),
        BytesEntry("alice", b"", 0),
    ]
    quiet, loud = reader(), reader(echo=True)
    assert take(quiet, Entries("c", E1, 1, entries))[1] == []
    assert quiet.cursor == 4
    assert offsets(take(loud, Entries("c", E1, 1, entries))[1]) == [1, 2, 3, 4]


def test_entries_of_a_later_version():
    """S48: an unknown entry has an offset and is passed over."""
    one = reader()
    entries: list[Any] = [UnknownEntry(200), TextEntry("bob", "x", 0)]
    assert offsets(take(one, Entries("c", E1, 1, entries))[1]) == [2]


def test_known_entries_are_passed_over():
    """S48, F-31: at or before the cursor: nothing, whole blocks or parts of them."""
    one = reader(cursor=5)
    assert take(one, texts(1, 5)) == (Wish.NOTHING, [])
    assert offsets(take(one, texts(4, 4))[1]) == [6, 7]
    assert take(one, texts(-3, 2)) == (Wish.NOTHING, [])
    assert one.cursor == 7


def test_hole_asks_for_the_log():
    """S48: beyond cursor + 1 nothing is delivered; all is passed over up to the answer, and then comes the rest."""
    one = reader(cursor=5)
    assert take(one, texts(7, 2)) == (Wish.GO_ON, [])
    assert take(one, texts(6, 1)) == (Wish.NOTHING, [])
    assert one.cursor == 5
    one.going()
    assert offsets(take(one, texts(6, 3))[1]) == [6, 7, 8]


def test_hole_behind_the_answer_is_a_protocol_error():
    """S48: right behind the answer no server leaves a hole."""
    one = reader(cursor=5)
    take(one, texts(7, 2))
    one.going()
    assert take(one, texts(8, 1))[0] is Wish.FAIL


@pytest.mark.parametrize("first", ["entries", "gap"])
def test_hole_later_is_a_hole(first: str):
    """S48: once something came behind the answer, a hole is an ordinary hole again."""
    one = reader(cursor=5)
    take(one, texts(7, 2))
    one.going()
    if first == "entries":
        take(one, texts(6, 1))
    else:
        one.take_gap(Gap("c", E1, 6, 1), [])
    assert take(one, texts(9, 1))[0] is Wish.GO_ON


def test_another_epoch_asks_for_the_log():
    """S48, F-35: a plausible offset of another epoch is not delivered."""
    one = reader(cursor=5)
    assert take(one, texts(6, 1, epoch=E2)) == (Wish.GO_ON, [])


def test_unasked_answer():
    """S48: an answer that nobody waits for changes nothing."""
    one = reader(cursor=5)
    one.going()
    assert take(one, texts(7, 1))[0] is Wish.GO_ON


def test_gap():
    """S33: MessagesLost first, then what remains; the next message shows the loss, the one after it none."""
    one = reader(cursor=5)
    outputs: list[Any] = []
    one.take_gap(Gap("c", E1, 9, 4), outputs)
    one.take_entries(texts(10, 2), "alice", outputs)
    assert outputs[0] == MessagesLost(channel="c", count=4)
    assert [event.lost_before for event in outputs[1:]] == [4, 0]


@pytest.mark.parametrize(("counts", "shown"), [((2, 3), 5), ((None, 3), None), ((3, None), None)])
def test_gaps_add_up(counts: tuple[int | None, ...], shown: int | None):
    """S33: several gaps before one message add up; with an unknown one the sum is unknown."""
    one = reader(cursor=1)
    outputs: list[Any] = []
    for index, count in enumerate(counts):
        one.take_gap(Gap("c", E2, 10 * (index + 1), count), outputs)
    one.take_entries(texts(21, 1, epoch=E2), "alice", outputs)
    assert [event.count for event in outputs[:2]] == list(counts)
    assert outputs[2].lost_before == shown


def test_gap_while_passing_over():
    """S48: a gap on the way before the answer of a go-on is passed over like everything else."""
    one = reader(cursor=5)
    take(one, texts(7, 1))
    outputs: list[Any] = []
    one.take_gap(Gap("c", E1, 20, 5), outputs)
    assert outputs == []
    assert one.cursor == 5


def test_full_queue_holds_the_log():
    """S52: at the bound of an iterated queue the rest is passed over without moving the cursor, until half empty."""
    one = reader(max_events=10)
    one.iterating(True, 0, 0)
    wish, outputs = take(one, texts(1, 15))
    assert wish is Wish.HOLD
    assert offsets(outputs) == list(range(1, 11))
    assert one.cursor == 10
    assert take(one, texts(16, 5)) == (Wish.NOTHING, [])
    assert one.consumed(4, 0) is Wish.NOTHING
    one.going()
    assert take(one, texts(11, 1)) == (Wish.NOTHING, []), "an answer of an older go-on must not end the hold"
    assert one.consumed(1, 0) is Wish.GO_ON
    assert take(one, texts(11, 1)) == (Wish.NOTHING, [])
    one.going()
    assert offsets(take(one, texts(11, 3))[1]) == [11, 12, 13]


def test_full_by_bytes():
    """S52: the bound in bytes holds too; names count, and text as what it takes."""
    one = reader(max_bytes=4)
    one.iterating(True, 0, 0)
    assert take(one, Entries("c", E1, 1, [TextEntry("bob", "12", 0), TextEntry("bob", "6", 0)]))[0] is Wish.HOLD
    assert one.consumed(1, 2) is Wish.NOTHING
    assert one.consumed(0, 1) is Wish.GO_ON


@pytest.mark.parametrize(
    ("entry", "size"),
    [
        (TextEntry("bob", "x" * 500 + "\N{GRINNING FACE}", 0), 3 + 4 * 501),
        (BytesEntry("bob", b"\xff" * 500, 0), 503),
        (JoinedEntry("x" * 64), 64),
        (JoinedEntry("x" * 2000), 2000),
        (LeftEntry("x" * 64, 1), 64),
    ],
    ids=["wide text", "bytes", "joins", "huge names", "leaves"],
)
def test_everything_fills_the_queue(entry: Any, size: int):
    """S52: entries of any kind are held at the bound in bytes, of which one may be above."""
    one = reader(max_events=10_000, max_bytes=5000)
    one.iterating(True, 0, 0)
    wish, outputs = take(one, Entries("c", E1, 1, [entry] * 1000))
    assert wish is Wish.HOLD
    assert len(outputs) == -(-5000 // size)


def test_uniterated_is_never_held():
    """S52: an app that only sends is never stalled."""
    one = reader(max_events=2)
    wish, outputs = take(one, texts(1, 50))
    assert wish is Wish.NOTHING
    assert len(outputs) == 50


def test_backlog_counts_and_ending_releases():
    """S52: what waits when an iteration begins counts; when it ends the log goes on."""
    one = reader(max_events=10)
    assert one.iterating(True, 9, 0) is Wish.NOTHING
    assert take(one, texts(1, 2))[0] is Wish.HOLD
    assert one.iterating(False, 0, 0) is Wish.GO_ON
    one.going()
    assert len(take(one, texts(2, 30))[1]) == 30


def test_gap_counts_in_the_queue():
    """S52: a gap report waits in the queue like any event."""
    one = reader(max_events=1)
    one.iterating(True, 0, 0)
    one.take_gap(Gap("c", E1, 3, 3), [])
    assert take(one, texts(4, 1))[0] is Wish.HOLD


def test_gap_holds_a_full_queue():
    """S52, S50: a report finds a full queue as an entry does, so that a flood of reports fills nothing."""
    one = reader(max_events=2)
    one.iterating(True, 2, 0)
    outputs: list[Any] = []
    assert one.take_gap(Gap("c", E1, 9, 4), outputs) is Wish.HOLD
    assert outputs == []
    assert one.cursor == 0
    assert one.consumed(1, 0) is Wish.GO_ON
    one.going()
    assert one.take_gap(Gap("c", E1, 9, 4), outputs) is Wish.NOTHING
    assert outputs == [MessagesLost(channel="c", count=4)]


def test_hold_ends_with_its_transport():
    """S52: and so does a go-on: on the next transport the log comes from the stated cursor."""
    one = reader(max_events=2)
    one.iterating(True, 0, 0)
    take(one, texts(1, 5))
    one.transport_gone()
    one.consumed(2, 0)
    assert offsets(take(one, texts(3, 1))[1]) == [3]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-2, 30), st.integers(0, 6)), max_size=30))
def test_each_entry_once_and_in_order(blocks: list[tuple[int, int]]):
    """S33, S48: whatever blocks come, what is delivered is 1, 2, 3 … without hole or repetition."""
    one = reader()
    seen: list[int] = []
    for first, count in blocks:
        wish, outputs = take(one, texts(first, count))
        seen += offsets(outputs)
        if wish is Wish.GO_ON:
            one.going()
            seen += offsets(take(one, texts(one.cursor + 1, 3))[1])
    assert seen == list(range(1, len(seen) + 1))


def test_numbers_of_members():
    """S38: a latest value, told once; behind a hold, a gap or the end of the mute it is told again."""
    one = reader(max_events=2)
    outputs: list[Any] = []

    def told(member_count: int) -> Wish:
        return one.take_count(member_count, outputs)

    for member_count in (5, 5, 6):
        assert told(member_count) is Wish.NOTHING
    assert outputs == [MemberCountChanged(channel="c", member_count=count) for count in (5, 6)]
    one.take_entries(Entries("c", E1, 1, [MembersResumedEntry()]), "alice", outputs)
    assert outputs[-1] == MembersResumed(channel="c", offset=1)
    told(6)
    one.take_gap(Gap("c", E1, 5, 4), outputs)
    told(6)
    assert len(outputs) == 6
    one.iterating(True, 0, 0)
    told(7)
    told(8)
    assert told(9) is Wish.HOLD
    assert told(10) is Wish.NOTHING
    assert one.consumed(1, 0) is Wish.GO_ON
    assert told(11) is Wish.NOTHING  # it comes again behind the answer
    one.going()
    told(12)
    assert [event.member_count for event in outputs[6:]] == [7, 8, 12]
