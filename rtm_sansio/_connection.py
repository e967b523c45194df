"""The connection part of a client: its state, the ``login`` call, the attempts, and what each end of a link means
(S1-S8, S11, S12, S17-S21, S27)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from ._channels import Channels
from ._context import ClientTimer, Context
from ._conversation import Conversation
from ._encodings import BY_NAME
from ._farewell import Farewell
from ._link import ClientLink, LinkPhase, ProtocolViolation
from ._liveness import LinkHealth, Liveness
from ._outage import Outage
from ._session import Session, fits
from ._token_part import TokenPart
from ._verdicts import PROVIDER_FAILED, TOKEN_CODES, advice, is_verdict, trigger_of
from .codes import Code, CodeKind, code_kind, code_name
from .effects import Endpoint, OpenTransport
from .errors import ConfigError, LoginFailed, LoginTimeout, RtmError, TransportFailure
from .events import ConnectionStateChanged
from .messages import (
    Kicked,
    Limits,
    Login,
    LoginRefused,
    Logout,
    RenewToken,
    Restored,
    Welcome,
)
from .states import ConnectionMachine, ConnectionState, Trigger

_ID_BYTES = 16


class _LoginCall:
    """The ``login`` call: its identity for all attempts (S18), and how it will end (S3)."""

    __slots__ = ("attempts", "last_cause", "login_id", "pending", "request_id")

    def __init__(self, request_id: int, login_id: bytes) -> None:
        self.request_id = request_id
        self.login_id = login_id
        self.pending = True
        self.attempts = 0
        self.last_cause: RtmError | None = None


class Connection:
    """Owns the state and the one link. It tells the other parts when a link is welcomed, restored and gone."""

    def __init__(
        self,
        context: Context,
        *,
        endpoints: Sequence[Endpoint],
        rng: random.Random,
        entropy: Callable[[int], bytes],
        token: TokenPart,
        channels: Channels,
        conversation: Conversation,
    ) -> None:
        if not endpoints:
            raise ConfigError("a client needs at least one endpoint")
        self._context = context
        self._endpoints = tuple(endpoints)
        self._entropy = entropy
        self._token = token
        self._channels = channels
        self._conversation = conversation
        self._outage = Outage(context, rng)
        self._machine = ConnectionMachine()
        self._instance_id = entropy(_ID_BYTES)
        self._last_transport_id = 0
        self._login_call = _LoginCall(0, b"")
        self._login_call.pending = False
        self._session: Session | None = None
        self.uid = ""
        self.link: ClientLink | None = None
        """The one transport, from the wish to open it; None between two attempts."""
        self.farewell = Farewell(context)

    @property
    def state(self) -> ConnectionState:
        """The public state."""
        return self._machine.state

    @property
    def attempts(self) -> int:
        """How many attempts the present login has made."""
        return self._login_call.attempts

    def _switch(self, trigger: Trigger, code: str | None = None, message: str | None = None) -> None:
        previous, state, reason = self._machine.fire(trigger)
        self._context.outputs.append(
            ConnectionStateChanged(state=state, reason=reason, previous=previous, code=code, message=message)
        )

    # ------------------------------------------------------------------------------------------ login and logout

    def login(self, uid: str) -> int:
        """A ``login`` call, in DISCONNECTED; the token part has its token."""
        context = self._context
        self.farewell.end("abort")
        self.uid = self._channels.own_uid = uid
        self._login_call = _LoginCall(context.next_request_id(), self._entropy(_ID_BYTES))
        self._outage.begin_login()
        self._switch(Trigger.LOGIN_CALLED)
        context.arm(ClientTimer.LOGIN, context.config.login_timeout_seconds)
        self.attempt()
        return self._login_call.request_id

    def cancel(self, request_id: int) -> None:
        """Nobody waits any more for a ``login``, which is then a logout (S3), or for a ``logout``, which goes on."""
        call = self._login_call
        if call.pending and call.request_id == request_id:
            call.pending = False
            self._depart(self._context.next_request_id())
        self.farewell.cancel(request_id)

    def logout(self) -> int:
        """A ``logout`` call, in any state but DISCONNECTED (S7)."""
        request_id = self._context.next_request_id()
        if not self._depart(request_id):
            self._context.complete(request_id, None)
        return request_id

    def _depart(self, request_id: int) -> bool:
        """DISCONNECTED at once. Whether the server is still to confirm the request."""
        self._conversation.confirm_before(request_id)
        link = self._leave_session()
        self._switch(Trigger.LOGOUT_CALLED)
        call = self._login_call
        if call.pending:
            self._fail_login(LoginFailed("a logout ended the login", code="logged_out", attempts=call.attempts))
        self._conversation.finish("logged_out", "the client has logged out")
        if link is None:
            return False
        if link.phase is LinkPhase.OPENING or link.phase is LinkPhase.HANDSHAKE:
            link.close("abort")
            return False
        link.post(Logout(request_id))
        link.transmit_outbox(self._context.now)
        if link.welcomed:
            self.farewell.begin(link, request_id)
            return True
        link.close("flush")  # the login may just be accepted: the server finds the logout right behind it
        return False

    def _leave_session(self) -> ClientLink | None:
        """Nothing is waited for any more; the link, if there is one, is the caller's to close. The open requests end
        behind the switch of the state."""
        link, self.link = self.link, None
        self._session = None
        self._context.timers.clear_all()
        self._token.stop_asking()
        self._outage.over()
        return link

    def _fail_login(self, error: LoginFailed) -> None:
        self._login_call.pending = False
        self._context.err(self._login_call.request_id, error)

    def _login_refused(self, cause: RtmError) -> None:
        """A verdict while CONNECTING (S6); the link is over."""
        attempts = self._login_call.attempts
        error = LoginFailed(f"the login of {self.uid!r} failed: {cause}", code=cause.code, attempts=attempts)
        error.__cause__ = cause
        self._leave_session()
        self._switch(Trigger.LOGIN_REFUSED, cause.code, str(cause))
        self._fail_login(error)

    def on_login_timeout(self) -> None:
        """The time of the ``login`` call is over (S5)."""
        call = self._login_call
        cause = call.last_cause
        error = LoginTimeout(
            f"no login of {self.uid!r} within {self._context.config.login_timeout_seconds:g} s "
            f"({call.attempts} attempts; {'the server did not answer' if cause is None else f'last: {cause}'}); "
            f"{advice(cause, secure=all(endpoint.secure for endpoint in self._endpoints))}",
            attempts=call.attempts,
            last_cause=None if cause is None else cause.code,
        )
        error.__cause__ = cause
        link = self._leave_session()
        if link is not None:
            link.close("abort")
        self._switch(Trigger.LOGIN_TIMED_OUT, error.last_cause, None if cause is None else str(cause))
        self._fail_login(error)

    # -------------------------------------------------------------------------------------------------- attempts

    def attempt(self) -> None:
        """Make an attempt now, unless the token has to be asked for first."""
        context, call = self._context, self._login_call
        context.timers.clear(ClientTimer.RETRY)
        if not self._token.ready():
            return
        self._last_transport_id += 1
        number = call.attempts
        call.attempts += 1
        endpoint = self._endpoints[number % len(self._endpoints)]
        self.link = ClientLink(
            self._last_transport_id,
            endpoint,
            number,
            encoding=BY_NAME[context.config.encoding],
            max_bytes=context.config.max_message_bytes,
            entropy=self._entropy,
            outputs=context.outputs,
        )
        context.arm(ClientTimer.ATTEMPT, context.config.attempt_timeout_seconds)
        context.outputs.append(OpenTransport(transport_id=self._last_transport_id, endpoint=endpoint, attempt=number))

    def retry_now(self) -> None:
        """Probe the link, or make an attempt at once; one that is under way may hang on the old network (S16)."""
        link = self.link
        if link is None:
            self.attempt()
        elif link.liveness is None:
            link.close("abort")
            self._forget_link()
            self.attempt()
        elif not link.liveness.probing:
            self._send_heartbeat(link, link.liveness)

    def on_attempt_timeout(self) -> None:
        """No welcome in time (S21)."""
        seconds = self._context.config.attempt_timeout_seconds
        phase = LinkPhase.OPENING if self.link is None else self.link.phase
        self._give_up(TransportFailure(f"{phase.value} within {seconds:g} s", code="attempt_timeout"))

    def on_restore_timeout(self) -> None:
        """No answer to the statement in time (S59)."""
        seconds = self._context.config.restore_timeout_seconds
        why = f"the session was not restored within {seconds} s of the welcome"
        self._give_up(TransportFailure(why, code="restore_timeout"))

    def _give_up(self, cause: TransportFailure) -> None:
        assert self.link is not None
        self.link.close("abort")
        self.link_ended(cause)

    def violation(self, what: str, close_code: int) -> None:
        """The server broke the protocol: close with the right code; a loud loss (S50)."""
        assert self.link is not None
        self.link.close("flush", code=close_code, reason=what[:100])
        self.link_ended(TransportFailure(f"the server broke the protocol: {what}", code="protocol_error"))

    def _forget_link(self) -> ClientLink:
        link, self.link = self.link, None
        assert link is not None
        self._context.timers.clear(ClientTimer.ATTEMPT, ClientTimer.RESTORE, ClientTimer.LIVENESS)
        self._conversation.link_gone()
        return link

    def link_ended(
        self,
        cause: RtmError,
        *,
        verdict: bool | None = None,
        retry_after: float | None = None,
        at_once: bool = False,
    ) -> None:
        """The link is over and its transport closed, whoever did it: what follows from that in each state (S6, S12,
        S20, S21)."""
        link = self._forget_link()
        if link.up_since is not None:
            self._outage.link_lived(self._context.now - link.up_since)
        verdict = is_verdict(cause.code) if verdict is None else verdict
        if self.state is ConnectionState.CONNECTING:
            self._login_call.last_cause = cause
            if verdict:
                self._login_refused(cause)
                return
        self._outage.attempt_failed(cause, self.state, verdict=verdict, retry_after=retry_after, at_once=at_once)

    def enter_reconnecting(self, code: str | None = None, message: str | None = None) -> None:
        """The interruption is beyond the grace time, or the session gone (S11, S12, S17)."""
        self._switch(Trigger.INTERRUPTED, code, message)
        self._outage.entered_reconnecting()
        self._token.tell_expired()

    # ------------------------------------------------------------------------------------------------- heartbeat

    def _send_heartbeat(self, link: ClientLink, liveness: Liveness) -> None:
        link.transmit_heartbeat(liveness, self._context.now)
        self._context.timers.set(ClientTimer.LIVENESS, liveness.next_deadline())

    def on_liveness(self) -> None:
        """The link's clocks: a heartbeat is due, or the link is dead (S10, S11)."""
        link = self.link
        assert link is not None
        assert link.liveness is not None
        health = link.liveness.check(self._context.now)
        if health is LinkHealth.HEARTBEAT_DUE:
            self._send_heartbeat(link, link.liveness)
        elif health is LinkHealth.GOOD:
            self._context.timers.set(ClientTimer.LIVENESS, link.liveness.next_deadline())
        else:
            link.close("abort")
            if health is LinkHealth.SILENT and self.state is ConnectionState.CONNECTED:
                self.enter_reconnecting()  # the interruption began with the last byte: the grace time is over too
            self.link_ended(TransportFailure(f"the link is dead: {health.value}", code="connection_lost"))

    # --------------------------------------------------------------------------------------------- login exchange

    def on_opened(self) -> None:
        """The WebSocket is open: log in, with all that is wanted right behind (S59). The token is read at this moment
        (F-53)."""
        link, session = self.link, self._session
        assert link is not None
        token = self._token.current
        link.phase = LinkPhase.LOGIN
        link.token_serial = token.serial
        message = Login(
            uid=self.uid,
            token=token.value or "",
            instance_id=self._instance_id,
            login_id=self._login_call.login_id,
            attempt=link.attempt,
            session_id=None if session is None else session.session_id,
            login_epoch=None if session is None else session.login_epoch,
            attach=None if session is None else session.attach,
        )
        conversation = self._conversation
        want = self._channels.statement(conversation.own_attributes.wanted, conversation.status_watch.wanted)
        link.post(message)
        if len(link.encoding.encode_in_pieces([message, want], link.max_frame_bytes, 0)) == 1:
            link.post(want)
        else:
            link.late_want = want
        link.transmit_outbox(self._context.now)

    def on_welcome(self, welcome: Welcome) -> None:
        """The login is accepted: the session as it was, or a new one (S17)."""
        link, context = self.link, self._context
        assert link is not None
        if not fits(welcome):
            raise ProtocolViolation("a welcome that does not fit")
        previous = self._session
        same = previous is not None and previous.session_id == welcome.session_id and welcome.resumed
        self._channels.welcomed(welcome.inbox, is_new=not same)
        self._session = Session(welcome, resumed_from=previous if same else None, now=context.now)
        link.phase = LinkPhase.RESTORING
        link.allow_frames_of(welcome.limits.max_frame_bytes)
        link.liveness = self._new_liveness(welcome.limits)
        context.timers.clear(ClientTimer.ATTEMPT)
        context.arm(ClientTimer.RESTORE, context.config.restore_timeout_seconds)
        context.timers.set(ClientTimer.LIVENESS, link.liveness.next_deadline())
        answered = self._token.login_accepted(link.token_serial, welcome.expires_in)
        if self.state is ConnectionState.CONNECTING:
            context.timers.clear(ClientTimer.LOGIN)
            self._login_call.pending = False
            self._switch(Trigger.LOGIN_ACCEPTED)
            context.complete(self._login_call.request_id, None)
        elif not same and self.state is ConnectionState.CONNECTED:  # CONNECTED never hides the loss of a session
            self.enter_reconnecting("session_gone", "the server no longer has the session")
        for number in answered:
            self._conversation.renewed_by_login(number, welcome.expires_in)
        self._conversation.welcomed(link, self._session, is_new=not same, replaced=previous is not None and not same)
        if link.late_want is not None:
            want, link.late_want = link.late_want, None
            if want.attributes is not None and len(link.encoding.encode_batch([want])) > link.max_frame_bytes:
                self._conversation.own_attributes.do_not_fit(link.max_frame_bytes)
                want = self._channels.statement(None, self._conversation.status_watch.wanted)
            link.post(want)

    def _new_liveness(self, limits: Limits) -> Liveness:
        # The server's figures win (S15): what we send is never slower than a third of its patience.
        config = self._context.config
        return Liveness(
            interval_seconds=limits.heartbeat_interval,
            max_quiet_seconds=min(config.max_quiet_seconds, max(limits.silence_timeout / 3, limits.heartbeat_interval)),
            answer_seconds=config.heartbeat_answer_seconds,
            grace_seconds=config.interruption_grace_seconds,
            limit_seconds=config.heartbeat_limit_seconds,
            now=self._context.now,
        )

    def on_restored(self, restored: Restored) -> None:
        """The statement is answered: the session is as it was wished, and the interruption over (S12, S42)."""
        link = self.link
        assert link is not None
        if not self._channels.collect(restored):
            return
        link.phase = LinkPhase.UP
        link.up_since = self._context.now
        self._context.timers.clear(ClientTimer.RESTORE)
        self._outage.over()
        if self.state is ConnectionState.RECONNECTING:
            self._switch(Trigger.RESTORED)
        self._conversation.restored(restored.attributes, restored.unwatched)

    # ---------------------------------------------------------------------------------------- the server says no

    def on_login_refused(self, refusal: LoginRefused) -> None:
        """The login is refused."""
        self.told_off(refusal.code, refusal.message, refusal.retry_after)

    def on_kicked(self, kicked: Kicked) -> None:
        """The session ended at the server's wish (S30)."""
        self.told_off(kicked.code, kicked.message, None)

    def told_off(self, code: int, message: str, retry_after: float | None) -> None:
        """A refusal, a kick, or a close frame with a code of ours: what its range asks for (S6, S20, S41)."""
        link, state = self.link, self.state
        assert link is not None
        link.close("flush")
        kind, name = code_kind(code), code_name(code)
        cause = RtmError(message or name, code=name)
        expired = code == Code.TOKEN_EXPIRED or (
            code == Code.TOKEN_EXPIRY_ENFORCED and state is ConnectionState.RECONNECTING
        )
        verdict = kind is CodeKind.VERDICT or kind is CodeKind.TERMINAL
        if state is ConnectionState.CONNECTING:
            self.link_ended(cause, verdict=verdict, retry_after=retry_after)
        elif kind is CodeKind.TERMINAL and not expired:
            self._leave_session()
            self._switch(trigger_of(code), name, message)
            self._conversation.finish(name, f"the server ended the session: {message or name}")
        elif code in TOKEN_CODES:
            self._token_refused(link.token_serial, cause, expired, retry_after)
        else:
            self.link_ended(cause, verdict=verdict, retry_after=retry_after)

    def _token_refused(self, serial: int, cause: RtmError, expired: bool, retry_after: float | None) -> None:
        """The refusal of an older token never condemns a newer one: that is tried at once. A renewed token that is
        refused gives way to the one before it (S27, S28)."""
        tokens = self._token.tokens
        quoted = tokens.current
        if quoted.serial == serial and (expired or tokens.from_provider):
            quoted.refuse()
        for number in tokens.login_refused(serial):
            self._conversation.refuse(number, cause)
        is_newer = quoted.serial != serial
        if (is_newer or (tokens.from_provider and quoted.proved)) and self._outage.may_hurry():
            self.link_ended(cause, verdict=False, at_once=True)
            return
        self.link_ended(cause, verdict=not is_newer, retry_after=retry_after)
        if self.state is ConnectionState.RECONNECTING:
            self._token.tell_expired(quoted)

    # ---------------------------------------------------------------------------------------------------- tokens

    def on_token_end(self) -> None:
        """The stated lifetime has run out; while a connection is up it does no harm (S27, S28)."""
        if self.state is ConnectionState.RECONNECTING:
            self._token.tell_expired()

    def renew_token(self, token: str) -> int:
        """The app brings a token: it is in force at once, and tried at once without a link (S27)."""
        self._token.stop_asking()
        number = self._context.next_request_id()
        self._token.replace(token, number)
        self._conversation.open(RenewToken(number, token))
        if self.link is None:
            self.attempt()
        return number

    def token_supplied(self, token: str) -> None:
        """The provider brings a token: the next login quotes it, or a session whose login has quoted an older one is
        told of it."""
        self._token.stop_asking()
        link = self.link
        if link is not None and (link.welcomed or link.phase is LinkPhase.LOGIN):
            number = self._context.next_request_id()
            self._token.replace(token, number)
            self._conversation.open(RenewToken(number, token), unseen=True)
            return
        self._token.replace(token)
        if link is None:
            self.attempt()

    def token_failed(self, why: str, cause: BaseException | None) -> None:
        """The provider raised, was too slow or gave nothing (S27, F-54)."""
        error = RtmError(why, code=PROVIDER_FAILED)
        error.__cause__ = cause
        if not self._token.stop_asking():
            # Asked before the old one's end: that one still serves.
            self._token.ask_again_later()
            if self.link is None:
                self._outage.report(error, self.state)
            return
        if self.state is ConnectionState.CONNECTING:
            self._login_call.last_cause = error
        self._outage.attempt_failed(error, self.state, verdict=False, report=True)
