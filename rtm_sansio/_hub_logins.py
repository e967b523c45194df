"""Logins and renewals: what the authenticator judges, and what follows from its verdict (S18, S19, S27, S28)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ._hub_channels import Channels
from ._hub_engine import EnginePort
from ._hub_flood import FloodGate
from ._hub_sessions import Sessions
from ._hub_transports import Transports
from ._hubparts import AttachedSession, HubContext, ServerLink, ServerPhase
from .checks import MAX_TOKEN_BYTES, is_valid_name
from .codes import Code
from .events import LoginRequested, RenewalRequested
from .messages import (
    Failed,
    InboxPlace,
    Limits,
    Login,
    LoginRefused,
    Logout,
    Renewed,
    RenewToken,
    Want,
    Welcome,
    client_decoder,
    encode_batch,
)
from .operations import Attached, AttachSession, Refusal, home_of_user

_decoder = client_decoder()
_ID_BYTES = 16
_MAX_RENEWALS = 8
_MAX_QUEUED_CALLS = 64
"""So many calls wait on a user's home only if the engine hangs: more logins would just join them."""


class Logins:
    """The login exchange of one hub. ``deliver(link, session, message)`` takes what came behind an accepted login."""

    def __init__(
        self,
        context: HubContext,
        transports: Transports,
        engine: EnginePort,
        channels: Channels,
        sessions: Sessions,
        flood_gate: FloodGate,
        deliver: Callable[[ServerLink, AttachedSession, Any], None],
    ) -> None:
        self._context = context
        self._config = config = context.config
        self._transports = transports
        self._engine = engine
        self._channels = channels
        self._sessions = sessions
        self._flood_gate = flood_gate
        self._deliver = deliver
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
            append_bytes_per_second=config.append_bytes_per_second,
            append_burst_bytes=config.append_burst_bytes,
            max_count_channels=config.max_count_channels,
            max_history_entries=config.max_history_entries,
            max_attribute_key_bytes=config.max_attribute_key_bytes,
            max_attribute_value_bytes=config.max_attribute_value_bytes,
            max_attribute_pairs=config.max_attribute_pairs,
            max_attributes=config.max_attributes,
            max_user_attribute_bytes=config.max_user_attribute_bytes,
            max_channel_attribute_bytes=config.max_channel_attribute_bytes,
        )

    # ------------------------------------------------------------------------------------------------ login

    def take(self, link: ServerLink, message: Any) -> str | None:
        """A message of a transport that serves no session yet; what is wrong with it, if it does not belong there."""
        if link.phase is ServerPhase.LOGIN and type(message) is Login:
            return self._ask(link, message)
        if link.phase is ServerPhase.JUDGED and link.early_logout is None:
            if type(message) is Want and link.early_want is None:
                link.early_want = encode_batch([message])
                return None
            if type(message) is Logout:
                link.early_logout = message
                return None
        return "something else than a login, a statement and a logout before the welcome"

    def _ask(self, link: ServerLink, login: Login) -> str | None:
        fault = _fault_of(login)
        if fault is not None:
            return fault
        if not is_valid_name(login.uid, self._config.max_name_length):
            message = f"a uid is 1 to {self._config.max_name_length} printable ASCII characters"
            self._refuse(link, Code.INVALID_UID, message, None)
            return None
        link.phase = ServerPhase.JUDGED
        link.login = login
        self._context.outputs.append(
            LoginRequested(
                transport_id=link.transport_id,
                uid=login.uid,
                token=login.token,
                wall_clock=self._context.wall_clock(),
            )
        )
        return None

    def accept(self, transport_id: int, expires_in: float | None) -> None:
        """The authenticator says yes."""
        link = self._transports.get(transport_id)
        if link is None or link.login is None:
            return
        login, link.login = link.login, None
        if self._engine.queued(home_of_user(login.uid)) >= _MAX_QUEUED_CALLS:
            self._refuse(link, Code.UNAVAILABLE, "too much of this uid waits for the engine", None)
            return
        if expires_in is not None and expires_in <= 0:
            self._refuse(link, Code.TOKEN_EXPIRED, "the token has expired", None)
            return
        operation = AttachSession(
            uid=login.uid,
            node=self._context.node,
            instance_id=login.instance_id,
            login_id=login.login_id,
            attempt=login.attempt,
            new_session_id=self._context.entropy(_ID_BYTES),
            quoted_session_id=login.session_id,
            quoted_epoch=login.login_epoch,
            quoted_attach=login.attach,
        )
        self._engine.call(
            operation, lambda answer: self._on_attached(link, login.uid, expires_in, answer), though_closed=True
        )

    def refuse(self, transport_id: int, code: int, message: str, retry_after_seconds: float | None) -> None:
        """The authenticator says no."""
        link = self._transports.get(transport_id)
        if link is not None and link.login is not None:
            link.login = None
            self._refuse(link, code, message, retry_after_seconds)

    def too_late(self, link: ServerLink) -> None:
        """Handshake and login are not done in time (S51)."""
        if link.wire.is_open:
            self._refuse(link, Code.LOGIN_DEADLINE, "no login in time", None)
        else:
            self._transports.drop(link, "abort")

    def _refuse(self, link: ServerLink, code: int, message: str, retry_after_seconds: float | None) -> None:
        self._transports.reply(link, LoginRefused(int(code), message, retry_after_seconds))
        self._transports.say_goodbye(link, int(code), message)

    def _on_attached(self, link: ServerLink, uid: str, expires_in: float | None, answer: Attached | Refusal) -> None:
        is_there = self._transports.is_there(link) and link.phase is ServerPhase.JUDGED
        if isinstance(answer, Refusal):
            if is_there:
                self._refuse(link, answer.code, answer.message, answer.retry_after_seconds)
            return
        self._sessions.replace_transport(answer.session_id)
        if is_there:
            self._welcome(link, uid, expires_in, answer)
        elif link.early_logout is not None:  # it logged out and went meanwhile (S7)
            self._sessions.log_out(uid, answer.session_id, lambda: None)
        else:  # it went while the engine decided: the session begins interrupted
            self._sessions.detach(uid, answer.session_id, answer.attach, 0.0)
        self._sessions.carry_out(answer.todos)
        early = [] if link.early_want is None else _decoder.decode(link.early_want)[0]
        if link.early_logout is not None:
            early.append(link.early_logout)
        link.early_want = link.early_logout = None
        for message in early:
            if link.session is not None:
                self._deliver(link, link.session, message)

    def _welcome(self, link: ServerLink, uid: str, expires_in: float | None, attached: Attached) -> None:
        session = AttachedSession(
            link,
            uid=uid,
            session_id=attached.session_id,
            login_epoch=attached.login_epoch,
            attach=attached.attach,
            expires_at=None if expires_in is None else self._context.now + expires_in,
            rate=self._flood_gate.rate_of(attached.session_id),
            inbox_start=attached.inbox,
        )
        self._sessions.attach(session, link)
        link.phase = ServerPhase.OPEN
        link.since = self._context.now
        link.wire.max_message_bytes = self._config.max_frame_bytes
        welcome = Welcome(
            session_id=attached.session_id,
            login_epoch=attached.login_epoch,
            attach=attached.attach,
            resumed=attached.resumed,
            expires_in=expires_in,
            limits=self._limits,
            inbox=InboxPlace(attached.inbox.epoch, attached.inbox.cursor, attached.inbox.kept_until),
        )
        self._transports.reply(link, welcome)
        self._transports.schedule(link)
        self._channels.open_inbox(session)
        for name in attached.channels:
            self._channels.enter(session, name)

    # ---------------------------------------------------------------------------------------------- renewals

    def renew(self, link: ServerLink, session: AttachedSession, renewal: RenewToken) -> None:
        """A new token for a session that is up: judged by itself, so that a slow authenticator holds nothing up."""
        if self._flood_gate.is_flood(link, session):
            return
        reply = self._transports.reply
        if len(renewal.token) > MAX_TOKEN_BYTES:
            reply(link, Failed(renewal.number, Code.BAD_TOKEN, f"a token has at most {MAX_TOKEN_BYTES} bytes"))
        elif link.renewals is not None and len(link.renewals) >= _MAX_RENEWALS:
            reply(link, Failed(renewal.number, Code.TOO_MANY_REQUESTS, f"{_MAX_RENEWALS} renewals are open"))
        elif link.renewals:
            link.renewals.append(renewal)
        else:
            link.renewals = deque((renewal,))
            self._ask_renewal(link, session)

    def _ask_renewal(self, link: ServerLink, session: AttachedSession) -> None:
        assert link.renewals
        self._context.outputs.append(
            RenewalRequested(
                transport_id=link.transport_id,
                number=link.renewals[0].number,
                uid=session.uid,
                token=link.renewals[0].token,
                wall_clock=self._context.wall_clock(),
            )
        )

    def accept_renewal(self, transport_id: int, number: int, expires_in: float | None) -> None:
        """The authenticator says yes to the renewal that it was asked about."""
        if expires_in is not None and expires_in <= 0:
            self.refuse_renewal(transport_id, number, Code.TOKEN_EXPIRED, "the token has expired")
            return
        link = self._transports.get(transport_id)
        if link is not None and link.session is not None and _is_judged(link, number):
            link.session.expires_at = None if expires_in is None else self._context.now + expires_in
            self._answer_renewal(link, link.session, Renewed(number, expires_in))
            self._transports.schedule(link)

    def refuse_renewal(self, transport_id: int, number: int, code: int, message: str) -> None:
        """The authenticator says no to it; the token before stays in force."""
        link = self._transports.get(transport_id)
        if link is not None and link.session is not None and _is_judged(link, number):
            self._answer_renewal(link, link.session, Failed(number, int(code), message))

    def _answer_renewal(self, link: ServerLink, session: AttachedSession, answer: Renewed | Failed) -> None:
        assert link.renewals
        link.renewals.popleft()
        self._transports.reply(link, answer)
        if link.renewals:
            self._ask_renewal(link, session)


def _is_judged(link: ServerLink, number: int) -> bool:
    """Whether the authenticator was asked about this renewal and has not answered: the next one waits behind it."""
    renewal = link.renewals[0] if link.renewals else None
    return renewal is not None and renewal.number == number


def _fault_of(login: Login) -> str | None:
    """What makes a login a protocol error (S50)."""
    if len(login.instance_id) != _ID_BYTES:
        return f"a login's instance_id has {_ID_BYTES} bytes, not {len(login.instance_id)}"
    if len(login.login_id) != _ID_BYTES:
        return f"a login's login_id has {_ID_BYTES} bytes, not {len(login.login_id)}"
    if login.session_id is not None and len(login.session_id) != _ID_BYTES:
        return f"a login's session_id has {_ID_BYTES} bytes, not {len(login.session_id)}"
    if login.attempt < 0:
        return "a login's attempt is negative"
    if login.login_epoch is not None and login.login_epoch < 0:
        return "a login's login_epoch is negative"
    if len(login.token) > MAX_TOKEN_BYTES:
        return f"a login's token has at most {MAX_TOKEN_BYTES} bytes"
    return None
