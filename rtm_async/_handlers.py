"""The handlers of one client: called in a task of their own, in the order of the events (S52, S53)."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

MAX_HANDLER_BACKLOG = 10_000
SLOW_HANDLER_SECONDS = 1.0
"""A handler that holds up the loop for longer is named in the log (F-25)."""

_log = logging.getLogger("rtm")


class _Subscription:
    __slots__ = ("active", "handler")

    def __init__(self, handler: Callable[[Any], object]) -> None:
        self.handler = handler
        self.active = True


class Handlers:
    """Who is to be called with which events, and the calls that wait."""

    def __init__(self) -> None:
        self.by_type: dict[type, list[_Subscription]] = {}
        self._backlog: deque[tuple[_Subscription, Any]] = deque()
        self._overflowing = False
        self.task: asyncio.Task[None] | None = None
        """What calls them, while there is something to do."""

    def add(self, event_type: type, handler: Callable[[Any], object]) -> Callable[[], None]:
        """Have ``handler`` called with each event of this class; returns what undoes it."""
        subscription = _Subscription(handler)
        subscriptions = self.by_type.setdefault(event_type, [])
        subscriptions.append(subscription)

        def unsubscribe() -> None:
            if subscription.active:
                subscription.active = False
                subscriptions.remove(subscription)

        return unsubscribe

    @property
    def in_handler(self) -> bool:
        """Whether the present task is the one that calls them."""
        return self.task is not None and asyncio.current_task() is self.task

    def give(self, event: Any, loop: asyncio.AbstractEventLoop) -> None:
        """An event has come."""
        kind = type(event)  # pyright: ignore[reportUnknownVariableType]
        for subscription in self.by_type.get(kind, ()):  # pyright: ignore[reportUnknownArgumentType]
            self._give_to(subscription, event, loop)

    def _give_to(self, subscription: _Subscription, event: Any, loop: asyncio.AbstractEventLoop) -> None:
        if len(self._backlog) >= MAX_HANDLER_BACKLOG:
            self._backlog.popleft()
            if not self._overflowing:
                self._overflowing = True
                _log.warning(
                    "handlers are too slow: above %d waiting events the oldest are dropped",
                    MAX_HANDLER_BACKLOG,
                )
        self._backlog.append((subscription, event))
        if self.task is None:
            # It lives only as long as there is something to do, so nothing has to end it.
            self.task = loop.create_task(self._run(), name="rtm-handlers")

    async def _run(self) -> None:
        try:
            while self._backlog:
                subscription, event = self._backlog.popleft()
                if subscription.active:
                    await self._call(subscription.handler, event)
                await asyncio.sleep(0)  # the network goes first
            self._overflowing = False
        finally:
            self.task = None

    async def _call(self, handler: Callable[[Any], object], event: Any) -> None:
        try:
            started = time.monotonic()
            result = handler(event)
            taken = time.monotonic() - started
            if taken > SLOW_HANDLER_SECONDS:
                _log.warning("the handler %r held up the event loop for %.1f s", handler, taken)
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            _log.exception("the handler %r of %s ended with a cancellation", handler, type(event).__name__)
        except Exception:
            _log.exception("the handler %r of %s raised", handler, type(event).__name__)

    async def finish(self, seconds: float) -> None:
        """Let them come to their end for at most so long, then cancel them; not from a handler."""
        task = self.task
        if task is None or self.in_handler:
            return
        _, late = await asyncio.wait([task], timeout=seconds)
        if late:
            _log.warning("a handler did not end in the time of close(); it is cancelled")
            task.cancel()
            await asyncio.wait([task], timeout=seconds)
