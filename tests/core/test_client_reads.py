"""What a client asks that changes nothing: members, counts, history; and numbers of members that come by themselves
(S37, S38, S45, S46, S47, S50, S55)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from core.fake_server import EPOCH, Rig, limits
from rtm_sansio.codes import Code
from rtm_sansio.config import ClientConfig
from rtm_sansio.errors import InvalidArgument, NotConnected, NotJoined, Outcome, RequestRefused
from rtm_sansio.events import (
    ChannelMessageReceived,
    HistoryPage,
    LeaveCause,
    MemberCountChanged,
    MemberCounts,
    MemberJoined,
    MemberLeft,
    MemberPage,
    MembersResumed,
)
from rtm_sansio.messages import (
    BytesEntry,
    CountMembers,
    Done,
    Entries,
    Failed,
    Gap,
    Going,
    GoOn,
    History,
    Hold,
    JoinedEntry,
    LeftEntry,
    ListMembers,
    MemberCount,
    Members,
    MembersResumedEntry,
    PublishText,
    ReadHistory,
    TextEntry,
)
from rtm_sansio.messages import MemberCounts as MemberCountsMessage


def connected(**changes: Any) -> Rig:
    rig = Rig()
    rig.connect("lobby", **changes)
    return rig


class TestResults:
    def test_members(self) -> None:
        """S47: a page is as of an offset; the next one is asked for behind the last uid."""
        rig = connected()
        number = rig.call("list_members", "lobby")
        assert rig.server.of_type(ListMembers) == [ListMembers(number, "lobby", "")]
        rig.say(Members(number, EPOCH, 7, 3, ("alice", "bob"), True))
        page = rig.result(number)
        assert page == MemberPage(
            channel="lobby", epoch=EPOCH, offset=7, member_count=3, uids=("alice", "bob"), more=True
        )
        rig.call("list_members", "lobby", after="bob")
        assert rig.server.of_type(ListMembers)[-1].after == "bob"

    def test_counts(self) -> None:
        """S45: by name, each once, joined or not."""
        rig = connected()
        number = rig.call("count_members", ["lobby", "den", "lobby"])
        assert rig.server.of_type(CountMembers) == [CountMembers(number, ("lobby", "den"))]
        rig.say(MemberCountsMessage(number, (4, 0)))
        assert rig.result(number) == MemberCounts(counts={"lobby": 4, "den": 0})

    def test_history(self) -> None:
        """S33, S43: the entries as events with their offsets, one's own as well; what says nothing has its offset, and
        nothing of it is delivered."""
        rig = connected()
        number = rig.call("read_history", "lobby", before=100, limit=10)
        assert rig.server.of_type(ReadHistory) == [ReadHistory(number, "lobby", 10, 100, None)]
        entries: list[Any] = [
            JoinedEntry("alice"),
            TextEntry("alice", "a", 1500),
            BytesEntry("bob", b"b", 2500),
            LeftEntry("bob", 2),
            MembersResumedEntry(),
        ]
        rig.say(History(number, EPOCH, 40, True, entries))
        page = rig.result(number)
        assert (page.channel, page.epoch, page.more) == ("lobby", EPOCH, True)
        assert (page.first_offset, page.last_offset) == (40, 44)
        message = ChannelMessageReceived(channel="lobby", uid="alice", message="a", offset=41, sent_at=1.5)
        assert page.events == (
            MemberJoined(channel="lobby", uid="alice", offset=40),
            message,
            ChannelMessageReceived(channel="lobby", uid="bob", message=b"b", offset=42, sent_at=2.5),
            MemberLeft(channel="lobby", uid="bob", cause=LeaveCause.TIMED_OUT, offset=43),
            MembersResumed(channel="lobby", offset=44),
        )
        assert page.messages[0] == message
        assert rig.messages() == []
        assert rig.core.cursor("lobby") == 0

    def test_an_empty_page(self) -> None:
        """S33: its offsets say where it stands all the same."""
        rig = connected()
        number = rig.call("read_history", "lobby", after=40)
        assert rig.server.of_type(ReadHistory)[-1] == ReadHistory(number, "lobby", 100, None, 40)
        rig.say(History(number, EPOCH, 41, False, []))
        page = rig.result(number)
        assert page == HistoryPage(channel="lobby", epoch=EPOCH, events=(), first_offset=41, last_offset=40, more=False)

    def test_refused(self) -> None:
        """S9: nothing was carried out."""
        rig = connected()
        number = rig.call("list_members", "lobby")
        rig.say(Failed(number, Code.NOT_A_MEMBER, "no"))
        assert rig.error(number).code == "not_a_member"
        assert rig.error(number).outcome is Outcome.REFUSED

    def test_asked_again_after_a_resume(self) -> None:
        """S46: reads may run twice; an answer to one that nobody waits for any more is passed over."""
        rig = connected()
        numbers = [
            rig.call("list_members", "lobby"),
            rig.call("count_members", ["lobby"]),
            rig.call("read_history", "lobby"),
        ]
        rig.call("cancel", numbers[1])
        rig.lose()
        rig.advance(0.5)
        rig.accept()
        assert [one.number for one in rig.server.of_type(ListMembers) + rig.server.of_type(ReadHistory)] == [
            numbers[0],
            numbers[2],
        ]
        rig.say(MemberCountsMessage(numbers[1], (1,)))
        rig.say(Members(numbers[0], EPOCH, 0, 1, (), False), History(numbers[2], EPOCH, 1, False, []))
        assert rig.result(numbers[0]).member_count == 1
        assert rig.result(numbers[2]).events == ()
        assert numbers[1] not in rig.ends


VIOLATIONS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("list_members", ("lobby",), lambda number: Members(number, b"short", 0, 1, (), False)),
    ("list_members", ("lobby",), lambda number: Members(number, EPOCH, -1, 1, (), False)),
    ("list_members", ("lobby",), lambda number: Members(number, EPOCH, 0, -1, (), False)),
    ("list_members", ("lobby",), lambda number: History(number, EPOCH, 1, False, [])),
    ("count_members", (["lobby"],), lambda number: MemberCountsMessage(number, (1, 2))),
    ("count_members", (["lobby"],), lambda number: MemberCountsMessage(number, (-1,))),
    ("read_history", ("lobby",), lambda number: History(number, EPOCH, -1, False, [])),
    ("read_history", ("lobby",), lambda number: History(number, EPOCH, (1 << 63) - 1, False, [JoinedEntry("a")])),
    ("read_history", ("lobby",), lambda number: History(number, b"", 1, False, [])),
    ("read_history", ("lobby",), lambda number: History(number, EPOCH, 1, False, [JoinedEntry("a")] * 101)),
    ("read_history", ("lobby",), lambda number: Done(number)),
    ("read_history", ("lobby",), lambda number: MemberCount("lobby", -1)),
]


@pytest.mark.parametrize(("command", "arguments", "answer"), VIOLATIONS)
def test_answers_that_no_server_gives(command: str, arguments: tuple[Any, ...], answer: Any) -> None:
    """S50, S9: a protocol error; the request stays open, and is asked for again."""
    rig = connected()
    number = rig.call(command, *arguments)
    rig.say(answer(number))
    assert rig.server.closed_with == 1002
    assert number not in rig.ends
    rig.advance(0.5)
    rig.accept()
    rig.answer_all()
    rig.result(number)


class TestMisuse:
    """S37, S45: at the call, before anything is sent, with the limit in the text."""

    @pytest.mark.parametrize(
        ("command", "arguments", "options", "text"),
        [
            ("list_members", ("lobby",), {"after": "ä"}, "1 to 64"),
            ("list_members", ("lobby",), {"after": None}, "str"),
            ("count_members", ([f"r{number}" for number in range(33)],), {}, "more than 32"),
            ("count_members", ([],), {}, "1 to 32"),
            ("count_members", ("lobby",), {}, "list of str"),
            ("count_members", (["x" * 65],), {}, "1 to 64"),
            ("read_history", ("lobby",), {"limit": 257}, "1 to 256"),
            ("read_history", ("lobby",), {"limit": 0}, "1 to 256"),
            ("read_history", ("lobby",), {"before": -1}, "at least 0"),
            ("read_history", ("lobby",), {"after": 1 << 63}, "at least 0"),
            ("read_history", ("lobby",), {"before": 1, "after": 1}, "exclude each other"),
        ],
    )
    def test_arguments(self, command: str, arguments: Any, options: Any, text: str) -> None:
        """S37, S45."""
        rig = connected()
        before = len(rig.server.received)
        with pytest.raises(InvalidArgument, match=text):
            rig.call(command, *arguments, **options)
        rig.tick()
        assert len(rig.server.received) == before

    def test_the_welcome_counts(self) -> None:
        """S15, S45: the server's figures, not ours."""
        rig = connected(limits=limits(max_count_channels=2, max_history_entries=5))
        with pytest.raises(InvalidArgument, match="more than 2"):
            rig.call("count_members", ["a", "b", "c"])
        with pytest.raises(InvalidArgument, match="1 to 5"):
            rig.call("read_history", "lobby", limit=6)
        rig.call("count_members", ["a", "b"])
        rig.call("read_history", "lobby", limit=5)

    def test_where_there_is_nothing_to_ask(self) -> None:
        """S35, S37: a channel that is not joined; a client that is not connected."""
        rig = connected()
        for command in ("list_members", "read_history"):
            with pytest.raises(NotJoined, match="other"):
                rig.call(command, "other")
        for command, argument in (("list_members", "lobby"), ("read_history", "lobby"), ("count_members", ["lobby"])):
            with pytest.raises(NotConnected):
                Rig().call(command, argument)


