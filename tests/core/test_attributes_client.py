"""Attributes at the client: what it asks for, keeps a copy of, and is told (S9, S25, S37, S39, S45, S59)."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from core.fake_server import EPOCH, OTHER_SESSION, Rig, limits
from rtm_sansio.checks import attributes_size, check_keys, check_mapping, check_values, kept, text_size
from rtm_sansio.codes import Code
from rtm_sansio.errors import InvalidArgument, NotConnected, Outcome, RequestAbandoned, RequestTimeout
from rtm_sansio.events import (
    Attribute,
    AttributesLost,
    AttributeSnapshot,
    AttributesReceipt,
    ChannelAttributesChanged,
    ConnectionStateChanged,
    MemberJoined,
    home_of,
)
from rtm_sansio.messages import Attribute as WireAttribute
from rtm_sansio.messages import (
    Attributes,
    AttributesEntry,
    AttributesResult,
    ChangeAttributes,
    Changed,
    Entries,
    Failed,
    History,
    Kicked,
    Progress,
    ReadChannelAttributes,
    ReadUserAttributes,
    Restored,
    Sent,
    Want,
)
from rtm_sansio.queues import event_bytes
from rtm_sansio.states import ConnectionState


class Text(str):
    """A subclass, with another text form."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Color(enum.StrEnum):
    RED = "red"


class Settings(dict[str, str]):
    """A subclass of dict."""


def connected(*channels: str, **changes: Any) -> Rig:
    rig = Rig(jitter=0.0)
    rig.connect(*channels, **changes)
    return rig


def change(rig: Rig, *arguments: Any, answer: bool = True, **fields: Any) -> int:
    """Have attributes changed, and confirmed."""
    number: int = rig.call("change_attributes", *arguments, **fields)
    if answer:
        rig.say(Changed(number, number))
    return number


def last(rig: Rig) -> Any:
    return rig.server.received[-1]


def wanted(rig: Rig) -> Any:
    """What the last statement said of attributes."""
    return rig.server.of_type(Want)[-1].attributes


def lose(rig: Rig) -> None:
    """The transport is lost, and another one is opened."""
    rig.lose()
    rig.advance(0.1)
    rig.open()


def gone(rig: Rig, result: AttributesResult | None = None, **changes: Any) -> None:
    """The session is gone; another one begins with what is stated."""
    lose(rig)
    rig.say(rig.welcome(resumed=False, session_id=OTHER_SESSION, **changes))
    rig.say(Restored((), False, result))


def test_what_is_asked_for():
    """S39: set, merge, delete and clear, of oneself and of channels; get."""
    rig = connected()
    for fields, expected in (
        ({"put": {"a": "1"}, "replace": True}, ("", True, {"a": "1"}, (), None, False)),
        ({"put": {"a": "1"}, "notify": True}, ("", False, {"a": "1"}, (), None, False)),
        ({"drop": ["a", "b", "a"], "expected_revision": 0}, ("", False, {}, ("a", "b"), 0, False)),
        ({"drop": iter("ab"), "put": {"b": ""}}, ("", False, {"b": ""}, ("a",), None, False)),
        ({"replace": True, "drop": ["a"]}, ("", True, {}, (), None, False)),
        ({"channel": "room", "put": {"a": "1"}, "notify": True}, ("room", False, {"a": "1"}, (), None, True)),
    ):
        number = rig.call("change_attributes", **fields)
        assert last(rig) == ChangeAttributes(number, *expected)
        rig.say(Changed(number, 17))
        assert rig.result(number) == AttributesReceipt(revision=17)
    for fields, request in (
        ({}, ReadUserAttributes(7, "alice", ())),
        ({"uid": "bob", "keys": (key for key in "ab")}, ReadUserAttributes(8, "bob", ("a", "b"))),
        ({"channel": "room", "keys": ["a"]}, ReadChannelAttributes(9, "room", ("a",))),
    ):
        number = rig.call("read_attributes", **fields)
        assert (type(last(rig)), last(rig).keys) == (type(request), request.keys)
        assert getattr(last(rig), "uid", None) == getattr(request, "uid", None)
        rig.say(Attributes(number, 4, (WireAttribute("a", "1", 3, "bob", 1500),)))
        snapshot = rig.result(number)
        assert snapshot == AttributeSnapshot(
            revision=4, attributes={"a": Attribute(value="1", revision=3, uid="bob", updated_at=1.5)}
        )
        assert snapshot.values == {"a": "1"}


