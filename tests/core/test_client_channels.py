"""Channels of a client (S33, S42-S44, S48, S52, S59)."""

from __future__ import annotations

from typing import Any

import pytest

from core.fake_server import EPOCH, OTHER_EPOCH, OTHER_SESSION, Rig, limits
from rtm_sansio.codes import Code
from rtm_sansio.config import ClientConfig
from rtm_sansio.events import ChannelLost, ChannelMessageReceived, MemberJoined, MemberLeft, MessagesLost
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
    Login,
    TextEntry,
    Want,
    WantedChannel,
    WantedInbox,
)
from rtm_sansio.states import ConnectionState


def connected(*channels: str, **options: Any) -> Rig:
    rig = Rig(**options)
    rig.connect(*(channels or ("lobby",)))
    return rig


def comes_back(rig: Rig, **changes: Any) -> None:
    rig.lose()
    rig.advance(1.1)
    rig.accept(**changes)


def test_events_of_a_channel():
    """S33, S38, S47: what follows the join's offset, and nothing before."""
    rig = connected()
    rig.join("other", offset=5)
    entries: list[Any] = [
        TextEntry("bob", "old", 0),
        TextEntry("bob", "new", 2000),
        JoinedEntry("eve"),
        LeftEntry("eve", 1),
    ]
    rig.say(Entries("other", EPOCH, 5, entries))
    assert [type(event) for event in rig.events[2:]] == [ChannelMessageReceived, MemberJoined, MemberLeft]
    assert rig.events[2] == ChannelMessageReceived(channel="other", uid="bob", message="new", offset=6, sent_at=2.0)


def test_own_messages_and_echo():
    """S43: passed over unless asked for."""
    rig = connected()
    rig.join("loud", echo=True)
    rig.entries(1, "mine", uid="alice")
    rig.entries(1, "mine", uid="alice", channel="loud")
    assert (rig.messages("lobby"), rig.messages("loud")) == ([], ["mine"])
    rig.entries(2, "next")
    assert rig.messages("lobby") == ["next"]


def test_cursor_is_stated():
    """S59, F-31: the cursor of what entered the app's queue; a second resume states the same."""
    rig = connected()
    rig.entries(1, "a", "b")
    for _ in range(2):
        comes_back(rig)
        assert rig.server.of_type(Want) == [Want((WantedChannel("lobby", EPOCH, 2),), WantedInbox(b"inbox--1", 0))]
    assert rig.messages() == ["a", "b"]


def test_statement_stands_right_behind_the_login():
    """S59: without waiting, in one batch."""
    rig = connected()
    rig.lose()
    rig.advance(0.6)
    rig.open()
    assert [type(one) for one in rig.server.received] == [Login, Want]
    assert len(rig.server.frames) == 1


def test_large_statement_comes_behind_the_welcome():
    """S59: when it would exceed 16 KiB."""
    names = [f"{index:064d}" for index in range(300)]
    rig = Rig()
    rig.connect(limits=limits(max_channels=300))
    for name in names:
        rig.join(name)
    rig.lose()
    left = rig.call("leave", names[0])
    rig.advance(0.6)
    rig.open()
    assert [type(one) for one in rig.server.received] == [Login]
    joined = rig.call("join", "late")
    rig.call("leave", names[1])
    rig.say(rig.welcome(limits=limits(max_channels=300)))
    (want,) = rig.server.of_type(Want)
    assert [one.channel for one in want.channels] == names[1:], "as stated when the login went out"
    assert max(rig.server.frames[:1]) <= 16 * 1024
    rig.say(rig.restored())
    assert rig.result(left) is None
    assert [one.channel for one in rig.server.of_type(Leave)] == [names[1]]
    assert [one.number for one in rig.server.of_type(Join)] == [joined]


def test_large_statement_of_an_attempt_that_failed():
    """S59: each attempt states anew."""
    rig = Rig()
    rig.connect(limits=limits(max_channels=300))
    for index in range(250):
        rig.join(f"{index:064d}")
    rig.lose()
    rig.advance(0.6)
    rig.open()
    assert [type(one) for one in rig.server.received] == [Login]
    rig.lose()
    for index in range(249):
        rig.call("leave", f"{index:064d}")
    rig.advance(1.1)
    rig.open()
    assert [type(one) for one in rig.server.received] == [Login, Want]
    rig.say(rig.welcome(limits=limits(max_channels=300)))
    assert len(rig.server.of_type(Want)) == 1


# --- gaps


