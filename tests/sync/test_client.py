"""``rtm_sync.Client`` and ``Channel`` against ``rtm_sync.Server``, over real sockets."""

from __future__ import annotations

import gc
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from queue import SimpleQueue
from typing import Any

import pytest
import trustme

from rtm_sansio.auth import LoginDenied, issue_token
from rtm_sansio.config import ClientConfig, ServerConfig
from rtm_sansio.errors import (
    ClientClosed,
    ConfigError,
    InvalidArgument,
    InvalidState,
    LoginFailed,
    LoginTimeout,
    NotConnected,
    NotJoined,
    NotLoggedIn,
    Outcome,
    RequestAbandoned,
    RequestFailed,
    RequestTimeout,
    RtmError,
    SessionEnded,
)
from rtm_sansio.events import (
    ChannelMessageReceived,
    ConnectionStateChanged,
    EventsDropped,
    MemberJoined,
    MemberLeft,
    MessageReceived,
    ReconnectProblem,
)
from rtm_sansio.states import ConnectionState
from rtm_sync import Client, JwtAuthenticator, Server, _handlers, _homes, _provider, _runtime, allow_any_uid
from sync.fakes import PATIENCE_SECONDS, accept, cut, in_thread, listening, until, until_waiting, unused_port, url_of

NewClient = Callable[..., Client]

CONNECTED, DISCONNECTED = ConnectionState.CONNECTED, ConnectionState.DISCONNECTED

# --- login and logout


def test_login_join_send_receive_leave_logout(new_client: NewClient) -> None:
    alice, bob = new_client(), new_client()
    assert (alice.state, alice.uid) == (DISCONNECTED, None)
    alice.login("alice")
    bob.login("bob")
    assert (alice.state, alice.uid) == (CONNECTED, "alice")
    of_alice, of_bob = alice.join("lobby"), bob.join("lobby")
    assert (of_bob.name, of_bob.joined) == ("lobby", True)
    assert of_bob.receipt.members is not None
    assert set(of_bob.receipt.members) == {"alice", "bob"}
    first, second = of_bob.send("hello"), of_bob.send(b"\x00\xff")
    assert second.offset == first.offset + 1
    messages = iter(of_alice)
    received = [next(messages), next(messages)]
    assert [(one.uid, one.message, one.offset) for one in received] == [
        ("bob", "hello", first.offset),
        ("bob", b"\x00\xff", second.offset),
    ]
    of_bob.leave()
    assert not of_bob.joined
    with pytest.raises(NotJoined):
        of_bob.send("too late")
    with pytest.raises(NotJoined):
        of_bob.leave()
    alice.logout()
    assert alice.state is DISCONNECTED
    assert list(messages) == []
    with pytest.raises(NotLoggedIn):
        alice.logout()
    with pytest.raises(NotConnected):
        of_alice.send("too late")


def test_one_client_logs_in_again(new_client: NewClient) -> None:
    client = new_client("alice")
    old = client.join("lobby")
    client.logout()
    client.login("alicia")
    new = client.join("lobby")
    assert not old.joined
    assert new.joined
    assert list(old) == []
    with pytest.raises(NotJoined):
        old.send("from an old channel")


def test_a_second_login_is_refused(new_client: NewClient) -> None:
    """S4."""
    client = new_client("alice")
    with pytest.raises(InvalidState, match="logout"):
        client.login("alice")
    assert client.state is CONNECTED


def test_misuse_raises_at_the_call(new_client: NewClient) -> None:
    """S37."""
    client = new_client("alice")
    lobby = client.join("lobby")
    with pytest.raises(InvalidState):
        client.join("lobby")
    with pytest.raises(InvalidArgument):
        client.join("ü")
    with pytest.raises(InvalidArgument):
        lobby.send("x" * 40_000)
    for timeout in (0, -1, True, float("nan"), float("inf"), "1"):
        with pytest.raises(InvalidArgument):
            lobby.send("x", timeout=timeout)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        client.on(str, print)
    with pytest.raises(InvalidArgument):
        client.on(MemberJoined, "print")  # type: ignore[arg-type]
    assert lobby.send("all is well").offset


def test_impossible_options() -> None:
    with pytest.raises(ConfigError):
        Client("http://localhost")
    with pytest.raises(ConfigError):
        Client("wss://localhost", ssl=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="wss"):
        Client("ws://localhost", ssl=ssl.create_default_context())


def test_a_refused_login_carries_the_code() -> None:
    """S6."""

    def authenticate(login: Any) -> bool:
        if login.token == "wrong":
            raise LoginDenied("not with this token")
        return login.token == "right"

    with Server(authenticate=authenticate) as server, Client(server.url) as client:
        with pytest.raises(LoginFailed, match="not with this token") as caught:
            client.login("alice", "wrong")
        assert caught.value.code == "bad_token"
        with pytest.raises(LoginFailed):
            client.login("alice")
        assert client.state is DISCONNECTED
        client.login("alice", "right")