@pytest.mark.parametrize(
    ("arguments", "fields", "code"),
    [
        ((), {}, "invalid_attribute"),
        ((), {"put": {}}, "invalid_attribute"),
        ((), {"put": None}, "invalid_attribute"),
        ((), {"put": "text"}, "invalid_attribute"),
        ((), {"put": ["a"]}, "invalid_attribute"),
        ((), {"put": {1: "x"}}, "invalid_attribute"),
        ((), {"put": {"": "x"}}, "invalid_attribute"),
        ((), {"put": {"k" * 33: "x"}}, "invalid_attribute"),
        ((), {"put": {"ü" * 16 + "k": "x"}}, "invalid_attribute"),
        ((), {"put": {"\ud800": "x"}}, "invalid_attribute"),
        ((), {"put": {"k": "\ud800"}}, "invalid_attribute"),
        ((), {"put": {"k": b"x"}}, "invalid_attribute"),
        ((), {"put": {"k": None}}, "invalid_attribute"),
        ((), {"put": {"k": "v" * 8193}}, "attribute_too_large"),
        ((), {"put": {"k": "ü" * 4096 + "v"}}, "attribute_too_large"),
        ((), {"put": {"a": "v" * 8191, "b": "v" * 8192}}, "attributes_full"),
        (("room",), {"put": {**dict.fromkeys("abcd", "v" * 8191), "e": ""}}, "attributes_full"),
        ((), {"put": {str(number): "" for number in range(33)}}, "too_many_names"),
        ((), {"put": {"a": ""}, "drop": map(str, range(32))}, "too_many_names"),
        ((), {"drop": map(str, itertools.count())}, "too_many_names"),
        ((), {"drop": "key"}, "invalid_attribute"),
        ((), {"drop": b"key"}, "invalid_attribute"),
        ((), {"drop": 7}, "invalid_attribute"),
        ((), {"drop": [None]}, "invalid_attribute"),
        ((), {"drop": ["k" * 33]}, "invalid_attribute"),
        (("",), {"put": {"a": ""}}, "invalid_channel"),
        (("ü",), {"put": {"a": ""}}, "invalid_channel"),
        (("c" * 65,), {"put": {"a": ""}}, "invalid_channel"),
        ((), {"put": {"a": ""}, "expected_revision": -1}, "invalid_revision"),
        ((), {"put": {"a": ""}, "expected_revision": True}, "invalid_revision"),
        ((), {"put": {"a": ""}, "expected_revision": "1"}, "invalid_revision"),
        ((), {"put": {"a": ""}, "expected_revision": 1 << 63}, "invalid_revision"),
        ((), {"put": {"a": ""}, "timeout_seconds": 0}, "invalid_timeout"),
    ],
)
def test_misuse_raises_at_the_call(arguments: tuple[Any, ...], fields: dict[str, Any], code: str):
    """S37, S45: before anything is sent, and nothing is changed."""
    rig = connected()
    before = len(rig.server.received)
    with pytest.raises(InvalidArgument) as error:
        rig.call("change_attributes", *arguments, **fields)
    assert error.value.code == code
    assert len(rig.server.received) == before
    assert len(str(error.value)) < 200
    number = rig.call("change_attributes", put={"k": "v"})
    assert number == 2


