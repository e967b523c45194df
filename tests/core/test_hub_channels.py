"""Logs and their readers at the hub: fan-out, gaps, pieces, holds (S23, S33, S38, S42, S43, S48, S49, S52, S58)."""

from __future__ import annotations

import pytest

from core.fake_client import Bench, FakeClient, channels_of
from rtm_sansio.codes import Code
from rtm_sansio.events import LeaveCause
from rtm_sansio.messages import (
    Entries,
    Gap,
    Going,
    GoOn,
    Hold,
    Join,
    Joined,
    JoinedEntry,
    Leave,
    LeftEntry,
    Logout,
    PublishBytes,
    PublishText,
    encode_batch,
)
from rtm_sansio.operations import ReadLog, WatchChannel

KIB = 1024


def fill(client: FakeClient, byte_count: int, *, channel: str = "room", size: int = 16_000) -> int:
    """Publish so many bytes, one message a pass; returns the number of messages."""
    count = -(-byte_count // size)
    for _ in range(count):
        number = client.next_number()
        client.send(PublishBytes(number, channel, b"x" * size))
        client.bench.advance(0.02)
    return count


def offsets(client: FakeClient, channel: str = "room") -> list[int]:
    return [offset for offset, _ in client.entries(channel)]


class TestFanOut:
    """S33, S38, S43, E4."""

    def test_every_reader_gets_every_entry_in_order(self) -> None:
        """S33, S38, S43: messages, joins and leaves, the reader's own among them."""
        bench = Bench()
        alice, bob = bench.login("alice", "room"), bench.login("bob", "room")
        alice.publish("room", "one")
        bob.publish("room", "two")
        bob.leave("room")
        alice.publish("room", "three")
        assert offsets(alice) == [1, 2, 3, 4, 5, 6]
        assert alice.texts("room") == ["one", "two", "three"]
        assert bob.texts("room") == ["one", "two"]

    def test_the_same_bytes_for_all(self) -> None:
        """E4, S43: encoded once; nothing of one reader in them."""
        bench = Bench()
        alice, bob = bench.login("alice", "room"), bench.login("bob", "room")
        bench.login("carol", "room").publish("room", "hello")
        assert alice.received[-1] is bob.received[-1]

    def test_a_pass_with_more_than_a_frame_holds(self) -> None:
        """S45: as few frames as the limit allows, one behind the other, and nothing missing between them."""
        bench = Bench()
        alice, bob = bench.login("alice", "room"), bench.login("bob", "room")
        texts = [f"{number:030000}" for number in range(9)]
        batches = [encode_batch([PublishText(10 + number, "room", text)]) for number, text in enumerate(texts)]
        alice.payload_sizes.clear()
        bob.raw(b"".join(map(bob.wire.frame, batches)))
        assert len(alice.payload_sizes) == 3
        assert max(alice.payload_sizes) <= bench.config.max_frame_bytes
        assert alice.texts("room") == texts
        assert offsets(alice) == list(range(1, 12))

    @pytest.mark.parametrize(
        ("end", "cause"),
        [("leave", LeaveCause.LEFT), ("logout", LeaveCause.LOGGED_OUT), ("login", LeaveCause.REPLACED)],
    )
    def test_causes(self, end: str, cause: LeaveCause) -> None:
        """S38: why a member left. The others stand where they are brought about."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        if end == "leave":
            alice.leave("room")
        elif end == "logout":
            alice.send(Logout(9))
        else:
            bench.login("alice")
        assert bob.members("room") == [JoinedEntry("alice"), LeftEntry("alice", cause)]

    def test_a_reader_that_keeps_up_costs_no_position(self) -> None:
        """S49, P9."""
        bench = Bench()
        alice, bob = bench.login("alice", "room"), bench.login("bob", "room")
        for number in range(50):
            bob.publish("room", str(number))
        assert all(session.positions is None for session in bench.hub._sessions._by_id.values())
        assert len(alice.texts("room")) == 50

    def test_a_log_keeps_its_epoch_and_its_offset(self) -> None:
        """S58: while it has members, entries, and for 24 h after."""
        bench = Bench()
        alice = bench.login("alice")
        first = alice.join("room")
        alice.publish("room", "x")
        alice.leave("room")
        bench.advance(86_399.0)
        again = bench.login("alice").join("room")
        assert (again.epoch, again.offset) == (first.epoch, 4)

    def test_a_channel_that_nobody_uses_is_released(self) -> None:
        """P12: on the hub, and its subscription in the engine."""
        bench = Bench(nodes=1)
        alice, bob = bench.login("alice", "room"), bench.login("bob", "room")
        alice.leave("room")
        assert channels_of(bench.hub) == {"room"}
        bob.lose()
        assert channels_of(bench.hub) == set()
        watches = [call.on for call in bench.engine_calls if isinstance(call, WatchChannel)]
        assert watches == [True, False]


class TestBehind:
    """S49: readers that do not keep up."""

    def test_behind_at_256_kib_fed_under_64_caught_up_in_the_end(self) -> None:
        """S49, S33: pieces of at most 64 KiB, nothing lost, nothing twice."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room").keep()
        alice.reading = False
        count = fill(bob, 800 * KIB)
        assert 256 * KIB < alice.unsent < 256 * KIB + 40_000
        (session,) = (one for one in bench.hub._sessions._by_id.values() if one.uid == "alice")
        assert list(session.positions or {}) == list(session.channels.values())
        behind_at = alice.unsent
        got = len(offsets(alice))
        alice.drain(alice.unsent - 64 * KIB)
        assert len(offsets(alice)) == got  # 64 KiB are not under 64 KiB
        alice.drain(1)
        assert len(offsets(alice)) > got
        assert alice.unsent <= 64 * KIB + 64 * KIB + 200
        assert max(alice.sizes) <= 64 * KIB + 200
        for _ in range(200):
            if not session.positions:
                break
            alice.drain(32 * KIB)
        assert not session.positions
        alice.drain()
        bob.publish("room", "live again")
        assert alice.texts("room") == ["live again"]
        assert offsets(alice) == list(range(1 + 1, 2 + count + 2))
        assert behind_at > 256 * KIB

    def test_it_delays_nobody_else(self) -> None:
        """S49, S51, F-57."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        slow = bench.login("slow", "room").keep()
        slow.reading = False
        good = bench.login("good", "room").keep()
        count = fill(bob, 1000 * KIB)
        assert offsets(good) == list(range(3, 3 + count + 1))
        assert slow.unsent < 300 * KIB

    def test_replies_and_heartbeats_go_before_pieces(self) -> None:
        """S49: a reader that is behind is answered."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        back = alice
        alice.lose()
        fill(bob, 500 * KIB)
        back = bench.open()
        back.reading = False
        back.login("alice", resume=alice, want=[alice.cursor("room")])
        back.send(Join(99, "other"))
        assert isinstance(back.answer(99), Joined)
        back.heartbeat()
        assert back.heartbeats == 1
        assert back.unsent < 200 * KIB

    def test_a_new_entry_is_not_delivered_before_older_ones(self) -> None:
        """S49, S42, F-34: live traffic during the replay."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        alice.lose()
        missed = fill(bob, 300 * KIB)
        back = bench.open()
        back.reading = False
        back.login("alice", resume=alice, want=[alice.cursor("room")])
        for _ in range(30):
            bob.publish("room", "live")
            back.drain(20 * KIB)
        back.reading = True
        back.drain()
        assert offsets(back) == list(range(3, 3 + missed + 30))

    def test_two_logs_are_fed_by_turns(self) -> None:
        """S49: one piece each time, oldest first."""
        bench = Bench()
        bob = bench.login("bob", "a", "b").keep()
        alice = bench.login("alice", "a", "b")
        alice.lose()
        for channel in ("a", "b"):
            fill(bob, 200 * KIB, channel=channel)
        back = bench.open()
        back.reading = False
        back.login("alice", resume=alice, want=[alice.cursor("a"), alice.cursor("b")])
        for _ in range(40):
            back.drain(60 * KIB)
        logs = [block.log for block in back.of(Entries)]
        assert logs[:4] == ["a", "b", "a", "b"]
        assert len(offsets(back, "a")) == len(offsets(back, "b")) == 13

    def test_behind_in_the_middle_of_a_pass(self) -> None:
        """S49: it gets the frames of the pass until it is behind, and the rest in pieces of at most 64 KiB; every entry
        once."""
        bench = Bench()
        alice = bench.login("alice", "room")
        bob = bench.login("bob", "room")
        before = len(alice.sizes)
        frames = b"".join(
            bob.wire.frame(encode_batch([PublishBytes(100 + number, "room", b"x" * 32_000)])) for number in range(20)
        )
        bob.raw(frames)
        assert offsets(alice) == list(range(1, 23))
        first, *pieces = alice.sizes[before:]
        assert 256 * KIB < first <= (256 + 128) * KIB
        assert len(pieces) == 4
        assert 32_000 < min(pieces) <= max(pieces) <= 64 * KIB
        bob.publish("room", "live again")
        assert alice.texts("room") == ["live again"]

    def test_one_piece_at_a_time_however_slow_the_engine_is(self) -> None:
        """S49: whatever the number of logs."""
        bench = Bench(nodes=1)
        bob = bench.login("bob", "a", "b", "c").keep()
        alice = bench.login("alice", "a", "b", "c")
        alice.lose()
        for channel in ("a", "b", "c"):
            fill(bob, 100 * KIB, channel=channel)
        bench.held.add(0)
        back = bench.open()
        back.login("alice", resume=alice, want=[alice.cursor(channel) for channel in ("a", "b", "c")])
        for _ in range(30):
            reads = [call for call in bench.calls[0] if isinstance(call.operation, ReadLog)]
            assert len(reads) <= 1
            if bench.calls[0]:
                bench.answer()
                bench.settle()
        bench.release()
        assert all(len(offsets(back, channel)) >= 7 for channel in ("a", "b", "c"))

    def test_a_gap_for_a_reader_that_was_away_too_long(self) -> None:
        """S33, F-39: first what is lost, then what remains, then live entries."""
        bench = Bench(max_log_bytes=200 * KIB)
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        alice.lose()
        fill(bob, 500 * KIB)
        back = bench.login("alice", resume=alice, want=[alice.cursor("room")])
        (gap,) = back.gaps("room")
        first = offsets(back)[0]
        assert gap == Gap("room", gap.epoch, first - 1, first - 3)
        bob.publish("room", "live")
        assert offsets(back) == list(range(first, offsets(bob)[-1] + 1))
        types = [type(message) for message in back.messages if isinstance(message, (Gap, Entries))]
        assert types[0] is Gap

    def test_a_quiet_reader_gets_nothing_twice(self) -> None:
        """S33, F-31: resumed again and again without traffic."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        cursor = alice.cursor("room")
        for _ in range(5):
            back = bench.login("alice", resume=alice, want=[cursor])
            assert back.entries("room") == []
            alice = back
        bob.publish("room", "x")
        assert offsets(alice) == [3]

    @pytest.mark.parametrize("epoch", ["same", "other"])
    def test_a_cursor_that_cannot_be(self, epoch: str) -> None:
        """S48, F-33, F-35: a gap of unknown size; then from the first kept entry, or from the end."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        bob.publish("room", "kept")
        quoted = (alice.cursor("room")[1], 2**40) if epoch == "same" else (b"another1", 2)
        back = bench.login("alice", resume=alice, want=[("room", *quoted)])
        (gap,) = back.gaps("room")
        assert gap.count is None
        assert gap.cursor == (3 if epoch == "same" else 0)
        assert offsets(back) == ([] if epoch == "same" else [1, 2, 3])
        bob.publish("room", "live")
        assert back.texts("room")[-1] == "live"


class TestHoldAndGoOn:
    """S48, S52."""

    def test_a_held_log_is_not_sent_and_costs_no_position(self) -> None:
        """S52: other logs, replies and heartbeats go on; it keeps no transport behind."""
        bench = Bench()
        bob = bench.login("bob", "a", "b")
        alice = bench.login("alice", "a", "b")
        alice.send(Hold("a"))
        for channel in ("a", "b"):
            bob.publish(channel, channel)
        assert (alice.texts("a"), alice.texts("b")) == ([], ["b"])
        (session,) = (one for one in bench.hub._sessions._by_id.values() if one.uid == "alice")
        assert not session.positions
        alice.send(GoOn(*alice.cursor("a")))
        assert alice.texts("a") == ["a"]
        answer = alice.messages.index(Going("a"))
        assert [type(message) for message in alice.messages[answer + 1 :]] == [Entries]
        bob.publish("a", "live")
        assert alice.texts("a") == ["a", "live"]

    def test_a_go_on_of_a_live_log_starts_at_its_cursor(self) -> None:
        """S48: no hole behind the answer."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        for number in range(5):
            bob.publish("room", str(number))
        epoch = alice.cursor("room")[1]
        alice.send(GoOn("room", epoch, 3))
        answer = alice.messages.index(Going("room"))
        blocks = [message for message in alice.messages[answer:] if isinstance(message, Entries)]
        assert blocks[0].first_offset == 4
        bob.publish("room", "live")
        assert alice.texts("room")[-1] == "live"

    def test_a_hold_takes_back_what_is_behind(self) -> None:
        """S52: nothing is read for it any more."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room").keep()
        alice.reading = False
        fill(bob, 500 * KIB)
        alice.send(Hold("room"))
        got = len(offsets(alice))
        alice.drain()
        assert len(offsets(alice)) == got
        alice.reading = True
        _, epoch, cursor = alice.cursor("room")
        alice.send(GoOn("room", epoch, cursor))
        assert offsets(alice) == list(range(2, offsets(bob)[-1] + 1))

    def test_a_hold_ends_with_its_transport(self) -> None:
        """S52."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        alice.send(Hold("room"))
        bob.publish("room", "x")
        back = bench.login("alice", resume=alice, want=[alice.cursor("room")])
        assert back.texts("room") == ["x"]

    def test_logs_that_the_session_has_no_part_in(self) -> None:
        """S48: without effect. One's own inbox is one that every session has a part in."""
        bench = Bench()
        alice = bench.login("alice")
        alice.send(Hold("room"), GoOn("room", b"e", 1), Hold(""), GoOn("", b"", -1))
        assert alice.gone is None
        assert alice.of(Going) == [Going("")]

    def test_who_asks_for_the_same_again_and_again_pays(self) -> None:
        """S51: 20 bytes that bring megabytes; by a live reader, and by one that is behind; whatever it says of the
        epoch."""
        for reading, other in ((True, False), (True, True), (False, False)):
            bench = Bench(requests_per_second=100, request_burst=200)
            bob = bench.login("bob", "room").keep()
            alice = bench.login("alice", "room")
            fill(bob, 4_000_000)
            (_, epoch, _) = alice.cursor("room")
            alice.reading = reading
            count = 0
            while alice.close_code is None and count < 2000:
                alice.send(GoOn("room", b"other" if other else epoch, 1))
                if not reading:
                    alice.drain()
                count += 1
            assert alice.close_code == Code.FLOODING
            assert count < (10 if reading else 200)  # one that is behind gets a piece at a time
            assert bob.close_code is None

    def test_the_same_by_joining_again(self) -> None:
        """S51, S46: the outcome of an old join has an old offset."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        fill(bob, 4_000_000)
        count = 0
        while alice.close_code is None and count < 2000:
            alice.send(Join(1, "room"))
            count += 1
        assert alice.close_code == Code.FLOODING
        assert len(alice.of(Joined)) < 10  # the others were refused, and read nothing

    def test_a_reader_that_holds_and_goes_on_is_never_a_flood(self) -> None:
        """S52, S49: however much it reads; what it passed over at each hold is little."""
        bench = Bench(requests_per_second=100, request_burst=100, max_log_bytes=64 * 1024 * 1024)
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        (_, epoch, cursor) = alice.cursor("room")
        for _ in range(40):
            alice.send(Hold("room"))
            fill(bob, 1_000_000)
            alice.send(GoOn("room", epoch, alice.cursor("room")[2] - 3))
            bench.advance(1.0)
        link = alice.hub._transports.get(alice.id)
        assert link is not None
        assert link.session is not None
        assert link.session.rate.error_since is None
        assert alice.cursor("room")[2] > cursor + 40 * 60

    def test_an_epoch_without_end(self) -> None:
        """S50: it would be kept with the position."""
        bench = Bench()
        alice = bench.login("alice", "room")
        alice.send(GoOn("room", b"e" * 64, 1))
        assert alice.close_code is None
        alice.send(GoOn("room", b"e" * 65, 1))
        assert alice.close_code == 1002

    def test_a_piece_on_its_way_at_a_hold_is_void(self) -> None:
        """S48, S52: with an engine that takes time; the answer of the go-on stands before what was asked for."""
        bench = Bench(nodes=1)
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        epoch = alice.cursor("room")[1]
        for number in range(3):
            bob.publish("room", str(number))
        bench.held.add(0)
        before = len(alice.messages)
        alice.send(GoOn("room", epoch, 2))
        alice.send(Hold("room"))
        alice.send(GoOn("room", epoch, 3))
        bench.release()
        assert [type(message) for message in alice.messages[before:]] == [Going, Going, Entries]
        assert alice.messages[-1].first_offset == 4

    def test_a_go_on_before_the_subscription_is_confirmed(self) -> None:
        """S48: it is answered all the same."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        _, epoch, cursor = alice.cursor("room")
        alice.lose()
        bench.held.add(0)
        back = bench.open()
        back.login("alice", resume=alice, want=[("room", epoch, cursor)])
        for _ in range(2):  # detach and attach
            bench.answer()
            bench.settle()
        back.send(GoOn("room", epoch, 0), GoOn("room", epoch, 0))
        back_again = bench.open()
        back_again.send()
        bench.release()
        assert back.of(Going) == [Going("room"), Going("room")]
        assert offsets(back)[-1] == 1

    def test_a_go_on_of_a_transport_that_is_gone(self) -> None:
        """F-36."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        _, epoch, cursor = alice.cursor("room")
        alice.lose()
        bench.held.add(0)
        back = bench.open()
        back.login("alice", resume=alice, want=[("room", epoch, cursor)])
        for _ in range(2):
            bench.answer()
            bench.settle()
        back.send(GoOn("room", epoch, 0))
        back.lose()
        bench.release()
        assert channels_of(bench.hub) == set()


class TestBlocks:
    """E5: blocks in the order of their offsets, whichever way they come."""

    def test_a_stale_frame_never_follows_a_later_join(self) -> None:
        """S42, S48: what was given of a log goes out before the answer to a leave."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        bench.hub.receive_data(bob.id, bob.wire.frame(encode_batch([PublishText(50, "room", "x")])), now=bench.now)
        bench.hub._requests.flush()
        bench.hub._channels.flush()
        alice.send(Leave(51, "room"), Join(52, "room"))
        kinds = [type(message).__name__ for message in alice.messages[-4:]]
        assert kinds == ["Entries", "Done", "Joined", "Entries"]
        assert alice.texts("room") == ["x"]

    def test_the_last_reader_leaves_in_the_pass_of_a_message(self) -> None:
        """Nobody is there to be given it."""
        bench = Bench()
        alice = bench.login("alice", "room")
        frame = alice.wire.frame(encode_batch([PublishText(50, "room", "x")]))
        bench.hub.receive_data(alice.id, frame, now=bench.now)
        bench.hub._requests.flush()
        assert bench.hub._channels.flush_wanted
        alice.lose()
        assert channels_of(bench.hub) == set()
        assert bench.login("alice", resume=alice, want=[alice.cursor("room")]).texts("room") == ["x"]

    def test_a_reading_bound_to_be_too_late(self) -> None:
        """F-36: the transport of a piece is gone, or its session was given another one."""
        bench = Bench(nodes=1)
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        epoch = alice.cursor("room")[1]
        bob.publish("room", "x")
        bench.held.add(0)
        alice.send(GoOn("room", epoch, 1))
        assert any(isinstance(call.operation, ReadLog) for call in bench.calls[0])
        alice.lose()
        bench.release()
        back = bench.login("alice", resume=alice, want=[("room", epoch, 1)])
        assert back.texts("room") == ["x"]
