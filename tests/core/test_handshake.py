"""The opening handshake of both roles (RFC 6455, section 4): every answer, however the bytes come."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterable

import pytest
from wsproto import WSConnection
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, Request

from rtm_sansio._handshake import (
    MAX_BODY_SNIPPET_BYTES,
    ClientHandshake,
    HandshakeFailed,
    Opened,
    Rejected,
    ServerHandshake,
    Verdict,
)
from rtm_sansio.errors import InvalidArgument

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # The example of section 1.3.
NONCE = base64.b64decode(KEY)
SUBPROTOCOLS = ("rtm.v1.msgpack", "rtm.v1.json")

Deliver = Callable[[ServerHandshake | ClientHandshake, bytes], tuple[Verdict | None, bytes]]


def whole(handshake: ServerHandshake | ClientHandshake, data: bytes) -> tuple[Verdict | None, bytes]:
    """One read; what came behind the head is in the verdict."""
    verdict = handshake.receive(data)
    return verdict, b"" if verdict is None else verdict.trailing


def byte_by_byte(handshake: ServerHandshake | ClientHandshake, data: bytes) -> tuple[Verdict | None, bytes]:
    """One read for each byte; what comes behind the verdict was not read."""
    for position in range(len(data)):
        verdict = handshake.receive(data[position : position + 1])
        if verdict is not None:
            assert not verdict.trailing
            return verdict, data[position + 1 :]
    return None, b""


def in_sevens(handshake: ServerHandshake | ClientHandshake, data: bytes) -> tuple[Verdict | None, bytes]:
    """Reads of seven bytes, the last of which may reach beyond the head."""
    for position in range(0, len(data), 7):
        verdict = handshake.receive(data[position : position + 7])
        if verdict is not None:
            return verdict, verdict.trailing + data[position + 7 :]
    return None, b""


@pytest.fixture(params=[whole, byte_by_byte, in_sevens], ids=lambda deliver: deliver.__name__)
def deliver(request: pytest.FixtureRequest) -> Deliver:
    delivery: Deliver = request.param
    return delivery


# --- server -------------------------------------------------------------------------------------------------


def opening_request(
    *,
    line: str = "GET / HTTP/1.1",
    without: Iterable[str] = (),
    more: Iterable[str] = (),
    **changed: str,
) -> bytes:
    """An opening request that is accepted, but for what is changed; names are written with underscores."""
    headers = {
        "host": "127.0.0.1:8765",
        "upgrade": "websocket",
        "connection": "keep-alive, Upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
        "sec-websocket-protocol": "rtm.v1.msgpack",
    }
    headers.update({name.replace("_", "-"): value for name, value in changed.items()})
    lines = [line, *(f"{name}: {value}" for name, value in headers.items() if name not in without), *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def new_server(
    *,
    path: str = "/",
    allowed_origins: tuple[str, ...] = (),
    subprotocols: tuple[str, ...] = SUBPROTOCOLS,
    max_handshake_bytes: int = 16_384,
) -> ServerHandshake:
    return ServerHandshake(
        path=path,
        allowed_origins=allowed_origins,
        subprotocols=subprotocols,
        max_handshake_bytes=max_handshake_bytes,
    )


def assert_refused(verdict: Verdict | None, code: str, status: int) -> tuple[dict[str, str], str]:
    """The headers (in lower case) and the body of a refusal, which closes and states its length."""
    assert verdict is not None
    assert isinstance(verdict.event, HandshakeFailed)
    assert verdict.event.code == code
    assert verdict.event.reason
    head, _, body = verdict.answer.decode("ascii").partition("\r\n\r\n")
    status_line, *lines = head.split("\r\n")
    assert status_line.startswith(f"HTTP/1.1 {status} ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert headers["connection"].split(", ")[0] == "close"
    assert headers["content-type"].startswith("text/plain")
    if body:
        assert int(headers["content-length"]) == len(body)
    return headers, body


def test_server_accepts(deliver: Deliver) -> None:
    """Section 4.2.2: the example's accept token; bytes behind the request go to the frame layer (F-08)."""
    frame = b"\x82\x80abcd"
    verdict, rest = deliver(new_server(), opening_request() + frame)
    assert verdict is not None
    assert verdict.event == Opened(subprotocol="rtm.v1.msgpack")
    assert verdict.answer == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\nSec-WebSocket-Protocol: rtm.v1.msgpack\r\n\r\n"
    )
    assert rest == frame


