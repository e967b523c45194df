"""``ClientCore``: a client's session over any number of transports, as a pure state machine.

It decides when a transport is opened, to which endpoint, and when it is given up; it keeps the state, the timers, the
open requests
and a cursor for each channel. A driver does what the effects say and reports what happened, with its clock's ``now``.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ._backoff import Backoff
from ._checks import check_body, check_name, check_timeout, check_token
from ._link import ClientLink, LinkPhase
from ._liveness import LinkHealth, Liveness
from ._pacing import TokenBucket
from ._reader import ChannelReader, Wish
from ._requests import OpenMessage, OpenRequest, OpenRequests
from ._timers import Timers
from ._tokens import ClientToken
from ._wire import Closed, HandshakeFailed, Opened, Rejected
from .codes import Code, CodeKind, code_kind, code_name
from .config import ClientConfig
from .effects import AskToken, CloseTransport, Endpoint, OpenTransport, Transmit
from .errors import (
    InvalidArgument,
    InvalidState,
    LoginFailed,
    LoginTimeout,
    NotConnected,
    NotJoined,
    NotLoggedIn,
    Outcome,
    RequestAbandoned,
    RequestFailed,
    RequestRefused,
    RequestsFull,
    RequestTimeout,
    RtmError,
    TransportFailure,
)
from .events import (
    ChannelLost,
    ConnectionStateChanged,
    JoinReceipt,
    ReconnectProblem,
    RequestCompleted,
    RequestErred,
    RequestResult,
    SendReceipt,
    TokenExpired,
    TokenReceipt,
    TokenWillExpire,
)
from .messages import (
    LOGIN_BYTES,
    Done,
    Entries,
    Failed,
    Gap,
    Going,
    GoOn,
    Hold,
    Join,
    Joined,
    Kicked,
    Leave,
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
    Want,
    WantedChannel,
    Welcome,
    encode_in_pieces,
    server_decoder,
)
from .states import ConnectionMachine, ConnectionState, Trigger

_DEFAULT_NAME_LENGTH = 64
_SHOWN_BODY = 200

# Causes that no repetition will mend (S6); any other is passing trouble.
_VERDICT_FAILURES = frozenset({"certificate_not_trusted", "not_a_websocket", "no_common_protocol"})
_PASSING_HTTP = frozenset({408, 425, 429})
_HANDSHAKE_CODES = {"bad_subprotocol": "no_common_protocol", "connection_lost": "connection_lost"}

_KICK_TRIGGERS = {
    Code.REMOTE_LOGIN: Trigger.REMOTE_LOGIN,
    Code.BANNED: Trigger.BANNED,
    Code.TOKEN_EXPIRY_ENFORCED: Trigger.TOKEN_EXPIRY_ENFORCED,
}

_decoder = server_decoder()


class ClientTimer(enum.Enum):
    """Everything that a client waits for, by name: ``next_timer`` says which comes next, for logs and tests."""

    LOGIN = "login"
    GRACE = "grace"
    RETRY = "retry"
    ATTEMPT = "attempt"
    RESTORE = "restore"
    LIVENESS = "liveness"
    REQUEST = "request"
    PACE = "pace"
    PROGRESS = "progress"
    TOKEN_WARNING = "token warning"
    TOKEN_END = "token end"
    TOKEN_PROVIDER = "token provider"
    LOGOUT = "logout"


class _Session:
    """What the last welcome said, quoted at each resume."""

    __slots__ = ("attach", "bucket", "limits", "login_epoch", "session_id")

    def __init__(self, welcome: Welcome, now: float) -> None:
        self.session_id = welcome.session_id
        self.login_epoch = welcome.login_epoch
        self.attach = welcome.attach
        self.limits: Limits = welcome.limits
        self.bucket = TokenBucket(
            rate_per_second=self.limits.requests_per_second, burst=self.limits.request_burst, now=now
        )


class _LoginCall:
    """The ``login`` call: its identity for all attempts (S18), and how it will end (S3)."""

    __slots__ = ("attempts", "last_cause", "login_id", "pending", "request_id")

    def __init__(self, request_id: int, login_id: bytes) -> None:
        self.request_id = request_id
        self.login_id = login_id
        self.pending = True
        self.attempts = 0
        self.last_cause: RtmError | None = None


class ClientCore:
    """One instance of a user: logs in, stays, comes back.

    Four families of methods. *Getters*: ``state``, ``uid``, ``next_deadline``, ``next_timer``. *Commands* of the
    application return a request id, whose end comes out as ``RequestCompleted`` or ``RequestErred``, or raise an
    ``RtmError`` and change nothing. *Reports* of the driver never raise because of the peer, nor for an id that is
    stale, unknown or repeated. ``take_outputs`` is to be called
    after each of the two until it is empty.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        endpoints: Sequence[Endpoint],
        rng: random.Random,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._config = config
        self._endpoints = tuple(endpoints)
        self._entropy = entropy
        self._instance_id = entropy(16)
        self._machine = ConnectionMachine()
        self._timers: Timers[ClientTimer] = Timers()
        self._backoff = Backoff(
            base_seconds=config.backoff_base_seconds,
            cap_seconds=config.backoff_cap_seconds,
            grace_cap_seconds=config.grace_backoff_cap_seconds,
            rng=rng,
        )
        self._outputs: list[Any] = []
        self._now = float("-inf")
        self._last_transport_id = 0
        self._last_request_id = 0
        self._last_ask_id = 0
        self._uid = ""
        self._token = ClientToken(None, from_provider=False)
        self._renewal: tuple[int, ClientToken] | None = None  # the last renewal, and the token before it
        self._asking: int | None = None
        self._asking_to_renew = False
        self._login: _LoginCall | None = None
        self._session: _Session | None = None
        self._link: ClientLink | None = None
        self._closing: tuple[ClientLink, int] | None = None  # the transport of a logout, and its request
        self._interrupted = False
        self._problems: dict[str, str] = {}
        self._problems_told: set[str] = set()
        self._readers: dict[str, ChannelReader] = {}
        self._joining: dict[str, tuple[int, bool]] = {}
        self._named: frozenset[str] = frozenset()
        self._late_want: Want | None = None  # a statement too large to be sent before the welcome (S59)
        self._results: list[Any] = []
        self._requests = OpenRequests(config.max_unanswered_requests)
        self._to_transmit: deque[int] = deque()
        self._progress_told: tuple[int, int] | None = None
        self.unknown_messages = 0
        """Optional messages of a later version that were skipped."""
        self._on_message: dict[type[Any], Callable[[ClientLink, Any], None]] = {
            Welcome: self._on_welcome,
            LoginRefused: self._on_login_refused,
            Restored: self._on_restored,
            Kicked: self._on_kicked,
            Entries: self._on_entries,
            Gap: self._on_gap,
            Going: self._on_going,
            Done: self._on_done,
            Sent: self._on_sent,
            Joined: self._on_joined,
            Renewed: self._on_renewed,
            Failed: self._on_failed,
        }
        self._on_timer: dict[ClientTimer, Callable[[], None]] = {
            ClientTimer.LOGIN: self._on_login_timeout,
            ClientTimer.GRACE: self._on_grace_over,
            ClientTimer.RETRY: self._start_attempt,
            ClientTimer.ATTEMPT: self._on_attempt_timeout,
            ClientTimer.RESTORE: self._on_restore_timeout,
            ClientTimer.LIVENESS: self._on_liveness,
            ClientTimer.REQUEST: self._on_request_timeout,
            ClientTimer.PACE: self._transmit_requests,
            ClientTimer.PROGRESS: self._post_progress,
            ClientTimer.TOKEN_WARNING: self._on_token_warning,
            ClientTimer.TOKEN_END: self._tell_token_expired,
            ClientTimer.TOKEN_PROVIDER: self._on_provider_timeout,
            ClientTimer.LOGOUT: self._finish_logout,
        }

    # ------------------------------------------------------------------------------------------------ getters

    @property
    def state(self) -> ConnectionState:
        """The public state."""
        return self._machine.state

    @property
    def uid(self) -> str | None:
        """The uid of the last ``login``, or None before the first."""
        return self._uid or None

    def next_deadline(self) -> float | None:
        """When ``handle_timeout`` is to be called, in the caller's monotonic seconds; None for never."""
        upcoming = self._timers.next()
        return None if upcoming is None else upcoming[0]

    def next_timer(self) -> ClientTimer | None:
        """The name of the timer behind ``next_deadline``."""
        upcoming = self._timers.next()
        return None if upcoming is None else upcoming[1]

    # ----------------------------------------------------------------------------------------------- commands

    def login(self, uid: str, token: str | None, *, token_provider: bool = False, now: float) -> int:
        """Log in (S3-S6); completes with None when CONNECTED is entered, or fails with a LoginFailed when
        DISCONNECTED is.

        With ``token_provider`` the token may be None: it is asked for with ``AskToken`` whenever a new one is needed
        (S27).
        Raises InvalidState unless DISCONNECTED (S4), InvalidArgument for an impossible uid or token.
        """
        if self.state is not ConnectionState.DISCONNECTED:
            raise InvalidState(
                f"login() in state {self.state.value}: one login at a time; "
                + (
                    "call logout() first, then login()"
                    if self.state is ConnectionState.ABORTED
                    else "call logout() first"
                ),
            )
        check_name(uid, "uid", _DEFAULT_NAME_LENGTH)
        if token is not None:
            check_token(token)
        self._advance(now)
        self._end_closing()
        self._uid = uid
        self._token = ClientToken(token if token is not None or token_provider else "", from_provider=token_provider)
        self._session = None
        self._renewal = None
        self._progress_told = None
        self._login = _LoginCall(self._next_request_id(), self._entropy(16))
        self._backoff.reset()
        self._problems.clear()
        self._problems_told.clear()
        self._switch(Trigger.LOGIN_CALLED)
        self._timers.set(ClientTimer.LOGIN, self._now + self._config.login_timeout_seconds)
        self._start_attempt()
        return self._login.request_id

    def logout(self, *, now: float) -> int:
        """Log out (S7): DISCONNECTED at once; completes when the server confirmed, or after the logout timeout at the
        latest.

        Raises NotLoggedIn in DISCONNECTED. Never fails because the network is down.
        """
        if self.state is ConnectionState.DISCONNECTED:
            raise NotLoggedIn("logout() in state DISCONNECTED: nobody is logged in; call login() first")
        self._advance(now)
        request_id = self._next_request_id()
        link = self._link
        login = self._login
        self._link = None
        self._reset_session_state()
        self._switch(Trigger.LOGOUT_CALLED)
        if login is not None and login.pending:
            self._fail_login(LoginFailed("logout() ended the login", code="logged_out", attempts=login.attempts))
        self._fail_requests("logged_out", "logout() was called")
        if link is None or link.phase is LinkPhase.OPENING or link.phase is LinkPhase.HANDSHAKE:
            if link is not None:
                self._close(link, "abort")
            self._complete(request_id, None)
            return request_id
        link.post(Logout(request_id))
        self._transmit_outbox(link)
        if link.welcomed:
            self._closing = (link, request_id)
            self._timers.set(ClientTimer.LOGOUT, self._now + self._config.logout_timeout_seconds)
        else:  # the login may just be accepted: the server finds the logout right behind it
            self._close(link, "flush")
            self._complete(request_id, None)
        return request_id

    def renew_token(self, token: str, *, now: float) -> int:
        """Replace the token; completes with a TokenReceipt when the server accepted it (S27, S28). Without a link it
        makes an attempt.

        Raises NotConnected unless CONNECTED or RECONNECTING, InvalidArgument for an impossible token.
        """
        self._check_connected("renew_token()")
        check_token(token)
        self._check_room()
        self._advance(now)
        number = self._next_request_id()
        self._renewal = (number, self._token)
        self._token = self._token.renewed(token)
        self._forget_token_timers()
        self._open_request(RenewToken(number, token), None)
        if self._link is None:
            self._start_attempt()
        return number

    def retry_now(self, *, now: float) -> None:
        """Make an attempt at once (S16), for instance when the network has changed (F-20); with a link, send a
        heartbeat.

        Raises InvalidState in DISCONNECTED and ABORTED.
        """
        if self.state in (ConnectionState.DISCONNECTED, ConnectionState.ABORTED):
            raise InvalidState(f"retry_now() in state {self.state.value}: there is nothing to retry; call login()")
        self._advance(now)
        link = self._link
        if link is not None and link.welcomed:
            self._send_heartbeat(link)
            return
        if link is not None:
            self._drop_link("abort")
        self._start_attempt()

    def join(self, channel: str, *, echo: bool = False, timeout_seconds: float | None = None, now: float) -> int:
        """Join a channel; completes with a JoinReceipt (S47). With ``echo`` one's own entries are delivered too (S43).

        Raises InvalidArgument, InvalidState if it is joined already, NotConnected, RequestsFull (S35, S37).
        """
        self._check_connected("join()")
        limits = self._limits()
        check_name(channel, "channel", limits.max_name_length)
        if channel in self._readers or channel in self._joining:
            raise InvalidState(
                f"the channel {channel!r} is joined already; use the Channel you have", code="already_joined"
            )
        if len(self._readers) + len(self._joining) >= limits.max_channels:
            raise InvalidArgument(
                f"{limits.max_channels} channels are joined, which is the limit; leave one first",
                code="too_many_channels",
            )
        self._check_call(timeout_seconds)
        self._advance(now)
        number = self._next_request_id()
        self._joining[channel] = (number, echo)
        return self._open_request(Join(number, channel), timeout_seconds)

    def leave(self, channel: str, *, timeout_seconds: float | None = None, now: float) -> int:
        """Leave a channel; it counts at once. Without a link it completes at once, and the reconnect never undoes it
        (S44).

        Raises NotJoined, NotConnected, RequestsFull.
        """
        self._check_connected("leave()")
        if channel not in self._readers:
            raise NotJoined(f"the channel {channel!r} is not joined; join() it first")
        self._check_call(timeout_seconds)
        self._advance(now)
        del self._readers[channel]
        number = self._open_request(Leave(self._next_request_id(), channel), timeout_seconds)
        if self._link is None or self._link.phase is not LinkPhase.UP:
            self._abandon(number)
            self._complete(number, None)
        return number

    def publish(self, channel: str, message: str | bytes, *, timeout_seconds: float | None = None, now: float) -> int:
        """Send a message to a joined channel; completes with a SendReceipt once it stands in the log (S34).

        Raises InvalidArgument, NotJoined, NotConnected, RequestsFull.
        """
        self._check_connected("send()")
        if channel not in self._readers:
            raise NotJoined(f"the channel {channel!r} is not joined; join() it first")
        check_body(message, self._limits().max_message_bytes)
        self._check_call(timeout_seconds)
        self._advance(now)
        number = self._next_request_id()
        if isinstance(message, str):
            return self._open_request(PublishText(number, channel, message), timeout_seconds)
        return self._open_request(PublishBytes(number, channel, message), timeout_seconds)

    def cancel(self, request_id: int, *, now: float) -> None:
        """Nobody waits for this request any more: no end of it comes out. Cancelling a login is a logout (S3). Never
        raises."""
        self._advance(now)
        if self._login is not None and self._login.pending and self._login.request_id == request_id:
            self._login.pending = False
            self.logout(now=now)
            return
        request = self._requests.remove(request_id)
        if request is not None:
            self._undo(request)

    def iterating(self, home: str, on: bool, *, backlog_events: int = 0, backlog_bytes: int = 0, now: float) -> None:
        """The app begins or ends to iterate the events of a home; ``backlog_*`` is what waits in its queue (S52)."""
        self._advance(now)
        reader = self._readers.get(home)
        if reader is not None:
            self._follow(reader, reader.iterating(on, backlog_events, backlog_bytes))

    def consumed(self, home: str, count: int, byte_count: int, *, now: float) -> None:
        """The app took ``count`` events with ``byte_count`` message bytes out of the queue of an iterated home
        (S52)."""
        self._advance(now)
        reader = self._readers.get(home)
        if reader is not None:
            self._follow(reader, reader.consumed(count, byte_count))

    # ------------------------------------------------------------------------------------- reports of a driver

    def token_supplied(self, ask_id: int, token: str, *, now: float) -> None:
        """The provider answered an ``AskToken`` (S27)."""
        if ask_id != self._asking:
            return
        self._advance(now)
        try:
            check_token(token)
            if not token:
                raise InvalidArgument("the token provider returned an empty token", code="invalid_token")
        except InvalidArgument as fault:
            self._provider_failed(str(fault), fault)
            return
        renewing = self._asking_to_renew
        self._stop_asking()
        if self._token.value is None:
            self._token.value = token
        else:
            self._token = self._token.renewed(token)
            self._forget_token_timers()
        if renewing and self._link is not None and self._link.welcomed and not self._requests.full:
            self._abandon(self._open_request(RenewToken(self._next_request_id(), token), None))
        elif self._link is None:
            self._start_attempt()

    def token_failed(self, ask_id: int, cause: BaseException, *, now: float) -> None:
        """The provider raised (S27). ``cause`` is kept, its text is not shown: it might hold a token."""
        if ask_id != self._asking:
            return
        self._advance(now)
        self._provider_failed(f"the token provider raised {type(cause).__name__}", cause)

    def transport_opened(self, transport_id: int, *, now: float) -> None:
        """The transport of an ``OpenTransport`` is up, TLS included."""
        link = self._link
        if link is None or link.transport_id != transport_id or link.phase is not LinkPhase.OPENING:
            return
        self._advance(now)
        link.phase = LinkPhase.HANDSHAKE
        link.wire.start()
        self._transmit_wire(link)

    def transport_failed(self, transport_id: int, cause: TransportFailure, *, now: float) -> None:
        """The transport could not be opened."""
        link = self._link
        if link is None or link.transport_id != transport_id or link.phase is not LinkPhase.OPENING:
            return
        self._advance(now)
        self._link_ended(cause)

    def receive_data(self, transport_id: int, data: bytes, *, now: float) -> None:
        """Bytes arrived."""
        link = self._link_of(transport_id)
        if link is None or link.phase is LinkPhase.OPENING:
            return
        self._advance(now)
        if link.liveness is not None:
            link.liveness.received(self._now)
        self._take_wire_events(link, link.wire.receive(data))

    def transport_lost(self, transport_id: int, cause: TransportFailure | None, *, now: float) -> None:
        """The transport ended: by an orderly end of the stream (None), or with an error."""
        link = self._link_of(transport_id)
        if link is None:
            return
        self._advance(now)
        if self._closing is not None and link is self._closing[0]:
            _, request_id = self._closing
            self._closing = None
            self._timers.clear(ClientTimer.LOGOUT)
            self._complete(request_id, None)
            return
        retry_after = None
        for event in link.wire.receive_eof():
            if type(event) is Rejected:  # an answer whose body never ended
                cause, retry_after = _rejection(event), _retry_after(event)
        self._link_ended(
            cause or TransportFailure("the server closed the connection", code="connection_lost"),
            retry_after=retry_after,
        )

    def unsent(self, transport_id: int, byte_count: int, *, now: float) -> None:
        """What the socket has not taken. A client needs no more of it than the time: its requests are bounded by
        number."""
        self._advance(now)

    def handle_timeout(self, *, now: float) -> None:
        """Time has passed: fire what is due. Early, late and repeated calls do no harm; all that arrived is to be
        reported before."""
        self._advance(now)
        while (name := self._timers.pop_due(self._now)) is not None:
            self._on_timer[name]()

    def take_outputs(self) -> list[Any]:
        """Effects and events, in order. A second call gives nothing."""
        if self._link is not None and self._link.has_outbox:
            self._transmit_outbox(self._link)
        outputs, self._outputs = self._outputs, []
        return outputs

    # --------------------------------------------------------------------------------------------- small parts

    def _advance(self, now: float) -> None:
        self._now = max(self._now, now)  # time going backwards is clamped

    def _next_request_id(self) -> int:
        self._last_request_id += 1
        return self._last_request_id

    def _switch(self, trigger: Trigger, code: str | None = None, message: str | None = None) -> None:
        previous, state, reason = self._machine.fire(trigger)
        self._outputs.append(
            ConnectionStateChanged(state=state, reason=reason, previous=previous, code=code, message=message)
        )

    def _complete(self, request_id: int, result: RequestResult) -> None:
        self._outputs.append(RequestCompleted(request_id=request_id, result=result))

    def _err(self, request_id: int, error: RtmError) -> None:
        self._outputs.append(RequestErred(request_id=request_id, error=error))

    def _limits(self) -> Limits:
        assert self._session is not None
        return self._session.limits

    def _link_of(self, transport_id: int) -> ClientLink | None:
        link = self._link
        if link is not None and link.transport_id == transport_id:
            return link
        if self._closing is not None and self._closing[0].transport_id == transport_id:
            return self._closing[0]
        return None

    def _check_connected(self, call: str) -> None:
        if self.state not in (ConnectionState.CONNECTED, ConnectionState.RECONNECTING):
            hint = {
                ConnectionState.DISCONNECTED: "call login() first",
                ConnectionState.CONNECTING: "wait until login() has returned",
                ConnectionState.ABORTED: "the session is over; call logout(), then login()",
            }[self.state]
            raise NotConnected(f"{call} in state {self.state.value}: {hint}")

    def _check_call(self, timeout_seconds: float | None) -> None:
        if timeout_seconds is not None:
            check_timeout(timeout_seconds)
        self._check_room()

    def _check_room(self) -> None:
        if self._requests.full:
            raise RequestsFull(f"{len(self._requests)} requests are unanswered, which is the limit; wait until one is")

    # ------------------------------------------------------------------------------------------------ attempts

    def _start_attempt(self) -> None:
        self._timers.clear(ClientTimer.RETRY)
        if self._asking is not None:
            return
        if self._token.must_ask(self._now):
            self._ask_token(to_renew=False)
            return
        assert self._login is not None
        self._last_transport_id += 1
        attempt = self._login.attempts
        self._login.attempts = attempt + 1
        endpoint = self._endpoints[attempt % len(self._endpoints)]
        self._link = ClientLink(
            self._last_transport_id, endpoint, attempt, max_bytes=self._config.max_message_bytes, entropy=self._entropy
        )
        self._timers.set(ClientTimer.ATTEMPT, self._now + self._config.attempt_timeout_seconds)
        self._outputs.append(OpenTransport(transport_id=self._last_transport_id, endpoint=endpoint, attempt=attempt))

    def _on_attempt_timeout(self) -> None:
        assert self._link is not None
        phase = self._link.phase
        self._drop_link("abort")
        self._link_ended(
            TransportFailure(
                f"no welcome within {self._config.attempt_timeout_seconds} s: {phase.value}", code="attempt_timeout"
            )
        )

    def _on_restore_timeout(self) -> None:
        self._drop_link("abort")
        self._link_ended(
            TransportFailure(
                f"the session was not restored within {self._config.restore_timeout_seconds} s of the welcome",
                code="restore_timeout",
            )
        )

    def _drop_link(self, how: Any) -> None:
        """Close the link's transport. What follows from it is the caller's, mostly ``_link_ended``."""
        assert self._link is not None
        self._close(self._link, how)

    def _close(self, link: ClientLink, how: Any) -> None:
        if link.phase is not LinkPhase.OPENING and how == "flush":
            link.wire.close(1000)
            self._transmit_wire(link)
        self._outputs.append(CloseTransport(transport_id=link.transport_id, how=how))

    def _link_ended(self, cause: RtmError, *, verdict: bool | None = None, retry_after: float | None = None) -> None:
        """The link is over, whoever ended it: decide what follows from that in each state (S6, S12, S20, S21)."""
        link = self._link
        assert link is not None
        self._link = None
        self._timers.clear(
            ClientTimer.ATTEMPT, ClientTimer.RESTORE, ClientTimer.LIVENESS, ClientTimer.PACE, ClientTimer.PROGRESS
        )
        for reader in self._readers.values():
            reader.transport_gone()
        self._results.clear()
        if link.up_since is not None and self._now - link.up_since >= self._config.stable_after_seconds:
            self._backoff.reset()
        self._attempt_failed(
            cause, verdict=_is_verdict(cause.code) if verdict is None else verdict, retry_after=retry_after
        )

    def _attempt_failed(self, cause: RtmError, *, verdict: bool, retry_after: float | None = None) -> None:
        state = self.state
        if state is ConnectionState.CONNECTING:
            assert self._login is not None
            self._login.last_cause = cause
            if verdict:
                self._login_refused(cause)
                return
        elif state is ConnectionState.CONNECTED and not self._interrupted:
            self._interrupted = True
            self._timers.set(ClientTimer.GRACE, self._now + self._config.interruption_grace_seconds)
        if verdict:
            self._problems.setdefault(cause.code, str(cause))
            self._tell_problems()
        if retry_after is not None:
            delay = min(max(retry_after, 0.0), self._config.retry_after_limit_seconds)
        elif verdict and state is ConnectionState.RECONNECTING:
            delay = self._backoff.capped_delay()
        else:
            delay = self._backoff.next_delay(in_grace=state is ConnectionState.CONNECTED)
        self._timers.set(ClientTimer.RETRY, self._now + delay)

    def _on_grace_over(self) -> None:
        self._switch(Trigger.INTERRUPTED)
        self._entered_reconnecting()

    def _entered_reconnecting(self) -> None:
        self._timers.clear(ClientTimer.GRACE)
        self._interrupted = True
        self._tell_problems()
        self._tell_token_expired()

    def _tell_problems(self) -> None:
        """Once per code and outage, and only where the app can see an outage (S20)."""
        if self.state is not ConnectionState.RECONNECTING:
            return
        for code, message in self._problems.items():
            if code not in self._problems_told:
                self._problems_told.add(code)
                self._outputs.append(ReconnectProblem(code=code, message=message))

    # --------------------------------------------------------------------------------------------------- login

    def _fail_login(self, error: LoginFailed) -> None:
        assert self._login is not None
        self._login.pending = False
        self._err(self._login.request_id, error)

    def _login_refused(self, cause: RtmError) -> None:
        """A verdict while CONNECTING: DISCONNECTED, with the cause (S6)."""
        assert self._login is not None
        error = LoginFailed(
            f"the login of {self._uid!r} failed: {cause}", code=cause.code, attempts=self._login.attempts
        )
        error.__cause__ = cause
        self._reset_session_state()
        self._switch(Trigger.LOGIN_REFUSED, cause.code, str(cause))
        self._fail_login(error)

    def _on_login_timeout(self) -> None:
        login = self._login
        assert login is not None
        if self._link is not None:
            self._drop_link("abort")
            self._link = None
        cause = login.last_cause
        error = LoginTimeout(
            f"no login of {self._uid!r} within {self._config.login_timeout_seconds} s ({login.attempts} attempts; "
            f"{'the server did not answer' if cause is None else f'last: {cause}'}); "
            "check the URL and that the server runs",
            attempts=login.attempts,
            last_cause=None if cause is None else cause.code,
        )
        error.__cause__ = cause
        self._reset_session_state()
        self._switch(Trigger.LOGIN_TIMED_OUT, error.last_cause, None if cause is None else str(cause))
        self._fail_login(error)

    def _on_opened(self, link: ClientLink) -> None:
        """The WebSocket is open: log in, with all that is wanted right behind (S59). The token is read at this moment
        (F-53)."""
        login, session = self._login, self._session
        assert login is not None
        link.phase = LinkPhase.LOGIN
        link.token_serial = self._token.serial
        message = Login(
            uid=self._uid,
            token=self._token.value or "",
            instance_id=self._instance_id,
            login_id=login.login_id,
            attempt=link.attempt,
            session_id=None if session is None else session.session_id,
            login_epoch=None if session is None else session.login_epoch,
            attach=None if session is None else session.attach,
        )
        link.post(message)
        want = self._state_wishes()
        self._late_want = None
        if len(encode_in_pieces([message, want], LOGIN_BYTES)) == 1:
            link.post(want)
            self._transmit_outbox(link)
        else:
            self._transmit_outbox(link)
            self._late_want = want

    def _state_wishes(self) -> Want:
        self._named = frozenset(self._readers) | frozenset(self._joining)
        wanted = [WantedChannel(name, reader.epoch, reader.cursor) for name, reader in self._readers.items()]
        wanted += [WantedChannel(name) for name in self._joining]
        return Want(tuple(wanted))

    def _on_login_refused(self, link: ClientLink, refusal: LoginRefused) -> None:
        if link.phase is not LinkPhase.LOGIN:
            self._violation(link, "a refusal of a login that was not asked for")
            return
        self._drop_link("flush")
        self._refused(link, refusal.code, refusal.message, refusal.retry_after)

    def _refused(self, link: ClientLink, code: int, message: str, retry_after: float | None) -> None:
        """What the range of the code asks for (S6, S20, S41)."""
        kind = code_kind(code)
        name = code_name(code)
        cause = RtmError(message or name, code=name)
        connecting = self.state is ConnectionState.CONNECTING
        token_over = code == Code.TOKEN_EXPIRED or (
            code == Code.TOKEN_EXPIRY_ENFORCED and self.state is ConnectionState.RECONNECTING
        )
        if kind is CodeKind.TERMINAL and not connecting and not token_over:
            self._abort(_KICK_TRIGGERS.get(code, Trigger.ENDED_BY_SERVER), name, message)  # type: ignore[call-overload]
            return
        verdict = kind is CodeKind.VERDICT or kind is CodeKind.TERMINAL
        if verdict and link.token_serial != self._token.serial and not connecting:
            # The refusal of an older token never condemns a newer one (S27): try that one at once.
            self._link_ended(cause, verdict=False, retry_after=0.0)
            return
        if token_over and not connecting:
            self._token.refused_as_expired()
            self._link_ended(
                cause,
                verdict=not self._token.from_provider,
                retry_after=0.0 if self._token.from_provider else retry_after,
            )
            self._tell_token_expired()
            return
        self._link_ended(cause, verdict=verdict, retry_after=retry_after)

    def _on_welcome(self, link: ClientLink, welcome: Welcome) -> None:
        if link.phase is not LinkPhase.LOGIN or not _sensible(welcome.limits) or not self._expected(welcome):
            self._violation(link, "a welcome that does not fit")
            return
        previous = self._session
        same = previous is not None and previous.session_id == welcome.session_id and welcome.resumed
        self._session = _Session(welcome, self._now)
        if previous is not None and same:
            self._session.bucket = previous.bucket
        limits = welcome.limits
        self._requests.lower_limit(limits.max_unanswered)
        link.phase = LinkPhase.RESTORING
        link.liveness = self._new_liveness(limits)
        self._timers.clear(ClientTimer.ATTEMPT)
        self._timers.set(ClientTimer.RESTORE, self._now + self._config.restore_timeout_seconds)
        self._timers.set(ClientTimer.LIVENESS, link.liveness.next_deadline())
        self._token_accepted(welcome.expires_in, link.token_serial)
        self._progress_told = None
        if self.state is ConnectionState.CONNECTING:
            assert self._login is not None
            self._timers.clear(ClientTimer.LOGIN)
            self._login.pending = False
            self._switch(Trigger.LOGIN_ACCEPTED)
            self._complete(self._login.request_id, None)
        elif not same:
            if self.state is ConnectionState.CONNECTED:  # CONNECTED never hides the loss of a session (S17)
                self._switch(Trigger.INTERRUPTED, "session_gone", "the server no longer has the session")
                self._entered_reconnecting()
            self._session_gone()
        self._to_transmit = deque(
            request.number for request in self._requests if not isinstance(request.message, Leave)
        )
        if self._late_want is not None:
            link.post(self._late_want)
            self._late_want = None
        self._progress_changed()

    def _expected(self, welcome: Welcome) -> bool:
        return len(welcome.session_id) == 16 and welcome.attach > 0

    def _new_liveness(self, limits: Limits) -> Liveness:
        # The server's figures win (S15): what we send is never slower than a third of its patience.
        return Liveness(
            interval_seconds=limits.heartbeat_interval,
            max_quiet_seconds=min(
                self._config.max_quiet_seconds, max(limits.silence_timeout / 3, limits.heartbeat_interval)
            ),
            answer_seconds=self._config.heartbeat_answer_seconds,
            grace_seconds=self._config.interruption_grace_seconds,
            limit_seconds=self._config.heartbeat_limit_seconds,
            now=self._now,
        )

    def _session_gone(self) -> None:
        """A new session took the old one's place: what of the open requests can still be asked for (S25, S34)."""
        for request in self._requests:
            if isinstance(request.message, Leave):
                self._requests.remove(request.number)
                if not request.abandoned:
                    self._complete(request.number, None)
            elif isinstance(request.message, (PublishText, PublishBytes)) and request.transmitted:
                self._requests.remove(request.number)
                self._err(
                    request.number,
                    RequestAbandoned(
                        "the session could not be resumed before the answer came; "
                        "the message may or may not have been sent",
                        code="session_lost",
                        outcome=Outcome.UNKNOWN,
                    ),
                )
        self._arm_request_timer()

    def _on_restored(self, link: ClientLink, restored: Restored) -> None:
        if link.phase is not LinkPhase.RESTORING or len(self._results) + len(restored.channels) > len(self._named):
            self._violation(link, "an answer to wishes that were not stated")
            return
        self._results.extend(restored.channels)
        if restored.more:
            return
        results, self._results = self._results, []
        link.phase = LinkPhase.UP
        link.up_since = self._now
        self._interrupted = False
        self._problems.clear()
        self._problems_told.clear()
        self._timers.clear(ClientTimer.RESTORE, ClientTimer.GRACE)
        if self.state is ConnectionState.RECONNECTING:
            self._switch(Trigger.RESTORED)
        for result in results:
            if result.code and self._readers.pop(result.channel, None) is not None:
                self._outputs.append(
                    ChannelLost(channel=result.channel, code=code_name(result.code), message=result.message)
                )
        self._answer_leaves()
        self._transmit_requests()

    def _answer_leaves(self) -> None:
        """The statement left the channels that it did not name (S59); a leave whose channel it named is still to be
        asked for."""
        for request in self._requests:
            if isinstance(request.message, Leave) and not self._link_has_sent(request):
                if request.message.channel in self._named:
                    self._to_transmit.append(request.number)
                else:
                    self._requests.remove(request.number)
                    if not request.abandoned:
                        self._complete(request.number, None)
        self._to_transmit = deque(sorted(self._to_transmit))
        self._arm_request_timer()

    def _link_has_sent(self, request: OpenRequest) -> bool:
        return request.transmitted_on == self._last_transport_id

    # ----------------------------------------------------------------------------------------- ends by the server

    def _on_kicked(self, link: ClientLink, kicked: Kicked) -> None:
        if not link.welcomed:
            self._violation(link, "a kick before a welcome")
            return
        self._drop_link("flush")
        self._refused(link, kicked.code, kicked.message, None)

    def _abort(self, trigger: Trigger, code: str, message: str) -> None:
        """The session is over for good (S8); the transport is closed already."""
        self._link = None
        self._reset_session_state()
        self._switch(trigger, code, message)
        self._fail_requests(code, f"the server ended the session: {message or code}")

    def _reset_session_state(self) -> None:
        """Nothing is waited for any more; the session's channels are gone. The open requests are the caller's to
        end."""
        self._timers.clear_all()
        self._stop_asking()
        self._readers.clear()
        self._joining.clear()
        self._results.clear()
        self._to_transmit.clear()
        self._interrupted = False
        self._session = None

    def _fail_requests(self, code: str, why: str) -> None:
        for request in self._requests:
            self._requests.remove(request.number)
            if not request.abandoned:
                self._err(request.number, _abandoned(request, code, why))

    def _end_closing(self) -> None:
        if self._closing is not None:
            link, request_id = self._closing
            self._closing = None
            self._timers.clear(ClientTimer.LOGOUT)
            self._close(link, "abort")
            self._complete(request_id, None)

    def _finish_logout(self) -> None:
        assert self._closing is not None
        link, request_id = self._closing
        self._closing = None
        self._timers.clear(ClientTimer.LOGOUT)
        self._close(link, "flush")
        self._complete(request_id, None)

    # ---------------------------------------------------------------------------------------- bytes and messages

    def _take_wire_events(self, link: ClientLink, events: list[Any]) -> None:
        self._transmit_wire(link)
        for event in events:
            if type(event) is bytes:
                self._take_batch(link, event)
            else:
                self._on_wire_event(link, event)
            if link is not self._link:
                if self._closing is not None and link is self._closing[0]:
                    continue
                return

    def _take_batch(self, link: ClientLink, payload: bytes) -> None:
        try:
            messages, skipped = _decoder.decode(payload)
        except MalformedBatch as fault:
            self._violation(link, str(fault))
            return
        self.unknown_messages += skipped
        if self._closing is not None and link is self._closing[0]:
            if any(type(message) is Done and message.number == self._closing[1] for message in messages):
                self._finish_logout()
            return
        if not messages:
            if link.liveness is None:
                self._violation(link, "a heartbeat before the welcome")
            else:
                link.liveness.answered()
            return
        for message in messages:
            self._on_message[type(message)](link, message)
            if link is not self._link:
                return

    def _on_wire_event(self, link: ClientLink, event: Any) -> None:
        if self._closing is not None and link is self._closing[0]:
            if type(event) is Closed:
                self._finish_logout()
            return
        if type(event) is Opened:
            self._on_opened(link)
        elif type(event) is Rejected:
            self._drop_link("abort")
            self._link_ended(_rejection(event), retry_after=_retry_after(event))
        elif type(event) is HandshakeFailed:
            self._drop_link("abort")
            self._link_ended(TransportFailure(event.reason, code=_HANDSHAKE_CODES.get(event.code, "not_a_websocket")))
        elif type(event) is Closed:
            self._drop_link("flush")
            if event.by_peer and link.phase is not LinkPhase.HANDSHAKE and code_kind(event.code) is not None:
                self._refused(link, event.code, event.reason, None)
            else:
                code = "connection_lost" if event.by_peer else "protocol_error"
                self._link_ended(
                    TransportFailure(f"the connection was closed with code {event.code}: {event.reason}", code=code)
                )
        else:  # a text message: this subprotocol has none
            self._violation(link, "a text message in a binary subprotocol", close_code=1003)

    def _violation(self, link: ClientLink, what: str, *, close_code: int = 1002) -> None:
        """The server broke the protocol: close with the right code; a loud loss (S50)."""
        if link is not self._link:
            self._finish_logout()
            return
        link.wire.close(close_code, what[:100])
        self._drop_link("flush")
        self._link_ended(TransportFailure(f"the server broke the protocol: {what}", code="protocol_error"))

    def _transmit_wire(self, link: ClientLink) -> None:
        data = link.wire.data_to_send()
        if data:
            self._outputs.append(Transmit(transport_id=link.transport_id, data=data))

    def _transmit_outbox(self, link: ClientLink) -> None:
        welcomed = link.welcomed and self._session is not None
        if welcomed:
            progress = self._progress()
            if progress != self._progress_told:
                self._progress_told = progress
                link.post_first(Progress(*progress))
            self._timers.clear(ClientTimer.PROGRESS)
        data = link.drain(self._limits().max_frame_bytes if welcomed else LOGIN_BYTES, self._now)
        self._outputs.append(Transmit(transport_id=link.transport_id, data=data))

    def _progress(self) -> tuple[int, int]:
        assert self._session is not None
        return self._session.attach, self._requests.lowest(self._last_request_id + 1)

    def _post_progress(self) -> None:
        link = self._link
        if link is not None and link.welcomed and self._progress() != self._progress_told:
            self._progress_told = self._progress()
            link.post(Progress(*self._progress_told))

    def _progress_changed(self) -> None:
        if self._timers.get(ClientTimer.PROGRESS) is None:
            self._timers.set(ClientTimer.PROGRESS, self._now + self._config.progress_delay_seconds)

    # ------------------------------------------------------------------------------------------------ heartbeat

    def _send_heartbeat(self, link: ClientLink) -> None:
        assert link.liveness is not None
        if link.has_outbox:
            self._transmit_outbox(link)
        self._outputs.append(Transmit(transport_id=link.transport_id, data=link.heartbeat(self._now)))
        self._timers.set(ClientTimer.LIVENESS, link.liveness.next_deadline())

    def _on_liveness(self) -> None:
        link = self._link
        assert link is not None
        assert link.liveness is not None
        health = link.liveness.check(self._now)
        if health is LinkHealth.HEARTBEAT_DUE:
            self._send_heartbeat(link)
        elif health is LinkHealth.GOOD:
            self._timers.set(ClientTimer.LIVENESS, link.liveness.next_deadline())
        else:
            self._link_silent(link)

    def _link_silent(self, link: ClientLink) -> None:
        """The interruption began with the last byte; the grace time is over with it (S11)."""
        self._drop_link("abort")
        if self.state is ConnectionState.CONNECTED:
            self._switch(Trigger.INTERRUPTED)
            self._entered_reconnecting()
        self._link_ended(TransportFailure("the link is dead: a heartbeat was not answered", code="connection_lost"))

    # ------------------------------------------------------------------------------------------------- requests

    def _open_request(self, message: OpenMessage, timeout_seconds: float | None) -> int:
        timeout = self._config.request_timeout_seconds if timeout_seconds is None else timeout_seconds
        request = OpenRequest(message, self._now + timeout)
        self._requests.add(request)
        self._arm_request_timer()
        self._to_transmit.append(request.number)
        self._transmit_requests()
        return request.number

    def _transmit_requests(self) -> None:
        """Send what waits, in the order of the numbers, as fast as the server's rate allows (S45, S46)."""
        link, session = self._link, self._session
        if link is None or session is None or link.phase is not LinkPhase.UP:
            return
        while self._to_transmit:
            request = self._requests.get(self._to_transmit[0])
            if request is not None:
                if not session.bucket.try_take(self._now):
                    self._timers.set(ClientTimer.PACE, session.bucket.ready_at())
                    return
                request.transmitted = True
                request.transmitted_on = link.transport_id
                link.post(request.message)
            self._to_transmit.popleft()

    def _answered(self, number: int) -> OpenRequest | None:
        request = self._requests.remove(number)
        if request is not None:
            self._progress_changed()
        return request

    def _arm_request_timer(self) -> None:
        deadline = self._requests.next_deadline()
        if deadline is None:
            self._timers.clear(ClientTimer.REQUEST)
        else:
            self._timers.set(ClientTimer.REQUEST, deadline)

    def _on_request_timeout(self) -> None:
        while (request := self._requests.pop_overdue(self._now)) is not None:
            outcome = Outcome.UNKNOWN if request.transmitted else Outcome.NOT_SENT
            said = "the server may have carried it out" if request.transmitted else "it was not sent"
            self._err(request.number, RequestTimeout(f"no answer within the timeout; {said}", outcome=outcome))
            self._undo(request)
        self._arm_request_timer()

    def _undo(self, request: OpenRequest) -> None:
        """Nobody waits for this request any more. A join that may have happened is taken back."""
        self._progress_changed()
        message = request.message
        if isinstance(message, Join) and self._joining.get(message.channel, (0, False))[0] == request.number:
            del self._joining[message.channel]
            if request.transmitted:
                self._abandon(self._open_request(Leave(self._next_request_id(), message.channel), None))

    def _abandon(self, number: int) -> None:
        request = self._requests.get(number)
        if request is not None:
            request.abandoned = True
            self._arm_request_timer()

    def _on_done(self, link: ClientLink, done: Done) -> None:
        request = self._answered(done.number)
        if request is not None and not request.abandoned:
            self._complete(done.number, None)

    def _on_sent(self, link: ClientLink, sent: Sent) -> None:
        if self._answered(sent.number) is not None:
            self._complete(sent.number, SendReceipt(offset=sent.offset, epoch=sent.epoch, sent_at=sent.sent_at / 1000))

    def _on_joined(self, link: ClientLink, joined: Joined) -> None:
        request = self._answered(joined.number)
        if request is None or not isinstance(request.message, Join):
            return
        channel = request.message.channel
        _, echo = self._joining.pop(channel)
        reader = ChannelReader(
            channel, echo=echo, max_events=self._config.max_queued_events, max_bytes=self._config.max_queued_bytes
        )
        reader.start(joined.epoch, joined.offset)
        self._readers[channel] = reader
        self._complete(
            joined.number,
            JoinReceipt(
                channel=channel,
                offset=joined.offset,
                epoch=joined.epoch,
                member_count=joined.member_count,
                members=joined.members,
            ),
        )

    def _on_renewed(self, link: ClientLink, renewed: Renewed) -> None:
        request = self._answered(renewed.number)
        if request is None or not isinstance(request.message, RenewToken):
            return
        if request.message.token == self._token.value:
            self._token_accepted(renewed.expires_in, self._token.serial)
        if self._renewal is not None and self._renewal[0] == renewed.number:
            self._renewal = None
        if not request.abandoned:
            self._complete(renewed.number, TokenReceipt(expires_in=renewed.expires_in))

    def _on_failed(self, link: ClientLink, failed: Failed) -> None:
        request = self._answered(failed.number)
        if request is None:
            return
        name = code_name(failed.code)
        if isinstance(request.message, Join):
            self._joining.pop(request.message.channel, None)
        elif isinstance(request.message, RenewToken):
            self._take_back_renewal(failed.number)
        if not request.abandoned:
            error = RequestRefused(
                f"the server refused the request: {failed.message or name}",
                code=name,
                outcome=Outcome.REFUSED,
                retry_after_seconds=failed.retry_after,
            )
            self._err(failed.number, error)

    # ----------------------------------------------------------------------------------------------------- logs

    def _on_entries(self, link: ClientLink, block: Entries) -> None:
        reader = self._readers.get(block.log)
        if reader is not None:
            wish = reader.take_entries(block, self._uid, self._outputs)
            if wish is not Wish.NOTHING:
                self._follow(reader, wish)

    def _on_gap(self, link: ClientLink, gap: Gap) -> None:
        if gap.cursor < 0 or (gap.count is not None and gap.count < 0):
            self._violation(link, "a gap with a negative figure")
            return
        reader = self._readers.get(gap.log)
        if reader is not None:
            reader.take_gap(gap, self._outputs)

    def _on_going(self, link: ClientLink, going: Going) -> None:
        reader = self._readers.get(going.log)
        if reader is not None:
            reader.going()

    def _follow(self, reader: ChannelReader, wish: Wish) -> None:
        link = self._link
        if wish is Wish.NOTHING or link is None or not link.welcomed:
            return
        if wish is Wish.FAIL:
            self._violation(link, wish.value)
        elif wish is Wish.HOLD:
            link.post(Hold(reader.name))
        elif reader.epoch is not None:
            link.post(GoOn(reader.name, reader.epoch, reader.cursor))

    # ---------------------------------------------------------------------------------------------------- token

    def _token_accepted(self, expires_in: float | None, serial: int) -> None:
        if serial != self._token.serial:
            return
        self._token.accepted(expires_in, self._now)
        self._arm_token_timers()

    def _arm_token_timers(self) -> None:
        self._forget_token_timers()
        if self._token.expires_at is not None:
            self._timers.set(ClientTimer.TOKEN_WARNING, self._token.expires_at - self._config.token_warning_seconds)
            self._timers.set(ClientTimer.TOKEN_END, self._token.expires_at)

    def _take_back_renewal(self, number: int) -> None:
        """The new token is no good: the old one stays in force for as long as it lasts (S28)."""
        if self._renewal is not None and self._renewal[0] == number:
            self._token = self._renewal[1]
            self._arm_token_timers()

    def _forget_token_timers(self) -> None:
        self._timers.clear(ClientTimer.TOKEN_WARNING, ClientTimer.TOKEN_END)

    def _on_token_warning(self) -> None:
        assert self._token.expires_at is not None
        if not self._token.tell_warning_once():
            return
        if self._token.from_provider:
            self._ask_token(to_renew=True)
        else:
            self._outputs.append(TokenWillExpire(expires_in=max(0.0, self._token.expires_at - self._now)))

    def _tell_token_expired(self) -> None:
        if (
            self.state is ConnectionState.RECONNECTING
            and not self._token.from_provider
            and self._token.tell_expired_once(self._now)
        ):
            self._outputs.append(TokenExpired())

    def _ask_token(self, *, to_renew: bool) -> None:
        if self._asking is not None:
            return
        self._last_ask_id += 1
        self._asking = self._last_ask_id
        self._asking_to_renew = to_renew
        self._timers.set(ClientTimer.TOKEN_PROVIDER, self._now + self._config.token_provider_timeout_seconds)
        self._outputs.append(AskToken(ask_id=self._asking))

    def _stop_asking(self) -> None:
        self._asking = None
        self._timers.clear(ClientTimer.TOKEN_PROVIDER)

    def _on_provider_timeout(self) -> None:
        self._provider_failed(
            f"the token provider took longer than {self._config.token_provider_timeout_seconds} s", None
        )

    def _provider_failed(self, why: str, cause: BaseException | None) -> None:
        renewing = self._asking_to_renew
        self._stop_asking()
        error = RtmError(f"{why}; the attempts go on", code="token_provider_failed")
        error.__cause__ = cause
        self._problems.setdefault(error.code, str(error))
        self._tell_problems()
        if not renewing or self._link is None:
            self._attempt_failed(error, verdict=False)


