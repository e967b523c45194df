"""Peer messages and the inbox of a client (S9, S33, S34, S36, S37, S42, S45, S48, S50, S52, S55, S56, S59)."""

from __future__ import annotations

from typing import Any

import pytest

from core.fake_server import EPOCH, OTHER_EPOCH, OTHER_SESSION, Rig, limits
from rtm_sansio.codes import Code
from rtm_sansio.config import ClientConfig
from rtm_sansio.errors import InvalidArgument, NotConnected, NotJoined, Outcome, RequestAbandoned
from rtm_sansio.events import (
    ConnectionStateChanged,
    MemberCounts,
    MessageReceived,
    MessagesLost,
    PeerDelivery,
    SendReceipt,
)
from rtm_sansio.messages import (
    Entries,
    Failed,
    Gap,
    Going,
    GoOn,
    Hold,
    InboxPlace,
    Logout,
    PeerBytes,
    PeerBytesEntry,
    PeerSent,
    PeerText,
    PeerTextEntry,
    Progress,
    Sent,
    TextEntry,
    UnknownEntry,
    Want,
    WantedChannel,
    WantedInbox,
)
from rtm_sansio.messages import MemberCounts as MemberCountsMessage

INBOX_EPOCH = b"inbox--1"
OTHER_INBOX = b"inbox--2"


def connected(**options: Any) -> Rig:
    rig = Rig(**options)
    rig.connect("lobby")
    return rig


def comes_back(rig: Rig, **changes: Any) -> None:
    rig.lose()
    rig.advance(1.1)
    rig.accept(**changes)


def arrive(rig: Rig, first: int, *texts: str, epoch: bytes = INBOX_EPOCH, offline: bool = False) -> None:
    """Entries of the inbox arrive."""
    rig.say(Entries("", epoch, first, [PeerTextEntry("bob", text, 1000, offline) for text in texts]))


def received(rig: Rig) -> list[Any]:
    return [event.message for event in rig.of_type(MessageReceived)]


class TestSending:
    """S36."""

    def test_where_it_went(self) -> None:
        """S36: text and bytes; with what there is to it."""
        rig = connected()
        one = rig.call("send_to_peer", "bob", "hi")
        two = rig.call("send_to_peer", "bob", b"\x00", offline=True, description="about")
        assert rig.server.of_type(PeerText) == [PeerText(one, "bob", "hi", False, "")]
        assert rig.server.of_type(PeerBytes) == [PeerBytes(two, "bob", b"\x00", True, "about")]
        rig.say(PeerSent(one, True, False, 2500), PeerSent(two, False, False, 3500))
        assert rig.result(one) == PeerDelivery(received=True, kept=False, sent_at=2.5)
        assert rig.result(two) == PeerDelivery(received=False, kept=False, sent_at=3.5)

    @pytest.mark.parametrize(
        ("arguments", "options", "code"),
        [
            (("", "x"), {}, "invalid_uid"),
            (("b" * 65, "x"), {}, "invalid_uid"),
            ((7, "x"), {}, "invalid_uid"),
            (("bob", 7), {}, "invalid_message"),
            (("bob", "x" * 32769), {}, "message_too_large"),
            (("bob", "x"), {"description": 7}, "invalid_description"),
            (("bob", "x"), {"description": "\ud800"}, "invalid_description"),
            (("bob", b"x"), {"description": "\u00e9" * 16384}, "message_too_large"),
            (("bob", "x"), {"timeout_seconds": 0}, "invalid_timeout"),
        ],
    )
    def test_misuse_raises_at_the_call(self, arguments: Any, options: Any, code: str) -> None:
        """S37, S45: with the limit in the message; nothing was sent."""
        rig = connected()
        before = len(rig.server.received)
        with pytest.raises(InvalidArgument) as error:
            rig.call("send_to_peer", *arguments, **options)
        assert error.value.code == code
        if code == "message_too_large":
            assert "32768" in str(error.value)
        assert len(rig.server.received) == before

    def test_the_largest_one(self) -> None:
        """S45: body and description together."""
        rig = connected()
        rig.call("send_to_peer", "b" * 64, "x" * 32000, description="y" * 768)
        assert len(rig.server.of_type(PeerText)) == 1

    def test_without_a_session(self) -> None:
        """S35."""
        with pytest.raises(NotConnected):
            Rig().call("send_to_peer", "bob", "x")

    def test_the_inbox_is_no_channel(self) -> None:
        """S37: its name on the wire is none that an application could join, send to or leave."""
        rig = connected()
        for command in ("leave", "list_members", "read_history"):
            with pytest.raises(NotJoined):
                rig.call(command, "")
        with pytest.raises(NotJoined):
            rig.call("publish", "", "x")
        with pytest.raises(InvalidArgument):
            rig.call("join", "")

    def test_it_does_not_count_as_a_channel(self) -> None:
        """S45."""
        rig = Rig()
        rig.connect("one", limits=limits(max_channels=2))
        rig.join("two")
        with pytest.raises(InvalidArgument):
            rig.call("join", "three")

    def test_it_is_paced_by_its_bytes(self) -> None:
        """S55: as other messages."""
        rig = Rig()
        rig.connect(limits=limits(append_bytes_per_second=65_536, append_burst_bytes=131_072))
        for _ in range(4):
            rig.call("send_to_peer", "bob", bytes(30_000), description="x" * 1000)
        assert len(rig.server.of_type(PeerBytes)) == 2
        rig.advance(1.0)
        assert len(rig.server.of_type(PeerBytes)) == 4

    def test_refused(self) -> None:
        """S9, S55: nothing was carried out."""
        rig = connected()
        number = rig.call("send_to_peer", "bob", "x", offline=True)
        rig.say(Failed(number, Code.SENDER_SHARE, "20 of yours are kept"))
        error = rig.error(number)
        assert (error.code, error.outcome) == ("sender_share", Outcome.REFUSED)
        assert "20 of yours are kept" in str(error)

    def test_the_answer_is_lost(self) -> None:
        """S34, S46: sent again under its number; gone with the session it may have been sent."""
        rig = connected()
        number = rig.call("send_to_peer", "bob", "x")
        comes_back(rig)
        assert [message.number for message in rig.server.of_type(PeerText)] == [number]
        comes_back(rig, session_id=OTHER_SESSION, resumed=False)
        error = rig.error(number)
        assert isinstance(error, RequestAbandoned)
        assert (error.code, error.outcome) == ("session_lost", Outcome.UNKNOWN)
        assert rig.server.of_type(PeerText) == []

    def test_an_answer_that_does_not_fit(self) -> None:
        """S50: a protocol error; an answer to what nobody asked is passed over."""
        rig = connected()
        rig.say(PeerSent(99, True, False, 0))
        number = rig.call("send_to_peer", "bob", "x")
        rig.say(Sent(number, EPOCH, 1, 0))
        assert rig.server.closed_with == 1002
        rig = connected()
        number = rig.publish("lobby", "x")
        rig.say(PeerSent(number, True, False, 0))
        assert rig.server.closed_with == 1002

    def test_other_answers_are_as_they_were(self) -> None:
        """S36: one row for each answer."""
        rig = connected()
        number = rig.publish("lobby", "x")
        rig.say(Sent(number, EPOCH, 1, 2000))
        assert rig.result(number) == SendReceipt(offset=1, epoch=EPOCH, sent_at=2.0)
        number = rig.call("count_members", ["lobby"])
        rig.say(MemberCountsMessage(number, (1,)))
        assert rig.result(number) == MemberCounts(counts={"lobby": 1})


