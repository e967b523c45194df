"""A ``ClientCore`` that checks, from the outside, the promises of every core at each call.

Tests drive it like the real one; whatever it sees go wrong is an AssertionError at the call where it went wrong.
"""

from __future__ import annotations

from typing import Any

from rtm_sansio.client import ClientCore
from rtm_sansio.effects import AskToken, CloseTransport, OpenTransport, Transmit
from rtm_sansio.errors import TransportFailure
from rtm_sansio.events import ConnectionStateChanged, RequestCompleted, RequestErred
from rtm_sansio.states import TRANSITIONS, ConnectionState

SWITCHES = {(previous, *result) for (previous, _), result in TRANSITIONS.items()}
AWAKE = {ConnectionState.CONNECTING, ConnectionState.CONNECTED, ConnectionState.RECONNECTING}
LOGOUT_SECONDS = 2.0


class CheckedClientCore(ClientCore):
    """The promises 3 to 6, S2 and S9, checked at each call."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.seen_clock = float("-inf")
        self.seen_shadow = ConnectionState.DISCONNECTED
        self.seen_highest_id = 0
        self.seen_transports: dict[int, str] = {}
        self.seen_issued: set[int] = set()
        self.seen_cancelled: set[int] = set()
        self.seen_ended: dict[int, RequestCompleted | RequestErred] = {}
        self.seen_asked: list[int] = []
        self.seen_left_at: float | None = None

    # -- commands

    def watch_issue(self, number: int, now: float) -> int:
        assert number not in self.seen_issued, "an id was used again"
        self.seen_issued.add(number)
        return number

    def watch_refused(self, before: tuple[Any, ...]) -> None:
        assert self.watch_visible() == before, "a command raised and changed something (promise 2)"

    def watch_visible(self) -> tuple[Any, ...]:
        return (self.state, self.uid, self.next_deadline(), self.next_timer())

    def watch_command(self, call: Any, now: float, *arguments: Any, **options: Any) -> Any:
        before = self.watch_visible()
        try:
            result = call(*arguments, now=now, **options)
        except Exception:
            self.watch_refused(before)
            raise
        self.seen_clock = max(self.seen_clock, now)
        return result

    def login(self, *arguments: Any, now: float, **options: Any) -> int:
        return self.watch_issue(self.watch_command(super().login, now, *arguments, **options), now)

    def logout(self, *, now: float) -> int:
        number = self.watch_issue(self.watch_command(super().logout, now), now)
        self.seen_left_at = self.seen_clock
        return number

    def renew_token(self, *arguments: Any, now: float) -> int:
        return self.watch_issue(self.watch_command(super().renew_token, now, *arguments), now)

    def join(self, *arguments: Any, now: float, **options: Any) -> int:
        return self.watch_issue(self.watch_command(super().join, now, *arguments, **options), now)

    def leave(self, *arguments: Any, now: float, **options: Any) -> int:
        return self.watch_issue(self.watch_command(super().leave, now, *arguments, **options), now)

    def publish(self, *arguments: Any, now: float, **options: Any) -> int:
        return self.watch_issue(self.watch_command(super().publish, now, *arguments, **options), now)

    def retry_now(self, *, now: float) -> None:
        self.watch_command(super().retry_now, now)

    def cancel(self, request_id: int, *, now: float) -> None:
        self.watch_command(super().cancel, now, request_id)
        if request_id in self.seen_issued - set(self.seen_ended):
            self.seen_cancelled.add(request_id)
        if self.state is ConnectionState.DISCONNECTED and self.seen_left_at is None:
            self.seen_left_at = self.seen_clock

    # -- reports

    def transport_opened(self, transport_id: int, *, now: float) -> None:
        if self.seen_transports.get(transport_id) == "opening":
            self.seen_transports[transport_id] = "up"
        self.watch_command(super().transport_opened, now, transport_id)

    def transport_failed(self, transport_id: int, cause: TransportFailure, *, now: float) -> None:
        if self.seen_transports.get(transport_id) == "opening":
            del self.seen_transports[transport_id]
        self.watch_command(super().transport_failed, now, transport_id, cause)

    def transport_lost(self, transport_id: int, cause: TransportFailure | None, *, now: float) -> None:
        self.seen_transports.pop(transport_id, None)
        self.watch_command(super().transport_lost, now, transport_id, cause)

    def handle_timeout(self, *, now: float) -> None:
        self.watch_command(super().handle_timeout, now)
        deadline = self.next_deadline()
        assert deadline is None or deadline > self.seen_clock, f"{self.next_timer()} stays due (promise 5)"

    def take_outputs(self) -> list[Any]:
        outputs = super().take_outputs()
        assert super().take_outputs() == [], "a second take_outputs() gave something (promise 3)"
        for output in outputs:
            self.watch_check_output(output)
        self.watch_check_rest()
        return outputs

    # -- what is checked

    def watch_check_output(self, output: Any) -> None:
        if isinstance(output, OpenTransport):
            assert output.transport_id > self.seen_highest_id, "a transport id was used again (promise 4)"
            assert not self.seen_transports, "a second transport (promise 4)"
            self.seen_highest_id = output.transport_id
            self.seen_transports[output.transport_id] = "opening"
        elif isinstance(output, Transmit):
            assert self.seen_transports.get(output.transport_id) == "up", "data for a transport that is not up"
            assert output.data, "an empty Transmit"
        elif isinstance(output, CloseTransport):
            assert output.transport_id in self.seen_transports, "a transport closed that is gone (promise 4)"
            del self.seen_transports[output.transport_id]
        elif isinstance(output, ConnectionStateChanged):
            assert output.previous is self.seen_shadow
            assert (output.previous, output.state, output.reason) in SWITCHES, f"{output} is not in the table (S2)"
            self.seen_shadow = output.state
            if output.state is not ConnectionState.DISCONNECTED:
                self.seen_left_at = None
        elif isinstance(output, (RequestCompleted, RequestErred)):
            assert output.request_id not in self.seen_ended, "a request ended twice (S9)"
            assert output.request_id not in self.seen_cancelled, "a cancelled request ended"
            self.seen_ended[output.request_id] = output
        elif isinstance(output, AskToken):
            assert output.ask_id not in self.seen_asked
            self.seen_asked.append(output.ask_id)

    def watch_check_rest(self) -> None:
        assert self.seen_shadow is self.state, "the state switched without an event, or the other way round (S2)"
        deadline = self.next_deadline()
        if self.state in AWAKE:
            if "up" not in self.seen_transports.values() or self.state is not ConnectionState.CONNECTED:
                assert deadline is not None or "opening" in self.seen_transports.values(), "a silent sleep (promise 6)"
            assert deadline is not None, "every transport has a deadline (promise 6)"
        elif self.seen_transports:
            assert self.seen_left_at is not None
            assert len(self.seen_transports) == 1
            assert deadline is not None
            assert deadline <= self.seen_left_at + LOGOUT_SECONDS + 1e-9, "a closing transport for too long (promise 6)"
        else:
            assert deadline is None, f"{self.next_timer()} left in {self.state} (promise 6)"
        if self.state not in AWAKE and not self.seen_transports:
            open_requests = self.seen_issued - self.seen_cancelled - set(self.seen_ended)
            assert not open_requests, f"requests {open_requests} hang (S9)"
