"""The node homes of a ``MemoryEngine``: orders to a node are a log that it reads with a cursor (E9); its lease, and the
uids whose sessions it serves under it (E7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice

from ._engine_shared import EngineContext
from .codes import Code
from .operations import (
    LostToDo,
    Order,
    Orders,
    OrdersWaiting,
    PostOrder,
    ReadOrders,
    Refusal,
    Renewed,
    RenewLease,
    StrikeSessions,
    ToDosWaiting,
)

_MAX_ORDERS = 100_000
"""Of a node that does not read them. What is lost then is a courtesy: the fences hold without it (E8)."""
_TAKEN_AT_ONCE = 1000
"""Sessions of dead nodes that one call hands out: the others are for whoever asks next."""

_LOST = Refusal(Code.UNAVAILABLE, "the lease ran out, or is not known; begin another one")
_OLDER = Refusal(Code.STALE_REQUEST, "a later step of the lease was there before")


class _Lease:
    """A lease that is good."""

    __slots__ = ("lease", "renewed_at", "step", "uids")

    def __init__(self, lease: bytes) -> None:
        self.lease = lease
        self.step = 0
        self.renewed_at = 0.0
        self.uids: dict[str, None] = {}


class _LostLease:
    """A lease that ran out, until all its sessions are detached."""

    __slots__ = ("due", "interrupted_at", "node")

    def __init__(self, node: str, interrupted_at: float, uids: dict[str, None], now: float) -> None:
        self.node = node
        self.interrupted_at = interrupted_at
        self.due: dict[str, float] = dict.fromkeys(uids, now)  # when each is to be handed out; the first to go first


class NodeHomes:
    """All nodes of one engine. ``on_lost`` is told of each node whose lease ran out: its subscriptions end."""

    def __init__(self, context: EngineContext, *, on_lost: Callable[[str], None]) -> None:
        self._context = context
        self._config = context.config
        self._on_lost = on_lost
        self._orders: dict[str, deque[tuple[int, Order]]] = {}
        self._leases: dict[str, _Lease] = {}
        self._lost: dict[bytes, _LostLease] = {}
        self._announce_at = float("inf")  # when the lost sessions are announced again

    # ------------------------------------------------------------------------------------------------ orders

    def post_order(self, operation: PostOrder) -> None:
        """Append an order to a node's log. Where leases are held, a node without one serves nobody."""
        if self._leases and operation.node not in self._leases:
            return
        orders = self._orders.setdefault(operation.node, deque(maxlen=_MAX_ORDERS))
        orders.append((self._context.next_number(), operation.order))
        self._context.announce((operation.node,), OrdersWaiting())

    def read_orders(self, operation: ReadOrders) -> Orders:
        """What stands behind the cursor; what it has passed is forgotten."""
        orders = self._orders.get(operation.node)
        while orders and orders[0][0] <= operation.cursor:
            orders.popleft()
        if not orders:
            return Orders(cursor=operation.cursor, orders=())
        return Orders(cursor=orders[-1][0], orders=tuple(order for _, order in orders))

    # ------------------------------------------------------------------------------------------------ leases

    def renew(self, operation: RenewLease) -> Renewed | Refusal:
        """The node lives; who it serves from now on, and whom no longer."""
        self._expire()
        lease = self._leases.get(operation.node)
        if lease is None or lease.lease != operation.lease:
            if operation.step or operation.lease in self._lost:
                return _LOST
            if lease is not None:  # the process that held it is no more: a node has one name and one process
                self._lose(operation.node, lease)
            lease = self._leases[operation.node] = _Lease(operation.lease)
            self._context.leases[operation.node] = operation.lease
            self._context.nodes[operation.node] = None
        elif operation.step < lease.step:
            return _OLDER
        lease.step = operation.step
        lease.renewed_at = self._context.now
        for uid in operation.struck:
            lease.uids.pop(uid, None)
        for uid in operation.listed:
            lease.uids[uid] = None
        orders = self._orders.get(operation.node)
        return Renewed(last_order=orders[-1][0] if orders else 0)

    def _expire(self) -> None:
        for node, lease in list(self._leases.items()):
            if lease.renewed_at + self._config.lease_seconds <= self._context.now:
                self._lose(node, lease)

    def _lose(self, node: str, lease: _Lease) -> None:
        """Whoever it served was interrupted one renewal after its last one: never early, at most that late (E7)."""
        now = self._context.now
        del self._leases[node], self._context.leases[node]
        self._context.nodes.pop(node, None)
        self._orders.pop(node, None)
        if lease.uids:
            interrupted_at = min(lease.renewed_at + self._config.lease_renewal_seconds, now)
            self._lost[lease.lease] = _LostLease(node, interrupted_at, lease.uids, now)
            self._announce_at = now
        self._on_lost(node)

    @property
    def has_lost(self) -> bool:
        """Whether sessions of a lease that ran out are still to be detached."""
        return bool(self._lost)

    def next_deadline(self) -> float:
        """When ``handle_timeout`` has something to do; for ever if nothing is leased and nothing lost."""
        oldest = min((lease.renewed_at for lease in self._leases.values()), default=float("inf"))
        return min(oldest + self._config.lease_seconds, self._announce_at)

    def handle_timeout(self) -> None:
        """Find leases that ran out; announce what follows until it is done."""
        if self._leases:
            self._expire()
        if self._announce_at <= self._context.now:
            self._context.announce(self._context.nodes, ToDosWaiting())
            self._announce_at = self._context.now + self._config.todo_patience_seconds

    def take_todos(self) -> tuple[LostToDo, ...]:
        """Hand out sessions of leases that ran out, and give the taker its time before anybody else is asked."""
        now = self._context.now
        taken: list[LostToDo] = []
        more = False
        for lease, lost in self._lost.items():
            silent_seconds = now - lost.interrupted_at
            for uid in list(islice(lost.due, _TAKEN_AT_ONCE - len(taken))):
                if lost.due[uid] > now:
                    break
                del lost.due[uid]  # and to the end of the row
                lost.due[uid] = now + self._config.todo_patience_seconds
                taken.append(LostToDo(uid=uid, node=lost.node, lease=lease, silent_seconds=silent_seconds))
            more = more or next(iter(lost.due.values())) <= now
        if more:
            self._context.announce(self._context.nodes, ToDosWaiting())
        return tuple(taken)

    def strike(self, operation: StrikeSessions) -> None:
        """These are detached; with the last one nothing is known of the lease any more."""
        lost = self._lost.get(operation.lease)
        if lost is None:
            return
        for uid in operation.uids:
            lost.due.pop(uid, None)
        if not lost.due:
            del self._lost[operation.lease]
            if not self._lost:
                self._announce_at = float("inf")
