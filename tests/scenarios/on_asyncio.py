"""``rtm_async``: a loop in a thread for the server, and another one for all clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any, get_args

import rtm_async
from rtm_sansio import ClientConfig, ClientEvent, OnlineStatus, RtmError, home_of
from scenarios.adapter import CLIENT_HOME, IterationEnded, Link, Pending
from scenarios.real import LIMIT_SECONDS, FuturePending, RealActor, RealWorld, authenticate


class AsyncioActor(RealActor):
    def __init__(self, world: AsyncioWorld, name: str, uid: str, link: Link, url: str, config: ClientConfig) -> None:
        super().__init__(world, name, uid, link)
        self._loop_thread = world.clients
        self._client = rtm_async.Client(url, config=config)
        self._channels: dict[str, rtm_async.Channel] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._readers: list[asyncio.Task[None]] = []
        for event_type in get_args(ClientEvent):
            self._client.on(event_type, self._handle)

    def _handle(self, event: Any) -> None:
        if home_of(event) == CLIENT_HOME:
            self.record(CLIENT_HOME, event)

    def begin_login(self, token: str = "good") -> Pending:
        return self._loop_thread.begin(self._client.login(self.uid, token))

    def begin_logout(self) -> Pending:
        return self._loop_thread.begin(self._client.logout())

    def join(self, channel: str, *, iterate: bool = True) -> None:
        async def join() -> None:
            self._channels[channel] = await self._client.join(channel)
            if iterate:
                self._iterate(channel)

        self._loop_thread.run(join())

    def iterate(self, channel: str) -> None:
        async def iterate() -> None:
            self._iterate(channel)

        self._loop_thread.run(iterate())

    def _iterate(self, channel: str) -> None:
        gate = self._gates[channel] = asyncio.Event()
        gate.set()
        self._readers.append(asyncio.create_task(self._read(channel, gate)))

    async def _read(self, home: str, gate: asyncio.Event) -> None:
        end = None
        source = self._channels[home] if home else self._client
        try:
            async for event in source.events():
                await gate.wait()
                self.hear(home, event)
        except RtmError as error:
            end = error
        self.hear(home, IterationEnded(end))

    def pause(self, channel: str) -> None:
        self._loop_thread.loop.call_soon_threadsafe(self._gates[channel].clear)

    def resume(self, channel: str) -> None:
        self._loop_thread.loop.call_soon_threadsafe(self._gates[channel].set)

    def leave(self, channel: str) -> None:
        self._loop_thread.run(self._channels[channel].leave())

    def begin_send(self, channel: str, message: str | bytes) -> Pending:
        return self._loop_thread.begin(self._channels[channel].send(message))

    def members(self, channel: str, *, after: str = "") -> Any:
        return self._loop_thread.run(self._channels[channel].members(after=after))

    def member_counts(self, *channels: str) -> dict[str, int]:
        counts: dict[str, int] = self._loop_thread.run(self._client.member_counts(channels))
        return counts

    def begin_history(self, channel: str, **options: Any) -> Pending:
        return self._loop_thread.begin(self._channels[channel].history(**options))

    def begin_send_to_peer(
        self, uid: str, message: str | bytes, *, offline: bool = False, description: str = ""
    ) -> Pending:
        return self._loop_thread.begin(
            self._client.send_to_peer(uid, message, offline=offline, description=description)
        )

    def begin_attributes(self, call: str, *arguments: Any, **options: Any) -> Pending:
        return self._loop_thread.begin(getattr(self._client, call)(*arguments, **options))

    def renew(self, token: str) -> None:
        self._loop_thread.run(self._client.renew_token(token))

    def online_status(self, *uids: str) -> dict[str, OnlineStatus]:
        return self._loop_thread.run(self._client.online_status(uids))

    def watch(self, *uids: str) -> dict[str, OnlineStatus]:
        return self._loop_thread.run(self._client.subscribe_online_status(uids))

    def unwatch(self, *uids: str) -> None:
        self._loop_thread.run(self._client.unsubscribe_online_status(uids))

    def freeze(self, seconds: float) -> None:
        async def freeze() -> None:
            time.sleep(seconds * self._world.scale)

        self._loop_thread.run(freeze())

    @property
    def state(self) -> str:
        return self._client.state.value

    def close(self) -> None:
        async def close() -> None:
            for gate in self._gates.values():
                gate.set()
            await self._client.close()
            await asyncio.gather(*self._readers)

        self._loop_thread.run(close())


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def begin(self, work: Coroutine[Any, Any, Any]) -> Pending:
        """Run ``work`` on the loop."""
        return FuturePending(asyncio.run_coroutine_threadsafe(work, self.loop))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run ``work`` on the loop, and wait for it."""
        return self.begin(work).result()

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(LIMIT_SECONDS)
        self.loop.close()


class AsyncioWorld(RealWorld):
    def __init__(self, *, server: dict[str, Any], scale: float) -> None:
        self.clients = LoopThread("scenario-clients")
        self._serving = LoopThread("scenario-server")
        try:
            super().__init__(server=server, scale=scale)
        except BaseException:
            self._end_loops()
            raise

    def make_actor(self, name: str, uid: str, link: Link, url: str, config: ClientConfig) -> RealActor:
        async def make() -> RealActor:
            return AsyncioActor(self, name, uid, link, url, config)

        actor: RealActor = self.clients.run(make())
        return actor

    def start_server(self) -> None:
        self._server = rtm_async.Server(authenticate=authenticate, config=self.server_config)
        self._serving.run(self._server.start())
        self.port = self._server.port

    def stop_server(self) -> None:
        self._serving.run(self._server.close())

    def kick(self, uid: str) -> None:
        async def kick() -> None:
            await self._server.kick(uid)

        self._serving.run(kick())

    def ban(self, uid: str, seconds: float) -> None:
        async def ban() -> None:
            await self._server.ban(uid, seconds * self.scale)

        self._serving.run(ban())

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._end_loops()

    def _end_loops(self) -> None:
        self.clients.end()
        self._serving.end()
