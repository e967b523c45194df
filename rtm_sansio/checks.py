"""What a name, a body, a token and a duration may be (S37, S45): one place for both roles and every frontend. Each
``check_`` function raises InvalidArgument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from .errors import InvalidArgument

_LONGEST_SECONDS: Final = 2.0**53
"""Above it a float no longer counts whole seconds, and an int may be no float at all."""

_MOST_KEYS: Final = 65_536
"""No server lets a call name as many: what never ends is not read any further."""

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


def text_size(text: object) -> int | None:
    """The bytes of a text in UTF-8; None for what is no such text."""
    if not isinstance(text, str):
        return None
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def _why_no_text(given: object) -> str:
    """What is wrong with something for which ``text_size`` has no size."""
    return "cannot be encoded as UTF-8" if isinstance(given, str) else f"is of type {type(given).__name__}"


def attributes_size(channel: str, put: Mapping[str, str], drop: Sequence[str]) -> int:
    """What a change of attributes costs of the rate of bytes (S55): the same for both roles."""
    sizes = [text_size(text) or 0 for text in (*put, *put.values(), *drop)]
    return request_size(len(channel), *sizes)


def check_keys(keys: Iterable[str], max_count: int, max_bytes: int, *, least: int = 1) -> tuple[str, ...]:
    """The keys, each once. Raise unless they are ``least`` to ``max_count`` texts of 1 to ``max_bytes`` bytes; a single
    str is a mistake."""
    if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
        raise InvalidArgument(
            f"keys must be given as a list of str, not as {type(keys).__name__}", code="invalid_attribute"
        )
    found: dict[str, None] = {}
    for key in keys:
        size = text_size(key)
        if size is None or not 1 <= size <= max_bytes:
            what = f"has {size} bytes" if size is not None else _why_no_text(key)
            raise InvalidArgument(
                f"the key of an attribute is a str of 1 to {max_bytes} bytes; this one {what}",
                code="invalid_attribute",
            )
        found[_plain(key)] = None
        if len(found) > max_count:
            break
    if not least <= len(found) <= max_count:
        many = f"more than {max_count}" if found else "no"
        raise InvalidArgument(
            f"{many} attributes were given; {least} to {max_count} are possible in one call",
            code="too_many_names" if found else "invalid_attribute",
        )
    return tuple(found)


def _plain(text: str) -> str:
    """The text itself, of a subclass too: only that goes over the wire."""
    return text if type(text) is str else str.__str__(text)


def kept(given: Any) -> Any:
    """Keys or attributes as they are at a call that may have to wait for room and be tried again: a copy, of a
    generator too. What cannot be copied is left to the other checks."""
    if isinstance(given, Mapping):
        return dict(given)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        return given
    copy: list[Any] = list(islice(given, _MOST_KEYS + 1))  # pyright: ignore[reportUnknownArgumentType]
    if len(copy) > _MOST_KEYS:
        raise InvalidArgument(f"more than {_MOST_KEYS} attributes were given", code="too_many_names")
    return copy if isinstance(given, list) else tuple(copy)  # errors name the type that was given


def check_mapping(put: Mapping[str, str]) -> Mapping[str, str]:
    """The attributes to be set. Raise for what is no mapping."""
    if not isinstance(put, Mapping):
        raise InvalidArgument(
            f"attributes must be given as a dict of str to str, not as {type(put).__name__}", code="invalid_attribute"
        )
    return put


def check_values(put: Mapping[str, str], max_value_bytes: int, max_bytes: int) -> dict[str, str]:
    """The attributes, as a dict of their own. Raise unless the values are texts within their limits, each and all
    together with their keys, which were checked before."""
    total = 0
    checked: dict[str, str] = {}
    for key, value in put.items():
        size = text_size(value)
        if size is None:
            raise InvalidArgument(
                f"the value of an attribute is a str of up to {max_value_bytes} bytes; that of {key!r} "
                f"{_why_no_text(value)}",
                code="invalid_attribute",
            )
        if size > max_value_bytes:
            raise InvalidArgument(
                f"the value of the attribute {key!r} has {size} bytes; the limit is {max_value_bytes}",
                code="attribute_too_large",
            )
        total += size + (text_size(key) or 0)
        checked[_plain(key)] = _plain(value)
    if total > max_bytes:
        raise InvalidArgument(
            f"the attributes have {total} bytes together; the limit is {max_bytes}", code="attributes_full"
        )
    return checked


def check_change_size(channel: str, put: Mapping[str, str], drop: Sequence[str], max_bytes: int) -> None:
    """Raise unless a change of attributes fits into a request: one that does not could never be paced (S55)."""
    size = attributes_size(channel, put, drop)
    if size > max_bytes:
        raise InvalidArgument(
            f"the attributes have up to {size} bytes in one call; the limit of a request is {max_bytes}",
            code="attributes_full",
        )


def check_revision(revision: object) -> None:
    """Raise unless it is a revision of attributes, or None."""
    if revision is not None and not (type(revision) is int and 0 <= revision < 1 << 63):
        raise InvalidArgument(
            f"expected_revision must be an int of at least 0, or None, not {_shown(revision)}", code="invalid_revision"
        )


def check_names(names: Iterable[str], what: str, max_length: int, max_count: int) -> tuple[str, ...]:
    """The names, each once, in their order. Raise unless they are 1 to ``max_count`` valid ones; a single str is a
    mistake."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise InvalidArgument(
            f"the {what}s must be given as a list of str, not as {type(names).__name__}", code=f"invalid_{what}"
        )
    found: dict[str, None] = {}
    for name in names:
        check_name(name, what, max_length)
        found[name] = None
        if len(found) > max_count:
            break
    if not found:
        raise InvalidArgument(f"no {what}s were given; 1 to {max_count} are possible", code=f"invalid_{what}")
    if len(found) > max_count:
        raise InvalidArgument(f"more than {max_count} {what}s were given; ask for them in parts", code="too_many_names")
    return tuple(found)


