"""What a client knows of its session: the last welcome, and whether it can be followed (S15, S18)."""

from __future__ import annotations

from ._pacing import BYTES_UNDER_WAY, UNITS_UNDER_WAY, TokenBucket, paced_burst
from .messages import LOGIN_BYTES, Limits, Welcome

_ID_BYTES = 16
_LARGEST_FRAME_BYTES = 16 * 1024 * 1024
"""A server's messages may be larger than our config says (S15), up to here."""
_SHORTEST_SECONDS = 0.01
_LONGEST_SECONDS = 86_400.0
"""What a server may ask of our timers: a shorter interval would keep us busy, a longer one would prove nothing."""


class Session:
    """What the last welcome said, quoted at each resume. Its id is a secret: no text form shows it."""

    __slots__ = ("attach", "inbox_epoch", "limits", "login_epoch", "pace", "session_id")

    def __init__(self, welcome: Welcome, *, resumed_from: Session | None, now: float) -> None:
        self.session_id = welcome.session_id
        self.login_epoch = welcome.login_epoch
        self.attach = welcome.attach
        self.limits: Limits = welcome.limits
        self.inbox_epoch = welcome.inbox.epoch
        self.pace: Pace = Pace(self.limits, now) if resumed_from is None else resumed_from.pace


class Pace:
    """How fast a client may ask: so many units and so many bytes of messages a second (S45, S55)."""

    __slots__ = ("_bytes", "_units")

    def __init__(self, limits: Limits, now: float) -> None:
        burst = paced_burst(limits.request_burst, UNITS_UNDER_WAY)
        self._units = TokenBucket(rate_per_second=limits.requests_per_second, burst=burst, now=now)
        burst = paced_burst(limits.append_burst_bytes, BYTES_UNDER_WAY)
        self._bytes = TokenBucket(rate_per_second=limits.append_bytes_per_second, burst=burst, now=now)

    def try_take(self, now: float, units: int, byte_count: int) -> bool:
        """Take what a request costs, if it is there."""
        if not self._bytes.has(now, byte_count) or not self._units.try_take(now, units):
            return False
        self._bytes.try_take(now, byte_count)
        return True

    def ready_at(self, units: int, byte_count: int) -> float:
        """When it will be there."""
        return max(self._units.ready_at(units), self._bytes.ready_at(byte_count))


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
        limits.append_bytes_per_second,
        limits.max_count_channels,
        limits.max_history_entries,
        limits.max_attribute_key_bytes,
        limits.max_attribute_value_bytes,
        limits.max_attribute_pairs,
        limits.max_attributes,
        limits.max_user_attribute_bytes,
        limits.max_channel_attribute_bytes,
        limits.max_status_query,
        limits.max_status_subscriptions,
    )
    return (
        len(welcome.session_id) == _ID_BYTES
        and welcome.login_epoch >= 0  # it is quoted at each login, which a server refuses with a negative one
        and all(_SHORTEST_SECONDS <= duration <= _LONGEST_SECONDS for duration in durations)
        and all(count >= 1 for count in counts)
        and limits.heartbeat_interval < limits.silence_timeout
        and 2 * limits.max_request_bytes <= limits.append_burst_bytes  # else a message might never be paced
        and limits.max_message_bytes <= limits.max_request_bytes <= limits.max_frame_bytes
        and LOGIN_BYTES <= limits.max_frame_bytes <= _LARGEST_FRAME_BYTES
    )