class TestReading:
    """S33, S42, S56."""

    def test_entries_become_events(self) -> None:
        """S36: text and bytes, one's own too; what a later version has is passed over."""
        rig = connected()
        entries: list[Any] = [
            PeerTextEntry("bob", "hi", 1500, False, "about"),
            PeerBytesEntry("alice", b"\x00", 2500, True),
            TextEntry("bob", "an entry of channels says nothing here", 0),
            PeerTextEntry("bob", "on", 3500),
        ]
        rig.say(Entries("", INBOX_EPOCH, 1, entries))
        shared: dict[str, Any] = {"kept": False, "lost_before": 0}
        assert rig.of_type(MessageReceived) == [
            MessageReceived(uid="bob", message="hi", description="about", offset=1, sent_at=1.5, **shared),
            MessageReceived(uid="alice", message=b"\x00", description="", offset=2, sent_at=2.5, **shared),
            MessageReceived(uid="bob", message="on", description="", offset=4, sent_at=3.5, **shared),
        ]

    def test_entries_of_an_inbox_say_nothing_in_a_channel(self) -> None:
        """S50."""
        rig = connected()
        rig.say(Entries("lobby", EPOCH, 1, [PeerTextEntry("bob", "hi", 0)]))
        assert rig.events[2:] == []
        assert rig.core.cursor("lobby") == 1
        assert UnknownEntry(200).tag == 200

    def test_what_was_kept_is_marked(self) -> None:
        """S56: sent with offline before this session began; CONNECTED stands before it."""
        rig = Rig()
        rig.connect(inbox=InboxPlace(INBOX_EPOCH, 3, 5))
        rig.say(
            Entries(
                "",
                INBOX_EPOCH,
                4,
                [
                    PeerTextEntry("bob", "kept", 0, True),
                    PeerTextEntry("bob", "older", 0, False),
                    PeerTextEntry("bob", "live", 0, True),
                ],
            )
        )
        assert [(event.message, event.kept) for event in rig.of_type(MessageReceived)] == [
            ("kept", True),
            ("older", False),
            ("live", False),
        ]
        assert isinstance(rig.events[1], ConnectionStateChanged)

    def test_once_over_interruptions(self) -> None:
        """S33, S59: it is stated with its cursor, and goes on behind it, marked as before."""
        rig = Rig()
        rig.connect(inbox=InboxPlace(INBOX_EPOCH, 0, 3))
        arrive(rig, 1, "a", "b", offline=True)
        comes_back(rig, inbox=InboxPlace(INBOX_EPOCH, 1, 3))
        assert rig.server.of_type(Want) == [Want((), WantedInbox(INBOX_EPOCH, 2))]
        arrive(rig, 2, "b", "c", "d", offline=True)
        assert [(event.message, event.kept) for event in rig.of_type(MessageReceived)] == [
            ("a", True),
            ("b", True),
            ("c", True),
            ("d", False),
        ]

    def test_a_new_session_goes_on_at_the_cursor(self) -> None:
        """S25, S56: after an automatic login; what came before this session is older."""
        rig = connected()
        arrive(rig, 1, "a")
        comes_back(rig, session_id=OTHER_SESSION, resumed=False, inbox=InboxPlace(INBOX_EPOCH, 0, 3))
        want = rig.server.of_type(Want)[0]
        assert want == Want((WantedChannel("lobby", EPOCH, 0),), WantedInbox(INBOX_EPOCH, 1))
        arrive(rig, 2, "kept", "kept too", "live", offline=True)
        assert [event.kept for event in rig.of_type(MessageReceived)] == [False, True, True, False]

    def test_a_server_without_memory(self) -> None:
        """S33, S56: a gap of unknown size; what is kept in the new log is marked, and confirmed by its own offsets."""
        rig = connected()
        arrive(rig, 1, "a", "b", "c")
        comes_back(rig, session_id=OTHER_SESSION, resumed=False, inbox=InboxPlace(OTHER_INBOX, 0, 1))
        rig.advance(1.1)
        assert {progress.inbox for progress in rig.server.of_type(Progress)} == {0}
        rig.say(Gap("", OTHER_INBOX, 0, None))
        arrive(rig, 1, "d", "e", epoch=OTHER_INBOX, offline=True)
        assert rig.of_type(MessagesLost) == [MessagesLost(channel="", count=None)]
        last = rig.of_type(MessageReceived)[-2:]
        assert [(event.kept, event.lost_before) for event in last] == [(True, None), (False, 0)]
        rig.advance(1.1)
        assert rig.server.of_type(Progress)[-1].inbox == 2

    def test_a_hole_is_asked_for(self) -> None:
        """S48."""
        rig = connected()
        arrive(rig, 3, "c")
        assert rig.server.of_type(GoOn) == [GoOn("", INBOX_EPOCH, 0)]
        arrive(rig, 4, "passed over")
        rig.say(Going(""))
        arrive(rig, 1, "a", "b", "c")
        assert received(rig) == ["a", "b", "c"]

    def test_a_login_after_a_logout_begins_anew(self) -> None:
        """S56, S59: a ``login`` call states nothing."""
        rig = connected()
        arrive(rig, 1, "a")
        rig.call("logout")
        rig.login()
        rig.accept(session_id=OTHER_SESSION, resumed=False, inbox=InboxPlace(OTHER_INBOX, 0, 1))
        assert rig.server.of_type(Want) == [Want((), None)]
        arrive(rig, 1, "b", epoch=OTHER_INBOX, offline=True)
        assert [(event.message, event.kept) for event in rig.of_type(MessageReceived)] == [("a", False), ("b", True)]

    @pytest.mark.parametrize(
        "place",
        [
            InboxPlace(b"short", 0, 0),
            InboxPlace(INBOX_EPOCH, -1, 0),
            InboxPlace(INBOX_EPOCH, 0, -1),
            InboxPlace(INBOX_EPOCH, 1 << 63, 0),
            InboxPlace(INBOX_EPOCH, 0, 1 << 63),
        ],
    )
    def test_an_impossible_place(self, place: InboxPlace) -> None:
        """S50."""
        rig = Rig()
        rig.login()
        rig.open()
        rig.say(rig.welcome(inbox=place))
        assert rig.server.closed_with == 1002


