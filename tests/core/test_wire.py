"""The wire of both roles: messages in and out, limits, control frames, closing, however the bytes are cut."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from rtm_sansio import _wire
from rtm_sansio._frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    encode_close_payload,
    encode_masked_frame,
)
from rtm_sansio._wire import (
    ClientWire,
    Closed,
    HandshakeFailed,
    Opened,
    Rejected,
    ServerWire,
    Wire,
    WireEvent,
    encode_frame,
)
from rtm_sansio.errors import InvalidArgument, InvalidState

LIMIT = 70_000
SUBPROTOCOL = "rtm.v1.msgpack"
ROLES = ["server", "client"]


class CountingEntropy:
    """Entropy that can be foreseen: the bytes 0, 1, 2, … modulo 256, and a list of what was asked for."""

    def __init__(self) -> None:
        self.drawn: list[int] = []

    def __call__(self, count: int) -> bytes:
        start = sum(self.drawn)
        self.drawn.append(count)
        return bytes((start + index) % 256 for index in range(count))


def new_server(*, max_message_bytes: int = LIMIT) -> ServerWire:
    return ServerWire(subprotocols=(SUBPROTOCOL,), max_message_bytes=max_message_bytes)


def new_client(*, max_message_bytes: int = LIMIT) -> ClientWire:
    return ClientWire(
        host="localhost",
        target="/",
        subprotocols=(SUBPROTOCOL,),
        max_message_bytes=max_message_bytes,
        entropy=CountingEntropy(),
    )


def open_pair(*, max_message_bytes: int = LIMIT) -> tuple[ServerWire, ClientWire]:
    """Two wires that talk to each other."""
    server = new_server(max_message_bytes=max_message_bytes)
    client = new_client(max_message_bytes=max_message_bytes)
    client.start()
    assert server.receive(client.data_to_send()) == [Opened(subprotocol=SUBPROTOCOL)]
    assert client.receive(server.data_to_send()) == [Opened(subprotocol=SUBPROTOCOL)]
    return server, client


def open_wire(role: str, *, max_message_bytes: int = LIMIT) -> Wire:
    return open_pair(max_message_bytes=max_message_bytes)[ROLES.index(role)]


def peer_frame(role: str, payload: bytes = b"", opcode: int = BINARY, *, fin: bool = True) -> bytes:
    """A frame as the peer of a wire in this role sends it."""
    if role == "server":
        return encode_masked_frame(payload, 0x1F2E3D4C, opcode=opcode, fin=fin)
    return encode_frame(payload, opcode=opcode, fin=fin)


def peer_close(role: str, code: int = 1000, reason: str = "") -> bytes:
    return peer_frame(role, encode_close_payload(code, reason), CLOSE)


def spoken_by(role: str, data: bytes) -> list[Event]:
    """What a stranger on the other side, wsproto, hears in the bytes of a wire in this role."""
    other = ConnectionType.CLIENT if role == "server" else ConnectionType.SERVER
    return list(Connection(other, None, data).events())


def feed(wire: Wire, data: bytes, size: int) -> tuple[list[WireEvent], bytes]:
    """The events and the answer, ``data`` coming in reads of ``size`` bytes."""
    events: list[WireEvent] = []
    sent = b""
    for position in range(0, len(data), size):
        events += wire.receive(data[position : position + size])
        sent += wire.data_to_send()
    return events, sent


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(params=[1 << 30, 1, 2, 7], ids=["whole", "byte by byte", "in twos", "in sevens"])
def size(request: pytest.FixtureRequest) -> int:
    chosen: int = request.param
    return chosen


# --- opening ------------------------------------------------------------------------------------------------


def test_states_of_a_connection() -> None:
    """From the opening to the close, as the properties tell it."""
    server, client = new_server(), new_client()
    assert not client.is_open
    client.start()
    assert server.receive(client.data_to_send()) == [Opened(subprotocol=SUBPROTOCOL)]
    assert client.receive(server.data_to_send()) == [Opened(subprotocol=SUBPROTOCOL)]
    assert (client.is_open, client.closing, client.closed) == (True, False, False)
    client.close(4000, "enough")
    assert (client.is_open, client.closing, client.closed) == (False, True, False)
    assert server.receive(client.data_to_send()) == [Closed(code=4000, reason="enough", by_peer=True)]
    assert (server.is_open, server.closing, server.closed) == (False, False, True)
    assert client.receive(server.data_to_send()) == [Closed(code=4000, reason="", by_peer=True)]
    assert (client.is_open, client.closing, client.closed) == (False, False, True)
    assert not client.data_to_send()


def test_any_cutting_of_a_whole_connection(size: int) -> None:
    """F-08: handshake, messages and close give the same events for any split, on both sides."""
    server, client = new_server(), new_client()
    client.start()
    request = client.data_to_send()
    script = b"".join(
        [
            peer_frame("server", b"one"),
            peer_frame("server", "zwölf".encode(), TEXT),
            peer_frame("server", b"x" * 300),
            peer_frame("server", b"ping", PING),
            peer_frame("server", b"be", fin=False),
            peer_frame("server", b"gun", CONTINUATION),
            peer_close("server", 1001, "bye"),
        ]
    )
    events, sent = feed(server, request + script + b"ignored", size)
    expected: list[WireEvent] = [b"one", "zwölf", b"x" * 300, b"begun"]
    assert events == [
        Opened(subprotocol=SUBPROTOCOL),
        *expected,
        Closed(code=1001, reason="bye", by_peer=True),
    ]
    answer, _, frames = sent.partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert spoken_by("server", frames) == [Pong(payload=b"ping"), CloseConnection(code=1001, reason="")]
    events, _ = feed(client, answer + b"\r\n\r\n" + encode_frame(b"hi") + peer_close("client"), size)
    assert events == [Opened(subprotocol=SUBPROTOCOL), b"hi", Closed(code=1000, reason="", by_peer=True)]


def test_server_refuses_a_request(size: int) -> None:
    """The refusal is in the outbound, and the wire is closed for good."""
    server = new_server()
    events, sent = feed(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + peer_frame("server", b"x"), size)
    [failed] = events
    assert isinstance(failed, HandshakeFailed)
    assert failed.code == "upgrade_required"
    assert sent.startswith(b"HTTP/1.1 426 ")
    assert server.closed
    assert server.receive_eof() == []


def test_client_is_rejected(size: int) -> None:
    """The status and its headers arrive as an event, and the wire is closed for good."""
    client = new_client()
    client.start()
    events, _ = feed(client, b"HTTP/1.1 503 Busy\r\nRetry-After: 2\r\ncontent-length: 3\r\n\r\nnot now", size)
    [rejected] = events
    assert isinstance(rejected, Rejected)
    assert rejected.status_code == 503
    assert ("retry-after", "2") in rejected.headers
    assert rejected.body == b"not"
    assert client.closed


def test_end_of_the_stream_while_opening() -> None:
    """Both roles report it; a client that has the status of its rejection reports that."""
    server, client, rejected = new_server(), new_client(), new_client()
    assert [type(event) for event in server.receive_eof()] == [HandshakeFailed]
    assert [type(event) for event in client.receive_eof()] == [HandshakeFailed]
    assert rejected.receive(b"HTTP/1.1 503 Busy\r\n\r\nlat") == []
    [event] = rejected.receive_eof()
    assert isinstance(event, Rejected)
    assert event.body == b"lat"
    assert server.closed
    assert client.closed
    assert rejected.closed
    assert server.receive(b"GET / HTTP/1.1\r\n") == []


def test_close_while_opening() -> None:
    """There is no frame to send yet: nothing goes out, and nothing comes in."""
    server, client = new_server(), new_client()
    server.close()
    client.close()
    assert server.closed
    assert server.data_to_send() == b""
    assert server.receive(b"GET / HTTP/1.1\r\n\r\n") == []
    with pytest.raises(InvalidState, match="start"):
        client.start()


def test_start_twice() -> None:
    """One opening request for one wire."""
    client = new_client()
    client.start()
    with pytest.raises(InvalidState, match="start"):
        client.start()
    assert client.data_to_send().count(b"GET /") == 1


# --- data frames --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 125, 126, 511, 512, 65_535, 65_536, LIMIT])
def test_messages_of_every_length(role: str, length: int) -> None:
    """Binary and text, each length class, from one wire to the other (section 5.2)."""
    wires = open_pair()
    receiver, sender = wires if role == "server" else reversed(wires)
    payload = bytes(index % 251 for index in range(length))
    text = "é" * (length // 2)
    assert receiver.receive(sender.frame(payload)) == [payload]
    assert receiver.receive(sender.frame(text)) == [text]
    [message] = receiver.receive(sender.frame(payload))
    assert type(message) is bytes


def test_strangers_take_our_frames(role: str) -> None:
    """Whole frames, masked as the role demands (section 5.3)."""
    wire = open_wire(role)
    assert spoken_by(role, wire.frame(b"data") + wire.frame("text")) == [
        BytesMessage(data=b"data"),
        TextMessage(data="text"),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 4096, 65_536])
def test_streams_cut_anywhere(role: str, size: int) -> None:
    """F-08: frames of all length classes, some many to a read, some over many reads."""
    messages = [bytes([length % 256]) * length for length in (0, 1, 2, 125, 126, 130, 1000, 66_000, 3, 0, 7)]
    stream = b"".join(peer_frame(role, message) for message in messages)
    events, sent = feed(open_wire(role), stream, size)
    assert events == messages
    assert not sent


def test_a_script_cut_at_every_byte(role: str) -> None:
    """F-06: what a cut leaves of a frame is discarded with the connection, never delivered nor continued."""
    frames = [
        peer_frame(role, b"first"),
        peer_frame(role, b"", PING),
        peer_frame(role, b"fragm", fin=False),
        peer_frame(role, b"ented", CONTINUATION),
        peer_frame(role, b"y" * 130),
    ]
    stream = b"".join(frames)
    ends = [sum(map(len, frames[: index + 1])) for index in range(len(frames))]
    messages = {ends[0]: b"first", ends[3]: b"fragmented", ends[4]: b"y" * 130}
    for cut in range(len(stream) + 1):
        wire = open_wire(role)
        expected: list[WireEvent] = [message for end, message in messages.items() if end <= cut]
        assert wire.receive(stream[:cut]) == expected
        [closed] = wire.receive_eof()
        assert isinstance(closed, Closed)
        assert (closed.code, closed.by_peer) == (1006, True)
        assert wire.receive(stream[cut:]) == []
        assert wire.receive_eof() == []


def test_the_end_of_the_stream_says_where_it_came(role: str) -> None:
    """Section 7.1.5: 1006, and whether a frame was cut."""
    wire = open_wire(role)
    assert wire.receive_eof() == [Closed(code=1006, reason="the stream ended without a close frame", by_peer=True)]
    wire = open_wire(role)
    assert wire.receive(peer_frame(role, b"cut off")[:5]) == []
    assert wire.receive_eof() == [
        Closed(code=1006, reason="the stream ended without a close frame, 5 bytes into a frame", by_peer=True)
    ]
    assert wire.data_to_send() == b""


def test_a_large_frame_in_small_pieces_takes_linear_time(role: str) -> None:
    """Four times the bytes take about four times as long; quadratic growth would take sixteen times."""

    def seconds(length: int, size: int) -> float:
        wire = open_wire(role, max_message_bytes=length)
        pieces = peer_frame(role, bytes(length))
        started = time.process_time()
        events, _ = feed(wire, pieces, size)
        assert events == [bytes(length)]
        return time.process_time() - started

    for size in (4096, 16):
        small = min(seconds(1024 * size, size) for _ in range(3))
        large = min(seconds(4096 * size, size) for _ in range(3))
        assert large < 10 * small + 0.01


def test_frame_is_for_open_wires_only() -> None:
    """A caller that sends too early or too late hears of it, and nothing changes."""
    for wire in (new_server(), new_client()):
        with pytest.raises(InvalidState, match="opening"):
            wire.frame(b"early")
    for wire in open_pair():
        wire.close()
        with pytest.raises(InvalidState, match="closing"):
            wire.frame(b"late")


def test_text_that_cannot_be_sent_changes_nothing(role: str) -> None:
    """A lone surrogate is the caller's mistake; the next frame goes out as if nothing had been."""
    wire, untouched = open_wire(role), open_wire(role)
    with pytest.raises(UnicodeEncodeError):
        wire.frame("\ud800")
    assert wire.frame(b"next") == untouched.frame(b"next")