def test_an_authenticator_that_fails_is_passing_trouble(caplog: pytest.LogCaptureFixture) -> None:
    def authenticate(login: Any) -> bool:
        raise KeyError(login.token)

    config = ClientConfig().scaled(0.1)
    with (
        Server(authenticate=authenticate) as server,
        Client(server.url, config=config) as client,
        pytest.raises(LoginTimeout) as caught,
    ):
        client.login("alice", "the-secret-token")
    assert caught.value.last_cause == "authenticator_failed"
    assert "the authenticator failed" in caplog.text
    assert "the-secret-token" not in caplog.text


def test_nobody_there(server: Server) -> None:
    """S6, F-13."""
    config = ClientConfig().scaled(0.05)
    with Client(f"ws://127.0.0.1:{unused_port()}", config=config) as client:
        with pytest.raises(LoginTimeout) as caught:
            client.login("alice")
        assert caught.value.last_cause == "connection_refused"
        assert caught.value.attempts >= 1


def test_the_second_url_is_tried(server: Server) -> None:
    with Client([f"ws://127.0.0.1:{unused_port()}", server.url]) as client:
        client.login("alice")


def test_a_server_that_says_nothing() -> None:
    """S5."""
    with listening() as listener, Client(url_of(listener), config=ClientConfig().scaled(0.05)) as client:
        begin = time.monotonic()
        with pytest.raises(LoginTimeout):
            client.login("alice")
        assert 0.25 < time.monotonic() - begin < 2.0


def test_the_timeout_of_a_login_is_a_logout() -> None:
    with listening() as listener, Client(url_of(listener)) as client:
        with pytest.raises(LoginTimeout, match=r"0\.1") as caught:
            client.login("alice", timeout=0.1)
        assert caught.value.__context__ is None
        until(client, lambda: client.state is DISCONNECTED)
        with accept(listener) as peer:
            while peer.recv(65536):
                pass


def test_a_logout_ends_a_login_that_is_under_way() -> None:
    """S7."""
    with listening() as listener, Client(url_of(listener)) as client:
        login = in_thread(lambda: client.login("alice"))
        until(client, lambda: client.state is ConnectionState.CONNECTING)
        client.logout()
        with pytest.raises(LoginFailed):
            login()


# --- tokens


def test_a_token_provider_is_called_in_a_thread_of_its_own(new_client: NewClient) -> None:
    """S27."""
    callers: list[str] = []

    def provide() -> str:
        callers.append(threading.current_thread().name)
        return "token"

    client = new_client()
    client.login("alice", provide)
    assert len(callers) == 1
    assert callers[0].startswith("rtm-token")


@pytest.mark.parametrize("fault", [RuntimeError("no"), SystemExit(3)])
def test_a_token_provider_that_raises(server: Server, fault: BaseException) -> None:
    """F-54."""

    def provide() -> str:
        raise fault

    with Client(server.url, config=ClientConfig().scaled(0.05)) as client, pytest.raises(LoginFailed):
        client.login("alice", provide)


