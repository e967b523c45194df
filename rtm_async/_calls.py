"""The calls of a client that wait for the end of a request: those that the core has, and those in front of a full core
(S9, S35)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from rtm_sansio.client import ClientCore
from rtm_sansio.config import ClientConfig
from rtm_sansio.errors import ClientClosed, Outcome, RequestsFull, RequestTimeout, RtmError, never_begun

from ._driver import ConnectingDriver


class Command(Protocol):
    """A command of the core, with all arguments but these."""

    def __call__(self, *, timeout_seconds: float | None, now: float) -> int: ...


class Call:
    """A caller that waits for its request; ``undo`` takes back a success that it never came to know of. It has no id
    while it waits for room."""

    __slots__ = ("future", "request_id", "undo")

    def __init__(self, future: asyncio.Future[Any], undo: Callable[[Any], None] | None) -> None:
        self.future = future
        self.undo = undo
        self.request_id: int | None = None

    def succeed(self, result: Any) -> None:
        """The request has succeeded."""
        if not self.future.done():
            self.future.set_result(result)
        elif self.undo is not None:
            self.undo(result)

    def fail(self, error: RtmError) -> None:
        """It has not."""
        if not self.future.done():
            self.future.set_exception(error)


class _Turn:
    """A call that waits for room in front of a full core (S35)."""

    __slots__ = ("call", "command", "deadline")

    def __init__(self, call: Call, command: Command, deadline: float) -> None:
        self.call = call
        self.command = command
        self.deadline = deadline


def closed_error() -> ClientClosed:
    """What calls get once the client is closed."""
    return ClientClosed("the client was closed; make a new one")


class Calls:
    """All calls of one client. Nothing is awaited between a call of the core and noting what came of it."""

    def __init__(self, core: ClientCore, config: ClientConfig) -> None:
        self._core = core
        self._config = config
        self._driver: ConnectingDriver
        self._loop: asyncio.AbstractEventLoop
        self._open: dict[int, Call] = {}
        self._room: deque[_Turn] = deque()

    def attach(self, driver: ConnectingDriver) -> None:
        """The driver is there, and with it the loop: before anything else."""
        self._driver = driver
        self._loop = driver.loop

    async def request(
        self,
        command: Command,
        timeout: float | None,
        *,
        soon: bool = False,
        cancellable: bool = True,
        undo: Callable[[Any], None] | None = None,
    ) -> Any:
        """Give the core a command, once there is room for it (S35), and wait for its end."""
        now = self._loop.time()
        if not self._room:  # nobody overtakes those who wait
            try:
                request_id = command(timeout_seconds=timeout, now=now)
            except RequestsFull:
                pass
            else:
                return await self.wait(self.begin(request_id, undo), soon=soon, cancellable=cancellable)
        seconds = self._config.request_timeout_seconds if timeout is None else timeout
        call = Call(self._loop.create_future(), undo)
        turn = _Turn(call, command, now + seconds)
        self._room.append(turn)
        timer = self._loop.call_at(turn.deadline, self._end_turn, turn, seconds)
        try:
            return await self.wait(call, soon=True, cancellable=cancellable)
        finally:
            timer.cancel()

    def begin(self, request_id: int, undo: Callable[[Any], None] | None = None) -> Call:
        """The core has begun a request, for whose end somebody will wait."""
        call = self._open[request_id] = Call(self._loop.create_future(), undo)
        call.request_id = request_id
        return call

    async def wait(self, call: Call, *, soon: bool = False, cancellable: bool = True) -> Any:
        """Have what the core wants done (``soon``: at the end of this pass of the loop), and wait for the call's end.

        A cancellation gives the request up, if it is ``cancellable``.
        """
        driver, future = self._driver, call.future
        if soon:
            driver.pump_soon()
        else:
            driver.pump()
        try:
            return await future
        except asyncio.CancelledError:
            if call.request_id is None:
                self._room = deque(turn for turn in self._room if turn.call is not call)
            elif self._open.pop(call.request_id, None) is not None:
                if cancellable:
                    self._core.cancel(call.request_id, now=self._loop.time())
            elif call.undo is not None and not future.cancelled() and future.exception() is None:
                call.undo(future.result())  # it had succeeded, but its caller will never know
            driver.pump()
            raise

    # --- the end of a request

    def take(self, request_id: int) -> Call | None:
        """Whoever waits for this request, which has ended."""
        return self._open.pop(request_id, None)

    def give_up(self, request_id: int, too_late: Callable[[], RtmError]) -> None:
        """The time of a call is over: its request is cancelled."""
        call = self.take(request_id)
        if call is not None:
            self._core.cancel(request_id, now=self._loop.time())
            call.fail(too_late())
            self._driver.pump()

    def stop_waiting(self, request_id: int) -> None:
        """The time of a call is over: it returns, and the request goes on."""
        call = self.take(request_id)
        if call is not None:
            call.succeed(None)

    # --- room

    def give_room(self) -> None:
        """Whenever something may have changed: those who wait for room get it, in the order of their calls.

        Not only when a request ends: an answer that nobody waits for any more makes room too.
        """
        while self._room:
            turn, now = self._room[0], self._loop.time()
            call = turn.call
            if not call.future.done():
                try:
                    request_id = turn.command(timeout_seconds=max(turn.deadline - now, 0.001), now=now)
                except RequestsFull:
                    return
                except RtmError as error:  # such as the end of the session
                    call.future.set_exception(error)
                else:
                    call.request_id = request_id
                    self._open[request_id] = call
                self._driver.pump_soon()
            self._room.popleft()

    def _end_turn(self, turn: _Turn, seconds: float) -> None:
        if turn.call.request_id is None:
            turn.call.fail(
                RequestTimeout(
                    f"too many requests were unanswered for {seconds:g} s; this one was not sent",
                    outcome=Outcome.NOT_SENT,
                )
            )

    # --- the end of the client

    def end_room_waiters(self) -> None:
        """The client is being closed: nobody gets room any more."""
        while self._room:
            self._room.popleft().call.fail(never_begun())

    def end_all(self) -> None:
        """The client is closed."""
        calls = list(self._open.values())
        self._open.clear()
        for call in calls:
            if not call.future.done():
                call.future.set_exception(closed_error())
                call.future.exception()  # retrieved: the caller may have been cancelled
