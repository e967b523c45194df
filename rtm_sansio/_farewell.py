"""The transport of a ``logout``, which outlives the session by a moment (S7)."""

from __future__ import annotations

from typing import Any, Literal

from ._context import ClientTimer, Context
from ._link import ClientLink
from ._wire import Closed
from .messages import Done, MalformedBatch


class Farewell:
    """Waits for the server's confirmation and for nothing else; whatever ends the transport ends the call."""

    __slots__ = ("_context", "_request_id", "_waited_for", "link")

    def __init__(self, context: Context) -> None:
        self._context = context
        self.link: ClientLink | None = None
        self._request_id = 0
        self._waited_for = False

    def begin(self, link: ClientLink, request_id: int) -> None:
        """The logout is sent on this link."""
        self.link = link
        self._request_id = request_id
        self._waited_for = True
        self._context.arm(ClientTimer.LOGOUT, self._context.config.logout_timeout_seconds)

    def cancel(self, request_id: int) -> None:
        """Nobody waits for the call any more; the transport is still closed in order."""
        if request_id == self._request_id:
            self._waited_for = False

    def take(self, link: ClientLink, events: list[Any]) -> None:
        """What still arrives."""
        link.transmit_wire()
        if any(isinstance(event, Closed) or self._is_confirmation(link, event) for event in events):
            self.end("flush")

    def _is_confirmation(self, link: ClientLink, event: Any) -> bool:
        """Whether it ends the wait: the answer, or what no server sends."""
        encoding = link.encoding
        if type(event) is not encoding.message_type:
            return False
        try:
            messages, _ = encoding.server_decoder.decode(encoding.payload_of(event))
        except MalformedBatch:
            return True
        return any(isinstance(message, Done) and message.number == self._request_id for message in messages)

    def end(self, how: Literal["flush", "abort"]) -> None:
        """Confirmed; or given up, because the time is over or a new login begins."""
        if self.link is not None:
            self.link.close(how)
            self.transport_gone()

    def transport_gone(self) -> None:
        """The transport is over."""
        self.link = None
        self._context.timers.clear(ClientTimer.LOGOUT)
        if self._waited_for:
            self._context.complete(self._request_id, None)