class TestConfirming:
    """S56: the position is told at most 1 s later."""

    def test_alone_within_a_second(self) -> None:
        """S56: once for all that came meanwhile; a gap moves it too."""
        rig = connected()
        rig.advance(1.5)
        arrive(rig, 1, "a")
        rig.advance(0.9)
        arrive(rig, 2, "b")
        before = len(rig.server.of_type(Progress))
        rig.advance(0.1)
        assert [progress.inbox for progress in rig.server.of_type(Progress)[before:]] == [2]
        rig.say(Gap("", INBOX_EPOCH, 7, 5))
        rig.advance(0.99)
        assert len(rig.server.of_type(Progress)) == before + 1
        rig.advance(0.02)
        assert rig.server.of_type(Progress)[-1].inbox == 7
        rig.advance(10.0)
        assert len(rig.server.of_type(Progress)) == before + 2

    def test_with_the_next_batch(self) -> None:
        """S46: in front of it."""
        rig = connected()
        rig.advance(1.5)
        arrive(rig, 1, "a")
        rig.call("send_to_peer", "bob", "x")
        progress, message = rig.server.received[-2:]
        assert (progress.inbox, type(message)) == (1, PeerText)

    def test_with_a_logout(self) -> None:
        """S7, S56: or it would come again at the next login."""
        rig = connected()
        rig.advance(1.5)
        arrive(rig, 1, "a")
        rig.call("logout")
        progress, logout = rig.server.received[-2:]
        assert (progress.inbox, type(logout)) == (1, Logout)
        rig = connected()
        rig.lose()
        rig.call("logout")
        assert rig.server.of_type(Logout) == []

    def test_on_the_next_transport(self) -> None:
        """S56: what the last one could not tell."""
        rig = connected()
        rig.advance(1.5)
        arrive(rig, 1, "a")
        comes_back(rig)
        rig.advance(1.1)
        assert rig.server.of_type(Progress)[-1].inbox == 1


