"""Stable codes: what the server says, and the ranges that tell a client what to do with a code it does not know
(S41)."""

from __future__ import annotations

import enum


class CodeKind(enum.Enum):
    """What a code asks of the client that receives it."""

    TERMINAL = "terminal"
    """The session is over for good: ABORTED; a login that is under way fails."""
    VERDICT = "verdict"
    """This login cannot succeed as it stands: a ``login`` call fails; a reconnect goes on at the cap and reports it
    once."""
    RETRY = "retry"
    """Passing trouble: try again with back-off, or after ``retry_after``."""
    REPORT = "report"
    """One request was refused; the caller is told, and the connection is not touched."""


CODE_RANGES: dict[CodeKind, range] = {
    CodeKind.TERMINAL: range(4000, 4100),
    CodeKind.VERDICT: range(4100, 4200),
    CodeKind.RETRY: range(4200, 4300),
    CodeKind.REPORT: range(4300, 4400),
}
"""All of them lie in the private range of WebSocket close codes (RFC 6455, section 7.4.2), so a close frame can carry
each."""


class Code(enum.IntEnum):
    """The codes of protocol version 1. Their names in lower case are the ``code`` of errors and events."""

    REMOTE_LOGIN = 4000
    BANNED = 4001
    KICKED = 4002
    TOKEN_EXPIRY_ENFORCED = 4003

    BAD_TOKEN = 4100
    TOKEN_EXPIRED = 4101
    INVALID_UID = 4102
    ALREADY_LOGGED_IN = 4103
    LOGIN_LIMIT = 4104

    UNAVAILABLE = 4200
    DRAINING = 4201
    AUTHENTICATOR_FAILED = 4202
    LOGIN_DEADLINE = 4203
    SILENT = 4204
    TOO_SLOW = 4205
    FLOODING = 4206
    TRANSPORT_REPLACED = 4207

    NOT_A_MEMBER = 4300
    ALREADY_A_MEMBER = 4301
    INVALID_CHANNEL = 4302
    MESSAGE_TOO_LARGE = 4303
    TOO_MANY_CHANNELS = 4304
    RATE_EXCEEDED = 4305
    TOO_MANY_REQUESTS = 4306
    SESSION_ENDED = 4307
    STALE_REQUEST = 4308
    UNKNOWN_REQUEST = 4309
    INTERNAL_ERROR = 4310
    INVALID_REQUEST = 4311
    TOO_MANY_NAMES = 4312
    INVALID_PEER = 4313
    INBOX_FULL = 4314
    SENDER_SHARE = 4315
    INVALID_ATTRIBUTE = 4316
    ATTRIBUTE_TOO_LARGE = 4317
    ATTRIBUTES_FULL = 4318
    REVISION_CONFLICT = 4319
    TOO_MANY_SUBSCRIPTIONS = 4320


def code_kind(code: int) -> CodeKind | None:
    """The range that ``code`` lies in, known or not; None outside of all ranges."""
    for kind, codes in CODE_RANGES.items():
        if code in codes:
            return kind
    return None


def code_name(code: int) -> str:
    """The stable name of a code; ``code_<number>`` for one that this version does not know."""
    try:
        return Code(code).name.lower()
    except ValueError:
        return f"code_{code}"
