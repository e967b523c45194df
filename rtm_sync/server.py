"""A server for scripts and tests: a hub on an I/O thread of its own. For many users take ``rtm_async.Server``."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import random
import socket
import ssl as ssl_module
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from queue import Empty
from types import TracebackType
from typing import Any, Self

from rtm_sansio.auth import FailureNotes, Identity, LoginDenied, check_authenticator, judge, without_token
from rtm_sansio.checks import check_ban
from rtm_sansio.codes import Code
from rtm_sansio.config import ServerConfig
from rtm_sansio.endpoints import check_address, check_config, check_server_tls
from rtm_sansio.errors import ConfigError, InvalidState, RtmError
from rtm_sansio.events import LoginRequested, LoginWithdrawn, RenewalRequested
from rtm_sansio.hub import Hub

from ._driver import Driver
from ._threads import Reply, Workers, close_at_exit, closed_already, is_coroutine_function

Authenticator = Callable[[LoginRequested | RenewalRequested], Identity | bool]
"""Judges a login or a new token: see ``Server``."""

AUTHENTICATOR_THREADS = 4
MAX_WAITING_LOGINS = 1_000
"""Logins that wait for a thread of the authenticator; above it new ones are asked to come back later."""
BUSY_RETRY_SECONDS = 1.0
CLOSE_SECONDS = 2.0
"""What ``close`` gives the transports to take their last bytes."""
BACKLOG = 1024

_DEFAULT_CONFIG = ServerConfig()

log = logging.getLogger("rtm")


def _closed_error(fault: BaseException | None) -> RtmError:
    if fault is None:
        return InvalidState("the server was closed; make a new one", code="closed")
    error = InvalidState("the server has ended by an internal error, which was logged", code="closed")
    error.__cause__ = fault
    return error


class _Hosting:
    """The part of a server that lives on its I/O thread, which refers to this and not to the ``Server``."""

    def __init__(
        self,
        config: ServerConfig,
        authenticate: Authenticator,
        tls: ssl_module.SSLContext | None,
        listeners: list[socket.socket],
    ) -> None:
        self._authenticate = authenticate
        self._blocking = bool(getattr(authenticate, "blocking", True))
        self._faults = FailureNotes()
        self._refusals = FailureNotes()
        self._put_off = FailureNotes()
        self._notes_lock = threading.Lock()
        # Those that were given up still stand in the workers' queue, and are passed over when their turn comes.
        self._workers = Workers("rtm-authenticator", threads=AUTHENTICATOR_THREADS, max_waiting=16 * MAX_WAITING_LOGINS)
        self._awaited: dict[int, LoginRequested | RenewalRequested] = {}  # by transport; changed by the I/O thread only
        self.hub = Hub(config, entropy=os.urandom, rng=random.Random())
        self.driver = Driver(
            self.hub,
            self._on_output,
            name="rtm-server",
            tls=tls,
            listeners=listeners,
            on_ended=self._on_ended,
            ended_error=_closed_error,
        )

    def start(self) -> None:
        """Start to accept."""
        self.driver.start()
        close_at_exit(self)

    def begin_close(self) -> Reply[None]:
        """Say goodbye to all transports; the reply comes when that is on its way."""
        reply: Reply[None] = Reply()
        self.driver.post(lambda now: self._close(reply, now), lambda _: reply.succeed(None))
        return reply

    def _close(self, reply: Reply[None], now: float) -> None:
        self.hub.close(now=now)
        reply.succeed(None)

    def finish_close(self, *, within: float) -> None:
        """End the driver, within so many seconds."""
        self.driver.stop(within=within)
        self.driver.join(within + 1.0)

    def _on_output(self, output: Any) -> None:
        if isinstance(output, LoginWithdrawn):
            self._awaited.pop(output.transport_id, None)
        elif isinstance(output, (LoginRequested, RenewalRequested)):
            if not self._blocking:
                self._judge(output)(time.monotonic())
            else:
                self._judge_later(output)

    def _judge_later(self, request: LoginRequested | RenewalRequested) -> None:
        try:
            if len(self._awaited) >= MAX_WAITING_LOGINS or self._workers.full:
                raise RuntimeError("too many logins wait for the authenticator")
            self._awaited[request.transport_id] = request
            self._workers.submit(lambda: self._judge_now(request))
        except RuntimeError as fault:  # no thread to be had, or too much to do
            self._awaited.pop(request.transport_id, None)
            self._note(self._put_off, logging.WARNING, "a login of %r is put off", request, fault)
            self._refusal(request, Code.UNAVAILABLE, "too many logins at a time", BUSY_RETRY_SECONDS)(time.monotonic())

    def _judge_now(self, request: LoginRequested | RenewalRequested) -> None:
        """On a worker's thread: unless nobody waits for the verdict any more."""
        if self._awaited.get(request.transport_id) is request:
            verdict = self._judge(request)
            self.driver.post(lambda now: self._judged(request, verdict, now))

    def _judged(self, request: LoginRequested | RenewalRequested, verdict: Callable[[float], None], now: float) -> None:
        if self._awaited.get(request.transport_id) is request:
            del self._awaited[request.transport_id]
            verdict(now)

    def _judge(self, request: LoginRequested | RenewalRequested) -> Callable[[float], None]:
        """Ask the authenticator; returns what is to be done with the hub in consequence."""
        transport_id, hub = request.transport_id, self.hub
        try:
            identity = judge(self._authenticate(request))
        except LoginDenied as denied:
            self._note(self._refusals, logging.INFO, "the login of %r is refused", request, denied)
            return self._refusal(request, denied.refusal_code, str(denied), denied.retry_after_seconds)
        except Exception as fault:
            self._log_fault(request, fault)
            return self._refusal(
                request, Code.AUTHENTICATOR_FAILED, "the login could not be checked; try again later", None
            )
        if isinstance(request, LoginRequested):
            return lambda now: hub.accept_login(transport_id, expires_at=identity.expires_at, now=now)
        return lambda now: hub.accept_renewal(transport_id, request.number, expires_at=identity.expires_at, now=now)

    def _note(
        self, notes: FailureNotes, level: int, what: str, request: LoginRequested | RenewalRequested, why: Exception
    ) -> None:
        """A line in the log, unless there was such a one a moment ago: strangers must not fill it."""
        with self._notes_lock:
            passed_over = notes.take(why, time.monotonic())
        if passed_over is not None:
            before = f" (and {passed_over} more since the last one told)" if passed_over else ""
            log.log(level, f"! {what}%s: %s", request.uid, before, without_token(str(why), request.token))

    def _log_fault(self, request: LoginRequested | RenewalRequested, fault: Exception) -> None:
        with self._notes_lock:
            passed_over = self._faults.take(fault, time.monotonic())
        if passed_over is None:
            return  # a client that tries again and again must not fill the log
        # An exception may quote what it could not find: the token never reaches the log.
        text = without_token("".join(traceback.format_exception(fault)).rstrip(), request.token)
        before = f" (and {passed_over} times before, in the same way)" if passed_over else ""
        log.error("! the authenticator failed for %r%s:\n%s", request.uid, before, text)

    def _refusal(
        self, request: LoginRequested | RenewalRequested, code: int, text: str, retry_after: float | None
    ) -> Callable[[float], None]:
        transport_id, hub = request.transport_id, self.hub
        if isinstance(request, LoginRequested):
            return lambda now: hub.refuse_login(transport_id, code, text, retry_after_seconds=retry_after, now=now)
        return lambda now: hub.refuse_renewal(transport_id, request.number, code, text, now=now)

    def _on_ended(self, fault: BaseException | None) -> None:
        self._workers.close()
        closed_already(self)


