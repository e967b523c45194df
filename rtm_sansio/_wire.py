"""One transport's translation between bytes and WebSocket messages (RFC 6455), both roles, without I/O.

A splitter stands in front of wsproto's frame layer. It reads the header of each frame itself, so that a
frame over the limit is refused before its payload is buffered, and it takes every frame that may stand where
it stands: messages, whole or in fragments, pings and pongs. A close frame, and the stream from a header on that
is not right, it hands to a wsproto ``Connection``, which judges. That connection comes last in the life of a
wire, so no peer can have many of them made: one costs as much as twenty-five frames.

The loop of a user:

1. ``events = wire.receive(data)``, then send ``wire.data_to_send()``: the handshake, pongs, the close frame.
2. After a ``Closed``, a ``HandshakeFailed`` or a ``Rejected``: send what ``data_to_send()`` holds, and close.
3. ``wire.frame(message)`` returns a data frame; send it behind what ``data_to_send()`` holds.
4. When the stream ends, ``wire.receive_eof()``. A client that gives up waiting may call it too: a rejection
   whose body never ends comes out of it.

What the wire does not do: it has no clock, so deadlines and rates (the wait for the peer's close frame, control
frames and fragments a second) are its user's; ``rare_frames`` counts those frames for it. permessage-deflate is
neither offered nor accepted: inflating has no bound.

Bounds, all independent of how the bytes were cut:

- a message, whole or in fragments: ``max_message_bytes`` (1009), tested at each header;
- fragments of one message: 1024, and one more per 32 bytes of ``max_message_bytes`` (1008): empty ones count;
- control frames without a complete message between them: 1024 (1008);
- waiting pongs: 16, of which the last answers the most recent ping (section 5.5.3 permits to skip others);
- the opening handshake: ``max_handshake_bytes``.
"""

from __future__ import annotations

import abc
import codecs
import enum
import sys
from array import array
from collections.abc import Callable, Iterable
from typing import ClassVar, Final, TypeAlias

from msgspec import Struct
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection

from rtm_sansio._frames import (
    BINARY,
    CLOSE,
    FIN,
    FIRST_BYTES_BETWEEN_MESSAGES,
    FIRST_BYTES_INSIDE_MESSAGE,
    MASKED,
    MAX_CONTROL_PAYLOAD_BYTES,
    NO_CLOSE_CODE,
    PING,
    PONG,
    TEXT,
    encode_close_payload,
    encode_frame,
    encode_masked_frame,
    is_sendable_close_code,
    locate_payload,
    shorten_reason,
    unmask,
)
from rtm_sansio._handshake import (
    DEFAULT_MAX_HANDSHAKE_BYTES,
    ClientHandshake,
    HandshakeCode,
    HandshakeFailed,
    Opened,
    Rejected,
    ServerHandshake,
    Verdict,
)
from rtm_sansio.errors import InvalidArgument, InvalidState

__all__ = [
    "ClientWire",
    "Closed",
    "HandshakeCode",
    "HandshakeFailed",
    "Opened",
    "Rejected",
    "ServerWire",
    "Wire",
    "WireEvent",
    "encode_frame",
]

MAX_WAITING_PONGS: Final = 16
MAX_CONTROL_FRAMES_BETWEEN_MESSAGES: Final = 1024
MIN_FRAGMENT_LIMIT: Final = 1024
MAX_BYTES_PER_ALLOWED_FRAGMENT: Final = 32

ABNORMAL_CLOSURE: Final = 1006
INVALID_TEXT: Final = 1007
POLICY_VIOLATION: Final = 1008
MESSAGE_TOO_BIG: Final = 1009

# Masks come out of one larger draw: asking the system for four bytes costs more than masking a short message.
_MASK_BLOCK_BYTES: Final = 4096

_WHOLE_TEXT: Final = FIN | TEXT
_WHOLE_BINARY: Final = FIN | BINARY
_WHOLE_CLOSE: Final = FIN | CLOSE
_WHOLE_PING: Final = FIN | PING
# Of the first bytes that are allowed, control frames have the highest.
_FIRST_CONTROL_BYTE: Final = FIN | CLOSE
_SHORTEST_HEADER_BYTES: Final = 2

