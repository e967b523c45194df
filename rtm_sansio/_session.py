"""What a client knows of its session: the last welcome, and whether it can be followed (S15, S18)."""

from __future__ import annotations

from ._pacing import TokenBucket
from .messages import LOGIN_BYTES, Limits, Welcome

_ID_BYTES = 16
_LATE_REQUESTS = 256
_LARGEST_FRAME_BYTES = 16 * 1024 * 1024
"""A server's messages may be larger than our config says (S15), up to here."""
_SHORTEST_SECONDS = 0.01
_LONGEST_SECONDS = 86_400.0
"""What a server may ask of our timers: a shorter interval would keep us busy, a longer one would prove nothing."""


class Session:
    """What the last welcome said, quoted at each resume. Its id is a secret: no text form shows it."""

    __slots__ = ("attach", "bucket", "limits", "login_epoch", "session_id")

    def __init__(self, welcome: Welcome, *, resumed_from: Session | None, now: float) -> None:
        self.session_id = welcome.session_id
        self.login_epoch = welcome.login_epoch
        self.attach = welcome.attach
        self.limits: Limits = welcome.limits
        self.bucket: TokenBucket = _pace(self.limits, now) if resumed_from is None else resumed_from.bucket


def _pace(limits: Limits, now: float) -> TokenBucket:
    # Requests that were held up on their way arrive together with those sent after them, and the server's bucket must
    # have room for both; as many as may be under way are kept back from the burst (S45).
    burst = limits.request_burst
    return TokenBucket(
        rate_per_second=limits.requests_per_second, burst=burst - min(burst // 2, _LATE_REQUESTS), now=now
    )


def fits(welcome: Welcome) -> bool:
    """Whether a welcome's ids are such, and its limits figures that can be followed."""
    limits = welcome.limits
    durations = (limits.heartbeat_interval, limits.silence_timeout, limits.presence_grace)
    counts = (
        welcome.attach,
        limits.max_name_length,
        limits.max_message_bytes,
        limits.max_channels,
        limits.max_unanswered,
        limits.requests_per_second,
        limits.request_burst,
    )
    return (
        len(welcome.session_id) == _ID_BYTES
        and welcome.login_epoch >= 0  # it is quoted at each login, which a server refuses with a negative one
        and all(_SHORTEST_SECONDS <= duration <= _LONGEST_SECONDS for duration in durations)
        and all(count >= 1 for count in counts)
        and limits.heartbeat_interval < limits.silence_timeout
        and limits.max_message_bytes <= limits.max_request_bytes <= limits.max_frame_bytes
        and LOGIN_BYTES <= limits.max_frame_bytes <= _LARGEST_FRAME_BYTES
    )
