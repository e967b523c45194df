"""The hub's way to the engine, embedded or outside: one code path (S46, E3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from ._hubparts import HubContext
from .engine import MemoryEngine
from .operations import (
    READS,
    Announcement,
    Answer,
    DetachLost,
    DetachSession,
    EngineCall,
    Operation,
    ReportSilence,
    home_of_operation,
)

_Then = Callable[[Any], None] | None


class _Call:
    """A call that is under way, or waits for its turn on its home."""

    __slots__ = ("home", "made_at", "operation", "then", "though_closed")

    def __init__(self, operation: Operation, home: str | None, then: _Then, though_closed: bool, now: float) -> None:
        self.operation = operation
        self.home = home
        self.then = then
        self.though_closed = though_closed
        self.made_at = now


class EnginePort:
    """Operations go out and answers come in, one call on a home at a time. ``on_announcement`` gets what is
    announced."""

    def __init__(self, context: HubContext, *, external: bool) -> None:
        self._context = context
        self._embedded = None if external else MemoryEngine(context.config, entropy=context.entropy)
        self._draining = False
        self._last_call_id = 0
        self._connected = True
        self._calls: dict[int, _Call] = {}
        self._lanes: dict[str, deque[_Call]] = {}
        self.on_announcement: Callable[[Announcement], None] = lambda announcement: None

    @property
    def is_external(self) -> bool:
        """Whether the engine outlives the hub, and can be cut from it."""
        return self._embedded is None

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
            self._issue(_Call(operation, None, then, though_closed, self._context.now))
            return
        home = home_of_operation(operation)
        call = _Call(operation, home, then, though_closed, self._context.now)
        lane = self._lanes.get(home)
        if lane is None:
            self._lanes[home] = deque()
            self._issue(call)
        else:
            lane.append(call)

    def queued(self, home: str) -> int:
        """How many calls wait for their turn on a home: many only if the engine hangs."""
        return len(self._lanes.get(home, ()))

    def _issue(self, call: _Call) -> None:
        self._last_call_id += 1
        self._calls[self._last_call_id] = call
        if self._connected:
            self._send(self._last_call_id, call)

    def _send(self, call_id: int, call: _Call) -> None:
        operation = call.operation
        if isinstance(operation, (DetachSession, DetachLost)) or (
            isinstance(operation, ReportSilence) and operation.silent_seconds > 0
        ):  # the silence went on while the call waited (E6)
            silent_seconds = operation.silent_seconds + self._context.now - call.made_at
            operation = replace(operation, silent_seconds=silent_seconds)
        self._context.outputs.append(EngineCall(call_id=call_id, operation=operation))

    def answered(self, call_id: int, answer: Answer) -> None:
        """An outside engine carried out a call. An unknown or repeated id is ignored."""
        call = self._calls.pop(call_id, None)
        if call is None:
            return
        if call.home is not None:
            lane = self._lanes[call.home]
            if lane:
                self._issue(lane.popleft())
            else:
                del self._lanes[call.home]
        if call.then is not None and (call.though_closed or not self._context.closed):
            call.then(answer)

    # ---------------------------------------------------------------------------- the connection to the engine

    def lost(self) -> None:
        """The connection to the engine is gone: calls wait, and nobody knows what became of those under way."""
        self._connected = False

    def restored(self) -> bool:
        """It is back: what is unanswered is asked again, under the same ids, in their order. False if it was never
        gone."""
        if self._connected:
            return False
        self._connected = True
        for call_id, call in self._calls.items():
            self._send(call_id, call)
        return True

    def forget(self) -> None:
        """Whatever was asked is not asked any more, and what is answered to it not heard (E7, E8)."""
        self._calls.clear()
        self._lanes.clear()
        outputs = self._context.outputs
        outputs[:] = [output for output in outputs if not isinstance(output, EngineCall)]

    # ------------------------------------------------------------------------------------- the embedded engine

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
