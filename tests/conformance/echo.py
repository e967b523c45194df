"""An echo server and an echo client with the interface of our cores, on the real wire layer.

They take the place of ``Hub`` and ``ClientCore`` in the real drivers, so that the Autobahn suite meets the
code that carries RTM messages: sockets, driver, wire; only the application is another one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from rtm_sansio._wire import ClientWire, Closed, HandshakeFailed, Rejected, ServerWire
from rtm_sansio.effects import CloseTransport, OpenTransport, Transmit
from rtm_sansio.endpoints import parse_endpoint
from rtm_sansio.errors import TransportFailure

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""The largest message of the suite (group 9) is 16 MiB."""

CLOSE_WAIT_SECONDS = 1.0
"""How long a client that has closed waits for the server to end the connection (RFC 6455, section 7.1.1)."""

CASE_SECONDS = 120.0
"""No case takes longer, not even those of group 9; what does is aborted and left to the judge."""


class _EchoCore:
    """What both roles share: transports, each with a wire, and outputs."""

    def __init__(self) -> None:
        self._wires: dict[int, Any] = {}
        self._deadlines: dict[int, float] = {}
        self._outputs: list[Any] = []
        self._flush_wanted = False
        self._last_id = 0

    # --- the interface of a core

    def next_deadline(self) -> float | None:
        return min(self._deadlines.values(), default=None)

    def handle_timeout(self, *, now: float) -> None:
        for transport_id in [i for i, deadline in self._deadlines.items() if deadline <= now]:
            self._end(transport_id, "abort", now=now)

    def receive_data(self, transport_id: int, data: bytes, *, now: float) -> None:
        wire = self._wires.get(transport_id)
        if wire is None:
            return
        self._handle(transport_id, wire, wire.receive(data), now=now)

    def transport_lost(self, transport_id: int, cause: TransportFailure | None, *, now: float) -> None:
        wire = self._wires.get(transport_id)
        if wire is None:
            return
        self._handle(transport_id, wire, wire.receive_eof(), now=now)
        if transport_id in self._wires:
            self._forget(transport_id)
            self._outputs.append(CloseTransport(transport_id=transport_id, how="abort"))
            self._ended(transport_id, now=now)

    def unsent(self, transport_id: int, byte_count: int, *, now: float) -> None:
        """An echo keeps no account of a slow reader: the suite reads what it gets."""

    @property
    def flush_wanted(self) -> bool:
        return self._flush_wanted

    def flush(self, *, now: float) -> None:
        self._flush_wanted = False

    def set_wall_clock(self, unix_seconds: float, *, now: float) -> None:
        """An echo does not care what time it is."""

    def take_outputs(self) -> Sequence[Any]:
        outputs, self._outputs = self._outputs, []
        return outputs

    # --- inside

    def _handle(self, transport_id: int, wire: Any, events: Sequence[Any], *, now: float) -> None:
        over = False
        for event in events:
            if isinstance(event, str | bytes):
                self._message(transport_id, wire, event, now=now)
            elif isinstance(event, Closed | Rejected | HandshakeFailed):
                over = True
        self._send(transport_id, wire.data_to_send())
        if over:
            self._over(transport_id, now=now)

    def _send(self, transport_id: int, data: bytes) -> None:
        if data:
            self._outputs.append(Transmit(transport_id=transport_id, data=data))

    def _message(self, transport_id: int, wire: Any, payload: str | bytes, *, now: float) -> None:
        if wire.is_open:
            self._send(transport_id, wire.data_to_send())
            self._send(transport_id, wire.frame(payload))

    def _over(self, transport_id: int, *, now: float) -> None:
        """The WebSocket connection is over, its last bytes are on their way: a server ends the transport."""
        self._end(transport_id, "flush", now=now)

    def _end(self, transport_id: int, how: str, *, now: float) -> None:
        self._forget(transport_id)
        self._outputs.append(CloseTransport(transport_id=transport_id, how=how))  # type: ignore[arg-type]
        self._ended(transport_id, now=now)

    def _forget(self, transport_id: int) -> None:
        del self._wires[transport_id]
        self._deadlines.pop(transport_id, None)

    def _ended(self, transport_id: int, *, now: float) -> None:
        """The transport is gone."""


