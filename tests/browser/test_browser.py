"""The page of ``examples/browser`` in a real browser: a client that knows nothing of this library but its protocol."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rtm_sync
from browser.chromium import Chromium, Page, find
from rtm_sansio import ChannelMessageReceived, ChannelSettings
from scenarios.proxy import ProxyLink, ProxyThread

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    command = find()
    if command is None:
        if os.environ.get("RTM_REQUIRE_ALL", "") not in ("", "0"):
            pytest.fail("there is no Chromium, and RTM_REQUIRE_ALL wants everything tested: install chromium")
        pytest.skip("NO BROWSER TEST: there is no Chromium")
    with Chromium(command, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def demo() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("browser_demo", ROOT / "examples" / "browser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.BrowserDemo() as demo:
        yield demo


@pytest.fixture
def link(demo: Any) -> Iterator[ProxyLink]:
    """A link to the server that can be cut."""
    proxies = ProxyThread()
    try:
        yield proxies.link(lambda: ("127.0.0.1", demo.server.port))
    finally:
        proxies.close()


@pytest.fixture
def page(chromium: Chromium, demo: Any, link: ProxyLink) -> Page:
    """Alice's page, behind the link."""
    page = chromium.open(f"{demo.url(f'ws://127.0.0.1:{link.port}/')}&uid=alice&channel=lobby")
    page.wait("document.getElementById('members')?.innerText.includes('alice')")
    return page


