"""What a name, a body, a token and a duration may be (S37, S45): one place for both roles and every frontend. Each
``check_`` function raises InvalidArgument."""

from __future__ import annotations

from typing import Final

from .errors import InvalidArgument

_LONGEST_SECONDS: Final = 2.0**53
"""Above it a float no longer counts whole seconds, and an int may be no float at all."""

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


def check_timeout(timeout_seconds: object) -> None:
    """Raise unless a call can wait so long, or as long as the config says (None). Infinity is no duration: every wait
    has a bound."""
    if timeout_seconds is not None and not _is_duration(timeout_seconds):
        raise InvalidArgument(
            f"a timeout must be a number of seconds above 0 and up to 2**53, not {_shown(timeout_seconds)}",
            code="invalid_timeout",
        )


def check_ban(seconds: object) -> None:
    """Raise unless a uid can be banned for so long."""
    if not _is_duration(seconds):
        raise InvalidArgument(
            f"a ban takes a number of seconds above 0 and up to 2**53, not {_shown(seconds)}", code="invalid_ban"
        )


def _is_duration(seconds: object) -> bool:
    return isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 < seconds <= _LONGEST_SECONDS


def _shown(value: object) -> str:
    """An argument as an error shows it: one of the wrong type may be anything, so its type alone."""
    if not isinstance(value, (int, float)):
        return type(value).__name__
    if isinstance(value, int) and abs(value) > _LONGEST_SECONDS:
        return "an int beyond it"  # it may have more digits than anybody reads
    return repr(value)
