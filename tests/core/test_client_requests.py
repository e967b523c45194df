"""Requests of a client (S9, S34, S35, S37, S45, S46)."""

from __future__ import annotations

from typing import Any

import pytest

from core.fake_server import EPOCH, OTHER_SESSION, Rig, limits
from rtm_sansio.codes import Code
from rtm_sansio.errors import (
    InvalidArgument,
    InvalidState,
    NotJoined,
    Outcome,
    RequestAbandoned,
    RequestRefused,
    RequestsFull,
    RequestTimeout,
)
from rtm_sansio.events import JoinReceipt, SendReceipt
from rtm_sansio.messages import (
    Done,
    Failed,
    Join,
    Joined,
    Kicked,
    Leave,
    Progress,
    PublishBytes,
    PublishText,
    Renewed,
    RenewToken,
    Sent,
    Want,
    WantedChannel,
)
from rtm_sansio.states import ConnectionState


def connected(*channels: str, **options: Any) -> Rig:
    rig = Rig(**options)
    rig.connect(*(channels or ("lobby",)))
    return rig


def test_receipts():
    """S34, S47: what the server answered."""
    rig = connected()
    text, data = rig.publish(message="hi"), rig.publish(message=b"\x00\xff")
    assert [type(one) for one in rig.server.received[-2:]] == [PublishText, PublishBytes]
    rig.say(Sent(text, EPOCH, 7, 1500), Sent(data, EPOCH, 8, 2500))
    assert rig.result(text) == SendReceipt(offset=7, epoch=EPOCH, sent_at=1.5)
    assert rig.result(data) == SendReceipt(offset=8, epoch=EPOCH, sent_at=2.5)
    number = rig.call("join", "other")
    rig.say(Joined(number, EPOCH, 4, 600, None))
    assert rig.result(number) == JoinReceipt(channel="other", offset=4, epoch=EPOCH, member_count=600, members=None)
    number = rig.call("leave", "other")
    rig.say(Done(number))
    assert rig.result(number) is None


def test_refusal():
    """S9: refused, with the server's code and retry_after."""
    rig = connected()
    number = rig.publish()
    rig.say(Failed(number, Code.NOT_A_MEMBER, "who?", 3.0))
    error = rig.error(number)
    assert isinstance(error, RequestRefused)
    assert (error.code, error.outcome, error.retry_after_seconds) == ("not_a_member", Outcome.REFUSED, 3.0)
    assert "who?" in str(error)
    number = rig.publish()
    rig.say(Failed(number, 4399, ""))
    assert rig.error(number).code == "code_4399"


@pytest.mark.parametrize(
    ("code", "again", "outcome"),
    [
        (Code.STALE_REQUEST, True, Outcome.UNKNOWN),
        (Code.RATE_EXCEEDED, True, Outcome.UNKNOWN),
        (Code.TOO_MANY_REQUESTS, True, Outcome.UNKNOWN),
        (Code.RATE_EXCEEDED, False, Outcome.REFUSED),
        (Code.NOT_A_MEMBER, True, Outcome.REFUSED),
    ],
)
def test_a_refusal_of_the_asking_says_nothing_of_what_was_asked_before(code: Code, again: bool, outcome: Outcome):
    """S9, S46: a request sent again may have been carried out the first time."""
    rig = connected()
    number = rig.publish()
    if again:
        rig.lose()
        rig.advance(0.6)
        rig.accept()
    rig.say(Failed(number, code, ""))
    assert rig.error(number).outcome is outcome


def test_refused_join_can_be_tried_again():
    """S44, S47: the name is free again."""
    rig = connected()
    number = rig.call("join", "other")
    rig.say(Failed(number, Code.TOO_MANY_CHANNELS, ""))
    rig.join("other")


@pytest.mark.parametrize("seconds", [9.999, 10.0])
def test_timeout(seconds: float):
    """S35, S9: ten seconds; sent without an answer: unknown; a late answer is ignored."""
    rig = connected()
    number = rig.publish()
    rig.advance(seconds)
    assert (number in rig.ends) is (seconds >= 10.0)
    if seconds >= 10.0:
        error = rig.error(number)
        assert isinstance(error, RequestTimeout)
        assert isinstance(error, TimeoutError)
        assert (error.outcome, error.code) == (Outcome.UNKNOWN, "request_timeout")
        assert str(error) == "timed out: the server did not answer; the server may have carried it out"
        rig.say(Sent(number, EPOCH, 1, 0))


