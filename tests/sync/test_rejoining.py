"""Applications that leave, rejoin and log in anew in the middle of handling an event (F-32).

Nothing stands still, nothing is lost, and nothing comes twice: a position has moved before the event is handed out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from rtm_sansio.events import ChannelMessageReceived, ConnectionStateChanged, MemberJoined, MemberLeft
from rtm_sansio.states import ConnectionState
from rtm_sync import Channel, Client
from sync.fakes import PATIENCE_SECONDS, cut, in_thread, until

NewClient = Callable[..., Client]

FIRST, SECOND = [str(number) for number in range(20)], [str(number) for number in range(20, 40)]
TURN = "5"
"""The message at which the application does it."""


def send_all(of_bob: Channel, texts: list[str]) -> int:
    """Returns the last one's offset."""
    return [of_bob.send(text).offset for text in texts][-1]


def until_received(client: Client, offset: int) -> None:
    until(client, lambda: (client._runtime.core.cursor("lobby") or 0) >= offset)


def until_back(of_bob: Channel) -> None:
    """Until alice has left and joined again."""
    seen: list[type] = []
    with of_bob.events() as events:
        for event in events:
            if isinstance(event, (MemberLeft, MemberJoined)) and event.uid == "alice":
                seen.append(type(event))
                if seen[-2:] == [MemberLeft, MemberJoined]:
                    return


each_link = pytest.mark.parametrize("link", ["up", "cut"])


@each_link
def test_the_thread_that_iterates(new_client: NewClient, link: str) -> None:
    """F-32, S42, S44: what was received before it left is still handed out, once; behind it, what the new Channel
    gets."""
    alice, bob = new_client("alice"), new_client("bob")
    lobby, of_bob = alice.join("lobby"), bob.join("lobby")

    def read() -> list[Any]:
        seen: list[Any] = []
        again = lobby
        for message in lobby:
            seen.append(message.message)
            if message.message == TURN:
                if link == "cut":
                    cut(alice)
                lobby.leave()
                again = alice.join("lobby")
        assert again is not lobby
        for message in again:
            seen.append(message.message)
            if message.message == SECOND[-1]:
                break
        return seen

    until_received(alice, send_all(of_bob, FIRST))
    reading = in_thread(read)
    until_back(of_bob)
    send_all(of_bob, SECOND)
    assert reading() == FIRST + SECOND
    assert alice.state is ConnectionState.CONNECTED


@each_link
def test_a_handler(new_client: NewClient, link: str) -> None:
    """F-32, S54."""
    alice, bob = new_client("alice"), new_client("bob")
    lobby, of_bob = alice.join("lobby"), bob.join("lobby")
    seen: list[Any] = []
    go_on, done = threading.Event(), threading.Event()

    def handle(event: ChannelMessageReceived) -> None:
        go_on.wait(PATIENCE_SECONDS)  # all of the first are received, before one is handled
        seen.append(event.message)
        if event.message == TURN:
            if link == "cut":
                cut(alice)
            lobby.leave()
            alice.join("lobby")
        if event.message == SECOND[-1]:
            done.set()

    alice.on(ChannelMessageReceived, handle)
    until_received(alice, send_all(of_bob, FIRST))
    go_on.set()
    until_back(of_bob)
    send_all(of_bob, SECOND)
    assert done.wait(PATIENCE_SECONDS)
    assert seen == FIRST + SECOND


def test_again_and_again(new_client: NewClient) -> None:
    """F-32: at every message; each comes once, whichever membership it belongs to."""
    rounds = 30
    alice, bob = new_client("alice"), new_client("bob")
    lobby, of_bob = alice.join("lobby"), bob.join("lobby")

    def read() -> list[int]:
        seen: list[int] = []
        channel = lobby
        while not seen or seen[-1] < rounds - 1:
            for message in channel:
                seen.append(int(message.message))
                if channel.joined:
                    channel.leave()
            channel = alice.join("lobby")
        return seen

    reading = in_thread(read)
    with of_bob.events() as events:
        for turn in range(rounds):
            send_all(of_bob, [str(turn)])
            while not isinstance(next(events), MemberJoined):
                pass
    assert reading() == list(range(rounds))


def test_a_handler_logs_in_anew(new_client: NewClient) -> None:
    """F-32, S54: the old session's events end, the new one's begin."""
    alice, bob = new_client("alice"), new_client("bob")
    lobby, of_bob = alice.join("lobby"), bob.join("lobby")
    seen: list[Any] = []
    changes: list[str] = []
    done = threading.Event()

    def handle(event: ChannelMessageReceived) -> None:
        seen.append(event.message)
        if event.message == TURN:
            alice.logout()
            alice.login("alice")
            alice.join("lobby")
        if event.message == SECOND[-1]:
            done.set()

    alice.on(ConnectionStateChanged, lambda change: changes.append(change.reason.value))
    alice.on(ChannelMessageReceived, handle)
    following = in_thread(lambda: [message.message for message in lobby])
    send_all(of_bob, FIRST[: int(TURN) + 1])
    until_back(of_bob)
    send_all(of_bob, SECOND)
    assert done.wait(PATIENCE_SECONDS)
    assert seen == FIRST[: int(TURN) + 1] + SECOND
    assert following() == FIRST[: int(TURN) + 1], "and it has ended"
    assert changes == ["LOGOUT", "LOGIN", "LOGIN_SUCCESS"]
