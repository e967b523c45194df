"""What the threads of this package hand each other: answers, work for daemon threads, and the end of the
interpreter.

Whoever blocks here blocks in ``queue.SimpleQueue.get``: it is written in C, so a signal (Ctrl-C) ends the
wait at once and leaves nothing half done. ``threading.Condition`` and ``Event`` do not promise that: a
KeyboardInterrupt inside them can leave their lock in the wrong state.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

log = logging.getLogger("rtm")

T = TypeVar("T")

LONGEST_WAIT_SECONDS = 1_000_000.0
"""No wait is longer, whatever it was given; what the operating systems can wait for is not much more."""
EXIT_SECONDS = 0.5
"""How long all that is still open may take when the interpreter exits."""


class Reply(Generic[T]):
    """Where one thread waits for one answer of another; the first answer counts."""

    __slots__ = ("_answers", "answered", "request_id", "result", "succeeded")

    def __init__(self) -> None:
        self._answers: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        self.answered = False
        self.succeeded = False
        self.result: T | None = None
        self.request_id: int | None = None
        """The id of the request that is waited for, if any. Belongs to the I/O thread, like all but ``wait``."""

    def succeed(self, result: T) -> None:
        """The answer is ``result``."""
        if not self.answered:
            self.answered = self.succeeded = True
            self.result = result
            self._answers.put((result, None))

    def fail(self, error: BaseException) -> None:
        """The answer is an exception, to be raised by the one who waits."""
        if not self.answered:
            self.answered = True
            self._answers.put((None, error))

    def take(self, function: Callable[[float], T], now: float) -> None:
        """Answer with what ``function`` returns or raises."""
        try:
            self.succeed(function(now))
        except Exception as error:
            self.fail(error)

    def wait(self, timeout: float | None = None) -> T:
        """The answer, or its exception; raises ``queue.Empty`` if none comes within ``timeout`` seconds."""
        result, error = self._answers.get(
            timeout=None if timeout is None else min(max(0.0, timeout), LONGEST_WAIT_SECONDS)
        )
        if error is not None:
            try:
                raise error
            finally:
                del error  # or the exception would hold this frame, and the frame the exception
        return result  # type: ignore[return-value]


def start_daemon(target: Callable[[], None], name: str) -> threading.Thread:
    """A started daemon thread. Raises RuntimeError if there can be none (at interpreter exit, or out of threads)."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def is_coroutine_function(function: object) -> bool:
    """Whether calling ``function`` gives a coroutine: as an ``async def``, or an object with such a ``__call__``."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


class Workers:
    """A few daemon threads, started when there is work, that run one callable after the other.

    Not ``concurrent.futures``: its threads are joined at interpreter exit, and one blocked callable of the
    application would hang it. Only one thread (the I/O thread) may call ``submit`` and ``close``.
    """

    def __init__(self, name: str, *, threads: int, max_waiting: int) -> None:
        self._name = name
        self._max_threads = threads
        self._max_waiting = max_waiting
        self._threads = 0
        self._closed = False
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    @property
    def full(self) -> bool:
        """Whether as much waits as may."""
        return self._work.qsize() >= self._max_waiting

    def drop_oldest(self) -> None:
        """Forget what has waited longest."""
        try:
            self._work.get_nowait()
        except Empty:
            pass  # a worker was faster

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work`` on one of the threads. Raises RuntimeError if none can be started."""
        if self._closed:
            return
        if self._threads < self._max_threads:
            try:
                start_daemon(self._run, f"{self._name}-{self._threads + 1}")
            except RuntimeError:
                if self._threads == 0:
                    raise
            else:
                self._threads += 1
        self._work.put(work)

    def close(self) -> None:
        """The threads end when they have done what waits."""
        if not self._closed:
            self._closed = True
            for _ in range(self._threads):
                self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception:
                log.exception("a callback raised; it is ignored")  # S53
            del work  # or an idle thread would keep the last one, and what it refers to, alive


class AtExit(Protocol):
    """What is still open when the interpreter exits."""

    def begin_close(self) -> Reply[None]:
        """Start to close; the reply comes when the polite part is over. Must not block."""
        ...

    def finish_close(self, *, within: float) -> None:
        """Close for good, within so many seconds."""
        ...


_open: weakref.WeakSet[AtExit] = weakref.WeakSet()
_registered_in: int | None = None


def close_at_exit(item: AtExit) -> None:
    """Have ``item`` closed when the interpreter exits, should it still exist then (F-81)."""
    global _registered_in
    if _registered_in is None:
        atexit.register(_close_all)
    if _registered_in != os.getpid():
        _registered_in = os.getpid()
        _open.clear()  # what was open in the parent is the parent's (F-78)
    _open.add(item)


def closed_already(item: AtExit) -> None:
    """``item`` is closed."""
    _open.discard(item)


def _close_all() -> None:
    if _registered_in != os.getpid():
        return
    deadline = time.monotonic() + EXIT_SECONDS
    items = list(_open)
    replies = [item.begin_close() for item in items]
    for reply in replies:
        try:
            reply.wait(deadline - time.monotonic())
        except Exception:
            log.debug("% closing at exit was not finished", exc_info=True)
    for item in items:
        item.finish_close(within=max(0.05, deadline - time.monotonic()))
