"""``Hub``: the server's core. It owns transports and the sessions that they serve; the engine owns what several nodes
must agree on.

Everything that happens marks what it touches; ``flush`` turns it into one append per channel, one entries frame per
log and one Transmit per transport. The engine's answers come through continuations, at once from the embedded engine,
later from another. Here its parts are put together, and what arrives is given to the one that it concerns.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from ._encodings import mistaken_kind
from ._hub_channels import Channels
from ._hub_engine import EnginePort
from ._hub_flood import RARE_FRAMES_PER_UNIT, FloodGate
from ._hub_lease import Lease
from ._hub_logins import NO_LEASE, Logins
from ._hub_memberships import Memberships
from ._hub_requests import Requests
from ._hub_sessions import Sessions
from ._hub_statements import Statements
from ._hub_transports import Transports
from ._hubparts import MAX_EPOCH_BYTES, AttachedSession, HubContext, ServerLink, ServerPhase
from ._wire import Closed, HandshakeFailed, Opened
from .checks import check_ban, check_name
from .codes import Code
from .config import ServerConfig
from .errors import TransportFailure
from .messages import (
    BatchDecoder,
    ClientMessage,
    GoOn,
    Hold,
    Login,
    MalformedBatch,
    Progress,
    RenewToken,
    Want,
)
from .operations import (
    Announcement,
    Answer,
    BlockAnnounced,
    ConfirmAttach,
    ConfirmInbox,
    CountAnnounced,
    OrdersWaiting,
    StatusAnnounced,
)

_MORE_MESSAGES = 1024
"""A batch has at most so many messages besides a whole burst of requests: what is far above the rate is not even
decoded (S51)."""
_GO_ON_UNITS = 8
"""A go-on is more work than a request."""
_NEVER = float("inf")


class Hub:
    """One node of the server.

    The driver's calls never raise because of a peer. ``accept_login`` and its siblings answer the hub's events; for a
    transport that is gone they do nothing. With ``external_engine`` the engine's operations come out as ``EngineCall``
    and their answers go in through ``engine_answered``; otherwise a ``MemoryEngine`` is inside.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        entropy: Callable[[int], bytes],
        rng: random.Random,
        node: str = "node",
        external_engine: bool = False,
    ) -> None:
        self._rng = rng
        self._context = context = HubContext(config, entropy, node)
        self._transports = Transports(context)
        self._engine = engine = EnginePort(context, external=external_engine)
        self._flood_gate = FloodGate(context, self._transports)
        self._lease = Lease(context, engine)
        self._lease.on_over = self._on_lease_over
        engine.on_announcement = self._on_announcement
        self._max_batch = config.request_burst + _MORE_MESSAGES
        self.unknown_messages = 0
        """Optional messages of a later version that were skipped."""
        self._begin()

    def _begin(self) -> None:
        """The parts that know sessions and channels, with nothing in them: at the start, and when a lease is over."""
        context, transports, engine = self._context, self._transports, self._engine
        flood_gate, lease = self._flood_gate, self._lease
        self._channels = channels = Channels(context, transports, engine, flood_gate, self._rng)
        self._sessions = sessions = Sessions(context, transports, engine, channels, flood_gate, lease)
        self._logins = logins = Logins(
            context, transports, engine, channels, sessions, flood_gate, lease, self._deliver
        )
        memberships = Memberships(engine, channels)
        self._requests = requests = Requests(
            context, transports, engine, channels, sessions, memberships, flood_gate, lease
        )
        statements = Statements(context, transports, channels, memberships, requests)
        lease.on_orders = sessions.orders_until
        self._on_message: dict[type[Any], Callable[[ServerLink, AttachedSession, Any], None]] = {
            **dict.fromkeys(requests.types, requests.take),
            RenewToken: logins.renew,
            Want: statements.take,
            Progress: self._on_progress,
            Hold: self._on_hold,
            GoOn: self._on_go_on,
            Login: self._on_second_login,
        }

    # ------------------------------------------------------------------------------------------------- clock

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is to be called, in the caller's monotonic seconds; None for never."""
        if self._context.closed:
            return None
        transports, engine = self._transports.next_deadline(), self._engine.next_deadline()
        if self._engine.is_external:
            engine = min(
                self._lease.next_deadline(),
                self._channels.next_deadline() or _NEVER,
                self._requests.statuses.next_deadline(),
            )
            engine = None if engine == _NEVER else engine
        if transports is None or engine is None:
            return engine if transports is None else transports
        return min(transports, engine)

    def handle_timeout(self, *, now: float) -> None:
        """Time has passed: drop what is silent or stuck, let the embedded engine end what is over. Early and late
        calls do no harm."""
        self._context.advance(now)
        if self._context.closed:
            return
        for link in self._transports.pop_due():
            session = link.session
            if link.phase is ServerPhase.CLOSING:
                self._transports.drop(link, "abort")
            elif session is None:
                self._logins.too_late(link)
            elif self._transports.is_unstated(link, session):
                self._transports.drop_unstated(link)
            elif self._is_expired(session):
                self._sessions.end_expired(session)
                self._transports.schedule(link)
            elif self._transports.is_quiet(link):
                # Never less than what makes it due, however the difference is rounded.
                silent_seconds = max(self._context.now - link.last_received, self._context.config.unreachable_seconds)
                self._sessions.report_silence(link, silent_seconds)
            else:
                self._transports.drop_silent(link)
        self._engine.handle_timeout()
        if self._engine.is_external:
            self._lease.handle_timeout()
            self._channels.handle_timeout()
            self._requests.statuses.handle_timeout()

    def _is_expired(self, session: AttachedSession) -> bool:
        enforced = self._context.config.enforce_token_expiry and session.expires_at is not None
        return enforced and session.expires_at is not None and session.expires_at <= self._context.now

    def set_wall_clock(self, unix_seconds: float, *, now: float) -> None:
        """The wall clock, for timestamps, token expiry and login epochs; no timer depends on it (F-21)."""
        self._context.advance(now)
        self._context.wall_offset = unix_seconds - self._context.now
        self._engine.set_wall_clock(unix_seconds)

    # -------------------------------------------------------------------------------------------- transports

    def transport_accepted(self, *, peer: str = "", now: float) -> int:
        """A transport was accepted; returns its id. ``peer`` is for the log only."""
        self._context.advance(now)
        return self._transports.accept()

    def receive_data(self, transport_id: int, data: bytes, *, now: float) -> None:
        """Bytes arrived."""
        link = self._transports.get(transport_id)
        if link is None:
            return
        context = self._context
        if now > context.now:
            context.now = now
            if now >= context.lease_until:
                context.on_lease_over()
        link.last_received = context.now
        if link.silent:
            self._sessions.report_silence(link, 0.0)
        wire = link.wire
        events = wire.receive(data)
        self._transports.transmit_wire(link)
        if wire.rare_frames >= RARE_FRAMES_PER_UNIT and self._flood_gate.is_frame_flood(link):
            return
        for event in events:
            encoding = link.encoding
            if type(event) is encoding.message_type:
                if event == encoding.heartbeat:
                    self._on_heartbeat(link)
                else:
                    self._on_batch(link, encoding.client_decoder, event)
            else:
                self._on_wire_event(link, event)
            if not self._transports.is_there(link):
                return

    def transport_lost(self, transport_id: int, cause: TransportFailure | None, *, now: float) -> None:
        """The transport ended, by an orderly end (None) or an error. Its session goes on as interrupted (S14)."""
        self._context.advance(now)
        link = self._transports.get(transport_id)
        if link is not None:
            self._transports.lost(link)

    def unsent(self, transport_id: int, byte_count: int, *, now: float) -> None:
        """How many bytes the socket has not taken (S49, S51)."""
        self._context.advance(now)
        link = self._transports.get(transport_id)
        if link is not None:
            self._transports.unsent(link, byte_count)
            self._channels.buffer_fell(link)
            self._requests.buffer_fell(link)

    def take_outputs(self) -> list[Any]:
        """Effects and events, in order. A second call gives nothing."""
        context = self._context
        outputs, context.outputs = context.outputs, []
        return outputs

    @property
    def flush_wanted(self) -> bool:
        """Whether ``flush`` has something to do."""
        return (
            self._transports.flush_wanted
            or self._requests.flush_wanted
            or self._channels.flush_wanted
            or self._sessions.flush_wanted
        )

    def flush(self, *, now: float) -> None:
        """End a loop pass: append what was gathered, fan out what is new, feed who is behind, and write once to each
        transport."""
        self._context.advance(now)
        self._sessions.flush()
        self._requests.flush()
        self._channels.flush()
        self._transports.flush()

    def close(self, *, now: float) -> None:
        """The server stops: every transport gets a close frame 1001 and is closed. Whatever comes later is ignored."""
        self._context.advance(now)
        self._context.closed = True
        self._lease.close()
        self._sessions.close()
        self._transports.close()

    # ----------------------------------------------------------------------------------------- what arrives

    def _on_wire_event(self, link: ServerLink, event: Any) -> None:
        if type(event) is Opened:
            assert event.subprotocol is not None  # one of those offered to the wire
            self._transports.opened(link, event.subprotocol)
        elif type(event) is HandshakeFailed or (type(event) is Closed and event.by_peer):
            self._transports.drop(link, "flush")
        elif type(event) is Closed:
            self._transports.violation(link, event.reason, close_code=event.code)
        else:
            self._transports.violation(link, mistaken_kind(event), close_code=1003)

    def _on_heartbeat(self, link: ServerLink) -> None:
        session = link.session
        if session is None:
            self._transports.violation(link, "a heartbeat before the welcome")
        elif not self._flood_gate.is_flood(link, session):
            self._transports.heartbeat(link)

    def _on_batch(self, link: ServerLink, decoder: BatchDecoder[ClientMessage], payload: Any) -> None:
        if link.phase is ServerPhase.CLOSING:
            return
        try:
            messages, skipped = decoder.decode(payload, self._max_batch)
        except MalformedBatch as fault:
            self._transports.violation(link, str(fault))
            return
        if skipped:
            if link.session is None:
                self._transports.violation(link, "an unknown message before the welcome")
                return
            self.unknown_messages += skipped
            if self._flood_gate.is_skipped_flood(link, link.session, skipped, len(payload)):
                return
        elif not messages:
            self._on_heartbeat(link)  # an empty batch in another form than the usual one
            return
        on_message = self._on_message
        for message in messages:
            session = link.session
            if session is not None:
                on_message[type(message)](link, session, message)
            elif (mistake := self._logins.take(link, message)) is not None:
                # Without effect on a link that a message before this one closed.
                self._transports.violation(link, mistake)
                return

    def _deliver(self, link: ServerLink, session: AttachedSession, message: Any) -> None:
        self._on_message[type(message)](link, session, message)

    def _on_second_login(self, link: ServerLink, session: AttachedSession, message: Login) -> None:
        self._transports.violation(link, "a second login on one transport")

    def _on_progress(self, link: ServerLink, session: AttachedSession, progress: Progress) -> None:
        """What was answered, and that the welcome has arrived (S18, S46)."""
        if self._flood_gate.is_flood(link, session):
            return
        if progress.lowest_unanswered > session.lowest_unanswered:
            session.lowest_unanswered = progress.lowest_unanswered
        inbox = session.inbox
        assert inbox is not None  # as long as a transport serves the session
        # Beyond the end there is nothing that it could have: one that says so is not believed (S48).
        if session.inbox_confirmed < progress.inbox <= inbox.end and progress.attach == session.attach:
            session.inbox_confirmed = progress.inbox
            self._engine.call(ConfirmInbox(uid=session.uid, session_id=session.session_id, position=progress.inbox))
        if progress.attach == session.attach and not session.confirmed:
            session.confirmed = True
            self._engine.call(ConfirmAttach(uid=session.uid, session_id=session.session_id, attach=session.attach))

    def _on_hold(self, link: ServerLink, session: AttachedSession, hold: Hold) -> None:
        channel = session.log_of(hold.log)
        if not self._flood_gate.is_flood(link, session) and channel is not None:
            self._channels.hold(link, session, channel)

    def _on_go_on(self, link: ServerLink, session: AttachedSession, go_on: GoOn) -> None:
        if len(go_on.epoch) > MAX_EPOCH_BYTES:
            self._transports.violation(link, f"an epoch has at most {MAX_EPOCH_BYTES} bytes")
        elif not self._flood_gate.is_flood(link, session, _GO_ON_UNITS):
            self._channels.go_on(link, session, go_on)

    # ------------------------------------------------------------------------------------ the authenticator

    def accept_login(self, transport_id: int, *, expires_at: float | None = None, now: float) -> None:
        """The authenticator says yes; the token is good until ``expires_at`` (Unix seconds), or for ever (None).

        Without effect if the transport is gone: it makes no session and ends none (S19). Raises InvalidState for an
        ``expires_at`` before the first ``set_wall_clock``: nobody could tell when that is.
        """
        self._context.advance(now)
        self._logins.accept(transport_id, self._context.expires_in(expires_at))

    def refuse_login(
        self, transport_id: int, code: int, message: str, *, retry_after_seconds: float | None = None, now: float
    ) -> None:
        """The authenticator says no; the range of ``code`` says what the client does (S41). Without effect if the
        transport is gone."""
        self._context.advance(now)
        self._logins.refuse(transport_id, code, message, retry_after_seconds)

    def accept_renewal(self, transport_id: int, number: int, *, expires_at: float | None = None, now: float) -> None:
        """The new token of this ``RenewalRequested`` is good until ``expires_at`` (Unix seconds), or for ever (None)
        (S28).

        Without effect if the transport is gone or the renewal is answered already. Raises InvalidState as
        ``accept_login`` does.
        """
        self._context.advance(now)
        self._logins.accept_renewal(transport_id, number, self._context.expires_in(expires_at))

    def refuse_renewal(self, transport_id: int, number: int, code: int, message: str, *, now: float) -> None:
        """The new token is no good; the old one stays in force. Without effect if the transport is gone or the
        renewal is answered already."""
        self._context.advance(now)
        self._logins.refuse_renewal(transport_id, number, code, message)

    # ------------------------------------------------------------------------------------------ the operator

    def kick(self, uid: str, *, now: float) -> None:
        """End the uid's session: its instance is ABORTED/KICKED_BY_SERVER; a new ``login`` is free (S31).

        Without effect for a uid that is not logged in. Raises InvalidArgument for what is no uid.
        """
        check_name(uid, "uid", self._context.config.max_name_length)
        self._context.advance(now)
        if not self._context.closed:
            self._sessions.end(uid, None, Code.KICKED, "the operator ended the session", spoil_epoch=True)

    def ban(self, uid: str, seconds: float, *, now: float) -> None:
        """End the uid's session and refuse its logins for ``seconds``: ABORTED/BANNED_BY_SERVER.

        Raises InvalidArgument for what is no uid, or no finite duration above 0.
        """
        check_name(uid, "uid", self._context.config.max_name_length)
        check_ban(seconds)
        self._context.advance(now)
        if not self._context.closed:
            self._sessions.end(uid, None, Code.BANNED, "the uid is banned", spoil_epoch=True, ban_seconds=seconds)

    # -------------------------------------------------------------------------------------------- the engine

    def engine_answered(self, call_id: int, answer: Answer, *, now: float) -> None:
        """The external engine carried out an ``EngineCall``. An unknown or repeated id is ignored."""
        self._context.advance(now)
        self._engine.answered(call_id, answer)

    def engine_announced(self, announcement: Announcement, *, now: float) -> None:
        """The external engine announces something to this node."""
        self._context.advance(now)
        if not self._context.closed:
            self._on_announcement(announcement)

    def engine_lost(self, *, now: float) -> None:
        """The connection to the external engine is gone: nobody knows what became of the calls under way.

        Calls that come meanwhile are kept. What is asked of the hub goes on for as long as its lease is good; then it
        sends its clients elsewhere (E7).
        """
        self._context.advance(now)
        self._engine.lost()

    def engine_restored(self, *, now: float) -> None:
        """It is back: every unanswered call comes out again with its old id, and whatever announcements may have been
        lost is looked up (E5, E9). Without effect if it was not lost."""
        self._context.advance(now)
        if self._engine.restored() and not self._context.closed:
            self._channels.compare_all()
            self._requests.statuses.compare_all()
            self._sessions.read_orders()
            self._sessions.take_todos()

    def _on_lease_over(self) -> None:
        """The engine may give these sessions to other nodes: let go of all of them, before anything else, and forget
        all that was under way (E7, E8). What has been answered is said; the engine has it."""
        for link in self._transports.all():
            session = link.session
            if session is not None:
                self._flood_gate.part(session.session_id, session.rate)
                link.session = session.link = None
                self._transports.say_goodbye(link, Code.UNAVAILABLE, NO_LEASE)
            elif link.phase is ServerPhase.JUDGED:
                self._logins.lease_over(link)
        self._begin()

    def _on_announcement(self, announcement: Announcement) -> None:
        if isinstance(announcement, BlockAnnounced):
            self._channels.announced(announcement)
        elif isinstance(announcement, CountAnnounced):
            self._channels.counted(announcement)
        elif isinstance(announcement, StatusAnnounced):
            self._requests.statuses.announced(announcement)
        elif isinstance(announcement, OrdersWaiting):
            self._sessions.read_orders()
        else:
            self._sessions.want_todos()
