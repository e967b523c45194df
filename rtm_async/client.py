"""The asyncio client: ``Client`` and ``Channel``, thin around ``ClientCore``.

Whatever a call asks of the core, and whatever comes out, happens without an ``await`` in between: a
cancelled call can leave nothing half done.
"""

# Client, Channel and EventIterator are one unit, and share what is nobody else's.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import math
import os
import random
import ssl as ssl_module
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from rtm_sansio.auth import FailureNotes, ask_provider, check_token_source
from rtm_sansio.checks import check_timeout
from rtm_sansio.client import ClientCore
from rtm_sansio.config import ClientConfig
from rtm_sansio.effects import AskToken
from rtm_sansio.endpoints import check_client_tls, check_config, login_timed_out, parse_endpoints
from rtm_sansio.errors import (
    ClientClosed,
    InvalidState,
    NotJoined,
    NotLoggedIn,
    Outcome,
    RequestsFull,
    RequestTimeout,
    RtmError,
)
from rtm_sansio.events import (
    ChannelEvent,
    ChannelMessageReceived,
    ClientEvent,
    ConnectionStateChanged,
    EventsDropped,
    JoinReceipt,
    RequestCompleted,
    RequestErred,
    SendReceipt,
    TokenReceipt,
    home_of,
)
from rtm_sansio.queues import Ending, HomeQueue, MessageFilter, check_handler, ending_of
from rtm_sansio.states import ConnectionState

from ._driver import LINGER_SECONDS, ConnectingDriver

CONSUMED_BATCH = 64
"""So many events are taken out of a queue before the core is told, or fewer if it is empty (S52)."""
MAX_HANDLER_BACKLOG = 10_000
SLOW_HANDLER_SECONDS = 1.0
"""A handler that holds up the loop for longer is named in the log (F-25)."""
MAX_PROVIDER_THREADS = 4
"""Calls of a token provider that have not returned; with more of them it counts as failed (F-54)."""

_DEFAULT_CONFIG = ClientConfig()
_JOINABLE = (ConnectionState.CONNECTED, ConnectionState.RECONNECTING)
_log = logging.getLogger("rtm")
_E = TypeVar("_E")


class _Command(Protocol):
    """A command of the core, with all arguments but these."""

    def __call__(self, *, timeout_seconds: float | None, now: float) -> int: ...


class _Call:
    """A caller that waits for its request; ``undo`` takes back a success that it never came to know of. It has no id
    while it waits for room."""

    __slots__ = ("future", "request_id", "undo")

    def __init__(self, future: asyncio.Future[Any], undo: Callable[[Any], None] | None) -> None:
        self.future = future
        self.undo = undo
        self.request_id: int | None = None


class _Turn:
    """A call that waits for room in front of a full core (S35)."""

    __slots__ = ("call", "command", "deadline")

    def __init__(self, call: _Call, command: _Command, deadline: float) -> None:
        self.call = call
        self.command = command
        self.deadline = deadline


class _Subscription:
    __slots__ = ("active", "handler")

    def __init__(self, handler: Callable[[Any], object]) -> None:
        self.handler = handler
        self.active = True


class _Home:
    """One home's queue, and the one iterator that may wait for it."""

    __slots__ = ("queue", "waiter")

    def __init__(self, name: str, config: ClientConfig) -> None:
        self.queue = HomeQueue(
            name,
            max_uniterated_events=config.max_uniterated_events,
            max_queued_events=config.max_queued_events,
        )
        self.waiter: asyncio.Future[None] | None = None

    def end(self, error: RtmError | None = None) -> None:
        self.queue.end(error)
        self.wake()

    def wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.waiter is not None:
            raise InvalidState("another task waits for this iterator; use one iterator in one task at a time")
        waiter = self.waiter = loop.create_future()
        try:
            await waiter
        finally:
            if self.waiter is waiter:
                self.waiter = None


