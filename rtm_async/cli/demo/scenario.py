"""The story of the demo: six acts, each driven by what is seen rather than by the clock, so that a slow
machine only takes longer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import rtm_async
from rtm_sansio.auth import allow_any_uid
from rtm_sansio.config import ClientConfig, ServerConfig
from rtm_sansio.errors import RtmError
from rtm_sansio.events import ConnectionStateChanged, LeaveCause
from rtm_sansio.states import ConnectionState

from .judge import ALICE, BOB
from .proxy import FaultyLink
from .records import ActBegan, Dialled, LinkChanged, LinkCondition, MemberSeen, Recorder, Stuck
from .talkers import AsyncTalker, BlockingTalker, Diary, Manner

RIVAL = "alice 2"
_POLL_SECONDS = 0.005
_PATIENCE_STORY_SECONDS = 120.0
_PATIENCE_SECONDS = 15.0
"""Waiting ends at the later of the two: the first is of the story, the second of the machine, which may be
slow.
"""
_MESSAGE_INTERVAL = 0.5


class _StoryStuck(Exception):
    """What the story waited for did not come; it is in the records."""


class Story:
    """One performance. ``recorder`` has what came of it."""

    def __init__(self, recorder: Recorder, *, scale: int, seed: int) -> None:
        self.recorder = recorder
        self._scale = scale
        self._random = random.Random(seed)

    async def perform(self) -> None:
        """Play all acts, to the end or to where it gets stuck."""
        server = rtm_async.Server(authenticate=allow_any_uid, config=ServerConfig().scaled(1 / self._scale))
        async with server:
            link = FaultyLink(server.port, on_dial=lambda: self.recorder.add(Dialled(at=self.recorder.now)))
            await link.start()
            manner = Manner(
                config=ClientConfig().scaled(1 / self._scale),
                recorder=self.recorder,
                interval=_MESSAGE_INTERVAL / self._scale,
                patience=_PATIENCE_STORY_SECONDS / self._scale,
            )
            alice = BlockingTalker(ALICE, f"ws://127.0.0.1:{link.port}", manner)
            bob = AsyncTalker(BOB, server.url, manner)
            try:
                await self._play(server.url, link, alice, bob)
            except _StoryStuck:
                pass
            except RtmError as fault:
                # A login, join or logout that should have succeeded.
                self.recorder.add(Stuck(at=self.recorder.now, waited_for=f"a call succeeds ({fault})"))
            finally:
                await asyncio.to_thread(alice.close)
                await bob.close()
                await link.close()

    async def _play(self, url: str, link: FaultyLink, alice: BlockingTalker, bob: AsyncTalker) -> None:
        await self._act_chat(alice, bob)
        await self._act_short_outage(link, alice, bob)
        await self._act_long_outage(link, alice, bob)
        await self._act_beyond_presence(link, alice, bob)
        await self._act_kick(url, alice)
        await self._act_logout(alice, bob)

    # --- the acts

    async def _act_chat(self, alice: BlockingTalker, bob: AsyncTalker) -> None:
        self._begin(1, "Two users chat", "alice logs in with the blocking client, bob with the asyncio one.")
        await bob.enter()
        await asyncio.to_thread(alice.enter)
        alice.start_talking()
        bob.start_talking()
        await self._chat_goes_on(alice, bob)
        await self._pause(2, 3)

    async def _act_short_outage(self, link: FaultyLink, alice: BlockingTalker, bob: AsyncTalker) -> None:
        self._begin(2, "A short outage", "alice's connection is cut, and works again within the grace time of 4 s.")
        refused = link.refused
        self._change(link, LinkCondition.CUT)
        # One attempt must fail, so that the outage is one; the next, at most a second later, succeeds.
        await self._until(lambda: link.refused > refused, "alice has tried to connect again")
        self._change(link, LinkCondition.PASSING)
        await self._chat_goes_on(alice, bob)
        await self._pause(4, 5)

    async def _act_long_outage(self, link: FaultyLink, alice: BlockingTalker, bob: AsyncTalker) -> None:
        self._begin(
            3,
            "A longer, silent outage",
            "Nothing gets through any more, and nobody is told. alice must find out.",
        )
        self._change(link, LinkCondition.STALLED)
        await self._until(lambda: alice.state is ConnectionState.RECONNECTING, "alice is RECONNECTING")
        await self._pause(2, 4)
        self._change(link, LinkCondition.PASSING)
        await self._until(lambda: alice.state is ConnectionState.CONNECTED, "alice is CONNECTED again")
        await self._chat_goes_on(alice, bob)
        await self._pause(4, 5)

    async def _act_beyond_presence(self, link: FaultyLink, alice: BlockingTalker, bob: AsyncTalker) -> None:
        self._begin(
            4,
            "Beyond the presence window",
            "After 30 s the server ends alice's session. Her messages are kept.",
        )
        self._change(link, LinkCondition.CUT)
        await self._until(lambda: self._bob_saw(LeaveCause.TIMED_OUT), "bob sees that alice has timed out")
        await self._pause(1, 3)
        self._change(link, LinkCondition.PASSING)
        await self._until(lambda: alice.state is ConnectionState.CONNECTED, "alice is CONNECTED again")
        await self._until(lambda: self._bob_saw(None), "bob sees that alice has joined again")
        await self._chat_goes_on(alice, bob)
        await self._pause(3, 4)

    async def _act_kick(self, url: str, alice: BlockingTalker) -> None:
        self._begin(
            5,
            "The same user elsewhere",
            "A second client logs in as alice. The first is told, and stays away.",
        )
        alice.diary.leaves()
        async with rtm_async.Client(url, config=ClientConfig().scaled(1 / self._scale)) as rival:
            rival.on(ConnectionStateChanged, Diary(RIVAL, self.recorder).saw)
            await rival.login(ALICE)
            await self._until(lambda: alice.state is ConnectionState.ABORTED, "alice is ABORTED")
            await self._until(lambda: self._bob_saw(LeaveCause.REPLACED), "bob sees that alice was replaced")
            # Longer than any delay before an attempt would be.
            await self._pause(6, 7)
            await rival.logout()
        await self._pause(0.5, 1)

    async def _act_logout(self, alice: BlockingTalker, bob: AsyncTalker) -> None:
        self._begin(6, "Logout", "alice logs out and in again, the two chat, and then both leave for good.")
        await asyncio.to_thread(alice.logout)
        await self._pause(1, 2)
        await asyncio.to_thread(alice.enter)
        await self._chat_goes_on(alice, bob)
        await self._pause(3, 4)
        alice.fall_silent()
        bob.fall_silent()
        await self._pause(1, 1.5)
        await self._until(lambda: self._all_has_arrived(alice, bob), "the last messages have arrived")
        alice.diary.leaves()
        await asyncio.to_thread(alice.logout)
        await self._until(lambda: self._bob_saw(LeaveCause.LOGGED_OUT), "bob sees that alice has logged out")
        bob.diary.leaves()
        await bob.logout()
        # The last switches of state have their own way into the records.
        await self._pause(1, 1)

    # --- what they are made of

    def _begin(self, number: int, title: str, story: str) -> None:
        self.recorder.add(ActBegan(at=self.recorder.now, number=number, title=title, story=story))

    def _change(self, link: FaultyLink, condition: LinkCondition) -> None:
        self.recorder.add(LinkChanged(at=self.recorder.now, condition=condition))
        link.change(condition)

    async def _pause(self, least: float, most: float) -> None:
        """Let a time of the story go by, which the seed chooses."""
        await asyncio.sleep(self._random.uniform(least, most) / self._scale)

    async def _until(self, condition: Callable[[], bool], waited_for: str) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + max(_PATIENCE_STORY_SECONDS / self._scale, _PATIENCE_SECONDS)
        while not condition():
            if loop.time() > give_up_at:
                self.recorder.add(Stuck(at=self.recorder.now, waited_for=waited_for))
                raise _StoryStuck
            await asyncio.sleep(_POLL_SECONDS)

    async def _chat_goes_on(self, alice: BlockingTalker, bob: AsyncTalker) -> None:
        """Wait until each has heard something that the other sent after now."""
        from_alice, from_bob = alice.number + 1, bob.number + 1
        await self._until(
            lambda: (
                self.recorder.latest_seen(BOB, ALICE) > from_alice and self.recorder.latest_seen(ALICE, BOB) > from_bob
            ),
            "both hear each other again",
        )

    def _all_has_arrived(self, alice: BlockingTalker, bob: AsyncTalker) -> bool:
        return (
            self.recorder.latest_seen(BOB, ALICE) >= alice.number
            and self.recorder.latest_seen(ALICE, BOB) >= bob.number
        )

    def _bob_saw(self, cause: LeaveCause | None) -> bool:
        """Whether bob has been told this of alice since the act began."""
        for record in reversed(self.recorder.records):
            if isinstance(record, ActBegan):
                return False
            if isinstance(record, MemberSeen) and (record.who, record.uid) == (BOB, ALICE) and record.cause is cause:
                return True
        return False
