"""Events: frozen, self-contained, each with one home, none with a secret in its text."""

from __future__ import annotations

import pytest

from rtm_sansio import events
from rtm_sansio.errors import RtmError
from rtm_sansio.events import LeaveCause, home_of
from rtm_sansio.states import ConnectionChangeReason, ConnectionState

CHANNEL_EVENTS = [
    events.ChannelMessageReceived(channel="c", uid="u", message="m", offset=1, sent_at=0.0),
    events.MemberJoined(channel="c", uid="u", offset=1),
    events.MemberLeft(channel="c", uid="u", cause=LeaveCause.LEFT, offset=1),
    events.MessagesLost(channel="c", count=None),
    events.ChannelLost(channel="c", code="x", message=""),
]
CLIENT_EVENTS = [
    events.ConnectionStateChanged(
        state=ConnectionState.CONNECTING, reason=ConnectionChangeReason.LOGIN, previous=ConnectionState.DISCONNECTED
    ),
    events.TokenExpired(),
    events.TokenWillExpire(expires_in=1.0),
    events.ReconnectProblem(code="c", message=""),
    events.EventsDropped(home="c", count=1),
    events.RequestCompleted(request_id=1, result=None),
    events.RequestErred(request_id=1, error=RtmError("x")),
]


@pytest.mark.parametrize("event", CHANNEL_EVENTS + CLIENT_EVENTS, ids=lambda event: type(event).__name__)
def test_home_and_frozen(event: object):
    """S52: every event has one home; none can be changed afterwards."""
    assert home_of(event) == ("c" if event in CHANNEL_EVENTS else "")
    with pytest.raises(AttributeError):
        event.channel = "other"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "event",
    [
        events.LoginRequested(transport_id=3, uid="alice", token="s3cret", wall_clock=None),
        events.RenewalRequested(transport_id=3, number=7, uid="alice", token="s3cret", wall_clock=None),
    ],
)
def test_text_forms_without_token(event: object):
    """S19: no token in a text form."""
    assert "s3cret" not in repr(event)
    assert "s3cret" not in str(event)
    assert "alice" in repr(event)
