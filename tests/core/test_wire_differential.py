"""The wire against plain wsproto: on any stream of frames, cut anywhere, both hear the same.

The reference is one ``wsproto.Connection``. These differences are meant, and
nothing else may differ:

- A frame that would make a message larger than the limit ends with 1009 at its header; wsproto has no limit.
- A text frame is judged when it is whole; wsproto judges invalid UTF-8 in the part of a frame that has come.
- Sixteen pongs wait at most, the last for the most recent ping; wsproto answers none by itself. So the reference
  is fed what our wire is fed in one call, and of the pings in it the first fifteen and the last are compared.
- Bytes behind a close frame or a violation are discarded; wsproto keeps them, unread.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from rtm_sansio._frames import unmask
from rtm_sansio._wire import ClientWire, Closed, Opened, ServerWire, Wire

LIMIT = 1 << 20
OUR_ROLES = ["server", "client"]
# Derandomized: the same examples in every run, on every machine.
PROFILE = settings(max_examples=150, derandomize=True, deadline=None, database=None)


@dataclass
class Heard:
    """What a stream meant: the messages, the pings, and how it closed (code, and whether the peer did it)."""

    messages: list[bytes | str] = field(default_factory=list)
    pings: list[bytes] = field(default_factory=list)
    close: tuple[int, bool] | None = None


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream, cut there."""
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in pairwise(edges)]


def hear_reference(role: str, stream: bytes, cuts: list[int]) -> Heard:
    """Plain wsproto, fed the pieces between the cuts; messages assembled from its pieces, pings as we answer them."""
    connection = Connection(ConnectionType.SERVER if role == "server" else ConnectionType.CLIENT)
    heard = Heard()
    parts: list[bytes | str] = []
    for piece in pieces_of(stream, cuts):
        pings: list[bytes] = []
        if heard.close is None:
            connection.receive_data(piece)
            for event in connection.events():
                if isinstance(event, TextMessage | BytesMessage):
                    parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
                    if event.message_finished:
                        is_text = isinstance(event, TextMessage)
                        heard.messages.append("".join(map(str, parts)) if is_text else b"".join(map(as_bytes, parts)))
                        parts = []
                elif isinstance(event, Ping):
                    pings.append(bytes(event.payload))
                elif isinstance(event, CloseConnection):
                    heard.close = int(event.code), connection.state is ConnectionState.REMOTE_CLOSING
                    break
        heard.pings += pings if len(pings) <= 16 else [*pings[:15], pings[-1]]
    return heard


def as_bytes(piece: bytes | str) -> bytes:
    assert not isinstance(piece, str)
    return bytes(piece)


def new_client() -> ClientWire:
    return ClientWire(
        host="x", target="/", subprotocols=(), max_message_bytes=LIMIT, entropy=lambda count: bytes(count)
    )


def new_server() -> ServerWire:
    return ServerWire(subprotocols=(), max_message_bytes=LIMIT)


@cache
def opening_bytes(role: str) -> bytes:
    """What opens a wire in this role: with the same entropy always the same."""
    client, server = new_client(), new_server()
    client.start()
    request = client.data_to_send()
    assert server.receive(request) == [Opened(subprotocol=None)]
    return request if role == "server" else server.data_to_send()


def open_wire(role: str) -> Wire:
    wire = new_server() if role == "server" else new_client()
    assert wire.receive(opening_bytes(role)) == [Opened(subprotocol=None)]
    wire.data_to_send()
    return wire


def hear_ours(role: str, stream: bytes, cuts: list[int]) -> tuple[Heard, list[bytes], int | None]:
    """Our wire, fed the pieces between the cuts; also the pongs it answered and the close code it sent."""
    wire = open_wire(role)
    heard = Heard()
    sent = b""
    for piece in pieces_of(stream, cuts):
        for event in wire.receive(piece):
            assert heard.close is None, "an event behind the last one"
            if isinstance(event, Closed):
                heard.close = event.code, event.by_peer
            else:
                assert isinstance(event, bytes | str)
                heard.messages.append(event)
        sent += wire.data_to_send()
    other = Connection(ConnectionType.CLIENT if role == "server" else ConnectionType.SERVER, None, sent)
    pongs: list[bytes] = []
    sent_close: int | None = None
    for reply in other.events():
        if isinstance(reply, Pong):
            pongs.append(bytes(reply.payload))
        else:
            assert isinstance(reply, CloseConnection)
            assert other.state is ConnectionState.REMOTE_CLOSING
            sent_close = int(reply.code)
    heard.pings = list(pongs)
    return heard, pongs, sent_close


