"""The handlers of one client: called in a thread of their own, in the order of the events (S52, S53)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from ._threads import Workers

MAX_WAITING_HANDLERS = 10_000
"""Calls of handlers that wait for the dispatcher thread; above it the oldest are dropped."""

log = logging.getLogger("rtm")


class _Handler:
    """One registration of ``on``."""

    __slots__ = ("active", "event_type", "function")

    def __init__(self, event_type: type[Any], function: Callable[[Any], object]) -> None:
        self.event_type = event_type
        self.function = function
        self.active = True

    def run(self, event: Any) -> None:
        """Call it, unless it was taken back meanwhile."""
        if self.active:
            self.function(event)


class Handlers:
    """Who is to be called with which events, and the thread that calls."""

    def __init__(self) -> None:
        self._registered: tuple[_Handler, ...] = ()
        self._lock = threading.Lock()
        self._dispatcher = Workers("rtm-handlers", threads=1, max_waiting=MAX_WAITING_HANDLERS)
        self._dropping = False

    def add(self, event_type: type[Any], function: Callable[[Any], object]) -> Callable[[], None]:
        """Have ``function`` called with each event of this class; returns what undoes it. From any thread."""
        handler = _Handler(event_type, function)
        with self._lock:
            self._registered = (*self._registered, handler)

        def remove() -> None:
            handler.active = False
            with self._lock:
                self._registered = tuple(one for one in self._registered if one is not handler)

        return remove

    def give(self, event: Any) -> None:
        """An event has come, on the I/O thread."""
        for handler in self._registered:
            if isinstance(event, handler.event_type):
                self._call_later(handler, event)

    def _call_later(self, handler: _Handler, event: Any) -> None:
        if not self._dispatcher.full:
            self._dropping = False
        else:
            if not self._dropping:
                log.warning("= handlers are too slow: %d calls wait, the oldest are dropped", MAX_WAITING_HANDLERS)
            self._dropping = True
            self._dispatcher.drop_oldest()
        try:
            self._dispatcher.submit(lambda: handler.run(event))
        except RuntimeError as fault:  # the interpreter exits
            log.debug("= no thread for handlers: %s", fault)

    def close(self) -> None:
        """Nobody is called any more, but for what waits already."""
        self._dispatcher.close()
