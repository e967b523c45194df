"""What no other module of tests would see, if it were lost."""

from __future__ import annotations

import gc
import random
import tracemalloc
from typing import Any

import pytest

from core.fake_client import Bench
from rtm_sansio._frames import encode_masked_frame
from rtm_sansio.config import ChannelSettings, ServerConfig
from rtm_sansio.effects import CloseTransport
from rtm_sansio.engine import MemoryEngine
from rtm_sansio.events import LoginRequested
from rtm_sansio.hub import Hub
from rtm_sansio.messages import (
    HEARTBEAT,
    ChangeAttributes,
    Going,
    GoOn,
    Hold,
    Join,
    Login,
    MemberCount,
    ReadHistory,
    Want,
    WatchStatus,
    encode_batch,
)
from rtm_sansio.operations import (
    ONLINE,
    UNREACHABLE,
    ReadStatus,
    RenewLease,
    ReportSilence,
)
from rtm_sansio.operations import WatchStatus as WatchOperation

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: rtm.v1.msgpack\r\n\r\n"
)


@pytest.mark.parametrize(("there", "listed"), [(511, True), (512, False)])
def test_up_to_512_members_are_listed(there: int, listed: bool) -> None:
    """S47: the answer to a join names up to 512 members, the one who joins among them."""
    bench = Bench(nodes=1)
    bench.login("alice", "room")
    home = bench.engine._channels._homes["room"]
    for number in range(there - 1):
        home.members[f"member{number:03}"] = b"%016d" % number
    joined = bench.login("bob").join("room")
    assert joined.member_count == there + 1
    assert (joined.members is not None) is listed
    if joined.members is not None:
        assert len(set(joined.members)) == there + 1


def test_a_channel_without_member_events_never_tells_who() -> None:
    """S38: nor that they are told again, however few its members are."""
    bench = Bench(channel_settings=(ChannelSettings(pattern="news-*", member_events=False),))
    alice = bench.login("alice", "news-1").keep()
    bob = bench.login("bob", "news-1")
    bench.advance(1.0)
    bob.leave("news-1")
    bench.advance(1.0)
    bench.login("carol", "news-1")
    bench.advance(1.0)
    assert [count.member_count for count in alice.of(MemberCount)][-2:] == [1, 2]
    assert alice.entries("news-1") == []


def test_a_longer_history_outlasts_what_is_appended_later() -> None:
    """S33: by pattern: an append trims by the settings of its channel too."""
    bench = Bench(channel_settings=(ChannelSettings(pattern="log-*", history_seconds=1000.0),))
    alice = bench.login("alice", "log-1").keep()
    alice.publish("log-1", "early")
    bench.advance(900.0)
    alice.publish("log-1", "late")
    alice.send(ReadHistory(100, "log-1", 256))
    assert [entry.text for entry in alice.answer(100).entries[1:]] == ["early", "late"]


def test_a_number_of_members_stands_behind_the_answer_of_a_go_on() -> None:
    """S38, S48, S52: before it the client passes everything over, so it would not know the number."""
    bench = Bench(max_snapshot_members=1, unmute_members=1)
    alice = bench.login("alice", "room").keep()
    bench.login("bob", "room")
    bench.advance(1.0)
    _, epoch, cursor = alice.cursor("room")
    alice.send(Hold("room"))
    bench.login("carol", "room")
    bench.advance(1.0)
    alice.messages.clear()
    alice.send(GoOn("room", epoch, cursor))
    assert alice.messages == [Going("room"), MemberCount("room", 3)]