@pytest.mark.parametrize(
    ("put", "what"),
    [
        ({7: "x"}, "this one is of type int"),
        ({"\ud800": "x"}, "this one cannot be encoded as UTF-8"),
        ({"k" * 33: "x"}, "this one has 33 bytes"),
        ({"k": 7}, "that of 'k' is of type int"),
        ({"k": "\ud800"}, "that of 'k' cannot be encoded as UTF-8"),
    ],
)
def test_errors_say_what_is_wrong_with_a_text(put: dict[Any, Any], what: str):
    """S37: a text that cannot be encoded is not called one of a wrong type, nor the other way round."""
    with pytest.raises(InvalidArgument, match=what):
        connected().call("change_attributes", put=put)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"uid": ""}, "invalid_uid"),
        ({"uid": 7}, "invalid_uid"),
        ({"channel": ""}, "invalid_channel"),
        ({"channel": "c" * 65}, "invalid_channel"),
        ({"keys": "key"}, "invalid_attribute"),
        ({"keys": [""]}, "invalid_attribute"),
        ({"keys": map(str, range(33))}, "too_many_names"),
        ({"timeout_seconds": -1}, "invalid_timeout"),
    ],
)
def test_misuse_of_a_reading(fields: dict[str, Any], code: str):
    """S37, S45."""
    rig = connected()
    with pytest.raises(InvalidArgument) as error:
        rig.call("read_attributes", **fields)
    assert error.value.code == code


def test_the_limits_from_below():
    """S45: what is just not too much."""
    rig = connected()
    put = {"k" * 32: "v" * 8192, "ü" * 16: "ü" * 4064}
    change(rig, put=put)
    change(rig, "room", put=dict.fromkeys("abcd", "v" * 8191))
    change(rig, put={str(number): "" for number in range(16)}, drop=[f"x{number}" for number in range(16)])
    rig.call("read_attributes", keys=map(str, range(32)))
    assert len(last(rig).keys) == 32


def test_the_limits_are_those_of_the_welcome():
    """S15, S45."""
    small = limits(
        max_attribute_key_bytes=2,
        max_attribute_value_bytes=3,
        max_attribute_pairs=2,
        max_user_attribute_bytes=7,
        max_channel_attribute_bytes=8,
    )
    rig = connected(limits=small)
    for put in ({"abc": ""}, {"a": "1234"}, {"a": "", "b": "", "c": ""}, {"ab": "123", "cd": "1"}):
        with pytest.raises(InvalidArgument):
            rig.call("change_attributes", put=put)
    change(rig, put={"ab": "123", "c": "1"})
    change(rig, "room", put={"ab": "123", "cd": "1"})
    with pytest.raises(InvalidArgument):
        rig.call("change_attributes", "room", put={"ab": "123", "cd": "12"})


def test_a_change_that_no_request_can_carry():
    """S55: whatever the server says of attributes, such a one could never be paced."""
    odd = limits(max_channel_attribute_bytes=1 << 20, max_attribute_value_bytes=1 << 20)
    rig = connected(limits=odd)
    with pytest.raises(InvalidArgument, match="limit of a request is 65536") as error:
        rig.call("change_attributes", "room", put={"k": "v" * (65536 - 28)})
    assert error.value.code == "attributes_full"
    change(rig, "room", put={"k": "v" * (65536 - 29)})


@pytest.mark.parametrize(
    "put",
    [Settings(red="1"), MappingProxyType({"red": "1"}), {Color.RED: Text("1")}, {Text("red"): "1"}],
)
def test_texts_and_mappings_of_other_classes(put: Mapping[str, str]):
    """S37: what stands in them is what counts, and nothing of them is kept."""
    rig = connected()
    number = change(rig, put=put)
    assert last(rig).put == {"red": "1"}
    assert rig.result(number) == AttributesReceipt(revision=number)
    lose(rig)
    assert wanted(rig) == {"red": "1"}


