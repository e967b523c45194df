"""A TCP proxy as the faulty link of real sockets: it passes, stalls, cuts with a reset, and refuses.

One thread runs all links of a world. It never looks at what passes, so it is the same for every frontend.
"""

from __future__ import annotations

import heapq
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Literal

Direction = Literal["up", "down"]
"""``up`` is from the client to the server."""

READ_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_BOTH: tuple[Direction, Direction] = ("up", "down")


class ProxyThread:
    """Runs any number of links, each on a port of its own."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._waker, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self.selector.register(self._woken, selectors.EVENT_READ, lambda _: self._drain())
        self._links: list[ProxyLink] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="faulty-links", daemon=True)
        self._thread.start()

    def link(self, target: Callable[[], tuple[str, int]]) -> ProxyLink:
        """A new link to whatever ``target`` names at each new connection."""
        link = ProxyLink(self, target)
        self._links.append(link)
        self.call(link.listen)
        return link

    def call(self, action: Callable[[], None]) -> None:
        """Run ``action`` in the thread, and wait for it."""
        done: SimpleQueue[BaseException | None] = SimpleQueue()

        def run() -> None:
            try:
                action()
            except BaseException as fault:
                done.put(fault)
            else:
                done.put(None)

        self._calls.append(run)
        self._waker.send(b"!")
        fault = done.get(timeout=10.0)
        if fault is not None:
            raise fault

    def call_later(self, seconds: float, action: Callable[[], None]) -> None:
        """Run ``action`` after a while. Only in the thread."""
        self._sequence += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._sequence, action))

    def close(self) -> None:
        """End all links and the thread."""

        def end() -> None:
            for link in self._links:
                link.end()
            self._ended = True

        self.call(end)
        self._thread.join(10.0)
        self.selector.close()
        self._waker.close()
        self._woken.close()

    def _drain(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _run(self) -> None:
        while not self._ended:
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, _ in self.selector.select(timeout):
                if self.selector.get_map() and key.fd in self.selector.get_map():
                    key.data(key.fileobj)
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()
            while self._calls:
                self._calls.popleft()()


class ProxyLink:
    """The path between one client and the server."""

    def __init__(self, thread: ProxyThread, target: Callable[[], tuple[str, int]]) -> None:
        self._thread = thread
        self._target = target
        # Keeps the port while nothing listens on it.
        self._holder = self._bind(0)
        self.port: int = self._holder.getsockname()[1]
        self.connections = 0
        """How many were accepted so far."""
        self._listener: socket.socket | None = None
        self._pairs: set[_Pair] = set()
        self._stalled: set[Direction] = set()
        self._generation = 0

    @staticmethod
    def _bind(port: int) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(("127.0.0.1", port))
        return bound

    # --- what a scenario does; times in real seconds

    def cut(self, seconds: float | None) -> None:
        """Reset all connections and refuse new ones, for so long or until ``restore``."""

        def cut() -> None:
            self._unlisten()
            self.reset()
            self._restore_after(seconds)

        self._thread.call(cut)

    def stall(self, directions: tuple[Direction, ...], seconds: float | None) -> None:
        """Pass nothing on, and say nothing; nothing is lost either, as if a cable were out."""

        def stall() -> None:
            self._stalled |= set(directions or _BOTH)
            for pair in self._pairs:
                pair.arrange()
            self._arrange_listener()
            self._restore_after(seconds)

        self._thread.call(stall)

    def restore(self) -> None:
        """Everything works again."""
        self._thread.call(self._restore)

    # --- in the thread

    def _restore_after(self, seconds: float | None) -> None:
        self._generation += 1
        generation = self._generation

        def restore() -> None:
            if generation == self._generation:
                self._restore()

        if seconds is not None:
            self._thread.call_later(seconds, restore)

    def _restore(self) -> None:
        self._generation += 1
        self._stalled.clear()
        if self._listener is None:
            self.listen()
        self._arrange_listener()
        for pair in list(self._pairs):
            pair.arrange()

    def listen(self) -> None:
        self._listener = self._bind(self.port)
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._arrange_listener()

    def _unlisten(self) -> None:
        if self._listener is not None:
            _watch(self._thread.selector, self._listener, 0, self._accept)
            self._listener.close()
            self._listener = None

    def _arrange_listener(self) -> None:
        if self._listener is not None:
            events = 0 if "up" in self._stalled else selectors.EVENT_READ
            _watch(self._thread.selector, self._listener, events, self._accept)

    def _accept(self, listener: Any) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        self.connections += 1
        try:
            server = socket.create_connection(self._target(), timeout=2.0)
        except OSError:
            _reset(client)
            return
        self._pairs.add(_Pair(self, client, server))

    def reset(self) -> None:
        for pair in list(self._pairs):
            pair.reset()

    def end(self) -> None:
        self._unlisten()
        self.reset()
        self._holder.close()

    @property
    def selector(self) -> selectors.BaseSelector:
        return self._thread.selector

    def is_stalled(self, direction: Direction) -> bool:
        return direction in self._stalled

    def forget(self, pair: _Pair) -> None:
        self._pairs.discard(pair)


class _Pair:
    """One connection of a client and the one to the server that belongs to it."""

    def __init__(self, link: ProxyLink, client: socket.socket, server: socket.socket) -> None:
        self._link = link
        self._sources: dict[Direction, socket.socket] = {"up": client, "down": server}
        self._sinks: dict[Direction, socket.socket] = {"up": server, "down": client}
        self._waiting: dict[Direction, bytes] = {"up": b"", "down": b""}
        self._ended: set[Direction] = set()
        self._open = True
        for each in (client, server):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.arrange()

    def arrange(self) -> None:
        """Wait for what can be done at present."""
        if not self._open:
            return
        for direction, other in (("up", "down"), ("down", "up")):
            source = self._sources[direction]
            events = 0
            if not self._link.is_stalled(direction) and not self._waiting[direction] and direction not in self._ended:
                events |= selectors.EVENT_READ
            if not self._link.is_stalled(other) and self._waiting[other]:
                events |= selectors.EVENT_WRITE
            _watch(self._link.selector, source, events, self._ready)

    def _ready(self, ready: Any) -> None:
        for direction in _BOTH:
            if self._open and ready is self._sources[direction]:
                self._read(direction)
            if self._open and ready is self._sinks[direction] and self._waiting[direction]:
                self._write(direction)
        self.arrange()

    def _read(self, direction: Direction) -> None:
        if self._waiting[direction] or direction in self._ended or self._link.is_stalled(direction):
            return
        try:
            data = self._sources[direction].recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.reset()
            return
        if data:
            self._waiting[direction] = data
            self._write(direction)
            return
        self._ended.add(direction)
        try:
            self._sinks[direction].shutdown(socket.SHUT_WR)
        except OSError:
            self.reset()
            return
        if len(self._ended) == len(_BOTH):
            self._close(reset=False)

    def _write(self, direction: Direction) -> None:
        if self._link.is_stalled(direction):
            return
        try:
            sent = self._sinks[direction].send(self._waiting[direction])
        except BlockingIOError:
            return
        except OSError:
            self.reset()
            return
        self._waiting[direction] = self._waiting[direction][sent:]

    def reset(self) -> None:
        """Both ends get a reset."""
        self._close(reset=True)

    def _close(self, *, reset: bool) -> None:
        if not self._open:
            return
        self._open = False
        for each in self._sources.values():
            _watch(self._link.selector, each, 0, self._ready)
            if reset:
                _reset(each)
            else:
                each.close()
        self._link.forget(self)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    connection.close()


def _watch(selector: selectors.BaseSelector, watched: socket.socket, events: int, ready: Callable[[Any], None]) -> None:
    """Wait for these events and no others."""
    registered = watched in selector.get_map()
    if events == 0:
        if registered:
            selector.unregister(watched)
    elif registered:
        selector.modify(watched, events, ready)
    else:
        selector.register(watched, events, ready)
