"""Attributes at the hub: what is asked for, refused, answered and told (S25, S39, S43, S45, S46, S51, S55, S59)."""

from __future__ import annotations

from typing import Any

import pytest

from core.fake_client import Bench, FakeClient
from rtm_sansio import operations
from rtm_sansio._hub_checks import Fault, RequestChecks
from rtm_sansio._requests import OpenRequest
from rtm_sansio.codes import Code
from rtm_sansio.config import ServerConfig
from rtm_sansio.messages import (
    Attribute,
    Attributes,
    AttributesEntry,
    AttributesResult,
    ChangeAttributes,
    Changed,
    Failed,
    History,
    Logout,
    PublishText,
    ReadChannelAttributes,
    ReadHistory,
    ReadUserAttributes,
    Restored,
    Sent,
    Want,
    WantedChannel,
    units_of,
)

MILLISECONDS = 1_700_001_000_000


def change(client: FakeClient, channel: str = "", **fields: Any) -> Any:
    """Have attributes changed; the answer."""
    values: dict[str, Any] = {"number": client.next_number(), "replace": False, "put": {}, **fields}
    client.send(ChangeAttributes(channel=channel, **values))
    return client.answers(values["number"])[-1]


def user(client: FakeClient, uid: str, *keys: str) -> Any:
    number = client.next_number()
    client.send(ReadUserAttributes(number, uid, keys))
    return client.answer(number)


def channel(client: FakeClient, name: str, *keys: str) -> Any:
    number = client.next_number()
    client.send(ReadChannelAttributes(number, name, keys))
    return client.answer(number)


def values(answer: Attributes) -> dict[str, str]:
    return {one.key: one.value for one in answer.attributes}


def come_back(bench: Bench, before: FakeClient, attributes: dict[str, str] | None, **login: Any) -> FakeClient:
    """Log in again, with a statement of attributes."""
    client = bench.open(node=login.pop("node", 0))
    client.login("alice", want=None, **(login or {"resume": before}))
    client.send(Want((), None, attributes))
    return client


def answer_others(bench: Bench) -> None:
    """The engine answers everything but changes of attributes."""
    change_type = operations.ChangeAttributes
    while others := [call for call in bench.calls[0] if not isinstance(call.operation, change_type)]:
        for call in others:
            bench.calls[0].remove(call)
            answer = bench.engine.execute(call.operation, now=bench.now)
            bench.hub.engine_answered(call.call_id, answer, now=bench.now)
        bench.announce()
        bench.settle()


@pytest.mark.parametrize("nodes", [0, 1])
def test_a_users_own_read_by_others(nodes: int) -> None:
    """S39: set, merged, deleted, cleared; all of them, or those of some keys."""
    bench = Bench(nodes=nodes)
    alice, bob = bench.login("alice"), bench.login("bob")
    assert user(bob, "alice") == Attributes(bob.number, 0, ())
    first = change(alice, replace=True, put={"a": "1", "b": "2"})
    assert first == Changed(alice.number, first.revision)
    second = change(alice, put={"b": "3"}, drop=("a",)).revision
    assert user(bob, "alice") == Attributes(bob.number, second, (Attribute("b", "3", second, "alice", MILLISECONDS),))
    assert values(user(bob, "alice", "x", "b", "b")) == {"b": "3"}
    assert user(alice, "alice", "x") == Attributes(alice.number, second, ())
    cleared = change(alice, replace=True).revision
    assert user(bob, "alice") == Attributes(bob.number, cleared, ())
    assert user(bob, "nobody").revision == 0


