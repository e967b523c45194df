"""The asyncio client: ``Client`` and ``Channel``, thin around ``ClientCore``.

Whatever a call asks of the core, and whatever comes out, happens without an ``await`` in between: a
cancelled call can leave nothing half done.
"""

# Client and Channel are one unit, and share what is nobody else's.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl as ssl_module
import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from rtm_sansio.auth import check_token_source
from rtm_sansio.checks import check_timeout, copy_of_names
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
    RequestTimeout,
    RtmError,
)
from rtm_sansio.events import (
    ChannelEvent,
    ChannelMessageReceived,
    ClientEvent,
    ConnectionStateChanged,
    EventsDropped,
    HistoryPage,
    JoinReceipt,
    MemberCounts,
    MemberPage,
    OnlineStatus,
    OnlineStatuses,
    PeerDelivery,
    RequestCompleted,
    RequestErred,
    SendReceipt,
    TokenReceipt,
    home_of,
)
from rtm_sansio.queues import MessageFilter, check_handler, ending_of
from rtm_sansio.states import ConnectionState

from ._attributes import AttributeCalls
from ._calls import Calls, closed_error
from ._driver import LINGER_SECONDS, ConnectingDriver
from ._handlers import Handlers
from ._homes import EventIterator, Home, Homes
from ._provider import TokenProvider

_DEFAULT_CONFIG = ClientConfig()
_JOINABLE = (ConnectionState.CONNECTED, ConnectionState.RECONNECTING)
_log = logging.getLogger("rtm")
E = TypeVar("E")


class Channel:
    """A joined channel, made by ``Client.join``: through reconnects, until ``leave()`` or the session's end.

    ``async for message in channel`` yields messages and passes over the other events, which ``events()``
    yields too. While nobody iterates it, the newest 1,000 events are kept; how many older ones were dropped is
    told by ``EventsDropped``, and by ``lost_before`` of the next message.
    """

    __slots__ = ("_client", "_home", "_name", "_receipt")

    def __init__(self, client: Client, home: Home, receipt: JoinReceipt) -> None:
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
        check_timeout(timeout)
        client = self._client
        client._enter()
        receipt: SendReceipt = await client._calls.request(partial(self._publish, message), timeout, soon=True)
        return receipt

    def _publish(self, message: str | bytes, *, timeout_seconds: float | None, now: float) -> int:
        self._check_joined()
        return self._client._core.publish(self._name, message, timeout_seconds=timeout_seconds, now=now)

    async def members(self, *, after: str = "", timeout: float | None = None) -> MemberPage:
        """The members of the channel, in the order of their uids; the server decides how many at a time (S47).

        With ``more`` in the page, ``after=page.uids[-1]`` brings the next one. Joins and leaves with a greater
        offset than the page's apply to it.

        Raises InvalidArgument, NotJoined, NotConnected, RequestRefused, RequestAbandoned, RequestTimeout after
        ``timeout`` seconds (the config's if None).
        """
        page: MemberPage = await self._ask(partial(self._client._core.list_members, self._name, after=after), timeout)
        return page

    async def history(
        self,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 100,
        timeout: float | None = None,
    ) -> HistoryPage:
        """What the server still has of the channel's log (S33): the newest entries, or the last ones before the
        offset ``before``, or the first ones behind ``after``; at most ``limit``, and at most about 64 KiB.

        Reading it changes nothing of what is delivered. An offset belongs to an epoch: one that was kept over a
        restart of the server is to be compared by it.

        Raises InvalidArgument, NotJoined, NotConnected, RequestRefused, RequestAbandoned, RequestTimeout after
        ``timeout`` seconds (the config's if None).
        """
        command = partial(self._client._core.read_history, self._name, before=before, after=after, limit=limit)
        page: HistoryPage = await self._ask(command, timeout)
        return page

    async def _ask(self, command: Callable[..., int], timeout: float | None) -> Any:
        check_timeout(timeout)
        client = self._client
        client._enter()

        def ask(*, timeout_seconds: float | None, now: float) -> int:
            self._check_joined()
            return command(timeout_seconds=timeout_seconds, now=now)

        return await client._calls.request(ask, timeout)

    async def leave(self, *, timeout: float | None = None) -> None:
        """Leave the channel: it counts at once (S44), and returns when the server has done it.

        Iterators end behind what they still hold. Raises NotJoined, NotConnected, RequestTimeout.
        """
        check_timeout(timeout)
        client = self._client
        client._enter()
        # It has counted: cancelling the call must not keep what is not sent yet from being sent.
        await client._calls.request(self._leave, timeout, cancellable=False)

    def _leave(self, *, timeout_seconds: float | None, now: float) -> int:
        self._check_joined()
        request_id = self._client._core.leave(self._name, timeout_seconds=timeout_seconds, now=now)
        self._client._homes.end(self._name)
        return request_id

    def _check_joined(self) -> None:
        # In the other states the core says better what is wrong. A new Channel of the same name is not this
        # one.
        if self._home.queue.ended and self._client.state in _JOINABLE:
            raise NotJoined(f"this Channel of {self._name!r} has ended; join() gives a new one")

    def events(self) -> EventIterator[ChannelEvent | EventsDropped]:
        """All events of the channel, in the order of its log (S52)."""
        return EventIterator(self._client._homes, lambda: self._home, None)

    def __aiter__(self) -> EventIterator[ChannelMessageReceived]:
        return EventIterator(self._client._homes, lambda: self._home, MessageFilter())