def test_gap_after_a_reconnect():
    """S33, S42: MessagesLost first, then what remains; the next message shows it."""
    rig = connected()
    comes_back(rig)
    rig.say(Gap("lobby", EPOCH, 40, 40))
    rig.entries(41, "x", "y")
    assert rig.of_type(MessagesLost) == [MessagesLost(channel="lobby", count=40)]
    assert [event.lost_before for event in rig.of_type(ChannelMessageReceived)] == [40, 0]


def test_gap_of_another_epoch():
    """S33, F-35: unknown size; the log goes on in the new epoch."""
    rig = connected()
    comes_back(rig, resumed=False, session_id=OTHER_SESSION)
    rig.say(Gap("lobby", OTHER_EPOCH, 3, None))
    rig.entries(4, "x", epoch=OTHER_EPOCH)
    assert rig.of_type(MessagesLost) == [MessagesLost(channel="lobby", count=None)]
    comes_back(rig)
    assert rig.server.of_type(Want)[0].channels == (WantedChannel("lobby", OTHER_EPOCH, 4),)


@pytest.mark.parametrize("offset", [-1, 2**63 - 1, 2**64 - 1])
@pytest.mark.parametrize("kind", ["joined", "entries", "gap", "epoch", "members"])
def test_places_that_no_log_has(kind: str, offset: int):
    """S50, F-33: what would be quoted again, or counted from, is looked at before it is kept."""
    rig = connected()
    rig.entries(1, "a")
    if kind in ("joined", "members"):
        number = rig.call("join", "other")
        beyond = offset if offset < 0 else min(offset + 1, 2**64 - 1)
        at, count = (beyond, 1) if kind == "joined" else (5, -5)
        rig.say(Joined(number, EPOCH, at, count, None))
    elif kind == "entries":
        rig.entries(-9 if offset < 0 else min(offset, 2**64 - 5), *"xyz")
    elif kind == "gap":
        rig.say(Gap("lobby", EPOCH, min(offset + 1, 2**64 - 1) if offset > 0 else offset, 1))
    else:
        rig.say(Gap("lobby", EPOCH * 100, 5, 1))
    assert rig.server.closed_with == 1002
    comes_back(rig)
    assert rig.server.of_type(Want)[0].channels[0] == WantedChannel("lobby", EPOCH, 1)


def test_gaps_do_not_fill_a_full_queue():
    """S52, S50: the log is held, and asked for again once there is room."""
    rig = iterating()
    rig.entries(1, *"abcd")
    rig.say(*[Gap("lobby", EPOCH, 10 + index, 1) for index in range(50)])
    assert rig.of_type(MessagesLost) == []
    assert rig.server.of_type(Hold) == [Hold("lobby")]


@pytest.mark.parametrize(("cursor", "count"), [(-1, 0), (5, -1), (5, 2**63)])
def test_impossible_gap(cursor: int, count: int):
    """S50, F-33: negative figures are a protocol error."""
    rig = connected()
    rig.say(Gap("lobby", EPOCH, cursor, count))
    assert rig.server.closed_with == 1002
    assert rig.of_type(MessagesLost) == []


def test_hole():
    """S48: not delivered; asked for from the cursor; everything up to the answer passed over."""
    rig = connected()
    rig.entries(1, "a")
    rig.entries(3, "c")
    assert rig.server.of_type(GoOn) == [GoOn("lobby", EPOCH, 1)]
    rig.entries(4, "d")
    rig.say(Going("lobby"))
    rig.entries(2, "b", "c", "d")
    assert rig.messages() == ["a", "b", "c", "d"]
    assert rig.server.of_type(GoOn) == [GoOn("lobby", EPOCH, 1)]


def test_hole_behind_the_answer():
    """S48: a protocol error, and a loud loss."""
    rig = connected()
    rig.entries(3, "c")
    rig.say(Going("lobby"))
    rig.entries(3, "c")
    assert rig.server.closed_with == 1002
    rig.advance(0.5)
    rig.accept()
    rig.entries(1, "a", "b", "c")
    assert rig.messages() == ["a", "b", "c"]


def test_other_logs_go_on_meanwhile():
    """S48, S52: a hole in one log delays no other."""
    rig = connected("lobby", "other")
    rig.entries(5, "x")
    rig.entries(1, "y", channel="other")
    assert rig.messages("other") == ["y"]


