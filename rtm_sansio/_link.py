"""The client's side of one transport: opening handshake, login, heartbeats, batches. It lives as long as the
transport."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Literal

from ._encodings import Encoding
from ._liveness import Liveness
from ._wire import ClientWire
from .effects import CloseTransport, Endpoint, Transmit
from .messages import ClientMessage, Want


class LinkPhase(enum.Enum):
    """How far a transport has come; each phase has a deadline in the core. The values stand in error texts."""

    OPENING = "no connection could be made"
    HANDSHAKE = "the server did not answer the WebSocket handshake"
    LOGIN = "the server did not answer the login"
    RESTORING = "the server did not restore the session"
    UP = "everything is as it was wished"


class ProtocolViolation(Exception):
    """The server broke the protocol: raised by what reads its messages, caught where they are handed out (S50)."""

    def __init__(self, what: str, *, close_code: int = 1002) -> None:
        super().__init__(what)
        self.close_code = close_code


class ClientLink:
    """One transport, from the wish to open it to its end. Its effects go to ``outputs``."""

    __slots__ = (
        "_outbox",
        "_outputs",
        "attempt",
        "encoding",
        "late_want",
        "liveness",
        "max_frame_bytes",
        "phase",
        "token_serial",
        "transport_id",
        "up_since",
        "wire",
    )

    def __init__(
        self,
        transport_id: int,
        endpoint: Endpoint,
        attempt: int,
        *,
        encoding: Encoding,
        max_bytes: int,
        entropy: Callable[[int], bytes],
        outputs: list[Any],
    ) -> None:
        self.transport_id = transport_id
        self.attempt = attempt
        self.encoding = encoding
        self.phase = LinkPhase.OPENING
        self.wire = ClientWire(
            host=_host_header(endpoint),
            target=endpoint.target,
            subprotocols=(encoding.subprotocol,),
            # From the start: what stands behind the welcome may come in the same read.
            max_message_bytes=encoding.frame_bytes(max_bytes),
            entropy=entropy,
        )
        self.liveness: Liveness | None = None
        self.max_frame_bytes = encoding.login_bytes
        self.token_serial = 0
        self.up_since: float | None = None
        self.late_want: Want | None = None
        """A statement too large to be sent before the welcome (S59)."""
        self._outbox: list[ClientMessage] = []
        self._outputs = outputs

    @property
    def welcomed(self) -> bool:
        """Whether the session is there: the server reads requests."""
        return self.phase is LinkPhase.RESTORING or self.phase is LinkPhase.UP

    @property
    def has_outbox(self) -> bool:
        """Whether messages wait to be transmitted."""
        return bool(self._outbox)

    def post(self, message: ClientMessage) -> None:
        """Put a message into the next batch."""
        self._outbox.append(message)

    def post_first(self, message: ClientMessage) -> None:
        """Put a message in front of the next batch."""
        self._outbox.insert(0, message)

    def start(self) -> None:
        """The transport is up: send the opening request."""
        self.phase = LinkPhase.HANDSHAKE
        self.wire.start()
        self.transmit_wire()

    def allow_frames_of(self, max_frame_bytes: int) -> None:
        """The welcome's limit, which counts MessagePack, for both directions (S15, S45)."""
        self.max_frame_bytes = self.encoding.frame_bytes(max_frame_bytes)
        self.wire.max_message_bytes = max(self.wire.max_message_bytes, self.max_frame_bytes)

    def transmit_wire(self) -> None:
        """What the wire has to say: its handshake, pongs, a close frame."""
        data = self.wire.data_to_send()
        if data:
            self._outputs.append(Transmit(transport_id=self.transport_id, data=data))

    def transmit_outbox(self, now: float) -> None:
        """All messages that wait, in frames of at most ``max_frame_bytes`` of payload (S45).

        A wire that closed meanwhile takes none of them: its end is the next thing to be found out.
        """
        messages, self._outbox = self._outbox, []
        if not self.wire.is_open:
            return
        if self.liveness is not None:
            self.liveness.last_sent = now
        encoding, frame = self.encoding, self.wire.frame
        pieces = encoding.encode_in_pieces(messages, self.max_frame_bytes, 0)
        data = b"".join([frame(encoding.message_of(payload)) for payload in pieces])
        self._outputs.append(Transmit(transport_id=self.transport_id, data=data))

    def transmit_heartbeat(self, liveness: Liveness, now: float) -> None:
        """A heartbeat at once."""
        liveness.heartbeat_sent(now)
        self._outputs.append(Transmit(transport_id=self.transport_id, data=self.wire.frame(self.encoding.heartbeat)))

    def close(self, how: Literal["flush", "abort"], *, code: int = 1000, reason: str = "") -> None:
        """Close the transport, with a close frame when it is to be flushed. The link is over."""
        if how == "flush":
            self.wire.close(code, reason)
            self.transmit_wire()
        self._outputs.append(CloseTransport(transport_id=self.transport_id, how=how))


def _host_header(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    default_port = 443 if endpoint.secure else 80
    return host if endpoint.port == default_port else f"{host}:{endpoint.port}"