def whole_frames(stream: bytes) -> bytes:
    """``stream`` without the incomplete frame at its end. Knows lengths and masks, nothing else."""
    position = 0
    while len(stream) - position >= 2:
        length = stream[position + 1] & 0x7F
        end = position + 2
        if length == 126:
            end += 2
            length = int.from_bytes(stream[end - 2 : end], "big")
        elif length == 127:
            end += 8
            length = int.from_bytes(stream[end - 8 : end], "big")
        end += length + (4 if stream[position + 1] & 0x80 else 0)
        if end > len(stream):
            break
        position = end
    return stream[:position]


def check(role: str, stream: bytes, cuts: list[int]) -> None:
    """Both hear the same, but for the differences that the module's first lines allow."""
    ours, pongs, sent_close = hear_ours(role, stream, cuts)
    reference = hear_reference(role, stream, cuts)
    if ours.close == (1009, False):
        # wsproto waits for the rest of that frame, or has seen invalid text in what there is of it.
        assert reference.close in (None, (1007, False))
        assert ours.messages == reference.messages
        assert pongs == reference.pings
        assert sent_close == 1009
        return
    if reference.close == (1007, False) and ours.close is None:
        reference = hear_reference(role, whole_frames(stream), cuts)
    assert ours == reference
    if ours.close is None:
        assert sent_close is None
    else:
        assert sent_close == ours.close[0]
    assert pongs == reference.pings


# --- streams ------------------------------------------------------------------------------------------------

TEXTS = st.text(max_size=40).map(str.encode)
# Often whole characters, sometimes not: section 8.1 is where the two might part.
PIECES_OF_TEXT = st.one_of(TEXTS, st.binary(max_size=6), TEXTS.map(lambda text: text[1:]), TEXTS.map(lambda t: t[:-1]))
BINARIES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([0, 1, 124, 125, 126, 127, 511, 512, 65_535, 65_536]).map(lambda size: b"\xa5" * size),
)
CLOSES = st.one_of(
    st.just(b""),
    st.binary(max_size=4),
    st.builds(
        lambda code, reason: struct.pack("!H", code) + reason,
        st.sampled_from([999, 1000, 1001, 1004, 1005, 1006, 1007, 1012, 1014, 1015, 2999, 3000, 4999, 5000]),
        PIECES_OF_TEXT,
    ),
)


@dataclass(frozen=True)
class Shape:
    """One frame before it is written: any field may be wrong."""

    first: int
    payload: bytes
    key: bytes
    masked_as_due: bool = True
    length_bytes: int = 0  # 0: the shortest form; else 1, 2 or 8, whether it suits or not


def write(role: str, shape: Shape) -> bytes:
    masked = shape.masked_as_due is (role == "server")
    length = len(shape.payload)
    length_bytes = shape.length_bytes or (1 if length < 126 else 2 if length < 65_536 else 8)
    if length >= 126 and length_bytes == 1:
        length_bytes = 2
    if length >= 65_536:
        length_bytes = 8
    bit = 0x80 if masked else 0
    header = {
        1: lambda: bytes([shape.first, bit | length]),
        2: lambda: struct.pack("!BBH", shape.first, bit | 126, length),
        8: lambda: struct.pack("!BBQ", shape.first, bit | 127, length),
    }[length_bytes]()
    if not masked:
        return header + shape.payload
    # XOR is its own inverse, so what takes a mask off puts it on.
    return header + shape.key + unmask(shape.key + shape.payload, 0, 4 + length)


KEYS = st.binary(min_size=4, max_size=4)
VALID_FRAMES = st.one_of(
    st.builds(Shape, st.just(0x82), BINARIES, KEYS),
    st.builds(Shape, st.just(0x81), TEXTS, KEYS),
    st.builds(Shape, st.sampled_from([0x89, 0x8A]), st.binary(max_size=125), KEYS),
)


@st.composite
def fragmented(draw: st.DrawFn) -> list[Shape]:
    """A message in fragments, maybe with control frames between them."""
    is_text = draw(st.booleans())
    pieces = draw(st.lists(PIECES_OF_TEXT if is_text else BINARIES, min_size=2, max_size=4))
    shapes: list[Shape] = []
    for index, piece in enumerate(pieces):
        opcode = (1 if is_text else 2) if index == 0 else 0
        fin = 0x80 if index == len(pieces) - 1 else 0
        shapes.append(Shape(fin | opcode, piece, draw(KEYS)))
        if draw(st.booleans()):
            shapes.append(Shape(draw(st.sampled_from([0x89, 0x8A])), b"between", draw(KEYS)))
    return shapes


