"""What a name, a body and a token may be (S37, S45): one place for both roles. Each function raises InvalidArgument
or ValueError."""

from __future__ import annotations

import math

from .errors import InvalidArgument

MAX_TOKEN_BYTES = 8 * 1024
"""A login with its names, ids and token fits into what may be sent before it is accepted (S45)."""


def is_valid_name(name: object, max_length: int) -> bool:
    """Whether it is a uid or channel name: 1 to ``max_length`` printable ASCII characters."""
    return isinstance(name, str) and 0 < len(name) <= max_length and name.isascii() and name.isprintable()


def check_name(name: str, what: str, max_length: int) -> None:
    """Raise unless ``name`` is a valid uid or channel name."""
    if not isinstance(name, str):
        raise InvalidArgument(f"a {what} must be a str, not {type(name).__name__}", code=f"invalid_{what}")
    if not is_valid_name(name, max_length):
        shown = name if len(name) <= max_length else name[:max_length] + "..."
        raise InvalidArgument(
            f"the {what} {shown!r} ({len(name)} characters) is not 1 to {max_length} printable ASCII characters",
            code=f"invalid_{what}",
        )


def body_size(message: str | bytes) -> int:
    """The bytes of a message body on the wire. Raises InvalidArgument for what is no body."""
    if isinstance(message, bytes):
        return len(message)
    if not isinstance(message, str):
        raise InvalidArgument(f"a message must be str or bytes, not {type(message).__name__}", code="invalid_message")
    if message.isascii():
        return len(message)
    try:
        return len(message.encode())
    except UnicodeEncodeError as fault:
        raise InvalidArgument(
            f"the message cannot be encoded as UTF-8 ({fault.reason} at {fault.start}); send bytes instead",
            code="invalid_message",
        ) from fault


def check_body(message: str | bytes, max_bytes: int) -> None:
    """Raise unless ``message`` is str or bytes of at most ``max_bytes``."""
    size = body_size(message)
    if size > max_bytes:
        raise InvalidArgument(f"the message has {size} bytes; the limit is {max_bytes}", code="message_too_large")


def check_token(token: str) -> None:
    """Raise unless ``token`` is a text that a login can carry. The error never holds any of it."""
    if not isinstance(token, str):
        raise InvalidArgument(f"a token must be a str, not {type(token).__name__}", code="invalid_token")
    if not token.isascii() or not token.isprintable():
        raise InvalidArgument("a token must be printable ASCII; this one has other characters", code="invalid_token")
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidArgument(f"the token has {len(token)} bytes; the limit is {MAX_TOKEN_BYTES}", code="invalid_token")


def check_timeout(timeout_seconds: float) -> None:
    """Raise unless it is a duration above 0; infinity is none, because every wait has a bound."""
    if (
        isinstance(timeout_seconds, bool)
        or not isinstance(timeout_seconds, (int, float))
        or not 0 < timeout_seconds < math.inf
    ):
        raise InvalidArgument(
            f"a timeout must be a finite number of seconds above 0, not {timeout_seconds!r}", code="invalid_timeout"
        )
