"""``rtm_sync.Server``: listening, judging logins, kicking, closing."""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
from typing import Any

import pytest

from rtm_sansio.auth import Identity, LoginDenied
from rtm_sansio.codes import Code
from rtm_sansio.config import ClientConfig, ServerConfig
from rtm_sansio.errors import ConfigError, InvalidArgument, InvalidState, LoginFailed, LoginTimeout, SessionEnded
from rtm_sansio.events import LoginRequested
from rtm_sansio.states import ConnectionState
from rtm_sync import Client, Server, allow_any_uid
from rtm_sync import server as server_module
from sync.fakes import PATIENCE_SECONDS, in_thread, receive_all, until


def test_the_url_names_address_port_and_path() -> None:
    with Server(authenticate=allow_any_uid) as server:
        assert server.url == f"ws://127.0.0.1:{server.port}"
    with Server("::1", authenticate=allow_any_uid, config=ServerConfig(path="/chat")) as server:
        assert server.url == f"ws://[::1]:{server.port}/chat"
        with Client(server.url) as client:
            client.login("alice")
    with Server("0.0.0.0", authenticate=lambda login: True) as server:
        assert server.url == f"ws://127.0.0.1:{server.port}"
        assert str(server.port) in repr(server)


def test_all_addresses_of_a_name_are_served_on_one_port() -> None:
    with Server("localhost", authenticate=allow_any_uid) as server:
        for host in {address[4][0] for address in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}:
            socket.create_connection((host, server.port), timeout=PATIENCE_SECONDS).close()


def test_a_socket_may_be_given() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    with Server(authenticate=allow_any_uid, sock=sock) as server, Client(server.url) as client:
        assert server.port == sock.getsockname()[1]
        client.login("alice")
    assert sock.fileno() == -1
    sock = socket.create_server(("127.0.0.1", 0))
    Server(authenticate=allow_any_uid, sock=sock).close()
    assert sock.fileno() == -1


def test_impossible_options() -> None:
    async def authenticate(login: Any) -> bool:
        return True

    for options in (
        {"authenticate": None},
        {"authenticate": authenticate},
        {"authenticate": allow_any_uid, "port": 70000},
        {"authenticate": allow_any_uid, "port": True},
        {"authenticate": allow_any_uid, "ssl": True},
    ):
        with pytest.raises(ConfigError):
            Server(**options)  # type: ignore[arg-type]
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(ConfigError):
        Server(authenticate=allow_any_uid, sock=sock)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_allow_any_uid_is_for_loopback_only(host: str) -> None:
    server = Server(host, authenticate=allow_any_uid)
    with pytest.raises(ConfigError, match="loopback"):
        server.start()
    with pytest.raises(InvalidState):
        _ = server.port


def test_a_taken_port_is_an_error() -> None:
    with Server(authenticate=allow_any_uid) as first, pytest.raises(OSError, match="in use"):
        Server(port=first.port, authenticate=allow_any_uid).start()


def test_before_the_start_and_after_the_close() -> None:
    server = Server(authenticate=allow_any_uid)
    for call in (lambda: server.url, lambda: server.port, lambda: server.kick("alice")):
        with pytest.raises(InvalidState):
            call()
    server.start()
    with pytest.raises(InvalidState):
        server.start()
    server.close()
    server.close()
    for call in (server.start, lambda: server.kick("alice")):
        with pytest.raises(InvalidState):
            call()


def test_what_an_authenticator_may_answer() -> None:
    answers: dict[str, Any] = {"yes": True, "identity": Identity(expires_at=9e9), "no": False, "none": None, "odd": 1}
    threads: set[str] = set()

    def authenticate(login: LoginRequested) -> Any:
        threads.add(threading.current_thread().name)
        if login.uid == "denied":
            raise LoginDenied("go away", code=Code.BANNED)
        return answers[login.uid]

    config = ClientConfig().scaled(0.05)
    with Server(authenticate=authenticate) as server:
        for uid in ("yes", "identity"):
            with Client(server.url) as client:
                client.login(uid)
        for uid, code in (("no", "bad_token"), ("none", "bad_token"), ("denied", "banned")):
            with Client(server.url) as client, pytest.raises(LoginFailed) as caught:
                client.login(uid)
            assert caught.value.code == code
        for uid in ("odd", "unknown"):
            with Client(server.url, config=config) as client, pytest.raises(LoginTimeout):
                client.login(uid)
    assert all(name.startswith("rtm-authenticator") for name in threads)