def check_offset(offset: object, what: str) -> None:
    """Raise unless it is an offset in a log, or None."""
    if offset is not None and not (type(offset) is int and 0 <= offset < 1 << 63):
        raise InvalidArgument(
            f"{what} must be an offset, an int of at least 0, not {_shown(offset)}", code="invalid_offset"
        )


def check_count(count: object, what: str, most: int) -> None:
    """Raise unless it is a number of 1 to ``most``."""
    if not (type(count) is int and 1 <= count <= most):
        raise InvalidArgument(f"{what} must be an int of 1 to {most}, not {_shown(count)}", code=f"invalid_{what}")


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


_REQUEST_OVERHEAD = 24
"""Bytes of a request besides its names and its body, at most."""


def request_size(*parts: int) -> int:
    """The bytes of a request whose names and bodies have so many."""
    return sum(parts) + _REQUEST_OVERHEAD


def message_size(name: str, message: str | bytes, description: str = "") -> int:
    """What a message to ``name`` costs of the rate of bytes (S55): the same for both roles."""
    return request_size(len(name), body_size(message), body_size(description))


def check_description(description: str) -> None:
    """Raise unless ``description`` is a str that can be encoded."""
    if not isinstance(description, str):
        raise InvalidArgument(
            f"a description must be a str, not {type(description).__name__}", code="invalid_description"
        )
    try:
        description.encode()
    except UnicodeEncodeError as fault:
        raise InvalidArgument(
            f"the description cannot be encoded as UTF-8 ({fault.reason} at {fault.start})", code="invalid_description"
        ) from fault


def check_body(message: str | bytes, max_bytes: int, description: str = "") -> None:
    """Raise unless ``message`` is str or bytes of at most ``max_bytes``, with its description."""
    size = body_size(message) + body_size(description)
    if size > max_bytes:
        what = "the message with its description" if description else "the message"
        raise InvalidArgument(f"{what} has {size} bytes; the limit is {max_bytes}", code="message_too_large")


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


_MOST_NAMES = 100_000


def copy_of_names(names: Iterable[str]) -> Iterable[str]:
    """For a frontend that may have to ask the core more than once (S35): an iterator can be used up only once. What is
    no list of names, or one without end, is left for the core to refuse."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        return names
    return tuple(islice(names, _MOST_NAMES))
