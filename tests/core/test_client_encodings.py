"""A client that speaks JSON: what it sends, what it takes, and its limits (S10, S45, S50); and both kinds in one
world."""

from __future__ import annotations

import pytest

from core.fake_server import EPOCH, Rig, limits
from rtm_sansio._encodings import JSON, MSGPACK
from rtm_sansio._frames import encode_frame
from rtm_sansio._wire import Opened
from rtm_sansio.config import ClientConfig
from rtm_sansio.events import ChannelMessageReceived
from rtm_sansio.messages import Done, Entries, Kicked, Logout, PublishText, TextEntry
from rtm_sansio.states import ConnectionState
from rtm_sansio.testing import World

AS_JSON = ClientConfig(encoding="json")
WORST = "\x00" * 32_768


def connected(config: ClientConfig = AS_JSON) -> Rig:
    rig = Rig(config)
    rig.connect("lobby")
    return rig


def feed_text(rig: Rig, text: str) -> None:
    rig.feed(rig.server.wire.frame(text))


def test_it_offers_what_it_speaks() -> None:
    """F-61: one subprotocol, the configured one."""
    for config, encoding in ((ClientConfig(), MSGPACK), (AS_JSON, JSON)):
        rig = Rig(config)
        rig.login()
        rig.core.transport_opened(rig.server.transport_id, now=rig.now)
        opening = rig.core.take_outputs()[0].data
        assert f"\r\nSec-WebSocket-Protocol: {encoding.subprotocol}\r\n".encode() in opening
        assert rig.server.wire.receive(opening) == [Opened(subprotocol=encoding.subprotocol)]


def test_a_conversation() -> None:
    """S3, S34, S43: as in MessagePack."""
    rig = connected()
    cursor = rig.core.cursor("lobby")
    assert cursor is not None
    feed_text(rig, f'[[200],[5,"lobby","{_base64(EPOCH)}",{cursor + 1},[[150,{{}}],[1,"bob","hi",5]]]]')
    (message,) = [event for event in rig.events if isinstance(event, ChannelMessageReceived)]
    assert (message.offset, message.message) == (cursor + 2, "hi")
    assert rig.core.unknown_messages == 1
    rig.core.publish("lobby", "röm\x00", now=rig.now)
    rig.take()
    assert rig.server.of_type(PublishText)[-1].text == "röm\x00"


def _base64(data: bytes) -> str:
    return JSON.encode_batch([data]).decode()[2:-2]


@pytest.mark.parametrize("answer", ["[]", "[ ]", "\n[]\n"])
def test_heartbeats(answer: str) -> None:
    """S10: answered in any form, and the link goes on."""
    rig = Rig(AS_JSON, answer_heartbeats=False)
    rig.connect("lobby")
    for _ in range(10):
        rig.advance(2.0)
        feed_text(rig, answer)
    assert len(rig.server.heartbeats) >= 9
    assert rig.state is ConnectionState.CONNECTED
    assert len(rig.opened) == 1


@pytest.mark.parametrize("phase", ["login", "up"])
def test_a_binary_message_is_a_violation(phase: str) -> None:
    """F-61, S50: 1003."""
    rig = connected() if phase == "up" else Rig(AS_JSON)
    if phase == "login":
        rig.login()
        rig.open()
    rig.feed(encode_frame(b"\x90"))
    assert rig.server.closed_with == 1003


@pytest.mark.parametrize("text", ["[", "{}", "[[16]]", '[[16,"\\ud800"]]', "[" * 5000, "[[19,6,NaN]]"])
def test_junk(text: str) -> None:
    """S50: a loud loss, and the close says 1002."""
    rig = connected()
    feed_text(rig, text)
    assert rig.server.closed_with == 1002
    rig.advance(0.6)
    rig.accept()
    assert rig.state is ConnectionState.CONNECTED


def test_logout_is_confirmed() -> None:
    """S7: also past messages that are something else."""
    rig = connected()
    number = rig.core.logout(now=rig.now)
    rig.take()
    assert rig.server.of_type(Logout)
    rig.feed(encode_frame(b"\x90"))
    feed_text(rig, "[]")
    assert number not in rig.ends
    rig.say(Done(number))
    assert rig.ends[number].result is None  # type: ignore[union-attr]


