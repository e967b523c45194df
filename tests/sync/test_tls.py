"""TLS in the threaded driver: certificates good and bad, and the ends of a stream."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import socket
import ssl
import time
from typing import Any

import pytest
import trustme

from rtm_sansio.config import ClientConfig, ServerConfig
from rtm_sync import Client, Server, allow_any_uid
from rtm_sync._tls import TlsFilter
from sync.fakes import (
    PATIENCE_SECONDS,
    FakeAcceptingCore,
    FakeCore,
    accept,
    in_thread,
    listening,
    receive_all,
    receive_exactly,
    resolving,
    running,
    url_of,
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture(scope="module")
def good(authority: trustme.CA) -> ssl.SSLContext:
    return serving(authority.issue_cert("localhost", "127.0.0.1"))


def shake_hands(listener: socket.socket, context: ssl.SSLContext) -> Any:
    """Accept one connection in a thread; returns what waits for the secured socket."""
    return in_thread(lambda: context.wrap_socket(accept(listener), server_side=True))


def test_bytes_both_ways(trusting: ssl.SSLContext, good: ssl.SSLContext) -> None:
    with listening() as listener, running(FakeCore(), tls=trusting) as run:
        secured = shake_hands(listener, good)
        run.open(url_of(listener, "wss"))
        assert run.core.expect("opened") == ("opened", 1)
        blob = os.urandom(3_000_000)
        with secured() as peer:
            run.transmit(b"hello")
            run.transmit(blob)
            assert receive_exactly(peer, 5 + len(blob)) == b"hello" + blob
            in_thread(lambda: peer.sendall(blob))
            assert run.core.expect_data(1, len(blob)) == blob


def test_the_name_of_the_url_is_checked_and_not_the_address(trusting: ssl.SSLContext, authority: trustme.CA) -> None:
    context = serving(authority.issue_cert("chat.test"))
    with (
        listening() as listener,
        running(FakeCore(), tls=trusting, resolver=resolving(listener.getsockname())) as run,
    ):
        secured = shake_hands(listener, context)
        run.open("wss://chat.test/")
        run.core.expect("opened")
        secured().close()


def expired(authority: trustme.CA) -> trustme.LeafCert:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    return authority.issue_cert("127.0.0.1", not_after=past)


@pytest.mark.parametrize(
    ("issue", "reason"),
    [
        (lambda authority: authority.issue_cert("elsewhere.test"), "mismatch"),
        (expired, "expired"),
        (lambda authority: trustme.CA().issue_cert("127.0.0.1"), "unable to get local issuer|self.signed"),
    ],
    ids=["wrong host", "expired", "unknown authority"],
)
def test_a_certificate_that_is_not_trusted(
    trusting: ssl.SSLContext, authority: trustme.CA, issue: Any, reason: str
) -> None:
    """F-17: the failure is told apart from others, and the server hears of it."""
    context = serving(issue(authority))
    with listening() as listener, running(FakeCore(), tls=trusting) as run:
        secured = shake_hands(listener, context)
        run.open(url_of(listener, "wss"))
        kind, transport_id, cause = run.core.expect_end()
        assert (kind, transport_id, cause.code) == ("failed", 1, "certificate_not_trusted")
        assert isinstance(cause.__cause__, ssl.SSLCertVerificationError)
        assert re.search(reason, str(cause))
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            secured().recv(1)


def test_by_default_the_systems_authorities_are_trusted_and_no_others(good: ssl.SSLContext) -> None:
    with listening() as listener, running(FakeCore()) as run:
        secured = shake_hands(listener, good)
        run.open(url_of(listener, "wss"))
        assert run.core.expect_end()[2].code == "certificate_not_trusted"
        with pytest.raises(ssl.SSLError):
            secured().recv(1)


def test_a_server_without_tls(trusting: ssl.SSLContext) -> None:
    with listening() as listener, running(FakeCore(), tls=trusting) as run:
        run.open(url_of(listener, "wss"))
        with accept(listener) as peer:
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            assert run.core.expect_end()[2].code == "tls_failed"


def test_an_end_within_the_handshake_is_a_loss(trusting: ssl.SSLContext) -> None:
    with listening() as listener, running(FakeCore(), tls=trusting) as run:
        run.open(url_of(listener, "wss"))
        with accept(listener) as peer:
            receive_exactly(peer, 1)
            peer.shutdown(socket.SHUT_WR)
            kind, _, cause = run.core.expect_end()
        assert (kind, cause.code) == ("failed", "connection_lost")


def test_a_close_cancels_the_handshake(trusting: ssl.SSLContext) -> None:
    with listening() as listener, running(FakeCore(), tls=trusting) as run:
        run.open(url_of(listener, "wss"))
        with accept(listener) as peer:
            receive_exactly(peer, 1)
            run.close("flush")
            receive_all(peer)
        run.put()
        assert run.core.inputs.empty()


def test_the_peers_close_notify_is_the_end(trusting: ssl.SSLContext, good: ssl.SSLContext) -> None:
    with listening() as listener, running(FakeCore(), tls=trusting) as run:
        secured = shake_hands(listener, good)
        run.open(url_of(listener, "wss"))
        with secured() as peer:
            peer.sendall(b"last words")
            peer.setblocking(False)
            with pytest.raises(ssl.SSLWantReadError):  # our own is not waited for
                peer.unwrap()
            assert run.core.expect_end() == ("lost", 1, None)
            assert run.core.data[1] == b"last words"


def test_an_end_without_close_notify_is_an_end_too(trusting: ssl.SSLContext, good: ssl.SSLContext) -> None:
    """F-05."""
    with listening() as listener, running(FakeCore(), tls=trusting) as run:
        secured = shake_hands(listener, good)
        run.open(url_of(listener, "wss"))
        peer = secured()
        peer.sendall(b"last words")
        peer.close()
        assert run.core.expect_end() == ("lost", 1, None)
        assert run.core.data[1] == b"last words"


def test_a_broken_record_is_a_loss(trusting: ssl.SSLContext, good: ssl.SSLContext) -> None:
    with listening() as listener, running(FakeCore(), tls=trusting) as run:
        secured = shake_hands(listener, good)
        run.open(url_of(listener, "wss"))
        peer = secured()
        run.core.expect("opened")
        with socket.socket(fileno=peer.detach()) as plain:
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            kind, _, cause = run.core.expect_end()
        assert (kind, cause.code) == ("lost", "tls_failed")


def test_a_flush_close_says_goodbye(trusting: ssl.SSLContext, good: ssl.SSLContext) -> None:
    with listening() as listener, running(FakeCore(), tls=trusting) as run:
        secured = shake_hands(listener, good)
        run.open(url_of(listener, "wss"))
        with secured() as peer:
            run.core.expect("opened")
            blob = os.urandom(1_000_000)
            run.transmit(blob)
            run.close("flush")
            # An end without close_notify would raise SSLEOFError here.
            assert receive_all(peer) == blob


def test_a_server_with_tls(trusting: ssl.SSLContext, good: ssl.SSLContext) -> None:
    core = FakeAcceptingCore()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with running(core, listeners=[listener], tls=good) as run:
            run.driver.start()
            plain = socket.create_connection(listener.getsockname(), timeout=PATIENCE_SECONDS)
            with trusting.wrap_socket(plain, server_hostname="localhost") as peer:
                core.expect("accepted")
                peer.sendall(b"hello")
                assert core.expect_data(1, 5) == b"hello"
                blob = os.urandom(1_000_000)
                run.transmit(blob)
                assert core.expect("unsent")[2] <= len(blob)
                assert receive_exactly(peer, len(blob)) == blob


def test_those_who_never_finish_the_handshake_are_bounded(trusting: ssl.SSLContext, good: ssl.SSLContext) -> None:
    """S51, F-65: in number and in time, and then others get in."""
    config = ServerConfig(login_deadline_seconds=1.0, close_linger_seconds=0.1, max_transports=3)

    def read_to_end(peer: socket.socket) -> float:
        try:
            receive_all(peer)
        except ConnectionResetError:
            pass
        return time.monotonic()

    with Server("127.0.0.1", authenticate=allow_any_uid, config=config, ssl=good) as server:
        address = ("127.0.0.1", server.port)
        with contextlib.ExitStack() as stack:
            began = time.monotonic()
            peers: list[socket.socket] = []
            for words in (b"", b"\x16\x03\x01\x02\x00\x01", b""):
                peers.append(stack.enter_context(socket.create_connection(address, timeout=PATIENCE_SECONDS)))
                peers[-1].sendall(words)
            # One has shaken hands, and says nothing more.
            secured = stack.enter_context(trusting.wrap_socket(peers.pop(), server_hostname="localhost"))
            one_too_many = stack.enter_context(socket.create_connection(address, timeout=PATIENCE_SECONDS))
            read_to_end(one_too_many)
            for peer in peers:  # at once, and not after the deadline
                peer.setblocking(False)
                with pytest.raises(BlockingIOError):
                    peer.recv(1)
                peer.settimeout(PATIENCE_SECONDS)
            backoff = ClientConfig(backoff_base_seconds=0.05, backoff_cap_seconds=1.0)
            with Client(f"wss://localhost:{server.port}", ssl=trusting, config=backoff) as client:
                client.login("alice")
                assert min(map(read_to_end, peers)) - began >= 1.0
                assert client.join("lobby").send("hello").offset
                receive_all(secured)


def test_a_client_that_does_not_speak_tls_is_lost(good: ssl.SSLContext) -> None:
    core = FakeAcceptingCore()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with running(core, listeners=[listener], tls=good) as run:
            run.driver.start()
            with socket.create_connection(listener.getsockname(), timeout=PATIENCE_SECONDS) as peer:
                peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
                kind, _, cause = core.expect_end()
                assert (kind, cause.code) == ("lost", "tls_failed")


def test_what_is_sent_before_the_handshake_waits_for_it(trusting: ssl.SSLContext, good: ssl.SSLContext) -> None:
    core = FakeAcceptingCore()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with running(core, listeners=[listener], tls=good) as run:
            run.driver.start()
            plain = socket.create_connection(listener.getsockname(), timeout=PATIENCE_SECONDS)
            core.expect("accepted")
            run.transmit(b"early")
            with trusting.wrap_socket(plain, server_hostname="localhost") as peer:
                assert receive_exactly(peer, 5) == b"early"


def test_an_impossible_host_name_fails_and_nothing_else(trusting: ssl.SSLContext) -> None:
    with running(FakeCore(), tls=trusting) as run:
        run.open(f"wss://{'a' * 70}.test/")
        assert run.core.expect_end()[0] == "failed"
        assert run.driver.started


def pump(one: TlsFilter, other: TlsFilter, *, size: int) -> tuple[bytes, bytes]:
    """Carry bytes between two filters in pieces until both are silent; what each received."""
    got = [b"", b""]
    while True:
        moved = False
        for index, (source, target) in enumerate([(one, other), (other, one)]):
            data = source.take()
            for begin in range(0, len(data), size):
                got[index] += target.receive(data[begin : begin + size])
                moved = True
        if not moved:
            return got[1], got[0]


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_the_filter_with_any_cutting_of_the_stream(trusting: ssl.SSLContext, good: ssl.SSLContext, size: int) -> None:
    """F-08."""
    client = TlsFilter(trusting, server_side=False, server_hostname="localhost")
    server = TlsFilter(good, server_side=True)
    assert pump(client, server, size=size) == (b"", b"")
    assert client.established
    assert server.established
    client.send(b"question" * 5000)
    server.send(b"answer")
    assert pump(client, server, size=size) == (b"answer", b"question" * 5000)
    client.close()
    client.close()
    pump(client, server, size=size)
    assert server.ended
    assert not client.ended