_new_decoder: Final = codecs.getincrementaldecoder("utf-8")


class Closed(Struct, frozen=True, kw_only=True, gc=False):
    """The last event of an open wire, exactly once; whatever bytes come afterwards are discarded.

    ``by_peer`` is true when the peer's close frame arrived (code 1005 when it carried none; the echo is in
    the outbound unless our own went first), and when the stream ended without one (code 1006). It is false
    when this side failed the connection because of a violation; the close frame that says so is in the
    outbound.
    """

    code: int
    reason: str
    by_peer: bool


WireEvent: TypeAlias = bytes | str | Opened | Rejected | HandshakeFailed | Closed


class _State(enum.IntEnum):
    """``OPENING`` until the handshake is done, ``CLOSING`` after our close frame, ``CLOSED`` at the end."""

    OPENING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


# Module names are read faster than enum attributes, and these are read for every message.
_OPENING: Final = _State.OPENING
_OPEN: Final = _State.OPEN
_CLOSING: Final = _State.CLOSING
_CLOSED: Final = _State.CLOSED


class _Fragments:
    """A message of which not all fragments have come."""

    __slots__ = ("binary", "byte_count", "count", "decode", "text")

    def __init__(self, is_text: bool) -> None:
        self.decode = _new_decoder().decode if is_text else None
        self.binary = bytearray()
        self.text: list[str] = []
        self.byte_count = 0
        self.count = 0