def test_timeout_of_the_call():
    """S35: each call may have its own."""
    rig = connected()
    one, two = rig.publish(timeout_seconds=2.0), rig.publish(timeout_seconds=1.0)
    rig.advance(1.0)
    assert two in rig.ends
    assert one not in rig.ends
    rig.advance(1.0)
    assert one in rig.ends


def test_waits_without_a_link():
    """S35: sent after the reconnect, in order; not sent if its time is over before."""
    rig = connected()
    rig.lose()
    rig.advance(4.0)
    assert rig.state is ConnectionState.RECONNECTING
    if rig.core.seen_transports:
        rig.refuse_transport()
    numbers = [rig.publish(message=str(index)) for index in range(3)]
    short = rig.publish(timeout_seconds=0.001)
    rig.advance(0.001)
    error = rig.error(short)
    assert (type(error), error.outcome) == (RequestTimeout, Outcome.NOT_SENT)
    assert "there is no connection to the server; a longer timeout= waits" in str(error)
    rig.call("retry_now")
    rig.accept()
    assert [one.number for one in rig.server.of_type(PublishText)] == numbers


def test_requests_wait_for_the_restored_session():
    """S59, S46: nothing is sent between welcome and answer."""
    rig = Rig()
    rig.login()
    rig.open()
    rig.say(rig.welcome())
    number = rig.call("join", "lobby")
    assert rig.server.of_type(Join) == []
    rig.say(rig.restored())
    assert [one.number for one in rig.server.of_type(Join)] == [number]


def test_full():
    """S35: at most 256 unanswered; an answer makes room."""
    rig = connected()
    numbers = [rig.publish() for _ in range(256)]
    for call, arguments in (
        ("publish", ("lobby", "x")),
        ("join", ("b",)),
        ("leave", ("lobby",)),
        ("renew_token", ("t",)),
    ):
        with pytest.raises(RequestsFull, match="256"):
            getattr(rig.core, call)(*arguments, now=rig.now)
    rig.say(Sent(numbers[0], EPOCH, 1, 0))
    rig.publish()


def test_misuse():
    """S37: raises at the call, before anything is sent."""
    rig = connected()
    count = len(rig.server.received)
    for call, arguments, error, code in (
        ("join", ("lobby",), InvalidState, "already_joined"),
        ("join", ("",), InvalidArgument, "invalid_channel"),
        ("join", ("ä",), InvalidArgument, "invalid_channel"),
        ("leave", ("other",), NotJoined, "not_joined"),
        ("publish", ("other", "x"), NotJoined, "not_joined"),
        ("publish", ("lobby", "x" * 32769), InvalidArgument, "message_too_large"),
        ("publish", ("lobby", 5), InvalidArgument, "invalid_message"),
    ):
        with pytest.raises(error) as caught:
            getattr(rig.core, call)(*arguments, now=rig.now)
        assert caught.value.code == code
    for call, arguments in (("join", ("b",)), ("leave", ("lobby",)), ("publish", ("lobby", "x"))):
        with pytest.raises(InvalidArgument):
            getattr(rig.core, call)(*arguments, timeout_seconds=0, now=rig.now)
    assert rig.take() == []
    assert len(rig.server.received) == count
    rig.publish(message="x" * 32768)


def test_twenty_channels():
    """S45: joined and being joined count; leaving makes room at once."""
    rig = connected()
    for index in range(18):
        rig.join(f"c{index}")
    rig.call("join", "c18")
    with pytest.raises(InvalidArgument, match="20") as caught:
        rig.core.join("c19", now=rig.now)
    assert caught.value.code == "too_many_channels"
    rig.call("leave", "c0")
    rig.call("join", "c19")


def test_joining_twice_at_once():
    """S37: a join that is unanswered counts."""
    rig = connected()
    rig.call("join", "other")
    with pytest.raises(InvalidState):
        rig.core.join("other", now=rig.now)


# --- order, again after a resume


