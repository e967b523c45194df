"""URLs, and what the operating system says."""

from __future__ import annotations

import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtm_sansio.config import ClientConfig, ServerConfig
from rtm_sansio.effects import Endpoint
from rtm_sansio.endpoints import (
    MAX_URL_LENGTH,
    check_address,
    check_client_tls,
    check_config,
    check_server_tls,
    failure_from,
    login_timed_out,
    parse_endpoint,
    parse_endpoints,
)
from rtm_sansio.errors import ConfigError, LoginTimeout, TransportFailure


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
    for urls, name in ((None, "None"), (b"ws://a", "bytes"), (bytearray(), "bytearray"), (7, "int"), ({}, "dict")):
        with pytest.raises(ConfigError, match=f"not {name}"):
            parse_endpoints(urls)  # type: ignore[arg-type]


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
    assert ("--ca" in str(failure)) is (code == "certificate_not_trusted"), "says what to do for a private CA"


def test_a_login_that_took_too_long():
    """S5: names the last cause, if there is one."""
    cause = TransportFailure("connection refused: no", code="connection_refused")
    error = login_timed_out("alice", 0.5, attempts=2, cause=cause)
    assert isinstance(error, LoginTimeout)
    assert (error.attempts, error.last_cause, error.__cause__) == (2, "connection_refused", cause)
    assert "0.5 s" in str(error)
    assert "refused" in str(error)
    silent = login_timed_out("alice", 0.5, attempts=1, cause=None)
    assert silent.last_cause is None
    assert "did not answer" in str(silent)


def test_options():
    """S37: what a client or a server can never be made with; in words that every frontend shares."""
    plain, secure = parse_endpoints("ws://a"), parse_endpoints(["ws://a", "wss://b"])
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    check_config(ClientConfig(), ClientConfig)
    check_client_tls(None, plain)
    check_client_tls(client, secure)
    check_server_tls(None)
    check_server_tls(server)
    check_address("", 0)
    check_address("localhost", 65535)
    for refused, part in (
        (lambda: check_config({}, ClientConfig), "ClientConfig, not dict"),
        (lambda: check_config(None, ServerConfig), "ServerConfig, not None"),
        (lambda: check_client_tls(client, plain), "nothing would be encrypted"),
        (lambda: check_client_tls(server, secure), "create_default_context"),
        (lambda: check_client_tls(True, secure), "not bool"),
        (lambda: check_server_tls(client), "CLIENT_AUTH"),
        (lambda: check_server_tls("cert.pem"), "not str"),
        (lambda: check_address(None, 0), "host must be a str, not None"),
        (lambda: check_address("", "8765"), "'8765'"),
        (lambda: check_address("", True), "True"),
        (lambda: check_address("", -1), "-1"),
        (lambda: check_address("", 65536), "65535"),
    ):
        with pytest.raises(ConfigError, match=part):
            refused()
