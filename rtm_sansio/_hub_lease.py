"""A hub's lease in an engine outside: the list of those it serves, and what it may do for how long (E7, E8).

The hub believes in its lease for as long as that is good by its own clock, counted from when the renewal was sent:
so never longer than the engine does, whoever is slow. With an embedded engine, which dies and pauses with its hub,
there is no lease, and nothing here costs anything.
"""

from __future__ import annotations

from collections.abc import Callable

from ._hub_engine import EnginePort
from ._hubparts import HubContext
from .operations import Refusal, Renewed, RenewLease

_LEASE_BYTES = 16
_NEVER = float("inf")


class _Listing:
    """A uid that the hub serves, or is about to."""

    __slots__ = ("users", "waiters")

    def __init__(self) -> None:
        self.users = 0  # logins under way, attachments, and ends under way
        self.waiters: list[Callable[[], None]] | None = []  # who waits until it is listed; None when it is


class Lease:
    """The lease of one hub.

    ``on_over()`` is called when it is over, before anything else happens; ``on_orders(last_order)`` when the engine
    says how far the orders go.
    """

    def __init__(self, context: HubContext, engine: EnginePort) -> None:
        self._context = context
        self._engine = engine
        self._listings: dict[str, _Listing] = {}
        self._to_list: list[str] = []
        self._to_strike: dict[str, None] = {}
        self._step = -1
        self._sent_at = 0.0
        self._renew_at = _NEVER
        self._in_flight = False
        self.is_held = not engine.is_external
        """Whether the hub may serve sessions."""
        self.on_over: Callable[[], None] = lambda: None
        self.on_orders: Callable[[int], None] = lambda last_order: None
        if engine.is_external:
            context.on_lease_over = self._over
            context.lease_until = float("-inf")  # the first input, which brings the time, begins one

    # ------------------------------------------------------------------------------------------ who is served

    def serve(self, uid: str, then: Callable[[], None]) -> None:
        """Have the uid listed, and only then attach its session; each call is followed by one ``release``, unless the
        lease is over first."""
        if not self._engine.is_external:
            then()
            return
        listing = self._listings.get(uid)
        if listing is None:
            listing = self._listings[uid] = _Listing()
            self._to_list.append(uid)
        listing.users += 1
        self._to_strike.pop(uid, None)
        if listing.waiters is None:
            then()
            return
        listing.waiters.append(then)
        if not self._in_flight:
            self._renew()

    def waiting(self, uid: str) -> int:
        """How many wait until this uid is listed."""
        listing = self._listings.get(uid)
        return 0 if listing is None or listing.waiters is None else len(listing.waiters)

    def release(self, uid: str) -> None:
        """A session of the uid is not served any more, and the engine knows it. The list may say so later."""
        listing = self._listings.get(uid)
        if listing is not None:
            listing.users -= 1
            if not listing.users:
                self._to_strike[uid] = None

    # ------------------------------------------------------------------------------------------------ renewal

    def _begin(self) -> None:
        self._context.lease = self._context.entropy(_LEASE_BYTES)
        self._step = -1
        self._renew()

    def _renew(self) -> None:
        """Renew the lease, with what has changed of the list since. One call under way; what changes meanwhile
        gathers."""
        assert self._context.lease is not None
        listed, self._to_list = tuple(self._to_list), []
        struck, self._to_strike = tuple(self._to_strike), {}
        for uid in struck:
            del self._listings[uid]  # whoever serves it again lists it again, with the next call
        self._step += 1
        self._in_flight = True
        self._renew_at = _NEVER
        self._sent_at = self._context.now
        renewal = RenewLease(
            node=self._context.node, lease=self._context.lease, step=self._step, listed=listed, struck=struck
        )
        self._engine.call(renewal, lambda answer: self._on_renewed(listed, answer))

    def _on_renewed(self, listed: tuple[str, ...], answer: Renewed | Refusal) -> None:
        self._in_flight = False
        config, now = self._context.config, self._context.now
        if isinstance(answer, Refusal):
            if self.is_held or self._step:
                self._over()
            else:  # not even a beginning is possible
                self._step = -1
                self._renew_at = now + config.lease_renewal_seconds
            return
        good_until = self._sent_at + config.lease_seconds
        if good_until <= now:  # it was so long under way that nothing may be built on it
            self._renew()
            return
        self._context.lease_until = good_until
        self.is_held = True
        for uid in listed:
            listing = self._listings[uid]
            waiters, listing.waiters = listing.waiters, None
            for waiter in waiters or ():
                waiter()
        self.on_orders(answer.last_order)
        if self._to_list:
            self._renew()
        else:
            self._renew_at = self._sent_at + config.lease_renewal_seconds

    def _over(self) -> None:
        """The lease is over: everything that was is forgotten, and another one begins."""
        self._context.lease_until = _NEVER
        self._renew_at = _NEVER
        self.is_held = self._in_flight = False
        self._listings = {}
        self._to_list = []
        self._to_strike = {}
        self._engine.forget()
        self.on_over()
        self._begin()

    def close(self) -> None:
        """The hub stops; the lease runs out by itself, with an empty list or with sessions that have been detached."""
        self._context.lease_until = self._renew_at = _NEVER
        self.is_held = False

    # --------------------------------------------------------------------------------------------------- time

    def next_deadline(self) -> float:
        """When ``handle_timeout`` has something to do, or the lease is over."""
        return min(self._renew_at, self._context.lease_until)

    def handle_timeout(self) -> None:
        """Renew in time."""
        if self._renew_at <= self._context.now:
            self._renew()
