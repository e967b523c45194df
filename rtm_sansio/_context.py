"""What the parts of one client share: settings, clock, timers, outputs, and the numbers of its requests."""

from __future__ import annotations

import enum
from typing import Any

from ._timers import Timers
from .config import ClientConfig
from .errors import RtmError
from .events import RequestCompleted, RequestErred, RequestResult


class ClientTimer(enum.Enum):
    """Everything that a client waits for, by name: ``next_timer`` says which comes next, for logs and tests."""

    LOGIN = "login"
    GRACE = "grace"
    RETRY = "retry"
    ATTEMPT = "attempt"
    RESTORE = "restore"
    LIVENESS = "liveness"
    REQUEST = "request"
    PACE = "pace"
    PROGRESS = "progress"
    TOKEN_WARNING = "token warning"
    TOKEN_END = "token end"
    TOKEN_PROVIDER = "token provider"
    LOGOUT = "logout"


class Context:
    """One for each ``ClientCore``, given to each of its parts. It decides nothing."""

    __slots__ = ("config", "last_request_id", "now", "outputs", "timers")

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self.timers: Timers[ClientTimer] = Timers()
        self.outputs: list[Any] = []
        self.now = float("-inf")
        self.last_request_id = 0

    def advance(self, now: float) -> None:
        """Time going backwards is clamped."""
        if now > self.now:
            self.now = now

    def arm(self, name: ClientTimer, seconds: float) -> None:
        """Set a timer to so many seconds from now."""
        self.timers.set(name, self.now + seconds)

    def next_request_id(self) -> int:
        """The number of the next command; numbers rise in the order of the calls (S46)."""
        self.last_request_id += 1
        return self.last_request_id

    def complete(self, request_id: int, result: RequestResult) -> None:
        """The request of this number succeeded."""
        self.outputs.append(RequestCompleted(request_id=request_id, result=result))

    def err(self, request_id: int, error: RtmError) -> None:
        """The request of this number failed."""
        self.outputs.append(RequestErred(request_id=request_id, error=error))