def test_sent_again_in_order_before_any_new():
    """S46: after a resume; reads the numbers as they were."""
    rig = connected()
    old = [rig.publish(message=str(index)) for index in range(3)]
    rig.say(Sent(old[1], EPOCH, 9, 0))
    rig.lose()
    new = rig.publish(message="new")
    rig.advance(0.6)
    rig.accept()
    assert [one.number for one in rig.server.of_type(PublishText)] == [old[0], old[2], new]
    assert [one.text for one in rig.server.of_type(PublishText)] == ["0", "2", "new"]


def test_progress_names_the_lowest_unanswered():
    """S46: in front of the next batch when it has changed."""
    rig = connected()
    rig.advance(1.0)
    numbers = [rig.publish() for _ in range(3)]
    rig.say(Sent(numbers[0], EPOCH, 1, 0), Sent(numbers[2], EPOCH, 2, 0))
    rig.publish()
    assert rig.server.received[-2] == Progress(1, numbers[1])
    rig.say(Sent(numbers[1], EPOCH, 3, 0))
    rig.advance(0.999)
    assert rig.server.of_type(Progress)[-1] == Progress(1, numbers[1])
    rig.advance(0.001)
    assert rig.server.of_type(Progress)[-1] == Progress(1, numbers[2] + 1)


def test_a_given_up_number_is_never_carried_out():
    """S46: a timed-out or cancelled request is passed by progress, so that the server drops it."""
    rig = connected()
    one = rig.publish()
    rig.call("cancel", one)
    rig.advance(1.0)
    assert rig.server.of_type(Progress)[-1].lowest_unanswered == one + 1
    assert one not in rig.ends


@pytest.mark.parametrize("gone", [False, True])
def test_unknown_when_the_session_is_gone(gone: bool):
    """S34, F-43: what was sent is unknown when the session could not be resumed; what was not sent goes out."""
    rig = connected()
    sent = rig.publish(message="sent")
    rig.lose()
    waiting = rig.publish(message="waiting")
    rig.advance(0.6)
    rig.accept(**({"resumed": False, "session_id": OTHER_SESSION} if gone else {}))
    texts = [one.text for one in rig.server.of_type(PublishText)]
    if gone:
        error = rig.error(sent)
        assert (type(error), error.outcome, error.code) == (RequestAbandoned, Outcome.UNKNOWN, "session_lost")
        assert texts == ["waiting"]
    else:
        assert texts == ["sent", "waiting"]
    rig.answer_all()
    assert rig.result(waiting)


def test_all_kinds_across_a_gone_session():
    """S25, F-28: a join is asked for again, a leave is done with the session, a renewal with the login."""
    rig = connected("lobby", "other")
    join = rig.call("join", "third")
    leave = rig.call("leave", "other")
    renewal = rig.call("renew_token", "t1")
    rig.lose()
    rig.advance(0.6)
    rig.accept(resumed=False, session_id=OTHER_SESSION)
    assert rig.result(leave) is None
    assert rig.server.of_type(Want)[0].channels == (WantedChannel("lobby", EPOCH, 0), WantedChannel("third"))
    assert [one.number for one in rig.server.received if isinstance(one, (Join, Leave, RenewToken))] == [join]
    assert rig.result(renewal).expires_in is None
    rig.answer_all()
    assert rig.result(join).channel == "third"


@pytest.mark.parametrize("how", ["logout", "kick"])
def test_pending_requests_end(how: str):
    """S9: on logout and kick each ends with what may have become of it."""
    rig = connected()
    sent = rig.publish()
    rig.lose()
    waiting = rig.publish()
    rig.advance(0.6)
    rig.open()
    rig.say(rig.welcome())
    if how == "logout":
        rig.call("logout")
    else:
        rig.say(Kicked(Code.KICKED, "bye"))
    for number, outcome in ((sent, Outcome.UNKNOWN), (waiting, Outcome.NOT_SENT)):
        error = rig.error(number)
        assert isinstance(error, RequestAbandoned)
        assert isinstance(error, ConnectionError)
        assert error.outcome is outcome
        assert error.code == ("logged_out" if how == "logout" else "kicked")


def test_requests_before_a_logout_are_sent():
    """S7: what was called before stands before the logout."""
    rig = connected()
    rig.core.publish("lobby", "last words", now=rig.now)
    rig.call("logout")
    assert [type(one).__name__ for one in rig.server.received[-2:]] == ["PublishText", "Logout"]


