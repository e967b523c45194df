"""``ClientCore``: a client's session over any number of transports, as a pure state machine.

It decides when a transport is opened, to which endpoint, and when it is given up; it keeps the state, the timers, the
open requests and a cursor for each channel. A driver does what the effects say and reports what happened, with its
clock's ``now``.

This module is the composition: it hands everything to the part whose job it is. ``_commands`` checks what the app asks
of the server, ``_connection`` has the state and the link, ``_conversation`` the requests, ``_channels`` the readers,
``_token_part`` the tokens; what they share is in ``_context``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from ._answers import ANSWERS
from ._channels import Channels
from ._commands import RequestCommands
from ._connection import Connection
from ._context import ClientTimer, Context
from ._conversation import Conversation
from ._encodings import mistaken_kind
from ._link import ClientLink, LinkPhase, ProtocolViolation
from ._token_part import TokenPart, fault_of
from ._verdicts import close_failure, handshake_failure, rejection, retry_after_of
from ._wire import Closed, HandshakeFailed, Opened, Rejected
from .checks import (
    check_name,
    check_token,
)
from .codes import code_kind
from .config import ClientConfig
from .effects import Endpoint
from .errors import InvalidState, NotLoggedIn, TransportFailure
from .messages import (
    INBOX,
    Changed,
    Done,
    Entries,
    Failed,
    Gap,
    Going,
    Joined,
    Kicked,
    LoginRefused,
    MalformedBatch,
    MemberCount,
    Renewed,
    Restored,
    Sent,
    StatusChanged,
    Statuses,
    Welcome,
)
from .states import ConnectionState

__all__ = ["ClientCore", "ClientTimer"]

_MAX_RARE_FRAMES_PER_READ = 1024
_LONGEST_UID = 64  # until a welcome says otherwise (S45)


class ClientCore(RequestCommands):
    """One instance of a user: logs in, stays, comes back.

    Four families of methods. *Getters*: ``state``, ``uid``, ``next_deadline``, ``next_timer``. *Commands* of the
    application return a request id, whose end comes out as ``RequestCompleted`` or ``RequestErred``, or raise an
    ``RtmError`` and change nothing. *Reports* of the driver never raise because of the peer, nor for an id that is
    stale, unknown or repeated. ``take_outputs`` is to be called after each of the two until it is empty.

    ``endpoints`` come from ``parse_endpoints`` and are tried in turn. ``rng`` gives the jitter of the delays and
    nothing else; ``entropy(n)`` gives ``n`` unpredictable bytes: ids, nonces, masks.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        endpoints: Sequence[Endpoint],
        rng: random.Random,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.unknown_messages = 0
        """Optional messages of a later version that were skipped."""
        context = Context(config)
        self._timers = context.timers
        self._token = TokenPart(context)
        channels = Channels(config, context.outputs)
        conversation = Conversation(context, channels, self._token)
        connection = Connection(
            context,
            endpoints=endpoints,
            rng=rng,
            entropy=entropy,
            token=self._token,
            channels=channels,
            conversation=conversation,
        )
        super().__init__(context, connection, conversation, channels)
        # What a server may say in each phase of a link; anything else is a violation (S50).
        self._handlers: dict[LinkPhase, dict[type[Any], Callable[[Any], None]]] = {
            LinkPhase.LOGIN: {Welcome: connection.on_welcome, LoginRefused: connection.on_login_refused},
            LinkPhase.RESTORING: {Restored: connection.on_restored, Kicked: connection.on_kicked},
            LinkPhase.UP: {
                Kicked: connection.on_kicked,
                Entries: self._on_entries,
                Gap: self._on_gap,
                Going: channels.take_going,
                Done: conversation.on_done,
                Sent: conversation.on_sent,
                Joined: conversation.on_joined,
                Renewed: conversation.on_renewed,
                Failed: conversation.on_failed,
                Changed: conversation.on_changed,
                Statuses: conversation.on_statuses,
                StatusChanged: lambda message: conversation.status_watch.changed(message.statuses),
                MemberCount: self._on_member_count,
                **dict.fromkeys(ANSWERS, conversation.on_answer),
            },
        }
        self._on_timer: dict[ClientTimer, Callable[[], None]] = {
            ClientTimer.LOGIN: connection.on_login_timeout,
            ClientTimer.GRACE: connection.enter_reconnecting,
            ClientTimer.RETRY: connection.attempt,
            ClientTimer.ATTEMPT: connection.on_attempt_timeout,
            ClientTimer.RESTORE: connection.on_restore_timeout,
            ClientTimer.LIVENESS: connection.on_liveness,
            ClientTimer.REQUEST: conversation.on_timeout,
            ClientTimer.PACE: conversation.transmit,
            ClientTimer.PROGRESS: conversation.post_progress,
            ClientTimer.TOKEN_WARNING: self._token.on_warning,
            ClientTimer.TOKEN_END: connection.on_token_end,
            ClientTimer.TOKEN_PROVIDER: self._on_provider_timeout,
            ClientTimer.LOGOUT: lambda: connection.farewell.end("abort"),
        }

    # ------------------------------------------------------------------------------------------------ getters

    @property
    def state(self) -> ConnectionState:
        """The public state."""
        return self._connection.state

    @property
    def uid(self) -> str | None:
        """The uid of the last ``login``, or None before the first."""
        return self._connection.uid or None

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is to be called, in the caller's monotonic seconds; None for never."""
        upcoming = self._timers.next()
        return None if upcoming is None else upcoming[0]

    def next_timer(self) -> ClientTimer | None:
        """The name of the timer behind ``next_deadline``."""
        upcoming = self._timers.next()
        return None if upcoming is None else upcoming[1]

    @property
    def attempts(self) -> int:
        """How many attempts the present ``login`` has made so far, reconnects included."""
        return self._connection.attempts

    def cursor(self, channel: str) -> int | None:
        """The offset up to which a joined channel's log has come; None if it is not joined."""
        return self._channels.cursor(channel)

    # ----------------------------------------------------------------------------------------------- commands

    def login(self, uid: str, token: str | None, *, token_provider: bool = False, now: float) -> int:
        """Log in (S3-S6); completes with None when CONNECTED is entered, or fails with a LoginFailed when
        DISCONNECTED is.

        With ``token_provider`` the token may be None: it is asked for with ``AskToken`` whenever a new one is needed
        (S27).
        Raises InvalidState unless DISCONNECTED (S4), InvalidArgument for an impossible uid or token.
        """
        state = self.state
        if state is not ConnectionState.DISCONNECTED:
            then = ", then login()" if state is ConnectionState.ABORTED else ""
            raise InvalidState(f"login() in state {state.value}: one login at a time; call logout() first{then}")
        check_name(uid, "uid", _LONGEST_UID)
        if token is not None:
            check_token(token)
        self._context.advance(now)
        self._token.begin(token, from_provider=token_provider)
        return self._connection.login(uid)

    def logout(self, *, now: float) -> int:
        """Log out (S7): DISCONNECTED at once; completes when the server confirmed, or after the logout timeout at the
        latest.

        Raises NotLoggedIn in DISCONNECTED. Never fails because the network is down.
        """
        if self.state is ConnectionState.DISCONNECTED:
            raise NotLoggedIn("logout() in state DISCONNECTED: nobody is logged in; call login() first")
        self._context.advance(now)
        return self._connection.logout()

    def renew_token(self, token: str, *, now: float) -> int:
        """Replace the token; completes with a TokenReceipt when the server accepted it (S27, S28). Without a link it
        makes an attempt.

        Raises NotConnected unless CONNECTED or RECONNECTING, InvalidArgument for an impossible token, RequestsFull.
        """
        self._check_connected("renew_token()")
        check_token(token)
        self._conversation.check_room()
        self._context.advance(now)
        return self._connection.renew_token(token)

    def retry_now(self, *, now: float) -> None:
        """Make an attempt at once (S16), for instance when the network has changed (F-20); with a link, send a
        heartbeat.

        Raises InvalidState in DISCONNECTED and ABORTED.
        """
        if self.state in (ConnectionState.DISCONNECTED, ConnectionState.ABORTED):
            raise InvalidState(f"retry_now() in state {self.state.value}: there is nothing to retry; call login()")
        self._context.advance(now)
        self._connection.retry_now()

    def cancel(self, request_id: int, *, now: float) -> None:
        """Nobody waits for this request any more: no end of it comes out. Cancelling a login is a logout (S3). Never
        raises."""
        self._context.advance(now)
        self._connection.cancel(request_id)
        self._conversation.cancel(request_id)

    def iterating(self, home: str, on: bool, *, backlog_events: int = 0, backlog_bytes: int = 0, now: float) -> None:
        """The app begins or ends to iterate the events of a home; ``backlog_*`` is what waits in its queue (S52)."""
        self._context.advance(now)
        self._conversation.post(self._channels.iterating(home, on, backlog_events, backlog_bytes))

    def consumed(self, home: str, count: int, byte_count: int, *, now: float) -> None:
        """The app took ``count`` events with ``byte_count`` message bytes out of the queue of an iterated home
        (S52): of the client's own those that stand in its inbox (``HomeQueue.counts``)."""
        self._context.advance(now)
        self._conversation.post(self._channels.consumed(home, count, byte_count))

    # ------------------------------------------------------------------------------------- reports of a driver

    def token_supplied(self, ask_id: int, token: str, *, now: float) -> None:
        """The provider answered an ``AskToken`` (S27)."""
        if not self._token.is_asking(ask_id):
            return
        self._context.advance(now)
        fault = fault_of(token)
        if fault is None:
            self._connection.token_supplied(token)
        else:
            self._connection.token_failed(str(fault), fault)

    def token_failed(self, ask_id: int, cause: BaseException, *, now: float) -> None:
        """The provider raised (S27). ``cause`` is kept, its text is not shown: it might hold a token."""
        if self._token.is_asking(ask_id):
            self._context.advance(now)
            self._connection.token_failed(f"the token provider raised {type(cause).__name__}", cause)

    def _on_provider_timeout(self) -> None:
        seconds = self._context.config.token_provider_timeout_seconds
        self._connection.token_failed(f"the token provider took longer than {seconds} s", None)

    def transport_opened(self, transport_id: int, *, now: float) -> None:
        """The transport of an ``OpenTransport`` is up, TLS included."""
        link = self._opening_link(transport_id)
        if link is not None:
            self._context.advance(now)
            link.start()

    def transport_failed(self, transport_id: int, cause: TransportFailure, *, now: float) -> None:
        """The transport could not be opened."""
        if self._opening_link(transport_id) is not None:
            self._context.advance(now)
            self._connection.link_ended(cause)

    def _opening_link(self, transport_id: int) -> ClientLink | None:
        link = self._connection.link
        if link is not None and link.transport_id == transport_id and link.phase is LinkPhase.OPENING:
            return link
        return None

    def receive_data(self, transport_id: int, data: bytes, *, now: float) -> None:
        """Bytes arrived.

        A server that floods breaks the protocol: at most 1,024 of the frames in one call may be none of a message's
        own, that is control frames and fragments behind the first (F-64). No server that means well sends 64 KiB of
        so small ones.
        """
        link = self._connection.link
        if link is not None and link.transport_id == transport_id:
            if link.phase is not LinkPhase.OPENING:
                self._context.advance(now)
                if link.liveness is not None and link.liveness.received(self._context.now):
                    self._timers.set(ClientTimer.LIVENESS, link.liveness.next_deadline())
                events = link.wire.receive(data)
                rare_frames, link.wire.rare_frames = link.wire.rare_frames, 0
                if rare_frames > _MAX_RARE_FRAMES_PER_READ and link.wire.is_open:
                    self._connection.violation("a flood of control frames or fragments", 1008)
                else:
                    self._take_wire_events(link, events)
            return
        closing = self._connection.farewell.link
        if closing is not None and closing.transport_id == transport_id:
            self._context.advance(now)
            self._connection.farewell.take(closing, closing.wire.receive(data))

    def transport_lost(self, transport_id: int, cause: TransportFailure | None, *, now: float) -> None:
        """The transport ended: by an orderly end of the stream (None), or with an error."""
        link = self._connection.link
        if link is not None and link.transport_id == transport_id:
            self._context.advance(now)
            retry_after = None
            for event in link.wire.receive_eof():
                if isinstance(event, Rejected):  # an answer whose body never ended
                    cause, retry_after = rejection(event), retry_after_of(event)
            cause = cause or TransportFailure("the server closed the connection", code="connection_lost")
            self._connection.link_ended(cause, retry_after=retry_after)
            return
        closing = self._connection.farewell.link
        if closing is not None and closing.transport_id == transport_id:
            self._context.advance(now)
            self._connection.farewell.transport_gone()

    def unsent(self, transport_id: int, byte_count: int, *, now: float) -> None:
        """What the socket has not taken. A client needs no more of it than the time: its requests are bounded by
        number."""
        self._context.advance(now)

    def handle_timeout(self, *, now: float) -> None:
        """Time has passed: fire what is due. Early, late and repeated calls do no harm; all that arrived is to be
        reported before."""
        self._context.advance(now)
        while (name := self._timers.pop_due(self._context.now)) is not None:
            self._on_timer[name]()

    def take_outputs(self) -> list[Any]:
        """Effects and events, in order. A second call gives nothing."""
        link = self._connection.link
        if link is not None and link.has_outbox:
            self._conversation.lead_batch()
            link.transmit_outbox(self._context.now)
        outputs = self._context.outputs[:]
        self._context.outputs.clear()
        return outputs

    # ---------------------------------------------------------------------------------------- bytes and messages

    def _take_wire_events(self, link: ClientLink, events: list[Any]) -> None:
        link.transmit_wire()
        for event in events:
            if type(event) is link.encoding.message_type:
                try:
                    self._take_batch(link, link.encoding.payload_of(event))
                except ProtocolViolation as fault:
                    self._connection.violation(str(fault), fault.close_code)
                except MalformedBatch as fault:
                    self._connection.violation(str(fault), 1002)
            else:
                self._on_wire_event(link, event)
            if link is not self._connection.link:
                return

    def _take_batch(self, link: ClientLink, payload: bytes) -> None:
        encoding = link.encoding
        if len(payload) > encoding.login_bytes and not link.welcomed:
            limit = encoding.login_bytes
            raise ProtocolViolation(f"a message above {limit} bytes before the welcome", close_code=1009)
        messages, skipped = encoding.server_decoder.decode(payload)
        self.unknown_messages += skipped
        if not messages:
            if link.liveness is None:
                raise ProtocolViolation("a heartbeat before the welcome")
            if not skipped:
                link.liveness.answered()
            return
        phase = link.phase
        handlers = self._handlers[phase]
        for message in messages:
            handler = handlers.get(type(message))
            if handler is None:
                raise ProtocolViolation(f"a message of type {type(message).__name__} in phase {phase.name}")
            handler(message)
            if link.phase is not phase:
                phase = link.phase
                handlers = self._handlers[phase]
            if link is not self._connection.link:
                return

    def _on_entries(self, block: Entries) -> None:
        wish = self._channels.take_entries(block)
        if block.log == INBOX:
            self._conversation.progress_changed()
        if wish is not None:
            self._conversation.post(wish)

    def _on_gap(self, gap: Gap) -> None:
        wish = self._channels.take_gap(gap)
        if gap.log == INBOX:
            self._conversation.progress_changed()
        if wish is not None:
            self._conversation.post(wish)

    def _on_member_count(self, count: MemberCount) -> None:
        self._conversation.post(self._channels.take_count(count))

    def _on_wire_event(self, link: ClientLink, event: Any) -> None:
        connection = self._connection
        if isinstance(event, Opened):
            connection.on_opened()
        elif isinstance(event, Rejected):
            link.close("abort")
            connection.link_ended(rejection(event), retry_after=retry_after_of(event))
        elif isinstance(event, HandshakeFailed):
            link.close("abort")
            connection.link_ended(handshake_failure(event))
        elif not isinstance(event, Closed):
            connection.violation(mistaken_kind(event), 1003)
        elif event.by_peer and code_kind(event.code) is not None:
            connection.told_off(event.code, event.reason, None)
        else:
            link.close("flush")
            connection.link_ended(close_failure(event))
