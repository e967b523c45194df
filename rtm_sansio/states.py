"""The public connection states and the one table of their switches (S1-S8).

The table is data: ``ConnectionMachine`` is the only code that changes a state, and the documentation's table and
diagram are
generated from it. Whatever pair of state and trigger is missing from it cannot happen; asking for one is an error of
the core.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class ConnectionState(enum.Enum):
    """Where a client stands, as its application sees it."""

    DISCONNECTED = "DISCONNECTED"
    """Before the first ``login``, after a login that failed, and after ``logout`` (S1)."""
    CONNECTING = "CONNECTING"
    """A ``login`` call is under way."""
    CONNECTED = "CONNECTED"
    """Logged in. An interruption of less than the grace time does not leave this state (S12)."""
    RECONNECTING = "RECONNECTING"
    """Interrupted for longer than the grace time; the client keeps trying until ``logout`` (S20)."""
    ABORTED = "ABORTED"
    """The server ended the session for good; ``logout`` and then ``login`` work again (S8)."""


class ConnectionChangeReason(enum.Enum):
    """Why a state was entered."""

    LOGIN = "LOGIN"
    LOGIN_SUCCESS = "LOGIN_SUCCESS"
    LOGIN_FAILURE = "LOGIN_FAILURE"
    LOGIN_TIMEOUT = "LOGIN_TIMEOUT"
    INTERRUPTED = "INTERRUPTED"
    REMOTE_LOGIN = "REMOTE_LOGIN"
    BANNED_BY_SERVER = "BANNED_BY_SERVER"
    KICKED_BY_SERVER = "KICKED_BY_SERVER"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    LOGOUT = "LOGOUT"


class Trigger(enum.Enum):
    """What can happen to a connection; the value is the sentence that the documentation prints."""

    LOGIN_CALLED = "the app calls `login`"
    LOGIN_ACCEPTED = "the server accepts"
    LOGIN_REFUSED = "the login is refused, or can never succeed"
    LOGIN_TIMED_OUT = "no success within the login timeout"
    INTERRUPTED = "interrupted beyond the grace time, or the session turns out to be gone"
    RESTORED = "the session is restored or renewed"
    REMOTE_LOGIN = "another instance of the uid logged in"
    BANNED = "the server bans the uid"
    ENDED_BY_SERVER = "the operator ends the session, or an unknown terminal code"
    TOKEN_EXPIRY_ENFORCED = "the server enforces token expiry and it has passed"
    LOGOUT_CALLED = "the app calls `logout`"


_S = ConnectionState
_R = ConnectionChangeReason

TRANSITIONS: Mapping[tuple[ConnectionState, Trigger], tuple[ConnectionState, ConnectionChangeReason]] = (
    MappingProxyType(
        {
            (_S.DISCONNECTED, Trigger.LOGIN_CALLED): (_S.CONNECTING, _R.LOGIN),
            (_S.CONNECTING, Trigger.LOGIN_ACCEPTED): (_S.CONNECTED, _R.LOGIN_SUCCESS),
            (_S.CONNECTING, Trigger.LOGIN_REFUSED): (_S.DISCONNECTED, _R.LOGIN_FAILURE),
            (_S.CONNECTING, Trigger.LOGIN_TIMED_OUT): (_S.DISCONNECTED, _R.LOGIN_TIMEOUT),
            (_S.CONNECTED, Trigger.INTERRUPTED): (_S.RECONNECTING, _R.INTERRUPTED),
            (_S.RECONNECTING, Trigger.RESTORED): (_S.CONNECTED, _R.LOGIN_SUCCESS),
            (_S.CONNECTED, Trigger.REMOTE_LOGIN): (_S.ABORTED, _R.REMOTE_LOGIN),
            (_S.RECONNECTING, Trigger.REMOTE_LOGIN): (_S.ABORTED, _R.REMOTE_LOGIN),
            (_S.CONNECTED, Trigger.BANNED): (_S.ABORTED, _R.BANNED_BY_SERVER),
            (_S.RECONNECTING, Trigger.BANNED): (_S.ABORTED, _R.BANNED_BY_SERVER),
            (_S.CONNECTED, Trigger.ENDED_BY_SERVER): (_S.ABORTED, _R.KICKED_BY_SERVER),
            (_S.RECONNECTING, Trigger.ENDED_BY_SERVER): (_S.ABORTED, _R.KICKED_BY_SERVER),
            (_S.CONNECTED, Trigger.TOKEN_EXPIRY_ENFORCED): (_S.ABORTED, _R.TOKEN_EXPIRED),
            (_S.CONNECTING, Trigger.LOGOUT_CALLED): (_S.DISCONNECTED, _R.LOGOUT),
            (_S.CONNECTED, Trigger.LOGOUT_CALLED): (_S.DISCONNECTED, _R.LOGOUT),
            (_S.RECONNECTING, Trigger.LOGOUT_CALLED): (_S.DISCONNECTED, _R.LOGOUT),
            (_S.ABORTED, Trigger.LOGOUT_CALLED): (_S.DISCONNECTED, _R.LOGOUT),
        }
    )
)
"""Every switch that exists (S2)."""


class ConnectionMachine:
    """Holds the state; the one place that assigns it."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = ConnectionState.DISCONNECTED

    def fire(self, trigger: Trigger) -> tuple[ConnectionState, ConnectionState, ConnectionChangeReason]:
        """Switch by the table; returns the previous state, the new one and the reason.

        Raises ``KeyError`` for a pair outside the table, which no caller may ask for (S2).
        """
        previous = self.state
        self.state, reason = TRANSITIONS[previous, trigger]
        return previous, self.state, reason