class EchoServerCore(_EchoCore):
    """Sends every message back, on any path."""

    def __init__(self, *, path: str = "/") -> None:
        super().__init__()
        self._path = path

    def transport_accepted(self, *, peer: str, now: float) -> int:
        self._last_id += 1
        self._wires[self._last_id] = ServerWire(path=self._path, subprotocols=(), max_message_bytes=MAX_MESSAGE_BYTES)
        return self._last_id


@dataclass
class _Visit:
    """One connection of the client: a case, or one of the fuzzing server's own requests."""

    target: str
    echo: bool
    then: Callable[[str], None] | None = None


class EchoClientCore(_EchoCore):
    """Visits the fuzzing server: asks how many cases there are, goes through them, has the report written."""

    def __init__(
        self,
        *,
        url: str,
        agent: str,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__()
        self._url = url.rstrip("/")
        self._agent = quote(agent)
        self._entropy = entropy
        self.on_finished: Callable[[], None] = lambda: None
        self._visits = [_Visit("/getCaseCount", echo=False, then=self._plan)]
        self._current: tuple[int, _Visit] | None = None
        self.case_count: int | None = None
        self.failure: str | None = None
        self.finished = False

    def start(self, *, now: float) -> None:
        self._next(now=now)

    def transport_opened(self, transport_id: int, *, now: float) -> None:
        if self._current is None or transport_id != self._current[0]:
            return
        endpoint = parse_endpoint(self._url + self._current[1].target)
        wire = ClientWire(
            host=f"{endpoint.host}:{endpoint.port}",
            target=endpoint.target,
            subprotocols=(),
            max_message_bytes=MAX_MESSAGE_BYTES,
            entropy=self._entropy,
        )
        self._wires[transport_id] = wire
        self._deadlines[transport_id] = now + CASE_SECONDS
        wire.start()
        self._send(transport_id, wire.data_to_send())

    def transport_failed(self, transport_id: int, cause: TransportFailure, *, now: float) -> None:
        if self._current is not None and transport_id == self._current[0]:
            self.failure = f"cannot reach the fuzzing server: {cause}"
            self._finish()

    def _plan(self, answer: str) -> None:
        self.case_count = int(json.loads(answer))
        numbers = range(1, self.case_count + 1)
        self._visits = [_Visit(f"/runCase?case={number}&agent={self._agent}", echo=True) for number in numbers]
        self._visits.append(_Visit(f"/updateReports?agent={self._agent}", echo=False))

    def _message(self, transport_id: int, wire: Any, payload: str | bytes, *, now: float) -> None:
        assert self._current is not None
        visit = self._current[1]
        if visit.echo:
            super()._message(transport_id, wire, payload, now=now)
        elif visit.then is not None:
            visit.then(payload if isinstance(payload, str) else payload.decode())

    def _over(self, transport_id: int, *, now: float) -> None:
        # The server ends the connection; a client only sees to it that this does not take for ever.
        self._deadlines[transport_id] = min(self._deadlines[transport_id], now + CLOSE_WAIT_SECONDS)

    def _ended(self, transport_id: int, *, now: float) -> None:
        self._next(now=now)

    def _next(self, *, now: float) -> None:
        if not self._visits:
            self._finish()
            return
        visit = self._visits.pop(0)
        self._last_id += 1
        self._current = (self._last_id, visit)
        endpoint = parse_endpoint(self._url + visit.target)
        self._outputs.append(OpenTransport(transport_id=self._last_id, endpoint=endpoint, attempt=1))

    def _finish(self) -> None:
        self._current = None
        self.finished = True
        self.on_finished()
