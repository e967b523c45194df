"""``rtm_async.Client`` against ``rtm_async.Server``, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import rtm_async._handlers
import rtm_async.client
from rtm_async import Channel, Client, Server, allow_any_uid
from rtm_sansio.config import ClientConfig
from rtm_sansio.errors import (
    ChannelUnavailable,
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
    RequestTimeout,
    RtmError,
    SessionEnded,
)
from rtm_sansio.events import (
    ChannelLost,
    ChannelMessageReceived,
    ConnectionStateChanged,
    EventsDropped,
    MemberJoined,
    MemberLeft,
    MessageReceived,
    SendReceipt,
)
from rtm_sansio.states import ConnectionChangeReason, ConnectionState

DISCONNECTED, CONNECTED, ABORTED = (
    ConnectionState.DISCONNECTED,
    ConnectionState.CONNECTED,
    ConnectionState.ABORTED,
)
URL = "ws://127.0.0.1:1"


@contextlib.asynccontextmanager
async def logged_in(server: Server, *uids: str, **options: Any) -> AsyncIterator[list[Client]]:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(server.url, **options)) for _ in uids]
        for client, uid in zip(clients, uids, strict=True):
            await client.login(uid)
        yield clients


@contextlib.asynccontextmanager
async def talking(**options: Any) -> AsyncIterator[tuple[Server, Client, Client, Channel, Channel]]:
    """alice and bob in the lobby."""
    async with (
        Server(authenticate=allow_any_uid) as server,
        logged_in(server, "alice", "bob", **options) as (alice, bob),
    ):
        yield server, alice, bob, await alice.join("lobby"), await bob.join("lobby")


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}"


def abort_transport(client: Client) -> None:
    """A loud loss."""
    assert client._driver is not None
    for link in list(client._driver._alive):
        link.transport.abort()


async def collect(events: Any, count: int) -> list[Any]:
    collected = []
    async for event in events:
        collected.append(event)
        if len(collected) == count:
            break
    return collected


async def rest(events: Any) -> list[Any]:
    return [event async for event in events]


async def until_received(client: Client, receipt: SendReceipt) -> None:
    """Until this message of the lobby stands in the client's queue."""
    while (client._core.cursor("lobby") or 0) < receipt.offset:
        await asyncio.sleep(0)


# --- the plain course of things


def test_login_join_send_receive_logout(run: Any) -> None:
    """S3, S7, S34, S43"""

    async def scenario() -> None:
        async with talking() as (_, alice, _, at_alice, at_bob):
            assert (alice.state, alice.uid) == (CONNECTED, "alice")
            assert at_bob.name == "lobby"
            assert set(at_bob.receipt.members or ()) == {"alice", "bob"}
            receipt = await at_alice.send("hello")
            assert isinstance(receipt, SendReceipt)
            await at_alice.send(b"\x00\xff")
            first, second = await collect(at_bob, 2)
            assert (first.message, first.uid, first.offset) == ("hello", "alice", receipt.offset)
            assert second.message == b"\x00\xff"
            assert [event.uid for event in await collect(at_alice.events(), 1)] == ["bob"]
            await alice.logout()
            assert alice.state is DISCONNECTED
            left = (await collect(at_bob.events(), 1))[0]
            assert (type(left), left.uid) == (MemberLeft, "alice")
            changes = await rest(alice.events())
            assert [change.reason.value for change in changes] == ["LOGIN", "LOGIN_SUCCESS", "LOGOUT"]

    run(scenario())


def test_echo(run: Any) -> None:
    """S43"""

    async def scenario() -> None:
        async with Server(authenticate=allow_any_uid) as server, logged_in(server, "alice") as (alice,):
            lobby = await alice.join("lobby", echo=True)
            await lobby.send("me")
            assert (await collect(lobby, 1))[0].message == "me"

    run(scenario())


def test_sends_of_one_pass_leave_in_one_write(run: Any) -> None:
    async def scenario() -> None:
        async with talking() as (_, alice, _, at_alice, at_bob):
            assert alice._driver is not None
            (link,) = alice._driver._alive
            write, writes = link.write, []
            link.write = lambda data: (writes.append(data), write(data))[1]
            receipts = await asyncio.gather(*(at_alice.send(str(number)) for number in range(50)))
            assert len(writes) == 1
            assert [receipt.offset for receipt in receipts] == sorted(receipt.offset for receipt in receipts)
            assert [event.message for event in await collect(at_bob, 50)] == [str(number) for number in range(50)]
            link.write = write

    run(scenario())


def test_an_interruption_ends_nothing(run: Any) -> None:
    """S12, S23: neither an iterator nor the state."""

    async def scenario() -> None:
        async with talking() as (_, alice, bob, at_alice, at_bob):
            messages = aiter(at_bob)
            await at_alice.send("before")
            assert (await anext(messages)).message == "before"
            abort_transport(bob)
            abort_transport(alice)
            await at_alice.send("after")
            assert (await anext(messages)).message == "after"
            for client in (alice, bob):
                await client.logout()
                changes = await rest(client.events())
                assert [change.reason.value for change in changes] == ["LOGIN", "LOGIN_SUCCESS", "LOGOUT"]

    run(scenario())