class Client(AttributeCalls):
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
        self._calls = Calls(self._core, config)
        self._homes = Homes(self._core, config, self._check_loop, self._check_open)
        self._find_home = self._homes.by_name.get
        self._handlers = Handlers()
        self._handled_types = self._handlers.by_type
        self._provider = TokenProvider(self._core)
        self._closed = False
        self._closing: asyncio.Future[None] | None = None
        self._takers: dict[type, Callable[[Any], None]] = {
            RequestCompleted: self._completed,
            RequestErred: self._erred,
            AskToken: self._provider.ask,
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
        check_timeout(timeout)
        check_token_source(token)
        loop = self._enter()
        driver = self._driver
        assert driver is not None
        provider = token if callable(token) else None
        text = None if callable(token) else token
        request_id = self._core.login(uid, text, token_provider=provider is not None, now=loop.time())
        self._provider.set(provider)
        driver.last_failure = None
        if self._homes.own.queue.ended:
            self._homes.new("")
        call = self._calls.begin(request_id, self._take_back_login)
        if timeout is None:
            await self._calls.wait(call)
            return

        def too_late() -> RtmError:
            return login_timed_out(uid, timeout, attempts=self._core.attempts, cause=driver.last_failure)

        timer = loop.call_later(timeout, self._calls.give_up, request_id, too_late)
        try:
            await self._calls.wait(call)
        finally:
            timer.cancel()

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
        check_timeout(timeout)
        loop = self._enter()
        request_id = self._core.logout(now=loop.time())
        timer = None if timeout is None else loop.call_later(timeout, self._calls.stop_waiting, request_id)
        try:
            await self._calls.wait(self._calls.begin(request_id))
        except ClientClosed:
            pass  # that it was ended by close() changes nothing: it has been logged out
        finally:
            if timer is not None:
                timer.cancel()

    async def close(self) -> None:
        """Log out, and end every call and every iterator, in at most about 2 s: calls end as they do at a logout,
        with what may have become of them (S9).

        It is safe to repeat, and may be called from any task and from a handler. The client cannot be used
        again: later calls get ClientClosed.
        """
        self._check_process()
        if self._loop is None:  # never used
            self._closed = True
            self._homes.own.end()
            return
        loop = self._check_loop()
        self._closed = True
        driver = self._driver
        assert driver is not None
        if self._closing is not None:
            if not self._handlers.in_handler:  # a handler may be what the other close() waits for
                await asyncio.wait([self._closing])
            return
        closing = self._closing = loop.create_future()
        deadline = loop.time() + LINGER_SECONDS
        try:
            self._calls.end_room_waiters()
            if self.state is not ConnectionState.DISCONNECTED:
                await asyncio.wait([self._begin_logout(loop)], timeout=LINGER_SECONDS)
            await driver.finish(max(deadline - loop.time(), LINGER_SECONDS / 20))
        finally:
            driver.stop()
            self._calls.end_all()
            self._homes.end_all()
            closing.set_result(None)
        await self._handlers.finish(max(deadline - loop.time(), LINGER_SECONDS / 20))

    def _begin_logout(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        call = self._calls.begin(self._core.logout(now=loop.time()))
        self._pump()
        return call.future

    async def renew_token(self, token: str, *, timeout: float | None = None) -> TokenReceipt:
        """Replace the token; without a connection an attempt is made at once (S27, S28).

        Returns when the server has accepted it, with its lifetime. Raises NotConnected unless CONNECTED or
        RECONNECTING, RequestRefused, RequestTimeout after ``timeout`` seconds (the config's if None; the
        token stays in use), InvalidArgument.
        """
        check_timeout(timeout)
        self._enter()
        receipt: TokenReceipt = await self._calls.request(partial(self._renew, token), timeout)
        return receipt

    def _renew(self, token: str, *, timeout_seconds: float | None, now: float) -> int:
        request_id = self._core.renew_token(token, now=now)
        if timeout_seconds is not None:  # of which the core knows nothing here
            assert self._loop is not None
            self._loop.call_at(now + timeout_seconds, self._calls.give_up, request_id, _renewal_too_late)
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

    # --- attributes

    @property
    def _commands(self) -> ClientCore:
        return self._core

    async def _ask(self, command: Callable[..., int], timeout: float | None) -> Any:
        check_timeout(timeout)
        self._enter()
        return await self._calls.request(command, timeout)

    # --- channels and events

    async def send_to_peer(
        self,
        uid: str,
        message: str | bytes,
        *,
        offline: bool = False,
        description: str = "",
        timeout: float | None = None,
    ) -> PeerDelivery:
        """Send a message to a user, with a ``description`` if you like; returns where it went (S36): ``received``,
        ``kept`` or neither. None of them says that somebody has read it.

        With ``offline`` it is kept for a user who is not there, if that one was here within 30 days: for 7 days, 200
        messages at most, 20 of them from one sender (S55). The receiver finds it in ``events()``, as a
        MessageReceived. While the connection is interrupted the call waits, for at most ``timeout`` seconds (the
        config's ``request_timeout_seconds`` if None), and then raises RequestTimeout. Other errors:
        InvalidArgument, NotConnected, RequestRefused (with the code ``inbox_full`` or ``sender_share`` if there is no
        room), RequestAbandoned; their ``outcome`` says whether it may have been sent.
        """
        check_timeout(timeout)
        self._enter()
        command = partial(self._core.send_to_peer, uid, message, offline=offline, description=description)
        delivery: PeerDelivery = await self._calls.request(command, timeout, soon=True)
        return delivery

    async def join(self, channel: str, *, echo: bool = False, timeout: float | None = None) -> Channel:
        """Join a channel: what is sent to it from then on arrives (S47).

        One's own messages, joins and leaves do so only with ``echo`` (S43).

        Raises InvalidArgument, InvalidState if it is joined already, NotConnected, RequestRefused,
        RequestTimeout after ``timeout`` seconds (the config's if None), RequestAbandoned.
        """
        check_timeout(timeout)
        self._enter()
        command = partial(self._core.join, channel, echo=echo)
        joined: Channel = await self._calls.request(command, timeout, undo=self._take_back_join)
        return joined

    def _take_back_join(self, channel: Channel) -> None:
        try:
            channel._leave(timeout_seconds=None, now=self._now())
        except RtmError as error:  # the session is over, or there is no room: then at least nothing is kept of it
            _log.info("channel %r was not left after a cancelled join(): %s", channel.name, error)
            self._homes.end(channel.name)

    async def member_counts(self, channels: Iterable[str], *, timeout: float | None = None) -> dict[str, int]:
        """How many members each of these channels has, joined or not; 0 for one that nobody is in. Up to 32 at a
        time, or what the server says (S45).

        Raises InvalidArgument, NotConnected, RequestRefused, RequestAbandoned, RequestTimeout after ``timeout``
        seconds (the config's if None).
        """
        check_timeout(timeout)
        self._enter()
        found: MemberCounts = await self._calls.request(
            partial(self._core.count_members, copy_of_names(channels)), timeout
        )
        return found.counts

    # --- online status

    async def online_status(self, uids: Iterable[str], *, timeout: float | None = None) -> dict[str, OnlineStatus]:
        """Whether users are online, unreachable or offline, and since when (S39).

        Raises InvalidArgument for too many uids at a time or an impossible one, NotConnected, RequestRefused,
        RequestTimeout after ``timeout`` seconds (the config's if None), RequestAbandoned.
        """
        check_timeout(timeout)
        self._enter()
        found: OnlineStatuses = await self._calls.request(partial(self._core.read_status, copy_of_names(uids)), timeout)
        return found.statuses

    async def subscribe_online_status(
        self, uids: Iterable[str], *, timeout: float | None = None
    ) -> dict[str, OnlineStatus]:
        """Hear of changes of users' online status from now on; returns the present status of each (S39).

        Changes come as OnlineStatusChanged in ``events()`` and to ``on()``. Subscriptions live through reconnects,
        until ``unsubscribe_online_status()`` or ``logout()`` (S57).

        Raises InvalidArgument, also if more users would be watched than the server allows, NotConnected,
        RequestRefused, RequestTimeout after ``timeout`` seconds (the config's if None; nothing new is subscribed
        then), RequestAbandoned.
        """
        check_timeout(timeout)
        self._enter()
        found: OnlineStatuses = await self._calls.request(
            partial(self._core.watch_status, copy_of_names(uids)), timeout
        )
        return found.statuses

    async def unsubscribe_online_status(self, uids: Iterable[str], *, timeout: float | None = None) -> None:
        """Hear no more of these users, be they subscribed to or not: it counts at once, even if
        the confirmation does not come in time; but while 256 requests are unanswered it waits, and counts behind that.

        Returns when the server has confirmed it. Raises InvalidArgument, NotConnected, RequestTimeout after ``timeout``
        seconds (the config's if None), RequestAbandoned.
        """
        check_timeout(timeout)
        self._enter()
        await self._calls.request(partial(self._core.unwatch_status, copy_of_names(uids)), timeout, cancellable=False)

    def events(self) -> EventIterator[ClientEvent]:
        """The client's own events: all that belong to no channel, such as switches of the state, messages to this user
        and changes of online status (S52)."""
        return EventIterator(self._homes, lambda: self._homes.own, None)

    def on(self, event_type: type[E], handler: Callable[[E], object]) -> Callable[[], None]:
        """Have ``handler`` called with each event of this class, of all channels; returns what undoes it.

        Handlers run in a task of their own, one after the other, in the order of the events; one that is a
        coroutine function is awaited. They may call the client, ``close()`` included. What they raise is
        logged (S53).

        Raises InvalidArgument for what is no event class, or a handler that cannot be called; ClientClosed.
        """
        self._check_process()
        check_handler(event_type, handler)
        self._check_open()
        return self._handlers.add(event_type, handler)

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
                self._core, loop=loop, on_output=self._take, tls=self._ssl, after_pump=self._calls.give_room
            )
            for part in (self._calls, self._homes, self._provider):
                part.attach(self._driver)
        elif loop is not self._loop:
            raise InvalidState("this client belongs to another event loop; make one for each loop")
        return loop

    def _enter(self) -> asyncio.AbstractEventLoop:
        loop = self._check_loop()
        self._check_open()
        return loop

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error()

    def _now(self) -> float:
        assert self._loop is not None
        return self._loop.time()

    def _pump(self) -> None:
        assert self._driver is not None
        self._driver.pump()

    # --- what comes out of the core

    def _take(self, output: Any) -> None:
        kind = type(output)  # pyright: ignore[reportUnknownVariableType]
        if kind is ChannelMessageReceived:  # first, and without a call to spare: it is the one that comes often
            home = self._find_home(output.channel)
        else:
            taker = self._takers.get(kind)  # pyright: ignore[reportUnknownArgumentType]
            if taker is not None:
                taker(output)
                return
            home = self._find_home(home_of(output))
        if home is not None:
            home.queue.put(output)
            if home.waiter is not None:
                home.wake()
        if kind in self._handled_types:  # pyright: ignore[reportUnknownArgumentType]
            assert self._loop is not None
            self._handlers.give(output, self._loop)
        if kind is ChannelMessageReceived:
            return
        ending = ending_of(output)
        if ending is not None:
            self._homes.end_those_of(ending)
        if kind is ConnectionStateChanged:
            _log.info("= %s %s (%s)", self.uid, output.state.value, output.code or output.reason.value)

    def _completed(self, output: RequestCompleted) -> None:
        call = self._calls.take(output.request_id)
        if call is None:
            return
        result: Any = output.result
        if type(result) is JoinReceipt:
            # Made here, because the channel's first events may stand right behind.
            result = Channel(self, self._homes.new(result.channel), result)
        call.succeed(result)

    def _erred(self, output: RequestErred) -> None:
        call = self._calls.take(output.request_id)
        if call is not None:
            call.fail(output.error)


def _done(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    future: asyncio.Future[None] = loop.create_future()
    future.set_result(None)
    return future


def _renewal_too_late() -> RequestTimeout:
    return RequestTimeout("no answer to the renewal within the timeout", outcome=Outcome.UNKNOWN)
