"""The asyncio server: ``Server``, a ``Hub`` with sockets and an authenticator."""

from __future__ import annotations

import asyncio
import errno
import inspect
import ipaddress
import logging
import os
import random
import socket
import ssl as ssl_module
import time
import traceback
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

from rtm_sansio.auth import FailureNotes, Identity, LoginDenied, check_authenticator, judge, without_token
from rtm_sansio.checks import check_ban
from rtm_sansio.codes import Code
from rtm_sansio.config import ServerConfig
from rtm_sansio.endpoints import check_address, check_config, check_server_tls
from rtm_sansio.errors import ConfigError, InvalidState
from rtm_sansio.events import LoginRequested, LoginWithdrawn, RenewalRequested
from rtm_sansio.hub import Hub

from ._driver import AcceptingDriver

BACKLOG = 1024
"""Connections that the system may hold until they are accepted: many clients come back at once."""
AUTHENTICATOR_THREADS = 8
MAX_JUDGED_LOGINS = 1024
"""Logins that wait for a slow authenticator; those above are told to come back later."""
JUDGED_RETRY_SECONDS = 1.0
_VERDICT_SHARE = 0.8
"""Of the time for a login: a verdict that takes longer is a fault of the authenticator, and not of the client, which
is told so before its time is over."""

_DEFAULT_CONFIG = ServerConfig()
_log = logging.getLogger("rtm")

_Request = LoginRequested | RenewalRequested
Authenticator = Callable[[Any], Identity | bool | Awaitable[Identity | bool]]
"""Gets a LoginRequested or a RenewalRequested; says who may come in, or raises LoginDenied."""


class _Refuse(Protocol):
    def __call__(self, code: int, message: str, retry_after_seconds: float | None) -> None: ...


