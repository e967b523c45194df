"""The part of a client that lives on its I/O thread: the core on its driver, open requests, and who gets its events.

The I/O thread refers to this and not to the ``Client``, so that a client that nobody refers to any more is
collected, says so (ResourceWarning), and ends its thread.
"""

from __future__ import annotations

import logging
import os
import random
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from rtm_sansio.client import ClientCore
from rtm_sansio.config import ClientConfig
from rtm_sansio.effects import AskToken, Endpoint
from rtm_sansio.endpoints import login_timed_out
from rtm_sansio.errors import (
    ClientClosed,
    LoginTimeout,
    NotJoined,
    NotLoggedIn,
    Outcome,
    RequestsFull,
    RequestTimeout,
    RtmError,
    never_begun,
)
from rtm_sansio.events import (
    ConnectionStateChanged,
    JoinReceipt,
    RequestCompleted,
    RequestErred,
    home_of,
)
from rtm_sansio.queues import ending_of
from rtm_sansio.states import ConnectionState

from ._connect import Resolver, resolve
from ._driver import Driver
from ._handlers import Handlers
from ._homes import Home
from ._provider import TokenProvider
from ._threads import Reply, close_at_exit, closed_already

E = TypeVar("E")

_JOINABLE = (ConnectionState.CONNECTED, ConnectionState.RECONNECTING)

log = logging.getLogger("rtm")


def closed_error(fault: BaseException | None) -> RtmError:
    """What calls get once the client is closed, or its I/O thread has ended by ``fault``."""
    if fault is None:
        return ClientClosed("the client was closed; make a new one")
    error = ClientClosed("the client has ended by an internal error, which was logged; make a new one")
    error.__cause__ = fault
    return error


