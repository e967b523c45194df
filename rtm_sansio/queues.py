"""Where events wait for an application: one queue for each home, the same in every frontend (S52).

What stands in a log is lossless in a queue that someone iterates (the core holds the log before it overflows): all
events of a channel, and in the client's own queue those of its inbox. Of all other events the newest are kept, and so
it is in a queue that nobody iterates; in place of the rest it says how many it dropped. Each bound is one of events and
one of bytes. Nothing here blocks, waits or locks: that is the frontend's part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from .errors import ChannelUnavailable, InvalidArgument, InvalidState, RtmError, SessionEnded
from .events import (
    ChannelAttributesChanged,
    ChannelEvent,
    ChannelLost,
    ChannelMessageReceived,
    ClientEvent,
    ConnectionStateChanged,
    EventsDropped,
    MemberJoined,
    MemberLeft,
    MessageReceived,
    MessagesLost,
)
from .states import ConnectionChangeReason, ConnectionState

_MAX_CHARACTER_BYTES = 4
_KEY_BYTES = 128
"""What an attribute takes in memory besides its texts."""
_EVENT_TYPES = frozenset((*get_args(ClientEvent), *get_args(ChannelEvent)))


def event_bytes(event: Any) -> int:
    """What an event counts against the byte bound of its queue: all that a peer can make large in it, its uid and its
    message or text; 128 bytes more for each attribute, however short.

    Text beyond ASCII counts four bytes a character, the most that it can take in memory; what it takes is not to be
    had as fast as this.
    """
    kind = type(event)  # pyright: ignore[reportUnknownVariableType]
    if kind is ChannelMessageReceived:
        return _text_bytes(event.message) + len(event.uid)
    if kind is ChannelAttributesChanged:
        texts = (*event.put, *event.put.values(), *event.dropped)
        return len(event.uid) + _KEY_BYTES * (len(event.put) + len(event.dropped)) + sum(map(_text_bytes, texts))
    if kind is MessageReceived:
        return _text_bytes(event.message) + _text_bytes(event.description) + len(event.uid)
    if kind is MemberJoined or kind is MemberLeft:
        return len(event.uid)
    return _text_bytes(getattr(event, "message", None) or "")


def _text_bytes(text: str | bytes) -> int:
    return len(text) if type(text) is bytes or text.isascii() else _MAX_CHARACTER_BYTES * len(text)


class HomeQueue:
    """The events of one home: a channel's, or the client's own (``home`` is "").

    ``max_queued_bytes`` is for all that waits, as ``event_bytes`` counts it: beyond it the oldest are dropped, but
    never the newest event. As that of events, the bound is the core's part while a channel is iterated.
    """

    __slots__ = (
        "_bytes",
        "_dropped",
        "_end",
        "_ended",
        "_events",
        "_iterated",
        "_max_bytes",
        "_max_own",
        "_max_uniterated",
        "_other_bytes",
        "_others",
        "home",
    )

    def __init__(
        self,
        home: str,
        *,
        max_uniterated_events: int,
        max_queued_events: int,
        max_queued_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self.home = home
        self._events: deque[Any] = deque()
        self._bytes = 0
        self._dropped = 0
        self._iterated = False
        self._ended = False
        self._end: RtmError | None = None
        self._max_uniterated = max_uniterated_events
        self._max_bytes = max_queued_bytes
        # A log is held before its queue is full (S52). Most of the client's own events have no log to wait in.
        self._max_own = max_queued_events
        self._others = 0  # the events that stand in no log, and their bytes
        self._other_bytes = 0

    def __len__(self) -> int:
        return len(self._events) + (self._dropped > 0)

    @property
    def iterated(self) -> bool:
        """Whether somebody iterates it at present."""
        return self._iterated

    @property
    def ended(self) -> bool:
        """Whether ``end`` was called: nothing more will come."""
        return self._ended

    @property
    def backlog(self) -> tuple[int, int]:
        """The number of events of a log that wait, and their bytes: what ``ClientCore.iterating`` is told at the start
        of an iteration."""
        return len(self._events) - self._others, self._bytes - self._other_bytes

    def counts(self, event: Any) -> bool:
        """Whether the core is to be told when this event is consumed: it stands in a log that may be held (S52)."""
        kind = type(event)  # pyright: ignore[reportUnknownVariableType]
        return kind is not EventsDropped and (self.home != "" or kind is MessageReceived or kind is MessagesLost)

    def start_iterating(self) -> None:
        """Somebody iterates from now on. Raises InvalidState if somebody does already."""
        if self._iterated:
            where = f"channel {self.home!r}" if self.home else "this client"
            raise InvalidState(
                f"the events of {where} are iterated already; one iterator at a time, end the other first"
            )
        self._iterated = True

    def stop_iterating(self) -> None:
        """The iterator is gone: only the newest events are kept from now on."""
        self._iterated = False
        self._shorten()

    def put(self, event: Any) -> None:
        """An event arrives. After ``end`` it is ignored."""
        if self._ended:
            return
        self._events.append(event)
        self._note(event, 1)
        self._shorten()

    def _note(self, event: Any, count: int) -> None:
        """An event was added (1), or taken out (-1)."""
        size = count * event_bytes(event)
        self._bytes += size
        if not self.counts(event):
            self._others += count
            self._other_bytes += size

    def _shorten(self) -> None:
        events = self._events
        if self._iterated:
            while self._others > self._max_own or (self._other_bytes > self._max_bytes and self._others > 1):
                self._drop_other()
            return
        while len(events) > self._max_uniterated or (self._bytes > self._max_bytes and len(events) > 1):
            self._note(events.popleft(), -1)
            self._dropped += 1

    def _drop_other(self) -> None:
        """Drop the oldest event that stands in no log."""
        events = self._events
        place = next(place for place, event in enumerate(events) if not self.counts(event))
        self._note(events[place], -1)
        del events[place]
        self._dropped += 1

    def pop(self) -> Any | None:
        """The next event, or None if none waits. An ``EventsDropped`` stands in place of those that were dropped."""
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            return EventsDropped(home=self.home, count=dropped)
        if not self._events:
            return None
        event = self._events.popleft()
        self._note(event, -1)
        return event

    def put_back(self, events: Sequence[Any], *, dropped: int = 0) -> None:
        """What an iterator was given and did not use stands in front again, also after ``end``.

        ``dropped`` is what a ``MessageFilter`` has not shown yet.
        """
        self._dropped += dropped
        for event in reversed(events):
            if type(event) is EventsDropped:
                self._dropped += event.count
            else:
                self._events.appendleft(event)
                self._note(event, 1)

    def end(self, error: RtmError | None = None) -> None:
        """Nothing more will come: an iterator ends behind what still waits, or raises ``error`` there. The first call
        counts."""
        if not self._ended:
            self._ended = True
            self._end = error

    def check_end(self) -> bool:
        """When ``pop`` gave None: whether the iteration is over. Raises the error that it was ended with."""
        if self._ended and self._end is not None:
            raise self._end
        return self._ended


class MessageFilter:
    """The rule of ``for message in channel``: messages pass, all other events do not, and nothing is lost unseen.

    What a queue dropped because nobody iterated it is added to ``lost_before`` of the next message, as gaps in the log
    are by the core (S33, S52).
    """

    __slots__ = ("dropped",)

    def __init__(self) -> None:
        self.dropped = 0
        """Events that were dropped since the last message: to be put back into the queue if none follows."""

    def take(self, event: Any) -> ChannelMessageReceived | None:
        """The message to be yielded for the next event, or None."""
        if type(event) is ChannelMessageReceived:
            dropped, self.dropped = self.dropped, 0
            if dropped and event.lost_before is not None:
                return msgspec.structs.replace(event, lost_before=event.lost_before + dropped)
            return event
        if type(event) is EventsDropped:
            self.dropped += event.count
        return None


def check_handler(event_type: Any, handler: object) -> None:
    """Raise InvalidArgument unless ``on`` can be given these: a class of a client's events, and something to call."""
    if not isinstance(event_type, type) or event_type not in _EVENT_TYPES:
        raise InvalidArgument(f"{event_type!r} is not a class of events, such as MemberJoined")
    if not callable(handler):
        raise InvalidArgument(f"a handler must be callable, which {type(handler).__name__} is not")


class Ending(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an event ends: every home (``home`` is None) or one; with ``code`` None its iterators just end."""

    home: str | None
    code: str | None = None
    message: str = ""

    def error(self) -> RtmError | None:
        """What iterators raise behind the last event: a new object for each of them."""
        if self.code is None:
            return None
        if self.home is None:
            return SessionEnded(
                f"the session has ended: {self.message or self.code}; call logout(), then login()", code=self.code
            )
        return ChannelUnavailable(
            f"the channel {self.home!r} could not be rejoined: {self.message or self.code}", code=self.code
        )


def ending_of(event: Any) -> Ending | None:
    """Which homes an event of a client ends, in every frontend.

    All of them at a logout and when ABORTED (S8), a channel's own when it is lost (S44).
    """
    if type(event) is ChannelLost:
        return Ending(home=event.channel, code=event.code, message=event.message)
    if type(event) is ConnectionStateChanged:
        if event.state is ConnectionState.ABORTED:
            return Ending(home=None, code=event.code or event.reason.value.lower(), message=event.message or "")
        if event.reason is ConnectionChangeReason.LOGOUT:
            return Ending(home=None)
    return None
