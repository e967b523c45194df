"""Both cores of ``rtm_sansio`` on trio: a driver for clients and servers, and a talk between the two.

The steps of the driver contract (docs/sans-io.md) are marked with their numbers. Run it: python trio_driver.py
"""

from __future__ import annotations

import os
import random
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from rtm_sansio import ClientConfig, ClientCore, Hub, LoginRequested, ServerConfig, failure_from, parse_endpoints
from rtm_sansio import CloseTransport, OpenTransport, PauseReading, ResumeReading, Transmit  # fmt: skip
from rtm_sansio import ChannelMessageReceived, RequestCompleted, RequestErred  # fmt: skip

READ_BYTES = 64 * 1024
LINGER_SECONDS = 2.0


class Link:
    """One transport: a stream, what waits to be written, and the scope that an abort cancels."""

    def __init__(self, stream: trio.abc.Stream, transport_id: int) -> None:
        self.stream, self.transport_id = stream, transport_id
        self.outbound, self.wake, self.closing = bytearray(), trio.Event(), False
        self.reading, self.scope = trio.Event(), trio.CancelScope()
        self.reading.set()


class Driver:
    """Runs ``core``; every output that is not about a transport goes to ``on_output``, which may call the core."""

    def __init__(self, core: Any, nursery: trio.Nursery, on_output: Callable[[Any], object]) -> None:
        self.core, self.nursery, self._on_output = core, nursery, on_output
        self._links: dict[int, Link] = {}
        self._opening: dict[int, trio.CancelScope] = {}
        self._pumping, self._wake, self._armed_at = False, trio.Event(), -1.0
        nursery.start_soon(self._run_clock)

    def pump(self) -> None:
        """2. After each call of the core: take its outputs until there are none, in order, not re-entered."""
        if not self._pumping:
            self._pumping = True
            while outputs := self.core.take_outputs():
                for output in outputs:
                    self._carry_out(output)
            self._pumping = False
        deadline = self.core.next_deadline()
        if (deadline is not None and deadline < self._armed_at) or getattr(self.core, "flush_wanted", False):
            self._wake.set()

    def _carry_out(self, output: Any) -> None:
        link = self._links.get(getattr(output, "transport_id", 0))  # 6. an id that is gone is passed over
        if isinstance(output, Transmit):
            if link is not None:
                link.outbound += output.data
                link.wake.set()
                self._report(link)
        elif isinstance(output, OpenTransport):
            self.nursery.start_soon(self._open, output)
        elif isinstance(output, CloseTransport):
            self._opening.pop(output.transport_id, trio.CancelScope()).cancel()
            if self._links.pop(output.transport_id, None) is not None and link is not None:
                link.closing = True
                link.scope.deadline = trio.current_time() + (LINGER_SECONDS if output.how == "flush" else 0.0)
                link.wake.set()
                link.reading.set()
        elif isinstance(output, (PauseReading, ResumeReading)):
            if link is not None and isinstance(output, ResumeReading):
                link.reading.set()
            elif link is not None:
                link.reading = trio.Event()
        else:
            self._on_output(output)

    async def _run_clock(self) -> None:
        """3. One timer, at the core's next deadline; 4. and a flush at the end of a pass that wants one."""
        self._set_wall_clock()
        while True:
            self._wake, deadline = trio.Event(), self.core.next_deadline()
            self._armed_at = float("inf") if deadline is None else deadline
            if not getattr(self.core, "flush_wanted", False):
                with trio.move_on_at(self._armed_at):
                    await self._wake.wait()
            for _ in range(2):  # 5. what is readable is read before time passes
                await trio.lowlevel.checkpoint()
            deadline = self.core.next_deadline()
            if deadline is not None and deadline <= trio.current_time():
                for link in [link for link in self._links.values() if link.outbound]:
                    self._report(link)
                self._set_wall_clock()
                self.core.handle_timeout(now=trio.current_time())
            if getattr(self.core, "flush_wanted", False):
                self.core.flush(now=trio.current_time())
            self.pump()

    def _set_wall_clock(self) -> None:
        if hasattr(self.core, "set_wall_clock"):
            self.core.set_wall_clock(time.time(), now=trio.current_time())

    def _report(self, link: Link) -> None:
        self.core.unsent(link.transport_id, len(link.outbound), now=trio.current_time())

    async def _open(self, effect: OpenTransport) -> None:
        """7. Each OpenTransport is answered once, unless it is closed meanwhile."""
        endpoint, number = effect.endpoint, effect.transport_id
        with self._opening.setdefault(number, trio.CancelScope()) as scope:
            try:
                stream: trio.abc.Stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
                if endpoint.secure:
                    context = ssl.create_default_context()
                    stream = trio.SSLStream(stream, context, server_hostname=endpoint.host, https_compatible=True)
            except OSError as error:
                self._opening.pop(number)
                causes = getattr(error.__cause__, "exceptions", (error,))  # one for each address of the name
                self.core.transport_failed(number, failure_from(causes[-1]), now=trio.current_time())
                self.pump()
                return
        if self._opening.pop(number, None) is scope and not scope.cancelled_caught:
            self.core.transport_opened(number, now=trio.current_time())
            await self._carry(Link(stream, number))

    async def accept(self, stream: trio.SocketStream) -> None:
        """A handler for ``trio.serve_tcp`` and ``trio.serve_listeners``."""
        peer = str(stream.socket.getpeername())
        await self._carry(Link(stream, self.core.transport_accepted(peer=peer, now=trio.current_time())))

    async def _carry(self, link: Link) -> None:
        self._links[link.transport_id] = link
        self.pump()
        with link.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, link)
                await self._read(link)
                nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(link.stream)

    async def _read(self, link: Link) -> None:
        cause = None
        try:
            while data := await link.stream.receive_some(READ_BYTES):
                if link.transport_id in self._links:
                    self.core.receive_data(link.transport_id, data, now=trio.current_time())
                    self.pump()
                await link.reading.wait()
        except trio.BrokenResourceError as error:
            cause = failure_from(error, while_open=True)
        if self._links.pop(link.transport_id, None) is not None:
            self.core.transport_lost(link.transport_id, cause, now=trio.current_time())
            self.pump()

    async def _write(self, link: Link) -> None:
        try:
            while link.outbound or not link.closing:
                link.wake = trio.Event()
                if not link.outbound:
                    await link.wake.wait()
                piece = bytes(link.outbound[:READ_BYTES])
                await link.stream.send_all(piece)
                del link.outbound[: len(piece)]
                if link.transport_id in self._links:
                    self._report(link)
                    self.pump()
            if isinstance(link.stream, trio.SocketStream):
                await link.stream.send_eof()
        except trio.BrokenResourceError:
            pass  # the reader notices as well
