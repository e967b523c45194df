"""The client's side of one transport: opening handshake, login, heartbeats, batches. It lives as long as the
transport."""

from __future__ import annotations

import enum
from collections.abc import Callable

from ._liveness import Liveness
from ._wire import ClientWire
from .effects import Endpoint
from .messages import HEARTBEAT, SUBPROTOCOL_MSGPACK, ClientMessage, encode_in_pieces


class LinkPhase(enum.Enum):
    """How far a transport has come; each phase has a deadline in the core."""

    OPENING = "the driver opens the transport"
    HANDSHAKE = "the WebSocket handshake is under way"
    LOGIN = "the login is sent"
    RESTORING = "welcomed; the answer to the stated wishes is awaited"
    UP = "everything is as it was wished"


class ClientLink:
    """One transport, from the wish to open it to its end."""

    __slots__ = (
        "_outbox",
        "attempt",
        "endpoint",
        "liveness",
        "phase",
        "token_serial",
        "transport_id",
        "up_since",
        "wire",
    )

    def __init__(
        self, transport_id: int, endpoint: Endpoint, attempt: int, *, max_bytes: int, entropy: Callable[[int], bytes]
    ) -> None:
        self.transport_id = transport_id
        self.endpoint = endpoint
        self.attempt = attempt
        self.phase = LinkPhase.OPENING
        self.wire = ClientWire(
            host=_host_header(endpoint),
            target=endpoint.target,
            subprotocols=(SUBPROTOCOL_MSGPACK,),
            max_message_bytes=max_bytes,
            entropy=entropy,
        )
        self.liveness: Liveness | None = None
        self.token_serial = 0
        self.up_since: float | None = None
        self._outbox: list[ClientMessage] = []

    @property
    def welcomed(self) -> bool:
        """Whether requests may be sent on it."""
        return self.phase is LinkPhase.RESTORING or self.phase is LinkPhase.UP

    @property
    def has_outbox(self) -> bool:
        """Whether ``drain`` would give frames."""
        return bool(self._outbox)

    def post(self, message: ClientMessage) -> None:
        """Put a message into the next batch."""
        self._outbox.append(message)

    def post_first(self, message: ClientMessage) -> None:
        """Put a message in front of the next batch."""
        self._outbox.insert(0, message)

    def drain(self, max_frame_bytes: int, now: float) -> bytes:
        """All that waits, as frames of at most ``max_frame_bytes`` of payload (S45)."""
        messages, self._outbox = self._outbox, []
        if self.liveness is not None:
            self.liveness.last_sent = now
        return b"".join(self.wire.frame(payload) for payload in encode_in_pieces(messages, max_frame_bytes))

    def heartbeat(self, now: float) -> bytes:
        """A heartbeat's frame."""
        assert self.liveness is not None
        self.liveness.heartbeat_sent(now)
        return self.wire.frame(HEARTBEAT)


def _host_header(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    default_port = 443 if endpoint.secure else 80
    return host if endpoint.port == default_port else f"{host}:{endpoint.port}"
