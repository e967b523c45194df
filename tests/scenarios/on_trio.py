"""The trio driver of the examples: a trio loop in a thread for the server, and another one for all clients."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import trio

from rtm_sansio import (
    ClientConfig,
    ClientCore,
    Hub,
    LoginDenied,
    LoginRequested,
    LoginWithdrawn,
    OnlineStatus,
    RequestCompleted,
    RequestErred,
    parse_endpoints,
)
from scenarios.adapter import CORE_ATTRIBUTES, Link, Pending
from scenarios.real import LIMIT_SECONDS, FuturePending, RealActor, RealWorld, authenticate
from scenarios.virtual import Reading

_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "trio_driver.py"
_spec = importlib.util.spec_from_file_location("trio_driver", _EXAMPLE)
assert _spec is not None
assert _spec.loader is not None
trio_driver = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(trio_driver)

T = TypeVar("T")


class TrioActor(RealActor):
    """All its methods but ``on_output`` are called in the scenario's thread."""

    def __init__(self, world: TrioWorld, name: str, uid: str, link: Link, url: str, config: ClientConfig) -> None:
        super().__init__(world, name, uid, link)
        self._trio = world.clients
        self._waiting: dict[int, concurrent.futures.Future[Any]] = {}
        self._core = ClientCore(config, endpoints=parse_endpoints(url), rng=random.Random(), entropy=os.urandom)
        self._reading = Reading(self._core, config=config, record=self.record, hear=self.hear, now=trio.current_time)
        self._driver = self._trio.run(lambda: trio_driver.Driver(self._core, self._trio.nursery, self._on_output))

    def _on_output(self, output: Any) -> None:
        if isinstance(output, RequestCompleted):
            self._waiting.pop(output.request_id).set_result(output.result)
        elif isinstance(output, RequestErred):
            self._waiting.pop(output.request_id).set_exception(output.error)
        else:
            self._reading.put(output)

    def _do(self, action: Callable[[], T]) -> T:
        """Call the core, and carry out what it wants."""

        def do() -> T:
            try:
                return action()
            finally:
                self._driver.pump()

        return self._trio.run(do)

    def _begin(self, command: Callable[[], int]) -> Pending:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def begin() -> None:
            self._waiting[command()] = future

        self._do(begin)
        return FuturePending(future)

    def begin_login(self, token: str = "good") -> Pending:
        return self._begin(lambda: self._core.login(self.uid, token, now=trio.current_time()))

    def begin_logout(self) -> Pending:
        return self._begin(lambda: self._core.logout(now=trio.current_time()))

    def join(self, channel: str, *, iterate: bool = True) -> None:
        self._begin(lambda: self._core.join(channel, now=trio.current_time())).result()
        if iterate:
            self.iterate(channel)

    def iterate(self, channel: str) -> None:
        self._do(lambda: self._reading.iterate(channel))

    def pause(self, channel: str) -> None:
        self._do(lambda: self._reading.pause(channel))

    def resume(self, channel: str) -> None:
        self._do(lambda: self._reading.resume(channel))

    def leave(self, channel: str) -> None:
        self._begin(lambda: self._core.leave(channel, now=trio.current_time())).result()
        self._do(lambda: self._reading.end(channel))

    def begin_send(self, channel: str, message: str | bytes) -> Pending:
        return self._begin(lambda: self._core.publish(channel, message, now=trio.current_time()))

    def members(self, channel: str, *, after: str = "") -> Any:
        return self._begin(lambda: self._core.list_members(channel, after=after, now=trio.current_time())).result()

    def member_counts(self, *channels: str) -> dict[str, int]:
        found = self._begin(lambda: self._core.count_members(channels, now=trio.current_time())).result()
        counts: dict[str, int] = found.counts
        return counts

    def begin_history(self, channel: str, **options: Any) -> Pending:
        return self._begin(lambda: self._core.read_history(channel, now=trio.current_time(), **options))

    def begin_send_to_peer(
        self, uid: str, message: str | bytes, *, offline: bool = False, description: str = ""
    ) -> Pending:
        return self._begin(
            lambda: self._core.send_to_peer(
                uid, message, offline=offline, description=description, now=trio.current_time()
            )
        )

    def begin_attributes(self, call: str, *arguments: Any, **options: Any) -> Pending:
        command = CORE_ATTRIBUTES[call]
        return self._begin(lambda: command(self._core, *arguments, now=trio.current_time(), **options))

    def renew(self, token: str) -> None:
        self._begin(lambda: self._core.renew_token(token, now=trio.current_time())).result()

    def online_status(self, *uids: str) -> dict[str, OnlineStatus]:
        return self._begin(lambda: self._core.read_status(uids, now=trio.current_time())).result().statuses

    def watch(self, *uids: str) -> dict[str, OnlineStatus]:
        return self._begin(lambda: self._core.watch_status(uids, now=trio.current_time())).result().statuses

    def unwatch(self, *uids: str) -> None:
        self._begin(lambda: self._core.unwatch_status(uids, now=trio.current_time())).result()

    def freeze(self, seconds: float) -> None:
        self._trio.run(lambda: time.sleep(seconds * self._world.scale))

    @property
    def state(self) -> str:
        return self._core.state.value

    def close(self) -> None:
        if self.state != "DISCONNECTED":
            self.logout()