def test_a_mapping_that_is_changed_afterwards():
    """S54: a call has its own copy."""
    rig = connected()
    mine = {"a": "1"}
    number = change(rig, put=mine, answer=False)
    mine["a"] = "2"
    rig.say(Changed(number, 1))
    lose(rig)
    assert wanted(rig) == {"a": "1"}


def test_what_frontends_keep_of_arguments():
    """S37, S54: a call that waits for room is tried again, with the same."""
    assert kept(key for key in "ab") == ("a", "b")
    assert kept(["a", "b"]) == ["a", "b"]
    mine = {"a": "1"}
    assert kept(mine) == mine
    assert kept(mine) is not mine
    for unfit in ("text", b"text", 7, None):
        assert kept(unfit) is unfit
    with pytest.raises(InvalidArgument):
        kept(itertools.count())


def test_checks():
    """S45: each by itself."""
    assert [text_size(text) for text in ("", "ab", "ü", "\ud800", b"ab", None)] == [0, 2, 2, None, None, None]
    assert attributes_size("room", {"ü": "v"}, ("k",)) == 4 + 2 + 1 + 1 + 24
    assert check_keys([], 1, 1, least=0) == ()
    assert check_values(check_mapping({"a": "b"}), 1, 2) == {"a": "b"}
    with pytest.raises(InvalidArgument, match="no attributes were given; 1 to 3"):
        check_keys([], 3, 1)
    with pytest.raises(InvalidArgument, match="more than 3 attributes were given; 1 to 3"):
        check_keys("abcd".__iter__(), 3, 1)
    with pytest.raises(InvalidArgument, match="this one has 3 bytes"):
        check_keys(["abc"], 3, 2)
    with pytest.raises(InvalidArgument, match="this one is of type int"):
        check_keys([1], 3, 2)  # type: ignore[list-item]


def test_only_when_connected():
    """S35."""
    rig = Rig()
    for name, fields in (("change_attributes", {"put": {"a": "1"}}), ("read_attributes", {})):
        with pytest.raises(NotConnected, match="attributes in state DISCONNECTED: call login"):
            rig.call(name, **fields)