def test_masks_come_from_the_given_entropy_alone() -> None:
    """Same inputs and same entropy, same bytes; masks are drawn in blocks, used up one after the other."""
    wires = [open_pair()[1], open_pair()[1]]
    sent = [[wire.frame(b"\0" * 4) for _ in range(1030)] for wire in wires]
    assert sent[0] == sent[1]
    keys = b"".join(frame[2:6] for frame in sent[0])
    expected = CountingEntropy()
    assert expected(16)
    assert keys == expected(4096) + expected(4096)[:24]


def test_masks_of_control_frames_are_drawn_alike() -> None:
    """Every frame has its own mask (section 10.3), a pong at the end of a block too."""
    _, client = open_pair()
    assert client.receive(encode_frame(b"", opcode=PING)) == []
    first = client.data_to_send()
    for _ in range(1023):
        client.frame(b"")
    client.close(1000)
    assert first[2:6] == bytes(range(16, 20))
    assert client.data_to_send()[2:6] == bytes((16 + 4096 + index) % 256 for index in range(4))


@pytest.mark.skipif(sys.byteorder != "little", reason="the other branch is the platform's own")
def test_masks_do_not_depend_on_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of the other byte order only skips the swap."""
    _, client = open_pair()
    monkeypatch.setattr("rtm_sansio._wire.sys.byteorder", "big")
    assert client.frame(b"")[2:6] == bytes(reversed(range(16, 20)))


# --- text ---------------------------------------------------------------------------------------------------

BAD_TEXTS = [b"\xff", b"abc\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"]


@pytest.mark.parametrize("bad", BAD_TEXTS)
def test_invalid_text_fails_the_connection(role: str, size: int, bad: bytes) -> None:
    """Section 8.1: 1007, whole or in fragments, and what came before is delivered."""
    for stream in (
        peer_frame(role, bad, TEXT),
        peer_frame(role, bad[:1], TEXT, fin=False) + peer_frame(role, bad[1:], CONTINUATION),
    ):
        wire = open_wire(role)
        events, sent = feed(wire, peer_frame(role, b"before") + stream + peer_frame(role, b"after"), size)
        assert events[0] == b"before"
        [closed] = events[1:]
        assert isinstance(closed, Closed)
        assert (closed.code, closed.by_peer) == (1007, False)
        [said] = spoken_by(role, sent)
        assert isinstance(said, CloseConnection)
        assert (said.code, said.reason) == (1007, closed.reason)


def test_characters_may_be_cut_by_fragments(role: str, size: int) -> None:
    """Section 8.1 is about messages: a fragment may end inside a character."""
    encoded = "κόσμε\U0001f600".encode()
    opcodes = [TEXT, *[CONTINUATION] * (len(encoded) - 1)]
    stream = b"".join(
        peer_frame(role, encoded[index : index + 1], opcode, fin=index == len(encoded) - 1)
        for index, opcode in enumerate(opcodes)
    )
    assert feed(open_wire(role), stream, size)[0] == ["κόσμε\U0001f600"]


# --- fragments ----------------------------------------------------------------------------------------------


def test_fragments_make_messages(role: str, size: int) -> None:
    """Section 5.4: assembled in order, control frames between them, unfragmented messages around them."""
    stream = b"".join(
        [
            peer_frame(role, b"", fin=False),
            peer_frame(role, b"ab", CONTINUATION, fin=False),
            peer_frame(role, b"?", PING),
            peer_frame(role, b"", CONTINUATION, fin=False),
            peer_frame(role, b"c", CONTINUATION),
            peer_frame(role, b"whole"),
            peer_frame(role, b"", TEXT, fin=False),
            peer_frame(role, b"", CONTINUATION),
            peer_frame(role, b"t", TEXT, fin=False),
            peer_frame(role, b"!", PONG),
            peer_frame(role, b"u", CONTINUATION),
            peer_frame(role, b"again", TEXT),
        ]
    )
    events, sent = feed(open_wire(role), stream, size)
    assert events == [b"abc", b"whole", "", "tu", "again"]
    assert type(events[0]) is bytes
    assert spoken_by(role, sent) == [Pong(payload=b"?")]


@pytest.mark.parametrize("opcode", [BINARY, TEXT])
@pytest.mark.parametrize("fin", [True, False])
def test_a_message_inside_a_fragmented_one_is_a_violation(role: str, size: int, opcode: int, fin: bool) -> None:
    """Section 5.4: fragments of two messages are not mixed; 1002."""
    stream = peer_frame(role, b"a", fin=False) + peer_frame(role, b"b", opcode, fin=fin)
    assert_violation(role, stream, size, 1002)


def test_the_limit_counts_all_fragments(role: str, size: int) -> None:
    """F-63: the sum is tested at each header: 1009 before the payload that would be too much has come."""
    wire = open_wire(role, max_message_bytes=10)
    stream = peer_frame(role, b"12345", fin=False) + peer_frame(role, b"67890", CONTINUATION)
    assert feed(wire, stream + stream, size)[0] == [b"1234567890"] * 2
    header = peer_frame(role, b"123456", CONTINUATION)[:2]
    events, sent = feed(wire, peer_frame(role, b"12345", fin=False) + header, size)
    [closed] = events
    assert closed == Closed(code=1009, reason="a message of at least 11 bytes is over the limit of 10", by_peer=False)
    assert spoken_by(role, sent) == [CloseConnection(code=1009, reason=closed.reason)]


@pytest.mark.parametrize("opcode", [BINARY, TEXT])
def test_fragments_without_end_hold_no_memory(role: str, opcode: int) -> None:
    """F-64, S50: empty fragments count, and their number has a bound; 1008."""
    wire = open_wire(role, max_message_bytes=3200)
    bound = 1024 + 100
    wire.receive(peer_frame(role, b"", opcode, fin=False))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(bound - 1):
            assert wire.receive(peer_frame(role, b"", CONTINUATION, fin=False)) == []
        assert tracemalloc.get_traced_memory()[0] - before < 8000  # kept, they would take 37,000
    finally:
        tracemalloc.stop()
    [closed] = wire.receive(peer_frame(role, b"", CONTINUATION, fin=False))
    assert closed == Closed(code=1008, reason="a message in more than 1124 fragments", by_peer=False)


def test_just_enough_fragments(role: str) -> None:
    """A message of one-byte fragments passes up to the bound."""
    wire = open_wire(role, max_message_bytes=3200)
    stream = peer_frame(role, b"x", fin=False) + 1122 * peer_frame(role, b"x", CONTINUATION, fin=False)
    assert wire.receive(stream + peer_frame(role, b"x", CONTINUATION)) == [b"x" * 1124]


# --- limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", [b"\x82\x0b", b"\x81\x7e\x01\x00", b"\x02\x7f\0\0\0\0\0\1\0\0", b"\x82\x7f\x7f" + b"\xff" * 7]
)
def test_an_oversize_frame_is_refused_at_its_header(role: str, size: int, header: bytes) -> None:
    """F-63: 1009 as soon as the length is read; not a byte of its payload is buffered."""
    wire = open_wire(role, max_message_bytes=10)
    if role == "server":
        header = header[:1] + bytes([header[1] | 0x80]) + header[2:]
    events, sent = feed(wire, peer_frame(role, b"1234567890") + header, size)
    [message, closed] = events
    assert message == b"1234567890"
    assert isinstance(closed, Closed)
    assert (closed.code, closed.by_peer) == (1009, False)
    assert closed.reason.endswith("over the limit of 10")
    assert spoken_by(role, sent) == [CloseConnection(code=1009, reason=closed.reason)]


def test_the_limit_can_be_raised(role: str) -> None:
    """As after a login: from the next frame on."""
    wire = open_wire(role, max_message_bytes=4)
    assert wire.receive(peer_frame(role, b"1234")) == [b"1234"]
    wire.max_message_bytes = 5
    assert wire.receive(peer_frame(role, b"12345")) == [b"12345"]


def test_the_limit_is_for_messages(role: str) -> None:
    """Control frames have their own limit (section 5.5)."""
    wire = open_wire(role, max_message_bytes=4)
    assert wire.receive(peer_frame(role, b"x" * 125, PING)) == []
    assert spoken_by(role, wire.data_to_send()) == [Pong(payload=b"x" * 125)]


def test_an_idle_wire_is_small() -> None:
    """An open server wire without anything under way takes under 600 bytes, what it used before included."""

    def used_wires() -> Iterator[ServerWire]:
        while True:
            server, _ = open_pair()
            server.receive(peer_frame("server", b"?", PING) + peer_frame("server", b"a", fin=False))
            server.receive(peer_frame("server", b"b" * 1000, CONTINUATION)[:500])
            server.receive(peer_frame("server", b"b" * 1000, CONTINUATION)[500:])
            server.data_to_send()
            yield server

    source = used_wires()
    next(source)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        wires = [next(source) for _ in range(50)]
        # wsproto's connections are cycles.
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(wires) < 600


# --- control frames -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"?", bytes(range(125))])
def test_pings_are_answered(role: str, size: int, payload: bytes) -> None:
    """Section 5.5.2: a pong with the ping's payload; pongs need no answer (section 5.5.3)."""
    stream = peer_frame(role, payload, PING) + peer_frame(role, b"!", PONG) + peer_frame(role, b"data")
    events, sent = feed(open_wire(role), stream, size)
    assert events == [b"data"]
    assert spoken_by(role, sent) == [Pong(payload=payload)]


