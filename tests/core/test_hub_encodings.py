"""A hub whose transports speak JSON, alone and beside others: negotiation, limits, frames made once (S45, S49, E4)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.fake_client import Bench, FakeClient
from rtm_sansio import _hub_channels
from rtm_sansio._encodings import ENCODINGS, JSON, MSGPACK, Encoding
from rtm_sansio._frames import TEXT, encode_masked_frame
from rtm_sansio._wire import ClientWire, Opened
from rtm_sansio.logs import Block
from rtm_sansio.messages import (
    BytesEntry,
    Done,
    Entries,
    Failed,
    GoOn,
    Hold,
    JoinedEntry,
    Leave,
    LeftEntry,
    Login,
    Logout,
    Progress,
    PublishBytes,
    PublishText,
    RenewToken,
    TextEntry,
    UnknownEntry,
    Want,
    WantedChannel,
)
from rtm_sansio.operations import BlockAnnounced

WORST = "\x00" * 32_768
"""The text that becomes largest in JSON, as large as a body may be."""

in_each_encoding = pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)


def say(client: FakeClient, text: str) -> None:
    client.raw(client.wire.frame(text))


class TestNegotiation:
    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [
            (("rtm.v1.json",), "rtm.v1.json"),
            (("rtm.v1.msgpack", "rtm.v1.json"), "rtm.v1.msgpack"),
            (("rtm.v2", "rtm.v1.json", "rtm.v1.msgpack"), "rtm.v1.json"),
        ],
    )
    def test_the_client_has_the_choice(self, offered: tuple[str, ...], chosen: str) -> None:
        """The first one that the client names and the server knows; F-61."""
        bench = Bench()
        ghost = bench.open(handshake=False)
        ghost.wire = ClientWire(
            host="server.test", target="/", subprotocols=offered, max_message_bytes=1 << 20, entropy=bench.rng.randbytes
        )
        ghost.wire.start()
        bench.hub.receive_data(ghost.id, ghost.wire.data_to_send(), now=bench.now)
        (answer,) = bench.hub.take_outputs()
        assert ghost.wire.receive(answer.data) == [Opened(subprotocol=chosen)]

    @in_each_encoding
    def test_the_other_kind_of_message_is_a_violation(self, encoding: Encoding) -> None:
        """F-61, S50: 1003, at any stage."""
        other = "[]" if encoding is MSGPACK else b"\x90"
        bench = Bench()
        for ghost in (bench.open(encoding=encoding), bench.login("alice", encoding=encoding)):
            ghost.raw(ghost.wire.frame(other))
            assert ghost.close_code == 1003

    @pytest.mark.parametrize(
        ("payload", "code"),
        [(b"\xff", 1007), (b"[[18,1,\xed\xa0\x80]]", 1007), (b"[", 1002), (b'[[18,1,"\\ud800"]]', 1002), (b"{}", 1002)],
    )
    def test_the_code_for_junk(self, payload: bytes, code: int) -> None:
        """S50: invalid UTF-8 is the wire's to refuse, everything else a protocol error; nobody else notices."""
        bench = Bench()
        bob = bench.login("bob", "room").keep()
        for ghost in (bench.open(encoding=JSON), bench.login("alice", encoding=JSON)):
            ghost.raw(encode_masked_frame(payload, 1, opcode=TEXT))
            assert ghost.close_code == code
        assert bob.publish("room", "x").offset == 2