def test_logs_without_a_cursor():
    """S48: left, never joined, or its join unanswered: passed over, whatever comes."""
    rig = connected()
    rig.call("join", "joining")
    rig.call("leave", "lobby")
    for channel in ("joining", "lobby", "never"):
        rig.entries(1, "x", channel=channel)
        rig.say(Gap(channel, EPOCH, 5, 5), Going(channel))
    assert rig.messages() == []
    assert rig.of_type(MessagesLost) == []
    assert rig.server.closed_with is None


def test_entries_before_all_is_restored():
    """S42, S50: nothing of a log comes before the answer to the statement."""
    rig = connected()
    rig.lose()
    rig.advance(0.6)
    rig.open()
    rig.say(rig.welcome())
    rig.entries(1, "x")
    assert rig.server.closed_with == 1002
    assert rig.messages() == []


# --- leaving and joining without a link


def test_leave_without_a_link_counts_at_once():
    """S44: completes at once, and the statement does not name the channel."""
    rig = connected("lobby", "other")
    rig.lose()
    number = rig.call("leave", "lobby")
    assert rig.result(number) is None
    rig.advance(0.6)
    rig.accept()
    assert [one.channel for one in rig.server.of_type(Want)[0].channels] == ["other"]
    assert rig.server.of_type(Leave) == [], "the statement has left it"
    rig.entries(1, "x")
    assert rig.messages() == []


def test_leave_unanswered_at_the_loss():
    """S59: the statement answers it."""
    rig = connected("lobby", "other")
    number = rig.call("leave", "lobby")
    comes_back(rig)
    assert rig.result(number) is None
    assert rig.server.of_type(Leave) == []


@pytest.mark.parametrize("gone", [False, True])
def test_leave_and_join_again_without_a_link(gone: bool):
    """S44, S46, S59: the channel counts as named; in a resumed session the leave goes before the join."""
    rig = connected()
    rig.entries(1, "a")
    rig.lose()
    leave = rig.call("leave", "lobby")
    join = rig.call("join", "lobby")
    assert rig.result(leave) is None
    rig.advance(0.6)
    rig.accept(**({"resumed": False, "session_id": OTHER_SESSION} if gone else {}))
    assert rig.server.of_type(Want)[0].channels == (WantedChannel("lobby"),)
    numbers = [one.number for one in rig.server.received if isinstance(one, (Leave, Join))]
    assert numbers == ([join] if gone else [leave, join])
    rig.answer_all()
    assert rig.result(join).channel == "lobby"


@pytest.mark.parametrize("phase", ["login", "restoring"])
def test_leave_behind_the_statement(phase: str):
    """S44, S59: named already, so it is asked for, once, when requests may be sent; it completes at once."""
    rig = connected("lobby", "other")
    rig.lose()
    rig.advance(0.6)
    rig.open()
    if phase == "restoring":
        rig.say(rig.welcome())
    number = rig.call("leave", "lobby")
    assert rig.result(number) is None
    if phase == "login":
        rig.say(rig.welcome())
    rig.say(rig.restored())
    assert [one.number for one in rig.server.of_type(Leave)] == [number]
    rig.answer_all()


def test_join_without_a_link_waits():
    """S35, S44."""
    rig = connected()
    rig.lose()
    number = rig.call("join", "other")
    rig.advance(0.6)
    rig.accept()
    assert rig.server.of_type(Want)[0].channels[-1] == WantedChannel("other")
    rig.answer_all()
    assert rig.result(number).channel == "other"


@pytest.mark.parametrize("seen", [False, True])
def test_channel_that_cannot_be_rejoined(seen: bool):
    """S44: ChannelLost behind the state change; the connection stays; the name can be joined again."""
    rig = connected("lobby", "other")
    rig.lose()
    if seen:
        rig.advance(4.0)
        if rig.core.seen_transports:
            rig.refuse_transport()
        rig.advance(5.0)
    else:
        rig.advance(0.6)
    rig.accept(codes={"lobby": Code.TOO_MANY_CHANNELS, "other": 0})
    assert rig.events[-1] == ChannelLost(channel="lobby", code="too_many_channels", message="no")
    if seen:
        assert type(rig.events[-2]).__name__ == "ConnectionStateChanged"
    assert rig.state is ConnectionState.CONNECTED
    rig.entries(1, "x")
    rig.entries(1, "y", channel="other")
    assert (rig.messages("lobby"), rig.messages("other")) == ([], ["y"])
    rig.join("lobby")


