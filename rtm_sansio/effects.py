"""What a core asks of the driver that runs it. An effect names its transport; nothing in it is to be read together
with live state."""

from __future__ import annotations

from typing import Literal

import msgspec


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One server address as the application gave it. A driver resolves ``host`` anew at each attempt (F-15)."""

    url: str
    host: str
    port: int
    secure: bool
    target: str


class OpenTransport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Open a connection (TLS included, if ``secure``) and answer once: ``transport_opened`` or ``transport_failed``,
    with this id.

    The driver races the addresses of the name inside the one attempt (RFC 8305). A ``CloseTransport`` for the id
    cancels it.
    """

    transport_id: int
    endpoint: Endpoint
    attempt: int


class Transmit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Write ``data`` to the transport, after what was given before. One Transmit is one write."""

    transport_id: int
    data: bytes


class CloseTransport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Close the transport and forget its id: with ``flush`` after what is written (at most 2 s), with ``abort`` at
    once."""

    transport_id: int
    how: Literal["flush", "abort"]


class PauseReading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Stop reading from the transport (S51)."""

    transport_id: int


class ResumeReading(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Read from the transport again."""

    transport_id: int


class AskToken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Call the application's token provider; answer with ``token_supplied`` or ``token_failed`` and this id (S27)."""

    ask_id: int


Effect = OpenTransport | Transmit | CloseTransport | PauseReading | ResumeReading | AskToken
