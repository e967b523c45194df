"""A daemon thread with a selector, to which other threads hand work.

Everything that must not be used by two threads at a time belongs to this thread: cores, sockets, SSL objects.
So nothing needs a lock, and a Ctrl-C, which Python raises in the main thread at any line, tears nothing: the
main thread only hands work over and waits for the answer.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from rtm_sansio.errors import InvalidState, RtmError

from ._threads import Reply

T = TypeVar("T")

Work = Callable[[float], object]
Refused = Callable[[RtmError], object]

WAKES_READ = 4096

log = logging.getLogger("rtm")


def ignore(_: object) -> None:
    """Nothing is to be done."""


class _Waker(socket.socket):
    """The end of a socketpair by which the thread is woken.

    Closed by its last reference and not by the thread: somebody may be about to write to it, and must not hit a
    descriptor that has become another's.
    """

    def __del__(self) -> None:
        self.close()


class IoThread:
    """The thread's life and its work list. Subclasses say what a pass of its loop is.

    Work must not block, and must not raise: what does ends the thread loudly (F-82). That is logged, and
    whoever waits, now or later, gets an error, made by ``ended_error`` of the fault (of None after ``stop``).
    """

    def __init__(
        self,
        name: str,
        *,
        ended_error: Callable[[BaseException | None], RtmError],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._ended_error = ended_error
        self._clock = clock
        self._pid = os.getpid()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._work: deque[tuple[Work, Refused]] = deque()
        self._ended = False
        self._fault: BaseException | None = None
        self._stop_at: float | None = None
        self._selector: selectors.BaseSelector
        self._woken: socket.socket
        self._waker: _Waker | None = None

    # --- from any thread

    @property
    def started(self) -> bool:
        """Whether the thread was started and has not ended."""
        return self._thread is not None and not self._ended

    @property
    def ended(self) -> bool:
        """Whether the thread has ended, or will never start."""
        return self._ended

    @property
    def same_process(self) -> bool:
        """False in a process forked from the one that made this object (F-78)."""
        return os.getpid() == self._pid

    def check_process(self) -> None:
        """Raises InvalidState in a process forked from the one that made this object."""
        if not self.same_process:
            raise InvalidState(
                "this object was made before a fork(); it belongs to the parent process, make a new one here"
            )

    def start(self) -> None:
        """Start the thread, if that has not been done; ``post`` and ``call`` do it as well.

        Raises RuntimeError or OSError if the process is out of threads or descriptors.
        """
        self.check_process()
        if self._thread is None:
            with self._start_lock:
                if self._thread is None and not self._ended:
                    self._start()

    def _start(self) -> None:
        if self._waker is None:
            self._woken, waker = socket.socketpair()
            self._waker = _Waker(fileno=waker.detach())
            self._woken.setblocking(False)
            self._waker.setblocking(False)
        self._thread = thread = threading.Thread(target=self._run, name=f"{self._name}-io", daemon=True)
        try:
            thread.start()
        except BaseException:  # no thread to be had, or Ctrl-C
            if thread.ident is None:
                self._thread = None
            raise

    def post(self, work: Work, refused: Refused = ignore) -> None:
        """Have the thread call ``work(now)``, in the order of the posts.

        If the thread has ended, or ends before, ``refused(error)`` is called instead, in whatever thread
        notices.
        """
        self.start()
        try:
            self._work.append((work, refused))
        finally:  # also if Ctrl-C comes right here: work without a wake would have to wait
            self._wake()
        if self._ended:
            self._refuse_work()

    def call(self, function: Callable[[float], T]) -> T:
        """What ``function(now)`` returns or raises in the thread."""
        if threading.current_thread() is self._thread:
            return self._call_here(function)
        reply: Reply[T] = Reply()
        self.post(lambda now: reply.take(function, now), reply.fail)
        return reply.wait()

    def stop(self, *, within: float) -> None:
        """End the thread, once what it still has to do is done or ``within`` seconds are over. Does not wait."""
        with self._start_lock:
            if self._thread is None:
                if not self._ended:
                    self._ended = True
                    self._release(None)
                return

        def stop(now: float) -> None:
            by = now + within
            self._stop_at = by if self._stop_at is None else min(self._stop_at, by)
            self._stopping()

        self.post(stop)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread's end; False if it has not ended within ``timeout`` seconds, or is the caller."""
        thread = self._thread
        if thread is None:
            return True
        if thread is not threading.current_thread():
            thread.join(timeout)
        return not thread.is_alive()

    def _wake(self) -> None:
        if not self._ended and self._waker is not None:
            try:
                self._waker.send(b"\0")
            except BlockingIOError:
                pass  # so many wakes are on their way that one more changes nothing
            except OSError:
                pass  # the thread ends at this moment; it refuses the work itself, last of all

    # --- the thread itself

    def _run(self) -> None:
        if self._thread is not threading.current_thread():
            return  # Ctrl-C came while it was being started; another one takes its place
        try:
            with selectors.DefaultSelector() as self._selector, self._woken:
                self._selector.register(self._woken, selectors.EVENT_READ)
                try:
                    self._begin()
                    while self._stop_at is None or (self._unfinished() and self._clock() < self._stop_at):
                        self._pass()
                except BaseException as fault:
                    self._fault = fault
                    log.critical("! the I/O thread %s-io ends by an internal error", self._name, exc_info=True)
                self._end()
        finally:
            self._ended = True
            self._refuse_work()

    def _end(self) -> None:
        try:
            self._release(self._fault)
        except Exception as fault:
            self._fault = self._fault or fault
            log.critical("! the I/O thread %s-io did not end cleanly", self._name, exc_info=True)

    def _take_wakes(self) -> None:
        try:
            self._woken.recv(WAKES_READ)
        except BlockingIOError:
            pass  # they were read in this pass already

    def _run_work(self) -> None:
        for _ in range(len(self._work)):  # what comes meanwhile has sent its wake
            work, _refused = self._work.popleft()
            work(self._clock())
            self._after_work()

    def _refuse_work(self) -> None:
        while self._work:
            try:
                _, refused = self._work.popleft()
            except IndexError:
                return  # another thread does the same
            refused(self._ended_error(self._fault))

    # --- for subclasses, all called in the thread

    def _call_here(self, function: Callable[[float], T]) -> T:
        """``call`` by the thread itself."""
        raise NotImplementedError

    def _begin(self) -> None:
        """The thread begins."""
        raise NotImplementedError

    def _pass(self) -> None:
        """One pass of the loop: select, act, run the work."""
        raise NotImplementedError

    def _after_work(self) -> None:
        """One piece of work was run."""
        raise NotImplementedError

    def _stopping(self) -> None:
        """``stop`` was called."""
        raise NotImplementedError

    def _unfinished(self) -> bool:
        """Whether something is left to do before a stop."""
        raise NotImplementedError

    def _release(self, fault: BaseException | None) -> None:
        """The thread ends, or will never start: let go of everything."""
        raise NotImplementedError
