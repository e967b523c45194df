"""Members, counts and history at the hub (S37, S38, S45, S47, S51, S55)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.fake_client import Bench, FakeClient
from rtm_sansio.codes import Code
from rtm_sansio.config import ChannelSettings
from rtm_sansio.logs import Block
from rtm_sansio.messages import (
    CountMembers,
    Entries,
    Failed,
    GoOn,
    History,
    Hold,
    Join,
    JoinedEntry,
    Leave,
    LeftEntry,
    ListMembers,
    MemberCount,
    MemberCounts,
    Members,
    MembersResumedEntry,
    PublishBytes,
    PublishText,
    ReadHistory,
    Sent,
    encode_batch,
)
from rtm_sansio.operations import BlockAnnounced, CountAnnounced, JoinChannel

BOTH = pytest.mark.parametrize("nodes", [0, 1], ids=["embedded", "outside"])


def ask(client: FakeClient, make: Any, *arguments: Any) -> Any:
    """Send a request of this type, and take its answer."""
    number = client.next_number()
    client.send(make(number, *arguments))
    return client.answer(number)


def counts(client: FakeClient, channel: str = "room") -> list[int]:
    """The numbers of members that came by themselves."""
    return [count.member_count for count in client.of(MemberCount) if count.channel == channel]


class TestMembers:
    @BOTH
    def test_pages(self, nodes: int) -> None:
        """S47: in the order of the uids, as many as the server likes; the next page begins behind the last one."""
        bench = Bench(nodes=nodes, max_snapshot_members=3, unmute_members=3)
        clients = [bench.login(f"user{number}", "room") for number in (4, 1, 6, 3, 0, 5, 2)]
        alice = clients[0]
        found: list[str] = []
        sizes = []
        page: Any = None
        while page is None or page.more:
            page = ask(alice, ListMembers, "room", found[-1] if found else "")
            assert page == Members(page.number, alice.joined["room"].epoch, 3, 7, page.uids, page.more)
            found += page.uids
            sizes.append(len(page.uids))
        assert found == [f"user{number}" for number in range(7)]
        assert sizes == [3, 3, 1]
        assert ask(alice, ListMembers, "room", "user6").uids == ()
        assert ask(alice, ListMembers, "room", "user5x").uids == ("user6",)

    def test_a_page_fits_into_a_message(self) -> None:
        """S45, S47: however many members a server lists, and however long their names are."""
        bench = Bench(max_snapshot_members=5000, feed_piece_bytes=2048)
        clients = [bench.login(f"{number:064}", "room") for number in range(60)]
        page = ask(clients[0], ListMembers, "room")
        assert (len(page.uids), page.more, page.member_count) == (27, True, 60)
        assert clients[0].payload_sizes[-1] < 2048

    def test_only_of_members(self) -> None:
        """S47, S60: who is no member is told nothing, of a channel that is there or not."""
        bench = Bench()
        alice, bob = bench.login("alice", "room"), bench.login("bob")
        for request in (ListMembers, lambda number, channel: ReadHistory(number, channel, 1)):
            for channel in ("room", "nowhere"):
                refusal = ask(bob, request, channel)
                assert (type(refusal), refusal.code) == (Failed, Code.NOT_A_MEMBER)
        assert "nowhere" not in bench.hub._engine._embedded._channels._homes
        assert ask(alice, ListMembers, "room").uids == ("alice",)

    @BOTH
    def test_counts(self, nodes: int) -> None:
        """S45: in the order in which they were named, also twice; anybody may ask, and makes no channel by it."""
        bench = Bench(nodes=nodes)
        bench.login("alice", "room", "other")
        bench.login("bob", "room")
        carol = bench.login("carol")
        answer = ask(carol, CountMembers, ("nowhere", "room", "other", "room"))
        assert answer == MemberCounts(answer.number, (0, 2, 1, 2))

    @pytest.mark.parametrize("lose", [False, True])
    def test_answers_of_an_engine_that_takes_its_time(self, lose: bool) -> None:
        """S46: the next request waits for them; if the transport is gone meanwhile, nobody gets them."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        bench.held.add(0)
        alice.send(
            ListMembers(10, "room"), CountMembers(11, ("room", "other")), ReadHistory(12, "room", 9), Leave(13, "room")
        )
        assert len(bench.calls[0]) == 1
        if lose:
            alice.lose()
        bench.release()
        assert [len(alice.answers(number)) for number in (10, 11, 12, 13)] == [0 if lose else 1] * 4
        if not lose:
            assert alice.answer(10).uids == ("alice",)
            assert alice.answer(11).counts == (1, 0)
            assert [type(entry) for entry in alice.answer(12).entries] == [JoinedEntry]

    def test_lost_while_counting(self) -> None:
        """S46: with some of the counts there and some not."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        bench.held.add(0)
        alice.send(CountMembers(11, ("room", "other")))
        bench.answer()
        alice.lose()
        bench.release()
        assert alice.answers(11) == []


class TestHistory:
    @BOTH
    def test_pages(self, nodes: int) -> None:
        """S33: the newest, backwards from there to the first, and forwards again; the entries as they stand in the
        log."""
        bench = Bench(nodes=nodes)
        alice = bench.login("alice", "room")
        for number in range(9):
            alice.publish("room", f"{number}")
        page = ask(alice, ReadHistory, "room", 4)
        assert (page.first_offset, page.more, page.epoch) == (7, True, alice.joined["room"].epoch)
        assert [entry.text for entry in page.entries] == ["5", "6", "7", "8"]
        page = ask(alice, ReadHistory, "room", 256, 7)
        assert (page.first_offset, page.more, len(page.entries)) == (1, False, 6)
        page = ask(alice, ReadHistory, "room", 2, None, 3)
        assert (page.first_offset, page.more) == (4, True)
        assert [entry.text for entry in page.entries] == ["2", "3"]

    def test_it_changes_nothing(self) -> None:
        """S33, S49: neither what is kept nor what is delivered."""
        bench = Bench()
        alice, bob = bench.login("alice", "room"), bench.login("bob", "room")
        for number in range(5):
            ask(bob, ReadHistory, "room", 256)
            alice.publish("room", f"{number}")
        assert bob.texts("room") == [f"{number}" for number in range(5)]
        assert bob.gaps("room") == []

    def test_settings_by_pattern(self) -> None:
        """S33: how many and how long, by the first pattern that matches; never less than can be replayed."""
        settings = (
            ChannelSettings(pattern="log-*", history_entries=3, history_seconds=1000.0),
            ChannelSettings(pattern="*-?", history_entries=1),
        )
        bench = Bench(channel_settings=settings, history_entries=5)
        alice = bench.login("alice", "log-1", "room-1", "room").keep()
        for _ in range(8):
            for name in ("log-1", "room-1", "room"):
                alice.publish(name, "x")

        def kept() -> list[int]:
            return [len(ask(alice, ReadHistory, name, 256).entries) for name in ("log-1", "room-1", "room")]

        assert kept() == [9, 9, 9]
        bench.advance(41.0)
        for name in ("log-1", "room-1", "room"):
            alice.publish(name, "x")
        assert kept() == [3, 1, 5]
        bench.advance(301.0)
        assert kept() == [3, 0, 0]
        bench.advance(701.0)
        assert kept() == [0, 0, 0]


class TestLimits:
    """S37, S45: checked by the server again, each from both sides."""

    @pytest.mark.parametrize(
        ("request_", "code"),
        [
            (CountMembers(9, tuple(f"r{number}" for number in range(32))), None),
            (CountMembers(9, tuple(f"r{number}" for number in range(33))), Code.TOO_MANY_NAMES),
            (CountMembers(9, ()), Code.INVALID_REQUEST),
            (CountMembers(9, ("room", "")), Code.INVALID_CHANNEL),
            (CountMembers(9, ("x" * 64,)), None),
            (CountMembers(9, ("x" * 65,)), Code.INVALID_CHANNEL),
            (ListMembers(9, "room", "x" * 64), None),
            (ListMembers(9, "room", "x" * 65), Code.INVALID_REQUEST),
            (ListMembers(9, "x" * 65), Code.INVALID_CHANNEL),
            (ReadHistory(9, "room", 256), None),
            (ReadHistory(9, "room", 257), Code.INVALID_REQUEST),
            (ReadHistory(9, "room", 1), None),
            (ReadHistory(9, "room", 0), Code.INVALID_REQUEST),
            (ReadHistory(9, "room", 1, 0), None),
            (ReadHistory(9, "room", 1, -1), Code.INVALID_REQUEST),
            (ReadHistory(9, "room", 1, None, (1 << 63) - 1), None),
            (ReadHistory(9, "room", 1, None, 1 << 63), Code.INVALID_REQUEST),
            (ReadHistory(9, "room", 1, 2, 2), Code.INVALID_REQUEST),
            (ReadHistory(9, "", 1), Code.INVALID_CHANNEL),
        ],
        ids=repr,
    )
    def test_each(self, request_: Any, code: Code | None) -> None:
        """S37, S45: with its code, and with the limit in the text where it is one."""
        bench = Bench()
        alice = bench.login("alice", "room")
        alice.send(request_)
        answer = alice.answer(9)
        if code is None:
            assert not isinstance(answer, Failed)
            return
        assert (type(answer), answer.code) == (Failed, code)
        if code is Code.TOO_MANY_NAMES:
            assert "33 channels are named; 32 can be counted" in answer.message
        assert alice.gone is None

    def test_units(self) -> None:
        """S45, S55: a count costs a unit for each channel, a list of members 64, a page of history 16."""
        for request, units in (
            (CountMembers(100, tuple(f"r{number}" for number in range(32))), 32),
            (CountMembers(100, ("room",)), 1),
            (ListMembers(100, "room"), 64),
            (ReadHistory(100, "room", 1), 16),
            (PublishText(100, "room", "x"), 1),
        ):
            for others, refused in ((999 - units, False), (1000 - units, True)):
                bench = Bench(requests_per_second=1, request_burst=1000)
                alice = bench.login("alice", "room")
                for start in range(0, others, 100):
                    alice.send(*(PublishText(1, "room", "") for _ in range(start, min(start + 100, others))))
                alice.send(request)
                assert isinstance(alice.answer(100), Failed) is refused, request

    @pytest.mark.parametrize("kind", [PublishText, PublishBytes])
    def test_bytes(self, kind: Any) -> None:
        """S55: 1 MiB a second in bursts of 4 MiB; refused above, and again carried out later."""
        bench = Bench()
        alice = bench.login("alice", "room")
        size = 32 * 1024 - len("room") - 24
        body = "x" * size if kind is PublishText else b"x" * size
        for number in range(100, 229):
            alice.send(kind(number, "room", body))
        results = [alice.answer(number) for number in range(100, 229)]
        assert [type(result) for result in results] == [Sent] * 128 + [Failed]
        assert results[-1].code == Code.RATE_EXCEEDED
        bench.advance(0.02)
        alice.send(kind(300, "room", body))
        assert isinstance(alice.answer(300), Failed)
        bench.advance(0.02)
        alice.send(kind(301, "room", body), Join(302, "other"))
        assert isinstance(alice.answer(301), Sent)
        assert not isinstance(alice.answer(302), Failed)  # what carries no message costs no bytes

    @pytest.mark.parametrize(("times", "dropped"), [(0.9, False), (1.5, False), (2.5, True)])
    def test_a_flood_of_bytes(self, times: float, dropped: bool) -> None:
        """S51, S55: who goes on at twice the rate of bytes is dropped, 5 s after the first error; below that only
        refused."""
        bench = Bench(append_bytes_per_second=64 * 1024, append_burst_bytes=128 * 1024)
        alice = bench.login("alice", "room")
        body, number, started = bytes(8 * 1024 - 28), 100, bench.now
        while alice.gone is None and alice.close_code is None and bench.now - started < 60.0:
            number += 1
            alice.send(PublishBytes(number, "room", body))
            bench.advance(1.0 / 8 / times)
        assert (alice.close_code == Code.FLOODING) is dropped
        errors = [one for one in alice.of(Failed) if one.code == Code.RATE_EXCEEDED]
        assert bool(errors) is (times > 1.0)
        if dropped:
            assert bench.now - started > 5.0


class TestSlowReaders:
    """S51: lists for a transport that takes little."""

    @BOTH
    def test_256_pages_at_once(self, nodes: int) -> None:
        """S49, S51: a slow reader that asks for 16 MiB at once is not dropped, loses no answer, has never much more
        than two pages waiting, and disturbs nobody."""
        bench = Bench(nodes=nodes, request_burst=10_000)
        alice, bob = bench.login("alice", "room"), bench.login("bob")
        for number in range(4):
            alice.send(PublishBytes(10 + number, "room", bytes(31_000)))
        alice.reading = False
        requests = [ReadHistory(number, "room", 256) for number in range(100, 355)]
        alice.send(*requests, PublishText(355, "room", "behind them all"))
        most = 0
        for _ in range(600):
            most = max(most, alice.unsent)
            assert isinstance(ask(bob, CountMembers, ("room",)), MemberCounts)
            if not alice.unsent:
                break
            alice.drain(50_000)
        assert alice.gone is None
        assert most < 3 * 64 * 1024
        answers = [alice.answer(number) for number in range(100, 355)]
        assert [(type(answer), len(answer.entries)) for answer in answers] == [(History, 2)] * 255
        assert isinstance(alice.answer(355), Sent)

    def test_many_in_one_pass(self) -> None:
        """S51: a reader that takes all at once gets them pass by pass; each pass has an end."""
        bench = Bench()
        alice = bench.login("alice", "room")
        for number in range(4):
            alice.send(PublishBytes(10 + number, "room", bytes(31_000)))
        alice.send(*(ReadHistory(number, "room", 256) for number in range(100, 110)))
        assert [len(alice.answers(number)) for number in range(100, 110)] == [1] * 10
        assert max(alice.sizes) < 3 * 64 * 1024

    def test_it_waits_no_longer_than_the_link(self) -> None:
        """S46, S51: a session whose lists wait is resumed with all of them asked for again."""
        bench = Bench()
        alice = bench.login("alice", "room")
        for number in range(4):
            alice.send(PublishBytes(10 + number, "room", bytes(31_000)))
        alice.reading = False
        alice.send(*(ReadHistory(number, "room", 256) for number in range(100, 120)))
        waiting = [number for number in range(100, 120) if not alice.answers(number)]
        assert len(waiting) > 10
        alice.lose()
        again = bench.open()
        again.login("alice", resume=alice, want=[alice.cursor("room")])
        again.send(*(ReadHistory(number, "room", 256) for number in waiting))
        assert [len(again.answers(number)) for number in waiting] == [1] * len(waiting)

    def test_small_bounds(self) -> None:
        """S51: nor is it dropped where the bound for all that waits leaves little room for a list."""
        bench = Bench(
            max_outbound_bytes=70_000,
            slow_reader_bytes=66_000,
            feed_below_bytes=66_000,
            append_burst_bytes=1 << 30,
        )
        alice = bench.login("alice", "room")
        for number in range(4):
            alice.send(PublishBytes(10 + number, "room", bytes(31_000)))
        alice.reading = False
        alice.send(*(ReadHistory(number, "room", 256) for number in range(100, 130)))
        for _ in range(200):
            alice.drain(20_000)
        assert alice.gone is None
        assert [len(alice.answers(number)) for number in range(100, 130)] == [1] * 30


class TestMute:
    """S38."""

    def room(self, bench: Bench, count: int, start: int = 0) -> list[FakeClient]:
        return [bench.login(f"user{number:03}", "room").keep() for number in range(start, start + count)]

    @BOTH
    def test_at_512_and_480(self, nodes: int) -> None:
        """S38: 512 members are told of each other, 513 are not; 480 are not yet, and 479 are again."""
        bench = Bench(nodes=nodes)
        alice = bench.login("alice", "room").keep()
        others = self.room(bench, 511)
        assert alice.entries("room")[-1] == (512, JoinedEntry("user510"))
        assert counts(alice) == []
        last = bench.login("zoe", "room")
        assert (last.joined["room"].offset, last.joined["room"].member_count) == (512, 513)
        assert last.joined["room"].members is None
        assert alice.entries("room")[-1][0] == 512
        assert counts(alice) == [513]
        bench.advance(1.0)
        last.leave("room")
        assert counts(alice) == [513, 512]  # still muted
        again = last.join("room")
        assert (again.offset, again.member_count) == (512, 513)
        bench.advance(1.0)
        assert counts(alice) == [513, 512, 513]
        last.leave("room")
        for client in others[480:]:
            client.leave("room")
        bench.advance(1.0)
        others[479].leave("room")
        bench.advance(1.0)
        assert counts(alice)[-1] == 480
        assert alice.entries("room")[-1][0] == 512
        others[478].leave("room")
        assert alice.entries("room")[-1] == (513, MembersResumedEntry())
        assert alice.publish("room", "no hole").offset == 514
        others[477].leave("room")
        assert alice.entries("room")[-1] == (515, LeftEntry("user477", 1))
        bench.advance(5.0)
        assert counts(alice)[-1] == 480
        assert len(ask(alice, ListMembers, "room").uids) == 478

    @BOTH
    def test_once_a_second_and_the_latest(self, nodes: int) -> None:
        """S38: the first change at once, then the present number a second later, and nothing without a change."""
        bench = Bench(nodes=nodes, max_snapshot_members=2, unmute_members=1)
        alice = bench.login("alice", "room").keep()
        clients = self.room(bench, 20)
        assert counts(alice) == [3]
        bench.advance(0.99)
        assert counts(alice) == [3]
        bench.advance(0.01)
        assert counts(alice) == [3, 21]
        bench.advance(30.0)
        assert counts(alice) == [3, 21]
        for client in clients[:5]:
            client.leave("room")
        assert counts(alice) == [3, 21, 20]
        bench.advance(1.0)
        assert counts(alice) == [3, 21, 20, 16]

    def test_ends_of_sessions(self) -> None:
        """S24, S38: who times out is no longer counted; nobody is told who."""
        bench = Bench(max_snapshot_members=2, unmute_members=1)
        alice = bench.login("alice", "room").keep()
        clients = self.room(bench, 3)
        bench.advance(2.0)
        before = len(alice.entries("room"))
        clients[0].lose()
        bench.hub.kick("user001", now=bench.now)
        bench.settle()
        assert counts(alice)[-1] == 3
        bench.advance(30.0)
        assert counts(alice)[-1] == 2
        assert alice.entries("room")[before:] == []

    def test_over_an_older_session(self) -> None:
        """S32, S38, S47: at 512 both entries are told; above it neither, and the number stays."""
        bench = Bench(max_snapshot_members=2, unmute_members=2)
        alice = bench.login("alice", "room").keep()
        bench.login("bob", "room")
        bench.login("bob", "room")
        assert alice.members("room") == [JoinedEntry("bob"), LeftEntry("bob", 3), JoinedEntry("bob")]
        bench.login("carol", "room")
        bench.advance(2.0)
        offset = alice.entries("room")[-1][0]
        bench.login("carol", "room")
        bench.advance(2.0)
        assert alice.entries("room")[-1][0] == offset
        assert counts(alice)[-1] == 3
        assert ask(alice, ListMembers, "room").uids == ("alice", "bob")

    def test_a_rejoin(self) -> None:
        """S25, S38: back in a new session a reader gets what the log has, and then the present number."""
        bench = Bench(max_snapshot_members=2, unmute_members=1)
        alice = bench.login("alice", "room").keep()
        self.room(bench, 2)
        carol = bench.login("carol", "room")
        carol.lose()
        alice.publish("room", "missed")
        bench.advance(31.0)
        before = alice.entries("room")[-1][0]
        again = bench.open()
        again.login("carol", again=carol, want=[carol.cursor("room")])
        assert not again.welcome.resumed
        assert again.texts("room") == ["missed"]
        assert counts(again)[-1] == ask(alice, CountMembers, ("room",)).counts[0]
        assert again.messages.index(again.of(MemberCount)[0]) > again.messages.index(again.of(Entries)[0])
        assert alice.entries("room")[-1][0] == before

    def test_readers_on_hold(self) -> None:
        """S38, S52: a reader on hold gets no numbers, and the present one when it goes on."""
        bench = Bench(max_snapshot_members=1, unmute_members=1)
        alice = bench.login("alice", "room").keep()
        bench.login("bob", "room")
        alice.send(Hold("room"))
        told = len(counts(alice))
        self.room(bench, 5)
        bench.advance(2.0)
        assert len(counts(alice)) == told
        alice.send(GoOn("room", alice.joined["room"].epoch, alice.cursor("room")[2]))
        assert counts(alice)[told:] == [7]

    def test_readers_that_are_behind(self) -> None:
        """S38, S49: a reader that is behind gets the present number when it has caught up, behind the entries."""
        bench = Bench(max_snapshot_members=1, unmute_members=1, append_burst_bytes=1 << 30)
        alice, bob = bench.login("alice", "room").keep(), bench.login("bob", "room").keep()
        alice.reading = False
        for number in range(20):
            bob.send(PublishBytes(100 + number, "room", bytes(31_000)))
        told = len(counts(alice))
        self.room(bench, 3)
        bench.advance(2.0)
        assert len(counts(alice)) == told
        for _ in range(40):
            alice.drain(40_000)
        assert counts(alice)[told:] == [5]
        assert isinstance(alice.messages[-1], MemberCount)
        assert len(alice.entries("room")) == 21

    @BOTH
    def test_a_number_stands_behind_the_entries_before_it(self, nodes: int) -> None:
        """S38: unmuted and muted again in one pass: the lists are out of date, and there is a number again; in this
        order."""
        bench = Bench(nodes=nodes, max_snapshot_members=2, unmute_members=2)
        alice = bench.login("alice", "room").keep()
        others = self.room(bench, 2)
        bench.advance(5.0)
        taken = len(alice.messages)
        hub = bench.hub
        for client, request in (
            (others[0], Leave(50, "room")),
            (others[1], Leave(50, "room")),
            (others[0], Join(51, "room")),
            (others[1], Join(51, "room")),
        ):
            hub.receive_data(client.id, client.wire.frame(encode_batch([request])), now=bench.now)
            while nodes and bench.pump(0):
                pass
        bench.settle()
        bench.advance(2.0)
        told = [message for message in alice.messages[taken:] if isinstance(message, (Entries, MemberCount))]
        entries = [entry for message in told if isinstance(message, Entries) for entry in message.entries]
        assert entries == [MembersResumedEntry(), JoinedEntry("user000")]
        assert isinstance(told[-1], MemberCount)
        assert told[-1].member_count == 3

    def test_a_number_while_a_hole_is_read(self) -> None:
        """S38, E5: a block was lost on the way; the number waits until it was read."""
        bench = Bench(nodes=1, max_snapshot_members=2, unmute_members=2)
        alice = bench.login("alice", "room").keep()
        others = self.room(bench, 2)
        bench.advance(5.0)
        bench.held.add(0)
        others[0].send(Leave(50, "room"))
        others[1].send(Leave(50, "room"))
        while bench.calls[0]:
            call = bench.calls[0].pop(0)
            answer = bench.engine.execute(call.operation, now=bench.now)
            announced = [one for _, one in bench.engine.take_announcements()]
            if getattr(answer, "block", None) is not None:
                answer = msgspec.structs.replace(answer, block=None)
                announced = []
            for one in announced:
                bench.hub.engine_announced(one, now=bench.now)
            bench.hub.engine_answered(call.call_id, answer, now=bench.now)
            bench.settle()
        assert MembersResumedEntry() not in [entry for _, entry in alice.entries("room")]
        taken = len(alice.messages)
        others[0].send(Join(51, "room"))
        others[1].send(Join(51, "room"))
        bench.release()
        bench.advance(2.0)
        told = [message for message in alice.messages[taken:] if isinstance(message, (Entries, MemberCount))]
        assert next(entry for block in told[:-1] for entry in block.entries) == MembersResumedEntry()
        assert told[-1] == MemberCount("room", 3)

    @pytest.mark.parametrize("gap", [False, True])
    def test_a_number_that_comes_meanwhile(self, gap: bool) -> None:
        """S38, E5: while the log is read for what was missed, with or without a gap; it is told behind that."""
        bench = Bench(nodes=1, max_snapshot_members=1, unmute_members=1)
        alice = bench.login("alice", "room").keep()
        bob = bench.login("bob", "room").keep()
        bench.advance(2.0)
        told = len(counts(alice))
        bench.held.add(0)
        bob.send(PublishText(50, "room", "missed"), PublishText(51, "room", "as well"))
        call = bench.calls[0].pop(0)
        answer = bench.engine.execute(call.operation, now=bench.now)
        bench.engine.take_announcements()
        if gap:
            home = bench.engine._channels._homes["room"]
            while len(home.log):
                home.log.drop_oldest()
        bench.hub.engine_answered(call.call_id, msgspec.structs.replace(answer, block=None), now=bench.now)
        epoch = alice.joined["room"].epoch
        beyond = Block(epoch, 9, (b"-",))
        bench.hub.engine_announced(BlockAnnounced(log="c:room", block=beyond), now=bench.now)
        bench.hub.engine_announced(CountAnnounced(channel="room", member_count=7), now=bench.now)
        bench.settle()
        assert len(counts(alice)) == told
        bench.release()
        assert counts(alice)[told:] == [7]
        assert alice.texts("room") == ([] if gap else ["missed", "as well"])
        assert isinstance(alice.messages[-1], MemberCount)

    def test_channels_without_member_events(self) -> None:
        """S38: by pattern: never told who; how many from the first one on, and also to whom subscribes later."""
        bench = Bench(channel_settings=(ChannelSettings(pattern="news-*", member_events=False),))
        alice = bench.login("alice", "news-1").keep()
        assert alice.joined["news-1"].offset == 0
        bench.login("bob", "news-1")
        bench.advance(1.0)
        assert list(dict.fromkeys(counts(alice, "news-1"))) == [1, 2]
        assert alice.entries("news-1") == []

    def test_a_number_for_nobody(self) -> None:
        """S38: of a channel that nobody here has any more, or not yet."""
        bench = Bench(nodes=1)
        alice = bench.login("alice")
        bench.hub.engine_announced(CountAnnounced(channel="room", member_count=7), now=bench.now)
        bench.held.add(0)
        alice.send(Join(10, "room"))
        bench.answer()
        bench.settle()
        bench.hub.engine_announced(CountAnnounced(channel="room", member_count=7), now=bench.now)
        bench.release()
        assert counts(alice) == []

    def test_a_number_before_the_confirmation(self) -> None:
        """S38, E5: it may be older or newer than what the confirmation tells: the present one is asked for."""
        bench = Bench(nodes=1, max_snapshot_members=1, unmute_members=1)
        bench.engine.execute(
            JoinChannel(
                channel="room",
                uid="carol",
                session_id=b"c",
                attach=1,
                number=None,
                lowest_unanswered=0,
                joined_entry=b"+",
                replaced_entry=b"-",
            ),
            now=bench.now,
        )
        alice = bench.login("alice")
        bench.held.add(0)
        alice.send(Join(10, "room"))
        bench.answer()
        bench.settle()
        bench.hub.engine_announced(CountAnnounced(channel="room", member_count=7), now=bench.now)
        bench.release()
        assert [type(call).__name__ for call in bench.engine_calls].count("WatchChannel") == 2
        assert alice.answer(10).member_count == 2
        bench.advance(1.0)
        assert set(counts(alice)) == {2}

    @pytest.mark.parametrize("members", [10, 10_000])
    def test_what_a_join_costs(self, members: int) -> None:
        """S38, S47: joining a channel of 10,000 costs what joining one of 10 does, the list aside: as many calls of
        the engine, and bytes for one and not for each."""
        bench = Bench(nodes=1, max_snapshot_members=9, unmute_members=9)
        alice = bench.login("alice", "room").keep()
        home = bench.engine._channels._homes["room"]
        for number in range(members - 1):
            home.members[f"member{number:05}"] = b"%016d" % number
        home.muted = True
        bob = bench.login("bob").keep()
        bench.advance(5.0)
        calls, sent = len(bench.engine_calls), sum(alice.sizes) + sum(bob.sizes)
        assert bob.join("room").member_count == members + 1
        assert [type(call).__name__ for call in bench.engine_calls[calls:]] == ["ListChannel", "JoinChannel"]
        assert sum(alice.sizes) + sum(bob.sizes) - sent < 160
