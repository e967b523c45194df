"""Every error that the library raises: one root, stable codes, and the built-in exception that each resembles."""

from __future__ import annotations

import enum


class RtmError(Exception):
    """Root of all errors. ``code`` is stable and meant for programs; the text says what, why and what to do next."""

    default_code = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code


class ConfigError(RtmError, ValueError):
    """A configuration value, a URL or an option that can never work; the text names the value and its limit."""

    default_code = "invalid_config"


class InvalidArgument(RtmError, ValueError):
    """An argument that breaks a limit, raised before anything is sent (S37); the text names the limit."""

    default_code = "invalid_argument"


class InvalidState(RtmError, RuntimeError):
    """The call is not allowed in the present state; the text names the state and says what to call (S4)."""

    default_code = "invalid_state"


class NotLoggedIn(InvalidState):
    """``logout`` in DISCONNECTED (S7)."""

    default_code = "not_logged_in"


class NotJoined(InvalidState):
    """The channel is not joined, or no longer (S37)."""

    default_code = "not_joined"


class ClientClosed(InvalidState):
    """The client object was closed; make a new one."""

    default_code = "closed"


class NotConnected(RtmError, ConnectionError):
    """A request in DISCONNECTED, CONNECTING or ABORTED (S35)."""

    default_code = "not_connected"


class RequestsFull(RtmError, BlockingIOError):
    """The bound of unanswered requests is reached (S35). The frontends wait instead of raising it."""

    default_code = "too_many_requests"


class LoginFailed(RtmError, ConnectionError):
    """The login was refused, can never succeed, or was ended by ``logout``; ``attempts`` were made."""

    default_code = "login_failed"

    def __init__(self, message: str, *, code: str | None = None, attempts: int = 0) -> None:
        super().__init__(message, code=code)
        self.attempts = attempts


class LoginTimeout(LoginFailed, TimeoutError):
    """No success within the login timeout (S5); ``last_cause`` is the code of the last failed attempt, or None."""

    default_code = "login_timeout"

    def __init__(self, message: str, *, attempts: int = 0, last_cause: str | None = None) -> None:
        super().__init__(message, attempts=attempts)
        self.last_cause = last_cause


class Outcome(enum.Enum):
    """What became of a request that failed (S9)."""

    NOT_SENT = "not sent"
    """The server never saw it: safe to repeat."""
    REFUSED = "refused"
    """The server answered no, and carried nothing out."""
    UNKNOWN = "unknown"
    """It was sent, and no answer came: the server may have carried it out."""


class RequestFailed(RtmError):
    """A request ended without success; ``outcome`` says whether the server may have carried it out (S9)."""

    default_code = "request_failed"

    def __init__(
        self, message: str, *, outcome: Outcome, code: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.outcome = outcome
        self.retry_after_seconds = retry_after_seconds


class RequestRefused(RequestFailed):
    """The server refused the request; ``code`` says why."""

    default_code = "refused"


class RequestTimeout(RequestFailed, TimeoutError):
    """No answer within the timeout of the call (S35)."""

    default_code = "request_timeout"


class RequestAbandoned(RequestFailed, ConnectionError):
    """The session ended, or could not be resumed, before the answer came (S9, S34)."""

    default_code = "session_lost"


def never_begun() -> RequestAbandoned:
    """What a frontend's call ends with that waited for its turn when the client was closed."""
    return RequestAbandoned(
        "the client was closed before this was begun; it was not sent", code="logged_out", outcome=Outcome.NOT_SENT
    )


class SessionEnded(RtmError, ConnectionError):
    """Raised by iterators when the state is ABORTED; ``code`` is the server's."""

    default_code = "session_ended"


class ChannelUnavailable(RtmError, ConnectionError):
    """The channel could not be rejoined after a reconnect (S44); its iterator raises this with the server's code."""

    default_code = "channel_lost"


class TransportFailure(RtmError, ConnectionError):
    """Why a transport could not be opened, or ended: made by a driver, kept as the cause of what follows from it.

    Its codes: ``connection_refused``, ``unreachable``, ``name_not_found``, ``connect_timeout``, ``connection_lost``,
    ``certificate_not_trusted``, ``tls_failed``, ``not_a_websocket``, ``no_common_protocol``, ``http_<status>``,
    ``protocol_error``.
    """

    default_code = "connection_lost"