def test_what_a_provider_raises_is_told_once(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """F-54: by its class and its traceback, never with its text; and a login's own timeout names it as the cause."""
    secret = "a-very-secret-token"

    def provider() -> str:
        raise KeyError(secret)

    with (
        Client(server.url, config=ClientConfig().scaled(0.1)) as client,
        pytest.raises(LoginTimeout, match="token provider raised KeyError") as caught,
    ):
        client.login("alice", provider, timeout=0.4)
    assert caught.value.last_cause == "token_provider_failed"
    assert isinstance(caught.value.__cause__, RtmError)
    assert isinstance(caught.value.__cause__.__cause__, KeyError)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.name == "rtm"
    assert "KeyError" in record.getMessage()
    assert "in provider" in record.getMessage()
    assert secret not in caplog.text


def test_the_cause_of_a_login_timeout_of_the_call() -> None:
    with (
        Client(f"ws://127.0.0.1:{unused_port()}") as client,
        pytest.raises(LoginTimeout, match="connection refused") as caught,
    ):
        client.login("alice", timeout=0.3)
    assert caught.value.last_cause == "connection_refused"
    assert caught.value.attempts >= 1


def test_a_token_provider_that_hangs(server: Server) -> None:
    """F-54: it neither blocks the client nor gets one thread after the other."""
    go_on = threading.Event()
    calls: list[int] = []

    def provide() -> str:
        calls.append(1)
        go_on.wait(PATIENCE_SECONDS)
        return "late"

    with Client(server.url, config=ClientConfig().scaled(0.05)) as client:
        for _ in range(3):
            with pytest.raises(LoginFailed):
                client.login("alice", provide)
        assert 1 <= len(calls) <= _provider.MAX_ASKING
        go_on.set()


def test_tokens_that_are_none(new_client: NewClient) -> None:
    async def provide() -> str:
        return "token"

    client = new_client()
    for token in (provide, 17, b"bytes"):
        with pytest.raises(InvalidArgument):
            client.login("alice", token)  # type: ignore[arg-type]
    assert client.state is DISCONNECTED


def test_a_token_is_renewed() -> None:
    """S28."""
    key = "0123456789abcdef0123456789abcdef"

    def token(lifetime: float) -> str:
        return issue_token(key, "alice", lifetime_seconds=lifetime, wall_clock=time.time())

    authenticate = JwtAuthenticator(key, algorithms=["HS256"])
    with Server(authenticate=authenticate) as server, Client(server.url) as client:
        client.login("alice", token(100))
        receipt = client.renew_token(token(1000))
        assert receipt.expires_in is not None
        assert 990 < receipt.expires_in < 1002
        with pytest.raises(RequestFailed):
            client.renew_token("no token", timeout=5)
        assert client.state is CONNECTED


def test_retry_now(new_client: NewClient) -> None:
    client = new_client()
    with pytest.raises(InvalidState):
        client.retry_now()
    client.login("alice")
    client.retry_now()


# --- iterating


def test_messages_only_or_all_events(new_client: NewClient) -> None:
    alice, bob = new_client("alice"), new_client("bob")
    lobby = alice.join("lobby")
    of_bob = bob.join("lobby")
    of_bob.send("one")
    of_bob.leave()
    everything = lobby.events()
    assert [type(next(everything)) for _ in range(3)] == [MemberJoined, ChannelMessageReceived, MemberLeft]
    everything.close()
    bob.join("lobby").send("two")
    assert next(iter(lobby)).message == "two"


def test_one_iterator_at_a_time(new_client: NewClient) -> None:
    """S52."""
    alice, bob = new_client("alice"), new_client("bob")
    lobby, of_bob = alice.join("lobby"), bob.join("lobby")
    of_bob.send("one")
    of_bob.send("two")
    for message in lobby:
        assert message.message == "one"
        with pytest.raises(InvalidState, match="one iterator at a time"):
            next(lobby.events())
        break
    with lobby.events() as events:
        assert next(events).message == "two"
    assert list(events) == []
    of_bob.send("three")
    assert next(iter(lobby)).message == "three"


def test_an_iterator_ends_behind_what_waits(new_client: NewClient) -> None:
    alice, bob = new_client("alice"), new_client("bob")
    lobby, of_bob = alice.join("lobby"), bob.join("lobby")
    for number in range(5):
        of_bob.send(str(number))
    until(alice, lambda: len(lobby._home.queue) == 6)
    lobby.leave()
    assert [message.message for message in lobby] == list("01234")
    assert list(lobby) == []


def test_a_queue_that_nobody_iterates_keeps_the_newest(new_client: NewClient) -> None:
    """S52, F-80."""
    alice = new_client("alice", config=ClientConfig(max_uniterated_events=10))
    lobby, of_bob = alice.join("lobby"), new_client("bob").join("lobby")
    for number in range(30):
        last = of_bob.send(str(number))
    until(alice, lambda: (events := lobby._home.queue._events) and getattr(events[-1], "offset", 0) == last.offset)
    events = lobby.events()
    assert next(events) == EventsDropped(home="lobby", count=21)
    assert [next(events).message for _ in range(10)] == [str(number) for number in range(20, 30)]


def test_messages_show_what_was_dropped_before_them(new_client: NewClient) -> None:
    """S52: also where only messages are asked for, and whatever the first iteration did not come to."""
    config = ClientConfig(max_uniterated_events=3)
    alice, bob = new_client("alice", config=config), new_client("bob")
    lobby = alice.join("lobby")
    at_bob = bob.join("lobby")
    for number in range(8):
        at_bob.send(str(number))
    until(alice, lambda: len(lobby._home.queue) == 4 and lobby._home.queue.backlog == (3, 12))
    until(alice, lambda: alice._runtime.core.cursor("lobby") == bob._runtime.core.cursor("lobby"))
    never = lobby.events()
    never._begin()  # it takes nothing
    never.close()
    with iter(lobby) as messages:
        first = next(messages)
    assert (first.message, first.lost_before) == ("5", 6)  # with bob's join
    with iter(lobby) as messages:
        assert [(one.message, one.lost_before) for one in (next(messages), next(messages))] == [("6", 0), ("7", 0)]


def test_a_count_that_no_message_showed_waits_for_the_next_iteration(new_client: NewClient) -> None:
    """S52: joins and leaves were dropped, and no message has come since."""
    config = ClientConfig(max_uniterated_events=1)
    alice = new_client("alice", config=config)
    lobby = alice.join("lobby")
    for uid in ("bob", "carol", "dora"):
        new_client(uid).join("lobby")
    until(alice, lambda: lobby._home.queue._dropped == 2)
    messages = iter(lobby)
    reading = in_thread(lambda: list(messages))
    until(alice, lambda: messages._messages is not None and messages._messages.dropped == 2 and messages._count == 1)
    messages.close()
    assert reading() == []
    with lobby.events() as events:
        assert next(events) == EventsDropped(home="lobby", count=2)


def test_an_ended_home_keeps_what_was_not_taken(new_client: NewClient) -> None:
    alice, bob = new_client("alice"), new_client("bob")
    lobby = alice.join("lobby")
    at_bob = bob.join("lobby")
    for number in range(4):
        at_bob.send(str(number))
    messages = iter(lobby)
    assert next(messages).message == "0"
    until(alice, lambda: alice._runtime.core.cursor("lobby") == bob._runtime.core.cursor("lobby"))
    lobby.leave()
    messages.close()
    assert [one.message for one in lobby] == ["1", "2", "3"]
    assert list(lobby) == []


def test_a_slow_reader_gets_everything(new_client: NewClient) -> None:
    """S52: the log is held and goes on, several times."""
    alice = new_client("alice", config=ClientConfig(max_queued_events=8))
    lobby, of_bob = alice.join("lobby"), new_client("bob").join("lobby")
    messages = iter(lobby)
    of_bob.send("first")
    assert next(messages).message == "first"
    for number in range(200):
        of_bob.send(str(number))
    assert [next(messages).message for _ in range(200)] == [str(number) for number in range(200)]


def test_large_messages_are_held_by_their_bytes(new_client: NewClient) -> None:
    """S52."""
    alice = new_client("alice", config=ClientConfig(max_queued_bytes=100_000))
    lobby, of_bob = alice.join("lobby"), new_client("bob").join("lobby")
    messages = iter(lobby)
    of_bob.send("first")
    next(messages)
    for number in range(40):
        of_bob.send(f"{number:30000}")
    assert [int(next(messages).message) for _ in range(40)] == list(range(40))


def test_an_iterator_goes_on_through_an_interruption(new_client: NewClient) -> None:
    """S12, S23."""
    alice, bob = new_client("alice"), new_client("bob")
    lobby, of_bob = alice.join("lobby"), bob.join("lobby")
    messages = iter(lobby)
    of_bob.send("before")
    assert next(messages).message == "before"
    for number in range(3):
        cut(alice)
        of_bob.send(f"during {number}")
        assert next(messages).message == f"during {number}"
    assert alice.state is CONNECTED


def test_the_clients_own_events(new_client: NewClient) -> None:
    client = new_client()
    with client.events() as events:
        first = in_thread(lambda: [next(events), next(events)])
        client.login("alice")
        assert [change.state for change in first()] == [ConnectionState.CONNECTING, CONNECTED]
        client.logout()
        assert [change.state for change in events] == [DISCONNECTED]
    client.login("alice")
    assert next(client.events()).state is ConnectionState.CONNECTING


def peer_messages(events: Iterator[Any], count: int) -> list[Any]:
    """The next messages of users."""
    return list(islice((event for event in events if isinstance(event, MessageReceived)), count))


def test_messages_to_users(new_client: NewClient) -> None:
    """S36, S56: where each went, with what there is to it; to an iterator and to handlers."""
    alice, bob = new_client("alice"), new_client("bob")
    handled = SimpleQueue[Any]()
    alice.on(MessageReceived, handled.put)
    delivery = bob.send_to_peer("alice", "hi", description="about")
    assert (delivery.received, delivery.kept) == (True, False)
    assert bob.send_to_peer("alice", b"\x00", timeout=5.0).received
    with alice.events() as events:
        text, data = peer_messages(events, 2)
    assert (text.uid, text.message, text.description, text.kept) == ("bob", "hi", "about", False)
    assert (data.message, data.sent_at > 0) == (b"\x00", True)
    assert [handled.get(timeout=10), handled.get(timeout=10)] == [text, data]
    alice.logout()
    assert not bob.send_to_peer("alice", "x").kept
    assert bob.send_to_peer("alice", "kept", offline=True).kept
    alice.login("alice")
    (kept,) = peer_messages(alice.events(), 1)
    assert (kept.message, kept.kept) == ("kept", True)


def test_a_slow_reader_of_an_inbox_gets_everything(new_client: NewClient) -> None:
    """S52: it is held and goes on, several times; a channel is not held up meanwhile, nor are the other events."""
    alice, bob = new_client(config=ClientConfig(max_queued_events=8)), new_client("bob")
    events = alice.events()
    waiting = in_thread(lambda: next(events))
    alice.login("alice")
    waiting()
    lobby, of_bob = alice.join("lobby"), bob.join("lobby")
    for number in range(200):
        bob.send_to_peer("alice", str(number))
    of_bob.send("not held up")
    assert next(iter(lobby)).message == "not held up"
    reader = alice._runtime.core._channels._inbox
    assert reader is not None
    assert reader.cursor < 30
    assert [one.message for one in peer_messages(events, 200)] == [str(number) for number in range(200)]
    events.close()


def test_an_inbox_through_interruptions(new_client: NewClient) -> None:
    """S12, S33: once, in order."""
    alice, bob = new_client("alice"), new_client("bob")
    with alice.events() as events:
        for number in range(5):
            cut(alice)
            bob.send_to_peer("alice", str(number))
            assert peer_messages(events, 1)[0].message == str(number)


def test_a_kick_ends_iterators_with_its_code(server: Server, new_client: NewClient) -> None:
    """S8, S9."""
    alice = new_client("alice")
    lobby = alice.join("lobby")
    reading = in_thread(lambda: next(iter(lobby)))
    until(alice, lambda: lobby._home.feed is not None)
    server.kick("alice")
    with pytest.raises(SessionEnded) as caught:
        reading()
    assert caught.value.code == "kicked"
    events = alice.events()
    assert [next(events).state for _ in range(3)][2] is ConnectionState.ABORTED
    with pytest.raises(SessionEnded):
        next(events)
    assert alice.state is ConnectionState.ABORTED
    with pytest.raises(NotConnected):
        lobby.send("too late")
    with pytest.raises(SessionEnded):
        next(iter(lobby))
    alice.logout()
    alice.login("alice")
    assert next(alice.events()).state is ConnectionState.CONNECTING


def test_another_instance_takes_over(new_client: NewClient) -> None:
    """S30."""
    old = new_client("alice")
    reading = in_thread(lambda: list(old.join("lobby")))
    until(old, lambda: len(old._runtime._homes) == 2)
    new_client("alice")
    with pytest.raises(SessionEnded) as caught:
        reading()
    assert caught.value.code == "remote_login"


# --- waiting, and the end of waiting


def test_a_send_waits_for_the_connection_and_times_out() -> None:
    """S35."""
    with Server(authenticate=allow_any_uid) as server, Client(server.url) as client:
        client.login("alice")
        lobby = client.join("lobby")
        server.close()
        with pytest.raises(RequestTimeout) as caught:
            lobby.send("into the void", timeout=0.2)
        assert caught.value.outcome is Outcome.NOT_SENT
        assert caught.value.__context__ is None, "how it is waited for is nobody's business"


def test_a_full_client_makes_send_wait(new_client: NewClient) -> None:
    """S35, F-58."""
    client = new_client("alice", config=ClientConfig(max_unanswered_requests=2))
    lobby = client.join("lobby", echo=True)
    sends = [in_thread(lambda: [lobby.send("x") for _ in range(50)]) for _ in range(8)]
    offsets = [receipt.offset for send in sends for receipt in send()]
    assert len(set(offsets)) == 400


def test_a_wait_before_a_full_client_is_bounded_and_ended_by_close() -> None:
    with Server(authenticate=allow_any_uid) as server:
        with Client(server.url, config=ClientConfig(max_unanswered_requests=2)) as client:
            client.login("alice")
            lobby = client.join("lobby")
            server.close()
            waiting = [in_thread(lambda: lobby.send("x")) for _ in range(2)]
            until(client, lambda: len(client._runtime._waiting) == 2)
            with pytest.raises(RequestTimeout) as caught:
                lobby.send("x", timeout=0.1)
            assert caught.value.outcome is Outcome.NOT_SENT
            assert caught.value.__context__ is None
            waiting.append(in_thread(lambda: lobby.send("x")))
            until(client, lambda: client._runtime._full)
        for wait in waiting:
            with pytest.raises(RequestAbandoned) as abandoned:
                wait()
            assert abandoned.value.code == "logged_out"
        assert abandoned.value.outcome is Outcome.NOT_SENT  # the last one's


@pytest.mark.parametrize("call", ["login", "join", "send", "leave", "iteration", "events"])
def test_close_from_another_thread_ends_what_waits_at_once(call: str) -> None:
    """S9, S54, F-74: what may have become of it is said."""
    with Server(authenticate=allow_any_uid) as server, listening() as silent:
        client = Client(url_of(silent) if call == "login" else server.url)
        if call == "login":
            waiting = in_thread(lambda: client.login("alice"))
            until_waiting(client)
        else:
            client.login("alice")
            lobby = client.join("lobby")
            if call in ("iteration", "events"):
                waiting = in_thread(lambda: list(lobby if call == "iteration" else client.events()))
                until(client, lambda: (lobby._home if call == "iteration" else client._runtime.client_home).feed)
            else:
                freeze(server)
                calls = {"join": lambda: client.join("other"), "send": lambda: lobby.send("x"), "leave": lobby.leave}
                waiting = in_thread(calls[call])
                until_waiting(client)
        begin = time.monotonic()
        closing = in_thread(client.close)
        if call == "iteration":
            assert waiting() == []
        elif call == "events":
            assert waiting()[-1].state is DISCONNECTED
        else:
            with pytest.raises(LoginFailed if call == "login" else RequestAbandoned) as caught:
                waiting()
            assert caught.value.code == "logged_out"
        assert time.monotonic() - begin < 1.0
        closing()
        assert time.monotonic() - begin < 4.0
        client.close()


def freeze(server: Server) -> None:
    """The server reads nothing from now on, until it is closed."""
    assert server._hosting is not None
    driver = server._hosting.driver

    def pause(now: float) -> None:
        for transport_id in list(driver._sockets._transports):
            driver._sockets.pause(transport_id, True)

    driver.call(pause)


def test_many_threads_close_at_once(new_client: NewClient) -> None:
    client = new_client("alice")
    for wait in [in_thread(client.close) for _ in range(8)]:
        wait()
    assert client.state is DISCONNECTED


def test_a_closed_client_says_so(new_client: NewClient) -> None:
    client = new_client("alice")
    lobby = client.join("lobby")
    client.close()
    client.close()
    for call in (
        lambda: client.login("alice"),
        lambda: client.join("other"),
        lambda: lobby.send("x"),
        client.logout,
        client.retry_now,
        lambda: next(client.events()),
    ):
        with pytest.raises(ClientClosed):
            call()


def test_a_client_that_was_never_used_can_be_closed() -> None:
    threads = threading.active_count()
    client = Client("ws://127.0.0.1:9")
    assert threading.active_count() == threads
    client.close()
    with pytest.raises(ClientClosed):
        client.login("alice")
    Client("ws://127.0.0.1:9")  # needs no close


def test_many_threads_use_one_client(new_client: NewClient) -> None:
    """S54."""
    alice, bob = new_client("alice"), new_client("bob")
    lobby, of_bob = alice.join("lobby"), bob.join("lobby")
    sends = [in_thread(lambda n=n: [lobby.send(f"{n} {i}") for i in range(40)]) for n in range(8)]
    received = [message.message.split() for _, message in zip(range(320), of_bob, strict=False)]
    for send in sends:
        send()
    for n in range(8):
        assert [int(i) for sender, i in received if int(sender) == n] == list(range(40))


def test_an_internal_error_ends_the_client_loudly(new_client: NewClient, caplog: pytest.LogCaptureFixture) -> None:
    """F-82."""
    client = new_client("alice")
    lobby = client.join("lobby")
    reading = in_thread(lambda: list(lobby))
    until(client, lambda: lobby._home.feed is not None)
    with caplog.at_level(logging.CRITICAL, "rtm"):
        client._runtime.driver.post(lambda now: 1 / 0)
        with pytest.raises(ClientClosed, match="internal error") as caught:
            reading()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "ZeroDivisionError" in caplog.text
    assert client.state is DISCONNECTED
    with pytest.raises(ClientClosed, match="internal error"):
        lobby.send("x")


class LateInterrupt(_runtime.Reply[Any]):
    """Ctrl-C comes right behind the answer."""

    def wait(self, timeout: float | None = None) -> Any:
        super().wait(timeout)
        raise KeyboardInterrupt


def test_a_result_that_ctrl_c_swallows_is_taken_back(new_client: NewClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3, S54."""
    client = new_client()
    with monkeypatch.context() as patch:
        patch.setattr(_runtime, "Reply", LateInterrupt)
        with pytest.raises(KeyboardInterrupt):
            client.login("alice")
    until(client, lambda: client.state is DISCONNECTED)
    client.login("alice")
    with monkeypatch.context() as patch:
        patch.setattr(_runtime, "Reply", LateInterrupt)
        with pytest.raises(KeyboardInterrupt):
            client.join("lobby")
    until(client, lambda: "lobby" not in client._runtime._homes)
    lobby = client.join("lobby")
    with monkeypatch.context() as patch:
        patch.setattr(_runtime, "Reply", LateInterrupt)
        with pytest.raises(KeyboardInterrupt):
            lobby.send("sent all the same")
    assert client.state is CONNECTED


def test_timeouts_of_logout_and_renewal_bound_the_wait() -> None:
    with Server(authenticate=allow_any_uid) as server, Client(server.url) as client:
        client.login("alice")
        freeze(server)
        begin = time.monotonic()
        with pytest.raises(RequestTimeout):
            client.renew_token("token", timeout=0.1)
        client.logout(timeout=0.1)
        assert time.monotonic() - begin < 1.5
        assert client.state is DISCONNECTED


def test_close_ends_a_logout_that_waits_without_an_error() -> None:
    with Server(authenticate=allow_any_uid) as server:
        client = Client(server.url)
        client.login("alice")
        freeze(server)
        logout = in_thread(client.logout)
        until_waiting(client)
        client.close()
        logout()


# --- handlers


def test_handlers_see_all_homes_in_order_and_may_call_the_client(new_client: NewClient) -> None:
    """S53, S54, F-73."""
    alice, bob = new_client(), new_client("bob")
    seen: SimpleQueue[Any] = SimpleQueue()
    alice.on(ConnectionStateChanged, seen.put)
    alice.on(ChannelMessageReceived, lambda event: seen.put((event.message, lobby.send("answer").offset)))
    alice.login("alice")
    lobby, of_bob = alice.join("lobby"), bob.join("lobby")
    of_bob.send("question")
    assert [seen.get(timeout=PATIENCE_SECONDS).state for _ in range(2)] == [ConnectionState.CONNECTING, CONNECTED]
    assert seen.get(timeout=PATIENCE_SECONDS)[0] == "question"
    assert next(iter(of_bob)).message == "answer"


def test_a_handler_may_close_the_client(new_client: NewClient) -> None:
    """F-73."""
    alice, bob = new_client("alice"), new_client("bob")
    lobby, of_bob = alice.join("lobby"), bob.join("lobby")
    closed = threading.Event()
    alice.on(ChannelMessageReceived, lambda event: (alice.close(), closed.set()))
    reading = in_thread(lambda: list(lobby))
    of_bob.send("go")
    assert closed.wait(PATIENCE_SECONDS)
    assert alice.state is DISCONNECTED
    assert len(reading()) <= 1


def test_a_handler_that_raises_is_logged_and_nothing_else(
    new_client: NewClient, caplog: pytest.LogCaptureFixture
) -> None:
    """S53, F-79."""
    alice, bob = new_client("alice"), new_client("bob")
    alice.join("lobby")
    of_bob = bob.join("lobby")
    seen: SimpleQueue[str] = SimpleQueue()

    def fail(event: ChannelMessageReceived) -> None:
        raise RuntimeError("a bug of the application")

    unsubscribe = alice.on(ChannelMessageReceived, fail)
    alice.on(ChannelMessageReceived, lambda event: seen.put(str(event.message)))
    of_bob.send("one")
    assert seen.get(timeout=PATIENCE_SECONDS) == "one"
    unsubscribe()
    unsubscribe()
    of_bob.send("two")
    assert seen.get(timeout=PATIENCE_SECONDS) == "two"
    assert caplog.text.count("RuntimeError: a bug") == 1
    assert alice.state is CONNECTED


def test_slow_handlers_delay_nothing_and_are_bounded(
    new_client: NewClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-25."""
    monkeypatch.setattr(_handlers, "MAX_WAITING_HANDLERS", 5)
    alice, bob = new_client("alice"), new_client("bob")
    lobby, of_bob = alice.join("lobby"), bob.join("lobby")
    entered, go_on = threading.Event(), threading.Event()
    seen: SimpleQueue[str] = SimpleQueue()

    def slow(event: ChannelMessageReceived) -> None:
        entered.set()
        go_on.wait(PATIENCE_SECONDS)
        seen.put(str(event.message))

    alice.on(ChannelMessageReceived, slow)
    of_bob.send("0")
    assert entered.wait(PATIENCE_SECONDS)
    messages = iter(lobby)
    for number in range(1, 20):
        of_bob.send(str(number))
    assert [int(next(messages).message) for _ in range(20)] == list(range(20))
    go_on.set()
    assert [seen.get(timeout=PATIENCE_SECONDS) for _ in range(6)] == ["0", "15", "16", "17", "18", "19"]
    assert caplog.text.count("handlers are too slow") == 1


def test_coroutine_functions_are_no_handlers(new_client: NewClient) -> None:
    async def handler(event: Any) -> None:
        """Never awaited here."""

    with pytest.raises(InvalidArgument, match="rtm_async"):
        new_client().on(MemberJoined, handler)


# --- TLS, and the ends of objects


def test_wss() -> None:
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with Server("localhost", authenticate=allow_any_uid, ssl=serving) as server:
        assert server.url == f"wss://localhost:{server.port}"
        with Client(server.url, ssl=trusting) as alice, Client(server.url, ssl=trusting) as bob:
            alice.login("alice")
            bob.login("bob")
            lobby = alice.join("lobby")
            bob.join("lobby").send("x" * 30_000)
            assert next(iter(lobby)).message == "x" * 30_000
        with Client(server.url) as stranger:
            with pytest.raises(LoginFailed) as caught:
                stranger.login("mallory")
            assert caught.value.code == "certificate_not_trusted"


def test_a_client_that_is_dropped_without_close_says_so_and_ends(server: Server) -> None:
    client = Client(server.url)
    client.login("alice")
    thread = client._runtime.driver._thread
    assert thread is not None
    with pytest.warns(ResourceWarning, match="alice"):  # noqa: PT031
        del client
        gc.collect()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_a_channel_keeps_its_client_alive(server: Server) -> None:
    client = Client(server.url)
    client.login("alice")
    lobby = client.join("lobby")
    del client
    gc.collect()
    assert lobby.send("still here").offset
    lobby._client.close()


def test_no_thread_and_no_socket_is_left(server: Server) -> None:
    for _ in range(5):
        with Client(server.url) as client:
            client.on(ConnectionStateChanged, lambda event: None)
            client.login("alice")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while [thread for thread in threading.enumerate() if thread.name.startswith(("rtm-client", "rtm-handlers"))]:
        assert time.monotonic() < deadline


def test_the_scaled_restart_of_a_server() -> None:
    """S17, S25: the client logs in anew by itself and rejoins."""
    port = unused_port()
    config, hub = ClientConfig().scaled(0.1), ServerConfig()
    with (
        Server(port=port, authenticate=allow_any_uid, config=hub) as server,
        Client(server.url, config=config) as client,
    ):
        client.login("alice")
        lobby = client.join("lobby")
        events = client.events()
        states = in_thread(lambda: [next(events).state for _ in range(4)])
        server.close()
        with Server(port=port, authenticate=allow_any_uid, config=hub) as second, Client(second.url) as other:
            assert states()[2:] == [ConnectionState.RECONNECTING, CONNECTED]
            other.login("bob")
            until(client, lambda: client.state is CONNECTED)
            other.join("lobby").send("after the restart")
            assert next(iter(lobby)).message == "after the restart"


def test_the_socket_of_a_client_is_not_used_by_two(new_client: NewClient) -> None:
    """The thread that calls never touches the socket."""
    client = new_client("alice")
    lobby = client.join("lobby")
    callers: set[str] = set()

    class Watched:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock

        def send(self, data: Any) -> int:
            callers.add(threading.current_thread().name)
            return self.sock.send(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

    def watch(now: float) -> None:
        for transport in client._runtime.driver._sockets._transports.values():
            transport.sock = Watched(transport.sock)  # type: ignore[assignment]

    client._runtime.driver.call(watch)
    for wait in [in_thread(lambda: lobby.send("x")) for _ in range(4)]:
        wait()
    assert callers == {"rtm-client-io"}


def test_an_iterator_may_be_closed_by_another_thread(new_client: NewClient) -> None:
    lobby = new_client("alice").join("lobby")
    messages = iter(lobby)
    reading = in_thread(lambda: list(messages))
    until(lobby._client, lambda: lobby._home.feed is not None)
    messages.close()
    assert reading() == []


def test_the_clients_own_events_have_a_bound_while_they_are_iterated() -> None:
    """S52: an iterator that stands still keeps the newest, and is told how many went before them."""
    home, feed = _homes.Home("", ClientConfig(max_queued_events=10)), SimpleQueue[Any]()
    home.start_iterating(feed)
    for number in range(100):
        home.put(ReconnectProblem(code=str(number), message=""))
        assert feed.qsize() <= 10
    events = [feed.get_nowait() for _ in range(feed.qsize())]
    assert isinstance(events[0], EventsDropped)
    newest = [int(event.code) for event in events[1:]]
    assert newest == list(range(events[0].count, 100))


def test_an_inbox_is_fed_whole_between_events_that_are_not() -> None:
    """S52: of the client's own events the oldest go, and no message; what the iterator has taken does not count."""
    home, feed = _homes.Home("", ClientConfig(max_queued_events=10)), SimpleQueue[Any]()
    home.start_iterating(feed)
    message = MessageReceived(uid="b", message="x", description="", offset=1, sent_at=0.0, kept=False)
    for number in range(100):
        home.put(message)
        home.put(ReconnectProblem(code=str(number), message=""))
        if number < 50:
            feed.get_nowait(), feed.get_nowait()
            home.others_taken += 1
    events = [feed.get_nowait() for _ in range(feed.qsize())]
    assert len([event for event in events if event is message]) == 50
    (dropped,) = [event for event in events if isinstance(event, EventsDropped)]
    kept = [int(event.code) for event in events if isinstance(event, ReconnectProblem)]
    assert kept == list(range(50 + dropped.count, 100))
    assert len(kept) < 10
    home.put(message)
    home.stop_iterating(0)
    assert home.queue.backlog == (1, 2)
    again = SimpleQueue[Any]()
    assert home.start_iterating(again) == (1, 2)
