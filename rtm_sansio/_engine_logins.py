"""What becomes of a login that the authenticator has accepted: a new session, the one there is, or none (S18, S19, S31,
E8). Decided here, in this order, and carried out by the user's home."""

from __future__ import annotations

import enum
from hmac import compare_digest
from typing import NamedTuple

from ._engine_shared import EngineContext
from ._engine_userhome import UserHome
from .codes import Code
from .operations import AttachSession, Refusal


class NewSession(NamedTuple):
    """A session begins, and ends the one before. One that ``returns`` goes on with its inbox (S56)."""

    login_epoch: int
    returns: bool


class Known(enum.Enum):
    """The session that there is goes on."""

    RESUMED = "with another transport"
    REPEATED = "the same call came again, and is answered again"


Resumed, Repeated = Known.RESUMED, Known.REPEATED
Verdict = Refusal | NewSession | Known


def judge(home: UserHome, operation: AttachSession, context: EngineContext) -> Verdict:
    """Decide between a new session, a resume and a refusal."""
    if operation.lease is not None and is_past_lease(home, operation.lease, context):
        return Refusal(Code.UNAVAILABLE, "the lease of the node ran out")
    session = home.session
    if session is not None and compare_digest(session.call_id, operation.new_session_id):
        return Repeated
    if home.banned_until is not None and context.now < home.banned_until:
        left = home.banned_until - context.now
        return Refusal(Code.BANNED, f"the uid is banned for another {left:.0f} s", left)
    if operation.quoted_epoch is None:
        return _judge_login(home, operation, context)
    return _judge_return(home, operation, operation.quoted_epoch, context)


def _judge_login(home: UserHome, operation: AttachSession, context: EngineContext) -> Verdict:
    """A ``login`` call; all attempts of one login id are one (S18)."""
    session = home.session
    if session is not None and compare_digest(session.login_id, operation.login_id):
        return _resume(home, operation)
    if _is_past_login(home, operation.login_id, context):
        return Refusal(Code.REMOTE_LOGIN, "the session of this login was ended meanwhile")
    return NewSession(_new_epoch(home, context), returns=False)


def _judge_return(home: UserHome, operation: AttachSession, quoted: int, context: EngineContext) -> Verdict:
    """A resume or an automatic re-login: its epoch is judged before its session id (S19, S31)."""
    if home.spoiled is not None and home.spoiled[0] == quoted:
        return home.spoiled[1]
    stored = home.last_epoch
    session = home.session
    if stored is None or quoted > stored:
        return _judge_unknown(home, operation, quoted, context)
    if quoted < stored:
        return Refusal(Code.REMOTE_LOGIN, "another instance of the uid logged in")
    if session is None and operation.new_session_id in home.past_calls:
        return Refusal(Code.UNAVAILABLE, "the session of this attempt was ended meanwhile")
    if session is None:
        return NewSession(quoted, returns=True)
    holds = operation.quoted_session_id is not None and compare_digest(session.session_id, operation.quoted_session_id)
    if holds and (operation.quoted_attach or 0) < session.confirmed_attach:
        return Refusal(Code.REMOTE_LOGIN, "a copy of this instance resumed the session meanwhile")
    if holds or compare_digest(session.login_id, operation.login_id):
        return _resume(home, operation)
    return NewSession(quoted, returns=True)


def _judge_unknown(home: UserHome, operation: AttachSession, quoted: int, context: EngineContext) -> Verdict:
    """An epoch later than any heard of: believed only if this memory may have forgotten it (S31)."""
    if quoted < context.memory_start:
        return NewSession(quoted, returns=True)
    session = home.session
    if session is not None and session.attached and session.instance_id != operation.instance_id:
        return Refusal(Code.ALREADY_LOGGED_IN, "the uid is logged in; an unknown login does not end that session")
    return NewSession(_new_epoch(home, context), returns=False)


def _resume(home: UserHome, operation: AttachSession) -> Verdict:
    assert home.session is not None  # which is what the caller has compared
    if operation.attempt < home.session.attempt:
        return Refusal(Code.TRANSPORT_REPLACED, "a later attempt of this login was there before")
    return Resumed


def _new_epoch(home: UserHome, context: EngineContext) -> int:
    return max((home.last_epoch or 0) + 1, context.unix_microseconds(), context.memory_start)


def _is_past_login(home: UserHome, login_id: bytes, context: EngineContext) -> bool:
    oldest = context.now - context.config.attempt_memory_seconds
    return any(compare_digest(known, login_id) and ended_at > oldest for known, ended_at in home.past_logins)


def is_past_lease(home: UserHome, lease: bytes, context: EngineContext) -> bool:
    """Whether it is known here that this lease ran out (E7)."""
    oldest = context.now - context.config.history_seconds
    return any(known == lease and since > oldest for known, since in home.past_leases)
