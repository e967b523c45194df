"""What a link speaks: the messages in MessagePack or in JSON, and all that depends on which of the two.

The schema is the same. Entries of logs are kept in MessagePack (E4): a hub makes the JSON of a run of entries once for
all who read it. Bytes are strings in standard base64. One byte of MessagePack is at most ``growth`` bytes of JSON: a
control character in a text is six, and so is a ``false`` in an array of a later version. So what has room in one
encoding has room in the other.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from . import messages as wire
from ._frames import TEXT, encode_frame
from .messages import (
    DECODE_FAULTS,
    LOGIN_BYTES,
    BatchDecoder,
    ClientMessage,
    MalformedBatch,
    RawEntries,
    ServerMessage,
)

SUBPROTOCOL_JSON = "rtm.v1.json"
_JSON_GROWTH = 6
_JSON_NAME_GROWTH = 2
"""Names and tokens are printable ASCII: a quotation mark or a backslash is two bytes."""
_JSON_FRINGE = 1
"""Two brackets around a batch, and one comma less than there are messages."""

_M = TypeVar("_M")


@dataclasses.dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Encoding:
    """One of the two forms of a message on the wire."""

    name: str
    """As a client's config says it."""
    index: int
    """Its place among ``ENCODINGS``."""
    subprotocol: str
    message_type: type[Any]
    """What the wire makes of a message: bytes of a binary one, str of a text. One of the other kind is a protocol
    error (1003)."""
    payload_of: Callable[[Any], bytes]
    """The payload of a message as the wire gives it."""
    message_of: Callable[[bytes], Any]
    """A payload as the wire takes it."""
    frame: Callable[[bytes], bytes]
    """The payload as a whole unmasked frame."""
    heartbeat: Any
    """The empty batch, as the wire gives and takes it."""
    heartbeat_frame: bytes
    login_bytes: int
    """What a batch may have before the welcome (S45)."""
    growth: int
    """How many bytes of this encoding one byte of MessagePack is at most."""
    encode_batch: Callable[[Sequence[object]], bytes]
    """A batch of messages to its payload."""
    encode_in_pieces: Callable[[Sequence[object], int, int], list[bytes]]
    """Batches of at most so many bytes, of messages that have at least so many; see
    ``messages.encode_in_pieces``."""
    encode_block: Callable[[str, bytes, int, Sequence[bytes]], bytes]
    """A batch of one ``Entries`` message: log, epoch, first offset, and the entries in MessagePack (E4)."""
    raw_entries: Callable[[Sequence[bytes]], list[msgspec.Raw]]
    """Entries in MessagePack as they stand in a message of this encoding."""
    client_decoder: BatchDecoder[ClientMessage]
    """For what a client sends."""
    server_decoder: BatchDecoder[ServerMessage]
    """For what a server sends."""

    def frame_bytes(self, max_frame_bytes: int) -> int:
        """What a batch may have behind the welcome, in which ``max_frame_bytes`` counts MessagePack (S45)."""
        return max_frame_bytes * self.growth


def mistaken_kind(message: object) -> str:
    """What is wrong with a message that is not of the link's ``message_type``."""
    if isinstance(message, str):
        return "a text message in a binary subprotocol"
    return "a binary message in a text subprotocol"


# --- JSON

_encoder = msgspec.json.Encoder()
_decode_anything = msgspec.msgpack.Decoder().decode
_decode_fields = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode

_TAG = re.compile(rb"\[[ \t\r\n]*(\d{1,9})[ \t\r\n]*[,\]]")
# Searched for as it stands, it takes up to forty times as long: a frame of short numbers would hold up a hub (S51).
_DIGITS_ALIKE = bytes(0x30 if chr(byte).isdecimal() else 0x20 for byte in range(128)) + b" " * 128
_LONG_NUMBER = b"0" * 19
_UNSAYABLE = (*DECODE_FAULTS, TypeError, ValueError, OverflowError)
"""What comes of a value that JSON has no form for."""