# --- login


def test_login_is_refused(run: Any) -> None:
    """S6"""

    async def scenario() -> None:
        async with Server(authenticate=lambda login: login.token == "good") as server, Client(server.url) as client:
            with pytest.raises(LoginFailed) as caught:
                await client.login("alice", "bad")
            assert caught.value.code == "bad_token"
            assert client.state is DISCONNECTED
            await client.login("alice", "good")

    run(scenario())


def test_login_without_a_server(run: Any) -> None:
    """F-13, S5"""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        async with Client(url, config=ClientConfig().scaled(0.05)) as client:
            with pytest.raises(LoginTimeout) as caught:
                await client.login("alice")
            assert caught.value.last_cause == "connection_refused"
            assert caught.value.attempts > 1
            assert isinstance(caught.value, TimeoutError)

    run(scenario())


def test_login_timeout_of_the_call(run: Any) -> None:
    async def scenario() -> None:
        with silent_server() as url:
            async with Client(url) as client:
                with pytest.raises(LoginTimeout):
                    await client.login("alice", timeout=0.05)
                assert client.state is DISCONNECTED
                changes = await rest(client.events())
                assert changes[-1].reason is ConnectionChangeReason.LOGOUT

    run(scenario())


def test_login_twice(run: Any) -> None:
    """S4"""

    async def scenario() -> None:
        async with Server(authenticate=allow_any_uid) as server, logged_in(server, "alice") as (alice,):
            with pytest.raises(InvalidState, match="CONNECTED"):
                await alice.login("alice")
            await alice.logout()
            with pytest.raises(NotLoggedIn):
                await alice.logout()

    run(scenario())


def test_logout_during_login_ends_it(run: Any) -> None:
    """S7"""

    async def scenario() -> None:
        with silent_server() as url:
            async with Client(url) as client:
                login = asyncio.ensure_future(client.login("alice"))
                await collect(client.events(), 1)
                await client.logout()
                with pytest.raises(LoginFailed):
                    await login

    run(scenario())


# --- cancellation


