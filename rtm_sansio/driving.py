"""What a driver and a core are to each other: the interface that every frontend, ours or another's, is written against.

The contract, for every framework: give each call your clock's ``now`` (monotonic seconds); after any call take the
outputs until
there are none; at the end of a loop pass in which ``flush_wanted`` became true, ``flush`` and take the outputs;
answer each
``OpenTransport`` once; drop data for an id that you no longer have; keep one timer at ``next_deadline()``; read what
is readable
before ``handle_timeout``. ``docs/sans-io.md`` is the how-to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .errors import TransportFailure


class DrivenCore(Protocol):
    """What both roles take from a driver."""

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is to be called, in the driver's monotonic seconds; None for never."""

    def handle_timeout(self, *, now: float) -> None:
        """Time has passed. Early, late and repeated calls do no harm."""

    def receive_data(self, transport_id: int, data: bytes, *, now: float) -> None:
        """Bytes arrived."""

    def transport_lost(self, transport_id: int, cause: TransportFailure | None, *, now: float) -> None:
        """The transport ended: by an orderly end of the stream (None), or with an error."""

    def unsent(self, transport_id: int, byte_count: int, *, now: float) -> None:
        """How many bytes given to Transmit the socket has not taken: to be called when it becomes non-zero, when it
        passes 64 KiB or
        a doubling of it in either direction, at zero, and for each transport with bytes waiting before
        ``handle_timeout``."""

    def take_outputs(self) -> Sequence[Any]:
        """What is to be done and told, in order. A second call gives nothing."""
        ...


class ConnectingCore(DrivenCore, Protocol):
    """A core that asks for transports: a client."""

    def transport_opened(self, transport_id: int, *, now: float) -> None:
        """The transport of an ``OpenTransport`` is up (TLS included)."""

    def transport_failed(self, transport_id: int, cause: TransportFailure, *, now: float) -> None:
        """It could not be opened."""


class AcceptingCore(DrivenCore, Protocol):
    """A core that is given transports: a server."""

    @property
    def flush_wanted(self) -> bool:
        """Whether there is something that ``flush`` would send."""
        ...

    def transport_accepted(self, *, peer: str, now: float) -> int:
        """A transport was accepted; returns the id by which everything else names it. ``peer`` is for the log."""
        ...

    def flush(self, *, now: float) -> None:
        """Turn all that happened since the last flush into at most one Transmit for each transport."""

    def set_wall_clock(self, unix_seconds: float, *, now: float) -> None:
        """The wall clock, at the start and with each ``handle_timeout``: for timestamps, token expiry and login
        epochs only."""
