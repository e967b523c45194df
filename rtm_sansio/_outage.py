"""What happens between the loss of a link and its recovery: how long, how often, and what the app is told of it
(S12, S20, S21)."""

from __future__ import annotations

import random

from ._backoff import Backoff
from ._context import ClientTimer, Context
from ._verdicts import sensible_seconds
from .errors import RtmError
from .events import ReconnectProblem
from .states import ConnectionState

_SHOWN_FAULTS = 3
"""So many protocol errors or verdicts in a row are more than bad luck (F-61), though each login is accepted."""


class Outage:
    """Arms the timers GRACE and RETRY; it makes no attempt and switches no state itself."""

    __slots__ = ("_backoff", "_context", "_faults", "_hurried", "_interrupted", "_problems", "_told")

    def __init__(self, context: Context, rng: random.Random) -> None:
        config = context.config
        self._context = context
        self._backoff = Backoff(
            base_seconds=config.backoff_base_seconds,
            cap_seconds=config.backoff_cap_seconds,
            grace_cap_seconds=config.grace_backoff_cap_seconds,
            rng=rng,
        )
        self._interrupted = False
        self._problems: dict[str, str] = {}
        self._told: set[str] = set()
        self._faults = 0
        self._hurried = False

    def begin_login(self) -> None:
        """A new ``login`` knows nothing of what was before."""
        self._start_anew()
        self.over()

    def _start_anew(self) -> None:
        self._backoff.reset()
        self._faults = 0
        self._hurried = False

    def over(self) -> None:
        """All is restored, or given up."""
        self._interrupted = False
        self._problems.clear()
        self._told.clear()
        self._context.timers.clear(ClientTimer.GRACE)

    def link_lived(self, seconds: float) -> None:
        """Only a connection that lived long enough starts the counts again (S21, F-60, F-61)."""
        if seconds >= self._context.config.stable_after_seconds:
            self._start_anew()

    def may_hurry(self) -> bool:
        """Whether the next attempt may be made at once, because it will do something else than the last one: True
        once until a connection has lived. A server that accepts and refuses in turn gets no hot loop (F-52, F-60)."""
        hurried, self._hurried = self._hurried, True
        return not hurried

    def entered_reconnecting(self) -> None:
        """The app sees the outage from now on, and what was wrong in it so far."""
        self._interrupted = True
        self._context.timers.clear(ClientTimer.GRACE)
        self._tell_problems()

    def attempt_failed(
        self,
        cause: RtmError,
        state: ConnectionState,
        *,
        verdict: bool,
        retry_after: float | None = None,
        report: bool = False,
        at_once: bool = False,
    ) -> None:
        """A link is over, or could not be had: see when the next attempt is due. Verdicts are reported, and others if
        asked for. ``at_once`` is for what the next attempt will do differently, such as a newer token."""
        context = self._context
        if state is ConnectionState.CONNECTED and not self._interrupted:
            self._interrupted = True
            context.arm(ClientTimer.GRACE, context.config.interruption_grace_seconds)
        self._faults = self._faults + 1 if verdict or cause.code == "protocol_error" else 0
        if self._faults == _SHOWN_FAULTS and state is ConnectionState.CONNECTED:
            # Each time the session was restored unseen: the app would never hear of a loop.
            context.outputs.append(ReconnectProblem(code=cause.code, message=str(cause)))
        elif verdict or report or self._faults == _SHOWN_FAULTS:
            self.report(cause, state)
        context.arm(ClientTimer.RETRY, 0.0 if at_once else self._delay(state, verdict, sensible_seconds(retry_after)))

    def _delay(self, state: ConnectionState, verdict: bool, retry_after: float | None) -> float:
        if retry_after is not None:
            # A server that says "at once" to everybody, or again and again, is not to get it (F-59, F-60).
            return min(max(retry_after, self._backoff.least_delay()), self._context.config.retry_after_limit_seconds)
        if verdict and state is ConnectionState.RECONNECTING:
            return self._backoff.capped_delay()
        return self._backoff.next_delay(in_grace=state is ConnectionState.CONNECTED)

    def report(self, cause: RtmError, state: ConnectionState) -> None:
        """Something that the app should know, once per code and outage, as soon as it can see the outage (S20)."""
        if state is not ConnectionState.CONNECTING:  # there, the end of the call carries the cause
            self._problems.setdefault(cause.code, str(cause))
        if state is ConnectionState.RECONNECTING:
            self._tell_problems()

    def _tell_problems(self) -> None:
        for code, message in self._problems.items():
            if code not in self._told:
                self._told.add(code)
                self._context.outputs.append(ReconnectProblem(code=code, message=message))
