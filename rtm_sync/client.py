"""A client for threads: blocking calls, iterators that wait, handlers in a thread of their own.

Every method is safe from any thread (S54). A Ctrl-C ends any of them at once and takes back what was not
finished.
"""

from __future__ import annotations

import ssl as ssl_module
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from queue import Empty
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from rtm_sansio.auth import check_token_source
from rtm_sansio.checks import check_timeout, copy_of_names
from rtm_sansio.client import ClientCore
from rtm_sansio.config import ClientConfig
from rtm_sansio.endpoints import check_client_tls, check_config, parse_endpoints
from rtm_sansio.errors import ClientClosed, InvalidArgument, Outcome, RequestTimeout
from rtm_sansio.events import (
    ChannelEvent,
    ChannelMessageReceived,
    ClientEvent,
    EventsDropped,
    HistoryPage,
    JoinReceipt,
    MemberCounts,
    MemberPage,
    OnlineStatus,
    OnlineStatuses,
    PeerDelivery,
    SendReceipt,
    TokenReceipt,
)
from rtm_sansio.queues import MessageFilter, check_handler
from rtm_sansio.states import ConnectionState

from ._attributes import AttributeCalls
from ._homes import EventIterator, Home
from ._runtime import Runtime
from ._threads import is_coroutine_function

E = TypeVar("E")

_DEFAULT_CONFIG = ClientConfig()

CLOSE_SECONDS = 2.0
"""What ``close`` may take for the logout and for the last bytes together."""


