"""The client's end of one log, a channel's or its inbox: a cursor, and the rules by which entries pass it (S33, S43,
S48, S52)."""

from __future__ import annotations

import enum
from typing import Any

from ._entries import event_of, inbox_event_of
from .events import ChannelMessageReceived, MemberCountChanged, MembersResumed, MessageReceived, MessagesLost
from .messages import INBOX, Entries, Gap, InboxPlace
from .queues import event_bytes


class Wish(enum.Enum):
    """What a reader wants said to the server."""

    NOTHING = "nothing"
    HOLD = "send nothing more of this log"
    GO_ON = "send the log from the cursor"
    FAIL = "the server left a hole right behind its answer to a go-on, which no server may (S48)"


class LogReader:
    """One joined channel, or the inbox."""

    __slots__ = (
        "_answered",
        "_held",
        "_iterated",
        "_lost_before",
        "_max_bytes",
        "_max_events",
        "_member_count",
        "_skipping",
        "_waiting_bytes",
        "_waiting_events",
        "cursor",
        "echo",
        "epoch",
        "name",
    )

    def __init__(
        self,
        name: str,
        *,
        epoch: bytes,
        cursor: int,
        echo: bool,
        max_events: int,
        max_bytes: int,
        member_count: int | None = None,
    ) -> None:
        self.name = name
        self.echo = echo
        self.epoch = epoch
        self.cursor = cursor
        self._skipping = False  # from a hold or a go-on to the answer of the go-on
        self._answered = False  # a go-on was answered, and nothing came since
        self._held = False
        self._lost_before: int | None = 0
        self._iterated = False
        self._waiting_events = 0
        self._waiting_bytes = 0
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._member_count = member_count

    def transport_gone(self) -> None:
        """A hold ends with its transport, and so does a go-on (S52)."""
        self._skipping = self._held = self._answered = False

    def take_entries(self, block: Entries, own_uid: str, outputs: list[Any]) -> Wish:
        """Pass a block: events of what is new go to ``outputs`` while the cursor moves over it."""
        if self._skipping:
            return Wish.NOTHING
        known = self.cursor + 1 - block.first_offset
        if known < 0 or block.epoch != self.epoch:
            if self._answered:
                return Wish.FAIL
            self._skipping = True
            return Wish.GO_ON
        self._answered = False
        entries = block.entries[known:] if known else block.entries
        offset = self.cursor
        echo = self.echo
        for entry in entries:
            if self._iterated and self._is_full():
                self._skipping = self._held = True
                return Wish.HOLD
            self.cursor = offset = offset + 1
            event = self._event_of(entry, offset)
            if event is None or (not echo and getattr(event, "uid", None) == own_uid):
                continue
            if type(event) is ChannelMessageReceived or type(event) is MessageReceived:
                self._lost_before = 0
            elif type(event) is MembersResumed:
                self._member_count = None
            outputs.append(event)
            if self._iterated:
                self._waiting_events += 1
                self._waiting_bytes += event_bytes(event)
        return Wish.NOTHING

    def _event_of(self, entry: Any, offset: int) -> Any | None:
        return event_of(self.name, entry, offset, self._lost_before)

    def take_gap(self, gap: Gap, outputs: list[Any]) -> Wish:
        """Entries are gone: say so, and go on behind them (S33). A report finds a full queue as an entry does (S52)."""
        if self._skipping:
            return Wish.NOTHING
        if self._iterated and self._is_full():
            self._skipping = self._held = True
            return Wish.HOLD
        self._answered = False
        self._member_count = None  # whether joins and leaves are told since, and of what, may be among what is gone
        self.epoch = gap.epoch
        self.cursor = gap.cursor
        self._lost_before = None if gap.count is None or self._lost_before is None else self._lost_before + gap.count
        outputs.append(MessagesLost(channel=self.name, count=gap.count))
        if self._iterated:
            self._waiting_events += 1
        return Wish.NOTHING

    def take_count(self, member_count: int, outputs: list[Any]) -> Wish:
        """The present number of members (S38). It finds a full queue as an entry does: the server says it again behind
        a go-on (S52)."""
        if self._skipping or member_count == self._member_count:
            return Wish.NOTHING
        if self._iterated and self._is_full():
            self._skipping = self._held = True
            return Wish.HOLD
        self._member_count = member_count
        outputs.append(MemberCountChanged(channel=self.name, member_count=member_count))
        if self._iterated:
            self._waiting_events += 1
        return Wish.NOTHING

    def going(self) -> None:
        """The go-on is answered: what follows is from the cursor."""
        if self._skipping and not self._held:
            self._skipping = False
            self._answered = True

    def _is_full(self) -> bool:
        return self._waiting_events >= self._max_events or self._waiting_bytes >= self._max_bytes

    def iterating(self, on: bool, backlog_events: int, backlog_bytes: int) -> Wish:
        """The app begins or ends to iterate; what waits in its queue then is told."""
        self._iterated = on
        self._waiting_events = backlog_events if on else 0
        self._waiting_bytes = backlog_bytes if on else 0
        return self._release()

    def consumed(self, count: int, byte_count: int) -> Wish:
        """The app took events out of its queue."""
        self._waiting_events = max(0, self._waiting_events - count)
        self._waiting_bytes = max(0, self._waiting_bytes - byte_count)
        return self._release()

    def _release(self) -> Wish:
        if self._held and self._waiting_events * 2 <= self._max_events and self._waiting_bytes * 2 <= self._max_bytes:
            self._held = False
            return Wish.GO_ON
        return Wish.NOTHING


class InboxReader(LogReader):
    """One's own inbox. What is in it up to ``kept_until`` of ``kept_epoch`` is older than the session (S56)."""

    __slots__ = ("kept_epoch", "kept_until")

    def __init__(self, place: InboxPlace, *, max_events: int, max_bytes: int) -> None:
        super().__init__(
            INBOX, epoch=place.epoch, cursor=place.cursor, echo=True, max_events=max_events, max_bytes=max_bytes
        )
        self.begin_session(place)

    def begin_session(self, place: InboxPlace) -> None:
        """A session begins, the first or, with the same cursor, another one."""
        self.kept_epoch = place.epoch
        self.kept_until = place.kept_until

    def _event_of(self, entry: Any, offset: int) -> Any | None:
        kept = offset <= self.kept_until and self.epoch == self.kept_epoch
        return inbox_event_of(entry, offset, self._lost_before, kept=kept)
