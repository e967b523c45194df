"""Frames as bytes: wsproto reads what is built, and lengths are read as RFC 6455, section 5.2, says."""

from __future__ import annotations

import random

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Ping, TextMessage

from rtm_sansio import _frames as frames

LENGTHS = [0, 1, 2, 3, 4, 5, 7, 124, 125, 126, 127, 128, 509, 510, 511, 512, 513, 515, 65_535, 65_536, 70_001]
MASKS = [0x00000000, 0x00000001, 0x80000000, 0xFFFFFFFF, 0x12345678]


def some_bytes(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def mask_slowly(payload: bytes, mask: int) -> bytes:
    """Section 5.3 word by word: octet i is XORed with octet i modulo 4 of the key."""
    key = mask.to_bytes(4, "big")
    return bytes(octet ^ key[index % 4] for index, octet in enumerate(payload))


@pytest.mark.parametrize("length", LENGTHS)
def test_wsproto_reads_an_unmasked_frame(length: int) -> None:
    """A server's frame of any length class arrives as it was (section 5.2)."""
    payload = some_bytes(length)
    client = Connection(ConnectionType.CLIENT, None, frames.encode_frame(payload))
    assert b"".join(event.data for event in client.events() if isinstance(event, BytesMessage)) == payload


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("length", LENGTHS)
def test_wsproto_reads_a_masked_frame(length: int, mask: int) -> None:
    """A client's frame of any length class and remainder arrives as it was (section 5.3)."""
    payload = some_bytes(length)
    server = Connection(ConnectionType.SERVER, None, frames.encode_masked_frame(payload, mask))
    assert b"".join(event.data for event in server.events() if isinstance(event, BytesMessage)) == payload


@pytest.mark.parametrize("length", LENGTHS)
def test_masked_frame_carries_its_mask_in_network_order(length: int) -> None:
    """The key stands in front of the payload, octet by octet as given (section 5.3)."""
    payload = some_bytes(length)
    masked = mask_slowly(payload, 0x12345678)
    assert frames.encode_masked_frame(payload, 0x12345678).endswith(b"\x12\x34\x56\x78" + masked)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("length", LENGTHS)
def test_unmask_in_the_middle_of_other_bytes(length: int, mask: int) -> None:
    """The payload comes back from any place in a read (section 5.3)."""
    payload = some_bytes(length)
    data = b"before" + mask.to_bytes(4, "big") + mask_slowly(payload, mask) + b"behind"
    assert frames.unmask(data, 6, 6 + 4 + length) == payload


def test_opcode_and_fin_are_as_asked() -> None:
    """Text, control frames and fragments have the first byte that section 5.2 gives them."""
    stream = (
        frames.encode_frame(b"a", opcode=frames.TEXT, fin=False)
        + frames.encode_frame(b"p", opcode=frames.PING)
        + frames.encode_frame(b"b", opcode=frames.CONTINUATION)
    )
    events = list(Connection(ConnectionType.CLIENT, None, stream).events())
    assert events == [
        TextMessage(data="a", message_finished=False),
        Ping(payload=b"p"),
        TextMessage(data="b"),
    ]
    masked = frames.encode_masked_frame(b"a", 0, opcode=frames.TEXT, fin=False)
    assert masked == b"\x01\x81\0\0\0\0a"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x82\x00", (2, 0)),
        (b"\x82\x7d", (2, 125)),
        (b"\x82\x7e\x00\x7e", (4, 126)),
        (b"\x82\x7e\xff\xff", (4, 65_535)),
        (b"\x82\x7f\0\0\0\0\0\1\0\0", (10, 65_536)),
        (b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", (10, (1 << 63) - 1)),
        # More bytes are needed.
        (b"\x82\x7e", (0, 4)),
        (b"\x82\x7e\x00", (0, 4)),
        (b"\x82\x7f\0\0\0\0\0\1\0", (0, 10)),
        # Not the shortest form, or the highest bit.
        (b"\x82\x7e\x00\x7d", (0, -1)),
        (b"\x82\x7f\0\0\0\0\0\0\xff\xff", (0, -1)),
        (b"\x82\x7f\x80\0\0\0\0\0\0\0", (0, -1)),
    ],
)
def test_locate_payload(data: bytes, expected: tuple[int, int]) -> None:
    """Each length class, its edges, and what section 5.2 forbids."""
    assert frames.locate_payload(data, 0, data[1]) == expected
    start, length = expected
    shifted = (start + 3, length) if start else expected
    assert frames.locate_payload(b"xyz" + data, 3, data[1]) == shifted


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1014, 3000, 4999])
def test_sendable_close_codes(code: int) -> None:
    """Section 7.4: what may stand in a close frame."""
    assert frames.is_sendable_close_code(code)


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 5000])
def test_close_codes_that_are_never_sent(code: int) -> None:
    """Section 7.4: what stands for something else, or for nothing."""
    assert not frames.is_sendable_close_code(code)


def test_close_payload() -> None:
    """Section 5.5.1: two bytes of code, then the reason; nothing at all for 1005."""
    assert frames.encode_close_payload(1000) == b"\x03\xe8"
    assert frames.encode_close_payload(4001, "é") == b"\x0f\xa1\xc3\xa9"
    assert frames.encode_close_payload(1005, "ignored") == b""


@pytest.mark.parametrize(
    ("reason", "shortened"),
    [
        ("", ""),
        ("a" * 123, "a" * 123),
        ("a" * 124, "a" * 123),
        ("a" * 122 + "é", "a" * 122),
        ("é" * 62, "é" * 61),
        ("\U0001f600" * 31, "\U0001f600" * 30),
        ("\ud800!", "?!"),
    ],
)
def test_reason_is_cut_between_characters(reason: str, shortened: str) -> None:
    """A close frame's payload stays within 125 bytes and valid UTF-8 (section 5.5)."""
    assert frames.shorten_reason(reason) == shortened
    assert len(frames.encode_close_payload(1000, reason)) <= frames.MAX_CONTROL_PAYLOAD_BYTES