def test_server_answer_satisfies_wsproto() -> None:
    """A stranger's client takes the answer (section 4.1), compression offered or not."""
    stranger = WSConnection(ConnectionType.CLIENT)
    request = stranger.send(Request(host="localhost", target="/?v=1", subprotocols=["x", "rtm.v1.json"]))
    verdict = new_server().receive(request)
    assert verdict is not None
    stranger.receive_data(verdict.answer)
    [accepted] = stranger.events()
    assert isinstance(accepted, AcceptConnection)
    assert accepted.subprotocol == "rtm.v1.json"


@pytest.mark.parametrize(
    "request_bytes",
    [
        opening_request(line="GET /?token=1&x=/y HTTP/1.1"),
        opening_request(line="GET http://example.org/ HTTP/1.1"),
        opening_request(line="GET http://example.org?x HTTP/1.1"),
        opening_request(line="GET HTTPS://example.org?x=/y HTTP/1.1"),
        opening_request(line="GET ws://example.org:80/?x HTTP/1.1"),
        opening_request(line="GET wss://[::1] HTTP/1.1"),
        opening_request(upgrade="WebSocket", connection="upgrade"),
        opening_request(upgrade="h2c, websocket"),
        opening_request(sec_websocket_extensions="permessage-deflate; client_max_window_bits"),
        opening_request(content_length="0"),
        opening_request(sec_websocket_protocol="chat", more=["Sec-WebSocket-Protocol: x, rtm.v1.msgpack"]),
        opening_request(more=["Cookie: \xe9\x01"]),
        opening_request().replace(b"\r\n", b"\n"),
    ],
)
def test_server_accepts_variants(request_bytes: bytes) -> None:
    """Section 4.2.1: what may vary, varies; an offered extension is never chosen."""
    verdict = new_server().receive(request_bytes)
    assert verdict is not None
    assert verdict.event == Opened(subprotocol="rtm.v1.msgpack")
    assert b"xtension" not in verdict.answer


def test_server_chooses_the_clients_first_known_subprotocol() -> None:
    """Section 4.1: the client lists its offers by preference."""
    verdict = new_server().receive(opening_request(sec_websocket_protocol="y, rtm.v1.json ,rtm.v1.msgpack"))
    assert verdict is not None
    assert verdict.event == Opened(subprotocol="rtm.v1.json")


@pytest.mark.parametrize("without", [(), ("sec-websocket-protocol",)])
def test_server_without_subprotocols_accepts_any_request(without: tuple[str, ...]) -> None:
    """No subprotocols to choose from: none is asked for and none is chosen."""
    verdict = new_server(subprotocols=()).receive(opening_request(without=without))
    assert verdict is not None
    assert verdict.event == Opened(subprotocol=None)
    assert b"Protocol:" not in verdict.answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        opening_request(sec_websocket_protocol="rtm.v2.msgpack, RTM.V1.MSGPACK"),
        opening_request(sec_websocket_protocol="\xff\xfe"),
        opening_request(without=["sec-websocket-protocol"]),
    ],
)
def test_server_names_the_subprotocols_it_knows(deliver: Deliver, request_bytes: bytes) -> None:
    """A client of another version learns what would work (F-62)."""
    verdict, _ = deliver(new_server(), request_bytes)
    _, body = assert_refused(verdict, "no_common_subprotocol", 400)
    assert "rtm.v1.msgpack, rtm.v1.json" in body


