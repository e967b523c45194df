"""Statements at the hub (S23, S25, S42, S44, S59)."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from core.fake_client import Bench, channels_of
from rtm_sansio.codes import Code
from rtm_sansio.events import LeaveCause
from rtm_sansio.messages import (
    Entries,
    Failed,
    Join,
    Joined,
    JoinedEntry,
    LeftEntry,
    Login,
    Logout,
    Progress,
    Restored,
    Want,
    WantedChannel,
    Welcome,
    encode_batch,
)


@pytest.fixture(params=[0, 1], ids=["embedded engine", "engine outside"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(nodes=request.param)


class TestResumed:
    """S59 in a session that goes on."""

    def test_back_within_the_grace_time(self, bench: Bench) -> None:
        """S23: nobody sees it, and what was sent meanwhile arrives once, in order."""
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        alice.lose()
        for number in range(5):
            bob.publish("room", str(number))
            bench.advance(5.0)
        back = bench.login("alice", resume=alice, want=[alice.cursor("room")])
        assert back.welcome.resumed
        assert back.restored == [type(back.restored[0])("room")]
        bob.publish("room", "live")
        assert back.texts("room") == ["0", "1", "2", "3", "4", "live"]
        assert bob.members("room") == [JoinedEntry("alice")]
        assert [type(message) for message in back.messages[:3]] == [Welcome, Restored, Entries]

    def test_channels_that_are_not_named_are_left(self, bench: Bench) -> None:
        """S59, S44: which answers an unanswered leave; one whose join is unanswered counts as named."""
        bob = bench.login("bob", "a", "b", "c")
        alice = bench.login("alice", "a", "b", "c")
        back = bench.login("alice", resume=alice, want=[alice.cursor("b"), ("c",)])
        assert {result.channel for result in back.restored} == {"b", "c"}
        assert bob.members("a") == [JoinedEntry("alice"), LeftEntry("alice", LeaveCause.LEFT)]
        for channel in ("b", "c"):
            assert bob.members(channel) == [JoinedEntry("alice")]
        bob.publish("a", "x")
        assert back.texts("a") == []
        assert isinstance(back.join("a"), Joined)

    def test_stated_again_it_has_the_same_effect(self, bench: Bench) -> None:
        """S59: after a new loss, also in the middle of the first."""
        bob = bench.login("bob", "a", "b")
        alice = bench.login("alice", "a", "b")
        bob.publish("b", "x")
        want = [("b", alice.cursor("b")[1], 2)]
        for _ in range(3):
            back = bench.open()
            back.login("alice", resume=alice, want=want)
            assert back.texts("b") == ["x"]
            back.lose()
            alice = back
        assert bob.members("a") == [JoinedEntry("alice"), LeftEntry("alice", LeaveCause.LEFT)]
        assert bob.members("b") == [JoinedEntry("alice")]

    def test_a_channel_that_the_session_lacks_is_joined(self, bench: Bench) -> None:
        """S59, S25: whatever happened to it."""
        bob = bench.login("bob", "room")
        alice = bench.login("alice")
        back = bench.login("alice", resume=alice, want=[("room", b"12345678", 7)])
        assert bob.members("room") == [JoinedEntry("alice")]
        assert back.gaps("room")[0].count is None


class TestNewSession:
    """S25, S59 in a session that takes the place of one that is gone."""

    def test_back_after_the_grace_time(self, bench: Bench) -> None:
        """S25: one MemberJoined; what the log still has since the cursor is delivered."""
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        alice.lose()
        bob.publish("room", "early")
        bench.advance(31.0)
        bob.publish("room", "late")
        back = bench.login("alice", resume=alice, want=[alice.cursor("room")])
        assert not back.welcome.resumed
        assert bob.members("room") == [
            JoinedEntry("alice"),
            LeftEntry("alice", LeaveCause.TIMED_OUT),
            JoinedEntry("alice"),
        ]
        bob.publish("room", "live")
        assert back.texts("room") == ["early", "late", "live"]
        assert back.gaps("room") == []

    def test_after_a_restart_of_the_server(self) -> None:
        """S25, S33, F-26: a gap of unknown size for every channel, then what there is."""
        bench = Bench()
        alice = bench.login("alice", "room")
        cursor = alice.cursor("room")
        bench.advance(1.0)
        bench.restart()
        bob = bench.login("bob", "room")
        bob.publish("room", "new")
        back = bench.login("alice", resume=alice, want=[cursor])
        (gap,) = back.gaps("room")
        assert (gap.cursor, gap.count) == (0, None)
        assert back.texts("room") == ["new"]

    def test_channels_that_cannot_be_had_are_told_each(self, bench: Bench) -> None:
        """S44, S59, S45: the connection goes on, also if the server's limits have become smaller."""
        alice = bench.login("alice")
        alice.lose()
        bench.advance(31.0)
        want = [(f"room{number}", b"12345678", 0) for number in range(25)] + [("", b"", 0), ("x" * 65,)]
        back = bench.login("alice", resume=alice, want=want)
        codes = {result.channel: result.code for result in back.restored}
        assert len(codes) == 27
        assert [codes[f"room{number}"] for number in range(25)] == [0] * 20 + [Code.TOO_MANY_CHANNELS] * 5
        assert codes[""] == codes["x" * 65] == Code.INVALID_CHANNEL
        assert back.gone is None
        assert isinstance(back.join("one more"), Failed)

    def test_a_login_states_nothing(self, bench: Bench) -> None:
        """S59: one answer, and an empty one."""
        alice = bench.login("alice")
        assert alice.of(Restored) == [Restored(())]