@st.composite
def text_in_pieces(draw: st.DrawFn) -> list[Shape]:
    """A valid text message, cut into fragments at any bytes."""
    encoded = draw(st.text(min_size=1, max_size=20)).encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(encoded)), max_size=5)))
    edges = [0, *cuts, len(encoded)]
    shapes: list[Shape] = []
    for index, (start, end) in enumerate(pairwise(edges)):
        first = (1 if index == 0 else 0) | (0x80 if index == len(edges) - 2 else 0)
        shapes.append(Shape(first, encoded[start:end], draw(KEYS)))
    return shapes


@st.composite
def interleaved(draw: st.DrawFn) -> list[Shape]:
    """A message in up to a dozen fragments, the last maybe missing, with runs of control frames anywhere between."""
    is_text = draw(st.booleans())
    content = draw(st.text(max_size=30)).encode() if is_text else draw(st.binary(max_size=300))
    edges = [0, *sorted(draw(st.lists(st.integers(0, len(content)), max_size=11))), len(content)]
    last = len(edges) - 2 if draw(st.integers(0, 9)) else -1
    shapes: list[Shape] = []
    for index, (start, end) in enumerate(pairwise(edges)):
        first = (0x80 if index == last else 0) | ((1 if is_text else 2) if index == 0 else 0)
        shapes.append(Shape(first, content[start:end], draw(KEYS)))
        shapes += draw(CONTROL_RUNS)
    return shapes


CONTROL_RUNS = st.lists(
    st.builds(
        Shape,
        st.sampled_from([0x89] * 8 + [0x8A] * 3),
        st.one_of(st.just(b""), st.integers(0, 255).map(lambda number: bytes([number])), st.binary(max_size=125)),
        KEYS,
    ),
    max_size=6,
)


@dataclass(frozen=True)
class Spoiling:
    """What is done to one frame of a stream: it goes, comes twice, changes places, or has its header changed."""

    what: str
    where: int
    value: int

    def apply(self, shapes: list[Shape]) -> None:
        if not shapes:
            return
        index = self.where % len(shapes)
        shape = shapes[index]
        if self.what == "drop":
            del shapes[index]
        elif self.what == "repeat":
            shapes.insert(index, shape)
        elif self.what == "swap":
            shapes.append(shapes.pop(index))
        elif self.what == "first":
            shapes[index] = replace(shape, first=shape.first ^ (1 << self.value % 8))
        elif self.what == "mask":
            shapes[index] = replace(shape, masked_as_due=not shape.masked_as_due)
        elif self.what == "length":
            shapes[index] = replace(shape, length_bytes=(1, 2, 8)[self.value % 3])
        else:
            shapes.insert(index, Shape(0x88, (b"", b"x", b"\x03\xe8", b"\x03\xe8\xff")[self.value % 4], shape.key))


SPOILINGS = st.lists(
    st.builds(
        Spoiling,
        st.sampled_from(["drop", "repeat", "swap", "first", "mask", "length", "close"]),
        st.integers(0, 200),
        st.integers(0, 255),
    ),
    max_size=3,
)

ANY_FRAME = st.builds(
    Shape,
    first=st.one_of(st.sampled_from([0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A]), st.integers(0, 255)),
    payload=st.one_of(PIECES_OF_TEXT, BINARIES, CLOSES),
    key=KEYS,
    masked_as_due=st.sampled_from([True] * 9 + [False]),
    length_bytes=st.sampled_from([0] * 8 + [1, 2, 8]),
)

STREAMS_OF_FRAMES = st.lists(
    st.one_of(
        VALID_FRAMES.map(lambda shape: [shape]),
        fragmented(),
        text_in_pieces(),
        ANY_FRAME.map(lambda shape: [shape]),
        st.builds(Shape, st.just(0x88), CLOSES, KEYS).map(lambda shape: [shape]),
    ),
    max_size=8,
)
VALID_STREAMS = st.lists(
    st.one_of(VALID_FRAMES.map(lambda shape: [shape]), text_in_pieces()),
    max_size=8,
)
CUTS = st.lists(st.integers(0, 1 << 17), max_size=12)
# Which byte to change, counted from the start of the stream, and to what.
CHANGES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3)