def test_login_is_cancelled_at_each_step(run: Any) -> None:
    """S3, S54, F-71, F-72"""

    async def scenario() -> None:
        async with Server(authenticate=allow_any_uid) as server, Client(server.url) as client:
            for steps in range(60):
                login = asyncio.ensure_future(client.login("alice"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                if not login.cancel():
                    await client.logout()
                    continue
                with pytest.raises(asyncio.CancelledError):
                    await login
                assert client.state is DISCONNECTED, steps
            await client.login("alice")
            await (await client.join("lobby")).send("works")

    run(scenario())


def test_join_send_and_leave_are_cancelled_at_each_step(run: Any) -> None:
    """S54: whatever became of the cancelled call, the next ones work."""

    async def scenario() -> None:
        async with Server(authenticate=allow_any_uid) as server, logged_in(server, "alice") as (alice,):
            for steps in range(25):
                join = asyncio.ensure_future(alice.join("lobby"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                if join.cancel():
                    with pytest.raises(asyncio.CancelledError):
                        await join
                    lobby = await alice.join("lobby")
                else:
                    lobby = await join
                send = asyncio.ensure_future(lobby.send("x"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                send.cancel()
                await asyncio.wait([send])
                await lobby.send("y")
                leave = asyncio.ensure_future(lobby.leave())
                for _ in range(steps + 1):
                    await asyncio.sleep(0)
                leave.cancel()
                await asyncio.wait([leave])
                assert not lobby.joined
                assert alice._calls._open == {}

    run(scenario())


def test_a_cancelled_join_that_had_succeeded_is_taken_back(run: Any) -> None:
    async def scenario() -> None:
        async with talking() as (_, alice, bob, _, _):
            hall = await alice.join("hall")
            events = aiter(hall.events())
            join = asyncio.ensure_future(bob.join("hall"))
            while "hall" not in bob._homes.by_name:
                await asyncio.sleep(0)
            join.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await join
            if join.cancelled():  # it may have been just in time
                assert [type(await anext(events)), type(await anext(events))] == [MemberJoined, MemberLeft]
                assert "hall" not in bob._homes.by_name

    run(scenario())


def test_a_cancelled_step_of_an_iterator_loses_nothing(run: Any) -> None:
    async def scenario() -> None:
        async with talking() as (_, _, _, at_alice, at_bob):
            messages = aiter(at_bob)
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(messages), 0.001)
            await at_alice.send("here")
            assert (await anext(messages)).message == "here"

    run(scenario())


# --- iterators


def test_one_iterator_at_a_time(run: Any) -> None:
    """S52"""

    async def scenario() -> None:
        async with talking() as (_, alice, _, at_alice, at_bob):
            await at_alice.send("1")
            await at_alice.send("2")
            events = at_bob.events()
            assert (await anext(events)).message == "1"
            with pytest.raises(InvalidState):
                await anext(aiter(at_bob))
            await events.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(events)
            async for message in at_bob:
                assert message.message == "2"
                break  # which ends it at once
            waiting = asyncio.ensure_future(anext(aiter(at_bob)))
            await asyncio.sleep(0)
            await at_alice.send("3")
            assert (await waiting).message == "3"
            assert (await collect(alice.events(), 2))[1].state is CONNECTED

    run(scenario())


def test_an_iterator_in_two_tasks(run: Any) -> None:
    async def scenario() -> None:
        async with talking() as (_, _, _, _, at_bob):
            messages = aiter(at_bob)
            first = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0)
            with pytest.raises(InvalidState, match="another task"):
                await anext(messages)
            await messages.aclose()
            with pytest.raises(StopAsyncIteration):
                await first

    run(scenario())


def test_leave_ends_the_channels_iterators(run: Any) -> None:
    """S44"""

    async def scenario() -> None:
        async with talking() as (_, _, bob, at_alice, at_bob):
            await at_alice.send("1")
            receipt = await at_alice.send("2")
            messages = aiter(at_bob)
            await anext(messages)
            await until_received(bob, receipt)
            events = at_alice.events()
            following = asyncio.ensure_future(collect(events, 4))
            await at_bob.leave()
            assert [message.message for message in await rest(messages)] == ["2"], "what had come is still there"
            assert not at_bob.joined
            with pytest.raises(NotJoined):
                await at_bob.send("x")
            with pytest.raises(NotJoined):
                await at_bob.leave()
            again = await bob.join("lobby")
            assert again is not at_bob
            with pytest.raises(NotJoined):
                await at_bob.send("x")
            await again.send("back")
            kinds = [type(event) for event in await following]
            assert kinds == [MemberJoined, MemberLeft, MemberJoined, ChannelMessageReceived]
            waiting = asyncio.ensure_future(rest(events))
            await asyncio.sleep(0)
            await at_alice.leave()
            assert await waiting == []

    run(scenario())


def test_logout_ends_all_iterators_and_a_new_login_begins_anew(run: Any) -> None:
    async def scenario() -> None:
        async with talking() as (_, alice, _, at_alice, _):
            messages = asyncio.ensure_future(rest(at_alice))
            states = asyncio.ensure_future(rest(alice.events()))
            await asyncio.sleep(0)
            await alice.logout()
            assert await messages == []
            assert [change.state for change in await states][-1] is DISCONNECTED
            with pytest.raises(NotConnected):
                await at_alice.send("x")
            await alice.login("alice")
            new = await alice.join("lobby")
            with pytest.raises(NotJoined):
                await at_alice.send("x")
            await new.send("x")
            assert [change.state.value for change in await collect(alice.events(), 2)] == ["CONNECTING", "CONNECTED"]

    run(scenario())


def test_aborted(run: Any) -> None:
    """S8, S30: the other instance wins; iterators raise, and logout and login work again."""

    async def scenario() -> None:
        async with talking() as (server, alice, _, at_alice, _):
            messages = asyncio.ensure_future(rest(at_alice))
            states = asyncio.ensure_future(rest(alice.events()))
            await asyncio.sleep(0)
            async with logged_in(server, "alice"):
                for iteration in (messages, states):
                    with pytest.raises(SessionEnded) as caught:
                        await iteration
                    assert caught.value.code == "remote_login"
            assert alice.state is ABORTED
            with pytest.raises(NotConnected):
                await at_alice.send("x")
            with pytest.raises(InvalidState, match="logout"):
                await alice.login("alice")
            await alice.logout()
            await alice.login("alice")
            await (await alice.join("lobby")).send("again")

    run(scenario())


def test_a_lost_channel(run: Any) -> None:
    """S44: the connection stays, the channel's iterator raises behind the event."""

    async def scenario() -> None:
        async with talking() as (_, alice, _, at_alice, _):
            events = at_alice.events()
            assert type(await anext(events)) is MemberJoined
            lost = ChannelLost(channel="lobby", code="not_a_member", message="no more")
            alice._take(lost)
            assert await anext(events) is lost
            with pytest.raises(ChannelUnavailable) as caught:
                await anext(events)
            assert caught.value.code == "not_a_member"
            with pytest.raises(StopAsyncIteration):
                await anext(events)
            assert alice.state is CONNECTED
            with pytest.raises(NotJoined):
                await at_alice.send("x")

    run(scenario())


def test_a_queue_that_nobody_iterates_says_what_it_dropped(run: Any) -> None:
    """S52, F-80"""

    async def scenario() -> None:
        async with talking(config=ClientConfig(max_uniterated_events=10)) as (_, _, bob, at_alice, at_bob):
            for number in range(25):
                receipt = await at_alice.send(str(number))
            await until_received(bob, receipt)
            events = await collect(at_bob.events(), 11)
            assert events[0] == EventsDropped(home="lobby", count=15)
            assert [event.message for event in events[1:]] == [str(number) for number in range(15, 25)]

    run(scenario())


def test_messages_to_users(run: Any) -> None:
    """S36, S56: where each went, with what there is to it; to an iterator and to handlers."""

    async def scenario() -> None:
        async with Server(authenticate=allow_any_uid) as server, logged_in(server, "alice", "bob") as (alice, bob):
            handled: asyncio.Queue[Any] = asyncio.Queue()
            alice.on(MessageReceived, handled.put_nowait)
            delivery = await bob.send_to_peer("alice", "hi", description="about")
            assert (delivery.received, delivery.kept) == (True, False)
            assert (await bob.send_to_peer("alice", b"\x00", timeout=5.0)).received
            text, data = await collect(peer_messages(alice), 2)
            assert (text.uid, text.message, text.description, text.kept) == ("bob", "hi", "about", False)
            assert (data.message, data.sent_at > 0) == (b"\x00", True)
            assert [await handled.get(), await handled.get()] == [text, data]
            await alice.logout()
            assert not (await bob.send_to_peer("alice", "x")).kept
            assert (await bob.send_to_peer("alice", "kept", offline=True)).kept
            await alice.login("alice")
            (kept,) = await collect(peer_messages(alice), 1)
            assert (kept.message, kept.kept) == ("kept", True)

    run(scenario())


async def peer_messages(client: Client) -> AsyncIterator[Any]:
    """The messages of users."""
    async for event in client.events():
        if isinstance(event, MessageReceived):
            yield event


def test_a_slow_reader_of_an_inbox_gets_everything(run: Any) -> None:
    """S52: it is held and goes on, though the iteration began before the login; a channel is not held up."""

    async def scenario() -> None:
        config = ClientConfig(max_queued_events=8)
        async with (
            Server(authenticate=allow_any_uid) as server,
            logged_in(server, "bob") as (bob,),
            Client(server.url, config=config) as alice,
        ):
            messages = peer_messages(alice)
            reading = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0)
            await alice.login("alice")
            lobby, of_bob = await alice.join("lobby"), await bob.join("lobby")
            await bob.send_to_peer("alice", "first")
            assert (await reading).message == "first"
            for number in range(200):
                await bob.send_to_peer("alice", str(number))
            await of_bob.send("not held up")
            assert (await collect(lobby, 1))[0].message == "not held up"
            reader = alice._core._channels._inbox
            assert reader is not None
            assert reader.cursor < 30
            received = await collect(messages, 200)
            assert [message.message for message in received] == [str(number) for number in range(200)]
            await messages.aclose()

    run(scenario())


def test_an_iteration_of_a_session_that_has_ended(run: Any) -> None:
    """S52: says so, and is none of the next session's."""

    async def scenario() -> None:
        async with Server(authenticate=allow_any_uid) as server, logged_in(server, "alice", "bob") as (alice, bob):
            await alice.logout()
            assert [event async for event in alice.events()][-1].state is DISCONNECTED
            await alice.login("alice")
            await asyncio.sleep(0)
            await bob.send_to_peer("alice", "x")
            assert not alice._core._channels._iterated

    run(scenario())


def test_messages_show_what_was_dropped_before_them(run: Any) -> None:
    """S52: also where only messages are asked for, and if the first iteration ends before there is one."""

    async def scenario() -> None:
        config = ClientConfig(max_uniterated_events=3)
        async with talking(config=config) as (_, alice, bob, at_alice, at_bob):
            for number in range(8):
                receipt = await at_alice.send(str(number))
            await until_received(bob, receipt)
            (message,) = await collect(at_bob, 1)
            assert (message.message, message.lost_before) == ("5", 5)
            assert [(one.message, one.lost_before) for one in await collect(at_bob, 2)] == [("6", 0), ("7", 0)]

            await at_alice.leave()
            for _ in range(3):  # joins and leaves: events that are no messages
                again = await alice.join("lobby")
                await again.leave()
            receipt = await (await alice.join("lobby")).send("last")
            await until_received(bob, receipt)
            assert len(at_bob._home.queue) == 4
            at_bob._home.queue._events.pop()  # so that no message comes behind the joins and leaves
            messages = aiter(at_bob)
            waiting = asyncio.ensure_future(anext(messages))
            while at_bob._home.waiter is None:
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await messages.aclose()
            assert (await collect(at_bob.events(), 1)) == [EventsDropped(home="lobby", count=6)]

    run(scenario())


def test_an_iterated_queue_is_lossless_however_slow(run: Any) -> None:
    """S52: the log is held at the queue's bound, and goes on from the cursor."""

    async def scenario() -> None:
        config = ClientConfig(max_queued_events=64, max_uniterated_events=8)
        async with talking(config=config) as (_, _, _, at_alice, at_bob):
            messages = aiter(at_bob)
            reading = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0)
            await asyncio.gather(*(at_alice.send(str(number)) for number in range(400)))
            received = [await reading, *(await collect(messages, 399))]
            assert [message.message for message in received] == [str(number) for number in range(400)]
            assert all(message.lost_before == 0 for message in received)

    run(scenario())


# --- requests


def test_send_waits_while_too_many_requests_are_unanswered(run: Any) -> None:
    """S35, F-58"""

    async def scenario() -> None:
        config = ClientConfig(max_unanswered_requests=4)
        async with talking(config=config) as (_, alice, _, at_alice, at_bob):
            sends = [asyncio.ensure_future(at_alice.send(str(number))) for number in range(100)]
            await asyncio.sleep(0)
            for number in (10, 50, 99):
                sends[number].cancel()
            ends = await asyncio.gather(*sends, return_exceptions=True)
            assert sum(isinstance(end, asyncio.CancelledError) for end in ends) == 3
            offsets = [end.offset for end in ends if isinstance(end, SendReceipt)]
            assert offsets == sorted(offsets), "in the order of the calls"
            assert len(offsets) == 97
            assert not alice._calls._room
            sent = [str(number) for number in range(100) if number not in (10, 50, 99)]
            assert [message.message for message in await collect(at_bob, 97)] == sent

    run(scenario())


def test_waiting_for_room_has_its_time(run: Any) -> None:
    async def scenario() -> None:
        config = ClientConfig(max_unanswered_requests=2)
        async with talking(config=config) as (server, _, _, at_alice, _):
            assert server._driver is not None
            for link in server._driver._alive:
                link.transport.pause_reading()
            sends = [asyncio.ensure_future(at_alice.send("x")) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(RequestTimeout) as caught:
                await at_alice.send("y", timeout=0.02)
            assert caught.value.outcome is Outcome.NOT_SENT
            with pytest.raises(InvalidArgument):
                await at_alice.send("y", timeout=-1)
            waiting = asyncio.ensure_future(at_alice.send("z"))
            await asyncio.sleep(0)
            for link in server._driver._alive:
                link.transport.resume_reading()
            await asyncio.gather(*sends, waiting)

    run(scenario())


def test_room_is_given_in_order_and_as_soon_as_there_is_any(run: Any) -> None:
    """S35: also when the answer that makes room is to a call that nobody waits for any more."""

    async def scenario() -> None:
        config = ClientConfig(max_unanswered_requests=2)
        async with talking(config=config) as (server, alice, _, at_alice, at_bob):
            assert server._driver is not None
            for link in server._driver._alive:
                link.transport.pause_reading()
            sends = [asyncio.ensure_future(at_alice.send(str(number))) for number in range(2)]
            requests = alice._core._conversation._requests
            while [one.transmitted for one in requests] != [True, True]:
                await asyncio.sleep(0)  # until they are on their way
            waiting = [asyncio.ensure_future(at_alice.send(str(number), timeout=20)) for number in range(2, 6)]
            await asyncio.sleep(0)
            for send in sends:
                send.cancel()
            waiting[1].cancel()
            await asyncio.wait([*sends, waiting[1]])
            started = time.monotonic()
            for link in server._driver._alive:
                link.transport.resume_reading()
            await asyncio.gather(*sends, *waiting, return_exceptions=True)
            assert time.monotonic() - started < 5
            assert [one.message for one in await collect(at_bob, 5)] == ["0", "1", "2", "4", "5"]

    run(scenario())


def test_request_timeout(run: Any) -> None:
    """S9"""

    async def scenario() -> None:
        async with talking() as (server, _, _, at_alice, _):
            assert server._driver is not None
            for link in server._driver._alive:
                link.transport.pause_reading()
            with pytest.raises(RequestTimeout) as caught:
                await at_alice.send("x", timeout=0.02)
            assert caught.value.outcome is Outcome.UNKNOWN
            for link in server._driver._alive:
                link.transport.resume_reading()
            await at_alice.send("y")

    run(scenario())


def test_misuse_raises_at_the_call(run: Any) -> None:
    """S37"""

    async def scenario() -> None:
        async with talking() as (_, alice, _, at_alice, _):
            for call in (
                lambda: alice.join("lobby"),
                lambda: alice.join("ü"),
                lambda: at_alice.send(bytes(40_000)),
                lambda: at_alice.send(7),  # type: ignore[arg-type]
                lambda: at_alice.send("x", timeout=0),
                lambda: alice.logout(timeout=-1),
            ):
                with pytest.raises((InvalidArgument, InvalidState)):
                    await call()
            await at_alice.send("fine")

    run(scenario())


# --- tokens


def test_a_token_provider(run: Any) -> None:
    """S27: called off the loop."""
    threads = []

    def provider() -> str:
        threads.append(threading.current_thread())
        return "good"

    async def scenario() -> None:
        async with Server(authenticate=lambda login: login.token == "good") as server, Client(server.url) as client:
            await client.login("alice", provider)
            assert threads
            assert threads[0] is not threading.main_thread()

    run(scenario())


def test_a_token_provider_that_fails(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """F-54"""
    caplog.set_level(logging.DEBUG, "rtm")
    answers: Any = [KeyError("secret"), 7, ""]

    def provider() -> str:
        answer = answers[0] if len(answers) == 1 else answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    async def scenario() -> None:
        async with (
            Server(authenticate=allow_any_uid) as server,
            Client(server.url, config=ClientConfig().scaled(0.1)) as client,
        ):
            with pytest.raises(LoginTimeout) as caught:
                await client.login("alice", provider)
            assert caught.value.last_cause == "token_provider_failed"

    run(scenario())
    assert "secret" not in caplog.text


def test_what_a_provider_raises_is_told_once(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """F-54: by its class and its traceback, never with its text; and a login's own timeout names it as the cause."""
    secret = "a-very-secret-token"

    def provider() -> str:
        raise KeyError(secret)

    async def scenario() -> None:
        config = ClientConfig().scaled(0.1)
        async with Server(authenticate=allow_any_uid) as server, Client(server.url, config=config) as client:
            with pytest.raises(LoginTimeout, match="token provider raised KeyError") as caught:
                await client.login("alice", provider, timeout=0.4)
            assert caught.value.last_cause == "token_provider_failed"
            assert isinstance(caught.value.__cause__, RtmError)
            assert isinstance(caught.value.__cause__.__cause__, KeyError)

    run(scenario())
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.name == "rtm"
    assert "KeyError" in record.getMessage()
    assert "in provider" in record.getMessage()
    assert secret not in caplog.text


def test_the_cause_of_a_login_timeout_of_the_call(run: Any) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        async with Client(url) as client:
            with pytest.raises(LoginTimeout, match="connection refused") as caught:
                await client.login("alice", timeout=0.3)
            assert caught.value.last_cause == "connection_refused"
            assert caught.value.attempts >= 1

    run(scenario())


def test_what_is_no_token(run: Any) -> None:
    async def provider() -> str:
        return ""

    class Provider:
        async def __call__(self) -> str:
            return ""

    async def scenario() -> None:
        async with Client(URL) as client:
            for token in (7, provider, Provider()):
                with pytest.raises(InvalidArgument, match="token"):
                    await client.login("alice", token)  # type: ignore[arg-type]
            assert client.state is DISCONNECTED

    run(scenario())


def test_renew_token(run: Any) -> None:
    """S28"""

    async def scenario() -> None:
        async with (
            Server(authenticate=lambda login: login.token.startswith("good")) as server,
            Client(server.url) as client,
        ):
            await client.login("alice", "good")
            assert (await client.renew_token("good 2")).expires_in is None
            with pytest.raises(RtmError) as caught:
                await client.renew_token("bad")
            assert caught.value.code == "bad_token"
            assert client.state is CONNECTED
            assert server._driver is not None
            for link in server._driver._alive:
                link.transport.pause_reading()
            with pytest.raises(RequestTimeout):
                await client.renew_token("good 3", timeout=0.02)
            for link in server._driver._alive:
                link.transport.resume_reading()

    run(scenario())


def test_retry_now_may_be_awaited(run: Any) -> None:
    """S16"""

    async def scenario() -> None:
        async with Server(authenticate=allow_any_uid) as server, logged_in(server, "alice") as (alice,):
            alice.retry_now()
            await alice.retry_now()
            await alice.logout()
            with pytest.raises(InvalidState):
                await alice.retry_now()

    run(scenario())


# --- handlers


def test_handlers(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """S53, S54, F-79: in order, coroutines awaited, faults logged, the client at hand."""

    async def scenario() -> None:
        async with talking() as (_, alice, bob, at_alice, at_bob):
            seen: list[Any] = []
            done = asyncio.Event()

            def fail(event: ChannelMessageReceived) -> None:
                raise ZeroDivisionError

            async def answer(event: ChannelMessageReceived) -> None:
                await at_bob.send(f"re: {event.message}")
                seen.append(("answer", event.message))

            async def give_up(event: ChannelMessageReceived) -> None:
                raise asyncio.CancelledError

            def note(event: ChannelMessageReceived) -> None:
                seen.append(("note", event.message))
                if event.message == "2":
                    done.set()

            bob.on(ChannelMessageReceived, fail)
            bob.on(ChannelMessageReceived, give_up)
            stop_answering = bob.on(ChannelMessageReceived, answer)
            bob.on(ChannelMessageReceived, note)
            await at_alice.send("1")
            replies = aiter(at_alice)
            assert (await anext(replies)).message == "re: 1"
            stop_answering()
            stop_answering()
            await at_alice.send("2")
            await done.wait()
            assert seen == [("answer", "1"), ("note", "1"), ("note", "2")]
            for nonsense in (int, RtmError, "ChannelLost"):
                with pytest.raises(InvalidArgument):
                    alice.on(nonsense, print)  # type: ignore[arg-type]
            with pytest.raises(InvalidArgument):
                alice.on(MemberLeft, 7)  # type: ignore[arg-type]

    run(scenario())
    faults = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert sum("raised" in fault for fault in faults) == 2
    assert sum("cancellation" in fault for fault in faults) == 2


def test_handlers_see_the_last_state(run: Any) -> None:
    async def scenario() -> None:
        seen = []
        async with Server(authenticate=allow_any_uid) as server:
            client = Client(server.url)
            client.on(ConnectionStateChanged, lambda change: seen.append(change.reason.value))
            await client.login("alice")
            await client.close()
            assert seen == ["LOGIN", "LOGIN_SUCCESS", "LOGOUT"]

    run(scenario())


def test_a_handler_closes_the_client(run: Any) -> None:
    """F-73"""

    async def scenario() -> None:
        async with talking() as (_, _, bob, at_alice, at_bob):
            closed = asyncio.Event()

            async def close(event: ChannelMessageReceived) -> None:
                await bob.close()
                closed.set()

            bob.on(ChannelMessageReceived, close)
            following = asyncio.ensure_future(rest(at_bob.events()))
            await at_alice.send("x")
            await closed.wait()
            assert bob.state is DISCONNECTED
            await following

    run(scenario())


def test_a_handler_that_hangs_does_not_hold_up_close(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with talking() as (_, _, bob, at_alice, _):
            begun = asyncio.Event()

            async def hang(event: ChannelMessageReceived) -> None:
                begun.set()
                await asyncio.Event().wait()

            bob.on(ChannelMessageReceived, hang)
            await at_alice.send("x")
            await begun.wait()
            started = time.monotonic()
            await bob.close()
            assert time.monotonic() - started < 5

    monkeypatch.setattr(rtm_async.client, "LINGER_SECONDS", 0.2)
    run(scenario())


def test_too_many_events_for_a_handler(
    run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rtm_async._handlers, "MAX_HANDLER_BACKLOG", 5)

    async def scenario() -> None:
        async with talking() as (_, _, bob, at_alice, _):
            seen: list[Any] = []
            go_on, done = asyncio.Event(), asyncio.Event()

            async def slow(event: ChannelMessageReceived) -> None:
                seen.append(event.message)
                await go_on.wait()
                if event.message == "19":
                    done.set()

            bob.on(ChannelMessageReceived, slow)
            for number in range(20):
                receipt = await at_alice.send(str(number))
            await until_received(bob, receipt)
            go_on.set()
            await done.wait()
            assert seen == ["0", *(str(number) for number in range(15, 20))]

    run(scenario())
    assert len([record for record in caplog.records if "too slow" in record.getMessage()]) == 1


# --- close


def test_close_ends_calls_and_iterators(run: Any) -> None:
    """F-74"""

    async def scenario() -> None:
        async with talking(config=ClientConfig(max_unanswered_requests=1)) as (server, alice, _, at_alice, _):
            assert server._driver is not None
            iterations = [asyncio.ensure_future(rest(at_alice)), asyncio.ensure_future(rest(alice.events()))]
            await asyncio.sleep(0)
            for link in server._driver._alive:
                link.transport.pause_reading()
            sends = [asyncio.ensure_future(at_alice.send("x")) for _ in range(3)]
            await asyncio.sleep(0)
            closing = asyncio.ensure_future(alice.close())
            await asyncio.sleep(0)
            for link in server._driver._alive:
                link.transport.resume_reading()
            ends = await asyncio.gather(*sends, return_exceptions=True)
            assert [type(end) for end in ends] == [RequestAbandoned] * 3
            assert [(end.code, end.outcome) for end in ends] == [  # type: ignore[union-attr]
                ("logged_out", Outcome.UNKNOWN),
                ("logged_out", Outcome.NOT_SENT),
                ("logged_out", Outcome.NOT_SENT),
            ]
            await asyncio.gather(*iterations)
            await asyncio.gather(alice.close(), closing, alice.close())
            assert alice.state is DISCONNECTED
            for call in (alice.login, alice.join):
                with pytest.raises(ClientClosed):
                    await call("alice")
            with pytest.raises(ClientClosed):
                await at_alice.send("x")
            with pytest.raises(ClientClosed):
                alice.retry_now()

    run(scenario())


def test_close_during_login(run: Any) -> None:
    async def scenario() -> None:
        with silent_server() as url:
            client = Client(url)
            login = asyncio.ensure_future(client.login("alice"))
            await collect(client.events(), 1)
            await client.close()
            with pytest.raises(LoginFailed):
                await login

    run(scenario())


def test_close_with_a_server_that_is_dead(run: Any) -> None:
    """S7: at most about 2 s."""

    async def scenario() -> None:
        async with Server(authenticate=allow_any_uid) as server:
            client = Client(server.url)
            await client.login("alice")
            assert server._driver is not None
            for link in server._driver._alive:
                link.transport.pause_reading()
            started = time.monotonic()
            await client.close()
            assert 1.5 < time.monotonic() - started < 4

    run(scenario())


def test_close_of_a_client_never_used(run: Any) -> None:
    async def scenario() -> None:
        client = Client(URL)
        await client.close()
        await client.close()
        with pytest.raises(ClientClosed):
            await client.login("alice")
        with pytest.raises(ClientClosed):
            await rest(client.events())

    run(scenario())


def test_close_is_cancelled(run: Any) -> None:
    """F-70: everything is let go at once then."""

    async def scenario() -> None:
        async with Server(authenticate=allow_any_uid) as server:
            for steps in range(12):
                client = Client(server.url)
                await client.login("alice")
                closing = asyncio.ensure_future(client.close())
                for _ in range(steps):
                    await asyncio.sleep(0)
                closing.cancel()
                await asyncio.wait([closing])
                if steps:
                    with pytest.raises(ClientClosed):
                        await client.login("alice")
                else:
                    await client.close()  # it had not begun

    run(scenario())


# --- where it may be used


def test_another_loop_or_thread(run: Any) -> None:
    """F-77"""

    async def scenario() -> None:
        async with talking() as (_, alice, _, at_alice, _):
            faults: list[BaseException] = []

            def elsewhere() -> None:
                for call in (lambda: at_alice.send("x"), alice.logout, alice.close, lambda: anext(aiter(at_alice))):
                    try:
                        asyncio.run(as_coroutine(call))
                    except InvalidState as fault:
                        faults.append(fault)
                try:
                    alice.retry_now()
                except InvalidState as fault:
                    faults.append(fault)

            async def as_coroutine(call: Any) -> Any:
                return await call()

            await asyncio.get_running_loop().run_in_executor(None, elsewhere)
            assert len(faults) == 5
            await at_alice.send("unharmed")

    run(scenario())


def test_what_can_never_work() -> None:
    for arguments, options in (
        (("http://x",), {}),
        (([],), {}),
        ((URL,), {"ssl": object()}),
    ):
        with pytest.raises(ConfigError):
            Client(*arguments, **options)  # type: ignore[arg-type]
    import ssl

    with pytest.raises(ConfigError, match="encrypted"):
        Client(URL, ssl=ssl.create_default_context())
    assert "DISCONNECTED" in repr(Client(URL))


def python(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    # The tests' own process may have the packages only through its path.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
        check=False,
    )


PRELUDE = """
import asyncio, gc, os, sys, threading, warnings
from rtm_async import Client, Server, allow_any_uid
"""


def test_a_client_that_was_not_closed_warns_once() -> None:
    """F-76: and says nothing of a closed loop."""
    ended = python(
        PRELUDE
        + """
async def main():
    server = Server(authenticate=allow_any_uid)
    await server.start()
    client = Client(server.url)
    await client.login("alice")
    await client.join("lobby")
    return client, server
client, server = asyncio.run(main())
del client
gc.collect()
print("alive")
""",
        "-W",
        "always",
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "alive\n"
    assert ended.stderr.count("Client uid='alice' CONNECTED> was not closed") == 1
    assert "Traceback" not in ended.stderr
    assert "loop is closed" not in ended.stderr


def test_without_warnings_nothing_is_said() -> None:
    ended = python(
        PRELUDE
        + """
async def main():
    server = Server(authenticate=allow_any_uid)
    await server.start()
    client = Client(server.url)
    await client.login("alice", lambda: "token")
    channel = await client.join("lobby")
    asyncio.ensure_future(anext(aiter(channel)))
    await asyncio.sleep(0)
asyncio.run(main())
"""
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_a_token_provider_that_hangs_does_not_hold_up_the_exit() -> None:
    """F-54, F-81"""
    ended = python(
        PRELUDE
        + """
async def main():
    async with Server(authenticate=allow_any_uid) as server, Client(server.url) as client:
        try:
            await client.login("alice", threading.Event().wait, timeout=0.2)
        except TimeoutError as error:
            print(error.code)
asyncio.run(main())
"""
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "login_timeout\n", "")


def test_after_a_fork() -> None:
    """F-78: the child's calls raise, and the parent's connection goes on."""
    ended = python(
        PRELUDE
        + """
warnings.simplefilter("ignore")
async def main():
    async with Server(authenticate=allow_any_uid) as server:
        client = Client(server.url)
        await client.login("alice")
        channel = await client.join("lobby")
        pid = os.fork()
        if not pid:
            codes = []
            for call in (client.logout, lambda: channel.send("x"), client.close, lambda: client.join("y")):
                async def work(call=call):
                    await call()
                coroutine = work()
                try:
                    coroutine.send(None)
                except RuntimeError as error:
                    codes.append(getattr(error, "code", repr(error)))
                except BaseException as error:
                    codes.append(repr(error))
            del client, channel
            gc.collect()
            os._exit(0 if codes == ["invalid_state"] * 4 else 1)
        ended = await asyncio.get_running_loop().run_in_executor(None, os.waitpid, pid, 0)
        print(os.waitstatus_to_exitcode(ended[1]), (await channel.send("on")).offset > 0, client.state.value)
        await client.close()
asyncio.run(main())
"""
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "0 True CONNECTED\n", "")


def test_ctrl_c() -> None:
    """F-68, F-70: KeyboardInterrupt comes through, and the context managers close everything."""
    ended = python(
        PRELUDE
        + """
import signal
async def main():
    async with Server(authenticate=allow_any_uid) as server, Client(server.url) as client:
        await client.login("alice")
        channel = await client.join("lobby")
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        async for message in channel:
            pass
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
""",
        "-W",
        "error",
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted\n", "")