class Wire(abc.ABC):
    """What both roles share: everything but the opening request, masking, and the side of the handshake."""

    __slots__ = (
        "_buffer",
        "_control_run",
        "_handshake",
        "_judge",
        "_message",
        "_needed",
        "_outbound",
        "_pongs",
        "_splitting",
        "_state",
        "max_message_bytes",
        "rare_frames",
    )

    # What sets the roles apart in the splitter: the second byte's highest bit and the key it announces.
    _MASK_BIT: ClassVar[int]
    _MASK_BYTES: ClassVar[int]
    _ROLE: ClassVar[ConnectionType]

    def __init__(self, handshake: ServerHandshake | ClientHandshake, max_message_bytes: int) -> None:
        #: The largest message to receive, in bytes of its payload; may be changed at any time.
        self.max_message_bytes = max_message_bytes
        #: How many frames came that are no messages of their own: control frames, and the fragments of a message
        #: but the first. Its user sets it back when it has charged them to somebody's rate.
        self.rare_frames = 0
        self._state = _OPENING
        self._handshake: ServerHandshake | ClientHandshake | None = handshake
        # True while bytes go to the splitter, so that receive() has one thing to test.
        self._splitting = False
        # An incomplete frame, and how long it must get before a look at it is worth while: without that
        # number, a large frame that comes in small pieces would cost quadratic time.
        self._buffer: bytearray | None = None
        self._needed = 0
        # Not None exactly while a fragmented message is under way, and behind a header that wsproto is to refuse.
        self._message: _Fragments | None = None
        self._judge: Connection | None = None
        self._control_run = 0
        self._outbound: list[bytes] | None = None
        # What the pings said that are to be answered. They go out behind what is in the outbound now.
        self._pongs: list[bytes] | None = None

    @property
    def is_open(self) -> bool:
        """Whether ``frame()`` may be called: the handshake is done and no close frame went either way."""
        return self._state is _OPEN

    @property
    def closing(self) -> bool:
        """Whether our close frame went out, or is about to, and the peer's has not arrived."""
        return self._state is _CLOSING

    @property
    def closed(self) -> bool:
        """Whether no event can come any more."""
        return self._state is _CLOSED

    # --- what the network brings ---------------------------------------------------------------------

    def receive(self, data: bytes) -> list[WireEvent]:
        """The messages and events that ``data`` completes. Never raises, whatever the bytes are (S50)."""
        if not self._splitting:
            return self._receive_aside(data)
        buffer = self._buffer
        if buffer is not None:
            if len(buffer) + len(data) < self._needed:
                buffer += data
                return []
            data = b"".join((buffer, data))
            self._buffer = None
        return self._split(data)

    def receive_eof(self) -> list[WireEvent]:
        """What the end of the stream means: for an open wire it is closed with code 1006 (section 7.1.5)."""
        if self._handshake is not None:
            return self._conclude_opening(self._handshake.receive_eof())
        if self._state is _CLOSED:
            return []
        reason = "the stream ended without a close frame"
        if self._buffer:
            reason += f", {len(self._buffer)} bytes into a frame"
        self._end()
        return [Closed(code=ABNORMAL_CLOSURE, reason=reason, by_peer=True)]

    # --- what goes out -------------------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """The bytes that are due: handshake, pongs, close frame. A second call returns none."""
        if self._pongs is not None:
            self._encode_pongs()
        outbound = self._outbound
        if outbound is None:
            return b""
        self._outbound = None
        return b"".join(outbound)

    @abc.abstractmethod
    def frame(self, payload: bytes | str) -> bytes:
        """One whole data frame, binary or text; send it behind what ``data_to_send()`` holds.

        Raises:
            InvalidState: The wire is not open (see ``is_open``).
            UnicodeEncodeError: The text holds a lone surrogate.
        """

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Queue a close frame; no data frame may follow. Messages come in until the peer's close frame does.

        The reason is cut to 123 bytes of UTF-8. Code 1005 sends a frame without code and reason. Before the
        opening handshake is done there is nothing to close with: the wire is closed at once. Another call
        does nothing.

        Raises:
            InvalidArgument: The code may not be sent (section 7.4).
        """
        if not is_sendable_close_code(code) and code != NO_CLOSE_CODE:
            raise InvalidArgument(f"close code {code} may not be sent; use 1000 to 4999 but 1004, 1006 and 1015")
        if self._state is _OPENING:
            self._end()
        elif self._state is _OPEN:
            self._queue(self._encode_control(CLOSE, encode_close_payload(code, reason)))
            self._state = _CLOSING

    @abc.abstractmethod
    def _encode_control(self, opcode: int, payload: bytes) -> bytes:
        """One whole control frame as this role sends it."""

    # --- opening -------------------------------------------------------------------------------------

    def _receive_aside(self, data: bytes) -> list[WireEvent]:
        """Bytes that are not the splitter's: of the handshake, of a header to be refused, or of no use."""
        if self._handshake is not None:
            verdict = self._handshake.receive(data)
            return [] if verdict is None else self._conclude_opening(verdict)
        events: list[WireEvent] = []
        if self._judge is not None:
            self._ask_judge(self._judge, data, events)
        return events

    def _conclude_opening(self, verdict: Verdict) -> list[WireEvent]:
        self._handshake = None
        if verdict.answer:
            self._queue(verdict.answer)
        if not isinstance(verdict.event, Opened):
            self._end()
            return [verdict.event]
        self._state = _OPEN
        self._splitting = True
        return [verdict.event, *self._split(verdict.trailing)]

    # --- frames --------------------------------------------------------------------------------------

    def _split(self, data: bytes) -> list[WireEvent]:
        """Take the whole frames out of ``data``, which begins with one, and keep what is left.

        The branches for whole data frames stand here and not in functions of their own: this is the hot path.
        """
        events: list[WireEvent] = []
        mask_bit = self._MASK_BIT
        mask_bytes = self._MASK_BYTES
        limit = room = self.max_message_bytes
        usual = FIRST_BYTES_BETWEEN_MESSAGES
        message = self._message
        if message is not None:
            room -= message.byte_count
            usual = FIRST_BYTES_INSIDE_MESSAGE
        size = len(data)
        position = 0
        events_at_control = 0
        while position < size:
            first = data[position]
            start = length = 0
            if first in usual and position + 2 <= size:
                # With the right mask bit this leaves the seven-bit length, with the wrong one 128 or more.
                length = data[position + 1] ^ mask_bit
                if length <= 125:
                    start = position + 2
                elif length == 126 and first < _FIRST_CONTROL_BYTE and position + 4 <= size:
                    length = data[position + 2] << 8 | data[position + 3]
                    if length > 125:
                        start = position + 4
            if not start or length > room:
                located = self._locate(data, position, events)
                if located is None:
                    break
                start, length = located
            end = start + mask_bytes + length
            if end > size:
                self._needed = end - position
                break
            if first == _WHOLE_BINARY:
                events.append(unmask(data, start, end) if mask_bit else data[start:end])
            else:
                payload = b"" if not length else unmask(data, start, end) if mask_bit else data[start:end]
                if first == _WHOLE_TEXT:
                    try:
                        events.append(payload.decode())
                    except UnicodeDecodeError as error:
                        self._fail_text(error, events)
                        break
                elif first >= _FIRST_CONTROL_BYTE:
                    if len(events) > events_at_control:
                        self._control_run = 0
                        events_at_control = len(events)
                    if not self._take_control(first, payload, events):
                        break
                else:
                    if message is None:
                        message = self._message = _Fragments(first == TEXT)
                        usual = FIRST_BYTES_INSIDE_MESSAGE
                    else:
                        self.rare_frames += 1
                    if not self._take_fragment(message, first, payload, events):
                        break
                    room = limit - message.byte_count
                    if first & FIN:
                        message = self._message = None
                        usual = FIRST_BYTES_BETWEEN_MESSAGES
                        room = limit
            position = end
        if len(events) > events_at_control:
            self._control_run = 0
        if position < size and self._splitting:
            self._buffer = bytearray(data[position:])
        return events

    def _locate(self, data: bytes, position: int, events: list[WireEvent]) -> tuple[int, int] | None:
        """Start and length of the payload of any frame, like ``locate_payload``.

        None if nothing from ``position`` on can be taken now: the header is incomplete (``_needed`` is
        set), was refused for the length it announces, or is one for wsproto to refuse.
        """
        if len(data) - position < _SHORTEST_HEADER_BYTES:
            self._needed = _SHORTEST_HEADER_BYTES
            return None
        first = data[position]
        length = data[position + 1] ^ self._MASK_BIT
        message = self._message
        is_control = first >= _FIRST_CONTROL_BYTE
        expected = FIRST_BYTES_BETWEEN_MESSAGES if message is None else FIRST_BYTES_INSIDE_MESSAGE
        if first not in expected or length >= MASKED or (is_control and length > MAX_CONTROL_PAYLOAD_BYTES):
            self._hand_over(data[position:], events)
            return None
        start, length = locate_payload(data, position, length)
        if not start:
            if length < 0:
                self._hand_over(data[position:], events)
            else:
                self._needed = length
            return None
        total = length if message is None else message.byte_count + length
        if total > self.max_message_bytes and not is_control:
            reason = f"a message of at least {total} bytes is over the limit of {self.max_message_bytes}"
            self._fail(MESSAGE_TOO_BIG, reason, events)
            return None
        return start, length

    def _take_control(self, first: int, payload: bytes, events: list[WireEvent]) -> bool:
        """One whole control frame; whether the wire goes on."""
        self.rare_frames += 1
        self._control_run += 1
        if self._control_run > MAX_CONTROL_FRAMES_BETWEEN_MESSAGES:
            limit = MAX_CONTROL_FRAMES_BETWEEN_MESSAGES
            self._fail(POLICY_VIOLATION, f"more than {limit} control frames without a message between", events)
            return False
        if first == _WHOLE_PING:
            # Nothing goes out behind our close frame.
            if self._state is _OPEN:
                pongs = self._pongs
                if pongs is None:
                    self._pongs = [payload]
                elif len(pongs) < MAX_WAITING_PONGS:
                    pongs.append(payload)
                else:
                    pongs[-1] = payload
        elif first == _WHOLE_CLOSE:
            frame = (
                encode_masked_frame(payload, 0, opcode=CLOSE) if self._MASK_BIT else encode_frame(payload, opcode=CLOSE)
            )
            self._hand_over(frame, events)
            return False
        return True

    def _take_fragment(self, message: _Fragments, first: int, payload: bytes, events: list[WireEvent]) -> bool:
        """One whole fragment; whether the wire goes on."""
        message.count += 1
        if message.count > MIN_FRAGMENT_LIMIT:
            fragment_limit = MIN_FRAGMENT_LIMIT + self.max_message_bytes // MAX_BYTES_PER_ALLOWED_FRAGMENT
            if message.count > fragment_limit:
                self._fail(POLICY_VIOLATION, f"a message in more than {fragment_limit} fragments", events)
                return False
        decode = message.decode
        if payload:
            message.byte_count += len(payload)
            if decode is None:
                message.binary += payload
            else:
                try:
                    text = decode(payload)
                except UnicodeDecodeError as error:
                    self._fail_text(error, events)
                    return False
                # Empty pieces would take memory that the limit on bytes does not see.
                if text:
                    message.text.append(text)
        if first & FIN:
            if decode is None:
                events.append(bytes(message.binary))
            else:
                try:
                    # Nothing comes of the end but the error that a character was cut.
                    decode(b"", True)
                except UnicodeDecodeError as error:
                    self._fail_text(error, events)
                    return False
                events.append("".join(message.text))
        return True

    def _hand_over(self, data: bytes, events: list[WireEvent]) -> None:
        """Let wsproto judge all bytes from a header that it will refuse, at the latest one payload byte on; or
        from a close frame, whole."""
        self._splitting = False
        judge = self._judge = Connection(self._ROLE)
        if self._message is not None:
            # It must know that a message is under way: an empty first fragment says so.
            judge.receive_data(bytes((BINARY, self._MASK_BIT)) + bytes(self._MASK_BYTES))
        self._ask_judge(judge, data, events)

    def _ask_judge(self, judge: Connection, data: bytes, events: list[WireEvent]) -> None:
        judge.receive_data(data)
        for event in judge.events():
            if isinstance(event, CloseConnection):
                # wsproto reports a violation like the peer's close frame; only its state tells them apart.
                if judge.state is ConnectionState.REMOTE_CLOSING:
                    self._take_close(int(event.code), event.reason or "", events)
                else:
                    self._fail(int(event.code), event.reason or "", events)

    def _take_close(self, code: int, reason: str, events: list[WireEvent]) -> None:
        """The peer's close frame: echo its code (section 5.5.1) unless it is the answer to ours."""
        if self._state is not _CLOSING:
            self._queue(self._encode_control(CLOSE, encode_close_payload(code)))
        self._end()
        events.append(Closed(code=code, reason=reason, by_peer=True))

    # --- ends ----------------------------------------------------------------------------------------

    def _fail(self, code: int, reason: str, events: list[WireEvent]) -> None:
        """Fail the connection (section 7.1.7): say why in a close frame, unless one is out, and end."""
        reason = shorten_reason(reason)
        if self._state is not _CLOSING:
            self._queue(self._encode_control(CLOSE, encode_close_payload(code, reason)))
        self._end()
        events.append(Closed(code=code, reason=reason, by_peer=False))

    def _fail_text(self, error: UnicodeDecodeError, events: list[WireEvent]) -> None:
        self._fail(INVALID_TEXT, f"a text message is not valid UTF-8: {error.reason} at byte {error.start}", events)

    def _end(self) -> None:
        self._state = _CLOSED
        self._splitting = False
        self._handshake = None
        self._buffer = None
        self._message = None
        self._judge = None

    def _queue(self, data: bytes) -> None:
        if self._pongs is not None:
            self._encode_pongs()
        if self._outbound is None:
            self._outbound = [data]
        else:
            self._outbound.append(data)

    def _encode_pongs(self) -> None:
        """Put the pongs that wait behind what is in the outbound: only the last sixteen of a flood were kept."""
        pongs, self._pongs = self._pongs, None
        for payload in pongs or ():
            self._queue(self._encode_control(PONG, payload))

    def _refuse_frame(self) -> InvalidState:
        return InvalidState(f"no data frame can be sent: the wire is {self._state.name.lower()}, not open")


