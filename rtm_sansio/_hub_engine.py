"""The hub's way to the engine, embedded or outside: one code path (S46, E3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ._hubparts import HubContext
from .engine import MemoryEngine
from .operations import READS, Announcement, Answer, EngineCall, Operation, home_of_operation

_Then = Callable[[Any], None] | None


class EnginePort:
    """Operations go out and answers come in, one call on a home at a time. ``on_announcement`` gets what is
    announced."""

    def __init__(self, context: HubContext, *, external: bool) -> None:
        self._context = context
        self._embedded = None if external else MemoryEngine(context.config, entropy=context.entropy)
        self._draining = False
        self._last_call_id = 0
        self._calls: dict[int, tuple[str | None, _Then, bool]] = {}
        self._lanes: dict[str, deque[tuple[Operation, _Then, bool]]] = {}
        self.on_announcement: Callable[[Announcement], None] = lambda announcement: None

    def call(self, operation: Operation, then: _Then = None, *, though_closed: bool = False) -> None:
        """Have an operation carried out; ``then`` gets its answer, at once or later: also in a hub that was closed
        meanwhile, if something must follow from it."""
        if self._embedded is not None:
            answer = self._embedded.execute(operation, now=self._context.now)
            if then is not None:
                then(answer)
            self._drain()
            return
        if isinstance(operation, READS):  # changes nothing, and waits for nothing
            self._issue(None, operation, then, though_closed)
            return
        home = home_of_operation(operation)
        lane = self._lanes.get(home)
        if lane is None:
            self._lanes[home] = deque()
            self._issue(home, operation, then, though_closed)
        else:
            lane.append((operation, then, though_closed))

    def queued(self, home: str) -> int:
        """How many calls wait for their turn on a home: many only if the engine hangs."""
        return len(self._lanes.get(home, ()))

    def _issue(self, home: str | None, operation: Operation, then: _Then, though_closed: bool) -> None:
        self._last_call_id += 1
        self._calls[self._last_call_id] = (home, then, though_closed)
        self._context.outputs.append(EngineCall(call_id=self._last_call_id, operation=operation))

    def answered(self, call_id: int, answer: Answer) -> None:
        """An outside engine carried out a call. An unknown or repeated id is ignored."""
        home, then, though_closed = self._calls.pop(call_id, (None, None, False))
        if home is not None:
            lane = self._lanes[home]
            if lane:
                self._issue(home, *lane.popleft())
            else:
                del self._lanes[home]
        if then is not None and (though_closed or not self._context.closed):
            then(answer)

    def _drain(self) -> None:
        """Pass on what the embedded engine announces, in its order: what that brings about comes behind it."""
        if self._draining or self._embedded is None:
            return
        self._draining = True
        try:
            while announcements := self._embedded.take_announcements():
                for _, announcement in announcements:
                    self.on_announcement(announcement)
        finally:
            self._draining = False

    def next_deadline(self) -> float | None:
        """The embedded engine's."""
        return None if self._embedded is None else self._embedded.next_deadline()

    def handle_timeout(self) -> None:
        """Let the embedded engine end what is over."""
        deadline = self.next_deadline()
        if self._embedded is not None and deadline is not None and deadline <= self._context.now:
            self._embedded.handle_timeout(now=self._context.now)
            self._drain()

    def set_wall_clock(self, unix_seconds: float) -> None:
        """For the embedded engine's login epochs (S31)."""
        if self._embedded is not None:
            self._embedded.set_wall_clock(unix_seconds, now=self._context.now)
