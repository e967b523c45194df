"""The homes of events of one client (S52): a queue for each, its one iterator, and what the core is told of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from rtm_sansio.client import ClientCore
from rtm_sansio.config import ClientConfig
from rtm_sansio.errors import InvalidState, RtmError
from rtm_sansio.queues import Ending, HomeQueue, MessageFilter, event_bytes

from ._driver import ConnectingDriver

CONSUMED_BATCH = 64
"""So many events are taken out of a queue before the core is told, or fewer if it is empty (S52)."""

E = TypeVar("E")


class Home:
    """One home's queue, and the one iterator that may wait for it."""

    __slots__ = ("queue", "waiter")

    def __init__(self, name: str, config: ClientConfig) -> None:
        self.queue = HomeQueue(
            name,
            max_uniterated_events=config.max_uniterated_events,
            max_queued_events=config.max_queued_events,
            max_queued_bytes=config.max_queued_bytes,
        )
        self.waiter: asyncio.Future[None] | None = None

    def end(self, error: RtmError | None = None) -> None:
        """Nothing more will come."""
        self.queue.end(error)
        self.wake()

    def wake(self) -> None:
        """There is something to be seen for the iterator."""
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for it. Raises InvalidState if another task does."""
        if self.waiter is not None:
            raise InvalidState("another task waits for this iterator; use one iterator in one task at a time")
        waiter = self.waiter = loop.create_future()
        try:
            await waiter
        finally:
            if self.waiter is waiter:
                self.waiter = None


class Homes:
    """All homes of one client by name, "" for its own. ``check_loop`` and ``check_open`` say whether it can be used."""

    def __init__(
        self,
        core: ClientCore,
        config: ClientConfig,
        check_loop: Callable[[], asyncio.AbstractEventLoop],
        check_open: Callable[[], None],
    ) -> None:
        self._core = core
        self._config = config
        self._pid = os.getpid()
        self._driver: ConnectingDriver | None = None
        self.check_loop = check_loop
        self.check_open = check_open
        self.by_name: dict[str, Home] = {"": Home("", config)}

    def attach(self, driver: ConnectingDriver) -> None:
        """The driver is there: before anything is iterated."""
        self._driver = driver

    @property
    def own(self) -> Home:
        """Of the client itself, in this login or the last one."""
        return self.by_name[""]

    def new(self, name: str) -> Home:
        """A new home: what comes from now on belongs there."""
        home = self.by_name[name] = Home(name, self._config)
        return home

    def end(self, name: str, error: RtmError | None = None) -> None:
        """The end of a channel's home."""
        home = self.by_name.pop(name, None)
        if home is not None:
            home.end(error)

    def end_those_of(self, ending: Ending) -> None:
        """The end that an event stands for: of one channel, or of the session."""
        for name in list(self.by_name):
            if name and ending.home in (None, name):
                self.end(name, ending.error())
        if ending.home is None:
            self.own.end(ending.error())

    def end_all(self) -> None:
        """The client is closed."""
        for home in self.by_name.values():
            home.end()

    # --- iterations

    def _is_current(self, home: Home) -> bool:
        return self.by_name.get(home.queue.home) is home and not home.queue.ended

    def begin_iterating(self, home: Home) -> None:
        """Somebody iterates: from now on it is lossless."""
        if self._is_current(home):
            assert self._driver is not None
            count, size = home.queue.backlog
            now = self._driver.time()
            self._core.iterating(home.queue.home, True, backlog_events=count, backlog_bytes=size, now=now)
            self._driver.pump()

    def consumed(self, home: Home, count: int, byte_count: int) -> None:
        """An iterator took so many events."""
        if self._is_current(home):
            assert self._driver is not None
            self._core.consumed(home.queue.home, count, byte_count, now=self._driver.time())
            self._driver.pump_soon()

    def end_iterating(self, home: Home) -> None:
        """Tell the core later: this may be the garbage collector, in any thread, at any moment."""
        if self._driver is None or os.getpid() != self._pid:
            return
        loop = self._driver.loop
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        schedule = loop.call_soon if running is loop else loop.call_soon_threadsafe
        try:
            schedule(self._iteration_ended, home)
        except RuntimeError:  # the loop is closed: there is nobody to be told
            pass

    def _iteration_ended(self, home: Home) -> None:
        if self._is_current(home) and not home.queue.iterated:
            assert self._driver is not None
            self._core.iterating(home.queue.home, False, now=self._driver.time())
            self._driver.pump()


class EventIterator(Generic[E]):
    """Yields events as they come; made by ``events()`` and by ``async for ... in channel``.

    It goes on through interruptions. It ends behind the last event after ``leave()`` (of its channel),
    ``logout()`` and ``close()``; it raises SessionEnded when the server has ended the session, and
    ChannelUnavailable when its channel could not be rejoined. It begins with the first step, which raises
    InvalidState if another one is at work on the same events, and ClientClosed after ``close()``. Leaving the
    loop, or ``aclose()``, ends it; events then wait for the next one.
    """

    __slots__ = ("_bytes", "_count", "_find_home", "_home", "_homes", "_messages", "_stopped")

    def __init__(self, homes: Homes, find_home: Callable[[], Home], messages: MessageFilter | None) -> None:
        self._homes = homes
        self._find_home = find_home
        self._home: Home | None = None
        self._messages = messages
        self._stopped = False
        self._count = 0
        self._bytes = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        home = self._home or self._start()
        queue = home.queue
        while not self._stopped:
            event: Any = queue.pop()
            if event is None:
                self._report(home)
                if self._is_over(queue):
                    break
                await home.wait(self._homes.check_loop())
                continue
            if queue.counts(event):
                self._count += 1
                self._bytes += event_bytes(event)
                if self._count >= CONSUMED_BATCH:
                    self._report(home)
            if self._messages is None:
                return event  # type: ignore[no-any-return]
            message = self._messages.take(event)
            if message is not None:
                return message  # type: ignore[return-value]
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the iteration; it may be begun again with a new iterator."""
        self._stop()

    def _start(self) -> Home:
        self._homes.check_loop()
        home = self._find_home()
        if not self._stopped:
            self._homes.check_open()
            home.queue.start_iterating()
            self._home = home
            self._homes.begin_iterating(home)
        return home

    def _report(self, home: Home) -> None:
        if self._count:
            self._homes.consumed(home, self._count, self._bytes)
            self._count = self._bytes = 0

    def _is_over(self, queue: HomeQueue) -> bool:
        try:
            over = queue.check_end()
        except RtmError:
            self._stop()
            raise
        if over:
            self._stop()
        return over

    def _stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        if self._home is not None:
            if self._messages is not None:
                self._home.queue.put_back((), dropped=self._messages.dropped)
            self._home.queue.stop_iterating()
            self._home.wake()
            self._homes.end_iterating(self._home)

    def __del__(self) -> None:
        # Here ends an "async for" that was left by a break: at once, so that the next one can begin.
        self._stop()
