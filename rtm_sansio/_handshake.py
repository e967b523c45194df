"""The opening handshake (RFC 6455, section 4) of one transport, both roles: HTTP bytes in, a verdict out.

h11 parses one head, which is handed to it whole: so the verdict cannot depend on how the bytes were cut, and
its bytes and lines are limited exactly. What section 4 asks of it is checked here, with wsproto's accept token:
wsproto's own handshake draws its nonce from ``os.urandom``, sees neither path nor HTTP version, and behind an
h11 stage it would parse a request three times.

Both classes are dropped as soon as they have given their verdict; an open connection does not keep them.
"""

from __future__ import annotations

import base64
import http
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, TypeAlias

import h11
from msgspec import Struct
from wsproto.utilities import generate_accept_token

from rtm_sansio.errors import InvalidArgument

MAX_BODY_SNIPPET_BYTES: Final = 1024
DEFAULT_MAX_HANDSHAKE_BYTES: Final = 16_384
MAX_HEADER_LINES: Final = 100
"""h11 takes some microseconds for each, and within the bytes of a head there is room for thousands."""

_WEBSOCKET_VERSION: Final = b"13"
_NONCE_BYTES: Final = 16
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_ABSOLUTE_TARGET: Final = re.compile(r"(?i:https?|wss?)://[^/?#]+(?P<path>/[^?#]*)?(?:\?[^#]*)?")
_STATUS_LINE_START: Final = b"HTTP/1."
_MAX_QUOTED_CHARACTERS: Final = 100

HandshakeCode: TypeAlias = Literal[
    # Both roles.
    "connection_lost",
    "head_too_large",
    # Client: what the server sent instead of an answer that opens the connection.
    "bad_accept",
    "bad_extension",
    "bad_subprotocol",
    "bad_upgrade",
    "not_http",
    # Server: what was wrong with the request.
    "bad_request",
    "bad_version",
    "method_not_allowed",
    "no_common_subprotocol",
    "not_found",
    "origin_refused",
    "upgrade_required",
]


class Opened(Struct, frozen=True, kw_only=True, gc=False):
    """The opening handshake is done: messages may be sent."""

    subprotocol: str | None


class Rejected(Struct, frozen=True, kw_only=True, gc=False):
    """Client: the server answered the opening request with an HTTP status other than 101.

    Header names are in lower case, values as they came; ``body`` is its first kibibyte at most.
    """

    status_code: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    reason: str


class HandshakeFailed(Struct, frozen=True, kw_only=True, gc=False):
    """The opening handshake broke its rules or was cut off; a server has queued its refusal."""

    code: HandshakeCode
    reason: str


class Verdict(Struct, frozen=True, kw_only=True, gc=False):
    """How an opening handshake ended, the bytes to answer with, and the bytes that came behind its head."""

    event: Opened | Rejected | HandshakeFailed
    answer: bytes = b""
    trailing: bytes = b""