def test_pongs_are_coalesced(role: str) -> None:
    """F-64: sixteen wait at most, the last one for the most recent ping (section 5.5.3)."""
    wire = open_wire(role)
    pings = [bytes([number]) for number in range(40)]
    wire.receive(b"".join(peer_frame(role, ping, PING) for ping in pings))
    answers = [Pong(payload=ping) for ping in [*pings[:15], pings[-1]]]
    assert spoken_by(role, wire.data_to_send()) == answers
    wire.receive(peer_frame(role, b"more", PING))
    assert spoken_by(role, wire.data_to_send()) == [Pong(payload=b"more")]


def test_a_flood_of_control_frames_ends(role: str) -> None:
    """F-64, S50: 1024 between messages; a message, whole or fragmented, starts the count anew."""
    ping, pong = peer_frame(role, b"", PING), peer_frame(role, b"", PONG)
    fragments = peer_frame(role, b"a", fin=False) + peer_frame(role, b"b", CONTINUATION)
    wire = open_wire(role)
    assert wire.receive(ping * 1024 + peer_frame(role, b"x") + pong * 600) == [b"x"]
    assert wire.receive(ping * 424 + fragments) == [b"ab"]
    assert wire.receive(peer_frame(role, b"y", fin=False) + pong * 1024) == []
    [closed] = wire.receive(pong)
    assert closed == Closed(code=1008, reason="more than 1024 control frames without a message between", by_peer=False)