class TestNumbersOfMembers:
    """S38: a latest value."""

    def test_each_change_once(self) -> None:
        """S38: told if it is another one than was known, by the join or by the last one."""
        rig = connected()
        rig.say(MemberCount("lobby", 1), MemberCount("lobby", 600), MemberCount("lobby", 600), MemberCount("other", 9))
        assert rig.of_type(MemberCountChanged) == [MemberCountChanged(channel="lobby", member_count=600)]
        rig.say(MemberCount("lobby", 599))
        assert rig.of_type(MemberCountChanged)[-1].member_count == 599

    def test_told_again(self) -> None:
        """S38, S33: behind an entry or a gap with which all became unknown, also if it is the same."""
        rig = connected()
        rig.say(MemberCount("lobby", 600), Entries("lobby", EPOCH, 1, [MembersResumedEntry()]))
        rig.say(MemberCount("lobby", 600), Gap("lobby", EPOCH, 9, 8), MemberCount("lobby", 600))
        assert len(rig.of_type(MemberCountChanged)) == 3
        assert rig.of_type(MembersResumed) == [MembersResumed(channel="lobby", offset=1)]

    def test_a_full_queue(self) -> None:
        """S38, S52: it is held as for an entry, and told when there is room."""
        rig = Rig(ClientConfig(max_queued_events=4))
        rig.connect("lobby")
        rig.call("iterating", "lobby", True)
        rig.entries(1, *"abcd")
        rig.say(MemberCount("lobby", 600))
        assert rig.of_type(MemberCountChanged) == []
        assert len(rig.server.of_type(Hold)) == 1
        rig.say(MemberCount("lobby", 601))
        rig.call("consumed", "lobby", 2, 0)
        assert rig.server.of_type(GoOn)[-1].cursor == 4
        rig.say(Going("lobby"), MemberCount("lobby", 602))
        assert [event.member_count for event in rig.of_type(MemberCountChanged)] == [602]