@pytest.mark.parametrize("wish", ["left", "joining"])
def test_bad_result_of_what_is_no_longer_or_not_yet_joined(wish: str):
    """S44: no ChannelLost for a channel that the app has left, or whose join is still to be answered."""
    rig = connected()
    rig.lose()
    if wish == "joining":
        number = rig.call("join", "other")
    rig.advance(0.6)
    rig.open()
    if wish == "left":
        rig.call("leave", "lobby")
    rig.say(rig.welcome())
    rig.say(rig.restored({"lobby": 4302} if wish == "left" else {"other": 4302}))
    assert rig.of_type(ChannelLost) == []
    if wish == "joining":
        rig.answer_all()
        assert rig.result(number)


# --- the queue of an iterated home


def iterating(config: ClientConfig | None = None) -> Rig:
    rig = Rig(config or ClientConfig(max_queued_events=4))
    rig.connect("lobby", "other")
    rig.call("iterating", "lobby", True)
    return rig


def test_full_queue_is_held():
    """S52: the server is told to hold the log; half empty, to go on from the cursor; nothing is lost or repeated."""
    rig = iterating()
    rig.entries(1, *"abcdef")
    assert rig.messages() == list("abcd")
    assert rig.server.of_type(Hold) == [Hold("lobby")]
    rig.entries(7, "g")
    rig.call("consumed", "lobby", 1, 1)
    assert rig.server.of_type(GoOn) == []
    rig.call("consumed", "lobby", 1, 1)
    assert rig.server.of_type(GoOn) == [GoOn("lobby", EPOCH, 4)]
    rig.say(Going("lobby"))
    rig.entries(5, *"ef")
    assert rig.messages() == list("abcdef")
    rig.entries(1, *"xyz12345", channel="other")
    assert len(rig.messages("other")) == 8


def test_end_of_an_iteration_releases():
    """S52: an app that no longer iterates is never stalled."""
    rig = iterating()
    rig.entries(1, *"abcdef")
    rig.call("iterating", "lobby", False)
    assert rig.server.of_type(GoOn) == [GoOn("lobby", EPOCH, 4)]


def test_hold_ends_with_the_transport():
    """S52: the next one starts from the cursor."""
    rig = iterating()
    rig.entries(1, *"abcdef")
    rig.lose()
    rig.call("consumed", "lobby", 4, 4)
    rig.advance(0.6)
    rig.accept()
    assert rig.server.of_type(Want)[0].channels[0] == WantedChannel("lobby", EPOCH, 4)
    assert rig.server.of_type(GoOn) == []
    rig.entries(5, *"ef")
    assert rig.messages() == list("abcdef")


def test_gap_after_a_hold():
    """S52: what left the history meanwhile is a gap."""
    rig = iterating()
    rig.entries(1, *"abcdef")
    rig.call("consumed", "lobby", 4, 4)
    rig.say(Going("lobby"), Gap("lobby", EPOCH, 50, 46))
    rig.entries(51, "z")
    assert rig.of_type(MessagesLost) == [MessagesLost(channel="lobby", count=46)]
    assert rig.messages()[-1] == "z"


def test_homes_that_do_not_exist():
    """Promise 1: reports about a home that is gone change nothing."""
    rig = connected()
    for home in ("", "other", "x" * 100):
        rig.call("iterating", home, True, backlog_events=5, backlog_bytes=5)
        rig.call("consumed", home, 5, 5)
        rig.call("iterating", home, False)
    assert rig.state is ConnectionState.CONNECTED


def test_backlog_at_the_start():
    """S52: what waits when an iteration begins counts."""
    rig = Rig(ClientConfig(max_queued_events=4))
    rig.connect("lobby")
    rig.entries(1, *"abc")
    rig.call("iterating", "lobby", True, backlog_events=3, backlog_bytes=3)
    rig.entries(4, *"de")
    assert rig.messages() == list("abcd")
    assert rig.server.of_type(Hold) == [Hold("lobby")]


def test_huge_names_and_wide_text_fill_no_memory():
    """S52, S50: names count, and text counts as what it takes in memory."""
    rig = iterating(ClientConfig(max_queued_bytes=1 << 20))
    for offset in range(1, 30):
        rig.say(Entries("lobby", EPOCH, offset, [JoinedEntry("x" * 120_000)]))
    assert rig.server.of_type(Hold) == [Hold("lobby")]
    assert len(rig.of_type(MemberJoined)) == 9
    rig = iterating(ClientConfig(max_queued_bytes=1 << 20))
    wide = "x" * 27_000 + "\N{GRINNING FACE}"
    for offset in range(1, 30):
        rig.entries(offset, wide)
    assert rig.server.of_type(Hold) == [Hold("lobby")]
    assert len(rig.messages()) == 10
