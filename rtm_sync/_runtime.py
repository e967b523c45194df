"""The part of a client that lives on its I/O thread: open requests, homes of events, handlers, the token
provider.

The I/O thread refers to this and not to the ``Client``, so that a client that nobody refers to any more is
collected, says so (ResourceWarning), and ends its thread.
"""

from __future__ import annotations

import logging
import math
import os
import random
import ssl
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from rtm_sansio.auth import FailureNotes, ask_provider, provider_failure
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
    EventsDropped,
    JoinReceipt,
    RequestCompleted,
    RequestErred,
    home_of,
)
from rtm_sansio.queues import HomeQueue, MessageFilter, ending_of, event_bytes
from rtm_sansio.states import ConnectionState

from ._connect import Resolver, resolve
from ._driver import Driver
from ._threads import Reply, Workers, close_at_exit, closed_already, start_daemon

E = TypeVar("E")

MAX_WAITING_HANDLERS = 10_000
"""Calls of handlers that wait for the dispatcher thread; above it the oldest are dropped."""
MAX_ASKING = 4
"""Calls of the token provider at a time, should it hang."""
CONSUMED_BATCH = 64
"""Events taken by an iterator are reported in batches of at most this size."""

_JOINABLE = (ConnectionState.CONNECTED, ConnectionState.RECONNECTING)

log = logging.getLogger("rtm")


def closed_error(fault: BaseException | None) -> RtmError:
    """What calls get once the client is closed, or its I/O thread has ended by ``fault``."""
    if fault is None:
        return ClientClosed("the client was closed; make a new one")
    error = ClientClosed("the client has ended by an internal error, which was logged; make a new one")
    error.__cause__ = fault
    return error


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


class Handler:
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
        self._handlers: tuple[Handler, ...] = ()
        self._handlers_lock = threading.Lock()
        self._dispatcher = Workers("rtm-handlers", threads=1, max_waiting=MAX_WAITING_HANDLERS)
        self._dropping = False
        self._provider: Callable[[], str] | None = None
        self._provider_faults = FailureNotes(interval_seconds=math.inf)
        self._asking = 0

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

    def add_handler(self, handler: Handler) -> None:
        """Have ``handler`` called with the events of its type."""
        with self._handlers_lock:
            self._handlers = (*self._handlers, handler)

    def remove_handler(self, handler: Handler) -> None:
        """Have it called no more."""
        handler.active = False
        with self._handlers_lock:
            self._handlers = tuple(one for one in self._handlers if one is not handler)

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
        self._provider = provider
        self._provider_faults = FailureNotes(interval_seconds=math.inf)  # each once in a login
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
            self._ask(output.ask_id)
        else:
            name = home_of(output)
            home_or_none = self._homes.get(name)
            if home_or_none is not None:
                home_or_none.put(output)
            self._dispatch(output)
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

    def _dispatch(self, event: Any) -> None:
        for handler in self._handlers:
            if isinstance(event, handler.event_type):
                self._call_later(handler, event)

    def _call_later(self, handler: Handler, event: Any) -> None:
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

    def _ask(self, ask_id: int) -> None:
        provider = self._provider
        assert provider is not None
        if self._asking >= MAX_ASKING:
            fault = TimeoutError(f"{self._asking} earlier calls of the token provider have not returned")
            self._provider_failed(ask_id, fault, time.monotonic())
            return

        def ask() -> None:
            try:
                token = ask_provider(provider)
            except BaseException as error:  # whatever it was, the core is to know that no token comes
                cause = error
                self.driver.post(lambda now: self._asked(lambda: self._provider_failed(ask_id, cause, now)))
            else:
                self.driver.post(lambda now: self._asked(lambda: self.core.token_supplied(ask_id, token, now=now)))

        try:
            start_daemon(ask, f"rtm-token-{ask_id}")
        except RuntimeError as error:  # the interpreter exits, or is out of threads
            self._provider_failed(ask_id, error, time.monotonic())
        else:
            self._asking += 1

    def _provider_failed(self, ask_id: int, fault: BaseException, now: float) -> None:
        self.driver.last_failure = failure = provider_failure(fault)
        if self._provider_faults.take(fault, now) is not None:
            # Without the text of the exception, which might hold a token.
            log.warning(
                "! %s; it is asked again:\n%s", failure, "".join(traceback.format_tb(fault.__traceback__)).rstrip()
            )
        self.core.token_failed(ask_id, fault, now=now)

    def _asked(self, tell: Callable[[], None]) -> None:
        self._asking -= 1
        tell()

    def _on_ended(self, fault: BaseException | None) -> None:
        self.ended = True
        self._closing = True
        self._tell_closers()
        self._fail_waiting(lambda: closed_error(fault))
        self._end_homes(lambda: None if fault is None else closed_error(fault))
        self._dispatcher.close()
        closed_already(self)

    def _fail_waiting(self, error: Callable[[], RtmError]) -> None:
        for reply in self._waiting.values():
            reply.fail(error())
        self._waiting.clear()
        for reply, _ in self._full:
            reply.fail(error())
        self._full.clear()