def test_rare_frames_are_counted(role: str, size: int) -> None:
    """F-64: control frames and the fragments of a message but the first, for the user to charge; nothing else is."""
    wire = open_wire(role)
    stream = peer_frame(role, b"whole") + peer_frame(role, b"text", TEXT) + peer_frame(role, b"?", PING)
    stream += peer_frame(role, b"a", fin=False) + peer_frame(role, b"!", PONG)
    stream += peer_frame(role, b"b", CONTINUATION, fin=False) + peer_frame(role, b"c", CONTINUATION)
    feed(wire, stream, size)
    assert wire.rare_frames == 4
    wire.rare_frames = 0
    feed(wire, peer_close(role), size)
    assert wire.rare_frames == 1


@pytest.mark.parametrize("kind", ["ping", "fragment"])
def test_rare_frames_are_cheap(role: str, kind: str) -> None:
    """F-64: an empty ping or fragment takes about what a heartbeat does; by a wsproto of its own it was 25 times."""
    heartbeat = peer_frame(role, b"\x90")
    if kind == "ping":
        rare = peer_frame(role, b"", PING) * 500 + heartbeat
    else:
        rare = peer_frame(role, b"", fin=False) + peer_frame(role, b"", CONTINUATION, fin=False) * 499
        rare += peer_frame(role, b"\x90", CONTINUATION)

    def seconds(stream: bytes) -> float:
        wire = open_wire(role)
        started = time.process_time()
        for _ in range(4):
            assert wire.receive(stream)
            wire.data_to_send()
        return time.process_time() - started

    usual = min(seconds(heartbeat * 500) for _ in range(5))
    # About 1 to 2; the rest is for coverage's tracing and a busy machine.
    assert min(seconds(rare) for _ in range(5)) < 6 * usual