class _Refusal(Exception):
    """Leaves the checks of a head at the first rule that it breaks."""

    def __init__(
        self,
        code: HandshakeCode,
        reason: str,
        status: http.HTTPStatus = http.HTTPStatus.BAD_REQUEST,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(reason)
        self.code: HandshakeCode = code
        self.reason = reason
        self.status = status
        self.headers = headers


class _Head:
    """Collects bytes up to and including the empty line that ends an HTTP head."""

    __slots__ = ("_bytes", "_max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._bytes = bytearray()
        self._max_bytes = max_bytes

    def collect(self, data: bytes) -> bytearray:
        """All bytes so far, for a look at how they begin."""
        self._bytes += data
        return self._bytes

    def split(self, new_byte_count: int) -> tuple[bytes, bytes] | None:
        """The head and what came behind it, or None if its end is not there yet.

        Only the last ``new_byte_count`` bytes are searched, and the two before them in which the end may
        begin.
        """
        start = max(0, len(self._bytes) - new_byte_count - 2)
        end = _HEAD_END.search(self._bytes, start, self._max_bytes)
        if end is not None:
            # Two more lines are the first of the head and the empty one behind it.
            if self._bytes.count(b"\n", 0, end.end()) > MAX_HEADER_LINES + 2:
                raise _Refusal(
                    "head_too_large",
                    f"the HTTP head has more than {MAX_HEADER_LINES} lines of headers",
                    http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                )
            return bytes(self._bytes[: end.end()]), bytes(self._bytes[end.end() :])
        if len(self._bytes) >= self._max_bytes:
            raise _Refusal(
                "head_too_large",
                f"the HTTP head does not end within {self._max_bytes} bytes",
                http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            )
        return None


class ServerHandshake:
    """Reads one opening request and answers it."""

    __slots__ = ("_allowed_origins", "_head", "_path", "_subprotocols")

    def __init__(
        self,
        *,
        path: str,
        allowed_origins: Iterable[str],
        subprotocols: Sequence[str],
        max_handshake_bytes: int,
    ) -> None:
        self._path = path
        self._allowed_origins = allowed_origins
        self._subprotocols = subprotocols
        self._head = _Head(max_handshake_bytes)

    def receive(self, data: bytes) -> Verdict | None:
        """The verdict, or None while the request is incomplete. Never raises, whatever the bytes are."""
        is_head_request = False
        try:
            head = self._head.collect(data)
            if head and not 0x21 <= head[0] <= 0x7E:
                # A TLS greeting, for one, has no empty line that would end the wait for the rest of it.
                raise _Refusal("bad_request", "the request does not begin with an HTTP request line")
            parts = self._head.split(len(data))
            if parts is None:
                return None
            is_head_request = parts[0].startswith(b"HEAD ")
            request = _parse_request(parts[0])
            token, subprotocol = self._judge(request)
        except Exception as error:
            # Hostile headers make h11 and the decoders above it raise more than they document (ValueError,
            # UnicodeDecodeError, LocalProtocolError); all of them mean a bad request. Their texts depend on
            # library versions and stay out of the reason.
            refusal = (
                error
                if isinstance(error, _Refusal)
                else _Refusal("bad_request", "the request is not a valid HTTP/1.1 opening request")
            )
            return Verdict(
                event=HandshakeFailed(code=refusal.code, reason=refusal.reason),
                answer=_encode_refusal(refusal, with_body=not is_head_request),
            )
        return Verdict(
            event=Opened(subprotocol=subprotocol),
            answer=_encode_acceptance(token, subprotocol),
            trailing=parts[1],
        )

    def receive_eof(self) -> Verdict:
        """The verdict on a connection that ended before its request did."""
        return Verdict(
            event=HandshakeFailed(
                code="connection_lost", reason="the connection ended before the opening request was complete"
            )
        )

    def _judge(self, request: h11.Request) -> tuple[bytes, str | None]:
        """The accept token and the subprotocol for a request that passes section 4.2.1; raises a refusal."""
        headers = _group_headers(request.headers)
        if _path_of(request.target) != self._path:
            raise _Refusal("not_found", "there is no WebSocket endpoint at this path", http.HTTPStatus.NOT_FOUND)
        if request.method != b"GET":
            raise _Refusal(
                "method_not_allowed",
                "a WebSocket is opened with GET",
                http.HTTPStatus.METHOD_NOT_ALLOWED,
                [("Allow", "GET")],
            )
        if b"websocket" not in _tokens(headers, b"upgrade") or b"upgrade" not in _tokens(headers, b"connection"):
            raise _Refusal(
                "upgrade_required",
                "a WebSocket endpoint: the request must carry Upgrade: websocket and Connection: Upgrade",
                http.HTTPStatus.UPGRADE_REQUIRED,
            )
        if request.http_version != b"1.1":
            raise _Refusal("bad_request", "a WebSocket is opened with HTTP/1.1")
        if b"transfer-encoding" in headers or headers.get(b"content-length", [b"0"]) != [b"0"]:
            # Its bytes would be taken for frames.
            raise _Refusal("bad_request", "an opening request has no body")
        self._judge_version(headers)
        key = _single(headers, b"sec-websocket-key", "bad_request")
        if len(base64.b64decode(key, validate=True)) != _NONCE_BYTES:
            raise _Refusal("bad_request", f"Sec-WebSocket-Key does not hold {_NONCE_BYTES} bytes")
        self._judge_origin(headers)
        return generate_accept_token(key), self._choose_subprotocol(headers)

    def _judge_version(self, headers: dict[bytes, list[bytes]]) -> None:
        """Version 13 is the only one; another is told so (section 4.4)."""
        if _single(headers, b"sec-websocket-version", "bad_version") != _WEBSOCKET_VERSION:
            raise _Refusal(
                "bad_version", "the only WebSocket version known here is 13", http.HTTPStatus.UPGRADE_REQUIRED
            )

    def _judge_origin(self, headers: dict[bytes, list[bytes]]) -> None:
        """A browser's request passes if its origin is listed; a request without Origin is not a browser's."""
        if b"origin" not in headers or "*" in self._allowed_origins:
            return
        origin = _single(headers, b"origin", "origin_refused").decode("latin-1")
        if origin.lower() not in {allowed.lower() for allowed in self._allowed_origins}:
            raise _Refusal(
                "origin_refused",
                f"the origin {_quote(origin)} is not allowed here",
                http.HTTPStatus.FORBIDDEN,
            )

    def _choose_subprotocol(self, headers: dict[bytes, list[bytes]]) -> str | None:
        """The first that is known here of the client's offers, which it lists by preference (section 4.1)."""
        if not self._subprotocols:
            return None
        # Subprotocol names are compared as they are, unlike the tokens of other headers.
        values = headers.get(b"sec-websocket-protocol", ())
        offers = [offer.strip() for value in values for offer in value.split(b",")]
        for offer in offers:
            name = offer.decode("latin-1")
            if name in self._subprotocols:
                return name
        raise _Refusal(
            "no_common_subprotocol",
            f"none of the offered subprotocols is known here; supported: {', '.join(self._subprotocols)}",
        )


class ClientHandshake:
    """Holds one opening request and reads the answer to it.

    Raises:
        InvalidArgument: The host, the target or an extra header cannot stand in an HTTP request.
    """

    __slots__ = (
        "_accept_token",
        "_body",
        "_body_budget",
        "_h11",
        "_head",
        "_response",
        "_subprotocols",
        "request",
    )

    def __init__(
        self,
        *,
        host: str,
        target: str,
        subprotocols: Sequence[str],
        entropy: Callable[[int], bytes],
        extra_headers: Iterable[tuple[str, str]],
        max_handshake_bytes: int,
    ) -> None:
        nonce = base64.b64encode(entropy(_NONCE_BYTES))
        self._accept_token = generate_accept_token(nonce)
        self._subprotocols = subprotocols
        self._head = _Head(max_handshake_bytes)
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=max_handshake_bytes)
        self._response: h11.Response | None = None
        self._body = bytearray()
        self._body_budget = max_handshake_bytes
        headers = [
            ("Host", host),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", nonce.decode()),
            ("Sec-WebSocket-Version", _WEBSOCKET_VERSION.decode()),
        ]
        if subprotocols:
            headers.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
        headers.extend(extra_headers)
        try:
            opening = h11.Request(method="GET", target=target, headers=headers)
            self.request = self._h11.send(opening)
            self._h11.send(h11.EndOfMessage())
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            raise InvalidArgument(
                f"host {host!r}, target {target!r} or a header cannot stand in a request: {error}"
            ) from error

    def receive(self, data: bytes) -> Verdict | None:
        """The verdict, or None while the answer is incomplete. Never raises, whatever the bytes are."""
        if self._response is not None:
            return self._receive_body(data)
        try:
            if not _begins_like(self._head.collect(data), _STATUS_LINE_START):
                raise _Refusal("not_http", "the server's first bytes are not an HTTP/1.1 status line")
            parts = self._head.split(len(data))
            if parts is None:
                return None
            head, rest = parts
            self._h11.receive_data(head)
            response = self._h11.next_event()
            if isinstance(response, h11.Response):
                self._response = response
                return self._receive_body(rest)
            assert isinstance(response, h11.InformationalResponse), response
            return Verdict(event=Opened(subprotocol=self._judge(response)), trailing=rest)
        except _Refusal as refusal:
            return Verdict(event=HandshakeFailed(code=refusal.code, reason=refusal.reason))
        except Exception:
            # As in ServerHandshake.receive: hostile headers raise more than is documented.
            return Verdict(
                event=HandshakeFailed(code="not_http", reason="the server's answer is not a valid HTTP/1.1 response")
            )

    def receive_eof(self) -> Verdict:
        """The verdict on a connection that ended inside the answer: a body may be cut, a head may not."""
        if self._response is not None:
            return self._reject(self._response)
        return Verdict(
            event=HandshakeFailed(
                code="connection_lost", reason="the connection ended before the server's answer was complete"
            )
        )

    def _judge(self, response: h11.InformationalResponse) -> str | None:
        """The subprotocol of an answer that passes section 4.1; raises a refusal."""
        if response.status_code != 101:
            raise _Refusal("bad_upgrade", f"the server answered with an interim status {response.status_code}")
        headers = _group_headers(response.headers)
        if response.http_version != b"1.1":
            raise _Refusal("bad_upgrade", "the server's 101 is not HTTP/1.1")
        if _tokens(headers, b"upgrade") != [b"websocket"] or b"upgrade" not in _tokens(headers, b"connection"):
            raise _Refusal("bad_upgrade", "the server's 101 lacks Upgrade: websocket or Connection: Upgrade")
        if headers.get(b"sec-websocket-accept") != [self._accept_token]:
            raise _Refusal("bad_accept", "the server's Sec-WebSocket-Accept does not fit the key that was sent")
        if any(value.strip() for value in headers.get(b"sec-websocket-extensions", ())):
            raise _Refusal("bad_extension", "the server chose an extension, and none was offered")
        return self._judge_subprotocol(headers.get(b"sec-websocket-protocol", []))

    def _judge_subprotocol(self, chosen: Sequence[bytes]) -> str | None:
        """Exactly one of the offered subprotocols, or none where none was offered."""
        names = [name.decode("latin-1") for name in chosen]
        if not names and not self._subprotocols:
            return None
        if len(names) == 1 and names[0] in self._subprotocols:
            return names[0]
        answer = _quote(", ".join(names)) if names else "none"
        offered = ", ".join(self._subprotocols) or "none"
        raise _Refusal("bad_subprotocol", f"the server chose the subprotocol {answer}; offered: {offered}")

    def _receive_body(self, data: bytes) -> Verdict | None:
        """The verdict once the body of a rejection has ended, or as much of it as is kept is there."""
        assert self._response is not None
        if data:
            self._h11.receive_data(data[: self._body_budget])
            self._body_budget -= len(data)
        try:
            while len(self._body) < MAX_BODY_SNIPPET_BYTES:
                event = self._h11.next_event()
                if isinstance(event, h11.Data):
                    self._body += event.data
                elif event is h11.NEED_DATA and self._body_budget > 0:
                    return None
                else:
                    break
        except Exception:
            # A malformed body does not take the status away from the caller.
            pass
        return self._reject(self._response)

    def _reject(self, response: h11.Response) -> Verdict:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
        phrase = response.reason.decode("latin-1")[:_MAX_QUOTED_CHARACTERS]
        return Verdict(
            event=Rejected(
                status_code=response.status_code,
                headers=tuple(headers),
                body=bytes(self._body[:MAX_BODY_SNIPPET_BYTES]),
                reason=f"the server answered HTTP {response.status_code} {phrase}".rstrip(),
            )
        )


def _parse_request(head: bytes) -> h11.Request:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head))
    connection.receive_data(head)
    request = connection.next_event()
    assert isinstance(request, h11.Request), request
    return request


