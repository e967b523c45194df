"""The token part of a client: asks its provider, watches the token's end, tells the app (S27, S28)."""

from __future__ import annotations

from ._context import ClientTimer, Context
from ._tokens import ClientToken, Tokens
from .checks import check_token
from .effects import AskToken
from .errors import InvalidArgument
from .events import TokenExpired, TokenWillExpire


class TokenPart:
    """Knows neither link nor state: it is told what the server said, and asked before each attempt."""

    __slots__ = ("_asking", "_context", "_last_ask_id", "_needed", "tokens")

    def __init__(self, context: Context) -> None:
        self._context = context
        self.tokens = Tokens("", from_provider=False)
        self._last_ask_id = 0
        self._asking: int | None = None
        self._needed = False  # whether an attempt waits for the provider

    @property
    def current(self) -> ClientToken:
        """The token in force."""
        return self.tokens.current

    def begin(self, token: str | None, *, from_provider: bool) -> None:
        """A new login, with a token, a provider, or both."""
        self.tokens = Tokens(token if token is not None or from_provider else "", from_provider=from_provider)

    # --- the provider

    def ready(self) -> bool:
        """Whether there is a token for an attempt; if not, the provider is being asked for one."""
        if not self.tokens.must_ask(self._context.now):
            return True
        self._ask()
        self._needed = True
        return False

    def _ask(self) -> None:
        if self._asking is not None:
            return
        self._last_ask_id += 1
        self._asking = self._last_ask_id
        self._context.arm(ClientTimer.TOKEN_PROVIDER, self._context.config.token_provider_timeout_seconds)
        self._context.outputs.append(AskToken(ask_id=self._asking))

    def is_asking(self, ask_id: int) -> bool:
        """Whether the provider is being asked with this id."""
        return ask_id == self._asking

    def stop_asking(self) -> bool:
        """The provider answered, or its answer is no longer wanted. Whether an attempt waited for it."""
        needed = self._needed
        self._asking = None
        self._needed = False
        self._context.timers.clear(ClientTimer.TOKEN_PROVIDER)
        return needed

    def ask_again_later(self) -> None:
        """The provider, or the token that it gave, was of no use while the old one still serves."""
        if self.tokens.from_provider:
            self._context.arm(ClientTimer.TOKEN_WARNING, self._context.config.token_provider_timeout_seconds)

    # --- what the server said

    def login_accepted(self, serial: int, expires_in: float | None) -> list[int]:
        """A welcome, and the lifetime that it states. The numbers of the renewals that it answers."""
        if self.tokens.login_accepted(serial, expires_in, self._context.now):
            self._arm()
        return self.tokens.quoted(serial)

    def renewed(self, number: int, expires_in: float | None) -> None:
        """A renewal was accepted."""
        if self.tokens.renewed(number, expires_in, self._context.now):
            self._arm()

    def renewal_refused(self, number: int) -> None:
        """A renewal was refused: the token before it is in force again."""
        self.tokens.refused(number)
        self._arm()
        self.ask_again_later()

    def replace(self, token: str, number: int | None = None) -> None:
        """A newer token; nothing is known of its end before the server has said so."""
        self.tokens.replace(token, number)
        self._arm()

    # --- its end

    def _arm(self) -> None:
        context = self._context
        context.timers.clear(ClientTimer.TOKEN_WARNING, ClientTimer.TOKEN_END)
        warning_at = self.tokens.warning_at(
            warning_seconds=context.config.token_warning_seconds, shortest_seconds=context.config.backoff_base_seconds
        )
        if warning_at is not None and self.current.expires_at is not None:
            context.timers.set(ClientTimer.TOKEN_WARNING, warning_at)
            context.timers.set(ClientTimer.TOKEN_END, self.current.expires_at)

    def on_warning(self) -> None:
        """The token will end soon: a provider is asked for the next, the app is told otherwise (S28)."""
        current = self.current
        if self.tokens.from_provider:
            self._ask()
        elif current.expires_at is not None and current.tell_warning_once():
            self._context.outputs.append(TokenWillExpire(expires_in=max(0.0, current.expires_at - self._context.now)))

    def tell_expired(self, token: ClientToken | None = None) -> None:
        """In RECONNECTING: tell the app, once for each token, if it is over; a provider is asked instead (S27)."""
        token = token or self.current
        if not self.tokens.from_provider and token.tell_expired_once(self._context.now):
            self._context.outputs.append(TokenExpired())


def fault_of(token: str) -> InvalidArgument | None:
    """Why what a provider gave is no token, or None."""
    try:
        check_token(token)
        if not token:
            raise InvalidArgument("the token provider returned an empty token", code="invalid_token")
    except InvalidArgument as fault:
        return fault
    return None
