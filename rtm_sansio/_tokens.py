"""The client's token: which one is in force, when it ends, and what was said about it (S27, S28)."""

from __future__ import annotations


class ClientToken:
    """The token of one login, through its renewals. Each new token has a higher ``serial``."""

    __slots__ = ("_expired_told", "_refused", "_warned", "expires_at", "from_provider", "serial", "value")

    def __init__(self, value: str | None, *, from_provider: bool, serial: int = 1) -> None:
        self.serial = serial
        self.value = value
        self.from_provider = from_provider
        self.expires_at: float | None = None  # in the caller's monotonic seconds
        self._refused = False
        self._warned = False
        self._expired_told = False

    def __repr__(self) -> str:
        return f"ClientToken(serial={self.serial})"

    def renewed(self, value: str) -> ClientToken:
        """The token that takes this one's place."""
        return ClientToken(value, from_provider=self.from_provider, serial=self.serial + 1)

    def accepted(self, expires_in: float | None, now: float) -> None:
        """The server accepted the token and stated its lifetime in seconds; its clock decides (S28)."""
        self._refused = False
        self.expires_at = None if expires_in is None else now + expires_in

    def refused_as_expired(self) -> None:
        """The server refused this token as expired."""
        self._refused = True

    def is_over(self, now: float) -> bool:
        """Whether it was refused as expired or its stated lifetime has run out."""
        return self._refused or (self.expires_at is not None and self.expires_at <= now)

    def must_ask(self, now: float) -> bool:
        """Whether the provider is to be asked before the next attempt."""
        return self.from_provider and (self.value is None or self.is_over(now))

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
