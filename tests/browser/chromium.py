"""A headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

START_SECONDS = 30.0
WAIT_SECONDS = 20.0
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
)

# Resolves as soon as the expression is true: whatever a page shows, it shows by changing its document.
_WAIT = """
new Promise((resolve, reject) => {
  const check = () => { if (%(expression)s) { observer.disconnect(); resolve(true); } };
  const observer = new MutationObserver(check);
  observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
  setTimeout(() => reject(new Error("in vain; the page says: " + document.body.innerText)), %(milliseconds)d);
  check();
})
"""


def find() -> str | None:
    """The command, if there is one."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class CommandFailed(Exception):
    """The browser refused a command."""


class Chromium:
    """One browser with its own profile."""

    def __init__(self, command: str, profile: Path) -> None:
        self._process = subprocess.Popen(
            [command, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._drain: threading.Thread | None = None
        # It may hang before it says anything; then it is ended, and so is the reading.
        watchdog = threading.Timer(START_SECONDS, self._process.kill)
        watchdog.start()
        try:
            self._connection = contextlib.ExitStack()
            self._socket = self._connection.enter_context(
                connect(self._read_address(), max_size=None, compression=None)
            )
        except BaseException:
            self._end()
            raise
        finally:
            watchdog.cancel()
        self._numbers = itertools.count(1)
        # It writes what goes wrong in it, for as long as it runs.
        self._drain = threading.Thread(target=self._read_errors, daemon=True)
        self._drain.start()

    def _read_address(self) -> str:
        assert self._process.stderr is not None
        said = ""
        for line in self._process.stderr:
            if line.startswith("DevTools listening on "):
                return line.split()[-1]
            said += line
        raise AssertionError(f"Chromium did not start: {said}")

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for _ in self._process.stderr:
            pass

    def open(self, url: str) -> Page:
        """A new page, when it has loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        self.call("Page.navigate", session, url=url)
        # Until then an answer may come from the page before, or none, because it went.
        deadline = time.monotonic() + WAIT_SECONDS
        is_there = f"document.readyState === 'complete' && location.href === {json.dumps(url)}"
        while time.monotonic() < deadline:
            with contextlib.suppress(CommandFailed):
                if self.call("Runtime.evaluate", session, expression=is_there)["result"].get("value"):
                    return page
        raise AssertionError(f"{url} did not load")

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """One command, and its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=2 * WAIT_SECONDS))
            if answer.get("id") == number:
                if "error" in answer:
                    raise CommandFailed(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._drain is not None:
            self._drain.join(WAIT_SECONDS)
        assert self._process.stderr is not None
        self._process.stderr.close()


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = self._browser.call(
            "Runtime.evaluate", self._session, expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]["exception"].get("description")
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until it is true."""
        self.evaluate(_WAIT % {"expression": expression, "milliseconds": WAIT_SECONDS * 1000})