class Server:
    """A server of one node, its engine in memory: an async context manager, or ``start`` and ``close``.

    It listens on ``host`` and ``port`` (0: any free one), or on ``sock``, a bound stream socket that is the
    server's from then on; with ``ssl`` it speaks ``wss``. ``authenticate`` is called with each login and
    renewal of a token and returns an Identity or a bool, or raises LoginDenied. It may be a coroutine
    function. A plain function is called in a thread, unless it has an attribute ``blocking`` that is False.
    Whatever else it raises or returns refuses the login for now, and is logged, the same once a minute.

    Raises ConfigError for what can never work.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        authenticate: Authenticator,
        config: ServerConfig = _DEFAULT_CONFIG,
        ssl: ssl_module.SSLContext | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        check_address(host, port)
        check_authenticator(authenticate)
        check_config(config, ServerConfig)
        check_server_tls(ssl)
        if sock is not None and not (isinstance(sock, socket.socket) and sock.type == socket.SOCK_STREAM):
            raise ConfigError("sock must be a stream socket")
        self._host = host
        self._wanted_port = port
        self._sock = sock
        self._ssl = ssl
        self._config = config
        self._authenticate = authenticate
        self._faults = FailureNotes()
        self._refusals = FailureNotes()
        self._direct = getattr(authenticate, "blocking", True) is False
        self._is_async = inspect.iscoroutinefunction(authenticate) or inspect.iscoroutinefunction(
            type(authenticate).__call__
        )
        self._pid = os.getpid()
        self._hub: Hub | None = None
        self._driver: AcceptingDriver | None = None
        self._address: tuple[str, int] | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._judging: dict[int, asyncio.Task[None]] = {}  # by transport: one verdict at a time is awaited for each
        self._closing: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<rtm_async.Server {self.url if self._address is not None else 'not started'}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if getattr(self, "_loop", None) is None or self._closing is not None or os.getpid() != self._pid:
            return
        warnings.warn(
            f"{self!r} was not closed; use 'async with' or close()",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )

    @property
    def port(self) -> int:
        """The port it listens on. Raises InvalidState before ``start``."""
        return self._listening()[1]

    @property
    def url(self) -> str:
        """The URL for clients on this machine. Raises InvalidState before ``start``."""
        host, port = self._listening()
        path = self._config.path if self._config.path != "/" else ""
        return f"{'ws' if self._ssl is None else 'wss'}://{host}{f':{port}' if port else ''}{path}"

    def _listening(self) -> tuple[str, int]:
        if self._address is None:
            raise InvalidState("the server was not started; call start(), or use it as a context manager")
        return self._address

    async def start(self) -> None:
        """Listen, and serve from now on in the background.

        Raises OSError if the address cannot be had, ConfigError for ``allow_any_uid`` beyond loopback,
        InvalidState the second time.
        """
        if self._loop is not None or self._closing is not None:
            raise InvalidState("the server was started or closed before; make a new one")
        loop = asyncio.get_running_loop()
        addresses = [] if self._sock is not None else await self._find_addresses(loop)
        if self._loop is not None or self._closing is not None:  # meanwhile
            raise InvalidState("the server has been started or closed by another task")
        if getattr(self._authenticate, "development_only", False):
            self._check_loopback(addresses)
        listeners = _listen(addresses, self._wanted_port) if self._sock is None else [_adopt(self._sock)]
        self._address = self._address_of(listeners[0])
        self._loop = loop
        self._hub = Hub(self._config, entropy=os.urandom, rng=random.Random())
        self._driver = AcceptingDriver(self._hub, loop=loop, on_output=self._take)
        self._driver.listen(listeners, tls=self._ssl)
        self._driver.pump()
        _log.info("serving on %s", self.url)

    async def _find_addresses(self, loop: asyncio.AbstractEventLoop) -> list[tuple[int, Any]]:
        found = await loop.getaddrinfo(
            self._host or None, self._wanted_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))

    def _check_loopback(self, addresses: list[tuple[int, Any]]) -> None:
        if self._sock is not None:
            addresses = [(self._sock.family, self._sock.getsockname())]
        for family, address in addresses:
            if family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
                raise ConfigError(
                    f"{self._authenticate!r} lets everybody in, so it listens on loopback only, and not on "
                    f"{address[0]}; use 127.0.0.1, or an authenticator that checks tokens"
                )

    def _address_of(self, listener: socket.socket) -> tuple[str, int]:
        if listener.family not in (socket.AF_INET, socket.AF_INET6):
            return "localhost", 0
        host, port = listener.getsockname()[:2]
        if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
            host = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
        elif self._sock is None and self._host:
            host = self._host  # the name that a certificate is for
        return f"[{host}]" if ":" in host else host, port

    async def close(self) -> None:
        """Stop: every client is told and its connection closed. Takes at most about 2 s. Safe to repeat."""
        if self._loop is None:
            if self._sock is not None:
                self._sock.close()
            self._closing = self._closing or asyncio.get_running_loop().create_future()
            return
        loop, hub, driver = self._running("close()")
        if self._closing is not None:
            await asyncio.wait([self._closing])
            return
        self._closing = loop.create_future()
        try:
            await driver.stop_listening()
            hub.close(now=loop.time())
            driver.pump()
            for task in self._judging.values():
                task.cancel()
            await driver.finish()
        finally:
            driver.stop()
            if self._threads is not None:
                self._threads.shutdown(wait=False, cancel_futures=True)
            self._closing.set_result(None)

    def kick(self, uid: str) -> Awaitable[None]:
        """End the session of ``uid``: its client is ABORTED, and may log in again (S31).

        It takes effect at the call; what it returns may be awaited. A uid without a session is none of its
        concern.
        """
        loop, hub, driver = self._running("kick()")
        hub.kick(uid, now=loop.time())
        driver.pump()
        return _done(loop)

    def ban(self, uid: str, seconds: float) -> Awaitable[None]:
        """End the session of ``uid`` and refuse its logins for so many seconds. Otherwise as ``kick``."""
        check_ban(seconds)
        loop, hub, driver = self._running("ban()")
        hub.ban(uid, seconds, now=loop.time())
        driver.pump()
        return _done(loop)

    def _running(self, call: str) -> tuple[asyncio.AbstractEventLoop, Hub, AcceptingDriver]:
        if os.getpid() != self._pid:
            raise InvalidState(f"{call}: this server belongs to the process that made it")
        if self._closing is not None and call != "close()":
            raise InvalidState("the server was closed; make a new one", code="closed")
        if self._loop is None or self._hub is None or self._driver is None:
            raise InvalidState("the server was not started; call start(), or use it as a context manager")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError as fault:
            raise InvalidState(f"{call}: no event loop runs in this thread; call it in the server's") from fault
        if loop is not self._loop:
            raise InvalidState(f"{call}: this server belongs to another event loop")
        return self._loop, self._hub, self._driver

    # --- what comes out of the hub

    def _take(self, output: Any) -> None:
        if isinstance(output, LoginRequested):
            self._decide(output, self._accept_login, partial(self._refuse_login, output.transport_id))
        elif isinstance(output, LoginWithdrawn):
            task = self._judging.pop(output.transport_id, None)
            if task is not None:
                task.cancel()
        elif isinstance(output, RenewalRequested):
            self._decide(output, partial(self._accept_renewal, output.number), partial(self._refuse_renewal, output))

    def _accept_login(self, transport_id: int, identity: Identity) -> None:
        loop, hub = self._inside()
        hub.accept_login(transport_id, expires_at=identity.expires_at, now=loop.time())

    def _refuse_login(self, transport_id: int, code: int, message: str, retry_after_seconds: float | None) -> None:
        loop, hub = self._inside()
        hub.refuse_login(transport_id, code, message, retry_after_seconds=retry_after_seconds, now=loop.time())

    def _accept_renewal(self, number: int, transport_id: int, identity: Identity) -> None:
        loop, hub = self._inside()
        hub.accept_renewal(transport_id, number, expires_at=identity.expires_at, now=loop.time())

    def _refuse_renewal(
        self, request: RenewalRequested, code: int, message: str, retry_after_seconds: float | None
    ) -> None:
        loop, hub = self._inside()
        hub.refuse_renewal(request.transport_id, request.number, code, message, now=loop.time())

    def _inside(self) -> tuple[asyncio.AbstractEventLoop, Hub]:
        assert self._loop is not None
        assert self._hub is not None
        return self._loop, self._hub

    # --- the authenticator

    def _decide(self, request: _Request, accept: Callable[[int, Identity], None], refuse: _Refuse) -> None:
        if self._direct and not self._is_async:
            try:
                identity = judge(self._authenticate(request))
            except Exception as error:
                self._refused(request, error, refuse)
            else:
                accept(request.transport_id, identity)
        elif len(self._judging) >= MAX_JUDGED_LOGINS:
            refuse(Code.UNAVAILABLE, "too many logins are being checked; try again later", JUDGED_RETRY_SECONDS)
        else:
            assert self._loop is not None
            self._judging[request.transport_id] = self._loop.create_task(self._decide_later(request, accept, refuse))

    async def _decide_later(self, request: _Request, accept: Callable[[int, Identity], None], refuse: _Refuse) -> None:
        try:
            async with asyncio.timeout(_VERDICT_SHARE * self._config.login_deadline_seconds):
                identity = judge(await self._ask(request))
        except Exception as error:
            self._judging.pop(request.transport_id, None)
            self._refused(request, error, refuse)
        else:
            self._judging.pop(request.transport_id, None)
            accept(request.transport_id, identity)
        assert self._driver is not None
        self._driver.pump()

    async def _ask(self, request: _Request) -> object:
        answer: object
        if self._is_async:
            answer = self._authenticate(request)
        else:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(AUTHENTICATOR_THREADS, thread_name_prefix="rtm-authenticator")
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._authenticate, request)
        return await answer if inspect.isawaitable(answer) else answer

    def _refused(self, request: _Request, error: Exception, refuse: _Refuse) -> None:
        if isinstance(error, LoginDenied):
            passed_over = self._refusals.take(error, time.monotonic())
            if passed_over is not None:  # else there were such a moment ago: strangers must not fill the log
                before = f" (and {passed_over} more since the last one told)" if passed_over else ""
                _log.info(
                    "! the login of %r is refused%s: %s", request.uid, before, without_token(str(error), request.token)
                )
            refuse(error.refusal_code, str(error), error.retry_after_seconds)
            return
        self._log_fault(request, error)
        refuse(Code.AUTHENTICATOR_FAILED, "the login could not be checked; try again later", None)

    def _log_fault(self, request: _Request, fault: Exception) -> None:
        passed_over = self._faults.take(fault, time.monotonic())
        if passed_over is None:
            return  # a client that tries again and again must not fill the log
        # An exception may quote what it could not find: the token never reaches the log.
        text = without_token("".join(traceback.format_exception(fault)).rstrip(), request.token)
        before = f" (and {passed_over} times before, in the same way)" if passed_over else ""
        _log.error("! the authenticator failed for %r%s:\n%s", request.uid, before, text)


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def _listen(addresses: list[tuple[int, Any]], port: int) -> list[socket.socket]:
    """Listening sockets, all on one port. Raises OSError."""
    listeners: list[socket.socket] = []
    unusable: OSError | None = None
    try:
        for family, address in addresses:
            try:
                listener = _listen_on(family, (address[0], port, *address[2:]))
            except OSError as error:
                # A name can stand for addresses of a family that this machine does not have.
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                unusable = error
                continue
            listeners.append(listener)
            port = listener.getsockname()[1]
        if not listeners:
            raise unusable or OSError(errno.EADDRNOTAVAIL, "the host has no address")
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _listen_on(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        return _adopt(listener)
    except BaseException:
        listener.close()
        raise


def _adopt(listener: socket.socket) -> socket.socket:
    listener.setblocking(False)
    listener.listen(BACKLOG)
    return listener


def _done(loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    future: asyncio.Future[None] = loop.create_future()
    future.set_result(None)
    return future