def test_pongs_and_our_close_frame_go_out_in_order(role: str) -> None:
    """Each pong before the close frame that follows the pings, whoever closes."""
    wire = open_wire(role)
    wire.receive(peer_frame(role, b"1", PING) + peer_frame(role, b"2", PING))
    wire.close(1001)
    answers = [Pong(payload=b"1"), Pong(payload=b"2")]
    assert spoken_by(role, wire.data_to_send()) == [*answers, CloseConnection(code=1001, reason="")]
    wire = open_wire(role)
    stream = peer_frame(role, b"1", PING) + peer_frame(role, b"2", PING)
    wire.receive(stream + peer_frame(role, b"x", fin=False) + peer_frame(role, b"y"))
    assert wire.closed
    said = spoken_by(role, wire.data_to_send())
    assert said[:2] == answers
    assert [type(event) for event in said[2:]] == [CloseConnection]


def test_the_limit_on_messages_spares_control_frames_inside_one(role: str, size: int) -> None:
    """Section 5.5: a ping longer than what is left of the limit, between two fragments."""
    wire = open_wire(role, max_message_bytes=4)
    stream = peer_frame(role, b"abc", fin=False) + peer_frame(role, b"x" * 100, PING)
    events, sent = feed(wire, stream + peer_frame(role, b"d", CONTINUATION), size)
    assert events == [b"abcd"]
    assert spoken_by(role, sent) == [Pong(payload=b"x" * 100)]


