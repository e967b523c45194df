"""A client's tokens: which one is in force, when it ends, and what was said about it (S27, S28)."""

from __future__ import annotations

MAX_LIFETIME_SECONDS = 10 * 365 * 86_400.0
"""A longer lifetime is none: no timer needs to wait for it."""
_MAX_RENEWALS = 256


class ClientToken:
    """One token. Each newer one of the same login has a higher ``serial``."""

    __slots__ = ("_accepted_at", "_expired_told", "_refused", "_warned", "expires_at", "proved", "serial", "value")

    def __init__(self, value: str | None, *, serial: int) -> None:
        self.serial = serial
        self.value = value
        self.expires_at: float | None = None  # in the caller's monotonic seconds
        self.proved = False
        """Whether the server has ever accepted it."""
        self._accepted_at = 0.0
        self._refused = False
        self._warned = False
        self._expired_told = False

    def __repr__(self) -> str:
        return f"ClientToken(serial={self.serial})"

    def accepted(self, expires_in: float | None, now: float) -> None:
        """The server accepted the token and stated its lifetime in seconds; its clock decides (S28)."""
        self._refused = False
        self.proved = True
        self._accepted_at = now
        if expires_in is None or not expires_in <= MAX_LIFETIME_SECONDS:  # the latter is true for NaN too
            self.expires_at = None
        else:
            self.expires_at = now + max(expires_in, -MAX_LIFETIME_SECONDS)

    def refuse(self) -> None:
        """The server refused this token as expired, or it is one that only its provider can replace."""
        self._refused = True

    def is_over(self, now: float) -> bool:
        """Whether it was refused or its stated lifetime has run out."""
        return self._refused or (self.expires_at is not None and self.expires_at <= now)

    def half_life(self, shortest_seconds: float) -> float:
        """When half of its stated lifetime is over, but not before ``shortest_seconds`` of it are."""
        assert self.expires_at is not None
        return self._accepted_at + max((self.expires_at - self._accepted_at) / 2, shortest_seconds)

    def tell_warning_once(self) -> bool:
        """Whether this token's coming end is to be told now: True once."""
        told, self._warned = self._warned, True
        return not told

    def tell_expired_once(self, now: float) -> bool:
        """Whether this token's end is to be told now: True once, and only when it is over."""
        if self._expired_told or not self.is_over(now):
            return False
        self._expired_told = True
        return True


class Tokens:
    """The token of one login through its renewals. A newer one is in force from the call on, and the one before it
    again if the server refuses it (S28)."""

    __slots__ = ("_base", "_last_serial", "_renewals", "from_provider")

    def __init__(self, value: str | None, *, from_provider: bool) -> None:
        self._last_serial = 1
        self._base = ClientToken(value, serial=1)  # the last one accepted, or the first
        self._renewals: dict[int, ClientToken] = {}  # those whose renewal is unanswered, by the request's number
        self.from_provider = from_provider

    @property
    def current(self) -> ClientToken:
        """The newest that is not refused: what a login quotes."""
        newest = next(reversed(self._renewals.values()), self._base)
        return newest if newest.serial > self._base.serial else self._base

    @property
    def open_renewals(self) -> int:
        """How many renewals are unanswered."""
        return len(self._renewals)

    def replace(self, value: str, number: int | None = None) -> None:
        """A newer token; ``number`` is the request that brings it to the server, None if a login will."""
        self._last_serial += 1
        token = ClientToken(value, serial=self._last_serial)
        if number is None:
            self._base = token
            return
        self._renewals[number] = token
        if len(self._renewals) > _MAX_RENEWALS:
            del self._renewals[next(iter(self._renewals))]

    def renewed(self, number: int, expires_in: float | None, now: float) -> bool:
        """The server accepted a renewal. Whether that is about the token in force."""
        token = self._renewals.pop(number, None)
        return token is not None and self._accept(token, expires_in, now)

    def refused(self, number: int) -> None:
        """The server refused a renewal."""
        self._renewals.pop(number, None)

    def login_accepted(self, serial: int, expires_in: float | None, now: float) -> bool:
        """The server accepted a login with this token. Whether that is about the token in force."""
        for token in (self._base, *self._renewals.values()):
            if token.serial == serial:
                return self._accept(token, expires_in, now)
        return False

    def quoted(self, serial: int) -> list[int]:
        """A login that quoted this token was accepted: the renewals that bring it or an older one have had their
        answer, and to bring an older one now would put it in force again. The numbers of their requests."""
        numbers = [number for number, token in self._renewals.items() if token.serial <= serial]
        for number in numbers:
            del self._renewals[number]
        return numbers

    def _accept(self, token: ClientToken, expires_in: float | None, now: float) -> bool:
        token.accepted(expires_in, now)
        if token.serial > self._base.serial:
            self._base = token
        return token is self.current

    def login_refused(self, serial: int) -> list[int]:
        """The server refused a login for this token. If it was a renewal it is taken back, with those before it; the
        numbers of the requests that this ends."""
        numbers = [number for number, token in self._renewals.items() if self._base.serial < token.serial <= serial]
        for number in numbers:
            del self._renewals[number]
        return numbers

    def must_ask(self, now: float) -> bool:
        """Whether the provider is to be asked before the next attempt."""
        current = self.current
        return self.from_provider and (current.value is None or current.is_over(now))

    def warning_at(self, *, warning_seconds: float, shortest_seconds: float) -> float | None:
        """When the end of the token is near; None if it has no end.

        A provider is not asked before half of the lifetime, or tokens shorter than the warning time would be asked for
        in a hot loop (F-52).
        """
        current = self.current
        if current.expires_at is None:
            return None
        early = current.expires_at - warning_seconds
        return max(early, current.half_life(shortest_seconds)) if self.from_provider else early
