"""What the two applications of the demo saw, as they saw it: the only thing that its judge and its screen
look at.

All times are in seconds of the rules: those of a run that is scaled down are stretched again when they are
recorded.
"""

from __future__ import annotations

import dataclasses
import enum
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from rtm_sansio.errors import Outcome
from rtm_sansio.events import LeaveCause
from rtm_sansio.states import ConnectionChangeReason, ConnectionState


class LinkCondition(enum.Enum):
    """What the faulty link does with bytes."""

    PASSING = "passing"
    STALLED = "stalled"
    """Nothing gets through in either direction, and nobody is told."""
    CUT = "cut"
    """Connections are reset, and new ones refused."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """Something that happened at ``at``."""

    at: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActBegan(Record):
    """A new act of the story."""

    number: int
    title: str
    story: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class StateSeen(Record):
    """``who`` was told of a switch of its state."""

    who: str
    state: ConnectionState
    reason: ConnectionChangeReason


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberSeen(Record):
    """``who`` was told that ``uid`` left, and why, or joined (None)."""

    who: str
    uid: str
    cause: LeaveCause | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MessageSent(Record):
    """``who`` has the receipt for its message of this number."""

    who: str
    number: int
    offset: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SendFailed(Record):
    """``who`` was told that its message of this number failed, and what may have become of it."""

    who: str
    number: int
    outcome: Outcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class MessageSeen(Record):
    """``who`` got the message of this number from ``sender``."""

    who: str
    sender: str
    number: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class GapSeen(Record):
    """``who`` was told that entries are lost."""

    who: str
    count: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MembershipBegan(Record):
    """``who`` joined: what stands behind ``offset`` is due to it."""

    who: str
    offset: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class MembershipEnds(Record):
    """``who`` is about to leave: what is confirmed from now on is no longer due to it."""

    who: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinkChanged(Record):
    """The faulty link changed."""

    condition: LinkCondition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dialled(Record):
    """Somebody tried to connect through the faulty link."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stuck(Record):
    """The story could not go on: what it waited for did not come."""

    waited_for: str


R = TypeVar("R", bound=Record)


def of_kind(records: Iterable[Record], kind: type[R]) -> list[R]:
    """The records of one kind, in order."""
    return [record for record in records if isinstance(record, kind)]


class Recorder:
    """Collects records from any thread and passes each on to a narrator."""

    def __init__(
        self,
        *,
        scale: float = 1,
        narrate: Callable[[Record], None] = lambda record: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self._latest: dict[tuple[str, str], int] = {}
        self._scale = scale
        self._narrate = narrate
        self._clock = clock
        self._began_at = clock()

    @property
    def now(self) -> float:
        """The time of the story, in seconds of the rules."""
        return (self._clock() - self._began_at) * self._scale

    @property
    def records(self) -> list[Record]:
        """All that was recorded so far."""
        with self._lock:
            return list(self._records)

    def add(self, record: Record) -> None:
        """Keep a record; safe from any thread."""
        with self._lock:
            self._records.append(record)
            if isinstance(record, MessageSeen):
                self._latest[record.who, record.sender] = record.number
            self._narrate(record)

    def latest_seen(self, who: str, sender: str) -> int:
        """The number of the last message that ``who`` got from ``sender``; 0 for none."""
        with self._lock:
            return self._latest.get((who, sender), 0)
