"""The threaded driver: one daemon I/O thread runs one core of ``rtm_sansio.driving`` over sockets.

It knows transports and effects and nothing of what they carry. All core calls, all reads and all writes are
made by the I/O thread; commands of other threads are handed to it (``call``, ``post``).
"""

from __future__ import annotations

import logging
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from rtm_sansio.auth import FailureNotes
from rtm_sansio.driving import AcceptingCore, ConnectingCore
from rtm_sansio.effects import CloseTransport, Endpoint, OpenTransport, PauseReading, ResumeReading, Transmit
from rtm_sansio.endpoints import failure_from
from rtm_sansio.errors import InvalidState, RtmError

from ._connect import Connecting, Resolver, resolve
from ._io_thread import IoThread, ignore
from ._listening import Listening
from ._sockets import Sockets
from ._threads import start_daemon
from ._tls import TlsFilter
from ._transport import Transport

T = TypeVar("T")

CATCH_UP_ROUNDS = 16
"""How often what is readable is read before a timeout is handled; a flood must not put it off for ever."""
CATCH_UP_SECONDS = 0.05
"""How long, likewise: then the round under way, in which each socket is read once, is the last."""
MAX_OPENING = 16
"""Helper threads at a time: each ends with its attempt, but a name look-up cannot be interrupted."""
LONGEST_SELECT_SECONDS = 3600.0

log = logging.getLogger("rtm")


def _ended_error(fault: BaseException | None) -> RtmError:
    return InvalidState("the driver has ended" + (" by an internal error, which was logged" if fault else ""))


