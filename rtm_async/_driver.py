"""Drives any core of ``rtm_sansio.driving`` on an asyncio loop: transports, names, TLS, the clock.

There is no task for reading, writing or heartbeats: everything happens in callbacks of the loop, and never is
anything awaited between a call of the core and taking its outputs, so no cancellation can tear its state.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, Literal, TypeVar, cast

from rtm_sansio.auth import FailureNotes
from rtm_sansio.driving import AcceptingCore, ConnectingCore, DrivenCore
from rtm_sansio.effects import CloseTransport, Endpoint, OpenTransport, PauseReading, ResumeReading, Transmit
from rtm_sansio.endpoints import failure_from
from rtm_sansio.errors import RtmError, TransportFailure

LINGER_SECONDS = 2.0
"""How long a transport that is closed with ``flush`` may take for its last bytes and the peer's goodbye."""
READ_BYTES = 64 * 1024
UNSENT_STEP_BYTES = 64 * 1024
ADDRESS_DELAY_SECONDS = 0.25
"""The head start of each address over the next one (RFC 8305, section 5)."""
TLS_HANDSHAKE_SECONDS = 10.0
ACCEPT_PAUSE_SECONDS = 1.0
"""How long nothing is accepted after the system ran out of something, such as descriptors (F-66)."""
ACCEPTS_PER_PASS = 256
READ_FIRST_SECONDS = 1.0
"""How long ticks may be put off while sockets are full of unread bytes (S13)."""

_log = logging.getLogger("rtm")
_Core = TypeVar("_Core", bound=DrivenCore)
_Address = tuple[int, Any]
"""Family and address, as ``getaddrinfo`` gives them."""