def _path_of(target: bytes) -> str:
    """The path of a request target, which may be a whole URI (section 4.2.1, item 1), without its query."""
    text = target.decode("ascii")
    if text.startswith("/"):
        return text.partition("?")[0]
    whole = _ABSOLUTE_TARGET.fullmatch(text)
    if whole is None:
        raise _Refusal("bad_request", "the request target is neither a path nor an http or ws URI")
    return whole["path"] or "/"


def _group_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    grouped: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        grouped.setdefault(bytes(name), []).append(bytes(value))
    return grouped


def _tokens(headers: dict[bytes, list[bytes]], name: bytes) -> list[bytes]:
    """The members of a comma-separated header, in lower case."""
    return [token.strip().lower() for value in headers.get(name, ()) for token in value.split(b",")]


def _single(headers: dict[bytes, list[bytes]], name: bytes, code: HandshakeCode) -> bytes:
    values = headers.get(name, [])
    if len(values) != 1:
        raise _Refusal(code, f"the request carries {len(values)} {name.decode()} headers; it must carry one")
    return values[0]


def _begins_like(data: bytearray, start: bytes) -> bool:
    """Whether ``data``, of which more may come, can still turn out to begin with ``start``."""
    return data.startswith(start[: len(data)])


def _quote(text: str) -> str:
    return repr(text[:_MAX_QUOTED_CHARACTERS])


def _encode_acceptance(token: bytes, subprotocol: str | None) -> bytes:
    chosen = f"\r\nSec-WebSocket-Protocol: {subprotocol}".encode() if subprotocol is not None else b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade"
        b"\r\nSec-WebSocket-Accept: " + token + chosen + b"\r\n\r\n"
    )


def _encode_refusal(refusal: _Refusal, *, with_body: bool) -> bytes:
    """A whole response, the last of its connection; 426 tells what to upgrade to (RFC 9110, 15.5.22)."""
    body = (refusal.reason + "\n").encode("ascii", "backslashreplace")
    connection = "close"
    lines = [f"HTTP/1.1 {refusal.status.value} {refusal.status.phrase}"]
    lines.extend(f"{name}: {value}" for name, value in refusal.headers)
    if refusal.status is http.HTTPStatus.UPGRADE_REQUIRED:
        connection = "close, Upgrade"
        lines.append("Upgrade: websocket")
        lines.append(f"Sec-WebSocket-Version: {_WEBSOCKET_VERSION.decode()}")
    lines.append("Content-Type: text/plain; charset=utf-8")
    lines.append(f"Content-Length: {len(body)}")
    lines.append(f"Connection: {connection}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
    return head + body if with_body else head