def test_an_authenticator_that_fails_again_and_again_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A client that tries all the time does not fill the log."""

    def authenticate(login: Any) -> bool:
        raise KeyError(login.token)

    config = ClientConfig(backoff_base_seconds=0.01, backoff_cap_seconds=1.0)
    with Server(authenticate=authenticate) as server, Client(server.url, config=config) as client:
        with pytest.raises(LoginTimeout):
            client.login("alice", "a-secret-token", timeout=0.5)
        assert client._runtime.core.attempts > 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "KeyError" in record.getMessage()
    assert "a-secret-token" not in caplog.text


def test_an_authenticator_that_does_not_block_is_called_in_the_io_thread() -> None:
    threads: set[str] = set()

    class Quick:
        blocking = False

        def __call__(self, login: LoginRequested) -> bool:
            threads.add(threading.current_thread().name)
            return True

    with Server(authenticate=Quick()) as server, Client(server.url) as client:
        client.login("alice")
    assert threads == {"rtm-server-io"}


def test_slow_authenticators_do_not_hold_up_others(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    entered: list[str] = []

    def authenticate(login: LoginRequested) -> bool:
        if login.uid.startswith("slow"):
            entered.append(login.uid)
            go_on.wait(PATIENCE_SECONDS)
        return True

    with Server(authenticate=authenticate) as server, Client(server.url) as quick, Client(server.url) as slow:
        waiting = in_thread(lambda: slow.login("slow"))
        quick.login("quick")
        go_on.set()
        waiting()


def test_too_many_logins_are_put_off(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(server_module, "BUSY_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(server_module, "MAX_WAITING_LOGINS", 0)
    with Server(authenticate=lambda login: True) as server:
        config = ClientConfig(login_timeout_seconds=1.0, backoff_base_seconds=0.01, backoff_cap_seconds=1.0)
        with Client(server.url, config=config) as client:
            with pytest.raises(LoginTimeout) as caught:
                client.login("alice")
            assert client._runtime.core.attempts > 1
        assert caught.value.last_cause == "unavailable"
    assert caplog.text.count("is put off") == 1, "not once for each"


def test_logins_that_were_given_up_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """S51: whoever goes before the verdict takes nobody's place."""
    monkeypatch.setattr(server_module, "MAX_WAITING_LOGINS", 1)
    entered, go_on = threading.Semaphore(0), threading.Event()
    judged: list[str] = []

    def authenticate(login: LoginRequested) -> bool:
        judged.append(login.uid)
        if login.uid == "slow":
            entered.release()
            go_on.wait(PATIENCE_SECONDS)
        return True

    with Server(authenticate=authenticate) as server, Client(server.url) as alice:
        for _ in range(3):
            with Client(server.url) as slow:
                waiting = in_thread(lambda slow=slow: slow.login("slow"))  # type: ignore[misc]
                assert entered.acquire(timeout=PATIENCE_SECONDS)
            with pytest.raises(LoginFailed):
                waiting()
        alice.login("alice")
        go_on.set()
    assert judged == ["slow"] * 3 + ["alice"]


def test_refused_logins_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rtm")
    with Server(authenticate=lambda login: False) as server, Client(server.url) as client:
        for _ in range(3):
            with pytest.raises(LoginFailed):
                client.login("alice")
    assert caplog.text.count("the login of 'alice' is refused") == 1


def test_a_refusal_that_quotes_the_token_does_not_bring_it_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """S19: whatever an authenticator says to the client, in its own words or in those of a library."""

    def authenticate(login: LoginRequested) -> bool:
        raise LoginDenied(f"no such token: {login.token!r}, that is {login.token}")

    caplog.set_level(logging.INFO, "rtm")
    with (
        Server(authenticate=authenticate) as server,
        Client(server.url) as client,
        pytest.raises(LoginFailed, match="no such token"),
    ):
        client.login("alice", "a-secret\\token")
    assert "no such token: '<token>', that is <token>" in caplog.text
    assert "a-secret" not in caplog.text


def test_ends_of_transports_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Strangers can cause any number of them."""
    caplog.set_level(logging.DEBUG, "rtm")
    with Server(authenticate=allow_any_uid) as server:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as peer:
                peer.sendall(b"nonsense\r\n\r\n")
                receive_all(peer)
    assert {record.levelno for record in caplog.records if record.name == "rtm"} <= {logging.DEBUG}


def test_a_ban_keeps_out_for_a_time(server: Server) -> None:
    with Client(server.url) as client:
        client.login("alice")
        for seconds in (0, -1, True, float("inf")):
            with pytest.raises(InvalidArgument):
                server.ban("alice", seconds)
        server.ban("alice", 60.0)
        with pytest.raises(SessionEnded) as caught:
            list(client.events())
        assert caught.value.code == "banned"
        client.logout()
        with pytest.raises(LoginFailed) as refused:
            client.login("alice")
        assert refused.value.code == "banned"
        client.login("bob")


def test_a_kick_of_nobody_is_nothing(server: Server) -> None:
    """Neither for those who are there, nor for one who logs in afterwards (S31)."""
    with Client(server.url) as alice, Client(server.url) as late:
        alice.login("alice")
        lobby = alice.join("lobby")
        for nobody in ("nobody", "late"):
            server.kick(nobody)
        assert lobby.send("still here").offset
        late.login("late")
        assert late.join("lobby").receipt.member_count == 2
        assert (alice.state, late.state) == (ConnectionState.CONNECTED, ConnectionState.CONNECTED)
        late.logout()
        server.kick("late")  # who has been here
        assert [member.uid for member in (next(iter(lobby.events())),)] == ["late"]
        late.login("late")
        assert late.state is ConnectionState.CONNECTED
        server.kick("alice")  # and it does work
        with pytest.raises(SessionEnded):
            list(alice.events())


def test_a_close_says_goodbye() -> None:
    server = Server(authenticate=allow_any_uid)
    server.start()
    with Client(server.url) as client:
        client.login("alice")
        server.close()
        until(client, lambda: not client._runtime.driver._sockets._transports)
        assert client.state in (ConnectionState.CONNECTED, ConnectionState.RECONNECTING)
        with pytest.raises(OSError, match=r"refused"):
            socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)


def test_garbage_disturbs_nobody(server: Server) -> None:
    """S51."""
    with Client(server.url) as client:
        client.login("alice")
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as peer:
            peer.sendall(os.urandom(1000) + b"\r\n\r\n")
            receive_all(peer)
        assert client.join("lobby").send("x").offset


def test_a_server_that_is_dropped_without_close_says_so_and_ends() -> None:
    server = Server(authenticate=allow_any_uid)
    server.start()
    assert server._hosting is not None
    thread = server._hosting.driver._thread
    assert thread is not None
    with pytest.warns(ResourceWarning, match="Server"):  # noqa: PT031
        del server
        gc.collect()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