@pytest.mark.parametrize("nodes", [0, 1, 2])
def test_a_channels_by_one_who_is_no_member(nodes: int) -> None:
    """S39, S42: with a notice to the members, in the log's order, by whichever hub."""
    bench = Bench(nodes=nodes)
    bob = bench.login("bob", "room").keep()
    alice = bench.login("alice", node=max(nodes, 1) - 1).keep()
    bob.publish("room", "before")
    revision = change(alice, "room", put={"topic": "tea"}, drop=("x",), notify=True).revision
    bob.publish("room", "after")
    change(alice, "room", put={"topic": "coffee"})  # nobody is told
    assert bob.entries("room")[1:] == [
        (2, bob.entries("room")[1][1]),
        (3, AttributesEntry("alice", False, {"topic": "tea"}, ("x",), MILLISECONDS)),
        (4, bob.entries("room")[3][1]),
    ]
    assert alice.entries("room") == []
    assert channel(alice, "room").attributes[0].uid == "alice"
    assert channel(bob, "room", "topic").revision > revision
    number = bob.next_number()
    bob.send(ReadHistory(number, "room", 10))
    history: History = bob.answer(number)
    assert AttributesEntry("alice", False, {"topic": "tea"}, ("x",), MILLISECONDS) in history.entries


def test_a_notice_of_ones_own_and_to_nobody() -> None:
    """S43: an entry is the same for every reader, and the client passes over its own; without members there is none."""
    bench = Bench()
    alice = bench.login("alice")
    change(alice, "room", put={"a": "1"}, notify=True)
    alice.join("room")
    assert alice.joined["room"].offset == 1
    change(alice, "room", replace=True, notify=True)
    assert alice.entries("room")[-1] == (2, AttributesEntry("alice", True, {}, (), MILLISECONDS))
    change(alice, notify=True, put={"own": "1"})  # there is nobody to be told of a user's own
    assert len(alice.entries("room")) == 2


def test_compare_and_set_between_two() -> None:
    """S39: the second of two that read the same is refused, and nobody is told."""
    bench = Bench()
    alice, bob, witness = bench.login("alice"), bench.login("bob"), bench.login("witness", "room")
    revision = channel(alice, "room").revision
    assert revision == 0
    won = change(alice, "room", put={"owner": "alice"}, expected_revision=0, notify=True)
    lost = change(bob, "room", put={"owner": "bob"}, expected_revision=0, notify=True)
    assert isinstance(lost, Failed)
    assert (lost.code, lost.message) == (Code.REVISION_CONFLICT, f"the attributes have revision {won.revision}, not 0")
    assert len(witness.entries("room")) == 2
    assert values(channel(bob, "room")) == {"owner": "alice"}


class TestOrder:
    """S46."""

    def test_requests_take_effect_in_the_order_of_their_numbers(self) -> None:
        """A change waits for the messages gathered before it, and what comes after it waits for its answer."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        alice.send(
            PublishText(10, "room", "one"),
            ChangeAttributes(11, "room", False, {"a": "1"}, (), None, True),
            PublishText(12, "room", "two"),
            ReadChannelAttributes(13, "room"),
            ChangeAttributes(14, "room", True, {}),
        )
        assert [type(alice.answer(number)) for number in range(10, 15)] == [Sent, Changed, Sent, Attributes, Changed]
        assert [type(entry).__name__ for _, entry in alice.entries("room")] == [
            "JoinedEntry",
            "TextEntry",
            "AttributesEntry",
            "TextEntry",
        ]
        assert values(alice.answer(13)) == {"a": "1"}

    @pytest.mark.parametrize("home", ["", "room"])
    def test_sent_again_after_a_resume_on_another_hub(self, home: str) -> None:
        """The first hub's call comes late, with the number that the second has had carried out."""
        bench = Bench(nodes=2)
        alice = bench.login("alice")
        bench.held.add(0)
        alice.send(ChangeAttributes(5, home, False, {"a": "1"}, (), 0, False))
        assert alice.answers(5) == []
        back = bench.open(node=1)
        back.login("alice", resume=alice)
        back.send(ChangeAttributes(5, home, False, {"a": "1"}, (), 0, False))
        done = back.answer(5)
        back.send(ChangeAttributes(6, home, False, {"a": "2"}))
        bench.release()
        read = channel(back, home) if home else user(back, "alice")
        assert values(read) == {"a": "2"}
        back.send(ChangeAttributes(5, home, False, {"a": "1"}, (), 0, False))
        assert back.answers(5) == [done, done]

    def test_a_logout_behind_a_change(self) -> None:
        """S7: the change first; its answer finds nobody."""
        bench = Bench(nodes=1)
        alice, bob = bench.login("alice"), bench.login("bob")
        bench.held.add(0)
        alice.send(ChangeAttributes(5, "room", False, {"a": "1"}), Logout(6))
        alice.lose()
        bench.release()
        assert values(channel(bob, "room")) == {"a": "1"}

    def test_a_transport_that_is_gone_when_the_answer_comes(self) -> None:
        """Nothing happens: no answer, no refusal."""
        bench = Bench(nodes=1)
        alice, bob = bench.login("alice"), bench.login("bob")
        bench.held.add(0)
        alice.send(ChangeAttributes(5, "", False, {"a": "1"}, (), 7))
        bob.send(ReadUserAttributes(5, "alice"))
        alice.lose()
        bob.lose()
        bench.release()
        assert alice.answers(5) == bob.answers(5) == []


