"""Plays conversations on the cores: what goes in at which time, and all that comes out. README.md has the format."""

from __future__ import annotations

import base64
import enum
import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

import msgspec

from rtm_sansio import (
    ClientConfig,
    ClientCore,
    CloseTransport,
    Hub,
    LoginRequested,
    OpenTransport,
    RenewalRequested,
    RequestCompleted,
    RequestErred,
    ServerConfig,
    Transmit,
    TransportFailure,
    parse_endpoints,
)
from rtm_sansio import messages as wire
from rtm_sansio._encodings import MSGPACK, Encoding

Json = Any
Step = dict[str, Json]

_STRUCTS: dict[str, type[msgspec.Struct]] = {
    struct.__name__: struct
    for struct in (
        *get_args(wire.ClientMessage),
        *get_args(wire.ServerMessage),
        *get_args(wire.Entry),
        wire.AttributesResult,
        wire.Attribute,
        wire.WantedChannel,
        wire.WantedInbox,
        wire.InboxPlace,
        wire.WantedStatus,
        wire.UserStatus,
        wire.ChannelResult,
        wire.Limits,
        wire.UnknownEntry,
    )
}
_TEXT, _BINARY, _CLOSE = 1, 2, 8
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_START = 1000.0
WALL_CLOCK = 1_700_000_000.0


# --- values


def to_json(value: Any) -> Json:
    """A message, an event or a part of one, as JSON; bytes are ``{"hex": …}``, a map is ``{"map": {…}}``."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, msgspec.Struct):
        fields = {name: to_json(getattr(value, name)) for name in value.__struct_fields__}
        return {type(value).__name__: fields}
    if isinstance(value, (list, tuple)):
        return [to_json(each) for each in value]
    if isinstance(value, dict):
        return {"map": {key: to_json(each) for key, each in value.items()}}
    return value


def from_json(value: Json, bound: dict[str, bytes] | None = None) -> Any:
    """The other way round; ``{"bind": NAME}`` stands for what was bound to the name."""
    if isinstance(value, list):
        return tuple(from_json(each, bound) for each in value)
    if not isinstance(value, dict):
        return value
    ((name, content),) = value.items()
    if name == "hex":
        return bytes.fromhex(content)
    if name == "map":
        return {key: from_json(each, bound) for key, each in content.items()}
    if name == "bind":
        assert bound is not None
        return bound[content]
    return _STRUCTS[name](**{field: from_json(each, bound) for field, each in content.items()})


def matches(expected: Json, actual: Json, bound: dict[str, bytes]) -> bool:
    """Whether ``actual`` is what was expected; a ``bind`` takes any bytes the first time, and the same afterwards."""
    if isinstance(expected, dict) and expected.keys() == {"bind"}:
        value = bytes.fromhex(actual["hex"])
        return bound.setdefault(expected["bind"], value) == value
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(matches(expected[key], actual[key], bound) for key in expected)
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(matches, expected, actual, [bound] * len(actual)))
    return bool(expected == actual)


class Namer:
    """Gives the random bytes of a recording the names by which they are bound."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = fields
        self._names: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def name(self, value: Json, field: str = "") -> Json:
        """The value with a ``bind`` in place of each random field."""
        if isinstance(value, list):
            return [self.name(each, field) for each in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"hex"} and field in self._fields:
            if value["hex"] not in self._names:
                self._counts[field] = self._counts.get(field, 0) + 1
                self._names[value["hex"]] = f"{field} {self._counts[field]}"
            return {"bind": self._names[value["hex"]]}
        return {key: self.name(each, key) for key, each in value.items()}


class MaxJitter(random.Random):
    """Every delay is the longest that the rules allow."""

    def uniform(self, a: float, b: float) -> float:
        return b


def counting_entropy() -> Callable[[int], bytes]:
    """Bytes that differ from call to call, and not from run to run."""
    numbers = iter(range(1, 1 << 30))
    return lambda size: hashlib.sha256(str(next(numbers)).encode()).digest()[:size].ljust(size, b"\0")


# --- frames


def frame(payload: bytes, opcode: int = _BINARY, *, masked: bool) -> bytes:
    """A whole frame; the mask is four zeros."""
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes([0x80 | opcode, bit | size])
    elif size < 65536:
        head = bytes([0x80 | opcode, bit | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, bit | 127]) + size.to_bytes(8, "big")
    return head + (bytes(4) if masked else b"") + payload


class FrameReader:
    """Takes apart what a core sends: an HTTP head first, then whole frames."""

    def __init__(self) -> None:
        self._buffer = b""
        self.head: bytes | None = None

    def feed(self, data: bytes) -> Iterable[tuple[int, bytes]]:
        """Opcodes and payloads."""
        self._buffer += data
        if self.head is None:
            self.head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        while self._buffer:
            first, second = self._buffer[:2]
            start, size = 2, second & 0x7F
            if size == 126:
                start, size = 4, int.from_bytes(self._buffer[2:4], "big")
            elif size == 127:
                start, size = 10, int.from_bytes(self._buffer[2:10], "big")
            mask = bytes(4)
            if second & 0x80:
                mask = self._buffer[start : start + 4]
                start += 4
            masked = self._buffer[start : start + size]
            self._buffer = self._buffer[start + size :]
            yield first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))


