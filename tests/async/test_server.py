"""``rtm_async.Server``: listening, authenticators, kick, close."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import threading
from typing import Any

import pytest
import trustme

import rtm_async.server
from rtm_async import Client, Identity, LoginDenied, Server, allow_any_uid
from rtm_sansio.codes import Code
from rtm_sansio.config import ClientConfig, ServerConfig
from rtm_sansio.errors import ConfigError, InvalidArgument, InvalidState, LoginFailed, LoginTimeout, SessionEnded
from rtm_sansio.events import LoginRequested
from rtm_sansio.states import ConnectionState

TOKEN = "a.secret.token"


async def log_in(server: Server, token: str | None = TOKEN, **options: Any) -> None:
    async with Client(server.url, **options) as client:
        await client.login("alice", token)


def test_where_it_listens(run: Any) -> None:
    async def scenario() -> None:
        server = Server(authenticate=allow_any_uid, config=ServerConfig(path="/rtm"))
        for attribute in ("url", "port"):
            with pytest.raises(InvalidState, match="start"):
                getattr(server, attribute)
        with pytest.raises(InvalidState):
            server.kick("alice")
        assert "not started" in repr(server)
        async with server:
            assert server.url == f"ws://127.0.0.1:{server.port}/rtm"
            await log_in(server)
            with pytest.raises(InvalidState):
                await server.start()
            other = Server(port=server.port, authenticate=allow_any_uid)
            with pytest.raises(OSError) as caught:
                await other.start()
            assert caught.value.errno == errno.EADDRINUSE
        await server.close()
        with pytest.raises(InvalidState):
            await server.start()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))

    run(scenario())


def test_all_addresses_of_a_name_have_one_port(run: Any) -> None:
    async def scenario() -> None:
        async with Server("localhost", authenticate=allow_any_uid) as server:
            assert server.url == f"ws://localhost:{server.port}"
            await log_in(server)

    run(scenario())


def test_a_socket_of_ones_own(run: Any) -> None:
    async def scenario() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        async with Server(authenticate=allow_any_uid, sock=listener) as server:
            assert server.port == listener.getsockname()[1]
            await log_in(server)
        assert listener.fileno() == -1

    run(scenario())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_everybody_is_let_in_on_loopback_only(run: Any, host: str) -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigError, match="loopback"):
            async with Server(host, authenticate=allow_any_uid):
                pass
        with socket.create_server(("0.0.0.0", 0)) as listener:
            server = Server(authenticate=allow_any_uid, sock=listener)
            with pytest.raises(ConfigError, match="loopback"):
                await server.start()
            await server.close()
        async with Server("0.0.0.0", authenticate=lambda login: True) as server:
            assert server.url == f"ws://127.0.0.1:{server.port}"
            await log_in(server)

    run(scenario())


def test_what_can_never_work() -> None:
    for options in (
        {"authenticate": None},
        {"authenticate": print, "ssl": True},
        {"authenticate": print, "port": 70_000},
    ):
        with pytest.raises(ConfigError):
            Server(**options)  # type: ignore[arg-type]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, pytest.raises(ConfigError):
        Server(authenticate=allow_any_uid, sock=datagrams)


def test_no_delay_is_set(run: Any) -> None:
    """At both ends: a small write must not wait for an answer to the one before it."""

    async def scenario() -> None:
        async with Server(authenticate=allow_any_uid) as server, Client(server.url) as client:
            await client.login("alice")
            for driver in (server._driver, client._driver):
                assert driver is not None
                (link,) = driver._alive
                sock = link.transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(scenario())


def test_tls(run: Any) -> None:
    """F-17"""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def scenario() -> None:
        async with Server("localhost", authenticate=allow_any_uid, ssl=context) as server:
            assert server.url.startswith("wss://localhost:")
            async with Client(server.url, ssl=trusting) as alice, Client(server.url, ssl=trusting) as bob:
                await alice.login("alice")
                await bob.login("bob")
                at_alice, at_bob = await alice.join("lobby"), await bob.join("lobby")
                await at_alice.send(bytes(30_000))
                async for message in at_bob:
                    assert len(message.message) == 30_000
                    break
            with pytest.raises(LoginFailed) as caught:
                await log_in(server)
            assert caught.value.code == "certificate_not_trusted"
            assert isinstance(caught.value.__cause__.__cause__, ssl.SSLError)  # type: ignore[union-attr]

    run(scenario())


def test_those_who_never_finish_the_tls_handshake_are_bounded(run: Any) -> None:
    """S51, F-65: in number and in time, and then others get in."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    config = ServerConfig(login_deadline_seconds=1.0, close_linger_seconds=0.1, max_transports=3)

    async def read_to_end(peer: socket.socket) -> float:
        with contextlib.suppress(ConnectionResetError):
            while await asyncio.get_running_loop().sock_recv(peer, 65536):
                pass
        return asyncio.get_running_loop().time()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with Server("127.0.0.1", authenticate=allow_any_uid, config=config, ssl=context) as server:
            with contextlib.ExitStack() as stack:
                began = loop.time()
                peers: list[socket.socket] = []
                for words in (b"", b"\x16\x03\x01\x02\x00\x01", b""):
                    peer = stack.enter_context(socket.socket())
                    peer.setblocking(False)
                    await loop.sock_connect(peer, ("127.0.0.1", server.port))
                    await loop.sock_sendall(peer, words)
                    peers.append(peer)
                # One has shaken hands, and says nothing more.
                reader, writer = await asyncio.open_connection(
                    sock=peers.pop(), ssl=trusting, server_hostname="localhost"
                )
                one_too_many = stack.enter_context(socket.socket())
                one_too_many.setblocking(False)
                await loop.sock_connect(one_too_many, ("127.0.0.1", server.port))
                refused_at = await read_to_end(one_too_many)
                backoff = ClientConfig(backoff_base_seconds=0.05, backoff_cap_seconds=1.0)
                url = f"wss://localhost:{server.port}"
                async with Client(url, ssl=trusting, config=backoff) as client:
                    await client.login("alice")
                    ends = await asyncio.gather(*map(read_to_end, peers))
                    assert refused_at < began + 1.0 <= min(ends)
                    await (await client.join("lobby")).send("hello")
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                assert reader.at_eof()

    run(scenario())