def join(role: str, groups: list[list[Shape]]) -> bytes:
    return b"".join(write(role, shape) for group in groups for shape in group)


@pytest.mark.parametrize("role", OUR_ROLES)
@PROFILE
@given(groups=VALID_STREAMS, cuts=CUTS)
def test_valid_streams(role: str, groups: list[list[Shape]], cuts: list[int]) -> None:
    """F-08: whole messages, fragments and control frames, cut anywhere, are what wsproto hears."""
    stream = join(role, groups)
    assert hear_reference(role, stream, cuts).close is None
    check(role, stream, cuts)


@pytest.mark.parametrize("role", OUR_ROLES)
@PROFILE
@given(groups=STREAMS_OF_FRAMES, cuts=CUTS, end=st.one_of(st.none(), st.integers(0, 400)))
def test_streams_of_any_frames(role: str, groups: list[list[Shape]], cuts: list[int], end: int | None) -> None:
    """S50, F-06, F-08: frames with anything wrong in them, and the stream ending anywhere."""
    check(role, join(role, groups)[:end], cuts)


@pytest.mark.parametrize("role", OUR_ROLES)
@PROFILE
@given(groups=STREAMS_OF_FRAMES, cuts=CUTS, changes=CHANGES)
def test_damaged_streams(role: str, groups: list[list[Shape]], cuts: list[int], changes: list[tuple[int, int]]) -> None:
    """S50: bytes changed anywhere, so that headers appear where none were meant."""
    stream = bytearray(join(role, groups))
    for position, value in changes:
        if stream:
            stream[position % len(stream)] = value
    check(role, bytes(stream), cuts)


@pytest.mark.parametrize("role", OUR_ROLES)
@PROFILE
@given(
    groups=st.lists(st.one_of(interleaved(), CONTROL_RUNS, VALID_FRAMES.map(lambda shape: [shape])), max_size=6),
    spoilings=SPOILINGS,
    changes=st.one_of(st.just([]), CHANGES),
    cuts=CUTS,
)
def test_fragments_and_control_frames(
    role: str,
    groups: list[list[Shape]],
    spoilings: list[Spoiling],
    changes: list[tuple[int, int]],
    cuts: list[int],
) -> None:
    """S50, F-06, F-64: interleaved as they may be, and then not as they may be; each pong in its place."""
    shapes = [shape for group in groups for shape in group]
    for spoiling in spoilings:
        spoiling.apply(shapes)
    stream = bytearray(join(role, [shapes]))
    for position, value in changes:
        if stream:
            stream[position % len(stream)] = value
    check(role, bytes(stream), cuts)


@pytest.mark.parametrize("role", OUR_ROLES)
@PROFILE
@given(stream=st.binary(max_size=60), cuts=CUTS)
@example(stream=b"\xc2", cuts=[])
@example(stream=b"\x81\x05\xff", cuts=[])
@example(stream=b"\x81\x85\0\0\0\0\xff", cuts=[])
@example(stream=b"\x02\x00\x82\x01", cuts=[2])
@example(stream=b"\x02\x80\0\0\0\0\x82\x81\0\0\0\0", cuts=[6])
def test_noise(role: str, stream: bytes, cuts: list[int]) -> None:
    """S50: any bytes at all."""
    check(role, stream, cuts)


@pytest.mark.parametrize("role", OUR_ROLES)
@pytest.mark.parametrize("masked_as_due", [True, False])
@pytest.mark.parametrize("bits", [0x00, 0x80, 0x40, 0xA0, 0x90])
def test_headers(role: str, masked_as_due: bool, bits: int) -> None:
    """Every opcode with FIN and RSV bits and each length class: first, behind a message, and inside one."""
    bit = 0x80 if role == "server" else 0
    key = b"\0\0\0\0" if role == "server" else b""
    tail = b"\0\0\0\0\0\0\0\0" + b"x" * 130
    for opcode in range(16):
        for length in (0, 1, 126, 127):
            header = bytes([bits | opcode, length | (bit if masked_as_due else bit ^ 0x80)])
            for before in (b"", bytes([0x82, bit | 1]) + key + b"m", bytes([0x01, bit | 1]) + key + b"t"):
                # Byte by byte up to the mask, where the last violations are still to be seen.
                check(role, before + header + tail[:4], list(range(len(before), len(before) + 6)))
                check(role, before + header + tail, [len(before) + 1])