class Client(AttributeCalls):
    """One instance of a user: it logs in, stays logged in through interruptions, and carries channels.

    ``url`` is one ``ws://`` or ``wss://`` URL, or several that are tried in turn. ``ssl`` is the context for
    ``wss://`` (default: ``ssl.create_default_context()``). Raises ConfigError for a URL that can never work,
    or for ``ssl`` without any ``wss://`` URL.

    Use it as a context manager, or call ``close``. One object lives through all reconnects; after ``logout``
    it can log in again, after ``close`` it cannot. Its I/O thread is started by the first call that needs it, and
    does not keep a program alive. A thread of yours that iterates does, unless it is a daemon or ``close`` is called.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        config: ClientConfig = _DEFAULT_CONFIG,
        ssl: ssl_module.SSLContext | None = None,
    ) -> None:
        endpoints = parse_endpoints(url)
        check_config(config, ClientConfig)
        check_client_tls(ssl, endpoints)
        self._runtime = Runtime(config, endpoints, ssl)

    def __repr__(self) -> str:
        return f"<rtm_sync.Client uid={self.uid!r} {self.state.value}>"

    def __enter__(self) -> Self:
        self._runtime.driver.check_process()
        self._runtime.check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        runtime: Runtime | None = getattr(self, "_runtime", None)
        if runtime is None or sys.is_finalizing() or not runtime.driver.same_process:
            return
        if not runtime.driver.started:
            return
        if not runtime.closed:
            warnings.warn(
                f"unclosed {self!r}; call close(), or use it in a with block",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
        runtime.driver.stop(within=0.0)

    # --- getters

    @property
    def state(self) -> ConnectionState:
        """Where the client stands at this moment. For decisions prefer the events, which say how it came to that."""
        return ConnectionState.DISCONNECTED if self._runtime.ended else self._runtime.core.state

    @property
    def uid(self) -> str | None:
        """The user of the last ``login``, None before the first."""
        return self._runtime.core.uid

    # --- the login

    def login(self, uid: str, token: str | Callable[[], str] | None = None, *, timeout: float | None = None) -> None:
        """Log in; returns when CONNECTED (S3). Reconnecting afterwards is automatic.

        ``token`` is the token, or a callable that returns one; that is called in a thread of its own each
        time a new token is needed (S27). ``timeout`` (seconds) bounds the wait beside
        ``login_timeout_seconds`` of the config; giving up by it, or by Ctrl-C, is a logout.

        Raises LoginFailed (LoginTimeout if the time was over) with the stable ``code`` of the cause,
        InvalidState unless DISCONNECTED (S4), InvalidArgument for an impossible uid or token, ClientClosed.
        """
        check_timeout(timeout)
        check_token_source(token)
        self._runtime.request(
            lambda now: self._runtime.login(uid, token, now),
            timeout=timeout,
            waits=False,
            undo=self._runtime.undo_login,
            too_late=lambda: self._runtime.login_timeout(timeout),
        )

    def logout(self, *, timeout: float | None = None) -> None:
        """Log out: DISCONNECTED at once; returns when the server has confirmed it, or after 2 s without (S7).

        Ends all iterators and all calls that wait. Never fails because the network is down; ``timeout``
        (seconds) only shortens the wait. Raises NotLoggedIn in DISCONNECTED, ClientClosed.
        """
        check_timeout(timeout)
        begun = False

        def begin(now: float) -> int:
            nonlocal begun
            request_id = self._runtime.core.logout(now=now)
            begun = True
            return request_id

        try:
            self._runtime.request(
                begin,
                timeout=timeout,
                waits=False,
                too_late=lambda: RequestTimeout("logout() was not confirmed", outcome=Outcome.UNKNOWN),
            )
        except RequestTimeout:
            pass  # logged out all the same; only the server's confirmation is not waited for
        except ClientClosed:
            if not begun:  # else it was close() that ended the wait, and nothing is wrong
                raise

    def close(self) -> None:
        """Log out (at most 2 s) and end: calls that wait end as they do at a logout, with what may have become of
        them (S9); iterators end, the I/O thread ends. Later calls get ClientClosed.

        May be called more than once, from any thread and from a handler. In a forked process it does nothing:
        the connection is the parent's.
        """
        if not self._runtime.driver.same_process:
            return
        deadline = time.monotonic() + CLOSE_SECONDS
        try:
            try:
                self._runtime.begin_close().wait(CLOSE_SECONDS)
            except Empty:
                pass  # the server does not answer; it finds out by itself (S24)
        finally:
            self._runtime.finish_close(within=max(0.1, deadline - time.monotonic()))

    def renew_token(self, token: str, *, timeout: float | None = None) -> TokenReceipt:
        """Replace the token (S27, S28); returns when the server has accepted it. Never drops the connection.

        ``timeout`` is in seconds (default: ``request_timeout_seconds`` of the config). Raises NotConnected
        unless CONNECTED or RECONNECTING, InvalidArgument, a RequestFailed, ClientClosed.
        """
        check_timeout(timeout)
        too_late = None if timeout is None else self._renewal_too_late
        result = self._runtime.request(
            lambda now: self._runtime.core.renew_token(token, now=now), timeout=timeout, too_late=too_late
        )
        return cast(TokenReceipt, result)

    @staticmethod
    def _renewal_too_late() -> RequestTimeout:
        return RequestTimeout("no answer to the renewal within the timeout", outcome=Outcome.UNKNOWN)

    def retry_now(self) -> None:
        """Make an attempt to connect at once, for instance when the network has changed (S16).

        Raises InvalidState in DISCONNECTED and ABORTED, ClientClosed.
        """
        self._runtime.start()
        self._runtime.driver.call(lambda now: self._runtime.core.retry_now(now=now))

    # --- messages to users

    def send_to_peer(
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
        MessageReceived. Blocks while 256 requests are unanswered, and through interruptions. ``timeout`` is in seconds
        for all of it (default: ``request_timeout_seconds`` of the config). Raises InvalidArgument, NotConnected, a
        RequestFailed that says whether the server may have carried it out (with the code ``inbox_full`` or
        ``sender_share`` if there is no room), ClientClosed.
        """
        check_timeout(timeout)
        runtime = self._runtime
        seconds = runtime.config.request_timeout_seconds if timeout is None else timeout
        deadline = time.monotonic() + seconds

        def send(now: float) -> int:
            return runtime.core.send_to_peer(
                uid, message, offline=offline, description=description, timeout_seconds=_left(deadline, now), now=now
            )

        return cast(PeerDelivery, runtime.request(send, timeout=seconds))

    # --- attributes

    @property
    def _commands(self) -> ClientCore:
        return self._runtime.core

    def _ask(self, command: Callable[..., int], timeout: float | None) -> Any:
        check_timeout(timeout)
        seconds = self._runtime.config.request_timeout_seconds if timeout is None else timeout
        deadline = time.monotonic() + seconds
        return self._runtime.request(
            lambda now: command(timeout_seconds=_left(deadline, now), now=now), timeout=seconds
        )

    # --- channels and events

    def join(self, channel: str, *, echo: bool = False, timeout: float | None = None) -> Channel:
        """Join a channel (S47). With ``echo`` one's own messages, join and leave are delivered too (S43).

        ``timeout`` is in seconds (default: ``request_timeout_seconds`` of the config). Raises InvalidState if
        it is joined already, InvalidArgument, NotConnected in DISCONNECTED, CONNECTING and ABORTED (S35), a
        RequestFailed that says whether the server may have carried it out (S9), ClientClosed.
        """
        check_timeout(timeout)
        seconds = self._runtime.config.request_timeout_seconds if timeout is None else timeout
        deadline = time.monotonic() + seconds
        receipt, home = self._runtime.request(
            lambda now: self._runtime.core.join(channel, echo=echo, timeout_seconds=_left(deadline, now), now=now),
            timeout=seconds,
            undo=self._runtime.undo_join,
        )
        return Channel(self, self._runtime, home, receipt)

    def member_counts(self, channels: Iterable[str], *, timeout: float | None = None) -> dict[str, int]:
        """How many members each of these channels has, joined or not; 0 for one that nobody is in. Up to 32 at a
        time, or what the server says (S45).

        ``timeout`` is in seconds (default: ``request_timeout_seconds`` of the config). Raises InvalidArgument,
        NotConnected, a RequestFailed, ClientClosed.
        """
        check_timeout(timeout)
        runtime = self._runtime
        seconds = runtime.config.request_timeout_seconds if timeout is None else timeout
        deadline, names = time.monotonic() + seconds, copy_of_names(channels)
        found = runtime.request(
            lambda now: runtime.core.count_members(names, timeout_seconds=_left(deadline, now), now=now),
            timeout=seconds,
        )
        return cast(MemberCounts, found).counts

    # --- online status

    def online_status(self, uids: Iterable[str], *, timeout: float | None = None) -> dict[str, OnlineStatus]:
        """Whether users are online, unreachable or offline, and since when (S39).

        ``timeout`` is in seconds (default: ``request_timeout_seconds`` of the config). Raises InvalidArgument for too
        many uids at a time or an impossible one, NotConnected, a RequestFailed, ClientClosed.
        """
        check_timeout(timeout)
        seconds = self._runtime.config.request_timeout_seconds if timeout is None else timeout
        deadline, names = time.monotonic() + seconds, copy_of_names(uids)
        found = self._runtime.request(
            lambda now: self._runtime.core.read_status(names, timeout_seconds=_left(deadline, now), now=now),
            timeout=seconds,
        )
        return cast(OnlineStatuses, found).statuses

    def subscribe_online_status(self, uids: Iterable[str], *, timeout: float | None = None) -> dict[str, OnlineStatus]:
        """Hear of changes of users' online status from now on; returns the present status of each (S39).

        Changes come as OnlineStatusChanged in ``events()`` and to ``on()``. Subscriptions live through reconnects,
        until ``unsubscribe_online_status()`` or ``logout()`` (S57). ``timeout`` is in seconds (default:
        ``request_timeout_seconds`` of the config). Raises InvalidArgument, also if more users would be watched than the
        server allows, NotConnected, a RequestFailed (nothing new is subscribed then), ClientClosed.
        """
        check_timeout(timeout)
        seconds = self._runtime.config.request_timeout_seconds if timeout is None else timeout
        deadline, names = time.monotonic() + seconds, copy_of_names(uids)
        found = self._runtime.request(
            lambda now: self._runtime.core.watch_status(names, timeout_seconds=_left(deadline, now), now=now),
            timeout=seconds,
        )
        return cast(OnlineStatuses, found).statuses

    def unsubscribe_online_status(self, uids: Iterable[str], *, timeout: float | None = None) -> None:
        """Hear no more of these users, be they subscribed to or not: it counts at once, even if
        the confirmation does not come in time; but while 256 requests are unanswered it waits, and counts behind that.

        Returns when the server has confirmed it. ``timeout`` is in seconds (default: ``request_timeout_seconds`` of the
        config). Raises InvalidArgument, NotConnected, a RequestFailed, ClientClosed.
        """
        check_timeout(timeout)
        seconds = self._runtime.config.request_timeout_seconds if timeout is None else timeout
        deadline, names = time.monotonic() + seconds, copy_of_names(uids)
        self._runtime.request(
            lambda now: self._runtime.core.unwatch_status(names, timeout_seconds=_left(deadline, now), now=now),
            timeout=seconds,
            cancellable=False,
        )

    def events(self) -> EventIterator[ClientEvent | EventsDropped]:
        """Iterates the client's own events: all that belong to no channel (S52).

        Ends at ``logout`` and ``close``, raises SessionEnded when ABORTED; interruptions do not end it.
        Its first step raises InvalidState if another iterator is at work on them, ClientClosed after ``close``.
        """
        return EventIterator(self._runtime, None)

    def on(self, event_type: type[E], handler: Callable[[E], object]) -> Callable[[], None]:
        """Have ``handler`` called with each event of this class, of the client and of all channels; returns
        what undoes it.

        Handlers run one after the other in a thread of their own and may call the client, ``close`` included.
        What a handler raises is logged (S53). If 10,000 calls wait the oldest are dropped, which is logged as
        well. Raises InvalidArgument for something that cannot be called, or a coroutine function; ClientClosed.
        """
        self._runtime.driver.check_process()
        check_handler(event_type, handler)
        if is_coroutine_function(handler):
            raise InvalidArgument(
                "a handler must be a plain function here; coroutine functions work with rtm_async only"
            )
        self._runtime.check_open()
        return self._runtime.handlers.add(event_type, handler)


