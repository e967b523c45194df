"""The token provider of one client: asked in threads of its own, so that it may block (S27)."""

from __future__ import annotations

import contextvars
import logging
import math
import threading
import traceback
from collections.abc import Callable

from rtm_sansio.auth import FailureNotes, ask_provider, provider_failure
from rtm_sansio.client import ClientCore
from rtm_sansio.effects import AskToken

from ._driver import ConnectingDriver

MAX_PROVIDER_THREADS = 4
"""Calls of a token provider that have not returned; with more of them it counts as failed (F-54)."""

_log = logging.getLogger("rtm")


class TokenProvider:
    """What ``login`` was given as a token, if that was a function."""

    def __init__(self, core: ClientCore) -> None:
        self._core = core
        self._driver: ConnectingDriver
        self._provider: Callable[[], str] | None = None
        self._threads = 0
        self._faults = FailureNotes(interval_seconds=math.inf)

    def attach(self, driver: ConnectingDriver) -> None:
        """The driver is there: before anybody is asked."""
        self._driver = driver

    def set(self, provider: Callable[[], str] | None) -> None:
        """A login has begun with this provider, or with none."""
        self._provider = provider
        self._faults = FailureNotes(interval_seconds=math.inf)  # each once in a login

    def ask(self, effect: AskToken) -> None:
        """The core wants a token."""
        provider = self._provider
        assert provider is not None
        fault: Exception
        if self._threads < MAX_PROVIDER_THREADS:
            self._threads += 1
            context = contextvars.copy_context()
            # Not the loop's executor: a provider that hangs must hold up neither the loop's end nor the
            # process's.
            work = threading.Thread(
                target=context.run,
                args=(self._run, provider, effect.ask_id),
                name="rtm-token-provider",
                daemon=True,
            )
            try:
                work.start()
                return
            except RuntimeError as error:  # no more threads
                self._threads -= 1
                fault = error
        else:
            fault = TimeoutError(f"{MAX_PROVIDER_THREADS} earlier calls of the token provider have not returned")
        self._failed(effect.ask_id, fault)

    def _run(self, provider: Callable[[], str], ask_id: int) -> None:
        token = ""
        fault: BaseException | None = None
        try:
            token = ask_provider(provider)
        except BaseException as error:  # told to the core, whatever it is: nobody else would hear of it
            fault = error
        try:
            self._driver.loop.call_soon_threadsafe(self._ended, ask_id, token, fault)
        except RuntimeError:  # the loop is closed: nobody asks any more
            pass

    def _ended(self, ask_id: int, token: str, fault: BaseException | None) -> None:
        self._threads -= 1
        if fault is None:
            self._core.token_supplied(ask_id, token, now=self._driver.time())
        else:
            self._failed(ask_id, fault)
        self._driver.pump()

    def _failed(self, ask_id: int, fault: BaseException) -> None:
        failure, now = provider_failure(fault), self._driver.time()
        self._driver.last_failure = failure
        if self._faults.take(fault, now) is not None:
            # Without the text of the exception, which might hold a token.
            _log.warning(
                "! %s; it is asked again:\n%s", failure, "".join(traceback.format_tb(fault.__traceback__)).rstrip()
            )
        self._core.token_failed(ask_id, fault, now=now)
