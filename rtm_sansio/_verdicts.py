"""What a failure means: passing trouble, a verdict, or the end of the session (S6, S41)."""

from __future__ import annotations

import math

from ._handshake import HandshakeFailed, Rejected
from ._wire import Closed
from .codes import Code, code_name
from .errors import RtmError, TransportFailure
from .states import Trigger

_SHOWN_BODY = 200
_LONGEST_RETRY_AFTER_DIGITS = 6

# Causes that no repetition will mend (S6); any other is passing trouble.
_VERDICTS = frozenset({"certificate_not_trusted", "not_a_websocket", "no_common_protocol"})
_PASSING_HTTP = frozenset({408, 425, 429})
_HANDSHAKE_CODES = {"bad_subprotocol": "no_common_protocol", "connection_lost": "connection_lost"}

_SERVER_CODES = frozenset(map(code_name, Code))
PROVIDER_FAILED = "token_provider_failed"
"""The code of a token provider that raised, was too slow or gave nothing (F-54)."""
TOKEN_CODES = frozenset({Code.BAD_TOKEN, Code.TOKEN_EXPIRED, Code.TOKEN_EXPIRY_ENFORCED})
"""Refusals that are about the token that was quoted, and about nothing else."""

_TRIGGERS: dict[int, Trigger] = {
    Code.REMOTE_LOGIN: Trigger.REMOTE_LOGIN,
    Code.BANNED: Trigger.BANNED,
    Code.TOKEN_EXPIRY_ENFORCED: Trigger.TOKEN_EXPIRY_ENFORCED,
}


def trigger_of(code: int) -> Trigger:
    """Which end of the session a terminal code stands for; one that is not known is the operator's (S41)."""
    return _TRIGGERS.get(code, Trigger.ENDED_BY_SERVER)


def is_verdict(code: str) -> bool:
    """Whether a failure with this code ends a login at once (S6)."""
    status = code.removeprefix("http_")
    if status != code and status.isascii() and status.isdigit():
        return int(status) < 500 and int(status) not in _PASSING_HTTP
    return code in _VERDICTS


def advice(cause: RtmError | None, *, secure: bool) -> str:
    """What to look at when a ``login`` came to nothing within its time; ``secure`` says that its URLs are wss://."""
    code = None if cause is None else cause.code
    if code == PROVIDER_FAILED:
        return "check the token provider"
    if code in _SERVER_CODES:
        return "the server runs, and said so itself: try again later, or look into its log"
    if code == "tls_failed":
        return "check that the server speaks TLS there: if it does not, its URL begins with ws://"
    if code == "connection_lost" and not secure:
        return "check the URL (it begins with wss:// if the server speaks TLS) and that the server runs"
    return "check the URL and that the server runs"


def rejection(rejected: Rejected) -> TransportFailure:
    """The failure of an HTTP answer other than 101, with a piece of its body (F-18)."""
    body = rejected.body.decode("utf-8", "replace").strip()
    text = "".join(letter if letter.isprintable() else " " for letter in body)[:_SHOWN_BODY]
    shown = f"{rejected.reason}{f' ({text})' if text else ''}; is this the URL of an RTM server?"
    return TransportFailure(shown, code=f"http_{rejected.status_code}")


def handshake_failure(failed: HandshakeFailed) -> TransportFailure:
    """The failure of an answer that is no WebSocket's."""
    return TransportFailure(failed.reason, code=_HANDSHAKE_CODES.get(failed.code, "not_a_websocket"))


def close_failure(closed: Closed) -> TransportFailure:
    """The failure of a close frame that carries no code of this protocol."""
    return TransportFailure(
        f"the connection was closed with code {closed.code}: {closed.reason}",
        code="connection_lost" if closed.by_peer else "protocol_error",
    )


def retry_after_of(rejected: Rejected) -> float | None:
    """The Retry-After of an HTTP answer, if it is a number of seconds (RFC 9110, section 10.2.3)."""
    for name, value in rejected.headers:
        if name == "retry-after" and value.isascii() and value.isdigit() and len(value) <= _LONGEST_RETRY_AFTER_DIGITS:
            return float(value)
    return None


def sensible_seconds(seconds: float | None) -> float | None:
    """A server's duration, or None if it is no number that a timer can wait for."""
    return seconds if seconds is not None and math.isfinite(seconds) else None