class TestStatement:
    """S25, S59."""

    @pytest.mark.parametrize("nodes", [0, 1])
    def test_a_new_session_is_given_them(self, nodes: int) -> None:
        """And nothing else: what the old one had is gone with it."""
        bench = Bench(nodes=nodes)
        alice, bob = bench.login("alice"), bench.login("bob").keep()
        change(alice, put={"a": "1", "b": "1"})
        before = user(bob, "alice").revision
        alice.lose()
        bench.advance(29.0)
        assert values(user(bob, "alice")) == {"a": "1", "b": "1"}
        bench.advance(1.0)
        assert values(user(bob, "alice")) == {}
        back = come_back(bench, alice, {"a": "2"})
        assert not back.welcome.resumed
        assert back.of(Restored) == [Restored((), False, AttributesResult())]
        assert values(user(bob, "alice")) == {"a": "2"}
        assert user(bob, "alice").revision > before

    def test_a_resumed_one_keeps_its_own(self) -> None:
        """What the statement says is what the client knew."""
        bench = Bench()
        alice = bench.login("alice")
        change(alice, put={"a": "1"})
        back = come_back(bench, alice, {"a": "0"})
        assert back.welcome.resumed
        assert values(user(back, "alice")) == {"a": "1"}
        assert values(user(come_back(bench, back, None), "alice")) == {"a": "1"}

    def test_a_statement_that_was_lost(self) -> None:
        """The session is resumed, but it never had them: they are set now."""
        bench = Bench()
        alice = bench.open()
        alice.login("alice", want=None)
        alice.lose()
        back = come_back(bench, alice, {"a": "1"})
        assert back.welcome.resumed
        assert values(user(back, "alice")) == {"a": "1"}

    @pytest.mark.parametrize(
        ("attributes", "code"),
        [
            ({"": "x"}, Code.INVALID_ATTRIBUTE),
            ({"k" * 33: "x"}, Code.INVALID_ATTRIBUTE),
            ({"ü" * 16 + "k": "x"}, Code.INVALID_ATTRIBUTE),
            ({"k": "v" * 8193}, Code.INVALID_ATTRIBUTE),
            ({str(number): "v" * 8190 for number in range(3)}, Code.ATTRIBUTES_FULL),
            ({str(number): "" for number in range(257)}, Code.ATTRIBUTES_FULL),
            ({str(number): "" for number in range(256)}, 0),
            ({"k" * 32: "v" * 8192, "ü" * 16: "ü" * 4064}, 0),
        ],
    )
    def test_what_is_more_than_it_may_be(self, attributes: dict[str, str], code: int) -> None:
        """S45: said in the last answer; the session goes on, with none of them. A call's 32 do not bound it."""
        bench = Bench()
        alice = bench.open()
        alice.login("alice", want=None)
        alice.send(Want((WantedChannel("room"),), None, attributes))
        (restored,) = alice.of(Restored)
        assert restored.channels[0].channel == "room"
        assert restored.attributes.code == code
        assert values(user(alice, "alice")) == ({} if code else attributes)

    def test_very_many_do_not_reach_the_engine(self) -> None:
        """S51: a frame holds tens of thousands, and an engine is shared."""
        bench = Bench(nodes=1)
        alice = bench.open()
        alice.login("alice", want=None)
        bench.engine_calls.clear()
        alice.send(Want((), None, {str(number): "" for number in range(10_000)}))
        assert alice.of(Restored)[0].attributes.code == Code.ATTRIBUTES_FULL
        assert not [one for one in bench.engine_calls if isinstance(one, operations.ChangeAttributes)]

    def test_they_stand_in_the_last_piece_of_the_answer(self) -> None:
        """S45, S59."""
        bench = Bench(max_channels=1000)
        alice = bench.open()
        alice.login("alice", want=None)
        alice.send(Want(tuple(WantedChannel(str(number)) for number in range(300)), None, {"a": "1"}))
        assert [(one.more, one.attributes) for one in alice.of(Restored)] == [
            (True, None),
            (False, AttributesResult()),
        ]