class TestConversation:
    def test_all_that_a_client_does(self) -> None:
        """Every request, in JSON; a resume in the other encoding, too."""
        bench = Bench()
        alice = bench.login("alice", "room", encoding=JSON)
        bob = bench.login("bob", "room")
        assert alice.welcome.limits == bob.welcome.limits
        assert alice.publish("room", "röm").offset == 3
        alice.send(PublishBytes(alice.next_number(), "room", b"\x00\xff"))
        assert bob.entries("room")[1:] == [
            (3, TextEntry("alice", "röm", 1_700_001_000_000)),
            (4, BytesEntry("alice", b"\x00\xff", 1_700_001_000_000)),
        ]
        assert alice.entries("room")[1:] == [(2, JoinedEntry("bob")), *bob.entries("room")[1:]]
        alice.send(RenewToken(alice.next_number(), "new"))
        bench.hub.accept_renewal(alice.id, alice.number, now=bench.now)
        bench.settle()
        alice.send(Progress(1, alice.number), Hold("room"))
        bob.publish("room", "held")
        cursor = alice.cursor("room")
        alice.send(GoOn(*cursor))
        assert alice.texts("room") == ["röm", "held"]
        alice.send(GoOn("room", b"another", 1))
        assert alice.gaps("room")[0].count is None
        alice.lose()
        bob.publish("room", "missed")
        back = bench.login("alice", resume=alice, want=[(cursor[0], cursor[1], cursor[2] + 1)])
        assert back.welcome.resumed
        assert back.texts("room") == ["missed"]
        back.lose()
        again = bench.login("alice", resume=back, want=[back.cursor("room")], encoding=JSON)
        again.leave("room")
        again.send(Logout(again.next_number()))
        assert again.answer(again.number) == Done(again.number)
        assert again.close_code == 1000
        assert bob.members("room")[-1] == LeftEntry("alice", 1)

    @pytest.mark.parametrize("text", ["[]", "[ ]", " [\n]\t"])
    def test_heartbeats(self, text: str) -> None:
        """S10: an empty array in any form, answered in the usual one; only behind the welcome."""
        bench = Bench()
        alice = bench.login("alice", encoding=JSON)
        alice.received.clear()
        say(alice, text)
        assert alice.received == [b"\x81\x02[]"]
        ghost = bench.open(encoding=JSON)
        say(ghost, text)
        assert ghost.close_code == 1002

    def test_a_long_form_of_the_heartbeat_in_messagepack(self) -> None:
        """S10: it is as empty."""
        alice = Bench().login("alice")
        alice.raw(alice.wire.frame(b"\xdc\x00\x00"))
        assert alice.heartbeats == 1

    def test_messages_of_a_later_version(self) -> None:
        """F-62."""
        bench = Bench()
        alice = bench.login("alice", encoding=JSON)
        say(alice, '[[200,{"a":1}],[18,1,"room","a field"]]')
        assert alice.joined == {}
        assert alice.answer(1).offset == 1
        assert bench.hub.unknown_messages == 1