class Runtime:
    """Between a ``ClientCore`` on its driver and the blocking calls of a ``Client``."""

    def __init__(
        self,
        config: ClientConfig,
        endpoints: Sequence[Endpoint],
        tls: ssl.SSLContext | None,
        *,
        resolver: Resolver = resolve,
    ) -> None:
        self.config = config
        # The jitter's randomness, and the secrets' (S18, S19).
        self.core = ClientCore(config, endpoints=endpoints, rng=random.Random(), entropy=os.urandom)
        self.driver = Driver(
            self.core,
            self._on_output,
            name="rtm-client",
            tls=tls,
            on_ended=self._on_ended,
            ended_error=closed_error,
            after_pass=self._after_pass,
            resolver=resolver,
        )
        self.client_home = Home("", config)
        self.closed = False
        """Whether ``close`` was called."""
        self.ended = False
        """Whether the I/O thread does nothing more: whatever the core says, nobody is connected."""
        self._homes: dict[str, Home] = {"": self.client_home}
        self._waiting: dict[int, Reply[Any]] = {}
        self._full: deque[tuple[Reply[Any], Callable[[float], int]]] = deque()
        self._closing = False
        self._closing_request: int | None = None
        self._closers: list[Reply[None]] = []
        self.handlers = Handlers()
        self._provider = TokenProvider(self.core, self.driver)

    # --- from any thread

    def start(self) -> None:
        """Start the I/O thread. Raises InvalidState in a forked process."""
        if not self.driver.started:
            self.driver.start()
            close_at_exit(self)

    def request(
        self,
        command: Callable[[float], int],
        *,
        timeout: float | None = None,
        waits: bool = True,
        undo: Callable[[Any, float], object] | None = None,
        too_late: Callable[[], RtmError] | None = None,
        cancellable: bool = True,
    ) -> Any:
        """Run a command of the core, which starts a request, and wait for the request's end: its result or
        its error.

        With ``waits`` it is tried again when the core is full (S35). After ``timeout`` seconds the error of
        ``too_late`` is raised and the request is cancelled; without ``too_late`` only the wait in front of a
        full core is bounded, and the rest left to the core's own timer. If the wait ends by Ctrl-C the
        request is cancelled as well, if it is ``cancellable``; ``undo`` takes back a result that came just
        then.
        """
        reply: Reply[Any] = Reply()
        self.start()
        try:
            self.driver.post(lambda now: self._begin(reply, command, waits, now), reply.fail)
            try:
                return reply.wait(timeout)
            except Empty:
                pass  # what is raised below must not show this as its context
            if too_late is None:
                self.driver.call(lambda now: self._expire(reply, timeout))
                return reply.wait()
            self._give_up(reply, undo, cancellable)
            raise too_late()
        except RtmError:
            raise
        except BaseException:
            self._give_up(reply, undo, cancellable)
            raise

    def _give_up(self, reply: Reply[Any], undo: Callable[[Any, float], object] | None, cancellable: bool) -> None:
        """Nobody waits for ``reply`` any more."""

        def cancel(now: float) -> None:
            if not reply.answered:
                reply.answered = True
                if reply.request_id is not None:
                    self._waiting.pop(reply.request_id, None)
                    if cancellable:
                        self.core.cancel(reply.request_id, now=now)
            elif undo is not None and reply.succeeded:
                try:
                    undo(reply.result, now)
                except RtmError as error:
                    log.debug("= nothing to take back: %s", error)

        self.driver.post(cancel)

    def begin_close(self) -> Reply[None]:
        """End all calls and iterators and log out; the reply comes when the server has confirmed it, or will not."""
        reply: Reply[None] = Reply()
        self.closed = True
        if self.driver.started:
            self.driver.post(lambda now: self._close(reply, now), lambda _: reply.succeed(None))
        else:
            reply.succeed(None)
        return reply

    def finish_close(self, *, within: float) -> None:
        """End the driver, within so many seconds; the I/O thread itself does not wait for its end."""
        self.driver.stop(within=within)
        self.driver.join(within + 1.0)

    # --- the I/O thread: commands

    def is_current(self, home: Home) -> bool:
        """Whether it is the present home of its name, and has not ended."""
        return self._homes.get(home.name) is home and not home.queue.ended

    def check_joined(self, home: Home) -> None:
        """Raises NotJoined if this is not the present home of its channel.

        Not without a session: then the core says better what is wrong.
        """
        if home.queue.ended and self.core.state in _JOINABLE:
            raise NotJoined(f"this Channel of {home.name!r} has ended; join() gives a new one")

    def check_open(self) -> None:
        """Raises ClientClosed once ``close`` was called."""
        if self.closed:
            raise closed_error(None)

    def login(self, uid: str, token: str | Callable[[], str] | None, now: float) -> int:
        """The core's login; begins a new stream of the client's own events if the last one has ended."""
        provider = token if callable(token) else None
        text = None if callable(token) else token
        request_id = self.core.login(uid, text, token_provider=provider is not None, now=now)
        self._provider.set(provider)
        self.driver.last_failure = None
        if self.client_home.queue.ended:
            self.client_home = self._homes[""] = Home("", self.config)
        return request_id

    def login_timeout(self, timeout: float | None) -> LoginTimeout:
        """What a login raises whose own timeout is over."""
        uid, attempts = self.core.uid or "", self.core.attempts
        return login_timed_out(uid, timeout or 0.0, attempts=attempts, cause=self.driver.last_failure)

    def leave(self, home: Home, timeout_seconds: float | None, now: float) -> int:
        """The core's leave; its iterator ends at once."""
        self.check_joined(home)
        request_id = self.core.leave(home.name, timeout_seconds=timeout_seconds, now=now)
        self._end_home(home, None)
        return request_id

    def undo_login(self, _: object, now: float) -> None:
        """A login that nobody waits for any more is a logout (S3)."""
        self.core.logout(now=now)

    def undo_join(self, joined: tuple[JoinReceipt, Home], now: float) -> None:
        """A channel that nobody has got is left."""
        try:
            self.leave(joined[1], None, now)
        finally:
            self._end_home(joined[1], None)

    def consumed(self, home: Home, feed: SimpleQueue[Any], count: int, size: int, now: float) -> None:
        """An iterator took events."""
        if home.feed is feed and self.is_current(home):
            self.core.consumed(home.name, count, size, now=now)

    def stop_iterating(self, home: Home | None, feed: SimpleQueue[Any], dropped: int, now: float) -> None:
        """An iterator is gone; without ``home`` it never began. ``dropped`` is what it was told and did not show."""
        if home is not None and home.feed is feed:
            home.stop_iterating(dropped)
            if self.is_current(home):
                self.core.iterating(home.name, False, now=now)

    def _begin(self, reply: Reply[Any], command: Callable[[float], int], waits: bool, now: float) -> None:
        if self._closing:
            reply.fail(closed_error(None))
        elif waits and self._full:  # in the order of the calls
            self._full.append((reply, command))
        elif not self._try(reply, command, now):
            if waits:
                self._full.append((reply, command))
            else:
                reply.fail(RequestsFull("too many requests are unanswered"))

    def _try(self, reply: Reply[Any], command: Callable[[float], int], now: float) -> bool:
        """Start a request, or let its caller know why not; False if the core is full."""
        try:
            reply.request_id = command(now)
        except RequestsFull:
            return False
        except Exception as error:
            reply.fail(error)
        else:
            self._waiting[reply.request_id] = reply
        return True

    def _expire(self, reply: Reply[Any], timeout: float | None) -> None:
        """The time of a call is over. If it was never begun it ends here; else the core's own timer ends it."""
        if not reply.answered and reply.request_id is None:
            reply.fail(
                RequestTimeout(
                    f"too many requests were unanswered for {timeout:g} s; this one was not sent",
                    outcome=Outcome.NOT_SENT,
                )
            )

    def _after_pass(self, now: float) -> None:
        while self._full:
            reply, command = self._full[0]
            if not reply.answered and not self._try(reply, command, now):
                return
            self._full.popleft()

    def _close(self, reply: Reply[None], now: float) -> None:
        self._closers.append(reply)
        if self._closing:
            if self._closing_request is None:
                self._tell_closers()
            return
        self._closing = True
        for call, _ in self._full:
            call.fail(never_begun())
        self._full.clear()
        try:
            self._closing_request = self.core.logout(now=now)  # which ends all that waits, and says what became of it
        except NotLoggedIn:
            self._end_homes(lambda: None)
            self._tell_closers()

    def _tell_closers(self) -> None:
        self._closing_request = None
        for reply in self._closers:
            reply.succeed(None)
        self._closers.clear()

    # --- the I/O thread: what comes out of the core

    def _on_output(self, output: Any) -> None:
        kind = type(output)  # pyright: ignore[reportUnknownVariableType]
        if kind is RequestCompleted:
            result = output.result
            if type(result) is JoinReceipt:
                home = self._homes[result.channel] = Home(result.channel, self.config)
                result = (result, home)
            self._ended_request(output.request_id, lambda reply: reply.succeed(result))
        elif kind is RequestErred:
            self._ended_request(output.request_id, lambda reply: reply.fail(output.error))
        elif kind is AskToken:
            self._provider.ask(output.ask_id)
        else:
            name = home_of(output)
            home_or_none = self._homes.get(name)
            if home_or_none is not None:
                home_or_none.put(output)
            self.handlers.give(output)
            if kind is ConnectionStateChanged:
                log.info("= %s %s (%s)", self.core.uid, output.state.value, output.code or output.reason.value)
            ending = ending_of(output)
            if ending is not None:
                self._end_homes(ending.error, only=ending.home)

    def _ended_request(self, request_id: int, tell: Callable[[Reply[Any]], None]) -> None:
        reply = self._waiting.pop(request_id, None)
        if reply is not None:
            tell(reply)
        elif request_id == self._closing_request:
            self._tell_closers()

    def _end_homes(self, error: Callable[[], RtmError | None], *, only: str | None = None) -> None:
        for home in list(self._homes.values()):
            if only is None or home.name == only:
                self._end_home(home, error())

    def _end_home(self, home: Home, error: RtmError | None) -> None:
        home.end(error)
        if home is not self.client_home and self._homes.get(home.name) is home:
            del self._homes[home.name]

    def _on_ended(self, fault: BaseException | None) -> None:
        self.ended = True
        self._closing = True
        self._tell_closers()
        self._fail_waiting(lambda: closed_error(fault))
        self._end_homes(lambda: None if fault is None else closed_error(fault))
        self.handlers.close()
        closed_already(self)

    def _fail_waiting(self, error: Callable[[], RtmError]) -> None:
        for reply in self._waiting.values():
            reply.fail(error())
        self._waiting.clear()
        for reply, _ in self._full:
            reply.fail(error())
        self._full.clear()
