"""The two applications of the demo: alice on the blocking client, with threads, and bob on the asyncio one.

Both do what an ordinary application does: they send numbered messages all the time, repeat what was certainly
not sent, and write down what they see.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from typing import Any

import rtm_async
import rtm_sync
from rtm_sansio.config import ClientConfig
from rtm_sansio.errors import InvalidState, NotConnected, Outcome, RequestFailed, RtmError
from rtm_sansio.events import (
    ChannelMessageReceived,
    ConnectionStateChanged,
    JoinReceipt,
    MemberJoined,
    MemberLeft,
    MessagesLost,
    SendReceipt,
)
from rtm_sansio.states import ConnectionState

from .records import (
    GapSeen,
    MemberSeen,
    MembershipBegan,
    MembershipEnds,
    MessageSeen,
    MessageSent,
    Recorder,
    SendFailed,
    StateSeen,
)

CHANNEL = "lobby"


class Diary:
    """What one application writes into the recorder."""

    def __init__(self, who: str, recorder: Recorder) -> None:
        self.who = who
        self._recorder = recorder

    def joined(self, receipt: JoinReceipt) -> None:
        self._recorder.add(MembershipBegan(at=self._recorder.now, who=self.who, offset=receipt.offset))

    def leaves(self) -> None:
        self._recorder.add(MembershipEnds(at=self._recorder.now, who=self.who))

    def sent(self, number: int, receipt: SendReceipt) -> None:
        self._recorder.add(MessageSent(at=self._recorder.now, who=self.who, number=number, offset=receipt.offset))

    def failed(self, number: int, outcome: Outcome) -> None:
        self._recorder.add(SendFailed(at=self._recorder.now, who=self.who, number=number, outcome=outcome))

    def saw(self, event: Any) -> None:
        now = self._recorder.now
        match event:
            case ConnectionStateChanged():
                self._recorder.add(StateSeen(at=now, who=self.who, state=event.state, reason=event.reason))
            case ChannelMessageReceived():
                if event.lost_before != 0:
                    self._recorder.add(GapSeen(at=now, who=self.who, count=event.lost_before))
                sender, _, number = str(event.message).partition(" ")
                self._recorder.add(MessageSeen(at=now, who=self.who, sender=sender, number=int(number)))
            case MemberJoined():
                self._recorder.add(MemberSeen(at=now, who=self.who, uid=event.uid, cause=None))
            case MemberLeft():
                self._recorder.add(MemberSeen(at=now, who=self.who, uid=event.uid, cause=event.cause))
            case MessagesLost():
                self._recorder.add(GapSeen(at=now, who=self.who, count=event.count))
            case _:
                pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manner:
    """How both talk: with which settings, how often, and how long a message may wait for a link (in seconds
    here).
    """

    config: ClientConfig
    recorder: Recorder
    interval: float
    patience: float


class BlockingTalker:
    """alice: ``rtm_sync.Client``, one thread that sends and one that reads. Its methods block."""

    def __init__(self, uid: str, url: str, manner: Manner) -> None:
        self.uid = uid
        self.diary = Diary(uid, manner.recorder)
        self._client = rtm_sync.Client(url, config=manner.config)
        self._client.on(ConnectionStateChanged, self.diary.saw)
        self._channel: rtm_sync.Channel | None = None
        self._interval = manner.interval
        self._patience = manner.patience
        self._silent = threading.Event()
        self._closing = threading.Event()
        self._sender = threading.Thread(target=self._send_all, name=f"demo-{uid}-sends", daemon=True)
        self._readers: list[threading.Thread] = []
        self.number = 0
        """The number of the last message that was confirmed, or certainly failed."""

    @property
    def state(self) -> ConnectionState:
        return self._client.state

    def enter(self) -> None:
        """Log in, join, and read from now on."""
        self._client.login(self.uid)
        channel = self._client.join(CHANNEL)
        self.diary.joined(channel.receipt)
        reader = threading.Thread(target=self._read, args=(channel,), name=f"demo-{self.uid}-reads", daemon=True)
        self._readers.append(reader)
        reader.start()
        self._channel = channel

    def start_talking(self) -> None:
        self._sender.start()

    def fall_silent(self) -> None:
        self._silent.set()

    def logout(self) -> None:
        self._client.logout()

    def close(self) -> None:
        """End everything; nothing is left that could write into the diary."""
        self._closing.set()
        self._client.close()
        for thread in (self._sender, *self._readers):
            if thread.ident is not None:
                thread.join(timeout=5)

    def _read(self, channel: rtm_sync.Channel) -> None:
        # The end of the session (ABORTED) is in the diary already, as a state.
        with contextlib.suppress(RtmError):
            for event in channel.events():
                self.diary.saw(event)

    def _send_all(self) -> None:
        while not self._closing.wait(self._interval):
            if self._channel is not None and not self._silent.is_set():
                self._send(self._channel, self.number + 1)

    def _send(self, channel: rtm_sync.Channel, number: int) -> None:
        try:
            receipt = channel.send(f"{self.uid} {number}", timeout=self._patience)
        except (NotConnected, InvalidState):
            # Not logged in at present: the same number once more, later.
            return
        except RequestFailed as fault:
            self.diary.failed(number, fault.outcome)
            if fault.outcome is Outcome.UNKNOWN:
                # To send it again might make two of it.
                self.number = number
        else:
            self.diary.sent(number, receipt)
            self.number = number


class AsyncTalker:
    """bob: ``rtm_async.Client``, one task that sends and one that reads."""

    def __init__(self, uid: str, url: str, manner: Manner) -> None:
        self.uid = uid
        self.diary = Diary(uid, manner.recorder)
        self._client = rtm_async.Client(url, config=manner.config)
        self._client.on(ConnectionStateChanged, self.diary.saw)
        self._interval = manner.interval
        self._patience = manner.patience
        self._silent = False
        self._tasks: list[asyncio.Task[None]] = []
        self._channel: rtm_async.Channel | None = None
        self.number = 0

    async def enter(self) -> None:
        await self._client.login(self.uid)
        self._channel = await self._client.join(CHANNEL)
        self.diary.joined(self._channel.receipt)
        self._tasks.append(asyncio.create_task(self._read(self._channel)))

    def start_talking(self) -> None:
        assert self._channel is not None, "enter() comes first"
        self._tasks.append(asyncio.create_task(self._send_all(self._channel)))

    def fall_silent(self) -> None:
        self._silent = True

    async def logout(self) -> None:
        await self._client.logout()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def _read(self, channel: rtm_async.Channel) -> None:
        with contextlib.suppress(RtmError):
            async for event in channel.events():
                self.diary.saw(event)

    async def _send_all(self, channel: rtm_async.Channel) -> None:
        while not self._silent:
            await asyncio.sleep(self._interval)
            number = self.number + 1
            try:
                receipt = await channel.send(f"{self.uid} {number}", timeout=self._patience)
            except RequestFailed as fault:
                self.diary.failed(number, fault.outcome)
                if fault.outcome is Outcome.UNKNOWN:
                    self.number = number
            else:
                self.diary.sent(number, receipt)
                self.number = number