class _Link(asyncio.Protocol):
    """One transport.

    ``gone``: the core has forgotten it or knows of its end; what still comes is dropped. ``up``: there is a
    ``transport``. The core may know of it before: what it wants to be written then is ``held``.
    """

    __slots__ = (
        "adopting",
        "driver",
        "gone",
        "held",
        "linger",
        "mark",
        "paused",
        "transport",
        "transport_id",
        "unsent",
        "up",
        "write",
    )

    transport: asyncio.Transport
    write: Callable[[bytes], None]

    def __init__(self, driver: Driver[Any], transport_id: int) -> None:
        self.driver = driver
        self.transport_id = transport_id
        self.gone = False
        self.up = False
        self.paused = False
        self.unsent = 0
        self.mark = 0
        self.held: list[bytes] = []
        self.write = self.held.append
        self.linger: asyncio.TimerHandle | None = None
        self.adopting: asyncio.Task[None] | None = None
        """What brings an accepted socket to the loop, TLS handshake included."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it
        self.up = True
        self.write = transport.write
        # Tells us when the socket begins to refuse bytes, and when it has taken all.
        transport.set_write_buffer_limits(high=1, low=0)
        if hasattr(transport, "max_size"):  # asyncio's own: 256 KiB are allocated for each read otherwise
            transport.max_size = READ_BYTES  # pyright: ignore[reportAttributeAccessIssue]
        self.driver.made(self)

    def data_received(self, data: bytes) -> None:
        if not self.gone:
            driver = self.driver
            if len(data) >= READ_BYTES:
                driver.more_to_read = True
            driver.core.receive_data(self.transport_id, data, now=driver.time())
            driver.pump()

    def eof_received(self) -> bool:
        # Told at once: the transport itself ends only when the peer has taken what is still to be written.
        if not self.gone:
            self.driver.lost(self, None)
            self.linger = self.driver.loop.call_later(LINGER_SECONDS, self.transport.abort)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.linger is not None:
            self.linger.cancel()
        self.driver.lost(self, exc)
        self.driver.ended(self)

    def pause_writing(self) -> None:
        if not self.unsent and not self.gone:
            self.report()

    def resume_writing(self) -> None:
        if self.unsent and not self.gone:
            self.report()

    def watch(self) -> None:
        """After a write to a socket that refuses bytes: the loop tells only when they become fewer."""
        if self.transport.get_write_buffer_size() > self.mark:
            self.report()

    def report(self) -> None:
        size = self.unsent = self.transport.get_write_buffer_size()
        step = ((size - 1) // UNSENT_STEP_BYTES).bit_length() if size else 0
        self.mark = UNSENT_STEP_BYTES << step
        low = (UNSENT_STEP_BYTES << (step - 1)) - 1 if step else 0
        self.transport.set_write_buffer_limits(high=max(low, 1), low=low)
        driver = self.driver
        if size:
            driver.waiting.add(self)
        else:
            driver.waiting.discard(self)
        driver.core.unsent(self.transport_id, size, now=driver.time())
        driver.pump()

    def pause(self, paused: bool) -> None:
        self.paused = paused
        if not self.up:
            return
        if paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def write_held(self) -> None:
        """It is up: do what the core has asked for before."""
        if self.paused:
            self.transport.pause_reading()
        if self.held:
            held, self.held = self.held, []
            self.write(b"".join(held))

    def close(self, how: Literal["flush", "abort"]) -> None:
        self.gone = True
        if not self.up:
            if self.adopting is not None:
                self.adopting.cancel()
            return
        if how == "abort":
            self.transport.abort()
            return
        if self.transport.is_closing():
            return
        self.linger = self.driver.loop.call_later(LINGER_SECONDS, self.transport.abort)
        # A socket closed with bytes unread answers with a reset, which can overtake what was written: so
        # say that nothing more comes, and go on reading, into nothing, until the peer has closed too, as
        # TLS does.
        self.transport.resume_reading()
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        try:
            self.transport.write_eof()
        except OSError:  # reset meanwhile
            self.transport.abort()


class Driver(Generic[_Core]):
    """What both roles share. ``on_output`` gets, in order, every output that is not about a transport.

    It must not raise. It may call the core; what comes out then follows behind. ``after_pump`` is called each time
    when the core has nothing more to say; it may call the core too, and then ``pump_soon``.
    """

    _end_level = logging.INFO
    """At which level the log tells of the end of a transport."""

    def __init__(
        self,
        core: _Core,
        *,
        loop: asyncio.AbstractEventLoop,
        on_output: Callable[[Any], None],
        after_pump: Callable[[], None] | None = None,
    ) -> None:
        self.core = core
        self.last_failure: RtmError | None = None
        """Why the last transport could not be opened, or ended, if it was an error. The owner may clear it."""
        self.loop = loop
        self.time = loop.time
        self.waiting: set[_Link] = set()
        self.more_to_read = False
        self._links: dict[int, _Link] = {}
        self._alive: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_output = on_output
        self._after_pump = after_pump
        self._effects: dict[type, Callable[[Any], None]] = {
            CloseTransport: self._close,
            PauseReading: self._pause_reading,
            ResumeReading: self._resume_reading,
        }
        self._pumping = False
        self._pump_scheduled = False
        self._stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._no_tick_before = -math.inf
        self._all_gone: asyncio.Future[None] | None = None

    # --- the core

    def pump(self) -> None:
        """Take the core's outputs until there are none: after every call of the core, also from within."""
        if self._pumping or self._stopped:
            return
        self._pumping = True
        links, effects, on_output = self._links, self._effects, self._on_output
        try:
            while outputs := self.core.take_outputs():
                for output in outputs:
                    kind = type(output)  # pyright: ignore[reportUnknownVariableType]
                    if kind is Transmit:
                        link = links.get(output.transport_id)
                        if link is not None:
                            link.write(output.data)
                            if link.unsent:
                                link.watch()
                    else:
                        effects.get(kind, on_output)(output)  # pyright: ignore[reportUnknownArgumentType]
        finally:
            self._pumping = False
        self._settle()
        if self._after_pump is not None:
            self._after_pump()

    def pump_soon(self) -> None:
        """The same at the end of this pass of the loop: what is sent until then leaves together."""
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self.loop.call_soon(self._pump_now)

    def _pump_now(self) -> None:
        self._pump_scheduled = False
        self.pump()

    def _settle(self) -> None:
        deadline = self.core.next_deadline()
        if deadline is not None and deadline < self._timer_at:
            # Armed anew only for something earlier: a timer that fires too early is cheaper than moving it.
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self.loop.call_at(max(deadline, self._no_tick_before), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= self.time():
            self._timer_at = -math.inf  # none is armed before the tick
            # After two passes every readable socket has been read, on asyncio's loop and on uvloop (S13).
            self.loop.call_soon(self._read_first, 2, self.time() + READ_FIRST_SECONDS)
        else:
            self._settle()

    def _read_first(self, passes: int, until: float) -> None:
        if self._stopped:
            return
        if passes or (self.more_to_read and self.time() < until):
            self.more_to_read = False
            self.loop.call_soon(self._read_first, max(passes - 1, 0), until)
            return
        now = self.time()
        self._timer_at = math.inf
        try:
            for link in list(self.waiting):
                self.core.unsent(link.transport_id, link.transport.get_write_buffer_size(), now=now)
            self._tick(now)
            self.pump()
        except Exception:
            # Nothing may end the clock silently (F-82), nor may the same fault come back without a pause.
            _log.exception("internal error in a timer of %r; please report it", self.core)
            self._no_tick_before = now + 1.0
            self._settle()

    def _tick(self, now: float) -> None:
        self.core.handle_timeout(now=now)

    # --- transports

    def made(self, link: _Link) -> None:
        """A transport is up."""
        self._alive.add(link)
        if self._stopped or not self._admit(link):
            link.close("abort")
            return
        self.pump()

    def _admit(self, link: _Link) -> bool:
        """Tell the core, unless it knows; whether it still wants the transport."""
        raise NotImplementedError

    def lost(self, link: _Link, exc: BaseException | None) -> None:
        """A transport cannot be read any more, or will never come up."""
        self.waiting.discard(link)
        if link.gone:
            return
        link.gone = True
        del self._links[link.transport_id]
        cause = None if exc is None else failure_from(exc, while_open=True)
        self.last_failure = cause or self.last_failure
        _log.log(self._end_level, "transport %d ended: %s", link.transport_id, cause or "closed by the peer")
        self.core.transport_lost(link.transport_id, cause, now=self.time())
        self.pump()

    def ended(self, link: _Link) -> None:
        """The loop has closed its socket."""
        self._alive.discard(link)
        if not self._alive and self._all_gone is not None and not self._all_gone.done():
            self._all_gone.set_result(None)

    def _close(self, effect: CloseTransport) -> None:
        link = self._links.pop(effect.transport_id, None)
        if link is not None:
            self.waiting.discard(link)
            link.close(effect.how)

    def _pause_reading(self, effect: PauseReading) -> None:
        if effect.transport_id in self._links:
            self._links[effect.transport_id].pause(True)

    def _resume_reading(self, effect: ResumeReading) -> None:
        if effect.transport_id in self._links:
            self._links[effect.transport_id].pause(False)

    # --- the end

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def idle(self) -> bool:
        """Whether there is no transport, and none is being opened or accepted."""
        return not self._alive and not self._tasks

    async def finish(self, seconds: float = LINGER_SECONDS) -> None:
        """Wait for at most so long until the transports that the core has closed are gone; then ``stop``."""
        try:
            if self._alive and not self._stopped:
                self._all_gone = self.loop.create_future()
                await asyncio.wait([self._all_gone], timeout=seconds)
        finally:
            self.stop()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=LINGER_SECONDS)
        await asyncio.sleep(0)  # in which the loop closes what was aborted

    def stop(self) -> None:
        """Abort whatever is left, at once. The core is told nothing more, and what it wants is not done."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for link in {*self._alive, *self._links.values()}:
            link.close("abort")
        self._links.clear()


class ConnectingDriver(Driver[ConnectingCore]):
    """Drives a client's core. ``tls`` is for ``wss``; without it the system's certificates are trusted."""

    def __init__(
        self,
        core: ConnectingCore,
        *,
        loop: asyncio.AbstractEventLoop,
        on_output: Callable[[Any], None],
        tls: ssl.SSLContext | None = None,
        after_pump: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(core, loop=loop, on_output=on_output, after_pump=after_pump)
        self._tls = tls
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._effects[OpenTransport] = self._open

    def _open(self, effect: OpenTransport) -> None:
        self._opening[effect.transport_id] = self._start(self._connect(effect.transport_id, effect.endpoint))

    async def _connect(self, transport_id: int, endpoint: Endpoint) -> None:
        try:
            tls: dict[str, Any] = {}
            if endpoint.secure:
                self._tls = self._tls or ssl.create_default_context()
                tls = {
                    "ssl": self._tls,
                    "server_hostname": endpoint.host,
                    "ssl_handshake_timeout": TLS_HANDSHAKE_SECONDS,
                    "ssl_shutdown_timeout": LINGER_SECONDS,
                }
            connected = await connect_socket(endpoint.host, endpoint.port)
            await self.loop.create_connection(partial(_Link, self, transport_id), sock=connected, **tls)
        except asyncio.CancelledError:
            # By the core, which expects no answer; or by a stranger, such as the end of asyncio.run().
            self._failed(transport_id, TransportFailure("the attempt was cancelled", code="unreachable"))
            raise
        except Exception as error:  # OSError, TLS errors, UnicodeError of a name: whatever it is, it is the answer
            self._failed(transport_id, failure_from(error))

    def _failed(self, transport_id: int, cause: TransportFailure) -> None:
        if self._opening.pop(transport_id, None) is not None and not self._stopped:
            _log.info("transport %d could not be opened: %s", transport_id, cause)
            self.last_failure = cause
            self.core.transport_failed(transport_id, cause, now=self.time())
            self.pump()

    def _admit(self, link: _Link) -> bool:
        if self._opening.pop(link.transport_id, None) is None:
            return False
        self._links[link.transport_id] = link
        self.core.transport_opened(link.transport_id, now=self.time())
        return True

    def _close(self, effect: CloseTransport) -> None:
        opening = self._opening.pop(effect.transport_id, None)
        if opening is not None:
            opening.cancel()
        super()._close(effect)


class AcceptingDriver(Driver[AcceptingCore]):
    """Drives a server's core: accepts, and flushes once in each pass of the loop in which that is wanted."""

    # Strangers cause as many ends as they like: a log at its usual level must not grow with them.
    _end_level = logging.DEBUG

    def __init__(
        self, core: AcceptingCore, *, loop: asyncio.AbstractEventLoop, on_output: Callable[[Any], None]
    ) -> None:
        super().__init__(core, loop=loop, on_output=on_output)
        self._flush_scheduled = False
        self._listening: list[asyncio.Task[None]] = []
        self._accept_faults = FailureNotes()
        core.set_wall_clock(time.time(), now=self.time())

    def listen(self, listeners: Sequence[socket.socket], *, tls: ssl.SSLContext | None) -> None:
        """Accept from these listening, non-blocking sockets, which are the driver's from now on."""
        for listener in listeners:
            task = self._start(self._accept(listener, tls))
            # Not in the task itself: it may be cancelled before its first step.
            task.add_done_callback(lambda _, listener=listener: listener.close())  # type: ignore[misc]
            self._listening.append(task)

    async def stop_listening(self) -> None:
        """Accept nothing more; the sockets are closed when this returns."""
        for task in self._listening:
            task.cancel()
        if self._listening:
            await asyncio.wait(self._listening)

    async def _accept(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        for count in itertools.count(1):
            try:
                accepted, address = await self.loop.sock_accept(listener)
            except ConnectionAbortedError:  # it was gone before we came to it
                continue
            except OSError as error:
                passed_over = self._accept_faults.take(error, self.time())
                if passed_over is not None:
                    before = f" (and {passed_over} times before)" if passed_over else ""
                    _log.warning("! accepting pauses for %g s%s: %s", ACCEPT_PAUSE_SECONDS, before, error)
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            try:
                self._take_in(accepted, address, tls)
            except Exception:  # it costs one connection, and not all that come later (F-82)
                accepted.close()
                _log.exception("internal error while %r was given a transport; please report it", self.core)
            if count % ACCEPTS_PER_PASS == 0:  # accepting does not wait while there is something to accept
                await asyncio.sleep(0)

    def _take_in(self, accepted: socket.socket, address: Any, tls: ssl.SSLContext | None) -> None:
        """The core is told before the TLS handshake: its bounds, of number and of time, are for strangers too."""
        peer = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address or "unix")
        link = _Link(self, self.core.transport_accepted(peer=peer, now=self.time()))
        self._links[link.transport_id] = link
        self.pump()
        if link.gone:  # one too many
            accepted.close()
            return
        link.adopting = self._start(self._adopt(link, accepted, tls))
        # Not in the task itself: it may be cancelled before its first step.
        link.adopting.add_done_callback(partial(self._adopted, link, accepted))

    async def _adopt(self, link: _Link, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        _set_no_delay(accepted)
        # The core bounds the time of the handshake; asyncio's own bound, 60 s, is for cores that do not.
        options: dict[str, Any] = {} if tls is None else {"ssl": tls, "ssl_shutdown_timeout": LINGER_SECONDS}
        await self.loop.connect_accepted_socket(lambda: link, accepted, **options)

    def _adopted(self, link: _Link, accepted: socket.socket, adopting: asyncio.Task[None]) -> None:
        link.adopting = None
        error = None if adopting.cancelled() else adopting.exception()
        if not link.up:
            accepted.close()
            self.lost(link, error)

    def _admit(self, link: _Link) -> bool:
        if link.gone:
            return False
        link.write_held()
        return True

    def _settle(self) -> None:
        super()._settle()
        if not self._flush_scheduled and self.core.flush_wanted:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if not self._stopped:
            self.core.flush(now=self.time())
            self.pump()

    def _tick(self, now: float) -> None:
        self.core.set_wall_clock(time.time(), now=now)
        super()._tick(now)


async def connect_socket(host: str, port: int) -> socket.socket:
    """A connected, non-blocking socket. The name is resolved anew, and its addresses raced (RFC 8305).

    By hand, because uvloop has no race, and asyncio's hides which error it was when several addresses failed.
    Raises the OSError of the last address that failed, or what the look-up raised.
    """
    loop = asyncio.get_running_loop()
    try:
        # An address needs no look-up, and so no thread.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    by_family: dict[int, list[_Address]] = {}
    for family, _, _, _, address in found:
        by_family.setdefault(family, []).append((family, address))
    # The families take turns, so that a dead IPv6 delays IPv4 only once (F-12).
    addresses = [one for turn in itertools.zip_longest(*by_family.values()) for one in turn if one is not None]
    return await _race(loop, addresses)


async def _race(loop: asyncio.AbstractEventLoop, addresses: Sequence[_Address]) -> socket.socket:
    attempts: list[asyncio.Task[socket.socket]] = []
    winner: asyncio.Task[socket.socket] | None = None
    try:
        while winner is None:
            if len(attempts) < len(addresses):
                attempts.append(loop.create_task(_dial(loop, addresses[len(attempts)])))
            waiting = [attempt for attempt in attempts if not attempt.done()]
            if not waiting:
                break
            timeout = ADDRESS_DELAY_SECONDS if len(attempts) < len(addresses) else None
            done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            winner = next((attempt for attempt in done if attempt.exception() is None), None)
    finally:
        for attempt in attempts:
            if attempt is not winner:
                attempt.cancel()
                attempt.add_done_callback(_discard)
    return (winner or attempts[-1]).result()


async def _dial(loop: asyncio.AbstractEventLoop, address: _Address) -> socket.socket:
    dialled = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        dialled.setblocking(False)
        _set_no_delay(dialled)
        await loop.sock_connect(dialled, address[1])
    except BaseException:
        dialled.close()
        raise
    return dialled


def _set_no_delay(sock: socket.socket) -> None:
    """Small writes leave at once. asyncio sees to it by itself only for sockets that were made with a protocol number,
    which those of ``socket.socket(family, type)`` have not."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass  # the connection is gone already; reading will tell


def _discard(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