class TestBackpressure:
    """S52: while the client's own events are iterated the inbox is lossless; the transport goes on."""

    CONFIG = ClientConfig(max_queued_events=4)

    @pytest.mark.parametrize("before", ["login", "welcome", "entries"])
    def test_held_and_gone_on(self, before: str) -> None:
        """S52: whenever the iteration began, be it before there was an inbox."""
        rig = Rig(config=self.CONFIG)
        if before == "login":
            rig.call("iterating", "", True)
        rig.login()
        if before == "welcome":
            rig.call("iterating", "", True)
        rig.accept()
        if before == "entries":
            rig.call("iterating", "", True)
        arrive(rig, 1, *"abcdefg")
        assert received(rig) == list("abcd")
        assert rig.server.of_type(Hold) == [Hold("")]
        arrive(rig, 8, "h")
        rig.call("consumed", "", 1, 4)
        assert rig.server.of_type(GoOn) == []
        rig.call("consumed", "", 1, 4)
        assert rig.server.of_type(GoOn) == [GoOn("", INBOX_EPOCH, 4)]
        rig.say(Going(""))
        arrive(rig, 5, "e", "f")
        assert received(rig) == list("abcdef")

    def test_what_is_held_is_not_confirmed(self) -> None:
        """S52, S56: the server keeps it."""
        rig = Rig(config=self.CONFIG)
        rig.connect()
        rig.call("iterating", "", True)
        arrive(rig, 1, *"abcdefg")
        rig.advance(1.1)
        assert rig.server.of_type(Progress)[-1].inbox == 4

    def test_what_waits_when_it_begins(self) -> None:
        """S52: counts."""
        rig = Rig(config=self.CONFIG)
        rig.connect()
        arrive(rig, 1, *"abcdefg")
        assert received(rig) == list("abcdefg")
        rig.call("iterating", "", True, backlog_events=4, backlog_bytes=4)
        arrive(rig, 8, "h")
        assert rig.server.of_type(Hold) == [Hold("")]
        rig.call("iterating", "", False)
        assert rig.server.of_type(GoOn) == [GoOn("", INBOX_EPOCH, 7)]

    def test_nobody_iterates_after_a_logout(self) -> None:
        """S52: the iterator has ended with the session; nothing is held for it in the next."""
        rig = Rig(config=self.CONFIG)
        rig.connect()
        rig.call("iterating", "", True)
        rig.call("logout")
        rig.login()
        rig.accept(session_id=OTHER_SESSION, resumed=False)
        arrive(rig, 1, *"abcdefg")
        assert received(rig) == list("abcdefg")
        assert rig.server.of_type(Hold) == []

    def test_still_iterated_after_a_login_that_failed(self) -> None:
        """S52: the iterator goes on, and what it waits for is bounded."""
        rig = Rig(config=self.CONFIG)
        rig.call("iterating", "", True)
        rig.login()
        rig.advance(7.0)
        assert rig.state.value == "DISCONNECTED"
        rig.login()
        rig.accept()
        arrive(rig, 1, *"abcdefg")
        assert received(rig) == list("abcd")

    def test_a_channel_is_not_delayed(self) -> None:
        """S52: by an inbox that is held."""
        rig = Rig(config=self.CONFIG)
        rig.connect("lobby")
        rig.call("iterating", "", True)
        arrive(rig, 1, *"abcdefg")
        rig.entries(1, "x")
        rig.entries(2, "y", epoch=OTHER_EPOCH)
        assert rig.messages() == ["x"]