@pytest.mark.parametrize(
    ("allowed", "origin", "passes"),
    [
        ((), None, True),
        ((), "https://example.org", False),
        (("https://example.org",), None, True),
        (("https://Example.org",), "https://example.org", True),
        (("https://example.org",), "https://example.com", False),
        (("https://example.org",), "null", False),
        (("*",), "https://example.com", True),
        (("*",), "null", True),
    ],
)
def test_server_judges_the_origin(allowed: tuple[str, ...], origin: str | None, passes: bool) -> None:
    """Section 10.2: a page of another site cannot connect; what is no browser passes."""
    more = [] if origin is None else [f"Origin: {origin}"]
    verdict = new_server(allowed_origins=allowed).receive(opening_request(more=more))
    assert verdict is not None
    if passes:
        assert isinstance(verdict.event, Opened)
    else:
        _, body = assert_refused(verdict, "origin_refused", 403)
        assert str(origin) in body


def test_server_quotes_a_hostile_origin_safely() -> None:
    """The body is plain ASCII whatever the header held, and not longer than it needs to be."""
    origin = "\xe9" * 5000
    verdict = new_server().receive(opening_request(more=[f"Origin: {origin}"]))
    _, body = assert_refused(verdict, "origin_refused", 403)
    assert len(body) < 1000


