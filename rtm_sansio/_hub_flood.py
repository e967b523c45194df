"""Who sends more than the welcome allows: at first refused, later dropped (S45, S51).

Frames that are no messages are charged as well, two like one request: control frames, and the fragments of a message
but the first (F-64). So whoever sends at the full rate may cut each message into two, and still send its heartbeats.
Before the login there is no rate, so their number has a bound.
"""

from __future__ import annotations

from ._hub_transports import Transports
from ._hubparts import AttachedSession, HubContext, Rate, ServerLink
from ._pacing import BYTES_UNDER_WAY, UNITS_UNDER_WAY, TokenBucket, paced_burst
from .codes import Code

_FLOOD_FACTOR = 2
_EXCESS_BURSTS, _EXCESS_UNITS = 16, 1024
"""Above so many bursts and units beyond twice the rate nobody waits for the end of the tolerance."""
_POLICY_VIOLATION = 1008
_LENIENCE = 1.05
"""The client's clock and ours differ, and the network bunches what a client spaced out."""

MAX_RARE_FRAMES_BEFORE_LOGIN = 64
RARE_FRAMES_PER_UNIT = 2


class FloodGate:
    """The rates of one hub."""

    def __init__(self, context: HubContext, transports: Transports) -> None:
        self._context = context
        self._config = context.config
        self._transports = transports
        config = self._config
        # After so long a bucket is full again, and a run of rate errors over.
        self._memory_seconds = max(
            config.flood_tolerance_seconds,
            config.request_burst / config.requests_per_second,
            config.append_burst_bytes / config.append_bytes_per_second,
        )
        # What was refused for its bytes counts as well: so that twice their rate is as much as twice the other one.
        self._units_per_byte = _FLOOD_FACTOR * config.requests_per_second / config.append_bytes_per_second
        self._parted: dict[bytes, tuple[Rate, float]] = {}  # by session id, and since when; the first to go first

    def rate_of(self, session_id: bytes) -> Rate:
        """For a new attachment: a session that comes back has no other rate than before (S45)."""
        known = self._parted.pop(session_id, None)
        if known is not None and known[1] + self._memory_seconds > self._context.now:
            return known[0]
        config, now = self._config, self._context.now
        rate, burst = config.requests_per_second, config.request_burst
        byte_rate, byte_burst = config.append_bytes_per_second, config.append_burst_bytes
        units_enough = paced_burst(burst, UNITS_UNDER_WAY)
        bytes_enough = paced_burst(byte_burst, BYTES_UNDER_WAY)
        return Rate(
            TokenBucket(rate_per_second=rate * _LENIENCE, burst=burst, now=now, enough=units_enough),
            TokenBucket(rate_per_second=byte_rate * _LENIENCE, burst=byte_burst, now=now, enough=bytes_enough),
            # It has always one burst more than the first: what that one takes is no flood.
            TokenBucket(rate_per_second=rate * _FLOOD_FACTOR, burst=burst * _FLOOD_FACTOR, now=now, enough=burst),
        )

    def part(self, session_id: bytes, rate: Rate) -> None:
        """The attachment is over; the session may come back."""
        oldest = self._context.now - self._memory_seconds
        while self._parted:
            first = next(iter(self._parted))
            if self._parted[first][1] > oldest and len(self._parted) < self._config.max_transports:
                break
            del self._parted[first]
        self._parted[session_id] = (rate, self._context.now)

    def is_flood(self, link: ServerLink, session: AttachedSession, units: int = 1) -> bool:
        """Whether the peer goes on at twice its rate a while after its first rate error, or is absurdly far above;
        then it is dropped."""
        rate = session.rate
        if rate.flood_bucket.try_take(self._context.now, units):
            return False
        persistent = self._is_persistent(rate)
        rate.excess += units
        if not persistent and rate.excess <= _EXCESS_BURSTS * self._config.request_burst + _EXCESS_UNITS:
            return False
        self._transports.violation(link, "far above the rate that the welcome states", close_code=Code.FLOODING)
        return True

    def is_frame_flood(self, link: ServerLink) -> bool:
        """Charge the frames that were no messages; whether nothing that came with them is to be heard."""
        wire, session = link.wire, link.session
        if session is not None:
            units, wire.rare_frames = divmod(wire.rare_frames, RARE_FRAMES_PER_UNIT)
            return not wire.closed and self.is_flood(link, session, units)
        if wire.rare_frames <= MAX_RARE_FRAMES_BEFORE_LOGIN or not wire.is_open:
            return False  # they stay counted: the bound is for all that come before the login
        reason = f"more than {MAX_RARE_FRAMES_BEFORE_LOGIN} frames without a message before the welcome"
        self._transports.violation(link, reason, close_code=_POLICY_VIOLATION)
        return True

    def is_byte_flood(self, link: ServerLink, session: AttachedSession, byte_count: int) -> bool:
        """The same for a message of so many bytes that was refused."""
        return self.is_flood(link, session, int(byte_count * self._units_per_byte))

    def is_skipped_flood(self, link: ServerLink, session: AttachedSession, count: int, byte_count: int) -> bool:
        """The same for a batch of so many bytes in which messages were skipped, which no rate of bytes has weighed.
        Half as much for a byte as when it was refused: what else stands in the batch is charged too."""
        return self.is_flood(link, session, max(count, int(byte_count * self._units_per_byte / _FLOOD_FACTOR)))

    def is_too_fast(self, session: AttachedSession, units: int, byte_count: int) -> bool:
        """Whether a request of so many units, with a message of so many bytes, is to be refused (S45, S55)."""
        rate, now = session.rate, self._context.now
        if rate.byte_bucket.has(now, byte_count) and rate.bucket.try_take(now, units):
            rate.byte_bucket.try_take(now, byte_count)
            return False
        self._is_persistent(session.rate)
        return True

    def _is_persistent(self, rate: Rate) -> bool:
        """Note a rate error: whether they have gone on for as long as is borne."""
        now, tolerance = self._context.now, self._config.flood_tolerance_seconds
        if rate.error_since is None or now - rate.error_at > tolerance:
            rate.error_since = now  # the first, or the first after a while without
            rate.excess = 0
        rate.error_at = now
        return now - rate.error_since >= tolerance
