"""What a name, a body, a token and a timeout may be (S37, S45)."""

from __future__ import annotations

from typing import Any

import pytest

from rtm_sansio.checks import (
    MAX_TOKEN_BYTES,
    body_size,
    check_ban,
    check_body,
    check_count,
    check_description,
    check_name,
    check_names,
    check_offset,
    check_timeout,
    check_token,
    is_valid_name,
    message_size,
)
from rtm_sansio.errors import InvalidArgument


@pytest.mark.parametrize("name", ["a", "A b~!", "x" * 64, " "])
def test_names(name: str):
    """S45: 1 to 64 printable ASCII characters."""
    check_name(name, "uid", 64)
    assert is_valid_name(name, 64)


@pytest.mark.parametrize("name", ["", "x" * 65, "ä", "a\n", "a\x00", "\x7f", None, 7, b"a"])
def test_impossible_names(name: Any):
    """S37: refused with the limit in the text, and a code of its own."""
    assert not is_valid_name(name, 64)
    with pytest.raises(InvalidArgument) as caught:
        check_name(name, "channel", 64)
    assert caught.value.code == "invalid_channel"
    if isinstance(name, str):
        assert "64" in str(caught.value)
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("body", "size"), [("", 0), (b"", 0), ("abc", 3), ("ä", 2), ("\N{GRINNING FACE}", 4), (b"\xff\x00", 2)]
)
def test_sizes(body: str | bytes, size: int):
    """S45: a body counts by its bytes on the wire."""
    assert body_size(body) == size
    check_body(body, size)
    if size:
        with pytest.raises(InvalidArgument, match=str(size - 1)) as caught:
            check_body(body, size - 1)
        assert caught.value.code == "message_too_large"


@pytest.mark.parametrize("body", ["\ud800", None, 7, ["x"], bytearray(b"x")])
def test_no_body(body: Any):
    """S37: what is no text that UTF-8 can carry, and no bytes, is no message."""
    with pytest.raises(InvalidArgument) as caught:
        check_body(body, 100)
    assert caught.value.code == "invalid_message"


def test_descriptions():
    """S37, S45: a text that can be encoded; its bytes and those of the message have one bound."""
    check_description("caf\u00e9")
    for description in (7, b"x", "\ud800"):
        with pytest.raises(InvalidArgument) as error:
            check_description(description)  # type: ignore[arg-type]
        assert error.value.code == "invalid_description"
    check_body("x" * 5, 10, "\u00e9\u00e9x")
    with pytest.raises(InvalidArgument, match="with its description has 11 bytes; the limit is 10"):
        check_body("x" * 5, 10, "\u00e9\u00e9\u00e9")


def test_tokens():
    """S37: a token is printable ASCII that fits into a login; it may be empty."""
    for token in ("", "abc.def-_", "x" * MAX_TOKEN_BYTES):
        check_token(token)


@pytest.mark.parametrize("token", [None, b"secret", "secret\n", "secret-ä", "secret" * MAX_TOKEN_BYTES, 5])
def test_impossible_tokens(token: Any):
    """S19, S37: refused without any of it in the text."""
    with pytest.raises(InvalidArgument) as caught:
        check_token(token)
    assert caught.value.code == "invalid_token"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("timeout", [0.001, 1, 1e6, None])
def test_timeouts(timeout: float | None):
    """S35: a finite number of seconds above 0; None is the config's."""
    check_timeout(timeout)


@pytest.mark.parametrize(
    "seconds", [0, -1, float("inf"), -float("inf"), float("nan"), 10**400, True, "1", b"1", 2.0**53 + 2]
)
def test_a_duration_has_a_bound(seconds: Any):
    """S35, S37: what no clock can add to its time is refused at the call, and shown without its digits."""
    check_ban(0.5)
    check_timeout(2.0**53)
    with pytest.raises(InvalidArgument, match="above 0") as caught:
        check_ban(seconds)
    assert caught.value.code == "invalid_ban"
    with pytest.raises(InvalidArgument, match="above 0") as caught:
        check_timeout(seconds)
    assert caught.value.code == "invalid_timeout"
    assert "up to 2**53" in str(caught.value)
    assert len(str(caught.value)) < 100


def test_several_names():
    """S45: each once, in their order; from any collection."""
    assert check_names(["b", "a", "b"], "channel", 64, 2) == ("b", "a")
    assert check_names({"a": 1}, "channel", 64, 2) == ("a",)


@pytest.mark.parametrize(
    ("names", "code", "text"),
    [
        (["a", "b", "c"], "too_many_names", "more than 2"),
        ([], "invalid_channel", "1 to 2"),
        ("a", "invalid_channel", "list of str, not as str"),
        (b"a", "invalid_channel", "bytes"),
        (7, "invalid_channel", "int"),
        (["a", ""], "invalid_channel", "1 to 64"),
        (["a", 7], "invalid_channel", "must be a str"),
    ],
)
def test_no_several_names(names: Any, code: str, text: str):
    """S37, S45: with the limit in the text; what can be read only once is none, for it may be needed again."""
    with pytest.raises(InvalidArgument, match=text) as caught:
        check_names(names, "channel", 64, 2)
    assert caught.value.code == code


@pytest.mark.parametrize("offset", [None, 0, 1, (1 << 63) - 1])
def test_offsets(offset: int | None):
    """S37: what an entry may have, and 0."""
    check_offset(offset, "before")


@pytest.mark.parametrize("offset", [-1, 1 << 63, True, 1.0, "1", 10**400])
def test_no_offsets(offset: Any):
    """S37."""
    with pytest.raises(InvalidArgument, match="before must be an offset") as caught:
        check_offset(offset, "before")
    assert caught.value.code == "invalid_offset"
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("count", [1, 5])
def test_counts(count: int):
    """S45: from both sides."""
    check_count(count, "limit", 5)


@pytest.mark.parametrize("count", [0, 6, -1, True, 1.0, None])
def test_no_counts(count: Any):
    """S37, S45: with the limit in the text."""
    with pytest.raises(InvalidArgument, match="1 to 5") as caught:
        check_count(count, "limit", 5)
    assert caught.value.code == "invalid_limit"


def test_what_a_message_costs():
    """S55: its body, its channel's name, and a little more."""
    assert message_size("lobby", "ä") == message_size("lobby", b"xy") == 2 + 5 + 24