def test_a_kick() -> None:
    """S41."""
    rig = connected()
    rig.say(Kicked(4002, "out"))
    assert rig.state is ConnectionState.ABORTED


@pytest.mark.parametrize(("size", "code"), [(32_768, 1002), (32_769, 1009)])
def test_before_the_welcome(size: int, code: int) -> None:
    """S45: twice as much as in MessagePack, counted in bytes."""
    rig = Rig(AS_JSON)
    rig.login()
    rig.open()
    feed_text(rig, "ö" * (size // 2) + "x" * (size % 2))
    assert rig.server.closed_with == code


@pytest.mark.parametrize(("size", "code"), [(6 * 129 * 1024, None), (6 * 129 * 1024 + 1, 1009)])
def test_behind_the_welcome(size: int, code: int | None) -> None:
    """S45: six times as much as in MessagePack."""
    rig = connected()
    feed_text(rig, "[]".ljust(size))
    assert rig.server.closed_with == code


def test_what_the_welcome_allows() -> None:
    """S15: a server with larger messages is followed, six times as far."""
    rig = Rig(AS_JSON)
    rig.login()
    rig.open()
    rig.say(rig.welcome(limits=limits(max_frame_bytes=1024 * 1024)))
    feed_text(rig, "[]".ljust(6 * 1024 * 1024))
    assert rig.server.closed_with is None
    feed_text(rig, "[]".ljust(6 * 1024 * 1024 + 1))
    assert rig.server.closed_with == 1009


def test_the_largest_entry_behind_the_welcome_in_the_same_read() -> None:
    """S45: whatever is legal is taken, however it arrives."""
    rig = Rig(AS_JSON)
    rig.login()
    rig.open()
    batches = ([rig.welcome()], [Entries("lobby", EPOCH, 2, [TextEntry("bob", WORST, 1)] * 3)])
    rig.feed(b"".join(JSON.frame(JSON.encode_batch(batch)) for batch in batches))
    # Understood, so what is wrong is what it says: entries before the answer to the statement.
    assert rig.server.closed_with == 1002


def test_batches_are_split() -> None:
    """S45: in bytes of JSON."""
    rig = connected()
    for _ in range(10):
        rig.core.publish("lobby", WORST, now=rig.now)
    rig.take()
    assert [message.text for message in rig.server.of_type(PublishText)] == [WORST] * 10
    assert max(rig.server.frames) <= 786_432
    assert sum(size > 500_000 for size in rig.server.frames) == 3


class TestOneWorld:
    """Clients of both encodings in one channel, over real bytes."""

    def test_they_hear_the_same(self) -> None:
        """S33, S43: every message once, in order, whoever speaks what; also over a cut, and a slow link."""
        world = World(seed=3)
        alice, bob = world.client(config=AS_JSON), world.client()
        for client, uid in ((alice, "alice"), (bob, "bob")):
            client.login(uid)
            client.join("lobby")
        bodies = [WORST, b"\xff" * 32_768, "", b"", '"\\/\u2028😀', *(f"text {index}" for index in range(20))]
        alice.network.max_chunk_bytes = 1000
        for index, body in enumerate(bodies):
            bob.post("lobby", body)
            alice.post("lobby", body)
            if index == 3:
                alice.network.cut(3.0)
            world.run(0.5)
        world.run(10.0)
        for client in (alice, bob):
            heard = [event for event in client.events if isinstance(event, ChannelMessageReceived)]
            assert [event.message for event in heard] == bodies
            assert all(event.lost_before == 0 for event in heard)
            assert client.state is ConnectionState.CONNECTED
        assert all(1.5 < when < 6.5 for when in alice.attempts[1:])  # the cut, and no other loss

    def test_a_slow_reader(self) -> None:
        """S49: a socket that takes little of the worst there is; nobody is dropped."""
        world = World(seed=4, client_config=AS_JSON)
        alice, bob = world.login("alice", "lobby"), world.login("bob", "lobby")
        alice.network.socket_buffer_bytes = 20_000
        for _ in range(40):
            bob.post("lobby", WORST)
        world.run(60.0)
        assert sum(isinstance(event, ChannelMessageReceived) for event in alice.events) == 40
        assert len(alice.attempts) == 1
