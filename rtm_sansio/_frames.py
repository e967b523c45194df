"""WebSocket frames as bytes (RFC 6455, section 5): pure functions without state.

Outgoing frames of every kind are built here rather than by wsproto, which draws masks from ``os.urandom``:
with the entropy passed in, the same inputs give the same bytes.
"""

from __future__ import annotations

import struct
from typing import Final

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

FIN: Final = 0x80
MASKED: Final = 0x80

MAX_CONTROL_PAYLOAD_BYTES: Final = 125
MAX_CLOSE_REASON_BYTES: Final = MAX_CONTROL_PAYLOAD_BYTES - 2

# The one-byte length; the values 126 and 127 say that two or eight more bytes follow (section 5.2).
_MAX_SHORT_LENGTH: Final = 125
_TWO_BYTE_LENGTH: Final = 126
_EIGHT_BYTE_LENGTH: Final = 127
_MAX_TWO_BYTE_LENGTH: Final = 0xFFFF
_MAX_EIGHT_BYTE_LENGTH: Final = (1 << 63) - 1

# Codes that stand for something that never was on the wire (section 7.4.1), and 1004, which has no meaning.
_UNSENDABLE_CLOSE_CODES: Final = frozenset({1004, 1005, 1006, 1015})
NO_CLOSE_CODE: Final = 1005

_pack_short: Final = struct.Struct("!BB").pack
_pack_two_byte: Final = struct.Struct("!BBH").pack
_pack_eight_byte: Final = struct.Struct("!BBQ").pack
_pack_masked_short: Final = struct.Struct("!BBI").pack
_pack_masked_two_byte: Final = struct.Struct("!BBHI").pack

# First bytes of a frame that may follow, with FIN and opcode and without RSV bits (sections 5.2, 5.4, 5.5).
_CONTROL_FIRST_BYTES: Final = frozenset({FIN | CLOSE, FIN | PING, FIN | PONG})
FIRST_BYTES_BETWEEN_MESSAGES: Final = _CONTROL_FIRST_BYTES | {TEXT, BINARY, FIN | TEXT, FIN | BINARY}
FIRST_BYTES_INSIDE_MESSAGE: Final = _CONTROL_FIRST_BYTES | {CONTINUATION, FIN | CONTINUATION}

