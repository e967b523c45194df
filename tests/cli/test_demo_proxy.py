"""The faulty link of the demo does with connections what it says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from rtm_async.cli.demo.proxy import FaultyLink
from rtm_async.cli.demo.records import LinkCondition

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
SHORT = 0.1
PATIENCE = 10.0


@contextlib.asynccontextmanager
async def echoing_link() -> AsyncGenerator[tuple[FaultyLink, Connect, list[int]], None]:
    """A link in front of a server that sends everything back; the list counts what it was given."""
    got: list[int] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                got.append(len(data))
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    dials: list[None] = []
    link = FaultyLink(server.sockets[0].getsockname()[1], on_dial=lambda: dials.append(None))
    await link.start()
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        writers.append(writer)
        return reader, writer

    try:
        yield link, connect, got
    finally:
        for writer in writers:
            writer.close()
        await link.close()
        server.close()
        await asyncio.sleep(0)
    assert len(dials) == len(writers)


async def read(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.read(100), PATIENCE)


def test_it_passes_both_ways_and_passes_the_end_on() -> None:
    async def check() -> None:
        async with echoing_link() as (_, connect, _):
            reader, writer = await connect()
            writer.write(b"hello")
            assert await read(reader) == b"hello"
            writer.write_eof()
            assert await read(reader) == b""

    asyncio.run(check())


def test_what_is_stalled_is_delivered_late() -> None:
    async def check() -> None:
        async with echoing_link() as (link, connect, got):
            old_reader, old_writer = await connect()
            old_writer.write(b"one")
            assert await read(old_reader) == b"one"
            link.change(LinkCondition.STALLED)
            new_reader, new_writer = await connect()
            old_writer.write(b"two")
            new_writer.write(b"three")
            await asyncio.sleep(SHORT)
            assert got == [3]
            link.change(LinkCondition.PASSING)
            assert await read(old_reader) == b"two"
            assert await read(new_reader) == b"three"

    asyncio.run(check())


def test_a_cut_resets_what_is_there_and_refuses_what_comes() -> None:
    async def check() -> None:
        async with echoing_link() as (link, connect, _):
            reader, writer = await connect()
            writer.write(b"one")
            assert await read(reader) == b"one"
            link.change(LinkCondition.CUT)
            with pytest.raises(ConnectionResetError):
                await read(reader)
            reader, _ = await connect()
            with pytest.raises(ConnectionResetError):
                await read(reader)
            assert link.refused == 1
            link.change(LinkCondition.PASSING)
            reader, writer = await connect()
            writer.write(b"two")
            assert await read(reader) == b"two"

    asyncio.run(check())


def test_it_can_be_closed_while_it_stalls() -> None:
    async def check() -> None:
        async with echoing_link() as (link, connect, _):
            link.change(LinkCondition.STALLED)
            reader, writer = await connect()
            writer.write(b"one")
            await asyncio.sleep(SHORT)
            await asyncio.wait_for(link.close(), PATIENCE)
            with pytest.raises(ConnectionResetError):
                await read(reader)

    asyncio.run(check())


def test_it_can_be_closed_without_a_start() -> None:
    asyncio.run(FaultyLink(1, on_dial=lambda: None).close())