class TestPace:
    """S45, S55."""

    def test_units(self) -> None:
        """S45, S55: a list costs 64, a page of history 16, a count one for each channel."""
        for command, argument, units in (
            ("list_members", "lobby", 64),
            ("read_history", "lobby", 16),
            ("count_members", [f"r{number}" for number in range(20)], 20),
            ("count_members", ["a"], 1),
        ):
            rig = connected(limits=limits(requests_per_second=10, request_burst=2000))
            numbers = [rig.call(command, argument, timeout_seconds=1000.0) for _ in range(200)]
            kind = type(rig.core._conversation._requests.get(numbers[0]).message)  # type: ignore[union-attr]
            assert len(rig.server.of_type(kind)) == min(200, 1743 // units)  # one was the join

    def test_more_than_the_burst(self) -> None:
        """S45: can be had from a full bucket, and is owed: so the rate is kept."""
        rig = connected(limits=limits(requests_per_second=10, request_burst=10))
        rig.advance(1.0)
        for _ in range(3):
            rig.call("list_members", "lobby", timeout_seconds=100.0)
        times = []
        for _ in range(200):
            if len(rig.server.of_type(ListMembers)) > len(times):
                times.append(rig.elapsed)
            rig.advance(0.1)
        assert [later - earlier for earlier, later in itertools.pairwise(times)] == pytest.approx([6.4, 6.4], abs=0.11)

    def test_bytes(self) -> None:
        """S55: 4 MiB less what may be under way at once, and then 1 MiB a second; what has no message waits for the
        message before it, and for nothing else."""
        rig = connected()
        for _ in range(200):
            rig.publish(message="x" * (32 * 1024 - 29), timeout_seconds=100.0)
        number = rig.call("count_members", ["lobby"], timeout_seconds=100.0)
        assert len(rig.server.of_type(PublishText)) == 120
        rig.advance(1.0)
        assert 151 <= len(rig.server.of_type(PublishText)) <= 153
        assert rig.server.of_type(CountMembers) == []
        rig.advance(2.0)
        assert len(rig.server.of_type(PublishText)) == 200
        assert [one.number for one in rig.server.of_type(CountMembers)] == [number]

    def test_too_late(self) -> None:
        """S35: the error names the rates."""
        rig = connected(limits=limits(append_bytes_per_second=1000, append_burst_bytes=128 * 1024))
        numbers = [rig.publish(message="x" * 32_000, timeout_seconds=1.0) for _ in range(4)]
        rig.advance(1.0)
        error = rig.error(numbers[-1])
        assert "1000 bytes a second" in str(error)
        assert error.outcome is Outcome.NOT_SENT
        assert not isinstance(error, RequestRefused)