# --- authenticators


def test_every_kind_of_authenticator(run: Any) -> None:
    threads: list[threading.Thread] = []

    def plain(login: LoginRequested) -> bool:
        threads.append(threading.current_thread())
        return login.token == TOKEN

    async def coroutine(login: LoginRequested) -> Identity:
        await asyncio.sleep(0)
        if login.token != TOKEN:
            raise LoginDenied("no")
        return Identity()

    class Direct:
        blocking = False

        def __call__(self, login: LoginRequested) -> bool:
            threads.append(threading.current_thread())
            return login.token == TOKEN

    class Coroutine:
        async def __call__(self, login: LoginRequested) -> bool:
            return await coroutine(login) is not None

    async def scenario() -> None:
        for authenticate in (plain, Direct(), coroutine, Coroutine(), lambda login: coroutine(login)):
            async with Server(authenticate=authenticate) as server:
                await log_in(server)
                with pytest.raises(LoginFailed) as caught:
                    await log_in(server, "wrong")
                assert caught.value.code == "bad_token"
                assert not server._judging

    run(scenario())
    main = threading.main_thread()
    assert [thread is main for thread in threads] == [False, False, True, True]


@pytest.mark.parametrize("kind", ["coroutine", "plain"])
def test_logins_that_were_given_up_leave_room_for_others(run: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """S51: whoever goes before the verdict takes nobody's place."""
    monkeypatch.setattr(rtm_async.server, "MAX_JUDGED_LOGINS", 1)
    go_on = threading.Event()

    async def scenario() -> None:
        loop, entered = asyncio.get_running_loop(), asyncio.Semaphore(0)

        def plain(login: LoginRequested) -> bool:
            if login.uid == "slow":
                loop.call_soon_threadsafe(entered.release)
                go_on.wait(10.0)
            return True

        async def coroutine(login: LoginRequested) -> bool:
            if login.uid == "slow":
                entered.release()
                await asyncio.Event().wait()
            return True

        async with Server(authenticate=plain if kind == "plain" else coroutine) as server:
            for _ in range(3):
                async with Client(server.url) as slow:
                    waiting = asyncio.ensure_future(slow.login("slow"))
                    await entered.acquire()
                with pytest.raises(LoginFailed):
                    await waiting
            async with Client(server.url) as alice:
                await alice.login("alice")
            go_on.set()

    run(scenario())


def test_a_refusal_with_a_code(run: Any) -> None:
    async def scenario() -> None:
        async def authenticate(login: LoginRequested) -> bool:
            raise LoginDenied("you are not wanted", Code.BANNED)

        async with Server(authenticate=authenticate) as server:
            with pytest.raises(LoginFailed, match="not wanted") as caught:
                await log_in(server)
            assert caught.value.code == "banned"

    run(scenario())


@pytest.mark.parametrize("fault", ["raises", "hangs", "returns nonsense"])
def test_an_authenticator_that_fails(run: Any, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    """The client may try again; the log says why, and never the token."""
    caplog.set_level(logging.DEBUG, "rtm")

    async def authenticate(login: LoginRequested) -> Any:
        if fault == "raises":
            return {"someone": "else"}[login.token]
        if fault == "hangs":
            await asyncio.Event().wait()
        return login.token

    async def scenario() -> None:
        config = ServerConfig(login_deadline_seconds=0.5)
        async with Server(authenticate=authenticate, config=config) as server:
            with pytest.raises(LoginTimeout) as caught:
                await log_in(server, config=ClientConfig().scaled(0.2))
            assert caught.value.last_cause in ("authenticator_failed", "login_deadline", "connection_lost")

    run(scenario())
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert errors
    assert "the authenticator failed for 'alice'" in errors[0].getMessage()
    assert TOKEN not in caplog.text


def test_an_authenticator_that_fails_again_and_again_is_logged_once(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A client that tries all the time does not fill the log."""

    def authenticate(login: Any) -> bool:
        raise KeyError(login.token)

    async def scenario() -> None:
        async with Server(authenticate=authenticate) as server:
            config = ClientConfig(backoff_base_seconds=0.01, backoff_cap_seconds=1.0)
            async with Client(server.url, config=config) as client:
                with pytest.raises(LoginTimeout):
                    await client.login("alice", TOKEN, timeout=0.5)
                assert client._core.attempts > 1

    run(scenario())
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "KeyError" in record.getMessage()
    assert TOKEN not in caplog.text


def test_refused_logins_do_not_fill_the_log(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rtm")

    async def scenario() -> None:
        async with Server(authenticate=lambda login: login.uid == "nobody") as server:
            for _ in range(3):
                with pytest.raises(LoginFailed):
                    await log_in(server)

    run(scenario())
    assert caplog.text.count("the login of 'alice' is refused") == 1


def test_a_refusal_that_quotes_the_token_does_not_bring_it_into_the_log(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """S19: whatever an authenticator says to the client, in its own words or in those of a library."""
    caplog.set_level(logging.INFO, "rtm")

    def authenticate(login: Any) -> bool:
        raise LoginDenied(f"no such token: {login.token!r}, that is {login.token}")

    async def scenario() -> None:
        async with Server(authenticate=authenticate) as server, Client(server.url) as client:
            with pytest.raises(LoginFailed, match="no such token"):
                await client.login("alice", "a-secret\\token")

    run(scenario())
    assert "no such token: '<token>', that is <token>" in caplog.text
    assert "a-secret" not in caplog.text


def test_too_many_logins_for_a_slow_authenticator(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtm_async.server, "MAX_JUDGED_LOGINS", 1)
    monkeypatch.setattr(rtm_async.server, "JUDGED_RETRY_SECONDS", 0.02)

    async def scenario() -> None:
        go_on = asyncio.Event()
        asked = asyncio.Event()

        async def authenticate(login: LoginRequested) -> bool:
            asked.set()
            await go_on.wait()
            return True

        async with Server(authenticate=authenticate) as server, Client(server.url) as alice, Client(server.url) as bob:
            first = asyncio.ensure_future(alice.login("alice"))
            await asked.wait()
            second = asyncio.ensure_future(bob.login("bob"))
            while bob._core.attempts < 2:
                await asyncio.sleep(0)
            go_on.set()
            await asyncio.gather(first, second)

    run(scenario())


# --- kick, ban, close


@pytest.mark.parametrize("verb", ["kick", "ban"])
def test_kick_and_ban(run: Any, verb: str) -> None:
    """S31"""

    async def scenario() -> None:
        async with Server(authenticate=allow_any_uid) as server, Client(server.url) as client:
            await client.login("alice")
            lobby = await client.join("lobby")
            await server.kick("nobody")
            if verb == "kick":
                server.kick("alice")
            else:
                with pytest.raises(InvalidArgument):
                    server.ban("alice", 0)
                await server.ban("alice", 60)
            with pytest.raises(SessionEnded) as caught:
                async for _ in lobby:
                    pass
            assert caught.value.code == ("kicked" if verb == "kick" else "banned")
            assert client.state is ConnectionState.ABORTED
            await client.logout()
            if verb == "kick":
                await client.login("alice")
            else:
                with pytest.raises(LoginFailed) as refused:
                    await client.login("alice")
                assert refused.value.code == "banned"

    run(scenario())


def test_close_ends_every_connection(run: Any) -> None:
    """F-10: the clients take it for an interruption."""

    async def scenario() -> None:
        config = ClientConfig().scaled(0.1)
        async with Server(authenticate=allow_any_uid) as server, Client(server.url, config=config) as client:
            await client.login("alice")
            await asyncio.gather(server.close(), server.close())
            await server.close()
            assert server._driver is not None
            assert server._driver.idle
            states = []
            async for change in client.events():
                states.append(change.state.value)
                if len(states) == 3:
                    break
            assert states == ["CONNECTING", "CONNECTED", "RECONNECTING"]
            await client.close()

    run(scenario())


def test_close_with_a_login_under_way(run: Any) -> None:
    async def scenario() -> None:
        asked = asyncio.Event()

        async def authenticate(login: LoginRequested) -> bool:
            asked.set()
            await asyncio.Event().wait()
            return True

        server = Server(authenticate=authenticate)
        await server.start()
        async with Client(server.url) as client:
            login = asyncio.ensure_future(client.login("alice"))
            await asked.wait()
            await server.close()
            login.cancel()
            with pytest.raises(asyncio.CancelledError):
                await login

    run(scenario())


def test_another_loop(run: Any) -> None:
    """F-77"""

    async def scenario() -> None:
        async with Server(authenticate=allow_any_uid) as server:

            def elsewhere() -> None:
                for call in (lambda: server.kick("alice"), lambda: server.ban("alice", 1)):
                    with pytest.raises(InvalidState):
                        call()
                with pytest.raises(InvalidState):
                    asyncio.run(server.close())

            await asyncio.get_running_loop().run_in_executor(None, elsewhere)

    run(scenario())


def test_a_server_that_was_not_closed(run: Any) -> None:
    """F-76"""

    async def scenario() -> None:
        server = Server(authenticate=allow_any_uid)
        await server.start()
        with pytest.warns(ResourceWarning, match="was not closed"):
            server.__del__()
        await server.close()

    run(scenario())
