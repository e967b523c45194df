"""``rtm_sync``: blocking calls in threads, a reader thread for each channel that is iterated."""

from __future__ import annotations

import concurrent.futures
import functools
import threading
import time
from collections.abc import Callable
from typing import Any, get_args

import rtm_sync
from rtm_sansio import ClientConfig, ClientEvent, OnlineStatus, RtmError, home_of
from scenarios.adapter import CLIENT_HOME, IterationEnded, Link, Pending
from scenarios.real import LIMIT_SECONDS, FuturePending, RealActor, RealWorld, authenticate


class ThreadedActor(RealActor):
    def __init__(self, world: ThreadedWorld, name: str, uid: str, link: Link, url: str, config: ClientConfig) -> None:
        super().__init__(world, name, uid, link)
        self._client = rtm_sync.Client(url, config=config)
        self._channels: dict[str, rtm_sync.Channel] = {}
        self._gates: dict[str, threading.Event] = {}
        self._readers: list[threading.Thread] = []
        self._calls = concurrent.futures.ThreadPoolExecutor(8, thread_name_prefix=f"calls-of-{name}")
        for event_type in get_args(ClientEvent):
            self._client.on(event_type, self._handle)

    def _handle(self, event: Any) -> None:
        if home_of(event) == CLIENT_HOME:
            self.record(CLIENT_HOME, event)

    def _begin(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Pending:
        return FuturePending(self._calls.submit(call, *arguments, **options))

    def begin_login(self, token: str = "good") -> Pending:
        return self._begin(self._client.login, self.uid, token)

    def begin_logout(self) -> Pending:
        return self._begin(self._client.logout)

    def join(self, channel: str, *, iterate: bool = True) -> None:
        self._channels[channel] = self._client.join(channel)
        if iterate:
            self.iterate(channel)

    def iterate(self, channel: str) -> None:
        gate = self._gates[channel] = threading.Event()
        gate.set()
        reader = threading.Thread(target=self._read, args=(channel, gate), daemon=True)
        self._readers.append(reader)
        reader.start()

    def _read(self, home: str, gate: threading.Event) -> None:
        end = None
        source = self._channels[home] if home else self._client
        try:
            for event in source.events():
                gate.wait()
                self.hear(home, event)
        except RtmError as error:
            end = error
        self.hear(home, IterationEnded(end))

    def pause(self, channel: str) -> None:
        self._gates[channel].clear()

    def resume(self, channel: str) -> None:
        self._gates[channel].set()

    def leave(self, channel: str) -> None:
        self._channels[channel].leave()

    def begin_send(self, channel: str, message: str | bytes) -> Pending:
        return self._begin(self._channels[channel].send, message)

    def members(self, channel: str, *, after: str = "") -> Any:
        return self._channels[channel].members(after=after)

    def member_counts(self, *channels: str) -> dict[str, int]:
        return self._client.member_counts(channels)

    def begin_history(self, channel: str, **options: Any) -> Pending:
        return self._begin(self._channels[channel].history, **options)

    def begin_send_to_peer(
        self, uid: str, message: str | bytes, *, offline: bool = False, description: str = ""
    ) -> Pending:
        return self._begin(self._client.send_to_peer, uid, message, offline=offline, description=description)

    def begin_attributes(self, call: str, *arguments: Any, **options: Any) -> Pending:
        return self._begin(functools.partial(getattr(self._client, call), *arguments, **options))

    def renew(self, token: str) -> None:
        self._client.renew_token(token)

    def online_status(self, *uids: str) -> dict[str, OnlineStatus]:
        return self._client.online_status(uids)

    def watch(self, *uids: str) -> dict[str, OnlineStatus]:
        return self._client.subscribe_online_status(uids)

    def unwatch(self, *uids: str) -> None:
        self._client.unsubscribe_online_status(uids)

    def freeze(self, seconds: float) -> None:
        # No public call holds up the I/O thread, which is as it should be.
        self._client._runtime.driver.call(lambda now: time.sleep(seconds * self._world.scale))

    @property
    def state(self) -> str:
        return self._client.state.value

    def close(self) -> None:
        for gate in self._gates.values():
            gate.set()
        self._client.close()
        self._calls.shutdown()
        for reader in self._readers:
            reader.join(LIMIT_SECONDS)
            assert not reader.is_alive(), "an iteration did not end with close()"


class ThreadedWorld(RealWorld):
    def make_actor(self, name: str, uid: str, link: Link, url: str, config: ClientConfig) -> RealActor:
        return ThreadedActor(self, name, uid, link, url, config)

    def start_server(self) -> None:
        self._server = rtm_sync.Server(authenticate=authenticate, config=self.server_config)
        self._server.start()
        self.port = self._server.port

    def stop_server(self) -> None:
        self._server.close()

    def kick(self, uid: str) -> None:
        self._server.kick(uid)

    def ban(self, uid: str, seconds: float) -> None:
        self._server.ban(uid, seconds * self.scale)
