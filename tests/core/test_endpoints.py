"""URLs, and what the operating system says."""

from __future__ import annotations

import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtm_sansio.effects import Endpoint
from rtm_sansio.endpoints import MAX_URL_LENGTH, failure_from, parse_endpoint, parse_endpoints
from rtm_sansio.errors import ConfigError, TransportFailure


@pytest.mark.parametrize(
    ("url", "host", "port", "secure", "target"),
    [
        ("ws://127.0.0.1:8765", "127.0.0.1", 8765, False, "/"),
        ("ws://example.org", "example.org", 80, False, "/"),
        ("wss://example.org", "example.org", 443, True, "/"),
        ("wss://example.org:8443/rtm?a=b", "example.org", 8443, True, "/rtm?a=b"),
        ("ws://[::1]:9/", "::1", 9, False, "/"),
        ("ws://example.org?x=1", "example.org", 80, False, "/?x=1"),
        ("WS://EXAMPLE.org/P", "example.org", 80, False, "/P"),
    ],
)
def test_urls(url: str, host: str, port: int, secure: bool, target: str):
    """S37: what a URL stands for."""
    assert parse_endpoint(url) == Endpoint(url=url, host=host, port=port, secure=secure, target=target)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "http://example.org",
        "ws://",
        "ws:///path",
        "ws://example.org:0/",
        "ws://example.org:99999/",
        "ws://example.org:port/",
        "ws://alice:secret@example.org/",
        "ws://alice@example.org/",
        "ws://:secret@example.org/",
        "ws://example.org/#part",
        "ws://exämple.org/",
        "ws://example.org/a b",
        "ws://example.org/\n",
        "ws://[::1/",
        "ws://" + "a" * MAX_URL_LENGTH,
        None,
        b"ws://example.org/",
    ],
)
def test_impossible_urls(url: object):
    """S37: refused at once, with what is wrong, and never with a password in the text."""
    with pytest.raises(ConfigError) as caught:
        parse_endpoint(url)  # type: ignore[arg-type]
    assert str(caught.value)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=80) | st.text(max_size=60).map(lambda text: "ws://" + text))
def test_any_text(url: str):
    """S50: any text is an endpoint or a ConfigError."""
    try:
        endpoint = parse_endpoint(url)
    except ConfigError:
        return
    assert 0 < endpoint.port < 65536
    assert endpoint.host
    assert endpoint.target.startswith(("/", "?"))


def test_several():
    """F-13: one URL or several; none at all is refused."""
    assert len(parse_endpoints("ws://a")) == 1
    assert [one.host for one in parse_endpoints(["ws://a", "wss://b"])] == ["a", "b"]
    with pytest.raises(ConfigError, match="at least one"):
        parse_endpoints([])


def _verification_error() -> ssl.SSLCertVerificationError:
    return ssl.SSLCertVerificationError(1, "certificate verify failed")


@pytest.mark.parametrize(
    ("error", "code", "code_while_open"),
    [
        (ConnectionRefusedError("no"), "connection_refused", "connection_refused"),
        (ConnectionResetError("rst"), "connection_lost", "connection_lost"),
        (ConnectionAbortedError("x"), "connection_lost", "connection_lost"),
        (BrokenPipeError("x"), "connection_lost", "connection_lost"),
        (TimeoutError("slow"), "connect_timeout", "connection_lost"),
        (socket.gaierror(-2, "unknown"), "name_not_found", "name_not_found"),
        (UnicodeError("label too long"), "name_not_found", "name_not_found"),
        (ssl.SSLError(1, "handshake"), "tls_failed", "tls_failed"),
        (_verification_error(), "certificate_not_trusted", "certificate_not_trusted"),
        (OSError("no route"), "unreachable", "connection_lost"),
        (RuntimeError("odd"), "unreachable", "connection_lost"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_failures(error: BaseException, code: str, code_while_open: str):
    """S6, F-13, F-14, F-17: each error of the operating system has its code, and is kept as the cause."""
    failure = failure_from(error)
    assert isinstance(failure, TransportFailure)
    assert failure.code == code
    assert failure.__cause__ is error
    assert failure_from(error, while_open=True).code == code_while_open