def _is_verdict(code: str) -> bool:
    if code.startswith("http_"):
        status = int(code.removeprefix("http_"))
        return status < 500 and status not in _PASSING_HTTP
    return code in _VERDICT_FAILURES


def _rejection(rejected: Rejected) -> TransportFailure:
    body = rejected.body.decode("utf-8", "replace").strip()
    text = "".join(letter if letter.isprintable() else " " for letter in body)[:_SHOWN_BODY]
    return TransportFailure(f"{rejected.reason}{f' ({text})' if text else ''}", code=f"http_{rejected.status_code}")


def _retry_after(rejected: Rejected) -> float | None:
    """The Retry-After of an HTTP answer, if it is a number of seconds (RFC 9110, section 10.2.3)."""
    for name, value in rejected.headers:
        if name == "retry-after" and value.isascii() and value.isdigit() and len(value) <= 6:
            return float(value)
    return None


def _sensible(limits: Limits) -> bool:
    """Whether a server's limits are figures that can be followed."""
    durations = (limits.heartbeat_interval, limits.silence_timeout, limits.presence_grace)
    counts = (
        limits.max_name_length,
        limits.max_message_bytes,
        limits.max_request_bytes,
        limits.max_channels,
        limits.max_unanswered,
        limits.requests_per_second,
        limits.request_burst,
    )
    return (
        all(0 < duration < float("inf") for duration in durations)
        and all(count >= 1 for count in counts)
        and limits.heartbeat_interval < limits.silence_timeout
        and limits.max_frame_bytes >= LOGIN_BYTES
    )


def _abandoned(request: OpenRequest, code: str, why: str) -> RequestFailed:
    if request.transmitted:
        return RequestAbandoned(
            f"{why}; the server may have carried the request out", code=code, outcome=Outcome.UNKNOWN
        )
    return RequestAbandoned(f"{why}; the request was not sent", code=code, outcome=Outcome.NOT_SENT)
