"""The ``websockets`` package as a stranger on both sides: our server with its client, our clients with its server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

import rtm_async
import rtm_sync
from rtm_sansio import ClientConfig, ConnectionState, LoginFailed, ServerConfig

_PROTOCOL = Subprotocol("rtm.v1.msgpack")
_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.decode


def _login(uid: str) -> list[Any]:
    return [1, uid, "", uid.encode().ljust(16, b"i"), uid.encode().ljust(16, b"l"), 0]


async def _messages(connection: ClientConnection, tag: int) -> list[Any]:
    """The first message of this tag; what comes before it is passed over."""
    async with asyncio.timeout(5):
        while True:
            payload = await connection.recv()
            assert isinstance(payload, bytes)
            for message in _unpack(payload):
                if message[0] == tag:
                    return list(message)


async def test_a_stranger_logs_in_joins_and_sends() -> None:
    async with (
        rtm_async.Server(authenticate=rtm_async.allow_any_uid) as server,
        connect(server.url, subprotocols=[_PROTOCOL], compression=None) as stranger,
        rtm_async.Client(server.url) as bob,
    ):
        await bob.login("bob")
        lobby = await bob.join("lobby")
        await stranger.send(_pack([_login("alice"), [2, []]]))
        welcome = await _messages(stranger, 1)
        assert len(welcome[1]) == 16
        await stranger.send(_pack([[18, 1, "lobby"]]))
        joined = await _messages(stranger, 18)
        assert joined[4:] == [2, ["bob", "alice"]]
        await stranger.send(_pack([[16, 2, "lobby", "hello"]]))
        await _messages(stranger, 17)
        async for message in lobby:
            assert (message.uid, message.message) == ("alice", "hello")
            break
        await lobby.send(b"\x00\xff")
        entries = await _messages(stranger, 5)
        while entries[4][-1][0] != 2:
            entries = await _messages(stranger, 5)
        assert entries[4][-1][1:3] == ["bob", b"\x00\xff"]


async def test_heartbeat_ping_and_fragments_from_a_stranger() -> None:
    async with (
        rtm_async.Server(authenticate=rtm_async.allow_any_uid) as server,
        connect(server.url, subprotocols=[_PROTOCOL], compression=None) as stranger,
    ):
        payload = _pack([_login("alice"), [2, []]])
        await stranger.send(_in_pieces(payload, 7))
        await _messages(stranger, 1)
        await asyncio.wait_for(await stranger.ping(b"are you there"), 5)
        await stranger.send(_pack([]))
        async with asyncio.timeout(5):
            while await stranger.recv() != _pack([]):
                pass


def _in_pieces(payload: bytes, size: int) -> Iterable[bytes]:
    return [payload[start : start + size] for start in range(0, len(payload), size)]


@pytest.mark.parametrize(
    ("frame", "close_code"),
    [
        (_pack([[99, 1]]), 1002),
        (b"\xc1 no MessagePack", 1002),
        ("a text message", 1003),
        (bytes(200 * 1024), 1009),
        (_pack([[16, 1, "lobby", "before the login"]]), 1002),
    ],
    ids=["unknown tag", "garbage", "text", "too large", "before the login"],
)
async def test_a_stranger_who_breaks_the_protocol_is_told_the_close_code(frame: str | bytes, close_code: int) -> None:
    """S50"""
    async with (
        rtm_async.Server(authenticate=rtm_async.allow_any_uid) as server,
        connect(server.url, subprotocols=[_PROTOCOL], compression=None) as stranger,
    ):
        await stranger.send(frame)
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(stranger.recv(), 5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == close_code


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"subprotocols": None}, 400),
        ({"subprotocols": [Subprotocol("chat")]}, 400),
        ({"origin": "https://evil.example"}, 403),
    ],
)
async def test_a_stranger_who_may_not_come_in_gets_an_http_answer(options: dict[str, Any], status: int) -> None:
    """S51"""
    async with rtm_async.Server(authenticate=rtm_async.allow_any_uid) as server:
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.url, **{"subprotocols": [_PROTOCOL], "compression": None, **options})
        assert refused.value.response.status_code == status
        config = ServerConfig(path="/rtm")
        async with rtm_async.Server(authenticate=rtm_async.allow_any_uid, config=config) as elsewhere:
            with pytest.raises(InvalidStatus) as missing:
                await connect(elsewhere.url.replace("/rtm", "/other"), subprotocols=[_PROTOCOL], compression=None)
            assert missing.value.response.status_code == 404


_LIMITS = [2.0, 10.0, 30.0, 64, 32768, 65536, 131072, 20, 256, 1000, 2000, 1048576, 4194304, 32, 256]
_LIMITS += [32, 8192, 32, 256, 16384, 32768, 256, 512, 6.0]


async def _foreign_server(connection: ServerConnection) -> None:
    """A server in the stranger's words: welcomes, answers heartbeats, joins, and echoes each message as an entry of
    bob."""
    offset = 1
    async for payload in connection:
        assert isinstance(payload, bytes)
        answers: list[Any] = []
        for message in _unpack(payload):
            if message[0] == 1:
                answers.append([1, b"s" * 16, 7, 1, False, None, _LIMITS, [b"i" * 8, 0, 0]])
            elif message[0] == 2:
                answers.append([3, [], False])
            elif message[0] == 18:
                answers.append([18, message[1], b"e" * 8, 1, 1, ["alice"]])
            elif message[0] == 16:
                offset += 1
                answers.append([17, message[1], b"e" * 8, offset, 1_700_000_000_000])
                answers.append([5, message[2], b"e" * 8, offset, [[1, "bob", message[3], 1_700_000_000_000]]])
            elif message[0] == 3:
                answers.append([16, message[1]])
        await connection.send(_pack(answers))


async def test_our_clients_with_a_foreign_server() -> None:
    async with serve(_foreign_server, "127.0.0.1", 0, subprotocols=[_PROTOCOL], compression=None) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"

        async with rtm_async.Client(url) as client:
            await client.login("alice")
            room = await client.join("room")
            assert (await room.send("to and fro")).offset == 2
            async for message in room:
                assert (message.uid, message.message, message.offset) == ("bob", "to and fro", 2)
                break
            await client.logout()
            assert client.state is ConnectionState.DISCONNECTED

        def blocking() -> tuple[str, str | bytes]:
            with rtm_sync.Client(url) as other:
                other.login("alice")
                channel = other.join("room")
                channel.send("to and fro")
                first = next(iter(channel))
                return first.uid, first.message

        assert await asyncio.to_thread(blocking) == ("bob", "to and fro")


async def _without_subprotocol(connection: ServerConnection) -> None:
    await connection.wait_closed()


async def test_a_foreign_server_without_our_protocol_is_a_verdict() -> None:
    """S6"""
    async with serve(_without_subprotocol, "127.0.0.1", 0, compression=None) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        async with rtm_async.Client(url, config=ClientConfig()) as client:
            with pytest.raises(LoginFailed) as failed:
                await client.login("alice")
            assert failed.value.code == "no_common_protocol"