class ServerWire(Wire):
    """The server's side: answers one opening request, then unmasks what comes in.

    ``path`` is compared without the query. ``allowed_origins`` are compared as a browser sends them
    (``https://example.org``); ``"*"`` allows all, and a request without Origin always passes. With
    ``subprotocols``, the first one in the client's list that is among them is chosen, and a request that
    offers none of them is refused; without, any request passes and none is chosen.
    """

    __slots__ = ()

    _MASK_BIT = MASKED
    _MASK_BYTES = 4
    _ROLE = ConnectionType.SERVER

    def __init__(
        self,
        *,
        path: str = "/",
        allowed_origins: tuple[str, ...] = (),
        subprotocols: tuple[str, ...],
        max_message_bytes: int,
        max_handshake_bytes: int = DEFAULT_MAX_HANDSHAKE_BYTES,
    ) -> None:
        handshake = ServerHandshake(
            path=path,
            allowed_origins=allowed_origins,
            subprotocols=subprotocols,
            max_handshake_bytes=max_handshake_bytes,
        )
        super().__init__(handshake, max_message_bytes)

    def frame(self, payload: bytes | str) -> bytes:
        """One whole unmasked data frame; see ``Wire.frame``. ``encode_frame`` makes one for many wires."""
        if self._state is not _OPEN:
            raise self._refuse_frame()
        if isinstance(payload, str):
            return encode_frame(payload.encode(), opcode=TEXT)
        return encode_frame(payload)

    def _encode_control(self, opcode: int, payload: bytes) -> bytes:
        return encode_frame(payload, opcode=opcode)