class Listener:
    """A Python client in the lobby, and what it hears there."""

    def __init__(self, url: str, uid: str) -> None:
        self.client = rtm_sync.Client(url)
        self.client.login(uid)
        self.lobby = self.client.join("lobby")
        self.heard: list[str | bytes] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        for event in self.lobby.events():
            with self._news:
                if isinstance(event, ChannelMessageReceived):
                    self.heard.append(event.message)
                self._news.notify_all()

    def wait(self, *messages: str) -> None:
        """Until it has heard these and no others."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.heard) >= len(messages), 20.0), self.heard
            assert self.heard == list(messages)

    def close(self) -> None:
        self.client.logout()
        self.client.close()
        self._thread.join(20.0)


@pytest.fixture
def bob(demo: Any, page: Page) -> Iterator[Listener]:
    bob = Listener(demo.server.url, "bob")
    yield bob
    bob.close()


def say(page: Page, text: str) -> None:
    page.evaluate(f"document.getElementById('text').value = {json.dumps(text)}")
    page.evaluate("document.getElementById('send').requestSubmit()")


def texts_of(selector: str) -> str:
    return f"[...document.querySelectorAll({selector!r})].map((item) => item.textContent)"


def has_members(page: Page, *uids: str) -> None:
    page.wait(
        f"[...document.querySelectorAll('#members li')].map((item) => item.textContent).join() === '{','.join(uids)}'"
    )


def is_in_state(page: Page, state: str) -> None:
    page.wait(f"document.getElementById('state').textContent === '{state}'")


def hears(page: Page, text: str) -> None:
    page.wait(
        f"[...document.querySelectorAll('.message')].some((item) => item.textContent.endsWith({json.dumps(text)}))"
    )


def shown(page: Page, kind: str) -> list[str]:
    lines = page.evaluate(texts_of(f"#log .{kind}"))
    return [line.split(": ", 1)[1] if kind == "message" else line for line in lines]


def changes(page: Page) -> list[str]:
    return [line for line in shown(page, "news") if line.split(":")[0].isupper()]


LOGGED_IN = ["CONNECTING: LOGIN", "CONNECTED: LOGIN_SUCCESS"]


def test_members_and_messages(page: Page, bob: Listener) -> None:
    """S34, S38, S47: who is there, who comes and goes, and what is said, in both directions."""
    has_members(page, "alice", "bob")
    strange = 'röm "\\ \u2028 \x07 😀'
    bob.lobby.send(strange)
    hears(page, strange)
    bob.lobby.send(b"\x00\xff\x00")
    hears(page, "(3 bytes)")
    say(page, strange)
    hears(page, strange)
    bob.wait(strange)
    page.evaluate("client.send('lobby', 'half a \\ud83d pair')")
    bob.wait(strange, "half a \ufffd pair")
    bob.lobby.leave()
    has_members(page, "alice")
    assert changes(page) == LOGGED_IN
    assert shown(page, "trouble") == []
    page.evaluate("document.getElementById('logout').click()")
    is_in_state(page, "DISCONNECTED")


def test_a_short_cut_is_not_shown(page: Page, bob: Listener, link: ProxyLink) -> None:
    """S12, S23, S46: the same session goes on; nothing is lost, nothing comes twice."""
    has_members(page, "alice", "bob")
    bob.lobby.send("before")
    hears(page, "before")
    link.cut(0.5)
    for index in range(20):
        bob.lobby.send(f"meanwhile {index}")
        say(page, f"from the page {index}")
    hears(page, "meanwhile 19")
    bob.wait(*[f"from the page {index}" for index in range(20)])
    hears(page, "from the page 19")
    heard = shown(page, "message")
    assert [line for line in heard if "page" not in line] == ["before", *[f"meanwhile {index}" for index in range(20)]]
    assert [line for line in heard if "page" in line] == [f"from the page {index}" for index in range(20)]
    assert changes(page) == LOGGED_IN
    assert shown(page, "trouble") == []


def test_a_long_cut_is_shown(page: Page, bob: Listener, link: ProxyLink) -> None:
    """S11, S12, S20, S30: RECONNECTING after 4 s, CONNECTED when the link is back; then another login ends it."""
    has_members(page, "alice", "bob")
    link.cut(None)
    is_in_state(page, "RECONNECTING")
    bob.lobby.send("missed")
    say(page, "late")
    link.restore()
    is_in_state(page, "CONNECTED")
    hears(page, "missed")
    bob.wait("late")
    assert changes(page) == [*LOGGED_IN, "RECONNECTING: INTERRUPTED", "CONNECTED: LOGIN_SUCCESS"]
    assert shown(page, "message") == ["missed", "late"]


def test_a_silent_link_and_another_login(demo: Any, page: Page, bob: Listener, link: ProxyLink) -> None:
    """S11, S30: no end of the stream, only silence; and ABORTED, after which nothing is tried any more."""
    has_members(page, "alice", "bob")
    link.stall((), None)
    is_in_state(page, "RECONNECTING")
    link.restore()
    is_in_state(page, "CONNECTED")
    with rtm_sync.Client(demo.server.url) as another:
        another.login("alice")
        is_in_state(page, "ABORTED")
        assert changes(page)[-1] == "ABORTED: REMOTE_LOGIN"
        connections = link.connections
        another.join("lobby").send("me")
        bob.wait("me")
        assert link.connections == connections


def test_a_restarted_server(demo: Any, page: Page, bob: Listener) -> None:
    """S17, S25, S33: the session is gone, which is shown; the channel is joined again, and what is lost is told."""
    has_members(page, "alice", "bob")
    demo.server.close()
    demo.server = rtm_sync.Server(authenticate=rtm_sync.allow_any_uid, config=demo.config)
    demo.server.start()
    page.wait("document.querySelector('.trouble')?.textContent.startsWith('an unknown number of entries are lost')")
    is_in_state(page, "CONNECTED")
    assert changes(page) == [*LOGGED_IN, "RECONNECTING: INTERRUPTED", "CONNECTED: LOGIN_SUCCESS"]
    say(page, "still here")
    hears(page, "still here")


def test_a_channel_that_tells_numbers_alone(chromium: Chromium, demo: Any) -> None:
    """S38: where joins and leaves are not told the page shows how many there are, also behind a message."""
    settings = (ChannelSettings(pattern="lobby", member_events=False),)
    demo.server.close()
    demo.server = rtm_sync.Server(
        authenticate=rtm_sync.allow_any_uid, config=dataclasses.replace(demo.config, channel_settings=settings)
    )
    demo.server.start()
    page = chromium.open(f"{demo.url()}&uid=alice&channel=lobby")
    page.wait("document.getElementById('members')?.innerText === '1'")
    bob = Listener(demo.server.url, "bob")
    try:
        page.wait("document.getElementById('members').innerText === '2'")
        bob.lobby.send("hello")
        hears(page, "hello")
        assert page.evaluate("document.getElementById('members').innerText") == "2"
    finally:
        bob.close()
    page.wait("document.getElementById('members').innerText === '1'")


def test_a_page_of_another_origin(chromium: Chromium, demo: Any) -> None:
    """S51, F-08: a page that the server does not list reaches nothing."""
    page = chromium.open("about:blank")
    code = page.evaluate(
        f"new Promise((resolve) => {{ const socket = new WebSocket('{demo.server.url}', 'rtm.v1.json');"
        " socket.onclose = (event) => resolve(event.code); socket.onopen = () => resolve('open'); })"
    )
    assert code == 1006