@pytest.mark.parametrize(
    "target", ["/other", "/rtm/", "/RTM", "//rtm", "http://host/", "http://host?/rtm", "ws://host"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_server_knows_one_path(target: str, method: str) -> None:
    """A plain request or an opening request to another path gets 404 (section 4.2.2, item 4)."""
    verdict = new_server(path="/rtm").receive(opening_request(line=f"{method} {target} HTTP/1.1"))
    assert_refused(verdict, "not_found", 404)


@pytest.mark.parametrize(
    "target",
    [
        *("foo", "*", "?q", "#f", "evil.com:443", "javascript:x", "javascript://x/", "://x/", "http:/", "http:///"),
        *("http://", "https://?q", "ftp://x/", "http://x/#f", "x http://y/"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_server_knows_two_forms_of_a_target(target: str, method: str) -> None:
    """Section 4.2.1, item 1: a path, or a whole http(s) or ws(s) URI; what is neither has no path that could fit."""
    verdict = new_server().receive(opening_request(line=f"{method} {target} HTTP/1.1"))
    assert_refused(verdict, "bad_request", 400)


def test_server_tells_plain_http_to_upgrade(deliver: Deliver) -> None:
    """A browser's address bar, a health check: 426 with the protocol to upgrade to (RFC 9110, 15.5.22)."""
    verdict, _ = deliver(new_server(), b"GET /?x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    headers, body = assert_refused(verdict, "upgrade_required", 426)
    assert headers["upgrade"] == "websocket"
    assert headers["connection"] == "close, Upgrade"
    assert "WebSocket" in body


@pytest.mark.parametrize(
    ("request_bytes", "code", "status"),
    [
        (opening_request(upgrade="h2c"), "upgrade_required", 426),
        (opening_request(connection="close"), "upgrade_required", 426),
        (b"GET / HTTP/1.0\r\n\r\n", "upgrade_required", 426),
        (opening_request(line="POST / HTTP/1.1"), "method_not_allowed", 405),
        (opening_request(line="GET / HTTP/1.0"), "bad_request", 400),
        (opening_request(content_length="5"), "bad_request", 400),
        (opening_request(transfer_encoding="chunked"), "bad_request", 400),
        (opening_request(sec_websocket_version="8"), "bad_version", 426),
        (opening_request(without=["sec-websocket-version"]), "bad_version", 400),
        (opening_request(more=["Sec-WebSocket-Version: 13"]), "bad_version", 400),
        (opening_request(without=["sec-websocket-key"]), "bad_request", 400),
        (opening_request(more=[f"Sec-WebSocket-Key: {KEY}"]), "bad_request", 400),
        (opening_request(sec_websocket_key="c2hvcnQ="), "bad_request", 400),
        (opening_request(sec_websocket_key="not base 64"), "bad_request", 400),
        (opening_request(sec_websocket_key="\xe9" * 24), "bad_request", 400),
        (opening_request(more=["Origin: a", "Origin: b"]), "origin_refused", 400),
        # What h11 refuses.
        (opening_request(without=["host"]), "bad_request", 400),
        (opening_request(more=["Host: twice"]), "bad_request", 400),
        (opening_request(content_length="x"), "bad_request", 400),
        (opening_request(more=["bad header"]), "bad_request", 400),
        (opening_request(more=["nul: \0"]), "bad_request", 400),
        (opening_request(line="GET /\xe9 HTTP/1.1"), "bad_request", 400),
        (opening_request(line="GET / HTTP/2"), "bad_request", 400),
        (b"hello\r\n\r\n", "bad_request", 400),
        (b"a\n\n", "bad_request", 400),
        # Refused at the first byte: no empty line need ever come.
        (b"\x16\x03\x01", "bad_request", 400),
        (b"\r\n", "bad_request", 400),
        (b"\xff", "bad_request", 400),
    ],
)
def test_server_refuses(deliver: Deliver, request_bytes: bytes, code: str, status: int) -> None:
    """S50: each way in which a request breaks section 4.2.1 has its answer, whole or in pieces (F-08)."""
    verdict, _ = deliver(new_server(), request_bytes + b"behind it")
    assert_refused(verdict, code, status)


def test_refusal_of_a_method_names_the_right_one() -> None:
    """RFC 9110, section 15.5.6; and the answer to HEAD has no body (section 9.3.2)."""
    headers, body = assert_refused(
        new_server().receive(opening_request(line="HEAD / HTTP/1.1")), "method_not_allowed", 405
    )
    assert headers["allow"] == "GET"
    assert not body
    assert int(headers["content-length"])


@pytest.mark.parametrize("filler", [b"x" * 100_000, b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000])
def test_server_bounds_the_head(deliver: Deliver, filler: bytes) -> None:
    """A head without end is refused at the limit (S50), and so is one that comes in one read (F-08)."""
    handshake = new_server(max_handshake_bytes=1000)
    verdict, _ = deliver(handshake, filler[:2000])
    assert_refused(verdict, "head_too_large", 431)
    verdict = new_server(max_handshake_bytes=1000).receive(filler + b"\r\n\r\n")
    assert_refused(verdict, "head_too_large", 431)


@pytest.mark.parametrize(("end", "name"), [("\r\n", "a:"), ("\n", "a: b"), ("\r\n", "a: b\r\n c")])
def test_server_bounds_the_lines_of_a_head(deliver: Deliver, end: str, name: str) -> None:
    """S50: 100 of them and no more, which costs nothing to see; folded lines count."""
    plain = opening_request().count(b"\r\n") - 2
    folded = name.count("\r\n") + 1
    room = (100 - plain) // folded
    for lines, passes in ((room, True), (room + 1, False), (3000, False)):
        request = opening_request(more=[name] * lines).replace(b"\r\n", end.encode())
        verdict, _ = deliver(new_server(max_handshake_bytes=100_000), request)
        if passes:
            assert verdict is not None
            assert isinstance(verdict.event, Opened)
        else:
            assert_refused(verdict, "head_too_large", 431)


def test_the_limit_counts_the_head_exactly(deliver: Deliver) -> None:
    """A head of just the limit passes, frames behind it notwithstanding; one byte less is too little."""
    request = opening_request()
    verdict, _ = deliver(new_server(max_handshake_bytes=len(request)), request + bytes(5000))
    assert verdict is not None
    assert isinstance(verdict.event, Opened)
    verdict, _ = deliver(new_server(max_handshake_bytes=len(request) - 1), request)
    assert_refused(verdict, "head_too_large", 431)


def test_server_at_the_end_of_the_stream() -> None:
    """A connection that ends within its request is reported, with nothing to answer."""
    handshake = new_server()
    assert handshake.receive(b"GET / HT") is None
    assert handshake.receive_eof() == Verdict(
        event=HandshakeFailed(
            code="connection_lost", reason="the connection ended before the opening request was complete"
        )
    )


def test_nothing_that_is_sent_makes_the_server_raise() -> None:
    """S50: random damage to a request yields a verdict or a wait, the same for any cutting (F-08)."""
    source = random.Random(1)
    original = opening_request(more=["Origin: https://example.org", "Sec-WebSocket-Extensions: a"])
    for _ in range(500):
        damaged = bytearray(original)
        for _ in range(source.randint(1, 4)):
            position = source.randrange(len(damaged))
            damaged[position : position + source.randint(0, 3)] = source.randbytes(source.randint(0, 3))
        verdict, rest = whole(new_server(allowed_origins=("*",)), bytes(damaged))
        again, rest_again = in_sevens(new_server(allowed_origins=("*",)), bytes(damaged))
        assert (verdict and (verdict.event, verdict.answer)) == (again and (again.event, again.answer))
        if verdict is not None and isinstance(verdict.event, Opened):
            assert rest == rest_again


# --- client -------------------------------------------------------------------------------------------------


def new_client(
    *,
    host: str = "example.org",
    target: str = "/chat?x=1",
    subprotocols: tuple[str, ...] = SUBPROTOCOLS,
    extra_headers: Iterable[tuple[str, str]] = (),
    max_handshake_bytes: int = 16_384,
) -> ClientHandshake:
    return ClientHandshake(
        host=host,
        target=target,
        subprotocols=subprotocols,
        entropy=lambda count: NONCE[:count],
        extra_headers=extra_headers,
        max_handshake_bytes=max_handshake_bytes,
    )


def answer(
    *,
    line: str = "HTTP/1.1 101 Switching Protocols",
    without: Iterable[str] = (),
    more: Iterable[str] = (),
    **changed: str,
) -> bytes:
    """An answer that opens the connection, but for what is changed."""
    headers = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": ACCEPT,
        "sec-websocket-protocol": "rtm.v1.msgpack",
    }
    headers.update({name.replace("_", "-"): value for name, value in changed.items()})
    lines = [line, *(f"{name}: {value}" for name, value in headers.items() if name not in without), *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def test_request_bytes() -> None:
    """Section 4.1, item by item; the nonce is the given entropy and nothing else is drawn."""
    handshake = new_client(extra_headers=[("Authorization", "Bearer x")])
    assert handshake.request == (
        b"GET /chat?x=1 HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: " + KEY.encode() + b"\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: rtm.v1.msgpack, rtm.v1.json\r\nAuthorization: Bearer x\r\n\r\n"
    )
    assert b"Protocol" not in new_client(subprotocols=()).request


def test_wsproto_accepts_the_request() -> None:
    """A stranger's server takes the request, and its answer is taken."""
    handshake = new_client()
    stranger = WSConnection(ConnectionType.SERVER)
    stranger.receive_data(handshake.request)
    [request] = stranger.events()
    assert isinstance(request, Request)
    assert request.subprotocols == list(SUBPROTOCOLS)
    verdict = handshake.receive(stranger.send(AcceptConnection(subprotocol="rtm.v1.json")))
    assert verdict is not None
    assert verdict.event == Opened(subprotocol="rtm.v1.json")


@pytest.mark.parametrize(
    "arguments",
    [
        {"host": "a\r\nb: c"},
        {"host": "b\xfccher"},
        {"target": "/ /"},
        {"target": "/\xe9"},
        {"extra_headers": [("Host", "again")]},
        {"extra_headers": [("a b", "c")]},
        {"extra_headers": [("a", "b\r\nc: d")]},
    ],
)
def test_what_cannot_stand_in_a_request_raises(arguments: dict[str, str]) -> None:
    """The caller's mistake is the caller's, before a byte is sent."""
    with pytest.raises(InvalidArgument):
        new_client(**arguments)  # type: ignore[arg-type]


def test_client_opens(deliver: Deliver) -> None:
    """Section 4.1: the example's accept token; bytes behind the answer go on to the frame layer (F-08)."""
    frame = b"\x82\x01x"
    verdict, rest = deliver(new_client(), answer() + frame)
    assert verdict is not None
    assert verdict.event == Opened(subprotocol="rtm.v1.msgpack")
    assert not verdict.answer
    assert rest == frame


@pytest.mark.parametrize(
    "answer_bytes",
    [
        answer(upgrade="WebSocket", connection="keep-alive, upgrade"),
        answer(sec_websocket_extensions=""),
        answer(line="HTTP/1.1 101"),
        answer(more=["Set-Cookie: \xe9"]),
    ],
)
def test_client_opens_variants(answer_bytes: bytes) -> None:
    """What may vary in a 101, varies."""
    verdict = new_client().receive(answer_bytes)
    assert verdict is not None
    assert verdict.event == Opened(subprotocol="rtm.v1.msgpack")


def test_client_bounds_the_lines_of_a_head(deliver: Deliver) -> None:
    """S50: 100 of them and no more."""
    plain = answer().count(b"\r\n") - 2
    verdict, _ = deliver(new_client(), answer(more=["a:"] * (100 - plain)))
    assert verdict is not None
    assert isinstance(verdict.event, Opened)
    for head in (answer(more=["a:"] * (101 - plain)), answer(line="HTTP/1.1 404 No", more=["a:"] * 3900)):
        verdict, _ = deliver(new_client(), head)
        assert verdict is not None
        assert isinstance(verdict.event, HandshakeFailed)
        assert verdict.event.code == "head_too_large"


def test_client_without_subprotocols() -> None:
    """None offered, none chosen."""
    verdict = new_client(subprotocols=()).receive(answer(without=["sec-websocket-protocol"]))
    assert verdict is not None
    assert verdict.event == Opened(subprotocol=None)


@pytest.mark.parametrize(
    ("answer_bytes", "code"),
    [
        (answer(without=["sec-websocket-accept"]), "bad_accept"),
        (answer(sec_websocket_accept="x" * 28), "bad_accept"),
        (answer(more=[f"Sec-WebSocket-Accept: {ACCEPT}"]), "bad_accept"),
        (answer(without=["upgrade"]), "bad_upgrade"),
        (answer(upgrade="h2c"), "bad_upgrade"),
        (answer(connection="close"), "bad_upgrade"),
        (answer(line="HTTP/1.0 101 Switching Protocols"), "bad_upgrade"),
        (answer(line="HTTP/1.1 100 Continue"), "bad_upgrade"),
        (answer(line="HTTP/1.1 103 Early Hints"), "bad_upgrade"),
        (answer(sec_websocket_extensions="permessage-deflate"), "bad_extension"),
        (answer(sec_websocket_protocol="rtm.v2.msgpack"), "bad_subprotocol"),
        (answer(sec_websocket_protocol="\xff"), "bad_subprotocol"),
        (answer(more=["Sec-WebSocket-Protocol: rtm.v1.json"]), "bad_subprotocol"),
        (answer(without=["sec-websocket-protocol"]), "bad_subprotocol"),
        (answer(line="HTTP/1.1 099 ?"), "not_http"),
        (answer(line="HTTP/1.1 1000 ?"), "not_http"),
        (answer(more=["bad header"]), "not_http"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "not_http"),
        (b"HTTP/2 200\r\n\r\n", "not_http"),
        (b"SSH-2.0-OpenSSH_9.9", "not_http"),
        (b"\x15\x03\x01", "not_http"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5000, "head_too_large"),
    ],
)
def test_client_refuses(deliver: Deliver, answer_bytes: bytes, code: str) -> None:
    """S50, F-61: a server that is not ours, or behaves unlike one, is reported by a stable code (F-08)."""
    verdict, _ = deliver(new_client(), answer_bytes + b"behind it")
    assert verdict is not None
    assert isinstance(verdict.event, HandshakeFailed)
    assert verdict.event.code == code
    assert not verdict.answer


def test_client_that_offered_no_subprotocol_takes_none() -> None:
    """Section 4.1, item 6: a subprotocol that was not offered fails the connection."""
    verdict = new_client(subprotocols=()).receive(answer())
    assert verdict is not None
    assert verdict.event == HandshakeFailed(
        code="bad_subprotocol", reason="the server chose the subprotocol 'rtm.v1.msgpack'; offered: none"
    )


@pytest.mark.parametrize("status", [200, 204, 301, 401, 403, 404, 426, 429, 500, 503, 999])
def test_client_is_rejected(deliver: Deliver, status: int) -> None:
    """Any other status is told with its headers, in lower case, and the beginning of its body."""
    body = b"" if status == 204 else b"not now"
    response = (
        f"HTTP/1.1 {status} So It Is\r\nRetry-After: 7\r\nLocation: /b\xe9\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode("latin-1")
        + body
    )
    verdict, _ = deliver(new_client(), response + b"behind it")
    assert verdict is not None
    assert verdict.event == Rejected(
        status_code=status,
        headers=(("retry-after", "7"), ("location", "/b\xe9"), ("content-length", str(len(body)))),
        body=body,
        reason=f"the server answered HTTP {status} So It Is",
    )


@pytest.mark.parametrize(
    ("head", "body", "snippet"),
    [
        # The end of the stream ends the body.
        (b"HTTP/1.1 503 X\r\n\r\n", b"later", b"later"),
        (b"HTTP/1.0 503 X\r\n\r\n", b"later", b"later"),
        (b"HTTP/1.1 503 X\r\ncontent-length: 9\r\n\r\n", b"later", b"later"),
        # The body ends by itself, or by a mistake in it.
        (
            b"HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n",
            b"2\r\nla\r\n3\r\nter\r\n0\r\n\r\n",
            b"later",
        ),
        (b"HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n", b"5\r\nlater\r\nwhat\r\n", b"later"),
        # As much as is kept is there.
        (b"HTTP/1.1 503 X\r\n\r\n", b"x" * 50_000, b"x" * MAX_BODY_SNIPPET_BYTES),
        # It never gets anywhere: a chunk header without end.
        (b"HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n", b"1;" + b"x" * 50_000, b""),
    ],
)
def test_body_of_a_rejection(deliver: Deliver, head: bytes, body: bytes, snippet: bytes) -> None:
    """However the body ends, the status arrives, and no more of the body is kept than its first KiB (S50)."""
    handshake = new_client()
    verdict, _ = deliver(handshake, head + body)
    if verdict is None:
        verdict = handshake.receive_eof()
    assert isinstance(verdict.event, Rejected)
    assert verdict.event.status_code == 503
    assert verdict.event.body == snippet


def test_rejection_without_a_phrase() -> None:
    """Some servers leave the phrase out."""
    verdict = new_client().receive(b"HTTP/1.1 503\r\ncontent-length: 0\r\n\r\n")
    assert verdict is not None
    assert isinstance(verdict.event, Rejected)
    assert verdict.event.reason == "the server answered HTTP 503"


def test_client_at_the_end_of_the_stream() -> None:
    """A connection that ends within the head of the answer has no status to tell."""
    handshake = new_client()
    assert handshake.receive(b"") is None
    assert handshake.receive(b"HTTP/1.1 101 S") is None
    verdict = handshake.receive_eof()
    assert isinstance(verdict.event, HandshakeFailed)
    assert verdict.event.code == "connection_lost"


def test_nothing_that_is_sent_makes_the_client_raise() -> None:
    """S50: random damage to an answer yields a verdict or a wait, the same for any cutting (F-08)."""
    source = random.Random(2)
    originals = [
        answer(),
        b"HTTP/1.1 429 X\r\nretry-after: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ]
    for _ in range(500):
        damaged = bytearray(source.choice(originals))
        for _ in range(source.randint(1, 4)):
            position = source.randrange(len(damaged))
            damaged[position : position + source.randint(0, 3)] = source.randbytes(source.randint(0, 3))
        verdict, rest = whole(new_client(), bytes(damaged))
        again, rest_again = in_sevens(new_client(), bytes(damaged))
        assert (verdict and verdict.event) == (again and again.event)
        if verdict is not None and isinstance(verdict.event, Opened):
            assert rest == rest_again