class TestLimits:
    """S45, S55: from both sides."""

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"put": {"": "x"}}, Code.INVALID_ATTRIBUTE),
            ({"put": {"ü" * 16: "x"}}, None),
            ({"put": {"ü" * 16 + "k": "x"}}, Code.INVALID_ATTRIBUTE),
            ({"drop": ("k" * 33,)}, Code.INVALID_ATTRIBUTE),
            ({"drop": ("",)}, Code.INVALID_ATTRIBUTE),
            ({"put": {"k": "ü" * 4096}}, None),
            ({"put": {"k": "ü" * 4096 + "v"}}, Code.ATTRIBUTE_TOO_LARGE),
            ({"put": {str(number): "" for number in range(16)}, "drop": ("x",) * 16}, None),
            ({"put": {str(number): "" for number in range(16)}, "drop": ("x",) * 17}, Code.TOO_MANY_NAMES),
            ({"channel": "ü", "put": {"k": "v"}}, Code.INVALID_CHANNEL),
            ({"channel": "c" * 65, "put": {"k": "v"}}, Code.INVALID_CHANNEL),
            ({"put": {"a": "v" * 8191, "b": "v" * 8191}}, None),
            ({"put": {"a": "v" * 8191, "b": "v" * 8192}}, Code.ATTRIBUTES_FULL),
            ({"channel": "c", "put": dict.fromkeys("abcd", "v" * 8191)}, None),
            ({"channel": "c", "put": {"e": "", **dict.fromkeys("abcd", "v" * 8191)}}, Code.ATTRIBUTES_FULL),
        ],
    )
    def test_a_change(self, fields: dict[str, Any], code: int | None) -> None:
        """Nothing is carried out of one that is too much."""
        alice = Bench().login("alice")
        answer = change(alice, **fields)
        assert getattr(answer, "code", None) == code
        where = fields.get("channel", "")
        if code is not None and where in ("", "c"):
            assert (channel(alice, where) if where else user(alice, "alice")).revision == 0

    @pytest.mark.parametrize(
        ("request_", "code"),
        [
            (ReadUserAttributes(7, "ü"), Code.INVALID_PEER),
            (ReadUserAttributes(7, ""), Code.INVALID_PEER),
            (ReadChannelAttributes(7, "c" * 65), Code.INVALID_CHANNEL),
            (ReadChannelAttributes(7, "c", ("k",) * 33), Code.TOO_MANY_NAMES),
            (ReadUserAttributes(7, "u", ("",)), Code.INVALID_ATTRIBUTE),
            (ReadUserAttributes(7, "u", ("k" * 32,) * 32), None),
        ],
    )
    def test_a_reading(self, request_: Any, code: int | None) -> None:
        """The same for keys that are asked for."""
        alice = Bench().login("alice")
        alice.send(request_)
        assert getattr(alice.answer(7), "code", None) == code

    @pytest.mark.parametrize(
        "message",
        [
            ChangeAttributes(1, "", False, {"k": "v"}),
            ChangeAttributes(1, "room", True, {}),
            ChangeAttributes(1, "room", False, {"ü": "é" * 100, "k": ""}, ("x", "ü" * 3), 17, True),
            ReadUserAttributes(1, "bob"),
            ReadUserAttributes(1, "bob", ("a", "b")),
            ReadChannelAttributes(1, "room", ("a",)),
        ],
    )
    def test_both_sides_count_the_same(self, message: Any) -> None:
        """S45, S55: units and bytes, so that no client of ours is ever told that it is too fast."""
        size = RequestChecks(ServerConfig()).size_of(message, ())
        assert not isinstance(size, Fault)
        request = OpenRequest(message, 0.0)
        assert request.units == units_of(message)
        assert request.byte_count == (size if isinstance(message, ChangeAttributes) else 0)

    def test_units(self) -> None:
        """S55: as many as it names keys, 16 for all there are, and at least one."""
        assert units_of(ChangeAttributes(1, "", True, {})) == 1
        assert units_of(ChangeAttributes(1, "", False, {"a": "", "b": ""}, ("c",))) == 3
        assert units_of(ReadUserAttributes(1, "u")) == units_of(ReadChannelAttributes(1, "c")) == 16
        assert units_of(ReadUserAttributes(1, "u", ("a",) * 3)) == 3

    def test_the_rate_of_bytes(self) -> None:
        """S55: changes count as messages do; what is refused for itself costs none."""
        bench = Bench()
        alice = bench.login("alice")
        put = dict.fromkeys("ab", "v" * 8190)
        for _ in range(256):
            alice.send(ChangeAttributes(alice.next_number(), "", False, put))
        failed = alice.of(Failed)
        assert {fail.code for fail in failed} == {Code.RATE_EXCEEDED}
        assert len(alice.of(Changed)) == 4 * 1024 * 1024 // (2 * 8191 + 24)

    def test_the_largest_answer_fits_into_a_frame(self) -> None:
        """S45: as many attributes as there may be, with as many bytes, of the longest writers."""
        bench = Bench(max_name_length=256, max_status_query=8, max_status_subscriptions=8)
        alice = bench.login("a" * 256)
        room = (32 * 1024 - 256 * 3) // 256
        for start in range(0, 256, 32):
            put = {f"{number:03}": "v" * room for number in range(start, start + 32)}
            assert isinstance(change(alice, "room", put=put), Changed)
        answer = channel(alice, "room")
        assert len(answer.attributes) == 256
        assert 96 * 1024 < max(alice.payload_sizes) <= 128 * 1024

    def test_the_largest_notice_fits_into_a_frame(self) -> None:
        """S45: a change of the greatest size, told to the members."""
        config = {"max_message_bytes": 16 * 1024, "max_request_bytes": 35_000, "max_frame_bytes": 66_000}
        bench = Bench(**config)
        alice = bench.login("a" * 64, "c" * 64)
        put = {f"{number:032}": "v" * 2015 for number in range(16)}
        drop = tuple(f"x{number:031}" for number in range(16))
        assert isinstance(change(alice, "c" * 64, put=put, drop=drop, notify=True), Changed)
        assert max(alice.payload_sizes) <= 66_000
        assert alice.entries("c" * 64)[-1][0] == 2

    def test_readings_wait_for_room(self) -> None:
        """S51: who takes no answers is given no more of them, and is not dropped for it."""
        bench = Bench()
        alice = bench.login("alice")
        for key in "abcd":
            change(alice, "room", put={key: "v" * 8191})
        alice.reading = False
        first = alice.number
        for _ in range(40):
            alice.send(ReadChannelAttributes(alice.next_number(), "room"))
        assert alice.gone is None
        assert len(alice.of(Attributes)) < 10
        for _ in range(40):
            alice.drain()
        assert [answer.number for answer in alice.of(Attributes)] == list(range(first + 1, alice.number + 1))

    def test_an_engine_that_hangs(self) -> None:
        """S55: 64 changes may wait for one home; what comes then is refused, however often a session comes back."""
        bench = Bench(nodes=1)
        alice = bench.login("alice")
        bob = bench.login("bob")
        bench.held.add(0)
        waiting = 0
        for _ in range(80):
            alice.send(ChangeAttributes(9, "room", False, {"k": "v" * 8000}))
            if alice.answers(9):
                break
            waiting += 1
            alice.lose()
            back = bench.open()
            back.login("alice", resume=alice)
            answer_others(bench)
            alice = back
        assert waiting == 65  # one is with the engine
        assert alice.answer(9).code == Code.TOO_MANY_REQUESTS
        bench.release()
        assert values(channel(bob, "room")) == {"k": "v" * 8000}
        assert isinstance(change(alice, "room", replace=True), Changed)