def test_no_pong_behind_our_close_frame(role: str) -> None:
    """Our close frame is the last that we send; what the peer still says is heard."""
    wire = open_wire(role)
    wire.close(1001)
    assert wire.receive(peer_frame(role, b"?", PING) + peer_frame(role, b"late")) == [b"late"]
    assert spoken_by(role, wire.data_to_send()) == [CloseConnection(code=1001, reason="")]


# --- closing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"", 1005, ""),
        (b"\x03\xe8", 1000, ""),
        (b"\x03\xe9bye", 1001, "bye"),
        (b"\x0f\xa0" + "é".encode() * 61, 4000, "é" * 61),
    ],
)
def test_the_peers_close_frame_is_echoed(role: str, size: int, payload: bytes, code: int, reason: str) -> None:
    """Section 5.5.1: with its code; once, and whatever comes behind it is discarded."""
    wire = open_wire(role)
    stream = peer_frame(role, payload, CLOSE)
    events, sent = feed(wire, peer_frame(role, b"?", PING) + stream + stream + b"junk", size)
    assert events == [Closed(code=code, reason=reason, by_peer=True)]
    assert spoken_by(role, sent) == [Pong(payload=b"?"), CloseConnection(code=code, reason="")]
    assert wire.receive_eof() == []
    wire.close(1011)
    assert wire.data_to_send() == b""