class Server:
    """A server of one node, with its state in memory. Use it as a context manager, or ``start`` and ``close``
    it.

    ``authenticate`` is called with each LoginRequested and RenewalRequested and returns an ``Identity`` or a
    bool, or raises ``LoginDenied``; whatever else it raises is told to the client as passing trouble, and logged,
    the same once a minute. It is called in one of four threads, unless it has an attribute ``blocking`` that is
    False. There is no default: take ``JwtAuthenticator``, a callable of your own, or, on loopback only,
    ``allow_any_uid``.

    Port 0 takes a free one. ``ssl`` is a server context for TLS. ``sock`` is a listening socket to be used in
    place of ``host`` and ``port``; the server closes it. Raises ConfigError for options that can never work.
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
        check_address(host, port)
        check_authenticator(authenticate)
        if is_coroutine_function(authenticate):
            raise ConfigError("authenticate is a coroutine function; it works with rtm_async only")
        check_config(config, ServerConfig)
        check_server_tls(ssl)
        if sock is not None and not (isinstance(sock, socket.socket) and sock.type == socket.SOCK_STREAM):
            raise ConfigError("sock must be a stream socket")
        self._host, self._port, self._sock = host, port, sock
        self._authenticate = authenticate
        self._config = config
        self._tls = ssl
        self._hosting: _Hosting | None = None
        self._address: tuple[str, int] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<rtm_sync.Server {self.url if self._address is not None else 'not started'}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        hosting: _Hosting | None = getattr(self, "_hosting", None)
        if hosting is None or sys.is_finalizing() or not hosting.driver.same_process or not hosting.driver.started:
            return
        if not self._closed:
            warnings.warn(
                f"unclosed {self!r}; call close(), or use it in a with block",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
        hosting.driver.stop(within=0.0)

    def start(self) -> None:
        """Listen, and return.

        Raises OSError if that is not possible (the port is taken), ConfigError if ``allow_any_uid`` would be
        reachable from beyond loopback, InvalidState if it was started before.
        """
        if self._hosting is not None or self._closed:
            raise InvalidState("the server was started or closed before; make a new one")
        listeners = [self._sock] if self._sock is not None else _listen(self._host, self._port)
        try:
            if getattr(self._authenticate, "development_only", False):
                _check_loopback(listeners)
            for listener in listeners:
                listener.setblocking(False)
            self._address = _address_of(listeners[0])
            self._hosting = _Hosting(self._config, self._authenticate, self._tls, listeners)
            self._hosting.start()
        except BaseException:
            if self._hosting is not None:
                self._hosting.driver.stop(within=0.0)
            for listener in listeners:
                listener.close()
            raise

    @property
    def port(self) -> int:
        """The port that it listens on. Raises InvalidState before ``start``."""
        return self._bound()[1]

    @property
    def url(self) -> str:
        """The URL for clients on this machine. Raises InvalidState before ``start``."""
        host, port = self._bound()
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1" if host == "0.0.0.0" else "::1"
        elif self._sock is None and self._host:
            host = self._host  # the name that the certificate was made for
        host = f"[{host}]" if ":" in host else host
        path = "" if self._config.path == "/" else self._config.path
        return f"{'ws' if self._tls is None else 'wss'}://{host}:{port}{path}"

    def kick(self, uid: str) -> None:
        """End the session of ``uid``: its client is ABORTED with KICKED_BY_SERVER; a new ``login`` is free.

        Raises InvalidState unless the server is running.
        """
        hosting = self._running()
        hosting.driver.call(lambda now: hosting.hub.kick(uid, now=now))

    def ban(self, uid: str, seconds: float) -> None:
        """End the session of ``uid`` and refuse its logins for ``seconds``.

        Raises InvalidArgument for a time that is not above 0, InvalidState unless the server is running.
        """
        check_ban(seconds)
        hosting = self._running()
        hosting.driver.call(lambda now: hosting.hub.ban(uid, seconds, now=now))

    def close(self) -> None:
        """Stop: no new connections, a goodbye to all that are there (at most 2 s), and the I/O thread ends.

        May be called more than once and from any thread. In a forked process it does nothing: the sockets are
        the parent's.
        """
        self._closed = True
        hosting = self._hosting
        if hosting is None:
            if self._sock is not None:
                self._sock.close()  # it was the server's from the start
            return
        if not hosting.driver.same_process:
            return
        try:
            try:
                hosting.begin_close().wait(CLOSE_SECONDS)
            except Empty:
                log.warning("! the server was too busy to say goodbye")
        finally:
            hosting.finish_close(within=CLOSE_SECONDS)

    def _bound(self) -> tuple[str, int]:
        if self._address is None:
            raise InvalidState("the server was not started; call start(), or use it as a context manager")
        return self._address

    def _running(self) -> _Hosting:
        if self._closed:
            raise _closed_error(None)
        if self._hosting is None:
            raise InvalidState("the server was not started; call start(), or use it as a context manager")
        return self._hosting


def _listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for all addresses of ``host`` (all of this machine for an empty one), on one port."""
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    listeners: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            if listeners and port == 0:  # the others take the port that the first one was given
                address = (address[0], listeners[0].getsockname()[1], *address[2:])
            try:
                listeners.append(socket.create_server(address, family=family, backlog=BACKLOG))
            except OSError as fault:
                # An address family that this machine does not have is no reason not to serve the others.
                if fault.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) or len(found) == 1:
                    raise
        if not listeners:
            raise OSError(errno.EADDRNOTAVAIL, f"no address of {host!r} can be listened on")
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _address_of(listener: socket.socket) -> tuple[str, int]:
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return "localhost", 0
    host, port = listener.getsockname()[:2]
    return str(host), int(port)


def _check_loopback(listeners: list[socket.socket]) -> None:
    for listener in listeners:
        if listener.family not in (socket.AF_INET, socket.AF_INET6):
            continue  # a socket in the file system is local
        host = str(listener.getsockname()[0])
        if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            raise ConfigError(
                f"allow_any_uid is for development and refuses to listen on {host}, beyond loopback; "
                "take JwtAuthenticator or a callable of your own"
            )