class TestTheCopy:
    """S25, S59: what the server confirmed is what a new session is given."""

    def test_changes_in_their_order(self):
        """Set, merge, delete, clear."""
        rig = connected()
        lose(rig)
        assert wanted(rig) is None
        rig.say(rig.welcome(), rig.restored())
        for fields, expected in (
            ({"put": {"a": "1", "b": "2"}}, {"a": "1", "b": "2"}),
            ({"put": {"b": "3"}, "drop": ["a", "x"]}, {"b": "3"}),
            ({"put": {"c": "4"}, "replace": True}, {"c": "4"}),
            ({"drop": ["c"]}, None),
            ({"put": {"d": "5"}}, {"d": "5"}),
            ({"replace": True}, None),
        ):
            change(rig, **fields)
            lose(rig)
            assert wanted(rig) == expected
            rig.say(rig.welcome(), rig.restored())

    def test_a_channels_are_not_in_it(self):
        """They are everybody's."""
        rig = connected("room")
        change(rig, "room", put={"a": "1"})
        lose(rig)
        assert wanted(rig) is None

    def test_what_is_refused_is_not_in_it(self):
        """S39: a change is carried out wholly or not at all."""
        rig = connected()
        change(rig, put={"a": "1"})
        number = change(rig, put={"a": "2"}, expected_revision=7, answer=False)
        rig.say(Failed(number, Code.REVISION_CONFLICT, "the attributes have revision 2, not 7"))
        assert rig.error(number).code == "revision_conflict"
        assert rig.error(number).outcome is Outcome.REFUSED
        lose(rig)
        assert wanted(rig) == {"a": "1"}

    def test_a_session_lost_before_the_answer(self):
        """S9, S34: whether it was carried out is unknown, and the copy is what it was. It is not sent again."""
        rig = connected()
        change(rig, put={"a": "1"})
        number = change(rig, put={"a": "2"}, answer=False)
        gone(rig)
        error = rig.error(number)
        assert isinstance(error, RequestAbandoned)
        assert (error.code, error.outcome) == ("session_lost", Outcome.UNKNOWN)
        assert wanted(rig) == {"a": "1"}
        assert rig.server.of_type(ChangeAttributes) == []

    def test_one_that_was_never_sent(self):
        """S34: it goes to the new session, behind what that is given."""
        rig = connected()
        change(rig, put={"a": "1"})
        rig.lose()
        number = change(rig, put={"b": "2"}, answer=False)
        rig.advance(0.1)
        rig.open()
        rig.say(rig.welcome(resumed=False, session_id=OTHER_SESSION), Restored((), False, AttributesResult()))
        assert wanted(rig) == {"a": "1"}
        assert last(rig) == ChangeAttributes(number, "", False, {"b": "2"})
        rig.say(Changed(number, 1))
        lose(rig)
        assert wanted(rig) == {"a": "1", "b": "2"}

    def test_sent_again_after_a_resume(self):
        """S46: with its number."""
        rig = connected()
        number = change(rig, put={"a": "1"}, answer=False)
        lose(rig)
        assert wanted(rig) is None
        rig.say(rig.welcome(), rig.restored())
        assert last(rig) == ChangeAttributes(number, "", False, {"a": "1"})
        rig.say(Changed(number, 5))
        assert rig.result(number) == AttributesReceipt(revision=5)

    @pytest.mark.parametrize("how", ["timeout", "cancel"])
    def test_a_change_that_is_given_up(self, how: str):
        """S9, S25: nobody waits for it, but if the server carries it out it is in the copy; no second end comes."""
        rig = connected()
        number = change(rig, put={"a": "1"}, answer=False, timeout_seconds=1.0)
        if how == "cancel":
            rig.call("cancel", number)
        rig.advance(2.0)
        if how == "timeout":
            assert isinstance(rig.error(number), RequestTimeout)
            assert rig.error(number).outcome is Outcome.UNKNOWN
        ends = dict(rig.ends)
        assert rig.server.of_type(Progress)[-1].lowest_unanswered == number  # its outcome is still wanted
        rig.say(Changed(number, 1))
        assert rig.ends == ends
        lose(rig)
        assert wanted(rig) == {"a": "1"}

    def test_one_that_is_given_up_before_it_is_sent(self):
        """S9: it was not sent, and never is."""
        rig = connected()
        rig.lose()
        number = change(rig, put={"a": "1"}, answer=False, timeout_seconds=0.01)
        rig.advance(0.02)
        assert rig.error(number).outcome is Outcome.NOT_SENT
        rig.advance(0.1)
        rig.open()
        rig.say(rig.welcome(), rig.restored())
        assert rig.server.of_type(ChangeAttributes) == []

    def test_one_that_is_given_up_and_whose_session_is_lost(self):
        """S9: no end of it comes out."""
        rig = connected()
        number = change(rig, put={"a": "1"}, answer=False)
        rig.call("cancel", number)
        gone(rig)
        assert number not in rig.ends
        assert wanted(rig) is None

    def test_a_given_up_change_of_a_channel(self):
        """It is not in the copy, so nothing is to be known of it."""
        rig = connected()
        number = change(rig, "room", put={"a": "1"}, answer=False)
        rig.call("cancel", number)
        rig.say(Changed(number, 1))
        lose(rig)
        assert wanted(rig) is None
        assert number not in rig.ends

    @pytest.mark.parametrize("end", ["logout", "kick"])
    def test_another_login_begins_with_none(self, end: str):
        """S59: a `login` call states nothing wanted."""
        rig = connected()
        change(rig, put={"a": "1"})
        if end == "kick":
            rig.say(Kicked(Code.KICKED, "out"))
        rig.call("logout")
        rig.attach = 0
        rig.advance(5.0)
        rig.login()
        rig.open()
        assert wanted(rig) is None


