"""URLs of servers, and what the operating system says when one cannot be reached."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from .effects import Endpoint
from .errors import ConfigError, TransportFailure

MAX_URL_LENGTH = 2048


def parse_endpoint(url: str) -> Endpoint:
    """The endpoint of a ``ws://`` or ``wss://`` URL. Raises ConfigError for anything that cannot be connected to."""
    if not isinstance(url, str):
        raise ConfigError(f"a URL must be a str, not {type(url).__name__}")
    if len(url) > MAX_URL_LENGTH:
        raise ConfigError(f"the URL has {len(url)} characters; the limit is {MAX_URL_LENGTH}")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError("the URL must be printable ASCII without spaces; encode other characters (punycode, percent)")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as fault:
        raise ConfigError(f"the URL cannot be read: {fault}") from fault
    if parts.scheme not in ("ws", "wss"):
        raise ConfigError(
            f"the URL must begin with ws:// or wss://, not {parts.scheme + '://' if parts.scheme else 'nothing'}"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError("the URL must not hold a user name or password; give the token to login()")
    if not parts.hostname:
        raise ConfigError("the URL names no host, as in ws://127.0.0.1:8765")
    if parts.fragment:
        raise ConfigError("the URL must not have a fragment (RFC 6455, section 3)")
    if port == 0:
        raise ConfigError("the URL names port 0, which cannot be connected to")
    secure = parts.scheme == "wss"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(url=url, host=parts.hostname, port=port or (443 if secure else 80), secure=secure, target=target)


def parse_endpoints(urls: str | Sequence[str]) -> tuple[Endpoint, ...]:
    """One URL or several, tried in turn. Raises ConfigError."""
    endpoints = (parse_endpoint(urls),) if isinstance(urls, str) else tuple(parse_endpoint(url) for url in urls)
    if not endpoints:
        raise ConfigError("at least one URL is needed")
    return endpoints


# By name, because the classes live in modules that a core does not import.
_CODES_BY_CLASS_NAME = {
    "SSLCertVerificationError": "certificate_not_trusted",
    "CertificateError": "certificate_not_trusted",
    "SSLError": "tls_failed",
    "gaierror": "name_not_found",
    "ConnectionRefusedError": "connection_refused",
    "ConnectionResetError": "connection_lost",
    "ConnectionAbortedError": "connection_lost",
    "BrokenPipeError": "connection_lost",
    "TimeoutError": "connect_timeout",
    "UnicodeError": "name_not_found",
    "OSError": "unreachable",
}


def failure_from(error: BaseException, *, while_open: bool = False) -> TransportFailure:
    """What a driver reports for an exception of the operating system; the exception is kept as the cause.

    ``while_open`` is for a transport that was up: whatever ends it without a code of its own is ``connection_lost``.
    """
    code = "unreachable"
    for cls in type(error).__mro__:
        if cls.__name__ in _CODES_BY_CLASS_NAME:
            code = _CODES_BY_CLASS_NAME[cls.__name__]
            break
    if while_open and code in ("unreachable", "connect_timeout"):
        code = "connection_lost"
    failure = TransportFailure(f"{code.replace('_', ' ')}: {error}", code=code)
    failure.__cause__ = error
    return failure