class Channel:
    """A joined channel; made by ``Client.join``.

    Iterating it gives its messages (ChannelMessageReceived) and passes over other events; ``events`` gives
    all. One iterator at a time. While nobody iterates it, the newest 1,000 events are kept; how many older ones
    were dropped is told by ``EventsDropped``, and by ``lost_before`` of the next message. Iterating ends at
    ``leave``, ``logout`` and ``close``, raises SessionEnded when the client is ABORTED and ChannelUnavailable when
    the channel was lost; interruptions do not end it. Once ended it stays so: joining again gives another object.
    """

    __slots__ = ("_client", "_home", "_receipt", "_runtime")

    def __init__(self, client: Client, runtime: Runtime, home: Home, receipt: JoinReceipt) -> None:
        """Not for applications."""
        self._client = client  # a channel in use keeps its client alive
        self._runtime = runtime
        self._home = home
        self._receipt = receipt

    def __repr__(self) -> str:
        return f"<rtm_sync.Channel {self.name!r}{'' if self.joined else ', ended'}>"

    @property
    def name(self) -> str:
        """The name of the channel."""
        return self._home.name

    @property
    def receipt(self) -> JoinReceipt:
        """What the server answered to the join: offset, epoch, and the members as of then."""
        return self._receipt

    @property
    def joined(self) -> bool:
        """Whether this object's membership goes on, be it through an interruption."""
        return not self._home.queue.ended

    def send(self, message: str | bytes, *, timeout: float | None = None) -> SendReceipt:
        """Send a message to the channel; returns when it stands in the channel's log, with its offset (S34).

        Blocks while 256 requests are unanswered (S35), and through interruptions. ``timeout`` is in seconds
        for all of it (default: ``request_timeout_seconds`` of the config). Raises InvalidArgument, NotJoined,
        NotConnected, a RequestFailed that says whether the server may have carried it out (S9), ClientClosed.
        """
        check_timeout(timeout)
        runtime, home = self._runtime, self._home
        seconds = self._runtime.config.request_timeout_seconds if timeout is None else timeout
        deadline = time.monotonic() + seconds

        def publish(now: float) -> int:
            runtime.check_joined(home)
            return runtime.core.publish(home.name, message, timeout_seconds=_left(deadline, now), now=now)

        return cast(SendReceipt, runtime.request(publish, timeout=seconds))

    def members(self, *, after: str = "", timeout: float | None = None) -> MemberPage:
        """The members of the channel, in the order of their uids; the server decides how many at a time (S47).

        With ``more`` in the page, ``after=page.uids[-1]`` brings the next one. Joins and leaves with a greater
        offset than the page's apply to it. ``timeout`` is in seconds (default: ``request_timeout_seconds`` of the
        config). Raises InvalidArgument, NotJoined, NotConnected, a RequestFailed, ClientClosed.
        """
        command = partial(self._runtime.core.list_members, self._home.name, after=after)
        return cast(MemberPage, self._ask(command, timeout))

    def history(
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
        restart of the server is to be compared by it. ``timeout`` is in seconds (default:
        ``request_timeout_seconds`` of the config). Raises InvalidArgument, NotJoined, NotConnected, a
        RequestFailed, ClientClosed.
        """
        command = partial(self._runtime.core.read_history, self._home.name, before=before, after=after, limit=limit)
        return cast(HistoryPage, self._ask(command, timeout))

    def _ask(self, command: Callable[..., int], timeout: float | None) -> Any:
        check_timeout(timeout)
        runtime, home = self._runtime, self._home
        seconds = runtime.config.request_timeout_seconds if timeout is None else timeout
        deadline = time.monotonic() + seconds

        def ask(now: float) -> int:
            runtime.check_joined(home)
            return command(timeout_seconds=_left(deadline, now), now=now)

        return runtime.request(ask, timeout=seconds)

    def leave(self, *, timeout: float | None = None) -> None:
        """Leave the channel: it counts at once, and the iterator ends behind what it still holds; returns when the
        server has confirmed it (S44).

        ``timeout`` is in seconds. Raises NotJoined, NotConnected, a RequestFailed, ClientClosed.
        """
        check_timeout(timeout)
        seconds = self._runtime.config.request_timeout_seconds if timeout is None else timeout
        deadline = time.monotonic() + seconds
        self._runtime.request(
            lambda now: self._runtime.leave(self._home, _left(deadline, now), now),
            timeout=seconds,
            cancellable=False,
        )

    def __iter__(self) -> EventIterator[ChannelMessageReceived]:
        return EventIterator(self._runtime, self._home, MessageFilter())

    def events(self) -> EventIterator[ChannelEvent | EventsDropped]:
        """Iterates all events of the channel: messages, joins, leaves, gaps (S52). One iterator at a time."""
        return EventIterator(self._runtime, self._home)


def _left(deadline: float, now: float) -> float:
    """The seconds until ``deadline``; never quite none, which the core would refuse: its timer is then due at once."""
    return max(0.001, deadline - now)