class EventIterator(Generic[_E]):
    """Yields events as they come; made by ``events()`` and by ``async for ... in channel``.

    It goes on through interruptions. It ends behind the last event after ``leave()`` (of its channel),
    ``logout()`` and ``close()``; it raises SessionEnded when the server has ended the session, and
    ChannelUnavailable when its channel could not be rejoined. It begins with the first step, which raises
    InvalidState if another one is at work on the same events, and ClientClosed after ``close()``. Leaving the
    loop, or ``aclose()``, ends it; events then wait for the next one.
    """

    __slots__ = ("_bytes", "_client", "_count", "_find_home", "_home", "_messages", "_stopped")

    def __init__(self, client: Client, find_home: Callable[[], _Home], messages: MessageFilter | None) -> None:
        self._client = client
        self._find_home = find_home
        self._home: _Home | None = None
        self._messages = messages
        self._stopped = False
        self._count = 0
        self._bytes = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _E:
        home = self._home or self._start()
        queue = home.queue
        while not self._stopped:
            event = queue.pop()
            if event is None:
                self._report(home)
                if self._is_over(queue):
                    break
                await home.wait(self._client._check_loop())
                continue
            kind = type(event)  # pyright: ignore[reportUnknownVariableType]
            if kind is not EventsDropped:  # which stands for events that the core does not count
                self._count += 1
                if kind is ChannelMessageReceived:
                    self._bytes += len(event.message)  # as event_bytes() does, which is a call more
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

    def _start(self) -> _Home:
        self._client._check_loop()
        home = self._find_home()
        if not self._stopped:
            self._client._check_open()
            home.queue.start_iterating()
            self._home = home
            self._client._begin_iterating(home)
        return home

    def _report(self, home: _Home) -> None:
        if self._count:
            self._client._consumed(home, self._count, self._bytes)
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
            self._client._end_iterating(self._home)

    def __del__(self) -> None:
        # Here ends an "async for" that was left by a break: at once, so that the next one can begin.
        self._stop()


class Channel:
    """A joined channel, made by ``Client.join``: through reconnects, until ``leave()`` or the session's end.

    ``async for message in channel`` yields messages and passes over the other events, which ``events()``
    yields too. While nobody iterates it, the newest 1,000 events are kept; how many older ones were dropped is
    told by ``EventsDropped``, and by ``lost_before`` of the next message.
    """

    __slots__ = ("_client", "_home", "_name", "_receipt")

    def __init__(self, client: Client, home: _Home, receipt: JoinReceipt) -> None:
        self._client = client
        self._home = home
        self._name = receipt.channel
        self._receipt = receipt

    def __repr__(self) -> str:
        return f"<rtm_async.Channel {self._name!r}{'' if self.joined else ', ended'}>"

    @property
    def name(self) -> str:
        """The channel's name."""
        return self._name

    @property
    def receipt(self) -> JoinReceipt:
        """What the server said when it was joined: the members as of then, and where its log stood."""
        return self._receipt

    @property
    def joined(self) -> bool:
        """Whether this object's membership goes on, be it through an interruption."""
        return not self._home.queue.ended

    async def send(self, message: str | bytes, *, timeout: float | None = None) -> SendReceipt:
        """Send a message; returns when it stands in the channel's log, with its offset (S34).

        While the connection is interrupted it waits, and while too many requests are unanswered, for at most
        ``timeout`` seconds (the config's ``request_timeout_seconds`` if None), and then raises
        RequestTimeout. Other errors: InvalidArgument (a body that is too large), NotJoined, NotConnected,
        RequestRefused, RequestAbandoned; the ``outcome`` of the last two and of RequestTimeout says whether
        it may have been sent.
        """
        _check_timeout(timeout)
        client = self._client
        client._enter()
        receipt: SendReceipt = await client._request(partial(self._publish, message), timeout, soon=True)
        return receipt

    def _publish(self, message: str | bytes, *, timeout_seconds: float | None, now: float) -> int:
        self._check_joined()
        return self._client._core.publish(self._name, message, timeout_seconds=timeout_seconds, now=now)

    async def leave(self, *, timeout: float | None = None) -> None:
        """Leave the channel: it counts at once (S44), and returns when the server has done it.

        Iterators end behind what they still hold. Raises NotJoined, NotConnected, RequestTimeout.
        """
        _check_timeout(timeout)
        client = self._client
        client._enter()
        # It has counted: cancelling the call must not keep what is not sent yet from being sent.
        await client._request(self._leave, timeout, cancellable=False)

    def _leave(self, *, timeout_seconds: float | None, now: float) -> int:
        self._check_joined()
        request_id = self._client._core.leave(self._name, timeout_seconds=timeout_seconds, now=now)
        self._client._end_channel(self._name, None)
        return request_id

    def _check_joined(self) -> None:
        # In the other states the core says better what is wrong. A new Channel of the same name is not this
        # one.
        if self._home.queue.ended and self._client.state in _JOINABLE:
            raise NotJoined(f"this Channel of {self._name!r} has ended; join() gives a new one")

    def events(self) -> EventIterator[ChannelEvent | EventsDropped]:
        """All events of the channel, in the order of its log (S52)."""
        return EventIterator(self._client, lambda: self._home, None)

    def __aiter__(self) -> EventIterator[ChannelMessageReceived]:
        return EventIterator(self._client, lambda: self._home, MessageFilter())