class ClientWire(Wire):
    """The client's side: sends one opening request, then masks what goes out.

    ``entropy(n)`` returns ``n`` unpredictable bytes: the nonce, and blocks of masks.
    ``host`` is the Host header, with the port unless it is the scheme's own.

    Raises:
        InvalidArgument: The host, the target or an extra header cannot stand in an HTTP request.
    """

    __slots__ = ("_entropy", "_mask_offset", "_masks", "_request")

    _MASK_BIT = 0
    _MASK_BYTES = 0
    _ROLE = ConnectionType.CLIENT

    def __init__(
        self,
        *,
        host: str,
        target: str,
        subprotocols: tuple[str, ...],
        max_message_bytes: int,
        entropy: Callable[[int], bytes],
        extra_headers: Iterable[tuple[str, str]] = (),
        max_handshake_bytes: int = DEFAULT_MAX_HANDSHAKE_BYTES,
    ) -> None:
        handshake = ClientHandshake(
            host=host,
            target=target,
            subprotocols=subprotocols,
            entropy=entropy,
            extra_headers=extra_headers,
            max_handshake_bytes=max_handshake_bytes,
        )
        super().__init__(handshake, max_message_bytes)
        self._request = handshake.request
        self._entropy = entropy
        self._masks = array("I")
        self._mask_offset = 0

    def start(self) -> None:
        """Queue the opening request.

        Raises:
            InvalidState: It was queued before, or the wire is closed.
        """
        if not self._request or self._state is _CLOSED:
            raise InvalidState("start() was called twice, or after close(); make a new wire")
        self._queue(self._request)
        self._request = b""

    def frame(self, payload: bytes | str) -> bytes:
        """One whole masked data frame; see ``Wire.frame``."""
        if self._state is not _OPEN:
            raise self._refuse_frame()
        opcode = BINARY
        if isinstance(payload, str):
            payload = payload.encode()
            opcode = TEXT
        offset = self._mask_offset
        if offset >= len(self._masks):
            self._draw_masks()
            offset = 0
        self._mask_offset = offset + 1
        return encode_masked_frame(payload, self._masks[offset], opcode=opcode)

    def _encode_control(self, opcode: int, payload: bytes) -> bytes:
        if self._mask_offset >= len(self._masks):
            self._draw_masks()
            self._mask_offset = 0
        self._mask_offset += 1
        return encode_masked_frame(payload, self._masks[self._mask_offset - 1], opcode=opcode)

    def _draw_masks(self) -> None:
        """Unpredictable masks, one for every frame (section 10.3), in the order of the drawn bytes."""
        self._masks = array("I", self._entropy(_MASK_BLOCK_BYTES))
        if sys.byteorder == "little":
            # Then every platform sends the same bytes.
            self._masks.byteswap()
