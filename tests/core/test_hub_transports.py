"""Transports of the hub: silence, deadlines, stalls, bounds, ends (S14, S22-S24, S26, S51)."""

from __future__ import annotations

import gc
import random
import tracemalloc
from typing import Any

import pytest

from core.fake_client import Bench, FakeClient
from rtm_sansio.codes import Code
from rtm_sansio.config import ServerConfig
from rtm_sansio.errors import TransportFailure
from rtm_sansio.events import LeaveCause
from rtm_sansio.hub import Hub
from rtm_sansio.messages import (
    HEARTBEAT,
    Failed,
    Join,
    JoinedEntry,
    Kicked,
    Leave,
    LeftEntry,
    Login,
    Logout,
    Progress,
    PublishBytes,
    PublishText,
    Want,
    encode_batch,
)


def everybody_else_is_well(bench: Bench, witness: FakeClient) -> None:
    """S51: none of it disturbs another client."""
    witness.heartbeat()
    assert witness.gone is None
    assert witness.close_code is None
    text = f"still here at {bench.now}"
    assert witness.publish("room", text)
    assert witness.texts("room")[-1] == text


class TestSilence:
    """S14, S22, S24."""

    @pytest.mark.parametrize(("seconds", "dropped"), [(9.999, False), (10.0, True), (10.001, True)])
    def test_ten_seconds_of_silence_drop_the_transport(self, seconds: float, dropped: bool) -> None:
        """S14: and keep the session; members see nothing (S22)."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        bench.advance(5.0)
        alice.heartbeat()
        assert alice.heartbeats == 1
        bench.advance(seconds)
        assert (alice.gone == "abort") is dropped
        assert bob.members("room") == [JoinedEntry("alice")]
        everybody_else_is_well(bench, bob)

    def test_any_byte_counts(self) -> None:
        """S14: also one that completes nothing."""
        bench = Bench()
        alice = bench.login("alice")
        frame = alice.wire.frame(b"\x90")
        for position in range(len(frame)):
            bench.advance(9.9)
            alice.raw(frame[position : position + 1])
        assert alice.gone is None
        assert alice.heartbeats == 1

    @pytest.mark.parametrize(("seconds", "resumed"), [(29.999, True), (30.0, False), (30.001, False)])
    @pytest.mark.parametrize("loud", [True, False])
    def test_thirty_seconds_from_the_interruption(self, seconds: float, resumed: bool, loud: bool) -> None:
        """S22-S24: counted from the end of the stream, or from the last byte that came."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        if loud:
            alice.lose()
        bench.advance(seconds)
        back = bench.login("alice", resume=alice, want=[alice.cursor("room")])
        assert back.welcome.resumed is resumed
        returned = [] if resumed else [LeftEntry("alice", LeaveCause.TIMED_OUT), JoinedEntry("alice")]
        assert bob.members("room") == [JoinedEntry("alice"), *returned]

    def test_a_late_tick_never_lets_an_ended_session_be_resumed(self) -> None:
        """S24: the decision is made where it is asked for."""
        bench = Bench()
        alice = bench.login("alice", "room")
        alice.lose()
        bench.now += 30.0  # no tick
        back = bench.login("alice", resume=alice)
        assert not back.welcome.resumed
        bench.tick()
        assert back.join("room").member_count == 1

    def test_the_end_of_a_session_is_told_once_to_each_channel(self) -> None:
        """S24: every remaining member of its channels gets one MemberLeft."""
        bench = Bench()
        bob = bench.login("bob", "a", "b").keep()
        alice = bench.login("alice", "a", "b", "c")
        alice.lose()
        bench.advance(100.0)
        for channel in ("a", "b"):
            assert bob.members(channel) == [JoinedEntry("alice"), LeftEntry("alice", LeaveCause.TIMED_OUT)]

    def test_a_resume_replaces_the_old_transport_silently(self) -> None:
        """S26, F-37: no MemberLeft, no kick; the late end of the old one changes nothing."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        back = bench.login("alice", resume=alice, want=[alice.cursor("room")])
        assert not alice.of(Kicked)
        assert alice.close_code == Code.TRANSPORT_REPLACED
        alice.lose()
        bench.hub.transport_lost(alice.id, TransportFailure("reset"), now=bench.now)  # and once more
        back.keep()
        bench.advance(100.0)
        assert back.gone is None
        assert bob.members("room") == [JoinedEntry("alice")]
        bob.publish("room", "hello")
        assert back.texts("room") == ["hello"]

    def test_what_the_old_transport_brings_late_is_ignored(self) -> None:
        """F-36: its link is closing."""
        bench = Bench()
        alice = bench.login("alice", "room")
        frame = alice.wire.frame(b"\x91\x93\x10\x01\xa1x")
        back = bench.login("alice", resume=alice)
        alice.raw(frame)
        alice.raw(b"\x82\x80\x00\x00\x00\x00")
        assert back.gone is None


class TestTime:
    """F-21, F-24, promises 5 and 7 of the design."""

    def test_early_and_repeated_ticks_do_nothing(self) -> None:
        """Promise 5."""
        bench = Bench()
        alice = bench.login("alice")
        for _ in range(100):
            bench.now += 0.05
            bench.hub.handle_timeout(now=bench.now)
            bench.hub.handle_timeout(now=bench.now)
        assert bench.hub.take_outputs() == []
        assert alice.gone is None

    @pytest.mark.parametrize("nodes", [0, 1])
    @pytest.mark.parametrize("back", [0.5, 500.0, 1e9])
    def test_time_that_goes_back_is_clamped(self, back: float, nodes: int) -> None:
        """Promise 7: it counts as no time passed. What happens meanwhile happens at the latest time that was told: no
        deadline that begins then is early or late, and time that goes on works."""
        bench = Bench(nodes=nodes, lease_seconds=30.0)  # an outside engine's lease is no matter of this
        alice, bob, carol = bench.login("alice"), bench.login("bob"), bench.login("carol")
        bench.advance(5.0)
        latest = bench.now
        bench.now -= back
        ghost = bench.open()
        alice.heartbeat()
        bob.lose()
        carol.lose()
        for _ in range(3):
            bench.tick()
        bench.now = latest + 9.999
        bench.tick()
        assert (alice.gone, ghost.gone, ghost.messages) == (None, None, [])
        bench.now = latest + 10.0
        bench.tick()
        assert alice.gone == "abort"
        assert ghost.refusal.code == Code.LOGIN_DEADLINE
        bench.now = latest + 29.999
        assert bench.login("bob", resume=bob).welcome.resumed
        bench.now = latest + 30.0
        assert not bench.login("carol", resume=carol).welcome.resumed

    def test_the_wall_clock_while_time_goes_back(self) -> None:
        """Promise 7, S28: a reading of the wall clock belongs to the latest time that was told."""
        bench = Bench()
        bench.advance(50.0)
        bench.hub.set_wall_clock(5e8, now=bench.now - 40.0)
        bench.auto_login = 5e8 + 20.0
        assert bench.login("alice").welcome.expires_in == pytest.approx(20.0)

    def test_a_hub_that_stood_still_reads_before_it_ticks(self) -> None:
        """Promise 7, S13, S14, S22, F-24: stopped for 40 s and continued. Whoever's bytes or end waited to be read has
        not expired, whatever the deadlines were; whoever said nothing has. One with an engine outside has lost its
        lease: that is another matter (E7)."""
        bench = Bench()
        beating, partial = bench.login("beating", "room"), bench.login("partial", "room")
        ended, silent = bench.login("ended", "room"), bench.login("silent", "room")
        slow, newcomer = bench.login("slow"), bench.open()
        slow.reading = False
        slow.send(Join(99, "other"))
        bench.now += 40.0
        beating.heartbeat()
        partial.raw(partial.wire.frame(b"\x90")[:1])
        slow.heartbeat()
        slow.drain(1)
        newcomer.login("newcomer")
        ended.lose()
        deadline = bench.hub.next_deadline()
        assert deadline is not None
        assert deadline <= bench.now - 30.0
        bench.tick()
        assert [client.gone for client in (beating, partial, slow, newcomer)] == [None] * 4
        assert silent.gone == "abort"
        assert (beating.heartbeats, newcomer.welcome.resumed) == (1, False)
        joined = [JoinedEntry(client.uid) for client in (partial, ended, silent)]
        bench.tick()  # an engine outside has heard of it only now
        assert beating.members("room") == [*joined, LeftEntry("silent", LeaveCause.TIMED_OUT)]
        for client in (beating, partial, newcomer):
            client.keep()
        bench.advance(29.999)
        assert bench.login("ended", resume=ended, want=[ended.cursor("room")]).welcome.resumed
        assert len(beating.members("room")) == 4

    def test_no_timer_depends_on_the_wall_clock(self) -> None:
        """F-21: shifted by an hour either way, mid-run."""
        bench = Bench()
        alice = bench.login("alice")
        alice.lose()
        for shift in (3600.0, -7200.0, 1e7):
            bench.wall_offset += shift
            bench.hub.set_wall_clock(bench.wall, now=bench.now)
            bench.advance(9.99)
        assert bench.login("alice", resume=alice).welcome.resumed

    def test_login_epochs_rise_although_the_wall_clock_goes_back(self) -> None:
        """S31, F-21: a later login is later."""
        bench = Bench()
        first = bench.login("alice")
        bench.wall_offset -= 1e6
        bench.hub.set_wall_clock(bench.wall, now=bench.now)
        second = bench.login("alice")
        assert second.welcome.login_epoch > first.welcome.login_epoch

    def test_one_late_tick_does_all_that_is_due(self) -> None:
        """F-24: processed as one."""
        bench = Bench()
        clients = [bench.login(f"user{number}", "room") for number in range(20)]
        bench.now += 1000.0
        bench.tick()
        bench.advance(3.0)
        assert all(client.gone == "abort" for client in clients)
        fresh = bench.login("fresh")
        assert fresh.join("room").member_count == 1

    def test_an_idle_hub_has_no_deadline(self) -> None:
        """Promise 5: None is never."""
        bench = Bench()
        assert bench.hub.next_deadline() is None
        bench.login("alice").lose()
        bench.advance(1000.0)
        assert bench.hub.next_deadline() is None


class TestLoginDeadline:
    """S51, F-65: handshake and login in 10 s."""

    @pytest.mark.parametrize("handshake", [True, False])
    def test_a_transport_that_says_nothing(self, handshake: bool) -> None:
        """S51: it is told if the handshake is done."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        ghost = bench.open(handshake=handshake)
        bench.advance(9.999)
        assert ghost.gone is None
        bench.advance(0.001)
        if handshake:
            assert ghost.refusal.code == Code.LOGIN_DEADLINE
            assert ghost.close_code == Code.LOGIN_DEADLINE
            bench.advance(2.0)  # what it is given to answer the close frame
        assert ghost.gone == "abort"
        everybody_else_is_well(bench, bob)

    def test_slow_bytes_do_not_move_it(self) -> None:
        """F-65: it is absolute."""
        bench = Bench()
        ghost = bench.open(handshake=False)
        for _ in range(20):
            ghost.raw(b"G" if not ghost.received else b"")
            bench.advance(0.5)
        assert ghost.gone is not None

    def test_an_authenticator_that_never_answers(self) -> None:
        """S51: the deadline holds for it as well."""
        bench = Bench()
        bench.auto_login = ...
        alice = bench.login("alice")
        bench.advance(10.0)
        assert alice.refusal.code == Code.LOGIN_DEADLINE
        bench.hub.accept_login(alice.id, now=bench.now)
        bench.settle()
        assert len(alice.messages) == 1