class _JsonDecoder(BatchDecoder[_M]):
    """The same rules for JSON."""

    __slots__ = ()

    @staticmethod
    def _new_decoder(kind: Any) -> Callable[[Any], Any]:
        return msgspec.json.Decoder(kind).decode

    def decode(self, payload: Any, max_messages: int | None = None) -> tuple[list[_M], int]:
        """As in MessagePack, of text or its bytes, and with the same numbers: one beyond 64 bits is refused, because
        nothing behind the decoder expects it."""
        if type(payload) is str:
            payload = payload.encode()
        messages, skipped = super().decode(payload, max_messages)
        if _LONG_NUMBER in payload.translate(_DIGITS_ALIKE):
            try:
                wire.encode_batch(messages)
            except OverflowError as fault:
                raise MalformedBatch("a number of more than 64 bits") from fault
        return messages, skipped

    def _has_more(self, payload: bytes, count: int) -> bool:
        # A batch of many messages has many brackets; only then their number is worth a look. Brackets in texts count
        # too, so it is the elements that decide.
        if payload.count(b"[") <= count:
            return False
        try:
            return len(self._fields(payload)) > count
        except DECODE_FAULTS:
            return False  # no batch at all, as the decoding will find

    def _tag_of(self, raw: msgspec.Raw) -> int:
        found = _TAG.match(raw)
        return self._slow_tag_of(raw) if found is None else int(found[1])


def _encode_json_in_pieces(messages: Sequence[object], max_bytes: int, at_least: int = 0) -> list[bytes]:
    if at_least <= max_bytes or len(messages) == 1:
        payload = _encoder.encode(messages)
        if len(payload) <= max_bytes or len(messages) == 1:
            return [payload]
    return wire.split(map(_encoder.encode, messages), max_bytes - _JSON_FRINGE, _join, separator_bytes=1)


def _join(encoded: list[bytes]) -> bytes:
    return b"[" + b",".join(encoded) + b"]"


def _encode_json_block(log: str, epoch: bytes, first_offset: int, entries: Sequence[bytes]) -> bytes:
    return _encoder.encode((RawEntries(log, epoch, first_offset, _json_entries(entries)),))


def _json_entries(entries: Sequence[bytes]) -> list[msgspec.Raw]:
    return [msgspec.Raw(_to_json(one)) for one in entries]


def _to_json(entry: bytes) -> bytes:
    """An entry of any version. A field for which JSON has no form is null there; an entry that is no array at all is
    null, for the reader to judge."""
    try:
        return _encoder.encode(_decode_anything(entry))
    except _UNSAYABLE:
        pass
    try:
        fields = _decode_fields(entry)
    except DECODE_FAULTS:
        return b"null"
    return _join([_field_to_json(field) for field in fields])


def _field_to_json(field: msgspec.Raw) -> bytes:
    try:
        return _encoder.encode(_decode_anything(field))
    except _UNSAYABLE:
        return b"null"


# --- the two

MSGPACK = Encoding(
    name="msgpack",
    index=0,
    subprotocol=wire.SUBPROTOCOL_MSGPACK,
    message_type=bytes,
    payload_of=bytes,
    message_of=bytes,
    frame=encode_frame,
    heartbeat=wire.HEARTBEAT,
    heartbeat_frame=encode_frame(wire.HEARTBEAT),
    login_bytes=LOGIN_BYTES,
    growth=1,
    encode_batch=wire.encode_batch,
    encode_in_pieces=wire.encode_in_pieces,
    encode_block=wire.encode_block,
    raw_entries=lambda entries: [msgspec.Raw(one) for one in entries],
    client_decoder=wire.client_decoder(),
    server_decoder=wire.server_decoder(),
)

JSON = Encoding(
    name="json",
    index=1,
    subprotocol=SUBPROTOCOL_JSON,
    message_type=str,
    payload_of=str.encode,
    message_of=bytes.decode,
    frame=partial(encode_frame, opcode=TEXT),
    heartbeat="[]",
    heartbeat_frame=encode_frame(b"[]", opcode=TEXT),
    login_bytes=LOGIN_BYTES * _JSON_NAME_GROWTH,
    growth=_JSON_GROWTH,
    encode_batch=_encoder.encode,
    encode_in_pieces=_encode_json_in_pieces,
    encode_block=_encode_json_block,
    raw_entries=_json_entries,
    client_decoder=_JsonDecoder(ClientMessage, with_entries=False),
    server_decoder=_JsonDecoder(ServerMessage, with_entries=True),
)

ENCODINGS = (MSGPACK, JSON)
"""All of them; a server has no favourite, it is the client's that counts."""
BY_NAME = {encoding.name: encoding for encoding in ENCODINGS}
BY_SUBPROTOCOL = {encoding.subprotocol: encoding for encoding in ENCODINGS}
