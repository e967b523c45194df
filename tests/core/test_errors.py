"""The errors: one root, stable codes, the built-in that each resembles."""

from __future__ import annotations

import inspect

import pytest

from rtm_sansio import errors
from rtm_sansio.errors import LoginFailed, LoginTimeout, Outcome, RequestFailed, RtmError, never_begun

CLASSES = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, RtmError) and cls is not RtmError
]

BUILT_INS = {
    "ConfigError": ValueError,
    "InvalidArgument": ValueError,
    "InvalidState": RuntimeError,
    "NotLoggedIn": RuntimeError,
    "NotJoined": RuntimeError,
    "ClientClosed": RuntimeError,
    "NotConnected": ConnectionError,
    "RequestsFull": BlockingIOError,
    "LoginFailed": ConnectionError,
    "LoginTimeout": TimeoutError,
    "RequestFailed": Exception,
    "RequestRefused": Exception,
    "RequestTimeout": TimeoutError,
    "RequestAbandoned": ConnectionError,
    "SessionEnded": ConnectionError,
    "ChannelUnavailable": ConnectionError,
    "TransportFailure": ConnectionError,
}


def _make(cls: type[RtmError], **options: object) -> RtmError:
    if issubclass(cls, RequestFailed):
        options["outcome"] = Outcome.UNKNOWN
    return cls("what, why, what next", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_class(cls: type[RtmError]):
    """S6: each error has one root, the built-in that it resembles, and a stable code of its own."""
    error = _make(cls)
    assert isinstance(error, BUILT_INS[cls.__name__])
    assert str(error) == "what, why, what next"
    assert error.code == cls.default_code
    assert cls.__doc__


def test_codes_given():
    """S6: a code given to an error is kept."""
    assert RtmError("x").code == "error"
    assert RtmError("x", code="y").code == "y"
    assert _make(errors.TransportFailure, code="http_503").code == "http_503"


def test_login_errors_carry_attempts_and_cause():
    """S6: the number of attempts, and the code of the last failure."""
    assert LoginFailed("x", attempts=3).attempts == 3
    timeout = LoginTimeout("x", attempts=4, last_cause="connection_refused")
    assert (timeout.attempts, timeout.last_cause, timeout.code) == (4, "connection_refused", "login_timeout")
    assert isinstance(timeout, LoginFailed)


def test_request_errors_say_the_outcome():
    """S9: not sent, refused or unknown."""
    error = errors.RequestRefused("x", outcome=Outcome.REFUSED, code="not_a_member", retry_after_seconds=1.5)
    assert (error.outcome.value, error.code, error.retry_after_seconds) == ("refused", "not_a_member", 1.5)
    assert {outcome.value for outcome in Outcome} == {"not sent", "refused", "unknown"}


def test_a_call_that_was_never_begun():
    """S9: whoever waited for a turn when the client was closed is told that nothing was sent."""
    error = never_begun()
    assert (error.code, error.outcome) == ("logged_out", Outcome.NOT_SENT)
    assert "not sent" in str(error)