# --- conversations


class _Replay:
    """Time, and what comes out in it. The times of a conversation begin with 0."""

    core: Any

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._opcode = _BINARY if encoding.message_type is bytes else _TEXT
        self._now = _START
        self._out: list[Json] = []

    def play(self, at: float, step: Step) -> list[Json]:
        """Let time pass until ``at``; then do one step. Returns what came out meanwhile, and what the step brought.

        What timers bring in the time before carries its own ``at``.
        """
        self._out = []
        while (deadline := self.core.next_deadline()) is not None and deadline < _START + at:
            self._now = max(self._now, deadline)
            self.core.handle_timeout(now=self._now)
            self._take(at=round(self._now - _START, 6))
        self._now = _START + at
        self.do(step)
        self._take(at=None)
        return self._out

    def do(self, step: Step) -> None:
        raise NotImplementedError

    def take(self, output: Any) -> None:
        raise NotImplementedError

    def put(self, item: Json) -> None:
        self._out.append(item)

    def _frame(self, step: Step, *, masked: bool) -> bytes:
        """What the step says that is received: in MessagePack, or the same in JSON."""
        payload = bytes.fromhex(step["receive"]) if self._encoding is MSGPACK else step["json"].encode()
        return frame(payload, self._opcode, masked=masked)

    def _take(self, at: float | None) -> None:
        start = len(self._out)
        self.drain()
        if at is not None:
            self._out[start:] = [{"at": at, **item} for item in self._out[start:]]

    def drain(self) -> None:
        while outputs := self.core.take_outputs():
            for output in outputs:
                self.take(output)


