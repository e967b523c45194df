"""The homes of events of one client (S52): a queue for each, its one iterator, and what the core is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from rtm_sansio.config import ClientConfig
from rtm_sansio.errors import RtmError
from rtm_sansio.events import EventsDropped
from rtm_sansio.queues import HomeQueue, MessageFilter, event_bytes

if TYPE_CHECKING:
    from ._runtime import Runtime

E = TypeVar("E")

CONSUMED_BATCH = 64
"""Events taken by an iterator are reported in batches of at most this size."""


class _End:
    """Stands last in what an iterator is fed."""

    __slots__ = ("error",)

    def __init__(self, error: RtmError | None) -> None:
        self.error = error


class Home:
    """The events of a channel, or of the client itself, and who iterates them. Belongs to the I/O thread."""

    __slots__ = ("_max_own", "_others_fed", "feed", "name", "others_taken", "queue")

    def __init__(self, name: str, config: ClientConfig) -> None:
        self.name = name
        self._max_own = config.max_queued_events
        self.queue = HomeQueue(
            name,
            max_uniterated_events=config.max_uniterated_events,
            max_queued_events=config.max_queued_events,
            max_queued_bytes=config.max_queued_bytes,
        )
        self.feed: SimpleQueue[Any] | None = None
        """What the iterator reads, while there is one: events then wait here and not in the queue."""
        self._others_fed = 0
        self.others_taken = 0
        """How many events that stand in no log the iterator's thread has taken, of all that it was fed."""

    def put(self, event: Any) -> None:
        """An event arrives."""
        if self.feed is None or self.queue.ended:
            self.queue.put(event)
        else:
            self.feed.put(event)
            if not self.queue.counts(event):
                self._others_fed += 1
                if self._others_fed - self.others_taken > self._max_own:
                    self._shorten(self.feed)

    def _shorten(self, feed: SimpleQueue[Any]) -> None:
        """Most of the client's own events stand in no log that could be held (S52): half of those go, the oldest, and
        it is said how many. What the iterator's thread takes meanwhile is older still."""
        events = _take_all(feed)
        others = [event for event in events if not self.queue.counts(event)]
        gone = set(map(id, others[: -max(1, self._max_own // 2)]))
        dropped = sum(event.count if type(event) is EventsDropped else 1 for event in events if id(event) in gone)
        self._others_fed -= len(gone) - 1
        feed.put(EventsDropped(home=self.name, count=dropped))
        for event in events:
            if id(event) not in gone:
                feed.put(event)

    def end(self, error: RtmError | None) -> None:
        """Nothing more will come."""
        if not self.queue.ended:
            self.queue.end(error)
            if self.feed is not None:
                self.feed.put(_End(error))

    def start_iterating(self, feed: SimpleQueue[Any]) -> tuple[int, int]:
        """``feed`` gets all that waits and all that comes; returns the number of events and of their bytes.

        Raises InvalidState if somebody iterates already.
        """
        self.queue.start_iterating()
        self.feed = feed
        count, size = self.queue.backlog
        self._others_fed = self.others_taken = 0
        while (event := self.queue.pop()) is not None:
            feed.put(event)
            self._others_fed += not self.queue.counts(event)
        if self.queue.ended:
            feed.put(_End(self._end_error()))
        return count, size

    def _end_error(self) -> RtmError | None:
        try:
            self.queue.check_end()
        except RtmError as error:
            return error
        return None

    def stop_iterating(self, dropped: int) -> None:
        """The iterator is gone; what it has not taken, or not shown, waits for the next one."""
        assert self.feed is not None
        feed, self.feed = self.feed, None
        left = [event for event in _take_all(feed) if type(event) is not _End]
        self.queue.put_back(left, dropped=dropped)
        self.queue.stop_iterating()
        feed.put(_End(None))  # for a thread that still waits there


def _take_all(feed: SimpleQueue[Any]) -> list[Any]:
    events: list[Any] = []
    while True:
        try:
            events.append(feed.get_nowait())
        except Empty:
            return events


class EventIterator(Iterator[E], Generic[E]):
    """Iterates the events of one home; made by ``Client.events``, ``Channel.events`` and ``iter(channel)``.

    It begins with the first step, which raises InvalidState if another one is at work on the same events, and
    ClientClosed after ``close()`` of the client. It blocks until there is an event, ends when the home ends, and
    raises what ended it (S9). It can be used as a context manager; ``close``, the end of the ``with`` block, or
    dropping it (``break``) ends the iteration, and another iterator may follow. One thread at a time may use it; any
    may close it.
    """

    def __init__(self, runtime: Runtime, home: Home | None, messages: MessageFilter | None = None) -> None:
        self._runtime = runtime
        self._messages = messages
        self._wanted = home
        self._feed: SimpleQueue[Any] = SimpleQueue()
        self._home: Home | None = None
        self._begun = False
        self._ended = False
        self._count = 0
        self._bytes = 0
        config = runtime.config
        # Up to a quarter of the bounds may stay unreported: the core goes on with a held log at the half
        # (S52), so an empty queue never waits for a report, and a slow trickle of messages does not cause one
        # each.
        self._report_count = min(CONSUMED_BATCH, max(1, config.max_queued_events // 4))
        self._report_bytes = max(1, config.max_queued_bytes // 4)

    def _begin(self) -> None:
        self._begun = True
        self._runtime.start()
        try:
            self._runtime.driver.call(self._start)
        except BaseException:  # Ctrl-C too: the start may have been made
            self.close()
            raise

    def _start(self, now: float) -> None:
        self._runtime.check_open()
        home = self._wanted or self._runtime.client_home
        count, size = home.start_iterating(self._feed)
        self._home = home
        if self._runtime.is_current(home):
            self._runtime.core.iterating(home.name, True, backlog_events=count, backlog_bytes=size, now=now)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        self._runtime.driver.check_process()
        if not self._begun and not self._ended:
            self._begin()
        while not self._ended:
            event = self._feed.get()
            if type(event) is _End:
                self.close()
                if event.error is not None:
                    raise event.error
                break
            home = self._home
            assert home is not None  # there was no event before it
            if not home.queue.counts(event):
                home.others_taken += 1
            else:
                self._count += 1
                self._bytes += event_bytes(event)
                if self._count >= self._report_count or self._bytes >= self._report_bytes:
                    self._report()
            if self._messages is None:
                return cast(E, event)
            message = self._messages.take(event)
            if message is not None:
                return cast(E, message)
        raise StopIteration

    def _report(self) -> None:
        count, size, home = self._count, self._bytes, self._home
        self._count = self._bytes = 0
        if home is not None:
            self._runtime.driver.post(lambda now: self._runtime.consumed(home, self._feed, count, size, now))

    def close(self) -> None:
        """End the iteration. Does not wait, may be called again, and wakes the thread that waits in it."""
        if not self._ended:
            self._ended = True
            # Only posted: this may be called by the garbage collector, in any thread and at any line.
            if self._begun and self._runtime.driver.same_process:
                dropped = 0 if self._messages is None else self._messages.dropped
                self._runtime.driver.post(
                    lambda now: self._runtime.stop_iterating(self._home, self._feed, dropped, now)
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_report_bytes"):
            self.close()
