"""``rtm serve`` stands still for a while, as on a machine that sleeps or is starved (F-01, F-22, F-24)."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import dataclasses
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

import rtm_async
import rtm_sync
from cli.processes import PATIENCE_SECONDS, Rtm
from rtm_sansio import ChannelMessageReceived, ClientConfig, ConnectionStateChanged, MemberLeft, ServerConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system stops no processes"),
]

SCALE = 0.25
"""Real seconds for each second of the rules."""
SERVER = ServerConfig(presence_grace_seconds=12.0).scaled(SCALE)
# A send that the outage holds up waits for its end.
CLIENT = dataclasses.replace(ClientConfig().scaled(SCALE), request_timeout_seconds=PATIENCE_SECONDS)

UNNOTICED_SECONDS = 0.25
"""A quarter of the interruption grace."""
LONG_SECONDS = 1.5 * SERVER.presence_grace_seconds
"""Whoever simply counts the seconds takes everybody for gone."""
PACE_SECONDS = 0.005

LOGGED_IN = ["LOGIN", "LOGIN_SUCCESS"]


class Talker(abc.ABC):
    """Sends rising numbers to its own channel, and hears those of the other one."""

    def __init__(self, uid: str, other: str) -> None:
        self.uid = uid
        self.other = other
        self.changes: list[str] = []
        self.heard: list[int] = []
        self.left: list[MemberLeft] = []
        self.sent = 0
        self._talking = True
        self._enough = threading.Event()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"talker-{uid}", daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_changes(LOGGED_IN)
        return self

    def __exit__(self, *exception: object) -> None:
        self._enough.set()
        self.close()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()

    def wait_heard(self, count: int) -> None:
        """Wait until so many numbers were heard."""
        self._wait_until(lambda: len(self.heard) >= count, f"{count} numbers")

    def wait_last(self, number: int) -> None:
        """Wait until this number was heard."""
        self._wait_until(lambda: self.heard[-1] >= number, str(number))

    def wait_changes(self, reasons: list[str]) -> None:
        """Wait until so many switches of the state were heard, which must have these reasons."""
        self._wait_until(lambda: len(self.changes) >= len(reasons), reasons[-1])
        assert self.changes == reasons

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        with self._news:
            held = self._news.wait_for(lambda: self._failure or condition(), PATIENCE_SECONDS)
        if self._failure is not None:
            raise AssertionError(f"{self.uid} failed") from self._failure
        assert held, f"{self.uid}: no {what}; {self.changes}, sent {self.sent}, heard {self.heard[-10:]}"

    def end_talk(self) -> None:
        """Send no more, and wait until what is under way is answered."""
        self._enough.set()
        self._wait_until(lambda: not self._talking, "end")

    def _note(self, event: Any) -> None:
        with self._news:
            if isinstance(event, ConnectionStateChanged):
                self.changes.append(event.reason.value)
            elif isinstance(event, MemberLeft):
                self.left.append(event)
            elif isinstance(event, ChannelMessageReceived):
                self.heard.append(int(event.message))
            self._news.notify_all()

    def _note_sent(self, number: int) -> None:
        with self._news:
            self.sent = number + 1
            self._news.notify_all()

    def _run(self) -> None:
        try:
            self._talk()
        except BaseException as failure:
            self._failure = failure
        self._note_end()

    def _note_end(self) -> None:
        with self._news:
            self._talking = False
            self._news.notify_all()

    @abc.abstractmethod
    def _talk(self) -> None:
        """Log in, join, and send until ``_enough``. In the thread."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the client."""


class BlockingTalker(Talker):
    def __init__(self, url: str, uid: str, other: str) -> None:
        super().__init__(uid, other)
        self._client = rtm_sync.Client(url, config=CLIENT)
        for kind in (ConnectionStateChanged, MemberLeft, ChannelMessageReceived):
            self._client.on(kind, self._note)

    def _talk(self) -> None:
        self._client.login(self.uid)
        self._client.join(f"from {self.other}")
        mine = self._client.join(f"from {self.uid}")
        number = 0
        while not self._enough.wait(PACE_SECONDS):
            mine.send(str(number))
            self._note_sent(number)
            number += 1

    def close(self) -> None:
        self._client.close()


class AsyncioTalker(Talker):
    def __init__(self, url: str, uid: str, other: str) -> None:
        super().__init__(uid, other)
        self._url = url
        self._closed = threading.Event()

    def _talk(self) -> None:
        asyncio.run(self._talk_on_loop())

    async def _talk_on_loop(self) -> None:
        async with rtm_async.Client(self._url, config=CLIENT) as client:
            for kind in (ConnectionStateChanged, MemberLeft, ChannelMessageReceived):
                client.on(kind, self._note)
            await client.login(self.uid)
            await client.join(f"from {self.other}")
            mine = await client.join(f"from {self.uid}")
            number = 0
            while not self._enough.is_set():
                await asyncio.sleep(PACE_SECONDS)
                await mine.send(str(number))
                self._note_sent(number)
                number += 1
            self._note_end()
            await asyncio.to_thread(self._closed.wait, 2 * PATIENCE_SECONDS)

    def close(self) -> None:
        self._closed.set()


@contextlib.contextmanager
def serving() -> Iterator[tuple[Rtm, str]]:
    """A server whose times are scaled, by its environment."""
    environment = {
        f"RTM_{name.upper()}": str(value)
        for name, value in dataclasses.asdict(SERVER).items()
        if name.endswith("_seconds")
    }
    with Rtm("serve", "--dev", "--port", "0", environment=environment) as server:
        found = re.search(r"ws://\S+", server.wait_for("serving on"))
        assert found
        yield server, found[0]
        server.interrupt()
        assert server.end() == (0, "")


@contextlib.contextmanager
def standing_still(server: Rtm) -> Iterator[None]:
    """The whole process is stopped, and then goes on."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        _, status = os.waitpid(server.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("span", ["short", "medium", "long"])
def test_a_server_that_stands_still(span: str) -> None:
    """S11, S13, S14, S23: for a moment nobody notices; for longer it is shown and ends as any interruption; and however
    long it was, nobody is taken for gone who could not be heard, and everything arrives once and in order."""
    with (
        serving() as (server, url),
        BlockingTalker(url, "alice", "bob") as alice,
        AsyncioTalker(url, "bob", "alice") as bob,
    ):
        both = (alice, bob)
        # Numbers begin before the other one has joined; from the first that is heard on none may be missing.
        for talker in both:
            talker.wait_heard(20)
        with standing_still(server):
            if span == "short":
                time.sleep(UNNOTICED_SECONDS)
            elif span == "long":
                time.sleep(LONG_SECONDS)
            if span != "short":
                for talker in both:
                    talker.wait_changes([*LOGGED_IN, "INTERRUPTED"])
        expected = LOGGED_IN if span == "short" else [*LOGGED_IN, "INTERRUPTED", "LOGIN_SUCCESS"]
        for talker in both:
            talker.wait_changes(expected)
            talker.wait_heard(len(talker.heard) + 20)
        for talker in both:
            talker.end_talk()
        for talker, other in ((alice, bob), (bob, alice)):
            talker.wait_last(other.sent - 1)
            assert talker.heard == list(range(talker.heard[0], other.sent))
            assert talker.changes == expected
            assert talker.left == []
