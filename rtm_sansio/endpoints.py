"""URLs of servers, and what the operating system says when one cannot be reached.

Also the checks of what clients and servers are made with, so that every frontend refuses the same with the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from .effects import Endpoint
from .errors import ConfigError, LoginTimeout, RtmError, TransportFailure

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
    given: object = urls
    if isinstance(given, (bytes, bytearray)) or not isinstance(given, Sequence):
        raise ConfigError(f"url must be a str such as 'wss://example.com', or a list of them, not {_kind(given)}")
    endpoints = (parse_endpoint(urls),) if isinstance(urls, str) else tuple(parse_endpoint(url) for url in urls)
    if not endpoints:
        raise ConfigError("at least one URL is needed")
    return endpoints


def login_timed_out(uid: str, timeout_seconds: float, *, attempts: int, cause: RtmError | None) -> LoginTimeout:
    """What ``login`` raises when its own ``timeout`` is over, with the last failure that the frontend knows of."""
    why = "the server did not answer" if cause is None else f"last: {cause}"
    error = LoginTimeout(
        f"no login of {uid!r} within the {timeout_seconds:g} s given to login() ({attempts} attempts; {why})",
        attempts=attempts,
        last_cause=None if cause is None else cause.code,
    )
    error.__cause__ = cause
    return error


def check_config(config: object, kind: type) -> None:
    """Raise ConfigError unless ``config`` is of this class."""
    if not isinstance(config, kind):
        raise ConfigError(f"config must be a {kind.__name__}, not {_kind(config)}; see rtm_sansio.{kind.__name__}")


def check_client_tls(tls: object, endpoints: Sequence[Endpoint]) -> None:
    """Raise ConfigError unless ``tls`` is None or a context by which a client can reach one of the endpoints."""
    if tls is None:
        return
    if _tls_protocol(tls) == "PROTOCOL_TLS_SERVER":
        raise ConfigError("ssl is a context for servers; a client takes ssl.create_default_context()")
    if not any(endpoint.secure for endpoint in endpoints):
        raise ConfigError("ssl is given, but no URL begins with wss://; nothing would be encrypted")


def check_server_tls(tls: object) -> None:
    """Raise ConfigError unless ``tls`` is None or a context with which connections can be accepted."""
    if tls is not None and _tls_protocol(tls) == "PROTOCOL_TLS_CLIENT":
        raise ConfigError(
            "ssl is a context for clients; a server takes ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) "
            "with load_cert_chain()"
        )


def check_address(host: object, port: object) -> None:
    """Raise ConfigError unless a server can be asked to listen there."""
    if not isinstance(host, str):
        raise ConfigError(f"host must be a str, not {_kind(host)}")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ConfigError(f"port is {port!r}; it must be a whole number from 0 (any free one) to 65535")


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


# By name, because the classes live in modules that a core does not import.
def _tls_protocol(context: Any) -> str:
    if not any(cls.__name__ == "SSLContext" for cls in type(context).__mro__):
        raise ConfigError(f"ssl must be an ssl.SSLContext or None, not {_kind(context)}")
    return str(getattr(getattr(context, "protocol", None), "name", ""))


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
    text = f"{code.replace('_', ' ')}: {error}"
    if code == "certificate_not_trusted":
        text += "; for a private CA give the client ssl=ssl.create_default_context(cafile=...), or rtm the option --ca"
    failure = TransportFailure(text, code=code)
    failure.__cause__ = error
    return failure