class Client:
    """A user's client: one object through all reconnects. Use it as an async context manager.

    ``url`` is a ``ws://`` or ``wss://`` URL, or several to be tried in turn. ``ssl`` is the context for
    ``wss``; if None, the system's certificates are trusted. A client belongs to the loop in which it is
    first used; a call from elsewhere, or from a forked process, raises InvalidState, and one after
    ``close()`` ClientClosed.

    Raises ConfigError for a URL that can never work, or for ``ssl`` without any ``wss`` URL.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        config: ClientConfig = _DEFAULT_CONFIG,
        ssl: ssl_module.SSLContext | None = None,
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        endpoints = parse_endpoints(url)
        check_config(config, ClientConfig)
        check_client_tls(ssl, endpoints)
        self._config = config
        self._ssl = ssl
        self._core = ClientCore(config, endpoints=endpoints, rng=random.Random(), entropy=os.urandom)
        self._pid = os.getpid()
        self._driver: ConnectingDriver | None = None
        self._homes: dict[str, _Home] = {"": _Home("", config)}
        self._calls: dict[int, _Call] = {}
        self._room: deque[_Turn] = deque()
        self._provider: Callable[[], str] | None = None
        self._provider_threads = 0
        self._provider_faults = FailureNotes(interval_seconds=math.inf)
        self._handlers: dict[type, list[_Subscription]] = {}
        self._handler_backlog: deque[tuple[_Subscription, Any]] = deque()
        self._handler_task: asyncio.Task[None] | None = None
        self._overflowing = False
        self._closed = False
        self._closing: asyncio.Future[None] | None = None
        self._takers: dict[type, Callable[[Any], None]] = {
            RequestCompleted: self._completed,
            RequestErred: self._erred,
            AskToken: self._ask_provider,
        }

    def __repr__(self) -> str:
        return f"<rtm_async.Client uid={self.uid!r} {'closed' if self._closed else self.state.value}>"

    async def __aenter__(self) -> Self:
        self._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        loop = getattr(self, "_loop", None)  # None also where __init__ has raised
        if loop is None or self._closed or os.getpid() != self._pid:
            return
        driver = self._driver
        assert driver is not None
        if self.state is ConnectionState.DISCONNECTED and driver.idle:
            return
        text = f"{self!r} was not closed; use 'async with' or close()"
        warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
        if not loop.is_closed():
            loop.call_soon_threadsafe(driver.stop)

    # --- getters

    @property
    def state(self) -> ConnectionState:
        """The connection's state."""
        return self._core.state

    @property
    def uid(self) -> str | None:
        """The uid of the last ``login``, None before the first."""
        return self._core.uid

    # --- session

    async def login(
        self, uid: str, token: str | Callable[[], str] | None = None, *, timeout: float | None = None
    ) -> None:
        """Log in as ``uid``; returns when the state is CONNECTED (S3), and stays so by itself from then on.

        ``token`` is a text, or a function that returns one: it is called in a thread of its own whenever a
        new one is needed (S27). It takes at most the config's ``login_timeout_seconds``, and at most
        ``timeout`` seconds if that is given. Cancelling it logs out.

        Raises LoginFailed if the server refuses or can never be reached, with the cause's ``code``;
        LoginTimeout; InvalidState unless DISCONNECTED (S4); InvalidArgument for an impossible uid or token.
        """
        _check_timeout(timeout)
        check_token_source(token)
        loop = self._enter()
        driver = self._driver
        assert driver is not None
        provider = token if callable(token) else None
        text = None if callable(token) else token
        request_id = self._core.login(uid, text, token_provider=provider is not None, now=loop.time())
        self._provider = provider
        self._provider_faults = FailureNotes(interval_seconds=math.inf)  # each once in a login
        driver.last_failure = None
        if self._homes[""].queue.ended:
            self._homes[""] = _Home("", self._config)
        call = self._new_call(request_id, self._take_back_login)
        if timeout is None:
            await self._wait(call)
            return

        def too_late() -> RtmError:
            return login_timed_out(uid, timeout, attempts=self._core.attempts, cause=driver.last_failure)

        timer = loop.call_later(timeout, self._give_up, request_id, too_late)
        try:
            await self._wait(call)
        finally:
            timer.cancel()

    def _give_up(self, request_id: int, too_late: Callable[[], RtmError]) -> None:
        call = self._calls.pop(request_id, None)
        if call is not None:
            self._core.cancel(request_id, now=self._now())
            if not call.future.done():
                call.future.set_exception(too_late())
            self._pump()

    def _take_back_login(self, result: Any) -> None:
        try:
            self._core.logout(now=self._now())
        except NotLoggedIn:  # something else was faster
            pass

    async def logout(self, *, timeout: float | None = None) -> None:
        """Log out: the state is DISCONNECTED at once; returns when the server has confirmed it (S7).

        That takes at most the config's ``logout_timeout_seconds``, or ``timeout`` seconds if that is less;
        it does not fail because the network is down. All iterators end. Raises NotLoggedIn in DISCONNECTED.
        """
        _check_timeout(timeout)
        loop = self._enter()
        request_id = self._core.logout(now=loop.time())
        timer = None if timeout is None else loop.call_later(timeout, self._end_call, request_id)
        try:
            await self._wait(self._new_call(request_id, None))
        except ClientClosed:
            pass  # that it was ended by close() changes nothing: it has been logged out
        finally:
            if timer is not None:
                timer.cancel()

    def _end_call(self, request_id: int) -> None:
        call = self._calls.pop(request_id, None)
        if call is not None and not call.future.done():
            call.future.set_result(None)

    async def close(self) -> None:
        """Log out, and end every call (with ClientClosed) and every iterator, in at most about 2 s.

        It is safe to repeat, and may be called from any task and from a handler. The client cannot be used
        again.
        """
        self._check_process()
        if self._loop is None:  # never used
            self._closed = True
            self._homes[""].end()
            return
        loop = self._check_loop()
        self._closed = True
        driver = self._driver
        assert driver is not None
        in_handler = self._handler_task is not None and asyncio.current_task() is self._handler_task
        if self._closing is not None:
            if not in_handler:  # a handler may be what the other close() waits for
                await asyncio.wait([self._closing])
            return
        closing = self._closing = loop.create_future()
        deadline = loop.time() + LINGER_SECONDS
        try:
            self._end_room_waiters()
            if self.state is not ConnectionState.DISCONNECTED:
                await asyncio.wait([self._begin_logout(loop)], timeout=LINGER_SECONDS)
            await driver.finish(max(deadline - loop.time(), LINGER_SECONDS / 20))
        finally:
            driver.stop()
            self._end_everything()
            closing.set_result(None)
        if self._handler_task is not None and not in_handler:
            await self._finish_handlers(self._handler_task, max(deadline - loop.time(), LINGER_SECONDS / 20))

    def _begin_logout(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        call = self._new_call(self._core.logout(now=loop.time()), None)
        self._pump()
        return call.future

    def _end_everything(self) -> None:
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            if not call.future.done():
                call.future.set_exception(_closed_error())
                call.future.exception()  # retrieved: the caller may have been cancelled
        for home in self._homes.values():
            home.end()

    async def renew_token(self, token: str, *, timeout: float | None = None) -> TokenReceipt:
        """Replace the token; without a connection an attempt is made at once (S27, S28).

        Returns when the server has accepted it, with its lifetime. Raises NotConnected unless CONNECTED or
        RECONNECTING, RequestRefused, RequestTimeout after ``timeout`` seconds (the config's if None; the
        token stays in use), InvalidArgument.
        """
        _check_timeout(timeout)
        self._enter()
        receipt: TokenReceipt = await self._request(partial(self._renew, token), timeout)
        return receipt

    def _renew(self, token: str, *, timeout_seconds: float | None, now: float) -> int:
        request_id = self._core.renew_token(token, now=now)
        if timeout_seconds is not None:  # of which the core knows nothing here
            assert self._loop is not None
            self._loop.call_at(now + timeout_seconds, self._give_up, request_id, _renewal_too_late)
        return request_id

    def retry_now(self) -> Awaitable[None]:
        """The network may have changed: reconnect at once, or see whether the link is alive (S16).

        It acts at the call; awaiting what it returns is allowed, and takes no time. Raises InvalidState in
        DISCONNECTED and ABORTED.
        """
        loop = self._enter()
        self._core.retry_now(now=loop.time())
        self._pump()
        return _done(loop)

    # --- channels and events

    async def join(self, channel: str, *, echo: bool = False, timeout: float | None = None) -> Channel:
        """Join a channel: what is sent to it from then on arrives (S47).

        One's own messages, joins and leaves do so only with ``echo`` (S43).

        Raises InvalidArgument, InvalidState if it is joined already, NotConnected, RequestRefused,
        RequestTimeout after ``timeout`` seconds (the config's if None), RequestAbandoned.
        """
        _check_timeout(timeout)
        self._enter()
        command = partial(self._core.join, channel, echo=echo)
        joined: Channel = await self._request(command, timeout, undo=self._take_back_join)
        return joined

    def _take_back_join(self, channel: Channel) -> None:
        try:
            channel._leave(timeout_seconds=None, now=self._now())
        except RtmError as error:  # the session is over, or there is no room: then at least nothing is kept of it
            _log.info("channel %r was not left after a cancelled join(): %s", channel.name, error)
            self._end_channel(channel.name, None)

    def events(self) -> EventIterator[ClientEvent]:
        """The client's own events: switches of the state, news of the token and of the reconnecting (S52)."""
        return EventIterator(self, lambda: self._homes[""], None)

    def on(self, event_type: type[_E], handler: Callable[[_E], object]) -> Callable[[], None]:
        """Have ``handler`` called with each event of this class, of all channels; returns what undoes it.

        Handlers run in a task of their own, one after the other, in the order of the events; one that is a
        coroutine function is awaited. They may call the client, ``close()`` included. What they raise is
        logged (S53).

        Raises InvalidArgument for what is no event class, or a handler that cannot be called; ClientClosed.
        """
        self._check_process()
        check_handler(event_type, handler)
        self._check_open()
        subscription = _Subscription(handler)
        subscriptions = self._handlers.setdefault(event_type, [])
        subscriptions.append(subscription)

        def unsubscribe() -> None:
            if subscription.active:
                subscription.active = False
                subscriptions.remove(subscription)

        return unsubscribe

    # --- where a call may come from

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise InvalidState("this client belongs to the process that made it; make a new one after a fork")

    def _check_loop(self) -> asyncio.AbstractEventLoop:
        self._check_process()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as fault:
            raise InvalidState(
                "no event loop runs in this thread; use the client in its own, or rtm_sync.Client"
            ) from fault
        if self._loop is None:
            self._loop = loop
            self._driver = ConnectingDriver(
                self._core, loop=loop, on_output=self._take, tls=self._ssl, after_pump=self._give_room
            )
        elif loop is not self._loop:
            raise InvalidState("this client belongs to another event loop; make one for each loop")
        return loop

    def _enter(self) -> asyncio.AbstractEventLoop:
        loop = self._check_loop()
        self._check_open()
        return loop

    def _check_open(self) -> None:
        if self._closed:
            raise _closed_error()

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    def _pump(self) -> None:
        assert self._driver is not None
        self._driver.pump()

    # --- requests

    async def _request(
        self,
        command: _Command,
        timeout: float | None,
        *,
        soon: bool = False,
        cancellable: bool = True,
        undo: Callable[[Any], None] | None = None,
    ) -> Any:
        """Give the core a command, once there is room for it (S35), and wait for its end."""
        now = self._now()
        if not self._room:  # nobody overtakes those who wait
            try:
                request_id = command(timeout_seconds=timeout, now=now)
            except RequestsFull:
                pass
            else:
                return await self._wait(self._new_call(request_id, undo), soon=soon, cancellable=cancellable)
        assert self._loop is not None
        seconds = self._config.request_timeout_seconds if timeout is None else timeout
        call = _Call(self._loop.create_future(), undo)
        turn = _Turn(call, command, now + seconds)
        self._room.append(turn)
        timer = self._loop.call_at(turn.deadline, self._end_turn, turn, seconds)
        try:
            return await self._wait(call, soon=True, cancellable=cancellable)
        finally:
            timer.cancel()

    def _new_call(self, request_id: int, undo: Callable[[Any], None] | None) -> _Call:
        assert self._loop is not None
        call = self._calls[request_id] = _Call(self._loop.create_future(), undo)
        call.request_id = request_id
        return call

    async def _wait(self, call: _Call, *, soon: bool = False, cancellable: bool = True) -> Any:
        driver, future = self._driver, call.future
        assert driver is not None
        if soon:
            driver.pump_soon()
        else:
            driver.pump()
        try:
            return await future
        except asyncio.CancelledError:
            if call.request_id is None:
                self._room = deque(turn for turn in self._room if turn.call is not call)
            elif self._calls.pop(call.request_id, None) is not None:
                if cancellable:
                    self._core.cancel(call.request_id, now=self._now())
            elif call.undo is not None and not future.cancelled() and future.exception() is None:
                call.undo(future.result())  # it had succeeded, but its caller will never know
            driver.pump()
            raise

    def _give_room(self) -> None:
        """Whenever something may have changed: those who wait for room get it, in the order of their calls.

        Not only when a request ends: an answer that nobody waits for any more makes room too.
        """
        while self._room:
            turn, now = self._room[0], self._now()
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
                    self._calls[request_id] = call
                assert self._driver is not None
                self._driver.pump_soon()
            self._room.popleft()

    def _end_turn(self, turn: _Turn, seconds: float) -> None:
        call = turn.call
        if call.request_id is None and not call.future.done():
            call.future.set_exception(
                RequestTimeout(
                    f"too many requests were unanswered for {seconds:g} s; this one was not sent",
                    outcome=Outcome.NOT_SENT,
                )
            )

    def _end_room_waiters(self) -> None:
        while self._room:
            call = self._room.popleft().call
            if not call.future.done():
                call.future.set_exception(_closed_error())

    # --- what comes out of the core

    def _take(self, output: Any) -> None:
        kind = type(output)  # pyright: ignore[reportUnknownVariableType]
        if kind is ChannelMessageReceived:  # first, and without a call to spare: it is the one that comes often
            home = self._homes.get(output.channel)
        else:
            taker = self._takers.get(kind)  # pyright: ignore[reportUnknownArgumentType]
            if taker is not None:
                taker(output)
                return
            home = self._homes.get(home_of(output))
        if home is not None:
            home.queue.put(output)
            if home.waiter is not None:
                home.wake()
        if self._handlers:
            subscriptions = self._handlers.get(kind, ())  # pyright: ignore[reportUnknownArgumentType]
            for subscription in subscriptions:
                self._give_to_handler(subscription, output)
        if kind is ChannelMessageReceived:
            return
        ending = ending_of(output)
        if ending is not None:
            self._end_homes(ending)
        if kind is ConnectionStateChanged:
            _log.info("= %s %s (%s)", self.uid, output.state.value, output.code or output.reason.value)

    def _completed(self, output: RequestCompleted) -> None:
        call = self._calls.pop(output.request_id, None)
        if call is None:
            return
        result: Any = output.result
        if type(result) is JoinReceipt:
            # Made here, because the channel's first events may stand right behind.
            home = self._homes[result.channel] = _Home(result.channel, self._config)
            result = Channel(self, home, result)
        if not call.future.done():
            call.future.set_result(result)
        elif call.undo is not None:
            call.undo(result)

    def _erred(self, output: RequestErred) -> None:
        call = self._calls.pop(output.request_id, None)
        if call is not None and not call.future.done():
            call.future.set_exception(output.error)

    def _end_homes(self, ending: Ending) -> None:
        for name in list(self._homes):
            if name and ending.home in (None, name):
                self._end_channel(name, ending.error())
        if ending.home is None:
            self._homes[""].end(ending.error())

    def _end_channel(self, name: str, error: RtmError | None) -> None:
        home = self._homes.pop(name, None)
        if home is not None:
            home.end(error)

    # --- iterations

    def _begin_iterating(self, home: _Home) -> None:
        if self._homes.get(home.queue.home) is home:
            count, size = home.queue.backlog
            self._core.iterating(home.queue.home, True, backlog_events=count, backlog_bytes=size, now=self._now())
            self._pump()

    def _consumed(self, home: _Home, count: int, byte_count: int) -> None:
        if self._homes.get(home.queue.home) is home:
            assert self._driver is not None
            self._core.consumed(home.queue.home, count, byte_count, now=self._now())
            self._driver.pump_soon()

    def _end_iterating(self, home: _Home) -> None:
        """Tell the core later: this may be the garbage collector, in any thread, at any moment."""
        loop = self._loop
        if loop is None or os.getpid() != self._pid:
            return
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        schedule = loop.call_soon if running is loop else loop.call_soon_threadsafe
        try:
            schedule(self._iteration_ended, home)
        except RuntimeError:  # the loop is closed: there is nobody to be told
            pass

    def _iteration_ended(self, home: _Home) -> None:
        if self._homes.get(home.queue.home) is home and not home.queue.iterated:
            self._core.iterating(home.queue.home, False, now=self._now())
            self._pump()

    # --- the token provider

    def _ask_provider(self, effect: AskToken) -> None:
        provider = self._provider
        assert provider is not None
        fault: Exception
        if self._provider_threads < MAX_PROVIDER_THREADS:
            self._provider_threads += 1
            context = contextvars.copy_context()
            # Not the loop's executor: a provider that hangs must hold up neither the loop's end nor the
            # process's.
            work = threading.Thread(
                target=context.run,
                args=(self._run_provider, provider, effect.ask_id),
                name="rtm-token-provider",
                daemon=True,
            )
            try:
                work.start()
                return
            except RuntimeError as error:  # no more threads
                self._provider_threads -= 1
                fault = error
        else:
            fault = TimeoutError(f"{MAX_PROVIDER_THREADS} earlier calls of the token provider have not returned")
        self._provider_failed(effect.ask_id, fault)

    def _run_provider(self, provider: Callable[[], str], ask_id: int) -> None:
        token = ""
        fault: BaseException | None = None
        try:
            token = ask_provider(provider)
        except BaseException as error:  # told to the core, whatever it is: nobody else would hear of it
            fault = error
        loop = self._loop
        assert loop is not None
        try:
            loop.call_soon_threadsafe(self._provided, ask_id, token, fault)
        except RuntimeError:  # the loop is closed: nobody asks any more
            pass

    def _provided(self, ask_id: int, token: str, fault: BaseException | None) -> None:
        self._provider_threads -= 1
        if fault is None:
            self._core.token_supplied(ask_id, token, now=self._now())
        else:
            self._provider_failed(ask_id, fault)
        self._pump()

    def _provider_failed(self, ask_id: int, fault: BaseException) -> None:
        what, now = f"the token provider raised {type(fault).__name__}", self._now()
        assert self._driver is not None
        self._driver.last_failure = RtmError(what, code="token_provider_failed")
        self._driver.last_failure.__cause__ = fault
        if self._provider_faults.take(fault, now) is not None:
            # Without the text of the exception, which might hold a token.
            _log.warning(
                "! %s; it is asked again:\n%s", what, "".join(traceback.format_tb(fault.__traceback__)).rstrip()
            )
        self._core.token_failed(ask_id, fault, now=now)

    # --- handlers

    def _give_to_handler(self, subscription: _Subscription, event: Any) -> None:
        if len(self._handler_backlog) >= MAX_HANDLER_BACKLOG:
            self._handler_backlog.popleft()
            if not self._overflowing:
                self._overflowing = True
                _log.warning(
                    "handlers are too slow: above %d waiting events the oldest are dropped",
                    MAX_HANDLER_BACKLOG,
                )
        self._handler_backlog.append((subscription, event))
        if self._handler_task is None:
            assert self._loop is not None
            # It lives only as long as there is something to do, so nothing has to end it.
            self._handler_task = self._loop.create_task(self._run_handlers(), name="rtm-handlers")

    async def _run_handlers(self) -> None:
        try:
            while self._handler_backlog:
                subscription, event = self._handler_backlog.popleft()
                if subscription.active:
                    await self._run_handler(subscription.handler, event)
                await asyncio.sleep(0)  # the network goes first
            self._overflowing = False
        finally:
            self._handler_task = None

    async def _run_handler(self, handler: Callable[[Any], object], event: Any) -> None:
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

    async def _finish_handlers(self, task: asyncio.Task[None], seconds: float) -> None:
        _, late = await asyncio.wait([task], timeout=seconds)
        if late:
            _log.warning("a handler did not end within %.1f s of close(); it is cancelled", LINGER_SECONDS)
            task.cancel()
            await asyncio.wait([task], timeout=seconds)


def _closed_error() -> ClientClosed:
    return ClientClosed("the client was closed; make a new one")


def _done(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    future: asyncio.Future[None] = loop.create_future()
    future.set_result(None)
    return future


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None:
        check_timeout(timeout)


def _renewal_too_late() -> RequestTimeout:
    return RequestTimeout("no answer to the renewal within the timeout", outcome=Outcome.UNKNOWN)
