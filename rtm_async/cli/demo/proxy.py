"""A TCP proxy on loopback that plays a bad network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from .records import LinkCondition

_CHUNK_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultyLink:
    """Forwards connections to one port, or stalls them, or resets them and refuses new ones.

    What is stalled is kept and delivered late, as TCP does; so a connection that was given up meanwhile may
    still bring the server old requests.
    """

    def __init__(self, target_port: int, *, on_dial: Callable[[], None]) -> None:
        self._target_port = target_port
        self._on_dial = on_dial
        self._passing = asyncio.Event()
        self._passing.set()
        self._refusing = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.refused = 0
        """How many connections were refused."""

    @property
    def port(self) -> int:
        """Where to connect to instead of the target."""
        assert self._server is not None, "start() comes first"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        """Reset everything and stop."""
        if self._server is not None:
            self._server.close()
        self._reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def change(self, condition: LinkCondition) -> None:
        """Do this with all connections, present and new, from now on."""
        self._refusing = condition is LinkCondition.CUT
        if condition is LinkCondition.STALLED:
            self._passing.clear()
        else:
            self._passing.set()
        if condition is LinkCondition.CUT:
            self._reset_all()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            self._on_dial()
            if self._refusing:
                self.refused += 1
            else:
                await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):
            # One end is gone; cancelled is the task by close() alone, which waits for it.
            pass
        finally:
            _reset(writer)
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passing.wait()
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers.add(far_writer)
        try:
            pumps = [
                asyncio.ensure_future(self._pump(reader, far_writer)),
                asyncio.ensure_future(self._pump(far_reader, writer)),
            ]
            try:
                await asyncio.gather(*pumps)
            finally:
                for pump in pumps:
                    pump.cancel()
        finally:
            _reset(far_writer)
            self._writers.discard(far_writer)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_CHUNK_BYTES):
            await self._passing.wait()
            sink.write(data)
            await sink.drain()
        await self._passing.wait()
        with contextlib.suppress(OSError):
            sink.write_eof()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST; harmless on a connection that has ended, whose other side sees its end as it was."""
    transport = writer.transport
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