class Driver(IoThread):
    """Runs ``core``; what comes out of it and is no effect on a transport goes to ``on_output``, in order.

    ``on_output`` is called in the I/O thread, may call the core, must not block, and must not raise;
    ``after_pass`` likewise, at the end of each pass of the loop. ``on_ended(fault)`` is called at the end of
    the thread. ``tls`` is the context of secure endpoints (default: ``ssl.create_default_context()``), or of
    all that is accepted (default: no TLS). ``listeners`` are closed by the driver.
    """

    def __init__(
        self,
        core: ConnectingCore | AcceptingCore,
        on_output: Callable[[Any], object],
        *,
        name: str = "rtm",
        tls: ssl.SSLContext | None = None,
        listeners: Sequence[socket.socket] = (),
        on_ended: Callable[[BaseException | None], object] = ignore,
        ended_error: Callable[[BaseException | None], RtmError] = _ended_error,
        after_pass: Callable[[float], object] = ignore,
        resolver: Resolver = resolve,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, ended_error=ended_error, clock=clock)
        self._core = core
        self._connecting = cast(ConnectingCore, core)
        self._accepting = cast(AcceptingCore, core) if hasattr(core, "transport_accepted") else None
        self._on_output = on_output
        self._on_ended = on_ended
        self._after_pass = after_pass
        self._tls = tls
        self._resolver = resolver
        self._wall_clock = wall_clock
        self._sockets: Sockets
        self._listening = Listening(listeners, self._accept)
        self._accept_faults = FailureNotes()
        self.last_failure: RtmError | None = None
        """Why the last transport could not be opened, or ended, if it was an error. The owner may clear it."""
        self._opening: dict[int, Connecting | None] = {}
        self._helpers = 0
        self._draining = False

    # --- the loop

    def _begin(self) -> None:
        self._sockets = Sockets(self._selector, self, self._clock)
        self._listening.begin(self._selector)
        self._set_wall_clock()

    def _pass(self) -> None:
        for key, events in self._selector.select(self._timeout()):
            self._on_ready(key, events)
        self._run_work()
        now = self._clock()
        if (deadline := self._core.next_deadline()) is not None and deadline <= now:
            self._tick()
        if self._listening.again_at is not None and self._listening.again_at <= now:
            self._listening.begin(self._selector)
        self._sockets.end_overdue(now)
        self._after_pass(now)
        self._drain()
        self._write_all()

    def _write_all(self) -> None:
        """Write once to each transport that something is to be written to."""
        if self._accepting is not None and self._accepting.flush_wanted:
            self._accepting.flush(now=self._clock())
            self._drain()
        self._sockets.write_dirty()

    def _timeout(self) -> float | None:
        """Seconds until there is something to do, None for never."""
        flush_wanted = self._accepting is not None and self._accepting.flush_wanted
        if self._work or self._sockets.dirty or flush_wanted:
            return 0.0
        deadlines = (
            self._core.next_deadline(),
            self._sockets.next_deadline(),
            self._listening.again_at,
            self._stop_at,
        )
        earliest = min((deadline for deadline in deadlines if deadline is not None), default=None)
        if earliest is None:
            return None
        return min(max(0.0, earliest - self._clock()), LONGEST_SELECT_SECONDS)

    def _on_ready(self, key: selectors.SelectorKey, events: int) -> bool:
        """Serve one ready socket; whether it was a transport to be read."""
        if isinstance(key.data, Transport):
            self._sockets.on_ready(key.data, events)
            return bool(events & selectors.EVENT_READ)
        if key.data is None:
            self._take_wakes()
        else:
            self._listening.on_ready(key.data, self._clock())
        return False

    def _tick(self) -> None:
        """The core's deadline is over. What arrived before counts first (S13), and what the sockets did not take."""
        give_up_at = self._clock() + CATCH_UP_SECONDS
        for _ in range(CATCH_UP_ROUNDS):
            read = [self._on_ready(key, events) for key, events in self._selector.select(0)]
            if not any(read):
                break
            self._write_all()  # or a flood would put off the answers to everybody
            if self._clock() >= give_up_at:
                break
        self._sockets.report_unsent()
        self._set_wall_clock()
        self._core.handle_timeout(now=self._clock())
        self._drain()

    def _set_wall_clock(self) -> None:
        if self._accepting is not None:
            self._accepting.set_wall_clock(self._wall_clock(), now=self._clock())

    def _call_here(self, function: Callable[[float], T]) -> T:
        outcome = function(self._clock())
        self._drain()
        return outcome

    def _after_work(self) -> None:
        self._drain()

    def _stopping(self) -> None:
        self._listening.close()
        self._cancel_opening()
        self._sockets.abort_open()

    def _unfinished(self) -> bool:
        return self._sockets.closing

    def _release(self, fault: BaseException | None) -> None:
        self._listening.close()
        self._cancel_opening()
        if hasattr(self, "_sockets"):
            self._sockets.abort_all()
        self._on_ended(fault)

    # --- what the core wants

    def _drain(self) -> None:
        """Take the core's outputs until there are none. What a callback does to the core meanwhile adds to them."""
        if self._draining:
            return
        self._draining = True
        try:
            while outputs := self._core.take_outputs():
                for output in outputs:
                    self._do(output)
        finally:
            self._draining = False

    def _do(self, output: Any) -> None:
        kind = type(output)  # pyright: ignore[reportUnknownVariableType]
        if kind is Transmit:
            self._sockets.put(output.transport_id, output.data)
        elif kind is OpenTransport:
            self._open(output.transport_id, output.endpoint)
        elif kind is CloseTransport:
            attempt = self._opening.pop(output.transport_id, None)
            if attempt is not None:
                attempt.cancel()
            self._sockets.close(output.transport_id, flush=output.how == "flush")
        elif kind is PauseReading or kind is ResumeReading:
            self._sockets.pause(output.transport_id, kind is PauseReading)
        else:
            self._on_output(output)

    # --- opening

    def _open(self, transport_id: int, endpoint: Endpoint) -> None:
        self._opening[transport_id] = None
        try:
            if self._helpers >= MAX_OPENING:
                raise TimeoutError(f"{self._helpers} earlier attempts still look their names up")
            attempt = Connecting(endpoint.host, endpoint.port, resolver=self._resolver)
            try:
                start_daemon(
                    lambda: self._connect(transport_id, endpoint, attempt),
                    f"{self._name}-connect-{transport_id}",
                )
            except RuntimeError as fault:  # the interpreter exits, or is out of threads
                attempt.abandon()
                raise OSError(f"no thread for the connection: {fault}") from fault
        except OSError as fault:
            # By the work list: the core is told after this output and those behind it.
            error = fault
            self._work.append((lambda now: self._not_connected(transport_id, error), ignore))
        else:
            self._opening[transport_id] = attempt
            self._helpers += 1

    def _connect(self, transport_id: int, endpoint: Endpoint, attempt: Connecting) -> None:
        """Runs in the helper thread."""
        tls: TlsFilter | None = None
        try:
            if endpoint.secure:
                if self._tls is None:
                    self._tls = ssl.create_default_context()  # reads files
                tls = TlsFilter(self._tls, server_side=False, server_hostname=endpoint.host)
            sock = attempt.run()
        except Exception as fault:
            attempt.abandon()
            error = fault
            self.post(lambda now: self._helper_failed(transport_id, error))
        else:
            self.post(lambda now: self._connected(transport_id, sock, tls), lambda _: sock.close())

    def _helper_failed(self, transport_id: int, error: Exception) -> None:
        self._helpers -= 1
        self._not_connected(transport_id, error)

    def _not_connected(self, transport_id: int, error: Exception) -> None:
        if transport_id in self._opening:  # else it was closed meanwhile
            del self._opening[transport_id]
            self.failed(transport_id, error)

    def _connected(self, transport_id: int, sock: socket.socket, tls: TlsFilter | None) -> None:
        self._helpers -= 1
        attempt = self._opening.pop(transport_id, None)
        if attempt is None:  # closed meanwhile
            sock.close()
            return
        attempt.cancel()  # it has nothing left but its descriptor
        self._sockets.add(transport_id, sock, tls, opening=True)

    def _cancel_opening(self) -> None:
        for attempt in self._opening.values():
            if attempt is not None:
                attempt.cancel()
        self._opening.clear()

    def _accept(self, sock: socket.socket, peer: str) -> None:
        assert self._accepting is not None
        try:
            tls = None if self._tls is None else TlsFilter(self._tls, server_side=True)
        except (OSError, ValueError) as fault:  # ssl.SSLError is an OSError
            sock.close()
            if self._accept_faults.take(fault, self._clock()) is not None:  # not one line for each stranger
                log.error("! connections cannot be accepted: the TLS context fails: %s", fault)  # noqa: TRY400
            return
        # The core is told before the TLS handshake, so that its deadline for a login covers that as well.
        transport_id = self._accepting.transport_accepted(peer=peer, now=self._clock())
        self._sockets.add(transport_id, sock, tls, opening=False)
        self._drain()

    # --- what the sockets report (the Observer of ``Sockets``)

    def opened(self, transport_id: int) -> None:
        """The transport is up."""
        self._connecting.transport_opened(transport_id, now=self._clock())
        self._drain()

    def failed(self, transport_id: int, error: Exception) -> None:
        """The transport could not be opened."""
        self.last_failure = cause = failure_from(error)
        log.info("= transport %d could not be opened: %s", transport_id, cause)
        self._connecting.transport_failed(transport_id, cause, now=self._clock())
        self._drain()

    def received(self, transport_id: int, data: bytes) -> None:
        """Bytes arrived."""
        self._core.receive_data(transport_id, data, now=self._clock())
        self._drain()

    def lost(self, transport_id: int, error: Exception | None) -> None:
        """The transport ended."""
        cause = None if error is None else failure_from(error, while_open=True)
        self.last_failure = cause or self.last_failure
        # Of a server, strangers cause as many ends as they like: a log at its usual level must not grow with them.
        level = logging.INFO if self._accepting is None else logging.DEBUG
        log.log(level, "= transport %d ended: %s", transport_id, cause or "closed by the peer")
        self._core.transport_lost(transport_id, cause, now=self._clock())
        self._drain()

    def unsent(self, transport_id: int, byte_count: int) -> None:
        """Bytes wait for the socket."""
        self._core.unsent(transport_id, byte_count, now=self._clock())
        self._drain()
