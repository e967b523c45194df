"""The token provider of one client: asked in threads of its own, so that it may block (S27)."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Callable

from rtm_sansio.auth import FailureNotes, ask_provider, provider_failure
from rtm_sansio.client import ClientCore

from ._driver import Driver
from ._threads import start_daemon

MAX_ASKING = 4
"""Calls of the token provider at a time, should it hang (F-54)."""

log = logging.getLogger("rtm")


class TokenProvider:
    """What ``login`` was given as a token, if that was a function. Belongs to the I/O thread."""

    def __init__(self, core: ClientCore, driver: Driver) -> None:
        self._core = core
        self._driver = driver
        self._provider: Callable[[], str] | None = None
        self._faults = FailureNotes(interval_seconds=math.inf)
        self._asking = 0

    def set(self, provider: Callable[[], str] | None) -> None:
        """A login has begun with this provider, or with none."""
        self._provider = provider
        self._faults = FailureNotes(interval_seconds=math.inf)  # each once in a login

    def ask(self, ask_id: int) -> None:
        """The core wants a token."""
        provider = self._provider
        assert provider is not None
        if self._asking >= MAX_ASKING:
            fault = TimeoutError(f"{self._asking} earlier calls of the token provider have not returned")
            self._failed(ask_id, fault, time.monotonic())
            return

        def ask() -> None:
            try:
                token = ask_provider(provider)
            except BaseException as error:  # whatever it was, the core is to know that no token comes
                cause = error
                self._driver.post(lambda now: self._asked(lambda: self._failed(ask_id, cause, now)))
            else:
                self._driver.post(lambda now: self._asked(lambda: self._core.token_supplied(ask_id, token, now=now)))

        try:
            start_daemon(ask, f"rtm-token-{ask_id}")
        except RuntimeError as error:  # the interpreter exits, or is out of threads
            self._failed(ask_id, error, time.monotonic())
        else:
            self._asking += 1

    def _failed(self, ask_id: int, fault: BaseException, now: float) -> None:
        self._driver.last_failure = failure = provider_failure(fault)
        if self._faults.take(fault, now) is not None:
            # Without the text of the exception, which might hold a token.
            log.warning(
                "! %s; it is asked again:\n%s", failure, "".join(traceback.format_tb(fault.__traceback__)).rstrip()
            )
        self._core.token_failed(ask_id, fault, now=now)

    def _asked(self, tell: Callable[[], None]) -> None:
        self._asking -= 1
        tell()