def test_our_close_frame(role: str, size: int) -> None:
    """Code and reason, the reason cut to fit; the peer's answer gets none (section 5.5.1)."""
    wire = open_wire(role)
    wire.close(4001, "ü" * 200)
    wire.close(4002, "a second call does nothing")
    assert spoken_by(role, wire.data_to_send()) == [CloseConnection(code=4001, reason="ü" * 61)]
    events, sent = feed(wire, peer_frame(role, b"late") + peer_close(role, 4001), size)
    assert events == [b"late", Closed(code=4001, reason="", by_peer=True)]
    assert not sent


def test_a_close_frame_without_code(role: str) -> None:
    """1005 says that there is none on the wire."""
    wire = open_wire(role)
    wire.close(1005)
    assert len(wire.data_to_send()) == (2 if role == "server" else 6)


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 5000])
def test_codes_that_are_never_sent(role: str, code: int) -> None:
    """Section 7.4; the wire stays as it was."""
    wire = open_wire(role)
    with pytest.raises(InvalidArgument, match=str(code)):
        wire.close(code)
    assert wire.is_open


def test_both_close_at_once() -> None:
    """Each side takes the other's close frame for the answer to its own."""
    server, client = open_pair()
    server.close(1001)
    client.close(1000)
    to_client, to_server = server.data_to_send(), client.data_to_send()
    assert client.receive(to_client) == [Closed(code=1001, reason="", by_peer=True)]
    assert server.receive(to_server) == [Closed(code=1000, reason="", by_peer=True)]
    assert client.data_to_send() == server.data_to_send() == b""


def test_the_stream_ends_instead_of_the_peers_close_frame(role: str) -> None:
    """An impatient peer: 1006 all the same."""
    wire = open_wire(role)
    wire.close()
    [closed] = wire.receive_eof()
    assert isinstance(closed, Closed)
    assert closed.code == 1006


# --- violations ---------------------------------------------------------------------------------------------


def assert_violation(role: str, stream: bytes, size: int, code: int) -> None:
    """``stream`` gives nothing but one failure, and the peer is told the code and the reason."""
    wire = open_wire(role)
    events, sent = feed(wire, stream + peer_frame(role, b"after it"), size)
    [closed] = events
    assert isinstance(closed, Closed)
    assert (closed.code, closed.by_peer) == (code, False)
    assert closed.reason
    assert spoken_by(role, sent) == [CloseConnection(code=code, reason=closed.reason)]
    assert wire.closed
    # Behind our own close frame the violation is told to the user alone.
    wire = open_wire(role)
    wire.close(1000)
    assert wire.data_to_send()
    events, sent = feed(wire, stream, size)
    assert events == [closed]
    assert not sent


def masked_as_due(role: str, header: bytes, payload: bytes = b"") -> bytes:
    """A frame with this header, but for the mask bit and the key: they are what the role asks for."""
    if role == "client":
        return header + payload
    return header[:1] + bytes([header[1] | 0x80]) + header[2:] + bytes(4) + payload


@pytest.mark.parametrize("first", [0xC2, 0xA1, 0x92, 0xB2, 0x42, 0xC0, 0xC9])
def test_reserved_bits(role: str, size: int, first: int) -> None:
    """Section 5.2: none is negotiated, so none may be set; 1002."""
    assert_violation(role, masked_as_due(role, bytes([first, 1]), b"x"), size, 1002)
    assert_violation(role, masked_as_due(role, bytes([first, 126, 0, 200]), b"x" * 200), size, 1002)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF])
def test_reserved_opcodes(role: str, size: int, opcode: int) -> None:
    """Section 5.2; 1002."""
    assert_violation(role, masked_as_due(role, bytes([0x80 | opcode, 0])), size, 1002)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_control_frames_are_short_and_whole(role: str, size: int, opcode: int) -> None:
    """Section 5.5: at most 125 bytes, not fragmented; 1002."""
    assert_violation(role, masked_as_due(role, bytes([opcode, 0])), size, 1002)
    assert_violation(role, masked_as_due(role, bytes([0x80 | opcode, 126, 0, 126]), b"\x03\xe8" * 63), size, 1002)


