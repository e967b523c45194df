"""When a link is alive: the client's heartbeats and what their answers prove (S10, S11)."""

from __future__ import annotations

import enum
from collections import deque


class LinkHealth(enum.Enum):
    """What ``Liveness.check`` found."""

    GOOD = "nothing is due"
    HEARTBEAT_DUE = "a heartbeat is to be sent"
    SILENT = "nothing has arrived for too long: the interruption began with the last byte (S11)"
    UNANSWERED = "a heartbeat was never answered, whatever else arrives: the interruption begins now (S10)"


class Liveness:
    """The clocks of one link, from its welcome on. Times in the caller's monotonic seconds."""

    __slots__ = (
        "_answer",
        "_excused",
        "_grace",
        "_interval",
        "_limit",
        "_max_quiet",
        "_probed_at",
        "_unanswered",
        "last_received",
        "last_sent",
    )

    def __init__(
        self,
        *,
        interval_seconds: float,
        max_quiet_seconds: float,
        answer_seconds: float,
        grace_seconds: float,
        limit_seconds: float,
        now: float,
    ) -> None:
        self._interval = interval_seconds
        self._max_quiet = max_quiet_seconds
        self._answer = answer_seconds
        self._grace = grace_seconds
        self._limit = limit_seconds
        self.last_received = now
        self.last_sent = now
        self._probed_at: float | None = None  # the first heartbeat sent since anything arrived
        self._unanswered: deque[float] = deque()  # when each was sent
        self._excused = False

    @property
    def probing(self) -> bool:
        """Whether a heartbeat is under way and nothing has arrived since it left."""
        return self._probed_at is not None

    def received(self, now: float) -> bool:
        """Bytes arrived: any of them is a sign of life. Whether ``next_deadline`` may be nearer now: a heartbeat that
        was under way is answered, and the next one due before that one would have been missed."""
        was_probing = self._probed_at is not None
        self.last_received = now
        self._probed_at = None
        self._excused = False
        return was_probing

    def answered(self) -> None:
        """A heartbeat's answer arrived; answers come in the order of the heartbeats."""
        if self._unanswered:
            self._unanswered.popleft()

    def heartbeat_sent(self, now: float) -> None:
        """A heartbeat left."""
        self.last_sent = now
        self._unanswered.append(now)
        if self._probed_at is None:
            self._probed_at = now

    def _silent_at(self, probed_at: float) -> float:
        return max(self.last_received + self._grace, probed_at + self._answer)

    def next_deadline(self) -> float:
        """When ``check`` has something to find at the earliest."""
        news = self.last_received + self._interval if self._probed_at is None else self._silent_at(self._probed_at)
        deadline = min(self.last_sent + self._max_quiet, news)
        if self._unanswered:
            deadline = min(deadline, self._unanswered[0] + self._limit)
        return deadline

    def check(self, now: float) -> LinkHealth:
        """What is due at ``now``. After HEARTBEAT_DUE the caller sends one and says so with ``heartbeat_sent``."""
        if self._probed_at is None:
            if self.last_received + self._interval <= now:
                return LinkHealth.HEARTBEAT_DUE
        elif (silent_at := self._silent_at(self._probed_at)) <= now:
            # A check that comes this late means that the process itself stood still: the heartbeat that seems
            # unanswered may never have left, or its answer not have been read. One more heartbeat decides, once for
            # each silence (S11, F-24).
            if self._excused or now - silent_at <= self._answer:
                return LinkHealth.SILENT
            self._excused = True
            self._probed_at = None
            return LinkHealth.HEARTBEAT_DUE
        if self._unanswered and self._unanswered[0] + self._limit <= now:
            return LinkHealth.UNANSWERED
        return LinkHealth.HEARTBEAT_DUE if self.last_sent + self._max_quiet <= now else LinkHealth.GOOD