class TestUnsent:
    """S14, S49, S51: what the socket does not take."""

    def test_no_byte_taken_for_ten_seconds(self) -> None:
        """S51: while bytes wait; the session goes on as interrupted, from when it was last heard."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        alice.reading = False
        bob.publish("room", "x")
        for _ in range(5):
            bench.advance(1.9)
            alice.heartbeat()
        assert alice.gone is None
        bench.advance(0.6)
        assert alice.gone == "abort"
        everybody_else_is_well(bench, bob)
        assert bench.login("alice", resume=alice).welcome.resumed

    def test_a_byte_taken_in_time(self) -> None:
        """S51: it starts again."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        alice.reading = False
        bob.publish("room", "x" * 1000)
        for _ in range(4):
            bench.advance(9.0)
            alice.heartbeat()
            alice.drain(1)
        assert alice.gone is None
        bench.advance(9.99)
        alice.drain(0)  # a report without progress
        alice.heartbeat()
        bench.advance(0.02)
        assert alice.gone == "abort"

    def test_reading_stops_at_256_kib_and_goes_on_under_64(self) -> None:
        """S51; silence does not count meanwhile (S14)."""
        bench = Bench()
        alice, bob = bench.login("alice"), bench.login("bob")
        bench.hub.unsent(bob.id, 256 * 1024, now=bench.now)
        bench.settle()
        assert not bob.paused
        bench.hub.unsent(bob.id, 256 * 1024 + 1, now=bench.now)
        bench.hub.unsent(alice.id, 300 * 1024, now=bench.now)
        bench.settle()
        assert bob.paused
        bench.hub.unsent(alice.id, 300 * 1024, now=bench.now)
        bench.settle()
        assert alice.paused
        for left in range(299, 64, -10):
            bench.advance(5.0)
            bench.hub.unsent(alice.id, left * 1024, now=bench.now)
            bench.settle()
            assert alice.paused
        assert alice.gone is None  # 120 s without a byte from it
        bench.hub.unsent(alice.id, 63 * 1024, now=bench.now)
        bench.settle()
        assert not alice.paused
        bench.hub.unsent(alice.id, 0, now=bench.now)
        bench.advance(9.9)
        assert alice.gone is None
        bench.advance(0.1)
        assert alice.gone == "abort"

    def test_a_stalled_transport_that_is_not_read_was_heard_until_then(self) -> None:
        """S14, S51: the 30 s do not begin before we stopped reading."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        bench.advance(4.0)
        bench.hub.unsent(alice.id, 300 * 1024, now=bench.now)
        bench.advance(10.0)
        assert alice.gone == "abort"
        bench.advance(25.9)
        assert bob.members("room") == [JoinedEntry("alice")]
        bench.advance(0.2)
        assert bob.members("room")[1:] == [LeftEntry("alice", LeaveCause.TIMED_OUT)]

    def test_replies_alone_pass_1_mib(self) -> None:
        """S51: the transport is dropped, its session goes on; heartbeat answers and the rest are not disturbed."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        bench.hub.unsent(alice.id, 1024 * 1024 - 40, now=bench.now)
        bench.settle()
        alice.send(Join(1000, "x" * 65))
        assert alice.gone == "abort"
        everybody_else_is_well(bench, bob)
        assert bench.login("alice", resume=alice).welcome.resumed

    def test_logs_alone_never_drop_a_transport(self) -> None:
        """S49, S51: however much comes in one pass."""
        bench = Bench()
        publishers = [bench.login(f"bob{number}", "room") for number in range(3)]
        alice = bench.login("alice", "room").keep()
        alice.reading = False
        for publisher in publishers:
            number = publisher.next_number()
            frame = b"".join(publisher.wire.frame(_publish(number + index, b"x" * 32_000)) for index in range(40))
            bench.hub.receive_data(publisher.id, frame, now=bench.now)
        bench.settle()
        alice.heartbeat()
        assert alice.gone is None
        assert alice.unsent < 600 * 1024

    @pytest.mark.parametrize("how", ["goodbye", "close", "leave"])
    def test_too_slow_at_any_moment(self, how: str) -> None:
        """S51, promise 1: also while it is being closed for another reason, or leaves a channel."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        bench.hub.receive_data(bob.id, bob.wire.frame(_publish(50, b"x")), now=bench.now)
        if how == "leave":
            bench.settle()
            bench.hub.unsent(alice.id, 100, now=bench.now)
            bench.hub.take_outputs()
            bench.hub.receive_data(bob.id, bob.wire.frame(_publish(51, b"x")), now=bench.now)
            bench.hub._requests.flush()
            bench.hub._channels.flush()
            bench.hub.unsent(alice.id, 2 * 1024 * 1024, now=bench.now)
            alice.raw(alice.wire.frame(HEARTBEAT) + alice.wire.frame(encode_batch([Leave(100, "room")])))
        else:
            bench.hub.unsent(alice.id, 2 * 1024 * 1024, now=bench.now)
            alice.hub.receive_data(alice.id, alice.wire.frame(HEARTBEAT), now=bench.now)
            if how == "close":
                bench.hub.close(now=bench.now)
            else:
                bench.hub.kick("alice", now=bench.now)
        bench.settle()
        assert alice.gone == "abort"


def _publish(number: int, data: bytes) -> bytes:
    return encode_batch([PublishBytes(number, "room", data)])


class TestEnds:
    """Promise 1: stale, unknown and repeated ids; and the bounds on what is kept."""

    def test_unknown_transport_ids(self) -> None:
        """Promise 1."""
        bench = Bench()
        hub = bench.hub
        for transport_id in (0, -1, 99):
            hub.receive_data(transport_id, b"x", now=1.0)
            hub.transport_lost(transport_id, None, now=1.0)
            hub.unsent(transport_id, 5, now=1.0)
            hub.accept_login(transport_id, now=1.0)
            hub.refuse_login(transport_id, 1, "", now=1.0)
            hub.accept_renewal(transport_id, 1, now=1.0)
            hub.refuse_renewal(transport_id, 1, 1, "", now=1.0)
        hub.engine_answered(7, None, now=1.0)
        assert hub.take_outputs() == []
        assert not hub.flush_wanted

    def test_a_goodbye_waits_for_the_peers_close_frame(self) -> None:
        """A socket closed too early can lose both: 2 s, or until it answers."""
        bench = Bench()
        alice = bench.login("alice")
        bob = bench.login("bob")
        for uid in ("alice", "bob"):
            bench.hub.kick(uid, now=bench.now)
        bench.settle()
        assert alice.gone is None
        alice.raw(alice.wire.data_to_send())
        assert alice.gone == "flush"
        bench.advance(1.999)
        assert bob.gone is None
        bench.advance(0.001)
        assert bob.gone == "abort"

    def test_a_close_frame_from_the_client(self) -> None:
        """S14: an orderly end is an interruption too, unless it was a logout."""
        bench = Bench()
        alice = bench.login("alice")
        alice.wire.close(1000, "bye")
        alice.raw(alice.wire.data_to_send())
        assert alice.gone == "flush"
        assert bench.login("alice", resume=alice).welcome.resumed

    def test_close_says_goodbye_to_everybody(self) -> None:
        """F-10: 1001; whatever comes later is ignored."""
        bench = Bench()
        alice = bench.login("alice", "room")
        opening = bench.open(handshake=False)
        kicked = bench.login("carol")
        bench.hub.kick("carol", now=bench.now)
        bench.settle()
        number = alice.next_number()
        bench.hub.receive_data(alice.id, alice.wire.frame(_publish(number, b"x")), now=bench.now)
        bench.hub.close(now=bench.now)
        bench.settle()
        assert (alice.close_code, alice.gone) == (1001, "flush")
        assert opening.gone == "flush"
        assert kicked.gone == "flush"
        hub = bench.hub
        late = hub.transport_accepted(now=bench.now)
        (refused,) = hub.take_outputs()
        assert (refused.transport_id, refused.how) == (late, "abort")
        hub.receive_data(late, b"GET / HTTP/1.1\r\n\r\n", now=bench.now)
        hub.kick("alice", now=bench.now)
        hub.ban("alice", 1.0, now=bench.now)
        hub.handle_timeout(now=bench.now + 1000.0)
        assert hub.next_deadline() is None
        hub.flush(now=bench.now)
        assert hub.take_outputs() == []

    def test_more_transports_than_allowed(self) -> None:
        """A bound on everything: the next one is closed at once."""
        bench = Bench(max_transports=2)
        first, _ = bench.open(), bench.open()
        third = bench.open(handshake=False)
        assert third.gone == "abort"
        first.lose()
        assert bench.open().gone is None

    def test_deadlines_of_transports_that_are_gone_are_not_kept(self) -> None:
        """S50: connecting over and over leaves nothing behind."""
        bench = Bench()
        for _ in range(5000):
            bench.open(handshake=False).lose()
        assert len(bench.hub._transports._deadlines) < 1100

    def test_a_logout_behind_other_messages_of_a_batch(self) -> None:
        """What follows it in the same batch is without effect."""
        bench = Bench()
        alice = bench.login("alice", "room")
        alice.send(Logout(5), PublishText(6, "room", "late"), Progress(1, 6), Leave(7, "room"))
        assert alice.close_code == 1000
        assert not alice.of(Failed)

    def test_outputs_keep_their_order_and_one_write_is_one_pass(self) -> None:
        """What a transport gets in a pass leaves in one Transmit: replies, heartbeat answers, then logs."""
        bench = Bench()
        alice = bench.login("alice", "room")
        before = len(alice.sizes)
        frames = alice.wire.frame(_publish(10, b"a")) + alice.wire.frame(b"\x90") + alice.wire.frame(_publish(11, b"b"))
        alice.raw(frames)
        assert len(alice.sizes) == before + 1
        assert [type(message).__name__ for message in alice.messages[-3:]] == ["Sent", "Sent", "Entries"]
        assert alice.heartbeats == 1

    def test_same_inputs_same_outputs(self) -> None:
        """Promise 8."""

        def run() -> list[Any]:
            bench = Bench(seed=5)
            bob = bench.login("bob", "room")
            alice = bench.login("alice", "room")
            bob.publish("room", "x")
            alice.lose()
            bench.advance(40.0)
            return [*bob.received, *alice.received]

        assert run() == run()

    def test_durations_scale(self) -> None:
        """S15: a hub with all durations at a tenth."""
        bench = Bench(ServerConfig().scaled(0.1))
        alice = bench.login("alice")
        bench.advance(0.999)
        assert alice.gone is None
        bench.advance(0.001)
        assert alice.gone == "abort"
        bench.advance(1.9)
        assert bench.login("alice", resume=alice).welcome.resumed

    def test_the_first_input_may_be_anything(self) -> None:
        """A fresh hub takes ticks and flushes before its clock was ever set."""
        hub = Hub(ServerConfig(), entropy=random.Random(1).randbytes, rng=random.Random(1))
        hub.handle_timeout(now=5.0)
        hub.flush(now=5.0)
        transport_id = hub.transport_accepted(now=5.0)
        hub.receive_data(transport_id, b"", now=5.0)
        assert hub.take_outputs() == []

    def test_login_twice_in_one_batch(self) -> None:
        """A message behind the login that belongs nowhere closes the transport once the login is judged."""
        bench = Bench()
        bench.auto_login = ...
        alice = bench.open()
        login = Login("alice", "", b"i" * 16, b"l" * 16, 0)
        alice.send(login, Want(()), login, PublishText(1, "room", "x"))
        bench.hub.accept_login(alice.id, now=bench.now)
        bench.settle()
        assert alice.close_code == 1002


def test_what_an_idle_session_costs() -> None:
    """P9: presence, membership and the engine's part included, below 12 KiB; and no position (S49)."""
    bench = Bench()
    bench.login("first", "room0")
    nobody = bench.open()  # keeps nothing of what it is sent
    nobody.take = lambda output: None  # type: ignore[method-assign]
    tracemalloc.start()
    for number in range(150):
        client = bench.login(f"user{number}", f"room{number % 10}")
        bench.clients[0][client.id] = nobody
    bench.events.clear()
    gc.collect()
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert current / 150 < 12 * 1024


def test_a_tick_with_nothing_due_does_not_depend_on_the_sessions() -> None:
    """P12: it looks at one deadline."""
    bench = Bench()
    for number in range(100):
        bench.login(f"user{number}", "room")
    looked_at = []
    deadline_of = bench.hub._transports._deadline_of
    bench.hub._transports._deadline_of = lambda link: looked_at.append(link) or deadline_of(link)  # type: ignore
    for _ in range(50):
        bench.now += 0.1
        bench.hub.handle_timeout(now=bench.now)
    assert looked_at == []