class TestForm:
    """S59: when it is read, and how it is answered."""

    def test_it_may_come_before_or_behind_the_welcome(self, bench: Bench) -> None:
        """S59."""
        alice = bench.open()
        alice.login("alice", want=None)
        assert alice.welcome
        alice.send(Want((WantedChannel("room"),)))
        assert [result.channel for result in alice.restored] == ["room"]

    def test_it_is_read_once_the_login_is_accepted(self) -> None:
        """S59: a refused login has no wishes."""
        bench = Bench()
        bob = bench.login("bob", "room")
        bench.auto_login = ...
        alice = bench.login("alice", want=[("room", b"12345678", 0)])
        assert bob.members("room") == []
        bench.hub.accept_login(alice.id, now=bench.now)
        bench.settle()
        assert bob.members("room") == [JoinedEntry("alice")]

    def test_the_answer_takes_as_many_messages_as_it_needs(self) -> None:
        """S59, S45: more of them follow."""
        bench = Bench()
        alice = bench.open()
        alice.login("alice", want=None)
        alice.send(Want(tuple(WantedChannel(f"{number:064}") for number in range(1024))))
        pieces = alice.of(Restored)
        assert [piece.more for piece in pieces] == [True] * (len(pieces) - 1) + [False]
        assert len(alice.restored) == 1024
        assert len(pieces) > 1

    @pytest.mark.parametrize(
        ("want", "max_channels", "closed"),
        [
            (tuple(WantedChannel(f"{number}") for number in range(1024)), 20, False),
            (tuple(WantedChannel(f"{number}") for number in range(1025)), 20, True),
            (tuple(WantedChannel(f"{number}") for number in range(1200)), 300, False),
            (tuple(WantedChannel(f"{number}") for number in range(1201)), 300, True),
            ((WantedChannel("room", b"e" * 64, 1),), 20, False),
            ((WantedChannel("room", b"e" * 65, 1),), 20, True),
        ],
    )
    def test_a_statement_without_measure(self, want: Any, max_channels: int, closed: bool) -> None:
        """S50: four times what may be joined, or 1,024 channels, and epochs of 64 bytes."""
        bench = Bench(max_channels=max_channels)
        alice = bench.open()
        alice.login("alice", want=None)
        alice.send(Want(want))
        assert (alice.close_code == 1002) is closed
        assert bool(alice.of(Restored)) is not closed
        assert bench.login("alice", resume=alice).welcome.resumed

    @pytest.mark.parametrize("beating", [True, False])
    def test_without_a_statement_for_ten_seconds(self, beating: bool) -> None:
        """S51, S59: dropped, and told so; the session goes on as interrupted since it was heard last."""
        bench = Bench()
        alice = bench.open()
        bench.advance(5.0)
        alice.login("alice", want=None)
        if beating:
            alice.keep()
        alice.send(Join(1, "room"))
        bench.advance(9.99)
        assert alice.close_code is None
        bench.lively.clear()
        bench.advance(0.02)
        assert alice.close_code == Code.LOGIN_DEADLINE
        bench.advance(3.0)
        assert alice.gone is not None
        bench.advance(17.5 if beating else 15.0)
        assert bench.login("alice", resume=alice).welcome.resumed is True
        bob = bench.login("bob", want=()).keep()
        bench.advance(30.0)
        assert bob.close_code is None

    def test_no_statement_and_no_room_for_the_answer(self) -> None:
        """S51: the transport goes at once, and its session is interrupted once."""
        bench = Bench(slow_reader_bytes=100_000, max_outbound_bytes=131_072)
        alice = bench.open()
        alice.login("alice", want=None)
        alice.hub.unsent(alice.id, 131_072, now=bench.now)
        alice.hub.receive_data(alice.id, alice.wire.frame(b"\x90"), now=bench.now)
        bench.hub._context.now = bench.now = bench.now + 9.9
        alice.hub.unsent(alice.id, 131_071, now=bench.now)
        bench.now += 0.1
        bench.hub.handle_timeout(now=bench.now)
        bench.settle()
        assert alice.gone == "abort"
        assert bench.login("alice", resume=alice).welcome.resumed

    @pytest.mark.parametrize("again", [(), (WantedChannel("a"), WantedChannel("a"))])
    def test_twice_is_a_protocol_error(self, again: tuple[Any, ...]) -> None:
        """S50: a second statement, or a channel named twice."""
        bench = Bench()
        alice = bench.open()
        alice.login("alice", want=None if again else ())
        alice.send(Want(again))
        assert alice.close_code == 1002
        assert bench.login("alice", resume=alice).welcome.resumed

    @pytest.mark.parametrize(
        "more",
        [
            [Want(())],
            [Join(1, "room")],
            [Progress(1, 1)],
            [Logout(1), Logout(2)],
            [Logout(1), Want(())],
            [Login("alice", "", b"i" * 16, b"l" * 16, 1)],
        ],
    )
    def test_before_the_verdict_a_statement_and_a_logout_are_kept(self, more: list[Any]) -> None:
        """S50, S59: each once and in this order; the rest is a protocol error."""
        bench = Bench()
        bench.auto_login = ...
        alice = bench.open()
        alice.send(Login("alice", "", b"i" * 16, b"l" * 16, 0), Want(()))
        assert alice.close_code is None
        for message in more:
            alice.send(message)
        assert alice.close_code == 1002

    def test_what_waits_for_the_verdict_takes_no_more_room_than_it_did_on_the_wire(self) -> None:
        """S50: thousands of empty names fit into 16 KiB; before the login is accepted, nobody pays for them."""
        bench = Bench()
        bench.auto_login = ...
        clients = [bench.open() for _ in range(50)]
        want = Want((WantedChannel(""),) * 7000)
        login = Login("m", "", b"i" * 16, b"l" * 16, 0)
        frames = [
            client.wire.frame(encode_batch([login])) + client.wire.frame(encode_batch([want])) for client in clients
        ]
        tracemalloc.start()
        for client, frame in zip(clients, frames, strict=True):
            client.raw(frame)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 50 * 20_000
        for client in clients:
            client.lose()
        assert not bench.hub._transports._links

    def test_a_statement_that_waited_is_carried_out(self) -> None:
        """S59: as it was said."""
        bench = Bench()
        bench.auto_login = ...
        alice = bench.open()
        alice.send(Login("alice", "", b"i" * 16, b"l" * 16, 0), Want((WantedChannel("room", b"12345678", 5),)))
        bench.hub.accept_login(alice.id, now=bench.now)
        bench.settle()
        assert [result.channel for result in alice.restored] == ["room"]
        bench.auto_login = None
        assert bench.login("bob").join("room").member_count == 2

    def test_the_transport_goes_while_it_is_carried_out(self) -> None:
        """S59, F-36: at every step of an engine that takes time; stated again it has the same effect."""
        for steps in range(12):
            bench = Bench(nodes=1)
            bob = bench.login("bob", "a", "b").keep()
            alice = bench.login("alice", "a")
            alice.lose()
            bench.advance(31.0)
            bench.held.add(0)
            back = bench.open()
            want = [alice.cursor("a"), ("b", b"12345678", 0)]
            back.login("alice", resume=alice, want=want)
            for _ in range(steps):
                if bench.calls[0]:
                    bench.answer()
                    bench.settle()
            back.lose()
            bench.release()
            quoted = back if back.of(Welcome) else alice
            if quoted is alice:
                quoted.attempt += 1
            last = bench.login("alice", resume=quoted, want=want)
            bob.publish("a", "x")
            bob.publish("b", "y")
            assert last.texts("a") == ["x"]
            assert last.texts("b") == ["y"]
            assert bob.members("a")[-1] == JoinedEntry("alice")
            assert bob.members("b") == [JoinedEntry("alice")]
            last.lose()
            bench.advance(31.0)
            assert bob.members("a")[-1] == bob.members("b")[-1] == LeftEntry("alice", LeaveCause.TIMED_OUT)
            assert channels_of(bench.hub) == {"a", "b"}

    def test_a_join_whose_transport_goes_at_every_step(self) -> None:
        """S46, E2: asked for again it is done once, and nobody stays behind as a member."""
        for steps in range(8):
            bench = Bench(nodes=1)
            bob = bench.login("bob", "room").keep()
            alice = bench.login("alice")
            bench.held.add(0)
            alice.send(Join(1, "room"))
            for _ in range(steps):
                if bench.calls[0]:
                    bench.answer()
                    bench.settle()
            alice.lose()
            bench.release()
            back = bench.login("alice", resume=alice, want=[("room",)])
            back.send(Join(1, "room"))
            assert isinstance(back.answer(1), Joined)
            assert bob.members("room") == [JoinedEntry("alice")]
            bob.publish("room", "x")
            assert back.texts("room") == ["x"]
            back.lose()
            bench.advance(31.0)
            assert bob.members("room") == [JoinedEntry("alice"), LeftEntry("alice", LeaveCause.TIMED_OUT)]
