"""Writes the parts of the documentation that are made from the code: ``python docs/generate.py``.

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end: NAME -->``; ``tests/test_docs.py`` fails when one is
not what the code says.
"""

from __future__ import annotations

import ast
import random
import re
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from rtm_sansio import (
    CODE_RANGES,
    TRANSITIONS,
    Code,
    CodeKind,
    ConnectionState,
    Hub,
    LoginRequested,
    ServerConfig,
    Transmit,
    code_kind,
    messages,
)
from rtm_sansio._request_codes import REQUEST_CODES

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_PART = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end: (?P=name) -->)", re.DOTALL)

_WHAT_A_CLIENT_DOES = {
    CodeKind.TERMINAL: "the session is over for good: never connect by itself again",
    CodeKind.VERDICT: "a `login` call fails; a reconnect goes on at the longest delay, and is reported once a code",
    CodeKind.RETRY: "passing trouble: try again with back-off, or after `retry_after`",
    CodeKind.REPORT: "one request is refused; the connection is not touched",
}

_MEANINGS = {
    Code.REMOTE_LOGIN: "another instance of the uid logged in, or a copy of this one resumed its session",
    Code.BANNED: "the uid is banned",
    Code.KICKED: "the operator ended the session",
    Code.TOKEN_EXPIRY_ENFORCED: "the server enforces token expiry, and the token has expired",
    Code.BAD_TOKEN: "the token is not accepted for this uid",
    Code.TOKEN_EXPIRED: "the token has expired",
    Code.INVALID_UID: "the uid is not 1 to `max_name_length` printable ASCII characters",
    Code.ALREADY_LOGGED_IN: "the uid is logged in, and this login may not end that session",
    Code.LOGIN_LIMIT: "a limit on logins is reached",
    Code.UNAVAILABLE: "the server, or this node of it, cannot serve the session at present: another node may",
    Code.DRAINING: "the server is about to stop",
    Code.AUTHENTICATOR_FAILED: "the login could not be checked",
    Code.LOGIN_DEADLINE: "no login in time",
    Code.SILENT: "nothing was heard for too long",
    Code.TOO_SLOW: "the peer does not take what is sent to it",
    Code.FLOODING: "far above the rate of the welcome",
    Code.TRANSPORT_REPLACED: "the session went on on another transport, or this attempt was overtaken by a later one",
    Code.NOT_A_MEMBER: "the session is no member of the channel",
    Code.ALREADY_A_MEMBER: "the session is a member of the channel already",
    Code.INVALID_CHANNEL: "no channel can have this name",
    Code.MESSAGE_TOO_LARGE: "the body exceeds `max_message_bytes`",
    Code.TOO_MANY_CHANNELS: "`max_channels` are joined",
    Code.RATE_EXCEEDED: "above `requests_per_second` and `request_burst`",
    Code.TOO_MANY_REQUESTS: "`max_unanswered` requests are open",
    Code.SESSION_ENDED: "the session has ended",
    Code.STALE_REQUEST: "the number lies below what `Progress` called answered",
    Code.UNKNOWN_REQUEST: "the server knows no such request",
    Code.INTERNAL_ERROR: "the server failed; whether the request was carried out is not known",
    Code.INVALID_REQUEST: "an argument of the request is out of its range",
    Code.TOO_MANY_NAMES: "the request names more than it may",
    Code.INVALID_PEER: "no user can have this uid",
    Code.INBOX_FULL: "as many messages are kept for the user as may be, in number or in bytes",
    Code.INVALID_ATTRIBUTE: "a key is a text of 1 to `max_attribute_key_bytes` bytes",
    Code.ATTRIBUTE_TOO_LARGE: "a value exceeds `max_attribute_value_bytes`",
    Code.ATTRIBUTES_FULL: "there would be more attributes than a user, a channel or all together may have",
    Code.REVISION_CONFLICT: "the attributes were changed meanwhile: their revision is not the expected one",
    Code.TOO_MANY_SUBSCRIPTIONS: "`max_status_subscriptions` users would be exceeded",
    Code.SENDER_SHARE: "as many messages of this sender are kept for the user as may be",
}


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def state_table() -> str:
    """The switches of a client's state, one a row; what differs in the state alone stands together."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for (state, trigger), (new_state, reason) in TRANSITIONS.items():
        grouped.setdefault((trigger.value, new_state.value, reason.value), []).append(state.value)
    rows = [(", ".join(states), *what) for what, states in grouped.items()]
    return _table(("from", "what happens", "to", "reason"), rows)


def state_diagram() -> str:
    """The same as a diagram."""
    labels: dict[tuple[str, str], list[str]] = {}
    for (state, _), (new_state, reason) in TRANSITIONS.items():
        labels.setdefault((state.value, new_state.value), []).append(reason.value)
    lines = [f"    [*] --> {ConnectionState.DISCONNECTED.value}"]
    lines += [f"    {start} --> {end}: {', '.join(reasons)}" for (start, end), reasons in labels.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])


def code_ranges() -> str:
    """The ranges of codes, and what a client does with a code by its range alone."""
    rows = [
        (f"{codes.start} to {codes.stop - 1}", kind.value, _WHAT_A_CLIENT_DOES[kind])
        for kind, codes in CODE_RANGES.items()
    ]
    return _table(("codes", "kind", "what a client does"), rows)


def code_table() -> str:
    """Every code."""
    rows = []
    for code in Code:
        kind = code_kind(code)
        assert kind is not None
        rows.append((str(int(code)), f"`{code.name.lower()}`", kind.value, _MEANINGS[code]))
    return _table(("code", "name", "kind", "meaning"), rows)


_ANSWERS = {
    messages.Logout: "`Done`, then close code 1000: the session has ended",
    messages.PublishText: "`Sent`: the message stands at `offset`",
    messages.Join: (
        "`Joined`: a member; the cursor starts at `offset` of `epoch`; `members` (nil above 512) as of then (of a "
        "repeated `Join`: as of now), with the client itself"
    ),
    messages.Leave: "`Done`, member or not",
    messages.RenewToken: "`Renewed`; the connection goes on. If it fails, the old token stays in force",
    messages.ListMembers: "`Members`: a page of the channel's members behind the uid `after`",
    messages.CountMembers: "`MemberCounts`: the numbers of members, in the order of the channels named",
    messages.ReadHistory: "`History`: a page of the channel's kept entries",
    messages.PeerText: "`PeerSent`: [where it went](#peer-messages)",
    messages.ChangeAttributes: "`Changed`: carried out wholly; the revision is theirs now",
    messages.ReadUserAttributes: "`Attributes`: those of the keys that there are, or all",
    messages.ReadChannelAttributes: "the same",
    messages.ReadStatus: "`Statuses`: the state of each uid named",
    messages.WatchStatus: (
        "`Statuses`: the same, and from then on `StatusChanged`. If it fails, none is watched that was not before"
    ),
    messages.UnwatchStatus: "`Done`, watched or not",
}
"""Of each request; one without an answer here has that of the request before it, and its codes."""


def request_table() -> str:
    """The requests, their answers, and the codes that each can fail with."""
    rows: list[tuple[str, str, str]] = []
    for kind, codes in REQUEST_CODES.items():
        names = ", ".join(f"`{code.name.lower()}`" for code in codes)
        if kind in _ANSWERS:
            rows.append((f"`{kind.__name__}`", _ANSWERS[kind], names))
        else:
            before, answer, same = rows.pop()
            assert same == names
            rows.append((f"{before}, `{kind.__name__}`", answer, names))
    return _table(("request", "answer", "or `Failed`, with"), rows)


def _type_name(annotation: Any) -> str:
    names = {str: "text", bytes: "bytes", int: "int", float: "float", bool: "bool", type(None): "nil"}
    if annotation in names:
        return names[annotation]
    if isinstance(annotation, types.UnionType):
        if annotation == messages.Entry:
            return "entry"
        return " or ".join(_type_name(each) for each in get_args(annotation))
    if get_origin(annotation) is dict:
        key, value = map(_type_name, get_args(annotation))
        return f"map of {key} to {value}"
    if get_origin(annotation) in (tuple, list):
        return f"array of {_type_name(get_args(annotation)[0])}"
    return str(annotation.__name__)


def _fields(struct: type[msgspec.Struct]) -> str:
    shown = []
    for field in msgspec.structs.fields(struct):
        default = ""
        if field.default is not msgspec.NODEFAULT:
            default = f" = {_notation(field.default)}"
        shown.append(f"`{field.name}`: {_type_name(field.type)}{default}")
    return ", ".join(shown)


def _message_table(union: Any) -> str:
    structs = sorted(get_args(union), key=lambda struct: struct.__struct_config__.tag)
    rows = [(str(struct.__struct_config__.tag), f"`{struct.__name__}`", _fields(struct)) for struct in structs]
    return _table(("tag", "message", "fields behind the tag"), rows)


def client_messages() -> str:
    """What a client sends."""
    return _message_table(messages.ClientMessage)


def server_messages() -> str:
    """What a server sends."""
    return _message_table(messages.ServerMessage)


def entry_table() -> str:
    """The entries of a log."""
    return _message_table(messages.Entry)


def part_table() -> str:
    """The arrays without a tag inside messages."""
    structs = (
        messages.WantedChannel,
        messages.WantedInbox,
        messages.Limits,
        messages.InboxPlace,
        messages.ChannelResult,
        messages.AttributesResult,
        messages.Attribute,
        messages.WantedStatus,
        messages.UserStatus,
    )
    return _table(("array", "fields"), [(f"`{struct.__name__}`", _fields(struct)) for struct in structs])


def limit_table() -> str:
    """The limits of the welcome, with the defaults of this implementation."""
    config = ServerConfig()
    defaults = {
        "heartbeat_interval": config.heartbeat_interval_seconds,
        "silence_timeout": config.silence_timeout_seconds,
        "presence_grace": config.presence_grace_seconds,
        "max_name_length": config.max_name_length,
        "max_message_bytes": config.max_message_bytes,
        "max_request_bytes": config.max_request_bytes,
        "max_frame_bytes": config.max_frame_bytes,
        "max_channels": config.max_channels,
        "max_unanswered": config.max_outcomes,
        "requests_per_second": config.requests_per_second,
        "request_burst": config.request_burst,
        "append_bytes_per_second": config.append_bytes_per_second,
        "append_burst_bytes": config.append_burst_bytes,
        "max_count_channels": config.max_count_channels,
        "max_history_entries": config.max_history_entries,
        "max_attribute_key_bytes": config.max_attribute_key_bytes,
        "max_attribute_value_bytes": config.max_attribute_value_bytes,
        "max_attribute_pairs": config.max_attribute_pairs,
        "max_attributes": config.max_attributes,
        "max_user_attribute_bytes": config.max_user_attribute_bytes,
        "max_channel_attribute_bytes": config.max_channel_attribute_bytes,
        "max_status_query": config.max_status_query,
        "max_status_subscriptions": config.max_status_subscriptions,
        "unreachable": config.unreachable_seconds,
    }
    return _table(
        ("limit", "unit", "default", "what it bounds"),
        [
            (f"`{field.name}`", _LIMITS[field.name][0], f"{defaults[field.name]:g}", _LIMITS[field.name][1])
            if isinstance(defaults[field.name], float)
            else (f"`{field.name}`", _LIMITS[field.name][0], f"{defaults[field.name]}", _LIMITS[field.name][1])
            for field in msgspec.structs.fields(messages.Limits)
        ],
    )


_LIMITS = {
    "heartbeat_interval": ("s", "after this much silence of the server the client sends a heartbeat"),
    "silence_timeout": ("s", "the server drops a transport on which it heard nothing for this long"),
    "presence_grace": ("s", "a session without a transport goes on for this long"),
    "max_name_length": ("characters", "a uid or a channel name"),
    "max_message_bytes": ("bytes", "the body of one message, UTF-8 if it is text"),
    "max_request_bytes": ("bytes", "one request, encoded"),
    "max_frame_bytes": ("bytes", "the payload of one WebSocket message behind the welcome, in both directions"),
    "max_channels": ("channels", "joined at a time"),
    "max_unanswered": ("requests", "unanswered at a time"),
    "requests_per_second": ("requests", "that may be sent in each second"),
    "request_burst": ("requests", "that may be sent at once, above the rate"),
    "append_bytes_per_second": ("bytes", "of message bodies that may be sent in each second"),
    "append_burst_bytes": ("bytes", "of message bodies that may be sent at once, above that rate"),
    "max_count_channels": ("channels", "of one `CountMembers`"),
    "max_history_entries": ("entries", "of one `ReadHistory`"),
    "max_attribute_key_bytes": ("bytes", "the key of an attribute"),
    "max_attribute_value_bytes": ("bytes", "its value"),
    "max_attribute_pairs": ("keys", "of one `ChangeAttributes` or one reading"),
    "max_attributes": ("keys", "of one user or channel"),
    "max_user_attribute_bytes": ("bytes", "keys and values of one user together"),
    "max_channel_attribute_bytes": ("bytes", "keys and values of one channel together"),
    "max_status_query": ("users", "of one `ReadStatus`"),
    "max_status_subscriptions": ("users", "whose status a session watches, and of one `WatchStatus`"),
    "unreachable": ("s", "a user of whom nothing was heard for this long is unreachable"),
}


class _Spoken:
    """A hub that is spoken to in payloads, and a record of what was said."""

    def __init__(self) -> None:
        self._now = 1000.0
        count = iter(range(1, 1 << 16))
        self.hub = Hub(
            ServerConfig(),
            entropy=lambda size: bytes([next(count)]) * size,
            rng=random.Random(0),
        )
        self.hub.set_wall_clock(1_700_000_000.0, now=self._now)
        self.lines: list[str] = []
        self._names: dict[int, str] = {}
        self._readers: dict[int, bytearray] = {}

    def open(self, name: str) -> int:
        transport_id = self.hub.transport_accepted(peer=name, now=self._now)
        self._names[transport_id] = name
        request = (
            "GET / HTTP/1.1\r\nHost: rtm.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Protocol: {messages.SUBPROTOCOL_MSGPACK}\r\n\r\n"
        )
        self.hub.receive_data(transport_id, request.encode(), now=self._now)
        self.hub.take_outputs()
        self._readers[transport_id] = bytearray()
        return transport_id

    def say(self, transport_id: int, *batch: Any) -> None:
        payload = messages.encode_batch(batch)
        self._note(f"{self._names[transport_id]} → server", payload)
        head = bytes([0x82, 0x80 | len(payload)]) if len(payload) < 126 else bytes([0x82, 0xFE, 0, len(payload)])
        self.hub.receive_data(transport_id, head + bytes(4) + payload, now=self._now)
        self._listen()
        while self.hub.flush_wanted:
            self.hub.flush(now=self._now)
            self._listen()

    def _listen(self) -> None:
        while outputs := self.hub.take_outputs():
            for output in outputs:
                if isinstance(output, LoginRequested):
                    self.hub.accept_login(output.transport_id, now=self._now)
                elif isinstance(output, Transmit):
                    self._hear(output.transport_id, output.data)

    def _hear(self, transport_id: int, data: bytes) -> None:
        buffer = self._readers[transport_id]
        buffer += data
        while buffer:
            start, length = 2, buffer[1]
            if length == 126:
                start, length = 4, int.from_bytes(buffer[2:4], "big")
            frame, buffer[: start + length] = bytes(buffer[: start + length]), b""
            if frame[0] == 0x82:
                self._note(f"server → {self._names[transport_id]}", frame[start:])

    def _note(self, who: str, payload: bytes) -> None:
        spaced = payload.hex(" ")
        rows = [spaced[start : start + 96] for start in range(0, len(spaced), 96)]
        self.lines += ["", who, *(f"  {row.strip()}" for row in rows)]
        for message in msgspec.msgpack.decode(payload):
            self.lines.append(f"  = {_notation(message)}")
        if payload == messages.HEARTBEAT:
            self.lines.append("  = the heartbeat, or its answer")


def _notation(value: Any) -> str:
    if isinstance(value, bytes):
        same = len(value) > 4 and value == value[:1] * len(value)
        return f"{len(value)} × {value[:1].hex()}h" if same else f"h'{value.hex()}'"
    if isinstance(value, list):
        return f"[{', '.join(map(_notation, value))}]"
    return "nil" if value is None else msgspec.json.encode(value).decode()


def worked_example() -> str:
    """A conversation of two clients with a real hub, in bytes."""
    spoken = _Spoken()
    alice = spoken.open("alice")
    spoken.say(alice, messages.Login("alice", "a token", b"\xa1" * 16, b"\xa2" * 16, 0), messages.Want(()))
    spoken.say(alice, messages.Progress(1, 1), messages.Join(1, "lobby"))
    bob = spoken.open("bob")
    spoken.say(bob, messages.Login("bob", "his token", b"\xb1" * 16, b"\xb2" * 16, 0), messages.Want(()))
    spoken.say(bob, messages.Progress(1, 1), messages.Join(1, "lobby"))
    spoken.say(bob, messages.Progress(1, 2), messages.PublishText(2, "lobby", "hi"))
    spoken.say(alice)
    spoken.say(alice, messages.Progress(1, 2), messages.Logout(2))
    return "\n".join(["```text", *spoken.lines[1:], "```", ""])


def _summary(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split())
    sentence = re.match(r"(.+?)[.](?:\s|$)", text)
    return (sentence[1] if sentence else text).replace("``", "`")


def _modules_of(package: str) -> Callable[[], str]:
    def modules() -> str:
        paths = [path for path in sorted((ROOT / package).rglob("*.py")) if not path.name.startswith("__")]
        # What others import comes first, the parts behind it.
        paths.sort(key=lambda path: (len(path.parts), path.name.startswith("_")))
        return _table(
            ("module", "what"), [(f"`{path.relative_to(ROOT).as_posix()}`", _summary(path)) for path in paths]
        )

    return modules


PARTS: dict[str, Callable[[], str]] = {
    "state-table": state_table,
    "state-diagram": state_diagram,
    "client-messages": client_messages,
    "server-messages": server_messages,
    "entries": entry_table,
    "parts": part_table,
    "limits": limit_table,
    "worked-example": worked_example,
    "modules-sansio": _modules_of("rtm_sansio"),
    "modules-async": _modules_of("rtm_async"),
    "modules-sync": _modules_of("rtm_sync"),
    "code-ranges": code_ranges,
    "code-table": code_table,
    "requests": request_table,
}


def renewed(text: str) -> str:
    """A document with its generated parts as the code has them. Raises KeyError for a part that nobody makes."""
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part['name']]()}{part[3]}", text)


def main() -> None:
    """Renew all documents."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        if (new := renewed(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"renewed {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