# --- answers that do not fit


@pytest.mark.parametrize("kind", ["publish", "join", "leave", "renew_token"])
@pytest.mark.parametrize("answer", ["Sent", "Joined", "Done", "Renewed"])
def test_answer_of_another_kind(kind: str, answer: str):
    """S9, S50: an answer that does not fit its request is a protocol error, and the request does not hang."""
    rig = connected("lobby", "other")
    arguments = {"publish": ("lobby", "x"), "join": ("third",), "leave": ("other",), "renew_token": ("t1",)}[kind]
    number = rig.call(kind, *arguments)
    message = {
        "Sent": Sent(number, EPOCH, 1, 0),
        "Joined": Joined(number, EPOCH, 1, 1, None),
        "Done": Done(number),
        "Renewed": Renewed(number, None),
    }[answer]
    rig.say(message)
    if (kind, answer) in {("publish", "Sent"), ("join", "Joined"), ("leave", "Done"), ("renew_token", "Renewed")}:
        rig.result(number)
    else:
        assert rig.server.closed_with == 1002
        rig.advance(10.0)
        assert isinstance(rig.error(number), RequestTimeout) or kind == "leave"


def test_answers_to_nothing():
    """Promise 1: unknown and repeated numbers are ignored."""
    rig = connected()
    number = rig.publish()
    rig.say(Sent(number, EPOCH, 1, 0))
    rig.say(
        Sent(number, EPOCH, 1, 0),
        Sent(-1, EPOCH, 1, 0),
        Done(2**40),
        Joined(0, EPOCH, 0, 0, None),
        Renewed(99, None),
        Failed(99, 4300, ""),
    )
    assert rig.server.closed_with is None


def test_answers_before_all_is_restored():
    """S50: no request is sent before that, so nothing can be answered."""
    rig = connected()
    number = rig.publish()
    rig.lose()
    rig.advance(0.6)
    rig.open()
    rig.say(rig.welcome(), Sent(number, EPOCH, 1, 0))
    assert rig.server.closed_with == 1002


# --- cancel


@pytest.mark.parametrize("link", ["up", "none", "restoring"])
def test_cancelled_join(link: str):
    """S47, F-28: a join that may have happened is taken back; one that was never sent leaves nothing."""
    rig = connected()
    if link != "up":
        rig.lose()
        rig.advance(0.6)
        if link == "restoring":
            rig.open()
            rig.say(rig.welcome())
    number = rig.call("join", "other")
    rig.call("cancel", number)
    if link == "none":
        rig.open()
        rig.say(rig.welcome())
    if link != "up":
        rig.say(rig.restored())
    leaves = rig.server.of_type(Leave)
    assert [one.channel for one in leaves] == (["other"] if link == "up" else [])
    rig.say(Joined(number, EPOCH, 0, 1, None))
    rig.entries(1, "x", channel="other")
    assert rig.messages("other") == []
    rig.join("other")
    assert number not in rig.ends


def test_join_that_timed_out_while_sent():
    """S47, F-28: it is taken back too, also through a reconnect."""
    rig = connected()
    number = rig.call("join", "other")
    rig.advance(10.0)
    assert rig.error(number).outcome is Outcome.UNKNOWN
    assert [one.channel for one in rig.server.of_type(Leave)] == ["other"]
    rig.lose()
    rig.advance(0.6)
    rig.accept()
    assert [one.channel for one in rig.server.of_type(Want)[0].channels] == ["lobby"]
    assert rig.server.of_type(Leave) == [], "the statement has left it"
    rig.join("other")


def test_join_again_behind_a_cancelled_one():
    """S46: join, cancel, join: the order of the numbers makes it right; only the second answer counts."""
    rig = connected()
    first = rig.call("join", "other")
    rig.call("cancel", first)
    second = rig.call("join", "other")
    assert [one.number for one in rig.server.received[-5:] if isinstance(one, (Join, Leave))] == [
        first,
        first + 1,
        second,
    ]
    rig.say(Joined(first, EPOCH, 5, 1, None))
    assert second not in rig.ends
    rig.say(Done(first + 1), Joined(second, EPOCH, 7, 1, None))
    rig.entries(8, "x", channel="other")
    assert rig.messages("other") == ["x"]