class TestFanOut:
    @pytest.fixture
    def made(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The encoding of each block that was encoded."""
        made: list[str] = []
        original = _hub_channels._entries_frame

        def entries_frame(encoding: Encoding, *arguments: Any) -> bytes:
            made.append(encoding.name)
            return original(encoding, *arguments)

        monkeypatch.setattr(_hub_channels, "_entries_frame", entries_frame)
        return made

    @pytest.mark.parametrize(
        ("readers", "expected"),
        [
            ({MSGPACK: 3, JSON: 0}, ["msgpack"]),
            ({MSGPACK: 1, JSON: 3}, ["msgpack", "json"]),
            ({MSGPACK: 0, JSON: 2}, ["json"]),
        ],
        ids=["msgpack", "both", "json"],
    )
    def test_a_frame_is_made_once_for_each_encoding(
        self, made: list[str], readers: dict[Encoding, int], expected: list[str]
    ) -> None:
        """E4: whatever the number of its readers, and not at all without any."""
        bench = Bench()
        members = [
            bench.login(f"{encoding.name}{index}", "room", encoding=encoding)
            for encoding, count in readers.items()
            for index in range(count)
        ]
        made.clear()
        members[-1].publish("room", "hello")
        assert made == expected
        assert {tuple(member.texts("room")) for member in members} == {("hello",)}
        for encoding in ENCODINGS:
            frames = {member.received[-1] for member in members[:-1] if member.encoding is encoding}
            assert len(frames) <= 1

    def test_entries_of_a_later_version(self) -> None:
        """F-62: a node of a later version appends what this one does not know; JSON readers are told as much of it as
        JSON can say, and it takes its offset."""
        bench = Bench()
        alice, bob = bench.login("alice", "room", encoding=JSON), bench.login("bob", "room")
        entries = (
            msgspec.msgpack.encode([130, {"new": b"\x00"}]),
            msgspec.msgpack.encode([131, msgspec.msgpack.Ext(1, b"")]),
            msgspec.msgpack.encode([3, "carol", msgspec.msgpack.Ext(1, b"")]),
        )
        epoch = alice.joined["room"].epoch
        bench.hub.engine_announced(BlockAnnounced(log="c:room", block=Block(epoch, 3, entries)), now=bench.now)
        bench.settle()
        expected = [(3, UnknownEntry(130)), (4, UnknownEntry(131)), (5, JoinedEntry("carol"))]
        assert alice.entries("room")[2:] == bob.entries("room")[1:] == expected
        assert b'[130,{"new":"AA=="}],[131,null],[3,"carol",null]' in alice.received[-1]

    def test_an_entry_that_is_none(self) -> None:
        """S50: an engine that has gone mad harms no hub; readers of both encodings see a protocol error."""
        bench = Bench()
        alice = bench.login("alice", "room", encoding=JSON)
        epoch = alice.joined["room"].epoch
        announced = BlockAnnounced(log="c:room", block=Block(epoch, 2, (b"\xc1",)))
        bench.hub.engine_announced(announced, now=bench.now)
        bench.hub.flush(now=bench.now)
        (output,) = bench.hub.take_outputs()
        assert output.data.endswith(b",2,[null]]]")

    def test_a_channel_that_is_started_anew(self) -> None:
        """E5: readers of both encodings find out from their own cursors."""
        bench = Bench()
        alice, bob = bench.login("alice", "room", encoding=JSON), bench.login("bob", "room")
        channel = bench.hub._channels._by_home["c:room"]
        channel.epoch = b"another"
        bench.hub.engine_announced(
            BlockAnnounced(log="c:room", block=Block(alice.joined["room"].epoch, 3, (b"x",))), now=bench.now
        )
        bench.settle()
        assert [gap.count for gap in (*alice.gaps("room"), *bob.gaps("room"))] == [None, None]
        bob.publish("room", "goes on")
        assert alice.texts("room") == bob.texts("room") == ["goes on"]

    def test_readers_of_one_encoding_that_fall_behind(self, made: list[str]) -> None:
        """S49: the others go on, and nothing is made for nobody."""
        bench = Bench()
        alice, bob = bench.login("alice", "room", encoding=JSON).keep(), bench.login("bob", "room").keep()
        alice.reading = False
        bench.hub.unsent(alice.id, 300_000, now=bench.now)
        made.clear()
        bob.publish("room", "one")
        assert made == ["msgpack"]
        alice.reading = True
        alice.drain()
        assert alice.texts("room") == bob.texts("room") == ["one"]


class TestLimits:
    """S45: the limits of a batch count what is on the wire; JSON may be longer by as much as it can be."""

    def test_the_largest_bodies(self) -> None:
        """Whatever may be said in MessagePack reaches a reader of JSON, and the other way round."""
        bench = Bench()
        alice, bob = bench.login("alice", "room", encoding=JSON), bench.login("bob", "room")
        for publisher in (alice, bob):
            for number, message in enumerate((PublishText, PublishBytes)):
                body: Any = WORST if number == 0 else b"\xff" * 32_768
                publisher.send(message(publisher.next_number(), "room", body))
                assert publisher.answer(publisher.number).offset
        assert alice.entries("room")[2:] == bob.entries("room")[1:]
        assert len(alice.entries("room")) == 6
        assert 6 * 32_768 < max(alice.payload_sizes) < 6 * 32_768 + 200

    def test_a_body_above_the_limit(self) -> None:
        """The body counts as it is, not as it is written: the limit is the same in both encodings."""
        bench = Bench()
        alice = bench.login("alice", "room", encoding=JSON)
        alice.send(PublishText(alice.next_number(), "room", WORST + "x"))
        failed = alice.answer(alice.number)
        assert isinstance(failed, Failed)
        assert failed.code == 4303

    @pytest.mark.parametrize(("size", "dropped"), [(32_768, False), (32_769, True)])
    def test_before_the_login(self, size: int, dropped: bool) -> None:
        """S45: twice as much, since a token may be of quotation marks alone."""
        bench = Bench()
        ghost = bench.open(encoding=JSON)
        login = Login('"' * 64, '"' * 8192, bytes(16), bytes(16), 0)
        say(ghost, JSON.encode_batch([login, Want(())]).decode().ljust(size))
        assert ghost.close_code == (1009 if dropped else None)
        if not dropped:
            assert ghost.welcome
            assert ghost.restored == []

    @pytest.mark.parametrize(("size", "dropped"), [(786_432, False), (786_433, True)])
    def test_after_the_login(self, size: int, dropped: bool) -> None:
        """S45: six times ``max_frame_bytes``."""
        bench = Bench()
        alice = bench.login("alice", encoding=JSON)
        say(alice, '[[18,1,"room"]]'.ljust(size))
        assert alice.close_code == (1009 if dropped else None)
        assert len(alice.answers(1)) == (not dropped)

    def test_a_batch_of_very_many_messages(self) -> None:
        """S51: more than a burst is not even decoded."""
        bench = Bench()
        alice = bench.login("alice", encoding=JSON)
        say(alice, "[" + ",".join(['[5,"x"]'] * 3025) + "]")
        assert alice.close_code == 1002
        assert "more than 3024 messages" in alice.close_reason

    def test_replies_are_split(self) -> None:
        """S45: as few pieces as fit, in bytes of JSON."""
        bench = Bench()
        alice = bench.login("alice", encoding=JSON)
        link = bench.hub._transports.get(alice.id)
        assert link is not None
        replies = [Failed(number, 4302, "\x00" * 20_000) for number in range(8)]
        for reply in replies:
            bench.hub._transports.reply(link, reply)
        bench.settle()
        assert alice.of(Failed) == replies
        assert [size > 700_000 for size in alice.payload_sizes[-2:]] == [True, False]
        assert max(alice.payload_sizes) <= 786_432

    def test_frames_of_many_entries_are_no_larger_than_others(self) -> None:
        """S49: a reader of JSON that takes nothing gets as little ahead of the log as any other."""
        bench = Bench()
        bob, alice = bench.login("bob", "room"), bench.login("alice", "room", encoding=JSON).keep()
        alice.reading = False
        frames = b"".join(
            bob.wire.frame(MSGPACK.encode_batch([PublishText(100 + index, "room", "\x00" * 4000)]))
            for index in range(100)
        )
        bench.hub.receive_data(bob.id, frames, now=bench.now)
        bench.settle()
        assert max(alice.payload_sizes) <= 131_072
        assert alice.unsent < 500 * 1024
        alice.heartbeat()
        assert alice.gone is None

    @pytest.mark.parametrize("count", [1, 60])
    def test_a_slow_reader_of_the_worst_text_is_fed(self, count: int) -> None:
        """S49, S51: piece by piece from the log, and never dropped for what it is given."""
        bench = Bench()
        bob, alice = bench.login("bob", "room").keep(), bench.login("alice", "room", encoding=JSON).keep()
        alice.reading = False
        for index in range(count):
            bob.publish("room", WORST[:-2] + f"{index:02}")
        for _ in range(200):
            alice.heartbeat()
            assert alice.gone is None
            assert alice.unsent < 700 * 1024
            alice.drain(100_000)
        assert [text[-2:] for text in alice.texts("room")] == [f"{index:02}" for index in range(count)]
        assert max(alice.payload_sizes) < 786_432

    def test_a_statement_that_waits_takes_no_more_room(self) -> None:
        """S59: it is kept in MessagePack until the login is accepted."""
        bench = Bench()
        bench.auto_login = ...
        ghost = bench.open(encoding=JSON)
        ghost.login("alice", want=[("room", b"\x01" * 64, 5)])
        link = bench.hub._transports.get(ghost.id)
        assert link is not None
        assert link.early_want == MSGPACK.encode_batch([Want((WantedChannel("room", b"\x01" * 64, 5),))])
        bench.hub.accept_login(ghost.id, now=bench.now)
        bench.settle()
        assert [result.code for result in ghost.restored] == [0]

    def test_leaving_with_blocks_that_wait(self) -> None:
        """S42: in JSON, too, what was given of a channel goes out before anything later."""
        bench = Bench()
        bob, alice = bench.login("bob", "room"), bench.login("alice", "room", encoding=JSON)
        bench.hub.receive_data(
            bob.id, bob.wire.frame(MSGPACK.encode_batch([PublishText(9, "room", "x")])), now=bench.now
        )
        alice.send(Leave(alice.next_number(), "room"))
        entries = [message for message in alice.messages if isinstance(message, (Entries, Done))]
        assert isinstance(entries[-1], Done)
