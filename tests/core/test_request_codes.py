"""Every request's own codes: each that is named can be had, and no other one comes (S45)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest

from core.fake_client import Bench, FakeClient
from rtm_sansio._hub_checks import RequestChecks
from rtm_sansio._request_codes import REQUEST_CODES
from rtm_sansio.codes import Code
from rtm_sansio.config import ServerConfig
from rtm_sansio.events import LeaveCause
from rtm_sansio.messages import (
    ChangeAttributes,
    ClientMessage,
    CountMembers,
    Failed,
    Join,
    Leave,
    ListMembers,
    Logout,
    PeerBytes,
    PeerText,
    Progress,
    PublishBytes,
    PublishText,
    ReadChannelAttributes,
    ReadHistory,
    ReadStatus,
    ReadUserAttributes,
    RenewToken,
    UnwatchStatus,
    WatchStatus,
)
from rtm_sansio.operations import AttachSession, EndSession

LONG = "n" * 65
GOOD: dict[type[Any], Callable[[int], Any]] = {
    Logout: Logout,
    PublishText: lambda number: PublishText(number, "room", "text"),
    PublishBytes: lambda number: PublishBytes(number, "room", b"data"),
    Join: lambda number: Join(number, "other"),
    Leave: lambda number: Leave(number, "other"),
    RenewToken: lambda number: RenewToken(number, "token"),
    ListMembers: lambda number: ListMembers(number, "room"),
    CountMembers: lambda number: CountMembers(number, ("room",)),
    ReadHistory: lambda number: ReadHistory(number, "room", 1),
    PeerText: lambda number: PeerText(number, "bob", "text", True),
    PeerBytes: lambda number: PeerBytes(number, "bob", b"data", True),
    ChangeAttributes: lambda number: ChangeAttributes(number, "", False, {"key": "value"}),
    ReadUserAttributes: lambda number: ReadUserAttributes(number, "bob"),
    ReadChannelAttributes: lambda number: ReadChannelAttributes(number, "room"),
    ReadStatus: lambda number: ReadStatus(number, ("bob",)),
    WatchStatus: lambda number: WatchStatus(number, ("bob",)),
    UnwatchStatus: lambda number: UnwatchStatus(number, ("bob",)),
}
MANY_KEYS = tuple(f"key{number}" for number in range(33))
MANY_UIDS = tuple(f"user{number}" for number in range(513))

BAD: list[tuple[Code, Any]] = [
    *(
        (Code.INVALID_CHANNEL, request)
        for request in (
            PublishText(100, LONG, "text"),
            PublishBytes(100, LONG, b"data"),
            Join(100, LONG),
            Leave(100, LONG),
            ListMembers(100, LONG),
            CountMembers(100, ("room", LONG)),
            ReadHistory(100, LONG, 1),
            ChangeAttributes(100, LONG, False, {"key": "value"}),
            ReadChannelAttributes(100, LONG),
        )
    ),
    *(
        (Code.INVALID_PEER, request)
        for request in (
            PeerText(100, LONG, "text"),
            PeerBytes(100, LONG, b"data"),
            ReadUserAttributes(100, LONG),
            ReadStatus(100, ("bob", LONG)),
            WatchStatus(100, ("bob", LONG)),
            UnwatchStatus(100, ("bob", LONG)),
        )
    ),
    *(
        (Code.MESSAGE_TOO_LARGE, request)
        for request in (
            PublishText(100, "room", "x" * 32769),
            PublishBytes(100, "room", bytes(32769)),
            PeerText(100, "bob", "x" * 32768, False, "y"),
            PeerBytes(100, "bob", bytes(32768), False, "y"),
        )
    ),
    *(
        (Code.NOT_A_MEMBER, request)
        for request in (
            PublishText(100, "elsewhere", "text"),
            PublishBytes(100, "elsewhere", b"data"),
            ListMembers(100, "elsewhere"),
            ReadHistory(100, "elsewhere", 1),
        )
    ),
    *(
        (Code.TOO_MANY_NAMES, request)
        for request in (
            CountMembers(100, ("room",) * 33),
            ChangeAttributes(100, "", False, dict.fromkeys(MANY_KEYS, "")),
            ReadUserAttributes(100, "bob", MANY_KEYS),
            ReadChannelAttributes(100, "room", MANY_KEYS),
            ReadStatus(100, MANY_UIDS[:257]),
            ReadStatus(100, ()),
            WatchStatus(100, MANY_UIDS),
            WatchStatus(100, ()),
            UnwatchStatus(100, MANY_UIDS),
        )
    ),
    *(
        (Code.INVALID_REQUEST, request)
        for request in (
            ListMembers(100, "room", LONG),
            CountMembers(100, ()),
            ReadHistory(100, "room", 0),
            ReadHistory(100, "room", 257),
            ReadHistory(100, "room", 1, 1, 1),
        )
    ),
    *(
        (Code.INVALID_ATTRIBUTE, request)
        for request in (
            ChangeAttributes(100, "", False, {"k" * 33: ""}),
            ChangeAttributes(100, "room", False, {}, ("",)),
            ReadUserAttributes(100, "bob", ("k" * 33,)),
            ReadChannelAttributes(100, "room", ("",)),
        )
    ),
    (Code.ATTRIBUTE_TOO_LARGE, ChangeAttributes(100, "", False, {"key": "v" * 8193})),
    (Code.ATTRIBUTES_FULL, ChangeAttributes(100, "", False, dict.fromkeys("ab", "v" * 8192))),
    (Code.REVISION_CONFLICT, ChangeAttributes(100, "room", False, {"key": "value"}, (), 7)),
    *((Code.STALE_REQUEST, request(3)) for kind, request in GOOD.items() if Code.STALE_REQUEST in REQUEST_CODES[kind]),
]


def code_of(alice: FakeClient, request: Any) -> Code:
    alice.send(request)
    answer = alice.answer(request.number)
    assert isinstance(answer, Failed)
    return Code(answer.code)


def ids(cases: list[tuple[Code, Any]]) -> list[str]:
    return [f"{type(request).__name__}-{code.name}" for code, request in cases]


def test_every_request_has_a_row() -> None:
    """S45: each message with a number, and nothing else; and each is checked before it is taken."""
    numbered = {kind for kind in get_args(ClientMessage) if "number" in kind.__struct_fields__}
    assert set(REQUEST_CODES) == numbered == set(GOOD)
    assert set(RequestChecks(ServerConfig())._sizes) == numbered - {RenewToken}
    assert all(len(codes) == len(set(codes)) for codes in REQUEST_CODES.values())


@pytest.mark.parametrize(("code", "request_"), BAD, ids=ids(BAD))
def test_refused_for_what_it_asks(code: Code, request_: Any) -> None:
    """S45: the code says what is wrong with the request."""
    bench = Bench()
    bench.login("bob")
    alice = bench.login("alice", "room", "other")
    if code is Code.STALE_REQUEST:
        # Known in each of its homes, which have heard of what it calls answered (S46).
        alice.send(Progress(1, 50), GOOD[PublishText](60), GOOD[PeerText](61), GOOD[ChangeAttributes](62))
        alice.send(Leave(63, "other"), Join(64, "other"))
    assert code in REQUEST_CODES[type(request_)]
    assert code_of(alice, request_) is code


@pytest.mark.parametrize("kind", [kind for kind, codes in REQUEST_CODES.items() if Code.RATE_EXCEEDED in codes])
def test_too_fast(kind: type[Any]) -> None:
    """S45: the one above the burst is refused, those before it are not."""
    bench = Bench(requests_per_second=1, request_burst=512)
    bench.login("bob")
    alice = bench.login("alice", "room")
    numbers = range(100, 700)
    alice.send(*[GOOD[kind](number) for number in numbers])
    codes = [answer.code for number in numbers for answer in alice.answers(number) if isinstance(answer, Failed)]
    assert Code.RATE_EXCEEDED in codes
    assert not isinstance(alice.answer(100), Failed)


@pytest.mark.parametrize("kind", [kind for kind in REQUEST_CODES if kind is not RenewToken])
def test_too_many(kind: type[Any]) -> None:
    """S45: more than may be unanswered; a logout has a place of its own."""
    bench = Bench(nodes=1)
    bench.login("bob")
    alice = bench.login("alice", "room")
    bench.held.add(0)
    alice.send(*[Leave(number, "other") for number in range(100, 357)])
    if kind is Logout:
        alice.send(Logout(360))
        assert alice.answers(360) == []
    assert Code.TOO_MANY_REQUESTS in REQUEST_CODES[kind]
    assert code_of(alice, GOOD[kind](400)) is Code.TOO_MANY_REQUESTS


@pytest.mark.parametrize("kind", [PeerText, PeerBytes])
def test_what_is_kept_of_a_user(kind: type[Any]) -> None:
    """S45, S55: the share of a sender, then the room of a receiver."""
    bench = Bench(max_kept_messages=3, max_kept_of_sender=2)
    bench.login("bob").lose()
    bench.advance(31.0)
    alice, carol = bench.login("alice"), bench.login("carol")
    alice.send(GOOD[kind](1), GOOD[kind](2))
    assert code_of(alice, GOOD[kind](3)) is Code.SENDER_SHARE
    carol.send(GOOD[kind](1))
    assert code_of(carol, GOOD[kind](2)) is Code.INBOX_FULL


def test_too_many_channels_and_subscriptions() -> None:
    """S45: of one session."""
    bench = Bench(max_channels=1, max_status_subscriptions=1, max_status_query=1)
    alice = bench.login("alice", "room")
    assert code_of(alice, Join(100, "other")) is Code.TOO_MANY_CHANNELS
    alice.send(WatchStatus(101, ("bob",)))
    assert code_of(alice, WatchStatus(102, ("carol",))) is Code.TOO_MANY_SUBSCRIPTIONS


@pytest.mark.parametrize("kind", [Join, ChangeAttributes])
def test_a_session_that_has_ended(kind: type[Any]) -> None:
    """S45, E8: before the hub has heard of it."""
    bench = Bench(nodes=1)
    alice = bench.login("alice")
    end = EndSession(
        uid="alice",
        session_id=None,
        cause=LeaveCause.KICKED,
        code=Code.KICKED,
        message="",
        spoil_epoch=False,
        ban_seconds=None,
    )
    bench.engine.execute(end, now=bench.now)
    assert code_of(alice, GOOD[kind](100)) is Code.SESSION_ENDED


def test_a_session_that_goes_on_elsewhere() -> None:
    """S45, E8: before the hub has heard of it."""
    bench = Bench(nodes=1)
    alice = bench.login("alice")
    attach = AttachSession(
        uid="alice",
        instance_id=alice.instance,
        login_id=alice.login_id,
        attempt=1,
        quoted_session_id=alice.welcome.session_id,
        quoted_epoch=alice.welcome.login_epoch,
        quoted_attach=1,
        new_session_id=bytes(16),
        node="node7",
    )
    bench.engine.execute(attach, now=bench.now)
    assert code_of(alice, Join(100, "other")) is Code.TRANSPORT_REPLACED


def test_renewals() -> None:
    """S45: what the authenticator says, and how many it is asked about."""
    bench = Bench()
    alice = bench.login("alice")
    assert code_of(alice, RenewToken(100, "x" * 8193)) is Code.BAD_TOKEN
    for code in (Code.UNAVAILABLE, Code.AUTHENTICATOR_FAILED, Code.TOKEN_EXPIRED):
        number = int(code)
        alice.send(RenewToken(number, "token"))
        bench.hub.refuse_renewal(alice.id, number, code, "no", now=bench.now)
        bench.settle()
        assert alice.answer(number).code == code
    alice.send(*[RenewToken(number, "token") for number in range(200, 300)])
    assert alice.answer(299).code == Code.TOO_MANY_REQUESTS


def test_every_code_of_every_request_is_proved() -> None:
    """S45: by the tests above; that no other one comes is seen by every test with a ``FakeClient``."""
    proved = {(type(request), code) for code, request in BAD}
    proved |= {(kind, Code.RATE_EXCEEDED) for kind in REQUEST_CODES if kind not in (Logout, RenewToken)}
    proved |= {(kind, Code.TOO_MANY_REQUESTS) for kind in REQUEST_CODES}
    proved |= {(kind, code) for kind in (PeerText, PeerBytes) for code in (Code.SENDER_SHARE, Code.INBOX_FULL)}
    proved |= {(kind, Code.SESSION_ENDED) for kind in (Join, ChangeAttributes)}
    proved |= {(Join, Code.TOO_MANY_CHANNELS), (Join, Code.TRANSPORT_REPLACED)}
    proved |= {(WatchStatus, Code.TOO_MANY_SUBSCRIPTIONS)}
    renewals = (Code.BAD_TOKEN, Code.TOKEN_EXPIRED, Code.UNAVAILABLE, Code.AUTHENTICATOR_FAILED)
    proved |= {(RenewToken, code) for code in renewals}
    assert proved == {(kind, code) for kind, codes in REQUEST_CODES.items() for code in codes}