class ClientReplay(_Replay):
    """A ``ClientCore``, for the conversations of ``client.json``."""

    def __init__(self, config: dict[str, Any], encoding: Encoding = MSGPACK) -> None:
        super().__init__(encoding)
        self.core = ClientCore(
            ClientConfig(encoding=encoding.name, **config),
            endpoints=parse_endpoints("ws://rtm.example"),
            rng=MaxJitter(),
            entropy=counting_entropy(),
        )
        self._transport_id = 0
        self._reader = FrameReader()
        self._close_code: int | None = None
        self._calls: dict[int, str] = {}
        self._call_count = 0

    def do(self, step: Step) -> None:
        (kind,) = step.keys() & {"call", "opened", "failed", "receive", "lost", "closed", "iterate", "take", "wait"}
        getattr(self, f"_do_{kind}")(step)

    def _do_call(self, step: Step) -> None:
        arguments = dict(step["call"])
        name = arguments.pop("name")
        arguments.pop("as")
        command = {"send": self.core.publish}.get(name) or getattr(self.core, name)
        if name == "retry_now":
            command(now=self._now)
            return
        named = {argument: from_json(each) for argument, each in arguments.items()}
        self._calls[command(**named, now=self._now)] = step["call"]["as"]

    def _do_opened(self, step: Step) -> None:
        assert self._reader.head is None, "nothing is being opened"
        self.core.transport_opened(self._transport_id, now=self._now)
        self.drain()
        assert self._reader.head is not None
        key = next(line for line in self._reader.head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        digest = hashlib.sha1(key.split(b":")[1].strip() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        head = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n"
            f"Sec-WebSocket-Protocol: {self._encoding.subprotocol}\r\n\r\n"
        )
        self._give(head.encode())

    def _do_failed(self, step: Step) -> None:
        failure = TransportFailure(step["failed"], code=step["failed"])
        self.core.transport_failed(self._transport_id, failure, now=self._now)

    def _do_receive(self, step: Step) -> None:
        self._give(self._frame(step, masked=False))

    def _do_closed(self, step: Step) -> None:
        self._give(frame(step["closed"].to_bytes(2, "big"), _CLOSE, masked=False))

    def _do_lost(self, step: Step) -> None:
        self.core.transport_lost(self._transport_id, None, now=self._now)

    def _do_iterate(self, step: Step) -> None:
        self.core.iterating(step["iterate"], True, now=self._now)

    def _do_take(self, step: Step) -> None:
        taken = step["take"]
        self.core.consumed(taken["channel"], taken["events"], taken["bytes"], now=self._now)

    def _do_wait(self, step: Step) -> None:
        self.core.handle_timeout(now=self._now)

    def _give(self, data: bytes) -> None:
        self.core.receive_data(self._transport_id, data, now=self._now)

    def take(self, output: Any) -> None:
        if isinstance(output, OpenTransport):
            self._transport_id = output.transport_id
            self._reader = FrameReader()
            self._close_code = None
            self.put({"open": output.attempt})
        elif isinstance(output, Transmit):
            for opcode, payload in self._reader.feed(output.data):
                if opcode == self._opcode:
                    messages, _ = self._encoding.client_decoder.decode(payload)
                    self.put({"send": to_json(messages)})
                elif opcode == _CLOSE:
                    self._close_code = int.from_bytes(payload[:2], "big")
        elif isinstance(output, CloseTransport):
            self.put({"close": self._close_code})
        elif isinstance(output, RequestCompleted):
            result = None if output.result is None else next(iter(to_json(output.result).values()))
            self.put({"result": result, "of": self._calls[output.request_id]})
        elif isinstance(output, RequestErred):
            outcome = getattr(output.error, "outcome", None)
            error = {"code": output.error.code, "outcome": None if outcome is None else outcome.name}
            self.put({"error": error, "of": self._calls[output.request_id]})
        else:
            ((name, fields),) = to_json(output).items()
            fields.pop("message", None) if name != "ChannelMessageReceived" else None
            self.put({"event": {name: fields}})


class ServerReplay(_Replay):
    """A ``Hub`` with its own engine, for the conversations of ``server.json``."""

    def __init__(self, config: dict[str, Any], encoding: Encoding = MSGPACK) -> None:
        super().__init__(encoding)
        self.core = Hub(ServerConfig(**config), entropy=counting_entropy(), rng=random.Random(0))
        self.core.set_wall_clock(WALL_CLOCK, now=self._now)
        self.bound: dict[str, bytes] = {}
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._readers: dict[int, FrameReader] = {}

    def do(self, step: Step) -> None:
        (kind,) = step.keys() & {"connect", "receive", "lost", "accept", "refuse", "kick", "wait"}
        getattr(self, f"_do_{kind}")(step)
        self.drain()
        self._flush()

    def drain(self) -> None:
        super().drain()
        self._flush()

    def _flush(self) -> None:
        while self.core.flush_wanted:
            self.core.flush(now=self._now)
            super().drain()

    def _do_connect(self, step: Step) -> None:
        transport_id = self.core.transport_accepted(peer=step["connect"], now=self._now)
        self._ids[step["connect"]] = transport_id
        self._names[transport_id] = step["connect"]
        self._readers[transport_id] = FrameReader()
        request = (
            "GET / HTTP/1.1\r\nHost: rtm.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n"
            f"Sec-WebSocket-Protocol: {self._encoding.subprotocol}\r\n\r\n"
        )
        self.core.receive_data(transport_id, request.encode(), now=self._now)

    def _do_receive(self, step: Step) -> None:
        batch = step["receive"]
        if isinstance(batch, str):
            data = self._frame(step, masked=True)
        else:
            data = frame(self._encoding.encode_batch(from_json(batch, self.bound)), self._opcode, masked=True)
        self.core.receive_data(self._ids[step["on"]], data, now=self._now)

    def _do_lost(self, step: Step) -> None:
        self.core.transport_lost(self._ids[step["lost"]], None, now=self._now)

    def _do_accept(self, step: Step) -> None:
        expires_in = step.get("expires_in")
        expires_at = None if expires_in is None else WALL_CLOCK + (self._now - _START) + expires_in
        transport_id = self._ids[step["accept"]]
        if "renewal" in step:
            self.core.accept_renewal(transport_id, step["renewal"], expires_at=expires_at, now=self._now)
        else:
            self.core.accept_login(transport_id, expires_at=expires_at, now=self._now)

    def _do_refuse(self, step: Step) -> None:
        transport_id = self._ids[step["refuse"]]
        if "renewal" in step:
            self.core.refuse_renewal(transport_id, step["renewal"], step["code"], "refused", now=self._now)
        else:
            self.core.refuse_login(transport_id, step["code"], "refused", now=self._now)

    def _do_kick(self, step: Step) -> None:
        self.core.kick(step["kick"], now=self._now)

    def _do_wait(self, step: Step) -> None:
        self.core.handle_timeout(now=self._now)

    def take(self, output: Any) -> None:
        if isinstance(output, Transmit):
            for opcode, payload in self._readers[output.transport_id].feed(output.data):
                if opcode == self._opcode:
                    messages, _ = self._encoding.server_decoder.decode(payload)
                    self.put({"on": self._names[output.transport_id], "send": _without_texts(to_json(messages))})
                elif opcode == _CLOSE:
                    code = int.from_bytes(payload[:2], "big")
                    self.put({"on": self._names[output.transport_id], "close": code})
        elif isinstance(output, (LoginRequested, RenewalRequested)):
            self.put({"on": self._names[output.transport_id], "asks about": output.uid})
        elif isinstance(output, CloseTransport):
            self.put({"on": self._names[output.transport_id], "dropped": True})


def _without_texts(batch: Json) -> Json:
    """The texts for people are not compared."""
    for message in batch:
        for name, fields in message.items():
            if name in ("LoginRefused", "Kicked", "Failed"):
                del fields["message"]
            if name == "Restored":
                for result in fields["channels"]:
                    del result["ChannelResult"]["message"]
    return batch