@pytest.mark.parametrize(
    "header",
    [
        b"\x82\x7e\x00\x7d",
        b"\x81\x7e\x00\x00",
        b"\x02\x7f\0\0\0\0\0\0\xff\xff",
        b"\x82\x7f\x80\0\0\0\0\1\0\0",
    ],
)
def test_lengths_have_one_form(role: str, size: int, header: bytes) -> None:
    """Section 5.2: the shortest, the highest bit unset; 1002."""
    assert_violation(role, masked_as_due(role, header), size, 1002)


def test_masking_is_the_clients_duty_alone(role: str, size: int) -> None:
    """Section 5.1: 1002 for an unmasked frame at a server and a masked one at a client."""
    other = "client" if role == "server" else "server"
    for length in (0, 5, 200, 66_000):
        assert_violation(role, peer_frame(other, b"x" * length), size if length < 300 else 1000, 1002)
    assert_violation(role, peer_frame(other, b"x", PING), size, 1002)


def test_a_continuation_of_nothing(role: str, size: int) -> None:
    """Section 5.4; 1002."""
    for fin in (True, False):
        assert_violation(role, peer_frame(role, b"x", CONTINUATION, fin=fin), size, 1002)
        assert_violation(role, peer_frame(role, b"", CONTINUATION, fin=fin), size, 1002)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\x03", 1002),
        (b"\x03\xe7", 1002),
        (b"\x03\xec", 1002),
        (b"\x03\xed", 1002),
        (b"\x03\xee", 1002),
        (b"\x03\xf7", 1002),
        (b"\x0b\xb7", 1002),
        (b"\x13\x88", 1002),
        (b"\x03\xe8\xff", 1007),
    ],
)
def test_close_frames_may_be_wrong_too(role: str, size: int, payload: bytes, code: int) -> None:
    """Sections 5.5.1 and 7.4: half a code, a code that is never sent, a reason that is not UTF-8."""
    assert_violation(role, peer_frame(role, payload, CLOSE), size, code)


def test_a_refused_header_waits_for_nothing(role: str) -> None:
    """A violation is found with the bytes that show it, whatever length the header announces (S50)."""
    wire = open_wire(role)
    [closed] = wire.receive(b"\x83\xff")
    assert isinstance(closed, Closed)
    wire = open_wire(role)
    assert wire.receive(b"\xc2") == []
    assert wire.receive(masked_as_due(role, b"\xc2\x7f")[1:2]) == []
    assert wire.is_open
    [closed] = wire.receive(b"\0\0\0\1\0\0\0\0")
    assert isinstance(closed, Closed)
    assert closed.code == 1002


def test_a_refused_header_is_read_once(role: str) -> None:
    """Bytes that wsproto has are not given to it again: its verdict comes with the first payload byte (F-08)."""
    wire = open_wire(role)
    assert wire.receive(peer_frame(role, b"a", fin=False)) == []
    frame = peer_frame(role, b"b")
    events, _ = feed(wire, frame[:-1], 1)
    assert events == []
    assert wire.is_open
    assert [type(event) for event in wire.receive(frame[-1:])] == [Closed]


def test_the_end_of_the_stream_in_a_header_that_is_wrong(role: str) -> None:
    """It is closed once, as a cut connection."""
    wire = open_wire(role)
    assert wire.receive(b"\xc2") == []
    assert [type(event) for event in wire.receive_eof()] == [Closed]
    assert wire.receive(bytes(20)) == []


def test_the_public_names_are_there() -> None:
    """What the layers above import."""
    assert all(hasattr(_wire, name) for name in _wire.__all__)
    assert all(first < second for first, second in pairwise(_wire.__all__))


def test_strangers_pings_and_closes_reach_us(role: str) -> None:
    """wsproto's own serialiser, as the peer."""
    wire = open_wire(role)
    stranger = Connection(ConnectionType.CLIENT if role == "server" else ConnectionType.SERVER)
    stream = stranger.send(Ping(payload=b"?")) + stranger.send(TextMessage(data="a", message_finished=False))
    stream += stranger.send(TextMessage(data="b")) + stranger.send(CloseConnection(code=1001, reason="c"))
    assert wire.receive(stream) == ["ab", Closed(code=1001, reason="c", by_peer=True)]
    stranger.receive_data(wire.data_to_send())
    assert list(stranger.events()) == [Pong(payload=b"?"), CloseConnection(code=1001, reason="")]