class TestLost:
    """S25, S44: what cannot be had is told, and forgotten."""

    def test_refused(self):
        """Behind the change of the state; the connection goes on, and the next session is not asked again."""
        rig = connected()
        change(rig, put={"a": "1"})
        gone(rig, AttributesResult(Code.ATTRIBUTES_FULL, "too many"))
        assert rig.state is ConnectionState.CONNECTED
        lost = AttributesLost(code="attributes_full", message="too many")
        assert rig.events[-1] == lost
        assert isinstance(rig.events[-2], ConnectionStateChanged)
        assert home_of(lost) == ""
        lose(rig)
        assert wanted(rig) is None

    def test_granted(self):
        """Nothing is told."""
        rig = connected()
        change(rig, put={"a": "1"})
        gone(rig, AttributesResult())
        assert rig.of_type(AttributesLost) == []
        lose(rig)
        assert wanted(rig) == {"a": "1"}

    def test_in_another_piece_than_the_last_it_does_not_count(self):
        """S59: the answer may be lost between the two."""
        rig = connected()
        change(rig, put={"a": "1"})
        lose(rig)
        rig.say(rig.welcome(), Restored((), True, AttributesResult(Code.ATTRIBUTES_FULL, "no")))
        lose(rig)
        rig.say(rig.welcome(), Restored((), False, None))
        assert rig.of_type(AttributesLost) == []

    def test_more_than_fits_before_the_welcome(self):
        """S59: then the statement comes behind it."""
        rig = connected()
        change(rig, put={"a": "v" * 8000})
        change(rig, put={"b": "v" * 8000})
        lose(rig)
        assert rig.server.of_type(Want)
        rig.say(rig.welcome(), rig.restored())
        change(rig, put={"c": "v" * 375})
        lose(rig)
        assert rig.server.of_type(Want) == []
        rig.say(rig.welcome())
        assert {key: len(value) for key, value in wanted(rig).items()} == {"a": 8000, "b": 8000, "c": 375}
        assert max(rig.server.frames) > 16 * 1024

    def test_more_than_the_server_takes_now(self):
        """S45, S59: after a restart with smaller limits: stating them for ever would be of no use."""
        rig = connected("room")
        change(rig, put={"a": "v" * 8000, "b": "v" * 8000})
        change(rig, put={"c": "v" * 375})
        lose(rig)
        small = limits(max_frame_bytes=16 * 1024, max_request_bytes=16 * 1024, max_message_bytes=1024)
        rig.say(rig.welcome(resumed=False, session_id=OTHER_SESSION, limits=small))
        assert wanted(rig) is None
        assert [one.channel for one in rig.server.of_type(Want)[-1].channels] == ["room"]
        assert rig.of_type(AttributesLost) == []
        rig.say(rig.restored())
        (lost,) = rig.of_type(AttributesLost)
        assert lost.code == "attributes_full"
        assert "16384" in lost.message
        lose(rig)
        assert wanted(rig) is None

    def test_the_same_with_a_logout_before_it_could_be_told(self):
        """The next login knows nothing of it."""
        rig = connected()
        change(rig, put={"a": "v" * 8000, "b": "v" * 8000})
        change(rig, put={"c": "v" * 375})
        lose(rig)
        small = limits(max_frame_bytes=16 * 1024, max_request_bytes=16 * 1024, max_message_bytes=1024)
        rig.say(rig.welcome(resumed=False, session_id=OTHER_SESSION, limits=small))
        rig.call("logout")
        rig.advance(5.0)
        rig.attach = 0
        rig.login()
        rig.accept()
        assert rig.of_type(AttributesLost) == []


