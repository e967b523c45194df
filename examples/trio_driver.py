"""A trio driver for the cores of ``rtm_sansio``, client and server. The numbers are those of docs/sans-io.md."""

import contextlib
import ssl
import time
from collections.abc import Callable
from math import inf
from typing import Any

import trio

import rtm_sansio as rtm

READ_BYTES, LINGER_SECONDS = 64 * 1024, 2.0


class Link:
    """One transport: its stream once it is open, what waits to be written, and the scope that an abort ends."""

    def __init__(self, transport_id: int, stream: Any = None) -> None:
        self.transport_id, self.stream, self.scope = transport_id, stream, trio.CancelScope()
        self.outbound, self.closing, self.wake, self.readable = bytearray(), False, trio.Event(), trio.Event()
        self.readable.set()


class Driver:
    """Runs ``core``; every output that is not about a transport goes to ``on_output``, which may call the core."""

    def __init__(self, core: Any, nursery: trio.Nursery, on_output: Callable[[Any], object]) -> None:
        self.core, self._nursery, self._on_output = core, nursery, on_output
        self._is_hub = hasattr(core, "flush_wanted")
        self._links: dict[int, Link] = {}
        self._pumping, self._wake, self._armed_at = False, trio.Event(), 0.0
        self._wake.set()
        nursery.start_soon(self._run_clock)

    def pump(self) -> None:
        """2. Carry out the outputs until there are none: after each call of the core, and never from within itself."""
        if self._pumping:
            return
        self._pumping = True
        while outputs := self.core.take_outputs():
            for output in outputs:
                self._carry_out(output)
        self._pumping = False
        if (self.core.next_deadline() or inf) < self._armed_at or (self._is_hub and self.core.flush_wanted):
            self._wake.set()

    def _carry_out(self, output: Any) -> None:
        """3. What each effect asks for; one for an id that is gone is passed over."""
        link = self._links.get(getattr(output, "transport_id", 0))
        match output:
            case rtm.OpenTransport():
                link = self._links[output.transport_id] = Link(output.transport_id)
                self._nursery.start_soon(self._open, link, output.endpoint)
            case _ if not isinstance(output, rtm.Effect) or isinstance(output, rtm.AskToken):
                self._on_output(output)
            case rtm.Transmit() if link is not None:
                link.outbound += output.data
                link.wake.set()
                self._report(link)
            case rtm.CloseTransport() if link is not None:
                del self._links[output.transport_id]
                link.scope.deadline, link.closing = trio.current_time() + LINGER_SECONDS * (output.how == "flush"), True
                link.wake.set()
                link.readable.set()
            case rtm.PauseReading() if link is not None:
                link.readable = trio.Event()
            case rtm.ResumeReading() if link is not None:
                link.readable.set()

    async def _run_clock(self) -> None:
        while True:
            self.pump()
            self._armed_at = self.core.next_deadline() or inf
            with trio.move_on_at(self._armed_at):
                await self._wake.wait()
            self._wake = trio.Event()
            for _ in range(2):  # 4. what is readable is read before time passes
                await trio.lowlevel.checkpoint()
            for link in [link for link in self._links.values() if link.outbound]:
                self._report(link)
            self.core.handle_timeout(now=trio.current_time())
            if self._is_hub:  # 5. at the end of a pass
                self.core.set_wall_clock(time.time(), now=trio.current_time())
                self.core.flush(now=trio.current_time())

    def _report(self, link: Link) -> None:
        self.core.unsent(link.transport_id, len(link.outbound), now=trio.current_time())
        self.pump()

    async def _open(self, link: Link, endpoint: rtm.Endpoint) -> None:
        with link.scope:
            try:
                link.stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)  # races the addresses
                if endpoint.secure:
                    tls = ssl.create_default_context()
                    link.stream = trio.SSLStream(link.stream, tls, server_hostname=endpoint.host)
                    await link.stream.do_handshake()
            except (OSError, trio.BrokenResourceError) as error:
                causes = getattr(error.__cause__, "exceptions", (error.__cause__ or error,))  # one for each address
                if self._links.pop(link.transport_id, None) is not None:  # else it was closed meanwhile
                    self.core.transport_failed(link.transport_id, rtm.failure_from(causes[-1]), now=trio.current_time())
                    self.pump()
        if link.transport_id in self._links:
            self.core.transport_opened(link.transport_id, now=trio.current_time())
            await self._carry(link)
        elif link.stream is not None:
            await trio.aclose_forcefully(link.stream)

    async def accept(self, stream: trio.SocketStream) -> None:
        """The handler for ``trio.serve_tcp`` and ``trio.serve_listeners``."""
        await self._carry(Link(self.core.transport_accepted(peer="trio", now=trio.current_time()), stream))

    async def _carry(self, link: Link) -> None:
        self._links[link.transport_id] = link
        self.pump()
        with trio.CancelScope(deadline=link.scope.deadline) as link.scope:
            async with link.stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._write, link)
                await self._read(link)
                nursery.cancel_scope.cancel()

    async def _read(self, link: Link) -> None:
        cause = None
        try:
            while data := await link.stream.receive_some(READ_BYTES):
                if link.transport_id in self._links:
                    self.core.receive_data(link.transport_id, data, now=trio.current_time())
                    self.pump()
                await link.readable.wait()
        except trio.BrokenResourceError as error:
            cause = rtm.failure_from(error, while_open=True)
        if self._links.pop(link.transport_id, None) is not None:
            self.core.transport_lost(link.transport_id, cause, now=trio.current_time())
            self.pump()

    async def _write(self, link: Link) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # the reader finds out as well
            while link.outbound or not link.closing:
                await link.wake.wait()
                link.wake = trio.Event()
                while piece := bytes(link.outbound[:READ_BYTES]):
                    await link.stream.send_all(piece)
                    del link.outbound[: len(piece)]
                    if link.transport_id in self._links:
                        self._report(link)
            if isinstance(link.stream, trio.SocketStream):
                await link.stream.send_eof()