def test_watched_users_end_with_the_lease() -> None:
    """S57, E7: a node whose lease ran out is told nothing more, and watches nobody under it later."""
    bench = Bench(nodes=1)
    engine = MemoryEngine(bench.config, entropy=bench.rng.randbytes)
    watch = WatchOperation(uid="alice", node="n1", on=True, lease=b"one")
    engine.execute(RenewLease(node="n1", lease=b"one", step=0, listed=(), struck=()), now=0.0)
    engine.execute(watch, now=0.0)
    engine.execute(WatchOperation(uid="alice", node="n2", on=True), now=0.0)
    watchers = engine._users._statuses._watchers
    assert watchers == {"alice": ("n1", "n2")}
    engine.handle_timeout(now=6.0)
    assert watchers == {"alice": ("n2",)}
    engine.execute(watch, now=6.0)
    assert watchers == {"alice": ("n2",)}


def test_a_silence_that_is_told_too_late() -> None:
    """E8: what a hub reports of one attachment counts in the order in which it said it."""
    bench = Bench(nodes=1)
    alice = bench.login("alice")

    def report(silent: float, step: int) -> int:
        session_id, attach = alice.welcome.session_id, alice.welcome.attach
        operation = ReportSilence(uid="alice", session_id=session_id, attach=attach, silent_seconds=silent, step=step)
        bench.engine.execute(operation, now=bench.now)
        state: int = bench.engine.execute(ReadStatus(uid="alice"), now=bench.now).state
        return state

    assert report(7.0, 1) == UNREACHABLE
    assert report(0.0, 2) == ONLINE
    assert report(7.0, 1) == ONLINE
    assert report(7.0, 3) == UNREACHABLE


class Quiet:
    """A hub with its engine inside, whose clients keep nothing: so what is measured is the hub's."""

    def __init__(self) -> None:
        self.now = 1000.0
        rng = random.Random(1)
        self.entropy = rng.randbytes
        config = ServerConfig(request_burst=10**6, requests_per_second=10**6)
        self.hub = Hub(config, entropy=rng.randbytes, rng=rng)
        self.hub.set_wall_clock(1_700_000_000.0, now=self.now)

    def settle(self) -> None:
        while True:
            for output in self.hub.take_outputs():
                assert not isinstance(output, CloseTransport)
                if isinstance(output, LoginRequested):
                    self.hub.accept_login(output.transport_id, now=self.now)
            if not self.hub.flush_wanted:
                return
            self.hub.flush(now=self.now)

    def say(self, transport_id: int, *messages: Any) -> None:
        payload = encode_batch(messages) if messages else HEARTBEAT
        self.hub.receive_data(transport_id, encode_masked_frame(payload, 7), now=self.now)
        self.settle()

    def login(self, uid: str) -> int:
        transport_id = self.hub.transport_accepted(now=self.now)
        self.hub.receive_data(transport_id, HANDSHAKE, now=self.now)
        self.say(transport_id, Login(uid, "", self.entropy(16), self.entropy(16), 0), Want(()))
        for number in range(20):
            self.say(transport_id, Join(1 + number, f"room{number}"))
        attributes = {f"key{number:02}": f"value {number:02}" for number in range(32)}
        self.say(transport_id, ChangeAttributes(50, "", False, attributes))
        for start in (0, 256):
            uids = tuple(f"friend{number}" for number in range(start, start + 256))
            self.say(transport_id, WatchStatus(51 + start, uids))
        return transport_id


def test_a_rich_session_takes_less_than_40_kib() -> None:
    """S45, S55: 20 channels, 32 attributes and 512 users whom others watch too; the engine's part included."""
    quiet = Quiet()
    ids = [quiet.login("first")]
    gc.collect()
    tracemalloc.start()
    ids += [quiet.login(f"user{number}") for number in range(20)]
    quiet.now += 301.0  # the entries of the joins have left the history
    for transport_id in ids:
        quiet.say(transport_id)
    while (deadline := quiet.hub.next_deadline()) is not None and deadline <= quiet.now + 1.0:
        quiet.now = max(quiet.now, deadline)
        quiet.hub.handle_timeout(now=quiet.now)
        quiet.settle()
    gc.collect()
    current, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(quiet.hub._transports.get(transport_id) is not None for transport_id in ids)
    assert current / 20 < 40 * 1024