class TestNotices:
    """S39, S43, S52."""

    ENTRY = AttributesEntry("bob", True, {"topic": "tea"}, ("x",), 1500)

    def test_an_event_of_the_channel(self):
        """In the order of its log; one's own are passed over, unless they were asked for."""
        rig = connected("lobby")
        rig.join("echo", echo=True)
        own = AttributesEntry("alice", False, {"topic": "me"}, (), 1500)
        for name in ("lobby", "echo"):
            rig.say(Entries(name, EPOCH, 1, [own, self.ENTRY]))
            assert rig.core.cursor(name) == 2
        told = rig.of_type(ChannelAttributesChanged)
        assert [(event.channel, event.uid, event.offset) for event in told] == [
            ("lobby", "bob", 2),
            ("echo", "alice", 1),
            ("echo", "bob", 2),
        ]
        assert told[0] == ChannelAttributesChanged(
            channel="lobby",
            uid="bob",
            replaced=True,
            put={"topic": "tea"},
            dropped=("x",),
            changed_at=1.5,
            offset=2,
        )
        assert home_of(told[0]) == "lobby"

    def test_in_the_history(self):
        """As events with their offsets."""
        rig = connected("lobby")
        number = rig.call("read_history", "lobby")
        rig.say(History(number, EPOCH, 5, False, [self.ENTRY]))
        (event,) = rig.result(number).events
        assert (type(event), event.offset, event.put) == (ChannelAttributesChanged, 5, {"topic": "tea"})

    def test_its_bytes_in_a_queue(self):
        """S52: all that a peer can make large, however short each."""
        event = ChannelAttributesChanged(
            channel="c", uid="bob", replaced=False, put={"k": "ü"}, dropped=("xy",), changed_at=0.0, offset=1
        )
        assert event_bytes(event) == 3 + 1 + 4 + 2 + 2 * 128
        assert event_bytes(MemberJoined(channel="c", uid="bob", offset=1)) == 3

    def test_an_iterated_channel_is_held_for_them(self):
        """S52: notices fill a queue as messages do."""
        rig = connected("lobby")
        rig.call("iterating", "lobby", True)
        large = AttributesEntry("bob", False, {str(number): "v" * 8000 for number in range(4)}, (), 0)
        for first in range(1, 301, 3):
            rig.say(Entries("lobby", EPOCH, first, [large] * 3))
        held = rig.core.cursor("lobby")
        assert 240 < held < 280
        assert type(rig.server.received[-1]).__name__ == "Hold"


@pytest.mark.parametrize(
    "answer",
    [
        lambda number: Changed(number, -1),
        lambda number: Attributes(number, 1, ()),
        lambda number: Sent(number, EPOCH, 1, 0),
    ],
)
def test_an_answer_that_no_server_may_give(answer: Any):
    """S50: the transport is given up, and the request stays open."""
    rig = connected()
    number = rig.call("change_attributes", put={"a": "1"})
    rig.say(answer(number))
    assert rig.server.closed_with == 1002
    assert number not in rig.ends


@pytest.mark.parametrize("answer", [lambda number: Attributes(number, -1, ()), lambda number: Changed(number, 1)])
def test_the_same_of_a_reading(answer: Any):
    """S50."""
    rig = connected()
    number = rig.call("read_attributes")
    rig.say(answer(number))
    assert rig.server.closed_with == 1002
    assert number not in rig.ends


def test_answers_that_nobody_waits_for():
    """An unknown number is passed over."""
    rig = connected()
    rig.say(Changed(99, 1), Attributes(99, 1, ()))
    assert rig.state is ConnectionState.CONNECTED
    assert rig.server.closed_with is None


def test_the_bytes_of_changes_are_paced():
    """S55: as those of messages."""
    small = limits(append_burst_bytes=2 * 65536, append_bytes_per_second=1000)
    rig = connected(limits=small)
    for _ in range(9):
        rig.call("change_attributes", put={"a": "v" * 8000})
    sent = len(rig.server.of_type(ChangeAttributes))
    assert 7 <= sent < 9
    rig.advance(9.0)
    assert len(rig.server.of_type(ChangeAttributes)) == 9
