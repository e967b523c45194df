"""Worlds of real sockets: one server, a faulty link for each actor, and time that runs faster."""

from __future__ import annotations

import abc
import concurrent.futures
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from rtm_sansio import ClientConfig, Identity, LoginDenied, ServerConfig
from scenarios.adapter import Actor, Link, Pending, World, judge_token
from scenarios.proxy import Direction, ProxyLink, ProxyThread

LIMIT_SECONDS = 20.0
"""How long anything is waited for, in real seconds."""


def authenticate(request: Any) -> Identity:
    """What all worlds think of a token."""
    code = judge_token(request.token)
    if code is not None:
        raise LoginDenied("the token is bad", code)
    return Identity()


authenticate.blocking = False  # type: ignore[attr-defined]


class RealLink(Link):
    def __init__(self, link: ProxyLink, scale: float) -> None:
        self._link = link
        self._scale = scale

    def cut(self, seconds: float | None = None) -> None:
        self._link.cut(self._scaled(seconds))

    def stall(self, *directions: Direction, seconds: float | None = None) -> None:
        self._link.stall(directions, self._scaled(seconds))

    def restore(self) -> None:
        self._link.restore()

    @property
    def connections(self) -> int:
        return self._link.connections

    def _scaled(self, seconds: float | None) -> float | None:
        return None if seconds is None else seconds * self._scale


class FuturePending:
    """A call in another thread or loop."""

    def __init__(self, future: concurrent.futures.Future[Any]) -> None:
        self._future = future

    @property
    def done(self) -> bool:
        return self._future.done()

    def result(self) -> Any:
        try:
            return self._future.result(LIMIT_SECONDS)
        except concurrent.futures.TimeoutError:
            if self._future.done():  # a TimeoutError of the call itself
                raise
            raise AssertionError(f"a call did not end within {LIMIT_SECONDS} s") from None


class RealActor(Actor):
    """Keeps what other threads hear."""

    def __init__(self, world: RealWorld, name: str, uid: str, link: Link) -> None:
        super().__init__(name, uid, link)
        self._world = world
        self._news = threading.Condition()

    def record(self, home: str, event: Any, at: float | None = None) -> None:
        with self._news:
            super().record(home, event, self._world.elapsed if at is None else at)
            self._news.notify_all()

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        with self._news:
            if not self._news.wait_for(condition, LIMIT_SECONDS):
                raise AssertionError(f"in vain: {what}; heard: {self.heard}")

    @abc.abstractmethod
    def close(self) -> None:
        """End the client."""


class RealWorld(World):
    """What worlds of real sockets share: the links, and where the server is at present."""

    def __init__(self, *, server: dict[str, Any], scale: float) -> None:
        super().__init__()
        self.scale = scale
        # A quarter of a second of real time: a process may get no turn for a while.
        self.tolerance = 0.25 / scale
        self.server_config = ServerConfig(**server).scaled(scale)
        self._proxies = ProxyThread()
        self._strangers = concurrent.futures.ThreadPoolExecutor(4, thread_name_prefix="strangers")
        self._start = time.monotonic()
        self.port = 0
        """Of the server; another one after each restart."""
        try:
            self.start_server()
        except BaseException:
            self._proxies.close()
            raise

    @abc.abstractmethod
    def start_server(self) -> None:
        """Start a server on any port, and set ``port``."""

    @abc.abstractmethod
    def stop_server(self) -> None:
        """Stop it; all its memory is gone."""

    @abc.abstractmethod
    def make_actor(self, name: str, uid: str, link: Link, url: str, config: ClientConfig) -> RealActor:
        """A client of this kind of world."""

    def actor(self, name: str, *, uid: str | None = None, **config: Any) -> Actor:
        proxy = self._proxies.link(lambda: ("127.0.0.1", self.port))
        actor = self.make_actor(
            name,
            uid or name,
            RealLink(proxy, self.scale),
            f"ws://127.0.0.1:{proxy.port}",
            self.config(config).scaled(self.scale),
        )
        self.actors.append(actor)
        return actor

    def restart_server(self) -> None:
        self.stop_server()
        self.start_server()

    def begin_intrusion(self, data: bytes) -> Pending:
        return FuturePending(self._strangers.submit(self._intrude, data))

    def _intrude(self, data: bytes) -> bytes:
        received = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT_SECONDS) as connection:
            try:
                connection.sendall(data)
                while piece := connection.recv(65536):
                    received += piece
            except ConnectionError:
                pass  # a reset is an end as well
        return received

    @property
    def elapsed(self) -> float:
        return (time.monotonic() - self._start) / self.scale

    def close(self) -> None:
        try:
            for actor in self.actors:
                actor.link.restore()
            for actor in self.actors:
                assert isinstance(actor, RealActor)
                actor.close()
            self.stop_server()
            self._strangers.shutdown()
        finally:
            self._proxies.close()