def test_cancelled_leave_goes_on():
    """S44: a leave counts at once and is never undone, whether someone waits for it or not."""
    rig = Rig()
    rig.connect("lobby", limits=limits(request_burst=1, requests_per_second=1))
    rig.publish()
    number = rig.call("leave", "lobby")
    assert rig.server.of_type(Leave) == []
    rig.call("cancel", number)
    rig.advance(5.0)
    assert [one.number for one in rig.server.of_type(Leave)] == [number]
    rig.say(Done(number))
    assert number not in rig.ends


def test_leave_that_timed_out_goes_on():
    """S44: the caller is told, and the leave is still asked for after a reconnect."""
    rig = connected()
    number = rig.call("leave", "lobby")
    rig.advance(10.0)
    assert rig.error(number).outcome is Outcome.UNKNOWN
    again = rig.call("join", "lobby")
    rig.lose()
    rig.advance(0.6)
    rig.accept()
    assert [one.number for one in rig.server.received if isinstance(one, (Leave, Join))] == [number, again]


# --- pacing


def test_paces_itself():
    """S45: within the burst at once, then at the rate; in order, nothing lost, no request twice."""
    rig = Rig()
    rig.connect("lobby", limits=limits(requests_per_second=10, request_burst=5))
    numbers = [rig.publish(message=str(index), timeout_seconds=60.0) for index in range(40)]
    first = len(rig.server.of_type(PublishText))
    assert 1 <= first <= 5
    for _ in range(60):
        before = len(rig.server.of_type(PublishText))
        rig.advance(0.1)
        assert len(rig.server.of_type(PublishText)) - before <= 2
    assert [one.number for one in rig.server.of_type(PublishText)] == numbers


def test_pacing_never_passes_the_contract():
    """S45: never more than burst + rate * time, by the server's own measure."""
    rig = Rig()
    rig.connect("lobby", limits=limits(requests_per_second=100, request_burst=20))
    count = 0
    for _ in range(300):
        for _ in range(5):
            try:
                rig.publish()
            except RequestsFull:
                break
        rig.answer_all() if len(rig.server.received) < 50 else None
        rig.advance(0.01)
        count = len(rig.server.of_type(PublishText)) + 1
        assert count <= 20 + rig.elapsed * 100 + 1e-6
    assert count > 100


def test_pacing_goes_on_through_a_resume():
    """S45: the rate is a session's: a resumed one has no new burst, a new one has."""
    for gone in (False, True):
        rig = Rig()
        rig.connect("lobby", limits=limits(requests_per_second=1, request_burst=20))
        for _ in range(30):
            rig.publish(timeout_seconds=100.0)
        rig.lose()
        rig.call("retry_now")
        same = limits(requests_per_second=1, request_burst=20)
        rig.accept(limits=same, **({"resumed": False} if gone else {}))
        assert len(rig.server.of_type(PublishText)) == (10 if gone else 0)


def test_a_timed_out_request_is_not_sent_later():
    """S35: paced, over, and passed over."""
    rig = Rig()
    rig.connect("lobby", limits=limits(requests_per_second=1, request_burst=1))
    numbers = [rig.publish(timeout_seconds=1.5) for _ in range(5)]
    rig.advance(20.0)
    sent = [one.number for one in rig.server.of_type(PublishText)]
    assert len(sent) < 5
    for number in numbers:
        error = rig.error(number)
        assert error.outcome is (Outcome.UNKNOWN if number in sent else Outcome.NOT_SENT)
        assert ("the server's 1 requests or 1048576 bytes a second" in str(error)) is (number not in sent)


def test_batches_are_split():
    """S45: no WebSocket message above the server's bound."""
    rig = connected()
    for _ in range(12):
        rig.core.publish("lobby", "x" * 32_000, now=rig.now)
    rig.take()
    assert max(rig.server.frames) <= 128 * 1024
    assert len(rig.server.of_type(PublishText)) == 12


def test_unsent_is_taken():
    """F-07: the report changes nothing but the time; a stale id does no harm."""
    rig = connected()
    before = rig.core.next_deadline()
    rig.core.unsent(1, 100_000, now=rig.now)
    rig.core.unsent(99, 5, now=rig.now)
    rig.core.unsent(1, 0, now=rig.now)
    assert rig.take() == []
    assert rig.core.next_deadline() == before