# Below this size one XOR of two large integers is the fastest mask, above it four translations with a
# stride are: on integers a byte costs 4 ns and more, by translation 3 ns after 2 µs for the start.
_TRANSLATE_FROM_BYTES: Final = 512
_from_bytes: Final = int.from_bytes
# A key times the n-th of these is the key n times over. One more than the longest payload has words, for
# its key.
_REPEATS: Final = tuple(int.from_bytes(b"\0\0\0\1" * words, "big") for words in range(_TRANSLATE_FROM_BYTES // 4 + 2))
_XOR_TABLES: Final[list[bytes]] = []


def encode_frame(payload: bytes, *, opcode: int = BINARY, fin: bool = True) -> bytes:
    """A whole unmasked frame, as a server sends it; the bytes may be shared by any number of receivers."""
    first = FIN | opcode if fin else opcode
    length = len(payload)
    if length <= _MAX_SHORT_LENGTH:
        return _pack_short(first, length) + payload
    if length <= _MAX_TWO_BYTE_LENGTH:
        return _pack_two_byte(first, _TWO_BYTE_LENGTH, length) + payload
    return _pack_eight_byte(first, _EIGHT_BYTE_LENGTH, length) + payload


def encode_masked_frame(payload: bytes, mask: int, *, opcode: int = BINARY, fin: bool = True) -> bytes:
    """A whole masked frame, as a client sends it; ``mask`` has 32 bits, fresh for each (section 5.3)."""
    first = FIN | opcode if fin else opcode
    length = len(payload)
    if length < _TRANSLATE_FROM_BYTES:
        # Read as one number, the frame ends with the payload, and so does the repeated key.
        key = mask * _REPEATS[(length + 3) >> 2]
        if length & 3:
            key >>= 32 - 8 * (length & 3)
        if length <= _MAX_SHORT_LENGTH:
            frame = _from_bytes(_pack_masked_short(first, MASKED | length, mask) + payload, "big")
            return (frame ^ key).to_bytes(length + 6, "big")
        frame = _from_bytes(_pack_masked_two_byte(first, MASKED | _TWO_BYTE_LENGTH, length, mask) + payload, "big")
        return (frame ^ key).to_bytes(length + 8, "big")
    mask_bytes = mask.to_bytes(4, "big")
    if length <= _MAX_TWO_BYTE_LENGTH:
        header = _pack_two_byte(first, MASKED | _TWO_BYTE_LENGTH, length)
    else:
        header = _pack_eight_byte(first, MASKED | _EIGHT_BYTE_LENGTH, length)
    return header + mask_bytes + _translate(payload, mask_bytes)


def unmask(data: bytes, start: int, end: int) -> bytes:
    """The payload of a masked frame of which ``data[start:end]`` is the key and the payload (section 5.3)."""
    length = end - start - 4
    if length < _TRANSLATE_FROM_BYTES:
        # Read as one number, key and payload begin with the key; XOR with the repeated key leaves nothing
        # of it.
        masked = _from_bytes(data[start:end], "big")
        key = (masked >> 8 * length) * _REPEATS[(length + 7) >> 2]
        if length & 3:
            key >>= 32 - 8 * (length & 3)
        return (masked ^ key).to_bytes(length, "big")
    return _translate(data[start + 4 : end], data[start : start + 4])


def _translate(payload: bytes, mask: bytes) -> bytes:
    if not _XOR_TABLES:
        # 64 KiB that a process which sees only small frames never needs.
        _XOR_TABLES.extend(bytes(value ^ key for value in range(256)) for key in range(256))
    masked = bytearray(len(payload))
    for offset in range(4):
        masked[offset::4] = payload[offset::4].translate(_XOR_TABLES[mask[offset]])
    return bytes(masked)


def locate_payload(data: bytes, position: int, length: int) -> tuple[int, int]:
    """Where the header of the frame at ``position`` ends, and how long the payload is.

    ``length`` is the header's seven-bit length. The end does not count a masking key. ``(0, n)`` means that
    the header needs ``n`` bytes, more than there are; ``(0, -1)`` that the length breaks section 5.2: not
    in its shortest form, or with the highest bit.
    """
    available = len(data) - position
    if length == _TWO_BYTE_LENGTH:
        if available < 4:
            return 0, 4
        length = data[position + 2] << 8 | data[position + 3]
        return (position + 4, length) if length > _MAX_SHORT_LENGTH else (0, -1)
    if length == _EIGHT_BYTE_LENGTH:
        if available < 10:
            return 0, 10
        length = int.from_bytes(data[position + 2 : position + 10], "big")
        valid = _MAX_TWO_BYTE_LENGTH < length <= _MAX_EIGHT_BYTE_LENGTH
        return (position + 10, length) if valid else (0, -1)
    return position + 2, length


def is_sendable_close_code(code: int) -> bool:
    """Whether ``code`` may stand in a close frame (sections 7.4.1 and 7.4.2)."""
    return 1000 <= code <= 4999 and code not in _UNSENDABLE_CLOSE_CODES


def encode_close_payload(code: int, reason: str = "") -> bytes:
    """The payload of a close frame (section 5.5.1): empty for 1005; the reason cut to what fits."""
    if code == NO_CLOSE_CODE:
        return b""
    return code.to_bytes(2, "big") + shorten_reason(reason).encode()


def shorten_reason(reason: str) -> str:
    """As much of ``reason`` as fits into 123 bytes, cut between characters; lone surrogates become ``?``."""
    return reason.encode("utf-8", "replace")[:MAX_CLOSE_REASON_BYTES].decode("utf-8", "ignore")