class TrioThread:
    """A trio loop in a thread of its own."""

    nursery: trio.Nursery

    def __init__(self, name: str) -> None:
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: trio.run(self._main), name=name, daemon=True)
        self._thread.start()
        assert self._started.wait(LIMIT_SECONDS)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self.nursery:
            self._started.set()
            await trio.sleep_forever()

    def run(self, action: Callable[[], T]) -> T:
        """Run ``action`` in trio's thread."""
        return trio.from_thread.run_sync(action, trio_token=self._token)

    def start(self, work: Callable[..., Any]) -> Any:
        """Start a task, and wait until it says that it has started, and with what."""
        return trio.from_thread.run(self.nursery.start, work, trio_token=self._token)

    def end(self) -> None:
        self.run(self.nursery.cancel_scope.cancel)
        self._thread.join(LIMIT_SECONDS)


class TrioWorld(RealWorld):
    def __init__(self, *, server: dict[str, Any], scale: float) -> None:
        self.clients = TrioThread("scenario-clients")
        self._serving = TrioThread("scenario-server")
        try:
            super().__init__(server=server, scale=scale)
        except BaseException:
            self._end_loops()
            raise

    def make_actor(self, name: str, uid: str, link: Link, url: str, config: ClientConfig) -> RealActor:
        return TrioActor(self, name, uid, link, url, config)

    def start_server(self) -> None:
        self._hub = Hub(self.server_config, entropy=os.urandom, rng=random.Random())
        self._scope: trio.CancelScope = self._serving.start(self._serve)

    async def _serve(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            self._server = trio_driver.Driver(self._hub, nursery, self._judge)
            task_status.started(nursery.cancel_scope)
            await trio.serve_listeners(self._server.accept, listeners, handler_nursery=nursery)

    def _judge(self, request: Any) -> None:
        transport_id, hub = request.transport_id, self._hub
        if isinstance(request, LoginWithdrawn):  # its verdict was given at once
            return
        ids = (transport_id,) if isinstance(request, LoginRequested) else (transport_id, request.number)
        try:
            authenticate(request)
        except LoginDenied as denied:
            refuse = hub.refuse_login if len(ids) == 1 else hub.refuse_renewal
            refuse(*ids, denied.refusal_code, str(denied), now=trio.current_time())
        else:
            accept = hub.accept_login if len(ids) == 1 else hub.accept_renewal
            accept(*ids, now=trio.current_time())

    def _on_hub(self, command: Callable[[Hub, float], None]) -> None:
        def do() -> None:
            command(self._hub, trio.current_time())
            self._server.pump()

        self._serving.run(do)

    def stop_server(self) -> None:
        self._on_hub(lambda hub, now: hub.close(now=now))
        self._serving.run(self._scope.cancel)

    def kick(self, uid: str) -> None:
        self._on_hub(lambda hub, now: hub.kick(uid, now=now))

    def ban(self, uid: str, seconds: float) -> None:
        self._on_hub(lambda hub, now: hub.ban(uid, seconds * self.scale, now=now))

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._end_loops()

    def _end_loops(self) -> None:
        self.clients.end()
        self._serving.end()
