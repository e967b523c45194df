"""Records the vectors anew: ``python tests/vectors/make.py``. What comes out is to be read before it is committed.

The inputs of each conversation stand here; what the cores answer is recorded. ``tests/core/test_vectors.py`` plays the
committed files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from rtm_sansio import messages as wire  # noqa: E402
from rtm_sansio._encodings import JSON  # noqa: E402
from rtm_sansio.messages import (  # noqa: E402
    Attribute,
    Attributes,
    AttributesEntry,
    AttributesResult,
    BytesEntry,
    ChangeAttributes,
    Changed,
    ChannelResult,
    CountMembers,
    Done,
    Entries,
    Failed,
    Gap,
    Going,
    GoOn,
    History,
    Hold,
    InboxPlace,
    Join,
    Joined,
    JoinedEntry,
    Kicked,
    Leave,
    LeftEntry,
    Limits,
    ListMembers,
    Login,
    LoginRefused,
    Logout,
    MemberCount,
    MemberCounts,
    Members,
    MembersResumedEntry,
    PeerBytes,
    PeerBytesEntry,
    PeerSent,
    PeerText,
    PeerTextEntry,
    Progress,
    PublishBytes,
    PublishText,
    ReadChannelAttributes,
    ReadHistory,
    ReadStatus,
    ReadUserAttributes,
    Renewed,
    RenewToken,
    Restored,
    Sent,
    StatusChanged,
    Statuses,
    TextEntry,
    UnwatchStatus,
    UserStatus,
    Want,
    WantedChannel,
    WantedInbox,
    WantedStatus,
    WatchStatus,
    Welcome,
    encode_batch,
)
from vectors.replay import ClientReplay, Namer, ServerReplay, matches, to_json  # noqa: E402

LIMITS = Limits(
    2.0,
    10.0,
    30.0,
    64,
    32768,
    65536,
    131072,
    20,
    256,
    1000,
    2000,
    1048576,
    4194304,
    32,
    256,
    32,
    8192,
    32,
    256,
    16384,
    32768,
    256,
    512,
    6.0,
)
SESSION, OTHER_SESSION = b"\x51" * 16, b"\x52" * 16
EPOCH, OTHER_EPOCH = b"\xe1" * 8, b"\xe2" * 8
INBOX = InboxPlace(b"\xe0" * 8, 0, 0)
SENT_AT = 1_700_000_000_000
_ONLINE = UserStatus("bob", 1, SENT_AT, None, 7)
_UNREACHABLE = UserStatus("bob", 2, SENT_AT + 6_000, SENT_AT + 30_000, 8)


# --- the other encoding


def as_json(payload: bytes) -> str | None:
    """The text that says in JSON what ``payload`` says in MessagePack; None if it says nothing."""
    try:
        return msgspec.json.encode(msgspec.msgpack.decode(payload)).decode()
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def in_both(vector: dict[str, Any], payload_key: str) -> dict[str, Any]:
    """The vector with its payload as JSON behind the one in MessagePack."""
    text = as_json(bytes.fromhex(vector[payload_key]))
    with_json: dict[str, Any] = {}
    for key, value in vector.items():
        with_json[key] = value
        if key == payload_key:
            with_json["json"] = "nonsense" if text is None else text
    return with_json


# --- messages


def messages() -> list[dict[str, Any]]:
    """Every message, in both forms."""
    ids = (b"\xa1" * 16, b"\xa2" * 16)
    client: list[tuple[str, Any]] = [
        ("a new login", Login("alice", "a.token", *ids, 0)),
        ("a resume", Login("alice", "a.token", *ids, 7, SESSION, 1_700_000_060_000_000, 3)),
        ("nothing wanted", Want(())),
        ("wishes", Want((WantedChannel("lobby", EPOCH, 12), WantedChannel("den")))),
        ("wishes with an inbox", Want((WantedChannel("lobby", EPOCH, 12),), WantedInbox(INBOX.epoch, 7))),
        ("logout", Logout(300)),
        ("progress", Progress(2, 70_000)),
        ("progress with an inbox", Progress(2, 70_000, 9)),
        ("hold", Hold("lobby")),
        ("go on", GoOn("lobby", EPOCH, 0)),
        ("a text", PublishText(1, "lobby", "héllo ☃")),
        ("an empty text", PublishText(2, "lobby", "")),
        ("bytes", PublishBytes(3, "lobby", b"\x00\xff")),
        ("join", Join(4, "lobby")),
        ("leave", Leave(5, "lobby")),
        ("a new token", RenewToken(6, "another.token")),
        ("members", ListMembers(7, "lobby")),
        ("more members", ListMembers(8, "lobby", "bob")),
        ("how many members", CountMembers(9, ("lobby", "den"))),
        ("the newest history", ReadHistory(10, "lobby", 100)),
        ("history before an offset", ReadHistory(11, "lobby", 100, 41)),
        ("history behind an offset", ReadHistory(12, "lobby", 1, None, 40)),
        ("a text to a user", PeerText(7, "bob", "hi")),
        ("a text to be kept, with a description", PeerText(8, "bob", "hi", True, "a greeting")),
        ("bytes to a user", PeerBytes(9, "bob", b"\x00\xff", True, "")),
        ("wishes with attributes", Want((), None, {"mood": "fine", "ü": ""})),
        ("attributes of a channel", ChangeAttributes(7, "lobby", False, {"topic": "tea"}, ("owner",), 17, True)),
        ("all attributes of one's own gone", ChangeAttributes(8, "", True, {})),
        ("a user's attributes", ReadUserAttributes(9, "bob")),
        ("a channel's attribute", ReadChannelAttributes(10, "lobby", ("topic",))),
    ]
    server: list[tuple[str, Any]] = [
        ("a new session", Welcome(SESSION, 1_700_000_060_000_000, 1, False, None, LIMITS, INBOX)),
        ("a resumed session", Welcome(SESSION, 1, 2, True, 3599.5, LIMITS, INBOX)),
        ("a refusal", LoginRefused(4100, "bad token")),
        ("a refusal for a while", LoginRefused(4200, "busy", 2.5)),
        ("nothing restored", Restored(())),
        ("a part of it", Restored((ChannelResult("lobby"), ChannelResult("den", 4304, "too many")), True)),
        ("a kick", Kicked(4002, "the operator ended the session")),
        (
            "entries",
            Entries(
                "lobby",
                EPOCH,
                41,
                [
                    TextEntry("bob", "hi", SENT_AT),
                    BytesEntry("bob", b"\x01\x02", SENT_AT),
                    JoinedEntry("carol"),
                    LeftEntry("carol", 2),
                    MembersResumedEntry(),
                ],
            ),
        ),
        ("a number of members", MemberCount("lobby", 513)),
        (
            "entries of an inbox",
            Entries(
                "",
                INBOX.epoch,
                1,
                [
                    PeerTextEntry("bob", "hi", SENT_AT, True, "a greeting"),
                    PeerBytesEntry("bob", b"\x01\x02", SENT_AT),
                ],
            ),
        ),
        ("a session with an inbox", Welcome(SESSION, 1, 1, False, None, LIMITS, InboxPlace(INBOX.epoch, 2, 5))),
        ("a gap", Gap("lobby", EPOCH, 40, 17)),
        ("a gap of unknown size", Gap("lobby", OTHER_EPOCH, 0, None)),
        ("going", Going("lobby")),
        ("done", Done(5)),
        ("sent", Sent(1, EPOCH, 42, SENT_AT)),
        ("joined", Joined(4, EPOCH, 42, 2, ("alice", "bob"))),
        ("joined with many", Joined(4, EPOCH, 42, 9000, None)),
        ("renewed", Renewed(6, 3600.0)),
        ("renewed for ever", Renewed(6, None)),
        ("sent to a user who is there", PeerSent(7, True, False, SENT_AT)),
        ("kept for a user", PeerSent(8, False, True, SENT_AT)),
        ("failed", Failed(3, 4303, "too large")),
        ("failed for a while", Failed(3, 4305, "too fast", 1.0)),
        ("members", Members(7, EPOCH, 42, 3, ("alice", "bob"), True)),
        ("numbers of members", MemberCounts(9, (2, 0))),
        ("history", History(10, EPOCH, 41, True, [TextEntry("bob", "hi", SENT_AT), JoinedEntry("carol")])),
        ("no history", History(12, EPOCH, 43, False, [])),
        ("attributes restored", Restored((), False, AttributesResult())),
        ("attributes that cannot be had", Restored((), False, AttributesResult(4318, "too many"))),
        ("changed", Changed(7, 1_700_000_060_000_001)),
        ("no attributes", Attributes(9, 0, ())),
        (
            "attributes",
            Attributes(10, 1_700_000_060_000_001, (Attribute("topic", "tea", 1_700_000_060_000_001, "bob", SENT_AT),)),
        ),
        (
            "a change that members are told",
            Entries("lobby", EPOCH, 45, [AttributesEntry("bob", False, {"topic": "tea"}, ("owner",), SENT_AT)]),
        ),
    ]
    client += [
        ("wishes with subscriptions", Want((), None, None, (WantedStatus("bob", 7), WantedStatus("carol", 0)))),
        ("a query of the status", ReadStatus(7, ("bob", "carol"))),
        ("a subscription to the status", WatchStatus(8, ("bob", "carol"))),
        ("no subscription any more", UnwatchStatus(9, ("bob",))),
    ]
    server += [
        ("restored, but for subscriptions", Restored((), False, None, ("dave",))),
        ("statuses", Statuses(7, (_ONLINE, UserStatus("carol", 0, None, None, 0)))),
        ("a status that has changed", StatusChanged((_UNREACHABLE,))),
    ]
    found = [
        {"name": name, "from": side, "hex": encode_batch([message]).hex(), "batch": to_json([message])}
        for side, all_of_it in (("client", client), ("server", server))
        for name, message in all_of_it
    ]
    several = [Progress(1, 2), PublishText(2, "lobby", "one"), PublishText(3, "lobby", "two")]
    return [
        in_both(vector, "hex")
        for vector in (
            {"name": "the heartbeat", "from": "client", "hex": "90", "batch": []},
            {"name": "its answer", "from": "server", "hex": "90", "batch": []},
            {"name": "several", "from": "client", "hex": encode_batch(several).hex(), "batch": to_json(several)},
            *found,
        )
    ]


def readings() -> list[dict[str, Any]]:
    """Payloads that no writer of this version makes, and what a reader does with each.

    A payload that can be said in JSON, and means the same there, has both forms.
    """
    raw: list[tuple[str, str, bytes]] = [
        ("an unknown field behind the others", "server", encode_batch([[16, 5, "new"]])),
        ("an unknown field in an entry", "server", encode_batch([[5, "lobby", EPOCH, 1, [[3, "bob", "new"]]]])),
        (
            "an unknown field in the limits",
            "server",
            encode_batch([[1, SESSION, 1, 1, False, None, [*_limits(), 9], [EPOCH, 0, 0]]]),
        ),
        ("fields with defaults left off", "server", encode_batch([[2, 4100, "bad token"]])),
        ("the same for a login", "client", encode_batch([[1, "alice", "", bytes(16), bytes(16), 0]])),
        ("an unknown message of 128", "server", encode_batch([[128], [16, 5]])),
        ("an unknown message of 200 with anything in it", "client", encode_batch([[200, {"a": [1.5, None]}], [3, 1]])),
        ("an unknown entry of 128", "server", encode_batch([[5, "lobby", EPOCH, 1, [[128, 1], [3, "bob"]]]])),
        (
            "an unknown entry of 128 in history",
            "server",
            encode_batch([[23, 10, EPOCH, 1, False, [[128, 1], [3, "bob"]]]]),
        ),
        ("an unknown entry below 128 in history", "server", encode_batch([[23, 10, EPOCH, 1, False, [[127, 1]]]])),
        ("an int in place of a float", "server", encode_batch([[19, 6, 3600]])),
        ("a long form of a small number", "server", bytes.fromhex("9192d0 10 d20000 0005".replace(" ", ""))),
        ("an unknown message below 128", "server", encode_batch([[127, 1]])),
        ("an unknown message below 128 behind a good one", "client", encode_batch([[3, 1], [99]])),
        ("an unknown entry below 128", "server", encode_batch([[5, "lobby", EPOCH, 1, [[127, 1]]]])),
        ("a message of the other side", "server", encode_batch([Join(1, "lobby")])),
        ("a field too few", "server", encode_batch([[17, 1, EPOCH, 42]])),
        ("a text in place of bytes", "server", encode_batch([[17, 1, "epoch", 42, 0]])),
        ("bytes in place of a text", "client", encode_batch([[18, 1, b"lobby"]])),
        ("a float in place of an int", "server", encode_batch([[16, 5.5]])),
        ("nil in place of an int", "server", encode_batch([[16, None]])),
        ("a text that is not UTF-8", "client", bytes.fromhex("919312 01 a2 c328".replace(" ", ""))),
        ("a message without a tag", "client", encode_batch([[]])),
        ("a tag that is no number", "client", encode_batch([["join", 1, "lobby"]])),
        ("a message that is no array", "client", encode_batch([18])),
        ("a batch that is no array", "client", encode_batch({18: 1})),  # type: ignore[arg-type]
        ("nothing at all", "client", b""),
        ("half a batch", "client", encode_batch([Join(1, "lobby")])[:-2]),
        ("something behind the batch", "client", encode_batch([Join(1, "lobby")]) + b"\x00"),
        ("a value of an attribute that is no text", "client", encode_batch([[26, 1, "", False, {"a": 1}]])),
        ("a key of an attribute that is no text", "client", encode_batch([[26, 1, "", False, {1: "a"}]])),
        ("an array in place of a map", "client", encode_batch([[26, 1, "", False, ["a", "b"]]])),
        ("a change with its defaults left off", "client", encode_batch([[26, 1, "", True, {}]])),
        ("a length that is not there", "client", bytes.fromhex("ddffffffff")),
        ("very deep", "client", b"\x91" * 5000),
    ]
    texts: list[tuple[str, str, str]] = [
        ("white space", "client", ' [ [ 18 ,\t1 ,\n"lobby" ]\r] '),
        ("a heartbeat with white space", "client", " [ ] "),
        ("escaped characters", "client", '[[18,1,"\\u006cobby\\/\\ud83d\\ude00\\n"]]'),
        ("an integer in place of a float, in JSON", "server", "[[19,6,36e2]]"),
        ("an unknown message with white space around its tag", "client", "[[ 128 ], [3, 1]]"),
        ("a number that is no integer for what it looks like", "server", "[[16,5.0]]"),
        ("an integer with an exponent", "server", "[[16,5e0]]"),
        ("a number that begins with a zero", "server", "[[16,05]]"),
        ("a number that is none", "server", "[[19,6,NaN]]"),
        ("a number beyond all floats", "server", "[[19,6,1e999]]"),
        ("a number beyond 64 bits", "server", "[[16,18446744073709551616]]"),
        ("half a pair of surrogates", "client", '[[18,1,"\\ud83d"]]'),
        ("a control character that is not escaped", "client", '[[18,1,"\x00"]]'),
        ("base64 without its end", "client", '[[17,1,"lobby","aGk"]]'),
        ("base64 with another alphabet", "client", '[[17,1,"lobby","_-8="]]'),
        ("a comma too many", "client", '[[18,1,"lobby"],]'),
        ("a batch that is an object", "client", '{"18":1}'),
        ("a comment", "client", "[]//"),
        ("two batches", "client", "[][]"),
        ("a byte order mark", "client", "\ufeff[]"),
        ("nothing but white space", "client", " "),
        ("very deep, in JSON", "client", "[" * 5000 + "]" * 5000),
    ]
    found = []
    for name, side, payload in raw:
        outcome = _outcome(wire.client_decoder() if side == "client" else wire.server_decoder(), payload)
        vector = {"name": name, "from": side, "hex": payload.hex(), **outcome}
        text = as_json(payload)
        both = text is not None and _outcome(_json_decoder(side), text) == outcome
        found.append(in_both(vector, "hex") if both else vector)
    found += [
        {"name": name, "from": side, "json": text, **_outcome(_json_decoder(side), text)} for name, side, text in texts
    ]
    return found


def _json_decoder(side: str) -> Any:
    return JSON.client_decoder if side == "client" else JSON.server_decoder


def _outcome(decoder: Any, payload: bytes | str) -> dict[str, Any]:
    try:
        batch, skipped = decoder.decode(payload)
    except wire.MalformedBatch:
        return {"close": 1002}
    return {"batch": to_json(batch), "skipped": skipped}


def _limits() -> list[Any]:
    return [getattr(LIMITS, name) for name in LIMITS.__struct_fields__]


# --- conversations of a client


class Client:
    """Writes down a conversation while a core takes part in it."""

    def __init__(self, name: str, rules: str, **config: Any) -> None:
        self.record: dict[str, Any] = {"name": name, "rules": rules, "config": config, "steps": []}
        self._replay = ClientReplay(config)
        self._namer = Namer(("instance_id", "login_id"))
        self._count = 0

    def step(self, at: float, **step: Any) -> Client:
        if "receive" in step:
            step = in_both(step, "receive")
        out = self._replay.play(at, step)
        self.record["steps"].append({"at": at, **step, "out": self._namer.name(out)})
        return self

    def call(self, at: float, name: str, **arguments: Any) -> Client:
        self._count += 1
        return self.step(at, call={"name": name, "as": f"{name} {self._count}", **arguments})

    def receive(self, at: float, *batch: Any) -> Client:
        return self.step(at, receive=encode_batch(batch).hex(), batch=to_json(batch))

    def login(self, *, expires_in: float | None = None) -> Client:
        """Logged in at 0.1, with nothing wanted."""
        self.call(0.0, "login", uid="alice", token="a.token").step(0.05, opened=True)
        return self.receive(0.1, Welcome(SESSION, 77, 1, False, expires_in, LIMITS, INBOX), Restored(()))

    def joined(self) -> Client:
        """Logged in, and a member of the lobby at 0.3, with the cursor at 10."""
        self.login().call(0.2, "join", channel="lobby")
        return self.receive(0.3, Joined(2, EPOCH, 10, 2, ("bob", "alice")))


def _text(offset: int, text: str, uid: str = "bob") -> Entries:
    return Entries("lobby", EPOCH, offset, [TextEntry(uid, text, SENT_AT)])


def _inbox(offset: int, *texts: str, offline: bool = False, epoch: bytes = INBOX.epoch) -> Entries:
    return Entries("", epoch, offset, [PeerTextEntry("bob", text, SENT_AT, offline) for text in texts])


def _client_statuses() -> list[Client]:
    offline = UserStatus("bob", 0, SENT_AT + 30_000, None, 9)
    return [
        Client("the status of users", "S39 S57")
        .login()
        .call(0.2, "read_status", uids=["bob", "carol"])
        .receive(0.3, Statuses(2, (_ONLINE, UserStatus("carol", 0, None, None, 0))))
        .call(0.4, "watch_status", uids=["bob"])
        .receive(0.5, Statuses(3, (_ONLINE,)))
        .receive(0.6, StatusChanged((_UNREACHABLE, UserStatus("stranger", 1, SENT_AT, None, 9))))
        .receive(0.7, StatusChanged((_ONLINE,)))
        .call(0.8, "unwatch_status", uids=["bob"])
        .receive(0.9, StatusChanged((offline,)), Done(4)),
        Client("subscriptions are stated", "S57 S59")
        .login()
        .call(0.2, "watch_status", uids=["bob", "carol"])
        .receive(0.3, Statuses(2, (_ONLINE, UserStatus("carol", 0, None, None, 0))))
        .step(0.5, lost=True)
        .step(1.1, opened=True)
        .receive(
            1.2,
            Welcome(SESSION, 77, 2, True, None, LIMITS, INBOX),
            Restored((), False, None, ("carol",)),
            StatusChanged((offline,)),
        ),
    ]


def client_conversations() -> list[dict[str, Any]]:
    """A client, spoken to by a server."""
    found = [
        Client("login, join, messages, logout", "S3 S34 S43 S47 S46 S7")
        .login()
        .call(0.2, "join", channel="lobby")
        .receive(0.3, Joined(2, EPOCH, 10, 2, ("bob", "alice")))
        .receive(0.4, Entries("lobby", EPOCH, 10, [JoinedEntry("alice"), TextEntry("bob", "hi", SENT_AT)]))
        .call(0.5, "send", channel="lobby", message="hello")
        .receive(0.6, Sent(3, EPOCH, 12, SENT_AT), _text(12, "hello", "alice"))
        .receive(0.7, Entries("lobby", EPOCH, 13, [BytesEntry("bob", b"\x00", SENT_AT), LeftEntry("bob", 1)]))
        .step(1.8, wait=True)
        .call(1.9, "logout")
        .receive(2.0, Done(4)),
        Client("a refused request", "S9 S37")
        .login()
        .call(0.2, "join", channel="lobby")
        .receive(0.3, Failed(2, 4304, "too many channels")),
        Client("login refused for good", "S6")
        .call(0.0, "login", uid="alice", token="bad")
        .step(0.05, opened=True)
        .receive(0.1, LoginRefused(4100, "bad token")),
        Client("login refused for a while", "S6 S21")
        .call(0.0, "login", uid="alice", token="a.token")
        .step(0.05, failed="connection_refused")
        .step(1.0, opened=True)
        .receive(1.1, LoginRefused(4200, "busy", 2.0))
        .step(3.2, opened=True)
        .receive(3.3, Welcome(SESSION, 77, 1, False, None, LIMITS, INBOX), Restored(())),
        Client("login timeout", "S5")
        .call(0.0, "login", uid="alice", token="a.token")
        .step(0.05, opened=True)
        .step(7.0, wait=True),
        Client("heartbeats on a link that is alive", "S10")
        .login()
        .step(2.2, wait=True)
        .receive(2.3)
        .step(4.5, wait=True),
        Client("a link that has died", "S11 S20 S21").joined().step(12.0, wait=True),
        Client("resumed, with an unanswered message", "S12 S23 S46 S59")
        .joined()
        .receive(0.4, _text(11, "seen"))
        .call(0.5, "send", channel="lobby", message="perhaps")
        .step(0.6, lost=True)
        .step(1.2, opened=True)
        .receive(1.3, Welcome(SESSION, 77, 2, True, None, LIMITS, INBOX), Restored((ChannelResult("lobby"),)))
        .receive(1.4, Entries("lobby", EPOCH, 12, [TextEntry("alice", "perhaps", SENT_AT), JoinedEntry("carol")]))
        .receive(1.5, Sent(3, EPOCH, 12, SENT_AT)),
        Client("the session is gone", "S17 S25 S34 S42")
        .joined()
        .call(0.5, "send", channel="lobby", message="perhaps")
        .step(0.6, lost=True)
        .step(1.2, opened=True)
        .receive(1.3, Welcome(OTHER_SESSION, 77, 1, False, None, LIMITS, INBOX), Restored((ChannelResult("lobby"),)))
        .receive(1.4, Gap("lobby", OTHER_EPOCH, 0, None), Entries("lobby", OTHER_EPOCH, 1, [JoinedEntry("bob")])),
        Client("a resumed session with another id is gone", "S17")
        .login()
        .step(0.6, lost=True)
        .step(1.2, opened=True)
        .receive(1.3, Welcome(OTHER_SESSION, 77, 2, True, None, LIMITS, INBOX), Restored(())),
        Client("a channel that cannot be rejoined", "S44")
        .joined()
        .step(0.6, lost=True)
        .step(1.2, opened=True)
        .receive(1.3, Welcome(OTHER_SESSION, 77, 1, False, None, LIMITS, INBOX))
        .receive(1.4, Restored((ChannelResult("lobby", 4304, "too many channels"),))),
        Client("an answer to the statement in two parts", "S59")
        .login()
        .call(0.2, "join", channel="a")
        .call(0.2, "join", channel="b")
        .receive(0.3, Joined(2, EPOCH, 1, 1, ("alice",)), Joined(3, EPOCH, 1, 1, ("alice",)))
        .step(0.4, lost=True)
        .step(1.0, opened=True)
        .receive(1.1, Welcome(SESSION, 77, 2, True, None, LIMITS, INBOX), Restored((ChannelResult("a"),), True))
        .call(1.2, "send", channel="a", message="waits")
        .receive(1.3, Restored((ChannelResult("b"),))),
        Client("a leave without a link is not undone", "S44 S59")
        .joined()
        .step(0.4, lost=True)
        .call(0.5, "leave", channel="lobby")
        .step(1.0, opened=True)
        .receive(1.1, Welcome(SESSION, 77, 2, True, None, LIMITS, INBOX), Restored(())),
        Client("a gap", "S33")
        .joined()
        .receive(0.4, Gap("lobby", EPOCH, 20, 10), _text(21, "behind it"))
        .receive(0.5, _text(22, "and on")),
        Client("a hole", "S48")
        .joined()
        .receive(0.4, _text(12, "too early"))
        .receive(0.5, _text(13, "passed over as well"))
        .receive(0.6, Going("lobby"), Entries("lobby", EPOCH, 11, [TextEntry("bob", text, SENT_AT) for text in "abc"])),
        Client("a hole right behind the answer", "S48 S50")
        .joined()
        .receive(0.4, _text(12, "too early"))
        .receive(0.5, Going("lobby"), _text(13, "a hole")),
        Client("entries seen before", "S48")
        .joined()
        .receive(0.4, _text(11, "once"))
        .receive(0.5, Entries("lobby", EPOCH, 10, [TextEntry("bob", text, SENT_AT) for text in ("?", "once", "new")])),
        Client("hold and go on", "S52", max_queued_events=2)
        .joined()
        .step(0.35, iterate="lobby")
        .receive(0.4, Entries("lobby", EPOCH, 11, [TextEntry("bob", text, SENT_AT) for text in "abcd"]))
        .receive(0.5, _text(15, "passed over"))
        .step(0.6, take={"channel": "lobby", "events": 2, "bytes": 2})
        .receive(0.7, _text(16, "passed over, too"))
        .receive(0.8, Going("lobby"), Entries("lobby", EPOCH, 13, [TextEntry("bob", text, SENT_AT) for text in "cd"])),
        Client("kicked", "S8 S41").joined().receive(0.5, Kicked(4002, "the operator ended the session")),
        Client("banned", "S41").login().receive(0.5, Kicked(4001, "banned")),
        Client("another login of the uid", "S30").joined().receive(0.5, Kicked(4000, "another instance")),
        Client("another login, learnt at a resume", "S30")
        .login()
        .step(0.5, lost=True)
        .step(1.1, opened=True)
        .receive(1.2, LoginRefused(4000, "another instance of the uid logged in")),
        Client("an unknown terminal code", "S41").login().receive(0.5, Kicked(4099, "of a later version")),
        Client("an unknown code for passing trouble", "S41").login().step(0.5, closed=4299).step(1.1, wait=True),
        Client("the server stops", "S12").login().step(0.5, closed=1001).step(1.1, wait=True),
        Client("a refusal while reconnecting", "S20")
        .login()
        .step(0.5, lost=True)
        .step(1.1, opened=True)
        .receive(1.2, LoginRefused(4102, "a verdict"))
        .step(6.0, wait=True),
        Client("messages of a later version", "S50")
        .joined()
        .receive(0.4, [200, "anything"], [16, 99, "a field"], [5, "lobby", EPOCH, 11, [[150, 1], [3, "carol", 1]]])
        .receive(0.5, _text(13, "next")),
        Client("nonsense", "S50").login().step(0.5, receive="c1").step(1.1, wait=True),
        Client("a welcome that makes no sense", "S15 S50")
        .call(0.0, "login", uid="alice", token="a.token")
        .step(0.05, opened=True)
        .receive(0.1, Welcome(SESSION, 77, 1, False, None, Limits(20.0, *_limits()[1:]), INBOX)),
        Client("messages to users", "S36 S37 S55")
        .login()
        .call(0.2, "send_to_peer", uid="bob", message="hi", description="a greeting")
        .call(0.2, "send_to_peer", uid="carol", message={"hex": "00ff"}, offline=True)
        .call(0.2, "send_to_peer", uid="dave", message="x", offline=True)
        .receive(0.3, PeerSent(2, True, False, SENT_AT), PeerSent(3, False, True, SENT_AT))
        .receive(0.4, Failed(4, 4315, "20 of yours are kept")),
        Client("kept messages, and an inbox over an interruption", "S56 S59 S7")
        .call(0.0, "login", uid="alice", token="a.token")
        .step(0.05, opened=True)
        .receive(0.1, Welcome(SESSION, 77, 1, False, None, LIMITS, InboxPlace(INBOX.epoch, 0, 2)), Restored(()))
        .receive(0.2, _inbox(1, "kept", "kept too", "live", offline=True))
        .step(1.3, wait=True)
        .receive(1.4, _inbox(4, "on"))
        .step(1.5, lost=True)
        .step(2.1, opened=True)
        .receive(2.2, Welcome(SESSION, 77, 2, True, None, LIMITS, InboxPlace(INBOX.epoch, 3, 2)), Restored(()))
        .receive(2.3, _inbox(4, "on", "missed"))
        .call(2.4, "logout"),
        Client("an inbox of which the server knows nothing", "S33 S56")
        .login()
        .receive(0.2, _inbox(1, "a", "b"))
        .step(0.6, lost=True)
        .step(1.2, opened=True)
        .receive(
            1.3,
            Welcome(OTHER_SESSION, 77, 1, False, None, LIMITS, InboxPlace(OTHER_EPOCH, 0, 1)),
            Restored(()),
            Gap("", OTHER_EPOCH, 0, None),
            _inbox(1, "kept", "live", offline=True, epoch=OTHER_EPOCH),
        )
        .step(2.4, wait=True),
        Client("an inbox on hold", "S52 S56", max_queued_events=2)
        .step(0.0, iterate="")
        .login()
        .receive(0.2, _inbox(1, "a", "b", "c"))
        .step(1.3, wait=True)
        .step(1.4, take={"channel": "", "events": 2, "bytes": 8})
        .receive(1.5, Going(""), _inbox(3, "c")),
        Client("a token about to expire, and renewed", "S28")
        .login(expires_in=40.0)
        .step(1.9, wait=True)
        .receive(2.0)
        .receive(4.0)
        .receive(6.0)
        .receive(8.0)
        .receive(10.0)
        .call(11.0, "renew_token", token="another.token")
        .receive(11.1, Renewed(2, 3600.0)),
        Client("members in pages", "S47")
        .joined()
        .call(0.4, "list_members", channel="lobby")
        .receive(0.5, Members(3, EPOCH, 10, 3, ("alice", "bob"), True))
        .call(0.6, "list_members", channel="lobby", after="bob")
        .receive(0.7, Members(4, EPOCH, 10, 3, ("carol",), False)),
        Client("numbers of members", "S45")
        .login()
        .call(0.2, "count_members", channels=["lobby", "den"])
        .receive(0.3, MemberCounts(2, (2, 0))),
        Client("history", "S33 S43")
        .joined()
        .call(0.4, "read_history", channel="lobby", limit=2)
        .receive(0.5, History(3, EPOCH, 9, True, [TextEntry("alice", "mine", SENT_AT), JoinedEntry("alice")]))
        .call(0.6, "read_history", channel="lobby", before=9)
        .receive(0.7, History(4, EPOCH, 7, False, [TextEntry("bob", "a", SENT_AT), MembersResumedEntry()]))
        .call(0.8, "read_history", channel="lobby", after=10)
        .receive(0.9, History(5, EPOCH, 11, False, [])),
        Client("asked for again behind a resume", "S46")
        .joined()
        .call(0.4, "read_history", channel="lobby", limit=2)
        .step(0.5, lost=True)
        .step(1.1, opened=True)
        .receive(1.2, Welcome(SESSION, 77, 2, True, None, LIMITS, INBOX), Restored((ChannelResult("lobby"),)))
        .receive(1.3, History(3, EPOCH, 10, False, [JoinedEntry("alice")])),
        Client("a channel that tells of no joins", "S38")
        .login()
        .call(0.2, "join", channel="lobby")
        .receive(0.3, Joined(2, EPOCH, 10, 513, None), MemberCount("lobby", 513))
        .receive(1.3, MemberCount("lobby", 480), MemberCount("lobby", 480))
        .receive(1.4, Entries("lobby", EPOCH, 11, [MembersResumedEntry(), JoinedEntry("carol")])),
        Client("an answer to something else", "S50")
        .joined()
        .call(0.4, "list_members", channel="lobby")
        .receive(0.5, MemberCounts(3, (1,))),
        Client("attributes changed and read", "S39")
        .login()
        .call(0.2, "change_attributes", put={"map": {"mood": "fine"}}, replace=True)
        .call(0.2, "change_attributes", channel="lobby", drop=["topic"], expected_revision=17, notify=True)
        .receive(0.3, Changed(2, 18), Failed(3, 4319, "the attributes have revision 16, not 17"))
        .call(0.4, "read_attributes", uid="bob")
        .call(0.4, "read_attributes", channel="lobby", keys=["topic"])
        .receive(0.5, Attributes(4, 0, ()), Attributes(5, 16, (Attribute("topic", "tea", 16, "bob", SENT_AT),))),
        Client("attributes set again in a new session", "S25 S34 S59")
        .login()
        .call(0.2, "change_attributes", put={"map": {"mood": "fine", "task": "none"}})
        .call(0.2, "change_attributes", drop=["task"])
        .receive(0.3, Changed(2, 18), Changed(3, 19))
        .call(0.4, "change_attributes", put={"map": {"mood": "unknown to the server, or not"}})
        .step(0.6, lost=True)
        .step(1.2, opened=True)
        .receive(1.3, Welcome(OTHER_SESSION, 77, 1, False, None, LIMITS, INBOX))
        .receive(1.4, Restored((), False, AttributesResult())),
        Client("attributes that cannot be had any more", "S25 S59")
        .login()
        .call(0.2, "change_attributes", put={"map": {"mood": "fine"}})
        .receive(0.3, Changed(2, 18))
        .step(0.6, lost=True)
        .step(1.2, opened=True)
        .receive(1.3, Welcome(OTHER_SESSION, 77, 1, False, None, LIMITS, INBOX))
        .receive(1.4, Restored((), False, AttributesResult(4318, "too many")))
        .step(1.6, lost=True)
        .step(3.0, opened=True),
        Client("a channel's attributes are changed", "S39 S43")
        .joined()
        .receive(
            0.4,
            Entries(
                "lobby",
                EPOCH,
                11,
                [
                    AttributesEntry("bob", False, {"topic": "tea"}, ("owner",), SENT_AT),
                    AttributesEntry("alice", True, {}, (), SENT_AT),
                ],
            ),
        ),
    ]
    found += _client_statuses()
    return [each.record for each in found]


# --- conversations of a server


class Server:
    """Writes down a conversation while a hub takes part in it."""

    def __init__(self, name: str, rules: str, **config: Any) -> None:
        self.record: dict[str, Any] = {"name": name, "rules": rules, "config": config, "steps": []}
        self._replay = ServerReplay(config)
        self._namer = Namer(("session_id", "epoch"))

    def step(self, at: float, **step: Any) -> Server:
        if isinstance(step.get("receive"), str):
            step = in_both(step, "receive")
        actual = self._replay.play(at, step)
        out = self._namer.name(actual)
        assert matches(out, actual, self._replay.bound)
        self.record["steps"].append({"at": at, **step, "out": out})
        return self

    def receive(self, at: float, on: str, *batch: Any) -> Server:
        return self.step(at, on=on, receive=[_bindable(to_json(message)) for message in batch])

    def login(self, at: float, on: str, uid: str, *channels: WantedChannel, **quoted: Any) -> Server:
        login = Login(uid, "", _id(1, quoted.pop("instance", on)), _id(2, quoted.pop("login", on)), 0)
        message = to_json(login)
        message["Login"].update(quoted)
        self.step(at, connect=on)
        self.step(at, on=on, receive=[message, _bindable(to_json(Want(channels)))])
        return self.step(at, accept=on)


def _id(kind: int, name: str) -> bytes:
    return bytes([kind]) * 8 + name.encode()[:8].ljust(8, b".")


def _bindable(value: Any) -> Any:
    """``b"epoch 1"`` stands for the first epoch that was seen."""
    if isinstance(value, list):
        return [_bindable(each) for each in value]
    if isinstance(value, dict):
        if value.keys() == {"hex"} and bytes.fromhex(value["hex"]).startswith(b"epoch "):
            return {"bind": bytes.fromhex(value["hex"]).decode()}
        return {key: _bindable(each) for key, each in value.items()}
    return value


def server_conversations() -> list[dict[str, Any]]:
    """A server, spoken to by clients."""
    resume = {"session_id": {"bind": "session_id 1"}, "login_epoch": 1_700_000_060_000_000, "attach": 1}

    def two(name: str, rules: str, **config: Any) -> Server:
        """Alice and Bob are members of the lobby; the log ends at 2."""
        return (
            Server(name, rules, **config)
            .login(0.0, "alice", "alice")
            .receive(0.1, "alice", Progress(1, 1), Join(1, "lobby"))
            .login(0.2, "bob", "bob")
            .receive(0.3, "bob", Progress(1, 1), Join(1, "lobby"))
        )

    found = [
        two("login, join, messages, heartbeat, logout", "S34 S38 S43 S47 S10 S7")
        .receive(0.4, "bob", Progress(1, 2), PublishText(2, "lobby", "hi"), PublishBytes(3, "lobby", b"\x00"))
        .receive(0.5, "alice")
        .receive(0.6, "alice", Progress(1, 2), Leave(2, "lobby"))
        .receive(0.7, "alice", PublishText(3, "lobby", "no member any more"))
        .receive(0.8, "alice", Logout(4))
        .step(3.0, wait=True),
        Server("a login that the authenticator refuses", "S6")
        .step(0.0, connect="alice")
        .receive(0.0, "alice", Login("alice", "bad", _id(1, "a"), _id(2, "a"), 0), Want(()))
        .step(0.1, refuse="alice", code=4100),
        Server("tokens renewed", "S28")
        .login(0.0, "alice", "alice")
        .receive(0.1, "alice", RenewToken(1, "another.token"), Join(2, "lobby"))
        .step(0.2, accept="alice", renewal=1, expires_in=3600.0)
        .receive(0.3, "alice", RenewToken(3, "bad"))
        .step(0.4, refuse="alice", renewal=3, code=4100),
        two("a request sent again", "S46")
        .receive(0.4, "bob", Progress(1, 2), PublishText(2, "lobby", "once"))
        .receive(0.5, "bob", PublishText(2, "lobby", "once"))
        .receive(0.6, "bob", Progress(1, 3), PublishText(2, "lobby", "once")),
        two("resumed within the presence", "S23 S26 S59")
        .receive(0.4, "alice", Progress(1, 2))
        .step(0.5, lost="alice")
        .receive(0.6, "bob", PublishText(2, "lobby", "missed"))
        .login(5.0, "alice again", "alice", WantedChannel("lobby", b"epoch 2", 2), **_as("alice", resume)),
        two("the old transport is still there", "S26")
        .receive(0.4, "alice", Progress(1, 2))
        .login(1.0, "alice again", "alice", WantedChannel("lobby", b"epoch 2", 2), **_as("alice", resume)),
        two("a channel that the statement does not name is left", "S59 S44")
        .step(0.5, lost="alice")
        .login(1.0, "alice again", "alice", **_as("alice", resume)),
        two("back too late", "S24 S25", silence_timeout_seconds=20.0)
        .step(0.5, lost="alice")
        .receive(15.0, "bob")
        .receive(29.0, "bob")
        .step(31.0, wait=True)
        .login(31.5, "alice again", "alice", WantedChannel("lobby", b"epoch 2", 2), **_as("alice", resume)),
        two("another login of the uid", "S30 S32")
        .login(1.0, "laptop", "alice")
        .login(2.0, "alice again", "alice", **_as("alice", resume)),
        two("an attempt of the same login", "S18").login(1.0, "alice again", "alice", instance="alice", login="alice"),
        two("a copy of the process", "S18")
        .step(0.5, lost="alice")
        .login(1.0, "alice again", "alice", WantedChannel("lobby", b"epoch 2", 2), **_as("alice", resume))
        .receive(1.1, "alice again", Progress(2, 1))
        .login(2.0, "a copy", "alice", **_as("alice", resume)),
        two("kicked", "S31 S41")
        .step(1.0, kick="alice")
        .login(2.0, "alice again", "alice", **_as("alice", resume))
        .login(3.0, "a new login", "alice"),
        two("hold and go on", "S52")
        .receive(0.4, "alice", Hold("lobby"))
        .receive(0.5, "bob", PublishText(2, "lobby", "one"), PublishText(3, "lobby", "two"))
        .receive(0.6, "alice", GoOn("lobby", b"epoch 2", 2))
        .receive(0.7, "bob", PublishText(4, "lobby", "three")),
        two("cursors that are no good", "S48")
        .receive(0.4, "alice", GoOn("lobby", b"another!", 1))
        .receive(0.5, "alice", GoOn("lobby", b"epoch 2", 99)),
        two("messages to users", "S36 S43")
        .receive(0.4, "bob", PeerText(2, "alice", "hi", False, "a greeting"), PeerBytes(3, "nobody", b"x", True))
        .receive(0.5, "bob", PeerText(4, "bob", "to myself"), PeerText(5, "", "x"))
        .receive(0.6, "alice", Progress(1, 2, 1))
        .receive(0.7, "alice", Hold(""))
        .receive(0.8, "bob", PeerText(6, "alice", "one"), PeerText(6, "alice", "one"))
        .receive(0.9, "alice", GoOn("", b"epoch 1", 1)),
        two("kept for the next login", "S55 S56", max_kept_of_sender=2)
        .receive(0.4, "alice", Progress(1, 2), Logout(2))
        .receive(0.5, "bob", *(PeerText(number, "alice", "kept", True) for number in (2, 3, 4)))
        .receive(0.6, "bob", PeerText(5, "alice", "not kept"))
        .login(1.0, "a new login", "alice")
        .receive(1.1, "bob", PeerText(6, "alice", "live", True)),
        two("silence", "S14").step(12.0, wait=True),
        Server("no login in time", "S51").step(0.0, connect="alice").step(11.0, wait=True),
        Server("a heartbeat before the login", "S50").step(0.0, connect="alice").receive(0.1, "alice"),
        Server("a request before the login", "S50").step(0.0, connect="alice").receive(0.1, "alice", Join(1, "lobby")),
        Server("a uid that nobody can have", "S37")
        .step(0.0, connect="alice")
        .receive(0.1, "alice", Login("", "", _id(1, "a"), _id(2, "a"), 0)),
        Server("ids that no client makes", "S50")
        .step(0.0, connect="alice")
        .receive(0.1, "alice", Login("alice", "", b"short", _id(2, "a"), 0)),
        Server("a second login", "S50")
        .login(0.0, "alice", "alice")
        .receive(0.1, "alice", Login("alice", "", _id(1, "a"), _id(2, "a"), 0)),
        Server("a second statement", "S59 S50").login(0.0, "alice", "alice").receive(0.1, "alice", Want(())),
        Server("requests wait for the statement", "S59")
        .step(0.0, connect="alice")
        .receive(0.0, "alice", Login("alice", "", _id(1, "a"), _id(2, "a"), 0))
        .step(0.1, accept="alice")
        .receive(0.2, "alice", Join(1, "lobby"))
        .receive(0.3, "alice", Want(())),
        Server("refused requests", "S37 S45", max_channels=1, max_message_bytes=100)
        .login(0.0, "alice", "alice")
        .receive(0.1, "alice", Join(1, ""), Join(2, "a"), Join(3, "b"), PublishText(4, "b", "no member"))
        .receive(0.2, "alice", PublishBytes(5, "a", bytes(101))),
        two("members in pages", "S47", max_snapshot_members=1, unmute_members=1).receive(
            0.4, "alice", Progress(1, 2), ListMembers(2, "lobby"), ListMembers(3, "lobby", "alice")
        ),
        two("numbers of members", "S45").receive(0.4, "alice", CountMembers(2, ("lobby", "den", "lobby"))),
        two("history", "S33")
        .receive(0.4, "bob", PublishText(2, "lobby", "one"), PublishText(3, "lobby", "two"))
        .receive(0.5, "alice", ReadHistory(2, "lobby", 2), ReadHistory(3, "lobby", 256, 3))
        .receive(0.6, "alice", ReadHistory(4, "lobby", 1, None, 2), ReadHistory(5, "lobby", 1, None, 99)),
        two("joins and leaves that are not told", "S38", max_snapshot_members=2, unmute_members=2)
        .login(0.4, "carol", "carol")
        .receive(0.5, "carol", Join(1, "lobby"))
        .receive(2.0, "carol", Leave(2, "lobby"))
        .receive(4.0, "bob", Leave(2, "lobby"))
        .receive(4.1, "bob", Join(3, "lobby")),
        two("lists that are refused", "S37 S45 S47", max_count_channels=2)
        .receive(0.4, "alice", ListMembers(2, "den"), ReadHistory(3, "den", 1), CountMembers(4, ("a", "b", "c")))
        .receive(0.5, "alice", CountMembers(5, ()), CountMembers(6, ("",)), ReadHistory(7, "lobby", 257))
        .receive(0.6, "alice", ReadHistory(8, "lobby", 1, 1, 1)),
        Server("messages of a later version", "S50")
        .login(0.0, "alice", "alice")
        .step(0.1, on="alice", receive=encode_batch([[200, "anything"], [18, 1, "lobby", "a field"]]).hex()),
        Server("nonsense", "S50").login(0.0, "alice", "alice").step(0.1, on="alice", receive="c1"),
        Server("attributes of a user", "S39 S46")
        .login(0.0, "alice", "alice")
        .login(0.1, "bob", "bob")
        .receive(0.2, "bob", ReadUserAttributes(1, "alice"))
        .receive(0.3, "alice", ChangeAttributes(1, "", True, {"mood": "fine", "task": "none"}))
        .receive(0.4, "alice", ChangeAttributes(2, "", False, {"mood": "tired"}, ("task",)))
        .receive(0.5, "alice", ChangeAttributes(1, "", True, {"mood": "fine", "task": "none"}))
        .receive(0.6, "bob", ReadUserAttributes(2, "alice"), ReadUserAttributes(3, "alice", ("task",)))
        .receive(0.7, "alice", ChangeAttributes(3, "", True, {}), ChangeAttributes(4, "", False, {"": "no key"})),
        two("attributes of a channel, from one who is no member", "S39")
        .login(0.4, "carol", "carol")
        .receive(0.5, "carol", ChangeAttributes(1, "lobby", False, {"topic": "tea"}, (), 0, True))
        .receive(0.6, "bob", ChangeAttributes(2, "lobby", False, {"topic": "coffee"}, (), 0, True))
        .receive(0.7, "bob", ReadChannelAttributes(3, "lobby", ("topic", "owner"))),
        Server("attributes of a new session, and of one that is resumed", "S25 S59")
        .step(0.0, connect="alice")
        .receive(
            0.0, "alice", Login("alice", "", _id(1, "alice"), _id(2, "alice"), 0), Want((), None, {"mood": "fine"})
        )
        .step(0.1, accept="alice")
        .receive(0.2, "alice", ChangeAttributes(1, "", False, {"task": "none"}), ReadUserAttributes(2, "alice"))
        .step(0.3, connect="again")
        .step(
            0.3,
            on="again",
            receive=[
                {
                    "Login": {
                        **to_json(Login("alice", "", _id(1, "alice"), _id(2, "alice"), 1))["Login"],
                        **resume,
                    }
                },
                to_json(Want((), None, {"mood": "fine"})),
            ],
        )
        .step(0.4, accept="again")
        .receive(0.5, "again", ReadUserAttributes(3, "alice")),
        Server("attributes that no session can have", "S25 S45", max_attribute_value_bytes=3)
        .step(0.0, connect="alice")
        .receive(
            0.0, "alice", Login("alice", "", _id(1, "alice"), _id(2, "alice"), 0), Want((), None, {"mood": "fine"})
        )
        .step(0.1, accept="alice"),
    ]
    found += [
        two("the status of a user", "S14 S22 S24 S39 S57", silence_timeout_seconds=20.0)
        .receive(0.3, "bob", ReadStatus(2, ("alice", "nobody")), WatchStatus(3, ("alice",)))
        .step(0.5, lost="alice")
        .receive(6.0, "bob")
        .step(7.0, wait=True)
        .receive(20.0, "bob")
        .login(21.0, "alice again", "alice", **_as("alice", resume))
        .receive(22.0, "bob", UnwatchStatus(4, ("alice",)))
        .receive(23.0, "alice again", Logout(2)),
        Server("subscriptions in a statement", "S45 S57 S59", max_status_subscriptions=1)
        .step(0.0, connect="alice")
        .receive(
            0.0,
            "alice",
            Login("alice", "", _id(1, "a"), _id(2, "a"), 0),
            Want((), None, None, (WantedStatus("alice", 0), WantedStatus("bob", 0))),
        )
        .step(0.1, accept="alice")
        .receive(0.2, "alice", WatchStatus(1, ("bob",))),
    ]
    return [each.record for each in found]


def _as(instance: str, resume: dict[str, Any]) -> dict[str, Any]:
    return {"instance": instance, "login": instance, **resume}


FILES = {
    "messages.json": messages,
    "readings.json": readings,
    "client.json": client_conversations,
    "server.json": server_conversations,
}


def render(name: str) -> str:
    """The text of one file: a line for each vector, or for each step of a conversation."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    rendered = []
    for each in FILES[name]():
        steps = each.pop("steps", None)
        text = line(each)
        if steps is not None:
            text = f'{text[:-1]}, "steps": [\n  ' + ",\n  ".join(map(line, steps)) + "\n ]}"
        rendered.append(text)
    return "[\n " + ",\n ".join(rendered) + "\n]\n"


if __name__ == "__main__":
    for file_name in FILES:
        (HERE / file_name).write_text(render(file_name), encoding="utf-8")
