"""``Hub``: the server's core. It owns transports and the sessions that they serve; the engine owns what several nodes
must agree on.

Everything that happens marks what it touches; ``flush`` turns it into one append per channel, one entries frame per
log and one
Transmit per transport. The engine's answers come through continuations, at once from the embedded engine, later from
another.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from ._checks import MAX_TOKEN_BYTES, body_size, is_valid_name
from ._frames import encode_frame
from ._hubparts import AttachedSession, Gathered, Position, ServerLink, ServerPhase, WatchedChannel
from ._pacing import TokenBucket
from ._wire import Closed, HandshakeFailed, Opened, ServerWire
from .codes import Code
from .config import ServerConfig
from .effects import CloseTransport, PauseReading, ResumeReading, Transmit
from .engine import MemoryEngine
from .errors import InvalidArgument, TransportFailure
from .events import LeaveCause, LoginRequested, RenewalRequested
from .logs import Block, Reading
from .messages import (
    HEARTBEAT,
    LOGIN_BYTES,
    SUBPROTOCOL_MSGPACK,
    BytesEntry,
    ChannelResult,
    Done,
    Failed,
    Gap,
    Going,
    GoOn,
    Hold,
    Join,
    Joined,
    JoinedEntry,
    Kicked,
    Leave,
    LeftEntry,
    Limits,
    Login,
    LoginRefused,
    Logout,
    MalformedBatch,
    Progress,
    PublishBytes,
    PublishText,
    Renewed,
    RenewToken,
    Restored,
    Sent,
    TextEntry,
    Want,
    WantedChannel,
    Welcome,
    client_decoder,
    encode_batch,
    encode_block,
    encode_entry,
    encode_in_pieces,
)
from .operations import (
    Announcement,
    Answer,
    Append,
    Appended,
    AppendItem,
    Attached,
    AttachSession,
    BlockAnnounced,
    ChannelJoined,
    ChannelLeft,
    ConfirmAttach,
    DetachSession,
    Ended,
    EndSession,
    EngineCall,
    JoinChannel,
    LeaveChannel,
    LeaveToDo,
    ListChannel,
    LogEnd,
    Operation,
    Order,
    Orders,
    OrdersWaiting,
    PostOrder,
    ReadLog,
    ReadOrders,
    Refusal,
    StrikeToDos,
    TakeToDos,
    ToDo,
    WatchChannel,
    home_of_operation,
)

_HEARTBEAT_FRAME = encode_frame(HEARTBEAT)
_RESULTS_PER_MESSAGE = 256
_MAX_EARLY = 8
_FLOOD_FACTOR = 2
# A client that keeps to the stated rate on its clock must never be refused by ours: clocks differ a little, and a loop
# that was busy hands over in one moment what came during a second (S45).
_RATE_SLACK = 1.05

_decoder = client_decoder()


class _Statement:
    """The wishes of one session while they are carried out, channel by channel (S59)."""

    __slots__ = ("open", "placements", "results", "session")

    def __init__(self, session: AttachedSession) -> None:
        self.session = session
        self.open = 1  # one for the statement itself, so that it cannot be answered while it is read
        self.results: list[ChannelResult] = []
        self.placements: list[tuple[WatchedChannel, bytes, int]] = []


class Hub:
    """One node of the server.

    The driver's calls never raise because of a peer. ``accept_login`` and its siblings answer the hub's events; for a
    transport that
    is gone they do nothing. With ``external_engine`` the engine's operations come out as ``EngineCall`` and their
    answers go in
    through ``engine_answered``; otherwise a ``MemoryEngine`` is inside.
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
        self._config = config
        self._entropy = entropy
        self._rng = rng
        self._node = node
        self._engine = None if external_engine else MemoryEngine(config, entropy=entropy)
        self._now = float("-inf")
        self._wall_offset: float | None = None
        self._outputs: list[Any] = []
        self._last_transport_id = 0
        self._links: dict[int, ServerLink] = {}
        self._sessions: dict[bytes, AttachedSession] = {}
        self._channels: dict[str, WatchedChannel] = {}
        self._deadlines: list[tuple[float, int, ServerLink]] = []
        self._sequence = 0
        self._dirty_links: dict[ServerLink, None] = {}
        self._gathering: dict[WatchedChannel, None] = {}
        self._fresh: dict[WatchedChannel, None] = {}
        self._feeding: dict[ServerLink, None] = {}
        self._last_call_id = 0
        self._calls: dict[int, tuple[str | None, Callable[[Any], None] | None]] = {}
        self._lanes: dict[str, deque[tuple[Operation, Callable[[Any], None] | None]]] = {}
        self._orders_cursor = 0
        self._closed = False
        self.unknown_messages = 0
        """Optional messages of a later version that were skipped."""
        self._limits = Limits(
            heartbeat_interval=config.heartbeat_interval_seconds,
            silence_timeout=config.silence_timeout_seconds,
            presence_grace=config.presence_grace_seconds,
            max_name_length=config.max_name_length,
            max_message_bytes=config.max_message_bytes,
            max_request_bytes=config.max_request_bytes,
            max_frame_bytes=config.max_frame_bytes,
            max_channels=config.max_channels,
            max_unanswered=config.max_outcomes,
            requests_per_second=config.requests_per_second,
            request_burst=config.request_burst,
        )
        self._on_message: dict[type[Any], Callable[[ServerLink, AttachedSession, Any], None]] = {
            PublishText: self._on_request,
            PublishBytes: self._on_request,
            Join: self._on_request,
            Leave: self._on_request,
            RenewToken: self._on_request,
            Logout: self._on_request,
            Want: self._on_want,
            Progress: self._on_progress,
            Hold: self._on_hold,
            GoOn: self._on_go_on,
            Login: self._on_second_login,
        }
        self._requests: dict[type[Any], Callable[[ServerLink, AttachedSession, Any], None]] = {
            PublishText: self._publish,
            PublishBytes: self._publish,
            Join: self._join,
            Leave: self._leave,
            RenewToken: self._renew,
            Logout: self._logout,
        }

    # ------------------------------------------------------------------------------------------------- clock

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is to be called, in the caller's monotonic seconds; None for never."""
        deadline = self._deadlines[0][0] if self._deadlines else None
        if self._engine is not None:
            engines = self._engine.next_deadline()
            if engines is not None and (deadline is None or engines < deadline):
                return engines
        return deadline

    def handle_timeout(self, *, now: float) -> None:
        """Time has passed: drop what is silent or stuck, let the embedded engine end what is over. Early and late
        calls do no harm."""
        self._advance(now)
        while self._deadlines and self._deadlines[0][0] <= self._now:
            deadline, _, link = heapq.heappop(self._deadlines)
            if link.deadline_at == deadline:
                link.deadline_at = None
                if link.transport_id in self._links:
                    self._check_deadline(link)
        if self._engine is not None:
            upcoming = self._engine.next_deadline()
            if upcoming is not None and upcoming <= self._now:
                self._engine.handle_timeout(now=self._now)
            self._take_announcements()

    def set_wall_clock(self, unix_seconds: float, *, now: float) -> None:
        """The wall clock, for timestamps, token expiry and login epochs; no timer depends on it (F-21)."""
        self._advance(now)
        self._wall_offset = unix_seconds - self._now
        if self._engine is not None:
            self._engine.set_wall_clock(unix_seconds, now=self._now)

    def _advance(self, now: float) -> None:
        if now > self._now:
            self._now = now

    def _wall_clock(self) -> float | None:
        return None if self._wall_offset is None else self._now + self._wall_offset

    # -------------------------------------------------------------------------------------------- transports

    def transport_accepted(self, *, peer: str = "", now: float) -> int:
        """A transport was accepted; returns its id. ``peer`` is for the log only."""
        self._advance(now)
        self._last_transport_id += 1
        transport_id = self._last_transport_id
        if self._closed or len(self._links) >= self._config.max_transports:
            self._outputs.append(CloseTransport(transport_id=transport_id, how="abort"))
            return transport_id
        wire = ServerWire(
            path=self._config.path,
            allowed_origins=self._config.allowed_origins,
            subprotocols=(SUBPROTOCOL_MSGPACK,),
            max_message_bytes=LOGIN_BYTES,
        )
        link = self._links[transport_id] = ServerLink(transport_id, wire, self._now)
        self._schedule(link)
        return transport_id

    def receive_data(self, transport_id: int, data: bytes, *, now: float) -> None:
        """Bytes arrived."""
        link = self._links.get(transport_id)
        if link is None:
            return
        if now > self._now:
            self._now = now
        link.last_received = self._now
        events = link.wire.receive(data)
        self._transmit_wire(link)
        for event in events:
            if type(event) is bytes:
                if event == HEARTBEAT:
                    self._on_heartbeat(link)
                else:
                    self._on_batch(link, event)
            else:
                self._on_wire_event(link, event)
            if link.transport_id not in self._links:
                return

    def transport_lost(self, transport_id: int, cause: TransportFailure | None, *, now: float) -> None:
        """The transport ended, by an orderly end (None) or an error. Its session goes on as interrupted (S14)."""
        link = self._links.get(transport_id)
        if link is None:
            return
        self._advance(now)
        self._forget(link)
        self._detach(link, silent_seconds=0.0)

    def unsent(self, transport_id: int, byte_count: int, *, now: float) -> None:
        """How many bytes the socket has not taken (S49, S51)."""
        link = self._links.get(transport_id)
        if link is None:
            return
        self._advance(now)
        taken = link.transmitted - byte_count
        if taken > link.taken or link.unsent == 0:
            link.taken = taken
            link.stalled_since = self._now
        link.unsent = byte_count
        if byte_count > self._config.slow_reader_bytes and not link.paused:
            link.paused = True
            self._outputs.append(PauseReading(transport_id=transport_id))
        elif byte_count < self._config.feed_below_bytes:
            if link.paused:
                link.paused = False
                link.last_received = self._now  # silence did not count while we did not read (S14)
                self._outputs.append(ResumeReading(transport_id=transport_id))
            if link.session is not None and link.session.positions:
                self._feeding[link] = None
        if byte_count:
            self._schedule(link)

    def take_outputs(self) -> list[Any]:
        """Effects and events, in order. A second call gives nothing."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def close(self, *, now: float) -> None:
        """The server stops: every transport gets a close frame 1001 and is closed. Whatever comes later is ignored."""
        self._advance(now)
        self._closed = True
        for link in list(self._links.values()):
            self._transmit(link)
            link.wire.close(1001, "the server stops")
            self._transmit_wire(link)
            self._drop(link, "flush")
        self._deadlines.clear()
        for waiting in (self._dirty_links, self._gathering, self._fresh, self._feeding):
            waiting.clear()

    # ------------------------------------------------------------------------------------ ends of transports

    def _forget(self, link: ServerLink) -> None:
        """The id is gone; nothing refers to the link any more but what is in flight."""
        del self._links[link.transport_id]
        self._dirty_links.pop(link, None)
        self._feeding.pop(link, None)

    def _drop(self, link: ServerLink, how: Any) -> None:
        self._forget(link)
        self._outputs.append(CloseTransport(transport_id=link.transport_id, how=how))

    def _detach(self, link: ServerLink, *, silent_seconds: float) -> None:
        """The link no longer serves its session: in the engine it counts as interrupted from ``silent_seconds`` ago."""
        session = link.session
        if session is None:
            return
        self._part(session)
        self._call(
            DetachSession(
                uid=session.uid, session_id=session.session_id, attach=session.attach, silent_seconds=silent_seconds
            )
        )

    def _part(self, session: AttachedSession) -> None:
        """Session and link part, and the hub forgets the session: the engine has all that outlives a transport."""
        link = session.link
        if link is None:
            return
        link.session = None
        session.link = None
        session.waiting = None
        if self._sessions.get(session.session_id) is session:
            del self._sessions[session.session_id]
        session.positions = None
        for channel in list(session.channels.values()):
            channel.live.pop(link, None)
            self._release(session, channel)
        self._feeding.pop(link, None)

    def _say_goodbye(self, link: ServerLink, code: int, reason: str) -> None:
        """Send what waits and a close frame, then wait a moment for the peer's: a socket closed too early can lose
        both."""
        if link.phase is ServerPhase.CLOSING:
            return
        self._transmit(link)
        link.wire.close(code, reason[:100])
        self._transmit_wire(link)
        link.phase = ServerPhase.CLOSING
        link.since = self._now
        link.login = link.early = None
        self._schedule(link)

    def _violation(self, link: ServerLink, reason: str, *, close_code: int = 1002) -> None:
        """The peer broke the protocol (S50): its session goes on as interrupted."""
        self._say_goodbye(link, close_code, reason)
        self._detach(link, silent_seconds=0.0)

    def _schedule(self, link: ServerLink) -> None:
        """See that the link's next deadline has a place in the heap. A deadline that moved away is found out when its
        time comes."""
        deadline = self._deadline_of(link)
        if link.deadline_at is None or deadline < link.deadline_at:
            link.deadline_at = deadline
            self._sequence += 1
            heapq.heappush(self._deadlines, (deadline, self._sequence, link))

    def _deadline_of(self, link: ServerLink) -> float:
        config = self._config
        if link.phase is ServerPhase.CLOSING:
            return link.since + config.close_linger_seconds
        if link.phase is not ServerPhase.OPEN:
            return link.since + config.login_deadline_seconds
        deadline = float("inf") if link.paused else link.last_received + config.silence_timeout_seconds
        if link.unsent:
            deadline = min(deadline, link.stalled_since + config.write_stall_seconds)
        session = link.session
        if config.enforce_token_expiry and session is not None and session.expires_at is not None:
            deadline = min(deadline, session.expires_at)
        return deadline

    def _check_deadline(self, link: ServerLink) -> None:
        if self._deadline_of(link) > self._now:
            self._schedule(link)
            return
        session = link.session
        if link.phase is ServerPhase.CLOSING:
            self._drop(link, "abort")
        elif session is None:
            if link.wire.is_open:
                self._refuse(link, Code.LOGIN_DEADLINE, "no login in time", None)
            else:
                self._drop(link, "abort")
        elif self._config.enforce_token_expiry and session.expires_at is not None and session.expires_at <= self._now:
            session.expires_at = None
            self._end_session(session.uid, session.session_id, Code.TOKEN_EXPIRY_ENFORCED, "the token has expired")
            self._schedule(link)
        else:  # silent, or it takes nothing: nothing that we say would arrive
            silent = self._now - link.last_received
            self._drop(link, "abort")
            self._detach(link, silent_seconds=silent)

    # ----------------------------------------------------------------------------------------- what arrives

    def _on_wire_event(self, link: ServerLink, event: Any) -> None:
        if type(event) is Opened:
            link.phase = ServerPhase.LOGIN
        elif type(event) is HandshakeFailed:
            self._drop(link, "flush")
        elif type(event) is Closed:
            if event.by_peer:
                self._drop(link, "flush")
                self._detach(link, silent_seconds=0.0)
            else:
                self._violation(link, event.reason, close_code=event.code)
        else:
            self._violation(link, "a text message in a binary subprotocol", close_code=1003)

    def _on_heartbeat(self, link: ServerLink) -> None:
        session = link.session
        if session is None:
            if link.phase is not ServerPhase.CLOSING:
                self._violation(link, "a heartbeat before the welcome")
            return
        if self._is_flood(link, session):
            return
        link.heartbeats += 1
        self._dirty_links[link] = None

    def _on_batch(self, link: ServerLink, payload: bytes) -> None:
        if link.phase is ServerPhase.CLOSING:
            return
        try:
            messages, skipped = _decoder.decode(payload)
        except MalformedBatch as fault:
            self._violation(link, str(fault))
            return
        self.unknown_messages += skipped
        for message in messages:
            session = link.session
            if session is not None:
                self._on_message[type(message)](link, session, message)
            elif link.transport_id not in self._links:
                return
            elif link.phase is ServerPhase.LOGIN and type(message) is Login:
                self._on_login(link, message)
            elif link.phase is ServerPhase.JUDGED and link.early is not None and len(link.early) < _MAX_EARLY:
                link.early.append(message)
            else:  # without effect on a link that a message before this one closed
                self._violation(link, "something else than one login and its wishes before the welcome")
                return

    def _is_flood(self, link: ServerLink, session: AttachedSession) -> bool:
        """Whether the peer goes on at twice its rate a while after its first rate error; then it is dropped (S51)."""
        if session.flood_bucket.try_take(self._now):
            return False
        if link.rate_error_at is None:
            link.rate_error_at = self._now
        if self._now - link.rate_error_at < self._config.flood_tolerance_seconds:
            return False
        self._say_goodbye(link, Code.FLOODING, "far above the rate that the welcome states")
        self._detach(link, silent_seconds=0.0)
        return True

    # ------------------------------------------------------------------------------------------------ login

    def _on_login(self, link: ServerLink, login: Login) -> None:
        if (
            len(login.instance_id) != 16
            or len(login.login_id) != 16
            or login.attempt < 0
            or len(login.token) > MAX_TOKEN_BYTES
            or (login.login_epoch is not None and login.login_epoch < 0)
        ):
            self._violation(link, "a login with ids that no client makes")
            return
        if not is_valid_name(login.uid, self._config.max_name_length):
            message = f"a uid is 1 to {self._config.max_name_length} printable ASCII characters"
            self._refuse(link, Code.INVALID_UID, message, None)
            return
        link.phase = ServerPhase.JUDGED
        link.login = login
        link.early = []
        self._outputs.append(
            LoginRequested(
                transport_id=link.transport_id, uid=login.uid, token=login.token, wall_clock=self._wall_clock()
            )
        )

    def accept_login(self, transport_id: int, *, expires_at: float | None = None, now: float) -> None:
        """The authenticator says yes; the token is good until ``expires_at`` (Unix seconds), or for ever (None).

        Without effect if the transport is gone: it makes no session and ends none (S19).
        """
        link = self._links.get(transport_id)
        if link is None or link.phase is not ServerPhase.JUDGED or link.login is None:
            return
        self._advance(now)
        login, link.login = link.login, None
        expires_in = self._expires_in(expires_at)
        if expires_in is not None and expires_in <= 0:
            self._refuse(link, Code.TOKEN_EXPIRED, "the token has expired", None)
            return
        operation = AttachSession(
            uid=login.uid,
            node=self._node,
            instance_id=login.instance_id,
            login_id=login.login_id,
            attempt=login.attempt,
            new_session_id=self._entropy(16),
            quoted_session_id=login.session_id,
            quoted_epoch=login.login_epoch,
            quoted_attach=login.attach,
        )
        self._call(operation, lambda answer: self._on_attached(link, login.uid, expires_in, answer))

    def refuse_login(
        self, transport_id: int, code: int, message: str, *, retry_after_seconds: float | None = None, now: float
    ) -> None:
        """The authenticator says no; the range of ``code`` says what the client does (S41). Without effect if the
        transport is gone."""
        link = self._links.get(transport_id)
        if link is None or link.phase is not ServerPhase.JUDGED or link.login is None:
            return
        self._advance(now)
        self._refuse(link, code, message, retry_after_seconds)

    def _refuse(self, link: ServerLink, code: int, message: str, retry_after_seconds: float | None) -> None:
        self._reply(link, LoginRefused(int(code), message, retry_after_seconds))
        self._say_goodbye(link, int(code), message)

    def _expires_in(self, expires_at: float | None) -> float | None:
        wall = self._wall_clock()
        if expires_at is None or wall is None:
            return None
        return expires_at - wall

    def _on_attached(self, link: ServerLink, uid: str, expires_in: float | None, answer: Attached | Refusal) -> None:
        gone = link.transport_id not in self._links or link.phase is not ServerPhase.JUDGED
        if isinstance(answer, Refusal):
            if not gone:
                self._refuse(link, answer.code, answer.message, answer.retry_after_seconds)
            return
        previous = self._sessions.get(answer.session_id)
        if previous is not None and previous.attach < answer.attach:
            self._replace_transport(previous)
        if gone:  # it went while the engine decided: the session begins interrupted
            self._call(DetachSession(uid=uid, session_id=answer.session_id, attach=answer.attach, silent_seconds=0.0))
            self._carry_out(answer.todos)
            return
        config = self._config
        session = AttachedSession(
            link,
            uid=uid,
            session_id=answer.session_id,
            login_epoch=answer.login_epoch,
            attach=answer.attach,
            expires_at=None if expires_in is None else self._now + expires_in,
            bucket=TokenBucket(
                rate_per_second=config.requests_per_second * _RATE_SLACK,
                burst=config.request_burst + config.requests_per_second,
                now=self._now,
            ),
            flood_bucket=TokenBucket(
                rate_per_second=config.requests_per_second * _FLOOD_FACTOR,
                burst=config.request_burst * _FLOOD_FACTOR,
                now=self._now,
            ),
        )
        self._sessions[answer.session_id] = session
        link.session = session
        link.phase = ServerPhase.OPEN
        link.wire.max_message_bytes = config.max_frame_bytes
        self._reply(
            link,
            Welcome(
                session_id=answer.session_id,
                login_epoch=answer.login_epoch,
                attach=answer.attach,
                resumed=answer.resumed,
                expires_in=expires_in,
                limits=self._limits,
            ),
        )
        self._carry_out(answer.todos)
        for name in answer.channels:
            session.channels[name] = self._use(name)
        early, link.early = link.early or [], None
        for message in early:
            if link.session is session:
                self._on_message[type(message)](link, session, message)

    def _replace_transport(self, session: AttachedSession) -> None:
        """A resume replaces the old transport silently (S26)."""
        link = session.link
        if link is not None:
            self._part(session)
            self._say_goodbye(link, Code.TRANSPORT_REPLACED, "the session went on on another transport")

    def _on_second_login(self, link: ServerLink, session: AttachedSession, message: Login) -> None:
        self._violation(link, "a second login on one transport")

    # ------------------------------------------------------------------------------------------- statements

    def _on_want(self, link: ServerLink, session: AttachedSession, want: Want) -> None:
        """All that the client wants, read once the login is accepted (S59)."""
        names = {wanted.channel for wanted in want.channels}
        if session.stated or len(want.channels) > self._config.max_channels or len(names) != len(want.channels):
            self._violation(
                link, "a second statement, or one that names more channels than may be joined, or one twice"
            )
            return
        session.stated = True
        statement = _Statement(session)
        for name, channel in list(session.channels.items()):
            if name not in names:
                statement.open += 1
                self._leave_quietly(session, channel, lambda: self._settle(statement))
        for wanted in want.channels:
            statement.open += 1
            if not is_valid_name(wanted.channel, self._config.max_name_length):
                self._settle(
                    statement, ChannelResult(wanted.channel, Code.INVALID_CHANNEL, "no channel has such a name")
                )
            elif wanted.epoch is None or wanted.cursor is None or wanted.channel in session.channels:
                self._restore(statement, wanted)
            else:
                self._rejoin(statement, wanted)
        self._settle(statement)

    def _leave_quietly(self, session: AttachedSession, channel: WatchedChannel, then: Callable[[], None]) -> None:
        """The statement did not name the channel: leave it."""

        def on_left(answer: ChannelLeft | Refusal) -> None:
            self._gone_from(session, channel, answer)
            then()

        self._call(self._leave_operation(session, channel.name, None), on_left)

    def _restore(self, statement: _Statement, wanted: WantedChannel) -> None:
        """A channel that the session has (or a join that will be asked for again): its log goes on from the cursor."""
        channel = statement.session.channels.get(wanted.channel)
        if channel is None or wanted.epoch is None or wanted.cursor is None:
            self._settle(statement, ChannelResult(wanted.channel))
            return
        epoch, cursor = wanted.epoch, wanted.cursor

        def on_watched() -> None:
            statement.placements.append((channel, epoch, cursor))
            self._settle(statement, ChannelResult(wanted.channel))

        self._watch(channel, on_watched)

    def _rejoin(self, statement: _Statement, wanted: WantedChannel) -> None:
        """A channel of the old session, in a new one (S25)."""
        session = statement.session
        assert wanted.epoch is not None
        assert wanted.cursor is not None
        epoch, cursor = wanted.epoch, wanted.cursor

        def on_answer(channel: WatchedChannel, answer: ChannelJoined | Refusal) -> None:
            if isinstance(answer, Refusal):
                self._settle(statement, ChannelResult(wanted.channel, answer.code, answer.message))
            else:
                statement.placements.append((channel, epoch, cursor))
                self._settle(statement, ChannelResult(wanted.channel))

        self._enter(session, wanted.channel, None, on_answer)

    def _settle(self, statement: _Statement, result: ChannelResult | None = None) -> None:
        """One part of a statement is done; the last one brings the answer, and then the logs go on (S42)."""
        if result is not None:
            statement.results.append(result)
        statement.open -= 1
        session = statement.session
        link = session.link
        if statement.open or link is None:
            return
        results = statement.results
        for start in range(0, max(1, len(results)), _RESULTS_PER_MESSAGE):
            piece = tuple(results[start : start + _RESULTS_PER_MESSAGE])
            self._reply(link, Restored(piece, more=start + _RESULTS_PER_MESSAGE < len(results)))
        for channel, epoch, cursor in statement.placements:
            self._place(session, channel, epoch, cursor)
        self._free(session)

    # --------------------------------------------------------------------------------------------- requests

    def _on_request(self, link: ServerLink, session: AttachedSession, message: Any) -> None:
        """A numbered request: within the rate, and in the order of the numbers (S45, S46)."""
        if self._is_flood(link, session):
            return
        if not session.bucket.try_take(self._now):
            if link.rate_error_at is None:
                link.rate_error_at = self._now
            self._fail(session, message.number, Code.RATE_EXCEEDED, "more requests than the welcome's rate")
            return
        if not session.busy and (not session.gathered or type(message) is PublishText or type(message) is PublishBytes):
            if session.gathered < self._config.max_outcomes:
                self._requests[type(message)](link, session, message)
                return
        elif session.waiting is None or len(session.waiting) < self._config.max_outcomes:
            if session.waiting is None:
                session.waiting = deque()
            session.waiting.append(message)
            return
        self._fail(session, message.number, Code.TOO_MANY_REQUESTS, f"{self._config.max_outcomes} requests are open")

    def _free(self, session: AttachedSession) -> None:
        """What the session's next request waited for is done."""
        session.busy = False
        while session.waiting and not session.busy and session.link is not None:
            following = session.waiting[0]
            if session.gathered and not isinstance(following, (PublishText, PublishBytes)):
                return
            session.waiting.popleft()
            self._requests[type(following)](session.link, session, following)

    def _fail(self, session: AttachedSession, number: int, code: int, message: str) -> None:
        if session.link is not None:
            self._reply(session.link, Failed(number, int(code), message))

    def _publish(self, link: ServerLink, session: AttachedSession, message: PublishText | PublishBytes) -> None:
        """Gather a message for its channel's next append (S34)."""
        sent_at = int((self._now + (self._wall_offset or 0.0)) * 1000)
        if type(message) is PublishText:
            entry = encode_entry(TextEntry(session.uid, message.text, sent_at))
            size = body_size(message.text)
        else:
            assert type(message) is PublishBytes
            entry = encode_entry(BytesEntry(session.uid, message.data, sent_at))
            size = len(message.data)
        if size > self._config.max_message_bytes:
            limit = f"the message has {size} bytes; the limit is {self._config.max_message_bytes}"
            self._fail(session, message.number, Code.MESSAGE_TOO_LARGE, limit)
            return
        channel = session.channels.get(message.channel) or self._channel_of(message.channel)
        if channel is None:
            self._fail(session, message.number, Code.INVALID_CHANNEL, "no channel has such a name")
            return
        item = AppendItem(session.uid, session.session_id, message.number, session.lowest_unanswered, entry)
        channel.gathered.append(Gathered(session, item, sent_at))
        session.gathered += 1
        if not channel.appending:
            self._gathering[channel] = None

    def _channel_of(self, name: str) -> WatchedChannel | None:
        """A channel that the session is no member of: the engine still knows what became of an earlier request
        (S46)."""
        channel = self._channels.get(name)
        if channel is None and is_valid_name(name, self._config.max_name_length):
            channel = self._channels[name] = WatchedChannel(name)
        return channel

    def _append_gathered(self, channel: WatchedChannel) -> None:
        """One call per log and loop pass, one in flight (E3)."""
        gathered, channel.gathered = channel.gathered, []
        channel.appending = True
        operation = Append(channel=channel.name, items=tuple([one.item for one in gathered]))
        self._call(operation, lambda answer: self._on_appended(channel, gathered, answer))

    def _on_appended(self, channel: WatchedChannel, gathered: list[Gathered], answer: Appended) -> None:
        channel.appending = False
        if channel.gathered:
            self._gathering[channel] = None
        epoch = answer.epoch
        for one, result in zip(gathered, answer.results, strict=True):
            session = one.session
            session.gathered -= 1
            link = session.link
            if link is not None:
                if result > 0:
                    self._reply(link, Sent(one.item.number, epoch, result, one.sent_at))
                else:
                    self._fail(session, one.item.number, -result, "the message was not appended")
                if session.waiting and not session.gathered and not session.busy:
                    self._free(session)
        if answer.block is not None:
            self._take_block(channel, answer.block)
        self._release_if_unused(channel)

    def _join(self, link: ServerLink, session: AttachedSession, join: Join) -> None:
        if not is_valid_name(join.channel, self._config.max_name_length):
            message = f"a channel name is 1 to {self._config.max_name_length} printable ASCII characters"
            self._fail(session, join.number, Code.INVALID_CHANNEL, message)
            return
        session.busy = True

        def on_answer(channel: WatchedChannel, answer: ChannelJoined | Refusal) -> None:
            if isinstance(answer, Refusal):
                self._fail(session, join.number, answer.code, answer.message)
            elif session.link is not None:
                self._reply(
                    session.link,
                    Joined(join.number, answer.epoch, answer.offset, answer.member_count, answer.members),
                )
                self._place(session, channel, answer.epoch, answer.offset)
            self._free(session)

        self._enter(session, join.channel, join.number, on_answer)

    def _enter(
        self,
        session: AttachedSession,
        name: str,
        number: int | None,
        then: Callable[[WatchedChannel, ChannelJoined | Refusal], None],
    ) -> None:
        """List the channel in the user's home, subscribe, and only then join (E2, E5)."""
        channel = session.channels.get(name)
        if channel is None:
            channel = session.channels[name] = self._use(name)

        def on_listed(answer: Refusal | None) -> None:
            if isinstance(answer, Refusal):
                self._release(session, channel)
                then(channel, answer)
            else:
                self._watch(channel, on_watched)

        def on_watched() -> None:
            operation = JoinChannel(
                channel=name,
                uid=session.uid,
                session_id=session.session_id,
                number=number,
                lowest_unanswered=session.lowest_unanswered,
                joined_entry=encode_entry(JoinedEntry(session.uid)),
                replaced_entry=encode_entry(LeftEntry(session.uid, LeaveCause.REPLACED)),
            )
            self._call(operation, on_joined)

        def on_joined(answer: ChannelJoined | Refusal) -> None:
            if isinstance(answer, Refusal):
                self._call(ListChannel(uid=session.uid, session_id=session.session_id, channel=name, listed=False))
                self._release(session, channel)
            elif answer.block is not None:
                self._take_block(channel, answer.block)
            then(channel, answer)

        self._call(ListChannel(uid=session.uid, session_id=session.session_id, channel=name, listed=True), on_listed)

    def _leave_operation(self, session: AttachedSession, channel: str, number: int | None) -> LeaveChannel:
        return LeaveChannel(
            channel=channel,
            uid=session.uid,
            session_id=session.session_id,
            number=number,
            lowest_unanswered=session.lowest_unanswered,
            left_entry=encode_entry(LeftEntry(session.uid, LeaveCause.LEFT)),
            ended=False,
        )

    def _leave(self, link: ServerLink, session: AttachedSession, leave: Leave) -> None:
        channel = session.channels.get(leave.channel) or self._channel_of(leave.channel)
        if channel is None:
            self._fail(session, leave.number, Code.INVALID_CHANNEL, "no channel has such a name")
            return
        session.busy = True

        def on_left(answer: ChannelLeft | Refusal) -> None:
            self._gone_from(session, channel, answer)
            if isinstance(answer, Refusal):
                self._fail(session, leave.number, answer.code, answer.message)
            elif session.link is not None:
                self._reply(session.link, Done(leave.number))
            self._free(session)

        self._call(self._leave_operation(session, leave.channel, leave.number), on_left)

    def _gone_from(self, session: AttachedSession, channel: WatchedChannel, answer: ChannelLeft | Refusal) -> None:
        """The session is no member any more: nothing of the log goes to it, and its user's home forgets the channel."""
        if isinstance(answer, Refusal):
            return
        if answer.block is not None:
            self._take_block(channel, answer.block)
        self._call(ListChannel(uid=session.uid, session_id=session.session_id, channel=channel.name, listed=False))
        self._release(session, channel)
        self._release_if_unused(channel)

    def _renew(self, link: ServerLink, session: AttachedSession, renewal: RenewToken) -> None:
        if len(renewal.token) > MAX_TOKEN_BYTES:
            self._fail(session, renewal.number, Code.BAD_TOKEN, f"a token has at most {MAX_TOKEN_BYTES} bytes")
            return
        session.busy = True
        link.renewing = renewal.number
        self._outputs.append(
            RenewalRequested(
                transport_id=link.transport_id, uid=session.uid, token=renewal.token, wall_clock=self._wall_clock()
            )
        )

    def accept_renewal(self, transport_id: int, *, expires_at: float | None = None, now: float) -> None:
        """The new token is good until ``expires_at`` (Unix seconds), or for ever (None) (S28). Without effect if the
        transport is gone."""
        self._advance(now)
        expires_in = self._expires_in(expires_at)
        if expires_in is not None and expires_in <= 0:
            self.refuse_renewal(transport_id, Code.TOKEN_EXPIRED, "the token has expired", now=now)
            return
        judged = self._take_renewal(transport_id)
        if judged is not None:
            link, session, number = judged
            session.expires_at = None if expires_in is None else self._now + expires_in
            self._reply(link, Renewed(number, expires_in))
            self._schedule(link)
            self._free(session)

    def refuse_renewal(self, transport_id: int, code: int, message: str, *, now: float) -> None:
        """The new token is no good; the old one stays in force. Without effect if the transport is gone."""
        self._advance(now)
        judged = self._take_renewal(transport_id)
        if judged is not None:
            _, session, number = judged
            self._fail(session, number, code, message)
            self._free(session)

    def _take_renewal(self, transport_id: int) -> tuple[ServerLink, AttachedSession, int] | None:
        link = self._links.get(transport_id)
        if link is None or link.session is None or link.renewing is None:
            return None
        number, link.renewing = link.renewing, None
        return link, link.session, number

    def _logout(self, link: ServerLink, session: AttachedSession, logout: Logout) -> None:
        session.busy = True
        operation = EndSession(
            uid=session.uid,
            session_id=session.session_id,
            cause=LeaveCause.LOGGED_OUT,
            code=Code.TRANSPORT_REPLACED,
            message="logged out",
            spoil_epoch=False,
            ban_seconds=None,
        )

        def on_ended(answer: Ended) -> None:
            if link.transport_id in self._links:
                self._reply(link, Done(logout.number))
                self._part(session)
                self._say_goodbye(link, 1000, "logged out")
            self._carry_out(answer.todos)

        self._call(operation, on_ended)

    def _on_progress(self, link: ServerLink, session: AttachedSession, progress: Progress) -> None:
        if progress.lowest_unanswered > session.lowest_unanswered:
            session.lowest_unanswered = progress.lowest_unanswered
        if progress.attach == session.attach and not self._is_flood(link, session):
            self._call(ConfirmAttach(uid=session.uid, session_id=session.session_id, attach=session.attach))

    # ------------------------------------------------------------------------------------- ends of sessions

    def kick(self, uid: str, *, now: float) -> None:
        """End the uid's session: its instance is ABORTED/KICKED_BY_SERVER; a new ``login`` is free (S31)."""
        self._advance(now)
        self._end_session(uid, None, Code.KICKED, "the operator ended the session", spoil_epoch=True)

    def ban(self, uid: str, seconds: float, *, now: float) -> None:
        """End the uid's session and refuse its logins for ``seconds``: ABORTED/BANNED_BY_SERVER."""
        if not seconds > 0:
            raise InvalidArgument(f"a ban of {seconds!r} s: it must be above 0", code="invalid_ban")
        self._advance(now)
        self._end_session(uid, None, Code.BANNED, "the uid is banned", spoil_epoch=True, ban_seconds=seconds)

    def _end_session(
        self,
        uid: str,
        session_id: bytes | None,
        code: Code,
        message: str,
        *,
        spoil_epoch: bool = False,
        ban_seconds: float | None = None,
    ) -> None:
        operation = EndSession(
            uid=uid,
            session_id=session_id,
            cause=LeaveCause.BANNED if code is Code.BANNED else LeaveCause.KICKED,
            code=code,
            message=message,
            spoil_epoch=spoil_epoch,
            ban_seconds=ban_seconds,
        )
        self._call(operation, lambda answer: self._carry_out(answer.todos))

    def _carry_out(self, todos: tuple[ToDo, ...]) -> None:
        """Do what follows in other homes, and strike it off (E2). Each step is idempotent."""
        if not todos:
            return
        uids: dict[str, list[int]] = {}
        for todo in todos:
            if isinstance(todo, LeaveToDo):
                self._leave_for(todo)
            else:
                order = Order(session_id=todo.session_id, attach=todo.attach, code=todo.code, message=todo.message)
                self._call(PostOrder(node=todo.node, order=order))
            uids.setdefault(todo.uid, []).append(todo.todo_id)
        for uid, todo_ids in uids.items():
            self._call(StrikeToDos(uid=uid, todo_ids=tuple(todo_ids)))

    def _leave_for(self, todo: LeaveToDo) -> None:
        operation = LeaveChannel(
            channel=todo.channel,
            uid=todo.uid,
            session_id=todo.session_id,
            number=None,
            lowest_unanswered=0,
            left_entry=encode_entry(LeftEntry(todo.uid, todo.cause)),
            ended=True,
        )
        self._call(operation)

    def _on_orders(self, answer: Orders) -> None:
        self._orders_cursor = answer.cursor
        for order in answer.orders:
            session = self._sessions.get(order.session_id)
            if session is None or session.link is None or session.attach > order.attach:
                continue
            link = session.link
            if order.code != Code.TRANSPORT_REPLACED:
                self._reply(link, Kicked(order.code, order.message))
            self._part(session)
            self._say_goodbye(link, order.code, order.message)

    # ------------------------------------------------------------------------------------ channels and logs

    def _use(self, name: str) -> WatchedChannel:
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = WatchedChannel(name)
        channel.users += 1
        return channel

    def _release(self, session: AttachedSession, channel: WatchedChannel) -> None:
        """The session has no part in the channel any more."""
        if session.channels.pop(channel.name, None) is None:
            return
        if session.link is not None:
            channel.live.pop(session.link, None)
        if session.positions is not None:
            session.positions.pop(channel, None)
        channel.users -= 1
        self._release_if_unused(channel)

    def _release_if_unused(self, channel: WatchedChannel) -> None:
        if channel.users or channel.gathered or channel.appending or self._channels.get(channel.name) is not channel:
            return
        if channel.fresh:  # the last readers left in this pass: nobody is there to be given it
            self._fresh.pop(channel, None)
        del self._channels[channel.name]
        if channel.watched or channel.waiters is not None:
            self._call(WatchChannel(channel=channel.name, node=self._node, on=False))

    def _watch(self, channel: WatchedChannel, then: Callable[[], None]) -> None:
        """Subscribe, have that confirmed, and know the log's end (E5)."""
        if channel.watched:
            then()
            return
        if channel.waiters is not None:
            channel.waiters.append(then)
            return
        channel.waiters = [then]

        def on_watched(answer: LogEnd) -> None:
            waiters, channel.waiters = channel.waiters or [], None
            channel.watched = True
            channel.epoch = answer.epoch
            channel.end = channel.flushed_end = answer.end
            for waiter in waiters:
                waiter()

        self._call(WatchChannel(channel=channel.name, node=self._node, on=True), on_watched)

    def _take_block(self, channel: WatchedChannel, block: Block) -> None:
        """Blocks are delivered in the order of their offsets, whichever way they come (E5)."""
        if not channel.watched or block.last_offset <= channel.end:
            return
        if block.epoch != channel.epoch or block.first_offset > channel.end + 1:
            self._read_hole(channel)
            return
        if block.first_offset <= channel.end:
            known = channel.end + 1 - block.first_offset
            block = Block(block.epoch, channel.end + 1, block.entries[known:])
        channel.end = block.last_offset
        channel.fresh.append(block)
        self._fresh[channel] = None

    def _read_hole(self, channel: WatchedChannel) -> None:
        """A block that is not the next one: read the log."""
        if channel.behind_reading:
            return
        channel.behind_reading = True

        def on_read(reading: Reading) -> None:
            channel.behind_reading = False
            if reading.gap:
                # What is gone here is a gap for every reader: each finds out from its own cursor.
                for link in list(channel.live):
                    self._fall_behind(link)
                channel.epoch = reading.epoch
                channel.end = channel.flushed_end = reading.end
                channel.fresh.clear()
            elif reading.entries:
                self._take_block(channel, Block(reading.epoch, reading.cursor + 1, reading.entries))
                if reading.end > channel.end:
                    self._read_hole(channel)

        self._call(
            ReadLog(
                channel=channel.name, epoch=channel.epoch, cursor=channel.end, max_bytes=self._config.feed_piece_bytes
            ),
            on_read,
        )

    def _place(self, session: AttachedSession, channel: WatchedChannel, epoch: bytes, cursor: int) -> None:
        """A reader at this cursor is live, or is fed from the log until it is (S49)."""
        link = session.link
        if link is None:
            return
        channel.live.pop(link, None)
        if session.positions is not None:
            session.positions.pop(channel, None)
        if epoch == channel.epoch and channel.flushed_end <= cursor <= channel.end:
            channel.live[link] = None
            return
        if session.positions is None:
            session.positions = {}
        session.positions[channel] = Position(epoch, cursor)
        self._feeding[link] = None

    def _on_hold(self, link: ServerLink, session: AttachedSession, hold: Hold) -> None:
        """Nothing more of this log: it has no position here meanwhile (S52)."""
        channel = session.channels.get(hold.log)
        if channel is not None and not self._is_flood(link, session):
            channel.live.pop(link, None)
            if session.positions is not None:
                session.positions.pop(channel, None)

    def _on_go_on(self, link: ServerLink, session: AttachedSession, go_on: GoOn) -> None:
        """The log from behind this cursor; the answer stands before what was asked for (S48, S52)."""
        channel = session.channels.get(go_on.log)
        if channel is None or not channel.watched or self._is_flood(link, session):
            return
        self._give(link, encode_frame(encode_batch([Going(go_on.log)])))
        self._place(session, channel, go_on.epoch, go_on.cursor)

    def _fall_behind(self, link: ServerLink) -> None:
        """The link leaves the live fan-out of all its logs; one position for each is remembered (S49)."""
        session = link.session
        assert session is not None
        if session.positions is None:
            session.positions = {}
        for channel in session.channels.values():
            if link in channel.live:
                del channel.live[link]
                session.positions[channel] = Position(channel.epoch, channel.flushed_end)
        if link.unsent < self._config.feed_below_bytes:
            self._feeding[link] = None

    def _feed(self, link: ServerLink) -> None:
        """Give a link that is behind its next piece, from the log that has waited longest."""
        session = link.session
        positions = None if session is None else session.positions
        if session is None or not positions:
            self._feeding.pop(link, None)
            return
        for channel, position in list(positions.items()):
            if position.reading:
                continue
            if position.epoch == channel.epoch and channel.flushed_end <= position.cursor <= channel.end:
                del positions[channel]
                channel.live[link] = None
                continue
            position.reading = True
            operation = ReadLog(
                channel=channel.name,
                epoch=position.epoch,
                cursor=position.cursor,
                max_bytes=self._config.feed_piece_bytes,
            )
            self._call(operation, self._on_piece(link, session, channel, position))
            return
        self._feeding.pop(link, None)

    def _on_piece(
        self, link: ServerLink, session: AttachedSession, channel: WatchedChannel, position: Position
    ) -> Callable[[Reading], None]:
        def on_read(reading: Reading) -> None:
            if session.link is not link or session.positions is None or session.positions.get(channel) is not position:
                return
            del session.positions[channel]
            if reading.gap:
                self._give(
                    link,
                    encode_frame(encode_batch([Gap(channel.name, reading.epoch, reading.cursor, reading.lost)])),
                )
            if reading.entries:
                self._give(link, _entries_frame(channel.name, reading.epoch, reading.cursor + 1, reading.entries))
            self._place_again(session, channel, reading)

        return on_read

    def _place_again(self, session: AttachedSession, channel: WatchedChannel, reading: Reading) -> None:
        """Behind a piece: live if that was all, else the last in the row of those to be fed."""
        link = session.link
        assert link is not None
        assert session.positions is not None
        cursor = reading.cursor + len(reading.entries)
        if reading.epoch == channel.epoch and cursor >= channel.flushed_end:
            channel.live[link] = None
        else:
            session.positions[channel] = Position(reading.epoch, cursor)
        if session.positions:
            self._feeding[link] = None

    # ------------------------------------------------------------------------------------------------ flush

    @property
    def flush_wanted(self) -> bool:
        """Whether ``flush`` has something to do."""
        return bool(self._dirty_links or self._gathering or self._fresh or self._feeding)

    def flush(self, *, now: float) -> None:
        """End a loop pass: append what was gathered, fan out what is new, feed who is behind, and write once to each
        transport."""
        self._advance(now)
        if self._gathering:
            gathering, self._gathering = self._gathering, {}
            for channel in gathering:
                self._append_gathered(channel)
        if self._fresh:
            fresh, self._fresh = self._fresh, {}
            for channel in fresh:
                self._fan_out(channel)
        for link in list(self._feeding):
            if link.unsent >= self._config.feed_below_bytes:
                del self._feeding[link]
            else:
                self._feed(link)
        dirty, self._dirty_links = self._dirty_links, {}
        for link in dirty:
            self._transmit(link)

    def _fan_out(self, channel: WatchedChannel) -> None:
        """One frame for all readers that keep up: the same bytes for each (E4)."""
        blocks, channel.fresh = channel.fresh, []
        slow = self._config.slow_reader_bytes
        for link in [link for link in channel.live if link.unsent > slow]:
            self._fall_behind(link)
        channel.flushed_end = channel.end
        if not channel.live:
            return
        dirty = self._dirty_links
        for frame in self._frames_of(channel.name, blocks):
            for link in channel.live:
                if link.blocks is None:
                    link.blocks = [frame]
                    dirty[link] = None
                else:
                    link.blocks.append(frame)

    def _frames_of(self, name: str, blocks: list[Block]) -> list[bytes]:
        """All blocks of a pass as one frame, or as few as the size of a WebSocket message allows."""
        frames: list[bytes] = []
        entries: list[bytes] = []
        first, size = blocks[0].first_offset, 0
        room = self._config.max_frame_bytes - 256  # names, numbers and headers
        for block in blocks:
            for entry in block.entries:
                if size + len(entry) > room and entries:
                    frames.append(_entries_frame(name, block.epoch, first, entries))
                    first += len(entries)
                    entries, size = [], 0
                entries.append(entry)
                size += len(entry)
        frames.append(_entries_frame(name, blocks[-1].epoch, first, entries))
        return frames

    def _reply(self, link: ServerLink, message: Any) -> None:
        if link.replies is None:
            link.replies = [message]
            self._dirty_links[link] = None
        else:
            link.replies.append(message)

    def _give(self, link: ServerLink, frame: bytes) -> None:
        if link.blocks is None:
            link.blocks = [frame]
        else:
            link.blocks.append(frame)
        self._dirty_links[link] = None

    def _transmit(self, link: ServerLink) -> None:
        """All that waits for the transport, as one write: replies, then heartbeat answers, then one frame per log."""
        blocks, replies = link.blocks, link.replies
        if replies is None and link.heartbeats == 0:
            if blocks is None:
                return
            data = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        else:
            frames = (
                [encode_frame(payload) for payload in encode_in_pieces(replies or (), self._config.max_frame_bytes)]
                if replies
                else []
            )
            if link.heartbeats:
                frames.append(_HEARTBEAT_FRAME * link.heartbeats)
            if link.unsent + sum(map(len, frames)) > self._config.max_outbound_bytes and link.phase is ServerPhase.OPEN:
                self._too_slow(link)
                return
            if blocks is not None:
                frames += blocks
            data = frames[0] if len(frames) == 1 else b"".join(frames)
        link.blocks = link.replies = None
        link.heartbeats = 0
        link.transmitted += len(data)
        self._outputs.append(Transmit(transport_id=link.transport_id, data=data))

    def _too_slow(self, link: ServerLink) -> None:
        """Its outbound buffer would pass the bound by replies alone (S51)."""
        link.blocks = link.replies = None
        link.heartbeats = 0
        self._drop(link, "abort")
        self._detach(link, silent_seconds=0.0)

    def _transmit_wire(self, link: ServerLink) -> None:
        data = link.wire.data_to_send()
        if data:
            link.transmitted += len(data)
            self._outputs.append(Transmit(transport_id=link.transport_id, data=data))

    # ----------------------------------------------------------------------------------------------- engine

    def _call(self, operation: Operation, then: Callable[[Any], None] | None = None) -> None:
        """Have the engine carry out an operation; ``then`` gets its answer, at once or later. One call on a home at a
        time."""
        if self._engine is not None:
            answer = self._engine.execute(operation, now=self._now)
            if then is not None:
                then(answer)
            self._take_announcements()
            return
        if isinstance(operation, ReadLog):  # changes nothing, and waits for nothing
            self._issue(None, operation, then)
            return
        home = home_of_operation(operation)
        lane = self._lanes.get(home)
        if lane is None:
            self._lanes[home] = deque()
            self._issue(home, operation, then)
        else:
            lane.append((operation, then))

    def _issue(self, home: str | None, operation: Operation, then: Callable[[Any], None] | None) -> None:
        self._last_call_id += 1
        self._calls[self._last_call_id] = (home, then)
        self._outputs.append(EngineCall(call_id=self._last_call_id, operation=operation))

    def engine_answered(self, call_id: int, answer: Answer, *, now: float) -> None:
        """The external engine carried out an ``EngineCall``. An unknown or repeated id is ignored."""
        self._advance(now)
        home, then = self._calls.pop(call_id, (None, None))
        if home is not None:
            lane = self._lanes[home]
            if lane:
                self._issue(home, *lane.popleft())
            else:
                del self._lanes[home]
        if then is not None and not self._closed:
            then(answer)

    def engine_announced(self, announcement: Announcement, *, now: float) -> None:
        """The external engine announces something to this node."""
        self._advance(now)
        if not self._closed:
            self._on_announcement(announcement)

    def _take_announcements(self) -> None:
        assert self._engine is not None
        for _, announcement in self._engine.take_announcements():
            self._on_announcement(announcement)

    def _on_announcement(self, announcement: Announcement) -> None:
        if isinstance(announcement, BlockAnnounced):
            channel = self._channels.get(announcement.channel)
            if channel is not None:
                self._take_block(channel, announcement.block)
        elif isinstance(announcement, OrdersWaiting):
            self._call(ReadOrders(node=self._node, cursor=self._orders_cursor), self._on_orders)
        else:
            self._call(TakeToDos(node=self._node), self._carry_out)


def _entries_frame(name: str, epoch: bytes, first_offset: int, entries: Any) -> bytes:
    return encode_frame(encode_block(name, epoch, first_offset, entries))
