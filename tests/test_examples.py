"""The examples run, stay as short as the documentation says, and are typed."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import rtm_sync
from rtm_sansio import (
    ChannelMessageReceived,
    ClientConfig,
    ClientCore,
    Hub,
    MessagesLost,
    ServerConfig,
    parse_endpoints,
)

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_short(path: Path) -> None:
    """A driver is about a hundred and fifty lines: if it grows, protocol has leaked into it."""
    assert len(path.read_text(encoding="utf-8").splitlines()) < 150


@pytest.fixture
def plain_url() -> Iterator[str]:
    server = load("plain_socket_server").PlainServer()
    stopping = threading.Event()

    def serve() -> None:
        server.run(stopping.is_set)
        server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"ws://127.0.0.1:{server.port}"
    stopping.set()
    thread.join(10.0)
    assert not thread.is_alive()


def test_plain_client_and_server(plain_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    load("plain_socket_client").main(plain_url, "alice", "lobby", "hello")
    printed = capsys.readouterr().out
    assert "sent, at offset 2" in printed
    assert "message='hello'" in printed


def test_plain_server_serves_rtm_sync(plain_url: str) -> None:
    with rtm_sync.Client(plain_url) as alice, rtm_sync.Client(plain_url) as bob:
        alice.login("alice")
        bob.login("bob")
        lobby = alice.join("lobby")
        bobs = bob.join("lobby")
        body = bytes(20_000)
        for _ in range(50):
            bobs.send(body)
        messages = iter(lobby)
        for _ in range(50):
            assert next(messages).message == body
        messages.close()


def test_plain_client_comes_back() -> None:
    """The core decides that and when; the driver only opens what it is told to."""
    client_module = load("plain_socket_client")
    server = rtm_sync.Server(authenticate=rtm_sync.allow_any_uid)
    server.start()
    client = client_module.PlainClient(server.url)
    client.call(lambda now: client.core.login("alice", None, now=now))
    server.close()
    with rtm_sync.Server(port=server.port, authenticate=rtm_sync.allow_any_uid):
        client.run(lambda: len(client.events) == 5)
        assert [event.state.value for event in client.events[:4]] == [
            "CONNECTING",
            "CONNECTED",
            "RECONNECTING",
            "CONNECTED",
        ]
        assert client.events[4] == MessagesLost(channel="", count=None)  # of the inbox: the server has no memory of it
        client.call(lambda now: client.core.logout(now=now))


def test_plain_server_as_a_process() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, str(ROOT / "examples" / "plain_socket_server.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            with rtm_sync.Client(url) as alice:
                alice.login("alice")
                assert alice.join("lobby").send("hello").offset == 2
        finally:
            process.kill()


def test_plain_client_without_arguments() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, str(ROOT / "examples" / "plain_socket_client.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: plain_socket_client.py")
    assert "Traceback" not in done.stderr


def test_trio_driver() -> None:
    """Client and server in one loop; the scenario suite does the rest."""
    trio: Any = pytest.importorskip("trio")
    driver_module = load("trio_driver")

    async def main() -> list[Any]:
        events: list[Any] = []
        ends: dict[int, Any] = {}
        heard = trio.Event()

        def take(output: Any) -> None:
            if hasattr(output, "request_id"):
                ends[output.request_id] = output
            else:
                events.append(output)
            heard.set()

        async with trio.open_nursery() as nursery:
            hub = Hub(ServerConfig(), entropy=os.urandom, rng=random.Random())
            server = driver_module.Driver(
                hub, nursery, lambda login: hub.accept_login(login.transport_id, now=trio.current_time())
            )
            listeners = await nursery.start(trio.serve_tcp, server.accept, 0)
            port = listeners[0].socket.getsockname()[1]
            core = ClientCore(
                ClientConfig(),
                endpoints=parse_endpoints(f"ws://127.0.0.1:{port}"),
                rng=random.Random(),
                entropy=os.urandom,
            )
            driver = driver_module.Driver(core, nursery, take)

            async def call(command: Callable[..., int], *arguments: Any, **options: Any) -> Any:
                nonlocal heard
                request_id = command(*arguments, now=trio.current_time(), **options)
                driver.pump()
                while request_id not in ends:
                    heard = trio.Event()
                    await heard.wait()
                return ends[request_id].result

            await call(core.login, "alice", None)
            await call(core.join, "lobby", echo=True)
            await call(core.publish, "lobby", "hello")
            while not any(isinstance(event, ChannelMessageReceived) for event in events):
                heard = trio.Event()
                await heard.wait()
            await call(core.logout)
            nursery.cancel_scope.cancel()
        return events

    events = trio.run(main)
    assert [type(event).__name__ for event in events] == [
        "ConnectionStateChanged",
        "ConnectionStateChanged",
        "ChannelMessageReceived",
        "ConnectionStateChanged",
    ]
