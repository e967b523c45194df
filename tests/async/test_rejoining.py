"""Applications that leave, rejoin and log in anew in the middle of handling an event (F-32).

Nothing stands still, nothing is lost, and nothing comes twice: a position has moved before the event is handed out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rtm_async import Channel, Client, Server, allow_any_uid
from rtm_sansio.events import ChannelMessageReceived, ConnectionStateChanged, MemberJoined, MemberLeft
from rtm_sansio.states import ConnectionState

FIRST, SECOND = [str(number) for number in range(20)], [str(number) for number in range(20, 40)]
TURN = "5"
"""The message at which the application does it."""


@contextlib.asynccontextmanager
async def talking() -> AsyncIterator[tuple[Client, Channel, Channel]]:
    """alice, who does it, in the lobby; and the lobby of bob, who talks to her."""
    async with (
        Server(authenticate=allow_any_uid) as server,
        Client(server.url) as alice,
        Client(server.url) as bob,
    ):
        await alice.login("alice")
        await bob.login("bob")
        yield alice, await alice.join("lobby"), await bob.join("lobby")


async def send_all(of_bob: Channel, texts: list[str]) -> int:
    """Returns the last one's offset."""
    return [(await of_bob.send(text)).offset for text in texts][-1]


async def until_received(client: Client, offset: int) -> None:
    while (client._core.cursor("lobby") or 0) < offset:
        await asyncio.sleep(0)


def cut(client: Client) -> None:
    """A loud loss."""
    assert client._driver is not None
    for link in list(client._driver._alive):
        link.transport.abort()


async def until_back(of_bob: Channel) -> None:
    """Until alice has left and joined again."""
    seen: list[type] = []
    async for event in of_bob.events():
        if isinstance(event, (MemberLeft, MemberJoined)) and event.uid == "alice":
            seen.append(type(event))
            if seen[-2:] == [MemberLeft, MemberJoined]:
                return


each_link = pytest.mark.parametrize("link", ["up", "cut"])


@each_link
def test_the_task_that_iterates(run: Any, link: str) -> None:
    """F-32, S42, S44: what was received before it left is still handed out, once; behind it, what the new Channel
    gets."""

    async def scenario() -> None:
        async with talking() as (alice, lobby, of_bob):
            seen: list[Any] = []

            async def read() -> None:
                again = lobby
                async for message in lobby:
                    seen.append(message.message)
                    if message.message == TURN:
                        if link == "cut":
                            cut(alice)
                        await lobby.leave()
                        again = await alice.join("lobby")
                assert again is not lobby
                async for message in again:
                    seen.append(message.message)
                    if message.message == SECOND[-1]:
                        return

            await until_received(alice, await send_all(of_bob, FIRST))
            reading = asyncio.ensure_future(read())
            await until_back(of_bob)
            await send_all(of_bob, SECOND)
            await reading
            assert seen == FIRST + SECOND
            assert alice.state is ConnectionState.CONNECTED

    run(scenario())


@each_link
def test_a_handler(run: Any, link: str) -> None:
    """F-32, S54"""

    async def scenario() -> None:
        async with talking() as (alice, lobby, of_bob):
            seen: list[Any] = []
            done = asyncio.Event()

            async def handle(event: ChannelMessageReceived) -> None:
                seen.append(event.message)
                if event.message == TURN:
                    if link == "cut":
                        cut(alice)
                    await lobby.leave()
                    await alice.join("lobby")
                if event.message == SECOND[-1]:
                    done.set()

            go_on = asyncio.Event()

            async def hold_up(event: ChannelMessageReceived) -> None:
                await go_on.wait()

            alice.on(ChannelMessageReceived, hold_up)
            alice.on(ChannelMessageReceived, handle)
            await until_received(alice, await send_all(of_bob, FIRST))
            go_on.set()  # all of the first are received, and none is handled
            await until_back(of_bob)
            await send_all(of_bob, SECOND)
            await done.wait()
            assert seen == FIRST + SECOND

    run(scenario())


def test_again_and_again(run: Any) -> None:
    """F-32: at every message; each comes once, whichever membership it belongs to."""
    rounds = 30

    async def scenario() -> None:
        async with talking() as (alice, lobby, of_bob):
            seen: list[int] = []

            async def read(channel: Channel) -> None:
                while not seen or seen[-1] < rounds - 1:
                    async for message in channel:
                        seen.append(int(message.message))
                        if channel.joined:
                            await channel.leave()
                    channel = await alice.join("lobby")

            reading = asyncio.ensure_future(read(lobby))
            events = aiter(of_bob.events())
            for turn in range(rounds):
                await send_all(of_bob, [str(turn)])
                while not isinstance(await anext(events), MemberJoined):
                    pass
            await reading
            assert seen == list(range(rounds))

    run(scenario())


def test_a_handler_logs_in_anew(run: Any) -> None:
    """F-32, S54: the old session's events end, the new one's begin."""

    async def scenario() -> None:
        async with talking() as (alice, lobby, of_bob):
            seen: list[Any] = []
            changes: list[str] = []
            done = asyncio.Event()

            async def handle(event: ChannelMessageReceived) -> None:
                seen.append(event.message)
                if event.message == TURN:
                    await alice.logout()
                    await alice.login("alice")
                    await alice.join("lobby")
                if event.message == SECOND[-1]:
                    done.set()

            alice.on(ConnectionStateChanged, lambda change: changes.append(change.reason.value))
            alice.on(ChannelMessageReceived, handle)
            following = asyncio.ensure_future(_messages(lobby))
            await send_all(of_bob, FIRST[: int(TURN) + 1])
            await until_back(of_bob)
            await send_all(of_bob, SECOND)
            await done.wait()
            assert seen == FIRST[: int(TURN) + 1] + SECOND
            assert await following == FIRST[: int(TURN) + 1], "and it has ended"
            assert changes == ["LOGOUT", "LOGIN", "LOGIN_SUCCESS"]

    run(scenario())


async def _messages(channel: Channel) -> list[Any]:
    return [message.message async for message in channel]
